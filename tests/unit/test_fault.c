/* The failure-injecting wrapper: counted, before or after the call, late. */
#include "be_test.h"

#include <errno.h>

static struct be *be;

static int start(void **state)
{
    be_test_start(2);
    be = be_test_open("memory", NULL);
    return be_fault_new(be, &be);
}

static int stop(void **state)
{
    be_close(be);
    be_test_stop();
    return 0;
}

static void the_nth_call(void **state)
{
    const struct be_fault_rule rule = {
        .kind = BE_WRITE, .skip = 1, .times = 2, .status = -EIO, .cls = ERR_THROTTLED};
    be_fault_add(be, &rule);
    char text[256];
    assert_int_equal(be_test_write(be, "a", "1", NULL), 0);
    struct be_write w = {.op = {.key = "a"}, .data = "2", .len = 1};
    assert_int_equal(BE_SYNC(be, be_write, &w), -EIO);
    assert_int_equal(w.op.err.cls, ERR_THROTTLED);
    assert_false(w.op.err.outcome_unknown);
    assert_int_equal(be_test_read(be, "a", text), 0); /* other kinds go through */
    assert_string_equal(text, "1");
    assert_int_equal(be_test_write(be, "a", "3", NULL), -EIO);
    assert_int_equal(be_test_write(be, "a", "4", NULL), 0);
    assert_int_equal(be_fault_calls(be, BE_WRITE), 4);
    assert_int_equal(be_fault_calls(be, BE_READ), 1);
    be_fault_clear(be);
}

static void for_ever_and_any(void **state)
{
    const struct be_fault_rule rule = {.kind = BE_KINDS, .status = -EACCES, .cls = ERR_AUTH};
    be_fault_add(be, &rule);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(be_test_write(be, "a", "1", NULL), -EACCES);
        assert_int_equal(be_test_remove(be, "a"), -EACCES);
    }
    struct errinfo e = {0};
    assert_int_equal(be_probe(be, &e), -EACCES);
    assert_int_equal(e.cls, ERR_AUTH);
    be_fault_clear(be);
    assert_int_equal(be_test_write(be, "a", "1", NULL), 0);
}

/* What a doctor says of a failed listing, by its class. */
static void probe_in_parts(void **state)
{
    static const struct {
        int status;
        enum err_class cls;
        const char *aspect;
    } cases[] = {
        {-EACCES, ERR_AUTH, "credentials"}, {-ENOENT, ERR_ABSENT, "bucket"},
        {-EIO, ERR_SKEW, "clock"},          {-EIO, ERR_LOCAL, "path"},
        {-EIO, ERR_TRANSIENT, "network"},
    };
    struct be_probed p;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct be_fault_rule rule = {
            .kind = BE_LIST, .times = 1, .status = cases[i].status, .cls = cases[i].cls};
        be_fault_add(be, &rule);
        assert_int_equal(be_probe_in_parts(be, 0, &p), cases[i].status);
        assert_string_equal(p.aspect, cases[i].aspect);
        assert_true(p.mend != NULL && p.server_ns == 0);
        be_fault_clear(be);
    }
    int64_t before = time_wall_ns();
    assert_int_equal(be_probe_in_parts(be, 0, &p), 0);
    int64_t took = time_wall_ns() - before;
    assert_null(p.aspect);
    assert_null(p.mend);
    assert_true(p.server_ns != 0);
    assert_true(llabs(p.ahead_ns) <= took + 1000000000); /* its own clock, told in whole seconds */
}

static void lost_reply(void **state)
{
    const struct be_fault_rule rule = {
        .kind = BE_WRITE, .times = 1, .status = -EIO, .cls = ERR_TRANSIENT, .after = true};
    be_fault_add(be, &rule);
    struct be_write w = {.op = {.key = "a"}, .data = "made", .len = 4};
    assert_int_equal(BE_SYNC(be, be_write, &w), -EIO);
    assert_true(w.op.err.outcome_unknown);
    assert_string_equal(w.object.etag, "");
    char text[256];
    assert_int_equal(be_test_read(be, "a", text), 0);
    assert_string_equal(text, "made");
    const struct be_fault_rule on_stat = {
        .kind = BE_STAT, .times = 1, .status = -EIO, .after = true};
    be_fault_add(be, &on_stat);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    assert_int_equal(be_test_stat(be, "a", NULL, &meta), -EIO);
    assert_int_equal(meta.n, 0);
}

