/* Requests and answers, whole and broken. */
#include "http_call.h"

/* ---- what is sent */

static void test_exact_request(void **state)
{
    struct call *c = call_new("GET", "/a/../b%2Fc//%e4?x=1&y=%20");
    kv_set(&c->headers, "Host", "bucket.example.com");
    kv_set(&c->headers, "Authorization", "secret");
    kv_set(&c->headers, "x-empty", "");
    kv_set(&c->headers, "Content-Length", "77");
    call_run(c);
    assert_ok(c, 200);
    assert_true(c->r.sent && !c->r.resent);
    assert_string_equal(peer_request(peer, 0)->head, "GET /a/../b%2Fc//%e4?x=1&y=%20 HTTP/1.1\r\n"
                                                     "Host: bucket.example.com\r\n"
                                                     "User-Agent: objmig/" OBJMIG_VERSION "\r\n"
                                                     "Authorization: secret\r\nx-empty:\r\n\r\n");
    call_free(c);
    c = call_new("GET", "/");
    kv_set(&c->headers, "host", "h");
    kv_set(&c->headers, "accept", "text/xml");
    kv_set(&c->headers, "accept-encoding", "identity");
    kv_set(&c->headers, "user-agent", "other");
    call_run(c);
    assert_string_equal(peer_request(peer, 1)->head,
                        "GET / HTTP/1.1\r\nHost: h\r\naccept: text/xml\r\n"
                        "accept-encoding: identity\r\nuser-agent: other\r\n\r\n");
    call_free(c);
}

/* Each method after each other one on the same handle: nothing of the request before stays. */
static void test_methods(void **state)
{
    static const struct {
        const char *method, *body, *head;
    } kinds[] = {
        {"GET", NULL, "GET /m HTTP/1.1\r\nHost: h\r\nuser-agent: u\r\n\r\n"},
        {"HEAD", NULL, "HEAD /m HTTP/1.1\r\nHost: h\r\nuser-agent: u\r\n\r\n"},
        {"DELETE", NULL, "DELETE /m HTTP/1.1\r\nHost: h\r\nuser-agent: u\r\n\r\n"},
        {"PUT", "", "PUT /m HTTP/1.1\r\nHost: h\r\nuser-agent: u\r\nContent-Length: 0\r\n\r\n"},
        {"PUT", "abc", "PUT /m HTTP/1.1\r\nHost: h\r\nuser-agent: u\r\nContent-Length: 3\r\n\r\n"},
        {"POST", "", "POST /m HTTP/1.1\r\nHost: h\r\nuser-agent: u\r\nContent-Length: 0\r\n\r\n"},
        {"POST", "d\0e",
         "POST /m HTTP/1.1\r\nHost: h\r\nuser-agent: u\r\nContent-Length: 3\r\n\r\n"},
    };
    unsigned n = 0;
    peer_fallback(peer, &(struct peer_step){.body = "12345", .headers = "ETag: x\r\n"});
    struct peer_step no_body = {.body = "12345", .headers = "ETag: x\r\n", .no_body = true};
    for (size_t i = 0; i < ARRAY_LEN(kinds) * ARRAY_LEN(kinds) * 2; i++) {
        /* pairs (a,b), flattened */
        size_t pair = i / 2, k = i % 2 ? pair % ARRAY_LEN(kinds) : pair / ARRAY_LEN(kinds);
        bool head = strcmp(kinds[k].method, "HEAD") == 0;
        push(head ? &no_body : &(struct peer_step){.body = "12345", .headers = "ETag: x\r\n"});
        struct call *c = call_new(kinds[k].method, "/m");
        kv_set(&c->headers, "host", "h");
        kv_set(&c->headers, "user-agent", "u");
        c->r.body = kinds[k].body;
        c->r.body_len = !kinds[k].body ? 0 : kinds[k].body[0] == 'd' ? 3 : strlen(kinds[k].body);
        call_run(c);
        assert_ok(c, 200);
        assert_string_equal(buf_str(&c->r.answer), head ? "" : "12345");
        assert_string_equal(kv_get(&c->r.answer_headers, "content-length"), "5");
        assert_string_equal(peer_request(peer, n)->head, kinds[k].head);
        assert_int_equal(peer_request(peer, n)->body_len, c->r.body_len);
        if (c->r.body_len) {
            assert_memory_equal(peer_request(peer, n)->body, c->r.body, c->r.body_len);
        }
        n++;
        call_free(c);
    }
    assert_int_equal(peer_n_connections(peer), 1);
    struct http_stats s;
    http_engine_stats(engine, &s);
    assert_int_equal(s.requests, n);
    assert_int_equal(s.by_method[HTTP_HEAD], n / 7);
    assert_int_equal(s.by_method[HTTP_PUT], n / 7 * 2);
    assert_int_equal(s.connects, 1);
    assert_int_equal(s.in_flight, 0);
    assert_int_equal(s.queued, 0);
}

