/* Multipart uploads: gather, hash in order, send, journal each finished part.
 *
 * A part: PLANNED → (memory) → FILLING → FILLED → hashed in its turn → SENDING → DONE. Only a fixed number are past PLANNED, so
 * memory stays bounded. The whole-file MD5 runs through the parts in order before they are sent, and each part's journal
 * row holds its state: a resumed upload re-reads nothing (rules C9).
 *
 * Streams (stream.c): the list grows while the file is written; a finished part's bytes leave the spool and its extent
 * becomes PART. */
#include "xfer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "kill.h"
#include "log.h"
#include "mem.h"

#define PARTS_AT_ONCE 16
#define PART_TRIES 3

/* ---- gathering bytes ---- */

void gather_fini(struct gather *g)
{
    for (unsigned i = 0; i < g->n_reads; i++) {
        be_read_fini(&g->reads[i]);
    }
    free(g->reads);
    kv_fini(&g->meta);
    g->reads = NULL;
    g->n_reads = 0;
}

static void gather_end(struct gather *g)
{
    g->done(g);
}

static void gather_read_done(struct be_op *op)
{
    struct be_read *rd = CONTAINER_OF(op, struct be_read, op);
    struct gather *g = op->owner;
    cache_lock(g->x->c);
    if (op->status != 0 && g->status == 0) {
        g->status = op->status;
        g->err = op->err;
        pause_blame(g->x, op->be);
    } else if (op->status == 0 && rd->got != rd->len && g->status == 0) {
        g->status = err_set(&g->err, ERR_INTEGRITY, -EIO, "the source gave %zu of %zu bytes", rd->got, rd->len);
    }
    bool last = --g->pending == 0;
    cache_unlock(g->x->c);
    if (last) {
        if (g->status == 0) {
            g->object = g->reads[0].object;
            kv_copy(&g->meta, &g->reads[0].meta);
        }
        gather_end(g);
    }
}

void gather_start(struct gather *g, uint64_t off, uint64_t len)
{
    struct xfer *x = g->x;
    struct cache *c = x->c;
    struct gather_piece {
        enum extent_kind kind;
        uint64_t at, len, src_off;
        struct extent_source *src;
        struct be *be; /* of the source */
    } *v = NULL;
    size_t n = 0, cap = 0;
    g->status = 0;
    err_clear(&g->err);
    cache_lock(c);
    const struct extent_map *map = x->stream ? &x->f->map : &x->map;
    for (uint64_t p = off; p < off + len;) {
        const struct extent *e = extent_find(map, p);
        if (e == NULL) {
            g->status = err_set(&g->err, ERR_BUG, -EIO, "the content ends before byte %" PRIu64, p);
            break;
        }
        if (n == cap) {
            cap = cap == 0 ? 4 : cap * 2;
            v = mem_realloc(v, cap * sizeof(*v));
        }
        struct gather_piece *q = &v[n++];
        memset(q, 0, sizeof(*q));
        q->kind = e->kind;
        q->at = p;
        q->len = MIN(e->off + e->len, off + len) - p;
        if (e->kind == EXT_BASE) {
            q->src = x->snap_base;
            q->src_off = p;
        } else if (e->kind == EXT_REMOTE) {
            q->src = e->src;
            q->src_off = e->src_off + (p - e->off);
        }
        if (q->src != NULL) {
            extent_source_ref(q->src);
            const struct cident *id = ident_find(c, q->src->remote);
            q->be = id != NULL ? id->be : NULL; /* it may be mounted any moment */
            g->n_reads++;
        }
        p += q->len;
    }
    uint64_t spool_id = x->stream ? x->f->spool_id : x->spool_id;
    cache_unlock(c);

    g->reads = g->n_reads > 0 ? mem_zalloc(g->n_reads * sizeof(*g->reads)) : NULL;
    unsigned r = 0;
    for (size_t i = 0; i < n; i++) {
        struct gather_piece *q = &v[i];
        uint8_t *to = g->buf + (q->at - off);
        if (q->kind == EXT_HOLE) {
            memset(to, 0, q->len);
        } else if (q->kind == EXT_LOCAL && g->status == 0) {
            ssize_t got = spool_read(c->spool, spool_id, to, q->len, q->at);
            if (got != (ssize_t)q->len) {
                cache_lock(c);
                x->local_failed = true; /* several parts may be gathered at once */
                cache_unlock(c);
                g->status = err_set(&g->err, ERR_LOCAL, -EIO, "cannot read the spool at %" PRIu64 ": %s", q->at,
                                    got < 0 ? strerror((int)-got) : "file too short");
            }
        } else if (q->kind == EXT_PART && g->status == 0) {
            g->status = err_set(&g->err, ERR_BUG, -EIO, "byte %" PRIu64 " is in the upload already", q->at);
        } else if (q->src != NULL) {
            struct be_read *rd = &g->reads[r++];
            rd->op.key = q->src->key;
            rd->op.lane = q->len > x->id->conf->small_file_threshold ? BE_LANE_BIG : BE_LANE_SMALL;
            rd->op.owner = g;
            rd->op.done = gather_read_done;
            rd->offset = q->src_off;
            rd->len = q->len;
            rd->buf = to;
            rd->if_match = q->src->etag[0] != '\0' ? q->src->etag : NULL;
            rd->version_id = q->src->version_id[0] != '\0' ? q->src->version_id : NULL;
            if (q->be == NULL) {
                g->status = err_set(&g->err, ERR_TRANSIENT, -EIO, "the source's remote is not mounted");
            }
        }
    }
    g->pending = g->status == 0 ? g->n_reads : 0;
    bool go = g->pending > 0;
    if (go) {
        /* The last read may end, and g with it, before the loop does: it works on its own copies. */
        struct be_read *reads = g->reads;
        unsigned k = 0, n_reads = g->n_reads;
        for (size_t i = 0; i < n && k < n_reads; i++) {
            if (v[i].src != NULL) {
                be_read(v[i].be, &reads[k++]);
            }
        }
    } else {
        gather_end(g);
    }
    /* if_match and key point into the sources: the transfer's map and base hold references of their own until it ends. */
    cache_lock(c);
    for (size_t i = 0; i < n; i++) {
        extent_source_unref(v[i].src);
    }
    cache_unlock(c);
    free(v);
}

