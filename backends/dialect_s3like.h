/* What S3 and the providers that speak like it share. A dialect of this family fills a struct
 * s3like in configure, points its build, parse, classify and stream functions here (or wraps them),
 * and brings its own signature. */
#pragma once

#include "dialect.h"
#include "sign.h"

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
    const char *restore_job;         /* what holds the tier in a restore's request; NULL: takes none */
    const char *request_id;          /* the header that has it; NULL = vendor + "request-id" */
    bool goog_hash;                  /* x-goog-hash has the CRC-32C, and tells what the MD5 is */
    const char *crc32c_header;       /* decimal; NULL = none */
    const struct s3like_code *codes; /* looked up before the common ones; ends with {NULL} */
    /* Adds the headers for an encryption as the configuration or the metadata spell it. ERR_INVALID
     * if unknown. */
    int (*encryption)(const struct s3like *s, const char *value, struct kvlist *headers,
                      struct errinfo *reterr);
    /* Signs with what `sign` found: sets the headers it needs. 0 or -errno. */
    int (*signature)(const struct s3like *s, const struct sign_key *key, struct dialect_request *r,
                     int64_t wall_s, struct sign_out *out);
    const struct sign_v2_scheme *v2; /* for s3like_sign_v2 */
    bool unsigned_payload; /* for s3like_sign_v4: bodies are covered by TLS, or by Content-MD5 alone
                              if the configuration says so */
    const char *const *classes; /* storage classes as the provider spells them, the default first;
                                   NULL = in upper case, "STANDARD" */
    int list_version;         /* 1 or 2 */
    bool plus_is_space;       /* in lists with encoding-type=url */
    bool uploads_encoded;     /* the list of uploads can be asked for with encoding-type=url */
    bool copy_if_match_alias; /* also "copy-if-match", as Ceph calls the copy source's condition */
    bool part_copy_decodes_twice;  /* UploadPartCopy decodes its source's key twice (Ceph) */
    uint64_t part_copy_source_min; /* ranges of smaller sources are refused */
    bool forbid_overwrite; /* if_absent is "VENDOR-forbid-overwrite: true", not If-None-Match */
    bool range_standard;   /* without "VENDOR-range-behavior: standard" a range that cannot be is
                              answered with the whole object */
    bool removed_listed;   /* a batch removal reports what it removed, and nothing of what it could
                              not */
    bool skew_unsaid;      /* a clock far off is also refused as AccessDenied or InvalidArgument */
    bool meta_names_plain; /* names of user metadata have letters, digits and '-' only: others are
                              encoded */
    /* owned */
    char *region;             /* in signatures */
    char *copy_host;          /* NULL: copy sources are "/bucket/key"; else "copy_host/key" */
    char *storage_class;      /* of new objects; "" = the provider's default */
    char *encryption_default; /* of new objects; "" = the bucket's */
};

/* s3like_site.c: */

/* The site's common part, the limits most of the family have, and the settings all have. vendor,
 * encryption and classes are set. */
int s3like_begin(struct s3like *s, const struct be_dialect *d, const struct conf_remote *conf,
                 struct errinfo *reterr);
/* signatureVersion: the first of the two names, when it is not given, or the second. */
int s3like_signature(const struct s3like *s, const struct conf_remote *conf,
                     const char *const names[2], bool *ret_second, struct errinfo *reterr);

struct s3like_service {
    const char *prefix, *suffix; /* of the host, around the region */
    const char *example;         /* of a region */
    bool virtual_only;           /* its public hosts take the bucket in the host's name only */
};
/* Host and base from endPoint or region. *ret_endpoint: the host without the bucket; the caller's.
 * cname = on: endPoint is the bucket's own domain. */
int s3like_place(struct s3like *s, const struct conf_remote *conf,
                 const struct s3like_service *service, char **ret_endpoint, struct errinfo *reterr);
/* For services that copy within a region: region, identity, and the region as the site's service. */
void s3like_home(struct s3like *s, const struct conf_remote *conf,
                 const struct s3like_service *service, const char *endpoint);
bool s3like_can_copy(const struct dialect_site *dst, const struct dialect_site *src);
bool s3like_ends_with_domain(const char *host, const char *domain); /* "" is every host's */

/* As the provider writes it; its default is "". */
char *s3like_storage_class(const struct s3like *s, const char *configured);
/* Frees everything, the site too. */
void s3like_release(struct dialect_site *site);
/* Two signatures: V2's family with a Date header, and AWS Signature Version 4. */
int s3like_sign_v2(const struct s3like *s, const struct sign_key *key, struct dialect_request *r,
                   int64_t wall_s, struct sign_out *out);
int s3like_sign_v4(const struct s3like *s, const struct sign_key *key, struct dialect_request *r,
                   int64_t wall_s, struct sign_out *out);
/* The latter under other names; prefix: of its headers. */
int s3like_sign_v4_as(const struct s3like *s, const struct sign_v4_scheme *scheme,
                      const char *prefix, const struct sign_key *key, struct dialect_request *r,
                      int64_t wall_s, struct sign_out *out);
/* Credentials, token and header around s->signature; with those of now, or with these. */
int s3like_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
                struct errinfo *reterr);
int s3like_sign_with(const struct s3like *s, const struct dialect_keys *keys,
                     struct dialect_request *r, int64_t wall_s, struct errinfo *reterr);

/* An answer's header of the provider's own: vendor + name. NULL when it has none. */
const char *s3like_header(const struct s3like *s, const struct kvlist *headers, const char *name);
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
/* What became of the keys of a batch: read does what s3xml_deletes does, for documents of another
 * kind, and its failure is the result. */
typedef int s3like_deletes_fn(const char *p, size_t n, bool removed,
                              int (*each)(void *ctx, const char *key, const char *code,
                                          const char *message),
                              void *ctx);
int s3like_many(const struct s3like *s, const struct dialect_call *call,
                const struct dialect_answer *a, s3like_deletes_fn *read);
/* Everything about a version that headers tell but its size. */
int s3like_object_of(const struct s3like *s, const struct dialect_answer *a, struct be_object *o,
                     struct errinfo *reterr);
/* A restore that is refused because there is nothing to do is no failure: the class becomes ERR_NONE. */
void s3like_restore_done(const struct dialect_call *call, struct errinfo *ret);
bool s3like_etag_is_md5(const struct s3like *s, const struct kvlist *headers, const char *etag);
void *s3like_stream_new(const struct dialect_site *site, const struct dialect_call *call);
int s3like_stream_feed(void *stream, const void *p, size_t n);
void s3like_stream_free(void *stream);
