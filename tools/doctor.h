/* What the parts of `objmig doctor` share. */
#pragma once

#include "cache.h"
#include "mounts.h"
#include "tool.h"

struct doctor {
    bool json;
    json_t *list;  /* --json */
    unsigned n[3]; /* findings by level */
};

/* A cdoctor_fn: prints one finding. */
void doctor_say(void *ctx, enum cdoctor_level level, const char *what, const char *found,
                const char *mend);
void doctor_sayf(struct doctor *d, enum cdoctor_level level, const char *what, const char *mend,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* doctor_system.c: the machine, and what is mounted on it. */

void doctor_fuse(struct doctor *d);

/* A mount of ours, and what its daemon said to a question each mount answers from memory. */
struct doctor_mount {
    const struct mount *at;
    enum { MOUNT_ALIVE, MOUNT_DEAD, MOUNT_HUNG, MOUNT_CLOSED } state; /* closed: another user's */
    char *cache_dir, *remote; /* ALIVE; remote NULL: all of them */
    bool asked; /* the caller's: it is on the command line, or recorded in the cache directory */
};
struct doctor_mounts {
    struct mounts table;
    struct doctor_mount *items;
    size_t n;
};
/* Takes a few seconds at most, also when a daemon hangs. */
void doctor_mounts_read(struct doctor_mounts *ret);
void doctor_mounts_fini(struct doctor_mounts *m);
/* The mount a path lies in, without touching the path; NULL: none of ours. */
struct doctor_mount *doctor_mount_of(struct doctor_mounts *m, const char *path);
void doctor_mounts_say(struct doctor *d, const struct doctor_mounts *m);
