/* What the tests of the HTTP engine share: an engine, a peer, and calls that can be waited for. */
#pragma once

#include "unit.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "http.h"
#include "mem.h"
#include "peer.h"
#include "sync.h"

static struct pool *pool;
static struct http_engine *engine;
static struct http_lane *lane;
static struct http_target target;
static struct peer *peer;

/* What the peer borrows, freed after it. */
static void *kept[32];
static unsigned n_kept;

static inline void *keep(void *p)
{
    assert_true(n_kept < ARRAY_LEN(kept));
    return kept[n_kept++] = p;
}

struct call {
    struct http_req r;
    struct kvlist headers;
    char *url;
    sem_t done;
    atomic_uint n_done;
};

static inline void call_done(struct http_req *r)
{
    struct call *c = r->owner;
    c->n_done++;
    sem_post(&c->done);
}

static inline struct call *call_new(const char *method, const char *path)
{
    struct call *c = mem_zalloc(sizeof(*c));
    c->url = mem_printf("http://127.0.0.1:%d%s", peer ? peer_port(peer) : 1, path);
    sem_init(&c->done, 0, 0);
    c->r = (struct http_req){.method = method,
                             .url = c->url,
                             .target = &target,
                             .lane = lane,
                             .headers = &c->headers,
                             .done = call_done,
                             .owner = c};
    return c;
}

static inline void call_wait(struct call *c)
{
    while (sem_wait(&c->done) < 0 && errno == EINTR) {
    }
    assert_null(c->r.priv);
    if (c->r.status < 0) {
        assert_int_not_equal(c->r.err.cls, ERR_NONE);
        assert_true(c->r.err.message[0]);
        assert_null(strpbrk(c->r.err.message, "\r\n"));
    } else {
        assert_int_equal(c->r.status, 0);
        assert_in_range(c->r.http_status, 200, 599);
    }
}

static inline struct call *call_run(struct call *c)
{
    http_submit(engine, &c->r);
    call_wait(c);
    return c;
}

static inline void call_free(struct call *c)
{
    http_req_fini(&c->r);
    kv_fini(&c->headers);
    sem_destroy(&c->done);
    free(c->url);
    free(c);
}

static inline struct call *get(const char *path)
{
    return call_run(call_new("GET", path));
}

#define assert_ok(c, code)                                                                         \
    do {                                                                                           \
        if ((c)->r.status != 0) {                                                                  \
            print_error("%s\n", (c)->r.err.message);                                               \
        }                                                                                          \
        assert_int_equal((c)->r.status, 0);                                                        \
        assert_int_equal((c)->r.http_status, code);                                                \
    } while (0)

#define assert_failed(c, class, text)                                                              \
    do {                                                                                           \
        assert_true((c)->r.status < 0);                                                            \
        if ((c)->r.err.cls != (class) || !strstr((c)->r.err.message, text)) {                      \
            print_error("%s %s\n", err_class_name((c)->r.err.cls), (c)->r.err.message);            \
        }                                                                                          \
        assert_int_equal((c)->r.err.cls, class);                                                   \
        assert_non_null(strstr((c)->r.err.message, text));                                         \
    } while (0)

static inline void push(const struct peer_step *s)
{
    peer_push(peer, s);
}

static inline int engine_up(const char *ca_file, unsigned in_flight)
{
    assert_int_equal(pool_new(&pool, 2, "workers"), 0);
    assert_int_equal(http_engine_new(pool, ca_file, &engine), 0);
    assert_int_equal(http_lane_new(engine, "test", in_flight, &lane), 0);
    target = (struct http_target){.connect_timeout_ms = 5000, .stall_timeout_ms = 5000};
    return 0;
}

static inline int setup(void **state)
{
    peer = peer_new(NULL);
    return engine_up(NULL, 16);
}

static inline int teardown(void **state)
{
    http_lane_free(lane);
    http_engine_free(engine);
    pool_free(pool);
    peer_free(peer);
    while (n_kept > 0) {
        free(kept[--n_kept]);
    }
    lane = NULL;
    engine = NULL;
    peer = NULL;
    return 0;
}
