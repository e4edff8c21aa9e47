/* See attach.h.
 *
 * The helper runs with its user's environment, files and mount name space: it reads the
 * configuration, finds or starts the daemon, and hands it the remotes. As root it then takes a
 * clone of the remote's directory out of the daemon's name space and puts it on DIR (rules G1);
 * otherwise the daemon has mounted there itself. A lock in the cache directory lets one helper do
 * this at a time. */
#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon.h"
#include "mem.h"
#include "mounts.h"
#include "sync.h"
#include "unit.h"
#include "wire.h"

extern char **environ;

/* A remote and a place below it, resolved from SPEC. */
struct source {
    struct conf *conf;
    const struct conf_remote *remote; /* NULL = all */
    char *prefix;                     /* below the remote's own */
};

static void source_fini(struct source *s)
{
    conf_free(s->conf);
    free(s->prefix);
}

static int resolve(const struct options *o, const char *spec, struct source *ret,
                   struct errinfo *reterr)
{
    struct buf faults = BUF_INIT;
    enum conf_spec kind = conf_spec_kind(spec);
    bool alone = kind == CONF_RCLONE || (kind == CONF_URL && o->config == NULL);
    int r = alone ? 0 : conf_load(o->config, &ret->conf, &faults);

    if (alone) {
        ret->conf = conf_new("");
    } else if (r < 0) {
        /* All faults are shown, a line each: the last without its line feed, which our caller adds.
         */
        while (faults.len > 0 && faults.data[faults.len - 1] == '\n') {
            faults.data[--faults.len] = '\0';
        }
        char *last = faults.len > 0 ? strrchr(faults.data, '\n') : NULL;
        if (last != NULL) {
            *last++ = '\0';
            (void)fprintf(stderr, "%s\n", faults.data);
        }
        err_set(reterr, ERR_INVALID, r, "%s",
                last != NULL     ? last
                : faults.len > 0 ? faults.data
                : r == -ENOENT   ? "no configuration: write ~/.config/objmig/objmig.conf or "
                                   "/etc/objmig/objmig.conf, "
                                   "or give -o config=FILE"
                                 : strerror(-r));
    }
    buf_fini(&faults);
    if (r == 0) {
        struct kvlist rclone = {0};
        kv_set(&rclone, "rclone_config", o->rclone_config);
        r = conf_resolve(ret->conf, spec,
                         kind == CONF_URL      ? &o->url
                         : kind == CONF_RCLONE ? &rclone
                                               : NULL,
                         &ret->remote, &ret->prefix, reterr);
        kv_fini(&rclone);
    }
    if (r == 0 && ret->conf->notes != NULL) {
        (void)fputs(ret->conf->notes, stderr);
    }
    if (r < 0) {
        return r;
    }
    for (size_t k = 0; k < ret->conf->n_remotes; k++) {
        const struct conf_remote *c = ret->conf->remotes[k];
        if ((ret->remote == NULL || ret->remote == c) && strcmp(c->provider, "local") == 0 &&
            mounts_inside_ours(c->path)) {
            return err_set(reterr, ERR_INVALID, -ELOOP,
                           "remote %s: path %s is inside an objmig mount; name another", c->name,
                           c->path);
        }
    }
    return 0;
}

/* ---- the mount point ---- */

static void umount_dir(const char *dir)
{
    char *copy = mem_strdup(dir);
    char *argv[] = {(char[]){"fusermount3"},
                    (char[]){"-u"},
                    (char[]){"-q"},
                    (char[]){"-z"},
                    (char[]){"--"},
                    copy,
                    NULL};
    pid_t pid;
    int status;

    if (umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno == EPERM &&
        posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) == 0) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    }
    free(copy);
}

static bool says_dead(int err)
{
    return err == ENOTCONN || err == ECONNABORTED;
}

/* Attributes may still come from the kernel's cache when the daemon is gone; an extended attribute
 * never does. */
static bool is_dead(const char *dir)
{
    struct stat st;

    return (stat(dir, &st) < 0 || getxattr(dir, "user.objmig.socket", NULL, 0) < 0) &&
           says_dead(errno);
}

