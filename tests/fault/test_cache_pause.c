/* A provider that refuses us, not one key: the remote is paused, its files stay queued, the others go on (rules B9). */
#include "harness.h"

#include <errno.h>

#include "mem.h"
#include "sync.h"

#define FILES 6

static void put_files(struct fx *fx, unsigned r)
{
    for (int i = 0; i < FILES; i++) {
        CLEANUP(mem_freep) char *key = mem_printf("f%d", i);
        fx_text(fx, r, key, key);
    }
}

static void assert_arrived(struct fx *fx, unsigned r, const char *prefix)
{
    for (int i = 0; i < FILES; i++) {
        CLEANUP(mem_freep) char *key = mem_printf("%s%d", prefix, i);
        CLEANUP(mem_freep) char *text = mem_printf("f%d", i);
        assert_at(fx, r, key, text);
    }
}

/* Nothing failed, all of it waits. */
static void assert_paused(struct fx *fx, uint64_t files)
{
    fx_idle(fx);
    struct cprogress p = fx_progress(fx);
    assert_int_equal(p.failed, 0);
    assert_int_equal(p.files_left, files);
    assert_int_equal(p.waiting, files);
}

static void retry_ends_clean(struct fx *fx)
{
    unsigned n = 0;
    be_fault_clear(fx->fault[0]);
    be_fault_clear(fx->fault[1]);
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    assert_true(n > 0);
    fx_idle(fx);
    struct cprogress p = fx_progress(fx);
    assert_int_equal(p.failed, 0);
    assert_int_equal(p.files_left, 0);
}

static void files_stay_queued(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    put_files(fx, 0);
    assert_paused(fx, FILES);
    CLEANUP(buf_fini) struct buf status = BUF_INIT, errors = BUF_INIT;
    assert_int_equal(cache_status(fx->c, NULL, &status), 0);
    assert_non_null(strstr(buf_str(&status), "\"paused\": true"));
    assert_non_null(strstr(buf_str(&status), "\"why\": \"InjectedFault"));
    assert_int_equal(cache_errors(fx->c, NULL, &errors), 0);
    assert_non_null(strstr(buf_str(&errors), "paused\t"));
    assert_non_null(strstr(buf_str(&errors), "InjectedFault"));
    fx_text(fx, 1, "other", "goes on");
    assert_paused(fx, FILES);
    assert_at(fx, 1, "other", "goes on");
    retry_ends_clean(fx);
    assert_arrived(fx, 0, "f");
    buf_clear(&errors);
    assert_int_equal(cache_errors(fx->c, NULL, &errors), 0);
    assert_string_equal(buf_str(&errors), "");
}

/* Nobody waits for a remote that refuses: the reason is the answer. */
static void fsync_tells(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EDQUOT, ERR_QUOTA, false);
    put_files(fx, 0);
    assert_paused(fx, FILES);
    assert_int_equal(fx_create(fx, 0, "late", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "f", 1), 0);
    assert_int_equal(fx_fsync(fx, h), -EDQUOT);
    assert_int_equal(fx_end(fx, h), 0);
    retry_ends_clean(fx);
    assert_at(fx, 0, "late", "f");
    assert_arrived(fx, 0, "f");
}

/* Refused before the commit request, with parts on their way. */
static void uploads_stay_queued(void **state)
{
    struct fx *fx = *state;
    static char bytes[3 * FX_THRESHOLD];
    fx_fault(fx, 0, BE_MP_PART, 0, 0, -EACCES, ERR_AUTH, false);
    for (int i = 0; i < FILES; i++) {
        CLEANUP(mem_freep) char *key = mem_printf("big%d", i);
        fx_pattern(bytes, sizeof(bytes), 0, (unsigned)i);
        assert_int_equal(fx_put(fx, 0, key, bytes, sizeof(bytes)), 0);
    }
    assert_paused(fx, FILES);
    retry_ends_clean(fx);
    assert_int_equal(fx_at_count(fx, 0, "big"), FILES);
    assert_int_equal(fx_at_uploads(fx, 0), 0);
}

