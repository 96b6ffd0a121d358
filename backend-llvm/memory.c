/* Guest memory: an address is looked up in the flat table of the mode (struct tcg_context), and each check that fails is a side
 * exit, so that LLVM sees straight code and drops what it has checked before.  The accesses themselves are volatile: they
 * stay in the guest's order, as many and as wide as they were (x86-TSO).  The tables do not change under a region:
 * what empties entries is a helper after which the block ends, and an entry that was made meanwhile only saves a side exit. */
#include "backend-llvm/internal.h"
#include <stdlib.h>

static bool is_wide(const struct fn *f) { return f->b->pc_bits == 64; }

static LLVMValueRef masked_is(struct fn *f, LLVMValueRef v, uint64_t mask, LLVMIntPredicate p, uint64_t than)
{
    return LLVMBuildICmp(f->builder, p, LLVMBuildAnd(f->builder, v, constant(f, f->i64, mask), ""), constant(f, f->i64, than), "");
}

/* Aligned, where it always was; else inside of a page. */
static void check_place(struct fn *f, const struct ir_insn *i, ir_ref self, LLVMValueRef address)
{
    uint64_t size = (uint64_t)i->imm;
    uint8_t seen = f->block->seen ? f->block->seen[self] : LLVM_SEEN_MISALIGNED;
    bool even = !(size & (size - 1)), must = i->aux & (IR_ALIGNED | IR_AC);
    if (size == 1)
        return;
    if (even && (must || (!(seen & LLVM_SEEN_MISALIGNED) && !f->r->careful)))
        side_exit_if(f, masked_is(f, address, size - 1, LLVMIntNE, 0), LLVM_SIDE_ACCESS);
    else
        side_exit_if(f, masked_is(f, address, 4095, LLVMIntUGT, 4096 - size), LLVM_SIDE_ACCESS);
}

static LLVMValueRef table_entry(struct fn *f, LLVMValueRef page, bool write)
{
    LLVMValueRef entry, at;
    if (write) {
        at = LLVMBuildGEP2(f->builder, f->i64, f->write_table, &page, 1, "");
    } else {
        LLVMValueRef offset = LLVMBuildShl(f->builder, page, constant(f, f->i64, 3), "");
        at = LLVMBuildIntToPtr(f->builder, offset, f->gs_pointer, "");
    }
    entry = LLVMBuildLoad2(f->builder, f->i64, at, "");
    LLVMSetAlignment(entry, 8);
    LLVMSetMetadata(entry, f->metadata_kind[2], LLVMMetadataAsValue(f->context, LLVMMDNodeInContext2(f->context, NULL, 0)));
    mark_own(f, entry);
    return entry;
}

static LLVMValueRef entry_of(struct fn *f, LLVMValueRef address, bool write)
{
    unsigned bits = is_wide(f) ? 36 : 20;
    LLVMValueRef args[2] = {address, constant(f, f->i64, 12 | bits << 8)}, page;
    if (__builtin_cpu_supports("bmi")) /* one instruction, where LLVM would take two */
        page = intrinsic(f, "llvm.x86.bmi.bextr.64", NULL, 0, args, 2);
    else
        page = LLVMBuildAnd(f->builder, LLVMBuildLShr(f->builder, address, constant(f, f->i64, 12), ""), constant(f, f->i64, (1ull << bits) - 1), "");
    return table_entry(f, page, write);
}

static LLVMValueRef is_absent(struct fn *f, LLVMValueRef entry) { return LLVMBuildICmp(f->builder, LLVMIntEQ, entry, constant(f, f->i64, 0), ""); }
/* The table knows no bits above 47: with those of a non-canonical address this is no host address. */
static LLVMValueRef is_no_host(struct fn *f, LLVMValueRef host)
{
    return LLVMBuildICmp(f->builder, LLVMIntNE, LLVMBuildLShr(f->builder, host, constant(f, f->i64, 47), ""), constant(f, f->i64, 0), "");
}

