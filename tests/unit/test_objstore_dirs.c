/* The object-store driver where the store has real directories, and takes copies, parts and commits
 * without the conditions that others check: what it asks besides, and what it makes of the answers.
 * Upyun is such a store. */
#include "objstore_fixture.h"

#include "walk.h"

static int setup(void **state)
{
    return objstore_setup("upyun");
}

#define FOLDER(name) "{\"type\":\"folder\",\"name\":\"" name "\",\"length\":0,\"last_modified\":1}"
#define FILE(name)                                                                                 \
    "{\"type\":\"x\",\"name\":\"" name "\",\"length\":3,\"last_modified\":1,\"etag\":\"e\"}"
#define LIST(files) .body = "{\"files\":[" files "],\"iter\":\"g2gCZAAEbmV4dGQAA2VvZg\"}"
#define MORE(files, iter) .body = "{\"files\":[" files "],\"iter\":\"" iter "\"}"
#define REFUSED(http, number)                                                                      \
    .status = (http), .body = "{\"msg\":\"no\",\"code\":" #number ",\"id\":\"i\"}"
#define HEAD(etag)                                                                                 \
    .body = "abc", .no_body = true, .headers = "x-upyun-file-type: file\r\nETag: \"" etag "\"\r\n"
#define MD5_ABC "900150983cd24fb0d6963f7d28e17f72"

static void assert_keys(const struct be_list *l, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < MIN(n, l->n_entries); i++) {
        assert_string_equal(l->entries[i].key, keys[i]);
    }
    assert_int_equal(l->n_entries, n);
}

static void walks_in_order(void **state)
{
    (void)state;
    /* written in this order, and in two pages */
    ANSWER(MORE(FOLDER("b") "," FILE("a"), "i1"));
    ANSWER(LIST(FILE("b.txt") "," FILE("c")));
    ANSWER(LIST(FILE("y") "," FILE("x")));
    struct be_list l = {.prefix = ""};
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    static const char *const all[] = {"a", "b.txt", "b/", "b/x", "b/y", "c"};
    assert_keys(&l, all, 6);
    assert_null(l.next_cursor);
    assert_false(l.entries[2].is_prefix);
    assert_int_equal(l.entries[3].object.size, 3);
    assert_string_equal(l.entries[3].object.etag, "e");
    assert_head(1, "x-list-iter: i1");
    assert_head(2, "GET /bkt-1250000000/b/ HTTP/1.1");
    be_list_fini(&l);

    /* page by page, a directory is asked for once */
    ANSWER(LIST(FOLDER("d") "," FILE("a")));
    ANSWER(LIST(FILE("2") "," FILE("1")));
    static const char *const paged[] = {"a", "d/", "d/1", "d/2"};
    char *cursor = NULL;
    size_t n = 0;
    do {
        struct be_list p = {.prefix = "", .cursor = cursor, .max = 1};
        assert_int_equal(BE_SYNC(be, be_list, &p), 0);
        for (size_t i = 0; i < p.n_entries; i++) {
            assert_string_equal(p.entries[i].key, paged[n++]);
        }
        free(cursor);
        cursor = TAKE(p.next_cursor);
        be_list_fini(&p);
    } while (cursor && n < 10);
    free(cursor);
    assert_int_equal(n, 4);
    assert_int_equal(peer_n_requests(peer), 5);

    ANSWER(LIST(FOLDER("d") "," FILE("a")));
    struct be_list flat = {.prefix = "", .delimiter = '/'};
    assert_int_equal(BE_SYNC(be, be_list, &flat), 0);
    static const char *const level[] = {"a", "d/"};
    assert_keys(&flat, level, 2);
    assert_true(flat.entries[1].is_prefix);
    be_list_fini(&flat);
}

