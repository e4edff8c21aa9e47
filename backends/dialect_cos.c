/* Tencent COS, its own XML API with q-sign. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "mem.h"
#include "names.h"

/* Signatures begin in the past, for clocks that are slightly ahead of COS's, and end soon. */
#define SIGN_BEFORE_S 60
#define SIGN_AFTER_S 1800

static const struct s3like_code cos_codes[] = {
    {"InvalidSecretId", ERR_AUTH},
    {"InvalidDigest", ERR_INTEGRITY}, /* ours are well-formed, so it was damaged on the way */
    {"RequestIsNotAllowed", ERR_AUTH},
    {"InvalidObjectState", ERR_ARCHIVED},
    {"ObjectLocked", ERR_AUTH},
    {NULL, ERR_NONE},
};

/* "sse-cos" (or AES256), "cos/kms" or "cos/kms:KEY-ID" */
static int cos_encryption(const struct s3like *s, const char *value, struct kvlist *headers,
                          struct errinfo *reterr)
{
    if (strcasecmp(value, "sse-cos") == 0 || strcasecmp(value, "AES256") == 0) {
        kv_set(headers, "x-cos-server-side-encryption", "AES256");
    } else if (strcasecmp(value, "cos/kms") == 0 || strcasecmp(value, "sse-kms") == 0) {
        kv_set(headers, "x-cos-server-side-encryption", "cos/kms");
    } else if (strncasecmp(value, "cos/kms:", 8) == 0) {
        kv_set(headers, "x-cos-server-side-encryption", "cos/kms");
        kv_set(headers, "x-cos-server-side-encryption-cos-kms-key-id", value + 8);
    } else {
        return err_set(
            reterr, ERR_INVALID, -EINVAL,
            "[%s] encryptionType: '%.60s' is unknown; use sse-cos, cos/kms or cos/kms:KEY-ID",
            s->site.name, value);
    }
    return 0;
}

/* The bucket's name ends in "-APPID"; without it every request fails with a misleading
 * NoSuchBucket. */
static int check_bucket(const char *name, const char *bucket, struct errinfo *reterr)
{
    const char *dash = strrchr(bucket, '-');
    if (!dash || dash[1] == '\0' || strspn(dash + 1, "0123456789") != strlen(dash + 1)) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] bucket: '%.100s' lacks its APPID; write it as BUCKET-1250000000", name,
                       bucket);
    }
    return 0;
}

static int cos_place(const struct conf_remote *conf, struct s3like *s, struct errinfo *reterr)
{
    static const struct s3like_service service = {"cos.", ".myqcloud.com", "ap-guangzhou", false};
    struct dialect_site *site = &s->site;
    const char *region = conf->region ? conf->region : "";
    CLEANUP(mem_freep) char *endpoint = NULL;
    int err = s3like_place(s, conf, &service, &endpoint, reterr);
    if (err < 0) {
        return err;
    }
    /* how other buckets' copy requests name this one: never the accelerated or internal entrance it
     * is used through */
    if (region[0] != '\0' &&
        (strstr(endpoint, "myqcloud.com") || strstr(endpoint, "tencentcos.cn"))) {
        s->copy_host = mem_printf("%s.cos.%s.myqcloud.com", site->bucket, region);
    } else {
        s->copy_host = mem_printf("%s.%s", site->bucket, endpoint);
    }
    site->service = mem_strdup("cos");
    site->identity = mem_printf("cos:%s", site->bucket); /* names are unique in the whole service */
    return 0;
}

static int cos_signature(const struct s3like *s, const struct sign_key *key,
                         struct dialect_request *r, int64_t wall_s, struct sign_out *out)
{
    (void)s;
    char key_time[64];
    snprintf(key_time, sizeof(key_time), "%lld;%lld", (long long)wall_s - SIGN_BEFORE_S,
             (long long)wall_s + SIGN_AFTER_S);
    struct sign_req req = {r->method, buf_str(&r->path), &r->query, &r->headers};
    return sign_cos(&req, key, key_time, out);
}

static const char *const cos_archives[] = {"ARCHIVE", "DEEP_ARCHIVE", "MAZ_ARCHIVE", "INTELLIGENT_TIERING", "MAZ_INTELLIGENT_TIERING",
                                           NULL};

static int cos_configure(const struct conf_remote *conf, struct dialect_site **ret,
                         struct errinfo *reterr)
{
    struct s3like *s = mem_zalloc(sizeof(*s));
    struct dialect_site *site = &s->site;
    s->vendor = "x-cos-";
    s->restore_job = "CASJobParameters";
    s->replace = "Replaced";
    s->crc64_header = "x-cos-hash-crc64ecma";
    s->codes = cos_codes;
    s->encryption = cos_encryption;
    s->list_version = 1;
    s->plus_is_space = false;
    s->uploads_encoded = true;
    s->signature = cos_signature;
    int err = s3like_begin(s, &be_dialect_cos, conf, reterr);
    if (err == 0) {
        err = check_bucket(site->name, site->bucket, reterr);
    }
    if (err == 0) {
        err = cos_place(conf, s, reterr);
    }
    if (err < 0) {
        s3like_release(site);
        return err;
    }
    /* Conditions on writes are not documented; x-cos-forbid-overwrite is ignored by versioned
     * buckets. */
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_PART_COPY |
                 BE_CAP_REMOVE_MANY | BE_CAP_LIST_STRONG | BE_CAP_CRC64 | BE_CAP_RESTORE;
    site->limits.min_part = 1u << 20;
    site->limits.max_key = 850;
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

static bool cos_can_copy(const struct dialect_site *dst, const struct dialect_site *src)
{
    /* across regions too; another account's bucket may need a permission that nobody can see from
     * here */
    return dialect_same_id(dst, src);
}

/* As its documentation on object names says. */
static const char *cos_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    for (const char *p = key; *p; p++) {
        if (*p >= 0x18 && *p <= 0x1b) {
            return "COS takes no key with a control character 0x18 to 0x1b";
        }
    }
    return names_is_utf8(key, strlen(key)) ? NULL : "COS takes no key that is not UTF-8";
}

const struct be_dialect be_dialect_cos = {
    .name = "cos",
    .archives = cos_archives,
    .configure = cos_configure,
    .release = s3like_release,
    .can_copy = cos_can_copy,
    .key_fault = cos_key_fault,
    .can_batch = s3like_can_batch,
    .build = s3like_build,
    .sign = s3like_sign,
    .parse = s3like_parse,
    .classify = s3like_classify,
    .stream_new = s3like_stream_new,
    .stream_feed = s3like_stream_feed,
    .stream_free = s3like_stream_free,
};
