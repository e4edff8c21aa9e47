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

static const struct flavour *flavour_of(const char *host)
{
    const struct flavour *f = flavours;
    while (!s3like_ends_with_domain(host, f->suffix)) {
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

static int choose_endpoint(const struct conf_remote *conf, struct s3like *s, char **ret_host,
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
static int place(const struct conf_remote *conf, struct s3like *s, char *endpoint,
                 const struct flavour *f, struct errinfo *reterr)
{
    struct dialect_site *site = &s->site;
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

static const char *const s3_archives[] = {"GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING",
                                           NULL};

static int s3_configure(const struct conf_remote *conf, struct dialect_site **ret,
                        struct errinfo *reterr)
{
    static const char *const signatures[] = {"v4", "v2"};
    struct s3like *s = mem_zalloc(sizeof(*s));
    struct dialect_site *site = &s->site;
    CLEANUP(mem_freep) char *endpoint = NULL;
    bool v2 = false;
    s->vendor = "x-amz-";
    s->restore_job = "GlacierJobParameters";
    s->replace = "REPLACE";
    s->encryption = s3_encryption;
    int err = s3like_begin(s, &be_dialect_s3, conf, reterr);
    if (err == 0) {
        err = choose_endpoint(conf, s, &endpoint, reterr);
    }
    const struct flavour *f = err == 0 ? flavour_of(endpoint) : NULL;
    if (err == 0) {
        err = place(conf, s, endpoint, f, reterr);
    }
    if (err == 0) {
        err = s3like_signature(s, conf, signatures, &v2, reterr);
    }
    if (err < 0) {
        s3like_release(site);
        return err;
    }
    s->v2 = &sign_v2_aws;
    s->signature = v2 ? s3like_sign_v2 : s3like_sign_v4;
    s->unsigned_payload = dialect_option_on(conf, "unsignedPayload", site->https);
    s->list_version = conf->list_version == 1 || (f->traits & LIST_V1) ? 1 : 2;
    s->plus_is_space = true;
    bool ceph = f->traits & LIKE_CEPH;
    /* Ceph decodes the key of a part's source twice, knows the condition on a copy's source by
     * another name and for parts not at all, and encodes only half of a list of uploads without
     * saying so (all seen with 16.2). What that costs others of its row: server-side copies of
     * parts for keys with '%', and two HEADs for each copied part. */
    s->part_copy_decodes_twice = ceph;
    s->copy_if_match_alias = ceph;
    s->uploads_encoded = !ceph;
    site->part_source_unchecked = ceph;
    s->part_copy_source_min = f->part_copy_source_min;

    bool kms = strstr(s->encryption_default, "kms") != NULL;
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_LIST_STRONG | BE_CAP_RESTORE;
    site->caps |= f->traits & PART_COPY ? BE_CAP_PART_COPY : 0;
    site->caps |= f->traits & BATCH ? BE_CAP_REMOVE_MANY : 0;
    site->caps |= (f->traits & MD5S_ETAG) && !kms ? BE_CAP_MP_ETAG_MD5S : 0;
    if (dialect_option_on(conf, "conditionalWrites", f->traits & CONDITIONS)) {
        site->caps |= BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT;
    }
    site->limits.max_object = f->max_object;
    site->limits.max_copy = f->max_copy;
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

/* AWS answers such a path with InvalidURI, Ceph with InvalidObjectName. All else it takes, control
 * characters, "." and ".." among it. */
static const char *s3_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    return names_is_utf8(key, strlen(key)) ? NULL : "S3 takes no key that is not UTF-8";
}

const struct be_dialect be_dialect_s3 = {
    .name = "s3",
    .archives = s3_archives,
    .configure = s3_configure,
    .release = s3like_release,
    .can_copy = s3like_can_copy,
    .key_fault = s3_key_fault,
    .can_batch = s3like_can_batch,
    .build = s3like_build,
    .sign = s3like_sign,
    .parse = s3like_parse,
    .classify = s3like_classify,
    .stream_new = s3like_stream_new,
    .stream_feed = s3like_stream_feed,
    .stream_free = s3like_stream_free,
};
