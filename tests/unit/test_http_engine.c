/* Time, TLS, lanes, cancelling, ending, many at once. */
#include "http_call.h"

static void test_timeouts(void **state)
{
    struct peer_step hole = {.what = PEER_HOLE}, deaf = {.what = PEER_HOLE, .early = true};
    size_t len = 32 << 20;
    char *data = calloc(1, len);
    struct call *calls[5];
    int64_t start = time_mono_ns();
    target.stall_timeout_ms = 800;

    push(&hole); /* takes the request, says nothing */
    calls[0] = call_new("GET", "/stall");
    http_submit(engine, &calls[0]->r);
    assert_true(peer_wait_requests(peer, 1));
    push(&deaf); /* does not even take it */
    calls[1] = call_new("PUT", "/stall");
    calls[1]->r.body = data;
    calls[1]->r.body_len = len;
    http_submit(engine, &calls[1]->r);
    assert_true(peer_wait_requests(peer, 2));
    push(&hole);
    calls[2] = call_new("GET", "/deadline");
    calls[2]->r.deadline_ns = time_mono_ns() + 700000000;
    http_submit(engine, &calls[2]->r);
    assert_true(peer_wait_requests(peer, 3));
    /* Slow is not stalled. */
    push(&(struct peer_step){.body = "0123456789", .piece = 1, .piece_ms = 160});
    calls[3] = call_new("GET", "/slow");
    calls[3]->r.stall_timeout_ms = 1400;
    http_submit(engine, &calls[3]->r);
    assert_true(peer_wait_requests(peer, 4));
    /* A request may have more patience than its target. */
    push(&(struct peer_step){.delay_ms = 1000});
    calls[4] = call_new("GET", "/patient");
    calls[4]->r.stall_timeout_ms = 60000;
    http_submit(engine, &calls[4]->r);
    for (int i = 0; i < 5; i++) {
        call_wait(calls[i]);
    }
    assert_failed(calls[0], ERR_TRANSIENT, "no byte sent or received for 0.8 s");
    assert_int_equal(calls[0]->r.status, -ETIMEDOUT);
    assert_failed(calls[1], ERR_TRANSIENT, "no byte sent");
    assert_true(calls[1]->r.err.outcome_unknown);
    assert_failed(calls[2], ERR_TRANSIENT, "time allowed");
    assert_ok(calls[3], 200);
    assert_ok(calls[4], 200);
    assert_true(time_mono_ns() - start < INT64_C(60000000000));
    for (int i = 0; i < 5; i++) {
        call_free(calls[i]);
    }
    free(data);
}

/* A handshake that never gets an answer is a failure to connect. */
static void test_connect_timeout(void **state)
{
    target.connect_timeout_ms = 200;
    char *url = mem_printf("https://127.0.0.1:%d/", peer_port(peer));
    struct call *c = call_new("PUT", "/");
    c->r.url = url;
    call_run(c);
    assert_failed(c, ERR_TRANSIENT, "cannot connect");
    assert_int_equal(c->r.status, -ETIMEDOUT);
    assert_false(c->r.sent);
    assert_false(c->r.err.outcome_unknown);
    call_free(c);
    free(url);
}

/* ---- TLS */

static int setup_tls(void **state)
{
    peer = peer_new("good.invalid");
    return engine_up(peer_ca_file(peer), 4);
}

static int setup_tls_untrusted(void **state)
{
    peer = peer_new("good.invalid");
    return engine_up(NULL, 4);
}

static struct call *tls_call(const char *host)
{
    static char dial[32];
    (void)snprintf(dial, sizeof(dial), "127.0.0.1:%d", peer_port(peer));
    target.connect_to = dial;
    struct call *c = call_new("GET", "/");
    free(c->url);
    c->url = mem_printf("https://%s/k", host);
    c->r.url = c->url;
    return call_run(c);
}

