#include "s3xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dialect.h"
#include "mem.h"
#include "xml.h"

#define LIST_MAX                                                                                   \
    (64u << 20) /* a page of 1000 keys is below 6 MB even when every byte of a key is              \
                   percent-encoded */

/* Ceph writes control characters of markers, prefixes and tokens as references that XML 1.0 forbids
 * (&#x01;), also when it percent-encodes the keys, and one of them would make a whole page
 * unreadable. They are replaced by U+FFFD on the way to the parser; what then contains one is not
 * believed. */
#define REPLACED "\xef\xbf\xbd"

struct mender {
    char held[12]; /* the beginning of what may become a reference */
    size_t n;
    bool mended;
};

static bool forbidden(unsigned long c)
{
    return c == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r') ||
           (c >= 0xd800 && c < 0xe000) || c == 0xfffe || c == 0xffff || c > 0x10ffff;
}

/* Whether the n characters held may still become "&#…;". */
static bool may_be_reference(const char *s, size_t n)
{
    if (s[0] != '&' || (n > 1 && s[1] != '#') || n == sizeof(((struct mender *)0)->held)) {
        return false;
    }
    size_t digits = n > 2 && s[2] == 'x' ? 3 : 2;
    for (size_t i = digits; i < n; i++) {
        if (!strchr(digits == 3 ? "0123456789abcdefABCDEF" : "0123456789", s[i]) || s[i] == '\0') {
            return false;
        }
    }
    return true;
}

static int mend_flush(struct mender *m, struct buf *out)
{
    int err = buf_add(out, m->held, m->n);
    m->n = 0;
    return err;
}

static int mend_byte(struct mender *m, char c, struct buf *out)
{
    if (m->n == 0 && c != '&') {
        bool bad = (unsigned char)c < 0x20 && forbidden((unsigned char)c);
        m->mended |= bad;
        return bad ? buf_adds(out, REPLACED) : buf_addc(out, c);
    }
    if (m->n > 2 && c == ';') {
        m->held[m->n] = '\0';
        unsigned long v =
            m->held[2] == 'x' ? strtoul(m->held + 3, NULL, 16) : strtoul(m->held + 2, NULL, 10);
        if (forbidden(v)) {
            m->mended = true;
            m->n = 0;
            return buf_adds(out, REPLACED);
        }
        int err = mend_flush(m, out);
        return err < 0 ? err : buf_addc(out, c);
    }
    m->held[m->n++] = c;
    if (may_be_reference(m->held, m->n)) {
        return 0;
    }
    m->n--;
    int err = mend_flush(m, out);
    return err < 0 ? err : mend_byte(m, c, out);
}

static int mend(struct mender *m, const char *p, size_t n, struct buf *out)
{
    int err = 0;
    for (size_t i = 0; i < n && err == 0;) {
        size_t plain = 0;
        while (m->n == 0 && i + plain < n && p[i + plain] != '&' &&
               (unsigned char)p[i + plain] >= 0x20) {
            plain++;
        }
        err = plain > 0 ? buf_add(out, p + i, plain) : mend_byte(m, p[i], out);
        i += plain > 0 ? plain : 1;
    }
    return err;
}

struct s3xml_list {
    struct xml_reader *xml;
    struct mender mender;
    struct buf mended;
    struct be_entry *entries;
    size_t n, cap;
    struct be_entry row; /* the one that is open */
    bool has_key, has_size;
    bool root_ok, is_error, encoded, truncated;
    char *next_marker, *next_token;
    struct s3xml_error error;
};

static void keep(char **to, const char *text, size_t n)
{
    free(*to);
    *to = mem_strndup(text, n);
}

static int list_open(void *ctx, const char *path)
{
    struct s3xml_list *l = ctx;
    if (!l->root_ok && !l->is_error) {
        l->is_error = strcmp(path, "Error") == 0;
        l->root_ok = strcmp(path, "ListBucketResult") == 0;
        return l->is_error || l->root_ok ? 0 : -EBADMSG;
    }
    if (strcmp(path, "ListBucketResult/Contents") == 0 ||
        strcmp(path, "ListBucketResult/CommonPrefixes") == 0) {
        free(l->row.key);
        l->row = (struct be_entry){0};
        l->has_key = l->has_size = false;
    }
    return 0;
}

