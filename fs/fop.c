/* One FUSE request on its way through the cache: see fop.h. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fop.h"
#include "log.h"

struct fs *fop_fs(fuse_req_t req)
{
    struct fs *fs = fuse_req_userdata(req);

    CHECK_MAGIC(fs, FS_MAGIC);
    return fs;
}

struct fop *fop_new(fuse_req_t req, fuse_ino_t ino, void (*done)(struct creq *r))
{
    struct fop *op = mem_zalloc(sizeof(*op));
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    op->fs = fop_fs(req);
    op->req = req;
    op->inode = itable_node(op->fs->inodes, ino);
    op->r.done = done;
    op->r.owner = op;
    op->r.uid = ctx->uid;
    op->r.gid = ctx->gid;
    op->r.pid = ctx->pid;
    op->r.ref.remote = inode_remote(op->inode);
    mutex_lock(&op->fs->op_lock);
    op->fs->n_ops++;
    mutex_unlock(&op->fs->op_lock);
    return op;
}

struct fop *fop_of(struct creq *r)
{
    return r->owner;
}

void fop_begin(struct fop *op)
{
    fuse_req_interrupt_func(op->req, interrupt_func, op);
}

/* libfuse reads the handler under the request's lock, so this waits for one that runs; replying
 * alone would not. */
void fop_landed(struct fop *op)
{
    fuse_req_interrupt_func(op->req, NULL, NULL);
}

void fop_finish(struct fop *op)
{
    struct fs *fs = op->fs;

    if (op->fh != NULL && fhandle_put(fs->inodes, op->fh)) {
        fs_release_handle(fs, op->fh);
    }
    buf_fini(&op->key);
    buf_fini(&op->prefix);
    names_target_fini(&op->target);
    free(op->name);
    free(op->copy);
    mutex_lock(&fs->op_lock);
    bool mine = interrupt_done_locked(fs, op);
    if (--fs->n_ops == 0) {
        cond_broadcast(&fs->op_cond);
    }
    mutex_unlock(&fs->op_lock);
    if (mine) {
        free(op);
    }
}

void fop_err(struct fop *op, int err)
{
    (void)fuse_reply_err(op->req, err < 0 ? -err : err);
    fop_finish(op);
}

struct fhandle *fop_handle(const struct fuse_file_info *fi)
{
    struct fhandle *fh = (struct fhandle *)(uintptr_t)fi->fh;

    CHECK_MAGIC(fh, FHANDLE_MAGIC);
    return fh;
}

bool fop_ref(struct fop *op, const struct fuse_file_info *fi)
{
    enum inode_kind kind = inode_kind(op->inode);
    int r = itable_key(op->fs->inodes, op->inode, &op->key);

    op->r.ref.key = buf_str(&op->key);
    op->r.ref.dir = kind == INODE_DIR;
    if (kind == INODE_FILE && fi != NULL) {
        op->r.ref.handle = fop_handle(fi)->handle;
        op->unlinked = r == -ESTALE;
        return true;
    }
    if (r == -ESTALE && kind == INODE_FILE) {
        op->fh = fhandle_any(op->fs->inodes, op->inode);
        if (op->fh != NULL) {
            op->r.ref.handle = op->fh->handle;
            op->unlinked = true;
            return true;
        }
    }
    if (r < 0) {
        fop_err(op, r);
        return false;
    }
    return true;
}

static int target(struct fop *op, const char *name)
{
    if (inode_kind(op->inode) != INODE_DIR) {
        return -EPERM; /* nothing is made or removed beside the remotes and in .objmig */
    }
    int r = itable_target(op->fs->inodes, op->inode, name, &op->prefix, &op->target);
    if (r == 0) {
        op->name = mem_strdup(name);
    }
    return r;
}

bool fop_target(struct fop *op, const char *name)
{
    int r = target(op, name);

    if (r < 0) {
        fop_err(op, r);
    }
    return r == 0;
}

bool fop_target_new(struct fop *op, const char *name, enum fop_made what)
{
    int r = target(op, name);

    if (r == -ENOENT || (r == 0 && !(what == FOP_DIR ? op->target.dir_ok : op->target.file_ok))) {
        log_limited(LOG_LEVEL_WARN, "names", name, 10000,
                    "name=%s refused: no key is shown so; control bytes and what is not UTF-8 are ^XX",
                    name);
        r = -EILSEQ;
    }
    if (r < 0) {
        fop_err(op, r);
    }
    return r == 0;
}

void fs_dir_attr(struct fs *fs, struct cattr *ret)
{
    *ret =
        (struct cattr){.mode = S_IFDIR | 0755, .uid = daemon_uid(fs->d), .gid = daemon_gid(fs->d)};
}

