/* From a due slot to a plan: which facts are needed, where they come from, and what each failure means.
 *
 * Ends of a transfer, all through xfer_end:
 *   accepted   commit.c: CLEAN, or DIRTY when content moved on meanwhile
 *   called off content was superseded before the commit request: back to DIRTY, parts kept for whoever wants the same bytes
 *   failed     before the commit request: DIRTY with a later due time, or BLOCKED when trying again cannot help
 *   unknown    after it: UNKNOWN, and a look at the provider decides */
#include "xfer.h"

#include <errno.h>
#include <string.h>

#include "kill.h"
#include "log.h"
#include "mem.h"

#define RETRY_MIN_NS 1000000000LL
#define RETRY_MAX_NS 30000000000LL /* after a provider's bad half hour its files are not idle for much longer */
#define INTEGRITY_TRIES 3
#define BROKEN_TRIES 20 /* in a row, some eight minutes: what breaks off that often is no accident of the line */

static void run_next(struct work *w)
{
    struct xfer *x = CONTAINER_OF(w, struct xfer, w);
    KILL_POINT("transfer: before a step");
    x->next(x);
}

void xfer_next(struct xfer *x, void (*fn)(struct xfer *x))
{
    x->next = fn;
    x->w.run = run_next;
    pool_submit(x->c->workers, &x->w);
}

int64_t xfer_backoff(unsigned tries)
{
    return MIN(RETRY_MIN_NS << MIN(MAX(tries, 1u) - 1, 6u), RETRY_MAX_NS);
}

void upload_fini(struct cupload *u)
{
    free(u->id);
    free(u->tag);
    free(u->parts);
    memset(u, 0, sizeof(*u));
}

bool upload_unknown(const struct cupload *u)
{
    return u->id != NULL && u->id[0] == '?';
}

void upload_drop(struct cache *c, struct ckey *k)
{
    mutex_assert_held(&c->lock);
    if (k->up.id == NULL) {
        upload_fini(&k->up);
        return;
    }
    orphan_abort(c, k->ident, k->key, k->up.id);
    upload_fini(&k->up);
    struct jtx *tx = jtx_new();
    jtx_parts_delete(tx, k->ident->id, k->key);
    journal_submit(c->journal, tx, 0, NULL, NULL);
}

/* ---- life ---- */

void xfer_hold(struct xfer *x)
{
    mutex_assert_held(&x->c->lock);
    x->outstanding++;
}

bool xfer_stopped(const struct xfer *x)
{
    return x->failed || x->called_off;
}

void xfer_fail(struct xfer *x, const struct errinfo *err)
{
    mutex_assert_held(&x->c->lock);
    if (!x->failed && !x->called_off) { /* the end of what nobody wants any more delays nothing */
        x->failed = true;
        x->err = *err;
    }
}

static void xfer_free(struct xfer *x)
{
    parts_free(x);
    if (x->gather != NULL) {
        gather_fini(x->gather);
        free(x->gather);
    }
    plan_fini(&x->plan);
    jledger_fini(&x->led);
    buf_fini(&x->segments);
    extent_fini(&x->map);
    extent_source_unref(x->whole);
    extent_source_unref(x->snap_base);
    extent_source_unref(x->base);
    kv_fini(&x->meta);
    kv_fini(&x->src_meta);
    be_stat_fini(&x->stat);
    free(x->list.parts);
    free(x->ids);
    free(x->buf);
    free(x);
}

static void memory_unwait(struct xfer *x)
{
    struct cache *c = x->c;
    struct xfer **pp = &c->mem_waiters;
    while (*pp != x) {
        pp = &(*pp)->mem_next;
    }
    *pp = x->mem_next;
    if (c->mem_waiters_tail == &x->mem_next) {
        c->mem_waiters_tail = pp;
    }
    x->mem_waiting = false;
}

/* Where it counts. A stream takes nobody's place: it may wait for its writer for ever, and that one for room. */
static unsigned *lane_of(const struct xfer *x)
{
    return x->stream ? &x->id->streams : x->big ? &x->id->in_flight_big : &x->id->in_flight_small;
}

