/* provider = http: what a list of URLs names, as a bucket that can only be read.
 *
 * A dialect, because what web servers need beyond object stores is little: an address of its own
 * for every key, redirects, and a second way to ask for a size. Retries, lanes, cancellation and
 * the checks of what was read are objstore.c's.
 *
 * - Lists are answered from the index, without a request; they tell keys alone (be_entry.unseen).
 * - Redirects are followed, to http and https only and never from https to http. What leaves the
 * origin that the list names loses the Authorization header, and does not get it back.
 * - A version is what its strong ETag says; without one, its Last-Modified, its size and the weak
 * ETag together.
 * - A size comes from HEAD, and where that is refused or says nothing, from a GET of the first
 * byte. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect.h"
#include "digest.h"
#include "mem.h"
#include "urllist.h"

#define REDIRECTS_MAX 5
#define FOLLOWS_MAX (REDIRECTS_MAX + 2) /* and from HEAD to GET, and from a range to none */
#define PAGE 1000
#define ETAG_LISTED_MAX 71 /* cache keeps no longer one of each name */

struct http_site {
    struct dialect_site site; /* first */
    struct urllist *list;
};

static const struct http_site *of(const struct dialect_site *site)
{
    return CONTAINER_OF(site, const struct http_site, site);
}

/* --- the site */

static void http_release(struct dialect_site *site)
{
    if (site) {
        struct http_site *h = CONTAINER_OF(site, struct http_site, site);
        dialect_site_fini(site);
        urllist_free(h->list);
        free(h);
    }
}

static int http_configure(const struct conf_remote *conf, struct dialect_site **ret,
                          struct errinfo *reterr)
{
    struct http_site *h = mem_zalloc(sizeof(*h));
    int err = dialect_site_init_bare(&h->site, &be_dialect_http, conf, reterr);
    if (err == 0 && (!conf->urllist || conf->urllist[0] == '\0')) {
        err = err_set(reterr, ERR_INVALID, -EINVAL,
                      "[%s] urllistPath: missing; name a file or a directory", h->site.name);
    }
    if (err == 0) {
        err = urllist_load(conf->urllist, h->site.name, &h->list, reterr);
    }
    if (err < 0) {
        http_release(&h->site);
        return err;
    }
    h->site.identity = mem_printf("http:%s", conf->urllist);
    h->site.caps = BE_CAP_READ_ONLY;
    h->site.limits = (struct be_limits){.max_key = URLLIST_KEY_MAX, .list_page = PAGE};
    h->site.may_ignore_range = true;
    *ret = &h->site;
    return 0;
}

/* --- lists */

/* Where a page begins: behind the last name of the one before, and if that stood for all below it,
 * behind these. */
static size_t list_begin(const struct urllist *l, const struct be_list *o)
{
    const char *after = o->cursor ? o->cursor : o->start_after;
    size_t prefix = strlen(o->prefix);
    size_t at = urllist_lower(l, o->prefix, prefix);
    if (after) {
        size_t len = strlen(after), next = urllist_lower(l, after, len), n;
        bool all = o->cursor && o->delimiter != 0 && len > prefix && after[len - 1] == o->delimiter;
        if (all) {
            CLEANUP(mem_freep) char *end = mem_strdup(after);
            end[len - 1]++; /* the delimiter is no last byte */
            next = urllist_lower(l, end, len);
        } else if (next < urllist_count(l)) {
            const char *key = urllist_key(l, next, &n);
            next += n == len && memcmp(key, after, len) == 0;
        }
        at = MAX(at, next);
    }
    return at;
}

