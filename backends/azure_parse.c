/* Answers to results, for Azure Blob: headers, and the lists of blobs and blocks. Pure. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dialect_azure.h"
#include "digest.h"
#include "mem.h"
#include "xml.h"

#define LIST_MAX (64u << 20) /* a page of 5000 names, every byte of each percent-encoded */

/* --- headers */

/* Everything about a version that headers tell but its size. */
static int object_of(const struct dialect_answer *a, struct be_object *o, struct errinfo *reterr)
{
    const char *etag = kv_get(a->headers, "etag"), *tier = kv_get(a->headers, "x-ms-access-tier");
    if (!etag || !dialect_etag(etag, o->etag) || o->etag[0] == '\0') {
        return dialect_garbled(a, reterr, "etag");
    }
    o->mtime_ns = dialect_http_date(kv_get(a->headers, "last-modified"));
    if (tier && strcmp(tier, "Hot") != 0 && strlen(tier) < sizeof(o->storage_class)) {
        memcpy(o->storage_class, tier, strlen(tier) + 1);
    }
    return 0;
}

static void meta_of(const struct kvlist *h, bool of_source, struct kvlist *meta)
{
    static const char prefix[] = "x-ms-meta-";
    for (size_t i = 0; i < h->n; i++) {
        const char *name = h->items[i].name;
        if (strncasecmp(name, prefix, strlen(prefix)) == 0 && name[strlen(prefix)] != '\0') {
            CLEANUP(mem_freep) char *value = dialect_meta_decode(h->items[i].value);
            if (strcasecmp(name + strlen(prefix), AZURE_EXPIRES) == 0) {
                kv_set(meta, "expires", value);
                continue;
            }
            CLEANUP(mem_freep) char *plain = azure_name_decode(name + strlen(prefix));
            CLEANUP(mem_freep) char *full = mem_printf("meta-%s", plain);
            kv_set(meta, full, value);
        }
    }
    for (size_t i = 0; dialect_standard_headers[i]; i++) {
        const char *name = dialect_standard_headers[i], *value = kv_get(h, name);
        if (value && value[0] != '\0' && strcmp(name, "expires") != 0) {
            kv_set(meta, name, value);
        }
    }
    const char *tier = kv_get(h, "x-ms-access-tier"), *scope = kv_get(h, "x-ms-encryption-scope");
    if (tier && strcmp(tier, "Hot") != 0) {
        kv_set(meta, "storage-class", tier);
    }
    if (scope && scope[0] != '\0') {
        CLEANUP(mem_freep) char *value = mem_printf("scope:%s", scope);
        kv_set(meta, "encryption", value);
    }
    if (of_source) {
        kv_set(meta, "content-md5", kv_get(h, "content-md5"));
    }
}

static int parse_head(const struct dialect_answer *a, bool of_source, struct be_object *object,
                      struct kvlist *meta, struct errinfo *reterr)
{
    struct be_object o = {0};
    int err = object_of(a, &o, reterr);
    if (err == 0 && !dialect_u64(kv_get(a->headers, "content-length"), &o.size)) {
        err = dialect_garbled(a, reterr, "no Content-Length");
    }
    if (err == 0) {
        *object = o;
        meta_of(a->headers, of_source, meta);
    }
    return err;
}

/* The emulator answers a read behind the end not with 416 but with no bytes, and a range that ends
 * before it begins. */
static bool is_behind_end(const struct dialect_answer *a, const struct be_read *op,
                          uint64_t *ret_size)
{
    const char *range = kv_get(a->headers, "content-range");
    const char *total = range ? strrchr(range, '/') : NULL;
    uint64_t size = 0;
    if (a->http_status != 206 || a->body_got != 0 || !total || !dialect_u64(total + 1, &size) ||
        size > op->offset) {
        return false;
    }
    *ret_size = size;
    return true;
}

static int parse_read(const struct dialect_answer *a, struct be_read *op, struct errinfo *reterr)
{
    struct be_object o = {0};
    int err = object_of(a, &o, reterr);
    if (err == 0 && !is_behind_end(a, op, &o.size)) {
        err = dialect_read_size(a, op, &o.size, reterr);
    }
    if (err == 0) {
        op->object = o;
        op->got = (size_t)a->body_got;
        meta_of(a->headers, false, &op->meta);
    }
    return err;
}