/* ---- parts ---- */

void parts_free(struct xfer *x)
{
    if (x->parts == NULL) {
        return; /* a look at a lost commit counts parts it does not have */
    }
    for (unsigned i = 0; i < x->n_parts; i++) {
        block_put(x->parts[i]->buf, x->parts[i]->len);
        free(x->parts[i]);
    }
    free(x->parts);
}

static struct xpart *up_part(struct ckey *k, unsigned idx)
{
    if (idx >= k->up.n_parts) {
        k->up.parts = mem_realloc(k->up.parts, (idx + 1) * sizeof(*k->up.parts));
        memset(k->up.parts + k->up.n_parts, 0, (idx + 1 - k->up.n_parts) * sizeof(*k->up.parts));
        k->up.n_parts = idx + 1;
    }
    return &k->up.parts[idx];
}

bool composite_of_upload(const struct ckey *k, unsigned n_parts, char ret[48])
{
    struct digest_md5 d;
    uint8_t sum[16];
    digest_md5_init(&d);
    for (unsigned i = 0; i < n_parts; i++) {
        if (i >= k->up.n_parts || !hex_decode(k->up.parts[i].etag, 16, sum)) {
            return false;
        }
        digest_md5_update(&d, sum, 16);
    }
    digest_md5_final(&d, sum);
    hex_encode(sum, 16, ret);
    snprintf(ret + 32, 16, "-%u", n_parts);
    return true;
}

bool combined_crc(const struct ckey *k, unsigned n_parts, uint64_t *ret)
{
    uint64_t crc = 0;
    for (unsigned i = 0; i < n_parts; i++) {
        const struct xpart *p = i < k->up.n_parts ? &k->up.parts[i] : NULL;
        if (p == NULL || !p->has_crc) {
            return false;
        }
        crc = be_crc_combine(k->ident->caps, crc, p->crc, p->size);
    }
    *ret = crc;
    return true;
}

/* The job of plan.parts[n_parts]. Locked. */
static struct part_job *part_add(struct xfer *x)
{
    x->parts = mem_realloc(x->parts, (x->n_parts + 1) * sizeof(struct part_job *));
    struct part_job *j = mem_zalloc(sizeof(*j));
    j->x = x;
    j->idx = x->n_parts;
    j->part = x->plan.parts[j->idx];
    x->parts[x->n_parts++] = j;
    return j;
}

