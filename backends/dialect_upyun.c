/* Upyun USS. Its REST API names paths in a tree of real directories ("bucket" is its service,
 * "accessKeyId" an operator), with headers for parameters and JSON for lists and errors.
 *
 * Lines marked [u] rest on nothing but the SDKs' sources: no document says so. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_upyun.h"
#include "digest.h"
#include "mem.h"
#include "names.h"
#include "sign.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* --- the site */

static int upyun_configure(const struct conf_remote *conf, struct dialect_site **ret,
                           struct errinfo *reterr)
{
    struct dialect_site *site = mem_zalloc(sizeof(*site));
    bool given = conf->endpoint && conf->endpoint[0] != '\0';
    int err = dialect_site_init(site, &be_dialect_upyun, conf, reterr);
    if (err == 0 && given) {
        err = dialect_endpoint(conf, &site->host, reterr);
    }
    if (err < 0) {
        be_dialect_upyun.release(site);
        return err;
    }
    if (!given) {
        site->host = mem_strdup("v0.api.upyun.com");
    }
    site->base = mem_printf("/%s", site->bucket);
    site->service = mem_strdup("upyun");
    /* v0 to v3 are entrances of one service, by carrier */
    const char *dot = strchr(site->host, '.');
    bool own = !dot || strcmp(dot, ".api.upyun.com") != 0;
    site->identity =
        mem_printf("upyun:%s%s%s", own ? site->host : "", own ? "/" : "", site->bucket);
    site->caps =
        BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_REAL_DIRS | BE_CAP_BARE_DIRS;
    site->copy_source_unchecked = true;
    site->commit_unchecked = true;
    site->lists_dirs = true;
    site->limits = (struct be_limits){.max_object = 10000 * 50 * MIB,
                                      .max_put = GIB, /* [u] "some GB" */
                                      .min_part = MIB,
                                      .max_part = 50 * MIB, /* [u] */
                                      .part_unit = MIB,
                                      .max_parts = 10000,
                                      .max_key = 1024,  /* [u] */
                                      .max_meta = 2048, /* [u] */
                                      .list_page = 4096};
    dialect_limits(&site->limits, conf);
    if (site->limits.min_part % MIB != 0 || site->limits.max_part < MIB) {
        err = err_set(reterr, ERR_INVALID, -EINVAL,
                      "[%s] %s: parts are multiples of 1 MiB there; correct it", site->name,
                      site->limits.max_part < MIB ? "maxPartSize" : "minPartSize");
        be_dialect_upyun.release(site);
        return err;
    }
    *ret = site;
    return 0;
}

static void upyun_release(struct dialect_site *site)
{
    if (site) {
        dialect_site_fini(site);
        free(site);
    }
}

static bool upyun_can_copy(const struct dialect_site *dst, const struct dialect_site *src)
{
    return strcmp(dst->identity, src->identity) == 0;
}

static const char *upyun_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    if (key[0] == '/' || strstr(key, "//")) {
        return "Upyun takes no key with an empty component: its directories are real";
    }
    for (const char *p = key; *p; p += strcspn(p, "/"), p += *p == '/') {
        size_t n = strcspn(p, "/");
        if (p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.'))) {
            return "Upyun takes no key with a component '.' or '..': its directories are real";
        }
    }
    if (strpbrk(key, "\r\n\t")) {
        return "Upyun takes no key with a tab or a line break";
    }
    return names_is_utf8(key, strlen(key)) ? NULL : "Upyun takes no key that is not UTF-8";
}

static int upyun_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
                      struct errinfo *reterr)
{
    struct dialect_keys *keys = dialect_keys_get(site);
    char date[SIGN_DATE_SIZE];
    sign_date_http(wall_s, date);
    kv_set(&r->headers, "date", date);
    kv_set(&r->headers, "authorization", NULL);
    if (!keys) {
        return 0;
    }
    const char *md5 = kv_get(&r->headers, "content-md5");
    struct sign_key key = {keys->id, keys->secret->bytes, keys->secret->len};
    CLEANUP(buf_fini) struct buf target = BUF_INIT;
    CLEANUP(sign_out_fini) struct sign_out out = {0};
    int err = dialect_target(r, &target);
    if (err == 0) {
        err = sign_upyun(r->method, buf_str(&target), date, md5 ? md5 : "", &key, &out);
    }
    dialect_keys_put(keys);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "signature: no memory");
    }
    kv_set(&r->headers, "authorization", buf_str(&out.authorization));
    return 0;
}

/* --- requests */

void upyun_md5(const uint8_t *md5, const void *data, size_t len, char ret[33])
{
    uint8_t own[DIGEST_MD5_LEN];
    if (!md5) {
        digest_md5(data, len, own);
    }
    hex_encode(md5 ? md5 : own, DIGEST_MD5_LEN, ret);
}

static bool means_something(const char *name)
{
    return strcasecmp(name, "ttl") == 0 || strcasecmp(name, "secret") == 0 ||
           strncasecmp(name, UPYUN_OURS, strlen(UPYUN_OURS)) == 0;
}

