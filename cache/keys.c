/* Key slots, files, and the graph of who must wait for whom.
 *
 * Edges: file F "reads" slot S while F has REMOTE extents of S's object and is not committed; or F was renamed away from S
 * (src NULL). S's commit request, an overwrite or a delete, waits until no edge points at it. So a source lives until every
 * copy of it is verified, and an object renamed is deleted only after its new name holds it (rules B2, B6). A new edge that
 * would close a cycle makes its file hydrate: its bytes come to the spool and its edges go (rules B4). */
#include "internal.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "mem.h"

/* How long an open reader of a replaced version holds the replacement up (rules B2). */
#define READER_HOLD_NS (600LL * 1000000000LL)

size_t key_hash(uint32_t ident, const char *key, size_t len)
{
    uint64_t h = 1469598103934665603ULL ^ ident;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (uint8_t)key[i]) * 1099511628211ULL;
    }
    return (size_t)(h ^ (h >> 29));
}

struct ckey *key_find(struct cache *c, struct cident *id, const char *key)
{
    mutex_assert_held(&c->lock);
    size_t len = strlen(key);
    if (c->n_buckets == 0) {
        return NULL;
    }
    struct ckey *k = c->keys[key_hash(id->id, key, len) & (c->n_buckets - 1)];
    while (k != NULL && (k->ident != id || k->key_len != len || memcmp(k->key, key, len) != 0)) {
        k = k->hash_next;
    }
    return k;
}

static void keys_grow(struct cache *c)
{
    size_t n = c->n_buckets == 0 ? 1024 : c->n_buckets * 2;
    struct ckey **b = mem_zalloc(n * sizeof(*b));
    for (size_t i = 0; i < c->n_buckets; i++) {
        struct ckey *next;
        for (struct ckey *k = c->keys[i]; k != NULL; k = next) {
            next = k->hash_next;
            size_t h = key_hash(k->ident->id, k->key, k->key_len) & (n - 1);
            k->hash_next = b[h];
            b[h] = k;
        }
    }
    free(c->keys);
    c->keys = b;
    c->n_buckets = n;
}

struct ckey *key_get(struct cache *c, struct cident *id, const char *key)
{
    struct ckey *k = key_find(c, id, key);
    if (k != NULL) {
        return k;
    }
    if (c->n_keys >= c->n_buckets) {
        keys_grow(c);
    }
    size_t len = strlen(key);
    k = mem_zalloc(sizeof(*k) + len + 1);
    k->ident = id;
    k->key_len = len;
    memcpy(k->key, key, len + 1);
    k->state = FS_CLEAN;
    size_t h = key_hash(id->id, key, len) & (c->n_buckets - 1);
    k->hash_next = c->keys[h];
    c->keys[h] = k;
    c->n_keys++;
    return k;
}

void key_drop_if_idle(struct cache *c, struct ckey *k)
{
    int64_t now = time_mono_ns();
    if (k->state != FS_CLEAN || k->x != NULL || k->settle_ns > now || k->pins > 0 || k->readers != NULL || k->on_dirty ||
        k->fsync_waiters != NULL || k->up.id != NULL) {
        return;
    }
    if (k->aside != NULL || (k->file != NULL && (k->file->refs > 1 || k->file->spool_id != 0))) {
        return;
    }
    /* A listing asked for before our change may still arrive: the slot must contradict it (rules E3). */
    if (k->changed_ns != 0 && k->dir != NULL && k->dir->listing) {
        return;
    }
    if (k->changed_ns != 0 && now - k->changed_ns < (int64_t)c->opt.list_ttl_ms * 1000000LL * 2) {
        return;
    }
    struct ckey **pp = &c->keys[key_hash(k->ident->id, k->key, k->key_len) & (c->n_buckets - 1)];
    while (*pp != k) {
        pp = &(*pp)->hash_next;
    }
    *pp = k->hash_next;
    c->n_keys--;
    if (k->file != NULL) {
        k->file->at = NULL;
        file_unref(c, k->file);
    }
    dir_let_go(k);
    upload_fini(&k->up);
    free(k);
}

bool key_has_file(const struct ckey *k)
{
    return k->file != NULL && !k->want_absent;
}

