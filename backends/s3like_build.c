/* Operations to unsigned requests, for the S3 family. Pure. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "digest.h"
#include "mem.h"
#include "s3xml.h"
#include "xml.h"


/* "x-amz-" + name; the result is the caller's buffer, emptied first. */
static const char *vendor_name(const struct s3like *s, const char *name, char ret[128])
{
    snprintf(ret, 128, "%s%s", s->vendor, name);
    return ret;
}

static void set_vendor(const struct s3like *s, struct kvlist *headers, const char *name,
                       const char *value)
{
    char full[128];
    kv_set(headers, vendor_name(s, name, full), value);
}

/* The headers of a new object: its metadata, and class and encryption from it or else from the
 * configuration. */
static int add_meta(const struct s3like *s, const struct kvlist *meta, struct kvlist *headers,
                    struct errinfo *reterr)
{
    const char *class = s->storage_class, *encryption = s->encryption_default;
    CLEANUP(mem_freep) char *own_class = NULL;
    size_t bytes = 0;
    for (size_t i = 0; meta && i < meta->n; i++) {
        const struct kv *m = &meta->items[i];
        if (!dialect_header_value_ok(m->value) && strncasecmp(m->name, "meta-", 5) != 0) {
            return err_set(reterr, ERR_INVALID, -EINVAL, "%.60s: has control characters", m->name);
        }
        if (strncasecmp(m->name, "meta-", 5) == 0) {
            char prefix[128];
            int err = dialect_add_user_meta(vendor_name(s, "meta-", prefix), m->name + 5,
                                            s->meta_names_plain ? dialect_meta_name_encode : NULL,
                                            m->value, headers, &bytes, reterr);
            if (err < 0) {
                return err;
            }
        } else if (dialect_is_standard(m->name)) {
            if (m->value[0] != '\0') {
                kv_set(headers, m->name, m->value);
            }
        } else if (strcasecmp(m->name, "storage-class") == 0) {
            free(own_class);
            own_class = s3like_storage_class(s, m->value);
            class = own_class;
        } else if (strcasecmp(m->name, "encryption") == 0) {
            encryption = m->value;
        } else {
            return err_set(reterr, ERR_INVALID, -EINVAL, "'%.60s' is no metadata this store keeps",
                           m->name);
        }
    }
    if (s->site.limits.max_meta > 0 && bytes > s->site.limits.max_meta) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "%zu bytes of user metadata as they are sent, and %s takes %u", bytes,
                       s->site.name, s->site.limits.max_meta);
    }
    if (class[0] != '\0') {
        set_vendor(s, headers, "storage-class", class);
    }
    return encryption[0] != '\0' ? s->encryption(s, encryption, headers, reterr) : 0;
}

static void add_conditions(const struct s3like *s, const char *if_match, bool if_absent,
                           struct kvlist *headers)
{
    if (if_match) {
        dialect_set_etag(headers, "if-match", if_match);
    }
    if (if_absent && s->forbid_overwrite) {
        set_vendor(s, headers, "forbid-overwrite", "true");
    } else if (if_absent) {
        kv_set(headers, "if-none-match", "*");
    }
}

/* Copy sources are one more path in a header, encoded once. */
static int add_copy_source(const struct s3like *s, const struct dialect_call *call, const char *key,
                           const char *etag, const char *version_id, struct kvlist *headers,
                           struct errinfo *reterr)
{
    const struct s3like *src = (const struct s3like *)(const void *)call->src;
    if (!src || src->site.dialect != s->site.dialect) {
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP, "the source is not at this provider");
    }
    CLEANUP(buf_fini) struct buf source = BUF_INIT;
    int err = src->copy_host ? buf_addf(&source, "%s/", src->copy_host)
                             : buf_addf(&source, "/%s/", src->site.bucket);
    if (err == 0) {
        err = url_encode(&source, key, strlen(key), true);
    }
    if (err == 0 && version_id && version_id[0] != '\0') {
        err = buf_adds(&source, "?versionId=");
        if (err == 0) {
            err = url_encode(&source, version_id, strlen(version_id), false);
        }
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "copy source: no memory");
    }
    set_vendor(s, headers, "copy-source", buf_str(&source));
    if (etag && etag[0] != '\0') {
        char name[128];
        dialect_set_etag(headers, vendor_name(s, "copy-source-if-match", name), etag);
        if (s->copy_if_match_alias) {
            dialect_set_etag(headers, vendor_name(s, "copy-if-match", name), etag);
        }
    }
    return 0;
}

static int build_read(const struct s3like *s, const struct be_read *op, bool head,
                      struct dialect_request *r)
{
    if (op->if_match) {
        dialect_set_etag(&r->headers, "if-match", op->if_match);
    }
    if (op->version_id && op->version_id[0] != '\0') {
        kv_set(&r->query, "versionId", op->version_id);
    }
    if (head || op->len == 0) {
        r->method = "HEAD";
        return 0;
    }
    dialect_set_range(&r->headers, "range", op->offset, op->len);
    if (s->range_standard) {
        set_vendor(s, &r->headers, "range-behavior", "standard");
    }
    return 0;
}

