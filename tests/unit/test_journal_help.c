/* The journal written by who submitted: on which thread, what is left to the writer, and that nobody is kept. */
#include "journal_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>

static int sum_counter(void *ctx, const char *name, int64_t value)
{
    int64_t *sum = ctx;
    *sum += strcmp(name, "n") == 0 ? value : 0;
    return 0;
}

static void block_writer(void *ctx, int status)
{
    struct told *gate = ctx;
    atomic_store(&gate->n, 1);
    while (atomic_load(&gate->last) == 0) {
        (void)sched_yield();
    }
}

struct helper {
    struct journal *j;
    pthread_t main;
    atomic_uint told, here;
};

static void on_helped(void *ctx, int status)
{
    struct helper *h = ctx;
    assert_int_equal(status, 0);
    journal_help(h->j); /* in a done: nothing */
    if (pthread_equal(pthread_self(), h->main)) {
        (void)atomic_fetch_add(&h->here, 1);
    }
    (void)atomic_fetch_add(&h->told, 1);
}

/* A transaction whose submitter helps is written on its thread, with all before it, and told there; unless there is a
 * transaction among them that needs the disk, or somebody writes already. */
static void test_help(void **state)
{
    struct journal *j = open_ok(*state);
    struct helper h = {.j = j, .main = pthread_self()};
    for (unsigned i = 0; i < 2; i++) {
        struct jtx *tx = jtx_new();
        jtx_counter_add(tx, "n", 1);
        journal_submit(j, tx, JTX_HELPED, on_helped, &h);
    }
    assert_int_equal(atomic_load(&h.told), 0); /* nobody was called */
    journal_help(j);
    assert_int_equal(atomic_load(&h.told), 2);
    assert_int_equal(atomic_load(&h.here), 2);
    int64_t sum = 0;
    assert_int_equal(journal_counters(j, sum_counter, &sum), 0);
    assert_int_equal(sum, 2);

    journal_submit(j, jtx_new(), JTX_HELPED | JTX_DURABLE, on_helped, &h);
    journal_help(j);
    assert_int_equal(journal_flush(j, false), 0);
    assert_int_equal(atomic_load(&h.told), 3);
    assert_int_equal(atomic_load(&h.here), 2);

    struct told gate = {0};
    journal_submit(j, jtx_new(), 0, block_writer, &gate);
    while (atomic_load(&gate.n) == 0) {
        (void)sched_yield();
    }
    journal_submit(j, jtx_new(), JTX_HELPED, on_helped, &h);
    journal_help(j);
    assert_int_equal(atomic_load(&h.told), 3);
    atomic_store(&gate.last, 1); /* who wrote sees to the rest */
    while (atomic_load(&h.told) != 4) {
        (void)sched_yield();
    }
    assert_int_equal(atomic_load(&h.here), 2);

    journal_submit(j, jtx_new(), JTX_HELPED, on_helped, &h); /* nothing to write, and nothing stays open */
    journal_help(j);
    assert_int_equal(atomic_load(&h.here), 3);

    struct sqlite3 *other = NULL;
    CLEANUP(mem_freep) char *db = mem_printf("%s/journal.db", (char *)*state);
    assert_int_equal(sqlite3_open(db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct jtx *tx = jtx_new();
        jtx_counter_add(tx, "n", 1);
        journal_submit(j, tx, JTX_HELPED, on_helped, &h);
    }
    journal_help(j);
    assert_int_equal(atomic_load(&h.told), 5); /* not waited for here, … */
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    while (atomic_load(&h.told) != 7) { /* … and with success */
        (void)sched_yield();
    }
    assert_int_equal(atomic_load(&h.here), 3);
    journal_close(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {WITH_DIR(test_help)};
    return cmocka_run_group_tests_name("journal_help", tests, NULL, NULL);
}
