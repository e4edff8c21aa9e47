/* rclone's configuration file: one of its remotes, as the section of ours it would be. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct loader;
struct raw;

struct rclone_file {
    const char *text; /* of n bytes */
    size_t n;
    const char *home; /* for "~/"; NULL when unknown */
};

/* place is what follows "rclone:" in a SPEC: NAME:BUCKET/PREFIX, or NAME:/DIRECTORY of a remote of
 * type local. The section is the caller's (conf_raw_free) and goes through the same checks as any
 * other; its name is BUCKET@NAME, which no other bucket of no other remote has. *ret_prefix is ""
 * or ends in '/'. What of the remote is not kept, but harmless, goes to notes, in the form of
 * faults. NULL with a fault in l. */
struct raw *conf_rclone_import(struct loader *l, struct loader *notes,
                               const struct rclone_file *file, const char *place,
                               char **ret_prefix);
