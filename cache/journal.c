/* The thread that writes transactions; opening and closing.
 *
 * The queue is a list; the writer takes all of it, writes it as one SQLite transaction, fsyncs once if one of the
 * batch asked for it, and calls every done in order of submission. While it does so the next batch gathers, so the
 * batch grows with the load and a lone transaction never waits for company.
 *
 * A thread that submitted with JTX_HELPED may do the writer's work for one batch (journal_help), when nobody writes and
 * nothing in it needs the disk: two thread switches less for each file of a serial cp. Who writes has `writing` set.
 *
 * Guarantees
 *   - done(0) ran ⇒ the rows are found after kill -9 (written to the log file, which the kernel keeps); for
 *     JTX_DURABLE, and for everything submitted before such a one, also after a power cut.
 *   - Rows become visible in submission order; a crash keeps a prefix of that order.
 *   - done runs exactly once for every submit, in order, on the thread that writes, also when the journal has failed.
 *
 * Durability of one batch: fdatasync of the log through our own descriptor. The other way, synchronous=FULL for that
 * batch, syncs nothing when the batch changes nothing, while a barrier must cover the commits before it; and it could
 * not say whether the sync or the commit failed. The descriptor stays open from before the first frame, so a
 * write-back error between two syncs reaches it; and it stays right, since the log is only ever truncated in place
 * while we are connected and SQLite takes no locks on it that closing a descriptor could drop. A fresh log's
 * directory entry is fsynced once, in journal_open; SQLite removes the log only when the last connection closes,
 * after a synced checkpoint.
 *
 * Failures. Full disk: the SQLite transaction is rolled back; if a checkpoint can empty the log, its blocks are
 * reused and the batch is written again. Else its transactions are told -ENOSPC and kept as the backlog, which goes
 * first in every later attempt: journal and memory then never part for good, and an empty transaction is a barrier
 * also across such a time. Anything else, and any failed fsync (the kernel drops what it could not write), is sticky:
 * nothing is written any more. A commit that failed half-way may have left whole frames in the log: the next commit
 * overwrites them, but a kill before it brings them back.
 *
 * Locks: journal.lock guards the queue and is never held over SQLite. The connection, its statements and
 * the backlog belong to who set `writing`. */
#include "journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kill.h"
#include "log.h"
#include "mem.h"

#define BATCH_TX 8192 /* bounds how long a done can wait for the rest of its batch */
#define BATCH_BYTES ((size_t)8 << 20)
#define CHECKPOINT_PAGES 4096 /* 16 MiB of log */
#define CHECKPOINT_AGAIN 1024 /* more frames before the next try when a reader was in the way */
#define WAL_MAX_BYTES ((off_t)64 << 20)
#define TRUNCATE_WAIT_MS 50 /* how long the writer waits for readers to get off the log */
#define BACKLOG_MAX ((size_t)128 << 20)
#define BACKLOG_RETRY_NS INT64_C(1000000000)
#define BUSY_MS 10000 /* how long the writer waits for who holds the database */
#define HELP_TX 16u /* more are the writer thread's business */
#define RESERVE 65536 /* sequence numbers and spool ids set aside at a time */