/* Host address. */
static LLVMValueRef look_up(struct fn *f, LLVMValueRef address, bool write)
{
    LLVMValueRef entry = f->looked_up = entry_of(f, address, write);
    side_exit_if(f, is_absent(f, entry), LLVM_SIDE_ACCESS);
    LLVMValueRef host = LLVMBuildAdd(f->builder, address, entry, "");
    if (is_wide(f))
        side_exit_if(f, is_no_host(f, host), LLVM_SIDE_ACCESS);
    return host;
}

LLVMValueRef table_miss(struct fn *f, LLVMValueRef address, bool write, LLVMValueRef *entry)
{
    *entry = entry_of(f, address, write);
    return LLVMBuildOr(f->builder, is_absent(f, *entry), is_no_host(f, LLVMBuildAdd(f->builder, address, *entry, "")), "");
}

/* --- Accesses that mostly stay on the page where they were: by base register, for the bases that the hottest of them have */
#define NO_BASE ~0u

/* The slot that an address counts from. */
static uint32_t base_of(const struct ir_block *b, ir_ref n)
{
    for (;;) {
        const struct ir_insn *i = &b->insns[n];
        switch ((enum ir_op)i->op) {
        case IR_get: return (uint32_t)i->imm;
        case IR_lea: case IR_add: case IR_sub: case IR_zext: case IR_trunc: n = i->arg[0]; break;
        default: return NO_BASE;
        }
    }
}

static bool stays(const struct llvm_block *block, ir_ref n)
{
    return block->seen && (block->seen[n] & (LLVM_SEEN | LLVM_SEEN_OTHER_PAGE)) == LLVM_SEEN;
}

static struct page_cache *cache_find(struct fn *f, uint32_t base, bool write)
{
    for (unsigned k = 0; k < f->cache_count; k++)
        if (f->caches[k].base == base && f->caches[k].write == write)
            return &f->caches[k];
    return NULL;
}

static void cache_count(struct page_cache *all, unsigned *count, unsigned most, const struct ir_insn *i, uint32_t base, int64_t span, uint64_t weight)
{
    bool write = i->aux & IR_WRITE;
    unsigned k = 0;
    while (k < *count && !(all[k].base == base && all[k].write == write))
        k++;
    if (k == most)
        return;
    if (k == *count)
        all[(*count)++] = (struct page_cache){.base = base, .write = write};
    all[k].weight += weight;
    if (all[k].size < span)
        all[k].size = (uint16_t)span;
}

static int heavier(const void *a, const void *b)
{
    uint64_t x = ((const struct page_cache *)a)->weight, y = ((const struct page_cache *)b)->weight;
    return (x < y) - (x > y);
}

/* --- Fields of one object, slots of one stack frame: whether all of them lie in one page is asked once, and then one of them is
 * looked up.  Where they do not, each is. */
enum { FARTHEST = 512 };

static bool constant_of(const struct ir_block *b, ir_ref n, int64_t *v)
{
    *v = b->insns[n].imm;
    return b->insns[n].op == IR_const;
}

struct root root_of(const struct ir_block *b, ir_ref address)
{
    struct root r = {address, IR_NONE, 0, 0};
    for (;;) {
        const struct ir_insn *i = &b->insns[r.a];
        int64_t c;
        if (i->op == IR_pc)
            return (struct root){ROOT_PC, IR_NONE, 0, r.offset + i->imm};
        if (i->op == IR_lea && i->arg[1] != IR_NONE)
            return (struct root){i->arg[0], i->arg[1], i->aux, r.offset + i->imm};
        if (i->op == IR_lea)
            r.a = i->arg[0], r.offset += i->imm;
        else if ((i->op == IR_add || i->op == IR_sub) && constant_of(b, i->arg[1], &c))
            r.a = i->arg[0], r.offset += i->op == IR_add ? c : -c;
        else
            return r;
    }
}

static struct access_group *group_of(struct fn *f, const struct root *r, int64_t size, bool extend)
{
    for (unsigned n = 0; n < f->group_count; n++) {
        struct access_group *g = &f->groups[n];
        int64_t from = r->offset < g->from ? r->offset : g->from, to = r->offset + size > g->to ? r->offset + size : g->to;
        if (g->a != r->a || g->b != r->b || g->aux != r->aux || r->offset - g->from > FARTHEST || g->from - r->offset > FARTHEST ||
            (extend ? to - from > FARTHEST : from < g->from || to > g->to))
            continue;
        g->from = from, g->to = to;
        return g;
    }
    return NULL;
}

