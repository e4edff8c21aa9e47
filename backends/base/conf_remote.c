/* One remote: the known keys, the check of each value and of what belongs together, and credentials
 * from elsewhere. */
#include "conf_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mem.h"

#define SHOWN_MAX 24 /* an unknown key longer than this is rather a secret than a typing error */

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

const struct provider conf_providers[] = {
    {.name = "local", .bit = P_LOCAL, .scheme = "file"},
    {.name = "s3",
     .bit = P_S3,
     .cloud = true,
     .scheme = "s3",
     .env = {{"AWS_ACCESS_KEY_ID"}, {"AWS_SECRET_ACCESS_KEY"}, {"AWS_SESSION_TOKEN"}},
     .env_region = {"AWS_REGION", "AWS_DEFAULT_REGION"},
     .signatures = {"v4", "v2"}},
    {.name = "azure",
     .bit = P_AZURE,
     .cloud = true,
     .placed = true,
     .token_alone = true,
     .scheme = "azure",
     .env = {{"AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"},
             {"AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY"},
             {"AZURE_STORAGE_SAS_TOKEN"}}},
    {.name = "cos",
     .bit = P_COS,
     .cloud = true,
     .scheme = "cos",
     .env = {{"COS_SECRET_ID", "TENCENTCLOUD_SECRET_ID"},
             {"COS_SECRET_KEY", "TENCENTCLOUD_SECRET_KEY"},
             {"COS_TOKEN", "TENCENTCLOUD_TOKEN"}},
     .env_region = {"COS_REGION", "TENCENTCLOUD_REGION"},
     .region = "ap-guangzhou"},
    {.name = "oss",
     .bit = P_OSS,
     .cloud = true,
     .scheme = "oss",
     .env = {{"ALIBABA_CLOUD_ACCESS_KEY_ID", "OSS_ACCESS_KEY_ID"},
             {"ALIBABA_CLOUD_ACCESS_KEY_SECRET", "OSS_ACCESS_KEY_SECRET"},
             {"ALIBABA_CLOUD_SECURITY_TOKEN", "OSS_SESSION_TOKEN"}},
     .env_region = {"OSS_REGION", "ALIBABA_CLOUD_REGION_ID"},
     .region = "cn-hangzhou",
     .signatures = {"v4", "v1"}},
    {.name = "ks3",
     .bit = P_KS3,
     .cloud = true,
     .scheme = "ks3",
     .env = {{"KS3_ACCESS_KEY_ID"}, {"KS3_ACCESS_KEY_SECRET"}, {"KS3_SECURITY_TOKEN"}},
     .region = "cn-beijing",
     .signatures = {"kss", "v4"}},
    {.name = "gcs",
     .bit = P_GCS,
     .cloud = true,
     .placed = true,
     .scheme = "gs",
     .env = {{"GS_ACCESS_KEY_ID"}, {"GS_SECRET_ACCESS_KEY"}, {NULL}}},
    {.name = "bos",
     .bit = P_BOS,
     .cloud = true,
     .scheme = "bos",
     .env = {{"BCE_ACCESS_KEY_ID", "BAIDUCLOUD_ACCESS_KEY"},
             {"BCE_SECRET_ACCESS_KEY", "BAIDUCLOUD_SECRET_KEY"},
             {"BCE_SESSION_TOKEN", "BAIDUCLOUD_SECURITY_TOKEN"}},
     .region = "bj"},
    {.name = "upyun",
     .bit = P_UPYUN,
     .cloud = true,
     .placed = true,
     .scheme = "upyun",
     .env = {{"UPYUN_OPERATOR"}, {"UPYUN_PASSWORD"}}},
    {.name = "qiniu",
     .bit = P_QINIU,
     .cloud = true,
     .scheme = "qiniu",
     .env = {{"QINIU_ACCESS_KEY"}, {"QINIU_SECRET_KEY"}},
     .region = "z0"},
    {.name = "http", .bit = P_HTTP},
    {.name = "memory", .bit = P_MEMORY, .scheme = "memory", .signatures = {"v4", "v2"}},
};

const size_t conf_n_providers = ARRAY_LEN(conf_providers);

enum kind { K_STR, K_SECRET, K_BOOL, K_SIZE, K_UINT, K_MD5, K_OPTION, K_TEXT };

#define AT(field) offsetof(struct conf_remote, field)

