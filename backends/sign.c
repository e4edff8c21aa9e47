#include "sign.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "digest.h"
#include "mem.h"

const struct sign_v4_scheme sign_v4_aws = {"AWS4-HMAC-SHA256", "AWS4", "s3",
                                           "aws4_request",     NULL,   NULL};
const struct sign_v4_scheme sign_v4_goog = {"GOOG4-HMAC-SHA256", "GOOG4", "storage",
                                            "goog4_request",     NULL,    NULL};

/* What selects the bytes that are answered with; all else that OSS leaves open only describes. */
static const char *const oss_additional[] = {"host", "if-match", "range", NULL};
const struct sign_v4_scheme sign_v4_oss = {"OSS4-HMAC-SHA256",  "aliyun_v4", "oss",
                                           "aliyun_v4_request", "x-oss-",    oss_additional};

static const char *const v2_subresources[] = {"acl",
                                              "cors",
                                              "delete",
                                              "lifecycle",
                                              "location",
                                              "logging",
                                              "notification",
                                              "partNumber",
                                              "policy",
                                              "requestPayment",
                                              "response-cache-control",
                                              "response-content-disposition",
                                              "response-content-encoding",
                                              "response-content-language",
                                              "response-content-type",
                                              "response-expires",
                                              "restore",
                                              "tagging",
                                              "torrent",
                                              "uploadId",
                                              "uploads",
                                              "versionId",
                                              "versioning",
                                              "versions",
                                              "website",
                                              NULL};
const struct sign_v2_scheme sign_v2_aws = {"AWS", "x-amz-", "x-amz-date", v2_subresources, false};

/* Of the lists of OSS and KS3, which are longer and differ where neither is ever asked for it. */
static const char *const oss_subresources[] = {"acl",
                                               "append",
                                               "continuation-token",
                                               "delete",
                                               "encryption",
                                               "lifecycle",
                                               "location",
                                               "objectMeta",
                                               "partNumber",
                                               "position",
                                               "response-cache-control",
                                               "response-content-disposition",
                                               "response-content-encoding",
                                               "response-content-language",
                                               "response-content-type",
                                               "response-expires",
                                               "restore",
                                               "security-token",
                                               "symlink",
                                               "tagging",
                                               "uploadId",
                                               "uploads",
                                               "versionId",
                                               "versioning",
                                               "versions",
                                               "x-oss-process",
                                               "x-oss-traffic-limit",
                                               NULL};
const struct sign_v2_scheme sign_v2_oss = {"OSS", "x-oss-", "x-oss-date", oss_subresources, true};

const struct sign_v2_scheme sign_v2_kss = {"KSS", "x-kss-", "x-kss-date", oss_subresources, false};

void sign_out_fini(struct sign_out *o)
{
    buf_fini(&o->canonical);
    buf_fini(&o->to_sign);
    buf_fini(&o->header_list);
    buf_fini(&o->query_list);
    buf_fini(&o->authorization);
    *o = (struct sign_out){0};
}

static void date_parts(int64_t unix_s, struct tm *tm)
{
    time_t t = (time_t)unix_s;
    if (!gmtime_r(&t, tm)) {
        memset(tm, 0, sizeof(*tm));
    }
}

void sign_date_iso(int64_t unix_s, char ret[SIGN_DATE_SIZE])
{
    struct tm tm;
    date_parts(unix_s, &tm);
    strftime(ret, SIGN_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm);
}

void sign_date_utc(int64_t unix_s, char ret[SIGN_DATE_SIZE])
{
    struct tm tm;
    date_parts(unix_s, &tm);
    strftime(ret, SIGN_DATE_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void sign_date_http(int64_t unix_s, char ret[SIGN_DATE_SIZE])
{
    /* not strftime: names of days and months must not follow the locale (RFC 9110, 5.6.7) */
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;
    date_parts(unix_s, &tm);
    /* the remainders change nothing but tell the compiler how long each number can be */
    snprintf(ret, SIGN_DATE_SIZE, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
             days[(unsigned)tm.tm_wday % 7u], (unsigned)tm.tm_mday % 100u,
             months[(unsigned)tm.tm_mon % 12u], (unsigned)(tm.tm_year + 1900) % 10000u,
             (unsigned)tm.tm_hour % 100u, (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u);
}

/* Names and values in canonical form, to be sorted and joined. */
struct pair {
    char *name, *value;
};
struct pairs {
    struct pair *items;
    size_t n;
};

static void pairs_fini(struct pairs *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].name);
        free(l->items[i].value);
    }
    free(l->items);
    *l = (struct pairs){0};
}

