/* Reading: LOCAL bytes from the spool, holes as zeros, everything else in chunks fetched ahead.
 *
 * A chunk is one ranged GET of a pinned version, kept while it may be read again soon. The first of a stream is 1 MiB,
 * the next ones double up to 8 MiB, and several are under way at once; all chunks together stay below half of the memory
 * budget: at the bound the least recently used idle one goes, and a reader that finds none idle still gets the one it
 * waits for. A read that needs a chunk is parked at it.
 *
 * A chunk that somebody waits for much longer than those of its size take at this remote is asked for once more, beside the
 * first request: one slow server of many, or one connection that lost its packets, then costs a moment instead of a time-out.
 * Who answers first is believed, the other is called off. One in twenty requests at most, so that a server that is slow
 * altogether is not asked for twice as much.
 *
 * Chunks of files nobody has opened yet (prefetch.c) are found by key and version; the first read of the file takes them over.
 *
 * The kernel lets 1,024 requests be outstanding that nobody needs at once, of all remotes together, and holds back everybody's
 * beyond that: reads as well as releases. Those of a remote that does not answer must not fill that number (rules F2). So too
 * many of them are turned away. The kernel takes the pages of a read-ahead that failed as not read: who comes to need one asks for
 * it alone, in a request that does not count. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#include "block.h"
#include "log.h"
#include "mem.h"

#define CHUNK_FIRST (1u << 20)
#define CHUNK_MAX (8u << 20)
#define AHEAD_MAX (64u << 20)
#define AHEAD_FILES 4096u

#define HUNG_NS 2000000000LL /* a remote of which no read has got on for so long */
#define HUNG_READS 512u      /* of such remotes together; the kernel slows down at 768 */

/* Bytes of a chunk, of the replies that are made from them, or of one read alone. */
struct shared {
    unsigned refs; /* atomic */
    size_t size;
    uint8_t bytes[];
};

/* A request for a chunk. */
struct fetch {
    struct be_read rd;
    struct work w;
    struct cache *c;
    struct chunk *k; /* NULL: the other one has answered */
    struct extent_source *src;
    struct shared *buf; /* NULL: no memory */
    int64_t begun_ns;
};

struct chunk {
    struct fetch *fetch, *hedge; /* under way */
    struct cfile *f;            /* ref while fetching; NULL: nobody has opened the file yet */
    struct extent_source *src;
    uint64_t src_off;
    uint64_t len;
    struct shared *buf; /* once it is ready */
    bool ready, failed, detached, ahead;
    bool early;                 /* counted in its remote's reads_ahead */
    bool used;                  /* read to its end */
    int64_t ready_ns;
    int status;
    unsigned users;             /* it stays: its waiters take their bytes */
    struct creq *waiters;
    struct chunk *next_of_file;
    struct chunk *lru_prev, *lru_next;
};

/* A read under way. */
struct reading {
    struct creq *r;
    struct cfile *f; /* ref */
    struct shared *buf; /* ref; all of a chunk's bytes, or what this read gathered from several places; NULL = nothing yet */
    const uint8_t *data; /* in there: where the answer begins */
    uint64_t done;
    bool counted; /* while it waits: among its remote's reads_waiting */
};

static struct shared *shared_get(size_t size)
{
    struct shared *b = block_get(sizeof(*b) + size);
    if (b != NULL) {
        b->refs = 1;
        b->size = size;
    }
    return b;
}

static void shared_unref(void *p)
{
    struct shared *b = p;
    if (b != NULL && __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        block_put(b, sizeof(*b) + b->size);
    }
}

static void lru_remove(struct cache *c, struct chunk *k)
{
    if (k->lru_prev != NULL) {
        k->lru_prev->lru_next = k->lru_next;
    } else {
        c->chunk_head = k->lru_next;
    }
    if (k->lru_next != NULL) {
        k->lru_next->lru_prev = k->lru_prev;
    } else {
        c->chunk_tail = k->lru_prev;
    }
    k->lru_prev = k->lru_next = NULL;
}

static void lru_add(struct cache *c, struct chunk *k)
{
    k->lru_prev = c->chunk_tail;
    k->lru_next = NULL;
    if (c->chunk_tail != NULL) {
        c->chunk_tail->lru_next = k;
    } else {
        c->chunk_head = k;
    }
    c->chunk_tail = k;
}

