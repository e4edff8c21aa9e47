/* Renames: content and order move to the new key, and the old key's deletion follows the new one's commit.
 *
 * A file that is not yet at the provider just changes its key. A committed one becomes a pending copy of its old object,
 * and the old key a conditional deletion ordered after it (rules A, B6). A directory is listed whole first; then all its
 * keys move in one transaction. A file of which bytes are only in an upload has its new name at once as well; the upload ends
 * under the old one first (stream.c). */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mem.h"

/* Moves what is under key `from` to key `to`: content, order, and the deletion it leaves behind. */
static void move_key(struct cache *c, struct ckey *from, struct ckey *to, struct jtx *tx)
{
    struct cfile *f = file_ref(from->file);
    bool was_clean = from->state == FS_CLEAN;
    if (was_clean && f->base != NULL && f->io_users == 0) {
        uint64_t size = f->map.size;
        extent_fini(&f->map);
        extent_init_base(&f->map, size); /* the provider has it: it copies, nothing is sent again */
        file_lru_remove(c, f);
        if (f->spool_id != 0) {
            spool_drop_later(c, f->spool_id);
            f->spool_id = 0;
        }
    }
    file_pin_for_move(c, f);
    extent_source_unref(f->base);
    f->base = NULL;
    if (was_clean) {
        file_lru_remove(c, f);
        f->sealed = true;
        f->sealed_ns = time_mono_ns();
        f->sealed_wall_ns = time_wall_ns();
        f->moved = !f->meta_known;
    }
    const char *type = kv_get(&f->meta, "content-type");
    if (type != NULL && strcmp(type, meta_content_type(from->key)) == 0) {
        kv_set(&f->meta, "content-type", meta_content_type(to->key)); /* rsync writes under a temporary name */
    }
    file_touch(f, false);
    stream_renamed(c, from, to, f);
    f->meta_dirty = true;
    file_row_goes(f);
    if (f->old_spool_id != 0) {
        spool_drop_later(c, f->old_spool_id);
        f->old_spool_id = 0;
    }
    int32_t made_by = from->made_by;
    move_is_over(c, from);
    from->file->at = NULL;
    from->file = NULL;
    file_unref(c, f); /* the slot's reference; ours is left */
    struct cattr attr = f->attr;
    attr.size = f->map.size;
    key_set_file(c, to, f);
    key_changed(c, to);
    move_made(c, to, made_by);
    dir_note(c, to->ident, to->key, &attr, NULL, false);

    bool on_its_way = (from->state == FS_COMMITTING || from->state == FS_UNKNOWN) && !from->sent_absent;
    bool at_provider = on_its_way || from->carries != NULL || !(from->base.known && !from->base.exists);
    key_want_absent(c, from, at_provider);
    if (at_provider) {
        key_order_after(c, f, from);
    }
    key_changed(c, from);
    if (from->key[from->key_len - 1] == '/' && !f->is_marker) {
        dir_note_content_gone(c, from->ident, from->key);
    } else {
        dir_note(c, from->ident, from->key, NULL, NULL, true);
    }
    file_unref(c, f);
    key_journal(c, to, tx);
    key_journal(c, from, tx);
}

struct rename_ctx {
    char *to;
    bool dir, object_form;
    unsigned flags;
    bool asked_to;
};

static void rename_file(struct cache *c, struct creq *r, void *arg, bool asked)
{
    struct rename_ctx *x = arg;
    struct cident *id = r->ref.remote->ident;
    bool unknown;
    struct ckey *from = tree_movable(c, id, r->ref.key, &unknown);
    if (unknown && !asked) {
        tree_ask(c, r, r->ref.key, rename_file, x);
        return;
    }
    if (from == NULL || !key_has_file(from)) {
        creq_end_locked(c, r, -ENOENT);
        free(x->to);
        free(x);
        return;
    }
    bool to_unknown;
    struct ckey *to = tree_movable(c, id, x->to, &to_unknown);
    bool there = to != NULL && !to_unknown && key_has_file(to) && !to->file->is_marker; /* that is no file: bytes take its place */
    int status = 0;
    if ((x->flags & RENAME_EXCHANGE) && (from->file->streaming || (there && to->file->streaming))) {
        status = -EBUSY; /* parts of one are at the provider under the key that is to be the other's: when it is closed */
    } else if ((x->flags & RENAME_NOREPLACE) && there) {
        status = -EEXIST;
    } else if ((x->flags & RENAME_EXCHANGE) && !there) {
        status = -ENOENT;
    }
    if (status != 0) {
        creq_end_locked(c, r, status);
        free(x->to);
        free(x);
        return;
    }
    if (to == NULL) {
        to = key_get(c, id, x->to);
        if (!to->base.known && !to_unknown) {
            to->base.known = true;
            to->base.exists = false;
        }
    }
    struct jtx *tx = jtx_new();
    if (x->flags & RENAME_EXCHANGE) {
        /* By way of a nameless file: what is under `to` moves to `from` after `from` moved away. The cycle hydrates. */
        struct cfile *other = file_ref(to->file);
        file_pin_for_move(c, other);
        move_key(c, from, to, tx);
        key_set_file(c, from, other);
        key_changed(c, from);
        struct cattr attr = other->attr;
        attr.size = other->map.size;
        dir_note(c, id, from->key, &attr, NULL, false);
        file_unref(c, other);
        key_journal(c, from, tx);
    } else if (from != to) {
        move_key(c, from, to, tx);
        dir_note_form(c, &(struct cref){.remote = r->ref.remote, .key = to->key, .object_form = x->object_form});
        tree_keep_parent(c, r, from->key, tx);
    }
    tree_commit(c, r, tx);
    free(x->to);
    free(x);
}

