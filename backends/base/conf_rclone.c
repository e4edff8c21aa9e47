/* One remote of an rclone.conf, as a section of our own configuration.
 *
 * rclone's options are of four kinds: those that mean the same as one of our keys (the functions
 * import_…); those that only tune rclone (idle); those whose absence is a difference one should
 * hear of, a note; and those without which something else would be read or written than rclone
 * does, which are refused. What we have never heard of is a note.
 *
 * Names of options are shown, their values are not: a token may be in any of them. */
#include "conf_rclone.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf_internal.h"
#include "mem.h"

#define ALIASES_MAX 8

struct option {
    char *name, *value;
    int line;
};

struct section {
    char *name;
    int line;
    struct option *options;
    size_t n;
};

struct import {
    struct loader *l, *notes;
    const struct rclone_file *file;
    struct section *sections;
    size_t n_sections;
    const struct section *s; /* the remote that is imported */
    struct raw *raw;
    char *prefix; /* below the bucket */
};

/* ---- the file ---- */

static void add_section(struct lines *s)
{
    struct import *m = s->owner;
    for (size_t i = 0; i < m->n_sections; i++) {
        if (strcmp(m->sections[i].name, s->section) == 0) {
            return; /* as for rclone, the two are one */
        }
    }
    m->sections = mem_realloc(m->sections, (m->n_sections + 1) * sizeof(*m->sections));
    m->sections[m->n_sections++] =
        (struct section){.name = mem_strdup(s->section), .line = s->line};
}

static void add_option(struct lines *s, const char *name, const char *value)
{
    struct import *m = s->owner;
    struct section *to = NULL;
    for (size_t i = 0; s->section && i < m->n_sections; i++) {
        to = strcmp(m->sections[i].name, s->section) == 0 ? &m->sections[i] : to;
    }
    for (size_t i = 0; to && i < to->n; i++) {
        if (strcmp(to->options[i].name, name) == 0) { /* the last one counts */
            conf_str_wipe(to->options[i].value);
            to->options[i].value = mem_strdup(value);
            to->options[i].line = s->line;
            return;
        }
    }
    if (to) {
        to->options = mem_realloc(to->options, (to->n + 1) * sizeof(*to->options));
        to->options[to->n++] =
            (struct option){.name = mem_strdup(name), .value = mem_strdup(value), .line = s->line};
    }
}

static void add_fault(struct lines *s, const char *what)
{
    struct import *m = s->owner;
    conf_fault(m->l, s->line, s->section, NULL, "%s", what);
}

static void import_fini(struct import *m)
{
    for (size_t i = 0; i < m->n_sections; i++) {
        for (size_t k = 0; k < m->sections[i].n; k++) {
            free(m->sections[i].options[k].name);
            conf_str_wipe(m->sections[i].options[k].value);
        }
        free(m->sections[i].options);
        free(m->sections[i].name);
    }
    free(m->sections);
    conf_raw_free(m->raw);
    free(m->prefix);
}

/* The first line that says something tells; what follows is base64. */
static bool is_encrypted(const struct rclone_file *file)
{
    static const char mark[] = "RCLONE_ENCRYPT_V";
    const char *p = file->text, *end = p + file->n;
    while (p < end) {
        if (isspace((unsigned char)*p)) {
            p++;
        } else if (*p == '#' || *p == ';') {
            const char *nl = memchr(p, '\n', (size_t)(end - p));
            p = nl ? nl + 1 : end;
        } else {
            return (size_t)(end - p) >= strlen(mark) && memcmp(p, mark, strlen(mark)) == 0;
        }
    }
    return false;
}

/* ---- what a section says ---- */

static const struct option *find(const struct import *m, const char *name)
{
    for (size_t i = 0; i < m->s->n; i++) {
        if (strcmp(m->s->options[i].name, name) == 0) {
            return &m->s->options[i];
        }
    }
    return NULL;
}

static const char *get(const struct import *m, const char *name)
{
    const struct option *o = find(m, name);
    return o ? o->value : "";
}

static int line_of(const struct import *m, const char *name)
{
    const struct option *o = name ? find(m, name) : NULL;
    return o ? o->line : m->s->line;
}

#define FAULT(option, ...) conf_fault(m->l, line_of(m, option), m->s->name, option, __VA_ARGS__)

