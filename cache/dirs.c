/* Listings: which names a directory has, and what stat(2) shows of them.
 *
 * A directory node holds the children of one key prefix as the last listing brought them, corrected by every local change at
 * once (dir_note). While `complete` and fresh it answers for every name, absent ones too, without a request. A page never
 * contradicts a name changed after its request was sent (rules E3): for such names the slot speaks, and a slot stays
 * for two list_ttl after its last change.
 *
 * Lookups and readdirs that need more wait at the node (lookup.c) and are tried again with each page. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "mem.h"

#define LISTING_SHARE 5 /* a listing stays fresh so many times as long as it took, at least: */
#define LISTING_TTLS 10 /* up to so many times as long as others do, for what took long may have been an outage */

#define TIMES_LOOK_NS 100000000LL /* between two looks at what is on its way into a directory, and more */
#define TIMES_CHILD_NS 20000LL    /* for each name in it, which takes a twentieth of that */

struct dirlist {
    struct be_list l;
    struct cache *c;
    struct cdirnode *d;
    char *cursor;
    struct ledger_rows {
        struct jledger *v;
        size_t n, cap;
    } rows;
    struct be_stat *heads; /* of objects the ledger does not know, when their attributes are wanted */
    unsigned n_heads, pending; /* pending: atomic */
    bool sampling;
};

static size_t dir_hash(uint32_t ident, const char *p, size_t len)
{
    uint64_t h = 0xcbf29ce484222325ULL ^ ((uint64_t)ident << 32);
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (uint8_t)p[i]) * 1099511628211ULL;
    }
    return (size_t)(h ^ (h >> 31));
}

size_t key_parent_len(const char *key)
{
    size_t n = strlen(key);
    if (n > 0 && key[n - 1] == '/') {
        n--;
    }
    while (n > 0 && key[n - 1] != '/') {
        n--;
    }
    return n;
}

bool prefix_is_continued(const char *prefix)
{
    size_t n = strlen(prefix);
    return n > 0 && prefix[n - 1] != '/';
}

size_t prefix_listed_len(const char *prefix)
{
    return prefix_is_continued(prefix) ? key_parent_len(prefix) : strlen(prefix);
}

bool key_is_content(const char *key, uint64_t size)
{
    size_t n = strlen(key);
    return n > 0 && key[n - 1] == '/' && size > 0;
}

struct cdirnode *dir_find(struct cache *c, struct cident *id, const char *prefix, size_t len)
{
    mutex_assert_held(&c->lock);
    if (c->n_dir_buckets == 0) {
        return NULL;
    }
    struct cdirnode *d = c->dirs[dir_hash(id->id, prefix, len) & (c->n_dir_buckets - 1)];
    while (d != NULL && (d->ident != id || d->len != len || memcmp(d->prefix, prefix, len) != 0)) {
        d = d->hash_next;
    }
    return d;
}

struct cdirnode *dir_get(struct cache *c, struct cident *id, const char *prefix, size_t len)
{
    struct cdirnode *d = dir_find(c, id, prefix, len);
    if (d != NULL) {
        return d;
    }
    if (c->n_dirs >= c->n_dir_buckets) {
        size_t n = c->n_dir_buckets == 0 ? 256 : c->n_dir_buckets * 2;
        struct cdirnode **b = mem_zalloc(n * sizeof(*b));
        for (size_t i = 0; i < c->n_dir_buckets; i++) {
            struct cdirnode *next;
            for (struct cdirnode *x = c->dirs[i]; x != NULL; x = next) {
                next = x->hash_next;
                size_t h = dir_hash(x->ident->id, x->prefix, x->len) & (n - 1);
                x->hash_next = b[h];
                b[h] = x;
            }
        }
        free(c->dirs);
        c->dirs = b;
        c->n_dir_buckets = n;
    }
    d = mem_zalloc(sizeof(*d) + len + 1);
    d->ident = id;
    d->len = len;
    memcpy(d->prefix, prefix, len);
    size_t h = dir_hash(id->id, prefix, len) & (c->n_dir_buckets - 1);
    d->hash_next = c->dirs[h];
    c->dirs[h] = d;
    c->n_dirs++;
    return d;
}

