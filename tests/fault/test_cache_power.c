/* A power cut as far as the cache can see it: sealed files wait, the journal comes from another boot, and what was written to
 * the spool without a sync is there, gone or torn. What is damaged is LOST: reported, never sent; all else arrives. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "sync.h"

#define LEN 20000u

/* ---- the journal as a power cut would leave it: what it was when it was last synced ---- */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_syncfs(int fd);
int __wrap_syncfs(int fd);

/* The spool is not synced any more: what is written from here on is young however long the test takes. */
static atomic_bool no_syncfs;

int __wrap_syncfs(int fd)
{
    if (atomic_load(&no_syncfs)) {
        errno = EIO;
        return -1;
    }
    return __real_syncfs(fd);
}

static struct {
    struct mutex lock;
    unsigned n;
    char *db, *wal;
    size_t db_len, wal_len;
} image = {.lock = MUTEX_INIT(RANK_LOG)};

static char *slurp(const char *path, size_t *ret_len)
{
    struct stat st;
    CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    char *p = malloc((size_t)st.st_size + 1);
    *ret_len = (size_t)st.st_size;
    assert_int_equal(read(fd, p, *ret_len), *ret_len);
    return p;
}

/* The journal's own sync of its log (journal.c); the database is whatever it is. */
int __wrap_fdatasync(int fd)
{
    int rc = __real_fdatasync(fd);
    char link[64], path[PATH_MAX];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n > 4 && memcmp(path + n - 4, "-wal", 4) == 0) {
        path[n] = '\0';
        mutex_lock(&image.lock);
        free(image.wal);
        free(image.db);
        image.wal = slurp(path, &image.wal_len);
        path[n - 4] = '\0';
        image.db = slurp(path, &image.db_len);
        image.n++;
        mutex_unlock(&image.lock);
    }
    return rc;
}

static void spill(const char *path, const char *p, size_t len)
{
    CLEANUP(mem_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, p, len) == (ssize_t)len);
}

/* Forgets all after the sync that was newest when `cut` was taken. */
struct cut {
    char *db, *wal;
    size_t db_len, wal_len;
};

static struct cut cut_now(void)
{
    mutex_lock(&image.lock);
    assert_true(image.n > 0);
    struct cut c = {malloc(image.db_len), malloc(image.wal_len), image.db_len, image.wal_len};
    memcpy(c.db, image.db, c.db_len);
    memcpy(c.wal, image.wal, c.wal_len);
    mutex_unlock(&image.lock);
    return c;
}

static void cut_apply(struct fx *fx, struct cut *c)
{
    CLEANUP(mem_freep) char *db = mem_printf("%s/cache/journal.db", fx->dir);
    CLEANUP(mem_freep) char *wal = mem_printf("%s-wal", db);
    CLEANUP(mem_freep) char *shm = mem_printf("%s-shm", db);
    (void)unlink(shm);
    spill(db, c->db, c->db_len);
    spill(wal, c->wal, c->wal_len);
    free(c->db);
    free(c->wal);
}

enum damage { KEPT, GONE, EMPTY, SHORT, TORN, DAMAGES };

/* One value of the journal, while no cache has it open. */
static int64_t journal_value(struct fx *fx, const char *text)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/cache/journal.db", fx->dir);
    sqlite3 *db;
    sqlite3_stmt *st;
    int64_t v = 0;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &st, NULL), SQLITE_OK);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        v = sqlite3_column_int64(st, 0);
    } else {
        assert_int_equal(rc, SQLITE_DONE);
    }
    assert_int_equal(sqlite3_finalize(st), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return v;
}

