/* Everything fs/ and tools/ may ask of the cache: a name space of keys over remotes, files with extents, intents that reach
 * the providers behind the caller's back, in order, verified, resumable.
 *
 * Requests: a struct creq is the caller's memory, lent from the call until its done() has run, exactly once. done() may
 * run inside the call or later on any thread of the cache, never under a lock; it may call the cache again. No call here
 * waits for network, space or journal unless its comment says "Blocks".
 *
 * Directories are key prefixes: "" or ending in '/' (a continuation directory of names.h ends in another byte). A file is
 * one object key. Both are full keys of the bucket. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "backend.h"
#include "buf.h"
#include "conf.h"
#include "errinfo.h"

struct cache;
struct cache_remote;
struct chandle; /* an open file description */
struct cdir;    /* an open directory */

struct cache_options {
    const char *dir;             /* holds journal.db, tmp/, lock, control.sock; created 0700 */
    uint64_t cache_size;         /* bytes of spool; 0 = default (10 GiB) */
    uint64_t memory;             /* hard budget for data in memory; 0 = default (256 MiB) */
    unsigned writeback_delay_ms; /* default 1000 when negative is impossible: caller sets it */
    unsigned list_ttl_ms;        /* how long an observation counts as fresh, a listing five times as long as it took, up to
                                    ten times this; 0 = not at all; default 30000 */
    unsigned wait_timeout_ms;    /* bound of fsync and of waiting for space; default 300000 */
    bool close_remote;           /* -o close=remote */
    bool conflict_check;         /* -o conflict=check */
    /* The inode number readdir shows of a name in a directory: programs read trees in that order. NULL: there are none. */
    uint64_t (*number)(const char *identity, bool dir, const char *prefix, const char *rest, size_t rest_len);
    enum cache_attr { CACHE_ATTR_AUTO, CACHE_ATTR_LIST, CACHE_ATTR_HEAD } attr;
    enum cache_dirmarker { CACHE_DIRMARKER_EMPTY, CACHE_DIRMARKER_ALWAYS, CACHE_DIRMARKER_NEVER } dirmarker;
    uint32_t uid, gid;           /* of what carries no owner of its own */
    unsigned umask;              /* taken from 0777 / 0666 for what carries no mode */
    uint64_t bwlimit;            /* bytes/s, 0 = none */
    /* Tests put be_fault_new around each backend; NULL otherwise. What it returns owns `be`. */
    struct be *(*be_wrap)(void *ctx, struct be *be);
    void *be_wrap_ctx;
};
void cache_options_default(struct cache_options *o);
/* Where the cache is unless the user says: root's, or below the caller's home. */
int cache_default_dir(char **ret_dir, struct errinfo *reterr);

/* Blocks. Takes the lock (-EBUSY with the holder's pid in the message), opens journal and spool, loads the intents; no
 * network. Their work starts when the remotes they name are added. */
int cache_open(const struct cache_options *o, struct cache **ret_cache, struct errinfo *reterr);
/* Blocks: the same read only, no lock, beside a daemon or without one: only cache_status, cache_errors work. */
int cache_open_readonly(const char *dir, struct cache **ret_cache, struct errinfo *reterr);
/* Blocks. Ends what is in flight (the journal keeps the rest) and frees all. No handle is open. */
void cache_close(struct cache *c);

/* Blocks (one probe when `probe`). The same section again gives the same remote; a section that names another identity than
 * the open one, -EEXIST. Remotes live as long as the cache. */
int cache_remote_add(struct cache *c, const struct conf_remote *conf, bool probe,
                     struct cache_remote **ret_remote, struct errinfo *reterr);
/* Blocks (one probe when `probe`). conf is the remote's section with other credentials: requests from now on are signed with
 * them, and a pause for a refusal ends. -EEXIST when it names another bucket; else as cache_remote_add. Nothing changes on
 * failure. conf is not kept. */
int cache_remote_renew(struct cache *c, struct cache_remote *r, const struct conf_remote *conf, bool probe,
                       struct errinfo *reterr);
