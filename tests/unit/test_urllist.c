/* Lists of URLs: what is requested for a line, which key it gives, and what is said of lines that
 * are wrong. */
#include "vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "dialect.h"
#include "digest.h"
#include "mem.h"
#include "urllist.h"

/* --- URLs */

static const char *want(const json_t *v, const char *name)
{
    return vector_text(json_object_get(v, "expected"), name);
}

static void test_vectors(void **state)
{
    json_t *all = vectors_load("http"), *v;
    size_t i, n = 0;
    json_array_foreach(json_object_get(all, "cases"), i, v)
    {
        CLEANUP(weburl_fini) struct weburl u = {0};
        const char *url = vector_text(v, "input_url");
        const char *fault = weburl_parse(url, strlen(url), &u);
        if (fault) {
            fail_msg("%s: %s", vector_text(v, "name"), fault);
        }
        assert_string_equal(u.https ? "https" : "http", want(v, "scheme"));
        assert_string_equal(buf_str(&u.host), want(v, "host_header"));
        assert_string_equal(buf_str(&u.target), want(v, "request_target"));
        char basic[200] = "";
        if (u.login.len > 0) {
            memcpy(basic, "Basic ", 7);
            base64_encode(u.login.data, u.login.len, basic + 6);
        }
        assert_string_equal(basic, want(v, "authorization"));
        n++;
    }
    assert_int_equal(n, 19);
    json_decref(all);
}

static uint64_t number_of(const json_t *v, const char *name)
{
    const json_t *n = json_object_get(json_object_get(v, "expected"), name);
    uint64_t value = 0;
    if (json_is_string(n)) {
        assert_true(dialect_u64(json_string_value(n), &value));
        return value;
    }
    return json_integer_value(n) < 0 ? UINT64_MAX : (uint64_t)json_integer_value(n);
}

static void test_content_range(void **state)
{
    json_t *all = vectors_load("http"), *v;
    size_t i;
    uint64_t first, last, total;
    json_array_foreach(json_object_get(all, "content_range"), i, v)
    {
        const char *header = vector_text(v, "header");
        assert_true(dialect_content_range_open(header, &first, &last, &total));
        assert_int_equal(total, number_of(v, "total"));
        if (number_of(v, "first") == UINT64_MAX) {
            assert_true(first > last);
        } else {
            assert_int_equal(first, number_of(v, "first"));
            assert_int_equal(last, number_of(v, "last"));
        }
        bool known = total != UINT64_MAX;
        assert_true(dialect_content_range(header, &first, &last, &total) == known);
    }
    json_array_foreach(json_object_get(all, "content_range_invalid"), i, v)
    {
        assert_false(dialect_content_range_open(json_string_value(v), &first, &last, &total));
    }
    json_decref(all);
}

static void test_no_urls(void **state)
{
    static const char *const texts[] = {
        "",
        "/path",
        "example.com/x",
        "ftp://example.com/x",
        "http:/example.com/x",
        "http://",
        "http:///x",
        "http://:80/x",
        "http://example.com:0/x",
        "http://example.com:65536/x",
        "http://example.com:8o/x",
        "http://exa mple.com/x",
        "http://exa%6dple.com/x",
        "http://a..b/x",
        "http://[::1/x",
        "http://[::1]x/x",
        "http://[g]/x",
        "http://user%:p@example.com/x",
        "http://u%0aser:p@example.com/x",
        "http://a%3ab:p@example.com/x",
        "http://example.com/a\tb",
        "http://example.com/\x01",
        "http://example.com/\xff",
        "http://"
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4/x",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        CLEANUP(weburl_fini) struct weburl u = {0};
        if (!weburl_parse(texts[i], strlen(texts[i]), &u)) {
            fail_msg("'%s' was taken for a URL", texts[i]);
        }
    }
}

