/* A journal whose cells somebody else wrote. Good rows are put into a real database; then a line
 * each changes one cell: table (digit), column (letter from a), type (n NULL, i integer, t text, b
 * bytes, r real), value; a column that is not there is a row more. Then everything is read as at a
 * start.
 *
 * What holds: every intent is told of, believed or not; what is believed is within the bounds of
 * what may be written. */
#include "fuzz.h"

#include <errno.h>

#include <sqlite3.h>

#include "digest.h"
#include "file_state.h"
#include "journal_internal.h"
#include "log.h"

static char *dir;
static struct sqlite3 *db;
static struct sqlite3_stmt *begin, *commit, *count;
static struct journal *j;

static const struct {
    const char *name, *columns;
} tables[] = {
    {"intent",
     "remote key seq gen state flags spool_id size changed_ns md5 base_etag base_size expect_etag "
     "after_remote "
     "after_key upload_id part_size err meta extents upload_tag meta_flags sent sent_extents"},
    {"part", "remote key number size etag crc64 md5 hash_state"},
    {"ledger", "remote key etag size mtime_ns flags md5 crc64 src_remote src_key src_etag src_size "
               "src_mtime_ns "
               "done_wall_ns meta"},
    {"segments", "remote key etag data"},
    {"abort", "remote key upload_id"},
    {"attach", "dir spec remote prefix options"},
    {"counter", "name value"},
    {"mark", "name value"},
    {"remote", "id identity"},
};
/* Prepared once: most of an input's time would be SQLite's parser. */
static struct sqlite3_stmt *empty[ARRAY_LEN(tables)], *fill[ARRAY_LEN(tables)];

static void run_sql(const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        (void)fprintf(stderr, "%s: %s\n", sql, why);
        ENSURE(false);
    }
}

static struct sqlite3_stmt *prepared(const char *sql)
{
    struct sqlite3_stmt *st = NULL;
    ENSURE(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK);
    return st;
}

static void run(struct sqlite3_stmt *st)
{
    ENSURE(sqlite3_step(st) == SQLITE_DONE && sqlite3_reset(st) == SQLITE_OK);
}