/* Go's words for true and false. */
static bool is_on(struct import *m, const char *name, bool unset)
{
    const char *value = get(m, name);
    bool on = unset;
    if (strcasecmp(value, "t") == 0 || strcasecmp(value, "f") == 0) {
        return tolower((unsigned char)value[0]) == 't';
    }
    if (value[0] != '\0' && conf_parse_bool(value, &on) < 0) {
        FAULT(name, "neither true nor false; write one of them");
    }
    return on;
}

/* A key of ours from an option, whose line it keeps. "" is as good as none. */
static void put(struct import *m, const char *key, const char *value, const char *option)
{
    if (value[0] != '\0') {
        conf_raw_set(m->l, m->raw, line_of(m, option), key, value);
    }
}

static void take(struct import *m, const char *key, const char *option)
{
    put(m, key, get(m, option), option);
}

/* An endpoint without a scheme means https, for rclone as for us; and one with http was meant. */
static void put_endpoint(struct import *m, const char *value, const char *option)
{
    put(m, "endPoint", value, option);
    if (strncasecmp(value, "http://", 7) == 0) {
        put(m, "https", "off", option);
    }
}

/* "bucket/a/b" is a bucket and the prefix "a/b/". False, with a fault, when there is no bucket. */
static bool split_place(struct import *m, const char *place)
{
    place += strspn(place, "/");
    size_t n = strcspn(place, "/"), len = strlen(place);
    if (n == 0) {
        conf_fault(m->l, m->s->line, m->s->name, NULL, "which bucket? write rclone:%.80s:BUCKET",
                   m->s->name);
        return false;
    }
    CLEANUP(mem_freep) char *bucket = mem_strndup(place, n);
    m->raw->name = mem_printf("%s@%s", bucket, m->s->name);
    put(m, "bucket", bucket, NULL);
    const char *below = place + n + strspn(place + n, "/");
    m->prefix = mem_printf("%s%s", below, below[0] != '\0' && place[len - 1] != '/' ? "/" : "");
    return true;
}

/* ---- S3 ---- */

/* How rclone speaks to whom (its table of providers): those who are not here, and what it calls
 * Other, by path and with the first version of lists. */
static const struct s3_service {
    const char *provider;
    bool by_path, list_v1;
} s3_services[] = {
    {"AWS", false, false},
    {"Cloudflare", true, false},
    {"Cubbit", false, false},
    {"DigitalOcean", false, false},
    {"Dreamhost", false, false},
    {"GCS", false, false},
    {"Hetzner", false, false},
    {"HuaweiOBS", false, true},
    {"IDrive", true, false},
    {"IONOS", true, false},
    {"ImpossibleCloud", false, false},
    {"Intercolo", false, false},
    {"Leviia", false, false},
    {"Linode", false, false},
    {"LyveCloud", false, false},
    {"Minio", true, false},
    {"Netease", false, true},
    {"OVHcloud", false, false},
    {"Petabox", false, false},
    {"Qiniu", true, false},
    {"Rabata", false, false},
    {"RackCorp", false, false},
    {"Rclone", true, false},
    {"Scaleway", false, false},
    {"Selectel", false, false},
    {"Servercore", false, false},
    {"Storj", false, false},
    {"Synology", false, false},
    {"Wasabi", false, false},
    {"Zata", false, false},
    {"us3", false, false},
};

static struct s3_service service_of(const char *provider)
{
    for (size_t i = 0; i < ARRAY_LEN(s3_services); i++) {
        if (strcasecmp(provider, s3_services[i].provider) == 0) {
            return s3_services[i];
        }
    }
    return (struct s3_service){provider, true, true};
}

static void import_s3_keys(struct import *m)
{
    bool env = is_on(m, "env_auth", false);
    if (get(m, "access_key_id")[0] == '\0' && get(m, "secret_access_key")[0] == '\0') {
        if (!env) {
            FAULT("access_key_id",
                  "missing, and env_auth is off, which is to ask as nobody; add keys, or "
                  "env_auth = true");
        }
        return; /* found where they are for a section without keys */
    }
    take(m, "accessKeyId", "access_key_id");
    take(m, "accessKeySecret", "secret_access_key");
    take(m, "securityToken", "session_token");
}