static const char *const sql[JOP_KINDS] = {
    [JOP_BEGIN] = "BEGIN IMMEDIATE",
    [JOP_COMMIT] = "COMMIT",
    [JOP_INTENT_PUT] =
        "INSERT INTO intent(remote, key, seq, gen, state, flags, spool_id, size, changed_ns, md5, base_etag,"
        " base_size, expect_etag, after_remote, after_key, upload_id, part_size, err, meta, extents, upload_tag,"
        " meta_flags, sent, sent_extents)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)"
        " ON CONFLICT(remote, key) DO UPDATE SET seq=?3, gen=?4, state=?5, flags=?6, spool_id=?7, size=?8,"
        " changed_ns=?9, md5=?10, base_etag=?11, base_size=?12, expect_etag=?13, after_remote=?14,"
        " after_key=?15, upload_id=?16, part_size=?17, err=?18, meta=?19, extents=?20, upload_tag=?21, meta_flags=?22, sent=?23,"
        " sent_extents=?24",
    [JOP_INTENT_DELETE] = "DELETE FROM intent WHERE remote=?1 AND key=?2",
    [JOP_PART_PUT] =
        "INSERT OR REPLACE INTO part(remote, key, number, size, etag, crc64, md5, hash_state)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [JOP_PARTS_DELETE] = "DELETE FROM part WHERE remote=?1 AND key=?2",
    [JOP_LEDGER_PUT] =
        "INSERT OR REPLACE INTO ledger(remote, key, etag, size, mtime_ns, flags, md5, crc64, src_remote,"
        " src_key, src_etag, src_size, src_mtime_ns, done_wall_ns, meta)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    [JOP_LEDGER_DELETE] = "DELETE FROM ledger WHERE remote=?1 AND key=?2",
    [JOP_LEDGER_SEEN] =
        "UPDATE ledger SET mtime_ns=?3 WHERE remote=?1 AND key=?2 AND etag=?4 AND size=?5 AND mtime_ns=0",
    [JOP_SEGMENTS_PUT] = "INSERT OR REPLACE INTO segments(remote, key, etag, data) VALUES(?1, ?2, ?3, ?4)",
    [JOP_ABORT_PUT] = "INSERT OR REPLACE INTO abort(remote, key, upload_id) VALUES(?1, ?2, ?3)",
    [JOP_ABORT_DELETE] = "DELETE FROM abort WHERE remote=?1 AND key=?2 AND upload_id=?3",
    [JOP_ATTACH_PUT] = "INSERT OR REPLACE INTO attach(dir, spec, remote, prefix, options)"
                       " VALUES(?1, ?2, ?3, ?4, ?5)",
    [JOP_ATTACH_DELETE] = "DELETE FROM attach WHERE dir=?1",
    [JOP_COUNTER_ADD] = "INSERT INTO counter(name, value) VALUES(?1, ?2)"
                        " ON CONFLICT(name) DO UPDATE SET value=value+?2",
    [JOP_MARK_PUT] = "INSERT OR REPLACE INTO mark(name, value) VALUES(?1, ?2)",
    [JOP_MARK_TEXT] = "INSERT OR REPLACE INTO mark(name, value) VALUES(?1, ?2)",
    [JOP_REMOTE_ADD] = "INSERT INTO remote(identity) VALUES(?1) ON CONFLICT(identity) DO NOTHING",
};

static _Thread_local const struct journal *writer_of; /* this thread writes: for good, or for one batch */

/* --- writing: by who set `writing` --- */

/* Binding fails only for a bad index or out of memory; the step after it then reports. Strings live until the batch is
 * over. */
static void bind_text(struct sqlite3_stmt *st, int i, const char *s)
{
    (void)sqlite3_bind_text(st, i, s, -1, SQLITE_STATIC);
}

static void bind_key(struct sqlite3_stmt *st, int i, const char *s)
{
    (void)sqlite3_bind_blob(st, i, s, (int)strlen(s), SQLITE_STATIC);
}

static void bind_bytes(struct sqlite3_stmt *st, int i, const void *p, size_t n)
{
    if (p) {
        (void)sqlite3_bind_blob(st, i, p, (int)n, SQLITE_STATIC);
    } else {
        (void)sqlite3_bind_null(st, i);
    }
}

static void bind_int(struct sqlite3_stmt *st, int i, int64_t v)
{
    (void)sqlite3_bind_int64(st, i, v);
}

static void bind_intent(struct sqlite3_stmt *st, const struct jintent *r)
{
    int flags = (r->absent ? JI_ABSENT : 0) | (r->sealed ? JI_SEALED : 0) |
                (r->hydrate ? JI_HYDRATE : 0) | (r->move ? JI_MOVE : 0) |
                (r->unfinished ? JI_UNFINISHED : 0);
    bind_int(st, 3, (int64_t)r->seq);
    bind_int(st, 4, (int64_t)r->gen);
    bind_int(st, 5, r->state);
    bind_int(st, 6, flags);
    bind_int(st, 7, (int64_t)r->spool_id);
    bind_int(st, 8, (int64_t)r->size);
    bind_int(st, 9, r->changed_ns);
    bind_bytes(st, 10, r->has_md5 ? r->md5 : NULL, sizeof(r->md5));
    bind_text(st, 11, r->base_etag);
    bind_int(st, 12, (int64_t)r->base_size);
    bind_text(st, 13, r->expect_etag);
    bind_int(st, 14, (int64_t)r->after_remote);
    bind_key(st, 15, r->after_key);
    bind_text(st, 16, r->upload_id);
    bind_text(st, 21, r->upload_tag);
    bind_int(st, 22, (int64_t)r->meta_flags);
    bind_text(st, 23, r->sent);
    bind_text(st, 24, r->sent_extents);
    bind_int(st, 17, (int64_t)r->part_size);
    if (r->err) {
        (void)sqlite3_bind_text(st, 18, jerr_format(r->err), -1, free);
    } else {
        (void)sqlite3_bind_null(st, 18);
    }
    bind_text(st, 19, r->meta);
    bind_text(st, 20, r->extents);
}

