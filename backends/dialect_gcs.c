/* Google Cloud Storage, by its XML API: HMAC keys with GOOG4-HMAC-SHA256, or a service account. The
 * JSON API has no uploads in parallel parts. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "digest.h"
#include "json.h"
#include "mem.h"
#include "names.h"
#include "sign.h"
#include "sync.h"

#define TIB (UINT64_C(1) << 40)

#define HOST "storage.googleapis.com"
#define AUDIENCE "https://storage.googleapis.com/"
/* Tokens begin in the past, for clocks that are slightly ahead of Google's, and are replaced before
 * they end. */
#define TOKEN_BEFORE_S 60
#define TOKEN_S 3600
#define TOKEN_RENEW_S 3000

/* Google derives Expires from Cache-Control and stores none, so the header is kept as metadata of
 * this name. */
#define EXPIRES "objmig-expires"
/* What Google answers for objects that were given no Cache-Control. */
#define NO_CACHE_CONTROL "private, max-age=0"

struct gcs {
    struct s3like like; /* first */
    char *audience;     /* of tokens; a URL of scopes becomes their scope instead */
    /* A token is good for an hour and costs a millisecond. */
    struct mutex lock;          /* RANK_REMOTE */
    char *token;                /* lock; "Bearer …", or NULL */
    struct dialect_keys *owner; /* lock; whose it is */
    int64_t made_s;             /* lock */
};

static const struct s3like_code gcs_codes[] = {
    {"InvalidSecurity", ERR_AUTH},
    {"AuthenticationRequired", ERR_AUTH},
    {"AccountProblem", ERR_AUTH},
    {"UserProjectMissing", ERR_INVALID},
    {"RateLimitExceeded", ERR_THROTTLED},
    {"UserRateLimitExceeded", ERR_THROTTLED},
    {NULL, ERR_NONE},
};

static struct gcs *of(const struct dialect_site *site)
{
    return (struct gcs *)(uintptr_t)site;
}

/* --- settings */

static int gcs_encryption(const struct s3like *s, const char *value, struct kvlist *headers,
                          struct errinfo *reterr)
{
    if (strncmp(value, "projects/", 9) != 0 || !strstr(value, "/cryptoKeys/")) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] encryptionType: '%.60s' is unknown; use the name of a key, "
                       "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY",
                       s->site.name, value);
    }
    kv_set(headers, "x-goog-encryption-kms-key-name", value);
    return 0;
}

static void forget_token(struct gcs *g)
{
    if (g->token) {
        explicit_bzero(g->token, strlen(g->token));
    }
    free(g->token);
    g->token = NULL;
    dialect_keys_put(g->owner);
    g->owner = NULL;
}

static void gcs_release(struct dialect_site *site)
{
    if (site) {
        struct gcs *g = of(site);
        forget_token(g);
        mutex_fini(&g->lock);
        free(g->audience);
        s3like_release(site);
    }
}

static bool is_service_account(const struct dialect_keys *keys)
{
    return keys->secret->bytes[0] == '{'; /* of HMAC secrets none begins so */
}

/* The claims in the order Google's own libraries write them. [u]: that the XML API takes tokens
 * nobody exchanged, with an audience; tokenAudience can make it a scope. */
