/* Rules B9: 403, quota, no such bucket. One key may be refused for its own sake, and then fails; when three are, without a
 * success between them, it is the remote that refuses us. It is paused: its files stay queued, also those three and whatever it
 * refused before (answers overtake each other: a success among the first refusals says little), and every PAUSE_NS one of them is
 * tried. What is accepted ends the pause; so do new credentials and the operator's retry.
 *
 * The refusal counts for the remote that spoke it, which for a copy's bytes is the source. */
#include "xfer.h"

#include <string.h>

#include "log.h"
#include "mem.h"

#define PAUSE_AFTER 3
#define PAUSE_NS (30LL * 1000000000LL)
#define TURN_NS 1000000000LL /* who was refused more often is tried later: no key is the only one ever asked for */
#define TURNS_MAX 60

static bool is_of_remote(const struct errinfo *e)
{
    return e->cls == ERR_AUTH || e->cls == ERR_QUOTA || (e->cls == ERR_ABSENT && strcmp(e->code, "NoSuchBucket") == 0);
}

static bool holds(const struct cident *id, int64_t now)
{
    return id->paused_until > now || (id->refused >= PAUSE_AFTER && id->probe != NULL);
}

/* Calls f for the slot's own remote and those its content is read from, until f returns true. */
static bool any_remote(struct ckey *k, bool (*f)(struct cident *id, void *ctx), void *ctx)
{
    if (f(k->ident, ctx)) {
        return true;
    }
    for (struct cref_edge *e = k->file != NULL && !k->want_absent ? k->file->reads : NULL; e != NULL; e = e->next_of_file) {
        if (e->src != NULL && e->slot->ident != k->ident && f(e->slot->ident, ctx)) {
            return true;
        }
    }
    return false;
}

static bool holds_now(struct cident *id, void *ctx)
{
    return holds(id, *(const int64_t *)ctx);
}

static bool is_paused(struct cident *id, void *ctx)
{
    return id->refused >= PAUSE_AFTER;
}

static bool take_probe(struct cident *id, void *ctx)
{
    if (id->refused >= PAUSE_AFTER) {
        id->probe = ctx;
    }
    return false;
}

bool pause_holds(const struct ckey *k, int64_t now)
{
    return any_remote((struct ckey *)(uintptr_t)k, holds_now, &now);
}

bool pause_waits(const struct ckey *k)
{
    return any_remote((struct ckey *)(uintptr_t)k, is_paused, NULL);
}

void pause_begins(struct xfer *x)
{
    (void)any_remote(x->k, take_probe, x);
}

void pause_ends(struct xfer *x)
{
    for (struct cident *i = x->c->idents; i != NULL; i = i->next) {
        if (i->probe == x) {
            i->probe = NULL;
        }
    }
}

void pause_blame(struct xfer *x, const struct be *be)
{
    mutex_assert_held(&x->c->lock);
    for (struct cident *i = x->c->idents; i != NULL; i = i->next) {
        if (i->be == be) {
            x->refused_by = i;
        }
    }
}

static void forget(struct cident *id)
{
    if (id->refused >= PAUSE_AFTER) {
        log_notice("upload", "remote=%s goes on", id->name);
    }
    id->paused_until = 0;
    id->refused = 0;
    id->streak = 0;
    err_clear(&id->pause_err);
}

void pause_over(struct xfer *x, bool whole)
{
    mutex_assert_held(&x->c->lock);
    for (struct cident *i = x->c->idents; i != NULL; i = i->next) {
        if (((whole && i == x->id) || i->probe == x) && i->refused > 0) {
            forget(i);
        }
    }
}

/* Failed because this remote refused it. After a restart a row does not say which one did: most often its own. */
static bool failed_by(const struct ckey *k, const struct cident *id)
{
    return k->state == FS_BLOCKED && k->x == NULL && is_of_remote(&k->err) && !(k->file != NULL && k->file->lost) &&
           (k->refused_by == id || (k->refused_by == NULL && k->ident == id));
}

/* Refused, and wanted all the same. */
static void queue_again(struct cache *c, struct ckey *k, int64_t at_ns)
{
    key_event(c, k, FE_RETRY, "its remote is paused");
    k->due_ns = at_ns + TURN_NS * MIN(k->tries, (unsigned)TURNS_MAX);
    key_submit_row(c, k);
}

bool pause_refused(struct xfer *x, const struct errinfo *err)
{
    struct cache *c = x->c;
    struct ckey *k = x->k;
    struct cident *id = x->refused_by != NULL ? x->refused_by : x->id;
    int64_t now = time_mono_ns();
    mutex_assert_held(&c->lock);
    if (!is_of_remote(err)) {
        return false;
    }
    if (id->streak == 0) {
        id->streak = ++c->streaks;
    }
    if (k->refused_streak != id->streak) {
        k->refused_streak = id->streak;
        id->refused++;
    }
    k->refused_by = id;
    if (id->refused < PAUSE_AFTER) {
        return false;
    }
    if (id->paused_until <= now) {
        char line[512];
        id->paused_until = now + PAUSE_NS;
        id->pause_err = *err;
        log_error("upload", "remote=%s paused, its files stay queued and one is tried every %d s: %s", id->name,
                  (int)(PAUSE_NS / 1000000000), err_format(err, line, sizeof(line)));
    }
    struct ckey *next;
    for (struct ckey *o = c->dirty_head; o != NULL; o = next) {
        next = o->dirty_next;
        if (failed_by(o, id)) {
            o->refused_streak = id->streak; /* who ends the pause makes it due, too */
            queue_again(c, o, id->paused_until);
        }
    }
    k->err = *err;
    k->tries++;
    if (k->state != FS_UNKNOWN) {
        key_event(c, k, FE_REFUSED, err->message); /* who waits in fsync is told */
        queue_again(c, k, id->paused_until);
    } else {
        k->due_ns = id->paused_until + TURN_NS * MIN(k->tries, (unsigned)TURNS_MAX);
    }
    return true;
}

unsigned pause_lift(struct cache *c, struct cident *id)
{
    unsigned n = 0;
    mutex_assert_held(&c->lock);
    for (struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        if ((k->state == FS_DIRTY || k->state == FS_UNKNOWN) && id->streak != 0 && k->refused_streak == id->streak && k->x == NULL) {
            k->due_ns = time_mono_ns();
            k->tries = 0;
            n++;
        }
    }
    forget(id);
    cache_kick_locked(c);
    return n;
}

struct lift {
    struct cache *c;
    unsigned n;
};

static bool lift_one(struct cident *id, void *ctx)
{
    struct lift *l = ctx;
    l->n += id->refused >= PAUSE_AFTER ? pause_lift(l->c, id) : 0;
    return false;
}

unsigned pause_lift_of(struct cache *c, struct ckey *k)
{
    struct lift l = {.c = c};
    (void)any_remote(k, lift_one, &l);
    return l.n;
}
