/* What an HTTP object store provides instead of a driver: pure functions that turn operations into
 * requests and answers into results. objstore.c does all the rest.
 *
 * No function here does I/O, reads a clock, retries or logs, and none takes a lock but those that
 * guard the credentials and what is made of them. A site is written by configure and read-only after
 * it, but for these, so every function but configure and release may run on any number of threads at
 * once. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "buf.h"
#include "conf.h"
#include "errinfo.h"

/* One configured bucket. A dialect's own struct begins with this. Strings are owned. */
struct dialect_site {
    const struct be_dialect *dialect;
    char *name; /* of the remote, for messages */
    bool https;
    char *host; /* as the Host header names it: with the bucket for virtual hosts, with the port
                   unless default */
    char *base; /* "" or "/bucket": encoded, before every key */
    char *bucket;
    char *service;  /* what this bucket shares with those it can copy from: "aws", "cos", or an
                       endpoint */
    char *identity; /* see be_ops.identity */
    struct dialect_keyring *keyring; /* the credentials: the one thing that may change, see below */
    uint32_t caps;
    struct be_limits limits;
    bool part_source_unchecked; /* part copies ignore src_etag: the driver looks at the source after
                                   each */
    bool may_ignore_range; /* a read may be answered with 200 and everything: the driver takes the
                              part that was asked for while it goes by, and then hangs up */
    bool copy_needs_source;     /* a copy is built from what its source has: the driver looks there
                                   first, see dialect_call.source */
    bool copy_source_unchecked; /* whole copies ignore src_etag, too */
    bool gone_upload_is_invalid; /* a commit of an upload that is gone is refused like one of wrong
                                    parts: the driver looks which of them it was */
    bool commit_unchecked;      /* a commit takes whatever parts there are: the driver compares them
                                   with those that are meant before it */
    bool lists_dirs; /* BE_LIST shows what is in one directory, in any order: the driver makes lists
                        of that. It asks with the delimiter, a prefix that is "" or ends in '/', and
                        pages like those of BE_MP_PARTS; entries of directories are prefixes. */
};

/* The etag of a key "dir/" that is a real directory: it has no content, and so one version. */
#define DIALECT_DIR_ETAG "directory"

/* One set of credentials. Constant; shared by those who sign with it. */
struct dialect_keys {
    atomic_uint refs;
    char *id;
    struct secret *secret, *token; /* token may be NULL; secret too where token_alone */
};

/* One request of an operation. Several make one operation when lists have pages or a batch is
 * split. */
struct dialect_call {
    enum be_kind kind;
    struct be_op *op; /* of that kind; the inputs are read by build, the outputs written by parse */
    bool head;        /* BE_READ: only the headers are wanted */
    bool of_source;   /* BE_STAT: the driver's look at a copy's source. What parse adds to the
                         metadata beyond backend.h comes back in `source` only */
    const struct dialect_site *src; /* BE_COPY, BE_MP_PART with a source: where it is */
    const struct be_stat *source;   /* BE_COPY with site->copy_needs_source: what was found there */
    unsigned step;   /* of an operation made by several requests: how many came before this one */
    uint64_t random; /* BE_MP_BEGIN: no other call had this, on any machine … */
    int64_t begun_s; /* … and the wall clock, for dialects that invent the upload's id */
    const char *page[2];  /* what parse of the request before returned; NULL at first: the next page
                             of BE_MP_PARTS, BE_MP_UPLOADS, and BE_LIST with lists_dirs; the next
                             step of what takes several requests */
    const size_t *chosen; /* BE_REMOVE_MANY: indexes into the operation's keys … */
    size_t n_chosen;
    struct errinfo *errs; /* … and where parse says what became of each, by the same indexes */
};