void memory_begin(struct fn *f)
{
    f->group_count = 0;
    for (ir_ref n = 0; n < f->b->count && is_wide(f); n++) {
        const struct ir_insn *i = &f->b->insns[n];
        if (i->op == IR_exit_if)
            for (unsigned k = 0; k < f->group_count; k++)
                f->groups[k].left = true;
        if (i->op != IR_translate || loop_has_stream(f, n))
            continue;
        struct root r = root_of(f->b, i->arg[0]);
        struct access_group *g = group_of(f, &r, i->imm, true);
        if (!g && f->group_count < ACCESS_GROUPS) {
            g = &f->groups[f->group_count++];
            *g = (struct access_group){.a = r.a, .b = r.b, .aux = r.aux, .from = r.offset, .to = r.offset + i->imm};
        }
        if (!g)
            continue;
        g->count++;
        g->writes |= i->aux & IR_WRITE && !g->left;
    }
}

/* From the first to the last byte of the accesses that this one is of. */
static int64_t span_of(struct fn *f, const struct ir_insn *i)
{
    struct root r = root_of(f->b, i->arg[0]);
    const struct access_group *g = is_wide(f) ? group_of(f, &r, i->imm, false) : NULL;
    return g && g->count > 1 && !f->r->careful ? g->to - g->from : i->imm;
}

void caches_begin(struct fn *f)
{
    enum { MOST = 64, WORTH = 32 };
    struct page_cache all[MOST];
    unsigned count = 0;
    for (unsigned k = 0; k < f->r->block_count; k++) {
        const struct llvm_block *block = f->block = &f->r->blocks[k];
        f->b = block->ir;
        memory_begin(f);
        for (ir_ref n = 0; n < block->ir->count; n++) {
            const struct ir_insn *i = &block->ir->insns[n];
            uint32_t base = i->op == IR_translate && stays(block, n) ? base_of(block->ir, i->arg[0]) : NO_BASE;
            if (base != NO_BASE)
                cache_count(all, &count, MOST, i, base, span_of(f, i), block->count);
        }
    }
    qsort(all, count, sizeof *all, heavier);
    for (; f->cache_count < count && f->cache_count < PAGE_CACHES && all[f->cache_count].weight >= WORTH; f->cache_count++) {
        struct page_cache *c = &f->caches[f->cache_count];
        *c = all[f->cache_count];
        LLVMValueRef *const parts[] = {&c->page, &c->addend, &c->limit};
        for (unsigned k = 0; k < 3; k++) {
            *parts[k] = LLVMBuildAlloca(f->builder, f->i64, "");
            LLVMBuildStore(f->builder, constant(f, f->i64, 0), *parts[k]);
        }
    }
}

/* [from, from + span): all that shall be on one page with it; where more than this access, anything else leaves. */
static LLVMValueRef cached_look_up(struct fn *f, const struct ir_insn *i, ir_ref self, LLVMValueRef address, LLVMValueRef from, int64_t span, struct page_cache *c)
{
    LLVMBuilderRef b = f->builder;
    LLVMBasicBlockRef slow = LLVMAppendBasicBlockInContext(f->context, f->function, ""), on = LLVMAppendBasicBlockInContext(f->context, f->function, "");
    LLVMValueRef at = LLVMBuildSub(b, from, LLVMBuildLoad2(b, f->i64, c->page, ""), "");
    LLVMValueRef other = LLVMBuildICmp(b, LLVMIntUGE, at, LLVMBuildLoad2(b, f->i64, c->limit, ""), "");
    unlikely(f, LLVMBuildCondBr(b, other, slow, on));
    LLVMPositionBuilderAtEnd(b, slow);
    if (from != address)
        side_exit_if(f, masked_is(f, from, 4095, LLVMIntUGT, (uint64_t)(4096 - span)), LLVM_SIDE_ACCESS);
    check_place(f, i, self, address);
    LLVMValueRef host = look_up(f, address, c->write);
    LLVMBuildStore(b, LLVMBuildAnd(b, address, constant(f, f->i64, ~4095ull), ""), c->page);
    LLVMBuildStore(b, LLVMBuildSub(b, host, address, ""), c->addend);
    LLVMBuildStore(b, constant(f, f->i64, 4097u - c->size), c->limit);
    LLVMBuildBr(b, on);
    LLVMPositionBuilderAtEnd(b, on);
    return LLVMBuildAdd(b, address, LLVMBuildLoad2(b, f->i64, c->addend, ""), "");
}

