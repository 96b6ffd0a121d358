/* The remote layer: a Redis server that many hosts share.  The hash "tierce:<head>" has a field for each object of that head, the set
 * "tierce:heads" all heads, so that what is not there costs no question.  Who looks an object up waits for at most one answer; all
 * else is done by the store's own thread.  After an error there is a pause that grows, and the server's loss costs nothing but it. */
#define _GNU_SOURCE
#include "runtime/store_remote.h"
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 200, GET_MS = 50, PUT_MS = 500, HEADS_MS = 2000, HEADS_AFTER_MS = 30000, CLOSE_MS = 1000,
       BACKOFF_MS = 1000, BACKOFF_MAX_MS = 60000, PIPELINE = 32, MAX_HEADS = 1 << 20 };
#define QUEUE_BYTES (32u << 20)

struct queued { struct queued *next; struct store_record record; uint8_t data[]; };
struct hashes { uint64_t *of; size_t count, room /* a power of two */; };
struct store_remote {
    struct store_dir *dir; /* complains */
    char *url;
    struct store_redis_url at;
    pthread_mutex_t lock;  /* all but `put` and what says so; held for the time of an answer */
    struct store_redis get, put;
    bool heads_known;
    struct hashes heads, asked;
    uint64_t heads_at;     /* the thread's; when they were read, ms; 0: not since the connection was made */
    long long heads_there; /* the thread's; how many the server had */
    uint64_t retry_at; unsigned backoff_ms;
    pthread_mutex_t queue_lock;
    struct queued *first, **last;
    size_t queue_bytes;
};

/* --- Sets of hashes; 0 is none */
static bool holds(const struct hashes *h, uint64_t hash)
{
    for (size_t n = hash; h->room && h->of[n & (h->room - 1)]; n++)
        if (h->of[n & (h->room - 1)] == hash)
            return true;
    return false;
}

static void insert(struct hashes *h, uint64_t hash)
{
    size_t n = hash;
    while (h->of[n & (h->room - 1)] && h->of[n & (h->room - 1)] != hash)
        n++;
    h->count += !h->of[n & (h->room - 1)];
    h->of[n & (h->room - 1)] = hash;
}

static bool add(struct hashes *h, uint64_t hash)
{
    if (h->count * 2 >= h->room) {
        struct hashes more = {.room = h->room ? h->room * 2 : 256};
        if (!(more.of = calloc(more.room, sizeof *more.of)))
            return false;
        for (size_t n = 0; n < h->room; n++)
            if (h->of[n])
                insert(&more, h->of[n]);
        free(h->of);
        *h = more;
    }
    insert(h, hash);
    return true;
}

static uint64_t hash_of(const void *head) { return store_hash(head, 16, 0) | 1; }

/* --- Errors */
/* With the lock held. */
static void lost(struct store_remote *r, const char *why)
{
    store_complain(r->dir, STORE_LOST, r->url, "%s", why);
    store_redis_close(&r->get);
    r->backoff_ms = r->backoff_ms ? r->backoff_ms * 2 : BACKOFF_MS;
    if (r->backoff_ms > BACKOFF_MAX_MS)
        r->backoff_ms = BACKOFF_MAX_MS;
    r->retry_at = store_now_ms() + r->backoff_ms;
}

static uint64_t retry_at(struct store_remote *r)
{
    pthread_mutex_lock(&r->lock);
    uint64_t at = r->retry_at;
    pthread_mutex_unlock(&r->lock);
    return at;
}

static void lost_put(struct store_remote *r, const char *why)
{
    pthread_mutex_lock(&r->lock);
    lost(r, why);
    pthread_mutex_unlock(&r->lock);
    store_redis_close(&r->put);
}

static void name_of(const uint64_t head[2], char name[48]) { snprintf(name, 48, "tierce:%016lx%016lx", head[0], head[1]); }