struct dialect_request {
    const char *method;
    struct buf
        url; /* not empty: complete, and sent as it is instead of the site's host, path and query */
    bool signed_already; /* it carries what it needs, or goes where nothing secret may go: sign
                            leaves it alone */
    unsigned follows;    /* how often `follow` has changed it */
    size_t kept; /* BE_READ: bytes that answers before have brought; what comes next follows them */
    struct buf path;       /* encoded, begins with '/', base included */
    struct kvlist query;   /* decoded */
    struct kvlist headers; /* all that is sent, "host" too; sign adds its own */
    const void *body;      /* the operation's bytes, or own.data */
    size_t body_len;
    struct buf own;       /* a body that build wrote */
    char body_sha256[65]; /* a dialect's sign keeps it here between attempts; "" = not computed */
    struct buf note;      /* what build tells the same dialect's sign; never sent by itself */
    /* a copy's source, where it needs a signature of its own; borrowed from the call */
    const struct dialect_site *src;
    const char *src_key;
};
void dialect_request_fini(struct dialect_request *r);

struct dialect_answer {
    int http_status;
    const struct kvlist *headers;
    const char *body; /* never NULL; "" when it went elsewhere */
    size_t body_len;
    uint64_t body_got; /* bytes that came, wherever they went */
    int64_t signed_s;  /* the (corrected) wall clock the request was signed with */
    void *stream;      /* what stream_new made, fed and complete */
};

/* Pages that parse hands back; owned by the driver: dialect_page_fini. */
struct dialect_page {
    char *next[2]; /* both NULL: that was the last one. Else build is asked for one more request */
    /* BE_MP_PARTS, BE_MP_UPLOADS: what this page adds; the driver collects it */
    struct be_part_id *parts;
    size_t n_parts;
    struct be_upload *uploads;
    size_t n_uploads;
    size_t unshowable; /* BE_LIST: keys left out: empty, or with a NUL byte */
};
void dialect_page_fini(struct dialect_page *p);
/* Keeps the uploads of exactly that key: a prefix also finds longer ones. */
void dialect_page_only(struct dialect_page *p, const char *key);

enum dialect_follow {
    FOLLOW_NOT,     /* the answer is final */
    FOLLOW_AGAIN,   /* req was changed, and is the request to make next: elsewhere, or by another
                       method */
    FOLLOW_SUCCESS, /* final, and a success whatever its status says */
    FOLLOW_FAILED,  /* final: reterr says why */
};

struct be_dialect {
    const char *name; /* of the provider, "s3" */
    const char *const *archives; /* storage classes as be_archived means them, with a NULL at the
                                    end; NULL without BE_CAP_RESTORE */
    bool token_alone; /* a token makes requests valid by itself: id and token, no secret */
    /* From settings to a site; no request is made, but files that the settings name may be read.
     * Unknown, missing and contradictory settings are ERR_INVALID, one line that names section, key
     * and mend. */
    int (*configure)(const struct conf_remote *conf, struct dialect_site **ret,
                     struct errinfo *reterr);
    void (*release)(struct dialect_site *site); /* NULL is fine; wipes secrets */
    bool (*can_copy)(const struct dialect_site *dst,
                     const struct dialect_site *src); /* both of this dialect */
    /* Why the store takes no object of that key, as in be_ops. NULL: it takes
     * all. */
    const char *(*key_fault)(const struct dialect_site *site, const char *key);
    /* Whether `key` can be sent in a batch; the others are removed one by one. NULL: all can. */
    bool (*can_batch)(const struct dialect_site *site, const char *key);
    /* An unsigned request. ERR_INVALID when the store cannot do that (-EOPNOTSUPP: the caller
     * should do it by other means, e.g. stream instead of copy). */
    int (*build)(const struct dialect_site *site, const struct dialect_call *call,
                 struct dialect_request *ret, struct errinfo *reterr);
    /* Replaces the headers and query parameters of an earlier signature. */
    int (*sign)(const struct dialect_site *site, struct dialect_request *req, int64_t wall_s,
                struct errinfo *reterr);
    /* An operation that needs no request: 1 when it is done and its outputs are written, 0 when it
     * needs one after all, or -errno. NULL: all need one. */
    int (*local)(const struct dialect_site *site, const struct dialect_call *call,
                 struct errinfo *reterr);
    /* Any whole answer, before parse or classify see it. NULL: all answers are final. */
    enum dialect_follow (*follow)(const struct dialect_site *site, const struct dialect_call *call,
                                  const struct dialect_answer *a, struct dialect_request *req,
                                  struct errinfo *reterr);
    /* A 2xx answer. Writes the operation's outputs, all or none. A body that reports a failure is
     * one: reterr then is as from classify. ERR_INVALID with -EOPNOTSUPP: the store cannot do what
     * is left, and what the requests before made of the object is seen, not unknown. */
    int (*parse)(const struct dialect_site *site, const struct dialect_call *call,
                 const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr);
    /* Any other answer: class, code, request id, message, retry_after_ms. ERR_NONE: what is asked
     * for is so already, and parse is called as for a success. Codes that the driver or its callers
     * act upon have the same names at all providers: NoSuchBucket, NoSuchUpload; InvalidRange: a
     * read begins behind the end; PartExists: there is a part of that number, which stays. */
    void (*classify)(const struct dialect_site *site, const struct dialect_call *call,
                     const struct dialect_answer *a, struct errinfo *ret);
    /* Answers that are worth parsing while they come; NULL when they are not. stream_new may return
     * NULL for kinds that are collected. feed: 0 or -errno. */
    void *(*stream_new)(const struct dialect_site *site, const struct dialect_call *call);
    int (*stream_feed)(void *stream, const void *p, size_t n);
    void (*stream_free)(void *stream);
};

