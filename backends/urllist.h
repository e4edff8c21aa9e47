/* Lists of URLs as an index of keys: what a directory of a bucket is to provider = http.
 *
 * A list is text in UTF-8, one URL a line; blank lines and lines that begin with '#' are none. The key of a URL is its
 * path, see weburl.h. A list whose first line names columns, divided by tabs or commas, is a manifest:
 *
 *     Key,Url,Size,ETag,Md5          only Url is needed; in any order and case
 *
 * There a key is what its column says, and a comma or quotation mark within a field is written as CSV has it.
 *
 * Memory: the text of the lists, 24 bytes a line, and keys only where they are not a piece of the text. Read-only once
 * loaded, so any thread may ask. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "errinfo.h"
#include "weburl.h"

#define URLLIST_KEY_MAX 4096

struct urllist;

/* path: a list, or a directory in which every regular file whose name does not begin with '.' is one. Every line must be
 * right, and no two may give one key. What is wrong is named as FILE:LINE in reterr, with the mend, and when there is more
 * of it the rest goes to the log. section: for messages. 0 or -errno. */
int urllist_load(const char *path, const char *section, struct urllist **ret, struct errinfo *reterr);
/* The same from text that is there already; name stands for the file. */
int urllist_parse(const char *text, size_t len, const char *name, struct urllist **ret, struct errinfo *reterr);
void urllist_free(struct urllist *l); /* NULL is fine */

size_t urllist_count(const struct urllist *l);
/* Keys in byte order: not NUL-terminated, without a NUL, 1 to URLLIST_KEY_MAX bytes. */
const char *urllist_key(const struct urllist *l, size_t i, size_t *ret_len);
size_t urllist_lower(const struct urllist *l, const char *key, size_t len); /* the first that is not less */

struct urllist_row {
    struct weburl url;
    bool has_size, has_md5;
    uint64_t size; /* what the manifest says the object has */
    uint8_t md5[16];
    char *etag;    /* NULL when it does not say */
};
/* False: no such key. */
bool urllist_find(const struct urllist *l, const char *key, struct urllist_row *ret);
void urllist_row_fini(struct urllist_row *r);
/* FILE:LINE of a key, for messages: it reads the list up to there. Nothing is added when there is no such key. */
void urllist_place(const struct urllist *l, const char *key, struct buf *ret);
