/* The head of an answer, line by line, and a URL for messages. The whole input is the head.
 *
 * What holds: names and values are such that they can be sent again without becoming two headers;
 * said again they are read the same; the lines for the HTTP library fit where they were said to. */
#include "fuzz.h"

#include "http_parts.h"
#include "log.h"

static void parse_again(const struct kvlist *headers)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(kv_fini) struct kvlist again = {0};
    for (size_t i = 0; i < headers->n; i++) {
        const char *value = headers->items[i].value;
        size_t n = strlen(value);
        if (n > 0 && value[n - 1] == ' ') {
            return; /* an empty value was joined to others: the blank after its comma would not come
                       back */
        }
        ENSURE(buf_addf(&text, "%s: %s\r\n", headers->items[i].name, value) == 0);
    }
    if (text.len > 0) {
        http_parse_headers(text.data, text.len, &again);
    }
    ENSURE(kv_equal(headers, &again));
}

static void check_lines(const struct kvlist *headers)
{
    size_t size = http_header_lines_size(headers), used = 0;
    CLEANUP(mem_freep) char *lines = malloc(size); /* exactly: one byte more is seen */
    size_t n = http_header_lines(headers, lines);
    ENSURE(n <= headers->n + HTTP_LINES_EXTRA);
    for (size_t i = 0; i < n; i++) {
        used += strlen(lines + used) + 1;
    }
    ENSURE(used <= size);
}

static void check_url(const char *url)
{
    const char *host = NULL;
    int n = http_url_host(url, &host);
    ENSURE(n >= 0 && host >= url && host + n <= url + strlen(url));
    ENSURE(!memchr(host, '@', (size_t)n) && !memchr(host, '?', (size_t)n) &&
           !memchr(host, '/', (size_t)n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_fini) struct buf head = BUF_INIT;
    CLEANUP(kv_fini) struct kvlist headers = {0};
    ENSURE(buf_add(&head, data, size) == 0);
    check_url(buf_str(&head));
    if (head.len == 0) {
        return 0;
    }
    http_parse_headers(head.data, head.len, &headers);
    for (size_t i = 0; i < headers.n; i++) {
        const char *name = headers.items[i].name, *value = headers.items[i].value;
        size_t n = strlen(value);
        ENSURE(name[0] != '\0' && !strpbrk(name, " \t\r\n:") && !strpbrk(value, "\r\n"));
        ENSURE(n == 0 || !strchr(" \t", value[0]));
        for (size_t k = 0; k < i; k++) {
            ENSURE(strcasecmp(headers.items[k].name, name) != 0);
        }
        ENSURE(log_redact_header(name, value));
    }
    parse_again(&headers);
    check_lines(&headers);
    return 0;
}