static void chunk_free(struct cache *c, struct chunk *k)
{
    lru_remove(c, k);
    c->chunk_bytes -= k->len;
    extent_source_unref(k->src);
    shared_unref(k->buf);
    free(k);
}

static struct chunk **ahead_of(struct cache *c, const struct extent_source *src)
{
    uint64_t h = 1469598103934665603ULL ^ src->remote;
    for (const char *p = src->key; *p != '\0'; p++) {
        h = (h ^ (uint8_t)*p) * 1099511628211ULL;
    }
    struct chunk **pp = &c->ahead[(h ^ (h >> 32)) % ARRAY_LEN(c->ahead)];
    while (*pp != NULL && !extent_source_same((*pp)->src, src)) {
        pp = &(*pp)->next_of_file;
    }
    return pp;
}

/* Out of the table of what nobody has opened yet; NULL when it is not there. */
static struct chunk *ahead_take(struct cache *c, const struct extent_source *src)
{
    struct chunk **pp = ahead_of(c, src), *k = *pp;
    if (k != NULL) {
        *pp = k->next_of_file;
        c->ahead_bytes -= k->len;
        c->n_ahead--;
    }
    return k;
}

static void chunk_detach(struct cache *c, struct cfile *f, struct chunk *k)
{
    struct chunk **pp = &f->chunks;
    while (*pp != k) {
        pp = &(*pp)->next_of_file;
    }
    *pp = k->next_of_file;
    k->detached = true;
    k->f = NULL;
    if (k->ready && k->users == 0) {
        chunk_free(c, k);
    }
}

/* An idle one. */
static void chunk_drop(struct cache *c, struct chunk *k)
{
    if (k->f != NULL) {
        chunk_detach(c, k->f, k);
    } else {
        ahead_take(c, k->src);
        chunk_free(c, k);
    }
}

void reader_drop(struct cache *c, struct cfile *f)
{
    mutex_assert_held(&c->lock);
    struct chunk *next;
    for (struct chunk *k = f->chunks; k != NULL; k = next) {
        next = k->next_of_file;
        if (k->ready && k->waiters == NULL) {
            chunk_detach(c, f, k);
        }
    }
    f->ra_next = f->ra_window = 0;
}

static bool idle(const struct chunk *k)
{
    return k->ready && k->users == 0 && k->waiters == NULL && !k->detached;
}

/* Makes room for `need` bytes, if it can: what has been read goes first; what has not only for a reader that waits. */
static void trim(struct cache *c, uint64_t need, bool waits)
{
    uint64_t limit = c->opt.memory / 2;
    for (int unread = 0; unread <= waits; unread++) {
        struct chunk *next;
        for (struct chunk *k = c->chunk_head; k != NULL && c->chunk_bytes + need > limit; k = next) {
            next = k->lru_next;
            if (idle(k) && (k->used || unread)) {
                chunk_drop(c, k);
            }
        }
    }
}

void reader_forget_ahead(struct cache *c, int64_t before_ns)
{
    for (size_t i = 0; i < ARRAY_LEN(c->ahead); i++) {
        struct chunk *next;
        for (struct chunk *k = c->ahead[i]; k != NULL; k = next) {
            next = k->next_of_file;
            if (k->ready && k->ready_ns < before_ns) {
                chunk_drop(c, k);
            }
        }
    }
}

static void reading_step(struct cache *c, struct reading *rd);
static void reading_end(struct cache *c, struct reading *rd, int status);

static bool is_hung(const struct cident *id, int64_t now)
{
    return id->reads_waiting > 0 && now - id->read_moved_ns >= HUNG_NS;
}

static unsigned hung_reads(const struct cache *c, int64_t now)
{
    unsigned n = 0;
    for (const struct cident *id = c->idents; id != NULL; id = id->next) {
        n += is_hung(id, now) ? id->reads_waiting : 0;
    }
    return n;
}

/* A read that fails may come again from who needs the bytes. */
static void remember_failed(struct cfile *f, const struct creq *r)
{
    (void)extent_set(&f->turned_away, r->offset, r->size, EXT_LOCAL, NULL, 0);
}

static bool has_failed(const struct cfile *f, const struct creq *r)
{
    const struct extent_map *m = &f->turned_away;
    const struct extent *e = extent_find(m, r->offset);
    while (e != NULL && e->off < r->offset + r->size) {
        if (e->kind == EXT_LOCAL) {
            return true;
        }
        e = extent_find(m, e->off + e->len);
    }
    return false;
}