/* True when something was there to be taken away. */
static bool clear_dead(const char *dir)
{
    bool any = false;

    for (int k = 0; k < 64 && is_dead(dir); k++) { /* they may be stacked */
        umount_dir(dir);
        any = true;
    }
    return any;
}

static int prepare_dir(struct options *o, struct errinfo *reterr)
{
    char path[PATH_MAX];
    struct stat st;
    bool cleared = false, found = false;

    /* A killed daemon may die while we look. */
    for (int k = 0; k < 8 && !found; k++) {
        cleared = clear_dead(o->dir) || cleared;
        found = realpath(o->dir, path) != NULL && stat(path, &st) == 0;
        if (!found && !says_dead(errno)) {
            break;
        }
    }
    if (cleared && o->verbose) {
        int err = errno;
        (void)fprintf(stderr, "mount.objmig: %s carried the mount of a dead daemon: taken away\n",
                      o->dir);
        errno = err;
    }
    if (!found) {
        return err_set(reterr, ERR_INVALID, -errno, "%s: %s", o->dir,
                       errno == ENOENT ? "no such directory; make it first" : strerror(errno));
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(reterr, ERR_INVALID, -ENOTDIR, "%s: not a directory", o->dir);
    }
    free(o->dir);
    o->dir = mem_strdup(path);
    return 0;
}

static bool xattr_is(const char *dir, const char *name, const char *want)
{
    char value[PATH_MAX];
    ssize_t n = getxattr(dir, name, value, sizeof(value));

    return n >= 0 && (size_t)n == strlen(want) && memcmp(value, want, (size_t)n) == 0;
}

static bool carries_ours(const char *dir)
{
    struct mounts m;
    bool ours = false;

    if (mounts_read_own(&m) == 0) {
        const struct mount *at = mounts_at(&m, dir);
        ours = at != NULL && strcmp(at->fstype, MOUNTS_FSTYPE) == 0;
        mounts_fini(&m);
    }
    return ours;
}

static bool carries_source(const struct options *o, const struct source *s)
{
    CLEANUP(mem_freep) char *socket = mem_printf("%s/" WIRE_SOCKET, o->cache_dir);

    if (!xattr_is(o->dir, "user.objmig.socket", socket)) {
        return false;
    }
    if (s->remote == NULL) {
        return getxattr(o->dir, "user.objmig.remote", NULL, 0) < 0 && errno == ENODATA;
    }
    CLEANUP(mem_freep) char *key = mem_printf("%s%s", s->remote->prefix, s->prefix);
    return xattr_is(o->dir, "user.objmig.remote", s->remote->name) &&
           xattr_is(o->dir, "user.objmig.key", key);
}

/* 1: DIR carries this very remote; 0: nothing of ours. Asked with the lock held: since prepare_dir
 * the daemon may have died, or another helper may have been here. */
static int already(const struct options *o, const struct source *s, struct errinfo *reterr)
{
    while (carries_ours(o->dir)) {
        if (carries_source(o, s)) {
            return 1;
        }
        if (!clear_dead(o->dir)) {
            return err_set(reterr, ERR_INVALID, -EBUSY,
                           "%s: another objmig mount is on it; umount it first", o->dir);
        }
    }
    return 0;
}

static int remount(const struct options *o, struct errinfo *reterr)
{
    struct mount_attr attr = {.attr_set = o->attr_set, .attr_clr = o->attr_clr};

    if (!carries_ours(o->dir)) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "%s: no objmig mount is on it that could be remounted", o->dir);
    }
    if ((attr.attr_set | attr.attr_clr) != 0 &&
        mount_setattr(AT_FDCWD, o->dir, 0, &attr, sizeof(attr)) < 0) {
        return err_set_errno(reterr, errno, "%s: cannot change the mount", o->dir);
    }
    return 0;
}

/* ---- cache directory ---- */

