#include "buf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mem.h"

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data) {
        b->data[0] = '\0';
    }
}

int buf_reserve(struct buf *b, size_t extra)
{
    size_t want;
    if (ADD_OVERFLOWS(b->len, extra, &want) || want == SIZE_MAX) {
        return b->max > 0 ? -EFBIG : -ENOMEM;
    }
    if (b->max > 0 && want > b->max) {
        return -EFBIG;
    }
    want++; /* the NUL */
    if (want <= b->cap) {
        return 0;
    }
    /* Half as much again keeps appending linear; the maximum bounds what is asked of the allocator.
     */
    size_t cap;
    if (ADD_OVERFLOWS(b->cap, b->cap / 2, &cap)) {
        cap = want;
    }
    cap = MAX(cap, MAX(want, (size_t)64));
    if (b->max > 0 && b->max < SIZE_MAX) {
        cap = MIN(cap, b->max + 1);
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        return -ENOMEM;
    }
    data[b->len] = '\0';
    b->data = data;
    b->cap = cap;
    return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
    if (n == 0) {
        return 0;
    }
    int err = buf_reserve(b, n);
    if (err < 0) {
        return err;
    }
    memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int buf_adds(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

int buf_addc(struct buf *b, char c)
{
    return buf_add(b, &c, 1);
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return -ENOMEM;
    }
    int err = buf_reserve(b, (size_t)n);
    if (err < 0) {
        return err;
    }
    va_start(ap, fmt);
    if (n > 0) {
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    }
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

const char *buf_str(const struct buf *b)
{
    return b->data ? b->data : "";
}

char *buf_take(struct buf *b)
{
    char *s = b->data ? b->data : mem_strdup("");
    *b = (struct buf){.max = b->max};
    return s;
}

/* Back to an earlier length, so that a failure half-way leaves the buffer as it was. */
static void truncate_to(struct buf *b, size_t len)
{
    b->len = len;
    if (b->data) {
        b->data[len] = '\0';
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

void hex_encode(const void *p, size_t n, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *s = p;
    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = digits[s[i] >> 4];
        ret[2 * i + 1] = digits[s[i] & 15];
    }
    ret[2 * n] = '\0';
}

bool hex_decode(const char *s, size_t n_bytes, void *ret)
{
    /* Nothing is written unless all of it is right. */
    for (size_t i = 0; i < 2 * n_bytes; i++) {
        if (hex_digit(s[i]) < 0) {
            return false;
        }
    }
    if (s[2 * n_bytes] != '\0') {
        return false;
    }
    unsigned char *out = ret;
    for (size_t i = 0; i < n_bytes; i++) {
        out[i] = (unsigned char)(hex_digit(s[2 * i]) << 4 | hex_digit(s[2 * i + 1]));
    }
    return true;
}

/* The unreserved characters of RFC 3986; not isalnum, which depends on the locale. */
static bool is_unreserved(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
}

int url_encode(struct buf *out, const void *p, size_t n, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *s = p;
    size_t room = 0;
    for (size_t i = 0; i < n; i++) {
        size_t one = is_unreserved(s[i]) || (keep_slash && s[i] == '/') ? 1 : 3;
        if (ADD_OVERFLOWS(room, one, &room)) {
            return -ENOMEM;
        }
    }
    int err = buf_reserve(out, room);
    if (err < 0) {
        return err;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (is_unreserved(s[i]) || (keep_slash && s[i] == '/')) {
            out->data[out->len++] = s[i];
        } else {
            out->data[out->len++] = '%';
            out->data[out->len++] = digits[c >> 4];
            out->data[out->len++] = digits[c & 15];
        }
    }
    out->data[out->len] = '\0';
    return 0;
}

int url_decode(struct buf *out, const char *s, size_t n, bool plus_is_space)
{
    size_t start = out->len;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%') {
            int hi = n - i > 2 ? hex_digit(s[i + 1]) : -1;
            int lo = n - i > 2 ? hex_digit(s[i + 2]) : -1;
            if (hi < 0 || lo < 0) {
                truncate_to(out, start);
                return -EINVAL;
            }
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        int err = buf_addc(out, c);
        if (err < 0) {
            truncate_to(out, start);
            return err;
        }
    }
    return 0;
}

void kv_fini(struct kvlist *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].name);
        free(l->items[i].value);
    }
    free(l->items);
    *l = (struct kvlist){0};
}

