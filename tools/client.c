/* Finding the daemon that PATH belongs to, and talking to it: one JSON object a line over
 * control.sock. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mem.h"

#define SOCKET_NAME "control.sock"

int option_value(const char *name, const char *arg, const char *next, const char **ret)
{
    size_t len = strlen(name);

    if (strncmp(arg, name, len) != 0 || (arg[len] != '=' && arg[len] != '\0') ||
        (arg[len] == '\0' && next == NULL)) {
        return 0;
    }
    *ret = arg[len] == '=' ? arg + len + 1 : next;
    return arg[len] == '=' ? 1 : 2;
}

int common_parse(int argc, char **argv, struct common *ret, own_option_fn *own, void *ctx)
{
    *ret = (struct common){0};
    for (int k = 1; k < argc; k++) {
        const char *a = argv[k], *next = k + 1 < argc ? argv[k + 1] : NULL;

        if (strcmp(a, "--json") == 0) {
            ret->json = true;
        } else if (a[0] == '-' && a[1] != '\0') {
            int used = option_value("--cache", a, next, &ret->cache_dir);
            used = used == 0 && own != NULL ? own(a, next, ctx) : used;
            if (used == 0) {
                return 1 + complain(argv[0], "%s: unknown option, or it lacks its value; see objmig --help", a);
            }
            k += used - 1;
        } else if (ret->path == NULL) {
            ret->path = a;
        } else {
            return 1 + complain(argv[0], "%s: one path only", a);
        }
    }
    if (ret->path == NULL && ret->cache_dir == NULL) {
        return 1 + complain(argv[0], "give a path in a mount, or --cache DIR");
    }
    if (ret->path != NULL && ret->cache_dir != NULL) {
        return 1 + complain(argv[0], "give a path or --cache, not both");
    }
    return 0;
}

/* NULL when the path has no such attribute; errno says why. */
static char *xattr(const char *path, const char *name)
{
    char value[PATH_MAX];
    ssize_t n = getxattr(path, name, value, sizeof(value));

    return n < 0 ? NULL : mem_strndup(value, (size_t)n);
}

static int find_path(struct client *c, const char *path, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *socket_path = xattr(path, "user.objmig.socket");

    if (socket_path == NULL) {
        if (errno == ENOTCONN || errno == ECONNABORTED) {
            return err_set(reterr, ERR_INVALID, -ENOTCONN,
                           "%s: its daemon is dead; mount it again, or ask with --cache DIR", path);
        }
        if (errno == ENODATA || errno == EOPNOTSUPP) {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "%s: not in an objmig mount; name a path in one, or --cache DIR", path);
        }
        return err_set_errno(reterr, errno, "%s", path);
    }
    c->remote = xattr(path, "user.objmig.remote");
    c->prefix = xattr(path, "user.objmig.key");
    char *slash = strrchr(socket_path, '/');
    if (slash == NULL) {
        return err_set(reterr, ERR_BUG, -EPROTO, "%s: the mount names no control socket", path);
    }
    *slash = '\0';
    c->cache_dir = mem_strdup(socket_path);
    return 0;
}

/* By way of the directory's descriptor: a path may be longer than sun_path. */
static int dial(const char *dir, struct errinfo *reterr)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CLEANUP(mem_closep) int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(mem_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (dir_fd < 0 || fd < 0) {
        return err_set_errno(reterr, errno, "cache directory %s", dir);
    }
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, dir_fd);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        if (errno == ENOENT || errno == ECONNREFUSED) {
            return -ECONNREFUSED;
        }
        return err_set(reterr, ERR_LOCAL, -errno, "cache directory %s: %s", dir,
                       errno == EACCES ? "only root and the user who mounted may ask"
                                       : strerror(errno));
    }
    int r = fd;
    fd = -1;
    return r;
}

int client_open(struct client *c, const struct common *o, struct errinfo *reterr)
{
    int r = 0;

    *c = (struct client){.fd = -1};
    if (o->path != NULL) {
        r = find_path(c, o->path, reterr);
    } else {
        c->cache_dir = mem_strdup(o->cache_dir);
    }
    c->where = mem_strdup(o->path != NULL ? o->path : o->cache_dir);
    if (r == 0) {
        r = dial(c->cache_dir, reterr);
        if (r >= 0) {
            c->fd = r;
            r = 0;
        } else if (r == -ECONNREFUSED) {
            r = 0; /* no daemon: the journal answers */
        }
    }
    if (r < 0) {
        client_close(c);
    }
    return r;
}

void client_close(struct client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    buf_fini(&c->in);
    free(c->cache_dir);
    free(c->where);
    free(c->remote);
    free(c->prefix);
    *c = (struct client){.fd = -1};
}

static int send_line(int fd, const json_t *msg)
{
    CLEANUP(mem_freep) char *text = json_dumps(msg, JSON_COMPACT);

    if (text == NULL) {
        return -ENOMEM;
    }
    size_t len = strlen(text), at = 0;
    text[len] = '\n'; /* where the NUL was */
    while (at <= len) {
        ssize_t n = send(fd, text + at, len + 1 - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int recv_line(struct client *c, json_t **ret)
{
    for (;;) {
        char piece[16384];
        char *end = c->in.len > 0 ? memchr(c->in.data, '\n', c->in.len) : NULL;

        if (end != NULL) {
            size_t len = (size_t)(end - c->in.data);
            json_error_t err;
            *ret = json_loadb(c->in.data, len, 0, &err);
            memmove(c->in.data, end + 1, c->in.len - len - 1);
            c->in.len -= len + 1;
            return *ret != NULL ? 0 : -EPROTO;
        }
        ssize_t n = recv(c->fd, piece, sizeof(piece), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return -ETIMEDOUT;
        }
        if (n <= 0) {
            return -EPIPE;
        }
        int r = buf_add(&c->in, piece, (size_t)n);
        if (r < 0) {
            return r;
        }
    }
}

void client_patience(struct client *c, unsigned seconds)
{
    const struct timeval t = {.tv_sec = seconds};

    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    (void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

int client_call(struct client *c, const char *cmd, json_t *extra, json_t **ret_answer,
                struct errinfo *reterr)
{
    json_t *req = extra != NULL ? extra : json_object(), *answer = NULL;

    json_object_set_new(req, "cmd", json_string(cmd));
    if (c->remote != NULL) {
        struct buf prefix = BUF_INIT;
        json_object_set_new(req, "remote", json_string(c->remote));
        if (c->prefix != NULL && url_encode(&prefix, c->prefix, strlen(c->prefix), true) == 0) {
            json_object_set_new(req, "prefix", json_string(buf_str(&prefix)));
        }
        buf_fini(&prefix);
    }
    int r = send_line(c->fd, req);
    json_decref(req);
    if (r == 0) {
        r = recv_line(c, &answer);
    }
    if (r < 0) {
        return err_set(reterr, ERR_LOCAL, r == -ECONNRESET ? -EPIPE : r,
                       r == -ETIMEDOUT ? "the daemon of %s does not answer"
                                       : "the daemon of %s has ended",
                       c->cache_dir);
    }
    if (!json_is_true(json_object_get(answer, "ok"))) {
        const char *text = json_string_value(json_object_get(answer, "error"));
        r = err_set(reterr, ERR_LOCAL, -EIO, "%s", text != NULL ? text : "refused");
        json_decref(answer);
        return r;
    }
    *ret_answer = answer;
    return 0;
}
