/* The rules of the design that no other test would notice if they were broken: order and intents (B), what counts as written
 * (C), checksums and metadata (D). tests/README.md says which rule is tested where.
 *
 * Time is moved, not waited for, where a rule speaks of minutes. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "sync.h"

#define NS INT64_C(1000000000)

/* ---- the clock and the disk ---- */

static atomic_llong moved_s;
static atomic_bool no_sync;
static atomic_uint wal_syncs, spool_syncs;

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_syncfs(int fd);
int __wrap_syncfs(int fd);
int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    int rc = __real_clock_gettime(clock, ret);
    if (rc == 0 && clock == CLOCK_MONOTONIC) {
        ret->tv_sec += atomic_load(&moved_s);
    }
    return rc;
}

/* Whoever waits for a time of the moved clock waits by the true one. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
    struct timespec t = *until;
    t.tv_sec -= atomic_load(&moved_s);
    return __real_pthread_cond_timedwait(cond, lock, &t);
}

int __wrap_fdatasync(int fd)
{
    if (atomic_load(&no_sync)) {
        errno = EIO;
        return -1;
    }
    atomic_fetch_add(&wal_syncs, 1);
    return __real_fdatasync(fd);
}

int __wrap_syncfs(int fd)
{
    atomic_fetch_add(&spool_syncs, 1);
    return __real_syncfs(fd);
}

/* Who sleeps already does not see the clock move: the scheduler is woken, but remote a's keys are not hurried. */
static void wake(struct fx *fx)
{
    cache_hurry(fx->c, &(struct cscope){.remote = fx->r[1], .prefix = ""});
}

/* Moves the monotonic clock to `ns`, or just behind: it goes on from there, as ever. */
static void move_to(int64_t ns)
{
    int64_t left = ns - time_mono_ns();
    if (left > 0) {
        atomic_fetch_add(&moved_s, (left + NS - 1) / NS);
    }
}

static void at_remove(struct fx *fx, unsigned r, const char *key)
{
    struct be_remove q = {.op = {.key = key}};
    assert_int_equal(BE_SYNC(fx->look[r], be_remove, &q), 0);
}

static void at_put_n(struct fx *fx, unsigned r, const char *key, const void *p, size_t n)
{
    (void)fx_at_count(fx, r, ""); /* starts the looker */
    struct be_write q = {.op = {.key = key}, .data = p, .len = n};
    assert_int_equal(BE_SYNC(fx->look[r], be_write, &q), 0);
}

static bool status_says(struct fx *fx, const char *text)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    assert_int_equal(cache_status(fx->c, NULL, &b), 0);
    return strstr(buf_str(&b), text) != NULL;
}

static bool errors_say(struct fx *fx, const char *text)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    assert_int_equal(cache_errors(fx->c, NULL, &b), 0);
    return strstr(buf_str(&b), text) != NULL;
}

static void none_failed(struct fx *fx)
{
    fx_idle(fx);
    if (fx_progress(fx).failed > 0) {
        fx_report(fx);
    }
    assert_int_equal(fx_progress(fx).failed, 0);
}

/* ---- B: intents and their order ---- */

/* B2: an open reader holds the deletion of its version up, for ten minutes. */
static void reader_holds_deletion(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    char got[16];
    fx_at_put(fx, 0, "f", "opened");
    fx_at_put(fx, 0, "other", "x");
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "f", O_RDONLY, &h), 0);
    int64_t before = time_mono_ns(), hold = 600 * NS;
    assert_int_equal(fx_unlink(fx, 0, "f"), 0);
    int64_t after = time_mono_ns();
    assert_int_equal(fx_unlink(fx, 0, "other"), 0);
    FX_AWAIT(fx, (cache_hurry(fx->c, NULL), fx_at_is(fx, 0, "other", NULL))); /* so deletions do go out */
    fx_sleep_ms(50);
    assert_at(fx, 0, "f", "opened");
    assert_int_equal(fx_read(fx, h, 0, got, sizeof(got)), 6);
    assert_memory_equal(got, "opened", 6);
    move_to(before + hold - 2 * NS);
    cache_hurry(fx->c, NULL);
    fx_sleep_ms(50);
    bool held = fx_at_is(fx, 0, "f", "opened");
    assert_true(held || time_mono_ns() > before + hold); /* on a machine that stood still meanwhile */
    move_to(after + hold + 1);
    none_failed(fx);
    assert_at(fx, 0, "f", NULL);
    assert_int_equal(fx_end(fx, h), 0);
}

/* B3: a copy of a copy that is still out is a copy of the first source; what becomes of the one between is its own affair. */
static void copy_of_a_copy(void **state)
{
    struct fx *fx = *state;
    const struct be_fault_rule late = {.kind = BE_COPY, .times = 1, .hold = true, .status = -EACCES, .cls = ERR_AUTH};
    fx_at_put(fx, 0, "s", "source");
    be_fault_add(fx->fault[1], &late);
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 1, BE_COPY) == 1);
    assert_int_equal(fx_cp(fx, 1, "t", 1, "u"), 0);
    fx_let_go(fx, 1);
    fx_idle(fx);
    assert_at(fx, 1, "t", NULL);
    assert_at(fx, 1, "u", "source");
    assert_int_equal(fx_progress(fx).failed, 1);
}

