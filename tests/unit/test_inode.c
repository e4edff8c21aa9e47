/* The inode table: how many there are, and when one goes (rules F8). */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "inode.h"
#include "mem.h"

#define BUDGET 1000

static struct cache_remote *some_remote(void)
{
    static char nothing;
    return (struct cache_remote *)(void *)&nothing; /* the table only keeps it */
}

static struct inode *entry(struct itable *t, unsigned n, size_t budget)
{
    char name[24];
    (void)snprintf(name, sizeof(name), "name %u", n);
    return itable_lookup_budget(t, itable_node(t, 1), name, INODE_FILE, S_IFREG, budget);
}

/* Entries make inodes up to the budget; one that is there is found beyond it, too, and what the kernel looks up by itself is made. */
static void test_budget(void **state)
{
    (void)state;
    struct itable *t = itable_new(some_remote(), "");
    struct inode *v[BUDGET] = {0};
    size_t before = itable_count(t);
    unsigned n = 0;
    while (n < BUDGET && (v[n] = entry(t, n, BUDGET)) != NULL) {
        n++;
    }
    assert_int_equal(itable_count(t), BUDGET);
    assert_int_equal(n, BUDGET - before);
    for (unsigned i = 0; i < 100 * BUDGET; i++) {
        assert_null(entry(t, BUDGET + i, BUDGET));
    }
    assert_int_equal(itable_count(t), BUDGET);
    assert_ptr_equal(entry(t, 0, BUDGET), v[0]);
    struct inode *asked = itable_lookup(t, itable_node(t, 1), "asked for", INODE_FILE, S_IFREG, NULL);
    assert_non_null(asked);
    assert_int_equal(itable_count(t), BUDGET + 1);
    /* What the kernel forgets makes room. */
    itable_forget(t, asked, 1);
    itable_forget(t, v[1], 1);
    assert_int_equal(itable_count(t), BUDGET - 1);
    itable_forget(t, v[0], 1);
    assert_int_equal(itable_count(t), BUDGET - 1); /* it was looked up twice */
    assert_non_null(entry(t, BUDGET, BUDGET));
    assert_null(entry(t, BUDGET + 1, BUDGET));
    itable_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_budget)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
