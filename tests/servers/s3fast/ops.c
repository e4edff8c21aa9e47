#include "ops.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "mem.h"
#include "text.h"

#define KEY_MAX 1024
#define META_MAX 2048
#define PUT_MAX (UINT64_C(5) << 30)
#define REQUEST_BODY_MAX (8u << 20) /* of what is no object */

const char *const op_names[OP_KINDS] = {
    [OP_CONTROL] = "Control",
    [OP_OTHER] = "Other",
    [OP_LIST_BUCKETS] = "ListBuckets",
    [OP_HEAD_BUCKET] = "HeadBucket",
    [OP_CREATE_BUCKET] = "CreateBucket",
    [OP_GET_TAGGING] = "GetObjectTagging",
    [OP_GET_LOCATION] = "GetBucketLocation",
    [OP_LIST] = "ListObjects",
    [OP_LIST_V2] = "ListObjectsV2",
    [OP_GET] = "GetObject",
    [OP_HEAD] = "HeadObject",
    [OP_PUT] = "PutObject",
    [OP_COPY] = "CopyObject",
    [OP_DELETE] = "DeleteObject",
    [OP_DELETE_MANY] = "DeleteObjects",
    [OP_MP_CREATE] = "CreateMultipartUpload",
    [OP_MP_PART] = "UploadPart",
    [OP_MP_PART_COPY] = "UploadPartCopy",
    [OP_MP_COMPLETE] = "CompleteMultipartUpload",
    [OP_MP_ABORT] = "AbortMultipartUpload",
    [OP_MP_LIST_PARTS] = "ListParts",
    [OP_MP_LIST] = "ListMultipartUploads",
};

/* --- what is asked for --- */

/* Sub-resources we do not have are refused, or they would be taken for the object itself. */
static bool asks_for_more(const struct request *r)
{
    static const char *const known[] = {
        "acl",         "policy",     "lifecycle",         "cors",
        "website",     "logging",    "notification",      "requestPayment",
        "replication", "torrent",    "restore",           "retention",
        "legal-hold",  "select",     "encryption",        "object-lock",
        "versions",    "versioning", "accelerate",        "analytics",
        "inventory",   "metrics",    "ownershipControls", "publicAccessBlock",
        "attributes",  "versionId"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (request_query(r, known[i])) {
            return true;
        }
    }
    return false;
}

static enum kind kind_of_bucket(const struct request *r)
{
    if (strcmp(r->method, "HEAD") == 0) {
        return OP_HEAD_BUCKET;
    }
    if (strcmp(r->method, "PUT") == 0) {
        return OP_CREATE_BUCKET;
    }
    if (strcmp(r->method, "POST") == 0 && request_query(r, "delete")) {
        return OP_DELETE_MANY;
    }
    if (strcmp(r->method, "GET") != 0) {
        return OP_OTHER;
    }
    if (request_query(r, "location")) {
        return OP_GET_LOCATION;
    }
    if (request_query(r, "uploads")) {
        return OP_MP_LIST;
    }
    const char *type = request_query(r, "list-type");
    return type && strcmp(type, "2") == 0 ? OP_LIST_V2 : OP_LIST;
}

static enum kind kind_of_object(const struct request *r)
{
    bool upload = request_query(r, "uploadId") != NULL;
    bool copies = request_header(r, "x-amz-copy-source") != NULL;
    if (strcmp(r->method, "GET") == 0) {
        return upload ? OP_MP_LIST_PARTS : request_query(r, "tagging") ? OP_GET_TAGGING : OP_GET;
    }
    if (strcmp(r->method, "HEAD") == 0) {
        return OP_HEAD;
    }
    if (request_query(r, "tagging")) {
        return OP_OTHER;
    }
    if (strcmp(r->method, "PUT") == 0) {
        return upload ? (copies ? OP_MP_PART_COPY : OP_MP_PART) : copies ? OP_COPY : OP_PUT;
    }
    if (strcmp(r->method, "DELETE") == 0) {
        return upload ? OP_MP_ABORT : OP_DELETE;
    }
    if (strcmp(r->method, "POST") == 0) {
        return upload ? OP_MP_COMPLETE : request_query(r, "uploads") ? OP_MP_CREATE : OP_OTHER;
    }
    return OP_OTHER;
}

