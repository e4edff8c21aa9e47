/* Connections, schema, migration.
 *
 * Durability (rules C5) rests on synchronous=NORMAL: a commit writes the log without fsync, so it is
 * safe against kill -9 at the price of a write(2); and a checkpoint fsyncs the log before it touches the database and
 * the database before the log is reused, and the log's new header before its first frame, so a power cut never meets
 * a mixture. OFF would drop those fsyncs as well, and a power cut during a checkpoint could then destroy everything.
 * What must survive a power cut is fsynced by the writer on its own descriptor (journal.c).
 *
 * The file is hostile input (it may come from anywhere a user copied it from): views, triggers and functions in the
 * schema are off, cell sizes are checked, and every row is validated by whoever loads it. */
#include "journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "mem.h"

#define APPLICATION_ID 0x6f626a6d /* "objm" */

/* Keys are BLOBs: byte order, any byte. WITHOUT ROWID: the row lies in the tree of its key, found with one descent.
 * Columns are typed loosely on purpose (no CHECK): the loader validates, and it must see bad rows to report them. */
static const char schema_v1[] =
    "CREATE TABLE mark(name TEXT NOT NULL PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE remote(id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL UNIQUE);"
    "CREATE TABLE intent("
    " remote INTEGER NOT NULL, key BLOB NOT NULL, seq INTEGER, gen INTEGER, state INTEGER,"
    " flags INTEGER, spool_id INTEGER, size INTEGER, changed_ns INTEGER, md5 BLOB,"
    " base_etag TEXT, base_size INTEGER, expect_etag TEXT, after_remote INTEGER, after_key BLOB,"
    " upload_id TEXT, part_size INTEGER, err TEXT, meta TEXT, extents TEXT, upload_tag TEXT,"
    " meta_flags INTEGER, sent TEXT,"
    " PRIMARY KEY(remote, key)) WITHOUT ROWID;"
    "CREATE TABLE part("
    " remote INTEGER NOT NULL, key BLOB NOT NULL, number INTEGER NOT NULL, size INTEGER, etag TEXT,"
    " crc64 INTEGER, md5 BLOB, hash_state BLOB,"
    " PRIMARY KEY(remote, key, number)) WITHOUT ROWID;"
    "CREATE TABLE ledger("
    " remote INTEGER NOT NULL, key BLOB NOT NULL, etag TEXT, size INTEGER, mtime_ns INTEGER,"
    " flags INTEGER, md5 BLOB, crc64 INTEGER, src_remote INTEGER, src_key BLOB, src_etag TEXT,"
    " src_size INTEGER, src_mtime_ns INTEGER, done_wall_ns INTEGER, meta TEXT,"
    " PRIMARY KEY(remote, key)) WITHOUT ROWID;"
    "CREATE TABLE segments("
    " remote INTEGER NOT NULL, key BLOB NOT NULL, etag TEXT, data BLOB,"
    " PRIMARY KEY(remote, key)) WITHOUT ROWID;"
    "CREATE TABLE abort("
    " remote INTEGER NOT NULL, key BLOB NOT NULL, upload_id TEXT NOT NULL,"
    " PRIMARY KEY(remote, key, upload_id)) WITHOUT ROWID;"
    "CREATE TABLE attach("
    " dir BLOB NOT NULL PRIMARY KEY, spec TEXT, remote TEXT, prefix TEXT, options TEXT)"
    " WITHOUT ROWID;"
    "CREATE TABLE counter(name TEXT NOT NULL PRIMARY KEY, value INTEGER) WITHOUT ROWID;";

static const char schema_v2[] = "ALTER TABLE intent ADD COLUMN sent_extents TEXT DEFAULT '';";

/* Step i leads from version i to i + 1. Append only: an old step is never edited. */
static const char *const schema_steps[] = {schema_v1, schema_v2};

int jdb_errno(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_BUSY:
        return -EBUSY;
    case SQLITE_TOOBIG:
        return -EINVAL;
    case SQLITE_IOERR:
        /* Quota, file size limit, and room for the index of the log, which SQLite does not call FULL. errno itself, for
         * sqlite3_system_errno misses what fails inside a commit; callers clear it before and ask at once. */
        return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? -ENOSPC : -EIO;
    default:
        return -EIO;
    }
}

