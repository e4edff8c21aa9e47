/* Extent maps: a sorted array, found by binary search and edited by moving its tail. Files have few
 * extents (a handful after most edits, thousands after a random writer), so an array beats a tree
 * in size, speed and doubt.
 *
 * Every edit cuts at both ends of its range (split_at), replaces what lies between, and joins the
 * new extent with its neighbours. All checks that can fail come before the first change, so a
 * refused edit leaves the map as it was. */
#include "extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"

#define SIZE_LIMIT ((uint64_t)INT64_MAX)

struct extent_source *extent_source_new(uint32_t remote, const char *key, const struct be_object *o)
{
    struct extent_source *s = mem_zalloc(sizeof(*s));
    s->refs = 1;
    s->remote = remote;
    s->key = mem_strdup(key);
    s->size = o->size;
    s->mtime_ns = o->mtime_ns;
    memcpy(s->etag, o->etag, sizeof(s->etag));
    s->etag[sizeof(s->etag) - 1] = '\0';
    memcpy(s->version_id, o->version_id, sizeof(s->version_id));
    s->version_id[sizeof(s->version_id) - 1] = '\0';
    s->has_md5 = o->etag_is_md5 && hex_decode(s->etag, sizeof(s->md5), s->md5);
    return s;
}

struct extent_source *extent_source_ref(struct extent_source *s)
{
    ENSURE(s->refs > 0 && s->refs < UINT32_MAX);
    s->refs++;
    return s;
}

void extent_source_unref(struct extent_source *s)
{
    if (!s) {
        return;
    }
    ENSURE(s->refs > 0);
    if (--s->refs == 0) {
        free(s->key);
        free(s);
    }
}

bool extent_source_same(const struct extent_source *a, const struct extent_source *b)
{
    if (a == b) {
        return true;
    }
    if (!a || !b || a->remote != b->remote || strcmp(a->key, b->key) != 0 ||
        strcmp(a->etag, b->etag) != 0 || strcmp(a->version_id, b->version_id) != 0) {
        return false;
    }
    /* Two looks at a key that tell neither etag nor version say nothing about its content. */
    return a->etag[0] != '\0' || a->version_id[0] != '\0';
}

/* Looks at one version need not tell the same of it: here the etag decides. */
static bool same_version(const struct extent_source *a, const struct extent_source *b)
{
    return a->remote == b->remote && strcmp(a->key, b->key) == 0 && strcmp(a->etag, b->etag) == 0;
}

static uint64_t ext_end(const struct extent *e)
{
    return e->off + e->len;
}

static void reserve(struct extent_map *m, size_t extra)
{
    if (m->cap - m->n >= extra) {
        return;
    }
    size_t cap = MAX(m->cap + m->cap / 2, MAX(m->n + extra, (size_t)4));
    m->v = mem_realloc(m->v, cap * sizeof(*m->v));
    m->cap = cap;
}

void extent_init(struct extent_map *m)
{
    *m = (struct extent_map){0};
}

void extent_init_base(struct extent_map *m, uint64_t size)
{
    extent_init(m);
    /* A size no file can have comes from a server that lies; the reads behind the end fail then. */
    size = MIN(size, SIZE_LIMIT);
    if (size > 0) {
        reserve(m, 1);
        m->v[m->n++] = (struct extent){.off = 0, .len = size, .kind = EXT_BASE};
        m->size = size;
    }
}

void extent_fini(struct extent_map *m)
{
    for (size_t i = 0; i < m->n; i++) {
        extent_source_unref(m->v[i].src);
    }
    free(m->v);
    extent_init(m);
}

void extent_clone(struct extent_map *dst, const struct extent_map *src)
{
    extent_init(dst);
    if (src->n == 0) {
        return;
    }
    reserve(dst, src->n);
    memcpy(dst->v, src->v, src->n * sizeof(*dst->v));
    dst->n = src->n;
    dst->size = src->size;
    for (size_t i = 0; i < dst->n; i++) {
        if (dst->v[i].src) {
            extent_source_ref(dst->v[i].src);
        }
    }
}

/* Index of the extent that holds byte off; n at or beyond the end. */
static size_t index_of(const struct extent_map *m, uint64_t off)
{
    size_t lo = 0;
    size_t hi = m->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ext_end(&m->v[mid]) <= off) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Makes off (at most size) a boundary; returns the index of the extent that begins there, n at the
 * end. */
