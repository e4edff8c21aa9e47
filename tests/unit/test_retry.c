#include "unit.h"

#include <string.h>

#include "retry.h"

static const struct retry_policy five = {.max_tries = 5, .base_ms = 100, .cap_ms = 1000};

static bool next(const struct retry_policy *p, enum err_class cls, unsigned tries, double random,
                 uint32_t *ret_ms)
{
    struct errinfo err = {.cls = cls};
    return retry_next(p, NULL, &err, tries, true, 0, random, ret_ms);
}

/* Every class at every number of tries, against the table of retry.h. */
static void test_classes(void **state)
{
    static const unsigned last_retried[ERR_CLASSES] = {
        [ERR_TRANSIENT] = 4, [ERR_THROTTLED] = 4, [ERR_SKEW] = 2, [ERR_INTEGRITY] = 1};
    for (int cls = 0; cls <= ERR_CLASSES; cls++) {
        for (unsigned tries = 1; tries <= 7; tries++) {
            uint32_t ms = 12345;
            bool want = cls < ERR_CLASSES && tries <= last_retried[cls];
            assert_int_equal(next(&five, (enum err_class)cls, tries, 0.5, &ms), want);
            assert_true(want ? ms <= 1000 : ms == 12345);
        }
    }
}

static void test_waits(void **state)
{
    static const uint32_t bound[] = {0, 100, 200, 400, 800, 1000, 1000, 1000};
    struct retry_policy p = five;
    uint32_t ms = 0;
    p.max_tries = 200;
    for (unsigned tries = 1; tries < 8; tries++) {
        for (unsigned i = 0; i < 100; i++) {
            assert_true(next(&p, ERR_TRANSIENT, tries, i / 100.0, &ms));
            assert_in_range(ms, bound[tries] * i / 100 - (i > 0), bound[tries] * i / 100);
        }
        assert_true(next(&p, ERR_THROTTLED, tries, 0.9999999, &ms));
        assert_in_range(ms, bound[tries] - 1, bound[tries]);
    }
    assert_true(next(&p, ERR_TRANSIENT, 199, 0.9999999, &ms)); /* no overflow */
    assert_in_range(ms, 999, 1000);
    assert_true(next(&p, ERR_SKEW, 1, 0.9, &ms)); /* at once */
    assert_int_equal(ms, 0);
    p.max_tries = UINT32_MAX;
    p.base_ms = UINT32_MAX;
    p.cap_ms = UINT32_MAX;
    assert_true(next(&p, ERR_TRANSIENT, UINT32_MAX - 1, 0.5, &ms));
    assert_in_range(ms, UINT32_MAX / 2 - 1, UINT32_MAX / 2 + 1);
}

static void test_random_out_of_range(void **state)
{
    uint32_t ms = 7;
    assert_true(next(&five, ERR_TRANSIENT, 1, -1, &ms));
    assert_int_equal(ms, 0);
    assert_true(next(&five, ERR_TRANSIENT, 1, 1, &ms));
    assert_int_equal(ms, 100);
    assert_true(next(&five, ERR_TRANSIENT, 1, 1e300, &ms));
    assert_int_equal(ms, 100);
    assert_true(next(&five, ERR_TRANSIENT, 1, __builtin_nan(""), &ms));
    assert_int_equal(ms, 0);
}

static void test_defaults(void **state)
{
    struct retry_policy p = {.max_tries = 100};
    uint32_t ms = 0;
    assert_true(next(&p, ERR_TRANSIENT, 1, 1, &ms));
    assert_int_equal(ms, 100);
    assert_true(next(&p, ERR_TRANSIENT, 50, 1, &ms));
    assert_int_equal(ms, 20000);
    p.max_tries = 0; /* as 1 */
    assert_false(next(&p, ERR_TRANSIENT, 1, 0, &ms));
    assert_false(next(&p, ERR_TRANSIENT, 2, 0, &ms));
}

