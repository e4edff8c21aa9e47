/* The Qiniu dialect: settings to hosts, operations to requests of several kinds and steps, answers to results. */
#include "vectors.h"

#include "dialect_sites.h"
#include "digest.h"
#include "json.h"
#include "qiniu.h"

#define WALL 1700000000

static struct conf_remote settings(void)
{
    struct conf_remote c = conf("bkt", "z0", "");
    kv_set(&c.defaults, "domain", "cdn.example.com");
    return c;
}

static void conf_done(struct conf_remote *c)
{
    kv_fini(&c->defaults);
}

static struct dialect_site *kodo(void)
{
    CLEANUP(conf_done) struct conf_remote c = settings();
    return site(&be_dialect_qiniu, c);
}

/* --- settings */

static void places_hosts(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    const struct qiniu *q = qiniu_of(s);
    assert_string_equal(s->host, "rs-z0.qiniuapi.com");
    assert_string_equal(q->rsf, "rsf-z0.qiniuapi.com");
    assert_string_equal(q->up, "up-z0.qiniup.com");
    assert_string_equal(q->io, "cdn.example.com");
    assert_string_equal(s->identity, "qiniu:bkt");
    assert_true(q->io_private && !q->io_http && q->file_type == -1);
    assert_false(s->caps & (BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT));
    s->dialect->release(s);

    struct conf_remote c = settings();
    kv_set(&c.defaults, "domain", "http://test.clouddn.example:8080");
    c.storage_class = LIT("line");
    kv_set(&c.defaults, "domainPrivate", "off");
    s = site(&be_dialect_qiniu, c);
    assert_true(qiniu_of(s)->io_http && !qiniu_of(s)->io_private && qiniu_of(s)->file_type == 1);
    assert_string_equal(qiniu_of(s)->io, "test.clouddn.example:8080");
    s->dialect->release(s);
    kv_fini(&c.defaults);

    c = conf("bkt", "", "kodo.example.com");
    s = site(&be_dialect_qiniu, c);
    assert_string_equal(qiniu_of(s)->rsf, "kodo.example.com");
    assert_string_equal(qiniu_of(s)->up, "kodo.example.com");
    assert_string_equal(qiniu_of(s)->io, "kodo.example.com");
    assert_string_equal(s->identity, "qiniu:kodo.example.com:bkt");
    s->dialect->release(s);
}

