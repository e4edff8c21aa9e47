#include "vectors.h"

#include "digest.h"
#include "mem.h"

struct data {
    uint8_t *p;
    size_t n;
};

static struct data input(const json_t *c)
{
    const json_t *in = json_object_get(c, "input");
    const char *kind = vector_text(in, "kind");
    struct data d = {0};
    if (strcmp(kind, "ascii") == 0 || strcmp(kind, "utf8") == 0) {
        const char *text = vector_text(in, "text");
        d.n = strlen(text);
        d.p = mem_zalloc(d.n + 1);
        memcpy(d.p, text, d.n);
        return d;
    }
    d.n = (size_t)json_integer_value(json_object_get(in, "len"));
    d.p = mem_zalloc(d.n + 1);
    for (size_t i = 0; i < d.n; i++) {
        d.p[i] = strcmp(kind, "repeat") == 0
                     ? (uint8_t)json_integer_value(json_object_get(in, "byte"))
                     : (uint8_t)(i % 251);
    }
    return d;
}

static void assert_hex(const uint8_t *p, size_t n, const char *expected)
{
    char hex[128];
    hex_encode(p, n, hex);
    assert_string_equal(hex, expected);
}

static void checks_vectors(void **state)
{
    (void)state;
    json_t *all = vectors_load("checksums"), *c;
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        struct data d = input(c);
        const json_t *e = json_object_get(c, "expected");
        uint8_t md5[16], sha1[20], sha256[32];
        char text[64];
        assert_int_equal(d.n, json_integer_value(json_object_get(c, "length")));
        digest_md5(d.p, d.n, md5);
        digest_sha1(d.p, d.n, sha1);
        digest_sha256(d.p, d.n, sha256);
        assert_hex(md5, 16, vector_text(e, "md5_hex"));
        assert_hex(sha1, 20, vector_text(e, "sha1_hex"));
        assert_hex(sha256, 32, vector_text(e, "sha256_hex"));
        base64_encode(md5, 16, text);
        assert_string_equal(text, vector_text(e, "md5_base64"));
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)crc64_update(0, d.p, d.n));
        assert_string_equal(text, vector_text(e, "crc64_ecma_decimal"));
        (void)snprintf(text, sizeof(text), "%08x", crc32c_update(0, d.p, d.n));
        assert_string_equal(text, vector_text(e, "crc32c_hex"));
        uint8_t qetag[DIGEST_QETAG_LEN];
        digest_qetag(d.p, d.n, qetag);
        base64url_encode(qetag, sizeof(qetag), text);
        assert_string_equal(text, vector_text(e, "qetag"));
        free(d.p);
    }
    assert_true(i >= 12);
    json_decref(all);
}

static void checks_multipart(void **state)
{
    (void)state;
    json_t *all = vectors_load("checksums"), *c, *size;
    size_t i, k;
    json_array_foreach(json_object_get(all, "multipart_cases"), i, c)
    {
        struct data d = input(c);
        const json_t *e = json_object_get(c, "expected");
        const json_t *crcs = json_object_get(e, "part_crc64_ecma_decimal");
        struct digest_md5 of_md5s;
        uint64_t crc = 0;
        size_t at = 0;
        char text[64];
        uint8_t md5[16];
        digest_md5_init(&of_md5s);
        json_array_foreach(json_object_get(c, "part_sizes"), k, size)
        {
            size_t n = (size_t)json_integer_value(size);
            digest_md5(d.p + at, n, md5);
            assert_hex(md5, 16,
                       json_string_value(json_array_get(json_object_get(c, "part_md5_hex"), k)));
            digest_md5_update(&of_md5s, md5, 16);
            uint64_t part = crc64_update(0, d.p + at, n);
            (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)part);
            assert_string_equal(text, json_string_value(json_array_get(crcs, k)));
            crc = crc64_combine(crc, part, n);
            at += n;
        }
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)crc);
        assert_string_equal(text, vector_text(e, "crc64_ecma_combined_decimal"));
        digest_md5_final(&of_md5s, md5);
        hex_encode(md5, 16, text);
        (void)snprintf(text + 32, sizeof(text) - 32, "-%zu", k);
        assert_string_equal(text, vector_text(e, "multipart_etag"));
        free(d.p);
    }
    assert_true(i >= 5);
    json_decref(all);
}

/* A state that was stored at any length goes on as if nothing had happened. */
static void resumes_md5(void **state)
{
    (void)state;
    uint8_t data[300], stored[DIGEST_MD5_STATE_SIZE], want[16], got[16];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7);
    }
    digest_md5(data, sizeof(data), want);
    for (size_t cut = 0; cut <= sizeof(data); cut++) {
        struct digest_md5 m, again;
        digest_md5_init(&m);
        digest_md5_update(&m, data, cut / 2);
        digest_md5_update(&m, data + cut / 2, cut - cut / 2);
        assert_int_equal(digest_md5_bytes(&m), cut);
        digest_md5_save(&m, stored);
        memset(&m, 0xee, sizeof(m));
        assert_true(digest_md5_load(&again, stored, sizeof(stored)));
        digest_md5_update(&again, data + cut, sizeof(data) - cut);
        digest_md5_final(&again, got);
        assert_memory_equal(got, want, 16);
    }
}

