/* Escapes, dates and the little XML the server reads. Written apart from the product's own: the two
 * check each other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

/* A-Z a-z 0-9 - . _ ~ stay, and '/' when asked for; all else is %XX. */
void text_escape(struct buf *out, const char *s, size_t n, bool keep_slash);
/* In place, ends with NUL. Returns the new length, or -1 for a malformed escape. plus: '+' is a
 * blank. */
long text_unescape(char *s, size_t n, bool plus);

/* As encoding-type=url lists keys: '/' stays, a blank is '+'. */
void text_list_escape(struct buf *out, const char *s, size_t n);
void text_xml_escape(struct buf *out, const char *s, size_t n);

/* The text of the next <tag>…</tag> from *at on, unescaped; *at moves behind it. false: no more.
 * The caller frees. */
bool text_xml_next(const char **at, const char *tag, char **ret, size_t *ret_len);

void text_iso_date(int64_t wall_ms, char ret[32]);  /* 2026-01-31T12:00:00.000Z */
void text_http_date(int64_t wall_ms, char ret[40]); /* Sat, 31 Jan 2026 12:00:00 GMT */

/* Numbers of a query or a header: digits only. */
bool text_number(const char *s, uint64_t *ret);
