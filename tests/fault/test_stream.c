/* Files larger than the spool (rules C8): their parts go out while they are written, and a rename takes them along. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>

#include "mem.h"

#define LONGEST (256 * (size_t)FX_THRESHOLD)

struct stream {
    struct chandle *h;
    size_t len;
    char *bytes;
};

static int stream_write(struct fx *fx, struct stream *s, unsigned n)
{
    int err = 0;
    for (unsigned i = 0; i < n && err == 0; i++) {
        err = s->len < LONGEST ? fx_write(fx, s->h, s->len, s->bytes + s->len, FX_THRESHOLD) : -EFBIG;
        s->len += FX_THRESHOLD;
    }
    return err;
}

static void none_failed(struct fx *fx)
{
    fx_idle(fx);
    if (fx_progress(fx).failed > 0) {
        fx_report(fx);
    }
    assert_int_equal(fx_progress(fx).failed, 0);
}

static void small_spool(struct fx *fx)
{
    fx_close(fx);
    fx->opt.cache_size = 16 * (uint64_t)FX_THRESHOLD;
    fx_open(fx);
}

/* An open file of which some parts have gone out for want of room: at least one is nowhere but in the upload. */
static struct stream stream_begin(struct fx *fx, const char *key)
{
    struct stream s = {.bytes = malloc(LONGEST)};
    char got[16];
    fx_pattern(s.bytes, LONGEST, 0, 1);
    assert_int_equal(fx_create(fx, 0, key, &s.h), 0);
    while (fx_calls(fx, 0, BE_MP_PART) < 8) {
        assert_int_equal(stream_write(fx, &s, 1), 0);
    }
    FX_AWAIT(fx, fx_read(fx, s.h, 0, got, sizeof(got)) == -EIO);
    return s;
}

static void stream_is_at(struct fx *fx, const struct stream *s, const char *key)
{
    CLEANUP(mem_freep) char *got = malloc(LONGEST + 1);
    assert_int_equal(fx_at(fx, 0, key, got, LONGEST + 1), s->len);
    assert_memory_equal(got, s->bytes, s->len);
}

/* Nothing is left to do, `key` and nothing else is at the provider. */
static void only_stream(struct fx *fx, struct stream *s, const char *key)
{
    none_failed(fx);
    stream_is_at(fx, s, key);
    CLEANUP(mem_freep) char *keys = fx_at_keys(fx, 0);
    assert_string_equal(keys, key);
    fx_no_uploads(fx, 0);
    free(s->bytes);
}

/* C1, C8: want of room sends parts of an open file, never the whole; what is a part only can be neither changed nor read;
 * close returns when the object is there. */
static void larger_than_the_spool(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    struct stream s = stream_begin(fx, "f");
    FX_AWAIT(fx, fx_ended(fx, 0, BE_MP_PART) == fx_calls(fx, 0, BE_MP_PART));
    for (int i = 0; i < 50; i++) {
        cache_hurry(fx->c, NULL);
        fx_sleep_ms(2);
    }
    assert_int_equal(fx_calls(fx, 0, BE_MP_COMMIT), 0);
    assert_at(fx, 0, "f", NULL);
    assert_int_equal(fx_progress(fx).open_files, 1);
    assert_int_equal(fx_write(fx, s.h, 0, "changed", 7), -EFBIG);
    assert_int_equal(fx_end(fx, s.h), 0);
    stream_is_at(fx, &s, "f"); /* now, without waiting for anything */
    assert_int_equal(fx_at_uploads(fx, 0), 0);
    only_stream(fx, &s, "f");
}

/* A file that is written on has its new name at once, and another one; the upload that has its bytes ends under the first. */
static void renamed_while_written(void **state)
{
    struct fx *fx = *state;
    struct cattr a;
    small_spool(fx);
    struct stream s = stream_begin(fx, "f");
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), -ENOENT);
    assert_int_equal(fx_lookup(fx, 0, "g", &a), 0);
    assert_int_equal(a.size, s.len);
    assert_int_equal(stream_write(fx, &s, 20), 0);
    assert_int_equal(fx_rename(fx, 0, "g", "h", 0), 0);
    assert_int_equal(stream_write(fx, &s, 20), 0);
    FX_AWAIT(fx, fx_progress(fx).files_left == 0);
    assert_int_equal(fx_progress(fx).open_files, 1);
    assert_int_equal(fx_calls(fx, 0, BE_MP_BEGIN), 1); /* no byte goes twice */
    assert_int_equal(fx_end(fx, s.h), 0);
    stream_is_at(fx, &s, "h"); /* close returned: it is at the provider */
    CLEANUP(mem_freep) char *md5 = fx_at_meta(fx, 0, "h", "meta-md5");
    assert_non_null(md5);
    only_stream(fx, &s, "h");
}

