/* Objects whose listing tells nothing but their key (be_entry.unseen: lists of URLs). What stat(2) shows of them is asked for
 * when somebody wants to see it, and no sooner: a directory may have a million names, on servers that are not ours.
 *
 * Who wants to see one name mostly goes on to the next. So a lookup asks for a window of names from the one it needs on, in
 * parallel; the window begins with that one alone and grows with every lookup that still has to wait. Where readdir is to bring
 * attributes it leaves out those of such names, and the kernel looks them up when a program wants them.
 *
 * What is learnt holds for list_ttl. A name that cannot be seen stays in its directory, and whoever looks it up gets
 * the server's reason: a dead URL of a list must not be missed. All functions are called with the lock held. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "mem.h"

#define WINDOW_GROWS 4u
#define WINDOW_MAX 1024u

struct look {
    struct be_stat st; /* first */
    struct cache *c;
    struct cdirnode *d; /* ref */
    struct cchild *ch;  /* ref */
    int64_t sent_ns;
    char key[];
};

bool unseen_holds(const struct cache *c, const struct cchild *ch)
{
    return ch->looked_ns != 0 && !ch->unseen &&
           time_mono_ns() - ch->looked_ns < (int64_t)c->opt.list_ttl_ms * 1000000LL;
}

void unseen_found(struct cchild *ch)
{
    ch->looked_ns = 0;
    ch->unseen = true;
    ch->look_status = 0;
}

static void look_done(struct be_op *op)
{
    struct look *k = CONTAINER_OF(CONTAINER_OF(op, struct be_stat, op), struct look, st);
    struct cache *c = k->c;
    struct cdirnode *d = k->d;
    struct cchild *ch = k->ch;
    cache_lock(c);
    ch->looking = false;
    d->looking--;
    if (op->status == 0 && ch->unseen) {
        child_set_version(ch, &k->st.object);
        meta_defaults(c, &ch->attr, false);
        ch->attr.size = k->st.object.size;
        ch->attr.mtime_ns = ch->attr.ctime_ns = k->st.object.mtime_ns;
        meta_decode(&k->st.meta, &ch->attr);
        ch->looked_ns = k->sent_ns;
    } else if (op->status != 0) {
        char line[512];
        int status = err_to_errno(&op->err);
        ch->look_status = status == -EINVAL ? -EIO : status; /* nobody who calls stat(2) asked for anything invalid */
        log_limited(LOG_LEVEL_WARN, "list", k->key, 10000, "remote=%s key=%s cannot be seen: %s", d->ident->name, k->key,
                    err_format(&op->err, line, sizeof(line)));
    }
    dir_waiters_try(c, d);
    child_unref(ch);
    d->refs--;
    cache_async_end_locked(c);
    cache_unlock(c);
    be_stat_fini(&k->st);
    free(k);
}

/* The requests of one window, made without the lock. */
struct window {
    struct work w;
    struct be *be;
    unsigned n;
    struct look *looks[];
};

static void window_run(struct work *w)
{
    struct window *all = CONTAINER_OF(w, struct window, w);
    for (unsigned i = 0; i < all->n; i++) {
        be_stat(all->be, &all->looks[i]->st);
    }
    free(all);
}

static struct look *look_new(struct cache *c, struct cdirnode *d, struct cchild *ch)
{
    struct look *k = mem_zalloc(sizeof(*k) + d->len + ch->len + 1);
    memcpy(k->key, d->prefix, d->len);
    memcpy(k->key + d->len, ch->name, ch->len);
    k->c = c;
    k->d = d;
    k->ch = ch;
    k->sent_ns = time_mono_ns();
    k->st.op.key = k->key;
    k->st.op.done = look_done;
    k->st.op.deadline_ns = k->sent_ns + (int64_t)c->opt.wait_timeout_ms * 1000000LL;
    ch->refs++;
    ch->looking = true;
    d->refs++;
    d->looking++;
    cache_async_begin_locked(c);
    return k;
}

static bool wants_look(const struct cchild *ch)
{
    return ch->unseen && !ch->looking && ch->look_status == 0 && !ch->gone;
}

bool unseen_wait(struct cache *c, struct cdirnode *d, struct cchild *ch)
{
    mutex_assert_held(&c->lock);
    if (!ch->unseen || ch->look_status != 0) {
        return false;
    }
    if (ch->looking || d->ident->be == NULL || c->closing) {
        return ch->looking;
    }
    unsigned window = MAX(d->look_window, 1u);
    d->look_window = MIN(window * WINDOW_GROWS, WINDOW_MAX);
    struct window *all = mem_zalloc(sizeof(*all) + window * sizeof(all->looks[0]));
    all->w.run = window_run;
    all->be = d->ident->be;
    all->looks[all->n++] = look_new(c, d, ch);
    all->looks[0]->st.op.lane = BE_LANE_FOREGROUND;
    bool placed = ch->place < d->n_order && d->order[ch->place] == ch;
    for (size_t i = 1; placed && all->n < window && i < d->n_order; i++) {
        struct cchild *next = d->order[(ch->place + i) % d->n_order];
        if (wants_look(next)) {
            all->looks[all->n] = look_new(c, d, next);
            all->looks[all->n++]->st.op.lane = BE_LANE_SMALL;
        }
    }
    pool_submit(c->workers, &all->w);
    return true;
}