/* The source refuses: what is copied from it waits, and its target takes everything else. */
static void source_refuses(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->caps_without = BE_CAP_COPY | BE_CAP_PART_COPY;
    fx_open(fx);
    for (int i = 0; i < FILES; i++) { /* not from here: the spool has none of their bytes */
        CLEANUP(mem_freep) char *key = mem_printf("f%d", i);
        fx_at_put(fx, 0, key, key);
    }
    fx_fault(fx, 0, BE_READ, 0, 0, -EACCES, ERR_AUTH, false);
    for (int i = 0; i < FILES; i++) {
        CLEANUP(mem_freep) char *from = mem_printf("f%d", i);
        CLEANUP(mem_freep) char *to = mem_printf("g%d", i);
        assert_int_equal(fx_cp(fx, 0, from, 1, to), 0);
    }
    assert_paused(fx, FILES);
    fx_text(fx, 1, "own", "goes on");
    assert_paused(fx, FILES);
    assert_at(fx, 1, "own", "goes on");
    retry_ends_clean(fx);
    assert_arrived(fx, 1, "g");
}

/* Whether a lost request arrived cannot be learnt either: that, too, is a remote that waits. */
static void looks_refused(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, true);
    fx_fault(fx, 0, BE_STAT, 0, 0, -EACCES, ERR_AUTH, false);
    put_files(fx, 0);
    assert_paused(fx, FILES);
    retry_ends_clean(fx);
    assert_arrived(fx, 0, "f");
}

/* A HEAD does not say so, the request that follows it does. */
static void bucket_gone(void **state)
{
    struct fx *fx = *state;
    const struct be_fault_rule gone = {.kind = BE_WRITE, .status = -ENOENT, .cls = ERR_ABSENT, .code = "NoSuchBucket"};
    be_fault_add(fx->fault[0], &gone);
    put_files(fx, 0);
    assert_paused(fx, FILES);
    retry_ends_clean(fx);
    assert_arrived(fx, 0, "f");
}

/* A key that is refused again and again is one key. */
static void one_key_pauses_nothing(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 4, -EACCES, ERR_AUTH, false);
    for (int i = 0; i < 4; i++) {
        fx_text(fx, 0, "f", "again");
        fx_idle(fx);
        assert_int_equal(fx_progress(fx).failed, 1);
        assert_int_equal(fx_progress(fx).waiting, 0);
    }
}

/* Something else arrives between two refusals: who was refused before it waits as well, once the remote is paused. */
static void refused_before_a_success(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 2, -EACCES, ERR_AUTH, false);
    fx_text(fx, 0, "f0", "f0");
    fx_text(fx, 0, "f1", "f1");
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 2);
    fx_text(fx, 0, "accepted", "x");
    fx_idle(fx);
    assert_at(fx, 0, "accepted", "x");
    assert_int_equal(fx_progress(fx).failed, 2);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    for (int i = 2; i < FILES; i++) {
        CLEANUP(mem_freep) char *key = mem_printf("f%d", i);
        fx_text(fx, 0, key, key);
    }
    assert_paused(fx, FILES);
    retry_ends_clean(fx);
    assert_arrived(fx, 0, "f");
}

/* Nor does a restart between them make a difference. */
static void refused_before_a_restart(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    fx_text(fx, 0, "f0", "f0");
    fx_text(fx, 0, "f1", "f1");
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 2);
    fx_close(fx);
    fx_open(fx);
    assert_int_equal(fx_progress(fx).failed, 2);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    for (int i = 2; i < FILES; i++) {
        CLEANUP(mem_freep) char *key = mem_printf("f%d", i);
        fx_text(fx, 0, key, key);
    }
    assert_paused(fx, FILES);
    retry_ends_clean(fx);
    assert_arrived(fx, 0, "f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
        T(files_stay_queued), T(fsync_tells),   T(uploads_stay_queued),
        T(source_refuses),    T(looks_refused), T(bucket_gone), T(one_key_pauses_nothing),
        T(refused_before_a_success), T(refused_before_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
