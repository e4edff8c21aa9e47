/* The JSON reader, mostly against what no honest server sends. */
#include "unit.h"

#include <string.h>

#include "json.h"
#include "mem.h"

static json_t *read_text(const char *text)
{
    return json_read(text, strlen(text));
}

static void refuses_what_is_not_one_document(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "1",
                                      "\"a\"",
                                      "null",
                                      "{",
                                      "{\"a\":1",
                                      "{}x",
                                      "{}{}",
                                      "{\"a\":1,\"a\":2}",
                                      "{'a':1}",
                                      "[1,]",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":01}",
                                      "<Error/>",
                                      "{\"a\":\"\n\"}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(read_text(bad[i]));
    }
    assert_null(json_read("{}\0", 3));
}

static void bounds_depth(void **state)
{
    (void)state;
    char deep[4 * JSON_DEPTH_MAX];
    memset(deep, '[', JSON_DEPTH_MAX + 1);
    memset(deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_null(json_read(deep, 2 * (JSON_DEPTH_MAX + 1)));
    CLEANUP(json_done) json_t *just = json_read(deep + 1, 2 * JSON_DEPTH_MAX);
    assert_non_null(just);
    /* brackets inside texts, and behind an escaped quote, open nothing */
    CLEANUP(buf_fini) struct buf flat = BUF_INIT;
    assert_int_equal(buf_adds(&flat, "{\"a\":\"\\\"\\\\"), 0);
    for (unsigned i = 0; i < 3 * JSON_DEPTH_MAX; i++) {
        assert_int_equal(buf_addc(&flat, i % 2 ? '[' : '{'), 0);
    }
    assert_int_equal(buf_adds(&flat, "\"}"), 0);
    CLEANUP(json_done) json_t *text = json_read(flat.data, flat.len);
    assert_int_equal(strlen(json_get_text(text, "a")), 2 + 3 * JSON_DEPTH_MAX);
    static const char *const open[] = {"{\"a\":\"\\", "{\"", "\"\\"}; /* ends inside */
    for (size_t i = 0; i < ARRAY_LEN(open); i++) {
        assert_null(read_text(open[i]));
    }
}

static void gets_members(void **state)
{
    (void)state;
    CLEANUP(json_done)
    json_t *o = read_text(
        "  "
        "{\"t\":\"x\\u0001\\ud55c\",\"nul\":\"a\\u0000b\",\"n\":18446744073709551,\"s\":"
        "\"18446744073709551615\","
        "\"neg\":-1,\"real\":1.5,\"yes\":true,\"word\":\"True\",\"no\":false,\"l\":[1,2]}");
    uint64_t v = 7;
    assert_string_equal(json_get_text(o, "t"), "x\x01\xed\x95\x9c");
    assert_null(json_get_text(o, "nul"));
    assert_null(json_get_text(o, "n"));
    assert_null(json_get_text(o, "absent"));
    assert_null(json_get_text(NULL, "t"));
    assert_true(json_get_u64(o, "n", &v) && v == 18446744073709551u);
    assert_true(json_get_u64(o, "s", &v) && v == UINT64_MAX);
    static const char *const none[] = {"neg", "real", "t", "yes", "absent", "l"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        assert_false(json_get_u64(o, none[i], &v));
    }
    assert_true(v == UINT64_MAX);
    assert_true(json_get_flag(o, "yes") && json_get_flag(o, "word"));
    assert_false(json_get_flag(o, "no") || json_get_flag(o, "t") || json_get_flag(o, "absent"));
    assert_int_equal(json_array_size(json_get_rows(o, "l")), 2);
    assert_null(json_get_rows(o, "t"));
    CLEANUP(json_done) json_t *l = read_text("[\"a\",\"a\\u0000b\",1]");
    assert_string_equal(json_text(json_array_get(l, 0)), "a");
    assert_null(json_text(json_array_get(l, 1)));
    assert_null(json_text(json_array_get(l, 2)));
    assert_null(json_text(json_array_get(l, 3)));
}

static void writes_texts(void **state)
{
    (void)state;
    const char *all = "\x01\x1f\n\"\\/ \x7f\xed\x95\x9c";
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    assert_int_equal(buf_adds(&out, "{\"a\":"), 0);
    assert_int_equal(json_put_text(&out, all), 0);
    assert_int_equal(buf_addc(&out, '}'), 0);
    CLEANUP(json_done) json_t *o = json_read(out.data, out.len);
    assert_string_equal(json_get_text(o, "a"), all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_not_one_document),
        cmocka_unit_test(bounds_depth),
        cmocka_unit_test(gets_members),
        cmocka_unit_test(writes_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
