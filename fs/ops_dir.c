/* FUSE operations on open directories.
 *
 * Offsets: 1 and 2 follow "." and "..", i + 3 follows entry i of the cache's snapshot. Rewinding to
 * 0 takes a new snapshot, as POSIX wants of rewinddir. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "fop.h"

#define FIRST 2 /* offset of entry 0 */

static struct dhandle *dir_handle(const struct fuse_file_info *fi)
{
    struct dhandle *dh = (struct dhandle *)(uintptr_t)fi->fh;

    CHECK_MAGIC(dh, DHANDLE_MAGIC);
    return dh;
}

/* Entries that share the beginning of a very long component show as one directory: by the first of
 * them, wherever the others are. */
struct shown {
    uint64_t index;
    const char *name; /* in what follows, once it is in the tree */
};

static int shown_compare(const void *a, const void *b)
{
    return strcmp(((const struct shown *)a)->name, ((const struct shown *)b)->name);
}

static bool shown_before(struct dhandle *dh, uint64_t index, const char *name)
{
    struct shown key = {.name = name};
    struct shown **at = tfind(&key, &dh->continued, shown_compare);

    if (at != NULL) {
        return (*at)->index < index;
    }
    size_t size = strlen(name) + 1;
    struct shown *s = mem_zalloc(sizeof(*s) + size);
    s->index = index;
    s->name = memcpy(s + 1, name, size);
    ENSURE(tsearch(s, &dh->continued, shown_compare) != NULL);
    return false;
}

static void shown_forget(struct dhandle *dh)
{
    tdestroy(dh->continued, free);
    dh->continued = NULL;
}

static void dhandle_free(struct fs *fs, struct dhandle *dh)
{
    mutex_lock(&fs->op_lock);
    *dh->prevp = dh->next;
    if (dh->next != NULL) {
        dh->next->prevp = dh->prevp;
    }
    mutex_unlock(&fs->op_lock);
    if (dh->dir != NULL) {
        cache_closedir(dh->dir);
    }
    shown_forget(dh);
    buf_fini(&dh->prefix);
    dh->magic = 0;
    free(dh);
}

static void open_reply(struct fop *op, struct dhandle *dh)
{
    op->fi.fh = (uintptr_t)dh;
    if (fuse_reply_open(op->req, &op->fi) == -ENOENT) {
        dhandle_free(op->fs, dh);
    }
    fop_finish(op);
}

static struct dhandle *dhandle_new(struct fop *op)
{
    struct dhandle *dh = mem_zalloc(sizeof(*dh));

    dh->magic = DHANDLE_MAGIC;
    dh->remote = inode_remote(op->inode);
    dh->prefix = op->key;
    op->key = (struct buf)BUF_INIT;
    mutex_lock(&op->fs->op_lock);
    dh->next = op->fs->dirs;
    dh->prevp = &op->fs->dirs;
    if (dh->next != NULL) {
        dh->next->prevp = &dh->next;
    }
    op->fs->dirs = dh;
    mutex_unlock(&op->fs->op_lock);
    return dh;
}

void dirs_close_all(struct fs *fs)
{
    while (fs->dirs != NULL) { /* nobody else is left */
        dhandle_free(fs, fs->dirs);
    }
}

static void opendir_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status == -ENOENT ? -ESTALE : r->status);
        return;
    }
    struct dhandle *dh = dhandle_new(op);
    dh->dir = r->dir;
    open_reply(op, dh);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fop *op = fop_new(req, ino, opendir_done);

    op->fi = *fi;
    if (inode_kind(op->inode) != INODE_DIR) {
        open_reply(op, dhandle_new(op));
        return;
    }
    if (fop_ref(op, NULL)) {
        fop_begin(op);
        cache_opendir(op->fs->cache, &op->r);
    }
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    dhandle_free(fop_fs(req), dir_handle(fi));
    (void)fuse_reply_err(req, 0);
}

/* ---- filling the kernel's buffer ---- */

/* False: no room left. */
static bool add_entry(struct fop *op, const char *name, const struct fuse_entry_param *e,
                      off_t next)
{
    size_t room = op->dir.size - op->dir.len;
    size_t n =
        op->dir.plus
            ? fuse_add_direntry_plus(op->req, op->dir.out + op->dir.len, room, name, e, next)
            : fuse_add_direntry(op->req, op->dir.out + op->dir.len, room, name, &e->attr, next);

    if (n > room) {
        return false;
    }
    op->dir.len += n;
    return true;
}

