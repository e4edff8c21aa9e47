/* Signatures of Azure Blob Storage: SharedKey, or a SAS that was given. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dialect_azure.h"
#include "digest.h"
#include "mem.h"
#include "sign.h"

/* Of the SAS that lets the service read a copy's source; longer than any copy may take. */
#define SOURCE_SAS_S 7200

int azure_decode_key(const struct dialect_site *site, const struct secret *secret, uint8_t **ret,
                     size_t *ret_n, struct errinfo *reterr)
{
    uint8_t *key = mem_zalloc(secret->len + 1);
    size_t n = 0;
    if (!base64_decode(secret->bytes, secret->len, key, &n) || n == 0) {
        explicit_bzero(key, secret->len);
        free(key);
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] accessKeySecret: is no account key, which is base64; copy it again",
                       site->name);
    }
    *ret = key;
    *ret_n = n;
    return 0;
}

/* Takes away what an earlier signature put into the query: all that build does not. */
static void only_own_query(struct kvlist *query)
{
    static const char *const own[] = {"comp",    "restype",   "prefix",  "marker",       "delimiter",
                                      "include", "maxresults", "blockid", "blocklisttype"};
    for (size_t i = query->n; i > 0; i--) {
        bool is_own = false;
        for (size_t n = 0; n < ARRAY_LEN(own); n++) {
            is_own = is_own || strcmp(query->items[i - 1].name, own[n]) == 0;
        }
        if (!is_own) {
            kv_set(query, query->items[i - 1].name, NULL);
        }
    }
}

/* A SAS is the part of a URL after its '?'. */
static int add_sas(const struct dialect_site *site, const struct secret *token,
                   struct kvlist *query, struct errinfo *reterr)
{
    const char *p = token->bytes + (token->bytes[0] == '?');
    bool has_sig = false;
    for (; *p; p += strcspn(p, "&"), p += *p == '&') {
        size_t n = strcspn(p, "&"), eq = strcspn(p, "=&");
        CLEANUP(buf_fini) struct buf name = BUF_INIT;
        CLEANUP(buf_fini) struct buf value = BUF_INIT;
        if (n == 0) {
            continue;
        }
        if (url_decode(&name, p, eq, false) < 0 ||
            url_decode(&value, p + MIN(eq + 1, n), n - MIN(eq + 1, n), false) < 0) {
            has_sig = false;
            break;
        }
        has_sig = has_sig || strcmp(buf_str(&name), "sig") == 0;
        kv_set(query, buf_str(&name), buf_str(&value));
        if (value.len > 0) {
            explicit_bzero(value.data, value.len);
        }
    }
    if (!has_sig) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] sasToken: is no SAS (sv=…&sig=…); copy it again", site->name);
    }
    return 0;
}

/* The query that lets whoever has it read one blob for a while. */
static int source_query(const struct dialect_site *src, const char *key,
                        const struct dialect_keys *keys, int64_t wall_s, struct kvlist *query,
                        struct errinfo *reterr)
{
    if (!keys->secret) {
        return add_sas(src, keys->token, query, reterr);
    }
    char iso[SIGN_DATE_SIZE], expiry[32];
    sign_date_iso(wall_s + SOURCE_SAS_S, iso); /* YYYYMMDDTHHMMSSZ */
    snprintf(expiry, sizeof(expiry), "%.4s-%.2s-%.5s:%.2s:%.3s", iso, iso + 4, iso + 6, iso + 11,
             iso + 13);
    kv_set(query, "sv", AZURE_VERSION);
    kv_set(query, "se", expiry);
    kv_set(query, "sr", "b");
    kv_set(query, "sp", "r");
    CLEANUP(mem_freep) char *resource =
        mem_printf("/blob/%s/%s/%s", azure_of(src)->account, src->bucket, key);
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    struct sign_key k = {.id = azure_of(src)->account};
    uint8_t *secret = NULL;
    int err = azure_decode_key(src, keys->secret, &secret, &k.secret_len, reterr);
    if (err < 0) {
        return err;
    }
    k.secret = (const char *)secret;
    err = sign_azure_sas(query, resource, &k, &out);
    explicit_bzero(secret, k.secret_len);
    free(secret);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "signature: no memory");
    }
    kv_set(query, "sig", out.signature);
    return 0;
}

