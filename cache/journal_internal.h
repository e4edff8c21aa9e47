/* What the journal's own files share: journal.c (transactions, the writer thread), journal_read.c (readers),
 * journal_schema.c (connections, schema, migration). Nobody else includes this. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "errinfo.h"
#include "journal.h"
#include "sync.h"

struct sqlite3;
struct sqlite3_stmt;

/* Bounds of what is written and of what is believed when read back. A transaction beyond them fails with -EINVAL, a row
 * beyond them does not parse: what was accepted can always be loaded again. */
#define J_KEY_MAX ((size_t)65536)
#define J_NAME_MAX ((size_t)4096)       /* upload ids, counters, marks */
#define J_TEXT_MAX ((size_t)1 << 20)    /* metadata, errors, attachments, identities */
#define J_EXTENTS_MAX ((size_t)1 << 27) /* about two million extents */
#define J_HASH_MAX ((size_t)1024)
#define J_SEGMENTS_MAX ((size_t)4 << 20)
#define J_SEQ_MAX (INT64_C(1) << 62) /* leaves room to count on from any row that is believed */

#define J_MARK_SEQ "seq_reserved"
#define J_MARK_SPOOL "spool_id_reserved"

/* --- journal_schema.c --- */

enum jdb_mode { JDB_WRITER, JDB_READER, JDB_READONLY };

/* Opens DIR/journal.db and sets the connection up; does not look at its contents beyond checking that it is a journal
 * of a version this program knows (-EPROTO when newer, -EBADMSG when it is something else). JDB_WRITER creates and
 * migrates. */
int jdb_open(const char *dir, enum jdb_mode mode, struct sqlite3 **ret_db, struct errinfo *reterr);
void jdb_close(struct sqlite3 *db); /* statements are finalised before; NULL is fine */
/* -errno for a result code: -ENOSPC, -ENOMEM, -EBADMSG (damaged), -EBUSY, else -EIO; 0 for OK, ROW and DONE. Looks
 * at errno for I/O errors: to be asked right after the call, before which errno was cleared. */
int jdb_errno(int rc);
/* Fills reterr with what SQLite says; returns jdb_errno. */
int jdb_error(struct sqlite3 *db, int rc, struct errinfo *reterr, const char *what);
int jdb_exec(struct sqlite3 *db, const char *sql); /* 0 or -errno */
int jdb_prepare(struct sqlite3 *db, const char *sql,
                struct sqlite3_stmt **ret_st); /* 0 or -errno */

/* step i leads from version i to i + 1; tests pass their own. */
int jdb_migrate(struct sqlite3 *db, const char *dir, const char *const *steps, unsigned n_steps,
                struct errinfo *reterr);

/* --- journal_tx.c --- */

enum jop_kind {
    JOP_INTENT_PUT,
    JOP_INTENT_DELETE,
    JOP_PART_PUT,
    JOP_PARTS_DELETE,
    JOP_LEDGER_PUT,
    JOP_LEDGER_DELETE,
    JOP_LEDGER_SEEN,
    JOP_SEGMENTS_PUT,
    JOP_ABORT_PUT,
    JOP_ABORT_DELETE,
    JOP_ATTACH_PUT,
    JOP_ATTACH_DELETE,
    JOP_COUNTER_ADD,
    JOP_MARK_PUT,
    JOP_MARK_TEXT,
    JOP_REMOTE_ADD,
    JOP_BEGIN, /* the writer's own, in no transaction */
    JOP_COMMIT,
    JOP_KINDS
};

struct jsegments {
    const char *etag;
    const void *data;
    size_t len;
};

struct jop {
    struct jop *next;
    enum jop_kind kind;
    uint32_t remote;
    const char *key; /* or dir, name, identity */
    const void *row; /* by kind: the struct, its pointers leading into the same memory */
};

struct jledger_row {
    struct jledger l;
    const char *meta, *src_key; /* instead of the ones in l, which owns its strings */
};

struct jseen {
    const char *etag;
    uint64_t size;
    int64_t mtime_ns;
};

/* Memory is taken from the front of the last block and given back all at once. */
struct jblock {
    struct jblock *prev;
    size_t used, size;
    _Alignas(max_align_t) char bytes[];
};
#define J_BLOCK_FIRST                                                                              \
    ((size_t)1536) /* an intent with its strings, a ledger row, a few small things */