static int make_dirs(const char *path, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *p = mem_strdup(path);

    for (char *s = p + 1;; s++) {
        if (*s == '/' || *s == '\0') {
            char c = *s;
            *s = '\0';
            if (mkdir(p, c == '\0' ? 0700 : 0755) < 0 && errno != EEXIST) {
                return err_set_errno(reterr, errno, "cannot make the cache directory %s", p);
            }
            if (c == '\0') {
                return 0;
            }
            *s = c;
        }
    }
}

/* Rules C6: what was accepted is there only. That nobody said where is no leave to keep it in memory, or where others clean up.
 * Nothing is made yet: what counts is the next directory above that is there. */
static int check_unsaid_place(const struct options *o, struct errinfo *reterr)
{
    static const char *const cleaned[] = {"/tmp", "/run", "/dev/shm"};
    char above[PATH_MAX];
    struct statfs fs;
    CLEANUP(mem_freep) char *dir = mem_strdup(o->cache_dir);

    while (realpath(dir, above) == NULL) {
        char *slash = strrchr(dir, '/');
        if (slash == NULL || slash == dir) {
            return 0;
        }
        *slash = '\0';
    }
    for (size_t k = 0; k < ARRAY_LEN(cleaned); k++) {
        size_t n = strlen(cleaned[k]);
        if (strncmp(above, cleaned[k], n) == 0 && (above[n] == '/' || above[n] == '\0')) {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "the cache directory %s is below %s, where nothing stays; say cache=DIR",
                           o->cache_dir, cleaned[k]);
        }
    }
    if (statfs(above, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "the cache directory %s is on a tmpfs, and lost when the machine goes down; "
                       "say cache=DIR",
                       o->cache_dir);
    }
    return 0;
}