static int push(struct s3xml_list *l, bool is_prefix)
{
    if (!l->has_key || (!is_prefix && !l->has_size)) {
        return -EBADMSG;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->entries = mem_realloc(l->entries, l->cap * sizeof(*l->entries));
    }
    l->row.is_prefix = is_prefix;
    l->entries[l->n++] = l->row;
    l->row = (struct be_entry){0};
    l->has_key = l->has_size = false;
    return 0;
}

static int contents_close(struct s3xml_list *l, const char *name, const char *text, size_t n)
{
    if (strcmp(name, "Key") == 0) {
        keep(&l->row.key, text, n);
        l->has_key = true;
    } else if (strcmp(name, "Size") == 0) {
        l->has_size = dialect_u64(text, &l->row.object.size);
    } else if (strcmp(name, "ETag") == 0) {
        if (!dialect_etag(text, l->row.object.etag)) {
            return -EBADMSG;
        }
    } else if (strcmp(name, "LastModified") == 0) {
        /* whole seconds, as the Last-Modified header of the same object says it */
        l->row.object.mtime_ns = dialect_iso_date(text) / 1000000000 * 1000000000;
    } else if (strcmp(name, "StorageClass") == 0 && strcasecmp(text, "STANDARD") != 0 &&
               n < sizeof(l->row.object.storage_class)) {
        memcpy(l->row.object.storage_class, text, n + 1);
    }
    return 0;
}

static const char *below(const char *path, const char *parent)
{
    size_t n = strlen(parent);
    return strncmp(path, parent, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

static int list_close(void *ctx, const char *path, const char *text, size_t n)
{
    struct s3xml_list *l = ctx;
    const char *name = below(path, "ListBucketResult/Contents");
    if (name) {
        return contents_close(l, name, text, n);
    }
    if (strcmp(path, "ListBucketResult/Contents") == 0) {
        return push(l, false);
    }
    if (strcmp(path, "ListBucketResult/CommonPrefixes/Prefix") == 0) {
        keep(&l->row.key, text, n);
        l->has_key = true;
        return push(l, true); /* some servers put several into one element */
    }
    if (strcmp(path, "ListBucketResult/IsTruncated") == 0) {
        l->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "ListBucketResult/NextMarker") == 0) {
        keep(&l->next_marker, text, n);
    } else if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0) {
        keep(&l->next_token, text, n);
    } else if (strcmp(path, "ListBucketResult/EncodingType") == 0 ||
               strcmp(path, "ListBucketResult/Encoding-Type") == 0) { /* how older COS spells it */
        l->encoded = strcmp(text, "url") == 0;
    } else if (strcmp(path, "Error/Code") == 0) {
        keep(&l->error.code, text, n);
    } else if (strcmp(path, "Error/Message") == 0) {
        keep(&l->error.message, text, n);
    } else if (strcmp(path, "Error/RequestId") == 0) {
        keep(&l->error.request_id, text, n);
    }
    return 0;
}

struct s3xml_list *s3xml_list_new(void)
{
    static const struct xml_handler handler = {.open = list_open, .close = list_close};
    struct s3xml_list *l = mem_zalloc(sizeof(*l));
    l->xml = xml_new(&handler, l, LIST_MAX);
    return l;
}

void s3xml_list_free(struct s3xml_list *l)
{
    if (!l) {
        return;
    }
    xml_free(l->xml);
    buf_fini(&l->mended);
    for (size_t i = 0; i < l->n; i++) {
        free(l->entries[i].key);
    }
    free(l->entries);
    free(l->row.key);
    free(l->next_marker);
    free(l->next_token);
    s3xml_error_fini(&l->error);
    free(l);
}

int s3xml_list_feed(struct s3xml_list *l, const void *p, size_t n)
{
    buf_clear(&l->mended);
    int err = mend(&l->mender, p, n, &l->mended);
    return err < 0 ? err : xml_feed(l->xml, l->mended.data ? l->mended.data : "", l->mended.len);
}

static int entry_compare(const void *a, const void *b)
{
    const struct be_entry *x = a, *y = b;
    return strcmp(x->key, y->key);
}

