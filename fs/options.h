/* The command line of mount.objmig. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "cache.h"
#include "errinfo.h"
#include "log.h"

struct options {
    char *spec, *dir;
    bool fake, sloppy, verbose, foreground, remount, direct, allow_other, help, version;
    char *config;    /* absolute; NULL = search */
    char *rclone_config; /* absolute; NULL = search */
    char *cache_dir; /* absolute */
    bool cache_unsaid; /* nobody gave it */
    char *log;       /* absolute; NULL = the cache directory's "log" */
    enum log_level level;
    unsigned stop_timeout_s;
    struct cache_options cache;
    struct kvlist given;         /* of the daemon, as the user gave them, in one spelling */
    struct kvlist url;           /* for conf_resolve: what a URL may carry */
    uint64_t attr_set, attr_clr; /* MOUNT_ATTR_* of the mount point */
    char *text;                  /* all -o as given, for the next start */
};

/* On failure the message names the option and the mend. */
int options_parse(int argc, char **argv, struct options *ret, struct errinfo *reterr);
/* One -o text, as recorded: for attaching again. */
int options_parse_text(const char *text, struct options *ret, struct errinfo *reterr);
void options_fini(struct options *o);
/* Every option that belongs to the daemon, with its value, spelled as in `given`. */
void options_effective(const struct options *o, struct kvlist *ret);
