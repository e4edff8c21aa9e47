#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "mem.h"
#include "spool.h"
#include "sync.h"

#define BIG (UINT64_C(1) << 50)

static int setup(void **state)
{
    const char *base = getenv("TMPDIR");
    char *dir = mem_printf("%s/test-spool-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    char *dir = *state;
    CLEANUP(mem_freep) char *tmp = mem_printf("%s/tmp", dir);
    DIR *d = opendir(tmp);
    for (const struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            (void)unlinkat(dirfd(d), e->d_name, 0);
            (void)unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
        }
    }
    if (d) {
        (void)closedir(d);
    }
    (void)rmdir(tmp);
    assert_int_equal(rmdir(dir), 0);
    free(dir);
    return 0;
}

static struct spool *open_ok(const char *dir, uint64_t cache_size, unsigned max_open)
{
    struct spool *s = NULL;
    struct errinfo err = {0};
    int rc = spool_open(dir, cache_size, max_open, &s, &err);
    if (rc < 0) {
        print_error("spool_open: %d %s\n", rc, err.message);
    }
    assert_int_equal(rc, 0);
    return s;
}

static void fill(char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        p[i] = (char)(seed >> 16);
    }
}

static bool zeros(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

static void test_bytes(void **state)
{
    struct spool *s = open_ok(*state, BIG, 0);
    char in[10000], out[20000];
    fill(in, sizeof(in), 1);
    assert_int_equal(spool_write(s, 1, in, 1, 0), -ENOENT);
    assert_int_equal(spool_read(s, 1, out, 1, 0), -ENOENT);
    assert_int_equal(spool_create(s, 1), 0);
    assert_int_equal(spool_create(s, 1), -EEXIST);
    assert_int_equal(spool_read(s, 1, out, 10, 0), 0);
    assert_int_equal(spool_write(s, 1, in, sizeof(in), 5000), 0);
    uint64_t size = 0;
    assert_int_equal(spool_size(s, 1, &size), 0);
    assert_int_equal(size, 15000);
    assert_int_equal(spool_read(s, 1, out, sizeof(out), 0), 15000);
    assert_true(zeros(out, 5000) && memcmp(out + 5000, in, sizeof(in)) == 0);
    assert_int_equal(spool_read(s, 1, out, 100, 14999), 1);
    assert_int_equal(spool_read(s, 1, out, 100, 99999), 0);
    assert_int_equal(spool_write(s, 1, in, 0, 0), 0);
    assert_int_equal(spool_truncate(s, 1, 6000), 0);
    assert_int_equal(spool_truncate(s, 1, 7000), 0);
    assert_int_equal(spool_read(s, 1, out, sizeof(out), 0), 7000);
    assert_true(memcmp(out + 5000, in, 1000) == 0 && zeros(out + 6000, 1000));
    assert_int_equal(spool_write(s, 1, in, 1, UINT64_MAX), -EFBIG);
    assert_int_equal(spool_write(s, 1, in, 2, INT64_MAX), -EFBIG);
    assert_int_equal(spool_read(s, 1, out, 2, INT64_MAX), -EFBIG);
    assert_int_equal(spool_truncate(s, 1, UINT64_MAX), -EFBIG);
    assert_int_equal(spool_sync(s, 1), 0);
    assert_int_equal(spool_sync(s, 1), 0);
    assert_int_equal(spool_sync(s, 2), -ENOENT);
    assert_int_equal(spool_remove(s, 1), 0);
    assert_int_equal(spool_remove(s, 1), -ENOENT);
    assert_int_equal(spool_size(s, 1, &size), -ENOENT);
    assert_int_equal(spool_used(s), 0);
    spool_close(s);
    spool_close(NULL);
}

static void test_accounting(void **state)
{
    struct spool *s = open_ok(*state, BIG, 0);
    enum { N = 1 << 20 };
    CLEANUP(mem_freep) char *in = mem_zalloc(N);
    CLEANUP(mem_freep) char *out = mem_zalloc(N);
    fill(in, N, 2);
    assert_int_equal(spool_create(s, 7), 0);
    assert_int_equal(spool_write(s, 7, in, N, 0), 0);
    uint64_t full = spool_used(s);
    assert_true(full >= N && full < 2 * N);
    assert_int_equal(spool_write(s, 7, in, N, 0), 0);
    assert_true(spool_used(s) < 2 * N); /* written over, not more */
    assert_int_equal(spool_punch(s, 7, 65536, N / 2), 0);
    assert_true(spool_used(s) <= full - N / 2 + 65536);
    assert_int_equal(spool_read(s, 7, out, N, 0), N);
    assert_true(memcmp(out, in, 65536) == 0 && zeros(out + 65536, N / 2));
    assert_true(memcmp(out + 65536 + N / 2, in + 65536 + N / 2, N / 2 - 65536) == 0);
    assert_int_equal(spool_punch(s, 7, N * 4, N), 0);
    assert_int_equal(spool_punch(s, 7, 0, 0), 0);
    assert_int_equal(spool_punch(s, 7, 1, UINT64_MAX), -EFBIG);
    uint64_t size;
    assert_int_equal(spool_size(s, 7, &size), 0);
    assert_int_equal(size, N);
    uint64_t before = spool_used(s);
    spool_close(s);
    s = open_ok(*state, BIG, 0);
    assert_int_equal(spool_used(s), before);
    assert_int_equal(spool_truncate(s, 7, 0), 0);
    assert_int_equal(spool_used(s), 0);
    assert_int_equal(spool_remove(s, 7), 0);
    assert_int_equal(spool_used(s), 0);
    assert_int_equal(spool_files(s), 0);
    spool_close(s);
}

static void check_copy(struct spool *s, uint64_t soff, uint64_t doff, uint64_t len, const char *in)
{
    char *out = mem_zalloc(len + 1);
    assert_int_equal(spool_create(s, 2), 0);
    assert_int_equal(spool_copy(s, 1, soff, 2, doff, len), 0);
    uint64_t size;
    assert_int_equal(spool_size(s, 2, &size), 0);
    assert_int_equal(size, len > 0 ? doff + len : 0);
    assert_int_equal(spool_read(s, 2, out, len, doff), len);
    assert_memory_equal(out, in + soff, len);
    assert_int_equal(spool_remove(s, 2), 0);
    free(out);
}

static void test_copy(void **state)
{
    struct spool *s = open_ok(*state, BIG, 0);
    enum { N = 3 << 20 };
    CLEANUP(mem_freep) char *in = mem_zalloc(N);
    CLEANUP(mem_freep) char *out = mem_zalloc(N);
    fill(in, N, 3);
    assert_int_equal(spool_create(s, 1), 0);
    assert_int_equal(spool_write(s, 1, in, N, 0), 0);
    check_copy(s, 0, 0, N, in);
    check_copy(s, 5, 5, N - 10, in);
    check_copy(s, 4096, 0, 8192, in);
    check_copy(s, 100, 7, 100000, in);
    check_copy(s, 100, 100, 10, in);
    check_copy(s, 0, 0, 0, in);
    check_copy(s, N, 0, 0, in);
    assert_int_equal(spool_create(s, 3), 0);
    assert_int_equal(spool_copy(s, 1, 1, 3, 0, N), -EIO); /* the source ends before */
    assert_int_equal(spool_copy(s, 1, 0, 4, 0, 1), -ENOENT);
    assert_int_equal(spool_copy(s, 4, 0, 1, 0, 1), -ENOENT);
    assert_int_equal(spool_copy(s, 1, UINT64_MAX, 3, 0, 1), -EFBIG);
    assert_int_equal(spool_copy(s, 1, 0, 1, 4096, 8192), -EINVAL);
    assert_int_equal(spool_copy(s, 1, 0, 1, N, 8192), 0);
    assert_int_equal(spool_read(s, 1, out, 8192, N), 8192);
    assert_memory_equal(out, in, 8192);
    spool_close(s);
}

static unsigned open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    unsigned n = 0;
    while (readdir(d)) {
        n++;
    }
    (void)closedir(d);
    return n;
}