/* "BUCKET.host", when there is such a bucket; else "/BUCKET/key". */
static bool route(struct call *c, struct response *res)
{
    const struct request *r = c->r;
    CLEANUP(mem_freep) char *path = mem_strdup(r->path);
    long len = text_unescape(path, strlen(path), false);
    if (len < 0 || memchr(path, '\0', (size_t)len)) {
        response_error(res, "InvalidURI", "bad path");
        return false;
    }
    const char *host = request_header(r, "host"), *key = path + 1;
    c->bucket = host ? bucket_find(host, strcspn(host, ".:")) : NULL;
    bool named = c->bucket != NULL;
    if (!named) {
        size_t n = strcspn(key, "/");
        named = n > 0;
        c->bucket = bucket_find(key, n);
        c->kind = kind_of_bucket(r);
        if (named && !c->bucket && c->kind == OP_CREATE_BUCKET &&
            key[n + (key[n] == '/')] == '\0') {
            CLEANUP(mem_freep) char *name = mem_strndup(key, n);
            c->bucket = bucket_make(name);
        }
        key += n + (key[n] == '/');
    }
    c->key_len = (size_t)len - (size_t)(key - path);
    c->key = mem_zalloc(c->key_len + 1);
    memcpy(c->key, key, c->key_len);
    c->kind = !named ? OP_LIST_BUCKETS : c->key_len > 0 ? kind_of_object(r) : kind_of_bucket(r);
    if (named && !c->bucket) {
        response_error(res, "NoSuchBucket", "no such bucket");
        return false;
    }
    return true;
}

static bool body_allowed(struct call *c, struct response *res)
{
    const struct request *r = c->r;
    bool takes_bytes = c->kind == OP_PUT || c->kind == OP_MP_PART;
    if (request_header(r, "transfer-encoding") ||
        (takes_bytes && !request_header(r, "content-length"))) {
        res->ends = true;
        response_error(res, "MissingContentLength", "the length of the body is needed");
    } else if (r->body_len > (takes_bytes ? PUT_MAX : REQUEST_BODY_MAX)) {
        res->ends = true;
        response_error(res, "EntityTooLarge", "the body is too long");
    } else if (c->key_len > KEY_MAX) {
        response_error(res, "KeyTooLongError", "the key is too long");
    } else if (c->kind == OP_OTHER || asks_for_more(r)) {
        response_error(res, "NotImplemented", "not in this server");
    }
    c->wants_md5 = takes_bytes || request_header(r, "content-md5");
    return res->status == 0;
}

void ops_begin(struct call *c, const struct request *r, const struct sig_keys *keys,
               struct response *res)
{
    *c = (struct call){.r = r, .kind = OP_OTHER};
    res->is_head = strcmp(r->method, "HEAD") == 0;
    if (strncmp(r->path, "/_ctl/", 6) == 0) {
        c->kind = OP_CONTROL;
        return;
    }
    const char *message;
    const char *code = sigv4_check(keys, r, now_ms(), &message, &c->sha256);
    bool routed = route(c, res); /* also of what is refused, so that it is counted as what it is */
    if (code) {
        response_error(res, code, message);
    } else if (routed) {
        (void)body_allowed(c, res);
    }
}

void call_fini(struct call *c)
{
    free(c->key);
    blob_unref(c->body);
    *c = (struct call){0};
}

/* --- headers --- */

static bool is_kept(const char *name)
{
    static const char *const kept[] = {
        "content-type",     "cache-control", "content-disposition", "content-encoding",
        "content-language", "expires",       "x-amz-storage-class", "x-amz-server-side-encryption"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        if (strcmp(name, kept[i]) == 0) {
            return true;
        }
    }
    return strncmp(name, "x-amz-meta-", 11) == 0;
}

