#include "unit.h"

#include <errno.h>
#include <string.h>

#include "errinfo.h"
#include "mem.h"

static void test_set(void **state)
{
    struct errinfo e = {.http_status = 403, .code = "AccessDenied", .request_id = "r1"};
    assert_int_equal(err_set(&e, ERR_AUTH, -EACCES, "no %s", "entry"), -EACCES);
    assert_int_equal(e.cls, ERR_AUTH);
    assert_int_equal(e.http_status, 403);
    assert_string_equal(e.message, "no entry");
    assert_int_equal(err_set(NULL, ERR_BUG, -EIO, "x"), -EIO);
    /* The message may be built from itself. */
    (void)err_set(&e, ERR_AUTH, -EACCES, "put: %s", e.message);
    assert_string_equal(e.message, "put: no entry");
    assert_int_equal(err_set_errno(&e, ENOSPC, "write %s", "spool"), -ENOSPC);
    assert_int_equal(e.cls, ERR_LOCAL);
    assert_string_equal(e.message, "write spool: No space left on device");
    assert_int_equal(err_set_errno(NULL, ENOSPC, "x"), -ENOSPC);
    /* Whatever is quoted, a message is one line. */
    (void)err_set(&e, ERR_INVALID, -EINVAL, "no %s", "a\nb\x1b[2J\x7f\xc3\xa9");
    assert_string_equal(e.message, "no a b [2J \xc3\xa9");
    err_clear(&e);
    assert_int_equal(e.http_status, 0);
    assert_string_equal(e.message, "");
}

static void test_truncation(void **state)
{
    struct errinfo e = {0};
    char text[1000];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)err_set(&e, ERR_BUG, 0, "%s", text);
    assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
    (void)err_set_errno(&e, EIO, "%s", text);
    assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
    /* A character cut in two is left out: 319 bytes hold 106 of three bytes and one over. */
    for (size_t i = 0; i + 3 < sizeof(text); i += 3) {
        memcpy(text + i, "\xed\x95\x9c", 3);
    }
    text[999] = '\0';
    (void)err_set(&e, ERR_BUG, 0, "%s", text);
    assert_int_equal(strlen(e.message), 318);
    (void)err_set(&e, ERR_BUG, 0, "a%s", text);
    assert_int_equal(strlen(e.message), 319);
    (void)err_set(&e, ERR_BUG, 0, "aa%s", text);
    assert_int_equal(strlen(e.message), 317);
}

static void test_fold(void **state)
{
    struct errinfo fold = {0};
    struct errinfo lost = {.cls = ERR_TRANSIENT, .outcome_unknown = true, .message = "reset"};
    struct errinfo busy = {.cls = ERR_THROTTLED,
                           .http_status = 503,
                           .code = "SlowDown",
                           .request_id = "r2",
                           .retry_after_ms = 7,
                           .message = "slow"};
    struct errinfo refused = {.cls = ERR_TRANSIENT, .message = "refused"};
    err_fold(&fold, &lost);
    assert_int_equal(fold.attempts, 1);
    err_fold(&fold, &busy);
    assert_int_equal(fold.cls, ERR_THROTTLED);
    assert_int_equal(fold.http_status, 503);
    assert_string_equal(fold.code, "SlowDown");
    assert_string_equal(fold.message, "slow");
    assert_int_equal(fold.retry_after_ms, 7);
    err_fold(&fold, &refused);
    assert_int_equal(fold.attempts, 3);
    assert_int_equal(fold.http_status, 0);
    assert_string_equal(fold.code, "");
    assert_string_equal(fold.request_id, "r2");
    assert_true(fold.outcome_unknown);
    struct errinfo outer = {0};
    err_fold(&outer, &fold);
    err_fold(&outer, &fold);
    assert_int_equal(outer.attempts, 6);
}

static void test_format(void **state)
{
    char text[256];
    struct errinfo e = {.cls = ERR_AUTH,
                        .http_status = 403,
                        .code = "AccessDenied",
                        .request_id = "r9",
                        .attempts = 3,
                        .message = "not yours"};
    assert_string_equal(err_format(&e, text, sizeof(text)),
                        "403 AccessDenied: not yours (request id r9, 3 attempts)");
    e.request_id[0] = '\0';
    assert_string_equal(err_format(&e, text, sizeof(text)),
                        "403 AccessDenied: not yours (3 attempts)");
    e = (struct errinfo){.cls = ERR_TRANSIENT, .attempts = 1};
    assert_string_equal(err_format(&e, text, sizeof(text)), "transient");
    (void)err_set(&e, ERR_LOCAL, 0, "disk");
    assert_string_equal(err_format(&e, text, sizeof(text)), "disk");
    assert_string_equal(err_format(&e, text, 3), "di");
    assert_string_equal(err_format(&e, text, 1), "");
    assert_string_equal(err_format(&e, text, 0), "");
}

static void test_classes(void **state)
{
    for (int i = 0; i < ERR_CLASSES; i++) {
        struct errinfo e = {.cls = (enum err_class)i};
        assert_non_null(err_class_name(e.cls));
        assert_true(i == ERR_NONE ? err_to_errno(&e) == 0 : err_to_errno(&e) < 0);
        assert_int_not_equal(err_to_errno(&e), -EAGAIN);
    }
    struct errinfo e = {.cls = ERR_QUOTA};
    assert_int_equal(err_to_errno(&e), -EDQUOT);
    e.cls = ERR_PRECOND;
    assert_int_equal(err_to_errno(&e), -ESTALE);
    assert_string_equal(err_class_name((enum err_class)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),     cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_fold),    cmocka_unit_test(test_format),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests_name("errinfo", tests, NULL, NULL);
}
