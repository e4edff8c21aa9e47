/* The times that tar, rsync and cp -a give a directory when all is in it: a real directory takes another with every file that
 * arrives later, and has the one that was set when all has arrived. */
#include "harness.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

#define NS INT64_C(1000000000)
#define T1 INT64_C(1234567890)
#define T2 INT64_C(987654321)

static const struct stat *at(struct fx *fx, const char *path)
{
    static struct stat st;
    CLEANUP(mem_freep) char *p = mem_printf("%s/a/%s", fx->dir, path);
    return stat(p, &st) == 0 ? &st : NULL;
}

static int64_t time_at(struct fx *fx, const char *path)
{
    const struct stat *st = at(fx, path);
    return st != NULL ? st->st_mtim.tv_sec : -1;
}

static void set_time(struct fx *fx, const char *dir, int64_t s)
{
    const struct cattr a = {.mtime_ns = s * NS};
    assert_int_equal(fx_setattr(fx, 0, dir, CSET_MTIME, &a), 0);
}

static int64_t time_shown(struct fx *fx, const char *dir)
{
    struct cattr a;
    assert_int_equal(fx_lookup(fx, 0, dir, &a), 0);
    return a.mtime_ns / NS;
}

/* As cp -a does it; no file arrives before fx_let_go. */
static void copied_and_held(struct fx *fx)
{
    const struct cattr mode = {.mode = 0750};
    fx_hold(fx, 0, BE_COPY, 0);
    fx_at_put(fx, 0, "s", "source");
    assert_int_equal(fx_mkdir_as(fx, 0, "d/", 0700, geteuid()), 0);
    assert_int_equal(fx_mkdir_as(fx, 0, "d/sub/", 0700, geteuid()), 0);
    assert_int_equal(fx_cp(fx, 0, "s", 0, "d/f"), 0);
    assert_int_equal(fx_cp(fx, 0, "s", 0, "d/sub/f"), 0);
    set_time(fx, "d/sub/", T2);
    set_time(fx, "d/", T1);
    assert_int_equal(fx_setattr(fx, 0, "d/", CSET_MODE, &mode), 0);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_COPY) >= 2 && at(fx, "d") != NULL && at(fx, "d/sub") != NULL);
}

static void all_is_as_set(struct fx *fx)
{
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 0);
    assert_at(fx, 0, "d/f", "source");
    assert_at(fx, 0, "d/sub/f", "source");
    assert_int_equal(time_at(fx, "d"), T1);
    assert_int_equal(time_at(fx, "d/sub"), T2);
    assert_int_equal(at(fx, "d")->st_mode & 07777, 0750);
    assert_int_equal(at(fx, "d/sub")->st_mode & 07777, 0700);
    assert_int_equal(time_shown(fx, "d/"), T1);
    assert_int_equal(time_shown(fx, "d/sub/"), T2);
}

static void set_before_its_files_arrive(void **state)
{
    struct fx *fx = *state;
    copied_and_held(fx);
    FX_AWAIT(fx, (at(fx, "d")->st_mode & 07777) == 0750); /* modes do not wait: the directory may be private */
    FX_AWAIT(fx, (at(fx, "d/sub")->st_mode & 07777) == 0700);
    fx_let_go(fx, 0);
    all_is_as_set(fx);
}

/* All had arrived, and the directory's time is that of the last file. */
static void set_after_its_files_arrived(void **state)
{
    struct fx *fx = *state;
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    set_time(fx, "d/", T1);
    fx_idle(fx);
    assert_int_equal(time_at(fx, "d"), T1);
    fx_text(fx, 0, "d/f", "1");
    fx_idle(fx);
    assert_int_not_equal(time_at(fx, "d"), T1);
    set_time(fx, "d/", T1);
    fx_idle(fx);
    assert_int_equal(time_at(fx, "d"), T1);
    assert_int_equal(time_shown(fx, "d/"), T1);
}

static void set_before_a_restart(void **state)
{
    struct fx *fx = *state;
    copied_and_held(fx);
    FX_AWAIT(fx, (at(fx, "d")->st_mode & 07777) == 0750);
    const struct be_fault_rule fails = {.kind = BE_COPY, .status = -EIO, .cls = ERR_TRANSIENT};
    fx_let_go(fx, 0);
    be_fault_add(fx->fault[0], &fails);
    fx_close(fx);
    fx_open(fx);
    all_is_as_set(fx);
}

/* What is removed changes the directory's time as well; and it is no matter which of the two is set last. */
static void set_before_a_file_goes(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "d/f", "1");
    fx_text(fx, 0, "d/g", "1");
    fx_idle(fx);
    fx_hold(fx, 0, BE_REMOVE, 0);
    assert_int_equal(fx_unlink(fx, 0, "d/f"), 0);
    set_time(fx, "d/", T1);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_REMOVE) == 1);
    set_time(fx, "d/", T2);
    FX_AWAIT(fx, (cache_hurry(fx->c, NULL), time_at(fx, "d") == T2));
    fx_let_go(fx, 0);
    fx_idle(fx);
    assert_at(fx, 0, "d/f", NULL);
    assert_int_equal(time_at(fx, "d"), T2);
}

/* A file that is open for long, or one that failed, keeps nobody from the end: `objmig wait` waits for neither. */
static void nobody_waits_for_open_files(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    assert_int_equal(fx_create(fx, 0, "d/log", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "line", 4), 0);
    set_time(fx, "d/", T1);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).files_left, 0);
    assert_int_equal(fx_progress(fx).open_files, 1);
    assert_int_equal(time_at(fx, "d"), T1);
    assert_int_equal(fx_end(fx, h), 0);
    fx_idle(fx);
    assert_at(fx, 0, "d/log", "line");
}

static int setup(void **state)
{
    struct fx *fx = mem_zalloc(sizeof(*fx));
    *state = fx;
    fx_init(fx, "local");
    fx_open(fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, fx_teardown)
        T(set_before_its_files_arrive), T(set_after_its_files_arrived), T(set_before_a_restart),
        T(set_before_a_file_goes),      T(nobody_waits_for_open_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
