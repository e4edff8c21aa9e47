/* Qiniu Kodo, its own API: one service of several hosts (rs: objects, rsf: lists, up: uploads, a domain bound to the bucket:
 * reads), three ways to sign, metadata that is set apart from copies. See qiniu_build.c and qiniu_parse.c for requests and
 * answers.
 *
 * Facts marked [u] are documented thinly or not at all; nothing but what is said at the mark depends on them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "mem.h"
#include "names.h"
#include "qiniu.h"
#include "sign.h"

#define GIB (UINT64_C(1) << 30)
/* How long tokens are good for: a transfer that began in time goes on. */
#define TOKEN_S 3600
/* A form is built in memory, beside the bytes it carries. */
#define FORM_MAX (64u << 20)

void qiniu_etag(const uint8_t hash[DIGEST_QETAG_LEN], char *ret)
{
    base64url_encode(hash, DIGEST_QETAG_LEN, ret);
}

/* --- storage classes, in the names of the service's S3 endpoint */

static const char *const types[] = {"",           "LINE",       "GLACIER",
                                    "DEEP_ARCHIVE", "ARCHIVE_IR", "INTELLIGENT_TIERING"};

int qiniu_type_of(const char *name)
{
    static const struct {
        const char *name;
        int type;
    } also[] = {{"STANDARD", 0}, {"STANDARD_IA", 1}, {"IA", 1}, {"ARCHIVE", 2}};
    uint64_t number = 0;
    CLEANUP(mem_freep) char *upper = mem_strdup(name);
    for (char *p = upper; *p; p++) {
        *p = (char)(*p == '-' ? '_' : toupper((unsigned char)*p));
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(upper, types[i]) == 0) {
            return (int)i;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(also); i++) {
        if (strcmp(upper, also[i].name) == 0) {
            return also[i].type;
        }
    }
    return dialect_u64(name, &number) && number < ARRAY_LEN(types) ? (int)number : -1;
}

const char *qiniu_type_name(uint64_t type)
{
    return type < ARRAY_LEN(types) ? types[type] : "UNKNOWN";
}

/* --- settings */

static void qiniu_release(struct dialect_site *site)
{
    if (!site) {
        return;
    }
    struct qiniu *q = (struct qiniu *)(void *)site;
    free(q->rsf);
    free(q->up);
    free(q->io);
    dialect_site_fini(site);
    free(q);
}

/* [http[s]://]HOST[:PORT]: test domains have no certificate, so this one may be spoken to in the clear when it says so. */
static int place_domain(const struct conf_remote *conf, struct qiniu *q, struct errinfo *reterr)
{
    const char *domain = kv_get(&conf->defaults, "domain");
    if (!domain || domain[0] == '\0') {
        q->io = mem_strdup(q->site.host); /* a private cloud's one host */
        return 0;
    }
    CLEANUP(mem_freep) char *text = mem_strdup(domain);
    struct conf_remote as_endpoint = *conf;
    as_endpoint.endpoint = text;
    q->io_http = strncasecmp(domain, "http://", 7) == 0;
    as_endpoint.https = conf->https && !q->io_http;
    if (dialect_endpoint(&as_endpoint, &q->io, reterr) < 0) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] domain: '%.100s' is no host, or contradicts https = off; correct it",
                       conf->name, domain);
    }
    return 0;
}

static int place(const struct conf_remote *conf, struct qiniu *q, struct errinfo *reterr)
{
    struct dialect_site *site = &q->site;
    const char *region = conf->region ? conf->region : "";
    site->base = mem_strdup("");
    if (conf->endpoint && conf->endpoint[0] != '\0') {
        int err = dialect_endpoint(conf, &site->host, reterr);
        if (err < 0) {
            return err;
        }
        q->rsf = mem_strdup(site->host);
        q->up = mem_strdup(site->host);
        site->service = mem_printf("qiniu:%s", site->host);
        site->identity = mem_printf("qiniu:%s:%s", site->host, site->bucket);
    } else {
        if (region[0] == '\0') {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "[%s] region: missing; set region (e.g. z0)", site->name);
        }
        for (const char *p = region; *p; p++) {
            if (!isalnum((unsigned char)*p) && *p != '-') {
                return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] region: '%.60s' is not one",
                               site->name, region);
            }
        }
        site->host = mem_printf("rs-%s.qiniuapi.com", region);
        q->rsf = mem_printf("rsf-%s.qiniuapi.com", region);
        q->up = mem_printf("up-%s.qiniup.com", region);
        site->service = mem_printf("qiniu:%s", region);
        site->identity = mem_printf("qiniu:%s", site->bucket); /* unique in the whole service */
    }
    return place_domain(conf, q, reterr);
}

