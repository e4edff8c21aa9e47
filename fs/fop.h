/* One FUSE request on its way through the cache, and the tools the operations share. Private to
 * ops*.c and interrupt.c; needs <fuse_lowlevel.h> before it. */
#pragma once

#include "fs.h"
#include "mem.h"

/* Begins with what the cache is lent. Freed by fop_finish. */
struct fop {
    union {
        struct creq r;
        struct clookup l; /* begins with its own creq */
    };
    fuse_req_t req;
    struct fs *fs;
    struct inode *inode; /* of the request's node id; the kernel keeps it alive until the reply */
    struct fhandle *fh;  /* referenced while the request runs, when borrowed */
    bool unlinked;       /* by the time fop_ref looked */
    struct buf key;      /* what r.ref.key points to */
    struct buf prefix;   /* the parent's */
    struct names_target target;
    char *name; /* lookup: on screen; xattr: its name */
    void *copy; /* data that must outlive the handler */
    struct fuse_file_info fi;
    union {
        struct {
            bool plus;
            char *out;
            size_t size, len; /* of out: room and used */
            off_t off;
            uint64_t index;       /* of the next entry to add */
            struct inode **nodes; /* looked up for this reply */
            size_t n_nodes;
        } dir;
        struct {
            struct inode *newdir; /* alive until the reply, as inode is */
            char *newname;
            unsigned flags;
            struct buf to_prefix;
            struct names_target to_target;
            struct cref to;
        } rename;
        size_t xattr_size;
        bool only_node; /* mknod of a regular file: create without opening */
    };
    /* interrupt.c; lock: fs.op_lock */
    struct fop *next_interrupted;
    bool queued, busy, finished;
    unsigned seen_round;
};

/* An open directory as fi->fh carries it. */
struct dhandle {
    unsigned magic;
    struct cdir *dir; /* NULL for the root of all remotes and for .objmig */
    struct cache_remote *remote;
    struct buf prefix;
    void *continued; /* tsearch(3): continuation directories shown, and by which entry */
    bool started;
    struct dhandle *next, **prevp; /* lock: fs.op_lock */
};
#define DHANDLE_MAGIC 0xd4a0d1e5u

/* The .objmig files. */
enum { CTL_STATUS, CTL_METRICS, CTL_ERRORS, CTL_CONTROL, CTL_FILES };
extern const char *const ctl_names[CTL_FILES];
#define CTL_DIR ".objmig"
int ctl_of(const struct inode *i); /* which one an INODE_CTLFILE is */

struct fs *fop_fs(fuse_req_t req);
struct fop *fop_new(fuse_req_t req, fuse_ino_t ino, void (*done)(struct creq *r));
/* Makes the request interruptible; the last step before the cache is called. */
void fop_begin(struct fop *op);
/* First thing in done(): after it no interrupt handler runs. */
void fop_landed(struct fop *op);
/* After the reply: gives everything back. */
void fop_finish(struct fop *op);
void fop_err(struct fop *op, int err); /* replies -errno (0 = success) and finishes */

struct fop *fop_of(struct creq *r);

/* r.ref from the node (by open handle when `fi` has one or the file is unlinked). False: the error
 * has been sent. */
bool fop_ref(struct fop *op, const struct fuse_file_info *fi);
/* key, prefix and target of NAME in op's directory. False: the error has been sent. */
bool fop_target(struct fop *op, const char *name);
/* The same for a name that is to be made: one that no key has is EILSEQ, not "no such file". */
enum fop_made { FOP_FILE, FOP_DIR };
bool fop_target_new(struct fop *op, const char *name, enum fop_made what);
struct fhandle *fop_handle(const struct fuse_file_info *fi);

/* Attributes as stat(2) shows them. `prefix` is of a directory, else NULL. */
void fs_stat(struct fs *fs, const struct cache_remote *remote, const struct cattr *a,
             uint64_t number, const char *prefix, struct stat *ret);
void fs_stat_node(struct fop *op, const struct cattr *a,
                  struct stat *ret);                /* of op->inode, after fop_ref */
void fs_dir_attr(struct fs *fs, struct cattr *ret); /* of a directory that has none of its own */
bool fs_synthetic(struct fs *fs, struct inode *i, struct stat *ret); /* super root, .objmig */
/* Looks the child up in the inode table, counted, and fills the entry: kind INODE_FILE or
 * INODE_DIR. */
struct inode *fop_entry(struct fop *op, const char *name, enum inode_kind kind,
                        const struct cattr *a, struct fuse_entry_param *ret);
/* The same, replied, and the request finished. */
void fop_reply_entry(struct fop *op, const char *name, enum inode_kind kind, const struct cattr *a,
                     unsigned ttl_ms);

/* ops_file.c */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *fi);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *bufv, off_t off,
                  struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                  struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
                        struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
                        struct fuse_file_info *fi_out, size_t len, int flags);
void fs_release_handle(struct fs *fs, struct fhandle *fh);

/* ops_dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void dirs_close_all(struct fs *fs);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* ops_xattr.c */
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                 int flags);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ops_ctl.c: the .objmig files */
bool ctl_lookup(struct fop *op, const char *name); /* true: answered */
void ctl_open(struct fop *op);
void ctl_read(fuse_req_t req, struct fhandle *fh, size_t size, off_t off);
void ctl_write(fuse_req_t req, struct fs *fs, struct fhandle *fh, const char *data, size_t size);

/* interrupt.c */
int interrupts_start(struct fs *fs);
void interrupts_stop(struct fs *fs);
void interrupt_func(fuse_req_t req, void *data);
bool interrupt_done_locked(struct fs *fs, struct fop *op); /* true: the caller frees op */
