/* Multipart uploads. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"
#include "ops.h"
#include "text.h"

#define PARTS_MAX 10000
#define PAGE 1000

static void adds(struct buf *out, const char *s)
{
    ENSURE(buf_adds(out, s) == 0);
}

static void begin_xml(struct response *res, const char *root)
{
    res->status = 200;
    response_header(res, "Content-Type", "application/xml");
    ENSURE(buf_addf(&res->body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%s>", root) == 0);
}

static struct named upload_name(const char *key, size_t len, const char *id)
{
    struct named n = {mem_zalloc(len + strlen(id) + 2), len + 1 + strlen(id)};
    memcpy(n.key, key, len);
    memcpy(n.key + len + 1, id, strlen(id));
    return n;
}

/* The upload the request names, or NULL and the answer. */
static struct upload *find_locked(struct call *c, struct response *res)
{
    struct named n = upload_name(c->key, c->key_len, request_query(c->r, "uploadId"));
    struct named *found = index_get(&c->bucket->uploads, n.key, n.len);
    free(n.key);
    if (!found) {
        response_error(res, "NoSuchUpload", "no such upload");
        return NULL;
    }
    return CONTAINER_OF(found, struct upload, name);
}

void ops_mp_create(struct call *c, struct response *res)
{
    static atomic_uint_fast64_t counter;
    if (!meta_fits(c->r, res)) {
        return;
    }
    char id[40];
    (void)snprintf(id, sizeof(id), "%08x%016llx", (unsigned)getpid(),
                   (unsigned long long)atomic_fetch_add(&counter, 1));
    struct upload *u = mem_zalloc(sizeof(*u));
    u->name = upload_name(c->key, c->key_len, id);
    u->key_len = c->key_len;
    u->begun_ms = now_ms();
    u->meta = meta_of(c->r);
    (void)pthread_rwlock_wrlock(&c->bucket->lock);
    ENSURE(!index_put(&c->bucket->uploads, &u->name));
    (void)pthread_rwlock_unlock(&c->bucket->lock);

    begin_xml(res, "InitiateMultipartUploadResult");
    ENSURE(buf_addf(&res->body, "<Bucket>%s</Bucket><Key>", c->bucket->name) == 0);
    text_xml_escape(&res->body, c->key, c->key_len);
    ENSURE(buf_addf(&res->body, "</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>",
                    id) == 0);
}

/* The part's bytes and their MD5. false: answered already. */
static bool part_bytes(struct call *c, struct part *p, struct response *res)
{
    if (c->kind == OP_MP_PART) {
        if (!md5_header_ok(c, res)) {
            return false;
        }
        if (c->body) {
            segs_add(&p->data, c->body, 0, c->body->len);
        }
        memcpy(p->md5, c->body_md5, sizeof(p->md5));
        return true;
    }
    struct object *source;
    if (!copy_source(c->r, true, &source, &p->data, res)) {
        return false;
    }
    object_unref(source);
    segs_md5(&p->data, p->md5);
    return true;
}

void ops_mp_part(struct call *c, struct response *res)
{
    uint64_t number;
    struct part p = {.mtime_ms = now_ms()};
    if (!text_number(request_query(c->r, "partNumber"), &number) || number < 1 ||
        number > PARTS_MAX) {
        response_error(res, "InvalidArgument", "partNumber is none");
        return;
    }
    if (!part_bytes(c, &p, res)) {
        segs_fini(&p.data);
        return;
    }
    p.number = (unsigned)number;
    char etag[ETAG_SIZE], text[ETAG_SIZE + 2], date[32];
    etag_of_md5(p.md5, etag);
    (void)pthread_rwlock_wrlock(&c->bucket->lock);
    struct upload *u = find_locked(c, res);
    if (u) {
        upload_set_part(u, &p);
    }
    (void)pthread_rwlock_unlock(&c->bucket->lock);
    segs_fini(&p.data);
    if (!u) {
        return;
    }
    if (c->kind == OP_MP_PART) {
        res->status = 200;
        (void)snprintf(text, sizeof(text), "\"%s\"", etag);
        response_header(res, "ETag", text);
        return;
    }
    text_iso_date(p.mtime_ms, date);
    begin_xml(res, "CopyPartResult");
    ENSURE(buf_addf(&res->body,
                    "<LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag></CopyPartResult>",
                    date, etag) == 0);
}

/* --- completion --- */

struct chosen {
    unsigned number;
    char etag[ETAG_SIZE];
};

