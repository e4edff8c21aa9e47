/* JSON answers of providers, read with jansson: whole, of bounded size (the engine bounds what it
 * collects), strict, and never trusted to have what is looked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/* One document and nothing after it, without duplicate names or NUL characters; NULL when
 * malformed. json_decref frees. */
json_t *json_answer(const char *body, size_t len);
void json_freep(json_t **p); /* for CLEANUP */
/* NULL when it is not there or is no text. */
const char *json_text(const json_t *o, const char *name);
/* A number, or digits in a text; false for anything else, and for what is negative. */
bool json_u64(const json_t *o, const char *name, uint64_t *ret);
