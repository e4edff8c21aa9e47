/* Every signature of the vectors, with its intermediate texts. */
#include "vectors.h"

#include "sign.h"

static struct sign_key key_of(const json_t *all, const char *id, const char *secret)
{
    const json_t *c = json_object_get(all, "credentials");
    const char *s = vector_text(c, secret);
    return (struct sign_key){vector_text(c, id), s, strlen(s)};
}

static void check_v4(const json_t *all, const json_t *c)
{
    struct sign_key key = key_of(all, "access_key_id", "secret_access_key");
    const json_t *e = json_object_get(c, "expected");
    const char *authorization = vector_text(e, "authorization"), *url = vector_text(e, "url");
    CLEANUP(kv_fini) struct kvlist query = {0};
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    kv_set(&headers, "host", vector_text(c, "host")); /* not among the headers of presigned URLs */
    vector_kvs(json_object_get(c, "headers"), &headers);
    const char *region = vector_text(c, "region");
    CLEANUP(mem_freep) char *listed = NULL;
    CLEANUP(mem_freep) char *hash = NULL;
    if (url[0] != '\0') {
        query_of_url(url, "X-Amz-Signature", &query);
        listed = mem_strdup(kv_get(&query, "X-Amz-SignedHeaders"));
    } else {
        vector_kvs(json_object_get(c, "query"), &query);
        listed = value_after(authorization, "SignedHeaders=", ",");
        hash = mem_strdup(kv_get(&headers, "x-amz-content-sha256"));
    }
    char date[SIGN_DATE_SIZE];
    sign_date_iso(json_integer_value(json_object_get(c, "time")), date);
    only_listed(&headers, listed);
    struct sign_req req = {vector_text(c, "method"), vector_text(c, "path"), &query, &headers};
    if (region[0] == '\0') {
        region = vector_text(all, "region");
    }
    assert_int_equal(
        sign_v4(&sign_v4_aws, &req, &key, region, date, hash ? hash : "UNSIGNED-PAYLOAD", &out), 0);
    assert_string_equal(buf_str(&out.canonical), vector_text(c, "canonical_request"));
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    if (url[0] != '\0') {
        CLEANUP(mem_freep) char *signature = value_after(url, "X-Amz-Signature=", "&");
        assert_string_equal(out.signature, signature);
    } else {
        assert_string_equal(buf_str(&out.authorization), authorization);
    }
}

static void check_v2(const json_t *all, const json_t *c)
{
    struct sign_key key = key_of(all, "access_key_id", "secret_access_key");
    const json_t *e = json_object_get(c, "expected");
    const char *bucket = vector_text(c, "bucket"), *host = vector_text(c, "host");
    CLEANUP(kv_fini) struct kvlist query = {0};
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    vector_kvs(json_object_get(c, "headers"), &headers);
    vector_kvs(json_object_get(c, "query"), &query);
    char expires[32] = "";
    if (json_object_get(c, "expires")) {
        (void)snprintf(expires, sizeof(expires), "%lld",
                       (long long)json_integer_value(json_object_get(c, "expires")));
    }
    bool virtual_host = strncmp(host, bucket, strlen(bucket)) == 0 && host[strlen(bucket)] == '.';
    struct sign_req req = {vector_text(c, "method"), vector_text(c, "path"), &query, &headers};
    assert_int_equal(sign_v2(&sign_v2_aws, &req, &key, virtual_host ? bucket : NULL,
                             expires[0] != '\0' ? expires : NULL, &out),
                     0);
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    if (expires[0] != '\0') {
        CLEANUP(buf_fini) struct buf encoded = BUF_INIT;
        CLEANUP(mem_freep) char *signature = value_after(vector_text(e, "url"), "Signature=", "&");
        assert_int_equal(url_encode(&encoded, out.signature, strlen(out.signature), false), 0);
        assert_string_equal(buf_str(&encoded), signature);
    } else {
        assert_string_equal(buf_str(&out.authorization), vector_text(e, "authorization"));
    }
}

static void s3_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("s3"), *c;
    size_t i, v4 = 0, v2 = 0;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        print_message("# %s\n", vector_text(c, "name"));
        if (json_integer_value(json_object_get(c, "sig_version")) == 4) {
            check_v4(all, c);
            v4++;
        } else {
            check_v2(all, c);
            v2++;
        }
    }
    assert_int_equal(v4, 41);
    assert_int_equal(v2, 12);
    json_decref(all);
}