static int pair_compare(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c != 0 ? c : strcmp(x->value, y->value);
}

/* Takes both strings. */
static void pairs_add(struct pairs *l, char *name, char *value)
{
    l->items = mem_realloc(l->items, (l->n + 1) * sizeof(*l->items));
    l->items[l->n++] = (struct pair){name, value};
}

static void pairs_sort_by(struct pairs *l, int (*compare)(const void *, const void *))
{
    if (l->n > 1) {
        qsort(l->items, l->n, sizeof(*l->items), compare);
    }
}

static void pairs_sort(struct pairs *l)
{
    pairs_sort_by(l, pair_compare);
}

static char *encoded(const char *s)
{
    struct buf b = BUF_INIT;
    if (url_encode(&b, s, strlen(s), false) < 0) {
        buf_fini(&b);
        return NULL;
    }
    return b.data ? buf_take(&b) : mem_strdup("");
}

static char *lowered(const char *s)
{
    char *t = mem_strdup(s);
    for (char *p = t; *p; p++) {
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
    }
    return t;
}

static bool has_prefix_ci(const char *s, const char *prefix)
{
    return strncasecmp(s, prefix, strlen(prefix)) == 0;
}

enum {
    JOIN_LAST = 1, /* one more after the last pair */
    JOIN_BARE = 2, /* no separator before an empty value */
};

/* "name SEP value" joined with JOIN, and the names joined with ';' */
static int pairs_join(const struct pairs *l, char sep, char join, unsigned how, struct buf *out,
                      struct buf *names)
{
    int err = 0;
    for (size_t i = 0; i < l->n && err == 0; i++) {
        const struct pair *p = &l->items[i];
        err = buf_adds(out, p->name);
        if (err == 0 && (p->value[0] != '\0' || !(how & JOIN_BARE))) {
            err = buf_addf(out, "%c%s", sep, p->value);
        }
        if (err == 0 && ((how & JOIN_LAST) || i + 1 < l->n)) {
            err = buf_addc(out, join);
        }
        if (err == 0 && names) {
            err = buf_addf(names, "%s%s", i > 0 ? ";" : "", p->name);
        }
    }
    return err;
}

static int pairs_of_query(const struct kvlist *query, bool lower_names, struct pairs *ret)
{
    for (size_t i = 0; query && i < query->n; i++) {
        char *name = encoded(query->items[i].name), *value = encoded(query->items[i].value);
        if (!name || !value) {
            free(name);
            free(value);
            return -ENOMEM;
        }
        if (lower_names) {
            char *l = lowered(name);
            free(name);
            name = l;
        }
        pairs_add(ret, name, value);
    }
    pairs_sort(ret);
    return 0;
}

/* Outer blanks off: a proxy may do the same. V4 also makes inner runs of blanks one, V2 does not.
 */
static char *trimmed(const char *s, bool inner)
{
    char *t = mem_zalloc(strlen(s) + 1), *o = t;
    while (*s == ' ' || *s == '\t') {
        s++;
    }
    for (; *s; s++) {
        bool blank = *s == ' ' || *s == '\t';
        if (inner && blank && (s[1] == ' ' || s[1] == '\t')) {
            continue;
        }
        *o++ = inner && blank ? ' ' : *s;
    }
    while (o > t && (o[-1] == ' ' || o[-1] == '\t')) {
        o--;
    }
    *o = '\0';
    return t;
}

/* Headers that a proxy or the HTTP library may add, drop or rewrite on the way. */
static bool is_one_of(const char *name, const char *const *list)
{
    while (*list && strcasecmp(name, *list) != 0) {
        list++;
    }
    return *list != NULL;
}