static void part_fill(struct work *w);
static void part_send(struct part_job *j);

static const struct plan_part *plan_of(struct part_job *j)
{
    return &j->part;
}

/* For a stream: the parts that are complete now, and with sealed content the rest. Locked. */
static void stream_cut(struct xfer *x)
{
    struct cfile *f = x->f;
    for (;;) {
        uint64_t off = x->plan.n_parts > 0 ? x->plan.parts[x->plan.n_parts - 1].off +
                                                 x->plan.parts[x->plan.n_parts - 1].len
                                           : 0;
        uint64_t len = plan_stream_part((unsigned)x->plan.n_parts + 1, x->plan.part_size, &x->id->limits, x->part_max);
        if (len == 0) {
            struct errinfo e = {0};
            err_set(&e, ERR_INVALID, -EFBIG, "the file has more parts than the provider takes: raise %s",
                    x->id->limits.part_unit > 0 ? "bigFileUploadPartSize" : "memory=");
            xfer_fail(x, &e);
            return;
        }
        uint64_t have = f->map.size > off ? f->map.size - off : 0;
        if (f->io_users > 0 || have == 0 || (have < len && !f->sealed)) {
            /* bytes may still be on their way into the spool; a part is cut when they are there */
            return;
        }
        len = MIN(len, have);
        x->plan.parts = mem_realloc(x->plan.parts, (x->plan.n_parts + 1) * sizeof(*x->plan.parts));
        x->plan.parts[x->plan.n_parts++] = (struct plan_part){.off = off, .len = len};
        f->stream_cut = off + len;
        part_add(x);
    }
}

static bool all_cut(struct xfer *x)
{
    if (!x->stream) {
        return true;
    }
    return x->f->sealed && x->f->stream_cut == x->f->map.size;
}

void parts_pump_locked(struct xfer *x)
{
    struct cache *c = x->c;
    if (xfer_stopped(x) || x->committing) {
        return;
    }
    if (x->stream) {
        stream_cut(x);
        if (xfer_stopped(x)) {
            return;
        }
    }
    while (x->in_flight_parts < PARTS_AT_ONCE && x->next_part < x->n_parts) {
        struct part_job *j = x->parts[x->next_part];
        if (j->state == PART_DONE) {
            x->next_part++;
            continue;
        }
        bool copied = plan_of(j)->src != NULL;
        j->len = plan_of(j)->len;
        if (!copied && !memory_take(c, j->len)) {
            memory_wait(x);
            return;
        }
        x->next_part++;
        x->in_flight_parts++;
        j->state = PART_FILLING;
        j->w.run = part_fill;
        xfer_hold(x);
        pool_submit(c->workers, &j->w);
    }
    if (x->done_parts == x->n_parts && x->in_flight_parts == 0 && all_cut(x) && x->n_parts > 0) {
        x->committing = true;
        xfer_hold(x);
        xfer_next(x, commit_begin);
    }
}

void parts_wake(struct xfer *x)
{
    mutex_assert_held(&x->c->lock);
    if (x->plan.action == PLAN_PUT) {
        xfer_next(x, x->next); /* it still has its hold */
    } else {
        parts_pump_locked(x);
    }
}

/* Gives a part's memory and hold back; failed parts stop the transfer. */
static void part_end(struct part_job *j, const struct errinfo *err)
{
    struct xfer *x = j->x;
    struct cache *c = x->c;
    block_put(TAKE(j->buf), j->len);
    cache_lock(c);
    if (plan_of(j)->src == NULL) {
        memory_give(c, j->len);
    }
    x->in_flight_parts--;
    if (err != NULL) {
        xfer_fail(x, err);
    } else {
        j->state = PART_DONE;
        x->done_parts++;
        x->f->moved_ns = c->last_progress_ns = time_mono_ns();
    }
    parts_pump_locked(x);
    xfer_drop(x);
    cache_unlock(c);
}

/* A stream's part: its row is durable, so the spool may give its bytes up. Earlier, a crash would leave a row that names bytes
 * which are gone. */
