/* The object-store driver against a server that misbehaves as told: what is tried again and what is
 * not, what is known about an outcome, what is believed of an answer. */
#include "objstore_fixture.h"

static int setup(void **state)
{
    return objstore_setup("s3");
}

#define ERROR(code) "<Error><Code>" code "</Code></Error>"

static struct be_write writing(void)
{
    return (struct be_write){.op = {.key = "k", .lane = BE_LANE_SMALL}, .data = "abc", .len = 3};
}

/* --- trying again */

static void tries_again_and_signs_again(void **state)
{
    (void)state;
    struct be_stat o = {.op = {.key = "a b"}};
    ANSWER(.status = 500, .no_body = true);
    ANSWER(.what = PEER_RESET);
    ANSWER(.body = "12345", .no_body = true, .headers = "ETag: \"e\"\r\n");
    assert_int_equal(BE_SYNC(be, be_stat, &o), 0);
    assert_int_equal(o.object.size, 5);
    assert_true(peer_n_requests(peer) >= 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_head(i, "HEAD /bkt-1250000000/a%20b HTTP/1.1\r\n");
        assert_head(i, "authorization: AWS4-HMAC-SHA256 Credential=AKID/");
    }
}

static void gives_up_after_so_many_tries(void **state)
{
    (void)state;
    struct be_stat o = {.op = {.key = "k"}};
    peer_fallback(peer, &(struct peer_step){.status = 503, .no_body = true});
    (void)BE_SYNC(be, be_stat, &o);
    assert_fails(&o.op, -EIO, ERR_THROTTLED, false, 3);
    assert_int_equal(o.op.err.attempts, 3);
    assert_int_equal(o.op.err.http_status, 503);
}

static void obeys_retry_after(void **state)
{
    (void)state;
    struct be_stat o = {.op = {.key = "k"}};
    ANSWER(.status = 503, .no_body = true, .headers = "Retry-After: 1\r\n");
    ANSWER(.status = 200, .no_body = true, .headers = "ETag: \"e\"\r\n");
    int64_t before = time_mono_ns();
    assert_int_equal(BE_SYNC(be, be_stat, &o), 0);
    assert_true(time_mono_ns() - before >= 1000000000);
}

static void final_failures_are_final(void **state)
{
    (void)state;
    static const struct {
        int status, err;
        const char *body;
        enum err_class cls;
    } cases[] = {
        {403, -EACCES, ERROR("AccessDenied"), ERR_AUTH},
        {404, -ENOENT, ERROR("NoSuchBucket"), ERR_ABSENT},
        {400, -EINVAL, ERROR("InvalidArgument"), ERR_INVALID},
        {412, -ESTALE, ERROR("PreconditionFailed"), ERR_PRECOND},
        {403, -EDQUOT, ERROR("QuotaExceeded"), ERR_QUOTA},
        {301, -EINVAL, ERROR("PermanentRedirect"), ERR_INVALID},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct be_write o = writing();
        ANSWER(.status = cases[i].status, .body = cases[i].body,
               .headers = "x-amz-request-id: id7\r\n");
        (void)BE_SYNC(be, be_write, &o);
        assert_fails(&o.op, cases[i].err, cases[i].cls, false, i + 1);
        assert_string_equal(o.op.err.request_id, "id7");
    }
}

static void a_damaged_body_is_sent_once_more(void **state)
{
    (void)state;
    struct be_write o = writing();
    ANSWER(.status = 400, .body = ERROR("BadDigest"));
    ANSWER(.headers = "ETag: \"e\"\r\n");
    assert_int_equal(BE_SYNC(be, be_write, &o), 0);
    o = writing();
    ANSWER(.status = 400, .body = ERROR("BadDigest"));
    ANSWER(.status = 400, .body = ERROR("BadDigest"));
    (void)BE_SYNC(be, be_write, &o);
    assert_fails(&o.op, -EIO, ERR_INTEGRITY, false, 4);
}

/* --- outcomes */

static void repeats_a_write_whose_answer_was_lost(void **state)
{
    (void)state;
    struct be_write o = writing();
    ANSWER(.what = PEER_CLOSE);
    ANSWER(.what = PEER_CLOSE);
    ANSWER(.headers = "ETag: \"0123456789abcdef0123456789abcdef\"\r\n");
    assert_int_equal(BE_SYNC(be, be_write, &o), 0);
    assert_true(o.object.etag_is_md5);
    assert_int_equal(o.object.size, 3);
    const struct peer_request *last = peer_request(peer, peer_n_requests(peer) - 1);
    assert_int_equal(last->body_len, 3);
    assert_memory_equal(last->body, "abc", 3);
}

static void an_unknown_outcome_stays_unknown(void **state)
{
    (void)state;
    struct be_write o = writing();
    ANSWER(.status = 500, .body = ERROR("InternalError"));
    ANSWER(.status = 403, .body = ERROR("AccessDenied"));
    (void)BE_SYNC(be, be_write, &o);
    assert_fails(&o.op, -EACCES, ERR_AUTH, true, 2);
    /* a throttled one was not done */
    o = writing();
    ANSWER(.status = 503, .body = ERROR("SlowDown"));
    ANSWER(.status = 403, .body = ERROR("AccessDenied"));
    (void)BE_SYNC(be, be_write, &o);
    assert_fails(&o.op, -EACCES, ERR_AUTH, false, 4);
}

