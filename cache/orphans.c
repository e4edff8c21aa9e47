/* Uploads that must not be left behind (rules C7).
 *
 * An upload that is given up is written into the journal before its abort is sent, and stays there until the provider says
 * that it is gone: over failures and restarts. One that was begun without our learning its id ("?" and the time) is looked
 * for by its exact key; of what is found those are aborted that are not older than our attempt, have no parts, and are not
 * what the key's transfer uses by now, so that nobody else's goes. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kill.h"
#include "log.h"
#include "mem.h"

#define RETRY_NS (30LL * 1000000000LL)
#define CLOCKS_DIFFER_NS (15LL * 60 * 1000000000LL)

struct orphan {
    struct orphan *next;
    struct work w;
    struct be_mp mp;
    /* of the search, when the id is not known */
    struct be_uploads found;
    struct be_parts parts;
    size_t pos;
    bool found_ours;
    struct cache *c;
    struct cident *id;
    char *key, *upload;
    bool running;
    int64_t due_ns;
};

static void orphan_free(struct orphan *o)
{
    free(o->key);
    free(o->upload);
    free(o);
}

/* Over, or to be tried again. */
static void orphan_end(struct orphan *o, bool gone, int64_t again_ns)
{
    struct cache *c = o->c;
    cache_lock(c);
    o->running = false;
    if (gone) {
        struct jtx *tx = jtx_new();
        jtx_abort_delete(tx, o->id->id, o->key, o->upload);
        journal_submit(c->journal, tx, 0, NULL, NULL);
        struct orphan **pp = &c->orphans;
        while (*pp != o) {
            pp = &(*pp)->next;
        }
        *pp = o->next;
        orphan_free(o);
    } else {
        o->due_ns = again_ns == 0 ? 0 : time_mono_ns() + again_ns; /* 0: as soon as somebody looks */
    }
    cache_async_end_locked(c);
    cache_unlock(c);
}

static void aborted(struct be_op *op)
{
    struct orphan *o = op->owner;
    bool gone = op->status == 0 || op->err.cls == ERR_ABSENT;
    KILL_POINT("upload: aborted");
    if (!gone) {
        char line[512];
        log_warn("upload", "remote=%s key=%s upload not aborted yet: %s", o->id->name, o->key,
                 err_format(&op->err, line, sizeof(line)));
    }
    orphan_end(o, gone, RETRY_NS);
}

static void search_next(struct orphan *o);

static void searched_parts(struct be_op *op)
{
    struct orphan *o = op->owner;
    struct cache *c = o->c;
    const char *upload = o->found.uploads[o->pos].upload_id;
    cache_lock(c);
    const struct ckey *k = key_find(c, o->id, o->key);
    bool used = k != NULL && k->up.id != NULL && strcmp(k->up.id, upload) == 0;
    if (op->status == 0 && o->parts.n_parts == 0 && !used) {
        orphan_abort(c, o->id, o->key, upload);
        o->found_ours = true;
    }
    cache_unlock(c);
    free(o->parts.parts);
    o->pos++;
    search_next(o);
}

static void search_next(struct orphan *o)
{
    int64_t begun = strtoll(o->upload + 1, NULL, 10);
    for (; o->pos < o->found.n_uploads; o->pos++) {
        const struct be_upload *u = &o->found.uploads[o->pos];
        if (strcmp(u->key, o->key) != 0 || (u->initiated_ns != 0 && u->initiated_ns < begun - CLOCKS_DIFFER_NS)) {
            continue;
        }
        memset(&o->parts, 0, sizeof(o->parts));
        o->parts.op.key = o->key;
        o->parts.op.lane = BE_LANE_SMALL;
        o->parts.op.owner = o;
        o->parts.op.done = searched_parts;
        o->parts.upload_id = u->upload_id;
        be_mp_parts(o->id->be, &o->parts);
        return;
    }
    be_uploads_fini(&o->found);
    /* What was sent may still arrive: it is looked for once more when it cannot any longer. */
    int64_t left = begun + (int64_t)o->id->conf->request_timeout_ms * 1000000LL - time_wall_ns();
    orphan_end(o, o->found_ours || left < 0, MAX(left, 0) + 1);
}