static void part_punch(struct work *w)
{
    struct part_job *j = CONTAINER_OF(w, struct part_job, w);
    struct cache *c = j->x->c;
    KILL_POINT("upload: before a stream's bytes go");
    spool_punch(c->spool, j->spool_id, plan_of(j)->off, plan_of(j)->len);
    cache_lock(c);
    cache_kick_locked(c); /* writers wait for this */
    cache_unlock(c);
    part_end(j, NULL);
}

static void stream_row(void *ctx, int status)
{
    struct part_job *j = ctx;
    if (status != 0) {
        part_end(j, NULL); /* the bytes stay, too */
        return;
    }
    j->w.run = part_punch;
    pool_submit(j->x->c->workers, &j->w);
}

/* Journals a finished part. True: it is a stream's, and ends when that is committed. */
static bool part_row(struct xfer *x, struct part_job *j)
{
    struct ckey *k = x->k;
    struct xpart *p = up_part(k, j->idx);
    uint8_t state[sizeof(uint32_t) + DIGEST_MD5_STATE_SIZE];
    p->done = true;
    p->size = plan_of(j)->len;
    memcpy(p->etag, j->op.object.etag, sizeof(p->etag));
    p->has_md5 = plan_of(j)->src == NULL;
    memcpy(p->md5, j->md5, 16);
    p->has_crc = be_crc_of(x->id->caps, &j->op.object, &p->crc);
    if (plan_of(j)->src == NULL) {
        p->has_crc = be_has_crc(x->id->caps);
        p->crc = j->crc;
    }
    struct jpart row = {.number = j->idx + 1, .size = p->size, .etag = p->etag, .has_crc64 = p->has_crc, .crc64 = p->crc};
    memcpy(row.md5, p->md5, 16);
    if (x->hash_whole) {
        /* The newest state covers parts beyond this one too: any row may be the last one written. */
        uint32_t next = k->up.hash_next;
        memcpy(state, &next, sizeof(next));
        digest_md5_save(&k->up.md5, state + sizeof(next));
        row.hash_state = state;
        row.hash_state_len = sizeof(state);
    }
    struct jtx *tx = jtx_new();
    jtx_part_put(tx, k->ident->id, k->key, &row);
    /* Its bytes are at the provider now: the spool gives them up (rules C8), unless the file holds others meanwhile. */
    uint64_t off = plan_of(j)->off, len = plan_of(j)->len;
    bool punch = x->stream && !x->called_off && x->f->streaming && x->f->at != NULL &&
                 extent_set_part(&x->f->map, off, len, j->idx + 1) == 0;
    if (punch) {
        file_touch(x->f, false);
        x->gen = x->f->gen;
        j->spool_id = x->f->spool_id;
        key_journal(x->c, x->f->at, tx);
    }
    journal_submit(x->c->journal, tx, punch ? JTX_DURABLE : 0, punch ? stream_row : NULL, j);
    return punch;
}

