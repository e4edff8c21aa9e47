/* What went wrong: a class that drives policy and the details a person needs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum err_class {
    ERR_NONE = 0,
    ERR_TRANSIENT, /* no answer, reset, 5xx: try again */
    ERR_THROTTLED, /* 429, 503 SlowDown: try again, and send less */
    ERR_SKEW,      /* our clock is refused: learn the offset, sign again */
    ERR_AUTH,      /* 401, 403: credentials or permission */
    ERR_ABSENT,    /* no such key, upload or bucket (code says which) */
    ERR_PRECOND,   /* 412, 409, 304: a condition did not hold */
    ERR_INVALID,   /* the request can never succeed as it is */
    ERR_INTEGRITY, /* bytes or checksum differ from what was promised */
    ERR_QUOTA,     /* space or money at the provider */
    ERR_ARCHIVED,  /* the object must be restored first */
    ERR_LOCAL,     /* our own disk or memory */
    ERR_CANCELED,  /* we gave up on purpose */
    ERR_BUG,       /* cannot happen */
    ERR_CLASSES
};

/* Fixed size, plain data: may be copied, kept, and passed between threads. All strings are NUL-terminated and truncated
 * to fit. Never holds a secret. */
struct errinfo {
    enum err_class cls;
    int http_status;          /* 0 when no answer came */
    uint32_t retry_after_ms;  /* what the server asked for; 0 = nothing */
    bool outcome_unknown;     /* a write may or may not have happened */
    uint32_t attempts;        /* how many tries are folded into this */
    char code[64];            /* the provider's code, e.g. NoSuchKey */
    char request_id[96];
    char message[320];
};

const char *err_class_name(enum err_class cls);

/* Sets class and message, of which control characters become blanks: what is quoted in it (answers of servers, options) cannot
 * make it two lines or move a terminal's cursor. e may be NULL (then nothing happens). Returns err, so `return err_set(e, ERR_LOCAL, -EIO, …)`.
 * Keeps http_status, code and request_id as they are. */
int err_set(struct errinfo *e, enum err_class cls, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with ": strerror(errno_value)" appended; returns -errno_value. */
int err_set_errno(struct errinfo *e, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

void err_clear(struct errinfo *e);

/* Folds a later attempt into those before it: takes its class, status, code and message, and counts. outcome_unknown stays
 * once set: a later refusal does not settle an earlier lost reply. `fold` starts cleared. */
void err_fold(struct errinfo *fold, const struct errinfo *attempt);

/* One line for people: "403 AccessDenied: message (request id …, 3 attempts)". Returns buf. */
const char *err_format(const struct errinfo *e, char *buf, size_t size);

/* The -errno an application sees for a class: ABSENT -ENOENT, AUTH -EACCES, QUOTA -EDQUOT, PRECOND -ESTALE,
 * INVALID -EINVAL, CANCELED -EINTR, all else -EIO. */
int err_to_errno(const struct errinfo *e);