const char *cache_remote_name(const struct cache_remote *r);
const char *cache_remote_prefix(const struct cache_remote *r); /* the section's own prefix: "" or ends in '/' */
const char *cache_remote_identity(const struct cache_remote *r);
struct cache_remote *cache_remote_find(struct cache *c, const char *name); /* NULL when not added */

/* What a name stands for, as stat(2) shows it. */
struct cattr {
    mode_t mode; /* type and permissions */
    uint32_t uid, gid;
    uint64_t rdev;
    uint64_t size;
    int64_t mtime_ns, ctime_ns;
};

/* A file or directory: by key, or by an open handle (then key is ignored: a handle's file may have been renamed or
 * unlinked). */
struct cref {
    struct cache_remote *remote;
    const char *key; /* object key, or the prefix when dir */
    bool dir;
    bool object_form; /* of what is made, renamed to or opened: the name given was the object form (names.h) */
    struct chandle *handle;
};

/* Zeroed by the caller, but for what the call takes. */
struct creq {
    void (*done)(struct creq *r);
    void *owner;
    int status; /* out: 0 or -errno as applications see it */
    /* The caller's identity, for ownership of what is created and for the interrupt and kill rules. */
    uint32_t uid, gid;
    int32_t pid;

    /* in and out, by call */
    struct cref ref;
    struct cattr attr;
    struct chandle *handle;   /* out: open, create */
    struct cdir *dir;         /* out: opendir */
    uint64_t offset;
    uint64_t size;
    const void *data;         /* in: write; out: read, getxattr, listxattr, readlink: valid until done returns */
    uint64_t done_bytes;      /* out: bytes read, written, copied */
    bool read_ahead;          /* in: read: nobody needs it yet, and who does asks again: it may end with -EAGAIN, but only once */
    /* private to the cache while the request is lent */
    struct creq *next;
    void *priv;
    void *buf; /* what data points into; freed after done, by buf_free or else free() */
    void (*buf_free)(void *buf);
    int64_t deadline_ns;
    int64_t since_ns; /* monotonic: asked */
    int kind, state;
    uint64_t seq;
};

/* ---- names ---- */

enum clookup_kind { CLOOKUP_NONE, CLOOKUP_FILE, CLOOKUP_DIR };
struct clookup {
    struct creq r;
    const char *parent;     /* prefix of the directory that holds the name: its listing answers for all its names */
    const char *key;        /* object key it may be, or NULL */
    const char *prefix;     /* directory prefix it may be, or NULL */
    enum clookup_kind kind; /* out; a name that is both is the directory. NONE is status 0 */
    unsigned ttl_ms;        /* out: how long the answer may be cached by the kernel; 0 = not */
};
void cache_lookup(struct cache *c, struct clookup *l);
void cache_getattr(struct cache *c, struct creq *r); /* ref → attr */

/* setattr: `mask` says what of attr is to be set. */
enum { CSET_MODE = 1, CSET_UID = 2, CSET_GID = 4, CSET_SIZE = 8, CSET_MTIME = 16 };
void cache_setattr(struct cache *c, struct creq *r, unsigned mask); /* ref, attr → attr */

/* Directory reading: a stable snapshot that grows as pages arrive. */
struct cdirent {
    const char *rest;   /* key or common prefix after the directory's prefix */
    size_t rest_len;
    bool is_dir;        /* rest ends in '/' */
    bool collides;      /* object and prefix share this component: names_show() wants to know */
    bool unseen;        /* attr says no more than that it is a file: a lookup tells */
    struct cattr attr;
};
void cache_opendir(struct cache *c, struct creq *r); /* ref (dir) → dir; at once, listing goes on behind */
/* Makes entries [index, …) available: done when at least one is or the end is known. size = how many more entries are there
 * now (0 = end). */
void cache_readdir(struct cache *c, struct creq *r, struct cdir *d, uint64_t index);
/* Entry index of the snapshot; borrowed until cache_closedir; only below what readdir made available. False: the entry was
 * removed meanwhile, skip it. */
bool cache_dirent(struct cdir *d, uint64_t index, struct cdirent *ret);
void cache_closedir(struct cdir *d);

/* A key that the provider takes no object of is refused by whatever would make it: -ENAMETOOLONG or -EILSEQ.
 * A continuation directory is there for what is in it; one that was made here stays while the daemon lives. */
