/* Answers of the Qiniu dialect. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "mem.h"
#include "qiniu.h"

#define PUT_TIME_S 10000000 /* put times count 100 ns */

/* What the service says in reads of objects that have no such header of their own: nobody's metadata. */
#define DEFAULT_CACHE "public, max-age=31536000"
#define DEFAULT_DISPOSITION "inline; filename="

/* --- values */

static bool hash_of(const char *etag, uint8_t ret[DIGEST_QETAG_LEN])
{
    char text[BASE64_LEN(DIGEST_QETAG_LEN) + 1];
    size_t n = 0;
    if (strlen(etag) != BASE64_LEN(DIGEST_QETAG_LEN)) {
        return false;
    }
    memcpy(text, etag, sizeof(text));
    for (char *p = text; *p; p++) {
        *p = (char)(*p == '-' ? '+' : *p == '_' ? '/' : *p);
    }
    return base64_decode(text, sizeof(text) - 1, ret, &n) && n == DIGEST_QETAG_LEN;
}

/* False when both are hashes made in the same way, and differ: the bytes are others. */
static bool may_be_same(const char *etag, const uint8_t expected[DIGEST_QETAG_LEN])
{
    uint8_t hash[DIGEST_QETAG_LEN];
    return !hash_of(etag, hash) || hash[0] != expected[0] ||
           memcmp(hash, expected, sizeof(hash)) == 0;
}

static int other_bytes(const struct dialect_answer *a, struct errinfo *reterr)
{
    reterr->http_status = a->http_status;
    return err_set(reterr, ERR_INTEGRITY, -EIO, "the service's hash is not that of the bytes");
}

static bool object_of(const json_t *o, const char *hash_name, struct be_object *ret)
{
    uint64_t put_time = 0, type = 0;
    const char *hash = json_get_text(o, hash_name);
    if (!hash || hash[0] == '\0' || !dialect_etag(hash, ret->etag) ||
        !json_get_u64(o, "fsize", &ret->size)) {
        return false;
    }
    (void)json_get_u64(o, "putTime", &put_time);
    (void)json_get_u64(o, "type", &type);
    /* whole seconds, as the reads' Last-Modified: one version has one time */
    ret->mtime_ns = (int64_t)MIN(put_time / PUT_TIME_S, (uint64_t)INT64_MAX / 1000000000) * 1000000000;
    snprintf(ret->storage_class, sizeof(ret->storage_class), "%s", qiniu_type_name(type));
    return true;
}

/* What stat says of metadata, by whole names. The names inside may have their prefix already [u]. */
static void fields_of(const json_t *o, struct kvlist *ret)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(o, "x-qn-meta"), name, value)
    {
        bool whole = strncasecmp(name, "x-qn-meta-", 10) == 0;
        CLEANUP(mem_freep) char *field = mem_printf("%s%s", whole ? "" : "x-qn-meta-", name);
        if (json_text(value)) {
            kv_set(ret, field, json_text(value));
        }
    }
}

/* Only what can be a header again. */
static void add_header(struct kvlist *meta, const char *name, const char *value)
{
    if (value && value[0] != '\0' && dialect_header_value_ok(value)) {
        kv_set(meta, name, value);
    }
}

static int parse_stat(const struct dialect_answer *a, struct be_object *object, struct kvlist *meta,
                      struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    CLEANUP(kv_fini) struct kvlist fields = {0};
    struct be_object seen = {0};
    if (!object_of(o, "hash", &seen)) {
        return dialect_garbled(a, reterr, "stat");
    }
    *object = seen;
    fields_of(o, &fields);
    for (size_t i = 0; i < fields.n; i++) {
        if (dialect_header_value_ok(fields.items[i].value) || fields.items[i].name[10] != '!') {
            qiniu_meta_add(meta, fields.items[i].name, fields.items[i].value);
        }
    }
    add_header(meta, "content-type", json_get_text(o, "mimeType"));
    add_header(meta, "storage-class", seen.storage_class);
    return 0;
}

