/* The translation cache's store: objects by key over a directory and read-only layers, with what is not yet written in memory.  One lock
 * guards what is in memory; nothing is written, checked or decompressed while it is held. */
#define _GNU_SOURCE
#include "runtime/store_remote.h"
#include "runtime/thread.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHAINS = 1024, FLUSH_AFTER_MS = 3000, RETRY_AFTER_MS = 30000, LOOK_AFTER_MS = 1000, ATTEMPTS = 20, RECENT_PACKS = 16, RECENT_OBJECTS = 1024 };
#define FLUSH_BYTES (8u << 20)
#define PENDING_BYTES (128u << 20) /* more is refused */

struct pending { /* put, or removed (size 0); a chain has the latest first */
    struct pending *next;
    struct store_record record;
    uint8_t *data;
    bool flushing, remote;  /* remote: it came from there, and is looked at after all else */
};
struct store {
    struct store_dir *dirs; unsigned dir_count; /* the store's own, then the layers */
    uint64_t max_bytes;
    bool compress;
    void (*warn)(void *ctx, const char *line); void *ctx;
    pthread_mutex_t lock;
    pthread_mutex_t flushing;                   /* one at a time; taken before `lock` */
    pthread_cond_t wake;
    pthread_t thread; bool started, end;
    struct pending *chains[CHAINS];
    size_t pending_bytes; unsigned pending_count;
    uint64_t flush_at;                          /* ms; 0: there is nothing to be written */
    struct store_remote *remote;                /* NULL: none */
    bool remote_due;                            /* something is queued for it, or it was lost */
    struct store_counts counts;
    pthread_mutex_t complaining;                /* the following, and counts.damaged, .foreign, .remote_errors; taken last */
    uint64_t *warned; unsigned warned_count;
};

static bool is_new(struct store *s, uint64_t name)
{
    for (unsigned n = 0; n < s->warned_count; n++)
        if (s->warned[n] == name)
            return false;
    uint64_t *more = realloc(s->warned, (s->warned_count + 1) * sizeof *more);
    if (more) {
        s->warned = more;
        s->warned[s->warned_count++] = name;
    }
    return true;
}

void store_complain(struct store_dir *d, enum store_fault fault, const char *name, const char *format, ...)
{
    static const char *const endings[] = {"; skipped", "; skipped", "", "; going on without it", "; skipped"};
    struct store *s = d->store;
    char text[256], line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    bool here = fault != STORE_LOST && fault != STORE_DAMAGED_REMOTE;
    snprintf(line, sizeof line, "%s%s%s: %s%s", here ? d->path : "", here && *name ? "/" : "", name, text, endings[fault]);
    uint64_t hash = store_hash(name, strlen(name), store_hash(d->path, strlen(d->path), fault));
    pthread_mutex_lock(&s->complaining);
    s->counts.damaged += fault == STORE_DAMAGED || fault == STORE_DAMAGED_REMOTE;
    s->counts.remote_errors += fault == STORE_LOST;
    s->counts.foreign += fault == STORE_FOREIGN;
    bool fresh = is_new(s, hash);
    pthread_mutex_unlock(&s->complaining);
    if (fresh && s->warn)
        s->warn(s->ctx, line);
}

struct store_dir *store_layer(struct store *s, unsigned n) { return n < s->dir_count ? &s->dirs[n] : NULL; }

void store_look_again(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    store_view_refresh(&s->dirs[0], &s->dirs[0].view);
    pthread_mutex_unlock(&s->lock);
}

/* --- Opening */
static bool open_dir(struct store *s, const char *path, bool writable, char *error, size_t size)
{
    struct store_dir *d = &s->dirs[s->dir_count];
    *d = (struct store_dir){.store = s, .path = strdup(path), .writable = writable, .fd = -1, .packs = -1, .files = -1,
                            .view = {.index.fd = -1, .recent.fd = -1}};
    if (!d->path)
        return snprintf(error, size, "%s: out of memory", path), false;
    s->dir_count++;
    if (!store_dir_open(d, writable, error, size))
        return false;
    store_view_load(d, &d->view);
    d->looked = store_now_ms();
    return true;
}