static int qiniu_configure(const struct conf_remote *conf, struct dialect_site **ret,
                           struct errinfo *reterr)
{
    struct qiniu *q = mem_zalloc(sizeof(*q));
    struct dialect_site *site = &q->site;
    const char *class = conf->storage_class ? conf->storage_class : "";
    q->io_private = dialect_option_on(conf, "domainPrivate", true);
    q->file_type = class[0] != '\0' ? qiniu_type_of(class) : -1;
    int err = dialect_site_init(site, &be_dialect_qiniu, conf, reterr);
    if (err == 0) {
        err = place(conf, q, reterr);
    }
    if (err == 0 && class[0] != '\0' && q->file_type < 0) {
        err = err_set(reterr, ERR_INVALID, -EINVAL,
                      "[%s] storageClass: '%.60s' is unknown; use STANDARD, LINE, GLACIER, "
                      "DEEP_ARCHIVE, ARCHIVE_IR or INTELLIGENT_TIERING",
                      site->name, class);
    }
    if (err < 0) {
        qiniu_release(site);
        return err;
    }
    /* Lists may be behind by seconds. Writes know no If-Match. Their insertOnly takes an object of
     * the same content for the one that is sent: who creates it, and its metadata, may be others. */
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_REMOVE_MANY |
                 BE_CAP_MP_META_LATE | BE_CAP_MP_UNLISTED | BE_CAP_RESTORE;
    site->limits = (struct be_limits){.max_object = 10000 * GIB,
                                      .max_put = FORM_MAX,
                                      .max_copy = 10000 * GIB,
                                      .min_part = 1u << 20,
                                      .max_part = GIB,
                                      .max_parts = 10000,
                                      .max_key = 750,
                                      .max_meta = 1024,
                                      .list_page = 1000,
                                      .batch = 1000};
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

static bool qiniu_can_copy(const struct dialect_site *dst, const struct dialect_site *src)
{
    return strcmp(dst->service, src->service) == 0 && dialect_same_id(dst, src);
}

/* Lists are JSON, which has no other bytes. */
static const char *qiniu_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    return names_is_utf8(key, strlen(key)) ? NULL : "Qiniu takes no key that is not UTF-8";
}

/* --- signatures */

/* The policy is a JSON object; build wrote its inside. */
static int upload_token(const struct dialect_request *r, const struct sign_key *key,
                        int64_t wall_s, struct sign_out *out)
{
    CLEANUP(buf_fini) struct buf policy = BUF_INIT;
    int err = buf_addf(&policy, "{%s,\"deadline\":%lld}", buf_str(&r->note) + 1,
                       (long long)wall_s + TOKEN_S);
    return err < 0 ? err : sign_qiniu_upload(buf_str(&policy), policy.len, key, out);
}

static int sign_upload(struct dialect_request *r, const struct sign_key *key, int64_t wall_s)
{
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    int err = upload_token(r, key, wall_s, &out);
    if (err == 0) {
        err = buf_addf(&text, "UpToken %s", buf_str(&out.authorization));
    }
    if (err == 0) {
        kv_set(&r->headers, "authorization", buf_str(&text));
    }
    return err;
}

/* The token is the first field: it ends where the rest of the form begins. */
static int sign_form(struct dialect_request *r, const struct sign_key *key, int64_t wall_s)
{
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    CLEANUP(buf_fini) struct buf field = BUF_INIT;
    const char *boundary = strstr(kv_get(&r->headers, "content-type"), "boundary=");
    size_t room = QINIU_FORM_ROOM(r->note.len);
    int err = upload_token(r, key, wall_s, &out);
    if (err == 0) {
        err = buf_addf(&field,
                       "--%s\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n%s\r\n",
                       boundary + strlen("boundary="), buf_str(&out.authorization));
    }
    if (err == 0 && field.len > room) {
        err = -EFBIG;
    }
    if (err == 0) {
        memcpy(r->own.data + room - field.len, field.data, field.len);
        r->body = r->own.data + room - field.len;
        r->body_len = r->own.len - room + field.len;
    }
    return err;
}

