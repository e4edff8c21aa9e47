/* The scheduler: one thread that picks what is due and sees to deadlines. It starts transfers and never does their work. */
#include "xfer.h"

#include <errno.h>
#include <string.h>

#include "block.h"
#include "log.h"
#include "mem.h"

#define ACTIVE_MAX 512               /* transfers at once, over all remotes */
#define SCAN_PAUSE_NS 2000000LL      /* at most 500 rounds a second, however many transfers end */
#define SCAN_KEY_NS 400LL            /* and so long a pause for each slot looked at: a look takes a tenth of that */
#define SCAN_ALL_NS 50000000LL       /* how often everything is looked at though no lane is free */
#define TICK_NS 1000000000LL
#define SYNC_PAUSE_NS 50000000LL     /* at least, between two syncs of the spool that deletions wait for */
#define DIRTY_ROW_MAX 64             /* unsealed rows journaled a tick */
#define CLEAN_MAX 1024               /* files at the provider whose bytes stay in the spool: each holds its slot in memory */

/* What was sealed before this time is on disk: after a power cut it can be trusted (rules C5). */
static void spool_synced(struct cache *c, int64_t wall_ns)
{
    if (wall_ns != c->spool_synced_ns && c->dirty_head != NULL) {
        c->spool_synced_ns = wall_ns;
        struct jtx *tx = jtx_new();
        jtx_mark_put(tx, MARK_SPOOL_SYNCED, wall_ns);
        journal_submit(c->journal, tx, 0, NULL, NULL);
    }
}

/* No object is deleted while what was accepted before may be in memory only: the last copy of it could be there (a move by read
 * and write), and the deletion would outlive a power cut. What is not at the provider can go at once. */
static bool may_delete(struct cache *c, struct ckey *k)
{
    /* A directory goes after what was in it: a real one could not, and any other would come back with the next listing. */
    if (k->key[k->key_len - 1] == '/') {
        const struct cdirnode *d = dir_find(c, k->ident, k->key, k->key_len);
        if (d != NULL && d->under_way > (k->dir == d ? 1 : 0)) { /* content under the name itself shows in there */
            return false;
        }
    }
    if (k->base.known && !k->base.exists) {
        return true;
    }
    int64_t wall_ns;
    int synced = spool_synced_since(c->spool, k->changed_ns, &wall_ns);
    if (synced < 0) {
        struct errinfo e = {0};
        err_set(&e, ERR_LOCAL, synced, "the cache directory cannot be synced to its disk (%s): nothing is deleted", strerror(-synced));
        key_refused(c, k, FE_REFUSED, &e);
    }
    c->sync_wanted = c->sync_wanted || synced == 0;
    if (synced > 0 && c->by_time_ns >= c->spool_synced_ns) {
        spool_synced(c, wall_ns); /* in the journal before the deletion is */
    }
    return synced > 0;
}

static bool small_lane_full(const struct cident *id)
{
    return id->in_flight_small >= MAX(id->conf->small_slots * 2, 2u);
}

