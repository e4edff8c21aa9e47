/* Where a multipart upload is cut.
 *
 * The file is a row of runs, each either copyable (one source gives all of it) or not. A cut
 * chooses which copyable runs are copied and how much of their ends is gathered with the
 * neighbours, so that every part but the last has min_part bytes. Between two copied ranges lie
 * either no bytes or enough for whole parts; what is missing is taken from the ends of the copied
 * runs. The fewest gathered bytes are found by going through the runs once:
 *
 * - A choice is described by its last copied run, how much of that run's head was given away (trim)
 * and the bytes gathered before it. Of two choices with the same last run, one with no fewer bytes
 * and no smaller trim is useless.
 * - Missing bytes are taken from the left run as far as it can give, then from the right one: what
 * the left run does not give here nobody else can use.
 * - Only runs of at least min_part (the last of the file: any) can be copied, and no best cut
 * leaves three of those in a row uncopied: copying the middle one needs nothing from others,
 * because its neighbours fill both gaps. So each step looks back at three runs only.
 *
 * The result depends on the runs, the provider's limits and the part size alone: an upload can be
 * resumed by cutting again. */
#include <string.h>

#include "mem.h"
#include "plan_internal.h"

enum {
    LOOKBACK = 3,
    KEPT = 6, /* choices remembered a run; more than two are rare */
};

/* Copies of many gigabytes: few requests, yet enough of them to run in parallel. */
#define COPY_PART_MIN ((uint64_t)64 << 20)
#define COPY_PART_MAX ((uint64_t)512 << 20)
#define COPY_PARTS_WANTED 256u

/* The first copied runs up to `run`: at the end of one choice. */
struct choice {
    uint64_t cost;      /* bytes gathered before this run, its trim included */
    uint64_t trim;      /* of this run's head */
    uint64_t prev_trim; /* of the tail of the run before */
    size_t prev_run;    /* index into eligible[]; NONE = this is the first */
    unsigned prev_choice;
};
#define NONE SIZE_MAX

struct eligible {
    size_t run;
    uint64_t keep; /* copied, it must keep this much */
    unsigned n;
    struct choice best[KEPT]; /* by rising cost, falling trim */
};

struct limits {
    uint64_t min;     /* of a part that is not the last */
    uint64_t run_min; /* a shorter range is not worth a part of its own; >= min */
    uint64_t gather_pref, gather_max;
    uint64_t copy_pref, copy_max;
    uint64_t max_parts;
};

struct parts {
    struct plan_part *v;
    size_t n, cap;
    uint64_t max;
    bool bad; /* too many, or a length that cannot be cut */
};

static void add_part(struct parts *p, uint64_t off, uint64_t len, struct extent_source *src,
                     uint64_t src_off)
{
    if (p->bad || p->n >= p->max || p->n == UINT32_MAX) {
        p->bad = true;
        return;
    }
    if (p->n == p->cap) {
        p->cap = MAX(p->cap * 2, (size_t)16);
        p->v = mem_realloc(p->v, p->cap * sizeof(*p->v));
    }
    p->v[p->n++] = (struct plan_part){.off = off, .len = len, .src = src, .src_off = src_off};
}

/* Cuts [off, off+len) into parts of pref bytes, with lengths from lo to hi; the last one of the
 * file may be shorter. */
static void add_range(struct parts *p, uint64_t off, uint64_t len, struct extent_source *src,
                      uint64_t src_off, uint64_t pref, uint64_t lo, uint64_t hi, bool last)
{
    uint64_t end = off + len;
    uint64_t even = 0; /* != 0: so many parts of almost the same size */
    uint64_t rest = len % pref;
    uint64_t tail = 0; /* != 0: the last pref + rest bytes are cut here */
    if (!last && rest > 0 && rest < lo) {
        if (len > pref && pref + rest <= hi) {
            tail = pref + rest;
        } else if (len > pref && (pref + rest) / 2 >= lo) {
            tail = (pref + rest + 1) / 2;
        } else {
            even = len / hi + (len % hi != 0);
        }
    }
    if (len / pref > p->max || (even > 0 && len / even < lo)) {
        p->bad = true;
        return;
    }
    for (uint64_t at = off; at < end && !p->bad;) {
        uint64_t left = end - at;
        uint64_t size = MIN(pref, left);
        if (even > 0) {
            size = left / even + (left % even != 0);
            even--;
        } else if (tail > 0 && left <= pref + rest) {
            size = MIN(tail, left);
        }
        add_part(p, at, size, src, src ? src_off + (at - off) : 0);
        at += size;
    }
}

/* How many bytes a gap of this length lacks to be cut into parts; UINT64_MAX when no number would
 * do. */
