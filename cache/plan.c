/* Which requests give exactly these bytes under that key, cheapest first: nothing, metadata only,
 * one copy, one PUT, multipart. plan_cut.c makes the parts; this file decides everything else. */
#include "plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"
#include "plan_internal.h"

static void impossible(struct plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void impossible(struct plan *p, const char *fmt, ...)
{
    va_list ap;
    plan_fini(p);
    p->action = PLAN_IMPOSSIBLE;
    va_start(ap, fmt);
    (void)vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
    va_end(ap);
}

void plan_fini(struct plan *p)
{
    free(p->parts);
    *p = (struct plan){.action = PLAN_IMPOSSIBLE, .md5 = PLAN_MD5_NONE};
}

/* The largest part that may be gathered in memory. */
static uint64_t gather_max(const struct be_limits *l, uint64_t max_buffer)
{
    uint64_t max = MIN(plan_limit(l->max_part), max_buffer);
    return l->part_unit > 0 ? max - max % l->part_unit : max;
}

/* In whole units where parts have one; one of them at least. */
static uint64_t whole_units(uint64_t size, const struct be_limits *l)
{
    return l->part_unit > 0 ? MAX(size / l->part_unit, (uint64_t)1) * l->part_unit : size;
}

static uint64_t first_part_size(uint64_t wanted, const struct be_limits *l, uint64_t cap)
{
    return whole_units(MIN(MAX(MAX(wanted, l->min_part), (uint64_t)1), cap), l);
}

uint64_t plan_part_size(uint64_t size, uint64_t wanted, const struct be_limits *l,
                        uint64_t max_buffer)
{
    uint64_t cap = gather_max(l, max_buffer);
    if (cap == 0 || (cap < l->min_part && cap < size)) {
        return 0;
    }
    uint64_t part = first_part_size(wanted, l, cap);
    uint64_t max_parts = plan_limit(l->max_parts);
    while (size / part + (size % part != 0) > max_parts) {
        if (part == cap) {
            return 0;
        }
        part = part > cap / 2 ? cap : part * 2;
    }
    return part;
}

uint64_t plan_stream_part(unsigned number, uint64_t first, const struct be_limits *l,
                          uint64_t max_buffer)
{
    /* Doubling ten times on the way to the last part makes room for a thousand times what parts of
     * the first size would hold, while files of ordinary length keep small parts. */
    uint64_t cap = gather_max(l, max_buffer);
    unsigned step = MAX(l->max_parts / 10, 1u);
    uint64_t part = first_part_size(first, l, cap);
    if (l->part_unit > 0) {
        return l->max_parts > 0 && number > l->max_parts ? 0 : part; /* all are of one size */
    }
    for (unsigned doublings = l->max_parts > 0 ? (number - 1) / step : 0; doublings > 0;
         doublings--) {
        if (part > cap / 2) {
            return cap;
        }
        part *= 2;
    }
    return part;
}

static bool has_cap(const struct plan_input *in, uint32_t caps)
{
    return (in->caps & caps) == caps;
}

static bool is_base(const struct plan_input *in, const struct extent_source *src)
{
    return in->base && extent_source_same(in->base, src);
}

/* The committed version lies at the target itself. */
static bool copyable(const struct plan_input *in, const struct extent_source *src)
{
    return is_base(in, src) || (in->can_copy && in->can_copy(in->ctx, src));
}

/* The ranges that one source could give in one piece, and what lies between. */
static struct plan_run *find_runs(const struct plan_input *in, bool may_copy, size_t *ret_n)
{
    const struct extent_map *m = in->map;
    struct plan_run *runs = mem_zalloc(MAX(m->n, (size_t)1) * sizeof(*runs));
    const struct extent_source *asked = NULL;
    bool answer = false;
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct extent *e = &m->v[i];
        struct plan_run r = {.off = e->off, .len = e->len};
        if (may_copy && (e->kind == EXT_BASE || e->kind == EXT_REMOTE)) {
            struct extent_source *src = e->kind == EXT_BASE ? in->base : e->src;
            if (src != asked) {
                answer = copyable(in, src);
                asked = src;
            }
            if (answer) {
                r.src = src;
                r.src_off = e->kind == EXT_BASE ? e->off : e->src_off;
            }
        }
        struct plan_run *last = n > 0 ? &runs[n - 1] : NULL;
        bool joins = last && (r.src ? last->src && last->src_off + last->len == r.src_off &&
                                          extent_source_same(last->src, r.src)
                                    : !last->src);
        if (joins) {
            last->len += r.len;
        } else {
            runs[n++] = r;
        }
    }
    *ret_n = n;
    return runs;
}

