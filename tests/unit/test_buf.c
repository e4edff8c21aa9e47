#include "unit.h"

#include <errno.h>
#include <string.h>

#include "buf.h"
#include "mem.h"

static void test_grow(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    assert_string_equal(buf_str(&b), "");
    assert_int_equal(buf_add(&b, NULL, 0), 0);
    assert_int_equal(buf_adds(&b, "abc"), 0);
    assert_int_equal(buf_addc(&b, '\0'), 0);
    assert_int_equal(buf_addf(&b, "%d-%s", 42, "x"), 0);
    assert_int_equal(b.len, 8);
    assert_memory_equal(b.data,
                        "abc\0"
                        "42-x",
                        9);
    buf_clear(&b);
    assert_string_equal(buf_str(&b), "");
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(buf_addc(&b, (char)('a' + i % 26)), 0);
    }
    assert_int_equal(b.len, 10000);
    assert_int_equal(strlen(buf_str(&b)), 10000);
}

static void test_maximum(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT_MAX(5);
    assert_int_equal(buf_adds(&b, "abc"), 0);
    assert_int_equal(buf_adds(&b, "def"), -EFBIG);
    assert_int_equal(buf_addf(&b, "%s", "def"), -EFBIG);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -EFBIG);
    assert_int_equal(url_encode(&b, " ", 1, false), -EFBIG);
    assert_int_equal(url_decode(&b, "%41%42%43", 9, false), -EFBIG);
    assert_string_equal(buf_str(&b), "abc");
    assert_int_equal(b.len, 3);
    assert_int_equal(buf_adds(&b, "de"), 0);
    assert_string_equal(buf_str(&b), "abcde");
    assert_true(b.cap <= 6);
    CLEANUP(buf_fini) struct buf open_end = BUF_INIT;
    assert_int_equal(buf_reserve(&open_end, SIZE_MAX), -ENOMEM);
}

static void test_take(void **state)
{
    struct buf b = BUF_INIT;
    CLEANUP(mem_freep) char *empty = buf_take(&b);
    assert_string_equal(empty, "");
    assert_int_equal(buf_adds(&b, "abc"), 0);
    CLEANUP(mem_freep) char *s = buf_take(&b);
    assert_string_equal(s, "abc");
    assert_int_equal(b.len, 0);
    assert_null(b.data);
}

static void test_hex(void **state)
{
    char text[9];
    unsigned char bytes[4] = {0x00, 0x7f, 0xab, 0xff}, back[4] = {0};
    hex_encode(bytes, 4, text);
    assert_string_equal(text, "007fabff");
    assert_true(hex_decode(text, 4, back));
    assert_memory_equal(bytes, back, 4);
    assert_true(hex_decode("007FABFF", 4, back));
    assert_false(hex_decode("007fabf", 4, back));
    assert_false(hex_decode("007fabff0", 4, back));
    assert_false(hex_decode("007fabfg", 4, back));
    assert_false(hex_decode("", 1, back));
    assert_true(hex_decode("", 0, back));
}

static void test_url(void **state)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    assert_int_equal(url_encode(&b, "a/b c~+\xc3\xa9%\0", 11, true), 0);
    assert_string_equal(buf_str(&b), "a/b%20c~%2B%C3%A9%25%00");
    CLEANUP(buf_fini) struct buf back = BUF_INIT;
    assert_int_equal(url_decode(&back, b.data, b.len, false), 0);
    assert_int_equal(back.len, 11);
    assert_memory_equal(back.data, "a/b c~+\xc3\xa9%\0", 11);
    buf_clear(&b);
    assert_int_equal(url_encode(&b, "a/b", 3, false), 0);
    assert_string_equal(buf_str(&b), "a%2Fb");
    buf_clear(&b);
    assert_int_equal(url_decode(&b, "a+b%2b", 6, true), 0);
    assert_string_equal(buf_str(&b), "a b+");
    static const char *const bad[] = {"%", "%4", "x%4g", "%%41", "ab%"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(url_decode(&b, bad[i], strlen(bad[i]), false), -EINVAL);
        assert_string_equal(buf_str(&b), "a b+");
    }
    /* Never a byte beyond n. */
    assert_int_equal(url_decode(&b, "%41", 2, false), -EINVAL);
}

static void test_kv(void **state)
{
    CLEANUP(kv_fini) struct kvlist a = {0}, b = {0};
    kv_set(&a, "Content-Type", "text/plain");
    kv_set(&a, "mtime", "1&2=3");
    kv_set(&a, "empty", "");
    assert_string_equal(kv_get(&a, "content-type"), "text/plain");
    assert_null(kv_get(&a, "none"));
    kv_set(&a, "MTIME", kv_get(&a, "mtime"));
    assert_string_equal(kv_get(&a, "mtime"), "1&2=3");
    assert_int_equal(a.n, 3);
    kv_copy(&b, &a);
    kv_copy(&b, &b);
    assert_true(kv_equal(&a, &b));
    kv_set(&b, "empty", NULL);
    kv_set(&b, "absent", NULL);
    assert_false(kv_equal(&a, &b));
    kv_set(&b, "other", "");
    assert_false(kv_equal(&a, &b));
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    assert_int_equal(kv_format(&a, &text), 0);
    assert_string_equal(buf_str(&text), "Content-Type=text%2Fplain&mtime=1%262%3D3&empty=");
    assert_int_equal(kv_parse(&b, buf_str(&text)), 0);
    assert_true(kv_equal(&a, &b));
    static const char *const bad[] = {
        "a",    "=",     "=b",  "a=b&",    "&",     "a=b&&c=d",  "a=%",
        "a=b=", "a=%00", "a= ", "a=1&A=2", "a=b c", "a=\xc3\xa9"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(kv_parse(&b, bad[i]), -EINVAL);
        assert_true(kv_equal(&a, &b));
    }
    assert_int_equal(kv_parse(&b, ""), 0);
    assert_int_equal(b.n, 0);
    text.max = text.len + 3;
    assert_int_equal(kv_format(&a, &text), -EFBIG);
    assert_int_equal(text.len, text.max - 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grow), cmocka_unit_test(test_maximum), cmocka_unit_test(test_take),
        cmocka_unit_test(test_hex),  cmocka_unit_test(test_url),     cmocka_unit_test(test_kv),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