static void part_sent(struct be_op *op)
{
    struct part_job *j = op->owner;
    struct xfer *x = j->x;
    struct cache *c = x->c;
    struct errinfo e = op->err;
    bool copied = plan_of(j)->src != NULL;
    KILL_POINT("upload: part sent");
    if (op->status == 0 && !copied) {
        char hex[33];
        uint64_t crc;
        hex_encode(j->md5, 16, hex);
        bool wrong = (j->op.object.etag_is_md5 && strcasecmp(hex, j->op.object.etag) != 0) ||
                     (be_crc_of(x->id->caps, &j->op.object, &crc) && crc != j->crc);
        if (wrong) {
            op->status = err_set(&e, ERR_INTEGRITY, -EIO, "part %u arrived altered", j->idx + 1);
        }
    }
    if (op->status != 0 && copied && op->err.cls == ERR_INVALID && op->status == -EOPNOTSUPP) {
        /* this source cannot be copied by the server itself: the bytes go through us */
        cache_lock(c);
        j->part.src = NULL;
        x->in_flight_parts--;
        j->state = PART_PLANNED;
        x->next_part = MIN(x->next_part, j->idx);
        if (j->part.len > c->opt.memory / 4) {
            err_set(&e, ERR_INVALID, -EFBIG, "part of %" PRIu64 " bytes cannot be copied by the server; raise memory=",
                    j->part.len);
            xfer_fail(x, &e);
        }
        parts_pump_locked(x);
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    if (op->status == 0) {
        cache_lock(c);
        pause_over(x, false);
        bool later = part_row(x, j);
        cache_unlock(c);
        if (later) {
            return;
        }
    }
    part_end(j, op->status != 0 ? &e : NULL);
}

static void part_send(struct part_job *j)
{
    struct xfer *x = j->x;
    const struct plan_part *p = plan_of(j);
    if (j->verify) {
        cache_lock(x->c);
        const struct xpart *have = up_part(x->k, j->idx);
        bool same = have->done && have->has_md5 && memcmp(have->md5, j->md5, 16) == 0;
        cache_unlock(x->c);
        if (same) {
            part_end(j, NULL); /* the server has exactly these bytes */
            return;
        }
    }
    memset(&j->op, 0, sizeof(j->op));
    j->op.op.key = x->k->key;
    j->op.op.lane = BE_LANE_BIG;
    j->op.op.owner = j;
    j->op.op.done = part_sent;
    j->op.upload_id = x->k->up.id;
    j->op.number = j->idx + 1;
    if (p->src != NULL) {
        j->op.src = xfer_source_be(x->c, p->src);
        j->op.src_key = p->src->key;
        j->op.src_etag = p->src->etag[0] != '\0' ? p->src->etag : NULL;
        j->op.src_version_id = p->src->version_id[0] != '\0' ? p->src->version_id : NULL;
        j->op.src_offset = p->src_off;
        j->op.src_len = p->len;
        j->op.src_size = p->src->size;
    } else {
        j->op.data = j->buf;
        j->op.len = j->len;
        j->op.md5 = j->md5;
    }
    KILL_POINT("upload: before a part");
    be_mp_part(x->id->be, &j->op);
}

/* Of a transfer that has stopped: parts that wait for their turn to be hashed will not get it. Takes the lock; the caller holds x. */
static void end_waiting(struct xfer *x)
{
    struct part_job **waiting = NULL;
    unsigned n = 0;
    cache_lock(x->c);
    if (xfer_stopped(x) && !x->hashing) { /* else whoever hashes looks when it is done */
        waiting = mem_zalloc((x->n_parts + 1) * sizeof(struct part_job *));
        for (unsigned i = 0; i < x->n_parts; i++) {
            if (x->parts[i]->state == PART_FILLED) {
                x->parts[i]->state = PART_SENDING;
                waiting[n++] = x->parts[i];
            }
        }
    }
    cache_unlock(x->c);
    struct errinfo e = {0};
    err_set(&e, ERR_CANCELED, -ECANCELED, "stopped");
    for (unsigned i = 0; i < n; i++) {
        part_end(waiting[i], &e);
    }
    free(waiting);
}

/* Ends a part that has no bytes, and with it who waits to be hashed after it. */
static void part_unfilled(struct part_job *j, const struct errinfo *err)
{
    struct xfer *x = j->x;
    struct cache *c = x->c;
    cache_lock(c);
    xfer_hold(x);
    cache_unlock(c);
    part_end(j, err);
    end_waiting(x);
    cache_lock(c);
    xfer_drop(x);
    cache_unlock(c);
}

/* Whoever fills the next part in order hashes it, and all filled ones that follow; each is sent once it is hashed. */
static void hash_in_order(struct part_job *j)
{
    struct xfer *x = j->x;
    struct cache *c = x->c;
    cache_lock(c);
    j->state = PART_FILLED;
    if (j->idx < x->k->up.hash_next) {
        j->state = PART_SENDING;
        cache_unlock(c);
        part_send(j); /* a gap of a resumed upload: hashed before */
        return;
    }
    if (x->hashing) {
        cache_unlock(c);
        return;
    }
    x->hashing = true;
    xfer_hold(x); /* the part it came with may end, and be the last */
    for (;;) {
        unsigned i = x->k->up.hash_next;
        struct part_job *n = i < x->n_parts ? x->parts[i] : NULL;
        if (n == NULL || n->state != PART_FILLED || xfer_stopped(x)) {
            break;
        }
        struct digest_md5 md5 = x->k->up.md5;
        cache_unlock(c);
        digest_md5_update(&md5, n->buf, n->len);
        cache_lock(c);
        x->k->up.md5 = md5;
        x->k->up.hash_next = i + 1;
        n->state = PART_SENDING;
        cache_unlock(c);
        part_send(n);
        cache_lock(c);
    }
    x->hashing = false;
    cache_unlock(c);
    end_waiting(x);
    cache_lock(c);
    xfer_drop(x);
    cache_unlock(c);
}

struct part_gather {
    struct gather g;
    struct part_job *j;
};

static void part_filled(struct gather *g)
{
    struct part_job *j = CONTAINER_OF(g, struct part_gather, g)->j;
    struct xfer *x = j->x;
    struct errinfo e = g->err;
    int status = g->status;
    gather_fini(g);
    free(CONTAINER_OF(g, struct part_gather, g));
    if (status != 0) {
        part_unfilled(j, &e);
        return;
    }
    digest_md5(j->buf, j->len, j->md5);
    j->crc = be_has_crc(x->id->caps) ? be_crc_update(x->id->caps, 0, j->buf, j->len) : 0;
    if (x->hash_whole) {
        hash_in_order(j);
    } else {
        part_send(j);
    }
}

static void part_fill(struct work *w)
{
    struct part_job *j = CONTAINER_OF(w, struct part_job, w);
    struct xfer *x = j->x;
    const struct plan_part *p = plan_of(j);
    cache_lock(x->c);
    bool stopped = xfer_stopped(x);
    cache_unlock(x->c);
    struct errinfo e = {0};
    if (stopped) {
        err_set(&e, ERR_CANCELED, -ECANCELED, "stopped");
        part_unfilled(j, &e);
        return;
    }
    if (p->src != NULL) {
        part_send(j);
        return;
    }
    j->buf = block_get(j->len);
    if (j->buf == NULL) {
        err_set(&e, ERR_TRANSIENT, -ENOMEM, "no memory for a part of %" PRIu64 " bytes", j->len);
        part_unfilled(j, &e);
        return;
    }
    struct part_gather *pg = mem_zalloc(sizeof(*pg));
    pg->j = j;
    pg->g.x = x;
    pg->g.buf = j->buf;
    pg->g.done = part_filled;
    gather_start(&pg->g, p->off, p->len);
}

/* ---- beginning, resuming ---- */

void upload_tag(const struct xfer *x, char ret[64])
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    uint8_t md5[16];
    char hex[33];
    bool local = extent_has(&x->map, EXT_LOCAL);
    extent_format(&x->map, &text);
    digest_md5(buf_str(&text), text.len, md5);
    hex_encode(md5, 16, hex);
    /* R: the same text means the same bytes. L: the same shape of local bytes; parts are compared by MD5. What follows the
     * blank is the metadata it is begun with, in any order. */
    uint64_t meta = 0;
    for (size_t i = 0; i < x->meta.n; i++) {
        const struct kv *kv = &x->meta.items[i];
        meta += crc64_update(crc64_update(0, kv->name, strlen(kv->name) + 1), kv->value, strlen(kv->value) + 1);
    }
    snprintf(ret, 64, "%c%.20s%016" PRIx64 " %016" PRIx64, local ? 'L' : 'R', hex, x->plan.layout, meta);
}

