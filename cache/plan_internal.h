/* Between plan.c and plan_cut.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan.h"

/* Consecutive runs cover the file. With src all its bytes are one range of that version, else they
 * must be gathered. */
struct plan_run {
    uint64_t off, len;
    struct extent_source *src;
    uint64_t src_off;
};

struct plan_cut {
    const struct plan_run *runs;
    size_t n_runs;
    uint64_t max_gather, max_copy, min_part,
        max_parts;           /* min_part >= 1; none is 0 but max_gather may be */
    uint64_t part_size;      /* in: wanted; out: used */
    bool fixed_part_size;    /* an upload with this part_size is running */
    struct plan_part *parts; /* out, owned by the caller */
    size_t n_parts;
};

/* Cuts the file into parts so that the fewest bytes are gathered. False when no cut obeys the
 * limits. */
bool plan_cut_make(struct plan_cut *c);

/* 0 means no limit. */
static inline uint64_t plan_limit(uint64_t limit)
{
    return limit == 0 ? UINT64_MAX : limit;
}