static bool parse_chosen(const char *xml, struct chosen **ret, size_t *ret_n)
{
    CLEANUP(mem_freep) char *part = NULL;
    struct chosen *list = NULL;
    size_t n = 0, len;
    bool good = true;
    while (good && text_xml_next(&xml, "Part", &part, &len)) {
        const char *a = part, *b = part;
        char *number = NULL, *etag = NULL;
        uint64_t v = 0;
        good = text_xml_next(&a, "PartNumber", &number, &len) && text_number(number, &v) &&
               v <= PARTS_MAX && text_xml_next(&b, "ETag", &etag, &len) && n < PARTS_MAX;
        if (good) {
            list = mem_realloc(list, (n + 1) * sizeof(*list));
            const char *bare = etag + strspn(etag, "\"");
            list[n] = (struct chosen){.number = (unsigned)v};
            (void)snprintf(list[n].etag, sizeof(list[n].etag), "%.*s", (int)strcspn(bare, "\""),
                           bare);
            n++;
        }
        free(number);
        free(etag);
        free(TAKE(part));
    }
    *ret = list;
    *ret_n = n;
    return good && n > 0;
}

static const struct part *part_of(const struct upload *u, const struct chosen *want)
{
    for (size_t i = 0; i < u->n_parts; i++) {
        char etag[ETAG_SIZE];
        if (u->parts[i].number == want->number) {
            etag_of_md5(u->parts[i].md5, etag);
            return strcmp(etag, want->etag) == 0 ? &u->parts[i] : NULL;
        }
    }
    return NULL;
}

/* What is wrong with the list, or NULL and the object filled. */
static const char *assemble_locked(const struct upload *u, const struct chosen *list, size_t n,
                                   struct object *o)
{
    CLEANUP(mem_freep) uint8_t *md5s = mem_zalloc(16 * n);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && list[i].number <= list[i - 1].number) {
            return "InvalidPartOrder";
        }
        const struct part *p = part_of(u, &list[i]);
        if (!p) {
            return "InvalidPart";
        }
        if (i + 1 < n && p->data.size < MIN_PART) {
            return "EntityTooSmall";
        }
        segs_add_range(&o->data, &p->data, 0, p->data.size);
        memcpy(md5s + 16 * i, p->md5, 16);
    }
    etag_of_parts(md5s, n, o->etag);
    return NULL;
}

void ops_mp_complete(struct call *c, struct response *res)
{
    CLEANUP(mem_freep) struct chosen *list = NULL;
    size_t n;
    if (!parse_chosen(c->body ? c->body->data : "", &list, &n)) {
        response_error(res, "MalformedXML", "no list of parts");
        return;
    }
    struct object *o = object_new(c->key, c->key_len);
    char etag[ETAG_SIZE];
    (void)pthread_rwlock_wrlock(&c->bucket->lock);
    struct upload *u = find_locked(c, res);
    const char *fault = u ? assemble_locked(u, list, n, o) : NULL;
    if (fault) {
        response_error(res, fault, "the list of parts is wrong");
    }
    if (u && !fault && conditions_hold_locked(c, res)) {
        o->meta = u->meta;
        u->meta = (struct kvlist){0};
        memcpy(etag, o->etag, sizeof(etag));
        bucket_set_locked(c->bucket, NULL, 0, object_ref(o));
        (void)index_remove(&c->bucket->uploads, u->name.key, u->name.len);
        upload_free(u);
    }
    (void)pthread_rwlock_unlock(&c->bucket->lock);
    object_unref(o);
    if (res->status != 0) {
        return;
    }
    begin_xml(res, "CompleteMultipartUploadResult");
    ENSURE(buf_addf(&res->body, "<Bucket>%s</Bucket><Key>", c->bucket->name) == 0);
    text_xml_escape(&res->body, c->key, c->key_len);
    ENSURE(buf_addf(&res->body, "</Key><ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>",
                    etag) == 0);
}

void ops_mp_abort(struct call *c, struct response *res)
{
    (void)pthread_rwlock_wrlock(&c->bucket->lock);
    struct upload *u = find_locked(c, res);
    if (u) {
        (void)index_remove(&c->bucket->uploads, u->name.key, u->name.len);
        upload_free(u);
        res->status = 204;
    }
    (void)pthread_rwlock_unlock(&c->bucket->lock);
}

/* --- lists --- */

static uint64_t page_size(const struct request *r, const char *name)
{
    uint64_t max = PAGE;
    (void)text_number(request_query(r, name), &max);
    return MIN(max, PAGE);
}