/* The upload is complete but for its commit; closed, too: nothing waits for it. */
static void renamed_while_it_is_committed(void **state)
{
    struct fx *fx = *state;
    struct cattr a = {.mode = 0600};
    small_spool(fx);
    struct stream s = stream_begin(fx, "f");
    fx_hold(fx, 0, BE_MP_COMMIT, 0);
    cache_release(fx->c, s.h);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_COMMIT) == 1);
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    assert_int_equal(fx_setattr(fx, 0, "g", CSET_MODE, &a), 0);
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), -ENOENT);
    fx_let_go(fx, 0);
    none_failed(fx);
    CLEANUP(mem_freep) char *mode = fx_at_meta(fx, 0, "g", "meta-mode");
    assert_non_null(mode);
    assert_int_equal(strtoul(mode, NULL, 0), S_IFREG | 0600);
    only_stream(fx, &s, "g");
}

/* As rsync does it: written under another name, closed, moved over what is there. */
static void renamed_over_another(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    fx_text(fx, 0, "f", "the old one");
    none_failed(fx);
    struct stream s = stream_begin(fx, ".f.Xy12ab");
    fx_hold(fx, 0, BE_MP_COMMIT, 0);
    cache_release(fx->c, s.h);
    assert_int_equal(fx_rename(fx, 0, ".f.Xy12ab", "f", 0), 0);
    assert_at(fx, 0, "f", "the old one");
    fx_let_go(fx, 0);
    only_stream(fx, &s, "f");
}

/* Its old name is free at once for something else, and for that to come and go. */
static void another_under_the_old_name(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    fx_text(fx, 0, "log", "before");
    none_failed(fx);
    struct stream s = stream_begin(fx, "log.1");
    assert_int_equal(fx_rename(fx, 0, "log.1", "log.2", 0), 0);
    fx_text(fx, 0, "log.1", "first");
    assert_int_equal(fx_unlink(fx, 0, "log.1"), 0);
    assert_int_equal(fx_rename(fx, 0, "log", "log.1", 0), 0); /* which waits as well: its name was committed */
    fx_text(fx, 0, "log", "second");
    assert_true(fx_is(fx, 0, "log.1", "before"));
    assert_int_equal(stream_write(fx, &s, 4), 0);
    assert_int_equal(fx_end(fx, s.h), 0);
    none_failed(fx);
    assert_at(fx, 0, "log", "second");
    assert_at(fx, 0, "log.1", "before");
    stream_is_at(fx, &s, "log.2");
    assert_int_equal(fx_at_count(fx, 0, ""), 3);
    fx_no_uploads(fx, 0);
    free(s.bytes);
}

/* What is copied from the name it takes, and is itself moved to the name it had, closes a cycle: that is fetched. */
static void in_a_cycle(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    fx_text(fx, 0, "g", "the old g");
    none_failed(fx);
    struct stream s = stream_begin(fx, "f");
    assert_int_equal(fx_lookup(fx, 0, "g", NULL), 0);
    assert_int_equal(fx_cp(fx, 0, "g", 0, "t"), 0);
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    assert_int_equal(fx_rename(fx, 0, "t", "f", 0), 0);
    assert_int_equal(fx_end(fx, s.h), 0);
    none_failed(fx);
    assert_at(fx, 0, "f", "the old g");
    stream_is_at(fx, &s, "g");
    assert_int_equal(fx_at_count(fx, 0, ""), 2);
    free(s.bytes);
}

/* Moved to and fro: under its first name it is what it was. */
static void renamed_back(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    struct stream s = stream_begin(fx, "f");
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    assert_int_equal(stream_write(fx, &s, 4), 0);
    assert_int_equal(fx_rename(fx, 0, "g", "f", 0), 0);
    assert_int_equal(stream_write(fx, &s, 4), 0);
    assert_int_equal(fx_end(fx, s.h), 0);
    assert_int_equal(fx_calls(fx, 0, BE_MP_BEGIN), 1);
    only_stream(fx, &s, "f");
}

