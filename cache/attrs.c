/* setattr and xattrs: metadata of files, and of directories by their markers. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/xattr.h>

#include "mem.h"

struct set_ctx {
    unsigned mask;
    char *name; /* xattr in metadata's spelling */
    char *value;
    int flags;
};

static void set_ctx_free(struct set_ctx *x)
{
    free(x->name);
    free(x->value);
    free(x);
}

void file_load_meta(struct cfile *f, const struct kvlist *meta)
{
    struct kvlist own = f->meta;
    f->meta = (struct kvlist){0};
    kv_copy(&f->meta, meta);
    for (size_t i = 0; i < own.n; i++) {
        kv_set(&f->meta, own.items[i].name, own.items[i].value);
    }
    kv_fini(&own);
    f->meta_known = true;
    struct cattr a = f->attr;
    meta_decode(&f->meta, &a);
    a.size = f->attr.size;
    if (f->mtime_implicit) {
        a.mtime_ns = f->attr.mtime_ns;
    }
    f->attr = a;
}

void marker_of_slot(struct cache *c, struct ckey *k)
{
    struct cfile *f = file_new(c);
    meta_defaults(c, &f->attr, true);
    size_t plen = key_parent_len(k->key);
    struct cdirnode *d = dir_find(c, k->ident, k->key, plen);
    struct cchild *ch = d != NULL ? dir_child(d, k->key + plen, k->key_len - plen) : NULL;
    if (ch != NULL) {
        f->attr = ch->attr;
    }
    f->is_marker = true;
    f->sealed = true;
    key_set_file(c, k, f);
    file_unref(c, f);
}

/* The slot whose metadata is to change: a file, or a directory's marker, made when there is none. */
static struct ckey *meta_slot(struct cache *c, struct creq *r, bool *ret_unknown)
{
    struct cident *id = r->ref.remote->ident;
    *ret_unknown = false;
    if (r->ref.handle != NULL) {
        return r->ref.handle->file->at;
    }
    if (!r->ref.dir) {
        return tree_movable(c, id, r->ref.key, ret_unknown);
    }
    if (r->ref.key[0] == '\0' || prefix_is_continued(r->ref.key)) {
        return NULL;
    }
    struct ckey *k = key_get(c, id, r->ref.key);
    if (k->file == NULL && !k->want_absent && !k->base.known && !(id->caps & BE_CAP_REAL_DIRS)) {
        *ret_unknown = true; /* there may be content under the key, which no marker may replace */
        return k;
    }
    if (k->file == NULL && !k->want_absent && k->base.exists && key_is_content(k->key, k->base.o.size)) {
        file_of_slot(c, k);
    }
    if (k->file == NULL && !k->want_absent) {
        marker_of_slot(c, k);
    }
    return k->want_absent ? NULL : k;
}

static void changed_meta(struct cache *c, struct creq *r, struct ckey *k)
{
    struct cfile *f = k->file;
    f->meta_dirty = true;
    f->meta_explicit = true;
    f->attr.ctime_ns = time_wall_ns();
    if (f->streaming) {
        /* Its upload is under way with the metadata it was begun with; what changed follows as an update. */
        r->attr = f->attr;
        r->attr.size = f->map.size;
        creq_end_locked(c, r, 0);
        return;
    }
    file_touch(f, false);
    bool was_clean = k->state == FS_CLEAN;
    if (was_clean) {
        f->sealed = true;
        f->sealed_ns = time_mono_ns();
        f->sealed_wall_ns = time_wall_ns();
    }
    key_changed(c, k);
    r->attr = f->attr;
    r->attr.size = f->is_marker ? 0 : f->map.size;
    dir_note(c, k->ident, k->key, &r->attr, NULL, false);
    struct jtx *tx = jtx_new();
    if (f->sealed) {
        key_journal(c, k, tx);
    }
    tree_commit(c, r, tx);
}

static void set_attr(struct cattr *a, const struct cattr *to, unsigned mask)
{
    if (mask & CSET_MODE) {
        a->mode = (a->mode & S_IFMT) | (to->mode & 07777);
    }
    if (mask & CSET_UID) {
        a->uid = to->uid;
    }
    if (mask & CSET_GID) {
        a->gid = to->gid;
    }
    if (mask & CSET_MTIME) {
        a->mtime_ns = to->mtime_ns;
    }
}

