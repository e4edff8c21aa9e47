/* Files larger than the spool (rules C8): parts go out while the file is written, and their bytes leave the spool.
 *
 * An upload belongs to one key, and the bytes that are only in it can be had neither for reading nor for another upload. So a
 * rename, of a file that is still written as well as of one that is complete, does not touch it: the slot of the old name carries
 * the file to its end (`carries`, and the file's `carrier`), whatever else that slot is to become, and the file has its new name
 * at once. When the upload is complete, under the old key, the file is that object's pending copy, and the old key's deletion or
 * new content waits for it: from there on it is the rename of a committed object.
 *
 *   slot of the old name   carries the file; its own wishes (absence, or new content) come after
 *   slot of the new name   has the file; sends nothing of it while it is carried; after the upload a copy
 *
 * In the journal the row of the new name has the file with its PART extents and names the old key, whose row has the upload.
 * Both change in one transaction, so that after kill -9 the file is under one name, with all its bytes if it was sealed. While a
 * slot carries, its row shows new content only once that is sealed: one row a key, and the upload needs it.
 *
 * What was never sent whole to a part is no reason for all this: a stream of which the spool still has every byte starts anew
 * under its new name. */
#include "xfer.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "mem.h"

struct cfile *key_sends(const struct ckey *k)
{
    return k->carries != NULL ? k->carries : k->want_absent ? NULL : k->file;
}

/* Where its upload is. */
static struct ckey *slot_of(const struct cfile *f)
{
    return f->carrier != NULL ? f->carrier : f->at;
}

void stream_consider(struct cache *c, struct cfile *f, bool waits)
{
    mutex_assert_held(&c->lock);
    struct ckey *k = slot_of(f);
    if (k == NULL || k->ident->be == NULL) {
        return;
    }
    if (f->streaming) {
        /* One that goes on with an upload cuts nothing before it knows what was cut (parts_begin). */
        bool begun = k->x != NULL && k->x->f == f && k->x->stream && k->x->plan.part_size != 0;
        if (begun && k->up.id != NULL && !upload_unknown(&k->up)) {
            parts_pump_locked(k->x);
        }
        return;
    }
    uint64_t local = extent_bytes(&f->map, EXT_LOCAL);
    if (!(k->ident->caps & BE_CAP_MULTIPART) || k->state != FS_DIRTY || k->x != NULL || k->carries != NULL ||
        local != f->map.size || f->sealed) {
        return;
    }
    /* Who has gone back once may do so again, to what would be sent. */
    bool part = waits && f->hash_ok && local >= room_part(c, k->ident);
    bool large = local >= 4 * k->ident->conf->part_size &&
                 (local >= c->opt.cache_size / 4 || spool_space(c->spool, 0) <= c->opt.cache_size / 2);
    if (!part && !large) {
        return;
    }
    f->streaming = true;
    f->stream_cut = 0;
    upload_drop(c, k);
    xfer_start(c, k);
}

void stream_poke(struct cache *c, struct cfile *f)
{
    mutex_assert_held(&c->lock);
    struct ckey *k = slot_of(f);
    if (k != NULL && k->x != NULL && k->x->stream && k->x->f == f && k->x->n_parts + k->x->plan.n_parts > 0 &&
        !stream_is_sent(f)) {
        k->x->committing = k->x->waiting_commit = false;
        k->x->gen = f->gen;
        parts_pump_locked(k->x);
    }
}

bool stream_is_sent(const struct cfile *f)
{
    const struct ckey *k = slot_of(f);
    return f->streaming && k != NULL &&
           (k->state == FS_COMMITTING || k->state == FS_UNKNOWN ||
            (k->x != NULL && k->x->f == f && k->x->committing && !k->x->waiting_commit));
}

/* ---- renamed ---- */

void stream_carry(struct ckey *from, struct cfile *f)
{
    ENSURE(from->carries == NULL && f->carrier == NULL);
    from->carries = file_ref(f);
    f->carrier = from;
}