static void dirty_add(struct cache *c, struct ckey *k)
{
    if (k->on_dirty) {
        return;
    }
    k->on_dirty = true;
    k->seq = c->next_seq++;
    k->dirty_prev = c->dirty_tail;
    k->dirty_next = NULL;
    if (c->dirty_tail != NULL) {
        c->dirty_tail->dirty_next = k;
    } else {
        c->dirty_head = k;
    }
    c->dirty_tail = k;
    c->n_dirty++;
    k->ident->n_dirty++;
}

static void dirty_remove(struct cache *c, struct ckey *k)
{
    if (!k->on_dirty) {
        return;
    }
    k->on_dirty = false;
    move_is_over(c, k);
    if (k->dirty_prev != NULL) {
        k->dirty_prev->dirty_next = k->dirty_next;
    } else {
        c->dirty_head = k->dirty_next;
    }
    if (k->dirty_next != NULL) {
        k->dirty_next->dirty_prev = k->dirty_prev;
    } else {
        c->dirty_tail = k->dirty_prev;
    }
    k->dirty_prev = k->dirty_next = NULL;
    c->n_dirty--;
    k->ident->n_dirty--;
}

/* Answers fsyncs whose content is at the provider (or absent now), or that have failed. `arrived`: what was sent last is there. */
static void fsync_wake(struct cache *c, struct ckey *k, bool arrived)
{
    struct creq **pp = &k->fsync_waiters;
    while (*pp != NULL) {
        struct creq *r = *pp;
        int status;
        if (k->state == FS_CLEAN) {
            status = 0;
        } else if (k->state == FS_BLOCKED || k->state == FS_CONFLICT) {
            status = err_to_errno(&k->err);
        } else if (arrived && r->seq <= k->sent_gen) {
            status = 0; /* it waited for that; newer content is pending */
        } else {
            pp = &r->next;
            continue;
        }
        *pp = r->next;
        creq_end_locked(c, r, status);
    }
}

/* Its change will end by itself: what a removed directory waits for. */
static bool under_way(const struct ckey *k)
{
    return k->on_dirty && k->state != FS_BLOCKED && k->state != FS_CONFLICT;
}

void key_event(struct cache *c, struct ckey *k, enum file_event e, const char *why)
{
    mutex_assert_held(&c->lock);
    bool was = under_way(k);
    int to = file_state_next(k->state, e);
    if (to < 0) {
        log_error("state", "remote=%s key=%s impossible event=%s state=%s why=%s", k->ident->name, k->key, file_event_name(e),
                  file_state_name(k->state), why);
    }
    ENSURE(to >= 0);
    if ((enum file_state)to != k->state) {
        log_debug("state", "remote=%s key=%s gen=%llu %s->%s %s", k->ident->name, k->key,
                  (unsigned long long)(k->file != NULL ? k->file->gen : 0), file_state_name(k->state),
                  file_state_name((enum file_state)to), why);
    }
    k->state = (enum file_state)to;
    if (k->state != FS_COMMITTING && k->state != FS_UNKNOWN) {
        key_keep_sent(k, NULL);
    }
    if (k->state == FS_CLEAN) {
        dirty_remove(c, k);
        k->tries = 0;
        k->hurry = false;
        err_clear(&k->err);
    } else {
        dirty_add(c, k);
    }
    if (was != under_way(k)) {
        dir_hold(c, k);
        k->dir->under_way += was ? -1 : 1;
        k->dir->settled_ns = was ? time_mono_ns() : k->dir->settled_ns;
    }
    fsync_wake(c, k, e == FE_ACCEPTED_OLD || e == FE_FOUND_OURS_OLD);
}

void key_recovered(struct cache *c, struct ckey *k)
{
    dirty_add(c, k);
    dir_hold(c, k);
    k->dir->under_way += under_way(k);
}

void key_due(struct cache *c, struct ckey *k, int64_t at_ns)
{
    const struct cfile *f = key_sends(k);
    bool open = f != NULL && !f->sealed && !f->hydrate && !f->streaming;
    k->due_ns = open ? INT64_MAX : at_ns;
    if (k->due_ns < c->wake_ns) {
        cache_kick_locked(c);
    }
}

/* Depth-first over "commit of S waits for the files that read S": true when target is reached. */
static bool waits_for(struct cache *c, struct ckey *s, const struct ckey *target)
{
    if (s->visit == c->visit) {
        return false;
    }
    s->visit = c->visit;
    for (struct cref_edge *e = s->readers; e != NULL; e = e->next_of_slot) {
        struct ckey *t = e->file->at;
        bool waits = e->src != NULL || s->want_absent || s->carries == e->file; /* what it carries will be read from it */
        if (t == NULL || e->expires_ns != 0 || t == s || e->file->hydrate || !waits) {
            continue;
        }
        if (t == target || (t->state != FS_CLEAN && waits_for(c, t, target))) {
            return true;
        }
    }
    return false;
}

