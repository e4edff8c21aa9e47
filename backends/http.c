/* One thread owns the multi handle, every easy handle and all of a request's state while it is in
 * flight. Others only append to two lists (new requests, cancellations) under `lock` and wake it.
 *
 *     submit ──> inbox ──> its lane's queue ──> active, on a handle ──> ended ──> worker: done
 *
 * - A flight is the engine's part of a request: one allocation with the header list in it, made by
 *   the submitter and freed by the worker, so that the engine thread, which limits the requests a
 *   second, does as little as possible. It also only copies the answer's header bytes; the worker
 *   takes them apart.
 * - r->priv leads from request to flight and is set and cleared under the lock. Only the engine
 *   ends flights and empties the list of cancellations: none is freed while that list holds it.
 * - What a callback finds wrong is stored in the request (flight_fail) and outranks curl's code,
 *   which then only says that a callback refused.
 * - Everything timed but connecting is found by a look at all flights each TICK_NS: deadlines, also
 *   of waiting requests, and stalls. That keeps timers out of curl, and sees bytes that curl's
 *   low-speed limit does not.
 * - A lane's queue and count are the engine's; its limit is under the lock. The engine touches a
 *   lane for the last time before the last done is handed to a worker, so done may free the lane.
 *
 * Handles are kept and reused: options that never change are set once, slot_setup sets all others.
 * They come in two sizes: those for big bodies have big buffers. */
#include "http.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include <curl/curl.h>

#include "http_events.h"
#include "http_parts.h"
#include "log.h"
#include "mem.h"
#include "sync.h"

#define ENGINE_MAGIC 0x48e16e01u
#define LANE_MAGIC 0x48e1a4e2u
#define FLIGHT_MAGIC 0x48ef1163u

#define CONNECT_TIMEOUT_MS 10000
#define STALL_TIMEOUT_MS 30000
#define TICK_NS INT64_C(100000000)
#define IDLE_POLL_MS 3600000
#define HEADERS_MAX 65536
#define HEADERS_MAX_N 200
#define ERROR_BODY_MAX 65536
#define ANSWER_MAX_DEFAULT (1 << 20)
/* Servers close idle connections after 60 s or more: fewer requests then meet a dead one. */
#define IDLE_CONNECTION_MAX_S 50
/* From here on a request gets a handle with big buffers. Measured: 64 KiB to 256 KiB is a third
 * faster, beyond that the bytes leave the processor's cache between copy and system call, and 2 MiB
 * is slower than 64 KiB. */
#define BIG_BODY ((uint64_t)1 << 20)
#define BIG_UPLOAD_BUFFER (256L << 10)
#define BIG_BUFFER (256L << 10)

#define HEAD_TOO_LARGE "the answer's header is larger than 64 KiB or 200 lines"
#define BAD_CERT                                                                                   \
    "); check the end point's name, or install its authority's certificate on this machine"

/* An easy handle and what its callbacks need. flight is NULL whenever no request is on it;
 * callbacks then do nothing. */
struct slot {
    CURL *easy;
    struct flight *flight;
    struct slot *next;
    bool big;
    char error[CURL_ERROR_SIZE];
};

enum flight_state { FLIGHT_INBOX, FLIGHT_QUEUED, FLIGHT_ACTIVE, FLIGHT_ENDED };

struct flight {
    unsigned magic;
    struct http_req *r;
    struct work work;
    TAILQ_ENTRY(flight) link;   /* inbox, lane queue, active or ended */
    struct flight *cancel_next; /* lock */
    bool cancel_asked;          /* lock */
    enum flight_state state;    /* from here on the engine's, once out of the inbox */
    enum http_method method;
    struct slot *slot;
    struct buf raw; /* header lines of the last answer head */
    unsigned n_raw; /* how many lines */
    bool head_over; /* its empty line came: what follows is a trailer, or a new head after a 1xx */
    bool body_cut;  /* the body was long enough and the transfer stopped on purpose */
    bool failed;    /* r->status and r->err say why: outranks curl */
    uint64_t seen;  /* bytes counted at the last look */
    int64_t seen_ns;
    struct curl_slist *headers, *connect_to;
    struct curl_slist nodes[];
};

TAILQ_HEAD(flight_list, flight);

struct http_lane {
    unsigned magic;
    struct http_engine *e;
    char *name;
    struct http_aimd aimd;       /* e->lock */
    unsigned max;                /* constant */
    atomic_uint limit;           /* written under e->lock */
    unsigned in_flight;          /* engine */
    struct flight_list queue;    /* engine */
    bool busy;                   /* engine: in the list of lanes with a queue */
    struct http_lane *busy_next; /* engine */
};

struct http_engine {
    unsigned magic;
    struct pool *workers;
    char *ca_file; /* NULL = curl's own */
    bool no_ca_path;
    pthread_t thread;
    CURLM *multi;
    struct http_events *events;
    CURLSH *share;

