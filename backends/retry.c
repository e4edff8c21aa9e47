/* See retry.h. Nothing here reads a clock, draws a number or takes a lock, so every case can be
 * tested. */
#include "retry.h"

#include "mem.h"

#define BASE_MS_DEFAULT 100
#define CAP_MS_DEFAULT 20000
/* How many caps of Retry-After are believed: a server that asks for an hour is better asked again
 * by a later operation than waited for by this one. */
#define RETRY_AFTER_CAPS 3
#define SUCCESS_GIVES 0.1

/* Whether a failure of this class, at this try, is worth another. No default: a new class must be
 * decided here. */
static bool class_retries(enum err_class cls, unsigned tries)
{
    switch (cls) {
    case ERR_TRANSIENT:
    case ERR_THROTTLED:
        return true;
    case ERR_SKEW:
        return tries <= 2;
    case ERR_INTEGRITY:
        return tries <= 1;
    case ERR_NONE:
    case ERR_AUTH:
    case ERR_ABSENT:
    case ERR_PRECOND:
    case ERR_INVALID:
    case ERR_QUOTA:
    case ERR_ARCHIVED:
    case ERR_LOCAL:
    case ERR_CANCELED:
    case ERR_BUG:
    case ERR_CLASSES:
        break;
    }
    return false;
}

/* Full jitter: uniform below a bound that doubles. It spreads a crowd of clients that failed
 * together better than a fixed part plus a random one does. */
static uint32_t jittered_ms(const struct retry_policy *p, unsigned tries, double random)
{
    uint64_t cap = p->cap_ms ? p->cap_ms : CAP_MS_DEFAULT;
    uint64_t bound = p->base_ms ? p->base_ms : BASE_MS_DEFAULT;
    for (unsigned i = 1; i < tries && bound < cap; i++) {
        bound *= 2;
    }
    bound = MIN(bound, cap);
    if (!(random >= 0)) { /* also a NaN */
        random = 0;
    }
    uint64_t ms = random >= 1 ? bound : (uint64_t)((double)bound * random);
    return (uint32_t)MIN(ms, bound);
}

bool retry_next(const struct retry_policy *p, struct retry_budget *budget,
                const struct errinfo *err, unsigned tries, bool repeatable, int64_t now_ns,
                double random, uint32_t *ret_wait_ms)
{
    if (tries >= MAX(p->max_tries, 1U) || !class_retries(err->cls, MAX(tries, 1U)) ||
        (err->outcome_unknown && !repeatable)) {
        return false;
    }
    uint32_t wait_ms = 0;
    if (err->cls != ERR_SKEW) {
        wait_ms = jittered_ms(p, tries, random);
        uint64_t most = (uint64_t)(p->cap_ms ? p->cap_ms : CAP_MS_DEFAULT) * RETRY_AFTER_CAPS;
        wait_ms = MAX(wait_ms, (uint32_t)MIN((uint64_t)err->retry_after_ms, most));
    }
    /* A try that could only begin after the deadline is none. */
    int64_t at_ns;
    if (p->deadline_ns != 0 &&
        (ADD_OVERFLOWS(now_ns, (int64_t)wait_ms * 1000000, &at_ns) || at_ns >= p->deadline_ns)) {
        return false;
    }
    if (budget) {
        if (budget->tokens < 1) {
            return false;
        }
        budget->tokens -= 1;
    }
    *ret_wait_ms = wait_ms;
    return true;
}

void retry_success(struct retry_budget *budget)
{
    budget->tokens = MIN(budget->tokens + SUCCESS_GIVES, budget->max);
}