static void test_keys(void **state)
{
    static const struct {
        const char *url, *key; /* NULL: none */
    } cases[] = {
        {"http://h/a/b.txt", "a/b.txt"},
        {"http://h:8080/a%20b", "a b"},
        {"http://h/a b", "a b"},
        {"http://h/%2541", "%41"}, /* once */
        {"http://h/100%", "100%"},
        {"http://h/%zz%4", "%zz%4"},
        {"http://h/a%2Fb", "a/b"},
        {"http://h//a//b", "/a//b"},
        {"http://h/a+b?x=y/z", "a+b"},
        {"http://h/\xe4\xb8\xad", "\xe4\xb8\xad"},
        {"http://h/%e4%b8%ad", "\xe4\xb8\xad"},
        {"http://h/%ff", "\xff"},
        {"http://h/a/../b#c", "b"},
        {"http://h/dir/", "dir/"},
        {"http://h/", NULL},
        {"http://h", NULL},
        {"http://h?x", NULL},
        {"http://h/a%00b", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(weburl_fini) struct weburl u = {0};
        CLEANUP(buf_fini) struct buf key = BUF_INIT;
        assert_null(weburl_parse(cases[i].url, strlen(cases[i].url), &u));
        const char *fault = weburl_key(&u, &key);
        assert_true((fault == NULL) == (cases[i].key != NULL));
        if (!fault) {
            assert_string_equal(buf_str(&key), cases[i].key);
        }
    }
}

static void test_join(void **state)
{
    static const struct {
        const char *location, *url; /* NULL: none */
    } cases[] = {
        {"/x?y", "http://h:81/x?y"},
        {"x", "http://h:81/a/b/x"},
        {"../x", "http://h:81/a/x"},
        {"./", "http://h:81/a/b/"},
        {"?q=1", "http://h:81/a/b/c?q=1"},
        {"", "http://h:81/a/b/c?z"},
        {"#part", "http://h:81/a/b/c?z"},
        {"//other/x", "http://other/x"},
        {"https://user:pw@other:443/x y", "https://other/x%20y"},
        {"HTTP://OTHER/X", "http://other/X"},
        {"/a b#c", "http://h:81/a%20b"},
        {"x:y", NULL},
        {"ftp://h/x", NULL},
        {"file:///etc/passwd", NULL},
        {"http://", NULL},
        {"/a\nb", NULL},
    };
    static const char base[] = "http://user:pw@h:81/a/b/c?z";
    CLEANUP(weburl_fini) struct weburl from = {0};
    CLEANUP(weburl_fini) struct weburl u = {0};
    assert_null(weburl_parse(base, strlen(base), &from));
    assert_string_equal(buf_str(&from.login), "user:pw");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_fini) struct buf text = BUF_INIT;
        const char *fault = weburl_join(&from, cases[i].location, &u);
        assert_true((fault == NULL) == (cases[i].url != NULL));
        if (!fault) {
            assert_int_equal(weburl_text(&u, &text), 0);
            assert_string_equal(buf_str(&text), cases[i].url);
            assert_int_equal(u.login.len, 0);
        }
    }
    assert_null(weburl_join(&from, "/x", &u));
    assert_true(weburl_same_origin(&from, &u));
    assert_null(weburl_join(&from, "//h:82/x", &u));
    assert_false(weburl_same_origin(&from, &u));
    assert_null(weburl_join(&from, "https://h:81/x", &u));
    assert_false(weburl_same_origin(&from, &u));
}

/* --- lists */