extern const struct be_dialect be_dialect_s3, be_dialect_cos, be_dialect_oss, be_dialect_ks3,
    be_dialect_azure, be_dialect_gcs, be_dialect_bos, be_dialect_upyun, be_dialect_qiniu,
    be_dialect_http;

/* --- shared by dialects: dialect.c
 * ----------------------------------------------------------------------------------- */

/* The request line's URL: scheme, host, path and encoded query. */
int dialect_url(const struct dialect_site *site, const struct dialect_request *r, struct buf *ret);
/* The request line's path and encoded query. */
int dialect_target(const struct dialect_request *r, struct buf *ret);
/* base + '/' + key, encoded. */
int dialect_path(const struct dialect_site *site, const char *key, struct buf *ret);

/* endPoint = HOST[:PORT] or a URL. ret_host loses a port that is the scheme's own. */
int dialect_endpoint(const struct conf_remote *conf, char **ret_host, struct errinfo *reterr);
bool dialect_host_is_address(
    const char *host); /* an IP address or localhost, with or without port */
/* Fills name, https and credentials; the second also the bucket, which it checks. */
int dialect_site_init_bare(struct dialect_site *site, const struct be_dialect *d,
                           const struct conf_remote *conf, struct errinfo *reterr);
int dialect_site_init(struct dialect_site *site, const struct be_dialect *d,
                      const struct conf_remote *conf, struct errinfo *reterr);
void dialect_site_fini(struct dialect_site *site);
/* The credentials of now, for one signature; NULL: requests are not signed. dialect_keys_put takes
 * NULL, too. */
struct dialect_keys *dialect_keys_get(const struct dialect_site *site);
void dialect_keys_put(struct dialect_keys *keys);
bool dialect_same_id(const struct dialect_site *a, const struct dialect_site *b);
/* Signatures from now on are made with conf's. ERR_INVALID, and nothing changes, when they cannot
 * be. */
int dialect_renew(const struct dialect_site *site, const struct conf_remote *conf,
                  struct errinfo *reterr);
/* An on/off setting that only dialects understand. */
bool dialect_option_on(const struct conf_remote *conf, const char *name, bool otherwise);
/* Lowers limits to what the configuration says. */
void dialect_limits(struct be_limits *l, const struct conf_remote *conf);

/* Wall-clock nanoseconds of "Tue, 14 Nov 2023 22:13:20 GMT" and "2023-11-14T22:13:20[.mmm]Z"; 0
 * when malformed. */
