/* The control socket: requests of mount.objmig and objmig. One thread a connection, since an attach
 * blocks.
 *
 *     {"cmd": "attach", …}       → what is needed to mount; then
 *     {"cmd": "attached", "done": true | false}
 *     {"cmd": "recorded"}        → attachments of an earlier run
 *     {"cmd": "forget", "paths"} drops one of them
 *     {"cmd": "status" | "errors" | "metrics", "remote": R, "prefix": P}   → {"text": …}
 *     {"cmd": "progress", "remote", "prefix", "seq"}                       → counters
 *     {"cmd": "hurry", …}        → {"seq": now, "pid"}
 *     {"cmd": "retry" | "discard", …}                                      → {"n": keys}
 *     {"cmd": "restore", "remote", "prefix", "days", "tier", "cursor"}     → counters of one page, and the next cursor
 *     {"cmd": "stop"}            as SIGTERM
 *
 * prefix is percent-encoded and a full key prefix; without "remote" the scope is everything. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"
#include "mem.h"

struct conn {
    struct daemon_state *d;
    struct wire w;
    size_t slot;
    struct attach_ticket ticket;
};

struct scope {
    struct cscope s;
    struct buf prefix;
};

static int get_scope(struct conn *c, const json_t *req, struct scope *ret, struct errinfo *reterr)
{
    const char *remote = json_string_value(json_object_get(req, "remote"));
    const char *prefix = json_string_value(json_object_get(req, "prefix"));

    *ret = (struct scope){0};
    if (remote == NULL || *remote == '\0') {
        return 0;
    }
    ret->s.remote = cache_remote_find(c->d->cache, remote);
    if (ret->s.remote == NULL) {
        return err_set(reterr, ERR_INVALID, -ENOENT, "remote %.80s is not mounted", remote);
    }
    if (prefix != NULL && url_decode(&ret->prefix, prefix, strlen(prefix), false) < 0) {
        return err_set(reterr, ERR_BUG, -EPROTO, "malformed prefix");
    }
    ret->s.prefix = buf_str(&ret->prefix);
    return 0;
}

static json_t *text_answer(struct buf *text)
{
    json_t *j = json_pack("{s:b, s:s}", "ok", 1, "text", buf_str(text));

    return j != NULL ? j : wire_error(-EILSEQ, "the report is not UTF-8");
}

static json_t *report(struct conn *c, const char *cmd, const struct cscope *s)
{
    struct buf text = BUF_INIT;
    int r = strcmp(cmd, "status") == 0   ? cache_status(c->d->cache, s, &text)
            : strcmp(cmd, "errors") == 0 ? cache_errors(c->d->cache, s, &text)
                                         : cache_metrics(c->d->cache, &text);
    json_t *j = r < 0 ? wire_error(r, strerror(-r)) : text_answer(&text);

    buf_fini(&text);
    return j;
}

static json_t *progress(struct conn *c, const struct cscope *s, const json_t *req)
{
    const json_t *seq = json_object_get(req, "seq");
    struct cprogress p = {0};

    cache_progress(c->d->cache, s,
                   json_is_integer(seq) ? (uint64_t)json_integer_value(seq) : UINT64_MAX, &p);
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "ok", 1, "files_left",
                     (json_int_t)p.files_left, "bytes_left", (json_int_t)p.bytes_left, "files_done",
                     (json_int_t)p.files_done, "bytes_done", (json_int_t)p.bytes_done, "failed",
                     (json_int_t)p.failed, "open_files", (json_int_t)p.open_files, "unfinished",
                     (json_int_t)p.unfinished, "waiting", (json_int_t)p.waiting);
}

static json_t *change(struct conn *c, const char *cmd, const struct cscope *s)
{
    unsigned n = 0;
    int r = strcmp(cmd, "retry") == 0 ? cache_retry(c->d->cache, s, &n)
                                      : cache_discard(c->d->cache, s, &n);

    log_notice("control", "command=%s prefix=%s keys=%u status=%d", cmd,
               s->prefix != NULL ? s->prefix : "", n, r);
    return r < 0 ? wire_error(r, strerror(-r)) : json_pack("{s:b, s:i}", "ok", 1, "n", (int)n);
}

static json_t *restore(struct conn *c, const struct cscope *s, const json_t *req)
{
    const char *cursor = json_string_value(json_object_get(req, "cursor"));
    json_int_t days = json_integer_value(json_object_get(req, "days"));
    struct crestore r = {.days = days > 0 && days <= INT_MAX ? (unsigned)days : 0,
                         .tier = json_string_value(json_object_get(req, "tier")),
                         .cursor = cursor != NULL ? mem_strdup(cursor) : NULL};
    struct errinfo err = {0};
    char line[640];
    struct buf key = BUF_INIT;

    int e = cache_restore(c->d->cache, s, &r, &err);
    if (e == 0 && r.err_key != NULL) {
        e = url_encode(&key, r.err_key, strlen(r.err_key), true);
    }
    json_t *j = e < 0 ? wire_error(e, err.cls != ERR_NONE ? err_format(&err, line, sizeof(line)) : strerror(-e))
                      : json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s?}", "ok", 1, "seen",
                                  (json_int_t)r.seen, "begun", (json_int_t)r.begun, "under_way",
                                  (json_int_t)r.under_way, "readable", (json_int_t)r.readable, "failed",
                                  (json_int_t)r.failed, "key", buf_str(&key), "error",
                                  r.failed > 0 ? err_format(&r.err, line, sizeof(line)) : "", "cursor", r.cursor);
    log_notice("control", "command=restore prefix=%s days=%u begun=%llu under_way=%llu failed=%llu status=%d",
               s->prefix != NULL ? s->prefix : "", r.days, (unsigned long long)r.begun,
               (unsigned long long)r.under_way, (unsigned long long)r.failed, e);
    buf_fini(&key);
    crestore_fini(&r);
    return j;
}

static json_t *attach(struct conn *c, const json_t *req)
{
    struct errinfo err = {0};
    json_t *answer = NULL;

    if (c->ticket.a != NULL) {
        return wire_error(-EBUSY, "the attach before is not finished");
    }
    int r = daemon_attach(c->d, req, &c->ticket, &answer, &err);
    if (r < 0) {
        char line[640];
        return wire_error(r, err.http_status != 0 ? err_format(&err, line, sizeof(line))
                                                  : err.message);
    }
    return answer;
}

static json_t *answer_to(struct conn *c, const json_t *req)
{
    const char *cmd = json_string_value(json_object_get(req, "cmd"));
    struct errinfo err = {0};
    struct scope scope;
    json_t *j;

    if (cmd == NULL) {
        return wire_error(-EPROTO, "no command");
    }
    if (strcmp(cmd, "attach") == 0) {
        return attach(c, req);
    }
    if (strcmp(cmd, "attached") == 0) {
        if (c->ticket.a != NULL) {
            daemon_attached(c->d, &c->ticket, json_is_true(json_object_get(req, "done")));
        }
        return json_pack("{s:b}", "ok", 1);
    }
    if (strcmp(cmd, "recorded") == 0) {
        return json_pack("{s:b, s:o}", "ok", 1, "list", daemon_recorded(c->d));
    }
    if (strcmp(cmd, "forget") == 0) {
        struct kvlist kv = {0};
        wire_kv_parse(json_object_get(req, "paths"), &kv);
        int r = kv_get(&kv, "dir") != NULL ? cache_attach_remove(c->d->cache, kv_get(&kv, "dir"))
                                           : -EPROTO;
        kv_fini(&kv);
        return r < 0 ? wire_error(r, strerror(-r)) : json_pack("{s:b}", "ok", 1);
    }
    if (strcmp(cmd, "stop") == 0) {
        mutex_lock(&c->d->lock);
        c->d->stop_asked = true;
        mutex_unlock(&c->d->lock);
        daemon_wake(c->d);
        return json_pack("{s:b, s:i}", "ok", 1, "pid", (int)getpid());
    }
    if (get_scope(c, req, &scope, &err) < 0) {
        j = wire_error(-EINVAL, err.message);
    } else if (strcmp(cmd, "status") == 0 || strcmp(cmd, "errors") == 0 ||
               strcmp(cmd, "metrics") == 0) {
        j = report(c, cmd, &scope.s);
    } else if (strcmp(cmd, "progress") == 0) {
        j = progress(c, &scope.s, req);
    } else if (strcmp(cmd, "hurry") == 0) {
        uint64_t seq = cache_seq(c->d->cache);
        cache_hurry(c->d->cache, &scope.s);
        j = json_pack("{s:b, s:I, s:i}", "ok", 1, "seq", (json_int_t)seq, "pid", (int)getpid());
    } else if (strcmp(cmd, "retry") == 0 || strcmp(cmd, "discard") == 0) {
        j = change(c, cmd, &scope.s);
    } else if (strcmp(cmd, "restore") == 0) {
        j = restore(c, &scope.s, req);
    } else {
        j = wire_error(-EOPNOTSUPP, "unknown command; are the programs of one version?");
    }
    buf_fini(&scope.prefix);
    return j;
}

static void *conn_main(void *arg)
{
    struct conn *c = arg;
    struct daemon_state *d = c->d;
    json_t *req;
    int r = 0;

    (void)pthread_setname_np(pthread_self(), "control");
    while (r == 0 && (r = wire_recv(&c->w, &req)) == 0) {
        json_t *answer = answer_to(c, req);
        json_decref(req);
        r = wire_send(&c->w, answer);
        json_decref(answer);
    }
    if (c->ticket.a != NULL) {
        daemon_attached(d, &c->ticket, false); /* the helper died half-way */
    }
    mutex_lock(&d->lock);
    d->conn_fds[c->slot] = -1;
    mutex_unlock(&d->lock);
    wire_close(&c->w);
    mutex_lock(&d->lock);
    d->n_conns--; /* the last touch of the daemon's memory is in this section */
    cond_broadcast(&d->cond);
    daemon_wake(d);
    mutex_unlock(&d->lock);
    free(c);
    return NULL;
}

int control_serve(struct daemon_state *d, int fd)
{
    struct conn *c = mem_zalloc(sizeof(*c));
    pthread_attr_t attr;
    pthread_t t;
    size_t slot = 0;

    c->d = d;
    c->w = (struct wire){.fd = fd, .in = BUF_INIT_MAX(WIRE_LINE_MAX)};
    mutex_lock(&d->lock);
    while (slot < ARRAY_LEN(d->conn_fds) && d->conn_fds[slot] >= 0) {
        slot++;
    }
    if (slot < ARRAY_LEN(d->conn_fds)) {
        d->conn_fds[slot] = fd;
        d->n_conns++;
    }
    mutex_unlock(&d->lock);
    c->slot = slot;
    int r = -EBUSY;
    if (slot < ARRAY_LEN(d->conn_fds)) {
        (void)pthread_attr_init(&attr);
        (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        r = -pthread_create(&t, &attr, conn_main, c);
        (void)pthread_attr_destroy(&attr);
        if (r < 0) {
            mutex_lock(&d->lock);
            d->conn_fds[slot] = -1;
            d->n_conns--;
            mutex_unlock(&d->lock);
        }
    }
    if (r < 0) {
        free(c);
    }
    return r;
}
