/* Ahead of who walks a tree: while the names of a directory are taken in an order, what comes next in it is fetched.
 *
 * Two kinds of walks, alike but for what they fetch: of the files that are read (the bytes of the next small ones), and of the
 * directories that are opened (the listings of the next ones). Programs go by name, or by inode number as readdir shows it (cp,
 * find); the order is learnt from two steps that follow each other. Then a window of names ahead is kept under way, which doubles
 * with each step that was foreseen and halves with each that was not. A directory that is entered while a walk of its remote
 * goes on inherits order and window, so that a tree of many small directories does not begin anew in each.
 *
 * All of it is a guess: it takes a part of the memory that reading has, never evicts what is still to be read, and ends with the
 * first failure. All functions are called with the lock held. */
#include "internal.h"

#include <string.h>

#include "mem.h"

#define WINDOW_FIRST 4u
#define WINDOW_MAX 1024u
#define LISTS_AT_ONCE 16u
#define STEP 2u                             /* a step so long is still the next one: something small may lie between */
#define SLACK 32u                           /* several readers of one walk are not in step */
#define GOES_ON_NS (3LL * 1000000000LL)     /* a walk, for what is entered after its last step */
#define FORGOTTEN_NS (30LL * 1000000000LL)

enum { BY_NAME, BY_NUMBER, ORDERS };

struct step {
    uint64_t number;
    struct cchild *ch; /* ref, of BY_NAME only */
};

struct cwalk {
    struct cwalk *next;
    struct cdirnode *d; /* ref */
    enum walk_kind kind;
    uint32_t stamp;     /* of the listing it was made from */
    struct step *v[ORDERS];
    size_t n;
    int order;          /* -1: not learnt */
    bool begun;
    size_t last[ORDERS]; /* where the last step was */
    size_t to;          /* the next step, in its order */
    size_t ahead;       /* what is not yet under way */
    unsigned window;
    int64_t used_ns;
};