int64_t dialect_http_date(const char *s);
int64_t dialect_iso_date(const char *s);
/* Copies an etag without quotes. False when it does not fit or has characters no etag has. */
bool dialect_etag(const char *s, char ret[BE_ETAG_MAX]);
bool dialect_etag_is_hex(const char *etag); /* 32 hexadecimal digits: it may be an MD5 */
bool dialect_u64(const char *s, uint64_t *ret);
/* "bytes a-b/total", or "bytes * /total" (without the blank; *ret_first > *ret_last then). */
bool dialect_content_range(const char *s, uint64_t *ret_first, uint64_t *ret_last,
                           uint64_t *ret_total);
/* The same, and also "bytes a-b/" with a '*' at its end: a total that is not known is UINT64_MAX.
 */
bool dialect_content_range_open(const char *s, uint64_t *ret_first, uint64_t *ret_last,
                                uint64_t *ret_total);
/* The standard headers among an answer's, as metadata. */
void dialect_meta_standard(const struct kvlist *headers, struct kvlist *meta);
/* How far the server's clock is ahead of the one the request was signed with; 0 when it does not
 * say. Off by more than SUSPECT explains a refusal that gives no better reason. */
#define DIALECT_SKEW_SUSPECT_S 60
int64_t dialect_clock_off_s(const struct dialect_answer *a);
bool dialect_clock_off_by(const struct dialect_answer *a, int64_t allowed_s);
/* Milliseconds of a Retry-After of seconds; 0 for anything else. */
uint32_t dialect_retry_after(const char *s);

/* What requests of most providers carry. */
void dialect_set_number(struct kvlist *l, const char *name, uint64_t v);
void dialect_set_etag(struct kvlist *headers, const char *name, const char *etag); /* quoted */
void dialect_set_md5(struct kvlist *headers, const char *name, const uint8_t md5[16]); /* base64 */
void dialect_set_range(struct kvlist *headers, const char *name, uint64_t offset, uint64_t len);

/* The standard headers of backend.h, with a NULL at the end. */
extern const char *const dialect_standard_headers[];
bool dialect_is_standard(const char *name);

/* What a server says about itself goes to logs and terminals: one line of visible characters. NULL
 * is "". */
void dialect_text(char *to, size_t size, const char *from);
/* A 2xx that makes no sense. Trying again may help: proxies cut answers short. */
int dialect_garbled(const struct dialect_answer *a, struct errinfo *reterr, const char *what);
/* The whole object's size from the answer to a GET with a range, which must be what was asked
 * for. */
int dialect_read_size(const struct dialect_answer *a, const struct be_read *op, uint64_t *ret,
                      struct errinfo *reterr);

/* User metadata values travel in headers, where only visible ASCII arrives as it was sent. Any
 * other value, and one that looks encoded already, is written in the notation of RFC 8187: UTF-8''
 * followed by the percent-encoded bytes. Decoding undoes exactly what encoding can have produced,
 * so foreign values are shown as they are. */
int dialect_meta_encode(const char *value, struct buf *ret);
char *dialect_meta_decode(const char *value);
/* Names of user metadata for a provider that takes letters, digits and '-' only: any other byte, and
 * a '-' before another one, is written as "--" and two hexadecimal digits. Decoding as above. */
int dialect_meta_name_encode(const char *name, struct buf *ret);
char *dialect_meta_name_decode(const char *name);
bool dialect_header_name_ok(const char *name); /* a token of RFC 9110 */
/* One user metadatum as a header: prefix and name, the name encoded unless encode_name is NULL.
 * *bytes counts as most providers do: name without prefix, and value, as sent. */
int dialect_add_user_meta(const char *prefix, const char *name,
                          int (*encode_name)(const char *name, struct buf *ret), const char *value,
                          struct kvlist *headers, size_t *bytes, struct errinfo *reterr);
bool dialect_header_value_ok(const char *value); /* no control characters */

/* The reason in an answer that has no other: by status alone. */
enum err_class dialect_class_of_status(int http_status);
