/* The S3 and COS dialects, outwards: settings to sites, operations to requests. */
#include "dialect_sites.h"

/* --- sites */

static void places(void **state)
{
    (void)state;
    static const struct {
        const struct be_dialect *d;
        const char *bucket, *region, *endpoint;
        bool plain, path_style;
        const char *host, *base, *identity;
    } cases[] = {
        {&be_dialect_s3, "bkt", "eu-west-1", "", 0, 0, "bkt.s3.eu-west-1.amazonaws.com", "",
         "s3:aws:bkt"},
        {&be_dialect_s3, "bkt", "eu-west-1", "", 0, 1, "s3.eu-west-1.amazonaws.com", "/bkt",
         "s3:aws:bkt"},
        {&be_dialect_s3, "b.k.t", "eu-west-1", "", 0, 0, "s3.eu-west-1.amazonaws.com", "/b.k.t",
         "s3:aws:b.k.t"},
        {&be_dialect_s3, "bkt", "cn-north-1", "", 0, 0, "bkt.s3.cn-north-1.amazonaws.com.cn", "",
         "s3:aws-cn:bkt"},
        {&be_dialect_s3, "bkt", "", "https://s3.us-west-2.amazonaws.com/", 0, 0,
         "bkt.s3.us-west-2.amazonaws.com", "", "s3:aws:bkt"},
        {&be_dialect_s3, "bkt", "", "ceph.example.com:8443", 0, 0, "bkt.ceph.example.com:8443", "",
         "s3:ceph.example.com:8443/bkt"},
        {&be_dialect_s3, "bkt", "", "ceph.example.com:443", 0, 1, "ceph.example.com", "/bkt",
         "s3:ceph.example.com/bkt"},
        {&be_dialect_s3, "bkt", "cn-east-1", "s3.cn-east-1.qiniucs.com", 0, 0,
         "bkt.s3.cn-east-1.qiniucs.com", "", "s3:s3.cn-east-1.qiniucs.com/bkt"},
        {&be_dialect_s3, "bkt", "", "bkt.ceph.example.com", 0, 0, "bkt.ceph.example.com", "",
         "s3:ceph.example.com/bkt"},
        {&be_dialect_s3, "bkt", "", "http://127.0.0.1:9000", 1, 0, "127.0.0.1:9000", "/bkt",
         "s3:127.0.0.1:9000/bkt"},
        {&be_dialect_s3, "bkt", "", "http://[::1]:80", 1, 0, "[::1]", "/bkt", "s3:[::1]/bkt"},
        {&be_dialect_s3, "bkt", "", "LocalHost", 1, 0, "localhost", "/bkt", "s3:localhost/bkt"},
        {&be_dialect_cos, "bkt-1250000000", "ap-guangzhou", "", 0, 0,
         "bkt-1250000000.cos.ap-guangzhou.myqcloud.com", "", "cos:bkt-1250000000"},
        {&be_dialect_cos, "bkt-1250000000", "ap-guangzhou", "cos.accelerate.myqcloud.com", 0, 0,
         "bkt-1250000000.cos.accelerate.myqcloud.com", "", "cos:bkt-1250000000"},
        {&be_dialect_cos, "bkt-1250000000", "", "http://127.0.0.1:99", 1, 0, "127.0.0.1:99",
         "/bkt-1250000000", "cos:bkt-1250000000"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_remote c = conf(cases[i].bucket, cases[i].region, cases[i].endpoint);
        c.https = !cases[i].plain;
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
        const char *bucket, *region, *endpoint, *encryption, *says;
    } cases[] = {
        {&be_dialect_s3, "", "r", "", "", "bucket"},
        {&be_dialect_s3, "b/k", "r", "", "", "bucket"},
        {&be_dialect_s3, "b@evil", "r", "", "", "bucket"},
        {&be_dialect_s3, "bkt", "", "", "", "region"},
        {&be_dialect_s3, "bkt", "a.evil.com/", "", "", "region"},
        {&be_dialect_s3, "bkt", "r", "http://x.example.com", "", "https = off"},
        {&be_dialect_s3, "bkt", "r", "x.example.com/path", "", "endPoint"},
        {&be_dialect_s3, "bkt", "r", "user@x.example.com", "", "endPoint"},
        {&be_dialect_s3, "bkt", "r", "x.example.com:0", "", "port"},
        {&be_dialect_s3, "bkt", "r", "x.example.com:65536", "", "port"},
        {&be_dialect_s3, "bkt", "r", "", "rot13", "encryptionType"},
        {&be_dialect_cos, "bkt", "ap-guangzhou", "", "", "APPID"},
        {&be_dialect_cos, "bkt-x1", "ap-guangzhou", "", "", "APPID"},
        {&be_dialect_cos, "bkt-1250000000", "", "", "", "region"},
        {&be_dialect_cos, "bkt-1250000000", "ap-guangzhou", "", "aws:kms", "encryptionType"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_remote c = conf(cases[i].bucket, cases[i].region, cases[i].endpoint);
        struct dialect_site *s = NULL;
        struct errinfo err = {0};
        c.encryption = LIT(cases[i].encryption);
        assert_int_equal(configure(cases[i].d, c, &s, &err), -EINVAL);
        assert_null(s);
        assert_int_equal(err.cls, ERR_INVALID);
        assert_non_null(strstr(err.message, "[r]"));
        if (!strstr(err.message, cases[i].says)) {
            fail_msg("'%s' does not mention %s", err.message, cases[i].says);
        }
        assert_null(strstr(err.message, "SECRET"));
    }
    struct conf_remote c = conf("bkt", "", "x.aliyuncs.com");
    c.path_style = true;
    struct dialect_site *s = NULL;
    struct errinfo err = {0};
    assert_int_equal(configure(&be_dialect_s3, c, &s, &err), -EINVAL);
    assert_non_null(strstr(err.message, "pathStyle"));
}

static void capabilities_and_limits(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *p = ceph(), *c = tencent();
    assert_true(a->caps & BE_CAP_IF_MATCH && a->caps & BE_CAP_IF_ABSENT &&
                a->caps & BE_CAP_MP_ETAG_MD5S);
    assert_false(a->caps & BE_CAP_CRC64);
    assert_false(p->caps & (BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT));
    assert_true(p->caps & BE_CAP_PART_COPY && p->caps & BE_CAP_REMOVE_MANY);
    assert_true(c->caps & BE_CAP_CRC64);
    assert_false(c->caps & (BE_CAP_IF_MATCH | BE_CAP_MP_ETAG_MD5S));
    assert_int_equal(a->limits.max_key, 1024);
    assert_int_equal(c->limits.max_key, 850);
    assert_int_equal(c->limits.min_part, 1 << 20);
    struct conf_remote low = conf("bkt", "", "storage.googleapis.com");
    low.limits.max_put = 100;
    low.limits.max_copy = 200;
    low.limits.max_part = 300;
    low.limits.min_part = 10;
    struct dialect_site *g = site(&be_dialect_s3, low);
    assert_false(g->caps & (BE_CAP_PART_COPY | BE_CAP_REMOVE_MANY));
    assert_true(g->limits.max_put == 100 && g->limits.max_copy == 200 &&
                g->limits.max_part == 300 && g->limits.min_part == 10);
    be_dialect_s3.release(g);
    be_dialect_s3.release(a);
    be_dialect_s3.release(p);
    be_dialect_cos.release(c);
    be_dialect_s3.release(NULL);
}

static void copies_within_a_service_and_account(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *b = site(&be_dialect_s3, conf("other", "us-east-1", "")),
                        *p = ceph();
    struct conf_remote foreign_conf = conf("bkt", "us-east-1", "");
    foreign_conf.access_key_id = LIT("OTHER");
    struct dialect_site *foreign = site(&be_dialect_s3, foreign_conf);
    assert_true(be_dialect_s3.can_copy(a, b));
    assert_false(be_dialect_s3.can_copy(a, p));
    assert_false(be_dialect_s3.can_copy(a, foreign));
    be_dialect_s3.release(a);
    be_dialect_s3.release(b);
    be_dialect_s3.release(p);
    be_dialect_s3.release(foreign);
}

/* --- requests */

static void encodes_odd_keys(void **state)
{
    (void)state;
    static const struct {
        const char *key, *path;
    } cases[] = {
        {"plain", "/plain"},     {"a b", "/a%20b"},
        {"a+b", "/a%2Bb"},       {"50%", "/50%25"},
        {"%41", "/%2541"},       {"a//b", "/a//b"},
        {"/lead", "//lead"},     {"a/../b/./c", "/a/../b/./c"},
        {"?q#f", "/%3Fq%23f"},   {"\xe4\xb8\xad", "/%E4%B8%AD"},
        {"\x01\xff", "/%01%FF"}, {"!'()*~", "/%21%27%28%29%2A~"},
        {"d/", "/d/"},
    };
    struct dialect_site *c = tencent(), *p = ceph();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(dialect_request_fini) struct dialect_request r = {0};
        CLEANUP(buf_fini) struct buf path = BUF_INIT;
        struct be_stat o = {.op = {.key = cases[i].key}};
        BUILD(c, BE_STAT, &o, NULL, &r);
        assert_string_equal(r.method, "HEAD");
        assert_string_equal(buf_str(&r.path), cases[i].path);
        assert_header(&r, "host", c->host);
        BUILD(p, BE_STAT, &o, NULL, &r);
        assert_int_equal(buf_addf(&path, "/bkt%s", cases[i].path), 0);
        assert_string_equal(buf_str(&r.path), buf_str(&path));
    }
    be_dialect_cos.release(c);
    be_dialect_s3.release(p);
}

static void builds_reads(void **state)
{
    (void)state;
    struct dialect_site *a = aws();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    char buf[8];
    struct be_read o = {.op = {.key = "k"},
                        .offset = 10,
                        .len = 5,
                        .buf = buf,
                        .if_match = "e",
                        .version_id = "v1"};
    BUILD(a, BE_READ, &o, NULL, &r);
    assert_string_equal(r.method, "GET");
    assert_url(a, &r, "https://bkt.s3.eu-west-1.amazonaws.com/k?versionId=v1");
    assert_header(&r, "range", "bytes=10-14");
    assert_header(&r, "if-match", "\"e\"");
    o.len = 0;
    BUILD(a, BE_READ, &o, NULL, &r);
    assert_string_equal(r.method, "HEAD");
    assert_header(&r, "range", NULL);
    o.len = 5;
    o.offset = UINT64_MAX - 2;
    BUILD(a, BE_READ, &o, NULL, &r);
    assert_header(&r, "range", "bytes=18446744073709551613-18446744073709551615");
    be_dialect_s3.release(a);
}

static void builds_writes(void **state)
{
    (void)state;
    struct conf_remote conf_c = conf("bkt-1250000000", "ap-guangzhou", "");
    conf_c.storage_class = LIT("Standard_IA");
    conf_c.encryption = LIT("sse-cos");
    struct dialect_site *a = aws(), *c = site(&be_dialect_cos, conf_c);
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    CLEANUP(kv_fini) struct kvlist meta = {0};
    uint8_t md5[16] = {0};
    kv_set(&meta, "content-type", "text/plain");
    kv_set(&meta, "meta-mtime", "1.5");
    kv_set(&meta, "meta-x", "\xe4\xb8\xad");
    struct be_write o = {
        .op = {.key = "k"}, .data = "abc", .len = 3, .md5 = md5, .meta = &meta, .if_match = "e"};
    BUILD(a, BE_WRITE, &o, NULL, &r);
    assert_string_equal(r.method, "PUT");
    assert_ptr_equal(r.body, o.data);
    assert_int_equal(r.body_len, 3);
    assert_header(&r, "content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    assert_header(&r, "content-type", "text/plain");
    assert_header(&r, "x-amz-meta-mtime", "1.5");
    assert_header(&r, "x-amz-meta-x", "UTF-8''%E4%B8%AD");
    assert_header(&r, "if-match", "\"e\"");
    assert_header(&r, "x-amz-storage-class", NULL);
    o.if_match = NULL;
    o.if_absent = true;
    BUILD(a, BE_WRITE, &o, NULL, &r);
    assert_header(&r, "if-none-match", "*");
    o.if_absent = false;
    BUILD(c, BE_WRITE, &o, NULL, &r);
    assert_header(&r, "x-cos-meta-mtime", "1.5");
    assert_header(&r, "x-cos-storage-class", "STANDARD_IA");
    assert_header(&r, "x-cos-server-side-encryption", "AES256");
    kv_set(&meta, "storage-class", "STANDARD"); /* the object's own class wins */
    kv_set(&meta, "encryption", "cos/kms:key");
    BUILD(c, BE_WRITE, &o, NULL, &r);
    assert_header(&r, "x-cos-storage-class", NULL);
    assert_header(&r, "x-cos-server-side-encryption", "cos/kms");
    assert_header(&r, "x-cos-server-side-encryption-cos-kms-key-id", "key");

    static const struct {
        const char *name, *value;
    } bad[] = {{"meta-a b", "x"}, {"meta-\xe4", "x"}, {"content-type", "a\r\nx-evil: 1"},
               {"bogus", "x"},    {"meta-a\n", "x"},  {"encryption", "bogus"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(kv_fini) struct kvlist one = {0};
        struct errinfo err = {0};
        kv_set(&one, bad[i].name, bad[i].value);
        o.meta = &one;
        assert_int_equal(build(c, BE_WRITE, &o.op, NULL, &r, &err), -EINVAL);
        assert_int_equal(err.cls, ERR_INVALID);
    }
    CLEANUP(kv_fini) struct kvlist big = {0};
    char value[1000];
    struct errinfo err = {0};
    memset(value, 1, sizeof(value)); /* 3 bytes each, encoded */
    value[sizeof(value) - 1] = '\0';
    kv_set(&big, "meta-big", value);
    o.meta = &big;
    assert_int_equal(build(c, BE_WRITE, &o.op, NULL, &r, &err), -EINVAL);
    assert_non_null(strstr(err.message, "2048"));
    be_dialect_s3.release(a);
    be_dialect_cos.release(c);
}

/* Every byte alone and in a key, and what is a text only as a whole. */
static void keys_a_provider_takes(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *c = tencent();
    for (int byte = 1; byte < 256; byte++) {
        char key[] = {'a', '/', (char)byte, 'z', '\0'};
        bool text = byte < 0x80;
        bool control = byte >= 0x18 && byte <= 0x1b;
        assert_int_equal(be_dialect_s3.key_fault(a, key) == NULL, text);
        assert_int_equal(be_dialect_cos.key_fault(c, key) == NULL, text && !control);
    }
    static const char *const taken[] = {"a//b", "/lead", ".",     "..",  "x/../y", "dir/", "//",
                                        "한글", "🎈",    "%2F", "*", " ",      "\t\n", "\\"};
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        assert_null(be_dialect_s3.key_fault(a, taken[i]));
        assert_null(be_dialect_cos.key_fault(c, taken[i]));
    }
    static const char *const cut[] = {"\xed\x95", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
    for (size_t i = 0; i < ARRAY_LEN(cut); i++) {
        assert_non_null(strstr(be_dialect_s3.key_fault(a, cut[i]), "UTF-8"));
        assert_non_null(strstr(be_dialect_cos.key_fault(c, cut[i]), "UTF-8"));
    }
    be_dialect_s3.release(a);
    be_dialect_cos.release(c);
}

static void builds_lists(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *c = tencent();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    struct be_list o = {.prefix = "a b/", .delimiter = '/', .start_after = "a b/+"};
    BUILD(a, BE_LIST, &o, NULL, &r);
    assert_url(a, &r,
               "https://bkt.s3.eu-west-1.amazonaws.com/?list-type=2&encoding-type=url&max-keys=1000"
               "&prefix=a%20b%2F&delimiter=%2F&start-after=a%20b%2F%2B");
    o.start_after = NULL;
    o.cursor = "ttok/en=";
    o.max = 7;
    BUILD(a, BE_LIST, &o, NULL, &r);
    assert_string_equal(kv_get(&r.query, "continuation-token"), "tok/en=");
    assert_string_equal(kv_get(&r.query, "max-keys"), "7");
    o.max = 5000;
    o.cursor = "kname";
    BUILD(a, BE_LIST, &o, NULL, &r);
    assert_string_equal(kv_get(&r.query, "start-after"), "name");
    assert_string_equal(kv_get(&r.query, "max-keys"), "1000");
    BUILD(c, BE_LIST, &o, NULL, &r);
    assert_string_equal(kv_get(&r.query, "marker"), "name");
    assert_null(kv_get(&r.query, "list-type"));
    struct errinfo err = {0};
    o.cursor = "?";
    assert_int_equal(build(c, BE_LIST, &o.op, NULL, &r, &err), -EINVAL);
    be_dialect_s3.release(a);
    be_dialect_cos.release(c);
}

static void builds_copies(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *b = site(&be_dialect_s3, conf("src", "us-east-1", "")),
                        *c = tencent(), *p = ceph();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "meta-a", "1");
    struct be_copy o = {.op = {.key = "dst"},
                        .src_key = "a b/50%+\xe4",
                        .src_etag = "e",
                        .src_version_id = "v&1",
                        .meta = &meta};
    BUILD(a, BE_COPY, &o, b, &r);
    assert_string_equal(r.method, "PUT");
    assert_header(&r, "x-amz-copy-source", "/src/a%20b/50%25%2B%E4?versionId=v%261");
    assert_header(&r, "x-amz-metadata-directive", "REPLACE");
    assert_header(&r, "x-amz-copy-source-if-match", "\"e\"");
    assert_header(&r, "x-amz-copy-if-match", NULL);
    assert_header(&r, "x-amz-meta-a", "1");
    o.src_version_id = NULL;
    BUILD(c, BE_COPY, &o, c, &r);
    assert_header(&r, "x-cos-copy-source",
                  "bkt-1250000000.cos.ap-guangzhou.myqcloud.com/a%20b/50%25%2B%E4");
    assert_header(&r, "x-cos-metadata-directive", "Replaced");
    BUILD(p, BE_COPY, &o, p, &r);
    assert_header(&r, "x-amz-copy-if-match", "\"e\""); /* what Ceph looks at */

    struct be_part part = {.op = {.key = "dst"},
                           .upload_id = "u/1",
                           .number = 3,
                           .src = (struct be *)&o,
                           .src_key = "k",
                           .src_etag = "e",
                           .src_offset = 10,
                           .src_len = 5,
                           .src_size = 10u << 20};
    BUILD(a, BE_MP_PART, &part, b, &r);
    assert_url(a, &r, "https://bkt.s3.eu-west-1.amazonaws.com/dst?partNumber=3&uploadId=u%2F1");
    assert_header(&r, "x-amz-copy-source-range", "bytes=10-14");
    assert_null(r.body);
    part.src_offset = 0;
    part.src_len = part.src_size;
    BUILD(a, BE_MP_PART, &part, b, &r);
    assert_header(&r, "x-amz-copy-source-range", NULL);
    struct errinfo err = {0};
    part.src_size = 1000;
    part.src_len = 10;
    assert_int_equal(build(a, BE_MP_PART, &part.op, b, &r, &err), -EOPNOTSUPP);
    assert_int_equal(build(p, BE_MP_PART, &part.op, p, &r, &err), 0);
    part.src_key = "50%";
    assert_int_equal(build(p, BE_MP_PART, &part.op, p, &r, &err), -EOPNOTSUPP);
    assert_int_equal(err.cls, ERR_INVALID);
    assert_int_equal(build(c, BE_MP_PART, &part.op, c, &r, &err), 0);
    assert_int_equal(build(c, BE_MP_PART, &part.op, a, &r, &err), -EOPNOTSUPP);
    assert_int_equal(build(c, BE_MP_PART, &part.op, NULL, &r, &err), -EOPNOTSUPP);
    be_dialect_s3.release(a);
    be_dialect_s3.release(b);
    be_dialect_s3.release(p);
    be_dialect_cos.release(c);
}

static void builds_multipart_and_batches(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *p = ceph();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    struct be_part_id ids[] = {{1, 5, "e1"}, {3, 5, "e&3"}};
    struct be_commit m = {
        .op = {.key = "k"}, .upload_id = "u", .parts = ids, .n_parts = 2, .if_match = "x"};
    BUILD(a, BE_MP_COMMIT, &m, NULL, &r);
    assert_string_equal(r.method, "POST");
    assert_header(&r, "if-match", "\"x\"");
    assert_string_equal(
        r.body,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CompleteMultipartUpload><Part><PartNumber>1"
        "</PartNumber><ETag>&quot;e1&quot;</ETag></Part><Part><PartNumber>3</PartNumber>"
        "<ETag>&quot;e&amp;3&quot;</ETag></Part></CompleteMultipartUpload>");
    const char *const keys[] = {"a", "b<\n"};
    struct be_many many = {.keys = keys, .n_keys = 2};
    BUILD(a, BE_REMOVE_MANY, &many, NULL, &r);
    assert_url(a, &r, "https://bkt.s3.eu-west-1.amazonaws.com/?delete=");
    assert_non_null(kv_get(&r.headers, "content-md5"));
    assert_non_null(strstr(r.body, "<Key>b&lt;&#10;</Key>"));
    assert_true(a->dialect->can_batch(a, "a\tb"));
    assert_false(a->dialect->can_batch(a, "a\x01"));
    assert_false(a->dialect->can_batch(a, "a\xff"));
    struct be_mp mp = {.op = {.key = "k"}, .upload_id = LIT("u")};
    BUILD(a, BE_MP_BEGIN, &mp, NULL, &r);
    assert_url(a, &r, "https://bkt.s3.eu-west-1.amazonaws.com/k?uploads=");
    BUILD(a, BE_MP_ABORT, &mp, NULL, &r);
    assert_string_equal(r.method, "DELETE");
    struct be_uploads up = {.op = {.key = "k"}, .prefix = "ignored"};
    struct dialect_call call = {.kind = BE_MP_UPLOADS, .op = &up.op, .page = {"k/1", "id"}};
    struct errinfo err = {0};
    assert_int_equal(a->dialect->build(a, &call, &r, &err), 0);
    assert_url(a, &r,
               "https://bkt.s3.eu-west-1.amazonaws.com/"
               "?uploads=&encoding-type=url&max-uploads=1000&prefix=k"
               "&key-marker=k%2F1&upload-id-marker=id");
    assert_int_equal(p->dialect->build(p, &call, &r, &err), 0);
    assert_null(kv_get(&r.query, "encoding-type"));
    struct be_parts parts = {.op = {.key = "k"}, .upload_id = "u"};
    call = (struct dialect_call){.kind = BE_MP_PARTS, .op = &parts.op, .page = {"1000", NULL}};
    assert_int_equal(a->dialect->build(a, &call, &r, &err), 0);
    assert_url(a, &r,
               "https://bkt.s3.eu-west-1.amazonaws.com/"
               "k?uploadId=u&max-parts=1000&part-number-marker=1000");
    be_dialect_s3.release(a);
    be_dialect_s3.release(p);
}

static void builds_restores(void **state)
{
    (void)state;
    struct dialect_site *a = aws(), *c = tencent();
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    struct be_restore o = {.op = {.key = "k"}, .days = 7, .storage_class = "GLACIER"};
    BUILD(a, BE_RESTORE, &o, NULL, &r);
    assert_string_equal(r.method, "POST");
    assert_url(a, &r, "https://bkt.s3.eu-west-1.amazonaws.com/k?restore=");
    assert_string_equal(r.body, "<RestoreRequest><Days>7</Days></RestoreRequest>");
    assert_non_null(kv_get(&r.headers, "content-md5"));
    o.tier = "Bulk<";
    BUILD(a, BE_RESTORE, &o, NULL, &r);
    assert_string_equal(r.body, "<RestoreRequest><Days>7</Days><GlacierJobParameters><Tier>Bulk&lt;</Tier>"
                                "</GlacierJobParameters></RestoreRequest>");
    o.storage_class = "INTELLIGENT_TIERING"; /* brings back for good, and refuses days */
    o.tier = "Bulk";
    BUILD(c, BE_RESTORE, &o, NULL, &r);
    assert_string_equal(r.body, "<RestoreRequest><CASJobParameters><Tier>Bulk</Tier></CASJobParameters></RestoreRequest>");
    be_dialect_s3.release(a);
    be_dialect_cos.release(c);
}

static void signs_each_attempt_anew(void **state)
{
    (void)state;
    struct conf_remote v2_conf = conf("bkt", "us-east-1", "");
    v2_conf.signature = LIT("v2");
    v2_conf.security_token = secret_new("TOKEN");
    struct dialect_site *sites[] = {aws(), tencent(), site(&be_dialect_s3, v2_conf), ceph()};
    static const char *const starts[] = {"AWS4-HMAC-SHA256 Credential=AKID/",
                                         "q-sign-algorithm=sha1&q-ak=AKID&",
                                         "AWS AKID:", "AWS4-HMAC-SHA256 Credential=AKID/"};
    static const char *const hash[] = {
        "UNSIGNED-PAYLOAD", NULL, NULL,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"};
    for (size_t i = 0; i < ARRAY_LEN(sites); i++) {
        CLEANUP(dialect_request_fini) struct dialect_request r = {0};
        struct be_write o = {.op = {.key = "k"}, .data = "abc", .len = 3};
        struct errinfo err = {0};
        BUILD(sites[i], BE_WRITE, &o, NULL, &r);
        assert_int_equal(sites[i]->dialect->sign(sites[i], &r, 1700000000, &err), 0);
        CLEANUP(mem_freep) char *first = mem_strdup(kv_get(&r.headers, "authorization"));
        size_t n = r.headers.n;
        assert_int_equal(strncmp(first, starts[i], strlen(starts[i])), 0);
        assert_header(&r, "x-amz-content-sha256", hash[i]);
        assert_header(&r, "x-amz-security-token", i == 2 ? "TOKEN" : NULL);
        assert_int_equal(sites[i]->dialect->sign(sites[i], &r, 1700000000, &err), 0);
        assert_string_equal(kv_get(&r.headers, "authorization"), first);
        assert_int_equal(sites[i]->dialect->sign(sites[i], &r, 1700009999, &err), 0);
        assert_string_not_equal(kv_get(&r.headers, "authorization"), first);
        assert_int_equal(r.headers.n, n);
        assert_null(strstr(kv_get(&r.headers, "authorization"), "SECRET"));
        sites[i]->dialect->release(sites[i]);
    }
    secret_free(v2_conf.security_token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        cmocka_unit_test(refuses_settings),
        cmocka_unit_test(capabilities_and_limits),
        cmocka_unit_test(copies_within_a_service_and_account),
        cmocka_unit_test(encodes_odd_keys),
        cmocka_unit_test(builds_reads),
        cmocka_unit_test(builds_writes),
        cmocka_unit_test(keys_a_provider_takes),
        cmocka_unit_test(builds_lists),
        cmocka_unit_test(builds_copies),
        cmocka_unit_test(builds_multipart_and_batches),
        cmocka_unit_test(builds_restores),
        cmocka_unit_test(signs_each_attempt_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
