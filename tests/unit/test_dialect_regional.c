/* The OSS and KS3 dialects, outwards and inwards: what they do otherwise than S3 and COS. */
#include "dialect_sites.h"

static void places(void **state)
{
    (void)state;
    static const struct {
        const struct be_dialect *d;
        const char *region, *endpoint;
        bool plain, cname;
        const char *host, *base, *identity, *service;
    } cases[] = {
        {&be_dialect_oss, "cn-hangzhou", "", 0, 0, "bkt.oss-cn-hangzhou.aliyuncs.com", "",
         "oss:bkt", "oss:cn-hangzhou"},
        {&be_dialect_oss, "oss-cn-hangzhou", "", 0, 0, "bkt.oss-cn-hangzhou.aliyuncs.com", "",
         "oss:bkt", "oss:cn-hangzhou"},
        {&be_dialect_oss, "", "oss-cn-hangzhou-internal.aliyuncs.com", 0, 0,
         "bkt.oss-cn-hangzhou-internal.aliyuncs.com", "", "oss:bkt", "oss:cn-hangzhou"},
        {&be_dialect_oss, "cn-x", "files.example.com", 0, 1, "files.example.com", "", "oss:bkt",
         "oss:cn-x"},
        {&be_dialect_oss, "cn-x", "http://127.0.0.1:99", 1, 0, "127.0.0.1:99", "/bkt",
         "oss:127.0.0.1:99/bkt", "127.0.0.1:99"},
        {&be_dialect_ks3, "cn-beijing", "", 0, 0, "bkt.ks3-cn-beijing.ksyuncs.com", "", "ks3:bkt",
         "ks3:cn-beijing"},
        {&be_dialect_ks3, "BEIJING", "ks3-cn-beijing-internal.ksyuncs.com", 0, 0,
         "bkt.ks3-cn-beijing-internal.ksyuncs.com", "", "ks3:bkt", "ks3:cn-beijing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_remote c = conf("bkt", cases[i].region, cases[i].endpoint);
        c.https = !cases[i].plain;
        if (cases[i].cname) {
            kv_set(&c.defaults, "cname", "on");
        }
        struct dialect_site *s = site(cases[i].d, c);
        assert_string_equal(s->host, cases[i].host);
        assert_string_equal(s->base, cases[i].base);
        assert_string_equal(s->identity, cases[i].identity);
        assert_string_equal(s->service, cases[i].service);
        cases[i].d->release(s);
        kv_fini(&c.defaults);
    }
}

static void refuses_settings(void **state)
{
    (void)state;
    static const struct {
        const struct be_dialect *d;
        const char *region, *endpoint, *signature, *encryption;
        bool path_style;
        const char *says;
    } cases[] = {
        {&be_dialect_oss, "", "", "", "", 0, "region: missing; set region (e.g. cn-hangzhou)"},
        {&be_dialect_oss, "", "oss-accelerate.aliyuncs.com", "", "", 0, "V4 signatures need it"},
        {&be_dialect_oss, "", "oss.example.com", "", "", 0, "V4 signatures need it"},
        {&be_dialect_oss, "cn-x", "", "v2", "", 0, "use v4 or v1"},
        {&be_dialect_oss, "cn-x", "", "", "rot13", 0, "encryptionType"},
        {&be_dialect_oss, "cn-x", "", "", "", 1, "pathStyle = off"},
        {&be_dialect_ks3, "", "", "", "", 0, "region: missing; set region (e.g. cn-beijing)"},
        {&be_dialect_ks3, "cn-x", "", "v2", "", 0, "use kss or v4"},
        {&be_dialect_ks3, "cn-x", "", "", "KMS", 0, "encryptionType"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_remote c = conf("bkt", cases[i].region, cases[i].endpoint);
        struct dialect_site *s = NULL;
        struct errinfo err = {0};
        c.signature = LIT(cases[i].signature);
        c.encryption = LIT(cases[i].encryption);
        c.path_style = cases[i].path_style;
        assert_int_equal(configure(cases[i].d, c, &s, &err), -EINVAL);
        assert_null(s);
        assert_int_equal(err.cls, ERR_INVALID);
        if (!strstr(err.message, cases[i].says) || strncmp(err.message, "[r] ", 4) != 0) {
            fail_msg("'%s' does not say '%s'", err.message, cases[i].says);
        }
    }
    /* V1 signatures have no region in them */
    struct conf_remote old = conf("bkt", "", "oss.example.com");
    old.signature = LIT("v1");
    be_dialect_oss.release(site(&be_dialect_oss, old));
}

static void copies_within_a_region(void **state)
{
    (void)state;
    struct dialect_site *a = alibaba(),
                        *near = site(&be_dialect_oss,
                                     conf("b2", "", "oss-cn-hangzhou-internal.aliyuncs.com")),
                        *far = site(&be_dialect_oss, conf("b3", "cn-beijing", ""));
    assert_true(be_dialect_oss.can_copy(a, near));
    assert_false(be_dialect_oss.can_copy(a, far));
    be_dialect_oss.release(a);
    be_dialect_oss.release(near);
    be_dialect_oss.release(far);
}

static void builds_what_is_special(void **state)
{
    (void)state;
    struct dialect_site *o = alibaba(), *k = kingsoft(""), *v4 = kingsoft("v4");
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "storage-class", "cold_archive");
    kv_set(&meta, "meta-md5", "x");
    struct be_write w = {.op = {.key = "k"}, .data = "", .meta = &meta, .if_absent = true};
    BUILD(o, BE_WRITE, &w, NULL, &r);
    assert_header(&r, "x-oss-forbid-overwrite", "true");
    assert_header(&r, "if-none-match", NULL);
    assert_header(&r, "x-oss-storage-class", "ColdArchive");
    assert_header(&r, "x-oss-meta-md5", "x");
    BUILD(k, BE_WRITE, &w, NULL, &r);
    assert_header(&r, "x-kss-forbid-overwrite", "true");
    assert_header(&r, "x-kss-storage-class", "COLD_ARCHIVE");
    BUILD(v4, BE_WRITE, &w, NULL, &r);
    assert_header(&r, "x-amz-forbid-overwrite", "true");
    assert_header(&r, "x-amz-meta-md5", "x");
    kv_set(&meta, "storage-class", "standard");
    BUILD(o, BE_WRITE, &w, NULL, &r);
    assert_header(&r, "x-oss-storage-class", NULL);
    kv_set(&meta, "meta-a_b", "1");
    BUILD(o, BE_WRITE, &w, NULL, &r);
    assert_header(&r, "x-oss-meta-a--5fb", "1");
    BUILD(k, BE_WRITE, &w, NULL, &r);
    assert_header(&r, "x-kss-meta-a_b", "1");

    char buf[4];
    struct be_read read = {.op = {.key = "k"}, .len = 4, .buf = buf};
    BUILD(o, BE_READ, &read, NULL, &r);
    assert_header(&r, "x-oss-range-behavior", "standard");
    const char *keys[] = {"a"};
    struct be_many many = {.keys = keys, .n_keys = 1};
    BUILD(o, BE_REMOVE_MANY, &many, NULL, &r);
    assert_non_null(strstr(buf_str(&r.own), "<Quiet>false</Quiet>"));
    BUILD(k, BE_REMOVE_MANY, &many, NULL, &r);
    assert_non_null(strstr(buf_str(&r.own), "<Quiet>true</Quiet>"));

    static const char *const slashes[][2] = {{"a//b", "/a/%2Fb"},
                                             {"/lead", "/%2Flead"},
                                             {"a///b", "/a/%2F/b"},
                                             {"//", "/%2F/"},
                                             {"a/b", "/a/b"}};
    for (size_t i = 0; i < ARRAY_LEN(slashes); i++) {
        struct be_stat stat = {.op = {.key = slashes[i][0]}};
        BUILD(k, BE_STAT, &stat, NULL, &r);
        assert_string_equal(buf_str(&r.path), slashes[i][1]);
    }
    be_dialect_oss.release(o);
    be_dialect_ks3.release(k);
    be_dialect_ks3.release(v4);
}

static void signs(void **state)
{
    (void)state;
    struct dialect_site *sites[] = {alibaba(), kingsoft(""), kingsoft("v4")};
    static const char *const begins[] = {
        "OSS4-HMAC-SHA256 Credential=AKID/20231114/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=host,",
        "KSS AKID:", "AWS4-HMAC-SHA256 Credential=AKID/20231114/BEIJING/s3/aws4_request, "};
    for (size_t i = 0; i < ARRAY_LEN(sites); i++) {
        CLEANUP(dialect_request_fini) struct dialect_request r = {0};
        struct be_stat o = {.op = {.key = "k"}};
        struct errinfo err = {0};
        BUILD(sites[i], BE_STAT, &o, NULL, &r);
        assert_int_equal(sites[i]->dialect->sign(sites[i], &r, 1700000000, &err), 0);
        const char *got = kv_get(&r.headers, "authorization");
        if (strncmp(got, begins[i], strlen(begins[i])) != 0) {
            assert_string_equal(got, begins[i]);
        }
        sites[i]->dialect->release(sites[i]);
    }
}

static void keys_a_provider_takes(void **state)
{
    (void)state;
    struct dialect_site *o = alibaba(), *k = kingsoft("");
    static const char *const no[] = {"/lead", "\\lead", "a\nb", "a\rb", "\xff"};
    static const char *const yes[] = {"a//b", "a\\b", "..", "\t", "\x01", "한글"};
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        assert_non_null(be_dialect_oss.key_fault(o, no[i]));
        assert_int_equal(be_dialect_ks3.key_fault(k, no[i]) != NULL, no[i][0] == '\xff');
    }
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        assert_null(be_dialect_oss.key_fault(o, yes[i]));
        assert_null(be_dialect_ks3.key_fault(k, yes[i]));
    }
    be_dialect_oss.release(o);
    be_dialect_ks3.release(k);
}

