#include "unit.h"

#include <string.h>

#include "mem.h"
#include "plan.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

enum { ALL_CAPS = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_PART_COPY };

/* Sources of remote 1 lie where the target can copy from, others do not. */
static bool near_copy(void *ctx, const struct extent_source *src)
{
    return src->remote == 1;
}

static struct extent_source *make_source(uint32_t remote, const char *key, uint64_t size)
{
    struct be_object o = {.size = size};
    (void)snprintf(o.etag, sizeof(o.etag), "etag-of-%s", key);
    return extent_source_new(remote, key, &o);
}

/* The limits of S3, nearly: enough for tests of cost. */
static struct plan_input big_input(const struct extent_map *m)
{
    return (struct plan_input){
        .map = m,
        .caps = ALL_CAPS,
        .limits = {.max_object = 5 * TIB,
                   .max_put = 5 * GIB,
                   .max_copy = 5 * GIB,
                   .min_part = 5 * MIB,
                   .max_part = 5 * GIB,
                   .max_parts = 10000,
                   .max_key = 1024,
                   .max_meta = 2048},
        .can_copy = near_copy,
        .file_md5 = CONF_MD5_ON,
        .small_file_threshold = 5 * MIB,
        .part_size = 8 * MIB,
        .max_buffer = 64 * MIB,
        .meta_bytes = 100,
        .meta_copy_limit = 5 * GIB,
    };
}

/* Every rule a server has about parts, and that copied parts are what the map says. Returns the
 * gathered bytes. */
static uint64_t check_parts(const struct plan_input *in, const struct plan *p)
{
    const struct be_limits *l = &in->limits;
    uint64_t at = 0;
    uint64_t gathered = 0;
    assert_true(in->caps & BE_CAP_MULTIPART);
    assert_true(p->n_parts > 0 && (l->max_parts == 0 || p->n_parts <= l->max_parts));
    for (size_t i = 0; i < p->n_parts; i++) {
        const struct plan_part *part = &p->parts[i];
        assert_int_equal(part->off, at);
        assert_true(part->len > 0);
        assert_true(i + 1 == p->n_parts || part->len >= l->min_part);
        assert_true(l->max_part == 0 || part->len <= l->max_part);
        at += part->len;
        if (!part->src) {
            assert_true(part->len <= in->max_buffer);
            gathered += part->len;
            continue;
        }
        assert_true(in->caps & BE_CAP_PART_COPY);
        assert_true(l->max_copy == 0 || part->len <= l->max_copy);
        assert_true((in->base && extent_source_same(part->src, in->base)) ||
                    (in->can_copy && in->can_copy(in->ctx, part->src)));
        if (in->content_known_equal) {
            continue;
        }
        for (uint64_t off = part->off; off < at;) {
            const struct extent *e = extent_find(in->map, off);
            uint64_t src_off = part->src_off + (off - part->off);
            if (e->kind == EXT_BASE) {
                assert_true(in->base && extent_source_same(part->src, in->base));
                assert_int_equal(src_off, off);
            } else {
                assert_int_equal(e->kind, EXT_REMOTE);
                assert_true(extent_source_same(part->src, e->src));
                assert_int_equal(src_off, e->src_off + (off - e->off));
            }
            off = e->off + e->len;
        }
    }
    assert_int_equal(at, in->map->size);
    return gathered;
}

static void assert_action(const struct plan_input *in, enum plan_action action, enum plan_md5 md5)
{
    struct plan p;
    plan_make(in, &p);
    if (p.action != action) {
        fail_msg("action %d (%s), expected %d", p.action, p.reason, action);
    }
    assert_int_equal(p.md5, md5);
    assert_int_equal(p.action == PLAN_IMPOSSIBLE, p.reason[0] != '\0');
    assert_int_equal(p.action == PLAN_MULTIPART, p.n_parts > 0);
    if (p.action == PLAN_MULTIPART) {
        (void)check_parts(in, &p);
    }
    plan_fini(&p);
}

static void assert_impossible(const struct plan_input *in, const char *says)
{
    struct plan p;
    plan_make(in, &p);
    assert_int_equal(p.action, PLAN_IMPOSSIBLE);
    if (!strstr(p.reason, says)) {
        fail_msg("\"%s\" does not say \"%s\"", p.reason, says);
    }
    plan_fini(&p);
}

