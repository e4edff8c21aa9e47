/* The journal: one SQLite database (WAL) a cache directory, one writer at a time, with group commit.
 *
 * A transaction is built by its caller, submitted, and its done() runs once it is committed, on the journal's thread or
 * in journal_help; in submission order; many transactions share one SQLite commit: whatever queued meanwhile, never a timer. Committed
 * means safe against kill -9; with JTX_DURABLE also fsynced (once a batch) before done, together with everything
 * submitted earlier. done() must be short, may reply to a FUSE request or submit work, and may not wait.
 *
 * When a batch cannot be written, done of each of its transactions gets
 *   -ENOSPC  no room on the disk (-ENOMEM no memory, -EBUSY another program holds the database): not safe yet. The
 *            journal keeps the transactions and writes them, in order, before any later one, by itself once a second
 *            and with every submit: so a later done(0) always means that everything submitted before it is recorded
 *            too. journal_full says that some are waiting. They are lost only by a kill before there is room.
 *   -EIO     anything else, or more than 128 MiB waiting. From then on the journal is failed for good: every later
 *            submit gets -EIO and nothing is written any more.
 * So a failure never means "certainly not recorded": it is shown as an error, and state goes on from it in memory. A
 * transaction with a field beyond the journal's bounds (no key, remote 0, key over 64 KiB, a size above 2^63-1, a
 * state that does not exist …) gets -EINVAL alone; the others of its batch are written.
 *
 * Readers use their own connections; short transactions; any thread but the engine's and the journal's. A callback of
 * a reader may call every function of this header except journal_close, and may wait in journal_flush. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "buf.h"
#include "errinfo.h"

struct journal;
struct jtx;

/* The desired content of one key: at most one row a key. */
struct jintent {
    uint32_t remote;
    const char *key;
    uint64_t seq;        /* order of acceptance over all keys; rises; kept when a row is replaced by its own successor */
    uint64_t gen;        /* of the content */
    int state;           /* enum file_state */
    bool absent;         /* DELETE */
    bool sealed;
    bool hydrate;        /* its REMOTE bytes must come to the spool first (rules B4) */
    bool move;           /* a DELETE that belongs to a rename: conditional on expect_etag */
    bool unfinished;     /* was open at a crash: never committed by itself */
    uint64_t spool_id;   /* 0 = no spool file */
    uint64_t size;
    const char *extents; /* extent_format text; "" when absent */
    const char *meta;    /* kv_format text: the whole desired metadata */
    unsigned meta_flags; /* the caller's, kept as it is */
    bool has_md5;
    uint8_t md5[16];
    const char *base_etag; /* "" = there was none */
    uint64_t base_size;
    const char *expect_etag; /* move: the version that was moved */
    uint64_t after_remote; /* absent: the copy that must be verified first; content: whose upload has its parts; 0 = none */
    const char *after_key;
    const char *upload_id; /* "" = none; "?" and the time = INITIATING: begun, id not known */
    const char *sent_extents; /* extent_format text of that; "" = as `extents`, or nothing of the version it replaces */
    const char *sent;      /* COMMITTING, UNKNOWN: what went out, as commit.c writes it; "" = nothing */
    const char *upload_tag; /* content the upload was begun for (extent text) */
    uint64_t part_size;
    int64_t changed_ns;  /* wall: last change; sealed files: time of sealing */
    const struct errinfo *err; /* BLOCKED, CONFLICT, or the last transient one; NULL = none */
};

struct jpart {
    unsigned number;
    uint64_t size;
    const char *etag;
    bool has_crc64;
    uint64_t crc64;
    uint8_t md5[16];      /* of the part's bytes; zeros for copied parts */
    const void *hash_state; /* running whole-file MD5 after this part (digest export), NULL when not kept */
    size_t hash_state_len;
};

/* What the provider holds under a key, as far as we know: written or copied by us (ours), or looked up. */
struct jledger {
    uint32_t remote;
    char *key;
    char etag[BE_ETAG_MAX];
    uint64_t size;
    int64_t mtime_ns;   /* Last-Modified as first listed after the commit; 0 = not yet seen */
    bool ours, has_md5, md5_inherited, has_crc64;
    uint8_t md5[16];
    uint64_t crc64;
    bool content_verified; /* a checksum of every byte; false = assembly only (rules D3) */
    char *meta;         /* kv_format text */
    uint32_t src_remote; /* 0 = no source */
    char *src_key;
    char src_etag[BE_ETAG_MAX];
    uint64_t src_size;
    int64_t src_mtime_ns;
    int64_t done_wall_ns;
};
void jledger_fini(struct jledger *l);

struct jattach {
    const char *dir, *spec, *remote, *prefix, *options;
};

/* dir must exist. Creates, checks user_version (newer: -EPROTO with a clear message; older: backup, then one migrating
 * transaction). Takes no lock on the directory: the caller holds the flock. */
int journal_open(const char *dir, struct journal **ret, struct errinfo *reterr);
/* Read only, no writer thread, works beside a running daemon or without one: for `objmig status --cache`. -ENOENT: there is
 * none, or an empty one; -ESTALE: of an older version, which the next journal_open brings up to date. */
int journal_open_readonly(const char *dir, struct journal **ret, struct errinfo *reterr);
/* Reads the whole file and tells of each damage found in it, at most ten. 0 also then. */
int journal_check(struct journal *j, void (*fn)(void *ctx, const char *damage), void *ctx);
void journal_close(struct journal *j); /* commits what is queued; NULL is fine; nobody submits any more */

