/* Requests of the Qiniu dialect. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "mem.h"
#include "qiniu.h"

#define FORM_TYPE "application/x-www-form-urlencoded"
#define DEFAULT_MIME "application/octet-stream"

/* --- pieces of paths */

static int no_memory(struct errinfo *reterr)
{
    return err_set(reterr, ERR_LOCAL, -ENOMEM, "request: no memory");
}

static int add_ub64(struct buf *out, const char *s)
{
    size_t n = strlen(s);
    CLEANUP(mem_freep) char *text = malloc(BASE64_LEN(n) + 1);
    if (!text) {
        return -ENOMEM;
    }
    base64url_encode(s, n, text);
    return buf_adds(out, text);
}

/* "/VERB/" and the object as the service names it. */
static int add_entry(struct buf *out, const char *verb, const char *bucket, const char *key)
{
    CLEANUP(mem_freep) char *name = mem_printf("%s:%s", bucket, key);
    int err = buf_addf(out, "/%s/", verb);
    return err < 0 ? err : add_ub64(out, name);
}

static int set_note(struct dialect_request *r, enum qiniu_sign how)
{
    return buf_addc(&r->note, (char)how);
}

/* A request to rs or rsf. */
static int as_request(struct dialect_request *r, const char *method)
{
    r->method = method;
    kv_set(&r->headers, "content-type", FORM_TYPE);
    return set_note(r, QINIU_SIGN_REQUEST);
}

/* What may be uploaded. type -1: the bucket's. */
static int add_policy(const struct qiniu *q, const char *key, int type, struct dialect_request *r)
{
    CLEANUP(mem_freep) char *scope = mem_printf("%s:%s", q->site.bucket, key);
    int err = buf_adds(&r->note, "\"scope\":");
    if (err == 0) {
        err = json_put_text(&r->note, scope);
    }
    if (err == 0 && type >= 0) {
        err = buf_addf(&r->note, ",\"fileType\":%d", type);
    }
    return err;
}

/* --- writing: a form of the token, the key, the metadata and the bytes */

struct form {
    struct buf *out;
    const char *boundary;
};

static int add_field(const struct form *f, const char *name, const char *value)
{
    return buf_addf(f->out, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n",
                    f->boundary, name, value);
}

static int add_fields(const struct form *f, const char *key, const struct qiniu_meta *m)
{
    int err = add_field(f, "key", key);
    for (size_t i = 0; i < m->fields.n && err == 0; i++) {
        err = add_field(f, m->fields.items[i].name, m->fields.items[i].value);
    }
    return err < 0 ? err
                   : buf_addf(f->out,
                              "--%s\r\nContent-Disposition: form-data; name=\"file\"; "
                              "filename=\"file\"\r\nContent-Type: %s\r\n\r\n",
                              f->boundary, m->mime ? m->mime : DEFAULT_MIME);
}

static bool fields_hold(const char *key, const struct qiniu_meta *m, const char *text)
{
    if (strstr(key, text) || (m->mime && strstr(m->mime, text))) {
        return true;
    }
    for (size_t i = 0; i < m->fields.n; i++) {
        if (strstr(m->fields.items[i].name, text) || strstr(m->fields.items[i].value, text)) {
            return true;
        }
    }
    return false;
}

/* The bytes' MD5 ends it, which they do not hold themselves. Fields can be made to hold it: so many
 * numbers cannot all be in them, and one that is not is found. */
static char *new_boundary(const uint8_t md5[DIGEST_MD5_LEN], const char *key,
                          const struct qiniu_meta *m)
{
    char hex[2 * DIGEST_MD5_LEN + 1];
    hex_encode(md5, DIGEST_MD5_LEN, hex);
    char *boundary = mem_printf("objmig-%s", hex);
    for (unsigned i = 0; fields_hold(key, m, boundary); i++) {
        free(boundary);
        boundary = mem_printf("objmig-%u-%s", i, hex);
    }
    return boundary;
}

