#include "unit.h"

#include <errno.h>
#include <string.h>

#include "extent.h"
#include "mem.h"

static struct extent_source *make_source(uint32_t remote, const char *key, const char *etag,
                                         uint64_t size)
{
    struct be_object o = {.size = size, .mtime_ns = 1234567890123456789};
    (void)snprintf(o.etag, sizeof(o.etag), "%s", etag);
    return extent_source_new(remote, key, &o);
}

static void assert_text(const struct extent_map *m, const char *want)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    extent_check(m);
    assert_int_equal(extent_format(m, &b), 0);
    assert_string_equal(buf_str(&b), want);
}

static void test_source(void **state)
{
    struct be_object o = {
        .size = 5, .etag_is_md5 = true, .etag = "00112233445566778899aabbccddeeff"};
    struct extent_source *a = extent_source_new(1, "k", &o);
    assert_true(a->has_md5);
    assert_int_equal(a->md5[15], 0xff);
    o.etag_is_md5 = false;
    struct extent_source *b = extent_source_new(1, "k", &o);
    assert_false(b->has_md5);
    assert_true(extent_source_same(a, b));
    assert_true(extent_source_same(a, a));
    assert_false(extent_source_same(a, NULL));
    (void)snprintf(o.version_id, sizeof(o.version_id), "v2");
    struct extent_source *c = extent_source_new(1, "k", &o);
    assert_false(extent_source_same(a, c));
    struct extent_source *d = extent_source_new(2, "k", &o);
    assert_false(extent_source_same(c, d));
    o.etag_is_md5 = true;
    (void)snprintf(o.etag, sizeof(o.etag), "not-an-md5");
    struct extent_source *e = extent_source_new(1, "k", &o);
    assert_false(e->has_md5);
    struct be_object unknown = {.size = 5};
    struct extent_source *f = extent_source_new(1, "k", &unknown);
    struct extent_source *g = extent_source_new(1, "k", &unknown);
    assert_false(extent_source_same(f, g));
    assert_true(extent_source_same(f, f));
    assert_ptr_equal(extent_source_ref(a), a);
    assert_int_equal(a->refs, 2);
    extent_source_unref(a);
    struct extent_source *all[] = {a, b, c, d, e, f, g, NULL};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        extent_source_unref(all[i]);
    }
}