/* --- Getting */
static int by_time(const void *a, const void *b)
{
    const struct store_taken *x = a, *y = b;
    return x->record.time < y->record.time ? -1 : x->record.time > y->record.time;
}

/* A field and its value; nothing of them is believed. */
static bool take(const uint64_t head[2], const redisReply *field, const redisReply *value, struct store_taken *t)
{
    uint8_t *stored;
    if (field->type != REDIS_REPLY_STRING || field->len != 16 || value->type != REDIS_REPLY_STRING || (size_t)value->len < sizeof t->record)
        return false;
    memcpy(&t->record, value->str, sizeof t->record);
    const struct store_record *r = &t->record;
    bool fits = !memcmp(r->key.head, head, 16) && !memcmp(r->key.whole, field->str, 16) && r->size && r->stored && r->stored <= r->size &&
                r->size <= STORE_MAX_OBJECT && r->stored == (size_t)value->len - sizeof *r;
    if (!fits || !(stored = malloc(r->stored)))
        return false;
    memcpy(stored, value->str + sizeof *r, r->stored);
    return (t->data = store_unpack_object(r, stored));
}

size_t store_remote_take(const uint64_t head[2], const redisReply *reply, struct store_taken **taken, unsigned *damaged)
{
    size_t count = 0, pairs = reply->type == REDIS_REPLY_ARRAY ? reply->elements / 2 : 0;
    *taken = calloc(pairs + 1, sizeof **taken);
    *damaged = reply->type != REDIS_REPLY_ARRAY;
    for (size_t n = 0; n < pairs && *taken; n++)
        if (take(head, reply->element[2 * n], reply->element[2 * n + 1], &(*taken)[count]))
            count++;
        else
            ++*damaged;
    if (*taken)
        qsort(*taken, count, sizeof **taken, by_time);
    return count;
}

static redisReply *ask_for(struct store_remote *r, const uint64_t head[2])
{
    char name[48];
    uint64_t deadline = store_now_ms() + GET_MS;
    name_of(head, name);
    const char *words[] = {"HGETALL", name};
    const size_t sizes[] = {7, strlen(name)};
    redisReply *reply = store_redis_send(&r->get, 2, words, sizes, deadline) ? store_redis_receive(&r->get, deadline) : NULL;
    if (!reply)
        lost(r, r->get.error);
    return reply;
}

size_t store_remote_get(struct store_remote *r, const uint64_t head[2], struct store_taken **taken, bool *was_lost)
{
    uint64_t hash = hash_of(head);
    unsigned damaged = 0;
    *taken = NULL;
    pthread_mutex_lock(&r->lock);
    bool ask = r->get.fd >= 0 && (!r->heads_known || holds(&r->heads, hash)) && !holds(&r->asked, hash);
    redisReply *reply = ask && add(&r->asked, hash) ? ask_for(r, head) : NULL;
    *was_lost = ask && !reply;
    pthread_mutex_unlock(&r->lock);
    if (!reply)
        return 0;
    size_t count = store_remote_take(head, reply, taken, &damaged);
    while (damaged--)
        store_complain(r->dir, STORE_DAMAGED_REMOTE, r->url, "has damaged objects");
    freeReplyObject(reply);
    return count;
}

/* --- Putting, on the store's thread */
void store_remote_put(struct store_remote *r, const struct store_record *record, const void *data)
{
    struct queued *q = malloc(sizeof *q + record->size);
    if (!q)
        return;
    q->next = NULL;
    q->record = *record;
    memcpy(q->data, data, record->size);
    pthread_mutex_lock(&r->queue_lock);
    bool fits = r->queue_bytes + record->size <= QUEUE_BYTES; /* while the server is away: the objects are here at least */
    if (fits) {
        *r->last = q;
        r->last = &q->next;
        r->queue_bytes += record->size;
    }
    pthread_mutex_unlock(&r->queue_lock);
    if (!fits)
        free(q);
}

