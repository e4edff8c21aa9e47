/* The XML reader and the documents built on it, mostly against what no honest server sends. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "mem.h"
#include "s3xml.h"
#include "xml.h"

/* --- the reader */

static int trace_close(void *ctx, const char *path, const char *text, size_t n)
{
    return buf_addf(ctx, "%s=%.*s;", path, (int)n, text);
}

static int stop_close(void *ctx, const char *path, const char *text, size_t n)
{
    (void)ctx;
    (void)text;
    (void)n;
    return strcmp(path, "a/stop") == 0 ? -ECANCELED : 0;
}

static const struct xml_handler tracer = {.close = trace_close};

/* Parses in steps of `step` bytes. */
static int trace(const char *doc, size_t n, size_t step, struct buf *out)
{
    CLEANUP(xml_freep) struct xml_reader *x = xml_new(&tracer, out, 1u << 24);
    for (size_t i = 0; i < n; i += step) {
        int err = xml_feed(x, doc + i, MIN(step, n - i));
        if (err < 0) {
            assert_int_equal(xml_feed(x, " ", 1), err); /* sticky */
            assert_int_equal(xml_finish(x), err);
            return err;
        }
    }
    return xml_finish(x);
}

static int trace_text(const char *doc)
{
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    return trace(doc, strlen(doc), SIZE_MAX / 2, &out);
}

static void tells_leaves_by_path(void **state)
{
    (void)state;
    static const char doc[] =
        "\r\n  <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<r xmlns=\"urn:x\"><a>1 &amp; &#50;</a>"
        "<!-- no --><n:b xmlns:n=\"urn:y\"><c><![CDATA[<x>]]></c></n:b><d/></r>\n\n";
    for (size_t step = 1; step < sizeof(doc); step++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        assert_int_equal(trace(doc, sizeof(doc) - 1, step, &out), 0);
        assert_string_equal(buf_str(&out), "r/a=1 & 2;r/b/c=<x>;r/b=;r/d=;r=;");
    }
}

static void refuses_what_is_no_document(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " \n",
        "<",
        "<a",
        "<a>",
        "<a><b></a></b>",
        "<a></a><b></b>",
        "<a></a>x",
        "no xml",
        "{\"json\": 1}",
        "<a:/>",
        "<a><b:></b:></a>",
        "<a>&nbsp;</a>",
        "<a>\x01</a>",
        "<a>&#1;</a>",
        "<a>\xff</a>",
        "<a>\xc3</a>",
        "<a b=c></a>",
        "<a b='1' b='2'/>",
        "<a>&#xd800;</a>",
        "<a>]]></a>",
        "<html><body><br></body></html>",
        "\xff\xfe<\0a\0>\0",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(trace_text(bad[i]), -EBADMSG);
    }
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    assert_int_equal(trace("<a>\0</a>", 8, 8, &out), -EBADMSG);
}

static void refuses_document_types(void **state)
{
    (void)state;
    static const char laughs[] = "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b "
                                 "\"&a;&a;&a;&a;&a;&a;&a;&a;\">"
                                 "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><l>&c;</l>";
    assert_int_equal(trace_text(laughs), -EBADMSG);
    assert_int_equal(trace_text("<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a>&x;</a>"), -EBADMSG);
    assert_int_equal(
        trace_text("<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>"), -EBADMSG);
    assert_int_equal(trace_text("<!DOCTYPE html><a/>"), -EBADMSG);
}

static void every_prefix_is_incomplete(void **state)
{
    (void)state;
    static const char doc[] = "<?xml version=\"1.0\"?><r a='1'><a>x&amp;y</a><b><c>2</c></b></r>";
    for (size_t n = 0; n < sizeof(doc) - 1; n++) {
        CLEANUP(buf_fini) struct buf out = BUF_INIT;
        assert_int_equal(trace(doc, n, 7, &out), -EBADMSG);
    }
    assert_int_equal(trace_text(doc), 0);
}