static void test_basic(void **state)
{
    struct extent_map m;
    struct extent_source *s = make_source(7, "a b/ü%", "e\"1", 100);
    extent_init(&m);
    assert_text(&m, "");
    assert_null(extent_find(&m, 0));
    assert_true(extent_whole_base(&m, 0));
    assert_false(extent_whole_base(&m, 1));
    extent_fini(&m);
    extent_init_base(&m, 0);
    assert_text(&m, "");
    extent_init_base(&m, 50);
    assert_text(&m, "B 50\n");
    assert_true(extent_whole_base(&m, 50));
    assert_false(extent_whole_base(&m, 51));
    assert_int_equal(extent_set(&m, 10, 0, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set(&m, 1000, 0, EXT_LOCAL, NULL, 0), 0);
    assert_text(&m, "B 50\n");
    assert_int_equal(extent_set(&m, 60, 10, EXT_LOCAL, NULL, 0), 0);
    assert_text(&m, "B 50\nH 10\nL 10\n");
    assert_int_equal(extent_set(&m, 50, 10, EXT_LOCAL, NULL, 0), 0);
    assert_text(&m, "B 50\nL 20\n");
    assert_int_equal(extent_set(&m, 20, 10, EXT_REMOTE, s, 5), 0);
    assert_text(&m,
                "B 20\nR 10 5 7 100 1234567890123456789 - =e%221 = =a%20b/%C3%BC%25\nB 20\nL 20\n");
    assert_int_equal(s->refs, 2);
    assert_int_equal(extent_set(&m, 30, 5, EXT_REMOTE, s, 15), 0);
    assert_int_equal(s->refs, 2); /* continues the range before: one extent */
    assert_int_equal(extent_set(&m, 35, 5, EXT_REMOTE, s, 0), 0);
    assert_int_equal(s->refs, 3);
    assert_int_equal(extent_find(&m, 34)->off, 20);
    assert_int_equal(extent_find(&m, 35)->off, 35);
    assert_null(extent_find(&m, 70));
    assert_int_equal(extent_bytes(&m, EXT_REMOTE), 20);
    assert_true(extent_has(&m, EXT_LOCAL));
    assert_false(extent_has(&m, EXT_HOLE));
    assert_int_equal(extent_truncate(&m, 22), 0);
    assert_int_equal(s->refs, 2);
    assert_int_equal(extent_truncate(&m, 30), 0);
    assert_int_equal(extent_bytes(&m, EXT_HOLE), 8);
    /* the last reference goes with the extent that is replaced by the very same source */
    extent_source_unref(s);
    s = m.v[1].src;
    assert_int_equal(s->refs, 1);
    assert_int_equal(extent_set(&m, 0, 30, EXT_REMOTE, s, 0), 0);
    assert_int_equal(m.v[0].src->refs, 1);
    extent_check(&m);
    assert_int_equal(extent_truncate(&m, 0), 0);
    assert_text(&m, "");
    extent_fini(&m);
}

static void test_limits(void **state)
{
    struct extent_map m;
    struct extent_source *s = make_source(1, "k", "e", 10);
    extent_init_base(&m, UINT64_MAX);
    assert_int_equal(m.size, INT64_MAX);
    extent_check(&m);
    extent_fini(&m);
    assert_int_equal(extent_set(&m, INT64_MAX, 1, EXT_LOCAL, NULL, 0), -EFBIG);
    assert_int_equal(extent_set(&m, 1, INT64_MAX, EXT_LOCAL, NULL, 0), -EFBIG);
    assert_int_equal(extent_set(&m, UINT64_MAX, UINT64_MAX, EXT_LOCAL, NULL, 0), -EFBIG);
    assert_int_equal(extent_set_part(&m, INT64_MAX, 1, 1), -EFBIG);
    assert_int_equal(extent_truncate(&m, (uint64_t)INT64_MAX + 1), -EFBIG);
    assert_int_equal(extent_set(&m, 0, 11, EXT_REMOTE, s, 0), -EINVAL);
    assert_int_equal(extent_set(&m, 0, 1, EXT_REMOTE, s, 10), -EINVAL);
    assert_int_equal(extent_set(&m, 0, 1, EXT_REMOTE, s, UINT64_MAX), -EINVAL);
    assert_text(&m, "");
    assert_int_equal(extent_set(&m, INT64_MAX - 1, 1, EXT_LOCAL, NULL, 0), 0);
    assert_text(&m, "H 9223372036854775806\nL 1\n");
    struct extent_map to;
    uint64_t done = 99;
    extent_init(&to);
    assert_int_equal(extent_copy(&to, 1, &m, 0, UINT64_MAX, NULL, &done), 0);
    assert_int_equal(done, INT64_MAX - 1); /* up to the LOCAL byte, and just fits */
    assert_int_equal(extent_copy(&to, 2, &m, 0, UINT64_MAX, NULL, &done), -EFBIG);
    extent_fini(&to);
    extent_fini(&m);
    /* BASE cannot be copied without saying what it is */
    extent_init_base(&m, 20);
    assert_int_equal(extent_copy(&to, 0, &m, 0, 5, NULL, &done), -EINVAL);
    assert_int_equal(extent_copy(&to, 0, &m, 5, 6, s, &done), -EINVAL);
    assert_int_equal(to.size, 0);
    assert_int_equal(extent_copy(&to, 0, &m, 5, 5, s, &done), 0);
    assert_int_equal(done, 5);
    assert_int_equal(extent_copy(&to, 0, &m, 20, 5, s, &done), 0);
    assert_int_equal(done, 0);
    assert_int_equal(extent_copy(&to, 0, &m, 0, 0, NULL, &done), 0);
    assert_int_equal(done, 0);
    extent_fini(&to);
    extent_fini(&m);
    assert_int_equal(s->refs, 1);
    extent_source_unref(s);
}

static void test_parts(void **state)
{
    struct extent_map m;
    extent_init(&m);
    assert_int_equal(extent_set(&m, 0, 30, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set_part(&m, 0, 10, 1), 0);
    assert_int_equal(extent_set_part(&m, 10, 10, 2), 0);
    assert_int_equal(extent_set_part(&m, 50, 0, 3), 0);
    assert_text(&m, "P 10 1\nP 10 2\nL 10\n");
    assert_int_equal(extent_set(&m, 19, 1, EXT_LOCAL, NULL, 0), -EFBIG);
    assert_int_equal(extent_set(&m, 0, 30, EXT_HOLE, NULL, 0), -EFBIG);
    assert_int_equal(extent_set_part(&m, 15, 10, 2), -EFBIG);
    assert_int_equal(extent_truncate(&m, 19), -EFBIG);
    assert_int_equal(extent_truncate(&m, 20), 0);
    assert_int_equal(extent_set(&m, 20, 5, EXT_LOCAL, NULL, 0), 0);
    assert_text(&m, "P 10 1\nP 10 2\nL 5\n");
    struct extent_map to;
    uint64_t done = 1;
    extent_init(&to);
    assert_int_equal(extent_copy(&to, 0, &m, 5, 20, NULL, &done), 0);
    assert_int_equal(done, 0);
    assert_int_equal(extent_truncate(&to, 5), 0);
    assert_int_equal(extent_copy(&m, 18, &to, 0, 5, NULL, &done), -EFBIG);
    assert_int_equal(extent_copy(&m, 20, &to, 0, 5, NULL, &done), 0);
    assert_int_equal(done, 5);
    assert_text(&m, "P 10 1\nP 10 2\nH 5\n");
    extent_fini(&to);
    extent_fini(&m);
}

static void test_whole(void **state)
{
    struct extent_map m;
    struct extent_source *s = make_source(1, "k", "e", 10);
    extent_init(&m);
    assert_null(extent_whole_remote(&m));
    assert_int_equal(extent_set(&m, 0, 9, EXT_REMOTE, s, 0), 0);
    assert_null(extent_whole_remote(&m));
    assert_int_equal(extent_set(&m, 9, 1, EXT_REMOTE, s, 9), 0);
    assert_ptr_equal(extent_whole_remote(&m), s);
    assert_int_equal(extent_truncate(&m, 11), 0);
    assert_null(extent_whole_remote(&m));
    assert_int_equal(extent_truncate(&m, 10), 0);
    assert_ptr_equal(extent_whole_remote(&m), s);
    assert_int_equal(extent_set(&m, 0, 1, EXT_REMOTE, s, 1), 0);
    assert_null(extent_whole_remote(&m));
    extent_fini(&m);
    assert_int_equal(extent_set(&m, 0, 9, EXT_REMOTE, s, 1), 0);
    assert_null(extent_whole_remote(&m));
    extent_fini(&m);
    extent_source_unref(s);
}

static void test_seek(void **state)
{
    struct extent_map m;
    extent_init(&m);
    assert_int_equal(extent_seek(&m, 0, SEEK_DATA), -ENXIO);
    assert_int_equal(extent_truncate(&m, 10), 0);
    assert_int_equal(extent_seek(&m, 0, SEEK_DATA), -ENXIO);
    assert_int_equal(extent_seek(&m, 3, SEEK_HOLE), 3);
    assert_int_equal(extent_set(&m, 4, 3, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_seek(&m, 0, SEEK_DATA), 4);
    assert_int_equal(extent_seek(&m, 5, SEEK_DATA), 5);
    assert_int_equal(extent_seek(&m, 5, SEEK_HOLE), 7);
    assert_int_equal(extent_seek(&m, 7, SEEK_DATA), -ENXIO);
    assert_int_equal(extent_truncate(&m, 7), 0);
    assert_int_equal(extent_seek(&m, 5, SEEK_HOLE), 7); /* the end counts as one */
    assert_int_equal(extent_seek(&m, 7, SEEK_HOLE), -ENXIO);
    assert_int_equal(extent_seek(&m, 0, SEEK_SET), -EINVAL);
    extent_fini(&m);
}

/* ---- text ---- */

#define SRC "7 100 -5 00112233445566778899aabbccddeeff =e%221 =v =a%20b/%25"

static void test_parse_good(void **state)
{
    static const char *const good[] = {
        "",
        "B 1\n",
        "L 9223372036854775807\n",
        "B 5\nL 3\nH 2\nP 7 1\nP 7 2\n",
        "R 10 5 " SRC "\nR 10 5 ^\nH 1\nR 1 99 ^\n",
        "R 10 0 0 10 0 - = = =k\n",
        "R 1 0 4294967295 18446744073709551615 -9223372036854775808 - =e =v =k\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct extent_map m;
        assert_int_equal(extent_parse(&m, good[i], 5), 0);
        assert_text(&m, good[i]);
        extent_fini(&m);
    }
    struct extent_map m;
    assert_int_equal(extent_parse(&m, "R 10 5 " SRC "\nR 10 5 ^\n", 2), 0);
    assert_ptr_equal(m.v[0].src, m.v[1].src);
    assert_int_equal(m.v[0].src->refs, 2);
    assert_int_equal(m.v[0].src->mtime_ns, -5);
    assert_true(m.v[0].src->has_md5);
    assert_int_equal(m.v[0].src->md5[1], 0x11);
    assert_string_equal(m.v[0].src->key, "a b/%");
    assert_string_equal(m.v[0].src->etag, "e\"1");
    extent_fini(&m);
}

static void test_parse_bad(void **state)
{
    static const char *const bad[] = {
        "B",
        "B ",
        "B 1",
        "B 0\n",
        "B 01\n",
        "B -1\n",
        "B +1\n",
        "B 1 \n",
        "B  1\n",
        "b 1\n",
        "X 1\n",
        "\n",
        " B 1\n",
        "B 1\r\n",
        "B 1\n\n",
        "B 9223372036854775808\n",
        "B 99999999999999999999999\n",
        "B 9223372036854775807\nL 1\n",
        "B 1\nB 1\n",
        "L 1\nL 1\n",
        "H 1\nH 1\n",
        "P 1 1\nP 1 1\n",
        "P 1\n",
        "P 1 0\n",
        "P 1 4294967296\n",
        "R 1\n",
        "R 1 0\n",
        "R 1 0 ^\n",
        "L 1\nR 1 0 ^\n",
        "R 10 91 " SRC "\n",
        "R 10 18446744073709551615 " SRC "\n",
        "R 101 0 " SRC "\n",
        "R 10 5 " SRC "\nR 10 15 ^\n",
        "R 10 5 " SRC "\nR 10 15 " SRC "\n",
        "R 1 0 7 100 5 - =e =v =\n",
        "R 1 0 7 100 5 - =e =v =k%00\n",
        "R 1 0 7 100 5 - =e%0 =v =k\n",
        "R 1 0 7 100 5 - =e =v k\n",
        "R 1 0 7 100 5 - e =v =k\n",
        "R 1 0 7 100 5 =e =v =k\n",
        "R 1 0 7 100 5 0011 =e =v =k\n",
        "R 1 0 7 100 5 zz112233445566778899aabbccddeeff =e =v =k\n",
        "R 1 0 4294967296 100 5 - =e =v =k\n",
        "R 1 0 7 100 9223372036854775808 - =e =v =k\n",
        "R 1 0 7 100 -9223372036854775809 - =e =v =k\n",
        "R 1 0 7 18446744073709551616 5 - =e =v =k\n",
        "R 1 0 7 1 5 - =e =vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv =k\n",
        "R 1 0 7 100 5 - =e =v =k x\n",
        "R 1 0 7 100 5 - =e =v =k",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct extent_map m;
        if (extent_parse(&m, bad[i], 100) != -EINVAL) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(m.n, 0);
        extent_fini(&m); /* harmless */
    }
    struct extent_map m;
    assert_int_equal(extent_parse(&m, "B 1\nL 1\nH 1\n", 2), -EINVAL);
    assert_int_equal(extent_parse(&m, "B 1\n", 0), -EINVAL);
}

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16) % n;
}

/* Whatever happens to a good text, parse ends in a sound map or in -EINVAL. */
static void test_parse_damaged(void **state)
{
    static const char text[] =
        "B 5\nL 3\nR 10 5 " SRC "\nR 10 5 ^\nP 7 1\nH 2\nR 10 0 0 10 0 - =x = =k\n";
    static const char alphabet[] = "BLRHP 0123456789-^=%\n\tzA\x80";
    unsigned good = 0;
    seed = 0x5eed1;
    for (unsigned round = 0; round < 50000; round++) {
        char copy[sizeof(text)];
        memcpy(copy, text, sizeof(text));
        for (unsigned n = 1 + rnd(3); n > 0; n--) {
            copy[rnd(sizeof(text) - 1)] = alphabet[rnd(sizeof(alphabet))];
        }
        struct extent_map m;
        int err = extent_parse(&m, copy, 8);
        assert_true(err == 0 || err == -EINVAL);
        extent_check(&m);
        if (err == 0) {
            good++;
            CLEANUP(buf_fini) struct buf b = BUF_INIT;
            assert_int_equal(extent_format(&m, &b), 0);
            assert_true(b.len > 0 || copy[0] == '\0');
        }
        extent_fini(&m);
    }
    assert_in_range(good, 1000, 49000);
}

/* ---- against a plain array of bytes, each of which knows where it comes from ---- */

enum { CELLS = 300, MAPS = 3, SOURCES = 4 };
struct cell {
    enum extent_kind kind;
    int src;
    uint64_t at; /* offset in the source, or the part */
};
struct mirror {
    struct cell cells[CELLS];
    uint64_t size;
};
static struct extent_source *sources[SOURCES];

static int source_index(const struct extent_source *s)
{
    for (int i = 0; i < SOURCES; i++) {
        if (extent_source_same(sources[i], s)) {
            return i;
        }
    }
    return -1;
}

static void compare(const struct extent_map *m, const struct mirror *r)
{
    extent_check(m);
    assert_int_equal(m->size, r->size);
    uint64_t bytes[EXT_PART + 1] = {0};
    size_t borders = 0;
    for (uint64_t off = 0; off < r->size; off++) {
        const struct cell *c = &r->cells[off];
        const struct extent *e = extent_find(m, off);
        assert_non_null(e);
        assert_true(e->off <= off && off < e->off + e->len);
        borders += e->off == off;
        assert_int_equal(e->kind, c->kind);
        bytes[c->kind]++;
        if (c->kind == EXT_REMOTE) {
            assert_int_equal(source_index(e->src), c->src);
            assert_int_equal(e->src_off + (off - e->off), c->at);
        } else if (c->kind == EXT_PART) {
            assert_int_equal(e->part, c->at);
        }
    }
    assert_int_equal(borders, m->n);
    assert_null(extent_find(m, r->size));
    for (int kind = 0; kind <= EXT_PART; kind++) {
        assert_int_equal(extent_bytes(m, (enum extent_kind)kind), bytes[kind]);
        assert_int_equal(extent_has(m, (enum extent_kind)kind), bytes[kind] > 0);
    }
    uint64_t off = rnd(CELLS + 1);
    uint64_t data = off;
    uint64_t hole = off;
    while (data < r->size && r->cells[data].kind == EXT_HOLE) {
        data++;
    }
    while (hole < r->size && r->cells[hole].kind != EXT_HOLE) {
        hole++;
    }
    assert_int_equal(extent_seek(m, off, SEEK_DATA), data < r->size ? (int64_t)data : -ENXIO);
    assert_int_equal(extent_seek(m, off, SEEK_HOLE), off < r->size ? (int64_t)hole : -ENXIO);
}

static void fill(struct mirror *r, uint64_t off, uint64_t len, struct cell first)
{
    for (uint64_t i = r->size; i < off; i++) {
        r->cells[i] = (struct cell){.kind = EXT_HOLE};
    }
    for (uint64_t i = 0; i < len; i++) {
        r->cells[off + i] = first;
        if (first.kind == EXT_REMOTE) {
            r->cells[off + i].at += i;
        }
    }
    r->size = MAX(r->size, off + len);
}

static bool has_part(const struct mirror *r, uint64_t off, uint64_t end)
{
    for (uint64_t i = off; i < end && i < r->size; i++) {
        if (r->cells[i].kind == EXT_PART) {
            return true;
        }
    }
    return false;
}

static void step_set(struct extent_map *m, struct mirror *r)
{
    uint64_t off = rnd(CELLS - 1);
    uint64_t len = 1 + rnd((uint32_t)MIN(CELLS - off - 1, (uint64_t)(rnd(2) ? 8 : 120)) + 1);
    len = MIN(len, CELLS - off);
    struct cell c = {.kind = EXT_LOCAL};
    bool blocked = has_part(r, off, off + len);
    int err;
    switch (rnd(5)) {
    case 0:
        c.kind = EXT_HOLE;
        err = extent_set(m, off, len, EXT_HOLE, NULL, 0);
        break;
    case 1:
    case 2:
        c.kind = EXT_REMOTE;
        c.src = (int)rnd(SOURCES);
        c.at = rnd(2) ? off : rnd(100); /* often where a neighbour of the same source may join */
        err = extent_set(m, off, len, EXT_REMOTE, sources[c.src], c.at);
        break;
    default:
        err = extent_set(m, off, len, EXT_LOCAL, NULL, 0);
        break;
    }
    assert_int_equal(err, blocked ? -EFBIG : 0);
    if (!blocked) {
        fill(r, off, len, c);
    }
}

static void step_copy(struct extent_map *maps, struct mirror *mirrors)
{
    unsigned a = rnd(MAPS);
    unsigned b = rnd(MAPS);
    uint64_t soff = rnd(CELLS);
    uint64_t doff = rnd(CELLS);
    uint64_t len = rnd((uint32_t)MIN(CELLS - soff, CELLS - doff) + 1);
    uint64_t want = 0;
    struct mirror old = mirrors[a];
    while (want < len && soff + want < old.size && old.cells[soff + want].kind != EXT_LOCAL &&
           old.cells[soff + want].kind != EXT_PART) {
        want++;
    }
    uint64_t done = UINT64_MAX;
    /* each map's own base is the source with its number */
    int err = extent_copy(&maps[b], doff, &maps[a], soff, len, sources[a], &done);
    if (want > 0 && has_part(&mirrors[b], doff, doff + want)) {
        assert_int_equal(err, -EFBIG);
        return;
    }
    assert_int_equal(err, 0);
    assert_int_equal(done, want);
    for (uint64_t i = 0; i < want; i++) {
        struct cell c = old.cells[soff + i];
        if (c.kind == EXT_BASE) {
            c = (struct cell){.kind = EXT_REMOTE, .src = (int)a, .at = soff + i};
        }
        fill(&mirrors[b], doff + i, 1, c);
    }
}

static void step_reload(struct extent_map *m)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    CLEANUP(buf_fini) struct buf again = BUF_INIT;
    struct extent_map copy;
    size_t n = m->n;
    assert_int_equal(extent_format(m, &b), 0);
    assert_int_equal(extent_parse(&copy, buf_str(&b), n), 0);
    if (n > 0) {
        struct extent_map less;
        assert_int_equal(extent_parse(&less, buf_str(&b), n - 1), -EINVAL);
    }
    assert_int_equal(extent_format(&copy, &again), 0);
    assert_string_equal(buf_str(&again), buf_str(&b));
    extent_fini(m);
    *m = copy;
}