/* ---- rename of directories ---- */

/* Everything below a prefix is listed first; then one transaction moves every key (rules A). */
struct dirmove {
    struct be_list l;
    struct work w;
    struct cache *c;
    struct creq *r;
    struct rename_ctx *x;
    char *from;
    char *cursor;
    char **keys;
    struct be_object *objects;
    size_t n, cap;
    int64_t begun_ns;
};

static void dirmove_free(struct dirmove *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->keys[i]);
    }
    free(m->keys);
    free(m->objects);
    free(m->cursor);
    free(m->from);
    free(m->x->to);
    free(m->x);
    free(m);
}

/* All directories of a moved key, down from the new name of the moved one: what is moved into them is all they hold. Each must
 * be there before the first name is noted in it, or it would lack that name and be complete all the same. */
static void own_dirs(struct cache *c, struct cident *id, const char *key, size_t top_len)
{
    CLEANUP(mem_freep) char *p = mem_strdup(key);
    size_t klen = strlen(p);
    for (size_t n = p[klen - 1] == '/' ? klen : key_parent_len(p); n >= top_len; n = key_parent_len(p)) {
        p[n] = '\0';
        struct cdirnode *d = dir_get(c, id, p, n);
        if (!d->complete && !d->listing) {
            d->complete = d->ours = true;
            d->listed_ns = d->used_ns = time_mono_ns();
        }
    }
}

static void dirmove_apply(struct dirmove *m)
{
    struct cache *c = m->c;
    struct cident *id = m->r->ref.remote->ident;
    size_t flen = strlen(m->from);
    struct jtx *tx = jtx_new();
    int status = 0;
    /* Slots outrank what was listed: pending ones below the prefix are moved as they are. */
    for (size_t i = 0; i < m->n && status == 0; i++) {
        struct ckey *k = key_find(c, id, m->keys[i]);
        if (k != NULL && (k->state != FS_CLEAN || k->changed_ns >= m->begun_ns)) {
            continue;
        }
        k = key_get(c, id, m->keys[i]);
        if (!(k->base.known && k->base.exists && strcmp(k->base.o.etag, m->objects[i].etag) == 0)) {
            memset(&k->base, 0, sizeof(k->base));
            k->base.known = k->base.exists = true;
            k->base.o = m->objects[i];
        }
        k->base.seen_ns = m->begun_ns;
        file_of_slot(c, k);
    }
    struct ckey **list = NULL;
    size_t n = 0, cap = 0;
    for (size_t b = 0; b < c->n_buckets; b++) {
        for (struct ckey *k = c->keys[b]; k != NULL; k = k->hash_next) {
            if (k->ident == id && k->key_len >= flen && memcmp(k->key, m->from, flen) == 0 && key_has_file(k) &&
                (k->state != FS_CLEAN || k->base.exists)) {
                if (n == cap) {
                    cap = cap == 0 ? 64 : cap * 2;
                    list = mem_realloc(list, cap * sizeof(*list));
                }
                list[n++] = k;
                CLEANUP(mem_freep) char *to_key = mem_printf("%s%s", m->x->to, k->key + flen);
                if (status == 0) {
                    status = key_check(id, to_key);
                }
            }
        }
    }
    if (status == 0) {
        for (size_t i = 0; i < n; i++) {
            CLEANUP(mem_freep) char *to_key = mem_printf("%s%s", m->x->to, list[i]->key + flen);
            struct ckey *to = key_get(c, id, to_key);
            if (!to->base.known) {
                to->base.known = true;
                to->base.exists = false;
            }
            own_dirs(c, id, to->key, strlen(m->x->to));
            move_key(c, list[i], to, tx);
            dirs_note_parents(c, id, to->key);
        }
        /* Directories between: their names show in the new tree, and are gone from the old one. */
        for (size_t b = 0; b < c->n_dir_buckets; b++) {
            for (struct cdirnode *d = c->dirs[b]; d != NULL; d = d->hash_next) {
                if (d->ident == id && d->len >= flen && memcmp(d->prefix, m->from, flen) == 0 && d->len > 0) {
                    dir_note(c, id, d->prefix, NULL, NULL, true);
                    d->complete = d->ours = false;
                }
            }
        }
        struct cattr attr;
        meta_defaults(c, &attr, true);
        size_t plen = key_parent_len(m->from);
        struct cdirnode *pd = dir_find(c, id, m->from, plen);
        struct cchild *ch = pd != NULL ? dir_child(pd, m->from + plen, flen - plen) : NULL;
        if (ch != NULL) {
            attr = ch->attr;
        }
        dir_note(c, id, m->from, NULL, NULL, true);
        struct ckey *marker = key_find(c, id, m->x->to);
        if (marker == NULL || !key_has_file(marker)) {
            struct creq as = {.ref = m->r->ref, .uid = attr.uid, .gid = attr.gid};
            struct cfile *f = tree_make(c, &as, m->x->to, attr.mode);
            key_journal(c, f->at, tx);
        }
        struct cdirnode *nd = dir_get(c, id, m->x->to, strlen(m->x->to));
        nd->complete = nd->ours = true;
        nd->listed_ns = nd->used_ns = time_mono_ns();
        dirs_note_parents(c, id, m->x->to);
        struct ckey *old = tree_drop_dir(c, id, m->from);
        tree_keep_parent(c, m->r, m->from, tx);
        key_journal(c, old, tx);
    }
    free(list);
    if (status != 0) {
        jtx_free(tx);
        creq_end_locked(c, m->r, status);
    } else {
        tree_commit(c, m->r, tx);
    }
}

