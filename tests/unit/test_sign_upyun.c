/* Every signature of the Upyun vectors, and that of a whole request. */
#include "dialect_sites.h"
#include "sign.h"
#include "vectors.h"

static void vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("upyun"), *c;
    const json_t *who = json_object_get(all, "credentials");
    const char *password = vector_text(who, "password");
    struct sign_key key = {vector_text(who, "operator"), password, strlen(password)};
    size_t i, checked = 0;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        CLEANUP(kv_fini) struct kvlist headers = {0};
        CLEANUP(buf_fini) struct buf target = BUF_INIT;
        CLEANUP(sign_out_fini) struct sign_out out = {0};
        print_message("# %s\n", vector_text(c, "name"));
        vector_kvs(json_object_get(c, "headers"), &headers);
        const char *query = vector_text(c, "wire_query"), *md5 = kv_get(&headers, "content-md5");
        assert_int_equal(
            buf_addf(&target, "%s%s%s", vector_text(c, "path"), query[0] != '\0' ? "?" : "", query),
            0);
        char date[SIGN_DATE_SIZE];
        sign_date_http(json_integer_value(json_object_get(c, "time")), date);
        assert_string_equal(date, vector_text(c, "date"));
        assert_int_equal(sign_upyun(vector_text(c, "method"), buf_str(&target), date,
                                    md5 ? md5 : "", &key, &out),
                         0);
        assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
        assert_string_equal(buf_str(&out.authorization),
                            vector_text(json_object_get(c, "expected"), "authorization"));
        checked++;
    }
    assert_int_equal(checked, 21);
    json_decref(all);
}

/* What is signed is what is sent: the encoded path with its query, and the digest's header. */
static void of_a_request(void **state)
{
    (void)state;
    struct dialect_site *s = site(&be_dialect_upyun, conf("svc", "", ""));
    CLEANUP(kv_fini) struct kvlist meta = {0};
    struct be_copy copy = {
        .op = {.kind = BE_COPY, .key = "a b/ü?"}, .src_key = "a b/ü?", .meta = &meta};
    struct dialect_call call = {.kind = BE_COPY, .op = &copy.op, .src = s};
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    CLEANUP(sign_out_fini) struct sign_out want = {0};
    struct errinfo err = {0};
    struct sign_key key = {"AKID", "SECRET", 6};
    assert_int_equal(s->dialect->build(s, &call, &r, &err), 0);
    for (int64_t at = 1700000000; at <= 1700000001; at++) { /* the second replaces the first */
        char date[SIGN_DATE_SIZE];
        sign_date_http(at, date);
        assert_int_equal(s->dialect->sign(s, &r, at, &err), 0);
        assert_string_equal(kv_get(&r.headers, "date"), date);
        assert_int_equal(
            sign_upyun("PATCH", "/svc/a%20b/%C3%BC%3F?metadata=replace", date, "", &key, &want), 0);
        assert_string_equal(kv_get(&r.headers, "authorization"), buf_str(&want.authorization));
    }
    struct be_write w = {.op = {.kind = BE_WRITE, .key = "k"}, .data = "hello world", .len = 11};
    call = (struct dialect_call){.kind = BE_WRITE, .op = &w.op};
    assert_int_equal(s->dialect->build(s, &call, &r, &err), 0);
    assert_int_equal(s->dialect->sign(s, &r, 1700000000, &err), 0);
    assert_string_equal(kv_get(&r.headers, "content-md5"), "5eb63bbbe01eeed093cb22bb8f5acdc3");
    assert_int_equal(sign_upyun("PUT", "/svc/k", "Tue, 14 Nov 2023 22:13:20 GMT",
                                "5eb63bbbe01eeed093cb22bb8f5acdc3", &key, &want),
                     0);
    assert_string_equal(kv_get(&r.headers, "authorization"), buf_str(&want.authorization));
    s->dialect->release(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(of_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