static int build_write(const struct qiniu *q, const struct be_write *op, struct dialect_request *r,
                       struct errinfo *reterr)
{
    CLEANUP(qiniu_meta_fini) struct qiniu_meta m = {0};
    uint8_t md5[DIGEST_MD5_LEN];
    int err = qiniu_meta_from(q, op->meta, &m, reterr);
    if (err < 0) {
        return err;
    }
    /* The service checks no MD5 of a form; the hash it answers with is compared with the bytes that are read here. */
    digest_md5(op->data, op->len, md5);
    if (op->md5 && memcmp(md5, op->md5, sizeof(md5)) != 0) {
        return err_set(reterr, ERR_INTEGRITY, -EIO, "the bytes to be sent do not have their MD5");
    }
    CLEANUP(mem_freep) char *boundary = new_boundary(md5, op->op.key, &m);
    CLEANUP(mem_freep) char *type = mem_printf("multipart/form-data; boundary=%s", boundary);
    const struct form f = {&r->own, boundary};
    r->method = "POST";
    kv_set(&r->headers, "content-type", type);
    err = set_note(r, QINIU_SIGN_FORM);
    if (err == 0) {
        err = add_policy(q, op->op.key, m.type, r);
    }
    size_t room = QINIU_FORM_ROOM(r->note.len);
    if (err == 0) {
        err = buf_reserve(&r->own, room + op->len + 4096 + 2 * q->site.limits.max_meta);
    }
    if (err == 0) {
        memset(r->own.data, ' ', room);
        r->own.len = room;
        err = add_fields(&f, op->op.key, &m);
    }
    if (err == 0 && op->len > 0) {
        err = buf_add(&r->own, op->data, op->len);
    }
    if (err == 0) {
        err = buf_addf(&r->own, "\r\n--%s--\r\n", boundary);
    }
    if (err == 0) {
        err = buf_addc(&r->path, '/');
    }
    return err < 0 ? no_memory(reterr) : 0;
}

/* --- parts */

static int add_upload_path(const struct qiniu *q, const char *key, const char *id, unsigned number,
                           struct buf *out)
{
    int err = buf_addf(out, "/buckets/%s/objects/", q->site.bucket);
    if (err == 0) {
        err = add_ub64(out, key);
    }
    if (err == 0) {
        err = buf_adds(out, "/uploads");
    }
    if (err == 0 && id) {
        err = buf_addc(out, '/');
    }
    if (err == 0 && id) {
        err = url_encode(out, id, strlen(id), false);
    }
    return err == 0 && number > 0 ? buf_addf(out, "/%u", number) : err;
}

static int commit_body(const struct be_commit *op, const struct qiniu_meta *m, struct buf *out)
{
    int err = buf_adds(out, "{\"parts\":[");
    for (size_t i = 0; i < op->n_parts && err == 0; i++) {
        err = buf_addf(out, "%s{\"partNumber\":%u,\"etag\":", i > 0 ? "," : "",
                       op->parts[i].number);
        if (err == 0) {
            err = json_put_text(out, op->parts[i].etag);
        }
        if (err == 0) {
            err = buf_addc(out, '}');
        }
    }
    if (err == 0) {
        err = buf_adds(out, "],\"mimeType\":");
    }
    if (err == 0) {
        err = json_put_text(out, m->mime ? m->mime : DEFAULT_MIME);
    }
    for (size_t i = 0; i < m->fields.n && err == 0; i++) {
        err = buf_adds(out, i == 0 ? ",\"metadata\":{" : ",");
        if (err == 0) {
            err = json_put_text(out, m->fields.items[i].name);
        }
        if (err == 0) {
            err = buf_addc(out, ':');
        }
        if (err == 0) {
            err = json_put_text(out, m->fields.items[i].value);
        }
    }
    return err < 0 ? err : buf_adds(out, m->fields.n > 0 ? "}}" : "}");
}

