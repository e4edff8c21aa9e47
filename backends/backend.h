/* The contract every store obeys, and the only way the layers above reach one.
 *
 * Asynchronous: an operation is the caller's memory, lent to the backend from the call until done() has run, exactly once,
 * on a worker thread (never inside the call, never under a lock of the caller). Inputs are borrowed for that time; outputs
 * are written before done() and only on success (op.status 0), and belong to the caller after it; be_*_fini frees them.
 * Every call first sets all outputs to nothing, so fini is right after any result, and an operation used again is finished
 * first. Memory for an operation starts zeroed.
 *
 * Keys are full keys of the bucket: NUL-terminated bytes, 1 … limits.max_key bytes, any byte but NUL.
 *
 * What every backend keeps: a read comes from one version; a write is all or nothing and the returned etag names exactly
 * those bytes; remove is idempotent; a 200 whose body reports failure is a failure; when it is not known whether a
 * mutation happened, err.outcome_unknown is set and status is not 0; retries of what may safely be repeated happen inside.
 *
 * Metadata is a kvlist. Standard headers under their lower-case names: content-type cache-control content-disposition
 * content-encoding content-language expires; user metadata as "meta-NAME"; "storage-class" and "encryption" as the
 * provider spells them. The whole-file MD5 is "meta-md5". A local directory maps meta-mode, meta-uid, meta-gid,
 * meta-mtime, meta-rdev to the real attributes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"
#include "conf.h"
#include "errinfo.h"

struct be;
struct be_op;
struct pool;
struct http_engine;

#define BE_ETAG_MAX 144

enum be_cap {
    BE_CAP_IF_MATCH = 1 << 0,    /* write, commit and remove honour if_match */
    BE_CAP_IF_ABSENT = 1 << 1,   /* write and commit honour if_absent */
    BE_CAP_USER_META = 1 << 2,
    BE_CAP_MULTIPART = 1 << 3,   /* mp_* present */
    BE_CAP_COPY = 1 << 4,        /* copy present; also from sources be_can_copy() accepts */
    BE_CAP_PART_COPY = 1 << 5,   /* mp_part may copy */
    BE_CAP_REMOVE_MANY = 1 << 6,
    BE_CAP_LIST_STRONG = 1 << 7, /* a list begun after a write shows it */
    BE_CAP_CRC64 = 1 << 8,       /* writes return the CRC-64/XZ of the bytes */
    BE_CAP_REAL_DIRS = 1 << 10,  /* "dir/" is a directory with attributes of its own, made with its first child */
    BE_CAP_MP_ETAG_MD5S = 1 << 9, /* the commit's etag is "md5(part md5s)-N" */
    BE_CAP_MP_META_LATE = 1 << 11, /* an object made of parts gets its metadata at the commit, not when it is begun */
    BE_CAP_RESTORE = 1 << 15,   /* restore present: objects of some classes cannot be read before it */
    BE_CAP_READ_ONLY = 1 << 16, /* all changes fail with ERR_INVALID -EROFS, before the driver hears of them */
    BE_CAP_MP_NO_ABORT = 1 << 12, /* an upload is nothing but its parts: without any it is not listed and counts as gone, and they
                                   * vanish by themselves: abort only says that nobody wants them */
    BE_CAP_MP_NO_CONDITION = 1 << 13, /* a commit takes no condition, although a write does */
    BE_CAP_CRC32C = 1 << 14, /* answers carry the CRC-32C of the bytes, of an object made of parts at least a stat's */
    BE_CAP_BARE_DIRS = 1 << 17,   /* with real directories: they have neither content nor attributes, and no object beside them
                                   * has their name (ERR_INVALID for whatever comes later) */
    BE_CAP_MP_UNLISTED = 1 << 18, /* nobody can list unfinished uploads: mp_uploads finds none; they expire by themselves */
};

/* 0 = no limit. */
struct be_limits {
    uint64_t max_object, max_put, max_copy;
    uint64_t min_part, max_part;
    uint64_t part_unit; /* 0, or all parts but the last are of one size, told when the upload is begun, a multiple of
                           this; and none can be sent again with other bytes */
    unsigned max_parts;
    unsigned max_key, max_meta, list_page, batch; /* bytes, bytes, entries, keys */
};