/* False: it has to wait. True: it has ended. */
static bool turn_away(struct cache *c, struct reading *rd)
{
    if (!rd->r->read_ahead || has_failed(rd->f, rd->r)) {
        return false;
    }
    remember_failed(rd->f, rd->r);
    reading_end(c, rd, -EAGAIN);
    return true;
}

/* A read that would have to wait for a remote: true when it has ended instead. */
static bool one_too_many(struct cache *c, const struct extent_source *src, struct reading *rd)
{
    const struct cident *id = ident_find(c, src->remote);
    int64_t now = time_mono_ns();
    return id != NULL && is_hung(id, now) && hung_reads(c, now) >= HUNG_READS && turn_away(c, rd);
}

/* ---- how long chunks take, and which take too long ---- */

#define HEDGE_AFTER_NS 200000000LL /* at least */
#define HEDGE_SAMPLES 8u
#define HEDGE_COST 20u    /* chunks that have come, for each hedge */
#define HEDGE_CREDIT 80u

static struct read_time *time_of(struct cident *id, uint64_t len)
{
    size_t i = 0;
    for (len >>= 18; len > 0 && i + 1 < ARRAY_LEN(id->read_times); len >>= 1) {
        i++;
    }
    return &id->read_times[i];
}

/* Mean and deviation as RFC 6298 keeps those of round trips. */
static void learn_time(struct cident *id, uint64_t len, int64_t took_ns)
{
    struct read_time *t = time_of(id, len);
    if (t->n++ == 0) {
        t->mean_ns = took_ns;
        t->dev_ns = took_ns / 2;
    } else {
        int64_t off = took_ns - t->mean_ns;
        t->dev_ns += ((off < 0 ? -off : off) - t->dev_ns) / 4;
        t->mean_ns += off / 8;
    }
    id->hedge_credit = MIN(id->hedge_credit + 1, HEDGE_CREDIT);
}

/* From when on it takes too long; INT64_MAX: nobody can tell, or it has been asked for twice. */
static int64_t slow_from(struct cident *id, const struct chunk *k)
{
    const struct read_time *t = time_of(id, k->len);
    if (k->waiters == NULL || k->fetch == NULL || k->hedge != NULL || t->n < HEDGE_SAMPLES || id->hedge_credit < HEDGE_COST) {
        return INT64_MAX;
    }
    return k->fetch->begun_ns + MAX(HEDGE_AFTER_NS, t->mean_ns + 4 * t->dev_ns);
}

/* The scheduler is to look at it in time. */
static void hedge_when(struct cache *c, struct cident *id, const struct chunk *k)
{
    int64_t at = id != NULL ? slow_from(id, k) : INT64_MAX;
    if (at < c->hedge_ns) {
        c->hedge_ns = at;
        if (at < c->wake_ns) {
            cache_kick_locked(c);
        }
    }
}

static void chunk_wait(struct cache *c, struct chunk *k, struct reading *rd)
{
    struct cident *id = ident_find(c, k->src->remote);
    struct creq *r = rd->r;
    rd->counted = id != NULL && !(r->read_ahead && has_failed(rd->f, r)); /* as the kernel does; a page alone may be either */
    if (rd->counted && id->reads_waiting++ == 0) {
        id->read_moved_ns = time_mono_ns();
    }
    r->next = k->waiters;
    r->priv = rd;
    k->waiters = r;
    hedge_when(c, id, k);
}

/* What has come since the kernel's number was full waits in the kernel: the newest of ours go first, down to the bound. */
void reader_hung(struct cache *c)
{
    mutex_assert_held(&c->lock);
    int64_t now = time_mono_ns();
    unsigned n = hung_reads(c, now), before = n;
    for (struct chunk *k = n > HUNG_READS ? c->chunk_tail : NULL; k != NULL && n > HUNG_READS; k = k->lru_prev) {
        struct cident *id = ident_find(c, k->src->remote);
        struct creq **pp = &k->waiters;
        while (id != NULL && is_hung(id, now) && *pp != NULL && n > HUNG_READS) {
            struct creq *next = (*pp)->next;
            if (turn_away(c, (*pp)->priv)) {
                *pp = next;
                id->reads_waiting--;
                n--;
            } else {
                pp = &(*pp)->next;
            }
        }
    }
    if (n < before) {
        log_limited(LOG_LEVEL_WARN, "read", "hung", 60000,
                    "event=hung reads=%u: a server does not answer; %u reads ahead of what is needed are given up, to keep other remotes going",
                    before, before - n);
    }
}

