/* Azure Blob Storage: settings and names. See dialect_azure.h for uploads and copies. */
#include "dialect_azure.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "mem.h"
#include "names.h"

#define MIB (UINT64_C(1) << 20)
#define MAX_CHARACTERS 1024
#define MAX_SEGMENTS 254

/* --- settings */

const char *azure_tier(const char *s)
{
    static const char *const tiers[] = {"Hot", "Cool", "Cold", "Archive"};
    if (s[0] == '\0' || strcasecmp(s, "STANDARD") == 0) {
        return "";
    }
    for (size_t i = 0; i < ARRAY_LEN(tiers); i++) {
        if (strcasecmp(s, tiers[i]) == 0) {
            return tiers[i];
        }
    }
    return NULL;
}

const char *azure_scope(const char *s)
{
    if (s[0] == '\0' || strcasecmp(s, "AES256") == 0) {
        return "";
    }
    return strncasecmp(s, "scope:", 6) == 0 && s[6] != '\0' ? s + 6 : NULL;
}

static void azure_release(struct dialect_site *site)
{
    if (!site) {
        return;
    }
    struct azure *z = (struct azure *)(void *)site;
    free(z->account);
    free(z->tier);
    free(z->scope);
    dialect_site_fini(site);
    free(z);
}

/* endPoint = [http[s]://]HOST[:PORT][/PATH]: the emulator, and proxies, have the account as PATH. */
static int azure_place(const struct conf_remote *conf, struct azure *z, struct errinfo *reterr)
{
    struct dialect_site *site = &z->site;
    const char *endpoint = conf->endpoint ? conf->endpoint : "";
    if (endpoint[0] == '\0') {
        site->host = mem_printf("%s.blob.core.windows.net", z->account);
        site->base = mem_printf("/%s", site->bucket);
        site->service = mem_strdup(site->host);
    } else {
        const char *host = strstr(endpoint, "://") ? strstr(endpoint, "://") + 3 : endpoint;
        const char *path = host + strcspn(host, "/");
        struct conf_remote bare = *conf;
        CLEANUP(mem_freep) char *without = mem_strndup(endpoint, (size_t)(path - endpoint));
        bare.endpoint = without;
        int err = dialect_endpoint(&bare, &site->host, reterr);
        if (err < 0) {
            return err;
        }
        size_t n = strlen(path);
        while (n > 0 && path[n - 1] == '/') {
            n--;
        }
        CLEANUP(mem_freep) char *lead = mem_strndup(path, n);
        if (n == 0 && (conf->path_style || dialect_host_is_address(site->host))) {
            free(lead);
            lead = mem_printf("/%s", z->account);
        }
        for (const char *p = lead; *p; p++) {
            if (!isalnum((unsigned char)*p) && !strchr("/-._", *p)) {
                return err_set(reterr, ERR_INVALID, -EINVAL,
                               "[%s] endPoint: '%.100s' has no usable path; write HOST/ACCOUNT",
                               site->name, endpoint);
            }
        }
        site->base = mem_printf("%s/%s", lead, site->bucket);
        site->service = mem_printf("%s%s", site->host, lead);
    }
    site->identity = mem_printf("azure:%s/%s", site->service, site->bucket);
    return 0;
}

static int check_settings(const struct conf_remote *conf, const struct azure *z,
                          struct errinfo *reterr)
{
    const char *bucket = z->site.bucket, *name = z->site.name;
    size_t n = strlen(bucket);
    if (z->account[0] == '\0') {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] accessKeyId: missing; name the storage account", name);
    }
    if (strspn(z->account, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(z->account)) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] accessKeyId: '%.60s' is no storage account; lower-case letters and "
                       "digits only",
                       name, z->account);
    }
    if (n < 3 || n > 63 || strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-") != n) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] bucket: '%.100s' is no container name; 3 to 63 lower-case letters, "
                       "digits and '-'",
                       name, bucket);
    }
    if (!azure_tier(conf->storage_class ? conf->storage_class : "")) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] storageClass: '%.40s' is unknown; use Hot, Cool, Cold or Archive",
                       name, conf->storage_class);
    }
    if (!azure_scope(conf->encryption ? conf->encryption : "")) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] encryptionType: '%.60s' is unknown; use AES256 or scope:NAME", name,
                       conf->encryption);
    }
    return 0;
}