static void test_tls(void **state)
{
    peer_fallback(peer, &(struct peer_step){.body = "over TLS"});
    for (int i = 0; i < 3; i++) {
        struct call *c = tls_call("good.invalid");
        assert_ok(c, 200);
        assert_string_equal(buf_str(&c->r.answer), "over TLS");
        call_free(c);
    }
    assert_int_equal(peer_n_connections(peer), 1);
    peer_drop_connections(peer); /* a resumed session */
    struct call *c = tls_call("good.invalid");
    assert_ok(c, 200);
    call_free(c);

    c = tls_call("other.invalid");
    assert_failed(c, ERR_INVALID, "certificate is not trusted");
    assert_non_null(strstr(c->r.err.message, "check the end point's name"));
    assert_false(c->r.sent);
    call_free(c);
    push(&(struct peer_step){.body = "0123456789", .is_cut = true, .cut = 4});
    c = tls_call("good.invalid");
    assert_failed(c, ERR_TRANSIENT, "");
    call_free(c);
}

static void test_tls_untrusted(void **state)
{
    struct call *c = tls_call("good.invalid");
    assert_failed(c, ERR_INVALID, "certificate is not trusted");
    assert_int_equal(peer_n_requests(peer), 0);
    call_free(c);
}

static void test_tls_wanted_plain_found(void **state)
{
    peer_fallback(peer, &(struct peer_step){.what = PEER_CLOSE});
    char *url = mem_printf("https://127.0.0.1:%d/", peer_port(peer));
    peer_drop_connections(peer);
    struct call *c = call_new("GET", "/");
    c->r.url = url;
    target.connect_timeout_ms = 150;
    call_run(c);
    assert_failed(c, ERR_TRANSIENT, "");
    assert_false(c->r.sent);
    call_free(c);
    free(url);
}

static void test_bad_ca_file(void **state)
{
    http_lane_free(lane);
    http_engine_free(engine);
    assert_int_equal(http_engine_new(pool, "/nonexistent/ca.pem", &engine), 0);
    assert_int_equal(http_lane_new(engine, "test", 4, &lane), 0);
    struct call *c = tls_call("good.invalid");
    assert_failed(c, ERR_INVALID, "TLS cannot be set up");
    call_free(c);
}

/* ---- lanes */

static void test_lane_order_and_limit(void **state)
{
    struct http_lane *two;
    assert_int_equal(http_lane_new(engine, "two", 2, &two), 0);
    peer_fallback(peer, &(struct peer_step){.hold = true});
    struct call *calls[8];
    for (int i = 0; i < 8; i++) {
        char path[16];
        (void)snprintf(path, sizeof(path), "/%d", i);
        calls[i] = call_new("GET", path);
        calls[i]->r.lane = two;
        http_submit(engine, &calls[i]->r);
        if (i < 2) {
            assert_true(peer_wait_requests(peer, (unsigned)i + 1));
        }
    }
    struct call *other = call_new("GET", "/other"); /* another lane is not held up */
    http_submit(engine, &other->r);
    assert_true(peer_wait_requests(peer, 3));
    struct http_stats s;
    do {
        http_engine_stats(engine, &s);
    } while (s.queued != 6);
    assert_int_equal(s.in_flight, 3);
    assert_non_null(strstr(peer_request(peer, 2)->head, "/other"));
    peer_release(peer);
    for (int i = 0; i < 8; i++) {
        call_wait(calls[i]);
        assert_ok(calls[i], 200);
        call_free(calls[i]);
    }
    call_wait(other);
    call_free(other);
    assert_int_equal(peer_n_requests(peer), 9);
    assert_in_range(peer_n_connections(peer), 2, 3);
    http_lane_free(two);
}

static void test_lane_is_fifo(void **state)
{
    struct http_lane *one;
    struct call *calls[20];
    assert_int_equal(http_lane_new(engine, "one", 1, &one), 0);
    for (int i = 0; i < 20; i++) {
        char path[16];
        (void)snprintf(path, sizeof(path), "/%02d ", i);
        path[3] = '\0';
        calls[i] = call_new("GET", path);
        calls[i]->r.lane = one;
        http_submit(engine, &calls[i]->r);
    }
    for (int i = 0; i < 20; i++) {
        call_wait(calls[i]);
        assert_non_null(strstr(peer_request(peer, (unsigned)i)->head,
                               calls[i]->url + strlen(calls[i]->url) - 3));
    }
    for (int i = 0; i < 20; i++) {
        call_free(calls[i]);
    }
    http_lane_free(one);
}