#define ERROR(code, more) "<Error><Code>" code "</Code>" more "</Error>"

static void classifies(void **state)
{
    (void)state;
    struct dialect_site *o = alibaba();
    static const char denied[] = ERROR("AccessDenied", "<Message>m</Message>");
    static const struct {
        int status;
        const char *body;
        enum err_class cls;
    } cases[] = {
        {403, ERROR("SecurityTokenExpired", ""), ERR_AUTH},
        {403, ERROR("InvalidSecurityToken", ""), ERR_AUTH},
        {400, ERROR("InvalidDigest", ""), ERR_INTEGRITY},
        {503, ERROR("QpsLimitExceeded", ""), ERR_THROTTLED},
        {503, ERROR("UploadTrafficRateLimitExceeded", ""), ERR_THROTTLED},
        {409, ERROR("FileAlreadyExists", ""), ERR_PRECOND},
        {403, ERROR("InvalidObjectState", ""), ERR_ARCHIVED},
        {403, ERROR("RequestTimeTooSkewed", ""), ERR_SKEW},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(classify(o, cases[i].status, cases[i].body, NULL, NULL).cls,
                         cases[i].cls);
    }
    /* a clock that is far off, said in another way; signed at 22:13:20 */
    assert_int_equal(classify(o, 403, denied, "date", "Tue, 14 Nov 2023 22:28:21 GMT").cls,
                     ERR_SKEW);
    assert_int_equal(classify(o, 403, denied, "date", "Tue, 14 Nov 2023 22:28:19 GMT").cls,
                     ERR_AUTH);
    struct errinfo e = classify(
        o, 403, ERROR("AccessDenied", "<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>"), NULL,
        NULL);
    assert_int_equal(e.cls, ERR_INVALID);
    assert_non_null(strstr(e.message, "oss-cn-beijing.aliyuncs.com"));
    e = classify(o, 403, ERROR("InvalidObjectState", ""), "x-oss-storage-class", "Archive");
    assert_string_equal(e.message, "the object is archived (Archive): restore it first");
    e = classify(o, 403, denied, "x-oss-ec", "0002-00000080");
    assert_non_null(strstr(e.message, "remove signatureVersion from [r]"));
    /* what a HEAD is told: <Error><Code>NoSuchKey</Code></Error> in base64 */
    e = classify(o, 404, "", "x-oss-err", "PEVycm9yPjxDb2RlPk5vU3VjaEtleTwvQ29kZT48L0Vycm9yPg==");
    assert_string_equal(e.code, "NoSuchKey");
    assert_int_equal(e.cls, ERR_ABSENT);
    assert_int_equal(classify(o, 404, "", "x-oss-err", "no base64").cls, ERR_ABSENT);
    be_dialect_oss.release(o);
}

