/* FUSE operations on extended attributes.
 *
 * Rules F6: ACLs are refused, security.* is answered from memory (the kernel asks for it at every
 * write and ls at every entry), nothing ever gets ENOSYS. Three attributes tell tools where they
 * are; the rest is the cache's. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fop.h"

static bool starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static void value_reply(struct fop *op, const void *data, size_t len)
{
    if (op->xattr_size == 0) {
        (void)fuse_reply_xattr(op->req, len);
        fop_finish(op);
    } else if (len > op->xattr_size) {
        fop_err(op, ERANGE);
    } else {
        (void)fuse_reply_buf(op->req, data, len);
        fop_finish(op);
    }
}

static void value_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status == -ENOENT ? -ESTALE : r->status);
        return;
    }
    value_reply(op, r->data, r->size);
}

/* True: answered. */
static bool own_value(struct fop *op, const char *name)
{
    enum inode_kind kind = inode_kind(op->inode);
    const struct cache_remote *remote = inode_remote(op->inode);

    if (strcmp(name, "user.objmig.socket") == 0) {
        const char *path = daemon_socket_path(op->fs->d);
        value_reply(op, path, strlen(path));
        return true;
    }
    if (strcmp(name, "user.objmig.remote") == 0 && remote != NULL) {
        value_reply(op, cache_remote_name(remote), strlen(cache_remote_name(remote)));
        return true;
    }
    if (strcmp(name, "user.objmig.key") == 0 && (kind == INODE_DIR || kind == INODE_FILE)) {
        int r = itable_key(op->fs->inodes, op->inode, &op->key);
        if (r < 0) {
            fop_err(op, r == -ESTALE ? ENODATA : -r); /* an unlinked file has none */
        } else {
            value_reply(op, buf_str(&op->key), op->key.len);
        }
        return true;
    }
    if (kind != INODE_DIR && kind != INODE_FILE) {
        fop_err(op, ENODATA);
        return true;
    }
    return false;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    if (starts(name, "security.") || starts(name, "trusted.")) {
        (void)fuse_reply_err(req, ENODATA);
        return;
    }
    if (starts(name, "system.")) {
        (void)fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    struct fop *op = fop_new(req, ino, value_done);
    op->xattr_size = size;
    if (own_value(op, name) || !fop_ref(op, NULL)) {
        return;
    }
    op->name = mem_strdup(name);
    fop_begin(op);
    cache_getxattr(op->fs->cache, &op->r, op->name);
}

static void plain_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    fop_err(op, r->status == -ENOENT ? -ESTALE : r->status);
}

static bool settable(const char *name, const struct inode *i)
{
    enum inode_kind kind = inode_kind(i);

    return starts(name, "user.") && (kind == INODE_DIR || kind == INODE_FILE);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                 int flags)
{
    struct fop *op = fop_new(req, ino, plain_done);

    if (!settable(name, op->inode)) {
        fop_err(op, EOPNOTSUPP);
        return;
    }
    if (!fop_ref(op, NULL)) {
        return;
    }
    op->name = mem_strdup(name);
    op->copy = mem_zalloc(size + 1);
    memcpy(op->copy, value, size);
    op->r.data = op->copy;
    op->r.size = size;
    fop_begin(op);
    cache_setxattr(op->fs->cache, &op->r, op->name, flags);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct fop *op = fop_new(req, ino, plain_done);

    if (!settable(name, op->inode)) {
        fop_err(op, starts(name, "system.") ? EOPNOTSUPP : ENODATA);
        return;
    }
    if (!fop_ref(op, NULL)) {
        return;
    }
    op->name = mem_strdup(name);
    fop_begin(op);
    cache_removexattr(op->fs->cache, &op->r, op->name);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    struct fop *op = fop_new(req, ino, value_done);
    enum inode_kind kind = inode_kind(op->inode);

    op->xattr_size = size;
    if (kind != INODE_DIR && kind != INODE_FILE) {
        value_reply(op, "", 0);
        return;
    }
    if (fop_ref(op, NULL)) {
        fop_begin(op);
        cache_listxattr(op->fs->cache, &op->r);
    }
}