/* The headers of a new object. `type` is the header its type goes into; NULL: there is none. */
static int add_meta(const struct dialect_site *site, const struct kvlist *meta, const char *type,
                    bool type_too, struct kvlist *headers, struct errinfo *reterr)
{
    size_t bytes = 0;
    for (size_t i = 0; meta && i < meta->n; i++) {
        const struct kv *m = &meta->items[i];
        CLEANUP(mem_freep) char *name = NULL;
        if (strncasecmp(m->name, "meta-", 5) == 0) {
            name = mem_strdup(means_something(m->name + 5) ? "" : m->name + 5);
            if (name[0] == '\0') {
                free(name);
                name = mem_printf(UPYUN_OURS "%s", m->name);
            }
        } else if (!dialect_is_standard(m->name) || !dialect_header_value_ok(m->value)) {
            return err_set(reterr, ERR_INVALID, -EINVAL, "'%.60s' is no metadata this store keeps",
                           m->name);
        } else if (m->value[0] != '\0') {
            bool is_type = strcasecmp(m->name, "content-type") == 0;
            if (is_type && type) {
                kv_set(headers, type, m->value);
            }
            if (!is_type || type_too) {
                name = mem_printf(UPYUN_OURS "%s", m->name);
            }
        }
        int err = name ? dialect_add_user_meta(UPYUN_META, name, NULL, m->value, headers, &bytes,
                                               reterr)
                       : 0;
        if (err < 0) {
            return err;
        }
    }
    if (bytes > site->limits.max_meta) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "%zu bytes of metadata as they are sent, and %s takes %u", bytes, site->name,
                       site->limits.max_meta);
    }
    return 0;
}

static int build_read(const struct be_read *op, bool head, struct dialect_request *r)
{
    if (head || op->len == 0 || upyun_is_dir(op->op.key)) {
        r->method = "HEAD";
        return 0;
    }
    kv_set(&r->headers, "x-upyun-folder", "false");
    dialect_set_range(&r->headers, "range", op->offset, op->len);
    return 0;
}

static void build_make_dir(struct dialect_request *r)
{
    r->method = "POST";
    kv_set(&r->headers, "folder", "true");
    kv_set(&r->headers, "x-upyun-folder", "true");
}

static int build_write(const struct dialect_site *site, const struct be_write *op,
                       struct dialect_request *r, struct errinfo *reterr)
{
    if (upyun_is_dir(op->op.key)) {
        if (op->len > 0) {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "a key that ends in '/' is a directory at Upyun and has no content");
        }
        build_make_dir(r);
        return 0;
    }
    char md5[2 * DIGEST_MD5_LEN + 1];
    upyun_md5(op->md5, op->data, op->len, md5);
    r->method = "PUT";
    r->body = op->data;
    r->body_len = op->len;
    kv_set(&r->headers, "content-md5", md5);
    return add_meta(site, op->meta, "content-type", false, &r->headers, reterr);
}

static int build_copy(const struct dialect_site *site, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_copy *op = CONTAINER_OF(call->op, const struct be_copy, op);
    if (!call->src || call->src->dialect != site->dialect || !upyun_can_copy(site, call->src)) {
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP, "the source is not in this service");
    }
    if (upyun_is_dir(op->op.key)) {
        build_make_dir(r); /* there is nothing but its name */
        return 0;
    }
    if (strcmp(op->src_key, op->op.key) == 0) {
        r->method = "PATCH";
        kv_set(&r->query, "metadata", "replace");
        return add_meta(site, op->meta, NULL, true, &r->headers, reterr);
    }
    CLEANUP(buf_fini) struct buf source = BUF_INIT;
    if (dialect_path(call->src, op->src_key, &source) < 0) {
        return err_set(reterr, ERR_LOCAL, -ENOMEM, "copy source: no memory");
    }
    r->method = "PUT";
    kv_set(&r->headers, "x-upyun-copy-source", buf_str(&source));
    kv_set(&r->headers, "x-upyun-metadata-directive", "replace");
    return add_meta(site, op->meta, "content-type", true, &r->headers, reterr);
}

static void set_stage(struct dialect_request *r, const char *stage, const char *upload)
{
    r->method = "PUT";
    kv_set(&r->headers, "x-upyun-multi-stage", stage);
    kv_set(&r->headers, "x-upyun-multi-uuid", upload);
}

static int build_begin(const struct dialect_site *site, const struct be_mp *op,
                       struct dialect_request *r, struct errinfo *reterr)
{
    uint64_t size = op->part_size > 0 ? op->part_size : site->limits.min_part;
    if (upyun_is_dir(op->op.key)) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "a key that ends in '/' is a directory at Upyun and has no content");
    }
    set_stage(r, "initiate", NULL);
    kv_set(&r->headers, "x-upyun-multi-disorder", "true");
    dialect_set_number(&r->headers, "x-upyun-multi-part-size", size);
    kv_set(&r->headers, "x-upyun-multi-type", "application/octet-stream"); /* wanted in any case */
    return add_meta(site, op->meta, "x-upyun-multi-type", false, &r->headers, reterr);
}