static int build_list(const struct s3like *s, const struct be_list *op, struct dialect_request *r,
                      struct errinfo *reterr)
{
    struct kvlist *q = &r->query;
    unsigned page = s->site.limits.list_page;
    if (s->list_version == 2) {
        kv_set(q, "list-type", "2");
    }
    kv_set(q, "encoding-type", "url");
    dialect_set_number(q, "max-keys", op->max > 0 ? MIN(op->max, page) : page);
    if (op->prefix[0] != '\0') {
        kv_set(q, "prefix", op->prefix);
    }
    if (op->delimiter != 0) {
        char delimiter[2] = {op->delimiter, '\0'};
        kv_set(q, "delimiter", delimiter);
    }
    const char *after = op->cursor && op->cursor[0] == 'k' ? op->cursor + 1
                        : op->cursor                       ? ""
                                                           : op->start_after;
    if (op->cursor && op->cursor[0] == 't') {
        kv_set(q, "continuation-token", op->cursor + 1);
    } else if (after && after[0] != '\0') {
        kv_set(q, s->list_version == 2 ? "start-after" : "marker", after);
    } else if (op->cursor) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "not a cursor of this store");
    }
    return 0;
}

static int build_copy(const struct s3like *s, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_copy *op = CONTAINER_OF(call->op, const struct be_copy, op);
    int err = add_copy_source(s, call, op->src_key, op->src_etag, op->src_version_id, &r->headers,
                              reterr);
    if (err < 0) {
        return err;
    }
    set_vendor(s, &r->headers, "metadata-directive", s->replace);
    return add_meta(s, op->meta, &r->headers, reterr);
}

static int build_part(const struct s3like *s, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_part *op = CONTAINER_OF(call->op, const struct be_part, op);
    dialect_set_number(&r->query, "partNumber", op->number);
    kv_set(&r->query, "uploadId", op->upload_id);
    if (!op->src) {
        r->body = op->data;
        r->body_len = op->len;
        if (op->md5) {
            dialect_set_md5(&r->headers, "content-md5", op->md5);
        }
        return 0;
    }
    if (s->part_copy_decodes_twice && strpbrk(op->src_key, "%")) {
        /* Ceph decodes the key of a part's source a second time: "50%" becomes malformed, "%41"
         * another key. */
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP,
                       "this server cannot copy parts of a key with '%%'; stream it");
    }
    bool whole = op->src_offset == 0 && op->src_len == op->src_size;
    if (!whole && op->src_size <= s->part_copy_source_min) {
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP,
                       "ranges of objects this small cannot be copied");
    }
    int err = add_copy_source(s, call, op->src_key, op->src_etag, op->src_version_id, &r->headers,
                              reterr);
    if (err == 0 && !whole) {
        char name[128];
        dialect_set_range(&r->headers, vendor_name(s, "copy-source-range", name), op->src_offset,
                          op->src_len);
    }
    return err;
}

/* COS demands the MD5, and so do S3 servers that know no x-amz-checksum. */
static void set_own_body(struct dialect_request *r)
{
    uint8_t md5[DIGEST_MD5_LEN];
    r->body = r->own.data;
    r->body_len = r->own.len;
    digest_md5(r->own.data, r->own.len, md5);
    dialect_set_md5(&r->headers, "content-md5", md5);
    kv_set(&r->headers, "content-type", "application/xml");
}

static int build_many(const struct s3like *s, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_many *op = CONTAINER_OF(call->op, const struct be_many, op);
    r->method = "POST";
    kv_set(&r->query, "delete", "");
    if (s3xml_delete_body(op->keys, call->chosen, call->n_chosen, !s->removed_listed, &r->own) < 0) {
        return err_set(reterr, ERR_LOCAL, -ENOMEM, "delete: no memory");
    }
    set_own_body(r);
    return 0;
}

static int build_commit(const struct s3like *s, const struct dialect_call *call,
                        struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_commit *op = CONTAINER_OF(call->op, const struct be_commit, op);
    r->method = "POST";
    kv_set(&r->query, "uploadId", op->upload_id);
    add_conditions(s, op->if_match, op->if_absent, &r->headers);
    if (s3xml_complete_body(op->parts, op->n_parts, &r->own) < 0) {
        return err_set(reterr, ERR_LOCAL, -ENOMEM, "commit: no memory");
    }
    r->body = r->own.data;
    r->body_len = r->own.len;
    kv_set(&r->headers, "content-type", "application/xml");
    return 0;
}

