#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "mem.h"
#include "ops.h"
#include "stats.h"
#include "text.h"

#define HEAD_MAX 65536
#define READ_AT_ONCE (256u << 10) /* hashed while it is in the processor's cache */
#define WRITE_AT_ONCE (1u << 20)  /* then it is another connection's turn */
#define IOV_AT_ONCE 16
#define NS_PER_S INT64_C(1000000000)

enum state {
    ST_HEAD,     /* reading a request's head */
    ST_BODY,     /* its body; into call.body, or to nowhere when there is an answer already */
    ST_CONTINUE, /* waiting to send "100 Continue" */
    ST_WAIT,     /* waiting to send the answer */
    ST_WRITE,
};

struct worker {
    struct server *server;
    int epoll;
    struct conn **waiting; /* heap, the first due is the first */
    size_t n_waiting, cap;
    pthread_t thread;
};

/* Belongs to one worker's thread once it is in its epoll. */
struct conn {
    int fd;
    struct worker *worker;
    const struct listener *listener;
    int64_t opened_ns, begun_ns;
    enum state state;
    uint32_t interest;
    size_t in_len, head_len;
    struct request request; /* points into `in` */
    struct call call;
    struct response response;
    uint64_t body_got;
    EVP_MD_CTX *md5, *sha256;
    struct buf head;
    uint64_t sent, total; /* of the answer */
    bool counted;
    int64_t due_ns;
    size_t heap_at;
    char in[HEAD_MAX];
};

static int64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* --- those who wait --- */

static void heap_set(struct worker *w, size_t i, struct conn *c)
{
    w->waiting[i] = c;
    c->heap_at = i;
}