static int list(const struct http_site *h, struct be_list *o)
{
    const struct urllist *l = h->list;
    size_t prefix = strlen(o->prefix), n = 0, count = urllist_count(l), i = list_begin(l, o);
    size_t max = o->max > 0 ? MIN(o->max, (unsigned)PAGE) : PAGE;
    struct be_entry *entries = mem_zalloc(max * sizeof(*entries));
    while (i < count) {
        size_t len;
        const char *key = urllist_key(l, i, &len);
        if (len < prefix || memcmp(key, o->prefix, prefix) != 0) {
            break;
        }
        if (n == max) {
            o->next_cursor = mem_strdup(entries[n - 1].key);
            break;
        }
        const char *end =
            o->delimiter != 0 ? memchr(key + prefix, o->delimiter, len - prefix) : NULL;
        struct be_entry *e = &entries[n++];
        e->is_prefix = end != NULL;
        e->unseen = !end;
        e->key = mem_strndup(key, end ? (size_t)(end - key) + 1 : len);
        if (end) {
            CLEANUP(mem_freep) char *behind = mem_strdup(e->key);
            behind[end - key]++;
            i = urllist_lower(l, behind, strlen(behind));
        } else {
            i++;
        }
    }
    o->entries = entries;
    o->n_entries = n;
    return 1;
}

static int http_local(const struct dialect_site *site, const struct dialect_call *call,
                      struct errinfo *reterr)
{
    (void)reterr;
    return call->kind == BE_LIST ? list(of(site), CONTAINER_OF(call->op, struct be_list, op)) : 0;
}

/* --- requests */

static void add_basic(struct dialect_request *r, const char *login, size_t n)
{
    CLEANUP(mem_freep) char *value = mem_zalloc(6 + BASE64_LEN(n) + 1);
    memcpy(value, "Basic ", 6);
    base64_encode(login, n, value + 6);
    kv_set(&r->headers, "authorization", value);
    explicit_bzero(value, 6 + BASE64_LEN(n));
}

static void set_range(struct dialect_request *r, const struct be_read *o)
{
    CLEANUP(mem_freep)
    char *range = mem_printf("bytes=%llu-%llu", (unsigned long long)(o->offset + r->kept),
                             (unsigned long long)(o->offset + o->len - 1));
    kv_set(&r->headers, "range", range);
}

static bool wants_bytes(const struct dialect_call *call)
{
    return call->kind == BE_READ && !call->head &&
           CONTAINER_OF(call->op, struct be_read, op)->len > 0;
}

static int absent(const struct dialect_call *call, struct errinfo *reterr)
{
    (void)call;
    memcpy(reterr->code, "NoSuchKey", sizeof("NoSuchKey"));
    return err_set(reterr, ERR_ABSENT, -ENOENT, "no URL of the list has that key");
}

static int http_build(const struct dialect_site *site, const struct dialect_call *call,
                      struct dialect_request *ret, struct errinfo *reterr)
{
    CLEANUP(urllist_row_fini) struct urllist_row row = {0};
    dialect_request_fini(ret);
    if (!urllist_find(of(site)->list, call->op->key, &row)) {
        return absent(call, reterr);
    }
    if (weburl_text(&row.url, &ret->url) < 0) {
        return err_set(reterr, ERR_LOCAL, -ENOMEM, "request: no memory");
    }
    ret->method = wants_bytes(call) ? "GET" : "HEAD";
    kv_set(&ret->headers, "host", buf_str(&row.url.host));
    kv_set(&ret->headers, "accept", "*/*");
    kv_set(&ret->headers, "accept-encoding",
           "identity"); /* else sizes and ranges are those of another form */
    if (wants_bytes(call)) {
        set_range(ret, CONTAINER_OF(call->op, const struct be_read, op));
    }
    if (row.url.login.len > 0) {
        add_basic(ret, row.url.login.data, row.url.login.len);
        ret->signed_already = true;
    }
    return 0;
}

static int http_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
                     struct errinfo *reterr)
{
    (void)wall_s;
    (void)reterr;
    struct dialect_keys *keys = r->signed_already ? NULL : dialect_keys_get(site);
    if (keys) {
        size_t id = strlen(keys->id), n = id + 1 + keys->secret->len;
        CLEANUP(mem_freep) char *login = mem_zalloc(n + 1);
        memcpy(login, keys->id, id);
        login[id] = ':';
        memcpy(login + id + 1, keys->secret->bytes, keys->secret->len);
        add_basic(r, login, n);
        explicit_bzero(login, n);
        dialect_keys_put(keys);
    }
    return 0;
}

/* --- answers that lead on */

