/* Baidu BOS: requests like S3's, answers in JSON, signed with bce-auth-v1. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dialect_s3like.h"
#include "json.h"
#include "mem.h"
#include "names.h"
#include "s3xml.h"
#include "sign.h"

#define TIB (UINT64_C(1) << 40)
#define SIGN_VALID_S 1800
#define PAGE 1000

static const struct s3like_code bos_codes[] = {
    {"InvalidSessionToken", ERR_AUTH},    {"InvalidHTTPAuthHeader", ERR_AUTH},
    {"AccountOverdue", ERR_QUOTA},        {"RequestRateLimitExceeded", ERR_THROTTLED},
    {"ObjectAlreadyExists", ERR_PRECOND}, {NULL, ERR_NONE},
};

static const struct s3like_service bos_service = {"", ".bcebos.com", "bj", false};

static const struct s3like *of(const struct dialect_site *site)
{
    return (const struct s3like *)(const void *)site;
}

/* --- settings */

static int bos_encryption(const struct s3like *s, const char *value, struct kvlist *headers,
                          struct errinfo *reterr)
{
    if (strcasecmp(value, "AES256") != 0 && strcasecmp(value, "KMS") != 0) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "[%s] encryptionType: '%.60s' is unknown; use AES256 or KMS", s->site.name,
                       value);
    }
    kv_set(headers, "x-bce-server-side-encryption",
           strcasecmp(value, "KMS") == 0 ? "KMS" : "AES256");
    return 0;
}

static int bos_signature(const struct s3like *s, const struct sign_key *key,
                         struct dialect_request *r, int64_t wall_s, struct sign_out *out)
{
    char date[SIGN_DATE_SIZE];
    (void)s;
    sign_date_utc(wall_s, date);
    kv_set(&r->headers, "x-bce-date", date);
    struct sign_req req = {r->method, buf_str(&r->path), &r->query, &r->headers};
    return sign_bce(&req, key, date, SIGN_VALID_S, out);
}

static const char *const bos_archives[] = {"ARCHIVE",
                                           NULL};

static int bos_configure(const struct conf_remote *conf, struct dialect_site **ret,
                         struct errinfo *reterr)
{
    struct s3like *s = mem_zalloc(sizeof(*s));
    struct dialect_site *site = &s->site;
    CLEANUP(mem_freep) char *endpoint = NULL;
    s->vendor = "x-bce-";
    s->replace = "replace";
    s->crc32c_header = "x-bce-content-crc32c";
    s->codes = bos_codes;
    s->encryption = bos_encryption;
    s->signature = bos_signature;
    s->forbid_overwrite = true;
    int err = s3like_begin(s, &be_dialect_bos, conf, reterr);
    if (err == 0) {
        err = s3like_place(s, conf, &bos_service, &endpoint, reterr);
    }
    if (err < 0) {
        s3like_release(site);
        return err;
    }
    s3like_home(s, conf, &bos_service, endpoint); /* [u]: copies between regions, so not tried */
    site->caps = BE_CAP_USER_META | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_PART_COPY |
                 BE_CAP_REMOVE_MANY | BE_CAP_LIST_STRONG | BE_CAP_CRC32C | BE_CAP_RESTORE;
    if (dialect_option_on(conf, "conditionalWrites", false)) {
        site->caps |=
            BE_CAP_IF_ABSENT; /* [u]: x-bce-forbid-overwrite at commits, and in versioned buckets */
    }
    site->limits.max_object = 5 * TIB; /* [u]: newer documents say ten times as much */
    /* [u]: parts of 100 KB by newer documents */
    site->limits.max_key = 1023;
    site->limits.max_meta = 1792; /* of 2048, because "x-bce-meta-" counts with each name */
    dialect_limits(&site->limits, conf);
    *ret = site;
    return 0;
}

/* As its documentation on object names says. [u]: that "a//b" stays another key than "a/b", and what
 * buckets with image processing take an '@' for. */
static const char *bos_key_fault(const struct dialect_site *site, const char *key)
{
    (void)site;
    if (key[0] == '/') {
        return "BOS takes no key that begins with a slash";
    }
    return names_is_utf8(key, strlen(key)) ? NULL : "BOS takes no key that is not UTF-8";
}

