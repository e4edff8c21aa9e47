/* The N-th local call fails, once or from then on: creating, writing, reading, copying in the spool, writing and syncing the
 * journal, memory for content. Whatever was accepted arrives, or the caller had an error; nothing else changes.
 *
 * The calls of the C library are counted in front of it (meson.build), SQLite's through its own table. OBJMIG_IO_FAULTS: how many
 * of each kind ("all"), OBJMIG_SEED which. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <unistd.h>

#include "mem.h"

#define BIG (3u * FX_THRESHOLD + 5)
#define EACH 3 /* calls tried of each site, kind and mode */

enum site { CREATE, WRITE, READ, COPY, SYNC, JOURNAL, BUFFER, SITES };
static const char *const site_names[SITES] = {"spool create", "spool write", "spool read", "spool copy",
                                              "journal sync", "journal write", "memory"};

static atomic_bool counting;
static atomic_uint calls[SITES];
static struct {
    enum site site;
    unsigned n; /* 0: none fails */
    int err;
    bool forever;
} fault;

static bool fails(enum site site)
{
    if (!atomic_load(&counting)) {
        return false;
    }
    unsigned n = atomic_fetch_add(&calls[site], 1) + 1;
    bool hit = fault.n != 0 && site == fault.site && (n == fault.n || (fault.forever && n > fault.n));
    if (hit) {
        errno = fault.err;
    }
    return hit;
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, mode_t mode);
ssize_t __real_pwrite64(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t off);
ssize_t __real_pread64(int fd, void *p, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *p, size_t n, off_t off);
ssize_t __real_copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags);
ssize_t __wrap_copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

int __wrap_openat64(int dir, const char *path, int flags, mode_t mode)
{
    return (flags & O_CREAT) && fails(CREATE) ? -1 : __real_openat64(dir, path, flags, mode);
}

ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t off)
{
    if (fails(WRITE)) {
        (void)__real_pwrite64(fd, p, n / 2, off); /* half of it arrives */
        errno = fault.err;
        return -1;
    }
    return __real_pwrite64(fd, p, n, off);
}

ssize_t __wrap_pread64(int fd, void *p, size_t n, off_t off)
{
    return fails(READ) ? -1 : __real_pread64(fd, p, n, off);
}

ssize_t __wrap_copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
    return fails(COPY) ? -1 : __real_copy_file_range(in, in_off, out, out_off, n, flags);
}

int __wrap_fdatasync(int fd)
{
    return fails(SYNC) ? -1 : __real_fdatasync(fd);
}

/* Content is what is asked of malloc itself; all else goes through mem.h, which ends the program when there is none. */
void *__wrap_malloc(size_t n)
{
    return fails(BUFFER) ? NULL : __real_malloc(n);
}

static ssize_t journal_pwrite(int fd, const void *p, size_t n, off_t off)
{
    return fails(JOURNAL) ? -1 : __real_pwrite64(fd, p, n, off);
}

static void journal_calls(bool ours)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    sqlite3_syscall_ptr f = ours ? (sqlite3_syscall_ptr)journal_pwrite : NULL;
    assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite", f), SQLITE_OK);
    assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite64", f), SQLITE_OK);
}

/* ---- the workload ---- */

enum op { PUT, BACKWARDS, PATCH, CP, MV, RM, IDLE };
static const struct step {
    enum op op;
    char from, to;
    unsigned id;
} script[] = {
    {PUT, 0, 'a', 1},       {PUT, 0, 'b', 2},   {PUT, 0, 'l', 3}, {IDLE, 0, 0, 0},  {BACKWARDS, 0, 'c', 4}, {PUT, 0, 'a', 5},
    {CP, 'a', 'd', 0},      {PATCH, 0, 'l', 0}, {CP, 'l', 'm', 0}, {PUT, 0, 'l', 6}, {IDLE, 0, 0, 0},        {CP, 'a', 't', 0},
    {CP, 'b', 'a', 0},      {MV, 't', 'b', 0},  {RM, 0, 'd', 0},  {IDLE, 0, 0, 0},  {BACKWARDS, 0, 'm', 9}, {MV, 'c', 'd', 0},
    {PUT, 0, 'a', 7},       {PUT, 0, 'a', 8},   {CP, 'm', 'c', 0}, {IDLE, 0, 0, 0},
};

#define UNCERTAIN 1000u
static unsigned now[128]; /* content by key; 0 = absent, UNCERTAIN after an error */

static size_t content_len(unsigned id)
{
    return id % 3 == 0 ? BIG + id % 50 : 900 + id % 50;
}

static void content(unsigned id, char *p)
{
    fx_pattern(p, content_len(id), 0, id % 50);
    if (id >= 50) {
        memcpy(p + content_len(id) / 2, "PATCH", 5);
    }
}

static char bytes[BIG + 100], got[BIG + 100];

static int write_at(struct fx *fx, const char *key, bool backwards, size_t n)
{
    struct chandle *h;
    int err = fx_lookup(fx, 0, key, NULL);
    err = err == 0 ? fx_openf(fx, 0, key, O_RDWR | O_TRUNC, &h) : err == -ENOENT ? fx_create(fx, 0, key, &h) : err;
    if (err < 0) {
        return err;
    }
    size_t half = backwards ? n / 2 : 0;
    err = fx_write(fx, h, half, bytes + half, n - half);
    if (err == 0 && half > 0) {
        err = fx_write(fx, h, 0, bytes, half);
    }
    int end = fx_end(fx, h);
    return err < 0 ? err : end;
}