static void import_s3_encryption(struct import *m)
{
    const char *kind = get(m, "server_side_encryption"), *id = get(m, "sse_kms_key_id");
    if (id[0] == '\0') {
        put(m, "encryptionType", kind, "server_side_encryption");
    } else if (strcasecmp(kind, "aws:kms") == 0) {
        CLEANUP(mem_freep) char *both = mem_printf("aws:kms:%s", id);
        put(m, "encryptionType", both, "sse_kms_key_id");
    } else {
        FAULT("sse_kms_key_id",
              "given without server_side_encryption = aws:kms; add that or remove it");
    }
}

/* The region in "cos.REGION.myqcloud.com"; NULL when the endpoint is another: that is kept as it
 * is. */
static char *region_in(const char *endpoint, const char *before, const char *behind)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    const char *host = strncasecmp(endpoint, "https://", 8) == 0 ? endpoint + 8 : endpoint;
    size_t skip = strlen(before);
    if (strncmp(host, before, skip) != 0) {
        return NULL;
    }
    size_t n = strspn(host + skip, letters);
    const char *rest = host + skip + n;
    size_t tail = strlen(behind);
    bool whole =
        strncmp(rest, behind, tail) == 0 && (rest[tail] == '\0' || strcmp(rest + tail, "/") == 0);
    bool internal = n > 9 && memcmp(rest - 9, "-internal", 9) == 0;
    if (!whole || n == 0 || internal || strncmp(host + skip, "accelerate", 10) == 0) {
        return NULL;
    }
    return mem_strndup(host + skip, n);
}

/* Tencent's and Alibaba's by their own protocols, which keep more than S3's. */
static void import_own(struct import *m, const char *provider, const char *before,
                       const char *behind)
{
    const char *endpoint = get(m, "endpoint");
    CLEANUP(mem_freep) char *region = region_in(endpoint, before, behind);
    put(m, "provider", provider, "provider");
    if (region) {
        put(m, "region", region, "endpoint");
    } else {
        put_endpoint(m, endpoint, "endpoint");
        take(m, "region", "region");
    }
    if (endpoint[0] == '\0' && get(m, "region")[0] == '\0') {
        FAULT("endpoint", "missing; write endpoint = %s%s%s", before,
              strcmp(provider, "cos") == 0 ? "ap-guangzhou" : "cn-hangzhou", behind);
    }
}

/* Names of OSS's classes in its S3 protocol. */
static const char *oss_class(const char *s3_name)
{
    return strcasecmp(s3_name, "STANDARD_IA") == 0 ? "IA"
           : strcasecmp(s3_name, "GLACIER") == 0   ? "Archive"
                                                   : s3_name;
}

static void import_s3_site(struct import *m, const char *provider)
{
    struct s3_service service = service_of(provider);
    const char *endpoint = get(m, "endpoint"), *region = get(m, "region");
    const char *version = get(m, "list_version");
    bool aws = strcasecmp(provider, "AWS") == 0 || provider[0] == '\0';
    bool v2 = strcmp(region, "other-v2-signature") == 0;
    put(m, "provider", "s3", "provider");
    put_endpoint(m, endpoint, "endpoint");
    if (endpoint[0] == '\0' && !aws) {
        FAULT("endpoint", "missing; add that of the service");
    }
    put(m, "region",
        v2                                                ? ""
        : aws && endpoint[0] == '\0' && region[0] == '\0' ? "us-east-1"
                                                          : region,
        "region");
    if (is_on(m, "v2_auth", false) || v2) {
        put(m, "signatureVersion", "v2", v2 ? "region" : "v2_auth");
    }
    if (service.by_path && endpoint[0] != '\0' && is_on(m, "force_path_style", true)) {
        put(m, "pathStyle", "on", "force_path_style");
    }
    if (version[0] == '\0' || strcmp(version, "0") == 0) {
        version = service.list_v1 && endpoint[0] != '\0' ? "1" : "";
    }
    put(m, "listVersion", version, "list_version");
}