/* B4: cp x t; edit t; mv t x. */
static void edited_copy_replaces_source(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    fx_at_put(fx, 0, "x", "0123456789");
    assert_int_equal(fx_cp(fx, 0, "x", 0, "t"), 0);
    assert_int_equal(fx_openf(fx, 0, "t", O_RDWR, &h), 0);
    assert_int_equal(fx_write(fx, h, 2, "ab", 2), 0);
    assert_int_equal(fx_end(fx, h), 0);
    assert_int_equal(fx_rename(fx, 0, "t", "x", 0), 0);
    assert_true(fx_is(fx, 0, "x", "01ab456789"));
    none_failed(fx);
    assert_at(fx, 0, "x", "01ab456789");
    assert_at(fx, 0, "t", NULL);
}

/* B4: a cycle is broken by fetching, and no call waits for what is fetched: here nothing can be. */
static void nobody_waits_for_a_cycle(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "A");
    fx_at_put(fx, 0, "b", "B");
    fx_fault(fx, 0, BE_READ, 0, 0, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_cp(fx, 0, "a", 0, "t"), 0);
    assert_int_equal(fx_cp(fx, 0, "b", 0, "a"), 0);
    assert_int_equal(fx_rename(fx, 0, "t", "b", 0), 0);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) > 0);
    assert_at(fx, 0, "a", "A");
    assert_at(fx, 0, "b", "B");
    be_fault_clear(fx->fault[0]);
    none_failed(fx);
    assert_at(fx, 0, "a", "B");
    assert_at(fx, 0, "b", "A");
}

/* B5: the overwrite that waits for a failed copy names it, and goes on when the copy is given up. */
static void overwrite_until_discard(void **state)
{
    struct fx *fx = *state;
    unsigned n;
    fx_at_put(fx, 0, "src", "precious");
    fx_fault(fx, 1, BE_COPY, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_cp(fx, 0, "src", 1, "the copy"), 0);
    fx_idle(fx);
    fx_text(fx, 0, "src", "overwritten");
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 2);
    assert_true(errors_say(fx, "not written: the copy is still to be copied"));
    assert_at(fx, 0, "src", "precious");
    assert_int_equal(cache_discard(fx->c, &(struct cscope){.remote = fx->r[1], .prefix = ""}, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    assert_int_equal(n, 1);
    none_failed(fx);
    assert_at(fx, 0, "src", "overwritten");
    assert_at(fx, 1, "the copy", NULL);
}

/* B5: moved, made anew, and the move fails for good: the name shows what was made anew, the provider keeps what was moved. */
static void source_made_anew(void **state)
{
    struct fx *fx = *state;
    unsigned n;
    fx_at_put(fx, 0, "src", "precious");
    fx_fault(fx, 1, BE_COPY, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_cp(fx, 0, "src", 1, "dst"), 0);
    assert_int_equal(fx_unlink(fx, 0, "src"), 0);
    fx_text(fx, 0, "src", "made anew");
    fx_idle(fx);
    assert_at(fx, 0, "src", "precious");
    assert_true(fx_is(fx, 0, "src", "made anew"));
    be_fault_clear(fx->fault[1]);
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    none_failed(fx);
    assert_at(fx, 1, "dst", "precious");
    assert_at(fx, 0, "src", "made anew");
}

/* B6: without conditions a look tells whether the object still is the one that was moved; rm is by name. */
static void move_without_conditions(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->caps_without = BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT;
    fx_open(fx);
    fx_at_put(fx, 0, "a", "moved");
    fx_at_put(fx, 0, "r", "seen");
    assert_int_equal(fx_lookup(fx, 0, "r", NULL), 0);
    assert_int_equal(fx_unlink(fx, 0, "r"), 0);
    fx_at_put(fx, 0, "r", "not seen");
    assert_int_equal(fx_rename(fx, 0, "a", "b", 0), 0);
    fx_hold(fx, 0, BE_STAT, 0); /* the look before the deletion */
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_at_is(fx, 0, "b", "moved"));
    fx_at_put(fx, 0, "a", "theirs");
    fx_let_go(fx, 0);
    none_failed(fx);
    assert_at(fx, 0, "b", "moved");
    assert_at(fx, 0, "a", "theirs");
    assert_true(fx_is(fx, 0, "a", "theirs"));
    assert_at(fx, 0, "r", NULL);
}

/* B7: an open file reads the version it opened, or fails: never a mixture. */
static void opened_version_is_pinned(void **state)
{
    struct fx *fx = *state;
    const size_t n = 4u << 20;
    CLEANUP(mem_freep) char *v = malloc(n);
    struct chandle *h;
    char got[16];
    memset(v, 'a', n);
    at_put_n(fx, 0, "f", v, n);
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "f", O_RDONLY, &h), 0);
    assert_int_equal(fx_read(fx, h, n / 2, got, sizeof(got)), sizeof(got)); /* in the middle: nothing is read ahead */
    assert_int_equal(got[0], 'a');
    memset(v, 'b', n);
    at_put_n(fx, 0, "f", v, n);
    assert_true(fx_read(fx, h, 0, got, sizeof(got)) < 0);
    assert_int_equal(fx_end(fx, h), 0);
}

