/* The smaller documents: parts of an upload, uploads, the failures of a batch, errors. Digit:
 * which. Then the document. */
#include "fuzz.h"

#include <errno.h>

#include "backend.h"
#include "s3xml.h"

static void check_parts(const struct fuzz_in *in)
{
    struct be_part_id *parts = NULL;
    size_t n = 0;
    char *next = NULL;
    int err = s3xml_parts(in->p, fuzz_left(in), &parts, &n, &next);
    ENSURE(err == 0 || (!parts && n == 0 && !next));
    for (size_t i = 0; i < n; i++) {
        ENSURE(parts[i].number > (i > 0 ? parts[i - 1].number : 0));
        ENSURE(strlen(parts[i].etag) < BE_ETAG_MAX);
    }
    ENSURE(!next || n > 0);

    CLEANUP(buf_fini) struct buf body = BUF_INIT;
    ENSURE(s3xml_complete_body(parts, n, &body) == 0);
    free(parts);
    free(next);
}

static void check_uploads(const struct fuzz_in *in, bool plus_is_space)
{
    struct be_upload *uploads = NULL;
    size_t n = 0;
    char *next_key = NULL, *next_id = NULL;
    int err = s3xml_uploads(in->p, fuzz_left(in), plus_is_space, &uploads, &n, &next_key, &next_id);
    ENSURE(err == 0 || (!uploads && n == 0 && !next_key && !next_id));
    for (size_t i = 0; i < n; i++) {
        ENSURE(uploads[i].key && uploads[i].upload_id[0] != '\0' && uploads[i].initiated_ns >= 0);
        free(uploads[i].key);
        free(uploads[i].upload_id);
    }
    ENSURE(!next_id || next_key);
    free(uploads);
    free(next_key);
    free(next_id);
}

static int count_failed(void *ctx, const char *key, const char *code, const char *message)
{
    ENSURE(key && code && message);
    return ++*(unsigned *)ctx == 3 ? -ECANCELED : 0;
}

static void check_deletes(const struct fuzz_in *in)
{
    unsigned n = 0;
    int err = s3xml_deletes(in->p, fuzz_left(in), false, count_failed, &n);
    ENSURE(n <= 3 && (n == 3) == (err == -ECANCELED)); /* what the callback says ends it */
}

/* An error is told also when the document is cut off after its code. */
static void check_error(const struct fuzz_in *in)
{
    struct s3xml_error e = {0};
    size_t n = fuzz_left(in);
    bool found = s3xml_error(in->p, n, &e);
    ENSURE(found == (e.code != NULL) && (!found || e.code[0] != '\0'));
    static const char more[] = "<More>of the page of a proxy";
    CLEANUP(buf_fini) struct buf longer = BUF_INIT;
    ENSURE(buf_add(&longer, in->p, n) == 0 && buf_adds(&longer, more) == 0);
    struct s3xml_error again = {0};
    if (s3xml_error(buf_str(&longer), longer.len, &again)) {
        ENSURE(!found || strcmp(again.code, e.code) == 0);
    } else {
        ENSURE(!found);
    }
    s3xml_error_fini(&e);
    s3xml_error_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    unsigned which = fuzz_digit(&in);
    switch (which % 5) {
    case 0:
        check_parts(&in);
        break;
    case 1:
    case 2:
        check_uploads(&in, which % 5 == 2);
        break;
    case 3:
        check_deletes(&in);
        break;
    default:
        check_error(&in);
        break;
    }
    return 0;
}