static const struct keydef {
    const char *name;
    const char *alias[2];
    enum kind kind;
    unsigned providers;
    size_t offset;
    uint64_t min, max;
} keys[N_KEYS] = {
    [KEY_PROVIDER] = {"provider", {NULL}, K_STR, P_ALL, AT(provider), 0, 0},
    [KEY_BUCKET] = {"bucket", {"bucketName"}, K_STR, P_CLOUD, AT(bucket), 0, 0},
    [KEY_REGION] = {"region", {NULL}, K_STR, P_CLASSES & ~P_AZURE, AT(region), 0, 0},
    [KEY_PREFIX] = {"prefix", {NULL}, K_STR, P_ALL, AT(prefix), 0, 0},
    [KEY_ENDPOINT] = {"endPoint", {NULL}, K_STR, P_CLOUD, AT(endpoint), 0, 0},
    [KEY_PATH] = {"path", {NULL}, K_STR, P_LOCAL, AT(path), 0, 0},
    [KEY_URLLIST] = {"urllistPath", {NULL}, K_STR, P_HTTP, AT(urllist), 0, 0},
    [KEY_ID] = {"accessKeyId", {"secretId"}, K_STR, P_CLOUD | P_HTTP, AT(access_key_id), 0, 0},
    [KEY_SECRET] =
        {"accessKeySecret", {"secretKey"}, K_SECRET, P_CLOUD | P_HTTP, AT(access_key_secret), 0, 0},
    [KEY_TOKEN] =
        {"securityToken", {"token", "sasToken"}, K_SECRET, P_TOKENS, AT(security_token), 0, 0},
    [KEY_HTTPS] = {"https", {NULL}, K_BOOL, P_CLOUD, AT(https), 0, 0},
    [KEY_PATH_STYLE] = {"pathStyle", {NULL}, K_BOOL, P_TOKENS, AT(path_style), 0, 0},
    [KEY_CONNECT_TO] = {"connectTo", {NULL}, K_STR, P_CLOUD | P_HTTP, AT(connect_to), 0, 0},
    [KEY_DOMAIN] = {"domain", {NULL}, K_TEXT, P_QINIU, AT(defaults), 0, 0},
    [KEY_DOMAIN_PRIVATE] = {"domainPrivate", {NULL}, K_OPTION, P_QINIU, AT(defaults), 0, 0},
    [KEY_PROXY_HOST] = {"proxyHost", {NULL}, K_STR, P_CLOUD | P_HTTP, AT(proxy_host), 0, 0},
    [KEY_PROXY_PORT] = {"proxyPort", {NULL}, K_UINT, P_CLOUD | P_HTTP, AT(proxy_port), 1, 65535},
    [KEY_STORAGE_CLASS] = {"storageClass", {NULL}, K_STR, P_CLASSES, AT(storage_class), 0, 0},
    [KEY_ENCRYPTION] = {"encryptionType", {NULL}, K_STR, P_TOKENS, AT(encryption), 0, 0},
    [KEY_SMALL_THRESHOLD] =
        {"smallFileThreshold", {NULL}, K_SIZE, P_ALL, AT(small_file_threshold), 1, 5 * GIB},
    [KEY_SMALL_SLOTS] = {"smallFileExecutorNum", {NULL}, K_UINT, P_ALL, AT(small_slots), 1, 1024},
    [KEY_BIG_SLOTS] = {"bigFileExecutorNum", {NULL}, K_UINT, P_ALL, AT(big_slots), 1, 64},
    [KEY_PART_SIZE] = {"bigFileUploadPartSize", {NULL}, K_SIZE, P_ALL, AT(part_size), MIB, 5 * GIB},
    [KEY_MD5] = {"entireFileMd5Attached", {NULL}, K_MD5, P_ALL, AT(file_md5), 0, 0},
    [KEY_TIMEOUT] =
        {"requestTimeoutMs", {NULL}, K_UINT, P_ALL, AT(request_timeout_ms), 1, 86400000},
    [KEY_TRIES] = {"requestTryCount", {NULL}, K_UINT, P_ALL, AT(request_try_count), 1, 1000},
    [KEY_SIGNATURE] =
        {"signatureVersion", {NULL}, K_STR, P_S3 | P_OSS | P_KS3 | P_MEMORY, AT(signature), 0, 0},
    [KEY_LIST_VERSION] = {"listVersion", {NULL}, K_UINT, P_S3 | P_MEMORY, AT(list_version), 1, 2},
    [KEY_CONDITIONAL] =
        {"conditionalWrites", {NULL}, K_OPTION, P_S3 | P_OSS | P_KS3 | P_BOS, AT(defaults), 0, 0},
    [KEY_UNSIGNED] = {"unsignedPayload", {NULL}, K_OPTION, P_S3 | P_KS3 | P_GCS, AT(defaults), 0, 0},
    [KEY_CNAME] = {"cname", {NULL}, K_OPTION, P_OSS | P_KS3, AT(defaults), 0, 0},
    [KEY_SERVICE_ACCOUNT] = {"serviceAccountFile", {NULL}, K_TEXT, P_GCS, AT(defaults), 0, 0},
    [KEY_AUDIENCE] = {"tokenAudience", {NULL}, K_TEXT, P_GCS, AT(defaults), 0, 0},
    [KEY_MAX_COPY] = {"copyPartThreshold", {NULL}, K_SIZE, P_ALL, AT(limits.max_copy), 1, 64 * TIB},
    [KEY_MAX_PUT] = {"putLimit", {NULL}, K_SIZE, P_ALL, AT(limits.max_put), 1, 64 * TIB},
    [KEY_MAX_PART] = {"maxPartSize", {NULL}, K_SIZE, P_ALL, AT(limits.max_part), 1, 64 * TIB},
    [KEY_PART_COPY] = {"partCopy", {NULL}, K_OPTION, P_AZURE, AT(defaults), 0, 0},
    [KEY_MIN_PART] = {"minPartSize", {NULL}, K_SIZE, P_ALL, AT(limits.min_part), 1, 64 * TIB},
};

