/* A request that takes much longer than others like it is made once more beside the first, and who answers first is believed. Time
 * is moved, not waited for. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>

#include "internal.h"
#include "mem.h"
#include "moved_clock.h"
#include "sync.h"

#define FILES 101u
#define STEP 7u /* nobody takes this for an order of names, so nothing is fetched ahead */

struct asked {
    struct creq r;
    struct chandle *h;
    char want[16];
    atomic_int answer; /* 0 while there is none; 1 right; else -errno */
};

static void asked_done(struct creq *r)
{
    struct asked *a = r->owner;
    bool right = r->done_bytes == strlen(a->want) && memcmp(r->data, a->want, strlen(a->want)) == 0;
    atomic_store(&a->answer, r->status != 0 ? r->status : right ? 1 : -EBADMSG);
}

static const char *name_of(unsigned n, char ret[16])
{
    (void)snprintf(ret, 16, "f%03u", n * STEP % FILES);
    return ret;
}

/* The n-th file, whose content is its name. */
static void ask(struct fx *fx, struct asked *a, unsigned n)
{
    assert_int_equal(fx_openf(fx, 0, name_of(n, a->want), O_RDONLY, &a->h), 0);
    atomic_store(&a->answer, 0);
    a->r = (struct creq){.done = asked_done, .owner = a, .offset = 0, .size = sizeof(a->want)};
    cache_read(fx->c, &a->r, a->h);
}

/* It is known how long the first `n` took. */
static void learnt(struct fx *fx, unsigned n)
{
    char name[16];
    for (unsigned i = 0; i < FILES; i++) {
        fx_at_put(fx, 0, name_of(i, name), name);
    }
    for (unsigned i = 0; i < n; i++) {
        assert_true(fx_is(fx, 0, name_of(i, name), name));
    }
    assert_int_equal(fx_calls(fx, 0, BE_READ), n); /* nothing ahead: the counts below mean what they say */
}

/* The scheduler looks. */
static void time_passes(struct fx *fx)
{
    atomic_fetch_add(&moved_s, 2);
    cache_hurry(fx->c, NULL);
}

static void slow_request_is_made_again(void **state)
{
    struct fx *fx = *state;
    struct asked a;
    learnt(fx, 20);
    fx_hold(fx, 0, BE_READ, 1);
    ask(fx, &a, 20);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == 21);
    assert_int_equal(atomic_load(&a.answer), 0);
    time_passes(fx);
    FX_AWAIT(fx, atomic_load(&a.answer) != 0);
    assert_int_equal(atomic_load(&a.answer), 1);
    assert_int_equal(fx_calls(fx, 0, BE_READ), 22);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_READ) == 22); /* the first is called off: its rule holds it still */
    cache_release(fx->c, a.h);
}

/* The second answer, or the only one, counts when the other is a failure. */
static void one_of_two_fails(void **state)
{
    struct fx *fx = *state;
    struct asked a;
    learnt(fx, 20);
    fx_hold(fx, 0, BE_READ, 1);
    fx_fault(fx, 0, BE_READ, 0, 1, -EIO, ERR_TRANSIENT, false);
    ask(fx, &a, 20);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == 21);
    time_passes(fx);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_READ) == 21); /* the second has failed */
    assert_int_equal(atomic_load(&a.answer), 0);
    fx_let_go(fx, 0);
    FX_AWAIT(fx, atomic_load(&a.answer) != 0);
    assert_int_equal(atomic_load(&a.answer), 1);
    cache_release(fx->c, a.h);
}

static void both_fail(void **state)
{
    struct fx *fx = *state;
    struct asked a;
    learnt(fx, 20);
    fx_hold(fx, 0, BE_READ, 2);
    ask(fx, &a, 20);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == 21);
    time_passes(fx);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == 22);
    fx_at_put(fx, 0, a.want, "another version"); /* neither can have the one that was opened */
    fx_let_go(fx, 0);
    FX_AWAIT(fx, atomic_load(&a.answer) != 0);
    assert_int_equal(atomic_load(&a.answer), -ESTALE);
    cache_release(fx->c, a.h);
}

/* Both answers wait for the lock at once: one of them is believed, the other finds nothing to do. */
static void both_answer_at_once(void **state)
{
    struct fx *fx = *state;
    enum { ROUNDS = 5, BETWEEN = 20 };
    char name[16];
    learnt(fx, 20);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct asked a;
        unsigned before = fx_calls(fx, 0, BE_READ);
        fx_hold(fx, 0, BE_READ, 2);
        ask(fx, &a, BETWEEN);
        FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == before + 1);
        time_passes(fx);
        FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == before + 2);
        cache_lock(fx->c);
        fx_let_go(fx, 0);
        fx_sleep_ms(20);
        cache_unlock(fx->c);
        FX_AWAIT(fx, atomic_load(&a.answer) != 0);
        assert_int_equal(atomic_load(&a.answer), 1);
        cache_release(fx->c, a.h);
        FX_AWAIT(fx, fx_ended(fx, 0, BE_READ) == before + 2);
        for (unsigned j = 0; j < BETWEEN; j++) { /* what the next one may cost */
            assert_true(fx_is(fx, 0, name_of(j, name), name));
        }
    }
}

/* A server that is slow altogether is asked for one in twenty again. */
static void not_for_all(void **state)
{
    struct fx *fx = *state;
    enum { N = 10, LEARNT = 45 };
    CLEANUP(mem_freep) struct asked *a = mem_zalloc(N * sizeof(*a));
    learnt(fx, LEARNT);
    fx_hold(fx, 0, BE_READ, 0);
    for (unsigned i = 0; i < N; i++) {
        ask(fx, &a[i], LEARNT + i);
    }
    FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == LEARNT + N);
    for (int i = 0; i < 5; i++) {
        time_passes(fx);
        fx_sleep_ms(20);
    }
    FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == LEARNT + N + LEARNT / 20);
    fx_let_go(fx, 0);
    for (unsigned i = 0; i < N; i++) {
        FX_AWAIT(fx, atomic_load(&a[i].answer) != 0);
        assert_int_equal(atomic_load(&a[i].answer), 1);
        cache_release(fx->c, a[i].h);
    }
}

/* Nobody knows yet what is slow. */
static void nothing_learnt(void **state)
{
    struct fx *fx = *state;
    struct asked a;
    learnt(fx, 5);
    fx_hold(fx, 0, BE_READ, 1);
    ask(fx, &a, 5);
    for (int i = 0; i < 5; i++) {
        time_passes(fx);
        fx_sleep_ms(20);
    }
    assert_int_equal(atomic_load(&a.answer), 0);
    assert_int_equal(fx_calls(fx, 0, BE_READ), 6);
    fx_let_go(fx, 0);
    FX_AWAIT(fx, atomic_load(&a.answer) == 1);
    cache_release(fx->c, a.h);
}

static int setup(void **state)
{
    atomic_store(&moved_s, 0);
    return fx_setup(state);
}

static int teardown(void **state)
{
    struct fx *fx = *state;
    for (unsigned i = 0; i < fx->n_fault; i++) {
        be_fault_clear(fx->fault[i]); /* a test that failed left calls behind */
    }
    return fx_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(slow_request_is_made_again), T(one_of_two_fails), T(both_fail), T(both_answer_at_once), T(not_for_all), T(nothing_learnt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