static void test_lane_feedback(void **state)
{
    assert_int_equal(http_lane_limit(lane), 16);
    http_lane_feedback(lane, false);
    assert_int_equal(http_lane_limit(lane), 16);
    http_lane_feedback(lane, true);
    http_lane_feedback(lane, true); /* within a second: the same congestion */
    assert_int_equal(http_lane_limit(lane), 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(http_lane_limit(lane), 8);
        http_lane_feedback(lane, false);
    }
    assert_int_equal(http_lane_limit(lane), 9);
    for (int i = 0; i < 1000; i++) {
        http_lane_feedback(lane, false);
    }
    assert_int_equal(http_lane_limit(lane), 16);
    struct call *c = get("/");
    assert_ok(c, 200);
    call_free(c);
}

/* ---- cancelling and ending */

static void test_cancel(void **state)
{
    struct http_lane *one;
    assert_int_equal(http_lane_new(engine, "one", 1, &one), 0);
    push(&(struct peer_step){.what = PEER_HOLE});
    struct call *active = call_new("PUT", "/active"), *queued = call_new("PUT", "/queued");
    struct call *last = call_new("GET", "/last");
    active->r.lane = queued->r.lane = last->r.lane = one;
    http_submit(engine, &active->r);
    http_submit(engine, &queued->r);
    http_submit(engine, &last->r);
    assert_true(peer_wait_requests(peer, 1));
    http_cancel(engine, &queued->r);
    http_cancel(engine, &queued->r);
    call_wait(queued);
    assert_failed(queued, ERR_CANCELED, "canceled");
    assert_int_equal(queued->r.status, -ECANCELED);
    assert_false(queued->r.sent);
    assert_false(queued->r.err.outcome_unknown);
    http_cancel(engine, &active->r);
    call_wait(active);
    assert_failed(active, ERR_CANCELED, "canceled");
    assert_true(active->r.err.outcome_unknown);
    call_wait(last); /* what waited behind them goes on */
    assert_ok(last, 200);
    http_cancel(engine, &last->r); /* too late: nothing */
    struct call *deadline = call_new("GET", "/");
    deadline->r.lane = one;
    push(&(struct peer_step){.hold = true});
    http_submit(engine, &last->r);
    assert_true(peer_wait_requests(peer, 3));
    deadline->r.deadline_ns = time_mono_ns() + 1000000; /* counts in the queue too */
    http_submit(engine, &deadline->r);
    call_wait(deadline);
    assert_failed(deadline, ERR_TRANSIENT, "time allowed");
    peer_release(peer);
    call_wait(last);
    assert_ok(last, 200);
    call_free(active);
    call_free(queued);
    call_free(last);
    call_free(deadline);
    http_lane_free(one);
}

static void test_cancel_race(void **state)
{
    struct call *calls[64];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 64; i++) {
            calls[i] = call_new("GET", "/");
            http_submit(engine, &calls[i]->r);
        }
        for (int i = 0; i < 64; i += 2) {
            http_cancel(engine, &calls[(i * 7 + round) % 64]->r);
        }
        for (int i = 0; i < 64; i++) {
            call_wait(calls[i]);
            assert_int_equal(calls[i]->n_done, 1);
            assert_true(calls[i]->r.status == 0 || calls[i]->r.err.cls == ERR_CANCELED);
        }
        for (int i = 0; i < 64; i++) {
            call_free(calls[i]);
        }
    }
}

static void resubmit_once(struct http_req *r)
{
    struct call *c = r->owner;
    if (c->n_done++ == 0) {
        http_submit(engine, r);
    } else {
        sem_post(&c->done);
    }
}