static void conditional_changes_are_not_repeated(void **state)
{
    (void)state;
    struct be_write o = writing();
    struct be_remove r = {.op = {.key = "k"}, .if_match = "e"};
    o.if_match = "e";
    ANSWER(.what = PEER_CLOSE);
    (void)BE_SYNC(be, be_write, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, true, 1);
    o = writing();
    o.if_absent = true;
    ANSWER(.status = 500);
    (void)BE_SYNC(be, be_write, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, true, 2);
    ANSWER(.what = PEER_CLOSE);
    (void)BE_SYNC(be, be_remove, &r);
    assert_fails(&r.op, -EIO, ERR_TRANSIENT, true, 3);
    /* but what was certainly refused is */
    o = writing();
    o.if_match = "e";
    ANSWER(.status = 503, .body = ERROR("SlowDown"));
    ANSWER(.headers = "ETag: \"f\"\r\n");
    assert_int_equal(BE_SYNC(be, be_write, &o), 0);
    assert_head(4, "if-match: \"e\"\r\n");
}

static struct be_part_id part_ids[] = {{1, 5, "e1"}, {2, 6, "e2"}};

static struct be_commit committing(void)
{
    return (struct be_commit){
        .op = {.key = "k"}, .upload_id = "u", .parts = part_ids, .n_parts = 2};
}

#define COMMITTED                                                                                  \
    "<CompleteMultipartUploadResult><ETag>\"x-2\"</ETag></CompleteMultipartUploadResult>"
#define NO_PARTS "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>"

static void commits_once(void **state)
{
    (void)state;
    struct be_commit o = committing();
    ANSWER(.body = "  \n" COMMITTED);
    assert_int_equal(BE_SYNC(be, be_mp_commit, &o), 0);
    assert_string_equal(o.object.etag, "x-2");
    assert_int_equal(o.object.size, 11);
    o = committing();
    ANSWER(.what = PEER_CLOSE);
    (void)BE_SYNC(be, be_mp_commit, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, true, 2);
    o = committing(); /* a 200 that says otherwise, and one that ends too soon */
    ANSWER(.body = ERROR("InternalError"));
    (void)BE_SYNC(be, be_mp_commit, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, true, 3);
    o = committing();
    ANSWER(.body = COMMITTED, .is_cut = true, .cut = 20);
    (void)BE_SYNC(be, be_mp_commit, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, true, 4);
    o = committing();
    ANSWER(.body = ERROR("NoSuchUpload"), .status = 404);
    (void)BE_SYNC(be, be_mp_commit, &o);
    assert_fails(&o.op, -ENOENT, ERR_ABSENT, false, 5);
}

/* A 5xx to a commit may be Ceph's way to say that there is no such upload. */
static void asks_about_the_upload_after_a_5xx(void **state)
{
    (void)state;
    struct be_commit o = committing();
    ANSWER(.body = ERROR("InternalError"), .status = 500);
    ANSWER(.body = ERROR("NoSuchUpload"), .status = 404);
    (void)BE_SYNC(be, be_mp_commit, &o);
    assert_fails(&o.op, -ENOENT, ERR_ABSENT, true, 2);
    assert_head(1, "GET /bkt-1250000000/k?uploadId=u&");
    o = committing();
    ANSWER(.body = ERROR("InternalError"), .status = 500);
    ANSWER(.body = NO_PARTS);
    (void)BE_SYNC(be, be_mp_commit, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, true, 4);
    o = committing();
    ANSWER(.body = ERROR("InternalError"), .status = 500);
    ANSWER(.body = ERROR("AccessDenied"), .status = 403);
    (void)BE_SYNC(be, be_mp_commit, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, true, 6);
}

static void copies_try_again_after_a_200_with_an_error(void **state)
{
    (void)state;
    struct be_copy o = {
        .op = {.key = "dst"}, .src = be, .src_key = "a b", .src_etag = "e", .size = 7};
    ANSWER(.body = ERROR("SlowDown"));
    ANSWER(.body = "<CopyObjectResult><ETag>\"0123\"</ETag></CopyObjectResult>");
    assert_int_equal(BE_SYNC(be, be_copy, &o), 0);
    assert_string_equal(o.object.etag, "0123");
    assert_int_equal(o.object.size, 7);
    assert_head(1, "x-amz-copy-source: /bkt-1250000000/a%20b\r\n");
}

