/* The dialects of Google and Baidu, both directions: what is theirs alone. */
#include "dialect_sites.h"
#include "vectors.h"

#include "digest.h"

static struct dialect_site *google(void)
{
    return site(&be_dialect_gcs, conf("bkt_1.x", "", ""));
}

static struct dialect_site *baidu(void)
{
    struct conf_remote c = conf("bkt", "bj", "");
    kv_set(&c.defaults, "conditionalWrites", "on");
    struct dialect_site *s = site(&be_dialect_bos, c);
    kv_fini(&c.defaults);
    return s;
}

/* --- sites */

static void places(void **state)
{
    (void)state;
    static const struct {
        const struct be_dialect *d;
        const char *bucket, *region, *endpoint, *host, *base, *identity;
        bool path_style;
    } cases[] = {
        {&be_dialect_gcs, "a.b_c", "", "", "storage.googleapis.com", "/a.b_c", "gcs:a.b_c", 0},
        {&be_dialect_gcs, "bkt", "", "bkt.storage.googleapis.com", "bkt.storage.googleapis.com", "",
         "gcs:bkt", 0},
        {&be_dialect_gcs, "storage", "", "", "storage.googleapis.com", "/storage", "gcs:storage", 0},
        {&be_dialect_gcs, "storage", "", "STORAGE.googleapis.com:443", "storage.googleapis.com",
         "/storage", "gcs:storage", 0},
        {&be_dialect_gcs, "storage", "", "storage.storage.googleapis.com",
         "storage.storage.googleapis.com", "", "gcs:storage", 0},
        {&be_dialect_gcs, "bkt", "auto", "https://restricted.googleapis.com/",
         "restricted.googleapis.com", "/bkt", "gcs:bkt", 0},
        {&be_dialect_gcs, "bkt", "", "gate.example:8443", "gate.example:8443", "/bkt", "gcs:gate.example:8443/bkt", 0},
        {&be_dialect_gcs, "bkt", "", "bkt.gate.example", "bkt.gate.example", "", "gcs:bkt.gate.example/bkt", 0},
        {&be_dialect_bos, "bkt", "gz", "", "bkt.gz.bcebos.com", "", "bos:bkt", 0},
        {&be_dialect_bos, "bkt", "gz", "", "gz.bcebos.com", "/bkt", "bos:bkt", 1},
        {&be_dialect_bos, "bkt", "", "127.0.0.1:99", "127.0.0.1:99", "/bkt",
         "bos:127.0.0.1:99/bkt", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_remote c = conf(cases[i].bucket, cases[i].region, cases[i].endpoint);
        c.path_style = cases[i].path_style;
        struct dialect_site *s = site(cases[i].d, c);
        assert_place(s, cases[i].host, cases[i].base, cases[i].identity);
        cases[i].d->release(s);
    }
}

static void refuses_settings(void **state)
{
    (void)state;
    static const struct {
        const struct be_dialect *d;
        const char *region, *encryption, *says;
    } cases[] = {
        {&be_dialect_gcs, "", "AES256", "encryptionType"},
        {&be_dialect_bos, "", "", "region"},
        {&be_dialect_bos, "b/j", "", "region"},
        {&be_dialect_bos, "bj", "aws:kms", "encryptionType"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_remote c = conf("bkt", cases[i].region, "");
        struct dialect_site *s = NULL;
        struct errinfo err = {0};
        c.encryption = LIT(cases[i].encryption);
        assert_int_equal(configure(cases[i].d, c, &s, &err), -EINVAL);
        assert_null(s);
        assert_non_null(strstr(err.message, "[r]"));
        assert_non_null(strstr(err.message, cases[i].says));
    }
    be_dialect_gcs.release(NULL);
    be_dialect_bos.release(NULL);
}

static void keys_that_are_refused(void **state)
{
    (void)state;
    static const char *const google_no[] = {
        ".", "..", "a\rb", "a\nb", ".well-known/acme-challenge/x", "\xff"};
    static const char *const google_yes[] = {"/lead", "a//b",          "./x",
                                             "...",   ".well-known/x", "a\tb"};
    static const char *const baidu_no[] = {"/lead", "\xff"};
    static const char *const baidu_yes[] = {".", "a//b", "a@b", "a\nb"};
    for (size_t i = 0; i < ARRAY_LEN(google_no); i++) {
        assert_non_null(be_dialect_gcs.key_fault(NULL, google_no[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(google_yes); i++) {
        assert_null(be_dialect_gcs.key_fault(NULL, google_yes[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(baidu_no); i++) {
        assert_non_null(be_dialect_bos.key_fault(NULL, baidu_no[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(baidu_yes); i++) {
        assert_null(be_dialect_bos.key_fault(NULL, baidu_yes[i]));
    }
}

/* --- Google */

static void google_requests(void **state)
{
    (void)state;
    struct dialect_site *g = google();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    CLEANUP(kv_fini) struct kvlist meta = {0};
    char buf[4];
    kv_set(&meta, "expires", "Wed, 21 Oct 2037 07:28:00 GMT");
    kv_set(&meta, "meta-a", "1");
    kv_set(&meta, "encryption", "projects/p/locations/l/keyRings/r/cryptoKeys/k");
    struct be_write w = {
        .op = {.key = "a b/+"}, .data = "x", .len = 1, .meta = &meta, .if_absent = true};
    BUILD(g, BE_WRITE, &w, NULL, &r);
    assert_url(g, &r, "https://storage.googleapis.com/bkt_1.x/a%20b/%2B");
    assert_header(&r, "x-goog-if-generation-match", "0");
    assert_header(&r, "if-none-match", NULL);
    assert_header(&r, "expires", NULL);
    assert_header(&r, "x-goog-meta-objmig-expires", "Wed, 21 Oct 2037 07:28:00 GMT");
    assert_header(&r, "x-goog-meta-a", "1");
    assert_header(&r, "x-goog-encryption-kms-key-name",
                  "projects/p/locations/l/keyRings/r/cryptoKeys/k");
    struct be_read rd = {.op = {.key = "k"}, .buf = buf, .len = 4, .if_match = "e"};
    BUILD(g, BE_READ, &rd, NULL, &r);
    assert_header(&r, "accept-encoding", "gzip");
    assert_header(&r, "if-match", "\"e\"");
    struct be_copy c = {.op = {.key = "k"}, .src_key = "s +", .src_etag = "e"};
    BUILD(g, BE_COPY, &c, g, &r);
    assert_header(&r, "x-goog-copy-source", "bkt_1.x/s%20%2B");
    assert_header(&r, "x-goog-copy-source-if-match", "\"e\"");
    assert_header(&r, "x-goog-metadata-directive", "REPLACE");
    struct errinfo err = {0};
    assert_int_equal(g->dialect->sign(g, &r, 1700000000, &err), 0);
    assert_non_null(
        strstr(kv_get(&r.headers, "authorization"),
               "GOOG4-HMAC-SHA256 Credential=AKID/20231114/auto/storage/goog4_request"));
    assert_header(&r, "x-goog-date", "20231114T221320Z");
    be_dialect_gcs.release(g);
}

static const char crc_of_hello[] =
    "crc32c=yZRlqg==,md5=XrY7u+Ae7tCTyyK7j1rNww=="; /* "hello world" */

static int answer(const struct dialect_site *s, enum be_kind kind, struct be_op *op, int status,
                  const struct kvlist *headers, const char *body, uint64_t got,
                  struct dialect_page *page, struct errinfo *err)
{
    static const size_t chosen[] = {0, 1};
    static struct errinfo errs[2];
    struct dialect_call call = {.kind = kind, .op = op};
    if (kind == BE_REMOVE_MANY) {
        memset(errs, 0, sizeof(errs));
        call.chosen = chosen;
        call.n_chosen = 2;
        call.errs = errs;
        CONTAINER_OF(op, struct be_many, op)->errs = errs;
    }
    struct dialect_answer a = {.http_status = status,
                               .headers = headers,
                               .body = body,
                               .body_len = strlen(body),
                               .body_got = got,
                               .signed_s = 1700000000};
    return s->dialect->parse(s, &call, &a, page, err);
}

static void google_answers(void **state)
{
    (void)state;
    struct dialect_site *g = google();
    CLEANUP(kv_fini) struct kvlist h = {0};
    struct dialect_page page = {0};
    struct errinfo err = {0};
    kv_set(&h, "etag", "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"");
    kv_set(&h, "content-length", "11");
    kv_set(&h, "x-goog-hash", crc_of_hello);
    kv_set(&h, "expires", "Tue, 14 Nov 2023 22:13:20 GMT"); /* Google's own invention */
    kv_set(&h, "cache-control", "private, max-age=0");
    kv_set(&h, "x-goog-meta-md5", "m");
    struct be_stat st = {.op = {.key = "k"}};
    assert_int_equal(answer(g, BE_STAT, &st.op, 200, &h, "", 0, &page, &err), 0);
    assert_true(st.object.etag_is_md5 && st.object.has_crc32c && st.object.crc32c == 0xc99465aa);
    assert_null(kv_get(&st.meta, "expires"));
    assert_null(kv_get(&st.meta, "cache-control"));
    assert_string_equal(kv_get(&st.meta, "meta-md5"), "m");
    be_stat_fini(&st);

    /* the one we keep; a composed object; headers that came joined; nonsense */
    static const struct {
        const char *hash;
        bool crc, md5;
    } hashes[] = {{"crc32c=yZRlqg==", true, false},
                  {"md5=XrY7u+Ae7tCTyyK7j1rNww== , crc32c=yZRlqg==", true, true},
                  {"crc32c=yZRlqg", false, false},
                  {"crc32c=,md5=", false, false},
                  {"md5=AAAAAAAAAAAAAAAAAAAAAA==", false, false},
                  {",,=,crc32c", false, false},
                  {"xcrc32c=yZRlqg==", false, false}};
    kv_set(&h, "x-goog-meta-objmig-expires", "later");
    for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
        kv_set(&h, "x-goog-hash", hashes[i].hash);
        assert_int_equal(answer(g, BE_STAT, &st.op, 200, &h, "", 0, &page, &err), 0);
        assert_int_equal(st.object.has_crc32c, hashes[i].crc);
        assert_int_equal(st.object.etag_is_md5, hashes[i].md5);
        assert_string_equal(kv_get(&st.meta, "expires"), "later");
        assert_null(kv_get(&st.meta, "meta-objmig-expires"));
        be_stat_fini(&st);
    }

    /* a whole object is believed only with its checksum */
    char buf[16] = "hello world";
    struct be_read rd = {.op = {.key = "k"}, .buf = buf, .len = sizeof(buf)};
    kv_set(&h, "x-goog-hash", crc_of_hello);
    kv_set(&h, "content-range", "bytes 0-10/11");
    assert_int_equal(answer(g, BE_READ, &rd.op, 206, &h, "", 11, &page, &err), 0);
    assert_int_equal(rd.got, 11);
    be_read_fini(&rd);
    buf[3] ^= 1;
    assert_int_equal(answer(g, BE_READ, &rd.op, 206, &h, "", 11, &page, &err), -EIO);
    assert_int_equal(err.cls, ERR_INTEGRITY);
    assert_true(rd.got == 0 && rd.object.size == 0 && rd.meta.n == 0);
    be_dialect_gcs.release(g);
}

static void google_refusals(void **state)
{
    (void)state;
    struct dialect_site *g = google();
    struct errinfo e = classify(g, 401, "<Error><Code>AuthenticationRequired</Code></Error>",
                                "date", "Tue, 14 Nov 2023 22:13:25 GMT");
    assert_int_equal(e.cls, ERR_AUTH);
    e = classify(g, 401, "<Error><Code>AuthenticationRequired</Code></Error>", "date",
                 "Tue, 14 Nov 2023 23:13:25 GMT");
    assert_int_equal(e.cls, ERR_SKEW);
    e = classify(g, 429, "<Error><Code>RateLimitExceeded</Code></Error>", "x-guploader-uploadid",
                 "u");
    assert_int_equal(e.cls, ERR_THROTTLED);
    assert_string_equal(e.request_id, "u");
    assert_int_equal(classify(g, 412, "", NULL, NULL).cls, ERR_PRECOND);
    be_dialect_gcs.release(g);
}

/* The token is what Google's library makes of the same account, and lives for some while. */
static void google_tokens(void **state)
{
    (void)state;
    json_t *all = vectors_load("gcs"), *c;
    const json_t *who = json_object_get(all, "credentials");
    json_t *file =
        json_pack("{s:s,s:s,s:s}", "private_key", vector_text(who, "private_key_pem_test_only"),
                  "private_key_id", vector_text(who, "private_key_id"), "type", "service_account");
    char *text = json_dumps(file, JSON_COMPACT);
    size_t i, n = 0;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        if (strcmp(vector_text(c, "kind"), "self-signed-jwt") != 0) {
            continue;
        }
        struct conf_remote cr = conf("bkt", "", "");
        cr.access_key_id = LIT(vector_text(who, "client_email"));
        cr.access_key_secret = secret_new(text);
        kv_set(&cr.defaults, "tokenAudience", vector_text(c, "audience"));
        struct dialect_site *g = NULL;
        struct errinfo err = {0};
        CLEANUP(kv_fini) struct kvlist first = {0};
        struct dialect_request r = {.method = "GET"};
        assert_int_equal(be_dialect_gcs.configure(&cr, &g, &err), 0);
        int64_t now = json_integer_value(json_object_get(c, "time")) + 60;
        assert_int_equal(be_dialect_gcs.sign(g, &r, now, &err), 0);
        assert_string_equal(kv_get(&r.headers, "authorization"),
                            vector_text(json_object_get(c, "expected"), "authorization"));
        kv_copy(&first, &r.headers);
        assert_int_equal(be_dialect_gcs.sign(g, &r, now + 2999, &err), 0);
        assert_true(kv_equal(&first, &r.headers));
        static const int64_t other[] = {3000, -1, 7200};
        for (size_t k = 0; k < ARRAY_LEN(other); k++) { /* old, or the clock was corrected */
            assert_int_equal(be_dialect_gcs.sign(g, &r, now + other[k], &err), 0);
            assert_false(kv_equal(&first, &r.headers));
            kv_copy(&first, &r.headers);
        }
        dialect_request_fini(&r);
        be_dialect_gcs.release(g);
        secret_free(cr.access_key_secret);
        kv_fini(&cr.defaults);
        n++;
    }
    assert_int_equal(n, 2);
    struct conf_remote bad = conf("bkt", "", "");
    struct dialect_site *g = NULL;
    struct errinfo err = {0};
    bad.access_key_secret = secret_new("{\"private_key\":\"no key\"}");
    assert_int_equal(be_dialect_gcs.configure(&bad, &g, &err), -EINVAL);
    assert_non_null(strstr(err.message, "serviceAccountFile"));
    secret_free(bad.access_key_secret);
    free(text);
    json_decref(file);
    json_decref(all);
}

/* --- Baidu */

static void baidu_requests(void **state)
{
    (void)state;
    struct dialect_site *b = baidu();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    struct be_list l = {.prefix = "p/", .delimiter = '/', .start_after = "p/a"};
    BUILD(b, BE_LIST, &l, NULL, &r);
    assert_url(b, &r,
               "https://bkt.bj.bcebos.com/?maxKeys=1000&prefix=p%2F&delimiter=%2F&marker=p%2Fa");
    l = (struct be_list){.prefix = "", .cursor = "tea", .max = 5};
    BUILD(b, BE_LIST, &l, NULL, &r);
    assert_url(b, &r, "https://bkt.bj.bcebos.com/?maxKeys=5&marker=tea");
    const char *keys[] = {"a\"b", "\x01\xe4\xb8\xad"};
    struct be_many m = {.keys = keys, .n_keys = 2};
    BUILD(b, BE_REMOVE_MANY, &m, NULL, &r);
    assert_url(b, &r, "https://bkt.bj.bcebos.com/?delete=");
    assert_string_equal(r.body,
                        "{\"objects\":[{\"key\":\"a\\\"b\"},{\"key\":\"\\u0001\xe4\xb8\xad\"}]}");
    assert_int_equal(r.body_len, strlen(r.body));
    assert_header(&r, "content-md5", NULL);
    static const struct be_part_id parts[] = {{1, 5, "e1"}, {3, 5, "e3"}};
    struct be_commit c = {
        .op = {.key = "k"}, .upload_id = "u", .parts = parts, .n_parts = 2, .if_absent = true};
    BUILD(b, BE_MP_COMMIT, &c, NULL, &r);
    assert_string_equal(
        r.body,
        "{\"parts\":[{\"partNumber\":1,\"eTag\":\"e1\"},{\"partNumber\":3,\"eTag\":\"e3\"}]}");
    assert_header(&r, "x-bce-forbid-overwrite", "true");
    struct be_copy cp = {.op = {.key = "k"}, .src_key = "s +"};
    BUILD(b, BE_COPY, &cp, b, &r);
    assert_header(&r, "x-bce-copy-source", "/bkt/s%20%2B");
    assert_header(&r, "x-bce-metadata-directive", "replace");
    struct be_uploads u = {.prefix = "p"};
    BUILD(b, BE_MP_UPLOADS, &u, NULL, &r);
    assert_url(b, &r, "https://bkt.bj.bcebos.com/?uploads=&prefix=p&maxUploads=1000");
    struct be_mp begin = {.op = {.key = "k"}};
    BUILD(b, BE_MP_BEGIN, &begin, NULL, &r);
    assert_header(&r, "x-bce-content-crc32c-flag", "true");
    be_dialect_bos.release(b);
}

static void baidu_lists(void **state)
{
    (void)state;
    struct dialect_site *b = baidu();
    struct kvlist none = {0};
    struct dialect_page page = {0};
    struct errinfo err = {0};
    struct be_list l = {.prefix = ""};
    const char *doc = "{\"name\":\"bkt\",\"isTruncated\":true,\"nextMarker\":\"z\",\"contents\":["
                      "{\"key\":\"b\",\"lastModified\":\"2023-11-14T22:13:20Z\",\"eTag\":\"e\","
                      "\"size\":5,\"storageClass\":\"COLD\"},"
                      "{\"key\":\"nul\\u0000\",\"size\":1},{\"key\":\"c\\n\",\"size\":\"7\"}],"
                      "\"commonPrefixes\":[{\"prefix\":\"a/\"}]}";
    assert_int_equal(answer(b, BE_LIST, &l.op, 200, &none, doc, 0, &page, &err), 0);
    assert_int_equal(l.n_entries, 3);
    assert_string_equal(l.entries[0].key, "a/");
    assert_true(l.entries[0].is_prefix && !l.entries[1].is_prefix);
    assert_string_equal(l.entries[1].object.storage_class, "COLD");
    assert_true(l.entries[1].object.mtime_ns == INT64_C(1700000000000000000));
    assert_string_equal(l.entries[2].key, "c\n");
    assert_int_equal(l.entries[2].object.size, 7);
    assert_string_equal(l.next_cursor, "z");
    assert_int_equal(page.unshowable, 1);
    be_list_fini(&l);
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "<Error/>",
        "{\"isTruncated\":true,\"contents\":[]}",
        "{\"isTruncated\":false,\"contents\":[{\"size\":1}]}",
        "{\"isTruncated\":false,\"contents\":[{\"key\":\"a\"}]}",
        "{\"isTruncated\":false,\"contents\":[{\"key\":\"a\",\"size\":-1}]}",
        "{\"isTruncated\":false,\"contents\":[{\"key\":\"a\",\"size\":1,\"eTag\":\"a b\"}]}",
        "{\"isTruncated\":false,\"contents\":[7]}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        page = (struct dialect_page){0};
        assert_true(answer(b, BE_LIST, &l.op, 200, &none, bad[i], 0, &page, &err) < 0);
        assert_int_equal(err.cls, ERR_TRANSIENT);
        assert_true(!l.entries && !l.next_cursor && page.unshowable == 0);
    }
    /* an error below a 200 */
    assert_int_equal(
        answer(b, BE_LIST, &l.op, 200, &none, "{\"code\":\"NoSuchBucket\"}", 0, &page, &err),
        -ENOENT);
    assert_string_equal(err.code, "NoSuchBucket");
    be_dialect_bos.release(b);
}

static void baidu_results(void **state)
{
    (void)state;
    struct dialect_site *b = baidu();
    CLEANUP(kv_fini) struct kvlist h = {0};
    struct dialect_page page = {0};
    struct errinfo err = {0};
    kv_set(&h, "x-bce-content-crc32c", "3381945770");
    struct be_commit c = {.op = {.key = "k"}};
    assert_int_equal(answer(b, BE_MP_COMMIT, &c.op, 200, &h,
                            "  {\"eTag\":\"-5eb63bbbe01eeed093cb22bb8f5acdc3\"}", 0, &page, &err),
                     0);
    assert_string_equal(c.object.etag, "-5eb63bbbe01eeed093cb22bb8f5acdc3");
    assert_true(c.object.has_crc32c && c.object.crc32c == 0xc99465aa && !c.object.etag_is_md5);
    struct be_copy cp = {.op = {.key = "k"}, .size = 3};
    assert_int_equal(answer(b, BE_COPY, &cp.op, 200, &h,
                            "{\"eTag\":\"5eb63bbbe01eeed093cb22bb8f5acdc3\",\"lastModified\":"
                            "\"2023-11-14T22:13:20Z\"}",
                            0, &page, &err),
                     0);
    assert_true(cp.object.etag_is_md5 && cp.object.size == 3);
    cp.object = (struct be_object){0};
    assert_true(answer(b, BE_COPY, &cp.op, 200, &h,
                       "  {\"code\":\"InternalError\",\"message\":\"m\",\"requestId\":\"id\"}", 0,
                       &page, &err) < 0);
    assert_int_equal(err.cls, ERR_TRANSIENT);
    assert_string_equal(err.request_id, "id");
    assert_true(answer(b, BE_COPY, &cp.op, 200, &h, "{\"lastModified\":\"x\"}", 0, &page, &err) <
                0);
    assert_string_equal(cp.object.etag, "");

    const char *keys[] = {"a", "b"};
    struct be_many m = {.keys = keys, .n_keys = 2};
    assert_int_equal(answer(b, BE_REMOVE_MANY, &m.op, 200, &h, "", 0, &page, &err), 0);
    assert_int_equal(answer(b, BE_REMOVE_MANY, &m.op, 200, &h,
                            "{\"errors\":[{\"key\":\"b\",\"code\":\"AccessDenied\",\"message\":"
                            "\"m\"},{\"key\":\"a\",\"code\":\"NoSuchKey\"}]}",
                            0, &page, &err),
                     0);
    assert_true(m.errs[0].cls == ERR_NONE && m.errs[1].cls == ERR_AUTH);
    assert_true(answer(b, BE_REMOVE_MANY, &m.op, 200, &h,
                       "{\"errors\":[{\"key\":\"never\",\"code\":\"AccessDenied\"}]}", 0, &page,
                       &err) < 0);
    assert_true(answer(b, BE_REMOVE_MANY, &m.op, 200, &h, "{\"code\":\"AccessDenied\"}", 0, &page,
                       &err) == -EACCES);

    struct be_parts p = {.op = {.key = "k"}};
    assert_int_equal(answer(b, BE_MP_PARTS, &p.op, 200, &h,
                            "{\"parts\":[{\"partNumber\":2,\"eTag\":\"e\",\"size\":9}],"
                            "\"isTruncated\":true,\"nextPartNumberMarker\":2}",
                            0, &page, &err),
                     0);
    assert_true(page.n_parts == 1 && page.parts[0].number == 2 && page.parts[0].size == 9);
    assert_string_equal(page.next[0], "2");
    dialect_page_fini(&page);
    struct be_uploads u = {.op = {.key = "k"}};
    assert_int_equal(
        answer(b, BE_MP_UPLOADS, &u.op, 200, &h,
               "{\"uploads\":[{\"key\":\"k\",\"uploadId\":\"1\",\"initiated\":\"2023-11-14T22:13:"
               "20Z\"},{\"key\":\"k2\",\"uploadId\":\"2\"}],\"isTruncated\":false}",
               0, &page, &err),
        0);
    assert_int_equal(page.n_uploads, 1);
    assert_string_equal(page.uploads[0].upload_id, "1");
    dialect_page_fini(&page);
    be_dialect_bos.release(b);
}

static void baidu_refusals(void **state)
{
    (void)state;
    struct dialect_site *b = baidu();
    struct errinfo e =
        classify(b, 403, "{\"code\":\"InvalidObjectState\",\"message\":\"m\",\"requestId\":\"id\"}",
                 "x-bce-storage-class", "ARCHIVE");
    assert_int_equal(e.cls, ERR_ARCHIVED);
    assert_string_equal(e.message, "the object is archived (ARCHIVE): restore it first");
    assert_string_equal(e.request_id, "id");
    assert_int_equal(classify(b, 400, "{\"code\":\"RequestExpired\"}", NULL, NULL).cls, ERR_SKEW);
    assert_int_equal(classify(b, 403, "{\"code\":\"AccountOverdue\"}", NULL, NULL).cls, ERR_QUOTA);
    assert_int_equal(classify(b, 503, "{\"code\":\"SlowDown\"}", NULL, NULL).cls, ERR_THROTTLED);
    assert_int_equal(classify(b, 404, "", NULL, NULL).cls, ERR_ABSENT);
    assert_int_equal(classify(b, 500, "{\"code\":7}", NULL, NULL).cls, ERR_TRANSIENT);
    be_dialect_bos.release(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        cmocka_unit_test(refuses_settings),
        cmocka_unit_test(keys_that_are_refused),
        cmocka_unit_test(google_requests),
        cmocka_unit_test(google_answers),
        cmocka_unit_test(google_refusals),
        cmocka_unit_test(google_tokens),
        cmocka_unit_test(baidu_requests),
        cmocka_unit_test(baidu_lists),
        cmocka_unit_test(baidu_results),
        cmocka_unit_test(baidu_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