/* Whether a slot may start now; *ret_wait_ns = when to look again at the latest. Locked. */
static bool startable(struct cache *c, struct ckey *k, int64_t now, int64_t *ret_wait_ns)
{
    struct cident *id = k->ident;
    if (k->x != NULL) {
        if (k->x->waiting_commit) {
            key_free_from_open(c, k, now);
            commit_retry_locked(k->x);
        }
        return false;
    }
    if (id->be == NULL || (k->state != FS_DIRTY && k->state != FS_UNKNOWN)) {
        return false;
    }
    struct cfile *f = key_sends(k);
    if (k->state == FS_DIRTY && f != NULL && f->carrier != NULL && f->carrier != k) {
        if (f->carrier->state == FS_BLOCKED || f->carrier->state == FS_CONFLICT) {
            key_refused(c, k, FE_REFUSED, &f->carrier->err); /* retry and discard are for both */
        }
        return false;
    }
    if (k->state == FS_DIRTY && f != NULL && f->lost) {
        struct errinfo e = {0};
        err_set(&e, ERR_LOCAL, -EIO, "LOST: its local bytes are damaged");
        key_refused(c, k, FE_LOCAL_FAILED, &e);
        return false;
    }
    if (k->state == FS_DIRTY && f != NULL && !f->sealed && !f->streaming && !f->hydrate) {
        return false;
    }
    for (const struct cref_edge *e = f != NULL ? f->reads : NULL; e != NULL; e = e->next_of_file) {
        if (e->src != NULL && e->slot != k && (e->slot->state == FS_COMMITTING || e->slot->state == FS_UNKNOWN)) {
            return false; /* which version it reads is being decided */
        }
    }
    if (k->state == FS_DIRTY && f != NULL && f->time_again && k->base.exists && dir_time_changes(c, k, now, ret_wait_ns)) {
        return false;
    }
    int64_t due = k->hurry ? MIN(k->due_ns, now) : k->due_ns;
    if (k->state == FS_DIRTY && k->settle_ns > now && (f == NULL || f->gen != k->sent_gen)) {
        due = MAX(due, k->settle_ns);
    }
    if (k->tries > 0) {
        due = MAX(due, k->due_ns); /* hurry does not shorten a backoff */
    }
    if (due > now) {
        *ret_wait_ns = MIN(*ret_wait_ns, due);
        return false;
    }
    if (k->state == FS_DIRTY && f == NULL && !may_delete(c, k)) {
        return false;
    }
    if (c->active_xfers >= ACTIVE_MAX) {
        return false;
    }
    if (pause_holds(k, now)) {
        return false;
    }
    bool big = f != NULL && f->map.size > id->conf->small_file_threshold;
    if (big ? id->in_flight_big >= id->conf->big_slots : small_lane_full(id)) {
        return false;
    }
    if (k->state == FS_DIRTY && !(f != NULL && f->hydrate) && !key_may_commit(c, k, now)) {
        key_free_from_open(c, k, now);
        key_sources_of_failed(c, k);
        return false;
    }
    return true;
}

/* Of every remote that work waits for, the small lane is full: whatever follows in the list waits, but for large files. What waits
 * for a remote that is not mounted could not start anyhow. */
static bool all_full(const struct cache *c)
{
    for (const struct cident *id = c->idents; id != NULL; id = id->next) {
        if (id->be != NULL && id->n_dirty > id->in_flight_small + id->in_flight_big + id->streams && !small_lane_full(id)) {
            return false;
        }
    }
    return true;
}

/* Starts what may start, the oldest first; where there is little room, of what makes some before all else. Not `all`: until the
 * lanes are full. Returns when to look again, and in *ret_pause_ns how long not to. */
static int64_t scan(struct cache *c, int64_t now, bool all, int64_t *ret_pause_ns)
{
    int64_t wait = now + TICK_NS, looked_at = 0;
    for (bool rest = !c->room.high;; rest = true) {
        struct ckey *next;
        for (struct ckey *k = c->dirty_head; k != NULL; k = next) {
            next = k->dirty_next;
            looked_at++;
            if ((rest || room_comes_of(k)) && startable(c, k, now, &wait)) {
                k->pins++; /* starting one may end another; the list may change, this slot may not go */
                xfer_start(c, k);
                k->pins--;
            }
            if (c->active_xfers >= ACTIVE_MAX) {
                break;
            }
            if (!all && k->x == NULL && all_full(c)) {
                wait = MIN(wait, now + SCAN_ALL_NS);
                break;
            }
        }
        if (rest) {
            break;
        }
    }
    *ret_pause_ns = MAX(SCAN_PAUSE_NS, looked_at * SCAN_KEY_NS);
    return wait;
}

void sched_evict(struct cache *c, size_t keep)
{
    struct cfile *next;
    for (struct cfile *f = c->lru_head; f != NULL && c->n_lru > keep; f = next) {
        next = f->lru_next;
        if (f->io_users == 0 && f->base != NULL && f->parked == NULL) {
            file_evict(c, f);
        }
    }
}

