#include "store.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#include "mem.h"

/* --- bytes --- */

struct blob *blob_new(size_t len)
{
    struct blob *b = malloc(sizeof(*b) + len);
    if (b) {
        atomic_init(&b->refs, 1);
        b->len = len;
    }
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void blob_unref(struct blob *b)
{
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        free(b);
    }
}

void segs_add(struct segs *s, struct blob *b, size_t offset, size_t len)
{
    if (len == 0) {
        return;
    }
    s->items = mem_realloc(s->items, (s->n + 1) * sizeof(*s->items));
    s->items[s->n++] = (struct seg){blob_ref(b), offset, len};
    s->size += len;
}

void segs_add_range(struct segs *s, const struct segs *from, uint64_t offset, uint64_t len)
{
    for (size_t i = 0; i < from->n && len > 0; i++) {
        const struct seg *g = &from->items[i];
        if (offset >= g->len) {
            offset -= g->len;
            continue;
        }
        size_t n = (size_t)MIN((uint64_t)g->len - offset, len);
        segs_add(s, g->blob, g->offset + (size_t)offset, n);
        offset = 0;
        len -= n;
    }
}

void segs_fini(struct segs *s)
{
    for (size_t i = 0; i < s->n; i++) {
        blob_unref(s->items[i].blob);
    }
    free(s->items);
    *s = (struct segs){0};
}

void segs_md5(const struct segs *s, uint8_t ret[16])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    ENSURE(ctx && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1);
    for (size_t i = 0; i < s->n; i++) {
        const struct seg *g = &s->items[i];
        ENSURE(EVP_DigestUpdate(ctx, g->blob->data + g->offset, g->len) == 1);
    }
    ENSURE(EVP_DigestFinal_ex(ctx, ret, NULL) == 1);
    EVP_MD_CTX_free(ctx);
}

/* --- objects and uploads --- */

static void name_set(struct named *name, const char *key, size_t len)
{
    name->key = mem_zalloc(len + 1);
    memcpy(name->key, key, len);
    name->len = len;
}

struct object *object_new(const char *key, size_t len)
{
    struct object *o = mem_zalloc(sizeof(*o));
    atomic_init(&o->refs, 1);
    name_set(&o->name, key, len);
    o->mtime_ms = now_ms();
    return o;
}