static void refuses_settings(void **state)
{
    (void)state;
    static const struct {
        const char *region, *domain, *class, *says;
    } cases[] = {
        {"", "d.example.com", "", "region"},
        {"z0.evil.com/", "d.example.com", "", "region"},
        {"z0", "d.example.com/path", "", "domain"},
        {"z0", "d.example.com:0", "", "domain"},
        {"z0", "d.example.com", "golden", "storageClass"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(conf_done) struct conf_remote c = conf("bkt", cases[i].region, "");
        struct dialect_site *s = NULL;
        struct errinfo err = {0};
        kv_set(&c.defaults, "domain", cases[i].domain);
        c.storage_class = LIT(cases[i].class);
        assert_int_equal(configure(&be_dialect_qiniu, c, &s, &err), -EINVAL);
        assert_non_null(strstr(err.message, cases[i].says));
        assert_non_null(strstr(err.message, "[r]"));
    }
}

/* --- requests */

static void build_call(const struct dialect_site *s, const struct dialect_call *call,
                  struct dialect_request *r)
{
    struct errinfo err = {0};
    if (s->dialect->build(s, call, r, &err) != 0 || s->dialect->sign(s, r, WALL, &err) != 0) {
        fail_msg("%s", err.message);
    }
}

static char *url_of(const struct dialect_site *s, const struct dialect_request *r)
{
    struct buf url = BUF_INIT;
    assert_int_equal(dialect_url(s, r, &url), 0);
    return buf_take(&url);
}

static bool holds(const struct dialect_request *r, const char *text)
{
    return memmem(r->body, r->body_len, text, strlen(text)) != NULL;
}

static void signs_reads_in_the_url(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    struct dialect_request r = {0};
    char buf[8];
    struct be_read o = {.op = {.key = "a b/+%.txt"}, .offset = 5, .len = 8, .buf = buf, .if_match = "Fx=="};
    struct dialect_call call = {.kind = BE_READ, .op = &o.op};
    build_call(s, &call, &r);
    CLEANUP(mem_freep) char *url = url_of(s, &r);
    static const char begin[] = "https://cdn.example.com/a%20b/%2B%25.txt?v=Fx%3D%3D&e=1700003600&token=AKID:";
    assert_memory_equal(url, begin, strlen(begin));
    assert_string_equal(kv_get(&r.headers, "range"), "bytes=5-12");
    assert_string_equal(kv_get(&r.headers, "host"), "cdn.example.com");
    assert_null(kv_get(&r.headers, "authorization"));
    /* signed again: the old token is not part of the new one */
    struct errinfo err = {0};
    assert_int_equal(s->dialect->sign(s, &r, WALL, &err), 0);
    CLEANUP(mem_freep) char *again = url_of(s, &r);
    assert_string_equal(again, url);
    /* attributes come from elsewhere */
    call.head = true;
    build_call(s, &call, &r);
    assert_header(&r, "host", "rs-z0.qiniuapi.com");
    assert_string_equal(r.method, "GET");
    assert_memory_equal(buf_str(&r.path), "/stat/", 6);
    dialect_request_fini(&r);
    s->dialect->release(s);
}

static void sends_forms(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    struct dialect_request r = {0};
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "content-type", "text/x");
    kv_set(&meta, "cache-control", "no-cache");
    kv_set(&meta, "meta-mode", "33188");
    kv_set(&meta, "meta-note", "50% \xc3\xa4");
    kv_set(&meta, "meta-xattr-user.note_b", "1");
    kv_set(&meta, "storage-class", "LINE");
    struct be_write o = {.op = {.key = "k\n\"\x01"}, .data = "bytes", .len = 5, .meta = &meta};
    struct dialect_call call = {.kind = BE_WRITE, .op = &o.op};
    build_call(s, &call, &r);
    assert_string_equal(r.method, "POST");
    assert_header(&r, "host", "up-z0.qiniup.com");
    assert_true(holds(&r, "name=\"key\"\r\n\r\nk\n\"\x01\r\n"));
    assert_true(holds(&r, "name=\"x-qn-meta-!Cache-Control\"\r\n\r\nno-cache\r\n"));
    assert_true(holds(&r, "name=\"x-qn-meta-mode\"\r\n\r\n33188\r\n"));
    assert_true(holds(&r, "name=\"x-qn-meta-note\"\r\n\r\nutf8-base64,NTAlIMOk\r\n"));
    assert_true(holds(&r, "name=\"x-qn-meta-esc-xattr-user_2enote_5fb\"\r\n\r\n1\r\n"));
    assert_true(holds(&r, "Content-Type: text/x\r\n\r\nbytes\r\n--"));
    const char *boundary = strstr(kv_get(&r.headers, "content-type"), "boundary=") + 9;
    CLEANUP(mem_freep)
    char *begin = mem_printf("--%s\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nAKID:", boundary);
    CLEANUP(mem_freep) char *end = mem_printf("\r\n--%s--\r\n", boundary);
    assert_memory_equal(r.body, begin, strlen(begin));
    assert_memory_equal((const char *)r.body + r.body_len - strlen(end), end, strlen(end));

    /* the policy, after the second ':' of the token */
    const char *token = strchr((const char *)r.body + strlen(begin), ':') + 1;
    char standard[1024] = "", policy[1024] = "";
    size_t n = strcspn(token, "\r");
    for (size_t i = 0; i < n; i++) {
        standard[i] = (char)(token[i] == '-' ? '+' : token[i] == '_' ? '/' : token[i]);
    }
    assert_true(base64_decode(standard, n, policy, &n));
    CLEANUP(json_done) json_t *p = json_read(policy, n);
    uint64_t deadline = 0, type = 0;
    assert_string_equal(json_get_text(p, "scope"), "bkt:k\n\"\x01");
    assert_true(json_get_u64(p, "deadline", &deadline) && deadline == WALL + 3600);
    assert_null(json_object_get(p, "insertOnly")); /* it is not what if_absent means */
    assert_true(json_get_u64(p, "fileType", &type) && type == 1);

    uint8_t wrong[DIGEST_MD5_LEN] = {0};
    struct errinfo err = {0};
    o.md5 = wrong;
    assert_true(s->dialect->build(s, &call, &r, &err) < 0);
    assert_int_equal(err.cls, ERR_INTEGRITY);
    dialect_request_fini(&r);
    s->dialect->release(s);
}

