/* Open files: create, read, write, copy, seal.
 *
 * A generation is sealed by a FLUSH with bytes written since the last one, by RELEASE, by fsync (rules C1); only sealed
 * content is ever sent. Emptying a file writes no bytes: `slow > f` and `dd of=f` send a FLUSH before the first one, and what
 * the provider holds stays until there is something to put in its place. When the journal already holds a sealed row of the content, a change in place first takes that row
 * back: until the unsealed row is committed the change is parked, for a crash in between would send a mixture. O_TRUNC
 * starts a new spool file instead and leaves the sealed row alone (rules C3). */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mem.h"

#define COPY_LOCAL_MAX (64u << 20) /* bytes of LOCAL data one copy_file_range moves (rules F5) */
#define ROW_DELAY_NS 1000000000LL  /* an open file gets its unsealed row after this long */

/* A change of a file; it waits while its sealed row is taken back, its bytes are fetched or its stream's commit is out. */
struct fchange {
    struct work w;
    struct fchange *next;
    struct cache *c;
    struct creq *r;
    struct chandle *h, *from;
    struct cfile *f;
    uint64_t to_offset;
    int mode;
    bool failed; /* the sealed row could not be taken back */
    bool whole;  /* all that its caller wants to do to the file: the FLUSH that follows seals it */
    void *copy; /* of written bytes: the caller's buffer is gone by then */
    void (*run)(struct cache *c, struct fchange *ch); /* called with the lock held; releases it */
};

static bool writable(const struct chandle *h)
{
    return (h->flags & O_ACCMODE) != O_RDONLY;
}

static struct chandle *handle_new(struct cache_remote *remote, struct cfile *f, int flags)
{
    struct chandle *h = mem_zalloc(sizeof(*h));
    h->magic = CHANDLE_MAGIC;
    h->file = file_ref(f);
    h->remote = remote;
    h->flags = flags;
    f->opens++;
    if (writable(h)) {
        f->writers++;
    }
    if (f->base != NULL) {
        h->opened = extent_source_ref(f->base);
    }
    return h;
}

bool cache_keep_pages(struct chandle *h)
{
    return h->keep_pages;
}

/* The file now differs: dirty state, attributes, the listing. */
static void file_changed(struct cache *c, struct cfile *f)
{
    if (f->dirty_ns == 0) {
        f->dirty_ns = time_mono_ns();
        f->row_due_ns = f->dirty_ns + ROW_DELAY_NS;
    }
    if (f->at != NULL && !f->streaming) { /* a stream takes what comes behind its cut as it is */
        key_changed(c, f->at);
    }
}

static void touch_data(struct cfile *f)
{
    file_touch(f, true);
    f->sealed = false;
    f->unfinished = false;
    f->attr.mtime_ns = f->attr.ctime_ns = time_wall_ns();
    f->mtime_implicit = true;
}

static void bytes_written(struct cfile *f)
{
    touch_data(f);
    f->wrote_since_flush = true;
}

static void note_attr(struct cache *c, struct cfile *f)
{
    if (f->at != NULL) {
        struct cattr a = f->attr;
        a.size = f->map.size;
        dir_note(c, f->at->ident, f->at->key, &a, NULL, false);
    }
}

static void truncate_all(struct cache *c, struct cfile *f)
{
    bool row = f->row_sealed && f->at != NULL && f->at->state != FS_CLEAN; /* else it is gone, or will be before any new one */
    if (f->spool_id != 0) {
        if (row && f->old_spool_id == 0) {
            f->old_spool_id = f->spool_id; /* the journal's sealed row still names it */
        } else {
            spool_drop_later(c, f->spool_id);
        }
        f->spool_id = 0;
    }
    if (row) {
        f->keep_row = true;
        extent_fini(&f->kept_map);
        extent_clone(&f->kept_map, &f->map);
    }
    f->row_sealed = false;
    file_lru_remove(c, f);
    f->lost = false;
    f->wrote_since_flush = false;
    stream_abandon(c, f);
    f->streaming = false; /* what went out already is of no use to the new content */
    f->stream_cut = 0;
    extent_fini(&f->map);
    extent_init(&f->map);
    digest_md5_init(&f->md5);
    f->hash_pos = 0;
    f->hash_ok = true;
    f->hydrate = false;
}

