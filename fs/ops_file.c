/* FUSE operations on open files. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fop.h"

void fs_release_handle(struct fs *fs, struct fhandle *fh)
{
    if (fh->handle != NULL) {
        cache_release(fs->cache, fh->handle);
    }
    fhandle_free(fs->inodes, fh);
}

static void unref_handle(struct fs *fs, struct fhandle *fh)
{
    if (fhandle_put(fs->inodes, fh)) {
        fs_release_handle(fs, fh);
    }
}

/* ---- open, create ---- */

static void open_flags(struct fop *op, struct fhandle *fh)
{
    struct fuse_file_info *fi = &op->fi;
    int mode = fi->flags & O_ACCMODE;

    fh->writes = mode != O_RDONLY;
    fi->fh = (uintptr_t)fh;
    fi->direct_io = mode == O_WRONLY; /* exactly these: rules F7 */
    fi->keep_cache = cache_keep_pages(fh->handle);
    fi->noflush = mode == O_RDONLY; /* a close after reading says nothing about what was written */
}

static void open_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status == -ENOENT ? -ESTALE : r->status);
        return;
    }
    struct fhandle *fh = fhandle_new(op->fs->inodes, op->inode, r->handle);
    open_flags(op, fh);
    if (fuse_reply_open(op->req, &op->fi) == -ENOENT) {
        unref_handle(op->fs, fh);
    }
    fop_finish(op);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fop *op = fop_new(req, ino, open_done);

    op->fi = *fi;
    if (inode_kind(op->inode) == INODE_CTLFILE) {
        ctl_open(op);
        return;
    }
    if (inode_kind(op->inode) != INODE_FILE) {
        fop_err(op, EISDIR);
        return;
    }
    if (!fop_ref(op, NULL)) {
        return;
    }
    op->r.ref.object_form = itable_object_form(op->fs->inodes, op->inode);
    fop_begin(op);
    cache_open_file(op->fs->cache, &op->r, fi->flags);
}

static void create_done(struct creq *r)
{
    struct fop *op = fop_of(r);
    struct fs *fs = op->fs;
    struct fuse_entry_param e;

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status);
        return;
    }
    struct inode *i = fop_entry(op, op->name, INODE_FILE, &r->attr, &e);
    struct fhandle *fh = fhandle_new(fs->inodes, i, r->handle);
    e.entry_timeout = e.attr_timeout = fs->ttl_s;
    if (op->only_node) {
        unref_handle(fs, fh);
        if (fuse_reply_entry(op->req, &e) == -ENOENT) {
            itable_forget(fs->inodes, i, 1);
        }
    } else {
        open_flags(op, fh);
        if (fuse_reply_create(op->req, &e, &op->fi) == -ENOENT) {
            unref_handle(fs, fh);
            itable_forget(fs->inodes, i, 1);
        }
    }
    fop_finish(op);
}

static bool new_file(struct fop *op, const char *name, mode_t mode)
{
    if (!fop_target_new(op, name, FOP_FILE)) {
        return false;
    }
    op->r.ref.key = buf_str(&op->target.key);
    op->r.ref.object_form = !op->target.dir_ok;
    op->r.attr.mode = mode;
    op->r.attr.uid = op->r.uid;
    op->r.attr.gid = op->r.gid;
    return true;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *fi)
{
    struct fop *op = fop_new(req, parent, create_done);

    op->fi = *fi;
    if (new_file(op, name, S_IFREG | (mode & 07777))) {
        fop_begin(op);
        cache_create(op->fs->cache, &op->r, fi->flags);
    }
}

static void mknod_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status);
        return;
    }
    fop_reply_entry(op, op->name, INODE_FILE, &r->attr, (unsigned)(op->fs->ttl_s * 1000));
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    bool regular = S_ISREG(mode);
    struct fop *op = fop_new(req, parent, regular ? create_done : mknod_done);

    if (!new_file(op, name, mode)) {
        return;
    }
    fop_begin(op);
    if (regular) {
        op->only_node = true;
        cache_create(op->fs->cache, &op->r, O_WRONLY | O_CREAT | O_EXCL);
    } else {
        op->r.attr.rdev = rdev;
        cache_mknod(op->fs->cache, &op->r);
    }
}

/* ---- bytes ---- */

static struct fop *file_op(fuse_req_t req, fuse_ino_t ino, const struct fhandle *fh,
                           void (*done)(struct creq *r))
{
    struct fop *op = fop_new(req, ino, done);

    op->r.ref.handle = fh->handle;
    return op;
}

