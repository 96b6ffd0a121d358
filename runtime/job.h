/* job.h - what the recorder, the worker and the installer of regions share. */
#ifndef RUNTIME_JOB_H
#define RUNTIME_JOB_H

#include "runtime/internal.h"
#include "runtime/thread.h"
#include "runtime/recipe.h"
#include "runtime/region_choose.h"

enum { REGION_BLOCKS = CHOICE_BLOCKS, REGION_INSNS = 400 };
struct job_block { uint64_t pc, phys, phys2; unsigned bytes; uint8_t *copy; struct ir_block ir; uint8_t *seen; void *unmoved; /* that its recipe's bytes lie in */ };
/* A recipe with addresses: where its blocks are now.  What is compiled is the recipe alone. */
struct llvm_job {
    struct llvm_job *next;
    struct machine *machine;
    uint64_t priority;
    uint64_t hot_ns, first_ns;      /* by the host's clock: when its recording began, when its first block was translated; 0: not known */
    uint32_t mode; bool global, loops /* its first block ran again and again */; unsigned foreign_writes;
    struct recipe recipe;           /* its blocks' bytes and `seen` are those of `of`, or lie in `unmoved` */
    struct job_block *of;
    struct llvm_options options;
    struct llvm_compiled compiled; bool ok; char error[160];
    struct store_key key;
    const struct object_view *view; /* the object, where it came from the cache; NULL: `compiled` has it */
};

/* A region that is installed (region.c), and what it and template code know of each other (region_link.c). */
struct region_link {              /* beside data.links[n] */
    struct llvm_unit *from;
    struct tcg_link *link;
    uint64_t pc;                  /* that it leads to */
    struct tb *to;                /* what stands there, or is the head of the region there; NULL: not linked */
    struct region_link *next, **prev; /* of those that lead to the same */
    uint64_t pages[2]; unsigned page_count; /* linear, of `to`: counted in regions.pages while it is linked */
};
struct llvm_unit {
    struct llvm_unit *next, **prev;
    struct tb *head;              /* NULL: gone */
    struct tb **watches; unsigned watch_count;
    struct unit_page { uint64_t linear, phys; } *pages; unsigned page_count;
    uint64_t (*members)[2]; unsigned member_count;  /* physical address and PC of its blocks */
    uint32_t mode; bool global, loops, cached;
    unsigned insns;
    uint64_t cs_base;             /* that `pages` are right for */
    struct area_piece *area;
    uint64_t valid;               /* the context's map_epoch at which its pages were found mapped as they were */
    unsigned strangers;           /* entries with other mappings, one after the other */
    uint64_t excused;             /* side exits that were the table's fault: the first access to a page */
    uint64_t looked_at, entries_then;           /* side exits when they were last held against what the region is good for */
    struct llvm_data data;
    struct region_record record;
    uint64_t marked;              /* entries at regions_mark */
    struct region_link *links; unsigned link_count;  /* of data.links */
    const void *enter, *code;     /* from template code; the function */
    struct gdb_object *gdb;
};


/* What stays of a recording, to be printed: its blocks that ran often, and how often each went where. */
struct profile_edge { uint16_t to; uint32_t count; };
struct profile_place { uint64_t linear, count; uint16_t insns; uint8_t edge_count; struct profile_edge edges[8]; const char *refused; };
struct profile_loop { uint64_t pc, phys; uint32_t mode; unsigned times, insns, place_count; struct profile_place places[]; };
uint64_t mode_linear(const struct vcpu *, uint32_t mode, uint64_t pc);
static inline uint64_t job_linear(const struct vcpu *v, const struct llvm_job *j, uint64_t pc) { return mode_linear(v, j->mode, pc); }
/* For --stress; its high half is the better one. */
static inline uint32_t region_random(struct vcpu *v) { return v->regions.random = v->regions.random * 1103515245u + 12345u; }
/* profile_save.c: what ran; and into the store, with what earlier runs left (any thread). */
/* profile_sample.c: what is known of blocks by samples, into room for profile_sampled_count; their bytes stay.  Returns how many. */
unsigned profile_sampled_count(const struct vcpu *);
unsigned profile_sampled(const struct vcpu *, struct profile_block *to);
struct profile_taken *profile_take(struct vcpu *); /* NULL: out of memory */
void profile_taken_free(struct profile_taken *);
void profile_keep(struct store *, const uint64_t translator[2], struct profile_taken *);
bool job_same_bytes(struct vcpu *, const struct job_block *); /* as they are in memory now */
void region_page_count(struct vcpu *, uint64_t linear, int by);
bool region_is_mapped_so(struct vcpu *, const struct unit_page *, unsigned count);
bool links_make(struct vcpu *, struct llvm_unit *, const struct llvm_job *, const struct object_meta *); /* false: out of memory */
void links_drop(struct vcpu *, struct llvm_unit *);    /* of a region that goes: to the jump table, for ever */
#endif