void cache_mkdir(struct cache *c, struct creq *r);  /* ref (dir), attr.mode; -EEXIST if anything is there */
void cache_rmdir(struct cache *c, struct creq *r);  /* -ENOTEMPTY */
void cache_unlink(struct cache *c, struct creq *r);
void cache_symlink(struct cache *c, struct creq *r); /* ref.key, data = NUL-terminated target → attr */
void cache_readlink(struct cache *c, struct creq *r); /* → data (NUL-terminated), size */
void cache_mknod(struct cache *c, struct creq *r);  /* attr.mode, attr.rdev: devices, FIFOs, sockets as metadata */
/* Renames ref to `to` within one remote; files and directories; flags RENAME_NOREPLACE or RENAME_EXCHANGE; the replaced
 * name has been checked by the kernel, emptiness of a replaced directory is checked here. -EXDEV across
 * remotes, and for continuation directories: no prefix of keys is one. */
void cache_rename(struct cache *c, struct creq *r, const struct cref *to, unsigned flags);

/* xattrs by name as the application gives it; see meta.h for the mapping. */
void cache_getxattr(struct cache *c, struct creq *r, const char *name); /* → data, size; -ENODATA */
void cache_setxattr(struct cache *c, struct creq *r, const char *name, int flags); /* data, size */
void cache_removexattr(struct cache *c, struct creq *r, const char *name);
void cache_listxattr(struct cache *c, struct creq *r); /* → data: NUL-separated names, size */

/* ---- files ---- */

void cache_create(struct cache *c, struct creq *r, int open_flags); /* ref.key, attr.mode → handle, attr */
void cache_open_file(struct cache *c, struct creq *r, int open_flags); /* → handle, attr; O_TRUNC is honoured */
/* False when what the kernel has cached of this file may be another version (then do not keep its pages). */
bool cache_keep_pages(struct chandle *h);
void cache_read(struct cache *c, struct creq *r, struct chandle *h);  /* offset, size → data, done_bytes */
/* offset, size, data → done_bytes. Unlike all else in the request, data is lent for the call only: what must wait is
 * copied inside. */
void cache_write(struct cache *c, struct creq *r, struct chandle *h);
void cache_flush(struct cache *c, struct creq *r, struct chandle *h); /* close(2): seals what was written */
void cache_fsync(struct cache *c, struct creq *r, struct chandle *h); /* the content of now is at the provider, verified */
void cache_fsyncdir(struct cache *c, struct creq *r); /* ref: journal and spool durable */
void cache_release(struct cache *c, struct chandle *h); /* last close; the handle is gone */
/* offset of ref side is `offset`; copies up to size bytes to `to` at to_offset; short counts are normal. */
void cache_copy_range(struct cache *c, struct creq *r, struct chandle *from, struct chandle *to, uint64_t to_offset);
void cache_fallocate(struct cache *c, struct creq *r, struct chandle *h, int mode); /* offset, size */
void cache_lseek(struct cache *c, struct creq *r, struct chandle *h, int whence); /* offset → offset */
/* A parked request whose process was killed: it is answered with -EINTR soon. Harmless for any other. */
void cache_interrupt(struct cache *c, struct creq *r);

struct cstatfs {
    uint64_t total_bytes, free_bytes; /* of a bucket: nominally 1 EiB; of a local remote: the disk's */
};
void cache_statfs(struct cache *c, struct cache_remote *r, struct cstatfs *ret);

/* ---- control ---- */

/* Scope of the calls below: everything (remote NULL) or what lies below a prefix, as source or target. */
struct cscope {
    struct cache_remote *remote;
    const char *prefix;
};
/* JSON text, one object: see cache/README.md for its members. Reads the journal when read only. */
int cache_status(struct cache *c, const struct cscope *s, struct buf *ret_json);
int cache_metrics(struct cache *c, struct buf *ret_text); /* Prometheus text format */
int cache_errors(struct cache *c, const struct cscope *s, struct buf *ret_text); /* one line a failed key */
/* BLOCKED and CONFLICT keys in scope are tried again; *ret_n = how many. */
int cache_retry(struct cache *c, const struct cscope *s, unsigned *ret_n);
/* The operator gives the local content of failed keys up; the provider's version shows again. */
int cache_discard(struct cache *c, const struct cscope *s, unsigned *ret_n);

