/* Archived objects: asking for them, and going on when they can be read.
 *
 * A key that failed because what it reads is archived stays failed and is reported, but it is looked at again from time to time, so
 * that a copy goes on by itself once somebody has restored its source: by cache_restore, or by the provider's own tools. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "sync.h"

#define LOOK_AGAIN_NS (60LL * 1000000000LL)
#define LOOKS_A_TICK 16 /* a million of them are no reason to send a million requests a minute */

void restore_refused(struct ckey *k)
{
    k->due_ns = time_mono_ns() + LOOK_AGAIN_NS;
}

void restore_tick(struct cache *c, int64_t now)
{
    mutex_assert_held(&c->lock);
    unsigned n = 0;
    struct ckey *next;
    for (struct ckey *k = c->dirty_head; k != NULL && n < LOOKS_A_TICK; k = next) {
        next = k->dirty_next;
        if (k->state == FS_BLOCKED && k->err.cls == ERR_ARCHIVED && k->x == NULL && k->due_ns <= now && k->ident->be != NULL) {
            key_event(c, k, FE_RETRY, "it may have been restored"); /* its row stays: after a crash it is looked at anyhow */
            k->tries = 0;
            n++;
        }
    }
    if (n > 0) {
        cache_kick_locked(c);
    }
}

/* ---- asking ---- */

struct page {
    struct mutex lock;
    struct cond ended;
    unsigned left;
};

static void restored(struct be_op *op)
{
    struct page *p = op->owner;
    mutex_lock(&p->lock);
    if (--p->left == 0) {
        cond_broadcast(&p->ended);
    }
    mutex_unlock(&p->lock); /* p may be gone from here on */
}

/* All of a page at once: the lanes say how many are under way. */
static void ask(struct be *be, struct be_restore *ops, unsigned n)
{
    struct page p = {.left = n};
    mutex_init(&p.lock, RANK_ENGINE);
    cond_init(&p.ended);
    for (unsigned i = 0; i < n; i++) {
        ops[i].op.lane = BE_LANE_SMALL;
        ops[i].op.owner = &p;
        ops[i].op.done = restored;
        be_restore(be, &ops[i]);
    }
    mutex_lock(&p.lock);
    while (p.left > 0) {
        cond_wait(&p.ended, &p.lock);
    }
    mutex_unlock(&p.lock);
    cond_fini(&p.ended);
    mutex_fini(&p.lock);
}

static void count(struct crestore *r, const struct be_restore *op)
{
    if (op->op.status != 0) {
        if (r->failed++ == 0) {
            r->err = op->op.err;
            r->err_key = mem_strdup(op->op.key);
        }
    } else if (op->state == BE_RESTORE_READABLE) {
        r->readable++;
    } else if (op->state == BE_RESTORE_UNDER_WAY) {
        r->under_way++;
    } else {
        r->begun++;
    }
}

/* A path of a file means that key alone; one of a directory, whose key ends in a slash, and the mount's all that is below it. */
static bool is_one_key(const struct cscope *s)
{
    size_t len = strlen(s->prefix);
    return len > 0 && s->prefix[len - 1] != '/' && strcmp(s->prefix, s->remote->prefix) != 0;
}

static int restore_page(struct be *be, const struct cscope *s, struct crestore *r, struct errinfo *reterr)
{
    bool one = is_one_key(s);
    struct be_list l = {.prefix = s->prefix, .cursor = r->cursor, .max = one ? 1 : 0};
    int err = BE_SYNC(be, be_list, &l);
    if (err < 0) {
        *reterr = l.op.err;
        return err;
    }
    struct be_restore *ops = mem_zalloc((l.n_entries + 1) * sizeof(*ops));
    unsigned n = 0;
    for (size_t i = 0; i < l.n_entries; i++) {
        const struct be_entry *e = &l.entries[i];
        if (e->is_prefix || e->unseen || (one && strcmp(e->key, s->prefix) != 0)) {
            continue;
        }
        r->seen++;
        if (be_archived(be, e->object.storage_class)) {
            ops[n++] = (struct be_restore){
                .op = {.key = e->key}, .days = r->days, .tier = r->tier, .storage_class = e->object.storage_class};
        }
    }
    if (n > 0) {
        ask(be, ops, n);
    }
    for (unsigned i = 0; i < n; i++) {
        count(r, &ops[i]);
    }
    free(ops);
    free(r->cursor);
    r->cursor = one ? NULL : TAKE(l.next_cursor);
    be_list_fini(&l);
    return 0;
}

int cache_restore(struct cache *c, const struct cscope *s, struct crestore *r, struct errinfo *reterr)
{
    if (s->remote == NULL) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "name a path in one remote: what is to be restored costs money");
    }
    cache_lock(c);
    struct be *be = s->remote->ident->be;
    if (be == NULL || c->closing) {
        cache_unlock(c);
        return err_set(reterr, ERR_INVALID, -ENODEV, "the remote is not mounted");
    }
    if (!(be->caps & BE_CAP_RESTORE)) {
        cache_unlock(c);
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP, "nothing has to be restored at this provider");
    }
    cache_async_begin_locked(c);
    cache_unlock(c);
    int err = restore_page(be, s, r, reterr);
    cache_lock(c);
    cache_async_end_locked(c);
    cache_unlock(c);
    return err;
}

void crestore_fini(struct crestore *r)
{
    free(r->cursor);
    free(r->err_key);
    *r = (struct crestore){0};
}