static bool has_room(const struct fop *op, const char *name)
{
    size_t n = op->dir.plus ? fuse_add_direntry_plus(op->req, NULL, 0, name, NULL, 0)
                            : fuse_add_direntry(op->req, NULL, 0, name, NULL, 0);

    return n <= op->dir.size - op->dir.len;
}

static bool add_dots(struct fop *op)
{
    struct fuse_entry_param e = {.attr = {.st_ino = 1, .st_mode = S_IFDIR}};

    return (op->dir.off > 0 || add_entry(op, ".", &e, 1)) &&
           (op->dir.off > 1 || add_entry(op, "..", &e, FIRST));
}

static void dir_reply(struct fop *op)
{
    if (fuse_reply_buf(op->req, op->dir.out, op->dir.len) == -ENOENT) {
        /* The reader is gone and the kernel never saw the nodes. */
        for (size_t k = 0; k < op->dir.n_nodes; k++) {
            itable_forget(op->fs->inodes, op->dir.nodes[k], 1);
        }
    }
    free(op->dir.nodes);
    free(op->dir.out);
    fop_finish(op);
}

static void dir_fail(struct fop *op, int err)
{
    free(op->dir.nodes);
    free(op->dir.out);
    fop_err(op, err);
}

static void remember_node(struct fop *op, struct inode *i)
{
    if (op->dir.n_nodes % 64 == 0) {
        op->dir.nodes = mem_realloc(op->dir.nodes, (op->dir.n_nodes + 64) * sizeof(*op->dir.nodes));
    }
    op->dir.nodes[op->dir.n_nodes++] = i;
}

/* An entry with its attributes, and with a node id while the budget lasts. */
static bool add_node(struct fop *op, const char *name, bool dir, const struct cache_remote *remote,
                     const char *prefix, const char *rest, size_t rest_len, const struct cattr *a,
                     bool unseen, off_t next)
{
    struct fs *fs = op->fs;
    struct fuse_entry_param e = {.attr_timeout = fs->ttl_s, .entry_timeout = fs->ttl_s};

    if (!has_room(op, name)) {
        return false;
    }
    e.attr.st_ino = inode_number(remote, dir, prefix, rest, rest_len);
    e.attr.st_mode = a->mode;
    if (op->dir.plus && !unseen) { /* else without a node: the kernel then looks it up when somebody
                                      wants to know */
        struct inode *i = itable_lookup_budget(
            fs->inodes, op->inode, name, dir ? INODE_DIR : INODE_FILE, a->mode, FS_INODE_BUDGET);
        CLEANUP(mem_freep)
        char *full = dir ? mem_printf("%s%.*s", prefix, (int)rest_len, rest) : NULL;

        fs_stat(fs, remote, a, e.attr.st_ino, full, &e.attr);
        if (i != NULL) {
            e.ino = itable_nodeid(fs->inodes, i);
            remember_node(op, i);
        }
    }
    return add_entry(op, name, &e, next);
}

/* False: the kernel's buffer is full. An entry that cannot be shown or is gone is left out. */
static bool add_index(struct fop *op, struct dhandle *dh, uint64_t index, struct buf *name)
{
    const char *prefix = buf_str(&dh->prefix);
    struct cdirent e;
    bool dir;

    buf_clear(name);
    if (!cache_dirent(dh->dir, index, &e) || names_show(prefix, dh->prefix.len, e.rest, e.rest_len,
                                                        e.is_dir, e.collides, name, &dir) < 0) {
        return true;
    }
    if (!dir || (e.is_dir && e.rest_len <= NAMES_MAX / 3)) {
        return add_node(op, buf_str(name), dir, dh->remote, prefix, e.rest, e.rest_len, &e.attr,
                        e.unseen, (off_t)index + FIRST + 1);
    }
    /* Perhaps a continuation directory: known by another prefix than the entry's, and shown once.
     */
    struct names_target t = {0};
    bool room = true;
    if (!shown_before(dh, index, buf_str(name)) &&
        names_resolve(prefix, dh->prefix.len, buf_str(name), &t) == 0 && t.dir_ok) {
        struct cattr a = e.attr;
        if (!S_ISDIR(a.mode)) {
            fs_dir_attr(op->fs, &a);
        }
        room = add_node(op, buf_str(name), true, dh->remote, buf_str(&t.prefix), "", 0, &a, false,
                        (off_t)index + FIRST + 1);
    }
    names_target_fini(&t);
    return room;
}

