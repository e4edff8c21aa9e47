/* A file system for fs/loop.c: each name in it exists; "dirN" is a directory, any other an empty file; to look up "slow-N" takes
 * N milliseconds, as if a disk were stuck. (Directories, because the kernel asks for one name of a directory at a time.) loopfs DIR THREADS serves until it is unmounted; status 0 then. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop.h"

#define A_FILE 2u

static struct stat attr_of(fuse_ino_t ino)
{
    return (struct stat){.st_ino = ino, .st_nlink = 1, .st_mode = ino == A_FILE ? S_IFREG | 0644 : S_IFDIR | 0755};
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    unsigned n;
    fuse_ino_t ino = A_FILE;

    (void)parent;
    if (sscanf(name, "slow-%u", &n) == 1) {
        usleep(n * 1000);
    } else if (sscanf(name, "dir%u", &n) == 1) {
        ino = A_FILE + 1 + n;
    }
    struct fuse_entry_param e = {.ino = ino, .attr = attr_of(ino)}; /* nothing is kept: each stat asks again */
    (void)fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct stat st = attr_of(ino);
    (void)fuse_reply_attr(req, &st, 0);
}

int main(int argc, char **argv)
{
    static const struct fuse_lowlevel_ops table = {.lookup = op_lookup, .getattr = op_getattr};
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

    if (argc != 3 || fuse_opt_add_arg(&args, argv[0]) != 0) {
        return 2;
    }
    struct fuse_session *se = fuse_session_new(&args, &table, sizeof(table), NULL);
    fuse_opt_free_args(&args);
    if (se == NULL || fuse_session_mount(se, argv[1]) != 0) {
        return 1;
    }
    int r = loop_run(se, (unsigned)strtoul(argv[2], NULL, 10));
    fuse_session_unmount(se);
    fuse_session_destroy(se);
    return r < 0;
}