/* Whether the parts of an upload with this tag may go on. An upload keeps the metadata it was begun with. */
static bool tag_resumes(const char *begun, const char *now)
{
    size_t n = strcspn(now, " ");
    return begun != NULL && strncmp(begun, now, n) == 0 && (begun[n] == ' ' || begun[n] == '\0');
}

static void parts_go(struct xfer *x)
{
    struct cache *c = x->c;
    cache_lock(c);
    for (unsigned i = x->n_parts; !x->stream && i < x->plan.n_parts; i++) {
        struct part_job *j = part_add(x);
        struct xpart *have = i < x->k->up.n_parts ? &x->k->up.parts[i] : NULL;
        if (have != NULL && have->done) {
            if (x->k->up.tag != NULL && x->k->up.tag[0] == 'R') {
                j->state = PART_DONE;
                x->done_parts++;
            } else {
                j->verify = true;
            }
        }
    }
    parts_pump_locked(x);
    xfer_drop(x);
    cache_unlock(c);
}

static void begun_row(void *ctx, int status)
{
    struct xfer *x = ctx;
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    cache_lock(c);
    if (status != 0) {
        struct errinfo e = {0};
        err_set(&e, ERR_LOCAL, status, "the journal cannot be written");
        xfer_fail(x, &e);
        xfer_drop(x);
    } else {
        xfer_next(x, parts_go);
    }
    cache_unlock(c);
}