static void test_big_bodies(void **state)
{
    size_t len = 5 << 20;
    unsigned *data = keep(malloc(len));
    for (size_t i = 0; i < len / 4; i++) {
        data[i] = (unsigned)i * 2654435761u;
    }
    size_t total = 0;
    for (size_t n = len; n > 1000; n = n * 2 / 7) {
        total += n;
        struct call *c = call_new("PUT", "/big");
        c->r.body = data;
        c->r.body_len = n;
        call_run(c);
        assert_ok(c, 200);
        const struct peer_request *r = peer_request(peer, peer_n_requests(peer) - 1);
        assert_int_equal(r->body_len, n);
        assert_memory_equal(r->body, data, n);
        assert_null(strcasestr(r->head, "expect"));
        assert_null(strcasestr(r->head, "content-type"));
        call_free(c);

        push(&(struct peer_step){.body = data, .body_len = n});
        c = call_new("GET", "/big");
        c->r.sink = malloc(n);
        c->r.sink_len = n;
        call_run(c);
        assert_ok(c, 200);
        assert_int_equal(c->r.sink_got, n);
        assert_memory_equal(c->r.sink, data, n);
        free(c->r.sink);
        call_free(c);
    }
    struct http_stats s;
    http_engine_stats(engine, &s);
    assert_in_range(s.bytes_sent, total + 400, total + 4000);
    assert_in_range(s.bytes_received, total + 400, total + 4000);
}

static void test_bad_requests(void **state)
{
    static const char *const bad[][2] = {{"x-a", "b\r\nx-c: d"}, {"x-a", "b\nc"},   {"x-a", "\x01"},
                                         {"x-a", "b\x7f"},       {"", "b"},         {"x a", "b"},
                                         {"x:a", "b"},           {"x-a\r\nb", "c"}, {"x;", "b"},
                                         {"\xc3\xa4", "b"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct call *c = call_new("GET", "/");
        kv_set(&c->headers, bad[i][0], bad[i][1]);
        call_run(c);
        assert_failed(c, ERR_INVALID, "header");
        assert_false(c->r.sent);
        call_free(c);
    }
    static const char *const urls[] = {"ftp://127.0.0.1/",
                                       "http://",
                                       "nonsense://x/",
                                       "http://a b/",
                                       "http://127.0.0.1/a b",
                                       "http://127.0.0.1:99999/",
                                       "file:///etc/passwd",
                                       "http://127.0.0.1/a\r\nb",
                                       ""};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct call *c = call_new("GET", "/");
        c->r.url = urls[i];
        call_run(c);
        assert_failed(c, ERR_INVALID, "not a URL");
        assert_false(c->r.sent);
        call_free(c);
    }
    struct call *c = call_run(call_new("TRACE", "/"));
    assert_failed(c, ERR_INVALID, "method");
    call_free(c);
    c = call_new("GET", "/");
    c->r.body = "x";
    c->r.body_len = 1;
    call_run(c);
    assert_failed(c, ERR_INVALID, "body");
    call_free(c);
    assert_int_equal(peer_n_connections(peer), 0);
}

/* ---- how it gets there */

