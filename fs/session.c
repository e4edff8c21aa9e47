/* FUSE superblocks: mounting, serving, ending. Only this file, loop.c and ops*.c know libfuse.
 *
 * A session ends by itself when the kernel has no use for its superblock any more: no mount in any
 * name space, no open file. Until then it is served, whatever became of our own mount of it. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fop.h"
#include "log.h"
#include "loop.h"
#include "mounts.h"
#include "ops.h"
#include "session.h"

#define THREADS 16 /* rules F1 */
#define READ_AHEAD_KB "4096"

extern char **environ;

struct loop {
    struct fs *fs;
    void (*on_end)(struct fs *fs);
};

/* The kernel asks nothing more: waits for what the cache still has, closes what an aborted
 * connection left open. */
static void wind_up(struct fs *fs)
{
    struct fhandle *fh;

    mutex_lock(&fs->op_lock);
    while (fs->n_ops > 0) {
        cond_wait(&fs->op_cond, &fs->op_lock);
    }
    mutex_unlock(&fs->op_lock);
    interrupts_stop(fs);
    while ((fh = itable_orphan(fs->inodes)) != NULL) {
        if (fh->writes) {
            /* Releasing it would seal a half-written file, and it would be uploaded. Left open, it
             * is unfinished after the next start, as after kill -9 (rules C2). */
            fs->cut_off = true;
            fhandle_free(fs->inodes, fh);
        } else {
            fs_release_handle(fs, fh);
        }
    }
    dirs_close_all(fs);
}

static void *loop_main(void *arg)
{
    struct loop *l = arg;
    struct fs *fs = l->fs;

    int r = loop_run(fs->se, THREADS);
    __atomic_store_n(&fs->loop_ended, true, __ATOMIC_RELEASE);
    if (r < 0) {
        log_warn("session", "event=loop-ended status=%d", r);
    }
    wind_up(fs);
    l->on_end(fs);
    free(l);
    return NULL;
}

/* The kernel's default of 128 KiB makes one stream wait for each round trip (rules F7). */
static void set_read_ahead(const struct fs *fs)
{
    char path[96];
    struct statfs sf;

    (void)statfs(
        fs->mountpoint,
        &sf); /* returns after the INIT exchange, in which the kernel lowers the value to ours */
    (void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", fs->dev_major,
                   fs->dev_minor);
    CLEANUP(mem_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, READ_AHEAD_KB, strlen(READ_AHEAD_KB)) < 0) {
        log_debug("session", "event=read-ahead-not-set path=%s error=%s", path, strerror(errno));
    }
}

static void find_device(struct fs *fs)
{
    struct mounts m;

    if (mounts_read_own(&m) < 0) {
        return;
    }
    const struct mount *at = mounts_at(&m, fs->mountpoint);
    if (at != NULL) {
        fs->dev_major = at->major;
        fs->dev_minor = at->minor;
    }
    mounts_fini(&m);
}

static struct fs *fs_new(struct daemon_state *d, struct cache *cache,
                         const struct session_options *o)
{
    struct fs *fs = mem_zalloc(sizeof(*fs));

    fs->magic = FS_MAGIC;
    fs->d = d;
    fs->cache = cache;
    fs->direct = o->direct;
    fs->ttl_s = o->ttl_ms / 1000.0;
    fs->mountpoint = mem_strdup(o->mountpoint);
    fs->inodes = itable_new(o->remote, o->prefix);
    mutex_init(&fs->op_lock, RANK_INODES); /* never together with the inode table's */
    cond_init(&fs->op_cond);
    cond_init(&fs->interrupt_cond);
    return fs;
}

static void fs_free(struct fs *fs)
{
    if (fs->se != NULL) {
        /* Frees libfuse's copy of the path; with a dead connection it unmounts nothing. With a live
         * one it would take away whatever is on the directory by now. */
        struct pollfd p = {.fd = fuse_session_fd(fs->se)};
        if (p.fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0) {
            fuse_session_unmount(fs->se);
        }
        fuse_session_destroy(fs->se);
    }
    itable_free(fs->inodes);
    cond_fini(&fs->interrupt_cond);
    cond_fini(&fs->op_cond);
    mutex_fini(&fs->op_lock);
    free(fs->mountpoint);
    fs->magic = 0;
    free(fs);
}