void dir_hold(struct cache *c, struct ckey *k)
{
    mutex_assert_held(&c->lock);
    if (k->dir == NULL) {
        bool content = k->key[k->key_len - 1] == '/' && k->file != NULL && !k->file->is_marker;
        k->dir = dir_get(c, k->ident, k->key, content ? k->key_len : key_parent_len(k->key));
        k->dir->refs++;
    }
}

void dir_let_go(struct ckey *k)
{
    if (k->dir != NULL) {
        TAKE(k->dir)->refs--;
    }
}

struct cchild *dir_child(struct cdirnode *d, const char *name, size_t len)
{
    if (d->n_buckets == 0) {
        return NULL;
    }
    struct cchild *ch = d->buckets[dir_hash(0, name, len) & (d->n_buckets - 1)];
    while (ch != NULL && (ch->len != len || memcmp(ch->name, name, len) != 0)) {
        ch = ch->hash_next;
    }
    return ch;
}

void child_unref(struct cchild *ch)
{
    if (--ch->refs == 0) {
        free(ch);
    }
}

static struct cchild *child_add(struct cdirnode *d, const char *name, size_t len)
{
    if (d->n_children >= d->n_buckets) {
        size_t n = d->n_buckets == 0 ? 16 : d->n_buckets * 2;
        struct cchild **b = mem_zalloc(n * sizeof(*b));
        for (size_t i = 0; i < d->n_buckets; i++) {
            struct cchild *next;
            for (struct cchild *x = d->buckets[i]; x != NULL; x = next) {
                next = x->hash_next;
                size_t h = dir_hash(0, x->name, x->len) & (n - 1);
                x->hash_next = b[h];
                b[h] = x;
            }
        }
        free(d->buckets);
        d->buckets = b;
        d->n_buckets = n;
    }
    struct cchild *ch = mem_zalloc(sizeof(*ch) + len + 1);
    ch->refs = 1;
    ch->len = (uint16_t)len;
    memcpy(ch->name, name, len);
    ch->is_dir = len > 0 && name[len - 1] == '/';
    size_t h = dir_hash(0, name, len) & (d->n_buckets - 1);
    ch->hash_next = d->buckets[h];
    d->buckets[h] = ch;
    d->n_children++;
    return ch;
}

static void child_remove(struct cdirnode *d, struct cchild *ch)
{
    struct cchild **pp = &d->buckets[dir_hash(0, ch->name, ch->len) & (d->n_buckets - 1)];
    while (*pp != ch) {
        pp = &(*pp)->hash_next;
    }
    *pp = ch->hash_next;
    d->n_children--;
    ch->gone = true;
    child_unref(ch);
}

static void order_clear(struct cdirnode *d)
{
    for (size_t i = 0; i < d->n_order; i++) {
        child_unref(d->order[i]);
    }
    free(d->order);
    d->order = NULL;
    d->n_order = d->cap_order = 0;
}

static void order_add(struct cdirnode *d, struct cchild *ch)
{
    if (d->n_order == d->cap_order) {
        d->cap_order = d->cap_order == 0 ? 64 : d->cap_order * 2;
        d->order = mem_realloc(d->order, d->cap_order * sizeof(*d->order));
    }
    ch->refs++;
    ch->place = (uint32_t)d->n_order;
    d->order[d->n_order++] = ch;
}

void child_set_version(struct cchild *ch, const struct be_object *o)
{
    if (strlen(o->etag) < sizeof(ch->etag)) {
        memcpy(ch->etag, o->etag, strlen(o->etag) + 1);
    } else {
        ch->etag[0] = '\0';
    }
    ch->has_md5 = o->etag_is_md5;
    ch->mtime_ns = o->mtime_ns;
    ch->attr.size = o->size;
    ch->unseen = false;
}

/* A name came or went: the directory's time, as this mount shows it. It is not stored: no provider keeps such a time, and a
 * marker written for every new file would cost more than it tells. */