/* B7: the source is gone, but its copy had arrived. */
static void source_gone_copy_arrived(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "s", "source");
    fx_fault(fx, 1, BE_COPY, 0, 1, -EIO, ERR_TRANSIENT, true);
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    fx_fault(fx, 1, BE_STAT, 0, 1, -EIO, ERR_TRANSIENT, false); /* the first look fails, too */
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 1, BE_COPY) == 1);
    at_remove(fx, 0, "s");
    none_failed(fx);
    assert_at(fx, 1, "t", "source");
}

/* B8: status tells what protects from other writers. */
static void status_names_the_promise(void **state)
{
    struct fx *fx = *state;
    assert_true(status_says(fx, "\"overwrite\": \"conditional\""));
    for (int check = 0; check < 2; check++) {
        fx_close(fx);
        fx->caps_without = BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT;
        fx->opt.conflict_check = check;
        fx_open(fx);
        assert_false(status_says(fx, "\"overwrite\": \"conditional\""));
        assert_true(status_says(fx, check ? "\"overwrite\": \"checked before\"" : "\"overwrite\": \"last writer wins\""));
    }
}

/* B8: a key that nobody had looked at, and whose request did not arrive: absent is nobody's version. */
static void absent_is_no_conflict(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "bytes", 5), 0);
    assert_int_equal(fx_end(fx, h), 0);
    none_failed(fx);
    assert_at(fx, 0, "f", "bytes");
}

/* B9: refused on three keys, the remote pauses; what comes then stays queued, and other remotes go on. */
static void refused_remote_pauses(void **state)
{
    struct fx *fx = *state;
    static const char *const keys[] = {"k0", "k1", "k2", "k3", "k4"};
    unsigned n;
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(status_says(fx, "\"paused\": true"));
        fx_text(fx, 0, keys[i], "x");
        fx_idle(fx);
    }
    assert_true(status_says(fx, "\"paused\": true"));
    fx_text(fx, 0, keys[3], "x");
    fx_text(fx, 0, keys[4], "x");
    fx_text(fx, 1, "elsewhere", "y");
    fx_idle(fx);
    assert_at(fx, 1, "elsewhere", "y");
    struct cprogress p = fx_progress(fx);
    assert_int_equal(p.failed, 0);
    assert_int_equal(p.files_left, 5);
    assert_int_equal(p.waiting, 5);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 3);
    be_fault_clear(fx->fault[0]);
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    none_failed(fx);
    for (unsigned i = 0; i < 5; i++) {
        assert_at(fx, 0, keys[i], "x");
    }
}

/* ---- C: what counts as written ---- */

/* C1: who only read seals nothing; the delay runs from the seal, however old the first byte. */
static void sealed_by_its_writer(void **state)
{
    struct fx *fx = *state;
    struct chandle *w, *r;
    assert_int_equal(fx_create(fx, 0, "f", &w), 0);
    assert_int_equal(fx_write(fx, w, 0, "bytes", 5), 0);
    assert_int_equal(fx_openf(fx, 0, "f", O_RDONLY, &r), 0);
    assert_int_equal(fx_end(fx, r), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).open_files, 1);
    assert_at(fx, 0, "f", NULL);
    atomic_fetch_add(&moved_s, 120);
    assert_int_equal(fx_flush(fx, w), 0);
    for (int i = 0; i < 25; i++) {
        wake(fx);
        fx_sleep_ms(2);
    }
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 0);
    atomic_fetch_add(&moved_s, 61);
    FX_AWAIT(fx, (wake(fx), fx_calls(fx, 0, BE_WRITE) > 0));
    assert_int_equal(fx_end(fx, w), 0);
    none_failed(fx);
    assert_at(fx, 0, "f", "bytes");
}

/* C1: shells and dd close a copy of what they opened before anything is written to it. That seals nothing: what was there stays
 * until bytes come, an fsync or the last writer's RELEASE, and somebody else who opens it meanwhile changes nothing about that. */
static void flushed_before_it_is_written(void **state)
{
    struct fx *fx = *state;
    struct chandle *fresh, *over, *other, *synced;
    fx_text(fx, 0, "over", "base");
    none_failed(fx);
    unsigned puts = fx_calls(fx, 0, BE_WRITE);
    assert_int_equal(fx_create(fx, 0, "fresh", &fresh), 0);
    assert_int_equal(fx_openf(fx, 0, "over", O_WRONLY | O_TRUNC, &over), 0);
    assert_int_equal(fx_flush(fx, fresh), 0);
    assert_int_equal(fx_flush(fx, over), 0);
    assert_int_equal(fx_openf(fx, 0, "fresh", O_WRONLY, &other), 0);
    assert_int_equal(fx_end(fx, other), 0);
    atomic_fetch_add(&moved_s, 120);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).open_files, 2);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), puts);
    assert_at(fx, 0, "fresh", NULL);
    assert_at(fx, 0, "over", "base");
    assert_int_equal(fx_create(fx, 0, "synced", &synced), 0);
    assert_int_equal(fx_fsync(fx, synced), 0);
    assert_at(fx, 0, "synced", "");
    assert_int_equal(fx_end(fx, synced), 0);
    assert_int_equal(fx_write(fx, fresh, 0, "data", 4), 0);
    assert_int_equal(fx_flush(fx, fresh), 0);
    cache_release(fx->c, over);
    none_failed(fx);
    assert_at(fx, 0, "fresh", "data");
    assert_at(fx, 0, "over", "");
    cache_release(fx->c, fresh);
    none_failed(fx);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), puts + 3);
}

