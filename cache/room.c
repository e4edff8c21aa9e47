/* Room in the spool: who may fill it, and who waits (rules F1, C8).
 *
 * A write's bytes are stored at once, and where there is little room its reply waits. So what is there beyond the bound is one
 * request of each that waits; it does not count as filling the spool until the reply is given.
 *
 * Little room is less than one file needs to come to its next part. Then clean bytes go, what is sealed is due at once, files
 * whose writers wait are sent by parts, and what is left is for one file at a time, which has the turn: until it is closed, has
 * parts to be sent, or its writer pauses. Were it for all, each of many writers would come to a stop before its first part, with
 * nothing that could be sent and nothing that could go. Who has waited longest comes first: a file since its first byte, so that
 * the oldest come to an end; a stream, which needs room again and again, since its newest request.
 *
 * ENOSPC is for when nothing comes free: for wait_timeout, or for ten seconds when nothing is under way or queued that could. */
#include "xfer.h"

#include <errno.h>

#include "log.h"
#include "mem.h"

#define TURN_IDLE_NS 1000000000LL    /* who has the turn and does not write for so long loses it to who waits */
#define TURN_MAX_NS 30000000000LL    /* and after so long in any case: a log grows slowly, and is never closed */
#define HOPELESS_NS 10000000000LL
#define NEXT_REFUSED_NS 1000000000LL /* one gives up and goes, and makes room for the rest: so long it has for that */
#define PRESS_NS 100000000LL         /* how often all that is pending is gone through under pressure */
#define STREAM_PARTS 2               /* of a stream in the spool while others wait */

uint64_t room_part(const struct cache *c, const struct cident *id)
{
    /* A small spool has small parts, or few files had room for one. */
    uint64_t part = MIN(id->conf->part_size, c->opt.cache_size / 32);
    return plan_stream_part(1, MAX(part, id->limits.min_part), &id->limits, c->opt.memory / 4);
}

/* Also says whether there is little room, until it is asked again. */
static bool room_look(struct cache *c)
{
    uint64_t part = 0;
    for (const struct cident *id = c->idents; id != NULL; id = id->next) {
        part = id->be != NULL ? MAX(part, room_part(c, id)) : part;
    }
    c->room.high = spool_high(c->spool, c->room.waiting, part + part / 4); /* it may come to its end by half a request */
    return c->room.high;
}

static struct cfile *file_of(const struct creq *r)
{
    return r->priv;
}

/* Whether more room would be of use to it now: a stream has enough to send. */
static bool needs_room(const struct cache *c, const struct cfile *f)
{
    return !f->streaming || f->at == NULL || extent_bytes(&f->map, EXT_LOCAL) < STREAM_PARTS * room_part(c, f->at->ident);
}

static bool has_turn(const struct cache *c, const struct cfile *f)
{
    return f->spool_id != 0 && c->room.turn == f->spool_id;
}

/* Off the list, and answered. */
static void let_go(struct cache *c, struct creq **pp, int status)
{
    struct creq *r = *pp;
    *pp = r->next;
    c->room.waiting -= r->done_bytes;
    creq_end_locked(c, r, status);
}

void room_end(struct cache *c, struct creq *r, struct cfile *f, int status)
{
    mutex_assert_held(&c->lock);
    if (status != 0 || !room_look(c)) {
        creq_end_locked(c, r, status);
        return;
    }
    int64_t now = time_mono_ns();
    bool over = c->room.waiters != NULL && now - c->room.turn_began_ns >= TURN_MAX_NS;
    if (has_turn(c, f) && !over && needs_room(c, f) && spool_space(c->spool, c->room.waiting) > 0) {
        c->room.turn_ns = c->room.let_go_ns = now;
        creq_end_locked(c, r, 0);
        return;
    }
    stream_consider(c, f, true);
    r->priv = f; /* there while it is open, and a request is made of what is open */
    r->since_ns = now;
    r->seq = (uint64_t)(f->streaming || f->dirty_ns == 0 ? now : f->dirty_ns);
    struct creq **pp = &c->room.waiters;
    while (*pp != NULL && (*pp)->seq <= r->seq) {
        pp = &(*pp)->next;
    }
    r->next = *pp;
    *pp = r;
    c->room.waiting += r->done_bytes;
    cache_kick_locked(c);
}

bool room_interrupt(struct cache *c, const struct creq *r)
{
    struct creq **pp = &c->room.waiters;
    while (*pp != NULL && *pp != r) {
        pp = &(*pp)->next;
    }
    if (*pp == NULL) {
        return false;
    }
    let_go(c, pp, -EINTR);
    return true;
}

bool room_sealed(struct cache *c, const struct cfile *f)
{
    if (has_turn(c, f)) {
        c->room.turn = 0;
        cache_kick_locked(c);
    }
    return c->room.high;
}

