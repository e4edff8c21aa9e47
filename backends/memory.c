/* The reference store: every capability of the contract, in memory, as strict about limits and
 * conditions as S3 is. Tests of the layers above run on it, and the contract suite holds other
 * backends to what it does.
 *
 * A store is named by conf->bucket and shared by all backends of that name in the process; it lives
 * on when they are closed, so that a test may kill and reopen what is above. An unnamed store
 * belongs to one backend.
 *
 * Bytes and objects are immutable and counted: a read takes a reference under the lock and copies
 * without it, so it sees one version whatever is written meanwhile. Locks: the registry's and a
 * store's (both RANK_STORE, never together). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "digest.h"
#include "driver.h"
#include "mem.h"
#include "sync.h"

#define MAX_HEIGHT 20 /* of the skip list: enough for a million keys */
#define MAX_PARTS 10000

struct blob {
    unsigned refs; /* atomic */
    size_t len;
    char bytes[];
};

struct object {
    unsigned refs; /* atomic */
    struct blob *blob;
    struct be_object info;
    struct kvlist meta;
};

struct node {
    char *key;
    struct object *object;
    struct node *next[]; /* as many as its height */
};

struct part {
    unsigned number;
    struct blob *blob;
    uint8_t md5[DIGEST_MD5_LEN];
    uint64_t crc64;
};

struct upload {
    struct upload *next;
    char *key, *id;
    struct kvlist meta;
    int64_t initiated_ns;
    struct part *parts; /* by number */
    size_t n_parts;
};

struct store {
    struct store *next; /* registry lock */
    unsigned users;     /* registry lock */
    char *name;         /* "" = unnamed */
    char *identity;
    struct mutex lock; /* all below */
    struct node *head;
    uint64_t random;
    struct upload *uploads;
    unsigned long next_upload;
};

struct memory_be {
    struct be be;
    struct store *store;
    struct conf_limits lowered;
};

static struct mutex registry_lock = MUTEX_INIT(RANK_STORE);
static struct store *registry;     /* registry_lock */
static unsigned long next_unnamed; /* registry_lock */

static struct store *store_of(const struct be *be)
{
    return CONTAINER_OF(be, const struct memory_be, be)->store;
}

/* --- bytes and objects --- */

static struct blob *blob_new(size_t len)
{
    size_t size;
    if (ADD_OVERFLOWS(len, sizeof(struct blob), &size)) {
        return NULL;
    }
    struct blob *b = malloc(size);
    if (b) {
        b->refs = 1;
        b->len = len;
    }
    return b;
}

