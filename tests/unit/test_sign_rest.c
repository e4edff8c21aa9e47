/* Every signature of the Google and Baidu vectors, with its intermediate texts. */
#include "vectors.h"

#include <errno.h>

#include "digest.h"
#include "sign.h"

static struct sign_key key_of(const json_t *all, const char *id, const char *secret)
{
    const json_t *c = json_object_get(all, "credentials");
    const char *s = vector_text(c, secret);
    return (struct sign_key){vector_text(c, id), s, strlen(s)};
}

/* Whatever a request of the vectors has, ready to be signed. */
struct wire {
    struct kvlist query, headers;
    struct sign_out out;
    char date[SIGN_DATE_SIZE];
};

static void wire_fini(struct wire *w)
{
    kv_fini(&w->query);
    kv_fini(&w->headers);
    sign_out_fini(&w->out);
}

static struct sign_req wire_of(const json_t *c, const char *listed, struct wire *w)
{
    kv_set(&w->headers, "host", vector_text(c, "host")); /* not among the headers of URLs */
    vector_kvs(json_object_get(c, "headers"), &w->headers);
    only_listed(&w->headers, listed);
    return (struct sign_req){vector_text(c, "method"), vector_text(c, "path"), &w->query,
                             &w->headers};
}

static void check_goog_hmac(const json_t *all, const json_t *c)
{
    struct sign_key key = key_of(all, "hmac_access_id", "hmac_secret");
    const char *authorization = vector_text(json_object_get(c, "expected"), "authorization");
    CLEANUP(mem_freep) char *listed = value_after(authorization, "SignedHeaders=", ",");
    CLEANUP(wire_fini) struct wire w = {0};
    struct sign_req req = wire_of(c, listed, &w);
    vector_kvs(json_object_get(c, "query"), &w.query);
    sign_date_iso(json_integer_value(json_object_get(c, "time")), w.date);
    assert_int_equal(sign_v4(&sign_v4_goog, &req, &key, "auto", w.date,
                             kv_get(&w.headers, "x-goog-content-sha256"), &w.out),
                     0);
    assert_string_equal(buf_str(&w.out.canonical), vector_text(c, "canonical_request"));
    assert_string_equal(buf_str(&w.out.to_sign), vector_text(c, "string_to_sign"));
    assert_string_equal(buf_str(&w.out.authorization), authorization);
}

/* The SDK signs no headers, but URLs, with RSA: all but the last step is the same. */
static void check_goog_url(const json_t *c)
{
    static const struct sign_v4_scheme rsa = {"GOOG4-RSA-SHA256", "", "storage", "goog4_request"};
    struct sign_key none = {"", "", 0};
    CLEANUP(wire_fini) struct wire w = {0};
    query_of_url(vector_text(json_object_get(c, "expected"), "url"), "X-Goog-Signature", &w.query);
    struct sign_req req = wire_of(c, kv_get(&w.query, "X-Goog-SignedHeaders"), &w);
    const char *hash = kv_get(&w.headers, "x-goog-content-sha256");
    sign_date_iso(json_integer_value(json_object_get(c, "time")), w.date);
    assert_int_equal(
        sign_v4(&rsa, &req, &none, "auto", w.date, hash ? hash : "UNSIGNED-PAYLOAD", &w.out), 0);
    assert_string_equal(buf_str(&w.out.canonical), vector_text(c, "canonical_request"));
    assert_string_equal(buf_str(&w.out.to_sign), vector_text(c, "string_to_sign"));
}

/* The text of one piece of a token. */
static void piece_of(const char *token, unsigned n, struct buf *ret)
{
    for (; n > 0; n--) {
        token = strchr(token, '.') + 1;
    }
    size_t len = strcspn(token, "."), got = 0;
    CLEANUP(mem_freep)
    char *text = mem_printf("%.*s%.*s", (int)len, token, (int)(3 - (len + 3) % 4), "===");
    CLEANUP(mem_freep) char *bytes = mem_zalloc(strlen(text) + 1);
    for (char *p = text; *p; p++) {
        *p = (char)(*p == '-' ? '+' : *p == '_' ? '/' : *p);
    }
    assert_true(base64_decode(text, strlen(text), bytes, &got));
    assert_int_equal(buf_add(ret, bytes, got), 0);
}

