/* The S3 and COS dialects, inwards: answers to results and error classes; and the helpers. */
#include "dialect_sites.h"

static void classifies(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *code;
        enum err_class cls;
    } by_code[] = {
        {404, "NoSuchKey", ERR_ABSENT},
        {404, "NoSuchBucket", ERR_ABSENT},
        {404, "NoSuchUpload", ERR_ABSENT},
        {403, "AccessDenied", ERR_AUTH},
        {403, "SignatureDoesNotMatch", ERR_AUTH},
        {400, "ExpiredToken", ERR_AUTH},
        {403, "RequestTimeTooSkewed", ERR_SKEW},
        {503, "SlowDown", ERR_THROTTLED},
        {503, "ServiceUnavailable", ERR_THROTTLED},
        {429, "TooManyRequests", ERR_THROTTLED},
        {500, "InternalError", ERR_TRANSIENT},
        {400, "RequestTimeout", ERR_TRANSIENT},
        {409, "OperationAborted", ERR_TRANSIENT},
        {409, "Whatever", ERR_PRECOND},
        {412, "PreconditionFailed", ERR_PRECOND},
        {400, "BadDigest", ERR_INTEGRITY},
        {403, "QuotaExceeded", ERR_QUOTA},
        {403, "InvalidObjectState", ERR_ARCHIVED},
        {400, "InvalidArgument", ERR_INVALID},
        {400, "InvalidPart", ERR_INVALID},
        {501, "NotImplemented", ERR_INVALID},
        {405, "MethodNotAllowed", ERR_INVALID},
        {500, "NeverHeardOf", ERR_TRANSIENT},
    };
    static const struct {
        int status;
        enum err_class cls;
    } bare[] = {
        {304, ERR_PRECOND},   {401, ERR_AUTH},      {402, ERR_QUOTA},
        {403, ERR_AUTH},    {404, ERR_ABSENT},    {405, ERR_INVALID},   {408, ERR_TRANSIENT},
        {409, ERR_PRECOND}, {411, ERR_INVALID},   {412, ERR_PRECOND},   {413, ERR_INVALID},
        {416, ERR_INVALID}, {425, ERR_TRANSIENT}, {429, ERR_THROTTLED}, {500, ERR_TRANSIENT},
        {501, ERR_INVALID}, {502, ERR_TRANSIENT}, {503, ERR_THROTTLED}, {504, ERR_TRANSIENT},
        {507, ERR_QUOTA},   {599, ERR_TRANSIENT}, {301, ERR_INVALID},
    };
    struct dialect_site *s[] = {aws(), tencent()};
    for (size_t k = 0; k < ARRAY_LEN(s); k++) {
        for (size_t i = 0; i < ARRAY_LEN(by_code); i++) {
            CLEANUP(mem_freep)
            char *body = mem_printf(ERROR("%s", "<Message>m</Message><RequestId>id</RequestId>"),
                                    by_code[i].code);
            struct errinfo err = classify(s[k], by_code[i].status, body, "retry-after", "7");
            assert_int_equal(err.cls, by_code[i].cls);
            assert_string_equal(err.code, by_code[i].code);
            assert_string_equal(err.message, err.cls == ERR_ARCHIVED
                                                 ? "the object is archived: restore it first"
                                                 : "m");
            assert_string_equal(err.request_id, "id");
            assert_int_equal(err.retry_after_ms, 7000);
        }
        for (size_t i = 0; i < ARRAY_LEN(bare); i++) {
            assert_int_equal(classify(s[k], bare[i].status, "", NULL, NULL).cls, bare[i].cls);
            assert_int_equal(classify(s[k], bare[i].status, "<html>oops", "retry-after", "-1").cls,
                             bare[i].cls);
        }
    }
    be_dialect_s3.release(s[0]);
    be_dialect_cos.release(s[1]);
}