static void test_connections_are_kept(void **state)
{
    for (int i = 0; i < 10; i++) {
        struct call *c = get("/");
        assert_ok(c, 200);
        call_free(c);
    }
    assert_int_equal(peer_n_connections(peer), 1);
    peer_drop_connections(peer); /* an idle time-out of the server */
    struct call *c = get("/");
    assert_ok(c, 200);
    call_free(c);
    push(&(struct peer_step){.close = true});
    for (int i = 0; i < 2; i++) {
        c = get("/");
        assert_ok(c, 200);
        call_free(c);
    }
    assert_int_equal(peer_n_connections(peer), 3);
}

static void test_connect_to(void **state)
{
    char *dial = mem_printf("127.0.0.1:%d", peer_port(peer));
    target.connect_to = dial;
    struct call *c = call_new("GET", "/");
    c->r.url = "http://bucket.host.invalid/k";
    call_run(c);
    assert_ok(c, 200);
    assert_non_null(strstr(peer_request(peer, 0)->head, "\r\nHost: bucket.host.invalid\r\n"));
    call_free(c);
    free(dial);
}

static void test_proxy(void **state)
{
    char *proxy = mem_printf("http://127.0.0.1:%d", peer_port(peer));
    target.proxy = proxy;
    struct call *c = call_new("GET", "/");
    c->r.url = "http://bucket.host.invalid/k?q";
    call_run(c);
    assert_ok(c, 200);
    const char *head = peer_request(peer, 0)->head;
    assert_int_equal(strncmp(head, "GET http://bucket.host.invalid/k?q HTTP/1.1\r\n", 45), 0);
    target.proxy = NULL;

    /* From the environment only when told. */
    setenv("http_proxy", proxy, 1);
    setenv("no_proxy", "other.invalid", 1);
    target.proxy_from_env = true;
    call_run(c);
    assert_ok(c, 200);
    assert_int_equal(peer_n_requests(peer), 2);
    target.proxy_from_env = false;
    char *dial = mem_printf("127.0.0.1:%d", peer_port(peer));
    target.connect_to = dial;
    call_run(c);
    assert_ok(c, 200);
    assert_int_equal(strncmp(peer_request(peer, 2)->head, "GET /k?q HTTP/1.1\r\n", 19), 0);
    unsetenv("http_proxy");
    unsetenv("no_proxy");
    call_free(c);
    free(dial);
    free(proxy);
}

static void test_refused(void **state)
{
    struct call *c = call_new("PUT", "/");
    c->r.url = "http://user:pass@127.0.0.1:1/secret/path?sig=secret"; /* nobody's, and given to nobody by chance */
    kv_set(&c->headers, "Authorization", "secret");
    call_run(c);
    assert_failed(c, ERR_TRANSIENT, "cannot connect");
    assert_int_equal(c->r.status, -ECONNREFUSED);
    assert_int_equal(c->r.http_status, 0);
    assert_false(c->r.sent);
    assert_false(c->r.err.outcome_unknown);
    assert_null(strstr(c->r.err.message, "secret"));
    assert_null(strstr(c->r.err.message, "pass"));
    assert_int_equal(strncmp(c->r.err.message, "PUT 127.0.0.1:", 14), 0);
    call_free(c);
}

/* A kept connection that dies with the next request: curl repeats it, unless it must not be. */
static void test_resend(void **state)
{
    static const char *const body = "the body";
    for (int once = 0; once < 2; once++) {
        unsigned before = peer_n_requests(peer);
        struct call *c = get("/"); /* the connection is kept now */
        call_free(c);
        push(&(struct peer_step){.what = PEER_CLOSE});
        c = call_new("PUT", "/put");
        c->r.body = body;
        c->r.body_len = strlen(body);
        c->r.once = once;
        call_run(c);
        assert_true(c->r.sent);
        if (once) {
            assert_failed(c, ERR_TRANSIENT, "without an answer");
            assert_true(c->r.err.outcome_unknown);
            assert_int_equal(peer_n_requests(peer), before + 2);
        } else {
            assert_ok(c, 200);
            assert_true(c->r.resent);
            assert_int_equal(peer_n_requests(peer), before + 3);
            assert_string_equal(peer_request(peer, before + 2)->body, body);
        }
        call_free(c);
        peer_drop_connections(peer);
        if (!once) { /* the script is at its end again */
            push(&(struct peer_step){0});
        }
    }
}