static void looks_at_the_source_of_a_part(void **state)
{
    (void)state;
    struct be_part part = {.op = {.key = "dst"},
                           .upload_id = "u",
                           .number = 1,
                           .src = be,
                           .src_key = "s",
                           .src_etag = "e",
                           .src_offset = 1,
                           .src_len = 5,
                           .src_size = 9};
    struct peer_step same = {.headers = "ETag: \"e\"\r\n", .body = "123456789", .no_body = true};
    struct peer_step other = {.headers = "ETag: \"f\"\r\n", .body = "123456789", .no_body = true};
    struct peer_step copied = {.body = "<CopyPartResult><ETag>\"p\"</ETag></CopyPartResult>"};
    struct be_part o = part;
    push(same);
    push(copied);
    push(same);
    assert_int_equal(BE_SYNC(be, be_mp_part, &o), 0);
    assert_string_equal(o.object.etag, "p");
    assert_int_equal(o.object.size, 5);
    assert_head(0, "HEAD /bkt-1250000000/s ");
    assert_head(1, "PUT /bkt-1250000000/dst?partNumber=1&uploadId=u ");
    assert_head(1, "x-amz-copy-source-range: bytes=1-5\r\n");
    o = part;
    push(other);
    (void)BE_SYNC(be, be_mp_part, &o);
    assert_fails(&o.op, -ESTALE, ERR_PRECOND, false, 4);
    o = part;
    push(same);
    push(copied);
    push(other);
    (void)BE_SYNC(be, be_mp_part, &o);
    assert_fails(&o.op, -ESTALE, ERR_PRECOND, false, 7);
}

/* --- clocks */

static void learns_the_servers_clock(void **state)
{
    (void)state;
    struct be *once = open_store("s3", 1); /* a clock costs no try */
    struct be_write o = writing();
    ANSWER(.status = 403, .body = ERROR("RequestTimeTooSkewed"), .headers = DATE);
    ANSWER(.headers = "ETag: \"e\"\r\n");
    assert_int_equal(BE_SYNC(once, be_write, &o), 0);
    assert_false(head_has(0, "x-amz-date: 20231114T2213"));
    assert_head(1, "x-amz-date: 20231114T2213");
    o = writing();
    ANSWER(.headers = "ETag: \"e\"\r\n");
    assert_int_equal(BE_SYNC(once, be_write, &o), 0);
    assert_head(2, "x-amz-date: 20231114T2213");
    /* refused although the clocks agree: not the clock */
    o = writing();
    ANSWER(.status = 403, .body = ERROR("RequestTimeTooSkewed"), .headers = DATE);
    (void)BE_SYNC(once, be_write, &o);
    assert_fails(&o.op, -EACCES, ERR_AUTH, false, 4);
    be_close(once);
}

static void learns_it_from_a_head(void **state)
{
    (void)state;
    struct be_stat o = {.op = {.key = "k"}};
    ANSWER(.status = 403, .no_body = true, .headers = DATE);
    ANSWER(.status = 403, .no_body = true, .headers = DATE);
    (void)BE_SYNC(be, be_stat, &o);
    assert_fails(&o.op, -EACCES, ERR_AUTH, false, 2);
    assert_head(1, "x-amz-date: 20231114T2213");
}

/* --- credentials */

static void renewed_keys_sign(void **state)
{
    (void)state;
    struct be_write o = writing();
    ANSWER(.status = 400, .body = ERROR("ExpiredToken"));
    (void)BE_SYNC(be, be_write, &o);
    assert_fails(&o.op, -EACCES, ERR_AUTH, false, 1);
    assert_head(0, "Credential=AKID/");
    (void)open_store_as("s3", 3, "FRESH", be);
    o = writing();
    ANSWER(.headers = "ETag: \"e\"\r\n");
    assert_int_equal(BE_SYNC(be, be_write, &o), 0);
    assert_head(1, "Credential=FRESH/");
}

/* --- reads */

static char bytes[16];

static struct be_read reading(uint64_t offset, size_t len)
{
    return (struct be_read){.op = {.key = "k"}, .offset = offset, .len = len, .buf = bytes};
}

static void reads_ranges(void **state)
{
    (void)state;
    struct be_read o = reading(2, 4);
    ANSWER(.status = 206, .body = "cdef",
           .headers = "ETag: \"e\"\r\nContent-Range: bytes 2-5/10\r\n");
    assert_int_equal(BE_SYNC(be, be_read, &o), 0);
    assert_head(0, "range: bytes=2-5\r\n");
    assert_int_equal(o.got, 4);
    assert_memory_equal(bytes, "cdef", 4);
    assert_int_equal(o.object.size, 10);
    be_read_fini(&o);
    o = reading(0, 16);
    ANSWER(.body = "whole", .headers = "ETag: \"e\"\r\nContent-Type: text/plain\r\n");
    assert_int_equal(BE_SYNC(be, be_read, &o), 0);
    assert_int_equal(o.got, 5);
    assert_int_equal(o.object.size, 5);
    assert_string_equal(kv_get(&o.meta, "content-type"), "text/plain");
    be_read_fini(&o);
}

