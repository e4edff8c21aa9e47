/* Sites of the S3 and COS dialects for the tests of both directions. */
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
