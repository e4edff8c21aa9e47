/* The one request that changes a key, and learning what became of it.
 *
 * Order (rules B, C5): the row COMMITTING is committed and fsynced, then the request goes out, then its answer is verified,
 * then the row goes and the ledger gets its line in one transaction. A lost answer makes UNKNOWN; a HEAD decides, and
 * nothing else is sent for the key before. */
#include "xfer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kill.h"
#include "log.h"
#include "mem.h"

#define SENT_PARTS " parts"

static void send_request(struct xfer *x);
static void accepted(struct xfer *x);

/* Which parts the committed version consists of, for the next upload of this key (rules D8). */
static void segments_line(struct xfer *x, struct jtx *tx)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    for (unsigned i = 0; i < x->n_parts && x->plan.action == PLAN_MULTIPART; i++) {
        const struct xpart *p = i < x->k->up.n_parts ? &x->k->up.parts[i] : NULL;
        struct segment s = {0};
        if (p == NULL) {
            return;
        }
        s.size = p->size;
        if (p->has_md5) {
            memcpy(s.md5, p->md5, 16);
        } else if (!hex_decode(p->etag, 16, s.md5)) {
            return;
        }
        buf_add(&b, &s, sizeof(s));
    }
    if (x->plan.action == PLAN_SETMETA) {
        b = x->segments; /* the same bytes under a new version */
        x->segments = (struct buf)BUF_INIT;
    }
    if (b.len > 0) {
        jtx_segments_put(tx, x->id->id, x->k->key, x->result.etag, b.data, b.len);
    }
}

static void ledger_line(struct xfer *x, struct jtx *tx)
{
    CLEANUP(buf_fini) struct buf meta = BUF_INIT;
    struct jledger row = {0};
    if (!x->meta_stale || x->found) { /* else nobody knows what it has */
        kv_format(&x->meta, &meta);
    }
    row.remote = x->id->id;
    row.key = x->k->key;
    memcpy(row.etag, x->result.etag, sizeof(row.etag));
    row.size = x->result.size;
    row.ours = true;
    row.has_md5 = x->md5_known || x->md5_inherited;
    row.md5_inherited = x->md5_inherited;
    memcpy(row.md5, x->md5, 16);
    row.has_crc64 = x->result.has_crc64;
    row.crc64 = x->result.crc64;
    row.content_verified = x->content_verified;
    row.meta = meta.data != NULL ? meta.data : NULL;
    char empty[1] = "";
    if (row.meta == NULL) {
        row.meta = empty;
    }
    if (x->whole != NULL) {
        row.src_remote = x->whole->remote;
        row.src_key = x->whole->key;
        memcpy(row.src_etag, x->whole->etag, sizeof(row.src_etag));
        row.src_size = x->whole->size;
        row.src_mtime_ns = x->whole->mtime_ns;
    }
    if (x->whole == NULL && x->has_led && extent_whole_base(&x->map, x->led.size)) {
        /* only metadata changed: the bytes are from where they were */
        row.src_remote = x->led.src_remote;
        row.src_key = x->led.src_key;
        memcpy(row.src_etag, x->led.src_etag, sizeof(row.src_etag));
        row.src_size = x->led.src_size;
        row.src_mtime_ns = x->led.src_mtime_ns;
        if (!row.has_md5 && x->led.has_md5) {
            row.has_md5 = true;
            row.md5_inherited = x->led.md5_inherited;
            memcpy(row.md5, x->led.md5, 16);
        }
        row.content_verified = row.content_verified || x->led.content_verified;
    }
    row.done_wall_ns = time_wall_ns();
    jtx_ledger_put(tx, &row);
}

/* The end of a transfer that left the key as is wanted. Takes the lock. */
static void end_clean_locked(struct xfer *x)
{
    struct ckey *k = x->k;
    struct cache *c = x->c;
    c->last_progress_ns = time_mono_ns();
    /* The parent's marker may have waited for a child to be there. */
    size_t plen = key_parent_len(k->key);
    if (plen > 0) {
        CLEANUP(mem_freep) char *parent = mem_strndup(k->key, plen);
        struct ckey *m = key_find(c, k->ident, parent);
        if (m != NULL && m->state == FS_DIRTY && m->x == NULL && !(m->file != NULL && m->file->time_again)) {
            m->due_ns = MIN(m->due_ns, time_mono_ns());
        }
    }
    /* xfer_drop ends only what was stopped; this one simply is over. */
    x->called_off = true;
    x->ended = true;
    xfer_drop(x);
}

