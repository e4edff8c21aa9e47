/* Serves a FUSE session: who reads its requests, and who answers them. */
#pragma once

struct fuse_session;

/* Serves until the kernel has no use for the session any more, with up to `threads` threads (at least 2) of which one reads.
 * The caller is kept until then. 0, or -errno: no thread could be started, nothing was served. */
int loop_run(struct fuse_session *se, unsigned threads);