/* A directory for which no marker can be: its key holds content, or no key is its own. What is set is not stored. */
static bool has_no_marker(const struct creq *r, const struct ckey *k)
{
    return r->ref.handle == NULL && r->ref.dir &&
           (r->ref.key[0] == '\0' || prefix_is_continued(r->ref.key) || (k != NULL && k->file != NULL && !k->file->is_marker));
}

static void set_unkept(struct cache *c, struct creq *r, unsigned mask)
{
    struct cattr a;
    meta_defaults(c, &a, true);
    struct cident *id = r->ref.remote->ident;
    size_t plen = key_parent_len(r->ref.key);
    struct cdirnode *d = dir_find(c, id, r->ref.key, plen);
    bool listed = d != NULL && !prefix_is_continued(r->ref.key);
    struct cchild *ch = listed ? dir_child(d, r->ref.key + plen, strlen(r->ref.key + plen)) : NULL;
    struct cattr *at = ch != NULL ? &ch->attr : &a;
    set_attr(at, &r->attr, mask);
    r->attr = *at;
    creq_end_locked(c, r, 0);
}

static void setattr_then(struct cache *c, struct creq *r, void *arg, bool asked)
{
    struct set_ctx *x = arg;
    bool unknown;
    struct ckey *k = meta_slot(c, r, &unknown);
    if (unknown && !asked) {
        tree_ask(c, r, r->ref.key, setattr_then, x);
        return;
    }
    if (has_no_marker(r, k)) {
        set_unkept(c, r, x->mask);
        set_ctx_free(x);
        return;
    }
    struct cfile *f = r->ref.handle != NULL ? r->ref.handle->file : k != NULL ? k->file : NULL;
    if (f == NULL) {
        creq_end_locked(c, r, -ENOENT);
        set_ctx_free(x);
        return;
    }
    struct cattr a = f->attr;
    set_attr(&a, &r->attr, x->mask);
    bool same = a.mode == f->attr.mode && a.uid == f->attr.uid && a.gid == f->attr.gid && a.mtime_ns == f->attr.mtime_ns &&
                !(f->mtime_implicit && (x->mask & CSET_MTIME));
    f->attr = a;
    if (x->mask & CSET_MTIME) {
        f->mtime_implicit = false;
        f->time_set = f->is_marker;
    }
    f->time_again = false; /* what is set now goes out at once */
    meta_encode(&f->attr, x->mask, &f->meta);
    set_ctx_free(x);
    if (k == NULL || same) {
        r->attr = f->attr;
        r->attr.size = f->is_marker ? 0 : f->map.size;
        creq_end_locked(c, r, 0);
        return;
    }
    changed_meta(c, r, k);
}

struct truncate_ctx {
    struct cache *c;
    struct creq *r;
    struct creq sub;
    struct chandle *h;
    unsigned mask;
    uint64_t size;
};

static void truncate_finish(struct truncate_ctx *t, int status)
{
    struct cache *c = t->c;
    struct creq *r = t->r;
    unsigned mask = t->mask & ~(unsigned)CSET_SIZE;
    if (t->h != NULL) {
        cache_release(c, t->h);
    }
    free(t);
    if (status == 0 && mask != 0) {
        cache_setattr(c, r, mask);
        return;
    }
    cache_lock(c);
    creq_end_locked(c, r, status);
    cache_unlock(c);
}

static void truncate_flushed(struct creq *s)
{
    struct truncate_ctx *t = CONTAINER_OF(s, struct truncate_ctx, sub);
    truncate_finish(t, s->status);
}

static void truncate_done(struct creq *s)
{
    struct truncate_ctx *t = CONTAINER_OF(s, struct truncate_ctx, sub);
    t->r->attr.size = s->attr.size;
    struct cattr a = s->attr;
    if (t->mask & CSET_MODE) {
        a.mode = t->r->attr.mode;
    }
    if (t->mask & CSET_UID) {
        a.uid = t->r->attr.uid;
    }
    if (t->mask & CSET_GID) {
        a.gid = t->r->attr.gid;
    }
    if (t->mask & CSET_MTIME) {
        a.mtime_ns = t->r->attr.mtime_ns;
    }
    t->r->attr = a;
    if (s->status != 0 || t->h == NULL) {
        truncate_finish(t, s->status);
        return;
    }
    struct cache *c = t->c;
    struct chandle *h = t->h;
    memset(s, 0, sizeof(*s));
    s->done = truncate_flushed;
    cache_flush(c, s, h);
}

