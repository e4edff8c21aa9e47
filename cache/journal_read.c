/* Readers.
 *
 * A few connections, each used by one thread at a time; SQLite's write-ahead log lets them read beside the writer.
 * Read transactions are short, since the log cannot start anew while an old snapshot is read: a range is read in
 * pages into memory, and no callback runs inside a statement that others wait for. The start-up and status walks
 * (each_*) use a connection of their own, so their callbacks may call everything here.
 *
 * Every row is hostile: types, lengths, NULs in strings, ranges. An intent that does not parse is given with state
 * -1. A ledger row that does not parse counts as absent: what is not known is asked of the provider, which is always
 * right.
 *
 * Lock: journal.readers_lock guards the list of idle connections only. */
#include "journal_internal.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "file_state.h"
#include "log.h"
#include "mem.h"

#define MAX_READERS 4
#define PAGE_ROWS 128

#define LEDGER_COLUMNS                                                                             \
    "key, etag, size, mtime_ns, flags, md5, crc64, src_remote, src_key, src_etag, src_size,"       \
    " src_mtime_ns, done_wall_ns, meta"

enum query {
    Q_LEDGER_GET,
    Q_SEGMENTS_GET,
    Q_LEDGER_FROM,
    Q_LEDGER_RANGE,
    Q_REMOTE_ID,
    Q_REMOTE_IDENTITY,
    Q_MARK,
    Q_MAX_SEQ,
    Q_MAX_SPOOL,
    QUERIES
};

static const char *const sql[QUERIES] = {
    [Q_LEDGER_GET] = "SELECT " LEDGER_COLUMNS " FROM ledger WHERE remote=?1 AND key=?2",
    [Q_SEGMENTS_GET] = "SELECT data FROM segments WHERE remote=?1 AND key=?2 AND etag=?3",
    [Q_LEDGER_FROM] =
        "SELECT " LEDGER_COLUMNS " FROM ledger WHERE remote=?1 AND key>=?2 ORDER BY key LIMIT ?4",
    [Q_LEDGER_RANGE] = "SELECT " LEDGER_COLUMNS
                       " FROM ledger WHERE remote=?1 AND key>=?2 AND key<?3 ORDER BY key LIMIT ?4",
    [Q_REMOTE_ID] = "SELECT id FROM remote WHERE identity=?1",
    [Q_REMOTE_IDENTITY] = "SELECT identity FROM remote WHERE id=?1",
    [Q_MARK] = "SELECT value FROM mark WHERE name=?1",
    /* Bounded as the loader bounds them: one mad row must not use up all numbers. */
    [Q_MAX_SEQ] = "SELECT max(seq) FROM intent WHERE typeof(seq)='integer' AND seq<(1<<62)",
    [Q_MAX_SPOOL] =
        "SELECT max(spool_id) FROM intent WHERE typeof(spool_id)='integer' AND spool_id<(1<<62)",
};

struct jreader {
    struct jreader *next;
    struct sqlite3 *db;
    struct sqlite3_stmt *stmts[QUERIES];
};

/* --- connections --- */

static void reader_free(struct jreader *r)
{
    for (int i = 0; i < QUERIES; i++) {
        (void)sqlite3_finalize(r->stmts[i]);
    }
    jdb_close(r->db);
    free(r);
}

static int db_open(struct journal *j, struct sqlite3 **ret, struct errinfo *reterr)
{
    return jdb_open(j->dir, j->readonly ? JDB_READONLY : JDB_READER, ret, reterr);
}

static int reader_new(struct journal *j, struct jreader **ret, struct errinfo *reterr)
{
    struct jreader *r = mem_zalloc(sizeof(*r));
    int err = db_open(j, &r->db, reterr);
    for (int i = 0; i < QUERIES && err == 0; i++) {
        err = jdb_prepare(r->db, sql[i], &r->stmts[i]);
        if (err < 0) {
            (void)err_set(reterr, ERR_LOCAL, err, "cannot read %s/journal.db: %s", j->dir,
                          sqlite3_errmsg(r->db));
        }
    }
    if (err < 0) {
        reader_free(r);
        return err;
    }
    *ret = r;
    return 0;
}

void jread_init(struct journal *j)
{
    mutex_init(&j->readers_lock, RANK_JOURNAL);
    cond_init(&j->reader_free);
}