static void *store_thread(void *);
static void start_thread(struct store *s)
{
    if (!s->started)
        s->started = thread_without_signals(&s->thread, store_thread, s);
}

static void free_store(struct store *s)
{
    store_remote_close(s->remote);
    for (unsigned n = 0; n < s->dir_count; n++)
        store_dir_close(&s->dirs[n]);
    for (unsigned n = 0; n < CHAINS; n++)
        for (struct pending *p = s->chains[n], *next; p; p = next) {
            next = p->next;
            free(p->data);
            free(p);
        }
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->flushing);
    pthread_mutex_destroy(&s->complaining);
    pthread_cond_destroy(&s->wake);
    free(s->warned);
    free(s->dirs);
    free(s);
}

struct store *store_open(const struct store_options *o, char *error, size_t size)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s || !(s->dirs = calloc(1 + o->layer_count, sizeof *s->dirs))) {
        free(s);
        return snprintf(error, size, "%s: out of memory", o->path), NULL;
    }
    s->max_bytes = o->max_bytes ? o->max_bytes : (uint64_t)1 << 30;
    s->compress = o->compress;
    s->warn = o->warn;
    s->ctx = o->ctx;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->flushing, NULL);
    pthread_mutex_init(&s->complaining, NULL);
    bool opened = open_dir(s, o->path, !o->read_only, error, size);
    for (unsigned n = 0; opened && n < o->layer_count; n++)
        opened = open_dir(s, o->layers[n], false, error, size);
    if (opened && o->remote) {
        opened = (s->remote = store_remote_open(&s->dirs[0], o->remote, error, size));
        s->remote_due = true;
        if (opened)
            start_thread(s);
    }
    if (opened)
        return s;
    free_store(s);
    return NULL;
}

/* --- Finding: what is pending, then each directory's recent packs and index.  What a newer place has hides what an older one has. */
static struct pending **chain_of(struct store *s, const uint64_t head[2]) { return &s->chains[store_hash(head, 16, 0) % CHAINS]; }

static struct pending *find_pending(struct store *s, const struct store_key *key)
{
    for (struct pending *p = *chain_of(s, key->head); p; p = p->next)
        if (!store_key_compare(&p->record.key, key))
            return p;
    return NULL;
}

struct place { struct pending *pending; struct store_dir *dir; struct store_table *table; struct store_at at; };

static bool is_hidden(struct store *s, const struct place *p)
{
    const struct store_key *key = &p->at.record.key;
    const struct store_table *in;
    struct store_at at;
    if (s->pending_count && find_pending(s, key))
        return true;
    for (struct store_dir *d = s->dirs; d < p->dir; d++)
        if (store_view_find(&d->view, key, &at, &in))
            return true;
    return p->table == &p->dir->view.index && p->dir->view.recent.count && store_table_find(&p->dir->view.recent, key, &at);
}

static bool find_in(struct store *s, const uint64_t head[2], unsigned *nth, struct place *p)
{
    struct store_cursor c;
    store_table_seek(p->table, head, &c);
    while (store_table_next(p->table, head, &c, &p->at))
        if (p->at.record.size && !is_hidden(s, p) && !(*nth)--)
            return true;
    return false;
}

static bool find_in_memory(struct store *s, const uint64_t head[2], bool remote, unsigned *nth, struct place *p)
{
    for (struct pending *q = s->pending_count ? *chain_of(s, head) : NULL; q; q = q->next)
        if (q->remote == remote && !memcmp(q->record.key.head, head, 16) && q->record.size && find_pending(s, &q->record.key) == q && !(*nth)--) {
            p->pending = q;
            return true;
        }
    return false;
}

/* The nth of those with that head. */
static bool find_head(struct store *s, const uint64_t head[2], unsigned nth, struct place *p)
{
    *p = (struct place){0};
    if (find_in_memory(s, head, false, &nth, p))
        return true;
    for (p->dir = s->dirs; p->dir < s->dirs + s->dir_count; p->dir++) {
        p->table = &p->dir->view.recent;
        if (find_in(s, head, &nth, p))
            return true;
        p->table = &p->dir->view.index;
        if (find_in(s, head, &nth, p))
            return true;
    }
    return find_in_memory(s, head, true, &nth, p);
}