static void tells_what_a_restore_did(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *code; /* NULL: a success */
        enum be_restored state;
        enum err_class cls;
    } cases[] = {
        {202, NULL, BE_RESTORE_BEGUN, ERR_NONE},
        {200, NULL, BE_RESTORE_READABLE, ERR_NONE},
        {409, "RestoreAlreadyInProgress", BE_RESTORE_UNDER_WAY, ERR_NONE},
        {403, "InvalidObjectState", BE_RESTORE_READABLE, ERR_NONE},
        {400, "OperationNotSupported", BE_RESTORE_READABLE, ERR_NONE},
        {403, "AccessDenied", BE_RESTORE_BEGUN, ERR_AUTH},
        {503, "GlacierExpeditedRetrievalNotAvailable", BE_RESTORE_BEGUN, ERR_THROTTLED},
        {404, "NoSuchKey", BE_RESTORE_BEGUN, ERR_ABSENT},
    };
    struct dialect_site *a = aws();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(mem_freep) char *body = mem_printf("<Error><Code>%s</Code></Error>", cases[i].code ? cases[i].code : "");
        CLEANUP(answer_fini) struct answer ans = {0};
        struct be_restore o = {.op = {.key = "k"}, .days = 1, .storage_class = ""};
        struct dialect_call call = {.kind = BE_RESTORE, .op = &o.op};
        struct dialect_answer answer = {
            .http_status = cases[i].status, .headers = &ans.headers, .body = body, .body_len = strlen(body)};
        struct errinfo err = {0};
        if (cases[i].code) {
            a->dialect->classify(a, &call, &answer, &err);
            assert_int_equal(err.cls, cases[i].cls);
        }
        if (err.cls == ERR_NONE) {
            assert_int_equal(a->dialect->parse(a, &call, &answer, NULL, &err), 0);
            assert_int_equal(o.state, cases[i].state);
        }
    }
    be_dialect_s3.release(a);
}

static void explains_regions_and_clocks(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *c = tencent();
    struct errinfo e = classify(
        a, 400, ERROR("AuthorizationHeaderMalformed", "<Region>us-west-2</Region>"), NULL, NULL);
    assert_non_null(strstr(e.message, "region = us-west-2"));
    e = classify(a, 301, ERROR("PermanentRedirect", "<Endpoint>b.s3-ap.amazonaws.com</Endpoint>"),
                 NULL, NULL);
    assert_non_null(strstr(e.message, "b.s3-ap.amazonaws.com"));
    e = classify(a, 301, "", "x-amz-bucket-region", "eu-north-1");
    assert_non_null(strstr(e.message, "eu-north-1"));
    e = classify(a, 400, "", "x-amz-bucket-region", "eu-north-1");
    assert_non_null(strstr(e.message, "region = eu-north-1"));
    /* a HEAD has no body to name an expired token */
    assert_int_equal(classify(a, 400, "", NULL, NULL).cls, ERR_AUTH);
    assert_int_equal(classify(c, 400, "", NULL, NULL).cls, ERR_AUTH);
    assert_int_equal(classify(a, 400, "<html>oops", NULL, NULL).cls, ERR_INVALID);
    /* nor the clock */
    assert_int_equal(classify(a, 403, "", "date", "Tue, 14 Nov 2023 22:13:30 GMT").cls, ERR_AUTH);
    assert_int_equal(classify(a, 403, "", "date", "Tue, 14 Nov 2023 22:33:20 GMT").cls, ERR_SKEW);
    assert_int_equal(classify(a, 403, "", "date", "Tue, 14 Nov 2023 21:33:20 GMT").cls, ERR_SKEW);
    assert_int_equal(classify(a, 403, "", "date", "garbage").cls, ERR_AUTH);
    assert_int_equal(classify(c, 403,
                              ERROR("AccessDenied", "<Message>Request has expired</Message>"), NULL,
                              NULL)
                         .cls,
                     ERR_SKEW);
    e = classify(c, 403, ERROR("Bad\nCode", "<Message>two\nlines\x7f</Message>"), NULL, NULL);
    assert_string_equal(e.code, "Bad Code");
    assert_string_equal(e.message, "two lines ");
    be_dialect_s3.release(a);
    be_dialect_cos.release(c);
}

#define MD5 "0123456789abcdef0123456789abcdef"