bool room_comes_of(const struct ckey *k)
{
    const struct cfile *f = key_sends(k);
    return f != NULL && f->spool_id != 0 && (f->sealed || f->streaming) && extent_has(&f->map, EXT_LOCAL);
}

/* All that is pending is told that room is wanted. */
static void press(struct cache *c, int64_t now)
{
    for (struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        if (k->file == NULL || k->want_absent) {
            continue;
        }
        if (!k->file->sealed) {
            stream_consider(c, k->file, false);
        } else if (k->due_ns > now && k->tries == 0 && k->state == FS_DIRTY) {
            k->due_ns = now;
        }
    }
    for (struct creq *r = c->room.waiters; r != NULL; r = r->next) {
        stream_consider(c, file_of(r), true);
    }
}

/* The turn is given to whoever has waited longest, unless somebody has it and makes use of it. */
static void give_turn(struct cache *c, int64_t now)
{
    struct room *room = &c->room;
    const struct creq *own = NULL, *next = NULL;
    bool over = now - room->turn_began_ns >= TURN_MAX_NS;
    bool in_use = room->turn != 0 && !over && now - room->turn_ns < TURN_IDLE_NS;
    for (const struct creq *r = room->waiters; r != NULL; r = r->next) {
        const struct cfile *f = file_of(r);
        if (has_turn(c, f)) {
            in_use = false;
            own = needs_room(c, f) ? r : own;
        } else if (next == NULL && needs_room(c, f)) {
            next = r;
        }
    }
    if (own != NULL && (!over || next == NULL)) {
        next = own; /* it waits itself, for more than there is */
    }
    if (next == NULL || in_use) {
        return;
    }
    if (next != own || over) {
        room->turn_began_ns = now;
    }
    room->turn = file_of(next)->spool_id;
    room->turn_ns = now;
}

/* Who has the turn goes on. */
static void take_turn(struct cache *c, int64_t now)
{
    struct creq **pp = &c->room.waiters;
    while (*pp != NULL) {
        if (has_turn(c, file_of(*pp)) && needs_room(c, file_of(*pp)) && spool_space(c->spool, c->room.waiting) > 0) {
            c->room.turn_ns = c->room.let_go_ns = now;
            let_go(c, pp, 0);
        } else {
            pp = &(*pp)->next;
        }
    }
}

/* Something is under way or queued that frees bytes of the spool when it ends. */
static bool may_come(const struct cache *c)
{
    for (const struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        bool idle_stream = k->x != NULL && k->x->stream && k->x->in_flight_parts == 0 && k->x->done_parts > 0 && !k->x->committing;
        if (k->ident->be != NULL && k->state != FS_BLOCKED && k->state != FS_CONFLICT && room_comes_of(k) && !idle_stream) {
            return true;
        }
    }
    return c->lru_head != NULL;
}

static void refuse(struct cache *c, int64_t now)
{
    struct room *room = &c->room;
    int64_t timeout = (int64_t)c->opt.wait_timeout_ms * 1000000LL;
    int64_t moved_ns = MAX(c->last_progress_ns, room->let_go_ns);
    struct creq **pp = &room->waiters;
    while (*pp != NULL) {
        if (now - MAX((*pp)->since_ns, moved_ns) >= timeout) {
            let_go(c, pp, -ENOSPC);
        } else {
            pp = &(*pp)->next;
        }
    }
    /* What could make room has only now been told to: an idle hour before is no sign that nothing goes on. */
    if (room->waiters != NULL && now - MAX(moved_ns, room->high_ns) > HOPELESS_NS &&
        now - room->refused_ns > NEXT_REFUSED_NS && !may_come(c)) {
        room->refused_ns = now;
        log_limited(LOG_LEVEL_WARN, "spool", "full", 5000, "the cache directory is full, and nothing in it can go: a write fails");
        let_go(c, &room->waiters, -ENOSPC);
    }
}

void room_tick(struct cache *c, int64_t now)
{
    struct room *room = &c->room;
    mutex_assert_held(&c->lock);
    if (room_look(c)) {
        sched_evict(c, 0);
        if (room->high_ns == 0 || now - room->pressed_ns >= PRESS_NS) {
            room->pressed_ns = now;
            press(c, now);
        }
    }
    while (!room->high && room->waiters != NULL) {
        room->let_go_ns = now;
        let_go(c, &room->waiters, 0);
        (void)room_look(c); /* its bytes count now */
    }
    room->high_ns = !room->high ? 0 : room->high_ns == 0 ? now : room->high_ns;
    if (room->waiters != NULL) {
        give_turn(c, now);
        take_turn(c, now);
        refuse(c, now);
    }
}
