/* Names and attributes: mkdir, unlink, rename, symlinks, setattr, xattrs. Each change shows at once, is one journal
 * transaction, is answered when that is committed, and reaches the provider behind it. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "log.h"
#include "mem.h"

struct commit_ctx {
    struct cache *c;
    struct creq *r;
};

static void row_committed(void *ctx, int status)
{
    struct commit_ctx *x = ctx;
    cache_lock(x->c);
    creq_end_locked(x->c, x->r, status);
    cache_unlock(x->c);
    free(x);
}

/* Submits tx; r is answered when it is committed. */
void tree_commit(struct cache *c, struct creq *r, struct jtx *tx)
{
    struct commit_ctx *x = mem_zalloc(sizeof(*x));
    x->c = c;
    x->r = r;
    cache_submit_answered(c, tx, row_committed, x);
}

bool tree_refuse(struct cache *c, struct creq *r)
{
    const struct cache_remote *remote = r->ref.handle != NULL ? r->ref.handle->remote : r->ref.remote;
    if (c->read_only || (remote->ident->caps & BE_CAP_READ_ONLY)) {
        creq_end_locked(c, r, -EROFS);
        return true;
    }
    return false;
}

/* The same, also for a key the provider takes no object of: before any byte moves. */
static bool tree_refuse_key(struct cache *c, struct creq *r)
{
    if (tree_refuse(c, r)) {
        return true;
    }
    int status = key_check(r->ref.remote->ident, r->ref.key);
    if (status < 0) {
        creq_end_locked(c, r, status);
    }
    return status < 0;
}

/* Looks a key up and goes on with `then` under the lock; for calls by key that find nothing known locally. */
struct ask {
    struct cache *c;
    struct creq *r;
    void (*then)(struct cache *c, struct creq *r, void *arg, bool asked);
    void *arg;
    char *key;
};

static void ask_done(void *ctx, int status)
{
    struct ask *a = ctx;
    cache_lock(a->c);
    if (status != 0) {
        creq_end_locked(a->c, a->r, status);
        free(a->arg);
    } else {
        a->then(a->c, a->r, a->arg, true);
    }
    cache_unlock(a->c);
    free(a->key);
    free(a);
}

/* Called under the lock; drops and retakes it. */
void tree_ask(struct cache *c, struct creq *r, const char *key,
                void (*then)(struct cache *c, struct creq *r, void *arg, bool asked), void *arg)
{
    struct ask *a = mem_zalloc(sizeof(*a));
    a->c = c;
    a->r = r;
    a->then = then;
    a->arg = arg;
    a->key = mem_strdup(key);
    struct cident *id = r->ref.remote->ident;
    cache_unlock(c);
    key_head(c, id, a->key, ask_done, a);
    cache_lock(c);
}

/* ---- new names without bytes ---- */

/* A new file under the key, complete as it is. */
struct cfile *tree_make(struct cache *c, struct creq *r, const char *key, mode_t mode)
{
    struct ckey *k = key_get(c, r->ref.remote->ident, key);
    struct cfile *f = file_new(c);
    meta_defaults(c, &f->attr, S_ISDIR(mode));
    f->attr.mode = mode;
    f->attr.uid = r->uid;
    f->attr.gid = r->gid;
    f->attr.rdev = r->attr.rdev;
    f->attr.mtime_ns = f->attr.ctime_ns = time_wall_ns();
    f->meta_known = true;
    f->meta_dirty = true;
    f->is_marker = S_ISDIR(mode);
    meta_encode(&f->attr, CSET_MODE | CSET_UID | CSET_GID | CSET_MTIME, &f->meta);
    kv_set(&f->meta, "content-type", meta_content_type(key));
    key_set_file(c, k, f);
    file_touch(f, true);
    f->sealed = true;
    f->sealed_ns = time_mono_ns();
    f->sealed_wall_ns = time_wall_ns();
    key_changed(c, k);
    dir_note(c, k->ident, k->key, &f->attr, NULL, false);
    file_unref(c, f);
    return f;
}

