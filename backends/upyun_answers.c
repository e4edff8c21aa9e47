/* Answers of Upyun to results and error classes. Pure; see dialect_upyun.c for requests. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dialect_upyun.h"
#include "json.h"
#include "mem.h"

#define LIST_END "g2gCZAAEbmV4dGQAA2VvZg" /* what the iterator is after the last page */
/* A clock that is off by more than this explains a refusal that does not say so: it has no body, or
 * a number that is not known here [u: which it is for a date is documented in two ways]. */
#define SKEW_SUSPECT_S 60
#define SECOND_NS INT64_C(1000000000)

/* --- errors */

/* The numbers of its documents and SDKs, with the names that the driver and probe.c know. */
static const struct {
    unsigned number;
    enum err_class cls;
    const char *name;
} codes[] = {
    {40000006, ERR_INTEGRITY, "BadDigest"},
    {40001001, ERR_INTEGRITY, "BadDigest"},
    {40001023, ERR_ABSENT, "NoSuchUpload"}, /* wrong id */
    {40001031, ERR_PRECOND, "PartExists"},
    {40001035, ERR_ABSENT, "NoSuchUpload"}, /* not found */
    {40001055, ERR_TRANSIENT, ""},          /* the record changed meanwhile */
    {40001161, ERR_INVALID, "InvalidRange"},
    {40100002, ERR_SKEW, "RequestTimeTooSkewed"},
    {40100005, ERR_AUTH, "SignatureDoesNotMatch"},
    {40100006, ERR_AUTH, "InvalidAccessKeyId"},
    {40100009, ERR_AUTH, "SignatureDoesNotMatch"},
    {40100012, ERR_ABSENT, "NoSuchBucket"},
    {40100014, ERR_ABSENT, "NoSuchBucket"}, /* removed */
    {40100016, ERR_SKEW, "RequestTimeTooSkewed"},
    {40300001, ERR_INVALID, ""}, /* characters of the name */
    {40300002, ERR_INVALID, ""}, /* path too long */
    {40300003, ERR_INVALID, ""}, /* name too long */
    {40300004, ERR_QUOTA, ""},
    {40300006, ERR_SKEW, "RequestExpired"},
    {40300007, ERR_INTEGRITY, "BadDigest"},
    {40300008, ERR_INVALID, ""}, /* too small, … */
    {40300009, ERR_INVALID, ""}, /* … too large, … */
    {40300010, ERR_INVALID, ""}, /* … of a type the service does not take */
    {40300011, ERR_AUTH, "AccessDenied"},
    {40300015, ERR_ABSENT, "NoSuchKey"}, /* a directory */
    {40300024, ERR_INVALID, ""},
    {40300027, ERR_INVALID, ""},
    {40300028, ERR_SKEW, "RequestExpired"},
    {40400001, ERR_ABSENT, "NoSuchKey"},
    {42900001, ERR_THROTTLED, "TooManyRequests"},
};

/* What is refused because it is so already, or cannot be otherwise. */
static bool is_so(const struct dialect_call *call, uint64_t number)
{
    switch (number) {
    case 40300005: /* not empty: its name stays as long as there are names in it */
        return call->kind == BE_REMOVE;
    case 40600002: /* the directory exists */
        return (call->kind == BE_WRITE || call->kind == BE_COPY) && upyun_is_dir(call->op->key);
    case 40001022: /* no such stage [u]: the upload expires by itself, after a day */
        return call->kind == BE_MP_ABORT;
    default:
        return false;
    }
}

static bool is_about_upload(enum be_kind kind)
{
    return kind == BE_MP_PART || kind == BE_MP_COMMIT || kind == BE_MP_ABORT || kind == BE_MP_PARTS;
}

/* Seconds the server's clock is ahead by, when that explains the refusal, else 0. */
static int64_t suspected_skew(const struct dialect_answer *a, enum err_class cls)
{
    int64_t date_s = dialect_http_date(kv_get(a->headers, "date")) / SECOND_NS;
    int64_t off = cls == ERR_AUTH && date_s > 0 ? date_s - a->signed_s : 0;
    return off > SKEW_SUSPECT_S || off < -SKEW_SUSPECT_S ? off : 0;
}