static void import_s3(struct import *m, const char *place)
{
    const char *provider = get(m, "provider"), *class = get(m, "storage_class");
    if (!split_place(m, place)) {
        return;
    }
    if (strcasecmp(provider, "TencentCOS") == 0) {
        import_own(m, "cos", "cos.", ".myqcloud.com");
    } else if (strcasecmp(provider, "Alibaba") == 0) {
        import_own(m, "oss", "oss-", ".aliyuncs.com");
        class = oss_class(class);
    } else {
        import_s3_site(m, provider);
    }
    import_s3_keys(m);
    import_s3_encryption(m);
    put(m, "storageClass", class, "storage_class");
}

static const char *const s3_taken[] = {"provider",         "env_auth",
                                       "access_key_id",    "secret_access_key",
                                       "session_token",    "region",
                                       "endpoint",         "v2_auth",
                                       "force_path_style", "list_version",
                                       "storage_class",    "server_side_encryption",
                                       "sse_kms_key_id",   NULL};

/* ---- Azure ---- */

/* Of Microsoft's emulator, and published by them. */
#define EMULATOR_ACCOUNT "devstoreaccount1"
#define EMULATOR_KEY                                                                               \
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

/* An address, or a name of this network: there the account is the first part of the path. */
static bool account_in_path(const char *host, size_t n)
{
    size_t name = strcspn(host, ":/?");
    return host[0] == '[' || memchr(host, '.', MIN(n, name)) == NULL ||
           strspn(host, "0123456789.") >= MIN(n, name);
}

/* https://ACCOUNT.blob.core.windows.net/CONTAINER?SAS: of a container, or without it of the
 * account. */
static void import_sas_url(struct import *m)
{
    static const char public[] = ".blob.core.windows.net";
    const char *url = get(m, "sas_url"), *query = strchr(url, '?'), *host = strstr(url, "://");
    if (!host || !query || host > query) {
        FAULT("sas_url",
              "is no URL with a SAS (https://ACCOUNT.blob…/CONTAINER?sv=…&sig=…); copy it again");
        return;
    }
    host += 3;
    size_t n = strcspn(host, "/?");
    bool in_path = account_in_path(host, n);
    const char *path = host + n + (host[n] == '/');
    const char *account_at = in_path ? path : host;
    CLEANUP(mem_freep)
    char *account = mem_strndup(account_at, strcspn(account_at, in_path ? "/?" : ".:/?"));
    if (in_path) {
        path += strlen(account);
        path += *path == '/';
    }
    CLEANUP(mem_freep) char *container = mem_strndup(path, strcspn(path, "/?"));
    if (container[0] != '\0' && strcmp(container, m->raw->vals[KEY_BUCKET].value) != 0) {
        FAULT("sas_url", "is of another container; name that one, or take a SAS of the account");
    }
    put(m, "accessKeyId", account, "sas_url");
    put(m, "securityToken", query + 1, "sas_url");
    bool usual = !in_path && strncasecmp(url, "https://", 8) == 0 &&
                 n == strlen(account) + strlen(public) &&
                 strncasecmp(host + strlen(account), public, strlen(public)) == 0;
    if (!usual) {
        CLEANUP(mem_freep) char *site = mem_strndup(url, (size_t)(host + n - url));
        CLEANUP(mem_freep)
        char *with = mem_printf("%s%s%s", site, in_path ? "/" : "", in_path ? account : "");
        put_endpoint(m, with, "sas_url");
    }
}

static void import_connection_string(struct import *m)
{
    CLEANUP(conf_azure_parts_fini) struct azure_parts p;
    conf_azure_parts(get(m, "connection_string"), &p);
    put(m, "accessKeyId", p.account ? p.account : "", "connection_string");
    if (p.key) {
        put(m, "accessKeySecret", p.key, "connection_string");
    } else if (p.sas) {
        put(m, "securityToken", p.sas, "connection_string");
    }
    put_endpoint(m, p.endpoint ? p.endpoint : "", "connection_string");
    if (!p.account || (!p.key && !p.sas)) {
        FAULT("connection_string", "lacks the account, or its key and SAS; copy it again");
    }
}

/* Older versions put the account before an endpoint without a scheme. */
static void import_azure_endpoint(struct import *m, const char *account)
{
    const char *endpoint = get(m, "endpoint");
    size_t n = strlen(account);
    bool before = endpoint[0] != '\0' && !strstr(endpoint, "://") &&
                  !(strncasecmp(endpoint, account, n) == 0 && endpoint[n] == '.');
    CLEANUP(mem_freep)
    char *whole = mem_printf("%s%s%s", before ? account : "", before ? "." : "", endpoint);
    put_endpoint(m, whole, "endpoint");
}