/* ---- unsealing ---- */

static void change_unlock(struct cache *c, struct fchange *ch);

static void parked_run(struct work *w)
{
    struct fchange *ch = CONTAINER_OF(w, struct fchange, w);
    struct cache *c = ch->c;
    cache_lock(c);
    if (!ch->failed) {
        change_unlock(c, ch); /* it may have been sealed again */
        return;
    }
    creq_end_locked(c, ch->r, -EIO);
    cache_unlock(c);
    free(ch->copy);
    free(ch);
}

struct unseal {
    struct cache *c;
    struct cfile *f; /* ref */
};

void file_unpark(struct cache *c, struct cfile *f, bool failed)
{
    mutex_assert_held(&c->lock);
    struct fchange *next;
    for (struct fchange *ch = TAKE(f->parked); ch != NULL; ch = next) {
        next = ch->next;
        ch->failed = failed;
        pool_submit(c->workers, &ch->w);
    }
}

static void unsealed(void *ctx, int status)
{
    struct unseal *u = ctx;
    struct cache *c = u->c;
    cache_lock(c);
    u->f->unsealing = false;
    if (status == 0) {
        u->f->row_sealed = false;
    }
    file_unpark(c, u->f, status != 0);
    file_unref(c, u->f);
    cache_unlock(c);
    free(u);
}

/* Runs ch->run at once, or parked once nothing stands in its way. Called with the lock held; releases it. */
static void change_unlock(struct cache *c, struct fchange *ch)
{
    struct cfile *f = ch->f;
    ch->c = c;
    ch->w.run = parked_run;
    bool sent = stream_is_sent(f);
    bool unseal = !sent && f->row_sealed && f->at != NULL;
    if (!sent && !unseal && !f->hydrating) {
        ch->run(c, ch);
        return;
    }
    if (ch->r->data != NULL && ch->copy == NULL && ch->r->size > 0) {
        ch->copy = mem_zalloc(ch->r->size);
        memcpy(ch->copy, ch->r->data, ch->r->size);
        ch->r->data = ch->copy;
    }
    ch->next = f->parked;
    f->parked = ch;
    if (unseal && !f->unsealing) {
        f->unsealing = true;
        f->sealed = false;
        struct unseal *u = mem_zalloc(sizeof(*u));
        u->c = c;
        u->f = file_ref(f);
        struct jtx *tx = jtx_new();
        bool by_md5 = f->row_md5;
        key_content_changes(c, f->at, "written again");
        key_journal(c, f->at, tx);
        f->row_sealed = true; /* until it is committed; durably when no MD5 would show the change after a power cut */
        journal_submit(c->journal, tx, by_md5 ? 0 : JTX_DURABLE, unsealed, u);
    }
    cache_unlock(c);
}

/* ---- create and open ---- */

void cache_create(struct cache *c, struct creq *r, int open_flags)
{
    struct cident *id = r->ref.remote->ident;
    cache_lock(c);
    if (c->refuse_new || c->read_only) {
        creq_end_locked(c, r, -ESHUTDOWN);
        cache_unlock(c);
        return;
    }
    int refused = key_check(id, r->ref.key);
    if (refused == 0 && (id->caps & BE_CAP_READ_ONLY)) {
        refused = -EROFS;
    }
    if (refused < 0) {
        creq_end_locked(c, r, refused);
        cache_unlock(c);
        return;
    }
    bool unknown;
    struct ckey *k = key_resolve(c, id, r->ref.key, &unknown);
    bool there = k != NULL && !unknown && key_has_file(k) && (k->state != FS_CLEAN || k->base.exists);
    if (there && r->ref.key[strlen(r->ref.key) - 1] == '/') {
        /* A marker is no file: the bytes take its place, and the directory is there for them. */
        there = k->file != NULL ? !k->file->is_marker : key_is_content(k->key, k->base.o.size);
    }
    if (there) {
        if (open_flags & O_EXCL) {
            creq_end_locked(c, r, -EEXIST);
            cache_unlock(c);
            return;
        }
        dir_note_form(c, &r->ref);
        cache_unlock(c);
        cache_open_file(c, r, open_flags);
        return;
    }
    k = key_get(c, id, r->ref.key);
    if (!unknown && !k->base.known) {
        k->base.known = true; /* a fresh listing has no such name */
        k->base.exists = false;
    }
    struct cfile *f = file_new(c);
    meta_defaults(c, &f->attr, false);
    f->attr.mode = S_IFREG | (r->attr.mode & 07777);
    f->attr.uid = r->uid;
    f->attr.gid = r->gid;
    f->meta_known = true;
    f->meta_dirty = true;
    meta_encode(&f->attr, CSET_MODE | CSET_UID | CSET_GID, &f->meta);
    kv_set(&f->meta, "content-type", meta_content_type(r->ref.key));
    key_set_file(c, k, f);
    touch_data(f);
    file_changed(c, f);
    note_attr(c, f);
    dir_note_form(c, &r->ref);
    r->handle = handle_new(r->ref.remote, f, open_flags);
    r->attr = f->attr;
    file_unref(c, f);
    creq_end_locked(c, r, 0);
    cache_unlock(c);
}