/* FNV-1a over what makes two cuts the same. */
static uint64_t layout_digest(const struct plan *p)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < p->n_parts; i++) {
        uint64_t words[] = {p->parts[i].off, p->parts[i].len, p->parts[i].src ? 1 : 0,
                            p->parts[i].src_off};
        for (size_t w = 0; w < ARRAY_LEN(words); w++) {
            for (unsigned b = 0; b < 8; b++) {
                h = (h ^ (words[w] >> (8 * b) & 0xff)) * 1099511628211u;
            }
        }
    }
    return h;
}

static void set_cut_limits(const struct plan_input *in, uint64_t resume_part_size,
                           struct plan_cut *c)
{
    c->max_gather = gather_max(&in->limits, in->max_buffer);
    c->max_copy = MIN(plan_limit(in->limits.max_part), plan_limit(in->limits.max_copy));
    c->min_part = MAX(in->limits.min_part, (uint64_t)1);
    c->max_parts = plan_limit(in->limits.max_parts);
    c->part_size = first_part_size(in->part_size, &in->limits, MAX(c->max_gather, (uint64_t)1));
    c->fixed_part_size = false;
    if (resume_part_size >= in->limits.min_part && resume_part_size > 0 &&
        resume_part_size <= c->max_gather) {
        c->part_size = resume_part_size;
        c->fixed_part_size = true;
    }
}

static void explain_no_cut(const struct plan_input *in, uint64_t size, struct plan *p)
{
    const struct be_limits *l = &in->limits;
    uint64_t cap = gather_max(l, in->max_buffer);
    if (in->max_buffer < plan_limit(l->max_part) && cap < l->min_part) {
        impossible(p, "a part needs %llu bytes of memory, %llu are allowed: raise memory=",
                   (unsigned long long)l->min_part, (unsigned long long)cap);
    } else if (in->max_buffer < plan_limit(l->max_part)) {
        impossible(p, "%llu bytes do not fit %u parts of %llu bytes each: raise memory=",
                   (unsigned long long)size, l->max_parts, (unsigned long long)cap);
    } else {
        impossible(p, "%llu bytes do not fit the provider's %u parts of at most %llu bytes",
                   (unsigned long long)size, l->max_parts, (unsigned long long)cap);
    }
}

/* Takes runs over. False when no cut obeys the limits; then p is unchanged. */
static bool make_multipart(const struct plan_input *in, struct plan_run *runs, size_t n_runs,
                           struct plan *p)
{
    CLEANUP(mem_freep) struct plan_run *owned = runs;
    struct plan_cut cut = {.runs = owned, .n_runs = n_runs};
    set_cut_limits(in, in->resume_part_size, &cut);
    bool ok = plan_cut_make(&cut);
    if (!ok && cut.fixed_part_size) {
        /* What runs was begun under other limits: start anew. */
        set_cut_limits(in, 0, &cut);
        ok = plan_cut_make(&cut);
    }
    if (!ok) {
        return false;
    }
    p->action = PLAN_MULTIPART;
    p->parts = cut.parts;
    p->n_parts = cut.n_parts;
    p->part_size = cut.part_size;
    p->layout = layout_digest(p);
    return true;
}