static bool v4_unsigned(const char *name)
{
    static const char *const names[] = {"authorization", "user-agent",        "expect", "accept-encoding",
                                        "connection",    "transfer-encoding", NULL};
    return is_one_of(name, names);
}

static bool v4_signs(const struct sign_v4_scheme *scheme, const char *name)
{
    static const char *const always[] = {"content-md5", "content-type", NULL};
    if (!scheme->vendor_prefix) {
        return !v4_unsigned(name);
    }
    return has_prefix_ci(name, scheme->vendor_prefix) || is_one_of(name, always) ||
           is_one_of(name, scheme->additional);
}

/* The names that the signature lists. */
static int v4_list(const struct sign_v4_scheme *scheme, const struct pairs *headers, struct buf *ret)
{
    int err = 0;
    for (size_t i = 0; i < headers->n && err == 0; i++) {
        const char *name = headers->items[i].name;
        if (!scheme->vendor_prefix || is_one_of(name, scheme->additional)) {
            err = buf_addf(ret, "%s%s", ret->len > 0 ? ";" : "", name);
        }
    }
    return err;
}

static int v4_canonical(const struct sign_v4_scheme *scheme, const struct sign_req *req,
                        const char *payload_hash, struct sign_out *out)
{
    CLEANUP(pairs_fini) struct pairs query = {0};
    CLEANUP(pairs_fini) struct pairs headers = {0};
    int err = pairs_of_query(req->query, false, &query);
    for (size_t i = 0; i < req->headers->n; i++) {
        const struct kv *h = &req->headers->items[i];
        if (v4_signs(scheme, h->name)) {
            pairs_add(&headers, lowered(h->name), trimmed(h->value, !scheme->vendor_prefix));
        }
    }
    pairs_sort(&headers);
    struct buf *c = &out->canonical;
    if (err == 0) {
        err = buf_addf(c, "%s\n%s\n", req->method, req->path);
    }
    if (err == 0) {
        err = pairs_join(&query, '=', '&', scheme->vendor_prefix ? JOIN_BARE : 0, c,
                         &out->query_list);
    }
    if (err == 0) {
        err = buf_addc(c, '\n');
    }
    if (err == 0) {
        err = pairs_join(&headers, ':', '\n', JOIN_LAST, c, NULL);
    }
    if (err == 0) {
        err = v4_list(scheme, &headers, &out->header_list);
    }
    if (err == 0) {
        err = buf_addf(c, "\n%s\n%s", buf_str(&out->header_list), payload_hash);
    }
    return err;
}

static void wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}

int sign_v4(const struct sign_v4_scheme *scheme, const struct sign_req *req,
            const struct sign_key *key, const char *region, const char *date,
            const char *payload_hash, struct sign_out *out)
{
    sign_out_fini(out);
    int err = v4_canonical(scheme, req, payload_hash, out);
    if (err < 0) {
        return err;
    }
    uint8_t hash[DIGEST_SHA256_LEN];
    char hex[2 * DIGEST_SHA256_LEN + 1];
    digest_sha256(out->canonical.data, out->canonical.len, hash);
    hex_encode(hash, sizeof(hash), hex);
    CLEANUP(buf_fini) struct buf scope = BUF_INIT;
    err = buf_addf(&scope, "%.8s/%s/%s/%s", date, region, scheme->service, scheme->terminator);
    if (err == 0) {
        err = buf_addf(&out->to_sign, "%s\n%s\n%s\n%s", scheme->algorithm, date, buf_str(&scope),
                       hex);
    }
    if (err < 0) {
        return err;
    }
    size_t prefix_len = strlen(scheme->key_prefix);
    size_t first_len = prefix_len + key->secret_len;
    char *first = mem_zalloc(first_len + 1);
    memcpy(first, scheme->key_prefix, prefix_len);
    memcpy(first + prefix_len, key->secret, key->secret_len);
    uint8_t k[DIGEST_SHA256_LEN];
    hmac_sha256(first, first_len, date, MIN(strlen(date), 8), k);
    wipe(first, first_len);
    free(first);
    hmac_sha256(k, sizeof(k), region, strlen(region), k);
    hmac_sha256(k, sizeof(k), scheme->service, strlen(scheme->service), k);
    hmac_sha256(k, sizeof(k), scheme->terminator, strlen(scheme->terminator), k);
    hmac_sha256(k, sizeof(k), out->to_sign.data, out->to_sign.len, hash);
    wipe(k, sizeof(k));
    hex_encode(hash, sizeof(hash), out->signature);
    bool listed = out->header_list.len > 0;
    if (scheme->vendor_prefix) {
        return buf_addf(&out->authorization, "%s Credential=%s/%s,%s%s%sSignature=%s",
                        scheme->algorithm, key->id, buf_str(&scope),
                        listed ? "AdditionalHeaders=" : "", buf_str(&out->header_list),
                        listed ? "," : "", out->signature);
    }
    return buf_addf(&out->authorization, "%s Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                    scheme->algorithm, key->id, buf_str(&scope), buf_str(&out->header_list),
                    out->signature);
}