static void test_unchanged(void **state)
{
    struct extent_map m;
    struct extent_source *base = make_source(1, "base", 10 * MIB);
    extent_init_base(&m, 10 * MIB);
    struct plan_input in = big_input(&m);
    assert_impossible(&in, "not known");
    in.base = base;
    assert_action(&in, PLAN_SKIP, PLAN_MD5_NONE);
    in.meta_differs = true;
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_NONE);
    in.source_has_md5_attr = true;
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_INHERITED);
    in.file_md5 = CONF_MD5_STRICT; /* a chmod is no copy: nothing is streamed for it */
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_INHERITED);
    in.md5_known = true;
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_GIVEN);
    in.md5_known = false;
    base->has_md5 = true;
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_GIVEN);
    in.file_md5 = CONF_MD5_OFF;
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_NONE);
    in.file_md5 = CONF_MD5_ON;
    in.meta_copy_limit =
        9 * MIB; /* too large for one self-copy: part copies, of what the file is already */
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    in.caps &= ~(uint32_t)BE_CAP_COPY;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    in.caps &= ~(uint32_t)BE_CAP_PART_COPY; /* and when it cannot copy at all: written again */
    struct plan p;
    plan_make(&in, &p);
    assert_int_equal(p.action, PLAN_MULTIPART);
    assert_int_equal(check_parts(&in, &p), 10 * MIB);
    plan_fini(&p);
    in.caps &= ~(uint32_t)BE_CAP_MULTIPART;
    assert_action(&in, PLAN_PUT, PLAN_MD5_GIVEN);
    /* the same bytes written anew, or copied from the very version that is there */
    in.caps = ALL_CAPS;
    in.meta_copy_limit = 0;
    in.meta_differs = false;
    extent_fini(&m);
    assert_int_equal(extent_set(&m, 0, 10 * MIB, EXT_LOCAL, NULL, 0), 0);
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    in.content_known_equal = true;
    assert_action(&in, PLAN_SKIP, PLAN_MD5_NONE);
    in.meta_differs = true;
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_GIVEN);
    in.content_known_equal = false;
    in.meta_differs = false;
    assert_int_equal(extent_set(&m, 0, 10 * MIB, EXT_REMOTE, base, 0), 0);
    assert_action(&in, PLAN_SKIP, PLAN_MD5_NONE);
    in.meta_differs = true;
    assert_action(&in, PLAN_SETMETA, PLAN_MD5_GIVEN);
    extent_fini(&m);
    extent_source_unref(base);
}

static void test_empty(void **state)
{
    struct extent_map m;
    struct extent_source *base = make_source(1, "base", 0);
    extent_init(&m);
    struct plan_input in = big_input(&m);
    assert_action(&in, PLAN_PUT, PLAN_MD5_PUT);
    in.md5_known = true;
    assert_action(&in, PLAN_PUT, PLAN_MD5_GIVEN);
    in.small_file_threshold = 0;
    in.max_buffer = 0;
    assert_action(&in, PLAN_PUT, PLAN_MD5_GIVEN);
    in.base = base;
    assert_action(&in, PLAN_SKIP, PLAN_MD5_NONE);
    in.meta_differs = true;
    in.resume_part_size = 8 * MIB;
    assert_action(&in, PLAN_PUT, PLAN_MD5_GIVEN);
    extent_source_unref(base);
}

static void test_whole_copy(void **state)
{
    struct extent_map m;
    struct extent_source *src = make_source(1, "src", 100 * MIB);
    struct extent_source *far = make_source(2, "far", 100 * MIB);
    extent_init(&m);
    assert_int_equal(extent_set(&m, 0, 100 * MIB, EXT_REMOTE, src, 0), 0);
    struct plan_input in = big_input(&m);
    assert_action(&in, PLAN_COPY, PLAN_MD5_NONE);
    in.source_has_md5_attr = true;
    assert_action(&in, PLAN_COPY, PLAN_MD5_INHERITED);
    in.file_md5 = CONF_MD5_STRICT; /* an inherited attribute is not a trusted MD5 */
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    src->has_md5 = true;
    assert_action(&in, PLAN_COPY, PLAN_MD5_GIVEN);
    in.file_md5 = CONF_MD5_OFF;
    assert_action(&in, PLAN_COPY, PLAN_MD5_NONE);
    in.file_md5 = CONF_MD5_ON;
    in.limits.max_copy = 99 * MIB;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    struct plan p;
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 0);
    plan_fini(&p);
    in.caps = BE_CAP_USER_META | BE_CAP_COPY | BE_CAP_MULTIPART;
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 100 * MIB);
    assert_int_equal(p.md5, PLAN_MD5_GIVEN);
    plan_fini(&p);
    in.caps = ALL_CAPS;
    in.limits.max_copy = 0; /* no limit */
    assert_action(&in, PLAN_COPY, PLAN_MD5_GIVEN);
    in.resume_part_size = 8 * MIB;
    assert_action(&in, PLAN_COPY, PLAN_MD5_GIVEN);
    in.resume_part_size = 0;
    assert_int_equal(extent_set(&m, 0, 100 * MIB, EXT_REMOTE, far, 0), 0);
    in.source_has_md5_attr = false;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    in.can_copy = NULL;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    far->has_md5 = true;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    extent_fini(&m);
    /* a part of an object is not a copy of it */
    in.can_copy = near_copy;
    assert_int_equal(extent_set(&m, 0, 99 * MIB, EXT_REMOTE, src, 0), 0);
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_NONE);
    extent_fini(&m);
    extent_source_unref(src);
    extent_source_unref(far);
}

