/* What every dialect needs: URLs, dates, etags, metadata values, the site's common part. Pure. */
#include "dialect.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "mem.h"
#include "sync.h"

void dialect_request_fini(struct dialect_request *r)
{
    buf_fini(&r->url);
    buf_fini(&r->path);
    kv_fini(&r->query);
    kv_fini(&r->headers);
    buf_fini(&r->own);
    buf_fini(&r->note);
    *r = (struct dialect_request){0};
}

void dialect_page_fini(struct dialect_page *p)
{
    free(p->next[0]);
    free(p->next[1]);
    free(p->parts);
    for (size_t i = 0; i < p->n_uploads; i++) {
        free(p->uploads[i].key);
        free(p->uploads[i].upload_id);
    }
    free(p->uploads);
    *p = (struct dialect_page){0};
}

void dialect_page_only(struct dialect_page *p, const char *key)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->n_uploads; i++) {
        struct be_upload u = p->uploads[i];
        if (strcmp(u.key, key) == 0) {
            p->uploads[kept++] = u;
        } else {
            free(u.key);
            free(u.upload_id);
        }
    }
    p->n_uploads = kept;
}

int dialect_url(const struct dialect_site *site, const struct dialect_request *r, struct buf *ret)
{
    if (r->url.len > 0) {
        return buf_add(ret, r->url.data, r->url.len);
    }
    int err = buf_addf(ret, "%s://%s", site->https ? "https" : "http", site->host);
    return err < 0 ? err : dialect_target(r, ret);
}

int dialect_target(const struct dialect_request *r, struct buf *ret)
{
    int err = buf_adds(ret, buf_str(&r->path));
    for (size_t i = 0; i < r->query.n && err == 0; i++) {
        const struct kv *q = &r->query.items[i];
        err = buf_addc(ret, i == 0 ? '?' : '&');
        if (err == 0) {
            err = url_encode(ret, q->name, strlen(q->name), false);
        }
        if (err == 0) {
            err = buf_addc(ret, '=');
        }
        if (err == 0) {
            err = url_encode(ret, q->value, strlen(q->value), false);
        }
    }
    return err;
}

int dialect_path(const struct dialect_site *site, const char *key, struct buf *ret)
{
    int err = buf_adds(ret, site->base);
    if (err == 0) {
        err = buf_addc(ret, '/');
    }
    return err < 0 ? err : url_encode(ret, key, strlen(key), true);
}

/* A host that is safe in a URL and in a header: letters, digits, '.', '-', '_', and for addresses
 * '[', ']', ':'. */
static bool host_ok(const char *s)
{
    for (const char *p = s; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr(".-_[]:", *p)) {
            return false;
        }
    }
    return s[0] != '\0';
}

int dialect_endpoint(const struct conf_remote *conf, char **ret_host, struct errinfo *reterr)
{
    const char *s = conf->endpoint;
    bool is_http = strncasecmp(s, "http://", 7) == 0, is_https = strncasecmp(s, "https://", 8) == 0;
    if (is_http && conf->https) {
        return err_set(
            reterr, ERR_INVALID, -EINVAL,
            "[%s] endPoint: '%.100s' is not encrypted; write https = off if that is meant",
            conf->name, s);
    }
    if (is_https && !conf->https) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] endPoint: '%.100s' contradicts https = off; remove one of them",
                       conf->name, s);
    }
    s += is_http ? 7 : is_https ? 8 : 0;
    size_t n = strlen(s);
    while (n > 0 && s[n - 1] == '/') {
        n--;
    }
    CLEANUP(mem_freep) char *host = mem_strndup(s, n);
    if (!host_ok(host)) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] endPoint: '%.100s' is not a host name; write HOST or HOST:PORT",
                       conf->name, conf->endpoint);
    }
    char *colon = strrchr(host, ':');
    if (colon && (host[0] != '[' || colon[-1] == ']')) {
        uint64_t port = 0;
        if (!dialect_u64(colon + 1, &port) || port == 0 || port > 65535) {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "[%s] endPoint: '%.100s' has no valid port", conf->name, conf->endpoint);
        }
        if (port == (conf->https ? 443u : 80u)) {
            *colon = '\0'; /* what is sent and signed as Host leaves out the scheme's own */
        }
    }
    for (char *p = host; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    *ret_host = TAKE(host);
    return 0;
}

