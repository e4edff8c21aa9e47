/* Lists of objects, version 1 and 2. */
#include <string.h>

#include "mem.h"
#include "ops.h"
#include "text.h"

#define PAGE 1000

struct list {
    const char *prefix, *delimiter;
    size_t prefix_len, delimiter_len;
    char *after; /* everything up to here has been told; a folder with all that is in it */
    size_t after_len;
    bool encoded, v2, has_owner;
    uint64_t max;
    uint64_t told;
    struct buf *out;
    struct named last; /* what was told last: a key, or a folder */
};

static void adds(struct buf *out, const char *s)
{
    ENSURE(buf_adds(out, s) == 0);
}

static void add_name(const struct list *l, const char *name, size_t n)
{
    if (l->encoded) {
        text_list_escape(l->out, name, n);
    } else {
        text_xml_escape(l->out, name, n);
    }
}

static void add_element(const struct list *l, const char *tag, const char *value, size_t n)
{
    ENSURE(buf_addf(l->out, "<%s>", tag) == 0);
    add_name(l, value, n);
    ENSURE(buf_addf(l->out, "</%s>", tag) == 0);
}

/* Tokens are the hex of what was told last. */
static bool start_of(const struct request *r, struct list *l)
{
    const char *token = l->v2 ? request_query(r, "continuation-token") : NULL;
    const char *after = request_query(r, l->v2 ? "start-after" : "marker");
    if (token) {
        size_t n = strlen(token);
        l->after = mem_zalloc(n / 2 + 1);
        l->after_len = n / 2;
        return n % 2 == 0 && hex_decode(token, n / 2, l->after);
    }
    l->after = mem_strdup(after ? after : "");
    l->after_len = strlen(l->after);
    return true;
}

static bool parse(const struct request *r, struct list *l)
{
    const char *encoding = request_query(r, "encoding-type"), *max = request_query(r, "max-keys");
    l->prefix = request_query(r, "prefix");
    l->delimiter = request_query(r, "delimiter");
    l->prefix = l->prefix ? l->prefix : "";
    l->delimiter = l->delimiter ? l->delimiter : "";
    l->prefix_len = strlen(l->prefix);
    l->delimiter_len = strlen(l->delimiter);
    l->encoded = encoding && strcmp(encoding, "url") == 0;
    l->max = PAGE;
    if (max && !text_number(max, &l->max)) {
        return false;
    }
    l->max = MIN(l->max, PAGE);
    return start_of(r, l);
}

/* How long the folder is that stands for this key, or 0. */
static size_t folder_len(const struct list *l, const struct named *item)
{
    if (l->delimiter_len == 0) {
        return 0;
    }
    const char *at = memmem(item->key + l->prefix_len, item->len - l->prefix_len, l->delimiter,
                            l->delimiter_len);
    return at ? (size_t)(at - item->key) + l->delimiter_len : 0;
}

/* The first item that does not begin with these bytes. */
static struct cursor behind_all(const struct index *x, const char *s, size_t n)
{
    CLEANUP(mem_freep) char *next = mem_zalloc(n + 1);
    memcpy(next, s, n);
    while (n > 0 && next[n - 1] == '\xff') {
        n--;
    }
    if (n == 0) {
        return (struct cursor){.index = x, .leaf = x->n};
    }
    next[n - 1]++;
    return index_seek(x, next, n);
}

static struct cursor first_of(const struct list *l, const struct index *x)
{
    size_t n = MIN(l->after_len, l->prefix_len);
    int c = memcmp(l->after, l->prefix, n);
    if (c < 0 || (c == 0 && l->after_len < l->prefix_len)) {
        return index_seek(x, l->prefix, l->prefix_len);
    }
    struct cursor at = index_seek(x, l->after, l->after_len);
    struct named *item = cursor_item(&at);
    bool is_folder = l->delimiter_len > 0 && l->after_len > l->prefix_len &&
                     folder_len(l, &(struct named){l->after, l->after_len}) == l->after_len;
    if (is_folder) {
        return behind_all(x, l->after, l->after_len);
    }
    if (item && item->len == l->after_len && memcmp(item->key, l->after, item->len) == 0) {
        cursor_next(&at);
    }
    return at;
}

