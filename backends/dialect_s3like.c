/* Answers to results, for the S3 family. Pure; see s3like_build.c for requests, s3like_errors.c for refusals. */
#include "dialect_s3like.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "mem.h"
#include "s3xml.h"
#include "xml.h"

static const struct s3like *of(const struct dialect_site *site)
{
    return (const struct s3like *)(const void *)site;
}

const char *s3like_header(const struct s3like *s, const struct kvlist *headers, const char *name)
{
    char full[128];
    snprintf(full, sizeof(full), "%s%s", s->vendor, name);
    return kv_get(headers, full);
}

static int reported(const struct s3like *s, const struct dialect_answer *a,
                    const struct s3xml_error *e, struct errinfo *reterr)
{
    reterr->http_status = a->http_status;
    s3like_set_error(s, a, e, reterr);
    return err_to_errno(reterr);
}

/* For an answer that is not the document asked for: an <Error>, or nothing useful. */
static int not_expected(const struct s3like *s, const struct dialect_answer *a, const char *what,
                        struct errinfo *reterr)
{
    struct s3xml_error e = {0};
    int err = s3xml_error(a->body, a->body_len, &e) ? reported(s, a, &e, reterr)
                                                    : dialect_garbled(a, reterr, what);
    s3xml_error_fini(&e);
    return err;
}

/* --- headers */

/* One of the digests in x-goog-hash, "crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ==" (or a header
 * each, which arrive joined). False when it is not there, or not of that length. */
static bool goog_hash(const struct kvlist *h, const char *name, void *ret, size_t len)
{
    const char *p = kv_get(h, "x-goog-hash");
    size_t n = strlen(name);
    while (p && *p) {
        p += strspn(p, ", ");
        size_t item = strcspn(p, ",");
        uint8_t bytes[32];
        size_t got = 0, blanks = item;
        while (blanks > 0 && p[blanks - 1] == ' ') {
            blanks--;
        }
        if (blanks > n && blanks - n - 1 <= 40 && strncasecmp(p, name, n) == 0 && p[n] == '=' &&
            base64_decode(p + n + 1, blanks - n - 1, bytes, &got) && got == len) {
            memcpy(ret, bytes, len);
            return true;
        }
        p += item;
    }
    return false;
}

static void crc32c_of(const struct s3like *s, const struct kvlist *h, struct be_object *o)
{
    uint8_t crc[4];
    uint64_t v = 0;
    if (s->goog_hash && goog_hash(h, "crc32c", crc, sizeof(crc))) {
        o->has_crc32c = true;
        o->crc32c =
            (uint32_t)crc[0] << 24 | (uint32_t)crc[1] << 16 | (uint32_t)crc[2] << 8 | crc[3];
    } else if (s->crc32c_header && dialect_u64(kv_get(h, s->crc32c_header), &v) &&
               v <= UINT32_MAX) {
        o->has_crc32c = true;
        o->crc32c = (uint32_t)v;
    }
}

bool s3like_etag_is_md5(const struct s3like *s, const struct kvlist *h, const char *etag)
{
    if (s->goog_hash) { /* composed objects have no MD5, and encrypted ones another etag */
        uint8_t md5[DIGEST_MD5_LEN];
        char hex[2 * DIGEST_MD5_LEN + 1] = "";
        if (goog_hash(h, "md5", md5, sizeof(md5))) {
            hex_encode(md5, sizeof(md5), hex);
        }
        return hex[0] != '\0' && strcasecmp(hex, etag) == 0;
    }
    const char *sse = s3like_header(s, h, "server-side-encryption");
    const char *type = s3like_header(s, h, "object-type");
    return dialect_etag_is_hex(etag) && (!sse || strcmp(sse, "AES256") == 0) &&
           !s3like_header(s, h, "server-side-encryption-customer-algorithm") &&
           (!type || strcasecmp(type, "normal") == 0);
}

static bool class_is_default(const struct s3like *s, const char *class)
{
    return strcmp(class, s->classes ? s->classes[0] : "STANDARD") == 0;
}