static void dir_touch(struct cache *c, struct cident *id, const char *key, size_t len)
{
    CLEANUP(mem_freep) char *dir = mem_strndup(key, len);
    size_t up = key_parent_len(dir);
    struct cdirnode *d = len > up ? dir_find(c, id, dir, up) : NULL;
    struct cchild *ch = d != NULL ? dir_child(d, dir + up, len - up) : NULL;
    struct ckey *k = key_find(c, id, dir);
    if (ch != NULL) {
        ch->attr.mtime_ns = ch->attr.ctime_ns = time_wall_ns();
    }
    if (k != NULL && k->file != NULL && k->file->is_marker) {
        k->file->attr.mtime_ns = k->file->attr.ctime_ns = time_wall_ns();
    }
}

/* Under way, but only when its writer has closed it, or a remote takes us again. */
static bool waits_for_others(const struct ckey *k)
{
    bool under_way = k->on_dirty && k->state != FS_BLOCKED && k->state != FS_CONFLICT;
    bool open = k->state == FS_DIRTY && !k->want_absent && k->file != NULL && !k->file->sealed;
    return under_way && (open || pause_waits(k));
}

bool dir_time_changes(struct cache *c, struct ckey *marker, int64_t now_ns, int64_t *ret_wait_ns)
{
    const struct cdirnode *d = dir_find(c, marker->ident, marker->key, marker->key_len);
    int left = d != NULL ? d->under_way - (marker->dir == d ? 1 : 0) : 0;
    if (left <= 0) {
        marker->due_ns = marker->tries == 0 ? MIN(marker->due_ns, now_ns) : marker->due_ns;
        return false;
    }
    if (marker->due_ns > now_ns) { /* not at every look: there may be a million names */
        *ret_wait_ns = MIN(*ret_wait_ns, marker->due_ns);
        return true;
    }
    for (size_t i = 0; i < d->n_buckets; i++) { /* what is removed is not among them */
        for (const struct cchild *ch = d->buckets[i]; ch != NULL; ch = ch->hash_next) {
            CLEANUP(mem_freep) char *key = mem_printf("%s%s", d->prefix, ch->name);
            const struct ckey *k = key_find(c, d->ident, key);
            left -= k != NULL && k != marker && waits_for_others(k);
        }
    }
    if (left > 0) {
        marker->due_ns = now_ns + TIMES_LOOK_NS + (int64_t)d->n_children * TIMES_CHILD_NS;
        *ret_wait_ns = MIN(*ret_wait_ns, marker->due_ns);
    }
    return left > 0;
}

bool dir_time_changed(struct cache *c, const struct ckey *marker)
{
    const struct cdirnode *d = dir_find(c, marker->ident, marker->key, marker->key_len);
    return d != NULL && d->settled_ns >= marker->changed_ns;
}

void dir_note(struct cache *c, struct cident *id, const char *key, const struct cattr *attr, const struct cver *v,
              bool gone)
{
    mutex_assert_held(&c->lock);
    size_t klen = strlen(key);
    bool content = !gone && klen > 0 && key[klen - 1] == '/' &&
                   (attr != NULL ? !S_ISDIR(attr->mode) : v != NULL && v->known && v->exists && key_is_content(key, v->o.size));
    size_t plen = content ? klen : key_parent_len(key);
    struct cdirnode *d = dir_find(c, id, key, plen);
    if (d == NULL || (plen == klen && !content)) {
        return;
    }
    const char *name = key + plen;
    size_t len = strlen(name);
    struct cchild *ch = dir_child(d, name, len);
    if (gone) {
        if (ch != NULL) {
            child_remove(d, ch);
            dir_touch(c, id, key, plen);
        }
        return;
    }
    if (ch == NULL) {
        dir_touch(c, id, key, plen);
        ch = child_add(d, name, len);
        meta_defaults(c, &ch->attr, ch->is_dir);
    }
    if (v != NULL && v->known && v->exists) {
        child_set_version(ch, &v->o);
    }
    if (attr != NULL) {
        ch->attr = *attr;
    }
}

void dir_note_pending(struct cache *c, struct ckey *k)
{
    struct cattr attr = k->file->attr;
    attr.size = k->file->map.size;
    dir_hold(c, k);
    dir_note(c, k->ident, k->key, &attr, NULL, false);
}