static void late(void **state)
{
    const struct be_fault_rule rule = {.kind = BE_WRITE, .times = 1, .delay_ms = 30};
    be_fault_add(be, &rule);
    int64_t before = time_mono_ns();
    assert_int_equal(be_test_write(be, "a", "1", NULL), 0);
    assert_true(time_mono_ns() - before >= 30000000);
}

/* Whoever cancels need not know whether the call has been made yet; the call after it is another. */
static void cancel_before_the_call(void **state)
{
    struct be_stat s = {.op = {.key = "k"}};
    be_cancel(&s.op);
    assert_true(BE_SYNC(be, be_stat, &s) < 0);
    assert_int_equal(s.op.err.cls, ERR_CANCELED);
    (void)BE_SYNC(be, be_stat, &s);
    assert_int_equal(s.op.err.cls, ERR_ABSENT);
}

static void cancel_what_is_late(void **state)
{
    for (int held = 0; held < 2; held++) {
        const struct be_fault_rule rule = {
            .kind = BE_WRITE, .times = 1, .delay_ms = held ? 0 : 3600000, .hold = held};
        be_fault_add(be, &rule);
        struct be_write w = {.op = {.key = "a"}, .data = "1", .len = 1};
        struct be_waiter *waiter = be_sync_begin(&w.op);
        be_write(be, &w);
        be_cancel(&w.op);
        assert_int_equal(be_sync_end(waiter), -EINTR);
        assert_int_equal(w.op.err.cls, ERR_CANCELED);
        assert_int_equal(be_test_stat(be, "a", NULL, NULL), -ENOENT);
        be_fault_clear(be);
    }
}

/* Held until it is let go, beside what is only late; and seen as it comes and goes. */
static void held(void **state)
{
    const struct be_fault_rule rules[] = {
        {.kind = BE_WRITE, .times = 1, .delay_ms = 3600000},
        {.kind = BE_WRITE, .times = 1, .hold = true},
        {.kind = BE_WRITE, .times = 1, .hold = true, .status = -EACCES, .cls = ERR_AUTH},
    };
    struct be_write w[ARRAY_LEN(rules)];
    struct be_waiter *waiters[ARRAY_LEN(rules)];
    static const char *const keys[] = {"late", "held", "refused"};
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        be_fault_add(be, &rules[i]);
        w[i] = (struct be_write){.op = {.key = keys[i]}, .data = "1", .len = 1};
        waiters[i] = be_sync_begin(&w[i].op);
        be_write(be, &w[i]);
    }
    int64_t let_go = time_mono_ns();
    struct be_fault_seen seen = be_fault_seen(be, BE_WRITE);
    assert_int_equal(seen.calls, 3);
    assert_int_equal(seen.ended, 0);
    assert_true(seen.began_ns <= let_go);
    assert_int_equal(be_test_stat(be, "held", NULL, NULL), -ENOENT);
    be_fault_clear(be);
    assert_int_equal(be_sync_end(waiters[1]), 0);
    assert_int_equal(be_sync_end(waiters[2]), -EACCES);
    assert_int_equal(be_test_stat(be, "held", NULL, NULL), 0);
    assert_int_equal(be_test_stat(be, "refused", NULL, NULL), -ENOENT);
    assert_int_equal(be_test_stat(be, "late", NULL, NULL), -ENOENT);
    while (be_fault_seen(be, BE_WRITE).ended < 2) { /* who waited may go on before its done is over */
    }
    assert_true(be_fault_seen(be, BE_WRITE).ended_ns >= let_go);
    be_cancel(&w[0].op);
    assert_int_equal(be_sync_end(waiters[0]), -EINTR);
}

static void copies_see_through(void **state)
{
    assert_int_equal(be_test_write(be, "a", "1", NULL), 0);
    struct be_copy c = {.op = {.key = "b"}, .src = be, .src_key = "a", .size = 1};
    assert_true(be_can_copy(be, be));
    assert_int_equal(BE_SYNC(be, be_copy, &c), 0);
    assert_ptr_equal(c.src, be);
    assert_ptr_equal(c.op.be, be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_nth_call, start, stop),
        cmocka_unit_test_setup_teardown(for_ever_and_any, start, stop),
        cmocka_unit_test_setup_teardown(probe_in_parts, start, stop),
        cmocka_unit_test_setup_teardown(lost_reply, start, stop),
        cmocka_unit_test_setup_teardown(late, start, stop),
        cmocka_unit_test_setup_teardown(cancel_before_the_call, start, stop),
        cmocka_unit_test_setup_teardown(cancel_what_is_late, start, stop),
        cmocka_unit_test_setup_teardown(held, start, stop),
        cmocka_unit_test_setup_teardown(copies_see_through, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
