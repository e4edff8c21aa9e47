/* Amazon S3 and services that are compatible with it. What differs between them is one table;
 * nothing below it asks who the provider is. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "mem.h"
#include "names.h"
#include "sign.h"

enum trait {
    CONDITIONS = 1 << 0, /* If-Match and If-None-Match on writes are known to be honoured */
    MD5S_ETAG = 1 << 1,  /* the etag of a multipart object is the AWS formula */
    BATCH = 1 << 2,      /* removes many keys at once */
    PART_COPY = 1 << 3,
    VIRTUAL_ONLY = 1 << 4, /* path style is refused */
    LIST_V1 = 1 << 5,      /* only */
    LIKE_CEPH = 1 << 6,    /* see s3_configure */
};

struct flavour {
    const char *suffix;  /* of the endpoint's host */
    const char *service; /* whose buckets copy from each other; NULL = the endpoint */
    unsigned traits;
    uint64_t max_copy, max_object;
    uint64_t part_copy_source_min;
};

#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)
#define PARTS_FULL (10000 * 5 * GIB) /* 48.8 TiB */

#define AWS (CONDITIONS | MD5S_ETAG | BATCH | PART_COPY)

static const struct flavour flavours[] = {
    /* UploadPartCopy takes ranges only of sources over 5 MB (AWS API reference, CopySourceRange) */
    {"amazonaws.com.cn", "aws-cn", AWS, 5 * GIB, PARTS_FULL, 5u << 20},
    {"amazonaws.com", "aws", AWS, 5 * GIB, PARTS_FULL, 5u << 20},
    /* GCS knows no UploadPartCopy and no multi-object delete, and copies any size */
    {"storage.googleapis.com", NULL, 0, 5 * TIB, 5 * TIB, 0},
    {"myqcloud.com", NULL, BATCH | PART_COPY | LIST_V1, 5 * GIB, PARTS_FULL, 0},
    {"tencentcos.cn", NULL, BATCH | PART_COPY | LIST_V1, 5 * GIB, PARTS_FULL, 0},
    {"aliyuncs.com", NULL, BATCH | PART_COPY | VIRTUAL_ONLY, GIB, PARTS_FULL, 0},
    {"qiniucs.com", NULL, BATCH | PART_COPY, 5 * GIB, 5 * TIB, 0},
    {"ksyuncs.com", NULL, BATCH | PART_COPY | VIRTUAL_ONLY, 5 * GIB, PARTS_FULL, 0},
    {"bcebos.com", NULL, BATCH | PART_COPY, 5 * GIB, 5 * TIB, 0},
    /* Any other: Ceph, MinIO, private clouds. Some ignore conditions on writes, so they are not
     * relied on. */
    {"", NULL, MD5S_ETAG | BATCH | PART_COPY | LIKE_CEPH, 5 * GIB, 5 * TIB, 0},
};

struct s3 {
    struct s3like like; /* first */
    char *region;
    bool v2;
    bool virtual_host;
    bool unsigned_payload; /* bodies are covered by TLS, or by Content-MD5 alone if the
                              configuration says so */
};

static const struct s3 *of(const struct dialect_site *site)
{
    return (const struct s3 *)(const void *)site;
}

static bool ends_with_domain(const char *host, const char *suffix)
{
    size_t n = strcspn(host, ":"), m = strlen(suffix);
    if (m == 0) {
        return true;
    }
    return n >= m && strncasecmp(host + n - m, suffix, m) == 0 &&
           (n == m || host[n - m - 1] == '.');
}

static const struct flavour *flavour_of(const char *host)
{
    const struct flavour *f = flavours;
    while (!ends_with_domain(host, f->suffix)) {
        f++; /* the last one always matches */
    }
    return f;
}

/* "AES256" (or sse-s3), "aws:kms", "aws:kms:dsse", or "aws:kms:KEY-ID" */
static int s3_encryption(const struct s3like *s, const char *value, struct kvlist *headers,
                         struct errinfo *reterr)
{
    if (strcasecmp(value, "AES256") == 0 || strcasecmp(value, "sse-s3") == 0) {
        kv_set(headers, "x-amz-server-side-encryption", "AES256");
    } else if (strcasecmp(value, "aws:kms") == 0 || strcasecmp(value, "sse-kms") == 0) {
        kv_set(headers, "x-amz-server-side-encryption", "aws:kms");
    } else if (strcasecmp(value, "aws:kms:dsse") == 0) {
        kv_set(headers, "x-amz-server-side-encryption", "aws:kms:dsse");
    } else if (strncasecmp(value, "aws:kms:", 8) == 0) {
        kv_set(headers, "x-amz-server-side-encryption", "aws:kms");
        kv_set(headers, "x-amz-server-side-encryption-aws-kms-key-id", value + 8);
    } else {
        return err_set(
            reterr, ERR_INVALID, -EINVAL,
            "[%s] encryptionType: '%.60s' is unknown; use AES256, aws:kms or aws:kms:KEY-ID",
            s->site.name, value);
    }
    return 0;
}