int s3like_object_of(const struct s3like *s, const struct dialect_answer *a, struct be_object *o,
                     struct errinfo *reterr)
{
    const struct kvlist *h = a->headers;
    const char *etag = kv_get(h, "etag"), *class = s3like_header(s, h, "storage-class");
    const char *version = s3like_header(s, h, "version-id");
    if (etag && !dialect_etag(etag, o->etag)) {
        return dialect_garbled(a, reterr, "etag");
    }
    o->etag_is_md5 = s3like_etag_is_md5(s, h, o->etag);
    o->mtime_ns = dialect_http_date(kv_get(h, "last-modified"));
    o->has_crc64 = s->crc64_header && dialect_u64(kv_get(h, s->crc64_header), &o->crc64);
    crc32c_of(s, h, o);
    if (version && strcmp(version, "null") != 0 && strlen(version) < sizeof(o->version_id)) {
        memcpy(o->version_id, version, strlen(version) + 1);
    }
    if (class && !class_is_default(s, class) && strlen(class) < sizeof(o->storage_class)) {
        memcpy(o->storage_class, class, strlen(class) + 1);
    }
    return 0;
}

static void meta_of(const struct s3like *s, const struct kvlist *h, struct kvlist *meta)
{
    size_t vendor = strlen(s->vendor);
    for (size_t i = 0; i < h->n; i++) {
        const char *name = h->items[i].name;
        if (strncasecmp(name, s->vendor, vendor) == 0 &&
            strncasecmp(name + vendor, "meta-", 5) == 0 && name[vendor + 5] != '\0') {
            CLEANUP(mem_freep) char *lower = mem_strdup(name + vendor);
            CLEANUP(mem_freep) char *value = dialect_meta_decode(h->items[i].value);
            for (char *p = lower; *p; p++) {
                *p = (char)tolower((unsigned char)*p);
            }
            CLEANUP(mem_freep) char *plain =
                s->meta_names_plain ? dialect_meta_name_decode(lower) : TAKE(lower);
            kv_set(meta, plain, value);
        }
    }
    dialect_meta_standard(h, meta);
    const char *class = s3like_header(s, h, "storage-class");
    const char *sse = s3like_header(s, h, "server-side-encryption");
    if (class && !class_is_default(s, class)) {
        kv_set(meta, "storage-class", class);
    }
    if (sse) {
        kv_set(meta, "encryption", sse);
    }
}

/* --- operations */

static int parse_stat(const struct s3like *s, const struct dialect_answer *a, bool etag_needed,
                      struct be_object *object, struct kvlist *meta, struct errinfo *reterr)
{
    struct be_object o = {0};
    int err = s3like_object_of(s, a, &o, reterr);
    if (err == 0 && !dialect_u64(kv_get(a->headers, "content-length"), &o.size)) {
        err = dialect_garbled(a, reterr, "no Content-Length");
    }
    if (err == 0 && etag_needed && o.etag[0] == '\0') {
        err = dialect_garbled(a, reterr, "no etag");
    }
    if (err == 0) {
        *object = o;
        meta_of(s, a->headers, meta);
    }
    return err;
}

static int parse_read(const struct s3like *s, const struct dialect_answer *a, struct be_read *op,
                      struct errinfo *reterr)
{
    struct be_object o = {0};
    int err = s3like_object_of(s, a, &o, reterr);
    if (err == 0) {
        err = dialect_read_size(a, op, &o.size, reterr);
    }
    if (err < 0) {
        return err;
    }
    op->object = o;
    op->got = (size_t)a->body_got;
    meta_of(s, a->headers, &op->meta);
    return 0;
}

static int parse_list(const struct s3like *s, const struct dialect_answer *a, struct be_list *op,
                      struct dialect_page *page, struct errinfo *reterr)
{
    struct s3xml_error e = {0};
    int err = a->stream ? s3xml_list_finish(a->stream, s->list_version, s->plus_is_space, op, &e,
                                            &page->unshowable)
                        : -EBADMSG;
    if (err == 0) {
        op->server_date_ns = dialect_http_date(kv_get(a->headers, "date"));
    } else if (err == -EREMOTEIO) {
        err = reported(s, a, &e, reterr);
    } else {
        err = dialect_garbled(a, reterr, "list");
    }
    s3xml_error_fini(&e);
    return err;
}