static const char *header_or_empty(const struct kvlist *headers, const char *name)
{
    const char *v = kv_get(headers, name);
    return v ? v : "";
}

/* The headers that are the provider's own, unsorted. */
static void pairs_of_vendor(const struct kvlist *headers, const char *prefix, struct pairs *ret)
{
    for (size_t i = 0; i < headers->n; i++) {
        const struct kv *h = &headers->items[i];
        if (has_prefix_ci(h->name, prefix)) {
            pairs_add(ret, lowered(h->name), trimmed(h->value, false));
        }
    }
}

static int v2_resource(const struct sign_v2_scheme *scheme, const struct sign_req *req,
                       const char *bucket, struct buf *out)
{
    int err = bucket ? buf_addf(out, "/%s", bucket) : 0;
    if (err == 0) {
        err = scheme->decoded ? url_decode(out, req->path, strlen(req->path), false)
                              : buf_adds(out, req->path);
    }
    char mark = '?';
    for (size_t i = 0; scheme->subresources[i] && err == 0; i++) {
        const char *name = scheme->subresources[i];
        for (size_t q = 0; req->query && q < req->query->n && err == 0; q++) {
            const struct kv *p = &req->query->items[q];
            if (strcmp(p->name, name) != 0) {
                continue;
            }
            err = buf_addf(out, "%c%s", mark, name);
            if (err == 0 && p->value[0] != '\0') {
                err = buf_addf(out, "=%s", p->value);
            }
            mark = '&';
        }
    }
    return err;
}

int sign_v2(const struct sign_v2_scheme *scheme, const struct sign_req *req,
            const struct sign_key *key, const char *bucket, const char *date_line,
            struct sign_out *out)
{
    sign_out_fini(out);
    CLEANUP(pairs_fini) struct pairs vendor = {0};
    pairs_of_vendor(req->headers, scheme->vendor_prefix, &vendor);
    pairs_sort(&vendor);
    if (!date_line) {
        bool vendor_date = kv_get(req->headers, scheme->vendor_date) != NULL;
        date_line = vendor_date ? "" : header_or_empty(req->headers, "date");
    }
    struct buf *s = &out->to_sign;
    int err =
        buf_addf(s, "%s\n%s\n%s\n%s\n", req->method, header_or_empty(req->headers, "content-md5"),
                 header_or_empty(req->headers, "content-type"), date_line);
    if (err == 0) {
        err = pairs_join(&vendor, ':', '\n', JOIN_LAST, s, &out->header_list);
    }
    if (err == 0) {
        err = v2_resource(scheme, req, bucket, s);
    }
    if (err < 0) {
        return err;
    }
    uint8_t mac[DIGEST_SHA1_LEN];
    hmac_sha1(key->secret, key->secret_len, s->data, s->len, mac);
    base64_encode(mac, sizeof(mac), out->signature);
    return buf_addf(&out->authorization, "%s %s:%s", scheme->label, key->id, out->signature);
}

/* The headers COS accepts in q-header-list. Content-Length and the hop-by-hop ones are its too, but
 * libcurl's to write. */
