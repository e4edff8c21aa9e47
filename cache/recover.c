/* Start-up: from the journal's rows back to slots and files.
 *
 * Sealed rows go on as they were; a commit whose answer is not known is UNKNOWN and looked up first; content that was still
 * open at the crash is set aside as unfinished and the base shows (rules C2). After a power cut, local bytes are trusted
 * only if they still have the MD5 they were sealed with (rules C5). No network here: work begins when its remote is added. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kill.h"
#include "log.h"
#include "mem.h"

#define MAX_EXTENTS 1000000u

struct load_ctx {
    struct cache *c;
    uint64_t *spool_ids; /* that rows name */
    size_t n_ids, cap_ids;
    unsigned loaded, unfinished, bad, lost;
};

static void keep_spool(struct load_ctx *l, uint64_t id)
{
    if (id == 0) {
        return;
    }
    if (l->n_ids == l->cap_ids) {
        l->cap_ids = l->cap_ids == 0 ? 256 : l->cap_ids * 2;
        l->spool_ids = mem_realloc(l->spool_ids, l->cap_ids * sizeof(uint64_t));
    }
    l->spool_ids[l->n_ids++] = id;
}

struct cident *ident_load(struct cache *c, uint32_t id)
{
    struct cident *i = ident_find(c, id);
    if (i == NULL) {
        i = mem_zalloc(sizeof(*i));
        i->id = id;
        if (journal_remote_identity(c->journal, id, &i->name) < 0) {
            i->name = mem_printf("identity %u", id);
        }
        i->next = c->idents;
        c->idents = i;
    }
    return i;
}

static bool spool_has_md5(struct cache *c, const struct cfile *f)
{
    uint8_t *buf = malloc(1u << 20), sum[16];
    struct digest_md5 d;
    digest_md5_init(&d);
    bool ok = buf != NULL;
    for (uint64_t off = 0; ok && off < f->map.size;) {
        size_t n = (size_t)MIN(f->map.size - off, 1u << 20);
        ok = spool_read(c->spool, f->spool_id, buf, n, off) == (ssize_t)n;
        if (ok) {
            digest_md5_update(&d, buf, n);
            off += n;
        }
    }
    free(buf);
    digest_md5_final(&d, sum);
    return ok && memcmp(sum, f->md5_sum, 16) == 0;
}

/* After a power cut: whether the bytes are what was sealed. By their MD5; without one by the time: what takes bytes away from a
 * row without MD5, a change in place or a stream's punch, has made its own row durable before (file.c, parts.c). */
static bool survived(struct cache *c, const struct cfile *f)
{
    if (file_md5_tells(f)) {
        return spool_has_md5(c, f);
    }
    uint64_t end = 0, size = 0;
    for (size_t i = 0; i < f->map.n; i++) {
        end = f->map.v[i].kind == EXT_LOCAL ? f->map.v[i].off + f->map.v[i].len : end;
    }
    return f->sealed_wall_ns < c->spool_synced_ns && spool_size(c->spool, f->spool_id, &size) == 0 && size >= end;
}

static void load_upload(struct ckey *k, const struct jintent *row, const struct jpart *parts, size_t n)
{
    if (row->upload_id[0] == '\0') {
        return;
    }
    k->up.id = mem_strdup(row->upload_id);
    k->up.tag = mem_strdup(row->upload_tag);
    k->up.part_size = row->part_size;
    digest_md5_init(&k->up.md5);
    for (size_t i = 0; i < n; i++) {
        if (parts[i].number == 0 || parts[i].number > 100000 || strlen(parts[i].etag) >= BE_ETAG_MAX) {
            continue;
        }
        if (parts[i].number > k->up.n_parts) {
            k->up.parts = mem_realloc(k->up.parts, parts[i].number * sizeof(*k->up.parts));
            memset(k->up.parts + k->up.n_parts, 0, (parts[i].number - k->up.n_parts) * sizeof(*k->up.parts));
            k->up.n_parts = parts[i].number;
        }
        struct xpart *p = &k->up.parts[parts[i].number - 1];
        p->done = true;
        p->size = parts[i].size;
        memcpy(p->etag, parts[i].etag, strlen(parts[i].etag) + 1);
        p->has_crc = parts[i].has_crc64;
        p->crc = parts[i].crc64;
        static const uint8_t none[16];
        p->has_md5 = memcmp(parts[i].md5, none, 16) != 0;
        memcpy(p->md5, parts[i].md5, 16);
        struct digest_md5 d;
        uint32_t next = 0;
        if (parts[i].hash_state_len > sizeof(next)) {
            memcpy(&next, parts[i].hash_state, sizeof(next));
        }
        if (next > k->up.hash_next &&
            digest_md5_load(&d, (const uint8_t *)parts[i].hash_state + sizeof(next), parts[i].hash_state_len - sizeof(next))) {
            k->up.md5 = d;
            k->up.hash_next = next;
        }
    }
}