struct open_ctx {
    struct cache *c;
    struct creq *r;
    int flags;
};

static bool open_try(struct cache *c, struct creq *r, int flags, bool may_ask);

static void open_headed(void *ctx, int status)
{
    struct open_ctx *o = ctx;
    cache_lock(o->c);
    if (status != 0) {
        creq_end_locked(o->c, o->r, status);
    } else if (!open_try(o->c, o->r, o->flags, false)) {
        creq_end_locked(o->c, o->r, -EIO);
    }
    cache_unlock(o->c);
    free(o);
}

struct cfile *file_of_slot(struct cache *c, struct ckey *k)
{
    if (k->file != NULL && k->state == FS_CLEAN && k->base.exists &&
        (k->file->base == NULL || strcmp(k->file->base->etag, k->base.o.etag) != 0)) {
        key_forget_file(c, k); /* somebody else wrote the key since */
    }
    if (k->file == NULL) {
        struct cfile *f = file_new(c);
        key_set_file(c, k, f);
        f->sealed = true;
        f->is_marker = k->key[k->key_len - 1] == '/' && !key_is_content(k->key, k->base.o.size);
        file_to_base(c, f, &k->base);
        meta_defaults(c, &f->attr, f->is_marker);
        bool content = key_is_content(k->key, k->base.o.size);
        size_t plen = content ? k->key_len : key_parent_len(k->key);
        struct cdirnode *d = dir_find(c, k->ident, k->key, plen);
        struct cchild *ch = d != NULL ? dir_child(d, k->key + plen, k->key_len - plen) : NULL;
        if (ch != NULL && !ch->unseen) {
            f->attr = ch->attr;
        } else {
            f->attr.mtime_ns = f->attr.ctime_ns = k->base.o.mtime_ns;
        }
        file_unref(c, f);
    }
    return k->file;
}

static bool open_try(struct cache *c, struct creq *r, int flags, bool may_ask)
{
    bool unknown;
    struct ckey *k = key_resolve(c, r->ref.remote->ident, r->ref.key, &unknown);
    if (unknown) {
        if (may_ask) {
            return false;
        }
        k = key_find(c, r->ref.remote->ident, r->ref.key);
        if (k == NULL || !k->base.known || !k->base.exists) {
            creq_end_locked(c, r, -ENOENT);
            return true;
        }
    }
    if (k == NULL) {
        creq_end_locked(c, r, -ENOENT);
        return true;
    }
    struct cfile *f = file_of_slot(c, k);
    bool write = (flags & O_ACCMODE) != O_RDONLY;
    if (write && (flags & O_TRUNC)) {
        if (f->map.size > 0 || k->state != FS_CLEAN) {
            truncate_all(c, f);
            touch_data(f);
            file_changed(c, f);
            note_attr(c, f);
        }
    }
    if (write && r->ref.object_form) {
        dir_note_form(c, &r->ref); /* a copy that is run again, and comes to the directory of that name later */
    }
    r->handle = handle_new(r->ref.remote, f, flags);
    r->handle->keep_pages = f->opens > 1;
    r->attr = f->attr;
    r->attr.size = f->map.size;
    creq_end_locked(c, r, 0);
    return true;
}