/* --- requests */

static void set_text(struct kvlist *l, const char *name, const char *value)
{
    if (value && value[0] != '\0') {
        kv_set(l, name, value);
    }
}

static void list_query(const struct be_list *op, struct kvlist *q)
{
    const char delimiter[2] = {op->delimiter, '\0'};
    kv_fini(q);
    dialect_set_number(q, "maxKeys", op->max > 0 ? MIN(op->max, (unsigned)PAGE) : PAGE);
    set_text(q, "prefix", op->prefix);
    set_text(q, "delimiter", delimiter);
    set_text(q, "marker", op->cursor ? op->cursor : op->start_after);
}

static int delete_body(const struct dialect_call *call, struct buf *out)
{
    const struct be_many *op = CONTAINER_OF(call->op, const struct be_many, op);
    int err = buf_adds(out, "{\"objects\":[");
    for (size_t i = 0; i < call->n_chosen && err == 0; i++) {
        err = buf_adds(out, i > 0 ? ",{\"key\":" : "{\"key\":");
        if (err == 0) {
            err = json_put_text(out, op->keys[call->chosen[i]]);
        }
        if (err == 0) {
            err = buf_addc(out, '}');
        }
    }
    return err < 0 ? err : buf_adds(out, "]}");
}

static int commit_body(const struct be_commit *op, struct buf *out)
{
    int err = buf_adds(out, "{\"parts\":[");
    for (size_t i = 0; i < op->n_parts && err == 0; i++) {
        err =
            buf_addf(out, "%s{\"partNumber\":%u,\"eTag\":", i > 0 ? "," : "", op->parts[i].number);
        if (err == 0) {
            err = json_put_text(out, op->parts[i].etag);
        }
        if (err == 0) {
            err = buf_addc(out, '}');
        }
    }
    return err < 0 ? err : buf_adds(out, "]}");
}

/* The family's builder made an XML body, or none yet: this one takes its place. */
static int set_body(const struct dialect_call *call, struct dialect_request *r,
                    struct errinfo *reterr)
{
    buf_clear(&r->own);
    int err = call->kind == BE_REMOVE_MANY
                  ? delete_body(call, &r->own)
                  : commit_body(CONTAINER_OF(call->op, const struct be_commit, op), &r->own);
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "request: no memory");
    }
    r->body = r->own.data;
    r->body_len = r->own.len;
    kv_set(&r->headers, "content-type", "application/json; charset=utf-8");
    kv_set(&r->headers, "content-md5", NULL);
    return 0;
}