static void remove_dir(void)
{
    static const char *const names[] = {"journal.db", "journal.db-wal", "journal.db-shm"};
    journal_close(j);
    for (struct sqlite3_stmt *st; (st = sqlite3_next_stmt(db, NULL)) != NULL;) {
        (void)sqlite3_finalize(st);
    }
    (void)sqlite3_close(db);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *path = mem_printf("%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
    free(dir);
}

/* One good row of each kind, as the program writes them. */
static void put_rows(void)
{
    static const struct errinfo err = {.cls = ERR_AUTH,
                                       .http_status = 403,
                                       .attempts = 2,
                                       .code = "AccessDenied",
                                       .message = "no"};
    struct digest_md5 hash;
    digest_md5_init(&hash);
    digest_md5_update(&hash, "bytes", 5);
    const struct jintent rows[] = {
        {.remote = 1,
         .key = "dir/file",
         .seq = 5,
         .gen = 2,
         .state = FS_DIRTY,
         .sealed = true,
         .spool_id = 7,
         .size = 30,
         .extents = "L 10\nR 20 0 1 20 5 - =etag = =other\n",
         .meta = "meta-mode=33188",
         .has_md5 = true,
         .base_etag = "b",
         .base_size = 3,
         .upload_id = "u1",
         .part_size = 1 << 20,
         .err = &err},
        {.remote = 1,
         .key = "gone",
         .seq = 6,
         .gen = 1,
         .state = FS_DIRTY,
         .absent = true,
         .move = true,
         .expect_etag = "e",
         .after_remote = 1,
         .after_key = "dir/file",
         .extents = "",
         .meta = ""},
    };
    const struct jpart parts[] = {
        {.number = 1,
         .size = 10,
         .etag = "p1",
         .hash_state = &hash,
         .hash_state_len = sizeof(hash)},
        {.number = 2, .size = 20, .etag = "p2", .has_crc64 = true, .crc64 = UINT64_MAX},
    };
    const struct jledger line = {.remote = 1,
                                 .key = (char *)(uintptr_t) "old",
                                 .etag = "e",
                                 .size = 4,
                                 .ours = true,
                                 .meta = (char *)(uintptr_t) "content-type=text%2Fplain",
                                 .src_remote = 1,
                                 .src_key = (char *)(uintptr_t) "from",
                                 .src_etag = "f"};
    const struct jattach attach = {"/mnt/a", "cos:", "cos", "", "ro"};
    struct jtx *tx = jtx_new();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        jtx_intent_put(tx, &rows[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        jtx_part_put(tx, 1, "dir/file", &parts[i]);
    }
    jtx_ledger_put(tx, &line);
    jtx_segments_put(tx, 1, "old", "e", "segments", 8);
    jtx_abort_put(tx, 1, "lost", "u2");
    jtx_attach_put(tx, &attach);
    jtx_counter_add(tx, "files", 3);
    jtx_mark_put(tx, "mark", 4);
    ENSURE(tx->invalid == 0);
    journal_submit(j, tx, 0, NULL, NULL);
    ENSURE(journal_flush(j, false) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *base = getenv("TMPDIR");
    struct errinfo err = {0};
    uint32_t id = 0;
    log_set_level(LOG_LEVEL_ERROR);
    dir = mem_printf("%s/fuzz-journal-XXXXXX", base ? base : "/tmp");
    ENSURE(mkdtemp(dir) && journal_open(dir, &j, &err) == 0);
    ENSURE(journal_remote_id(j, "cos:bucket", &id, &err) == 0 && id == 1);
    put_rows();
    CLEANUP(mem_freep) char *path = mem_printf("%s/journal.db", dir);
    ENSURE(sqlite3_open(path, &db) == SQLITE_OK);
    run_sql("PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY");
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        CLEANUP(mem_freep)
        char *sql = mem_printf("CREATE TEMP TABLE good_%s AS SELECT * FROM main.%s", tables[i].name,
                               tables[i].name);
        run_sql(sql);
        CLEANUP(mem_freep) char *out = mem_printf("DELETE FROM main.%s", tables[i].name);
        CLEANUP(mem_freep)
        char *in = mem_printf("INSERT INTO main.%s SELECT * FROM temp.good_%s", tables[i].name,
                              tables[i].name);
        empty[i] = prepared(out);
        fill[i] = prepared(in);
    }
    begin = prepared("BEGIN");
    commit = prepared("COMMIT");
    count = prepared("SELECT count(*) FROM intent");
    (void)atexit(remove_dir);
    return 0;
}

static void restore(void)
{
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        run(empty[i]);
        run(fill[i]);
    }
}

/* The n-th word of a list; NULL behind the last. */
static char *word(const char *list, unsigned n)
{
    for (; n > 0 && list; n--) {
        list = strchr(list, ' ');
        list = list ? list + 1 : NULL;
    }
    return list ? mem_strndup(list, strcspn(list, " ")) : NULL;
}

static void bind(struct sqlite3_stmt *st, unsigned type, struct fuzz_in *in)
{
    const char *nl = fuzz_left(in) > 0 ? memchr(in->p, '\n', fuzz_left(in)) : NULL;
    const char *p = in->p;
    size_t n = nl ? (size_t)(nl - p) : fuzz_left(in);
    CLEANUP(mem_freep) char *text = mem_strndup(p, n);
    in->p = nl ? nl + 1 : in->end;
    int rc = type == 'i'   ? sqlite3_bind_int64(st, 1, strtoll(text, NULL, 10))
             : type == 't' ? sqlite3_bind_text(st, 1, p, (int)n, SQLITE_TRANSIENT)
             : type == 'b' ? sqlite3_bind_blob(st, 1, n > 0 ? p : "", (int)n, SQLITE_TRANSIENT)
             : type == 'r' ? sqlite3_bind_double(st, 1, strtod(text, NULL))
                           : sqlite3_bind_null(st, 1);
    ENSURE(rc == SQLITE_OK);
}

static void change_cell(struct fuzz_in *in)
{
    unsigned table = fuzz_digit(in) % ARRAY_LEN(tables), column = fuzz_byte(in) - 'a',
             type = fuzz_byte(in);
    CLEANUP(mem_freep) char *name = word(tables[table].columns, column % 32);
    CLEANUP(mem_freep) char *first = word(tables[table].columns, 0);
    CLEANUP(mem_freep) char *second = word(tables[table].columns, 1);
    CLEANUP(mem_freep)
    char *sql = name ? mem_printf("UPDATE OR REPLACE main.%s SET %s=?1", tables[table].name, name)
                     : mem_printf("INSERT OR IGNORE INTO main.%s(%s, %s) VALUES(1, ?1)",
                                  tables[table].name, first, second);
    struct sqlite3_stmt *st = prepared(sql);
    bind(st, type, in);
    (void)sqlite3_step(st); /* a constraint may refuse it */
    (void)sqlite3_finalize(st);
}

static unsigned told;

static int on_intent(void *ctx, const struct jintent *row, const struct jpart *parts,
                     size_t n_parts)
{
    told++;
    ENSURE(row->key && row->extents && row->meta && row->base_etag && row->after_key &&
           row->upload_id && row->sent);
    if (row->state < 0) {
        return 0;
    }
    struct jtx *tx = jtx_new();
    jtx_intent_put(tx, row);
    for (size_t i = 0; i < n_parts; i++) {
        ENSURE(i == 0 || parts[i - 1].number < parts[i].number);
        jtx_part_put(tx, row->remote, row->key, &parts[i]);
        struct digest_md5 m;
        (void)digest_md5_load(&m, parts[i].hash_state, parts[i].hash_state_len);
    }
    ENSURE(tx->invalid == 0);
    jtx_free(tx);
    return 0;
}

static int on_ledger(void *ctx, const struct jledger *row)
{
    struct jledger again = {0};
    struct jtx *tx = jtx_new();
    jtx_ledger_put(tx, row);
    ENSURE(tx->invalid == 0);
    jtx_free(tx);
    ENSURE(journal_ledger_get(j, row->remote, row->key, &again) == 1);
    ENSURE(strcmp(again.etag, row->etag) == 0 && again.size == row->size);
    jledger_fini(&again);
    return 0;
}

static int on_abort(void *ctx, uint32_t remote, const char *key, const char *upload_id)
{
    ENSURE(remote > 0 && key[0] != '\0' && strlen(upload_id) <= J_NAME_MAX);
    return 0;
}

static int on_attach(void *ctx, const struct jattach *a)
{
    struct jtx *tx = jtx_new();
    jtx_attach_put(tx, a);
    ENSURE(tx->invalid == 0);
    jtx_free(tx);
    return 0;
}

static int on_counter(void *ctx, const char *name, int64_t value)
{
    ENSURE(strlen(name) <= J_NAME_MAX);
    return 0;
}

static unsigned count_intents(void)
{
    ENSURE(sqlite3_step(count) == SQLITE_ROW);
    unsigned n = (unsigned)sqlite3_column_int(count, 0);
    (void)sqlite3_reset(count);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    run(begin);
    restore();
    while (fuzz_left(&in) > 0) {
        change_cell(&in);
    }
    run(commit);

    CLEANUP(buf_fini) struct buf segments = BUF_INIT;
    CLEANUP(mem_freep) char *identity = NULL;
    int64_t mark = 0;
    told = 0;
    ENSURE(journal_each_intent(j, on_intent, NULL) == 0 && told == count_intents());
    ENSURE(journal_ledger_range(j, 1, "", "", on_ledger, NULL) == 0);
    ENSURE(journal_each_abort(j, on_abort, NULL) == 0);
    ENSURE(journal_each_attach(j, on_attach, NULL) == 0);
    ENSURE(journal_counters(j, on_counter, NULL) == 0);
    ENSURE(journal_segments_get(j, 1, "old", "e", &segments) >= 0);
    ENSURE(journal_max_seq(j) < (uint64_t)J_SEQ_MAX &&
           journal_max_spool_id(j) < (uint64_t)J_SEQ_MAX);
    int err = journal_mark_get(j, "mark", &mark);
    ENSURE(err == 0 || err == -ENOENT);
    err = journal_remote_identity(j, 1, &identity);
    ENSURE(err == 0 || err == -ENOENT);
    return 0;
}
