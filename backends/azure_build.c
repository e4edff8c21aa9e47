/* Operations to unsigned requests, for Azure Blob. Pure. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_azure.h"
#include "digest.h"
#include "mem.h"

enum { WITH_USER = 1, WITH_STANDARD = 2, WITH_TIER = 4, WITH_SCOPE = 8, WITH_ALL = 15 };

static int set_tier(const struct azure *z, const char *class, struct kvlist *headers,
                    struct errinfo *reterr)
{
    const char *tier = azure_tier(class);
    if (!tier) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] '%.40s' is no access tier; Hot, Cool, Cold or Archive",
                       z->site.name, class);
    }
    kv_set(headers, "x-ms-access-tier", tier[0] != '\0' ? tier : NULL);
    return 0;
}

static int set_scope(const struct azure *z, const char *encryption, struct kvlist *headers,
                     struct errinfo *reterr)
{
    const char *scope = azure_scope(encryption);
    if (!scope) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] encryption '%.60s' is unknown; use AES256 or scope:NAME", z->site.name,
                       encryption);
    }
    kv_set(headers, "x-ms-encryption-scope", scope[0] != '\0' ? scope : NULL);
    return 0;
}

/* The headers of a new object: those of `which`. */
static int add_meta(const struct azure *z, const struct kvlist *meta, unsigned which,
                    struct kvlist *headers, struct errinfo *reterr)
{
    size_t bytes = 0;
    int err = 0;
    if (which & WITH_TIER) {
        kv_set(headers, "x-ms-access-tier", z->tier[0] != '\0' ? z->tier : NULL);
    }
    if (which & WITH_SCOPE) {
        kv_set(headers, "x-ms-encryption-scope", z->scope[0] != '\0' ? z->scope : NULL);
    }
    for (size_t i = 0; meta && i < meta->n && err == 0; i++) {
        const struct kv *m = &meta->items[i];
        bool user = strncasecmp(m->name, "meta-", 5) == 0;
        if (!user && !dialect_header_value_ok(m->value)) {
            return err_set(reterr, ERR_INVALID, -EINVAL, "%.60s: has control characters", m->name);
        }
        if (user) {
            if (which & WITH_USER) {
                err = dialect_add_user_meta(AZURE_META, m->name + 5, azure_name_encode, m->value,
                                            headers, &bytes, reterr);
            }
        } else if (strcasecmp(m->name, "expires") == 0) {
            if ((which & WITH_USER) && m->value[0] != '\0') {
                err = dialect_add_user_meta(AZURE_META, AZURE_EXPIRES, NULL, m->value, headers,
                                            &bytes, reterr);
            }
        } else if (dialect_is_standard(m->name)) {
            if ((which & WITH_STANDARD) && m->value[0] != '\0') {
                CLEANUP(mem_freep) char *name = mem_printf("x-ms-blob-%s", m->name);
                kv_set(headers, name, m->value);
            }
        } else if (strcasecmp(m->name, "storage-class") == 0) {
            err = which & WITH_TIER ? set_tier(z, m->value, headers, reterr) : 0;
        } else if (strcasecmp(m->name, "encryption") == 0) {
            err = which & WITH_SCOPE ? set_scope(z, m->value, headers, reterr) : 0;
        } else {
            return err_set(reterr, ERR_INVALID, -EINVAL, "'%.60s' is no metadata this store keeps",
                           m->name);
        }
    }
    if (err == 0 && bytes > z->site.limits.max_meta) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "%zu bytes of user metadata as they are sent, and %s takes %u", bytes,
                       z->site.name, z->site.limits.max_meta);
    }
    return err;
}

static void add_conditions(const char *if_match, bool if_absent, struct kvlist *headers)
{
    if (if_match) {
        dialect_set_etag(headers, "if-match", if_match);
    }
    if (if_absent) {
        kv_set(headers, "if-none-match", "*");
    }
}

static void build_read(const struct be_read *op, bool head, struct dialect_request *r)
{
    add_conditions(op->if_match, false, &r->headers);
    if (head || op->len == 0) {
        r->method = "HEAD";
    } else {
        dialect_set_range(&r->headers, "x-ms-range", op->offset, op->len);
    }
}

static void list_query(const char *prefix, const char *marker, unsigned max, struct kvlist *q)
{
    kv_set(q, "restype", "container");
    kv_set(q, "comp", "list");
    dialect_set_number(q, "maxresults", max);
    kv_set(q, "prefix", prefix && prefix[0] != '\0' ? prefix : NULL);
    kv_set(q, "marker", marker && marker[0] != '\0' ? marker : NULL);
}