static int build_commit(const struct qiniu *q, const struct be_commit *op,
                        struct dialect_request *r, struct errinfo *reterr)
{
    CLEANUP(qiniu_meta_fini) struct qiniu_meta m = {0};
    int err = qiniu_meta_from(q, op->meta, &m, reterr);
    if (err < 0) {
        return err;
    }
    kv_set(&r->headers, "content-type", "application/json");
    err = add_policy(q, op->op.key, m.type, r);
    if (err == 0) {
        err = commit_body(op, &m, &r->own);
    }
    r->body = r->own.data;
    r->body_len = r->own.len;
    return err < 0 ? no_memory(reterr) : 0;
}

/* An object's class is fixed by the policy of the commit [u]; the others say it too. */
static int build_upload(const struct qiniu *q, const struct dialect_call *call,
                        struct dialect_request *r, struct errinfo *reterr)
{
    const char *id = NULL;
    unsigned number = 0;
    int err = set_note(r, QINIU_SIGN_UPLOAD);
    if (call->kind == BE_MP_BEGIN) {
        r->method = "POST";
    } else if (call->kind == BE_MP_PART) {
        const struct be_part *op = CONTAINER_OF(call->op, const struct be_part, op);
        r->method = "PUT";
        id = op->upload_id;
        number = op->number;
        r->body = op->data;
        r->body_len = op->len;
        kv_set(&r->headers, "content-type", DEFAULT_MIME);
        if (op->md5) {
            char hex[2 * DIGEST_MD5_LEN + 1];
            hex_encode(op->md5, DIGEST_MD5_LEN, hex);
            kv_set(&r->headers, "content-md5", hex);
        }
    } else if (call->kind == BE_MP_ABORT) {
        r->method = "DELETE";
        id = CONTAINER_OF(call->op, const struct be_mp, op)->upload_id;
    } else if (call->kind == BE_MP_PARTS) {
        r->method = "GET";
        id = CONTAINER_OF(call->op, const struct be_parts, op)->upload_id;
        kv_set(&r->query, "max-parts", "1000");
        kv_set(&r->query, "part-number-marker", call->page[0]);
    } else {
        const struct be_commit *op = CONTAINER_OF(call->op, const struct be_commit, op);
        r->method = "POST";
        id = op->upload_id;
        err = err == 0 ? build_commit(q, op, r, reterr) : err;
        if (err < 0) {
            return err;
        }
    }
    if (err == 0 && call->kind != BE_MP_COMMIT) {
        err = add_policy(q, call->op->key, q->file_type, r);
    }
    if (err == 0) {
        err = add_upload_path(q, call->op->key, id, number, &r->path);
    }
    return err < 0 ? no_memory(reterr) : 0;
}

/* --- the rest */

/* Of a whole version that is meant the etag goes along: the domain's caches may keep older ones, by their whole URL. Its
 * If-Match is not relied upon: the driver compares the answer's etag. */
static int build_read(const struct qiniu *q, const struct be_read *op, struct dialect_request *r)
{
    r->method = "GET";
    int err = set_note(r, QINIU_SIGN_READ);
    if (err == 0) {
        err = dialect_path(&q->site, op->op.key, &r->path);
    }
    if (op->if_match) {
        kv_set(&r->query, "v", op->if_match);
    }
    dialect_set_range(&r->headers, "range", op->offset, op->len);
    return err;
}

/* A cursor is "MARKER\nKEY": entries up to KEY are left out. Markers are the service's secret, so a list that begins after a
 * key reads from the beginning, whole pages of it, "+" before the marker, until it gets there. */