static bool find_key(struct store *s, const struct store_key *key, struct place *p)
{
    *p = (struct place){.pending = find_pending(s, key)};
    if (p->pending)
        return p->pending->record.size;
    for (p->dir = s->dirs; p->dir < s->dirs + s->dir_count; p->dir++) {
        const struct store_table *in;
        if (!store_view_find(&p->dir->view, key, &p->at, &in))
            continue;
        p->table = in == &p->dir->view.recent ? &p->dir->view.recent : &p->dir->view.index;
        return true;
    }
    return false;
}

struct wanted { const uint64_t *head; const struct store_key *key; unsigned nth; };
static bool find(struct store *s, const struct wanted *w, struct place *p)
{
    return w->key ? find_key(s, w->key, p) : find_head(s, w->head, w->nth, p);
}

/* Other processes' packs and indexes.  True: it is worth to look again. */
static bool look_for_new(struct store *s, unsigned after_ms)
{
    uint64_t now = store_now_ms();
    bool looked = false;
    for (struct store_dir *d = s->dirs; d < s->dirs + s->dir_count; d++)
        if (now - d->looked >= after_ms) {
            store_view_refresh(d, &d->view);
            d->looked = now;
            looked = true;
        }
    return looked;
}

static bool find_or_look(struct store *s, const struct wanted *w, struct place *p)
{
    return find(s, w, p) || (!w->nth && look_for_new(s, LOOK_AFTER_MS) && find(s, w, p));
}

static bool copy_pending(const struct pending *p, struct store_object *o)
{
    uint8_t *copy = malloc(p->record.size);
    if (copy)
        memcpy(copy, p->data, p->record.size);
    *o = (struct store_object){p->record.key, copy, p->record.size, copy};
    return copy;
}

/* With the lock held.  STORE_FETCHED: the object, where it was pending; else stored bytes in o->owned that are still to be checked. */
static enum store_fetched fetch(struct store *s, const struct wanted *w, struct place *p, struct store_object *o)
{
    uint8_t *stored;
    for (unsigned attempt = 0; attempt < ATTEMPTS && find_or_look(s, w, p); attempt++) {
        if (p->pending)
            return copy_pending(p->pending, o) ? STORE_FETCHED : STORE_GONE;
        enum store_fetched fetched = store_pack_fetch(p->dir, p->table, &p->at, &stored);
        if (fetched == STORE_FETCHED) {
            o->owned = stored;
            if (p->dir == s->dirs && p->dir->writable)
                store_used_note(p->dir, &p->at.record.key);
        }
        if (fetched != STORE_GONE)
            return fetched;
        look_for_new(s, 0); /* another process merged packs */
    }
    return STORE_GONE;
}

/* By its number in the file's name. */
static void complain_of(const struct place *p, bool in_pack, uint64_t pack)
{
    const struct store_key *key = &p->at.record.key;
    char name[STORE_NAME] = "index";
    if (in_pack)
        store_pack_name(name, pack);
    store_complain(p->dir, STORE_DAMAGED, name, "object %016lx%016lx is damaged", key->whole[0], key->whole[1]);
}

static bool add_pending(struct store *, struct pending *);
/* What the remote has with that head, into memory, from where it is written as what is put is.  How many are new. */
static unsigned bring(struct store *s, const uint64_t head[2])
{
    struct store_taken *taken;
    bool lost = false;
    size_t count = store_remote_get(s->remote, head, &taken, &lost);
    unsigned fresh = 0;
    if (lost) { /* the thread sees to it */
        pthread_mutex_lock(&s->lock);
        s->remote_due = true;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
    }
    for (size_t n = 0; n < count; n++) {
        struct place there;
        struct pending *p = calloc(1, sizeof *p);
        bool kept = p;
        if (p) {
            *p = (struct pending){.record = taken[n].record, .data = taken[n].data, .remote = true};
            pthread_mutex_lock(&s->lock);
            kept = !find_key(s, &p->record.key, &there) && add_pending(s, p);
            s->counts.remote_hits += kept;
            pthread_mutex_unlock(&s->lock);
        }
        fresh += kept;
        if (!kept) {
            free(taken[n].data);
            free(p);
        }
    }
    free(taken);
    return fresh;
}