    struct mutex lock;        /* RANK_ENGINE */
    struct flight_list inbox; /* lock */
    struct flight *cancels;   /* lock */
    bool closing;             /* lock */
    bool sleeping;            /* lock: waits for events, must be woken */
    unsigned lane_total;      /* lock: sum of the lanes' maxima */
    struct http_stats stats;  /* lock */

    /* engine thread only */
    struct flight_list active, ended;
    struct http_lane *busy; /* lanes with a queue */
    struct slot *free_slots, *free_big_slots;
    unsigned max_connects;
    struct http_stats now; /* copied to stats once a round */
    int64_t next_tick_ns;
};

/* ---- failure */

/* The first failure stays. The message becomes "METHOD HOST: …" and one line whatever curl or a
 * server put into it. */
__attribute__((format(printf, 4, 5))) static void flight_fail(struct flight *f, enum err_class cls,
                                                              int err, const char *fmt, ...)
{
    struct http_req *r = f->r;
    if (f->failed) {
        return;
    }
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 127) {
            *p = ' ';
        }
    }
    const char *host;
    int n = http_url_host(r->url, &host);
    f->failed = true;
    r->status = err_set(&r->err, cls, err, "%s %.*s: %s", r->method, n, host, text);
}

/* What curl's codes mean to a caller. `before` curl's own words and `after` them. All codes that
 * are not here are broken connections: reset, nothing came, bad chunks. */
static const struct {
    CURLcode code;
    enum err_class cls;
    int err;
    const char *before, *after;
} curl_failures[] = {
    {CURLE_COULDNT_RESOLVE_HOST, ERR_TRANSIENT, EHOSTUNREACH, "", ""},
    {CURLE_COULDNT_RESOLVE_PROXY, ERR_TRANSIENT, EHOSTUNREACH, "", ""},
    {CURLE_COULDNT_CONNECT, ERR_TRANSIENT, ECONNREFUSED, "cannot connect: ", ""},
    {CURLE_OPERATION_TIMEDOUT, ERR_TRANSIENT, ETIMEDOUT, "cannot connect: ", ""},
    {CURLE_PROXY, ERR_TRANSIENT, ECONNREFUSED, "the proxy refuses: ", ""},
    {CURLE_PARTIAL_FILE, ERR_TRANSIENT, ECONNRESET, "the answer was cut short: ", ""},
    {CURLE_WEIRD_SERVER_REPLY, ERR_TRANSIENT, EPROTO, "the answer is not HTTP: ", ""},
    {CURLE_SSL_CONNECT_ERROR, ERR_TRANSIENT, EPROTO, "no TLS connection (",
     "); if the end point speaks plain http, set https = off"},
    {CURLE_PEER_FAILED_VERIFICATION, ERR_INVALID, EPROTO, "its TLS certificate is not trusted (",
     BAD_CERT},
    {CURLE_SSL_CACERT_BADFILE, ERR_INVALID, EPROTO, "TLS cannot be set up: ", ""},
    {CURLE_URL_MALFORMAT, ERR_INVALID, EINVAL, "not a URL that can be requested: ", ""},
    {CURLE_UNSUPPORTED_PROTOCOL, ERR_INVALID, EINVAL, "not a URL that can be requested: ", ""},
    {CURLE_OUT_OF_MEMORY, ERR_LOCAL, ENOMEM, "", ""},
    {CURLE_WRITE_ERROR, ERR_BUG, EIO, "unexpected: ", ""},
    {CURLE_ABORTED_BY_CALLBACK, ERR_BUG, EIO, "unexpected: ", ""},
    {CURLE_BAD_FUNCTION_ARGUMENT, ERR_BUG, EIO, "unexpected: ", ""},
    {CURLE_OK /* the rest */, ERR_TRANSIENT, ECONNRESET, "the connection failed: ", ""},
};

static void fail_from_curl(struct flight *f, CURLcode code)
{
    const char *text = f->slot->error[0] ? f->slot->error : curl_easy_strerror(code);
    size_t i = 0;
    if (code == CURLE_UNSUPPORTED_PROTOCOL && f->r->sent) {
        code = CURLE_WEIRD_SERVER_REPLY; /* curl took the answer for HTTP/0.9 */
    } else if (code == CURLE_OUT_OF_MEMORY && f->r->sent && !f->head_over) {
        /* what curl says of a header line beyond its own bound of 100 KiB */
        flight_fail(f, ERR_INVALID, -EPROTO, HEAD_TOO_LARGE);
        return;
    }
    while (curl_failures[i].code != CURLE_OK && curl_failures[i].code != code) {
        i++;
    }
    flight_fail(f, curl_failures[i].cls, -curl_failures[i].err, "%s%s%s", curl_failures[i].before,
                text, curl_failures[i].after);
}

/* ---- callbacks of curl: engine thread, inside curl_multi_socket_action */

