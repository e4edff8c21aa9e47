/* A bounded reader of JSON answers (jansson, which is seen nowhere else): a whole body becomes a tree, of which the getters
 * hand out what has the type that was asked for and nothing else. Strings are borrowed from the tree and are UTF-8.
 *
 * The prefix is js_ because json_ is the library's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct js; /* a value; borrowed from the tree, but for its root */

#define JS_DEPTH_MAX 32u

/* NULL when it is no JSON, ends early, has more after it, or nests deeper than JS_DEPTH_MAX. The length is the caller's to
 * bound. The caller frees the root with js_free. */
struct js *js_read(const char *p, size_t n);
void js_free(struct js *root); /* NULL is fine */
void js_freep(struct js **root);

/* Of an object's member; o may be NULL or no object. NULL or false: absent, or of another type. */
const struct js *js_get(const struct js *o, const char *name);
const char *js_text(const struct js *o, const char *name); /* also NULL when it has a NUL byte */
bool js_u64(const struct js *o, const char *name, uint64_t *ret);

/* A number as above, or digits in a text. */
bool js_digits(const struct js *o, const char *name, uint64_t *ret);
bool js_true(const struct js *o, const char *name);
bool js_is_object(const struct js *value);
bool js_is_array(const struct js *value);
bool js_is_null(const struct js *value);

/* 0 for what is no array. */
size_t js_count(const struct js *array);
const struct js *js_at(const struct js *array, size_t i);
const char *js_string(const struct js *value); /* as js_text */
/* Members of an object whose values are strings; *iter starts NULL. False after the last. */
bool js_next_text(const struct js *o, void **iter, const char **ret_name, const char **ret_value);

/* The string as JSON writes it, with its quotes. s is UTF-8. */
int js_add_string(struct buf *out, const char *s);