int jdb_error(struct sqlite3 *db, int rc, struct errinfo *reterr, const char *what)
{
    return err_set(reterr, ERR_LOCAL, jdb_errno(rc), "%s: %s", what,
                   db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

int jdb_exec(struct sqlite3 *db, const char *sql)
{
    errno = 0;
    int err = jdb_errno(sqlite3_exec(db, sql, NULL, NULL, NULL));
    if (err < 0) {
        log_debug("journal", "failed sql=\"%s\" rc=%d error=\"%s\"", sql,
                  sqlite3_extended_errcode(db), sqlite3_errmsg(db));
    }
    return err;
}

int jdb_prepare(struct sqlite3 *db, const char *sql, struct sqlite3_stmt **ret_st)
{
    return jdb_errno(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_st, NULL));
}

static int query_int(struct sqlite3 *db, const char *sql, int64_t *ret)
{
    struct sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            *ret = sqlite3_column_int64(st, 0);
            rc = SQLITE_OK;
        } else if (rc == SQLITE_DONE) {
            rc = SQLITE_CORRUPT; /* each of these has one row by its nature */
        }
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* Whether a one-row query answers exactly this text. */
static int query_is(struct sqlite3 *db, const char *sql, const char *want, bool *ret)
{
    struct sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            const unsigned char *text = sqlite3_column_text(st, 0);
            *ret = text && strcmp((const char *)text, want) == 0;
            rc = SQLITE_OK;
        }
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* A consistent copy beside the journal, complete and synced before anything is changed. */
static int backup(struct sqlite3 *db, const char *dir, unsigned version, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *tmp = mem_printf("%s/journal.db.v%u.tmp", dir, version);
    CLEANUP(mem_freep) char *final = mem_printf("%s/journal.db.v%u", dir, version);
    if (unlink(tmp) < 0 && errno != ENOENT) {
        return err_set_errno(reterr, errno, "cannot remove %s", tmp);
    }
    /* VACUUM INTO takes an empty file: made here, for its mode. */
    CLEANUP(mem_closep)
    int fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_set_errno(reterr, errno, "cannot create %s", tmp);
    }
    struct sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_bind_text(st, 1, tmp, -1, SQLITE_STATIC);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    int err = 0;
    if (rc != SQLITE_OK && rc != SQLITE_DONE) {
        err = jdb_error(db, rc, reterr, "cannot back the journal up before migrating it");
    }
    (void)sqlite3_finalize(st);
    if (err == 0 && (fsync(fd) < 0 || rename(tmp, final) < 0)) {
        err = err_set_errno(reterr, errno, "cannot keep the backup %s", final);
    }
    if (err < 0) {
        (void)unlink(tmp);
    }
    return err;
}

int jdb_migrate(struct sqlite3 *db, const char *dir, const char *const *steps, unsigned n_steps,
                struct errinfo *reterr)
{
    int64_t version = 0;
    int rc = query_int(db, "PRAGMA user_version", &version);
    if (rc != SQLITE_OK) {
        return jdb_error(db, rc, reterr, "cannot read the journal's version");
    }
    if (version < 0 || version > (int64_t)n_steps) {
        return err_set(
            reterr, ERR_LOCAL, -EPROTO,
            "%s/journal.db is of version %lld, this program knows up to %u: use the newer program, or "
            "another cache directory",
            dir, (long long)version, n_steps);
    }
    if (version == (int64_t)n_steps) {
        return 0;
    }
    if (version > 0) {
        int err = backup(db, dir, (unsigned)version, reterr);
        if (err < 0) {
            return err;
        }
    }
    int err = jdb_exec(db, "BEGIN IMMEDIATE");
    for (unsigned i = (unsigned)version; i < n_steps && err == 0; i++) {
        err = jdb_exec(db, steps[i]);
    }
    if (err == 0) {
        CLEANUP(mem_freep) char *sql = mem_printf("PRAGMA user_version=%u; COMMIT", n_steps);
        err = jdb_exec(db, sql);
    }
    if (err < 0) {
        (void)err_set(reterr, ERR_LOCAL, err,
                      "cannot bring %s/journal.db from version %lld to %u: %s", dir,
                      (long long)version, n_steps, sqlite3_errmsg(db));
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return err;
}

/* Refuses what is not ours before anything is written to it. *ret_fresh: an empty database. */
static int identify(struct sqlite3 *db, const char *dir, bool *ret_fresh, struct errinfo *reterr)
{
    int64_t app = 0, version = 0, tables = 0;
    int rc = query_int(db, "PRAGMA application_id", &app);
    if (rc == SQLITE_OK) {
        rc = query_int(db, "PRAGMA user_version", &version);
    }
    if (rc == SQLITE_OK) {
        rc = query_int(db, "SELECT count(*) FROM sqlite_schema", &tables);
    }
    if (rc != SQLITE_OK) {
        return jdb_error(db, rc, reterr, "cannot read journal.db");
    }
    bool fresh = app == 0 && version == 0 && tables == 0;
    if (!fresh && app != APPLICATION_ID) {
        return err_set(reterr, ERR_LOCAL, -EBADMSG, "%s/journal.db is not a journal of objmig",
                       dir);
    }
    if (!fresh && version > (int64_t)ARRAY_LEN(schema_steps)) {
        return err_set(
            reterr, ERR_LOCAL, -EPROTO,
            "%s/journal.db is of version %lld, this program knows up to %zu: use the newer program, or "
            "another cache directory",
            dir, (long long)version, ARRAY_LEN(schema_steps));
    }
    /* Text would come back in another form than the validators look at. */
    bool utf8 = false;
    rc = query_is(db, "PRAGMA encoding", "UTF-8", &utf8);
    if (rc != SQLITE_OK || !utf8) {
        return err_set(reterr, ERR_LOCAL, -EBADMSG, "%s/journal.db is not a journal of objmig",
                       dir);
    }
    *ret_fresh = fresh;
    return 0;
}

static void harden(struct sqlite3 *db)
{
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 1); /* VACUUM INTO needs the one */
}