void jread_fini(struct journal *j)
{
    unsigned n = 0;
    while (j->readers) {
        struct jreader *r = j->readers;
        j->readers = r->next;
        reader_free(r);
        n++;
    }
    ENSURE(n == j->n_readers);
    cond_fini(&j->reader_free);
    mutex_fini(&j->readers_lock);
}

static int borrow(struct journal *j, struct jreader **ret, struct errinfo *reterr)
{
    CHECK_MAGIC(j, JOURNAL_MAGIC);
    mutex_lock(&j->readers_lock);
    while (!j->readers && j->n_readers >= MAX_READERS) {
        cond_wait(&j->reader_free, &j->readers_lock);
    }
    struct jreader *r = j->readers;
    if (r) {
        j->readers = r->next;
    } else {
        j->n_readers++;
    }
    mutex_unlock(&j->readers_lock);
    int err = r ? 0 : reader_new(j, &r, reterr);
    if (err < 0) {
        mutex_lock(&j->readers_lock);
        j->n_readers--;
        cond_signal(&j->reader_free);
        mutex_unlock(&j->readers_lock);
        return err;
    }
    *ret = r;
    return 0;
}

static void give_back(struct journal *j, struct jreader *r)
{
    mutex_lock(&j->readers_lock);
    r->next = j->readers;
    j->readers = r;
    cond_signal(&j->reader_free);
    mutex_unlock(&j->readers_lock);
}

int jread_check(struct journal *j, struct errinfo *reterr)
{
    struct jreader *r;
    int err = borrow(j, &r, reterr);
    if (err == 0) {
        give_back(j, r);
    }
    return err;
}

/* Ends a statement's snapshot at once. Returns what the last step left. */
static int finish(struct jreader *r, struct sqlite3_stmt *st, int rc)
{
    int err = jdb_errno(rc);
    if (err < 0) {
        log_debug("journal", "read failed rc=%d error=\"%s\"", rc, sqlite3_errmsg(r->db));
    }
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
    return err;
}

/* --- hostile columns: each returns false when the column is not what was written --- */

static bool col_int(struct sqlite3_stmt *st, int i, int64_t min, int64_t max, int64_t *ret)
{
    if (sqlite3_column_type(st, i) != SQLITE_INTEGER) {
        return false;
    }
    int64_t v = sqlite3_column_int64(st, i);
    if (v < min || v > max) {
        return false;
    }
    *ret = v;
    return true;
}

static bool col_u64(struct sqlite3_stmt *st, int i, int64_t max, uint64_t *ret)
{
    int64_t v;
    if (!col_int(st, i, 0, max, &v)) {
        return false;
    }
    *ret = (uint64_t)v;
    return true;
}

static bool col_remote(struct sqlite3_stmt *st, int i, uint32_t min, uint32_t *ret)
{
    int64_t v;
    if (!col_int(st, i, min, UINT32_MAX, &v)) {
        return false;
    }
    *ret = (uint32_t)v;
    return true;
}

/* Borrowed until the next step. */
static bool col_text(struct sqlite3_stmt *st, int i, size_t max, const char **ret)
{
    if (sqlite3_column_type(st, i) != SQLITE_TEXT) {
        return false;
    }
    const char *s = (const char *)sqlite3_column_text(st, i);
    size_t n = (size_t)sqlite3_column_bytes(st, i);
    if (!s || n > max || strlen(s) != n) {
        return false;
    }
    *ret = s;
    return true;
}

/* Keys are BLOBs without a final NUL; *ret is borrowed from `store`, which keeps growing: its memory is reserved before
 * the first of a row. */
static bool col_key(struct sqlite3_stmt *st, int i, size_t min, struct buf *store, const char **ret)
{
    if (sqlite3_column_type(st, i) != SQLITE_BLOB) {
        return false;
    }
    const void *p = sqlite3_column_blob(st, i);
    size_t n = (size_t)sqlite3_column_bytes(st, i);
    if (n < min || n > J_KEY_MAX || (n > 0 && (!p || memchr(p, '\0', n)))) {
        return false;
    }
    size_t at = store->len;
    if (buf_add(store, p, n) < 0 || buf_addc(store, '\0') < 0) {
        return false;
    }
    *ret = store->data + at;
    return true;
}

/* NULL: none. */
static bool col_md5(struct sqlite3_stmt *st, int i, bool *ret_has, uint8_t ret[16])
{
    *ret_has = false;
    if (sqlite3_column_type(st, i) == SQLITE_NULL) {
        return true;
    }
    if (sqlite3_column_type(st, i) != SQLITE_BLOB || sqlite3_column_bytes(st, i) != 16) {
        return false;
    }
    memcpy(ret, sqlite3_column_blob(st, i), 16);
    *ret_has = true;
    return true;
}