void key_content_changes(struct cache *c, struct ckey *k, const char *why)
{
    if (k->carries != NULL && k->state == FS_UPLOADING) {
        return; /* the transfer is not about this content */
    }
    bool was_active = k->state == FS_UPLOADING;
    key_event(c, k, FE_CHANGE, why);
    if (was_active) {
        xfer_call_off(c, k);
    }
}

void key_changed(struct cache *c, struct ckey *k)
{
    mutex_assert_held(&c->lock);
    int64_t now = time_mono_ns();
    k->changed_ns = now;
    k->tries = 0;
    dir_hold(c, k);
    if (k->state == FS_BLOCKED && (k->want_absent || (k->file != NULL && k->file->sealed))) {
        key_event(c, k, FE_RETRY, "changed"); /* what was refused is not what is wanted now */
        err_clear(&k->err);
    }
    key_content_changes(c, k, "changed");
    if (k->file != NULL && !k->want_absent) {
        file_relink(c, k->file);
        if (k->file->reads != NULL && !k->file->hydrate) {
            c->visit++;
            if (waits_for(c, k, k)) {
                k->file->hydrate = true;
                log_debug("state", "remote=%s key=%s hydrates: its copy would close a cycle", k->ident->name, k->key);
            }
        }
    }
    if (k->state != FS_UNKNOWN && k->carries == NULL) { /* a look at the provider comes first, and has its own time */
        key_due(c, k, now + (int64_t)c->opt.writeback_delay_ms * 1000000LL);
    }
}

bool key_may_commit(struct cache *c, struct ckey *k, int64_t now_ns)
{
    mutex_assert_held(&c->lock);
    const struct cfile *f = key_sends(k);
    for (struct cref_edge *e = k->readers; e != NULL; e = e->next_of_slot) {
        if (f != NULL && (e->file == f || e->src == NULL)) {
            continue; /* src NULL orders a deletion; what is written over the name reads for itself */
        }
        if (e->expires_ns != 0 && now_ns > e->expires_ns) {
            continue;
        }
        return false;
    }
    return true;
}

void file_pin_for_move(struct cache *c, struct cfile *f)
{
    mutex_assert_held(&c->lock);
    if (f->base == NULL || !extent_has(&f->map, EXT_BASE)) {
        return;
    }
    struct extent_map m;
    extent_init(&m);
    for (uint64_t off = 0; off < f->map.size;) {
        const struct extent *e = extent_find(&f->map, off);
        uint64_t len = e->off + e->len - off, done = len;
        if (e->kind == EXT_LOCAL) {
            extent_set(&m, off, len, EXT_LOCAL, NULL, 0);
        } else {
            ENSURE(extent_copy(&m, off, &f->map, off, len, f->base, &done) == 0 && done > 0);
        }
        off += done;
    }
    extent_truncate(&m, f->map.size);
    extent_fini(&f->map);
    f->map = m;
    extent_source_unref(f->base);
    f->base = NULL;
    file_relink(c, f);
}

void key_forget_file(struct cache *c, struct ckey *k)
{
    struct cfile *old = k->file;
    if (old == NULL) {
        return;
    }
    k->file = NULL;
    if (old->at == k) {
        stream_abandon(c, old);
        old->at = NULL;
        file_unpark(c, old, false); /* no commit concerns it any more */
        if (old->opens > 0) {
            /* It reads on: what was its base is a pinned version, and holds the key's next change up for a while. */
            file_pin_for_move(c, old);
            for (struct cref_edge *e = old->reads; e != NULL; e = e->next_of_file) {
                e->expires_ns = time_mono_ns() + READER_HOLD_NS;
            }
        } else {
            file_drop_edges(c, old);
        }
    }
    file_unref(c, old);
}

void key_drop_aside(struct cache *c, struct ckey *k)
{
    if (k->aside != NULL) {
        struct cfile *f = k->aside;
        k->aside = NULL;
        file_unref(c, f);
    }
}

