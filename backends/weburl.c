/* See weburl.h. The rules are those of the WHATWG URL standard, as far as lists have use for them;
 * a name of a host that is not ASCII is encoded as it is (RFC 3492), without that standard's
 * folding of case in other alphabets. */
#include "weburl.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "names.h"

#define LABEL_MAX 63

void weburl_fini(struct weburl *u)
{
    if (u->login.data) {
        explicit_bzero(u->login.data, u->login.cap);
    }
    buf_fini(&u->host);
    buf_fini(&u->target);
    buf_fini(&u->login);
}

/* --- hosts */

/* One UTF-8 character; the text was checked before. */
static uint32_t utf8_next(const char **p)
{
    const unsigned char *s = (const unsigned char *)*p;
    unsigned more = s[0] < 0x80 ? 0 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : 3;
    uint32_t c = more == 0 ? s[0] : s[0] & (0x3fu >> more);
    for (unsigned i = 1; i <= more; i++) {
        c = c << 6 | (s[i] & 0x3fu);
    }
    *p += more + 1;
    return c;
}

static char puny_digit(uint32_t d)
{
    return (char)(d < 26 ? 'a' + d : '0' + (d - 26));
}

static uint32_t puny_adapt(uint32_t delta, uint32_t points, bool first)
{
    uint32_t k = 0;
    delta = first ? delta / 700 : delta / 2;
    for (delta += delta / points; delta > 455; k += 36) {
        delta /= 35;
    }
    return k + 36 * delta / (delta + 38);
}

static int puny_number(uint32_t delta, uint32_t bias, struct buf *ret)
{
    int err = 0;
    for (uint32_t k = 36; err == 0; k += 36) {
        uint32_t t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
        if (delta < t) {
            return buf_addc(ret, puny_digit(delta));
        }
        err = buf_addc(ret, puny_digit(t + (delta - t) % (36 - t)));
        delta = (delta - t) / (36 - t);
    }
    return err;
}

/* RFC 3492, section 6.3. False when the label is too long. */
static bool puny_label(const char *s, size_t n, struct buf *ret)
{
    uint32_t points[LABEL_MAX];
    uint32_t count = 0, basic = 0;
    for (const char *p = s; p < s + n;) {
        if (count == LABEL_MAX) {
            return false;
        }
        points[count++] = utf8_next(&p);
    }
    if (buf_adds(ret, "xn--") < 0) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (points[i] < 0x80) {
            basic++;
            (void)buf_addc(ret, (char)points[i]);
        }
    }
    if (basic > 0) {
        (void)buf_addc(ret, '-');
    }
    /* a label of 63 characters of at most 0x10ffff keeps delta below 2^31 */
    for (uint32_t n_now = 0x80, bias = 72, delta = 0, done = basic; done < count;
         delta++, n_now++) {
        uint32_t least = UINT32_MAX;
        for (uint32_t i = 0; i < count; i++) {
            least = points[i] >= n_now && points[i] < least ? points[i] : least;
        }
        delta += (least - n_now) * (done + 1);
        n_now = least;
        for (uint32_t i = 0; i < count; i++) {
            delta += points[i] < n_now;
            if (points[i] == n_now) {
                if (puny_number(delta, bias, ret) < 0) {
                    return false;
                }
                bias = puny_adapt(delta, done + 1, done == basic);
                delta = 0;
                done++;
            }
        }
    }
    return true;
}

static bool label_ok(const char *s, size_t n, bool *ret_ascii)
{
    *ret_ascii = true;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == '-' || c == '_';
        *ret_ascii = *ret_ascii && c < 0x80;
        if (c < 0x80 && !plain) {
            return false;
        }
    }
    return n > 0 && n <= 4 * LABEL_MAX;
}

static const char *host_name(const char *s, size_t n, struct buf *ret)
{
    size_t begin = ret->len;
    for (size_t at = 0; at < n;) {
        const char *dot = memchr(s + at, '.', n - at);
        size_t len = dot ? (size_t)(dot - s) - at : n - at;
        bool ascii;
        size_t from = ret->len;
        if (!label_ok(s + at, len, &ascii) ||
            (ascii ? buf_add(ret, s + at, len) < 0 : !puny_label(s + at, len, ret)) ||
            ret->len - from > LABEL_MAX) {
            return "the name of its host is none";
        }
        at += len;
        if (dot) {
            (void)buf_addc(ret, '.');
            at++;
        }
    }
    if (ret->len - begin > 253) {
        return "the name of its host is none";
    }
    for (char *p = ret->data + begin; *p; p++) {
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    }
    return NULL;
}

