/* Every signature of the Azure vectors, with the text it is made over. */
#include "vectors.h"

#include "digest.h"
#include "mem.h"
#include "sign.h"

static json_t *all;
static char secret[256];
static struct sign_key key;

static int load(void **state)
{
    (void)state;
    all = vectors_load("azure");
    const json_t *c = json_object_get(all, "credentials");
    const char *text = vector_text(c, "account_key_base64");
    assert_true(strlen(text) < sizeof(secret));
    assert_true(base64_decode(text, strlen(text), secret, &key.secret_len));
    key.id = vector_text(c, "account");
    key.secret = secret;
    return 0;
}

static int unload(void **state)
{
    (void)state;
    json_decref(all);
    return 0;
}

static void check_shared_key(const json_t *c)
{
    CLEANUP(kv_fini) struct kvlist query = {0};
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    vector_kvs(json_object_get(c, "query"), &query);
    vector_kvs(json_object_get(c, "headers"), &headers);
    const char *length = kv_get(&headers, "content-length");
    struct sign_req req = {vector_text(c, "method"), vector_text(c, "path"), &query, &headers};
    struct sign_key k = key;
    if (strncmp(vector_text(c, "name"), "emulator_", 9) == 0) {
        k.id = "devstoreaccount1"; /* with the same key, as the notes say */
    }
    assert_int_equal(sign_azure(&req, &k, length ? strtoull(length, NULL, 10) : 0, &out), 0);
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    assert_string_equal(buf_str(&out.authorization),
                        vector_text(json_object_get(c, "expected"), "authorization"));
}

/* Those for a container or a blob. An account's, too, is only ever given to us; for it the MAC. */
static void check_sas(const json_t *c)
{
    CLEANUP(kv_fini) struct kvlist fields = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    CLEANUP(mem_freep) char *resource = NULL;
    assert_int_equal(kv_parse(&fields, vector_text(json_object_get(c, "expected"), "query")), 0);
    CLEANUP(mem_freep) char *want = mem_strdup(kv_get(&fields, "sig"));
    if (strcmp(vector_text(c, "kind"), "account-sas") == 0) {
        uint8_t mac[DIGEST_SHA256_LEN];
        char text[BASE64_LEN(DIGEST_SHA256_LEN) + 1];
        const char *to_sign = vector_text(c, "string_to_sign");
        hmac_sha256(key.secret, key.secret_len, to_sign, strlen(to_sign), mac);
        base64_encode(mac, sizeof(mac), text);
        assert_string_equal(text, want);
        return;
    }
    const char *blob = vector_text(c, "blob");
    resource = mem_printf("/blob/%s/%s%s%s", key.id, vector_text(c, "container"),
                          blob[0] != '\0' ? "/" : "", blob);
    assert_int_equal(sign_azure_sas(&fields, resource, &key, &out), 0);
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    assert_string_equal(out.signature, want);
}

static void vectors(void **state)
{
    (void)state;
    size_t i, n_sas = 0;
    const json_t *c;
    json_t *cases = json_object_get(all, "cases");
    json_array_foreach(cases, i, c)
    {
        if (json_object_get(c, "sas_version")) {
            check_sas(c);
            n_sas++;
        } else {
            check_shared_key(c);
        }
    }
    assert_int_equal(i, 30);
    assert_int_equal(n_sas, 4);
}

/* As the service's own language sorts: not by bytes. */
static void order_of_names(void **state)
{
    (void)state;
    static const char *const names[] = {"x-ms-meta-ab", "x-ms-meta-a0", "x-ms-meta-a_b",
                                        "x-ms-meta-a",  "x-ms-mew",     "x-ms-m-etb"};
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        kv_set(&headers, names[i], "v");
    }
    struct sign_req req = {"GET", "/c/b", NULL, &headers};
    assert_int_equal(sign_azure(&req, &key, 0, &out), 0);
    assert_non_null(strstr(buf_str(&out.to_sign),
                           "\nx-ms-meta-a:v\nx-ms-meta-a_b:v\nx-ms-meta-a0:v\nx-ms-meta-ab:v\n"
                           "x-ms-m-etb:v\nx-ms-mew:v\n/"));
}

/* A date that both headers carry is signed once; a length of none is not. */
static void lines(void **state)
{
    (void)state;
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    kv_set(&headers, "date", "D");
    kv_set(&headers, "content-type", "t");
    struct sign_req req = {"PUT", "/c/b", NULL, &headers};
    assert_int_equal(sign_azure(&req, &key, 7, &out), 0);
    assert_string_equal(buf_str(&out.to_sign), "PUT\n\n\n7\n\nt\nD\n\n\n\n\n\n/fakeaccount/c/b");
    kv_set(&headers, "x-ms-date", "X");
    assert_int_equal(sign_azure(&req, &key, 0, &out), 0);
    assert_string_equal(buf_str(&out.to_sign),
                        "PUT\n\n\n\n\nt\n\n\n\n\n\n\nx-ms-date:X\n/fakeaccount/c/b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(order_of_names),
        cmocka_unit_test(lines),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
