#include "sigv4.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "mem.h"
#include "text.h"

#define HASH 32
#define SKEW_MS (15 * 60 * 1000)
#define ALGORITHM "AWS4-HMAC-SHA256"

/* What a signature says of itself, taken apart. */
struct claim {
    char *id, *date, *region, *service, *end; /* of the credential */
    char *signed_headers, *signature;
    const char *stamp; /* 20260131T120000Z */
    bool presigned;
};

/* Looked up by name at each use it would cost more than the hash. */
static EVP_MD *sha256_md;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void fetch_sha256(void)
{
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    ENSURE(sha256_md);
}

static void sha256(const void *p, size_t n, uint8_t ret[HASH])
{
    (void)pthread_once(&sha256_once, fetch_sha256);
    ENSURE(EVP_Digest(p, n, ret, NULL, sha256_md, NULL) == 1);
}

/* RFC 2104, for keys of one block at most. */
static void hmac(const void *key, size_t key_len, const void *p, size_t n, uint8_t ret[HASH])
{
    uint8_t inner[64] = {0}, outer[64 + HASH] = {0};
    ENSURE(key_len <= 64);
    memcpy(inner, key, key_len);
    memcpy(outer, key, key_len);
    for (size_t i = 0; i < 64; i++) {
        inner[i] ^= 0x36;
        outer[i] ^= 0x5c;
    }
    struct buf text = BUF_INIT;
    ENSURE(buf_add(&text, inner, 64) == 0 && buf_add(&text, p, n) == 0);
    sha256(text.data, text.len, outer + 64);
    buf_fini(&text);
    sha256(outer, sizeof(outer), ret);
}

/* The key of one day, region and service; the last one of each thread is kept. */
static void day_key(const char *secret, const struct claim *c, uint8_t ret[HASH])
{
    static _Thread_local char kept_for[256];
    static _Thread_local uint8_t kept[HASH];
    char what[256];
    (void)snprintf(what, sizeof(what), "%s/%s/%s/%s", secret, c->date, c->region, c->service);
    if (strcmp(what, kept_for) != 0) {
        char first[128];
        int n = snprintf(first, sizeof(first), "AWS4%s", secret);
        hmac(first, MIN((size_t)n, 64u), c->date, strlen(c->date), kept);
        hmac(kept, HASH, c->region, strlen(c->region), kept);
        hmac(kept, HASH, c->service, strlen(c->service), kept);
        hmac(kept, HASH, "aws4_request", 12, kept);
        memcpy(kept_for, what, sizeof(kept_for));
    }
    memcpy(ret, kept, HASH);
}

static void adds(struct buf *b, const char *s)
{
    ENSURE(buf_adds(b, s) == 0);
}

static int by_name(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c != 0 ? c : strcmp(x->value, y->value);
}

static void add_canonical_query(struct buf *out, const struct request *r)
{
    struct pair sorted[QUERY_MAX];
    size_t n = 0;
    for (size_t i = 0; i < r->n_query; i++) {
        if (strcmp(r->query[i].name, "X-Amz-Signature") == 0) {
            continue;
        }
        struct buf name = BUF_INIT, value = BUF_INIT;
        text_escape(&name, r->query[i].name, strlen(r->query[i].name), false);
        text_escape(&value, r->query[i].value, strlen(r->query[i].value), false);
        sorted[n++] = (struct pair){name.data ? name.data : mem_strdup(""),
                                    value.data ? value.data : mem_strdup("")};
    }
    qsort(sorted, n, sizeof(sorted[0]), by_name);
    for (size_t i = 0; i < n; i++) {
        adds(out, i > 0 ? "&" : "");
        adds(out, sorted[i].name);
        adds(out, "=");
        adds(out, sorted[i].value);
        free(sorted[i].name);
        free(sorted[i].value);
    }
    adds(out, "\n");
}

/* Runs of blanks count as one. */
static void add_value(struct buf *out, const char *v)
{
    for (; *v; v++) {
        if (*v != ' ' || v[1] != ' ') {
            ENSURE(buf_addc(out, *v) == 0);
        }
    }
}

