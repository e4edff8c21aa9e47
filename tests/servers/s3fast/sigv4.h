/* Checks AWS Signature Version 4, in the Authorization header and in the query of a presigned URL.
 * An implementation of its own: nothing of what signs in backends/ is used, so that each checks the
 * other. */
#pragma once

#include <stdint.h>

#include "request.h"

struct sig_keys {
    struct pair *items; /* id, secret */
    size_t n;
    const char *region; /* NULL: any */
};

/* NULL, or the code of the error; *ret_message says more. On success *ret_hash is what the body's
 * SHA-256 must be, in hex, or NULL when the body is not signed. */
const char *sigv4_check(const struct sig_keys *keys, const struct request *r, int64_t wall_ms,
                        const char **ret_message, const char **ret_hash);