static void truncate_opened(struct creq *s)
{
    struct truncate_ctx *t = CONTAINER_OF(s, struct truncate_ctx, sub);
    if (s->status != 0) {
        truncate_finish(t, s->status);
        return;
    }
    t->h = s->handle;
    struct cache *c = t->c;
    struct chandle *h = t->h;
    uint64_t size = t->size;
    memset(s, 0, sizeof(*s));
    s->done = truncate_done;
    file_truncate(c, s, h, size, true);
}

void cache_setattr(struct cache *c, struct creq *r, unsigned mask)
{
    if (mask & CSET_SIZE) {
        struct truncate_ctx *t = mem_zalloc(sizeof(*t));
        t->c = c;
        t->r = r;
        t->mask = mask;
        t->size = r->attr.size;
        t->sub.pid = r->pid;
        if (r->ref.handle != NULL && (r->ref.handle->flags & O_ACCMODE) != O_RDONLY) {
            t->sub.done = truncate_done;
            file_truncate(c, &t->sub, r->ref.handle, t->size, false);
            return;
        }
        t->sub.ref = r->ref;
        t->sub.done = truncate_opened;
        cache_open_file(c, &t->sub, O_WRONLY);
        return;
    }
    cache_lock(c);
    if (!tree_refuse(c, r)) {
        struct set_ctx *x = mem_zalloc(sizeof(*x));
        x->mask = mask;
        setattr_then(c, r, x, false);
    }
    cache_unlock(c);
}

/* ---- xattrs ---- */

/* Metadata of the committed version, for a file that was not written here: the ledger's, or a HEAD. Runs on a worker. */
struct metaload {
    struct work w;
    struct cache *c;
    struct creq *r;
    struct set_ctx *x;
    void (*then)(struct cache *c, struct creq *r, struct set_ctx *x, struct ckey *k);
    char *key;
    bool headed;
};

static void metaload_go(struct metaload *m);

static void metaload_headed(void *ctx, int status)
{
    struct metaload *m = ctx;
    struct cache *c = m->c;
    if (status != 0 && !(status == -ENOENT && m->r->ref.dir)) {
        cache_lock(c);
        creq_end_locked(c, m->r, status);
        cache_unlock(c);
        set_ctx_free(m->x);
        free(m->key);
        free(m);
        return;
    }
    m->headed = true;
    metaload_go(m);
}

static void metaload_go(struct metaload *m)
{
    struct cache *c = m->c;
    cache_lock(c);
    bool unknown;
    struct ckey *k = meta_slot(c, m->r, &unknown);
    if (k != NULL && !unknown && k->file != NULL && !k->file->meta_known && !m->headed) {
        struct jledger led;
        uint32_t id = k->ident->id;
        CLEANUP(mem_freep) char *key = mem_strdup(k->key);
        cache_unlock(c);
        int found = journal_ledger_get(c->journal, id, key, &led);
        cache_lock(c);
        k = meta_slot(c, m->r, &unknown);
        if (found == 1) {
            struct cfile *f = k != NULL ? k->file : NULL;
            if (f != NULL && !f->meta_known && led.etag[0] != '\0' &&
                (f->is_marker || (f->base != NULL && strcmp(f->base->etag, led.etag) == 0))) {
                struct kvlist meta = {0};
                if (kv_parse(&meta, led.meta) == 0) {
                    file_load_meta(f, &meta);
                }
                kv_fini(&meta);
            }
            jledger_fini(&led);
        }
    }
    bool need = unknown || (k != NULL && k->file != NULL && !k->file->meta_known);
    if (need && !m->headed) {
        CLEANUP(mem_freep) char *key = mem_strdup(k != NULL ? k->key : m->key);
        struct cident *id = m->r->ref.remote->ident;
        cache_unlock(c);
        key_head(c, id, key, metaload_headed, m);
        return;
    }
    if (k == NULL || k->file == NULL) {
        creq_end_locked(c, m->r, -ENOENT);
        set_ctx_free(m->x);
    } else {
        m->then(c, m->r, m->x, k);
    }
    cache_unlock(c);
    free(m->key);
    free(m);
}

static void metaload_run(struct work *w)
{
    metaload_go(CONTAINER_OF(w, struct metaload, w));
}