static void cos_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("cos"), *c;
    struct sign_key key = key_of(all, "secret_id", "secret_key");
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const json_t *e = json_object_get(c, "expected");
        const char *authorization = vector_text(e, "authorization"), *url = vector_text(e, "url");
        const char *whole = url[0] != '\0' ? url : authorization;
        CLEANUP(mem_freep) char *names = value_after(whole, "q-header-list=", "&");
        CLEANUP(mem_freep) char *signature = value_after(whole, "q-signature=", "&");
        CLEANUP(kv_fini) struct kvlist query = {0};
        CLEANUP(kv_fini) struct kvlist headers = {0};
        CLEANUP(sign_out_fini) struct sign_out out = {0};
        print_message("# %s\n", vector_text(c, "name"));
        vector_kvs(json_object_get(c, "headers"), &headers);
        vector_kvs(json_object_get(c, "query"), &query);
        only_listed(&headers, names);
        struct sign_req req = {vector_text(c, "method"), vector_text(c, "path"), &query, &headers};
        assert_int_equal(sign_cos(&req, &key, vector_text(c, "sign_time"), &out), 0);
        assert_string_equal(buf_str(&out.canonical), vector_text(c, "format_string"));
        assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
        assert_string_equal(out.signature, signature);
        if (url[0] == '\0') {
            assert_string_equal(buf_str(&out.authorization), authorization);
        }
    }
    assert_true(i >= 31);
    json_decref(all);
}

/* The case's request with the bucket in front of the path, and the value of a presigned URL's
 * parameter `signature` decoded; NULL when the case has a header instead. */
struct bucket_case {
    struct kvlist query, headers;
    char *path, *signature;
    struct sign_req req;
};

static void bucket_case_fini(struct bucket_case *b)
{
    kv_fini(&b->query);
    kv_fini(&b->headers);
    free(b->path);
    free(b->signature);
}

static void bucket_case_read(const json_t *c, const char *signature, struct bucket_case *b)
{
    const char *bucket = vector_text(c, "bucket"), *path = vector_text(c, "path");
    const char *url = vector_text(json_object_get(c, "expected"), "url");
    vector_kvs(json_object_get(c, "headers"), &b->headers);
    b->path = mem_printf("%s%s%s", bucket[0] != '\0' ? "/" : "", bucket, path);
    if (url[0] != '\0') {
        CLEANUP(mem_freep) char *name = mem_printf("%s=", signature);
        CLEANUP(mem_freep) char *encoded = value_after(url, name, "&");
        CLEANUP(buf_fini) struct buf plain = BUF_INIT;
        assert_int_equal(url_decode(&plain, encoded, strlen(encoded), false), 0);
        b->signature = mem_strdup(buf_str(&plain));
        query_of_url(url, signature, &b->query);
    } else {
        vector_kvs(json_object_get(c, "query"), &b->query);
    }
    b->req = (struct sign_req){vector_text(c, "method"), b->path, &b->query, &b->headers};
}

static void check_oss_v1(const json_t *c, const struct sign_key *key)
{
    CLEANUP(bucket_case_fini) struct bucket_case b = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    bucket_case_read(c, "Signature", &b);
    const char *date = kv_get(&b.headers, "x-oss-date");
    const char *line = b.signature ? kv_get(&b.query, "Expires") : date;
    assert_int_equal(sign_v2(&sign_v2_oss, &b.req, key, NULL, line, &out), 0);
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    assert_string_equal(b.signature ? out.signature : buf_str(&out.authorization),
                        b.signature
                            ? b.signature
                            : vector_text(json_object_get(c, "expected"), "authorization"));
}

