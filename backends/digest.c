/* Digests over OpenSSL's low-level functions. Those are deprecated in OpenSSL 3, but they are what
 * this project needs: a context of plain data that can be stored and loaded (EVP contexts cannot),
 * no provider look-up per call, and no way to fail. Their struct layouts have not changed since
 * OpenSSL 0.9.8; the asserts below notice if one ever does. */
#include "digest.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/md5.h>
#include <openssl/sha.h>

#include "mem.h"

_Static_assert(sizeof(MD5_CTX) == sizeof(((struct digest_md5 *)0)->words), "MD5_CTX changed");
_Static_assert(sizeof(SHA_CTX) == sizeof(struct digest_sha1), "SHA_CTX changed");
_Static_assert(sizeof(SHA256_CTX) == sizeof(struct digest_sha256), "SHA256_CTX changed");
_Static_assert(sizeof(struct digest_md5) == 96, "the journal stores this");

/* The words are copied in and out instead of cast, which strict aliasing forbids. 100 bytes cost
 * nothing beside a digest block. */
static void md5_get(const struct digest_md5 *m, MD5_CTX *ret)
{
    memcpy(ret, m->words, sizeof(*ret));
}

static void md5_put(struct digest_md5 *m, const MD5_CTX *c)
{
    memcpy(m->words, c, sizeof(*c));
    m->format = DIGEST_MD5_FORMAT;
}

void digest_md5_init(struct digest_md5 *m)
{
    MD5_CTX c;
    memset(&c, 0, sizeof(c));
    MD5_Init(&c);
    md5_put(m, &c);
}

void digest_md5_update(struct digest_md5 *m, const void *p, size_t n)
{
    MD5_CTX c;
    if (n == 0) {
        return;
    }
    md5_get(m, &c);
    MD5_Update(&c, p, n);
    md5_put(m, &c);
}

void digest_md5_final(struct digest_md5 *m, uint8_t ret[DIGEST_MD5_LEN])
{
    MD5_CTX c;
    md5_get(m, &c);
    MD5_Final(ret, &c);
    md5_put(m, &c);
}

void digest_md5(const void *p, size_t n, uint8_t ret[DIGEST_MD5_LEN])
{
    MD5_CTX c;
    MD5_Init(&c);
    if (n > 0) {
        MD5_Update(&c, p, n);
    }
    MD5_Final(ret, &c);
}

void digest_md5_save(const struct digest_md5 *m, void *ret_state)
{
    memcpy(ret_state, m, sizeof(*m));
}

bool digest_md5_load(struct digest_md5 *m, const void *state, size_t n)
{
    struct digest_md5 t;
    if (n != sizeof(t)) {
        return false;
    }
    memcpy(&t, state, sizeof(t));
    MD5_CTX c;
    md5_get(&t, &c);
    /* num indexes the block buffer inside OpenSSL; it must agree with the bit count */
    if (t.format != DIGEST_MD5_FORMAT || c.num >= MD5_CBLOCK || ((c.Nl >> 3) & 63) != c.num) {
        return false;
    }
    *m = t;
    return true;
}

uint64_t digest_md5_bytes(const struct digest_md5 *m)
{
    MD5_CTX c;
    md5_get(m, &c);
    return (((uint64_t)c.Nh << 32) | c.Nl) >> 3;
}

void digest_sha256_init(struct digest_sha256 *s)
{
    SHA256_CTX c;
    memset(&c, 0, sizeof(c));
    SHA256_Init(&c);
    memcpy(s->words, &c, sizeof(c));
}

void digest_sha256_update(struct digest_sha256 *s, const void *p, size_t n)
{
    SHA256_CTX c;
    if (n == 0) {
        return;
    }
    memcpy(&c, s->words, sizeof(c));
    SHA256_Update(&c, p, n);
    memcpy(s->words, &c, sizeof(c));
}

void digest_sha256_final(struct digest_sha256 *s, uint8_t ret[DIGEST_SHA256_LEN])
{
    SHA256_CTX c;
    memcpy(&c, s->words, sizeof(c));
    SHA256_Final(ret, &c);
    OPENSSL_cleanse(s, sizeof(*s)); /* may hold a MAC's key */
}