static void s3_release(struct dialect_site *site)
{
    if (site) {
        free(((struct s3 *)(void *)site)->region);
        s3like_release(site);
    }
}

static int choose_endpoint(const struct conf_remote *conf, struct s3 *s, char **ret_host,
                           struct errinfo *reterr)
{
    const char *region = conf->region ? conf->region : "";
    if (conf->endpoint && conf->endpoint[0] != '\0') {
        int err = dialect_endpoint(conf, ret_host, reterr);
        if (err < 0) {
            return err;
        }
        if (region[0] == '\0' && strncmp(*ret_host, "s3.", 3) == 0 &&
            strstr(*ret_host, ".amazonaws.com")) {
            s->region = mem_strndup(*ret_host + 3, strcspn(*ret_host + 3, "."));
            return 0;
        }
        s->region = mem_strdup(region[0] != '\0' ? region : "us-east-1");
        return 0;
    }
    if (region[0] == '\0') {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] region: missing; set region (e.g. us-east-1), or endPoint for a "
                       "service that is not AWS",
                       conf->name);
    }
    for (const char *p = region; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '-') {
            return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] region: '%.60s' is not one",
                           conf->name, region);
        }
    }
    s->region = mem_strdup(region);
    *ret_host =
        mem_printf("s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    return 0;
}

/* Host, base path, identity, and what may be copied from. */
static int place(const struct conf_remote *conf, struct s3 *s, char *endpoint,
                 const struct flavour *f, struct errinfo *reterr)
{
    struct dialect_site *site = &s->like.site;
    size_t bucket_len = strlen(site->bucket);
    bool in_host =
        strncasecmp(endpoint, site->bucket, bucket_len) == 0 && endpoint[bucket_len] == '.';
    char *service_host = in_host ? endpoint + bucket_len + 1 : endpoint;
    bool dotted =
        strchr(site->bucket, '.') != NULL && site->https; /* no wildcard certificate covers it */
    bool path = !in_host && (conf->path_style || dialect_host_is_address(endpoint) || dotted);
    if (path && (f->traits & VIRTUAL_ONLY)) {
        return err_set(
            reterr, ERR_INVALID, -EINVAL,
            "[%s] pathStyle: %.60s takes the bucket in the host name only; set pathStyle = off",
            site->name, endpoint);
    }
    s->virtual_host = !path;
    site->host =
        in_host || path ? mem_strdup(endpoint) : mem_printf("%s.%s", site->bucket, endpoint);
    site->base = path ? mem_printf("/%s", site->bucket) : mem_strdup("");
    site->service = mem_strdup(f->service ? f->service : service_host);
    if (f->service) {
        site->identity = mem_printf("s3:%s:%s", f->service, site->bucket);
    } else {
        site->identity = mem_printf("s3:%s/%s", service_host, site->bucket);
    }
    return 0;
}

static int s3_configure(const struct conf_remote *conf, struct dialect_site **ret,
                        struct errinfo *reterr)
{
    struct s3 *s = mem_zalloc(sizeof(*s));
    struct dialect_site *site = &s->like.site;
    CLEANUP(mem_freep) char *endpoint = NULL;
    int err = dialect_site_init(site, &be_dialect_s3, conf, reterr);
    if (err == 0) {
        err = choose_endpoint(conf, s, &endpoint, reterr);
    }
    const struct flavour *f = err == 0 ? flavour_of(endpoint) : NULL;
    if (err == 0) {
        err = place(conf, s, endpoint, f, reterr);
    }
    struct kvlist probe = {0};
    s->like.encryption_default = mem_strdup(conf->encryption ? conf->encryption : "");
    if (err == 0 && s->like.encryption_default[0] != '\0') {
        err = s3_encryption(&s->like, s->like.encryption_default, &probe, reterr);
    }
    kv_fini(&probe);
    const char *signature = conf->signature && conf->signature[0] != '\0' ? conf->signature : "v4";
    if (err == 0 && strcmp(signature, "v4") != 0 && strcmp(signature, "v2") != 0) {
        err = err_set(reterr, ERR_INVALID, -EINVAL,
                      "[%s] signatureVersion: '%.20s' is unknown; use v4 or v2", site->name,
                      signature);
    }
    if (err < 0) {
        s3_release(site);
        return err;
    }
    s->v2 = strcmp(signature, "v2") == 0;
    s->unsigned_payload = dialect_option(conf, "unsignedPayload", site->https);
    s->like.vendor = "x-amz-";
    s->like.replace = "REPLACE";
    s->like.encryption = s3_encryption;
    s->like.list_version = conf->list_version == 1 || (f->traits & LIST_V1) ? 1 : 2;
    s->like.plus_is_space = true;
    bool ceph = f->traits & LIKE_CEPH;
    /* Ceph decodes the key of a part's source twice, knows the condition on a copy's source by
     * another name and for parts not at all, and encodes only half of a list of uploads without
     * saying so (all seen with 16.2). What that costs others of its row: server-side copies of
     * parts for keys with '%', and two HEADs for each copied part. */
    s->like.part_copy_decodes_twice = ceph;
    s->like.copy_if_match_alias = ceph;
    s->like.uploads_encoded = !ceph;
    site->part_source_unchecked = ceph;
    s->like.part_copy_source_min = f->part_copy_source_min;
    s->like.storage_class = s3like_storage_class(conf->storage_class);

