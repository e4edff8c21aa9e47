/* What the parts of the doctor share; see the end of cache.h. */
#pragma once

#include "cache.h"

struct cdoctor {
    char *dir;
    cdoctor_fn *say;
    void *ctx;
    bool live; /* a daemon holds the directory */
    struct be_env env;
};

void cdoctor_say(struct cdoctor *d, enum cdoctor_level level, const char *what, const char *mend, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* "1.5 GiB", into buf, which is returned. */
const char *cdoctor_bytes(uint64_t n, char *buf, size_t size);