/* Whether the directory a list begins in is there. */
static void begins_where_there_may_be_nothing(void **state)
{
    (void)state;
    struct be_list l = {.prefix = "d/"};
    ANSWER(REFUSED(404, 40400001));
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    assert_int_equal(l.n_entries, 0);
    be_list_fini(&l);
    ANSWER(LIST()); /* nothing in it: it may not be there either */
    ANSWER(.status = 404, .no_body = true);
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    assert_int_equal(l.n_entries, 0);
    assert_head(2, "HEAD /bkt-1250000000/d/ HTTP/1.1");
    be_list_fini(&l);
    ANSWER(LIST());
    ANSWER(.no_body = true, .headers = "x-upyun-file-type: folder\r\n");
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    static const char *const marker[] = {"d/"};
    assert_keys(&l, marker, 1);
    be_list_fini(&l);
    /* one that goes while the walk comes to it has nothing; a service that is not there is an error
     */
    ANSWER(LIST(FOLDER("gone") "," FILE("z")));
    ANSWER(REFUSED(404, 40400001));
    l.prefix = "";
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    static const char *const rest[] = {"z"};
    assert_keys(&l, rest, 1);
    be_list_fini(&l);
    ANSWER(REFUSED(401, 40100012));
    (void)BE_SYNC(be, be_list, &l);
    assert_fails(&l.op, -ENOENT, ERR_ABSENT, false, 8);
    assert_string_equal(l.op.err.code, "NoSuchBucket");
    ANSWER(.status = 404, .body = "<html>"); /* of somebody who is not the service */
    (void)BE_SYNC(be, be_list, &l);
    assert_fails(&l.op, -EINVAL, ERR_INVALID, false, 9);
    /* no key is below these, and nothing is asked */
    static const char *const nowhere[] = {"a//b", "/a", "//"};
    for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
        l.prefix = nowhere[i];
        assert_int_equal(BE_SYNC(be, be_list, &l), 0);
        assert_int_equal(l.n_entries, 0);
        be_list_fini(&l);
    }
    assert_int_equal(peer_n_requests(peer), 9);
    l.prefix = "";
    l.cursor = "nonsense";
    (void)BE_SYNC(be, be_list, &l);
    assert_fails(&l.op, -EINVAL, ERR_INVALID, false, 9);
}

/* More names than are held at once, and more directories than one page waits for. */
static void bounds_what_it_holds(void **state)
{
    (void)state;
    size_t chunk = walk_chunk;
    walk_chunk = 3;
    for (int i = 0; i < 3; i++) {
        ANSWER(LIST(FILE("g") "," FILE("a") "," FILE("f") "," FILE("c") "," FILE("b") "," FILE(
            "e") "," FILE("d")));
    }
    struct be_list l = {.prefix = ""};
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    static const char *const all[] = {"a", "b", "c", "d", "e", "f", "g"};
    assert_keys(&l, all, 7);
    assert_int_equal(peer_n_requests(peer), 3);
    be_list_fini(&l);
    walk_chunk = chunk;

    CLEANUP(buf_fini) struct buf many = BUF_INIT;
    for (int i = 0; i < 450; i++) {
        assert_int_equal(buf_addf(&many, "%s{\"type\":\"folder\",\"name\":\"%03d\"}",
                                  i > 0 ? "," : "{\"files\":[", i),
                         0);
    }
    assert_int_equal(buf_adds(&many, "],\"iter\":\"g2gCZAAEbmV4dGQAA2VvZg\"}"), 0);
    ANSWER(.body = buf_str(&many));
    peer_fallback(peer, &(struct peer_step){LIST()});
    char *cursor = NULL;
    unsigned n = 0, pages = 0;
    do {
        struct be_list p = {.prefix = "", .cursor = cursor};
        assert_int_equal(BE_SYNC(be, be_list, &p), 0);
        for (size_t i = 0; i < p.n_entries; i++, n++) {
            char want[8];
            (void)snprintf(want, sizeof(want), "%03u/", n);
            assert_string_equal(p.entries[i].key, want);
        }
        pages++;
        free(cursor);
        cursor = TAKE(p.next_cursor);
        be_list_fini(&p);
    } while (cursor && pages < 10);
    free(cursor);
    assert_int_equal(n, 450);
    assert_int_equal(pages, 3);
    assert_int_equal(peer_n_requests(peer), 3 + 451);
}

/* Pages that never end. */
static unsigned peer_turns;
enum endless { CIRCLE, NO_NAMES, OLD_NAMES, ENDLESS };

static void give_endless(void *arg, const struct peer_request *q, struct peer_step *ret)
{
    static char body[128]; /* the next request comes when it has been read */
    const enum endless *what = arg;
    const char *iter = strstr(q->head, "x-list-iter: ");
    unsigned at = iter ? (unsigned)strtoul(iter + strlen("x-list-iter: "), NULL, 10) : 0;
    unsigned next = *what == CIRCLE && at == 6 ? 2 : at + 1;
    char name[64] = "";
    if (*what != NO_NAMES) {
        (void)snprintf(name, sizeof(name), "{\"name\":\"%u\",\"length\":1}",
                       *what == CIRCLE ? at : 7);
    }
    (void)snprintf(body, sizeof(body), "{\"files\":[%s],\"iter\":\"%u\"}", name, next);
    *ret = (struct peer_step){.body = body};
    if (peer_turns++ > 1000) {
        *ret = (struct peer_step){LIST()}; /* the test fails instead of going on for ever */
    }
}

static void ends_what_goes_in_circles(void **state)
{
    (void)state;
    for (enum endless what = CIRCLE; what < ENDLESS; what++) {
        struct be_list l = {.prefix = ""};
        peer_turns = 0;
        peer_handler(peer, give_endless, &what);
        (void)BE_SYNC(be, be_list, &l);
        assert_int_equal(l.op.status, -EIO);
        assert_int_equal(l.op.err.cls, ERR_INTEGRITY);
        assert_null(l.entries);
        assert_true(peer_turns < 500);
    }
}