/* The headers of a read: those of the object, and what the domain adds by itself. */
static void meta_of_read(const struct kvlist *h, struct kvlist *meta)
{
    const char *cache = kv_get(h, "cache-control"), *how = kv_get(h, "content-disposition");
    for (size_t i = 0; i < h->n; i++) {
        if (strncasecmp(h->items[i].name, "x-qn-meta-!", 11) != 0) {
            qiniu_meta_add(meta, h->items[i].name, h->items[i].value);
        }
    }
    add_header(meta, "content-type", kv_get(h, "content-type"));
    add_header(meta, "content-encoding", kv_get(h, "content-encoding"));
    add_header(meta, "content-language", kv_get(h, "content-language"));
    add_header(meta, "expires", kv_get(h, "expires"));
    if (cache && strcmp(cache, DEFAULT_CACHE) != 0) {
        add_header(meta, "cache-control", cache);
    }
    if (how && strncmp(how, DEFAULT_DISPOSITION, strlen(DEFAULT_DISPOSITION)) != 0) {
        add_header(meta, "content-disposition", how);
    }
}

static int parse_read(const struct dialect_answer *a, struct be_read *op, struct errinfo *reterr)
{
    struct be_object o = {0};
    const char *etag = kv_get(a->headers, "etag");
    uint8_t hash[DIGEST_QETAG_LEN];
    /* without an etag nobody knows which version this is */
    if (!etag || !dialect_etag(etag, o.etag) || o.etag[0] == '\0') {
        return dialect_garbled(a, reterr, "etag");
    }
    o.mtime_ns = dialect_http_date(kv_get(a->headers, "last-modified"));
    int err = dialect_read_size(a, op, &o.size, reterr);
    if (err < 0) {
        return err;
    }
    if (op->buf && op->offset == 0 && o.size == a->body_got) {
        digest_qetag(op->buf, (size_t)a->body_got, hash);
        if (!may_be_same(o.etag, hash)) {
            return other_bytes(a, reterr); /* processed on the way: domains can do that */
        }
    }
    op->object = o;
    op->got = (size_t)a->body_got;
    meta_of_read(a->headers, &op->meta);
    return 0;
}

/* --- writing */

static int parse_write(const struct dialect_answer *a, struct be_write *op, struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    const char *etag = json_get_text(o, "hash");
    uint8_t hash[DIGEST_QETAG_LEN];
    struct be_object made = {.size = op->len};
    if (!etag || !dialect_etag(etag, made.etag) || made.etag[0] == '\0') {
        return dialect_garbled(a, reterr, "hash");
    }
    digest_qetag(op->data, op->len, hash);
    if (!may_be_same(made.etag, hash)) {
        return other_bytes(a, reterr);
    }
    op->object = made;
    return 0;
}

static int parse_begin(const struct dialect_answer *a, struct be_mp *op, struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    const char *id = json_get_text(o, "uploadId");
    if (!id || id[0] == '\0') {
        return dialect_garbled(a, reterr, "no uploadId");
    }
    op->upload_id = mem_strdup(id);
    return 0;
}

static int parse_part(const struct dialect_answer *a, struct be_part *op, struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    const char *etag = json_get_text(o, "etag"), *md5 = json_get_text(o, "md5");
    char sent[2 * DIGEST_MD5_LEN + 1];
    struct be_object made = {.size = op->len};
    if (!etag || !dialect_etag(etag, made.etag) || made.etag[0] == '\0') {
        return dialect_garbled(a, reterr, "etag");
    }
    if (op->md5 && md5) {
        hex_encode(op->md5, DIGEST_MD5_LEN, sent);
        if (strcasecmp(sent, md5) != 0) {
            return other_bytes(a, reterr);
        }
    } else {
        uint8_t hash[DIGEST_QETAG_LEN];
        digest_qetag(op->data, op->len, hash);
        if (!may_be_same(made.etag, hash)) {
            return other_bytes(a, reterr);
        }
    }
    op->object = made;
    return 0;
}