static void heap_up(struct worker *w, size_t i)
{
    struct conn *c = w->waiting[i];
    while (i > 0 && w->waiting[(i - 1) / 2]->due_ns > c->due_ns) {
        heap_set(w, i, w->waiting[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(w, i, c);
}

static void heap_down(struct worker *w, size_t i)
{
    struct conn *c = w->waiting[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < w->n_waiting && w->waiting[child + 1]->due_ns < w->waiting[child]->due_ns) {
            child++;
        }
        if (child >= w->n_waiting || w->waiting[child]->due_ns >= c->due_ns) {
            break;
        }
        heap_set(w, i, w->waiting[child]);
        i = child;
    }
    heap_set(w, i, c);
}

static void heap_add(struct worker *w, struct conn *c)
{
    if (w->n_waiting == w->cap) {
        w->cap = w->cap > 0 ? 2 * w->cap : 64;
        w->waiting = mem_realloc(w->waiting, w->cap * sizeof(struct conn *));
    }
    w->waiting[w->n_waiting] = c;
    heap_up(w, w->n_waiting++);
}

static void heap_remove(struct worker *w, struct conn *c)
{
    size_t i = c->heap_at;
    struct conn *last = w->waiting[--w->n_waiting];
    if (last != c) {
        heap_set(w, i, last);
        heap_up(w, i);
        heap_down(w, last->heap_at);
    }
}

/* --- a connection --- */

static void end_request(struct conn *c)
{
    call_fini(&c->call);
    response_fini(&c->response);
    buf_clear(&c->head);
}

static void conn_close(struct conn *c)
{
    if (c->state == ST_WAIT || c->state == ST_CONTINUE) {
        heap_remove(c->worker, c);
    }
    if (c->state != ST_HEAD) {
        if (c->call.kind != OP_CONTROL && !c->counted) {
            stats_request_ends();
        }
        end_request(c);
    }
    close(c->fd);
    EVP_MD_CTX_free(c->md5);
    EVP_MD_CTX_free(c->sha256);
    buf_fini(&c->head);
    free(c);
}

static void want(struct conn *c, uint32_t interest)
{
    if (c->interest != interest) {
        struct epoll_event e = {.events = interest, .data.ptr = c};
        ENSURE(epoll_ctl(c->worker->epoll, EPOLL_CTL_MOD, c->fd, &e) == 0);
        c->interest = interest;
    }
}

static void wait_for(struct conn *c, enum state state)
{
    int64_t rtt = c->listener->rtt_ns;
    int64_t now = now_ns();
    c->state = state;
    c->due_ns = MAX(now, c->opened_ns + rtt) + rtt;
    stats_add(&stats.delay_us, (uint64_t)(c->due_ns - now) / 1000);
    heap_add(c->worker, c);
    want(c, 0);
}

static void log_request(const struct conn *c)
{
    FILE *f = c->worker->server->log;
    if (f) {
        int64_t now = now_ns();
        (void)fprintf(
            f,
            "{\"t_us\":%lld,\"took_us\":%lld,\"method\":\"%s\",\"op\":\"%s\",\"status\":%d,"
            "\"req_bytes\":%llu,\"res_bytes\":%llu,\"target\":\"%s\"}\n",
            (long long)c->begun_ns / 1000, (long long)(now - c->begun_ns) / 1000, c->request.method,
            op_names[c->call.kind], c->response.status, (unsigned long long)c->request.body_len,
            (unsigned long long)(c->total - c->head.len), c->request.path);
    }
}

/* Before its last bytes leave: who has an answer finds it counted. */
static void count_request(struct conn *c)
{
    enum kind k = c->call.kind;
    c->counted = true;
    if (k == OP_CONTROL) {
        if (c->worker->server->log) {
            (void)fflush(c->worker->server->log);
        }
        return;
    }
    stats_request_ends();
    stats_add(&stats.n[k], 1);
    stats_add(&stats.in[k], c->head_len + c->request.body_len);
    stats_add(&stats.out[k], c->total);
    stats_add(&stats.errors, c->response.status >= 400);
    log_request(c);
}

/* Up to `max` bytes of what is still to be sent. */
static size_t remaining(const struct conn *c, struct iovec iov[IOV_AT_ONCE], size_t max)
{
    const struct response *r = &c->response;
    uint64_t skip = c->sent;
    size_t n = 0;
    for (size_t i = 0; i < 2 + r->data.n && n < IOV_AT_ONCE && max > 0; i++) {
        const char *p = i == 0 ? c->head.data : r->body.data;
        size_t len = i == 0 ? c->head.len : r->body.len;
        if (i >= 2) {
            const struct seg *g = &r->data.items[i - 2];
            p = g->blob->data + g->offset;
            len = g->len;
        }
        if (skip >= len) {
            skip -= len;
            continue;
        }
        size_t take = MIN(len - (size_t)skip, max);
        iov[n++] = (struct iovec){(void *)(uintptr_t)(p + skip), take};
        skip = 0;
        max -= take;
    }
    return n;
}

/* The next three return whether the connection can go on at once; false: it waits, or is closed. */
static bool conn_write(struct conn *c)
{
    struct iovec iov[IOV_AT_ONCE];
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = remaining(c, iov, WRITE_AT_ONCE)};
    uint64_t end = c->sent;
    for (size_t i = 0; i < m.msg_iovlen; i++) {
        end += iov[i].iov_len;
    }
    if (end == c->total && !c->counted) {
        count_request(c);
    }
    ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        conn_close(c);
        return false;
    }
    c->sent += n > 0 ? (uint64_t)n : 0;
    if (c->sent < c->total) {
        want(c, EPOLLOUT);
        return false;
    }
    bool ends = c->response.ends;
    size_t used = c->head_len;
    end_request(c);
    c->state = ST_HEAD;
    if (ends) {
        conn_close(c);
        return false;
    }
    /* What of the body came with the head has been taken out of `in` already. */
    memmove(c->in, c->in + used, c->in_len - used);
    c->in_len -= used;
    c->head_len = 0;
    return true;
}

static bool respond(struct conn *c)
{
    struct response *r = &c->response;
    uint64_t len = r->body.len + r->data.size;
    char date[40];
    text_http_date(now_ms(), date);
    ENSURE(buf_addf(&c->head,
                    "HTTP/1.1 %d %s\r\nDate: %s\r\nServer: s3fast\r\nx-amz-request-id: s3fast\r\n",
                    r->status, status_text(r->status), date) == 0);
    if (r->status != 204 && r->status != 304) {
        ENSURE(buf_addf(&c->head, "Content-Length: %llu\r\n",
                        (unsigned long long)(r->is_head ? r->shown_len : len)) == 0);
    }
    if (r->ends) {
        ENSURE(buf_adds(&c->head, "Connection: close\r\n") == 0);
    }
    ENSURE(buf_adds(&c->head, buf_str(&r->headers)) == 0 && buf_adds(&c->head, "\r\n") == 0);
    c->total = c->head.len + len;
    c->sent = 0;
    if (c->listener->rtt_ns > 0 && c->call.kind != OP_CONTROL) {
        wait_for(c, ST_WAIT);
        return false;
    }
    c->state = ST_WRITE;
    return true;
}