struct kvlist meta_of(const struct request *r)
{
    struct kvlist meta = {0};
    for (size_t i = 0; i < r->n_headers; i++) {
        const struct pair *h = &r->headers[i];
        bool standard =
            strcmp(h->name, "x-amz-storage-class") == 0 && strcmp(h->value, "STANDARD") == 0;
        if (is_kept(h->name) && !standard) {
            kv_set(&meta, h->name, h->value);
        }
    }
    return meta;
}

bool meta_fits(const struct request *r, struct response *res)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_headers; i++) {
        if (strncmp(r->headers[i].name, "x-amz-meta-", 11) == 0) {
            n += strlen(r->headers[i].name) - 11 + strlen(r->headers[i].value);
        }
    }
    if (n > META_MAX) {
        response_error(res, "MetadataTooLarge", "too much metadata");
        return false;
    }
    return true;
}

/* A list of quoted etags, or '*'. */
bool etag_matches(const char *header, const char *etag)
{
    if (strcmp(header, "*") == 0) {
        return true;
    }
    while (*header) {
        header += strspn(header, " ,\"");
        size_t n = strcspn(header, "\",");
        if (n > 0 && n == strlen(etag) && memcmp(header, etag, n) == 0) {
            return true;
        }
        header += n;
    }
    return false;
}

bool md5_header_ok(const struct call *c, struct response *res)
{
    const char *header = request_header(c->r, "content-md5");
    if (!header) {
        return true;
    }
    uint8_t got[20];
    if (strlen(header) != 24 || EVP_DecodeBlock(got, (const unsigned char *)header, 24) != 18) {
        response_error(res, "InvalidDigest", "Content-MD5 is none");
        return false;
    }
    if (memcmp(got, c->body_md5, 16) != 0) {
        response_error(res, "BadDigest", "Content-MD5 is another one");
        return false;
    }
    return true;
}

static void add_etag(struct response *res, const char *etag)
{
    char text[ETAG_SIZE + 2];
    (void)snprintf(text, sizeof(text), "\"%s\"", etag);
    response_header(res, "ETag", text);
}

/* --- reading --- */

enum range { RANGE_NONE, RANGE_SOME, RANGE_BAD };

/* "bytes=a-b", "bytes=a-", "bytes=-n"; anything else is no range. */
static enum range parse_range(const char *text, uint64_t size, uint64_t *ret_at, uint64_t *ret_len)
{
    if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ',')) {
        return RANGE_NONE;
    }
    CLEANUP(mem_freep) char *first = mem_strdup(text + 6);
    char *last = strchr(first, '-');
    uint64_t a, b = UINT64_MAX;
    if (!last) {
        return RANGE_NONE;
    }
    *last++ = '\0';
    if (*first == '\0') {
        if (!text_number(last, &b)) {
            return RANGE_NONE;
        }
        *ret_len = MIN(b, size);
        *ret_at = size - *ret_len;
        return *ret_len > 0 ? RANGE_SOME : RANGE_BAD;
    }
    if (!text_number(first, &a) || (*last && !text_number(last, &b)) || b < a) {
        return RANGE_NONE;
    }
    if (a >= size) {
        return RANGE_BAD;
    }
    *ret_at = a;
    *ret_len = MIN(b, size - 1) - a + 1;
    return RANGE_SOME;
}

static bool read_conditions(const struct request *r, const struct object *o, struct response *res)
{
    const char *match = request_header(r, "if-match"), *none = request_header(r, "if-none-match");
    if (match && !etag_matches(match, o->etag)) {
        response_error(res, "PreconditionFailed", "the etag is another one");
        return false;
    }
    if (none && etag_matches(none, o->etag)) {
        res->status = 304;
        add_etag(res, o->etag);
        return false;
    }
    return true;
}

