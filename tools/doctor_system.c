/* The doctor on FUSE and on mounts.
 *
 * A mount whose daemon hangs keeps whoever touches it in the kernel, perhaps beyond SIGKILL. So
 * each mount is asked by a child of its own, and after some seconds those that have not answered
 * are left to themselves. */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mem.h"
#include "sync.h"

#define ANSWER_NS INT64_C(5000000000)

/* ---- FUSE ---- */

static char *find_program(const char *name, struct stat *ret_st)
{
    const char *path = getenv("PATH");
    CLEANUP(mem_freep) char *dirs = mem_printf("%s:/usr/bin:/bin", path != NULL ? path : "");
    char *save = NULL;

    for (char *dir = strtok_r(dirs, ":", &save); dir != NULL; dir = strtok_r(NULL, ":", &save)) {
        CLEANUP(mem_freep) char *file = mem_printf("%s/%s", dir, name);
        if (stat(file, ret_st) == 0 && S_ISREG(ret_st->st_mode) && access(file, X_OK) == 0) {
            return TAKE(file);
        }
    }
    return NULL;
}

static bool has_line(const char *file, const char *want)
{
    FILE *f = fopen(file, "re");
    char line[256];
    bool found = false;

    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        char *p = line + strspn(line, " \t");
        size_t n = strcspn(p, " \t\r\n#");
        found = n == strlen(want) && strncmp(p, want, n) == 0;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

static void say_fusermount(struct doctor *d)
{
    struct stat st;
    CLEANUP(mem_freep) char *file = find_program("fusermount3", &st);
    bool root = geteuid() == 0;

    if (file == NULL) {
        doctor_sayf(d, root ? CDOCTOR_WARN : CDOCTOR_FAIL, "fuse", "install fuse3",
                    "fusermount3 is not there, without which only root can mount");
    } else if (st.st_uid != 0 || (st.st_mode & S_ISUID) == 0) {
        CLEANUP(mem_freep)
        char *mend = mem_printf("as root: chown root %s && chmod 4755 %s", file, file);
        doctor_sayf(d, root ? CDOCTOR_WARN : CDOCTOR_FAIL, "fuse", mend,
                    "%s does not run as root: ordinary users cannot mount", file);
    } else {
        doctor_sayf(d, CDOCTOR_OK, "fuse", "", "%s is there: ordinary users can mount", file);
    }
    if (has_line("/etc/fuse.conf", "user_allow_other")) {
        doctor_sayf(d, CDOCTOR_OK, "fuse", "",
                    "user_allow_other is set in /etc/fuse.conf: all users may say -o allow_other");
    } else {
        doctor_sayf(
            d, CDOCTOR_OK, "fuse", "",
            "user_allow_other is not set in /etc/fuse.conf: -o allow_other is for root only");
    }
}

void doctor_fuse(struct doctor *d)
{
    CLEANUP(mem_closep) int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const char *file;

    if (fd >= 0) {
        doctor_sayf(d, CDOCTOR_OK, "fuse", "", "/dev/fuse opens");
    } else if (errno == EACCES) {
        doctor_sayf(d, CDOCTOR_FAIL, "fuse", "as root: chmod 666 /dev/fuse", "/dev/fuse: %s",
                    strerror(errno));
    } else {
        doctor_sayf(d, CDOCTOR_FAIL, "fuse",
                    "modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
                    "/dev/fuse: %s", strerror(errno));
    }
    say_fusermount(d);
    unsigned long seconds = mounts_request_timeout(&file);
    if (seconds != 0) {
        CLEANUP(mem_freep) char *mend = mem_printf("echo 0 > %s", file);
        doctor_sayf(d, CDOCTOR_WARN, "fuse", mend,
                    "%s is %lu: the kernel ends a mount when one request takes longer", file,
                    seconds);
    } else {
        doctor_sayf(d, CDOCTOR_OK, "fuse", "", "no time-out of the kernel ends mounts");
    }
}

/* ---- mounts ---- */

/* In a child: "A", socket, NUL, remote, NUL; or "E" and the errno. */
_Noreturn static void ask(const char *dir, int fd)
{
    char out[2 * PATH_MAX + 8] = "A";
    size_t len = 1;
    ssize_t n = getxattr(dir, "user.objmig.socket", out + len, PATH_MAX);

    if (n < 0) {
        len = (size_t)snprintf(out, sizeof(out), "E%d", errno) + 1;
    } else {
        len += (size_t)n;
        out[len++] = '\0';
        n = getxattr(dir, "user.objmig.remote", out + len, PATH_MAX);
        len += n > 0 ? (size_t)n : 0;
        out[len++] = '\0';
    }
    _exit(write(fd, out, len) == (ssize_t)len ? 0 : 1);
}

struct question {
    pid_t pid;
    int fd; /* -1: could not be asked */
};

static struct question ask_in_child(const char *dir)
{
    struct question q = {.pid = -1, .fd = -1};
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return q;
    }
    q.pid = fork();
    if (q.pid == 0) {
        close(fds[0]);
        /* If it hangs it must not keep our readers waiting. */
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
            if (fd != fds[1]) {
                close(fd);
            }
        }
        ask(dir, fds[1]);
    }
    close(fds[1]);
    q.fd = fds[0];
    return q;
}