void digest_sha256(const void *p, size_t n, uint8_t ret[DIGEST_SHA256_LEN])
{
    SHA256_CTX c;
    SHA256_Init(&c);
    if (n > 0) {
        SHA256_Update(&c, p, n);
    }
    SHA256_Final(ret, &c);
}

void digest_sha1_init(struct digest_sha1 *s)
{
    SHA_CTX c;
    memset(&c, 0, sizeof(c));
    SHA1_Init(&c);
    memcpy(s->words, &c, sizeof(c));
}

void digest_sha1_update(struct digest_sha1 *s, const void *p, size_t n)
{
    SHA_CTX c;
    if (n == 0) {
        return;
    }
    memcpy(&c, s->words, sizeof(c));
    SHA1_Update(&c, p, n);
    memcpy(s->words, &c, sizeof(c));
}

void digest_sha1_final(struct digest_sha1 *s, uint8_t ret[DIGEST_SHA1_LEN])
{
    SHA_CTX c;
    memcpy(&c, s->words, sizeof(c));
    SHA1_Final(ret, &c);
    OPENSSL_cleanse(s, sizeof(*s));
}

void digest_sha1(const void *p, size_t n, uint8_t ret[DIGEST_SHA1_LEN])
{
    SHA_CTX c;
    SHA1_Init(&c);
    if (n > 0) {
        SHA1_Update(&c, p, n);
    }
    SHA1_Final(ret, &c);
}

/* HMAC of RFC 2104; both hashes have 64-byte blocks. */
#define HMAC_BLOCK 64

static void hmac_pad(const uint8_t key[HMAC_BLOCK], uint8_t x, uint8_t ret[HMAC_BLOCK])
{
    for (size_t i = 0; i < HMAC_BLOCK; i++) {
        ret[i] = key[i] ^ x;
    }
}

void hmac_sha1(const void *key, size_t key_len, const void *p, size_t n,
               uint8_t ret[DIGEST_SHA1_LEN])
{
    uint8_t k[HMAC_BLOCK] = {0}, pad[HMAC_BLOCK], inner[DIGEST_SHA1_LEN];
    struct digest_sha1 s;
    if (key_len > HMAC_BLOCK) {
        digest_sha1(key, key_len, k);
    } else if (key_len > 0) {
        memcpy(k, key, key_len);
    }
    digest_sha1_init(&s);
    hmac_pad(k, 0x36, pad);
    digest_sha1_update(&s, pad, sizeof(pad));
    digest_sha1_update(&s, p, n);
    digest_sha1_final(&s, inner);
    digest_sha1_init(&s);
    hmac_pad(k, 0x5c, pad);
    digest_sha1_update(&s, pad, sizeof(pad));
    digest_sha1_update(&s, inner, sizeof(inner));
    digest_sha1_final(&s, ret);
    OPENSSL_cleanse(k, sizeof(k));
    OPENSSL_cleanse(pad, sizeof(pad));
}

void hmac_sha256(const void *key, size_t key_len, const void *p, size_t n,
                 uint8_t ret[DIGEST_SHA256_LEN])
{
    uint8_t k[HMAC_BLOCK] = {0}, pad[HMAC_BLOCK], inner[DIGEST_SHA256_LEN];
    struct digest_sha256 s;
    if (key_len > HMAC_BLOCK) {
        digest_sha256(key, key_len, k);
    } else if (key_len > 0) {
        memcpy(k, key, key_len);
    }
    digest_sha256_init(&s);
    hmac_pad(k, 0x36, pad);
    digest_sha256_update(&s, pad, sizeof(pad));
    digest_sha256_update(&s, p, n);
    digest_sha256_final(&s, inner);
    digest_sha256_init(&s);
    hmac_pad(k, 0x5c, pad);
    digest_sha256_update(&s, pad, sizeof(pad));
    digest_sha256_update(&s, inner, sizeof(inner));
    digest_sha256_final(&s, ret);
    OPENSSL_cleanse(k, sizeof(k));
    OPENSSL_cleanse(pad, sizeof(pad));
}