/* One version of one object. */
struct be_object {
    char etag[BE_ETAG_MAX]; /* without quotes; "" = unknown */
    bool etag_is_md5;       /* said by the response (single upload, no KMS or SSE-C), not by configuration; digits of either case */
    bool has_crc64, has_crc32c;
    uint32_t crc32c;
    uint64_t crc64;
    uint64_t size;
    int64_t mtime_ns; /* Last-Modified, wall clock */
    char version_id[64]; /* "" when not versioned */
    char storage_class[40]; /* "" = standard */
};

enum be_kind {
    BE_STAT, BE_READ, BE_WRITE, BE_REMOVE, BE_LIST, BE_COPY, BE_REMOVE_MANY,
    BE_MP_BEGIN, BE_MP_PART, BE_MP_COMMIT, BE_MP_ABORT, BE_MP_PARTS, BE_MP_UPLOADS,
    BE_RESTORE,
    BE_KINDS
};

enum be_lane {
    BE_LANE_FOREGROUND, /* somebody waits: ls, stat, first reads */
    BE_LANE_SMALL,      /* bodies up to the small-file threshold, and requests without body */
    BE_LANE_BIG,        /* parts */
    BE_LANES
};

struct be_op {
    enum be_kind kind;     /* set by the be_* call */
    enum be_lane lane;     /* caller */
    const char *key;       /* caller; NULL for list, remove_many */
    int64_t deadline_ns;   /* caller, monotonic; 0 = the remote's own time-out and try count only */
    void (*done)(struct be_op *op); /* caller */
    void *owner;           /* caller's */
    const void *owner2;    /* caller's, too */
    int status;            /* 0 or -errno */
    struct errinfo err;    /* class set whenever status is not 0 */
    bool stray;            /* with status 0, of a change: an earlier attempt got no answer and may still arrive */
    struct be *be;         /* set by the be_* call */
    void *driver_priv;     /* the driver's, until done */
    unsigned char live;    /* backend.c's: 0 before and after; the caller's memory starts zeroed */
    bool canceled;         /* backend.c's, atomic: see be_op_check in driver.h */
};

struct be_stat {
    struct be_op op;
    struct be_object object; /* out */
    struct kvlist meta;      /* out, owned */
};

struct be_read {
    struct be_op op;
    uint64_t offset;
    size_t len;              /* fewer bytes come only at the object's end */
    const char *if_match;    /* NULL, or the etag that must still be current (else ERR_PRECOND -ESTALE) */
    const char *version_id;  /* NULL or pinned version */
    void *buf;               /* caller's, len bytes; its contents are undefined on failure */
    size_t got;              /* out */
    struct be_object object; /* out: size is the whole object's */
    struct kvlist meta;      /* out, owned: a GET answers with the headers too */
};

struct be_write {
    struct be_op op;
    const void *data;
    size_t len;
    const uint8_t *md5;         /* NULL or the 16 bytes of the body's MD5: sent where the server checks it */
    const struct kvlist *meta;  /* NULL = none */
    const char *if_match;       /* NULL, or overwrite only this etag (BE_CAP_IF_MATCH) */
    bool if_absent;             /* create only (BE_CAP_IF_ABSENT) */
    struct be_object object;    /* out: etag, crc64 if returned, size, version_id; mtime_ns 0 when not told */
};

struct be_remove {
    struct be_op op;
    const char *if_match; /* NULL or etag (BE_CAP_IF_MATCH) */
};

struct be_entry {
    char *key; /* full key; a common prefix ends in the delimiter */
    bool is_prefix;
    bool unseen; /* the store knows the key alone until it is asked by be_stat: object says nothing, and 0 is no size */
    struct be_object object; /* etag, size, mtime_ns, storage_class */
    struct kvlist *posix; /* local: meta-mode, -uid, -gid, -mtime, -rdev as the directory has them; NULL elsewhere */
};

struct be_list {
    struct be_op op;
    const char *prefix;      /* "" = everything */
    char delimiter;          /* 0 or '/' */
    const char *start_after; /* NULL, or list keys greater than this (exclusive); with cursor NULL only */
    const char *cursor;      /* NULL, or what the page before returned */
    unsigned max;            /* 0 = the provider's page */
    /* out, owned: be_list_fini. Entries are in byte order of the key. */
    struct be_entry *entries;
    size_t n_entries;
    char *next_cursor; /* NULL = that was the last page; a page may be empty and yet not the last */
    int64_t server_date_ns; /* wall, 0 = not told */
};