static int patch(struct fx *fx, const char *key, size_t at)
{
    struct chandle *h;
    int err = fx_lookup(fx, 0, key, NULL);
    err = err == 0 ? fx_openf(fx, 0, key, O_RDWR, &h) : err;
    if (err < 0) {
        return err;
    }
    err = fx_write(fx, h, at, "PATCH", 5);
    int end = fx_end(fx, h);
    return err < 0 ? err : end;
}

/* True when the call had an error. */
static bool run_step(struct fx *fx, const struct step *s, unsigned idle_ms)
{
    const char from[] = {s->from, '\0'}, to[] = {s->to, '\0'};
    unsigned *f = &now[(unsigned char)s->from], *t = &now[(unsigned char)s->to], before = *t;
    int err = 0;
    switch (s->op) {
    case PUT:
    case BACKWARDS:
        content(s->id, bytes);
        err = write_at(fx, to, s->op == BACKWARDS, content_len(s->id));
        *t = s->id;
        break;
    case PATCH:
        if (before == UNCERTAIN) {
            return false;
        }
        err = patch(fx, to, content_len(before) / 2);
        *t = before + 50;
        break;
    case CP:
        err = fx_cp(fx, 0, from, 0, to);
        *t = *f;
        break;
    case MV:
        err = fx_rename(fx, 0, from, to, 0);
        *t = *f;
        *f = err < 0 ? UNCERTAIN : 0;
        break;
    case RM:
        err = fx_unlink(fx, 0, to);
        *t = 0;
        break;
    case IDLE:
        (void)fx_idle_within(fx, idle_ms);
        return false;
    }
    if (err < 0) {
        *t = UNCERTAIN;
    }
    return err < 0;
}

static void check(struct fx *fx, const char *what)
{
    for (unsigned k = 'a'; k <= 'z'; k++) {
        const char key[] = {(char)k, '\0'};
        ssize_t n = fx_at(fx, 0, key, got, sizeof(got));
        if (now[k] == UNCERTAIN) {
            continue;
        }
        size_t want = now[k] != 0 ? content_len(now[k]) : 0;
        if (now[k] != 0) {
            content(now[k], bytes);
        }
        if (now[k] == 0 ? n != -ENOENT : n != (ssize_t)want || memcmp(bytes, got, want) != 0) {
            fx_report(fx);
            fail_msg("%s: %s should be content %u (%zu bytes): %zd bytes there", what, key, now[k], want, n);
        }
    }
}

/* One run; how many calls had an error. */
static unsigned run(const char *what)
{
    struct fx fx;
    unsigned errors = 0;
    fx_init(&fx, "memory");
    fx.opt.writeback_delay_ms = 5;
    memset(now, 0, sizeof(now));
    for (unsigned i = 0; i < SITES; i++) {
        atomic_store(&calls[i], 0);
    }
    fx_open(&fx);
    atomic_store(&counting, true);
    for (unsigned i = 0; i < ARRAY_LEN(script); i++) {
        errors += run_step(&fx, &script[i], fault.n == 0 ? FX_PATIENCE_MS : 250);
    }
    atomic_store(&counting, false);
    bool again = fault.forever || fault.site == JOURNAL || fault.site == SYNC || errors > 0;
    for (int i = 0; i < 3; i++) {
        if (again) {
            fx_close(&fx);
            fx_open(&fx);
        }
        unsigned n;
        assert_int_equal(cache_retry(fx.c, NULL, &n), 0);
        if (!fx_idle_within(&fx, FX_PATIENCE_MS)) {
            fx_report(&fx);
            fail_msg("%s: work is left", what);
        }
        if (fx_progress(&fx).failed == 0) {
            break;
        }
    }
    if (fx_progress(&fx).failed > 0) {
        fx_report(&fx);
        fail_msg("%s: failed for good", what);
    }
    check(&fx, what);
    fx_close(&fx);
    fx_open(&fx); /* and all of that is on record */
    fx_idle(&fx);
    check(&fx, what);
    fx_fini(&fx);
    return errors;
}

static unsigned rnd(uint64_t *s, unsigned n)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*s >> 33) % n;
}

static void each_call_fails(void **state)
{
    (void)state;
    const char *want = getenv("OBJMIG_IO_FAULTS"), *seed_text = getenv("OBJMIG_SEED");
    unsigned each = want == NULL ? EACH : strcmp(want, "all") == 0 ? UINT32_MAX : (unsigned)strtoul(want, NULL, 10);
    uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : 20261120;
    unsigned total[SITES], runs = 0, told = 0;
    journal_calls(true);
    fault.n = 0;
    assert_int_equal(run("without a fault"), 0);
    for (unsigned i = 0; i < SITES; i++) {
        total[i] = atomic_load(&calls[i]);
        print_message("# %s: %u calls\n", site_names[i], total[i]);
        assert_true(total[i] > 0 || i == COPY); /* where the spool's file system shares blocks, nothing is copied */
    }
    for (unsigned i = 0; i < SITES; i++) {
        bool space = i == CREATE || i == WRITE || i == JOURNAL || i == COPY;
        for (unsigned mode = 0; mode < (space ? 4 : 2); mode++) {
            for (unsigned n = 1; n <= total[i] && n <= each; n++) {
                fault.site = (enum site)i;
                fault.n = each == UINT32_MAX ? n : 1 + rnd(&seed, total[i]);
                fault.err = mode >= 2 ? ENOSPC : i == BUFFER ? ENOMEM : EIO;
                fault.forever = mode % 2 == 1;
                char what[100];
                (void)snprintf(what, sizeof(what), "%s %u %s %s", site_names[i], fault.n, strerror(fault.err),
                               fault.forever ? "from then on" : "once");
                told += run(what);
                runs++;
            }
        }
    }
    journal_calls(false);
    print_message("# %u runs, %u calls had an error\n", runs, told);
    assert_true(told > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_call_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