static void does_not_believe_wrong_ranges(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *headers, *body;
    } cases[] = {
        {206, "Content-Range: bytes 3-6/10\r\n", "defg"},
        {206, "Content-Range: bytes 2-4/10\r\n", "cde"},
        {206, "Content-Range: bytes 2-5/10\r\n", "cde"},
        {206, "Content-Range: bytes 2-6/10\r\n", "cdefg"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct be_read o = reading(2, 4);
        unsigned before = peer_n_requests(peer);
        struct peer_step step = {
            .status = cases[i].status, .headers = cases[i].headers, .body = cases[i].body};
        push(step);
        push(step);
        (void)BE_SYNC(be, be_read, &o);
        assert_fails(&o.op, -EIO, ERR_INTEGRITY, false,
                     before + 2); /* once more, then it is the server */
    }
}

static void ends_reads_behind_the_end(void **state)
{
    (void)state;
    struct be_read o = reading(100, 4);
    ANSWER(.status = 416, .body = ERROR("InvalidRange"), .headers = "Content-Range: bytes */5\r\n");
    ANSWER(.headers = "ETag: \"e\"\r\n", .body = "12345", .no_body = true);
    assert_int_equal(BE_SYNC(be, be_read, &o), 0);
    assert_int_equal(o.got, 0);
    assert_int_equal(o.object.size, 5);
    assert_string_equal(o.object.etag, "e");
    assert_head(1, "HEAD /");
    be_read_fini(&o);
}

static void reads_one_version(void **state)
{
    (void)state;
    struct be_read o = reading(0, 4);
    o.if_match = "e";
    ANSWER(.status = 206, .body = "abcd",
           .headers = "ETag: \"f\"\r\nContent-Range: bytes 0-3/10\r\n");
    (void)BE_SYNC(be, be_read, &o);
    assert_fails(&o.op, -ESTALE, ERR_PRECOND, false, 1);
    assert_head(0, "if-match: \"e\"\r\n");
    o = reading(0, 4);
    ANSWER(.status = 200, .body = "more than was asked for");
    (void)BE_SYNC(be, be_read, &o);
    assert_fails(&o.op, -EINVAL, ERR_INVALID, false, 2);
    assert_non_null(strstr(o.op.err.message, "Range"));
}

static void a_cut_answer_is_read_again(void **state)
{
    (void)state;
    struct be_read o = reading(0, 4);
    ANSWER(.status = 206, .body = "abcd", .headers = "Content-Range: bytes 0-3/10\r\n",
           .is_cut = true, .cut = 2);
    ANSWER(.status = 206, .body = "abcd", .headers = "Content-Range: bytes 0-3/10\r\n");
    assert_int_equal(BE_SYNC(be, be_read, &o), 0);
    assert_memory_equal(bytes, "abcd", 4);
    be_read_fini(&o);
}

/* --- lists */

#define PAGE(body) "<?xml version=\"1.0\"?><ListBucketResult>" body "</ListBucketResult>"
#define KEY(k) "<Contents><Key>" k "</Key><Size>1</Size></Contents>"

static void lists_again_when_a_page_is_broken(void **state)
{
    (void)state;
    struct be_list o = {.prefix = ""};
    static const char page[] = PAGE(KEY("a") KEY("b"));
    ANSWER(.body = page, .is_cut = true, .cut = 70);
    ANSWER(.body = "<ListBucketResult>&bogus;");
    ANSWER(.body = page, .headers = DATE, .piece = 7);
    assert_int_equal(BE_SYNC(be, be_list, &o), 0);
    assert_int_equal(o.n_entries, 2);
    assert_null(o.next_cursor);
    assert_true(o.server_date_ns == INT64_C(1700000000000000000));
    be_list_fini(&o);
}

static void lists_end(void **state)
{
    (void)state;
    struct be_list o = {.prefix = "", .cursor = "tsame"};
    peer_fallback(peer,
                  &(struct peer_step){
                      .body = PAGE("<IsTruncated>true</IsTruncated><NextContinuationToken>same</"
                                   "NextContinuationToken>")});
    (void)BE_SYNC(be, be_list, &o);
    assert_true(o.op.status < 0);
    assert_int_equal(o.op.err.cls, ERR_INTEGRITY);
    struct be_list e = {.prefix = ""};
    peer_fallback(peer, &(struct peer_step){.body = ERROR("AccessDenied")});
    (void)BE_SYNC(be, be_list, &e);
    assert_true(e.op.status < 0);
    assert_int_equal(e.op.err.cls, ERR_AUTH);
}

