/* JSON Web Tokens signed with RSA: the one signature that needs more of OpenSSL than digests. */
#include "sign.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "digest.h"
#include "mem.h"

/* RFC 7515, section 2: the URL-safe alphabet, without padding. */
static int add_base64url(struct buf *out, const void *p, size_t n)
{
    CLEANUP(mem_freep) char *text = mem_zalloc(BASE64_LEN(n) + 1);
    base64_encode(p, n, text);
    for (char *c = text; *c; c++) {
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
    }
    return buf_add(out, text, strcspn(text, "="));
}

/* Nobody is there to type a password. */
static int no_password(char *buf, int size, int rwflag, void *u)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)u;
    return -1;
}

static EVP_PKEY *read_key(const char *pem, size_t n)
{
    BIO *bio = n > 0 && n <= INT_MAX ? BIO_new_mem_buf(pem, (int)n) : NULL;
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    if (key && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static int sign_rs256(EVP_PKEY *key, const void *p, size_t n, struct buf *out)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    size_t len = 0;
    int err = -EINVAL;
    if (md && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
        EVP_DigestSign(md, NULL, &len, p, n) == 1) {
        CLEANUP(mem_freep) unsigned char *sig = mem_zalloc(len);
        if (EVP_DigestSign(md, sig, &len, p, n) == 1) {
            err = add_base64url(out, sig, len);
        }
    }
    EVP_MD_CTX_free(md);
    return err;
}

int sign_jwt(const char *header, const char *claims, const char *pem, size_t pem_len,
             struct buf *ret)
{
    EVP_PKEY *key = read_key(pem, pem_len);
    CLEANUP(buf_fini) struct buf sig = BUF_INIT;
    buf_clear(ret);
    int err = key ? add_base64url(ret, header, strlen(header)) : -EINVAL;
    if (err == 0) {
        err = buf_addc(ret, '.');
    }
    if (err == 0) {
        err = add_base64url(ret, claims, strlen(claims));
    }
    if (err == 0) {
        err = sign_rs256(key, buf_str(ret), ret->len, &sig);
    }
    if (err == 0) {
        err = buf_addf(ret, ".%s", buf_str(&sig));
    }
    EVP_PKEY_free(key);
    ERR_clear_error(); /* the queue is the thread's, and others use OpenSSL on it */
    return err;
}