bool dialect_host_is_address(const char *host)
{
    size_t n = strcspn(host, ":");
    if (host[0] == '[' || (n == 9 && strncasecmp(host, "localhost", 9) == 0)) {
        return true;
    }
    return strspn(host, "0123456789.") >= n; /* a name has a letter in its last label */
}

static struct secret *secret_copy(const struct secret *s)
{
    return s && s->len > 0 ? secret_new(s->bytes) : NULL;
}

/* Control characters in an id or token would end up in a header. */
static bool credential_ok(const char *s)
{
    return dialect_header_value_ok(s) && strchr(s, ' ') == NULL;
}

struct dialect_keyring {
    struct mutex lock;         /* RANK_REMOTE */
    struct dialect_keys *keys; /* lock; NULL = requests are not signed */
};

struct dialect_keys *dialect_keys_get(const struct dialect_site *site)
{
    mutex_lock(&site->keyring->lock);
    struct dialect_keys *keys = site->keyring->keys;
    if (keys) {
        atomic_fetch_add(&keys->refs, 1);
    }
    mutex_unlock(&site->keyring->lock);
    return keys;
}

void dialect_keys_put(struct dialect_keys *keys)
{
    if (keys && atomic_fetch_sub(&keys->refs, 1) == 1) {
        free(keys->id);
        secret_free(keys->secret);
        secret_free(keys->token);
        free(keys);
    }
}

bool dialect_same_id(const struct dialect_site *a, const struct dialect_site *b)
{
    struct dialect_keys *x = dialect_keys_get(a), *y = dialect_keys_get(b);
    bool same = strcmp(x ? x->id : "", y ? y->id : "") == 0;
    dialect_keys_put(x);
    dialect_keys_put(y);
    return same;
}

int dialect_renew(const struct dialect_site *site, const struct conf_remote *conf,
                  struct errinfo *reterr)
{
    const char *id = conf->access_key_id ? conf->access_key_id : "";
    bool has_secret = conf->access_key_secret && conf->access_key_secret->len > 0;
    bool token_alone = site->dialect->token_alone && !has_secret && conf->security_token &&
                       conf->security_token->len > 0;
    if ((id[0] == '\0') == (has_secret || token_alone)) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] %s: missing; give both or none",
                       site->name, has_secret ? "accessKeyId" : "accessKeySecret");
    }
    if (!credential_ok(id) ||
        (conf->security_token && !credential_ok(conf->security_token->bytes))) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] accessKeyId or securityToken: has blanks or control characters",
                       site->name);
    }
    struct dialect_keys *keys = NULL;
    if (has_secret || token_alone) {
        keys = mem_zalloc(sizeof(*keys));
        atomic_init(&keys->refs, 1);
        keys->id = mem_strdup(id);
        keys->secret = secret_copy(conf->access_key_secret);
        keys->token = secret_copy(conf->security_token);
    }
    mutex_lock(&site->keyring->lock);
    struct dialect_keys *old = site->keyring->keys;
    site->keyring->keys = keys;
    mutex_unlock(&site->keyring->lock);
    dialect_keys_put(old);
    return 0;
}

int dialect_site_init_bare(struct dialect_site *site, const struct be_dialect *d,
                           const struct conf_remote *conf, struct errinfo *reterr)
{
    site->dialect = d;
    site->name = mem_strdup(conf->name ? conf->name : "");
    site->https = conf->https;
    site->keyring = mem_zalloc(sizeof(*site->keyring));
    mutex_init(&site->keyring->lock, RANK_REMOTE);
    return dialect_renew(site, conf, reterr);
}

int dialect_site_init(struct dialect_site *site, const struct be_dialect *d,
                      const struct conf_remote *conf, struct errinfo *reterr)
{
    int err = dialect_site_init_bare(site, d, conf, reterr);
    if (err < 0) {
        return err;
    }
    site->bucket = mem_strdup(conf->bucket ? conf->bucket : "");
    if (site->bucket[0] == '\0') {
        return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] bucket: missing; name the bucket",
                       site->name);
    }
    for (const char *p = site->bucket; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr(".-_", *p)) {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "[%s] bucket: '%.100s' is not a bucket name; letters, digits, '-', '.' "
                           "and '_' only",
                           site->name, site->bucket);
        }
    }
    return 0;
}

void dialect_site_fini(struct dialect_site *site)
{
    free(site->name);
    free(site->host);
    free(site->base);
    free(site->bucket);
    free(site->service);
    free(site->identity);
    if (site->keyring) {
        dialect_keys_put(site->keyring->keys);
        mutex_fini(&site->keyring->lock);
        free(site->keyring);
    }
}

