/* Answers from listings and slots: does a name exist, what does stat(2) show, what is in a directory.
 *
 * A slot that is not CLEAN speaks for its key; else the listing does. What neither knows waits for the listing's next page,
 * or for a HEAD when only one object matters. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "names.h"

struct cdir {
    struct cache *c;
    struct cdirnode *d;
    char *continued; /* prefix of a continuation directory: only d's names that go on in it; else NULL */
    size_t skip;     /* bytes of d's names that this prefix holds */
    struct cchild **v; /* each with a reference */
    size_t n, cap, pulled;
    uint32_t stamp;
    bool ended;
};


int key_check(struct cident *id, const char *key)
{
    struct errinfo err = {0};
    int status = id->be != NULL ? be_key_check(id->be, key, &err) : 0;
    if (status < 0) {
        log_limited(LOG_LEVEL_WARN, "names", key, 10000, "remote=%s key=%s refused: %s", id->name, key, err.message);
    }
    return status;
}

/* ---- lookup ---- */

enum { REQ_LOOKUP = 1, REQ_READDIR };
enum { WAITS_LISTING, WAITS_LOOK }; /* what a request at a node needs: its state */

static void file_attr(const struct cfile *f, struct cattr *ret)
{
    *ret = f->attr;
    ret->size = S_ISDIR(f->attr.mode) ? 0 : f->map.size;
}

/* What a slot alone can say of a name: 1 there, 0 not there, -1 ask the listing. A slot of a key that ends in '/' speaks for
 * the directory or, when it holds bytes, for the file in it. */
static int slot_view(struct cache *c, struct cident *id, const char *key, bool dir, struct cattr *attr)
{
    const struct ckey *k = key_find(c, id, key);
    if (k == NULL || !key_speaks_for(k, dir)) {
        return -1;
    }
    if (k->state != FS_CLEAN) {
        if (k->want_absent || k->file == NULL) {
            return k->want_absent ? 0 : -1;
        }
        file_attr(k->file, attr);
        return 1;
    }
    if (k->file != NULL && k->file->opens > 0 && k->file->meta_known) {
        file_attr(k->file, attr);
        return 1;
    }
    return -1;
}

/* A child by its rest name, with pending changes on top. */
static bool child_view(struct cache *c, struct cdirnode *d, const char *rest, struct cattr *attr)
{
    struct cchild *ch = dir_child(d, rest, strlen(rest));
    if (ch == NULL) {
        return false;
    }
    *attr = ch->attr;
    CLEANUP(mem_freep) char *key = mem_printf("%s%s", d->prefix, rest);
    /* rmdir takes the name away at once, so a directory that has one is there whatever becomes of the object of its key. */
    return slot_view(c, d->ident, key, ch->is_dir, attr) != 0 || ch->is_dir;
}

/* Whether a name of the directory goes on in the continuation directory `prefix`. */
static bool goes_on_in(const struct cdirnode *d, const struct cchild *ch, const char *prefix, size_t plen)
{
    size_t skip = plen - d->len;
    if (ch->len <= skip || memcmp(ch->name, prefix + d->len, skip) != 0 || ch->name[skip] == '/') {
        return false;
    }
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    bool dir;
    return names_show(prefix, plen, ch->name + skip, ch->len - skip, ch->is_dir, false, &name, &dir) == 0;
}

/* A continuation directory is there for what is in it, or because somebody here made or opened it. */
static bool is_continued_dir(struct cache *c, struct cdirnode *d, const char *prefix)
{
    size_t len = strlen(prefix);
    const struct cdirnode *own = dir_find(c, d->ident, prefix, len);
    if (own != NULL && own->complete) {
        return true;
    }
    for (size_t i = 0; i < d->n_buckets; i++) {
        for (struct cchild *ch = d->buckets[i]; ch != NULL; ch = ch->hash_next) {
            if (goes_on_in(d, ch, prefix, len)) {
                return true;
            }
        }
    }
    return false;
}

/* The plain name of an object that was made under its object form is free, for the directory of that name. */
static bool is_free_for_dir(const struct clookup *l, struct cdirnode *d)
{
    if (l->key == NULL || l->prefix == NULL) {
        return false;
    }
    const char *rest = l->key + d->len;
    const struct cchild *ch = dir_child(d, rest, strlen(rest));
    return ch != NULL && ch->as_object;
}