static size_t split_at(struct extent_map *m, uint64_t off)
{
    size_t i = index_of(m, off);
    if (i == m->n || m->v[i].off == off) {
        return i;
    }
    reserve(m, 1);
    memmove(&m->v[i + 1], &m->v[i], (m->n - i) * sizeof(*m->v));
    m->n++;
    struct extent *left = &m->v[i];
    struct extent *right = &m->v[i + 1];
    uint64_t cut = off - left->off;
    left->len = cut;
    right->off = off;
    right->len -= cut;
    if (right->src) {
        extent_source_ref(right->src);
        right->src_off += cut;
    }
    return i + 1;
}

static bool can_join(const struct extent *a, const struct extent *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case EXT_BASE:
    case EXT_LOCAL:
    case EXT_HOLE:
        return true;
    case EXT_PART:
        return a->part == b->part;
    case EXT_REMOTE:
        return a->src_off + a->len == b->src_off && extent_source_same(a->src, b->src);
    }
    return false;
}

/* Joins v[i] and v[i + 1] when they could be one. */
static void join_at(struct extent_map *m, size_t i)
{
    if (i + 1 >= m->n || !can_join(&m->v[i], &m->v[i + 1])) {
        return;
    }
    m->v[i].len += m->v[i + 1].len;
    extent_source_unref(m->v[i + 1].src);
    memmove(&m->v[i + 1], &m->v[i + 2], (m->n - i - 2) * sizeof(*m->v));
    m->n--;
}

/* Replaces [e->off, end of e) by *e, growing the file as needed. Cannot fail; takes its own
 * reference. */
static void replace(struct extent_map *m, const struct extent *e)
{
    if (e->off > m->size) {
        struct extent hole = {.off = m->size, .len = e->off - m->size, .kind = EXT_HOLE};
        replace(m, &hole);
    }
    size_t from = split_at(m, e->off);
    size_t to = ext_end(e) >= m->size ? m->n : split_at(m, ext_end(e));
    if (e->src) {
        extent_source_ref(e->src); /* before the old ones go: they may hold the last reference */
    }
    for (size_t i = from; i < to; i++) {
        extent_source_unref(m->v[i].src);
    }
    if (from == to) {
        reserve(m, 1);
    }
    memmove(&m->v[from + 1], &m->v[to], (m->n - to) * sizeof(*m->v));
    m->n = m->n - (to - from) + 1;
    m->v[from] = *e;
    m->size = MAX(m->size, ext_end(e));
    join_at(m, from);
    if (from > 0) {
        join_at(m, from - 1);
    }
}

static bool overlaps_part(const struct extent_map *m, uint64_t off, uint64_t end)
{
    for (size_t i = index_of(m, off); i < m->n && m->v[i].off < end; i++) {
        if (m->v[i].kind == EXT_PART) {
            return true;
        }
    }
    return false;
}

/* 0 when [off, off+len) may be replaced. */
static int check_range(const struct extent_map *m, uint64_t off, uint64_t len)
{
    if (off > SIZE_LIMIT || len > SIZE_LIMIT - off) {
        return -EFBIG;
    }
    return overlaps_part(m, off, off + len) ? -EFBIG : 0;
}

int extent_set(struct extent_map *m, uint64_t off, uint64_t len, enum extent_kind kind,
               struct extent_source *src, uint64_t src_off)
{
    ENSURE(kind == EXT_LOCAL || kind == EXT_HOLE || kind == EXT_REMOTE);
    ENSURE((kind == EXT_REMOTE) == (src != NULL));
    if (len == 0) {
        return 0;
    }
    int err = check_range(m, off, len);
    if (err < 0) {
        return err;
    }
    if (src && (src_off > src->size || len > src->size - src_off)) {
        return -EINVAL;
    }
    struct extent e = {
        .off = off, .len = len, .kind = kind, .src = src, .src_off = src ? src_off : 0};
    replace(m, &e);
    return 0;
}

int extent_set_part(struct extent_map *m, uint64_t off, uint64_t len, unsigned part)
{
    ENSURE(part > 0);
    if (len == 0) {
        return 0;
    }
    int err = check_range(m, off, len);
    if (err < 0) {
        return err;
    }
    struct extent e = {.off = off, .len = len, .kind = EXT_PART, .part = part};
    replace(m, &e);
    return 0;
}

int extent_truncate(struct extent_map *m, uint64_t size)
{
    if (size > SIZE_LIMIT) {
        return -EFBIG;
    }
    if (size > m->size) {
        struct extent hole = {.off = m->size, .len = size - m->size, .kind = EXT_HOLE};
        replace(m, &hole);
        return 0;
    }
    if (size < m->size) {
        if (overlaps_part(m, size, m->size)) {
            return -EFBIG;
        }
        size_t from = split_at(m, size);
        for (size_t i = from; i < m->n; i++) {
            extent_source_unref(m->v[i].src);
        }
        m->n = from;
        m->size = size;
    }
    return 0;
}