void dir_note_content_gone(struct cache *c, struct cident *id, const char *key)
{
    mutex_assert_held(&c->lock);
    size_t klen = strlen(key);
    struct cdirnode *d = dir_find(c, id, key, klen);
    struct cchild *ch = d != NULL ? dir_child(d, "", 0) : NULL;
    if (ch != NULL) {
        child_remove(d, ch);
        d->has_marker = false;
        dir_touch(c, id, key, klen);
    }
}

void dir_note_form(struct cache *c, const struct cref *ref)
{
    mutex_assert_held(&c->lock);
    size_t klen = strlen(ref->key);
    size_t plen = ref->key[klen - 1] == '/' ? klen : key_parent_len(ref->key);
    struct cdirnode *d = dir_find(c, ref->remote->ident, ref->key, plen);
    struct cchild *ch = d != NULL ? dir_child(d, ref->key + plen, klen - plen) : NULL;
    if (ch != NULL) {
        ch->as_object = ref->object_form;
    }
}

void dirs_note_parents(struct cache *c, struct cident *id, const char *key)
{
    CLEANUP(mem_freep) char *p = mem_strdup(key);
    size_t n;
    while ((n = key_parent_len(p)) > 0) {
        p[n] = '\0';
        size_t up = key_parent_len(p);
        struct cdirnode *d = dir_find(c, id, p, up);
        if (d == NULL || dir_child(d, p + up, n - up) != NULL) {
            return;
        }
        dir_note(c, id, p, NULL, NULL, false);
    }
}

bool dir_fresh(struct cache *c, const struct cdirnode *d, int64_t now_ns)
{
    int64_t ttl = (int64_t)c->opt.list_ttl_ms * 1000000LL;
    if (ttl > 0) {
        /* Else a very large one would be listed all the time. */
        ttl = MAX(ttl, MIN(LISTING_SHARE * (d->ended_ns - d->listed_ns), LISTING_TTLS * ttl));
    }
    return d->complete && (d->ours || now_ns - d->listed_ns < ttl);
}

static void dir_free(struct cdirnode *d)
{
    order_clear(d);
    for (size_t i = 0; i < d->n_buckets; i++) {
        struct cchild *next;
        for (struct cchild *x = d->buckets[i]; x != NULL; x = next) {
            next = x->hash_next;
            x->gone = true;
            child_unref(x);
        }
    }
    free(d->buckets);
    free(d->reached);
    free(d);
}

void dirs_free_all(struct cache *c)
{
    for (size_t i = 0; i < c->n_dir_buckets; i++) {
        struct cdirnode *next;
        for (struct cdirnode *d = c->dirs[i]; d != NULL; d = next) {
            next = d->hash_next;
            dir_free(d);
        }
    }
    free(c->dirs);
    c->dirs = NULL;
    c->n_dir_buckets = c->n_dirs = 0;
}

/* Whether the node has a name that no listing would bring back. */
static bool knows_more(const struct cdirnode *d)
{
    for (size_t i = 0; i < d->n_buckets; i++) {
        for (const struct cchild *ch = d->buckets[i]; ch != NULL; ch = ch->hash_next) {
            if (ch->as_object) {
                return true;
            }
        }
    }
    return false;
}

/* A directory made here of which the provider has nothing yet, or never will. */
static bool only_here(struct cache *c, const struct cdirnode *d)
{
    if (!d->ours) {
        return false;
    }
    if (c->opt.dirmarker == CACHE_DIRMARKER_NEVER || prefix_is_continued(d->prefix)) {
        return true;
    }
    const struct ckey *marker = key_find(c, d->ident, d->prefix);
    return marker != NULL && marker->state != FS_CLEAN;
}

/* Listings nobody used for a while go, but for those which alone have a name; a slot that changed holds its own. */
void dirs_trim(struct cache *c)
{
    int64_t now = time_mono_ns();
    int64_t keep = (int64_t)c->opt.list_ttl_ms * 1000000LL * 2;
    for (size_t i = 0; i < c->n_dir_buckets; i++) {
        struct cdirnode **pp = &c->dirs[i];
        while (*pp != NULL) {
            struct cdirnode *d = *pp;
            if (d->refs == 0 && d->waiters == NULL && !d->listing && now - d->used_ns > keep &&
                now - d->listed_ns > keep && !knows_more(d) && !only_here(c, d)) {
                *pp = d->hash_next;
                c->n_dirs--;
                dir_free(d);
            } else {
                pp = &d->hash_next;
            }
        }
    }
}