void key_set_aside(struct cache *c, struct ckey *k)
{
    mutex_assert_held(&c->lock);
    struct cfile *f = k->file;
    ENSURE(k->state == FS_DIRTY && k->x == NULL && k->carries == NULL && f != NULL);
    stream_abandon(c, f);
    f->unfinished = true;
    f->wrote_since_flush = false;
    k->in_journal = true; /* its unsealed row stays the key's row */
    struct jtx *tx = jtx_new();
    file_row_goes(f);
    key_journal(c, k, tx);
    journal_submit(c->journal, tx, 0, NULL, NULL);
    key_drop_aside(c, k);
    file_drop_edges(c, f);
    k->aside = f; /* the slot's reference */
    k->file = NULL;
    f->at = NULL;
    key_event(c, k, FE_DISCARD, "unfinished");
    dir_note(c, k->ident, k->key, NULL, &k->base, !(k->base.known && k->base.exists));
    if (k->base.known && k->base.exists) {
        size_t plen = key_parent_len(k->key);
        struct cdirnode *d = dir_find(c, k->ident, k->key, plen);
        if (d != NULL) {
            d->complete = d->ours = false; /* its attributes are the provider's again */
        }
    }
}

#define OPEN_READER_NS (5LL * 1000000000LL)

/* What an open file was before O_TRUNC is not to hold others up for ever. */
static void give_up_kept(struct cache *c, struct cfile *f)
{
    file_row_goes(f);
    if (f->old_spool_id != 0) {
        spool_drop_later(c, f->old_spool_id);
        f->old_spool_id = 0;
    }
    key_submit_row(c, f->at);
    file_relink(c, f);
}

void key_free_from_open(struct cache *c, struct ckey *k, int64_t now_ns)
{
    for (struct cref_edge *e = k->readers; e != NULL; e = e->next_of_slot) {
        struct cfile *f = e->file;
        if (e->expires_ns != 0 || f->at == NULL || f->sealed || f->hydrate || (f->streaming && e->src != NULL) ||
            (!k->hurry && now_ns - k->due_ns <= OPEN_READER_NS)) {
            continue;
        }
        if (e->src == NULL) {
            if (k->want_absent && !k->move) {
                e->expires_ns = 1; /* still being written, so no move of k; and its bytes are here */
                cache_kick_locked(c);
            }
            continue;
        }
        if (f->keep_row) {
            give_up_kept(c, f);
            return; /* the list is another now: the next look goes on */
        }
        f->hydrate = true;
        key_due(c, f->at, now_ns);
    }
}

void key_set_file(struct cache *c, struct ckey *k, struct cfile *f)
{
    k->want_absent = k->dir_stays = false;
    k->move = false;
    if (k->file != f) {
        file_ref(f);
        key_forget_file(c, k);
        k->file = f;
    }
    f->time_again = f->time_again && f->at == k;
    f->at = k;
    for (struct cref_edge *e = f->reads; e != NULL; e = e->next_of_file) {
        e->expires_ns = 0; /* an exchange gives an unnamed file a name again: it copies now, it does not only read */
    }
}

bool key_speaks_for(const struct ckey *k, bool dir)
{
    return k->file != NULL ? k->file->is_marker == dir : !(dir && k->dir_stays);
}

void key_want_absent(struct cache *c, struct ckey *k, bool move)
{
    bool content = k->file != NULL ? !k->file->is_marker : k->base.exists && key_is_content(k->key, k->base.o.size);
    k->dir_stays = k->want_absent ? k->dir_stays : content && k->key[k->key_len - 1] == '/';
    key_forget_file(c, k);
    k->want_absent = true;
    k->move = move;
    k->expect_etag[0] = '\0';
    if (move && k->base.known && k->base.exists) {
        memcpy(k->expect_etag, k->base.o.etag, sizeof(k->expect_etag));
    }
}