/* Takes the transfer off its slot. Locked; x is gone after it. */
static void xfer_end(struct xfer *x)
{
    struct cache *c = x->c;
    struct ckey *k = x->k;
    ENSURE(x->outstanding == 0 && k->x == x);
    if (x->mem_waiting) { /* for a part that is not sent any more, another having failed */
        memory_unwait(x);
    }
    k->x = NULL;
    pause_ends(x);
    k->pins--;
    c->active_xfers--;
    --*lane_of(x);
    if (x->mem > 0) {
        memory_give(c, x->mem);
    }
    if (x->f != NULL) {
        file_unpark(c, x->f, false); /* what waited for a stream's commit */
        file_unref(c, x->f);
    }
    xfer_free(x);
    key_drop_if_idle(c, k);
    cache_async_end_locked(c);
    cache_kick_locked(c);
}

/* Who does not answer is asked for as long as it takes. Whose answers break off, or make no sense, again and again, will go on so (it
 * promises a length, say, that it does not have): then the bytes are not what was promised. */
static void count_broken(struct ckey *k, struct errinfo *err)
{
    bool broken = err->cls == ERR_TRANSIENT && err->http_status / 100 == 2;
    k->broken = !broken ? 0 : k->tries == 0 ? 1 : k->broken + 1;
    if (k->broken >= BROKEN_TRIES) {
        err_set(err, ERR_INTEGRITY, -EIO, "%s; it was so %u times in a row", err->message, k->broken);
    }
}

/* Nothing changed at the provider: wait and start anew, or give up. Locked. */
static void end_failed(struct xfer *x)
{
    struct cache *c = x->c;
    struct ckey *k = x->k;
    struct errinfo err = x->err;
    int64_t now = time_mono_ns();
    bool final;
    count_broken(k, &err);
    switch (err.cls) {
    case ERR_TRANSIENT:
    case ERR_THROTTLED:
    case ERR_SKEW:
    case ERR_CANCELED:
        final = false;
        break;
    case ERR_INTEGRITY:
        final = k->tries + 1 >= INTEGRITY_TRIES;
        break;
    case ERR_PRECOND:
        /* The source changed under a whole-object copy: start over from its new version, a few times. */
        final = x->whole == NULL || k->tries + 1 >= INTEGRITY_TRIES;
        break;
    case ERR_ABSENT:
        final = strcmp(err.code, "NoSuchUpload") != 0;
        if (!final && x->stream && extent_has(&x->f->map, EXT_PART)) {
            final = true;
            x->f->lost = true;
            err_set(&err, ERR_LOCAL, -EIO, "LOST: the provider dropped the upload that held the file's parts");
        } else if (!final) {
            upload_drop(c, k);
        }
        break;
    case ERR_LOCAL:
        final = !x->local_failed;
        break;
    default:
        final = true;
    }
    if (k->state == FS_REDIRTIED) {
        final = false; /* newer content decides for itself */
    }
    if (final && pause_refused(x, &err)) {
        return;
    }
    if (final) {
        key_refused(c, k, FE_REFUSED, &err);
    } else {
        k->err = err;
        k->tries++;
        int64_t wait = MAX(xfer_backoff(k->tries), (int64_t)err.retry_after_ms * 1000000LL);
        key_event(c, k, FE_PART_FAILED, err.message);
        k->due_ns = now + wait;
        char line[512];
        log_limited(err.cls == ERR_CANCELED ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "upload", x->id->name, 5000, "remote=%s key=%s try=%u again in %lld s: %s", x->id->name, k->key, k->tries,
                    (long long)(wait / 1000000000), err_format(&err, line, sizeof(line)));
    }
}

