/* The journal when the process, the disk or the database goes away under it. */
#include "journal_fixture.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* --- killed at any moment --- */

struct killed {
    _Atomic uint64_t acked, durable_acked;
};

static void on_acked(void *ctx, int status)
{
    struct killed *k = ctx;
    if (status == 0) {
        atomic_fetch_add(&k->acked, 1);
    }
}

/* Transaction i (from 1) writes row i; acked counts in order, so rows 1 … acked must be there. */
static void killed_child(const char *dir, struct killed *k, uint64_t from)
{
    struct journal *j = NULL;
    if (journal_open(dir, &j, NULL) < 0) {
        _exit(3);
    }
    for (uint64_t i = from;; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "%llu", (unsigned long long)i);
        struct jtx *tx = jtx_new();
        struct jintent row = intent(key, i);
        row.meta = "meta-a=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
        jtx_intent_put(tx, &row);
        struct jpart part = {.number = 1, .etag = "e"};
        jtx_part_put(tx, 1, key, &part);
        journal_submit(j, tx, i % 64 == 0 ? JTX_DURABLE : 0, on_acked, k);
        if (i - from > atomic_load(&k->acked) + 300) {
            (void)journal_flush(j, false);
        }
    }
}

struct prefix {
    uint64_t n;
    bool whole;
};

static int on_prefix(void *ctx, const struct jintent *row, const struct jpart *parts,
                     size_t n_parts)
{
    struct prefix *p = ctx;
    p->n++;
    p->whole = p->whole && row->state == FS_DIRTY && row->seq == p->n && n_parts == 1;
    return 0;
}

static void test_kill(void **state)
{
    const char *dir = *state;
    struct killed *k =
        mmap(NULL, sizeof(*k), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(k != MAP_FAILED);
    unsigned seed = 12345;
    uint64_t there = 0;
    for (int round = 0; round < 30; round++) {
        if (there > 20000) { /* keeps the walks short */
            clear(dir);
            there = 0;
        }
        atomic_store(&k->acked, 0);
        (void)fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            killed_child(dir, k, there + 1);
        }
        assert_true(pid > 0);
        seed = seed * 1103515245 + 12345;
        (void)usleep(1000 + seed / 65536 % 40000);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_true(waitpid(pid, &status, 0) == pid);
        assert_true(WIFSIGNALED(status));
        uint64_t acked = atomic_load(&k->acked);
        struct journal *j = open_ok(dir);
        struct prefix p = {.whole = true};
        assert_int_equal(journal_each_intent(j, on_prefix, &p), 0);
        assert_true(p.whole);              /* a prefix, every transaction whole */
        assert_true(p.n >= there + acked); /* and nothing acknowledged is missing */
        assert_true(p.n == 0 || journal_max_seq(j) >= p.n);
        there = p.n;
        journal_close(j);
    }
    assert_int_equal(munmap(k, sizeof(*k)), 0);
}

/* --- no room, and other failures --- */

static void fill_until(struct journal *j, struct told *told, int status)
{
    CLEANUP(mem_freep) char *meta = mem_zalloc(100001);
    memset(meta, 'm', 100000);
    for (unsigned i = 1; i <= 200 && atomic_load(&told->last) != status; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "%u", i);
        struct jintent row = intent(key, i);
        row.meta = meta;
        struct jtx *tx = jtx_new();
        jtx_intent_put(tx, &row);
        journal_submit(j, tx, 0, on_done, told);
        (void)journal_flush(j, false);
    }
    assert_int_equal(atomic_load(&told->last), status);
}

/* In a child: limits and mounts are its own. */
static void full_disk(const char *dir, void (*shrink)(const char *), void (*widen)(const char *))
{
    struct journal *j = open_ok(dir);
    shrink(dir);
    struct told told = {0};
    fill_until(j, &told, -ENOSPC);
    assert_true(journal_full(j));
    assert_false(journal_failed(j));
    int before = atomic_load(&told.n), bad = atomic_load(&told.bad);
    /* A barrier does not pass either: what came before it is not recorded. */
    assert_int_equal(journal_flush(j, false), -ENOSPC);
    /* Reading goes on. */
    struct seen_rows s = {0};
    walk(j, &s);
    assert_int_equal(s.n, before - bad);
    struct jintent late = intent("late", 500);
    struct jtx *tx = jtx_new();
    jtx_intent_put(tx, &late);
    journal_submit(j, tx, JTX_DURABLE, on_done, &told);
    (void)journal_flush(j, true);
    widen(dir);
    /* By itself, without another submit. */
    for (int i = 0; i < 6000 && journal_full(j); i++) {
        (void)usleep(10000);
    }
    assert_false(journal_full(j));
    assert_int_equal(journal_flush(j, true), 0);
    s = (struct seen_rows){.want = late};
    walk(j, &s);
    assert_int_equal(s.n, before + 1); /* the ones told to have failed as well */
    assert_true(s.equal);
    assert_int_equal(atomic_load(&told.n), before + 1);
    journal_close(j);
    j = open_ok(dir);
    s = (struct seen_rows){0};
    walk(j, &s);
    assert_int_equal(s.n, before + 1);
    assert_int_equal(s.bad, 0);
    journal_close(j);
}

