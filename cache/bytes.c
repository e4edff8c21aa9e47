/* What local or remote bytes need before there can be a plan: hashing files that were not written in order, comparing a
 * re-run of a large file with the parts already there, fetching the bytes of copies that would close a cycle. Each goes in
 * short steps, so that no worker is held for long. */
#include "xfer.h"

#include <errno.h>
#include <string.h>

#include "kill.h"
#include "mem.h"

#define STEP (8u << 20)

/* The spool's bytes hashed in steps, for files that were not written in order. */
void bytes_hash(struct xfer *x)
{
    if (xfer_step_stopped(x)) {
        return;
    }
    if (x->buf == NULL) {
        x->buf = malloc(STEP);
        digest_md5_init(&x->md5_run);
    }
    uint64_t n = MIN((uint64_t)STEP, x->map.size - x->hash_pos);
    ssize_t got = x->buf != NULL ? spool_read(x->c->spool, x->spool_id, x->buf, n, x->hash_pos) : -ENOMEM;
    if (got != (ssize_t)n) {
        struct errinfo e = {0};
        err_set(&e, ERR_LOCAL, -EIO, "cannot read the spool: %s", got < 0 ? strerror((int)-got) : "file too short");
        xfer_fail_and_drop(x, &e);
        return;
    }
    digest_md5_update(&x->md5_run, x->buf, n);
    x->hash_pos += n;
    if (x->hash_pos < x->map.size) {
        xfer_next(x, bytes_hash);
        return;
    }
    digest_md5_final(&x->md5_run, x->md5);
    x->md5_known = true;
    free(x->buf);
    x->buf = NULL;
    cache_lock(x->c);
    if (!xfer_stopped(x) && x->f->gen == x->gen) {
        memcpy(x->f->md5_sum, x->md5, 16);
        x->f->has_md5 = true;
    }
    cache_unlock(x->c);
    xfer_make_plan(x);
}

/* Rules D8: a large local file over a version we uploaded in parts: a part whose bytes are still the same is taken from
 * that version by the provider itself. One part a job. */
static void compare_segments(struct xfer *x)
{
    struct cache *c = x->c;
    if (xfer_step_stopped(x)) {
        return;
    }
    struct segment s;
    if ((x->segment + 1) * sizeof(s) > x->segments.len) {
        buf_fini(&x->segments);
        xfer_make_plan(x);
        return;
    }
    memcpy(&s, x->segments.data + x->segment * sizeof(s), sizeof(s));
    if (s.size > 0 && s.size <= c->opt.memory / 4 && s.size <= x->map.size && x->segment_off <= x->map.size - s.size) {
        uint8_t md5[16], *buf = malloc(s.size);
        if (buf != NULL && spool_read(c->spool, x->spool_id, buf, s.size, x->segment_off) == (ssize_t)s.size) {
            digest_md5(buf, s.size, md5);
            if (memcmp(md5, s.md5, 16) == 0) {
                cache_lock(c);
                extent_set(&x->map, x->segment_off, s.size, EXT_REMOTE, x->snap_base, x->segment_off);
                cache_unlock(c);
            }
        }
        free(buf);
    }
    x->segment_off += s.size;
    x->segment++;
    xfer_next(x, compare_segments);
}

bool bytes_compare(struct xfer *x)
{
    struct cache *c = x->c;
    const unsigned need = BE_CAP_PART_COPY | BE_CAP_COPY;
    if (x->segment > 0 || x->snap_base == NULL || (x->id->caps & need) != need ||
        x->map.size <= x->id->conf->small_file_threshold || extent_bytes(&x->map, EXT_LOCAL) != x->map.size) {
        return false;
    }
    cache_lock(c);
    bool current = x->k->base.known && x->k->base.exists && strcmp(x->k->base.o.etag, x->snap_base->etag) == 0;
    cache_unlock(c);
    if (!current || journal_segments_get(c->journal, x->id->id, x->k->key, x->snap_base->etag, &x->segments) != 1) {
        return false;
    }
    compare_segments(x);
    return true;
}

struct hydrate {
    struct gather g;
    uint64_t off, len;
    uint8_t *buf;
};

static void hydrate_filled(struct gather *g)
{
    struct hydrate *h = CONTAINER_OF(g, struct hydrate, g);
    struct xfer *x = g->x;
    struct cache *c = x->c;
    int err = g->status;
    struct errinfo e = g->err;
    cache_lock(c);
    struct cfile *f = x->f;
    /* A write on its way into the spool would be overwritten by what is older: then all this starts anew. */
    bool store = err == 0 && !xfer_stopped(x) && f->gen == x->gen && f->io_users == 0;
    if (err == 0 && !store) {
        x->called_off = true;
    }
    if (store && f->spool_id == 0) {
        f->spool_id = c->next_spool_id++;
    }
    uint64_t spool_id = x->spool_id = f->spool_id;
    f->hydrating = store;
    cache_unlock(c);
    KILL_POINT("transfer: fetched to hydrate");
    if (store) {
        err = spool_write(c->spool, spool_id, h->buf, h->len, h->off);
        if (err == -ENOENT) {
            spool_create(c->spool, spool_id);
            err = spool_write(c->spool, spool_id, h->buf, h->len, h->off);
        }
        if (err < 0) {
            err_set(&e, ERR_LOCAL, err, "cannot write the spool: %s", strerror(-err));
            x->local_failed = true; /* try again when there is room */
        }
    }
    cache_lock(c);
    f->hydrating = false;
    file_unpark(c, f, false);
    if (err != 0) {
        xfer_fail(x, &e);
    } else if (store && f->gen == x->gen) {
        extent_set(&f->map, h->off, h->len, EXT_LOCAL, NULL, 0);
        extent_set(&x->map, h->off, h->len, EXT_LOCAL, NULL, 0);
        file_relink(c, f);
    }
    cache_unlock(c);
    gather_fini(&h->g);
    free(h->buf);
    free(h);
    if (!xfer_step_stopped(x)) {
        xfer_next(x, bytes_hydrate); /* not from here: a provider that answers at once would go deeper with every step */
    }
}

void bytes_hydrate(struct xfer *x)
{
    for (size_t i = 0; i < x->map.n; i++) {
        const struct extent *e = &x->map.v[i];
        if (e->kind != EXT_REMOTE) {
            continue;
        }
        struct hydrate *h = mem_zalloc(sizeof(*h));
        h->off = e->off;
        h->len = MIN(e->len, (uint64_t)STEP);
        h->buf = malloc(h->len);
        h->g.x = x;
        h->g.buf = h->buf;
        h->g.done = hydrate_filled;
        if (h->buf == NULL) {
            struct errinfo err = {0};
            free(h);
            err_set(&err, ERR_TRANSIENT, -ENOMEM, "no memory for %u bytes", STEP);
            xfer_fail_and_drop(x, &err);
            return;
        }
        gather_start(&h->g, h->off, h->len);
        return;
    }
    cache_lock(x->c);
    x->f->hydrate = false;
    x->f->sealed_wall_ns = time_wall_ns(); /* its bytes are as young as this, to a power cut */
    file_relink(x->c, x->f);
    extent_source_unref(x->whole);
    x->whole = NULL;
    key_submit_row(x->c, x->k);
    cache_unlock(x->c);
    KILL_POINT("transfer: hydrated");
    xfer_next(x, xfer_prepare);
}