static enum dialect_follow redirect(const struct http_site *h, const struct dialect_call *call,
                                    const struct dialect_answer *a, struct dialect_request *req,
                                    struct errinfo *reterr)
{
    CLEANUP(urllist_row_fini) struct urllist_row row = {0};
    CLEANUP(weburl_fini) struct weburl at = {0};
    CLEANUP(weburl_fini) struct weburl to = {0};
    const char *location = kv_get(a->headers, "location");
    const char *fault = NULL;
    if (!location || !urllist_find(h->list, call->op->key, &row) ||
        weburl_parse(req->url.data, req->url.len, &at)) {
        return FOLLOW_NOT;
    }
    fault = weburl_join(&at, location, &to);
    if (!fault && at.https && !to.https) {
        fault = "it leads from https to http";
    }
    if (!fault && req->follows >= REDIRECTS_MAX) {
        fault = "there were five before";
    }
    if (fault) {
        CLEANUP(buf_fini) struct buf place = BUF_INIT;
        urllist_place(h->list, call->op->key, &place);
        reterr->http_status = a->http_status;
        err_set(reterr, ERR_INVALID, -ELOOP, "the redirect of %s is not followed: %s",
                buf_str(&place), fault);
        return FOLLOW_FAILED;
    }
    if (!weburl_same_origin(&row.url, &to)) {
        kv_set(&req->headers, "authorization", NULL);
        req->signed_already = true;
    }
    buf_clear(&req->url);
    kv_set(&req->headers, "host", buf_str(&to.host));
    return weburl_text(&to, &req->url) < 0 ? FOLLOW_NOT : FOLLOW_AGAIN;
}

/* HEAD said no, or nothing: some servers and all URLs signed for GET alone are like that. */
static bool head_is_no_answer(const struct dialect_answer *a)
{
    static const int refusals[] = {400, 403, 404, 405, 406, 500, 501};
    uint64_t size = 0;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        if (a->http_status == refusals[i]) {
            return true;
        }
    }
    bool ok = a->http_status >= 200 && a->http_status < 300;
    return ok && (!dialect_u64(kv_get(a->headers, "content-length"), &size) || size == 0);
}

static void version_of(const struct dialect_answer *a, struct be_object *o)
{
    const char *etag = kv_get(a->headers, "etag"), *time = kv_get(a->headers, "last-modified");
    o->mtime_ns = dialect_http_date(time);
    bool strong = etag && strncmp(etag, "W/", 2) != 0 && dialect_etag(etag, o->etag) &&
                  o->etag[0] != '\0' && strlen(o->etag) <= ETAG_LISTED_MAX;
    if (!strong) {
        uint8_t md5[DIGEST_MD5_LEN];
        CLEANUP(mem_freep)
        char *all = mem_printf("%s\n%s\n%llu", etag ? etag : "", time ? time : "",
                               (unsigned long long)o->size);
        digest_md5(all, strlen(all), md5);
        o->etag[0] = '~'; /* so that nobody takes it for the MD5 of the bytes */
        hex_encode(md5, sizeof(md5), o->etag + 1);
    }
}

/* Some send less of a range than was asked for. Pieces are put together only of a version that is
 * named. */
static bool is_piece(const struct be_read *o, const struct dialect_answer *a,
                     const struct dialect_request *req)
{
    uint64_t first = 0, last = 0;
    struct be_object version = {0};
    if (a->http_status != 206 || !o->if_match ||
        !dialect_content_range(kv_get(a->headers, "content-range"), &first, &last, &version.size)) {
        return false;
    }
    version_of(a, &version);
    return first == o->offset + req->kept && first <= last &&
           last - first + 1 == a->body_got - req->kept && a->body_got < o->len &&
           last + 1 < version.size && strcmp(version.etag, o->if_match) == 0;
}

