/* Scope cleanup, ownership transfer, checked arithmetic, struct magic. Header only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* Runs fn(&variable) when the variable leaves its scope. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hands a pointer over and forgets it here, so that its CLEANUP does nothing. */
#define TAKE(p)                                                                                    \
    __extension__({                                                                                \
        __typeof__(p) *take_pp_ = &(p);                                                            \
        __typeof__(p) take_p_ = *take_pp_;                                                         \
        *take_pp_ = NULL;                                                                          \
        take_p_;                                                                                   \
    })

static inline void mem_freep(void *pp)
{
    free(*(void **)pp);
}

static inline void mem_closep(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

/* True when the sum or product does not fit; *ret then is not to be used. */
#define ADD_OVERFLOWS(a, b, ret) __builtin_add_overflow((a), (b), (ret))
#define MUL_OVERFLOWS(a, b, ret) __builtin_mul_overflow((a), (b), (ret))

/* Each argument is evaluated once: a clock read twice gave an engine a negative wait, which was for ever. */
#define MIN(a, b) MEM_PICK_(a, b, <, MEM_NAME_(a_, __COUNTER__), MEM_NAME_(b_, __COUNTER__))
#define MAX(a, b) MEM_PICK_(a, b, >, MEM_NAME_(a_, __COUNTER__), MEM_NAME_(b_, __COUNTER__))
#define MEM_PICK_(a, b, op, x, y) MEM_PICK2_(a, b, op, x, y)
#define MEM_PICK2_(a, b, op, x, y)                                                                 \
    __extension__({                                                                                \
        __typeof__(1 ? (a) : (b)) x = (a), y = (b);                                                \
        x op y ? x : y;                                                                            \
    })
#define MEM_NAME_(name, n) MEM_NAME2_(name, n)
#define MEM_NAME2_(name, n) name##n
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Through an integer, so that it also works on pointers to const; type then says const itself. */
#define CONTAINER_OF(p, type, member) ((type *)((uintptr_t)(p) - offsetof(type, member)))

/* Asserts that protect data: on in every build. */
#define ENSURE(cond) ((cond) ? (void)0 : mem_ensure_failed(#cond, __FILE__, __LINE__))
_Noreturn void mem_ensure_failed(const char *cond, const char *file, int line);

/* Long-lived structs that pass through void * start with a magic number, checked on the way in. */
#define CHECK_MAGIC(p, m) ENSURE((p) != NULL && (p)->magic == (m))

/* Allocation that fails only by ending the process: the sizes are ours and small, and a daemon that cannot get 100 bytes
 * cannot report it either. The journal makes an abort as safe as kill -9. Sizes that come from outside use malloc and
 * report ENOMEM instead. */
void *mem_zalloc(size_t size);
void *mem_realloc(void *p, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
