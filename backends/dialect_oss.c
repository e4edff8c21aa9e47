/* Alibaba Cloud OSS, its own XML API. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "mem.h"
#include "names.h"

#define GIB (UINT64_C(1) << 30)
#define UNSIGNED "UNSIGNED-PAYLOAD" /* the only value OSS takes */
#define EC_V1_CLOSED "0002-00000080"

static const struct s3like_code oss_codes[] = {
    {"SecurityTokenExpired", ERR_AUTH},
    {"InvalidSecurityToken", ERR_AUTH},
    {"UserDisable", ERR_AUTH},
    {"SecondLevelDomainForbidden", ERR_INVALID},
    {"InvalidDigest", ERR_INTEGRITY}, /* ours are well-formed, so it was damaged on the way */
    {"QpsLimitExceeded", ERR_THROTTLED},
    {"DownloadTrafficRateLimitExceeded", ERR_THROTTLED},
    {"UploadTrafficRateLimitExceeded", ERR_THROTTLED},
    {NULL, ERR_NONE},
};

static const char *const oss_classes[] = {"Standard",    "IA",  "Archive", "ColdArchive",
                                          "DeepColdArchive", NULL};

static const struct s3like_service oss_service = {"oss-", ".aliyuncs.com", "cn-hangzhou", true};

/* "AES256" (or sse-oss), "SM4", "KMS" or "KMS:KEY-ID" */
static int oss_encryption(const struct s3like *s, const char *value, struct kvlist *headers,
                          struct errinfo *reterr)
{
    static const char header[] = "x-oss-server-side-encryption";
    if (strcasecmp(value, "AES256") == 0 || strcasecmp(value, "sse-oss") == 0) {
        kv_set(headers, header, "AES256");
    } else if (strcasecmp(value, "SM4") == 0) {
        kv_set(headers, header, "SM4");
    } else if (strcasecmp(value, "KMS") == 0) {
        kv_set(headers, header, "KMS");
    } else if (strncasecmp(value, "KMS:", 4) == 0) {
        kv_set(headers, header, "KMS");
        kv_set(headers, "x-oss-server-side-encryption-key-id", value + 4);
    } else {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] encryptionType: '%.60s' is unknown; use AES256, SM4, KMS or KMS:KEY-ID",
                       s->site.name, value);
    }
    return 0;
}

static int oss_sign_v4(const struct s3like *s, const struct sign_key *key,
                       struct dialect_request *r, int64_t wall_s, struct sign_out *out)
{
    char date[SIGN_DATE_SIZE];
    sign_date_iso(wall_s, date);
    kv_set(&r->headers, "x-oss-date", date);
    kv_set(&r->headers, "x-oss-content-sha256", UNSIGNED);
    bool virtual_host = s->site.base[0] == '\0';
    CLEANUP(mem_freep) char *path = mem_printf("%s%s%s", virtual_host ? "/" : "",
                                               virtual_host ? s->site.bucket : "", buf_str(&r->path));
    struct sign_req req = {r->method, path, &r->query, &r->headers};
    return sign_v4(&sign_v4_oss, &req, key, s->region, date, UNSIGNED, out);
}

static int oss_place(const struct conf_remote *conf, struct s3like *s, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *endpoint = NULL;
    struct conf_remote plain = *conf;
    if (conf->region && strncmp(conf->region, "oss-", 4) == 0) {
        plain.region += 4; /* the console's spelling */
    }
    int err = s3like_place(s, &plain, &oss_service, &endpoint, reterr);
    if (err < 0) {
        return err;
    }
    s3like_home(s, &plain, &oss_service, endpoint);
    if (s->signature == oss_sign_v4 &&
        (s->region[0] == '\0' || strncmp(s->region, "accelerate", 10) == 0)) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] region: missing; V4 signatures need it beside endPoint = %.60s",
                       s->site.name, endpoint);
    }
    return 0;
}

static const char *const oss_archives[] = {"Archive", "ColdArchive", "DeepColdArchive",
                                           NULL};

static int oss_configure(const struct conf_remote *conf, struct dialect_site **ret,
                         struct errinfo *reterr)
{
    static const char *const signatures[] = {"v4", "v1"};
    struct s3like *s = mem_zalloc(sizeof(*s));
    struct dialect_site *site = &s->site;
    bool v1 = false;
    s->vendor = "x-oss-";
    s->restore_job = "JobParameters";
    s->replace = "REPLACE";
    s->crc64_header = "x-oss-hash-crc64ecma";
    s->codes = oss_codes;
    s->encryption = oss_encryption;
    s->classes = oss_classes;
    s->list_version = 1;
    s->uploads_encoded = true;
    s->forbid_overwrite = true;
    s->range_standard = true;
    s->removed_listed = true; /* its quiet answer has no body */
    s->skew_unsaid = true;
    s->meta_names_plain = true;
    int err = s3like_begin(s, &be_dialect_oss, conf, reterr);
    if (err == 0) {
        err = s3like_signature(s, conf, signatures, &v1, reterr);
    }
    s->v2 = &sign_v2_oss;
    s->signature = v1 ? s3like_sign_v2 : oss_sign_v4;
    if (err == 0) {
        err = oss_place(conf, s, reterr);
    }
    if (err < 0) {
        s3like_release(site);
        return err;
    }
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_PART_COPY |
                 BE_CAP_REMOVE_MANY | BE_CAP_LIST_STRONG | BE_CAP_CRC64 | BE_CAP_RESTORE;
    /* buckets with versioning ignore it: conditionalWrites = off is for them */
    site->caps |= dialect_option_on(conf, "conditionalWrites", true) ? BE_CAP_IF_ABSENT : 0;
    site->limits.max_copy = GIB; /* advised; within a bucket it takes more */
    site->limits.min_part = 100u << 10;
    site->limits.max_key = 1023;
    site->limits.max_meta = 8192;
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

static const char *oss_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    if (key[0] == '/' || key[0] == '\\') {
        return "OSS takes no key that begins with '/' or '\\'";
    }
    if (strpbrk(key, "\r\n")) {
        return "OSS takes no key with a line break";
    }
    return names_is_utf8(key, strlen(key)) ? NULL : "OSS takes no key that is not UTF-8";
}

static void oss_classify(const struct dialect_site *site, const struct dialect_call *call,
                         const struct dialect_answer *a, struct errinfo *ret)
{
    const char *ec = kv_get(a->headers, "x-oss-ec");
    s3like_classify(site, call, a, ret);
    if (ec && strcmp(ec, EC_V1_CLOSED) == 0) {
        err_set(ret, ERR_AUTH, 0,
                "this bucket takes no V1 signatures; remove signatureVersion from [%s]",
                site->name);
    }
}

const struct be_dialect be_dialect_oss = {
    .name = "oss",
    .archives = oss_archives,
    .configure = oss_configure,
    .release = s3like_release,
    .can_copy = s3like_can_copy,
    .key_fault = oss_key_fault,
    .can_batch = s3like_can_batch,
    .build = s3like_build,
    .sign = s3like_sign,
    .parse = s3like_parse,
    .classify = oss_classify,
    .stream_new = s3like_stream_new,
    .stream_feed = s3like_stream_feed,
    .stream_free = s3like_stream_free,
};