static size_t on_header(char *p, size_t size, size_t n_items, void *arg)
{
    struct slot *s = arg;
    struct flight *f = s->flight;
    size_t n = size * n_items;
    if (!f) {
        return n;
    }
    if (n >= 5 && memcmp(p, "HTTP/", 5) == 0) { /* also after a 1xx: only the last head counts */
        buf_clear(&f->raw);
        f->n_raw = 0;
        f->head_over = false;
        return n;
    }
    if (f->head_over) { /* a trailer: nobody asked for one, and it must not replace a header */
        return n;
    }
    if (n > 0 && (p[0] == '\r' || p[0] == '\n')) {
        long code = 0;
        (void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &code);
        f->head_over = true;
        f->r->http_status = code >= 200 ? (int)code : 0;
        return n;
    }
    if (f->n_raw >= HEADERS_MAX_N || f->raw.len + n > HEADERS_MAX || buf_add(&f->raw, p, n) < 0) {
        flight_fail(f, ERR_INVALID, -EPROTO, HEAD_TOO_LARGE);
        return 0;
    }
    f->n_raw++;
    return n;
}

static size_t on_body(char *p, size_t size, size_t n_items, void *arg)
{
    struct slot *s = arg;
    struct flight *f = s->flight;
    size_t n = size * n_items;
    if (!f || n == 0) {
        return n;
    }
    struct http_req *r = f->r;
    if (r->http_status < 200 || r->http_status >= 300) {
        size_t room = ERROR_BODY_MAX - MIN(r->answer.len, (size_t)ERROR_BODY_MAX);
        if (buf_add(&r->answer, p, MIN(n, room)) < 0) {
            flight_fail(f, ERR_LOCAL, -ENOMEM, "out of memory");
            return 0;
        }
        if (n > room) {
            f->body_cut = true;
            return 0;
        }
        return n;
    }
    if (r->sink) {
        if (n > r->sink_len - r->sink_got) {
            flight_fail(f, ERR_INTEGRITY, -EPROTO,
                        "the answer is longer than the %zu bytes asked for", r->sink_len);
            return 0;
        }
        memcpy((char *)r->sink + r->sink_got, p, n);
        r->sink_got += n;
    } else if (r->on_data) {
        int err = r->on_data(r, p, n);
        if (err < 0) {
            enum err_class cls = r->err.cls;
            if (cls == ERR_NONE) {
                flight_fail(f, ERR_INVALID, err, "the answer could not be understood");
            } else { /* the callback knows better */
                f->failed = true;
                r->status = err;
            }
            return 0;
        }
        r->sink_got += n;
        if (err == HTTP_ENOUGH) {
            f->body_cut = true;
            return 0;
        }
    } else {
        size_t max = r->answer_max ? r->answer_max : ANSWER_MAX_DEFAULT;
        if (n > max - r->answer.len) {
            flight_fail(f, ERR_INVALID, -EPROTO, "the answer is larger than %zu bytes", max);
            return 0;
        }
        if (buf_add(&r->answer, p, n) < 0) {
            flight_fail(f, ERR_LOCAL, -ENOMEM, "out of memory");
            return 0;
        }
    }
    return n;
}

/* A connection is there and the request is about to be written to it. Comes again when curl repeats
 * the request because a kept connection was dead. */
static int on_request(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    struct slot *s = arg;
    struct flight *f = s->flight;
    if (!f) {
        return CURL_PREREQFUNC_ABORT;
    }
    struct http_req *r = f->r;
    if (r->sent) {
        if (r->once) {
            flight_fail(f, ERR_TRANSIENT, -ECONNRESET,
                        "the connection was closed without an answer");
            return CURL_PREREQFUNC_ABORT;
        }
        r->resent = true;
    }
    r->sent = true;
    f->seen_ns = time_mono_ns();
    return CURL_PREREQFUNC_OK;
}

/* ---- handles */

/* curl refuses only options it was built without; one that keeps a promise of ours must not be
 * missing. */
#define SETOPT(s, opt, value) ENSURE(curl_easy_setopt((s)->easy, opt, value) == CURLE_OK)

