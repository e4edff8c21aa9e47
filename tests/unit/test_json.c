#include "unit.h"

#include <string.h>

#include "buf.h"
#include "json.h"
#include "mem.h"

static struct js *read_text(const char *s)
{
    return js_read(s, strlen(s));
}

static void gives_typed_members(void **state)
{
    (void)state;
    CLEANUP(js_freep)
    struct js *o = read_text("{\"t\":\"\\ud55c \\\"x\\\"\",\"n\":17520000000000007,\"neg\":-1,\"f\":1.5,"
                             "\"a\":[\"x\",2,{\"k\":\"v\"}],"
                             "\"nul\":\"a\\u0000b\",\"none\":null,\"o\":{\"one\":\"1\",\"two\":2,\"three\":\"3\"}}");
    uint64_t n = 0;
    assert_non_null(o);
    assert_string_equal(js_text(o, "t"), "\xed\x95\x9c \"x\"");
    assert_true(js_u64(o, "n", &n) && n == 17520000000000007u);
    static const char *const no_number[] = {"t", "neg", "f", "a", "none", "absent"};
    for (size_t i = 0; i < ARRAY_LEN(no_number); i++) {
        assert_false(js_u64(o, no_number[i], &n));
    }
    static const char *const no_text[] = {"n", "a", "o", "none", "nul", "absent"};
    for (size_t i = 0; i < ARRAY_LEN(no_text); i++) {
        assert_null(js_text(o, no_text[i]));
    }
    const struct js *a = js_get(o, "a");
    assert_int_equal(js_count(a), 3);
    assert_string_equal(js_string(js_at(a, 0)), "x");
    assert_null(js_string(js_at(a, 1)));
    assert_string_equal(js_text(js_at(a, 2), "k"), "v");
    assert_null(js_at(a, 3));
    assert_int_equal(js_count(o), 0);
    assert_null(js_text(NULL, "t"));
    assert_null(js_text(a, "t"));

    const char *name, *value;
    void *iter = NULL;
    unsigned seen = 0;
    while (js_next_text(js_get(o, "o"), &iter, &name, &value)) {
        seen += strcmp(name, "one") == 0 && strcmp(value, "1") == 0;
        seen += strcmp(name, "three") == 0 && strcmp(value, "3") == 0;
    }
    assert_int_equal(seen, 2);
    iter = NULL;
    assert_false(js_next_text(NULL, &iter, &name, &value));
}

static void refuses_what_is_no_document(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "{",         "{\"a\":1",       "{\"a\":1}x", "[1,]", "nonsense",
                                      "{'a':1}", "\"\xff\"", "{\"a\":\"\xed\x95\"}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(read_text(bad[i]));
    }
    char deep[2 * JS_DEPTH_MAX + 3];
    memset(deep, '[', JS_DEPTH_MAX);
    memset(deep + JS_DEPTH_MAX, ']', JS_DEPTH_MAX);
    struct js *o = js_read(deep, (size_t)2 * JS_DEPTH_MAX);
    assert_non_null(o);
    js_free(o);
    memset(deep, '[', JS_DEPTH_MAX + 1);
    memset(deep + JS_DEPTH_MAX + 1, ']', JS_DEPTH_MAX + 1);
    assert_null(js_read(deep, (size_t)2 * JS_DEPTH_MAX + 2));
    CLEANUP(js_freep) struct js *brackets = read_text("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"]");
    assert_non_null(brackets); /* in a string they nest nothing */
    js_free(NULL);
}

static void writes_strings(void **state)
{
    (void)state;
    static const char text[] = "a\"b\\c\n\x01\x1f\xed\x95\x9c/\x7f";
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    assert_int_equal(buf_addc(&out, '['), 0);
    assert_int_equal(js_add_string(&out, text), 0);
    assert_int_equal(buf_addc(&out, ']'), 0);
    CLEANUP(js_freep) struct js *again = js_read(out.data, out.len);
    assert_string_equal(js_string(js_at(again, 0)), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_typed_members),
        cmocka_unit_test(refuses_what_is_no_document),
        cmocka_unit_test(writes_strings),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