    bool kms = strstr(s->like.encryption_default, "kms") != NULL;
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_LIST_STRONG;
    site->caps |= f->traits & PART_COPY ? BE_CAP_PART_COPY : 0;
    site->caps |= f->traits & BATCH ? BE_CAP_REMOVE_MANY : 0;
    site->caps |= (f->traits & MD5S_ETAG) && !kms ? BE_CAP_MP_ETAG_MD5S : 0;
    if (dialect_option(conf, "conditionalWrites", f->traits & CONDITIONS)) {
        site->caps |= BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT;
    }
    site->limits = (struct be_limits){.max_object = f->max_object,
                                      .max_put = 5 * GIB,
                                      .max_copy = f->max_copy,
                                      .min_part = 5u << 20,
                                      .max_part = 5 * GIB,
                                      .max_parts = 10000,
                                      .max_key = 1024,
                                      .max_meta = 2048,
                                      .list_page = 1000,
                                      .batch = 1000};
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

static bool s3_can_copy(const struct dialect_site *dst, const struct dialect_site *src)
{
    return strcmp(dst->service, src->service) == 0 && dialect_same_id(dst, src);
}

/* AWS answers such a path with InvalidURI, Ceph with InvalidObjectName. All else it takes, control
 * characters, "." and ".." among it. */
static const char *s3_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    return names_is_utf8(key, strlen(key)) ? NULL : "S3 takes no key that is not UTF-8";
}

static int s3_sign_v4(const struct s3 *s, const struct dialect_keys *keys,
                      struct dialect_request *r, int64_t wall_s, struct sign_out *out)
{
    char date[SIGN_DATE_SIZE];
    sign_date_iso(wall_s, date);
    dialect_payload_sha256(r, s->unsigned_payload);
    kv_set(&r->headers, "x-amz-date", date);
    kv_set(&r->headers, "x-amz-content-sha256", r->body_sha256);
    struct sign_req req = {r->method, buf_str(&r->path), &r->query, &r->headers};
    struct sign_key key = {keys->id, keys->secret->bytes, keys->secret->len};
    return sign_v4(&sign_v4_aws, &req, &key, s->region, date, r->body_sha256, out);
}

static int s3_sign_v2(const struct s3 *s, const struct dialect_keys *keys,
                      struct dialect_request *r, int64_t wall_s, struct sign_out *out)
{
    const struct dialect_site *site = &s->like.site;
    char date[SIGN_DATE_SIZE];
    sign_date_http(wall_s, date);
    kv_set(&r->headers, "date", date);
    struct sign_req req = {r->method, buf_str(&r->path), &r->query, &r->headers};
    struct sign_key key = {keys->id, keys->secret->bytes, keys->secret->len};
    return sign_v2(&sign_v2_aws, &req, &key, s->virtual_host ? site->bucket : NULL, NULL, out);
}

static int s3_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
                   struct errinfo *reterr)
{
    const struct s3 *s = of(site);
    struct dialect_keys *keys = dialect_keys_get(site);
    if (!keys) {
        return 0;
    }
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    kv_set(&r->headers, "authorization", NULL);
    kv_set(&r->headers, "x-amz-security-token", keys->token ? keys->token->bytes : NULL);
    int err = s->v2 ? s3_sign_v2(s, keys, r, wall_s, &out) : s3_sign_v4(s, keys, r, wall_s, &out);
    dialect_keys_put(keys);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "signature: no memory");
    }
    kv_set(&r->headers, "authorization", buf_str(&out.authorization));
    return 0;
}

const struct be_dialect be_dialect_s3 = {
    .name = "s3",
    .configure = s3_configure,
    .release = s3_release,
    .can_copy = s3_can_copy,
    .key_fault = s3_key_fault,
    .can_batch = s3like_can_batch,
    .build = s3like_build,
    .sign = s3_sign,
    .parse = s3like_parse,
    .classify = s3like_classify,
    .stream_new = s3like_stream_new,
    .stream_feed = s3like_stream_feed,
    .stream_free = s3like_stream_free,
};