static struct blob *blob_ref(struct blob *b)
{
    __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

static void blob_unrefp(struct blob **b)
{
    if (*b && __atomic_sub_fetch(&(*b)->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        free(*b);
    }
}

static void object_unrefp(struct object **op)
{
    struct object *o = *op;
    if (o && __atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        blob_unrefp(&o->blob);
        kv_fini(&o->meta);
        free(o);
    }
}

/* Names of headers have no case; servers give them back in lower case. */
static void copy_meta(struct kvlist *dst, const struct kvlist *src)
{
    for (size_t i = 0; src && i < src->n; i++) {
        CLEANUP(mem_freep) char *name = mem_strdup(src->items[i].name);
        for (char *p = name; *p != '\0'; p++) {
            if (*p >= 'A' && *p <= 'Z') {
                *p = (char)(*p - 'A' + 'a');
            }
        }
        kv_set(dst, name, src->items[i].value);
    }
}

/* Takes the caller's reference of the blob. The etag is left to the caller. */
static struct object *object_new(struct blob *blob, const struct kvlist *meta, uint64_t crc64)
{
    struct object *o = mem_zalloc(sizeof(*o));
    o->refs = 1;
    o->blob = blob;
    copy_meta(&o->meta, meta);
    o->info.size = blob->len;
    o->info.mtime_ns = time_wall_ns();
    o->info.has_crc64 = true;
    o->info.crc64 = crc64;
    const char *cls = kv_get(&o->meta, "storage-class");
    if (cls && strcasecmp(cls, "standard") != 0) {
        (void)snprintf(o->info.storage_class, sizeof(o->info.storage_class), "%s", cls);
    }
    return o;
}

static void set_md5_etag(struct object *o, const uint8_t md5[DIGEST_MD5_LEN])
{
    hex_encode(md5, DIGEST_MD5_LEN, o->info.etag);
    o->info.etag_is_md5 = true;
}

/* --- the sorted map: a skip list --- */

/* The first node whose key is not below `key`, or NULL; `links`, if given, gets the links that
 * would point to it. */
static struct node *find_locked(struct store *s, const char *key, struct node **links[MAX_HEIGHT])
{
    struct node *at = s->head;
    for (int level = MAX_HEIGHT - 1; level >= 0; level--) {
        while (at->next[level] && strcmp(at->next[level]->key, key) < 0) {
            at = at->next[level];
        }
        if (links) {
            links[level] = &at->next[level];
        }
    }
    return at->next[0];
}

static struct node *get_locked(struct store *s, const char *key)
{
    struct node *n = find_locked(s, key, NULL);
    return n && strcmp(n->key, key) == 0 ? n : NULL;
}

static unsigned random_height_locked(struct store *s)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    unsigned height = 1;
    for (uint64_t bits = s->random >> 32; (bits & 3) == 0 && height < MAX_HEIGHT; bits >>= 2) {
        height++;
    }
    return height;
}

static struct node *node_new(const char *key, unsigned height)
{
    struct node *n = mem_zalloc(sizeof(*n) + height * sizeof(struct node *));
    n->key = mem_strdup(key);
    return n;
}

/* Takes the caller's reference. Returns the version that was there before, now the caller's, or
 * NULL. */
static struct object *put_locked(struct store *s, const char *key, struct object *o)
{
    struct node **links[MAX_HEIGHT];
    struct node *n = find_locked(s, key, links);
    if (n && strcmp(n->key, key) == 0) {
        struct object *before = n->object;
        n->object = o;
        return before;
    }
    unsigned height = random_height_locked(s);
    n = node_new(key, height);
    n->object = o;
    for (unsigned level = 0; level < height; level++) {
        n->next[level] = *links[level];
        *links[level] = n;
    }
    return NULL;
}

static struct object *remove_locked(struct store *s, const char *key)
{
    struct node **links[MAX_HEIGHT];
    struct node *n = find_locked(s, key, links);
    if (!n || strcmp(n->key, key) != 0) {
        return NULL;
    }
    for (unsigned level = 0; level < MAX_HEIGHT && *links[level] == n; level++) {
        *links[level] = n->next[level];
    }
    struct object *o = n->object;
    free(n->key);
    free(n);
    return o;
}

/* --- stores --- */

static void upload_free(struct upload *u)
{
    for (size_t i = 0; i < u->n_parts; i++) {
        blob_unrefp(&u->parts[i].blob);
    }
    free(u->parts);
    kv_fini(&u->meta);
    free(u->key);
    free(u->id);
    free(u);
}

static void store_free(struct store *s)
{
    struct node *n = s->head->next[0];
    while (n) {
        struct node *next = n->next[0];
        object_unrefp(&n->object);
        free(n->key);
        free(n);
        n = next;
    }
    free(s->head->key);
    free(s->head);
    while (s->uploads) {
        struct upload *u = s->uploads;
        s->uploads = u->next;
        upload_free(u);
    }
    mutex_fini(&s->lock);
    free(s->name);
    free(s->identity);
    free(s);
}

static struct store *store_open(const char *name)
{
    mutex_lock(&registry_lock);
    struct store *s = registry;
    while (s && (name[0] == '\0' || strcmp(s->name, name) != 0)) {
        s = s->next;
    }
    if (!s) {
        s = mem_zalloc(sizeof(*s));
        s->name = mem_strdup(name);
        s->identity = name[0] != '\0' ? mem_printf("memory:%s", name)
                                      : mem_printf("memory:#%lu", ++next_unnamed);
        mutex_init(&s->lock, RANK_STORE);
        s->head = node_new("", MAX_HEIGHT);
        s->next = registry;
        registry = s;
    }
    s->users++;
    mutex_unlock(&registry_lock);
    return s;
}

static void forget_locked(struct store *s)
{
    struct store **link = &registry;
    while (*link != s) {
        link = &(*link)->next;
    }
    *link = s->next;
    store_free(s);
}

void be_memory_forget(const char *bucket)
{
    mutex_lock(&registry_lock);
    struct store *s = registry;
    while (s && strcmp(s->name, bucket) != 0) {
        s = s->next;
    }
    if (s && s->users == 0) {
        forget_locked(s);
    }
    mutex_unlock(&registry_lock);
}

static int memory_open(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                       struct errinfo *reterr)
{
    struct memory_be *m = mem_zalloc(sizeof(*m));
    m->store = store_open(conf->bucket ? conf->bucket : "");
    m->lowered = conf->limits;
    *ret_be = &m->be;
    return 0;
}

static void memory_close(struct be *be)
{
    struct memory_be *m = CONTAINER_OF(be, struct memory_be, be);
    mutex_lock(&registry_lock);
    if (--m->store->users == 0 && m->store->name[0] == '\0') {
        forget_locked(m->store);
    }
    mutex_unlock(&registry_lock);
    free(m);
}

static void memory_describe(const struct be *be, uint32_t *ret_caps, struct be_limits *ret_limits)
{
    const struct conf_limits *low = &CONTAINER_OF(be, const struct memory_be, be)->lowered;
    *ret_caps = BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT | BE_CAP_USER_META | BE_CAP_MULTIPART |
                BE_CAP_COPY | BE_CAP_PART_COPY | BE_CAP_REMOVE_MANY | BE_CAP_LIST_STRONG |
                BE_CAP_CRC64 | BE_CAP_MP_ETAG_MD5S;
    *ret_limits = (struct be_limits){
        .max_object = 5ull << 40,
        .max_put = low->max_put ? low->max_put : 5ull << 30,
        .max_copy = low->max_copy ? low->max_copy : 5ull << 30,
        .min_part = low->min_part ? low->min_part : 5u << 20,
        .max_part = low->max_part ? low->max_part : 5ull << 30,
        .max_parts = MAX_PARTS,
        .max_key = 1024,
        .max_meta = 2048,
        .list_page = 1000,
        .batch = 1000,
    };
    ret_limits->min_part = MIN(ret_limits->min_part, ret_limits->max_part);
}

static const char *memory_identity(const struct be *be)
{
    return store_of(be)->identity;
}

static bool memory_can_copy(const struct be *dst, const struct be *src)
{
    return src->ops == &be_memory_ops;
}

/* --- objects --- */

static int fail_absent(struct be_op *op, const char *key)
{
    char text[BE_KEY_TEXT];
    return be_fail(op, ERR_ABSENT, "NoSuchKey", "no object '%s'",
                   be_key_text(key, text, sizeof(text)));
}

static int fail_changed(struct be_op *op, const char *key)
{
    char text[BE_KEY_TEXT];
    return be_fail(op, ERR_PRECOND, "PreconditionFailed", "'%s' is another version",
                   be_key_text(key, text, sizeof(text)));
}

static int fail_memory(struct be_op *op)
{
    return be_fail(op, ERR_LOCAL, "", "out of memory");
}

/* The current version, if it is the one asked for; the caller owns a reference. */
static int get_version(struct store *s, struct be_op *op, const char *key, const char *etag,
                       const char *version_id, struct object **ret)
{
    mutex_lock(&s->lock);
    struct node *n = get_locked(s, key);
    struct object *o = n ? n->object : NULL;
    if (o) {
        __atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
    }
    mutex_unlock(&s->lock);
    int err = 0;
    if (!o || (version_id && version_id[0] != '\0')) { /* no version has an id here */
        err = fail_absent(op, key);
    } else if (etag && strcmp(etag, o->info.etag) != 0) {
        err = fail_changed(op, key);
    }
    if (err < 0) {
        object_unrefp(&o);
        return err;
    }
    *ret = o;
    return 0;
}

/* Makes o the current version of the key if the conditions hold. */
static int publish(struct store *s, struct be_op *op, const char *if_match, bool if_absent,
                   struct object *o)
{
    mutex_lock(&s->lock);
    struct node *n = get_locked(s, op->key);
    bool ok =
        (!if_match || (n && strcmp(n->object->info.etag, if_match) == 0)) && !(if_absent && n);
    struct object *before = NULL;
    if (ok) {
        __atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
        before = put_locked(s, op->key, o);
    }
    mutex_unlock(&s->lock);
    object_unrefp(&before);
    return ok ? 0 : fail_changed(op, op->key);
}

static int run_stat(struct be_op *op)
{
    struct be_stat *o = CONTAINER_OF(op, struct be_stat, op);
    CLEANUP(object_unrefp) struct object *found = NULL;
    int err = get_version(store_of(op->be), op, op->key, NULL, NULL, &found);
    if (err < 0) {
        return err;
    }
    o->object = found->info;
    kv_copy(&o->meta, &found->meta);
    return 0;
}

static int run_read(struct be_op *op)
{
    struct be_read *o = CONTAINER_OF(op, struct be_read, op);
    CLEANUP(object_unrefp) struct object *found = NULL;
    int err = get_version(store_of(op->be), op, op->key, o->if_match, o->version_id, &found);
    if (err < 0) {
        return err;
    }
    size_t size = found->blob->len;
    if (o->offset < size) {
        o->got = MIN(o->len, size - (size_t)o->offset);
    }
    if (o->got > 0) {
        memcpy(o->buf, found->blob->bytes + o->offset, o->got);
    }
    o->object = found->info;
    kv_copy(&o->meta, &found->meta);
    return 0;
}

/* A copy of the caller's bytes, with their checksums, if they are what md5 says. */
static int take_bytes(struct be_op *op, const void *data, size_t len, const uint8_t *md5,
                      struct blob **ret_blob, uint8_t ret_md5[DIGEST_MD5_LEN], uint64_t *ret_crc64)
{
    struct blob *b = blob_new(len);
    if (!b) {
        return fail_memory(op);
    }
    if (len > 0) {
        memcpy(b->bytes, data, len);
    }
    digest_md5(b->bytes, len, ret_md5);
    if (md5 && memcmp(md5, ret_md5, DIGEST_MD5_LEN) != 0) {
        blob_unrefp(&b);
        return be_fail(op, ERR_INTEGRITY, "BadDigest", "the bytes do not have the MD5 given");
    }
    *ret_crc64 = crc64_update(0, b->bytes, len);
    *ret_blob = b;
    return 0;
}

static int run_write(struct be_op *op)
{
    struct be_write *o = CONTAINER_OF(op, struct be_write, op);
    struct blob *blob;
    uint8_t md5[DIGEST_MD5_LEN];
    uint64_t crc64;
    int err = take_bytes(op, o->data, o->len, o->md5, &blob, md5, &crc64);
    if (err < 0) {
        return err;
    }
    CLEANUP(object_unrefp) struct object *made = object_new(blob, o->meta, crc64);
    set_md5_etag(made, md5);
    err = publish(store_of(op->be), op, o->if_match, o->if_absent, made);
    if (err == 0) {
        o->object = made->info;
    }
    return err;
}

static int run_remove(struct be_op *op)
{
    struct be_remove *o = CONTAINER_OF(op, struct be_remove, op);
    struct store *s = store_of(op->be);
    mutex_lock(&s->lock);
    struct node *n = get_locked(s, op->key);
    bool changed = n && o->if_match && strcmp(n->object->info.etag, o->if_match) != 0;
    struct object *before = n && !changed ? remove_locked(s, op->key) : NULL;
    mutex_unlock(&s->lock);
    object_unrefp(&before);
    return changed ? fail_changed(op, op->key) : 0;
}

static int run_remove_many(struct be_op *op)
{
    struct be_many *o = CONTAINER_OF(op, struct be_many, op);
    struct store *s = store_of(op->be);
    o->errs = mem_zalloc(o->n_keys * sizeof(*o->errs));
    for (size_t i = 0; i < o->n_keys; i++) {
        mutex_lock(&s->lock);
        struct object *before = remove_locked(s, o->keys[i]);
        mutex_unlock(&s->lock);
        object_unrefp(&before);
    }
    return 0;
}

static int run_copy(struct be_op *op)
{
    struct be_copy *o = CONTAINER_OF(op, struct be_copy, op);
    CLEANUP(object_unrefp) struct object *from = NULL;
    int err = get_version(store_of(o->src), op, o->src_key, o->src_etag, o->src_version_id, &from);
    if (err < 0) {
        return err;
    }
    if (from->info.size > op->be->limits.max_copy) {
        return be_fail(op, ERR_INVALID, "InvalidRequest",
                       "the source is larger than one copy may be");
    }
    /* As on S3, the etag of a copy is the MD5 of all its bytes whatever the source's was. */
    uint8_t md5[DIGEST_MD5_LEN];
    digest_md5(from->blob->bytes, from->blob->len, md5);
    CLEANUP(object_unrefp)
    struct object *made = object_new(blob_ref(from->blob), o->meta, from->info.crc64);
    set_md5_etag(made, md5);
    err = publish(store_of(op->be), op, NULL, false, made);
    if (err == 0) {
        o->object = made->info;
    }
    return err;
}

/* --- lists --- */

/* The smallest string above everything that begins with s; NULL when there is none. */
static char *after_prefix(const char *s, size_t len)
{
    char *end = mem_strndup(s, len);
    while (len > 0 && (unsigned char)end[len - 1] == 0xff) {
        end[--len] = '\0';
    }
    if (len == 0) {
        free(end);
        return NULL;
    }
    end[len - 1] = (char)((unsigned char)end[len - 1] + 1);
    return end;
}

static struct node *step_over_locked(struct store *s, const char *prefix, size_t len)
{
    CLEANUP(mem_freep) char *end = after_prefix(prefix, len);
    return end ? find_locked(s, end, NULL) : NULL;
}

/* Length of the common prefix that shows instead of the key, or 0. */
static size_t rolled_up(const char *key, size_t prefix_len, char delimiter)
{
    const char *end = delimiter != 0 ? strchr(key + prefix_len, delimiter) : NULL;
    return end ? (size_t)(end - key) + 1 : 0;
}

/* A cursor is the last key or common prefix of the page before; which of them follows from the
 * delimiter. */
static struct node *list_start_locked(struct store *s, const struct be_list *o, size_t prefix_len)
{
    const char *after = o->cursor ? o->cursor : o->start_after;
    if (!after || strcmp(after, o->prefix) < 0) {
        return find_locked(s, o->prefix, NULL);
    }
    size_t up = 0;
    if (o->cursor && strncmp(after, o->prefix, prefix_len) == 0) {
        up = rolled_up(after, prefix_len, o->delimiter);
    }
    if (up > 0) {
        return step_over_locked(s, after, up);
    }
    struct node *n = find_locked(s, after, NULL);
    return n && strcmp(n->key, after) == 0 ? n->next[0] : n;
}

static int run_list(struct be_op *op)
{
    struct be_list *o = CONTAINER_OF(op, struct be_list, op);
    struct store *s = store_of(op->be);
    size_t prefix_len = strlen(o->prefix);
    unsigned page = op->be->limits.list_page;
    size_t max = o->max > 0 ? MIN(o->max, page) : page;
    o->entries = mem_zalloc(max * sizeof(*o->entries));
    mutex_lock(&s->lock);
    struct node *n = list_start_locked(s, o, prefix_len);
    while (n && strncmp(n->key, o->prefix, prefix_len) == 0) {
        if (o->n_entries == max) {
            o->next_cursor = mem_strdup(o->entries[max - 1].key);
            break;
        }
        struct be_entry *e = &o->entries[o->n_entries++];
        size_t up = rolled_up(n->key, prefix_len, o->delimiter);
        if (up > 0) {
            e->is_prefix = true;
            e->key = mem_strndup(n->key, up);
            n = step_over_locked(s, e->key, up);
        } else {
            e->key = mem_strdup(n->key);
            e->object = n->object->info;
            e->object.has_crc64 = false; /* no list tells it */
            e->object.crc64 = 0;
            n = n->next[0];
        }
    }
    mutex_unlock(&s->lock);
    o->server_date_ns = time_wall_ns();
    return 0;
}

/* --- multipart --- */

static struct upload **upload_link_locked(struct store *s, const char *key, const char *id)
{
    struct upload **link = &s->uploads;
    while (*link && (strcmp((*link)->id, id) != 0 || strcmp((*link)->key, key) != 0)) {
        link = &(*link)->next;
    }
    return link;
}

static int fail_no_upload(struct be_op *op)
{
    return be_fail(op, ERR_ABSENT, "NoSuchUpload", "no such upload");
}

static int run_mp_begin(struct be_op *op)
{
    struct be_mp *o = CONTAINER_OF(op, struct be_mp, op);
    struct store *s = store_of(op->be);
    struct upload *u = mem_zalloc(sizeof(*u));
    u->key = mem_strdup(op->key);
    copy_meta(&u->meta, o->meta);
    u->initiated_ns = time_wall_ns();
    mutex_lock(&s->lock);
    u->id = mem_printf("upload-%lu", ++s->next_upload);
    o->upload_id = mem_strdup(u->id); /* before others can end it */
    u->next = s->uploads;
    s->uploads = u;
    mutex_unlock(&s->lock);
    return 0;
}

static int part_bytes(struct be_op *op, struct be_part *o, struct part *ret)
{
    if (!o->src) {
        return take_bytes(op, o->data, o->len, o->md5, &ret->blob, ret->md5, &ret->crc64);
    }
    CLEANUP(object_unrefp) struct object *from = NULL;
    int err = get_version(store_of(o->src), op, o->src_key, o->src_etag, o->src_version_id, &from);
    if (err < 0) {
        return err;
    }
    size_t size = from->blob->len;
    if (o->src_offset > size || o->src_len > size - o->src_offset) {
        return be_fail(op, ERR_INVALID, "InvalidRange", "the source ends before the range does");
    }
    return take_bytes(op, from->blob->bytes + o->src_offset, (size_t)o->src_len, NULL, &ret->blob,
                      ret->md5, &ret->crc64);
}

/* Replaces the part of that number; *p then holds what was there before. */
static void store_part_locked(struct upload *u, struct part *p)
{
    size_t at = 0;
    while (at < u->n_parts && u->parts[at].number < p->number) {
        at++;
    }
    if (at < u->n_parts && u->parts[at].number == p->number) {
        struct part before = u->parts[at];
        u->parts[at] = *p;
        *p = before;
        return;
    }
    u->parts = mem_realloc(u->parts, (u->n_parts + 1) * sizeof(*u->parts));
    memmove(&u->parts[at + 1], &u->parts[at], (u->n_parts - at) * sizeof(*u->parts));
    u->parts[at] = *p;
    u->n_parts++;
    p->blob = NULL;
}

static int run_mp_part(struct be_op *op)
{
    struct be_part *o = CONTAINER_OF(op, struct be_part, op);
    struct store *s = store_of(op->be);
    struct part p = {.number = o->number};
    int err = part_bytes(op, o, &p);
    if (err < 0) {
        return err;
    }
    struct be_object info = {
        .size = p.blob->len, .etag_is_md5 = true, .has_crc64 = true, .crc64 = p.crc64};
    hex_encode(p.md5, DIGEST_MD5_LEN, info.etag);
    mutex_lock(&s->lock);
    struct upload *u = *upload_link_locked(s, op->key, o->upload_id);
    if (u) {
        store_part_locked(u, &p);
    }
    mutex_unlock(&s->lock);
    blob_unrefp(&p.blob);
    if (!u) {
        return fail_no_upload(op);
    }
    o->object = info;
    return 0;
}

static int fail_part(struct be_op *op, const char *code, unsigned number, const char *what)
{
    return be_fail(op, ERR_INVALID, code, "part %u %s", number, what);
}

static int find_part_locked(struct be_op *op, const struct upload *u, const struct be_part_id *id,
                            const struct part **ret)
{
    const struct part *p = NULL;
    for (size_t i = 0; i < u->n_parts && !p; i++) {
        p = u->parts[i].number == id->number ? &u->parts[i] : NULL;
    }
    char etag[2 * DIGEST_MD5_LEN + 1] = "";
    if (p) {
        hex_encode(p->md5, DIGEST_MD5_LEN, etag);
    }
    if (!p || strcmp(etag, id->etag) != 0) {
        return fail_part(op, "InvalidPart", id->number,
                         p ? "has another etag" : "was not uploaded");
    }
    *ret = p;
    return 0;
}

/* All parts of a commit as one object. The parts stay with the upload until the object is
 * published. */
static int assemble_locked(struct be_op *op, const struct upload *u, struct object **ret)
{
    struct be_commit *o = CONTAINER_OF(op, struct be_commit, op);
    size_t size = 0;
    for (size_t i = 0; i < o->n_parts; i++) {
        const struct part *p;
        int err = find_part_locked(op, u, &o->parts[i], &p);
        if (err < 0) {
            return err;
        }
        if (i + 1 < o->n_parts && p->blob->len < op->be->limits.min_part) {
            return fail_part(op, "EntityTooSmall", p->number, "is too small not to be the last");
        }
        if (ADD_OVERFLOWS(size, p->blob->len, &size) || size > op->be->limits.max_object) {
            return be_fail(op, ERR_INVALID, "EntityTooLarge",
                           "the parts are too much for one object");
        }
    }
    struct blob *blob = blob_new(size);
    if (!blob) {
        return fail_memory(op);
    }
    size_t at = 0;
    uint64_t crc64 = 0;
    struct digest_md5 of_md5s;
    digest_md5_init(&of_md5s);
    for (size_t i = 0; i < o->n_parts; i++) {
        const struct part *p = NULL;
        ENSURE(find_part_locked(op, u, &o->parts[i], &p) == 0);
        memcpy(blob->bytes + at, p->blob->bytes, p->blob->len);
        at += p->blob->len;
        crc64 = crc64_combine(crc64, p->crc64, p->blob->len);
        digest_md5_update(&of_md5s, p->md5, DIGEST_MD5_LEN);
    }
    struct object *made = object_new(blob, &u->meta, crc64);
    uint8_t md5[DIGEST_MD5_LEN];
    char hex[2 * DIGEST_MD5_LEN + 1];
    digest_md5_final(&of_md5s, md5);
    hex_encode(md5, DIGEST_MD5_LEN, hex);
    (void)snprintf(made->info.etag, sizeof(made->info.etag), "%s-%zu", hex, o->n_parts);
    *ret = made;
    return 0;
}

static int run_mp_commit(struct be_op *op)
{
    struct be_commit *o = CONTAINER_OF(op, struct be_commit, op);
    struct store *s = store_of(op->be);
    CLEANUP(object_unrefp) struct object *made = NULL;
    mutex_lock(&s->lock);
    struct upload *u = *upload_link_locked(s, op->key, o->upload_id);
    int err = u ? assemble_locked(op, u, &made) : fail_no_upload(op);
    mutex_unlock(&s->lock);
    if (err == 0) {
        err = publish(s, op, o->if_match, o->if_absent, made);
    }
    if (err < 0) {
        return err;
    }
    mutex_lock(&s->lock);
    struct upload **link = upload_link_locked(s, op->key, o->upload_id);
    u = *link; /* an abort may have been faster: the object is there all the same */
    if (u) {
        *link = u->next;
    }
    mutex_unlock(&s->lock);
    if (u) {
        upload_free(u);
    }
    o->object = made->info;
    return 0;
}

static int run_mp_abort(struct be_op *op)
{
    struct be_mp *o = CONTAINER_OF(op, struct be_mp, op);
    struct store *s = store_of(op->be);
    mutex_lock(&s->lock);
    struct upload **link = upload_link_locked(s, op->key, o->upload_id);
    struct upload *u = *link;
    if (u) {
        *link = u->next;
    }
    mutex_unlock(&s->lock);
    if (!u) {
        return fail_no_upload(op);
    }
    upload_free(u);
    return 0;
}

static int run_mp_parts(struct be_op *op)
{
    struct be_parts *o = CONTAINER_OF(op, struct be_parts, op);
    struct store *s = store_of(op->be);
    mutex_lock(&s->lock);
    const struct upload *u = *upload_link_locked(s, op->key, o->upload_id);
    if (u) {
        o->parts = mem_zalloc(u->n_parts * sizeof(*o->parts));
        o->n_parts = u->n_parts;
        for (size_t i = 0; i < u->n_parts; i++) {
            o->parts[i].number = u->parts[i].number;
            o->parts[i].size = u->parts[i].blob->len;
            hex_encode(u->parts[i].md5, DIGEST_MD5_LEN, o->parts[i].etag);
        }
    }
    mutex_unlock(&s->lock);
    return u ? 0 : fail_no_upload(op);
}

static int compare_uploads(const void *pa, const void *pb)
{
    const struct be_upload *a = pa, *b = pb;
    int diff = strcmp(a->key, b->key);
    if (diff == 0) {
        diff = a->initiated_ns < b->initiated_ns ? -1 : a->initiated_ns > b->initiated_ns;
    }
    return diff;
}

static int run_mp_uploads(struct be_op *op)
{
    struct be_uploads *o = CONTAINER_OF(op, struct be_uploads, op);
    struct store *s = store_of(op->be);
    size_t prefix_len = strlen(o->prefix);
    mutex_lock(&s->lock);
    size_t n = 0;
    for (const struct upload *u = s->uploads; u; u = u->next) {
        n++;
    }
    o->uploads = mem_zalloc(n * sizeof(*o->uploads));
    for (const struct upload *u = s->uploads; u; u = u->next) {
        bool wanted =
            op->key ? strcmp(u->key, op->key) == 0 : strncmp(u->key, o->prefix, prefix_len) == 0;
        if (wanted) {
            o->uploads[o->n_uploads++] = (struct be_upload){
                .key = mem_strdup(u->key),
                .upload_id = mem_strdup(u->id),
                .initiated_ns = u->initiated_ns,
            };
        }
    }
    mutex_unlock(&s->lock);
    if (o->n_uploads > 1) {
        qsort(o->uploads, o->n_uploads, sizeof(*o->uploads), compare_uploads);
    }
    return 0;
}

/* --- the table --- */

/* What was canceled, or came too late, before a worker had time for it is not done at all. */
static int run_any(struct be_op *op)
{
    static int (*const runs[BE_KINDS])(struct be_op *) = {
        [BE_STAT] = run_stat,
        [BE_READ] = run_read,
        [BE_WRITE] = run_write,
        [BE_REMOVE] = run_remove,
        [BE_LIST] = run_list,
        [BE_COPY] = run_copy,
        [BE_REMOVE_MANY] = run_remove_many,
        [BE_MP_BEGIN] = run_mp_begin,
        [BE_MP_PART] = run_mp_part,
        [BE_MP_COMMIT] = run_mp_commit,
        [BE_MP_ABORT] = run_mp_abort,
        [BE_MP_PARTS] = run_mp_parts,
        [BE_MP_UPLOADS] = run_mp_uploads,
    };
    int err = be_op_check(op);
    return err < 0 ? err : runs[op->kind](op);
}

#define DEFINE_CALL(name, type)                                                                    \
    static void memory_##name(struct be *be, struct type *op)                                      \
    {                                                                                              \
        be_job_submit(&op->op, run_any);                                                           \
    }

DEFINE_CALL(stat, be_stat)
DEFINE_CALL(read, be_read)
DEFINE_CALL(write, be_write)
DEFINE_CALL(remove, be_remove)
DEFINE_CALL(list, be_list)
DEFINE_CALL(copy, be_copy)
DEFINE_CALL(remove_many, be_many)
DEFINE_CALL(mp_begin, be_mp)
DEFINE_CALL(mp_part, be_part)
DEFINE_CALL(mp_commit, be_commit)
DEFINE_CALL(mp_abort, be_mp)
DEFINE_CALL(mp_parts, be_parts)
DEFINE_CALL(mp_uploads, be_uploads)

const struct be_ops be_memory_ops = {
    .size = sizeof(struct be_ops),
    .scheme = "memory",
    .open = memory_open,
    .close = memory_close,
    .describe = memory_describe,
    .identity = memory_identity,
    .can_copy = memory_can_copy,
    .stat = memory_stat,
    .read = memory_read,
    .write = memory_write,
    .remove = memory_remove,
    .list = memory_list,
    .copy = memory_copy,
    .remove_many = memory_remove_many,
    .mp_begin = memory_mp_begin,
    .mp_part = memory_mp_part,
    .mp_commit = memory_mp_commit,
    .mp_abort = memory_mp_abort,
    .mp_parts = memory_mp_parts,
    .mp_uploads = memory_mp_uploads,
};