void xfer_finish_skip(struct xfer *x, const char *why)
{
    struct cache *c = x->c;
    cache_lock(c);
    struct ckey *k = x->k;
    if (xfer_stopped(x) || (x->f != NULL && x->f->gen != x->gen) || k->state != FS_UPLOADING) {
        x->called_off = true;
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    log_debug("upload", "remote=%s key=%s skipped: %s", k->ident->name, k->key, why);
    struct jtx *tx = jtx_new();
    if (k->up.id != NULL) {
        upload_drop(c, k);
    }
    key_event(c, k, FE_FOUND_OURS, why);
    if (x->absent) {
        k->want_absent = false;
        k->base.known = true;
        k->base.exists = false;
        k->move = false;
    } else if (k->base.known && k->base.exists) {
        struct cfile *f = x->f;
        file_drop_edges(c, f);
        file_to_base(c, f, &k->base);
        f->meta_dirty = f->meta_explicit = f->meta_removed = false;
        c->files_skipped++;
        c->files_done++;
        struct cattr a = f->attr;
        a.size = f->map.size;
        dir_note(c, k->ident, k->key, &a, &k->base, false);
    } else {
        /* a marker that is not needed: the directory shows by its children, and the ledger keeps its attributes */
        kv_copy(&x->meta, &x->f->meta);
        ledger_line(x, tx);
        file_drop_edges(c, x->f);
        k->base.known = true;
        k->base.exists = false;
        key_forget_file(c, k);
    }
    k->changed_ns = time_mono_ns();
    key_journal(c, k, tx);
    if (jtx_empty(tx)) {
        jtx_free(tx);
    } else {
        journal_submit(c->journal, tx, 0, NULL, NULL);
    }
    end_clean_locked(x);
    cache_unlock(c);
}

/* ---- sending ---- */

static void committing_row(void *ctx, int status)
{
    struct xfer *x = ctx;
    struct cache *c = x->c;
    if (status == 0) {
        xfer_next(x, send_request);
        return;
    }
    cache_lock(c);
    err_set(&x->err, ERR_LOCAL, status, "the journal cannot be written: %s", strerror(-status));
    key_event(c, x->k, FE_REPLY_LOST, "journal"); /* nothing was sent; a look will say so */
    x->k->due_ns = time_mono_ns() + 1000000000LL;
    x->called_off = x->ended = true;
    xfer_drop(x);
    cache_unlock(c);
}

/* "-" for a DELETE; else "size etag crc mtime", with "?" for what is not known: what the provider will show of it; and "parts"
 * when it commits the slot's upload. */
static void sent_write(struct xfer *x)
{
    struct ckey *k = x->k;
    char etag[BE_ETAG_MAX] = "?", crc_text[20] = "?";
    uint64_t crc;
    if (x->absent) {
        snprintf(k->sent, sizeof(k->sent), "-");
        return;
    }
    if (x->plan.action == PLAN_PUT) {
        hex_encode(x->md5, 16, etag);
        if (be_has_crc(x->id->caps)) {
            snprintf(crc_text, sizeof(crc_text), "%016" PRIx64, be_crc_update(x->id->caps, 0, x->buf, x->map.size));
        }
    } else if (x->plan.action == PLAN_COPY && x->whole->etag[0] != '\0' && strlen(x->whole->etag) < 80) {
        memcpy(etag, x->whole->etag, strlen(x->whole->etag) + 1);
    } else if (x->plan.action == PLAN_MULTIPART) {
        char composite[48];
        if ((x->id->caps & BE_CAP_MP_ETAG_MD5S) && composite_of_upload(k, x->n_parts, composite)) {
            memcpy(etag, composite, sizeof(composite));
        }
        if (combined_crc(k, x->n_parts, &crc)) {
            snprintf(crc_text, sizeof(crc_text), "%016" PRIx64, crc);
        }
    }
    const char *mtime = kv_get(&x->meta, "meta-mtime");
    snprintf(k->sent, sizeof(k->sent), "%" PRIu64 " %s %s %.60s%s", x->stream ? x->f->map.size : x->map.size, etag, crc_text,
             mtime != NULL ? mtime : "?", x->plan.action == PLAN_MULTIPART ? SENT_PARTS : "");
}

static bool sent_parts(const struct ckey *k)
{
    size_t n = strlen(k->sent), m = strlen(SENT_PARTS);
    return n >= m && strcmp(k->sent + n - m, SENT_PARTS) == 0;
}

/* Whether the object seen is what went out. */
static bool sent_matches(const struct ckey *k, const struct be_object *o, const struct kvlist *meta, bool base_same)
{
    unsigned long long size;
    uint64_t sum;
    char etag[BE_ETAG_MAX], crc[24], mtime[64], hex[24];
    if (sscanf(k->sent, "%llu %143s %23s %63s", &size, etag, crc, mtime) != 4 || o->size != size) {
        return false;
    }
    const char *there = kv_get(meta, "meta-mtime");
    bool same_time = strcmp(mtime, "?") == 0 || (there != NULL && strcmp(there, mtime) == 0);
    if (base_same) {
        return false; /* or the same bytes again: then sending them again does no harm */
    }
    if (strcmp(crc, "?") != 0 && be_crc_of(k->ident->caps, o, &sum)) {
        snprintf(hex, sizeof(hex), "%016" PRIx64, sum);
        return strcmp(hex, crc) == 0;
    }
    if (strcmp(etag, "?") != 0 && strcasecmp(etag, o->etag) == 0) {
        return true;
    }
    if (strcmp(etag, "?") != 0 && o->etag_is_md5 && strlen(etag) == 32) {
        return false; /* both are MD5s, of different bytes */
    }
    return same_time && strcmp(mtime, "?") != 0;
}

void commit_begin(struct xfer *x)
{
    struct cache *c = x->c;
    cache_lock(c);
    struct ckey *k = x->k;
    if (!xfer_stopped(x) && x->f != NULL && x->f->gen != x->gen) {
        x->called_off = true; /* changed while its bytes were being read */
    }
    if (xfer_stopped(x)) {
        if (k->state == FS_UPLOADING && !x->failed) {
            key_event(c, k, FE_CHANGE, "changed while it was read");
        }
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    if (!key_may_commit(c, k, time_mono_ns())) {
        x->waiting_commit = true;
        xfer_drop(x); /* the scheduler calls commit_retry_locked when a reader has gone */
        cache_unlock(c);
        return;
    }
    x->waiting_commit = false;
    key_event(c, k, FE_SEND, "ready");
    k->sent_gen = x->gen;
    k->sent_absent = x->absent;
    sent_write(x);
    key_keep_sent(k, x->absent ? NULL : &x->map);
    if (x->f != NULL && x->md5_known && !x->md5_inherited) {
        memcpy(x->f->md5_sum, x->md5, 16);
        x->f->has_md5 = true;
    }
    struct jtx *tx = jtx_new();
    key_journal(c, k, tx);
    journal_submit(c->journal, tx, JTX_DURABLE, committing_row, x);
    cache_unlock(c);
}

void commit_retry_locked(struct xfer *x)
{
    mutex_assert_held(&x->c->lock);
    if (!x->waiting_commit || !key_may_commit(x->c, x->k, time_mono_ns())) {
        return;
    }
    x->waiting_commit = false;
    xfer_hold(x);
    xfer_next(x, commit_begin);
}

/* After FE_SEND: what an unsuccessful answer means. */
static void commit_failed(struct xfer *x, const struct errinfo *err)
{
    struct cache *c = x->c;
    cache_lock(c);
    struct ckey *k = x->k;
    x->err = *err;
    x->called_off = x->ended = true;
    /* A bucket that is gone refuses as finally as a missing right. */
    switch (err->cls == ERR_ABSENT && strcmp(err->code, "NoSuchBucket") == 0 ? ERR_AUTH : err->cls) {
    case ERR_AUTH:
    case ERR_QUOTA:
    case ERR_INVALID:
    case ERR_ARCHIVED:
        if (!err->outcome_unknown) {
            if (pause_refused(x, err)) {
                break;
            }
            key_refused(c, k, FE_REFUSED, err);
            if (x->f != NULL && k->file == x->f && x->f->gen != x->gen && x->f->sealed) {
                key_event(c, k, FE_RETRY, "newer content"); /* what was refused is not what is wanted now */
                k->due_ns = time_mono_ns();
                key_submit_row(c, k);
            }
            break;
        }
        __attribute__((fallthrough));
    default:
        k->err = *err;
        k->tries++;
        if (err->outcome_unknown && !(x->f != NULL && x->f->is_marker)) {
            /* nothing different goes out before the lost request cannot land any more (rules B1) */
            k->settle_ns = time_mono_ns() + (int64_t)x->id->conf->request_timeout_ms * 1000000LL;
        }
        key_event(c, k, err->cls == ERR_PRECOND ? FE_PRECOND : FE_REPLY_LOST, err->message);
        k->due_ns = time_mono_ns() + xfer_backoff(k->tries);
        struct jtx *tx = jtx_new();
        key_journal(c, k, tx);
        journal_submit(c->journal, tx, 0, NULL, NULL);
        char line[512];
        log_limited(LOG_LEVEL_WARN, "upload", x->id->name, 5000, "remote=%s key=%s outcome to be looked up: %s", k->ident->name, k->key,
                    err_format(err, line, sizeof(line)));
    }
    xfer_drop(x);
    cache_unlock(c);
}

static void integrity(struct xfer *x, const char *what)
{
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    struct errinfo e = {0};
    err_set(&e, ERR_INTEGRITY, -EIO, "%s", what);
    log_error("upload", "remote=%s key=%s %s: it is sent again", x->id->name, x->k->key, what);
    cache_lock(c);
    /* The key holds something, known to be wrong: it is our base, and the right content is still wanted. */
    struct ckey *k = x->k;
    k->base.known = k->base.exists = true;
    k->base.o = x->result;
    k->base.seen_ns = time_mono_ns();
    k->tries++;
    k->err = e;
    upload_drop(c, k);
    k->sent_gen = 0; /* whoever waits for it waits on */
    key_event(x->c, k, FE_ACCEPTED_OLD, what);
    if (k->tries >= 3) {
        key_refused(x->c, k, FE_REFUSED, &e);
    } else {
        k->due_ns = time_mono_ns() + 1000000000LL;
        key_submit_row(x->c, k);
    }
    x->called_off = x->ended = true;
    xfer_drop(x);
    cache_unlock(c);
}

static void put_done(struct be_op *op)
{
    struct xfer *x = op->owner;
    KILL_POINT("commit: PUT answered");
    if (op->status != 0) {
        commit_failed(x, &op->err);
        return;
    }
    x->stray = op->stray;
    x->result = x->write.object;
    x->result.size = x->map.size;
    char hex[33];
    hex_encode(x->md5, 16, hex);
    if (x->result.etag_is_md5 && strcasecmp(hex, x->result.etag) != 0) {
        integrity(x, "the provider's MD5 differs");
        return;
    }
    uint64_t crc;
    bool has_crc = be_crc_of(x->id->caps, &x->result, &crc);
    if (has_crc && crc != be_crc_update(x->id->caps, 0, x->buf, x->map.size)) {
        integrity(x, "the provider's checksum differs");
        return;
    }
    x->content_verified = x->result.etag_is_md5 || has_crc;
    accepted(x);
}

static void head_key(struct xfer *x, void (*done)(struct be_op *op))
{
    memset(&x->stat, 0, sizeof(x->stat));
    x->stat.op.key = x->k->key;
    x->stat.op.lane = BE_LANE_SMALL;
    x->stat.op.owner = x;
    x->stat.op.done = done;
    be_stat(x->id->be, &x->stat);
}

static void verify_head_done(struct be_op *op);

static void copy_done(struct be_op *op)
{
    struct xfer *x = op->owner;
    struct cache *c = x->c; /* x may be gone after xfer_drop */
    bool gone = op->err.cls == ERR_ABSENT && strcmp(op->err.code, "NoSuchBucket") != 0;
    KILL_POINT("commit: copy answered");
    if (op->status != 0 && x->plan.action == PLAN_COPY && (op->err.cls == ERR_PRECOND || gone) && !op->err.outcome_unknown) {
        /* The condition was on the source: the target is untouched, and the source must be looked at. */
        cache_lock(c);
        key_event(x->c, x->k, FE_PRECOND, "source changed");
        key_event(x->c, x->k, FE_FOUND_BASE, "source changed");
        key_event(x->c, x->k, FE_START, "source changed");
        if (gone) {
            err_set(&op->err, ERR_ABSENT, -ENOENT, "the source %s is gone", x->whole->key);
        }
        if (x->k->want_absent || x->k->file != x->f || x->f->gen != x->gen) {
            key_event(c, x->k, FE_CHANGE, "changed while it was sent"); /* what it is now decides for itself */
        }
        xfer_fail(x, &op->err);
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    if (op->status != 0) {
        commit_failed(x, &op->err);
        return;
    }
    x->stray = op->stray;
    x->result = x->copy.object;
    x->result.size = x->map.size;
    const struct extent_source *src = x->plan.action == PLAN_COPY ? x->whole : x->base;
    if (strcmp(x->result.etag, src->etag) == 0 && x->result.etag_is_md5) {
        x->content_verified = true;
        accepted(x);
        return;
    }
    head_key(x, verify_head_done);
}

/* Whether an object seen at the key is what the running or lost multipart commit makes. */
static int multipart_matches(struct xfer *x, const struct be_object *o)
{
    char want[48];
    uint64_t crc, sum;
    if (o->size != x->map.size && !x->stream) {
        return 0;
    }
    if (be_crc_of(x->id->caps, o, &sum) && combined_crc(x->k, x->n_parts, &crc)) {
        return sum == crc ? 2 : 0;
    }
    if ((x->id->caps & BE_CAP_MP_ETAG_MD5S) && composite_of_upload(x->k, x->n_parts, want)) {
        return strcasecmp(want, o->etag) == 0 ? 2 : 0;
    }
    return 1; /* size only */
}

static void verify_head_done(struct be_op *op)
{
    struct xfer *x = op->owner;
    if (op->status != 0) {
        op->err.outcome_unknown = true;
        commit_failed(x, &op->err);
        return;
    }
    x->result = x->stat.object;
    be_stat_fini(&x->stat);
    if (x->result.size != x->map.size) {
        integrity(x, "the provider's size differs");
        return;
    }
    if (x->plan.action == PLAN_MULTIPART) {
        int m = multipart_matches(x, &x->result);
        if (m == 0) {
            integrity(x, "the provider's checksum differs");
            return;
        }
        x->content_verified = m == 2;
    } else if (x->result.etag_is_md5 && x->md5_known) {
        char hex[33];
        hex_encode(x->md5, 16, hex);
        if (strcasecmp(hex, x->result.etag) != 0 && !x->md5_inherited) {
            integrity(x, "the provider's MD5 differs");
            return;
        }
        x->content_verified = true;
    }
    accepted(x);
}

static void complete_done(struct be_op *op)
{
    struct xfer *x = op->owner;
    KILL_POINT("commit: Complete answered");
    if (op->status != 0) {
        commit_failed(x, &op->err);
        return;
    }
    x->result = x->commit.object;
    x->result.size = x->map.size;
    if (x->result.etag[0] == '\0') {
        head_key(x, verify_head_done);
        return;
    }
    int m = multipart_matches(x, &x->result);
    if (m == 0) {
        integrity(x, "the provider's checksum differs");
        return;
    }
    if (m == 1) {
        head_key(x, verify_head_done);
        return;
    }
    x->content_verified = true;
    accepted(x);
}

static void remove_done(struct be_op *op)
{
    struct xfer *x = op->owner;
    KILL_POINT("commit: DELETE answered");
    if (op->status != 0 && !(op->err.cls == ERR_ABSENT && strcmp(op->err.code, "NoSuchBucket") != 0)) {
        commit_failed(x, &op->err);
        return;
    }
    x->stray = op->stray;
    accepted(x);
}

static const char *condition(struct xfer *x)
{
    const struct cver *b = &x->k->base;
    /* A marker carries no bytes anybody could lose, and a directory may have come to be by its children. */
    bool can = xfer_takes_condition(x, BE_CAP_IF_MATCH) && !x->f->is_marker;
    cache_lock(x->c);
    snprintf(x->if_match, sizeof(x->if_match), "%s", can && b->known && b->exists ? b->o.etag : "");
    cache_unlock(x->c);
    return x->if_match[0] != '\0' ? x->if_match : NULL;
}

static bool must_be_absent(const struct xfer *x)
{
    const struct cver *b = &x->k->base;
    return xfer_takes_condition(x, BE_CAP_IF_ABSENT) && !x->f->is_marker && b->known && !b->exists;
}

static void send_remove(struct xfer *x)
{
    memset(&x->remove, 0, sizeof(x->remove));
    x->remove.op.key = x->k->key;
    x->remove.op.lane = BE_LANE_SMALL;
    x->remove.op.owner = x;
    x->remove.op.done = remove_done;
    if (x->move && (x->id->caps & BE_CAP_IF_MATCH) && x->if_match[0] != '\0') {
        x->remove.if_match = x->if_match;
    }
    be_remove(x->id->be, &x->remove);
}

/* A moved object may be deleted only as the version that was moved (rules B6). */
static void move_headed(struct be_op *op)
{
    struct xfer *x = op->owner;
    struct cache *c = x->c;
    if (op->status != 0 && op->err.cls == ERR_ABSENT) {
        accepted(x);
        return;
    }
    if (op->status != 0) {
        commit_failed(x, &op->err);
        return;
    }
    bool same = strcmp(x->stat.object.etag, x->if_match) == 0;
    struct be_object seen = x->stat.object;
    be_stat_fini(&x->stat);
    if (same) {
        send_remove(x);
        return;
    }
    cache_lock(c);
    struct ckey *k = x->k;
    log_warn("upload", "remote=%s key=%s is kept: somebody else wrote it after it was moved", k->ident->name, k->key);
    k->base.known = k->base.exists = true;
    k->base.o = seen;
    k->base.seen_ns = time_mono_ns();
    key_event(c, k, FE_PRECOND, "changed by somebody else");
    bool still = k->want_absent;
    key_event(c, k, still ? FE_FOUND_OURS : FE_FOUND_BASE, "the move's deletion is dropped");
    if (still) {
        k->want_absent = false;
        k->move = false;
        dir_note(c, k->ident, k->key, NULL, &k->base, false);
    }
    key_submit_row(c, k);
    end_clean_locked(x);
    cache_unlock(c);
}

/* -o conflict=check: a look, just before, where the provider takes no condition itself (rules B8). A SETMETA has one: it copies
 * the version it is about. */
static bool must_look(const struct xfer *x)
{
    const struct cver *b = &x->k->base;
    return x->c->opt.conflict_check && !x->absent && !x->f->is_marker && x->plan.action != PLAN_SETMETA && b->known &&
           (x->plan.action == PLAN_COPY || !xfer_takes_condition(x, b->exists ? BE_CAP_IF_MATCH : BE_CAP_IF_ABSENT));
}

static void send_write(struct xfer *x);

static void looked(struct be_op *op)
{
    struct xfer *x = op->owner;
    const struct cver *b = &x->k->base;
    bool absent = op->status != 0 && op->err.cls == ERR_ABSENT && strcmp(op->err.code, "NoSuchBucket") != 0;
    if (op->status != 0 && !absent) {
        commit_failed(x, &op->err);
        return;
    }
    bool same = absent ? !b->exists : b->exists && strcmp(b->o.etag, x->stat.object.etag) == 0;
    be_stat_fini(&x->stat);
    if (!same) {
        struct errinfo e = {0};
        err_set(&e, ERR_PRECOND, -ESTALE, "somebody else changed it");
        commit_failed(x, &e);
        return;
    }
    send_write(x);
}

static void send_request(struct xfer *x)
{
    KILL_POINT("commit: before the request");
    if (x->absent) {
        if (x->move && !(x->id->caps & BE_CAP_IF_MATCH) && x->if_match[0] != '\0') {
            head_key(x, move_headed);
            return;
        }
        send_remove(x);
        return;
    }
    if (must_look(x)) {
        head_key(x, looked);
        return;
    }
    send_write(x);
}

/* The MD5 of the whole that was computed while its parts went out; false when there is none, or when it was known before. */
static bool md5_of_parts(struct xfer *x)
{
    const struct cupload *up = &x->k->up;
    if (x->plan.action != PLAN_MULTIPART || x->plan.md5 != PLAN_MD5_AFTER || !x->hash_whole || up->hash_next != x->n_parts) {
        return false;
    }
    struct digest_md5 d = up->md5;
    digest_md5_final(&d, x->md5);
    x->md5_known = true;
    return true;
}

static void send_write(struct xfer *x)
{
    struct cache *c = x->c;
    struct ckey *k = x->k;
    switch (x->plan.action) {
    case PLAN_PUT:
        memset(&x->write, 0, sizeof(x->write));
        x->write.op.key = k->key;
        x->write.op.lane = x->big ? BE_LANE_BIG : BE_LANE_SMALL;
        x->write.op.owner = x;
        x->write.op.done = put_done;
        x->write.data = x->buf;
        x->write.len = x->map.size;
        x->write.md5 = x->md5;
        x->write.meta = &x->meta;
        x->write.if_match = condition(x);
        x->write.if_absent = must_be_absent(x);
        be_write(x->id->be, &x->write);
        return;
    case PLAN_COPY:
    case PLAN_SETMETA: {
        const struct extent_source *src = x->plan.action == PLAN_COPY ? x->whole : x->base;
        cache_lock(c);
        c->server_copies++;
        cache_unlock(c);
        memset(&x->copy, 0, sizeof(x->copy));
        x->copy.op.key = k->key;
        x->copy.op.lane = BE_LANE_SMALL;
        x->copy.op.owner = x;
        x->copy.op.done = copy_done;
        x->copy.src = xfer_source_be(c, src);
        x->copy.src_key = src->key;
        x->copy.src_etag = src->etag[0] != '\0' ? src->etag : NULL;
        x->copy.src_version_id = src->version_id[0] != '\0' ? src->version_id : NULL;
        x->copy.size = src->size;
        x->copy.meta = &x->meta;
        be_copy(x->id->be, &x->copy);
        return;
    }
    case PLAN_MULTIPART:
        x->ids = mem_zalloc((x->n_parts + 1) * sizeof(*x->ids));
        cache_lock(c);
        for (unsigned i = 0; i < x->n_parts; i++) {
            x->ids[i].number = i + 1;
            x->ids[i].size = k->up.parts[i].size;
            memcpy(x->ids[i].etag, k->up.parts[i].etag, BE_ETAG_MAX);
        }
        if (x->stream) {
            extent_fini(&x->map);
            extent_clone(&x->map, &x->f->map);
        }
        if ((x->id->caps & BE_CAP_MP_META_LATE) && md5_of_parts(x)) {
            meta_set_md5(&x->meta, x->md5, false);
            x->plan.md5 = PLAN_MD5_GIVEN;
        }
        cache_unlock(c);
        memset(&x->commit, 0, sizeof(x->commit));
        x->commit.op.key = k->key;
        x->commit.op.lane = BE_LANE_SMALL;
        x->commit.op.owner = x;
        x->commit.op.done = complete_done;
        x->commit.upload_id = k->up.id;
        x->commit.parts = x->ids;
        x->commit.n_parts = x->n_parts;
        x->commit.meta = &x->meta;
        x->commit.if_match = condition(x);
        x->commit.if_absent = must_be_absent(x);
        be_mp_commit(x->id->be, &x->commit);
        return;
    case PLAN_SKIP:
    case PLAN_IMPOSSIBLE:
        break;
    }
    ENSURE(false);
}

/* ---- accepted ---- */

/* Answered, or looked up after the answer was lost. */
static enum file_event outcome(const struct xfer *x, bool same)
{
    if (x->found) {
        return same ? FE_FOUND_OURS : FE_FOUND_OURS_OLD;
    }
    return same ? FE_ACCEPTED : FE_ACCEPTED_OLD;
}

/* The key now is what was sent. Content may have moved on meanwhile. */
static void accepted(struct xfer *x)
{
    struct cache *c = x->c;
    KILL_POINT("commit: accepted");
    if (x->plan.action == PLAN_SETMETA && x->base != NULL && x->segments.len == 0) {
        journal_segments_get(c->journal, x->id->id, x->k->key, x->base->etag, &x->segments);
    }
    cache_lock(c);
    pause_over(x, true);
    struct ckey *k = x->k;
    bool same = x->absent ? k->want_absent : !k->want_absent && k->file == x->f && x->f->gen == x->gen;
    struct jtx *tx = jtx_new();
    const struct cver replaced = k->base;
    memset(&k->base, 0, sizeof(k->base));
    k->base.known = true;
    k->base.exists = !x->absent;
    k->base.seen_ns = time_mono_ns();
    if (x->found) {
        k->settle_ns = 0; /* the request that was lost has landed: no other is out */
    } else if (x->stray) {
        /* Repeating it did no harm; after something else, the first one would (rules B1). A commit of parts cannot come
         * twice. */
        k->settle_ns = k->base.seen_ns + (int64_t)x->id->conf->request_timeout_ms * 1000000LL;
    }
    bool overtaken = x->time_set && dir_time_changed(c, k);
    k->changed_ns = k->base.seen_ns;
    if (x->absent) {
        jtx_ledger_delete(tx, x->id->id, k->key);
        upload_drop(c, k);
        key_event(c, k, outcome(x, same), "deleted");
        if (same) {
            k->want_absent = false;
            k->move = false;
        }
    } else {
        bool md5_later = md5_of_parts(x);
        k->base.o = x->result;
        if (k->base.o.mtime_ns == 0) {
            k->base.o.mtime_ns = time_wall_ns();
        }
        k->base.has_md5 = x->md5_known;
        memcpy(k->base.md5, x->md5, 16);
        if (k->want_absent && k->move) {
            memcpy(k->expect_etag, k->base.o.etag, sizeof(k->expect_etag)); /* moved away while it was sent */
        }
        if (replaced.known && replaced.exists) {
            key_rebase(c, k, &replaced.o);
        }
        ledger_line(x, tx);
        segments_line(x, tx);
        if (x->plan.action == PLAN_MULTIPART && !x->found) {
            jtx_parts_delete(tx, x->id->id, k->key);
            upload_fini(&k->up);
        } else if (k->up.id != NULL) {
            /* Begun for other content, which nobody wants any more; or committed, and whether the upload went with that
             * nobody told us. */
            upload_drop(c, k);
        }
        if (x->f != NULL && !x->f->is_marker) {
            c->bytes_done += x->map.size;
            c->bytes_total += x->map.size;
            c->files_total++;
            jtx_counter_add(tx, "files", 1);
            jtx_counter_add(tx, "bytes", (int64_t)x->map.size);
        }
        /* Once: what comes to be in the directory after that changes its time as it should. */
        int64_t never = INT64_MAX;
        bool time_later = same && x->time_set && !x->time_again &&
                          (overtaken || dir_time_changes(c, k, k->base.seen_ns, &never));
        bool meta_later = same && (md5_later || (x->stream && x->f->meta_explicit) || x->meta_stale || time_later);
        if (meta_later) {
            /* Complete but for its MD5 attribute, for what changed while it streamed, or for a time that will be overwritten:
             * the row now asks for a metadata update (rules D1). */
            struct cfile *f = x->f;
            memcpy(f->md5_sum, x->md5, 16); /* has_md5 below says whether it is one */
            file_to_base(c, f, &k->base);
            file_drop_edges(c, f);
            if (!x->stream && !x->meta_stale) {
                kv_copy(&f->meta, &x->meta); /* else the file has newer ones */
            }
            f->meta_known = true;
            f->meta_dirty = true;
            file_touch(f, false);
            f->has_md5 = md5_later || (x->meta_stale && x->md5_known && !x->md5_inherited);
            f->streaming = false;
            f->time_again = time_later;
            key_event(c, k, outcome(x, false), "its metadata is to follow");
            k->due_ns = time_mono_ns();
        } else {
            key_event(c, k, outcome(x, same), "accepted");
        }
        if (k->carries != NULL && k->carries == x->f) {
            stream_landed(c, k, tx);
        } else if (same && !meta_later) {
            struct cfile *f = x->f;
            kv_copy(&f->meta, &x->meta);
            kv_set(&f->meta, "storage-class", NULL);
            kv_set(&f->meta, "encryption", NULL);
            f->meta_known = true;
            f->meta_dirty = f->meta_explicit = f->meta_removed = f->moved = false;
            f->streaming = f->time_set = f->time_again = false;
            file_drop_edges(c, f);
            file_to_base(c, f, &k->base);
            struct cattr a = f->attr;
            a.size = f->is_marker ? 0 : f->map.size;
            dir_note(c, k->ident, k->key, &a, &k->base, false);
            if (!f->is_marker) {
                c->files_done++;
            }
        } else if (!same && k->file == x->f && x->f != NULL && !k->want_absent) {
            /* New content over what was just committed; what of it is BASE means the new version since key_rebase. */
            stream_landed(c, k, tx);
            if (!extent_has(&x->f->map, EXT_BASE)) {
                extent_source_unref(x->f->base);
                x->f->base = NULL;
            }
            key_due(c, k, time_mono_ns());
        }
        log_info("upload", "remote=%s key=%s size=%" PRIu64 " plan=%d verified=%s", k->ident->name, k->key, x->map.size, (int)x->plan.action,
                 x->content_verified ? "content" : "assembly");
    }
    if (x->f != NULL && x->f->is_marker && !x->absent) {
        struct cdirnode *d = dir_find(c, x->id, k->key, k->key_len);
        if (d != NULL) {
            d->has_marker = true;
            d->ours = false;
            d->listed_ns = time_mono_ns();
        }
    }
    key_journal(c, k, tx);
    journal_submit(c->journal, tx, 0, NULL, NULL);
    end_clean_locked(x);
    cache_unlock(c);
}

/* ---- UNKNOWN ---- */

static void resolve_headed(struct be_op *op)
{
    struct xfer *x = op->owner;
    struct cache *c = x->c;
    cache_lock(c);
    struct ckey *k = x->k;
    KILL_POINT("commit: outcome looked up");
    bool absent = op->status != 0 && op->err.cls == ERR_ABSENT && strcmp(op->err.code, "NoSuchBucket") != 0;
    if (op->status != 0 && !absent) {
        if (!pause_refused(x, &op->err)) {
            k->err = op->err;
            k->tries++;
            k->due_ns = time_mono_ns() + xfer_backoff(k->tries + 1);
        }
        x->called_off = x->ended = true;
        xfer_drop(x);
        cache_unlock(c);
        return;
    }
    const struct be_object *o = &x->stat.object;
    /* What nobody ever looked at and is not there has not been written by anybody. */
    bool base_same = absent ? !(k->base.known && k->base.exists)
                            : k->base.known && k->base.exists && strcmp(k->base.o.etag, o->etag) == 0;
    bool ours = k->sent_absent ? absent : !absent && sent_matches(k, o, &x->stat.meta, base_same);
    if (ours && !absent && x->f != NULL && k->up.id != NULL && sent_parts(k)) {
        /* A multipart commit that arrived: its MD5 attribute may still be due. */
        bool md5_due = kv_get(&x->stat.meta, "meta-md5") == NULL && x->id->conf->file_md5 != CONF_MD5_OFF &&
                       k->up.n_parts > 0 && k->up.hash_next == k->up.n_parts;
        x->plan.action = PLAN_MULTIPART;
        x->plan.md5 = md5_due ? PLAN_MD5_AFTER : PLAN_MD5_GIVEN;
        x->hash_whole = md5_due;
        x->n_parts = (unsigned)k->up.n_parts;
    }
    bool same_content = k->sent_absent == k->want_absent && (x->f == NULL || k->sent_gen == x->f->gen);
    if (ours && same_content) {
        if (!absent) {
            x->result = *o;
            x->meta_stale = !xfer_meta_is(x, &x->stat.meta); /* of parts, and of copies where attributes are a request of their own */
            kv_copy(&x->meta, &x->stat.meta);
            uint8_t md5[16];
            if (meta_get_md5(&x->meta, md5)) {
                memcpy(x->md5, md5, 16);
                x->md5_known = true;
            }
        }
        x->absent = k->sent_absent;
        be_stat_fini(&x->stat);
        cache_unlock(c);
        x->found = true;
        accepted(x);
        return;
    }
    const struct cver replaced = k->base;
    struct jtx *tx = jtx_new();
    k->base.known = true;
    k->base.exists = !absent;
    k->base.seen_ns = time_mono_ns();
    if (!absent) {
        k->base.o = *o;
        k->base.has_md5 = false;
        if (ours && replaced.known && replaced.exists) {
            key_rebase(c, k, &replaced.o);
        }
        if (ours) {
            stream_landed(c, k, tx);
        }
    }
    /* A directory may have come to be by its children: no marker is somebody else's. */
    bool weak = (!(x->id->caps & BE_CAP_IF_MATCH) && !c->opt.conflict_check) || k->key[k->key_len - 1] == '/';
    if (ours) {
        if (k->want_absent && k->move && !absent) {
            memcpy(k->expect_etag, o->etag, sizeof(k->expect_etag));
        }
        k->settle_ns = 0; /* it has landed */
        key_event(c, k, FE_FOUND_OURS_OLD, "looked up");
    } else if (base_same || weak) {
        key_event(c, k, FE_FOUND_BASE, base_same ? "the request did not arrive" : "last writer wins");
    } else {
        err_set(&k->err, ERR_PRECOND, -ESTALE, "somebody else wrote this key meanwhile; `objmig retry` overwrites it, "
                                               "`objmig discard` takes theirs");
        key_event(c, k, FE_FOUND_FOREIGN, "looked up");
        c->failed_total++;
    }
    if (k->state == FS_DIRTY && k->up.id != NULL && x->k->up.tag == NULL) {
        upload_drop(c, k);
    }
    key_due(c, k, same_content && !k->sent_absent ? time_mono_ns() : MAX(time_mono_ns(), k->settle_ns));
    key_journal(c, k, tx);
    journal_submit(c->journal, tx, 0, NULL, NULL);
    be_stat_fini(&x->stat);
    x->called_off = x->ended = true;
    xfer_drop(x);
    cache_unlock(c);
}

void resolve_begin(struct xfer *x)
{
    head_key(x, resolve_headed);
}
