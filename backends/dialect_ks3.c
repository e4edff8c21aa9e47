/* Kingsoft KS3, its own XML API; with signatureVersion = v4 the same under the names of AWS. */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "mem.h"
#include "names.h"

static const struct s3like_code ks3_codes[] = {
    {"InvalidDigest", ERR_INTEGRITY}, /* ours are well-formed, so it was damaged on the way */
    {NULL, ERR_NONE},
};

static const struct s3like_service ks3_service = {"ks3-", ".ksyuncs.com", "cn-beijing", true};

static int ks3_encryption(const struct s3like *s, const char *value, struct kvlist *headers,
                          struct errinfo *reterr)
{
    if (strcasecmp(value, "AES256") != 0) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] encryptionType: '%.60s' is unknown; use AES256", s->site.name, value);
    }
    CLEANUP(mem_freep) char *name = mem_printf("%sserver-side-encryption", s->vendor);
    kv_set(headers, name, "AES256");
    return 0;
}

/* KS3 lists the regions of V4 signatures as BEIJING, SHANGHAI, …; whether it checks them is not
 * known, so one beside an endPoint is taken as it is written. */
static void ks3_signing_region(const struct conf_remote *conf, struct s3like *s)
{
    if (conf->endpoint && conf->endpoint[0] != '\0' && conf->region && conf->region[0] != '\0') {
        return;
    }
    char *city = mem_strdup(s->region + (strncmp(s->region, "cn-", 3) == 0 ? 3 : 0));
    for (char *p = city; *p; p++) {
        *p = (char)toupper((unsigned char)*p);
    }
    free(s->region);
    s->region = city;
}

static const char *const ks3_archives[] = {"ARCHIVE", "COLD_ARCHIVE", "DEEP_COLD_ARCHIVE",
                                           NULL};

static int ks3_configure(const struct conf_remote *conf, struct dialect_site **ret,
                         struct errinfo *reterr)
{
    static const char *const signatures[] = {"kss", "v4"};
    struct s3like *s = mem_zalloc(sizeof(*s));
    struct dialect_site *site = &s->site;
    CLEANUP(mem_freep) char *endpoint = NULL;
    bool v4 = conf->signature && strcmp(conf->signature, "v4") == 0;
    s->vendor = v4 ? "x-amz-" : "x-kss-";
    s->replace = "REPLACE";
    s->crc64_header = v4 ? "x-amz-checksum-crc64ecma" : "x-kss-checksum-crc64ecma";
    s->codes = ks3_codes;
    s->encryption = ks3_encryption;
    s->list_version = 1;
    s->plus_is_space = true;
    s->uploads_encoded = true;
    s->forbid_overwrite = true;
    s->v2 = &sign_v2_kss;
    s->signature = v4 ? s3like_sign_v4 : s3like_sign_v2;
    int err = s3like_begin(s, &be_dialect_ks3, conf, reterr);
    if (err == 0) {
        err = s3like_signature(s, conf, signatures, &v4, reterr);
    }
    if (err == 0) {
        err = s3like_place(s, conf, &ks3_service, &endpoint, reterr);
    }
    if (err < 0) {
        s3like_release(site);
        return err;
    }
    s3like_home(s, conf, &ks3_service, endpoint);
    ks3_signing_region(conf, s);
    s->unsigned_payload = dialect_option_on(conf, "unsignedPayload", site->https);
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_PART_COPY |
                 BE_CAP_REMOVE_MANY | BE_CAP_LIST_STRONG | BE_CAP_CRC64 | BE_CAP_RESTORE;
    site->caps |= dialect_option_on(conf, "conditionalWrites", true) ? BE_CAP_IF_ABSENT : 0;
    /* parts of 100 KB are taken too, but not in every account: minPartSize is for those */
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

static const char *ks3_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    return names_is_utf8(key, strlen(key)) ? NULL : "KS3 takes no key that is not UTF-8";
}

/* KS3 wants the second of two slashes encoded, on the wire and in the signature. */
static int ks3_build(const struct dialect_site *site, const struct dialect_call *call,
                     struct dialect_request *r, struct errinfo *reterr)
{
    int err = s3like_build(site, call, r, reterr);
    if (err < 0 || !strstr(buf_str(&r->path), "//")) {
        return err;
    }
    CLEANUP(buf_fini) struct buf plain = r->path;
    r->path = (struct buf)BUF_INIT;
    for (const char *p = buf_str(&plain); *p && err == 0; p++) {
        bool two = p[0] == '/' && p[1] == '/';
        err = two ? buf_adds(&r->path, "/%2F") : buf_addc(&r->path, *p);
        p += two;
    }
    return err < 0 ? err_set(reterr, ERR_LOCAL, err, "path: no memory") : 0;
}

const struct be_dialect be_dialect_ks3 = {
    .name = "ks3",
    .archives = ks3_archives,
    .configure = ks3_configure,
    .release = s3like_release,
    .can_copy = s3like_can_copy,
    .key_fault = ks3_key_fault,
    .can_batch = s3like_can_batch,
    .build = ks3_build,
    .sign = s3like_sign,
    .parse = s3like_parse,
    .classify = s3like_classify,
    .stream_new = s3like_stream_new,
    .stream_feed = s3like_stream_feed,
    .stream_free = s3like_stream_free,
};
