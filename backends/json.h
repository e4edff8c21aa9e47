/* The JSON that object stores answer with, and that key files are made of: read whole, bounded,
 * strictly. Every document is hostile. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "buf.h"

#define JSON_DEPTH_MAX 32

/* The object or array that the n bytes are, or NULL: malformed, cut off, a member given twice,
 * deeper than JSON_DEPTH_MAX. How many bytes there may be is said where they are read. The
 * caller's: json_decref. */
json_t *json_read(const char *p, size_t n);
void json_done(json_t **j); /* for CLEANUP */

/* A string without a NUL byte inside, else NULL. Borrowed; v may be NULL or anything. */
const char *json_text(const json_t *v);

/* Members of an object; o may be NULL or anything. Borrowed. NULL, or false and *ret untouched,
 * when the member is absent or of another type. */
const char *json_get_text(const json_t *o, const char *name);        /* as json_text */
bool json_get_u64(const json_t *o, const char *name, uint64_t *ret); /* also a string of digits */
bool json_get_flag(const json_t *o, const char *name);    /* true, or the string "true" */
json_t *json_get_rows(const json_t *o, const char *name); /* an array: for json_array_foreach */

/* Appends s as a JSON string, quotes included. */
int json_put_text(struct buf *out, const char *s);
