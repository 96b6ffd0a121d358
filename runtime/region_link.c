/* Links of regions: ways out to known successors that lead there without asking, to template code or straight into another region,
 * in the registers that both know.  One that leads to pages that the region itself has holds as long as the region may be entered; any other
 * holds while no mapping of code changes, and is then asked for anew.  All are taken back when what they lead to goes. */
#include "runtime/job.h"
#include <stdlib.h>

bool links_make(struct vcpu *v, struct llvm_unit *u, const struct llvm_job *j, const struct object_meta *meta)
{
    (void)v;
    u->links = calloc(meta->exit_count + 1, sizeof *u->links);
    u->data.links = calloc(meta->exit_count + 1, sizeof *u->data.links);
    if (!u->links || !u->data.links)
        return false;
    u->link_count = meta->exit_count + 1;
    for (unsigned n = 0; n < u->link_count; n++) {
        struct tcg_link *l = &u->data.links[n];
        tcg_link(l, n && tb_is_flat(j->mode) ? TCG_LINK_ASK : TCG_LINK_TABLE, NULL, NULL, false);
        l->user = &u->links[n];
        u->links[n] = (struct region_link){.from = u, .link = l};
        if (n)
            u->links[n].pc = job_linear(v, j, j->of[0].pc + (uint64_t)meta->exits[n - 1].pc);
    }
    return true;
}

static void unlink_one(struct vcpu *v, struct region_link *l)
{
    if (!l->to)
        return;
    if ((*l->prev = l->next))
        l->next->prev = l->prev;
    while (l->page_count)
        region_page_count(v, l->pages[--l->page_count], -1);
    l->to = NULL;
    tcg_link(l->link, TCG_LINK_ASK, NULL, NULL, false);
}

void region_unlink(struct vcpu *v, struct tb *tb)
{
    while (tb->region_links)
        unlink_one(v, tb->region_links);
}

void links_drop(struct vcpu *v, struct llvm_unit *u)
{
    for (unsigned n = 0; n < u->link_count; n++) {
        unlink_one(v, &u->links[n]);
        tcg_link(u->data.links + n, TCG_LINK_TABLE, NULL, NULL, false); /* it may still run */
    }
    if (v->regions.asked && v->regions.asked->from == u)
        v->regions.asked = NULL;
}

void region_asks(struct vcpu *v) { v->regions.asked = v->tcg.link ? v->tcg.link->user : NULL; }

/* --- Linking */
static bool has_page(const struct llvm_unit *u, const struct unit_page *page)
{
    for (unsigned n = 0; n < u->page_count; n++)
        if (u->pages[n].linear == page->linear && u->pages[n].phys == page->phys)
            return true;
    return false;
}

static bool has_pages(const struct llvm_unit *u, const struct unit_page *pages, unsigned count)
{
    for (unsigned n = 0; n < count; n++)
        if (!has_page(u, &pages[n]))
            return false;
    return true;
}

static unsigned pages_of(const struct vcpu *v, const struct tb *tb, struct unit_page pages[2])
{
    uint64_t linear = tb_linear(&v->cpu.state);
    pages[0] = (struct unit_page){linear & PAGE_MASK, tb->phys & PAGE_MASK};
    pages[1] = (struct unit_page){(linear & PAGE_MASK) + PAGE, tb->phys2};
    return tb->straddles ? 2 : 1;
}

static void lead(struct vcpu *v, struct region_link *l, struct tb *tb)
{
    struct unit_page pages[2];
    struct llvm_unit *to = tb->unit;
    unsigned count = pages_of(v, tb, pages);
    const struct exec_entry *e = softmmu_fetch(v, pages[0].linear); /* a moment ago it was there */
    bool global = e && e->global && !tb->straddles, checked = !has_pages(l->from, pages, count);
    v->cpu.state.faulted = 0;
    if (to && !region_is_mapped_so(v, to->pages, to->page_count))
        to = NULL; /* by the block, whose entry has the region's own check */
    if (to) {
        global = to->global;
        checked = !has_pages(l->from, to->pages, to->page_count);
    }
    tcg_link(l->link, to ? TCG_LINK_REGION : TCG_LINK_BLOCK, to ? to->code : tb->code.entry, to ? &to->data : NULL, checked);
    l->link->global = global;
    l->link->valid = v->tcg.map_epoch[global];
    for (; checked && l->page_count < count; l->page_count++)
        region_page_count(v, l->pages[l->page_count] = pages[l->page_count].linear, 1);
}

void region_link(struct vcpu *v, struct tb *tb)
{
    struct region_link *l = v->regions.asked;
    v->regions.asked = NULL;
    if (!l || tb->pc != l->pc || tb->mode != l->from->mode || tb->state != TB_LIVE || !tb->code.entry || !tb_may_chain(tb))
        return; /* something came between, or it is not for that */
    unlink_one(v, l);
    l->to = tb;
    if ((l->next = tb->region_links))
        l->next->prev = &l->next;
    l->prev = &tb->region_links;
    tb->region_links = l;
    lead(v, l, tb);
    v->stats.region_links++;
}
