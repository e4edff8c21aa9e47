/* Reading ahead of who walks a tree: what comes next is on its way, nothing is asked for twice, and who does not walk pays nothing. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>

#include "mem.h"
#include "sync.h"

#define FILES 60u

static void name_of(char ret[64], unsigned dir, unsigned file)
{
    snprintf(ret, 64, "t/d%02u/f%03u", dir, file);
}

static void seed(struct fx *fx, unsigned dirs)
{
    for (unsigned d = 0; d < dirs; d++) {
        for (unsigned f = 0; f < FILES; f++) {
            char key[64];
            name_of(key, d, f);
            fx_at_put(fx, 0, key, key);
        }
    }
}

static void list(struct fx *fx, const char *prefix)
{
    CLEANUP(mem_freep) char *names = fx_ls(fx, 0, prefix);
    assert_non_null(names);
}

static void is_right(struct fx *fx, unsigned dir, unsigned file)
{
    char key[64];
    name_of(key, dir, file);
    if (!fx_is(fx, 0, key, key)) {
        fail_msg("%s has other bytes", key);
    }
}

/* So many are asked for, soon. */
static void reach(struct fx *fx, enum be_kind kind, unsigned calls)
{
    FX_AWAIT(fx, fx_calls(fx, 0, kind) >= calls);
}

/* Nothing is under way, most likely: before a bound upwards. */
static void settled(struct fx *fx)
{
    unsigned n, was = ~0u;
    while ((n = fx_calls(fx, 0, BE_READ)) != was) {
        was = n;
        fx_sleep_ms(60);
    }
}

static void in_listing_order(void **state)
{
    struct fx *fx = *state;
    seed(fx, 1);
    list(fx, "t/d00/");
    is_right(fx, 0, 0);
    settled(fx);
    assert_int_equal(fx_calls(fx, 0, BE_READ), 1); /* one file is no walk */
    is_right(fx, 0, 1);
    reach(fx, BE_READ, 3);
    settled(fx);
    assert_in_range(fx_calls(fx, 0, BE_READ), 3, 10); /* a few are tried */
    for (unsigned f = 2; f < 12; f++) {
        is_right(fx, 0, f);
    }
    reach(fx, BE_READ, FILES); /* the rest comes */
    for (unsigned f = 12; f < FILES; f++) {
        is_right(fx, 0, f);
    }
    assert_int_equal(fx_calls(fx, 0, BE_READ), FILES); /* each was asked for once */
}

/* The order of inode numbers, as cp reads: here the last byte of the name first. */
static uint64_t number(const char *identity, bool dir, const char *prefix, const char *rest, size_t rest_len)
{
    (void)identity, (void)dir, (void)prefix;
    const char *digits = "0123456789";
    uint64_t n = 0;
    for (size_t i = rest_len; i > 1; i--) {
        const char *at = strchr(digits, rest[i - 1]);
        n = n * 10 + (at != NULL ? (uint64_t)(at - digits) : 0);
    }
    return n;
}

static void in_order_of_numbers(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.number = number;
    fx_open(fx);
    seed(fx, 1);
    list(fx, "t/d00/");
    unsigned n = 0;
    for (unsigned low = 0; low < 10; low++) {
        for (unsigned high = 0; high < FILES / 10; high++, n++) {
            is_right(fx, 0, high * 10 + low);
            if (n == 12) {
                reach(fx, BE_READ, FILES);
            }
        }
    }
    assert_int_equal(fx_calls(fx, 0, BE_READ), FILES);
}

static void in_no_order(void **state)
{
    struct fx *fx = *state;
    seed(fx, 1);
    list(fx, "t/d00/");
    for (unsigned i = 0; i < FILES; i++) {
        is_right(fx, 0, i * 17 % FILES);
        assert_int_equal(fx_calls(fx, 0, BE_READ), i + 1);
    }
    settled(fx);
    assert_int_equal(fx_calls(fx, 0, BE_READ), FILES);
}