static int build_list(const struct qiniu *q, const struct be_list *op, struct dialect_request *r,
                      struct errinfo *reterr)
{
    unsigned page = q->site.limits.list_page;
    bool seeks = op->cursor ? op->cursor[0] == '+' : op->start_after != NULL;
    const char *marker = op->cursor ? op->cursor + 1 : "";
    const char *end = strchr(marker, '\n');
    if (op->cursor && (!strchr("+-", op->cursor[0]) || !end)) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "not a cursor of this store");
    }
    CLEANUP(mem_freep) char *text = end ? mem_strndup(marker, (size_t)(end - marker)) : NULL;
    char delimiter[2] = {op->delimiter, '\0'};
    kv_set(&r->query, "bucket", q->site.bucket);
    dialect_set_number(&r->query, "limit", op->max > 0 && !seeks ? MIN(op->max, page) : page);
    kv_set(&r->query, "prefix", op->prefix[0] != '\0' ? op->prefix : NULL);
    kv_set(&r->query, "delimiter", delimiter[0] != '\0' ? delimiter : NULL);
    kv_set(&r->query, "marker", text && text[0] != '\0' ? text : NULL);
    int err = buf_adds(&r->path, "/list");
    return err < 0 || as_request(r, "POST") < 0 ? no_memory(reterr) : 0;
}

static int build_many(const struct qiniu *q, const struct dialect_call *call,
                      struct dialect_request *r)
{
    const struct be_many *op = CONTAINER_OF(call->op, const struct be_many, op);
    int err = buf_adds(&r->path, "/batch");
    for (size_t i = 0; i < call->n_chosen && err == 0; i++) {
        CLEANUP(buf_fini) struct buf entry = BUF_INIT;
        err = add_entry(&entry, "delete", q->site.bucket, op->keys[call->chosen[i]]);
        if (err == 0) {
            err = buf_adds(&r->own, i > 0 ? "&op=" : "op=");
        }
        if (err == 0) {
            err = url_encode(&r->own, entry.data, entry.len, false);
        }
    }
    r->body = r->own.data;
    r->body_len = r->own.len;
    return err < 0 ? err : as_request(r, "POST");
}

/* All metadata at once, and only while the object has that hash. What is not named goes [u]: QINIU_LOOK looks. */
static int build_meta(const struct qiniu *q, const struct be_copy *op, const char *seen,
                      struct dialect_request *r, struct errinfo *reterr)
{
    CLEANUP(qiniu_meta_fini) struct qiniu_meta m = {0};
    CLEANUP(mem_freep) char *condition = mem_printf("hash=%.*s", (int)strcspn(seen, " "), seen);
    int err = qiniu_meta_from(q, op->meta, &m, reterr);
    if (err < 0) {
        return err;
    }
    err = add_entry(&r->path, "chgm", q->site.bucket, op->op.key);
    if (err == 0) {
        err = buf_adds(&r->path, "/mime/");
    }
    if (err == 0) {
        err = add_ub64(&r->path, m.mime ? m.mime : DEFAULT_MIME);
    }
    for (size_t i = 0; i < m.fields.n && err == 0; i++) {
        err = buf_addf(&r->path, "/%s/", m.fields.items[i].name);
        if (err == 0) {
            err = add_ub64(&r->path, m.fields.items[i].value);
        }
    }
    if (err == 0) {
        err = buf_adds(&r->path, "/cond/");
    }
    if (err == 0) {
        err = add_ub64(&r->path, condition);
    }
    return err < 0 || as_request(r, "POST") < 0 ? no_memory(reterr) : 0;
}