void key_journal(struct cache *c, struct ckey *k, struct jtx *tx)
{
    mutex_assert_held(&c->lock);
    bool nothing_there = k->want_absent && k->base.known && !k->base.exists && k->x == NULL &&
                         k->state == FS_DIRTY && k->up.id == NULL && k->carries == NULL;
    if (k->state == FS_CLEAN || nothing_there || (!k->want_absent && k->file == NULL)) {
        if (k->in_journal && k->aside == NULL) {
            jtx_intent_delete(tx, k->ident->id, k->key);
            k->in_journal = false;
        }
        return;
    }
    struct cfile *f = k->want_absent ? NULL : k->file;
    bool hidden = k->carries != NULL && f != NULL && !f->sealed; /* the row is needed for what is carried */
    if (f != NULL && f->keep_row) {
        if (!f->sealed && !hidden) {
            return;
        }
        file_row_goes(f);
        file_relink(c, f);
        if (f->old_spool_id != 0) {
            spool_drop_later(c, f->old_spool_id);
            f->old_spool_id = 0;
        }
    }
    if (hidden) {
        f->row_sealed = false;
        f = NULL;
    }
    CLEANUP(buf_fini) struct buf ext = BUF_INIT;
    CLEANUP(buf_fini) struct buf meta = BUF_INIT;
    CLEANUP(buf_fini) struct buf sent = BUF_INIT;
    struct jintent row = {
        .remote = k->ident->id,
        .key = k->key,
        .seq = k->seq,
        .state = (int)k->state,
        .absent = f == NULL,
        .sealed = true,
        .move = k->move || hidden,
        .extents = "",
        .sent_extents = "",
        .meta = "",
        .base_etag = k->base.known && k->base.exists ? k->base.o.etag : "",
        .base_size = k->base.known && k->base.exists ? k->base.o.size : 0,
        .expect_etag = k->expect_etag,
        .after_key = "",
        .upload_id = k->up.id != NULL ? k->up.id : "",
        .sent = k->state == FS_COMMITTING || k->state == FS_UNKNOWN ? k->sent : "",
        .upload_tag = k->up.tag != NULL ? k->up.tag : "",
        .part_size = k->up.part_size,
        .changed_ns = time_wall_ns(),
        .err = k->err.cls != ERR_NONE ? &k->err : NULL,
    };
    if (k->sent_map.n > 0 && (f == NULL || f->gen != k->sent_gen)) {
        extent_format(&k->sent_map, &sent);
        row.sent_extents = buf_str(&sent);
    }
    if (f != NULL) {
        extent_format(&f->map, &ext);
        kv_format(&f->meta, &meta);
        row.gen = f->gen;
        row.sealed = f->sealed;
        row.hydrate = f->hydrate;
        row.unfinished = f->unfinished;
        row.spool_id = f->spool_id;
        row.size = f->map.size;
        row.extents = buf_str(&ext);
        row.meta = buf_str(&meta);
        row.has_md5 = f->has_md5;
        row.meta_flags = (f->meta_known ? 1 : 0) | (f->meta_explicit ? 2 : 0) | (f->meta_dirty ? 4 : 0) |
                         (f->moved ? 8 : 0) | (k->sent_gen == f->gen ? 16 : 0) | (f->lost ? 32 : 0) |
                         (f->meta_removed ? 64 : 0) | (f->time_set ? 128 : 0);
        memcpy(row.md5, f->md5_sum, 16);
        if (f->sealed) {
            row.changed_ns = f->sealed_wall_ns;
        }
        f->row_sealed = f->sealed;
        f->row_md5 = file_md5_tells(f);
        if (f->sealed && f->spool_id != 0 && !f->row_md5) {
            c->by_time_ns = MAX(c->by_time_ns, f->sealed_wall_ns);
        }
        if (f->carrier != NULL) {
            row.after_remote = f->carrier->ident->id;
            row.after_key = f->carrier->key;
        }
    }
    for (struct cref_edge *e = k->readers; e != NULL && row.absent; e = e->next_of_slot) {
        if (e->src == NULL && e->file->at != NULL) {
            row.after_remote = e->file->at->ident->id;
            row.after_key = e->file->at->key;
        }
    }
    jtx_intent_put(tx, &row);
    k->in_journal = true;
    if (row.sealed) {
        key_drop_aside(c, k); /* its row is gone now */
    }
}

void key_submit_row(struct cache *c, struct ckey *k)
{
    struct jtx *tx = jtx_new();
    key_journal(c, k, tx);
    if (jtx_empty(tx)) {
        jtx_free(tx);
        return;
    }
    journal_submit(c->journal, tx, 0, NULL, NULL);
}