/* false: a header was to be signed and is not there. */
static bool add_canonical_headers(struct buf *out, const struct request *r, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, ";");
        bool found = false;
        for (size_t i = 0; i < r->n_headers; i++) {
            const struct pair *h = &r->headers[i];
            if (strlen(h->name) == n && memcmp(h->name, names, n) == 0) {
                adds(out, found ? "," : h->name);
                adds(out, found ? "" : ":");
                add_value(out, h->value);
                found = true;
            }
        }
        if (!found) {
            return false;
        }
        adds(out, "\n");
        names += n + (names[n] == ';');
    }
    return true;
}

static bool is_listed(const char *names, const char *name)
{
    size_t n = strlen(name);
    while (*names) {
        size_t len = strcspn(names, ";");
        if (len == n && memcmp(names, name, n) == 0) {
            return true;
        }
        names += len + (names[len] == ';');
    }
    return false;
}

static bool signs_what_it_must(const struct request *r, const struct claim *c)
{
    if (!is_listed(c->signed_headers, "host")) {
        return false;
    }
    for (size_t i = 0; i < r->n_headers; i++) {
        const char *name = r->headers[i].name;
        if (strncmp(name, "x-amz-", 6) == 0 && !is_listed(c->signed_headers, name)) {
            return false;
        }
    }
    return true;
}

/* ID/date/region/service/aws4_request; an id has no slash here. */
static bool split_credential(char *text, struct claim *ret)
{
    char *rest = text;
    ret->id = strsep(&rest, "/");
    ret->date = strsep(&rest, "/");
    ret->region = strsep(&rest, "/");
    ret->service = strsep(&rest, "/");
    ret->end = rest;
    return rest && strcmp(rest, "aws4_request") == 0 && strcmp(ret->service, "s3") == 0;
}

static bool read_header(char *text, const struct request *r, struct claim *ret)
{
    if (strncmp(text, ALGORITHM " ", sizeof(ALGORITHM)) != 0) {
        return false;
    }
    char *rest = text + sizeof(ALGORITHM), *item;
    bool good = false;
    while ((item = strsep(&rest, ",")) != NULL) {
        item += strspn(item, " ");
        if (strncmp(item, "Credential=", 11) == 0) {
            good = split_credential(item + 11, ret);
        } else if (strncmp(item, "SignedHeaders=", 14) == 0) {
            ret->signed_headers = item + 14;
        } else if (strncmp(item, "Signature=", 10) == 0) {
            ret->signature = item + 10;
        }
    }
    ret->stamp = request_header(r, "x-amz-date");
    return good && ret->signed_headers && ret->signature && ret->stamp;
}

static bool read_query(const struct request *r, char *credential, struct claim *ret)
{
    for (size_t i = 0; i < r->n_query; i++) {
        const struct pair *q = &r->query[i];
        if (strcmp(q->name, "X-Amz-SignedHeaders") == 0) {
            ret->signed_headers = q->value;
        } else if (strcmp(q->name, "X-Amz-Signature") == 0) {
            ret->signature = q->value;
        }
    }
    ret->stamp = request_query(r, "X-Amz-Date");
    ret->presigned = true;
    return split_credential(credential, ret) && ret->signed_headers && ret->signature && ret->stamp;
}

/* Wall time of a stamp, or -1. */
static int64_t stamp_ms(const char *stamp)
{
    struct tm tm = {0};
    const char *end = strptime(stamp, "%Y%m%dT%H%M%SZ", &tm);
    return end && *end == '\0' ? (int64_t)timegm(&tm) * 1000 : -1;
}

static bool in_time(const struct claim *c, const struct request *r, int64_t wall_ms)
{
    int64_t at = stamp_ms(c->stamp), for_ms = SKEW_MS;
    uint64_t expires;
    if (c->presigned && text_number(request_query(r, "X-Amz-Expires"), &expires)) {
        for_ms = (int64_t)MIN(expires, 7u * 24 * 3600) * 1000;
    }
    return at >= 0 && wall_ms <= at + for_ms && wall_ms >= at - SKEW_MS &&
           strncmp(c->stamp, c->date, 8) == 0 && strlen(c->date) == 8;
}

