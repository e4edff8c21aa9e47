/* provider = http as a dialect: requests for a list's keys, where answers lead, what they tell. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "dialect.h"
#include "digest.h"
#include "mem.h"

#define LIT(s) ((char *)(uintptr_t)(s))
#define URL "http://web:8080/a/file?sig=%2B"

static struct dialect_site *site;
static char list_path[] = "/tmp/objmig-dialect-http-XXXXXX";

static int setup(void **state)
{
    static const char list[] = "Key,Url,Size,ETag,Md5\n"
                               "a," URL ",,,\n"
                               "a/1,https://web/1,,,\n"
                               "a/2,http://own:pass%20word@web/2,,,\n"
                               "b,http://web/b,5,,0123456789ABCDEF0123456789abcdef\n"
                               "c,http://web/c,,tag,\n";
    int fd = mkstemp(list_path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, list, strlen(list)), (ssize_t)strlen(list));
    close(fd);
    struct conf_remote c = {
        .name = LIT("web"), .urllist = list_path, .access_key_id = LIT("user"), .https = true};
    struct errinfo err = {0};
    c.access_key_secret = secret_new("secret");
    if (be_dialect_http.configure(&c, &site, &err) < 0) {
        fail_msg("%s", err.message);
    }
    secret_free(c.access_key_secret);
    return 0;
}

static int teardown(void **state)
{
    be_dialect_http.release(site);
    return unlink(list_path);
}

/* One operation and its request. */
struct
try {
    struct be_stat stat;
    struct be_read read;
    struct dialect_call call;
    struct dialect_request req;
    struct errinfo err;
};

static void begin(struct try *t, enum be_kind kind, const char *key, uint64_t offset, size_t len)
{
    static char buf[100];
    *t = (struct try){.read = {.offset = offset, .len = len, .buf = buf}};
    t->call =
        (struct dialect_call){.kind = kind, .op = kind == BE_STAT ? &t->stat.op : &t->read.op};
    t->call.op->kind = kind;
    t->call.op->key = key;
    assert_int_equal(be_dialect_http.build(site, &t->call, &t->req, &t->err), 0);
    assert_int_equal(be_dialect_http.sign(site, &t->req, 0, &t->err), 0);
}

static void end(struct try *t)
{
    dialect_request_fini(&t->req);
    kv_fini(&t->stat.meta);
    kv_fini(&t->read.meta);
}

static const char *header(const struct try *t, const char *name)
{
    const char *value = kv_get(&t->req.headers, name);
    return value ? value : "";
}

static void expect_request(const struct try *t, const char *method, const char *url,
                           const char *host)
{
    assert_string_equal(t->req.method, method);
    assert_string_equal(buf_str(&t->req.url), url);
    assert_string_equal(header(t, "host"), host);
    assert_string_equal(header(t, "accept-encoding"), "identity");
}

/* headers: "name: value" pairs, ended by NULL. */
static struct dialect_answer answer(int status, struct kvlist *headers, const char *const *lines,
                                    uint64_t got)
{
    kv_fini(headers);
    for (; lines && *lines; lines++) {
        const char *colon = strchr(*lines, ':');
        CLEANUP(mem_freep) char *name = mem_strndup(*lines, (size_t)(colon - *lines));
        kv_set(headers, name, colon + 2);
    }
    return (struct dialect_answer){
        .http_status = status, .headers = headers, .body = "", .body_got = got};
}
#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})

static enum dialect_follow follow(struct try *t, int status, const char *const *lines)
{
    struct kvlist headers = {0};
    struct dialect_answer a = answer(status, &headers, lines, 0);
    enum dialect_follow what = be_dialect_http.follow(site, &t->call, &a, &t->req, &t->err);
    t->req.follows += what == FOLLOW_AGAIN;
    kv_fini(&headers);
    /* the driver signs each attempt */
    assert_int_equal(be_dialect_http.sign(site, &t->req, 0, &t->err), 0);
    return what;
}

static int parse(struct try *t, int status, const char *const *lines, uint64_t got)
{
    struct kvlist headers = {0};
    struct dialect_page page = {0};
    struct dialect_answer a = answer(status, &headers, lines, got);
    int err = be_dialect_http.parse(site, &t->call, &a, &page, &t->err);
    kv_fini(&headers);
    return err;
}