static enum dialect_follow http_follow(const struct dialect_site *site,
                                       const struct dialect_call *call,
                                       const struct dialect_answer *a, struct dialect_request *req,
                                       struct errinfo *reterr)
{
    int status = a->http_status;
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
        return redirect(of(site), call, a, req, reterr);
    }
    struct be_read *o = wants_bytes(call) ? CONTAINER_OF(call->op, struct be_read, op) : NULL;
    if (o && is_piece(o, a, req)) {
        req->kept = (size_t)a->body_got;
        set_range(req, o);
        return FOLLOW_AGAIN;
    }
    if (req->follows >= FOLLOWS_MAX) {
        return FOLLOW_NOT;
    }
    if (strcmp(req->method, "HEAD") == 0 && head_is_no_answer(a)) {
        req->method = "GET";
        kv_set(&req->headers, "range", "bytes=0-0");
        return FOLLOW_AGAIN;
    }
    if (!o && status == 416) {
        return FOLLOW_SUCCESS; /* no first byte: it is empty */
    }
    const char *type = kv_get(a->headers, "content-type");
    if (status == 206 && type && strncasecmp(type, "multipart/", 10) == 0 &&
        kv_get(&req->headers, "range")) {
        kv_set(&req->headers, "range", NULL); /* one range was asked for: the server cannot do it */
        return FOLLOW_AGAIN;
    }
    return FOLLOW_NOT;
}

/* --- results */

/* What a server's object stores are called in headers is not asked: x-VENDOR-meta-NAME. */
static void vendor_meta(const struct kvlist *headers, struct kvlist *meta)
{
    for (size_t i = 0; i < headers->n; i++) {
        const char *name = headers->items[i].name;
        size_t vendor = strncasecmp(name, "x-", 2) == 0 ? strcspn(name + 2, "-") : 0;
        if (vendor > 0 && strncasecmp(name + 2 + vendor, "-meta-", 6) == 0 &&
            name[2 + vendor + 6] != '\0') {
            CLEANUP(mem_freep) char *lower = mem_strdup(name + 2 + vendor + 1);
            CLEANUP(mem_freep) char *value = dialect_meta_decode(headers->items[i].value);
            for (char *p = lower; *p; p++) {
                *p = (char)tolower((unsigned char)*p);
            }
            kv_set(meta, lower, value);
        }
    }
}

/* The whole object's MD5, when it is told: by the list, by the store's metadata, or by a header of
 * a whole answer. */
static void md5_of(const struct urllist_row *row, const struct dialect_answer *a,
                   struct kvlist *meta)
{
    const char *header = a->http_status == 200 ? kv_get(a->headers, "content-md5") : NULL;
    uint8_t md5[24];
    char hex[33];
    size_t n = 0;
    if (row->has_md5) {
        hex_encode(row->md5, 16, hex);
        kv_set(meta, "meta-md5", hex);
    } else if (header && strlen(header) == 24 && base64_decode(header, 24, md5, &n) && n == 16 &&
               !kv_get(meta, "meta-md5")) {
        hex_encode(md5, 16, hex);
        kv_set(meta, "meta-md5", hex);
    }
}

/* The whole object's size. False: nobody says. */
static bool size_of(const struct dialect_answer *a, const struct urllist_row *row, uint64_t *ret)
{
    const char *range = kv_get(a->headers, "content-range");
    uint64_t first, last;
    bool known = false;
    if (a->http_status == 206 || a->http_status == 416) {
        known = dialect_content_range(range, &first, &last, ret);
        if (!known && a->http_status == 416) {
            *ret = 0;
            known = true;
        }
    } else {
        known = dialect_u64(kv_get(a->headers, "content-length"), ret);
    }
    if (!known && row->has_size) {
        *ret = row->size;
        known = true;
    }
    return known;
}

static int parse_head(const struct http_site *h, const struct dialect_call *call,
                      const struct dialect_answer *a, struct be_object *ret, struct kvlist *meta,
                      struct errinfo *reterr)
{
    CLEANUP(urllist_row_fini) struct urllist_row row = {0};
    CLEANUP(buf_fini) struct buf place = BUF_INIT;
    struct be_object o = {0};
    if (!urllist_find(h->list, call->op->key, &row)) {
        return absent(call, reterr);
    }
    const char *fault = NULL;
    enum err_class cls = ERR_PRECOND;
    if (!size_of(a, &row, &o.size)) {
        cls = ERR_INVALID;
        fault = "the server does not tell its size; write that into a manifest's column Size";
    } else if (row.has_size && row.size != o.size) {
        fault = "the server has another size than the list says";
    }
    version_of(a, &o);
    if (!fault && row.etag && strcmp(row.etag, o.etag) != 0) {
        fault = "the server has another ETag than the list says";
    }
    if (fault) {
        reterr->http_status = a->http_status;
        urllist_place(h->list, call->op->key, &place);
        return err_set(reterr, cls, cls == ERR_PRECOND ? -ESTALE : -EINVAL, "%s: %s",
                       buf_str(&place), fault);
    }
    *ret = o;
    vendor_meta(a->headers, meta);
    dialect_meta_standard(a->headers, meta);
    md5_of(&row, a, meta);
    return 0;
}