void digest_qetag(const void *p, size_t n, uint8_t ret[DIGEST_QETAG_LEN])
{
    const uint8_t *s = p;
    uint8_t one[DIGEST_SHA1_LEN];
    struct digest_sha1 all;
    ret[0] = n > DIGEST_QETAG_BLOCK ? DIGEST_QETAG_BLOCKS : DIGEST_QETAG_WHOLE;
    if (n <= DIGEST_QETAG_BLOCK) {
        digest_sha1(p, n, ret + 1);
        return;
    }
    digest_sha1_init(&all);
    for (size_t at = 0; at < n; at += DIGEST_QETAG_BLOCK) {
        digest_sha1(s + at, MIN(n - at, (size_t)DIGEST_QETAG_BLOCK), one);
        digest_sha1_update(&all, one, sizeof(one));
    }
    digest_sha1_final(&all, ret + 1);
}

/* Reflected CRCs whose initial value and final xor are all ones. One of 32 bits lives in the low
 * half of the register. Slicing by 16: table[k][b] is the CRC of byte b followed by k zero bytes.
 */
#define CRC_SLICES 16

struct crc {
    uint64_t poly, top; /* top: the coefficient of x^0 */
    pthread_once_t once;
    uint64_t table[CRC_SLICES][256];
    uint64_t power[64 + 3]; /* x^(2^k) mod P */
};

/* ECMA-182 and Castagnoli */
static struct crc crc64 = {
    .poly = 0xC96C5795D7870F42u, .top = UINT64_C(1) << 63, .once = PTHREAD_ONCE_INIT};
static struct crc crc32c = {
    .poly = 0x82F63B78u, .top = UINT64_C(1) << 31, .once = PTHREAD_ONCE_INIT};

/* a·b mod P over GF(2). */
static uint64_t crc_multiply(const struct crc *t, uint64_t a, uint64_t b)
{
    uint64_t r = 0;
    for (uint64_t m = t->top; m != 0; m >>= 1) {
        if (a & m) {
            r ^= b;
        }
        b = (b & 1) ? (b >> 1) ^ t->poly : b >> 1;
    }
    return r;
}

static void crc_setup(struct crc *t)
{
    for (unsigned b = 0; b < 256; b++) {
        uint64_t c = b;
        for (int i = 0; i < 8; i++) {
            c = (c & 1) ? (c >> 1) ^ t->poly : c >> 1;
        }
        t->table[0][b] = c;
    }
    for (unsigned k = 1; k < CRC_SLICES; k++) {
        for (unsigned b = 0; b < 256; b++) {
            uint64_t c = t->table[k - 1][b];
            t->table[k][b] = (c >> 8) ^ t->table[0][c & 0xff];
        }
    }
    t->power[0] = t->top >> 1; /* x^1 */
    for (unsigned k = 1; k < ARRAY_LEN(t->power); k++) {
        t->power[k] = crc_multiply(t, t->power[k - 1], t->power[k - 1]);
    }
}

static void crc64_setup(void)
{
    crc_setup(&crc64);
}

static void crc32c_setup(void)
{
    crc_setup(&crc32c);
}

static uint64_t load_le64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

static uint64_t crc_update(const struct crc *t, uint64_t crc, const void *p, size_t n)
{
    const uint64_t(*const table)[256] = t->table;
    const uint64_t ones = t->top | (t->top - 1);
    const uint8_t *s = p;
    uint64_t c = crc ^ ones;
    while (n >= CRC_SLICES) {
        uint64_t a = load_le64(s) ^ c, b = load_le64(s + 8);
        c = table[15][a & 0xff] ^ table[14][(a >> 8) & 0xff] ^ table[13][(a >> 16) & 0xff] ^
            table[12][(a >> 24) & 0xff] ^ table[11][(a >> 32) & 0xff] ^
            table[10][(a >> 40) & 0xff] ^ table[9][(a >> 48) & 0xff] ^ table[8][a >> 56] ^
            table[7][b & 0xff] ^ table[6][(b >> 8) & 0xff] ^ table[5][(b >> 16) & 0xff] ^
            table[4][(b >> 24) & 0xff] ^ table[3][(b >> 32) & 0xff] ^ table[2][(b >> 40) & 0xff] ^
            table[1][(b >> 48) & 0xff] ^ table[0][b >> 56];
        s += CRC_SLICES;
        n -= CRC_SLICES;
    }
    for (; n > 0; n--, s++) {
        c = (c >> 8) ^ table[0][(c ^ *s) & 0xff];
    }
    return c ^ ones;
}