static void test_requests(void **state)
{
    struct try t;
    begin(&t, BE_STAT, "a", 0, 0);
    expect_request(&t, "HEAD", URL, "web:8080");
    assert_string_equal(header(&t, "range"), "");
    assert_string_equal(header(&t, "authorization"), "Basic dXNlcjpzZWNyZXQ=");
    end(&t);
    begin(&t, BE_READ, "a/1", 7, 3);
    expect_request(&t, "GET", "https://web/1", "web");
    assert_string_equal(header(&t, "range"), "bytes=7-9");
    end(&t);
    begin(&t, BE_READ, "a/2", 0, 0);
    expect_request(&t, "HEAD", "http://web/2", "web");
    assert_string_equal(header(&t, "authorization"),
                        "Basic b3duOnBhc3Mgd29yZA=="); /* the URL's own */
    end(&t);
    struct be_stat st = {.op = {.kind = BE_STAT, .key = "no"}};
    struct dialect_call call = {.kind = BE_STAT, .op = &st.op};
    struct dialect_request req = {0};
    struct errinfo err = {0};
    assert_int_equal(be_dialect_http.build(site, &call, &req, &err), -ENOENT);
    assert_int_equal(err.cls, ERR_ABSENT);
    assert_string_equal(err.code, "NoSuchKey");
    dialect_request_fini(&req);
}

static void test_redirects(void **state)
{
    struct try t;
    begin(&t, BE_READ, "a", 0, 10);
    assert_int_equal(follow(&t, 302, LINES("Location: ../x y?z=1")), FOLLOW_AGAIN);
    expect_request(&t, "GET", "http://web:8080/x%20y?z=1", "web:8080");
    assert_string_equal(header(&t, "range"), "bytes=0-9");
    assert_string_equal(header(&t, "authorization"), "Basic dXNlcjpzZWNyZXQ=");
    assert_int_equal(follow(&t, 307, LINES("Location: https://cdn/x")), FOLLOW_AGAIN);
    expect_request(&t, "GET", "https://cdn/x", "cdn");
    assert_string_equal(header(&t, "authorization"), "");
    assert_int_equal(follow(&t, 301, LINES("Location: http://web:8080/back")), FOLLOW_FAILED);
    assert_int_equal(t.err.cls, ERR_INVALID);
    assert_non_null(strstr(t.err.message, ":2 is not followed: it leads from https to http"));
    assert_int_equal(follow(&t, 308, LINES("Location: https://web:8080/back")), FOLLOW_AGAIN);
    assert_string_equal(header(&t, "authorization"), ""); /* once away, nothing comes back */
    end(&t);

    begin(&t, BE_READ, "a/2", 0, 10);
    assert_int_equal(follow(&t, 302, LINES("Location: /there")), FOLLOW_AGAIN);
    assert_string_equal(header(&t, "authorization"), "Basic b3duOnBhc3Mgd29yZA==");
    assert_int_equal(follow(&t, 302, LINES("Location: http://web:81/there")), FOLLOW_AGAIN);
    assert_string_equal(header(&t, "authorization"), "");
    end(&t);

    begin(&t, BE_STAT, "a", 0, 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(follow(&t, 302, LINES("Location: /again")), FOLLOW_AGAIN);
    }
    assert_int_equal(follow(&t, 302, LINES("Location: /again")), FOLLOW_FAILED);
    assert_non_null(strstr(t.err.message, "there were five before"));
    end(&t);
    begin(&t, BE_STAT, "a", 0, 0);
    assert_int_equal(follow(&t, 302, LINES("X-None: x")), FOLLOW_NOT);
    assert_int_equal(follow(&t, 302, LINES("Location: gopher://x/")), FOLLOW_FAILED);
    end(&t);
}