static void so_already(void **state)
{
    (void)state;
    struct be_write w = {.op = {.key = "d/"}};
    ANSWER(REFUSED(406, 40600002));
    assert_int_equal(BE_SYNC(be, be_write, &w), 0);
    assert_string_not_equal(w.object.etag, "");
    struct be_remove r = {.op = {.key = "d/"}};
    ANSWER(REFUSED(403, 40300005));
    assert_int_equal(BE_SYNC(be, be_remove, &r), 0);
    char id[] = "u";
    struct be_mp mp = {.op = {.key = "k"}, .upload_id = id};
    ANSWER(REFUSED(400, 40001022));
    assert_int_equal(BE_SYNC(be, be_mp_abort, &mp), 0);
    w.op.key = "f";
    ANSWER(REFUSED(406, 40600001));
    (void)BE_SYNC(be, be_write, &w);
    assert_fails(&w.op, -EINVAL, ERR_INVALID, false, 4);
}

static void reads_behind_the_end(void **state)
{
    (void)state;
    char buf[8];
    struct be_read r = {.op = {.key = "k"}, .offset = 10, .len = sizeof(buf), .buf = buf};
    ANSWER(REFUSED(400, 40001161));
    ANSWER(HEAD("e"));
    assert_int_equal(BE_SYNC(be, be_read, &r), 0);
    assert_int_equal(r.got, 0);
    assert_int_equal(r.object.size, 3);
    be_read_fini(&r);
}

static struct be_copy copying(const char *key)
{
    return (struct be_copy){
        .op = {.key = key}, .src = be, .src_key = "s", .src_etag = "e", .size = 3};
}

static void looks_at_what_is_copied(void **state)
{
    (void)state;
    struct be_copy c = copying("k");
    ANSWER(HEAD("e"));
    ANSWER(.body = "");
    ANSWER(HEAD("e"));
    ANSWER(HEAD("made"));
    assert_int_equal(BE_SYNC(be, be_copy, &c), 0);
    assert_string_equal(c.object.etag, "made");
    assert_head(0, "HEAD /bkt-1250000000/s ");
    assert_head(1, "PUT /bkt-1250000000/k ");
    assert_head(3, "HEAD /bkt-1250000000/k ");
    c = copying("k"); /* another version than the one meant: nothing is copied */
    ANSWER(HEAD("other"));
    (void)BE_SYNC(be, be_copy, &c);
    assert_fails(&c.op, -ESTALE, ERR_PRECOND, false, 5);
    c = copying("k"); /* it changed meanwhile: what the target is nobody knows */
    ANSWER(HEAD("e"));
    ANSWER(.body = "");
    ANSWER(HEAD("other"));
    (void)BE_SYNC(be, be_copy, &c);
    assert_fails(&c.op, -ESTALE, ERR_PRECOND, true, 8);
    c = copying("s"); /* metadata: what it is afterwards, one look tells */
    ANSWER(HEAD("e"));
    ANSWER(.body = "");
    ANSWER(HEAD("e"));
    assert_int_equal(BE_SYNC(be, be_copy, &c), 0);
    assert_string_equal(c.object.etag, "e");
    assert_head(9, "PATCH /bkt-1250000000/s?metadata=replace ");
    assert_int_equal(peer_n_requests(peer), 11);
    c = copying("k"); /* an attempt without an answer may still arrive */
    ANSWER(HEAD("e"));
    ANSWER(.what = PEER_CLOSE);
    ANSWER(.body = "");
    ANSWER(HEAD("e"));
    ANSWER(HEAD("made"));
    assert_int_equal(BE_SYNC(be, be_copy, &c), 0);
    assert_true(c.op.stray);
}

#define HEAD_MD5(md5)                                                                              \
    .body = "abc", .no_body = true,                                                                \
    .headers = "x-upyun-file-type: file\r\nETag: \"" md5 "\"\r\nContent-MD5: " md5 "\r\n"
#define MD5_OTHER "0123456789abcdef0123456789abcdef"