static void set_error(const struct dialect_call *call, const struct dialect_answer *a,
                      const json_t *doc, struct errinfo *ret)
{
    const char *message = json_get_text(doc, "msg");
    char text[160];
    uint64_t number = 0;
    (void)json_get_u64(doc, "code", &number);
    dialect_text(text, sizeof(text),
                      message && message[0] != '\0' ? message : "no reason given");
    if (json_get_text(doc, "id")) {
        dialect_text(ret->request_id, sizeof(ret->request_id), json_get_text(doc, "id"));
    }
    snprintf(ret->code, sizeof(ret->code), "%llu", (unsigned long long)number);
    enum err_class cls = dialect_class_of_status(ret->http_status);
    if (suspected_skew(a, cls) != 0) {
        cls = ERR_SKEW;
    }
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i].number == number) {
            cls = codes[i].cls;
            if (codes[i].name[0] != '\0') {
                snprintf(ret->code, sizeof(ret->code), "%s", codes[i].name);
            }
        }
    }
    if (is_so(call, number)) {
        cls = ERR_NONE;
    } else if (number == 40600001) {
        snprintf(text, sizeof(text),
                 "there is a directory of that name, or an object where a directory is needed");
    }
    err_set(ret, cls, 0, "%s (%llu)", text, (unsigned long long)number);
}

/* "Not found" of these would be an empty list: the service must have said it. */
static bool is_list(enum be_kind kind)
{
    return kind == BE_LIST || kind == BE_MP_UPLOADS;
}

void upyun_classify(const struct dialect_site *site, const struct dialect_call *call,
                    const struct dialect_answer *a, struct errinfo *ret)
{
    CLEANUP(json_done) json_t *doc = json_read(a->body, a->body_len);
    ret->http_status = a->http_status;
    ret->retry_after_ms = dialect_retry_after(kv_get(a->headers, "retry-after"));
    dialect_text(ret->request_id, sizeof(ret->request_id), kv_get(a->headers, "x-request-id"));
    if (json_is_object(doc)) {
        set_error(call, a, doc, ret);
    } else {
        enum err_class cls = dialect_class_of_status(a->http_status);
        int64_t off = suspected_skew(a, cls);
        if (off != 0) {
            err_set(ret, ERR_SKEW, 0, "refused, and the clocks differ by %lld s", (long long)off);
        } else {
            err_set(ret, cls, 0, "status %d without explanation", a->http_status);
        }
    }
    if (ret->cls == ERR_ABSENT && is_list(call->kind) && a->http_status == 404 &&
        ret->request_id[0] == '\0' && strcmp(ret->code, "NoSuchKey") != 0) {
        err_set(ret, ERR_INVALID, 0, "a 404 that is not the service's; correct endPoint in [%s]",
                site->name);
    }
    if (ret->cls == ERR_ABSENT && is_about_upload(call->kind) &&
        strcmp(ret->code, "NoSuchBucket") != 0) {
        snprintf(ret->code, sizeof(ret->code), "NoSuchUpload");
    }
}

/* --- headers */

/* The etag, or what names the version where there is none, or an empty one. False: it is malformed. */
static bool name_by(const struct kvlist *h, const char *otherwise, char ret[BE_ETAG_MAX])
{
    const char *etag = kv_get(h, "etag");
    return dialect_etag(etag ? etag : "", ret) && (ret[0] != '\0' || dialect_etag(otherwise, ret));
}

/* A version's etag; without one its MD5; and without that (see name_version) nothing. */
static int object_of(const struct dialect_answer *a, struct be_object *o, struct errinfo *reterr)
{
    const struct kvlist *h = a->headers;
    const char *md5 = kv_get(h, "content-md5");
    uint64_t date_s = 0;
    (void)dialect_u64(kv_get(h, "x-upyun-file-date"), &date_s);
    o->mtime_ns = date_s > 0 && date_s < INT64_MAX / SECOND_NS
                      ? (int64_t)date_s * SECOND_NS
                      : dialect_http_date(kv_get(h, "last-modified"));
    if (!name_by(h, md5 ? md5 : "", o->etag)) {
        return dialect_garbled(a, reterr, "etag");
    }
    o->etag_is_md5 = md5 && dialect_etag_is_hex(o->etag) && strcasecmp(md5, o->etag) == 0;
    return 0;
}