#define STALE_TRIES 1000 /* one a scheduler round, 2 ms at least */

void reader_stale(struct cache *c)
{
    struct creq *list = c->stale_reads, *next;
    c->stale_reads = NULL;
    for (struct creq *r = list; r != NULL; r = next) {
        next = r->next;
        reading_step(c, r->priv);
    }
}

static void fetch_free(struct cache *c, struct fetch *t)
{
    be_read_fini(&t->rd);
    extent_source_unref(t->src);
    shared_unref(t->buf);
    free(t);
    cache_async_end_locked(c);
}

/* One of two requests for a chunk is over and says nothing: the other one has answered, or still may. */
static void fetch_beside(struct cache *c, struct fetch *t)
{
    c->chunk_bytes -= t->rd.len;
    fetch_free(c, t);
}

static void fetch_done(struct be_op *op)
{
    struct fetch *t = op->owner;
    struct cache *c = t->c;
    cache_lock(c);
    struct chunk *k = t->k; /* the other one may take it away until here */
    if (k == NULL) {
        fetch_beside(c, t);
        cache_unlock(c);
        return;
    }
    struct fetch *other = t == k->hedge ? k->fetch : k->hedge;
    k->fetch = other; /* if it goes on alone */
    k->hedge = NULL;
    k->status = op->status;
    if (op->status == 0 && t->rd.got != k->len) {
        k->status = -EIO; /* the version is as long as its listing said, or it is not that version */
    }
    if (other != NULL && k->status != 0) {
        fetch_beside(c, t);
        cache_unlock(c);
        return;
    }
    if (other != NULL) {
        other->k = NULL;
        be_cancel(&other->rd.op);
        k->fetch = NULL;
    }
    k->buf = t->buf;
    t->buf = NULL;
    struct cfile *f = k->f;
    if (k->status != 0 && f == NULL) {
        k->failed = true; /* nobody asked for it; who does hears the reason */
    } else if (k->status != 0) {
        char line[512];
        log_limited(LOG_LEVEL_WARN, "read", k->src->key, 5000, "key=%s offset=%llu: %s", k->src->key,
                    (unsigned long long)k->src_off,
                    op->status != 0 ? err_format(&op->err, line, sizeof(line)) : "fewer bytes than the object has");
        k->status = op->status != 0 && op->err.cls == ERR_PRECOND ? -ESTALE : -EIO;
        if (op->status != 0 && (op->err.cls == ERR_AUTH || op->err.cls == ERR_ARCHIVED)) {
            k->status = -EACCES;
        }
        k->failed = true;
    }
    k->ready = true;
    k->ready_ns = time_mono_ns();
    /* Our own commit may just have replaced the version: then the file means the new one, now or in a moment. */
    struct cident *id = ident_find(c, k->src->remote);
    const struct ckey *slot = id != NULL ? key_find(c, id, k->src->key) : NULL;
    bool ours = k->status == -ESTALE && slot != NULL &&
                (slot->state == FS_COMMITTING || slot->state == FS_UNKNOWN ||
                 (slot->base.known && slot->base.exists && strcmp(slot->base.o.etag, k->src->etag) != 0));
    struct creq *waiters = k->waiters, *next;
    k->waiters = NULL;
    struct creq *again = NULL;
    if (!k->failed && id != NULL) {
        id->read_moved_ns = k->ready_ns;
        learn_time(id, k->len, k->ready_ns - t->begun_ns);
    }
    for (struct creq *r = waiters; r != NULL; r = next) {
        next = r->next;
        if (((struct reading *)r->priv)->counted) {
            id->reads_waiting--;
        }
        if (k->failed && k->early) {
            r->next = again; /* the guess failed; now somebody wants it */
            again = r;
        } else if (k->failed && ours && r->state++ < STALE_TRIES) {
            r->next = c->stale_reads;
            c->stale_reads = r;
            cache_kick_locked(c);
        } else if (k->failed) {
            struct reading *rd = r->priv;
            remember_failed(rd->f, r);
            shared_unref(rd->buf);
            file_unref(c, rd->f);
            free(rd);
            creq_end_locked(c, r, k->status);
        } else {
            r->next = again;
            again = r;
        }
    }
    k->users++; /* stays while the waiters take their bytes */
    for (struct creq *r = again; r != NULL; r = next) {
        next = r->next;
        reading_step(c, r->priv);
    }
    k->users--;
    bool early = k->early, failed = k->failed;
    if (k->detached) {
        if (k->users == 0) {
            chunk_free(c, k);
        }
    } else if (k->f == NULL) {
        if (k->failed) {
            chunk_drop(c, k);
        }
    } else if (k->failed || k->f->opens == 0) {
        chunk_detach(c, k->f, k);
    }
    if (f != NULL) {
        file_unref(c, f);
    }
    if (early) {
        id->reads_ahead--;
        if (failed) {
            prefetch_failed(c, id);
        }
        prefetch_more(c, id);
    }
    fetch_free(c, t);
    cache_unlock(c);
}

