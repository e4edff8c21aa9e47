/* The doctor on the cache directory. Nothing here creates, locks for longer than a look, or writes. */
#include "doctor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "http.h"
#include "mem.h"
#include "mounts.h"
#include "spool.h"
#include "sync.h"

#define ROOM_LITTLE (UINT64_C(1) << 30)
#define INODES_LITTLE 10000

void cdoctor_say(struct cdoctor *d, enum cdoctor_level level, const char *what, const char *mend, const char *fmt, ...)
{
    CLEANUP(mem_freep) char *found = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&found, fmt, ap) < 0) {
        found = mem_strdup("(no memory)");
    }
    va_end(ap);
    d->say(d->ctx, level, what, found, mend);
}

const char *cdoctor_bytes(uint64_t n, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)n;
    size_t u = 0;
    for (; v >= 1000 && u + 1 < ARRAY_LEN(units); u++) {
        v /= 1024;
    }
    (void)snprintf(buf, size, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
    return buf;
}

int cache_doctor_new(const char *dir, cdoctor_fn *say, void *ctx, struct cdoctor **ret, struct errinfo *reterr)
{
    struct cdoctor *d = mem_zalloc(sizeof(*d));
    d->dir = mem_strdup(dir);
    d->say = say;
    d->ctx = ctx;
    int err = pool_new(&d->env.workers, 2, "worker");
    if (err == 0) {
        err = http_engine_new(d->env.workers, NULL, &d->env.http);
    }
    if (err < 0) {
        cache_doctor_free(d);
        return err_set(reterr, ERR_LOCAL, err, "cannot start threads: %s", strerror(-err));
    }
    *ret = d;
    return 0;
}

void cache_doctor_free(struct cdoctor *d)
{
    if (d != NULL) {
        http_engine_free(d->env.http);
        pool_free(d->env.workers);
        free(d->dir);
        free(d);
    }
}

static const char *const what_dir = "cache directory";

static const char *user_name(uid_t uid, char *buf, size_t size)
{
    const struct passwd *pw = getpwuid(uid);
    if (pw != NULL) {
        (void)snprintf(buf, size, "%s", pw->pw_name);
    } else {
        (void)snprintf(buf, size, "user %u", (unsigned)uid);
    }
    return buf;
}

/* Whose it is, and who may look into it: the daemon refuses another's. */
static bool look_at_owner(struct cdoctor *d, const struct stat *st)
{
    char owner[80];
    (void)user_name(st->st_uid, owner, sizeof(owner));
    if (st->st_uid != geteuid()) {
        bool root = geteuid() == 0;
        CLEANUP(mem_freep) char *mend = mem_printf("ask as %s, whose mounts use it, or name another with --cache", owner);
        cdoctor_say(d, root ? CDOCTOR_WARN : CDOCTOR_FAIL, what_dir, mend, "%s belongs to %s", d->dir, owner);
        return root;
    }
    if ((st->st_mode & 077) != 0) {
        CLEANUP(mem_freep) char *mend = mem_printf("chmod 700 %s", d->dir);
        cdoctor_say(d, CDOCTOR_FAIL, what_dir, mend, "%s has mode %04o: others can look into it, and no mount accepts that",
                   d->dir, (unsigned)st->st_mode & 07777);
    } else {
        cdoctor_say(d, CDOCTOR_OK, what_dir, "", "%s belongs to %s, mode %04o", d->dir, owner,
                   (unsigned)st->st_mode & 07777);
    }
    return true;
}

/* Rules C6: it holds the only copy of what was accepted. */
static void look_at_file_system(struct cdoctor *d)
{
    static const struct {
        unsigned long magic;
        const char *found, *mend;
    } bad[] = {
        {TMPFS_MAGIC, "is on a tmpfs: what was accepted is lost when the machine goes down", "give a directory on a disk"},
        {RAMFS_MAGIC, "is in memory: what was accepted is lost when the machine goes down", "give a directory on a disk"},
        {NFS_SUPER_MAGIC, "is on NFS, where the journal's write-ahead log does not work", "give a directory on a local disk"},
        {SMB2_SUPER_MAGIC, "is on SMB, where the journal's write-ahead log does not work", "give a directory on a local disk"},
        {CIFS_SUPER_MAGIC, "is on SMB, where the journal's write-ahead log does not work", "give a directory on a local disk"},
    };
    struct statfs fs;
    if (statfs(d->dir, &fs) < 0) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if ((unsigned long)fs.f_type == bad[i].magic) {
            cdoctor_say(d, CDOCTOR_WARN, what_dir, bad[i].mend, "%s %s", d->dir, bad[i].found);
            return;
        }
    }
    if (strncmp(d->dir, "/tmp/", 5) == 0) {
        cdoctor_say(d, CDOCTOR_WARN, what_dir, "give a directory that nobody cleans up", "%s is below /tmp", d->dir);
    }
}