static void collects_pages_of_parts_and_uploads(void **state)
{
    (void)state;
#define PART(n) "<Part><PartNumber>" n "</PartNumber><ETag>\"e\"</ETag><Size>7</Size></Part>"
    static const char page1[] =
        "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</"
        "NextPartNumberMarker>" PART("1") PART("2") "</ListPartsResult>";
    static const char page2[] = "<ListPartsResult>" PART("9") "</ListPartsResult>";
    struct be_parts o = {.op = {.key = "k"}, .upload_id = "u"};
    ANSWER(.body = page1);
    ANSWER(.status = 500);
    ANSWER(.body = page2);
    assert_int_equal(BE_SYNC(be, be_mp_parts, &o), 0);
    assert_int_equal(o.n_parts, 3);
    assert_int_equal(o.parts[2].number, 9);
    assert_head(2, "part-number-marker=2");
    free(o.parts);
    o = (struct be_parts){.op = {.key = "k"}, .upload_id = "u"};
    ANSWER(.body = page1);
    ANSWER(.body = page1);
    ANSWER(.body = page1);
    (void)BE_SYNC(be, be_mp_parts, &o);
    assert_true(o.op.status < 0);
    assert_int_equal(o.op.err.cls, ERR_INTEGRITY);

    unsigned before = peer_n_requests(peer);
    struct be_uploads u = {.prefix = ""};
    ANSWER(.body = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k1</"
                   "NextKeyMarker>"
                   "<NextUploadIdMarker>u1</NextUploadIdMarker><Upload><Key>k1</Key><UploadId>u1</"
                   "UploadId></Upload>"
                   "</ListMultipartUploadsResult>");
    ANSWER(.body = "<ListMultipartUploadsResult><Upload><Key>k2</Key><UploadId>u2</UploadId></"
                   "Upload></ListMultipartUploadsResult>");
    assert_int_equal(BE_SYNC(be, be_mp_uploads, &u), 0);
    assert_int_equal(u.n_uploads, 2);
    assert_string_equal(u.uploads[1].upload_id, "u2");
    assert_head(before + 1, "key-marker=k1&upload-id-marker=u1");
    be_uploads_fini(&u);
}

/* --- removals */

static void removal_is_idempotent(void **state)
{
    (void)state;
    struct be_remove o = {.op = {.key = "k"}};
    ANSWER(.status = 404, .body = ERROR("NoSuchKey"));
    assert_int_equal(BE_SYNC(be, be_remove, &o), 0);
    ANSWER(.what = PEER_CLOSE);
    ANSWER(.status = 204);
    assert_int_equal(BE_SYNC(be, be_remove, &o), 0);
    ANSWER(.status = 404, .body = ERROR("NoSuchBucket"));
    (void)BE_SYNC(be, be_remove, &o);
    assert_int_equal(o.op.status, -ENOENT);
}

static void removes_many(void **state)
{
    (void)state;
    const char *const keys[] = {"a", "ctl\x01", "b", "c", "bad\xff"};
    struct be_many o = {.keys = keys, .n_keys = 5};
    ANSWER(.body = "<DeleteResult><Error><Key>b</Key><Code>InternalError</Code></"
                   "Error><Error><Key>c</Key>"
                   "<Code>AccessDenied</Code></Error></DeleteResult>");
    ANSWER(.body = "<DeleteResult></DeleteResult>");
    ANSWER(.status = 204);
    ANSWER(.status = 403, .body = ERROR("AccessDenied"));
    assert_int_equal(BE_SYNC(be, be_remove_many, &o), 0);
    assert_int_equal(peer_n_requests(peer), 4);
    assert_int_equal(o.errs[0].cls, ERR_NONE);
    assert_int_equal(o.errs[1].cls, ERR_NONE);
    assert_int_equal(o.errs[2].cls, ERR_NONE);
    assert_int_equal(o.errs[3].cls, ERR_AUTH);
    assert_int_equal(o.errs[4].cls, ERR_AUTH);
    assert_head(0, "POST /bkt-1250000000/?delete= ");
    assert_non_null(strstr(peer_request(peer, 0)->body, "<Key>a</Key>"));
    assert_null(strstr(peer_request(peer, 1)->body, "<Key>a</Key>"));
    assert_non_null(strstr(peer_request(peer, 1)->body, "<Key>b</Key>"));
    assert_head(2, "DELETE /bkt-1250000000/ctl%01 ");
    assert_head(3, "DELETE /bkt-1250000000/bad%FF ");
    free(o.errs);
    o = (struct be_many){.keys = keys, .n_keys = 2};
    ANSWER(.status = 403, .body = ERROR("AccessDenied"));
    (void)BE_SYNC(be, be_remove_many, &o);
    assert_fails(&o.op, -EACCES, ERR_AUTH, false, 5);
    assert_null(o.errs);
    o = (struct be_many){.keys = keys + 1, .n_keys = 1}; /* nothing for a batch */
    ANSWER(.status = 204);
    assert_int_equal(BE_SYNC(be, be_remove_many, &o), 0);
    free(o.errs);
}

/* --- time and cancellation */

static void keeps_deadlines(void **state)
{
    (void)state;
    struct be_write o = writing();
    ANSWER(.what = PEER_HOLE);
    o.op.deadline_ns = time_mono_ns() + 1000000000;
    (void)BE_SYNC(be, be_write, &o);
    assert_fails(&o.op, -ETIMEDOUT, ERR_TRANSIENT, true, 1);
    struct be_stat s = {.op = {.key = "k", .deadline_ns = time_mono_ns() - 1}};
    (void)BE_SYNC(be, be_stat, &s);
    assert_fails(&s.op, -ETIMEDOUT, ERR_TRANSIENT, false, 1);
    /* a wait that would end after it is not begun */
    struct be_stat t = {.op = {.key = "k", .deadline_ns = time_mono_ns() + 25000000000}};
    ANSWER(.status = 503, .no_body = true, .headers = "Retry-After: 30\r\n");
    int64_t before = time_mono_ns();
    (void)BE_SYNC(be, be_stat, &t);
    assert_true(time_mono_ns() - before < 25000000000);
    assert_fails(&t.op, -EIO, ERR_THROTTLED, false, 2);
}

