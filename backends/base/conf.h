/* The configuration file: INI, one section a remote (architecture section 8), every fault reported as file, section, key
 * and mend. Also SOURCE URLs. Pure but for reading the file. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "errinfo.h"

/* One remote's settings, checked and typed. Strings are owned by the struct, "" when not given. */
struct conf_remote {
    char *name;
    char *provider;
    /* prefix: "" or ending in '/', never starting with it. endpoint: [http[s]://]host[:port][/path], no '/' at the end;
     * http:// only with https = false. path: local only, absolute. urllist: http only, a file or a directory, absolute. */
    char *bucket, *region, *prefix, *endpoint, *path, *urllist;
    char *access_key_id;
    struct secret *access_key_secret, *security_token; /* NULL when not given */
    bool https, path_style;
    char *connect_to; /* host:port */
    char *proxy_host;
    int proxy_port; /* 0 = none */
    char *storage_class, *encryption;
    uint64_t small_file_threshold, part_size;
    unsigned small_slots, big_slots;
    enum conf_md5 { CONF_MD5_OFF, CONF_MD5_ON, CONF_MD5_STRICT } file_md5;
    unsigned request_timeout_ms, request_try_count;
    char *signature; /* one of what the provider knows; s3: "v4" (default) or "v2" */
    int list_version; /* s3: 2 (default) or 1 */
    struct conf_limits { /* tests and unusual servers lower the provider's limits; 0 = the provider's */
        uint64_t max_copy, max_put, max_part, min_part;
    } limits;
    struct kvlist defaults; /* settings only a dialect understands, by their key's name; absent = the dialect's own */
};

/* Bytes that cannot be printed by accident: no function formats this type. */
struct secret {
    size_t len;
    char bytes[]; /* NUL-terminated */
};
struct secret *secret_new(const char *s);
void secret_free(struct secret *s); /* wipes first; NULL is fine */

struct conf {
    char *file; /* "" when made from a URL alone; of an rclone.conf's remote, that file */
    struct conf_remote **remotes;
    size_t n_remotes;
    char *notes; /* what of an rclone.conf's remotes is not kept, a line each; NULL when there is nothing to say */
};

/* Credentials a section does not give come from the environment (AWS_…, COS_… or TENCENTCLOUD_…, AZURE_STORAGE_… and their like),
 * ~/.aws/credentials and ~/.aws/config, ~/.ossutilconfig or ~/.cos.conf, and so does a region that neither region nor
 * endPoint gives; of a Google service account the id is its address, and the secret the whole key file.
 * First found of `path`, $OBJMIG_CONFIG, ~/.config/objmig/objmig.conf, /etc/objmig/objmig.conf. Reads all sections and
 * lists every fault, one line each, in *ret_faults: "FILE:LINE: [section] key: what; how to mend". 0 or -errno
 * (-EINVAL with faults, -EPERM when readable by others with secrets in it, -ENOENT without a fault when none exists and path is
 * NULL, the errno of the failure with one when a named file cannot be read). */
int conf_load(const char *path, struct conf **ret_conf, struct buf *ret_faults);
struct conf *conf_new(const char *file); /* without remotes, for URLs when there is no file */
void conf_free(struct conf *c);
const struct conf_remote *conf_find(const struct conf *c, const char *name); /* borrowed, NULL when absent */

/* Where a section's credentials are looked for when it has none and the environment neither: the files of the providers' own
 * tools. The caller frees; NULL behind the last one. They may not exist. */
char *conf_credentials_file(size_t i);

/* What a SPEC of mount.objmig is. Only sections need a configuration. */
enum conf_spec {
    CONF_SECTION, /* NAME, NAME:prefix, all */
    CONF_URL,     /* scheme://bucket[/prefix] */
    CONF_RCLONE   /* rclone:NAME:bucket[/prefix], or what an alias of rclone's has there */
};
enum conf_spec conf_spec_kind(const char *spec);

/* A URL takes region=, endPoint=, … from `options` (key=value pairs) and credentials from the environment; a remote of rclone's
 * is read from $RCLONE_CONFIG, ~/.config/rclone/rclone.conf, ~/.rclone.conf, or the option rclone_config. Both add a remote to
 * the configuration. *ret_prefix is the prefix below the remote's own, "" or ending in '/'. *ret_remote is NULL for `all`.
 * 0, -EINVAL, -EPERM for an rclone.conf that others may read, or -ENOENT when no section has that name; class INVALID.
 * Options beside a section's name are refused, secrets among options too (ps). */
int conf_resolve(struct conf *c, const char *spec, const struct kvlist *options,
                 const struct conf_remote **ret_remote, char **ret_prefix, struct errinfo *reterr);

/* Numbers as people write them: 512M, 1GiB; 1KB is 1000; 10% is not one. -EINVAL on anything else. */
int conf_parse_size(const char *s, uint64_t *ret_bytes);
int conf_parse_bool(const char *s, bool *ret); /* on off true false yes no 1 0 */
