/* Every signature of the Qiniu vectors, with the text it is made of. */
#include "vectors.h"

#include "mem.h"
#include "sign.h"

static void check_request(const json_t *c, const struct sign_key *key)
{
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    const char *query = vector_text(c, "wire_query"), *body = vector_text(c, "body");
    vector_kvs(json_object_get(c, "headers"), &headers);
    kv_set(&headers, "host", vector_text(c, "host"));
    CLEANUP(mem_freep)
    char *target = mem_printf("%s%s%s", vector_text(c, "path"), query[0] != '\0' ? "?" : "", query);
    assert_int_equal(sign_qiniu(vector_text(c, "method"), target, &headers, body, strlen(body), key,
                                &out),
                     0);
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    assert_string_equal(buf_str(&out.authorization),
                        vector_text(json_object_get(c, "expected"), "authorization"));
}

static void check_upload(const json_t *c, const struct sign_key *key)
{
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    const char *policy = vector_text(c, "put_policy_json");
    assert_int_equal(sign_qiniu_upload(policy, strlen(policy), key, &out), 0);
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    assert_string_equal(buf_str(&out.authorization),
                        vector_text(json_object_get(c, "expected"), "upload_token"));
}

static void check_url(const json_t *c, const struct sign_key *key)
{
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    const char *url = vector_text(c, "string_to_sign");
    assert_int_equal(sign_qiniu_url(url, key, &out), 0);
    CLEANUP(mem_freep) char *whole = mem_printf("%s&token=%s", url, buf_str(&out.authorization));
    assert_string_equal(whole, vector_text(json_object_get(c, "expected"), "url"));
}

static void agrees_with_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("qiniu"), *c;
    const json_t *credentials = json_object_get(all, "credentials");
    const char *secret = vector_text(credentials, "secret_key");
    const struct sign_key key = {vector_text(credentials, "access_key"), secret, strlen(secret)};
    unsigned requests = 0, uploads = 0, urls = 0;
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const char *scheme = vector_text(c, "scheme");
        if (strcmp(scheme, "Qiniu") == 0) {
            check_request(c, &key);
            requests++;
        } else if (strcmp(scheme, "UpToken") == 0) {
            check_upload(c, &key);
            uploads++;
        } else {
            assert_string_equal(scheme, "private-url");
            check_url(c, &key);
            urls++;
        }
    }
    assert_true(requests >= 16 && uploads >= 3 && urls >= 4);
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_vectors)};
    return cmocka_run_group_tests_name("sign_qiniu", tests, NULL, NULL);
}