bool dialect_option_on(const struct conf_remote *conf, const char *name, bool otherwise)
{
    const char *v = kv_get(&conf->defaults, name);
    bool on = otherwise;
    return v && conf_parse_bool(v, &on) == 0 ? on : otherwise;
}

static void lower(uint64_t *limit, uint64_t to)
{
    if (to > 0) {
        *limit = to;
    }
}

void dialect_limits(struct be_limits *l, const struct conf_remote *conf)
{
    lower(&l->max_copy, conf->limits.max_copy);
    lower(&l->max_put, conf->limits.max_put);
    lower(&l->max_part, conf->limits.max_part);
    lower(&l->min_part, conf->limits.min_part);
}

bool dialect_u64(const char *s, uint64_t *ret)
{
    uint64_t v = 0;
    if (!s || *s == '\0') {
        return false;
    }
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || MUL_OVERFLOWS(v, 10u, &v) ||
            ADD_OVERFLOWS(v, (unsigned)(*s - '0'), &v)) {
            return false;
        }
    }
    *ret = v;
    return true;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that
 * the leap day is the last of them. */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t yoe = year - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static int64_t wall_ns(int year, int month, int day, int hour, int minute, int second)
{
    if (year < 1970 || year > 2200 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 ||
        minute > 59 || second > 60 || hour < 0 || minute < 0 || second < 0) {
        return 0;
    }
    return (((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000000000;
}

int64_t dialect_http_date(const char *s)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char month[4] = "";
    int day = 0, year = 0, hour = 0, minute = 0, second = 0, end = 0;
    if (!s ||
        sscanf(s, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &day, month, &year, &hour,
               &minute, &second, &end) != 6 ||
        end == 0 || s[end] != '\0' || strlen(month) != 3) {
        return 0;
    }
    const char *at = strstr(months, month);
    if (!at || (at - months) % 3 != 0) {
        return 0;
    }
    return wall_ns(year, (int)(at - months) / 3 + 1, day, hour, minute, second);
}

int64_t dialect_iso_date(const char *s)
{
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, end = 0;
    if (!s ||
        sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second,
               &end) != 6 ||
        end == 0) {
        return 0;
    }
    int64_t ns = 0;
    const char *p = s + end;
    if (*p == '.') {
        int64_t unit = 100000000;
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10) {
            ns += (*p - '0') * unit;
        }
    }
    int64_t whole = wall_ns(year, month, day, hour, minute, second);
    return strcmp(p, "Z") == 0 && whole != 0 ? whole + ns : 0;
}

bool dialect_etag(const char *s, char ret[BE_ETAG_MAX])
{
    if (!s) {
        return false;
    }
    size_t n = strlen(s);
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
        s++;
        n -= 2;
    }
    if (n >= BE_ETAG_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (s[i] <= ' ' || s[i] == '"' || s[i] > '~') {
            return false;
        }
    }
    memcpy(ret, s, n);
    ret[n] = '\0';
    return true;
}

bool dialect_etag_is_hex(const char *etag)
{
    return strlen(etag) == 32 && strspn(etag, "0123456789abcdefABCDEF") == 32;
}

static bool take_u64(const char **p, uint64_t *ret)
{
    size_t n = strspn(*p, "0123456789");
    char digits[24];
    if (n == 0 || n >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, *p, n);
    digits[n] = '\0';
    *p += n;
    return dialect_u64(digits, ret);
}

bool dialect_content_range_open(const char *s, uint64_t *ret_first, uint64_t *ret_last,
                                uint64_t *ret_total)
{
    uint64_t first = 1, last = 0, total = 0;
    if (!s || strncasecmp(s, "bytes ", 6) != 0) {
        return false;
    }
    s += 6;
    if (*s == '*') {
        s++;
    } else if (!take_u64(&s, &first) || *s++ != '-' || !take_u64(&s, &last) || first > last) {
        return false;
    }
    if (*s++ != '/') {
        return false;
    }
    if (first <= last && strcmp(s, "*") == 0) {
        total = UINT64_MAX;
        s++;
    } else if (!take_u64(&s, &total)) {
        return false;
    }
    if (*s != '\0' || (first <= last && last >= total)) {
        return false;
    }
    *ret_first = first;
    *ret_last = last;
    *ret_total = total;
    return true;
}