static struct page_cache *cache_for(struct fn *f, const struct ir_insn *i, ir_ref self, bool write, int64_t span)
{
    struct page_cache *c = stays(f->block, self) ? cache_find(f, base_of(f->b, i->arg[0]), write) : NULL;
    return c && span <= c->size ? c : NULL;
}

/* Where the guest must have it. */
static void check_alignment(struct fn *f, const struct ir_insn *i, LLVMValueRef address)
{
    if (i->aux & (IR_ALIGNED | IR_AC) && !(i->imm & (i->imm - 1)))
        side_exit_if(f, masked_is(f, address, (uint64_t)i->imm - 1, LLVMIntNE, 0), LLVM_SIDE_ACCESS);
}

static LLVMValueRef look_up_alone(struct fn *f, const struct ir_insn *i, ir_ref self, LLVMValueRef address, bool write)
{
    struct page_cache *c = cache_for(f, i, self, write, i->imm);
    if (c) {
        check_alignment(f, i, address);
        return cached_look_up(f, i, self, address, address, i->imm, c);
    }
    check_place(f, i, self, address);
    LLVMValueRef host = look_up(f, address, write);
    f->v[self].address = address, f->v[self].entry = f->looked_up;
    return host;
}

/* The first of its group that is looked up in this table. */
static LLVMValueRef look_up_first(struct fn *f, const struct ir_insn *i, ir_ref self, LLVMValueRef address, struct access_group *g, int64_t offset)
{
    bool write = i->aux & IR_WRITE || g->writes; /* who may write may read */
    LLVMValueRef from = LLVMBuildAdd(f->builder, address, constant(f, f->i64, (uint64_t)(g->from - offset)), ""), host;
    struct page_cache *c = f->r->careful ? NULL : cache_for(f, i, self, write, g->to - g->from);
    if (c) {
        check_alignment(f, i, address);
        host = cached_look_up(f, i, self, address, from, g->to - g->from, c);
        g->whole = true;
    } else {
        host = look_up_alone(f, i, self, address, write);
    }
    if (!g->in_page && !g->whole)
        g->in_page = masked_is(f, from, 4095, LLVMIntULE, (uint64_t)(4096 - (g->to - g->from)));
    g->at[write] = offset;
    return g->host[write] = host;
}

static LLVMValueRef look_up_near(struct fn *f, const struct ir_insn *i, ir_ref self, LLVMValueRef address, struct access_group *g, int64_t offset)
{
    bool write = i->aux & IR_WRITE || !g->host[0];
    check_alignment(f, i, address);
    if (g->whole)
        return LLVMBuildAdd(f->builder, g->host[write], constant(f, f->i64, (uint64_t)(offset - g->at[write])), "");
    LLVMBasicBlockRef alone = LLVMAppendBasicBlockInContext(f->context, f->function, ""), on = LLVMAppendBasicBlockInContext(f->context, f->function, "");
    LLVMValueRef from[2] = {LLVMBuildAdd(f->builder, g->host[write], constant(f, f->i64, (uint64_t)(offset - g->at[write])), "")};
    LLVMBasicBlockRef ways[2] = {LLVMGetInsertBlock(f->builder)};
    LLVMValueRef apart = LLVMBuildNot(f->builder, g->in_page, "");
    unlikely(f, LLVMBuildCondBr(f->builder, apart, alone, on));
    LLVMPositionBuilderAtEnd(f->builder, alone);
    check_place(f, i, self, address);
    from[1] = look_up(f, address, write);
    ways[1] = LLVMGetInsertBlock(f->builder);
    LLVMBuildBr(f->builder, on);
    LLVMPositionBuilderAtEnd(f->builder, on);
    LLVMValueRef host = LLVMBuildPhi(f->builder, f->i64, "");
    LLVMAddIncoming(host, from, ways, 2);
    return host;
}