static enum store_fetched get_here(struct store *s, const struct wanted *w, struct store_object *o)
{
    struct place p;
    uint64_t pack = 0;
    *o = (struct store_object){0};
    pthread_mutex_lock(&s->lock);
    enum store_fetched fetched = fetch(s, w, &p, o);
    bool in_pack = fetched != STORE_GONE && !p.pending && p.at.pack < p.table->pack_count;
    if (in_pack)
        pack = p.table->packs[p.at.pack].at.name;
    pthread_mutex_unlock(&s->lock);
    if (fetched == STORE_FETCHED && !p.pending) {
        uint8_t *data = store_unpack_object(&p.at.record, o->owned);
        *o = (struct store_object){p.at.record.key, data, p.at.record.size, data};
        fetched = data ? fetched : STORE_BAD;
    }
    if (fetched == STORE_BAD)
        complain_of(&p, in_pack, pack);
    return fetched;
}

static bool get(struct store *s, const struct wanted *w, struct store_object *o, bool *damaged)
{
    enum store_fetched fetched = get_here(s, w, o);
    if (fetched == STORE_GONE && s->remote && bring(s, w->key ? w->key->head : w->head))
        fetched = get_here(s, w, o);
    if (damaged)
        *damaged = fetched == STORE_BAD;
    pthread_mutex_lock(&s->lock);
    *(fetched == STORE_FETCHED ? &s->counts.hits : &s->counts.misses) += 1;
    pthread_mutex_unlock(&s->lock);
    return fetched == STORE_FETCHED;
}

bool store_get(struct store *s, const uint64_t head[2], unsigned nth, struct store_object *o, bool *damaged)
{
    return get(s, &(struct wanted){.head = head, .nth = nth}, o, damaged);
}

bool store_get_key(struct store *s, const struct store_key *key, struct store_object *o)
{
    return get(s, &(struct wanted){.key = key}, o, NULL);
}

bool store_has(struct store *s, const struct store_key *key)
{
    struct place p;
    pthread_mutex_lock(&s->lock);
    bool has = find_or_look(s, &(struct wanted){.key = key}, &p);
    pthread_mutex_unlock(&s->lock);
    return has;
}

void store_release(struct store_object *o)
{
    free(o->owned);
    *o = (struct store_object){0};
}

/* --- Putting */
static void drop_pending(struct store *s, struct pending **at)
{
    struct pending *p = *at;
    *at = p->next;
    s->pending_bytes -= p->record.size;
    s->pending_count--;
    free(p->data);
    free(p);
}

/* What is being written stays until it is. */
static void drop_replaced(struct store *s, const struct store_key *key)
{
    for (struct pending **at = chain_of(s, key->head); *at;)
        if (!(*at)->flushing && !store_key_compare(&(*at)->record.key, key))
            drop_pending(s, at);
        else
            at = &(*at)->next;
}

static bool add_pending(struct store *s, struct pending *p)
{
    if (p->record.size > PENDING_BYTES - s->pending_bytes)
        return false;
    drop_replaced(s, &p->record.key);
    struct pending **chain = chain_of(s, p->record.key.head);
    p->record.time = p->remote ? p->record.time : store_now();
    if (!p->remote && *chain && (*chain)->record.time >= p->record.time)
        p->record.time = (*chain)->record.time + 1;
    p->next = *chain;
    *chain = p;
    s->pending_bytes += p->record.size;
    s->pending_count++;
    if (!s->flush_at && s->dirs[0].writable)
        s->flush_at = store_now_ms() + FLUSH_AFTER_MS;
    start_thread(s);
    pthread_cond_signal(&s->wake);
    return true;
}

bool store_put(struct store *s, const struct store_key *key, const void *data, size_t size)
{
    struct store_dir *d = &s->dirs[0];
    if (!d->writable || !size || size > STORE_MAX_OBJECT)
        return false;
    struct pending *p = calloc(1, sizeof *p);
    uint8_t *copy = malloc(size);
    bool put = p && copy;
    if (put) {
        memcpy(copy, data, size);
        *p = (struct pending){.record = {.key = *key, .size = (uint32_t)size}, .data = copy};
        pthread_mutex_lock(&s->lock);
        put = add_pending(s, p);
        s->counts.puts += put;
        if (put && s->remote) {
            store_remote_put(s->remote, &p->record, data);
            s->remote_due = true;
        }
        pthread_mutex_unlock(&s->lock);
    }
    if (put)
        return true;
    free(copy);
    free(p);
    return false;
}