static sem_t ended;

static void on_done(struct be_op *op)
{
    (void)op;
    sem_post(&ended);
}

static void await(void)
{
    while (sem_wait(&ended) < 0) {
    }
}

static void cancels(void **state)
{
    (void)state;
    sem_init(&ended, 0, 0);
    struct be_stat o = {.op = {.key = "k", .done = on_done}};
    ANSWER(.what = PEER_HOLE);
    be_stat(be, &o);
    assert_true(peer_wait_requests(peer, 1));
    be_cancel(&o.op);
    await();
    assert_fails(&o.op, -EINTR, ERR_CANCELED, false, 1);
    /* while it waits for its next try */
    struct be_stat w = {.op = {.key = "k", .done = on_done}};
    ANSWER(.status = 503, .no_body = true, .headers = "Retry-After: 30\r\n");
    be_stat(be, &w);
    assert_true(peer_wait_requests(peer, 2));
    usleep(100000);
    int64_t before = time_mono_ns();
    be_cancel(&w.op);
    await();
    assert_true(time_mono_ns() - before < 25000000000); /* of 30 */
    assert_fails(&w.op, -EINTR, ERR_CANCELED, false, 2);
    sem_destroy(&ended);
}

/* Cancelling at every moment: done runs once, whatever it finds. */
static void cancels_at_any_moment(void **state)
{
    (void)state;
    sem_init(&ended, 0, 0);
    peer_fallback(peer, &(struct peer_step){.status = 500, .no_body = true});
    for (useconds_t i = 0; i < 60; i++) {
        struct be_stat o = {.op = {.key = "k", .done = on_done}};
        be_stat(be, &o);
        usleep(i * 25);
        be_cancel(&o.op);
        await();
        assert_true(o.op.status < 0);
    }
    sem_destroy(&ended);
}

static void cos_speaks_its_own_dialect(void **state)
{
    (void)state;
    struct be *c = open_store("cos", 2);
    struct be_write o = writing();
    uint8_t md5[16] = {1};
    o.md5 = md5;
    ANSWER(.headers = "ETag: \"e\"\r\nx-cos-hash-crc64ecma: 77\r\n");
    assert_int_equal(BE_SYNC(c, be_write, &o), 0);
    assert_true(o.object.has_crc64 && o.object.crc64 == 77);
    assert_head(0, "authorization: q-sign-algorithm=sha1&q-ak=AKID&");
    assert_head(0, "q-header-list=content-md5;host&");
    be_close(c);
}

/* --- what Azure needs */

static struct be *open_azure(unsigned tries)
{
    return open_store_as("azure", tries, "account", NULL);
}

/* Of a source with another type, so that it takes all the requests there are. */
static struct be_copy copying(struct be *a, const struct kvlist *meta)
{
    ANSWER(.no_body = true, .body = "123", .headers = "ETag: \"0x1\"\r\nContent-Type: text/old\r\n");
    return (struct be_copy){
        .op = {.key = "to"}, .src = a, .src_key = "from", .src_etag = "0x1", .size = 3, .meta = meta};
}

static void a_copy_of_several_requests(void **state)
{
    (void)state;
    struct be *a = open_azure(2);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "content-type", "text/new");
    kv_set(&meta, "meta-a", "1");
    struct be_copy o = copying(a, &meta);
    ANSWER(.status = 202, .headers = "ETag: \"0x2\"\r\n");
    ANSWER(.status = 500); /* each is tried by itself */
    ANSWER(.headers = "ETag: \"0x3\"\r\n");
    ANSWER(.headers = "ETag: \"0x4\"\r\n");
    assert_int_equal(BE_SYNC(a, be_copy, &o), 0);
    assert_int_equal(peer_n_requests(peer), 5);
    assert_head(0, "HEAD /account/bkt-1250000000/from HTTP/1.1\r\n");
    assert_head(1, "PUT /account/bkt-1250000000/to HTTP/1.1\r\n");
    assert_head(1, "x-ms-source-if-match: \"0x1\"\r\n");
    assert_head(3, "PUT /account/bkt-1250000000/to?comp=properties HTTP/1.1\r\n");
    assert_head(3, "if-match: \"0x2\"\r\n");
    assert_head(4, "PUT /account/bkt-1250000000/to?comp=metadata HTTP/1.1\r\n");
    assert_head(4, "if-match: \"0x3\"\r\n");
    assert_string_equal(o.object.etag, "0x4");
    assert_true(o.op.stray); /* the one that failed may have been done, and may be done late */
    be_close(a);
}