/* ---- what comes back */

static void test_answer(void **state)
{
    push(&(struct peer_step){.status = 206,
                             .body = "hello",
                             .headers = "ETag: \"abc\"\r\nX-Two: 1\r\nx-two:2  \r\nX-None:\r\n"
                                        "Content-Encoding: gzip\r\n"});
    struct call *c = get("/");
    assert_ok(c, 206);
    assert_string_equal(buf_str(&c->r.answer), "hello"); /* not gzip, and nobody tried */
    assert_string_equal(kv_get(&c->r.answer_headers, "etag"), "\"abc\"");
    assert_string_equal(kv_get(&c->r.answer_headers, "x-two"), "1, 2");
    assert_string_equal(kv_get(&c->r.answer_headers, "X-None"), "");
    assert_int_equal(c->r.answer_headers.n, 5);
    /* The same request again: nothing of the first answer stays. */
    push(&(struct peer_step){.status = 204});
    call_run(c);
    assert_ok(c, 204);
    assert_int_equal(c->r.answer.len, 0);
    assert_int_equal(c->r.answer_headers.n, 0);
    push(&(struct peer_step){.status = 304, .headers = "X: y\r\n"});
    call_run(c);
    assert_ok(c, 304);
    push(&(struct peer_step){.status = 503, .headers = "Retry-After: 3\r\n", .body = "<Error/>"});
    call_run(c);
    assert_ok(c, 503);
    assert_string_equal(kv_get(&c->r.answer_headers, "retry-after"), "3");
    assert_string_equal(buf_str(&c->r.answer), "<Error/>");
    call_free(c);
    assert_int_equal(peer_n_connections(peer), 1);
}

static void test_odd_answers(void **state)
{
    push(&(struct peer_step){.interim = true, .headers = "X-Final: 1\r\n", .body = "a"});
    struct call *c = get("/");
    assert_ok(c, 200);
    assert_null(kv_get(&c->r.answer_headers, "x-interim"));
    assert_string_equal(kv_get(&c->r.answer_headers, "x-final"), "1");
    call_free(c);

    push(&(struct peer_step){
        .status = 307, .headers = "Location: http://127.0.0.1:1/\r\n", .body = "b"});
    c = get("/");
    assert_ok(c, 307);
    assert_string_equal(buf_str(&c->r.answer), "b");
    call_free(c);

    push(&(struct peer_step){.chunked = true,
                             .piece = 2,
                             .body = "abcdefg",
                             .headers = "ETag: 1\r\n",
                             .trailer = "ETag: 2\r\nX-Trailer: t\r\n"});
    c = get("/");
    assert_ok(c, 200);
    assert_string_equal(buf_str(&c->r.answer), "abcdefg");
    assert_string_equal(kv_get(&c->r.answer_headers, "etag"), "1");
    assert_null(kv_get(&c->r.answer_headers, "x-trailer"));
    call_free(c);

    push(&(struct peer_step){.until_close = true, .body = "abc"});
    c = get("/");
    assert_ok(c, 200);
    assert_string_equal(buf_str(&c->r.answer), "abc");
    call_free(c);
}

static void test_sink(void **state)
{
    char sink[8] = "-------";
    struct call *c = call_new("GET", "/");
    c->r.sink = sink;
    c->r.sink_len = 4;
    push(&(struct peer_step){.body = "abcd"});
    call_run(c);
    assert_ok(c, 200);
    assert_string_equal(sink, "abcd---");
    assert_int_equal(c->r.sink_got, 4);
    push(&(struct peer_step){.body = "xy"}); /* fewer is the caller's to judge */
    call_run(c);
    assert_ok(c, 200);
    assert_int_equal(c->r.sink_got, 2);
    push(&(struct peer_step){.body = "abcde"});
    call_run(c);
    assert_failed(c, ERR_INTEGRITY, "longer than the 4 bytes");
    assert_int_equal(c->r.http_status, 200);
    assert_int_equal(c->r.err.http_status, 200);
    assert_int_equal(sink[4], '-');
    push(&(struct peer_step){.body = "abcde", .chunked = true, .piece = 2});
    call_run(c);
    assert_failed(c, ERR_INTEGRITY, "longer");
    assert_int_equal(sink[4], '-');
    /* An error's body is never taken for data. */
    memset(sink, '-', 4);
    push(&(struct peer_step){.status = 404, .body = "<Error>NoSuchKey</Error>"});
    call_run(c);
    assert_ok(c, 404);
    assert_int_equal(c->r.sink_got, 0);
    assert_memory_equal(sink, "----", 4);
    assert_string_equal(buf_str(&c->r.answer), "<Error>NoSuchKey</Error>");
    call_free(c);
}