/* What the service computed itself must be what was sent. */
static int check_md5(const struct dialect_answer *a, const uint8_t *md5, struct errinfo *reterr)
{
    char want[BASE64_LEN(DIGEST_MD5_LEN) + 1];
    const char *got = kv_get(a->headers, "content-md5");
    if (!md5 || !got) {
        return 0;
    }
    base64_encode(md5, DIGEST_MD5_LEN, want);
    if (strcmp(got, want) == 0) {
        return 0;
    }
    reterr->http_status = a->http_status;
    return err_set(reterr, ERR_INTEGRITY, -EIO, "the provider's MD5 of the bytes differs");
}

static int parse_written(const struct dialect_answer *a, uint64_t size, struct be_object *object,
                         struct errinfo *reterr)
{
    struct be_object o = {0};
    int err = object_of(a, &o, reterr);
    if (err == 0) {
        o.size = size;
        *object = o;
    }
    return err;
}

static int parse_copy(const struct dialect_site *site, const struct dialect_call *call,
                      const struct dialect_answer *a, struct dialect_page *page,
                      struct errinfo *reterr)
{
    struct be_copy *op = CONTAINER_OF(call->op, struct be_copy, op);
    bool more = false;
    (void)azure_copy_step(site, call, &more);
    const char *status = kv_get(a->headers, "x-ms-copy-status");
    if (status && strcasecmp(status, "success") != 0) {
        /* asked for as synchronous, so that this is its end */
        reterr->http_status = a->http_status;
        return err_set(reterr, ERR_TRANSIENT, -EIO, "the copy is '%.30s'", status);
    }
    int err = parse_written(a, op->size, &op->object, reterr);
    if (err == 0 && more) {
        page->next[0] = mem_printf("%u", call->step + 1);
    }
    return err;
}

static int parse_part(const struct dialect_answer *a, struct be_part *op, struct errinfo *reterr)
{
    struct be_object o = {.size = op->src ? op->src_len : op->len, .etag_is_md5 = !op->src};
    char etag[AZURE_ETAG_LEN + 1];
    uint8_t md5[DIGEST_MD5_LEN];
    azure_part_etag(op, etag);
    int err = 0;
    if (!op->src && hex_decode(etag, sizeof(md5), md5)) {
        err = check_md5(a, md5, reterr);
    }
    if (err == 0) {
        memcpy(o.etag, etag, sizeof(etag));
        op->object = o;
    }
    return err;
}

/* --- lists of blobs */

struct listing {
    struct xml_reader *xml;
    struct be_entry *entries;
    size_t n, cap;
    struct be_entry row; /* the one that is open */
    bool has_size, encoded, has_md5;
    char **pending; /* for BE_MP_UPLOADS: keys that may have blocks */
    size_t n_pending;
    char *marker;
    size_t unshowable;
};

static int on_open(void *ctx, const char *path)
{
    struct listing *l = ctx;
    if (strcmp(path, "EnumerationResults/Blobs/Blob") == 0 ||
        strcmp(path, "EnumerationResults/Blobs/BlobPrefix") == 0) {
        free(l->row.key);
        l->row = (struct be_entry){0};
        l->has_size = l->encoded = l->has_md5 = false;
    }
    return strchr(path, '/') || strcmp(path, "EnumerationResults") == 0 ? 0 : -EBADMSG;
}

/* <Name Encoded="true"> is one that XML cannot carry. */
static int on_attribute(void *ctx, const char *path, const char *name, const char *value)
{
    struct listing *l = ctx;
    const char *element = strrchr(path, '/');
    if (element && strcmp(element, "/Name") == 0 && strcmp(name, "Encoded") == 0) {
        l->encoded = strcmp(value, "true") == 0;
    }
    return 0;
}

static int take_name(struct listing *l, const char *text, size_t n)
{
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    int err = l->encoded ? url_decode(&plain, text, n, false) : buf_add(&plain, text, n);
    if (err < 0) {
        return -EBADMSG;
    }
    free(l->row.key);
    l->row.key = strlen(buf_str(&plain)) == plain.len ? mem_strdup(buf_str(&plain)) : mem_strdup("");
    return 0;
}

static void add_pending(struct listing *l, const char *key)
{
    l->pending = mem_realloc(l->pending, (l->n_pending + 1) * sizeof(*l->pending));
    l->pending[l->n_pending++] = mem_strdup(key);
}

static int end_row(struct listing *l, bool is_prefix)
{
    if (!l->row.key || (!is_prefix && !l->has_size)) {
        return -EBADMSG;
    }
    if (l->row.key[0] == '\0') {
        l->unshowable++; /* empty, or with a NUL byte */
        return 0;
    }
    /* what was never committed has no size and no MD5, but so may have an empty blob */
    if (!is_prefix && l->row.object.size == 0 && !l->has_md5) {
        add_pending(l, l->row.key);
    }
    if (l->n == l->cap) {
        l->cap = MAX(l->cap * 2, (size_t)64);
        l->entries = mem_realloc(l->entries, l->cap * sizeof(*l->entries));
    }
    l->row.is_prefix = is_prefix;
    l->entries[l->n++] = l->row;
    l->row.key = NULL;
    return 0;
}