static void bounds_depth_text_and_tokens(void **state)
{
    (void)state;
    CLEANUP(buf_fini) struct buf doc = BUF_INIT;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    for (unsigned depth = XML_DEPTH_MAX - 1; depth <= XML_DEPTH_MAX + 1; depth++) {
        buf_clear(&doc);
        for (unsigned i = 0; i < depth; i++) {
            assert_int_equal(buf_adds(&doc, "<a>"), 0);
        }
        for (unsigned i = 0; i < depth; i++) {
            assert_int_equal(buf_adds(&doc, "</a>"), 0);
        }
        assert_int_equal(trace_text(buf_str(&doc)), depth <= XML_DEPTH_MAX ? 0 : -EMSGSIZE);
    }
    for (size_t n = XML_TEXT_MAX; n <= XML_TEXT_MAX + 1; n++) {
        buf_clear(&doc);
        buf_clear(&out);
        assert_int_equal(buf_adds(&doc, "<a>"), 0);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(buf_addc(&doc, 't'), 0);
        }
        assert_int_equal(buf_adds(&doc, "</a>"), 0);
        assert_int_equal(trace(doc.data, doc.len, 1000, &out), n <= XML_TEXT_MAX ? 0 : -EMSGSIZE);
    }
    /* a name, an attribute and a comment that never end: found long before they fill the memory */
    static const char *const starts[] = {"<a><", "<a><b c=\"", "<a><!-- ", "<a><?p ", "<"};
    for (size_t k = 0; k < ARRAY_LEN(starts); k++) {
        CLEANUP(xml_freep) struct xml_reader *x = xml_new(&tracer, &out, SIZE_MAX / 2);
        char more[4096];
        memset(more, 'x', sizeof(more));
        int err = xml_feed(x, starts[k], strlen(starts[k]));
        size_t fed = 0;
        for (; err == 0 && fed < (1u << 22); fed += sizeof(more)) {
            err = xml_feed(x, more, sizeof(more));
        }
        assert_int_equal(err, -EMSGSIZE);
        assert_true(fed <= 2 * XML_TOKEN_MAX);
    }
}

static void bounds_the_whole(void **state)
{
    (void)state;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    CLEANUP(xml_freep) struct xml_reader *x = xml_new(&tracer, &out, 10);
    assert_int_equal(xml_feed(x, "<a>123", 6), 0);
    assert_int_equal(xml_feed(x, "</a> ", 5), -EMSGSIZE);
}

static void stops_when_told(void **state)
{
    (void)state;
    static const struct xml_handler h = {.close = stop_close};
    CLEANUP(xml_freep) struct xml_reader *x = xml_new(&h, NULL, 1000);
    assert_int_equal(xml_feed(x, "<a><b/><stop/><b/></a>", 22), -ECANCELED);
    assert_int_equal(xml_finish(x), -ECANCELED);
}

static void reads_fields(void **state)
{
    (void)state;
    static const char doc[] =
        "<Error><Code>A</Code><Code>B</Code><Deep><Code>C</Code></Deep><Message></Message></Error>";
    struct xml_field f[] = {
        {"Error/Code", NULL}, {"*/Message", NULL}, {"Error/Deep/Code", NULL}, {"Error/No", NULL}};
    char root[XML_ROOT_MAX];
    assert_int_equal(xml_read(doc, sizeof(doc) - 1, f, ARRAY_LEN(f), root), 0);
    assert_string_equal(root, "Error");
    assert_string_equal(f[0].value, "A");
    assert_string_equal(f[1].value, "");
    assert_string_equal(f[2].value, "C");
    assert_null(f[3].value);
    xml_fields_fini(f, ARRAY_LEN(f));
}