/* The family's query is another by some names. */
static void rename_query(const struct dialect_call *call, struct dialect_request *r)
{
    static const char *const names[][2] = {{"max-parts", "maxParts"},
                                           {"part-number-marker", "partNumberMarker"},
                                           {"max-uploads", "maxUploads"},
                                           {"key-marker", "keyMarker"},
                                           {"upload-id-marker", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = kv_get(&r->query, names[i][0]);
        if (value && names[i][1]) {
            kv_set(&r->query, names[i][1], value);
        }
        kv_set(&r->query, names[i][0], NULL);
    }
    if (call->kind == BE_LIST) {
        list_query(CONTAINER_OF(call->op, const struct be_list, op), &r->query);
    }
}

/* What the family writes into a body is in headers here. */
static void restore_headers(const struct be_restore *op, struct dialect_request *r)
{
    buf_clear(&r->own);
    r->body = NULL;
    r->body_len = 0;
    kv_set(&r->headers, "content-md5", NULL);
    kv_set(&r->headers, "content-type", NULL);
    dialect_set_number(&r->headers, "x-bce-restore-days", op->days);
    if (op->tier) {
        kv_set(&r->headers, "x-bce-restore-tier", op->tier);
    }
}

static int bos_build(const struct dialect_site *site, const struct dialect_call *call,
                     struct dialect_request *r, struct errinfo *reterr)
{
    /* cursors are names here, and the family's are not */
    struct be_list plain = {.prefix = ""};
    struct dialect_call list = {.kind = BE_LIST, .op = &plain.op};
    int err = s3like_build(site, call->kind == BE_LIST ? &list : call, r, reterr);
    if (err < 0) {
        return err;
    }
    rename_query(call, r);
    if (call->kind == BE_RESTORE) {
        restore_headers(CONTAINER_OF(call->op, const struct be_restore, op), r);
    }
    if (call->kind == BE_MP_BEGIN) {
        kv_set(&r->headers, "x-bce-content-crc32c-flag", "true"); /* [u]: where it is told then */
    }
    return call->kind == BE_REMOVE_MANY || call->kind == BE_MP_COMMIT ? set_body(call, r, reterr)
                                                                      : 0;
}

/* --- answers */

static char *copy_or_null(const char *s)
{
    return s ? mem_strdup(s) : NULL;
}

/* True when the document is an error. */
static bool read_error(const json_t *doc, struct s3xml_error *ret)
{
    const char *code = json_get_text(doc, "code");
    if (!code || code[0] == '\0') {
        return false;
    }
    *ret = (struct s3xml_error){.code = mem_strdup(code),
                                .message = copy_or_null(json_get_text(doc, "message")),
                                .request_id = copy_or_null(json_get_text(doc, "requestId"))};
    return true;
}

static void bos_classify(const struct dialect_site *site, const struct dialect_call *call,
                         const struct dialect_answer *a, struct errinfo *ret)
{
    CLEANUP(s3xml_error_fini) struct s3xml_error e = {0};
    CLEANUP(json_done) json_t *doc = a->body_len > 0 ? json_read(a->body, a->body_len) : NULL;
    ret->http_status = a->http_status;
    ret->retry_after_ms = dialect_retry_after(kv_get(a->headers, "retry-after"));
    if (read_error(doc, &e)) {
        s3like_set_error(of(site), a, &e, ret);
    } else {
        s3like_classify_bare(of(site), call, a, ret);
    }
    s3like_restore_done(call, ret);
}

/* For an answer that is not what was asked for: an error, or nothing useful. */
static int not_expected(const struct s3like *s, const struct dialect_answer *a, const json_t *doc,
                        const char *what, struct errinfo *reterr)
{
    CLEANUP(s3xml_error_fini) struct s3xml_error e = {0};
    if (!read_error(doc, &e)) {
        return dialect_garbled(a, reterr, what);
    }
    reterr->http_status = a->http_status;
    s3like_set_error(s, a, &e, reterr);
    return err_to_errno(reterr);
}

static int64_t whole_seconds(const char *iso)
{
    /* as the Last-Modified header of the same object says it */
    return dialect_iso_date(iso) / 1000000000 * 1000000000;
}

static int entry_compare(const void *a, const void *b)
{
    const struct be_entry *x = a, *y = b;
    return strcmp(x->key, y->key);
}

/* Both kinds of rows of a page. False when one makes no sense; *unshowable counts keys that no C
 * string holds. */
static bool add_entries(const json_t *rows, bool prefixes, struct be_list *op, size_t *unshowable)
{
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        const json_t *name = json_object_get(row, prefixes ? "prefix" : "key");
        const char *key = json_get_text(row, prefixes ? "prefix" : "key");
        struct be_entry e = {.is_prefix = prefixes};
        if (!json_is_string(name)) {
            return false;
        }
        if (!key || key[0] == '\0') {
            (*unshowable)++;
            continue;
        }
        const char *class = json_get_text(row, "storageClass"), *etag = json_get_text(row, "eTag");
        if (!prefixes && (!json_get_u64(row, "size", &e.object.size) ||
                          (etag && !dialect_etag(etag, e.object.etag)))) {
            return false;
        }
        e.object.mtime_ns = whole_seconds(json_get_text(row, "lastModified"));
        if (class && strcmp(class, "STANDARD") != 0 &&
            strlen(class) < sizeof(e.object.storage_class)) {
            memcpy(e.object.storage_class, class, strlen(class) + 1);
        }
        e.key = mem_strdup(key);
        op->entries[op->n_entries++] = e;
    }
    return true;
}