/* True when answered. */
static bool lookup_try(struct cache *c, struct clookup *l)
{
    struct cident *id = l->r.ref.remote->ident;
    struct cattr attr;
    size_t plen = prefix_listed_len(l->parent);
    int64_t now = time_mono_ns();
    struct cdirnode *d = dir_get(c, id, l->parent, plen);
    d->used_ns = now;
    l->ttl_ms = c->opt.list_ttl_ms;
    l->kind = CLOOKUP_NONE;
    l->r.state = WAITS_LISTING;
    memset(&l->r.attr, 0, sizeof(l->r.attr));
    bool determined = dir_fresh(c, d, now) || (d->complete && d->ended_ns >= l->r.since_ns);
    int file_view = -1, dir_view = -1;
    if (l->prefix != NULL && l->prefix[strlen(l->prefix) - 1] == '/') {
        dir_view = slot_view(c, id, l->prefix, true, &attr);
        if (dir_view == 0 && (d->listing || d->complete) && dir_child(d, l->prefix + plen, strlen(l->prefix) - plen)) {
            dir_view = -1; /* made again by a child that came later */
        }
        if (dir_view < 0 && (determined || d->listing)) {
            dir_view = child_view(c, d, l->prefix + plen, &attr) ? 1 : -1;
        }
    } else if (l->prefix != NULL && is_continued_dir(c, d, l->prefix)) {
        meta_defaults(c, &attr, true);
        dir_view = 1;
    }
    if (dir_view == 1) {
        l->kind = CLOOKUP_DIR;
        l->r.attr = attr;
        creq_end_locked(c, &l->r, 0);
        return true;
    }
    if (is_free_for_dir(l, d) && (determined || dir_view == 0)) {
        l->ttl_ms = 0;
        creq_end_locked(c, &l->r, 0);
        return true;
    }
    if (l->key != NULL) {
        file_view = slot_view(c, id, l->key, false, &attr);
        if (file_view < 0 && (determined || d->listing)) {
            file_view = child_view(c, d, l->key + plen, &attr) ? 1 : -1;
        }
        if (file_view == 1 && slot_view(c, id, l->key, false, &attr) < 0) {
            struct cchild *ch = dir_child(d, l->key + plen, strlen(l->key + plen));
            if (ch->unseen && unseen_wait(c, d, ch)) {
                l->r.state = WAITS_LOOK;
                return false;
            }
            if (ch->unseen) {
                creq_end_locked(c, &l->r, ch->look_status != 0 ? ch->look_status : -EIO);
                return true;
            }
        }
        if (file_view == 1 && !S_ISDIR(attr.mode)) {
            /* While the listing runs, a directory of the same name may still come; it would outrank the file. */
            if (determined || l->prefix == NULL || slot_view(c, id, l->key, false, &attr) == 1 ||
                (d->reached != NULL && strcmp(d->reached, l->prefix) >= 0)) {
                l->kind = CLOOKUP_FILE;
                l->r.attr = attr;
                creq_end_locked(c, &l->r, 0);
                return true;
            }
            return false;
        }
    }
    bool file_out = l->key == NULL || file_view == 0;
    bool dir_out = l->prefix == NULL || dir_view == 0;
    const char *last = l->prefix != NULL ? l->prefix : l->key;
    if (determined || (file_out && dir_out) ||
        (d->listing && d->reached != NULL && last[strlen(last) - 1] == '/' && strcmp(d->reached, last) >= 0)) {
        creq_end_locked(c, &l->r, 0);
        return true;
    }
    if (!d->listing && d->err_status != 0) {
        int status = d->err_status;
        d->err_status = 0; /* the next one asks again */
        creq_end_locked(c, &l->r, status);
        return true;
    }
    return false;
}

static bool readdir_try(struct cache *c, struct creq *r);

void dir_waiters_try(struct cache *c, struct cdirnode *d)
{
    struct creq *list = d->waiters, *next;
    d->waiters = NULL;
    int err = d->err_status;
    for (struct creq *r = list; r != NULL; r = next) {
        next = r->next;
        d->err_status = err; /* a failed listing fails everybody who waited for it */
        bool ended = r->kind == REQ_LOOKUP ? lookup_try(c, CONTAINER_OF(r, struct clookup, r)) : readdir_try(c, r);
        if (!ended) {
            r->next = d->waiters;
            d->waiters = r;
        }
    }
    d->err_status = d->listing ? 0 : d->err_status;
    for (const struct creq *r = d->waiters; r != NULL && !d->listing; r = r->next) {
        if (r->state == WAITS_LISTING) {
            dir_list_start(c, d);
            break;
        }
    }
}

