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
    const char *request_id;          /* the header that has it; NULL = vendor + "request-id" */
    bool goog_hash;                  /* x-goog-hash has the CRC-32C, and tells what the MD5 is */
    const char *crc32c_header;       /* decimal; NULL = none */
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
/* For those whose errors are written otherwise: class and texts from what one says; and class
 * alone. */
struct s3xml_error;
void s3like_set_error(const struct s3like *s, const struct dialect_answer *a,
                      const struct s3xml_error *e, struct errinfo *ret);
enum err_class s3like_class_of_code(const struct s3like *s, const char *code, const char *message,
                                    int http_status);
/* The same for an answer without an error that could be read. */
void s3like_classify_bare(const struct s3like *s, const struct dialect_call *call,
                          const struct dialect_answer *a, struct errinfo *ret);
/* What became of the keys of a batch: read calls failed() for each that was refused, as
 * s3xml_deletes does, whose result this is. */
typedef int s3like_failures_fn(const char *p, size_t n,
                               int (*failed)(void *ctx, const char *key, const char *code,
                                             const char *message),
                               void *ctx);
int s3like_many(const struct s3like *s, const struct dialect_call *call,
                const struct dialect_answer *a, s3like_failures_fn *read);
/* A 2xx that makes no sense. Trying again may help: proxies cut answers short. */
int s3like_garbled(const struct dialect_answer *a, struct errinfo *reterr, const char *what);
/* Everything about a version that headers tell but its size. */
int s3like_object_of(const struct s3like *s, const struct dialect_answer *a, struct be_object *o,
                     struct errinfo *reterr);
bool s3like_etag_is_md5(const struct s3like *s, const struct kvlist *headers, const char *etag);
/* Visible characters of what a server says about itself, on one line. */
void s3like_copy_text(char *to, size_t size, const char *from);
void *s3like_stream_new(const struct dialect_site *site, const struct dialect_call *call);
int s3like_stream_feed(void *stream, const void *p, size_t n);
void s3like_stream_free(void *stream);