static int parse_list(const json_t *doc, const struct dialect_answer *a, struct be_list *op,
                      struct dialect_page *page)
{
    const json_t *keys = json_get_rows(doc, "contents"),
                 *prefixes = json_get_rows(doc, "commonPrefixes");
    const char *next = json_get_text(doc, "nextMarker");
    size_t most = json_array_size(keys) + json_array_size(prefixes);
    if (!json_is_boolean(json_object_get(doc, "isTruncated")) &&
        !json_get_text(doc, "isTruncated")) {
        return -EBADMSG; /* nothing says that this is a list, and all of it */
    }
    op->entries = mem_zalloc(MAX(most, (size_t)1) * sizeof(*op->entries));
    bool good = add_entries(keys, false, op, &page->unshowable) &&
                add_entries(prefixes, true, op, &page->unshowable);
    if (good && op->n_entries > 1) {
        qsort(op->entries, op->n_entries, sizeof(*op->entries), entry_compare);
    }
    if (good && json_get_flag(doc, "isTruncated")) {
        next = next && next[0] != '\0' ? next
               : op->n_entries > 0     ? op->entries[op->n_entries - 1].key
                                       : NULL;
        op->next_cursor = copy_or_null(next);
        good = next != NULL;
    }
    if (!good) {
        be_list_fini(op);
        page->unshowable = 0;
        return -EBADMSG;
    }
    op->server_date_ns = dialect_http_date(kv_get(a->headers, "date"));
    return 0;
}

/* Of a copy, a copied part and a commit: an etag in the body. */
static int parse_result(const struct s3like *s, const json_t *doc, const struct dialect_answer *a,
                        bool etag_needed, uint64_t size, struct be_object *object,
                        struct errinfo *reterr)
{
    struct be_object o = {0};
    const char *etag = json_get_text(doc, "eTag");
    if (!doc || json_get_text(doc, "code") || (etag_needed && !etag)) {
        return not_expected(s, a, doc, "no eTag", reterr);
    }
    int err = s3like_object_of(s, a, &o, reterr);
    if (err < 0) {
        return err;
    }
    o.etag[0] = '\0';
    if (etag && (!dialect_etag(etag, o.etag) || o.etag[0] == '\0')) {
        return dialect_garbled(a, reterr, "eTag");
    }
    o.etag_is_md5 = s3like_etag_is_md5(s, a->headers, o.etag);
    o.mtime_ns = whole_seconds(json_get_text(doc, "lastModified"));
    o.size = size;
    *object = o;
    return 0;
}

static int parse_parts(const json_t *doc, struct dialect_page *page)
{
    const json_t *rows = json_get_rows(doc, "parts");
    size_t i;
    json_t *row;
    page->parts = mem_zalloc(MAX(json_array_size(rows), (size_t)1) * sizeof(*page->parts));
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        struct be_part_id *p = &page->parts[i];
        uint64_t number = 0;
        if (!json_get_u64(row, "partNumber", &number) || number == 0 || number > 1000000 ||
            !json_get_u64(row, "size", &p->size) ||
            !dialect_etag(json_get_text(row, "eTag"), p->etag)) {
            return -EBADMSG;
        }
        p->number = (unsigned)number;
        page->n_parts++;
    }
    uint64_t next = 0;
    if (json_get_flag(doc, "isTruncated")) {
        if (!json_get_u64(doc, "nextPartNumberMarker", &next)) {
            return -EBADMSG;
        }
        page->next[0] = mem_printf("%llu", (unsigned long long)next);
    }
    return rows ? 0 : -EBADMSG;
}

static int parse_uploads(const json_t *doc, struct dialect_page *page)
{
    const json_t *rows = json_get_rows(doc, "uploads");
    size_t i;
    json_t *row;
    page->uploads = mem_zalloc(MAX(json_array_size(rows), (size_t)1) * sizeof(*page->uploads));
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        const char *key = json_get_text(row, "key"), *id = json_get_text(row, "uploadId");
        if (!key || !id || id[0] == '\0') {
            return -EBADMSG;
        }
        page->uploads[page->n_uploads++] =
            (struct be_upload){.key = mem_strdup(key),
                               .upload_id = mem_strdup(id),
                               .initiated_ns = dialect_iso_date(json_get_text(row, "initiated"))};
    }
    if (json_get_flag(doc, "isTruncated")) {
        page->next[0] = copy_or_null(json_get_text(doc, "nextKeyMarker"));
        if (!page->next[0]) {
            return -EBADMSG;
        }
    }
    return rows ? 0 : -EBADMSG;
}

