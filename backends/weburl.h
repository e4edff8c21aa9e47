/* http and https URLs as people write them into lists: what is requested for one, and which key it stands for. Pure.
 *
 * What is valid already is requested unchanged, so that signed queries stay signed: percent-escapes, their hex case, '+',
 * '//'. Escaped is only what no request line may hold. Dot segments are resolved and the fragment is dropped, as browsers
 * do. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

struct weburl {
    bool https;
    struct buf host;   /* lower case, punycode, with the port unless it is the scheme's own: the Host header */
    struct buf target; /* path and query: what stands on the request line */
    struct buf login;  /* "user:password", decoded; "" = none. A secret: weburl_fini wipes it */
};
void weburl_fini(struct weburl *u);

/* NULL, or what is wrong with it: one clause without the URL itself, which may hold a signature or a password. *ret starts
 * empty, or as it was left by another of these; it is to be finished either way. */
const char *weburl_parse(const char *s, size_t n, struct weburl *ret);
/* The same for a Location header in an answer to `base`, which may be relative. A login in it is left out: a server has
 * none to give. */
const char *weburl_join(const struct weburl *base, const char *location, struct weburl *ret);
bool weburl_same_origin(const struct weburl *a, const struct weburl *b);
int weburl_text(const struct weburl *u, struct buf *ret); /* without the login */

/* The path, percent-decoded once, without its first '/'; the query is no part of it. NULL, or why it is no key. */
const char *weburl_key(const struct weburl *u, struct buf *ret);
