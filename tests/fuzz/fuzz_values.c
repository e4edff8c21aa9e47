/* The small texts in headers, documents, options: dates, numbers, ranges, etags, sizes, percent and
 * base64 encodings, values of user metadata. The whole input is the text. */
#include "fuzz.h"

#include <ctype.h>

#include "conf.h"
#include "dialect.h"
#include "digest.h"

/* Wall time of the first second after the year 2200: later dates are not believed. */
#define DATE_MAX_NS (INT64_C(7289654400) * 1000000000)

static void check_dates(const char *s)
{
    int64_t http = dialect_http_date(s), iso = dialect_iso_date(s);
    ENSURE(http >= 0 && http < DATE_MAX_NS + INT64_C(1000000000) && http % 1000000000 == 0);
    ENSURE(iso >= 0 && iso < DATE_MAX_NS + INT64_C(1000000000));
}

static void check_numbers(const char *s)
{
    uint64_t v = 0, first = 0, last = 0, total = 0;
    char text[24];
    if (dialect_u64(s, &v)) {
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
        ENSURE(strcmp(text, s + MIN(strspn(s, "0"), strlen(s) - 1)) == 0);
    }
    ENSURE(dialect_retry_after(s) <= 3600u * 1000);
    if (dialect_content_range(s, &first, &last, &total)) {
        ENSURE(first > last || last < total);
    }
    bool on;
    (void)conf_parse_bool(s, &on);
    uint64_t bytes = 0;
    if (conf_parse_size(s, &bytes) == 0) {
        ENSURE(isdigit((unsigned char)s[0]));
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
        uint64_t again = 0;
        ENSURE(conf_parse_size(text, &again) == 0 && again == bytes);
    }
}

static void check_etag(const char *s)
{
    char etag[BE_ETAG_MAX], again[BE_ETAG_MAX];
    memset(etag, 'x', sizeof(etag));
    if (dialect_etag(s, etag)) {
        ENSURE(strnlen(etag, sizeof(etag)) < sizeof(etag) && fuzz_one_line(etag) &&
               !strpbrk(etag, "\" "));
        ENSURE(dialect_etag(etag, again) && strcmp(etag, again) == 0);
        (void)dialect_etag_is_hex(etag);
    }
}

static void check_encodings(const uint8_t *data, size_t size, const char *s)
{
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    CLEANUP(buf_fini) struct buf coded = BUF_INIT;
    for (int plus = 0; plus < 2; plus++) {
        buf_clear(&plain);
        if (url_decode(&plain, s, strlen(s), plus) < 0) {
            ENSURE(plain.len == 0);
        }
        ENSURE(plain.len <= strlen(s));
        buf_clear(&coded);
        buf_clear(&plain);
        ENSURE(url_encode(&coded, data, size, plus) == 0);
        ENSURE(url_decode(&plain, buf_str(&coded), coded.len, !plus) == 0);
        ENSURE(plain.len == size && (size == 0 || memcmp(plain.data, data, size) == 0));
    }

    CLEANUP(mem_freep) char *base64 = malloc(BASE64_LEN(size) + 1);
    CLEANUP(mem_freep) uint8_t *bytes = malloc(size + 3);
    size_t n = 0;
    base64_encode(data, size, base64);
    ENSURE(strlen(base64) == BASE64_LEN(size));
    ENSURE(base64_decode(base64, BASE64_LEN(size), bytes, &n) && n == size &&
           (n == 0 || memcmp(bytes, data, n) == 0));
    if (base64_decode(s, strlen(s), bytes, &n)) {
        ENSURE(n <= strlen(s) / 4 * 3);
        base64_encode(bytes, n, base64);
        ENSURE(strlen(base64) == strlen(s));
    }
}

/* Whatever a value is, it arrives as it was; and what the decoder changes is what the encoder
 * writes. */
static void check_meta(const char *s)
{
    CLEANUP(buf_fini) struct buf coded = BUF_INIT;
    ENSURE(dialect_meta_encode(s, &coded) == 0);
    ENSURE(fuzz_one_line(buf_str(&coded)));
    CLEANUP(mem_freep) char *back = dialect_meta_decode(buf_str(&coded));
    ENSURE(strcmp(back, s) == 0);
    CLEANUP(mem_freep) char *decoded = dialect_meta_decode(s);
    if (strcmp(decoded, s) != 0) {
        buf_clear(&coded);
        ENSURE(dialect_meta_encode(decoded, &coded) == 0 && strcmp(buf_str(&coded), s) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    CLEANUP(mem_freep) char *s = fuzz_rest(&in);
    check_dates(s);
    check_numbers(s);
    check_etag(s);
    check_encodings(data, size, s);
    check_meta(s);
    return 0;
}