/* CopyObjectResult, CopyPartResult and CompleteMultipartUploadResult: an etag in the body. */
static int parse_result(const struct s3like *s, const struct dialect_answer *a, const char *root,
                        bool etag_needed, struct be_object *object, uint64_t size,
                        struct errinfo *reterr)
{
    struct xml_field f[] = {{"*/ETag", NULL}, {"*/LastModified", NULL}, {"*/CRC64", NULL}};
    struct be_object o = {0};
    char got_root[XML_ROOT_MAX];
    int err = xml_read(a->body, a->body_len, f, ARRAY_LEN(f), got_root);
    if (err < 0 || strcmp(got_root, root) != 0) {
        err = not_expected(s, a, root, reterr);
    } else {
        err = s3like_object_of(s, a, &o, reterr);
        o.etag[0] = '\0';
        if (err == 0 && f[0].value && !dialect_etag(f[0].value, o.etag)) {
            err = dialect_garbled(a, reterr, "etag");
        } else if (err == 0 && etag_needed && o.etag[0] == '\0') {
            err = dialect_garbled(a, reterr, "no etag");
        }
    }
    if (err == 0) {
        o.etag_is_md5 = s3like_etag_is_md5(s, a->headers, o.etag);
        o.mtime_ns = dialect_iso_date(f[1].value) / 1000000000 * 1000000000;
        o.size = size;
        if (!o.has_crc64 && s->crc64_header && f[2].value) {
            o.has_crc64 = dialect_u64(f[2].value, &o.crc64);
        }
        *object = o;
    }
    xml_fields_fini(f, ARRAY_LEN(f));
    return err;
}

static int parse_begin(const struct s3like *s, const struct dialect_answer *a, struct be_mp *op,
                       struct errinfo *reterr)
{
    struct xml_field f[] = {{"InitiateMultipartUploadResult/UploadId", NULL}};
    int err = xml_read(a->body, a->body_len, f, ARRAY_LEN(f), NULL);
    if (err < 0 || !f[0].value || f[0].value[0] == '\0') {
        err = not_expected(s, a, "no UploadId", reterr);
    } else {
        op->upload_id = TAKE(f[0].value);
    }
    xml_fields_fini(f, ARRAY_LEN(f));
    return err;
}

static int parse_bytes(const struct s3like *s, const struct dialect_answer *a, bool etag_needed,
                       struct be_object *object, uint64_t size, struct errinfo *reterr)
{
    struct be_object o = {0};
    int err = s3like_object_of(s, a, &o, reterr);
    if (err == 0 && a->body_len > 0) {
        struct s3xml_error e = {0};
        if (s3xml_error(a->body, a->body_len, &e)) {
            err = reported(s, a, &e, reterr);
        }
        s3xml_error_fini(&e);
    }
    if (err == 0 && etag_needed && o.etag[0] == '\0') {
        err = dialect_garbled(a, reterr, "no etag");
    }
    if (err == 0) {
        o.size = size;
        *object = o;
    }
    return err;
}

struct many {
    const struct s3like *s;
    const struct dialect_call *call;
    const struct be_many *op;
    struct errinfo *errs; /* by position in call->chosen, so that nothing is written before the
                             document proved whole */
    size_t hint;
};

static int one_told(void *ctx, const char *key, const char *code, const char *message)
{
    struct many *m = ctx;
    for (size_t n = 0; n < m->call->n_chosen; n++) {
        size_t i = (m->hint + n) % m->call->n_chosen; /* answers mostly keep the order */
        if (strcmp(m->op->keys[m->call->chosen[i]], key) == 0) {
            struct errinfo *e = &m->errs[i];
            m->hint = i + 1;
            if (!code) {
                err_clear(e);
                return 0;
            }
            enum err_class cls = s3like_class_of_code(m->s, code, message, 200);
            if (cls == ERR_ABSENT && strcmp(code, "NoSuchBucket") != 0) {
                return 0; /* what is not there is removed */
            }
            e->http_status = 200;
            dialect_text(e->code, sizeof(e->code), code);
            err_set(e, cls, 0, "%s", message);
            return 0;
        }
    }
    return -EBADMSG;
}

int s3like_many(const struct s3like *s, const struct dialect_call *call,
                const struct dialect_answer *a, s3like_deletes_fn *read)
{
    struct many m = {.s = s, .call = call, .op = CONTAINER_OF(call->op, const struct be_many, op)};
    m.errs = mem_zalloc(MAX(call->n_chosen, (size_t)1) * sizeof(*m.errs));
    for (size_t i = 0; s->removed_listed && i < call->n_chosen; i++) {
        m.errs[i].http_status = a->http_status;
        err_set(&m.errs[i], ERR_TRANSIENT, 0, "not among what the server says it removed");
    }
    int err = read(a->body, a->body_len, s->removed_listed, one_told, &m);
    for (size_t i = 0; i < call->n_chosen && err == 0; i++) {
        call->errs[call->chosen[i]] = m.errs[i];
    }
    free(m.errs);
    return err;
}