/* C8: who writes here and there, more than the spool holds, is told so. */
static void random_writer_without_room(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *p = mem_zalloc(FX_THRESHOLD);
    struct chandle *h;
    int err = 0;
    fx_close(fx);
    fx->opt.cache_size = 8 * (uint64_t)FX_THRESHOLD;
    fx->opt.wait_timeout_ms = 200;
    fx_open(fx);
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    for (unsigned i = 64; i > 0 && err == 0; i--) {
        err = fx_write(fx, h, (uint64_t)(2 * i) * FX_THRESHOLD, p, FX_THRESHOLD);
    }
    assert_int_equal(err, -ENOSPC);
    assert_int_equal(fx_unlink(fx, 0, "f"), 0);
    assert_int_equal(fx_end(fx, h), 0);
    none_failed(fx);
    fx_text(fx, 0, "after", "there is room again");
    none_failed(fx);
    assert_at(fx, 0, "after", "there is room again");
}

/* In a process of its own, which ends by SIGKILL; its providers are directories, empty before. */
static void in_a_killed_process(struct fx *fx, bool (*work)(struct fx *fx))
{
    int status = 0;
    fx_init(fx, "local");
    pid_t pid = fork();
    if (pid == 0) {
        fx_open(fx);
        (void)kill(getpid(), work(fx) ? SIGKILL : SIGTERM);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    fx_open(fx);
    fx_idle(fx);
}

/* Waits until the journal knows of the open file: its row has no seal. In a child: no check of cmocka's. */
static bool journal_has_open(struct fx *fx, const char *key)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/cache/journal.db", fx->dir);
    CLEANUP(mem_freep) char *text = mem_printf("SELECT 1 FROM intent WHERE key=CAST('%s' AS BLOB) AND (flags & 2) = 0", key);
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    bool has = false;
    for (unsigned ms = 0; !has && ms < FX_PATIENCE_MS; ms += 10) {
        has = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
              sqlite3_prepare_v2(db, text, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW;
        (void)sqlite3_finalize(st);
        (void)sqlite3_close(db);
        st = NULL;
        fx_sleep_ms(10);
    }
    return has;
}

static bool half_written(struct fx *fx)
{
    struct chandle *h;
    bool ok = fx_put(fx, 0, "f", "the base", 8) == 0 && fx_idle_within(fx, FX_PATIENCE_MS) &&
              fx_openf(fx, 0, "f", O_RDWR, &h) == 0 && fx_write(fx, h, 4, "HALF of something", 17) == 0;
    return ok && journal_has_open(fx, "f");
}

/* C2: what was open at the kill is unfinished: status names it, and the base shows. */
static void base_of_the_unfinished(void **state)
{
    struct fx fx;
    struct cattr a;
    (void)state;
    in_a_killed_process(&fx, half_written);
    assert_int_equal(fx_progress(&fx).unfinished, 1);
    assert_true(status_says(&fx, "\"key\": \"f\""));
    assert_int_equal(fx_lookup(&fx, 0, "f", &a), 0);
    assert_int_equal(a.size, 8);
    assert_true(fx_is(&fx, 0, "f", "the base"));
    assert_at(&fx, 0, "f", "the base");
    fx_fini(&fx);
}

static bool truncated_again(struct fx *fx)
{
    struct chandle *h;
    bool ok = fx_put(fx, 0, "f", "sealed", 6) == 0 && fx_openf(fx, 0, "f", O_WRONLY | O_TRUNC, &h) == 0 &&
              fx_write(fx, h, 0, "ha", 2) == 0;
    fx_sleep_ms(2500); /* longer than an open file that may have a row waits for it */
    return ok;
}

static bool emptied_and_flushed(struct fx *fx)
{
    struct chandle *h;
    bool ok = fx_put(fx, 0, "f", "the base", 8) == 0 && fx_idle_within(fx, FX_PATIENCE_MS) &&
              fx_openf(fx, 0, "f", O_WRONLY | O_TRUNC, &h) == 0 && fx_flush(fx, h) == 0;
    return ok && journal_has_open(fx, "f");
}

/* C1, C2: so a kill before the first byte leaves what was there. */
static void emptied_and_killed(void **state)
{
    struct fx fx;
    (void)state;
    in_a_killed_process(&fx, emptied_and_flushed);
    assert_int_equal(fx_progress(&fx).unfinished, 1);
    assert_true(fx_is(&fx, 0, "f", "the base"));
    assert_at(&fx, 0, "f", "the base");
    fx_fini(&fx);
}

/* C3: O_TRUNC on what is sealed and still to be sent: until the new content is sealed, the old one is what a kill leaves. */
static void truncated_and_killed(void **state)
{
    struct fx fx;
    (void)state;
    in_a_killed_process(&fx, truncated_again);
    assert_int_equal(fx_progress(&fx).failed, 0);
    assert_at(&fx, 0, "f", "sealed");
    fx_fini(&fx);
}

/* C2: a copy whose writer was killed before it had reached its source's end is no file that anybody wanted. */
static void writer_killed(void **state)
{
    struct fx *fx = *state;
    siginfo_t info;
    pid_t dead = fork();
    if (dead == 0) {
        for (;;) {
            (void)pause();
        }
    }
    assert_int_equal(kill(dead, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT), 0); /* as a process that is ending looks */
    fx_at_put(fx, 0, "src", "0123456789");
    for (int i = 0; i < 3; i++) {
        static const char *const keys[] = {"cut short", "on purpose", "whole"};
        struct chandle *in, *out;
        assert_int_equal(fx_lookup(fx, 0, "src", NULL), 0);
        assert_int_equal(fx_openf(fx, 0, "src", O_RDONLY, &in), 0);
        assert_int_equal(fx_create(fx, 1, keys[i], &out), 0);
        assert_int_equal(fx_range(fx, in, 0, out, 0, i < 2 ? 5 : 10), i < 2 ? 5 : 10);
        fx->pid = i == 1 ? getpid() : dead;
        assert_int_equal(fx_end(fx, out), 0);
        assert_int_equal(fx_end(fx, in), 0);
    }
    fx->pid = 0;
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    none_failed(fx);
    assert_at(fx, 1, "cut short", NULL);
    assert_int_equal(fx_progress(fx).unfinished, 1);
    assert_true(status_says(fx, "\"key\": \"cut short\""));
    assert_at(fx, 1, "on purpose", "01234");
    assert_at(fx, 1, "whole", "0123456789");
}

static sqlite3 *journal_hold(struct fx *fx)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/cache/journal.db", fx->dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, 10000), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

/* C4: a new file's writes and copy_file_range do not wait for the journal, which here cannot be written. */
static void writes_do_not_wait_for_the_journal(void **state)
{
    struct fx *fx = *state;
    struct chandle *in, *f, *g;
    fx_at_put(fx, 0, "src", "0123456789");
    assert_int_equal(fx_lookup(fx, 0, "src", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "src", O_RDONLY, &in), 0);
    sqlite3 *db = journal_hold(fx);
    assert_int_equal(fx_create(fx, 1, "f", &f), 0);
    assert_int_equal(fx_write(fx, f, 0, "written", 7), 0);
    assert_int_equal(fx_create(fx, 1, "g", &g), 0);
    assert_int_equal(fx_range(fx, in, 0, g, 0, 10), 10);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(fx_end(fx, f), 0);
    assert_int_equal(fx_end(fx, g), 0);
    assert_int_equal(fx_end(fx, in), 0);
    none_failed(fx);
    assert_at(fx, 1, "f", "written");
    assert_at(fx, 1, "g", "0123456789");
}

/* C5: no request that changes a key goes out before the disk has its row. */
static void nothing_goes_out_unsynced(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *big = mem_zalloc(3 * (size_t)FX_THRESHOLD);
    fx_at_put(fx, 0, "gone", "x");
    fx_text(fx, 0, "f", "1");
    assert_int_equal(fx_put(fx, 0, "big", big, 3 * (size_t)FX_THRESHOLD), 0);
    assert_int_equal(fx_lookup(fx, 0, "gone", NULL), 0);
    assert_int_equal(fx_unlink(fx, 0, "gone"), 0);
    atomic_store(&no_sync, true);
    for (int i = 0; i < 60; i++) {
        cache_hurry(fx->c, NULL);
        fx_sleep_ms(50);
    }
    atomic_store(&no_sync, false);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 0);
    assert_int_equal(fx_calls(fx, 0, BE_MP_COMMIT), 0);
    assert_int_equal(fx_calls(fx, 0, BE_REMOVE), 0);
    assert_at(fx, 0, "gone", "x");
    fx_close(fx);
    fx_open(fx);
    none_failed(fx);
    assert_at(fx, 0, "f", "1");
    assert_at(fx, 0, "gone", NULL);
}

