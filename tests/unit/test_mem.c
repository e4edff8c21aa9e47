#include "unit.h"

#include <string.h>

#include "mem.h"

static void test_take(void **state)
{
    char *a = mem_strdup("x");
    CLEANUP(mem_freep) char *b = TAKE(a);
    assert_null(a);
    assert_string_equal(b, "x");
}

static void test_alloc(void **state)
{
    CLEANUP(mem_freep) char *zero = mem_zalloc(0);
    assert_non_null(zero);
    CLEANUP(mem_freep) char *p = mem_zalloc(100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(p[i], 0);
    }
    p = mem_realloc(p, 0);
    assert_non_null(p);
    CLEANUP(mem_freep) char *cut = mem_strndup("abcdef", 3);
    assert_string_equal(cut, "abc");
    CLEANUP(mem_freep) char *whole = mem_strndup("ab", 30);
    assert_string_equal(whole, "ab");
    CLEANUP(mem_freep) char *text = mem_printf("%s-%d", "a", 7);
    assert_string_equal(text, "a-7");
}

/* What has an effect, a clock above all, is asked once. */
static void test_pick_once(void **state)
{
    int n = 0;
    assert_int_equal(MAX(++n, 0), 1);
    assert_int_equal(MIN(0, n--), 0);
    assert_int_equal(n, 0);
    assert_int_equal(MAX(MIN(++n, 5), MIN(7, 3)), 3);
    assert_int_equal(n, 1);
    assert_true(MAX((uint64_t)1 << 40, 1u) == (uint64_t)1 << 40);
}

static void test_arithmetic(void **state)
{
    size_t n;
    assert_false(ADD_OVERFLOWS((size_t)1, (size_t)2, &n));
    assert_int_equal(n, 3);
    assert_true(ADD_OVERFLOWS(SIZE_MAX, (size_t)1, &n));
    assert_true(MUL_OVERFLOWS(SIZE_MAX / 2, (size_t)3, &n));
}

struct thing {
    uint32_t magic;
};

static void check_thing(void *arg)
{
    struct thing *t = arg;
    CHECK_MAGIC(t, 0x1234);
}

static void test_magic(void **state)
{
    struct thing good = {0x1234}, bad = {0x1235};
    check_thing(&good);
    assert_true(aborts(check_thing, &bad));
    assert_true(aborts(check_thing, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_pick_once), cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_magic),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
