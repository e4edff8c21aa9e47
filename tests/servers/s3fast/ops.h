/* The operations of S3: from a request to an answer. No sockets here. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "request.h"
#include "sigv4.h"
#include "store.h"

enum kind {
    OP_CONTROL, /* ours; never counted */
    OP_OTHER,
    OP_LIST_BUCKETS,
    OP_HEAD_BUCKET,
    OP_CREATE_BUCKET,
    OP_GET_LOCATION,
    OP_GET_TAGGING,
    OP_LIST,
    OP_LIST_V2,
    OP_GET,
    OP_HEAD,
    OP_PUT,
    OP_COPY,
    OP_DELETE,
    OP_DELETE_MANY,
    OP_MP_CREATE,
    OP_MP_PART,
    OP_MP_PART_COPY,
    OP_MP_COMPLETE,
    OP_MP_ABORT,
    OP_MP_LIST_PARTS,
    OP_MP_LIST,
    OP_KINDS,
};
extern const char *const op_names[OP_KINDS];

/* A copy of what came in parts: its MD5, as AWS gives it, or the source's etag, as Ceph does, which
 * costs nothing. Set before the first request. */
extern bool ops_copies_keep_etag;

/* One request on its way through. */
struct call {
    const struct request *r;
    enum kind kind;
    struct bucket *bucket;
    char *key; /* of the object; owned */
    size_t key_len;
    const char *sha256; /* what the body's must be, or NULL */
    bool wants_md5;
    /* Filled in by who receives the body: */
    struct blob *body;
    uint8_t body_md5[16];
    char body_sha256[65];
};

/* Who it is, what is asked for, is it allowed. When res->status is not 0 afterwards, that is the
 * answer already. */
void ops_begin(struct call *c, const struct request *r, const struct sig_keys *keys,
               struct response *res);
void ops_run(struct call *c, struct response *res);
void call_fini(struct call *c);

/* --- for the files of operations only --- */

bool md5_header_ok(const struct call *c, struct response *res);
struct kvlist meta_of(const struct request *r);
bool meta_fits(const struct request *r, struct response *res);
bool etag_matches(const char *header, const char *etag);
/* The bytes a copy or a part copy takes. false: answered already. */
bool copy_source(const struct request *r, bool ranged, struct object **ret, struct segs *ret_data,
                 struct response *res);

void ops_list(struct call *c, struct response *res);
void ops_mp_create(struct call *c, struct response *res);
void ops_mp_part(struct call *c, struct response *res);
void ops_mp_complete(struct call *c, struct response *res);
void ops_mp_abort(struct call *c, struct response *res);
void ops_mp_list_parts(struct call *c, struct response *res);
void ops_mp_list(struct call *c, struct response *res);
void ops_control(struct call *c, struct response *res);
/* If-Match and If-None-Match against what is there now. The caller holds the lock. */
bool conditions_hold_locked(struct call *c, struct response *res);