/* The hash of an object from its parts' (read in the service's SDKs). False when one of them is no hash. */
static bool hash_of_parts(const struct be_commit *op, uint8_t ret[DIGEST_QETAG_LEN])
{
    struct digest_sha1 all;
    uint8_t part[DIGEST_QETAG_LEN];
    bool blocks = true;
    digest_sha1_init(&all);
    for (size_t i = 0; i < op->n_parts; i++) {
        const struct be_part_id *p = &op->parts[i];
        if (!hash_of(p->etag, part)) {
            return false;
        }
        digest_sha1_update(&all, part + 1, DIGEST_SHA1_LEN);
        blocks = blocks && (i + 1 < op->n_parts ? p->size == DIGEST_QETAG_BLOCK
                                                : p->size <= DIGEST_QETAG_BLOCK);
    }
    if (op->n_parts == 1 && blocks) {
        memcpy(ret, part, sizeof(part));
        return true;
    }
    ret[0] = blocks ? DIGEST_QETAG_BLOCKS : DIGEST_QETAG_PARTS;
    digest_sha1_final(&all, ret + 1);
    return true;
}

static int parse_commit(const struct dialect_answer *a, struct be_commit *op,
                        struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    const char *etag = json_get_text(o, "hash");
    uint8_t hash[DIGEST_QETAG_LEN];
    struct be_object made = {0};
    if (!etag || !dialect_etag(etag, made.etag) || made.etag[0] == '\0') {
        return dialect_garbled(a, reterr, "hash");
    }
    if (hash_of_parts(op, hash) && !may_be_same(made.etag, hash)) {
        return other_bytes(a, reterr);
    }
    for (size_t i = 0; i < op->n_parts; i++) {
        made.size += op->parts[i].size;
    }
    op->object = made;
    return 0;
}

/* Absent where it may be, null, or an array. */
static bool is_rows(const json_t *o, const char *name, bool may_lack)
{
    const json_t *rows = json_object_get(o, name);
    return rows ? json_is_array(rows) || json_is_null(rows) : may_lack;
}

static int parse_parts(const struct dialect_answer *a, struct dialect_page *page,
                       struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    const json_t *parts = json_object_get(o, "parts");
    size_t n = json_array_size(parts);
    uint64_t next = 0;
    if (!json_get_text(o, "uploadId") || !is_rows(o, "parts", false)) {
        return dialect_garbled(a, reterr, "list of parts");
    }
    struct be_part_id *ids = mem_zalloc((n + 1) * sizeof(*ids));
    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(parts, i);
        uint64_t number = 0;
        const char *etag = json_get_text(p, "etag");
        if (!json_get_u64(p, "partNumber", &number) || number == 0 || number > UINT32_MAX ||
            !json_get_u64(p, "size", &ids[i].size) || !etag || !dialect_etag(etag, ids[i].etag)) {
            free(ids);
            return dialect_garbled(a, reterr, "list of parts");
        }
        ids[i].number = (unsigned)number;
    }
    page->parts = ids;
    page->n_parts = n;
    if (json_get_u64(o, "partNumberMarker", &next) && next > 0 && n > 0) {
        page->next[0] = mem_printf("%llu", (unsigned long long)next);
    }
    return 0;
}

/* --- lists */

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct be_entry *)a)->key, ((const struct be_entry *)b)->key);
}

static void drop_entries(struct be_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(e[i].key);
    }
    free(e);
}

/* Without any of what a list is made of, an answer is no empty list, and of no last page. */
static bool is_list(const json_t *o)
{
    const json_t *marker = json_object_get(o, "marker");
    return is_rows(o, "items", false) && is_rows(o, "commonPrefixes", true) &&
           (!marker || json_is_null(marker) || json_text(marker));
}