void cache_open_file(struct cache *c, struct creq *r, int open_flags)
{
    cache_lock(c);
    if (c->refuse_new) {
        creq_end_locked(c, r, -ESHUTDOWN);
    } else if ((open_flags & O_ACCMODE) != O_RDONLY && (r->ref.remote->ident->caps & BE_CAP_READ_ONLY)) {
        creq_end_locked(c, r, -EROFS);
    } else if (!open_try(c, r, open_flags, true)) {
        struct open_ctx *o = mem_zalloc(sizeof(*o));
        o->c = c;
        o->r = r;
        o->flags = open_flags;
        cache_unlock(c);
        key_head(c, r->ref.remote->ident, r->ref.key, open_headed, o);
        return;
    }
    cache_unlock(c);
}

void cache_release(struct cache *c, struct chandle *h)
{
    CHECK_MAGIC(h, CHANDLE_MAGIC);
    cache_lock(c);
    struct cfile *f = h->file;
    f->opens--;
    if (writable(h)) {
        f->writers--;
        bool over = f->writers == 0 || f->wrote_since_flush; /* else others are still to write, and this one has not */
        if (over && !f->sealed && !f->unfinished && f->at != NULL && f->at->state != FS_CLEAN) {
            file_seal(c, f, NULL);
        }
    }
    if (f->opens == 0) {
        reader_drop(c, f);
        if (f->at == NULL) {
            file_drop_edges(c, f);
        } else if (f->at->state == FS_CLEAN) {
            f->at->changed_ns = MAX(f->at->changed_ns, 1);
        }
    }
    struct ckey *k = f->at;
    h->magic = 0;
    extent_source_unref(h->opened);
    file_unref(c, f);
    if (k != NULL) {
        key_drop_if_idle(c, k);
    }
    cache_unlock(c);
    free(h);
}

/* ---- sealing ---- */

struct seal_ctx {
    struct cache *c;
    struct creq *r;
};

static void seal_committed(void *ctx, int status)
{
    struct seal_ctx *s = ctx;
    cache_lock(s->c);
    creq_end_locked(s->c, s->r, status);
    cache_unlock(s->c);
    free(s);
}

void file_seal(struct cache *c, struct cfile *f, struct creq *r)
{
    mutex_assert_held(&c->lock);
    struct ckey *k = f->at;
    f->sealed = true;
    f->wrote_since_flush = false;
    f->dirty_ns = 0;
    f->sealed_ns = time_mono_ns();
    f->sealed_wall_ns = time_wall_ns();
    if (f->mtime_implicit) {
        meta_encode(&f->attr, CSET_MTIME, &f->meta);
        f->meta_dirty = true;
    }
    if (f->hash_ok && f->hash_pos == f->map.size && !f->has_md5 && !f->hashing &&
        extent_bytes(&f->map, EXT_LOCAL) + extent_bytes(&f->map, EXT_PART) == f->map.size) {
        struct digest_md5 d = f->md5;
        digest_md5_final(&d, f->md5_sum);
        f->has_md5 = true;
    }
    note_attr(c, f);
    if (k == NULL) {
        if (r != NULL) {
            creq_end_locked(c, r, 0);
        }
        return;
    }
    if (k->state == FS_BLOCKED) {
        key_event(c, k, FE_RETRY, "new content");
        err_clear(&k->err);
    }
    bool at_once = room_sealed(c, f);
    if (k->state != FS_UNKNOWN) {
        key_due(c, k, k->hurry || at_once ? f->sealed_ns : f->sealed_ns + (int64_t)c->opt.writeback_delay_ms * 1000000LL);
    }
    if (f->streaming) {
        stream_poke(c, f);
    }
    struct jtx *tx = jtx_new();
    key_journal(c, k, tx);
    if (r == NULL) {
        journal_submit(c->journal, tx, 0, NULL, NULL);
        return;
    }
    struct seal_ctx *s = mem_zalloc(sizeof(*s));
    s->c = c;
    s->r = r;
    cache_submit_answered(c, tx, seal_committed, s);
}