static void test_local(void **state)
{
    struct extent_map m;
    extent_init(&m);
    assert_int_equal(extent_set(&m, 0, 5 * MIB, EXT_LOCAL, NULL, 0), 0);
    struct plan_input in = big_input(&m);
    assert_action(&in, PLAN_PUT, PLAN_MD5_PUT);
    in.md5_known = true;
    assert_action(&in, PLAN_PUT, PLAN_MD5_GIVEN);
    in.file_md5 = CONF_MD5_OFF;
    assert_action(&in, PLAN_PUT, PLAN_MD5_NONE);
    in.file_md5 = CONF_MD5_ON;
    in.caps &= ~(uint32_t)BE_CAP_USER_META;
    assert_action(&in, PLAN_PUT, PLAN_MD5_NONE);
    in.caps = ALL_CAPS;
    in.limits.max_put = 5 * MIB - 1;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    in.limits.max_put = 0;
    in.max_buffer = 5 * MIB - 1; /* neither request nor part fits the buffer */
    assert_impossible(&in, "memory=");
    in.max_buffer = 64 * MIB;
    assert_int_equal(extent_truncate(&m, 5 * MIB + 1), 0);
    in.md5_known = false;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    in.meta_copy_limit = 5 * MIB; /* above one self-copy: a second upload of part copies attaches it */
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    in.file_md5 = CONF_MD5_STRICT;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    in.file_md5 = CONF_MD5_ON;
    in.caps &= ~(uint32_t)BE_CAP_PART_COPY;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_NONE);
    in.file_md5 = CONF_MD5_STRICT;
    assert_impossible(&in, "entireFileMd5Attached");
    in.caps = BE_CAP_USER_META; /* one request only */
    assert_action(&in, PLAN_PUT, PLAN_MD5_PUT);
    in.max_buffer = 5 * MIB;
    assert_impossible(&in, "memory=");
    in.max_buffer = 64 * MIB;
    in.limits.max_put = 5 * MIB;
    assert_impossible(&in, "one request");
    extent_fini(&m);
}

static void test_limits(void **state)
{
    struct extent_map m;
    extent_init(&m);
    assert_int_equal(extent_set(&m, 0, 1, EXT_LOCAL, NULL, 0), 0);
    struct plan_input in = big_input(&m);
    in.key_fault = "key of 1025 bytes, cos takes 850";
    assert_impossible(&in, "key of 1025 bytes, cos takes 850");
    in.key_fault = NULL;
    in.meta_bytes = 2049;
    assert_impossible(&in, "metadata of 2049 bytes, the provider takes 2048");
    in.meta_bytes = 2048;
    assert_action(&in, PLAN_PUT, PLAN_MD5_PUT);
    assert_int_equal(extent_truncate(&m, 5 * TIB + 1), 0);
    assert_impossible(&in, "object of 5497558138881 bytes, the provider takes 5497558138880");
    in.limits.max_object = 0;
    assert_impossible(&in, "raise memory="); /* 10,000 parts of 64 MiB */
    in.max_buffer = 5 * GIB;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    in.max_buffer = TIB;
    assert_int_equal(extent_truncate(&m, 60 * TIB), 0);
    assert_impossible(&in, "the provider's 10000 parts");
    extent_fini(&m);
}