static void bind_part(struct sqlite3_stmt *st, const struct jpart *r)
{
    bind_int(st, 3, r->number);
    bind_int(st, 4, (int64_t)r->size);
    bind_text(st, 5, r->etag);
    if (r->has_crc64) {
        bind_int(st, 6, (int64_t)r->crc64);
    } else {
        (void)sqlite3_bind_null(st, 6);
    }
    bind_bytes(st, 7, r->md5, sizeof(r->md5));
    bind_bytes(st, 8, r->hash_state, r->hash_state_len);
}

static void bind_ledger(struct sqlite3_stmt *st, const struct jledger_row *row)
{
    const struct jledger *r = &row->l;
    int flags = (r->ours ? JL_OURS : 0) | (r->md5_inherited ? JL_MD5_INHERITED : 0) |
                (r->content_verified ? JL_VERIFIED : 0);
    bind_text(st, 3, r->etag);
    bind_int(st, 4, (int64_t)r->size);
    bind_int(st, 5, r->mtime_ns);
    bind_int(st, 6, flags);
    bind_bytes(st, 7, r->has_md5 ? r->md5 : NULL, sizeof(r->md5));
    if (r->has_crc64) {
        bind_int(st, 8, (int64_t)r->crc64);
    } else {
        (void)sqlite3_bind_null(st, 8);
    }
    bind_int(st, 9, r->src_remote);
    bind_key(st, 10, row->src_key);
    bind_text(st, 11, r->src_etag);
    bind_int(st, 12, (int64_t)r->src_size);
    bind_int(st, 13, r->src_mtime_ns);
    bind_int(st, 14, r->done_wall_ns);
    bind_text(st, 15, row->meta);
}

static int run(struct journal *j, struct sqlite3_stmt *st)
{
    errno = 0;
    int rc = sqlite3_step(st);
    int err = jdb_errno(rc);
    if (err < 0) {
        log_debug("journal", "write failed rc=%d error=\"%s\"", rc, sqlite3_errmsg(j->db));
    }
    (void)sqlite3_reset(st);
    return err;
}

static int write_op(struct journal *j, const struct jop *op)
{
    struct sqlite3_stmt *st = j->stmts[op->kind];
    switch (op->kind) {
    case JOP_ATTACH_PUT:
    case JOP_ATTACH_DELETE:
        bind_key(st, 1, op->key);
        break;
    case JOP_COUNTER_ADD:
    case JOP_MARK_PUT:
    case JOP_MARK_TEXT:
    case JOP_REMOTE_ADD:
        bind_text(st, 1, op->key);
        break;
    default:
        bind_int(st, 1, op->remote);
        bind_key(st, 2, op->key);
        break;
    }
    switch (op->kind) {
    case JOP_INTENT_PUT: {
        const struct jintent *row = op->row;
        j->seq_seen = MAX(j->seq_seen, row->seq);
        j->spool_seen = MAX(j->spool_seen, row->spool_id);
        bind_intent(st, row);
        break;
    }
    case JOP_PART_PUT:
        bind_part(st, op->row);
        break;
    case JOP_LEDGER_PUT:
        bind_ledger(st, op->row);
        break;
    case JOP_LEDGER_SEEN: {
        const struct jseen *seen = op->row;
        bind_int(st, 3, seen->mtime_ns);
        bind_text(st, 4, seen->etag);
        bind_int(st, 5, (int64_t)seen->size);
        break;
    }
    case JOP_SEGMENTS_PUT: {
        const struct jsegments *seg = op->row;
        bind_text(st, 3, seg->etag);
        bind_bytes(st, 4, seg->data, seg->len);
        break;
    }
    case JOP_ABORT_PUT:
    case JOP_ABORT_DELETE:
        bind_text(st, 3, op->row);
        break;
    case JOP_ATTACH_PUT: {
        const struct jattach *a = op->row;
        bind_text(st, 2, a->spec);
        bind_text(st, 3, a->remote);
        bind_key(st, 4, a->prefix);
        bind_text(st, 5, a->options);
        break;
    }
    case JOP_COUNTER_ADD:
    case JOP_MARK_PUT: {
        const int64_t *value = op->row;
        bind_int(st, 2, *value);
        break;
    }
    case JOP_MARK_TEXT:
        bind_text(st, 2, op->row);
        break;
    default:
        break;
    }
    return run(j, st);
}

