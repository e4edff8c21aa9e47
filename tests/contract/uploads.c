/* Multipart uploads. */
#include <errno.h>

#include "contract.h"
#include "digest.h"
#include "mem.h"

static size_t part_size(const struct target *t)
{
    return MAX(t->be->limits.min_part, (uint64_t)1000);
}

/* Bytes that differ everywhere. */
static void pattern(char *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        p[i] = (char)(seed >> 56);
    }
}

static char *begin(struct target *t, const char *key, const struct kvlist *meta)
{
    struct be_mp mp = {.op = {.key = key}, .meta = meta};
    if (BE_SYNC(t->be, be_mp_begin, &mp) != 0) {
        fail_msg("begin '%s': %s", key, mp.op.err.message);
    }
    return mp.upload_id;
}

static void abort_upload(struct target *t, const char *key, char *id)
{
    struct be_mp mp = {.op = {.key = key}, .upload_id = id};
    assert_int_equal(BE_SYNC(t->be, be_mp_abort, &mp), 0);
}

static void send_part(struct target *t, const char *key, const char *id, unsigned number,
                      const char *data, size_t len, struct be_part_id *ret)
{
    uint8_t md5[DIGEST_MD5_LEN];
    digest_md5(data, len, md5);
    struct be_part p = {.op = {.key = key, .lane = BE_LANE_BIG},
                        .upload_id = id,
                        .number = number,
                        .data = data,
                        .len = len,
                        .md5 = md5};
    if (BE_SYNC(t->be, be_mp_part, &p) != 0) {
        fail_msg("part %u: %s", number, p.op.err.message);
    }
    assert_int_equal(p.object.size, len);
    assert_string_not_equal(p.object.etag, "");
    if (p.object.has_crc64) {
        assert_true(p.object.crc64 == crc64_update(0, data, len));
    }
    *ret = (struct be_part_id){.number = number, .size = len};
    (void)snprintf(ret->etag, sizeof(ret->etag), "%s", p.object.etag);
}

static void expect_etag(const char *etag, const char *data, size_t part, size_t size)
{
    uint8_t md5s[16 * 8], md5[DIGEST_MD5_LEN];
    unsigned n = 0;
    for (size_t at = 0; at < size; at += part) {
        digest_md5(data + at, MIN(part, size - at), md5s + 16 * n++);
    }
    digest_md5(md5s, 16 * n, md5);
    char hex[33], want[48];
    hex_encode(md5, sizeof(md5), hex);
    (void)snprintf(want, sizeof(want), "%s-%u", hex, n);
    assert_string_equal(etag, want);
}

