/* What S3 and the providers that speak like it share. A dialect of this family fills a struct
 * s3like in configure, points its build, parse, classify and stream functions here (or wraps them),
 * and brings its own signature. */
#pragma once

#include "dialect.h"

struct s3like_code {
    const char *code;
    enum err_class cls;
};

struct s3like {
    struct dialect_site site; /* first */
    /* set by configure, constant text */
    const char *vendor;              /* "x-amz-": before every header of the provider's own */
    const char *replace;             /* the metadata directive that means it */
    const char *crc64_header;        /* NULL = none */
    const struct s3like_code *codes; /* looked up before the common ones; ends with {NULL} */
    /* Adds the headers for an encryption as the configuration or the metadata spell it. ERR_INVALID
     * if unknown. */
    int (*encryption)(const struct s3like *s, const char *value, struct kvlist *headers,
                      struct errinfo *reterr);
    int list_version;         /* 1 or 2 */
    bool plus_is_space;       /* in lists with encoding-type=url */
    bool uploads_encoded;     /* the list of uploads can be asked for with encoding-type=url */
    bool copy_if_match_alias; /* also "copy-if-match", as Ceph calls the copy source's condition */
    bool part_copy_decodes_twice;  /* UploadPartCopy decodes its source's key twice (Ceph) */
    uint64_t part_copy_source_min; /* ranges of smaller sources are refused */
    /* owned */
    char *copy_host;          /* NULL: copy sources are "/bucket/key"; else "copy_host/key" */
    char *storage_class;      /* of new objects; "" = the provider's default */
    char *encryption_default; /* of new objects; "" = the bucket's */
};

/* Storage classes are upper case at all of these providers; STANDARD is "". */
char *s3like_storage_class(const char *configured);
/* Frees everything, the site too. */
void s3like_release(struct dialect_site *site);

bool s3like_can_batch(const struct dialect_site *site, const char *key);
int s3like_build(const struct dialect_site *site, const struct dialect_call *call,
                 struct dialect_request *r, struct errinfo *reterr);
int s3like_parse(const struct dialect_site *site, const struct dialect_call *call,
                 const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr);
void s3like_classify(const struct dialect_site *site, const struct dialect_call *call,
                     const struct dialect_answer *a, struct errinfo *ret);
void *s3like_stream_new(const struct dialect_site *site, const struct dialect_call *call);
int s3like_stream_feed(void *stream, const void *p, size_t n);
void s3like_stream_free(void *stream);