static bool cos_signs(const struct kv *h)
{
    static const char *const names[] = {"cache-control",    "content-disposition",
                                        "content-encoding", "content-length",
                                        "content-md5",      "content-type",
                                        "expires",          "host",
                                        "if-match",         "if-modified-since",
                                        "if-none-match",    "if-unmodified-since",
                                        "origin",           "range",
                                        "pic-operations",   NULL};
    if (h->value[0] == '\0') {
        return false;
    }
    if (has_prefix_ci(h->name, "x-cos-") || has_prefix_ci(h->name, "x-ci-")) {
        return true;
    }
    return is_one_of(h->name, names);
}

static int cos_http_string(const struct sign_req *req, struct sign_out *out)
{
    CLEANUP(pairs_fini) struct pairs query = {0};
    CLEANUP(pairs_fini) struct pairs headers = {0};
    int err = pairs_of_query(req->query, true, &query);
    for (size_t i = 0; i < req->headers->n && err == 0; i++) {
        const struct kv *h = &req->headers->items[i];
        if (cos_signs(h)) {
            char *name = encoded(h->name), *value = encoded(h->value);
            if (!name || !value) {
                free(name);
                free(value);
                return -ENOMEM;
            }
            pairs_add(&headers, lowered(name), value);
            free(name);
        }
    }
    pairs_sort(&headers);
    char *method = lowered(req->method);
    struct buf *c = &out->canonical;
    if (err == 0) {
        err = buf_addf(c, "%s\n", method);
    }
    free(method);
    if (err == 0) {
        err = url_decode(c, req->path, strlen(req->path), false);
    }
    if (err == 0) {
        err = buf_addc(c, '\n');
    }
    if (err == 0) {
        err = pairs_join(&query, '=', '&', 0, c, &out->query_list);
    }
    if (err == 0) {
        err = buf_addc(c, '\n');
    }
    if (err == 0) {
        err = pairs_join(&headers, '=', '&', 0, c, &out->header_list);
    }
    if (err == 0) {
        err = buf_addc(c, '\n');
    }
    return err;
}

int sign_cos(const struct sign_req *req, const struct sign_key *key, const char *key_time,
             struct sign_out *out)
{
    sign_out_fini(out);
    int err = cos_http_string(req, out);
    if (err < 0) {
        return err;
    }
    uint8_t mac[DIGEST_SHA1_LEN];
    char hash_hex[2 * DIGEST_SHA1_LEN + 1], sign_key[2 * DIGEST_SHA1_LEN + 1];
    digest_sha1(out->canonical.data, out->canonical.len, mac);
    hex_encode(mac, sizeof(mac), hash_hex);
    err = buf_addf(&out->to_sign, "sha1\n%s\n%s\n", key_time, hash_hex);
    if (err < 0) {
        return err;
    }
    hmac_sha1(key->secret, key->secret_len, key_time, strlen(key_time), mac);
    hex_encode(mac, sizeof(mac), sign_key); /* its text, not its bytes, is the next key */
    hmac_sha1(sign_key, 2 * DIGEST_SHA1_LEN, out->to_sign.data, out->to_sign.len, mac);
    wipe(sign_key, sizeof(sign_key));
    hex_encode(mac, sizeof(mac), out->signature);
    return buf_addf(&out->authorization,
                    "q-sign-algorithm=sha1&q-ak=%s&q-sign-time=%s&q-key-time=%s&q-header-list=%s"
                    "&q-url-param-list=%s&q-signature=%s",
                    key->id, key_time, key_time, buf_str(&out->header_list),
                    buf_str(&out->query_list), out->signature);
}

/* How the service orders header names: as .NET's en-US culture does, where '-' counts only between
 * names that are equal but for it, and '_' is before digits, which are before letters. */
static int azure_weight(char c)
{
    return c == '_' ? 1 : (unsigned char)c;
}

static int azure_name_compare(const void *a, const void *b)
{
    const char *x = ((const struct pair *)a)->name, *y = ((const struct pair *)b)->name;
    const char *p = x, *q = y;
    for (;; p++, q++) {
        p += strspn(p, "-");
        q += strspn(q, "-");
        if (*p != *q) {
            return azure_weight(*p) - azure_weight(*q);
        }
        if (*p == '\0') {
            return strcmp(x, y);
        }
    }
}