static void do_translate(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    if ((f->v[self].v = loop_address(f, self)))
        return;
    LLVMValueRef address = zero_extend(f, operand(f, i->arg[0]), f->i64);
    struct root r = root_of(f->b, i->arg[0]);
    struct access_group *g = is_wide(f) ? group_of(f, &r, i->imm, false) : NULL;
    if (!g || g->count < 2)
        f->v[self].v = look_up_alone(f, i, self, address, i->aux & IR_WRITE);
    else if (g->host[1] || (g->host[0] && !(i->aux & IR_WRITE)))
        f->v[self].v = look_up_near(f, i, self, address, g, r.offset);
    else
        f->v[self].v = look_up_first(f, i, self, address, g, r.offset);
}

static LLVMValueRef host_pointer(struct fn *f, ir_ref token, int64_t offset)
{
    const struct value *v = &f->v[token];
    if (v->entry) { /* not by the sum that was checked: the access need not wait for it */
        LLVMValueRef at = LLVMBuildAdd(f->builder, v->address, constant(f, f->i64, (uint64_t)offset), "");
        return LLVMBuildGEP2(f->builder, f->i8, LLVMBuildIntToPtr(f->builder, v->entry, f->pointer, ""), &at, 1, "");
    }
    LLVMValueRef host = operand(f, token);
    if (offset)
        host = LLVMBuildAdd(f->builder, host, constant(f, f->i64, (uint64_t)offset), "");
    return LLVMBuildIntToPtr(f->builder, host, f->pointer, "");
}

static void do_load(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    LLVMValueRef load = LLVMBuildLoad2(f->builder, type_of(f, (enum ir_type)i->type), host_pointer(f, i->arg[0], i->imm), "");
    LLVMSetVolatile(load, 1);
    LLVMSetAlignment(load, 1);
    mark_guest(f, load);
    f->v[self].v = load;
}

static void do_store(struct fn *f, const struct ir_insn *i)
{
    LLVMValueRef value = operand(f, i->arg[1]), store = LLVMBuildStore(f->builder, value, host_pointer(f, i->arg[0], i->imm));
    LLVMSetVolatile(store, 1);
    LLVMSetAlignment(store, 1);
    mark_guest(f, store);
}

static void do_atomic(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    static const LLVMAtomicRMWBinOp op[IR_OP_COUNT] = {
        [IR_atomic_add] = LLVMAtomicRMWBinOpAdd, [IR_atomic_and] = LLVMAtomicRMWBinOpAnd, [IR_atomic_or] = LLVMAtomicRMWBinOpOr,
        [IR_atomic_xor] = LLVMAtomicRMWBinOpXor, [IR_atomic_xchg] = LLVMAtomicRMWBinOpXchg};
    LLVMValueRef at = host_pointer(f, i->arg[0], 0), r, x;
    if (i->op == IR_atomic_cas) {
        x = LLVMBuildAtomicCmpXchg(f->builder, at, operand(f, i->arg[1]), operand(f, i->arg[2]), LLVMAtomicOrderingSequentiallyConsistent,
                                   LLVMAtomicOrderingSequentiallyConsistent, 0);
        r = LLVMBuildExtractValue(f->builder, x, 0, "");
    } else {
        x = r = LLVMBuildAtomicRMW(f->builder, op[i->op], at, operand(f, i->arg[1]), LLVMAtomicOrderingSequentiallyConsistent, 0);
    }
    LLVMSetVolatile(x, 1);
    mark_guest(f, x);
    f->v[self].v = r;
}

bool memory_emit(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    switch ((enum ir_op)i->op) {
    case IR_translate: do_translate(f, i, self); break;
    case IR_load: do_load(f, i, self); break;
    case IR_store: do_store(f, i); break;
    case IR_atomic_add: case IR_atomic_and: case IR_atomic_or: case IR_atomic_xor: case IR_atomic_xchg: case IR_atomic_cas:
        do_atomic(f, i, self);
        break;
    case IR_fence: LLVMBuildFence(f->builder, LLVMAtomicOrderingSequentiallyConsistent, 0, ""); break;
    default: return false;
    }
    return true;
}
