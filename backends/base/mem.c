#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

void mem_ensure_failed(const char *cond, const char *file, int line)
{
    /* log_write allocates nothing and takes no lock, so it works from any state. */
    log_error("bug", "assertion failed cond=\"%s\" at=%s:%d", cond, file, line);
    abort();
}

static _Noreturn void out_of_memory(size_t size)
{
    log_error("mem", "out of memory wanted=%zu", size);
    abort();
}

void *mem_zalloc(size_t size)
{
    void *p = calloc(1, MAX(size, (size_t)1));
    if (!p) {
        out_of_memory(size);
    }
    return p;
}

void *mem_realloc(void *p, size_t size)
{
    /* realloc(p, 0) may free p and return NULL: never ask for it. */
    void *q = realloc(p, MAX(size, (size_t)1));
    if (!q) {
        out_of_memory(size);
    }
    return q;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = mem_zalloc(len + 1);
    memcpy(p, s, len);
    return p;
}

char *mem_printf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0) {
        out_of_memory(strlen(fmt));
    }
    return s;
}