int extent_copy(struct extent_map *dst, uint64_t doff, const struct extent_map *src, uint64_t soff,
                uint64_t len, struct extent_source *src_base, uint64_t *ret_done)
{
    if (len == 0 || soff >= src->size) {
        *ret_done = 0;
        return 0;
    }
    uint64_t end = soff + MIN(len, src->size - soff);
    size_t first = index_of(src, soff);
    size_t last = first;
    for (; last < src->n && src->v[last].off < end; last++) {
        const struct extent *e = &src->v[last];
        if (e->kind == EXT_LOCAL || e->kind == EXT_PART) {
            end = MAX(soff, e->off);
            break;
        }
        if (e->kind == EXT_BASE && (!src_base || MIN(end, ext_end(e)) > src_base->size)) {
            return -EINVAL;
        }
    }
    if (end == soff) {
        *ret_done = 0;
        return 0;
    }
    int err = check_range(dst, doff, end - soff);
    if (err < 0) {
        return err;
    }
    /* Within one file the ranges may overlap: read from the map as it was. */
    CLEANUP(extent_fini) struct extent_map before = {0};
    if (dst == src) {
        extent_clone(&before, src);
        src = &before;
    }
    for (size_t i = first; i < last; i++) {
        const struct extent *e = &src->v[i];
        uint64_t from = MAX(soff, e->off);
        uint64_t to = MIN(end, ext_end(e));
        struct extent n = {.off = doff + (from - soff), .len = to - from, .kind = e->kind};
        if (e->kind == EXT_BASE) {
            n.kind = EXT_REMOTE;
            n.src = src_base;
            n.src_off = from;
        } else if (e->kind == EXT_REMOTE) {
            n.src = e->src;
            n.src_off = e->src_off + (from - e->off);
        }
        replace(dst, &n);
    }
    *ret_done = end - soff;
    return 0;
}

/* Where the new version holds byte `at` of the old one, and how many bytes follow in one piece; false: nowhere. */
static bool find_moved(const struct extent_map *sent, const struct extent_source *old, uint64_t at, uint64_t *ret_off,
                       uint64_t *ret_len)
{
    for (size_t i = 0; i < sent->n; i++) {
        const struct extent *e = &sent->v[i];
        uint64_t from = e->kind == EXT_BASE ? e->off : e->src_off;
        bool of_old = e->kind == EXT_BASE || (e->kind == EXT_REMOTE && same_version(e->src, old));
        if (of_old && at >= from && at - from < e->len) {
            *ret_off = e->off + (at - from);
            *ret_len = e->len - (at - from);
            return true;
        }
    }
    return false;
}

bool extent_rebase(struct extent_map *m, const struct extent_source *old, const struct extent_map *sent,
                   struct extent_source *fresh)
{
    CLEANUP(extent_fini) struct extent_map before = {0};
    bool changed = false;
    extent_clone(&before, m);
    for (size_t i = 0; i < before.n; i++) {
        const struct extent *e = &before.v[i];
        if (e->kind != EXT_REMOTE || !same_version(e->src, old)) {
            continue;
        }
        for (uint64_t done = 0; done < e->len;) {
            uint64_t off, len;
            if (!find_moved(sent, old, e->src_off + done, &off, &len)) {
                break; /* the rest was not taken over: it stays what it was, and will be missed there */
            }
            len = MIN(len, e->len - done);
            struct extent n = {.off = e->off + done, .len = len, .kind = EXT_REMOTE, .src = fresh, .src_off = off};
            replace(m, &n);
            done += len;
            changed = true;
        }
    }
    return changed;
}

const struct extent *extent_find(const struct extent_map *m, uint64_t off)
{
    size_t i = index_of(m, off);
    return i < m->n ? &m->v[i] : NULL;
}

uint64_t extent_bytes(const struct extent_map *m, enum extent_kind kind)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].kind == kind) {
            sum += m->v[i].len;
        }
    }
    return sum;
}

bool extent_has(const struct extent_map *m, enum extent_kind kind)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].kind == kind) {
            return true;
        }
    }
    return false;
}

struct extent_source *extent_whole_remote(const struct extent_map *m)
{
    if (m->n != 1 || m->v[0].kind != EXT_REMOTE) {
        return NULL;
    }
    return m->v[0].src_off == 0 && m->v[0].len == m->v[0].src->size ? m->v[0].src : NULL;
}