/* Puts the decoded text in place of *s, which stays as it is on failure. *ret_nul when the plain
 * form has a NUL byte. */
static int decode(char **s, bool plus_is_space, bool *ret_nul)
{
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    if (url_decode(&plain, *s, strlen(*s), plus_is_space) < 0) {
        return -EBADMSG;
    }
    *ret_nul = strlen(buf_str(&plain)) != plain.len;
    free(*s);
    *s = plain.data ? buf_take(&plain) : mem_strdup("");
    return 0;
}

/* Keys as they are, without those that no C string and no file name can hold. */
static int take_keys(struct s3xml_list *l, bool plus_is_space, size_t *ret_unshowable)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++) {
        bool nul = false;
        if (l->encoded && decode(&l->entries[i].key, plus_is_space, &nul) < 0) {
            return -EBADMSG;
        }
        struct be_entry e = l->entries[i];
        l->entries[i].key = NULL;
        if (nul || e.key[0] == '\0') {
            free(e.key);
            (*ret_unshowable)++;
        } else {
            l->entries[kept++] = e;
        }
    }
    l->n = kept;
    bool nul = false;
    if (l->encoded && l->next_marker) {
        (void)decode(&l->next_marker, plus_is_space,
                     &nul); /* stays as it is when it is no encoding: see cursor_of */
    }
    return 0;
}

/* The end of a page as a cursor: 'k' and a name to go on after, or 't' and the server's token. NULL
 * when there is none. */
static char *cursor_of(const struct s3xml_list *l, int version)
{
    const char *token = l->next_token;
    if (version == 2 && token && token[0] != '\0' && !strstr(token, REPLACED)) {
        return mem_printf("t%s", token);
    }
    if (version == 2 && (!token || token[0] == '\0')) {
        return NULL;
    }
    if (l->n > 0) {
        /* AWS sends NextMarker only with a delimiter, and Ceph does not encode it when it encodes
         * the keys */
        return mem_printf("k%s", l->entries[l->n - 1].key);
    }
    const char *marker = l->next_marker;
    return marker && marker[0] != '\0' && !strstr(marker, REPLACED) ? mem_printf("k%s", marker)
                                                                    : NULL;
}

int s3xml_list_finish(struct s3xml_list *l, int version, bool plus_is_space, struct be_list *op,
                      struct s3xml_error *ret_error, size_t *ret_unshowable)
{
    *ret_unshowable = 0;
    buf_clear(&l->mended);
    if (l->mender.n > 0 && mend_flush(&l->mender, &l->mended) == 0) {
        (void)xml_feed(l->xml, buf_str(&l->mended), l->mended.len); /* sticky */
    }
    int err = xml_finish(l->xml);
    if (l->is_error && l->error.code) {
        *ret_error = l->error;
        l->error = (struct s3xml_error){0};
        return -EREMOTEIO;
    }
    if (err < 0 || !l->root_ok || (l->mender.mended && !l->encoded)) {
        return -EBADMSG;
    }
    if (take_keys(l, plus_is_space, ret_unshowable) < 0) {
        return -EBADMSG;
    }
    if (l->n > 1) {
        qsort(l->entries, l->n, sizeof(*l->entries), entry_compare);
    }
    char *next = l->truncated ? cursor_of(l, version) : NULL;
    if (l->truncated && !next) {
        return -EBADMSG;
    }
    op->entries = l->entries;
    op->n_entries = l->n;
    op->next_cursor = next;
    l->entries = NULL;
    l->n = l->cap = 0;
    return 0;
}

void s3xml_error_fini(struct s3xml_error *e)
{
    free(e->code);
    free(e->message);
    free(e->request_id);
    free(e->region);
    free(e->endpoint);
    free(e->server_time);
    *e = (struct s3xml_error){0};
}

