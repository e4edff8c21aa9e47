/* Pure retry policy: class, attempt, elapsed time and Retry-After give a wait or an end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "errinfo.h"

struct retry_policy {
    unsigned max_tries;    /* in all, at least 1 */
    uint32_t base_ms, cap_ms; /* 0 = 100 and 20000 */
    int64_t deadline_ns;   /* monotonic; 0 = none */
};

/* A budget shared by all operations of a remote, so that a dead server is not hammered: each retry takes one token, each
 * success gives back a tenth. Starts with tokens = max. Locks: the caller's. */
struct retry_budget {
    double tokens, max;
};

/* Whether to try again after `tries` attempts, and in how long. `repeatable`: doing it twice is the same as once.
 * outcome_unknown errors of what is not repeatable are never retried. random is uniform in [0,1).
 *
 *     TRANSIENT, THROTTLED   while tries, deadline and budget last; wait: full jitter below base*2^(tries-1), at most
 *                            cap, and at least what Retry-After asked for (believed up to 3*cap)
 *     SKEW                   at once, after the first and the second try: the first may have failed for another reason
 *     INTEGRITY              after the first try only: bytes that are wrong twice are wrong
 *     all others             never
 *
 * budget may be NULL. Returns false with *ret_wait_ms untouched, and nothing taken from the budget, when it is over. */
bool retry_next(const struct retry_policy *p, struct retry_budget *budget, const struct errinfo *err,
                unsigned tries, bool repeatable, int64_t now_ns, double random, uint32_t *ret_wait_ms);
void retry_success(struct retry_budget *budget);