/* Stopping cancels everything, and what done callbacks submit then is refused. */
static void test_engine_stop(void **state)
{
    peer_fallback(peer, &(struct peer_step){.what = PEER_HOLE});
    struct call *calls[40];
    for (int i = 0; i < 40; i++) {
        calls[i] = call_new("GET", "/");
        calls[i]->r.done = resubmit_once;
        http_submit(engine, &calls[i]->r);
    }
    assert_true(peer_wait_requests(peer, 16));
    http_engine_stop(engine);
    for (int i = 0; i < 40; i++) {
        call_wait(calls[i]);
        assert_int_equal(calls[i]->n_done, 2);
        assert_failed(calls[i], ERR_CANCELED, "canceled");
        call_free(calls[i]);
    }
    struct call *late = get("/");
    assert_failed(late, ERR_CANCELED, "shutting down");
    http_cancel(engine, &late->r);
    call_free(late);
}

/* ---- many */

static struct {
    atomic_int left, ok;
    sem_t all;
} many;

static void many_done(struct http_req *r)
{
    struct call *c = r->owner;
    char want[16];
    (void)snprintf(want, sizeof(want), "%u", c->n_done++ % 50);
    many.ok += r->status == 0 && r->http_status == 200 && r->answer.len == 5;
    http_lane_feedback(lane, false);
    if (c->n_done < 50) {
        http_submit(engine, r);
    } else if (--many.left == 0) {
        sem_post(&many.all);
    }
}

static void test_many(void **state)
{
    struct call *calls[64];
    struct http_stats s;
    peer_fallback(peer, &(struct peer_step){.body = "12345"});
    sem_init(&many.all, 0, 0);
    many.left = 64;
    many.ok = 0;
    for (int i = 0; i < 64; i++) {
        calls[i] = call_new(i % 2 ? "PUT" : "GET", "/many");
        if (i % 2) {
            calls[i]->r.body = "0123456789";
            calls[i]->r.body_len = (uint64_t)i % 10;
        }
        calls[i]->r.done = many_done;
        http_submit(engine, &calls[i]->r);
    }
    while (sem_wait(&many.all) < 0) {
    }
    assert_int_equal(many.ok, 64 * 50);
    http_engine_stats(engine, &s);
    assert_int_equal(s.requests, 64 * 50);
    assert_in_range(s.connects, 1, 16);
    assert_int_equal(peer_n_connections(peer), s.connects);
    for (int i = 0; i < 64; i++) {
        call_free(calls[i]);
    }
    sem_destroy(&many.all);
}

/* Connections that the server closes while they are idle, and those that curl closes, make room for others under the same numbers,
 * and so do the resolver's, which a name needs: all of them are waited for. */
static void test_connections_come_and_go(void **state)
{
    enum { ROUNDS = 20, AT_ONCE = 8 };
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct call *calls[AT_ONCE];
        peer_fallback(peer, &(struct peer_step){.body = "12345", .delay_ms = 2, .headers = i % 2 ? "Connection: close\r\n" : NULL});
        for (unsigned j = 0; j < AT_ONCE; j++) {
            calls[j] = call_new("GET", "/");
            if ((i + j) % 2 == 0) {
                free(calls[j]->url);
                calls[j]->url = mem_printf("http://localhost:%d/", peer_port(peer));
                calls[j]->r.url = calls[j]->url;
            }
            http_submit(engine, &calls[j]->r);
        }
        for (unsigned j = 0; j < AT_ONCE; j++) {
            call_wait(calls[j]);
            assert_ok(calls[j], 200);
            call_free(calls[j]);
        }
        peer_drop_connections(peer);
    }
    assert_true(peer_n_connections(peer) >= ROUNDS);
}

int main(void)
{
#define WITH(setup_fn, test) cmocka_unit_test_setup_teardown(test, setup_fn, teardown)
    const struct CMUnitTest tests[] = {
        WITH(setup, test_timeouts),
        WITH(setup, test_connect_timeout),
        WITH(setup_tls, test_tls),
        WITH(setup_tls_untrusted, test_tls_untrusted),
        WITH(setup, test_tls_wanted_plain_found),
        WITH(setup_tls, test_bad_ca_file),
        WITH(setup, test_lane_order_and_limit),
        WITH(setup, test_lane_is_fifo),
        WITH(setup, test_lane_feedback),
        WITH(setup, test_cancel),
        WITH(setup, test_cancel_race),
        WITH(setup, test_engine_stop),
        WITH(setup, test_many),
        WITH(setup, test_connections_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