static void out_of_order(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MULTIPART, "upload in parts");
    const char *key = key_of(t, "mp/가 +%41");
    size_t part = part_size(t), size = 2 * part + 77;
    CLEANUP(mem_freep) char *data = mem_zalloc(size);
    pattern(data, size, 1);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    CLEANUP(kv_fini) struct kvlist seen = {0};
    kv_set(&meta, "content-type", "application/x-parts");
    if (has_cap(t, BE_CAP_USER_META)) {
        kv_set(&meta, "meta-a", "ä");
    }
    CLEANUP(mem_freep) char *id = begin(t, key, &meta);
    expect_absent(t, key);
    struct be_part_id ids[3];
    send_part(t, key, id, 2, data + part, part, &ids[1]);
    send_part(t, key, id, 3, data + 2 * part, 77, &ids[2]);
    if (t->be->limits.part_unit == 0) { /* else what is sent stays */
        send_part(t, key, id, 1, "to be replaced", 14, &ids[0]);
    }
    send_part(t, key, id, 1, data, part, &ids[0]);

    struct be_parts p = {.op = {.key = key}, .upload_id = id};
    assert_int_equal(BE_SYNC(t->be, be_mp_parts, &p), 0);
    assert_int_equal(p.n_parts, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(p.parts[i].number, i + 1);
        assert_int_equal(p.parts[i].size, ids[i].size);
        assert_string_equal(p.parts[i].etag, ids[i].etag);
    }
    free(p.parts);

    expect_absent(t, key);
    struct be_commit c = {.op = {.key = key},
                          .upload_id = id,
                          .parts = ids,
                          .n_parts = 3,
                          .meta = has_cap(t, BE_CAP_MP_META_LATE) ? &meta : NULL};
    if (BE_SYNC(t->be, be_mp_commit, &c) != 0) {
        fail_msg("commit: %s", c.op.err.message);
    }
    expect_content(t, key, data, size);
    struct be_object o;
    get_stat(t, key, &o, &seen);
    assert_int_equal(o.size, size);
    assert_string_equal(kv_get(&seen, "content-type"), "application/x-parts");
    if (has_cap(t, BE_CAP_USER_META)) {
        assert_string_equal(kv_get(&seen, "meta-a"), "ä");
    }
    if (c.object.etag[0] != '\0') {
        assert_string_equal(o.etag, c.object.etag);
    }
    if (has_cap(t, BE_CAP_MP_ETAG_MD5S)) {
        expect_etag(o.etag, data, part, size);
        assert_false(o.etag_is_md5);
    }
    if (c.object.has_crc64) {
        assert_true(c.object.crc64 == crc64_update(0, data, size));
    }
    /* over, in the provider's eyes: nothing can be added */
    struct be_parts gone = {.op = {.key = key}, .upload_id = id};
    assert_true(BE_SYNC(t->be, be_mp_parts, &gone) < 0);
    expect_failure(&gone.op, ERR_ABSENT);
    drop(t, key);
}

/* One part, shorter than the minimum: the last may be. */
static void single_part(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MULTIPART, "upload in parts");
    const char *key = key_of(t, "mp/single");
    put(t, key, TEXT("what was there"));
    CLEANUP(mem_freep) char *id = begin(t, key, NULL);
    struct be_part_id part;
    send_part(t, key, id, 1, "short", 5, &part);
    expect_content(t, key, TEXT("what was there"));
    struct be_commit c = {.op = {.key = key}, .upload_id = id, .parts = &part, .n_parts = 1};
    assert_int_equal(BE_SYNC(t->be, be_mp_commit, &c), 0);
    expect_content(t, key, TEXT("short"));
    drop(t, key);
}

static void wrong_parts(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MULTIPART, "upload in parts");
    const char *key = key_of(t, "mp/wrong");
    CLEANUP(mem_freep) char *id = begin(t, key, NULL);
    struct be_part_id part;
    send_part(t, key, id, 1, "short", 5, &part);

    uint8_t md5[DIGEST_MD5_LEN];
    digest_md5("other", 5, md5);
    struct be_part bad = {
        .op = {.key = key}, .upload_id = id, .number = 2, .data = "short", .len = 5, .md5 = md5};
    assert_true(BE_SYNC(t->be, be_mp_part, &bad) < 0);
    assert_true(bad.op.err.cls == ERR_INTEGRITY || bad.op.err.cls == ERR_INVALID);

    struct be_part_id other = part;
    (void)snprintf(other.etag, sizeof(other.etag), "0123456789abcdef0123456789abcdef");
    struct be_commit c = {.op = {.key = key}, .upload_id = id, .parts = &other, .n_parts = 1};
    assert_true(BE_SYNC(t->be, be_mp_commit, &c) < 0);
    expect_failure(&c.op, ERR_INVALID);
    struct be_part_id missing[2] = {part, {.number = 7, .size = 5}};
    (void)snprintf(missing[1].etag, sizeof(missing[1].etag), "%s", part.etag);
    struct be_commit m = {.op = {.key = key}, .upload_id = id, .parts = missing, .n_parts = 2};
    assert_true(BE_SYNC(t->be, be_mp_commit, &m) < 0);
    expect_failure(&m.op, ERR_INVALID);
    struct be_part_id unordered[2] = {part, part};
    struct be_commit u = {.op = {.key = key}, .upload_id = id, .parts = unordered, .n_parts = 2};
    assert_true(BE_SYNC(t->be, be_mp_commit, &u) < 0);
    expect_failure(&u.op, ERR_INVALID);
    struct be_part zero = {.op = {.key = key}, .upload_id = id, .number = 0, .data = "x", .len = 1};
    assert_true(BE_SYNC(t->be, be_mp_part, &zero) < 0);
    expect_failure(&zero.op, ERR_INVALID);
    expect_absent(t, key);
    abort_upload(t, key, id);
}

