/* A page of a listing, as every server of the S3 family sends it. Digit: 1 = list type 2, 2 = '+'
 * is a blank. Digit: the pieces it comes in. Then the document.
 *
 * What holds: the pieces do not matter; keys are not empty and in order; a cursor says of which
 * kind it is. */
#include "fuzz.h"

#include <errno.h>

#include "backend.h"
#include "s3xml.h"

static int read_list(unsigned how, const struct fuzz_in *in, size_t piece, struct be_list *op,
                     struct s3xml_error *error, size_t *unshowable)
{
    struct s3xml_list *l = s3xml_list_new();
    size_t left = fuzz_left(in);
    for (const char *p = in->p; left > 0;) {
        size_t n = MIN(piece, left);
        (void)s3xml_list_feed(l, p, n); /* sticky: finish tells */
        p += n;
        left -= n;
    }
    int err = s3xml_list_finish(l, how & 1 ? 2 : 1, (how & 2) != 0, op, error, unshowable);
    s3xml_list_free(l);
    return err;
}

static void check_list(const struct be_list *op)
{
    for (size_t i = 0; i < op->n_entries; i++) {
        const struct be_entry *e = &op->entries[i];
        ENSURE(e->key && e->key[0] != '\0');
        ENSURE(i == 0 || strcmp(op->entries[i - 1].key, e->key) <= 0);
        ENSURE(strlen(e->object.etag) < BE_ETAG_MAX && e->object.mtime_ns >= 0);
        ENSURE(strlen(e->object.storage_class) < sizeof(e->object.storage_class));
    }
    ENSURE(!op->next_cursor || ((op->next_cursor[0] == 'k' || op->next_cursor[0] == 't') &&
                                op->next_cursor[1] != '\0'));
}

static void say(struct buf *b, const char *s)
{
    ENSURE(buf_addf(b, "%s\n", s ? s : "-") == 0);
}

static void describe(struct buf *b, int err, const struct be_list *op, const struct s3xml_error *e,
                     size_t unshowable)
{
    ENSURE(buf_addf(b, "%d %zu %zu\n", err, op->n_entries, unshowable) == 0);
    for (size_t i = 0; i < op->n_entries; i++) {
        const struct be_entry *x = &op->entries[i];
        say(b, x->key);
        ENSURE(buf_addf(b, "%d %llu %lld %s %s\n", x->is_prefix, (unsigned long long)x->object.size,
                        (long long)x->object.mtime_ns, x->object.etag,
                        x->object.storage_class) == 0);
    }
    say(b, op->next_cursor);
    say(b, e->code);
    say(b, e->message);
    say(b, e->request_id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    unsigned how = fuzz_digit(&in);
    size_t piece[2] = {SIZE_MAX, fuzz_digit(&in) % 64 + 1};
    CLEANUP(buf_fini) struct buf whole = BUF_INIT;
    CLEANUP(buf_fini) struct buf pieces = BUF_INIT;
    for (int k = 0; k < 2; k++) {
        struct be_list op = {.prefix = ""};
        struct s3xml_error error = {0};
        size_t unshowable = 0;
        int err = read_list(how, &in, piece[k], &op, &error, &unshowable);
        ENSURE(err == 0 || err == -EBADMSG || err == -EREMOTEIO);
        ENSURE(err == 0 || (op.n_entries == 0 && !op.entries && !op.next_cursor));
        ENSURE((err == -EREMOTEIO) == (error.code != NULL));
        check_list(&op);
        describe(k == 0 ? &whole : &pieces, err, &op, &error, unshowable);
        be_list_fini(&op);
        s3xml_error_fini(&error);
    }
    ENSURE(strcmp(buf_str(&whole), buf_str(&pieces)) == 0);
    return 0;
}
