/* Sites of dialects, and requests and answers, for the tests of both directions. */
#pragma once

#include "unit.h"

#include <errno.h>
#include <string.h>

#include "dialect.h"
#include "mem.h"

/* The configuration's strings are its own to change; literals are not. */
#define LIT(s) ((char *)(uintptr_t)(s))

static inline struct conf_remote conf(const char *bucket, const char *region, const char *endpoint)
{
    return (struct conf_remote){.name = LIT("r"),
                                .bucket = LIT(bucket),
                                .region = LIT(region),
                                .endpoint = LIT(endpoint),
                                .access_key_id = LIT("AKID"),
                                .https = true,
                                .storage_class = LIT(""),
                                .encryption = LIT(""),
                                .connect_to = LIT(""),
                                .signature = LIT(""),
                                .prefix = LIT("")};
}

static inline int configure(const struct be_dialect *d, struct conf_remote c,
                            struct dialect_site **ret, struct errinfo *err)
{
    c.access_key_secret = secret_new("SECRET");
    int rc = d->configure(&c, ret, err);
    secret_free(c.access_key_secret);
    return rc;
}

static inline struct dialect_site *site(const struct be_dialect *d, struct conf_remote c)
{
    struct dialect_site *s = NULL;
    struct errinfo err = {0};
    int rc = configure(d, c, &s, &err);
    if (rc != 0) {
        fail_msg("%s", err.message);
    }
    return s;
}

static inline void assert_place(const struct dialect_site *s, const char *host, const char *base,
                                const char *identity)
{
    assert_string_equal(s->host, host);
    assert_string_equal(s->base, base);
    assert_string_equal(s->identity, identity);
}

static inline struct dialect_site *aws(void)
{
    return site(&be_dialect_s3, conf("bkt", "eu-west-1", ""));
}

static inline struct dialect_site *ceph(void)
{
    struct conf_remote c = conf("bkt", "", "http://127.0.0.1:7480");
    c.https = false;
    return site(&be_dialect_s3, c);
}

static inline struct dialect_site *tencent(void)
{
    return site(&be_dialect_cos, conf("bkt-1250000000", "ap-guangzhou", ""));
}

static inline struct dialect_site *alibaba(void)
{
    return site(&be_dialect_oss, conf("bkt", "cn-hangzhou", ""));
}

static inline struct dialect_site *kingsoft(const char *signature)
{
    struct conf_remote c = conf("bkt", "cn-beijing", "");
    c.signature = LIT(signature);
    return site(&be_dialect_ks3, c);
}

/* --- requests */

static inline int build(const struct dialect_site *s, enum be_kind kind, struct be_op *op,
                 const struct dialect_site *src, struct dialect_request *r, struct errinfo *err)
{
    struct dialect_call call = {.kind = kind, .op = op, .src = src};
    static const size_t all[] = {0, 1, 2, 3};
    if (kind == BE_REMOVE_MANY) {
        call.chosen = all;
        call.n_chosen = CONTAINER_OF(op, struct be_many, op)->n_keys;
    }
    return s->dialect->build(s, &call, r, err);
}

#define BUILD(s, kind, o, src, r)                                                                  \
    do {                                                                                           \
        struct errinfo err_ = {0};                                                                 \
        if (build(s, kind, &(o)->op, src, r, &err_) != 0) {                                        \
            fail_msg("%s", err_.message);                                                          \
        }                                                                                          \
    } while (0)

static inline void assert_url(const struct dialect_site *s, const struct dialect_request *r,
                       const char *expected)
{
    CLEANUP(buf_fini) struct buf url = BUF_INIT;
    assert_int_equal(dialect_url(s, r, &url), 0);
    assert_string_equal(buf_str(&url), expected);
}

static inline void assert_header(const struct dialect_request *r, const char *name, const char *expected)
{
    const char *v = kv_get(&r->headers, name);
    if (!expected) {
        assert_null(v);
        return;
    }
    if (!v) {
        fail_msg("no %s", name);
    }
    assert_string_equal(v, expected);
}

/* --- answers */

static inline struct errinfo classify(const struct dialect_site *s, int status, const char *body,
                               const char *header, const char *value)
{
    CLEANUP(kv_fini) struct kvlist headers = {0};
    struct be_stat o = {.op = {.key = "k"}};
    struct dialect_call call = {.kind = BE_STAT, .op = &o.op};
    if (header) {
        kv_set(&headers, header, value);
    }
    struct dialect_answer a = {.http_status = status,
                               .headers = &headers,
                               .body = body,
                               .body_len = strlen(body),
                               .signed_s = 1700000000};
    struct errinfo err = {0};
    s->dialect->classify(s, &call, &a, &err);
    assert_int_equal(err.http_status, status);
    assert_true(err.cls != ERR_NONE && err.message[0] != '\0');
    return err;
}

#define ERROR(code, more) "<Error><Code>" code "</Code>" more "</Error>"

struct answer {
    struct kvlist headers;
    struct dialect_page page;
    struct errinfo err;
};

static inline void answer_fini(struct answer *a)
{
    kv_fini(&a->headers);
    dialect_page_fini(&a->page);
}

static inline int parse(const struct dialect_site *s, enum be_kind kind, struct be_op *op, int status,
                 const char *body, uint64_t got, struct answer *ans)
{
    static const size_t all[] = {0, 1, 2};
    static struct errinfo errs[3];
    struct dialect_call call = {.kind = kind, .op = op, .chosen = all, .n_chosen = 3, .errs = errs};
    struct dialect_answer a = {.http_status = status,
                               .headers = &ans->headers,
                               .body = body,
                               .body_len = strlen(body),
                               .body_got = got};
    memset(errs, 0, sizeof(errs));
    int rc = s->dialect->parse(s, &call, &a, &ans->page, &ans->err);
    if (kind == BE_REMOVE_MANY && rc == 0) {
        ans->err = errs[1];
    }
    return rc;
}