static struct kv *find(const struct kvlist *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcasecmp(l->items[i].name, name) == 0) {
            return &l->items[i];
        }
    }
    return NULL;
}

const char *kv_get(const struct kvlist *l, const char *name)
{
    const struct kv *item = find(l, name);
    return item ? item->value : NULL;
}

void kv_set(struct kvlist *l, const char *name, const char *value)
{
    struct kv *item = find(l, name);
    if (!value) {
        if (item) {
            free(item->name);
            free(item->value);
            size_t at = (size_t)(item - l->items);
            memmove(item, item + 1, (l->n - at - 1) * sizeof(*item));
            l->n--;
        }
        return;
    }
    /* Copied before anything is freed: name and value may be borrowed from this very list. */
    char *new_value = mem_strdup(value);
    if (item) {
        free(item->value);
        item->value = new_value;
        return;
    }
    char *new_name = mem_strdup(name);
    l->items = mem_realloc(l->items, (l->n + 1) * sizeof(*l->items));
    l->items[l->n++] = (struct kv){.name = new_name, .value = new_value};
}

void kv_copy(struct kvlist *dst, const struct kvlist *src)
{
    if (dst == src) {
        return;
    }
    kv_fini(dst);
    for (size_t i = 0; i < src->n; i++) {
        kv_set(dst, src->items[i].name, src->items[i].value);
    }
}

bool kv_equal(const struct kvlist *a, const struct kvlist *b)
{
    if (a->n != b->n) {
        return false;
    }
    /* Names are unique within a list, so equal sizes and inclusion one way are enough. */
    for (size_t i = 0; i < a->n; i++) {
        const char *value = kv_get(b, a->items[i].name);
        if (!value || strcmp(value, a->items[i].value) != 0) {
            return false;
        }
    }
    return true;
}

int kv_format(const struct kvlist *l, struct buf *out)
{
    size_t start = out->len;
    int err = 0;
    for (size_t i = 0; i < l->n && err == 0; i++) {
        const struct kv *item = &l->items[i];
        if (i > 0) {
            err = buf_addc(out, '&');
        }
        if (err == 0) {
            err = url_encode(out, item->name, strlen(item->name), false);
        }
        if (err == 0) {
            err = buf_addc(out, '=');
        }
        if (err == 0) {
            err = url_encode(out, item->value, strlen(item->value), false);
        }
    }
    if (err < 0) {
        truncate_to(out, start);
    }
    return err;
}

/* One side of a pair: only what url_encode writes, and no NUL, which a string cannot carry. */
static int parse_side(const char *s, size_t n, struct buf *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_unreserved(s[i]) && s[i] != '%') {
            return -EINVAL;
        }
    }
    buf_clear(ret);
    int err = url_decode(ret, s, n, false);
    if (err == 0 && ret->len > 0 && memchr(ret->data, '\0', ret->len)) {
        err = -EINVAL;
    }
    return err;
}

int kv_parse(struct kvlist *l, const char *text)
{
    CLEANUP(kv_fini) struct kvlist parsed = {0};
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    CLEANUP(buf_fini) struct buf value = BUF_INIT;
    const char *p = text;
    while (*p != '\0') {
        const char *end = strchrnul(p, '&');
        const char *eq = memchr(p, '=', (size_t)(end - p));
        if (!eq || eq == p) {
            return -EINVAL;
        }
        int err = parse_side(p, (size_t)(eq - p), &name);
        if (err == 0) {
            err = parse_side(eq + 1, (size_t)(end - eq - 1), &value);
        }
        if (err < 0) {
            return err;
        }
        if (kv_get(&parsed, buf_str(&name))) {
            return -EINVAL;
        }
        kv_set(&parsed, buf_str(&name), buf_str(&value));
        if (*end == '&' && end[1] == '\0') {
            return -EINVAL;
        }
        p = *end == '&' ? end + 1 : end;
    }
    kv_fini(l);
    *l = parsed;
    parsed = (struct kvlist){0};
    return 0;
}