static int lock_cache(struct options *o, int *ret_fd, struct errinfo *reterr)
{
    char path[PATH_MAX];
    struct stat st;

    if (mounts_inside_ours(o->cache_dir)) {
        return err_set(reterr, ERR_INVALID, -ELOOP,
                       "cache=%s: inside an objmig mount; name another", o->cache_dir);
    }
    int r = o->cache_unsaid ? check_unsaid_place(o, reterr) : 0;
    r = r < 0 ? r : make_dirs(o->cache_dir, reterr);
    if (r < 0) {
        return r;
    }
    if (realpath(o->cache_dir, path) == NULL || stat(path, &st) < 0) {
        return err_set_errno(reterr, errno, "cache=%s", o->cache_dir);
    }
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        return err_set(reterr, ERR_INVALID, -EPERM,
                       "cache=%s: must belong to this user with mode 0700; chmod it", o->cache_dir);
    }
    free(o->cache_dir);
    o->cache_dir = mem_strdup(path);
    o->cache.dir = o->cache_dir;
    CLEANUP(mem_freep) char *lock = mem_printf("%s/mount.lock", path);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) < 0) {
        r = err_set_errno(reterr, errno, "cannot lock %s", lock);
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- the daemon ---- */

static void redirect_to_null(bool keep_stderr)
{
    int fd = open("/dev/null", O_RDWR);

    if (fd >= 0) {
        (void)dup2(fd, STDIN_FILENO);
        if (!keep_stderr) {
            (void)dup2(fd, STDOUT_FILENO);
            (void)dup2(fd, STDERR_FILENO);
        }
        if (fd > STDERR_FILENO) {
            close(fd);
        }
    }
}

/* What the daemon process runs; never returns. */
_Noreturn static void be_daemon(struct options *o, int fd, pid_t helper)
{
    char *log = o->log != NULL  ? mem_strdup(o->log)
                : o->foreground ? mem_strdup("")
                                : mem_printf("%s/log", o->cache_dir);
    int r = log_open(log, o->level), status;

    if (r < 0) {
        struct wire w = {.fd = fd};
        CLEANUP(mem_freep) char *text = mem_printf("log=%s: %s", log, strerror(-r));
        json_t *msg = wire_error(r, text);
        (void)wire_send(&w, msg);
        json_decref(msg);
        exit(1);
    }
    free(log); /* exit() runs no cleanup of scopes */
    (void)chdir("/");
    umask(077);
    redirect_to_null(o->foreground);
    if (!o->foreground) {
        unit_leave(o->cache_dir, o->stop_timeout_s);
    }
    r = daemon_run(o, fd);
    if (helper > 0 && waitpid(helper, &status, 0) == helper && r == 0) {
        r = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
    options_fini(o);
    exit(r);
}

/* In the caller returns with a connection to the new daemon. With -F the caller's process becomes
 * the daemon, and a child of it returns from here. */
static int spawn_daemon(struct options *o, int lock_fd, struct wire *ret, struct errinfo *reterr)
{
    int sv[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0) {
        return err_set_errno(reterr, errno, "cannot make a socket pair");
    }
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        close(sv[0]);
        close(sv[1]);
        return err_set_errno(reterr, errno, "cannot start the daemon");
    }
    if (o->foreground ? pid > 0 : pid == 0) {
        close(sv[0]);
        close(lock_fd);
        if (o->foreground) {
            be_daemon(o, sv[1], pid);
        }
        (void)setsid();
        pid = fork(); /* not a session leader, and nobody's child */
        if (pid != 0) {
            _exit(pid < 0);
        }
        be_daemon(o, sv[1], 0);
    }
    close(sv[1]);
    if (!o->foreground) {
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    }
    *ret = (struct wire){.fd = sv[0], .in = BUF_INIT_MAX(WIRE_LINE_MAX)};
    json_t *hello = NULL;
    int r = wire_recv(ret, &hello);
    if (r < 0) {
        r = err_set(reterr, ERR_LOCAL, r, "the daemon died while starting; see %s%s",
                    o->log != NULL ? o->log : o->cache_dir, o->log != NULL ? "" : "/log");
    } else if (!json_is_true(json_object_get(hello, "ok"))) {
        const char *text = json_string_value(json_object_get(hello, "error"));
        r = err_set(reterr, ERR_LOCAL, -EIO, "%s",
                    text != NULL ? text : "the daemon did not start");
    }
    json_decref(hello);
    if (r < 0) {
        wire_close(ret);
    }
    return r;
}

/* ---- attaching ---- */

static int clone_here(pid_t daemon, const char *root, const char *path, const struct options *o,
                      struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *ns = mem_printf("/proc/%d/ns/mnt", (int)daemon);
    CLEANUP(mem_freep) char *from = mem_printf("%s%s%s", root, *path != '\0' ? "/" : "", path);
    CLEANUP(mem_freep) char *top = mem_printf("/proc/%d/root", (int)daemon);
    CLEANUP(mem_closep) int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    CLEANUP(mem_closep) int own_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(mem_closep) int theirs = open(ns, O_RDONLY | O_CLOEXEC);
    CLEANUP(mem_closep) int their_root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(mem_closep) int dir = open(o->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(mem_closep) int tree = -1;
    struct mount_attr attr = {.attr_set = o->attr_set, .attr_clr = o->attr_clr};

    if (own < 0 || own_root < 0 || theirs < 0 || their_root < 0 || dir < 0) {
        return err_set_errno(reterr, errno, "%s: cannot open", dir < 0 ? o->dir : ns);
    }
    /* A name space is entered with a root and working directory of one's own, also when a library
     * made a thread. */
    if (unshare(CLONE_FS) < 0 || mounts_enter(theirs, their_root) < 0) {
        return err_set_errno(reterr, errno,
                             "cannot enter the daemon's mount name space; try -o direct");
    }
    tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    int err = errno;
    if (mounts_enter(own, own_root) < 0) {
        return err_set_errno(reterr, errno, "cannot return to this mount name space");
    }
    if (tree < 0) {
        return err_set_errno(reterr, err, "cannot clone %s in the daemon", from);
    }
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
        return err_set_errno(reterr, errno, "cannot set the mount's flags");
    }
    if (move_mount(tree, "", dir, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        return err_set_errno(reterr, errno, "%s: cannot mount", o->dir);
    }
    return 0;
}

/* What a later start mounts it with: rclone's file also when only the environment named it. */
static char *recorded_options(const struct options *o, const struct source *s)
{
    struct buf text = BUF_INIT;

    (void)buf_adds(&text, o->text);
    if (conf_spec_kind(o->spec) == CONF_RCLONE && o->rclone_config == NULL) {
        (void)buf_addf(&text, "%srclone_config=", text.len > 0 ? "," : "");
        for (const char *p = s->conf->file; *p != '\0'; p++) {
            (void)buf_addf(&text, "%s%c", *p == ',' || *p == '\\' ? "\\" : "", *p);
        }
    }
    char *whole = mem_strdup(buf_str(&text));
    buf_fini(&text);
    return whole;
}

static json_t *attach_request(const struct options *o, const struct source *s)
{
    json_t *req = json_pack("{s:s, s:b, s:b, s:b}", "cmd", "attach", "allow_other", o->allow_other,
                            "ro", (o->attr_set & MOUNT_ATTR_RDONLY) != 0, "direct", o->direct);
    json_t *remotes = json_array();
    struct kvlist paths = {0};

    for (size_t k = 0; k < s->conf->n_remotes; k++) {
        if (s->remote == NULL || s->remote == s->conf->remotes[k]) {
            json_array_append_new(remotes, wire_remote(s->conf->remotes[k]));
        }
    }
    json_object_set_new(req, "remotes", remotes);
    if (s->remote != NULL) {
        json_object_set_new(req, "remote", json_string(s->remote->name));
    }
    kv_set(&paths, "dir", o->dir);
    kv_set(&paths, "spec", o->spec);
    kv_set(&paths, "prefix", s->prefix);
    CLEANUP(mem_freep) char *options = recorded_options(o, s);
    kv_set(&paths, "options", options);
    kv_set(&paths, "config", s->conf->file);
    json_object_set_new(req, "paths", wire_kv(&paths));
    kv_fini(&paths);
    json_object_set_new(req, "given", wire_kv(&o->given));
    return req;
}

static int attach_one(struct wire *w, const struct options *o, const struct source *s,
                      struct errinfo *reterr)
{
    json_t *req = attach_request(o, s), *answer = NULL;
    int r = wire_call(w, req, &answer, reterr);

    json_decref(req);
    if (r < 0) {
        return r;
    }
    if (!json_is_true(json_object_get(answer, "direct"))) {
        struct kvlist paths = {0};
        wire_kv_parse(json_object_get(answer, "paths"), &paths);
        const char *path = kv_get(&paths, "path"),
                   *root = json_string_value(json_object_get(answer, "root"));
        r = clone_here((pid_t)json_integer_value(json_object_get(answer, "pid")),
                       root != NULL ? root : "", path != NULL ? path : "", o, reterr);
        kv_fini(&paths);
    }
    json_decref(answer);
    answer = NULL;
    req = json_pack("{s:s, s:b}", "cmd", "attached", "done", r == 0);
    int told = wire_call(w, req, &answer, r == 0 ? reterr : NULL);
    json_decref(req);
    json_decref(answer);
    return r < 0 ? r : told;
}

static void forget(struct wire *w, const char *dir)
{
    struct kvlist paths = {0};
    json_t *req = json_pack("{s:s}", "cmd", "forget"), *answer = NULL;

    kv_set(&paths, "dir", dir);
    json_object_set_new(req, "paths", wire_kv(&paths));
    kv_fini(&paths);
    (void)wire_call(w, req, &answer, NULL);
    json_decref(req);
    json_decref(answer);
}

static int reattach_one(struct wire *w, const char *dir, const char *spec, const char *text,
                        struct errinfo *reterr)
{
    struct options o;
    struct source s = {0};
    int r = options_parse_text(text, &o, reterr);

    if (r < 0) {
        return r;
    }
    o.dir = mem_strdup(dir);
    o.spec = mem_strdup(spec);
    r = resolve(&o, spec, &s, reterr);
    if (r == 0) {
        r = attach_one(w, &o, &s, reterr);
    }
    source_fini(&s);
    options_fini(&o);
    return r;
}

/* The dead mounts an earlier daemon of this cache directory has left (rules G4). Where the dead
 * mount is gone, somebody has taken it away on purpose, or the machine was restarted. */
static void reattach(struct wire *w, const struct options *o)
{
    json_t *req = json_pack("{s:s}", "cmd", "recorded"), *answer = NULL, *one;
    size_t k;

    if (wire_call(w, req, &answer, NULL) == 0) {
        json_array_foreach(json_object_get(answer, "list"), k, one)
        {
            struct kvlist kv = {0};
            struct errinfo err = {0};

            wire_kv_parse(one, &kv);
            const char *dir = kv_get(&kv, "dir"), *spec = kv_get(&kv, "spec"),
                       *text = kv_get(&kv, "options");
            if (dir != NULL && spec != NULL && text != NULL && strcmp(dir, o->dir) != 0) {
                if (!clear_dead(dir)) {
                    forget(w, dir);
                } else if (reattach_one(w, dir, spec, text, &err) < 0) {
                    (void)fprintf(stderr,
                                  "mount.objmig: %s: the mount of a dead daemon is gone, and %s "
                                  "cannot be mounted "
                                  "again: %s\n",
                                  dir, spec, err.message);
                    forget(w, dir);
                } else if (o->verbose) {
                    (void)fprintf(stderr, "mount.objmig: %s: %s mounted again\n", dir, spec);
                }
            }
            kv_fini(&kv);
        }
    }
    json_decref(answer);
    json_decref(req);
}

static bool no_daemon(int r)
{
    return r == -ECONNREFUSED || r == -ENOENT;
}

/* Finds the daemon or starts it, and attaches. A daemon that is leaving is waited for. */
static int attach_any(struct options *o, const struct source *s, int lock_fd, bool *ret_started,
                      struct errinfo *reterr)
{
    int64_t until = time_mono_ns() + ((int64_t)o->stop_timeout_s + 20) * 1000000000;

    for (;;) {
        struct wire w = {.fd = -1};
        int r = wire_connect(o->cache_dir, &w);
        bool started = no_daemon(r);

        if (r < 0 && !started) {
            return err_set_errno(reterr, -r, "cannot reach the daemon of %s", o->cache_dir);
        }
        if (started) {
            r = spawn_daemon(o, lock_fd, &w, reterr);
            if (r < 0) {
                return r;
            }
        }
        err_clear(reterr);
        r = attach_one(&w, o, s, reterr);
        if (r == 0 && started) {
            reattach(&w, o);
        }
        wire_close(&w);
        if (started || r == 0 || (r != -ESHUTDOWN && r != -EPIPE && r != -ECONNRESET) ||
            time_mono_ns() > until) {
            *ret_started = started;
            return r;
        }
        (void)poll(NULL, 0, 100);
    }
}

int attach_run(struct options *o, int *ret_exit, struct errinfo *reterr)
{
    struct source s = {0};
    CLEANUP(mem_closep) int lock_fd = -1;
    bool started = false;

    *ret_exit = 0;
    (void)signal(SIGPIPE, SIG_IGN);
    int r = prepare_dir(o, reterr);
    if (r == 0 && o->remount) {
        return remount(o, reterr);
    }
    if (r == 0) {
        r = resolve(o, o->spec, &s, reterr);
    }
    if (r == 0 && !o->fake) {
        r = lock_cache(o, &lock_fd, reterr);
        if (r == 0) {
            r = already(o, &s, reterr);
        }
        if (r == 1) {
            if (o->verbose) {
                (void)fprintf(stderr, "mount.objmig: %s already carries %s\n", o->dir, o->spec);
            }
            r = 0;
        } else if (r == 0) {
            r = attach_any(o, &s, lock_fd, &started, reterr);
            if (r == 0 && o->foreground && !started) {
                (void)fprintf(stderr,
                              "mount.objmig: mounted by the daemon that already serves %s; -F has "
                              "no effect\n",
                              o->cache_dir);
            }
        }
    }
    source_fini(&s);
    return r;
}
