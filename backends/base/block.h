/* Large buffers that come and go all the time: parts and chunks of objects. The C library gives each back to the kernel, which
 * then clears every page of the next one: a quarter of the work of a read. So freed ones are kept for a moment. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* False where a sanitizer watches memory: it sees more when each block is the C library's. */
extern const bool block_keeps;

/* Contents undefined; NULL when there is no memory. The caller owns it. */
void *block_get(size_t size);
/* size as it was asked for; p may be NULL. */
void block_put(void *p, size_t size);
/* Bytes kept now, and how many at most: 32 MiB, or less when told so. */
size_t block_kept(void);
void block_limit(size_t bytes);
/* Frees what nobody has taken since the last call. To be called now and then. */
void block_trim(void);