static void settle_locked(struct xfer *x)
{
    struct ckey *k = x->k;
    if (x->ended) {
        xfer_end(x);
        return;
    }
    ENSURE(k->state == FS_UPLOADING || k->state == FS_REDIRTIED);
    if (!x->failed && k->state == FS_UPLOADING) {
        key_event(x->c, k, FE_CHANGE, "changed while it was read");
    }
    if (x->failed && x->err.cls == ERR_PRECOND && x->whole != NULL && k->state == FS_UPLOADING && x->f->at == k &&
        extent_whole_remote(&x->f->map) != NULL) {
        struct cident *sid = ident_find(x->c, x->whole->remote);
        struct ckey *s = sid != NULL ? key_find(x->c, sid, x->whole->key) : NULL;
        if (s != NULL && s->state == FS_CLEAN && s->base.known && s->base.exists &&
            strcmp(s->base.o.etag, x->whole->etag) != 0) {
            struct extent_source *fresh = extent_source_new(sid->id, s->key, &s->base.o);
            extent_truncate(&x->f->map, 0);
            extent_set(&x->f->map, 0, fresh->size, EXT_REMOTE, fresh, 0);
            extent_source_unref(fresh);
            file_touch(x->f, true);
            file_relink(x->c, x->f);
        }
    }
    if (x->failed) {
        end_failed(x);
    } else {
        key_event(x->c, k, FE_CALLED_OFF, "superseded");
        key_due(x->c, k, MAX(k->due_ns, time_mono_ns()));
    }
    xfer_end(x);
}

void xfer_drop(struct xfer *x)
{
    mutex_assert_held(&x->c->lock);
    ENSURE(x->outstanding > 0);
    if (--x->outstanding == 0 && xfer_stopped(x)) {
        if (x->failed && x->err.cls == ERR_PRECOND && x->whole != NULL && !x->called_off && !x->headed_source) {
            /* learn the source's new version before starting over */
            struct cident *sid = ident_find(x->c, x->whole->remote);
            if (sid != NULL && sid->be != NULL) {
                x->headed_source = true;
                x->outstanding++;
                xfer_next(x, xfer_refresh_source);
                return;
            }
        }
        settle_locked(x);
    }
}

static void refreshed(void *ctx, int status)
{
    struct xfer *x = ctx;
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    cache_lock(c);
    if (status == -ENOENT) {
        err_set(&x->err, ERR_ABSENT, -ENOENT, "the source %s is gone", x->whole->key);
    }
    xfer_drop(x);
    cache_unlock(c);
}

void xfer_refresh_source(struct xfer *x)
{
    cache_lock(x->c);
    struct cident *sid = ident_find(x->c, x->whole->remote);
    cache_unlock(x->c);
    key_head(x->c, sid, x->whole->key, refreshed, x);
}

void xfer_call_off(struct cache *c, struct ckey *k)
{
    mutex_assert_held(&c->lock);
    struct xfer *x = k->x;
    if (x == NULL || x->called_off) {
        return;
    }
    x->called_off = true;
    if (x->mem_waiting) {
        memory_unwait(x);
        parts_wake(x);
    }
    if (x->outstanding == 0) {
        /* waiting for a reader to go, or for a stream to grow: nothing else will end it */
        xfer_hold(x);
        xfer_drop(x);
    }
}

void memory_wait(struct xfer *x)
{
    if (!x->mem_waiting) {
        x->mem_waiting = true;
        x->mem_next = NULL;
        *x->c->mem_waiters_tail = x;
        x->c->mem_waiters_tail = &x->mem_next;
    }
}

bool memory_take(struct cache *c, uint64_t n)
{
    if (c->mem_used > 0 && c->mem_used + n > c->opt.memory / 2) {
        return false;
    }
    if (c->opt.bwlimit != 0) {
        int64_t now = time_mono_ns();
        if (c->bw_free_ns > now) {
            return false; /* the scheduler wakes who waits */
        }
        c->bw_free_ns = now + (int64_t)((double)n * 1e9 / (double)c->opt.bwlimit);
    }
    c->mem_used += n;
    return true;
}

void memory_give(struct cache *c, uint64_t n)
{
    ENSURE(c->mem_used >= n);
    c->mem_used -= n;
    xfer_memory_freed(c);
}

void xfer_memory_freed(struct cache *c)
{
    struct xfer *list = c->mem_waiters, *next;
    c->mem_waiters = NULL;
    c->mem_waiters_tail = &c->mem_waiters;
    for (struct xfer *x = list; x != NULL; x = next) {
        next = x->mem_next;
        x->mem_waiting = false;
        parts_wake(x); /* may queue itself again, in the same order */
    }
}

/* The object an empty file was renamed from while its metadata was not known: no extent can name it. NULL when there is none. */
static struct extent_source *moved_empty(const struct cfile *f)
{
    for (const struct cref_edge *e = f->moved && f->map.size == 0 ? f->reads : NULL; e != NULL; e = e->next_of_file) {
        const struct ckey *s = e->slot;
        if (e->src == NULL && s->base.known && s->base.exists && s->base.o.size == 0) {
            return extent_source_new(s->ident->id, s->key, &s->base.o);
        }
    }
    return NULL;
}