static void tell_part(struct response *res, const struct part *p)
{
    char etag[ETAG_SIZE], date[32];
    etag_of_md5(p->md5, etag);
    text_iso_date(p->mtime_ms, date);
    ENSURE(buf_addf(&res->body,
                    "<Part><PartNumber>%u</PartNumber><LastModified>%s</LastModified>"
                    "<ETag>&quot;%s&quot;</ETag><Size>%llu</Size></Part>",
                    p->number, date, etag, (unsigned long long)p->data.size) == 0);
}

void ops_mp_list_parts(struct call *c, struct response *res)
{
    uint64_t after = 0, max = page_size(c->r, "max-parts"), told = 0;
    (void)text_number(request_query(c->r, "part-number-marker"), &after);
    (void)pthread_rwlock_rdlock(&c->bucket->lock);
    const struct upload *u = find_locked(c, res);
    size_t i = 0;
    unsigned last = 0;
    if (u) {
        begin_xml(res, "ListPartsResult");
        for (; i < u->n_parts && told < max; i++) {
            if (u->parts[i].number > after) {
                tell_part(res, &u->parts[i]);
                last = u->parts[i].number;
                told++;
            }
        }
        ENSURE(buf_addf(&res->body,
                        "<MaxParts>%llu</MaxParts><IsTruncated>%s</IsTruncated>"
                        "<NextPartNumberMarker>%u</NextPartNumberMarker></ListPartsResult>",
                        (unsigned long long)max, i < u->n_parts ? "true" : "false", last) == 0);
    }
    (void)pthread_rwlock_unlock(&c->bucket->lock);
}

/* Behind key-marker and upload-id-marker, as the sort key has them. */
static struct cursor uploads_from(const struct call *c, const char *prefix)
{
    const char *key = request_query(c->r, "key-marker"),
               *id = request_query(c->r, "upload-id-marker");
    const struct index *x = &c->bucket->uploads;
    if (!key || *key == '\0') {
        return index_seek(x, prefix, strlen(prefix));
    }
    struct named n =
        upload_name(key, strlen(key), id && *id ? id : "~"); /* ids are hex: '~' is above */
    struct cursor at = index_seek(x, n.key, n.len);
    struct named *item = cursor_item(&at);
    if (item && item->len == n.len && memcmp(item->key, n.key, n.len) == 0) {
        cursor_next(&at);
    }
    free(n.key);
    return at;
}

static void tell_key(struct response *res, const char *tag, const char *key, size_t n, bool encoded)
{
    ENSURE(buf_addf(&res->body, "<%s>", tag) == 0);
    if (encoded) {
        text_list_escape(&res->body, key, n);
    } else {
        text_xml_escape(&res->body, key, n);
    }
    ENSURE(buf_addf(&res->body, "</%s>", tag) == 0);
}

static bool begins_with(const struct named *item, const char *prefix)
{
    size_t n = strlen(prefix);
    return item && item->len >= n && memcmp(item->key, prefix, n) == 0;
}

void ops_mp_list(struct call *c, struct response *res)
{
    const char *prefix = request_query(c->r, "prefix"),
               *encoding = request_query(c->r, "encoding-type");
    bool encoded = encoding && strcmp(encoding, "url") == 0;
    uint64_t max = page_size(c->r, "max-uploads"), told = 0;
    prefix = prefix ? prefix : "";
    begin_xml(res, "ListMultipartUploadsResult");
    ENSURE(buf_addf(&res->body, "<Bucket>%s</Bucket>", c->bucket->name) == 0);
    adds(&res->body, encoded ? "<EncodingType>url</EncodingType>" : "");
    (void)pthread_rwlock_rdlock(&c->bucket->lock);
    struct cursor at = uploads_from(c, prefix);
    const struct upload *last = NULL;
    for (; begins_with(cursor_item(&at), prefix) && told < max; cursor_next(&at), told++) {
        last = CONTAINER_OF(cursor_item(&at), struct upload, name);
        char date[32];
        text_iso_date(last->begun_ms, date);
        adds(&res->body, "<Upload>");
        tell_key(res, "Key", last->name.key, last->key_len, encoded);
        ENSURE(buf_addf(&res->body, "<UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>",
                        last->name.key + last->key_len + 1, date) == 0);
    }
    bool more = begins_with(cursor_item(&at), prefix) && last;
    ENSURE(buf_addf(&res->body, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false") == 0);
    if (more) {
        tell_key(res, "NextKeyMarker", last->name.key, last->key_len, encoded);
        ENSURE(buf_addf(&res->body, "<NextUploadIdMarker>%s</NextUploadIdMarker>",
                        last->name.key + last->key_len + 1) == 0);
    }
    (void)pthread_rwlock_unlock(&c->bucket->lock);
    adds(&res->body, "</ListMultipartUploadsResult>");
}
