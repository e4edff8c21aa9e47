/* The XML reader and what we write for others to read. Digit: 0 = the rest is a document, else it
 * is text. Digit: pieces.
 *
 * What holds: the pieces a document comes in do not matter; open and close fit together; text that
 * XML can carry comes back as it was from a parser, in a batch of deletions too. */
#include "fuzz.h"

#include <errno.h>

#include "s3xml.h"
#include "xml.h"

struct seen {
    struct buf log;
    unsigned depth;
};

static int on_open(void *ctx, const char *path)
{
    struct seen *s = ctx;
    ENSURE(path[0] != '\0' && ++s->depth <= XML_DEPTH_MAX);
    return buf_addf(&s->log, "+%s\n", path);
}

static int on_close(void *ctx, const char *path, const char *text, size_t n)
{
    struct seen *s = ctx;
    ENSURE(s->depth-- > 0 && strlen(text) == n && n <= XML_TEXT_MAX);
    return buf_addf(&s->log, "-%s %s\n", path, text);
}

static int read_document(const struct fuzz_in *in, size_t piece, struct seen *seen)
{
    static const struct xml_handler handler = {.open = on_open, .close = on_close};
    CLEANUP(xml_freep) struct xml_reader *x = xml_new(&handler, seen, 1 << 20);
    size_t left = fuzz_left(in);
    int err = 0;
    for (const char *p = in->p; left > 0 && err == 0;) {
        size_t n = MIN(piece, left);
        err = xml_feed(x, p, n);
        p += n;
        left -= n;
    }
    int end = xml_finish(x);
    ENSURE(err == 0 || end == err); /* sticky */
    ENSURE(end == 0 || end == -EBADMSG || end == -EMSGSIZE);
    ENSURE(end < 0 || seen->depth == 0);
    return end;
}

static void check_document(const struct fuzz_in *in, size_t piece)
{
    struct seen whole = {0}, pieces = {0};
    int a = read_document(in, SIZE_MAX, &whole), b = read_document(in, piece, &pieces);
    ENSURE(a == b && strcmp(buf_str(&whole.log), buf_str(&pieces.log)) == 0);
    buf_fini(&whole.log);
    buf_fini(&pieces.log);
}

struct keys {
    const char *want;
    size_t n;
};

static int each_object(void *ctx, struct xml_field *row)
{
    struct keys *k = ctx;
    ENSURE(row[0].value && strcmp(row[0].value, k->want) == 0);
    k->n++;
    return 0;
}

static void check_text(struct fuzz_in *in)
{
    CLEANUP(mem_freep) char *text = fuzz_rest(in);
    const char *keys[] = {text, "other", text};
    static const size_t chosen[] = {0, 2};
    if (!xml_can_carry(text, strlen(text)) || strlen(text) > XML_TEXT_MAX) {
        return;
    }
    CLEANUP(buf_fini) struct buf doc = BUF_INIT;
    ENSURE(buf_adds(&doc, "<a><b>") == 0 && xml_escape(&doc, text, strlen(text)) == 0 &&
           buf_adds(&doc, "</b></a>") == 0);
    struct xml_field field = {"*/b", NULL};
    ENSURE(xml_read(buf_str(&doc), doc.len, &field, 1, NULL) == 0);
    ENSURE(strcmp(field.value, text) == 0);
    xml_fields_fini(&field, 1);

    CLEANUP(buf_fini) struct buf batch = BUF_INIT;
    ENSURE(s3xml_delete_body(keys, chosen, ARRAY_LEN(chosen), true, &batch) == 0);
    struct xml_field row = {"Key", NULL};
    struct keys want = {.want = text};
    struct xml_rows rows = {"Delete/Object", &row, 1, each_object, &want};
    ENSURE(xml_read_rows(buf_str(&batch), batch.len, &rows, NULL, 0, NULL) == 0 &&
           want.n == ARRAY_LEN(chosen));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    unsigned is_text = fuzz_digit(&in);
    size_t piece = fuzz_digit(&in) % 64 + 1;
    if (is_text) {
        check_text(&in);
    } else {
        check_document(&in, piece);
    }
    return 0;
}