static uint64_t gap_lacks(const struct limits *l, uint64_t gap)
{
    if (gap == 0) {
        return 0;
    }
    if (l->gather_max < l->min) {
        return UINT64_MAX;
    }
    uint64_t lacks = gap < l->run_min ? l->run_min - gap : 0;
    uint64_t n = (gap + lacks) / l->gather_max + ((gap + lacks) % l->gather_max != 0);
    uint64_t least;
    if (MUL_OVERFLOWS(n, l->min, &least)) {
        return UINT64_MAX;
    }
    return least > gap + lacks ? least - gap : lacks;
}

static void remember(struct eligible *e, const struct choice *c)
{
    unsigned at = 0;
    while (at < e->n && e->best[at].cost <= c->cost) {
        if (e->best[at].trim <= c->trim) {
            return;
        }
        at++;
    }
    unsigned useless = at;
    while (useless < e->n && e->best[useless].trim >= c->trim) {
        useless++;
    }
    if (useless > at) {
        memmove(&e->best[at + 1], &e->best[useless], (e->n - useless) * sizeof(*c));
        e->n -= useless - at - 1;
    } else {
        if (e->n < KEPT) {
            memmove(&e->best[at + 1], &e->best[at], (e->n - at) * sizeof(*c));
            e->n++;
        } else if (at == KEPT) {
            at = KEPT - 1; /* the least trimmed choice survives … */
        } else if (at > 0) {
            return; /* … and the cheapest; those between only fine-tune */
        }
    }
    e->best[at] = *c;
}

static uint64_t run_end(const struct plan_run *r)
{
    return r->off + r->len;
}

/* Every choice that copies list[k] right after list[j] (j NONE: as the first). */
static void extend(const struct plan_cut *c, const struct limits *l, struct eligible *list,
                   size_t j, size_t k)
{
    struct eligible *to = &list[k];
    const struct plan_run *right = &c->runs[to->run];
    uint64_t right_slack = right->len - to->keep;
    uint64_t from = j == NONE ? 0 : run_end(&c->runs[list[j].run]);
    uint64_t gap = right->off - from;
    uint64_t lacks = gap_lacks(l, gap);
    if (lacks == UINT64_MAX) {
        return;
    }
    unsigned n = j == NONE ? 1 : list[j].n;
    for (unsigned i = 0; i < n; i++) {
        struct choice next = {.prev_run = j, .prev_choice = i};
        uint64_t before = 0;
        if (j != NONE) {
            uint64_t slack = c->runs[list[j].run].len - list[j].keep - list[j].best[i].trim;
            next.prev_trim = MIN(lacks, slack);
            before = list[j].best[i].cost;
        }
        next.trim = lacks - next.prev_trim;
        if (next.trim <= right_slack) {
            next.cost = before + gap + lacks;
            remember(to, &next);
        }
    }
}

/* What is copied of a run: all but head and tail. */
struct trim {
    bool copied;
    uint64_t head, tail;
};

/* How much of run i must be copied if any of it is; UINT64_MAX when it cannot be. */
static uint64_t must_keep(const struct plan_cut *c, const struct limits *l, size_t i)
{
    if (!c->runs[i].src) {
        return UINT64_MAX;
    }
    return i + 1 == c->n_runs ? 1 : l->run_min;
}

/* Fills trims, one a run and zeroed. False when nothing is possible. */
static bool choose(const struct plan_cut *c, const struct limits *l, struct trim *trims)
{
    uint64_t size = c->n_runs > 0 ? run_end(&c->runs[c->n_runs - 1]) : 0;
    size_t n = 0;
    for (size_t i = 0; i < c->n_runs; i++) {
        n += must_keep(c, l, i) <= c->runs[i].len;
    }
    /* Only these are remembered: a file of a million short extents has few that are long enough. */
    CLEANUP(mem_freep) struct eligible *list = mem_zalloc(MAX(n, (size_t)1) * sizeof(*list));
    n = 0;
    for (size_t i = 0; i < c->n_runs; i++) {
        uint64_t keep = must_keep(c, l, i);
        if (keep <= c->runs[i].len) {
            list[n++] = (struct eligible){.run = i, .keep = keep};
        }
    }
    for (size_t k = 0; k < n; k++) {
        if (k < LOOKBACK) {
            extend(c, l, list, NONE, k);
        }
        for (size_t j = k - MIN(k, (size_t)LOOKBACK); j < k; j++) {
            extend(c, l, list, j, k);
        }
    }
    /* What follows the last copied run has no least length, but must fit a buffer when it cannot be
     * cut. */
    bool found = l->gather_max >= l->min || size <= l->gather_max;
    uint64_t best = found ? size : UINT64_MAX;
    size_t at = NONE;
    for (size_t k = n - MIN(n, (size_t)LOOKBACK); k < n; k++) {
        uint64_t rest = size - run_end(&c->runs[list[k].run]);
        if (l->gather_max < l->min && rest > l->gather_max) {
            continue;
        }
        if (list[k].n > 0 && list[k].best[0].cost + rest < best) {
            best = list[k].best[0].cost + rest;
            at = k;
            found = true;
        }
    }
    unsigned pick = 0;
    uint64_t tail = 0;
    while (at != NONE) {
        const struct choice *b = &list[at].best[pick];
        trims[list[at].run] = (struct trim){.copied = true, .head = b->trim, .tail = tail};
        tail = b->prev_trim;
        pick = b->prev_choice;
        at = b->prev_run;
    }
    return found;
}