/* Numbers are never given out twice, also not after their rows are gone: a mark runs ahead of them and is moved in the
 * transaction that would pass it. */
static int reserve(struct journal *j, const char *name, uint64_t seen, uint64_t *reserved)
{
    if (seen <= *reserved) {
        return 0;
    }
    int64_t next = (int64_t)MIN(seen + RESERVE, (uint64_t)J_SEQ_MAX);
    const struct jop op = {.kind = JOP_MARK_PUT, .key = name, .row = &next};
    int err = write_op(j, &op);
    if (err == 0) {
        *reserved = (uint64_t)next;
    }
    return err;
}

/* One SQLite transaction for the list first … end (exclusive). */
static int write_batch(struct journal *j, const struct jtx *first, const struct jtx *end)
{
    KILL_POINT("journal: before a batch");
    int err = j->begun ? 0 : run(j, j->stmts[JOP_BEGIN]);
    j->begun = false;
    j->seq_seen = 0;
    j->spool_seen = 0;
    for (const struct jtx *tx = first; tx != end && err == 0; tx = tx->next) {
        for (const struct jop *op = tx->invalid == 0 ? tx->ops : NULL; op && err == 0;
             op = op->next) {
            err = write_op(j, op);
        }
    }
    uint64_t seq = j->seq_reserved, spool = j->spool_reserved;
    if (err == 0) {
        err = reserve(j, J_MARK_SEQ, j->seq_seen, &seq);
    }
    if (err == 0) {
        err = reserve(j, J_MARK_SPOOL, j->spool_seen, &spool);
    }
    if (err == 0) {
        KILL_POINT("journal: before the commit");
        err = run(j, j->stmts[JOP_COMMIT]);
        KILL_POINT("journal: committed");
    }
    if (err < 0) {
        /* Some failures have rolled back by themselves. */
        if (!sqlite3_get_autocommit(j->db)) {
            (void)sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
        }
        return err;
    }
    j->seq_reserved = seq;
    j->spool_reserved = spool;
    j->unsynced = true;
    return 0;
}

/* After each commit: how long the log is now. */
static int on_commit(void *ctx, struct sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    struct journal *j = ctx;
    if (pages < j->wal_pages) {
        j->checkpoint_at = CHECKPOINT_PAGES; /* the log began anew */
    }
    j->wal_pages = pages;
    return SQLITE_OK;
}

static int checkpoint(struct journal *j, int mode)
{
    /* PASSIVE never waits; the others wait for readers, which are short. */
    (void)sqlite3_busy_timeout(j->db, TRUNCATE_WAIT_MS);
    errno = 0;
    int rc = sqlite3_wal_checkpoint_v2(j->db, NULL, mode, NULL, NULL);
    int err = jdb_errno(rc);
    (void)sqlite3_busy_timeout(j->db, BUSY_MS);
    if (err < 0) {
        log_debug("journal", "checkpoint failed mode=%d error=\"%s\"", mode, sqlite3_errmsg(j->db));
    }
    return err;
}

/* What may pass by itself. -EBUSY: somebody outside has held the database for ten seconds. */
static bool may_pass(int err)
{
    return err == -ENOSPC || err == -ENOMEM || err == -EBUSY;
}

static void fail(struct journal *j, int err)
{
    if (err < 0 && !may_pass(err)) {
        int none = 0;
        (void)atomic_compare_exchange_strong(&j->failed, &none, -EIO);
    }
}

static bool checkpoint_is_due(const struct journal *j)
{
    return j->wal_pages >= j->checkpoint_at && atomic_load(&j->failed) == 0 && !j->backlog;
}

static void maybe_checkpoint(struct journal *j)
{
    if (j->wal_pages < j->checkpoint_at) {
        return;
    }
    struct stat st;
    bool big = fstat(j->wal_fd, &st) == 0 && st.st_size > WAL_MAX_BYTES;
    int err = checkpoint(j, big ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE);
    /* Whatever it achieved: not again before the log has grown, so that a long reader costs no fsyncs a batch. */
    j->checkpoint_at = j->wal_pages + CHECKPOINT_AGAIN;
    if (err == 0 && big) {
        j->wal_pages = 0;
        j->checkpoint_at = CHECKPOINT_PAGES;
    }
    fail(j, err);
}

static int sync_log(struct journal *j)
{
    if (!j->unsynced) {
        return 0;
    }
    if (fdatasync(j->wal_fd) < 0) {
        log_debug("journal", "fdatasync failed errno=%d", errno);
        return -EIO; /* also for ENOSPC: what was in memory is gone */
    }
    j->unsynced = false;
    return 0;
}