bool s3xml_error(const char *p, size_t n, struct s3xml_error *ret)
{
    struct xml_field f[] = {{"Error/Code", NULL},      {"Error/Message", NULL},
                            {"Error/RequestId", NULL}, {"Error/Region", NULL},
                            {"Error/Endpoint", NULL},  {"Error/ServerTime", NULL}};
    (void)xml_read(p, n, f, ARRAY_LEN(f), NULL);
    bool found = f[0].value && f[0].value[0] != '\0';
    if (found) {
        ret->code = TAKE(f[0].value);
        ret->message = TAKE(f[1].value);
        ret->request_id = TAKE(f[2].value);
        ret->region = TAKE(f[3].value);
        ret->endpoint = TAKE(f[4].value);
        ret->server_time = TAKE(f[5].value);
    }
    xml_fields_fini(f, ARRAY_LEN(f));
    return found;
}

struct parts {
    struct be_part_id *items;
    size_t n;
};

static int each_part(void *ctx, struct xml_field *row)
{
    struct parts *l = ctx;
    struct be_part_id id = {0};
    uint64_t number = 0;
    if (!dialect_u64(row[0].value, &number) || number == 0 || number > 1000000 ||
        !dialect_u64(row[1].value, &id.size) || !dialect_etag(row[2].value, id.etag)) {
        return -EBADMSG;
    }
    id.number = (unsigned)number;
    if (l->n > 0 && l->items[l->n - 1].number >= id.number) {
        return -EBADMSG;
    }
    l->items = mem_realloc(l->items, (l->n + 1) * sizeof(*l->items));
    l->items[l->n++] = id;
    return 0;
}

static bool is_true(const char *s)
{
    return s && strcmp(s, "true") == 0;
}

int s3xml_parts(const char *p, size_t n, struct be_part_id **ret_parts, size_t *ret_n,
                char **ret_next)
{
    struct xml_field row[] = {{"PartNumber", NULL}, {"Size", NULL}, {"ETag", NULL}};
    struct xml_field top[] = {{"*/IsTruncated", NULL}, {"*/NextPartNumberMarker", NULL}};
    struct parts list = {0};
    struct xml_rows rows = {"*/Part", row, ARRAY_LEN(row), each_part, &list};
    char root[XML_ROOT_MAX];
    int err = xml_read_rows(p, n, &rows, top, ARRAY_LEN(top), root);
    if (err == 0 && strcmp(root, "ListPartsResult") != 0) {
        err = -EBADMSG;
    }
    bool more = is_true(top[0].value);
    if (err == 0 && more && (!top[1].value || list.n == 0)) {
        err = -EBADMSG;
    }
    if (err == 0) {
        *ret_parts = TAKE(list.items);
        *ret_n = list.n;
        *ret_next = more ? TAKE(top[1].value) : NULL;
    }
    free(list.items);
    xml_fields_fini(top, ARRAY_LEN(top));
    return err;
}

struct uploads {
    struct be_upload *items;
    size_t n;
};

static int each_upload(void *ctx, struct xml_field *row)
{
    struct uploads *l = ctx;
    if (!row[0].value || !row[1].value || row[1].value[0] == '\0') {
        return -EBADMSG;
    }
    if (strstr(row[0].value, REPLACED)) {
        return 0; /* of a key whose name cannot be told */
    }
    l->items = mem_realloc(l->items, (l->n + 1) * sizeof(*l->items));
    l->items[l->n++] = (struct be_upload){.key = TAKE(row[0].value),
                                          .upload_id = TAKE(row[1].value),
                                          .initiated_ns = dialect_iso_date(row[2].value)};
    return 0;
}

static void uploads_fini(struct uploads *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].key);
        free(l->items[i].upload_id);
    }
    free(l->items);
}

static int decode_uploads(struct uploads *l, bool plus_is_space)
{
    size_t kept = 0;
    int err = 0;
    for (size_t i = 0; i < l->n && err == 0; i++) {
        struct be_upload u = l->items[i];
        bool nul = false;
        err = decode(&u.key, plus_is_space, &nul);
        if (err == 0 && nul) { /* a name no C string holds: not one of ours */
            free(u.key);
            free(u.upload_id);
            l->items[i] = (struct be_upload){0};
            continue;
        }
        l->items[i] = (struct be_upload){0};
        l->items[kept++] = u;
    }
    if (err == 0) {
        l->n = kept;
    }
    return err;
}