/* Keys and common prefixes of a page, in order. NULL: something is missing. */
static struct be_entry *read_entries(const json_t *o, size_t *ret_n, size_t *unshowable)
{
    const json_t *items = json_object_get(o, "items"), *prefixes = json_object_get(o, "commonPrefixes");
    size_t n_items = json_array_size(items), n_prefixes = json_array_size(prefixes), n = 0;
    struct be_entry *e = mem_zalloc((n_items + n_prefixes + 1) * sizeof(*e));
    for (size_t i = 0; i < n_items + n_prefixes; i++) {
        const json_t *item = i < n_items ? json_array_get(items, i) : NULL;
        const json_t *name = item ? json_object_get(item, "key") : json_array_get(prefixes, i - n_items);
        const char *key = json_text(name);
        if (!json_is_string(name) || (item && !object_of(item, "hash", &e[n].object))) {
            drop_entries(e, n);
            return NULL;
        }
        if (!key || key[0] == '\0') { /* an empty key, or one with a NUL byte */
            (*unshowable)++;
            e[n] = (struct be_entry){0};
            continue;
        }
        e[n].is_prefix = !item;
        e[n++].key = mem_strdup(key);
    }
    qsort(e, n, sizeof(*e), compare_entries);
    *ret_n = n;
    return e;
}

/* What is up to `after` is left out: a list that begins after a key, or something told twice. */
static void keep_after(struct be_entry *e, size_t *n, const char *after)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        bool twice = kept > 0 && strcmp(e[kept - 1].key, e[i].key) == 0;
        if (twice || (after && strcmp(e[i].key, after) <= 0)) {
            free(e[i].key);
        } else {
            e[kept++] = e[i];
        }
    }
    *n = kept;
}

/* See build_list for cursors. */
static int parse_list(const struct dialect_answer *a, struct be_list *op, struct dialect_page *page,
                      struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    const char *next = json_get_text(o, "marker"), *after = op->start_after;
    bool seeks = op->cursor ? op->cursor[0] == '+' : op->start_after != NULL;
    size_t n = 0, unshowable = 0;
    if (json_object_get(o, "error")) {
        char why[160];
        dialect_text(why, sizeof(why), json_get_text(o, "error"));
        reterr->http_status = a->http_status;
        return err_set(reterr, ERR_TRANSIENT, -EIO, "the list failed: %s", why);
    }
    struct be_entry *e = is_list(o) ? read_entries(o, &n, &unshowable) : NULL;
    if (!e) {
        return dialect_garbled(a, reterr, "list");
    }
    if (op->cursor) {
        after = strchr(op->cursor, '\n') + 1;
    }
    keep_after(e, &n, after && after[0] != '\0' ? after : NULL);
    page->unshowable = unshowable;
    if (op->max > 0 && n > op->max) { /* the rest of this page comes again */
        for (size_t i = op->max; i < n; i++) {
            free(e[i].key);
        }
        n = op->max;
        const char *marker = op->cursor ? op->cursor + 1 : "";
        op->next_cursor = mem_printf("+%.*s\n%s", (int)strcspn(marker, "\n"), marker, e[n - 1].key);
    } else if (next && next[0] != '\0') {
        op->next_cursor = mem_printf("%c%s\n%s", seeks && n == 0 ? '+' : '-', next,
                                     n > 0   ? e[n - 1].key
                                     : after ? after
                                             : "");
    }
    op->entries = e;
    op->n_entries = n;
    op->server_date_ns = dialect_http_date(kv_get(a->headers, "date"));
    return 0;
}

/* --- many removals: one answer a key, in order */

static int parse_many(const struct qiniu *q, const struct dialect_call *call,
                      const struct dialect_answer *a, struct errinfo *reterr)
{
    CLEANUP(json_done) json_t *all = json_read(a->body, a->body_len);
    uint64_t code = 0;
    for (size_t i = 0; i < call->n_chosen; i++) {
        if (json_array_size(all) != call->n_chosen || !json_get_u64(json_array_get(all, i), "code", &code) ||
            code < 200 || code > 999) {
            return dialect_garbled(a, reterr, "batch");
        }
    }
    for (size_t i = 0; i < call->n_chosen; i++) {
        const json_t *one = json_array_get(all, i);
        const char *message = json_get_text(json_object_get(one, "data"), "error");
        struct errinfo *e = &call->errs[call->chosen[i]];
        *e = (struct errinfo){0};
        (void)json_get_u64(one, "code", &code);
        if (code >= 300 && code != 612) {
            qiniu_judge(q, call, (int)code, message ? message : "", e);
        }
    }
    return 0;
}

