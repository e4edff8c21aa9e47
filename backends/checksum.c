/* Which of its checksums a store is believed by. */
#include "backend.h"
#include "digest.h"

uint64_t be_crc_update(uint32_t caps, uint64_t crc, const void *p, size_t n)
{
    return caps & BE_CAP_CRC64 ? crc64_update(crc, p, n) : crc32c_update((uint32_t)crc, p, n);
}

uint64_t be_crc_combine(uint32_t caps, uint64_t crc_a, uint64_t crc_b, uint64_t len_b)
{
    return caps & BE_CAP_CRC64 ? crc64_combine(crc_a, crc_b, len_b)
                               : crc32c_combine((uint32_t)crc_a, (uint32_t)crc_b, len_b);
}

bool be_crc_of(uint32_t caps, const struct be_object *o, uint64_t *ret)
{
    *ret = caps & BE_CAP_CRC64 ? o->crc64 : o->crc32c;
    return caps & BE_CAP_CRC64 ? o->has_crc64 : (caps & BE_CAP_CRC32C) && o->has_crc32c;
}