/* A process that a signal ends closes its files on the way out: PF_EXITING with the signal in its exit code (rules C2). */
static bool killed_by_signal(int32_t pid)
{
    char path[40], text[1024];
    if (pid <= 0) {
        return false;
    }
    snprintf(path, sizeof(path), "/proc/%" PRId32 "/stat", pid);
    CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n <= 0) {
        return false;
    }
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the command name may hold anything */
    if (p == NULL) {
        return false;
    }
    /* After the name: field 3 is the state; 9 the flags; 52 the exit code. */
    unsigned long flags = 0, code = 0;
    int field = 2;
    for (p++; *p != '\0'; field++) {
        while (*p == ' ') {
            p++;
        }
        if (field + 1 == 9) {
            flags = strtoul(p, NULL, 10);
        } else if (field + 1 == 52) {
            code = strtoul(p, NULL, 10);
        }
        while (*p != '\0' && *p != ' ') {
            p++;
        }
    }
    return (flags & 0x4) != 0 && (code & 0x7f) != 0;
}

/* REMOTE bytes of a copy that did not get to its source's end. */
static bool copy_cut_short(const struct cfile *f)
{
    for (size_t i = 0; i < f->map.n; i++) {
        const struct extent *e = &f->map.v[i];
        if (e->kind == EXT_REMOTE && i + 1 == f->map.n && e->src_off + e->len < e->src->size) {
            return true;
        }
    }
    return false;
}

void cache_flush(struct cache *c, struct creq *r, struct chandle *h)
{
    CHECK_MAGIC(h, CHANDLE_MAGIC);
    cache_lock(c);
    struct cfile *f = h->file;
    bool elsewhere = f->streaming && (extent_has(&f->map, EXT_PART) || stream_is_sent(f));
    bool fsync = f->wrote_since_flush ? c->opt.close_remote || elsewhere : c->opt.close_remote && f->sealed;
    if (writable(h) && fsync) {
        cache_unlock(c); /* a file larger than the spool: some of its bytes are nowhere but in the upload (rules C8) */
        cache_fsync(c, r, h);
        return;
    }
    if (writable(h) && f->at != NULL && f->map.size == 0) {
        move_made(c, f->at, r->pid);
    }
    if (!writable(h) || f->sealed || f->at == NULL || f->at->state == FS_CLEAN || !f->wrote_since_flush) {
        creq_end_locked(c, r, 0);
        cache_unlock(c);
        return;
    }
    if (copy_cut_short(f)) {
        cache_unlock(c);
        bool killed = killed_by_signal(r->pid);
        cache_lock(c);
        if (killed && copy_cut_short(f) && f->at != NULL && f->at->state == FS_DIRTY && f->at->x == NULL &&
            f->at->carries == NULL) {
            log_info("file", "remote=%s key=%s unfinished: its writer was killed", f->at->ident->name, f->at->key);
            key_set_aside(c, f->at);
            creq_end_locked(c, r, 0);
            cache_unlock(c);
            return;
        }
    }
    file_seal(c, f, r);
    cache_unlock(c);
}

void cache_fsync(struct cache *c, struct creq *r, struct chandle *h)
{
    CHECK_MAGIC(h, CHANDLE_MAGIC);
    cache_lock(c);
    struct cfile *f = h->file;
    struct ckey *k = f->at;
    if (k == NULL || k->state == FS_CLEAN) {
        creq_end_locked(c, r, 0);
    } else if ((k->state == FS_BLOCKED && f->sealed) || k->state == FS_CONFLICT) {
        creq_end_locked(c, r, err_to_errno(&k->err));
    } else {
        k->hurry = true;
        if (!f->sealed) {
            file_seal(c, f, NULL);
        } else {
            key_due(c, k, time_mono_ns());
        }
        r->seq = f->gen;
        r->deadline_ns = time_mono_ns() + (int64_t)c->opt.wait_timeout_ms * 1000000LL;
        r->next = k->fsync_waiters;
        k->fsync_waiters = r;
    }
    cache_unlock(c);
}

struct fsyncdir_ctx {
    struct work w;
    struct cache *c;
    struct creq *r;
};

static void fsyncdir_done(void *ctx, int status)
{
    struct fsyncdir_ctx *s = ctx;
    cache_lock(s->c);
    creq_end_locked(s->c, s->r, status);
    cache_unlock(s->c);
    free(s);
}