/* default_permissions and, for root, allow_other always: rules G7. */
static int make_session(struct fs *fs, const struct session_options *o, struct errinfo *reterr)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    CLEANUP(mem_freep)
    char *opts =
        mem_printf("fsname=objmig,subtype=objmig,default_permissions,max_read=%d%s%s", FS_BLKSIZE,
                   o->allow_other ? ",allow_other" : "", o->read_only ? ",ro" : "");

    if (fuse_opt_add_arg(&args, "objmig") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
        fuse_opt_add_arg(&args, opts) == 0) {
        fs->se = ops_session_new(&args, fs);
    }
    fuse_opt_free_args(&args);
    if (fs->se == NULL) {
        return err_set(reterr, ERR_BUG, -EIO, "libfuse refuses the options %s", opts);
    }
    if (fuse_session_mount(fs->se, fs->mountpoint) != 0) {
        return err_set(
            reterr, ERR_LOCAL, -EIO,
            "cannot mount on %s: is /dev/fuse there, and may this user use it%s?", fs->mountpoint,
            o->allow_other ? " with allow_other (user_allow_other in /etc/fuse.conf)" : "");
    }
    fs->root_mounted = true;
    return 0;
}

int session_start(struct daemon_state *d, struct cache *cache, const struct session_options *o,
                  void (*on_end)(struct fs *fs), struct fs **ret_fs, struct errinfo *reterr)
{
    struct fs *fs = fs_new(d, cache, o);
    struct loop *l = mem_zalloc(sizeof(*l));
    int r = make_session(fs, o, reterr);

    if (r == 0) {
        r = interrupts_start(fs);
        if (r == 0) {
            find_device(fs);
            *l = (struct loop){.fs = fs, .on_end = on_end};
            /* Published first: on_end may run, and look for it, before pthread_create returns. */
            *ret_fs = fs;
            r = -pthread_create(&fs->thread, NULL, loop_main, l);
            if (r < 0) {
                interrupts_stop(fs);
                *ret_fs = NULL;
            }
        }
        if (r < 0) {
            err_set_errno(reterr, -r, "cannot start a thread");
            fuse_session_unmount(fs->se);
        }
    }
    if (r < 0) {
        free(l);
        fs_free(fs);
        return r;
    }
    set_read_ahead(fs);
    log_notice("session", "event=started dev=%u:%u mountpoint=%s direct=%d", fs->dev_major,
               fs->dev_minor, fs->mountpoint, fs->direct);
    return 0;
}

static void fusermount_u(const char *dir)
{
    char *argv[] = {(char[]){"fusermount3"},
                    (char[]){"-u"},
                    (char[]){"-q"},
                    (char[]){"-z"},
                    (char[]){"--"},
                    mem_strdup(dir),
                    NULL};
    pid_t pid;
    int status;

    if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) == 0) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    }
    free(argv[5]);
}

void session_drop_root(struct fs *fs)
{
    struct mounts m;
    bool there = false;

    if (!__atomic_exchange_n(&fs->root_mounted, false, __ATOMIC_ACQ_REL)) {
        return;
    }
    if (mounts_read_own(&m) == 0) {
        const struct mount *at = mounts_at(&m, fs->mountpoint);
        there = at != NULL && at->major == fs->dev_major && at->minor == fs->dev_minor;
        mounts_fini(&m);
    }
    if (!there) {
        return; /* whatever is on the directory now is not ours to take away */
    }
    if (umount2(fs->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
        if (errno == EPERM && fs->direct) {
            fusermount_u(fs->mountpoint);
        } else {
            log_warn("session", "event=umount path=%s error=%s", fs->mountpoint, strerror(errno));
        }
    }
}

bool session_abort(struct fs *fs)
{
    static const char dir[] = "/sys/fs/fuse/connections";
    if (__atomic_load_n(&fs->loop_ended, __ATOMIC_ACQUIRE)) {
        return true; /* the kernel may have given its number to another connection: that one is not ours */
    }
    CLEANUP(mem_freep) char *path = mem_printf("%s/%u/abort", dir, fs->dev_minor);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 && !fs->direct && mount("fusectl", dir, "fusectl", 0, NULL) == 0) {
        fd = open(path, O_WRONLY | O_CLOEXEC); /* only our own name space has it now */
    }
    bool done = fd >= 0 && write(fd, "1", 1) == 1;
    mem_closep(&fd);
    return done;
}

void session_forget_attr(struct fs *fs)
{
    /* Attributes only (offset -1): of the root; those of the directories on the way expire at once
     * by themselves. */
    (void)fuse_lowlevel_notify_inval_inode(fs->se, FUSE_ROOT_ID, -1, 0);
}

void session_free(struct fs *fs)
{
    (void)pthread_join(fs->thread, NULL);
    session_drop_root(fs);
    log_notice("session", "event=ended dev=%u:%u", fs->dev_major, fs->dev_minor);
    fs_free(fs);
}