static void check_refs(const struct extent_map *maps)
{
    for (int s = 0; s < SOURCES; s++) {
        unsigned want = 1;
        for (int i = 0; i < MAPS; i++) {
            for (size_t x = 0; x < maps[i].n; x++) {
                want += maps[i].v[x].src == sources[s];
            }
        }
        assert_int_equal(sources[s]->refs, want);
    }
}

static void test_random(void **state)
{
    for (uint64_t run = 1; run <= 40; run++) {
        struct extent_map maps[MAPS];
        struct mirror mirrors[MAPS];
        memset(mirrors, 0, sizeof(mirrors));
        seed = run * 0x9e3779b97f4a7c15u;
        for (int s = 0; s < SOURCES; s++) {
            char etag[16];
            (void)snprintf(etag, sizeof(etag), "e%d", s);
            sources[s] = make_source(1, s < 2 ? "same" : "other", etag, 2 * CELLS);
        }
        for (int i = 0; i < MAPS; i++) {
            extent_init_base(&maps[i], i * 100);
            fill(&mirrors[i], 0, i * 100, (struct cell){.kind = EXT_BASE});
        }
        for (unsigned round = 0; round < 600; round++) {
            unsigned i = rnd(MAPS);
            struct extent_map *m = &maps[i];
            struct mirror *r = &mirrors[i];
            switch (rnd(16)) {
            case 0: {
                uint64_t size = rnd(CELLS);
                bool blocked = size < r->size && has_part(r, size, r->size);
                assert_int_equal(extent_truncate(m, size), blocked ? -EFBIG : 0);
                if (!blocked) {
                    fill(r, size, 0, (struct cell){.kind = EXT_HOLE});
                    r->size = size;
                }
                break;
            }
            case 1:
                step_reload(m);
                break;
            case 2: {
                struct extent_map copy;
                extent_clone(&copy, m);
                compare(&copy, r);
                extent_fini(m);
                *m = copy;
                break;
            }
            case 3:
                if (run % 4 == 0 &&
                    rnd(4) == 0) { /* PART ranges stay for ever, so only some runs have them */
                    uint64_t off = rnd(CELLS - 10);
                    unsigned part = 1 + rnd(3);
                    bool blocked = has_part(r, off, off + 5);
                    assert_int_equal(extent_set_part(m, off, 5, part), blocked ? -EFBIG : 0);
                    if (!blocked) {
                        fill(r, off, 5, (struct cell){.kind = EXT_PART, .at = part});
                    }
                }
                break;
            case 4:
                extent_fini(m);
                extent_init_base(m, 250);
                r->size = 0;
                fill(r, 0, 250, (struct cell){.kind = EXT_BASE});
                break;
            case 5:
            case 6:
            case 7:
            case 8:
                step_copy(maps, mirrors);
                break;
            default:
                step_set(m, r);
                break;
            }
            for (int k = 0; k < MAPS; k++) {
                compare(&maps[k], &mirrors[k]);
            }
            check_refs(maps);
        }
        for (int i = 0; i < MAPS; i++) {
            extent_fini(&maps[i]);
        }
        for (int s = 0; s < SOURCES; s++) {
            assert_int_equal(sources[s]->refs, 1);
            extent_source_unref(sources[s]);
        }
    }
}

