/* What the targets share: the entry points libFuzzer calls, an input taken apart piece by piece,
 * files without a disk. A target is one function that is given any bytes and aborts (ENSURE) when
 * something does not hold. It keeps nothing from one input to the next, so that every finding can
 * be repeated with its input alone. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "errinfo.h"
#include "mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct fuzz_in {
    const char *p, *end;
};

static inline struct fuzz_in fuzz_begin(const uint8_t *data, size_t size)
{
    /* an empty input comes as NULL, which no arithmetic may touch */
    const char *p = size > 0 ? (const char *)data : "";
    return (struct fuzz_in){p, p + size};
}

static inline size_t fuzz_left(const struct fuzz_in *in)
{
    return (size_t)(in->end - in->p);
}

/* The next byte; 0 at the end. Seeds are text, so that a digit says what its value is. */
static inline unsigned fuzz_byte(struct fuzz_in *in)
{
    return in->p < in->end ? (unsigned char)*in->p++ : 0;
}

static inline unsigned fuzz_digit(struct fuzz_in *in)
{
    unsigned c = fuzz_byte(in);
    return c >= '0' && c <= '9' ? c - '0' : c;
}

/* What is left up to the next newline, which is passed over; cut at a NUL, as any string. Owned. */
static inline char *fuzz_line(struct fuzz_in *in)
{
    size_t left = fuzz_left(in);
    const char *nl = left > 0 ? memchr(in->p, '\n', left) : NULL;
    char *s = mem_strndup(in->p, nl ? (size_t)(nl - in->p) : left);
    in->p = nl ? nl + 1 : in->end;
    return s;
}

/* All that is left, cut at a NUL. Owned. */
static inline char *fuzz_rest(struct fuzz_in *in)
{
    char *s = mem_strndup(in->p, fuzz_left(in));
    in->p = in->end;
    return s;
}

/* A file that only has a descriptor; its path is /proc/self/fd/FD. */
static inline int fuzz_file(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    ENSURE(fd >= 0 && fchmod(fd, 0600) == 0);
    return fd;
}

static inline void fuzz_fill(int fd, const void *p, size_t n)
{
    ENSURE(ftruncate(fd, 0) == 0);
    ENSURE(pwrite(fd, p, n, 0) == (ssize_t)n);
}

/* What goes to logs and terminals is one line. */
static inline bool fuzz_one_line(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < ' ' || *s == 0x7f) {
            return false;
        }
    }
    return true;
}

/* A failure says what it is, and so that it can be shown. */
static inline void fuzz_told(const struct errinfo *e)
{
    ENSURE(e->cls > ERR_NONE && e->cls < ERR_CLASSES);
    ENSURE(e->message[0] != '\0');
    ENSURE(fuzz_one_line(e->message) && fuzz_one_line(e->code) && fuzz_one_line(e->request_id));
}