static void too_small_parts(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MULTIPART, "upload in parts");
    if (t->be->limits.min_part < 2) {
        skip_because(t, "takes parts of any size");
    }
    const char *key = key_of(t, "mp/small");
    CLEANUP(mem_freep) char *id = begin(t, key, NULL);
    struct be_part_id parts[2];
    send_part(t, key, id, 1, "x", 1, &parts[0]);
    send_part(t, key, id, 2, "y", 1, &parts[1]);
    struct be_commit c = {.op = {.key = key}, .upload_id = id, .parts = parts, .n_parts = 2};
    assert_true(BE_SYNC(t->be, be_mp_commit, &c) < 0);
    expect_failure(&c.op, ERR_INVALID);
    expect_absent(t, key);
    abort_upload(t, key, id);
}

static void aborted(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MULTIPART, "upload in parts");
    require_no_cap(t, BE_CAP_MP_NO_ABORT, "has uploads that end by themselves");
    const char *key = key_of(t, "mp/aborted");
    put(t, key, TEXT("before"));
    CLEANUP(mem_freep) char *id = begin(t, key, NULL);
    struct be_part_id part;
    send_part(t, key, id, 1, "short", 5, &part);
    abort_upload(t, key, id);
    struct be_parts p = {.op = {.key = key}, .upload_id = id};
    assert_true(BE_SYNC(t->be, be_mp_parts, &p) < 0);
    expect_failure(&p.op, ERR_ABSENT);
    struct be_commit c = {.op = {.key = key}, .upload_id = id, .parts = &part, .n_parts = 1};
    assert_true(BE_SYNC(t->be, be_mp_commit, &c) < 0);
    expect_failure(&c.op, ERR_ABSENT);
    struct be_part late = {.op = {.key = key}, .upload_id = id, .number = 2, .data = "x", .len = 1};
    assert_true(BE_SYNC(t->be, be_mp_part, &late) < 0);
    expect_failure(&late.op, ERR_ABSENT);
    expect_content(t, key, TEXT("before"));
    drop(t, key);
}

static size_t count_uploads(struct target *t, const char *key, const char *prefix, const char *id)
{
    struct be_uploads u = {.op = {.key = key}, .prefix = prefix};
    if (BE_SYNC(t->be, be_mp_uploads, &u) != 0) {
        fail_msg("uploads: %s", u.op.err.message);
    }
    size_t n = u.n_uploads;
    bool found = !id;
    for (size_t i = 0; i < n; i++) {
        found = found || strcmp(u.uploads[i].upload_id, id) == 0;
        if (key) {
            assert_string_equal(u.uploads[i].key, key);
        }
        assert_true(u.uploads[i].initiated_ns > 0);
    }
    be_uploads_fini(&u);
    assert_true(found);
    return n;
}

