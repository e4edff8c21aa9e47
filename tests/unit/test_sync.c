#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "mem.h"
#include "sync.h"

static void lock_downward(void *arg)
{
    struct mutex a, b;
    mutex_init(&a, RANK_CACHE);
    mutex_init(&b, RANK_INODES);
    mutex_lock(&a);
    mutex_lock(&b);
}

static void lock_same_rank(void *arg)
{
    struct mutex a, b;
    mutex_init(&a, RANK_CACHE);
    mutex_init(&b, RANK_CACHE);
    mutex_lock(&a);
    mutex_lock(&b);
}

static void lock_twice(void *arg)
{
    struct mutex a;
    mutex_init(&a, RANK_CACHE);
    mutex_lock(&a);
    mutex_lock(&a);
}

static void unlock_unheld(void *arg)
{
    struct mutex a;
    mutex_init(&a, RANK_CACHE);
    mutex_unlock(&a);
}

static void assert_unheld(void *arg)
{
    struct mutex a;
    mutex_init(&a, RANK_CACHE);
    mutex_assert_held(&a);
}

static void destroy_held(void *arg)
{
    struct mutex a;
    mutex_init(&a, RANK_CACHE);
    mutex_lock(&a);
    mutex_fini(&a);
}

static void test_ranks(void **state)
{
    struct mutex a, b, c;
    mutex_init(&a, RANK_INODES);
    mutex_init(&b, RANK_CACHE);
    mutex_init(&c, RANK_LOG);
    for (int i = 0; i < 3; i++) {
        mutex_lock(&a);
        mutex_lock(&b);
        mutex_lock(&c);
        mutex_assert_held(&b);
        /* Released in any order. */
        mutex_unlock(&a);
        mutex_unlock(&c);
        mutex_assert_held(&b);
        mutex_unlock(&b);
    }
    mutex_fini(&a);
    mutex_fini(&b);
    mutex_fini(&c);
    assert_true(aborts(lock_downward, NULL));
    assert_true(aborts(lock_same_rank, NULL));
    assert_true(aborts(lock_twice, NULL));
    assert_true(aborts(unlock_unheld, NULL));
    assert_true(aborts(assert_unheld, NULL));
    assert_true(aborts(destroy_held, NULL));
}

static void test_deadline(void **state)
{
    struct mutex m = MUTEX_INIT(RANK_CACHE);
    struct cond c;
    cond_init(&c);
    mutex_lock(&m);
    int64_t start = time_mono_ns();
    assert_false(cond_wait_until(&c, &m, start - 1));
    assert_false(cond_wait_until(&c, &m, -5));
    assert_true(time_mono_ns() - start < 1000000000);
    /* A spurious wake-up returns true: only the deadline counts. */
    while (cond_wait_until(&c, &m, start + 30000000)) {
    }
    assert_true(time_mono_ns() - start >= 30000000);
    mutex_assert_held(&m);
    mutex_unlock(&m);
    cond_fini(&c);
    assert_true(time_wall_ns() > 1600000000LL * 1000000000);
}

struct box {
    struct mutex lock;
    struct cond changed;
    int value; /* lock */
};

static void *ping(void *arg)
{
    struct box *box = arg;
    mutex_lock(&box->lock);
    while (box->value != 1) {
        cond_wait(&box->changed, &box->lock);
    }
    box->value = 2;
    cond_signal(&box->changed);
    mutex_unlock(&box->lock);
    return NULL;
}

static void test_cond(void **state)
{
    struct box box = {.value = 0};
    mutex_init(&box.lock, RANK_CACHE);
    cond_init(&box.changed);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ping, &box), 0);
    mutex_lock(&box.lock);
    box.value = 1;
    cond_broadcast(&box.changed);
    bool in_time = true;
    while (box.value != 2 && in_time) {
        in_time = cond_wait_until(&box.changed, &box.lock, time_mono_ns() + 10000000000);
    }
    mutex_unlock(&box.lock);
    assert_true(in_time);
    assert_int_equal(pthread_join(thread, NULL), 0);
    cond_fini(&box.changed);
    mutex_fini(&box.lock);
}

struct job {
    struct work work;
    struct pool *pool;
    struct job *then; /* submitted by this one */
    unsigned order;
};
static _Atomic unsigned done;
static _Atomic bool masked;

static void run_job(struct work *w)
{
    struct job *job = CONTAINER_OF(w, struct job, work);
    sigset_t mask;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    masked = sigismember(&mask, SIGTERM) == 1;
    job->order = done++;
    if (job->then) {
        pool_submit(job->pool, &job->then->work);
    }
}

static void test_pool(void **state)
{
    struct pool *pool;
    static struct job jobs[1000], more[1000];
    done = 0;
    assert_int_equal(pool_new(&pool, 4, "a-name-longer-than-fifteen"), 0);
    for (size_t i = 0; i < 1000; i++) {
        jobs[i] = (struct job){.work.run = run_job, .pool = pool, .then = &more[i]};
        more[i] = (struct job){.work.run = run_job, .pool = pool};
        pool_submit(pool, &jobs[i].work);
    }
    pool_drain(pool);
    assert_int_equal(done, 2000);
    assert_true(masked);
    pool_drain(pool);
    pool_free(pool);
    pool_free(NULL);
}

static void test_pool_order(void **state)
{
    struct pool *pool;
    static struct job jobs[100];
    done = 0;
    assert_int_equal(pool_new(&pool, 1, "one"), 0);
    for (size_t i = 0; i < 100; i++) {
        jobs[i] = (struct job){.work.run = run_job};
        pool_submit(pool, &jobs[i].work);
    }
    pool_free(pool);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(jobs[i].order, i);
    }
}

static void drain_inside(struct work *w)
{
    pool_drain(CONTAINER_OF(w, struct job, work)->pool);
}

static void deadlock(void *arg)
{
    struct pool *pool;
    struct job job = {.work.run = drain_inside};
    if (pool_new(&pool, 1, "x") == 0) {
        job.pool = pool;
        pool_submit(pool, &job.work);
        pool_free(pool);
    }
}

static void test_pool_deadlock(void **state)
{
    assert_true(aborts(deadlock, NULL));
}

static void *mask_of(void *arg)
{
    (void)pthread_sigmask(SIG_SETMASK, NULL, arg);
    return NULL;
}

/* A thread's own fault must reach the handler that tells of it. */
static void test_thread_signals(void **state)
{
    pthread_t t;
    sigset_t mask, before, after;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(thread_start(&t, mask_of, &mask, "a-name-longer-than-fifteen"), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_true(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT) && sigismember(&mask, SIGHUP));
    assert_false(sigismember(&mask, SIGSEGV) || sigismember(&mask, SIGBUS) || sigismember(&mask, SIGABRT));
    assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),      cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_cond),       cmocka_unit_test(test_pool),
        cmocka_unit_test(test_pool_order), cmocka_unit_test(test_pool_deadlock),
        cmocka_unit_test(test_thread_signals),
    };
    return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