/* Asks the provider for the archived objects in scope, a page of its listing at a time: again while cursor is not NULL after it.
 * What failed because of them goes on by itself once they can be read. Blocks; not for FUSE threads. Starts zeroed but for days
 * and tier; crestore_fini at the end. 0, or -errno with reterr: the page could not be listed, or nothing there can be restored. */
struct crestore {
    unsigned days;    /* in: as in be_restore */
    const char *tier; /* in, may be NULL */
    char *cursor;     /* in and out */
    uint64_t seen, begun, under_way, readable, failed; /* added up; readable: archived classes, but nothing to do */
    char *err_key;    /* the first that failed, and why */
    struct errinfo err;
};
int cache_restore(struct cache *c, const struct cscope *s, struct crestore *r, struct errinfo *reterr);
void crestore_fini(struct crestore *r);

struct cprogress {
    uint64_t files_left, bytes_left;     /* sealed intents in scope accepted up to now */
    uint64_t files_done, bytes_done;     /* since the daemon started, in scope of everything */
    uint64_t failed, open_files, unfinished, waiting; /* waiting: identity not reachable or paused */
};
void cache_progress(struct cache *c, const struct cscope *s, uint64_t up_to_seq, struct cprogress *ret);
uint64_t cache_seq(struct cache *c); /* of the newest intent */
void cache_hurry(struct cache *c, const struct cscope *s); /* wait: what is sealed in scope is due now */
/* Nothing queued or in flight (failed and unfinished ones do not count). */
bool cache_idle(struct cache *c);
/* No new opens or creates (-ESHUTDOWN); what is queued goes on. */
void cache_refuse_new(struct cache *c);

/* Attachments are kept in the journal, for the next start (rules G4). Blocks. */
int cache_attach_add(struct cache *c, const char *dir, const char *spec, const char *remote, const char *prefix,
                     const char *options);
int cache_attach_remove(struct cache *c, const char *dir);
int cache_attach_each(struct cache *c,
                      int (*fn)(void *ctx, const char *dir, const char *spec, const char *options), void *ctx);

/* ---- doctor: looks at what the cache rests on, beside a daemon or without one, and changes nothing ---- */

enum cdoctor_level { CDOCTOR_OK, CDOCTOR_WARN, CDOCTOR_FAIL };
/* One finding: what was looked at, what was found, what to do ("" = nothing). Any bytes: keys are among them. */
typedef void cdoctor_fn(void *ctx, enum cdoctor_level level, const char *what, const char *found, const char *mend);
struct cdoctor;
/* dir need not exist. All calls block; findings are told within them. */
int cache_doctor_new(const char *dir, cdoctor_fn *say, void *ctx, struct cdoctor **ret, struct errinfo *reterr);
void cache_doctor_free(struct cdoctor *d); /* NULL is fine */
/* The directory, its lock and its room. False: nothing more can be found out about it. *ret_pid: the daemon that holds
 * it, 0 = none. */
bool cache_doctor_dir(struct cdoctor *d, int32_t *ret_pid);
bool cache_doctor_journal(struct cdoctor *d); /* and the spool; false: it cannot be read */
void cache_doctor_remote(struct cdoctor *d, const struct conf_remote *conf); /* 20 s at most for a dead one */

/* Multipart uploads older than a day that the journal does not name (rules C7). Somebody else's may be among them: a
 * human decides. */
struct cstray {
    char *key, *upload_id;
    int64_t age_s;
};
struct cstrays {
    struct cstray *items;
    size_t n;
    size_t named;   /* uploads that are not strays */
    bool no_journal; /* so nothing is known about whose they are */
};
/* -EBADMSG when the journal is there but does not say which uploads are its own. */
int cache_doctor_strays(struct cdoctor *d, const struct conf_remote *conf, struct cstrays *ret, struct errinfo *reterr);
void cache_strays_fini(struct cstrays *s);
/* Tells of each what became of it. */
int cache_doctor_abort(struct cdoctor *d, const struct conf_remote *conf, const struct cstrays *s, struct errinfo *reterr);
