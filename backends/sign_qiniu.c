/* Qiniu's three signatures: of requests, of what may be uploaded, of download URLs. All are HMAC-SHA1 in URL-safe base64. */
#include "sign.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "mem.h"

#define VENDOR "X-Qiniu-"

static int add_token(const struct sign_key *key, const void *p, size_t n, struct sign_out *out)
{
    uint8_t mac[DIGEST_SHA1_LEN];
    hmac_sha1(key->secret, key->secret_len, p, n, mac);
    base64url_encode(mac, sizeof(mac), out->signature);
    return buf_addf(&out->authorization, "%s:%s", key->id, out->signature);
}

static int compare_names(const void *a, const void *b)
{
    return strcasecmp((*(const struct kv *const *)a)->name, (*(const struct kv *const *)b)->name);
}

/* As Go writes header names: each word's first letter is a capital. */
static int add_canonical_name(struct buf *out, const char *name)
{
    int err = 0;
    for (const char *p = name; *p && err == 0; p++) {
        bool first = p == name || p[-1] == '-';
        bool upper = *p >= 'A' && *p <= 'Z', lower = *p >= 'a' && *p <= 'z';
        err = buf_addc(out, first && lower ? (char)(*p - 'a' + 'A')
                            : !first && upper ? (char)(*p - 'A' + 'a')
                                              : *p);
    }
    return err;
}

static int add_vendor_headers(const struct kvlist *headers, struct buf *out)
{
    const struct kv **own = mem_zalloc((headers->n + 1) * sizeof(*own));
    size_t n = 0;
    int err = 0;
    for (size_t i = 0; i < headers->n; i++) {
        const char *name = headers->items[i].name;
        if (strncasecmp(name, VENDOR, strlen(VENDOR)) == 0 && name[strlen(VENDOR)] != '\0') {
            own[n++] = &headers->items[i];
        }
    }
    qsort(own, n, sizeof(*own), compare_names);
    for (size_t i = 0; i < n && err == 0; i++) {
        err = add_canonical_name(out, own[i]->name);
        if (err == 0) {
            err = buf_addf(out, ": %s\n", own[i]->value);
        }
    }
    free(own);
    return err;
}

int sign_qiniu(const char *method, const char *target, const struct kvlist *headers,
               const void *body, size_t len, const struct sign_key *key, struct sign_out *out)
{
    const char *type = kv_get(headers, "content-type"), *host = kv_get(headers, "host");
    int err = buf_addf(&out->to_sign, "%s %s\nHost: %s\n", method, target, host ? host : "");
    if (err == 0 && type) {
        err = buf_addf(&out->to_sign, "Content-Type: %s\n", type);
    }
    if (err == 0) {
        err = add_vendor_headers(headers, &out->to_sign);
    }
    if (err == 0) {
        err = buf_addc(&out->to_sign, '\n');
    }
    if (err == 0 && len > 0 && type && strcmp(type, "application/octet-stream") != 0) {
        err = buf_add(&out->to_sign, body, len);
    }
    if (err == 0) {
        err = buf_adds(&out->authorization, "Qiniu ");
    }
    return err < 0 ? err : add_token(key, buf_str(&out->to_sign), out->to_sign.len, out);
}

int sign_qiniu_upload(const char *policy, size_t len, const struct sign_key *key,
                      struct sign_out *out)
{
    CLEANUP(mem_freep) char *text = malloc(BASE64_LEN(len) + 1);
    if (!text) {
        return -ENOMEM;
    }
    base64url_encode(policy, len, text);
    int err = buf_adds(&out->to_sign, text);
    if (err == 0) {
        err = add_token(key, text, strlen(text), out);
    }
    return err < 0 ? err : buf_addf(&out->authorization, ":%s", text);
}

int sign_qiniu_url(const char *url, const struct sign_key *key, struct sign_out *out)
{
    int err = buf_adds(&out->to_sign, url);
    return err < 0 ? err : add_token(key, url, strlen(url), out);
}