static void damage(struct fx *fx, const char *key, enum damage how)
{
    CLEANUP(mem_freep) char *text = mem_printf("SELECT spool_id FROM intent WHERE key=CAST('%s' AS BLOB)", key);
    int64_t id = journal_value(fx, text);
    assert_true(id > 0);
    CLEANUP(mem_freep) char *path = mem_printf("%s/cache/tmp/%016llx", fx->dir, (unsigned long long)id);
    static const char zeros[512];
    CLEANUP(mem_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    switch (how) {
    case GONE:
        assert_int_equal(unlink(path), 0);
        break;
    case EMPTY:
        assert_int_equal(ftruncate(fd, 0), 0);
        break;
    case SHORT:
        assert_int_equal(ftruncate(fd, LEN - 1000), 0);
        break;
    case TORN:
        assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 8192), sizeof(zeros));
        break;
    case KEPT:
    case DAMAGES:
        break;
    }
}

static void another_boot(struct fx *fx)
{
    (void)journal_value(fx, "UPDATE mark SET value='another' WHERE name='boot_id'");
}

/* Until the scheduler has noted a sync of the spool that began after this call: its first, of a start, may fall anywhere. */
static void sync_wait(struct fx *fx)
{
    int64_t now = time_wall_ns();
    FX_AWAIT(fx, journal_value(fx, "SELECT value FROM mark WHERE name='spool_synced'") > now);
}

static void pattern_put(struct fx *fx, const char *key, unsigned seed)
{
    char p[LEN];
    fx_pattern(p, LEN, 0, seed);
    assert_int_equal(fx_put(fx, 0, key, p, LEN), 0);
}

/* Written from its end to its start: nobody has its MD5. Still open. */
static struct chandle *backwards_open(struct fx *fx, const char *key, unsigned seed)
{
    char p[LEN];
    struct chandle *h;
    fx_pattern(p, LEN, 0, seed);
    assert_int_equal(fx_create(fx, 0, key, &h), 0);
    assert_int_equal(fx_write(fx, h, LEN / 2, p + LEN / 2, LEN / 2), 0);
    assert_int_equal(fx_write(fx, h, 0, p, LEN / 2), 0);
    return h;
}

static void backwards_put(struct fx *fx, const char *key, unsigned seed)
{
    assert_int_equal(fx_end(fx, backwards_open(fx, key, seed)), 0);
}

static bool arrived(struct fx *fx, const char *key, unsigned seed)
{
    char p[LEN], got[LEN + 1];
    fx_pattern(p, LEN, 0, seed);
    return fx_at(fx, 0, key, got, sizeof(got)) == LEN && memcmp(p, got, LEN) == 0;
}

static void no_failures(struct fx *fx)
{
    fx_idle(fx);
    if (fx_progress(fx).failed > 0) {
        fx_report(fx);
    }
    assert_int_equal(fx_progress(fx).failed, 0);
}

/* LOST stays LOST: over a retry, a rename and a start of the same boot; new content ends it. */
static void stays_lost(struct fx *fx, const char *key)
{
    char got[LEN];
    unsigned n;
    for (int i = 0; i < 2; i++) {
        fx_idle(fx);
        assert_int_equal(fx_progress(fx).failed, 1);
        assert_at(fx, 0, key, NULL);
        assert_int_equal(fx_get(fx, 0, key, got, LEN), -EIO); /* no program takes it for the file */
        assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
        assert_int_equal(n, 0);
        CLEANUP(buf_fini) struct buf b = BUF_INIT;
        assert_int_equal(cache_errors(fx->c, NULL, &b), 0);
        assert_non_null(strstr(buf_str(&b), "LOST"));
        fx_close(fx);
        fx_open(fx);
    }
    char moved[32];
    (void)snprintf(moved, sizeof(moved), "moved %s", key);
    assert_int_equal(fx_rename(fx, 0, key, moved, 0), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 1);
    assert_at(fx, 0, moved, NULL);
    pattern_put(fx, moved, 77);
    no_failures(fx);
    assert_true(arrived(fx, moved, 77));
}