static enum key find_key(const char *name)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        if (strcasecmp(name, keys[i].name) == 0) {
            return (enum key)i;
        }
        for (size_t a = 0; a < ARRAY_LEN(keys[i].alias) && keys[i].alias[a]; a++) {
            if (strcasecmp(name, keys[i].alias[a]) == 0) {
                return (enum key)i;
            }
        }
    }
    return N_KEYS;
}

bool conf_key_is_secret(const char *name)
{
    enum key key = find_key(name);
    return key != N_KEYS && keys[key].kind == K_SECRET;
}

const char *conf_shown_key(const char *name)
{
    return strlen(name) <= SHOWN_MAX ? name : NULL;
}

/* Insertions, deletions and replacements from a to b, without regard to case; capped for long ones.
 */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t n = strlen(b);
    if (n + 1 > ARRAY_LEN(row) || strlen(a) + 1 > ARRAY_LEN(row)) {
        return UINT32_MAX;
    }
    for (unsigned j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; a[i - 1] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            unsigned best = MIN(diagonal + (same ? 0U : 1U), MIN(row[j], row[j - 1]) + 1);
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

void conf_nearer(const char *name, const char *candidate, const char **best,
                 unsigned *best_distance)
{
    unsigned d = distance(name, candidate);
    if (d <= MAX(2U, (unsigned)strlen(candidate) / 3) && d < *best_distance) {
        *best = candidate;
        *best_distance = d;
    }
}

static const char *nearest_key(const char *name)
{
    const char *best = NULL;
    unsigned d = UINT32_MAX;
    for (size_t i = 0; i < N_KEYS; i++) {
        conf_nearer(name, keys[i].name, &best, &d);
        for (size_t a = 0; a < ARRAY_LEN(keys[i].alias) && keys[i].alias[a]; a++) {
            conf_nearer(name, keys[i].alias[a], &best, &d);
        }
    }
    return best;
}

const char *conf_section_fault(const char *name)
{
    if (name[0] == '\0') {
        return "a section needs a name; write [NAME]";
    }
    if (name[0] == '.') {
        return "a name must not start with '.'; rename the section";
    }
    if (strcasecmp(name, "all") == 0) {
        return "\"all\" means every remote; rename the section";
    }
    if (strcmp(name, "rclone") == 0) {
        return "\"rclone:\" means the remotes of rclone's configuration; rename the section";
    }
    for (const char *p = name; *p != '\0'; p++) {
        if (*p == '/' || *p == ':' || iscntrl((unsigned char)*p)) {
            return "a name must not contain '/', ':' or control characters; rename the section";
        }
    }
    return strlen(name) > 200 ? "the name is too long; use at most 200 bytes" : NULL;
}

void conf_raw_free(struct raw *raw)
{
    if (!raw) {
        return;
    }
    for (size_t i = 0; i < N_KEYS; i++) {
        conf_str_wipe(raw->vals[i].value);
    }
    free(raw->name);
    free(raw);
}

void conf_raw_set(struct loader *l, struct raw *raw, int line, const char *name, const char *value)
{
    enum key key = find_key(name);
    if (key == N_KEYS) {
        const char *near = nearest_key(name);
        if (near) {
            conf_fault(l, line, raw->name, name, "unknown key; did you mean %s?", near);
        } else {
            conf_fault(l, line, raw->name, conf_shown_key(name), "unknown key; remove the line");
        }
        return;
    }
    if (raw->vals[key].value) {
        conf_fault(l, line, raw->name, keys[key].name, "given twice, first at line %d; keep one",
                   raw->vals[key].line);
        return;
    }
    raw->vals[key].value = mem_strdup(value);
    raw->vals[key].line = line;
    if (keys[key].kind == K_SECRET && value[0] != '\0') {
        l->has_secret = true;
    }
}

/* ---- values ---- */

/* Decimal digits and nothing else. */
static int parse_number(const char **p, uint64_t *ret)
{
    uint64_t value = 0;
    const char *s = *p;
    if (*s < '0' || *s > '9') {
        return -EINVAL;
    }
    for (; *s >= '0' && *s <= '9'; s++) {
        if (MUL_OVERFLOWS(value, (uint64_t)10, &value) ||
            ADD_OVERFLOWS(value, (uint64_t)(*s - '0'), &value)) {
            return -EINVAL;
        }
    }
    *p = s;
    *ret = value;
    return 0;
}

int conf_parse_size(const char *s, uint64_t *ret_bytes)
{
    static const char units[] = "kmgtp";
    uint64_t value;
    if (parse_number(&s, &value) < 0) {
        return -EINVAL;
    }
    while (*s == ' ') {
        s++;
    }
    char c = (char)tolower((unsigned char)*s);
    const char *unit = c != '\0' ? strchr(units, c) : NULL;
    if (unit) {
        s++;
        /* As in coreutils: K and KiB are 1024, KB is 1000. */
        uint64_t base = 1024;
        if (strcasecmp(s, "ib") == 0) {
            s += 2;
        } else if (strcasecmp(s, "b") == 0) {
            s += 1;
            base = 1000;
        }
        for (const char *u = units; u <= unit; u++) {
            if (MUL_OVERFLOWS(value, base, &value)) {
                return -EINVAL;
            }
        }
    } else if (c == 'b') {
        s++;
    }
    if (*s != '\0') {
        return -EINVAL;
    }
    *ret_bytes = value;
    return 0;
}

int conf_parse_bool(const char *s, bool *ret)
{
    static const char *const words[][2] = {
        {"off", "on"}, {"false", "true"}, {"no", "yes"}, {"0", "1"}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        for (size_t j = 0; j < 2; j++) {
            if (strcasecmp(s, words[i][j]) == 0) {
                *ret = j == 1;
                return 0;
            }
        }
    }
    return -EINVAL;
}

void conf_remote_free(struct conf_remote *r)
{
    if (!r) {
        return;
    }
    free(r->name);
    for (size_t i = 0; i < N_KEYS; i++) {
        void *field = (char *)r + keys[i].offset;
        if (keys[i].kind == K_STR) {
            free(*(char **)field);
        } else if (keys[i].kind == K_SECRET) {
            secret_free(*(struct secret **)field);
        }
    }
    kv_fini(&r->defaults);
    free(r);
}

static struct conf_remote *remote_new(const char *name)
{
    struct conf_remote *r = mem_zalloc(sizeof(*r));
    r->name = mem_strdup(name);
    for (size_t i = 0; i < N_KEYS; i++) {
        if (keys[i].kind == K_STR) {
            *(char **)(void *)((char *)r + keys[i].offset) = mem_strdup("");
        }
    }
    r->https = true;
    r->small_file_threshold = 5 * MIB;
    r->part_size = 8 * MIB;
    r->small_slots = 64;
    r->big_slots = 8;
    r->file_md5 = CONF_MD5_ON;
    r->request_timeout_ms = 300000;
    r->request_try_count = 5;
    free(r->signature);
    r->signature = mem_strdup("v4");
    r->list_version = 2;
    return r;
}

static void set_str(char **field, const char *value)
{
    char *copy = mem_strdup(value);
    free(*field);
    *field = copy;
}

/* Where a key's fault belongs: its line, or the section's. */
static int line_of(const struct raw *raw, enum key key)
{
    return raw->vals[key].value ? raw->vals[key].line : raw->line;
}

static const char *value_of(const struct raw *raw, enum key key)
{
    return raw->vals[key].value ? raw->vals[key].value : "";
}

#define FAULT(key, ...) conf_fault(l, line_of(raw, key), raw->name, keys[key].name, __VA_ARGS__)

static void set_number(struct loader *l, const struct raw *raw, enum key key, void *field)
{
    const struct keydef *def = &keys[key];
    const char *value = raw->vals[key].value;
    uint64_t number;
    const char *rest = value;
    int err = def->kind == K_SIZE ? conf_parse_size(value, &number) : parse_number(&rest, &number);
    if (def->kind == K_UINT && err == 0 && *rest != '\0') {
        err = -EINVAL;
    }
    if (err < 0 || number < def->min || number > def->max) {
        FAULT(key, "\"%.60s\" is not %s from %llu to %llu; correct it", value,
              def->kind == K_SIZE ? "a size" : "a number", (unsigned long long)def->min,
              (unsigned long long)def->max);
        return;
    }
    if (def->kind == K_SIZE) {
        *(uint64_t *)field = number;
    } else {
        *(unsigned *)field = (unsigned)number; /* bounded above; the int fields hold it too */
    }
}

/* Gives the typed field its value; an empty value is as good as none. */
static void set_field(struct loader *l, const struct raw *raw, enum key key, struct conf_remote *r)
{
    void *field = (char *)r + keys[key].offset;
    const char *value = value_of(raw, key);
    if (value[0] == '\0') {
        return;
    }
    switch (keys[key].kind) {
    case K_STR:
        set_str(field, value);
        break;
    case K_SECRET:
        *(struct secret **)field = secret_new(value);
        break;
    case K_BOOL:
        if (conf_parse_bool(value, field) < 0) {
            FAULT(key, "\"%.60s\" is neither on nor off; write one of them", value);
        }
        break;
    case K_OPTION: {
        bool on;
        if (conf_parse_bool(value, &on) < 0) {
            FAULT(key, "\"%.60s\" is neither on nor off; write one of them", value);
        } else {
            kv_set(field, keys[key].name, on ? "on" : "off");
        }
        break;
    }
    case K_TEXT:
        kv_set(field, keys[key].name, value);
        break;
    case K_SIZE:
    case K_UINT:
        set_number(l, raw, key, field);
        break;
    case K_MD5: {
        bool on = false;
        if (strcasecmp(value, "strict") == 0) {
            r->file_md5 = CONF_MD5_STRICT;
        } else if (conf_parse_bool(value, &on) == 0) {
            r->file_md5 = on ? CONF_MD5_ON : CONF_MD5_OFF;
        } else {
            FAULT(key, "\"%.60s\" is not on, off or strict; write one of them", value);
        }
        break;
    }
    }
}

/* host[:port] with an IPv6 host in brackets. */
static bool is_host(const char *s, size_t n, bool *ret_port)
{
    const char *port = NULL;
    size_t host = n;
    if (n > 0 && s[0] == '[') {
        const char *close = memchr(s, ']', n);
        if (!close) {
            return false;
        }
        host = (size_t)(close - s) + 1;
        if (strspn(s + 1, "0123456789abcdefABCDEF:.") != host - 2) {
            return false;
        }
        if (host < n) {
            port = s[host] == ':' ? s + host + 1 : s + n;
        }
    } else {
        const char *colon = memchr(s, ':', n);
        if (colon) {
            host = (size_t)(colon - s);
            port = colon + 1;
        }
        for (size_t i = 0; i < host; i++) {
            if (!isalnum((unsigned char)s[i]) && !strchr("-._", s[i])) {
                return false;
            }
        }
    }
    *ret_port = port != NULL;
    if (host == 0) {
        return false;
    }
    if (port) {
        size_t digits = (size_t)(s + n - port);
        unsigned value = 0;
        for (size_t i = 0; i < digits && digits <= 5; i++) {
            if (port[i] < '0' || port[i] > '9') {
                return false;
            }
            value = value * 10 + (unsigned)(port[i] - '0');
        }
        return digits > 0 && digits <= 5 && value > 0 && value <= 65535;
    }
    return true;
}

/* Neither blanks nor control characters: it goes into headers and request lines. */
static bool is_token(const char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s <= ' ' || *s == 0x7f) {
            return false;
        }
    }
    return true;
}

