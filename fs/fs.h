/* What the files of this layer share: the daemon, its FUSE sessions, one request.
 *
 * One daemon per cache directory. It serves one "private" superblock, mounted in its own mount
 * namespace, from which the helper clones the directory of each remote (rules G1); or, without the
 * privilege, one superblock per mount point. After its last mount has gone a superblock may live on
 * for open files while a new one already serves new mounts: hence a list of sessions on one cache.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cache.h"
#include "inode.h"
#include "sync.h"

struct fuse_session;
struct fuse_args;
struct fop;
struct dhandle;

#define FS_INODE_BUDGET 200000
#define FS_BLKSIZE (1024 * 1024)

/* ---- the daemon's tables, guarded by daemon.lock ---- */

struct fs_remote {
    struct fs_remote *next;
    struct cache_remote *remote;
    char *name; /* of its directory in the superblock's root */
    char *json; /* its settings, to compare those of a second mount with */
    char *config; /* the file with its section; "" when it has none */
    char *spec;   /* what it is there when that file is rclone's; "" when it is ours */
    char *seen;   /* its settings as last read there by the daemon itself; NULL: not to be found */
    uint64_t stamp; /* of the files they come from */
};

/* A mount point, from the moment the helper asks for it. */
struct attachment {
    struct attachment *next;
    char *dir, *spec, *options;
    struct cache_remote *remote; /* NULL for all */
    char *prefix;                /* full key prefix */
    bool allow_other;
    bool mounted;  /* seen in the host's mount table */
    bool recorded; /* in the journal, from an earlier run */
};

struct daemon_state;

/* ---- a session ---- */

struct fs {
    unsigned magic;
    struct fs *next; /* lock: daemon */
    struct daemon_state *d;
    struct cache *cache; /* of d */
    struct itable *inodes;
    struct fuse_session *se;
    pthread_t thread;
    bool direct;        /* mounted on a user's directory itself */
    bool root_mounted;  /* our own mount of it exists; atomic */
    bool cut_off;       /* it ended under writers; set before on_end runs, read after */
    bool loop_ended;    /* the kernel's connection is over; atomic */
    bool ended;         /* and the session wound up; lock: daemon */
    unsigned attaching; /* helpers between asking and mounting; lock: daemon */
    unsigned dev_major, dev_minor;
    char *mountpoint;
    double ttl_s;

    struct mutex op_lock; /* guards what follows, and struct fop's state */
    struct cond op_cond;        /* no request is under way, for who waits for that */
    struct cond interrupt_cond; /* one was interrupted */
    unsigned n_ops;          /* requests not yet answered */
    struct dhandle *dirs;    /* open directories */
    struct fop *interrupted; /* their process got a signal: see interrupt.c */
    bool interrupts_stop;
    pthread_t interrupt_thread;
};
#define FS_MAGIC 0x0f5e5510u

/* ---- daemon.c, as ops.c needs it ---- */

/* n-th remote directory of the root, or by name. False when there is none. */
bool daemon_remote_at(struct daemon_state *d, size_t n, struct cache_remote **ret, char *name,
                      size_t size);
struct cache_remote *daemon_remote_named(struct daemon_state *d, const char *name);
/* A directory somebody mounts: it and what leads to it exist even when empty (rules E2). */
bool daemon_is_bound(struct daemon_state *d, const struct cache_remote *remote, const char *prefix);
/* … and, mounted without allow_other, is closed to other users (rules G7). */
bool daemon_is_private(struct daemon_state *d, const struct cache_remote *remote,
                       const char *prefix);
const char *daemon_socket_path(const struct daemon_state *d);
uid_t daemon_uid(const struct daemon_state *d); /* who mounts */
gid_t daemon_gid(const struct daemon_state *d);