static int azure_resource(const struct sign_req *req, const char *account, struct buf *out)
{
    CLEANUP(pairs_fini) struct pairs query = {0};
    for (size_t i = 0; req->query && i < req->query->n; i++) {
        const struct kv *q = &req->query->items[i]; /* no name is there twice */
        pairs_add(&query, lowered(q->name), mem_strdup(q->value));
    }
    pairs_sort(&query);
    int err = buf_addf(out, "/%s%s", account, req->path);
    for (size_t i = 0; i < query.n && err == 0; i++) {
        err = buf_addf(out, "\n%s:%s", query.items[i].name, query.items[i].value);
    }
    return err;
}

static void azure_sign(const struct sign_key *key, struct sign_out *out)
{
    uint8_t mac[DIGEST_SHA256_LEN];
    hmac_sha256(key->secret, key->secret_len, out->to_sign.data, out->to_sign.len, mac);
    base64_encode(mac, sizeof(mac), out->signature);
}

int sign_azure(const struct sign_req *req, const struct sign_key *key, uint64_t body_len,
               struct sign_out *out)
{
    static const char *const lines[] = {"content-encoding", "content-language",
                                        NULL, /* Content-Length, and nothing for 0 */
                                        "content-md5",      "content-type",
                                        "date",             "if-modified-since",
                                        "if-match",         "if-none-match",
                                        "if-unmodified-since", "range"};
    sign_out_fini(out);
    struct buf *s = &out->to_sign;
    int err = buf_addf(s, "%s\n", req->method);
    bool vendor_date = kv_get(req->headers, "x-ms-date") != NULL;
    for (size_t i = 0; i < ARRAY_LEN(lines) && err == 0; i++) {
        char length[24] = "";
        if (!lines[i] && body_len > 0) {
            snprintf(length, sizeof(length), "%llu", (unsigned long long)body_len);
        }
        bool left_out = lines[i] && vendor_date && strcmp(lines[i], "date") == 0;
        err = buf_addf(s, "%s\n",
                       left_out   ? ""
                       : lines[i] ? header_or_empty(req->headers, lines[i])
                                  : length);
    }
    CLEANUP(pairs_fini) struct pairs vendor = {0};
    pairs_of_vendor(req->headers, "x-ms-", &vendor);
    pairs_sort_by(&vendor, azure_name_compare);
    if (err == 0) {
        err = pairs_join(&vendor, ':', '\n', true, s, &out->header_list);
    }
    if (err == 0) {
        err = azure_resource(req, key->id, s);
    }
    if (err < 0) {
        return err;
    }
    azure_sign(key, out);
    return buf_addf(&out->authorization, "SharedKey %s:%s", key->id, out->signature);
}

int sign_azure_sas(const struct kvlist *fields, const char *resource, const struct sign_key *key,
                   struct sign_out *out)
{
    /* of version 2020-12-06 and later */
    static const char *const names[] = {"sp", "st", "se", NULL, /* the resource */
                                        "si", "sip", "spr", "sv", "sr", "snapshot", "ses",
                                        "rscc", "rscd", "rsce", "rscl", "rsct"};
    sign_out_fini(out);
    int err = 0;
    for (size_t i = 0; i < ARRAY_LEN(names) && err == 0; i++) {
        err = buf_addf(&out->to_sign, "%s%s", i > 0 ? "\n" : "",
                       names[i] ? header_or_empty(fields, names[i]) : resource);
    }
    if (err == 0) {
        azure_sign(key, out);
    }
    return err;
}

/* Whole lines are sorted, not names: "a-b:x" comes before "a:x". So a pair is a line, and what goes
 * into the list of names. */
static int bce_add(struct pairs *l, const char *name, char sep, const char *value)
{
    CLEANUP(mem_freep) char *lower = lowered(name);
    CLEANUP(mem_freep) char *n = encoded(sep == ':' ? lower : name);
    CLEANUP(mem_freep) char *v = encoded(value);
    if (!n || !v) {
        return -ENOMEM;
    }
    pairs_add(l, mem_printf("%s%c%s", n, sep, v), mem_strdup(n));
    return 0;
}

