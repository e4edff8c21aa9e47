/* The Upyun dialect, both ways. */
#include "dialect_sites.h"
#include "dialect_upyun.h"

static struct dialect_site *upyun(void)
{
    return site(&be_dialect_upyun, conf("svc", "", ""));
}

/* --- sites and keys */

static void places(void **state)
{
    (void)state;
    static const struct {
        const char *endpoint, *host, *identity;
    } cases[] = {
        {"", "v0.api.upyun.com", "upyun:svc"},
        {"v3.api.upyun.com", "v3.api.upyun.com", "upyun:svc"},
        {"uss.example.com:8443", "uss.example.com:8443", "upyun:uss.example.com:8443/svc"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dialect_site *s = site(&be_dialect_upyun, conf("svc", "", cases[i].endpoint));
        assert_string_equal(s->host, cases[i].host);
        assert_string_equal(s->base, "/svc");
        assert_string_equal(s->identity, cases[i].identity);
        assert_true(s->caps & BE_CAP_REAL_DIRS && s->caps & BE_CAP_BARE_DIRS);
        be_dialect_upyun.release(s);
    }
    struct conf_remote c = conf("svc", "", "");
    c.limits.min_part = 1500000;
    struct dialect_site *s = NULL;
    struct errinfo err = {0};
    assert_int_equal(configure(&be_dialect_upyun, c, &s, &err), -EINVAL);
    assert_non_null(strstr(err.message, "[r] minPartSize"));
    c.limits.min_part = 0;
    c.limits.max_part = 1000;
    assert_int_equal(configure(&be_dialect_upyun, c, &s, &err), -EINVAL);
    assert_non_null(strstr(err.message, "[r] maxPartSize"));
}

static void key_faults(void **state)
{
    (void)state;
    struct dialect_site *s = upyun();
    static const char *const bad[] = {"/a",  "a//b", "a//",    ".",    "..",   "./a",   "a/..",
                                      "a/.", "..//", "a/../b", "a\tb", "a\nb", "a\xff", "a/./"};
    static const char *const good[] = {"a",      "a/",  "a/b", "...",  ".a",
                                       "a./..b", "^2F", "%2F", "한/글"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *why = be_dialect_upyun.key_fault(s, bad[i]);
        if (!why || !strstr(why, "Upyun")) {
            fail_msg("'%s': %s", bad[i], why ? why : "taken");
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_null(be_dialect_upyun.key_fault(s, good[i]));
    }
    be_dialect_upyun.release(s);
}

/* --- requests */

static int build_page(const struct dialect_site *s, enum be_kind kind, struct be_op *op,
                 const char *page, struct dialect_request *r, struct errinfo *err)
{
    struct dialect_call call = {.kind = kind, .op = op, .src = s, .page = {page}};
    op->kind = kind;
    err_clear(err);
    return be_dialect_upyun.build(s, &call, r, err);
}

/* What it has no place for is stored all the same, and comes back. */
static void metadata_there_and_back(void **state)
{
    (void)state;
    static const char *const all[][2] = {
        {"content-type", "text/x"},
        {"cache-control", "no-cache"},
        {"expires", "Wed, 21 Oct 2037 07:28:00 GMT"},
        {"meta-ttl", "5"},
        {"meta-secret", "s"},
        {"meta-objmig-x", "y"},
        {"meta-objmig-meta-ttl", "z"},
        {"meta-a", "\xc3\xa4"},
    };
    struct dialect_site *s = upyun();
    CLEANUP(kv_fini) struct kvlist meta = {0};
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    struct errinfo err = {0};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        kv_set(&meta, all[i][0], all[i][1]);
    }
    struct be_write w = {.op.key = "k", .data = "x", .len = 1, .meta = &meta};
    assert_int_equal(build_page(s, BE_WRITE, &w.op, NULL, &r, &err), 0);
    assert_header(&r, "content-type", "text/x");
    assert_header(&r, "x-upyun-meta-objmig-cache-control", "no-cache");
    assert_header(&r, "x-upyun-meta-objmig-meta-ttl", "5");
    assert_header(&r, "x-upyun-meta-ttl", NULL);
    assert_header(&r, "x-upyun-meta-secret", NULL);
    assert_header(&r, "x-upyun-meta-a", "UTF-8''%C3%A4");
    kv_set(&r.headers, "etag", "\"e\"");
    kv_set(&r.headers, "x-upyun-file-type", "file");
    kv_set(&r.headers, "x-upyun-file-size", "1");
    struct be_stat st = {.op.key = "k"};
    struct dialect_call call = {.kind = BE_STAT, .op = &st.op};
    struct dialect_answer a = {.http_status = 200, .headers = &r.headers, .body = ""};
    struct dialect_page page = {0};
    assert_int_equal(be_dialect_upyun.parse(s, &call, &a, &page, &err), 0);
    assert_true(kv_equal(&st.meta, &meta));
    kv_fini(&st.meta);

    /* only an upload sets the real type: elsewhere it is kept beside it, and wins */
    struct be_copy c = {.op.key = "to", .src_key = "from ü", .meta = &meta};
    assert_int_equal(build_page(s, BE_COPY, &c.op, NULL, &r, &err), 0);
    assert_string_equal(r.method, "PUT");
    assert_header(&r, "x-upyun-copy-source", "/svc/from%20%C3%BC");
    assert_header(&r, "x-upyun-metadata-directive", "replace");
    assert_header(&r, "x-upyun-meta-objmig-content-type", "text/x");
    c.src_key = "to";
    assert_int_equal(build_page(s, BE_COPY, &c.op, NULL, &r, &err), 0);
    assert_string_equal(r.method, "PATCH");
    assert_string_equal(kv_get(&r.query, "metadata"), "replace");
    assert_header(&r, "x-upyun-meta-objmig-content-type", "text/x");
    assert_header(&r, "content-type", NULL);

    kv_set(&meta, "storage-class", "IA");
    assert_true(build_page(s, BE_WRITE, &w.op, NULL, &r, &err) < 0);
    assert_int_equal(err.cls, ERR_INVALID);
    kv_set(&meta, "storage-class", NULL);
    CLEANUP(mem_freep) char *big = mem_zalloc(2049);
    memset(big, 'v', 2048);
    kv_set(&meta, "meta-big", big);
    assert_true(build_page(s, BE_WRITE, &w.op, NULL, &r, &err) < 0);
    be_dialect_upyun.release(s);
}

static void builds_directories(void **state)
{
    (void)state;
    struct dialect_site *s = upyun();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    struct errinfo err = {0};
    struct be_write w = {.op.key = "d/"};
    assert_int_equal(build_page(s, BE_WRITE, &w.op, NULL, &r, &err), 0);
    assert_string_equal(r.method, "POST");
    assert_string_equal(buf_str(&r.path), "/svc/d/");
    assert_header(&r, "folder", "true");
    w.data = "x";
    w.len = 1;
    assert_true(build_page(s, BE_WRITE, &w.op, NULL, &r, &err) < 0);
    assert_int_equal(err.cls, ERR_INVALID);
    struct be_copy c = {.op.key = "d/", .src_key = "d/"};
    assert_int_equal(build_page(s, BE_COPY, &c.op, NULL, &r, &err), 0);
    assert_string_equal(r.method, "POST");
    struct be_mp mp = {.op.key = "d/"};
    assert_true(build_page(s, BE_MP_BEGIN, &mp.op, NULL, &r, &err) < 0);
    struct be_remove rm = {.op.key = "d/"};
    assert_int_equal(build_page(s, BE_REMOVE, &rm.op, NULL, &r, &err), 0);
    assert_header(&r, "x-upyun-folder", "true");
    rm.op.key = "f";
    assert_int_equal(build_page(s, BE_REMOVE, &rm.op, NULL, &r, &err), 0);
    assert_header(&r, "x-upyun-folder", "false");
    struct be_read rd = {.op.key = "f", .offset = 5, .len = 10};
    assert_int_equal(build_page(s, BE_READ, &rd.op, NULL, &r, &err), 0);
    assert_header(&r, "x-upyun-folder", "false"); /* else the directory would be listed */
    assert_header(&r, "range", "bytes=5-14");
    rd.op.key = "d/";
    assert_int_equal(build_page(s, BE_READ, &rd.op, NULL, &r, &err), 0);
    assert_string_equal(r.method, "HEAD");
    struct be_list l = {.prefix = "d ü/", .delimiter = '/'};
    assert_int_equal(build_page(s, BE_LIST, &l.op, "iter==", &r, &err), 0);
    assert_string_equal(buf_str(&r.path), "/svc/d%20%C3%BC/");
    assert_header(&r, "x-list-iter", "iter==");
    assert_header(&r, "accept", "application/json");
    be_dialect_upyun.release(s);
}

static void builds_uploads(void **state)
{
    (void)state;
    struct dialect_site *s = upyun();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    struct errinfo err = {0};
    struct be_mp mp = {.op.key = "k", .part_size = 8 << 20};
    assert_int_equal(build_page(s, BE_MP_BEGIN, &mp.op, NULL, &r, &err), 0);
    assert_header(&r, "x-upyun-multi-stage", "initiate");
    assert_header(&r, "x-upyun-multi-disorder", "true");
    assert_header(&r, "x-upyun-multi-part-size", "8388608");
    assert_header(&r, "x-upyun-multi-type", "application/octet-stream");
    mp.part_size = 0;
    assert_int_equal(build_page(s, BE_MP_BEGIN, &mp.op, NULL, &r, &err), 0);
    assert_header(&r, "x-upyun-multi-part-size", "1048576");
    struct be_part p = {.op.key = "k", .upload_id = "u", .number = 3, .data = "x", .len = 1};
    assert_int_equal(build_page(s, BE_MP_PART, &p.op, NULL, &r, &err), 0);
    assert_header(&r, "x-upyun-part-id", "2");
    assert_header(&r, "content-md5", "9dd4e461268c8034f5c8564e155c67a6");

    static const struct {
        struct be_part_id parts[3];
        size_t n;
        bool ok;
    } commits[] = {
        {{{1, 5, "a"}}, 1, true},
        {{{1, 1 << 20, "a"}, {2, 5, "b"}}, 2, true},
        {{{1, 1 << 20, "a"}, {2, 1 << 20, "b"}}, 2, true},
        {{{2, 5, "a"}}, 1, false},
        {{{1, 1 << 20, "a"}, {3, 5, "b"}}, 2, false},
        {{{1, 5, "a"}, {2, 5, "b"}}, 2, false},
        {{{1, 1 << 20, "a"}, {2, 2 << 20, "b"}}, 2, false},
        {{{1, 2 << 20, "a"}, {2, 1 << 20, "b"}, {3, 5, "c"}}, 3, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(commits); i++) {
        struct be_commit c = {
            .op.key = "k", .upload_id = "u", .parts = commits[i].parts, .n_parts = commits[i].n};
        assert_int_equal(build_page(s, BE_MP_COMMIT, &c.op, NULL, &r, &err) == 0, commits[i].ok);
        assert_int_equal(err.cls, commits[i].ok ? ERR_NONE : ERR_INVALID);
    }
    be_dialect_upyun.release(s);
}

/* --- answers */

static struct errinfo classify_at(const struct dialect_site *s, enum be_kind kind, const char *key,
                               int status, const char *body, const char *date)
{
    CLEANUP(kv_fini) struct kvlist headers = {0};
    kv_set(&headers, "x-request-id", "of the header");
    kv_set(&headers, "date", date);
    kv_set(&headers, "retry-after", "7");
    struct be_op op = {.kind = kind, .key = key};
    struct dialect_call call = {.kind = kind, .op = &op};
    struct dialect_answer a = {.http_status = status,
                               .headers = &headers,
                               .body = body,
                               .body_len = strlen(body),
                               .signed_s = 1700000000};
    struct errinfo err = {0};
    be_dialect_upyun.classify(s, &call, &a, &err);
    return err;
}

static void classifies(void **state)
{
    (void)state;
    struct dialect_site *s = upyun();
    static const struct {
        enum be_kind kind;
        const char *key;
        int status;
        const char *number;
        enum err_class cls;
        const char *code;
    } cases[] = {
        {BE_WRITE, "k", 400, "40000006", ERR_INTEGRITY, "BadDigest"},
        {BE_READ, "k", 400, "40001161", ERR_INVALID, "InvalidRange"},
        {BE_MP_PART, "k", 400, "40001031", ERR_PRECOND, "PartExists"},
        {BE_MP_PART, "k", 400, "40001035", ERR_ABSENT, "NoSuchUpload"},
        {BE_MP_COMMIT, "k", 404, "40400001", ERR_ABSENT, "NoSuchUpload"},
        {BE_MP_ABORT, "k", 400, "40001022", ERR_NONE, NULL},
        {BE_MP_COMMIT, "k", 400, "40001022", ERR_INVALID, NULL},
        {BE_LIST, NULL, 401, "40100002", ERR_SKEW, NULL},
        {BE_LIST, NULL, 401, "40100005", ERR_AUTH, "SignatureDoesNotMatch"},
        {BE_LIST, NULL, 401, "40100006", ERR_AUTH, "InvalidAccessKeyId"},
        {BE_LIST, NULL, 401, "40100008", ERR_AUTH, "40100008"},
        {BE_LIST, NULL, 401, "40100012", ERR_ABSENT, "NoSuchBucket"},
        {BE_MP_PARTS, "k", 401, "40100012", ERR_ABSENT, "NoSuchBucket"},
        {BE_WRITE, "k", 403, "40300004", ERR_QUOTA, NULL},
        {BE_WRITE, "k", 403, "40300002", ERR_INVALID, NULL},
        {BE_REMOVE, "d/", 403, "40300005", ERR_NONE, NULL},
        {BE_WRITE, "k", 403, "40300099", ERR_AUTH, NULL},
        {BE_STAT, "k", 404, "40400001", ERR_ABSENT, "NoSuchKey"},
        {BE_WRITE, "d/", 406, "40600002", ERR_NONE, NULL},
        {BE_WRITE, "k", 406, "40600002", ERR_INVALID, NULL},
        {BE_WRITE, "k", 406, "40600001", ERR_INVALID, NULL},
        {BE_WRITE, "k", 429, "42900001", ERR_THROTTLED, NULL},
        {BE_WRITE, "k", 503, "50300000", ERR_THROTTLED, NULL},
        {BE_WRITE, "k", 500, "50000000", ERR_TRANSIENT, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(mem_freep)
        char *body = mem_printf("{\"msg\":\"why\\nso\",\"code\":%s,\"id\":\"of the body\"}",
                                cases[i].number);
        struct errinfo e = classify_at(s, cases[i].kind, cases[i].key, cases[i].status, body, NULL);
        if (e.cls != cases[i].cls || (cases[i].code && strcmp(e.code, cases[i].code) != 0)) {
            fail_msg("%s: class %s, code %s", cases[i].number, err_class_name(e.cls), e.code);
        }
        assert_string_equal(e.request_id, "of the body");
        assert_int_equal(e.retry_after_ms, 7000);
        assert_non_null(strstr(e.message, cases[i].number));
        assert_null(strchr(e.message, '\n'));
    }
    /* a HEAD has no body: the clocks may explain it */
    struct errinfo e = classify_at(s, BE_STAT, "k", 401, "", "Tue, 14 Nov 2023 23:13:20 GMT");
    assert_int_equal(e.cls, ERR_SKEW);
    assert_string_equal(e.request_id, "of the header");
    assert_int_equal(classify_at(s, BE_STAT, "k", 401, "", "Tue, 14 Nov 2023 22:13:25 GMT").cls,
                     ERR_AUTH);
    /* and a refusal whose number says nothing, but not one that is explained */
    static const char *const late = "Tue, 14 Nov 2023 23:13:20 GMT";
    assert_int_equal(classify_at(s, BE_LIST, NULL, 401, "{\"code\":40100007}", late).cls, ERR_SKEW);
    assert_int_equal(classify_at(s, BE_LIST, NULL, 401, "{\"code\":40100007}", NULL).cls, ERR_AUTH);
    assert_int_equal(classify_at(s, BE_LIST, NULL, 401, "{\"code\":40100005}", late).cls, ERR_AUTH);
    assert_int_equal(classify_at(s, BE_STAT, "k", 404, "", NULL).cls, ERR_ABSENT);
    assert_int_equal(classify_at(s, BE_LIST, NULL, 404, "", NULL).cls, ERR_ABSENT);
    assert_int_equal(classify_at(s, BE_STAT, "k", 502, "<html>", NULL).cls, ERR_TRANSIENT);
    be_dialect_upyun.release(s);
}

static int parse_200(const struct dialect_site *s, struct be_op *op, const char *body,
                 struct answer *ans)
{
    struct dialect_call call = {.kind = op->kind, .op = op};
    struct dialect_answer a = {
        .http_status = 200, .headers = &ans->headers, .body = body, .body_len = strlen(body)};
    dialect_page_fini(&ans->page);
    err_clear(&ans->err);
    return be_dialect_upyun.parse(s, &call, &a, &ans->page, &ans->err);
}

static void parses_lists(void **state)
{
    (void)state;
    struct dialect_site *s = upyun();
    CLEANUP(answer_fini) struct answer ans = {0};
    struct be_list l = {.op.kind = BE_LIST, .prefix = "p/", .delimiter = '/'};
    assert_int_equal(
        parse_200(s, &l.op,
              "{\"files\":[{\"type\":\"folder\",\"name\":\"d\",\"length\":0,\"last_modified\":1},"
              "{\"type\":\"text/"
              "x\",\"name\":\"\\u4e2d\",\"length\":123456789012,\"last_modified\":1700000000,"
              "\"etag\":\"e\"},{\"type\":\"x\",\"name\":\"a/b\",\"length\":1},"
              "{\"type\":\"x\",\"name\":\"..\",\"length\":1},{\"name\":\"n\",\"length\":\"7\"}],"
              "\"iter\":\"next\"}",
              &ans),
        0);
    assert_int_equal(l.n_entries, 3);
    assert_string_equal(l.entries[0].key, "p/d/");
    assert_true(l.entries[0].is_prefix && !l.entries[1].is_prefix);
    assert_string_equal(l.entries[1].key, "p/\xe4\xb8\xad");
    assert_true(l.entries[1].object.size == UINT64_C(123456789012));
    assert_true(l.entries[1].object.mtime_ns == INT64_C(1700000000000000000));
    assert_string_equal(l.entries[1].object.etag, "e");
    assert_string_equal(l.entries[2].object.etag, ""); /* unknown */
    assert_int_equal(l.entries[2].object.size, 7);
    assert_int_equal(ans.page.unshowable, 2);
    assert_string_equal(ans.page.next[0], "next");
    be_list_fini(&l);
    assert_int_equal(parse_200(s, &l.op, "{\"files\":[],\"iter\":\"g2gCZAAEbmV4dGQAA2VvZg\"}", &ans),
                     0);
    assert_null(ans.page.next[0]);
    be_list_fini(&l);
    static const char *const garbled[] = {
        "{",
        "[]",
        "{\"files\":{},\"iter\":\"n\"}",
        "{\"files\":[{\"name\":\"a\",\"length\":1},{\"name\":\"b\"}],\"iter\":\"n\"}",
        "{\"files\":[{\"name\":\"a\",\"length\":-1}],\"iter\":\"n\"}",
        "{\"files\":[{\"length\":1}],\"iter\":\"n\"}",
        "{\"files\":[{\"name\":\"a\\u0000b\",\"length\":1}],\"iter\":\"n\"}",
        "{\"files\":[{\"name\":\"\xff\",\"length\":1}],\"iter\":\"n\"}",
        "{\"files\":[],\"iter\":\"n\"} more",
        /* whole lists say that they are: that is no end */
        "{\"files\":[]}",
        "{\"files\":[],\"iter\":null}",
        "{\"files\":[],\"iter\":7}",
        "{\"files\":[],\"iter\":\"\"}",
        "",
    };
    for (size_t i = 0; i < ARRAY_LEN(garbled); i++) {
        assert_int_equal(parse_200(s, &l.op, garbled[i], &ans), -EIO);
        assert_int_equal(ans.err.cls, ERR_TRANSIENT);
        assert_null(l.entries);
        assert_null(ans.page.next[0]);
    }
    kv_set(&ans.headers, "content-length", "0");
    assert_int_equal(parse_200(s, &l.op, "", &ans), 0); /* an empty directory */
    assert_int_equal(l.n_entries, 0);
    struct dialect_call second = {.kind = BE_LIST, .op = &l.op, .page = {"next"}};
    struct dialect_answer a = {.http_status = 200, .headers = &ans.headers, .body = ""};
    assert_int_equal(be_dialect_upyun.parse(s, &second, &a, &ans.page, &ans.err), -EIO);
    be_dialect_upyun.release(s);
}

static void parses_uploads(void **state)
{
    (void)state;
    struct dialect_site *s = upyun();
    CLEANUP(answer_fini) struct answer ans = {0};
    struct be_parts p = {.op = {.kind = BE_MP_PARTS, .key = "k"}, .upload_id = "u"};
    assert_int_equal(parse_200(s, &p.op,
                           "{\"parts\":[{\"etag\":\"a\",\"size\":5,\"id\":0},{\"etag\":\"b\","
                           "\"size\":6,\"id\":2}]}",
                           &ans),
                     0);
    assert_int_equal(ans.page.n_parts, 2);
    assert_int_equal(ans.page.parts[1].number, 3);
    assert_string_equal(ans.page.next[0], "3"); /* begins after the last */
    assert_int_equal(parse_200(s, &p.op, "{\"parts\":[]}", &ans), 0);
    assert_null(ans.page.next[0]);
    assert_int_equal(
        parse_200(s, &p.op,
              "{\"parts\":[{\"etag\":\"a\",\"size\":5,\"id\":0},{\"etag\":\"b\",\"id\":2}]}", &ans),
        -EIO);
    assert_null(ans.page.parts);

    static const char body[] =
        "{\"files\":[{\"key\":\"/k\",\"uuid\":\"1\",\"completed\":false,\"created_at\":1700000000},"
        "{\"key\":\"k\",\"uuid\":\"2\",\"completed\":true,\"created_at\":1},"
        "{\"key\":\"kk\",\"uuid\":\"3\",\"created_at\":1},{\"key\":\"other\",\"uuid\":\"4\","
        "\"created_at\":1}]}";
    struct be_uploads u = {.op = {.kind = BE_MP_UPLOADS, .key = "k"}};
    assert_int_equal(parse_200(s, &u.op, body, &ans), 0);
    assert_int_equal(ans.page.n_uploads, 1);
    assert_string_equal(ans.page.uploads[0].key, "k");
    assert_true(ans.page.uploads[0].initiated_ns == INT64_C(1700000000000000000));
    u.op.key = NULL;
    u.prefix = "k";
    assert_int_equal(parse_200(s, &u.op, body, &ans), 0);
    assert_int_equal(ans.page.n_uploads, 2);
    s->limits.list_page = 4; /* as many as were asked for: there may be more */
    assert_int_equal(parse_200(s, &u.op, body, &ans), -EIO);
    assert_int_equal(ans.err.cls, ERR_INVALID);
    assert_null(ans.page.uploads);
    be_dialect_upyun.release(s);
}

static void parses_stats(void **state)
{
    (void)state;
    struct dialect_site *s = upyun();
    CLEANUP(answer_fini) struct answer ans = {0};
    struct be_stat st = {.op = {.kind = BE_STAT, .key = "k"}};
    kv_set(&ans.headers, "x-upyun-file-type", "folder");
    assert_int_equal(parse_200(s, &st.op, "", &ans), -ENOENT);
    assert_int_equal(ans.err.cls, ERR_ABSENT);
    st.op.key = "k/";
    assert_int_equal(parse_200(s, &st.op, "", &ans), 0);
    assert_string_equal(st.object.etag, DIALECT_DIR_ETAG);
    kv_set(&ans.headers, "x-upyun-file-type", "image/png");
    assert_int_equal(parse_200(s, &st.op, "", &ans), -ENOENT);
    st.op.key = "k";
    assert_int_equal(parse_200(s, &st.op, "", &ans), -EIO); /* no size */
    kv_set(&ans.headers, "x-upyun-file-size", "5");
    kv_set(&ans.headers, "x-upyun-file-date", "1700000000");
    assert_int_equal(parse_200(s, &st.op, "", &ans), 0);
    assert_string_equal(st.object.etag, "5-1700000000"); /* better than none */
    kv_set(&ans.headers, "etag", "\"0123456789abcdef0123456789abcdef\"");
    assert_int_equal(parse_200(s, &st.op, "", &ans), 0);
    assert_false(st.object.etag_is_md5); /* one of parts looks the same */
    kv_set(&ans.headers, "content-md5", "0123456789ABCDEF0123456789abcdef");
    assert_int_equal(parse_200(s, &st.op, "", &ans), 0);
    assert_true(st.object.etag_is_md5);
    static const char *const empty[] = {"", "\"\""};
    for (size_t i = 0; i < ARRAY_LEN(empty); i++) { /* as if there were none */
        struct be_part p = {.op = {.kind = BE_MP_PART, .key = "k"}, .data = "x", .len = 1};
        kv_set(&ans.headers, "etag", empty[i]);
        assert_int_equal(parse_200(s, &st.op, "", &ans), 0);
        assert_string_equal(st.object.etag, "0123456789ABCDEF0123456789abcdef");
        assert_true(st.object.etag_is_md5);
        assert_int_equal(parse_200(s, &p.op, "", &ans), 0);
        assert_string_equal(p.object.etag, "9dd4e461268c8034f5c8564e155c67a6");
        assert_true(p.object.etag_is_md5);
    }
    be_stat_fini(&st);

    struct be_write w = {.op = {.kind = BE_WRITE, .key = "k"}, .data = "x", .len = 1};
    struct answer none = {0};
    assert_int_equal(parse_200(s, &w.op, "", &none), 0);
    assert_string_equal(w.object.etag, "9dd4e461268c8034f5c8564e155c67a6");
    struct be_copy c = {.op = {.kind = BE_COPY, .key = "k"}, .size = 7};
    assert_int_equal(parse_200(s, &c.op, "", &none), 0);
    assert_string_equal(c.object.etag, ""); /* the driver looks */
    struct be_mp mp = {.op = {.kind = BE_MP_BEGIN, .key = "k"}};
    assert_int_equal(parse_200(s, &mp.op, "", &none), -EIO);
    answer_fini(&none);
    be_dialect_upyun.release(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        cmocka_unit_test(key_faults),
        cmocka_unit_test(metadata_there_and_back),
        cmocka_unit_test(builds_directories),
        cmocka_unit_test(builds_uploads),
        cmocka_unit_test(classifies),
        cmocka_unit_test(parses_lists),
        cmocka_unit_test(parses_uploads),
        cmocka_unit_test(parses_stats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