/* What is at the key afterwards may be somebody else's. */
static void compares_what_a_copy_made(void **state)
{
    (void)state;
    struct be_copy c = copying("k");
    c.src_etag = MD5_ABC;
    for (int i = 0; i < 4; i++) {
        ANSWER(HEAD_MD5(MD5_ABC));
        ANSWER(.body = "");
        ANSWER(HEAD_MD5(MD5_ABC));
        if (i == 0) {
            ANSWER(HEAD_MD5("900150983CD24FB0D6963F7D28E17F72"));
            assert_int_equal(BE_SYNC(be, be_copy, &c), 0);
        } else if (i == 1) {
            ANSWER(HEAD(MD5_OTHER)); /* an etag that is no MD5 proves nothing */
            assert_int_equal(BE_SYNC(be, be_copy, &c), 0);
        } else if (i == 2) {
            ANSWER(HEAD_MD5(MD5_OTHER));
            (void)BE_SYNC(be, be_copy, &c);
            assert_fails(&c.op, -ESTALE, ERR_PRECOND, true, 12);
        } else {
            ANSWER(.body = "abcd", .no_body = true, .headers = "x-upyun-file-type: file\r\n");
            (void)BE_SYNC(be, be_copy, &c);
            assert_fails(&c.op, -ESTALE, ERR_PRECOND, true, 16);
        }
        if (i >= 2) {
            assert_string_equal(c.object.etag, "");
        }
        c.object = (struct be_object){0};
    }
    c = copying("k"); /* any version of the source: the size is all there is */
    c.src_etag = NULL;
    ANSWER(.body = "");
    ANSWER(.body = "abcd", .no_body = true, .headers = "x-upyun-file-type: file\r\n");
    (void)BE_SYNC(be, be_copy, &c);
    assert_fails(&c.op, -ESTALE, ERR_PRECOND, true, 18);
}

#define PARTS(parts) .body = "{\"parts\":[" parts "]}"
#define PART(id, size, etag) "{\"id\":" #id ",\"size\":" #size ",\"etag\":\"" etag "\"}"

static void a_part_is_there_already(void **state)
{
    (void)state;
    struct be_part p = {.op = {.key = "k"}, .upload_id = "u", .number = 2, .data = "abc", .len = 3};
    ANSWER(.what = PEER_CLOSE); /* it arrived; the answer did not */
    ANSWER(REFUSED(400, 40001031));
    ANSWER(PARTS(PART(0, 3, "x") "," PART(1, 3, MD5_ABC)));
    ANSWER(PARTS());
    assert_int_equal(BE_SYNC(be, be_mp_part, &p), 0);
    assert_string_equal(p.object.etag, MD5_ABC);
    assert_int_equal(p.object.size, 3);
    ANSWER(REFUSED(400, 40001031)); /* other bytes: only a new upload takes these */
    ANSWER(PARTS(PART(1, 3, "0123456789abcdef0123456789abcdef")));
    ANSWER(PARTS());
    (void)BE_SYNC(be, be_mp_part, &p);
    assert_fails(&p.op, -ENOENT, ERR_ABSENT, false, 7);
    assert_string_equal(p.op.err.code, "NoSuchUpload");
}

static void compares_parts_before_a_commit(void **state)
{
    (void)state;
    static const struct be_part_id parts[] = {{1, 1048576, "a"}, {2, 3, "b"}};
    struct be_commit c = {.op = {.key = "k"}, .upload_id = "u", .parts = parts, .n_parts = 2};
    ANSWER(PARTS(PART(0, 1048576, "a")));
    ANSWER(PARTS(PART(1, 3, "b")));
    ANSWER(PARTS());
    ANSWER(.status = 204, .no_body = true);
    assert_int_equal(BE_SYNC(be, be_mp_commit, &c), 0);
    assert_int_equal(c.object.size, 1048579);
    assert_head(1, "x-upyun-part-id: 1\r\n");
    assert_head(3, "x-upyun-multi-stage: complete");
    static const char *const wrong[] = {
        "{\"parts\":[" PART(0, 1048576, "a") "]}",
        "{\"parts\":[" PART(0, 1048576, "a") "," PART(1, 3, "c") "]}",
        "{\"parts\":[" PART(0, 1048576, "a") "," PART(1, 4, "b") "]}",
        "{\"parts\":[" PART(0, 1048576, "a") "," PART(1, 3, "b") "," PART(2, 3, "c") "]}",
    };
    unsigned n = 4;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++, n += 2) {
        ANSWER(.body = wrong[i]);
        ANSWER(PARTS());
        (void)BE_SYNC(be, be_mp_commit, &c);
        assert_fails(&c.op, -EINVAL, ERR_INVALID, false, n + 2);
    }
    ANSWER(REFUSED(400, 40001035));
    (void)BE_SYNC(be, be_mp_commit, &c);
    assert_fails(&c.op, -ENOENT, ERR_ABSENT, false, n + 1);
    assert_string_equal(c.op.err.code, "NoSuchUpload");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(walks_in_order),          TEST(begins_where_there_may_be_nothing),
        TEST(bounds_what_it_holds),    TEST(ends_what_goes_in_circles),
        TEST(so_already),
        TEST(reads_behind_the_end),    TEST(looks_at_what_is_copied),
        TEST(compares_what_a_copy_made),
        TEST(a_part_is_there_already), TEST(compares_parts_before_a_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