/* The copy of s to `failed` will not come by itself: s must stay as it is (rules B5). */
static void source_of_failed(struct cache *c, struct ckey *s, const struct ckey *failed, struct jtx *tx)
{
    if (s->state != FS_DIRTY || s->x != NULL || s->carries != NULL || !(s->base.known && s->base.exists)) {
        return;
    }
    if (s->want_absent) {
        log_warn("upload", "remote=%s key=%s is kept: its copy %s failed, so it is not deleted", s->ident->name, s->key, failed->key);
        s->want_absent = false;
        s->move = false;
        key_event(c, s, FE_DISCARD, "copy failed");
        dir_note(c, s->ident, s->key, NULL, &s->base, false);
        key_journal(c, s, tx);
    } else if (s->file != NULL && s->file->sealed) {
        err_set(&s->err, ERR_PRECOND, -ESTALE, "not written: %s is still to be copied from the version it would replace",
                failed->key);
        key_event(c, s, FE_REFUSED, "source of a failed copy");
        c->failed_total++;
        key_journal(c, s, tx);
    }
}

void key_sources_of_failed(struct cache *c, struct ckey *k)
{
    for (struct cref_edge *e = k->readers; e != NULL; e = e->next_of_slot) {
        const struct ckey *t = e->file->at;
        if (t != NULL && t != k && e->expires_ns == 0 && (t->state == FS_BLOCKED || t->state == FS_CONFLICT)) {
            struct jtx *tx = jtx_new();
            source_of_failed(c, k, t, tx);
            journal_submit(c->journal, tx, 0, NULL, NULL);
            return;
        }
    }
}

void key_refused(struct cache *c, struct ckey *k, enum file_event e, const struct errinfo *err)
{
    bool archived = err->cls == ERR_ARCHIVED, again = archived && k->err.cls == ERR_ARCHIVED;
    k->err = *err;
    key_event(c, k, e, err->message);
    if (archived) {
        restore_refused(k);
    }
    if (!again) { /* what is looked at again and again is said once */
        char line[512];
        c->failed_total++;
        log_error("upload", "remote=%s key=%s failed: %s", k->ident->name, k->key, err_format(err, line, sizeof(line)));
    }
    struct jtx *tx = jtx_new();
    key_journal(c, k, tx);
    for (struct cref_edge *ed = k->file != NULL ? k->file->reads : NULL; ed != NULL; ed = ed->next_of_file) {
        source_of_failed(c, ed->slot, k, tx);
    }
    journal_submit(c->journal, tx, 0, NULL, NULL);
}

/* ---- files ---- */

/* Generations are unique over all files and, starting from the clock, over restarts: a slot may be given another file, and
 * "what was sent" must never be taken for it. */
static uint64_t next_gen(void)
{
    static uint64_t last;
    if (last == 0) {
        last = (uint64_t)time_wall_ns() / 1000;
    }
    return ++last;
}

struct cfile *file_new(struct cache *c)
{
    struct cfile *f = mem_zalloc(sizeof(*f));
    f->refs = 1;
    f->gen = next_gen();
    extent_init(&f->map);
    digest_md5_init(&f->md5);
    f->hash_ok = true;
    return f;
}

struct cfile *file_ref(struct cfile *f)
{
    f->refs++;
    return f;
}

struct spool_drop {
    struct spool_drop *next;
    struct work w;
    struct cache *c;
    uint64_t id;
};

/* On a worker: freeing a large file takes its time. */
static void spool_drop_run(struct work *w)
{
    struct spool_drop *d = CONTAINER_OF(w, struct spool_drop, w);
    struct cache *c = d->c;
    spool_remove(c->spool, d->id);
    free(d);
    cache_lock(c);
    cache_kick_locked(c); /* writers may be waiting for the room */
    cache_async_end_locked(c);
    cache_unlock(c);
}

static void spool_drops_done(void *ctx, int status)
{
    struct spool_drop *next;
    for (struct spool_drop *d = ctx; d != NULL; d = next) {
        next = d->next;
        if (status == 0) {
            d->w.run = spool_drop_run;
            pool_submit(d->c->workers, &d->w);
            continue;
        }
        /* The journal still names it, or may: it stays until the next start looks. */
        cache_lock(d->c);
        cache_async_end_locked(d->c);
        cache_unlock(d->c);
        free(d);
    }
}

void spool_drop_later(struct cache *c, uint64_t spool_id)
{
    struct spool_drop *d = mem_zalloc(sizeof(*d));
    d->c = c;
    d->id = spool_id;
    d->next = c->drops;
    c->drops = d;
    cache_async_begin_locked(c);
}

void spool_drops_submit_locked(struct cache *c)
{
    if (c->drops != NULL) {
        journal_submit(c->journal, jtx_new(), 0, spool_drops_done, TAKE(c->drops));
    }
}