struct be_copy {
    struct be_op op;
    struct be *src; /* may be op.be */
    const char *src_key;
    const char *src_etag;       /* NULL or the version that must be read (else ERR_PRECOND) */
    const char *src_version_id; /* NULL or pinned version */
    uint64_t size;              /* of the source; at most limits.max_copy */
    const struct kvlist *meta;  /* the target's whole metadata (always REPLACE) */
    struct be_object object;    /* out */
};

struct be_many {
    struct be_op op;
    const char *const *keys;
    size_t n_keys;     /* at most limits.batch */
    struct errinfo *errs; /* out, owned: one a key, cls ERR_NONE = removed; free() */
};

struct be_mp {
    struct be_op op;
    const struct kvlist *meta; /* begin: NULL = none */
    uint64_t part_size;        /* begin, with limits.part_unit: of all parts but the last; 0 = limits.min_part */
    char *upload_id;           /* begin: out, owned; abort: in, borrowed by the call */
};

struct be_part {
    struct be_op op;
    const char *upload_id;
    unsigned number; /* from 1 */
    /* either bytes … */
    const void *data;
    size_t len;
    const uint8_t *md5;
    /* … or, when src is set, a range of another object (BE_CAP_PART_COPY) */
    struct be *src;
    const char *src_key, *src_etag, *src_version_id;
    uint64_t src_offset, src_len, src_size;
    struct be_object object; /* out: etag, crc64 if returned, size */
};

struct be_part_id {
    unsigned number;
    uint64_t size;
    char etag[BE_ETAG_MAX];
};

struct be_commit {
    struct be_op op;
    const char *upload_id;
    const struct be_part_id *parts; /* ascending */
    size_t n_parts;
    const struct kvlist *meta; /* NULL = none; only with BE_CAP_MP_META_LATE, else that of be_mp_begin holds */
    const char *if_match;
    bool if_absent;
    struct be_object object; /* out: etag "" when the answer had none (then stat) */
};

/* The parts a server holds of an upload: the authority after a crash. ERR_ABSENT (NoSuchUpload) when it is gone. */
struct be_parts {
    struct be_op op;
    const char *upload_id;
    struct be_part_id *parts; /* out, owned: free(); all pages */
    size_t n_parts;
};

/* Unfinished uploads of exactly op.key, or with op.key NULL of all keys under prefix. */
struct be_upload {
    char *key, *upload_id;
    int64_t initiated_ns;
};
struct be_uploads {
    struct be_op op;
    const char *prefix;
    struct be_upload *uploads; /* out, owned: be_uploads_fini; all pages */
    size_t n_uploads;
};

/* Asks for an archived object to be made readable, which takes the store minutes to days. Asking twice is a success, and so is
 * asking for what is readable. */
enum be_restored {
    BE_RESTORE_BEGUN,
    BE_RESTORE_UNDER_WAY, /* somebody asked before */
    BE_RESTORE_READABLE,
};
struct be_restore {
    struct be_op op;
    unsigned days;             /* that it stays readable, from 1; Azure has no such time: it leaves the archive for good */
    const char *tier;          /* how fast, as the provider spells it; NULL = its usual */
    const char *storage_class; /* of the object as it was told; "" = not known */
    enum be_restored state;    /* out */
};

/* What a backend is given to live with. */
struct be_env {
    struct pool *workers;
    struct http_engine *http;
};