static void take_answer(struct doctor_mount *m, char *text, size_t n)
{
    text[n] = '\0';
    if (n > 2 && text[0] == 'A') {
        char *slash = strrchr(text + 1, '/');
        size_t at = 1 + strlen(text + 1) + 1;
        if (slash != NULL) {
            *slash = '\0';
        }
        m->state = MOUNT_ALIVE;
        m->cache_dir = mem_strdup(text + 1);
        m->remote = at < n && text[at] != '\0' ? mem_strdup(text + at) : NULL;
    } else {
        int err = n > 1 ? (int)strtol(text + 1, NULL, 10) : EIO;
        m->state = err == ENOTCONN || err == ECONNABORTED ? MOUNT_DEAD : MOUNT_CLOSED;
    }
}

static void await(struct doctor_mount *m, struct question *q, int64_t until)
{
    struct pollfd p = {.fd = q->fd, .events = POLLIN};
    char text[2 * PATH_MAX + 16];

    m->state = MOUNT_CLOSED;
    if (q->pid > 0) {
        int64_t left = (until - time_mono_ns()) / 1000000;
        if (poll(&p, 1, left > 0 ? (int)left : 0) == 1) {
            ssize_t n = read(q->fd, text, sizeof(text) - 1);
            take_answer(m, text, n > 0 ? (size_t)n : 0);
            (void)waitpid(q->pid, NULL, 0);
        } else {
            m->state = MOUNT_HUNG;
            (void)kill(q->pid, SIGKILL); /* when it can be reached at all: nobody waits for it */
        }
    }
    if (q->fd >= 0) {
        close(q->fd);
    }
}

void doctor_mounts_read(struct doctor_mounts *ret)
{
    *ret = (struct doctor_mounts){0};
    if (mounts_read_own(&ret->table) < 0) {
        return;
    }
    struct question *q = mem_zalloc((ret->table.n + 1) * sizeof(*q));
    ret->items = mem_zalloc((ret->table.n + 1) * sizeof(*ret->items));
    for (size_t k = 0; k < ret->table.n; k++) {
        const struct mount *at = &ret->table.items[k];
        /* What another one covers cannot be reached. */
        if (strcmp(at->fstype, MOUNTS_FSTYPE) == 0 && mounts_at(&ret->table, at->dir) == at) {
            q[ret->n] = ask_in_child(at->dir);
            ret->items[ret->n++].at = at;
        }
    }
    int64_t until = time_mono_ns() + ANSWER_NS;
    for (size_t k = 0; k < ret->n; k++) {
        await(&ret->items[k], &q[k], until);
    }
    free(q);
}

void doctor_mounts_fini(struct doctor_mounts *m)
{
    for (size_t k = 0; k < m->n; k++) {
        free(m->items[k].cache_dir);
        free(m->items[k].remote);
    }
    free(m->items);
    mounts_fini(&m->table);
    *m = (struct doctor_mounts){0};
}

static struct doctor_mount *deepest(struct doctor_mounts *m, const char *path)
{
    struct doctor_mount *best = NULL;
    size_t best_len = 0;

    for (size_t k = 0; k < m->n; k++) {
        size_t len = strlen(m->items[k].at->dir);
        if (strncmp(path, m->items[k].at->dir, len) == 0 &&
            (path[len] == '\0' || path[len] == '/') && len >= best_len) {
            best = &m->items[k];
            best_len = len;
        }
    }
    return best;
}

struct doctor_mount *doctor_mount_of(struct doctor_mounts *m, const char *path)
{
    char cwd[PATH_MAX];
    CLEANUP(mem_freep)
    char *abs = path[0] == '/' || getcwd(cwd, sizeof(cwd)) == NULL ? mem_strdup(path)
                : strcmp(path, ".") == 0                           ? mem_strdup(cwd)
                                                                   : mem_printf("%s/%s", cwd, path);
    for (size_t n = strlen(abs); n > 1 && abs[n - 1] == '/'; n--) {
        abs[n - 1] = '\0';
    }
    struct doctor_mount *found = deepest(m, abs);
    if (found == NULL) { /* by way of links, then: nothing on it is known to be a mount of ours */
        CLEANUP(mem_freep) char *real = realpath(abs, NULL);
        found = real != NULL ? deepest(m, real) : NULL;
    }
    return found;
}

void doctor_mounts_say(struct doctor *d, const struct doctor_mounts *m)
{
    unsigned fine = 0;

    for (size_t k = 0; k < m->n; k++) {
        const struct doctor_mount *one = &m->items[k];
        const char *dir = one->at->dir;
        enum cdoctor_level level = one->asked ? CDOCTOR_FAIL : CDOCTOR_WARN;
        CLEANUP(mem_freep) char *mend = NULL;

        if (one->state == MOUNT_DEAD) {
            mend = mem_printf("mount it again, which heals it, or take it away: umount -l %s", dir);
            doctor_sayf(d, level, "mount", mend, "%s is a dead mount: its daemon is gone", dir);
        } else if (one->state == MOUNT_HUNG) {
            mend = mem_printf(
                "if it stays so: kill -9 its daemon, end what waits in it with echo 1 > "
                "/sys/fs/fuse/connections/%u/abort, and mount it again: what was accepted goes on",
                one->at->minor);
            doctor_sayf(d, level, "mount", mend,
                        "%s does not answer: its daemon hangs or is stopped", dir);
        } else if (one->state == MOUNT_ALIVE) {
            fine++;
        }
    }
    doctor_sayf(d, CDOCTOR_OK, "mount", "", "%u mounts answer", fine);
}