static struct urllist *list(const char *text)
{
    struct urllist *l = NULL;
    struct errinfo err = {0};
    if (urllist_parse(text, strlen(text), "list", &l, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return l;
}

static void expect_keys(const struct urllist *l, const char *const *keys, size_t n)
{
    assert_int_equal(urllist_count(l), n);
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *key = urllist_key(l, i, &len);
        assert_int_equal(len, strlen(keys[i]));
        assert_memory_equal(key, keys[i], len);
        assert_int_equal(urllist_lower(l, key, len), i);
    }
}

static void expect_url(const struct urllist *l, const char *key, const char *url, const char *place)
{
    struct urllist_row row;
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf at = BUF_INIT;
    assert_true(urllist_find(l, key, &row));
    assert_int_equal(weburl_text(&row.url, &text), 0);
    assert_string_equal(buf_str(&text), url);
    urllist_place(l, key, &at);
    assert_string_equal(buf_str(&at), place);
    urllist_row_fini(&row);
}

static void test_list(void **state)
{
    static const char *const keys[] = {"B", "a b", "a/b", "b", "z\xc3\xa4"};
    struct urllist *l = list("\xef\xbb\xbf# comment, then nothing\n\r\n   \n"
                             "  http://h/b \r\n"
                             "http://h:99/a%2fb?sig=%2B&x\n"
                             "\thttps://h/a b#f\n"
                             "http://other/B\n"
                             "http://h/z\xc3\xa4");
    struct urllist_row row;
    expect_keys(l, keys, ARRAY_LEN(keys));
    expect_url(l, "b", "http://h/b", "list:4");
    expect_url(l, "a/b", "http://h:99/a%2fb?sig=%2B&x", "list:5");
    expect_url(l, "a b", "https://h/a%20b", "list:6");
    expect_url(l, "z\xc3\xa4", "http://h/z%C3%A4", "list:8");
    assert_false(urllist_find(l, "a", &row));
    assert_false(urllist_find(l, "zz", &row));
    assert_false(urllist_find(l, "", &row));
    assert_int_equal(urllist_lower(l, "a", 1), 1);
    assert_int_equal(urllist_lower(l, "\xff", 1), 5);
    urllist_free(l);
    l = list("");
    assert_int_equal(urllist_count(l), 0);
    urllist_free(l);
}

static void test_manifest(void **state)
{
    static const char *const keys[] = {"a, \"b\"", "plain", "x/y"};
    struct urllist *l = list("# made by hand\nurl,Size,KEY,md5,ETag\n"
                             "http://h/1,5,plain,5d41402abc4b2a76b9719d911017c592,\"\"\"tag\"\"\"\n"
                             "\"http://h/2?a,b\",,\"a, \"\"b\"\"\",,\n"
                             " http://h/3 , 18446744073709551615 ,x/y,,\r\n");
    struct urllist_row row;
    expect_keys(l, keys, ARRAY_LEN(keys));
    expect_url(l, "a, \"b\"", "http://h/2?a,b", "list:4");
    expect_url(l, "x/y", "http://h/3", "list:5");
    assert_true(urllist_find(l, "plain", &row));
    assert_true(row.has_size && row.size == 5 && row.has_md5 && row.md5[0] == 0x5d);
    assert_string_equal(row.etag, "tag");
    urllist_row_fini(&row);
    assert_true(urllist_find(l, "x/y", &row));
    assert_true(row.has_size && row.size == UINT64_MAX && !row.has_md5 && !row.etag);
    urllist_row_fini(&row);
    urllist_free(l);

    static const char *const tabs[] = {"q\"uote,comma", "w"};
    l = list("Key\tUrl\nq\"uote,comma\thttp://h/1\nw\thttp://h/2\n");
    expect_keys(l, tabs, ARRAY_LEN(tabs));
    urllist_free(l);
    static const char *const derived[] = {"one", "two"};
    l = list("Url,Size\nhttp://h/two,2\nhttp://h/one,\n");
    expect_keys(l, derived, ARRAY_LEN(derived));
    urllist_free(l);
}

static void test_faults(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"http://h/a\nftp://h/b\n",
         "list:2: it does not begin with http:// or https://; correct the line or remove it"},
        {"http://h/a\n\n# x\nb\n", "list:4: it does not begin"},
        {"http://h/\n", "list:1: its path names no object"},
        {"http://h/a%00\n", "list:1: its path has a NUL byte"},
        {"http://h/a\thttp://h/b\n", "list:1: it has a control character"},
        {"http://h/\xff\n", "list:1: it is not UTF-8"},
        {"http://h/a\nhttp://h/b\nhttp://other:1/a?x\n",
         "list:1 and list:3 give one key, 'a'; remove one, or write a manifest with columns "
         "Key,Url"},
        {"http://h/a%2Fb\nhttp://h/a/b\n", "list:1 and list:2 give one key, 'a/b'"},
        {"http://h/a\nhttp://h/a\n", "list:1 and list:2 give one key"},
        {"x\ny\nz\n", "(and 2 more, see the log)"},
        {"Key,Url\na,http://h/1\na,http://h/2\n", "list:2 and list:3 give one key"},
        {"Key,Url\n,http://h/1\n", "list:2: its Key is empty"},
        {"Key,Url\na,\n", "list:2: there is no URL"},
        {"Key,Url\na\n", "list:2: it has another number of fields than the first line"},
        {"Key,Url\na,http://h/1,x\n", "list:2: it has another number of fields"},
        {"Key,Url\n\"a,http://h/1\n", "list:2: a quotation mark does not end"},
        {"Key,Url\n\"a\"b,http://h/1\n", "list:2: a quotation mark"},
        {"Key,Url,Size\na,http://h/1,5x\n", "list:2: its Size is not a number"},
        {"Key,Url,Md5\na,http://h/1,123\n", "list:2: its Md5 is not 32"},
        {"Key,Url,ETag\na,http://h/1,a b\n", "list:2: its ETag is none"},
        {"Key,Url,Sise\na,http://h/1,5\n",
         "list:1: column 'Sise' is unknown; use Key, Url, Size, ETag and Md5"},
        {"Key,Url,url\na,http://h/1,5\n", "list:1: column '' is there twice"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct urllist *l = NULL;
        struct errinfo err = {0};
        if (urllist_parse(cases[i].text, strlen(cases[i].text), "list", &l, &err) != -EINVAL ||
            err.cls != ERR_INVALID || !strstr(err.message, cases[i].says)) {
            fail_msg("%zu: '%s' instead of '%s'", i, err.message, cases[i].says);
        }
        assert_null(l);
    }
    CLEANUP(mem_freep) char *key = mem_zalloc(URLLIST_KEY_MAX + 20);
    memcpy(key, "http://h/", 9);
    memset(key + 9, 'k', URLLIST_KEY_MAX);
    struct urllist *l = list(key);
    urllist_free(l);
    key[9 + URLLIST_KEY_MAX] = 'k';
    struct errinfo err = {0};
    assert_int_equal(urllist_parse(key, strlen(key), "list", &l, &err), -EINVAL);
    assert_non_null(strstr(err.message, "list:1: its key is longer than 4096 bytes"));
}