static int build_list(const struct azure *z, const struct be_list *op, struct dialect_request *r,
                      struct errinfo *reterr)
{
    unsigned page = z->site.limits.list_page;
    const char *after = NULL, *marker = NULL;
    size_t after_len = 0;
    if (op->cursor && !azure_cursor_parse(op->cursor, &after, &after_len, &marker)) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "not a cursor of this store");
    }
    list_query(op->prefix, marker, op->max > 0 ? MIN(op->max, page) : page, &r->query);
    if (op->delimiter != 0) {
        char delimiter[2] = {op->delimiter, '\0'};
        kv_set(&r->query, "delimiter", delimiter);
    }
    return 0;
}

/* Copy sources are URLs, signed for reading by sign. */
static int add_copy_source(const struct azure *z, const struct dialect_call *call, const char *key,
                           const char *etag, struct dialect_request *r, struct errinfo *reterr)
{
    const struct dialect_site *src = call->src;
    if (!src || src->dialect != z->site.dialect) {
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP, "the source is not at this provider");
    }
    CLEANUP(buf_fini) struct buf url = BUF_INIT;
    int err = buf_addf(&url, "%s://%s", src->https ? "https" : "http", src->host);
    if (err == 0) {
        err = dialect_path(src, key, &url);
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "copy source: no memory");
    }
    kv_set(&r->headers, "x-ms-copy-source", buf_str(&url));
    if (etag && etag[0] != '\0') {
        dialect_set_etag(&r->headers, "x-ms-source-if-match", etag);
    }
    r->src = src;
    r->src_key = key;
    return 0;
}

bool azure_copies_itself(const struct dialect_site *site, const struct dialect_call *call)
{
    const struct be_copy *op = CONTAINER_OF(call->op, const struct be_copy, op);
    return strcmp(op->src_key, op->op.key) == 0 && strcmp(call->src->identity, site->identity) == 0;
}

static bool has_user_meta(const struct kvlist *meta)
{
    for (size_t i = 0; meta && i < meta->n; i++) {
        if (strncasecmp(meta->items[i].name, "meta-", 5) == 0 ||
            strcasecmp(meta->items[i].name, "expires") == 0) {
            return true;
        }
    }
    return false;
}

/* Whether a copy with the source's own properties would have others than are wanted. */
static bool properties_differ(const struct be_copy *op, const struct kvlist *there)
{
    for (size_t i = 0; dialect_standard_headers[i]; i++) {
        const char *name = dialect_standard_headers[i];
        const char *want = op->meta ? kv_get(op->meta, name) : NULL, *has = kv_get(there, name);
        if (strcmp(name, "expires") == 0) {
            continue;
        }
        if (strcmp(name, "content-type") == 0 && (!want || want[0] == '\0')) {
            want = "application/octet-stream"; /* the service's own */
        }
        if (strcmp(want ? want : "", has ? has : "") != 0) {
            return true;
        }
    }
    return false;
}

enum azure_copy azure_copy_step(const struct dialect_site *site, const struct dialect_call *call,
                                bool *ret_more)
{
    const struct be_copy *op = CONTAINER_OF(call->op, const struct be_copy, op);
    const struct kvlist *there = &call->source->meta;
    enum azure_copy steps[3];
    unsigned n = 0;
    bool itself = azure_copies_itself(site, call), differ = properties_differ(op, there);
    /* Copy Blob without any metadata takes the source's */
    bool whole = !itself && !differ && (has_user_meta(op->meta) || !has_user_meta(there));
    if (!itself) {
        steps[n++] = whole ? AZURE_COPY_WHOLE : AZURE_COPY_BARE;
    }
    if (differ) {
        steps[n++] = AZURE_COPY_PROPERTIES;
    }
    if (!whole) {
        steps[n++] = AZURE_COPY_METADATA;
    }
    *ret_more = call->step + 1 < n;
    return steps[MIN(call->step, n - 1)];
}