static void test_retry_after(void **state)
{
    struct errinfo err = {.cls = ERR_THROTTLED, .retry_after_ms = 700};
    uint32_t ms = 0;
    assert_true(retry_next(&five, NULL, &err, 1, true, 0, 0.5, &ms)); /* jitter alone: 50 */
    assert_int_equal(ms, 700);
    assert_true(retry_next(&five, NULL, &err, 4, true, 0, 1, &ms)); /* a minimum only */
    assert_int_equal(ms, 800);
    err.retry_after_ms = 3600000; /* believed up to three caps */
    assert_true(retry_next(&five, NULL, &err, 1, true, 0, 0, &ms));
    assert_int_equal(ms, 3000);
    err.retry_after_ms = UINT32_MAX;
    assert_true(retry_next(&five, NULL, &err, 1, true, 0, 0, &ms));
    assert_int_equal(ms, 3000);
    err.cls = ERR_SKEW; /* signing anew is not what it was meant for */
    assert_true(retry_next(&five, NULL, &err, 1, true, 0, 0, &ms));
    assert_int_equal(ms, 0);
}

static void test_outcome(void **state)
{
    struct errinfo err = {.cls = ERR_TRANSIENT};
    uint32_t ms;
    assert_true(retry_next(&five, NULL, &err, 1, false, 0, 0, &ms)); /* it did not happen */
    err.outcome_unknown = true;
    assert_false(retry_next(&five, NULL, &err, 1, false, 0, 0, &ms));
    assert_true(retry_next(&five, NULL, &err, 1, true, 0, 0, &ms));
}

static void test_deadline(void **state)
{
    struct retry_policy p = five;
    struct errinfo err = {.cls = ERR_TRANSIENT};
    uint32_t ms;
    p.deadline_ns = 1000000000;
    assert_true(retry_next(&p, NULL, &err, 1, true, 949000000, 0.5, &ms)); /* at 0.999 s */
    assert_false(retry_next(&p, NULL, &err, 1, true, 950000000, 0.5, &ms));
    assert_false(retry_next(&p, NULL, &err, 1, true, 1000000000, 0, &ms));
    assert_false(retry_next(&p, NULL, &err, 1, true, 2000000000, 0, &ms));
    assert_false(retry_next(&p, NULL, &err, 1, true, INT64_MAX, 0.5, &ms));
    err.retry_after_ms = 900;
    assert_false(retry_next(&p, NULL, &err, 1, true, 200000000, 0, &ms));
    p.deadline_ns = 0;
    assert_true(retry_next(&p, NULL, &err, 1, true, INT64_MAX, 0.5, &ms));
}

static void test_budget(void **state)
{
    struct retry_budget b = {.tokens = 2, .max = 2};
    struct errinfo err = {.cls = ERR_TRANSIENT};
    struct retry_policy p = five;
    uint32_t ms;
    assert_true(retry_next(&p, &b, &err, 1, true, 0, 0, &ms));
    assert_true(retry_next(&p, &b, &err, 1, true, 0, 0, &ms));
    assert_false(retry_next(&p, &b, &err, 1, true, 0, 0, &ms));
    for (int i = 0; i < 9; i++) {
        retry_success(&b);
        assert_false(retry_next(&p, &b, &err, 1, true, 0, 0, &ms));
    }
    retry_success(&b);
    retry_success(&b); /* ten tenths are a little less than one in binary */
    assert_true(retry_next(&p, &b, &err, 1, true, 0, 0, &ms));
    assert_true(b.tokens >= 0 && b.tokens < 1);
    for (int i = 0; i < 1000; i++) {
        retry_success(&b);
    }
    assert_true(b.tokens == b.max);
    /* What is not retried for another reason takes nothing. */
    p.deadline_ns = 1;
    assert_false(retry_next(&p, &b, &err, 1, true, 5, 0, &ms));
    assert_false(retry_next(&five, &b, &err, 5, true, 0, 0, &ms));
    err.cls = ERR_AUTH;
    assert_false(retry_next(&five, &b, &err, 1, true, 0, 0, &ms));
    err.cls = ERR_TRANSIENT;
    err.outcome_unknown = true;
    assert_false(retry_next(&five, &b, &err, 1, false, 0, 0, &ms));
    assert_true(b.tokens == b.max);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_random_out_of_range),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_outcome),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