/* The account's key as bytes; the caller wipes it. */
static int azure_configure(const struct conf_remote *conf, struct dialect_site **ret,
                           struct errinfo *reterr)
{
    struct azure *z = mem_zalloc(sizeof(*z));
    struct dialect_site *site = &z->site;
    z->account = mem_strdup(conf->access_key_id ? conf->access_key_id : "");
    int err = dialect_site_init(site, &be_dialect_azure, conf, reterr);
    if (err == 0) {
        err = check_settings(conf, z, reterr);
    }
    if (err == 0) {
        err = azure_place(conf, z, reterr);
    }
    if (err == 0 && conf->access_key_secret && conf->access_key_secret->len > 0) {
        uint8_t *key = NULL;
        size_t n = 0;
        err = azure_decode_key(site, conf->access_key_secret, &key, &n, reterr);
        if (key) {
            explicit_bzero(key, n);
        }
        free(key);
    }
    if (err < 0) {
        azure_release(site);
        return err;
    }
    z->tier = mem_strdup(azure_tier(conf->storage_class ? conf->storage_class : ""));
    if (conf->storage_class && strcasecmp(conf->storage_class, "Hot") == 0) {
        free(z->tier);
        z->tier = mem_strdup("Hot"); /* said aloud: the account's own may be another */
    }
    z->scope = mem_strdup(azure_scope(conf->encryption ? conf->encryption : ""));
    site->caps = BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT | BE_CAP_USER_META | BE_CAP_MULTIPART |
                 BE_CAP_COPY | BE_CAP_LIST_STRONG | BE_CAP_MP_META_LATE | BE_CAP_MP_NO_ABORT |
                 BE_CAP_RESTORE | BE_CAP_REMOVE_MANY;
    /* Put Block From URL is not known to the emulator */
    const char *part_copy = kv_get(&conf->defaults, "partCopy");
    if (part_copy ? strcmp(part_copy, "on") == 0 : !dialect_host_is_address(site->host)) {
        site->caps |= BE_CAP_PART_COPY;
    }
    site->copy_needs_source = true;
    site->gone_upload_is_invalid = true;
    site->limits = (struct be_limits){.max_object = 50000 * 4000 * MIB,
                                      .max_put = 5000 * MIB,
                                      .max_copy = 256 * MIB, /* what is copied while we wait */
                                      .max_part = 4000 * MIB,
                                      .max_parts = 50000,
                                      .max_key = 4 * MAX_CHARACTERS, /* bytes; see key_fault */
                                      .max_meta = 8192,
                                      .list_page = 5000,
                                      .batch = 256};
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

static bool azure_can_copy(const struct dialect_site *dst, const struct dialect_site *src)
{
    /* within an account; the service reads the source with what we may read it with */
    return strcmp(dst->service, src->service) == 0 && dialect_same_id(dst, src);
}

/* --- names */

/* What the service (and what stands before it) would take for another name or refuse. */
static const char *azure_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    size_t characters = 0, segments = 1;
    for (const unsigned char *p = (const unsigned char *)key; *p; p++) {
        characters += (*p & 0xc0) != 0x80; /* as UTF-16 counts: */
        characters += *p >= 0xf0;
        segments += *p == '/';
        if (*p == '\\') {
            return "Azure takes a backslash for a slash";
        }
        if (*p < ' ' || *p == 0x7f) {
            return "Azure takes no key with a control character";
        }
        if (*p == '.' && (p[1] == '/' || p[1] == '\0')) {
            return "Azure drops a '.' at the end of a component of the key";
        }
    }
    if (characters > MAX_CHARACTERS) {
        return "Azure takes no key of more than 1024 characters";
    }
    if (segments > MAX_SEGMENTS) {
        return "Azure takes no key of more than 254 components";
    }
    return names_is_utf8(key, strlen(key)) ? NULL : "Azure takes no key that is not UTF-8";
}