void fs_stat(struct fs *fs, const struct cache_remote *remote, const struct cattr *a,
             uint64_t number, const char *prefix, struct stat *ret)
{
    *ret = (struct stat){
        .st_ino = number,
        .st_mode = a->mode,
        .st_nlink = 1, /* also of directories: "not counted", as find and fts know it */
        .st_uid = a->uid,
        .st_gid = a->gid,
        .st_rdev = a->rdev,
        .st_size = (off_t)a->size,
        .st_blksize = FS_BLKSIZE,
        .st_blocks = (blkcnt_t)((a->size + 511) / 512),
        .st_mtim = {.tv_sec = a->mtime_ns / 1000000000, .tv_nsec = a->mtime_ns % 1000000000},
        .st_ctim = {.tv_sec = a->ctime_ns / 1000000000, .tv_nsec = a->ctime_ns % 1000000000},
    };
    if (ret->st_mtim.tv_nsec < 0) {
        ret->st_mtim.tv_sec--;
        ret->st_mtim.tv_nsec += 1000000000;
    }
    if (ret->st_ctim.tv_nsec < 0) {
        ret->st_ctim.tv_sec--;
        ret->st_ctim.tv_nsec += 1000000000;
    }
    ret->st_atim = ret->st_mtim;
    if (prefix != NULL && !fs->direct && daemon_is_private(fs->d, remote, prefix)) {
        ret->st_mode = S_IFDIR | 0700;
        ret->st_uid = daemon_uid(fs->d);
        ret->st_gid = daemon_gid(fs->d);
    }
}

void fs_stat_node(struct fop *op, const struct cattr *a, struct stat *ret)
{
    bool dir = inode_kind(op->inode) == INODE_DIR;
    struct cache_remote *remote = inode_remote(op->inode);
    const char *key = buf_str(&op->key);
    uint64_t number =
        op->unlinked ? inode_number_unlinked(op->inode) : inode_number(remote, dir, key, "", 0);

    fs_stat(op->fs, remote, a, number, dir ? key : NULL, ret);
    ret->st_nlink = !op->unlinked;
}

bool fs_synthetic(struct fs *fs, struct inode *i, struct stat *ret)
{
    struct cattr a;
    enum inode_kind kind = inode_kind(i);

    if (kind == INODE_DIR || kind == INODE_FILE) {
        return false;
    }
    fs_dir_attr(fs, &a);
    uint64_t number = 1;
    if (kind != INODE_SUPER) {
        struct buf key = BUF_INIT;

        a.mtime_ns = a.ctime_ns = time_wall_ns();
        (void)itable_key(fs->inodes, i, &key);
        if (kind == INODE_CTLFILE) {
            int ctl = ctl_of(i);
            a.mode = S_IFREG | (ctl == CTL_CONTROL ? 0600 : 0444);
            number = inode_number(inode_remote(i), false, buf_str(&key), ctl_names[ctl],
                                  strlen(ctl_names[ctl]));
            number = ~number;
        } else {
            a.mode = S_IFDIR | 0555;
            number = ~inode_number(inode_remote(i), true, buf_str(&key), CTL_DIR, strlen(CTL_DIR));
        }
        buf_fini(&key);
    }
    fs_stat(fs, NULL, &a, number, kind == INODE_SUPER ? "" : NULL, ret);
    return true;
}

struct inode *fop_entry(struct fop *op, const char *name, enum inode_kind kind,
                        const struct cattr *a, struct fuse_entry_param *ret)
{
    struct fs *fs = op->fs;
    struct cache_remote *remote = inode_remote(op->inode);
    bool dir = kind == INODE_DIR;
    const char *key = buf_str(dir ? &op->target.prefix : &op->target.key);
    struct inode *i = itable_lookup(fs->inodes, op->inode, name, kind, a->mode, NULL);

    *ret = (struct fuse_entry_param){.ino = itable_nodeid(fs->inodes, i)};
    fs_stat(fs, remote, a, inode_number(remote, dir, key, "", 0), dir ? key : NULL, &ret->attr);
    return i;
}

void fop_reply_entry(struct fop *op, const char *name, enum inode_kind kind, const struct cattr *a,
                     unsigned ttl_ms)
{
    struct fuse_entry_param e;
    struct inode *i = fop_entry(op, name, kind, a, &e);

    e.entry_timeout = e.attr_timeout = ttl_ms / 1000.0;
    if (fuse_reply_entry(op->req, &e) == -ENOENT) {
        itable_forget(op->fs->inodes, i,
                      1); /* the asking process is gone, and the kernel will not say so */
    }
    fop_finish(op);
}