/* F3: fsync of a directory puts journal and spool on the disk; with nobody at the other end it still returns. */
static void fsync_of_a_directory(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "bytes");
    fx_fault(fx, 0, BE_KINDS, 0, 0, -EIO, ERR_TRANSIENT, false);
    unsigned wal = atomic_load(&wal_syncs), spool = atomic_load(&spool_syncs);
    assert_int_equal(fx_fsyncdir(fx, 0, ""), 0);
    assert_true(atomic_load(&wal_syncs) > wal);
    assert_true(atomic_load(&spool_syncs) > spool);
    assert_at(fx, 0, "f", NULL);
}

/* An fsync that is answered has put the bytes there: also when the first request got lost on its way. */
static void fsync_outlives_a_lost_request(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "bytes", 5), 0);
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_fsync(fx, h), 0);
    assert_at(fx, 0, "f", "bytes");
    assert_int_equal(fx_end(fx, h), 0);
    none_failed(fx);
}

/* F3: fsync of a file does not wait for ever. */
static void fsync_is_bounded(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    fx_close(fx);
    fx->opt.wait_timeout_ms = 300;
    fx_open(fx);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), -ENOENT);
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "bytes", 5), 0);
    assert_true(fx_fsync(fx, h) < 0);
    be_fault_clear(fx->fault[0]);
    assert_int_equal(fx_end(fx, h), 0);
    none_failed(fx);
    assert_at(fx, 0, "f", "bytes");
}