/* With the directory that it is in; and out of that before it is removed. */
static void directory_renamed(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    fx_text(fx, 0, "d/small", "small");
    struct stream s = stream_begin(fx, "d/f");
    assert_int_equal(fx_rename(fx, 0, "d/", "e/", 0), 0);
    assert_int_equal(fx_lookup(fx, 0, "d/f", NULL), -ENOENT);
    assert_int_equal(fx_lookup(fx, 0, "e/f", NULL), 0);
    assert_int_equal(stream_write(fx, &s, 4), 0);
    fx_hold(fx, 0, BE_MP_COMMIT, 0);
    cache_release(fx->c, s.h);
    assert_int_equal(fx_rename(fx, 0, "e/f", "f", 0), 0);
    assert_int_equal(fx_unlink(fx, 0, "e/small"), 0);
    assert_int_equal(fx_rmdir(fx, 0, "e/"), 0);
    fx_let_go(fx, 0);
    only_stream(fx, &s, "f");
}

/* Removed, emptied or replaced under its new name: the upload is given up, and the old name stays gone. */
static void not_wanted_any_more(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    for (int i = 0; i < 4; i++) {
        fx_text(fx, 0, "f", "the base");
        none_failed(fx);
        fx_close(fx); /* counts anew */
        fx_open(fx);
        assert_int_equal(fx_unlink(fx, 0, "f"), 0);
        struct stream s = stream_begin(fx, "f");
        assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
        if (i == 3) {
            fx_hold(fx, 0, BE_MP_COMMIT, 0);
            cache_release(fx->c, s.h);
            FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_COMMIT) == 1);
            assert_int_equal(fx_unlink(fx, 0, "g"), 0);
            fx_let_go(fx, 0);
        } else if (i == 0) {
            assert_int_equal(fx_unlink(fx, 0, "g"), 0);
            assert_int_equal(fx_end(fx, s.h), 0);
        } else if (i == 1) {
            fx_text(fx, 0, "g", "instead");
            assert_int_equal(fx_end(fx, s.h), 0);
        } else {
            fx_text(fx, 0, "t", "instead");
            assert_int_equal(fx_rename(fx, 0, "t", "g", 0), 0);
            assert_int_equal(fx_end(fx, s.h), 0);
        }
        none_failed(fx);
        assert_at(fx, 0, "f", NULL);
        assert_at(fx, 0, "g", i == 1 || i == 2 ? "instead" : NULL);
        assert_int_equal(fx_at_count(fx, 0, ""), i == 1 || i == 2);
        fx_no_uploads(fx, 0);
        assert_int_equal(fx_unlink(fx, 0, "g"), i == 1 || i == 2 ? 0 : -ENOENT);
        none_failed(fx);
        free(s.bytes);
    }
}

/* Parts that fail are sent again; a commit whose answer is lost is looked up, under the old name. */
static void failures_on_the_way(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    struct stream s = stream_begin(fx, "f");
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    fx_fault(fx, 0, BE_MP_PART, 0, 2, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_MP_COMMIT, 0, 1, -EIO, ERR_TRANSIENT, false); /* it did not arrive */
    fx_fault(fx, 0, BE_MP_COMMIT, 1, 1, -EIO, ERR_TRANSIENT, true);  /* it did */
    fx_fault(fx, 0, BE_COPY, 0, 1, -EIO, ERR_TRANSIENT, true);
    assert_int_equal(stream_write(fx, &s, 20), 0);
    cache_release(fx->c, s.h);
    only_stream(fx, &s, "g");
}

/* Refused for good: both names say so. Tried again it goes on where it was; given up, neither is there, but what was made under
 * the old name since. */