bool extent_whole_base(const struct extent_map *m, uint64_t base_size)
{
    return m->size == base_size && (m->n == 0 || (m->n == 1 && m->v[0].kind == EXT_BASE));
}

int64_t extent_seek(const struct extent_map *m, uint64_t off, int whence)
{
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        return -EINVAL;
    }
    if (off >= m->size) {
        return -ENXIO;
    }
    for (size_t i = index_of(m, off); i < m->n; i++) {
        if ((m->v[i].kind == EXT_HOLE) == (whence == SEEK_HOLE)) {
            return (int64_t)MAX(off, m->v[i].off);
        }
    }
    return whence == SEEK_HOLE ? (int64_t)m->size : -ENXIO;
}

void extent_check(const struct extent_map *m)
{
    uint64_t at = 0;
    ENSURE(m->n <= m->cap && m->size <= SIZE_LIMIT);
    for (size_t i = 0; i < m->n; i++) {
        const struct extent *e = &m->v[i];
        ENSURE(e->off == at && e->len > 0 && e->len <= m->size - at);
        ENSURE((e->kind == EXT_REMOTE) == (e->src != NULL));
        ENSURE((e->kind == EXT_PART) == (e->part > 0));
        if (e->src) {
            ENSURE(e->src->refs > 0);
            ENSURE(e->src_off <= e->src->size && e->len <= e->src->size - e->src_off);
        }
        ENSURE(i == 0 || !can_join(&m->v[i - 1], e));
        at += e->len;
    }
    ENSURE(at == m->size);
}

/* The text form. One line an extent, in order, so offsets need not be said:
 *
 *     B LEN                 L LEN                 H LEN                 P LEN NUMBER
 *     R LEN SRC_OFF REMOTE SIZE MTIME_NS MD5 =ETAG =VERSION =KEY       R LEN SRC_OFF ^
 *
 * MD5 is 32 hex digits or "-"; the three last are percent-encoded; "^" is the source of the REMOTE
 * extent before. */

static int add_encoded(struct buf *out, const char *s)
{
    int err = buf_adds(out, " =");
    return err < 0 ? err : url_encode(out, s, strlen(s), true);
}

static int format_source(const struct extent_source *s, struct buf *out)
{
    char md5[33] = "-";
    if (s->has_md5) {
        hex_encode(s->md5, sizeof(s->md5), md5);
    }
    int err = buf_addf(out, " %u %llu %lld %s", (unsigned)s->remote, (unsigned long long)s->size,
                       (long long)s->mtime_ns, md5);
    if (err == 0) {
        err = add_encoded(out, s->etag);
    }
    if (err == 0) {
        err = add_encoded(out, s->version_id);
    }
    return err < 0 ? err : add_encoded(out, s->key);
}