/* Every request names its host: the service has several. */
static int place_url(const struct qiniu *q, struct dialect_request *r, bool plain)
{
    buf_clear(&r->url);
    int err = buf_addf(&r->url, "%s://%s", q->site.https && !plain ? "https" : "http",
                       kv_get(&r->headers, "host"));
    return err < 0 ? err : dialect_target(r, &r->url);
}

static int sign_read(const struct qiniu *q, struct dialect_request *r, const struct sign_key *key,
                     int64_t wall_s)
{
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    int err = place_url(q, r, q->io_http);
    if (err < 0 || !q->io_private) {
        return err;
    }
    err = buf_addf(&r->url, "%ce=%lld", r->query.n == 0 ? '?' : '&', (long long)wall_s + TOKEN_S);
    if (err == 0) {
        err = sign_qiniu_url(buf_str(&r->url), key, &out);
    }
    return err < 0 ? err : buf_addf(&r->url, "&token=%s", buf_str(&out.authorization));
}

/* X-Qiniu-Date is optional, and would tie these requests to the clock. */
static int sign_request(struct dialect_request *r, const struct sign_key *key)
{
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    CLEANUP(buf_fini) struct buf target = BUF_INIT;
    int err = dialect_target(r, &target);
    if (err == 0) {
        err = sign_qiniu(r->method, buf_str(&target), &r->headers, r->body, r->body_len, key, &out);
    }
    if (err == 0) {
        kv_set(&r->headers, "authorization", buf_str(&out.authorization));
    }
    return err;
}

static int qiniu_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
                      struct errinfo *reterr)
{
    struct dialect_keys *keys = dialect_keys_get(site);
    struct sign_key key = {"", "", 0}; /* without keys: refused by the server, which says why */
    if (keys) {
        key = (struct sign_key){keys->id, keys->secret->bytes, keys->secret->len};
    }
    int err = place_url(qiniu_of(site), r, false);
    if (err < 0) {
        dialect_keys_put(keys);
        return err_set(reterr, ERR_LOCAL, err, "signature: no memory");
    }
    switch ((enum qiniu_sign)buf_str(&r->note)[0]) {
    case QINIU_SIGN_REQUEST:
        err = sign_request(r, &key);
        break;
    case QINIU_SIGN_READ:
        err = sign_read(qiniu_of(site), r, &key, wall_s);
        break;
    case QINIU_SIGN_UPLOAD:
        err = sign_upload(r, &key, wall_s);
        break;
    case QINIU_SIGN_FORM:
        err = sign_form(r, &key, wall_s);
        break;
    }
    dialect_keys_put(keys);
    return err < 0 ? err_set(reterr, ERR_LOCAL, err, "signature: no memory") : 0;
}

/* There is no list of uploads: they expire after seven days. */
static int qiniu_local(const struct dialect_site *site, const struct dialect_call *call,
                       struct errinfo *reterr)
{
    (void)site;
    (void)reterr;
    return call->kind == BE_MP_UPLOADS;
}

/* --- errors */

/* The service's statuses are its codes. What the driver or a person knows by a name gets that name. */
static const struct {
    int status;
    enum err_class cls;
    const char *code, *message; /* message: when the answer has none */
} meanings[] = {
    {400, ERR_INVALID, "BadRequest", ""},
    {401, ERR_AUTH, "BadToken", "bad token"},
    {403, ERR_AUTH, "Forbidden", ""},
    {404, ERR_INVALID, "NotFound", "not found"}, /* but see below */
    {406, ERR_INTEGRITY, "ChecksumMismatch", "what arrived is not what was sent"},
    {413, ERR_INVALID, "TooLarge", ""},
    {419, ERR_QUOTA, "AccountFrozen", "the account is frozen"},
    {478, ERR_TRANSIENT, "MirrorFailed", "fetching from the mirror's source failed"},
    {509, ERR_THROTTLED, "BandwidthLimit", "the bandwidth limit is reached"},
    {573, ERR_THROTTLED, "TooManyRequests", "too many requests for one resource"},
    {579, ERR_INVALID, "CallbackFailed", "stored, but a callback failed"},
    {608, ERR_PRECOND, "ContentModified", "the content was modified"},
    {612, ERR_ABSENT, "NoSuchKey", "no such file or directory"},
    {614, ERR_PRECOND, "FileExists", "file exists"},
    {630, ERR_QUOTA, "TooManyBuckets", "too many buckets"},
    {631, ERR_ABSENT, "NoSuchBucket", "no such bucket"},
    {640, ERR_INVALID, "InvalidMarker", "invalid list marker"},
    {701, ERR_ABSENT, "NoSuchUpload", "the parts are lost"},
};

