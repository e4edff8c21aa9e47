/* What mv does between two mounts with files that have no bytes to copy: a new one is made, the old one removed. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "mem.h"

static void make_empty(struct fx *fx, unsigned r, const char *key)
{
    struct chandle *h;
    assert_int_equal(fx_create(fx, r, key, &h), 0);
    assert_int_equal(fx_end(fx, h), 0);
}

/* 0 bytes are still an object. */
static bool is_there(struct fx *fx, unsigned r, const char *key)
{
    char buf[64];
    return fx_at(fx, r, key, buf, sizeof(buf)) >= 0;
}

static void empty_file(void **state)
{
    struct fx *fx = *state;
    fx->pid = getpid();
    fx_at_put(fx, 0, "one/a/e", "");
    fx_at_put(fx, 0, "one/b/e", "");
    assert_int_equal(fx_lookup(fx, 0, "one/a/e", NULL), 0);
    fx_fault(fx, 1, BE_WRITE, 0, 3, -EIO, ERR_TRANSIENT, false);
    make_empty(fx, 1, "two/a/e");
    make_empty(fx, 1, "two/b/e");
    assert_int_equal(fx_unlink(fx, 0, "one/a/e"), 0);
    assert_int_equal(fx_unlink(fx, 0, "one/b/e"), 0);
    assert_int_equal(fx_lookup(fx, 0, "one/a/e", NULL), -ENOENT);
    for (unsigned i = 0; i < 50 && !(is_there(fx, 1, "two/a/e") && is_there(fx, 1, "two/b/e")); i++) {
        (void)fx_idle_within(fx, 10);
        assert_true(is_there(fx, 0, "one/a/e") || is_there(fx, 1, "two/a/e"));
        assert_true(is_there(fx, 0, "one/b/e") || is_there(fx, 1, "two/b/e"));
    }
    fx_idle(fx);
    assert_false(is_there(fx, 0, "one/a/e"));
    assert_false(is_there(fx, 0, "one/b/e"));
    assert_at(fx, 1, "two/a/e", "");
    assert_at(fx, 1, "two/b/e", "");
}

/* The next n writes at the second provider are refused for good: what was ordered after them does not come. */
static void refuse(struct fx *fx, unsigned n)
{
    fx_fault(fx, 1, BE_WRITE, 0, n, -EACCES, ERR_INVALID, false);
}

static void make_link(struct fx *fx, unsigned r, const char *key)
{
    struct creq l = {.ref = {.remote = fx->r[r], .key = key}, .data = "target", .pid = fx->pid};
    FX_WAIT(&l, cache_symlink(fx->c, &l));
    assert_int_equal(l.status, 0);
}

/* A target that is refused keeps its source: over what is there, and a symlink, whose bytes are here. */
static void refused(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "from/e", "");
    fx_at_put(fx, 1, "e", "");
    make_link(fx, 0, "from/link");
    fx_idle(fx);
    fx->pid = getpid();
    refuse(fx, 2);
    assert_int_equal(fx_unlink(fx, 1, "e"), 0);
    make_empty(fx, 1, "e");
    assert_int_equal(fx_unlink(fx, 0, "from/e"), 0);
    make_link(fx, 1, "link");
    assert_int_equal(fx_unlink(fx, 0, "from/link"), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 2);
    assert_true(is_there(fx, 0, "from/e"));
    assert_at(fx, 0, "from/link", "target");
    assert_false(is_there(fx, 1, "link"));
}

static void made_under_another_name(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "from/e", "");
    fx->pid = getpid();
    refuse(fx, 1);
    assert_int_equal(fx_lookup(fx, 1, "tmp", NULL), -ENOENT);
    make_empty(fx, 1, "tmp");
    assert_int_equal(fx_rename(fx, 1, "tmp", "e", 0), 0);
    assert_int_equal(fx_unlink(fx, 0, "from/e"), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 1);
    assert_true(is_there(fx, 0, "from/e"));
}

/* What somebody else removes, or what is another thing, waits for nobody, and is not brought back. */
static void no_move(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a/e", "");
    fx_at_put(fx, 0, "a/f", "");
    fx_at_put(fx, 0, "b/e", "bytes");
    assert_int_equal(fx_lookup(fx, 0, "a/e", NULL), 0);
    refuse(fx, 1);
    fx->pid = getpid();
    make_empty(fx, 1, "e");
    assert_int_equal(fx_unlink(fx, 0, "a/f"), 0);
    assert_int_equal(fx_unlink(fx, 0, "b/e"), 0);
    fx->pid = getppid();
    assert_int_equal(fx_unlink(fx, 0, "a/e"), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 1);
    assert_false(is_there(fx, 0, "a/e"));
    assert_false(is_there(fx, 0, "a/f"));
    assert_false(is_there(fx, 0, "b/e"));
}

static void forget(struct fx *fx)
{
    static const char *const files[] = {"journal.db", "journal.db-wal", "journal.db-shm"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        CLEANUP(mem_freep) char *path = mem_printf("%s/cache/%s", fx->dir, files[i]);
        (void)unlink(path);
    }
}

/* A renamed file comes from where it was, not from what is removed after it. */
static void renamed_is_not_made(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "a", "");
    fx_text(fx, 0, "old/b", "");
    assert_int_equal(fx_setxattr(fx, 0, "a", "user.who", "a"), 0);
    assert_int_equal(fx_setxattr(fx, 0, "old/b", "user.who", "b"), 0);
    fx_idle(fx);
    fx_close(fx);
    forget(fx); /* what it knew of them */
    fx_open(fx);
    fx->pid = getpid();
    struct chandle *h;
    assert_int_equal(fx_rename(fx, 0, "a", "b", 0), 0);
    assert_int_equal(fx_openf(fx, 0, "b", O_WRONLY, &h), 0);
    assert_int_equal(fx_end(fx, h), 0);
    assert_int_equal(fx_unlink(fx, 0, "old/b"), 0);
    fx_idle(fx);
    char who[256];
    assert_int_equal(fx_getxattr(fx, 0, "b", "user.who", who), 0);
    assert_string_equal(who, "a");
}

static void add_remote(struct fx *fx, unsigned i)
{
    struct errinfo e = {0};
    assert_int_equal(cache_remote_add(fx->c, &fx->conf[i], false, &fx->r[i], &e), 0);
}

/* The order outlives the daemon: the source's provider alone is there again at first. */
static void after_a_restart(void **state)
{
    struct fx *fx = *state;
    fx->pid = getpid();
    fx_at_put(fx, 0, "e", "");
    assert_int_equal(fx_lookup(fx, 0, "e", NULL), 0);
    make_empty(fx, 1, "e");
    assert_int_equal(fx_unlink(fx, 0, "e"), 0);
    fx_close(fx);
    fx_open_cache(fx);
    add_remote(fx, 0);
    assert_false(fx_idle_within(fx, 500));
    assert_true(is_there(fx, 0, "e"));
    add_remote(fx, 1);
    fx_idle(fx);
    assert_false(is_there(fx, 0, "e"));
    assert_at(fx, 1, "e", "");
}

#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(empty_file), T(refused), T(made_under_another_name), T(no_move), T(renamed_is_not_made), T(after_a_restart),
    };
    return cmocka_run_group_tests_name("moves", tests, NULL, NULL);
}