static int make_token(const struct gcs *g, const struct dialect_keys *keys, int64_t wall_s,
                      struct buf *ret, struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *file = json_read(keys->secret->bytes, keys->secret->len);
    const char *pem = json_get_text(file, "private_key");
    const char *kid = json_get_text(file, "private_key_id");
    const char *kind =
        strncmp(g->audience, "https://www.googleapis.com/auth/", 32) == 0 ? "scope" : "aud";
    CLEANUP(buf_fini) struct buf header = BUF_INIT;
    CLEANUP(buf_fini) struct buf claims = BUF_INIT;
    CLEANUP(buf_fini) struct buf id = BUF_INIT;
    CLEANUP(buf_fini) struct buf aud = BUF_INIT;
    int err = json_put_text(&id, keys->id);
    if (err == 0) {
        err = json_put_text(&aud, g->audience);
    }
    if (err == 0) {
        err = buf_adds(&header, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
    }
    if (err == 0 && kid) {
        err = buf_adds(&header, ",\"kid\":");
    }
    if (err == 0 && kid) {
        err = json_put_text(&header, kid);
    }
    if (err == 0) {
        err = buf_addc(&header, '}');
    }
    if (err == 0) {
        err = buf_addf(&claims, "{\"iss\":%s,\"sub\":%s,\"%s\":%s,\"exp\":%lld,\"iat\":%lld}",
                       buf_str(&id), buf_str(&id), kind, buf_str(&aud),
                       (long long)wall_s - TOKEN_BEFORE_S + TOKEN_S,
                       (long long)wall_s - TOKEN_BEFORE_S);
    }
    if (err == 0) {
        err = pem ? sign_jwt(buf_str(&header), buf_str(&claims), pem, strlen(pem), ret) : -EINVAL;
    }
    if (pem) {
        explicit_bzero((void *)(uintptr_t)pem, strlen(pem));
    }
    return err == -EINVAL
               ? err_set(reterr, ERR_INVALID, err,
                         "[%s] serviceAccountFile: its private_key is no RSA key; make another",
                         g->like.site.name)
           : err < 0 ? err_set(reterr, ERR_LOCAL, err, "token: no memory")
                     : 0;
}

/* "Bearer …" for a request at that time. */
static int bearer(struct gcs *g, struct dialect_keys *keys, int64_t wall_s, struct kvlist *headers,
                  struct errinfo *reterr)
{
    CLEANUP(buf_fini) struct buf token = BUF_INIT;
    int err = 0;
    mutex_lock(&g->lock);
    if (!g->token || g->owner != keys || wall_s < g->made_s ||
        wall_s >= g->made_s + TOKEN_RENEW_S) {
        err = make_token(g, keys, wall_s, &token, reterr);
        if (err == 0) {
            forget_token(g);
            g->token = mem_printf("Bearer %s", buf_str(&token));
            g->owner = keys;
            atomic_fetch_add(&keys->refs, 1);
            g->made_s = wall_s;
        }
    }
    if (err == 0) {
        kv_set(headers, "authorization", g->token);
    }
    mutex_unlock(&g->lock);
    return err;
}

static bool is_googles(const char *host)
{
    static const char domain[] = ".googleapis.com";
    size_t n = strlen(host), d = strlen(domain);
    return n > d && strcasecmp(host + n - d, domain) == 0;
}

/* A bucket's name may have dots and underscores, which no certificate and no host name takes: it
 * goes into the path, as Google recommends nothing else. */
static int gcs_place(const struct conf_remote *conf, struct gcs *g, struct errinfo *reterr)
{
    struct dialect_site *site = &g->like.site;
    CLEANUP(mem_freep) char *endpoint = NULL;
    size_t n = strlen(site->bucket);
    if (conf->endpoint && conf->endpoint[0] != '\0') {
        int err = dialect_endpoint(conf, &endpoint, reterr);
        if (err < 0) {
            return err;
        }
    } else {
        endpoint = mem_strdup(HOST);
    }
    /* Google's own host begins like a bucket's name could. */
    bool in_host = strcmp(endpoint, HOST) != 0 && strncasecmp(endpoint, site->bucket, n) == 0 &&
                   endpoint[n] == '.';
    site->base = in_host ? mem_strdup("") : mem_printf("/%s", site->bucket);
    /* Names are unique in the whole service, and another is another service. */
    const char *other = is_googles(endpoint) ? "" : endpoint;
    site->service = mem_printf("gcs%s%s", other[0] != '\0' ? ":" : "", other);
    site->identity = mem_printf("%s%s%s", site->service, other[0] != '\0' ? "/" : ":", site->bucket);
    site->host = TAKE(endpoint);
    g->like.copy_host = mem_strdup(site->bucket);        /* sources are "bucket/key" */
    return 0;
}

/* The key of a service account is tried once, so that a bad one is told at the mount. */
static int check_keys(struct gcs *g, struct errinfo *reterr)
{
    struct dialect_keys *keys = dialect_keys_get(&g->like.site);
    CLEANUP(buf_fini) struct buf token = BUF_INIT;
    int err = keys && is_service_account(keys) ? make_token(g, keys, 0, &token, reterr) : 0;
    dialect_keys_put(keys);
    return err;
}

static int gcs_signature(const struct s3like *s, const struct sign_key *key,
                         struct dialect_request *r, int64_t wall_s, struct sign_out *out)
{
    return s3like_sign_v4_as(s, &sign_v4_goog, "x-goog-", key, r, wall_s, out);
}

static const char *text_or(const char *s, const char *otherwise)
{
    return s && s[0] != '\0' ? s : otherwise;
}

static int gcs_configure(const struct conf_remote *conf, struct dialect_site **ret,
                         struct errinfo *reterr)
{
    struct gcs *g = mem_zalloc(sizeof(*g));
    struct s3like *s = &g->like;
    struct dialect_site *site = &s->site;
    mutex_init(&g->lock, RANK_REMOTE);
    s->vendor = "x-goog-";
    s->replace = "REPLACE";
    s->request_id = "x-guploader-uploadid";
    s->goog_hash = true;
    s->codes = gcs_codes;
    s->encryption = gcs_encryption;
    s->signature = gcs_signature;
    s->list_version = 2;
    s->plus_is_space = true; /* [u]; never seen are keys with a plus sign that is not encoded */
    s->uploads_encoded = true;
    s->region = mem_strdup(text_or(conf->region, "auto"));
    g->audience = mem_strdup(text_or(kv_get(&conf->defaults, "tokenAudience"), AUDIENCE));
    int err = s3like_begin(s, &be_dialect_gcs, conf, reterr);
    if (err == 0) {
        err = gcs_place(conf, g, reterr);
    }
    if (err == 0) {
        err = check_keys(g, reterr);
    }
    if (err < 0) {
        gcs_release(site);
        return err;
    }
    s->unsigned_payload = dialect_option_on(conf, "unsignedPayload", site->https);
    /* No copies of parts; no conditions at commits, and on etags only for reads. [u]: deletion of
     * many keys, so one by one. */
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_LIST_STRONG |
                 BE_CAP_IF_ABSENT | BE_CAP_MP_NO_CONDITION | BE_CAP_CRC32C;
    site->limits.max_object = 5 * TIB;
    site->limits.max_put = 5 * TIB;
    site->limits.max_copy = 5 * TIB;
    site->limits.max_meta = 8192;
    site->limits.batch = 0;
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

/* As its documentation on object names says. */
static const char *gcs_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    if (strcmp(key, ".") == 0 || strcmp(key, "..") == 0) {
        return "Google takes no key \".\" or \"..\"";
    }
    if (strpbrk(key, "\r\n")) {
        return "Google takes no key with a line break";
    }
    if (strncmp(key, ".well-known/acme-challenge/", 27) == 0) {
        return "Google takes no key that begins with .well-known/acme-challenge/";
    }
    return names_is_utf8(key, strlen(key)) ? NULL : "Google takes no key that is not UTF-8";
}

/* --- requests and answers: as of the S3 family, but for a few headers */

static int gcs_build(const struct dialect_site *site, const struct dialect_call *call,
                     struct dialect_request *r, struct errinfo *reterr)
{
    int err = s3like_build(site, call, r, reterr);
    if (err < 0) {
        return err;
    }
    const char *expires = kv_get(&r->headers, "expires");
    if (call->kind == BE_STAT || call->kind == BE_READ) {
        /* else objects of Content-Encoding gzip arrive unpacked, with another size than they have
         */
        kv_set(&r->headers, "accept-encoding", "gzip");
    } else if (expires) {
        CLEANUP(buf_fini) struct buf value = BUF_INIT;
        if (dialect_meta_encode(expires, &value) < 0) {
            return err_set(reterr, ERR_LOCAL, -ENOMEM, "metadata: no memory");
        }
        kv_set(&r->headers, "x-goog-meta-" EXPIRES, buf_str(&value));
        kv_set(&r->headers, "expires", NULL);
    }
    if (kv_get(&r->headers, "if-none-match")) {
        kv_set(&r->headers, "if-none-match", NULL);
        kv_set(&r->headers, "x-goog-if-generation-match", "0");
    }
    return 0;
}

static void mend_meta(struct kvlist *meta)
{
    const char *cache = kv_get(meta, "cache-control");
    kv_set(meta, "expires", kv_get(meta, "meta-" EXPIRES));
    kv_set(meta, "meta-" EXPIRES, NULL);
    if (cache && strcasecmp(cache, NO_CACHE_CONTROL) == 0) {
        kv_set(meta, "cache-control", NULL);
    }
}

static int check_whole(struct be_read *o, struct errinfo *reterr)
{
    if (o->offset != 0 || o->got == 0 || o->got != o->object.size || !o->object.has_crc32c ||
        crc32c_update(0, o->buf, o->got) == o->object.crc32c) {
        return 0;
    }
    kv_fini(&o->meta);
    o->object = (struct be_object){0};
    o->got = 0;
    return err_set(reterr, ERR_INTEGRITY, -EIO, "the bytes have another CRC32C than the object");
}

static int gcs_parse(const struct dialect_site *site, const struct dialect_call *call,
                     const struct dialect_answer *a, struct dialect_page *page,
                     struct errinfo *reterr)
{
    int err = s3like_parse(site, call, a, page, reterr);
    if (err == 0 && call->kind == BE_STAT) {
        mend_meta(&CONTAINER_OF(call->op, struct be_stat, op)->meta);
    } else if (err == 0 && call->kind == BE_READ) {
        struct be_read *o = CONTAINER_OF(call->op, struct be_read, op);
        mend_meta(&o->meta);
        err = call->head ? 0 : check_whole(o, reterr);
    }
    return err;
}

/* [u]: a token of another time is refused like any other that is not good. */
static void gcs_classify(const struct dialect_site *site, const struct dialect_call *call,
                         const struct dialect_answer *a, struct errinfo *ret)
{
    s3like_classify(site, call, a, ret);
    if (a->http_status == 401 && dialect_clock_off_by(a, DIALECT_SKEW_SUSPECT_S)) {
        err_set(ret, ERR_SKEW, 0, "refused, and the clocks differ by %lld s",
                (long long)dialect_clock_off_s(a));
    }
}

static int gcs_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
                    struct errinfo *reterr)
{
    struct dialect_keys *keys = dialect_keys_get(site);
    if (!keys) {
        return 0;
    }
    int err = is_service_account(keys) ? bearer(of(site), keys, wall_s, &r->headers, reterr)
                                       : s3like_sign_with(&of(site)->like, keys, r, wall_s, reterr);
    dialect_keys_put(keys);
    return err;
}

const struct be_dialect be_dialect_gcs = {
    .name = "gcs",
    .configure = gcs_configure,
    .release = gcs_release,
    .can_copy = s3like_can_copy, /* across locations, too; a bucket of another account may need a permission nobody can see from here */
    .key_fault = gcs_key_fault,
    .build = gcs_build,
    .sign = gcs_sign,
    .parse = gcs_parse,
    .classify = gcs_classify,
    .stream_new = s3like_stream_new,
    .stream_feed = s3like_stream_feed,
    .stream_free = s3like_stream_free,
};