static void look_at_room(struct cdoctor *d)
{
    static const char *const what = "room";
    char room[32], avail[32];
    struct statvfs v;
    if (statvfs(d->dir, &v) < 0) {
        cdoctor_say(d, CDOCTOR_FAIL, what, "", "%s: %s", d->dir, strerror(errno));
        return;
    }
    uint64_t n = spool_room(&v);
    (void)cdoctor_bytes(n, room, sizeof(room));
    (void)cdoctor_bytes((uint64_t)v.f_bavail * v.f_frsize, avail, sizeof(avail));
    if ((v.f_flag & ST_RDONLY) != 0) {
        cdoctor_say(d, CDOCTOR_FAIL, what, "mount it writable", "%s: its file system is read-only", d->dir);
    } else if (n == 0) {
        cdoctor_say(d, CDOCTOR_FAIL, what, "make room on that disk, or move the cache to another",
                   "%s: %s free, and a tenth of the disk is never filled: writers wait", d->dir, avail);
    } else {
        cdoctor_say(d, n < ROOM_LITTLE ? CDOCTOR_WARN : CDOCTOR_OK, what,
                   n < ROOM_LITTLE ? "make room on that disk before much is copied" : "",
                   "%s: %s free, of which %s may be used", d->dir, avail, room);
    }
    /* A file system that counts none has as many as it likes. */
    if (v.f_files != 0 && v.f_favail < INODES_LITTLE) {
        cdoctor_say(d, v.f_favail == 0 ? CDOCTOR_FAIL : CDOCTOR_WARN, what,
                   "remove small files from that disk, or move the cache to another", "%s: %llu inodes free", d->dir,
                   (unsigned long long)v.f_favail);
    }
}

/* A shared lock, for as long as the call takes: a daemon that starts in this instant tries again. */
static int32_t look_at_lock(struct cdoctor *d)
{
    static const char *const what = "lock";
    CLEANUP(mem_freep) char *path = mem_printf("%s/lock", d->dir);
    CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        if (errno == ENOENT) {
            cdoctor_say(d, CDOCTOR_OK, what, "", "no daemon has used %s yet", d->dir);
        } else {
            cdoctor_say(d, CDOCTOR_FAIL, what, "", "%s: %s", path, strerror(errno));
        }
        return 0;
    }
    if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
        cdoctor_say(d, CDOCTOR_OK, what, "", "no daemon holds %s", d->dir);
        return 0;
    }
    char text[32] = "";
    long pid = pread(fd, text, sizeof(text) - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
    cdoctor_say(d, CDOCTOR_OK, what, "", "held by the daemon with pid %ld", pid);
    return pid > 0 && pid <= INT32_MAX ? (int32_t)pid : -1;
}

bool cache_doctor_dir(struct cdoctor *d, int32_t *ret_pid)
{
    struct stat st;
    *ret_pid = 0;
    d->live = false;
    if (mounts_inside_ours(d->dir)) {
        cdoctor_say(d, CDOCTOR_FAIL, what_dir, "give a directory on a disk", "%s is inside an objmig mount", d->dir);
        return false;
    }
    if (stat(d->dir, &st) < 0) {
        cdoctor_say(d, errno == ENOENT ? CDOCTOR_WARN : CDOCTOR_FAIL, what_dir,
                   errno == ENOENT ? "nothing, if nothing was mounted yet: the first mount makes it; else name the right one "
                                     "with --cache"
                                   : "name another with --cache, or mend this",
                   "%s: %s", d->dir, errno == ENOENT ? "not there" : strerror(errno));
        return false;
    }
    if (!S_ISDIR(st.st_mode)) {
        cdoctor_say(d, CDOCTOR_FAIL, what_dir, "name another", "%s is no directory", d->dir);
        return false;
    }
    if (!look_at_owner(d, &st)) {
        return false;
    }
    look_at_file_system(d);
    look_at_room(d);
    *ret_pid = look_at_lock(d);
    d->live = *ret_pid != 0;
    return true;
}
