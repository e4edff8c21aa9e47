/* The FUSE operations on names and attributes; ops_file.c, ops_dir.c, ops_xattr.c and ops_ctl.c
 * have the rest.
 *
 * No handler waits: each lends a request to the cache and replies from done(), on whatever thread
 * that runs (rules F1). Only what memory answers is replied at once. Errors of requests by node id:
 * "no such key" becomes ESTALE, at which the VFS looks the path up again and comes to the true
 * answer, also when a rename or an unlink was faster. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdio.h> /* RENAME_* */
#include <stdlib.h>
#include <string.h>

#include "fop.h"
#include "log.h"
#include "ops.h"

static int by_node(int status)
{
    return status == -ENOENT ? -ESTALE : status;
}

static unsigned ttl_ms(const struct fs *fs)
{
    return (unsigned)(fs->ttl_s * 1000);
}

/* ---- lookup, forget ---- */

static void lookup_done(struct creq *r)
{
    struct fop *op = fop_of(r);
    struct fs *fs = op->fs;

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status);
        return;
    }
    if (op->l.kind == CLOOKUP_FILE) {
        fop_reply_entry(op, op->name, INODE_FILE, &r->attr, op->l.ttl_ms);
    } else if (op->l.kind == CLOOKUP_DIR) {
        fop_reply_entry(op, op->name, INODE_DIR, &r->attr, op->l.ttl_ms);
    } else if (op->target.dir_ok &&
               daemon_is_bound(fs->d, inode_remote(op->inode), buf_str(&op->target.prefix))) {
        struct cattr a;
        fs_dir_attr(fs, &a);
        fop_reply_entry(op, op->name, INODE_DIR, &a, 0);
    } else if (op->l.ttl_ms > 0) {
        struct fuse_entry_param e = {.entry_timeout = op->l.ttl_ms / 1000.0};
        (void)fuse_reply_entry(op->req,
                               &e); /* node id 0: the kernel remembers that there is nothing */
        fop_finish(op);
    } else {
        fop_err(op, ENOENT);
    }
}

static void lookup_super(struct fop *op, const char *name)
{
    struct fs *fs = op->fs;
    struct cache_remote *remote = daemon_remote_named(fs->d, name);
    struct cattr a;

    if (remote == NULL) {
        fop_err(op, ENOENT);
        return;
    }
    fs_dir_attr(fs, &a);
    struct inode *i = itable_lookup(fs->inodes, op->inode, name, INODE_DIR, S_IFDIR, remote);
    const char *prefix = cache_remote_prefix(remote);
    /* Attributes that expire at once: the first stat asks for the directory's own. */
    struct fuse_entry_param e = {.ino = itable_nodeid(fs->inodes, i), .entry_timeout = fs->ttl_s};
    fs_stat(fs, remote, &a, inode_number(remote, true, prefix, "", 0), prefix, &e.attr);
    if (fuse_reply_entry(op->req, &e) == -ENOENT) {
        itable_forget(fs->inodes, i, 1);
    }
    fop_finish(op);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fop *op = fop_new(req, parent, lookup_done);

    if (ctl_lookup(op, name)) {
        return;
    }
    if (inode_kind(op->inode) == INODE_SUPER) {
        lookup_super(op, name);
        return;
    }
    if (!fop_target(op, name)) {
        return;
    }
    op->l.parent = buf_str(&op->prefix);
    op->l.key = op->target.file_ok ? buf_str(&op->target.key) : NULL;
    op->l.prefix = op->target.dir_ok ? buf_str(&op->target.prefix) : NULL;
    fop_begin(op);
    cache_lookup(op->fs->cache, &op->l);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    struct fs *fs = fop_fs(req);

    itable_forget(fs->inodes, itable_node(fs->inodes, ino), nlookup);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct fs *fs = fop_fs(req);

    for (size_t k = 0; k < count; k++) {
        itable_forget(fs->inodes, itable_node(fs->inodes, forgets[k].ino), forgets[k].nlookup);
    }
    fuse_reply_none(req);
}

/* ---- attributes ---- */

static void attr_done(struct creq *r)
{
    struct fop *op = fop_of(r);
    struct fs *fs = op->fs;
    struct inode *i = op->inode;
    double ttl = fs->ttl_s;
    struct stat st;

    fop_landed(op);
    if (r->status == -ENOENT && inode_kind(i) == INODE_DIR &&
        (inode_is_top(fs->inodes, i) ||
         daemon_is_bound(fs->d, inode_remote(i), buf_str(&op->key)))) {
        fs_dir_attr(fs, &r->attr);
        r->status = 0;
        ttl = 0;
    }
    if (r->status == 0 && !inode_is_type(i, r->attr.mode)) {
        r->status =
            -ESTALE; /* became something else at the provider: the kernel needs a new node */
    }
    if (r->status < 0) {
        fop_err(op, by_node(r->status));
        return;
    }
    fs_stat_node(op, &r->attr, &st);
    (void)fuse_reply_attr(op->req, &st, ttl);
    fop_finish(op);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fop *op = fop_new(req, ino, attr_done);
    struct stat st;

    if (fs_synthetic(op->fs, op->inode, &st)) {
        (void)fuse_reply_attr(req, &st, 1.0);
        fop_finish(op);
        return;
    }
    if (!fop_ref(op, fi)) {
        return;
    }
    fop_begin(op);
    cache_getattr(op->fs->cache, &op->r);
}