static void check_endpoint(struct loader *l, const struct raw *raw, struct conf_remote *r)
{
    if (r->endpoint[0] == '\0') {
        return;
    }
    const char *https = value_of(raw, KEY_HTTPS);
    bool https_given = https[0] != '\0', on;
    if (https_given && conf_parse_bool(https, &on) < 0) {
        return; /* told already; what it means with the endpoint cannot be said */
    }
    const char *host = r->endpoint;
    if (strncasecmp(host, "http://", 7) == 0) {
        host += 7;
        if (r->https) {
            FAULT(KEY_ENDPOINT,
                  "http sends everything in the clear; use https, or add https = off");
        }
    } else if (strncasecmp(host, "https://", 8) == 0) {
        host += 8;
        if (https_given && !r->https) {
            FAULT(KEY_ENDPOINT, "https contradicts https = off; remove one of them");
        }
    }
    size_t len = strlen(r->endpoint);
    while (len > 0 && r->endpoint[len - 1] == '/' && r->endpoint + len > host) {
        r->endpoint[--len] = '\0';
    }
    size_t n = strcspn(host, "/");
    bool port;
    if (!is_host(host, n, &port) || strpbrk(host, "?#@") || !is_token(host)) {
        /* Not shown: user:password@host is one way to get here. */
        FAULT(KEY_ENDPOINT, "neither a host nor a URL; write host, host:port or https://host");
    }
}