/* Whoever chooses key and values knows the bytes, too, and so their MD5. */
static void keeps_fields_in_the_form(void **state)
{
    (void)state;
#define MD5_BYTES "4b3a6218bb3e3a7303e8a171a60fcf92"
    static const char *const cases[][3] = {
        /* key, type, boundary */
        {"k", "text/x", "objmig-" MD5_BYTES},
        {"k" MD5_BYTES, "text/x", "objmig-" MD5_BYTES},
        {"k\r\n--objmig-" MD5_BYTES "\r\nx", "text/x", "objmig-0-" MD5_BYTES},
        {"k\r\n--objmig-" MD5_BYTES "\r\n--objmig-0-" MD5_BYTES "--", "text/x",
         "objmig-1-" MD5_BYTES},
        {"objmig-0-" MD5_BYTES "objmig-2-" MD5_BYTES,
         "text/x; a=objmig-" MD5_BYTES "; b=objmig-1-" MD5_BYTES, "objmig-3-" MD5_BYTES},
    };
    struct dialect_site *s = kodo();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(kv_fini) struct kvlist meta = {0};
        CLEANUP(dialect_request_fini) struct dialect_request r = {0};
        kv_set(&meta, "content-type", cases[i][1]);
        kv_set(&meta, "meta-a", "objmig-" MD5_BYTES "objmig-0-");
        if (i < 2) {
            kv_set(&meta, "meta-a", "objmig-");
        }
        struct be_write o = {.op = {.key = cases[i][0]}, .data = "bytes", .len = 5, .meta = &meta};
        struct dialect_call call = {.kind = BE_WRITE, .op = &o.op};
        build_call(s, &call, &r);
        CLEANUP(mem_freep) char *type = mem_printf("multipart/form-data; boundary=%s", cases[i][2]);
        assert_header(&r, "content-type", type);
        /* token, key, metadatum, file, end: nothing else begins with it, and nothing else holds it */
        size_t n = 0;
        const char *at = r.body, *end = at + r.body_len;
        while ((at = memmem(at, (size_t)(end - at), cases[i][2], strlen(cases[i][2])))) {
            at += strlen(cases[i][2]);
            n++;
        }
        assert_int_equal(n, 5);
    }
    s->dialect->release(s);
}

static void refuses_metadata(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"meta-.................12", "x"}, {"meta-", "x"},
        {"cache-control", "a\nb"}, {"storage-class", "GOLD"},
        {"x-other", "x"},          {"meta-123456789012345678901234567890123456789012345678901", "x"},
    };
    struct dialect_site *s = kodo();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(kv_fini) struct kvlist meta = {0};
        struct dialect_request r = {0};
        struct errinfo err = {0};
        kv_set(&meta, bad[i][0], bad[i][1]);
        struct be_write o = {.op = {.key = "k"}, .data = "", .meta = &meta};
        struct dialect_call call = {.kind = BE_WRITE, .op = &o.op};
        assert_true(s->dialect->build(s, &call, &r, &err) < 0);
        assert_int_equal(err.cls, ERR_INVALID);
        dialect_request_fini(&r);
    }
    s->dialect->release(s);
}

/* --- answers */

static int parse_page(const struct dialect_site *s, const struct dialect_call *call, int status, const char *body,
                      const struct kvlist *headers, uint64_t got, struct dialect_page *page, struct errinfo *err)
{
    static const struct kvlist none;
    struct dialect_answer a = {.http_status = status,
                               .headers = headers ? headers : &none,
                               .body = body,
                               .body_len = strlen(body),
                               .body_got = got,
                               .signed_s = WALL};
    *err = (struct errinfo){0};
    return s->dialect->parse(s, call, &a, page, err);
}

static int parse_call(const struct dialect_site *s, const struct dialect_call *call, const char *body, struct errinfo *err)
{
    struct dialect_page page = {0};
    int rc = parse_page(s, call, 200, body, NULL, 0, &page, err);
    dialect_page_fini(&page);
    return rc;
}

