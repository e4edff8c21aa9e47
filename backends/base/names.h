/* The one reversible mapping between object keys and path names. Pure.
 *
 * Ordinary components are shown untouched. See names.c for the scheme and its proof. For every key there is exactly one
 * path, for every path at most one key: encode(k) = k iff decode(k) = k, and decode(encode(k)) = k over all bytes.
 *
 * A directory is named by its key prefix: "" for the root, "a/b/" otherwise; a continuation directory (of a component
 * longer than 255 bytes) by a prefix that does not end in '/'. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

#define NAMES_MAX 255 /* bytes of a name on screen, as NAME_MAX */

/* What NAME inside directory PREFIX can be. Both may be possible; an escaped object form is a file only. */
struct names_target {
    bool file_ok, dir_ok;
    struct buf key;    /* the object key, if file_ok */
    struct buf prefix; /* the directory's key prefix, if dir_ok */
};
void names_target_fini(struct names_target *t);
/* 0, -ENAMETOOLONG, -ENOMEM, or -ENOENT when the name can never name anything: "." or "..", control bytes or invalid UTF-8
 * as such (their escaped form is the name), or cut elsewhere than here. *ret is overwritten, and only on success. */
int names_resolve(const char *prefix, size_t prefix_len, const char *name, struct names_target *ret);

/* The name under which an entry below directory PREFIX is shown: `rest` is what follows the prefix in a key (is_prefix
 * false) or in a common prefix with its final '/' (is_prefix true). `collides` says that an object and a prefix share the
 * component: the object then takes the escaped object form. *ret_is_dir is true when the name is a directory, also for an
 * object whose component is so long that its first part is a continuation directory: several entries may then show as the
 * same directory. A key without its delimiter cut shows as the directory it is in. 0, -EINVAL (empty prefix rest, or no key
 * at all), -ENOMEM, or -ENOENT: PREFIX is a continuation directory and this entry shows in the one above, leave it out. */
int names_show(const char *prefix, size_t prefix_len, const char *rest, size_t rest_len,
               bool is_prefix, bool collides, struct buf *ret_name, bool *ret_is_dir);

/* As names look at it: RFC 3629, no overlong forms, no surrogates. */
bool names_is_utf8(const char *s, size_t n);

/* Whole relative paths (components joined by '/'), for error messages, the local backend and tools. The empty key has no
 * path (-EINVAL); what is no path of a key is -ENOENT or -ENAMETOOLONG. An object form is accepted as the last component. */
int names_path_of_key(const char *key, size_t key_len, struct buf *ret_path);
int names_key_of_path(const char *path, struct buf *ret_key);
