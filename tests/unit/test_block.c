#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "block.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static void whole_blocks(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 100 * KIB, 256 * KIB, 256 * KIB + 1, MIB - 1, 8 * MIB, 32 * MIB, 33 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int round = 0; round < 3; round++) { /* the second may be the first again */
            char *p = block_get(sizes[i]);
            assert_non_null(p);
            memset(p, round, sizes[i]);
            block_put(p, sizes[i]);
        }
    }
    block_put(NULL, MIB);
    block_trim();
    block_trim();
}

static void kept_for_the_next(void **state)
{
    (void)state;
    if (!block_keeps) {
        skip();
    }
    void *a = block_get(MIB), *b = block_get(MIB);
    assert_ptr_not_equal(a, b);
    block_put(a, MIB);
    block_put(b, MIB);
    assert_ptr_equal(block_get(MIB - 1), b); /* the newest, and sizes are rounded */
    assert_ptr_equal(block_get(MIB), a);
    block_put(a, MIB);
    block_trim(); /* it came since */
    assert_ptr_equal(block_get(MIB), a);
    block_put(a, MIB);
    block_put(b, MIB);
    block_trim();
    block_trim();
}

static void bounded(void **state)
{
    (void)state;
    void *v[100];
    for (size_t i = 0; i < 100; i++) {
        v[i] = block_get(MIB);
        assert_non_null(v[i]);
    }
    for (size_t i = 0; i < 100; i++) {
        block_put(v[i], MIB);
    }
    assert_int_equal(block_kept(), block_keeps ? 32 * MIB : 0);
    block_trim();
    assert_int_equal(block_kept(), block_keeps ? 32 * MIB : 0); /* they came since the last trim */
    block_trim();
    assert_int_equal(block_kept(), 0);
    block_limit(2 * MIB);
    for (size_t i = 0; i < 3; i++) {
        v[i] = block_get(MIB);
    }
    for (size_t i = 0; i < 3; i++) {
        block_put(v[i], MIB);
    }
    assert_int_equal(block_kept(), block_keeps ? 2 * MIB : 0);
    block_limit(SIZE_MAX);
    block_trim();
    block_trim();
    block_put(block_get(40 * MIB), 40 * MIB);
    block_put(block_get(KIB), KIB);
    assert_int_equal(block_kept(), 0); /* too large, and small ones */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_blocks),
        cmocka_unit_test(kept_for_the_next),
        cmocka_unit_test(bounded),
    };
    return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