void xfer_start(struct cache *c, struct ckey *k)
{
    mutex_assert_held(&c->lock);
    ENSURE(k->x == NULL && (k->state == FS_DIRTY || k->state == FS_UNKNOWN));
    struct xfer *x = mem_zalloc(sizeof(*x));
    x->c = c;
    x->k = k;
    x->id = k->ident;
    x->resolving = k->state == FS_UNKNOWN;
    struct cfile *f = key_sends(k);
    x->absent = k->want_absent && f == NULL;
    x->move = k->move;
    memcpy(x->if_match, k->expect_etag, sizeof(x->if_match));
    x->big = f != NULL && f->map.size > x->id->conf->small_file_threshold;
    if (f != NULL) {
        x->f = file_ref(f);
        x->gen = x->f->gen;
        extent_clone(&x->map, &x->f->map);
        x->spool_id = x->f->spool_id;
        x->snap_base = x->f->base != NULL ? extent_source_ref(x->f->base) : NULL;
        kv_copy(&x->meta, &x->f->meta);
        x->meta_dirty = x->f->meta_dirty;
        x->meta_explicit = x->f->meta_explicit;
        x->meta_removed = x->f->meta_removed;
        x->mtime_implicit = x->f->mtime_implicit;
        x->moved = x->f->moved;
        x->time_set = x->f->time_set && (x->id->caps & BE_CAP_REAL_DIRS);
        x->time_again = x->f->time_again;
        struct extent_source *whole = extent_whole_remote(&x->map);
        x->whole = whole != NULL ? extent_source_ref(whole) : moved_empty(x->f);
        x->stream = x->f->streaming && (f->carrier == NULL || f->carrier == k);
    } else {
        extent_init(&x->map);
    }
    k->x = x;
    pause_begins(x);
    k->pins++;
    c->active_xfers++;
    ++*lane_of(x);
    cache_async_begin_locked(c);
    if (!x->resolving) {
        key_event(c, k, FE_START, "due");
    }
    xfer_hold(x);
    xfer_next(x, x->resolving ? resolve_begin : xfer_prepare);
}

/* ---- facts ---- */

/* Drops the hold of a step and ends when stopped: true = go no further. Takes the lock. */
bool xfer_step_stopped(struct xfer *x)
{
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    bool stopped;
    cache_lock(c);
    stopped = xfer_stopped(x);
    if (stopped) {
        xfer_drop(x);
    }
    cache_unlock(c);
    return stopped;
}

void xfer_fail_and_drop(struct xfer *x, const struct errinfo *err)
{
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    cache_lock(c);
    xfer_fail(x, err);
    xfer_drop(x);
    cache_unlock(c);
}

/* Whether a directory would look otherwise without its marker: who made it private would soon find it open. */
static bool marker_says_more(struct cache *c, const struct cattr *a)
{
    struct cattr usual;
    meta_defaults(c, &usual, true);
    return a->mode != usual.mode || a->uid != usual.uid || a->gid != usual.gid;
}

/* What a directory marker needs: 1 put it, 0 not needed, -1 look again later (rules D7). Locked. */
static int marker_needed(struct xfer *x)
{
    struct cache *c = x->c;
    if (c->opt.dirmarker == CACHE_DIRMARKER_NEVER && !x->f->meta_explicit) {
        return 0;
    }
    if (x->f->meta_explicit || x->f->moved || c->opt.dirmarker == CACHE_DIRMARKER_ALWAYS || (x->id->caps & BE_CAP_REAL_DIRS) ||
        marker_says_more(c, &x->f->attr)) {
        return 1;
    }
    struct cdirnode *d = dir_find(c, x->id, x->k->key, x->k->key_len);
    if (d == NULL || d->n_children == 0) {
        return 1;
    }
    bool pending = false;
    for (size_t i = 0; i < d->n_buckets; i++) {
        for (struct cchild *ch = d->buckets[i]; ch != NULL; ch = ch->hash_next) {
            CLEANUP(mem_freep) char *key = mem_printf("%s%s", d->prefix, ch->name);
            struct ckey *k = key_find(c, x->id, key);
            if (k == NULL || (k->state == FS_CLEAN && !(k->base.known && !k->base.exists && k->file != NULL &&
                                                        !k->file->is_marker))) {
                return 0; /* a child is there: the directory exists by it */
            }
            pending = true;
        }
    }
    return pending ? -1 : 1;
}