static void parses_stats(void **state)
{
    (void)state;
    struct dialect_site *c = tencent(), *a = aws();
    CLEANUP(answer_fini) struct answer ans = {0};
    struct be_stat o = {.op = {.key = "k"}};
    assert_int_equal(parse(c, BE_STAT, &o.op, 200, "", 0, &ans),
                     -EIO); /* without a length there is no size */
    kv_set(&ans.headers, "Content-Length", "123456789012");
    kv_set(&ans.headers, "ETag", "\"" MD5 "\"");
    kv_set(&ans.headers, "Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT");
    kv_set(&ans.headers, "x-cos-hash-crc64ecma", "18446744073709551615");
    kv_set(&ans.headers, "x-cos-version-id", "null");
    kv_set(&ans.headers, "x-cos-storage-class", "ARCHIVE");
    kv_set(&ans.headers, "x-cos-meta-Name", "UTF-8''%E4%B8%AD");
    kv_set(&ans.headers, "x-cos-meta-other",
           "UTF-8''%e4%b8%ad"); /* not as we write it: shown as it is */
    kv_set(&ans.headers, "x-amz-meta-no", "x");
    kv_set(&ans.headers, "Content-Type", "text/plain");
    assert_int_equal(parse(c, BE_STAT, &o.op, 200, "", 0, &ans), 0);
    assert_true(o.object.size == UINT64_C(123456789012));
    assert_string_equal(o.object.etag, MD5);
    assert_true(o.object.etag_is_md5 && o.object.has_crc64 && o.object.crc64 == UINT64_MAX);
    assert_true(o.object.mtime_ns == INT64_C(1700000000000000000));
    assert_string_equal(o.object.version_id, "");
    assert_string_equal(o.object.storage_class, "ARCHIVE");
    assert_string_equal(kv_get(&o.meta, "meta-name"), "\xe4\xb8\xad");
    assert_string_equal(kv_get(&o.meta, "meta-other"), "UTF-8''%e4%b8%ad");
    assert_string_equal(kv_get(&o.meta, "content-type"), "text/plain");
    assert_null(kv_get(&o.meta, "meta-no"));
    kv_fini(&o.meta);

    static const char *const not_md5[][2] = {
        {"x-amz-server-side-encryption", "aws:kms"},
        {"x-amz-server-side-encryption-customer-algorithm", "AES256"},
        {"etag", "\"" MD5 "-3\""},
        {"etag", "\"W\""}};
    for (size_t i = 0; i < ARRAY_LEN(not_md5); i++) {
        CLEANUP(answer_fini) struct answer x = {0};
        kv_set(&x.headers, "etag", "\"" MD5 "\"");
        kv_set(&x.headers, "content-length", "1");
        kv_set(&x.headers, not_md5[i][0], not_md5[i][1]);
        assert_int_equal(parse(a, BE_STAT, &o.op, 200, "", 0, &x), 0);
        assert_false(o.object.etag_is_md5);
        kv_fini(&o.meta);
    }
    be_dialect_cos.release(c);
    be_dialect_s3.release(a);
}

/* What a refused answer said must not be left for the answer to the next try. */
static void refused_answers_leave_nothing(void **state)
{
    (void)state;
    struct dialect_site *c = tencent();
    CLEANUP(answer_fini) struct answer ans = {0};
    struct be_stat st = {.op = {.key = "k"}};
    struct be_part part = {.op = {.key = "k"}, .len = 5};
    kv_set(&ans.headers, "content-length", "5");
    kv_set(&ans.headers, "last-modified", "Tue, 14 Nov 2023 22:13:20 GMT");
    kv_set(&ans.headers, "x-cos-meta-a", "of this answer");
    assert_int_equal(parse(c, BE_STAT, &st.op, 200, "", 0, &ans), -EIO);
    assert_true(st.meta.n == 0 && st.object.size == 0 && st.object.mtime_ns == 0);
    assert_int_equal(parse(c, BE_MP_PART, &part.op, 200, "", 0, &ans), -EIO);
    assert_true(part.object.size == 0 && part.object.mtime_ns == 0);
    be_dialect_cos.release(c);
}