bool store_remove(struct store *s, const struct store_key *key)
{
    const struct store_table *in;
    struct store_at at;
    struct pending *p = calloc(1, sizeof *p);
    if (!p || !s->dirs[0].writable) {
        free(p);
        return false;
    }
    p->record.key = *key;
    pthread_mutex_lock(&s->lock);
    struct pending *old = find_pending(s, key);
    bool was = old ? old->record.size : store_view_find(&s->dirs[0].view, key, &at, &in);
    if (was)
        add_pending(s, p);
    pthread_mutex_unlock(&s->lock);
    if (!was)
        free(p);
    return was;
}

/* --- Writing */
struct batch { struct pending **pending; struct store_item *items; size_t count, room, bytes; };

static int by_time(const void *a, const void *b)
{
    const struct pending *x = *(struct pending *const *)a, *y = *(struct pending *const *)b;
    return x->record.time < y->record.time ? -1 : x->record.time > y->record.time;
}

/* Up to a pack's size, with the lock held. */
static bool take_batch(struct store *s, struct batch *b)
{
    *b = (struct batch){.pending = malloc(s->pending_count * sizeof *b->pending + 1), .items = malloc(s->pending_count * sizeof *b->items + 1)};
    for (unsigned n = 0; n < CHAINS && b->pending && b->items; n++)
        for (struct pending *p = s->chains[n]; p && b->bytes < STORE_PACK_SIZE; p = p->next) {
            p->flushing = true;
            b->bytes += p->record.size;
            b->pending[b->count++] = p;
        }
    return b->pending && b->items;
}

static bool write_batch(struct store *s, struct batch *b)
{
    struct store_pack_at at;
    bool ready = true;
    qsort(b->pending, b->count, sizeof *b->pending, by_time);
    for (size_t n = 0; n < b->count; n++) {
        struct store_record *r = &b->pending[n]->record;
        uint8_t *stored = b->pending[n]->data;
        if (r->size)
            ready = ready && store_pack_object(r, b->pending[n]->data, s->compress ? 6 : 0, &stored);
        else
            r->check = store_check(r, NULL);
        b->items[n] = (struct store_item){r, stored};
    }
    errno = ready ? 0 : ENOMEM;
    bool written = ready && store_pack_write(&s->dirs[0], b->items, b->count, &at);
    if (!written)
        store_complain(&s->dirs[0], STORE_TROUBLE, "packs", "cannot be written: %s; new objects stay in memory", strerror(errno));
    for (size_t n = 0; n < b->count; n++)
        if (b->items[n].stored != b->pending[n]->data)
            free((void *)b->items[n].stored);
    return written;
}

/* Where the batch was written, the view gets its pack before it is forgotten here. */
static void end_batch(struct store *s, bool written)
{
    pthread_mutex_lock(&s->lock);
    if (written)
        store_view_refresh(&s->dirs[0], &s->dirs[0].view);
    for (unsigned n = 0; n < CHAINS; n++)
        for (struct pending **at = &s->chains[n]; *at;)
            if ((*at)->flushing && written) {
                drop_pending(s, at);
            } else {
                (*at)->flushing = false;
                at = &(*at)->next;
            }
    pthread_mutex_unlock(&s->lock);
}

static bool flush_pending(struct store *s)
{
    struct batch b;
    bool done = true, more = true;
    while (done && more) {
        pthread_mutex_lock(&s->lock);
        s->flush_at = 0;
        done = take_batch(s, &b);
        pthread_mutex_unlock(&s->lock);
        more = done && b.count;
        if (more) {
            done = write_batch(s, &b);
            end_batch(s, done);
        }
        free(b.pending);
        free(b.items);
    }
    pthread_mutex_lock(&s->lock);
    if (!done)
        s->flush_at = store_now_ms() + RETRY_AFTER_MS;
    pthread_mutex_unlock(&s->lock);
    return done;
}

