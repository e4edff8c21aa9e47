/* Settings to sites, and signatures' common part, for the S3 family. Pure. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "digest.h"
#include "mem.h"

#define GIB (UINT64_C(1) << 30)

/* Whether two spellings of a storage class are one: "Cold-Archive", "COLD_ARCHIVE", "ColdArchive". */
static bool same_class(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += strspn(a, "-_");
        b += strspn(b, "-_");
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
            return false;
        }
        if (*a == '\0') {
            return true;
        }
    }
}

char *s3like_storage_class(const struct s3like *s, const char *configured)
{
    for (size_t i = 0; s->classes && configured && s->classes[i]; i++) {
        if (same_class(s->classes[i], configured)) {
            return mem_strdup(i == 0 ? "" : s->classes[i]);
        }
    }
    char *class = mem_strdup(configured ? configured : "");
    for (char *p = class; *p && !s->classes; p++) {
        *p = (char)(*p == '-' ? '_' : toupper((unsigned char)*p));
    }
    if (strcmp(class, "STANDARD") == 0) {
        class[0] = '\0';
    }
    return class;
}

void s3like_release(struct dialect_site *site)
{
    if (!site) {
        return;
    }
    struct s3like *s = (struct s3like *)(void *)site;
    free(s->region);
    free(s->copy_host);
    free(s->storage_class);
    free(s->encryption_default);
    dialect_site_fini(site);
    free(s);
}

int s3like_begin(struct s3like *s, const struct be_dialect *d, const struct conf_remote *conf,
                 struct errinfo *reterr)
{
    s->storage_class = s3like_storage_class(s, conf->storage_class);
    s->encryption_default = mem_strdup(conf->encryption ? conf->encryption : "");
    s->site.limits = (struct be_limits){.max_object = 10000 * 5 * GIB,
                                        .max_put = 5 * GIB,
                                        .max_copy = 5 * GIB,
                                        .min_part = 5u << 20,
                                        .max_part = 5 * GIB,
                                        .max_parts = 10000,
                                        .max_key = 1024,
                                        .max_meta = 2048,
                                        .list_page = 1000,
                                        .batch = 1000};
    int err = dialect_site_init(&s->site, d, conf, reterr);
    if (err == 0 && s->encryption_default[0] != '\0') {
        CLEANUP(kv_fini) struct kvlist tried = {0};
        err = s->encryption(s, s->encryption_default, &tried, reterr);
    }
    return err;
}

int s3like_signature(const struct s3like *s, const struct conf_remote *conf,
                     const char *const names[2], bool *ret_second, struct errinfo *reterr)
{
    const char *name = conf->signature ? conf->signature : "";
    *ret_second = strcmp(name, names[1]) == 0;
    if (name[0] != '\0' && strcmp(name, names[0]) != 0 && !*ret_second) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] signatureVersion: '%.20s' is unknown; use %s or %s", s->site.name,
                       name, names[0], names[1]);
    }
    return 0;
}

bool s3like_ends_with_domain(const char *host, const char *domain)
{
    size_t n = strcspn(host, ":"), m = strlen(domain);
    if (m == 0) {
        return true;
    }
    return n >= m && strncasecmp(host + n - m, domain, m) == 0 &&
           (n == m || host[n - m - 1] == '.');
}

static int region_host(const struct s3like *s, const char *region,
                       const struct s3like_service *service, char **ret_host,
                       struct errinfo *reterr)
{
    if (region[0] == '\0') {
        return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] region: missing; set region (e.g. %s)",
                       s->site.name, service->example);
    }
    for (const char *p = region; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '-') {
            return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] region: '%.60s' is not one",
                           s->site.name, region);
        }
    }
    *ret_host = mem_printf("%s%s%s", service->prefix, region, service->suffix);
    return 0;
}

/* "cn-hangzhou" of "oss-cn-hangzhou-internal.aliyuncs.com"; NULL when the host is not of the service. */
static char *region_of_host(const char *host, const struct s3like_service *service)
{
    static const char internal[] = "-internal";
    size_t n = strcspn(host, ":"), prefix = strlen(service->prefix), suffix = strlen(service->suffix);
    if (n <= prefix + suffix || strncmp(host, service->prefix, prefix) != 0 ||
        strncmp(host + n - suffix, service->suffix, suffix) != 0) {
        return NULL;
    }
    size_t len = n - prefix - suffix, cut = strlen(internal);
    if (len > cut && strncmp(host + prefix + len - cut, internal, cut) == 0) {
        len -= cut;
    }
    return mem_strndup(host + prefix, len);
}

void s3like_home(struct s3like *s, const struct conf_remote *conf,
                 const struct s3like_service *service, const char *endpoint)
{
    struct dialect_site *site = &s->site;
    const char *name = site->dialect->name;
    bool own_domain = dialect_option_on(conf, "cname", false);
    bool public = own_domain || s3like_ends_with_domain(endpoint, service->suffix + 1);
    CLEANUP(mem_freep) char *there = region_of_host(endpoint, service);
    const char *given = conf->region ? conf->region : "";
    s->region = mem_strdup(given[0] != '\0' ? given : there ? there : "");
    const char *region = there ? there : s->region;
    site->service = public && region[0] != '\0' ? mem_printf("%s:%s", name, region)
                                                : mem_strdup(endpoint);
    /* names are unique in the whole public service */
    site->identity = public ? mem_printf("%s:%s", name, site->bucket)
                            : mem_printf("%s:%s/%s", name, endpoint, site->bucket);
}