static void target_headed(void *ctx, int status)
{
    struct xfer *x = ctx;
    if (status != 0 && status != -ENOENT) {
        struct errinfo e = {0};
        err_set(&e, status == -EACCES ? ERR_AUTH : ERR_TRANSIENT, status, "cannot look at the target: %s", strerror(-status));
        xfer_fail_and_drop(x, &e);
        return;
    }
    x->headed_target = true;
    xfer_next(x, xfer_prepare);
}

static void head_target_done(struct be_op *op)
{
    struct xfer *x = op->owner;
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    cache_lock(c);
    struct ckey *k = x->k;
    int status = op->status;
    if (status != 0 && op->err.cls == ERR_ABSENT && strcmp(op->err.code, "NoSuchBucket") != 0) {
        status = -ENOENT;
        k->base.known = true;
        k->base.exists = false;
        x->f->meta_known = true;
    } else if (status == 0) {
        k->base.known = k->base.exists = true;
        k->base.o = x->stat.object;
        k->base.seen_ns = time_mono_ns();
        if (!x->f->meta_known) {
            file_load_meta(x->f, &x->stat.meta);
        }
    }
    if (status == 0 || status == -ENOENT) {
        x->f->meta_known = true;
        kv_copy(&x->meta, &x->f->meta);
    } else {
        xfer_fail(x, &op->err);
    }
    cache_unlock(c);
    be_stat_fini(&x->stat);
    if (status != 0 && status != -ENOENT) {
        cache_lock(c);
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    target_headed(x, status);
}

static void head_source_done(struct be_op *op)
{
    struct xfer *x = op->owner;
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    if (op->status != 0) {
        cache_lock(c);
        if (op->err.cls == ERR_ABSENT) {
            err_set(&op->err, ERR_ABSENT, -ENOENT, "the source %s is gone", x->whole->key);
        }
        pause_blame(x, op->be);
        xfer_fail(x, &op->err);
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    if (strcmp(x->stat.object.etag, x->whole->etag) != 0) {
        struct errinfo e = {0};
        err_set(&e, ERR_PRECOND, -ESTALE, "the source %s changed since it was copied", x->whole->key);
        be_stat_fini(&x->stat);
        xfer_fail_and_drop(x, &e);
        return;
    }
    kv_copy(&x->src_meta, &x->stat.meta);
    x->have_src_meta = true;
    if (x->stat.object.etag_is_md5 && !x->md5_known && hex_decode(x->stat.object.etag, 16, x->md5)) {
        x->md5_known = true;
    }
    be_stat_fini(&x->stat);
    xfer_next(x, xfer_prepare);
}

static void stat_of(struct xfer *x, struct cident *id, const char *key, void (*done)(struct be_op *op))
{
    memset(&x->stat, 0, sizeof(x->stat));
    x->stat.op.key = key;
    x->stat.op.lane = BE_LANE_SMALL;
    x->stat.op.owner = x;
    x->stat.op.done = done;
    be_stat(id->be, &x->stat);
}

struct be *xfer_source_be(struct cache *c, const struct extent_source *src)
{
    cache_lock(c);
    const struct cident *id = ident_find(c, src->remote);
    struct be *be = id != NULL ? id->be : NULL;
    cache_unlock(c);
    return be;
}

static bool source_can_copy(void *ctx, const struct extent_source *src)
{
    struct xfer *x = ctx;
    struct be *be = xfer_source_be(x->c, src);
    return be != NULL && be_can_copy(x->id->be, be);
}

/* ---- prepare ---- */

bool xfer_meta_is(const struct xfer *x, const struct kvlist *there)
{
    if (x->meta_removed) {
        return false; /* it cannot be told from what came with the bytes from somewhere else */
    }
    for (size_t i = 0; i < x->meta.n; i++) {
        const char *name = x->meta.items[i].name;
        if ((x->mtime_implicit && strcmp(name, "meta-mtime") == 0) || strncmp(name, "meta-md5", 8) == 0 ||
            (!x->meta_explicit && strcmp(name, "content-type") == 0)) {
            continue;
        }
        const char *v = kv_get(there, name);
        if (v == NULL || strcmp(v, x->meta.items[i].value) != 0) {
            return false;
        }
    }
    if (!x->md5_known || x->id->conf->file_md5 == CONF_MD5_OFF) {
        return true;
    }
    char hex[33]; /* an MD5 that is known is to be there */
    hex_encode(x->md5, 16, hex);
    const char *v = kv_get(there, "meta-md5");
    return v != NULL && strcmp(v, hex) == 0;
}

/* What the ledger knows of the target and of the source. On a worker, without the lock. */
static bool ledger_facts(struct xfer *x, bool *ret_equal, bool *ret_meta_same)
{
    struct cache *c = x->c;
    struct jledger led;
    *ret_equal = *ret_meta_same = false;
    cache_lock(c);
    struct cver base = x->k->base;
    cache_unlock(c);
    if (x->whole != NULL && !x->have_src_meta) {
        if (journal_ledger_get(c->journal, x->whole->remote, x->whole->key, &led) == 1) {
            if (strcmp(led.etag, x->whole->etag) == 0 && led.size == x->whole->size) {
                if (kv_parse(&x->src_meta, led.meta) == 0) {
                    x->have_src_meta = true;
                }
                if (led.has_md5 && !led.md5_inherited && !x->md5_known) {
                    memcpy(x->md5, led.md5, 16);
                    x->md5_known = true;
                }
            }
            jledger_fini(&led);
        }
    }
    if (!base.known || !base.exists ||
        journal_ledger_get(c->journal, x->id->id, x->k->key, &led) != 1) {
        return false;
    }
    bool valid = strcmp(led.etag, base.o.etag) == 0 && led.size == base.o.size &&
                 (led.mtime_ns == 0 || base.o.mtime_ns == 0 || led.mtime_ns == base.o.mtime_ns);
    if (valid) {
        struct kvlist meta = {0};
        bool parsed = kv_parse(&meta, led.meta) == 0;
        cache_lock(c);
        if (parsed && !x->f->meta_known) {
            file_load_meta(x->f, &meta);
            kv_copy(&x->meta, &x->f->meta);
        }
        cache_unlock(c);
        if (x->whole != NULL && led.src_remote == x->whole->remote && led.src_key != NULL &&
            strcmp(led.src_key, x->whole->key) == 0 && strcmp(led.src_etag, x->whole->etag) == 0 &&
            led.src_size == x->map.size && led.size == x->map.size) {
            *ret_equal = true;
        } else if (led.has_md5 && x->md5_known && memcmp(led.md5, x->md5, 16) == 0 && led.size == x->map.size) {
            *ret_equal = true;
        }
        *ret_meta_same = parsed && *ret_equal && xfer_meta_is(x, &meta);
        kv_fini(&meta);
        jledger_fini(&x->led);
        x->led = led;
        x->has_led = true;
        return true;
    }
    jledger_fini(&led);
    return false;
}

void xfer_prepare(struct xfer *x)
{
    struct cache *c = x->c;
    if (xfer_step_stopped(x)) {
        return;
    }
    cache_lock(c);
    struct ckey *k = x->k;
    if (x->absent) {
        bool nothing = k->base.known && !k->base.exists && k->up.id == NULL;
        if (k->up.id != NULL) {
            upload_drop(c, k);
        }
        cache_unlock(c);
        if (nothing) {
            xfer_finish_skip(x, "never was at the provider");
        } else {
            commit_begin(x);
        }
        return;
    }
    if (x->f->is_marker) {
        int need = marker_needed(x);
        if (need < 0) {
            struct errinfo e = {0};
            err_set(&e, ERR_CANCELED, -EAGAIN, "its children are on their way");
            k->tries = 0;
            xfer_fail(x, &e);
            xfer_drop(x);
            cache_unlock(c);
            return;
        }
        if (need == 0 && !(k->base.known && k->base.exists)) {
            cache_unlock(c);
            xfer_finish_skip(x, "the directory has children");
            return;
        }
    }
    bool hydrate = x->f->hydrate, sealed = x->f->sealed;
    bool stream = x->stream;
    if (!x->md5_known && x->f->has_md5) {
        memcpy(x->md5, x->f->md5_sum, 16);
        x->md5_known = true;
    }
    cache_unlock(c);
    if (hydrate) {
        bytes_hydrate(x);
        return;
    }
    if (!sealed && !stream) {
        cache_lock(c);
        x->called_off = true; /* it was only to be hydrated; its writer goes on */
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    if (stream) {
        parts_begin(x);
        return;
    }
    bool all_local = extent_bytes(&x->map, EXT_LOCAL) == x->map.size;
    if (all_local && !x->md5_known && x->map.size > x->id->conf->small_file_threshold) {
        bytes_hash(x);
        return;
    }
    xfer_make_plan(x);
}

static void fill_put(struct xfer *x);

/* Sources are counted under the lock. */
static void let_go(struct cache *c, struct extent_source *s)
{
    cache_lock(c);
    extent_source_unref(s);
    cache_unlock(c);
}

void xfer_make_plan(struct xfer *x)
{
    struct cache *c = x->c;
    bool equal = false, meta_same = false;
    ledger_facts(x, &equal, &meta_same);
    if (!equal && bytes_compare(x)) {
        return;
    }
    cache_lock(c);
    struct ckey *k = x->k;
    struct cver base = k->base;
    bool meta_known = x->f->meta_known;
    bool resumable = k->up.id != NULL && k->up.tag != NULL && k->up.tag[0] != 'S' &&
                     x->map.size > x->id->conf->small_file_threshold;
    uint64_t resume = resumable ? k->up.part_size : 0;
    struct extent_source *base_src =
        x->snap_base != NULL && base.known && base.exists && strcmp(x->snap_base->etag, base.o.etag) == 0
            ? extent_source_ref(x->snap_base)
            : NULL;
    int64_t ttl = (int64_t)c->opt.list_ttl_ms * 1000000LL;
    bool fresh = base.known && base.exists && (x->f->sealed_ns == 0 || x->f->sealed_ns - base.seen_ns < ttl);
    uint64_t max_buffer = c->opt.memory / 4;
    enum conf_md5 file_md5 = x->id->conf->file_md5;
    cache_unlock(c);
    /* PUT and COPY replace metadata: what the target had and nobody changed must be known first. A skip needs nothing. */
    if (equal && fresh && meta_same && !x->time_set) {
        let_go(c, base_src);
        xfer_finish_skip(x, "the target already is this");
        return;
    }
    bool stale = equal && !fresh; /* one look is cheaper than all the bytes */
    if ((!meta_known || stale) && !x->headed_target && !(base.known && !base.exists)) {
        let_go(c, base_src);
        stat_of(x, x->id, k->key, head_target_done);
        return;
    }
    bool can = x->whole != NULL && (x->id->caps & BE_CAP_COPY) && source_can_copy(x, x->whole);
    bool small = x->map.size <= x->id->conf->small_file_threshold && x->map.size <= max_buffer;
    if (x->whole != NULL && !x->have_src_meta && (can || !small || x->map.size == 0)) { /* else the GET brings it */
        cache_lock(c);
        extent_source_unref(base_src);
        struct cident *sid = ident_find(c, x->whole->remote);
        cache_unlock(c);
        if (sid == NULL || sid->be == NULL) {
            struct errinfo e = {0};
            err_set(&e, ERR_TRANSIENT, -EIO, "the source's remote is not mounted");
            xfer_fail_and_drop(x, &e);
            return;
        }
        stat_of(x, sid, x->whole->key, head_source_done);
        return;
    }
    if (x->whole != NULL && x->have_src_meta) {
        uint8_t carried[16];
        meta_merge_source(&x->meta, &x->src_meta, x->moved);
        x->md5_inherited = !x->md5_known && meta_get_md5(&x->src_meta, carried);
        if (x->md5_inherited) {
            memcpy(x->md5, carried, 16);
        }
    }
    struct errinfo key_err = {0};
    const char *refused = be_key_check(x->id->be, k->key, &key_err) < 0 ? key_err.message : NULL;
    struct plan_input in = {
        .map = &x->map,
        .base = base_src,
        .meta_differs = x->meta_dirty && (!meta_same || x->time_set),
        .content_known_equal = equal && fresh,
        .md5_known = x->md5_known,
        .source_has_md5_attr = x->md5_inherited,
        .caps = x->id->caps,
        .limits = x->id->limits,
        .can_copy = source_can_copy,
        .ctx = x,
        .file_md5 = file_md5,
        .small_file_threshold = x->id->conf->small_file_threshold,
        .part_size = x->id->conf->part_size,
        .max_buffer = max_buffer,
        .key_fault = refused,
        .meta_bytes = meta_user_bytes(&x->meta) + (file_md5 != CONF_MD5_OFF ? 35 : 0),
        .resume_part_size = resume,
        .meta_copy_limit = x->id->limits.max_copy,
    };
    plan_make(&in, &x->plan);
    x->base = base_src; /* the plan borrows it */
    log_debug("upload", "remote=%s key=%s plan=%d parts=%zu size=%llu", x->id->name, k->key, (int)x->plan.action, x->plan.n_parts,
              (unsigned long long)x->map.size);
    if (x->plan.md5 == PLAN_MD5_GIVEN && x->md5_known) {
        meta_set_md5(&x->meta, x->md5, false);
    } else if (x->plan.md5 == PLAN_MD5_INHERITED) {
        meta_set_md5(&x->meta, x->md5, true);
    } else {
        kv_set(&x->meta, "meta-md5", NULL);
        kv_set(&x->meta, "meta-md5-from", NULL);
    }
    if (x->id->conf->storage_class[0] != '\0') {
        kv_set(&x->meta, "storage-class", x->id->conf->storage_class);
    }
    if (x->id->conf->encryption[0] != '\0') {
        kv_set(&x->meta, "encryption", x->id->conf->encryption);
    }
    struct errinfo e = {0};
    switch (x->plan.action) {
    case PLAN_SKIP:
        xfer_finish_skip(x, "nothing differs");
        return;
    case PLAN_SETMETA:
    case PLAN_COPY:
        commit_begin(x);
        return;
    case PLAN_PUT:
        fill_put(x);
        return;
    case PLAN_MULTIPART:
        parts_begin(x);
        return;
    case PLAN_IMPOSSIBLE:
        break;
    }
    err_set(&e, ERR_INVALID, -EINVAL, "%s", x->plan.reason);
    xfer_fail_and_drop(x, &e);
}

/* ---- one PUT ---- */

static void put_filled(struct gather *g)
{
    struct xfer *x = g->x;
    if (g->status != 0) {
        xfer_fail_and_drop(x, &g->err);
        return;
    }
    if (xfer_step_stopped(x)) {
        return;
    }
    if (x->whole != NULL && !x->have_src_meta && g->n_reads == 1) {
        meta_merge_source(&x->meta, &g->meta, x->moved); /* the GET brought the headers along */
        x->have_src_meta = true;
    }
    digest_md5(x->buf, x->map.size, x->md5);
    x->md5_known = true;
    if (x->plan.md5 != PLAN_MD5_NONE) {
        meta_set_md5(&x->meta, x->md5, false);
    }
    commit_begin(x);
}

static void fill_put(struct xfer *x)
{
    struct cache *c = x->c;
    uint64_t size = x->map.size;
    cache_lock(c);
    if (size > 0 && x->buf == NULL && !xfer_stopped(x)) {
        if (!memory_take(c, size)) {
            x->next = fill_put;
            memory_wait(x);
            cache_unlock(c);
            return;
        }
        x->mem = size;
    }
    cache_unlock(c);
    if (xfer_step_stopped(x)) {
        return;
    }
    x->buf = malloc(size > 0 ? size : 1);
    if (x->buf == NULL) {
        struct errinfo e = {0};
        err_set(&e, ERR_LOCAL, -ENOMEM, "no memory for %llu bytes", (unsigned long long)size);
        x->local_failed = true;
        xfer_fail_and_drop(x, &e);
        return;
    }
    x->gather = mem_zalloc(sizeof(*x->gather));
    x->gather->x = x;
    x->gather->buf = x->buf;
    x->gather->done = put_filled;
    gather_start(x->gather, 0, size);
}