static void limit(rlim_t bytes)
{
    struct rlimit l;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
    l.rlim_cur = bytes == RLIM_INFINITY ? l.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void limit_on(const char *dir)
{
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    limit(600000);
}

static void limit_off(const char *dir)
{
    limit(RLIM_INFINITY);
}

static void ballast(const char *dir)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/ballast", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static const char zeros[65536];
    for (size_t n = sizeof(zeros); n >= 512; n /= 2) {
        while (write(fd, zeros, n) > 0) {
        }
    }
    close(fd);
    /* A little is left, so that some commits succeed. */
    assert_int_equal(truncate(path, 1 << 20), 0);
}

static void ballast_gone(const char *dir)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/ballast", dir);
    assert_int_equal(unlink(path), 0);
}

static void run_child(const char *dir, void (*fn)(const char *dir))
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setenv("CMOCKA_TEST_ABORT", "1",
                     1); /* a failed check must not run the parent's tests here */
        fn(dir);
        _exit(0);
    }
    int status = -1;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void full_by_limit(const char *dir)
{
    full_disk(dir, limit_on, limit_off);
}

static void full_by_tmpfs(const char *dir)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", dir, "tmpfs", 0, "size=3m,mode=0700") < 0) {
        _exit(77);
    }
    full_disk(dir, ballast, ballast_gone);
}

static void test_full_limit(void **state)
{
    run_child(*state, full_by_limit);
}

static void test_full_tmpfs(void **state)
{
    run_child(*state, full_by_tmpfs);
}

/* The database changes under the writer in a way no retry mends: everything after it fails, in order, at once. */
static void test_failed(void **state)
{
    const char *dir = *state;
    struct journal *j = open_ok(dir);
    struct told told = {0};
    struct jintent row = intent("before", 1);
    put_intent(j, &row);
    assert_int_equal(journal_flush(j, false), 0);
    raw(dir, "DROP TABLE counter");
    struct jtx *tx = jtx_new();
    jtx_counter_add(tx, "n", 1);
    journal_submit(j, tx, 0, NULL, NULL);
    assert_int_equal(journal_flush(j, false), -EIO);
    assert_true(journal_failed(j));
    tx = jtx_new();
    row = intent("after", 2);
    jtx_intent_put(tx, &row);
    journal_submit(j, tx, JTX_DURABLE, on_done, &told);
    assert_int_equal(journal_flush(j, true), -EIO);
    assert_int_equal(atomic_load(&told.last), -EIO);
    struct seen_rows s = {0};
    assert_true(journal_each_intent(j, on_intent, &s) == 0 && s.n == 1);
    journal_close(j);
}

/* A reader that does not let go makes the log grow; once it has gone, the log is cut again. */
static void test_log_bounded(void **state)
{
    const char *dir = *state;
    struct journal *j = open_ok(dir);
    CLEANUP(mem_freep) char *path = mem_printf("%s/journal.db", dir);
    CLEANUP(mem_freep) char *wal = mem_printf("%s/journal.db-wal", dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM intent", NULL, NULL, NULL),
                     SQLITE_OK);
    CLEANUP(mem_freep) char *meta = mem_zalloc(1000001);
    memset(meta, 'm', 1000000);
    struct stat st = {0};
    for (unsigned i = 0; i < 110; i++) {
        if (i == 80) {
            assert_int_equal(stat(wal, &st), 0);
            assert_true(st.st_size > 64 << 20);
            assert_int_equal(sqlite3_close(db), SQLITE_OK);
        }
        struct jintent row = intent(i % 2 ? "a" : "b", i + 1);
        memset(meta, 'A' + (int)(i % 26), 1000000); /* equal pages are not written again */
        row.meta = meta;
        put_intent(j, &row);
        assert_int_equal(journal_flush(j, false), 0);
    }
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 64 << 20);
    journal_close(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_kill),   WITH_DIR(test_full_limit),  WITH_DIR(test_full_tmpfs),
        WITH_DIR(test_failed), WITH_DIR(test_log_bounded),
    };
    return cmocka_run_group_tests_name("journal_crash", tests, NULL, NULL);
}