static void with_meta(struct cache *c, struct creq *r, struct set_ctx *x,
                      void (*then)(struct cache *c, struct creq *r, struct set_ctx *x, struct ckey *k))
{
    if (r->ref.handle == NULL && r->ref.dir && (r->ref.key[0] == '\0' || prefix_is_continued(r->ref.key))) {
        r->status = x->value != NULL ? -EOPNOTSUPP : x->name != NULL ? -ENODATA : 0; /* nothing holds them */
        set_ctx_free(x);
        r->done(r);
        return;
    }
    struct metaload *m = mem_zalloc(sizeof(*m));
    m->c = c;
    m->r = r;
    m->x = x;
    m->then = then;
    m->key = mem_strdup(r->ref.key != NULL ? r->ref.key : "");
    m->w.run = metaload_run;
    pool_submit(c->workers, &m->w);
}

static void reply_text(struct cache *c, struct creq *r, const void *p, size_t n)
{
    char *copy = mem_zalloc(n + 1);
    if (n > 0) {
        memcpy(copy, p, n); /* p may be NULL for an empty value */
    }
    r->buf = copy;
    r->data = copy;
    r->size = n;
    creq_end_locked(c, r, 0);
}

static const char *const own_xattrs[] = {"user.objmig.key", "user.objmig.etag", "user.objmig.md5", "user.objmig.state",
                                         "user.objmig.error", "user.objmig.storage_class", "user.objmig.upload_progress"};