static void read_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status);
        return;
    }
    (void)fuse_reply_buf(op->req, r->data, r->done_bytes);
    fop_finish(op);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct fhandle *fh = fop_handle(fi);

    if (fh->handle == NULL) {
        ctl_read(req, fh, size, off);
        return;
    }
    struct fop *op = file_op(req, ino, fh, read_done);
    op->r.offset = (uint64_t)off;
    op->r.size = size;
    /* What the kernel needs of the page cache at once it asks for page by page, or again after its
     * read-ahead has failed. */
    op->r.read_ahead = (fi->flags & O_DIRECT) == 0 && size > (size_t)getpagesize();
    fop_begin(op);
    cache_read(op->fs->cache, &op->r, fh->handle);
}

static void count_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status);
        return;
    }
    (void)fuse_reply_write(op->req, r->done_bytes);
    fop_finish(op);
}

void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *bufv, off_t off,
                  struct fuse_file_info *fi)
{
    struct fhandle *fh = fop_handle(fi);
    size_t size = fuse_buf_size(bufv);
    void *copy = NULL;
    const void *data;

    /* One piece of libfuse's own memory, as splice is off: it is reused when this handler returns,
     * and the cache has read it by then. */
    if (bufv->count == 1 && bufv->idx == 0 && bufv->off == 0 &&
        (bufv->buf[0].flags & FUSE_BUF_IS_FD) == 0) {
        data = bufv->buf[0].mem;
    } else {
        struct fuse_bufvec to = FUSE_BUFVEC_INIT(size);
        copy = malloc(size > 0 ? size : 1);
        to.buf[0].mem = copy;
        if (copy == NULL) {
            (void)fuse_reply_err(req, ENOMEM);
            return;
        }
        ssize_t n = fuse_buf_copy(&to, bufv, 0);
        if (n < 0) {
            free(copy);
            (void)fuse_reply_err(req, EIO);
            return;
        }
        size = (size_t)n;
        data = copy;
    }
    if (fh->handle == NULL) {
        ctl_write(req, fop_fs(req), fh, data, size);
        free(copy);
        return;
    }
    struct fop *op = file_op(req, ino, fh, count_done);
    op->copy = copy;
    op->r.data = data;
    op->r.offset = (uint64_t)off;
    op->r.size = size;
    fop_begin(op);
    cache_write(op->fs->cache, &op->r, fh->handle);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
                        struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
                        struct fuse_file_info *fi_out, size_t len, int flags)
{
    struct fhandle *from = fop_handle(fi_in), *to = fop_handle(fi_out);

    if (from->handle == NULL || to->handle == NULL || flags != 0) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    struct fop *op = file_op(req, ino_in, from, count_done);
    op->r.offset = (uint64_t)off_in;
    op->r.size = len;
    fop_begin(op);
    cache_copy_range(op->fs->cache, &op->r, from->handle, to->handle, (uint64_t)off_out);
}

/* ---- without a result ---- */

static void plain_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    fop_err(op, r->status);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fhandle *fh = fop_handle(fi);

    if (fh->handle == NULL) {
        (void)fuse_reply_err(req, 0);
        return;
    }
    struct fop *op = file_op(req, ino, fh, plain_done);
    fop_begin(op);
    cache_flush(op->fs->cache, &op->r, fh->handle);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fop_fs(req);

    unref_handle(fs, fop_handle(fi));
    (void)fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct fhandle *fh = fop_handle(fi);

    if (fh->handle == NULL) {
        (void)fuse_reply_err(req, 0);
        return;
    }
    struct fop *op = file_op(req, ino, fh, plain_done);
    fop_begin(op);
    cache_fsync(op->fs->cache, &op->r, fh->handle);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                  struct fuse_file_info *fi)
{
    struct fhandle *fh = fop_handle(fi);

    if (fh->handle == NULL) {
        (void)fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    struct fop *op = file_op(req, ino, fh, plain_done);
    op->r.offset = (uint64_t)off;
    op->r.size = (uint64_t)len;
    fop_begin(op);
    cache_fallocate(op->fs->cache, &op->r, fh->handle, mode);
}

static void lseek_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status);
        return;
    }
    (void)fuse_reply_lseek(op->req, (off_t)r->offset);
    fop_finish(op);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    struct fhandle *fh = fop_handle(fi);

    if (fh->handle == NULL) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    struct fop *op = file_op(req, ino, fh, lseek_done);
    op->r.offset = (uint64_t)off;
    fop_begin(op);
    cache_lseek(op->fs->cache, &op->r, fh->handle, whence);
}