static int take_property(struct listing *l, const char *name, const char *text, size_t n)
{
    struct be_object *o = &l->row.object;
    if (strcasecmp(name, "Etag") == 0) {
        return dialect_etag(text, o->etag) ? 0 : -EBADMSG;
    }
    if (strcmp(name, "Content-Length") == 0) {
        l->has_size = dialect_u64(text, &o->size);
    } else if (strcmp(name, "Last-Modified") == 0) {
        o->mtime_ns = dialect_http_date(text);
    } else if (strcmp(name, "Content-MD5") == 0) {
        l->has_md5 = n > 0;
    } else if (strcmp(name, "AccessTier") == 0 && strcmp(text, "Hot") != 0 &&
               n < sizeof(o->storage_class)) {
        memcpy(o->storage_class, text, n + 1);
    }
    return 0;
}

static int on_close(void *ctx, const char *path, const char *text, size_t n)
{
    static const char properties[] = "EnumerationResults/Blobs/Blob/Properties/";
    struct listing *l = ctx;
    if (strncmp(path, properties, strlen(properties)) == 0) {
        return take_property(l, path + strlen(properties), text, n);
    }
    if (strcmp(path, "EnumerationResults/Blobs/Blob/Name") == 0 ||
        strcmp(path, "EnumerationResults/Blobs/BlobPrefix/Name") == 0) {
        return take_name(l, text, n);
    }
    if (strcmp(path, "EnumerationResults/Blobs/Blob") == 0) {
        return end_row(l, false);
    }
    if (strcmp(path, "EnumerationResults/Blobs/BlobPrefix") == 0) {
        return end_row(l, true);
    }
    if (strcmp(path, "EnumerationResults/NextMarker") == 0) {
        free(l->marker);
        l->marker = mem_strndup(text, n);
    }
    return 0;
}

void *azure_stream_new(const struct dialect_site *site, const struct dialect_call *call)
{
    static const struct xml_handler handler = {.open = on_open, .close = on_close, .attribute = on_attribute};
    (void)site;
    CLEANUP(mem_freep) char *key =
        call->kind == BE_MP_UPLOADS && call->page[0] ? azure_state_key(call->page[0]) : NULL;
    if (call->kind != BE_LIST && (call->kind != BE_MP_UPLOADS || key)) {
        return NULL;
    }
    struct listing *l = mem_zalloc(sizeof(*l));
    l->xml = xml_new(&handler, l, LIST_MAX);
    return l;
}

int azure_stream_feed(void *stream, const void *p, size_t n)
{
    struct listing *l = stream;
    return xml_feed(l->xml, p, n);
}

void azure_stream_free(void *stream)
{
    struct listing *l = stream;
    if (!l) {
        return;
    }
    xml_free(l->xml);
    for (size_t i = 0; i < l->n; i++) {
        free(l->entries[i].key);
    }
    for (size_t i = 0; i < l->n_pending; i++) {
        free(l->pending[i]);
    }
    free(l->pending);
    free(l->entries);
    free(l->row.key);
    free(l->marker);
    free(l);
}

static int entry_compare(const void *a, const void *b)
{
    const struct be_entry *x = a, *y = b;
    return strcmp(x->key, y->key);
}

/* Without those that are not after `after`, which the service cannot be asked for. */
static void drop_before(struct listing *l, const char *after, size_t after_len)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct be_entry e = l->entries[i];
        size_t n = strlen(e.key);
        int order = memcmp(e.key, after, MIN(n, after_len));
        /* a prefix stands for keys that may be after it */
        bool inside = e.is_prefix && n <= after_len && order == 0;
        if (order > 0 || (order == 0 && n > after_len) || inside) {
            l->entries[kept++] = e;
        } else {
            free(e.key);
        }
    }
    l->n = kept;
}

