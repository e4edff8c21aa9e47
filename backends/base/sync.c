/* Lock order is checked on every acquisition, in every build: each thread keeps the list of the
 * locks it holds, and a lock may be taken only when its rank is above all of them. An order that
 * never blocks in tests thus still fails there.
 */
#include "sync.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "mem.h"

#define MAX_HELD 16 /* more than there are ranks */

static _Thread_local struct {
    const struct mutex *locks[MAX_HELD];
    unsigned n;
} held;

static _Thread_local const struct pool *worker_of;

/* Where m is in this thread's list, or held.n. */
static unsigned held_index(const struct mutex *m)
{
    unsigned i = 0;
    while (i < held.n && held.locks[i] != m) {
        i++;
    }
    return i;
}

void mutex_init(struct mutex *m, enum lock_rank rank)
{
    *m = (struct mutex){.rank = rank};
    ENSURE(pthread_mutex_init(&m->m, NULL) == 0);
}

void mutex_fini(struct mutex *m)
{
    ENSURE(pthread_mutex_destroy(&m->m) == 0);
}

void mutex_lock(struct mutex *m)
{
    /* Rising strictly, so also: never twice, and never two of one rank. */
    for (unsigned i = 0; i < held.n; i++) {
        ENSURE(held.locks[i]->rank < m->rank);
    }
    ENSURE(held.n < MAX_HELD);
    ENSURE(pthread_mutex_lock(&m->m) == 0);
    held.locks[held.n++] = m;
    m->holder = pthread_self();
    m->held = true;
}

void mutex_unlock(struct mutex *m)
{
    unsigned i = held_index(m);
    ENSURE(i < held.n);
    held.n--;
    for (; i < held.n; i++) {
        held.locks[i] = held.locks[i + 1];
    }
    m->held = false;
    ENSURE(pthread_mutex_unlock(&m->m) == 0);
}

void mutex_assert_held(const struct mutex *m)
{
    /* Our own list, not m->holder: that field may be changing right now if the answer is no. */
    ENSURE(held_index(m) < held.n);
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    ENSURE(pthread_condattr_init(&attr) == 0);
    ENSURE(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ENSURE(pthread_cond_init(&c->c, &attr) == 0);
    ENSURE(pthread_condattr_destroy(&attr) == 0);
}

void cond_fini(struct cond *c)
{
    ENSURE(pthread_cond_destroy(&c->c) == 0);
}

/* The lock stays in the list of held ones while waiting: this thread takes no other meanwhile. */
void cond_wait(struct cond *c, struct mutex *m)
{
    mutex_assert_held(m);
    m->held = false;
    ENSURE(pthread_cond_wait(&c->c, &m->m) == 0);
    m->holder = pthread_self();
    m->held = true;
}

bool cond_wait_until(struct cond *c, struct mutex *m, int64_t deadline_ns)
{
    mutex_assert_held(m);
    int64_t at = MAX(deadline_ns, (int64_t)0);
    struct timespec ts = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
    m->held = false;
    int err = pthread_cond_timedwait(&c->c, &m->m, &ts);
    ENSURE(err == 0 || err == ETIMEDOUT);
    m->holder = pthread_self();
    m->held = true;
    return err == 0;
}

void cond_signal(struct cond *c)
{
    ENSURE(pthread_cond_signal(&c->c) == 0);
}

void cond_broadcast(struct cond *c)
{
    ENSURE(pthread_cond_broadcast(&c->c) == 0);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec ts;
    ENSURE(clock_gettime(clock, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t time_mono_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

int64_t time_wall_ns(void)
{
    return now_ns(CLOCK_REALTIME);
}

struct pool {
    struct mutex lock; /* all below */
    struct cond wake;  /* the queue grew, or stop */
    struct cond idle;  /* nothing queued or running */
    struct work *head, **tail;
    unsigned running;
    bool stop;
    unsigned n_threads; /* set before the first submit, then constant */
    pthread_t threads[];
};

static void *worker_main(void *arg)
{
    struct pool *p = arg;
    worker_of = p;
    mutex_lock(&p->lock);
    for (;;) {
        while (!p->head && !p->stop) {
            cond_wait(&p->wake, &p->lock);
        }
        if (!p->head) {
            break;
        }
        struct work *w = p->head;
        p->head = w->next;
        if (!p->head) {
            p->tail = &p->head;
        }
        p->running++;
        mutex_unlock(&p->lock);
        w->run(w); /* w may be gone, or queued again, from here on */
        mutex_lock(&p->lock);
        p->running--;
        if (p->running == 0 && !p->head) {
            cond_broadcast(&p->idle);
        }
    }
    mutex_unlock(&p->lock);
    return NULL;
}

static void stop_threads(struct pool *p)
{
    mutex_lock(&p->lock);
    p->stop = true;
    cond_broadcast(&p->wake);
    mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++) {
        ENSURE(pthread_join(p->threads[i], NULL) == 0);
    }
    cond_fini(&p->wake);
    cond_fini(&p->idle);
    mutex_fini(&p->lock);
    free(p);
}

int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg, const char *name)
{
    /* The kernel ends a process at once whose thread has its own fault blocked: nobody would learn where it was. */
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t most, before;
    (void)sigfillset(&most);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        (void)sigdelset(&most, faults[i]);
    }
    ENSURE(pthread_sigmask(SIG_SETMASK, &most, &before) == 0);
    int err = pthread_create(ret, NULL, fn, arg);
    ENSURE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (err == 0) {
        char shown[16]; /* the kernel's limit */
        (void)snprintf(shown, sizeof(shown), "%s", name);
        (void)pthread_setname_np(*ret, shown);
    }
    return -err;
}

int pool_new(struct pool **ret_pool, unsigned n_threads, const char *name)
{
    ENSURE(n_threads > 0 && n_threads <= 1024);
    struct pool *p = mem_zalloc(sizeof(*p) + n_threads * sizeof(p->threads[0]));
    mutex_init(&p->lock, RANK_POOL);
    cond_init(&p->wake);
    cond_init(&p->idle);
    p->tail = &p->head;

    int err = 0;
    while (p->n_threads < n_threads && err == 0) {
        err = thread_start(&p->threads[p->n_threads], worker_main, p, name);
        p->n_threads += err == 0;
    }
    if (err != 0) {
        stop_threads(p);
        return err;
    }
    *ret_pool = p;
    return 0;
}

void pool_submit(struct pool *p, struct work *w)
{
    w->next = NULL;
    mutex_lock(&p->lock);
    *p->tail = w;
    p->tail = &w->next;
    cond_signal(&p->wake);
    mutex_unlock(&p->lock);
}

void pool_drain(struct pool *p)
{
    ENSURE(worker_of != p); /* a job that waits for all jobs waits for itself */
    mutex_lock(&p->lock);
    while (p->head || p->running > 0) {
        cond_wait(&p->idle, &p->lock);
    }
    mutex_unlock(&p->lock);
}

void pool_free(struct pool *p)
{
    if (!p) {
        return;
    }
    pool_drain(p);
    stop_threads(p);
}