static void searched(struct be_op *op)
{
    struct orphan *o = op->owner;
    struct cache *c = o->c;
    cache_lock(c);
    const struct ckey *k = key_find(c, o->id, o->key);
    bool beginning = k != NULL && upload_unknown(&k->up); /* which of them is in use is not known yet */
    cache_unlock(c);
    if (op->status != 0 || beginning) {
        be_uploads_fini(&o->found);
        orphan_end(o, op->status == -EOPNOTSUPP, op->status != 0 ? RETRY_NS : 0);
        return;
    }
    o->pos = 0;
    search_next(o);
}

static void orphan_run(struct work *w)
{
    struct orphan *o = CONTAINER_OF(w, struct orphan, w);
    if (o->upload[0] == '?') {
        memset(&o->found, 0, sizeof(o->found));
        o->found.op.key = o->key;
        o->found.prefix = o->key;
        o->found.op.lane = BE_LANE_SMALL;
        o->found.op.owner = o;
        o->found.op.done = searched;
        be_mp_uploads(o->id->be, &o->found);
        return;
    }
    memset(&o->mp, 0, sizeof(o->mp));
    o->mp.op.key = o->key;
    o->mp.op.lane = BE_LANE_SMALL;
    o->mp.op.owner = o;
    o->mp.op.done = aborted;
    o->mp.upload_id = o->upload;
    KILL_POINT("upload: before abort");
    be_mp_abort(o->id->be, &o->mp);
}

static void orphan_start(struct cache *c, struct orphan *o)
{
    if (o->running || o->id->be == NULL || c->closing) {
        return;
    }
    o->running = true;
    o->w.run = orphan_run;
    cache_async_begin_locked(c);
    pool_submit(c->workers, &o->w);
}

static struct orphan *orphan_add(struct cache *c, struct cident *id, const char *key, const char *upload_id)
{
    struct orphan *o = mem_zalloc(sizeof(*o));
    o->c = c;
    o->id = id;
    o->key = mem_strdup(key);
    o->upload = mem_strdup(upload_id);
    o->next = c->orphans;
    c->orphans = o;
    return o;
}

static void abort_journaled(void *ctx, int status)
{
    struct orphan *o = ctx;
    struct cache *c = o->c;
    cache_lock(c);
    o->running = false;
    if (status == 0) { /* else the journal may still name the upload: the next look tries */
        orphan_start(c, o);
    }
    cache_async_end_locked(c);
    cache_unlock(c);
}

/* The abort goes out when its row is committed, and so all rows before it: one that names the upload no more among them. */
void orphan_abort(struct cache *c, struct cident *id, const char *key, const char *upload_id)
{
    mutex_assert_held(&c->lock);
    struct orphan *o = orphan_add(c, id, key, upload_id);
    struct jtx *tx = jtx_new();
    o->running = true;
    jtx_abort_put(tx, id->id, key, upload_id);
    cache_async_begin_locked(c);
    journal_submit(c->journal, tx, 0, abort_journaled, o);
}

void orphans_retry(struct cache *c, int64_t now_ns)
{
    for (struct orphan *o = c->orphans; o != NULL; o = o->next) {
        if (o->due_ns <= now_ns) {
            orphan_start(c, o);
        }
    }
}

static int load_one(void *ctx, uint32_t remote, const char *key, const char *upload_id)
{
    struct cache *c = ctx;
    cache_lock(c);
    orphan_add(c, ident_load(c, remote), key, upload_id);
    cache_unlock(c);
    return 0;
}

bool orphans_busy(const struct cache *c)
{
    for (const struct orphan *o = c->orphans; o != NULL; o = o->next) {
        if (o->id->be != NULL && (o->running || o->due_ns == 0)) {
            return true;
        }
    }
    return false;
}

int orphans_load(struct cache *c)
{
    return journal_each_abort(c->journal, load_one, c);
}

void orphans_free(struct cache *c)
{
    while (c->orphans != NULL) {
        struct orphan *o = c->orphans;
        c->orphans = o->next;
        orphan_free(o);
    }
}