static int parse_list(const struct dialect_answer *a, struct be_list *op, struct dialect_page *page,
                      struct errinfo *reterr)
{
    struct listing *l = a->stream;
    const char *after = op->start_after, *marker = NULL;
    size_t after_len = after ? strlen(after) : 0;
    if (!l || xml_finish(l->xml) < 0) {
        return dialect_garbled(a, reterr, "list");
    }
    if (op->cursor) {
        (void)azure_cursor_parse(op->cursor, &after, &after_len, &marker);
    }
    if (after_len > 0) {
        drop_before(l, after, after_len);
    }
    if (l->n > 1) {
        /* blobs and prefixes may come apart; and names above U+FFFF may be sorted as UTF-16 [u], which
         * shows only beside names between U+E000 and U+FFFF on the next page */
        qsort(l->entries, l->n, sizeof(*l->entries), entry_compare);
    }
    op->entries = TAKE(l->entries);
    op->n_entries = l->n;
    l->n = 0;
    op->next_cursor =
        l->marker && l->marker[0] != '\0' ? azure_cursor(after, after_len, l->marker) : NULL;
    op->server_date_ns = dialect_http_date(kv_get(a->headers, "date"));
    page->unshowable = l->unshowable;
    return 0;
}

/* --- blocks */

struct blocks {
    const char *upload_id; /* NULL: of all */
    struct be_part_id *parts;
    char (*uploads)[AZURE_UPLOAD_LEN + 1];
    size_t n, cap, n_uploads;
};

static void note_upload(struct blocks *b, const char *id)
{
    for (size_t i = b->n_uploads; i > 0; i--) {
        if (strcmp(b->uploads[i - 1], id) == 0) {
            return;
        }
    }
    b->uploads = mem_realloc(b->uploads, (b->n_uploads + 1) * sizeof(*b->uploads));
    memcpy(b->uploads[b->n_uploads++], id, AZURE_UPLOAD_LEN + 1);
}

static int on_block(void *ctx, struct xml_field *row)
{
    struct blocks *b = ctx;
    struct be_part_id part = {0};
    char upload[AZURE_UPLOAD_LEN + 1];
    if (!row[0].value || !dialect_u64(row[1].value, &part.size)) {
        return -EBADMSG;
    }
    if (!azure_block_parse(row[0].value, upload, &part)) {
        return 0; /* some other program's */
    }
    if (!b->upload_id) {
        note_upload(b, upload);
    } else if (strcmp(upload, b->upload_id) == 0) {
        if (b->n == b->cap) {
            b->cap = MAX(b->cap * 2, (size_t)64);
            b->parts = mem_realloc(b->parts, b->cap * sizeof(*b->parts));
        }
        b->parts[b->n++] = part;
    }
    return 0;
}

static int read_blocks(const struct dialect_answer *a, struct blocks *b, struct errinfo *reterr)
{
    struct xml_field row[] = {{"Name", NULL}, {"Size", NULL}};
    struct xml_rows rows = {"BlockList/UncommittedBlocks/Block", row, ARRAY_LEN(row), on_block, b};
    char root[XML_ROOT_MAX];
    if (xml_read_rows(a->body, a->body_len, &rows, NULL, 0, root) < 0 ||
        strcmp(root, "BlockList") != 0) {
        free(b->parts);
        free(b->uploads);
        return dialect_garbled(a, reterr, "BlockList");
    }
    return 0;
}

/* By number; of one number the later listed first. */
static int part_compare(const void *a, const void *b)
{
    const struct be_part_id *const *x = a, *const *y = b;
    if ((*x)->number != (*y)->number) {
        return (*x)->number < (*y)->number ? -1 : 1;
    }
    return *x > *y ? -1 : 1;
}

/* A part that was sent again with other bytes is there twice. Which of them is the newer one the service
 * does not say [u]; the emulator lists them in the order they came. Nothing depends on it: the etag
 * says what it is, and whoever wanted the other sends it again. */
static int parse_parts(const struct dialect_answer *a, const struct be_parts *op,
                       struct dialect_page *page, struct errinfo *reterr)
{
    struct blocks b = {.upload_id = op->upload_id};
    int err = read_blocks(a, &b, reterr);
    if (err < 0) {
        return err;
    }
    if (b.n == 0) { /* none yet, or no more: it is to be begun */
        reterr->http_status = a->http_status;
        dialect_text(reterr->code, sizeof(reterr->code), "NoSuchUpload");
        return err_set(reterr, ERR_ABSENT, -ENOENT, "no blocks of this upload are there");
    }
    struct be_part_id **order = mem_zalloc(b.n * sizeof(*order));
    for (size_t i = 0; i < b.n; i++) {
        order[i] = &b.parts[i];
    }
    qsort(order, b.n, sizeof(struct be_part_id *), part_compare);
    page->parts = mem_zalloc(b.n * sizeof(*page->parts));
    for (size_t i = 0; i < b.n; i++) {
        if (page->n_parts == 0 || page->parts[page->n_parts - 1].number != order[i]->number) {
            page->parts[page->n_parts++] = *order[i];
        }
    }
    free(order);
    free(b.parts);
    return 0;
}

