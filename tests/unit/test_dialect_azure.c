/* The Azure dialect: settings, names, requests with their signatures, copies by steps, answers. */
#include "dialect_sites.h"

#include "dialect_azure.h"
#include "digest.h"

#define ACCOUNT_KEY "c2VjcmV0IG9mIHRoZSB0ZXN0" /* "secret of the test" */
#define UPLOAD "65535f00a1b2c3d4e5f6"
#define MD5_A "0cc175b9c0f1b6a831c399e269772661"
#define SAS "?sv=2022-11-02&se=2030-01-01T00%3A00%3A00Z&sp=rwl&sig=a%2Bb%3D"
#define NOW 1700000000

static struct conf_remote azure_conf(const char *endpoint, const char *secret, const char *sas)
{
    struct conf_remote c = conf("box", "", endpoint);
    c.access_key_id = LIT("account");
    c.https = strncmp(endpoint, "http://", 7) != 0;
    c.access_key_secret = secret ? secret_new(secret) : NULL;
    c.security_token = sas ? secret_new(sas) : NULL;
    return c;
}

static int make(struct conf_remote c, struct dialect_site **ret, struct errinfo *err)
{
    int rc = be_dialect_azure.configure(&c, ret, err);
    secret_free(c.access_key_secret);
    secret_free(c.security_token);
    kv_fini(&c.defaults);
    return rc;
}

