/* The HTTP engine: one thread that owns every libcurl handle. Connections are kept and shared, TLS is verified, redirects
 * are never followed, nothing is signed or retried here.
 *
 * Thread: http_submit and http_cancel from anywhere; done() runs on the worker pool. Locks: only its own queue. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "errinfo.h"

struct http_engine;
struct http_lane;
struct pool;

/* How a remote is reached. Owned by the caller and alive as long as requests to it. */
struct http_target {
    char *connect_to;  /* NULL or host:port to dial whatever the URL says */
    char *proxy;       /* NULL or http://host:port */
    bool proxy_from_env; /* with proxy NULL: http_proxy, https_proxy and no_proxy of the environment; else never */
    unsigned connect_timeout_ms, stall_timeout_ms; /* 10 s and 30 s by default: no byte either way */
};

/* Limits how many of a remote's requests are in flight; the engine keeps the order of the rest. Grows and shrinks by the
 * answers (AIMD): see http_lane_feedback. */
int http_lane_new(struct http_engine *e, const char *name, unsigned max_in_flight, struct http_lane **ret);
/* Before the engine; no request of the lane is left (the last one's done may be what calls this). NULL is fine. */
void http_lane_free(struct http_lane *l);
/* Once an answer: throttled halves the limit (at most once a second, never below 1); as many successes as the limit is
 * high raise it by one, up to max_in_flight. */
void http_lane_feedback(struct http_lane *l, bool throttled);
unsigned http_lane_limit(const struct http_lane *l); /* now */

#define HTTP_ENOUGH 1
struct http_req {
    /* caller, borrowed until done */
    const char *method;       /* GET HEAD PUT POST PATCH DELETE */
    const char *url;          /* complete, path encoded by the caller and sent as it is */
    const struct http_target *target;
    struct http_lane *lane;
    /* These are sent and nothing else but User-Agent (unless given) and Content-Length (always the engine's: one given
     * here is left out); "host" too. A line break in one is ERR_INVALID. */
    const struct kvlist *headers;
    const void *body;         /* not copied; PUT, POST and PATCH only */
    uint64_t body_len;        /* one of these without body sends Content-Length: 0 */
    /* The answer's body, when the status is 2xx, goes either to a fixed memory (more than sink_len bytes is ERR_INTEGRITY)
     * … */
    void *sink;
    size_t sink_len;
    /* … or, when sink is NULL, to `answer`, bounded by answer_max (default 1 MiB; more is ERR_INVALID). The bodies of all
     * other statuses always go to `answer`, cut at 64 KiB. */
    size_t answer_max;
    /* … or is handed over as it comes, on the ENGINE thread: must only copy memory or parse; 0, -errno to fail, or
     * HTTP_ENOUGH: the rest is not wanted, and the answer as good as whole. sink_len may say how much is expected. */
    int (*on_data)(struct http_req *r, const void *p, size_t n);
    int64_t deadline_ns; /* monotonic; 0 = none; kept to a tenth of a second; counts while waiting in the lane too */
    unsigned stall_timeout_ms; /* 0 = the target's. A server that copies gigabytes is silent for longer */
    bool once; /* never begun twice: without it libcurl repeats a request whose kept connection turns out to be dead
                * before the first byte of the answer */
    void (*done)(struct http_req *r); /* on a worker */
    void *owner;
    /* results */
    int status;          /* 0: an HTTP answer came whole, see http_status; else -errno with err set */
    int http_status;     /* also after a failure, if it came that far; 0 = it did not */
    struct kvlist answer_headers; /* owned by the request: http_req_fini. A repeated name has its values joined by ", " */
    struct buf answer;
    uint64_t sink_got;   /* bytes in sink, or given to on_data */
    bool sent;           /* some of the request may have reached the server */
    bool resent;         /* begun more than once, see `once`; the first may have been carried out too */
    struct errinfo err;  /* outcome_unknown: sent, no whole answer, and not GET or HEAD */
    /* the engine's */
    void *priv;
    struct http_req *next;
};

/* 0 or -errno. ca_file NULL = the system's. */
int http_engine_new(struct pool *workers, const char *ca_file, struct http_engine **ret);
/* Refuses new requests, cancels what is in flight, stops the thread, and returns when every done has run; what is submitted
 * later is done with ERR_CANCELED. Not from a worker, and from one thread only. */
void http_engine_stop(struct http_engine *e);
/* Stops it, if that was not done yet. All lanes are gone, and nobody else uses the engine. NULL is fine. */
void http_engine_free(struct http_engine *e);
/* r starts zeroed, or is one whose done has run. Never fails: all errors come with done. */
void http_submit(struct http_engine *e, struct http_req *r);
/* done still runs, with ERR_CANCELED unless something else was faster. Harmless on a request that is not in flight. */
void http_cancel(struct http_engine *e, struct http_req *r);
/* Frees the results. */
void http_req_fini(struct http_req *r);

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_POST, HTTP_DELETE, HTTP_PATCH, HTTP_METHODS };

/* Totals since start, for metrics: requests begun, bytes each way with headers, connections opened; and what is going on
 * now. */
struct http_stats {
    uint64_t requests, bytes_sent, bytes_received, connects, in_flight, queued;
    uint64_t by_method[HTTP_METHODS];
};
void http_engine_stats(struct http_engine *e, struct http_stats *ret);
