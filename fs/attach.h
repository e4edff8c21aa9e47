/* The helper's side of mount.objmig: what happens between the command line and the mount point. */
#pragma once

#include "errinfo.h"
#include "options.h"

/* Mounts; returns 0 when DIR carries the remote, else -errno with the one line to show. In the
 * foreground (o->foreground) it returns only when the daemon has ended, with its exit code in
 * *ret_exit. */
int attach_run(struct options *o, int *ret_exit, struct errinfo *reterr);