static void test_bounds(void **state)
{
    size_t n = 200000;
    char *big = keep(malloc(n + 1));
    memset(big, 'x', n);
    big[n] = '\0';
    struct call *c = call_new("GET", "/");
    c->r.answer_max = 1000;
    push(&(struct peer_step){.body = big, .body_len = 1001});
    call_run(c);
    assert_failed(c, ERR_INVALID, "larger than 1000");
    push(&(struct peer_step){.body = big, .body_len = 1000});
    call_run(c);
    assert_ok(c, 200);
    assert_int_equal(c->r.answer.len, 1000);
    /* Error bodies have their own bound, and what is beyond it is left out. */
    push(&(struct peer_step){.status = 500, .body = big, .body_len = 65536});
    call_run(c);
    assert_ok(c, 500);
    assert_int_equal(c->r.answer.len, 65536);
    push(&(struct peer_step){.status = 500, .body = big, .body_len = n});
    call_run(c);
    assert_ok(c, 500);
    assert_int_equal(c->r.answer.len, 65536);

    /* One huge header, one that curl lets through, and many. */
    char *line = keep(mem_printf("X-Big: %s\r\n", big));
    push(&(struct peer_step){.headers = line});
    call_run(c);
    assert_failed(c, ERR_INVALID, "header is larger");
    line = keep(mem_printf("X-Big: %.*s\r\n", 70000, big));
    push(&(struct peer_step){.headers = line});
    call_run(c);
    assert_failed(c, ERR_INVALID, "header is larger");
    struct buf many = BUF_INIT;
    for (int i = 0; i < 199; i++) { /* and Content-Length */
        (void)buf_addf(&many, "X-%d: y\r\n", i);
    }
    push(&(struct peer_step){.headers = keep(mem_strdup(buf_str(&many)))});
    call_run(c);
    assert_ok(c, 200);
    assert_int_equal(c->r.answer_headers.n, 200);
    (void)buf_adds(&many, "X-More: y\r\n");
    push(&(struct peer_step){.headers = buf_str(&many)});
    call_run(c);
    assert_failed(c, ERR_INVALID, "header is larger");
    (void)keep(buf_take(&many));
    call_free(c);
}

static int take_data(struct http_req *r, const void *p, size_t n)
{
    return buf_add(&r->answer, p, n);
}

static int take_four(struct http_req *r, const void *p, size_t n)
{
    (void)buf_add(&r->answer, p, MIN(n, 4 - r->answer.len));
    return r->answer.len == 4 ? HTTP_ENOUGH : 0;
}

static int refuse_data(struct http_req *r, const void *p, size_t n)
{
    if (n > 0 && *(const char *)p == 'q') {
        return err_set(&r->err, ERR_QUOTA, -EDQUOT, "the callback's own words");
    }
    return -EILSEQ;
}

static void test_on_data(void **state)
{
    struct call *c = call_new("GET", "/");
    c->r.on_data = take_data;
    push(&(struct peer_step){.body = "streamed", .piece = 3, .piece_ms = 1});
    call_run(c);
    assert_ok(c, 200);
    assert_string_equal(buf_str(&c->r.answer), "streamed");
    assert_int_equal(c->r.sink_got, 8);
    c->r.on_data = take_four; /* the rest never comes, and nobody waits for it */
    push(&(struct peer_step){.body = "enough and more", .body_len = 1000000, .piece = 3, .piece_ms = 1});
    call_run(c);
    assert_ok(c, 200);
    assert_string_equal(buf_str(&c->r.answer), "enou");
    c->r.on_data = refuse_data;
    push(&(struct peer_step){.body = "abc"});
    call_run(c);
    assert_failed(c, ERR_INVALID, "could not be understood");
    assert_int_equal(c->r.status, -EILSEQ);
    push(&(struct peer_step){.body = "q"});
    call_run(c);
    assert_failed(c, ERR_QUOTA, "the callback's own words");
    assert_int_equal(c->r.status, -EDQUOT);
    push(&(struct peer_step){.body = "<Error/>", .status = 400}); /* not for the callback */
    call_run(c);
    assert_ok(c, 400);
    call_free(c);
}