/* --- bodies --- */

static void hash_init(EVP_MD_CTX **ctx, bool wanted, const EVP_MD *md)
{
    if (wanted) {
        *ctx = *ctx ? *ctx : EVP_MD_CTX_new();
        ENSURE(*ctx && EVP_DigestInit_ex(*ctx, md, NULL) == 1);
    }
}

static void hash_update(struct conn *c, const char *p, size_t n)
{
    if (c->call.wants_md5) {
        ENSURE(EVP_DigestUpdate(c->md5, p, n) == 1);
    }
    if (c->call.sha256) {
        ENSURE(EVP_DigestUpdate(c->sha256, p, n) == 1);
    }
}

static void hash_final(struct conn *c)
{
    uint8_t hash[32];
    if (c->call.wants_md5) {
        ENSURE(EVP_DigestFinal_ex(c->md5, c->call.body_md5, NULL) == 1);
    }
    if (c->call.sha256) {
        ENSURE(EVP_DigestFinal_ex(c->sha256, hash, NULL) == 1);
        hex_encode(hash, sizeof(hash), c->call.body_sha256);
    }
}

static bool body_done(struct conn *c)
{
    if (c->response.status == 0) {
        hash_final(c);
        ops_run(&c->call, &c->response);
    }
    return respond(c);
}

/* The part of the body which came together with the head; behind it may be the next request. */
static void take_early_bytes(struct conn *c)
{
    size_t n = (size_t)MIN((uint64_t)(c->in_len - c->head_len), c->request.body_len);
    if (c->call.body) {
        memcpy(c->call.body->data, c->in + c->head_len, n);
        hash_update(c, c->call.body->data, n);
    }
    memmove(c->in + c->head_len, c->in + c->head_len + n, c->in_len - c->head_len - n);
    c->in_len -= n;
    c->body_got = n;
}

static bool conn_body(struct conn *c)
{
    char nowhere[16384];
    while (c->body_got < c->request.body_len) {
        uint64_t left = c->request.body_len - c->body_got;
        char *to = c->call.body ? c->call.body->data + c->body_got : nowhere;
        size_t max = c->call.body ? READ_AT_ONCE : sizeof(nowhere);
        ssize_t n = recv(c->fd, to, (size_t)MIN(left, (uint64_t)max), 0);
        if (n < 0 && errno == EAGAIN) {
            want(c, EPOLLIN);
            return false;
        }
        if (n <= 0) {
            conn_close(c);
            return false;
        }
        if (c->call.body) {
            hash_update(c, to, (size_t)n);
        }
        c->body_got += (uint64_t)n;
    }
    return body_done(c);
}

/* --- heads --- */

static bool bad_request(struct conn *c)
{
    c->call = (struct call){.kind = OP_OTHER};
    c->request.method = c->request.path = (char *)(uintptr_t) "-";
    c->request.body_len = 0;
    c->response.ends = true;
    response_error(&c->response, "InvalidRequest", "no HTTP/1.1 request");
    stats_request_begins();
    return respond(c);
}

static bool begin_request(struct conn *c)
{
    c->begun_ns = now_ns();
    c->counted = false;
    if (!request_parse(&c->request, c->in, c->head_len)) {
        return bad_request(c);
    }
    struct request *r = &c->request;
    ops_begin(&c->call, r, &c->worker->server->keys, &c->response);
    if (c->call.kind != OP_CONTROL) {
        stats_request_begins();
    }
    c->state = ST_BODY;
    if (c->response.status == 0) {
        if (r->body_len > 0) {
            c->call.body = blob_new(r->body_len + 1); /* and a NUL, for XML */
            if (!c->call.body) {
                response_error(&c->response, "InternalError", "no memory");
            } else {
                c->call.body->data[r->body_len] = '\0';
                c->call.body->len = r->body_len;
            }
        }
        hash_init(&c->md5, c->call.wants_md5, EVP_md5());
        hash_init(&c->sha256, c->call.sha256 != NULL, EVP_sha256());
    }
    take_early_bytes(c);
    if (c->response.status != 0 && r->expects_continue) {
        c->response.ends = true; /* whether the body comes is not known */
        return respond(c);
    }
    /* Also without a body, as S3 does: awscli goes astray on a connection where it was left out
     * once. */
    if (r->expects_continue && (c->body_got < r->body_len || r->body_len == 0)) {
        wait_for(c, ST_CONTINUE);
        return false;
    }
    return true;
}