static void checks_reads(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *range;
        uint64_t offset, len, got;
        int rc;
        enum err_class cls;
    } cases[] = {
        {206, "bytes 10-14/100", 10, 5, 5, 0, ERR_NONE},
        {206, "bytes 95-99/100", 95, 10, 5, 0, ERR_NONE},
        {206, "bytes 10-13/100", 10, 5, 4, -EIO, ERR_INTEGRITY}, /* short, not at the end */
        {206, "bytes 10-14/100", 10, 5, 4, -EIO, ERR_INTEGRITY}, /* says more than it sends */
        {206, "bytes 11-15/100", 10, 5, 5, -EIO, ERR_INTEGRITY}, /* another place */
        {206, "bytes 10-14/*", 10, 5, 5, -EIO, ERR_TRANSIENT},
        {206, "bytes 10-14/12", 10, 5, 5, -EIO, ERR_TRANSIENT},
        {206, "", 10, 5, 5, -EIO, ERR_TRANSIENT},
        {206, "bytes */100", 10, 5, 5, -EIO, ERR_TRANSIENT},
        {200, "", 0, 5, 3, 0, ERR_NONE}, /* the whole of a short object */
        {200, "", 10, 5, 5, -EIO, ERR_INVALID},
    };
    struct dialect_site *a = aws();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(answer_fini) struct answer ans = {0};
        char buf[16];
        struct be_read o = {
            .op = {.key = "k"}, .offset = cases[i].offset, .len = cases[i].len, .buf = buf};
        kv_set(&ans.headers, "content-range", cases[i].range);
        kv_set(&ans.headers, "etag", "\"e\"");
        int rc = parse(a, BE_READ, &o.op, cases[i].status, "", cases[i].got, &ans);
        assert_int_equal(rc, cases[i].rc);
        assert_int_equal(ans.err.cls, cases[i].cls);
        if (rc == 0) {
            assert_int_equal(o.got, cases[i].got);
            assert_int_equal(o.object.size, cases[i].status == 206 ? 100 : 3);
        }
        kv_fini(&o.meta);
    }
    be_dialect_s3.release(a);
}