static void wanted_signature(const struct claim *c, const char *secret, const struct buf *canonical,
                             char ret[2 * HASH + 1])
{
    uint8_t hash[HASH], key[HASH];
    char hex[2 * HASH + 1];
    sha256(canonical->data, canonical->len, hash);
    hex_encode(hash, HASH, hex);
    CLEANUP(mem_freep)
    char *text = mem_printf(ALGORITHM "\n%s\n%s/%s/%s/aws4_request\n%s", c->stamp, c->date,
                            c->region, c->service, hex);
    day_key(secret, c, key);
    hmac(key, HASH, text, strlen(text), hash);
    hex_encode(hash, HASH, ret);
}

static const char *compare(const struct request *r, const struct claim *c, const char *secret,
                           const char *payload, const char **ret_message)
{
    CLEANUP(buf_fini) struct buf canonical = BUF_INIT;
    CLEANUP(mem_freep) char *path = mem_strdup(r->path);
    adds(&canonical, r->method);
    adds(&canonical, "\n");
    long n = text_unescape(path, strlen(path), false);
    if (n < 0) {
        *ret_message = "bad escape in the path";
        return "InvalidURI";
    }
    text_escape(&canonical, path, (size_t)n, true);
    adds(&canonical, "\n");
    add_canonical_query(&canonical, r);
    if (!add_canonical_headers(&canonical, r, c->signed_headers)) {
        *ret_message = "a signed header is missing";
        return "SignatureDoesNotMatch";
    }
    adds(&canonical, "\n");
    adds(&canonical, c->signed_headers);
    adds(&canonical, "\n");
    adds(&canonical, payload);

    char want[2 * HASH + 1];
    wanted_signature(c, secret, &canonical, want);
    if (strlen(c->signature) != 2 * HASH || CRYPTO_memcmp(c->signature, want, 2 * HASH) != 0) {
        *ret_message = "the signature is another one";
        return "SignatureDoesNotMatch";
    }
    return NULL;
}

static const char *fault(const char *code, const char *message, const char **ret_message)
{
    *ret_message = message;
    return code;
}

static const char *check_claim(const struct sig_keys *keys, const struct request *r,
                               const struct claim *c, int64_t wall_ms, const char *payload,
                               const char **ret_message)
{
    const char *secret = NULL;
    for (size_t i = 0; i < keys->n; i++) {
        if (strcmp(keys->items[i].name, c->id) == 0) {
            secret = keys->items[i].value;
        }
    }
    if (!secret) {
        return fault("InvalidAccessKeyId", "no such key", ret_message);
    }
    if (keys->region && strcmp(keys->region, c->region) != 0) {
        return fault("AuthorizationHeaderMalformed", "the region is wrong", ret_message);
    }
    if (!in_time(c, r, wall_ms)) {
        return fault(c->presigned ? "AccessDenied" : "RequestTimeTooSkewed", "not at this time",
                     ret_message);
    }
    if (!signs_what_it_must(r, c)) {
        return fault("AccessDenied", "a header that must be signed is not", ret_message);
    }
    return compare(r, c, secret, payload, ret_message);
}

const char *sigv4_check(const struct sig_keys *keys, const struct request *r, int64_t wall_ms,
                        const char **ret_message, const char **ret_hash)
{
    const char *header = request_header(r, "authorization");
    const char *credential = request_query(r, "X-Amz-Credential");
    const char *payload = request_header(r, "x-amz-content-sha256");
    struct claim c = {0};
    *ret_hash = NULL;
    if (!header && !credential) {
        return fault("AccessDenied", "not signed", ret_message);
    }
    CLEANUP(mem_freep) char *text = mem_strdup(header ? header : credential);
    if (header ? !read_header(text, r, &c) : !read_query(r, text, &c)) {
        return fault("AuthorizationHeaderMalformed", "not understood", ret_message);
    }
    if (c.presigned) {
        payload = payload ? payload : "UNSIGNED-PAYLOAD";
    } else if (!payload) {
        return fault("InvalidRequest", "x-amz-content-sha256 is missing", ret_message);
    }
    const char *code = check_claim(keys, r, &c, wall_ms, payload, ret_message);
    if (code || strcmp(payload, "UNSIGNED-PAYLOAD") == 0) {
        return code;
    }
    if (strlen(payload) != 2 * HASH) {
        return fault("NotImplemented", "this kind of payload signature", ret_message);
    }
    *ret_hash = payload;
    return NULL;
}