/* As far as 64 bits of nanoseconds go: the year 2262, as file systems with less do it. */
static int64_t ns_of(const struct timespec *t)
{
    const int64_t most = INT64_MAX / 1000000000 - 1;
    return MAX(MIN((int64_t)t->tv_sec, most), -most) * 1000000000 + t->tv_nsec;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    struct fop *op = fop_new(req, ino, attr_done);
    struct stat st;
    unsigned mask = 0;

    if (fs_synthetic(op->fs, op->inode, &st)) {
        /* The shell's ">" truncates .objmig/control before it writes. */
        if (inode_kind(op->inode) == INODE_CTLFILE && (to_set & ~FUSE_SET_ATTR_SIZE) == 0) {
            (void)fuse_reply_attr(req, &st, 1.0);
            fop_finish(op);
        } else {
            fop_err(op, EPERM);
        }
        return;
    }
    if (!fop_ref(op, fi)) {
        return;
    }
    if (to_set & FUSE_SET_ATTR_MODE) {
        mask |= CSET_MODE;
        op->r.attr.mode = attr->st_mode;
    }
    if (to_set & FUSE_SET_ATTR_UID) {
        mask |= CSET_UID;
        op->r.attr.uid = attr->st_uid;
    }
    if (to_set & FUSE_SET_ATTR_GID) {
        mask |= CSET_GID;
        op->r.attr.gid = attr->st_gid;
    }
    if (to_set & FUSE_SET_ATTR_SIZE) {
        mask |= CSET_SIZE;
        op->r.attr.size = (uint64_t)attr->st_size;
    }
    if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
        mask |= CSET_MTIME;
        op->r.attr.mtime_ns = time_wall_ns();
    } else if (to_set & FUSE_SET_ATTR_MTIME) {
        mask |= CSET_MTIME;
        op->r.attr.mtime_ns = ns_of(&attr->st_mtim);
    }
    fop_begin(op);
    if (mask == 0) { /* the access time alone: not kept */
        cache_getattr(op->fs->cache, &op->r);
    } else {
        cache_setattr(op->fs->cache, &op->r, mask);
    }
}

static void readlink_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, by_node(r->status));
        return;
    }
    (void)fuse_reply_readlink(op->req, r->data);
    fop_finish(op);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct fop *op = fop_new(req, ino, readlink_done);

    if (fop_ref(op, NULL)) {
        fop_begin(op);
        cache_readlink(op->fs->cache, &op->r);
    }
}

/* ---- making and removing names ---- */

static void ref_dir(struct fop *op)
{
    op->r.ref.key = buf_str(&op->target.prefix);
    op->r.ref.dir = true;
}

static void ref_file(struct fop *op)
{
    op->r.ref.key = buf_str(&op->target.key);
    op->r.ref.object_form = !op->target.dir_ok;
    op->r.ref.dir = false;
}

static void made_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status < 0) {
        fop_err(op, r->status);
        return;
    }
    fop_reply_entry(op, op->name, r->ref.dir ? INODE_DIR : INODE_FILE, &r->attr, ttl_ms(op->fs));
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fop *op = fop_new(req, parent, made_done);

    if (!fop_target_new(op, name, FOP_DIR)) {
        return;
    }
    ref_dir(op);
    op->r.attr.mode = S_IFDIR | (mode & 07777);
    op->r.attr.uid = op->r.uid;
    op->r.attr.gid = op->r.gid;
    fop_begin(op);
    cache_mkdir(op->fs->cache, &op->r);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
    struct fop *op = fop_new(req, parent, made_done);

    if (!fop_target_new(op, name, FOP_FILE)) {
        return;
    }
    ref_file(op);
    op->copy = mem_strdup(link);
    op->r.data = op->copy;
    op->r.size = strlen(link);
    op->r.attr.mode = S_IFLNK | 0777;
    op->r.attr.uid = op->r.uid;
    op->r.attr.gid = op->r.gid;
    fop_begin(op);
    cache_symlink(op->fs->cache, &op->r);
}

/* Objects have one name each; there is nothing a hard link could be. */
static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
    (void)fuse_reply_err(req, EPERM);
}

static void removed_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status == 0) {
        itable_unlink(op->fs->inodes, op->inode, op->name);
    }
    fop_err(op, r->status);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fop *op = fop_new(req, parent, removed_done);

    if (!fop_target(op, name)) {
        return;
    }
    if (!op->target.file_ok) {
        fop_err(op, ENOENT);
        return;
    }
    ref_file(op);
    fop_begin(op);
    cache_unlink(op->fs->cache, &op->r);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fop *op = fop_new(req, parent, removed_done);

    if (!fop_target(op, name)) {
        return;
    }
    if (!op->target.dir_ok) {
        fop_err(op, ENOENT);
        return;
    }
    ref_dir(op);
    fop_begin(op);
    cache_rmdir(op->fs->cache, &op->r);
}