bool dialect_content_range(const char *s, uint64_t *ret_first, uint64_t *ret_last,
                           uint64_t *ret_total)
{
    uint64_t first, last, total;
    if (!dialect_content_range_open(s, &first, &last, &total) || total == UINT64_MAX) {
        return false;
    }
    *ret_first = first;
    *ret_last = last;
    *ret_total = total;
    return true;
}

void dialect_meta_standard(const struct kvlist *headers, struct kvlist *meta)
{
    for (size_t i = 0; dialect_standard_headers[i]; i++) {
        const char *value = kv_get(headers, dialect_standard_headers[i]);
        if (value && value[0] != '\0') {
            kv_set(meta, dialect_standard_headers[i], value);
        }
    }
}

uint32_t dialect_retry_after(const char *s)
{
    uint64_t seconds = 0;
    return dialect_u64(s, &seconds) ? (uint32_t)MIN(seconds, 3600u) * 1000 : 0;
}

void dialect_set_number(struct kvlist *l, const char *name, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    kv_set(l, name, text);
}

void dialect_set_etag(struct kvlist *headers, const char *name, const char *etag)
{
    CLEANUP(mem_freep) char *quoted = mem_printf("\"%s\"", etag);
    kv_set(headers, name, quoted);
}

void dialect_set_md5(struct kvlist *headers, const char *name, const uint8_t md5[DIGEST_MD5_LEN])
{
    char text[BASE64_LEN(DIGEST_MD5_LEN) + 1];
    base64_encode(md5, DIGEST_MD5_LEN, text);
    kv_set(headers, name, text);
}

void dialect_set_range(struct kvlist *headers, const char *name, uint64_t offset, uint64_t len)
{
    uint64_t last;
    if (ADD_OVERFLOWS(offset, len - 1, &last)) {
        last = UINT64_MAX;
    }
    char range[64];
    snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)offset,
             (unsigned long long)last);
    kv_set(headers, name, range);
}

const char *const dialect_standard_headers[] = {
    "content-type",     "cache-control",    "content-disposition",
    "content-encoding", "content-language", "expires",
    NULL};

bool dialect_is_standard(const char *name)
{
    for (size_t i = 0; dialect_standard_headers[i]; i++) {
        if (strcasecmp(name, dialect_standard_headers[i]) == 0) {
            return true;
        }
    }
    return false;
}

void dialect_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
    for (char *p = to; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            *p = ' ';
        }
    }
}

int64_t dialect_clock_off_s(const struct dialect_answer *a)
{
    int64_t date_s = dialect_http_date(kv_get(a->headers, "date")) / 1000000000;
    return date_s > 0 ? date_s - a->signed_s : 0;
}

bool dialect_clock_off_by(const struct dialect_answer *a, int64_t allowed_s)
{
    int64_t off = dialect_clock_off_s(a);
    return off > allowed_s || off < -allowed_s;
}

int dialect_garbled(const struct dialect_answer *a, struct errinfo *reterr, const char *what)
{
    reterr->http_status = a->http_status;
    return err_set(reterr, ERR_TRANSIENT, -EIO, "the answer is incomplete or malformed: %s", what);
}

int dialect_read_size(const struct dialect_answer *a, const struct be_read *op, uint64_t *ret,
                      struct errinfo *reterr)
{
    uint64_t first = 0, last = 0, size = 0;
    if (a->http_status == 206) {
        if (!dialect_content_range(kv_get(a->headers, "content-range"), &first, &last, &size) ||
            first > last) {
            return dialect_garbled(a, reterr, "Content-Range");
        }
        if (first != op->offset || last - first + 1 != a->body_got || a->body_got > op->len ||
            (a->body_got < op->len && last + 1 != size)) {
            reterr->http_status = a->http_status;
            return err_set(reterr, ERR_INTEGRITY, -EIO,
                           "asked for %zu bytes from %llu, and got %llu from %llu of %llu", op->len,
                           (unsigned long long)op->offset, (unsigned long long)a->body_got,
                           (unsigned long long)first, (unsigned long long)size);
        }
    } else if (op->offset == 0) {
        size = a->body_got; /* the whole object, which is not longer than what was asked for */
    } else {
        reterr->http_status = a->http_status;
        return err_set(reterr, ERR_INVALID, -EIO, "the server ignores Range");
    }
    *ret = size;
    return 0;
}

#define META_MARK "UTF-8''"