static void checks_hashes(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    struct errinfo err;
    struct be_write w = {.op = {.key = "k"}, .data = "hello world", .len = 11};
    struct dialect_call write = {.kind = BE_WRITE, .op = &w.op};
    assert_int_equal(parse_call(s, &write, "{\"hash\":\"FiqubDXJT8+0Fdvp0vEkrspKy4Yb\",\"key\":\"k\"}", &err), -EIO);
    assert_int_equal(err.cls, ERR_INTEGRITY);
    assert_string_equal(w.object.etag, "");
    uint8_t hash[DIGEST_QETAG_LEN];
    char text[32];
    digest_qetag("hello world", 11, hash);
    qiniu_etag(hash, text);
    CLEANUP(mem_freep) char *good = mem_printf("{\"hash\":\"%s\",\"key\":\"k\"}", text);
    assert_int_equal(parse_call(s, &write, good, &err), 0);
    assert_string_equal(w.object.etag, text);
    assert_int_equal(parse_call(s, &write, "{\"key\":\"k\"}", &err), -EIO);
    assert_int_equal(err.cls, ERR_TRANSIENT);

    /* a whole object that was read is what its hash says */
    char buf[16] = "hello worlD";
    struct be_read r = {.op = {.key = "k"}, .len = sizeof(buf), .buf = buf};
    struct dialect_call read = {.kind = BE_READ, .op = &r.op};
    struct dialect_page page = {0};
    CLEANUP(kv_fini) struct kvlist headers = {0};
    CLEANUP(mem_freep) char *quoted = mem_printf("\"%s\"", text);
    kv_set(&headers, "etag", quoted);
    kv_set(&headers, "content-type", "text/plain");
    kv_set(&headers, "cache-control", "public, max-age=31536000");
    kv_set(&headers, "content-disposition", "inline; filename=\"k\"; filename*=utf-8''k");
    kv_set(&headers, "X-Qn-Meta-Note", "utf8-base64,NTAlIMOk");
    kv_set(&headers, "X-Qn-Meta-Esc-Xattr-User_2enote_5fb", "1");
    kv_set(&headers, "x-qn-meta-esc-odd", "2");
    kv_set(&headers, "x-qn-meta-esc-odd_2", "3");
    kv_set(&headers, "x-qn-meta-foreign", "utf8-base64,YQ=="); /* nothing that we would have written */
    assert_int_equal(parse_page(s, &read, 200, "", &headers, 11, &page, &err), -EIO);
    assert_int_equal(err.cls, ERR_INTEGRITY);
    buf[10] = 'd';
    assert_int_equal(parse_page(s, &read, 200, "", &headers, 11, &page, &err), 0);
    assert_string_equal(kv_get(&r.meta, "meta-note"), "50% \xc3\xa4");
    assert_string_equal(kv_get(&r.meta, "meta-xattr-user.note_b"), "1");
    assert_string_equal(kv_get(&r.meta, "meta-esc-odd"), "2");
    assert_string_equal(kv_get(&r.meta, "meta-esc-odd_2"), "3");
    assert_string_equal(kv_get(&r.meta, "meta-foreign"), "utf8-base64,YQ==");
    assert_string_equal(kv_get(&r.meta, "content-type"), "text/plain");
    /* what the domain says by itself is nobody's metadata */
    assert_null(kv_get(&r.meta, "cache-control"));
    assert_null(kv_get(&r.meta, "content-disposition"));
    be_read_fini(&r);
    kv_set(&headers, "etag", NULL);
    assert_int_equal(parse_page(s, &read, 200, "", &headers, 11, &page, &err), -EIO);
    s->dialect->release(s);
}

/* The hashes of objects made of parts, from the vectors. */
static void checks_commits(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    json_t *all = vectors_load("checksums"), *c, *size;
    size_t i, k, checked = 0;
    json_array_foreach(json_object_get(all, "multipart_cases"), i, c)
    {
        const char *expected =
            vector_text(json_object_get(c, "expected"), "qetag_after_resumable_v2_with_these_parts");
        struct be_part_id parts[16] = {{0}};
        size_t n = (size_t)json_integer_value(json_object_get(json_object_get(c, "input"), "len")), at = 0;
        CLEANUP(mem_freep) uint8_t *data = mem_zalloc(n);
        for (size_t b = 0; b < n; b++) {
            data[b] = (uint8_t)(b % 251);
        }
        json_array_foreach(json_object_get(c, "part_sizes"), k, size)
        {
            uint8_t hash[DIGEST_QETAG_LEN];
            parts[k].number = (unsigned)k + 1;
            parts[k].size = (uint64_t)json_integer_value(size);
            digest_qetag(data + at, (size_t)parts[k].size, hash);
            qiniu_etag(hash, parts[k].etag);
            at += (size_t)parts[k].size;
        }
        struct be_commit o = {.op = {.key = "k"}, .upload_id = "u", .parts = parts, .n_parts = k};
        struct dialect_call call = {.kind = BE_MP_COMMIT, .op = &o.op};
        struct errinfo err;
        CLEANUP(mem_freep) char *good = mem_printf("{\"hash\":\"%s\"}", expected);
        assert_int_equal(parse_call(s, &call, good, &err), 0);
        assert_string_equal(o.object.etag, expected);
        assert_int_equal(o.object.size, n);
        parts[0].etag[5] = parts[0].etag[5] == 'A' ? 'B' : 'A';
        o.object = (struct be_object){0};
        assert_int_equal(parse_call(s, &call, good, &err), -EIO);
        assert_int_equal(err.cls, ERR_INTEGRITY);
        checked++;
    }
    assert_true(checked >= 5);
    json_decref(all);
    s->dialect->release(s);
}

