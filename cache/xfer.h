/* One transfer: what brings one key to its desired content. Private to upload.c, parts.c and commit.c.
 *
 *   prepare → (head of target, head of source, hydrate, hash) → plan → fill → commit row → request → verify → done
 *
 * Runs as short jobs on the workers; between them nothing but the requests in flight holds it. The slot points at it (k->x)
 * until xfer_end. Fields are the transfer's own, touched by one job at a time, but those marked L: cache lock. */
#pragma once

#include "internal.h"

struct gather;

enum part_state { PART_PLANNED, PART_FILLING, PART_FILLED, PART_SENDING, PART_DONE };

struct part_job {
    struct work w;
    struct xfer *x;
    unsigned idx;
    struct plan_part part; /* the plan's list may grow and move meanwhile */
    enum part_state state; /* L */
    bool verify;  /* the server has a part of that number: send it only if its MD5 differs */
    uint8_t *buf;
    uint64_t len;
    uint8_t md5[16];
    uint64_t crc;
    unsigned tries;
    uint64_t spool_id;     /* of a stream's bytes, to be punched */
    struct be_part op;
};

struct xfer {
    struct work w;
    void (*next)(struct xfer *x); /* what the job does */
    struct cache *c;
    struct cident *id;
    struct ckey *k;     /* pinned */
    struct cfile *f;    /* ref; NULL for a DELETE */
    uint64_t gen;
    bool absent, move;
    bool meta_dirty, meta_explicit, meta_removed, mtime_implicit, moved; /* the file's, when it began */
    bool time_set, time_again; /* likewise, of a real directory: nobody knows what time it has by now */
    bool meta_stale;    /* the upload was begun with other metadata: an update is to follow its commit */
    bool called_off;    /* L: content was superseded before the commit request */
    bool resolving;     /* UNKNOWN: only looks */
    bool stray;         /* the request was repeated, and the first may still arrive */
    bool found;         /* and found that the lost request had arrived */
    bool ended;         /* L: the slot's state is settled; only the transfer itself is to go */
    bool committing;    /* L: all parts are there; nothing is added */
    bool waiting_commit; /* L: all is ready, but somebody still reads what would be replaced */
    bool big;
    bool stream;        /* parts of a file that is still written (L: grows) */
    uint64_t part_max;  /* of a stream: no part is larger, see stream_tag */
    unsigned outstanding; /* L: requests and jobs in flight */
    bool failed;        /* L: first failure is in err; ends when nothing is outstanding */
    struct errinfo err;
    bool local_failed;
    struct cident *refused_by; /* L: the remote err is from; NULL: the target */

    struct extent_map map; /* snapshot */
    uint64_t spool_id;     /* of its LOCAL bytes */
    struct extent_source *snap_base; /* ref: what BASE extents of the snapshot mean, whatever becomes of the file */
    struct extent_source *whole; /* ref: the one whole object it copies */
    struct extent_source *base;  /* ref: the committed version whose parts the plan copies */
    struct jledger led;    /* the ledger's line of the base, when valid */
    bool has_led;
    struct buf segments;   /* parts of the base: {size, MD5} each, host order (rules D8) */
    size_t segment;        /* how many are compared */
    uint64_t segment_off;
    struct kvlist meta;    /* what the object is to carry */
    struct kvlist src_meta;
    bool have_src_meta;
    bool md5_known, md5_inherited;
    uint8_t md5[16];
    bool headed_target, headed_source;
    struct plan plan;
    bool content_verified;

    uint8_t *buf;          /* PUT */
    uint64_t mem;          /* L: of the budget, held for buf */
    struct gather *gather;

    struct part_job **parts; /* L: growing for streams */
    unsigned n_parts, next_part, done_parts, in_flight_parts; /* L */
    bool hash_whole;       /* the whole-file MD5 comes from the parts, in order */
    bool hashing;          /* L */
    unsigned hash_next;    /* L */
    struct digest_md5 md5_run;
    bool mem_waiting;      /* L: in cache.mem_waiters */
    struct xfer *mem_next;
    struct be_part_id *ids; /* commit */
    uint64_t hash_pos;     /* hash pass over LOCAL bytes */

    struct be_stat stat;
    struct be_write write;
    struct be_copy copy;
    struct be_remove remove;
    char if_match[BE_ETAG_MAX]; /* what a request in flight borrows: the slot may be given another wish meanwhile */
    struct be_mp mp;
    struct be_commit commit;
    struct be_parts list;
    struct be_object result;
};

