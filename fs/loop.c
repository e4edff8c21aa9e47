/* One thread, the leader, reads requests. What takes microseconds it answers itself and reads on: a program that asks one thing
 * after another, as cp does, then meets one thread that is awake and has everything in its processor's cache. (Threads that all
 * read take turns, and each turn wakes another one: up to twice the processor time where others want the processors, too.)
 * Before it moves many bytes the leader appoints the thread that became idle last, and reads no more.
 *
 * No operation of ours waits (rules F1), but a disk may. So the caller of loop_run watches: a leader that is at the same request
 * for two looks is replaced. It looks every few milliseconds while there is something to do, and sleeps otherwise.
 *
 * `turn` is even while the leader reads, odd while it answers a request itself. The leader alone raises it, but for the step
 * from odd to even, which is also how the watcher takes the lead away: who makes that step leads. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "log.h"
#include "loop.h"
#include "mem.h"
#include "sync.h"

#define LOOK_NS (5LL * 1000000LL)
#define QUIET_LOOKS 20u             /* without a request: sleep until there is one */
#define LARGE (32u << 10)           /* bytes that are moved by somebody else than who reads on */

struct server {
    struct serving *s;
    pthread_t thread;
    struct cond cond;
    struct server *below; /* in the stack of idle ones */
    bool appointed;
};

struct serving {
    struct fuse_session *se;
    struct mutex lock; /* of all but the atomics */
    struct server *idle; /* a stack: who worked last is the warmest */
    bool vacant;       /* nobody leads, because nobody was idle: the next who is does */
    bool over;
    struct cond wake; /* of the watcher */
    _Atomic uint64_t turn;
    atomic_bool asleep; /* the watcher is, or is about to be */
};

/* With the lock. Somebody else leads from now on; false when nobody is idle. */
static bool appoint(struct serving *s)
{
    struct server *next = s->idle;
    if (next == NULL) {
        return false;
    }
    s->idle = next->below;
    next->appointed = true;
    cond_signal(&next->cond);
    return true;
}

/* Until appointed. False: it is all over. */
static bool wait_for_lead(struct server *me)
{
    struct serving *s = me->s;

    mutex_lock(&s->lock);
    if (s->vacant) {
        s->vacant = false;
        me->appointed = true;
    } else {
        me->below = s->idle;
        s->idle = me;
    }
    while (!me->appointed && !s->over) {
        cond_wait(&me->cond, &s->lock);
    }
    me->appointed = false;
    bool on = !s->over;
    mutex_unlock(&s->lock);
    return on;
}

static void end(struct serving *s)
{
    mutex_lock(&s->lock);
    s->over = true;
    for (struct server *m = s->idle; m != NULL; m = m->below) {
        cond_signal(&m->cond);
    }
    cond_signal(&s->wake);
    mutex_unlock(&s->lock);
}

/* Many bytes are copied from or to the kernel for it. */
static bool is_large(const struct fuse_buf *buf)
{
    const struct fuse_in_header *head = buf->mem;

    if (buf->size < sizeof(*head)) {
        return false;
    }
    if (head->opcode == FUSE_READ && buf->size >= sizeof(*head) + sizeof(struct fuse_read_in)) {
        const struct fuse_read_in *in = (const void *)(head + 1);
        return in->size >= LARGE;
    }
    return buf->size >= LARGE;
}

static bool pass_on(struct serving *s)
{
    mutex_lock(&s->lock);
    bool passed = appoint(s);
    mutex_unlock(&s->lock);
    return passed;
}

static void wake_watcher(struct serving *s)
{
    if (atomic_load(&s->asleep)) {
        mutex_lock(&s->lock);
        atomic_store(&s->asleep, false);
        cond_signal(&s->wake);
        mutex_unlock(&s->lock);
    }
}

/* Reads and answers until it leads no more. */
static void lead(struct serving *s, struct fuse_buf *buf)
{
    for (;;) {
        int n = fuse_session_receive_buf(s->se, buf);
        if (n == -EINTR || n == -EAGAIN) {
            continue;
        }
        if (n <= 0) { /* 0: the kernel has ended it */
            if (n < 0) {
                log_warn("session", "event=read-failed status=%d", n);
            }
            end(s);
            return;
        }
        if (is_large(buf) && pass_on(s)) {
            fuse_session_process_buf(s->se, buf);
            return;
        }
        uint64_t at = atomic_fetch_add(&s->turn, 1) + 1;
        wake_watcher(s);
        fuse_session_process_buf(s->se, buf);
        if (!atomic_compare_exchange_strong(&s->turn, &at, at + 1)) {
            return; /* somebody else has been appointed meanwhile */
        }
    }
}

static void *server_main(void *arg)
{
    struct server *me = arg;
    struct fuse_buf buf = {.mem = NULL}; /* libfuse allocates it at the first request */

    while (wait_for_lead(me)) {
        lead(me->s, &buf);
    }
    free(buf.mem);
    return NULL;
}

/* With the lock. The turn it has seen twice is odd: that request takes long. */
static void replace_leader(struct serving *s, uint64_t turn)
{
    if (atomic_compare_exchange_strong(&s->turn, &turn, turn + 1)) {
        s->vacant = !appoint(s);
    }
}

static void watch(struct serving *s)
{
    uint64_t seen = 0;
    unsigned quiet = 0;

    mutex_lock(&s->lock);
    while (!s->over) {
        uint64_t turn = atomic_load(&s->turn);
        if (turn != seen) {
            quiet = 0;
        } else if (turn % 2 == 1) {
            replace_leader(s, turn);
        } else if (++quiet >= QUIET_LOOKS) {
            /* Set before it looks again, as the leader raises the turn before it looks: one of the two sees the other. */
            atomic_store(&s->asleep, true);
            while (atomic_load(&s->asleep) && atomic_load(&s->turn) == turn && !s->over) {
                cond_wait(&s->wake, &s->lock);
            }
            atomic_store(&s->asleep, false);
            quiet = 0;
        }
        seen = turn;
        (void)cond_wait_until(&s->wake, &s->lock, time_mono_ns() + LOOK_NS);
    }
    mutex_unlock(&s->lock);
}

int loop_run(struct fuse_session *se, unsigned threads)
{
    struct serving s = {.se = se, .vacant = true};
    CLEANUP(mem_freep) struct server *servers = mem_zalloc(threads * sizeof(*servers));
    unsigned n = 0;
    int r = 0;

    mutex_init(&s.lock, RANK_INODES); /* never together with another of that rank */
    cond_init(&s.wake);
    while (n < threads && r == 0) {
        servers[n].s = &s;
        cond_init(&servers[n].cond);
        r = thread_start(&servers[n].thread, server_main, &servers[n], "fuse");
        if (r == 0) {
            n++;
        } else {
            cond_fini(&servers[n].cond);
        }
    }
    if (n > 0) {
        watch(&s);
        r = 0;
    }
    for (unsigned i = 0; i < n; i++) {
        (void)pthread_join(servers[i].thread, NULL);
        cond_fini(&servers[i].cond);
    }
    cond_fini(&s.wake);
    mutex_fini(&s.lock);
    return r;
}