static void dirmove_page(struct dirmove *m);

static void dirmove_listed(struct be_op *op)
{
    struct dirmove *m = op->owner;
    struct cache *c = m->c;
    bool more = op->status == 0 && m->l.next_cursor != NULL;
    for (size_t i = 0; op->status == 0 && i < m->l.n_entries; i++) {
        if (m->n == m->cap) {
            m->cap = m->cap == 0 ? 256 : m->cap * 2;
            m->keys = mem_realloc(m->keys, m->cap * sizeof(*m->keys));
            m->objects = mem_realloc(m->objects, m->cap * sizeof(*m->objects));
        }
        m->keys[m->n] = mem_strdup(m->l.entries[i].key);
        m->objects[m->n++] = m->l.entries[i].object;
    }
    free(m->cursor);
    m->cursor = more ? TAKE(m->l.next_cursor) : NULL;
    be_list_fini(&m->l);
    if (more) {
        dirmove_page(m);
        return;
    }
    cache_lock(c);
    if (op->status != 0) {
        creq_end_locked(c, m->r, err_to_errno(&op->err));
    } else {
        dirmove_apply(m);
    }
    cache_async_end_locked(c);
    cache_unlock(c);
    dirmove_free(m);
}

static void dirmove_page(struct dirmove *m)
{
    memset(&m->l, 0, sizeof(m->l));
    m->l.op.lane = BE_LANE_FOREGROUND;
    m->l.op.owner = m;
    m->l.op.done = dirmove_listed;
    m->l.prefix = m->from;
    m->l.cursor = m->cursor;
    be_list(m->r->ref.remote->ident->be, &m->l);
}

static void dirmove_run(struct work *w)
{
    dirmove_page(CONTAINER_OF(w, struct dirmove, w));
}

static void dirmove_start(struct cache *c, struct creq *r, void *arg, bool empty)
{
    struct rename_ctx *x = arg;
    if (!empty) {
        creq_end_locked(c, r, -ENOTEMPTY);
        free(x->to);
        free(x);
        return;
    }
    struct dirmove *m = mem_zalloc(sizeof(*m));
    m->c = c;
    m->r = r;
    m->x = x;
    m->from = mem_strdup(r->ref.key);
    m->begun_ns = time_mono_ns();
    m->w.run = dirmove_run;
    cache_async_begin_locked(c);
    pool_submit(c->workers, &m->w);
}

void cache_rename(struct cache *c, struct creq *r, const struct cref *to, unsigned flags)
{
    cache_lock(c);
    if (tree_refuse(c, r)) {
        cache_unlock(c);
        return;
    }
    /* Keys that begin like a continuation directory need not be in it, and not each end of a name may stand after it. */
    bool continued = (r->ref.dir && prefix_is_continued(r->ref.key)) || (to->dir && prefix_is_continued(to->key));
    bool apart = to->remote->ident != r->ref.remote->ident || continued;
    int refused = apart ? 0 : key_check(to->remote->ident, to->key);
    if (refused < 0) {
        creq_end_locked(c, r, refused);
        cache_unlock(c);
        return;
    }
    if (apart || (r->ref.dir && (flags & RENAME_EXCHANGE))) {
        creq_end_locked(c, r, apart ? -EXDEV : -EINVAL);
        cache_unlock(c);
        return;
    }
    struct rename_ctx *x = mem_zalloc(sizeof(*x));
    x->to = mem_strdup(to->key);
    x->flags = flags;
    x->dir = r->ref.dir;
    x->object_form = to->object_form;
    if (!x->dir) {
        rename_file(c, r, x, false);
        cache_unlock(c);
        return;
    }
    cache_unlock(c);
    tree_when_listed(c, r, to, dirmove_start, x); /* a directory that is replaced must be empty */
}
