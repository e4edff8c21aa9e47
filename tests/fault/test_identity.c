/* Rows name a bucket and a whole key, never a section or a prefix of the configuration (rules E1). And how the journal is waited
 * for: once a file, in flush, and together with whoever else came meanwhile (rules C4). */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>

#include "internal.h"
#include "mem.h"

static sqlite3 *journal_open_beside(struct fx *fx)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/cache/journal.db", fx->dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, 10000), SQLITE_OK);
    return db;
}

/* The first column of the first row. */
static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(st, 0);
    assert_int_equal(sqlite3_finalize(st), SQLITE_OK);
    return n;
}

static void renamed_section(struct fx *fx, unsigned r, const char *name, const char *prefix)
{
    free(fx->conf[r].name);
    free(fx->conf[r].prefix);
    fx->conf[r].name = mem_strdup(name);
    fx->conf[r].prefix = mem_strdup(prefix);
}

/* ---- E1 ---- */

/* Written through a section with a prefix, and found again by another section of the same bucket, without it. */
static void rows_name_bucket_and_key(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    renamed_section(fx, 0, "with-prefix", "deep/er/");
    fx_open(fx);
    fx_text(fx, 0, "deep/er/f", "bytes");
    fx_text(fx, 0, "deep/er/g", "committed");
    fx_close(fx);
    sqlite3 *db = journal_open_beside(fx);
    assert_int_equal(number(db, "SELECT count(*) FROM intent WHERE key=CAST('deep/er/f' AS BLOB)"), 1);
    assert_int_equal(number(db, "SELECT count(*) FROM intent"), 2);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    renamed_section(fx, 0, "another-name", "");
    fx_open_cache(fx); /* looked at before the remotes are there: what was sealed before is sent at once */
    assert_int_equal(fx_progress(fx).files_left, 2);
    assert_int_equal(fx_progress(fx).waiting, 2);
    fx_add_remotes(fx);
    assert_int_equal(fx_progress(fx).waiting, 0);
    assert_true(fx_is(fx, 0, "deep/er/f", "bytes"));
    fx_idle(fx);
    assert_at(fx, 0, "deep/er/f", "bytes");
    assert_at(fx, 0, "deep/er/g", "committed");
}

/* Two buckets have rows of the same key: each goes to its own, whatever the sections are called and in whatever order they come. */
static void sections_swap_names(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "of the first");
    fx_text(fx, 1, "f", "of the second");
    fx_close(fx);
    char *name = fx->conf[0].name;
    fx->conf[0].name = fx->conf[1].name;
    fx->conf[1].name = name;
    fx_open(fx);
    fx_idle(fx);
    assert_at(fx, 0, "f", "of the first");
    assert_at(fx, 1, "f", "of the second");
}

/* A bucket that nobody mounts now: its rows wait and are no failure; that of a copy from it waits, too; and all goes on with it. */
static void unreachable_waits(void **state)
{
    struct fx *fx = *state;
    struct errinfo e = {0};
    fx_text(fx, 0, "f", "of the first");
    fx_text(fx, 1, "f", "of the second");
    fx_close(fx);
    fx_open_cache(fx);
    assert_int_equal(cache_remote_add(fx->c, &fx->conf[1], false, &fx->r[1], &e), 0);
    fx_idle(fx);
    assert_at(fx, 1, "f", "of the second");
    struct cprogress p = fx_progress(fx);
    assert_int_equal(p.failed, 0);
    assert_int_equal(p.files_left, 1);
    assert_int_equal(p.waiting, 1);
    assert_at(fx, 0, "f", NULL);
    CLEANUP(buf_fini) struct buf status = BUF_INIT, errors = BUF_INIT;
    assert_int_equal(cache_status(fx->c, NULL, &status), 0);
    assert_non_null(strstr(buf_str(&status), "\"mounted\": false"));
    assert_int_equal(cache_errors(fx->c, NULL, &errors), 0);
    assert_string_equal(buf_str(&errors), "");
    assert_int_equal(cache_remote_add(fx->c, &fx->conf[0], false, &fx->r[0], &e), 0);
    fx_idle(fx);
    assert_at(fx, 0, "f", "of the first");
    assert_int_equal(fx_progress(fx).files_left, 0);
}

