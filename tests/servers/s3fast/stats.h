/* What went over the wire since the last reset, by kind of request. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "ops.h"

struct stats {
    atomic_uint_fast64_t n[OP_KINDS], in[OP_KINDS], out[OP_KINDS]; /* bytes with heads */
    atomic_uint_fast64_t errors;                                   /* answers of 400 and above */
    atomic_uint_fast64_t connections;
    atomic_uint_fast64_t in_flight, peak; /* requests */
    atomic_uint_fast64_t delay_us;        /* for the length of a link, of all together */
};
extern struct stats stats;

static inline void stats_add(atomic_uint_fast64_t *counter, uint64_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void stats_request_begins(void);
void stats_request_ends(void);