static void answer_range(struct response *res, const struct object *o, enum range range,
                         uint64_t at, uint64_t len)
{
    char text[80];
    res->status = range == RANGE_SOME ? 206 : 200;
    if (range == RANGE_SOME) {
        (void)snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)at,
                       (unsigned long long)(at + len - 1), (unsigned long long)o->data.size);
        response_header(res, "Content-Range", text);
    }
    if (res->is_head) {
        res->shown_len = len;
    } else {
        segs_add_range(&res->data, &o->data, at, len);
    }
}

static void get_object(struct call *c, struct response *res)
{
    struct object *o = bucket_get(c->bucket, c->key, c->key_len);
    if (!o) {
        response_error(res, "NoSuchKey", "no such key");
        return;
    }
    uint64_t at = 0, len = o->data.size;
    enum range range = parse_range(request_header(c->r, "range"), o->data.size, &at, &len);
    if (!read_conditions(c->r, o, res)) {
        object_unref(o);
        return;
    }
    char text[64];
    if (range == RANGE_BAD) {
        response_error(res, "InvalidRange", "not within the object");
        (void)snprintf(text, sizeof(text), "bytes */%llu", (unsigned long long)o->data.size);
        response_header(res, "Content-Range", text);
        object_unref(o);
        return;
    }
    add_etag(res, o->etag);
    text_http_date(o->mtime_ms, text);
    response_header(res, "Last-Modified", text);
    response_header(res, "Accept-Ranges", "bytes");
    for (size_t i = 0; i < o->meta.n; i++) {
        response_header(res, o->meta.items[i].name, o->meta.items[i].value);
    }
    if (!kv_get(&o->meta, "content-type")) {
        response_header(res, "Content-Type", "binary/octet-stream");
    }
    answer_range(res, o, range, at, len);
    object_unref(o);
}

/* --- writing --- */

bool conditions_hold_locked(struct call *c, struct response *res)
{
    const char *match = request_header(c->r, "if-match"),
               *none = request_header(c->r, "if-none-match");
    struct named *found = index_get(&c->bucket->objects, c->key, c->key_len);
    const struct object *o = found ? CONTAINER_OF(found, struct object, name) : NULL;
    if (match && !o && c->kind != OP_DELETE) {
        response_error(res, "NoSuchKey", "no such key");
        return false;
    }
    if ((match && o && !etag_matches(match, o->etag)) ||
        (none && o && etag_matches(none, o->etag))) {
        response_error(res, "PreconditionFailed", "the condition does not hold");
        return false;
    }
    return true;
}

/* Takes the object over, whether it comes into the bucket or not. */
static bool put_checked(struct call *c, struct object *o, struct response *res)
{
    (void)pthread_rwlock_wrlock(&c->bucket->lock);
    bool holds = conditions_hold_locked(c, res);
    if (holds) {
        bucket_set_locked(c->bucket, NULL, 0, o);
    }
    (void)pthread_rwlock_unlock(&c->bucket->lock);
    if (!holds) {
        object_unref(o);
    }
    return holds;
}

static void put_object(struct call *c, struct response *res)
{
    if (!md5_header_ok(c, res) || !meta_fits(c->r, res)) {
        return;
    }
    struct object *o = object_new(c->key, c->key_len);
    char etag[ETAG_SIZE];
    etag_of_md5(c->body_md5, etag);
    memcpy(o->etag, etag, sizeof(etag));
    o->meta = meta_of(c->r);
    if (c->body) {
        segs_add(&o->data, c->body, 0, c->body->len);
    }
    if (put_checked(c, o, res)) {
        res->status = 200;
        add_etag(res, etag);
    }
}

static struct object *source_object(const struct request *r, struct response *res)
{
    CLEANUP(mem_freep) char *text = mem_strdup(request_header(r, "x-amz-copy-source"));
    char *version = strchr(text, '?');
    if (version) {
        *version = '\0';
    }
    long len = text_unescape(text, strlen(text), false);
    char *name = text + (text[0] == '/');
    size_t n = strcspn(name, "/");
    struct bucket *b = len >= 0 && name[n] == '/' ? bucket_find(name, n) : NULL;
    if (!b) {
        response_error(res, len < 0 ? "InvalidArgument" : "NoSuchBucket", "the source is none");
        return NULL;
    }
    const char *key = name + n + 1;
    struct object *o = bucket_get(b, key, (size_t)len - (size_t)(key - text));
    if (!o) {
        response_error(res, "NoSuchKey", "no such source");
    }
    return o;
}