/* A class that archives by itself takes no days: what it brings back it keeps until nobody reads it again. */
static int build_restore(const struct s3like *s, const struct be_restore *op,
                         struct dialect_request *r, struct errinfo *reterr)
{
    if (op->tier && !s->restore_job) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "%s has no tiers of restoring", s->site.name);
    }
    r->method = "POST";
    kv_set(&r->query, "restore", "");
    int err = buf_adds(&r->own, "<RestoreRequest>");
    if (err == 0 && strcasecmp(op->storage_class, "INTELLIGENT_TIERING") != 0) {
        err = buf_addf(&r->own, "<Days>%u</Days>", op->days);
    }
    if (err == 0 && op->tier) {
        err = buf_addf(&r->own, "<%s><Tier>", s->restore_job);
        err = err < 0 ? err : xml_escape(&r->own, op->tier, strlen(op->tier));
        err = err < 0 ? err : buf_addf(&r->own, "</Tier></%s>", s->restore_job);
    }
    err = err < 0 ? err : buf_adds(&r->own, "</RestoreRequest>");
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "restore: no memory");
    }
    set_own_body(r);
    return 0;
}

static void build_uploads(const struct s3like *s, const struct dialect_call *call,
                          struct dialect_request *r)
{
    const struct be_uploads *op = CONTAINER_OF(call->op, const struct be_uploads, op);
    const char *prefix = call->op->key ? call->op->key : op->prefix;
    kv_set(&r->query, "uploads", "");
    if (s->uploads_encoded) {
        kv_set(&r->query, "encoding-type", "url");
    }
    kv_set(&r->query, "max-uploads", "1000");
    if (prefix && prefix[0] != '\0') {
        kv_set(&r->query, "prefix", prefix);
    }
    if (call->page[0]) {
        kv_set(&r->query, "key-marker", call->page[0]);
    }
    if (call->page[1] && call->page[1][0] != '\0') {
        kv_set(&r->query, "upload-id-marker", call->page[1]);
    }
}

static int build_kind(const struct s3like *s, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    switch (call->kind) {
    case BE_STAT:
        r->method = "HEAD";
        return 0;
    case BE_READ:
        return build_read(s, CONTAINER_OF(call->op, const struct be_read, op), call->head, r);
    case BE_WRITE: {
        const struct be_write *op = CONTAINER_OF(call->op, const struct be_write, op);
        r->method = "PUT";
        r->body = op->data;
        r->body_len = op->len;
        if (op->md5) {
            dialect_set_md5(&r->headers, "content-md5", op->md5);
        }
        add_conditions(s, op->if_match, op->if_absent, &r->headers);
        return add_meta(s, op->meta, &r->headers, reterr);
    }
    case BE_REMOVE:
        r->method = "DELETE";
        add_conditions(s, CONTAINER_OF(call->op, const struct be_remove, op)->if_match, false,
                       &r->headers);
        return 0;
    case BE_LIST:
        return build_list(s, CONTAINER_OF(call->op, const struct be_list, op), r, reterr);
    case BE_COPY:
        r->method = "PUT";
        return build_copy(s, call, r, reterr);
    case BE_REMOVE_MANY:
        return build_many(s, call, r, reterr);
    case BE_MP_BEGIN:
        r->method = "POST";
        kv_set(&r->query, "uploads", "");
        return add_meta(s, CONTAINER_OF(call->op, const struct be_mp, op)->meta, &r->headers,
                        reterr);
    case BE_MP_PART:
        r->method = "PUT";
        return build_part(s, call, r, reterr);
    case BE_MP_COMMIT:
        return build_commit(s, call, r, reterr);
    case BE_MP_ABORT:
        r->method = "DELETE";
        kv_set(&r->query, "uploadId", CONTAINER_OF(call->op, const struct be_mp, op)->upload_id);
        return 0;
    case BE_MP_PARTS:
        kv_set(&r->query, "uploadId", CONTAINER_OF(call->op, const struct be_parts, op)->upload_id);
        kv_set(&r->query, "max-parts", "1000");
        if (call->page[0]) {
            kv_set(&r->query, "part-number-marker", call->page[0]);
        }
        return 0;
    case BE_MP_UPLOADS:
        build_uploads(s, call, r);
        return 0;
    case BE_RESTORE:
        return build_restore(s, CONTAINER_OF(call->op, const struct be_restore, op), r, reterr);
    case BE_KINDS:
        break;
    }
    return err_set(reterr, ERR_BUG, -EINVAL, "no such operation");
}

int s3like_build(const struct dialect_site *site, const struct dialect_call *call,
                 struct dialect_request *r, struct errinfo *reterr)
{
    const struct s3like *s = (const struct s3like *)(const void *)site;
    bool of_bucket =
        call->kind == BE_LIST || call->kind == BE_REMOVE_MANY || call->kind == BE_MP_UPLOADS;
    dialect_request_fini(r);
    r->method = "GET";
    kv_set(&r->headers, "host", site->host);
    int err = dialect_path(site, of_bucket ? "" : call->op->key, &r->path);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "path: no memory");
    }
    return build_kind(s, call, r, reterr);
}

bool s3like_can_batch(const struct dialect_site *site, const char *key)
{
    (void)site;
    return xml_can_carry(key, strlen(key));
}