static bool conn_head(struct conn *c)
{
    for (;;) {
        char *end = c->in_len >= 4 ? memmem(c->in, c->in_len, "\r\n\r\n", 4) : NULL;
        if (end) {
            c->head_len = (size_t)(end - c->in) + 4;
            return begin_request(c);
        }
        if (c->in_len == HEAD_MAX) {
            c->head_len = c->in_len;
            return bad_request(c);
        }
        ssize_t n = recv(c->fd, c->in + c->in_len, HEAD_MAX - c->in_len, 0);
        if (n < 0 && errno == EAGAIN) {
            want(c, EPOLLIN);
            return false;
        }
        if (n <= 0) {
            conn_close(c);
            return false;
        }
        c->in_len += (size_t)n;
    }
}

static void conn_step(struct conn *c)
{
    bool on = true;
    while (on) {
        switch (c->state) {
        case ST_HEAD:
            on = conn_head(c);
            break;
        case ST_BODY:
            on = conn_body(c);
            break;
        case ST_WRITE:
            on = conn_write(c);
            break;
        case ST_CONTINUE:
        case ST_WAIT:
            on = false;
        }
    }
}

static void conn_is_due(struct conn *c)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    heap_remove(c->worker, c);
    if (c->state == ST_WAIT) {
        c->state = ST_WRITE;
    } else {
        c->state = ST_BODY;
        if (send(c->fd, go_on, sizeof(go_on) - 1, MSG_NOSIGNAL) != sizeof(go_on) - 1) {
            conn_close(c);
            return;
        }
    }
    conn_step(c);
}

/* --- threads --- */

static void *work(void *arg)
{
    struct worker *w = arg;
    for (;;) {
        struct epoll_event events[64];
        int64_t left = w->n_waiting > 0 ? MAX(w->waiting[0]->due_ns - now_ns(), 0) : 0;
        struct timespec t = {left / NS_PER_S, left % NS_PER_S};
        int n =
            epoll_pwait2(w->epoll, events, ARRAY_LEN(events), w->n_waiting > 0 ? &t : NULL, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & (EPOLLERR | EPOLLHUP)) {
                conn_close(c);
            } else {
                conn_step(c);
            }
        }
        while (w->n_waiting > 0 && w->waiting[0]->due_ns <= now_ns()) {
            conn_is_due(w->waiting[0]);
        }
    }
    return NULL;
}

static void take_connection(struct worker *w, const struct listener *l)
{
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    struct conn *c = fd >= 0 ? malloc(sizeof(*c)) : NULL;
    if (!c) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    memset(c, 0, offsetof(struct conn, in));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->fd = fd;
    c->worker = w;
    c->listener = l;
    c->opened_ns = now_ns();
    c->interest = EPOLLIN;
    stats_add(&stats.connections, 1);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    ENSURE(epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &e) == 0);
}

_Noreturn void server_run(struct server *s)
{
    struct worker *workers = mem_zalloc(s->n_threads * sizeof(*workers));
    struct pollfd fds[ARRAY_LEN(s->listeners)];
    for (unsigned i = 0; i < s->n_threads; i++) {
        workers[i].server = s;
        workers[i].epoll = epoll_create1(EPOLL_CLOEXEC);
        ENSURE(workers[i].epoll >= 0);
        ENSURE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (size_t i = 0; i < s->n_listeners; i++) {
        fds[i] = (struct pollfd){.fd = s->listeners[i].fd, .events = POLLIN};
    }
    for (unsigned next = 0;;) {
        (void)poll(fds, s->n_listeners, -1);
        for (size_t i = 0; i < s->n_listeners; i++) {
            if (fds[i].revents & POLLIN) {
                take_connection(&workers[next++ % s->n_threads], &s->listeners[i]);
            }
        }
    }
}