int s3xml_uploads(const char *p, size_t n, bool plus_is_space, struct be_upload **ret_uploads,
                  size_t *ret_n, char **ret_next_key, char **ret_next_id)
{
    struct xml_field row[] = {{"Key", NULL}, {"UploadId", NULL}, {"Initiated", NULL}};
    struct xml_field top[] = {{"*/IsTruncated", NULL},
                              {"*/NextKeyMarker", NULL},
                              {"*/NextUploadIdMarker", NULL},
                              {"*/EncodingType", NULL}};
    struct uploads list = {0};
    struct xml_rows rows = {"*/Upload", row, ARRAY_LEN(row), each_upload, &list};
    char root[XML_ROOT_MAX] = "";
    struct mender mender = {0};
    CLEANUP(buf_fini) struct buf mended = BUF_INIT;
    int err = mend(&mender, p, n, &mended);
    if (err == 0) {
        err = xml_read_rows(buf_str(&mended), mended.len, &rows, top, ARRAY_LEN(top), root);
    }
    if (err == 0 && strcmp(root, "ListMultipartUploadsResult") != 0) {
        err = -EBADMSG;
    }
    bool more = is_true(top[0].value), nul = false;
    if (err == 0 && more && !top[1].value) {
        err = -EBADMSG;
    }
    if (err == 0 && top[3].value && strcmp(top[3].value, "url") == 0) {
        err = decode_uploads(&list, plus_is_space);
        if (err == 0 && top[1].value) {
            err = decode(&top[1].value, plus_is_space, &nul);
        }
    }
    if (err == 0) {
        *ret_uploads = TAKE(list.items);
        *ret_n = list.n;
        list.n = 0;
        *ret_next_key = more ? TAKE(top[1].value) : NULL;
        *ret_next_id = more ? TAKE(top[2].value) : NULL;
    }
    uploads_fini(&list);
    xml_fields_fini(top, ARRAY_LEN(top));
    return err;
}

struct deletes {
    bool removed;
    int (*each)(void *ctx, const char *key, const char *code, const char *message);
    void *ctx;
};

static int each_delete(void *ctx, struct xml_field *row)
{
    struct deletes *d = ctx;
    if (!row[0].value || (!row[1].value && !d->removed)) {
        return -EBADMSG;
    }
    return d->each(d->ctx, row[0].value, row[1].value, row[2].value ? row[2].value : "");
}

int s3xml_deletes(const char *p, size_t n, bool removed,
                  int (*each)(void *ctx, const char *key, const char *code, const char *message),
                  void *ctx)
{
    struct xml_field row[] = {{"Key", NULL}, {"Code", NULL}, {"Message", NULL}};
    struct deletes d = {removed, each, ctx};
    struct xml_rows rows = {removed ? "*/Deleted" : "*/Error", row, ARRAY_LEN(row), each_delete, &d};
    char root[XML_ROOT_MAX];
    int err = xml_read_rows(p, n, &rows, NULL, 0, root);
    return err == 0 && strcmp(root, "DeleteResult") != 0 ? -EBADMSG : err;
}

int s3xml_delete_body(const char *const *keys, const size_t *chosen, size_t n, bool quiet,
                      struct buf *ret)
{
    int err = buf_addf(ret, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Delete><Quiet>%s</Quiet>",
                       quiet ? "true" : "false");
    for (size_t i = 0; i < n && err == 0; i++) {
        const char *key = keys[chosen[i]];
        err = buf_adds(ret, "<Object><Key>");
        if (err == 0) {
            err = xml_escape(ret, key, strlen(key));
        }
        if (err == 0) {
            err = buf_adds(ret, "</Key></Object>");
        }
    }
    return err < 0 ? err : buf_adds(ret, "</Delete>");
}

int s3xml_complete_body(const struct be_part_id *parts, size_t n, struct buf *ret)
{
    int err = buf_adds(ret, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CompleteMultipartUpload>");
    for (size_t i = 0; i < n && err == 0; i++) {
        err = buf_addf(ret, "<Part><PartNumber>%u</PartNumber><ETag>&quot;", parts[i].number);
        if (err == 0) {
            err = xml_escape(ret, parts[i].etag, strlen(parts[i].etag));
        }
        if (err == 0) {
            err = buf_adds(ret, "&quot;</ETag></Part>");
        }
    }
    return err < 0 ? err : buf_adds(ret, "</CompleteMultipartUpload>");
}
