/* The pure parts of the HTTP engine: text of requests and answers, and the law that moves a lane's limit. No I/O, clock or
 * lock. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "http.h"

/* The host (and port) of a URL for messages, with its length; never the path or query, which may hold a signature, nor user
 * information, which may hold a password. */
int http_url_host(const char *url, const char **ret_host);

bool http_method_parse(const char *s, enum http_method *ret);

/* Whether a header can be sent without becoming two. */
bool http_header_ok(const struct kv *h);

/* Request headers as the lines curl takes, each NUL-terminated, one after the other into `ret` of at least
 * http_header_lines_size() bytes. Content-Length is left out; what curl would add unasked is turned off unless given.
 * Returns how many lines, at most h->n + HTTP_LINES_EXTRA. */
#define HTTP_LINES_EXTRA 3
size_t http_header_lines_size(const struct kvlist *h);
size_t http_header_lines(const struct kvlist *h, char *ret);

/* Takes apart the lines of an answer's head, without its first line. p is len bytes and a NUL, and is written to. Hostile
 * input, bounded by the caller. Values of a repeated name are joined by ", "; lines that are no header, or
 * continue the one before (long obsolete), are left out. */
void http_parse_headers(char *p, size_t len, struct kvlist *ret);

/* Additive increase, multiplicative decrease. */
struct http_aimd {
    unsigned max, limit, successes;
    int64_t last_cut_ns;
};
void http_aimd_init(struct http_aimd *a, unsigned max);
/* Returns the limit from now on. */
unsigned http_aimd_feedback(struct http_aimd *a, bool throttled, int64_t now_ns);