static int build_copy(const struct azure *z, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_copy *op = CONTAINER_OF(call->op, const struct be_copy, op);
    if (!call->source) {
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP, "the source is not at this provider");
    }
    bool more;
    enum azure_copy step = azure_copy_step(&z->site, call, &more);
    r->method = "PUT";
    if (step == AZURE_COPY_WHOLE || step == AZURE_COPY_BARE) {
        size_t bytes = 0;
        kv_set(&r->headers, "x-ms-requires-sync", "true");
        int err = add_copy_source(z, call, op->src_key, op->src_etag, r, reterr);
        if (err == 0 && step == AZURE_COPY_BARE) {
            err = dialect_add_user_meta(AZURE_META, "_incomplete", NULL, "1", &r->headers, &bytes,
                                        reterr);
        }
        unsigned which = WITH_TIER | WITH_SCOPE | (step == AZURE_COPY_WHOLE ? WITH_USER : 0);
        return err == 0 ? add_meta(z, op->meta, which, &r->headers, reterr) : err;
    }
    /* of the blob as the step before left it */
    const char *etag = call->step > 0 ? op->object.etag : op->src_etag;
    add_conditions(etag && etag[0] != '\0' ? etag : NULL, false, &r->headers);
    if (step == AZURE_COPY_METADATA) {
        kv_set(&r->query, "comp", "metadata");
        return add_meta(z, op->meta, WITH_USER, &r->headers, reterr);
    }
    kv_set(&r->query, "comp", "properties");
    /* what is not sent is taken away */
    kv_set(&r->headers, "x-ms-blob-content-md5", kv_get(&call->source->meta, "content-md5"));
    return add_meta(z, op->meta, WITH_STANDARD, &r->headers, reterr);
}

static int no_upload(const struct azure *z, struct errinfo *reterr)
{
    if (reterr) {
        snprintf(reterr->code, sizeof(reterr->code), "NoSuchUpload");
    }
    return err_set(reterr, ERR_ABSENT, -ENOENT, "[%s] that is no upload of this store",
                   z->site.name);
}

static int build_part(const struct azure *z, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_part *op = CONTAINER_OF(call->op, const struct be_part, op);
    char etag[AZURE_ETAG_LEN + 1], id[AZURE_BLOCK_LEN + 1], text[BASE64_LEN(AZURE_BLOCK_LEN) + 1];
    azure_part_etag(op, etag);
    if (op->number == 0 || op->number > z->site.limits.max_parts) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "there is no part %u", op->number);
    }
    if (!azure_block_id(op->upload_id, op->number, etag, id)) {
        return no_upload(z, reterr);
    }
    r->method = "PUT";
    base64_encode(id, AZURE_BLOCK_LEN, text);
    kv_set(&r->query, "comp", "block");
    kv_set(&r->query, "blockid", text);
    if (z->scope[0] != '\0') {
        kv_set(&r->headers, "x-ms-encryption-scope", z->scope);
    }
    if (op->src) {
        dialect_set_range(&r->headers, "x-ms-source-range", op->src_offset, op->src_len);
        return add_copy_source(z, call, op->src_key, op->src_etag, r, reterr);
    }
    uint8_t md5[DIGEST_MD5_LEN];
    (void)hex_decode(etag, sizeof(md5), md5);
    dialect_set_md5(&r->headers, "content-md5", md5);
    r->body = op->data;
    r->body_len = op->len;
    return 0;
}

/* The whole's MD5, when it is one that was computed and not handed down. The service keeps it without
 * checking it. */
static void add_whole_md5(const struct kvlist *meta, struct kvlist *headers)
{
    uint8_t md5[DIGEST_MD5_LEN];
    const char *hex = meta ? kv_get(meta, "meta-md5") : NULL;
    if (hex && !kv_get(meta, "meta-md5-from") && hex_decode(hex, sizeof(md5), md5)) {
        dialect_set_md5(headers, "x-ms-blob-content-md5", md5);
    }
}

static int build_commit(const struct azure *z, const struct dialect_call *call,
                        struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_commit *op = CONTAINER_OF(call->op, const struct be_commit, op);
    int err = buf_adds(&r->own, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for (size_t i = 0; i < op->n_parts && err == 0; i++) {
        const struct be_part_id *p = &op->parts[i];
        char id[AZURE_BLOCK_LEN + 1], text[BASE64_LEN(AZURE_BLOCK_LEN) + 1];
        if (p->number == 0 || (i > 0 && p->number <= op->parts[i - 1].number)) {
            return err_set(reterr, ERR_INVALID, -EINVAL, "the parts are not in order");
        }
        if (!azure_block_id(op->upload_id, p->number, p->etag, id)) {
            return no_upload(z, reterr);
        }
        base64_encode(id, AZURE_BLOCK_LEN, text);
        err = buf_addf(&r->own, "<Uncommitted>%s</Uncommitted>", text);
    }
    if (err == 0) {
        err = buf_adds(&r->own, "</BlockList>");
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "commit: no memory");
    }
    r->method = "PUT";
    r->body = r->own.data;
    r->body_len = r->own.len;
    kv_set(&r->query, "comp", "blocklist");
    kv_set(&r->headers, "content-type", "application/xml");
    add_conditions(op->if_match, op->if_absent, &r->headers);
    add_whole_md5(op->meta, &r->headers);
    return add_meta(z, op->meta, WITH_ALL, &r->headers, reterr);
}

