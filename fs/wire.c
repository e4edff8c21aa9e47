/* See wire.h. */
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "mem.h"

/* ---- sockets ---- */

/* By way of the directory's descriptor: a path may be longer than sun_path. */
static int socket_at(const char *cache_dir, struct sockaddr_un *ret, int *ret_dir_fd)
{
    int dir_fd = open(cache_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (dir_fd < 0) {
        return -errno;
    }
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/" WIRE_SOCKET, dir_fd);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        int err = -errno;
        close(dir_fd);
        return err;
    }
    *ret_dir_fd = dir_fd;
    return fd;
}

int wire_connect(const char *cache_dir, struct wire *ret)
{
    struct sockaddr_un addr;
    CLEANUP(mem_closep) int dir_fd = -1;
    int fd = socket_at(cache_dir, &addr, &dir_fd);

    if (fd < 0) {
        return fd;
    }
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    *ret = (struct wire){.fd = fd, .in = BUF_INIT_MAX(WIRE_LINE_MAX)};
    return 0;
}

int wire_listen(const char *cache_dir, int *ret_fd)
{
    struct sockaddr_un addr;
    CLEANUP(mem_closep) int dir_fd = -1;
    CLEANUP(mem_closep) int fd = socket_at(cache_dir, &addr, &dir_fd);

    if (fd < 0) {
        return fd;
    }
    if (unlinkat(dir_fd, WIRE_SOCKET, 0) < 0 && errno != ENOENT) {
        return -errno;
    }
    mode_t old = umask(0177);
    int r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0 ? -errno : 0;
    umask(old);
    if (r == 0) {
        *ret_fd = fd;
        fd = -1;
    }
    return r;
}

void wire_close(struct wire *w)
{
    if (w->fd >= 0) {
        close(w->fd);
    }
    if (w->in.data != NULL) {
        explicit_bzero(w->in.data, w->in.cap);
    }
    buf_fini(&w->in);
    w->fd = -1;
}

int wire_send(struct wire *w, const json_t *msg)
{
    char *text = json_dumps(msg, JSON_COMPACT);
    int r = 0;

    if (text == NULL) {
        return -ENOMEM;
    }
    size_t len = strlen(text), at = 0;
    text[len] = '\n'; /* where the NUL was */
    while (r == 0 && at <= len) {
        ssize_t n = send(w->fd, text + at, len + 1 - at, MSG_NOSIGNAL);
        if (n >= 0) {
            at += (size_t)n;
        } else if (errno != EINTR) {
            r = -errno;
        }
    }
    explicit_bzero(text, len);
    free(text);
    return r;
}

int wire_recv(struct wire *w, json_t **ret_msg)
{
    for (;;) {
        char *end = w->in.len > 0 ? memchr(w->in.data, '\n', w->in.len) : NULL;
        char piece[4096];

        if (end != NULL) {
            size_t len = (size_t)(end - w->in.data), left = w->in.len - len - 1;
            json_error_t err;
            json_t *j = json_loadb(w->in.data, len, JSON_REJECT_DUPLICATES, &err);

            memmove(w->in.data, end + 1, left);
            explicit_bzero(w->in.data + left, len + 1);
            w->in.len = left;
            if (!json_is_object(j)) {
                json_decref(j);
                return -EPROTO;
            }
            *ret_msg = j;
            return 0;
        }
        ssize_t n = recv(w->fd, piece, sizeof(piece), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? -EPIPE : -errno;
        }
        int r = buf_add(&w->in, piece, (size_t)n);
        explicit_bzero(piece, sizeof(piece));
        if (r < 0) {
            return r;
        }
    }
}

json_t *wire_error(int status, const char *text)
{
    json_t *j = json_pack("{s:b, s:i, s:s}", "ok", 0, "status", status, "error", text);

    if (j == NULL) { /* a name in it is not UTF-8 */
        j = json_pack("{s:b, s:i, s:s}", "ok", 0, "status", status, "error", strerror(-status));
    }
    return j;
}

int wire_call(struct wire *w, const json_t *msg, json_t **ret_answer, struct errinfo *reterr)
{
    json_t *answer = NULL;
    int r = wire_send(w, msg);

    if (r == 0) {
        r = wire_recv(w, &answer);
    }
    if (r < 0) {
        return err_set(reterr, ERR_LOCAL, r, "the daemon does not answer (%s); its log says why",
                       strerror(-r));
    }
    if (!json_is_true(json_object_get(answer, "ok"))) {
        const char *text = json_string_value(json_object_get(answer, "error"));
        int status = (int)json_integer_value(json_object_get(answer, "status"));

        r = err_set(reterr, ERR_LOCAL, status < 0 ? status : -EIO, "%s",
                    text != NULL ? text : "refused");
        json_decref(answer);
        return r;
    }
    *ret_answer = answer;
    return 0;
}

/* ---- remotes ---- */

#define STRINGS(X)                                                                                 \
    X(name)                                                                                        \
    X(provider) X(bucket) X(region) X(prefix) X(endpoint) X(path) X(urllist) X(access_key_id)      \
        X(connect_to) X(domain) X(proxy_host) X(storage_class) X(encryption) X(signature)