/* crc(A B) = crc(A) x^(8|B|) + crc(B): the all-ones start of B's own CRC and the final xor of A's
 * cancel. */
static uint64_t crc_combine(const struct crc *t, uint64_t crc_a, uint64_t crc_b, uint64_t len_b)
{
    uint64_t r = crc_a;
    /* bit k of len_b stands for x^(8·2^k) = x^(2^(k+3)) */
    for (unsigned k = 0; len_b != 0; k++, len_b >>= 1) {
        if (len_b & 1) {
            r = crc_multiply(t, t->power[k + 3], r);
        }
    }
    return r ^ crc_b;
}

uint64_t crc64_update(uint64_t crc, const void *p, size_t n)
{
    pthread_once(&crc64.once, crc64_setup);
    return crc_update(&crc64, crc, p, n);
}

uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b)
{
    pthread_once(&crc64.once, crc64_setup);
    return crc_combine(&crc64, crc_a, crc_b, len_b);
}

uint32_t crc32c_update(uint32_t crc, const void *p, size_t n)
{
    pthread_once(&crc32c.once, crc32c_setup);
    return (uint32_t)crc_update(&crc32c, crc, p, n);
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    pthread_once(&crc32c.once, crc32c_setup);
    return (uint32_t)crc_combine(&crc32c, crc_a, crc_b, len_b);
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *p, size_t n, char *ret)
{
    const uint8_t *s = p;
    for (; n > 0; s += 3) {
        uint32_t v = (uint32_t)s[0] << 16;
        if (n > 1) {
            v |= (uint32_t)s[1] << 8;
        }
        if (n > 2) {
            v |= s[2];
        }
        *ret++ = base64_digits[v >> 18];
        *ret++ = base64_digits[(v >> 12) & 63];
        *ret++ = n > 1 ? base64_digits[(v >> 6) & 63] : '=';
        *ret++ = n > 2 ? base64_digits[v & 63] : '=';
        n -= MIN(n, 3);
    }
    *ret = '\0';
}

void base64url_encode(const void *p, size_t n, char *ret)
{
    base64_encode(p, n, ret);
    for (; *ret; ret++) {
        *ret = (char)(*ret == '+' ? '-' : *ret == '/' ? '_' : *ret);
    }
}

static int base64_value(char c)
{
    const char *d = c != '\0' ? strchr(base64_digits, c) : NULL;
    return d != NULL ? (int)(d - base64_digits) : -1;
}

bool base64_decode(const char *s, size_t len, void *ret, size_t *ret_n)
{
    uint8_t *out = ret;
    size_t n = 0;
    if (len % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < len; i += 4) {
        bool last = i + 4 == len;
        int pad = last && s[i + 3] == '=' ? (s[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t v = 0;
        for (int k = 0; k < 4; k++) {
            int d = k >= 4 - pad ? 0 : base64_value(s[i + (size_t)k]);
            if (d < 0) {
                return false;
            }
            v = v << 6 | (uint32_t)d;
        }
        if ((pad == 1 && (v & 0xff) != 0) || (pad == 2 && (v & 0xffff) != 0)) {
            return false; /* bits that no encoder writes */
        }
        out[n] = (uint8_t)(v >> 16);
        if (pad < 2) {
            out[n + 1] = (uint8_t)(v >> 8);
        }
        if (pad < 1) {
            out[n + 2] = (uint8_t)v;
        }
        n += (size_t)(3 - pad);
    }
    *ret_n = n;
    return true;
}