static void wait_at(struct cache *c, struct cdirnode *d, struct creq *r)
{
    r->next = d->waiters;
    d->waiters = r;
    if (r->state == WAITS_LOOK) {
        return;
    }
    dir_list_start(c, d);
    if (!d->listing) { /* could not even start */
        dir_waiters_try(c, d);
    }
}

void cache_lookup(struct cache *c, struct clookup *l)
{
    cache_lock(c);
    l->r.kind = REQ_LOOKUP;
    l->r.since_ns = time_mono_ns();
    struct cdirnode *d = dir_get(c, l->r.ref.remote->ident, l->parent, prefix_listed_len(l->parent));
    if (!d->listing) {
        d->err_status = 0;
    }
    if (!lookup_try(c, l)) {
        wait_at(c, d, &l->r);
    }
    cache_unlock(c);
}

struct getattr_lookup {
    struct clookup l;
    struct creq *r;
    char *parent;
};

static void getattr_done(struct creq *lr)
{
    struct clookup *l = CONTAINER_OF(lr, struct clookup, r);
    struct getattr_lookup *g = CONTAINER_OF(l, struct getattr_lookup, l);
    struct creq *r = g->r;
    r->status = lr->status;
    if (lr->status == 0) {
        r->attr = lr->attr;
        if (l->kind == CLOOKUP_NONE) {
            r->status = -ENOENT;
        }
    }
    free(g->parent);
    free(g);
    r->done(r);
}

void cache_getattr(struct cache *c, struct creq *r)
{
    if (r->ref.handle != NULL) {
        cache_lock(c);
        file_attr(r->ref.handle->file, &r->attr);
        creq_end_locked(c, r, 0);
        cache_unlock(c);
        return;
    }
    if (r->ref.dir && strcmp(r->ref.key, r->ref.remote->prefix) == 0) {
        meta_defaults(c, &r->attr, true);
        r->status = 0;
        r->done(r);
        return;
    }
    struct getattr_lookup *g = mem_zalloc(sizeof(*g));
    size_t klen = strlen(r->ref.key);
    bool content = !r->ref.dir && klen > 0 && r->ref.key[klen - 1] == '/';
    size_t plen = content ? klen : key_parent_len(r->ref.key);
    g->r = r;
    g->parent = mem_strndup(r->ref.key, plen);
    g->l.r.ref = r->ref;
    g->l.r.done = getattr_done;
    g->l.parent = g->parent;
    g->l.key = r->ref.dir ? NULL : r->ref.key;
    g->l.prefix = r->ref.dir ? r->ref.key : NULL;
    cache_lookup(c, &g->l);
}

/* ---- reading directories ---- */

void cache_opendir(struct cache *c, struct creq *r)
{
    cache_lock(c);
    size_t len = strlen(r->ref.key), listed = prefix_listed_len(r->ref.key);
    struct cdirnode *d = dir_get(c, r->ref.remote->ident, r->ref.key, listed);
    struct cdir *cd = mem_zalloc(sizeof(*cd));
    cd->c = c;
    cd->d = d;
    if (listed < len) {
        struct cdirnode *own = dir_get(c, r->ref.remote->ident, r->ref.key, len);
        own->complete = true; /* stays there while it is emptied */
        own->used_ns = own->listed_ns = time_mono_ns();
        cd->continued = mem_strdup(r->ref.key);
        cd->skip = len - listed;
    }
    d->refs++;
    d->used_ns = time_mono_ns();
    if (!dir_fresh(c, d, d->used_ns)) {
        dir_list_start(c, d);
    }
    cd->stamp = d->stamp;
    if (cd->continued == NULL) {
        prefetch_opened(c, d);
    }
    r->dir = cd;
    creq_end_locked(c, r, 0);
    cache_unlock(c);
}

static void cdir_add(struct cdir *cd, struct cchild *ch)
{
    if (cd->continued != NULL && !goes_on_in(cd->d, ch, cd->continued, cd->d->len + cd->skip)) {
        return;
    }
    if (cd->n == cd->cap) {
        cd->cap = cd->cap == 0 ? 64 : cd->cap * 2;
        cd->v = mem_realloc(cd->v, cd->cap * sizeof(*cd->v));
    }
    ch->refs++;
    cd->v[cd->n++] = ch;
}

static int by_pointer(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)*(struct cchild *const *)a, y = (uintptr_t)*(struct cchild *const *)b;
    return x < y ? -1 : x > y;
}