/* ---- rename ---- */

static void rename_finish(struct fop *op, int err)
{
    free(op->rename.newname);
    buf_fini(&op->rename.to_prefix);
    names_target_fini(&op->rename.to_target);
    fop_err(op, err);
}

static void rename_done(struct creq *r)
{
    struct fop *op = fop_of(r);

    fop_landed(op);
    if (r->status == 0) {
        itable_rename(op->fs->inodes, op->inode, op->name, op->rename.newdir, op->rename.newname,
                      (op->rename.flags & RENAME_EXCHANGE) != 0);
    }
    rename_finish(op, r->status);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                      const char *newname, unsigned flags)
{
    struct fop *op = fop_new(req, parent, rename_done);
    struct fs *fs = op->fs;
    struct inode *newdir = itable_node(fs->inodes, newparent);
    enum inode_kind kind, to_kind;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        fop_err(op, EINVAL);
        return;
    }
    if (inode_kind(newdir) != INODE_DIR || inode_kind(op->inode) != INODE_DIR) {
        fop_err(op, EPERM);
        return;
    }
    if (inode_remote(newdir) != inode_remote(op->inode)) {
        fop_err(op, EXDEV); /* mv then copies by copy_file_range and unlinks (rules F9) */
        return;
    }
    if (!itable_child(fs->inodes, op->inode, name, &kind)) {
        fop_err(op, ENOENT); /* the kernel has looked it up before */
        return;
    }
    if (!itable_child(fs->inodes, newdir, newname, &to_kind) || (flags & RENAME_EXCHANGE) == 0) {
        to_kind = kind;
    }
    if (!fop_target(op, name)) {
        return;
    }
    op->rename.newdir = newdir;
    op->rename.newname = mem_strdup(newname);
    op->rename.flags = flags;
    int r =
        itable_target(fs->inodes, newdir, newname, &op->rename.to_prefix, &op->rename.to_target);
    bool dir = kind == INODE_DIR, to_dir = to_kind == INODE_DIR;
    if (r == -ENOENT ||
        (r == 0 && !(to_dir ? op->rename.to_target.dir_ok : op->rename.to_target.file_ok))) {
        r = -EILSEQ; /* no key has that name */
    }
    if (r == 0 && !(dir ? op->target.dir_ok : op->target.file_ok)) {
        r = -ENOENT;
    }
    if (r < 0) {
        rename_finish(op, r);
        return;
    }
    if (dir) {
        ref_dir(op);
    } else {
        ref_file(op);
    }
    op->rename.to = (struct cref){
        .remote = inode_remote(newdir),
        .key = buf_str(to_dir ? &op->rename.to_target.prefix : &op->rename.to_target.key),
        .dir = to_dir,
        .object_form = !op->rename.to_target.dir_ok,
    };
    fop_begin(op);
    cache_rename(fs->cache, &op->r, &op->rename.to, flags);
}

/* ---- the rest ---- */

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct fs *fs = fop_fs(req);
    struct cache_remote *remote = inode_remote(itable_node(fs->inodes, ino));
    struct cstatfs s = {.total_bytes = 1ull << 60, .free_bytes = 1ull << 60};

    if (remote != NULL) {
        cache_statfs(fs->cache, remote, &s);
    }
    struct statvfs st = {
        .f_bsize = FS_BLKSIZE,
        .f_frsize = 4096,
        .f_blocks = s.total_bytes / 4096,
        .f_bfree = s.free_bytes / 4096,
        .f_bavail = s.free_bytes / 4096,
        .f_files = 1ull << 40,
        .f_ffree = 1ull << 40,
        .f_favail = 1ull << 40,
        .f_namemax = NAMES_MAX,
    };
    (void)fuse_reply_statfs(req, &st);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    unsigned want = conn->want;

    /* Not wanted though libfuse likes them. Splice: bytes go to the spool and to sockets through
     * memory in any case. Writeback cache: a close would promise bytes we have not seen (rules F7).
     * READDIRPLUS_AUTO: rules F8. POSIX_ACL stays off: ACLs are refused (rules F6). HANDLE_KILLPRIV: the
     * kernel sends the chmod that drops setuid on write. */
    want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                        FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_POSIX_ACL |
                        FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_EXPORT_SUPPORT);
    want |=
        conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA |
                         FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS);
    conn->want = want;
    conn->max_write = FS_BLKSIZE;
    conn->max_read = FS_BLKSIZE;
    conn->max_readahead = FS_BLKSIZE;
    conn->max_background = 1024;
    conn->congestion_threshold = 768;
    conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops table = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write_buf = op_write_buf,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .setxattr = op_setxattr,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .copy_file_range = op_copy_file_range,
};

struct fuse_session *ops_session_new(struct fuse_args *args, struct fs *fs)
{
    return fuse_session_new(args, &table, sizeof(table), fs);
}
