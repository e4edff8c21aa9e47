/* Waiting for an operation, for tools, tests and start-up: BE_SYNC of backend.h. */
#include "backend.h"

#include <stdlib.h>

#include "mem.h"
#include "sync.h"

struct be_waiter {
    struct mutex lock;
    struct cond ended;
    bool has_ended; /* lock */
    struct be_op *op;
};

static void waiter_done(struct be_op *op)
{
    struct be_waiter *w = op->owner;
    mutex_lock(&w->lock);
    w->has_ended = true;
    cond_signal(&w->ended);
    mutex_unlock(&w->lock);
}

struct be_waiter *be_sync_begin(struct be_op *op)
{
    struct be_waiter *w = mem_zalloc(sizeof(*w));
    mutex_init(&w->lock, RANK_ENGINE);
    cond_init(&w->ended);
    w->op = op;
    op->done = waiter_done;
    op->owner = w;
    return w;
}

int be_sync_end(struct be_waiter *w)
{
    mutex_lock(&w->lock);
    while (!w->has_ended) {
        cond_wait(&w->ended, &w->lock);
    }
    mutex_unlock(&w->lock);
    int status = w->op->status;
    cond_fini(&w->ended);
    mutex_fini(&w->lock);
    free(w);
    return status;
}
