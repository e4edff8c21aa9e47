#include "errinfo.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

static const struct {
    const char *name;
    int err; /* what an application sees */
} classes[ERR_CLASSES] = {
    [ERR_NONE] = {"none", 0},
    [ERR_TRANSIENT] = {"transient", -EIO},
    [ERR_THROTTLED] = {"throttled", -EIO},
    [ERR_SKEW] = {"skew", -EIO},
    [ERR_AUTH] = {"auth", -EACCES},
    [ERR_ABSENT] = {"absent", -ENOENT},
    [ERR_PRECOND] = {"precondition", -ESTALE},
    [ERR_INVALID] = {"invalid", -EINVAL},
    [ERR_INTEGRITY] = {"integrity", -EIO},
    [ERR_QUOTA] = {"quota", -EDQUOT},
    [ERR_ARCHIVED] = {"archived", -EIO},
    [ERR_LOCAL] = {"local", -EIO},
    [ERR_CANCELED] = {"canceled", -EINTR},
    [ERR_BUG] = {"bug", -EIO},
};

const char *err_class_name(enum err_class cls)
{
    return (size_t)cls < ARRAY_LEN(classes) ? classes[cls].name : "unknown";
}

/* vsnprintf cuts at a byte; a cut UTF-8 sequence at the end would spoil the line it is printed in.
 */
static void trim_cut_utf8(char *s, size_t len)
{
    size_t i = len;
    while (i > 0 && len - i < 3 && ((unsigned char)s[i - 1] & 0xc0) == 0x80) {
        i--;
    }
    if (i == 0) {
        return;
    }
    unsigned char lead = (unsigned char)s[i - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > len - i + 1) {
        s[i - 1] = '\0';
    }
}

static void set_message(struct errinfo *e, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void set_message(struct errinfo *e, const char *fmt, va_list ap)
{
    /* Formatted beside the target: an argument may be e->message itself. */
    char text[sizeof(e->message)];
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    if (n < 0) {
        text[0] = '\0';
    } else if ((size_t)n >= sizeof(text)) {
        trim_cut_utf8(text, sizeof(text) - 1);
    }
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            *p = ' ';
        }
    }
    memcpy(e->message, text, sizeof(text));
}

int err_set(struct errinfo *e, enum err_class cls, int err, const char *fmt, ...)
{
    if (e) {
        e->cls = cls;
        va_list ap;
        va_start(ap, fmt);
        set_message(e, fmt, ap);
        va_end(ap);
    }
    return err;
}

int err_set_errno(struct errinfo *e, int errno_value, const char *fmt, ...)
{
    if (e) {
        e->cls = ERR_LOCAL;
        va_list ap;
        va_start(ap, fmt);
        set_message(e, fmt, ap);
        va_end(ap);
        char text[128];
        const char *why = strerror_r(errno_value, text, sizeof(text));
        size_t len = strlen(e->message);
        (void)snprintf(e->message + len, sizeof(e->message) - len, ": %s", why);
    }
    return -errno_value;
}

void err_clear(struct errinfo *e)
{
    *e = (struct errinfo){0};
}

void err_fold(struct errinfo *fold, const struct errinfo *attempt)
{
    uint32_t count = MAX(attempt->attempts, 1U);
    if (fold->attempts == 0) {
        *fold = *attempt;
        fold->attempts = count;
        return;
    }
    fold->cls = attempt->cls;
    /* Status, code and message belong together; a request id stays useful when the last attempt got
     * no answer. */
    fold->http_status = attempt->http_status;
    memcpy(fold->code, attempt->code, sizeof(fold->code));
    memcpy(fold->message, attempt->message, sizeof(fold->message));
    if (attempt->request_id[0] != '\0') {
        memcpy(fold->request_id, attempt->request_id, sizeof(fold->request_id));
    }
    fold->retry_after_ms = attempt->retry_after_ms;
    /* Sticky: a later attempt that surely did nothing says nothing about an earlier one whose reply
     * was lost. */
    fold->outcome_unknown = fold->outcome_unknown || attempt->outcome_unknown;
    if (ADD_OVERFLOWS(fold->attempts, count, &fold->attempts)) {
        fold->attempts = UINT32_MAX;
    }
}

/* snprintf at *at, stopping for good at the end of the buffer. */
static void append(char *buf, size_t size, size_t *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void append(char *buf, size_t size, size_t *at, const char *fmt, ...)
{
    if (*at + 1 >= size) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf + *at, size - *at, fmt, ap);
    va_end(ap);
    if (n > 0) {
        if ((size_t)n >= size - *at) {
            trim_cut_utf8(buf, size - 1);
            *at = size;
        } else {
            *at += (size_t)n;
        }
    }
}

const char *err_format(const struct errinfo *e, char *buf, size_t size)
{
    if (size == 0) {
        return "";
    }
    buf[0] = '\0';
    size_t at = 0;
    if (e->http_status != 0) {
        append(buf, size, &at, "%d", e->http_status);
    }
    if (e->code[0] != '\0') {
        append(buf, size, &at, "%s%s", at > 0 ? " " : "", e->code);
    }
    const char *message = e->message[0] != '\0' ? e->message : err_class_name(e->cls);
    append(buf, size, &at, "%s%s", at > 0 ? ": " : "", message);
    if (e->request_id[0] != '\0') {
        append(buf, size, &at, " (request id %s", e->request_id);
    }
    if (e->attempts > 1) {
        append(buf, size, &at, "%s%u attempts", e->request_id[0] != '\0' ? ", " : " (",
               (unsigned)e->attempts);
    }
    if (e->request_id[0] != '\0' || e->attempts > 1) {
        append(buf, size, &at, ")");
    }
    return buf;
}

int err_to_errno(const struct errinfo *e)
{
    return (size_t)e->cls < ARRAY_LEN(classes) ? classes[e->cls].err : -EIO;
}