/* --- copies */

/* page[1]: the hash, a blank, and which steps are wanted: 'c' 'm' 't' 'l' for copy, metadata, type, look. */
static int next_step(const struct be_copy *op, const char *seen, const char *after,
                     struct dialect_page *page, struct be_object *object)
{
    static const struct {
        char letter;
        const char *step;
    } steps[] = {{'c', QINIU_COPY}, {'m', QINIU_META}, {'t', QINIU_TYPE}, {'l', QINIU_LOOK}};
    const char *wanted = strchr(seen, ' ');
    bool passed = !after;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (passed && strchr(wanted, steps[i].letter)) {
            page->next[0] = mem_strdup(steps[i].step);
            page->next[1] = mem_strdup(seen);
            return 0;
        }
        passed = passed || strcmp(after, steps[i].step) == 0;
    }
    *object = (struct be_object){.size = op->size};
    snprintf(object->etag, sizeof(object->etag), "%.*s", (int)(wanted - seen), seen);
    return 0;
}

/* Whether all of a's names are in b, and with `values` their values too. */
static bool is_within(const struct kvlist *a, const struct kvlist *b, bool values)
{
    for (size_t i = 0; i < a->n; i++) {
        const char *other = kv_get(b, a->items[i].name);
        if (!other || (values && strcmp(other, a->items[i].value) != 0)) {
            return false;
        }
    }
    return true;
}

static int parse_source(const struct qiniu *q, const struct dialect_call *call,
                        const struct dialect_answer *a, struct dialect_page *page,
                        struct errinfo *reterr)
{
    struct be_copy *op = CONTAINER_OF(call->op, struct be_copy, op);
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    CLEANUP(qiniu_meta_fini) struct qiniu_meta m = {0};
    CLEANUP(kv_fini) struct kvlist old = {0};
    struct be_object source = {0};
    uint64_t restored = 0, type = 0;
    if (!object_of(o, "hash", &source) || strchr(source.etag, ' ')) {
        return dialect_garbled(a, reterr, "stat");
    }
    int err = qiniu_meta_from(q, op->meta, &m, reterr);
    if (err < 0) {
        return err;
    }
    if (op->src_etag && op->src_etag[0] != '\0' && strcmp(op->src_etag, source.etag) != 0) {
        reterr->http_status = a->http_status;
        return err_set(reterr, ERR_PRECOND, -ESTALE,
                       "the source is another version than the one asked for");
    }
    (void)json_get_u64(o, "type", &type);
    (void)json_get_u64(o, "restoreStatus", &restored);
    if ((type == 2 || type == 3) && restored != 2) {
        reterr->http_status = a->http_status;
        return err_set(reterr, ERR_ARCHIVED, -EIO, "the object is archived (%s): restore it first",
                       qiniu_type_name(type));
    }
    fields_of(o, &old);
    const char *mime = json_get_text(o, "mimeType");
    bool self = call->src->bucket && strcmp(call->src->bucket, q->site.bucket) == 0 &&
                strcmp(op->src_key, op->op.key) == 0;
    bool same = is_within(&m.fields, &old, true) && is_within(&old, &m.fields, false) && m.mime &&
                mime && strcmp(m.mime, mime) == 0;
    /* copying has no condition; setting metadata has, and else the copy is looked at */
    bool looks = !is_within(&old, &m.fields, false) || (same && !self);
    CLEANUP(mem_freep)
    char *seen = mem_printf("%s %s%s%s%s", source.etag, self ? "" : "c", same ? "" : "m",
                            m.type >= 0 && m.type != (int)MIN(type, 99u) ? "t" : "",
                            looks ? "l" : "");
    err = next_step(op, seen, NULL, page, &source);
    if (!page->next[0]) {
        op->object = source;
    }
    return err;
}