static void test_sizes(void **state)
{
    struct try t;
    begin(&t, BE_STAT, "a", 0, 0);
    assert_int_equal(follow(&t, 200, LINES("Content-Length: 7")), FOLLOW_NOT);
    assert_int_equal(parse(&t, 200,
                           LINES("Content-Length: 7", "ETag: \"e\"",
                                 "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT"),
                           0),
                     0);
    assert_int_equal(t.stat.object.size, 7);
    assert_string_equal(t.stat.object.etag, "e");
    assert_true(t.stat.object.mtime_ns == INT64_C(1700000000) * 1000000000);
    end(&t);

    const int refusals[] = {400, 403, 404, 405, 406, 500, 501};
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        begin(&t, BE_STAT, "a", 0, 0);
        assert_int_equal(follow(&t, refusals[i], NULL), FOLLOW_AGAIN);
        expect_request(&t, "GET", URL, "web:8080");
        assert_string_equal(header(&t, "range"), "bytes=0-0");
        assert_int_equal(follow(&t, refusals[i], NULL), FOLLOW_NOT); /* GET's word is final */
        assert_int_equal(
            parse(&t, 206, LINES("Content-Range: bytes 0-0/123", "Content-Length: 1"), 0), 0);
        assert_int_equal(t.stat.object.size, 123);
        end(&t);
    }
    begin(&t, BE_STAT, "a", 0, 0);
    assert_int_equal(follow(&t, 401, NULL), FOLLOW_NOT);
    assert_int_equal(follow(&t, 503, NULL), FOLLOW_NOT);
    assert_int_equal(follow(&t, 200, LINES("Content-Length: 0")),
                     FOLLOW_AGAIN); /* some say so of any */
    assert_int_equal(follow(&t, 416, LINES("Content-Range: bytes */0")), FOLLOW_SUCCESS);
    assert_int_equal(parse(&t, 416, LINES("Content-Range: bytes */0"), 0), 0);
    assert_int_equal(t.stat.object.size, 0);
    end(&t);
    begin(&t, BE_STAT, "a", 0, 0);
    assert_int_equal(follow(&t, 200, LINES("ETag: \"e\"")), FOLLOW_AGAIN);
    assert_int_equal(parse(&t, 200, LINES("ETag: \"e\""), 0), -EINVAL);
    assert_non_null(strstr(t.err.message, ":2: the server does not tell its size"));
    end(&t);
}

static void test_versions(void **state)
{
    struct try t;
    char first[BE_ETAG_MAX];
    begin(&t, BE_STAT, "a", 0, 0);
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 7", "ETag: W/\"e\""), 0), 0);
    memcpy(first, t.stat.object.etag, sizeof(first));
    assert_int_equal(first[0], '~');
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 7", "ETag: W/\"e\""), 0), 0);
    assert_string_equal(t.stat.object.etag, first);
    assert_int_equal(parse(&t, 206, LINES("Content-Range: bytes 0-0/7", "ETag: W/\"e\""), 0), 0);
    assert_string_equal(t.stat.object.etag, first);
    const char *const *const others[] = {
        LINES("Content-Length: 8", "ETag: W/\"e\""),
        LINES("Content-Length: 7", "ETag: W/\"f\""),
        LINES("Content-Length: 7"),
        LINES("Content-Length: 7", "ETag: W/\"e\"", "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT"),
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_int_equal(parse(&t, 200, others[i], 0), 0);
        assert_string_not_equal(t.stat.object.etag, first);
    }
    CLEANUP(mem_freep) char *longest = mem_printf("ETag: \"%0200d\"", 1);
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 7", longest), 0), 0);
    assert_int_equal(strlen(t.stat.object.etag), 33);
    assert_false(dialect_etag_is_hex(t.stat.object.etag) || t.stat.object.etag_is_md5);
    end(&t);
}