/* Markers are opaque: a list that begins after a key reads whole pages until it is there. */
static void lists_after_a_key(void **state)
{
    (void)state;
    static const char page1[] = "{\"marker\":\"M1\",\"items\":["
                                "{\"key\":\"a\",\"hash\":\"h\",\"fsize\":1,\"putTime\":16000000000000007},"
                                "{\"key\":\"d\",\"hash\":\"h\",\"fsize\":1,\"type\":2},{\"key\":\"\",\"hash\":\"h\",\"fsize\":1},"
                                "{\"key\":\"z\\u0000\",\"hash\":\"h\",\"fsize\":1}],\"commonPrefixes\":[\"b/\",\"c/\"]}";
    struct dialect_site *s = kodo();
    struct dialect_request r = {0};
    struct dialect_page page = {0};
    struct errinfo err;
    struct be_list l = {.prefix = "", .delimiter = '/', .start_after = "a", .max = 2};
    struct dialect_call call = {.kind = BE_LIST, .op = &l.op};
    build_call(s, &call, &r);
    assert_string_equal(kv_get(&r.query, "limit"), "1000");
    assert_null(kv_get(&r.query, "marker"));
    assert_header(&r, "host", "rsf-z0.qiniuapi.com");
    assert_int_equal(parse_page(s, &call, 200, page1, NULL, 0, &page, &err), 0);
    assert_int_equal(page.unshowable, 2);
    assert_int_equal(l.n_entries, 2);
    assert_string_equal(l.entries[0].key, "b/");
    assert_true(l.entries[0].is_prefix);
    assert_string_equal(l.next_cursor, "+\nc/");

    /* the rest of that page */
    CLEANUP(mem_freep) char *cursor = TAKE(l.next_cursor);
    be_list_fini(&l);
    l.start_after = NULL;
    l.cursor = cursor;
    build_call(s, &call, &r);
    assert_null(kv_get(&r.query, "marker"));
    assert_int_equal(parse_page(s, &call, 200, page1, NULL, 0, &page, &err), 0);
    assert_int_equal(l.n_entries, 1);
    assert_string_equal(l.entries[0].key, "d");
    assert_string_equal(l.entries[0].object.storage_class, "GLACIER");
    assert_string_equal(l.next_cursor, "-M1\nd");

    /* from there on as anybody: pages of what was asked for, and nothing twice */
    CLEANUP(mem_freep) char *second = TAKE(l.next_cursor);
    be_list_fini(&l);
    l.cursor = second;
    build_call(s, &call, &r);
    assert_string_equal(kv_get(&r.query, "limit"), "2");
    assert_string_equal(kv_get(&r.query, "marker"), "M1");
    static const char page2[] = "{\"items\":[{\"key\":\"d\",\"hash\":\"h\",\"fsize\":1},"
                                "{\"key\":\"e\",\"hash\":\"h\",\"fsize\":1}],\"marker\":\"\"}";
    assert_int_equal(parse_page(s, &call, 200, page2, NULL, 0, &page, &err), 0);
    assert_int_equal(l.n_entries, 1);
    assert_string_equal(l.entries[0].key, "e");
    assert_null(l.next_cursor);
    be_list_fini(&l);

    static const char *const garbled[] = {
        "[]",
        "{}",
        "{\"marker\":\"M\"}",
        "{\"items\":{}}",
        "{\"items\":\"\"}",
        "{\"items\":[{\"key\":\"d\"}]}",
        "{\"items\":[{\"key\":7,\"hash\":\"h\",\"fsize\":1}]}",
        "{\"items\":[{\"hash\":\"h\",\"fsize\":1}]}",
        "{\"items\":[],\"commonPrefixes\":{}}",
        "{\"items\":[],\"commonPrefixes\":[7]}",
        "{\"items\":[],\"marker\":7}",
        "{\"items\":[],\"marker\":\"a\\u0000\"}",
        "{\"items\":[],\"error\":\"slow\\ndown\"}",
        "{\"items\":[],\"error\":null}",
    };
    for (size_t i = 0; i < ARRAY_LEN(garbled); i++) {
        if (parse_call(s, &call, garbled[i], &err) == 0) {
            fail_msg("%s is a list", garbled[i]);
        }
        assert_int_equal(err.cls, ERR_TRANSIENT);
        assert_null(l.entries);
        assert_null(l.next_cursor);
    }
    static const char *const none[] = {
        "{\"items\":[]}",
        "{\"items\":null}",
        "{\"items\":null,\"marker\":null,\"commonPrefixes\":null}",
        "{\"items\":[],\"marker\":\"\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        assert_int_equal(parse_call(s, &call, none[i], &err), 0);
        assert_true(l.n_entries == 0 && !l.next_cursor);
        be_list_fini(&l);
    }
    struct be_parts p = {.op = {.key = "k"}, .upload_id = "u"};
    struct dialect_call parts = {.kind = BE_MP_PARTS, .op = &p.op};
    assert_int_equal(parse_call(s, &parts, "{\"uploadId\":\"u\",\"parts\":null}", &err), 0);
    assert_true(parse_call(s, &parts, "{\"uploadId\":\"u\"}", &err) < 0);
    assert_true(parse_call(s, &parts, "{\"uploadId\":\"u\",\"parts\":{}}", &err) < 0);
    l.cursor = "M1";
    assert_true(s->dialect->build(s, &call, &r, &err) < 0);
    dialect_request_fini(&r);
    s->dialect->release(s);
}