static int sign_source(const struct dialect_request *r, struct kvlist *headers, int64_t wall_s,
                       struct errinfo *reterr)
{
    struct dialect_keys *keys = dialect_keys_get(r->src);
    if (!keys) {
        return 0;
    }
    const char *url = kv_get(headers, "x-ms-copy-source");
    CLEANUP(kv_fini) struct kvlist query = {0};
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    int err = source_query(r->src, r->src_key, keys, wall_s, &query, reterr);
    dialect_keys_put(keys);
    if (err < 0) {
        return err;
    }
    CLEANUP(mem_freep) char *bare = mem_strndup(url, strcspn(url, "?"));
    err = kv_format(&query, &text); /* names need no encoding, values get it */
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "signature: no memory");
    }
    CLEANUP(mem_freep) char *whole = mem_printf("%s?%s", bare, buf_str(&text));
    kv_set(headers, "x-ms-copy-source", whole);
    return 0;
}

/* SharedKey: a date, and the signature with it. */
static int sign_with_key(const struct dialect_site *site, const struct secret *account_key,
                         struct sign_req *req, struct kvlist *headers, uint64_t body_len,
                         int64_t wall_s, struct errinfo *reterr)
{
    char date[SIGN_DATE_SIZE];
    sign_date_http(wall_s, date);
    kv_set(headers, "x-ms-date", date);
    req->headers = headers;
    struct sign_key key = {.id = azure_of(site)->account};
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    uint8_t *secret = NULL;
    int err = azure_decode_key(site, account_key, &secret, &key.secret_len, reterr);
    if (err < 0) {
        return err;
    }
    key.secret = (const char *)secret;
    err = sign_azure(req, &key, body_len, &out);
    explicit_bzero(secret, key.secret_len);
    free(secret);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, -ENOMEM, "signature: no memory");
    }
    kv_set(headers, "authorization", buf_str(&out.authorization));
    return 0;
}

struct batch {
    const struct dialect_site *site;
    const struct dialect_keys *keys; /* NULL: nothing is signed */
    int64_t wall_s;
    struct errinfo *reterr;
};

static int sign_removal(void *ctx, const char *path, struct buf *target, struct kvlist *headers)
{
    const struct batch *b = ctx;
    CLEANUP(dialect_request_fini) struct dialect_request r = {0};
    int err = buf_adds(&r.path, path);
    if (err == 0 && b->keys && b->keys->secret) {
        struct sign_req req = {"DELETE", path, &r.query, NULL};
        err = sign_with_key(b->site, b->keys->secret, &req, headers, 0, b->wall_s, b->reterr);
    } else if (err == 0 && b->keys) {
        err = add_sas(b->site, b->keys->token, &r.query, b->reterr);
    }
    return err < 0 ? err : dialect_target(&r, target);
}

int azure_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
               struct errinfo *reterr)
{
    struct dialect_keys *keys = dialect_keys_get(site);
    kv_set(&r->headers, "authorization", NULL);
    only_own_query(&r->query);
    int err = 0;
    if (r->note.len > 0) {
        struct batch b = {site, keys, wall_s, reterr};
        err = azure_batch_body(r, sign_removal, &b);
        if (err < 0 && reterr->cls == ERR_NONE) {
            err_set(reterr, ERR_LOCAL, err, "delete: no memory");
        }
    }
    if (err == 0 && keys && r->src) {
        err = sign_source(r, &r->headers, wall_s, reterr);
    }
    if (err == 0 && keys && !keys->secret) {
        err = add_sas(site, keys->token, &r->query, reterr);
    } else if (err == 0 && keys) {
        struct sign_req req = {r->method, buf_str(&r->path), &r->query, NULL};
        err = sign_with_key(site, keys->secret, &req, &r->headers, r->body_len, wall_s, reterr);
    }
    dialect_keys_put(keys);
    return err;
}