/* Nothing at the provider stands for a continuation directory. */
static void make_continued(struct cache *c, struct creq *r)
{
    struct cdirnode *d = dir_get(c, r->ref.remote->ident, r->ref.key, strlen(r->ref.key));
    d->complete = d->ours = true;
    d->used_ns = d->listed_ns = time_mono_ns();
    struct cattr attr;
    meta_defaults(c, &attr, true);
    r->attr = attr;
    creq_end_locked(c, r, 0);
}

void cache_mkdir(struct cache *c, struct creq *r)
{
    cache_lock(c);
    if (!tree_refuse_key(c, r)) {
        struct cident *id = r->ref.remote->ident;
        size_t len = strlen(r->ref.key);
        if (prefix_is_continued(r->ref.key)) {
            make_continued(c, r);
        } else {
            struct ckey *k = key_find(c, id, r->ref.key);
            if (k == NULL || (!k->base.known && k->state == FS_CLEAN)) {
                k = key_get(c, id, r->ref.key);
                k->base.known = true; /* the kernel looked the name up: there is none */
                k->base.exists = false;
            }
            tree_make(c, r, r->ref.key, S_IFDIR | (r->attr.mode & 07777));
            struct cdirnode *d = dir_get(c, id, r->ref.key, len);
            d->complete = true;
            d->ours = true;
            d->used_ns = d->listed_ns = time_mono_ns();
            r->attr = k->file->attr;
            struct jtx *tx = jtx_new();
            key_journal(c, k, tx);
            tree_commit(c, r, tx);
        }
    }
    cache_unlock(c);
}

void cache_mknod(struct cache *c, struct creq *r)
{
    cache_lock(c);
    if (!tree_refuse_key(c, r)) {
        struct cfile *f = tree_make(c, r, r->ref.key, r->attr.mode);
        dir_note_form(c, &r->ref);
        r->attr = f->attr;
        move_made(c, f->at, r->pid);
        struct jtx *tx = jtx_new();
        key_journal(c, f->at, tx);
        tree_commit(c, r, tx);
    }
    cache_unlock(c);
}

void cache_symlink(struct cache *c, struct creq *r)
{
    const char *target = r->data;
    cache_lock(c);
    if (tree_refuse_key(c, r)) {
        cache_unlock(c);
        return;
    }
    uint64_t id = c->next_spool_id++;
    cache_unlock(c);
    size_t len = strlen(target);
    int err = spool_create(c->spool, id);
    if (err == 0) {
        err = spool_write(c->spool, id, target, len, 0);
    }
    cache_lock(c);
    if (err < 0) {
        creq_end_locked(c, r, err);
        cache_unlock(c);
        return;
    }
    struct cfile *f = tree_make(c, r, r->ref.key, S_IFLNK | 0777);
    f->spool_id = id;
    extent_set(&f->map, 0, len, EXT_LOCAL, NULL, 0);
    digest_md5_update(&f->md5, target, len);
    f->hash_pos = len;
    struct digest_md5 d = f->md5;
    digest_md5_final(&d, f->md5_sum);
    f->has_md5 = true;
    r->attr = f->attr;
    r->attr.size = len;
    dir_note(c, f->at->ident, f->at->key, &r->attr, NULL, false);
    dir_note_form(c, &r->ref);
    move_made(c, f->at, r->pid);
    struct jtx *tx = jtx_new();
    key_journal(c, f->at, tx);
    tree_commit(c, r, tx);
    cache_unlock(c);
}

struct readlink_ctx {
    struct cache *c;
    struct creq *r;
    struct creq sub;
    struct chandle *h;
};

static void readlink_read(struct creq *s)
{
    struct readlink_ctx *x = CONTAINER_OF(s, struct readlink_ctx, sub);
    struct creq *r = x->r;
    char *text = NULL;
    if (s->status == 0) {
        text = mem_strndup(s->data != NULL ? s->data : "", s->done_bytes);
        r->size = strlen(text);
    }
    r->data = r->buf = text;
    cache_release(x->c, x->h);
    cache_lock(x->c);
    creq_end_locked(x->c, r, s->status);
    cache_unlock(x->c);
    free(x);
}