struct jtx {
    struct jtx *next; /* in the queue */
    struct jop *ops, **tail;
    struct jblock *last; /* blocks after the first, which is inside this struct */
    size_t bytes;
    int invalid; /* -EINVAL once something beyond the bounds was put in: then nothing of it is written */
    unsigned flags;
    uint64_t ticket; /* rises with every submit */
    void (*done)(void *ctx, int status);
    void *ctx;
    size_t used;
    _Alignas(max_align_t) char first[J_BLOCK_FIRST];
};

void jtx_mark_text(struct jtx *tx, const char *name, const char *text);
void jtx_remote_add(struct jtx *tx, const char *identity);

/* --- journal.c --- */

struct jreader;

enum { J_LEDGER_SLOTS = 1024 };

struct journal {
    unsigned magic;
    char *dir;
    bool readonly;
    bool boot_differs;
    char *boot_id; /* of this boot; "" when the kernel does not tell */

    /* Of the thread that writes, after journal_open. */
    struct sqlite3 *db;
    struct sqlite3_stmt **stmts;
    int wal_fd;
    bool unsynced;     /* commits since the last fdatasync */
    int wal_pages;     /* frames in the log after the last commit */
    int checkpoint_at; /* frames at which the next checkpoint is tried */
    struct jtx *backlog,
        **backlog_tail; /* told to have failed, still to be written; before all others */
    size_t backlog_bytes;
    uint64_t seq_reserved, spool_reserved; /* as committed */
    uint64_t seq_seen, spool_seen;         /* highest of the batch being written */

    bool helped;                           /* it is not the writer's own */
    bool begun;                            /* the transaction is open already */

    struct mutex lock; /* queue, stop, tickets, who writes */
    struct cond wake;
    struct jtx *head, **tail;
    unsigned queued;
    bool durable_queued; /* one of them is JTX_DURABLE */
    bool called;         /* the writer's thread was, since the queue was taken last */
    bool writing;
    bool stop;
    uint64_t submitted; /* ticket of the last transaction */
    uint64_t visible;   /* readers see all up to this one, or it was told to have failed */
    struct cond seen;   /* visible grew */
    unsigned seers;     /* waiting for it */
    /* Of the last change of a ledger line or its segments whose key falls into this slot: who reads it waits for that. */
    uint64_t ledger_at[J_LEDGER_SLOTS];
    bool started; /* constant after open: there is a thread */
    pthread_t thread;
    atomic_int failed; /* 0, or the sticky -errno; set by the writer only */
    atomic_bool full;  /* there is a backlog; set by the writer only */

    struct mutex readers_lock; /* the three below */
    struct cond reader_free;
    struct jreader *readers; /* idle ones */
    unsigned n_readers;      /* idle and lent */
};
#define JOURNAL_MAGIC 0x0a0b1099u

/* Waits until what was submitted about a key's ledger line (NULL: about any) can be read. Not for long: a batch. */
void journal_catch_up(struct journal *j, uint32_t remote, const char *key);

/* --- journal_read.c --- */

void jread_init(struct journal *j);
void jread_fini(struct journal *j);                         /* every reader is idle */
int jread_check(struct journal *j, struct errinfo *reterr); /* can a reader be opened? */
int jread_remote_id(struct journal *j, const char *identity,
                    uint32_t *ret_id);                             /* -ENOENT: unknown */
int jread_mark(struct journal *j, const char *name, int64_t *ret); /* 0 or -errno, -ENOENT */
/* The row's text form of an error, and back. NULL when it does not parse. */
char *jerr_format(const struct errinfo *e);
bool jerr_parse(const char *text, struct errinfo *ret);

/* Bits of the flags columns. */
enum {
    JI_ABSENT = 1 << 0,
    JI_SEALED = 1 << 1,
    JI_HYDRATE = 1 << 2,
    JI_MOVE = 1 << 3,
    JI_UNFINISHED = 1 << 4,
    JI_ALL = (1 << 5) - 1
};
enum { JL_OURS = 1 << 0, JL_MD5_INHERITED = 1 << 1, JL_VERIFIED = 1 << 2, JL_ALL = (1 << 3) - 1 };