/* The machine was started anew since the last settled use of this journal (or that cannot be told): what was not
 * fsynced may be lost. Stays so, also over further crashes, until the recovery that deals with it is over and says
 * so. */
bool journal_previous_boot_differs(const struct journal *j);
int journal_boot_settled(struct journal *j); /* synchronous, durable */

/* The id of an identity, made if new. Synchronous; start-up and attach only. */
int journal_remote_id(struct journal *j, const char *identity, uint32_t *ret_id, struct errinfo *reterr);
int journal_remote_identity(struct journal *j, uint32_t id, char **ret_identity);

enum {
    JTX_DURABLE = 1,
    JTX_HELPED = 2, /* the caller's thread calls journal_help as soon as it holds no lock */
};
struct jtx *jtx_new(void);
void jtx_free(struct jtx *tx); /* only when not submitted */
bool jtx_empty(const struct jtx *tx);
/* Everything is copied into the transaction. */
void jtx_intent_put(struct jtx *tx, const struct jintent *row);
void jtx_intent_delete(struct jtx *tx, uint32_t remote, const char *key); /* its parts go too */
void jtx_part_put(struct jtx *tx, uint32_t remote, const char *key, const struct jpart *part);
void jtx_parts_delete(struct jtx *tx, uint32_t remote, const char *key);
void jtx_ledger_put(struct jtx *tx, const struct jledger *row);
void jtx_ledger_delete(struct jtx *tx, uint32_t remote, const char *key);
/* Fills mtime_ns of a ledger row whose etag and size are these and whose mtime_ns is 0. */
void jtx_ledger_seen(struct jtx *tx, uint32_t remote, const char *key, const char *etag, uint64_t size,
                     int64_t mtime_ns);
/* Sizes and MD5s of the parts a committed version was uploaded in (rules D8): data as the caller packs it. */
void jtx_segments_put(struct jtx *tx, uint32_t remote, const char *key, const char *etag, const void *data, size_t len);
/* Uploads that are to be aborted, until they are: also over a restart. */
void jtx_abort_put(struct jtx *tx, uint32_t remote, const char *key, const char *upload_id);
void jtx_abort_delete(struct jtx *tx, uint32_t remote, const char *key, const char *upload_id);
void jtx_attach_put(struct jtx *tx, const struct jattach *a);
void jtx_attach_delete(struct jtx *tx, const char *dir);
void jtx_counter_add(struct jtx *tx, const char *name, int64_t delta); /* totals for status, kept over restarts */
/* A number under a name, the last one put wins: e.g. when the spool was last synced. */
void jtx_mark_put(struct jtx *tx, const char *name, int64_t value);
/* Takes tx over. done may be NULL. */
void journal_submit(struct journal *j, struct jtx *tx, unsigned flags,
                    void (*done)(void *ctx, int status), void *ctx);
/* After a submit with JTX_HELPED: writes what is queued on this thread, if that takes no disk and no other thread is at
 * it; else the journal's thread does. Runs done()s; no lock may be held. */
void journal_help(struct journal *j);
/* Waits until everything submitted before is committed (and fsynced when durable). Not on FUSE, engine, journal
 * threads. */
int journal_flush(struct journal *j, bool durable);
bool journal_failed(const struct journal *j); /* for good */
bool journal_full(const struct journal *j);   /* transactions wait for room: degraded, may pass */

int journal_mark_get(struct journal *j, const char *name, int64_t *ret); /* 0 or -errno, -ENOENT */

/* Start-up: every intent in seq order, with its parts ascending. Borrowed for the call. A row that does not parse is
 * given with state -1 for the caller to report, its fields as far as they parse; never skipped. fn's result other
 * than 0 ends the walk and is returned, here and in all that follow. */
int journal_each_intent(struct journal *j,
                        int (*fn)(void *ctx, const struct jintent *row, const struct jpart *parts, size_t n_parts),
                        void *ctx);
int journal_each_abort(struct journal *j,
                       int (*fn)(void *ctx, uint32_t remote, const char *key, const char *upload_id), void *ctx);
/* Of exactly this version: 1 found (appended to ret_data), 0 not, or -errno. */
int journal_segments_get(struct journal *j, uint32_t remote, const char *key, const char *etag, struct buf *ret_data);
int journal_each_attach(struct journal *j, int (*fn)(void *ctx, const struct jattach *a), void *ctx);
int journal_counters(struct journal *j, int (*fn)(void *ctx, const char *name, int64_t value), void *ctx);

/* 1 found (caller owns: jledger_fini), 0 not, or -errno. Sees what was submitted about the key before the call, and waits for
 * it if need be; the same holds for journal_ledger_range and journal_segments_get. A ledger row that does not parse counts as
 * absent: the provider is asked again. */
int journal_ledger_get(struct journal *j, uint32_t remote, const char *key, struct jledger *ret);
/* Every row with from <= key < to ("" = no end), in key order. The row is borrowed. Read in pages: rows that come or go
 * during the call may be seen or not. */
int journal_ledger_range(struct journal *j, uint32_t remote, const char *from, const char *to,
                         int (*fn)(void *ctx, const struct jledger *row), void *ctx);
/* At or above every number ever put, also of rows that are gone: give out from here + 1 and none is used twice. */
uint64_t journal_max_seq(struct journal *j);
uint64_t journal_max_spool_id(struct journal *j);
