/* What the files of the Qiniu dialect share: dialect_qiniu.c (settings, signatures, errors), qiniu_build.c (requests),
 * qiniu_parse.c (answers) and qiniu_meta.c. */
#pragma once

#include "dialect.h"
#include "digest.h"
#include "mem.h"

struct qiniu {
    struct dialect_site site; /* first; host is that of rs */
    char *rsf, *up, *io;      /* hosts of lists, uploads and reads */
    bool io_http;             /* the reads' domain is spoken to in the clear */
    bool io_private;          /* download URLs carry a token */
    int file_type;            /* of new objects; -1 = the bucket's */
};

static inline const struct qiniu *qiniu_of(const struct dialect_site *site)
{
    return (const struct qiniu *)(const void *)site;
}

/* How a request is signed, the first byte of dialect_request.note. Of uploads the rest is the policy, a JSON object's inside
 * without the deadline, which is the clock's. */
enum qiniu_sign {
    QINIU_SIGN_REQUEST = 'r', /* Authorization: Qiniu */
    QINIU_SIGN_READ = 'd',    /* the URL, unless the domain is public */
    QINIU_SIGN_UPLOAD = 'u',  /* Authorization: UpToken */
    QINIU_SIGN_FORM = 'f',    /* the form's field "token": sign writes it into the room that build left before the rest */
};
/* Of the form, before what build wrote. The policy takes 4/3 of itself in it. */
#define QINIU_FORM_ROOM(policy_len) (1024 + 2 * (policy_len))

/* Whether bytes are asked for, which come from the domain; attributes come from rs. */
static inline bool qiniu_is_download(const struct dialect_call *call)
{
    return call->kind == BE_READ && !call->head &&
           CONTAINER_OF(call->op, const struct be_read, op)->len > 0;
}

/* BE_COPY is several requests. page[0] of the call says which, NULL first; page[1] is what was seen of the source. */
#define QINIU_COPY "copy"     /* the bytes */
#define QINIU_META "metadata" /* its own metadata */
#define QINIU_TYPE "type"     /* its storage class */
#define QINIU_LOOK "look"     /* whether it is that version, and the old metadata went */

/* fileType <-> name. -1: unknown. "" = standard. */
int qiniu_type_of(const char *name);
const char *qiniu_type_name(uint64_t type);

/* Metadata as the service names and writes it: mime type apart; the rest "x-qn-meta-NAME" for user metadata, "x-qn-meta-!NAME"
 * for the standard headers. */
struct qiniu_meta {
    char *mime; /* NULL: not said */
    int type;   /* -1: not said */
    struct kvlist fields;
};
void qiniu_meta_fini(struct qiniu_meta *m);
int qiniu_meta_from(const struct qiniu *q, const struct kvlist *meta, struct qiniu_meta *ret,
                    struct errinfo *reterr);
/* One of the service's fields, whole name, as the contract's metadata. Others are left out. */
void qiniu_meta_add(struct kvlist *meta, const char *field, const char *value);

/* The hash's text; ret holds BASE64_LEN(DIGEST_QETAG_LEN) + 1. */
void qiniu_etag(const uint8_t hash[DIGEST_QETAG_LEN], char *ret);

int qiniu_build(const struct dialect_site *site, const struct dialect_call *call,
                struct dialect_request *r, struct errinfo *reterr);
int qiniu_parse(const struct dialect_site *site, const struct dialect_call *call,
                const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr);
/* Class, code and texts of a status and what was said with it. */
void qiniu_judge(const struct qiniu *q, const struct dialect_call *call, int status,
                 const char *message, struct errinfo *ret);