static bool meta_is_plain(const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        if (s[i] < ' ' || s[i] > '~') {
            return false;
        }
    }
    /* outer blanks are cut from headers; an empty one may be dropped by a proxy or a server */
    return n > 0 && s[0] != ' ' && s[n - 1] != ' ' &&
           strncasecmp(s, META_MARK, strlen(META_MARK)) != 0;
}

int dialect_meta_encode(const char *value, struct buf *ret)
{
    if (meta_is_plain(value)) {
        return buf_adds(ret, value);
    }
    int err = buf_adds(ret, META_MARK);
    return err < 0 ? err : url_encode(ret, value, strlen(value), false);
}

char *dialect_meta_decode(const char *value)
{
    size_t mark = strlen(META_MARK);
    if (strncmp(value, META_MARK, mark) == 0) {
        CLEANUP(buf_fini) struct buf plain = BUF_INIT;
        CLEANUP(buf_fini) struct buf again = BUF_INIT;
        if (url_decode(&plain, value + mark, strlen(value + mark), false) == 0 &&
            strlen(buf_str(&plain)) == plain.len &&
            dialect_meta_encode(buf_str(&plain), &again) == 0 &&
            strcmp(buf_str(&again), value) == 0) {
            return mem_strdup(buf_str(&plain));
        }
    }
    return mem_strdup(value);
}

int dialect_meta_name_encode(const char *name, struct buf *ret)
{
    int err = 0;
    for (const char *p = name; *p && err == 0; p++) {
        bool plain = isalnum((unsigned char)*p) || (*p == '-' && p[1] != '-');
        err = plain ? buf_addc(ret, *p) : buf_addf(ret, "--%02x", (unsigned char)*p);
    }
    return err;
}

char *dialect_meta_name_decode(const char *name)
{
    CLEANUP(mem_freep) char *plain = mem_zalloc(strlen(name) + 1);
    CLEANUP(buf_fini) struct buf again = BUF_INIT;
    char *o = plain;
    for (const char *p = name; *p; o++) {
        char digits[3] = "";
        if (p[0] == '-' && p[1] == '-' && p[2] != '\0') {
            memcpy(digits, p + 2, 2);
        }
        if (hex_decode(digits, 1, o)) {
            p += 4;
        } else {
            *o = *p++;
        }
    }
    bool ours = strlen(plain) == (size_t)(o - plain) &&
                dialect_meta_name_encode(plain, &again) == 0 && strcmp(buf_str(&again), name) == 0;
    return ours ? TAKE(plain) : mem_strdup(name);
}

bool dialect_header_name_ok(const char *name)
{
    for (const char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p)) {
            return false;
        }
    }
    return name[0] != '\0';
}

bool dialect_header_value_ok(const char *value)
{
    for (const char *p = value; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            return false;
        }
    }
    return true;
}

int dialect_add_user_meta(const char *prefix, const char *name,
                          int (*encode_name)(const char *name, struct buf *ret), const char *value,
                          struct kvlist *headers, size_t *bytes, struct errinfo *reterr)
{
    CLEANUP(buf_fini) struct buf header = BUF_INIT;
    CLEANUP(buf_fini) struct buf encoded = BUF_INIT;
    if (!dialect_header_name_ok(name)) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "metadata name '%.60s' cannot be a header's",
                       name);
    }
    int err = buf_adds(&header, prefix);
    if (err == 0) {
        err = encode_name ? encode_name(name, &header) : buf_adds(&header, name);
    }
    if (err == 0) {
        err = dialect_meta_encode(value, &encoded);
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "metadata: no memory");
    }
    *bytes += header.len - strlen(prefix) + encoded.len;
    kv_set(headers, buf_str(&header), buf_str(&encoded));
    return 0;
}

enum err_class dialect_class_of_status(int http_status)
{
    switch (http_status) {
    case 304:
    case 409:
    case 412:
        return ERR_PRECOND;
    case 401:
    case 403:
        return ERR_AUTH;
    case 402:
    case 507:
        return ERR_QUOTA;
    case 404:
    case 410:
        return ERR_ABSENT;
    case 408:
    case 425:
        return ERR_TRANSIENT;
    case 429:
    case 503: /* a HEAD cannot say SlowDown; slowing down is right for an overloaded server too */
        return ERR_THROTTLED;
    case 501:
    case 505:
        return ERR_INVALID;
    default:
        return http_status >= 500 ? ERR_TRANSIENT : ERR_INVALID;
    }
}