/* Two sections of one bucket, one of them with a prefix: one order, one file, and one line of the ledger. */
static void overlapping_prefixes(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    free(fx->conf[1].bucket);
    fx->conf[1].bucket = mem_strdup(fx->conf[0].bucket);
    renamed_section(fx, 1, "inner", "deep/");
    fx_open(fx);
    fx_text(fx, 0, "deep/f", "first");
    assert_true(fx_is(fx, 1, "deep/f", "first"));
    fx_text(fx, 1, "deep/f", "second");
    assert_true(fx_is(fx, 0, "deep/f", "second"));
    assert_int_equal(fx_progress(fx).files_left, 1);
    fx_idle(fx);
    assert_at(fx, 0, "deep/f", "second");
    fx_text(fx, 0, "deep/f", "second"); /* the ledger knows it by either name: nothing is sent */
    fx_idle(fx);
    fx_text(fx, 1, "deep/f", "second");
    fx_idle(fx);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1);
    sqlite3 *db = journal_open_beside(fx);
    assert_int_equal(number(db, "SELECT count(*) FROM ledger"), 1);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- C4 ---- */

struct flushed {
    struct creq r;
    sem_t done;
};

static void flush_begin(struct fx *fx, struct flushed *f, struct chandle *h)
{
    sem_init(&f->done, 0, 0);
    f->r = (struct creq){.done = fx_posted, .owner = &f->done};
    cache_flush(fx->c, &f->r, h);
}

static void flush_end(struct flushed *f)
{
    while (sem_wait(&f->done) < 0) {
    }
    sem_destroy(&f->done);
    assert_int_equal(f->r.status, 0);
}

/* Who writes the journal stands in a done until it is let go: nothing is committed meanwhile. */
struct gate {
    sem_t there, go;
};

static void stand(void *ctx, int status)
{
    struct gate *g = ctx;
    (void)status;
    sem_post(&g->there);
    while (sem_wait(&g->go) < 0) {
    }
}

static void journal_stop(struct fx *fx, struct gate *g)
{
    sem_init(&g->there, 0, 0);
    sem_init(&g->go, 0, 0);
    journal_submit(fx->c->journal, jtx_new(), 0, stand, g);
    while (sem_wait(&g->there) < 0) {
    }
}

static void journal_go_on(struct fx *fx, struct gate *g)
{
    sem_post(&g->go);
    assert_int_equal(journal_flush(fx->c->journal, false), 0); /* it has left the gate */
    sem_destroy(&g->there);
    sem_destroy(&g->go);
}

#define FILES 50

/* Everything but flush is answered while the journal is not written; a flush without news is, too; and all that came meanwhile
 * is in the journal as soon as one of them is. */
static void one_wait_a_file(void **state)
{
    struct fx *fx = *state;
    struct chandle *h[FILES], *in, *copy;
    struct flushed f[FILES], again;
    struct gate gate;
    fx_at_put(fx, 0, "src", "source");
    assert_int_equal(fx_lookup(fx, 0, "src", NULL), 0);
    fx_text(fx, 0, "before", "x");
    assert_int_equal(fx_openf(fx, 0, "before", O_RDONLY, &in), 0);
    journal_stop(fx, &gate);
    for (int i = 0; i < FILES; i++) {
        CLEANUP(mem_freep) char *key = mem_printf("f%02d", i);
        assert_int_equal(fx_create(fx, 0, key, &h[i]), 0);
        assert_int_equal(fx_write(fx, h[i], 0, "one", 3), 0);
        assert_int_equal(fx_write(fx, h[i], 3, "two", 3), 0);
    }
    assert_int_equal(fx_create(fx, 0, "copy", &copy), 0);
    assert_int_equal(fx_range(fx, in, 0, copy, 0, 1), 1);
    assert_int_equal(fx_end(fx, in), 0); /* who only read waits for nothing */
    for (int i = 0; i < FILES; i++) {
        flush_begin(fx, &f[i], h[i]);
    }
    fx_sleep_ms(50);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(sem_trywait(&f[i].done), -1);
    }
    sem_post(&gate.go);
    flush_end(&f[0]);
    sqlite3 *db = journal_open_beside(fx);
    /* With the first, all are in. */
    assert_int_equal(number(db, "SELECT count(*) FROM intent WHERE CAST(key AS TEXT) LIKE 'f__' AND (flags & 2) != 0"), FILES);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    for (int i = 1; i < FILES; i++) {
        flush_end(&f[i]);
    }
    journal_go_on(fx, &gate);
    journal_stop(fx, &gate);
    flush_begin(fx, &again, h[0]);
    flush_end(&again); /* nothing was written since */
    journal_go_on(fx, &gate);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(fx_end(fx, h[i]), 0);
    }
    assert_int_equal(fx_end(fx, copy), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 0);
    assert_at(fx, 0, "f49", "onetwo");
    assert_at(fx, 0, "copy", "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
        T(rows_name_bucket_and_key), T(sections_swap_names), T(unreachable_waits),
        T(overlapping_prefixes),     T(one_wait_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