static bool col_crc64(struct sqlite3_stmt *st, int i, bool *ret_has, uint64_t *ret)
{
    *ret_has = false;
    if (sqlite3_column_type(st, i) == SQLITE_NULL) {
        return true;
    }
    int64_t v;
    if (!col_int(st, i, INT64_MIN, INT64_MAX, &v)) {
        return false;
    }
    *ret = (uint64_t)v;
    *ret_has = true;
    return true;
}

static bool copy_etag(struct sqlite3_stmt *st, int i, char ret[BE_ETAG_MAX])
{
    const char *s;
    if (!col_text(st, i, BE_ETAG_MAX - 1, &s)) {
        return false;
    }
    memcpy(ret, s, strlen(s) + 1);
    return true;
}

int journal_check(struct journal *j, void (*fn)(void *ctx, const char *damage), void *ctx)
{
    struct sqlite3 *db;
    int err = db_open(j, &db, NULL);
    if (err < 0) {
        return err;
    }
    struct sqlite3_stmt *st = NULL;
    err = jdb_prepare(db, "PRAGMA quick_check(10)", &st);
    int rc = SQLITE_DONE;
    while (err == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *text;
        if (!col_text(st, 0, J_TEXT_MAX, &text)) {
            text = "cannot be told";
        }
        if (strcmp(text, "ok") != 0) {
            fn(ctx, text);
        }
    }
    err = err < 0 ? err : jdb_errno(rc);
    (void)sqlite3_finalize(st);
    jdb_close(db);
    if (err == -EBADMSG) { /* so damaged that the check itself cannot go on */
        fn(ctx, "it cannot be read through");
        err = 0;
    }
    return err;
}

/* --- errors as text --- */

char *jerr_format(const struct errinfo *e)
{
    CLEANUP(kv_fini) struct kvlist l = {0};
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    char number[24];
    (void)snprintf(number, sizeof(number), "%d", (int)e->cls);
    kv_set(&l, "class", number);
    (void)snprintf(number, sizeof(number), "%d", e->http_status);
    kv_set(&l, "status", number);
    (void)snprintf(number, sizeof(number), "%u", (unsigned)e->retry_after_ms);
    kv_set(&l, "retry", number);
    (void)snprintf(number, sizeof(number), "%u", (unsigned)e->attempts);
    kv_set(&l, "attempts", number);
    kv_set(&l, "unknown", e->outcome_unknown ? "1" : "0");
    kv_set(&l, "code", e->code);
    kv_set(&l, "request", e->request_id);
    kv_set(&l, "message", e->message);
    return kv_format(&l, &out) == 0 ? buf_take(&out) : NULL;
}