/* A random writer's map: finding stays cheap, and so does appending. */
static void test_many(void **state)
{
    struct extent_map m;
    extent_init_base(&m, 20000);
    for (uint64_t off = 0; off < 20000; off += 4) {
        assert_int_equal(extent_set(&m, 19996 - off, 2, EXT_LOCAL, NULL, 0), 0);
    }
    assert_int_equal(m.n, 10000);
    extent_check(&m);
    for (uint64_t off = 0; off < 20000; off++) {
        assert_int_equal(extent_find(&m, off)->kind, off % 4 < 2 ? EXT_LOCAL : EXT_BASE);
    }
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(extent_set(&m, m.size, 1, EXT_LOCAL, NULL, 0), 0);
    }
    assert_int_equal(m.n, 10001);
    extent_fini(&m);
}

static void break_check(void *arg)
{
    extent_check(arg);
}

static void set_base(void *arg)
{
    (void)extent_set(arg, 0, 1, EXT_BASE, NULL, 0);
}

static void set_remote_of_nothing(void *arg)
{
    (void)extent_set(arg, 0, 1, EXT_REMOTE, NULL, 0);
}

static void test_rebase(void **state)
{
    struct extent_source *old = make_source(1, "k", "v1", 100), *fresh = make_source(1, "k", "v2", 100);
    struct extent_source *other = make_source(2, "k", "v1", 100);
    struct extent_map sent, m;
    uint64_t done;
    extent_init_base(&sent, 100);
    assert_int_equal(extent_set(&sent, 10, 10, EXT_LOCAL, NULL, 0), 0);
    assert_int_equal(extent_set(&sent, 50, 20, EXT_REMOTE, old, 5), 0); /* 5..25 of the old one, 10..20 of it nowhere else */
    extent_init(&m);
    assert_int_equal(extent_copy(&m, 0, &sent, 50, 30, old, &done), 0);
    assert_int_equal(extent_set(&m, 30, 10, EXT_REMOTE, other, 0), 0);
    assert_true(extent_rebase(&m, old, &sent, fresh));
    extent_check(&m);
    assert_true(m.size == 40 && !extent_rebase(&m, old, &sent, fresh));
    for (uint64_t p = 0; p < 30; p++) {
        const struct extent *e = extent_find(&m, p);
        uint64_t at = e->src_off + (p - e->off);
        assert_ptr_equal(e->src, fresh);
        assert_true(p < 20 ? at == 50 + p || at == 5 + p : at == 50 + p);
    }
    assert_ptr_equal(extent_find(&m, 30)->src, other);
    extent_fini(&m);
    /* What was not taken over stays as it is. */
    assert_int_equal(extent_truncate(&sent, 15), 0);
    extent_init(&m);
    assert_int_equal(extent_set(&m, 0, 20, EXT_REMOTE, old, 0), 0);
    assert_true(extent_rebase(&m, old, &sent, fresh));
    assert_ptr_equal(extent_find(&m, 9)->src, fresh);
    assert_ptr_equal(extent_find(&m, 10)->src, old);
    extent_fini(&m);
    extent_fini(&sent);
    struct extent_source *all[] = {old, fresh, other};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_int_equal(all[i]->refs, 1);
        extent_source_unref(all[i]);
    }
}

static void test_checks_notice(void **state)
{
    struct extent_map m;
    extent_init_base(&m, 10);
    assert_false(aborts(break_check, &m));
    assert_true(aborts(set_base, &m));
    assert_true(aborts(set_remote_of_nothing, &m));
    m.size = 11;
    assert_true(aborts(break_check, &m));
    m.size = 10;
    m.v[0].off = 1;
    assert_true(aborts(break_check, &m));
    m.v[0].off = 0;
    m.v[0].part = 1;
    assert_true(aborts(break_check, &m));
    m.v[0].part = 0;
    assert_int_equal(extent_set(&m, 10, 1, EXT_LOCAL, NULL, 0), 0);
    m.v[1].kind = EXT_BASE;
    assert_true(aborts(break_check, &m)); /* neighbours that could be one */
    m.v[1].kind = EXT_LOCAL;
    extent_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source),        cmocka_unit_test(test_basic),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_whole),         cmocka_unit_test(test_seek),
        cmocka_unit_test(test_parse_good),    cmocka_unit_test(test_parse_bad),
        cmocka_unit_test(test_parse_damaged), cmocka_unit_test(test_random),
        cmocka_unit_test(test_many), cmocka_unit_test(test_rebase),          cmocka_unit_test(test_checks_notice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