/* Steps of a copy: source, bytes, metadata, class, look. */
static const char *step(const struct dialect_site *s, struct dialect_call *call, struct dialect_page *page,
                        const char *body, const char *path)
{
    struct dialect_request r = {0};
    struct dialect_page next = {0};
    struct errinfo err;
    build_call(s, call, &r);
    if (strncmp(buf_str(&r.path), path, strlen(path)) != 0) {
        fail_msg("%s instead of %s", buf_str(&r.path), path);
    }
    dialect_request_fini(&r);
    if (parse_page(s, call, 200, body, NULL, 0, &next, &err) != 0) {
        fail_msg("%s: %s", path, err.message);
    }
    dialect_page_fini(page);
    *page = next;
    call->page[0] = page->next[0];
    call->page[1] = page->next[1];
    return page->next[0] ? page->next[0] : "end";
}

#define STAT(more) "{\"hash\":\"Fh\",\"fsize\":5,\"mimeType\":\"text/x\",\"putTime\":17000000000000007" more "}"

static void copies_in_steps(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    struct dialect_page page = {0};
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "content-type", "text/x");
    kv_set(&meta, "meta-a", "1");
    struct be_copy o = {.op = {.key = "to"}, .src_key = "from", .src_etag = "Fh", .size = 5, .meta = &meta};
    struct dialect_call call = {.kind = BE_COPY, .op = &o.op, .src = s};
    /* the source has it all: the copy is made, and looked at: no request had a condition */
    assert_string_equal(step(s, &call, &page, STAT(",\"x-qn-meta\":{\"a\":\"1\"}"), "/stat/"), QINIU_COPY);
    assert_string_equal(step(s, &call, &page, "", "/copy/"), QINIU_LOOK);
    struct errinfo err;
    assert_true(parse_call(s, &call, "{\"hash\":\"Fi\",\"fsize\":5}", &err) < 0);
    assert_int_equal(err.cls, ERR_PRECOND);
    assert_string_equal(step(s, &call, &page, STAT(",\"x-qn-meta\":{\"a\":\"1\"}"), "/stat/Ymt0OnRv"), "end");
    assert_string_equal(o.object.etag, "Fh");
    assert_int_equal(o.object.size, 5);
    /* something is to change, something to go, and another class */
    kv_set(&meta, "storage-class", "LINE");
    assert_string_equal(step(s, &call, &page, STAT(",\"x-qn-meta\":{\"b\":\"1\"}"), "/stat/"), QINIU_COPY);
    assert_string_equal(step(s, &call, &page, "", "/copy/"), QINIU_META);
    assert_string_equal(step(s, &call, &page, "", "/chgm/"), QINIU_TYPE);
    assert_string_equal(step(s, &call, &page, "", "/chtype/Ymt0OnRv/type/1"), QINIU_LOOK);
    assert_true(parse_call(s, &call, STAT(",\"x-qn-meta\":{\"a\":\"1\",\"b\":\"1\"}"), &err) < 0);
    assert_int_equal(err.cls, ERR_INVALID);
    assert_string_equal(step(s, &call, &page, STAT(",\"type\":1,\"x-qn-meta\":{\"a\":\"1\"}"), "/stat/Ymt0OnRv"), "end");
    dialect_page_fini(&page);
    s->dialect->release(s);
}