/* The first request has made an object; what it is now somebody must look at. */
static void a_copy_that_ends_between_requests(void **state)
{
    (void)state;
    struct be *a = open_azure(1);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "content-type", "text/new");
    struct be_copy o = copying(a, &meta);
    ANSWER(.status = 202, .headers = "ETag: \"0x2\"\r\n");
    ANSWER(.status = 412, .body = ERROR("ConditionNotMet"));
    (void)BE_SYNC(a, be_copy, &o);
    assert_fails(&o.op, -ESTALE, ERR_PRECOND, true, 3);
    /* before that it is as it was */
    o = copying(a, &meta);
    ANSWER(.status = 412, .body = ERROR("SourceConditionNotMet"));
    (void)BE_SYNC(a, be_copy, &o);
    assert_fails(&o.op, -ESTALE, ERR_PRECOND, false, 5);
    /* nor was anything sent when the source is another version, or not there */
    ANSWER(.no_body = true, .body = "123", .headers = "ETag: \"0x9\"\r\n");
    (void)BE_SYNC(a, be_copy, &o);
    assert_fails(&o.op, -ESTALE, ERR_PRECOND, false, 6);
    ANSWER(.status = 404, .no_body = true);
    (void)BE_SYNC(a, be_copy, &o);
    assert_fails(&o.op, -ENOENT, ERR_ABSENT, false, 7);
    be_close(a);
}

static void asks_about_the_upload_after_an_invalid_list(void **state)
{
    (void)state;
    static const char invalid[] = ERROR("InvalidBlockList");
    static const char none[] = "<BlockList><UncommittedBlocks/></BlockList>";
    /* objmig-, the upload, part 1 and the MD5 of nothing, in base64 */
    static const char some[] =
        "<BlockList><UncommittedBlocks><Block><Name>b2JqbWlnLTY1NTM1ZjAwYTFiMmMzZDRlNWY2MDAwMDFkNDFkOGNkOThmMDBiMjA0ZTk4MD"
        "A5OThlY2Y4NDI3ZQ==</Name><Size>1</Size></Block></UncommittedBlocks></BlockList>";
    struct be *a = open_azure(1);
    struct be_part_id part = {.number = 1, .size = 1, .etag = "d41d8cd98f00b204e9800998ecf8427e"};
    struct be_commit c = {
        .op = {.key = "k"}, .upload_id = "65535f00a1b2c3d4e5f6", .parts = &part, .n_parts = 1};
    ANSWER(.status = 400, .body = invalid);
    ANSWER(.body = some);
    (void)BE_SYNC(a, be_mp_commit, &c);
    assert_fails(&c.op, -EINVAL, ERR_INVALID, false, 2);
    assert_head(1, "GET /account/bkt-1250000000/k?comp=blocklist&blocklisttype=uncommitted HTTP/1.1");
    ANSWER(.status = 400, .body = invalid);
    ANSWER(.body = none);
    (void)BE_SYNC(a, be_mp_commit, &c);
    assert_fails(&c.op, -ENOENT, ERR_ABSENT, true, 4); /* gone may mean committed */
    ANSWER(.status = 400, .body = invalid);
    ANSWER(.status = 500, .no_body = true);
    (void)BE_SYNC(a, be_mp_commit, &c);
    assert_fails(&c.op, -EINVAL, ERR_INVALID, true, 6);
    be_close(a);
}

static void begins_and_aborts_without_a_request(void **state)
{
    (void)state;
    struct be *a = open_azure(1);
    struct be_mp one = {.op = {.key = "k"}}, two = {.op = {.key = "k"}};
    assert_int_equal(BE_SYNC(a, be_mp_begin, &one), 0);
    assert_int_equal(BE_SYNC(a, be_mp_begin, &two), 0);
    assert_string_not_equal(one.upload_id, two.upload_id);
    assert_int_equal(BE_SYNC(a, be_mp_abort, &one), 0);
    assert_int_equal(peer_n_requests(peer), 0);
    free(one.upload_id);
    free(two.upload_id);
    be_close(a);
}

#define STAT_K "{\"hash\":\"Fh\",\"fsize\":3,\"mimeType\":\"a/b\"}"