/* The bytes are in place; whether they are those that were asked for is to be seen. */
static int check_bytes(const struct dialect_answer *a, const struct be_read *o,
                       const struct be_object *object, struct errinfo *reterr)
{
    uint64_t first = 0, last = 0, total = 0;
    uint64_t left = o->offset < object->size ? object->size - o->offset : 0;
    uint64_t want = MIN((uint64_t)o->len, left);
    reterr->http_status = a->http_status;
    if (a->http_status == 206 &&
        (!dialect_content_range_open(kv_get(a->headers, "content-range"), &first, &last, &total) ||
         first > last)) {
        return err_set(reterr, ERR_TRANSIENT, -EIO,
                       "the answer is incomplete or malformed: Content-Range");
    }
    /* the last of several pieces ends where the whole does */
    if (a->http_status == 206 && (first < o->offset || last + 1 - o->offset != a->body_got)) {
        return err_set(reterr, ERR_INTEGRITY, -EIO,
                       "asked for %zu bytes from %llu, and got %llu from %llu", o->len,
                       (unsigned long long)o->offset, (unsigned long long)a->body_got,
                       (unsigned long long)first);
    }
    if (a->body_got != want) {
        return err_set(reterr, ERR_TRANSIENT, -EIO, "the answer is cut short: %llu of %llu bytes",
                       (unsigned long long)a->body_got, (unsigned long long)want);
    }
    reterr->http_status = 0;
    return 0;
}

static int http_parse(const struct dialect_site *site, const struct dialect_call *call,
                      const struct dialect_answer *a, struct dialect_page *page,
                      struct errinfo *reterr)
{
    (void)page;
    if (call->kind == BE_STAT) {
        struct be_stat *o = CONTAINER_OF(call->op, struct be_stat, op);
        return parse_head(of(site), call, a, &o->object, &o->meta, reterr);
    }
    if (call->kind != BE_READ) {
        return err_set(reterr, ERR_BUG, -EIO, "a list of URLs answered what it cannot do");
    }
    struct be_read *o = CONTAINER_OF(call->op, struct be_read, op);
    struct be_object object = {0};
    struct kvlist meta = {0};
    int err = parse_head(of(site), call, a, &object, &meta, reterr);
    if (err == 0 && wants_bytes(call)) {
        err = check_bytes(a, o, &object, reterr);
    }
    if (err < 0) {
        kv_fini(&meta);
        return err;
    }
    o->object = object;
    o->meta = meta;
    o->got = wants_bytes(call) ? (size_t)a->body_got : 0;
    return 0;
}

static void http_classify(const struct dialect_site *site, const struct dialect_call *call,
                          const struct dialect_answer *a, struct errinfo *ret)
{
    CLEANUP(buf_fini) struct buf place = BUF_INIT;
    urllist_place(of(site)->list, call->op->key ? call->op->key : "", &place);
    ret->http_status = a->http_status;
    ret->retry_after_ms = dialect_retry_after(kv_get(a->headers, "retry-after"));
    err_set(ret, dialect_class_of_status(a->http_status), 0, "%s: %s",
            place.len > 0 ? buf_str(&place) : "a URL of the list",
            a->http_status == 401 ? "the server wants another user and password"
                                  : "the server refuses it");
}

/* No can_copy: what cannot be written to is never asked. */
const struct be_dialect be_dialect_http = {
    .name = "http",
    .configure = http_configure,
    .release = http_release,
    .build = http_build,
    .sign = http_sign,
    .local = http_local,
    .follow = http_follow,
    .parse = http_parse,
    .classify = http_classify,
};