/* Where a store reads through another host than it writes to. */
static void check_domain(struct loader *l, const struct raw *raw, const struct conf_remote *r)
{
    const char *domain = value_of(raw, KEY_DOMAIN), *host = domain;
    bool port;
    host += strncasecmp(host, "http://", 7) == 0    ? 7
            : strncasecmp(host, "https://", 8) == 0 ? 8
                                                    : 0;
    if (domain[0] == '\0' && r->endpoint[0] == '\0') {
        FAULT(KEY_DOMAIN, "missing; add domain = HOST, one that is bound to the bucket: reads go there");
    } else if (domain[0] != '\0' && !is_host(host, strlen(host), &port)) {
        FAULT(KEY_DOMAIN, "neither a host nor http://host; correct it");
    }
}

static void check_prefix(struct loader *l, const struct raw *raw, struct conf_remote *r)
{
    size_t len = strlen(r->prefix);
    if (len == 0) {
        return;
    }
    if (r->prefix[0] == '/') {
        FAULT(KEY_PREFIX, "keys do not start with '/'; write it without the first one");
    }
    if (r->prefix[len - 1] != '/') {
        char *with = mem_printf("%s/", r->prefix);
        free(r->prefix);
        r->prefix = with;
    }
}

static bool only(const char *s, const char *more)
{
    for (; *s != '\0'; s++) {
        if (!isalnum((unsigned char)*s) && !strchr(more, *s)) {
            return false;
        }
    }
    return true;
}