static void encodes_metadata_names(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"md5-from", "md5-from"}, {"a_b", "a--5fb"},   {"a--b", "a--2d-b"},
        {"a-_b", "a---5fb"},      {"---", "--2d--2d-"}, {"a--5fb", "a--2d-5fb"},
        {"user.x", "user--2ex"},  {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(buf_fini) struct buf b = BUF_INIT;
        assert_int_equal(dialect_meta_name_encode(names[i][0], &b), 0);
        assert_string_equal(buf_str(&b), names[i][1]);
        CLEANUP(mem_freep) char *back = dialect_meta_name_decode(names[i][1]);
        assert_string_equal(back, names[i][0]);
    }
    /* not as we write them: shown as they are */
    static const char *const foreign[] = {"a--41", "a--b", "a--", "a--5F", "a--00", "--2d", "a--5"};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        CLEANUP(mem_freep) char *same = dialect_meta_name_decode(foreign[i]);
        assert_string_equal(same, foreign[i]);
    }
}

static void parses_what_is_special(void **state)
{
    (void)state;
    struct dialect_site *o = alibaba();
    CLEANUP(answer_fini) struct answer ans = {0};
    struct be_stat stat = {.op = {.key = "k"}};
    kv_set(&ans.headers, "content-length", "1");
    kv_set(&ans.headers, "etag", "\"5EB63BBBE01EEED093CB22BB8F5ACDC3\"");
    kv_set(&ans.headers, "x-oss-storage-class", "Standard");
    kv_set(&ans.headers, "x-oss-object-type", "Normal");
    kv_set(&ans.headers, "x-oss-hash-crc64ecma", "5981764153023615706");
    assert_int_equal(parse(o, BE_STAT, &stat.op, 200, "", 0, &ans), 0);
    assert_string_equal(stat.object.storage_class, "");
    assert_true(stat.object.etag_is_md5 && stat.object.has_crc64);
    assert_null(kv_get(&stat.meta, "storage-class"));
    kv_fini(&stat.meta);
    kv_set(&ans.headers, "x-oss-storage-class", "IA");
    kv_set(&ans.headers, "x-oss-object-type", "Appendable");
    assert_int_equal(parse(o, BE_STAT, &stat.op, 200, "", 0, &ans), 0);
    assert_string_equal(stat.object.storage_class, "IA");
    assert_false(stat.object.etag_is_md5);
    kv_fini(&stat.meta);

    kv_set(&ans.headers, "x-oss-meta-xattr-user--2ecolour", "blue");
    assert_int_equal(parse(o, BE_STAT, &stat.op, 200, "", 0, &ans), 0);
    assert_string_equal(kv_get(&stat.meta, "meta-xattr-user.colour"), "blue");
    kv_fini(&stat.meta);

    /* what is not among the removed was not removed */
    const char *keys[] = {"a", "b", "c"};
    struct be_many many = {.keys = keys, .n_keys = 3};
    assert_int_equal(parse(o, BE_REMOVE_MANY, &many.op, 200,
                           "<DeleteResult><Deleted><Key>a</Key></Deleted>"
                           "<Deleted><Key>b</Key></Deleted></DeleteResult>",
                           0, &ans),
                     0);
    assert_int_equal(ans.err.cls, ERR_NONE); /* of "b" */
    assert_int_equal(parse(o, BE_REMOVE_MANY, &many.op, 200,
                           "<DeleteResult><Deleted><Key>c</Key></Deleted></DeleteResult>", 0,
                           &ans),
                     0);
    assert_int_equal(ans.err.cls, ERR_TRANSIENT);
    be_dialect_oss.release(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        cmocka_unit_test(refuses_settings),
        cmocka_unit_test(copies_within_a_region),
        cmocka_unit_test(builds_what_is_special),
        cmocka_unit_test(signs),
        cmocka_unit_test(keys_a_provider_takes),
        cmocka_unit_test(classifies),
        cmocka_unit_test(encodes_metadata_names),
        cmocka_unit_test(parses_what_is_special),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