/* Runs fn on a worker. */
void xfer_next(struct xfer *x, void (*fn)(struct xfer *x));
/* Counts one more thing in flight / one less; the last one ends a failed or called-off transfer. Locked. */
void xfer_hold(struct xfer *x);
void xfer_drop(struct xfer *x);
/* First failure wins. Locked. */
void xfer_fail(struct xfer *x, const struct errinfo *err);
int64_t xfer_backoff(unsigned tries); /* ns after so many failures */
bool xfer_stopped(const struct xfer *x); /* locked: failed or called off */
struct be *xfer_source_be(struct cache *c, const struct extent_source *src); /* takes the lock; NULL: not mounted */
void memory_wait(struct xfer *x); /* locked: parts_wake when some came free */
bool memory_take(struct cache *c, uint64_t n); /* locked; false: wait */
void memory_give(struct cache *c, uint64_t n); /* locked */

/* ---- pause.c, locked ---- */
void pause_begins(struct xfer *x); /* at its start and end: of a paused remote only one runs */
void pause_ends(struct xfer *x);
void pause_blame(struct xfer *x, const struct be *be); /* whose refusal it is, when not the target's */
void pause_over(struct xfer *x, bool whole); /* a provider accepted what it sent: the key, or a part, which only ends a pause */
/* A refusal of the class that may be the remote's. True: it is paused, and the key is queued again (UNKNOWN stays so). False:
 * the key's own, nothing is done. */
bool pause_refused(struct xfer *x, const struct errinfo *err);

void xfer_prepare(struct xfer *x);   /* facts, then the plan; may be entered again after each step below */
/* Whether what makes the new version can depend on the old one (BE_CAP_IF_MATCH or BE_CAP_IF_ABSENT). */
static inline bool xfer_takes_condition(const struct xfer *x, uint32_t cap)
{
    return (x->id->caps & cap) && !(x->plan.action == PLAN_MULTIPART && (x->id->caps & BE_CAP_MP_NO_CONDITION));
}
bool xfer_meta_is(const struct xfer *x, const struct kvlist *there); /* whether an object's metadata is what x is to give it */
void xfer_make_plan(struct xfer *x);
bool xfer_step_stopped(struct xfer *x); /* takes the lock; true: the step's hold is given up, go no further */
void xfer_fail_and_drop(struct xfer *x, const struct errinfo *err); /* takes the lock; x may be gone after it */

/* ---- bytes.c ---- */
void bytes_hash(struct xfer *x);    /* whole-file MD5 of LOCAL bytes, then xfer_make_plan */
bool bytes_compare(struct xfer *x); /* rules D8; true when started: then xfer_make_plan comes again */
void bytes_hydrate(struct xfer *x); /* REMOTE bytes to the spool, then xfer_prepare */

/* ---- parts.c ---- */

/* Fills buf with [off, off+len) of the transfer's content; done on a worker with 0 or -errno and err. GETs carry the pinned
 * version. `live`: LOCAL bytes of a file still being written. */
struct gather {
    struct xfer *x;
    uint8_t *buf;
    void (*done)(struct gather *g);
    void *owner;
    struct be_read *reads;
    unsigned n_reads;
    unsigned pending; /* L */
    int status;
    struct errinfo err;
    struct be_object object; /* of the last read */
    struct kvlist meta;      /* of the first read */
};
void gather_start(struct gather *g, uint64_t off, uint64_t len);
void gather_fini(struct gather *g);

void parts_begin(struct xfer *x);      /* plan is MULTIPART, or stream */
void parts_pump_locked(struct xfer *x);
void parts_free(struct xfer *x);
void parts_wake(struct xfer *x);       /* memory came free, or a stream grew; locked */

/* ---- commit.c ---- */
/* "md5(part md5s)-N" of the upload's parts; false when not every part's etag is its MD5. */
bool composite_of_upload(const struct ckey *k, unsigned n_parts, char ret[48]);
bool combined_crc(const struct ckey *k, unsigned n_parts, uint64_t *ret); /* false when a part has none */
void commit_begin(struct xfer *x);     /* everything is at hand: the row, then the request */
void commit_retry_locked(struct xfer *x); /* a reader went: look again */
void resolve_begin(struct xfer *x);    /* UNKNOWN */
void xfer_refresh_source(struct xfer *x); /* learns the source's present version after a precondition failed */
void xfer_finish_skip(struct xfer *x, const char *why);
void upload_tag(const struct xfer *x, char ret[64]);