static void check_bucket(struct loader *l, const struct raw *raw, const struct provider *p,
                         struct conf_remote *r)
{
    if (r->bucket[0] == '\0') {
        FAULT(KEY_BUCKET, "missing; add bucket = NAME");
        return;
    }
    if (!only(r->bucket, "-._")) {
        FAULT(KEY_BUCKET, "\"%.80s\" is no bucket name; letters, digits, '-', '.' and '_' only",
              r->bucket);
        return;
    }
    if (p->bit == P_COS) {
        const char *dash = strrchr(r->bucket, '-');
        size_t digits = dash ? strspn(dash + 1, "0123456789") : 0;
        if (!dash || dash == r->bucket || digits == 0 || dash[1 + digits] != '\0') {
            FAULT(KEY_BUCKET,
                  "\"%.80s\" lacks the APPID; write NAME-APPID, as in photos-1250000000",
                  r->bucket);
        }
    }
}

/* ---- credentials ---- */

/* A newline after a key in the environment is the usual way to get this. The values stay unsaid. */
static void check_credentials(struct loader *l, const struct raw *raw, const struct conf_remote *r)
{
    static const char mend[] = "holds blanks or control characters; copy it again";
    if (!is_token(r->access_key_id)) {
        FAULT(KEY_ID, "%s", mend);
    }
    if (r->access_key_secret && !is_token(r->access_key_secret->bytes)) {
        FAULT(KEY_SECRET, "%s", mend);
    }
    if (r->security_token && !is_token(r->security_token->bytes)) {
        FAULT(KEY_TOKEN, "%s", mend);
    }
}

/* Where a token is as good as a secret: true when nothing is left to look for. */
static bool find_token_alone(struct loader *l, const struct raw *raw, const struct provider *p,
                             struct conf_remote *r)
{
    bool has_id = r->access_key_id[0] != '\0';
    const char *fault = NULL;
    if (!has_id && !r->access_key_secret && !r->security_token) {
        const char *id = conf_env_of(p->env[0]), *secret = conf_env_of(p->env[1]);
        const char *token = secret ? NULL : conf_env_of(p->env[2]);
        if (id && (secret || token)) {
            set_str(&r->access_key_id, id);
            r->access_key_secret = secret ? secret_new(secret) : NULL;
            r->security_token = token ? secret_new(token) : NULL;
        } else if (!conf_azure_connection(r, &fault)) {
            FAULT(KEY_ID,
                  "missing; add accessKeyId (the account) and accessKeySecret or sasToken, or set %s "
                  "and %s, or AZURE_STORAGE_CONNECTION_STRING",
                  p->env[0][0], p->env[1][0]);
            return true;
        }
    }
    check_credentials(l, raw, r);
    if (fault) {
        FAULT(KEY_ID, "%s", fault);
    } else if (r->access_key_id[0] == '\0') {
        FAULT(KEY_ID, "missing; name the storage account");
    } else if (r->access_key_secret && r->security_token) {
        FAULT(KEY_TOKEN, "given beside accessKeySecret; keep one of them");
    } else if (!r->access_key_secret && !r->security_token) {
        FAULT(KEY_SECRET, "missing beside accessKeyId; add it, or sasToken");
    }
    return true;
}

/* False when there is none. */
static bool google_credentials(struct loader *l, const struct raw *raw, const char *path,
                               struct conf_remote *r)
{
    if (!path || path[0] == '\0') {
        return false;
    }
    CLEANUP(mem_freep) char *email = NULL;
    const char *fault = conf_service_account(path, &email, &r->access_key_secret);
    if (fault) {
        FAULT(KEY_SERVICE_ACCOUNT, "\"%.200s\" %s", path, fault);
    } else {
        set_str(&r->access_key_id, email);
    }
    return true;
}