/* Under the lock. The writer thread is called once for all that queues until it, or somebody, takes it. */
static void call_writer(struct journal *j)
{
    if (!j->called) {
        j->called = true;
        cond_signal(&j->wake);
    }
}

/* ---- who reads sees what was submitted before ---- */

static uint64_t *ledger_slot(struct journal *j, uint32_t remote, const char *key)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ remote; /* FNV-1a; what falls into one slot only waits for a batch in vain */
    for (; *key != '\0'; key++) {
        h = (h ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
    }
    return &j->ledger_at[h % J_LEDGER_SLOTS];
}

/* Under the lock. */
static void note_ledger(struct journal *j, const struct jtx *tx)
{
    for (const struct jop *op = tx->invalid == 0 ? tx->ops : NULL; op != NULL; op = op->next) {
        if (op->kind == JOP_LEDGER_PUT || op->kind == JOP_LEDGER_DELETE || op->kind == JOP_LEDGER_SEEN ||
            op->kind == JOP_SEGMENTS_PUT) {
            *ledger_slot(j, op->remote, op->key) = tx->ticket;
        }
    }
}

static void made_visible(struct journal *j, const struct jtx *first, const struct jtx *end)
{
    mutex_lock(&j->lock);
    for (const struct jtx *tx = first; tx != end; tx = tx->next) {
        j->visible = MAX(j->visible, tx->ticket); /* the backlog's have been already */
    }
    if (j->seers > 0) {
        cond_broadcast(&j->seen);
    }
    mutex_unlock(&j->lock);
}

void journal_catch_up(struct journal *j, uint32_t remote, const char *key)
{
    if (!j->started || writer_of == j) {
        return; /* nobody writes, or it is the writer who asks */
    }
    mutex_lock(&j->lock);
    uint64_t at = key != NULL ? *ledger_slot(j, remote, key) : j->submitted;
    j->seers++;
    if (j->visible < at && j->head) {
        call_writer(j);
    }
    while (j->visible < at) {
        cond_wait(&j->seen, &j->lock);
    }
    j->seers--;
    mutex_unlock(&j->lock);
}

/* Writes and syncs the transactions first … end (exclusive). 0, what may pass, or the sticky error. */
static int commit_batch(struct journal *j, const struct jtx *first, const struct jtx *end)
{
    bool durable = false, changes = false;
    for (const struct jtx *tx = first; tx != end; tx = tx->next) {
        durable = durable || (tx->flags & JTX_DURABLE) != 0;
        changes = changes || (tx->ops && tx->invalid == 0);
    }
    int err = atomic_load(&j->failed);
    if (err == 0 && changes) {
        err = write_batch(j, first, end);
        if (err == -ENOSPC && checkpoint(j, SQLITE_CHECKPOINT_RESTART) == 0) {
            err = write_batch(j, first, end);
        }
    }
    made_visible(j, first, end);
    if (err == 0 && durable) {
        err = sync_log(j);
        KILL_POINT("journal: synced");
    }
    fail(j, err);
    return err == 0 || may_pass(err) ? err : -EIO;
}

static void keep_for_later(struct journal *j, struct jtx *tx)
{
    tx->done = NULL; /* it has run */
    tx->next = NULL;
    *j->backlog_tail = tx;
    j->backlog_tail = &tx->next;
    j->backlog_bytes += sizeof(*tx) + tx->bytes;
}

static void end_batch(struct journal *j, struct jtx *first, const struct jtx *end, int status)
{
    if (may_pass(status)) {
        atomic_store(&j->full, true); /* before anybody is told */
    }
    while (first != end) {
        struct jtx *tx = first;
        first = tx->next;
        if (tx->done) {
            tx->done(tx->ctx, tx->invalid < 0 ? tx->invalid : status);
        }
        if (may_pass(status) && tx->ops && tx->invalid == 0) {
            keep_for_later(j, tx);
        } else {
            jtx_free(tx);
        }
    }
}