/* ---- listing ---- */

static void list_page(struct dirlist *p);

/* Whether the slot's own view outranks what a page asked for at sent_ns says. */
static bool slot_outranks(struct cache *c, struct cident *id, const char *key, bool dir, int64_t sent_ns)
{
    const struct ckey *k = key_find(c, id, key);
    return k != NULL && key_speaks_for(k, dir) && (k->state != FS_CLEAN || (k->changed_ns != 0 && k->changed_ns >= sent_ns));
}

/* Whether a directory is there though a listing begun at begun_ns lacks it: made here, or with changes below its name that the
 * listing could not see. Its own slot need not speak for it: what was a marker may be a file's content by now. */
static bool dir_outranks(struct cache *c, struct cident *id, const char *prefix, int64_t begun_ns)
{
    const struct cdirnode *d = dir_find(c, id, prefix, strlen(prefix));
    return d != NULL && (only_here(c, d) || d->under_way > 0 || d->settled_ns >= begun_ns);
}

static void listing_end(struct cache *c, struct cdirnode *d)
{
    for (size_t i = 0; i < d->n_buckets; i++) {
        struct cchild **pp = &d->buckets[i];
        while (*pp != NULL) {
            struct cchild *ch = *pp;
            CLEANUP(mem_freep) char *key = mem_printf("%s%s", d->prefix, ch->name);
            if (ch->stamp != d->stamp && !slot_outranks(c, d->ident, key, ch->is_dir, d->begun_ns) &&
                !(ch->is_dir && dir_outranks(c, d->ident, key, d->begun_ns))) {
                *pp = ch->hash_next;
                d->n_children--;
                ch->gone = true;
                child_unref(ch);
            } else {
                pp = &ch->hash_next;
            }
        }
    }
    d->complete = true;
    d->listing = false;
    d->listed_ns = d->begun_ns;
    d->ended_ns = time_mono_ns();
    d->err_status = 0;
}

static int ledger_collect(void *ctx, const struct jledger *row)
{
    struct ledger_rows *l = ctx;
    if (l->n == l->cap) {
        l->cap = l->cap == 0 ? 64 : l->cap * 2;
        l->v = mem_realloc(l->v, l->cap * sizeof(*l->v));
    }
    l->v[l->n] = *row;
    l->v[l->n].key = mem_strdup(row->key);
    l->v[l->n].meta = mem_strdup(row->meta != NULL ? row->meta : "");
    l->v[l->n].src_key = NULL;
    l->n++;
    return 0;
}

/* Ledger rows of a page: runs of objects between prefixes are read as ranges, so that the keys below a prefix are not. */
static void page_ledger(struct cache *c, struct cdirnode *d, const struct be_list *l, struct ledger_rows *ret)
{
    for (size_t i = 0; i < l->n_entries;) {
        const struct be_entry *e = &l->entries[i];
        size_t j = i;
        if (!e->is_prefix) {
            while (j + 1 < l->n_entries && !l->entries[j + 1].is_prefix) {
                j++;
            }
        }
        CLEANUP(mem_freep) char *to = mem_printf("%s\x01", l->entries[j].key);
        if (e->is_prefix) {
            struct jledger one;
            if (journal_ledger_get(c->journal, d->ident->id, e->key, &one) == 1) {
                ledger_collect(ret, &one);
                jledger_fini(&one);
            }
        } else {
            journal_ledger_range(c->journal, d->ident->id, e->key, to, ledger_collect, ret);
        }
        i = j + 1;
    }
}

static void ledger_free(struct ledger_rows *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].key);
        free(l->v[i].meta);
    }
    free(l->v);
}