static void readlink_opened(struct creq *s)
{
    struct readlink_ctx *x = CONTAINER_OF(s, struct readlink_ctx, sub);
    if (s->status != 0) {
        cache_lock(x->c);
        creq_end_locked(x->c, x->r, s->status);
        cache_unlock(x->c);
        free(x);
        return;
    }
    x->h = s->handle;
    struct cache *c = x->c;
    memset(s, 0, sizeof(*s));
    s->done = readlink_read;
    s->size = 4095;
    cache_read(c, s, x->h);
}

void cache_readlink(struct cache *c, struct creq *r)
{
    struct readlink_ctx *x = mem_zalloc(sizeof(*x));
    x->c = c;
    x->r = r;
    x->sub.ref = r->ref;
    x->sub.done = readlink_opened;
    cache_open_file(c, &x->sub, O_RDONLY);
}

/* ---- removing ---- */

/* Deleting the last known child would make a directory without marker vanish: the marker is put first (rules D7). */
void tree_keep_parent(struct cache *c, struct creq *r, const char *key, struct jtx *tx)
{
    size_t plen = key_parent_len(key);
    struct cident *id = r->ref.remote->ident;
    if (plen == 0 || plen <= strlen(r->ref.remote->prefix) || c->opt.dirmarker == CACHE_DIRMARKER_NEVER) {
        return;
    }
    struct cdirnode *d = dir_find(c, id, key, plen);
    if (d == NULL || !d->complete || d->n_children > 0 || d->has_marker) {
        return;
    }
    CLEANUP(mem_freep) char *marker = mem_strndup(key, plen);
    struct ckey *m = key_find(c, id, marker);
    if (m != NULL && (m->state != FS_CLEAN || (m->base.known && m->base.exists))) {
        return;
    }
    struct cattr attr;
    meta_defaults(c, &attr, true);
    size_t gp = key_parent_len(marker);
    struct cdirnode *pd = dir_find(c, id, marker, gp);
    struct cchild *ch = pd != NULL ? dir_child(pd, marker + gp, strlen(marker + gp)) : NULL;
    if (ch != NULL) {
        attr = ch->attr;
    }
    struct creq as = {.ref = r->ref, .uid = attr.uid, .gid = attr.gid};
    struct cfile *f = tree_make(c, &as, marker, attr.mode);
    f->meta_explicit = true;
    struct ckey *gone = key_find(c, id, key);
    if (gone != NULL) {
        key_order_after(c, f, gone);
    }
    key_journal(c, f->at, tx);
}

static void unlink_then(struct cache *c, struct creq *r, void *arg, bool asked)
{
    (void)arg;
    bool unknown;
    struct ckey *k = key_resolve(c, r->ref.remote->ident, r->ref.key, &unknown);
    if (unknown && !asked) {
        tree_ask(c, r, r->ref.key, unlink_then, NULL);
        return;
    }
    if (unknown) {
        k = key_find(c, r->ref.remote->ident, r->ref.key);
    }
    if (k == NULL || (k->state == FS_CLEAN && k->base.known && !k->base.exists)) {
        creq_end_locked(c, r, -ENOENT);
        return;
    }
    key_want_absent(c, k, false);
    key_changed(c, k);
    move_removed(c, k, r->pid);
    if (k->key[k->key_len - 1] == '/') {
        dir_note_content_gone(c, k->ident, k->key);
    } else {
        dir_note(c, k->ident, k->key, NULL, NULL, true);
    }
    struct jtx *tx = jtx_new();
    tree_keep_parent(c, r, k->key, tx);
    key_journal(c, k, tx);
    tree_commit(c, r, tx);
}

void cache_unlink(struct cache *c, struct creq *r)
{
    cache_lock(c);
    if (!tree_refuse(c, r)) {
        unlink_then(c, r, NULL, false);
    }
    cache_unlock(c);
}