static void deadlines(struct cache *c, int64_t now)
{
    unsigned rows = 0;
    struct ckey *next;
    for (struct ckey *k = c->dirty_head; k != NULL; k = next) {
        next = k->dirty_next;
        struct creq **pp = &k->fsync_waiters;
        /* Slow is not stuck: the close of a large file waits for all that its cache could not hold. */
        int64_t moved_until = k->file != NULL ? k->file->moved_ns + (int64_t)c->opt.wait_timeout_ms * 1000000LL : 0;
        while (*pp != NULL) {
            struct creq *r = *pp;
            if (k->ident->paused_until > now && k->x == NULL) {
                *pp = r->next; /* the remote refuses us, and says why */
                creq_end_locked(c, r, err_to_errno(&k->ident->pause_err));
            } else if (MAX(r->deadline_ns, moved_until) <= now) {
                *pp = r->next;
                creq_end_locked(c, r, -EIO);
            } else {
                pp = &r->next;
            }
        }
        struct cfile *f = k->file;
        if (f != NULL && !f->sealed && !f->keep_row && f->row_due_ns != 0 && f->row_due_ns <= now && rows < DIRTY_ROW_MAX &&
            k->state == FS_DIRTY && k->x == NULL) {
            rows++;
            f->row_due_ns = 0;
            key_submit_row(c, k);
        }
    }
}

/* Slots that nobody needs any more. A few buckets a tick. */
static void sweep(struct cache *c, size_t *pos)
{
    for (size_t i = 0; i < 512 && c->n_buckets > 0; i++) {
        *pos = (*pos + 1) & (c->n_buckets - 1);
        struct ckey *next;
        for (struct ckey *k = c->keys[*pos]; k != NULL; k = next) {
            next = k->hash_next;
            key_drop_if_idle(c, k);
        }
    }
}

/* Gives up the lock meanwhile. */
static void sync_spool(struct cache *c, bool waited_for)
{
    cache_unlock(c);
    int64_t synced = spool_syncfs_tick(c->spool, waited_for);
    cache_lock(c);
    spool_synced(c, synced);
}

/* A deletion waits: at once, but never so often that syncing is most of what the disk does. */
static int64_t sync_for_deletions(struct cache *c, int64_t now, int64_t *next_sync)
{
    if (!c->sync_wanted) {
        return INT64_MAX;
    }
    if (now < *next_sync) {
        return *next_sync;
    }
    c->sync_wanted = false;
    sync_spool(c, true);
    int64_t end = time_mono_ns();
    *next_sync = end + MAX(SYNC_PAUSE_NS, 4 * (end - now));
    return end; /* what waited can go now */
}

void *sched_main(void *arg)
{
    struct cache *c = arg;
    int64_t next_tick = 0, next_scan = 0, next_sync = 0, next_all = 0;
    size_t sweep_pos = 0;
    pthread_setname_np(pthread_self(), "scheduler");
    cache_lock(c);
    while (!c->closing) {
        int64_t now = time_mono_ns();
        if (now < next_scan) {
            cache_unlock(c); /* answers first */
            cache_lock(c);
            cond_wait_until(&c->sched_cond, &c->lock, next_scan);
            continue; /* kicked again and again: the pause holds all the same */
        }
        c->kicked = false;
        c->wake_ns = INT64_MAX;
        bool all = now >= next_all;
        int64_t pause;
        int64_t wait = scan(c, now, all, &pause);
        next_scan = now + pause;
        next_all = all ? now + MAX(SCAN_ALL_NS, pause) : next_all;
        room_tick(c, now);
        reader_stale(c);
        wait = MIN(wait, reader_hedge(c, now));
        wait = MIN(wait, sync_for_deletions(c, now, &next_sync));
        if (c->opt.bwlimit != 0 && c->mem_waiters != NULL) {
            if (c->bw_free_ns <= now) {
                xfer_memory_freed(c);
            }
            wait = MIN(wait, MAX(c->bw_free_ns, now + SCAN_PAUSE_NS));
        }
        if (now >= next_tick) {
            next_tick = now + TICK_NS;
            deadlines(c, now);
            sweep(c, &sweep_pos);
            sched_evict(c, CLEAN_MAX);
            prefetch_tick(c, now);
            reader_hung(c);
            block_trim();
            dirs_trim(c);
            orphans_retry(c, now);
            restore_tick(c, now);
            sync_spool(c, false);
        }
        if (c->ready != NULL) {
            cache_unlock(c);
            cache_lock(c);
        }
        wait = MIN(wait, next_tick);
        c->wake_ns = wait;
        while (!c->kicked && !c->closing && time_mono_ns() < wait) {
            cond_wait_until(&c->sched_cond, &c->lock, wait);
        }
    }
    cache_unlock(c);
    return NULL;
}