static bool is_hex(char c)
{
    return isdigit((unsigned char)c) || (c >= 'a' && c <= 'f');
}

/* A letter, or a digit that is not the first. */
static bool stays(const char *name, size_t i)
{
    char c = (char)tolower((unsigned char)name[i]);
    return (c >= 'a' && c <= 'z') || (isdigit((unsigned char)c) && i > 0);
}

int azure_name_encode(const char *name, struct buf *ret)
{
    size_t n = strlen(name);
    bool reserved = strcasecmp(name, AZURE_EXPIRES) == 0;
    int err = 0;
    for (size_t i = 0; i < n && err == 0; i++) {
        unsigned char c = (unsigned char)tolower((unsigned char)name[i]);
        bool ambiguous = i + 2 < n && is_hex((char)tolower((unsigned char)name[i + 1])) &&
                         is_hex((char)tolower((unsigned char)name[i + 2]));
        if (stays(name, i) || (c == '_' && !ambiguous && !(reserved && i == 0))) {
            err = buf_addc(ret, (char)c);
        } else {
            err = buf_addf(ret, "_%02x", c);
        }
    }
    return err;
}

char *azure_name_decode(const char *name)
{
    CLEANUP(buf_fini) struct buf again = BUF_INIT;
    CLEANUP(mem_freep) char *lower = mem_strdup(name);
    char *plain = mem_zalloc(strlen(name) + 1), *to = plain;
    for (char *p = lower; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    for (const char *p = lower; *p;) {
        uint8_t c = 0;
        char digits[3] = {p[0] == '_' ? p[1] : '\0', p[0] == '_' && p[1] ? p[2] : '\0', '\0'};
        if (p[0] == '_' && hex_decode(digits, 1, &c) && c != 0) {
            *to++ = (char)c;
            p += 3;
        } else {
            *to++ = *p++;
        }
    }
    if (azure_name_encode(plain, &again) < 0 || strcmp(buf_str(&again), lower) != 0) {
        free(plain); /* not of our making */
        return TAKE(lower);
    }
    return plain;
}

/* --- uploads, cursors */

bool azure_block_id(const char *upload_id, unsigned number, const char *etag,
                    char ret[AZURE_BLOCK_LEN + 1])
{
    if (!upload_id || strlen(upload_id) != AZURE_UPLOAD_LEN || strlen(etag) != AZURE_ETAG_LEN ||
        number > 99999) {
        return false;
    }
    snprintf(ret, AZURE_BLOCK_LEN + 1, "objmig-%.20s%05u%.32s", upload_id, number, etag);
    return true;
}

bool azure_block_parse(const char *base64, char ret_upload[AZURE_UPLOAD_LEN + 1],
                       struct be_part_id *ret)
{
    char id[AZURE_BLOCK_LEN + 4] = "", number[6];
    size_t n = 0;
    uint64_t value = 0;
    if (strlen(base64) != BASE64_LEN(AZURE_BLOCK_LEN) ||
        !base64_decode(base64, strlen(base64), id, &n) || n != AZURE_BLOCK_LEN ||
        strncmp(id, "objmig-", 7) != 0 || strlen(id) != n) {
        return false;
    }
    snprintf(ret_upload, AZURE_UPLOAD_LEN + 1, "%.20s", id + 7);
    snprintf(number, sizeof(number), "%.5s", id + 7 + AZURE_UPLOAD_LEN);
    if (strspn(ret_upload, "0123456789abcdef") != AZURE_UPLOAD_LEN || !dialect_u64(number, &value) ||
        value == 0) {
        return false;
    }
    ret->number = (unsigned)value;
    return dialect_etag(id + 7 + AZURE_UPLOAD_LEN + 5, ret->etag);
}

void azure_part_etag(const struct be_part *op, char ret[AZURE_ETAG_LEN + 1])
{
    uint8_t md5[DIGEST_MD5_LEN];
    if (!op->src) {
        if (op->md5) {
            memcpy(md5, op->md5, sizeof(md5));
        } else {
            digest_md5(op->data, op->len, md5);
        }
        hex_encode(md5, sizeof(md5), ret);
        return;
    }
    char range[64];
    struct digest_md5 d;
    digest_md5_init(&d);
    snprintf(range, sizeof(range), "%llu+%llu ", (unsigned long long)op->src_offset,
             (unsigned long long)op->src_len);
    digest_md5_update(&d, range, strlen(range));
    digest_md5_update(&d, op->src_key, strlen(op->src_key) + 1);
    digest_md5_update(&d, op->src_etag ? op->src_etag : "",
                      op->src_etag ? strlen(op->src_etag) : 0);
    digest_md5_final(&d, md5);
    hex_encode(md5, sizeof(md5), ret);
    ret[0] = 'x'; /* not to be taken for the MD5 of bytes */
}

static int azure_local(const struct dialect_site *site, const struct dialect_call *call,
                       struct errinfo *reterr)
{
    (void)site;
    (void)reterr;
    if (call->kind == BE_MP_BEGIN) {
        CONTAINER_OF(call->op, struct be_mp, op)->upload_id =
            mem_printf("%08llx%012llx", (unsigned long long)call->begun_s & 0xffffffffu,
                       (unsigned long long)(call->random >> 16));
        return 1;
    }
    /* what was sent vanishes after a week, or when the name is written: no request can do it */
    return call->kind == BE_MP_ABORT;
}

char *azure_cursor(const char *after, size_t after_len, const char *marker)
{
    return mem_printf("%zu:%.*s%s", after_len, (int)after_len, after ? after : "", marker);
}

bool azure_cursor_parse(const char *cursor, const char **ret_after, size_t *ret_after_len,
                        const char **ret_marker)
{
    char *colon = NULL;
    unsigned long n = strtoul(cursor, &colon, 10);
    if (colon == cursor || *colon != ':' || n > strlen(colon + 1)) {
        return false;
    }
    *ret_after = colon + 1;
    *ret_after_len = n;
    *ret_marker = colon + 1 + n;
    return true;
}

static char *word_decoded(const char *s)
{
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    if (url_decode(&plain, s, strcspn(s, " "), false) < 0) {
        return mem_strdup("");
    }
    return mem_strdup(buf_str(&plain));
}

char *azure_state_marker(const char *state)
{
    return word_decoded(state);
}

char *azure_state_key(const char *state)
{
    const char *blank = strchr(state, ' ');
    return blank ? word_decoded(blank + 1) : NULL;
}

char *azure_state_rest(const char *state)
{
    const char *first = strchr(state, ' '), *second = first ? strchr(first + 1, ' ') : NULL;
    int marker = (int)strcspn(state, " ");
    return marker > 0 || second ? mem_printf("%.*s%s", marker, state, second ? second : "") : NULL;
}

static const char *const azure_archives[] = {"Archive", NULL};

const struct be_dialect be_dialect_azure = {
    .name = "azure",
    .archives = azure_archives,
    .token_alone = true,
    .configure = azure_configure,
    .release = azure_release,
    .can_copy = azure_can_copy,
    .key_fault = azure_key_fault,
    .local = azure_local,
    .build = azure_build,
    .sign = azure_sign,
    .parse = azure_parse,
    .classify = azure_classify,
    .stream_new = azure_stream_new,
    .stream_feed = azure_stream_feed,
    .stream_free = azure_stream_free,
};