/* Takes over what the node's listing has brought since; at its end also the names only we know. */
static void cdir_pull(struct cache *c, struct cdir *cd)
{
    struct cdirnode *d = cd->d;
    if (cd->ended) {
        return;
    }
    bool restarted = cd->stamp != d->stamp;
    if (!restarted) {
        for (; cd->pulled < d->n_order; cd->pulled++) {
            cdir_add(cd, d->order[cd->pulled]);
        }
    }
    if (d->listing && !restarted) {
        return;
    }
    if (!d->complete && !restarted) {
        return;
    }
    /* Names this snapshot does not have yet: made here, or brought by a newer listing. A mark on the children would
     * be shared between snapshots, so what we have is remembered by pointer. */
    size_t n_have = restarted ? cd->n : 0;
    struct cchild **have = mem_zalloc((n_have + 1) * sizeof(struct cchild *));
    for (size_t i = 0; i < n_have; i++) {
        have[i] = cd->v[i];
    }
    qsort(have, n_have, sizeof(*have), by_pointer);
    for (size_t i = 0; i < d->n_buckets; i++) {
        for (struct cchild *ch = d->buckets[i]; ch != NULL; ch = ch->hash_next) {
            bool known = !restarted && d->stamp != 0 && ch->stamp == d->stamp;
            if (!known && bsearch(&ch, have, n_have, sizeof(*have), by_pointer) == NULL) {
                cdir_add(cd, ch);
            }
        }
    }
    free(have);
    (void)c;
    cd->ended = true;
}

static bool readdir_try(struct cache *c, struct creq *r)
{
    struct cdir *cd = r->priv;
    cdir_pull(c, cd);
    if (r->offset < cd->n || cd->ended) {
        r->size = r->offset < cd->n ? cd->n - r->offset : 0;
        creq_end_locked(c, r, 0);
        return true;
    }
    if (!cd->d->listing && cd->d->err_status != 0) {
        creq_end_locked(c, r, cd->d->err_status);
        return true;
    }
    return false;
}

void cache_readdir(struct cache *c, struct creq *r, struct cdir *cd, uint64_t index)
{
    cache_lock(c);
    r->kind = REQ_READDIR;
    r->state = WAITS_LISTING;
    r->priv = cd;
    r->offset = index;
    cd->d->used_ns = time_mono_ns();
    if (!readdir_try(c, r)) {
        if (!cd->d->listing) {
            cd->stamp = cd->d->stamp + 1; /* the listing that starts now */
            cd->pulled = 0;
        }
        wait_at(c, cd->d, r);
    }
    cache_unlock(c);
}

bool cache_dirent(struct cdir *cd, uint64_t index, struct cdirent *ret)
{
    struct cache *c = cd->c;
    bool ok = false;
    cache_lock(c);
    if (index < cd->n && !cd->v[index]->gone) {
        struct cchild *ch = cd->v[index];
        ret->rest = ch->name + cd->skip;
        ret->rest_len = ch->len - cd->skip;
        ret->is_dir = ch->is_dir;
        ret->attr = ch->attr;
        ret->unseen = ch->unseen;
        CLEANUP(mem_freep) char *key = mem_printf("%s%s", cd->d->prefix, ch->name);
        int view = slot_view(c, cd->d->ident, key, ch->is_dir, &ret->attr);
        ok = view != 0 || ch->is_dir;
        ret->unseen = ret->unseen && view < 0;
        if (ch->is_dir) {
            ret->collides = dir_child(cd->d, ch->name, ch->len - 1u) != NULL;
        } else {
            CLEANUP(mem_freep) char *as_dir = mem_printf("%s/", ch->name);
            ret->collides = ch->as_object || dir_child(cd->d, as_dir, ch->len + 1u) != NULL;
        }
    }
    cache_unlock(c);
    return ok;
}

void cache_closedir(struct cdir *cd)
{
    struct cache *c = cd->c;
    cache_lock(c);
    for (size_t i = 0; i < cd->n; i++) {
        child_unref(cd->v[i]);
    }
    cd->d->refs--;
    cache_unlock(c);
    free(cd->v);
    free(cd->continued);
    free(cd);
}

/* ---- single objects ---- */