static char *upload_begin(struct fx *fx, const char *key)
{
    (void)fx_at_count(fx, 0, "");
    struct be_mp q = {.op = {.key = key}};
    assert_int_equal(BE_SYNC(fx->look[0], be_mp_begin, &q), 0);
    return q.upload_id;
}

static void upload_part(struct fx *fx, const char *key, const char *id, unsigned number, const void *p, size_t n)
{
    struct be_part q = {.op = {.key = key}, .upload_id = id, .number = number, .data = p, .len = n};
    assert_int_equal(BE_SYNC(fx->look[0], be_mp_part, &q), 0);
}

static void put_big(struct fx *fx, const char *key, unsigned seed)
{
    size_t n = 5 * (size_t)FX_THRESHOLD + 17;
    CLEANUP(mem_freep) char *p = malloc(n);
    fx_pattern(p, n, 0, seed);
    assert_int_equal(fx_put(fx, 0, key, p, n), 0);
}

static void big_is_at(struct fx *fx, const char *key, unsigned seed)
{
    size_t n = 5 * (size_t)FX_THRESHOLD + 17;
    CLEANUP(mem_freep) char *p = malloc(n), *got = malloc(n + 1);
    fx_pattern(p, n, 0, seed);
    assert_int_equal(fx_at(fx, 0, key, got, n + 1), n);
    assert_memory_equal(got, p, n);
}

/* C7: an upload of the same key that is not ours survives the search for one whose id we never learnt. */
static void foreign_upload_is_kept(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *id = upload_begin(fx, "f");
    upload_part(fx, "f", id, 1, "theirs", 6);
    fx_fault(fx, 0, BE_MP_BEGIN, 0, 1, -EIO, ERR_TRANSIENT, true);
    put_big(fx, "f", 1);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_MP_BEGIN) == 1);
    fx_text(fx, 0, "f", "small");
    none_failed(fx);
    assert_at(fx, 0, "f", "small");
    FX_AWAIT(fx, fx_at_uploads(fx, 0) <= 1);
    fx_sleep_ms(50);
    assert_int_equal(fx_at_uploads(fx, 0), 1);
    struct be_parts left = {.op = {.key = "f"}, .upload_id = id};
    assert_int_equal(BE_SYNC(fx->look[0], be_mp_parts, &left), 0);
    assert_int_equal(left.n_parts, 1);
    free(left.parts);
}

/* All but the last part sent, and closed then: what the next opening of the cache finds. */
static void half_uploaded(struct fx *fx, const char *key)
{
    fx_fault(fx, 0, BE_MP_PART, 5, 0, -EIO, ERR_TRANSIENT, false);
    put_big(fx, key, 1);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_MP_PART) >= 6);
    fx_close(fx);
}

/* C9: the size of a part is the upload's, whatever the configuration says by then. */
static void resumed_with_its_part_size(void **state)
{
    struct fx *fx = *state;
    half_uploaded(fx, "big");
    fx->conf[0].part_size = 2 * FX_THRESHOLD;
    fx_open(fx);
    none_failed(fx);
    big_is_at(fx, "big", 1);
    assert_int_equal(fx_calls(fx, 0, BE_MP_BEGIN), 0);
    assert_in_range(fx_calls(fx, 0, BE_MP_PART), 1, 2);
    assert_int_equal(fx_at_uploads(fx, 0), 0);
}

/* C9: the server lists another part than we sent: the upload is given up, and begun anew. */
static void resumed_over_another_part(void **state)
{
    struct fx *fx = *state;
    struct be_uploads u = {.prefix = ""};
    CLEANUP(mem_freep) char *other = mem_zalloc(FX_THRESHOLD);
    half_uploaded(fx, "big");
    (void)fx_at_count(fx, 0, "");
    assert_int_equal(BE_SYNC(fx->look[0], be_mp_uploads, &u), 0);
    assert_int_equal(u.n_uploads, 1);
    upload_part(fx, "big", u.uploads[0].upload_id, 2, other, FX_THRESHOLD);
    be_uploads_fini(&u);
    fx_open(fx);
    none_failed(fx);
    big_is_at(fx, "big", 1);
    fx_no_uploads(fx, 0);
}

/* ---- D: MD5, metadata ---- */

