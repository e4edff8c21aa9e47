/* What the server holds: buckets of objects and unfinished uploads, in memory, sorted by key.
 *
 * Objects never change once they are in a bucket: who holds a reference may read one without a
 * lock. Everything else of a bucket is guarded by its lock. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

#define ETAG_SIZE 48 /* 32 digits, "-10000" */
#define MIN_PART (5u << 20)

/* Bytes, shared by every object that was copied from them. */
struct blob {
    atomic_uint refs;
    size_t len;
    char data[];
};
struct blob *blob_new(size_t len); /* NULL: no memory */
struct blob *blob_ref(struct blob *b);
void blob_unref(struct blob *b);

struct seg {
    struct blob *blob;
    size_t offset, len;
};

/* The bytes of an object or of a part. */
struct segs {
    struct seg *items;
    size_t n;
    uint64_t size;
};
void segs_add(struct segs *s, struct blob *b, size_t offset, size_t len); /* takes a reference */
void segs_add_range(struct segs *s, const struct segs *from, uint64_t offset, uint64_t len);
void segs_fini(struct segs *s);
void segs_md5(const struct segs *s, uint8_t ret[16]);

/* The sort key, first member of everything that is in an index. Bytes, in memcmp order. */
struct named {
    char *key;
    size_t len;
};

struct object {
    struct named name;
    atomic_uint refs;
    int64_t mtime_ms;
    char etag[ETAG_SIZE];
    struct segs data;
    struct kvlist meta; /* the response headers it is given back with */
};
struct object *object_new(const char *key, size_t len);
struct object *object_ref(struct object *o);
void object_unref(struct object *o);

struct part {
    unsigned number;
    uint8_t md5[16];
    int64_t mtime_ms;
    struct segs data;
};

struct upload {
    struct named name; /* the object's key, NUL, the id */
    size_t key_len;
    int64_t begun_ms;
    struct kvlist meta;
    struct part *parts; /* by number */
    size_t n_parts;
};
void upload_free(struct upload *u);
/* Takes over the bytes. */
void upload_set_part(struct upload *u, struct part *p);

/* Sorted pointers in leaves of bounded size: seek in O(log n), insert in O(leaf). */
#define LEAF_MAX 256
struct leaf {
    size_t n;
    struct named *items[LEAF_MAX];
};
struct index {
    struct leaf **leaves;
    size_t n, cap;
    uint64_t count;
};
struct cursor {
    const struct index *index;
    size_t leaf, item;
};
struct named *index_get(const struct index *x, const char *key, size_t len);
struct named *index_put(struct index *x, struct named *item); /* returns what it replaces */
struct named *index_remove(struct index *x, const char *key, size_t len);
/* The first one that is not below the key. */
struct cursor index_seek(const struct index *x, const char *key, size_t len);
struct named *cursor_item(const struct cursor *c); /* NULL at the end */
void cursor_next(struct cursor *c);

struct bucket {
    struct bucket *next;
    char *name;
    int64_t made_ms;
    pthread_rwlock_t lock;
    struct index objects, uploads; /* lock */
};

/* Buckets are never taken away again while the server runs. */
struct bucket *bucket_find(const char *name, size_t len);
struct bucket *bucket_make(const char *name); /* or the one there is */
struct bucket *bucket_first(void);
void bucket_clear(struct bucket *b);

/* Removes, or replaces by o (which it takes over). The caller holds the lock for writing. */
void bucket_set_locked(struct bucket *b, const char *key, size_t len, struct object *o);
struct object *bucket_get(struct bucket *b, const char *key, size_t len); /* a reference, or NULL */

int64_t now_ms(void);
void etag_of_md5(const uint8_t md5[16], char ret[ETAG_SIZE]);
/* As S3 makes it: the MD5 of the parts' MD5s, and how many there are. */
void etag_of_parts(const uint8_t *md5s, size_t n, char ret[ETAG_SIZE]);