/* The backlog, then the list, in batches of bounded size. When one fails the rest is not tried: order is kept. */
static void run_list(struct journal *j, struct jtx *list)
{
    *j->backlog_tail = list;
    list = j->backlog;
    j->backlog = NULL;
    j->backlog_tail = &j->backlog;
    j->backlog_bytes = 0;
    int err = 0;
    while (list) {
        size_t n = 0, bytes = 0;
        struct jtx *end = list;
        while (end && n < BATCH_TX && bytes < BATCH_BYTES) {
            bytes += end->bytes;
            n++;
            end = end->next;
        }
        if (err == 0) {
            err = commit_batch(j, list, end);
        } else {
            made_visible(j, list, end);
        }
        end_batch(j, list, end, err);
        KILL_POINT("journal: told");
        if (err == 0 && !j->helped) {
            maybe_checkpoint(j);
        }
        list = end;
    }
    if (j->backlog_bytes > BACKLOG_MAX) {
        fail(j, -EIO);
    }
    atomic_store(&j->full, j->backlog != NULL);
}

/* Under the lock. All that is queued; the caller writes it, and nobody else writes until it says so. */
static struct jtx *take_queue(struct journal *j)
{
    struct jtx *list = j->head;
    j->head = NULL;
    j->tail = &j->head;
    j->queued = 0;
    j->durable_queued = false;
    j->called = false;
    j->writing = true;
    return list;
}

static void *writer_main(void *arg)
{
    struct journal *j = arg;
    CHECK_MAGIC(j, JOURNAL_MAGIC);
    writer_of = j;
    mutex_lock(&j->lock);
    for (;;) {
        bool retry = false;
        while (j->writing || (!j->head && !j->stop && !retry && !checkpoint_is_due(j))) {
            if (!j->writing && j->backlog) {
                retry = !cond_wait_until(&j->wake, &j->lock, time_mono_ns() + BACKLOG_RETRY_NS);
            } else {
                cond_wait(&j->wake, &j->lock);
            }
        }
        bool last = !j->head && j->stop;
        struct jtx *list = take_queue(j);
        mutex_unlock(&j->lock);
        run_list(j, list);
        if (checkpoint_is_due(j)) {
            maybe_checkpoint(j); /* a helper left it */
        }
        mutex_lock(&j->lock);
        j->writing = false;
        if (last) {
            break;
        }
    }
    mutex_unlock(&j->lock);
    while (j->backlog) { /* told to have failed, and it has */
        struct jtx *tx = j->backlog;
        j->backlog = tx->next;
        jtx_free(tx);
    }
    return NULL;
}

void journal_submit(struct journal *j, struct jtx *tx, unsigned flags,
                    void (*done)(void *ctx, int status), void *ctx)
{
    CHECK_MAGIC(j, JOURNAL_MAGIC);
    ENSURE(j->started);
    tx->flags = flags;
    tx->done = done;
    tx->ctx = ctx;
    tx->next = NULL;
    mutex_lock(&j->lock);
    ENSURE(!j->stop);
    *j->tail = tx;
    j->tail = &tx->next;
    tx->ticket = ++j->submitted;
    note_ledger(j, tx);
    j->queued++;
    if (flags & JTX_DURABLE) {
        j->durable_queued = true;
    }
    if (!(flags & JTX_HELPED)) {
        call_writer(j);
    }
    mutex_unlock(&j->lock);
}

/* False: somebody outside holds the database, and to wait for that is for the writer's thread. */
static bool begin_at_once(struct journal *j)
{
    (void)sqlite3_busy_timeout(j->db, 0);
    int err = run(j, j->stmts[JOP_BEGIN]);
    (void)sqlite3_busy_timeout(j->db, BUSY_MS);
    return err == 0;
}

/* Under the lock: what was taken is the front of the queue again. */
static void put_back(struct journal *j, struct jtx *list)
{
    struct jtx **end = &list;
    for (; *end; end = &(*end)->next) {
        j->queued++;
        j->durable_queued = j->durable_queued || ((*end)->flags & JTX_DURABLE) != 0;
    }
    *end = j->head;
    if (!j->head) {
        j->tail = end;
    }
    j->head = list;
}

void journal_help(struct journal *j)
{
    if (writer_of == j) {
        return; /* from a done: what it submitted comes after this batch */
    }
    mutex_lock(&j->lock);
    if (!j->head || j->writing) {
        mutex_unlock(&j->lock); /* who writes calls the thread at its end */
        return;
    }
    if (j->durable_queued || j->queued > HELP_TX || j->backlog || checkpoint_is_due(j) || atomic_load(&j->failed) != 0) {
        call_writer(j);
        mutex_unlock(&j->lock);
        return;
    }
    struct jtx *list = take_queue(j);
    mutex_unlock(&j->lock);
    j->begun = begin_at_once(j);
    bool begun = j->begun;
    if (begun) {
        writer_of = j;
        j->helped = true;
        run_list(j, list);
        j->helped = false;
        writer_of = NULL;
        if (j->begun) { /* there was nothing to write */
            j->begun = false;
            (void)sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
        }
    }
    mutex_lock(&j->lock);
    if (!begun) {
        put_back(j, list);
    }
    j->writing = false;
    if (j->head || j->backlog || j->stop || checkpoint_is_due(j)) {
        j->called = true;
        cond_signal(&j->wake); /* also when it was called already: it does not take what another one writes */
    }
    mutex_unlock(&j->lock);
}