struct be_ops {
    uint32_t size; /* sizeof(struct be_ops) */
    const char *scheme;
    int (*open)(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                struct errinfo *reterr);
    void (*close)(struct be *be); /* nothing is in flight */
    void (*describe)(const struct be *be, uint32_t *ret_caps, struct be_limits *ret_limits);
    /* Two remotes of one identity are one bucket: provider, endpoint where buckets are not global, bucket. */
    const char *(*identity)(const struct be *be);
    bool (*can_copy)(const struct be *dst, const struct be *src); /* NULL: only from itself */
    int (*renew)(struct be *be, const struct conf_remote *conf, struct errinfo *reterr); /* NULL: needs no credentials */
    /* Why the store takes no object of that key, one clause without the key itself, or NULL. Pure. NULL: it takes all up to
     * limits.max_key bytes. */
    const char *(*key_fault)(const struct be *be, const char *key);
    bool (*archived)(const struct be *be, const char *storage_class); /* as be_archived; with BE_CAP_RESTORE */
    void (*cancel)(struct be *be, struct be_op *op); /* done still runs, perhaps with ERR_CANCELED; NULL: cannot */
    /* required */
    void (*stat)(struct be *be, struct be_stat *op);
    void (*read)(struct be *be, struct be_read *op);
    void (*write)(struct be *be, struct be_write *op);
    void (*remove)(struct be *be, struct be_remove *op);
    void (*list)(struct be *be, struct be_list *op);
    /* present if and only if the capability bit is set */
    void (*copy)(struct be *be, struct be_copy *op);
    void (*remove_many)(struct be *be, struct be_many *op);
    void (*mp_begin)(struct be *be, struct be_mp *op);
    void (*mp_part)(struct be *be, struct be_part *op);
    void (*mp_commit)(struct be *be, struct be_commit *op);
    void (*mp_abort)(struct be *be, struct be_mp *op);
    void (*mp_parts)(struct be *be, struct be_parts *op);
    void (*mp_uploads)(struct be *be, struct be_uploads *op);
    void (*restore)(struct be *be, struct be_restore *op);
};

/* Every driver's struct begins with this. */
struct be {
    unsigned magic;
    const struct be_ops *ops;
    uint32_t caps;
    struct be_limits limits;
    struct be_env env;
    char *name; /* of the remote, for messages */
    /* backend.c's */
    struct be_gate *gate; /* counts what is in flight */
    char *probe_prefix;   /* what be_probe lists: the remote's own prefix, all that its credentials may reach */
};
#define BE_MAGIC 0x0be0be0bu

/* Opens by conf->provider. No request is sent: be_probe does that. */
int be_open(const struct conf_remote *conf, const struct be_env *env, struct be **ret_be,
            struct errinfo *reterr);
void be_close(struct be *be); /* waits for what is in flight; NULL is fine */
const char *be_identity(const struct be *be);
bool be_can_copy(const struct be *dst, const struct be *src);
/* Credentials, and nothing else of conf, replace those it was opened with: each attempt from now on is signed with them. Any
 * thread, at any time. ERR_INVALID when they cannot be. */
int be_renew(struct be *be, const struct conf_remote *conf, struct errinfo *reterr);
/* Whether an object of that key can be stored here. Pure: to be asked before any byte moves; write, copy and mp_begin ask it
 * themselves. 0, or with one clause in reterr (ERR_INVALID; NULL: not wanted) -ENAMETOOLONG for a key above limits.max_key and
 * -EILSEQ for any other (mv takes EINVAL for a move into itself, and says so). */
int be_key_check(const struct be *be, const char *key, struct errinfo *reterr);

/* Whether objects of that class, as stat and lists tell it, have to be restored before they can be read: all of them or, where a
 * class archives what nobody reads for long, some. */
bool be_archived(const struct be *be, const char *storage_class);

/* The checksum by which a store with those capabilities can be believed, CRC-64/XZ or CRC-32C; as in digest.h, 0 is that of
 * nothing. */
static inline bool be_has_crc(uint32_t caps)
{
    return (caps & (BE_CAP_CRC64 | BE_CAP_CRC32C)) != 0;
}
uint64_t be_crc_update(uint32_t caps, uint64_t crc, const void *p, size_t n);
uint64_t be_crc_combine(uint32_t caps, uint64_t crc_a, uint64_t crc_b, uint64_t len_b);
/* The same as the store told it. False when it did not. */
bool be_crc_of(uint32_t caps, const struct be_object *o, uint64_t *ret);

/* The calls. Each checks its arguments (a bad key or a missing capability completes with ERR_INVALID / -EOPNOTSUPP like
 * any failure) and that the driver completes once, with a class on failure. */