static void sees_failures_in_successes(void **state)
{
    (void)state;
    struct dialect_site *c = tencent();
    struct be_part_id ids[] = {{1, 5, "e"}, {2, 6, "f"}};
    struct be_commit m = {.op = {.key = "k"}, .parts = ids, .n_parts = 2};
    struct be_copy cp = {.op = {.key = "k"}, .size = 9};
    struct be_mp begin = {.op = {.key = "k"}};
    static const struct {
        const char *body;
        enum err_class cls;
    } bad[] = {
        {ERROR("InternalError", ""), ERR_TRANSIENT},
        {"\n \n" ERROR("SlowDown", ""), ERR_THROTTLED},
        {ERROR("NoSuchUpload", ""), ERR_ABSENT},
        {ERROR("InvalidPart", ""), ERR_INVALID},
        {ERROR("Unheard", ""), ERR_TRANSIENT},
        {"", ERR_TRANSIENT},
        {"   ", ERR_TRANSIENT},
        {"<CompleteMultipartUploadResult><ETag>", ERR_TRANSIENT},
        {"<Other/>", ERR_TRANSIENT},
        {"<CopyObjectResult></CopyObjectResult", ERR_TRANSIENT},
        {"garbage", ERR_TRANSIENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(answer_fini) struct answer ans = {0};
        assert_true(parse(c, BE_MP_COMMIT, &m.op, 200, bad[i].body, 0, &ans) < 0);
        assert_int_equal(ans.err.cls, bad[i].cls);
        assert_int_equal(ans.err.http_status, 200);
        ans.err = (struct errinfo){0};
        assert_true(parse(c, BE_COPY, &cp.op, 200, bad[i].body, 0, &ans) < 0);
        assert_int_equal(ans.err.cls, bad[i].cls);
        ans.err = (struct errinfo){0};
        assert_true(parse(c, BE_MP_BEGIN, &begin.op, 200, bad[i].body, 0, &ans) < 0);
        assert_null(begin.upload_id);
    }
    CLEANUP(answer_fini) struct answer ans = {0};
    kv_set(&ans.headers, "x-cos-hash-crc64ecma", "42");
    assert_int_equal(parse(c, BE_MP_COMMIT, &m.op, 200,
                           "\n\n<CompleteMultipartUploadResult><ETag>\"x-2\"</ETag></"
                           "CompleteMultipartUploadResult>",
                           0, &ans),
                     0);
    assert_string_equal(m.object.etag, "x-2");
    assert_true(m.object.has_crc64 && m.object.crc64 == 42 && m.object.size == 11);
    assert_int_equal(
        parse(c, BE_MP_COMMIT, &m.op, 200,
              "<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>", 0,
              &ans),
        0);
    assert_string_equal(m.object.etag, ""); /* Ceph */
    assert_int_equal(parse(c, BE_COPY, &cp.op, 200,
                           "<CopyObjectResult><ETag>\"" MD5
                           "\"</ETag><LastModified>2023-11-14T22:13:20Z</LastModified>"
                           "<CRC64>7</CRC64></CopyObjectResult>",
                           0, &ans),
                     0);
    assert_true(cp.object.etag_is_md5 && cp.object.size == 9 &&
                cp.object.mtime_ns == INT64_C(1700000000000000000));
    assert_int_equal(parse(c, BE_MP_BEGIN, &begin.op, 200,
                           "<InitiateMultipartUploadResult><UploadId>u1</UploadId></"
                           "InitiateMultipartUploadResult>",
                           0, &ans),
                     0);
    assert_string_equal(begin.upload_id, "u1");
    free(begin.upload_id);
    be_dialect_cos.release(c);
}

static void tells_each_removal(void **state)
{
    (void)state;
    struct dialect_site *c = tencent();
    const char *const keys[] = {"a", "b", "c"};
    struct be_many o = {.keys = keys, .n_keys = 3};
    CLEANUP(answer_fini) struct answer ans = {0};
    assert_int_equal(parse(c, BE_REMOVE_MANY, &o.op, 200,
                           "<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code><Message>no</"
                           "Message></Error></DeleteResult>",
                           0, &ans),
                     0);
    assert_int_equal(ans.err.cls, ERR_AUTH);
    assert_string_equal(ans.err.message, "no");
    assert_int_equal(
        parse(c, BE_REMOVE_MANY, &o.op, 200,
              "<DeleteResult><Error><Key>b</Key><Code>NoSuchKey</Code></Error></DeleteResult>", 0,
              &ans),
        0);
    assert_int_equal(ans.err.cls, ERR_NONE);
    assert_true(
        parse(c, BE_REMOVE_MANY, &o.op, 200,
              "<DeleteResult><Error><Key>z</Key><Code>AccessDenied</Code></Error></DeleteResult>",
              0, &ans) < 0);
    assert_true(parse(c, BE_REMOVE_MANY, &o.op, 200, "<DeleteResult>", 0, &ans) < 0);
    be_dialect_cos.release(c);
}

static void keeps_only_the_uploads_of_the_key(void **state)
{
    (void)state;
    struct dialect_site *c = tencent();
    CLEANUP(answer_fini) struct answer ans = {0};
    struct be_uploads o = {.op = {.key = "a"}};
    assert_int_equal(
        parse(c, BE_MP_UPLOADS, &o.op, 200,
              "<ListMultipartUploadsResult><Upload><Key>a</Key><UploadId>1</UploadId></Upload>"
              "<Upload><Key>ab</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>",
              0, &ans),
        0);
    assert_int_equal(ans.page.n_uploads, 1);
    assert_string_equal(ans.page.uploads[0].upload_id, "1");
    be_dialect_cos.release(c);
}

/* --- helpers */

static void metadata_values_survive(void **state)
{
    (void)state;
    static const char *const values[] = {"plain",
                                         "two words",
                                         " lead",
                                         "trail ",
                                         "",
                                         "\t",
                                         "a\r\nb",
                                         "\xff\xfe",
                                         "\xe4\xb8\xad",
                                         "UTF-8''",
                                         "UTF-8''%41",
                                         "utf-8''x",
                                         "UTF-8''%E4%B8%AD",
                                         "100%",
                                         "~!@#"};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        CLEANUP(buf_fini) struct buf sent = BUF_INIT;
        assert_int_equal(dialect_meta_encode(values[i], &sent), 0);
        for (size_t k = 0; k < sent.len; k++) {
            assert_true(sent.data[k] >= ' ' && sent.data[k] <= '~');
        }
        CLEANUP(mem_freep) char *back = dialect_meta_decode(buf_str(&sent));
        assert_string_equal(back, values[i]);
    }
    static const char *const foreign[] = {"UTF-8''%41", "UTF-8''%e4",      "UTF-8''%",
                                          "UTF-8''%00", "=?UTF-8?Q?=E4?=", "UTF-8''a b"};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        CLEANUP(mem_freep) char *shown = dialect_meta_decode(foreign[i]);
        assert_string_equal(shown, foreign[i]);
    }
}