/* A directory must be listed before it can be known to be empty. */
struct dirwait {
    struct cache *c;
    struct creq *r;
    struct creq sub;
    struct cdir *dir;
    void (*then)(struct cache *c, struct creq *r, void *arg, bool empty);
    void *arg;
};

static void dirwait_read(struct creq *s)
{
    struct dirwait *w = CONTAINER_OF(s, struct dirwait, sub);
    bool empty = true;
    for (uint64_t i = 0; s->status == 0 && i < s->size && empty; i++) {
        struct cdirent e;
        empty = !cache_dirent(w->dir, i, &e);
    }
    cache_closedir(w->dir);
    cache_lock(w->c);
    if (s->status != 0) {
        creq_end_locked(w->c, w->r, s->status);
        free(w->arg);
    } else {
        w->then(w->c, w->r, w->arg, empty);
    }
    cache_unlock(w->c);
    free(w);
}

static void dirwait_opened(struct creq *s)
{
    struct dirwait *w = CONTAINER_OF(s, struct dirwait, sub);
    w->dir = s->dir;
    struct cdir *dir = s->dir;
    struct cache *c = w->c;
    memset(s, 0, sizeof(*s));
    s->done = dirwait_read;
    cache_readdir(c, s, dir, 0);
}

void tree_when_listed(struct cache *c, struct creq *r, const struct cref *ref,
                        void (*then)(struct cache *c, struct creq *r, void *arg, bool empty), void *arg)
{
    struct dirwait *w = mem_zalloc(sizeof(*w));
    w->c = c;
    w->r = r;
    w->then = then;
    w->arg = arg;
    w->sub.ref = *ref;
    w->sub.done = dirwait_opened;
    cache_opendir(c, &w->sub);
}

/* The marker's slot says absent; a DELETE is sent even when no marker is known: it is idempotent, and a local
 * directory is one. */
struct ckey *tree_drop_dir(struct cache *c, struct cident *id, const char *prefix)
{
    struct ckey *k = key_get(c, id, prefix);
    struct cdirnode *d = dir_find(c, id, prefix, strlen(prefix));
    bool never_sent = k->state == FS_DIRTY && k->base.known && !k->base.exists;
    if (!never_sent && !k->base.known) {
        k->base.known = true;
        k->base.exists = true;
        k->base.seen_ns = 0;
    }
    if (!k->want_absent) {
        key_want_absent(c, k, false); /* a move's deletion stays one: its content waits for the copy */
    }
    k->dir_stays = false;
    key_changed(c, k);
    dir_note(c, id, prefix, NULL, NULL, true);
    if (d != NULL) {
        d->complete = true; /* and empty */
        d->ours = false;
        d->listed_ns = time_mono_ns();
    }
    return k;
}

static void rmdir_then(struct cache *c, struct creq *r, void *arg, bool empty)
{
    (void)arg;
    if (!empty) {
        creq_end_locked(c, r, -ENOTEMPTY);
        return;
    }
    if (prefix_is_continued(r->ref.key)) {
        struct cdirnode *d = dir_find(c, r->ref.remote->ident, r->ref.key, strlen(r->ref.key));
        if (d != NULL) {
            d->complete = d->ours = false;
        }
        creq_end_locked(c, r, 0);
        return;
    }
    struct jtx *tx = jtx_new();
    struct ckey *k = tree_drop_dir(c, r->ref.remote->ident, r->ref.key);
    tree_keep_parent(c, r, k->key, tx);
    key_journal(c, k, tx);
    tree_commit(c, r, tx);
}

void cache_rmdir(struct cache *c, struct creq *r)
{
    cache_lock(c);
    bool refused = tree_refuse(c, r);
    cache_unlock(c);
    if (!refused) {
        tree_when_listed(c, r, &r->ref, rmdir_then, NULL);
    }
}

/* A slot with its content loaded, ready to be moved. */
struct ckey *tree_movable(struct cache *c, struct cident *id, const char *key, bool *ret_unknown)
{
    struct ckey *k = key_resolve(c, id, key, ret_unknown);
    if (k == NULL || *ret_unknown) {
        return k;
    }
    file_of_slot(c, k);
    return k;
}