static void begun(struct be_op *op)
{
    struct xfer *x = op->owner;
    struct cache *c = x->c;
    KILL_POINT("upload: begun");
    cache_lock(c);
    if (op->status != 0) {
        if (!op->err.outcome_unknown) {
            upload_fini(&x->k->up);
        }
        xfer_fail(x, &op->err);
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    if (op->stray) {
        /* An attempt before may have begun one as well. */
        CLEANUP(mem_freep) char *other = mem_printf("?%" PRId64, time_wall_ns());
        orphan_abort(c, x->id, x->k->key, other);
    }
    free(x->k->up.id);
    x->k->up.id = TAKE(x->mp.upload_id);
    orphans_retry(c, time_mono_ns()); /* a search may have waited to know which upload is in use */
    struct jtx *tx = jtx_new();
    key_journal(c, x->k, tx);
    journal_submit(c->journal, tx, 0, begun_row, x);
    cache_unlock(c);
}

static void begin_send(struct xfer *x)
{
    memset(&x->mp, 0, sizeof(x->mp));
    x->mp.op.key = x->k->key;
    x->mp.op.lane = BE_LANE_SMALL;
    x->mp.op.owner = x;
    x->mp.op.done = begun;
    x->mp.meta = &x->meta;
    x->mp.part_size = x->plan.part_size;
    KILL_POINT("upload: before begin");
    be_mp_begin(x->id->be, &x->mp);
}

static void initiating_row(void *ctx, int status)
{
    struct xfer *x = ctx;
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    cache_lock(c);
    if (status != 0) {
        struct errinfo e = {0};
        err_set(&e, ERR_LOCAL, status, "the journal cannot be written");
        upload_fini(&x->k->up);
        xfer_fail(x, &e);
        xfer_drop(x);
    } else {
        xfer_next(x, begin_send);
    }
    cache_unlock(c);
}

/* The server's list of parts is the authority (rules, recovery): what it does not have is sent again, and a part it has
 * that we did not get to record is compared by its MD5 instead of being sent twice. */
static void listed(struct be_op *op)
{
    struct xfer *x = op->owner;
    struct cache *c = x->c;
    if (op->status != 0) {
        cache_lock(c);
        if (op->err.cls == ERR_ABSENT) {
            upload_drop(c, x->k); /* gone: begin a new one */
            cache_unlock(c);
            xfer_next(x, parts_begin);
            return;
        }
        xfer_fail(x, &op->err);
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    cache_lock(c);
    struct cupload *up = &x->k->up;
    for (size_t i = 0; i < up->n_parts; i++) {
        bool found = false;
        for (size_t n = 0; n < x->list.n_parts; n++) {
            found = found || (x->list.parts[n].number == i + 1 && x->list.parts[n].size == up->parts[i].size &&
                              strcmp(x->list.parts[n].etag, up->parts[i].etag) == 0);
        }
        up->parts[i].done = up->parts[i].done && found;
    }
    for (size_t n = 0; n < x->list.n_parts; n++) {
        unsigned idx = x->list.parts[n].number - 1;
        if (idx >= x->plan.n_parts || x->list.parts[n].size != x->plan.parts[idx].len) {
            continue;
        }
        struct xpart *p = up_part(x->k, idx);
        if (!p->done && hex_decode(x->list.parts[n].etag, 16, p->md5)) {
            p->size = x->list.parts[n].size;
            memcpy(p->etag, x->list.parts[n].etag, sizeof(p->etag));
            p->has_md5 = true;
            p->unrecorded = true;
        }
    }
    cache_unlock(c);
    cache_lock(c);
    for (unsigned i = 0; i < x->plan.n_parts; i++) {
        struct part_job *j = part_add(x);
        struct xpart *p = i < up->n_parts ? &up->parts[i] : NULL;
        if (p != NULL && p->done && up->tag[0] == 'R') {
            j->state = PART_DONE;
            x->done_parts++;
        } else if (p != NULL && (p->done || p->unrecorded)) {
            p->done = true; /* provisionally: its MD5 decides */
            j->verify = true;
        }
    }
    parts_pump_locked(x);
    xfer_drop(x);
    cache_unlock(c);
}

/* A stream goes on after a failure or a restart: the same cut, what is done stays done. Locked. */
static void stream_resume(struct xfer *x)
{
    struct cupload *up = &x->k->up;
    uint64_t off = 0;
    if (up->part_size != 0) {
        x->plan.part_size = up->part_size;
    }
    while (off < x->f->stream_cut) {
        unsigned i = (unsigned)x->plan.n_parts;
        bool done = i < up->n_parts && up->parts[i].done;
        uint64_t len = done ? up->parts[i].size
                            : plan_stream_part(i + 1, x->plan.part_size, &x->id->limits, x->part_max);
        if (len == 0) {
            break;
        }
        len = MIN(len, x->f->stream_cut - off);
        x->plan.parts = mem_realloc(x->plan.parts, (i + 1) * sizeof(*x->plan.parts));
        x->plan.parts[x->plan.n_parts++] = (struct plan_part){.off = off, .len = len};
        struct part_job *j = part_add(x);
        if (done) {
            j->state = PART_DONE;
            x->done_parts++;
        }
        off += len;
    }
    parts_pump_locked(x);
}

/* "S" and the time the object is to carry until its metadata is complete: by that a commit whose answer was lost is known
 * again where there is no checksum to go by. Behind a blank how large a part may become: memory= may be another after a restart,
 * and what was cut and not sent lies between parts that were. It stays what the upload was begun with, over restarts. Locked. */
static void stream_tag(struct xfer *x, char ret[64])
{
    const struct cupload *up = &x->k->up;
    x->part_max = x->c->opt.memory / 4;
    if (up->tag != NULL && up->tag[0] == 'S') {
        size_t n = strcspn(up->tag, " ");
        CLEANUP(mem_freep) char *time = mem_strndup(up->tag + 1, n - 1);
        snprintf(ret, 64, "%s", up->tag);
        kv_set(&x->meta, "meta-mtime", time);
        x->part_max = up->tag[n] == ' ' ? strtoull(up->tag + n, NULL, 10) : x->part_max;
        return;
    }
    meta_encode(&x->f->attr, CSET_MTIME, &x->meta);
    snprintf(ret, 64, "S%s %" PRIu64, kv_get(&x->meta, "meta-mtime"), x->part_max);
}

void parts_begin(struct xfer *x)
{
    struct cache *c = x->c;
    char tag[64];
    cache_lock(c);
    struct cupload *up = &x->k->up;
    if (x->stream) {
        x->plan.action = PLAN_MULTIPART;
        x->plan.part_size = room_part(c, x->id);
        x->plan.md5 = x->id->conf->file_md5 != CONF_MD5_OFF ? PLAN_MD5_AFTER : PLAN_MD5_NONE;
        kv_set(&x->meta, "meta-md5", NULL);
        stream_tag(x, tag);
    } else {
        upload_tag(x, tag);
    }
    x->hash_whole = x->plan.md5 == PLAN_MD5_AFTER;
    bool resume = up->id != NULL && !upload_unknown(up) && tag_resumes(up->tag, tag);
    x->meta_stale = resume && !(x->id->caps & BE_CAP_MP_META_LATE) && strcmp(up->tag, tag) != 0;
    if (resume && x->stream) {
        stream_resume(x);
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    if (resume) {
        if (!x->hash_whole || up->hash_next == 0) {
            digest_md5_init(&up->md5);
            up->hash_next = 0;
        }
        log_info("upload", "remote=%s key=%s goes on with an upload begun before: %zu parts known", x->id->name, x->k->key, up->n_parts);
        cache_unlock(c);
        memset(&x->list, 0, sizeof(x->list));
        x->list.op.key = x->k->key;
        x->list.op.lane = BE_LANE_SMALL;
        x->list.op.owner = x;
        x->list.op.done = listed;
        x->list.upload_id = up->id;
        be_mp_parts(x->id->be, &x->list);
        return;
    }
    upload_drop(c, x->k);
    up->id = mem_printf("?%" PRId64, time_wall_ns());
    up->tag = mem_strdup(tag);
    up->part_size = x->plan.part_size;
    digest_md5_init(&up->md5);
    up->hash_next = 0;
    struct jtx *tx = jtx_new();
    key_journal(c, x->k, tx);
    journal_submit(c->journal, tx, 0, initiating_row, x);
    cache_unlock(c);
}
