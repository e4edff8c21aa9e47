/* What the parts of the configuration reader share: lines, sections of known keys, checked remotes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"

struct loader;
struct stat;

/* conf_lines.c */

/* Reads text line by line. The callbacks run in the order of the lines; section is that of the
 * line. */
struct lines {
    const char *p, *end;
    int line;
    char *section; /* NULL before the first */
    char *value;   /* the line's value when it is too long for inih */
    bool pair;     /* the line handed over last must be a pair, and none has come yet */
    void (*on_section)(struct lines *s);
    void (*on_pair)(struct lines *s, const char *name, const char *value);
    void (*on_fault)(struct lines *s, const char *what);
    struct loader *loader;
    void *owner;
};
/* -EINVAL when it is no text at all; faults of single lines go to on_fault. */
int conf_lines_read(struct lines *s, const char *text, size_t n);

/* The whole of a regular file of at most 1 MiB, and its state. */
int conf_file_read(const char *path, struct buf *ret, struct stat *ret_st);
void conf_buf_wipe(struct buf *b); /* buf_fini for secrets */
void conf_str_wipe(char *s);       /* free for secrets; NULL is fine */

/* conf_remote.c */

/* Providers of this build, as bits. */
enum {
    P_LOCAL = 1,
    P_S3 = 2,
    P_COS = 4,
    P_MEMORY = 8,
    P_OSS = 16,
    P_KS3 = 32,
    P_AZURE = 64,
    P_GCS = 128,
    P_BOS = 256,
    P_UPYUN = 512,
    P_QINIU = 1024,
    P_HTTP = 1 << 20,
    P_TOKENS = P_S3 | P_COS | P_OSS | P_KS3 | P_AZURE | P_GCS | P_BOS | P_MEMORY, /* have tokens and encryption */
    P_CLASSES = P_TOKENS | P_QINIU,                                               /* have storage classes */
    P_CLOUD = P_CLASSES | P_UPYUN,
    P_ALL = P_LOCAL | P_CLOUD | P_HTTP
};

extern const struct provider {
    const char *name;
    unsigned bit;
    bool cloud; /* wants bucket, region or endPoint, and keys */
    bool placed; /* needs neither region nor endPoint: there is one host, or the account says it */
    bool token_alone; /* an id and a token will do, and then there is no secret */
    const char *scheme; /* of URLs that name a bucket; NULL: none does */
    const char *env[3][2]; /* id, secret, token: the provider's own names, in order of preference */
    const char *env_region[2]; /* the same for a region that is not given */
    const char *region;        /* an example; NULL: us-east-1 */
    const char *signatures[2]; /* what signatureVersion may be, the default first; NULL: no choice */
} conf_providers[];
extern const size_t conf_n_providers;

enum key {
    KEY_PROVIDER,
    KEY_BUCKET,
    KEY_REGION,
    KEY_PREFIX,
    KEY_ENDPOINT,
    KEY_PATH,
    KEY_URLLIST,
    KEY_ID,
    KEY_SECRET,
    KEY_TOKEN,
    KEY_HTTPS,
    KEY_PATH_STYLE,
    KEY_CONNECT_TO,
    KEY_DOMAIN,
    KEY_DOMAIN_PRIVATE,
    KEY_PROXY_HOST,
    KEY_PROXY_PORT,
    KEY_STORAGE_CLASS,
    KEY_ENCRYPTION,
    KEY_SMALL_THRESHOLD,
    KEY_SMALL_SLOTS,
    KEY_BIG_SLOTS,
    KEY_PART_SIZE,
    KEY_MD5,
    KEY_TIMEOUT,
    KEY_TRIES,
    KEY_SIGNATURE,
    KEY_LIST_VERSION,
    KEY_CONDITIONAL,
    KEY_UNSIGNED,
    KEY_CNAME,
    KEY_SERVICE_ACCOUNT,
    KEY_AUDIENCE,
    KEY_MAX_COPY,
    KEY_MAX_PUT,
    KEY_MAX_PART,
    KEY_MIN_PART,
    KEY_PART_COPY,
    N_KEYS
};

/* A section as written: one value a key at most. */
struct raw {
    char *name;
    int line;
    struct {
        char *value; /* NULL when not given */
        int line;
    } vals[N_KEYS];
};

/* Everything one load or one URL gathers. */
struct loader {
    const char *file;
    struct raw **raws;
    size_t n_raws;
    bool has_secret;
    bool mode_fault;
    struct fault {
        int line;
        size_t order;
        char *text;
    } * faults;
    size_t n_faults;
};

/* "FILE:LINE: [section] key: what; how to mend". section and key may be NULL, line 0. */
void conf_fault(struct loader *l, int line, const char *section, const char *key, const char *fmt,
                ...) __attribute__((format(printf, 5, 6)));

/* What is wrong with a section's name, NULL when nothing is. */
const char *conf_section_fault(const char *name);
bool conf_key_is_secret(const char *name); /* false when unknown */
/* An unknown key as it may show: NULL when it is so long that it is rather a secret in the wrong
 * place. */
const char *conf_shown_key(const char *name);
/* Takes one value in, or a fault. name as the user wrote it. */
void conf_raw_set(struct loader *l, struct raw *raw, int line, const char *name, const char *value);
void conf_raw_free(struct raw *raw);

/* conf_azure.c: what AZURE_STORAGE_CONNECTION_STRING gives a section that has no credentials of its own. False when there is
 * none; *ret_fault, constant text, when it is no use. */
bool conf_azure_connection(struct conf_remote *r, const char **ret_fault);

/* Such a string taken apart; NULL for what it has not. endpoint: a URL. The last two are secrets. */
struct azure_parts {
    char *account, *endpoint, *key, *sas;
};
void conf_azure_parts(const char *s, struct azure_parts *ret);
void conf_azure_parts_fini(struct azure_parts *p);

/* conf_keyfile.c: the first of these variables that is set, or NULL; and what the provider's own tool keeps in a file, which is
 * named as below the home directory, NULL when there is none. */
const char *conf_env_of(const char *const names[2]);
void conf_key_file_read(const struct provider *p, struct conf_remote *r);
void conf_region_find(const struct provider *p, struct conf_remote *r); /* there too; may find none */
const char *conf_key_file(const struct provider *p);

/* conf_google.c: Google's key file of a service account: who it is for, and the whole of it. What is wrong with it
 * and the mend, or NULL. */
const char *conf_service_account(const char *path, char **ret_email, struct secret **ret_text);
const char *conf_service_account_text(const char *text, size_t n, char **ret_email); /* the same of its content */

/* The checked remote of a section, complete when no fault was added meanwhile. Never NULL. */
struct conf_remote *conf_remote_make(struct loader *l, const struct raw *raw);
void conf_remote_free(struct conf_remote *r);
/* Whether two remotes differ in nothing but their name. */
bool conf_remote_same(const struct conf_remote *a, const struct conf_remote *b);

/* Makes candidate the best when it is near enough to name to be meant, and nearer than *best.
 * *best_distance starts as UINT32_MAX. */
void conf_nearer(const char *name, const char *candidate, const char **best,
                 unsigned *best_distance);
const char *conf_home_dir(void); /* NULL when unknown; before there are threads */