void file_unref(struct cache *c, struct cfile *f)
{
    ENSURE(f->refs > 0);
    if (--f->refs > 0) {
        return;
    }
    ENSURE(f->opens == 0 && f->at == NULL);
    file_drop_edges(c, f);
    file_lru_remove(c, f);
    reader_drop(c, f);
    if (f->spool_id != 0) {
        spool_drop_later(c, f->spool_id);
    }
    if (f->old_spool_id != 0) {
        spool_drop_later(c, f->old_spool_id);
    }
    extent_source_unref(f->base);
    extent_fini(&f->map);
    extent_fini(&f->kept_map);
    extent_fini(&f->turned_away);
    kv_fini(&f->meta);
    free(f);
}

void file_row_goes(struct cfile *f)
{
    f->keep_row = false;
    extent_fini(&f->kept_map);
    extent_init(&f->kept_map);
}

static bool map_reads(const struct extent_map *m, const struct extent_source *src)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].kind == EXT_REMOTE && m->v[i].src == src) {
            return true;
        }
    }
    return false;
}

void file_touch(struct cfile *f, bool data)
{
    f->gen = next_gen();
    if (data) {
        f->has_md5 = false;
    }
}

bool file_md5_tells(const struct cfile *f)
{
    return f->has_md5 && extent_bytes(&f->map, EXT_LOCAL) == f->map.size;
}

struct extent_source *file_base_as_source(struct cfile *f)
{
    return f->base != NULL ? extent_source_ref(f->base) : NULL;
}

static void edge_unlink(struct cache *c, struct cref_edge *e)
{
    if (e->prev_of_slot != NULL) {
        e->prev_of_slot->next_of_slot = e->next_of_slot;
    } else {
        e->slot->readers = e->next_of_slot;
    }
    if (e->next_of_slot != NULL) {
        e->next_of_slot->prev_of_slot = e->prev_of_slot;
    }
    if (e->slot->on_dirty && e->slot->readers == NULL) {
        cache_kick_locked(c);
    }
    extent_source_unref(e->src);
    free(e);
}

static void edge_add(struct cfile *f, struct ckey *slot, struct extent_source *src)
{
    struct cref_edge *e = mem_zalloc(sizeof(*e));
    e->file = f;
    e->slot = slot;
    e->src = src != NULL ? extent_source_ref(src) : NULL;
    e->next_of_file = f->reads;
    f->reads = e;
    e->next_of_slot = slot->readers;
    if (slot->readers != NULL) {
        slot->readers->prev_of_slot = e;
    }
    slot->readers = e;
}

void key_order_after(struct cache *c, struct cfile *f, struct ckey *left_behind)
{
    mutex_assert_held(&c->lock);
    for (struct cref_edge *e = f->reads; e != NULL; e = e->next_of_file) {
        if (e->slot == left_behind && e->src == NULL) {
            return;
        }
    }
    edge_add(f, left_behind, NULL);
}

void file_drop_edges(struct cache *c, struct cfile *f)
{
    while (f->reads != NULL) {
        struct cref_edge *e = f->reads;
        f->reads = e->next_of_file;
        edge_unlink(c, e);
    }
}

void file_relink(struct cache *c, struct cfile *f)
{
    mutex_assert_held(&c->lock);
    /* Drop edges whose source the map no longer names. */
    struct cref_edge **pp = &f->reads;
    while (*pp != NULL) {
        struct cref_edge *e = *pp;
        if (e->src == NULL || map_reads(&f->map, e->src) || map_reads(&f->kept_map, e->src)) {
            pp = &e->next_of_file;
        } else {
            *pp = e->next_of_file;
            edge_unlink(c, e);
        }
    }
    const struct extent_source *last = NULL;
    for (size_t i = 0; i < f->map.n; i++) {
        struct extent *x = &f->map.v[i];
        if (x->kind != EXT_REMOTE || x->src == last) {
            continue;
        }
        last = x->src;
        struct cref_edge *e = f->reads;
        while (e != NULL && e->src != x->src) {
            e = e->next_of_file;
        }
        if (e == NULL) {
            struct cident *id = ident_find(c, x->src->remote);
            ENSURE(id != NULL);
            edge_add(f, key_get(c, id, x->src->key), x->src);
            f->reads->expires_ns = f->at == NULL ? time_mono_ns() + READER_HOLD_NS : 0;
        }
    }
}