/* host, host:port, [address]:port */
static const char *take_host(const char *s, size_t n, bool https, struct buf *ret)
{
    static const char no_host[] = "it has no host",
                      bad_port[] = "its port is not a number from 1 to 65535";
    size_t host = 0;
    const char *fault = NULL;
    if (n > 0 && s[0] == '[') {
        const char *close = memchr(s, ']', n);
        host = close ? (size_t)(close - s) + 1 : 0;
        if (host < 4 || strspn(s + 1, "0123456789abcdefABCDEF:.") != host - 2 ||
            buf_add(ret, s, host) < 0) {
            return "its host is no IPv6 address in brackets";
        }
    } else {
        const char *colon = memchr(s, ':', n);
        host = colon ? (size_t)(colon - s) : n;
        fault = host == 0 ? no_host : host_name(s, host, ret);
    }
    if (fault || host == n) {
        return fault;
    }
    unsigned port = 0;
    size_t digits = n - host - 1;
    for (size_t i = host + 1; i < n && digits <= 5; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return bad_port;
        }
        port = port * 10 + (unsigned)(s[i] - '0');
    }
    if (s[host] != ':' || digits > 5 || port > 65535 || (digits > 0 && port == 0)) {
        return bad_port;
    }
    if (digits > 0 && port != (https ? 443u : 80u)) {
        (void)buf_addf(ret, ":%u", port);
    }
    return NULL;
}

static const char *take_login(const char *s, size_t n, struct buf *ret)
{
    const char *colon = memchr(s, ':', n);
    size_t user = colon ? (size_t)(colon - s) : n;
    if (n == 0) {
        return NULL;
    }
    bool ok = url_decode(ret, s, user, false) == 0 &&
              !memchr(ret->data ? ret->data : "", ':', ret->len) && buf_addc(ret, ':') == 0 &&
              (!colon || url_decode(ret, colon + 1, n - user - 1, false) == 0);
    for (size_t i = 0; ok && i < ret->len; i++) {
        ok = (unsigned char)ret->data[i] >= ' ' && ret->data[i] != 127;
    }
    return ok ? NULL : "its user or password is not percent-encoded as it should be";
}

/* --- paths */

static bool must_escape(unsigned char c, bool query)
{
    return c <= ' ' || c >= 127 || strchr(query ? "\"<>'" : "\"<>`{}\\", c) != NULL;
}

static int add_escaped(struct buf *ret, const char *s, size_t n, bool query)
{
    int err = 0;
    for (size_t i = 0; i < n && err == 0; i++) {
        unsigned char c = (unsigned char)s[i];
        err = must_escape(c, query) ? buf_addf(ret, "%%%02X", c) : buf_addc(ret, s[i]);
    }
    return err;
}

/* How many dots a segment stands for: "." and "%2e" one, ".." in any spelling two, all others none.
 */
static unsigned dots(const char *s, size_t n)
{
    unsigned count = 0;
    for (size_t i = 0; i < n; count++) {
        size_t step = s[i] == '.' ? 1 : n - i >= 3 && strncasecmp(s + i, "%2e", 3) == 0 ? 3 : 0;
        if (step == 0 || count == 2) {
            return 0;
        }
        i += step;
    }
    return count;
}

/* An absolute path, its dot segments resolved. */
static int add_path(struct buf *ret, const char *s, size_t n)
{
    size_t begin = ret->len;
    int err = 0;
    for (size_t at = n > 0 && s[0] == '/'; err == 0; at++) {
        const char *slash = at <= n ? memchr(s + at, '/', n - at) : NULL;
        size_t len = slash ? (size_t)(slash - s) - at : n - at;
        unsigned up = dots(s + at, len);
        if (up == 2) {
            while (ret->len > begin && ret->data[--ret->len] != '/') {
            }
        }
        if (up == 0) {
            err = buf_addc(ret, '/');
            err = err < 0 ? err : add_escaped(ret, s + at, len, false);
        } else if (!slash) {
            err = buf_addc(ret, '/'); /* what ends in a dot segment is a directory */
        }
        at += len;
        if (!slash) {
            break;
        }
    }
    if (ret->data) {
        ret->data[ret->len] = '\0';
    }
    return err;
}

/* path?query, where the path may be empty */
static const char *take_target(const char *s, size_t n, struct buf *ret)
{
    const char *query = memchr(s, '?', n);
    size_t path = query ? (size_t)(query - s) : n;
    int err = add_path(ret, s, path);
    if (err == 0 && query) {
        err = buf_addc(ret, '?');
        err = err < 0 ? err : add_escaped(ret, query + 1, n - path - 1, true);
    }
    return err < 0 ? "it does not fit into memory" : NULL;
}

