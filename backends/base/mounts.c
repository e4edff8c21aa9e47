/* See mounts.h. */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mem.h"

/* Undoes the kernel's \ooo in place. */
static char *unescape(char *s)
{
    char *out = s;

    for (const char *p = s; *p != '\0'; p++) {
        if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
            p[3] >= '0' && p[3] <= '7') {
            *out++ = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
            p += 3;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    return s;
}

/* "36 35 98:0 /root /dir rw,noatime master:1 - ext3 /dev/root rw": optional fields end at "-". */
static bool parse_line(char *line, struct mount *ret)
{
    char *save = NULL, *field[5] = {0};
    size_t n = 0;

    for (char *w = strtok_r(line, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        if (n < 5) {
            field[n++] = w;
        } else if (strcmp(w, "-") == 0) {
            break;
        }
    }
    char *fstype = strtok_r(NULL, " ", &save), *source = strtok_r(NULL, " ", &save);
    if (n < 5 || fstype == NULL || source == NULL ||
        sscanf(field[2], "%u:%u", &ret->major, &ret->minor) != 2) {
        return false;
    }
    ret->root = mem_strdup(unescape(field[3]));
    ret->dir = mem_strdup(unescape(field[4]));
    ret->fstype = mem_strdup(unescape(fstype));
    ret->source = mem_strdup(unescape(source));
    return true;
}

int mounts_read(int fd, struct mounts *ret)
{
    struct buf text = BUF_INIT;
    char piece[8192], *save = NULL;
    ssize_t n;

    *ret = (struct mounts){0};
    if (lseek(fd, 0, SEEK_SET) < 0) {
        return -errno;
    }
    while ((n = read(fd, piece, sizeof(piece))) > 0) {
        if (buf_add(&text, piece, (size_t)n) < 0) {
            buf_fini(&text);
            return -ENOMEM;
        }
    }
    if (n < 0) {
        int err = -errno;
        buf_fini(&text);
        return err;
    }
    if (text.len > 0) {
        for (char *line = strtok_r(text.data, "\n", &save); line != NULL;
             line = strtok_r(NULL, "\n", &save)) {
            struct mount m = {0};
            if (parse_line(line, &m)) {
                if (ret->n % 32 == 0) {
                    ret->items = mem_realloc(ret->items, (ret->n + 32) * sizeof(*ret->items));
                }
                ret->items[ret->n++] = m;
            }
        }
    }
    buf_fini(&text);
    return 0;
}

int mounts_read_own(struct mounts *ret)
{
    /* Not /proc/self: a thread may have a mount name space of its own. */
    CLEANUP(mem_closep) int fd = open("/proc/thread-self/mountinfo", O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        *ret = (struct mounts){0};
        return -errno;
    }
    return mounts_read(fd, ret);
}

int mounts_enter(int ns_fd, int root_fd)
{
    return setns(ns_fd, CLONE_NEWNS) < 0 || fchdir(root_fd) < 0 || chroot(".") < 0 ? -errno : 0;
}

void mounts_fini(struct mounts *m)
{
    for (size_t k = 0; k < m->n; k++) {
        free(m->items[k].root);
        free(m->items[k].dir);
        free(m->items[k].fstype);
        free(m->items[k].source);
    }
    free(m->items);
    *m = (struct mounts){0};
}

const struct mount *mounts_at(const struct mounts *m, const char *dir)
{
    for (size_t k = m->n; k > 0; k--) {
        if (strcmp(m->items[k - 1].dir, dir) == 0) {
            return &m->items[k - 1];
        }
    }
    return NULL;
}

bool mounts_inside_ours(const char *path)
{
    CLEANUP(mem_freep) char *p = mem_strdup(path);
    struct mounts m;
    struct stat st;
    bool inside = false;

    while (stat(p, &st) < 0 && errno == ENOENT) {
        char *slash = strrchr(p, '/');
        if (slash == NULL) {
            return false;
        }
        slash[slash == p ? 1 : 0] = '\0';
        if (slash == p && stat(p, &st) < 0) {
            return false;
        }
    }
    if (stat(p, &st) < 0) {
        return errno == ENOTCONN; /* below a dead one */
    }
    if (mounts_read_own(&m) < 0) {
        return false;
    }
    for (size_t k = 0; k < m.n && !inside; k++) {
        inside = strcmp(m.items[k].fstype, MOUNTS_FSTYPE) == 0 &&
                 m.items[k].major == major(st.st_dev) && m.items[k].minor == minor(st.st_dev);
    }
    mounts_fini(&m);
    return inside;
}

unsigned long mounts_request_timeout(const char **ret_file)
{
    static const char *const names[] = {"/proc/sys/fs/fuse/default_request_timeout",
                                        "/proc/sys/fs/fuse/max_request_timeout"};

    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        char text[32] = "";
        CLEANUP(mem_closep) int fd = open(names[k], O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strtoul(text, NULL, 10) != 0) {
            *ret_file = names[k];
            return strtoul(text, NULL, 10);
        }
    }
    return 0;
}
