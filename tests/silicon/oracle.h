/* oracle.h - runs one guest instruction on the host's own CPU, in this process, between two signals: registers, flags,
 * x87 and SSE state go in and come out through the signal frame; so do CS and SS, which is how 32-bit code (the
 * kernel's segments) and code in segments of a base and limit of their own (from modify_ldt) are entered. */
#ifndef TESTS_SILICON_ORACLE_H
#define TESTS_SILICON_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define ORACLE_CODE 0x20000000ull      /* three pages between unmapped ones */
#define ORACLE_CODE_SIZE 0x3000u
#define ORACLE_DATA 0x30000000ull      /* four pages that may be written, one that may not, between unmapped ones */
#define ORACLE_WRITABLE 0x4000u
#define ORACLE_DATA_SIZE 0x5000u

struct oracle_fx { uint16_t fcw, fsw; uint8_t ftw, pad; uint16_t fop; uint64_t fip, fdp; uint32_t mxcsr, mxcsr_mask;
                   struct { uint64_t low; uint16_t high; uint16_t pad[3]; } st[8]; uint64_t xmm[16][2]; uint64_t rest[12]; };
struct oracle_state {
    uint64_t gpr[16], rip, rflags;   /* rip: offset in CS */
    int trap;                /* vector that ended it; 3: ran to its end; -1: never came to an end */
    uint64_t error, cr2;
    struct oracle_fx fx;
    uint16_t seg[6];         /* out: selectors, ES CS SS DS FS GS */
};
/* Descriptors as user mode sees them: what LAR and LSL tell of the GDT, and the LDT as the kernel has it. */
enum { ORACLE_GDT = 16, ORACLE_LDT = 10 };
extern uint64_t oracle_gdt[ORACLE_GDT], oracle_ldt[ORACLE_LDT];

/* The ways in which code may run.  attr: as struct x86_state's seg_attr. */
struct oracle_segment { uint16_t selector; uint32_t attr, limit; uint64_t base; };
enum oracle_mode_id { ORACLE_64, ORACLE_32, ORACLE_32S, ORACLE_16, ORACLE_MODES };
struct oracle_mode { const char *name; unsigned bits; bool by_ldt; struct oracle_segment seg[6]; /* ES CS SS DS FS GS */ };
extern const struct oracle_mode oracle_modes[ORACLE_MODES];

/* Where a SIGSEGV outside of oracle_run goes on, by its PC; NULL: it ends the process. */
extern const void *(*oracle_resume)(const void *pc);
bool oracle_init(void);
const char *oracle_mode_missing(enum oracle_mode_id);   /* why the host cannot run it; NULL: it can */
uint8_t *oracle_code(void);   /* writable, ORACLE_CODE's three pages; fill with 0xcc */
uint8_t *oracle_data(void);   /* alias of ORACLE_DATA, all of it writable */
/* Runs from s->rip until a trap or fault. */
void oracle_run(enum oracle_mode_id, struct oracle_state *s);

#endif