static void refused_on_the_way(void **state)
{
    struct fx *fx = *state;
    unsigned n;
    small_spool(fx);
    for (int i = 0; i < 3; i++) {
        fx_close(fx);
        fx_open(fx);
        struct stream s = stream_begin(fx, "f");
        assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
        if (i == 1) {
            fx_text(fx, 0, "f", "since");
        }
        fx_fault(fx, 0, BE_MP_COMMIT, 0, 1, -EINVAL, ERR_INVALID, false);
        cache_release(fx->c, s.h);
        FX_AWAIT(fx, fx_progress(fx).failed == 2);
        if (i < 2) {
            assert_int_equal(cache_discard(fx->c, NULL, &n), 0);
            assert_true(n > 0);
            none_failed(fx);
            assert_at(fx, 0, "f", i == 0 ? NULL : "since");
            assert_int_equal(fx_lookup(fx, 0, "g", NULL), -ENOENT);
            assert_int_equal(fx_unlink(fx, 0, "f"), i == 0 ? -ENOENT : 0);
            none_failed(fx);
            assert_int_equal(fx_at_count(fx, 0, ""), 0);
            fx_no_uploads(fx, 0);
            free(s.bytes);
        } else {
            assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
            assert_int_equal(n, 2);
            only_stream(fx, &s, "g");
        }
    }
}

static void renamed_early(struct fx *fx)
{
    struct stream s = {.bytes = malloc(LONGEST)};
    fx_pattern(s.bytes, LONGEST, 0, 1);
    fx_close(fx);
    fx_open(fx);
    fx_hold(fx, 0, BE_MP_PART, 0);
    assert_int_equal(fx_create(fx, 0, "f", &s.h), 0);
    assert_int_equal(stream_write(fx, &s, 6), 0);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_PART) > 0);
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    fx_let_go(fx, 0);
    assert_int_equal(fx_write(fx, s.h, 0, s.bytes, FX_THRESHOLD), 0); /* every byte can be had */
    assert_int_equal(stream_write(fx, &s, 20), 0);
    assert_int_equal(fx_end(fx, s.h), 0);
    only_stream(fx, &s, "g");
    assert_int_equal(fx_unlink(fx, 0, "g"), 0);
    none_failed(fx);
}

/* Nothing of it has left the spool for good yet: it starts anew under its new name. Where its parts are when the upload under
 * the old name is called off is another matter each time. */
static void renamed_before_its_first_part(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    for (int i = 0; i < 15; i++) {
        renamed_early(fx);
    }
}

/* An exchange would need both names of both. */
static void exchanged(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    fx_text(fx, 0, "g", "other");
    none_failed(fx);
    struct stream s = stream_begin(fx, "f");
    assert_int_equal(fx_rename(fx, 0, "f", "g", RENAME_EXCHANGE), -EBUSY);
    assert_int_equal(fx_rename(fx, 0, "g", "f", RENAME_EXCHANGE), -EBUSY);
    assert_int_equal(fx_end(fx, s.h), 0);
    assert_int_equal(fx_rename(fx, 0, "f", "g", RENAME_EXCHANGE), 0);
    none_failed(fx);
    assert_at(fx, 0, "f", "other");
    stream_is_at(fx, &s, "g");
    free(s.bytes);
}

/* Parts are cut as they were when the upload began, whatever memory= says by then: one that failed lies between two that are there. */
static void less_memory_after_a_restart(void **state)
{
    struct fx *fx = *state;
    small_spool(fx);
    struct stream s = stream_begin(fx, "f");
    const struct be_fault_rule held = {
        .kind = BE_MP_PART, .times = 1, .hold = true, .status = -EIO, .cls = ERR_TRANSIENT};
    be_fault_add(fx->fault[0], &held);
    unsigned before = fx_calls(fx, 0, BE_MP_PART);
    while (fx_ended(fx, 0, BE_MP_PART) < before + 3) {
        assert_int_equal(stream_write(fx, &s, 1), 0);
        fx_sleep_ms(2);
    }
    cache_release(fx->c, s.h);
    be_fault_let_go(fx->fault[0]);
    fx_close(fx);
    fx->opt.memory = FX_THRESHOLD; /* a quarter of it: half a part */
    fx_open(fx);
    none_failed(fx);
    stream_is_at(fx, &s, "f");
    fx_no_uploads(fx, 0);
    free(s.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
        T(larger_than_the_spool), T(renamed_while_written), T(renamed_while_it_is_committed), T(renamed_over_another),
        T(another_under_the_old_name), T(in_a_cycle), T(renamed_back), T(directory_renamed), T(not_wanted_any_more),
        T(failures_on_the_way), T(refused_on_the_way), T(renamed_before_its_first_part), T(exchanged), T(less_memory_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