bool copy_source(const struct request *r, bool ranged, struct object **ret, struct segs *ret_data,
                 struct response *res)
{
    struct object *o = source_object(r, res);
    if (!o) {
        return false;
    }
    const char *match = request_header(r, "x-amz-copy-source-if-match");
    const char *none = request_header(r, "x-amz-copy-source-if-none-match");
    uint64_t at = 0, len = o->data.size;
    if ((match && !etag_matches(match, o->etag)) || (none && etag_matches(none, o->etag))) {
        response_error(res, "PreconditionFailed", "the source is another version");
    } else if (ranged && parse_range(request_header(r, "x-amz-copy-source-range"), o->data.size,
                                     &at, &len) == RANGE_BAD) {
        response_error(res, "InvalidArgument", "the range is not within the source");
    }
    if (res->status != 0) {
        object_unref(o);
        return false;
    }
    segs_add_range(ret_data, &o->data, at, len);
    *ret = o;
    return true;
}

bool ops_copies_keep_etag;

static void copied_etag(const struct object *source, char ret[ETAG_SIZE])
{
    if (strchr(source->etag, '-') && !ops_copies_keep_etag) {
        uint8_t md5[16];
        segs_md5(&source->data, md5);
        etag_of_md5(md5, ret);
    } else {
        memcpy(ret, source->etag, ETAG_SIZE);
    }
}

static void answer_copy(struct response *res, const char *root, const char *etag, int64_t mtime_ms)
{
    char date[32];
    text_iso_date(mtime_ms, date);
    res->status = 200;
    response_header(res, "Content-Type", "application/xml");
    ENSURE(
        buf_addf(&res->body,
                 "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%s><LastModified>%s</LastModified>"
                 "<ETag>&quot;%s&quot;</ETag></%s>",
                 root, date, etag, root) == 0);
}

static void copy_object(struct call *c, struct response *res)
{
    const char *directive = request_header(c->r, "x-amz-metadata-directive");
    bool replace = directive && strcasecmp(directive, "REPLACE") == 0;
    struct object *source, *o = object_new(c->key, c->key_len);
    if (!meta_fits(c->r, res) || !copy_source(c->r, false, &source, &o->data, res)) {
        object_unref(o);
        return;
    }
    char etag[ETAG_SIZE];
    int64_t mtime_ms = o->mtime_ms;
    copied_etag(source, etag);
    memcpy(o->etag, etag, sizeof(etag));
    if (replace) {
        o->meta = meta_of(c->r);
    } else {
        kv_copy(&o->meta, &source->meta);
    }
    struct object *there = bucket_get(c->bucket, c->key, c->key_len);
    bool itself = there == source;
    object_unref(there);
    object_unref(source);
    if (itself && !replace) {
        response_error(res, "InvalidRequest", "a copy onto itself that changes nothing");
        object_unref(o);
    } else if (put_checked(c, o, res)) {
        answer_copy(res, "CopyObjectResult", etag, mtime_ms);
    }
}

static void delete_object(struct call *c, struct response *res)
{
    (void)pthread_rwlock_wrlock(&c->bucket->lock);
    if (conditions_hold_locked(c, res)) {
        bucket_set_locked(c->bucket, c->key, c->key_len, NULL);
        res->status = 204;
    }
    (void)pthread_rwlock_unlock(&c->bucket->lock);
}