static void knows_what_xml_carries(void **state)
{
    (void)state;
    static const char *const yes[] = {
        "", "plain", "a\tb\nc\rd", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "\x7f", "<&>\"'"};
    static const char *const no[] = {"\x01",
                                     "a\x1f",
                                     "\xff",
                                     "\xc3",
                                     "\xc0\x80",
                                     "\xed\xa0\x80",
                                     "\xf5\x80\x80\x80",
                                     "\xef\xbf\xbf",
                                     "\xef\xbf\xbe",
                                     "\xe4\xb8",
                                     "\x80",
                                     "\xf0\x80\x80\x80"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        CLEANUP(buf_fini) struct buf doc = BUF_INIT;
        struct xml_field f[] = {{"k", NULL}};
        assert_true(xml_can_carry(yes[i], strlen(yes[i])));
        assert_int_equal(buf_adds(&doc, "<k>"), 0);
        assert_int_equal(xml_escape(&doc, yes[i], strlen(yes[i])), 0);
        assert_int_equal(buf_adds(&doc, "</k>"), 0);
        assert_int_equal(xml_read(doc.data, doc.len, f, 1, NULL), 0);
        assert_string_equal(f[0].value, yes[i]);
        xml_fields_fini(f, 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        assert_false(xml_can_carry(no[i], strlen(no[i])));
    }
}

/* --- documents */

#define LIST(body)                                                                                 \
    "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\">" body "</ListBucketResult>"
#define ENTRY(key)                                                                                 \
    "<Contents><Key>" key "</Key><Size>5</Size><ETag>&quot;abc&quot;</ETag>"                       \
    "<LastModified>2023-11-14T22:13:20.123Z</LastModified><StorageClass>GLACIER</StorageClass></"  \
    "Contents>"

static int list(const char *doc, int version, bool plus, size_t step, struct be_list *ret,
                size_t *unshowable)
{
    struct s3xml_list *l = s3xml_list_new();
    struct s3xml_error e = {0};
    size_t n = strlen(doc);
    for (size_t i = 0; i < n; i += step) {
        (void)s3xml_list_feed(l, doc + i, MIN(step, n - i)); /* sticky: finish says it again */
    }
    int err = s3xml_list_finish(l, version, plus, ret, &e, unshowable);
    s3xml_error_fini(&e);
    s3xml_list_free(l);
    return err;
}

static void list_fini(struct be_list *l)
{
    for (size_t i = 0; i < l->n_entries; i++) {
        free(l->entries[i].key);
    }
    free(l->entries);
    free(l->next_cursor);
    *l = (struct be_list){0};
}

static void lists(void **state)
{
    (void)state;
    static const char doc[] =
        LIST("<Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
             "<NextContinuationToken>tok en</NextContinuationToken>" ENTRY("b%2Bc+d")
                 ENTRY("a%25") "<CommonPrefixes><Prefix>dir%20/</Prefix></CommonPrefixes>"
                               "<CommonPrefixes><Prefix>aa/</Prefix></CommonPrefixes>");
    for (size_t step = 1; step < 50; step++) {
        CLEANUP(list_fini) struct be_list l = {0};
        size_t unshowable;
        assert_int_equal(list(doc, 2, true, step, &l, &unshowable), 0);
        assert_int_equal(l.n_entries, 4);
        assert_string_equal(l.entries[0].key, "a%");
        assert_string_equal(l.entries[1].key, "aa/");
        assert_true(l.entries[1].is_prefix);
        assert_string_equal(l.entries[2].key, "b+c d");
        assert_string_equal(l.entries[3].key, "dir /");
        assert_int_equal(l.entries[0].object.size, 5);
        assert_string_equal(l.entries[0].object.etag, "abc");
        assert_string_equal(l.entries[0].object.storage_class, "GLACIER");
        assert_true(l.entries[0].object.mtime_ns == INT64_C(1700000000) * 1000000000);
        assert_string_equal(l.next_cursor, "ttok en");
    }
    CLEANUP(list_fini) struct be_list l = {0};
    size_t unshowable;
    assert_int_equal(list(doc, 1, false, 100, &l, &unshowable),
                     0); /* only %XX, and marker listing */
    assert_string_equal(l.entries[2].key, "b+c+d");
    assert_string_equal(l.next_cursor, "kdir /");
}

static void lists_what_servers_get_wrong(void **state)
{
    (void)state;
    size_t unshowable;
    CLEANUP(list_fini) struct be_list a = {0};
    /* Ceph: forbidden references in what it echoes, and a marker that is not encoded */
    assert_int_equal(
        list(LIST("<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>" ENTRY(
                 "x%2F%01z") "<StartAfter>&#x01;&#2;\n&#x0d;&#60;</StartAfter>"
                             "<NextContinuationToken>x/&#x01;z</NextContinuationToken>"),
             2, true, 3, &a, &unshowable),
        0);
    assert_string_equal(a.entries[0].key, "x/\x01z");
    assert_string_equal(a.next_cursor, "kx/\x01z");
    list_fini(&a);
    assert_int_equal(
        list(LIST("<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>" ENTRY(
                 "50%25") "<NextMarker>50%</NextMarker>"),
             1, true, 9, &a, &unshowable),
        0);
    assert_string_equal(a.next_cursor, "k50%");
    list_fini(&a);
    /* keys that are not encoded must not have been mended */
    assert_int_equal(list(LIST(ENTRY("x&#x01;")), 1, true, 9, &a, &unshowable), -EBADMSG);
    assert_int_equal(list(LIST(ENTRY("x\x01")), 1, true, 9, &a, &unshowable), -EBADMSG);
    /* NUL bytes */
    assert_int_equal(list(LIST("<EncodingType>url</EncodingType>" ENTRY("a%00b") ENTRY("c")), 2,
                          true, 9, &a, &unshowable),
                     0);
    assert_int_equal(unshowable, 1);
    assert_int_equal(a.n_entries, 1);
    list_fini(&a);
    /* no key at all, encoded or not */
    for (int encoded = 0; encoded < 2; encoded++) {
        assert_int_equal(list(encoded ? LIST("<EncodingType>url</EncodingType>" ENTRY("") ENTRY("c"))
                                      : LIST(ENTRY("") ENTRY("c")),
                              2, true, 9, &a, &unshowable),
                         0);
        assert_int_equal(unshowable, 1);
        assert_int_equal(a.n_entries, 1);
        list_fini(&a);
    }
    /* a page may be empty and not the last */
    assert_int_equal(list(LIST("<IsTruncated>true</IsTruncated><NextMarker>m</NextMarker>"), 1,
                          true, 9, &a, &unshowable),
                     0);
    assert_string_equal(a.next_cursor, "km");
}

static void refuses_bad_lists(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "x",
        "<ListBucketResult>",
        "<Other/>",
        LIST("<Contents><Key>k</Key></Contents>"),
        LIST("<Contents><Size>1</Size></Contents>"),
        LIST("<Contents><Key>k</Key><Size>-1</Size></Contents>"),
        LIST("<Contents><Key>k</Key><Size>99999999999999999999</Size></Contents>"),
        LIST("<IsTruncated>true</IsTruncated>"),
        LIST("<EncodingType>url</EncodingType>" ENTRY("50%")),
        LIST("<Contents><Key>k</Key><Size>1</Size><ETag>a b</ETag></Contents>"),
        LIST("<CommonPrefixes></CommonPrefixes>") "<x/>",
        "<!DOCTYPE ListBucketResult [<!ENTITY a 'b'>]>" LIST(""),
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        for (int version = 1; version <= 2; version++) {
            struct be_list l = {0};
            size_t unshowable;
            assert_int_equal(list(bad[i], version, true, 5, &l, &unshowable), -EBADMSG);
            assert_null(l.entries);
            assert_null(l.next_cursor);
        }
    }
    struct be_list l = {0};
    size_t unshowable;
    assert_int_equal(list("<Error><Code>SlowDown</Code></Error>", 1, true, 5, &l, &unshowable),
                     -EREMOTEIO);
    /* any cut of a good page is refused */
    static const char good[] = LIST(ENTRY("a") ENTRY("b"));
    for (size_t n = 0; n < sizeof(good) - 1; n++) {
        CLEANUP(mem_freep) char *cut = mem_strndup(good, n);
        assert_int_equal(list(cut, 2, true, 64, &l, &unshowable), -EBADMSG);
    }
}