/* In rclone's order: the first of these that is there is what it uses. */
static void import_azure(struct import *m, const char *place)
{
    const char *account = get(m, "account"), *key = get(m, "key");
    if (!split_place(m, place)) {
        return;
    }
    put(m, "provider", "azure", "type");
    take(m, "storageClass", "access_tier");
    if (is_on(m, "env_auth", false)) {
        FAULT("env_auth",
              "signs in at Entra ID, which objmig cannot; give account and key, or sas_url");
    } else if (is_on(m, "use_emulator", false)) {
        bool own = get(m, "endpoint")[0] != '\0';
        put(m, "accessKeyId", account[0] != '\0' ? account : EMULATOR_ACCOUNT, "account");
        put(m, "accessKeySecret", key[0] != '\0' ? key : EMULATOR_KEY, "key");
        put_endpoint(m, own ? get(m, "endpoint") : "http://127.0.0.1:10000/" EMULATOR_ACCOUNT,
                     "use_emulator");
    } else if (account[0] != '\0' && key[0] != '\0') {
        take(m, "accessKeyId", "account");
        take(m, "accessKeySecret", "key");
        import_azure_endpoint(m, account);
    } else if (get(m, "sas_url")[0] != '\0') {
        import_sas_url(m);
    } else if (get(m, "connection_string")[0] != '\0') {
        import_connection_string(m);
    } else {
        FAULT("key", "missing; objmig signs with the key of an account or a SAS: give account and "
                     "key, or sas_url");
    }
}

static const char *const azure_taken[] = {"account", "key", "sas_url", "connection_string",
                                          "endpoint", "use_emulator", "env_auth", "access_tier",
                                          /* of ways to sign in that a key comes before */
                                          "service_principal_file", "use_msi", "use_az", "tenant",
                                          "client_id", "client_secret", "client_certificate_path",
                                          "client_certificate_password", "username", "password",
                                          "msi_object_id", "msi_client_id", "msi_mi_res_id", NULL};

/* ---- Google ---- */

static void import_google(struct import *m, const char *place)
{
    const char *file = get(m, "service_account_file");
    if (!split_place(m, place)) {
        return;
    }
    put(m, "provider", "gcs", "type");
    put_endpoint(m, get(m, "endpoint"), "endpoint");
    take(m, "storageClass", "storage_class");
    if (is_on(m, "anonymous", false)) {
        FAULT("anonymous", "objmig signs what it asks; give a service_account_file");
    } else if (get(m, "service_account_credentials")[0] == '{') {
        take(m, "accessKeySecret", "service_account_credentials");
    } else if (get(m, "service_account_credentials")[0] != '\0') {
        FAULT("service_account_credentials",
              "is no key of a service account; copy its JSON, on one line");
    } else if (file[0] != '\0') {
        bool home = strncmp(file, "~/", 2) == 0 && m->file->home;
        CLEANUP(mem_freep)
        char *path = mem_printf("%s%s", home ? m->file->home : "", file + (home ? 1 : 0));
        put(m, "serviceAccountFile", path, "service_account_file");
    } else if (get(m, "token")[0] != '\0' && !is_on(m, "env_auth", false)) {
        FAULT(
            "token",
            "is a person's sign-in, which objmig cannot renew; make a service account and give its "
            "service_account_file");
    }
}

static const char *const google_taken[] = {"service_account_file",
                                           "service_account_credentials",
                                           "endpoint",
                                           "storage_class",
                                           "env_auth",
                                           "anonymous",
                                           "token",
                                           "client_id",
                                           "client_secret",
                                           "auth_url",
                                           "token_url",
                                           NULL};

/* ---- directories, and what cannot be ---- */