static void fetch_run(struct work *w)
{
    struct fetch *t = CONTAINER_OF(w, struct fetch, w);
    struct be *be = NULL;
    cache_lock(t->c);
    const struct chunk *k = t->k;
    if (k != NULL) { /* else it is called off already */
        const struct cident *id = ident_find(t->c, t->src->remote);
        be = id != NULL ? id->be : NULL;
        t->rd.op.lane = k->early ? BE_LANE_SMALL : k->ahead && t != k->hedge ? BE_LANE_BIG : BE_LANE_FOREGROUND;
        t->begun_ns = time_mono_ns();
    }
    cache_unlock(t->c);
    if (be == NULL || t->buf == NULL) {
        t->rd.op.status = t->buf == NULL ? -ENOMEM : -EIO;
        err_set(&t->rd.op.err, ERR_LOCAL, -EIO, "%s", t->buf == NULL ? "no memory" : "its remote is not mounted");
        fetch_done(&t->rd.op);
        return;
    }
    be_read(be, &t->rd);
}

static struct fetch *fetch_start(struct cache *c, struct chunk *k)
{
    struct fetch *t = mem_zalloc(sizeof(*t));
    t->c = c;
    t->k = k;
    t->src = extent_source_ref(k->src);
    t->buf = shared_get(k->len);
    t->begun_ns = time_mono_ns();
    t->rd.op.key = t->src->key;
    t->rd.if_match = t->src->etag[0] != '\0' ? t->src->etag : NULL;
    t->rd.version_id = t->src->version_id[0] != '\0' ? t->src->version_id : NULL;
    t->rd.offset = k->src_off;
    t->rd.len = (size_t)k->len;
    t->rd.buf = t->buf != NULL ? t->buf->bytes : NULL;
    t->rd.op.owner = t;
    t->rd.op.done = fetch_done;
    c->chunk_bytes += k->len;
    cache_async_begin_locked(c);
    t->w.run = fetch_run;
    pool_submit(c->workers, &t->w);
    return t;
}

int64_t reader_hedge(struct cache *c, int64_t now)
{
    mutex_assert_held(&c->lock);
    if (now < c->hedge_ns) {
        return c->hedge_ns;
    }
    c->hedge_ns = INT64_MAX;
    for (struct chunk *k = c->chunk_head; k != NULL; k = k->lru_next) {
        struct cident *id = k->waiters != NULL ? ident_find(c, k->src->remote) : NULL;
        int64_t at = id != NULL ? slow_from(id, k) : INT64_MAX;
        if (at <= now && c->chunk_bytes + k->len <= c->opt.memory / 2) {
            log_debug("read", "event=hedged key=%s offset=%llu waited_ms=%lld", k->src->key, (unsigned long long)k->src_off,
                      (long long)((now - k->fetch->begun_ns) / 1000000));
            id->hedge_credit -= HEDGE_COST;
            k->hedge = fetch_start(c, k);
        } else if (at > now) {
            c->hedge_ns = MIN(c->hedge_ns, at);
        }
    }
    return c->hedge_ns;
}

/* f NULL: of a file nobody has opened yet. */
static struct chunk *chunk_start(struct cache *c, struct cfile *f, struct extent_source *src, uint64_t src_off,
                                 uint64_t len, bool ahead)
{
    trim(c, len, !ahead);
    struct chunk *k = mem_zalloc(sizeof(*k));
    k->f = f != NULL ? file_ref(f) : NULL;
    k->early = f == NULL;
    k->src = extent_source_ref(src);
    k->src_off = src_off;
    k->len = len;
    k->ahead = ahead;
    struct chunk **list = f != NULL ? &f->chunks : ahead_of(c, src);
    k->next_of_file = *list;
    *list = k;
    lru_add(c, k);
    k->fetch = fetch_start(c, k);
    return k;
}