bool s3like_can_copy(const struct dialect_site *dst, const struct dialect_site *src)
{
    return strcmp(dst->service, src->service) == 0 && dialect_same_id(dst, src);
}

int s3like_place(struct s3like *s, const struct conf_remote *conf,
                 const struct s3like_service *service, char **ret_endpoint, struct errinfo *reterr)
{
    struct dialect_site *site = &s->site;
    CLEANUP(mem_freep) char *host = NULL;
    int err = conf->endpoint && conf->endpoint[0] != '\0'
                  ? dialect_endpoint(conf, &host, reterr)
                  : region_host(s, conf->region ? conf->region : "", service, &host, reterr);
    if (err < 0) {
        return err;
    }
    size_t n = strlen(site->bucket);
    bool in_host = strncasecmp(host, site->bucket, n) == 0 && host[n] == '.';
    bool own_domain = dialect_option_on(conf, "cname", false);
    bool path = !in_host && !own_domain && (conf->path_style || dialect_host_is_address(host));
    if (path && service->virtual_only && s3like_ends_with_domain(host, service->suffix + 1)) {
        return err_set(
            reterr, ERR_INVALID, -EINVAL,
            "[%s] pathStyle: %.60s takes the bucket in the host name only; set pathStyle = off",
            site->name, host);
    }
    site->host = in_host || path || own_domain ? mem_strdup(host)
                                               : mem_printf("%s.%s", site->bucket, host);
    site->base = path ? mem_printf("/%s", site->bucket) : mem_strdup("");
    *ret_endpoint = in_host ? mem_strdup(host + n + 1) : TAKE(host);
    return 0;
}

int s3like_sign_v2(const struct s3like *s, const struct sign_key *key, struct dialect_request *r,
                   int64_t wall_s, struct sign_out *out)
{
    bool virtual_host = s->site.base[0] == '\0';
    char date[SIGN_DATE_SIZE];
    sign_date_http(wall_s, date);
    kv_set(&r->headers, "date", date);
    struct sign_req req = {r->method, buf_str(&r->path), &r->query, &r->headers};
    return sign_v2(s->v2, &req, key, virtual_host ? s->site.bucket : NULL, NULL, out);
}

int s3like_sign_v4_as(const struct s3like *s, const struct sign_v4_scheme *scheme,
                      const char *prefix, const struct sign_key *key, struct dialect_request *r,
                      int64_t wall_s, struct sign_out *out)
{
    char date[SIGN_DATE_SIZE], name[64];
    sign_date_iso(wall_s, date);
    if (r->body_sha256[0] == '\0') {
        if (s->unsigned_payload && r->body_len > 0 && r->body != r->own.data) {
            snprintf(r->body_sha256, sizeof(r->body_sha256), "UNSIGNED-PAYLOAD");
        } else {
            uint8_t hash[DIGEST_SHA256_LEN];
            digest_sha256(r->body, r->body_len, hash);
            hex_encode(hash, sizeof(hash), r->body_sha256);
        }
    }
    snprintf(name, sizeof(name), "%sdate", prefix);
    kv_set(&r->headers, name, date);
    snprintf(name, sizeof(name), "%scontent-sha256", prefix);
    kv_set(&r->headers, name, r->body_sha256);
    struct sign_req req = {r->method, buf_str(&r->path), &r->query, &r->headers};
    return sign_v4(scheme, &req, key, s->region, date, r->body_sha256, out);
}

int s3like_sign_v4(const struct s3like *s, const struct sign_key *key, struct dialect_request *r,
                   int64_t wall_s, struct sign_out *out)
{
    return s3like_sign_v4_as(s, &sign_v4_aws, "x-amz-", key, r, wall_s, out);
}

int s3like_sign_with(const struct s3like *s, const struct dialect_keys *keys,
                     struct dialect_request *r, int64_t wall_s, struct errinfo *reterr)
{
    char token[64];
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    snprintf(token, sizeof(token), "%ssecurity-token", s->vendor);
    kv_set(&r->headers, "authorization", NULL);
    kv_set(&r->headers, token, keys->token ? keys->token->bytes : NULL);
    struct sign_key key = {keys->id, keys->secret->bytes, keys->secret->len};
    int err = s->signature(s, &key, r, wall_s, &out);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "signature: no memory");
    }
    kv_set(&r->headers, "authorization", buf_str(&out.authorization));
    return 0;
}

int s3like_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
                struct errinfo *reterr)
{
    const struct s3like *s = (const struct s3like *)(const void *)site;
    struct dialect_keys *keys = dialect_keys_get(site);
    int err = keys ? s3like_sign_with(s, keys, r, wall_s, reterr) : 0;
    dialect_keys_put(keys);
    return err;
}