static void refuses_copies(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    struct errinfo err;
    struct be_copy o = {.op = {.key = "to"}, .src_key = "from", .src_etag = "Fother", .size = 5};
    struct dialect_call call = {.kind = BE_COPY, .op = &o.op, .src = s};
    assert_int_equal(parse_call(s, &call, STAT(""), &err), -ESTALE);
    assert_int_equal(err.cls, ERR_PRECOND);
    o.src_etag = NULL;
    assert_true(parse_call(s, &call, STAT(",\"type\":3,\"restoreStatus\":1"), &err) < 0);
    assert_int_equal(err.cls, ERR_ARCHIVED);
    assert_non_null(strstr(err.message, "DEEP_ARCHIVE"));
    assert_int_equal(parse_call(s, &call, STAT(",\"type\":3,\"restoreStatus\":2"), &err), 0);
    struct dialect_request r = {0};
    call.src = NULL;
    assert_int_equal(s->dialect->build(s, &call, &r, &err), -EOPNOTSUPP);
    dialect_request_fini(&r);
    s->dialect->release(s);
}

static void knows_no_list_of_uploads(void **state)
{
    (void)state;
    struct dialect_site *s = kodo();
    struct errinfo err = {0};
    struct be_uploads o = {.prefix = ""};
    struct dialect_call call = {.kind = BE_MP_UPLOADS, .op = &o.op};
    assert_int_equal(s->dialect->local(s, &call, &err), 1);
    assert_true(s->caps & BE_CAP_MP_UNLISTED);
    s->dialect->release(s);
}

static void removes_many(void **state)
{
    (void)state;
    static const char *const keys[] = {"a", "b", "c", "d"};
    static const size_t chosen[] = {3, 0, 1};
    struct dialect_site *s = kodo();
    struct errinfo errs[4] = {{0}}, err;
    struct be_many o = {.keys = keys, .n_keys = 4};
    struct dialect_call call = {.kind = BE_REMOVE_MANY, .op = &o.op, .chosen = chosen, .n_chosen = 3, .errs = errs};
    struct dialect_request r = {0};
    struct dialect_page page = {0};
    build_call(s, &call, &r);
    assert_true(holds(&r, "op=%2Fdelete%2FYmt0OmQ%3D&op=%2Fdelete%2FYmt0OmE%3D&op="));
    assert_int_equal(parse_page(s, &call, 298, "[{\"code\":200},{\"code\":612,\"data\":{\"error\":\"no such file\"}},"
                                "{\"code\":573,\"data\":{\"error\":\"slow\"}}]", NULL, 0, &page, &err), 0);
    assert_int_equal(errs[3].cls, ERR_NONE);
    assert_int_equal(errs[0].cls, ERR_NONE);
    assert_int_equal(errs[1].cls, ERR_THROTTLED);
    assert_true(parse_call(s, &call, "[{\"code\":200}]", &err) < 0);
    assert_int_equal(err.cls, ERR_TRANSIENT);
    dialect_request_fini(&r);
    s->dialect->release(s);
}