void be_stat(struct be *be, struct be_stat *op);
void be_read(struct be *be, struct be_read *op);
void be_write(struct be *be, struct be_write *op);
void be_remove(struct be *be, struct be_remove *op);
void be_list(struct be *be, struct be_list *op);
void be_copy(struct be *be, struct be_copy *op);
void be_remove_many(struct be *be, struct be_many *op);
void be_mp_begin(struct be *be, struct be_mp *op);
void be_mp_part(struct be *be, struct be_part *op);
void be_mp_commit(struct be *be, struct be_commit *op);
void be_mp_abort(struct be *be, struct be_mp *op);
void be_mp_parts(struct be *be, struct be_parts *op);
void be_mp_uploads(struct be *be, struct be_uploads *op);
void be_restore(struct be *be, struct be_restore *op);
/* Asks for an early end; done still runs, with the operation's own result or ERR_CANCELED. Also while its call is being made, or
 * before: then that ends so. The caller knows that op's memory is alive, that is, that its done() cannot have given it away yet. */
void be_cancel(struct be_op *op);

/* Drivers end an operation with this, on a worker thread. */
void be_complete(struct be_op *op, int status);

/* BE_SYNC(be, be_stat, &st) makes the call and waits for it: for tools, tests and start-up, never on a worker, FUSE or
 * engine thread. Its value is op->status. Uses the operation's done and owner. */
struct be_waiter;
struct be_waiter *be_sync_begin(struct be_op *op);
int be_sync_end(struct be_waiter *w); /* waits, frees w */
#define BE_SYNC(be, call, opp)                                                                     \
    __extension__({                                                                                \
        struct be_waiter *be_waiter_ = be_sync_begin(&(opp)->op);                                  \
        call((be), (opp));                                                                         \
        be_sync_end(be_waiter_);                                                                   \
    })

/* One cheap list to learn whether credentials, region and bucket are right. Synchronous. */
int be_probe(struct be *be, struct errinfo *reterr);
/* The same, with what was found in parts. Returns 0 or -errno. */
struct be_probed {
    const char *aspect; /* what is wrong: "network" "credentials" "bucket" "region" "clock" "path" "listing"; NULL: nothing */
    const char *mend;   /* which setting to look at; NULL: none */
    struct errinfo err;
    int64_t server_ns;  /* the server's clock at the answer, wall; 0 = not told */
    int64_t ahead_ns;   /* how much it is ahead of ours */
};
int be_probe_in_parts(struct be *be, int64_t deadline_ns, struct be_probed *ret);

void be_stat_fini(struct be_stat *op);
void be_read_fini(struct be_read *op);
void be_list_fini(struct be_list *op);
void be_uploads_fini(struct be_uploads *op);

/* A memory store named by conf->bucket outlives its backends, as a server would; this drops it once none is open. */
void be_memory_forget(const char *bucket);

/* Wraps a backend so that tests can make it fail; see fault.c. Owns `inner`. */
struct be_fault_rule {
    enum be_kind kind;       /* which calls; BE_KINDS = all */
    unsigned skip, times;    /* leave the first `skip` alone, then fail `times` (0 = for ever) */
    int status;              /* returned instead of the call … */
    enum err_class cls;
    const char *code;        /* borrowed; NULL: InjectedFault */
    int http_status;         /* of the answer; 0: none came */
    bool after;              /* … or after the call was really made (a lost reply: outcome_unknown) */
    unsigned delay_ms;       /* makes it late */
    bool hold;               /* … until be_fault_let_go; then it goes on as its rule said */
    bool stray;              /* … or just that: it succeeds, and be_op.stray says that another attempt may arrive */
};
int be_fault_new(struct be *inner, struct be **ret_be);
void be_fault_add(struct be *be, const struct be_fault_rule *rule);
void be_fault_let_go(struct be *be); /* what is held now */
void be_fault_clear(struct be *be);  /* the same, and no rule is left */
struct be_fault_seen {
    unsigned calls, ended;        /* begun; given back, and their done has returned */
    int64_t began_ns, ended_ns;   /* of the newest: when it came in, when it was given back; monotonic */
};
struct be_fault_seen be_fault_seen(const struct be *be, enum be_kind kind);
unsigned be_fault_calls(const struct be *be, enum be_kind kind); /* how many were made so far */