static void test_descriptors(void **state)
{
    struct spool *s = open_ok(*state, BIG, 4);
    unsigned before = open_descriptors();
    for (uint64_t id = 1; id <= 3000; id++) {
        assert_int_equal(spool_create(s, id), 0);
        assert_int_equal(spool_write(s, id, &id, sizeof(id), 0), 0);
    }
    assert_true(open_descriptors() <= before + 4);
    for (uint64_t id = 3000; id >= 1; id -= 7) {
        uint64_t got = 0;
        assert_int_equal(spool_read(s, id, &got, sizeof(got), 0), sizeof(got));
        assert_int_equal(got, id);
        if (id < 8) {
            break;
        }
    }
    assert_true(open_descriptors() <= before + 4);
    assert_int_equal(spool_files(s), 3000);
    for (uint64_t id = 1; id <= 3000; id++) {
        assert_int_equal(spool_remove(s, id), 0);
    }
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(spool_used(s), 0);
    spool_close(s);
}

/* --- recovery --- */

struct ids {
    struct spool *s;
    uint64_t sum;
    size_t n, stop_after;
    bool remove;
};

static int on_id(void *ctx, uint64_t id)
{
    struct ids *ids = ctx;
    ids->sum += id;
    ids->n++;
    if (ids->remove && id % 2 == 0) {
        assert_int_equal(spool_remove(ids->s, id), 0);
    }
    return ids->n == ids->stop_after ? 42 : 0;
}