/* What was promised, whatever the limits are. */
static bool obeys(const struct parts *p, const struct limits *l)
{
    if (p->bad || p->n == 0) {
        return false;
    }
    for (size_t i = 0; i < p->n; i++) {
        uint64_t len = p->v[i].len;
        if (len == 0 || (i + 1 < p->n && len < l->min) ||
            len > (p->v[i].src ? l->copy_max : l->gather_max)) {
            return false;
        }
    }
    return true;
}

static void emit(const struct plan_cut *c, const struct limits *l, const struct trim *trims,
                 struct parts *p)
{
    uint64_t size = run_end(&c->runs[c->n_runs - 1]);
    uint64_t at = 0; /* gathered from here on */
    p->n = 0;
    p->bad = false;
    p->max = l->max_parts;
    for (size_t i = 0; i < c->n_runs; i++) {
        const struct plan_run *r = &c->runs[i];
        if (!trims[i].copied) {
            continue;
        }
        uint64_t from = r->off + trims[i].head;
        uint64_t to = run_end(r) - trims[i].tail;
        if (from > at) {
            add_range(p, at, from - at, NULL, 0, l->gather_pref, l->min, l->gather_max, false);
        }
        add_range(p, from, to - from, r->src, r->src_off + trims[i].head, l->copy_pref, l->min,
                  l->copy_max, to == size);
        at = to;
    }
    if (at < size) {
        add_range(p, at, size - at, NULL, 0, l->gather_pref, l->min, l->gather_max, true);
    }
}

/* One cut under these limits, with the smallest copy parts that keep the count. */
static bool attempt(const struct plan_cut *c, struct limits *l, uint64_t copy_first,
                    struct trim *trims, struct parts *p)
{
    memset(trims, 0, c->n_runs * sizeof(*trims));
    if (!choose(c, l, trims)) {
        return false;
    }
    l->copy_pref = copy_first;
    for (;;) {
        emit(c, l, trims, p);
        if (obeys(p, l)) {
            return true;
        }
        if (l->copy_pref >= l->copy_max) {
            return false;
        }
        l->copy_pref = l->copy_pref > l->copy_max / 2 ? l->copy_max : l->copy_pref * 2;
    }
}

static uint64_t first_copy_size(const struct plan_cut *c, uint64_t size)
{
    uint64_t part = COPY_PART_MIN;
    while (part < COPY_PART_MAX && size / part > COPY_PARTS_WANTED) {
        part *= 2;
    }
    return MIN(MAX(part, c->min_part), c->max_copy);
}

/* Parts a little above the preferred size are allowed when that size is so small that a remainder
 * would not fit. */
static void set_part_size(const struct plan_cut *c, struct limits *l, uint64_t part_size)
{
    uint64_t roomy = c->min_part > UINT64_MAX / 2 ? UINT64_MAX : 2 * c->min_part;
    l->gather_pref = part_size;
    l->gather_max = MIN(MAX(part_size, roomy), c->max_gather);
}

bool plan_cut_make(struct plan_cut *c)
{
    if (c->n_runs == 0) {
        return false;
    }
    uint64_t size = run_end(&c->runs[c->n_runs - 1]);
    uint64_t copy_first = first_copy_size(c, size);
    CLEANUP(mem_freep) struct trim *trims = mem_zalloc(c->n_runs * sizeof(*trims));
    struct parts parts = {0};
    struct limits l = {.min = c->min_part,
                       .run_min = c->min_part,
                       .copy_max = c->max_copy,
                       .max_parts = c->max_parts};
    uint64_t part_size = MAX(c->part_size, (uint64_t)1);
    bool ok = false;
    for (;;) {
        set_part_size(c, &l, part_size);
        ok = attempt(c, &l, copy_first, trims, &parts);
        if (ok || c->fixed_part_size || part_size >= c->max_gather) {
            break;
        }
        part_size = part_size > c->max_gather / 2 ? c->max_gather : part_size * 2;
    }
    /* Still too many: give up short copied ranges, then longer ones, in the end all of them. */
    while (!ok && l.run_min < size) {
        l.run_min = l.run_min > size / 2 ? size : l.run_min * 2;
        ok = attempt(c, &l, copy_first, trims, &parts);
    }
    if (!ok) {
        memset(trims, 0, c->n_runs * sizeof(*trims));
        emit(c, &l, trims, &parts);
        ok = obeys(&parts, &l);
    }
    if (!ok) {
        free(parts.v);
        return false;
    }
    c->part_size = part_size;
    c->parts = parts.v;
    c->n_parts = parts.n;
    return true;
}
