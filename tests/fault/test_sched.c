/* When what is due starts, what the scheduler looks at meanwhile, and when something is given up.
 *
 * The clock stands still here and is moved by hand: no test waits for seconds, and none is short of them. */
#include "harness.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "internal.h"
#include "mem.h"
#include "sync.h"

#define MS INT64_C(1000000)
#define NS INT64_C(1000000000)

/* ---- the clock, and who is looked at ---- */

static atomic_llong now_ns; /* 0: the true time */
static atomic_uint looks;

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
bool __real_pause_holds(const struct ckey *k, int64_t now);
bool __wrap_pause_holds(const struct ckey *k, int64_t now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    int64_t now = atomic_load(&now_ns);
    if (clock != CLOCK_MONOTONIC || now == 0) {
        return __real_clock_gettime(clock, ret);
    }
    *ret = (struct timespec){.tv_sec = now / NS, .tv_nsec = now % NS};
    return 0;
}

/* Nobody sleeps for longer than a moment: what the clock says then decides. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
    struct timespec t;
    if (atomic_load(&now_ns) == 0) {
        return __real_pthread_cond_timedwait(cond, lock, until);
    }
    (void)__real_clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t end = (int64_t)t.tv_sec * NS + t.tv_nsec + MS;
    t = (struct timespec){.tv_sec = end / NS, .tv_nsec = end % NS};
    return __real_pthread_cond_timedwait(cond, lock, &t);
}

/* Every key that is due and not yet started passes here. */
bool __wrap_pause_holds(const struct ckey *k, int64_t now)
{
    atomic_fetch_add(&looks, 1);
    return __real_pause_holds(k, now);
}

static void stop_the_clock(void)
{
    struct timespec t;
    (void)__real_clock_gettime(CLOCK_MONOTONIC, &t);
    atomic_store(&now_ns, MAX(atomic_load(&now_ns), (int64_t)t.tv_sec * NS + t.tv_nsec));
}

static void move(int64_t ns)
{
    atomic_fetch_add(&now_ns, ns);
}

/* The scheduler is woken; nothing becomes due by it. */
static void kick(struct fx *fx)
{
    cache_lock(fx->c);
    cache_kick_locked(fx->c);
    cache_unlock(fx->c);
}

/* Since the kick. */
static bool has_looked(struct fx *fx)
{
    cache_lock(fx->c);
    bool looked = !fx->c->kicked;
    cache_unlock(fx->c);
    return looked;
}

/* ---- given up ---- */

/* How often the transfer failed, until there is a file that failed for good or `most` is reached. */
static unsigned tries_until_failed(struct fx *fx, enum be_kind kind, unsigned most)
{
    unsigned tries = 0;
    stop_the_clock();
    while (tries < most && fx_progress(fx).failed == 0) {
        FX_AWAIT(fx, (kick(fx), move(10 * MS), fx_calls(fx, 1, kind) + fx_calls(fx, 0, kind) > tries));
        tries = fx_calls(fx, 1, kind) + fx_calls(fx, 0, kind);
        FX_AWAIT(fx, fx_ended(fx, 1, kind) + fx_ended(fx, 0, kind) == tries);
        FX_AWAIT(fx, cache_idle(fx->c) || fx_progress(fx).files_left > 0);
        move(31 * NS); /* longer than anything is put off */
    }
    return tries;
}

static bool errors_say(struct fx *fx, const char *text)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    assert_int_equal(cache_errors(fx->c, NULL, &b), 0);
    return strstr(buf_str(&b), text) != NULL;
}

/* A source whose answers always break off: the copy fails after 20 of them, and its line says what was wrong. */
static void cut_short_for_ever(void **state)
{
    struct fx *fx = *state;
    const struct be_fault_rule cut = {.kind = BE_READ, .status = -ECONNRESET, .cls = ERR_TRANSIENT, .http_status = 206};
    fx_close(fx);
    fx->caps_without = BE_CAP_COPY | BE_CAP_PART_COPY;
    fx_open(fx);
    fx_at_put(fx, 0, "s", "source");
    be_fault_add(fx->fault[0], &cut);
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    cache_hurry(fx->c, NULL);
    assert_int_equal(tries_until_failed(fx, BE_READ, 40), 20);
    assert_true(errors_say(fx, "206 InjectedFault: a fault was injected before the call; it was so 20 times in a row"));
    be_fault_clear(fx->fault[0]);
    unsigned n;
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    assert_int_equal(n, 1);
    FX_AWAIT(fx, (move(10 * MS), cache_idle(fx->c)));
    assert_at(fx, 1, "t", "source");
}

/* Who does not answer is asked for as long as it takes: here, with what breaks off in between, three times as often. */
static void no_answer_is_no_lie(void **state)
{
    struct fx *fx = *state;
    const struct be_fault_rule cut = {
        .kind = BE_MP_PART, .times = 19, .status = -ECONNRESET, .cls = ERR_TRANSIENT, .http_status = 200};
    const struct be_fault_rule none = {.kind = BE_MP_PART, .times = 22, .status = -ECONNREFUSED, .cls = ERR_TRANSIENT};
    CLEANUP(mem_freep) char *p = mem_zalloc(FX_THRESHOLD + 1);
    be_fault_add(fx->fault[0], &cut);
    be_fault_add(fx->fault[0], &none);
    be_fault_add(fx->fault[0], &cut);
    assert_int_equal(fx_put(fx, 0, "f", p, FX_THRESHOLD + 1), 0);
    cache_hurry(fx->c, NULL);
    stop_the_clock();
    FX_AWAIT(fx, (kick(fx), move(NS), cache_idle(fx->c)));
    assert_int_equal(fx_progress(fx).failed, 0);
    assert_int_equal(fx_at_count(fx, 0, "f"), 1);
    assert_in_range(fx_calls(fx, 0, BE_MP_PART), 60, 70);
}

/* ---- what is looked at ---- */

#define MANY 500

/* While every lane is full, the list is not gone through to its end again and again: also not when rows of a remote that nobody
 * mounted wait in it. */
static void unmounted_rows_are_not_looked_for(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 1, "of another time", "x");
    fx_close(fx);
    fx_open_cache(fx);
    struct errinfo e = {0};
    assert_int_equal(cache_remote_add(fx->c, &fx->conf[0], false, &fx->r[0], &e), 0);
    assert_int_equal(fx_progress(fx).waiting, 1);
    fx_hold(fx, 0, BE_WRITE, 0);
    for (int i = 0; i < MANY; i++) {
        CLEANUP(mem_freep) char *key = mem_printf("f%d", i);
        fx_text(fx, 0, key, "x");
    }
    unsigned lane = fx->conf[0].small_slots * 2;
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_WRITE) == lane);
    stop_the_clock();
    unsigned before = atomic_load(&looks);
    for (int i = 0; i < 10; i++) { /* 30 ms: all is looked at every 50 */
        move(3 * MS);
        kick(fx);
        FX_AWAIT(fx, has_looked(fx));
    }
    unsigned looked = atomic_load(&looks) - before;
    atomic_store(&now_ns, 0);
    fx_let_go(fx, 0);
    assert_in_range(looked, 0, MANY + 2 * 10); /* one round of all, at most, and one key in each of the others */
    fx_idle(fx);
    assert_int_equal(fx_at_count(fx, 0, ""), MANY);
}

static int setup(void **state)
{
    atomic_store(&now_ns, 0);
    return fx_setup(state);
}

static int teardown(void **state)
{
    atomic_store(&now_ns, 0);
    return fx_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(cut_short_for_ever),
        T(no_answer_is_no_lie),
        T(unmounted_rows_are_not_looked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