static void fsyncdir_run(struct work *w)
{
    struct fsyncdir_ctx *s = CONTAINER_OF(w, struct fsyncdir_ctx, w);
    if (spool_syncfs(s->c->spool) < 0) {
        fsyncdir_done(s, -EIO);
        return;
    }
    journal_submit(s->c->journal, jtx_new(), JTX_DURABLE, fsyncdir_done, s);
}

void cache_fsyncdir(struct cache *c, struct creq *r)
{
    struct fsyncdir_ctx *s = mem_zalloc(sizeof(*s));
    s->c = c;
    s->r = r;
    s->w.run = fsyncdir_run;
    pool_submit(c->workers, &s->w);
}

/* ---- reading and writing ---- */

void cache_read(struct cache *c, struct creq *r, struct chandle *h)
{
    CHECK_MAGIC(h, CHANDLE_MAGIC);
    reader_read(c, r, h->file);
}

/* Under the lock: a spool file for the content. */
static void need_spool(struct cache *c, struct cfile *f)
{
    file_lru_remove(c, f);
    if (f->spool_id == 0) {
        f->spool_id = c->next_spool_id++;
    }
}

static void write_run(struct cache *c, struct fchange *ch)
{
    struct creq *r = ch->r;
    struct chandle *h = ch->h;
    struct cfile *f = h->file;
    uint64_t off = h->flags & O_APPEND ? f->map.size : r->offset;
    uint64_t end;
    int status = 0;
    if (ADD_OVERFLOWS(off, r->size, &end) || end > INT64_MAX) {
        status = -EFBIG;
    } else if (f->at != NULL && f->at->ident->limits.max_object != 0 && end > f->at->ident->limits.max_object) {
        status = -EFBIG;
    }
    if (status == 0 && f->streaming && off < f->stream_cut) {
        status = -EFBIG; /* those bytes are parts of the upload already (rules C8) */
    }
    if (status != 0) {
        creq_end_locked(c, r, status);
        cache_unlock(c);
        free(ch->copy);
        free(ch);
        return;
    }
    need_spool(c, f);
    uint64_t spool_id = f->spool_id;
    bytes_written(f);
    file_changed(c, f);
    bool hash = f->hash_ok && !f->hashing && off == f->hash_pos && off <= f->map.size;
    if (hash) {
        f->hashing = true;
    } else if (off < f->hash_pos || f->hashing) {
        f->hash_ok = false;
    }
    struct digest_md5 md5 = f->md5; /* the newest state is this thread's alone while hashing is set */
    f->io_users++;
    file_ref(f);
    cache_unlock(c);

    int err = spool_write(c->spool, spool_id, r->data, r->size, off);
    if (err == -ENOENT) {
        spool_create(c->spool, spool_id); /* another writer may have been faster: then the write tells */
        err = spool_write(c->spool, spool_id, r->data, r->size, off);
    }
    ssize_t n = err < 0 ? err : (ssize_t)r->size;
    if (hash && n == (ssize_t)r->size) {
        digest_md5_update(&md5, r->data, r->size);
    }

    cache_lock(c);
    f->io_users--;
    if (hash) {
        f->hashing = false;
        if (n == (ssize_t)r->size && f->hash_ok && f->hash_pos == off && f->spool_id == spool_id) {
            f->md5 = md5;
            f->hash_pos = end;
        } else {
            f->hash_ok = false;
        }
    }
    if (n < 0) {
        status = (int)n;
    } else if (f->spool_id == spool_id) {
        extent_set(&f->map, off, (uint64_t)n, EXT_LOCAL, NULL, 0);
        file_touch(f, true); /* whoever read the bytes while they changed sees another generation */
        r->done_bytes = (uint64_t)n;
        if (f->at != NULL && !f->streaming) {
            file_relink(c, f);
        }
    } else {
        r->done_bytes = (uint64_t)n; /* truncated away meanwhile */
    }
    if (status == 0) {
        stream_consider(c, f, false);
    }
    room_end(c, r, f, status);
    file_unref(c, f);
    cache_unlock(c);
    free(ch->copy);
    free(ch);
}

