/* Growable byte buffer with a hard maximum; and an ordered list of name/value pairs. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A zeroed struct is a valid empty buffer without a maximum. data is always NUL-terminated once non-NULL. */
struct buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max; /* 0 = no maximum */
};

#define BUF_INIT {0}
#define BUF_INIT_MAX(m) {.max = (m)}

void buf_fini(struct buf *b);  /* frees and zeroes */
void buf_clear(struct buf *b); /* keeps the memory */
/* All of these: 0, -EFBIG beyond max, or -ENOMEM; on failure the buffer is unchanged. */
int buf_reserve(struct buf *b, size_t extra);
int buf_add(struct buf *b, const void *p, size_t n);
int buf_adds(struct buf *b, const char *s);
int buf_addc(struct buf *b, char c);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *buf_str(const struct buf *b); /* "" when empty, never NULL */
char *buf_take(struct buf *b);            /* caller owns the NUL-terminated bytes; buffer is empty after */

void hex_encode(const void *p, size_t n, char *ret); /* lower case, ret holds 2n+1 */
bool hex_decode(const char *s, size_t n_bytes, void *ret); /* exactly 2*n_bytes digits, nothing after */

/* Percent-encodes all but A-Z a-z 0-9 - _ . ~ (and '/' when keep_slash), upper-case hex. */
int url_encode(struct buf *out, const void *p, size_t n, bool keep_slash);
/* Decodes %XX; with plus_is_space also '+'. -EINVAL on a malformed escape. */
int url_decode(struct buf *out, const char *s, size_t n, bool plus_is_space);

/* Ordered pairs, small (tens). Names are compared case-insensitively. A zeroed struct is empty. */
struct kv {
    char *name, *value;
};
struct kvlist {
    struct kv *items;
    size_t n;
};
void kv_fini(struct kvlist *l);
const char *kv_get(const struct kvlist *l, const char *name); /* NULL when absent; borrowed */
void kv_set(struct kvlist *l, const char *name, const char *value); /* replaces; value NULL removes */
void kv_copy(struct kvlist *dst, const struct kvlist *src);   /* dst is emptied first */
bool kv_equal(const struct kvlist *a, const struct kvlist *b); /* as sets */
/* Reversible text form "name=value&…" with both percent-encoded; kv_parse gives -EINVAL on anything else. */
int kv_format(const struct kvlist *l, struct buf *out);
int kv_parse(struct kvlist *l, const char *text);
