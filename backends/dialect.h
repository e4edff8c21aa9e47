/* What an HTTP object store provides instead of a driver: pure functions that turn operations into
 * requests and answers into results. objstore.c does all the rest.
 *
 * No function here does I/O, reads a clock, retries or logs, and none takes a lock but the keyring's
 * own. A site is written by configure and read-only after it, but for its keyring, so every function but configure and release may run on any
 * number of threads at once. */
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
};

/* One set of credentials. Constant; shared by those who sign with it. */
struct dialect_keys {
    atomic_uint refs;
    char *id;
    struct secret *secret, *token; /* token may be NULL */
};

/* One request of an operation. Several make one operation when lists have pages or a batch is
 * split. */
struct dialect_call {
    enum be_kind kind;
    struct be_op *op; /* of that kind; the inputs are read by build, the outputs written by parse */
    bool head;        /* BE_READ: only the headers are wanted */
    const struct dialect_site *src; /* BE_COPY, BE_MP_PART with a source: where it is */
    const char
        *page[2]; /* what parse of the call before returned; NULL at first: the next page of
                     BE_MP_PARTS and BE_MP_UPLOADS, the next step of what takes several requests */
    const size_t *chosen; /* BE_REMOVE_MANY: indexes into the operation's keys … */
    size_t n_chosen;
    struct errinfo *errs; /* … and where parse says what became of each, by the same indexes */
};

struct dialect_request {
    const char *method;    /* NULL: nothing is to be asked; parse gets an answer of status 0 */
    const char *host;      /* the site's memory; NULL = site->host. For services of several hosts */
    bool http;             /* that host is spoken to in the clear, whatever site->https says */
    struct buf path;       /* encoded, begins with '/', base included */
    struct kvlist query;   /* decoded */
    struct buf wire_query; /* encoded: sign's own, sent after the query as it is */
    struct kvlist headers; /* all that is sent, "host" too; sign adds its own */
    const void *body;      /* the operation's bytes, or own.data */
    size_t body_len;
    struct buf own;       /* a body that build wrote */
    char body_sha256[65]; /* a dialect's sign keeps it here between attempts; "" = not computed */
    struct buf note;      /* what build tells the same dialect's sign; never sent by itself */
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

struct be_dialect {
    const char *name; /* of the provider, "s3" */
    /* From settings to a site; no request is made. Unknown, missing and contradictory settings are
     * ERR_INVALID, one line that names section, key and mend. */
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
    /* Replaces the headers of an earlier signature. */
    int (*sign)(const struct dialect_site *site, struct dialect_request *req, int64_t wall_s,
                struct errinfo *reterr);
    /* A 2xx answer. Writes the operation's outputs, all or none. A body that reports a failure is
     * one: reterr then is as from classify. */
    int (*parse)(const struct dialect_site *site, const struct dialect_call *call,
                 const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr);
    /* Any other answer: class, code, request id, message, retry_after_ms. */
    void (*classify)(const struct dialect_site *site, const struct dialect_call *call,
                     const struct dialect_answer *a, struct errinfo *ret);
    /* Answers that are worth parsing while they come; NULL when they are not. stream_new may return
     * NULL for kinds that are collected. feed: 0 or -errno. */
    void *(*stream_new)(const struct dialect_site *site, const struct dialect_call *call);
    int (*stream_feed)(void *stream, const void *p, size_t n);
    void (*stream_free)(void *stream);
};

extern const struct be_dialect be_dialect_s3, be_dialect_cos, be_dialect_qiniu;

/* --- shared by dialects: dialect.c
 * ----------------------------------------------------------------------------------- */

/* The request line's URL: scheme, host, path and encoded query. */
int dialect_url(const struct dialect_site *site, const struct dialect_request *r, struct buf *ret);
/* base + '/' + key, encoded. */
int dialect_path(const struct dialect_site *site, const char *key, struct buf *ret);

/* endPoint = HOST[:PORT] or a URL. ret_host loses a port that is the scheme's own. */
int dialect_endpoint(const struct conf_remote *conf, char **ret_host, struct errinfo *reterr);
bool dialect_host_is_address(
    const char *host); /* an IP address or localhost, with or without port */
/* Fills name, https, bucket and credentials. */
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
/* Whether a 200 or 206 holds the range that was asked for. *ret_size is the whole object's. */
int dialect_range(const struct dialect_answer *a, const struct be_read *op, uint64_t *ret_size,
                  struct errinfo *reterr);
/* Fails for a 2xx that makes no sense. Trying again may help: proxies cut answers short. */
int dialect_garbled(const struct dialect_answer *a, struct errinfo *reterr, const char *what);
/* What a server says about itself goes to logs and terminals: one line of visible characters. NULL is "". */
void dialect_copy_text(char *to, size_t size, const char *from);
/* Milliseconds of a Retry-After of seconds; 0 for anything else. */
uint32_t dialect_retry_after(const char *s);

/* User metadata values travel in headers, where only visible ASCII arrives as it was sent. Any
 * other value, and one that looks encoded already, is written in the notation of RFC 8187: UTF-8''
 * followed by the percent-encoded bytes. Decoding undoes exactly what encoding can have produced,
 * so foreign values are shown as they are. */
int dialect_meta_encode(const char *value, struct buf *ret);
char *dialect_meta_decode(const char *value);
bool dialect_header_name_ok(const char *name);   /* a token of RFC 9110 */
bool dialect_header_value_ok(const char *value); /* no control characters */

/* The reason in an answer that has no other: by status alone. */
enum err_class dialect_class_of_status(int http_status);