struct waiter {
    struct mutex lock;
    struct cond cond;
    bool over;
    int status;
};

static void waiter_done(void *ctx, int status)
{
    struct waiter *w = ctx;
    mutex_lock(&w->lock);
    w->over = true;
    w->status = status;
    /* Under the lock: the waiter's memory goes as soon as it sees over. */
    cond_signal(&w->cond);
    mutex_unlock(&w->lock);
}

static int submit_and_wait(struct journal *j, struct jtx *tx, unsigned flags)
{
    ENSURE(writer_of != j);
    struct waiter w = {0};
    mutex_init(&w.lock, RANK_JOURNAL);
    cond_init(&w.cond);
    journal_submit(j, tx, flags, waiter_done, &w);
    mutex_lock(&w.lock);
    while (!w.over) {
        cond_wait(&w.cond, &w.lock);
    }
    mutex_unlock(&w.lock);
    cond_fini(&w.cond);
    mutex_fini(&w.lock);
    return w.status;
}

int journal_flush(struct journal *j, bool durable)
{
    return submit_and_wait(j, jtx_new(), durable ? JTX_DURABLE : 0);
}

bool journal_failed(const struct journal *j)
{
    return atomic_load(&j->failed) != 0;
}

bool journal_full(const struct journal *j)
{
    return atomic_load(&j->full);
}

int journal_remote_id(struct journal *j, const char *identity, uint32_t *ret_id,
                      struct errinfo *reterr)
{
    CHECK_MAGIC(j, JOURNAL_MAGIC);
    int err = jread_remote_id(j, identity, ret_id);
    if (err == -ENOENT && !j->readonly) {
        struct jtx *tx = jtx_new();
        jtx_remote_add(tx, identity);
        err = submit_and_wait(j, tx, 0);
        if (err == 0) {
            err = jread_remote_id(j, identity, ret_id);
        }
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "cannot register %s in the journal: %s", identity,
                       strerror(-err));
    }
    return 0;
}

/* --- opening and closing --- */

/* "" when the kernel does not tell: then every start counts as another boot. */
static char *read_boot_id(void)
{
    char text[64];
    CLEANUP(mem_closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (n <= 0) {
        return mem_strdup("");
    }
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return mem_strdup(text);
}

static int write_boot_id(struct journal *j)
{
    const struct jop op = {.kind = JOP_MARK_TEXT, .key = "boot_id", .row = j->boot_id};
    return write_op(j, &op);
}

/* Compares, and records ours only when there is nothing to recover from: after another boot it stays until
 * journal_boot_settled, so that a crash in the middle of that recovery does not hide the power cut. */
static int check_boot(struct journal *j)
{
    struct sqlite3_stmt *st = NULL;
    int err = jdb_prepare(j->db, "SELECT value FROM mark WHERE name='boot_id'", &st);
    bool known = false;
    if (err == 0) {
        int rc = sqlite3_step(st);
        err = jdb_errno(rc);
        if (rc == SQLITE_ROW) {
            known = true;
            const unsigned char *text = sqlite3_column_text(st, 0);
            j->boot_differs =
                j->boot_id[0] == '\0' || !text || strcmp((const char *)text, j->boot_id) != 0;
        }
    }
    (void)sqlite3_finalize(st);
    if (err == 0 && !known) {
        err = write_boot_id(j);
    }
    return err;
}

bool journal_previous_boot_differs(const struct journal *j)
{
    return j->boot_differs;
}

int journal_boot_settled(struct journal *j)
{
    struct jtx *tx = jtx_new();
    jtx_mark_text(tx, "boot_id", j->boot_id);
    return submit_and_wait(j, tx, JTX_DURABLE);
}

static int start_thread(struct journal *j)
{
    int err = thread_start(&j->thread, writer_main, j, "journal");
    if (err == 0) {
        j->started = true;
    }
    return err;
}

/* The marks that run ahead of the numbers given out. */
static int read_reserved(struct journal *j)
{
    int64_t seq = 0, spool = 0;
    int err = jread_mark(j, J_MARK_SEQ, &seq);
    if (err == 0 || err == -ENOENT) {
        err = jread_mark(j, J_MARK_SPOOL, &spool);
    }
    j->seq_reserved = (uint64_t)MAX(seq, INT64_C(0));
    j->spool_reserved = (uint64_t)MAX(spool, INT64_C(0));
    return err == -ENOENT ? 0 : err;
}

/* Our own descriptor of the log, and the directory entries of database and log on disk. */
static int open_log(struct journal *j, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/journal.db-wal", j->dir);
    j->wal_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (j->wal_fd < 0) {
        return err_set_errno(reterr, errno, "cannot open %s", path);
    }
    CLEANUP(mem_closep) int dir_fd = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 || fsync(dir_fd) < 0) {
        return err_set_errno(reterr, errno, "cannot sync %s", j->dir);
    }
    j->unsynced = true; /* whatever an earlier process left in the log */
    return 0;
}