static struct queued *dequeue(struct store_remote *r)
{
    pthread_mutex_lock(&r->queue_lock);
    struct queued *q = r->first;
    if (q) {
        r->first = q->next;
        r->queue_bytes -= q->record.size;
        if (!r->first)
            r->last = &r->first;
    }
    pthread_mutex_unlock(&r->queue_lock);
    return q;
}

static bool send_object(struct store_remote *r, struct queued *q, uint64_t deadline)
{
    char name[48];
    uint8_t *stored;
    if (!store_pack_object(&q->record, q->data, 6, &stored))
        return false;
    char *value = malloc(sizeof q->record + q->record.stored);
    bool sent = value;
    if (value) {
        memcpy(value, &q->record, sizeof q->record);
        memcpy(value + sizeof q->record, stored, q->record.stored);
        name_of(q->record.key.head, name);
        const char *set[] = {"HSET", name, (const char *)q->record.key.whole, value}, *add_head[] = {"SADD", "tierce:heads", (const char *)q->record.key.head};
        const size_t set_sizes[] = {4, strlen(name), 16, sizeof q->record + q->record.stored}, add_sizes[] = {4, 12, 16};
        sent = store_redis_send(&r->put, 4, set, set_sizes, deadline) && store_redis_send(&r->put, 3, add_head, add_sizes, deadline);
    }
    if (stored != q->data)
        free(stored);
    free(value);
    return sent;
}

/* Back to where they were, for another time. */
static void requeue(struct store_remote *r, struct queued *const *of, unsigned count)
{
    pthread_mutex_lock(&r->queue_lock);
    while (count--) {
        of[count]->next = r->first;
        if (!r->first)
            r->last = &of[count]->next;
        r->first = of[count];
        r->queue_bytes += of[count]->record.size;
    }
    pthread_mutex_unlock(&r->queue_lock);
}

/* Some objects in one go; false: the connection is gone, or there was nothing. */
static bool send_some(struct store_remote *r, uint64_t deadline)
{
    struct queued *batch[PIPELINE];
    unsigned count = 0, sent = 0, answered = 0;
    bool good = true;
    while (count < PIPELINE && (batch[count] = dequeue(r)))
        count++;
    for (; good && sent < count; sent += good)
        good = send_object(r, batch[sent], deadline);
    for (; good && answered < 2 * sent; answered++) {
        redisReply *reply = store_redis_receive(&r->put, deadline);
        good = reply && reply->type != REDIS_REPLY_ERROR;
        if (reply && !good)
            snprintf(r->put.error, sizeof r->put.error, "%s", reply->str);
        if (reply)
            freeReplyObject(reply);
    }
    if (!good) {
        requeue(r, batch, count);
        lost_put(r, r->put.error);
        return false;
    }
    for (unsigned n = 0; n < count; n++)
        free(batch[n]);
    return count;
}

static redisReply *ask_of_heads(struct store_remote *r, const char *what)
{
    const char *words[] = {what, "tierce:heads"};
    const size_t sizes[] = {strlen(what), 12};
    uint64_t deadline = store_now_ms() + HEADS_MS;
    redisReply *reply = store_redis_send(&r->put, 2, words, sizes, deadline) ? store_redis_receive(&r->put, deadline) : NULL;
    if (!reply)
        lost_put(r, r->put.error);
    return reply;
}

/* Objects that came to heads which were known can be asked for again, too. */
static void forget_asked(struct store_remote *r)
{
    pthread_mutex_lock(&r->lock);
    free(r->asked.of);
    r->asked = (struct hashes){0};
    pthread_mutex_unlock(&r->lock);
    r->heads_at = store_now_ms();
}