#define SECRETS(X) X(access_key_secret) X(security_token)
#define BOOLS(X) X(https) X(path_style)
#define NUMBERS(X)                                                                                 \
    X(proxy_port)                                                                                  \
    X(small_file_threshold) X(part_size) X(small_slots) X(big_slots) X(request_timeout_ms)         \
        X(request_try_count) X(list_version) X(limits.max_copy) X(limits.max_put)                  \
            X(limits.max_part) X(limits.min_part)

/* A field added to conf.h must be added above. */
_Static_assert(sizeof(void *) != 8 || sizeof(struct conf_remote) == 240,
               "conf_remote changed: see above");

/* Strings of the configuration are bytes; JSON wants UTF-8. */
static void set_bytes(json_t *j, const char *name, const char *s)
{
    if (s != NULL) {
        struct buf out = BUF_INIT;
        if (url_encode(&out, s, strlen(s), true) == 0) {
            json_object_set_new(j, name, json_string(buf_str(&out)));
        }
        if (out.data != NULL) {
            explicit_bzero(out.data, out.cap);
        }
        buf_fini(&out);
    }
}

static char *get_bytes(const json_t *j, const char *name)
{
    const char *s = json_string_value(json_object_get(j, name));
    struct buf out = BUF_INIT;

    if (s == NULL || url_decode(&out, s, strlen(s), false) < 0) {
        buf_fini(&out);
        return NULL;
    }
    return out.data != NULL ? buf_take(&out) : mem_strdup("");
}

json_t *wire_kv(const struct kvlist *l)
{
    json_t *j = json_object();

    for (size_t k = 0; k < l->n; k++) {
        set_bytes(j, l->items[k].name, l->items[k].value);
    }
    return j;
}

void wire_kv_parse(const json_t *j, struct kvlist *ret)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)j, name, value)
    {
        char *s = get_bytes(j, name);
        if (s != NULL) {
            kv_set(ret, name, s);
        }
        free(s);
    }
}

json_t *wire_remote(const struct conf_remote *r)
{
    json_t *j = json_object();

#define X(f) set_bytes(j, #f, r->f);
    STRINGS(X)
#undef X
#define X(f) set_bytes(j, #f, r->f != NULL ? r->f->bytes : NULL);
    SECRETS(X)
#undef X
#define X(f) json_object_set_new(j, #f, json_boolean(r->f));
    BOOLS(X)
#undef X
#define X(f) json_object_set_new(j, #f, json_integer((json_int_t)r->f));
    NUMBERS(X)
#undef X
    json_object_set_new(j, "file_md5", json_integer(r->file_md5));
    json_object_set_new(j, "defaults", wire_kv(&r->defaults));
    return j;
}

struct conf *wire_remote_parse(const json_t *j)
{
    struct conf_remote *r = mem_zalloc(sizeof(*r));
    struct conf *c = mem_zalloc(sizeof(*c));
    bool ok = true;
    char *s;

#define X(f)                                                                                       \
    r->f = get_bytes(j, #f);                                                                       \
    if (r->f == NULL) {                                                                            \
        r->f = mem_strdup("");                                                                     \
    }
    STRINGS(X)
#undef X
#define X(f)                                                                                       \
    s = get_bytes(j, #f);                                                                          \
    if (s != NULL) {                                                                               \
        r->f = secret_new(s);                                                                      \
        explicit_bzero(s, strlen(s));                                                              \
        free(s);                                                                                   \
    }
    SECRETS(X)
#undef X
#define X(f) r->f = json_is_true(json_object_get(j, #f));
    BOOLS(X)
#undef X
#define X(f)                                                                                       \
    ok = ok && json_is_integer(json_object_get(j, #f));                                            \
    r->f = (__typeof__(r->f))json_integer_value(json_object_get(j, #f));
    NUMBERS(X)
#undef X
    r->file_md5 = (enum conf_md5)json_integer_value(json_object_get(j, "file_md5"));
    wire_kv_parse(json_object_get(j, "defaults"), &r->defaults);
    c->file = mem_strdup("");
    c->remotes = mem_zalloc(sizeof(*c->remotes));
    c->remotes[0] = r;
    c->n_remotes = 1;
    if (!ok || r->name[0] == '\0' || r->provider[0] == '\0') {
        conf_free(c);
        return NULL;
    }
    return c;
}

static bool is_credential(const char *name)
{
    return strcmp(name, "access_key_id") == 0 || strcmp(name, "access_key_secret") == 0 ||
           strcmp(name, "security_token") == 0;
}

const char *wire_remote_differs(const json_t *a, const json_t *b, bool credentials)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)a, name, value)
    {
        if (is_credential(name) == credentials && !json_equal(value, json_object_get(b, name))) {
            return name;
        }
    }
    json_object_foreach((json_t *)(uintptr_t)b, name, value)
    {
        if (is_credential(name) == credentials && json_object_get(a, name) == NULL) {
            return name;
        }
    }
    return NULL;
}
