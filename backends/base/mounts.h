/* The kernel's mount table, as /proc/PID/mountinfo tells it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

struct mount {
    unsigned major, minor; /* of the superblock */
    char *root;            /* path inside the superblock that is mounted */
    char *dir;             /* mount point */
    char *fstype;
    char *source;
};
struct mounts {
    struct mount
        *items; /* in order of mounting: later ones cover earlier ones on the same directory */
    size_t n;
};

int mounts_read(int fd, struct mounts *ret); /* an open mountinfo, read from its beginning */
int mounts_read_own(struct mounts *ret);     /* of the caller's name space */
void mounts_fini(struct mounts *m);
const struct mount *mounts_at(const struct mounts *m,
                              const char *dir); /* the topmost on dir, or NULL */
/* Enters a mount name space with the root that root_fd is in it: setns(2) alone would lead out of a chroot. For a thread with
 * unshared CLONE_FS, or a process with one thread. */
int mounts_enter(int ns_fd, int root_fd);
/* The path, or its nearest existing parent, lies in a mount of ours: using it would be a circle
 * (rules G8). */
bool mounts_inside_ours(const char *path);

/* How many seconds a FUSE request may take before the kernel ends its mount, and the setting that says so; 0 = for ever. */
unsigned long mounts_request_timeout(const char **ret_file);

#define MOUNTS_FSTYPE "fuse.objmig"