struct object *object_ref(struct object *o)
{
    atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void object_unref(struct object *o)
{
    if (o && atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1) {
        segs_fini(&o->data);
        kv_fini(&o->meta);
        free(o->name.key);
        free(o);
    }
}

void upload_free(struct upload *u)
{
    for (size_t i = 0; i < u->n_parts; i++) {
        segs_fini(&u->parts[i].data);
    }
    free(u->parts);
    kv_fini(&u->meta);
    free(u->name.key);
    free(u);
}

void upload_set_part(struct upload *u, struct part *p)
{
    size_t at = u->n_parts;
    while (at > 0 && u->parts[at - 1].number >= p->number) {
        at--;
    }
    if (at < u->n_parts && u->parts[at].number == p->number) {
        segs_fini(&u->parts[at].data);
    } else {
        u->parts = mem_realloc(u->parts, (u->n_parts + 1) * sizeof(*u->parts));
        memmove(u->parts + at + 1, u->parts + at, (u->n_parts - at) * sizeof(*u->parts));
        u->n_parts++;
    }
    u->parts[at] = *p;
    p->data = (struct segs){0};
}

/* --- index --- */

static int compare(const struct named *a, const char *key, size_t len)
{
    int c = memcmp(a->key, key, MIN(a->len, len));
    return c != 0 ? c : (a->len > len) - (a->len < len);
}

/* The leaf a key belongs to: the last one whose first item is not above it. */
static size_t leaf_of(const struct index *x, const char *key, size_t len)
{
    size_t low = 0, high = x->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (compare(x->leaves[mid]->items[0], key, len) <= 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low > 0 ? low - 1 : 0;
}

static size_t place_in(const struct leaf *l, const char *key, size_t len)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (compare(l->items[mid], key, len) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct cursor index_seek(const struct index *x, const char *key, size_t len)
{
    struct cursor c = {.index = x};
    if (x->n > 0) {
        c.leaf = leaf_of(x, key, len);
        c.item = place_in(x->leaves[c.leaf], key, len);
        if (c.item == x->leaves[c.leaf]->n) {
            c.leaf++;
            c.item = 0;
        }
    }
    return c;
}

struct named *cursor_item(const struct cursor *c)
{
    return c->leaf < c->index->n ? c->index->leaves[c->leaf]->items[c->item] : NULL;
}

void cursor_next(struct cursor *c)
{
    if (++c->item >= c->index->leaves[c->leaf]->n) {
        c->leaf++;
        c->item = 0;
    }
}

struct named *index_get(const struct index *x, const char *key, size_t len)
{
    struct cursor c = index_seek(x, key, len);
    struct named *item = cursor_item(&c);
    return item && compare(item, key, len) == 0 ? item : NULL;
}

static void add_leaf(struct index *x, size_t at, struct leaf *l)
{
    if (x->n == x->cap) {
        x->cap = x->cap > 0 ? 2 * x->cap : 16;
        x->leaves = mem_realloc(x->leaves, x->cap * sizeof(struct leaf *));
    }
    memmove(x->leaves + at + 1, x->leaves + at, (x->n - at) * sizeof(struct leaf *));
    x->leaves[at] = l;
    x->n++;
}

/* Keys that come in order leave full leaves behind. */
static void split(struct index *x, size_t at, size_t place)
{
    struct leaf *l = x->leaves[at], *right = mem_zalloc(sizeof(*right));
    size_t keep = place == l->n ? l->n - 1 : l->n / 2;
    right->n = l->n - keep;
    memcpy(right->items, l->items + keep, right->n * sizeof(l->items[0]));
    l->n = keep;
    add_leaf(x, at + 1, right);
}

struct named *index_put(struct index *x, struct named *item)
{
    if (x->n == 0) {
        add_leaf(x, 0, mem_zalloc(sizeof(struct leaf)));
        x->leaves[0]->items[x->leaves[0]->n++] = item;
        x->count++;
        return NULL;
    }
    size_t at = leaf_of(x, item->key, item->len);
    struct leaf *l = x->leaves[at];
    size_t place = place_in(l, item->key, item->len);
    if (place < l->n && compare(l->items[place], item->key, item->len) == 0) {
        struct named *old = l->items[place];
        l->items[place] = item;
        return old;
    }
    if (l->n == LEAF_MAX) {
        split(x, at, place);
        if (place > l->n) {
            place -= l->n;
            l = x->leaves[at + 1];
        }
    }
    memmove(l->items + place + 1, l->items + place, (l->n - place) * sizeof(l->items[0]));
    l->items[place] = item;
    l->n++;
    x->count++;
    return NULL;
}

struct named *index_remove(struct index *x, const char *key, size_t len)
{
    struct cursor c = index_seek(x, key, len);
    struct named *item = cursor_item(&c);
    if (!item || compare(item, key, len) != 0) {
        return NULL;
    }
    struct leaf *l = x->leaves[c.leaf];
    memmove(l->items + c.item, l->items + c.item + 1, (l->n - c.item - 1) * sizeof(l->items[0]));
    x->count--;
    if (--l->n == 0) {
        free(l);
        x->n--;
        memmove(x->leaves + c.leaf, x->leaves + c.leaf + 1,
                (x->n - c.leaf) * sizeof(struct leaf *));
    }
    return item;
}

static void index_fini(struct index *x)
{
    for (size_t i = 0; i < x->n; i++) {
        free(x->leaves[i]);
    }
    free(x->leaves);
    *x = (struct index){0};
}

/* --- buckets --- */

static struct bucket *buckets;
static pthread_rwlock_t buckets_lock = PTHREAD_RWLOCK_INITIALIZER;

struct bucket *bucket_first(void)
{
    (void)pthread_rwlock_rdlock(&buckets_lock);
    struct bucket *b = buckets;
    (void)pthread_rwlock_unlock(&buckets_lock);
    return b;
}

static struct bucket *find_from(struct bucket *b, const char *name, size_t len)
{
    while (b && (strlen(b->name) != len || memcmp(b->name, name, len) != 0)) {
        b = b->next;
    }
    return b;
}

struct bucket *bucket_find(const char *name, size_t len)
{
    return find_from(bucket_first(), name, len);
}

struct bucket *bucket_make(const char *name)
{
    (void)pthread_rwlock_wrlock(&buckets_lock);
    struct bucket *b = find_from(buckets, name, strlen(name));
    if (!b) {
        b = mem_zalloc(sizeof(*b));
        b->name = mem_strdup(name);
        b->made_ms = now_ms();
        (void)pthread_rwlock_init(&b->lock, NULL);
        b->next = buckets;
        buckets = b;
    }
    (void)pthread_rwlock_unlock(&buckets_lock);
    return b;
}

void bucket_set_locked(struct bucket *b, const char *key, size_t len, struct object *o)
{
    struct named *old = o ? index_put(&b->objects, &o->name) : index_remove(&b->objects, key, len);
    object_unref(old ? CONTAINER_OF(old, struct object, name) : NULL);
}

struct object *bucket_get(struct bucket *b, const char *key, size_t len)
{
    (void)pthread_rwlock_rdlock(&b->lock);
    struct named *found = index_get(&b->objects, key, len);
    struct object *o = found ? object_ref(CONTAINER_OF(found, struct object, name)) : NULL;
    (void)pthread_rwlock_unlock(&b->lock);
    return o;
}

void bucket_clear(struct bucket *b)
{
    (void)pthread_rwlock_wrlock(&b->lock);
    for (size_t i = 0; i < b->objects.n; i++) {
        for (size_t k = 0; k < b->objects.leaves[i]->n; k++) {
            object_unref(CONTAINER_OF(b->objects.leaves[i]->items[k], struct object, name));
        }
    }
    index_fini(&b->objects);
    for (size_t i = 0; i < b->uploads.n; i++) {
        for (size_t k = 0; k < b->uploads.leaves[i]->n; k++) {
            upload_free(CONTAINER_OF(b->uploads.leaves[i]->items[k], struct upload, name));
        }
    }
    index_fini(&b->uploads);
    (void)pthread_rwlock_unlock(&b->lock);
}

/* --- names of versions --- */

int64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void etag_of_md5(const uint8_t md5[16], char ret[ETAG_SIZE])
{
    hex_encode(md5, 16, ret);
}

void etag_of_parts(const uint8_t *md5s, size_t n, char ret[ETAG_SIZE])
{
    uint8_t md5[16];
    ENSURE(EVP_Digest(md5s, 16 * n, md5, NULL, EVP_md5(), NULL) == 1);
    hex_encode(md5, 16, ret);
    (void)snprintf(ret + 32, ETAG_SIZE - 32, "-%zu", n);
}