/* What follows "//". */
static const char *take_rest(const char *s, size_t n, struct weburl *ret)
{
    const char *hash = memchr(s, '#', n);
    n = hash ? (size_t)(hash - s) : n;
    size_t authority = 0;
    while (authority < n && s[authority] != '/' && s[authority] != '?' && s[authority] != '\\') {
        authority++;
    }
    const char *at = memrchr(s, '@', authority);
    size_t login = at ? (size_t)(at - s) : 0, host = at ? login + 1 : 0;
    const char *fault = take_login(s, login, &ret->login);
    if (!fault) {
        fault = take_host(s + host, authority - host, ret->https, &ret->host);
    }
    return fault ? fault : take_target(s + authority, n - authority, &ret->target);
}

static void empty(struct weburl *u)
{
    if (u->login.data) {
        explicit_bzero(u->login.data, u->login.cap);
    }
    buf_clear(&u->host);
    buf_clear(&u->target);
    buf_clear(&u->login);
}

static bool is_scheme(const char *s, size_t n, const char *scheme)
{
    size_t len = strlen(scheme);
    return n >= len && strncasecmp(s, scheme, len) == 0;
}

static const char *check_bytes(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < ' ' || s[i] == 127) {
            return "it has a control character";
        }
    }
    return names_is_utf8(s, n) ? NULL : "it is not UTF-8";
}

const char *weburl_parse(const char *s, size_t n, struct weburl *ret)
{
    empty(ret);
    const char *fault = check_bytes(s, n);
    if (fault) {
        return fault;
    }
    ret->https = is_scheme(s, n, "https://");
    if (!ret->https && !is_scheme(s, n, "http://")) {
        return "it does not begin with http:// or https://";
    }
    size_t scheme = ret->https ? 8 : 7;
    return take_rest(s + scheme, n - scheme, ret);
}

/* Whether a reference begins with a scheme of its own. */
static bool has_scheme(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return n > 0 && s[n] == ':';
}

const char *weburl_join(const struct weburl *base, const char *location, struct weburl *ret)
{
    size_t n = strlen(location);
    const char *fault;
    if (has_scheme(location)) {
        fault = weburl_parse(location, n, ret);
    } else if (strncmp(location, "//", 2) == 0) {
        empty(ret);
        ret->https = base->https;
        fault = check_bytes(location, n);
        fault = fault ? fault : take_rest(location + 2, n - 2, ret);
    } else {
        const char *old = buf_str(&base->target);
        size_t path = strcspn(old, "?"), keep = 0;
        if (location[0] == '?' || location[0] == '\0' || location[0] == '#') {
            keep = location[0] == '?' ? path : strlen(old);
        } else if (location[0] != '/') {
            for (keep = path; keep > 0 && old[keep - 1] != '/'; keep--) {
            }
        }
        struct buf whole = BUF_INIT;
        empty(ret);
        ret->https = base->https;
        fault = check_bytes(location, n);
        if (buf_add(&whole, old, keep) < 0 ||
            buf_add(&whole, location, strcspn(location, "#")) < 0 ||
            buf_add(&ret->host, base->host.data, base->host.len) < 0) {
            fault = "it does not fit into memory";
        }
        fault = fault ? fault : take_target(buf_str(&whole), whole.len, &ret->target);
        buf_fini(&whole);
    }
    if (ret->login.data) {
        explicit_bzero(ret->login.data, ret->login.cap);
    }
    buf_clear(&ret->login);
    return fault;
}

bool weburl_same_origin(const struct weburl *a, const struct weburl *b)
{
    return a->https == b->https && strcmp(buf_str(&a->host), buf_str(&b->host)) == 0;
}

int weburl_text(const struct weburl *u, struct buf *ret)
{
    return buf_addf(ret, "%s://%s%s", u->https ? "https" : "http", buf_str(&u->host),
                    buf_str(&u->target));
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

const char *weburl_key(const struct weburl *u, struct buf *ret)
{
    const char *s = buf_str(&u->target);
    size_t n = strcspn(s, "?");
    buf_clear(ret);
    for (size_t i = 1; i < n; i++) {
        char c = s[i];
        /* a stray '%' stands for itself, as it does for servers */
        if (c == '%' && n - i >= 3 && hex_value(s[i + 1]) >= 0 && hex_value(s[i + 2]) >= 0) {
            c = (char)(hex_value(s[i + 1]) * 16 + hex_value(s[i + 2]));
            i += 2;
        }
        if (c == '\0') {
            return "its path has a NUL byte";
        }
        if (buf_addc(ret, c) < 0) {
            return "it does not fit into memory";
        }
    }
    return ret->len > 0 ? NULL : "its path names no object";
}