/* --- files */

static void put(const char *dir, const char *name, const char *text)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", dir, name);
    CLEANUP(mem_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void test_files(void **state)
{
    static const char *const keys[] = {"a", "b", "c"};
    char dir[] = "/tmp/objmig-urllist-XXXXXX";
    struct urllist *l = NULL;
    struct errinfo err = {0};
    assert_non_null(mkdtemp(dir));
    CLEANUP(mem_freep) char *sub = mem_printf("%s/sub", dir), *one = mem_printf("%s/2.txt", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    put(dir, "1.txt", "http://h/b\n");
    put(dir, "2.txt", "Key,Url\nc,http://h/b\na,http://h/x\n");
    put(dir, ".2.txt.swp", "no list\n");
    assert_int_equal(urllist_load(dir, "web", &l, &err), 0);
    expect_keys(l, keys, ARRAY_LEN(keys));
    expect_url(l, "c", "http://h/b", "2.txt:2");
    urllist_free(l);
    assert_int_equal(urllist_load(one, "web", &l, &err), 0);
    assert_int_equal(urllist_count(l), 2);
    urllist_free(l);
    put(dir, "3.txt", "http://h/b\n");
    assert_int_equal(urllist_load(dir, "web", &l, &err), -EINVAL);
    assert_non_null(strstr(err.message, "1.txt:1 and 3.txt:1 give one key, 'b'"));
    assert_int_equal(urllist_load("/nonexistent/list", "web", &l, &err), -ENOENT);
    assert_string_equal(
        err.message,
        "[web] urllistPath: /nonexistent/list cannot be read: No such file or directory");
    for (size_t i = 0; i < 4; i++) {
        CLEANUP(mem_freep)
        char *path = mem_printf("%s/%s", dir,
                                ((const char *[]){"1.txt", "2.txt", "3.txt", ".2.txt.swp"})[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(sub), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* Many lines: the text, 24 bytes a line, and nothing a key. */
static void test_many(void **state)
{
    enum { LINES = 300000 };
    struct buf text = BUF_INIT;
    for (unsigned i = 0; i < LINES; i++) {
        assert_int_equal(buf_addf(&text, "http://example.com/photos/%07u.jpg\n",
                                  (unsigned)((i * UINT64_C(7919)) % LINES)),
                         0);
    }
    struct urllist *l = NULL;
    struct errinfo err = {0};
    assert_int_equal(urllist_parse(text.data, text.len, "list", &l, &err), 0);
    buf_fini(&text);
    assert_int_equal(urllist_count(l), LINES);
    for (unsigned i = 0; i < LINES; i += 99991) {
        char want_key[32];
        size_t len;
        (void)snprintf(want_key, sizeof(want_key), "photos/%07u.jpg", i);
        const char *key = urllist_key(l, i, &len);
        assert_int_equal(len, strlen(want_key));
        assert_memory_equal(key, want_key, len);
        struct urllist_row row;
        assert_true(urllist_find(l, want_key, &row));
        urllist_row_fini(&row);
    }
    urllist_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),  cmocka_unit_test(test_content_range),
        cmocka_unit_test(test_no_urls),  cmocka_unit_test(test_keys),
        cmocka_unit_test(test_join),     cmocka_unit_test(test_list),
        cmocka_unit_test(test_manifest), cmocka_unit_test(test_faults),
        cmocka_unit_test(test_files),    cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