static void test_metadata(void **state)
{
    struct try t;
    begin(&t, BE_STAT, "a", 0, 0);
    assert_int_equal(
        parse(&t, 200,
              LINES("Content-Length: 7", "Content-Type: text/x", "Cache-Control: no-store",
                    "X-Oss-Meta-Colour: UTF-8''%C3%A4", "x-cos-meta-md5: abc", "X-Meta-no: 1",
                    "x-: 2", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg==", "Server: s"),
              0),
        0);
    assert_string_equal(kv_get(&t.stat.meta, "content-type"), "text/x");
    assert_string_equal(kv_get(&t.stat.meta, "cache-control"), "no-store");
    assert_string_equal(kv_get(&t.stat.meta, "meta-colour"), "\xc3\xa4");
    assert_string_equal(kv_get(&t.stat.meta, "meta-md5"), "abc");
    assert_int_equal(t.stat.meta.n, 4);
    kv_fini(&t.stat.meta);
    assert_int_equal(
        parse(&t, 200, LINES("Content-Length: 7", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg=="), 0), 0);
    assert_string_equal(kv_get(&t.stat.meta, "meta-md5"), "5d41402abc4b2a76b9719d911017c592");
    kv_fini(&t.stat.meta);
    assert_int_equal(
        parse(&t, 206, LINES("Content-Range: bytes 0-0/7", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg=="),
              0),
        0);
    assert_null(kv_get(&t.stat.meta, "meta-md5")); /* that of the piece */
    end(&t);
}

static void test_manifest(void **state)
{
    struct try t;
    begin(&t, BE_STAT, "b", 0, 0);
    assert_int_equal(parse(&t, 200, LINES("ETag: \"e\""), 0), 0); /* the server does not say */
    assert_int_equal(t.stat.object.size, 5);
    assert_string_equal(kv_get(&t.stat.meta, "meta-md5"), "0123456789abcdef0123456789abcdef");
    kv_fini(&t.stat.meta);
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 6"), 0), -ESTALE);
    assert_int_equal(t.err.cls, ERR_PRECOND);
    assert_non_null(strstr(t.err.message, ":5: the server has another size"));
    end(&t);
    begin(&t, BE_STAT, "c", 0, 0);
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 6", "ETag: \"tag\""), 0), 0);
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 6", "ETag: \"gat\""), 0), -ESTALE);
    end(&t);
}

static void test_reads(void **state)
{
    struct try t;
    begin(&t, BE_READ, "a", 10, 20);
    assert_int_equal(parse(&t, 206, LINES("Content-Range: bytes 10-29/100", "ETag: \"e\""), 20), 0);
    assert_true(t.read.got == 20 && t.read.object.size == 100);
    kv_fini(&t.read.meta);
    assert_int_equal(parse(&t, 206, LINES("Content-Range: bytes 10-14/15", "ETag: \"e\""), 5), 0);
    assert_int_equal(t.read.got, 5);
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 100", "ETag: \"e\""), 20), 0);
    assert_true(t.read.got == 20 && t.read.object.size == 100);
    assert_int_equal(parse(&t, 200, LINES("Content-Length: 9", "ETag: \"e\""), 0),
                     0); /* it begins behind the end */
    assert_true(t.read.got == 0 && t.read.object.size == 9);
    end(&t);
    static const struct {
        int status;
        const char *line;
        uint64_t got;
        enum err_class cls;
    } wrong[] = {
        {206, "Content-Range: bytes 11-30/100", 20, ERR_INTEGRITY},
        {206, "Content-Range: bytes 10-29/100", 19, ERR_INTEGRITY},
        {206, "Content-Range: bytes 10-14/100", 5, ERR_TRANSIENT},
        {206, "Content-Range: bytes 10-29/*", 20, ERR_INVALID},
        {206, "Content-Range: none", 20, ERR_INVALID},
        {206, "Content-Range: bytes */100", 20, ERR_TRANSIENT},
        {200, "Content-Length: 100", 19, ERR_TRANSIENT},
        {200, "X-None: no length", 20, ERR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        begin(&t, BE_READ, "a", 10, 20);
        assert_true(parse(&t, wrong[i].status, LINES(wrong[i].line), wrong[i].got) < 0);
        assert_int_equal(t.err.cls, wrong[i].cls);
        assert_true(t.read.got == 0 && t.read.meta.n == 0 && t.read.object.size == 0);
        end(&t);
    }
    begin(&t, BE_READ, "a", 10, 20); /* in pieces, of one version */
    struct kvlist headers = {0};
    const char *const *piece = LINES("Content-Range: bytes 10-16/100", "ETag: \"e\"");
    struct dialect_answer a = answer(206, &headers, piece, 7);
    assert_int_equal(be_dialect_http.follow(site, &t.call, &a, &t.req, &t.err), FOLLOW_NOT);
    t.read.if_match = "f";
    assert_int_equal(be_dialect_http.follow(site, &t.call, &a, &t.req, &t.err), FOLLOW_NOT);
    t.read.if_match = "e";
    assert_int_equal(be_dialect_http.follow(site, &t.call, &a, &t.req, &t.err), FOLLOW_AGAIN);
    assert_int_equal(t.req.kept, 7);
    assert_string_equal(header(&t, "range"), "bytes=17-29");
    assert_int_equal(be_dialect_http.follow(site, &t.call, &a, &t.req, &t.err),
                     FOLLOW_NOT); /* the same again */
    kv_fini(&headers);
    assert_int_equal(parse(&t, 206, LINES("Content-Range: bytes 17-29/100", "ETag: \"e\""), 20), 0);
    assert_int_equal(t.read.got, 20);
    end(&t);
    begin(&t, BE_READ, "a", 10, 20);
    assert_int_equal(follow(&t, 206, LINES("Content-Type: Multipart/ByteRanges; boundary=x")),
                     FOLLOW_AGAIN);
    assert_string_equal(header(&t, "range"), "");
    assert_int_equal(follow(&t, 206, LINES("Content-Type: multipart/byteranges; boundary=x")),
                     FOLLOW_NOT);
    assert_int_equal(follow(&t, 403, NULL), FOLLOW_NOT);
    assert_int_equal(follow(&t, 416, NULL), FOLLOW_NOT); /* the driver looks */
    end(&t);
}