static void tell_object(const struct list *l, const struct object *o)
{
    char date[32];
    text_iso_date(o->mtime_ms, date);
    adds(l->out, "<Contents><Key>");
    add_name(l, o->name.key, o->name.len);
    adds(l->out, "</Key><LastModified>");
    adds(l->out, date);
    adds(l->out, "</LastModified><ETag>&quot;");
    adds(l->out, o->etag);
    ENSURE(buf_addf(l->out, "&quot;</ETag><Size>%llu</Size>", (unsigned long long)o->data.size) ==
           0);
    if (!l->v2 || l->has_owner) {
        adds(l->out, "<Owner><ID>s3fast</ID></Owner>");
    }
    const char *class = kv_get(&o->meta, "x-amz-storage-class");
    adds(l->out, "<StorageClass>");
    adds(l->out, class ? class : "STANDARD");
    adds(l->out, "</StorageClass></Contents>");
}

/* The entries of one page; true when there are more. */
static bool tell_page(struct list *l, const struct index *x)
{
    struct cursor c = first_of(l, x);
    struct named *item;
    while ((item = cursor_item(&c)) != NULL && item->len >= l->prefix_len &&
           memcmp(item->key, l->prefix, l->prefix_len) == 0) {
        if (l->told == l->max) {
            return l->max > 0;
        }
        size_t folder = folder_len(l, item);
        free(l->last.key);
        l->last = (struct named){mem_zalloc(item->len + 1), folder > 0 ? folder : item->len};
        memcpy(l->last.key, item->key, l->last.len);
        l->told++;
        if (folder > 0) {
            adds(l->out, "<CommonPrefixes>");
            add_element(l, "Prefix", item->key, folder);
            adds(l->out, "</CommonPrefixes>");
            c = behind_all(x, item->key, folder);
        } else {
            tell_object(l, CONTAINER_OF(item, struct object, name));
            cursor_next(&c);
        }
    }
    return false;
}

static void tell_query(const struct list *l, const struct call *c)
{
    const char *token = request_query(c->r, "continuation-token");
    ENSURE(buf_addf(l->out, "<Name>%s</Name><MaxKeys>%llu</MaxKeys>", c->bucket->name,
                    (unsigned long long)l->max) == 0);
    add_element(l, "Prefix", l->prefix, l->prefix_len);
    if (l->delimiter_len > 0) {
        add_element(l, "Delimiter", l->delimiter, l->delimiter_len);
    }
    if (l->encoded) {
        adds(l->out, "<EncodingType>url</EncodingType>");
    }
    if (token && l->v2) {
        ENSURE(buf_addf(l->out, "<ContinuationToken>%s</ContinuationToken>", token) == 0);
    } else {
        add_element(l, l->v2 ? "StartAfter" : "Marker", l->after, l->after_len);
    }
}

void ops_list(struct call *c, struct response *res)
{
    const char *owner = request_query(c->r, "fetch-owner");
    struct list l = {.out = &res->body,
                     .v2 = c->kind == OP_LIST_V2,
                     .has_owner = owner && strcmp(owner, "true") == 0};
    if (!parse(c->r, &l)) {
        response_error(res, "InvalidArgument", "no such page");
        free(l.after);
        return;
    }
    res->status = 200;
    response_header(res, "Content-Type", "application/xml");
    adds(&res->body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
                     "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    tell_query(&l, c);
    (void)pthread_rwlock_rdlock(&c->bucket->lock);
    bool more = tell_page(&l, &c->bucket->objects);
    (void)pthread_rwlock_unlock(&c->bucket->lock);
    ENSURE(buf_addf(&res->body, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false") == 0);
    if (l.v2) {
        ENSURE(buf_addf(&res->body, "<KeyCount>%llu</KeyCount>", (unsigned long long)l.told) == 0);
    }
    if (more && l.v2) {
        CLEANUP(mem_freep) char *hex = mem_zalloc(2 * l.last.len + 1);
        hex_encode(l.last.key, l.last.len, hex);
        ENSURE(buf_addf(&res->body, "<NextContinuationToken>%s</NextContinuationToken>", hex) == 0);
    } else if (more && l.delimiter_len > 0) {
        add_element(&l, "NextMarker", l.last.key, l.last.len);
    }
    adds(&res->body, "</ListBucketResult>");
    free(l.last.key);
    free(l.after);
}