static void check_oss_v4(const json_t *all, const json_t *c, const struct sign_key *key)
{
    static const char *const additional[] = {"host", "if-match", "range"};
    const char *authorization = vector_text(json_object_get(c, "expected"), "authorization");
    CLEANUP(bucket_case_fini) struct bucket_case b = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    bucket_case_read(c, "x-oss-signature", &b);
    const char *listed = kv_get(&b.query, "x-oss-additional-headers");
    CLEANUP(mem_freep) char *names =
        listed ? mem_strdup(listed)
        : strstr(authorization, "AdditionalHeaders=")
            ? value_after(authorization, "AdditionalHeaders=", ",")
            : mem_strdup("");
    for (size_t i = 0; i < ARRAY_LEN(additional); i++) {
        if (!strstr(names, additional[i])) {
            kv_set(&b.headers, additional[i], NULL); /* this SDK signs them on demand only */
        }
    }
    /* the SDK sends some characters as they are and signs them encoded, as the server will do */
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    CLEANUP(buf_fini) struct buf encoded = BUF_INIT;
    assert_int_equal(url_decode(&plain, b.path, strlen(b.path), false), 0);
    assert_int_equal(url_encode(&encoded, buf_str(&plain), plain.len, true), 0);
    b.req.path = buf_str(&encoded);
    char date[SIGN_DATE_SIZE];
    sign_date_iso(json_integer_value(json_object_get(c, "time")), date);
    assert_int_equal(sign_v4(&sign_v4_oss, &b.req, key, vector_text(all, "region"), date,
                             "UNSIGNED-PAYLOAD", &out),
                     0);
    assert_string_equal(buf_str(&out.canonical), vector_text(c, "canonical_request"));
    assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
    assert_string_equal(b.signature ? out.signature : buf_str(&out.authorization),
                        b.signature ? b.signature : authorization);
}

static void oss_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("oss"), *c;
    struct sign_key key = key_of(all, "access_key_id", "access_key_secret");
    size_t i, v1 = 0, v4 = 0;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        print_message("# %s\n", vector_text(c, "name"));
        if (json_integer_value(json_object_get(c, "auth_version")) == 4) {
            check_oss_v4(all, c, &key);
            v4++;
        } else {
            check_oss_v1(c, &key);
            v1++;
        }
    }
    assert_int_equal(v1, 29);
    assert_int_equal(v4, 29);
    json_decref(all);
}

static void ks3_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("ks3"), *c;
    struct sign_key key = key_of(all, "access_key_id", "secret_access_key");
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const json_t *e = json_object_get(c, "expected");
        const char *resource = vector_text(c, "canonicalized_resource");
        const char *authorization = vector_text(e, "authorization");
        CLEANUP(bucket_case_fini) struct bucket_case b = {0};
        CLEANUP(sign_out_fini) struct sign_out out = {0};
        print_message("# %s\n", vector_text(c, "name"));
        bucket_case_read(c, "Signature", &b);
        if (resource[0] != '\0') { /* has the parameters in it */
            query_of_url(resource, "", &b.query);
            free(b.path);
            b.path = mem_strndup(resource, strcspn(resource, "?"));
            b.req.path = b.path;
        }
        const char *line = b.signature ? kv_get(&b.query, "Expires") : NULL;
        assert_int_equal(sign_v2(&sign_v2_kss, &b.req, &key, NULL, line, &out), 0);
        assert_string_equal(buf_str(&out.to_sign), vector_text(c, "string_to_sign"));
        assert_string_equal(b.signature ? out.signature : buf_str(&out.authorization),
                            b.signature ? b.signature : authorization);
    }
    assert_int_equal(i, 22);
    json_decref(all);
}

static void dates(void **state)
{
    (void)state;
    char s[SIGN_DATE_SIZE];
    sign_date_iso(1700000000, s);
    assert_string_equal(s, "20231114T221320Z");
    sign_date_http(1700000000, s);
    assert_string_equal(s, "Tue, 14 Nov 2023 22:13:20 GMT");
    sign_date_http(0, s);
    assert_string_equal(s, "Thu, 01 Jan 1970 00:00:00 GMT");
}

/* What proxies and libcurl may change is not signed even when it is given. */
static void leaves_out_what_changes_on_the_way(void **state)
{
    (void)state;
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    struct sign_key key = {"id", "secret", 6};
    static const char *const names[] = {"host",       "User-Agent",   "Expect", "Accept-Encoding",
                                        "Connection", "Authorization"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        kv_set(&headers, names[i], "x");
    }
    struct sign_req req = {"GET", "/", NULL, &headers};
    assert_int_equal(
        sign_v4(&sign_v4_aws, &req, &key, "r", "20231114T221320Z", "UNSIGNED-PAYLOAD", &out), 0);
    assert_string_equal(buf_str(&out.header_list), "host");
    assert_int_equal(sign_cos(&req, &key, "1;2", &out), 0);
    assert_string_equal(buf_str(&out.header_list), "host");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s3_vectors),
        cmocka_unit_test(cos_vectors),
        cmocka_unit_test(oss_vectors),
        cmocka_unit_test(ks3_vectors),
        cmocka_unit_test(dates),
        cmocka_unit_test(leaves_out_what_changes_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