/* ---- broken connections */

static void test_broken(void **state)
{
    static const struct {
        struct peer_step step;
        const char *says;
        int http_status;
    } cases[] = {
        {{.what = PEER_CLOSE}, "connection failed", 0},
        {{.what = PEER_RESET}, "connection failed", 0},
        {{.what = PEER_RAW, .body = "HTTP/1.1 200 OK\r\nContent-Le", .close = true}, "", 0},
        {{.what = PEER_RAW, .body = "garbage, as of another protocol\r\n\r\n", .close = true},
         "not HTTP",
         0},
        {{.what = PEER_RAW, .body = "\0\1\2\3", .body_len = 4, .close = true}, "not HTTP", 0},
        {{.body = "0123456789", .is_cut = true, .cut = 4}, "cut short", 200},
        {{.body = "0123456789", .is_cut = true, .cut = 0}, "cut short", 200},
        {{.body = "0123456789", .is_cut = true, .cut = 4, .chunked = true}, "", 200},
        {{.what = PEER_RAW,
          .close = true,
          .body = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"},
         "",
         200},
        {{.body = "0123456789", .is_cut = true, .cut = 4, .status = 500}, "cut short", 500},
    };
    static const char *const methods[] = {"GET", "PUT", "HEAD"};
    char sink[100];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t m = 0; m < ARRAY_LEN(methods); m++) {
            if (m == 2 && cases[i].http_status) { /* a HEAD's answer ends before the trouble */
                continue;
            }
            push(&cases[i].step);
            struct call *c = call_new(methods[m], "/");
            if (m == 1) {
                c->r.body = "body";
                c->r.body_len = 4;
            } else {
                c->r.sink = sink;
                c->r.sink_len = sizeof(sink);
            }
            call_run(c);
            assert_failed(c, ERR_TRANSIENT, cases[i].says);
            assert_int_equal(c->r.http_status, cases[i].http_status);
            assert_true(c->r.sent);
            assert_int_equal(c->r.err.outcome_unknown, m == 1);
            call_free(c);
        }
    }
}

static void test_early_error(void **state)
{
    size_t len = 8 << 20;
    char *data = calloc(1, len);
    push(&(struct peer_step){.early = true, .status = 403, .body = "<Error/>", .close = true});
    struct call *c = call_new("PUT", "/");
    c->r.body = data;
    c->r.body_len = len;
    call_run(c);
    if (c->r.status == 0) { /* or the reset overtook it */
        assert_int_equal(c->r.http_status, 403);
        assert_string_equal(buf_str(&c->r.answer), "<Error/>");
    } else {
        assert_failed(c, ERR_TRANSIENT, "");
        assert_true(c->r.err.outcome_unknown);
    }
    call_free(c);
    free(data);
}

int main(void)
{
#define WITH(setup_fn, test) cmocka_unit_test_setup_teardown(test, setup_fn, teardown)
    const struct CMUnitTest tests[] = {
        WITH(setup, test_exact_request),
        WITH(setup, test_methods),
        WITH(setup, test_big_bodies),
        WITH(setup, test_bad_requests),
        WITH(setup, test_connections_are_kept),
        WITH(setup, test_connect_to),
        WITH(setup, test_proxy),
        WITH(setup, test_refused),
        WITH(setup, test_resend),
        WITH(setup, test_answer),
        WITH(setup, test_odd_answers),
        WITH(setup, test_sink),
        WITH(setup, test_bounds),
        WITH(setup, test_on_data),
        WITH(setup, test_broken),
        WITH(setup, test_early_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