static void dates_and_ranges(void **state)
{
    (void)state;
    assert_true(dialect_http_date("Tue, 14 Nov 2023 22:13:20 GMT") == INT64_C(1700000000000000000));
    assert_true(dialect_http_date("Thu, 29 Feb 2024 00:00:00 GMT") == INT64_C(1709164800000000000));
    static const char *const bad_dates[] = {"",
                                            "Tue, 14 Nov 2023 22:13:20",
                                            "Tue, 14 Nob 2023 22:13:20 GMT",
                                            "Tue, 99 Nov 2023 22:13:20 GMT",
                                            "Tue, 14 Nov 2023 22:13:20 GMT x",
                                            "1700000000",
                                            "Tue, 14 anF 2023 22:13:20 GMT"};
    for (size_t i = 0; i < ARRAY_LEN(bad_dates); i++) {
        assert_true(dialect_http_date(bad_dates[i]) == 0);
    }
    assert_true(dialect_http_date(NULL) == 0 && dialect_iso_date(NULL) == 0);
    assert_true(dialect_iso_date("2023-11-14T22:13:20Z") == INT64_C(1700000000000000000));
    assert_true(dialect_iso_date("2023-11-14T22:13:20.123456789Z") == INT64_C(1700000000123456789));
    assert_true(dialect_iso_date("2023-11-14T22:13:20.1234567891234Z") ==
                INT64_C(1700000000123456789));
    assert_true(dialect_iso_date("2023-11-14 22:13:20") == 0 &&
                dialect_iso_date("2023-13-14T22:13:20Z") == 0);
    uint64_t a, b, t;
    assert_true(dialect_content_range("bytes 0-0/1", &a, &b, &t) && a == 0 && b == 0 && t == 1);
    assert_true(dialect_content_range("bytes */77", &a, &b, &t) && a > b && t == 77);
    static const char *const bad_ranges[] = {"",
                                             "bytes",
                                             "bytes 0-1",
                                             "bytes 1-0/5",
                                             "bytes 0-5/5",
                                             "bytes a-b/5",
                                             "items 0-1/5",
                                             "bytes 0-1/5x",
                                             "bytes -1/5",
                                             "bytes 0-99999999999999999999999/5"};
    for (size_t i = 0; i < ARRAY_LEN(bad_ranges); i++) {
        assert_false(dialect_content_range(bad_ranges[i], &a, &b, &t));
    }
    char etag[BE_ETAG_MAX], longest[BE_ETAG_MAX + 1];
    memset(longest, 'e', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_false(dialect_etag(longest, etag));
    longest[sizeof(longest) - 2] = '\0';
    assert_true(dialect_etag(longest, etag));
    assert_true(dialect_etag("\"a\"", etag) && strcmp(etag, "a") == 0);
    assert_true(dialect_etag("", etag) && etag[0] == '\0');
    assert_false(dialect_etag("a b", etag) || dialect_etag("\"", etag) ||
                 dialect_etag("\xe4", etag) || dialect_etag(NULL, etag));
    assert_int_equal(dialect_retry_after("120"), 120000);
    assert_int_equal(dialect_retry_after("99999999999"), 3600000);
    assert_int_equal(dialect_retry_after("Tue, 14 Nov 2023 22:13:20 GMT"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classifies),
        cmocka_unit_test(tells_what_a_restore_did),
        cmocka_unit_test(explains_regions_and_clocks),
        cmocka_unit_test(parses_stats),
        cmocka_unit_test(refused_answers_leave_nothing),
        cmocka_unit_test(checks_reads),
        cmocka_unit_test(sees_failures_in_successes),
        cmocka_unit_test(tells_each_removal),
        cmocka_unit_test(keeps_only_the_uploads_of_the_key),
        cmocka_unit_test(metadata_values_survive),
        cmocka_unit_test(dates_and_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
