/* The texts in the rows of the journal. Digit: 0 = extents, 1 = pairs, 2 = an error, 3 = a stored
 * MD5 and what comes after it.
 *
 * What holds: what is believed keeps every invariant and, written again, says the same. */
#include "fuzz.h"

#include <errno.h>

#include "digest.h"
#include "extent.h"
#include "journal_internal.h"

#define EXTENTS 64

static void check_extents(const char *text)
{
    struct extent_map m, again;
    CLEANUP(buf_fini) struct buf first = BUF_INIT;
    CLEANUP(buf_fini) struct buf second = BUF_INIT;
    int err = extent_parse(&m, text, EXTENTS);
    if (err < 0) {
        ENSURE(err == -EINVAL && m.n == 0 && m.size == 0);
        extent_fini(&m);
        return;
    }
    extent_check(&m);
    ENSURE(m.n <= EXTENTS && m.size <= INT64_MAX);
    ENSURE(extent_format(&m, &first) == 0 && extent_parse(&again, buf_str(&first), m.n) == 0);
    ENSURE(again.n == m.n && again.size == m.size && extent_format(&again, &second) == 0);
    ENSURE(strcmp(buf_str(&first), buf_str(&second)) == 0);
    for (size_t i = 0; i < m.n; i++) {
        const struct extent *a = &m.v[i], *b = &again.v[i];
        ENSURE(a->off == b->off && a->len == b->len && a->kind == b->kind && a->part == b->part &&
               a->src_off == b->src_off);
        ENSURE(!a->src == !b->src);
        ENSURE(!a->src ||
               (strcmp(a->src->key, b->src->key) == 0 && strcmp(a->src->etag, b->src->etag) == 0));
    }
    extent_fini(&m);
    extent_fini(&again);
}

static void check_pairs(const char *text)
{
    CLEANUP(kv_fini) struct kvlist l = {0};
    CLEANUP(kv_fini) struct kvlist again = {0};
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    int err = kv_parse(&l, text);
    ENSURE(err == 0 || (err == -EINVAL && l.n == 0));
    ENSURE(kv_format(&l, &out) == 0 && kv_parse(&again, buf_str(&out)) == 0 &&
           kv_equal(&l, &again));
}

static void check_error(const char *text)
{
    struct errinfo e = {0}, again = {0};
    if (!jerr_parse(text, &e)) {
        return;
    }
    ENSURE(e.cls < ERR_CLASSES && e.http_status >= 0);
    CLEANUP(mem_freep) char *out = jerr_format(&e);
    ENSURE(out && jerr_parse(out, &again) && memcmp(&e, &again, sizeof(e)) == 0);
    char line[1024];
    (void)err_format(&e, line, sizeof(line));
    ENSURE(strnlen(line, sizeof(line)) < sizeof(line));
}

static void check_md5(struct fuzz_in *in)
{
    struct digest_md5 m;
    uint8_t state[DIGEST_MD5_STATE_SIZE], md5[2][DIGEST_MD5_LEN];
    size_t n = MIN(fuzz_left(in), sizeof(state));
    if (!digest_md5_load(&m, in->p, n)) {
        return;
    }
    in->p += n;
    for (int k = 0; k < 2; k++) {
        struct digest_md5 run;
        digest_md5_save(&m, state);
        ENSURE(digest_md5_load(&run, state, sizeof(state)));
        digest_md5_update(&run, in->p, fuzz_left(in));
        digest_md5_final(&run, md5[k]);
    }
    ENSURE(memcmp(md5[0], md5[1], sizeof(md5[0])) == 0);
    (void)digest_md5_bytes(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    unsigned which = fuzz_digit(&in);
    if (which % 4 == 3) {
        check_md5(&in);
        return 0;
    }
    CLEANUP(mem_freep) char *text = fuzz_rest(&in);
    switch (which % 4) {
    case 0:
        check_extents(text);
        break;
    case 1:
        check_pairs(text);
        break;
    default:
        check_error(text);
        break;
    }
    return 0;
}