static int bce_lines(struct pairs *l, char join, struct buf *out, struct buf *names)
{
    int err = 0;
    pairs_sort(l);
    for (size_t i = 0; i < l->n && err == 0; i++) {
        err = i > 0 ? buf_addc(out, join) : 0;
        if (err == 0) {
            err = buf_adds(out, l->items[i].name);
        }
        if (err == 0) {
            err = buf_addf(names, "%s%s", i > 0 ? ";" : "", l->items[i].value);
        }
    }
    return err;
}

static bool bce_signs(const char *name)
{
    return has_prefix_ci(name, "x-bce-") || strcasecmp(name, "host") == 0 ||
           strcasecmp(name, "content-md5") == 0 || strcasecmp(name, "content-type") == 0 ||
           strcasecmp(name, "content-length") == 0;
}

static int bce_canonical(const struct sign_req *req, struct sign_out *out)
{
    CLEANUP(pairs_fini) struct pairs query = {0};
    CLEANUP(pairs_fini) struct pairs headers = {0};
    int err = buf_addf(&out->canonical, "%s\n%s\n", req->method, req->path);
    for (size_t i = 0; req->query && i < req->query->n && err == 0; i++) {
        const struct kv *q = &req->query->items[i];
        err =
            strcasecmp(q->name, "authorization") == 0 ? 0 : bce_add(&query, q->name, '=', q->value);
    }
    for (size_t i = 0; i < req->headers->n && err == 0; i++) {
        const struct kv *h = &req->headers->items[i];
        CLEANUP(mem_freep) char *value = trimmed(h->value, false);
        if (value[0] != '\0' && bce_signs(h->name)) {
            err = bce_add(&headers, h->name, ':', value);
        }
    }
    if (err == 0) {
        err = bce_lines(&query, '&', &out->canonical, &out->query_list);
    }
    if (err == 0) {
        err = buf_addc(&out->canonical, '\n');
    }
    return err < 0 ? err : bce_lines(&headers, '\n', &out->canonical, &out->header_list);
}

int sign_bce(const struct sign_req *req, const struct sign_key *key, const char *date,
             unsigned valid_s, struct sign_out *out)
{
    sign_out_fini(out);
    int err = bce_canonical(req, out);
    if (err == 0) {
        err = buf_addf(&out->to_sign, "bce-auth-v1/%s/%s/%u", key->id, date, valid_s);
    }
    if (err < 0) {
        return err;
    }
    uint8_t mac[DIGEST_SHA256_LEN];
    char sign_key[2 * DIGEST_SHA256_LEN + 1];
    hmac_sha256(key->secret, key->secret_len, out->to_sign.data, out->to_sign.len, mac);
    hex_encode(mac, sizeof(mac), sign_key); /* its text, not its bytes, is the next key */
    hmac_sha256(sign_key, 2 * DIGEST_SHA256_LEN, out->canonical.data, out->canonical.len, mac);
    wipe(sign_key, sizeof(sign_key));
    hex_encode(mac, sizeof(mac), out->signature);
    return buf_addf(&out->authorization, "%s/%s/%s", buf_str(&out->to_sign),
                    buf_str(&out->header_list), out->signature);
}

int sign_upyun(const char *method, const char *target, const char *date, const char *content_md5,
               const struct sign_key *key, struct sign_out *out)
{
    sign_out_fini(out);
    int err = buf_addf(&out->to_sign, "%s&%s&%s%s%s", method, target, date,
                       content_md5[0] != '\0' ? "&" : "", content_md5);
    if (err < 0) {
        return err;
    }
    uint8_t md5[DIGEST_MD5_LEN], mac[DIGEST_SHA1_LEN];
    char sign_key[2 * DIGEST_MD5_LEN + 1];
    digest_md5(key->secret, key->secret_len, md5);
    hex_encode(md5, sizeof(md5), sign_key); /* its text, not its bytes, is the key */
    hmac_sha1(sign_key, 2 * DIGEST_MD5_LEN, out->to_sign.data, out->to_sign.len, mac);
    wipe(sign_key, sizeof(sign_key));
    wipe(md5, sizeof(md5));
    base64_encode(mac, sizeof(mac), out->signature);
    return buf_addf(&out->authorization, "UPYUN %s:%s", key->id, out->signature);
}