/* The blocks of one of the keys that were found. */
static int parse_uploads_of(const struct dialect_answer *a, const char *key, const char *state,
                            struct dialect_page *page, struct errinfo *reterr)
{
    struct blocks b = {0};
    int err = read_blocks(a, &b, reterr);
    if (err < 0) {
        return err;
    }
    page->uploads = mem_zalloc((b.n_uploads + 1) * sizeof(*page->uploads));
    for (size_t i = 0; i < b.n_uploads; i++) {
        char seconds[9];
        snprintf(seconds, sizeof(seconds), "%.8s", b.uploads[i]);
        page->uploads[page->n_uploads++] =
            (struct be_upload){.key = mem_strdup(key),
                               .upload_id = mem_strdup(b.uploads[i]),
                               .initiated_ns = (int64_t)strtoul(seconds, NULL, 16) * 1000000000};
    }
    free(b.uploads);
    page->next[0] = azure_state_rest(state);
    return 0;
}

static int parse_uploads(const struct dialect_call *call, const struct dialect_answer *a,
                         struct dialect_page *page, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *key = call->page[0] ? azure_state_key(call->page[0]) : NULL;
    if (key) {
        return parse_uploads_of(a, key, call->page[0], page, reterr);
    }
    struct listing *l = a->stream;
    const char *exactly = call->op->key;
    CLEANUP(buf_fini) struct buf state = BUF_INIT;
    if (!l || xml_finish(l->xml) < 0) {
        return dialect_garbled(a, reterr, "list");
    }
    const char *marker = l->marker && !exactly ? l->marker : "";
    int err = url_encode(&state, marker, strlen(marker), false);
    size_t n = exactly ? l->n : l->n_pending;
    for (size_t i = 0; i < n && err == 0; i++) {
        const char *name = exactly ? l->entries[i].key : l->pending[i];
        if (!exactly || strcmp(name, exactly) == 0) {
            err = buf_addc(&state, ' ');
            if (err == 0) {
                err = url_encode(&state, name, strlen(name), false);
            }
        }
    }
    if (err < 0) {
        return err_set(reterr, ERR_LOCAL, err, "uploads: no memory");
    }
    page->next[0] = state.len > 0 ? buf_take(&state) : NULL;
    return 0;
}

int azure_parse(const struct dialect_site *site, const struct dialect_call *call,
                const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr)
{
    struct be_op *op = call->op;
    switch (call->kind) {
    case BE_STAT: {
        struct be_stat *o = CONTAINER_OF(op, struct be_stat, op);
        return parse_head(a, call->of_source, &o->object, &o->meta, reterr);
    }
    case BE_READ: {
        struct be_read *o = CONTAINER_OF(op, struct be_read, op);
        return call->head || o->len == 0 ? parse_head(a, false, &o->object, &o->meta, reterr)
                                         : parse_read(a, o, reterr);
    }
    case BE_WRITE: {
        struct be_write *o = CONTAINER_OF(op, struct be_write, op);
        int err = check_md5(a, o->md5, reterr);
        return err < 0 ? err : parse_written(a, o->len, &o->object, reterr);
    }
    case BE_LIST:
        return parse_list(a, CONTAINER_OF(op, struct be_list, op), page, reterr);
    case BE_COPY:
        return parse_copy(site, call, a, page, reterr);
    case BE_MP_PART:
        return parse_part(a, CONTAINER_OF(op, struct be_part, op), reterr);
    case BE_MP_COMMIT: {
        struct be_commit *o = CONTAINER_OF(op, struct be_commit, op);
        uint64_t size = 0;
        for (size_t i = 0; i < o->n_parts; i++) {
            size += o->parts[i].size;
        }
        return parse_written(a, size, &o->object, reterr);
    }
    case BE_MP_PARTS:
        return parse_parts(a, CONTAINER_OF(op, const struct be_parts, op), page, reterr);
    case BE_MP_UPLOADS:
        return parse_uploads(call, a, page, reterr);
    case BE_RESTORE:
        CONTAINER_OF(op, struct be_restore, op)->state = a->http_status == 202   ? BE_RESTORE_BEGUN
                                                         : a->http_status == 409 ? BE_RESTORE_UNDER_WAY
                                                                                 : BE_RESTORE_READABLE;
        return 0;
    case BE_REMOVE_MANY:
        return azure_batch_parse(site, call, a, reterr);
    case BE_REMOVE:
    case BE_MP_BEGIN:
    case BE_MP_ABORT:
    case BE_KINDS:
        break;
    }
    return 0;
}
