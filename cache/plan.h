/* The planner: extents and two backends' limits give the cheapest list of requests that yields exactly those bytes under
 * that key. Pure. */
#pragma once

#include "backend.h"
#include "extent.h"

enum plan_action {
    PLAN_SKIP,      /* the target already is exactly this */
    PLAN_SETMETA,   /* bytes unchanged, metadata differs: copy onto itself (or re-put when it cannot) */
    PLAN_COPY,      /* one server-side copy of one whole object */
    PLAN_PUT,       /* one request with all bytes */
    PLAN_MULTIPART,
    PLAN_IMPOSSIBLE /* reason says why: before any byte moves */
};

enum plan_md5 {
    PLAN_MD5_GIVEN,     /* known before the first request (md5_known, or the whole source's): sent as metadata with it */
    PLAN_MD5_PUT,       /* single PUT: known once the buffer is filled, sent with it */
    PLAN_MD5_AFTER,     /* known when the last part is hashed: metadata update by self-copy */
    PLAN_MD5_INHERITED, /* server-side copy: the source's attribute is carried, marked inherited (rules D2) */
    PLAN_MD5_NONE       /* entireFileMd5Attached off, or unknown and nothing to inherit */
};

struct plan_part {
    uint64_t off, len;         /* of the file; number = index + 1 */
    struct extent_source *src; /* part copy from this version (borrowed from the map or from base_src), else NULL */
    uint64_t src_off;
};

/* What the planner must know beside the extents. */
struct plan_input {
    const struct extent_map *map;
    struct extent_source *base;  /* the committed version under this key, NULL when none; its own bytes may be part-copied */
    bool meta_differs;           /* desired metadata is not what base has */
    bool content_known_equal;    /* the ledger and a fresh observation say base already holds exactly these bytes */
    bool md5_known;              /* trusted MD5 of the whole desired content */
    bool source_has_md5_attr;    /* the one whole source carries an md5 attribute */
    uint32_t caps;               /* target */
    struct be_limits limits;
    bool (*can_copy)(void *ctx, const struct extent_source *src); /* target may copy from that object itself */
    void *ctx;
    enum conf_md5 file_md5;
    uint64_t small_file_threshold, part_size, max_buffer; /* max_buffer: the largest body we hold in memory */
    const char *key_fault;       /* why the target takes no such key, a clause for `reason`; NULL = it does */
    size_t meta_bytes;           /* of user metadata with names */
    uint64_t resume_part_size;   /* != 0: an upload with this part size is already running: keep it */
    uint64_t meta_copy_limit;    /* largest object whose metadata can be replaced by one self-copy = limits.max_copy */
};

struct plan {
    enum plan_action action;
    enum plan_md5 md5;
    uint64_t part_size;      /* MULTIPART: of gathered parts; given back as resume_part_size it gives the same cut */
    struct plan_part *parts; /* MULTIPART; owned */
    size_t n_parts;
    uint64_t layout;         /* MULTIPART: digest of the cut; parts of an upload serve again only under the same one */
    char reason[200];        /* IMPOSSIBLE: one clear clause, e.g. "key of 900 bytes, the provider takes 850" */
};

/* Always fills ret; action IMPOSSIBLE instead of an error. */
void plan_make(const struct plan_input *in, struct plan *ret);
void plan_fini(struct plan *p);
/* The smallest power-of-two multiple of `wanted` that keeps `size` within the part count, clamped to min/max part; 0 when
 * none does. */
uint64_t plan_part_size(uint64_t size, uint64_t wanted, const struct be_limits *l, uint64_t max_buffer);
/* The size of part `number` (from 1) of an upload that began before its length was known: grows so that the part count
 * does not end the file early (rules C8). first is clamped as above. PART extents lie on these boundaries. */
uint64_t plan_stream_part(unsigned number, uint64_t first, const struct be_limits *l, uint64_t max_buffer);