static void by_md5(void **state)
{
    struct fx *fx = *state;
    for (enum damage how = KEPT; how < DAMAGES; how++) {
        char key[] = {'k', (char)('0' + how), '\0'};
        pattern_put(fx, key, how);
        fx_close(fx);
        damage(fx, key, how);
        another_boot(fx);
        fx_open(fx);
        if (how == KEPT) {
            no_failures(fx);
            assert_true(arrived(fx, key, how));
        } else {
            stays_lost(fx, key);
        }
    }
}

/* Without an MD5 the time decides: sealed before a sync of the spool that is over. */
static void by_time(void **state)
{
    struct fx *fx = *state;
    backwards_put(fx, "synced", 1);
    sync_wait(fx);
    atomic_store(&no_syncfs, true);
    backwards_put(fx, "young", 2);
    fx_close(fx);
    atomic_store(&no_syncfs, false);
    another_boot(fx);
    fx_open(fx);
    fx_idle(fx);
    assert_true(arrived(fx, "synced", 1));
    stays_lost(fx, "young");
}

/* Synced, then changed in place: the sealed row that a power cut may bring back has to be taken back durably first. Here the cut
 * is the copy of the journal at its last fdatasync. */
static void changed_after_sync(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    backwards_put(fx, "f", 1);
    sync_wait(fx);
    assert_int_equal(fx_openf(fx, 0, "f", O_RDWR, &h), 0);
    assert_int_equal(fx_write(fx, h, 5, "in place", 8), 0);
    struct cut cut = cut_now();
    (void)fx_end(fx, h);
    fx_close(fx);
    cut_apply(fx, &cut);
    another_boot(fx);
    fx_open(fx);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).unfinished, 1);
    assert_at(fx, 0, "f", NULL);
}

/* Copied by read and write, then deleted: before the object goes the copy is safe on its disk, and the journal can tell so after
 * a power cut, also where only the time tells and the last sync of the spool came between its bytes and its end. */
static void deleted_after_sync(void **state)
{
    struct fx *fx = *state;
    static const char *const src[] = {"src 0", "src 1"}, *const dst[] = {"dst 0", "dst 1"};
    fx_at_put(fx, 1, src[0], "as somebody else put it there");
    fx_at_put(fx, 1, src[1], "as somebody else put it there");
    for (unsigned synced = 0; synced < 2; synced++) {
        assert_int_equal(fx_lookup(fx, 1, src[synced], NULL), 0);
        struct chandle *h = backwards_open(fx, dst[synced], 1);
        if (synced) {
            sync_wait(fx);
        }
        int64_t written = time_wall_ns();
        assert_int_equal(fx_end(fx, h), 0);
        assert_int_equal(fx_unlink(fx, 1, src[synced]), 0);
        cache_hurry(fx->c, &(struct cscope){.remote = fx->r[1], .prefix = ""});
        FX_AWAIT(fx, fx_calls(fx, 1, BE_REMOVE) == synced + 1);
        assert_true(journal_value(fx, "SELECT value FROM mark WHERE name='spool_synced'") >= written);
    }
}

/* A commit that had arrived, though the machine forgot that it had: the bytes are gone here and are there. */
static void committed_and_forgotten(void **state)
{
    struct fx *fx = *state;
    char got[LEN], want[LEN];
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_fault(fx, 0, BE_STAT, 0, 100, -EIO, ERR_TRANSIENT, false);
    pattern_put(fx, "f", 3);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_WRITE) == 1);
    fx_close(fx);
    damage(fx, "f", TORN);
    another_boot(fx);
    fx_open(fx);
    no_failures(fx);
    assert_true(arrived(fx, "f", 3));
    fx_pattern(want, LEN, 0, 3);
    assert_int_equal(fx_get(fx, 0, "f", got, LEN), LEN); /* from there, not from here */
    assert_memory_equal(got, want, LEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
        T(by_md5), T(by_time), T(changed_after_sync), T(deleted_after_sync), T(committed_and_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