static void flush_used(struct store *s)
{
    struct store_dir *d = &s->dirs[0];
    pthread_mutex_lock(&s->lock);
    uint64_t *used = d->used;
    unsigned count = d->used_count;
    d->used = NULL;
    d->used_count = 0;
    pthread_mutex_unlock(&s->lock);
    store_used_flush(d, used, count);
    free(used);
}

/* Opening reads the table of each pack that the index does not list; so these are kept few. */
static bool index_is_old(struct store *s)
{
    const struct store_view *v = &s->dirs[0].view;
    pthread_mutex_lock(&s->lock);
    bool old = v->recent.pack_count >= RECENT_PACKS || v->recent.count >= RECENT_OBJECTS + v->index.count / 16;
    pthread_mutex_unlock(&s->lock);
    return old;
}

bool store_flush(struct store *s)
{
    uint64_t gained;
    if (!s->dirs[0].writable)
        return true;
    pthread_mutex_lock(&s->flushing);
    bool done = flush_pending(s);
    flush_used(s);
    if (done && index_is_old(s) && store_maintain(&s->dirs[0], STORE_INDEX, 0, NULL, 0, &gained))
        store_look_again(s);
    pthread_mutex_unlock(&s->flushing);
    return done;
}

/* The earlier of two times, of which 0 is never. */
static uint64_t earlier(uint64_t a, uint64_t b) { return !a || (b && b < a) ? b : a; }

static void wait_until(struct store *s, uint64_t at)
{
    if (at)
        pthread_cond_timedwait(&s->wake, &s->lock, &(struct timespec){(time_t)(at / 1000), (long)(at % 1000) * 1000000});
    else
        pthread_cond_wait(&s->wake, &s->lock);
}

static void *store_thread(void *arg)
{
    struct store *s = arg;
    uint64_t remote_at = 0;
    pthread_mutex_lock(&s->lock);
    while (!s->end) {
        uint64_t now = store_now_ms();
        bool flush = s->flush_at && (now >= s->flush_at || s->pending_bytes >= FLUSH_BYTES);
        bool remote = s->remote && (s->remote_due || now >= remote_at);
        if (!flush && !remote) {
            wait_until(s, earlier(s->flush_at, s->remote ? remote_at : 0));
            continue;
        }
        s->remote_due = false;
        pthread_mutex_unlock(&s->lock);
        if (flush)
            store_flush(s);
        if (remote)
            remote_at = store_remote_work(s->remote);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    if (s->remote)
        store_remote_finish(s->remote);
    return NULL;
}

static uint64_t stored_bytes(struct store *s)
{
    const struct store_view *v = &s->dirs[0].view;
    return v->index.stored_bytes + v->recent.stored_bytes;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->end = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (s->started)
        pthread_join(s->thread, NULL);
    store_flush(s);
    struct store_counts c;
    store_files_count(s, &c);
    if (s->dirs[0].writable && stored_bytes(s) + c.file_bytes > s->max_bytes)
        store_prune(s, s->max_bytes - s->max_bytes / 8); /* not again at each end of a run */
    free_store(s);
}

void store_count(struct store *s, struct store_counts *counts)
{
    pthread_mutex_lock(&s->lock);
    const struct store_view *v = &s->dirs[0].view;
    pthread_mutex_lock(&s->complaining);
    *counts = s->counts;
    pthread_mutex_unlock(&s->complaining);
    counts->objects = v->index.count;
    counts->bytes = v->index.object_bytes;
    counts->stored_bytes = v->index.stored_bytes;
    for (uint32_t n = 0; n < v->recent.count; n++) {
        const struct store_record *r = &v->recent.entries[n].record;
        struct store_at old;
        bool replaces = store_table_find(&v->index, &r->key, &old);
        counts->objects += (r->size != 0) - (uint64_t)replaces;
        counts->bytes += r->size - (replaces ? (uint64_t)old.record.size : 0);
        counts->stored_bytes += r->stored - (replaces ? (uint64_t)old.record.stored : 0);
    }
    store_files_count(s, counts);
    pthread_mutex_unlock(&s->lock);
}