static bool has(const char *text, const char *part)
{
    return strcasestr(text, part) != NULL;
}

static bool is_of_upload(const struct dialect_call *call)
{
    return call->kind == BE_MP_PART || call->kind == BE_MP_COMMIT || call->kind == BE_MP_ABORT ||
           call->kind == BE_MP_PARTS;
}

void qiniu_judge(const struct qiniu *q, const struct dialect_call *call, int status,
                 const char *message, struct errinfo *ret)
{
    enum err_class cls = dialect_class_of_status(status);
    const char *code = "", *hint = "", *setting = "";
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        if (meanings[i].status == status) {
            cls = meanings[i].cls;
            code = meanings[i].code;
            message = message[0] != '\0' ? message : meanings[i].message;
        }
    }
    if (status == 404 && qiniu_is_download(call)) {
        cls = ERR_ABSENT;
        hint = " (no such object, or the domain is of another bucket)";
    } else if (status == 404) { /* the other hosts say 612 of objects: it is not one of them */
        setting = "check region, endPoint or domain";
    } else if ((status == 401 || status == 403) && has(message, "expired")) {
        cls = ERR_SKEW; /* tokens are made for an hour from the clock that was assumed */
        code = "RequestExpired";
    } else if (status == 401 && has(message, "not specified")) {
        setting = "set domainPrivate = on";
    } else if ((status == 400 || status == 403) &&
               (has(message, "object status") || has(message, "archive"))) {
        cls = ERR_ARCHIVED;
        code = "InvalidObjectStatus";
        hint = " (the object is archived: restore it first)";
    } else if (status == 400 && has(message, "incorrect region")) {
        code = "IncorrectRegion";
        setting = "correct region";
    } else if (status == 612 && is_of_upload(call)) {
        code = "NoSuchUpload";
    } else if (status >= 300 && status < 400 && status != 304) {
        setting = "the server redirects: correct region, endPoint or domain";
    }
    ret->http_status = status;
    ret->outcome_unknown = status == 579;
    dialect_text(ret->code, sizeof(ret->code), code);
    message = message[0] != '\0' ? message : "no reason is given";
    if (setting[0] != '\0') {
        err_set(ret, cls, 0, "%.200s; %s in [%s]", message, setting, q->site.name);
    } else {
        err_set(ret, cls, 0, "%.200s%s", message, hint);
    }
}

static void qiniu_classify(const struct dialect_site *site, const struct dialect_call *call,
                           const struct dialect_answer *a, struct errinfo *ret)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    const char *message = json_get_text(o, "error");
    ret->retry_after_ms = dialect_retry_after(kv_get(a->headers, "retry-after"));
    dialect_text(ret->request_id, sizeof(ret->request_id), kv_get(a->headers, "x-reqid"));
    qiniu_judge(qiniu_of(site), call, a->http_status, message ? message : "", ret);
}

static const char *const qiniu_archives[] = {"GLACIER", "DEEP_ARCHIVE", NULL};

const struct be_dialect be_dialect_qiniu = {
    .name = "qiniu",
    .archives = qiniu_archives,
    .configure = qiniu_configure,
    .release = qiniu_release,
    .can_copy = qiniu_can_copy,
    .key_fault = qiniu_key_fault,
    .build = qiniu_build,
    .sign = qiniu_sign,
    .local = qiniu_local,
    .parse = qiniu_parse,
    .classify = qiniu_classify,
};