/* A file whose finished parts are only at the provider: the boundaries are what they are. */
static void make_streamed(const struct plan_input *in, struct plan_run *runs, size_t n_runs,
                          struct plan *p)
{
    CLEANUP(mem_freep) struct plan_run *owned = runs;
    const struct extent_map *m = in->map;
    struct plan_cut lim = {0};
    set_cut_limits(in, 0, &lim);
    uint64_t first = in->resume_part_size > 0 ? in->resume_part_size : lim.part_size;
    CLEANUP(mem_freep) struct plan_part *parts = NULL;
    size_t n = 0;
    size_t cap = 0;
    size_t run = 0;
    for (uint64_t off = 0; off < m->size; off += parts[n - 1].len) {
        const struct extent *e = extent_find(m, off);
        struct plan_part part = {.off = off, .len = m->size - off};
        if (n == UINT32_MAX || n >= lim.max_parts) {
            explain_no_cut(in, m->size, p);
            return;
        }
        if (e->kind == EXT_PART) {
            part.len = e->len;
            if (e->off != off || e->part != n + 1) {
                impossible(p, "part %u, already sent, does not fit this file", e->part);
                return;
            }
        } else {
            uint64_t size = plan_stream_part((unsigned)n + 1, first, &in->limits, in->max_buffer);
            part.len = MIN(part.len, MAX(size, (uint64_t)1));
            bool last = part.len == m->size - off;
            for (; e && e->off < off + part.len; e = extent_find(m, e->off + e->len)) {
                if (e->kind == EXT_PART) {
                    impossible(p, "part %u, already sent, does not fit this file", e->part);
                    return;
                }
            }
            while (run + 1 < n_runs && owned[run + 1].off <= off) {
                run++;
            }
            const struct plan_run *r = &owned[run];
            if (r->src && part.len <= r->off + r->len - off && part.len <= lim.max_copy) {
                part.src = r->src;
                part.src_off = r->src_off + (off - r->off);
            }
            if (!last && part.len < lim.min_part) {
                explain_no_cut(in, m->size, p);
                return;
            }
        }
        if (n == cap) {
            cap = MAX(cap * 2, (size_t)16);
            parts = mem_realloc(parts, cap * sizeof(*parts));
        }
        parts[n++] = part;
    }
    p->action = PLAN_MULTIPART;
    p->parts = TAKE(parts);
    p->n_parts = n;
    p->part_size = first;
    p->layout = layout_digest(p);
}

static bool copies_any(const struct plan *p)
{
    for (size_t i = 0; i < p->n_parts; i++) {
        if (p->parts[i].src) {
            return true;
        }
    }
    return false;
}

/* Metadata of a committed object can be changed without its bytes. */
static bool can_set_meta(const struct plan_input *in, uint64_t size)
{
    return has_cap(in, BE_CAP_COPY) && size <= plan_limit(in->meta_copy_limit);
}

static bool can_part_copy(const struct plan_input *in)
{
    return has_cap(in, BE_CAP_MULTIPART | BE_CAP_PART_COPY);
}

/* What the attribute says after a copy of one whole object (rules D2). */
static enum plan_md5 md5_of_copy(const struct plan_input *in, const struct extent_source *src)
{
    if (in->md5_known || src->has_md5) {
        return PLAN_MD5_GIVEN;
    }
    return in->source_has_md5_attr ? PLAN_MD5_INHERITED : PLAN_MD5_NONE;
}

static void set_md5(const struct plan_input *in, const struct extent_source *whole, struct plan *p)
{
    bool copied = p->action == PLAN_COPY || p->action == PLAN_SETMETA ||
                  (p->action == PLAN_MULTIPART && copies_any(p));
    p->md5 = PLAN_MD5_NONE;
    if (p->action == PLAN_SKIP || p->action == PLAN_IMPOSSIBLE || in->file_md5 == CONF_MD5_OFF ||
        !has_cap(in, BE_CAP_USER_META)) {
        return;
    }
    if (copied && whole) {
        p->md5 = md5_of_copy(in, whole);
    } else if (in->md5_known || (whole && whole->has_md5)) {
        p->md5 = PLAN_MD5_GIVEN;
    } else if (p->action == PLAN_PUT) {
        p->md5 = PLAN_MD5_PUT;
    } else if (!copied && (can_set_meta(in, in->map->size) || can_part_copy(in))) {
        /* Above the size of one self-copy it takes a second multipart upload of part copies: no byte
         * of the object passes through here for that. */
        p->md5 = PLAN_MD5_AFTER;
    } else if (!copied && in->file_md5 == CONF_MD5_STRICT) {
        impossible(p, "the provider cannot add an MD5 after the upload and it is not known before: "
                      "entireFileMd5Attached=strict cannot hold, set it to on");
    }
}

static void make_put(const struct plan_input *in, struct plan *p)
{
    uint64_t size = in->map->size;
    if (size > plan_limit(in->limits.max_put)) {
        impossible(p,
                   "%llu bytes, the provider takes %llu in one request and has no multipart upload",
                   (unsigned long long)size, (unsigned long long)in->limits.max_put);
    } else if (size > in->max_buffer) {
        impossible(p,
                   "%llu bytes must go in one request, %llu of memory are allowed: raise memory=",
                   (unsigned long long)size, (unsigned long long)in->max_buffer);
    } else {
        p->action = PLAN_PUT;
    }
}