/* The service says that it copied and set metadata; which version it copied, and whether what was not named went, is
 * seen here. */
static int parse_look(const struct qiniu *q, const struct dialect_call *call,
                      const struct dialect_answer *a, struct errinfo *reterr)
{
    struct be_copy *op = CONTAINER_OF(call->op, struct be_copy, op);
    CLEANUP(json_done) json_t *o = json_read(a->body, a->body_len);
    CLEANUP(qiniu_meta_fini) struct qiniu_meta m = {0};
    CLEANUP(kv_fini) struct kvlist now = {0};
    struct be_object made = {0};
    size_t n = strcspn(call->page[1], " ");
    if (!object_of(o, "hash", &made)) {
        return dialect_garbled(a, reterr, "stat");
    }
    int err = qiniu_meta_from(q, op->meta, &m, reterr);
    if (err < 0) {
        return err;
    }
    reterr->http_status = a->http_status;
    if (strlen(made.etag) != n || strncmp(made.etag, call->page[1], n) != 0) {
        return err_set(reterr, ERR_PRECOND, -ESTALE, "the copy is another version already");
    }
    fields_of(o, &now);
    if (!is_within(&now, &m.fields, false)) {
        return err_set(reterr, ERR_INVALID, -EOPNOTSUPP,
                       "the service keeps metadata that was to go; write the object anew");
    }
    reterr->http_status = 0;
    op->object = made;
    return 0;
}

static int parse_copy(const struct qiniu *q, const struct dialect_call *call,
                      const struct dialect_answer *a, struct dialect_page *page,
                      struct errinfo *reterr)
{
    struct be_copy *op = CONTAINER_OF(call->op, struct be_copy, op);
    if (!call->page[0]) {
        return call->src ? parse_source(q, call, a, page, reterr)
                         : dialect_garbled(a, reterr, "copy");
    }
    if (strcmp(call->page[0], QINIU_LOOK) == 0) {
        return parse_look(q, call, a, reterr);
    }
    return next_step(op, call->page[1], call->page[0], page, &op->object);
}

int qiniu_parse(const struct dialect_site *site, const struct dialect_call *call,
                const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr)
{
    struct be_op *op = call->op;
    switch (call->kind) {
    case BE_STAT: {
        struct be_stat *o = CONTAINER_OF(op, struct be_stat, op);
        return parse_stat(a, &o->object, &o->meta, reterr);
    }
    case BE_READ: {
        struct be_read *o = CONTAINER_OF(op, struct be_read, op);
        if (!qiniu_is_download(call)) {
            return parse_stat(a, &o->object, &o->meta, reterr);
        }
        return parse_read(a, o, reterr);
    }
    case BE_WRITE:
        return parse_write(a, CONTAINER_OF(op, struct be_write, op), reterr);
    case BE_LIST:
        return parse_list(a, CONTAINER_OF(op, struct be_list, op), page, reterr);
    case BE_COPY:
        return parse_copy(qiniu_of(site), call, a, page, reterr);
    case BE_REMOVE_MANY:
        return parse_many(qiniu_of(site), call, a, reterr);
    case BE_MP_BEGIN:
        return parse_begin(a, CONTAINER_OF(op, struct be_mp, op), reterr);
    case BE_MP_PART:
        return parse_part(a, CONTAINER_OF(op, struct be_part, op), reterr);
    case BE_MP_COMMIT:
        return parse_commit(a, CONTAINER_OF(op, struct be_commit, op), reterr);
    case BE_MP_PARTS:
        return parse_parts(a, page, reterr);
    case BE_RESTORE: /* whether it was begun before is not said */
    case BE_REMOVE:
    case BE_MP_ABORT:
    case BE_MP_UPLOADS:
    case BE_KINDS:
        break;
    }
    return 0;
}
