/* FUSE superblocks: mounting, serving, ending. */
#pragma once

#include "errinfo.h"
#include "fs.h"

struct session_options {
    bool direct, allow_other, read_only;
    unsigned ttl_ms; /* how long the kernel may keep what it was told */
    const char *mountpoint;
    struct cache_remote *remote; /* root: NULL = all */
    const char *prefix;
};
/* Mounts and starts to serve. */
int session_start(struct daemon_state *d, struct cache *cache, const struct session_options *o,
                  void (*on_end)(struct fs *fs), struct fs **ret_fs, struct errinfo *reterr);
/* Takes our own mount away; the session ends when nobody uses the superblock any more. */
void session_drop_root(struct fs *fs);
/* Ends it at once: pending requests fail with ENOTCONN. False when the kernel offers no way to. */
bool session_abort(struct fs *fs);
/* After on_end: waits for requests still with the cache, closes what is open, frees. */
void session_free(struct fs *fs);
/* Drops cached attributes of a directory of the superblock. Not from a FUSE handler (rules F4). */
void session_forget_attr(struct fs *fs);
