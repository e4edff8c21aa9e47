#include "xml.h"

#include <errno.h>
#include <expat.h>
#include <stdint.h>
#include <string.h>

#include "mem.h"

#define PATH_MAX_BYTES 512u
#define FEED_CHUNK 16384u

struct xml_reader {
    XML_Parser parser;
    struct xml_handler handler;
    void *ctx;
    int err;
    size_t total, total_max;
    unsigned depth;
    struct buf path;              /* of the open elements */
    size_t starts[XML_DEPTH_MAX]; /* path.len before each of them */
    struct buf text;
    bool begun; /* something but blanks has come */
};

static void stop(struct xml_reader *x, int err)
{
    if (x->err == 0) {
        x->err = err;
    }
    XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL on_open(void *ctx, const XML_Char *name, const XML_Char **attrs)
{
    struct xml_reader *x = ctx;
    if (x->err != 0) {
        return;
    }
    if (x->depth == XML_DEPTH_MAX) {
        stop(x, -EMSGSIZE);
        return;
    }
    const char *colon = strrchr(name, ':');
    const char *local = colon ? colon + 1 : name;
    if (local[0] == '\0') {
        stop(x, -EBADMSG); /* "a:" is no name with name spaces; its path would be its parent's */
        return;
    }
    x->starts[x->depth] = x->path.len;
    if (strlen(local) + x->path.len + 1 > PATH_MAX_BYTES) {
        stop(x, -EMSGSIZE);
        return;
    }
    int err = x->depth > 0 ? buf_addc(&x->path, '/') : 0;
    if (err == 0) {
        err = buf_adds(&x->path, local);
    }
    if (err < 0) {
        stop(x, err);
        return;
    }
    x->depth++;
    buf_clear(&x->text);
    if (x->handler.open) {
        err = x->handler.open(x->ctx, buf_str(&x->path));
    }
    for (; x->handler.attribute && *attrs && err == 0; attrs += 2) {
        err = x->handler.attribute(x->ctx, buf_str(&x->path), attrs[0], attrs[1]);
    }
    if (err < 0) {
        stop(x, err);
    }
}

static void XMLCALL on_close(void *ctx, const XML_Char *name)
{
    struct xml_reader *x = ctx;
    (void)name;
    if (x->err != 0 || x->depth == 0) {
        return;
    }
    int err = x->handler.close(x->ctx, buf_str(&x->path), buf_str(&x->text), x->text.len);
    buf_clear(&x->text);
    x->depth--;
    x->path.len = x->starts[x->depth];
    if (x->path.data) {
        x->path.data[x->path.len] = '\0';
    }
    if (err < 0) {
        stop(x, err);
    }
}

static void XMLCALL on_text(void *ctx, const XML_Char *s, int len)
{
    struct xml_reader *x = ctx;
    if (x->err == 0 && len > 0 && buf_add(&x->text, s, (size_t)len) < 0) {
        stop(x, -EMSGSIZE);
    }
}

static void XMLCALL on_doctype(void *ctx, const XML_Char *name, const XML_Char *sysid,
                               const XML_Char *pubid, int internal)
{
    (void)name;
    (void)sysid;
    (void)pubid;
    (void)internal;
    stop(ctx, -EBADMSG);
}

struct xml_reader *xml_new(const struct xml_handler *handler, void *ctx, size_t total_max)
{
    struct xml_reader *x = mem_zalloc(sizeof(*x));
    x->handler = *handler;
    x->ctx = ctx;
    x->total_max = total_max;
    x->text.max = XML_TEXT_MAX;
    /* The encoding is given, not asked for: no store answers in anything else, and fewer decoders
     * are fewer surprises. */
    x->parser = XML_ParserCreate("UTF-8");
    ENSURE(x->parser != NULL);
    XML_SetUserData(x->parser, x);
    XML_SetElementHandler(x->parser, on_open, on_close);
    XML_SetCharacterDataHandler(x->parser, on_text);
    XML_SetStartDoctypeDeclHandler(x->parser, on_doctype);
    return x;
}

void xml_free(struct xml_reader *x)
{
    if (!x) {
        return;
    }
    XML_ParserFree(x->parser);
    buf_fini(&x->path);
    buf_fini(&x->text);
    free(x);
}

void xml_freep(struct xml_reader **x)
{
    xml_free(*x);
    *x = NULL;
}

static int parse(struct xml_reader *x, const char *p, size_t n, bool last)
{
    enum XML_Status st = XML_Parse(x->parser, p, (int)n, last);
    if (x->err == 0 && st != XML_STATUS_OK) {
        x->err = XML_GetErrorCode(x->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EBADMSG;
    }
    return x->err;
}

int xml_feed(struct xml_reader *x, const void *data, size_t n)
{
    const char *p = data;
    if (x->err != 0) {
        return x->err;
    }
    if (n > x->total_max - x->total) {
        x->err = -EMSGSIZE;
        return x->err;
    }
    x->total += n;
    while (!x->begun && n > 0 && strchr(" \t\r\n", *p) != NULL && *p != '\0') {
        p++;
        n--;
    }
    while (n > 0) {
        size_t step = MIN(n, FEED_CHUNK);
        x->begun = true;
        if (parse(x, p, step, false) < 0) {
            return x->err;
        }
        /* expat keeps an unfinished token whole; its size is what was fed beyond the last finished
         * one */
        int offset = 0, size = 0;
        if (XML_GetInputContext(x->parser, &offset, &size) != NULL &&
            (size_t)(size - offset) > XML_TOKEN_MAX) {
            x->err = -EMSGSIZE;
            return x->err;
        }
        p += step;
        n -= step;
    }
    return 0;
}

int xml_finish(struct xml_reader *x)
{
    if (x->err == 0) {
        parse(x, "", 0, true);
    }
    return x->err;
}

struct fields {
    struct xml_field *f;
    size_t n;
    char *root;
    const struct xml_rows *rows; /* may be NULL */
    size_t row_len;              /* of the open row's path; 0 = none is open */
};

static bool path_matches(const char *want, const char *path)
{
    if (want[0] == '*' && want[1] == '/') {
        const char *slash = strchr(path, '/');
        return slash && strcmp(slash, want + 1) == 0;
    }
    return strcmp(want, path) == 0;
}

static int fields_open(void *ctx, const char *path)
{
    struct fields *s = ctx;
    if (s->root[0] == '\0') {
        size_t n = MIN(strlen(path), (size_t)XML_ROOT_MAX - 1);
        memcpy(s->root, path, n);
        s->root[n] = '\0';
    }
    if (s->rows && s->row_len == 0 && path_matches(s->rows->row_path, path)) {
        s->row_len = strlen(path);
        xml_fields_fini(s->rows->row, s->rows->n_row);
    }
    return 0;
}

static int row_close(struct fields *s, const char *path, const char *text, size_t n)
{
    const struct xml_rows *r = s->rows;
    if (path[s->row_len] == '\0') {
        s->row_len = 0;
        int err = r->each(r->ctx, r->row);
        xml_fields_fini(r->row, r->n_row);
        return err;
    }
    for (size_t i = 0; i < r->n_row; i++) {
        if (!r->row[i].value && strcmp(path + s->row_len + 1, r->row[i].path) == 0) {
            r->row[i].value = mem_strndup(text, n);
        }
    }
    return 0;
}

static int fields_close(void *ctx, const char *path, const char *text, size_t n)
{
    struct fields *s = ctx;
    if (s->row_len > 0) {
        return row_close(s, path, text, n);
    }
    for (size_t i = 0; i < s->n; i++) {
        if (!s->f[i].value && path_matches(s->f[i].path, path)) {
            s->f[i].value = mem_strndup(text, n);
        }
    }
    return 0;
}

#define SMALL_MAX (1u << 20)
#define ROWS_MAX (16u << 20)

int xml_read_rows(const void *p, size_t n, const struct xml_rows *rows, struct xml_field *fields,
                  size_t n_fields, char *ret_root)
{
    static const struct xml_handler handler = {.open = fields_open, .close = fields_close};
    char root[XML_ROOT_MAX];
    struct fields s = {fields, n_fields, ret_root ? ret_root : root, rows, 0};
    s.root[0] = '\0';
    CLEANUP(xml_freep) struct xml_reader *x = xml_new(&handler, &s, rows ? ROWS_MAX : SMALL_MAX);
    int err = xml_feed(x, p, n);
    if (err == 0) {
        err = xml_finish(x);
    }
    if (rows) {
        xml_fields_fini(rows->row, rows->n_row);
    }
    return err;
}

int xml_read(const void *p, size_t n, struct xml_field *fields, size_t n_fields, char *ret_root)
{
    return xml_read_rows(p, n, NULL, fields, n_fields, ret_root);
}

void xml_fields_fini(struct xml_field *fields, size_t n_fields)
{
    for (size_t i = 0; i < n_fields; i++) {
        free(fields[i].value);
        fields[i].value = NULL;
    }
}

/* One character of well-formed UTF-8 (no overlong forms, no surrogates): its length, 0 when there
 * is none. */
static size_t utf8_char(const unsigned char *s, size_t n, uint32_t *ret)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80                   ? 1
                 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                 : (s[0] & 0xf0) == 0xe0       ? 3
                 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                               : 0;
    if (len == 0 || len > n) {
        return 0;
    }
    uint32_t c = len == 1 ? s[0] : s[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        return 0;
    }
    *ret = c;
    return len;
}

bool xml_can_carry(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    while (n > 0) {
        uint32_t c = 0;
        size_t len = utf8_char(p, n, &c);
        if (len == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0xfffe ||
            c == 0xffff) {
            return false;
        }
        p += len;
        n -= len;
    }
    return true;
}

int xml_escape(struct buf *out, const char *s, size_t n)
{
    int err = 0;
    for (size_t i = 0; i < n && err == 0; i++) {
        switch (s[i]) {
        case '&':
            err = buf_adds(out, "&amp;");
            break;
        case '<':
            err = buf_adds(out, "&lt;");
            break;
        case '>':
            err = buf_adds(out, "&gt;");
            break;
        case '"':
            err = buf_adds(out, "&quot;");
            break;
        case '\t':
        case '\n':
        case '\r':
            err = buf_addf(out, "&#%d;", s[i]);
            break;
        default:
            err = buf_addc(out, s[i]);
            break;
        }
    }
    return err;
}