/* A tree: from the third directory on, its listing is there and its first files are on their way before anybody asks. */
static void from_directory_to_directory(void **state)
{
    struct fx *fx = *state;
    const unsigned dirs = 12;
    seed(fx, dirs);
    list(fx, "t/");
    for (unsigned d = 0; d < dirs; d++) {
        char prefix[64];
        snprintf(prefix, sizeof(prefix), "t/d%02u/", d);
        if (d == 4) {
            reach(fx, BE_LIST, 1 + d + 2);
            reach(fx, BE_READ, d * FILES + FILES / 2);
        }
        list(fx, prefix);
        for (unsigned f = 0; f < FILES; f++) {
            is_right(fx, d, f);
        }
    }
    assert_int_equal(fx_calls(fx, 0, BE_READ), dirs * FILES);
    assert_int_equal(fx_calls(fx, 0, BE_LIST), dirs + 1);
}

/* What was fetched ahead is of the version that was listed; a file written or replaced since shows what it is now. */
static void changed_since(void **state)
{
    struct fx *fx = *state;
    seed(fx, 1);
    list(fx, "t/d00/");
    for (unsigned f = 0; f < 8; f++) {
        is_right(fx, 0, f);
    }
    reach(fx, BE_READ, FILES);
    fx_text(fx, 0, "t/d00/f030", "written here");
    assert_true(fx_is(fx, 0, "t/d00/f030", "written here"));
    assert_int_equal(fx_unlink(fx, 0, "t/d00/f031"), 0);
    fx_text(fx, 0, "t/d00/f031", "made anew");
    assert_true(fx_is(fx, 0, "t/d00/f031", "made anew"));
    fx_idle(fx);
    assert_true(fx_is(fx, 0, "t/d00/f030", "written here"));
    fx_close(fx); /* with what nobody came for */
    fx_open(fx);
    assert_true(fx_is(fx, 0, "t/d00/f031", "made anew"));
}

/* A guess that fails is nobody's error, not even of who comes for it meanwhile. */
static void guess_fails(void **state)
{
    struct fx *fx = *state;
    seed(fx, 1);
    list(fx, "t/d00/");
    is_right(fx, 0, 0);
    fx_delay(fx, 0, BE_READ, 1, 2, 100);
    be_fault_add(fx->fault[0], &(struct be_fault_rule){
                                   .kind = BE_READ, .skip = 3, .times = 5, .status = -EIO, .cls = ERR_TRANSIENT, .delay_ms = 100});
    for (unsigned f = 1; f < FILES; f++) {
        char key[64];
        name_of(key, 0, f);
        for (int tries = 0; !fx_is(fx, 0, key, key); tries++) {
            assert_true(tries < 5); /* a read that somebody waits for may meet the fault, too: a provider's own tries are not here */
        }
    }
}

/* Never more than its part of the memory, and what waits to be read is not thrown away for more guesses. */
static void within_the_memory(void **state)
{
    struct fx *fx = *state;
    const size_t size = FX_THRESHOLD;
    char *p = mem_zalloc(size);
    fx_close(fx);
    fx->opt.memory = 64 * (uint64_t)FX_THRESHOLD; /* a quarter: 16 files */
    fx_open(fx);
    for (unsigned f = 0; f < FILES; f++) {
        char key[64];
        name_of(key, 0, f);
        fx_pattern(p, size, 0, f);
        assert_int_equal(fx_put(fx, 0, key, p, size), 0);
    }
    fx_idle(fx);
    fx_close(fx);
    fx_open(fx);
    list(fx, "t/d00/");
    char *got = mem_zalloc(size + 1);
    for (unsigned f = 0; f < FILES; f++) {
        char key[64];
        name_of(key, 0, f);
        fx_pattern(p, size, 0, f);
        assert_int_equal(fx_get(fx, 0, key, got, size + 1), size);
        assert_memory_equal(got, p, size);
        if (f == 20) {
            reach(fx, BE_READ, f + 2);
            settled(fx);
            assert_in_range(fx_calls(fx, 0, BE_READ), f + 2, f + 1 + 16);
        }
    }
    assert_int_equal(fx_calls(fx, 0, BE_READ), FILES);
    free(p);
    free(got);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
    const struct CMUnitTest tests[] = {
        T(in_listing_order), T(in_order_of_numbers), T(in_no_order),     T(from_directory_to_directory),
        T(changed_since),    T(guess_fails),         T(within_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