static int load_row(void *ctx, const struct jintent *row, const struct jpart *parts, size_t n_parts)
{
    struct load_ctx *l = ctx;
    struct cache *c = l->c;
    struct cident *id = ident_load(c, row->remote);
    if (row->state < 0 || row->state >= FS_STATES || row->key[0] == '\0') {
        log_error("journal", "remote=%s key=%s row cannot be read; it is left alone: run `objmig doctor`", id->name, row->key);
        keep_spool(l, row->spool_id);
        l->bad++;
        return 0;
    }
    struct cfile *f = NULL;
    if (!row->absent) {
        f = file_new(c);
        struct extent_map m;
        if (extent_parse(&m, row->extents, MAX_EXTENTS) < 0 || m.size != row->size || kv_parse(&f->meta, row->meta) < 0) {
            log_error("journal", "remote=%s key=%s row cannot be read; it is left alone: run `objmig doctor`", id->name,
                      row->key);
            keep_spool(l, row->spool_id);
            file_unref(c, f);
            l->bad++;
            return 0;
        }
        extent_fini(&f->map);
        f->map = m;
        file_touch(f, true);
        if (f->gen <= row->gen) {
            f->gen = row->gen + 1; /* the clock was set back: still never one that was used */
        }
        f->spool_id = row->spool_id;
        f->meta_known = row->meta_flags & 1;
        f->meta_explicit = row->meta_flags & 2;
        f->meta_dirty = row->meta_flags & 4;
        f->moved = row->meta_flags & 8;
        f->lost = row->meta_flags & 32;
        f->meta_removed = row->meta_flags & 64;
        f->time_set = row->meta_flags & 128;
        f->sealed = row->sealed;
        f->row_sealed = row->sealed;
        f->hydrate = row->hydrate;
        f->has_md5 = row->has_md5;
        memcpy(f->md5_sum, row->md5, 16);
        f->hash_ok = false;
        f->sealed_wall_ns = row->changed_ns;
        f->is_marker = row->key[strlen(row->key) - 1] == '/' && !key_is_content(row->key, f->map.size);
        meta_defaults(c, &f->attr, f->is_marker);
        f->attr.mtime_ns = f->attr.ctime_ns = row->changed_ns;
        meta_decode(&f->meta, &f->attr);
        for (size_t i = 0; i < f->map.n; i++) {
            if (f->map.v[i].kind == EXT_PART) {
                f->streaming = true;
                f->stream_cut = f->map.v[i].off + f->map.v[i].len;
            }
        }
        keep_spool(l, row->spool_id);
    }
    struct ckey *k = key_get(c, id, row->key);
    k->in_journal = true;
    k->seq = row->seq;
    k->base.known = true;
    k->base.exists = row->base_etag[0] != '\0';
    if (strlen(row->base_etag) < BE_ETAG_MAX) {
        memcpy(k->base.o.etag, row->base_etag, strlen(row->base_etag) + 1);
    }
    k->base.o.size = row->base_size;
    k->move = row->move;
    if (strlen(row->expect_etag) < sizeof(k->expect_etag)) {
        memcpy(k->expect_etag, row->expect_etag, strlen(row->expect_etag) + 1);
    }
    if (row->err != NULL) {
        k->err = *row->err;
    }
    k->changed_ns = time_mono_ns();
    if (strlen(row->sent) < sizeof(k->sent)) {
        memcpy(k->sent, row->sent, strlen(row->sent) + 1);
    }
    k->sent_absent = strcmp(k->sent, "-") == 0;
    struct extent_map sent;
    if (row->sent_extents[0] != '\0' && extent_parse(&sent, row->sent_extents, MAX_EXTENTS) == 0) {
        key_keep_sent(k, &sent);
        extent_fini(&sent);
    }
    load_upload(k, row, parts, n_parts);
    if (f != NULL && k->base.exists) {
        f->base = extent_source_new(id->id, k->key, &k->base.o);
    }
    if (f != NULL && (!row->sealed || row->unfinished)) {
        f->unfinished = true;
        k->aside = f;
        l->unfinished++;
        if (k->up.id != NULL) {
            k->drop_upload = true; /* when its remote is there */
        }
        return 0;
    }
    if (f != NULL) {
        key_set_file(c, k, f);
        file_unref(c, f);
        dir_note_pending(c, k);
        if (row->state == FS_COMMITTING || row->state == FS_UNKNOWN) {
            k->sent_gen = row->meta_flags & 16 ? f->gen : 0;
            if (row->meta_flags & 16) {
                key_keep_sent(k, &f->map);
            }
            k->settle_pending = !f->is_marker; /* a marker has no bytes that a late request could bring back */
        }
    } else {
        k->want_absent = true;
        k->settle_pending = row->state == FS_COMMITTING || row->state == FS_UNKNOWN;
    }
    k->state = file_state_recovered((enum file_state)row->state);
    if (k->state == FS_CLEAN) {
        k->state = FS_DIRTY;
    }
    uint64_t seq = k->seq;
    key_recovered(c, k);
    k->seq = seq;
    c->next_seq = MAX(c->next_seq, seq + 1);
    l->loaded++;
    if (f != NULL && c->power_lost && !f->lost && extent_has(&f->map, EXT_LOCAL) && !survived(c, f)) {
        struct errinfo e = {0};
        err_set(&e, ERR_LOCAL, -EIO, "LOST: the machine lost power before these bytes were safe on its disk");
        f->lost = true;
        l->lost++;
        if (k->state == FS_DIRTY) {
            key_refused(c, k, FE_LOCAL_FAILED, &e); /* its row says so before the boot counts as settled */
        } else {
            key_submit_row(c, k); /* its request may have arrived: a look decides first */
        }
    }
    return 0;
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int drop_orphan(void *ctx, uint64_t id)
{
    struct load_ctx *l = ctx;
    if (l->n_ids == 0 || bsearch(&id, l->spool_ids, l->n_ids, sizeof(id), by_id) == NULL) {
        spool_remove(l->c->spool, id);
    }
    return 0;
}

/* Renamed while it was streamed: its parts are in the upload of the old name. */
static void link_carrier(struct cache *c, struct cfile *f, const struct jintent *row)
{
    struct cident *id = ident_find(c, (uint32_t)row->after_remote);
    struct ckey *from = id != NULL ? key_find(c, id, row->after_key) : NULL;
    if (from == NULL || from->state == FS_CLEAN || from->carries != NULL) {
        f->lost = true; /* no upload, no bytes */
        return;
    }
    stream_carry(from, f);
    key_order_after(c, f, from);
}

/* Edges need every slot: after all rows are there. */
static int link_row(void *ctx, const struct jintent *row, const struct jpart *parts, size_t n_parts)
{
    struct load_ctx *l = ctx;
    (void)parts;
    (void)n_parts;
    struct cident *id = ident_find(l->c, row->remote);
    struct ckey *k = id != NULL ? key_find(l->c, id, row->key) : NULL;
    if (k == NULL || k->state == FS_CLEAN) {
        return 0;
    }
    if (k->file != NULL && !k->want_absent) {
        for (size_t i = 0; i < k->file->map.n; i++) {
            if (k->file->map.v[i].kind == EXT_REMOTE) {
                ident_load(l->c, k->file->map.v[i].src->remote);
            }
        }
        file_relink(l->c, k->file);
        if (k->file->streaming && row->after_remote != 0) {
            link_carrier(l->c, k->file, row);
        }
    }
    if (k->want_absent && row->after_remote != 0) {
        struct cident *to = ident_find(l->c, row->after_remote);
        struct ckey *t = to != NULL ? key_find(l->c, to, row->after_key) : NULL;
        if (t != NULL && t->state != FS_CLEAN && t->file != NULL) {
            key_order_after(l->c, t->file, k);
        }
    }
    return 0;
}

int recover_load(struct cache *c, struct errinfo *reterr)
{
    struct load_ctx l = {.c = c};
    if (journal_mark_get(c->journal, MARK_SPOOL_SYNCED, &c->spool_synced_ns) < 0) {
        c->spool_synced_ns = 0;
    }
    c->by_time_ns = c->spool_synced_ns; /* rows of the last run may be younger than it */
    cache_lock(c);
    int err = journal_each_intent(c->journal, load_row, &l);
    if (err == 0) {
        err = journal_each_intent(c->journal, link_row, &l);
    }
    cache_unlock(c);
    KILL_POINT("recovery: rows loaded");
    if (err < 0) {
        free(l.spool_ids);
        return err_set(reterr, ERR_LOCAL, err, "%s: the journal cannot be read", c->dir);
    }
    if (!c->read_only) {
        if (l.n_ids > 0) {
            qsort(l.spool_ids, l.n_ids, sizeof(uint64_t), by_id);
        }
        err = orphans_load(c);
        if (err < 0) {
            free(l.spool_ids);
            return err_set(reterr, ERR_LOCAL, err, "%s: the journal cannot be read", c->dir);
        }
        if (l.bad == 0) {
            spool_each(c->spool, drop_orphan, &l);
        }
        KILL_POINT("recovery: orphaned files gone");
        if (l.loaded + l.unfinished + l.bad > 0) {
            log_notice("journal", "resumes %u pending changes, %u unfinished, %u lost, %u unreadable", l.loaded, l.unfinished,
                       l.lost, l.bad);
        }
    }
    free(l.spool_ids);
    return 0;
}

void recover_ident_locked(struct cache *c, struct cident *id)
{
    mutex_assert_held(&c->lock);
    for (size_t b = 0; b < c->n_buckets; b++) {
        for (struct ckey *k = c->keys[b]; k != NULL; k = k->hash_next) {
            if (k->ident == id && k->settle_pending) {
                /* what was out at the crash may still land (rules B1) */
                k->settle_pending = false;
                k->settle_ns = time_mono_ns() + (int64_t)id->conf->request_timeout_ms * 1000000LL;
            }
            if (k->ident == id && k->drop_upload) {
                k->drop_upload = false;
                upload_drop(c, k);
            }
        }
    }
}