/* A whole key file in the place of a secret, on one line; whose it is, is in it. */
static void google_inline(struct loader *l, const struct raw *raw, struct conf_remote *r)
{
    CLEANUP(mem_freep) char *email = NULL;
    const char *fault = conf_service_account_text(
        r->access_key_secret->bytes, r->access_key_secret->len, &email);
    if (fault) {
        FAULT(KEY_SECRET, "%s", fault);
    } else if (r->access_key_id[0] != '\0' && strcmp(r->access_key_id, email) != 0) {
        FAULT(KEY_ID, "is not that of the service account in accessKeySecret; remove it");
    } else {
        set_str(&r->access_key_id, email);
    }
    if (value_of(raw, KEY_SERVICE_ACCOUNT)[0] != '\0') {
        FAULT(KEY_SERVICE_ACCOUNT, "given beside accessKeySecret; remove one of them");
    }
}

/* Id, secret and token come from one place, never mixed. */
static void check_pair(struct loader *l, const struct raw *raw, const struct conf_remote *r)
{
    check_credentials(l, raw, r);
    if (r->access_key_id[0] == '\0') {
        FAULT(KEY_ID, "missing beside accessKeySecret; add it");
    }
    if (!r->access_key_secret) {
        FAULT(KEY_SECRET, "missing beside accessKeyId; add it");
    }
}

/* A user and a password of the servers are not needed. */
static void check_urllist(struct loader *l, const struct raw *raw, const struct conf_remote *r)
{
    if (r->urllist[0] != '/') {
        FAULT(KEY_URLLIST, "%s; write urllistPath = /FILE or /DIRECTORY",
              r->urllist[0] != '\0' ? "not absolute" : "missing");
    }
    if (strchr(r->access_key_id, ':')) {
        FAULT(KEY_ID, "a user's name has no ':'; write what follows it as accessKeySecret");
    }
    if (r->access_key_id[0] != '\0' || r->access_key_secret) {
        check_pair(l, raw, r);
    }
}

static void find_credentials(struct loader *l, const struct raw *raw, const struct provider *p,
                             struct conf_remote *r)
{
    bool has_id = r->access_key_id[0] != '\0', has_secret = r->access_key_secret != NULL;
    if (p->token_alone && find_token_alone(l, raw, p, r)) {
        return;
    }
    if (p->bit == P_GCS && has_secret && r->access_key_secret->bytes[0] == '{') {
        google_inline(l, raw, r);
        return;
    }
    if (has_id || has_secret) {
        check_pair(l, raw, r);
        if (p->bit == P_GCS && value_of(raw, KEY_SERVICE_ACCOUNT)[0] != '\0') {
            FAULT(KEY_SERVICE_ACCOUNT, "given beside accessKeyId; remove one of them");
        }
        return;
    }
    if (r->security_token) {
        FAULT(KEY_TOKEN, "given without accessKeyId and accessKeySecret; add them or remove it");
        return;
    }
    if (p->bit == P_GCS && google_credentials(l, raw, value_of(raw, KEY_SERVICE_ACCOUNT), r)) {
        return;
    }
    const char *id = conf_env_of(p->env[0]), *secret = conf_env_of(p->env[1]), *token = conf_env_of(p->env[2]);
    if (id && secret) {
        set_str(&r->access_key_id, id);
        r->access_key_secret = secret_new(secret);
        r->security_token = token ? secret_new(token) : NULL;
    } else if (p->bit == P_GCS &&
               google_credentials(l, raw, getenv("GOOGLE_APPLICATION_CREDENTIALS"), r)) {
        return;
    } else {
        conf_key_file_read(p, r);
    }
    check_credentials(l, raw, r);
    if (!r->access_key_secret) {
        const char *file = conf_key_file(p);
        FAULT(KEY_ID, "missing; add accessKeyId and accessKeySecret, or set %s and %s%s%s",
              p->env[0][0], p->env[1][0],
              p->bit == P_GCS ? ", or name a serviceAccountFile"
              : file          ? ", or fill ~/"
                              : "",
              file ? file : "");
    }
}

/* ---- remotes ---- */

static const struct provider *find_provider(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(conf_providers); i++) {
        if (strcasecmp(name, conf_providers[i].name) == 0) {
            return &conf_providers[i];
        }
    }
    return NULL;
}

/* memory is for tests: works, but is not offered. */
#define KNOWN_PROVIDERS "local, s3, cos, oss, ks3, azure, gcs, bos, upyun, qiniu, http"