static int parse_commit(const struct s3like *s, const struct dialect_call *call,
                        const struct dialect_answer *a, struct errinfo *reterr)
{
    struct be_commit *op = CONTAINER_OF(call->op, struct be_commit, op);
    uint64_t size = 0;
    for (size_t i = 0; i < op->n_parts; i++) {
        size += op->parts[i].size;
    }
    return parse_result(s, a, "CompleteMultipartUploadResult", false, &op->object, size, reterr);
}

static int parse_uploads(const struct s3like *s, const struct dialect_call *call,
                         const struct dialect_answer *a, struct dialect_page *page,
                         struct errinfo *reterr)
{
    int err = s3xml_uploads(a->body, a->body_len, s->plus_is_space, &page->uploads,
                            &page->n_uploads, &page->next[0], &page->next[1]);
    if (err < 0) {
        return not_expected(s, a, "ListMultipartUploadsResult", reterr);
    }
    if (call->op->key) {
        dialect_page_only(page, call->op->key);
    }
    return 0;
}

int s3like_parse(const struct dialect_site *site, const struct dialect_call *call,
                 const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr)
{
    const struct s3like *s = of(site);
    struct be_op *op = call->op;
    switch (call->kind) {
    case BE_STAT: {
        struct be_stat *o = CONTAINER_OF(op, struct be_stat, op);
        return parse_stat(s, a, true, &o->object, &o->meta, reterr);
    }
    case BE_READ: {
        struct be_read *o = CONTAINER_OF(op, struct be_read, op);
        if (call->head || o->len == 0) {
            return parse_stat(s, a, false, &o->object, &o->meta, reterr);
        }
        return parse_read(s, a, o, reterr);
    }
    case BE_WRITE: {
        struct be_write *o = CONTAINER_OF(op, struct be_write, op);
        return parse_bytes(s, a, false, &o->object, o->len, reterr);
    }
    case BE_LIST:
        return parse_list(s, a, CONTAINER_OF(op, struct be_list, op), page, reterr);
    case BE_COPY: {
        struct be_copy *o = CONTAINER_OF(op, struct be_copy, op);
        return parse_result(s, a, "CopyObjectResult", true, &o->object, o->size, reterr);
    }
    case BE_REMOVE_MANY:
        return s3like_many(s, call, a, s3xml_deletes) < 0
                   ? not_expected(s, a, "DeleteResult", reterr)
                   : 0;
    case BE_MP_BEGIN:
        return parse_begin(s, a, CONTAINER_OF(op, struct be_mp, op), reterr);
    case BE_MP_PART: {
        struct be_part *o = CONTAINER_OF(op, struct be_part, op);
        if (o->src) {
            return parse_result(s, a, "CopyPartResult", true, &o->object, o->src_len, reterr);
        }
        return parse_bytes(s, a, true, &o->object, o->len, reterr);
    }
    case BE_MP_COMMIT:
        return parse_commit(s, call, a, reterr);
    case BE_MP_PARTS:
        if (s3xml_parts(a->body, a->body_len, &page->parts, &page->n_parts, &page->next[0]) < 0) {
            return not_expected(s, a, "ListPartsResult", reterr);
        }
        return 0;
    case BE_MP_UPLOADS:
        return parse_uploads(s, call, a, page, reterr);
    case BE_RESTORE:
        /* 200: it was restored before, and is for longer now; 409: asked for before; 4xx: is in no archive */
        CONTAINER_OF(op, struct be_restore, op)->state = a->http_status == 202   ? BE_RESTORE_BEGUN
                                                         : a->http_status == 409 ? BE_RESTORE_UNDER_WAY
                                                                                 : BE_RESTORE_READABLE;
        return 0;
    case BE_REMOVE:
    case BE_MP_ABORT:
    case BE_KINDS:
        break;
    }
    return 0;
}

void *s3like_stream_new(const struct dialect_site *site, const struct dialect_call *call)
{
    (void)site;
    return call->kind == BE_LIST ? s3xml_list_new() : NULL;
}

int s3like_stream_feed(void *stream, const void *p, size_t n)
{
    return s3xml_list_feed(stream, p, n);
}

void s3like_stream_free(void *stream)
{
    s3xml_list_free(stream);
}
