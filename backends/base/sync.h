/* Ranked mutexes, a worker pool, monotonic time. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Locks are taken in rising rank only; the wrapper asserts it, and that only the holder unlocks. */
enum lock_rank {
    RANK_INODES = 10,
    RANK_CACHE = 20,   /* the file table: every file, key slot and dependency of a cache */
    RANK_READER = 30,  /* one open handle's read-ahead */
    RANK_STORE = 40,
    RANK_JOURNAL = 50,
    RANK_REMOTE = 55,  /* one remote's operations in flight */
    RANK_ENGINE = 60,
    RANK_POOL = 65,
    RANK_LOG = 70,
    RANK_BLOCK = 80    /* the blocks kept: nothing is done under it */
};

struct mutex {
    pthread_mutex_t m;
    enum lock_rank rank;
    pthread_t holder;
    bool held;
};
#define MUTEX_INIT(r) {.m = PTHREAD_MUTEX_INITIALIZER, .rank = (r)} /* for static ones */
void mutex_init(struct mutex *m, enum lock_rank rank);
void mutex_fini(struct mutex *m);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);
void mutex_assert_held(const struct mutex *m);

/* Conditions use the monotonic clock. */
struct cond {
    pthread_cond_t c;
};
void cond_init(struct cond *c);
void cond_fini(struct cond *c);
void cond_wait(struct cond *c, struct mutex *m);
/* False when deadline_ns (monotonic) passed. */
bool cond_wait_until(struct cond *c, struct mutex *m, int64_t deadline_ns);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

/* pthread_create for a thread of ours: signals are for the thread that was made to take them, but its own faults end the
 * process as everywhere. name: 15 characters of it show. Returns 0 or -errno. */
int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg, const char *name);

int64_t time_mono_ns(void);
int64_t time_wall_ns(void);

/* A fixed set of threads that run short jobs: file I/O, hashing, signing, parsing, done callbacks. A job must not wait for
 * another operation. The work item is the caller's memory, lent from submit until run is entered; submit never fails.
 * Items run in submission order per pool, several at a time. */
struct work {
    void (*run)(struct work *w);
    struct work *next;
};
struct pool;
int pool_new(struct pool **ret_pool, unsigned n_threads, const char *name);
void pool_submit(struct pool *p, struct work *w);
void pool_drain(struct pool *p); /* waits until nothing is queued or running */
void pool_free(struct pool *p);  /* drains first; NULL is fine */
