/* The inode table of one FUSE session: what the kernel's node ids stand for.
 *
 * A node id is the address of its inode (FUSE_ROOT_ID for the root), valid until the kernel has
 * forgotten every lookup it was given. An inode knows its parent and its name on screen; its key is
 * found by walking up (directories remember their prefix until some directory is renamed). So a
 * renamed directory costs nothing for what lies below it.
 *
 * Locks: one mutex of RANK_INODES guards everything here; no function calls out of the module with
 * it held but for the pure names_resolve(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"
#include "cache.h"
#include "names.h"

struct itable;
struct inode;

enum inode_kind {
    INODE_SUPER, /* the root above all remotes */
    INODE_DIR,
    INODE_FILE,    /* anything that is one key: regular, symlink, device … */
    INODE_CTLDIR,  /* .objmig */
    INODE_CTLFILE, /* .objmig/status and its sisters */
};

/* An open file as fi->fh carries it. Counted, because a request on an unlinked inode borrows any
 * open handle of it while the last close may come at any time. */
struct fhandle {
    unsigned magic;
    unsigned refs;          /* lock: inode table */
    struct chandle *handle; /* NULL for .objmig files */
    bool writes;            /* opened for writing; constant once the kernel knows the handle */
    struct inode *inode;    /* pinned */
    struct fhandle *next, **prevp;         /* of the inode; lock: inode table */
    struct fhandle *all_next, **all_prevp; /* of the table; lock: inode table */
    struct buf text;                       /* .objmig files: what was true at open */
    int ctl;                               /* which of them */
};
#define FHANDLE_MAGIC 0xf4a0d1e5u

/* The root is all remotes (remote NULL) or the directory `prefix` of one. */
struct itable *itable_new(struct cache_remote *remote, const char *prefix);
void itable_free(struct itable *t);                           /* all handles are closed */
struct inode *itable_node(struct itable *t, uint64_t nodeid); /* dies on an id that never was */
uint64_t itable_nodeid(const struct itable *t, const struct inode *i);
size_t itable_count(struct itable *t);

enum inode_kind inode_kind(const struct inode *i);
bool inode_is_type(const struct inode *i, mode_t mode); /* its file type still is that of mode */
const char *inode_ctl_name(const struct inode *i);      /* of an INODE_CTLFILE: never renamed */
struct cache_remote *inode_remote(const struct inode *i);
bool inode_is_top(struct itable *t,
                  const struct inode *i); /* a remote's directory, or the session's root */
/* The kind of the child, if it is in the table. */
bool itable_child(struct itable *t, struct inode *dir, const char *name, enum inode_kind *ret_kind);

/* Finds or inserts the child and counts one lookup, in one critical section. An inode of another
 * kind or file type under that name is set aside as unlinked: the kernel must not see one node
 * change its type. `remote` is given for children of the super root, else NULL. */
struct inode *itable_lookup(struct itable *t, struct inode *dir, const char *name,
                            enum inode_kind kind, mode_t type, struct cache_remote *remote);
/* The same for a readdirplus entry, but NULL when that would make a new inode beyond the budget. */
struct inode *itable_lookup_budget(struct itable *t, struct inode *dir, const char *name,
                                   enum inode_kind kind, mode_t type, size_t budget);
void itable_forget(struct itable *t, struct inode *i, uint64_t n);

/* Key (file) or prefix (directory; .objmig and what is in it: that of the directory it is in).
 * -ESTALE when it is unlinked: the VFS then looks the path up again. */
int itable_key(struct itable *t, struct inode *i, struct buf *ret_key);
/* Whether a file goes by the object form of its name (names.h). */
bool itable_object_form(struct itable *t, struct inode *i);
/* What NAME in directory `dir` can be, and the directory's prefix. */
int itable_target(struct itable *t, struct inode *dir, const char *name, struct buf *ret_prefix,
                  struct names_target *ret);
/* Inode numbers follow (identity, key): stable over restarts, equal for one key seen through two
 * remotes. An unlinked file gets one of its own, so that it never equals its successor's. `rest`
 * continues `key`. */
uint64_t inode_number(const struct cache_remote *remote, bool dir, const char *key,
                      const char *rest, size_t rest_len);
uint64_t inode_number_of(const char *identity, bool dir, const char *key, const char *rest,
                         size_t rest_len);
uint64_t inode_number_unlinked(const struct inode *i);

void itable_unlink(struct itable *t, struct inode *dir, const char *name);
void itable_rename(struct itable *t, struct inode *dir, const char *name, struct inode *newdir,
                   const char *newname, bool exchange);

/* Open handles. */
struct fhandle *fhandle_new(struct itable *t, struct inode *i, struct chandle *h);
struct fhandle *fhandle_any(struct itable *t, struct inode *i); /* referenced, or NULL */
/* Drops a reference; true when it was the last: then the caller releases fh->handle and calls
 * fhandle_free. */
bool fhandle_put(struct itable *t, struct fhandle *fh);
void fhandle_free(struct itable *t, struct fhandle *fh);
/* Any handle still open, for a session that died: its references are overridden. NULL when there is
 * none. */
struct fhandle *itable_orphan(struct itable *t);