static void test_part_size(void **state)
{
    struct be_limits l = {.min_part = 5 * MIB, .max_part = 5 * GIB, .max_parts = 10000};
    assert_int_equal(plan_part_size(GIB, 8 * MIB, &l, GIB), 8 * MIB);
    assert_int_equal(plan_part_size(0, 8 * MIB, &l, GIB), 8 * MIB);
    assert_int_equal(plan_part_size(80000 * MIB, 8 * MIB, &l, GIB), 8 * MIB);
    assert_int_equal(plan_part_size(80000 * MIB + 1, 8 * MIB, &l, GIB), 16 * MIB);
    assert_int_equal(plan_part_size(5 * TIB, 8 * MIB, &l, GIB), 1024 * MIB);
    assert_int_equal(plan_part_size(5 * TIB, 8 * MIB, &l, 525 * MIB), 525 * MIB);
    assert_int_equal(plan_part_size(5 * TIB, 8 * MIB, &l, 524 * MIB), 0);
    assert_int_equal(plan_part_size(GIB, 1, &l, GIB), 5 * MIB);
    assert_int_equal(plan_part_size(GIB, 0, &l, GIB), 5 * MIB);
    assert_int_equal(plan_part_size(GIB, 8 * GIB, &l, 6 * GIB), 5 * GIB);
    assert_int_equal(plan_part_size(GIB, 8 * MIB, &l, 4 * MIB), 0);
    assert_int_equal(plan_part_size(GIB, 8 * MIB, &l, 0), 0);
    assert_int_equal(plan_part_size(MIB, 8 * MIB, &l, 4 * MIB), 4 * MIB);
    /* where all parts are of one size in whole MiB, from the first to the last */
    struct be_limits units = {.min_part = MIB, .max_part = 50 * MIB, .part_unit = MIB, .max_parts = 100};
    assert_int_equal(plan_part_size(GIB / 2, 5 * MIB + 7, &units, GIB), 10 * MIB);
    assert_int_equal(plan_part_size(100, 1, &units, GIB), MIB);
    assert_int_equal(plan_part_size(4 * GIB, 8 * MIB, &units, 49 * MIB + 77), 49 * MIB);
    assert_int_equal(plan_part_size(5 * GIB, 8 * MIB, &units, GIB), 0);
    assert_int_equal(plan_stream_part(1, 8 * MIB + 1, &units, GIB), 8 * MIB);
    assert_int_equal(plan_stream_part(100, 8 * MIB, &units, GIB), 8 * MIB);
    assert_int_equal(plan_stream_part(101, 8 * MIB, &units, GIB), 0);
    struct be_limits none = {0};
    assert_int_equal(plan_part_size(INT64_MAX, 3, &none, GIB), 3);
    assert_int_equal(plan_part_size(INT64_MAX, 0, &none, GIB), 1);
    /* without knowing the length: 8 MiB parts for 8 GiB, then twice that, … */
    uint64_t sum = 0;
    uint64_t before = 0;
    for (unsigned n = 1; n <= 10000; n++) {
        uint64_t part = plan_stream_part(n, 8 * MIB, &l, 5 * GIB);
        assert_true(part >= before && part <= l.max_part);
        before = part;
        sum += part;
    }
    assert_int_equal(plan_stream_part(1000, 8 * MIB, &l, 5 * GIB), 8 * MIB);
    assert_int_equal(plan_stream_part(1001, 8 * MIB, &l, 5 * GIB), 16 * MIB);
    assert_true(sum >= 5 * TIB);
    assert_int_equal(plan_stream_part(10000, 8 * MIB, &l, 64 * MIB), 64 * MIB);
    assert_int_equal(plan_stream_part(12345, 0, &none, GIB), 1);
}

/* What a plan may cost in the cases people meet. */
static void test_cost(void **state)
{
    struct extent_map m;
    struct extent_source *base = make_source(1, "base", 100 * GIB);
    struct plan p;
    extent_init_base(&m, 100 * GIB);
    struct plan_input in = big_input(&m);
    in.base = base;
    /* one byte appended */
    assert_int_equal(extent_set(&m, 100 * GIB, 1, EXT_LOCAL, NULL, 0), 0);
    plan_make(&in, &p);
    assert_int_equal(p.action, PLAN_MULTIPART);
    assert_int_equal(p.md5, PLAN_MD5_NONE);
    assert_int_equal(check_parts(&in, &p), 1);
    assert_in_range(p.n_parts, 100, 300);
    plan_fini(&p);
    in.md5_known = true;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    in.md5_known = false;
    in.file_md5 = CONF_MD5_STRICT; /* every byte must be hashed */
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 100 * GIB + 1);
    assert_int_equal(p.md5, PLAN_MD5_AFTER);
    plan_fini(&p);
    in.file_md5 = CONF_MD5_ON;
    /* one byte in the middle, too: one part of the least size */
    assert_int_equal(extent_set(&m, 50 * GIB + 12345, 1, EXT_LOCAL, NULL, 0), 0);
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 5 * MIB + 1);
    plan_fini(&p);
    /* one byte at the start, too: another one */
    assert_int_equal(extent_set(&m, 0, 1, EXT_LOCAL, NULL, 0), 0);
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 10 * MIB + 1);
    plan_fini(&p);
    /* two bytes close together share one part, with what lies between */
    assert_int_equal(extent_set(&m, 50 * GIB + 4 * MIB, 1, EXT_LOCAL, NULL, 0), 0);
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 10 * MIB + 1);
    plan_fini(&p);
    /* a hundred random bytes: a hundred parts */
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(extent_set(&m, i * 1000000007 / 2 + 60 * MIB, 1, EXT_LOCAL, NULL, 0), 0);
    }
    plan_make(&in, &p);
    assert_true(check_parts(&in, &p) <= 103 * 5 * MIB);
    plan_fini(&p);
    /* cut, nothing gathered */
    extent_fini(&m);
    extent_init_base(&m, 100 * GIB);
    assert_int_equal(extent_truncate(&m, 70 * GIB + 7), 0);
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 0);
    plan_fini(&p);
    /* two objects one behind the other, and the second one tiny */
    extent_fini(&m);
    struct extent_source *tiny = make_source(1, "tiny", 10);
    in.base = NULL;
    assert_int_equal(extent_set(&m, 0, 100 * GIB, EXT_REMOTE, base, 0), 0);
    assert_int_equal(extent_set(&m, 100 * GIB, 10, EXT_REMOTE, tiny, 0), 0);
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 0);
    plan_fini(&p);
    /* the tiny one first: it must grow to a part */
    extent_fini(&m);
    assert_int_equal(extent_set(&m, 0, 10, EXT_REMOTE, tiny, 0), 0);
    assert_int_equal(extent_set(&m, 10, 100 * GIB, EXT_REMOTE, base, 0), 0);
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 5 * MIB);
    plan_fini(&p);
    extent_fini(&m);
    extent_source_unref(tiny);
    extent_source_unref(base);
}