static struct slot *slot_new(struct http_engine *e, bool big)
{
    struct slot *s = mem_zalloc(sizeof(*s));
    s->easy = curl_easy_init();
    ENSURE(s->easy);
    s->big = big;
    SETOPT(s, CURLOPT_PRIVATE, s);
    SETOPT(s, CURLOPT_ERRORBUFFER, s->error);
    SETOPT(s, CURLOPT_SHARE, e->share);
    SETOPT(s, CURLOPT_NOSIGNAL, 1L);
    SETOPT(s, CURLOPT_PROTOCOLS_STR, "http,https");
    SETOPT(s, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SETOPT(s, CURLOPT_FOLLOWLOCATION, 0L);
    SETOPT(s, CURLOPT_PATH_AS_IS, 1L);
    SETOPT(s, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    SETOPT(s, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SETOPT(s, CURLOPT_USERAGENT, "objmig/" OBJMIG_VERSION);
    SETOPT(s, CURLOPT_SSL_VERIFYPEER, 1L);
    SETOPT(s, CURLOPT_SSL_VERIFYHOST, 2L);
    if (e->ca_file) {
        SETOPT(s, CURLOPT_CAINFO, e->ca_file);
    }
    if (e->no_ca_path) {
        SETOPT(s, CURLOPT_CAPATH, NULL);
    }
    SETOPT(s, CURLOPT_TCP_NODELAY, 1L);
    SETOPT(s, CURLOPT_TCP_KEEPALIVE, 1L);
    SETOPT(s, CURLOPT_TCP_KEEPIDLE, 30L);
    SETOPT(s, CURLOPT_TCP_KEEPINTVL, 10L);
    SETOPT(s, CURLOPT_MAXAGE_CONN, (long)IDLE_CONNECTION_MAX_S);
    http_events_handle(e->events, s->easy);
    SETOPT(s, CURLOPT_HEADERFUNCTION, on_header);
    SETOPT(s, CURLOPT_HEADERDATA, s);
    SETOPT(s, CURLOPT_WRITEFUNCTION, on_body);
    SETOPT(s, CURLOPT_WRITEDATA, s);
    SETOPT(s, CURLOPT_PREREQFUNCTION, on_request);
    SETOPT(s, CURLOPT_PREREQDATA, s);
    if (big) {
        SETOPT(s, CURLOPT_BUFFERSIZE, BIG_BUFFER);
        SETOPT(s, CURLOPT_UPLOAD_BUFFERSIZE, BIG_UPLOAD_BUFFER);
    }
    return s;
}

static void slots_free(struct slot *s)
{
    for (struct slot *next; s; s = next) {
        next = s->next;
        ENSURE(!s->flight);
        curl_easy_cleanup(s->easy);
        free(s);
    }
}

/* Sets everything that differs between requests, so that nothing of the one before stays. */
static CURLcode slot_setup(struct slot *s, struct flight *f)
{
    const struct http_req *r = f->r;
    const struct http_target *t = r->target;
    CURL *c = s->easy;

    s->error[0] = '\0';
    CURLcode err = curl_easy_setopt(c, CURLOPT_URL, r->url);
    if (err != CURLE_OK) {
        return err;
    }
    switch (f->method) {
    case HTTP_HEAD:
        SETOPT(s, CURLOPT_CUSTOMREQUEST, NULL);
        SETOPT(s, CURLOPT_NOBODY, 1L);
        break;
    case HTTP_PUT:
    case HTTP_POST:
    case HTTP_PATCH:
        /* To curl the others are a POST by another name: that sends a small body in one packet with
         * the header, and takes the bytes from our memory, also a second time, without callbacks. */
        SETOPT(s, CURLOPT_POST, 1L);
        SETOPT(s, CURLOPT_CUSTOMREQUEST, f->method == HTTP_POST ? NULL : r->method);
        SETOPT(s, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
        SETOPT(s, CURLOPT_POSTFIELDS, r->body_len ? r->body : "");
        break;
    case HTTP_GET:
    case HTTP_DELETE:
    case HTTP_METHODS:
        SETOPT(s, CURLOPT_HTTPGET, 1L);
        SETOPT(s, CURLOPT_CUSTOMREQUEST, f->method == HTTP_DELETE ? "DELETE" : NULL);
        break;
    }
    SETOPT(s, CURLOPT_HTTPHEADER, f->headers);
    SETOPT(s, CURLOPT_CONNECT_TO, f->connect_to);
    bool env = t->proxy_from_env && !t->proxy;
    SETOPT(s, CURLOPT_PROXY, t->proxy ? t->proxy : env ? NULL : "");
    SETOPT(s, CURLOPT_NOPROXY, env ? NULL : "");
    SETOPT(s, CURLOPT_CONNECTTIMEOUT_MS,
           t->connect_timeout_ms ? (long)t->connect_timeout_ms : CONNECT_TIMEOUT_MS);
    return CURLE_OK;
}

static bool flight_is_big(const struct http_req *r)
{
    return r->body_len >= BIG_BODY || r->sink_len >= BIG_BODY;
}

/* ---- flights: engine thread */

static void flight_end(struct http_engine *e, struct flight *f)
{
    struct http_lane *l = f->r->lane;
    struct http_req *r = f->r;
    if (f->state == FLIGHT_ACTIVE) {
        struct slot *s = f->slot;
        curl_off_t up = 0, down = 0;
        long head = 0, request = 0, connects = 0;
        (void)curl_easy_getinfo(s->easy, CURLINFO_SIZE_UPLOAD_T, &up);
        (void)curl_easy_getinfo(s->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
        (void)curl_easy_getinfo(s->easy, CURLINFO_HEADER_SIZE, &head);
        (void)curl_easy_getinfo(s->easy, CURLINFO_REQUEST_SIZE, &request);
        (void)curl_easy_getinfo(s->easy, CURLINFO_NUM_CONNECTS, &connects);
        /* curl counts a body that went out together with the header in both. */
        e->now.bytes_sent += (uint64_t)request + (request >= up ? 0 : (uint64_t)up);
        e->now.bytes_received += (uint64_t)down + (uint64_t)head;
        e->now.connects += (uint64_t)connects;
        e->now.in_flight--;
        ENSURE(curl_multi_remove_handle(e->multi, s->easy) == CURLM_OK);
        s->flight = NULL;
        struct slot **list = s->big ? &e->free_big_slots : &e->free_slots;
        s->next = *list;
        *list = s;
        TAILQ_REMOVE(&e->active, f, link);
        l->in_flight--;
    } else if (f->state == FLIGHT_QUEUED) {
        TAILQ_REMOVE(&l->queue, f, link);
        e->now.queued--;
    }
    if (r->status < 0) {
        r->err.http_status = r->http_status;
        r->err.outcome_unknown = r->sent && f->method != HTTP_GET && f->method != HTTP_HEAD;
    }
    f->slot = NULL;
    f->state = FLIGHT_ENDED;
    TAILQ_INSERT_TAIL(&e->ended, f, link);
}

/* The flight leaves its lane's queue and gets a handle. */
static void flight_start(struct http_engine *e, struct flight *f)
{
    bool big = flight_is_big(f->r);
    struct slot **list = big ? &e->free_big_slots : &e->free_slots;
    struct slot *s = *list;
    if (s) {
        *list = s->next;
    } else {
        s = slot_new(e, big);
    }
    TAILQ_REMOVE(&f->r->lane->queue, f, link);
    e->now.queued--;
    f->r->lane->in_flight++;
    e->now.in_flight++;
    e->now.requests++;
    e->now.by_method[f->method]++;
    TAILQ_INSERT_TAIL(&e->active, f, link);
    f->state = FLIGHT_ACTIVE;
    f->slot = s;
    f->seen_ns = time_mono_ns();
    CURLcode err = slot_setup(s, f);
    s->flight = f;
    ENSURE(curl_multi_add_handle(e->multi, s->easy) == CURLM_OK);
    if (err != CURLE_OK) {
        fail_from_curl(f, err);
        flight_end(e, f);
    }
}

/* Starts what the lanes' limits allow. */
static void pump(struct http_engine *e)
{
    struct http_lane **link = &e->busy;
    while (*link) {
        struct http_lane *l = *link;
        unsigned limit = atomic_load_explicit(&l->limit, memory_order_relaxed);
        while (!TAILQ_EMPTY(&l->queue) && l->in_flight < limit) {
            flight_start(e, TAILQ_FIRST(&l->queue));
        }
        if (!TAILQ_EMPTY(&l->queue)) {
            link = &l->busy_next;
        } else {
            *link = l->busy_next;
            l->busy = false;
        }
    }
}

static void collect(struct http_engine *e)
{
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(e->multi, &left))) {
        CURLcode code = m->data.result;
        struct slot *s = NULL;
        ENSURE(m->msg == CURLMSG_DONE);
        ENSURE(curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s) == CURLE_OK);
        struct flight *f = s->flight;
        CHECK_MAGIC(f, FLIGHT_MAGIC);
        if (!f->failed && code != CURLE_OK && !f->body_cut) {
            fail_from_curl(f, code);
        } else if (!f->failed && f->r->http_status == 0) {
            /* Nothing wrong for curl when a connection closes in the middle of a header. */
            flight_fail(f, ERR_TRANSIENT, -ECONNRESET, "the answer's header was cut short");
        }
        flight_end(e, f);
    }
}

/* Whether bytes moved since the last look. */
static bool flight_moved(struct flight *f)
{
    CURL *c = f->slot->easy;
    curl_off_t up = 0, down = 0;
    long head = 0;
    (void)curl_easy_getinfo(c, CURLINFO_SIZE_UPLOAD_T, &up);
    (void)curl_easy_getinfo(c, CURLINFO_SIZE_DOWNLOAD_T, &down);
    (void)curl_easy_getinfo(c, CURLINFO_HEADER_SIZE, &head);
    uint64_t seen = (uint64_t)up + (uint64_t)down + (uint64_t)head;
    bool moved = seen != f->seen;
    f->seen = seen;
    return moved;
}

static bool flight_overdue(struct flight *f, int64_t now)
{
    if (f->r->deadline_ns == 0 || now < f->r->deadline_ns) {
        return false;
    }
    flight_fail(f, ERR_TRANSIENT, -ETIMEDOUT, "no complete answer within the time allowed");
    return true;
}

static void tick(struct http_engine *e)
{
    int64_t now = time_mono_ns();
    if (now < e->next_tick_ns) {
        return;
    }
    e->next_tick_ns = now + TICK_NS;
    for (struct flight *f = TAILQ_FIRST(&e->active), *next; f; f = next) {
        next = TAILQ_NEXT(f, link);
        if (flight_overdue(f, now)) {
            flight_end(e, f);
            continue;
        }
        /* Until the request is begun the connect timeout watches. */
        if (!f->r->sent || flight_moved(f)) {
            f->seen_ns = now;
            continue;
        }
        const struct http_req *r = f->r;
        unsigned ms = r->stall_timeout_ms ? r->stall_timeout_ms : r->target->stall_timeout_ms;
        ms = ms ? ms : STALL_TIMEOUT_MS;
        if (now - f->seen_ns >= (int64_t)ms * 1000000) {
            flight_fail(f, ERR_TRANSIENT, -ETIMEDOUT, "no byte sent or received for %u.%u s",
                        ms / 1000, ms % 1000 / 100);
            flight_end(e, f);
        }
    }
    for (struct http_lane *l = e->busy; l; l = l->busy_next) {
        for (struct flight *f = TAILQ_FIRST(&l->queue), *next; f; f = next) {
            next = TAILQ_NEXT(f, link);
            if (flight_overdue(f, now)) {
                flight_end(e, f);
            }
        }
    }
}

static void flight_cancel(struct http_engine *e, struct flight *f)
{
    if (f->state != FLIGHT_ENDED) {
        flight_fail(f, ERR_CANCELED, -ECANCELED, "canceled");
        flight_end(e, f);
    }
}

/* Takes over what others left under the lock. Returns whether the engine is closing. */
static bool intake(struct http_engine *e)
{
    struct flight_list list = TAILQ_HEAD_INITIALIZER(list);
    mutex_lock(&e->lock);
    e->sleeping = false;
    TAILQ_CONCAT(&list, &e->inbox, link);
    struct flight *cancels = e->cancels;
    bool closing = e->closing;
    unsigned lane_total = e->lane_total;
    e->cancels = NULL;
    mutex_unlock(&e->lock);

    for (struct flight *f; (f = TAILQ_FIRST(&list)) != NULL;) {
        struct http_lane *l = f->r->lane;
        CHECK_MAGIC(l, LANE_MAGIC);
        if (!l->busy) {
            l->busy = true;
            l->busy_next = e->busy;
            e->busy = l;
        }
        TAILQ_REMOVE(&list, f, link);
        TAILQ_INSERT_TAIL(&l->queue, f, link);
        f->state = FLIGHT_QUEUED;
        e->now.queued++;
    }
    for (struct flight *next; cancels; cancels = next) {
        next = cancels->cancel_next;
        flight_cancel(e, cancels);
    }
    if (closing) {
        while (!TAILQ_EMPTY(&e->active)) {
            flight_cancel(e, TAILQ_FIRST(&e->active));
        }
        for (struct http_lane *l = e->busy; l; l = l->busy_next) {
            while (!TAILQ_EMPTY(&l->queue)) {
                flight_cancel(e, TAILQ_FIRST(&l->queue));
            }
        }
    }
    if (lane_total > e->max_connects) {
        /* Else curl closes connections that the next requests would want. */
        e->max_connects = lane_total;
        ENSURE(curl_multi_setopt(e->multi, CURLMOPT_MAXCONNECTS, (long)lane_total) == CURLM_OK);
    }
    return closing;
}

/* Hands ended flights to the workers. */
static void deliver(struct http_engine *e)
{
    mutex_lock(&e->lock);
    struct flight *f;
    TAILQ_FOREACH(f, &e->ended, link)
    {
        struct flight **c = &e->cancels;
        while (f->cancel_asked && *c) { /* asked for since intake */
            if (*c == f) {
                *c = f->cancel_next;
                break;
            }
            c = &(*c)->cancel_next;
        }
        f->r->priv = NULL;
    }
    e->stats = e->now;
    mutex_unlock(&e->lock);

    while ((f = TAILQ_FIRST(&e->ended)) != NULL) {
        TAILQ_REMOVE(&e->ended, f, link);
        pool_submit(e->workers, &f->work);
    }
}

/* What curl has to do, and if that is nothing, waits for it or for somebody who has something new. */
static void run(struct http_engine *e)
{
    int64_t ms = IDLE_POLL_MS;
    if (!TAILQ_EMPTY(&e->active) || e->busy) {
        ms = MAX((e->next_tick_ns - time_mono_ns()) / 1000000 + 1, (int64_t)0);
    }
    mutex_lock(&e->lock);
    bool sleep = TAILQ_EMPTY(&e->inbox) && !e->cancels && !e->closing && TAILQ_EMPTY(&e->ended);
    e->sleeping = sleep;
    mutex_unlock(&e->lock);
    http_events_run(e->events, sleep ? (int)ms : 0);
}

static void *engine_main(void *arg)
{
    struct http_engine *e = arg;
    for (;;) {
        bool closing = intake(e);
        tick(e);
        pump(e);
        if (!closing) {
            run(e);
        }
        collect(e);
        pump(e);
        deliver(e);
        if (closing && TAILQ_EMPTY(&e->active) && !e->busy) {
            break;
        }
    }
    return NULL;
}

/* ---- workers and callers */

/* The last thing that happens to a flight, on a worker. */
static void flight_deliver(struct work *w)
{
    struct flight *f = CONTAINER_OF(w, struct flight, work);
    CHECK_MAGIC(f, FLIGHT_MAGIC);
    struct http_req *r = f->r;
    if (f->raw.len > 0) {
        http_parse_headers(f->raw.data, f->raw.len, &r->answer_headers);
    }
    buf_fini(&f->raw);
    f->magic = 0;
    free(f);
    r->done(r);
}

/* One allocation: the flight, the list nodes, then their text. */
static struct flight *flight_new(struct http_engine *e, struct http_req *r)
{
    static const struct kvlist none;
    const struct kvlist *h = r->headers ? r->headers : &none;
    const char *dial = r->target->connect_to;
    size_t lines_size = http_header_lines_size(h), n_nodes = h->n + HTTP_LINES_EXTRA + 1;
    size_t dial_size = dial ? strlen(dial) + 3 : 0;

    struct flight *f =
        mem_zalloc(sizeof(*f) + n_nodes * sizeof(f->nodes[0]) + lines_size + dial_size);
    f->magic = FLIGHT_MAGIC;
    f->r = r;
    f->work.run = flight_deliver;

    struct curl_slist *node = f->nodes, **link = &f->headers;
    char *text = (char *)&f->nodes[n_nodes];
    if (dial) {
        (void)snprintf(text, dial_size, "::%s", dial);
        node->data = text;
        f->connect_to = node++;
        text += dial_size;
    }
    for (size_t n = http_header_lines(h, text); n > 0; n--) {
        node->data = text;
        *link = node;
        link = &node->next;
        node++;
        text += strlen(text) + 1;
    }

    bool ok = true;
    for (size_t i = 0; i < h->n; i++) {
        ok = ok && http_header_ok(&h->items[i]);
    }
    if (!http_method_parse(r->method, &f->method)) {
        flight_fail(f, ERR_INVALID, -EINVAL, "unknown method");
    } else if (!ok) {
        flight_fail(f, ERR_INVALID, -EINVAL, "a header has a character that cannot be sent");
    } else if (r->body_len > 0 && f->method != HTTP_PUT && f->method != HTTP_POST && f->method != HTTP_PATCH) {
        flight_fail(f, ERR_INVALID, -EINVAL, "cannot have a body");
    }
    return f;
}

void http_submit(struct http_engine *e, struct http_req *r)
{
    CHECK_MAGIC(e, ENGINE_MAGIC);
    ENSURE(r->method && r->url && r->target && r->lane && r->done && r->lane->e == e);
    http_req_fini(r);
    r->status = 0;
    r->http_status = 0;
    r->sink_got = 0;
    r->sent = false;
    r->resent = false;
    err_clear(&r->err);

    struct flight *f = flight_new(e, r);
    bool wake = false, refused = f->failed;
    if (!refused) {
        mutex_lock(&e->lock);
        refused = e->closing;
        if (!refused) {
            r->priv = f;
            TAILQ_INSERT_TAIL(&e->inbox, f, link);
            wake = e->sleeping;
            e->sleeping = false;
        }
        mutex_unlock(&e->lock);
    }
    if (refused) {
        flight_fail(f, ERR_CANCELED, -ECANCELED, "canceled: shutting down");
        pool_submit(e->workers, &f->work);
    } else if (wake) {
        http_events_wake(e->events);
    }
}

void http_cancel(struct http_engine *e, struct http_req *r)
{
    CHECK_MAGIC(e, ENGINE_MAGIC);
    bool wake = false;
    mutex_lock(&e->lock);
    struct flight *f = r->priv;
    if (f && !f->cancel_asked) {
        CHECK_MAGIC(f, FLIGHT_MAGIC);
        f->cancel_asked = true;
        f->cancel_next = e->cancels;
        e->cancels = f;
        wake = e->sleeping;
        e->sleeping = false;
    }
    mutex_unlock(&e->lock);
    if (wake) {
        http_events_wake(e->events);
    }
}

void http_req_fini(struct http_req *r)
{
    kv_fini(&r->answer_headers);
    buf_fini(&r->answer);
}

int http_lane_new(struct http_engine *e, const char *name, unsigned max_in_flight,
                  struct http_lane **ret)
{
    CHECK_MAGIC(e, ENGINE_MAGIC);
    struct http_lane *l = mem_zalloc(sizeof(*l));
    l->magic = LANE_MAGIC;
    l->e = e;
    l->name = mem_strdup(name);
    TAILQ_INIT(&l->queue);
    l->max = MAX(max_in_flight, 1U);
    http_aimd_init(&l->aimd, l->max);
    atomic_init(&l->limit, l->max);
    mutex_lock(&e->lock);
    e->lane_total += l->max;
    mutex_unlock(&e->lock);
    *ret = l;
    return 0;
}

void http_lane_free(struct http_lane *l)
{
    if (!l) {
        return;
    }
    CHECK_MAGIC(l, LANE_MAGIC);
    ENSURE(l->in_flight == 0 && TAILQ_EMPTY(&l->queue) && !l->busy);
    mutex_lock(&l->e->lock);
    l->e->lane_total -= l->max;
    mutex_unlock(&l->e->lock);
    l->magic = 0;
    free(l->name);
    free(l);
}

void http_lane_feedback(struct http_lane *l, bool throttled)
{
    CHECK_MAGIC(l, LANE_MAGIC);
    /* Almost always there is nothing to do. A race with a cut loses one success of many. */
    if (!throttled && atomic_load_explicit(&l->limit, memory_order_relaxed) == l->max) {
        return;
    }
    int64_t now = time_mono_ns();
    mutex_lock(&l->e->lock);
    unsigned limit = http_aimd_feedback(&l->aimd, throttled, now);
    bool changed = atomic_exchange_explicit(&l->limit, limit, memory_order_relaxed) != limit;
    mutex_unlock(&l->e->lock);
    if (changed) {
        log_debug("http", "lane=%s limit=%u of %u", l->name, limit, l->max);
    }
}

unsigned http_lane_limit(const struct http_lane *l)
{
    return atomic_load_explicit(&l->limit, memory_order_relaxed);
}

void http_engine_stats(struct http_engine *e, struct http_stats *ret)
{
    mutex_lock(&e->lock);
    *ret = e->stats;
    mutex_unlock(&e->lock);
}

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_started;

static void curl_start(void)
{
    curl_started = curl_global_init(CURL_GLOBAL_ALL);
}

int http_engine_new(struct pool *workers, const char *ca_file, struct http_engine **ret)
{
    ENSURE(pthread_once(&curl_once, curl_start) == 0);
    if (curl_started != CURLE_OK) {
        return -ENOMEM;
    }
    struct http_engine *e = mem_zalloc(sizeof(*e));
    e->magic = ENGINE_MAGIC;
    e->workers = workers;
    e->ca_file = ca_file ? mem_strdup(ca_file) : NULL;
    /* With a directory of certificates set beside the file, curl reads the file anew for each
     * connection instead of keeping it parsed: tens of milliseconds of CPU. */
    const char *ca = ca_file ? ca_file : curl_version_info(CURLVERSION_NOW)->cainfo;
    e->no_ca_path = ca && access(ca, R_OK) == 0;
    mutex_init(&e->lock, RANK_ENGINE);
    TAILQ_INIT(&e->inbox);
    TAILQ_INIT(&e->active);
    TAILQ_INIT(&e->ended);
    e->multi = curl_multi_init();
    e->share = curl_share_init();
    ENSURE(e->multi && e->share);
    int err = http_events_new(e->multi, &e->events);
    /* One TLS session cache for all handles, used by one thread: no lock functions needed. */
    ENSURE(curl_share_setopt(e->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK);
    ENSURE(curl_multi_setopt(e->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING) == CURLM_OK);

    if (err == 0) {
        err = thread_start(&e->thread, engine_main, e, "objmig-http");
    }
    if (err < 0) {
        curl_multi_cleanup(e->multi);
        http_events_free(e->events);
        curl_share_cleanup(e->share);
        mutex_fini(&e->lock);
        free(e->ca_file);
        free(e);
        return err;
    }
    *ret = e;
    return 0;
}

void http_engine_stop(struct http_engine *e)
{
    CHECK_MAGIC(e, ENGINE_MAGIC);
    mutex_lock(&e->lock);
    bool stopped = e->closing;
    e->closing = true;
    mutex_unlock(&e->lock);
    if (!stopped) {
        http_events_wake(e->events);
        ENSURE(pthread_join(e->thread, NULL) == 0);
    }
    pool_drain(e->workers); /* every done has run, and so has what they submitted */
}

void http_engine_free(struct http_engine *e)
{
    if (!e) {
        return;
    }
    http_engine_stop(e);
    ENSURE(e->lane_total == 0);
    /* No handle is on a request any more: should curl still call back, nothing happens. */
    slots_free(e->free_slots);
    slots_free(e->free_big_slots);
    curl_multi_cleanup(e->multi);
    http_events_free(e->events);
    curl_share_cleanup(e->share);
    mutex_fini(&e->lock);
    free(e->ca_file);
    e->magic = 0;
    free(e);
}
