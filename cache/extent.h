/* A file as an ordered map of extents. Pure; no locks: the owner of the file guards its map.
 *
 * Invariants (extent_check): extents cover [0, size) exactly, in order, without gap or overlap, none empty; neighbours
 * that could be one are one; REMOTE extents hold a reference on their source; BASE, LOCAL lie at their own offset. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "buf.h"

enum extent_kind {
    EXT_BASE,   /* the object version this file descends from, same offset */
    EXT_LOCAL,  /* the spool file, same offset */
    EXT_REMOTE, /* another pinned object version, at src_off */
    EXT_HOLE,   /* zeros */
    EXT_PART,   /* only in part `part` of the running upload: neither readable nor writable */
};

/* A pinned version of an object that extents refer to. Counted without atomics: all counts change under the cache's lock. */
struct extent_source {
    unsigned refs;
    uint32_t remote;   /* journal id of the identity */
    char *key;
    uint64_t size;     /* of the whole object */
    int64_t mtime_ns;
    char etag[BE_ETAG_MAX];
    char version_id[64];
    bool has_md5;      /* trusted MD5 of the whole object (rules D1) */
    uint8_t md5[16];
};
struct extent_source *extent_source_new(uint32_t remote, const char *key, const struct be_object *o);
struct extent_source *extent_source_ref(struct extent_source *s);
void extent_source_unref(struct extent_source *s); /* NULL is fine */
/* remote, key, etag, version; never two looks that told neither etag nor version. */
bool extent_source_same(const struct extent_source *a, const struct extent_source *b);

struct extent {
    uint64_t off, len;
    enum extent_kind kind;
    unsigned part;             /* PART */
    struct extent_source *src; /* REMOTE, else NULL */
    uint64_t src_off;          /* REMOTE */
};

struct extent_map {
    struct extent *v;
    size_t n, cap;
    uint64_t size;
};

void extent_init(struct extent_map *m);                      /* empty file */
void extent_init_base(struct extent_map *m, uint64_t size);  /* one BASE extent (none when size is 0) */
void extent_fini(struct extent_map *m);
void extent_clone(struct extent_map *dst, const struct extent_map *src); /* dst uninitialised */

/* Replaces [off, off+len): grows the file when it ends beyond size (a gap becomes HOLE). src is borrowed, referenced when
 * kept; kind must not be BASE. -EFBIG on overflow of 2^63-1, -EFBIG when it would replace a PART range. */
int extent_set(struct extent_map *m, uint64_t off, uint64_t len, enum extent_kind kind,
               struct extent_source *src, uint64_t src_off);
int extent_set_part(struct extent_map *m, uint64_t off, uint64_t len, unsigned part);
int extent_truncate(struct extent_map *m, uint64_t size); /* cut (-EFBIG into a PART range), or grow by HOLE */
/* Copies the meaning of src[soff, soff+len) to dst[doff, …). BASE of src becomes REMOTE(src_base, same offset); HOLE and
 * REMOTE go as they are; stops before the first LOCAL or PART byte. *ret_done is how many bytes were mapped (0 when the
 * first byte is LOCAL). src_base may be NULL when src has no BASE in the range. */
int extent_copy(struct extent_map *dst, uint64_t doff, const struct extent_map *src, uint64_t soff,
                uint64_t len, struct extent_source *src_base, uint64_t *ret_done);

/* `old` was replaced by `fresh`, whose content was written from the map `sent` (its BASE means `old`). REMOTE pieces of
 * `old` in m that `sent` took over now name `fresh`, wherever they lie there. Whether anything changed. */
bool extent_rebase(struct extent_map *m, const struct extent_source *old, const struct extent_map *sent,
                   struct extent_source *fresh);

/* The extent that holds byte off; NULL at or beyond the end. */
const struct extent *extent_find(const struct extent_map *m, uint64_t off);
uint64_t extent_bytes(const struct extent_map *m, enum extent_kind kind);
bool extent_has(const struct extent_map *m, enum extent_kind kind);
/* The map is exactly one whole other object (size equal to the source's): its source, else NULL. An empty source counts
 * only through `whole_empty` handling of the caller. */
struct extent_source *extent_whole_remote(const struct extent_map *m);
bool extent_whole_base(const struct extent_map *m, uint64_t base_size); /* unchanged */
/* lseek(2): SEEK_DATA / SEEK_HOLE. New offset or -ENXIO. */
int64_t extent_seek(const struct extent_map *m, uint64_t off, int whence);
void extent_check(const struct extent_map *m); /* ENSUREs the invariants */

/* Text form for the journal, one line an extent; parse treats it as hostile (-EINVAL, bounded by max_extents). */
int extent_format(const struct extent_map *m, struct buf *out);
int extent_parse(struct extent_map *m, const char *text, size_t max_extents); /* m uninitialised; empty on failure */