static void check_signature(struct loader *l, const struct raw *raw, const struct provider *p,
                            struct conf_remote *r)
{
    const char *value = value_of(raw, KEY_SIGNATURE);
    if (!p->signatures[0]) {
        return; /* told already if it is given */
    }
    if (value[0] == '\0' || strcasecmp(value, p->signatures[0]) == 0) {
        set_str(&r->signature, p->signatures[0]);
    } else if (strcasecmp(value, p->signatures[1]) == 0) {
        set_str(&r->signature, p->signatures[1]);
    } else {
        FAULT(KEY_SIGNATURE, "\"%.60s\" is neither %s nor %s; write one of them", value,
              p->signatures[0], p->signatures[1]);
    }
}

static void check_remote(struct loader *l, const struct raw *raw, const struct provider *p,
                         struct conf_remote *r)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        if (raw->vals[i].value && raw->vals[i].value[0] != '\0' && !(keys[i].providers & p->bit)) {
            FAULT((enum key)i, "means nothing with provider = %s; remove it", p->name);
        }
    }
    set_str(&r->provider, p->name);
    check_signature(l, raw, p, r);
    check_prefix(l, raw, r);
    check_endpoint(l, raw, r);
    if (p->bit == P_LOCAL && r->path[0] != '/') {
        FAULT(KEY_PATH, "%s; write path = /DIRECTORY",
              r->path[0] != '\0' ? "not absolute" : "missing");
    }
    if (p->bit == P_HTTP) {
        check_urllist(l, raw, r);
    }
    if (p->cloud) {
        check_bucket(l, raw, p, r);
        if (r->region[0] == '\0' && r->endpoint[0] == '\0' && !p->placed) {
            conf_region_find(p, r);
        }
        if (r->region[0] == '\0' && r->endpoint[0] == '\0' && !p->placed) {
            FAULT(KEY_REGION, "missing; add region = %s or its like, or endPoint",
                  p->region ? p->region : "us-east-1");
        } else if (!only(r->region, "-_.")) {
            FAULT(KEY_REGION, "\"%.80s\" is no region; letters, digits and '-' only", r->region);
        }
        find_credentials(l, raw, p, r);
    }
    bool port = false;
    if (p->bit == P_QINIU) {
        check_domain(l, raw, r);
    }
    if (r->connect_to[0] != '\0' &&
        (!is_host(r->connect_to, strlen(r->connect_to), &port) || !port)) {
        FAULT(KEY_CONNECT_TO, "\"%.80s\" is not host:port; correct it", r->connect_to);
    }
    if (r->proxy_host[0] != '\0' &&
        (!is_host(r->proxy_host, strlen(r->proxy_host), &port) || port)) {
        FAULT(KEY_PROXY_HOST, "not a host name; write the host here and the port in proxyPort");
    }
    if ((r->proxy_host[0] != '\0') != (value_of(raw, KEY_PROXY_PORT)[0] != '\0')) {
        FAULT(r->proxy_port ? KEY_PROXY_HOST : KEY_PROXY_PORT,
              "proxyHost and proxyPort belong together; add the missing one or remove the other");
    }
    if (r->limits.min_part > 0 && r->limits.max_part > 0 &&
        r->limits.min_part > r->limits.max_part) {
        FAULT(KEY_MIN_PART, "above maxPartSize; lower it");
    }
}

struct conf_remote *conf_remote_make(struct loader *l, const struct raw *raw)
{
    struct conf_remote *r = remote_new(raw->name);
    for (size_t i = 0; i < N_KEYS; i++) {
        set_field(l, raw, (enum key)i, r);
    }
    const struct provider *p = find_provider(r->provider);
    if (p) {
        check_remote(l, raw, p, r);
    } else if (r->provider[0] == '\0') {
        FAULT(KEY_PROVIDER, "missing; add provider = one of " KNOWN_PROVIDERS);
    } else {
        FAULT(KEY_PROVIDER, "\"%.40s\" is unknown; write one of " KNOWN_PROVIDERS, r->provider);
    }
    return r;
}

static bool same_secret(const struct secret *a, const struct secret *b)
{
    return a && b ? a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0 : a == b;
}

bool conf_remote_same(const struct conf_remote *a, const struct conf_remote *b)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        const void *x = (const char *)a + keys[i].offset, *y = (const char *)b + keys[i].offset;
        bool same = true;
        switch (keys[i].kind) {
        case K_STR:
            same = strcmp(*(char *const *)x, *(char *const *)y) == 0;
            break;
        case K_SECRET:
            same = same_secret(*(struct secret *const *)x, *(struct secret *const *)y);
            break;
        case K_OPTION:
        case K_TEXT:
            same = kv_equal(x, y);
            break;
        case K_BOOL:
            same = *(const bool *)x == *(const bool *)y;
            break;
        case K_SIZE:
            same = *(const uint64_t *)x == *(const uint64_t *)y;
            break;
        case K_UINT:
            same = *(const unsigned *)x == *(const unsigned *)y;
            break;
        case K_MD5:
            same = a->file_md5 == b->file_md5;
            break;
        }
        if (!same) {
            return false;
        }
    }
    return true;
}