static void parts_and_uploads(void **state)
{
    (void)state;
    struct be_part_id *parts = NULL;
    struct be_upload *uploads = NULL;
    char *next = NULL, *id = NULL;
    size_t n = 0;
#define PARTS(b) "<ListPartsResult>" b "</ListPartsResult>"
#define PART(i) "<Part><PartNumber>" i "</PartNumber><ETag>\"e\"</ETag><Size>7</Size></Part>"
    static const char ok[] = PARTS(
        "<IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>" PART("1")
            PART("2"));
    assert_int_equal(s3xml_parts(ok, sizeof(ok) - 1, &parts, &n, &next), 0);
    assert_int_equal(n, 2);
    assert_int_equal(parts[1].number, 2);
    assert_string_equal(parts[1].etag, "e");
    assert_string_equal(next, "2");
    free(parts);
    free(next);
    static const char *const bad[] = {PARTS(PART("2") PART("1")),
                                      PARTS(PART("0")),
                                      PARTS(PART("x")),
                                      PARTS(PART("4294967297")),
                                      PARTS("<Part><PartNumber>1</PartNumber></Part>"),
                                      PARTS("<IsTruncated>true</IsTruncated>" PART("1")),
                                      "<Error><Code>NoSuchUpload</Code></Error>",
                                      "<ListPartsResult>"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(s3xml_parts(bad[i], strlen(bad[i]), &parts, &n, &next), -EBADMSG);
    }
    static const char up[] =
        "<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>true</"
        "IsTruncated>"
        "<NextKeyMarker>a%2Fb</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
        "<Upload><Key>a%2Fb</Key><UploadId>u</UploadId><Owner><ID>x</ID></Owner>"
        "<Initiated>2023-11-14T22:13:20.000Z</Initiated></Upload>"
        "<Upload><Key>nul%00</Key><UploadId>v</UploadId></Upload></ListMultipartUploadsResult>";
    assert_int_equal(s3xml_uploads(up, sizeof(up) - 1, true, &uploads, &n, &next, &id), 0);
    assert_int_equal(n, 1);
    assert_string_equal(uploads[0].key, "a/b");
    assert_string_equal(uploads[0].upload_id, "u");
    assert_true(uploads[0].initiated_ns == INT64_C(1700000000) * 1000000000);
    assert_string_equal(next, "a/b");
    assert_string_equal(id, "u");
    free(uploads[0].key);
    free(uploads[0].upload_id);
    free(uploads);
    free(next);
    free(id);
}