struct ckey *key_resolve(struct cache *c, struct cident *id, const char *key, bool *ret_unknown)
{
    *ret_unknown = false;
    int64_t now = time_mono_ns();
    struct ckey *k = key_find(c, id, key);
    if (k != NULL && k->state != FS_CLEAN) {
        return k->want_absent ? NULL : k;
    }
    size_t plen = key_parent_len(key);
    struct cdirnode *d = dir_find(c, id, key, plen);
    bool fresh = d != NULL && dir_fresh(c, d, now);
    if (k != NULL && k->base.known &&
        (!fresh || k->base.seen_ns >= d->listed_ns || (k->changed_ns != 0 && k->changed_ns >= d->listed_ns)) &&
        now - MAX(k->base.seen_ns, k->changed_ns) < (int64_t)c->opt.list_ttl_ms * 1000000LL) {
        return k->base.exists ? k : NULL;
    }
    if (!fresh) {
        *ret_unknown = true;
        return k;
    }
    struct cchild *ch = dir_child(d, key + plen, strlen(key + plen));
    if (ch == NULL) {
        return NULL;
    }
    if (ch->etag[0] == '\0') {
        *ret_unknown = true;
        return k;
    }
    if (k == NULL) {
        k = key_get(c, id, key);
    }
    if (k->base.known && k->base.exists && strcmp(k->base.o.etag, ch->etag) == 0) {
        k->base.seen_ns = d->listed_ns;
        return k;
    }
    memset(&k->base, 0, sizeof(k->base));
    k->base.known = k->base.exists = true;
    k->base.seen_ns = d->listed_ns;
    memcpy(k->base.o.etag, ch->etag, strlen(ch->etag) + 1);
    k->base.o.size = ch->attr.size;
    k->base.o.mtime_ns = ch->mtime_ns;
    return k;
}

struct head_req {
    struct be_stat st;
    struct cache *c;
    struct cident *id;
    char *key;
    int64_t sent_ns;
    void (*done)(void *ctx, int status);
    void *ctx;
};

static void head_done(struct be_op *op)
{
    struct head_req *h = op->owner;
    struct cache *c = h->c;
    int status = op->status;
    cache_lock(c);
    bool absent = status != 0 && op->err.cls == ERR_ABSENT;
    if (status == 0 || absent) {
        struct ckey *k = key_get(c, h->id, h->key);
        if (k->state == FS_CLEAN && (k->changed_ns == 0 || k->changed_ns < h->sent_ns)) {
            bool same = k->base.known && k->base.exists && !absent && strcmp(k->base.o.etag, h->st.object.etag) == 0;
            struct cver old = k->base;
            memset(&k->base, 0, sizeof(k->base));
            k->base.known = true;
            k->base.exists = !absent;
            k->base.seen_ns = h->sent_ns;
            if (!absent) {
                k->base.o = h->st.object;
                k->base.has_md5 = same && old.has_md5;
                memcpy(k->base.md5, old.md5, 16);
                if (h->st.object.etag_is_md5 && hex_decode(h->st.object.etag, 16, k->base.md5)) {
                    k->base.has_md5 = true;
                }
            }
            if (k->file != NULL && !same && k->file->opens == 0 && !k->file->is_marker) {
                key_forget_file(c, k); /* a version of before: nothing of it may show */
            }
        }
        if (!absent && k->file == NULL && k->state == FS_CLEAN && k->key[k->key_len - 1] == '/' &&
            !key_is_content(k->key, h->st.object.size)) {
            marker_of_slot(c, k); /* what the answer says of a directory is asked for once */
        }
        if (!absent && k->file != NULL && k->state == FS_CLEAN && !k->file->meta_known &&
            (k->file->is_marker ||
             (k->file->base != NULL && strcmp(k->file->base->etag, h->st.object.etag) == 0))) {
            file_load_meta(k->file, &h->st.meta);
        }
    }
    cache_async_end_locked(c);
    cache_unlock(c);
    be_stat_fini(&h->st);
    h->done(h->ctx, absent ? -ENOENT : status == 0 ? 0 : err_to_errno(&op->err));
    free(h->key);
    free(h);
}

void key_head(struct cache *c, struct cident *id, const char *key, void (*done)(void *ctx, int status), void *ctx)
{
    if (id->be == NULL) {
        done(ctx, -EIO);
        return;
    }
    struct head_req *h = mem_zalloc(sizeof(*h));
    h->c = c;
    h->id = id;
    h->key = mem_strdup(key);
    h->done = done;
    h->ctx = ctx;
    h->sent_ns = time_mono_ns();
    h->st.op.key = h->key;
    h->st.op.lane = BE_LANE_FOREGROUND;
    h->st.op.owner = h;
    h->st.op.done = head_done;
    cache_lock(c);
    cache_async_begin_locked(c);
    cache_unlock(c);
    be_stat(id->be, &h->st);
}