int extent_format(const struct extent_map *m, struct buf *out)
{
    static const char letters[] = {[EXT_BASE] = 'B',
                                   [EXT_LOCAL] = 'L',
                                   [EXT_REMOTE] = 'R',
                                   [EXT_HOLE] = 'H',
                                   [EXT_PART] = 'P'};
    const struct extent_source *last = NULL;
    for (size_t i = 0; i < m->n; i++) {
        const struct extent *e = &m->v[i];
        int err = buf_addf(out, "%c %llu", letters[e->kind], (unsigned long long)e->len);
        if (err == 0 && e->kind == EXT_PART) {
            err = buf_addf(out, " %u", e->part);
        }
        if (err == 0 && e->kind == EXT_REMOTE) {
            err = buf_addf(out, " %llu", (unsigned long long)e->src_off);
            if (err == 0) {
                err = e->src == last ? buf_adds(out, " ^") : format_source(e->src, out);
            }
            last = e->src;
        }
        if (err == 0) {
            err = buf_addc(out, '\n');
        }
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

/* Exactly one decimal number as printf writes it: no sign, no leading zero. */
static bool take_number(const char **p, uint64_t max, uint64_t *ret)
{
    const char *s = *p;
    uint64_t n = 0;
    if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9')) {
        return false;
    }
    for (; *s >= '0' && *s <= '9'; s++) {
        if (MUL_OVERFLOWS(n, (uint64_t)10, &n) || ADD_OVERFLOWS(n, (uint64_t)(*s - '0'), &n)) {
            return false;
        }
    }
    if (n > max) {
        return false;
    }
    *p = s;
    *ret = n;
    return true;
}

static bool take_char(const char **p, char c)
{
    if (**p != c) {
        return false;
    }
    (*p)++;
    return true;
}

/* " =TEXT" of at most max bytes when decoded, without NUL. */
static bool take_encoded(const char **p, size_t max, struct buf *ret)
{
    if (!take_char(p, ' ') || !take_char(p, '=')) {
        return false;
    }
    size_t n = strcspn(*p, " \n");
    buf_clear(ret);
    if (url_decode(ret, *p, n, false) < 0 || ret->len > max ||
        (ret->len > 0 && memchr(ret->data, '\0', ret->len))) {
        return false;
    }
    *p += n;
    return true;
}

/* The source of an "R" line from its REMOTE field on; NULL when it is not one. */
static struct extent_source *parse_source(const char **p)
{
    uint64_t remote;
    uint64_t mtime;
    struct be_object o = {0};
    if (!take_number(p, UINT32_MAX, &remote) || !take_char(p, ' ') ||
        !take_number(p, UINT64_MAX, &o.size) || !take_char(p, ' ')) {
        return NULL;
    }
    bool negative = take_char(p, '-');
    if (!take_number(p, SIZE_LIMIT + (negative ? 1 : 0), &mtime) || !take_char(p, ' ')) {
        return NULL;
    }
    o.mtime_ns = (int64_t)(negative ? 0 - mtime : mtime);
    uint8_t md5[16] = {0};
    bool has_md5 = !take_char(p, '-');
    if (has_md5) {
        char hex[33] = {0};
        size_t n = strcspn(*p, " \n");
        if (n != 32) {
            return NULL;
        }
        memcpy(hex, *p, n);
        if (!hex_decode(hex, sizeof(md5), md5)) {
            return NULL;
        }
        *p += n;
    }
    CLEANUP(buf_fini) struct buf etag = BUF_INIT;
    CLEANUP(buf_fini) struct buf version = BUF_INIT;
    CLEANUP(buf_fini) struct buf key = BUF_INIT;
    if (!take_encoded(p, sizeof(o.etag) - 1, &etag) ||
        !take_encoded(p, sizeof(o.version_id) - 1, &version) || !take_encoded(p, SIZE_MAX, &key) ||
        key.len == 0) {
        return NULL;
    }
    memcpy(o.etag, buf_str(&etag), etag.len);
    memcpy(o.version_id, buf_str(&version), version.len);
    struct extent_source *s = extent_source_new((uint32_t)remote, buf_str(&key), &o);
    s->has_md5 = has_md5;
    memcpy(s->md5, md5, sizeof(s->md5));
    return s;
}

/* One line, appended to m. *last is the source of the REMOTE extent before, owned by m. */
static bool parse_line(struct extent_map *m, const char **p, struct extent_source **last)
{
    static const char letters[] = "BLRHP";
    static const enum extent_kind kinds[] = {EXT_BASE, EXT_LOCAL, EXT_REMOTE, EXT_HOLE, EXT_PART};
    const char *letter = **p != '\0' ? strchr(letters, **p) : NULL;
    struct extent e = {.off = m->size};
    uint64_t n;
    if (!letter) {
        return false;
    }
    e.kind = kinds[letter - letters];
    (*p)++;
    if (!take_char(p, ' ') || !take_number(p, SIZE_LIMIT - m->size, &e.len) || e.len == 0) {
        return false;
    }
    if (e.kind == EXT_PART) {
        if (!take_char(p, ' ') || !take_number(p, UINT32_MAX, &n) || n == 0) {
            return false;
        }
        e.part = (unsigned)n;
    }
    if (e.kind == EXT_REMOTE) {
        if (!take_char(p, ' ') || !take_number(p, UINT64_MAX, &e.src_off) || !take_char(p, ' ')) {
            return false;
        }
        if (take_char(p, '^')) {
            e.src = *last ? extent_source_ref(*last) : NULL;
        } else {
            e.src = parse_source(p);
        }
        if (!e.src) {
            return false;
        }
    }
    if (!take_char(p, '\n') ||
        (e.src && (e.src_off > e.src->size || e.len > e.src->size - e.src_off)) ||
        (m->n > 0 && can_join(&m->v[m->n - 1], &e))) {
        extent_source_unref(e.src);
        return false;
    }
    reserve(m, 1);
    m->v[m->n++] = e;
    m->size += e.len;
    if (e.src) {
        *last = e.src;
    }
    return true;
}

int extent_parse(struct extent_map *m, const char *text, size_t max_extents)
{
    struct extent_source *last = NULL;
    extent_init(m);
    while (*text != '\0') {
        if (m->n == max_extents || !parse_line(m, &text, &last)) {
            extent_fini(m);
            return -EINVAL;
        }
    }
    return 0;
}