static void refuses_foreign_md5_states(void **state)
{
    (void)state;
    uint8_t stored[DIGEST_MD5_STATE_SIZE + 1] = {0};
    struct digest_md5 m, t;
    digest_md5_init(&m);
    digest_md5_update(&m, "abc", 3);
    assert_false(digest_md5_load(&t, stored, DIGEST_MD5_STATE_SIZE)); /* zeros */
    digest_md5_save(&m, stored);
    assert_true(digest_md5_load(&t, stored, DIGEST_MD5_STATE_SIZE));
    assert_false(digest_md5_load(&t, stored, DIGEST_MD5_STATE_SIZE - 1));
    assert_false(digest_md5_load(&t, stored, DIGEST_MD5_STATE_SIZE + 1));
    stored[DIGEST_MD5_STATE_SIZE - 4] = 200; /* how full the block is: would be written beyond */
    assert_false(digest_md5_load(&t, stored, DIGEST_MD5_STATE_SIZE));
}

static uint64_t crc_slow(uint64_t poly, uint64_t ones, const uint8_t *p, size_t n)
{
    uint64_t crc = ones;
    for (; n > 0; n--, p++) {
        crc ^= *p;
        for (int i = 0; i < 8; i++) {
            crc = (crc & 1) ? (crc >> 1) ^ poly : crc >> 1;
        }
    }
    return crc ^ ones;
}

static void crcs_are_incremental(void **state)
{
    (void)state;
    uint8_t data[257];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * i + 3);
    }
    for (size_t from = 0; from < 20; from++) { /* any alignment */
        for (size_t n = 0; n <= sizeof(data) - from; n++) {
            uint64_t whole = crc_slow(UINT64_C(0xC96C5795D7870F42), UINT64_MAX, data + from, n);
            assert_true(crc64_update(0, data + from, n) == whole);
            size_t cut = n / 3;
            uint64_t a = crc64_update(0, data + from, cut),
                     b = crc64_update(0, data + from + cut, n - cut);
            assert_true(crc64_update(a, data + from + cut, n - cut) == whole);
            assert_true(crc64_combine(a, b, n - cut) == whole);
            uint32_t whole32 = (uint32_t)crc_slow(0x82F63B78u, UINT32_MAX, data + from, n);
            assert_int_equal(crc32c_update(0, data + from, n), whole32);
            uint32_t a32 = crc32c_update(0, data + from, cut),
                     b32 = crc32c_update(0, data + from + cut, n - cut);
            assert_int_equal(crc32c_update(a32, data + from + cut, n - cut), whole32);
            assert_int_equal(crc32c_combine(a32, b32, n - cut), whole32);
        }
    }
    /* lengths nobody can hash in a test: halves of a run of zeros must combine like the whole */
    uint64_t crc = crc64_update(0, "\0", 1), len = 1;
    for (int i = 0; i < 62; i++) {
        uint64_t twice = crc64_combine(crc, crc, len);
        uint64_t other = crc64_combine(crc64_combine(crc, 0, 0), crc, len);
        assert_true(twice == other);
        crc = twice;
        len *= 2;
    }
    assert_true(crc64_combine(0x1234, 0, 0) == 0x1234);
}

/* RFC 4231 cases 2 and 6, RFC 2202 cases 2 and 6 */
static void hmac_known_answers(void **state)
{
    (void)state;
    static const char what[] = "what do ya want for nothing?";
    static const char large[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    uint8_t key[131], mac[32];
    memset(key, 0xaa, sizeof(key));
    hmac_sha256("Jefe", 4, what, strlen(what), mac);
    assert_hex(mac, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    hmac_sha256(key, 131, large, strlen(large), mac);
    assert_hex(mac, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    hmac_sha1("Jefe", 4, what, strlen(what), mac);
    assert_hex(mac, 20, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    hmac_sha1(key, 80, large, strlen(large), mac);
    assert_hex(mac, 20, "aa4ae5e15272d00e95705637ce8a3b55ed402112");
}

static void sha_is_incremental(void **state)
{
    (void)state;
    uint8_t a[32], b[32], data[200];
    memset(data, 'x', sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut += 13) {
        struct digest_sha256 s;
        struct digest_sha1 t;
        digest_sha256_init(&s);
        digest_sha256_update(&s, data, cut);
        digest_sha256_update(&s, data + cut, sizeof(data) - cut);
        digest_sha256_final(&s, a);
        digest_sha256(data, sizeof(data), b);
        assert_memory_equal(a, b, 32);
        digest_sha1_init(&t);
        digest_sha1_update(&t, data, cut);
        digest_sha1_update(&t, data + cut, sizeof(data) - cut);
        digest_sha1_final(&t, a);
        digest_sha1(data, sizeof(data), b);
        assert_memory_equal(a, b, 20);
    }
}

static void base64_both_ways(void **state)
{
    (void)state;
    uint8_t data[32], back[48];
    char text[64];
    size_t n;
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 41 + 7);
    }
    for (size_t len = 0; len <= sizeof(data); len++) {
        base64_encode(data, len, text);
        assert_int_equal(strlen(text), BASE64_LEN(len));
        assert_true(base64_decode(text, strlen(text), back, &n));
        assert_int_equal(n, len);
        assert_memory_equal(back, data, len);
    }
    static const char *const bad[] = {"A",    "AA",   "AAA",  "A===", "====",    "AA=A",
                                      "AB==", "AAB=", "AA A", "AAA-", "QQ==QQ=="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(base64_decode(bad[i], strlen(bad[i]), back, &n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_vectors),       cmocka_unit_test(checks_multipart),
        cmocka_unit_test(resumes_md5),          cmocka_unit_test(refuses_foreign_md5_states),
        cmocka_unit_test(crcs_are_incremental), cmocka_unit_test(hmac_known_answers),
        cmocka_unit_test(sha_is_incremental),   cmocka_unit_test(base64_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