/* [u] whether there ever is an object with neither etag nor MD5: what little there is, then. */
static void name_version(struct be_object *o)
{
    if (o->etag[0] == '\0') {
        snprintf(o->etag, sizeof(o->etag), "%llu-%lld", (unsigned long long)o->size,
                 (long long)(o->mtime_ns / SECOND_NS));
    }
}

static void set_lower(struct kvlist *meta, const char *name, const char *value)
{
    CLEANUP(mem_freep) char *lower = mem_strdup(name);
    for (char *p = lower; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    kv_set(meta, lower, value);
}

static void meta_of(const struct kvlist *h, struct kvlist *meta)
{
    const char *type = kv_get(h, "content-type");
    if (type && type[0] != '\0') {
        kv_set(meta, "content-type", type);
    }
    for (size_t i = 0; i < h->n; i++) {
        const char *name = h->items[i].name + strlen(UPYUN_META);
        if (strncasecmp(h->items[i].name, UPYUN_META, strlen(UPYUN_META)) != 0 || name[0] == '\0') {
            continue;
        }
        CLEANUP(mem_freep) char *value = dialect_meta_decode(h->items[i].value);
        const char *ours =
            strncasecmp(name, UPYUN_OURS, strlen(UPYUN_OURS)) == 0 ? name + strlen(UPYUN_OURS) : "";
        if (dialect_is_standard(ours) ||
            (strncasecmp(ours, "meta-", 5) == 0 && ours[5] != '\0')) {
            set_lower(meta, ours, value);
        } else {
            CLEANUP(mem_freep) char *user = mem_printf("meta-%s", name);
            set_lower(meta, user, value);
        }
    }
}

/* --- operations */

static int parse_stat(const struct dialect_answer *a, const char *key, struct be_object *object,
                      struct kvlist *meta, struct errinfo *reterr)
{
    struct be_object o = {0};
    const char *type = kv_get(a->headers, "x-upyun-file-type");
    bool folder = type && strcasecmp(type, "folder") == 0;
    if (folder != upyun_is_dir(key)) {
        reterr->http_status = a->http_status;
        return err_set(reterr, ERR_ABSENT, -ENOENT, "it is %s",
                       folder ? "a directory" : "no directory");
    }
    int err = object_of(a, &o, reterr);
    if (err < 0) {
        return err;
    }
    if (folder) {
        o.etag_is_md5 = false;
        (void)dialect_etag(DIALECT_DIR_ETAG, o.etag);
    } else if (!dialect_u64(kv_get(a->headers, "x-upyun-file-size"), &o.size) &&
               !dialect_u64(kv_get(a->headers, "content-length"), &o.size)) {
        return dialect_garbled(a, reterr, "no size");
    } else {
        meta_of(a->headers, meta);
    }
    name_version(&o);
    *object = o;
    return 0;
}

static int parse_read(const struct dialect_answer *a, struct be_read *op, struct errinfo *reterr)
{
    struct be_object o = {0};
    int err = object_of(a, &o, reterr);
    if (err == 0) {
        err = dialect_read_size(a, op, &o.size, reterr);
    }
    if (err < 0) {
        return err;
    }
    name_version(&o);
    op->object = o;
    op->got = (size_t)a->body_got;
    meta_of(a->headers, &op->meta);
    return 0;
}

/* Of a body the server compared with the Content-MD5: where it does not name the version, that
 * does. */
static int parse_bytes(const struct dialect_answer *a, const uint8_t *md5, const void *data,
                       size_t len, struct be_object *object, struct errinfo *reterr)
{
    struct be_object o = {.size = len};
    char hex[33];
    upyun_md5(md5, data, len, hex);
    if (!name_by(a->headers, hex, o.etag)) {
        return dialect_garbled(a, reterr, "etag");
    }
    o.etag_is_md5 = strcasecmp(o.etag, hex) == 0;
    *object = o;
    return 0;
}

static int parse_write(const struct dialect_answer *a, struct be_write *op, struct errinfo *reterr)
{
    if (upyun_is_dir(op->op.key)) {
        op->object = (struct be_object){0};
        (void)dialect_etag(DIALECT_DIR_ETAG, op->object.etag);
        return 0;
    }
    return parse_bytes(a, op->md5, op->data, op->len, &op->object, reterr);
}

/* Of what was copied or put together, as far as the answer says. */
static int parse_made(const struct dialect_answer *a, const char *key, uint64_t size,
                      struct be_object *object, struct errinfo *reterr)
{
    struct be_object o = {.size = size};
    const char *etag = upyun_is_dir(key) ? DIALECT_DIR_ETAG : kv_get(a->headers, "etag");
    if (etag && !dialect_etag(etag, o.etag)) {
        return dialect_garbled(a, reterr, "etag");
    }
    *object = o;
    return 0;
}

static int parse_begin(const struct dialect_answer *a, struct be_mp *op, struct errinfo *reterr)
{
    const char *id = kv_get(a->headers, "x-upyun-multi-uuid");
    if (!id || id[0] == '\0') {
        return dialect_garbled(a, reterr, "no X-Upyun-Multi-Uuid");
    }
    op->upload_id = mem_strdup(id);
    return 0;
}

static int64_t seconds_of(const json_t *o, const char *name)
{
    uint64_t v = 0;
    if (!json_get_u64(o, name, &v) || v > INT64_MAX / SECOND_NS) {
        return 0;
    }
    return (int64_t)v * SECOND_NS;
}

static bool etag_of(const json_t *o, char ret[BE_ETAG_MAX])
{
    const char *etag = json_get_text(o, "etag");
    return dialect_etag(etag ? etag : "", ret);
}

/* A list is at its end where it says so, and nowhere else. */
static int parse_list(const struct dialect_call *call, const struct dialect_answer *a,
                      struct dialect_page *page, struct errinfo *reterr)
{
    struct be_list *op = CONTAINER_OF(call->op, struct be_list, op);
    CLEANUP(json_done) json_t *doc = json_read(a->body, a->body_len);
    json_t *files = json_object_get(doc, "files"), *f;
    const char *iter = json_get_text(doc, "iter");
    size_t i, n = 0;
    op->server_date_ns = dialect_http_date(kv_get(a->headers, "date"));
    if (a->body_len == 0 && !call->page[0] && kv_get(a->headers, "content-length") &&
        strcmp(kv_get(a->headers, "content-length"), "0") == 0) {
        return 0; /* [u] an empty directory */
    }
    if (!json_is_array(files) || !iter || iter[0] == '\0') {
        return dialect_garbled(a, reterr, "list");
    }
    struct be_entry *entries = mem_zalloc((json_array_size(files) + 1) * sizeof(*entries));
    json_array_foreach(files, i, f)
    {
        const char *name = json_get_text(f, "name"), *type = json_get_text(f, "type");
        struct be_entry e = {.is_prefix = type && strcmp(type, "folder") == 0};
        bool sized = e.is_prefix || json_get_u64(f, "length", &e.object.size);
        if (!name || !sized || !etag_of(f, e.object.etag)) {
            op->entries = entries;
            op->n_entries = n;
            be_list_fini(op);
            page->unshowable = 0;
            return dialect_garbled(a, reterr, "an entry of a list");
        }
        if (name[0] == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 ||
            strcmp(name, "..") == 0) {
            page->unshowable++;
            continue;
        }
        e.key = mem_printf("%s%s%s", op->prefix, name, e.is_prefix ? "/" : "");
        e.object.mtime_ns = seconds_of(f, "last_modified");
        entries[n++] = e;
    }
    op->entries = entries;
    op->n_entries = n;
    if (strcmp(iter, LIST_END) != 0) {
        page->next[0] = mem_strdup(iter);
    }
    return 0;
}

/* Pages end with one that has no parts: nothing else says so. */
static int parse_parts(const struct dialect_answer *a, struct dialect_page *page,
                       struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *doc = json_read(a->body, a->body_len);
    json_t *parts = json_object_get(doc, "parts"), *p;
    size_t i;
    if (!json_is_array(parts) && !json_is_null(parts)) {
        return dialect_garbled(a, reterr, "list of parts");
    }
    page->parts = mem_zalloc((json_array_size(parts) + 1) * sizeof(*page->parts));
    uint64_t id = 0;
    json_array_foreach(parts, i, p)
    {
        struct be_part_id *to = &page->parts[page->n_parts];
        if (!json_get_u64(p, "id", &id) || id >= UINT32_MAX || !json_get_u64(p, "size", &to->size) ||
            !etag_of(p, to->etag)) {
            dialect_page_fini(page);
            return dialect_garbled(a, reterr, "a part of a list");
        }
        to->number = (unsigned)id + 1;
        page->n_parts++;
    }
    if (page->n_parts > 0) {
        page->next[0] = mem_printf("%llu", (unsigned long long)id + 1);
    }
    return 0;
}

/* There are no pages: of a list as long as it may be nobody knows what it leaves out. */
static int parse_uploads(const struct dialect_site *site, const struct dialect_call *call,
                         const struct dialect_answer *a, struct dialect_page *page,
                         struct errinfo *reterr)
{
    const struct be_uploads *op = CONTAINER_OF(call->op, const struct be_uploads, op);
    CLEANUP(json_done) json_t *doc = json_read(a->body, a->body_len);
    json_t *files = json_object_get(doc, "files"), *f;
    const char *prefix = op->prefix ? op->prefix : "";
    size_t i;
    if (!json_is_array(files) && !json_is_null(files)) {
        return dialect_garbled(a, reterr, "list of uploads");
    }
    if (json_array_size(files) >= site->limits.list_page) {
        reterr->http_status = a->http_status;
        return err_set(reterr, ERR_INVALID, -EIO,
                       "there are more unfinished uploads than a list of them shows (%u); they "
                       "expire after a day",
                       site->limits.list_page);
    }
    page->uploads = mem_zalloc((json_array_size(files) + 1) * sizeof(*page->uploads));
    json_array_foreach(files, i, f)
    {
        const char *key = json_get_text(f, "key"), *id = json_get_text(f, "uuid");
        if (!key || !id || id[0] == '\0') {
            dialect_page_fini(page);
            return dialect_garbled(a, reterr, "an upload of a list");
        }
        key += key[0] == '/'; /* no key begins so [u] */
        bool wanted = call->op->key ? strcmp(key, call->op->key) == 0
                                    : strncmp(key, prefix, strlen(prefix)) == 0;
        if (wanted && !json_get_flag(f, "completed")) {
            page->uploads[page->n_uploads++] =
                (struct be_upload){.key = mem_strdup(key),
                                   .upload_id = mem_strdup(id),
                                   .initiated_ns = seconds_of(f, "created_at")};
        }
    }
    return 0;
}

int upyun_parse(const struct dialect_site *site, const struct dialect_call *call,
                const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr)
{
    struct be_op *op = call->op;
    switch (call->kind) {
    case BE_STAT: {
        struct be_stat *o = CONTAINER_OF(op, struct be_stat, op);
        return parse_stat(a, op->key, &o->object, &o->meta, reterr);
    }
    case BE_READ: {
        struct be_read *o = CONTAINER_OF(op, struct be_read, op);
        if (call->head || o->len == 0 || upyun_is_dir(op->key)) {
            return parse_stat(a, op->key, &o->object, &o->meta, reterr);
        }
        return parse_read(a, o, reterr);
    }
    case BE_WRITE:
        return parse_write(a, CONTAINER_OF(op, struct be_write, op), reterr);
    case BE_LIST:
        return parse_list(call, a, page, reterr);
    case BE_COPY: {
        struct be_copy *o = CONTAINER_OF(op, struct be_copy, op);
        return parse_made(a, op->key, o->size, &o->object, reterr);
    }
    case BE_MP_BEGIN:
        return parse_begin(a, CONTAINER_OF(op, struct be_mp, op), reterr);
    case BE_MP_PART: {
        struct be_part *o = CONTAINER_OF(op, struct be_part, op);
        return parse_bytes(a, o->md5, o->data, o->len, &o->object, reterr);
    }
    case BE_MP_COMMIT: {
        struct be_commit *o = CONTAINER_OF(op, struct be_commit, op);
        uint64_t size = 0;
        for (size_t i = 0; i < o->n_parts; i++) {
            size += o->parts[i].size;
        }
        return parse_made(a, op->key, size, &o->object, reterr);
    }
    case BE_MP_PARTS:
        return parse_parts(a, page, reterr);
    case BE_MP_UPLOADS:
        return parse_uploads(site, call, a, page, reterr);
    case BE_REMOVE:
    case BE_REMOVE_MANY:
    case BE_MP_ABORT:
    case BE_RESTORE:
    case BE_KINDS:
        break;
    }
    return 0;
}