void cache_write(struct cache *c, struct creq *r, struct chandle *h)
{
    CHECK_MAGIC(h, CHANDLE_MAGIC);
    struct fchange *ch = mem_zalloc(sizeof(*ch));
    ch->r = r;
    ch->h = h;
    ch->f = h->file;
    ch->run = write_run;
    cache_lock(c);
    change_unlock(c, ch);
}

static void truncate_run(struct cache *c, struct fchange *ch)
{
    struct creq *r = ch->r;
    struct cfile *f = ch->f;
    int status = 0;
    uint64_t size = r->size;
    if (size != f->map.size) {
        if (f->streaming && size < f->stream_cut) {
            status = -EFBIG;
        } else {
            file_lru_remove(c, f);
            if (size == 0) {
                truncate_all(c, f);
                f->wrote_since_flush = ch->whole && f->writers == 1;
            } else {
                f->wrote_since_flush = true;
                status = extent_truncate(&f->map, size);
                if (size < f->hash_pos) {
                    f->hash_ok = false;
                }
            }
            if (status == 0) {
                touch_data(f);
                file_changed(c, f);
                note_attr(c, f);
            }
        }
    }
    r->attr = f->attr;
    r->attr.size = f->map.size;
    creq_end_locked(c, r, status);
    cache_unlock(c);
    free(ch);
}

void file_truncate(struct cache *c, struct creq *r, struct chandle *h, uint64_t size, bool whole)
{
    struct fchange *ch = mem_zalloc(sizeof(*ch));
    ch->r = r;
    ch->h = h;
    ch->f = h->file;
    ch->run = truncate_run;
    ch->whole = whole;
    r->size = size;
    r->data = NULL;
    cache_lock(c);
    if (size == 0 && ch->f->row_sealed && ch->f->map.size > 0) {
        truncate_run(c, ch); /* like O_TRUNC: the sealed row stays */
        return;
    }
    change_unlock(c, ch);
}

/* ---- copy_file_range ---- */

static void copy_run(struct cache *c, struct fchange *ch)
{
    struct creq *r = ch->r;
    struct cfile *src = ch->from->file, *dst = ch->f;
    uint64_t off = r->offset, to = ch->to_offset, len = r->size, end;
    int status = 0;
    r->done_bytes = 0;
    if (off >= src->map.size) {
        len = 0;
    } else {
        len = MIN(len, src->map.size - off);
    }
    if (ADD_OVERFLOWS(to, len, &end) || end > INT64_MAX) {
        status = -EFBIG;
    } else if (dst->at != NULL && dst->at->ident->limits.max_object != 0 && end > dst->at->ident->limits.max_object) {
        status = -EFBIG;
    } else if (src->lost) {
        status = -EIO;
    } else if (src == dst && off < end && to < off + len) {
        status = -EINVAL;
    } else if (dst->streaming && to < dst->stream_cut) {
        status = -EFBIG;
    }
    if (status != 0 || len == 0) {
        creq_end_locked(c, r, status);
        cache_unlock(c);
        free(ch);
        return;
    }
    uint64_t mapped = 0;
    struct extent_source *base = file_base_as_source(src);
    status = extent_copy(&dst->map, to, &src->map, off, len, base, &mapped);
    extent_source_unref(base);
    if (status == 0 && mapped > 0) {
        file_lru_remove(c, dst);
        bytes_written(dst);
        if (to < dst->hash_pos) {
            dst->hash_ok = false;
        }
        file_changed(c, dst);
        r->done_bytes = mapped;
        creq_end_locked(c, r, 0);
        cache_unlock(c);
        free(ch);
        return;
    }
    const struct extent *e = extent_find(&src->map, off);
    if (status != 0 || e == NULL || e->kind != EXT_LOCAL) {
        creq_end_locked(c, r, status != 0 ? status : -EIO);
        cache_unlock(c);
        free(ch);
        return;
    }
    uint64_t n = MIN(MIN(len, e->off + e->len - off), COPY_LOCAL_MAX);
    need_spool(c, dst);
    uint64_t src_spool = src->spool_id, dst_spool = dst->spool_id;
    if (off == 0 && to == 0 && src->meta_known && dst->meta_known && n == src->map.size) {
        meta_merge_source(&dst->meta, &src->meta, false);
        if (src->has_md5) {
            dst->hash_ok = false;
        }
    }
    bytes_written(dst);
    file_changed(c, dst);
    src->io_users++;
    dst->io_users++;
    file_ref(src);
    file_ref(dst);
    cache_unlock(c);
    int err = spool_create(c->spool, dst_spool);
    if (err == 0 || err == -EEXIST) {
        err = spool_copy(c->spool, src_spool, off, dst_spool, to, n);
    }
    int64_t got = err < 0 ? err : (int64_t)n;
    cache_lock(c);
    src->io_users--;
    dst->io_users--;
    dst->hash_ok = false;
    if (got > 0 && dst->spool_id == dst_spool) {
        extent_set(&dst->map, to, (uint64_t)got, EXT_LOCAL, NULL, 0);
        file_touch(dst, true);
        if (dst->at != NULL) {
            file_relink(c, dst);
            if (src->at != NULL && src->at != dst->at) {
                key_order_after(c, dst, src->at); /* whoever then deletes the source moves it */
            }
        }
    }
    r->done_bytes = got > 0 ? (uint64_t)got : 0;
    room_end(c, r, dst, got < 0 ? (int)got : 0);
    file_unref(c, src);
    file_unref(c, dst);
    cache_unlock(c);
    free(ch);
}