static void unfinished_uploads(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MULTIPART, "upload in parts");
    require_no_cap(t, BE_CAP_MP_NO_ABORT, "has uploads that are nothing but their parts");
    const char *a = key_of(t, "up/a"), *ab = key_of(t, "up/ab"), *below = key_of(t, "up/a/b");
    assert_int_equal(count_uploads(t, a, NULL, NULL), 0);
    if (has_cap(t, BE_CAP_MP_UNLISTED)) {
        char *unseen = begin(t, a, NULL);
        assert_int_equal(count_uploads(t, a, NULL, NULL), 0);
        assert_int_equal(count_uploads(t, NULL, key_of(t, "up/"), NULL), 0);
        abort_upload(t, a, unseen);
        free(unseen); /* a skipped test cleans nothing up */
        skip_because(t, "cannot list unfinished uploads");
    }
    CLEANUP(mem_freep) char *id1 = begin(t, a, NULL);
    CLEANUP(mem_freep) char *id2 = begin(t, a, NULL);
    CLEANUP(mem_freep) char *id3 = begin(t, ab, NULL);
    CLEANUP(mem_freep) char *id4 = begin(t, below, NULL);
    assert_string_not_equal(id1, id2);
    assert_int_equal(count_uploads(t, a, NULL, id1), 2); /* of exactly this key */
    assert_int_equal(count_uploads(t, a, NULL, id2), 2);
    assert_int_equal(count_uploads(t, ab, NULL, id3), 1);
    assert_int_equal(count_uploads(t, NULL, key_of(t, "up/"), id4), 4);
    abort_upload(t, a, id1);
    assert_int_equal(count_uploads(t, a, NULL, id2), 1);
    abort_upload(t, a, id2);
    abort_upload(t, ab, id3);
    abort_upload(t, below, id4);
    assert_int_equal(count_uploads(t, NULL, key_of(t, "up/"), NULL), 0);
}

/* BE_CAP_MP_NO_ABORT: what stands in for the two above. */
static void uploads_of_parts(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MP_NO_ABORT, "have uploads that are nothing but their parts");
    const char *a = key_of(t, "up/a b+%41"), *ab = key_of(t, "up/a b+%41b");
    put(t, ab, TEXT("before"));
    CLEANUP(mem_freep) char *id1 = begin(t, a, NULL);
    CLEANUP(mem_freep) char *id2 = begin(t, a, NULL);
    CLEANUP(mem_freep) char *id3 = begin(t, ab, NULL);
    assert_string_not_equal(id1, id2);
    assert_int_equal(count_uploads(t, a, NULL, NULL), 0);
    struct be_part_id first, second, other;
    send_part(t, a, id1, 1, "one", 3, &first);
    send_part(t, a, id2, 1, "two!", 4, &second);
    send_part(t, ab, id3, 1, "other", 5, &other);
    assert_int_equal(count_uploads(t, a, NULL, id1), 2); /* of exactly this key */
    assert_int_equal(count_uploads(t, a, NULL, id2), 2);
    assert_int_equal(count_uploads(t, ab, NULL, id3), 1); /* of one that is there already */
    assert_int_equal(count_uploads(t, NULL, key_of(t, "up/"), id2), 2); /* that one cannot be seen */

    /* two uploads of one key do not mix */
    struct be_parts p = {.op = {.key = a}, .upload_id = id2};
    assert_int_equal(BE_SYNC(t->be, be_mp_parts, &p), 0);
    assert_int_equal(p.n_parts, 1);
    assert_int_equal(p.parts[0].size, 4);
    assert_string_equal(p.parts[0].etag, second.etag);
    free(p.parts);

    /* nobody wants it any more; what is there is not touched, nor the other upload */
    abort_upload(t, ab, id3);
    expect_content(t, ab, "before", 6);
    abort_upload(t, a, id1);
    struct be_commit c = {.op = {.key = a}, .upload_id = id2, .parts = &second, .n_parts = 1};
    assert_int_equal(BE_SYNC(t->be, be_mp_commit, &c), 0);
    expect_content(t, a, "two!", 4);

    /* the name was written: what waited for it is gone, and a commit of it says so */
    struct be_parts gone = {.op = {.key = a}, .upload_id = id1};
    assert_true(BE_SYNC(t->be, be_mp_parts, &gone) < 0);
    expect_failure(&gone.op, ERR_ABSENT);
    struct be_commit late = {.op = {.key = a}, .upload_id = id1, .parts = &first, .n_parts = 1};
    assert_true(BE_SYNC(t->be, be_mp_commit, &late) < 0);
    expect_failure(&late.op, ERR_ABSENT);
    assert_int_equal(count_uploads(t, a, NULL, NULL), 0);

    /* nobody wanted it, and yet it is there until something is made of it */
    struct be_commit last = {.op = {.key = ab}, .upload_id = id3, .parts = &other, .n_parts = 1};
    assert_int_equal(BE_SYNC(t->be, be_mp_commit, &last), 0);
    expect_content(t, ab, "other", 5);
    assert_int_equal(count_uploads(t, ab, NULL, NULL), 0);
    drop(t, a);
    drop(t, ab);
}