static struct dialect_site *made(struct conf_remote c)
{
    struct dialect_site *s = NULL;
    struct errinfo err = {0};
    if (make(c, &s, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return s;
}

static struct dialect_site *with_key(void)
{
    return made(azure_conf("", ACCOUNT_KEY, NULL));
}

/* --- settings */

static void places(void **state)
{
    (void)state;
    static const struct {
        const char *endpoint, *host, *base, *identity;
        bool part_copy;
    } cases[] = {
        {"", "account.blob.core.windows.net", "/box", "azure:account.blob.core.windows.net/box", 1},
        {"https://account.blob.core.chinacloudapi.cn/", "account.blob.core.chinacloudapi.cn", "/box",
         "azure:account.blob.core.chinacloudapi.cn/box", 1},
        {"http://127.0.0.1:10000/devstoreaccount1", "127.0.0.1:10000", "/devstoreaccount1/box",
         "azure:127.0.0.1:10000/devstoreaccount1/box", 0},
        {"http://127.0.0.1:10000", "127.0.0.1:10000", "/account/box",
         "azure:127.0.0.1:10000/account/box", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dialect_site *s = made(azure_conf(cases[i].endpoint, ACCOUNT_KEY, NULL));
        assert_string_equal(s->host, cases[i].host);
        assert_string_equal(s->base, cases[i].base);
        assert_string_equal(s->identity, cases[i].identity);
        assert_int_equal((s->caps & BE_CAP_PART_COPY) != 0, cases[i].part_copy);
        be_dialect_azure.release(s);
    }
    struct conf_remote c = azure_conf("http://127.0.0.1:1", ACCOUNT_KEY, NULL);
    kv_set(&c.defaults, "partCopy", "on");
    struct dialect_site *s = made(c);
    assert_true(s->caps & BE_CAP_PART_COPY);
    be_dialect_azure.release(s);
}

static void refuses_settings(void **state)
{
    (void)state;
    static const struct {
        const char *bucket, *account, *secret, *tier, *encryption, *endpoint, *says;
    } cases[] = {
        {"Box", "account", ACCOUNT_KEY, "", "", "", "bucket"},
        {"b", "account", ACCOUNT_KEY, "", "", "", "bucket"},
        {"box", "Account!", ACCOUNT_KEY, "", "", "", "accessKeyId"},
        {"box", "account", "not base64", "", "", "", "accessKeyId or securityToken|accessKeySecret"},
        {"box", "account", "bm90Cg", "", "", "", "accessKeySecret"},
        {"box", "account", ACCOUNT_KEY, "GLACIER", "", "", "storageClass"},
        {"box", "account", ACCOUNT_KEY, "", "rot13", "", "encryptionType"},
        {"box", "account", ACCOUNT_KEY, "", "", "https://host/a b", "endPoint"},
        {"box", "account", "", "", "", "", "accessKeySecret"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf_remote c = azure_conf(cases[i].endpoint, cases[i].secret, NULL);
        c.bucket = LIT(cases[i].bucket);
        c.access_key_id = LIT(cases[i].account);
        c.storage_class = LIT(cases[i].tier);
        c.encryption = LIT(cases[i].encryption);
        struct dialect_site *s = NULL;
        struct errinfo err = {0};
        assert_int_equal(make(c, &s, &err), -EINVAL);
        assert_null(s);
        const char *bar = strchr(cases[i].says, '|');
        if (!strstr(err.message, bar ? bar + 1 : cases[i].says) ||
            strncmp(err.message, "[r] ", 4) != 0 ||
            (cases[i].secret[0] != '\0' && strstr(err.message, cases[i].secret))) {
            fail_msg("case %zu: %s", i, err.message);
        }
    }
}

/* --- names */

static void keys(void **state)
{
    (void)state;
    struct dialect_site *s = with_key();
    static const char *const good[] = {"a", "a//b", "/a", "dir/", ".hidden", "a.b/c..d", "\xed\x95\x9c",
                                       "%2F +&?#"};
    static const char *const bad[] = {"a\\b", "a.", "a./b", ".", "a/..", "a\nb", "a\x7f", "\xff"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_null(be_dialect_azure.key_fault(s, good[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_non_null(be_dialect_azure.key_fault(s, bad[i]));
    }
    /* characters, not bytes; four bytes of UTF-8 are two of UTF-16 */
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    for (size_t i = 0; i < 1024; i++) {
        assert_int_equal(buf_adds(&b, "\xed\x95\x9c"), 0);
    }
    assert_null(be_dialect_azure.key_fault(s, buf_str(&b)));
    assert_int_equal(buf_adds(&b, "x"), 0);
    assert_non_null(be_dialect_azure.key_fault(s, buf_str(&b)));
    buf_clear(&b);
    for (size_t i = 0; i < 513; i++) {
        assert_int_equal(buf_adds(&b, "\xf0\x9f\x8e\x88"), 0);
    }
    assert_non_null(be_dialect_azure.key_fault(s, buf_str(&b)));
    buf_clear(&b);
    for (size_t i = 0; i < 253; i++) {
        assert_int_equal(buf_adds(&b, "a/"), 0);
    }
    assert_null(be_dialect_azure.key_fault(s, buf_str(&b)));
    assert_int_equal(buf_adds(&b, "a/"), 0);
    assert_non_null(be_dialect_azure.key_fault(s, buf_str(&b)));
    be_dialect_azure.release(s);
}

static void metadata_names(void **state)
{
    (void)state;
    static const char *const both[][2] = {
        {"md5", "md5"},           {"md5-from", "md5_2dfrom"}, {"a_b", "a_b"},
        {"a_2d", "a_5f2d"},       {"a_2g", "a_2g"},           {"9lives", "_39lives"},
        {"a.b", "a_2eb"},         {"x__y", "x__y"},           {"_", "_"},
        {"_expires", "_5fexpires"}, {"_-", "__2d"},           {"expires", "expires"},
    };
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        CLEANUP(buf_fini) struct buf b = BUF_INIT;
        assert_int_equal(azure_name_encode(both[i][0], &b), 0);
        assert_string_equal(buf_str(&b), both[i][1]);
        CLEANUP(mem_freep) char *back = azure_name_decode(both[i][1]);
        assert_string_equal(back, both[i][0]);
    }
    /* what somebody else wrote is shown as it is, in lower case */
    static const char *const foreign[][2] = {
        {"Name_X", "name_x"}, {"_61", "_61"}, {"a_5fb", "a_5fb"}, {"a_00", "a_00"}, {"a_", "a_"}};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        CLEANUP(mem_freep) char *back = azure_name_decode(foreign[i][0]);
        assert_string_equal(back, foreign[i][1]);
    }
}

static void block_ids(void **state)
{
    (void)state;
    char id[AZURE_BLOCK_LEN + 1], text[BASE64_LEN(AZURE_BLOCK_LEN) + 1], upload[AZURE_UPLOAD_LEN + 1];
    struct be_part_id part = {0};
    assert_true(azure_block_id(UPLOAD, 50000, MD5_A, id));
    assert_string_equal(id, "objmig-" UPLOAD "50000" MD5_A);
    assert_int_equal(strlen(id), AZURE_BLOCK_LEN);
    base64_encode(id, AZURE_BLOCK_LEN, text);
    assert_true(azure_block_parse(text, upload, &part));
    assert_string_equal(upload, UPLOAD);
    assert_string_equal(part.etag, MD5_A);
    assert_int_equal(part.number, 50000);
    assert_false(azure_block_id("short", 1, MD5_A, id));
    assert_false(azure_block_id(UPLOAD, 1, "short", id));
    assert_false(azure_block_parse("YWFh", upload, &part));
    static const char *const foreign[] = {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                                          "objmig-" UPLOAD "00000" MD5_A, "objmig-" UPLOAD "1 000" MD5_A};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        base64_encode(foreign[i], AZURE_BLOCK_LEN, text);
        assert_false(azure_block_parse(text, upload, &part));
    }
}

static void uploads_begin_without_a_request(void **state)
{
    (void)state;
    struct dialect_site *s = with_key();
    struct be_mp mp = {.op = {.key = "k"}};
    struct dialect_call call = {.kind = BE_MP_BEGIN,
                                .op = &mp.op,
                                .random = 0xa1b2c3d4e5f6ffffu,
                                .begun_s = 0x65535f00};
    assert_int_equal(be_dialect_azure.local(s, &call, NULL), 1);
    assert_string_equal(mp.upload_id, UPLOAD);
    call.kind = BE_MP_ABORT;
    assert_int_equal(be_dialect_azure.local(s, &call, NULL), 1);
    call.kind = BE_MP_PARTS;
    assert_int_equal(be_dialect_azure.local(s, &call, NULL), 0);
    free(mp.upload_id);
    be_dialect_azure.release(s);
}

/* --- requests */

static struct dialect_request built(const struct dialect_site *s, const struct dialect_call *call)
{
    struct dialect_request r = {0};
    struct errinfo err = {0};
    call->op->kind = call->kind;
    if (s->dialect->build(s, call, &r, &err) != 0 || s->dialect->sign(s, &r, NOW, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return r;
}

static void has(const struct dialect_request *r, const char *name, const char *value)
{
    const char *v = kv_get(&r->headers, name);
    if (!v || strcmp(v, value) != 0) {
        fail_msg("%s is '%s', not '%s'", name, v ? v : "(nothing)", value);
    }
}

static void writes(void **state)
{
    (void)state;
    struct conf_remote c = azure_conf("", ACCOUNT_KEY, NULL);
    c.storage_class = LIT("cool");
    c.encryption = LIT("scope:mine");
    struct dialect_site *s = made(c);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "content-type", "text/x");
    kv_set(&meta, "content-encoding", "gzip");
    kv_set(&meta, "expires", "Wed, 21 Oct 2037 07:28:00 GMT");
    kv_set(&meta, "meta-md5-from", "\xc3\xa4");
    struct be_write w = {.op = {.key = "a b/+"}, .data = "abc", .len = 3, .meta = &meta, .if_absent = true};
    struct dialect_call call = {.kind = BE_WRITE, .op = &w.op};
    struct dialect_request r = built(s, &call);
    assert_string_equal(r.method, "PUT");
    assert_string_equal(buf_str(&r.path), "/box/a%20b/%2B");
    has(&r, "x-ms-blob-type", "BlockBlob");
    has(&r, "x-ms-blob-content-type", "text/x");
    has(&r, "x-ms-blob-content-encoding", "gzip");
    has(&r, "x-ms-meta-_expires", "Wed, 21 Oct 2037 07:28:00 GMT");
    has(&r, "x-ms-meta-md5_2dfrom", "UTF-8''%C3%A4");
    has(&r, "x-ms-access-tier", "Cool");
    has(&r, "x-ms-encryption-scope", "mine");
    has(&r, "if-none-match", "*");
    has(&r, "x-ms-date", "Tue, 14 Nov 2023 22:13:20 GMT");
    assert_int_equal(strncmp(kv_get(&r.headers, "authorization"), "SharedKey account:", 18), 0);
    dialect_request_fini(&r);

    kv_set(&meta, "storage-class", "Archive");
    r = built(s, &call);
    has(&r, "x-ms-access-tier", "Archive");
    dialect_request_fini(&r);
    static const char *const bad[][2] = {{"storage-class", "GLACIER"}, {"encryption", "aws:kms"}, {"odd", "x"},
                                         {"content-type", "a\nb"},     {"meta-a b", "x"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(kv_fini) struct kvlist one = {0};
        struct errinfo err = {0};
        kv_set(&one, bad[i][0], bad[i][1]);
        w.meta = &one;
        assert_int_equal(s->dialect->build(s, &call, &r, &err), -EINVAL);
        assert_int_equal(err.cls, ERR_INVALID);
        dialect_request_fini(&r);
    }
    be_dialect_azure.release(s);
}

static void sas_goes_into_the_query(void **state)
{
    (void)state;
    struct dialect_site *s = made(azure_conf("", NULL, SAS));
    struct be_list l = {.prefix = "p/", .delimiter = '/', .max = 7};
    struct dialect_call call = {.kind = BE_LIST, .op = &l.op};
    struct dialect_request r = built(s, &call);
    CLEANUP(buf_fini) struct buf url = BUF_INIT;
    assert_null(kv_get(&r.headers, "authorization"));
    assert_int_equal(dialect_url(s, &r, &url), 0);
    assert_string_equal(buf_str(&url),
                        "https://account.blob.core.windows.net/box?restype=container&comp=list&maxresults=7"
                        "&prefix=p%2F&delimiter=%2F&sv=2022-11-02&se=2030-01-01T00%3A00%3A00Z&sp=rwl&sig=a%2Bb%3D");
    /* a newer one replaces all of it */
    struct errinfo err = {0};
    struct conf_remote c = azure_conf("", NULL, "sv=2023&sig=new");
    assert_int_equal(dialect_renew(s, &c, &err), 0);
    secret_free(c.security_token);
    assert_int_equal(s->dialect->sign(s, &r, NOW, &err), 0);
    buf_clear(&url);
    assert_int_equal(dialect_url(s, &r, &url), 0);
    assert_string_equal(buf_str(&url), "https://account.blob.core.windows.net/box?restype=container&comp=list"
                                       "&maxresults=7&prefix=p%2F&delimiter=%2F&sv=2023&sig=new");
    /* and one that is none is said so, without being shown */
    c = azure_conf("", NULL, "nonsense");
    assert_int_equal(dialect_renew(s, &c, &err), 0);
    secret_free(c.security_token);
    assert_int_equal(s->dialect->sign(s, &r, NOW, &err), -EINVAL);
    assert_non_null(strstr(err.message, "[r] sasToken"));
    assert_null(strstr(err.message, "nonsense"));
    dialect_request_fini(&r);
    be_dialect_azure.release(s);
}

static void parts_and_commit(void **state)
{
    (void)state;
    struct dialect_site *s = with_key();
    struct be_part p = {.op = {.key = "k"}, .upload_id = LIT(UPLOAD), .number = 7, .data = "a", .len = 1};
    struct dialect_call call = {.kind = BE_MP_PART, .op = &p.op};
    struct dialect_request r = built(s, &call);
    assert_string_equal(kv_get(&r.query, "comp"), "block");
    has(&r, "content-md5", "DMF1ucDxtqgxw5niaXcmYQ==");
    char id[AZURE_BLOCK_LEN + 1], text[BASE64_LEN(AZURE_BLOCK_LEN) + 1];
    assert_true(azure_block_id(UPLOAD, 7, MD5_A, id));
    base64_encode(id, AZURE_BLOCK_LEN, text);
    assert_string_equal(kv_get(&r.query, "blockid"), text);
    dialect_request_fini(&r);

    struct be_part_id ids[2] = {{.number = 7, .size = 1, .etag = MD5_A}, {.number = 9, .size = 2, .etag = MD5_A}};
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "meta-md5", MD5_A);
    struct be_commit c = {.op = {.key = "k"}, .upload_id = UPLOAD, .parts = ids, .n_parts = 2, .meta = &meta,
                          .if_match = "0x1"};
    call = (struct dialect_call){.kind = BE_MP_COMMIT, .op = &c.op};
    r = built(s, &call);
    assert_string_equal(kv_get(&r.query, "comp"), "blocklist");
    has(&r, "if-match", "\"0x1\"");
    has(&r, "x-ms-meta-md5", MD5_A);
    has(&r, "x-ms-blob-content-md5", "DMF1ucDxtqgxw5niaXcmYQ==");
    CLEANUP(mem_freep) char *first =
        mem_printf("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><Uncommitted>%s</Uncommitted>", text);
    assert_int_equal(strncmp(buf_str(&r.own), first, strlen(first)), 0);
    assert_true(r.body == r.own.data && r.body_len == r.own.len);
    dialect_request_fini(&r);
    /* an MD5 that only came with the source is not said to be the content's */
    kv_set(&meta, "meta-md5-from", "source");
    r = built(s, &call);
    assert_null(kv_get(&r.headers, "x-ms-blob-content-md5"));
    dialect_request_fini(&r);

    struct errinfo err = {0};
    ids[1].number = 7;
    assert_int_equal(s->dialect->build(s, &call, &r, &err), -EINVAL);
    dialect_request_fini(&r);
    ids[1].number = 8;
    c.upload_id = "of another store";
    assert_int_equal(s->dialect->build(s, &call, &r, &err), -ENOENT);
    assert_int_equal(err.cls, ERR_ABSENT);
    dialect_request_fini(&r);
    be_dialect_azure.release(s);
}

static void part_copy_signs_its_source(void **state)
{
    (void)state;
    struct dialect_site *s = with_key(), *sas = made(azure_conf("", NULL, SAS));
    struct be_part p = {.op = {.key = "k"}, .upload_id = LIT(UPLOAD), .number = 1, .src = (struct be *)s, .src_key = "a b",
                        .src_etag = "0x5", .src_offset = 10, .src_len = 5, .src_size = 100};
    struct dialect_call call = {.kind = BE_MP_PART, .op = &p.op, .src = s};
    struct dialect_request r = built(s, &call);
    has(&r, "x-ms-source-range", "bytes=10-14");
    has(&r, "x-ms-source-if-match", "\"0x5\"");
    const char *from = kv_get(&r.headers, "x-ms-copy-source");
    static const char want[] = "https://account.blob.core.windows.net/box/a%20b?sv=2021-12-02"
                               "&se=2023-11-15T00%3A13%3A20Z&sr=b&sp=r&sig=";
    assert_int_equal(strncmp(from, want, strlen(want)), 0);
    /* signed again, once */
    struct errinfo err = {0};
    assert_int_equal(s->dialect->sign(s, &r, NOW + 1, &err), 0);
    from = kv_get(&r.headers, "x-ms-copy-source");
    assert_non_null(strstr(from, "00%3A13%3A21Z"));
    assert_ptr_equal(strchr(from, '?'), strrchr(from, '?'));
    dialect_request_fini(&r);
    call.src = sas;
    r = built(s, &call);
    has(&r, "x-ms-copy-source", "https://account.blob.core.windows.net/box/a%20b" SAS);
    dialect_request_fini(&r);
    char etag[AZURE_ETAG_LEN + 1], other[AZURE_ETAG_LEN + 1];
    azure_part_etag(&p, etag);
    p.src_offset++;
    azure_part_etag(&p, other);
    assert_string_not_equal(etag, other);
    assert_false(dialect_etag_is_hex(etag)); /* it is no MD5 of bytes */
    be_dialect_azure.release(s);
    be_dialect_azure.release(sas);
}

/* --- copies by steps */

struct copying {
    struct kvlist there, want;
    const char *key;
    const char *steps; /* w = all at once, b = bare, p = properties, m = metadata */
};

static void check_steps(struct copying *c)
{
    struct dialect_site *s = with_key();
    struct be_stat source = {.object = {.etag = "0x1"}};
    struct be_copy op = {.op = {.key = c->key}, .src_key = "from", .src_etag = "0x1", .size = 3, .meta = &c->want};
    struct dialect_call call = {.kind = BE_COPY, .op = &op.op, .src = s, .source = &source};
    kv_copy(&source.meta, &c->there);
    kv_set(&source.meta, "content-md5", "MD5=");
    size_t n = strlen(c->steps);
    for (call.step = 0; call.step < n; call.step++) {
        struct dialect_request r = built(s, &call);
        const char *comp = kv_get(&r.query, "comp");
        switch (c->steps[call.step]) {
        case 'w':
        case 'b':
            assert_null(comp);
            has(&r, "x-ms-requires-sync", "true");
            has(&r, "x-ms-source-if-match", "\"0x1\"");
            assert_int_equal(kv_get(&r.headers, "x-ms-meta-_incomplete") != NULL, c->steps[0] == 'b');
            break;
        case 'p':
            assert_string_equal(comp, "properties");
            has(&r, "x-ms-blob-content-md5", "MD5="); /* or it would be taken away */
            break;
        default:
            assert_string_equal(comp, "metadata");
            assert_int_equal(kv_get(&c->want, "meta-a") != NULL, kv_get(&r.headers, "x-ms-meta-a") != NULL);
            break;
        }
        if (call.step > 0) {
            has(&r, "if-match", "\"0x2\""); /* what the step before made, and nobody else */
            assert_null(kv_get(&r.headers, "x-ms-copy-source"));
        }
        dialect_request_fini(&r);
        CLEANUP(kv_fini) struct kvlist headers = {0};
        kv_set(&headers, "etag", "\"0x2\"");
        struct dialect_answer a = {.http_status = 200, .headers = &headers, .body = ""};
        struct dialect_page page = {0};
        struct errinfo err = {0};
        assert_int_equal(s->dialect->parse(s, &call, &a, &page, &err), 0);
        assert_int_equal(page.next[0] != NULL, call.step + 1 < n);
        dialect_page_fini(&page);
    }
    kv_fini(&source.meta);
    kv_fini(&c->there);
    kv_fini(&c->want);
    be_dialect_azure.release(s);
}

static void copies_by_steps(void **state)
{
    (void)state;
    struct copying c = {.key = "to", .steps = "w"};
    kv_set(&c.there, "content-type", "text/a");
    kv_set(&c.want, "content-type", "text/a");
    kv_set(&c.want, "meta-a", "1");
    check_steps(&c);
    c = (struct copying){.key = "to", .steps = "bpm"};
    kv_set(&c.there, "content-type", "text/a");
    kv_set(&c.want, "content-type", "text/b");
    kv_set(&c.want, "meta-a", "1");
    check_steps(&c);
    c = (struct copying){.key = "to", .steps = "w"}; /* neither has any */
    kv_set(&c.there, "content-type", "application/octet-stream");
    check_steps(&c);
    c = (struct copying){.key = "to", .steps = "bm"}; /* else it would keep the source's */
    kv_set(&c.there, "content-type", "application/octet-stream");
    kv_set(&c.there, "meta-old", "1");
    check_steps(&c);
    c = (struct copying){.key = "from", .steps = "m"};
    kv_set(&c.there, "content-type", "text/a");
    kv_set(&c.want, "content-type", "text/a");
    kv_set(&c.want, "meta-a", "1");
    check_steps(&c);
    c = (struct copying){.key = "from", .steps = "pm"};
    kv_set(&c.there, "content-type", "text/a");
    check_steps(&c);
}

/* --- answers */

static struct errinfo azure_error(const struct dialect_site *s, int status, const char *body, const char *date,
                               const char *header_code)
{
    CLEANUP(kv_fini) struct kvlist headers = {0};
    struct be_stat o = {.op = {.key = "k"}};
    struct dialect_call call = {.kind = BE_STAT, .op = &o.op};
    kv_set(&headers, "date", date);
    kv_set(&headers, "x-ms-error-code", header_code);
    kv_set(&headers, "x-ms-request-id", "id");
    struct dialect_answer a = {
        .http_status = status, .headers = &headers, .body = body, .body_len = strlen(body), .signed_s = NOW};
    struct errinfo err = {0};
    s->dialect->classify(s, &call, &a, &err);
    assert_int_equal(err.http_status, status);
    assert_string_equal(err.request_id, "id");
    assert_true(err.cls != ERR_NONE && err.message[0] != '\0');
    return err;
}

#define AZURE_ERROR(code, more) "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>" code "</Code>" more "</Error>"

static void classifies(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *code;
        enum err_class cls;
    } cases[] = {
        {404, "BlobNotFound", ERR_ABSENT},       {403, "AuthenticationFailed", ERR_AUTH},
        {403, "AuthorizationFailure", ERR_AUTH}, {401, "NoAuthenticationInformation", ERR_AUTH},
        {400, "InvalidAuthenticationInfo", ERR_AUTH}, {409, "BlobAlreadyExists", ERR_PRECOND},
        {412, "ConditionNotMet", ERR_PRECOND},   {412, "SourceConditionNotMet", ERR_PRECOND},
        {412, "LeaseIdMissing", ERR_INVALID},    {409, "BlobArchived", ERR_ARCHIVED},
        {409, "BlobBeingRehydrated", ERR_ARCHIVED}, {409, "SnapshotsPresent", ERR_INVALID},
        {409, "ContainerBeingDeleted", ERR_TRANSIENT}, {400, "InvalidBlockList", ERR_INVALID},
        {400, "Md5Mismatch", ERR_INTEGRITY},     {413, "RequestBodyTooLarge", ERR_INVALID},
        {503, "ServerBusy", ERR_THROTTLED},      {500, "OperationTimedOut", ERR_TRANSIENT},
        {429, "", ERR_THROTTLED},
    };
    struct dialect_site *s = with_key(), *sas = made(azure_conf("", NULL, SAS));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(mem_freep) char *body = mem_printf(AZURE_ERROR("%s", "<Message>m\nRequestId:1</Message>"), cases[i].code);
        struct errinfo err = azure_error(s, cases[i].status, body, NULL, NULL);
        assert_int_equal(err.cls, cases[i].cls);
        assert_string_equal(err.code, cases[i].code);
        assert_null(strstr(err.message, "RequestId"));
        err = azure_error(s, cases[i].status, "", NULL, cases[i].code); /* as a HEAD says it */
        assert_int_equal(err.cls, cases[i].cls);
        assert_string_equal(err.code, cases[i].code);
    }
    struct errinfo err = azure_error(s, 404, AZURE_ERROR("ContainerNotFound", ""), NULL, NULL);
    assert_string_equal(err.code, "NoSuchBucket"); /* the name the floors above know */
    err = azure_error(s, 409, AZURE_ERROR("BlobArchived", ""), NULL, NULL);
    assert_non_null(strstr(err.message, "is archived (Archive): restore it first"));

    static const char late[] = AZURE_ERROR(
        "AuthenticationFailed", "<AuthenticationErrorDetail>Request date header too old</AuthenticationErrorDetail>");
    assert_int_equal(azure_error(s, 403, late, NULL, NULL).cls, ERR_SKEW);
    assert_int_equal(azure_error(s, 403, "", "Tue, 14 Nov 2023 22:33:20 GMT", "AuthenticationFailed").cls, ERR_SKEW);
    assert_int_equal(azure_error(s, 403, "", "Tue, 14 Nov 2023 22:13:30 GMT", "AuthenticationFailed").cls, ERR_AUTH);
    /* a SAS has its own times, which no corrected clock changes */
    assert_int_equal(azure_error(sas, 403, "", "Tue, 14 Nov 2023 22:33:20 GMT", "AuthenticationFailed").cls, ERR_AUTH);
    be_dialect_azure.release(s);
    be_dialect_azure.release(sas);
}

/* One page from a body, fed in small pieces where it is a stream. */
static int parsed(const struct dialect_site *s, struct dialect_call *call, const char *body, struct dialect_page *page,
                  struct errinfo *err)
{
    CLEANUP(kv_fini) struct kvlist headers = {0};
    struct dialect_answer a = {.http_status = 200, .headers = &headers, .body = body, .body_len = strlen(body)};
    a.stream = s->dialect->stream_new(s, call);
    for (size_t at = 0; a.stream && at < a.body_len; at += 7) {
        (void)s->dialect->stream_feed(a.stream, body + at, MIN(a.body_len - at, (size_t)7));
    }
    int rc = s->dialect->parse(s, call, &a, page, err);
    s->dialect->stream_free(a.stream);
    return rc;
}

#define BLOB(name, size, more)                                                                                     \
    "<Blob><Name>" name "</Name><Properties><Etag>0x8D</Etag><Content-Length>" size "</Content-Length>"            \
    "<Last-Modified>Tue, 14 Nov 2023 22:13:20 GMT</Last-Modified>" more "</Properties></Blob>"
#define LIST(blobs, marker)                                                                                        \
    "<EnumerationResults ServiceEndpoint=\"e\"><Prefix/><Blobs>" blobs "</Blobs><NextMarker>" marker               \
    "</NextMarker></EnumerationResults>"

static void lists(void **state)
{
    (void)state;
    struct dialect_site *s = with_key();
    struct be_list l = {.prefix = "", .start_after = "b"};
    struct dialect_call call = {.kind = BE_LIST, .op = &l.op};
    struct dialect_page page = {0};
    struct errinfo err = {0};
    static const char body[] =
        LIST(BLOB("a", "1", "") BLOB("d", "4", "<AccessTier>Cool</AccessTier>") BLOB("b", "2", "")
             "<Blob><Name Encoded=\"true\">c%07%25</Name><Properties><Etag>0x1</Etag><Content-Length>9</Content-Length>"
             "</Properties></Blob><BlobPrefix><Name>b/</Name></BlobPrefix>"
             "<BlobPrefix><Name>a/</Name></BlobPrefix>" BLOB("e%07", "5", "<AccessTier>Hot</AccessTier>"),
             "2!8!bQ--");
    assert_int_equal(parsed(s, &call, body, &page, &err), 0);
    static const char *const keys[] = {"b/", "c\a%", "d", "e%07"};
    assert_int_equal(l.n_entries, ARRAY_LEN(keys));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_string_equal(l.entries[i].key, keys[i]);
        assert_int_equal(l.entries[i].is_prefix, i == 0);
    }
    assert_string_equal(l.entries[2].object.etag, "0x8D");
    assert_string_equal(l.entries[2].object.storage_class, "Cool");
    assert_string_equal(l.entries[3].object.storage_class, "");
    assert_int_equal(l.entries[2].object.mtime_ns, 1700000000000000000);
    assert_string_equal(l.next_cursor, "1:b2!8!bQ--");

    /* the cursor knows both */
    struct be_list next = {.prefix = "", .cursor = l.next_cursor};
    call.op = &next.op;
    struct dialect_request r = built(s, &call);
    assert_string_equal(kv_get(&r.query, "marker"), "2!8!bQ--");
    dialect_request_fini(&r);
    assert_int_equal(parsed(s, &call, LIST(BLOB("a", "1", "") BLOB("f", "1", ""), ""), &page, &err), 0);
    assert_int_equal(next.n_entries, 1);
    assert_null(next.next_cursor);
    be_list_fini(&next);
    next = (struct be_list){.prefix = "", .cursor = "9:b"};
    assert_int_equal(s->dialect->build(s, &call, &r, &err), -EINVAL);
    dialect_request_fini(&r);
    be_list_fini(&l);

    /* cut short anywhere, it is no list */
    for (size_t n = 0; n + 1 < sizeof(body); n += 11) {
        struct be_list cut = {.prefix = ""};
        CLEANUP(mem_freep) char *part = mem_strndup(body, n);
        call.op = &cut.op;
        assert_true(parsed(s, &call, part, &page, &err) < 0);
        assert_int_equal(err.cls, ERR_TRANSIENT);
        assert_int_equal(cut.n_entries, 0);
    }
    be_dialect_azure.release(s);
}

static void add_block(struct buf *b, const char *upload, unsigned number, const char *etag, unsigned size)
{
    char id[AZURE_BLOCK_LEN + 1], text[BASE64_LEN(AZURE_BLOCK_LEN) + 1];
    assert_true(azure_block_id(upload, number, etag, id));
    base64_encode(id, AZURE_BLOCK_LEN, text);
    assert_int_equal(buf_addf(b, "<Block><Name>%s</Name><Size>%u</Size></Block>", text, size), 0);
}

#define OTHER "65535f01a1b2c3d4e5f6"

static void blocks(void **state)
{
    (void)state;
    struct dialect_site *s = with_key();
    struct errinfo err = {0};
    CLEANUP(buf_fini) struct buf body = BUF_INIT;
    assert_int_equal(buf_adds(&body, "<BlockList><CommittedBlocks/><UncommittedBlocks>"
                                     "<Block><Name>YWFh</Name><Size>1</Size></Block>"),
                     0);
    add_block(&body, UPLOAD, 2, MD5_A, 20);
    add_block(&body, UPLOAD, 1, MD5_A, 10);
    add_block(&body, OTHER, 1, MD5_A, 77);
    add_block(&body, UPLOAD, 1, "11111111111111111111111111111111", 11);
    assert_int_equal(buf_adds(&body, "</UncommittedBlocks></BlockList>"), 0);

    struct be_parts p = {.op = {.key = "k"}, .upload_id = UPLOAD};
    struct dialect_call call = {.kind = BE_MP_PARTS, .op = &p.op};
    struct dialect_page page = {0};
    assert_int_equal(parsed(s, &call, buf_str(&body), &page, &err), 0);
    assert_int_equal(page.n_parts, 2);
    assert_int_equal(page.parts[0].number, 1);
    assert_int_equal(page.parts[0].size, 11);
    assert_int_equal(page.parts[1].number, 2);
    assert_string_equal(page.parts[1].etag, MD5_A);
    dialect_page_fini(&page);
    p.upload_id = "65535f02a1b2c3d4e5f6";
    assert_int_equal(parsed(s, &call, buf_str(&body), &page, &err), -ENOENT);
    assert_int_equal(err.cls, ERR_ABSENT);
    assert_string_equal(err.code, "NoSuchUpload");
    assert_true(parsed(s, &call, "<BlockList><UncommittedBlocks>", &page, &err) < 0);
    assert_int_equal(err.cls, ERR_TRANSIENT);

    /* below a prefix: the list, then each that may have blocks */
    struct be_uploads u = {.prefix = "p"};
    call = (struct dialect_call){.kind = BE_MP_UPLOADS, .op = &u.op};
    assert_int_equal(parsed(s, &call, LIST(BLOB("p 1", "0", "") BLOB("p2", "0", "<Content-MD5>x</Content-MD5>")
                                               BLOB("p3", "0", "") BLOB("p4", "8", ""), "m&amp;1"),
                            &page, &err),
                     0);
    assert_string_equal(page.next[0], "m%261 p%201 p3");
    CLEANUP(mem_freep) char *pending = TAKE(page.next[0]);
    dialect_page_fini(&page);
    call.page[0] = pending;
    struct dialect_request r = built(s, &call);
    assert_string_equal(buf_str(&r.path), "/box/p%201");
    assert_string_equal(kv_get(&r.query, "comp"), "blocklist");
    dialect_request_fini(&r);
    assert_int_equal(parsed(s, &call, buf_str(&body), &page, &err), 0);
    assert_int_equal(page.n_uploads, 2);
    assert_string_equal(page.uploads[0].key, "p 1");
    assert_string_equal(page.uploads[0].upload_id, UPLOAD);
    assert_int_equal(page.uploads[0].initiated_ns, INT64_C(0x65535f00) * 1000000000);
    assert_string_equal(page.next[0], "m%261 p3");
    CLEANUP(mem_freep) char *second = TAKE(page.next[0]);
    dialect_page_fini(&page);
    call.page[0] = second;
    assert_int_equal(parsed(s, &call, "<BlockList><UncommittedBlocks/></BlockList>", &page, &err), 0);
    assert_int_equal(page.n_uploads, 0);
    assert_string_equal(page.next[0], "m%261");
    CLEANUP(mem_freep) char *third = TAKE(page.next[0]);
    dialect_page_fini(&page);
    call.page[0] = third;
    r = built(s, &call);
    assert_string_equal(kv_get(&r.query, "comp"), "list");
    assert_string_equal(kv_get(&r.query, "marker"), "m&1");
    dialect_request_fini(&r);
    assert_int_equal(parsed(s, &call, LIST("", ""), &page, &err), 0);
    assert_null(page.next[0]);
    be_dialect_azure.release(s);
}

/* The service says which bytes it has. */
static void compares_the_md5(void **state)
{
    (void)state;
    struct dialect_site *s = with_key();
    CLEANUP(kv_fini) struct kvlist headers = {0};
    struct be_part p = {.op = {.key = "k"}, .upload_id = LIT(UPLOAD), .number = 1, .data = "a", .len = 1};
    struct dialect_call call = {.kind = BE_MP_PART, .op = &p.op};
    struct dialect_answer a = {.http_status = 201, .headers = &headers, .body = ""};
    struct dialect_page page = {0};
    struct errinfo err = {0};
    kv_set(&headers, "content-md5", "DMF1ucDxtqgxw5niaXcmYQ==");
    assert_int_equal(s->dialect->parse(s, &call, &a, &page, &err), 0);
    assert_string_equal(p.object.etag, MD5_A);
    assert_true(p.object.etag_is_md5 && p.object.size == 1);
    kv_set(&headers, "content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_true(s->dialect->parse(s, &call, &a, &page, &err) < 0);
    assert_int_equal(err.cls, ERR_INTEGRITY);
    be_dialect_azure.release(s);
}

/* --- removals by the batch */

#define PART(id, rest) "--b1\r\nContent-Type: application/http\r\nContent-ID: " id "\r\n\r\nHTTP/1.1 " rest "\r\n"
#define REFUSED(code) "x-ms-error-code: " code "\r\nContent-Length: 9\r\n\r\n<Error><Code>" code "</Code></Error>"

static const char *const doomed[] = {"a b", "c/%", "kept"};
static const size_t two[] = {1, 0};

static void a_batch_is_signed_in_each_part(void **state)
{
    (void)state;
    struct be_many m = {.keys = doomed, .n_keys = 3};
    struct dialect_call call = {.kind = BE_REMOVE_MANY, .op = &m.op, .chosen = two, .n_chosen = 2};
    struct be_remove one = {.op = {.key = "c/%"}};
    struct dialect_call alone = {.kind = BE_REMOVE, .op = &one.op};
    struct dialect_site *s = with_key(), *sas = made(azure_conf("", NULL, SAS));
    CLEANUP(dialect_request_fini) struct dialect_request r = {0}, later = {0};
    struct errinfo err = {0};
    assert_int_equal(s->dialect->build(s, &call, &r, &err), 0);
    assert_int_equal(s->dialect->sign(s, &r, NOW, &err), 0);
    assert_string_equal(r.method, "POST");
    assert_string_equal(buf_str(&r.path), "/box");
    assert_string_equal(kv_get(&r.query, "comp"), "batch");
    assert_non_null(strstr(kv_get(&r.headers, "content-type"), "multipart/mixed; boundary=batch_"));
    assert_int_equal(r.body_len, strlen(r.body));
    /* the order of `chosen`, and no other key */
    const char *first = strstr(r.body, "Content-ID: 0\r\n\r\nDELETE /box/c/%25 HTTP/1.1\r\n");
    const char *second = strstr(r.body, "Content-ID: 1\r\n\r\nDELETE /box/a%20b HTTP/1.1\r\n");
    assert_true(first && second && first < second);
    assert_null(strstr(r.body, "kept"));
    /* each with the signature that the same request has alone, but for x-ms-version, which the whole has */
    assert_non_null(strstr(first, "x-ms-date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"));
    assert_non_null(strstr(second, "authorization: SharedKey account:"));
    assert_int_equal(s->dialect->build(s, &alone, &later, &err), 0);
    kv_set(&later.headers, "x-ms-version", NULL);
    assert_int_equal(s->dialect->sign(s, &later, NOW, &err), 0);
    assert_non_null(strstr(first, kv_get(&later.headers, "authorization")));
    /* signed anew, every part is */
    CLEANUP(mem_freep) char *before = mem_strdup(r.body);
    assert_int_equal(s->dialect->sign(s, &r, NOW + 1, &err), 0);
    assert_int_equal(r.body_len, strlen(before));
    assert_string_not_equal(r.body, before);
    assert_null(strstr(r.body, "22:13:20"));
    assert_int_equal(sas->dialect->build(sas, &call, &r, &err), 0);
    assert_int_equal(sas->dialect->sign(sas, &r, NOW, &err), 0);
    assert_non_null(strstr(r.body, "DELETE /box/c/%25?sv=2022-11-02&"));
    assert_null(strstr(r.body, "uthorization"));
    be_dialect_azure.release(s);
    be_dialect_azure.release(sas);
}

static int parse_batch(const char *body, struct errinfo errs[3])
{
    struct be_many m = {.keys = doomed, .n_keys = 3};
    struct dialect_call call = {.kind = BE_REMOVE_MANY, .op = &m.op, .chosen = two, .n_chosen = 2, .errs = errs};
    CLEANUP(kv_fini) struct kvlist none = {0};
    struct dialect_answer a = {.http_status = 202, .headers = &none, .body = body, .body_len = strlen(body)};
    struct dialect_page page = {0};
    struct errinfo err = {0};
    struct dialect_site *s = with_key();
    memset(errs, 0, 3 * sizeof(*errs));
    int rc = s->dialect->parse(s, &call, &a, &page, &err);
    be_dialect_azure.release(s);
    return rc;
}

static void a_batch_tells_of_each(void **state)
{
    (void)state;
    struct errinfo e[3];
    assert_int_equal(parse_batch(PART("1", "202 Accepted\r\nx-ms-request-id: q\r\n") PART("0", "202 Accepted\r\n") "--b1--\r\n", e), 0);
    assert_true(e[0].cls == ERR_NONE && e[1].cls == ERR_NONE && e[2].cls == ERR_NONE);
    /* an answer each, by its id; what is not there is removed */
    assert_int_equal(parse_batch(PART("1", "404 no\r\n" REFUSED("BlobNotFound")) PART("0", "409 no\r\n" REFUSED("LeaseIdMissing")) "--b1--", e), 0);
    assert_int_equal(e[0].cls, ERR_NONE);
    assert_int_equal(e[1].cls, ERR_INVALID);
    assert_string_equal(e[1].code, "LeaseIdMissing");
    assert_int_equal(parse_batch(PART("0", "404 no\r\n" REFUSED("ContainerNotFound")) PART("1", "503 no\r\n" REFUSED("ServerBusy")) "--b1--", e), 0);
    assert_string_equal(e[1].code, "NoSuchBucket");
    assert_int_equal(e[0].cls, ERR_THROTTLED);
    /* of one nothing is said: it is tried again */
    assert_int_equal(parse_batch(PART("0", "202 Accepted\r\n") "--b1--\r\n", e), 0);
    assert_true(e[1].cls == ERR_NONE && e[0].cls == ERR_TRANSIENT && e[2].cls == ERR_NONE);
    static const char *const bad[] = {"", "x", "<Error/>", PART("2", "202 Accepted\r\n") "--b1--",
                                      PART("0", "oops") "--b1--"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_true(parse_batch(bad[i], e) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        cmocka_unit_test(refuses_settings),
        cmocka_unit_test(keys),
        cmocka_unit_test(metadata_names),
        cmocka_unit_test(block_ids),
        cmocka_unit_test(uploads_begin_without_a_request),
        cmocka_unit_test(writes),
        cmocka_unit_test(sas_goes_into_the_query),
        cmocka_unit_test(parts_and_commit),
        cmocka_unit_test(part_copy_signs_its_source),
        cmocka_unit_test(copies_by_steps),
        cmocka_unit_test(classifies),
        cmocka_unit_test(lists),
        cmocka_unit_test(blocks),
        cmocka_unit_test(compares_the_md5),
        cmocka_unit_test(a_batch_is_signed_in_each_part),
        cmocka_unit_test(a_batch_tells_of_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