static void check_jwt(const json_t *all, const json_t *c)
{
    const char *pem = vector_text(json_object_get(all, "credentials"), "private_key_pem_test_only");
    const json_t *e = json_object_get(c, "expected");
    const char *body = vector_text(e, "body");
    CLEANUP(mem_freep)
    char *token = body[0] != '\0' ? value_after(body, "assertion=", "&")
                                  : value_after(vector_text(e, "authorization"), "Bearer ", "");
    CLEANUP(buf_fini) struct buf header = BUF_INIT;
    CLEANUP(buf_fini) struct buf claims = BUF_INIT;
    CLEANUP(buf_fini) struct buf got = BUF_INIT;
    piece_of(token, 0, &header);
    piece_of(token, 1, &claims);
    assert_int_equal(sign_jwt(buf_str(&header), buf_str(&claims), pem, strlen(pem), &got), 0);
    assert_string_equal(buf_str(&got), token);
}

static void gcs_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("gcs"), *c;
    size_t i, hmac = 0, url = 0, jwt = 0;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const char *kind = vector_text(c, "kind");
        print_message("# %s\n", vector_text(c, "name"));
        if (strcmp(kind, "header-goog4-hmac") == 0) {
            check_goog_hmac(all, c);
            hmac++;
        } else if (strcmp(kind, "signed-url-v4-rsa") == 0) {
            check_goog_url(c);
            url++;
        } else if (strcmp(kind, "service-account-jwt") == 0 ||
                   strcmp(kind, "self-signed-jwt") == 0) {
            check_jwt(all, c);
            jwt++;
        } else {
            assert_string_equal(kind, "signed-url-v2"); /* nothing of it is used */
        }
    }
    assert_int_equal(hmac, 4);
    assert_int_equal(url, 14);
    assert_int_equal(jwt, 3);
    json_decref(all);
}

static void bos_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("bos"), *c;
    struct sign_key key = key_of(all, "access_key_id", "secret_access_key");
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const json_t *e = json_object_get(c, "expected");
        CLEANUP(mem_freep) char *authorization = mem_strdup(vector_text(e, "authorization"));
        CLEANUP(wire_fini) struct wire w = {0};
        CLEANUP(kv_fini) struct kvlist of_url = {0};
        print_message("# %s\n", vector_text(c, "name"));
        vector_kvs(json_object_get(c, "query"), &w.query);
        if (authorization[0] == '\0') {
            query_of_url(vector_text(e, "url"), "", &of_url);
            free(authorization);
            authorization = mem_strdup(kv_get(&of_url, "authorization"));
        }
        /* bce-auth-v1/id/date/seconds/names/signature */
        const char *names = authorization;
        for (unsigned n = 0; n < 4; n++) {
            names = strchr(names, '/') + 1;
        }
        CLEANUP(mem_freep) char *listed = mem_strndup(names, strcspn(names, "/"));
        struct sign_req req = wire_of(c, listed, &w);
        const json_t *expires = json_object_get(c, "expires");
        sign_date_utc(json_integer_value(json_object_get(c, "time")), w.date);
        assert_int_equal(sign_bce(&req, &key, w.date,
                                  expires ? (unsigned)json_integer_value(expires) : 1800, &w.out),
                         0);
        assert_string_equal(buf_str(&w.out.to_sign), vector_text(c, "auth_prefix"));
        assert_string_equal(buf_str(&w.out.canonical), vector_text(c, "string_to_sign"));
        assert_string_equal(buf_str(&w.out.authorization), authorization);
    }
    assert_int_equal(i, 27);
    json_decref(all);
}

static void refuses_what_is_no_key(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        /* of an elliptic curve */
        "-----BEGIN PRIVATE KEY-----\n"
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n"
        "OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n"
        "1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n"
        "-----END PRIVATE KEY-----\n"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        CLEANUP(buf_fini) struct buf got = BUF_INIT;
        assert_int_equal(sign_jwt("{}", "{}", keys[i], strlen(keys[i]), &got), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gcs_vectors),
        cmocka_unit_test(bos_vectors),
        cmocka_unit_test(refuses_what_is_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