static bool read_heads(struct store_remote *r)
{
    struct hashes heads = {0};
    redisReply *reply = ask_of_heads(r, "SCARD");
    if (!reply)
        return false;
    long long count = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    freeReplyObject(reply);
    if (r->heads_at && count >= 0 && count == r->heads_there) /* heads only ever come */
        return forget_asked(r), true;
    r->heads_there = count;
    reply = count <= MAX_HEADS ? ask_of_heads(r, "SMEMBERS") : NULL; /* too many: each is asked for */
    if (!reply && count <= MAX_HEADS)
        return false;
    bool known = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements <= MAX_HEADS;
    for (size_t n = 0; known && n < reply->elements; n++)
        if (reply->element[n]->type == REDIS_REPLY_STRING && reply->element[n]->len == 16)
            known = add(&heads, hash_of(reply->element[n]->str));
    freeReplyObject(reply);
    pthread_mutex_lock(&r->lock);
    free(r->heads.of);
    r->heads = heads;
    r->heads_known = known;
    pthread_mutex_unlock(&r->lock);
    forget_asked(r);
    return true;
}

static bool connect_both(struct store_remote *r)
{
    struct store_redis get = {.fd = -1};
    store_redis_close(&r->put);
    bool connected = store_redis_connect(&r->put, &r->at, CONNECT_MS) && store_redis_connect(&get, &r->at, CONNECT_MS);
    if (!connected) {
        lost_put(r, *r->put.error ? r->put.error : get.error);
        return false;
    }
    pthread_mutex_lock(&r->lock);
    store_redis_close(&r->get);
    r->get = get;
    r->get.reader->privdata = &r->get; /* it moved */
    r->get.reader->fn = &r->get.functions;
    r->retry_at = 0;
    pthread_mutex_unlock(&r->lock);
    r->heads_at = 0;
    return true;
}

uint64_t store_remote_work(struct store_remote *r)
{
    pthread_mutex_lock(&r->lock);
    uint64_t now = store_now_ms(), wait_until = r->retry_at;
    bool down = r->get.fd < 0;
    pthread_mutex_unlock(&r->lock);
    if (now < wait_until)
        return wait_until;
    if ((down || r->put.fd < 0) && !connect_both(r))
        return retry_at(r);
    if ((!r->heads_at || now >= r->heads_at + HEADS_AFTER_MS) && !read_heads(r))
        return retry_at(r);
    while (send_some(r, store_now_ms() + PUT_MS))
        continue;
    if (r->put.fd < 0)
        return retry_at(r);
    pthread_mutex_lock(&r->lock);
    if (r->get.fd >= 0)
        r->backoff_ms = 0; /* all went well */
    pthread_mutex_unlock(&r->lock);
    return r->heads_at + HEADS_AFTER_MS;
}

/* --- */
struct store_remote *store_remote_open(struct store_dir *d, const char *url, char *error, size_t size)
{
    struct store_remote *r = calloc(1, sizeof *r);
    if (r) {
        *r = (struct store_remote){.dir = d, .url = strdup(url), .get.fd = -1, .put.fd = -1};
        r->last = &r->first;
        pthread_mutex_init(&r->lock, NULL);
        pthread_mutex_init(&r->queue_lock, NULL);
    }
    if (r && r->url && store_redis_parse(url, &r->at)) {
        connect_both(r);
        return r;
    }
    snprintf(error, size, "%s: no address of a remote store; accepted: redis://HOST[:PORT] or redis:///path/of/socket", url);
    store_remote_close(r);
    return NULL;
}

void store_remote_finish(struct store_remote *r)
{
    uint64_t deadline = store_now_ms() + CLOSE_MS;
    while (r->put.fd >= 0 && store_now_ms() < deadline && send_some(r, deadline))
        continue;
}

void store_remote_close(struct store_remote *r)
{
    if (!r)
        return;
    for (struct queued *q; (q = dequeue(r)); free(q))
        continue;
    store_redis_close(&r->get);
    store_redis_close(&r->put);
    free(r->heads.of);
    free(r->asked.of);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->queue_lock);
    free(r->url);
    free(r);
}
