#include "unit.h"

#include <string.h>

#include "http_parts.h"
#include "mem.h"

static void test_url_host(void **state)
{
    static const char *const cases[][2] = {
        {"http://host/path?sig=x", "host"},
        {"https://host:8443", "host:8443"},
        {"https://user:pa@ss@host:1/p@th", "host:1"},
        {"https://host?user@x", "host"},
        {"https://host#user@x", "host"},
        {"https://[::1]:80/x", "[::1]:80"},
        {"host/path", "host"},
        {"", ""},
        {"http://", ""},
        {"http://user@", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *host;
        int n = http_url_host(cases[i][0], &host);
        assert_int_equal(n, strlen(cases[i][1]));
        assert_memory_equal(host, cases[i][1], (size_t)n);
    }
    char url[400] = "http://";
    memset(url + 7, 'a', 392);
    const char *host;
    assert_int_equal(http_url_host(url, &host), 120);
}

static void test_method(void **state)
{
    enum http_method m;
    assert_true(http_method_parse("GET", &m) && m == HTTP_GET);
    assert_true(http_method_parse("HEAD", &m) && m == HTTP_HEAD);
    assert_true(http_method_parse("PUT", &m) && m == HTTP_PUT);
    assert_true(http_method_parse("POST", &m) && m == HTTP_POST);
    assert_true(http_method_parse("DELETE", &m) && m == HTTP_DELETE);
    assert_true(http_method_parse("PATCH", &m) && m == HTTP_PATCH);
    assert_false(http_method_parse("get", &m));
    assert_false(http_method_parse("", &m));
    assert_false(http_method_parse("GETS", &m));
}

static void test_header_ok(void **state)
{
    char name[2] = "?", value[2] = "?", good[] = "x-cos-meta-a_b.c!";
    for (int i = 1; i < 256; i++) {
        name[0] = value[0] = (char)i;
        bool token = i > ' ' && i < 127 && i != ':' && i != ';';
        assert_int_equal(http_header_ok(&(struct kv){name, good}), token);
        /* bytes of UTF-8 may be in a value, as they are in the wild */
        assert_int_equal(http_header_ok(&(struct kv){good, value}),
                         (i >= ' ' && i != 127) || i == '\t');
    }
    char empty[] = "";
    assert_false(http_header_ok(&(struct kv){empty, good}));
    assert_true(http_header_ok(&(struct kv){good, empty}));
}

/* Lines joined by '|'. */
static char *lines(const struct kvlist *h)
{
    size_t size = http_header_lines_size(h), n;
    char *p = malloc(size), *at = p;
    n = http_header_lines(h, p);
    assert_true(n <= h->n + HTTP_LINES_EXTRA);
    for (; n > 0; n--) {
        at += strlen(at) + 1;
        at[-1] = n > 1 ? '|' : '\0';
    }
    assert_true((size_t)(at - p) <= size);
    return p;
}

static void test_header_lines(void **state)
{
    struct kvlist h = {0};
    char *s = lines(&h);
    assert_string_equal(s, "Accept:|Expect:|Content-Type:");
    free(s);
    kv_set(&h, "content-TYPE", "a/b");
    kv_set(&h, "Content-Length", "3");
    kv_set(&h, "x-blank", " \t");
    kv_set(&h, "x-empty", "");
    kv_set(&h, "accep", "1");
    kv_set(&h, "accept-encoding", "2");
    s = lines(&h);
    assert_string_equal(
        s, "content-TYPE: a/b|x-blank;|x-empty;|accep: 1|accept-encoding: 2|Accept:|Expect:");
    free(s);
    kv_set(&h, "Accept", "*");
    kv_set(&h, "EXPECT", "100-continue");
    s = lines(&h);
    assert_non_null(strstr(s, "|Accept: *|EXPECT: 100-continue"));
    assert_null(strstr(s, "Expect:"));
    free(s);
    kv_fini(&h);
}

static void parse(const char *text, struct kvlist *ret)
{
    char *p = mem_strdup(text);
    http_parse_headers(p, strlen(text), ret);
    free(p);
}

static void test_parse_headers(void **state)
{
    struct kvlist h = {0};
    parse(
        "A: 1\r\nb:2\nC :3\r\n D: folded\r\n\tE: folded\r\n: none\r\nno colon\r\n\r\nF:  x y \t\r\n"
        "a: 4\r\nG: c:d\r\nlast: z",
        &h);
    assert_int_equal(h.n, 5);
    assert_string_equal(kv_get(&h, "a"), "1, 4");
    assert_string_equal(kv_get(&h, "B"), "2");
    assert_string_equal(kv_get(&h, "f"), "x y");
    assert_string_equal(kv_get(&h, "g"), "c:d");
    assert_string_equal(kv_get(&h, "last"), "z");
    kv_fini(&h);
    parse("a:\r \rb\n", &h);
    assert_string_equal(kv_get(&h, "a"), "b");
    kv_fini(&h);
    parse("", &h);
    parse("\n", &h);
    parse(":", &h);
    parse("\r\n\r\n  \r\n", &h);
    assert_int_equal(h.n, 0);
    kv_fini(&h);
}

/* No bytes of a server make it read or write outside of its own. */
static void test_parse_garbage(void **state)
{
    static const char alphabet[] = "a: \r\n\t\0b";
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        struct kvlist h = {0};
        size_t n = (seed >> 8) % 24;
        char *p = malloc(n + 1);
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            p[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
        }
        p[n] = '\0';
        seed = seed * 1664525u + 1013904223u;
        http_parse_headers(p, n, &h);
        for (size_t i = 0; i < h.n; i++) {
            assert_null(strpbrk(h.items[i].name, "\r\n:"));
            assert_null(strpbrk(h.items[i].value, "\r\n"));
        }
        kv_fini(&h);
        free(p);
    }
}

static void test_aimd(void **state)
{
    struct http_aimd a;
    int64_t s = 1000000000, now = -5 * s;
    http_aimd_init(&a, 64);
    assert_int_equal(http_aimd_feedback(&a, false, now), 64);
    assert_int_equal(http_aimd_feedback(&a, true, now), 32);
    assert_int_equal(http_aimd_feedback(&a, true, now + s - 1), 32);
    assert_int_equal(http_aimd_feedback(&a, true, now + s), 16);
    now += s;
    /* As many successes as the limit make one more; a cut starts the count anew. */
    for (unsigned limit = 16; limit < 64; limit++) {
        for (unsigned i = 1; i < limit; i++) {
            assert_int_equal(http_aimd_feedback(&a, false, now), limit);
        }
        assert_int_equal(http_aimd_feedback(&a, false, now), limit + 1);
    }
    for (int i = 0; i < 200; i++) {
        assert_int_equal(http_aimd_feedback(&a, false, now), 64);
    }
    static const unsigned down[] = {32, 16, 8, 4, 2, 1, 1, 1};
    for (size_t i = 0; i < ARRAY_LEN(down); i++) {
        now += s;
        assert_int_equal(http_aimd_feedback(&a, true, now), down[i]);
    }
    assert_int_equal(http_aimd_feedback(&a, false, now), 2);
    assert_int_equal(http_aimd_feedback(&a, false, now), 2);
    assert_int_equal(http_aimd_feedback(&a, true, now + s), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url_host),      cmocka_unit_test(test_method),
        cmocka_unit_test(test_header_ok),     cmocka_unit_test(test_header_lines),
        cmocka_unit_test(test_parse_headers), cmocka_unit_test(test_parse_garbage),
        cmocka_unit_test(test_aimd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
