#include "unit.h"

#include <string.h>

#include "file_state.h"

/* The whole table, one letter a state; a dot is "cannot happen". Changing a cell means changing it
 * here too, knowingly. */
static const char letters[FS_STATES + 1] = "CDURMKFB";
static const struct {
    enum file_event event;
    const char *to; /* from CLEAN DIRTY UPLOADING REDIRTIED coMMITTING unKnown conFlict BLOCKED */
} expected[] = {
    /* clang-format off */
    {FE_CHANGE,         "DDRRMKFB"},
    {FE_START,          ".U......"},
    {FE_PART_FAILED,    "..DD...."},
    {FE_CALLED_OFF,     "...D...."},
    {FE_SEND,           "..M....."},
    {FE_ACCEPTED,       "....C..."},
    {FE_ACCEPTED_OLD,   "....D..."},
    {FE_REPLY_LOST,     "....K..."},
    {FE_PRECOND,        "....K..."},
    {FE_FOUND_BASE,     ".....D.."},
    {FE_FOUND_OURS,     "..C..C.."},
    {FE_FOUND_OURS_OLD, ".....D.."},
    {FE_FOUND_FOREIGN,  ".....F.."},
    {FE_REFUSED,        ".BBBBK.."},
    {FE_LOCAL_FAILED,   "BBBBMKFB"},
    {FE_RETRY,          "......DD"},
    {FE_DISCARD,        ".C....CC"},
    /* clang-format on */
};

static void test_whole_table(void **state)
{
    assert_int_equal(sizeof(expected) / sizeof(expected[0]), FE_EVENTS);
    for (int e = 0; e < FE_EVENTS; e++) {
        assert_int_equal(expected[e].event, e);
        assert_int_equal(strlen(expected[e].to), FS_STATES);
        for (int s = 0; s < FS_STATES; s++) {
            int to = file_state_next((enum file_state)s, (enum file_event)e);
            assert_in_range(to + 1, 0, FS_STATES);
            char got = '.';
            if (to >= 0) {
                got = letters[to];
            }
            if (got != expected[e].to[s]) {
                fail_msg("%s %s: %c, expected %c", file_state_name((enum file_state)s),
                         file_event_name((enum file_event)e), got, expected[e].to[s]);
            }
        }
    }
}

static void reach(bool seen[FS_STATES], int from)
{
    if (seen[from]) {
        return;
    }
    seen[from] = true;
    for (int e = 0; e < FE_EVENTS; e++) {
        int to = file_state_next((enum file_state)from, (enum file_event)e);
        if (to >= 0) {
            reach(seen, to);
        }
    }
}

static void test_reachable(void **state)
{
    for (int from = 0; from < FS_STATES; from++) {
        bool seen[FS_STATES] = {false};
        reach(seen, from);
        for (int s = 0; s < FS_STATES; s++) {
            assert_true(seen[s]); /* no state is a dead end, and CLEAN leads everywhere */
        }
    }
}

/* What the table must never say, whatever else changes in it. */
static void test_principles(void **state)
{
    for (int s = 0; s < FS_STATES; s++) {
        for (int e = 0; e < FE_EVENTS; e++) {
            int to = file_state_next((enum file_state)s, (enum file_event)e);
            /* a commit request goes out from UPLOADING only */
            assert_true(to != FS_COMMITTING || s == FS_COMMITTING ||
                        (s == FS_UPLOADING && e == FE_SEND));
            /* and its outcome is learnt, not forgotten */
            if ((s == FS_COMMITTING || s == FS_UNKNOWN) && to >= 0 && to != s) {
                assert_true(e == FE_ACCEPTED || e == FE_ACCEPTED_OLD || e == FE_REPLY_LOST ||
                            e == FE_PRECOND || e == FE_REFUSED || e == FE_FOUND_BASE ||
                            e == FE_FOUND_OURS || e == FE_FOUND_OURS_OLD || e == FE_FOUND_FOREIGN);
            }
            /* nothing becomes CLEAN unless the key holds the content or somebody gave it up */
            if (to == FS_CLEAN) {
                assert_true(e == FE_ACCEPTED || e == FE_FOUND_OURS || e == FE_DISCARD);
            }
        }
        /* a change is always possible and never lost */
        int changed = file_state_next((enum file_state)s, FE_CHANGE);
        assert_true(changed > FS_CLEAN);
        /* a local failure never ends in something that looks healthy */
        assert_true(file_state_next((enum file_state)s, FE_LOCAL_FAILED) > FS_REDIRTIED);
    }
}

static void test_recovered(void **state)
{
    assert_int_equal(file_state_recovered(FS_CLEAN), FS_CLEAN);
    assert_int_equal(file_state_recovered(FS_DIRTY), FS_DIRTY);
    assert_int_equal(file_state_recovered(FS_UPLOADING), FS_DIRTY);
    assert_int_equal(file_state_recovered(FS_REDIRTIED), FS_DIRTY);
    assert_int_equal(file_state_recovered(FS_COMMITTING), FS_UNKNOWN);
    assert_int_equal(file_state_recovered(FS_UNKNOWN), FS_UNKNOWN);
    assert_int_equal(file_state_recovered(FS_CONFLICT), FS_CONFLICT);
    assert_int_equal(file_state_recovered(FS_BLOCKED), FS_BLOCKED);
    assert_int_equal(file_state_recovered((enum file_state)99), FS_UNKNOWN);
    assert_int_equal(file_state_recovered((enum file_state) - 1), FS_UNKNOWN);
}

static void test_names(void **state)
{
    for (int s = 0; s < FS_STATES; s++) {
        const char *name = file_state_name((enum file_state)s);
        assert_true(name && strlen(name) > 1);
        for (int other = 0; other < s; other++) {
            assert_string_not_equal(name, file_state_name((enum file_state)other));
        }
    }
    for (int e = 0; e < FE_EVENTS; e++) {
        const char *name = file_event_name((enum file_event)e);
        assert_true(name && strlen(name) > 1);
        for (int other = 0; other < e; other++) {
            assert_string_not_equal(name, file_event_name((enum file_event)other));
        }
    }
    assert_string_equal(file_state_name(FS_STATES), "?");
    assert_string_equal(file_event_name(FE_EVENTS), "?");
    assert_int_equal(file_state_next(FS_STATES, FE_CHANGE), -1);
    assert_int_equal(file_state_next(FS_CLEAN, FE_EVENTS), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_table), cmocka_unit_test(test_reachable),
        cmocka_unit_test(test_principles),  cmocka_unit_test(test_recovered),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
