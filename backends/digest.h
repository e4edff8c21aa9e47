/* Checksums, MACs and base64. digest.c and sign_jwt.c alone know OpenSSL.
 *
 * Every function is total: none allocates, fails or locks (the CRC tables are built once, safely,
 * on first use), so they may be called from any thread. Lengths are bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_MD5_LEN 16
#define DIGEST_SHA1_LEN 20
#define DIGEST_SHA256_LEN 32

/* A running MD5 is plain data: it may be copied, and its bytes may be stored and loaded again to go
 * on after a restart without reading anything twice (the journal does, per part). */
struct digest_md5 {
    uint32_t format; /* DIGEST_MD5_FORMAT; anything else is not ours */
    uint32_t words[23];
};
#define DIGEST_MD5_STATE_SIZE sizeof(struct digest_md5)
#define DIGEST_MD5_FORMAT 0x4d443501u

void digest_md5_init(struct digest_md5 *m);
void digest_md5_update(struct digest_md5 *m, const void *p, size_t n);
/* m may be finished again after more updates only through a copy: final leaves it unusable. */
void digest_md5_final(struct digest_md5 *m, uint8_t ret[DIGEST_MD5_LEN]);
void digest_md5(const void *p, size_t n, uint8_t ret[DIGEST_MD5_LEN]);
/* The stored form. Load is false when the bytes were not written by save on such a machine: then
 * start again. The form is that of the machine's byte order; a journal does not travel. */
void digest_md5_save(const struct digest_md5 *m, void *ret_state); /* DIGEST_MD5_STATE_SIZE bytes */
bool digest_md5_load(struct digest_md5 *m, const void *state, size_t n);
uint64_t digest_md5_bytes(const struct digest_md5 *m); /* how many went in so far */

struct digest_sha256 {
    uint32_t words[28];
};
void digest_sha256_init(struct digest_sha256 *s);
void digest_sha256_update(struct digest_sha256 *s, const void *p, size_t n);
void digest_sha256_final(struct digest_sha256 *s, uint8_t ret[DIGEST_SHA256_LEN]);
void digest_sha256(const void *p, size_t n, uint8_t ret[DIGEST_SHA256_LEN]);

struct digest_sha1 {
    uint32_t words[24];
};
void digest_sha1_init(struct digest_sha1 *s);
void digest_sha1_update(struct digest_sha1 *s, const void *p, size_t n);
void digest_sha1_final(struct digest_sha1 *s, uint8_t ret[DIGEST_SHA1_LEN]);
void digest_sha1(const void *p, size_t n, uint8_t ret[DIGEST_SHA1_LEN]);

void hmac_sha1(const void *key, size_t key_len, const void *p, size_t n,
               uint8_t ret[DIGEST_SHA1_LEN]);
void hmac_sha256(const void *key, size_t key_len, const void *p, size_t n,
                 uint8_t ret[DIGEST_SHA256_LEN]);

/* CRC-64/XZ, which COS, OSS and KS3 call "crc64ecma": 0 is the CRC of nothing, and a CRC goes on
 * from any earlier one, so the running state is the value itself. */
uint64_t crc64_update(uint64_t crc, const void *p, size_t n);
/* The CRC of A followed by B, from crc(A), crc(B) and B's length. */
uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b);
/* CRC-32C, likewise. */
uint32_t crc32c_update(uint32_t crc, const void *p, size_t n);
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

/* Qiniu's hash of an object, before it is written in base64: a byte that says how it was made, and 20. Up to 4 MiB that is
 * the SHA-1, above it the SHA-1 of the SHA-1s of all blocks of 4 MiB. */
#define DIGEST_QETAG_BLOCK (4u << 20)
#define DIGEST_QETAG_LEN (1 + DIGEST_SHA1_LEN)
#define DIGEST_QETAG_WHOLE 0x16  /* up to one block */
#define DIGEST_QETAG_BLOCKS 0x96 /* more */
#define DIGEST_QETAG_PARTS 0x9e  /* made of parts: the SHA-1 of the 20 bytes of each part's own */
void digest_qetag(const void *p, size_t n, uint8_t ret[DIGEST_QETAG_LEN]);

/* Characters base64 needs for n bytes, without the NUL. */
#define BASE64_LEN(n) (((n) + 2) / 3 * 4)
void base64_encode(const void *p, size_t n, char *ret); /* BASE64_LEN(n) + 1 bytes */
void base64url_encode(const void *p, size_t n, char *ret); /* with '-' and '_', padded likewise */
/* Padded standard alphabet, nothing else; ret holds up to 3 bytes for every 4 characters. False on
 * anything malformed. */
bool base64_decode(const char *s, size_t len, void *ret, size_t *ret_n);