void stream_let_go(struct cache *c, struct cfile *f)
{
    struct ckey *k = f->carrier;
    if (k != NULL) {
        f->carrier = NULL;
        k->carries = NULL;
        file_unref(c, f);
    }
}

void stream_renamed(struct cache *c, struct ckey *from, struct ckey *to, struct cfile *f)
{
    mutex_assert_held(&c->lock);
    if (!f->streaming) {
        return;
    }
    if (f->carrier == NULL && !extent_has(&f->map, EXT_PART) && !stream_is_sent(f)) {
        f->streaming = false; /* the spool has all of it: the transfer under the old name is called off */
        f->stream_cut = 0;
        return;
    }
    if (f->carrier == NULL) {
        stream_carry(from, f);
    } else if (f->carrier == to) {
        stream_let_go(c, f); /* home again */
    }
    struct xfer *x = slot_of(f) != NULL ? slot_of(f)->x : NULL;
    if (x != NULL && x->f == f) {
        x->gen = f->gen; /* another name is no other content */
    }
}

void stream_abandon(struct cache *c, struct cfile *f)
{
    mutex_assert_held(&c->lock);
    struct ckey *k = f->carrier;
    if (k == NULL) {
        return;
    }
    stream_let_go(c, f);
    if (k->state == FS_BLOCKED) {
        key_event(c, k, FE_RETRY, "what was refused is not wanted any more");
        err_clear(&k->err);
    } else if (k->state == FS_UPLOADING) {
        key_event(c, k, FE_CHANGE, "what it carried is not wanted any more");
        xfer_call_off(c, k);
    }
    if (k->state != FS_UNKNOWN) {
        key_due(c, k, time_mono_ns());
    }
    key_submit_row(c, k);
}

/* The slot's object is what it carried: a copy of that is what the new name wants. */
static void arrived(struct cache *c, struct ckey *k, struct jtx *tx)
{
    struct cfile *f = k->carries;
    if (!k->base.has_md5 && k->up.n_parts > 0 && k->up.hash_next == k->up.n_parts) {
        struct digest_md5 d = k->up.md5;
        digest_md5_final(&d, k->base.md5);
        k->base.has_md5 = true;
    }
    struct extent_source *src = extent_source_new(k->ident->id, k->key, &k->base.o);
    src->has_md5 = f->has_md5 = k->base.has_md5;
    memcpy(src->md5, k->base.md5, 16);
    memcpy(f->md5_sum, k->base.md5, 16);
    f->streaming = false;
    f->stream_cut = 0;
    f->hash_ok = false;
    f->meta_dirty = true;
    f->moved = !f->meta_known;
    extent_fini(&f->map);
    extent_init(&f->map);
    extent_set(&f->map, 0, src->size, EXT_REMOTE, src, 0);
    extent_source_unref(src);
    file_touch(f, false);
    if (f->spool_id != 0 && f->io_users == 0) {
        spool_drop_later(c, f->spool_id);
        f->spool_id = 0;
    }
    file_relink(c, f);
    key_journal(c, f->at, tx);
    key_due(c, f->at, time_mono_ns());
    log_debug("upload", "remote=%s key=%s is complete and goes on to %s", k->ident->name, k->key, f->at->key);
    stream_let_go(c, f);
    key_due(c, k, time_mono_ns());
}

void stream_landed(struct cache *c, struct ckey *k, struct jtx *tx)
{
    mutex_assert_held(&c->lock);
    struct cfile *f = key_sends(k);
    if (f == NULL || !f->streaming || !k->base.exists) {
        return;
    }
    if (k->carries != NULL) {
        arrived(c, k, tx);
    } else if (f->carrier == NULL) { /* else what landed is something older of this name */
        file_to_base(c, f, &k->base);
        f->streaming = false;
    }
}