static bool kv_number(const struct kvlist *l, const char *name, long long max, long long *ret)
{
    const char *s = kv_get(l, name);
    if (!s || s[0] < '0' || s[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    *ret = strtoll(s, &end, 10);
    return errno == 0 && *end == '\0' && *ret <= max;
}

static bool kv_string(const struct kvlist *l, const char *name, char *ret, size_t size)
{
    const char *s = kv_get(l, name);
    if (!s || strlen(s) >= size) {
        return false;
    }
    memcpy(ret, s, strlen(s) + 1);
    return true;
}

bool jerr_parse(const char *text, struct errinfo *ret)
{
    CLEANUP(kv_fini) struct kvlist l = {0};
    long long cls, status, retry, attempts, unknown;
    struct errinfo e = {0};
    if (kv_parse(&l, text) < 0 || !kv_number(&l, "class", ERR_CLASSES - 1, &cls) ||
        !kv_number(&l, "status", 999, &status) || !kv_number(&l, "retry", UINT32_MAX, &retry) ||
        !kv_number(&l, "attempts", UINT32_MAX, &attempts) ||
        !kv_number(&l, "unknown", 1, &unknown) || !kv_string(&l, "code", e.code, sizeof(e.code)) ||
        !kv_string(&l, "request", e.request_id, sizeof(e.request_id)) ||
        !kv_string(&l, "message", e.message, sizeof(e.message))) {
        return false;
    }
    e.cls = (enum err_class)cls;
    e.http_status = (int)status;
    e.retry_after_ms = (uint32_t)retry;
    e.attempts = (uint32_t)attempts;
    e.outcome_unknown = unknown != 0;
    *ret = e;
    return true;
}

/* --- intents --- */

/* remote, key, then the columns in the order of the parser below. */
#define INTENT_COLUMNS                                                                             \
    "remote, key, seq, gen, state, flags, spool_id, size, changed_ns, md5, base_etag, base_size,"  \
    " expect_etag, after_remote, after_key, upload_id, part_size, err, meta, extents," \
    " upload_tag, meta_flags, sent, sent_extents"

/* What one row borrows while its callback runs. */
struct intent_store {
    struct buf keys;
    struct errinfo err;
    struct jpart *parts;
    size_t n_parts, cap_parts;
    struct buf part_bytes; /* etags and hash states, by offset until all parts are read */
};

/* Everything that parses is filled in, so that the report of a bad row can name it. */
static bool load_intent(struct sqlite3_stmt *st, struct intent_store *store, struct jintent *r)
{
    *r = (struct jintent){.key = "",
                          .extents = "",
                          .meta = "",
                          .base_etag = "",
                          .expect_etag = "",
                          .after_key = "",
                          .upload_id = "",
                          .upload_tag = "",
                          .sent = "",
                          .sent_extents = ""};
    buf_clear(&store->keys);
    if (buf_reserve(&store->keys, 2 * (J_KEY_MAX + 1)) < 0) {
        return false;
    }
    int64_t state = -1, flags = 0;
    uint32_t after = 0;
    bool ok = col_remote(st, 0, 1, &r->remote);
    ok = col_key(st, 1, 1, &store->keys, &r->key) && ok;
    ok = col_u64(st, 2, J_SEQ_MAX - 1, &r->seq) && ok;
    ok = col_u64(st, 3, J_SEQ_MAX - 1, &r->gen) && ok;
    ok = col_int(st, 4, 0, FS_STATES - 1, &state) && ok;
    ok = col_int(st, 5, 0, JI_ALL, &flags) && ok;
    ok = col_u64(st, 6, J_SEQ_MAX - 1, &r->spool_id) && ok;
    ok = col_u64(st, 7, INT64_MAX, &r->size) && ok;
    ok = col_int(st, 8, INT64_MIN, INT64_MAX, &r->changed_ns) && ok;
    ok = col_md5(st, 9, &r->has_md5, r->md5) && ok;
    ok = col_text(st, 10, BE_ETAG_MAX - 1, &r->base_etag) && ok;
    ok = col_u64(st, 11, INT64_MAX, &r->base_size) && ok;
    ok = col_text(st, 12, BE_ETAG_MAX - 1, &r->expect_etag) && ok;
    ok = col_remote(st, 13, 0, &after) && ok;
    ok = col_key(st, 14, after == 0 ? 0 : 1, &store->keys, &r->after_key) && ok;
    ok = col_text(st, 15, J_NAME_MAX, &r->upload_id) && ok;
    ok = col_u64(st, 16, INT64_MAX, &r->part_size) && ok;
    if (sqlite3_column_type(st, 17) != SQLITE_NULL) {
        const char *text;
        if (col_text(st, 17, J_TEXT_MAX, &text) && jerr_parse(text, &store->err)) {
            r->err = &store->err;
        } else {
            ok = false;
        }
    }
    ok = col_text(st, 18, J_TEXT_MAX, &r->meta) && ok;
    ok = col_text(st, 19, J_EXTENTS_MAX, &r->extents) && ok;
    ok = col_text(st, 20, J_NAME_MAX, &r->upload_tag) && ok;
    int64_t meta_flags = 0;
    ok = col_int(st, 21, 0, UINT32_MAX, &meta_flags) && ok;
    r->meta_flags = (unsigned)meta_flags;
    ok = col_text(st, 22, J_NAME_MAX, &r->sent) && ok;
    ok = col_text(st, 23, J_EXTENTS_MAX, &r->sent_extents) && ok;
    r->after_remote = after;
    r->absent = (flags & JI_ABSENT) != 0;
    r->sealed = (flags & JI_SEALED) != 0;
    r->hydrate = (flags & JI_HYDRATE) != 0;
    r->move = (flags & JI_MOVE) != 0;
    r->unfinished = (flags & JI_UNFINISHED) != 0;
    r->state = ok ? (int)state : -1;
    return ok;
}

static bool load_part(struct sqlite3_stmt *st, struct intent_store *store)
{
    int64_t number;
    struct jpart p = {0};
    bool has_md5;
    const char *etag;
    if (!col_int(st, 0, 1, UINT32_MAX, &number) || !col_u64(st, 1, INT64_MAX, &p.size) ||
        !col_text(st, 2, BE_ETAG_MAX - 1, &etag) || !col_crc64(st, 3, &p.has_crc64, &p.crc64) ||
        !col_md5(st, 4, &has_md5, p.md5)) {
        return false;
    }
    p.number = (unsigned)number;
    const void *hash = NULL;
    if (sqlite3_column_type(st, 5) != SQLITE_NULL) {
        p.hash_state_len = (size_t)sqlite3_column_bytes(st, 5);
        hash = sqlite3_column_blob(st, 5);
        if (sqlite3_column_type(st, 5) != SQLITE_BLOB || p.hash_state_len > J_HASH_MAX || !hash) {
            return false;
        }
    }
    /* One record a part, every byte of it copied at a known place: pointers follow once the buffer stands still. */
    if (buf_add(&store->part_bytes, etag, strlen(etag) + 1) < 0 ||
        buf_add(&store->part_bytes, hash, hash ? p.hash_state_len : 0) < 0) {
        return false;
    }
    if (store->n_parts == store->cap_parts) {
        store->cap_parts = MAX(store->cap_parts * 2, (size_t)64);
        store->parts = mem_realloc(store->parts, store->cap_parts * sizeof(*store->parts));
    }
    store->parts[store->n_parts++] = p;
    return true;
}

/* The pointers of all parts, in the order load_part laid the bytes down. */
static void place_parts(struct intent_store *store)
{
    const char *at = store->part_bytes.data;
    for (size_t i = 0; i < store->n_parts; i++) {
        struct jpart *p = &store->parts[i];
        p->etag = at;
        at += strlen(at) + 1;
        if (p->hash_state_len > 0) {
            p->hash_state = at;
            at += p->hash_state_len;
        }
    }
}

/* 0 or -errno; *ret_ok false when one of them does not parse. */
static int load_parts(struct sqlite3_stmt *st, const struct jintent *row,
                      struct intent_store *store, bool *ret_ok)
{
    *ret_ok = true;
    (void)sqlite3_bind_int64(st, 1, row->remote);
    (void)sqlite3_bind_blob(st, 2, row->key, (int)strlen(row->key), SQLITE_STATIC);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (!load_part(st, store)) {
            *ret_ok = false;
        }
    }
    int err = jdb_errno(rc);
    (void)sqlite3_reset(st);
    place_parts(store);
    return err;
}

int journal_each_intent(struct journal *j,
                        int (*fn)(void *ctx, const struct jintent *row, const struct jpart *parts,
                                  size_t n_parts),
                        void *ctx)
{
    struct sqlite3 *db;
    int err = db_open(j, &db, NULL);
    if (err < 0) {
        return err;
    }
    struct intent_store store = {0};
    struct sqlite3_stmt *st = NULL, *part_st = NULL;
    /* No index on seq: it would cost every write, and this runs once a start. */
    err = jdb_prepare(db, "SELECT " INTENT_COLUMNS " FROM intent ORDER BY seq", &st);
    if (err == 0) {
        err = jdb_prepare(db,
                          "SELECT number, size, etag, crc64, md5, hash_state FROM part"
                          " WHERE remote=?1 AND key=?2 ORDER BY number",
                          &part_st);
    }
    while (err == 0) {
        int rc = sqlite3_step(st);
        if (rc != SQLITE_ROW) {
            err = jdb_errno(rc);
            break;
        }
        struct jintent row;
        buf_clear(&store.part_bytes);
        store.n_parts = 0;
        (void)load_intent(st, &store, &row);
        bool ok = true;
        if (row.remote != 0 && row.key[0] != '\0') {
            err = load_parts(part_st, &row, &store, &ok);
        }
        if (!ok) {
            row.state = -1;
        }
        if (err == 0) {
            err = fn(ctx, &row, store.parts, store.n_parts);
        }
    }
    (void)sqlite3_finalize(st);
    (void)sqlite3_finalize(part_st);
    jdb_close(db);
    buf_fini(&store.keys);
    buf_fini(&store.part_bytes);
    free(store.parts);
    return err;
}

/* --- ledger --- */

void jledger_fini(struct jledger *l)
{
    free(l->key);
    free(l->meta);
    free(l->src_key);
    *l = (struct jledger){0};
}

static bool load_ledger(struct sqlite3_stmt *st, uint32_t remote, struct buf *store,
                        struct jledger *ret)
{
    struct jledger l = {.remote = remote};
    const char *key, *src_key, *meta;
    int64_t flags;
    buf_clear(store);
    if (buf_reserve(store, 2 * (J_KEY_MAX + 1)) < 0) {
        return false;
    }
    if (!col_key(st, 0, 1, store, &key) || !copy_etag(st, 1, l.etag) ||
        !col_u64(st, 2, INT64_MAX, &l.size) || !col_int(st, 3, INT64_MIN, INT64_MAX, &l.mtime_ns) ||
        !col_int(st, 4, 0, JL_ALL, &flags) || !col_md5(st, 5, &l.has_md5, l.md5) ||
        !col_crc64(st, 6, &l.has_crc64, &l.crc64) || !col_remote(st, 7, 0, &l.src_remote) ||
        !col_key(st, 8, l.src_remote == 0 ? 0 : 1, store, &src_key) ||
        !copy_etag(st, 9, l.src_etag) || !col_u64(st, 10, INT64_MAX, &l.src_size) ||
        !col_int(st, 11, INT64_MIN, INT64_MAX, &l.src_mtime_ns) ||
        !col_int(st, 12, INT64_MIN, INT64_MAX, &l.done_wall_ns) ||
        !col_text(st, 13, J_TEXT_MAX, &meta)) {
        log_debug("journal", "ledger row does not parse remote=%u", (unsigned)remote);
        return false;
    }
    l.ours = (flags & JL_OURS) != 0;
    l.md5_inherited = (flags & JL_MD5_INHERITED) != 0;
    l.content_verified = (flags & JL_VERIFIED) != 0;
    l.key = mem_strdup(key);
    l.src_key = mem_strdup(src_key);
    l.meta = mem_strdup(meta);
    *ret = l;
    return true;
}

int journal_ledger_get(struct journal *j, uint32_t remote, const char *key, struct jledger *ret)
{
    struct jreader *r;
    journal_catch_up(j, remote, key);
    int err = borrow(j, &r, NULL);
    if (err < 0) {
        return err;
    }
    CLEANUP(buf_fini) struct buf store = BUF_INIT;
    struct sqlite3_stmt *st = r->stmts[Q_LEDGER_GET];
    (void)sqlite3_bind_int64(st, 1, remote);
    (void)sqlite3_bind_blob(st, 2, key, (int)strnlen(key, J_KEY_MAX), SQLITE_STATIC);
    int rc = sqlite3_step(st);
    bool found = rc == SQLITE_ROW && load_ledger(st, remote, &store, ret);
    err = finish(r, st, rc);
    give_back(j, r);
    return err < 0 ? err : found;
}

/* One page from `from` on, whose last byte may be the NUL that makes it the successor of a key. Rows that do not parse
 * are left out, but *ret_next follows the last row in any case. */
static int load_page(struct journal *j, uint32_t remote, const struct buf *from, const char *to,
                     struct jledger *rows, size_t *ret_n, struct buf *ret_next, bool *ret_more)
{
    struct jreader *r;
    int err = borrow(j, &r, NULL);
    if (err < 0) {
        return err;
    }
    CLEANUP(buf_fini) struct buf store = BUF_INIT;
    struct sqlite3_stmt *st = r->stmts[to[0] != '\0' ? Q_LEDGER_RANGE : Q_LEDGER_FROM];
    (void)sqlite3_bind_int64(st, 1, remote);
    (void)sqlite3_bind_blob(st, 2, buf_str(from), (int)from->len, SQLITE_STATIC);
    if (to[0] != '\0') {
        (void)sqlite3_bind_blob(st, 3, to, (int)strnlen(to, J_KEY_MAX), SQLITE_STATIC);
    }
    (void)sqlite3_bind_int64(st, 4, PAGE_ROWS);
    size_t n = 0, seen = 0;
    int rc = SQLITE_OK;
    buf_clear(ret_next);
    while (err == 0 && seen < PAGE_ROWS) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW) {
            break;
        }
        seen++;
        if (load_ledger(st, remote, &store, &rows[n])) {
            n++;
        }
        if (seen == PAGE_ROWS) {
            const void *key = sqlite3_column_blob(st, 0);
            err = buf_add(ret_next, key, (size_t)sqlite3_column_bytes(st, 0));
            if (err == 0) {
                err = buf_addc(ret_next, '\0');
            }
        }
    }
    int end = finish(r, st, rc);
    give_back(j, r);
    *ret_n = n;
    *ret_more = seen == PAGE_ROWS;
    return err < 0 ? err : end;
}