/* Of a batch only failures are listed; no body means there was none. */
static int read_failures(const char *p, size_t n, bool removed,
                         int (*failed)(void *ctx, const char *key, const char *code,
                                       const char *message),
                         void *ctx)
{
    (void)removed;
    CLEANUP(json_done) json_t *doc = n > 0 ? json_read(p, n) : json_object();
    const json_t *rows = json_get_rows(doc, "errors");
    size_t i;
    json_t *row;
    int err = doc && !json_get_text(doc, "code") ? 0 : -EBADMSG;
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        const char *key = json_get_text(row, "key"), *code = json_get_text(row, "code");
        const char *message = json_get_text(row, "message");
        if (err == 0) {
            err = key && code ? failed(ctx, key, code, message ? message : "") : -EBADMSG;
        }
    }
    return err;
}

static int parse_doc(const struct s3like *s, const struct dialect_call *call, const json_t *doc,
                     const struct dialect_answer *a, struct dialect_page *page,
                     struct errinfo *reterr)
{
    int err = -EBADMSG;
    switch (call->kind) {
    case BE_LIST:
        err = parse_list(doc, a, CONTAINER_OF(call->op, struct be_list, op), page);
        break;
    case BE_REMOVE_MANY:
        err = s3like_many(s, call, a, read_failures);
        break;
    case BE_MP_BEGIN: {
        const char *id = json_get_text(doc, "uploadId");
        if (id && id[0] != '\0') {
            CONTAINER_OF(call->op, struct be_mp, op)->upload_id = mem_strdup(id);
            err = 0;
        }
        break;
    }
    case BE_MP_PARTS:
        err = parse_parts(doc, page);
        break;
    case BE_MP_UPLOADS:
        err = parse_uploads(doc, page);
        if (err == 0 && call->op->key) {
            dialect_page_only(page, call->op->key);
        }
        break;
    default:
        break;
    }
    if (err < 0) {
        dialect_page_fini(page);
        return not_expected(s, a, doc, "the document", reterr);
    }
    return 0;
}

static int bos_parse(const struct dialect_site *site, const struct dialect_call *call,
                     const struct dialect_answer *a, struct dialect_page *page,
                     struct errinfo *reterr)
{
    const struct s3like *s = of(site);
    struct be_part *part =
        call->kind == BE_MP_PART ? CONTAINER_OF(call->op, struct be_part, op) : NULL;
    bool json = call->kind == BE_COPY || call->kind == BE_MP_COMMIT || call->kind == BE_LIST ||
                call->kind == BE_REMOVE_MANY || call->kind == BE_MP_BEGIN ||
                call->kind == BE_MP_PARTS || call->kind == BE_MP_UPLOADS || (part && part->src);
    if (!json) {
        return s3like_parse(site, call, a, page, reterr);
    }
    CLEANUP(json_done) json_t *doc = a->body_len > 0 ? json_read(a->body, a->body_len) : NULL;
    if (part) {
        return parse_result(s, doc, a, true, part->src_len, &part->object, reterr);
    }
    if (call->kind == BE_COPY) {
        struct be_copy *o = CONTAINER_OF(call->op, struct be_copy, op);
        return parse_result(s, doc, a, true, o->size, &o->object, reterr);
    }
    if (call->kind == BE_MP_COMMIT) {
        struct be_commit *o = CONTAINER_OF(call->op, struct be_commit, op);
        uint64_t size = 0;
        for (size_t i = 0; i < o->n_parts; i++) {
            size += o->parts[i].size;
        }
        return parse_result(s, doc, a, false, size, &o->object, reterr);
    }
    return parse_doc(s, call, doc, a, page, reterr);
}

const struct be_dialect be_dialect_bos = {
    .name = "bos",
    .archives = bos_archives,
    .configure = bos_configure,
    .release = s3like_release,
    .can_copy = s3like_can_copy,
    .key_fault = bos_key_fault,
    .build = bos_build,
    .sign = s3like_sign,
    .parse = bos_parse,
    .classify = bos_classify,
};