static void make(const char *dir, const char *name)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/tmp/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void test_recovery(void **state)
{
    const char *dir = *state;
    struct spool *s = open_ok(dir, BIG, 0);
    for (uint64_t id = 1; id <= 10; id++) {
        assert_int_equal(spool_create(s, id), 0);
    }
    assert_int_equal(spool_create(s, UINT64_MAX), 0);
    spool_close(s);
    /* What is not ours is not seen and not touched. */
    make(dir, "notes.txt");
    make(dir, "000000000000000A");
    make(dir, "00000000000000001");
    CLEANUP(mem_freep) char *link = mem_printf("%s/tmp/00000000000000ff", dir);
    assert_int_equal(symlink("/etc/hostname", link), 0);
    CLEANUP(mem_freep) char *sub = mem_printf("%s/tmp/00000000000000fe", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    s = open_ok(dir, BIG, 0);
    struct ids ids = {.s = s};
    assert_int_equal(spool_each(s, on_id, &ids), 0);
    assert_int_equal(ids.n, 11);
    assert_int_equal(ids.sum, 55 + UINT64_MAX);
    char byte;
    assert_int_equal(spool_read(s, 0xff, &byte, 1, 0), -ENOENT);
    assert_int_equal(spool_create(s, 0xff), -EEXIST);
    ids = (struct ids){.s = s, .stop_after = 3};
    assert_int_equal(spool_each(s, on_id, &ids), 42);
    ids = (struct ids){.s = s, .remove = true};
    assert_int_equal(spool_each(s, on_id, &ids), 0);
    ids = (struct ids){.s = s};
    assert_int_equal(spool_each(s, on_id, &ids), 0);
    assert_int_equal(ids.n, 6);
    spool_close(s);
    CLEANUP(mem_freep) char *notes = mem_printf("%s/tmp/notes.txt", dir);
    assert_int_equal(access(notes, F_OK), 0);
    assert_int_equal(access(sub, F_OK), 0);
    CLEANUP(mem_freep) char *nowhere = mem_printf("%s/absent", dir);
    struct errinfo err = {0};
    assert_int_equal(spool_open(nowhere, BIG, 0, &s, &err), -ENOENT);
    assert_true(err.message[0] != '\0');
}

static void test_mode(void **state)
{
    struct spool *s = open_ok(*state, BIG, 0);
    assert_int_equal(spool_create(s, 1), 0);
    CLEANUP(mem_freep) char *tmp = mem_printf("%s/tmp", (char *)*state);
    CLEANUP(mem_freep) char *file = mem_printf("%s/tmp/0000000000000001", (char *)*state);
    struct stat st;
    assert_int_equal(stat(tmp, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* Removed by somebody else: the next open says so, removing it again is no error. */
    spool_close(s);
    s = open_ok(*state, BIG, 0);
    assert_int_equal(unlink(file), 0);
    char byte;
    assert_int_equal(spool_read(s, 1, &byte, 1, 0), -ENOENT);
    assert_int_equal(spool_remove(s, 1), 0);
    spool_close(s);
}

/* --- space --- */

static void test_space(void **state)
{
    enum { SIZE = 1 << 20, STEP = 64 << 10 };
    struct spool *s = open_ok(*state, SIZE, 0);
    CLEANUP(mem_freep) char *in = mem_zalloc(STEP);
    fill(in, STEP, 4);
    assert_int_equal(spool_create(s, 1), 0);
    uint64_t last = spool_space(s, 0);
    assert_int_equal(last, SIZE);
    assert_false(spool_high(s, 0, 0));
    unsigned steps = 0;
    while (!spool_high(s, 0, 0) && steps < 100) {
        assert_int_equal(spool_write(s, 1, in, STEP, (uint64_t)STEP * steps++), 0);
        uint64_t now = spool_space(s, 0);
        assert_true(now < last);
        last = now;
    }
    assert_true(steps >= 12 && steps <= 16);
    /* A writer may overshoot: the spool itself does not refuse. */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(spool_write(s, 1, in, STEP, (uint64_t)STEP * steps++), 0);
    }
    assert_int_equal(spool_space(s, 0), 0);
    assert_true(spool_high(s, 0, 0));
    /* And it stays high until there is clearly room. */
    assert_int_equal(spool_truncate(s, 1, SIZE - 80 * 1024), 0);
    assert_true(spool_high(s, 0, 0));
    assert_int_equal(spool_truncate(s, 1, SIZE / 2), 0);
    assert_false(spool_high(s, 0, 0));
    spool_close(s);
    /* What was there before counts. */
    s = open_ok(*state, SIZE, 0);
    assert_true(spool_space(s, 0) <= SIZE / 2);
    spool_close(s);
}

static void full_child(const char *dir)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", dir, "tmpfs", 0, "size=4m,mode=0700") < 0) {
        _exit(77);
    }
    struct spool *s = open_ok(dir, BIG, 0);
    enum { STEP = 100000 };
    char *in = mem_zalloc(STEP);
    fill(in, STEP, 5);
    assert_int_equal(spool_create(s, 1), 0);
    /* A tenth of the file system is left alone. */
    uint64_t space = spool_space(s, 0);
    assert_true(space <= (4 << 20) / 10 * 9 && space > (4 << 20) / 10 * 8);
    uint64_t off = 0;
    int err;
    bool high_in_time = false;
    while ((err = spool_write(s, 1, in, STEP, off)) == 0) {
        off += STEP;
        high_in_time = high_in_time || (spool_high(s, 0, 0) && off < (4 << 20) / 10 * 9);
    }
    assert_int_equal(err, -ENOSPC);
    assert_true(high_in_time);
    assert_int_equal(spool_space(s, 0), 0);
    /* What was written before is whole; the failed write may have left a part. */
    char *out = mem_zalloc(STEP);
    for (uint64_t at = 0; at < off; at += STEP) {
        assert_int_equal(spool_read(s, 1, out, STEP, at), STEP);
        assert_memory_equal(out, in, STEP);
    }
    assert_int_equal(spool_create(s, 2), 0);
    assert_int_equal(spool_copy(s, 1, 0, 2, 0, STEP), -ENOSPC);
    assert_int_equal(spool_remove(s, 2), 0);
    assert_int_equal(spool_punch(s, 1, 0, off / 2), 0);
    (void)usleep(60000); /* the file system is asked again */
    assert_true(spool_space(s, 0) > 0);
    assert_int_equal(spool_write(s, 1, in, STEP, 0), 0);
    assert_int_equal(spool_remove(s, 1), 0);
    assert_int_equal(spool_used(s), 0);
    spool_close(s);
    free(in);
    free(out);
    _exit(0);
}