/* 40,000 writes over 5 TB: the count of parts must hold, whatever it costs. */
static void test_many_extents(void **state)
{
    struct extent_map m;
    struct extent_source *base = make_source(1, "base", 5 * TIB);
    struct plan p;
    extent_init_base(&m, 4 * TIB);
    base->size = 4 * TIB;
    for (uint64_t i = 0; i < 40000; i++) {
        assert_int_equal(extent_set(&m, i * 100 * MIB + 13 * MIB, KIB, EXT_LOCAL, NULL, 0), 0);
    }
    struct plan_input in = big_input(&m);
    in.base = base;
    in.max_buffer = 512 * MIB;
    plan_make(&in, &p);
    assert_int_equal(p.action, PLAN_MULTIPART);
    (void)check_parts(&in, &p);
    plan_fini(&p);
    /* 4,000 of them leave room for every single one */
    extent_fini(&m);
    extent_init_base(&m, 4 * TIB);
    for (uint64_t i = 0; i < 4000; i++) {
        assert_int_equal(extent_set(&m, i * 1000 * MIB + 13 * MIB, KIB, EXT_LOCAL, NULL, 0), 0);
    }
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 4000 * 5 * MIB);
    plan_fini(&p);
    extent_fini(&m);
    extent_source_unref(base);
}

static void test_resume(void **state)
{
    struct extent_map m;
    struct extent_source *base = make_source(1, "base", GIB);
    struct plan p;
    struct plan again;
    extent_init(&m);
    assert_int_equal(extent_set(&m, 0, 100 * MIB + 5, EXT_LOCAL, NULL, 0), 0);
    struct plan_input in = big_input(&m);
    in.resume_part_size = 6 * MIB;
    plan_make(&in, &p);
    assert_int_equal(p.part_size, 6 * MIB);
    assert_int_equal(p.n_parts, 17);
    for (size_t i = 0; i < 16; i++) {
        assert_int_equal(p.parts[i].len, 6 * MIB);
    }
    plan_fini(&p);
    in.resume_part_size = 4 * MIB; /* no longer allowed: anew */
    plan_make(&in, &p);
    assert_int_equal(p.part_size, 8 * MIB);
    plan_fini(&p);
    in.resume_part_size = 5 * MIB;
    in.limits.max_parts = 20; /* 21 parts of 5 MiB */
    plan_make(&in, &p);
    assert_int_equal(p.part_size, 8 * MIB);
    plan_fini(&p);
    in.limits.max_parts = 10000;
    assert_int_equal(extent_truncate(&m, 100), 0); /* small now, but its upload runs */
    in.resume_part_size = 8 * MIB;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_AFTER);
    extent_fini(&m);
    /* the same cut, though memory and the wanted part size changed meanwhile */
    extent_init_base(&m, GIB);
    in.base = base;
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(extent_set(&m, i * 51234567, 3 * MIB + i * MIB, EXT_LOCAL, NULL, 0), 0);
    }
    in.resume_part_size = 0;
    plan_make(&in, &p);
    in.resume_part_size = p.part_size;
    in.part_size = 32 * MIB;
    in.max_buffer = 33 * MIB;
    plan_make(&in, &again);
    assert_int_equal(again.part_size, p.part_size);
    assert_int_equal(again.n_parts, p.n_parts);
    assert_memory_equal(again.parts, p.parts, p.n_parts * sizeof(*p.parts));
    assert_true(again.layout == p.layout);
    plan_fini(&again);
    assert_int_equal(extent_set(&m, 7, 1, EXT_HOLE, NULL, 0), 0);
    assert_int_equal(extent_truncate(&m, GIB - 1), 0);
    plan_make(&in, &again);
    assert_true(again.layout != p.layout);
    plan_fini(&again);
    plan_fini(&p);
    extent_fini(&m);
    extent_source_unref(base);
}