static int open_writer(struct journal *j, struct errinfo *reterr)
{
    int err = jdb_open(j->dir, JDB_WRITER, &j->db, reterr);
    if (err < 0) {
        return err;
    }
    j->stmts = mem_zalloc(JOP_KINDS * sizeof(*j->stmts));
    for (int i = 0; i < JOP_KINDS && err == 0; i++) {
        err = jdb_prepare(j->db, sql[i], &j->stmts[i]);
    }
    (void)sqlite3_wal_hook(j->db, on_commit, j);
    j->checkpoint_at = CHECKPOINT_PAGES;
    if (err == 0) {
        err = check_boot(j);
    }
    if (err == 0) {
        err = read_reserved(j);
    }
    if (err == 0) {
        /* A part without its intent is what a failed transaction can leave behind. */
        err = jdb_exec(j->db, "DELETE FROM part WHERE NOT EXISTS (SELECT 1 FROM intent AS i"
                              " WHERE i.remote=part.remote AND i.key=part.key)");
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "cannot read %s/journal.db: %s", j->dir,
                       sqlite3_errmsg(j->db));
    }
    err = open_log(j, reterr);
    if (err == 0) {
        err = start_thread(j);
        if (err < 0) {
            (void)err_set_errno(reterr, -err, "cannot start the journal's thread");
        }
    }
    return err;
}

static struct journal *journal_new(const char *dir, bool readonly)
{
    struct journal *j = mem_zalloc(sizeof(*j));
    j->magic = JOURNAL_MAGIC;
    j->dir = mem_strdup(dir);
    j->readonly = readonly;
    j->boot_id = read_boot_id();
    j->wal_fd = -1;
    mutex_init(&j->lock, RANK_JOURNAL);
    cond_init(&j->wake);
    cond_init(&j->seen);
    j->tail = &j->head;
    j->backlog_tail = &j->backlog;
    jread_init(j);
    return j;
}

int journal_open(const char *dir, struct journal **ret, struct errinfo *reterr)
{
    struct journal *j = journal_new(dir, false);
    int err = open_writer(j, reterr);
    if (err < 0) {
        journal_close(j);
        return err;
    }
    *ret = j;
    return 0;
}

int journal_open_readonly(const char *dir, struct journal **ret, struct errinfo *reterr)
{
    struct journal *j = journal_new(dir, true);
    int err = jread_check(j, reterr);
    if (err < 0) {
        journal_close(j);
        return err;
    }
    *ret = j;
    return 0;
}

void journal_close(struct journal *j)
{
    if (!j) {
        return;
    }
    CHECK_MAGIC(j, JOURNAL_MAGIC);
    if (j->started) {
        ENSURE(writer_of != j);
        mutex_lock(&j->lock);
        j->stop = true;
        cond_signal(&j->wake);
        mutex_unlock(&j->lock);
        ENSURE(pthread_join(j->thread, NULL) == 0);
    }
    jread_fini(j);
    if (j->stmts) {
        for (int i = 0; i < JOP_KINDS; i++) {
            (void)sqlite3_finalize(j->stmts[i]);
        }
        free(j->stmts);
    }
    if (j->db && atomic_load(&j->failed) != 0) {
        /* A disk that failed is not written to again: the log stays for the next start. */
        (void)sqlite3_db_config(j->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    jdb_close(j->db); /* as the last connection: checkpoints, syncs, removes the log */
    mem_closep(&j->wal_fd);
    cond_fini(&j->seen);
    cond_fini(&j->wake);
    mutex_fini(&j->lock);
    free(j->boot_id);
    free(j->dir);
    j->magic = 0;
    free(j);
}