static struct chunk *chunk_find(struct cfile *f, const struct extent_source *src, uint64_t off)
{
    for (struct chunk *k = f->chunks; k != NULL; k = k->next_of_file) {
        if (off >= k->src_off && off < k->src_off + k->len && !k->failed &&
            (k->src == src || extent_source_same(k->src, src))) {
            return k;
        }
    }
    return NULL;
}

bool reader_fetch_ahead(struct cache *c, struct cident *id, struct extent_source *src)
{
    mutex_assert_held(&c->lock);
    if (*ahead_of(c, src) != NULL) {
        return true;
    }
    trim(c, src->size, false);
    if (id->be == NULL || id->reads_ahead >= id->conf->small_slots * 2 || c->n_ahead >= AHEAD_FILES ||
        c->ahead_bytes + src->size > c->opt.memory / 4 || c->chunk_bytes + src->size > c->opt.memory / 2) {
        return false;
    }
    id->reads_ahead++;
    c->ahead_bytes += src->size;
    c->n_ahead++;
    chunk_start(c, NULL, src, 0, src->size, true);
    return true;
}

/* The first read of a file: what was fetched before it was opened is the file's now. */
static struct chunk *ahead_adopt(struct cache *c, struct cfile *f, const struct extent_source *src)
{
    struct chunk *k = ahead_take(c, src);
    if (k != NULL) {
        k->f = k->ready ? f : file_ref(f);
        k->next_of_file = f->chunks;
        f->chunks = k;
    }
    return k;
}

/* What an extent's byte at `off` is in its source, and how far the source goes on in one piece. */
static struct extent_source *locate(struct cfile *f, const struct extent *e, uint64_t off, uint64_t *src_off, uint64_t *end)
{
    if (e->kind == EXT_BASE) {
        *src_off = off;
        *end = e->off + e->len;
        return f->base;
    }
    *src_off = e->src_off + (off - e->off);
    *end = e->src_off + e->len;
    return e->src;
}

/* Keeps fetches under way ahead of a sequential reader. */
static void read_ahead(struct cache *c, struct cfile *f, uint64_t pos)
{
    if (f->ra_window == 0) {
        return; /* no stream: its chunks were dropped since, or it never was one */
    }
    f->ra_next = MAX(f->ra_next, pos);
    uint64_t ahead = MIN((uint64_t)AHEAD_MAX, c->opt.memory / 4);
    ahead = MIN(ahead, f->ra_window * 8);
    while (f->ra_next < f->map.size && f->ra_next < pos + ahead) {
        const struct extent *e = extent_find(&f->map, f->ra_next);
        if (e->kind != EXT_BASE && e->kind != EXT_REMOTE) {
            f->ra_next = e->off + e->len;
            continue;
        }
        uint64_t so, end;
        struct extent_source *src = locate(f, e, f->ra_next, &so, &end);
        uint64_t len = MIN(f->ra_window, end - so);
        if (chunk_find(f, src, so) == NULL) {
            trim(c, len, false);
            if (c->chunk_bytes + len > c->opt.memory / 2) {
                return;
            }
            chunk_start(c, f, src, so, len, true);
        }
        f->ra_next += len;
        f->ra_window = MIN(f->ra_window * 2, (uint64_t)CHUNK_MAX);
    }
}

struct local_read {
    struct work w;
    struct cache *c;
    struct reading *rd;
};

/* Ends a read. Under the lock; the reply comes after it. The buffer lives until the reply has been given. */
static void reading_end(struct cache *c, struct reading *rd, int status)
{
    struct creq *r = rd->r;
    r->done_bytes = status == 0 ? rd->done : 0;
    r->data = rd->data;
    r->buf = rd->buf;
    r->buf_free = shared_unref;
    file_unref(c, rd->f);
    free(rd);
    creq_end_locked(c, r, status);
}

/* Room for the answer, of its own. False: the read has ended, there is no memory. */
static bool reading_room(struct cache *c, struct reading *rd)
{
    if (rd->buf != NULL) {
        return true;
    }
    rd->buf = shared_get(rd->r->size);
    if (rd->buf == NULL) {
        reading_end(c, rd, -ENOMEM);
        return false;
    }
    rd->data = rd->buf->bytes;
    return true;
}