static void copied_parts(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_PART_COPY, "copy into parts");
    const char *from = key_of(t, "mp/source 한"), *key = key_of(t, "mp/target");
    size_t part = part_size(t), size = part + 500;
    CLEANUP(mem_freep) char *data = mem_zalloc(size);
    pattern(data, size, 2);
    struct be_object source;
    put_meta(t, from, data, size, NULL, &source);
    CLEANUP(mem_freep) char *id = begin(t, key, NULL);
    struct be_part copied = {.op = {.key = key},
                             .upload_id = id,
                             .number = 1,
                             .src = t->be,
                             .src_key = from,
                             .src_etag = source.etag,
                             .src_offset = 100,
                             .src_len = part,
                             .src_size = size};
    if (BE_SYNC(t->be, be_mp_part, &copied) != 0) {
        fail_msg("part copy: %s", copied.op.err.message);
    }
    struct be_part_id parts[2] = {{.number = 1, .size = part}};
    (void)snprintf(parts[0].etag, sizeof(parts[0].etag), "%s", copied.object.etag);
    send_part(t, key, id, 2, "and bytes", 9, &parts[1]);
    struct be_part stale = copied;
    stale.number = 3;
    stale.src_etag = "0123456789abcdef0123456789abcdef";
    assert_true(BE_SYNC(t->be, be_mp_part, &stale) < 0);
    expect_failure(&stale.op, ERR_PRECOND);
    struct be_commit c = {.op = {.key = key}, .upload_id = id, .parts = parts, .n_parts = 2};
    assert_int_equal(BE_SYNC(t->be, be_mp_commit, &c), 0);
    CLEANUP(mem_freep) char *want = mem_zalloc(part + 9);
    memcpy(want, data + 100, part);
    memcpy(want + part, "and bytes", 9);
    expect_content(t, key, want, part + 9);
    drop(t, key);
    drop(t, from);
}

static void conditional_commit(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_MULTIPART, "upload in parts");
    require_cap(t, BE_CAP_IF_ABSENT, "create only what is absent");
    const char *key = key_of(t, "mp/condition");
    struct be_object there;
    put_meta(t, key, TEXT("there"), NULL, &there);
    CLEANUP(mem_freep) char *id = begin(t, key, NULL);
    struct be_part_id part;
    send_part(t, key, id, 1, "parts", 5, &part);
    struct be_commit c = {
        .op = {.key = key}, .upload_id = id, .parts = &part, .n_parts = 1, .if_absent = true};
    bool blind = has_cap(t, BE_CAP_MP_NO_CONDITION); /* then it says so, instead of overwriting */
    assert_int_equal(BE_SYNC(t->be, be_mp_commit, &c) == -EOPNOTSUPP, blind);
    assert_true(c.op.status < 0);
    expect_failure(&c.op, blind ? ERR_INVALID : ERR_PRECOND);
    expect_content(t, key, TEXT("there"));
    if (has_cap(t, BE_CAP_IF_MATCH)) {
        struct be_commit m = {.op = {.key = key},
                              .upload_id = id,
                              .parts = &part,
                              .n_parts = 1,
                              .if_match = there.etag};
        assert_int_equal(BE_SYNC(t->be, be_mp_commit, &m), 0);
        expect_content(t, key, TEXT("parts"));
    } else {
        abort_upload(t, key, id);
    }
    drop(t, key);
}

const struct contract_test tests_uploads[] = {
    {"parts in any order", out_of_order},
    {"a single part", single_part},
    {"wrong parts", wrong_parts},
    {"parts that are too small", too_small_parts},
    {"an aborted upload", aborted},
    {"unfinished uploads", unfinished_uploads},
    {"uploads that are nothing but their parts", uploads_of_parts},
    {"copied parts", copied_parts},
    {"a commit with conditions", conditional_commit},
    {0},
};