static void import_local(struct import *m, const char *place)
{
    size_t n = strlen(place);
    if (place[0] != '/') {
        conf_fault(m->l, m->s->line, m->s->name, NULL,
                   "which directory? write rclone:%.80s:/DIRECTORY", m->s->name);
        return;
    }
    while (n > 1 && place[n - 1] == '/') {
        n--;
    }
    CLEANUP(mem_freep) char *path = mem_strndup(place, n);
    /* A name is a directory: "/data/x" is data_x, but "/.x" is _.x. */
    const char *short_path = path + (path[1] != '.' && path[1] != '\0');
    m->raw->name = mem_printf("%s@%s", short_path, m->s->name);
    for (char *p = m->raw->name; *p != '\0'; p++) {
        *p = (char)(*p == '/' || *p == ':' || iscntrl((unsigned char)*p) ? '_' : *p);
    }
    put(m, "provider", "local", "type");
    put(m, "path", path, NULL);
    m->prefix = mem_strdup("");
}

static const char *const local_taken[] = {NULL};

static void import_http(struct import *m, const char *place)
{
    FAULT("type",
          "is http: pages of links, which objmig does not read; write the URLs to a file (rclone "
          "lsf -R "
          "names what is there), and make a section with provider = http and urllistPath of it");
}

/* ---- options that are no key of ours ---- */

static const char *const idle[] = {"type",
                                   "description",
                                   "chunk_size",
                                   "upload_cutoff",
                                   "upload_concurrency",
                                   "copy_cutoff",
                                   "copy_concurrency",
                                   "copy_total_concurrency",
                                   "list_chunk",
                                   "max_upload_parts",
                                   "disable_checksum",
                                   "memory_pool_flush_time",
                                   "memory_pool_use_mmap",
                                   "no_check_bucket",
                                   "no_check_container",
                                   "no_head",
                                   "no_head_object",
                                   "directory_markers",
                                   "bucket_acl",
                                   "location",
                                   "location_constraint",
                                   "public_access",
                                   "project_number",
                                   "leave_parts_on_error",
                                   "list_url_encode",
                                   "disable_http2",
                                   "use_multipart_etag",
                                   "use_presigned_request",
                                   "might_gzip",
                                   "use_accept_encoding_gzip",
                                   "sdk_log_mode",
                                   "use_already_exists",
                                   "use_multipart_uploads",
                                   "use_unsigned_payload",
                                   "use_x_id",
                                   "sign_accept_encoding",
                                   "use_data_integrity_protections",
                                   "use_arn_region",
                                   "sts_endpoint",
                                   "ibm_resource_instance_id",
                                   "use_copy_blob",
                                   "disable_instance_discovery",
                                   "client_send_certificate_chain",
                                   "bucket_policy_only",
                                   "nounc",
                                   "no_check_updated",
                                   "no_preallocate",
                                   "no_sparse",
                                   "case_sensitive",
                                   "case_insensitive",
                                   "skip_links",
                                   "skip_specials",
                                   "zero_size_links",
                                   "no_clone",
                                   "hashes",
                                   "time_type",
                                   NULL};

#define SSE_C                                                                                      \
    "the customer's own keys are not known here, and such objects can neither be read nor "        \
    "written; use rclone for them"
#define LINKS "links are shown as links"

static const struct odd {
    const char *name;
    bool refused;      /* else a note */
    const char *usual; /* a value that asks for nothing, besides none, false and 0 */
    const char *what;
} odds[] = {
    {"requester_pays", true, NULL, "who asks cannot be made to pay; use rclone for this bucket"},
    {"user_project", true, NULL, "who asks cannot be made to pay; use rclone for this bucket"},
    {"sse_customer_algorithm", true, NULL, SSE_C},
    {"sse_customer_key", true, NULL, SSE_C},
    {"sse_customer_key_base64", true, NULL, SSE_C},
    {"sse_customer_key_md5", true, NULL, SSE_C},
    {"versions", true, NULL, "old versions cannot be shown; remove it to see the newest"},
    {"version_at", true, "off", "old versions cannot be shown; remove it to see the newest"},
    {"version_deleted", true, NULL, "what is deleted cannot be shown; remove it"},
    {"role_arn", true, NULL, "no role is assumed; write its temporary keys and session_token here"},
    {"profile", true, NULL, "set AWS_PROFILE instead"},
    {"shared_credentials_file", true, NULL, "set AWS_SHARED_CREDENTIALS_FILE instead"},
    {"ibm_api_key", true, NULL,
     "only access_key_id and secret_access_key are known; make HMAC keys"},
    {"directory_bucket", true, NULL,
     "directory buckets have another protocol; use rclone for them"},
    {"access_token", true, NULL, "ends within the hour; give a service_account_file"},
    {"acl", false, "private", "is not set: objects get what the bucket gives"},
    {"object_acl", false, "private", "is not set: objects get what the bucket gives"},
    {"use_accelerate_endpoint", false, NULL, "the ordinary endpoint is used"},
    {"use_dual_stack", false, NULL, "the ordinary endpoint is used"},
    {"download_url", false, NULL, "reads go to the endpoint, as all requests"},
    {"no_system_metadata", false, NULL, "headers are kept all the same"},
    {"decompress", false, NULL, "objects are shown as they are stored"},
    {"encoding", false, NULL, "names are shown as objmig shows them, see its README"},
    {"archive_tier_delete", false, NULL, "nothing is deleted before it is written anew"},
    {"delete_snapshots", false, NULL, "blobs with snapshots are not deleted"},
    {"copy_links", false, NULL, LINKS},
    {"links", false, NULL, LINKS},
    {"unicode_normalization", false, NULL, "names are not changed"},
    {"one_file_system", false, NULL, "other file systems below are shown"},
    {"no_set_modtime", false, NULL, "times are kept"},
};