/* The list of parts must be the whole upload: what the driver cannot see in that, this does. */
static int build_commit(const struct dialect_site *site, const struct be_commit *op,
                        struct dialect_request *r, struct errinfo *reterr)
{
    for (size_t i = 0; i < op->n_parts; i++) {
        const struct be_part_id *p = &op->parts[i];
        bool last = i + 1 == op->n_parts;
        if (p->number != i + 1 ||
            (last ? p->size > op->parts[0].size && i > 0
                  : p->size != op->parts[0].size || p->size % site->limits.part_unit != 0)) {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "part %u of %llu bytes: Upyun wants all parts, of one size in MiB but "
                           "for the last",
                           p->number, (unsigned long long)p->size);
        }
    }
    set_stage(r, "complete", op->upload_id);
    return 0;
}

static void build_part(const struct be_part *op, struct dialect_request *r)
{
    char md5[2 * DIGEST_MD5_LEN + 1];
    upyun_md5(op->md5, op->data, op->len, md5);
    set_stage(r, "upload", op->upload_id);
    dialect_set_number(&r->headers, "x-upyun-part-id", op->number - 1);
    kv_set(&r->headers, "content-md5", md5);
    r->body = op->data;
    r->body_len = op->len;
}

static void build_list(const struct dialect_site *site, const struct dialect_call *call,
                       struct dialect_request *r)
{
    kv_set(&r->headers, "accept", "application/json");
    kv_set(&r->headers, "x-upyun-folder", "true");
    dialect_set_number(&r->headers, "x-list-limit", site->limits.list_page);
    kv_set(&r->headers, "x-list-iter", call->page[0]);
}

static int upyun_build(const struct dialect_site *site, const struct dialect_call *call,
                       struct dialect_request *r, struct errinfo *reterr)
{
    struct be_op *op = call->op;
    const char *key = call->kind == BE_LIST ? CONTAINER_OF(op, const struct be_list, op)->prefix
                      : call->kind == BE_MP_UPLOADS ? ""
                                                    : op->key;
    dialect_request_fini(r);
    r->method = "GET";
    kv_set(&r->headers, "host", site->host);
    if (dialect_path(site, key, &r->path) < 0) {
        return err_set(reterr, ERR_LOCAL, -ENOMEM, "path: no memory");
    }
    switch (call->kind) {
    case BE_STAT:
        r->method = "HEAD";
        return 0;
    case BE_READ:
        return build_read(CONTAINER_OF(op, const struct be_read, op), call->head, r);
    case BE_WRITE:
        return build_write(site, CONTAINER_OF(op, const struct be_write, op), r, reterr);
    case BE_REMOVE:
        r->method = "DELETE"; /* not asynchronously: a list after it must not show it */
        /* [u] "false" here: an empty directory of an object's name must not go in its place */
        kv_set(&r->headers, "x-upyun-folder", upyun_is_dir(key) ? "true" : "false");
        return 0;
    case BE_LIST:
        build_list(site, call, r);
        return 0;
    case BE_COPY:
        return build_copy(site, call, r, reterr);
    case BE_MP_BEGIN:
        return build_begin(site, CONTAINER_OF(op, const struct be_mp, op), r, reterr);
    case BE_MP_PART:
        build_part(CONTAINER_OF(op, const struct be_part, op), r);
        return 0;
    case BE_MP_COMMIT:
        return build_commit(site, CONTAINER_OF(op, const struct be_commit, op), r, reterr);
    case BE_MP_ABORT: /* [u]; what does not know it lets uploads expire after a day */
        set_stage(r, "cancel", CONTAINER_OF(op, const struct be_mp, op)->upload_id);
        return 0;
    case BE_MP_PARTS:
        kv_set(&r->headers, "x-upyun-multi-uuid",
               CONTAINER_OF(op, const struct be_parts, op)->upload_id);
        kv_set(&r->headers, "x-upyun-part-id", call->page[0]);
        return 0;
    case BE_MP_UPLOADS: /* [u] how a prefix is written there: all are asked for */
        kv_set(&r->headers, "x-upyun-list-type", "multi");
        dialect_set_number(&r->headers, "x-upyun-list-limit", site->limits.list_page);
        return 0;
    case BE_REMOVE_MANY:
    case BE_RESTORE:
    case BE_KINDS:
        break;
    }
    return err_set(reterr, ERR_BUG, -EINVAL, "no such operation");
}

const struct be_dialect be_dialect_upyun = {
    .name = "upyun",
    .configure = upyun_configure,
    .release = upyun_release,
    .can_copy = upyun_can_copy,
    .key_fault = upyun_key_fault,
    .build = upyun_build,
    .sign = upyun_sign,
    .parse = upyun_parse,
    .classify = upyun_classify,
};