void cache_copy_range(struct cache *c, struct creq *r, struct chandle *from, struct chandle *to, uint64_t to_offset)
{
    CHECK_MAGIC(from, CHANDLE_MAGIC);
    CHECK_MAGIC(to, CHANDLE_MAGIC);
    struct fchange *ch = mem_zalloc(sizeof(*ch));
    ch->r = r;
    ch->from = from;
    ch->h = to;
    ch->f = to->file;
    ch->to_offset = to_offset;
    ch->run = copy_run;
    r->data = NULL;
    cache_lock(c);
    change_unlock(c, ch);
}

/* ---- fallocate, lseek ---- */

static void fallocate_run(struct cache *c, struct fchange *ch)
{
    struct creq *r = ch->r;
    struct cfile *f = ch->f;
    int status = 0;
    bool keep = ch->mode & FALLOC_FL_KEEP_SIZE;
    uint64_t end;
    if (ADD_OVERFLOWS(r->offset, r->size, &end) || end > INT64_MAX) {
        status = -EFBIG;
    } else if (f->streaming && (ch->mode & ~FALLOC_FL_KEEP_SIZE) && r->offset < f->stream_cut) {
        status = -EFBIG;
    } else if (ch->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
        uint64_t stop = keep ? MIN(end, f->map.size) : end;
        if (r->offset < stop) {
            file_lru_remove(c, f);
            status = extent_set(&f->map, r->offset, stop - r->offset, EXT_HOLE, NULL, 0);
            f->hash_ok = f->hash_ok && r->offset >= f->hash_pos;
            bytes_written(f);
            file_changed(c, f);
        }
    } else if (!keep && end > f->map.size) {
        file_lru_remove(c, f);
        status = extent_truncate(&f->map, end);
        bytes_written(f);
        file_changed(c, f);
    }
    note_attr(c, f);
    creq_end_locked(c, r, status);
    cache_unlock(c);
    free(ch);
}

void cache_fallocate(struct cache *c, struct creq *r, struct chandle *h, int mode)
{
    CHECK_MAGIC(h, CHANDLE_MAGIC);
    const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    if (mode & ~known) {
        r->status = -EOPNOTSUPP;
        r->done(r);
        return;
    }
    struct fchange *ch = mem_zalloc(sizeof(*ch));
    ch->r = r;
    ch->h = h;
    ch->f = h->file;
    ch->mode = mode;
    ch->run = fallocate_run;
    r->data = NULL;
    cache_lock(c);
    change_unlock(c, ch);
}

void cache_lseek(struct cache *c, struct creq *r, struct chandle *h, int whence)
{
    CHECK_MAGIC(h, CHANDLE_MAGIC);
    cache_lock(c);
    int64_t off = extent_seek(&h->file->map, r->offset, whence);
    if (off >= 0) {
        r->offset = (uint64_t)off;
    }
    creq_end_locked(c, r, off < 0 ? (int)off : 0);
    cache_unlock(c);
}