static int prepare_writer(struct sqlite3 *db, const char *dir, bool fresh, struct errinfo *reterr)
{
    int err = 0;
    if (fresh) {
        CLEANUP(mem_freep) char *sql = mem_printf("PRAGMA application_id=%d", APPLICATION_ID);
        err = jdb_exec(db, sql);
    }
    bool wal = false;
    if (err == 0) {
        int rc = query_is(db, "PRAGMA journal_mode=WAL", "wal", &wal);
        err = jdb_errno(rc);
    }
    if (err == 0 && !wal) {
        return err_set(
            reterr, ERR_LOCAL, -ENOTSUP,
            "%s/journal.db cannot use a write-ahead log: the cache directory must be on a local file "
            "system",
            dir);
    }
    if (err == 0) {
        /* The writer itself checkpoints, between batches; the size limit cuts the file after a reset. */
        err = jdb_exec(db, "PRAGMA synchronous=NORMAL;"
                           "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864;"
                           "PRAGMA cache_size=-16384");
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "cannot set %s/journal.db up: %s", dir,
                       sqlite3_errmsg(db));
    }
    return jdb_migrate(db, dir, schema_steps, ARRAY_LEN(schema_steps), reterr);
}

int jdb_open(const char *dir, enum jdb_mode mode, struct sqlite3 **ret_db, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/journal.db", dir);
    if (mode == JDB_WRITER) {
        /* For its mode, which the log and its index inherit. Never opened when it exists: closing any descriptor of the
         * file would drop the locks SQLite holds on it elsewhere in this process. */
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 && errno != EEXIST) {
            return err_set_errno(reterr, errno, "cannot create %s", path);
        }
        if (fd >= 0) {
            close(fd);
        }
    } else {
        struct stat st;
        if (stat(path, &st) < 0) {
            return err_set_errno(reterr, errno, "no journal at %s", path);
        }
    }
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW |
                (mode == JDB_READONLY ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    /* NOFOLLOW looks at every component of the path; the directory itself may well be reached through a link. */
    CLEANUP(mem_freep) char *real = realpath(dir, NULL);
    if (!real) {
        return err_set_errno(reterr, errno, "cannot resolve %s", dir);
    }
    CLEANUP(mem_freep) char *real_path = mem_printf("%s/journal.db", real);
    struct sqlite3 *db = NULL;
    errno = 0; /* see jdb_errno */
    int rc = sqlite3_open_v2(real_path, &db, flags, NULL);
    if (rc != SQLITE_OK) {
        CLEANUP(mem_freep) char *what = mem_printf("cannot open %s", path);
        int err = jdb_error(db, rc, reterr, what);
        (void)sqlite3_close(db);
        return err;
    }
    harden(db);
    (void)sqlite3_busy_timeout(db, 10000);
    int err = jdb_exec(db, "PRAGMA cell_size_check=ON");
    bool fresh = false;
    if (err == 0) {
        err = identify(db, dir, &fresh, reterr);
    } else {
        err = jdb_error(db, sqlite3_extended_errcode(db), reterr, "cannot set journal.db up");
    }
    if (err == 0 && mode == JDB_WRITER) {
        err = prepare_writer(db, dir, fresh, reterr);
    } else if (err == 0) {
        /* A reader never checkpoints, also not as the last to close: it must not wait for the disk. */
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        int64_t version = 0;
        rc = query_int(db, "PRAGMA user_version", &version);
        if (rc == SQLITE_OK && mode == JDB_READER) {
            rc = sqlite3_exec(db, "PRAGMA query_only=ON", NULL, NULL, NULL);
        }
        if (fresh || version == 0 || rc != SQLITE_OK) {
            err = err_set(reterr, ERR_LOCAL, -ENOENT, "%s is still empty", path);
        } else if (version != (int64_t)ARRAY_LEN(schema_steps)) {
            err = err_set(reterr, ERR_LOCAL, -ESTALE,
                          "%s is of the older version %lld: the next mount brings it up to date",
                          path, (long long)version);
        }
    }
    if (err < 0) {
        (void)sqlite3_close(db);
        return err;
    }
    *ret_db = db;
    return 0;
}

void jdb_close(struct sqlite3 *db)
{
    if (db) {
        ENSURE(sqlite3_close(db) == SQLITE_OK);
    }
}
