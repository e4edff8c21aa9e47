/* Monotonic time that a test moves on. A test that includes this is linked with --wrap for both functions (meson.build). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* The clock shows so much more. Whoever waits until a time of this clock wakes by the real one. */
static atomic_llong moved_s;

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    int r = __real_clock_gettime(clock, t);
    t->tv_sec += clock == CLOCK_MONOTONIC ? atomic_load(&moved_s) : 0;
    return r;
}

int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *m, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *m, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *m, const struct timespec *until)
{
    struct timespec real = *until;
    real.tv_sec -= atomic_load(&moved_s);
    return __real_pthread_cond_timedwait(cond, m, &real);
}