int journal_ledger_range(struct journal *j, uint32_t remote, const char *from, const char *to,
                         int (*fn)(void *ctx, const struct jledger *row), void *ctx)
{
    CLEANUP(buf_fini) struct buf at = BUF_INIT;
    CLEANUP(buf_fini) struct buf next = BUF_INIT;
    struct jledger *rows = mem_zalloc(PAGE_ROWS * sizeof(*rows));
    journal_catch_up(j, remote, NULL);
    int err = buf_add(&at, from, strnlen(from, J_KEY_MAX));
    bool more = true;
    while (err == 0 && more) {
        size_t n = 0;
        err = load_page(j, remote, &at, to, rows, &n, &next, &more);
        for (size_t i = 0; i < n; i++) {
            if (err == 0) {
                err = fn(ctx, &rows[i]);
            }
            jledger_fini(&rows[i]);
        }
        struct buf swap = at;
        at = next;
        next = swap;
    }
    free(rows);
    return err;
}

/* --- the small tables --- */

int journal_segments_get(struct journal *j, uint32_t remote, const char *key, const char *etag, struct buf *ret_data)
{
    struct jreader *r;
    journal_catch_up(j, remote, key);
    int err = borrow(j, &r, NULL);
    if (err < 0) {
        return err;
    }
    struct sqlite3_stmt *st = r->stmts[Q_SEGMENTS_GET];
    (void)sqlite3_bind_int64(st, 1, remote);
    (void)sqlite3_bind_blob(st, 2, key, (int)strnlen(key, J_KEY_MAX), SQLITE_STATIC);
    (void)sqlite3_bind_text(st, 3, etag, -1, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    bool found = false;
    if (rc == SQLITE_ROW && sqlite3_column_type(st, 0) == SQLITE_BLOB) {
        size_t n = (size_t)sqlite3_column_bytes(st, 0);
        found = n <= J_SEGMENTS_MAX && buf_add(ret_data, sqlite3_column_blob(st, 0), n) == 0;
    }
    err = finish(r, st, rc);
    give_back(j, r);
    return err < 0 ? err : found;
}

int journal_each_abort(struct journal *j,
                       int (*fn)(void *ctx, uint32_t remote, const char *key, const char *upload_id), void *ctx)
{
    struct sqlite3 *db;
    int err = db_open(j, &db, NULL);
    if (err < 0) {
        return err;
    }
    CLEANUP(buf_fini) struct buf store = BUF_INIT;
    struct sqlite3_stmt *st = NULL;
    err = jdb_prepare(db, "SELECT remote, key, upload_id FROM abort", &st);
    while (err == 0) {
        int rc = sqlite3_step(st);
        if (rc != SQLITE_ROW) {
            err = jdb_errno(rc);
            break;
        }
        uint32_t remote;
        const char *key, *id;
        buf_clear(&store);
        err = buf_reserve(&store, 2 * (J_KEY_MAX + 1));
        if (err == 0 && col_remote(st, 0, 1, &remote) && col_key(st, 1, 1, &store, &key) &&
            col_text(st, 2, J_NAME_MAX, &id)) {
            err = fn(ctx, remote, key, id);
        }
    }
    (void)sqlite3_finalize(st);
    jdb_close(db);
    return err;
}

int journal_each_attach(struct journal *j, int (*fn)(void *ctx, const struct jattach *a), void *ctx)
{
    struct sqlite3 *db;
    int err = db_open(j, &db, NULL);
    if (err < 0) {
        return err;
    }
    CLEANUP(buf_fini) struct buf store = BUF_INIT;
    struct sqlite3_stmt *st = NULL;
    err = jdb_prepare(db, "SELECT dir, spec, remote, prefix, options FROM attach", &st);
    while (err == 0) {
        int rc = sqlite3_step(st);
        if (rc != SQLITE_ROW) {
            err = jdb_errno(rc);
            break;
        }
        struct jattach a;
        buf_clear(&store);
        err = buf_reserve(&store, 2 * (J_KEY_MAX + 1));
        if (err == 0 && col_key(st, 0, 1, &store, &a.dir) && col_text(st, 1, J_TEXT_MAX, &a.spec) &&
            col_text(st, 2, J_TEXT_MAX, &a.remote) && col_key(st, 3, 0, &store, &a.prefix) &&
            col_text(st, 4, J_TEXT_MAX, &a.options)) {
            err = fn(ctx, &a);
        } else {
            log_debug("journal", "attachment row does not parse");
        }
    }
    (void)sqlite3_finalize(st);
    jdb_close(db);
    return err;
}

int journal_counters(struct journal *j, int (*fn)(void *ctx, const char *name, int64_t value),
                     void *ctx)
{
    struct sqlite3 *db;
    int err = db_open(j, &db, NULL);
    if (err < 0) {
        return err;
    }
    struct sqlite3_stmt *st = NULL;
    err = jdb_prepare(db, "SELECT name, value FROM counter ORDER BY name", &st);
    while (err == 0) {
        int rc = sqlite3_step(st);
        if (rc != SQLITE_ROW) {
            err = jdb_errno(rc);
            break;
        }
        const char *name;
        int64_t value;
        if (col_text(st, 0, J_NAME_MAX, &name) && col_int(st, 1, INT64_MIN, INT64_MAX, &value)) {
            err = fn(ctx, name, value);
        }
    }
    (void)sqlite3_finalize(st);
    jdb_close(db);
    return err;
}

int jread_remote_id(struct journal *j, const char *identity, uint32_t *ret_id)
{
    struct jreader *r;
    int err = borrow(j, &r, NULL);
    if (err < 0) {
        return err;
    }
    struct sqlite3_stmt *st = r->stmts[Q_REMOTE_ID];
    (void)sqlite3_bind_text(st, 1, identity, -1, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    bool found = rc == SQLITE_ROW && col_remote(st, 0, 1, ret_id);
    err = finish(r, st, rc);
    give_back(j, r);
    return err < 0 || found ? err : -ENOENT;
}

int journal_remote_identity(struct journal *j, uint32_t id, char **ret_identity)
{
    struct jreader *r;
    int err = borrow(j, &r, NULL);
    if (err < 0) {
        return err;
    }
    struct sqlite3_stmt *st = r->stmts[Q_REMOTE_IDENTITY];
    (void)sqlite3_bind_int64(st, 1, id);
    int rc = sqlite3_step(st);
    const char *identity;
    bool found = rc == SQLITE_ROW && col_text(st, 0, J_TEXT_MAX, &identity);
    if (found) {
        *ret_identity = mem_strdup(identity);
    }
    err = finish(r, st, rc);
    give_back(j, r);
    return err < 0 || found ? err : -ENOENT;
}

int jread_mark(struct journal *j, const char *name, int64_t *ret)
{
    struct jreader *r;
    int err = borrow(j, &r, NULL);
    if (err < 0) {
        return err;
    }
    struct sqlite3_stmt *st = r->stmts[Q_MARK];
    (void)sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    bool found = rc == SQLITE_ROW && col_int(st, 0, INT64_MIN, INT64_MAX, ret);
    err = finish(r, st, rc);
    give_back(j, r);
    return err < 0 || found ? err : -ENOENT;
}

int journal_mark_get(struct journal *j, const char *name, int64_t *ret)
{
    return jread_mark(j, name, ret);
}

/* The larger of what the rows say and what was set aside. 0 when nothing can be read: then nothing can be written. */
static uint64_t highest(struct journal *j, enum query query, const char *mark)
{
    struct jreader *r;
    if (borrow(j, &r, NULL) < 0) {
        return 0;
    }
    struct sqlite3_stmt *st = r->stmts[query];
    uint64_t rows = 0;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        (void)col_u64(st, 0, J_SEQ_MAX - 1, &rows);
    }
    (void)finish(r, st, rc);
    give_back(j, r);
    int64_t reserved = 0;
    if (jread_mark(j, mark, &reserved) < 0 || reserved < 0 || reserved >= J_SEQ_MAX) {
        reserved = 0;
    }
    return MAX(rows, (uint64_t)reserved);
}

uint64_t journal_max_seq(struct journal *j)
{
    return highest(j, Q_MAX_SEQ, J_MARK_SEQ);
}

uint64_t journal_max_spool_id(struct journal *j)
{
    return highest(j, Q_MAX_SPOOL, J_MARK_SPOOL);
}