static int count_failure(void *ctx, const char *key, const char *code, const char *message)
{
    (void)message;
    return buf_addf(ctx, "%s:%s;", key, code);
}

static void deletes(void **state)
{
    (void)state;
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    static const char doc[] = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b&amp;\r</"
                              "Key><Code>AccessDenied</Code>"
                              "</Error><Error><Key>c</Key><Code>InternalError</Code><Message>m</"
                              "Message></Error></DeleteResult>";
    assert_int_equal(s3xml_deletes(doc, sizeof(doc) - 1, false, count_failure, &out), 0);
    assert_string_equal(buf_str(&out), "b&\n:AccessDenied;c:InternalError;");
    static const char *const bad[] = {"<DeleteResult><Error><Code>x</Code></Error></DeleteResult>",
                                      "<DeleteResult>", "", "<Error><Code>x</Code></Error>"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(s3xml_deletes(bad[i], strlen(bad[i]), false, count_failure, &out), -EBADMSG);
    }
    const char *const keys[] = {"a<b", "c\r\n", "x"};
    const size_t chosen[] = {0, 1};
    buf_clear(&out);
    assert_int_equal(s3xml_delete_body(keys, chosen, 2, true, &out), 0);
    assert_non_null(strstr(
        buf_str(&out),
        "<Quiet>true</Quiet><Object><Key>a&lt;b</Key></Object><Object><Key>c&#13;&#10;</Key>"));
}

static void errors(void **state)
{
    (void)state;
    struct s3xml_error e = {0};
    static const char doc[] =
        "\n<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>gone</Message>"
        "<RequestId>r</RequestId><Key>cut o";
    assert_true(s3xml_error(doc, sizeof(doc) - 1, &e));
    assert_string_equal(e.code, "NoSuchKey");
    assert_string_equal(e.message, "gone");
    assert_string_equal(e.request_id, "r");
    s3xml_error_fini(&e);
    static const char *const none[] = {"", "<html>", "<Error></Error>",
                                       "<Error><Code></Code></Error>", "<X><Code>a</Code></X>"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        assert_false(s3xml_error(none[i], strlen(none[i]), &e));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_leaves_by_path),
        cmocka_unit_test(refuses_what_is_no_document),
        cmocka_unit_test(refuses_document_types),
        cmocka_unit_test(every_prefix_is_incomplete),
        cmocka_unit_test(bounds_depth_text_and_tokens),
        cmocka_unit_test(bounds_the_whole),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(reads_fields),
        cmocka_unit_test(knows_what_xml_carries),
        cmocka_unit_test(lists),
        cmocka_unit_test(lists_what_servers_get_wrong),
        cmocka_unit_test(refuses_bad_lists),
        cmocka_unit_test(parts_and_uploads),
        cmocka_unit_test(deletes),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