/* A chunk that has the whole answer is answered from as it is. False as above. */
static bool reading_take(struct cache *c, struct reading *rd, struct chunk *k, uint64_t src_off, uint64_t n)
{
    const uint8_t *from = k->buf->bytes + (src_off - k->src_off);
    if (rd->buf == NULL && n == rd->r->size) {
        __atomic_add_fetch(&k->buf->refs, 1, __ATOMIC_RELAXED);
        rd->buf = k->buf;
        rd->data = from;
    } else if (!reading_room(c, rd)) {
        return false;
    } else {
        memcpy(rd->buf->bytes + rd->done, from, n);
    }
    rd->done += n;
    return true;
}

static void reading_step(struct cache *c, struct reading *rd)
{
    mutex_assert_held(&c->lock);
    struct cfile *f = rd->f;
    struct creq *r = rd->r;
    while (rd->done < r->size) {
        uint64_t pos = r->offset + rd->done;
        const struct extent *e = extent_find(&f->map, pos);
        if (e == NULL) {
            break; /* the end of the file */
        }
        uint64_t n = MIN(e->off + e->len - pos, r->size - rd->done);
        if ((e->kind == EXT_HOLE || e->kind == EXT_LOCAL) && !reading_room(c, rd)) {
            return;
        }
        if (e->kind == EXT_HOLE) {
            memset(rd->buf->bytes + rd->done, 0, n);
            rd->done += n;
        } else if (e->kind == EXT_PART) {
            reading_end(c, rd, -EIO); /* those bytes are at the provider, in an upload not yet complete */
            return;
        } else if (e->kind == EXT_LOCAL) {
            uint64_t id = f->spool_id;
            f->io_users++;
            mutex_unlock(&c->lock);
            ssize_t got = spool_read(c->spool, id, rd->buf->bytes + rd->done, n, pos);
            mutex_lock(&c->lock);
            f->io_users--;
            if (got != (ssize_t)n) {
                if (f->spool_id != id) {
                    continue; /* truncated or evicted meanwhile: look again */
                }
                reading_end(c, rd, -EIO);
                return;
            }
            rd->done += n;
        } else {
            uint64_t so, end;
            struct extent_source *src = locate(f, e, pos, &so, &end);
            struct chunk *k = chunk_find(f, src, so);
            if (k == NULL && pos == 0 && so == 0) {
                k = ahead_adopt(c, f, src);
                if (f->at != NULL) {
                    prefetch_read(c, f->at);
                }
            }
            if ((k == NULL || !k->ready) && one_too_many(c, src, rd)) {
                return;
            }
            if (k == NULL) {
                bool sequential = pos == 0 || (f->ra_next != 0 && pos <= f->ra_next && pos + CHUNK_MAX >= f->ra_next);
                if (sequential) {
                    f->ra_window = f->ra_window == 0 ? CHUNK_FIRST : f->ra_window;
                } else {
                    f->ra_window = MAX(r->size, 128u << 10);
                }
                uint64_t len = MIN(MAX(f->ra_window, n), end - so);
                k = chunk_start(c, f, src, so, len, false);
                f->ra_next = MAX(pos + len, sequential ? f->ra_next : 0);
                f->ra_window = MIN(f->ra_window * 2, (uint64_t)CHUNK_MAX);
            }
            if (!k->ready) {
                if (pos > 0) {
                    read_ahead(c, f, pos);
                }
                chunk_wait(c, k, rd);
                return;
            }
            n = MIN(n, k->src_off + k->len - so);
            if (!reading_take(c, rd, k, so, n)) {
                return;
            }
            k->used = k->used || so + n == k->src_off + k->len;
            lru_remove(c, k);
            lru_add(c, k);
            read_ahead(c, f, pos + n);
        }
    }
    reading_end(c, rd, 0);
}

void reader_read(struct cache *c, struct creq *r, struct cfile *f)
{
    cache_lock(c);
    if (f->lost) {
        creq_end_locked(c, r, -EIO);
        cache_unlock(c);
        return;
    }
    uint64_t size = r->offset >= f->map.size ? 0 : MIN(r->size, f->map.size - r->offset);
    if (size == 0) {
        r->done_bytes = 0;
        r->data = NULL;
        creq_end_locked(c, r, 0);
        cache_unlock(c);
        return;
    }
    struct reading *rd = mem_zalloc(sizeof(*rd));
    rd->r = r;
    r->size = size;
    rd->f = file_ref(f);
    r->priv = rd;
    reading_step(c, rd);
    cache_unlock(c);
}
