/* Freed blocks wait in a small table, the newest last: its pages are still in the processor's cache. */
#include "block.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "sync.h"

#define BLOCK_UNIT 65536u        /* sizes are rounded up to it: the last part of one file serves another */
#define BLOCK_MIN (4 * BLOCK_UNIT) /* smaller ones the C library keeps itself */
#define KEEP_BYTES (32u << 20)
#define KEEP_MAX 64

#if !defined(__has_feature)
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
const bool block_keeps = false;
#else
const bool block_keeps = true;
#endif

static struct {
    struct mutex lock;
    struct {
        void *p;
        size_t size;
        bool old; /* it was here at the last trim */
    } v[KEEP_MAX];
    size_t n, bytes, limit;
} kept = {.lock = MUTEX_INIT(RANK_BLOCK), .limit = KEEP_BYTES};

static size_t rounded(size_t size)
{
    return size >= BLOCK_MIN && size <= KEEP_BYTES ? (size + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT : size;
}

static void *take_locked(size_t i)
{
    void *p = kept.v[i].p;
    kept.bytes -= kept.v[i].size;
    kept.n--;
    memmove(&kept.v[i], &kept.v[i + 1], (kept.n - i) * sizeof(kept.v[0]));
    return p;
}

void *block_get(size_t size)
{
    size_t full = rounded(size);
    void *p = NULL;
    if (full >= BLOCK_MIN) {
        mutex_lock(&kept.lock);
        for (size_t i = kept.n; i-- > 0 && p == NULL;) {
            if (kept.v[i].size == full) {
                p = take_locked(i);
            }
        }
        mutex_unlock(&kept.lock);
    }
    return p != NULL ? p : malloc(full);
}

void block_put(void *p, size_t size)
{
    size_t full = rounded(size);
    if (p != NULL && block_keeps && full >= BLOCK_MIN) {
        mutex_lock(&kept.lock);
        if (kept.n < KEEP_MAX && kept.bytes + full <= kept.limit) {
            kept.v[kept.n].p = p;
            kept.v[kept.n].size = full;
            kept.v[kept.n].old = false;
            kept.n++;
            kept.bytes += full;
            p = NULL;
        }
        mutex_unlock(&kept.lock);
    }
    free(p);
}

size_t block_kept(void)
{
    mutex_lock(&kept.lock);
    size_t bytes = kept.bytes;
    mutex_unlock(&kept.lock);
    return bytes;
}

void block_limit(size_t bytes)
{
    mutex_lock(&kept.lock);
    kept.limit = MIN(bytes, KEEP_BYTES);
    mutex_unlock(&kept.lock);
}

void block_trim(void)
{
    void *gone[KEEP_MAX];
    size_t n = 0;
    mutex_lock(&kept.lock);
    for (size_t i = kept.n; i-- > 0;) {
        if (kept.v[i].old) {
            gone[n++] = take_locked(i);
        } else {
            kept.v[i].old = true;
        }
    }
    mutex_unlock(&kept.lock);
    while (n > 0) {
        free(gone[--n]);
    }
}
