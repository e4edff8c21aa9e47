#include "http_events.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mem.h"
#include "sync.h"

#define AT_ONCE 64
#define NEVER INT64_MAX
#define UNSENT_MAX (256 << 10)

/* Between two requests on a kept connection curl asks for nothing and then for the same again. So a connection stays in the set as
 * it is until it reports what nobody wants, or is closed, when the kernel takes it out. Of other descriptors, which a resolver
 * may have, nobody tells when they are closed: they leave at once. */
struct watched {
    uint32_t want, have; /* EPOLL*; have: as the set has it, 0 = it is not in there */
    bool connection;
};

struct http_events {
    CURLM *multi;
    int epoll, wake;
    int64_t timer_ns; /* when curl wants to be called whatever happens */
    struct watched *fds; /* by number */
    size_t n_fds;
};

static struct watched *watched_at(struct http_events *v, curl_socket_t fd)
{
    size_t at = (size_t)fd;
    if (at >= v->n_fds) {
        size_t n = MAX(v->n_fds * 2, at + 64);
        v->fds = mem_realloc(v->fds, n * sizeof(v->fds[0]));
        for (size_t i = v->n_fds; i < n; i++) {
            v->fds[i] = (struct watched){0};
        }
        v->n_fds = n;
    }
    return &v->fds[at];
}

/* The set gets what is wanted. No memory for it in the kernel is no end: the timer, and the engine's own look at what stalls,
 * find the request. */
static void watch(struct http_events *v, int fd, struct watched *w)
{
    struct epoll_event ev = {.events = w->want, .data.fd = fd};
    int op = w->want == 0 ? EPOLL_CTL_DEL : w->have == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(v->epoll, op, fd, &ev) == 0) {
        w->have = w->want;
    } else if (op != EPOLL_CTL_ADD) {
        w->have = 0;
    }
}

static int on_want(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
    (void)easy;
    (void)unused;
    struct http_events *v = arg;
    struct watched *w = watched_at(v, fd);
    w->want = what == CURL_POLL_REMOVE ? 0 : (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (w->want != w->have && (w->want != 0 || !w->connection)) {
        watch(v, fd, w);
    }
    return 0;
}

static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    (void)purpose;
    struct http_events *v = arg;
    *watched_at(v, fd) = (struct watched){.connection = true};
    /* Else the kernel takes megabytes at once, and on a slow line nothing is seen to move until they are through: a stall that
     * is none. */
    int bytes = UNSENT_MAX;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
    return CURL_SOCKOPT_OK;
}

static int on_close(void *arg, curl_socket_t fd)
{
    struct http_events *v = arg;
    *watched_at(v, fd) = (struct watched){0};
    return close(fd);
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    (void)multi;
    struct http_events *v = arg;
    v->timer_ns = ms < 0 ? NEVER : time_mono_ns() + (int64_t)ms * 1000000;
    return 0;
}

int http_events_new(CURLM *multi, struct http_events **ret)
{
    struct http_events *v = mem_zalloc(sizeof(*v));
    v->multi = multi;
    v->timer_ns = NEVER;
    v->epoll = epoll_create1(EPOLL_CLOEXEC);
    v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = v->wake};
    if (v->epoll < 0 || v->wake < 0 || epoll_ctl(v->epoll, EPOLL_CTL_ADD, v->wake, &ev) < 0) {
        int err = -errno;
        http_events_free(v);
        return err;
    }
    ENSURE(curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_want) == CURLM_OK);
    ENSURE(curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, v) == CURLM_OK);
    ENSURE(curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK);
    ENSURE(curl_multi_setopt(multi, CURLMOPT_TIMERDATA, v) == CURLM_OK);
    *ret = v;
    return 0;
}

void http_events_free(struct http_events *v)
{
    if (v == NULL) {
        return;
    }
    if (v->wake >= 0) {
        (void)close(v->wake);
    }
    if (v->epoll >= 0) {
        (void)close(v->epoll);
    }
    free(v->fds);
    free(v);
}

void http_events_handle(struct http_events *v, CURL *easy)
{
    ENSURE(curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket) == CURLE_OK);
    ENSURE(curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, v) == CURLE_OK);
    ENSURE(curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close) == CURLE_OK);
    ENSURE(curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, v) == CURLE_OK);
}

/* Errors and hang-ups come whatever was asked for: curl finds out by doing what it wanted to. */
static void happened(struct http_events *v, const struct epoll_event *ev)
{
    int fd = ev->data.fd, running;
    struct watched *w = watched_at(v, fd);
    if (w->want == 0) {
        watch(v, fd, w); /* a kept connection that nobody uses: closed by its server, most likely */
        return;
    }
    uint32_t got = ev->events | (ev->events & (EPOLLERR | EPOLLHUP) ? w->want : 0);
    int mask = (got & EPOLLIN ? CURL_CSELECT_IN : 0) | (got & EPOLLOUT ? CURL_CSELECT_OUT : 0);
    ENSURE(curl_multi_socket_action(v->multi, fd, mask, &running) == CURLM_OK);
}

void http_events_run(struct http_events *v, int ms)
{
    struct epoll_event ev[AT_ONCE];
    int running;
    int64_t now = time_mono_ns();
    int64_t until = MIN(v->timer_ns, now + (int64_t)ms * 1000000);
    int n = epoll_wait(v->epoll, ev, AT_ONCE, until <= now ? 0 : (int)((until - now + 999999) / 1000000));
    for (int i = 0; i < n; i++) {
        if (ev[i].data.fd == v->wake) {
            uint64_t count;
            (void)!read(v->wake, &count, sizeof(count));
        } else {
            happened(v, &ev[i]);
        }
    }
    if (v->timer_ns <= time_mono_ns()) {
        v->timer_ns = NEVER; /* curl tells the next one */
        ENSURE(curl_multi_socket_action(v->multi, CURL_SOCKET_TIMEOUT, 0, &running) == CURLM_OK);
    }
}

void http_events_wake(struct http_events *v)
{
    const uint64_t one = 1;
    (void)!write(v->wake, &one, sizeof(one));
}