static int by_number(const void *a, const void *b)
{
    const struct step *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static bool takes(const struct cident *id, const struct cchild *ch, enum walk_kind kind)
{
    if (kind == WALK_DIRS) {
        return ch->is_dir;
    }
    /* what is unseen (unseen.c) will have been looked at when its turn comes */
    return !ch->is_dir && ch->len > 0 && (ch->unseen || (ch->etag[0] != '\0' && ch->attr.size > 0 &&
                                          ch->attr.size <= id->conf->small_file_threshold));
}

static void walk_free(struct cache *c, struct cwalk *w)
{
    struct cwalk **pp = &c->walks;
    while (*pp != w) {
        pp = &(*pp)->next;
    }
    *pp = w->next;
    w->d->walks[w->kind] = NULL;
    w->d->refs--;
    for (size_t i = 0; i < w->n; i++) {
        child_unref(w->v[BY_NAME][i].ch);
    }
    free(w->v[BY_NAME]);
    free(w->v[BY_NUMBER]);
    free(w);
}

/* The walk of a directory whose listing is known; made from the names that listing brought. NULL: nothing to walk. */
static struct cwalk *walk_of(struct cache *c, struct cdirnode *d, enum walk_kind kind)
{
    struct cwalk *w = d->walks[kind];
    if (w != NULL && w->stamp == d->stamp) {
        return w;
    }
    if (w != NULL) {
        walk_free(c, w);
    }
    size_t n = 0;
    for (size_t i = 0; i < d->n_order; i++) {
        n += takes(d->ident, d->order[i], kind);
    }
    if (!d->complete || d->listing || n < 2) {
        return NULL;
    }
    w = mem_zalloc(sizeof(*w));
    w->d = d;
    d->refs++;
    w->kind = kind;
    w->stamp = d->stamp;
    w->order = -1;
    w->v[BY_NAME] = mem_zalloc(n * sizeof(struct step));
    w->v[BY_NUMBER] = mem_zalloc(n * sizeof(struct step));
    for (size_t i = 0; i < d->n_order; i++) {
        struct cchild *ch = d->order[i];
        if (takes(d->ident, ch, kind)) {
            uint64_t number = c->opt.number != NULL ? c->opt.number(d->ident->name, ch->is_dir, d->prefix, ch->name, ch->len) : i;
            ch->refs++;
            w->v[BY_NAME][w->n] = w->v[BY_NUMBER][w->n] = (struct step){.number = number, .ch = ch};
            w->n++;
        }
    }
    qsort(w->v[BY_NUMBER], w->n, sizeof(struct step), by_number);
    d->walks[kind] = w;
    struct cwalk **pp = &c->walks; /* the oldest first: what it fetches is wanted first */
    while (*pp != NULL) {
        pp = &(*pp)->next;
    }
    *pp = w;
    return w;
}

static bool place_of(const struct cwalk *w, const char *name, size_t ret[ORDERS])
{
    size_t lo = 0, hi = w->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int d = strcmp(w->v[BY_NAME][mid].ch->name, name);
        if (d == 0) {
            const struct step *s = bsearch(&w->v[BY_NAME][mid], w->v[BY_NUMBER], w->n, sizeof(*s), by_number);
            ret[BY_NAME] = mid;
            ret[BY_NUMBER] = (size_t)(s - w->v[BY_NUMBER]);
            return true;
        }
        if (d < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return false;
}

/* ---- fetching ---- */

static bool fetch_file(struct cache *c, struct cident *id, const struct cdirnode *d, const struct cchild *ch)
{
    if (ch->unseen && ch->look_status == 0 && !ch->gone) {
        return false;
    }
    if (ch->gone || ch->unseen || !takes(id, ch, WALK_FILES)) {
        return true;
    }
    CLEANUP(mem_freep) char *key = mem_printf("%s%s", d->prefix, ch->name);
    const struct ckey *k = key_find(c, id, key);
    if (k != NULL && (k->state != FS_CLEAN || (k->file != NULL && (k->file->opens > 0 || k->file->spool_id != 0)))) {
        return true; /* being read, or here */
    }
    struct be_object o = {.size = ch->attr.size, .mtime_ns = ch->mtime_ns};
    memcpy(o.etag, ch->etag, sizeof(ch->etag));
    struct extent_source *src = extent_source_new(id->id, key, &o);
    bool room = reader_fetch_ahead(c, id, src);
    extent_source_unref(src);
    return room;
}

static bool fetch_listing(struct cache *c, struct cident *id, const struct cdirnode *d, const struct cchild *ch)
{
    if (id->lists_ahead >= LISTS_AT_ONCE) {
        return false;
    }
    CLEANUP(mem_freep) char *prefix = mem_printf("%s%s", d->prefix, ch->name);
    struct cdirnode *sub = ch->gone ? NULL : dir_get(c, id, prefix, strlen(prefix));
    int64_t now = time_mono_ns();
    if (sub != NULL && !sub->listing && !dir_fresh(c, sub, now)) {
        sub->used_ns = now;
        sub->walked_to = true;
        dir_list_start(c, sub);
        sub->list_ahead = sub->listing;
        id->lists_ahead += sub->list_ahead;
    }
    return true;
}

static void go_on(struct cache *c, struct cwalk *w)
{
    struct cident *id = w->d->ident;
    while (w->order >= 0 && w->ahead < w->n && w->ahead < w->to + w->window) {
        const struct cchild *ch = w->v[w->order][w->ahead].ch;
        if (!(w->kind == WALK_FILES ? fetch_file(c, id, w->d, ch) : fetch_listing(c, id, w->d, ch))) {
            return;
        }
        w->ahead++;
    }
}

void prefetch_more(struct cache *c, struct cident *id)
{
    mutex_assert_held(&c->lock);
    for (struct cwalk *w = c->closing ? NULL : c->walks; w != NULL; w = w->next) {
        if (w->d->ident == id) {
            go_on(c, w);
        }
    }
}

/* ---- learning ---- */

static bool inherit(struct cwalk *w, int64_t now)
{
    const struct cident *id = w->d->ident;
    if (id->walks[w->kind].until_ns < now) {
        return false;
    }
    w->order = id->walks[w->kind].order;
    w->window = id->walks[w->kind].window;
    return true;
}

static void walked(struct cache *c, struct cwalk *w, const char *name)
{
    size_t at[ORDERS];
    if (!place_of(w, name, at)) {
        return;
    }
    int64_t now = time_mono_ns();
    w->used_ns = now;
    if (w->order < 0 && w->begun) {
        for (int o = 0; o < ORDERS && w->order < 0; o++) {
            if (at[o] > w->last[o] && at[o] - w->last[o] <= STEP) {
                w->order = o;
                w->window = WINDOW_FIRST;
                w->ahead = w->to = at[o] + 1;
            }
        }
    } else if (w->order < 0) {
        if (inherit(w, now)) {
            w->ahead = w->to = at[w->order] + 1;
        }
    } else if (at[w->order] + SLACK >= w->to && at[w->order] <= w->ahead + STEP) {
        w->window = MIN(w->window * 2, WINDOW_MAX);
        w->to = MAX(w->to, at[w->order] + 1);
        w->ahead = MAX(w->ahead, w->to);
    } else if ((w->window /= 2) < WINDOW_FIRST) {
        w->order = -1;
    }
    w->begun = true;
    memcpy(w->last, at, sizeof(at));
    if (w->order >= 0) {
        w->d->ident->walks[w->kind] = (struct walk_now){.order = w->order, .window = w->window, .until_ns = now + GOES_ON_NS};
        prefetch_more(c, w->d->ident);
    }
}

void prefetch_read(struct cache *c, const struct ckey *k)
{
    mutex_assert_held(&c->lock);
    size_t len = key_parent_len(k->key);
    struct cdirnode *d = dir_find(c, k->ident, k->key, len);
    struct cwalk *w = d != NULL ? walk_of(c, d, WALK_FILES) : NULL;
    if (w != NULL) {
        walked(c, w, k->key + len);
    }
}

void prefetch_listed(struct cache *c, struct cdirnode *d)
{
    mutex_assert_held(&c->lock);
    int64_t now = time_mono_ns();
    struct cident *id = d->ident;
    if (!d->walked_to) {
        return;
    }
    for (int kind = 0; kind < WALK_KINDS; kind++) {
        struct cwalk *w = id->walks[kind].until_ns >= now ? walk_of(c, d, (enum walk_kind)kind) : NULL;
        if (w != NULL && w->order < 0 && !w->begun && inherit(w, now)) {
            w->used_ns = now;
            w->to = w->ahead = 0;
        }
    }
    prefetch_more(c, id);
}

void prefetch_list_ended(struct cdirnode *d)
{
    if (d->list_ahead) {
        d->list_ahead = false;
        d->ident->lists_ahead--;
    }
}

void prefetch_opened(struct cache *c, struct cdirnode *d)
{
    mutex_assert_held(&c->lock);
    d->walked_to = true;
    size_t len = key_parent_len(d->prefix);
    struct cdirnode *up = d->len > 0 ? dir_find(c, d->ident, d->prefix, len) : NULL;
    struct cwalk *w = up != NULL ? walk_of(c, up, WALK_DIRS) : NULL;
    if (w != NULL) {
        walked(c, w, d->prefix + len);
    }
    if (d->complete && !d->listing) {
        prefetch_listed(c, d);
    }
}

void prefetch_failed(struct cache *c, struct cident *id)
{
    mutex_assert_held(&c->lock);
    memset(id->walks, 0, sizeof(id->walks));
    for (struct cwalk *w = c->walks; w != NULL; w = w->next) {
        if (w->d->ident == id) {
            w->order = -1;
        }
    }
}

void prefetch_tick(struct cache *c, int64_t now)
{
    mutex_assert_held(&c->lock);
    struct cwalk *next;
    for (struct cwalk *w = c->walks; w != NULL; w = next) {
        next = w->next;
        if (now - w->used_ns > FORGOTTEN_NS) {
            walk_free(c, w);
        }
    }
    reader_forget_ahead(c, now - FORGOTTEN_NS);
}

void prefetch_end(struct cache *c)
{
    while (c->walks != NULL) {
        walk_free(c, c->walks);
    }
    reader_forget_ahead(c, INT64_MAX);
}