static bool in_list(const char *const *list, const char *name)
{
    for (; *list; list++) {
        if (strcmp(*list, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool asks(const char *value, const char *usual)
{
    bool on = true;
    return value[0] != '\0' && strcasecmp(value, "f") != 0 &&
           (conf_parse_bool(value, &on) < 0 || on) && !(usual && strcasecmp(value, usual) == 0);
}

static void check_option(struct import *m, const struct option *o)
{
    for (size_t i = 0; i < ARRAY_LEN(odds); i++) {
        if (strcmp(odds[i].name, o->name) == 0) {
            if (asks(o->value, odds[i].usual)) {
                conf_fault(odds[i].refused ? m->l : m->notes, o->line, m->s->name, o->name, "%s",
                           odds[i].what);
            }
            return;
        }
    }
    if (asks(o->value, NULL)) {
        conf_fault(m->notes, o->line, m->s->name, conf_shown_key(o->name),
                   "an option of rclone's that is not known here");
    }
}

static const struct type {
    const char *name;
    void (*import)(struct import *m, const char *place);
    const char *const *taken;
} types[] = {
    {"s3", import_s3, s3_taken},
    {"azureblob", import_azure, azure_taken},
    {"google cloud storage", import_google, google_taken},
    {"gcs", import_google, google_taken},
    {"local", import_local, local_taken},
    {"http", import_http, NULL},
};

/* Remotes that lie over others and change what is stored, or where. */
static const char *const wrappers[][2] = {
    {"crypt", "encrypts names and contents"},    {"compress", "compresses contents"},
    {"chunker", "cuts files in pieces"},         {"union", "shows several remotes as one"},
    {"combine", "shows several remotes as one"}, {"hasher", "keeps sums of its own"},
    {"cache", "keeps copies of its own"},        {"archive", "shows what is in archives"},
};

/* No importer: what it is, and what may be done. */
static void refuse_type(struct import *m, const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(wrappers); i++) {
        if (strcmp(wrappers[i][0], type) == 0) {
            FAULT("type",
                  "%s %s; name the remote below it for the objects as they are stored, or copy "
                  "from an "
                  "rclone mount of it",
                  type, wrappers[i][1]);
            return;
        }
    }
    if (type[0] == '\0') {
        FAULT("type", "missing; make the remote with rclone config");
    } else {
        FAULT("type",
              "%.40s is none that objmig reads (s3, azureblob, google cloud storage, local, "
              "alias); %s",
              type,
              strcmp(type, "b2") == 0 ? "make an s3 remote of Backblaze's S3 endpoint"
                                      : "copy from an rclone mount of it");
    }
}

static const struct section *find_section(struct import *m, const char *name)
{
    const char *near = NULL;
    unsigned d = UINT32_MAX;
    for (size_t i = 0; i < m->n_sections; i++) {
        if (strcmp(m->sections[i].name, name) == 0) {
            return &m->sections[i];
        }
        conf_nearer(name, m->sections[i].name, &near, &d);
    }
    if (near) {
        conf_fault(m->l, 0, NULL, NULL, "no remote [%.80s]; did you mean %.80s?", name, near);
    } else {
        conf_fault(m->l, 0, NULL, NULL,
                   "no remote [%.80s]; rclone listremotes shows those there are", name);
    }
    return NULL;
}

/* An alias is another remote, or a place below one, or a directory. The place it stands for with
 * ours behind it. */
static char *below_alias(struct import *m, const char *remote, const char *place)
{
    const char *colon = remote[0] == '/' ? NULL : strchr(remote, ':');
    if (remote[0] == '\0' || remote[0] == ':' || (remote[0] != '/' && !colon) ||
        (colon && memchr(remote, ',', (size_t)(colon - remote)))) {
        FAULT("remote", "%s; write remote = NAME:PLACE or /DIRECTORY",
              remote[0] == '\0' ? "missing"
                                : "neither a remote's name with a place nor an absolute path");
        return NULL;
    }
    size_t n = strlen(remote);
    while (n > 1 && remote[n - 1] == '/') {
        n--;
    }
    place += strspn(place, "/");
    bool bare = remote[n - 1] == ':' || remote[n - 1] == '/' || place[0] == '\0';
    return mem_printf("%.*s%s%s", (int)n, remote, bare ? "" : "/", place);
}

/* Follows aliases from NAME:PLACE to the remote that has the objects. NULL with a fault; else what
 * of the place is its. */
static char *follow(struct import *m, const char *start)
{
    CLEANUP(mem_freep) char *at = mem_strdup(start);
    for (unsigned k = 0; k <= ALIASES_MAX; k++) {
        if (m->s && at[0] == '/') {
            return TAKE(at); /* below the alias that m->s is */
        }
        const char *colon = strchr(at, ':');
        CLEANUP(mem_freep) char *name = mem_strndup(at, colon ? (size_t)(colon - at) : strlen(at));
        const char *place = colon ? colon + 1 : "";
        m->s = find_section(m, name);
        if (!m->s) {
            return NULL;
        }
        if (strcmp(get(m, "type"), "alias") != 0) {
            return mem_strdup(place);
        }
        char *next = below_alias(m, get(m, "remote"), place);
        free(at);
        at = next;
        if (!at) {
            return NULL;
        }
    }
    FAULT("remote", "an alias of an alias, and so on in a circle; end it");
    return NULL;
}

static void import_remote(struct import *m, const char *place)
{
    const char *type = get(m, "type");
    if (strcmp(type, "alias") == 0) {
        import_local(m, place);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, type) == 0) {
            types[i].import(m, place);
            for (size_t k = 0; types[i].taken && k < m->s->n; k++) {
                const struct option *o = &m->s->options[k];
                if (!in_list(idle, o->name) && !in_list(types[i].taken, o->name)) {
                    check_option(m, o);
                }
            }
            return;
        }
    }
    refuse_type(m, type);
}

struct raw *conf_rclone_import(struct loader *l, struct loader *notes,
                               const struct rclone_file *file, const char *place, char **ret_prefix)
{
    CLEANUP(import_fini) struct import m = {.l = l, .notes = notes, .file = file};
    struct lines lines = {
        .on_section = add_section, .on_pair = add_option, .on_fault = add_fault, .owner = &m};
    size_t before = l->n_faults;
    if (is_encrypted(file)) {
        conf_fault(l, 0, NULL, NULL,
                   "is encrypted; make an open copy, (umask 077; rclone config show >FILE), and "
                   "name that in "
                   "RCLONE_CONFIG or -o rclone_config=FILE");
        return NULL;
    }
    if (conf_lines_read(&lines, file->text, file->n) < 0) {
        conf_fault(l, 0, NULL, NULL, "not a text file; name another");
    }
    CLEANUP(mem_freep) char *rest = l->n_faults == before ? follow(&m, place) : NULL;
    if (!rest) {
        return NULL;
    }
    m.raw = mem_zalloc(sizeof(*m.raw));
    m.raw->line = m.s->line;
    import_remote(&m, rest);
    const char *bad = m.raw->name && l->n_faults == before ? conf_section_fault(m.raw->name) : NULL;
    if (bad) {
        conf_fault(l, m.s->line, m.s->name, NULL, "%s", bad);
    }
    if (l->n_faults != before || !m.raw->name) {
        return NULL;
    }
    *ret_prefix = TAKE(m.prefix);
    return TAKE(m.raw);
}