/* D2: an object of parts that carries no MD5 has none, and neither has a copy the provider makes of it; the attribute of a
 * source that has one comes along; with entireFileMd5Attached=strict the bytes are fetched to get one. */
static void md5_of_copies(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *id = upload_begin(fx, "s");
    struct be_part p = {.op = {.key = "s"}, .upload_id = id, .number = 1, .data = "source", .len = 6};
    assert_int_equal(BE_SYNC(fx->look[0], be_mp_part, &p), 0);
    struct be_part_id part = {.number = 1, .size = 6};
    memcpy(part.etag, p.object.etag, sizeof(part.etag));
    struct be_commit q = {.op = {.key = "s"}, .upload_id = id, .parts = &part, .n_parts = 1};
    assert_int_equal(BE_SYNC(fx->look[0], be_mp_commit, &q), 0);
    char v[256];
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    none_failed(fx);
    assert_int_equal(fx_calls(fx, 1, BE_COPY), 1);
    assert_int_equal(fx_getxattr(fx, 1, "t", "user.objmig.md5", v), -ENODATA);
    assert_null(fx_at_meta(fx, 1, "t", "meta-md5"));
    fx_close(fx);
    fx->conf[1].file_md5 = CONF_MD5_STRICT;
    fx_open(fx);
    assert_int_equal(fx_cp(fx, 0, "s", 1, "u"), 0);
    none_failed(fx);
    assert_int_equal(fx_calls(fx, 1, BE_COPY), 0);
    CLEANUP(mem_freep) char *md5 = fx_at_meta(fx, 1, "u", "meta-md5");
    assert_non_null(md5);
    assert_string_equal(md5, "36cd38f49b9afa08222c0dc9ebfe35eb");
}

/* D4: the same bytes again are not sent. The time they were written at is no change; one that was set is. */
static void same_bytes_again(void **state)
{
    struct fx *fx = *state;
    const struct cattr a = {.mtime_ns = 1234567890 * NS};
    fx_text(fx, 0, "f", "the same");
    none_failed(fx);
    CLEANUP(mem_freep) char *before = fx_at_meta(fx, 0, "f", "meta-mtime");
    fx_text(fx, 0, "f", "the same");
    none_failed(fx);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1);
    assert_int_equal(fx_calls(fx, 0, BE_COPY), 0);
    CLEANUP(mem_freep) char *after = fx_at_meta(fx, 0, "f", "meta-mtime");
    assert_string_equal(before, after);
    fx_text(fx, 0, "f", "the same");
    assert_int_equal(fx_setattr(fx, 0, "f", CSET_MTIME, &a), 0);
    none_failed(fx);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1);
    assert_int_equal(fx_calls(fx, 0, BE_COPY), 1);
    CLEANUP(mem_freep) char *set = fx_at_meta(fx, 0, "f", "meta-mtime");
    assert_int_equal(strncmp(set, "1234567890", 10), 0);
}

/* D6: headers travel with the whole object, and stay behind when only some of its bytes are taken. */
static void headers_of_copies(void **state)
{
    struct fx *fx = *state;
    struct kvlist meta = {0};
    struct chandle *in, *out;
    kv_set(&meta, "cache-control", "no-store");
    kv_set(&meta, "meta-colour", "green");
    (void)fx_at_count(fx, 0, "");
    struct be_write q = {.op = {.key = "s"}, .data = "0123456789", .len = 10, .meta = &meta};
    assert_int_equal(BE_SYNC(fx->look[0], be_write, &q), 0);
    kv_fini(&meta);
    assert_int_equal(fx_cp(fx, 0, "s", 1, "whole"), 0);
    assert_int_equal(fx_openf(fx, 0, "s", O_RDONLY, &in), 0);
    assert_int_equal(fx_create(fx, 1, "part", &out), 0);
    assert_int_equal(fx_range(fx, in, 2, out, 0, 5), 5);
    assert_int_equal(fx_end(fx, out), 0);
    assert_int_equal(fx_end(fx, in), 0);
    none_failed(fx);
    assert_at(fx, 1, "part", "23456");
    CLEANUP(mem_freep) char *w1 = fx_at_meta(fx, 1, "whole", "cache-control");
    CLEANUP(mem_freep) char *w2 = fx_at_meta(fx, 1, "whole", "meta-colour");
    CLEANUP(mem_freep) char *w3 = fx_at_meta(fx, 1, "whole", "meta-mode");
    assert_non_null(w1);
    assert_string_equal(w1, "no-store");
    assert_non_null(w2);
    assert_string_equal(w2, "green");
    assert_non_null(w3); /* replaced, not only copied: ours are there, too */
    assert_null(fx_at_meta(fx, 1, "part", "cache-control"));
    assert_null(fx_at_meta(fx, 1, "part", "meta-colour"));
}