static void blocks_query(struct kvlist *q)
{
    kv_set(q, "comp", "blocklist");
    kv_set(q, "blocklisttype", "uncommitted");
}

static int build_uploads(const struct azure *z, const struct dialect_call *call,
                         struct dialect_request *r)
{
    const struct be_uploads *op = CONTAINER_OF(call->op, const struct be_uploads, op);
    CLEANUP(mem_freep) char *key = call->page[0] ? azure_state_key(call->page[0]) : NULL;
    if (key) {
        buf_clear(&r->path);
        blocks_query(&r->query);
        return dialect_path(&z->site, key, &r->path);
    }
    CLEANUP(mem_freep) char *marker = call->page[0] ? azure_state_marker(call->page[0]) : NULL;
    list_query(op->op.key ? op->op.key : op->prefix, marker,
               op->op.key ? 1 : z->site.limits.list_page, &r->query);
    kv_set(&r->query, "include", "uncommittedblobs");
    return 0;
}

static int build_write(const struct azure *z, const struct be_write *op, struct dialect_request *r,
                       struct errinfo *reterr)
{
    r->method = "PUT";
    r->body = op->data;
    r->body_len = op->len;
    kv_set(&r->headers, "x-ms-blob-type", "BlockBlob");
    if (op->md5) {
        dialect_set_md5(&r->headers, "content-md5", op->md5);
    }
    add_conditions(op->if_match, op->if_absent, &r->headers);
    return add_meta(z, op->meta, WITH_ALL, &r->headers, reterr);
}

static int build_kind(const struct azure *z, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    struct be_op *op = call->op;
    switch (call->kind) {
    case BE_STAT:
        r->method = "HEAD";
        return 0;
    case BE_READ:
        build_read(CONTAINER_OF(op, const struct be_read, op), call->head, r);
        return 0;
    case BE_WRITE:
        return build_write(z, CONTAINER_OF(op, const struct be_write, op), r, reterr);
    case BE_REMOVE:
        r->method = "DELETE";
        add_conditions(CONTAINER_OF(op, const struct be_remove, op)->if_match, false, &r->headers);
        return 0;
    case BE_LIST:
        return build_list(z, CONTAINER_OF(op, const struct be_list, op), r, reterr);
    case BE_COPY:
        return build_copy(z, call, r, reterr);
    case BE_MP_PART:
        return build_part(z, call, r, reterr);
    case BE_MP_COMMIT:
        return build_commit(z, call, r, reterr);
    case BE_MP_PARTS:
        blocks_query(&r->query);
        return 0;
    case BE_MP_UPLOADS:
        return build_uploads(z, call, r) < 0
                   ? err_set(reterr, ERR_LOCAL, -ENOMEM, "uploads: no memory")
                   : 0;
    case BE_RESTORE: {
        /* There are no days: the object leaves the archive for good. */
        const struct be_restore *o = CONTAINER_OF(op, const struct be_restore, op);
        r->method = "PUT";
        kv_set(&r->query, "comp", "tier");
        kv_set(&r->headers, "x-ms-access-tier", "Hot");
        if (o->tier) {
            kv_set(&r->headers, "x-ms-rehydrate-priority", o->tier);
        }
        return 0;
    }
    case BE_REMOVE_MANY:
        return azure_batch_build(&z->site, call, r) < 0
                   ? err_set(reterr, ERR_LOCAL, -ENOMEM, "delete: no memory")
                   : 0;
    case BE_MP_BEGIN: /* done at once */
    case BE_MP_ABORT:
    case BE_KINDS:
        break;
    }
    return err_set(reterr, ERR_BUG, -EINVAL, "no such operation");
}

int azure_build(const struct dialect_site *site, const struct dialect_call *call,
                struct dialect_request *r, struct errinfo *reterr)
{
    bool of_container = call->kind == BE_LIST || call->kind == BE_MP_UPLOADS ||
                        call->kind == BE_REMOVE_MANY;
    dialect_request_fini(r);
    r->method = "GET";
    kv_set(&r->headers, "host", site->host);
    kv_set(&r->headers, "x-ms-version", AZURE_VERSION);
    int err = of_container ? buf_adds(&r->path, site->base)
                           : dialect_path(site, call->op->key, &r->path);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "path: no memory");
    }
    return build_kind(azure_of(site), call, r, reterr);
}