static void test_lists(void **state)
{
    struct be_list l = {.op = {.kind = BE_LIST}, .prefix = "", .delimiter = '/', .max = 1};
    struct dialect_call call = {.kind = BE_LIST, .op = &l.op};
    static const char *const keys[] = {"a", "a/", "b", "c"};
    CLEANUP(mem_freep) char *cursor = NULL;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        l.cursor = cursor;
        assert_int_equal(be_dialect_http.local(site, &call, NULL), 1);
        assert_int_equal(l.n_entries, 1);
        assert_string_equal(l.entries[0].key, keys[i]);
        assert_true(l.entries[0].is_prefix == (i == 1) && l.entries[0].unseen == (i != 1));
        free(cursor);
        cursor = TAKE(l.next_cursor);
        assert_true((cursor == NULL) == (i == 3));
        be_list_fini(&l);
    }
    l = (struct be_list){.op = {.kind = BE_LIST}, .prefix = "a/", .start_after = "a/1"};
    assert_int_equal(be_dialect_http.local(site, &call, NULL), 1);
    assert_int_equal(l.n_entries, 1);
    assert_string_equal(l.entries[0].key, "a/2");
    be_list_fini(&l);
}

static void test_refusals(void **state)
{
    static const struct {
        int status;
        enum err_class cls;
    } cases[] = {{401, ERR_AUTH},      {403, ERR_AUTH},      {404, ERR_ABSENT},
                 {410, ERR_ABSENT},    {408, ERR_TRANSIENT}, {429, ERR_THROTTLED},
                 {503, ERR_THROTTLED}, {502, ERR_TRANSIENT}, {522, ERR_TRANSIENT},
                 {451, ERR_INVALID},   {304, ERR_PRECOND}};
    struct try t;
    begin(&t, BE_STAT, "a/1", 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kvlist headers = {0};
        struct errinfo err = {0};
        struct dialect_answer a = answer(cases[i].status, &headers, LINES("Retry-After: 2"), 0);
        be_dialect_http.classify(site, &t.call, &a, &err);
        assert_int_equal(err.cls, cases[i].cls);
        assert_int_equal(err.http_status, cases[i].status);
        assert_int_equal(err.retry_after_ms, 2000);
        assert_non_null(strstr(err.message, strrchr(list_path, '/') + 1));
        assert_non_null(strstr(err.message, ":3: "));
        kv_fini(&headers);
    }
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_sizes),    cmocka_unit_test(test_versions),
        cmocka_unit_test(test_metadata), cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_reads),    cmocka_unit_test(test_lists),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