/* The attributes the ledger keeps for exactly this version; first sight of a version of ours completes its row (rules D5). */
static void apply_ledger(struct cdirnode *d, struct cchild *ch, const struct be_entry *e, const struct jledger *row,
                         struct jtx *tx)
{
    if (e->is_prefix && key_is_content(row->key, row->size)) {
        return; /* a file's mode is none for the directory it is in */
    }
    if (row->meta == NULL || (!e->is_prefix && (strcmp(row->etag, e->object.etag) != 0 || row->size != e->object.size))) {
        return;
    }
    if (!e->is_prefix) {
        if (row->mtime_ns == 0) {
            jtx_ledger_seen(tx, d->ident->id, row->key, row->etag, row->size, e->object.mtime_ns);
        } else if (row->mtime_ns != e->object.mtime_ns) {
            return; /* the same bytes written again by somebody: its metadata may differ */
        }
    }
    struct kvlist meta = {0};
    if (kv_parse(&meta, row->meta) == 0) {
        meta_decode(&meta, &ch->attr);
    }
    kv_fini(&meta);
}

/* The ledger's row of an entry, when it is of that version. */
static const struct jledger *row_of(const struct dirlist *p, const struct be_entry *e)
{
    size_t lo = 0, hi = p->rows.n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int d = strcmp(p->rows.v[mid].key, e->key);
        if (d == 0) {
            return &p->rows.v[mid];
        }
        if (d < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

static void page_merge(struct dirlist *p);
static void heads_start(struct dirlist *p, bool sample);

/* A foreign object's attributes go into the ledger, so that nobody asks again (rules D5). */
static void head_ledger(struct dirlist *p, const struct be_stat *st, int64_t mtime_ns, struct jtx *tx)
{
    CLEANUP(buf_fini) struct buf meta = BUF_INIT;
    CLEANUP(mem_freep) char *key = mem_strdup(st->op.key);
    kv_format(&st->meta, &meta);
    char none[1] = "";
    struct jledger row = {.remote = p->d->ident->id, .key = key, .size = st->object.size, .mtime_ns = mtime_ns};
    memcpy(row.etag, st->object.etag, sizeof(row.etag));
    row.has_md5 = st->object.etag_is_md5 && hex_decode(st->object.etag, 16, row.md5);
    row.meta = meta.data != NULL ? meta.data : none;
    jtx_ledger_put(tx, &row);
    struct jledger one = row;
    ledger_collect(&p->rows, &one);
}

static int rows_by_key(const void *a, const void *b)
{
    return strcmp(((const struct jledger *)a)->key, ((const struct jledger *)b)->key);
}

static void heads_end(struct dirlist *p)
{
    struct cache *c = p->c;
    struct cident *id = p->d->ident;
    struct jtx *tx = jtx_new();
    bool posix = false;
    for (unsigned i = 0; i < p->n_heads; i++) {
        struct be_stat *st = &p->heads[i];
        const struct be_entry *e = st->op.owner2;
        if (st->op.status != 0 && st->op.err.cls == ERR_ABSENT && e->is_prefix) {
            head_ledger(p, st, 0, tx); /* no marker: nobody needs to ask again */
        } else if (st->op.status == 0) {
            posix = posix || meta_has_posix(&st->meta);
            head_ledger(p, st, e->is_prefix ? st->object.mtime_ns : e->object.mtime_ns, tx);
        }
        be_stat_fini(st);
    }
    if (p->rows.n > 1) {
        qsort(p->rows.v, p->rows.n, sizeof(*p->rows.v), rows_by_key);
    }
    bool all = p->sampling && posix;
    if (p->sampling) {
        CLEANUP(mem_freep) char *mark = mem_printf("foreign-attr-%u", id->id);
        cache_lock(c);
        id->foreign_posix = id->foreign_posix || posix;
        jtx_mark_put(tx, mark, id->foreign_posix ? -1 : (int64_t)id->samples);
        cache_unlock(c);
    }
    journal_submit(c->journal, tx, 0, NULL, NULL);
    free(p->heads);
    p->heads = NULL;
    p->n_heads = 0;
    if (all) {
        heads_start(p, false);
    } else {
        page_merge(p);
    }
}

static void head_done_page(struct be_op *op)
{
    struct dirlist *p = op->owner;
    if (__atomic_sub_fetch(&p->pending, 1, __ATOMIC_ACQ_REL) == 0) {
        heads_end(p);
    }
}

/* HEADs, in parallel, for what the ledger has no line of: objects, and the markers of directories seen for the first time.
 * A sample is the first, middle and last of them. */
static void heads_start(struct dirlist *p, bool sample)
{
    const struct be_entry **want = NULL;
    unsigned n = 0;
    cache_lock(p->c);
    for (size_t i = 0; i < p->l.n_entries; i++) {
        const struct be_entry *e = &p->l.entries[i];
        const struct jledger *row = row_of(p, e);
        const char *rest = e->key + p->d->len;
        bool known = e->is_prefix ? row != NULL || dir_child(p->d, rest, strlen(rest)) != NULL
                                  : row != NULL && strcmp(row->etag, e->object.etag) == 0 && row->size == e->object.size;
        if (!known && e->posix == NULL) {
            want = mem_realloc(want, (n + 1) * sizeof(*want));
            want[n++] = e;
        }
    }
    if (sample && n > 0) { /* a directory whose objects are all known tells nothing, and uses up no look */
        p->d->sampled = true;
        p->d->ident->samples++;
    }
    cache_unlock(p->c);
    if (sample && n > 3) {
        want[1] = want[n / 2];
        want[2] = want[n - 1];
        n = 3;
    }
    if (n == 0) {
        free(want);
        page_merge(p);
        return;
    }
    p->sampling = sample;
    p->n_heads = n;
    p->heads = mem_zalloc(n * sizeof(*p->heads));
    p->pending = n;
    struct be_stat *heads = p->heads;
    struct be *be = p->d->ident->be;
    for (unsigned i = 0; i < n; i++) {
        heads[i].op.key = want[i]->key;
        heads[i].op.owner2 = want[i];
        heads[i].op.owner = p;
        heads[i].op.lane = BE_LANE_SMALL;
        heads[i].op.done = head_done_page;
    }
    for (unsigned i = 0; i < n; i++) {
        be_stat(be, &heads[i]);
    }
    free(want);
}

/* attr=auto looks at a few objects of the first few directories that have foreign ones. */
#define SAMPLE_DIRS 4

static void list_done(struct be_op *op)
{
    struct dirlist *p = op->owner;
    struct cache *c = p->c;
    struct cident *id = p->d->ident;
    if (op->status != 0) {
        page_merge(p);
        return;
    }
    page_ledger(c, p->d, &p->l, &p->rows);
    cache_lock(c);
    enum cache_attr attr = c->opt.attr;
    bool all = attr == CACHE_ATTR_HEAD || (attr == CACHE_ATTR_AUTO && id->foreign_posix);
    bool sample = !all && attr == CACHE_ATTR_AUTO && !p->d->sampled && id->samples < SAMPLE_DIRS && p->l.n_entries > 0;
    cache_unlock(c);
    if ((id->caps & BE_CAP_USER_META) && (all || sample)) {
        heads_start(p, sample);
    } else {
        page_merge(p);
    }
}

static void page_merge(struct dirlist *p)
{
    struct be_op *op = &p->l.op;
    struct cache *c = p->c;
    struct cdirnode *d = p->d;
    struct jtx *tx = jtx_new();
    cache_lock(c);
    if (op->status != 0) {
        d->err = op->err;
        d->err_status = err_to_errno(&op->err);
        if (d->err_status == -ENOENT || d->err_status == -EINVAL) {
            d->err_status = -EIO; /* "absent" is a missing bucket, not a missing name, and the caller asked for nothing invalid */
        }
        d->listing = false;
        char line[512];
        log_limited(LOG_LEVEL_WARN, "list", d->ident->name, 10000, "remote=%s prefix=%s failed: %s", d->ident->name,
                    d->prefix, err_format(&op->err, line, sizeof(line)));
    } else {
        for (size_t i = 0; i < p->l.n_entries; i++) {
            struct be_entry *e = &p->l.entries[i];
            if (strncmp(e->key, d->prefix, d->len) != 0) {
                continue; /* a server that ignores prefix: not ours to show */
            }
            const struct jledger *led = row_of(p, e);
            const char *rest = e->key + d->len;
            if (*rest == '\0') {
                d->has_marker = true;
                if (e->object.size == 0 && !e->unseen) {
                    continue;
                }
            }
            if (slot_outranks(c, d->ident, e->key, e->is_prefix, d->page_sent_ns)) {
                continue;
            }
            size_t len = strlen(rest);
            struct cchild *ch = dir_child(d, rest, len);
            if (ch == NULL) {
                ch = child_add(d, rest, len);
            }
            bool same = ch->stamp != 0 && strcmp(ch->etag, e->object.etag) == 0 && ch->mtime_ns == e->object.mtime_ns;
            bool holds = e->unseen && unseen_holds(c, ch);
            if (!holds && (!same || led != NULL)) {
                meta_defaults(c, &ch->attr, e->is_prefix);
                if (!e->is_prefix) {
                    child_set_version(ch, &e->object);
                    ch->attr.mtime_ns = ch->attr.ctime_ns = e->object.mtime_ns;
                }
                if (e->posix != NULL) {
                    meta_decode(e->posix, &ch->attr);
                }
                if (led != NULL && !e->unseen) {
                    apply_ledger(d, ch, e, led, tx);
                }
            }
            if (e->unseen && !holds) {
                unseen_found(ch);
            }
            ch->stamp = d->stamp;
            order_add(d, ch);
        }
        if (p->l.n_entries > 0) {
            free(d->reached);
            d->reached = mem_strdup(p->l.entries[p->l.n_entries - 1].key);
        }
        if (p->l.next_cursor == NULL) {
            listing_end(c, d);
        }
    }
    bool more = op->status == 0 && p->l.next_cursor != NULL && !c->closing;
    d->listing = more; /* before the waiters: they may start the next one */
    if (!more) {
        prefetch_list_ended(d);
    }
    dir_waiters_try(c, d);
    if (d->complete && !d->listing) {
        prefetch_listed(c, d);
    }
    if (more) {
        d->page_sent_ns = time_mono_ns();
    } else {
        d->refs--;
        cache_async_end_locked(c);
    }
    if (jtx_empty(tx)) {
        jtx_free(tx);
    } else {
        journal_submit(c->journal, tx, 0, NULL, NULL);
    }
    cache_unlock(c);
    ledger_free(&p->rows);
    memset(&p->rows, 0, sizeof(p->rows));
    free(p->cursor);
    p->cursor = more ? TAKE(p->l.next_cursor) : NULL;
    be_list_fini(&p->l);
    if (more) {
        list_page(p);
    } else {
        free(p);
    }
}

static void list_page(struct dirlist *p)
{
    memset(&p->l, 0, sizeof(p->l));
    p->l.op.lane = BE_LANE_FOREGROUND;
    p->l.op.owner = p;
    p->l.op.done = list_done;
    /* A server that sends its page byte by byte never stalls. */
    p->l.op.deadline_ns = time_mono_ns() + (int64_t)p->c->opt.wait_timeout_ms * 1000000LL;
    p->l.prefix = p->d->prefix;
    p->l.delimiter = '/';
    p->l.cursor = p->cursor;
    be_list(p->d->ident->be, &p->l);
}

struct list_start {
    struct work w;
    struct dirlist *p;
};

static void list_start_run(struct work *w)
{
    struct list_start *s = CONTAINER_OF(w, struct list_start, w);
    struct dirlist *p = s->p;
    free(s);
    list_page(p);
}

void dir_list_start(struct cache *c, struct cdirnode *d)
{
    mutex_assert_held(&c->lock);
    if (d->listing) {
        return;
    }
    if (d->ident->be == NULL) {
        d->err_status = -EIO;
        return;
    }
    d->listing = true;
    d->look_window = 0;
    d->complete = d->complete && !d->ours; /* an old complete listing goes on answering readers that started on it */
    d->err_status = 0;
    d->has_marker = false;
    d->stamp++;
    order_clear(d);
    free(d->reached);
    d->reached = NULL;
    d->begun_ns = d->page_sent_ns = time_mono_ns();
    d->refs++;
    cache_async_begin_locked(c);
    struct dirlist *p = mem_zalloc(sizeof(*p));
    p->c = c;
    p->d = d;
    struct list_start *s = mem_zalloc(sizeof(*s));
    s->w.run = list_start_run;
    s->p = p;
    pool_submit(c->workers, &s->w);
}