static void classifies(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *message;
        enum be_kind kind;
        enum err_class cls;
        const char *code;
    } cases[] = {
        {400, "bad request", BE_STAT, ERR_INVALID, "BadRequest"},
        {400, "incorrect region, please use up-z2.qiniup.com", BE_WRITE, ERR_INVALID, "IncorrectRegion"},
        {401, "bad token", BE_STAT, ERR_AUTH, "BadToken"},
        {401, "expired token", BE_WRITE, ERR_SKEW, "RequestExpired"},
        {401, "download token not specified", BE_READ, ERR_AUTH, "BadToken"},
        {403, "forbidden", BE_STAT, ERR_AUTH, "Forbidden"},
        {403, "invalid object status", BE_READ, ERR_ARCHIVED, "InvalidObjectStatus"},
        {404, "Document not found", BE_READ, ERR_ABSENT, "NotFound"},
        {404, "404 page not found", BE_STAT, ERR_INVALID, "NotFound"},
        {404, "", BE_LIST, ERR_INVALID, "NotFound"},
        {404, "", BE_REMOVE, ERR_INVALID, "NotFound"},
        {404, "", BE_MP_PART, ERR_INVALID, "NotFound"},
        {406, "md5 mismatch", BE_MP_PART, ERR_INTEGRITY, "ChecksumMismatch"},
        {419, "", BE_STAT, ERR_QUOTA, "AccountFrozen"},
        {429, "", BE_STAT, ERR_THROTTLED, ""},
        {500, "", BE_STAT, ERR_TRANSIENT, ""},
        {503, "", BE_STAT, ERR_THROTTLED, ""},
        {573, "", BE_WRITE, ERR_THROTTLED, "TooManyRequests"},
        {579, "callback failed", BE_WRITE, ERR_INVALID, "CallbackFailed"},
        {599, "", BE_STAT, ERR_TRANSIENT, ""},
        {608, "", BE_WRITE, ERR_PRECOND, "ContentModified"},
        {612, "", BE_STAT, ERR_ABSENT, "NoSuchKey"},
        {612, "no such uploadId", BE_MP_PART, ERR_ABSENT, "NoSuchUpload"},
        {614, "", BE_WRITE, ERR_PRECOND, "FileExists"},
        {631, "", BE_LIST, ERR_ABSENT, "NoSuchBucket"},
        {640, "", BE_LIST, ERR_INVALID, "InvalidMarker"},
        {701, "", BE_MP_COMMIT, ERR_ABSENT, "NoSuchUpload"},
    };
    struct dialect_site *s = kodo();
    CLEANUP(kv_fini) struct kvlist headers = {0};
    kv_set(&headers, "x-reqid", "abc");
    kv_set(&headers, "retry-after", "7");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(mem_freep) char *body = mem_printf("{\"error\":\"%s\"}", cases[i].message);
        struct be_read o = {.op = {.key = "k"}, .len = 1};
        struct dialect_call call = {.kind = cases[i].kind, .op = &o.op};
        struct dialect_answer a = {.http_status = cases[i].status, .headers = &headers, .body = body, .body_len = strlen(body)};
        struct errinfo err = {0};
        s->dialect->classify(s, &call, &a, &err);
        if (err.cls != cases[i].cls) {
            fail_msg("%d %s: %s", cases[i].status, cases[i].message, err_class_name(err.cls));
        }
        assert_string_equal(err.code, cases[i].code);
        assert_string_equal(err.request_id, "abc");
        assert_int_equal(err.retry_after_ms, 7000);
        assert_true(err.message[0] != '\0');
        assert_int_equal(err.outcome_unknown, cases[i].status == 579);
        assert_int_equal(strstr(err.message, "check region, endPoint or domain in [r]") != NULL,
                         cases[i].status == 404 && cases[i].cls == ERR_INVALID);
    }
    /* what is asked of rs, not of the domain */
    struct be_read o = {.op = {.key = "k"}, .len = 1};
    struct dialect_call call = {.kind = BE_READ, .op = &o.op, .head = true};
    struct dialect_answer a = {.http_status = 404, .headers = &headers, .body = ""};
    struct errinfo err = {0};
    s->dialect->classify(s, &call, &a, &err);
    assert_int_equal(err.cls, ERR_INVALID);
    call.head = false;
    o.len = 0;
    s->dialect->classify(s, &call, &a, &err);
    assert_int_equal(err.cls, ERR_INVALID);
    s->dialect->release(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_hosts),      cmocka_unit_test(refuses_settings),
        cmocka_unit_test(signs_reads_in_the_url), cmocka_unit_test(sends_forms),
        cmocka_unit_test(keeps_fields_in_the_form),
        cmocka_unit_test(refuses_metadata),  cmocka_unit_test(checks_hashes),
        cmocka_unit_test(checks_commits),    cmocka_unit_test(lists_after_a_key),
        cmocka_unit_test(copies_in_steps),   cmocka_unit_test(refuses_copies),
        cmocka_unit_test(knows_no_list_of_uploads), cmocka_unit_test(removes_many),
        cmocka_unit_test(classifies),
    };
    return cmocka_run_group_tests_name("dialect_qiniu", tests, NULL, NULL);
}