/* Bytes as they are, other metadata. False when the target cannot do that. */
static bool make_set_meta(const struct plan_input *in, struct plan *p)
{
    uint64_t size = in->base->size;
    if (size > 0 && can_set_meta(in, size)) {
        p->action = PLAN_SETMETA;
        return true;
    }
    if (size == 0 || !can_part_copy(in)) {
        return false;
    }
    struct plan_run *run = mem_zalloc(sizeof(*run));
    *run = (struct plan_run){.len = size, .src = in->base};
    return make_multipart(in, run, 1, p);
}

/* False, and p says why, when this key or this metadata can never be stored. */
static bool fits(const struct plan_input *in, struct plan *p)
{
    const struct be_limits *l = &in->limits;
    if (in->key_fault) {
        impossible(p, "%s", in->key_fault);
    } else if (l->max_meta > 0 && in->meta_bytes > l->max_meta) {
        impossible(p, "metadata of %zu bytes, the provider takes %u", in->meta_bytes, l->max_meta);
    } else if (in->map->size > plan_limit(l->max_object)) {
        impossible(p, "object of %llu bytes, the provider takes %llu",
                   (unsigned long long)in->map->size, (unsigned long long)l->max_object);
    } else if (extent_has(in->map, EXT_BASE) && !in->base) {
        impossible(p, "the version these bytes come from is not known");
    } else {
        return true;
    }
    return false;
}

/* The bytes have to be put together. */
static void make_content(const struct plan_input *in, const struct extent_source *whole,
                         struct plan *p)
{
    uint64_t size = in->map->size;
    bool has_parts = extent_has(in->map, EXT_PART);
    bool multipart = has_cap(in, BE_CAP_MULTIPART) && size > 0;
    /* Copied bytes never pass through here, so their MD5 must come from elsewhere or they must be
     * streamed. */
    bool md5_ok = in->file_md5 != CONF_MD5_STRICT || !has_cap(in, BE_CAP_USER_META) ||
                  in->md5_known || (whole && whole->has_md5);
    const struct extent_source *other = extent_whole_remote(in->map);
    if (other && md5_ok && has_cap(in, BE_CAP_COPY) && copyable(in, other) && size > 0 &&
        size <= plan_limit(in->limits.max_copy)) {
        p->action = PLAN_COPY;
        return;
    }
    size_t n_runs;
    struct plan_run *runs = find_runs(in, md5_ok && can_part_copy(in), &n_runs);
    if (has_parts) {
        make_streamed(in, runs, n_runs, p);
        return;
    }
    /* A whole object that can be part-copied moves no bytes even when it is small enough for one
     * PUT. */
    bool all_copied = multipart && whole && n_runs == 1 && runs[0].src;
    uint64_t put_max = MIN(plan_limit(in->limits.max_put), in->max_buffer);
    bool put_first = !multipart || (!all_copied && in->resume_part_size == 0 &&
                                    size <= MIN(put_max, in->small_file_threshold));
    if (put_first) {
        free(runs);
        make_put(in, p);
        return;
    }
    if (make_multipart(in, runs, n_runs, p)) {
        return;
    }
    if (size <= put_max) {
        p->action = PLAN_PUT;
        return;
    }
    explain_no_cut(in, size, p);
}

void plan_make(const struct plan_input *in, struct plan *ret)
{
    struct extent_source *whole = extent_whole_remote(in->map);
    bool unchanged = in->base && in->base->size == in->map->size &&
                     (in->content_known_equal || extent_whole_base(in->map, in->base->size) ||
                      (whole && extent_source_same(whole, in->base)));
    *ret = (struct plan){.action = PLAN_SKIP, .md5 = PLAN_MD5_NONE};
    if (unchanged && !in->meta_differs) {
        return;
    }
    if (!fits(in, ret)) {
        return;
    }
    if (unchanged && make_set_meta(in, ret)) {
        set_md5(in, in->base, ret);
        return;
    }
    if (unchanged) {
        whole = in->base;
    }
    make_content(in, whole, ret);
    set_md5(in, whole, ret);
}