/* D7: the marker is there before the last child goes; a directory whose attributes were set has one at once. */
static void marker_before_the_last_child(void **state)
{
    struct fx *fx = *state;
    const struct cattr a = {.mode = 0700};
    fx_at_put(fx, 0, "other", "x");
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    fx_text(fx, 0, "d/f", "1");
    none_failed(fx);
    assert_at(fx, 0, "d/", NULL);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_unlink(fx, 0, "d/f"), 0);
    assert_int_equal(fx_unlink(fx, 0, "other"), 0);
    FX_AWAIT(fx, (cache_hurry(fx->c, NULL), fx_at_is(fx, 0, "other", NULL))); /* deletions do go out */
    fx_sleep_ms(50);
    assert_at(fx, 0, "d/f", "1");
    be_fault_clear(fx->fault[0]);
    none_failed(fx);
    assert_at(fx, 0, "d/f", NULL);
    assert_at(fx, 0, "d/", "");
    assert_int_equal(fx_mkdir(fx, 0, "e/"), 0);
    fx_text(fx, 0, "e/f", "1");
    none_failed(fx);
    assert_at(fx, 0, "e/", NULL);
    assert_int_equal(fx_setattr(fx, 0, "e/", CSET_MODE, &a), 0);
    none_failed(fx);
    assert_at(fx, 0, "e/", "");
}

/* ---- F ---- */

/* F1: who writes more than there is room for waits; that nothing had been uploaded for a while before is no reason to fail. */
static void full_after_a_pause(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *p = mem_zalloc(FX_THRESHOLD);
    fx_close(fx);
    fx->opt.cache_size = 8 * (uint64_t)FX_THRESHOLD;
    fx_open(fx);
    fx_delay(fx, 0, BE_WRITE, 0, 0, 20);
    atomic_fetch_add(&moved_s, 3600);
    for (char k = 'a'; k <= 'z'; k++) {
        const char key[] = {k, '\0'};
        assert_int_equal(fx_put(fx, 0, key, p, FX_THRESHOLD), 0);
    }
    none_failed(fx);
    assert_int_equal(fx_at_count(fx, 0, ""), 26);
}

/* F5: bytes of the spool are copied 64 MiB a call at most. */
static void copies_of_local_bytes_are_short(void **state)
{
    struct fx *fx = *state;
    const size_t n = 1u << 20, most = 64u << 20;
    CLEANUP(mem_freep) char *p = mem_zalloc(n);
    struct chandle *in, *out;
    assert_int_equal(fx_create(fx, 0, "in", &in), 0);
    for (size_t off = 0; off < most + n; off += n) {
        assert_int_equal(fx_write(fx, in, off, p, n), 0);
    }
    assert_int_equal(fx_create(fx, 1, "out", &out), 0);
    assert_int_equal(fx_range(fx, in, 0, out, 0, most + n), most);
    assert_int_equal(fx_range(fx, in, most, out, most, most), n);
    assert_int_equal(fx_unlink(fx, 0, "in"), 0);
    assert_int_equal(fx_unlink(fx, 1, "out"), 0);
    assert_int_equal(fx_end(fx, in), 0);
    assert_int_equal(fx_end(fx, out), 0);
}

/* F9: renames are answered while nothing can be asked of the provider. */
static void renamed_without_a_provider(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "A");
    fx_at_put(fx, 0, "d/f", "F");
    assert_int_equal(fx_lookup(fx, 0, "a", NULL), 0);
    assert_int_equal(fx_lookup(fx, 0, "d/f", NULL), 0);
    fx_fault(fx, 0, BE_COPY, 0, 0, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_REMOVE, 0, 0, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_READ, 0, 0, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_rename(fx, 0, "a", "b", 0), 0);
    assert_int_equal(fx_rename(fx, 0, "d/f", "g", 0), 0);
    assert_int_equal(fx_lookup(fx, 0, "b", NULL), 0);
    assert_int_equal(fx_lookup(fx, 0, "a", NULL), -ENOENT);
    be_fault_clear(fx->fault[0]);
    none_failed(fx);
    assert_at(fx, 0, "b", "A");
    assert_at(fx, 0, "g", "F");
}

static int setup(void **state)
{
    atomic_store(&moved_s, 0);
    return fx_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, fx_teardown)
        T(reader_holds_deletion), T(copy_of_a_copy), T(edited_copy_replaces_source), T(nobody_waits_for_a_cycle),
        T(overwrite_until_discard), T(source_made_anew), T(move_without_conditions), T(opened_version_is_pinned),
        T(source_gone_copy_arrived), T(status_names_the_promise), T(absent_is_no_conflict), T(refused_remote_pauses), T(sealed_by_its_writer),
        T(flushed_before_it_is_written),
        T(random_writer_without_room),
        cmocka_unit_test(base_of_the_unfinished), cmocka_unit_test(emptied_and_killed),
        cmocka_unit_test(truncated_and_killed), T(writer_killed),
        T(writes_do_not_wait_for_the_journal), T(nothing_goes_out_unsynced), T(fsync_of_a_directory), T(fsync_outlives_a_lost_request), T(fsync_is_bounded),
        T(foreign_upload_is_kept), T(resumed_with_its_part_size), T(resumed_over_another_part), T(md5_of_copies),
        T(same_bytes_again), T(headers_of_copies), T(marker_before_the_last_child), T(full_after_a_pause), T(copies_of_local_bytes_are_short),
        T(renamed_without_a_provider),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