static void readdir_done(struct creq *r)
{
    struct fop *op = fop_of(r);
    struct dhandle *dh = dir_handle(&op->fi);
    struct buf name = BUF_INIT;
    bool room = true;

    fop_landed(op);
    if (r->status < 0) {
        dir_fail(op, r->status);
        return;
    }
    uint64_t index = op->dir.index, end = index + r->size;
    while (index < end && (room = add_index(op, dh, index, &name))) {
        index++;
    }
    buf_fini(&name);
    op->dir.index = index;
    if (op->dir.len == 0 && room && r->size > 0) {
        /* All of these were gone, and an empty answer would mean the end. */
        fop_begin(op);
        cache_readdir(op->fs->cache, r, dh->dir, index);
        return;
    }
    dir_reply(op);
}

static void read_from(struct fop *op)
{
    struct dhandle *dh = dir_handle(&op->fi);

    op->r.done = readdir_done;
    op->dir.index = op->dir.off > FIRST ? (uint64_t)op->dir.off - FIRST : 0;
    if (!add_dots(op)) {
        dir_reply(op);
        return;
    }
    fop_begin(op);
    cache_readdir(op->fs->cache, &op->r, dh->dir, op->dir.index);
}

static void rewound_done(struct creq *r)
{
    struct fop *op = fop_of(r);
    struct dhandle *dh = dir_handle(&op->fi);

    fop_landed(op);
    if (r->status < 0) {
        dir_fail(op, r->status);
        return;
    }
    /* The kernel reads one open directory by one thread at a time: nobody uses the old one. */
    cache_closedir(dh->dir);
    dh->dir = r->dir;
    shown_forget(dh);
    buf_fini(&dh->prefix);
    dh->prefix = op->key;
    op->key = (struct buf)BUF_INIT;
    read_from(op);
}

/* The root of all remotes, and .objmig. */
static void read_synthetic(struct fop *op)
{
    struct fs *fs = op->fs;
    bool super = inode_kind(op->inode) == INODE_SUPER;
    struct fuse_entry_param e = {0};
    bool room = add_dots(op);

    for (size_t k = op->dir.off > FIRST ? (size_t)op->dir.off - FIRST : 0; room; k++) {
        char name[NAMES_MAX + 1];
        struct cache_remote *remote;

        if (super) {
            if (!daemon_remote_at(fs->d, k, &remote, name, sizeof(name))) {
                break;
            }
            e.attr.st_mode = S_IFDIR;
            e.attr.st_ino = inode_number(remote, true, cache_remote_prefix(remote), "", 0);
            room = add_entry(op, name, &e, (off_t)k + FIRST + 1);
        } else {
            if (k >= CTL_FILES) {
                break;
            }
            e.attr.st_mode = S_IFREG;
            e.attr.st_ino = k + 2;
            room = add_entry(op, ctl_names[k], &e, (off_t)k + FIRST + 1);
        }
    }
    dir_reply(op);
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                     struct fuse_file_info *fi, bool plus)
{
    struct dhandle *dh = dir_handle(fi);
    struct fop *op = fop_new(req, ino, readdir_done);

    op->fi = *fi;
    op->dir.plus = plus;
    op->dir.size = size;
    op->dir.off = off;
    op->dir.out = malloc(size > 0 ? size : 1);
    if (op->dir.out == NULL) {
        dir_fail(op, ENOMEM);
        return;
    }
    if (dh->dir == NULL) {
        read_synthetic(op);
        return;
    }
    /* Also a directory that was renamed after it was opened has another snapshot: it lies under
     * another prefix. */
    if (off == 0 && itable_key(op->fs->inodes, op->inode, &op->key) == 0 &&
        (dh->started || strcmp(buf_str(&op->key), buf_str(&dh->prefix)) != 0)) {
        dh->started = true;
        op->r.ref.key = buf_str(&op->key);
        op->r.ref.dir = true;
        op->r.done = rewound_done;
        fop_begin(op);
        cache_opendir(op->fs->cache, &op->r);
        return;
    }
    dh->started = true;
    read_from(op);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    read_dir(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    read_dir(req, ino, size, off, fi, true);
}

static void synced_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    fop_err(op, r->status);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct fop *op = fop_new(req, ino, synced_done);

    if (inode_kind(op->inode) != INODE_DIR) {
        fop_err(op, 0);
        return;
    }
    if (fop_ref(op, NULL)) {
        fop_begin(op);
        cache_fsyncdir(op->fs->cache, &op->r);
    }
}