static void delete_many(struct call *c, struct response *res)
{
    if (!md5_header_ok(c, res)) {
        return;
    }
    const char *at = c->body ? c->body->data : "";
    bool quiet = strstr(at, "<Quiet>true</Quiet>") != NULL;
    CLEANUP(mem_freep) char *key = NULL;
    size_t len;
    res->status = 200;
    response_header(res, "Content-Type", "application/xml");
    ENSURE(buf_adds(&res->body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult>") == 0);
    while (text_xml_next(&at, "Key", &key, &len)) {
        (void)pthread_rwlock_wrlock(&c->bucket->lock);
        bucket_set_locked(c->bucket, key, len, NULL);
        (void)pthread_rwlock_unlock(&c->bucket->lock);
        if (!quiet) {
            ENSURE(buf_adds(&res->body, "<Deleted><Key>") == 0);
            text_xml_escape(&res->body, key, len);
            ENSURE(buf_adds(&res->body, "</Key></Deleted>") == 0);
        }
        free(TAKE(key));
    }
    ENSURE(buf_adds(&res->body, "</DeleteResult>") == 0);
}

/* --- the rest --- */

static void list_buckets(struct response *res)
{
    res->status = 200;
    response_header(res, "Content-Type", "application/xml");
    ENSURE(buf_adds(&res->body,
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListAllMyBucketsResult>"
                    "<Owner><ID>s3fast</ID></Owner><Buckets>") == 0);
    for (const struct bucket *b = bucket_first(); b; b = b->next) {
        char date[32];
        text_iso_date(b->made_ms, date);
        ENSURE(buf_addf(&res->body,
                        "<Bucket><Name>%s</Name><CreationDate>%s</CreationDate></Bucket>", b->name,
                        date) == 0);
    }
    ENSURE(buf_adds(&res->body, "</Buckets></ListAllMyBucketsResult>") == 0);
}

static void get_location(struct response *res)
{
    res->status = 200;
    response_header(res, "Content-Type", "application/xml");
    ENSURE(buf_adds(&res->body,
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LocationConstraint/>") == 0);
}

/* Objects have no tags here; awscli asks before it copies parts. */
static void get_tagging(struct response *res)
{
    res->status = 200;
    response_header(res, "Content-Type", "application/xml");
    ENSURE(buf_adds(&res->body,
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Tagging><TagSet/></Tagging>") ==
           0);
}

static bool body_is_signed_one(const struct call *c, struct response *res)
{
    if (c->sha256 && strcmp(c->sha256, c->body_sha256) != 0) {
        response_error(res, "XAmzContentSHA256Mismatch", "the body is another one");
        return false;
    }
    return true;
}

void ops_run(struct call *c, struct response *res)
{
    if (c->kind != OP_CONTROL && !body_is_signed_one(c, res)) {
        return;
    }
    switch (c->kind) {
    case OP_CONTROL:
        ops_control(c, res);
        break;
    case OP_LIST_BUCKETS:
        list_buckets(res);
        break;
    case OP_HEAD_BUCKET:
    case OP_CREATE_BUCKET:
        res->status = 200;
        break;
    case OP_GET_LOCATION:
        get_location(res);
        break;
    case OP_GET_TAGGING:
        get_tagging(res);
        break;
    case OP_LIST:
    case OP_LIST_V2:
        ops_list(c, res);
        break;
    case OP_GET:
    case OP_HEAD:
        get_object(c, res);
        break;
    case OP_PUT:
        put_object(c, res);
        break;
    case OP_COPY:
        copy_object(c, res);
        break;
    case OP_DELETE:
        delete_object(c, res);
        break;
    case OP_DELETE_MANY:
        delete_many(c, res);
        break;
    case OP_MP_CREATE:
        ops_mp_create(c, res);
        break;
    case OP_MP_PART:
    case OP_MP_PART_COPY:
        ops_mp_part(c, res);
        break;
    case OP_MP_COMPLETE:
        ops_mp_complete(c, res);
        break;
    case OP_MP_ABORT:
        ops_mp_abort(c, res);
        break;
    case OP_MP_LIST_PARTS:
        ops_mp_list_parts(c, res);
        break;
    case OP_MP_LIST:
        ops_mp_list(c, res);
        break;
    case OP_OTHER:
    case OP_KINDS:
        response_error(res, "NotImplemented", "not in this server");
    }
}