static bool is_own(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(own_xattrs); i++) {
        if (strcmp(name, own_xattrs[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The read-only xattrs; false when this one has no value now. */
static bool own_value(struct ckey *k, const char *name, struct buf *out)
{
    struct cfile *f = k->file;
    if (strcmp(name, "user.objmig.key") == 0) {
        buf_adds(out, k->key);
    } else if (strcmp(name, "user.objmig.state") == 0) {
        buf_adds(out, f != NULL && f->unfinished ? "unfinished" : k->state == FS_CLEAN ? "clean"
                      : k->state == FS_BLOCKED    ? "failed"
                      : k->state == FS_CONFLICT   ? "conflict"
                      : k->state == FS_DIRTY      ? "queued"
                                                  : "uploading");
    } else if (strcmp(name, "user.objmig.etag") == 0 && k->state == FS_CLEAN && k->base.exists) {
        buf_adds(out, k->base.o.etag);
    } else if (strcmp(name, "user.objmig.storage_class") == 0 && k->state == FS_CLEAN && k->base.exists) {
        buf_adds(out, k->base.o.storage_class[0] != '\0' ? k->base.o.storage_class : "STANDARD");
    } else if (strcmp(name, "user.objmig.error") == 0 && k->err.cls != ERR_NONE) {
        char line[512];
        buf_adds(out, err_format(&k->err, line, sizeof(line)));
    } else if (strcmp(name, "user.objmig.upload_progress") == 0 && f != NULL && f->map.size > 0) {
        uint64_t done = k->state == FS_CLEAN ? f->map.size : 0;
        for (size_t i = 0; k->state != FS_CLEAN && i < k->up.n_parts; i++) {
            done += k->up.parts[i].done ? k->up.parts[i].size : 0;
        }
        buf_addf(out, "%llu/%llu", (unsigned long long)done, (unsigned long long)f->map.size);
    } else if (strcmp(name, "user.objmig.md5") == 0 && f != NULL) {
        const char *md5 = kv_get(&f->meta, "meta-md5");
        char hex[33];
        if (f->has_md5) {
            hex_encode(f->md5_sum, 16, hex);
            md5 = hex;
        } else if (k->base.has_md5 && k->state == FS_CLEAN) {
            hex_encode(k->base.md5, 16, hex);
            md5 = hex;
        }
        if (md5 == NULL) {
            return false;
        }
        buf_adds(out, md5);
    } else {
        return false;
    }
    return true;
}

static void getxattr_then(struct cache *c, struct creq *r, struct set_ctx *x, struct ckey *k)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    if (is_own(x->name)) {
        if (own_value(k, x->name, &out)) {
            reply_text(c, r, buf_str(&out), out.len);
        } else {
            creq_end_locked(c, r, -ENODATA);
        }
        set_ctx_free(x);
        return;
    }
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    const char *v = meta_xattr_name(x->name, &name) ? kv_get(&k->file->meta, buf_str(&name)) : NULL;
    if (v == NULL) {
        creq_end_locked(c, r, -ENODATA);
    } else if (strncmp(buf_str(&name), "meta-xattr-", 11) == 0 && meta_value_decode(v, &out) == 0) {
        reply_text(c, r, out.data, out.len);
    } else {
        reply_text(c, r, v, strlen(v));
    }
    set_ctx_free(x);
}

void cache_getxattr(struct cache *c, struct creq *r, const char *name)
{
    CLEANUP(buf_fini) struct buf meta = BUF_INIT;
    if (!is_own(name) && !meta_xattr_name(name, &meta)) {
        r->status = -ENODATA;
        r->done(r);
        return;
    }
    struct set_ctx *x = mem_zalloc(sizeof(*x));
    x->name = mem_strdup(name);
    with_meta(c, r, x, getxattr_then);
}

static void listxattr_then(struct cache *c, struct creq *r, struct set_ctx *x, struct ckey *k)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    /* Only what a copy should carry along; the read-only ones answer by name. */
    for (size_t i = 0; i < k->file->meta.n; i++) {
        CLEANUP(buf_fini) struct buf name = BUF_INIT;
        const char *mn = k->file->meta.items[i].name;
        if (strcasecmp(mn, "content-type") == 0 || !meta_name_xattr(mn, &name)) {
            continue;
        }
        buf_add(&out, buf_str(&name), name.len + 1);
    }
    reply_text(c, r, out.len > 0 ? out.data : "", out.len);
    set_ctx_free(x);
}

void cache_listxattr(struct cache *c, struct creq *r)
{
    with_meta(c, r, mem_zalloc(sizeof(struct set_ctx)), listxattr_then);
}

static void setxattr_then(struct cache *c, struct creq *r, struct set_ctx *x, struct ckey *k)
{
    struct cfile *f = k->file;
    const char *old = kv_get(&f->meta, x->name);
    int status = 0;
    if (x->value == NULL && old == NULL) {
        status = -ENODATA;
    } else if (x->value != NULL && (x->flags & XATTR_CREATE) && old != NULL) {
        status = -EEXIST;
    } else if (x->value != NULL && (x->flags & XATTR_REPLACE) && old == NULL) {
        status = -ENODATA;
    } else if (x->value != NULL && strncmp(x->name, "meta-", 5) == 0 && k->ident->limits.max_meta != 0 &&
               meta_user_bytes(&f->meta) + strlen(x->name) + strlen(x->value) + 64 > k->ident->limits.max_meta) {
        status = -ENOSPC; /* as a file system says that attributes are full; 64 for the MD5 still to come */
    }
    if (status != 0 || (x->value != NULL && old != NULL && strcmp(old, x->value) == 0)) {
        creq_end_locked(c, r, status);
        set_ctx_free(x);
        return;
    }
    kv_set(&f->meta, x->name, x->value);
    f->meta_removed = f->meta_removed || x->value == NULL;
    set_ctx_free(x);
    changed_meta(c, r, k);
}

static void change_xattr(struct cache *c, struct creq *r, const char *name, const void *value, size_t len, int flags)
{
    CLEANUP(buf_fini) struct buf meta = BUF_INIT;
    if (is_own(name)) {
        r->status = -EPERM;
        r->done(r);
        return;
    }
    if (!meta_xattr_name(name, &meta)) {
        r->status = -EOPNOTSUPP;
        r->done(r);
        return;
    }
    cache_lock(c);
    bool refused = tree_refuse(c, r);
    cache_unlock(c);
    if (refused) {
        return;
    }
    struct set_ctx *x = mem_zalloc(sizeof(*x));
    x->name = buf_take(&meta);
    x->flags = flags;
    if (value != NULL) {
        if (strncmp(x->name, "meta-xattr-", 11) == 0) {
            CLEANUP(buf_fini) struct buf v = BUF_INIT;
            meta_value_encode(value, len, &v);
            x->value = mem_strdup(buf_str(&v));
        } else {
            x->value = mem_strndup(value, len);
            for (char *p = x->value; *p != '\0'; p++) {
                if ((unsigned char)*p < 0x20 || *p == 0x7f) {
                    set_ctx_free(x);
                    r->status = -EINVAL; /* it becomes a header line */
                    r->done(r);
                    return;
                }
            }
        }
    }
    with_meta(c, r, x, setxattr_then);
}

void cache_setxattr(struct cache *c, struct creq *r, const char *name, int flags)
{
    change_xattr(c, r, name, r->data != NULL ? r->data : "", r->size, flags);
}

void cache_removexattr(struct cache *c, struct creq *r, const char *name)
{
    change_xattr(c, r, name, NULL, 0, 0);
}