static void test_full(void **state)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setenv("CMOCKA_TEST_ABORT", "1",
                     1); /* a failed check must not run the parent's tests here */
        full_child(*state);
    }
    int status = -1;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- syncing --- */

static void test_syncfs(void **state)
{
    struct spool *s = open_ok(*state, BIG, 0);
    int64_t before = time_wall_ns();
    int64_t first = spool_syncfs_tick(s, false);
    assert_true(first >= before && first <= time_wall_ns());
    assert_int_equal(spool_create(s, 1), 0);
    int64_t written = time_wall_ns();
    assert_int_equal(spool_syncfs_tick(s, false), first); /* not due yet: covers nothing newer */
    assert_int_equal(spool_syncfs(s), 0);
    int64_t second = spool_syncfs_tick(s, false);
    assert_true(second >= written);
    assert_int_equal(spool_syncfs(s), 0); /* nothing to do, and it advances */
    assert_true(spool_syncfs_tick(s, false) >= second);
    assert_int_equal(spool_sync_error(s), 0);
    spool_close(s);
}

/* --- many threads --- */

struct worker {
    struct spool *s;
    unsigned seed;
    unsigned wrong;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    unsigned r = w->seed;
    for (int i = 0; i < 3000; i++) {
        r = r * 1103515245 + 12345;
        uint64_t id = 1 + (r >> 16) % 12;
        char bytes[512];
        memset(bytes, (int)id, sizeof(bytes));
        int err = 0;
        ssize_t n;
        switch ((r >> 8) % 8) {
        case 0:
            err = spool_create(w->s, id);
            break;
        case 1:
            err = spool_remove(w->s, id);
            break;
        case 2:
            n = spool_read(w->s, id, bytes, sizeof(bytes), 0);
            for (ssize_t k = 0; k < n; k++) {
                w->wrong += bytes[k] != (char)id && bytes[k] != 0;
            }
            err = n < 0 ? (int)n : 0;
            break;
        case 3:
            err = spool_punch(w->s, id, 0, 4096);
            break;
        case 4:
            (void)spool_syncfs_tick(w->s, false);
            (void)spool_high(w->s, 0, 0);
            break;
        default:
            err = spool_write(w->s, id, bytes, sizeof(bytes), (r >> 20) % 8 * 512);
            break;
        }
        w->wrong += err != 0 && err != -ENOENT && err != -EEXIST;
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct spool *s = open_ok(*state, BIG, 3);
    pthread_t threads[6];
    struct worker workers[6];
    for (unsigned i = 0; i < 6; i++) {
        workers[i] = (struct worker){.s = s, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
    }
    for (uint64_t id = 1; id <= 12; id++) {
        (void)spool_remove(s, id);
    }
    assert_int_equal(spool_used(s), 0); /* no drift */
    assert_int_equal(spool_files(s), 0);
    spool_close(s);
}

/* Two threads that both want the file there: the one that is told -EEXIST can use it at once. */
static void *make_and_write(void *arg)
{
    struct worker *w = arg;
    for (uint64_t id = 1; id <= 2000; id++) {
        int err = spool_create(w->s, id);
        w->wrong += err != 0 && err != -EEXIST;
        w->wrong += spool_write(w->s, id, "x", 1, w->seed) != 0;
    }
    return NULL;
}

static void test_make_race(void **state)
{
    struct spool *s = open_ok(*state, BIG, 8);
    pthread_t threads[3];
    struct worker workers[3];
    for (unsigned i = 0; i < 3; i++) {
        workers[i] = (struct worker){.s = s, .seed = i};
        assert_int_equal(pthread_create(&threads[i], NULL, make_and_write, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
    }
    for (uint64_t id = 1; id <= 2000; id++) {
        char got[4] = "";
        assert_int_equal(spool_read(s, id, got, sizeof(got), 0), 3);
        assert_memory_equal(got, "xxx", 3);
    }
    spool_close(s);
}

#define WITH_DIR(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_bytes),       WITH_DIR(test_accounting), WITH_DIR(test_copy),
        WITH_DIR(test_descriptors), WITH_DIR(test_recovery),   WITH_DIR(test_mode),
        WITH_DIR(test_space),       WITH_DIR(test_full),       WITH_DIR(test_syncfs),
        WITH_DIR(test_threads),     WITH_DIR(test_make_race),
    };
    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