void file_lru_remove(struct cache *c, struct cfile *f)
{
    if (!f->spool_clean) {
        return;
    }
    f->spool_clean = false;
    c->n_lru--;
    if (f->lru_prev != NULL) {
        f->lru_prev->lru_next = f->lru_next;
    } else {
        c->lru_head = f->lru_next;
    }
    if (f->lru_next != NULL) {
        f->lru_next->lru_prev = f->lru_prev;
    } else {
        c->lru_tail = f->lru_prev;
    }
    f->lru_prev = f->lru_next = NULL;
}

void file_lru_touch(struct cache *c, struct cfile *f)
{
    file_lru_remove(c, f);
    f->spool_clean = true;
    f->lru_prev = c->lru_tail;
    f->lru_next = NULL;
    if (c->lru_tail != NULL) {
        c->lru_tail->lru_next = f;
    } else {
        c->lru_head = f;
    }
    c->lru_tail = f;
    c->n_lru++;
}

void file_evict(struct cache *c, struct cfile *f)
{
    ENSURE(f->spool_clean && f->io_users == 0 && f->base != NULL);
    file_lru_remove(c, f);
    uint64_t size = f->map.size;
    extent_fini(&f->map);
    extent_init_base(&f->map, size);
    if (f->spool_id != 0) {
        spool_drop_later(c, f->spool_id);
        f->spool_id = 0;
    }
}

void file_to_base(struct cache *c, struct cfile *f, const struct cver *v)
{
    mutex_assert_held(&c->lock);
    ENSURE(f->at != NULL && v->exists);
    extent_source_unref(f->base);
    f->base = extent_source_new(f->at->ident->id, f->at->key, &v->o);
    f->base->has_md5 = v->has_md5;
    memcpy(f->base->md5, v->md5, 16);
    bool all_local = f->map.n == 1 && f->map.v[0].kind == EXT_LOCAL;
    if (all_local && f->spool_id != 0 && !f->lost) {
        file_lru_touch(c, f); /* the bytes at hand stay until somebody needs the room */
        return;
    }
    uint64_t size = v->o.size;
    extent_fini(&f->map);
    extent_init_base(&f->map, size);
    f->lost = false;
    file_lru_remove(c, f);
    if (f->spool_id != 0 && f->io_users == 0) {
        spool_drop_later(c, f->spool_id);
        f->spool_id = 0;
    }
}

void key_keep_sent(struct ckey *k, const struct extent_map *m)
{
    bool of_old = false;
    extent_fini(&k->sent_map);
    for (size_t i = 0; m != NULL && i < m->n && !of_old; i++) {
        const struct extent *e = &m->v[i];
        of_old = e->kind == EXT_BASE || (e->kind == EXT_REMOTE && strcmp(e->src->key, k->key) == 0);
    }
    if (of_old) {
        extent_clone(&k->sent_map, m);
    }
}

void key_rebase(struct cache *c, struct ckey *k, const struct be_object *replaced)
{
    mutex_assert_held(&c->lock);
    struct extent_source *old = extent_source_new(k->ident->id, k->key, replaced);
    struct extent_source *fresh = extent_source_new(k->ident->id, k->key, &k->base.o);
    fresh->has_md5 = k->base.has_md5;
    memcpy(fresh->md5, k->base.md5, 16);
    if (k->file != NULL && k->file->base != NULL && strcmp(k->file->base->etag, old->etag) == 0) {
        /* what is still BASE was BASE when it was sent: a write turns BASE into something else, never back */
        extent_source_unref(k->file->base);
        k->file->base = extent_source_ref(fresh);
    }
    struct cfile **list = NULL;
    size_t n = 0;
    for (struct cref_edge *e = k->readers; e != NULL; e = e->next_of_slot) {
        if (e->src != NULL && (n == 0 || list[n - 1] != e->file)) {
            list = mem_realloc(list, (n + 1) * sizeof(struct cfile *));
            list[n++] = e->file; /* its edges change below */
        }
    }
    struct jtx *tx = jtx_new();
    for (size_t i = 0; i < n; i++) {
        struct cfile *t = list[i];
        if (!extent_rebase(&t->map, old, &k->sent_map, fresh)) {
            continue;
        }
        file_relink(c, t);
        file_touch(t, false);
        if (t->at != NULL) {
            key_journal(c, t->at, tx);
        }
    }
    free(list);
    journal_submit(c->journal, tx, 0, NULL, NULL);
    extent_source_unref(fresh);
    extent_source_unref(old);
}