/* Several requests are one operation: when a later one fails, the earlier ones have happened. */
static void takes_several_steps(void **state)
{
    (void)state;
    struct be *q = open_store("qiniu", 2);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "meta-a", "1");
    struct be_copy o = {.op = {.key = "to"}, .src = q, .src_key = "k", .src_etag = "Fh", .size = 3, .meta = &meta};
    ANSWER(.status = 503);
    ANSWER(.body = STAT_K);
    ANSWER(.status = 500);
    ANSWER(.body = "");
    ANSWER(.body = "");
    assert_int_equal(BE_SYNC(q, be_copy, &o), 0);
    assert_int_equal(peer_n_requests(peer), 5);
    assert_string_equal(o.object.etag, "Fh");
    assert_true(o.op.stray); /* the copy that got a 500 may still arrive */
    assert_head(1, "GET /stat/");
    assert_head(2, "POST /copy/");
    assert_head(3, "POST /copy/");
    assert_head(4, "POST /chgm/");

    /* nothing was changed by looking */
    ANSWER(.status = 599);
    ANSWER(.status = 599);
    (void)BE_SYNC(q, be_copy, &o);
    assert_fails(&o.op, -EIO, ERR_TRANSIENT, false, 7);
    /* refused at once, and yet the bytes are copied */
    ANSWER(.body = STAT_K);
    ANSWER(.body = "");
    ANSWER(.status = 400);
    (void)BE_SYNC(q, be_copy, &o);
    assert_fails(&o.op, -EINVAL, ERR_INVALID, true, 10);
    /* all is done and seen, and it is not what was wanted: nothing about that is unknown */
    ANSWER(.body = "{\"hash\":\"Fh\",\"fsize\":3,\"mimeType\":\"a/b\",\"x-qn-meta\":{\"old\":\"1\"}}");
    ANSWER(.body = "");
    ANSWER(.body = "");
    ANSWER(.body = "{\"hash\":\"Fh\",\"fsize\":3,\"x-qn-meta\":{\"old\":\"1\",\"a\":\"1\"}}");
    (void)BE_SYNC(q, be_copy, &o);
    assert_fails(&o.op, -EOPNOTSUPP, ERR_INVALID, false, 14);
    be_close(q);
}

static void asks_nothing_that_cannot_be_asked(void **state)
{
    (void)state;
    struct be *q = open_store("qiniu", 2);
    struct be_uploads o = {.op = {.key = "k"}};
    assert_int_equal(BE_SYNC(q, be_mp_uploads, &o), 0);
    assert_int_equal(o.n_uploads, 0);
    assert_int_equal(peer_n_requests(peer), 0);
    be_close(q);
}

/* Signatures that are part of a URL or of a body are made anew, too. */
static void signs_urls_and_forms_by_the_servers_clock(void **state)
{
    (void)state;
    struct be *q = open_store("qiniu", 2);
    char buf[3];
    struct be_read o = {.op = {.key = "k"}, .buf = buf, .len = 3};
    ANSWER(.status = 401, .headers = DATE, .body = "{\"error\":\"expired token\"}");
    ANSWER(.headers = "ETag: \"h\"\r\n", .body = "abc");
    assert_int_equal(BE_SYNC(q, be_read, &o), 0);
    be_read_fini(&o);
    assert_head(1, "GET /k?e=170000360");
    assert_head(1, "&token=AKID:");
    struct be_write w = writing();
    ANSWER(.body = "{\"hash\":\"h\"}");
    ANSWER(.body = "{\"hash\":\"h\"}");
    assert_int_equal(BE_SYNC(q, be_write, &w), 0);
    (void)open_store_as("qiniu", 2, "OTHER-AND-LONGER", q);
    assert_int_equal(BE_SYNC(q, be_write, &w), 0);
    static const char *const tokens[] = {"\r\n\r\nAKID:", "\r\n\r\nOTHER-AND-LONGER:"};
    for (unsigned i = 0; i < 2; i++) {
        const struct peer_request *r = peer_request(peer, 2 + i);
        assert_non_null(memmem(r->body, r->body_len, tokens[i], strlen(tokens[i])));
        assert_memory_equal(r->body, "--objmig-", 9);
    }
    be_close(q);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tries_again_and_signs_again),
        TEST(gives_up_after_so_many_tries),
        TEST(obeys_retry_after),
        TEST(final_failures_are_final),
        TEST(a_damaged_body_is_sent_once_more),
        TEST(repeats_a_write_whose_answer_was_lost),
        TEST(an_unknown_outcome_stays_unknown),
        TEST(conditional_changes_are_not_repeated),
        TEST(commits_once),
        TEST(asks_about_the_upload_after_a_5xx),
        TEST(copies_try_again_after_a_200_with_an_error),
        TEST(looks_at_the_source_of_a_part),
        TEST(learns_the_servers_clock),
        TEST(learns_it_from_a_head),
        TEST(renewed_keys_sign),
        TEST(reads_ranges),
        TEST(does_not_believe_wrong_ranges),
        TEST(ends_reads_behind_the_end),
        TEST(reads_one_version),
        TEST(a_cut_answer_is_read_again),
        TEST(lists_again_when_a_page_is_broken),
        TEST(lists_end),
        TEST(collects_pages_of_parts_and_uploads),
        TEST(removal_is_idempotent),
        TEST(removes_many),
        TEST(keeps_deadlines),
        TEST(cancels),
        TEST(cancels_at_any_moment),
        TEST(cos_speaks_its_own_dialect),
        TEST(a_copy_of_several_requests),
        TEST(a_copy_that_ends_between_requests),
        TEST(asks_about_the_upload_after_an_invalid_list),
        TEST(begins_and_aborts_without_a_request),
        TEST(takes_several_steps),
        TEST(asks_nothing_that_cannot_be_asked),
        TEST(signs_urls_and_forms_by_the_servers_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