static int build_copy(const struct qiniu *q, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    const struct be_copy *op = CONTAINER_OF(call->op, const struct be_copy, op);
    const char *step = call->page[0], *bucket = q->site.bucket, *key = op->op.key;
    if (!call->src || call->src->dialect != q->site.dialect) {
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP, "the source is not at this provider");
    }
    int err = 0;
    if (!step) {
        err = add_entry(&r->path, "stat", call->src->bucket, op->src_key);
    } else if (strcmp(step, QINIU_LOOK) == 0) {
        err = add_entry(&r->path, "stat", bucket, key);
    } else if (strcmp(step, QINIU_META) == 0) {
        return build_meta(q, op, call->page[1], r, reterr);
    } else if (strcmp(step, QINIU_TYPE) == 0) {
        CLEANUP(qiniu_meta_fini) struct qiniu_meta m = {0};
        err = qiniu_meta_from(q, op->meta, &m, reterr);
        if (err < 0) {
            return err;
        }
        err = add_entry(&r->path, "chtype", bucket, key);
        if (err == 0) {
            err = buf_addf(&r->path, "/type/%d", m.type);
        }
    } else {
        CLEANUP(mem_freep) char *name = mem_printf("%s:%s", bucket, key);
        err = add_entry(&r->path, "copy", call->src->bucket, op->src_key);
        if (err == 0) {
            err = buf_addc(&r->path, '/');
        }
        if (err == 0) {
            err = add_ub64(&r->path, name);
        }
        if (err == 0) {
            err = buf_adds(&r->path, "/force/true");
        }
    }
    bool looks = !step || strcmp(step, QINIU_LOOK) == 0;
    return err < 0 || as_request(r, looks ? "GET" : "POST") < 0 ? no_memory(reterr) : 0;
}

static int build_stat(const struct qiniu *q, const struct dialect_call *call,
                      struct dialect_request *r)
{
    int err = add_entry(&r->path, "stat", q->site.bucket, call->op->key);
    return err < 0 ? err : as_request(r, "GET");
}

#define RESTORE_DAYS_MAX 7

static int build_restore(const struct qiniu *q, const struct be_restore *op,
                         struct dialect_request *r, struct errinfo *reterr)
{
    if (op->tier || op->days > RESTORE_DAYS_MAX) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "Qiniu restores for 1 to %d days, and has no tiers",
                       RESTORE_DAYS_MAX);
    }
    int err = add_entry(&r->path, "restoreAr", q->site.bucket, op->op.key);
    err = err < 0 ? err : buf_addf(&r->path, "/freezeAfterDays/%u", op->days);
    return err < 0 ? err : as_request(r, "POST");
}

static int build_kind(const struct qiniu *q, const struct dialect_call *call,
                      struct dialect_request *r, struct errinfo *reterr)
{
    int err = 0;
    const char *host = q->site.host;
    switch (call->kind) {
    case BE_STAT:
        err = build_stat(q, call, r);
        break;
    case BE_READ: {
        const struct be_read *op = CONTAINER_OF(call->op, const struct be_read, op);
        bool download = qiniu_is_download(call);
        host = download ? q->io : q->site.host;
        err = download ? build_read(q, op, r) : build_stat(q, call, r);
        break;
    }
    case BE_WRITE:
        host = q->up;
        err = build_write(q, CONTAINER_OF(call->op, const struct be_write, op), r, reterr);
        break;
    case BE_REMOVE:
        err = add_entry(&r->path, "delete", q->site.bucket, call->op->key);
        err = err < 0 ? err : as_request(r, "POST");
        break;
    case BE_LIST:
        host = q->rsf;
        err = build_list(q, CONTAINER_OF(call->op, const struct be_list, op), r, reterr);
        break;
    case BE_COPY:
        err = build_copy(q, call, r, reterr);
        break;
    case BE_REMOVE_MANY:
        err = build_many(q, call, r);
        break;
    case BE_MP_BEGIN:
    case BE_MP_PART:
    case BE_MP_COMMIT:
    case BE_MP_ABORT:
    case BE_MP_PARTS:
        host = q->up;
        err = build_upload(q, call, r, reterr);
        break;
    case BE_RESTORE:
        err = build_restore(q, CONTAINER_OF(call->op, const struct be_restore, op), r, reterr);
        break;
    case BE_MP_UPLOADS:
    case BE_KINDS:
        return err_set(reterr, ERR_BUG, -EINVAL, "no such operation");
    }
    kv_set(&r->headers, "host", host);
    return err < 0 && reterr->cls == ERR_NONE ? no_memory(reterr) : err;
}

int qiniu_build(const struct dialect_site *site, const struct dialect_call *call,
                struct dialect_request *r, struct errinfo *reterr)
{
    dialect_request_fini(r);
    return build_kind(qiniu_of(site), call, r, reterr);
}