/* Files larger than the spool: finished parts are nowhere else. */
static void test_streamed(void **state)
{
    struct extent_map m;
    struct plan p;
    extent_init(&m);
    assert_int_equal(extent_set(&m, 0, 30 * MIB + 1, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set_part(&m, 0, 8 * MIB, 1), 0);
    assert_int_equal(extent_set_part(&m, 8 * MIB, 8 * MIB, 2), 0);
    struct plan_input in = big_input(&m);
    in.resume_part_size = 8 * MIB;
    plan_make(&in, &p);
    assert_int_equal(p.action, PLAN_MULTIPART);
    assert_int_equal(p.n_parts, 4);
    assert_int_equal(check_parts(&in, &p), 30 * MIB + 1);
    assert_int_equal(p.parts[1].off, 8 * MIB);
    plan_fini(&p);
    in.md5_known = true;
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    /* the last part may be a short one already sent */
    assert_int_equal(extent_set_part(&m, 24 * MIB, 6 * MIB + 1, 4), 0);
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    /* but what lies behind it must then go */
    assert_int_equal(extent_truncate(&m, 40 * MIB), 0);
    assert_action(&in, PLAN_MULTIPART, PLAN_MD5_GIVEN);
    extent_fini(&m);
    assert_int_equal(extent_set(&m, 0, 30 * MIB, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set_part(&m, 7 * MIB, 8 * MIB, 2), 0);
    assert_impossible(&in, "already sent");
    extent_fini(&m);
    assert_int_equal(extent_set(&m, 0, 30 * MIB, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set_part(&m, 8 * MIB, 8 * MIB, 3), 0);
    assert_impossible(&in, "already sent");
    in.limits.max_parts = 2;
    assert_int_equal(extent_truncate(&m, 16 * MIB), 0);
    extent_fini(&m);
    assert_int_equal(extent_set(&m, 0, 30 * MIB, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set_part(&m, 0, 8 * MIB, 1), 0);
    in.max_buffer = 8 * MIB;
    assert_impossible(&in, "raise memory=");
    extent_fini(&m);
    /* aligned parts of another object still need not move */
    struct extent_source *src = make_source(1, "src", GIB);
    assert_int_equal(extent_set(&m, 0, 8 * MIB, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set(&m, 8 * MIB, 20 * MIB, EXT_REMOTE, src, MIB), 0);
    assert_int_equal(extent_set(&m, 28 * MIB, 20 * MIB, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set_part(&m, 0, 8 * MIB, 1), 0);
    in = big_input(&m);
    in.resume_part_size = 8 * MIB;
    plan_make(&in, &p);
    assert_int_equal(check_parts(&in, &p), 32 * MIB);
    plan_fini(&p);
    extent_fini(&m);
    extent_source_unref(src);
}

/* ---- random maps under random limits, against a server that keeps its rules and an exhaustive
 * search ---- */

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16) % n;
}

enum { MAX_SIZE = 64, OBJECTS = 4 }; /* object 0 is the base */
static unsigned char bytes_of[OBJECTS][MAX_SIZE];
static unsigned char spool[MAX_SIZE];
static struct extent_source *objects[OBJECTS];

static const unsigned char *source_bytes(const struct extent_source *src)
{
    for (int i = 0; i < OBJECTS; i++) {
        if (extent_source_same(objects[i], src)) {
            return bytes_of[i];
        }
    }
    fail_msg("a source nobody knows");
    return NULL;
}

static void gather(const struct extent_map *m, uint64_t off, uint64_t len, unsigned char *ret)
{
    for (uint64_t i = 0; i < len; i++) {
        const struct extent *e = extent_find(m, off + i);
        uint64_t within = off + i - e->off;
        switch (e->kind) {
        case EXT_BASE:
            ret[i] = bytes_of[0][off + i];
            break;
        case EXT_LOCAL:
            ret[i] = spool[off + i];
            break;
        case EXT_REMOTE:
            ret[i] = source_bytes(e->src)[e->src_off + within];
            break;
        case EXT_HOLE:
            ret[i] = 0;
            break;
        case EXT_PART:
            fail();
        }
    }
}

/* Runs the plan; ret gets the object the server then holds. */
static void execute(const struct plan_input *in, const struct plan *p, unsigned char *ret)
{
    uint64_t size = in->map->size;
    switch (p->action) {
    case PLAN_SKIP:
        assert_false(in->meta_differs);
        memcpy(ret, bytes_of[0], in->base->size);
        break;
    case PLAN_SETMETA:
        assert_true(in->base->size > 0 && (in->caps & BE_CAP_COPY));
        assert_true(in->meta_copy_limit == 0 || in->base->size <= in->meta_copy_limit);
        memcpy(ret, bytes_of[0], in->base->size);
        break;
    case PLAN_COPY: {
        struct extent_source *src = extent_whole_remote(in->map);
        assert_true(src && (in->caps & BE_CAP_COPY));
        assert_true(in->limits.max_copy == 0 || size <= in->limits.max_copy);
        assert_true(src->remote == 1 || src == in->base);
        memcpy(ret, source_bytes(src), size);
        break;
    }
    case PLAN_PUT:
        assert_true(size <= in->max_buffer &&
                    (in->limits.max_put == 0 || size <= in->limits.max_put));
        gather(in->map, 0, size, ret);
        break;
    case PLAN_MULTIPART:
        (void)check_parts(in, p);
        for (size_t i = 0; i < p->n_parts; i++) {
            const struct plan_part *part = &p->parts[i];
            if (part->src) {
                memcpy(ret + part->off, source_bytes(part->src) + part->src_off, part->len);
            } else {
                gather(in->map, part->off, part->len, ret + part->off);
            }
        }
        break;
    case PLAN_IMPOSSIBLE:
        fail();
    }
}

/* For every end: how far back one source reaches (the start of the longest copyable range that ends
 * there). */
static void copy_reach(const struct plan_input *in, bool may_copy, uint64_t reach[MAX_SIZE + 1])
{
    const struct extent_source *before = NULL;
    uint64_t before_off = 0;
    for (uint64_t at = 0; at < in->map->size; at++) {
        const struct extent *e = extent_find(in->map, at);
        const struct extent_source *src = e->kind == EXT_BASE     ? in->base
                                          : e->kind == EXT_REMOTE ? e->src
                                                                  : NULL;
        uint64_t src_off = e->kind == EXT_BASE ? at : e->src_off + (at - e->off);
        bool can = may_copy && src && (extent_source_same(src, in->base) || near_copy(NULL, src));
        if (!can) {
            reach[at + 1] = at + 1;
            before = NULL;
        } else if (before && extent_source_same(before, src) && before_off + 1 == src_off) {
            reach[at + 1] = reach[at];
        } else {
            reach[at + 1] = at;
        }
        if (can) {
            before = src;
            before_off = src_off;
        }
    }
}

/* The fewest gathered bytes, and the fewest parts, of any legal cut; UINT64_MAX when there is none.
 */
static void search(const struct plan_input *in, bool may_copy, uint64_t *ret_bytes,
                   uint64_t *ret_parts)
{
    const struct be_limits *l = &in->limits;
    uint64_t size = in->map->size;
    uint64_t reach[MAX_SIZE + 1] = {0};
    uint64_t bytes[MAX_SIZE + 1];
    uint64_t parts[MAX_SIZE + 1];
    copy_reach(in, may_copy, reach);
    bytes[0] = parts[0] = 0;
    for (uint64_t end = 1; end <= size; end++) {
        bytes[end] = parts[end] = UINT64_MAX;
        for (uint64_t from = 0; from < end; from++) {
            uint64_t len = end - from;
            if ((len < l->min_part && end < size) || (l->max_part > 0 && len > l->max_part) ||
                parts[from] == UINT64_MAX) {
                continue;
            }
            bool copy = reach[end] <= from && (l->max_copy == 0 || len <= l->max_copy);
            if (!copy && len > in->max_buffer) {
                continue;
            }
            bytes[end] = MIN(bytes[end], bytes[from] + (copy ? 0 : len));
            parts[end] = MIN(parts[end], parts[from] + 1);
        }
    }
    *ret_bytes = bytes[size];
    *ret_parts = parts[size];
}

static void random_map(struct extent_map *m)
{
    if (rnd(3) == 0) {
        extent_init(m);
    } else {
        extent_init_base(m, objects[0]->size);
    }
    if (rnd(8) == 0) {
        struct extent_source *src = objects[rnd(OBJECTS)];
        assert_int_equal(extent_truncate(m, 0), 0);
        assert_int_equal(extent_set(m, 0, src->size, EXT_REMOTE, src, 0), 0);
    }
    for (unsigned n = rnd(7); n > 0; n--) {
        uint64_t off = rnd(MAX_SIZE - 1);
        uint64_t len = 1 + rnd(rnd(2) ? 3 : 30);
        len = MIN(len, MAX_SIZE - off);
        struct extent_source *src = objects[rnd(OBJECTS)];
        switch (rnd(6)) {
        case 0:
            assert_int_equal(extent_truncate(m, off), 0);
            break;
        case 1:
            assert_int_equal(extent_set(m, off, len, EXT_HOLE, NULL, 0), 0);
            break;
        case 2:
        case 3:
            if (src->size > 0) {
                uint64_t src_off = rnd((uint32_t)src->size);
                len = MIN(len, src->size - src_off);
                assert_int_equal(extent_set(m, off, len, EXT_REMOTE, src, src_off), 0);
            }
            break;
        default:
            assert_int_equal(extent_set(m, off, len, EXT_LOCAL, NULL, 0), 0);
            break;
        }
    }
}

static uint64_t maybe(uint64_t limit)
{
    return rnd(4) == 0 ? 0 : limit;
}

static struct plan_input random_input(const struct extent_map *m)
{
    static const uint32_t optional[] = {BE_CAP_USER_META, BE_CAP_MULTIPART, BE_CAP_COPY,
                                        BE_CAP_PART_COPY};
    struct plan_input in = {.map = m, .base = objects[0], .can_copy = near_copy};
    for (size_t i = 0; i < ARRAY_LEN(optional); i++) {
        in.caps |= rnd(8) > 0 ? optional[i] : 0;
    }
    in.limits.min_part = rnd(6);
    uint64_t least = MAX(in.limits.min_part, (uint64_t)1);
    in.limits.max_part = maybe(least + rnd(12));
    in.limits.max_put = maybe(rnd(30));
    in.limits.max_copy = maybe(least + rnd(30));
    in.limits.max_parts = rnd(3) > 0 ? 0 : 3 + rnd(20);
    in.meta_copy_limit = in.limits.max_copy;
    in.small_file_threshold = rnd(3) ? rnd(10) : 0;
    in.part_size = rnd(12);
    in.max_buffer = rnd(8) ? 3 + rnd(20) : rnd(4);
    in.file_md5 = (enum conf_md5)rnd(3);
    in.md5_known = rnd(3) == 0;
    in.meta_differs = rnd(2);
    in.source_has_md5_attr = rnd(2);
    in.resume_part_size = rnd(4) ? 0 : rnd(12);
    return in;
}

static unsigned n_multipart, n_optimal, n_impossible, n_missed;

/* What exhaustive search says about this plan. */
static void compare_with_search(const struct plan_input *in, const struct plan *p)
{
    const struct be_limits *l = &in->limits;
    struct extent_source *whole = extent_whole_remote(in->map);
    bool strict = in->file_md5 == CONF_MD5_STRICT && (in->caps & BE_CAP_USER_META) &&
                  !in->md5_known && !(whole && whole->has_md5);
    bool unchanged = extent_whole_base(in->map, in->base->size) ||
                     (whole && extent_source_same(whole, in->base));
    bool may_copy = (in->caps & BE_CAP_PART_COPY) && (!strict || (unchanged && in->meta_differs));
    uint64_t best_bytes;
    uint64_t fewest_parts;
    search(in, may_copy, &best_bytes, &fewest_parts);
    uint64_t least = MAX(l->min_part, (uint64_t)1);
    uint64_t max_copy =
        MIN(l->max_copy ? l->max_copy : UINT64_MAX, l->max_part ? l->max_part : UINT64_MAX);
    if (p->action == PLAN_MULTIPART) {
        n_multipart++;
        assert_true(check_parts(in, p) >= best_bytes);
        /* Where copied ranges can always be cut, and there are parts enough, nobody does it with
         * fewer bytes. */
        if (max_copy >= 2 * least && (l->max_parts == 0 || l->max_parts > in->map->size)) {
            assert_int_equal(check_parts(in, p), best_bytes);
            n_optimal++;
        }
    } else if (p->action == PLAN_IMPOSSIBLE && in->map->size > 0) {
        uint64_t max_put = MIN(l->max_put ? l->max_put : UINT64_MAX, in->max_buffer);
        assert_true(in->map->size > max_put || strstr(p->reason, "entireFileMd5Attached"));
        n_impossible++;
        if ((in->caps & BE_CAP_MULTIPART) && !strstr(p->reason, "entireFileMd5Attached") &&
            (l->max_parts == 0 || fewest_parts <= l->max_parts) && fewest_parts != UINT64_MAX) {
            n_missed++;
            assert_true(max_copy < 2 * least || l->max_parts > 0);
        }
    }
}

static void test_random(void **state)
{
    seed = 0x1234567;
    for (unsigned round = 0; round < 60000; round++) {
        static const uint32_t remotes[OBJECTS] = {1, 1, 1, 2};
        static const char *const keys[OBJECTS] = {"base", "a", "b", "far"};
        for (int i = 0; i < OBJECTS; i++) {
            objects[i] = make_source(remotes[i], keys[i], rnd(8) == 0 ? rnd(5) : rnd(MAX_SIZE));
            objects[i]->has_md5 = rnd(2);
            for (int k = 0; k < MAX_SIZE; k++) {
                bytes_of[i][k] = (unsigned char)rnd(256);
                spool[k] = (unsigned char)rnd(256);
            }
        }
        struct extent_map m;
        random_map(&m);
        struct plan_input in = random_input(&m);
        struct plan p;
        plan_make(&in, &p);
        if (p.action != PLAN_IMPOSSIBLE) {
            unsigned char want[MAX_SIZE];
            unsigned char got[MAX_SIZE];
            gather(&m, 0, m.size, want);
            execute(&in, &p, got);
            assert_memory_equal(got, want, m.size);
        }
        compare_with_search(&in, &p);
        if (p.action == PLAN_MULTIPART) { /* cutting again gives the same */
            struct plan again;
            in.resume_part_size = p.part_size;
            in.part_size = rnd(12);
            plan_make(&in, &again);
            assert_int_equal(again.action, PLAN_MULTIPART);
            assert_true(again.layout == p.layout && again.n_parts == p.n_parts);
            plan_fini(&again);
        }
        plan_fini(&p);
        extent_fini(&m);
        for (int i = 0; i < OBJECTS; i++) {
            assert_int_equal(objects[i]->refs, 1);
            extent_source_unref(objects[i]);
        }
    }
    print_message(
        "# %u multipart, %u checked optimal, %u impossible, %u of them possible by search\n",
        n_multipart, n_optimal, n_impossible, n_missed);
    assert_true(n_multipart > 10000 && n_optimal > 5000 && n_impossible > 500);
    assert_true(n_missed * 20 < n_impossible);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unchanged),  cmocka_unit_test(test_empty),
        cmocka_unit_test(test_whole_copy), cmocka_unit_test(test_local),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_part_size),
        cmocka_unit_test(test_cost),       cmocka_unit_test(test_many_extents),
        cmocka_unit_test(test_resume),     cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
