/* See http_parts.h. */
#include "http_parts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mem.h"

/* One cut a second: the answers to what was sent before the cut still come in. */
#define CUT_NS INT64_C(1000000000)

int http_url_host(const char *url, const char **ret_host)
{
    const char *p = strstr(url, "://");
    p = p ? p + 3 : url;
    size_t n = strcspn(p, "/?#");
    for (const char *at; (at = memchr(p, '@', n)) != NULL;) {
        n -= (size_t)(at + 1 - p);
        p = at + 1;
    }
    *ret_host = p;
    return (int)MIN(n, (size_t)120);
}

bool http_method_parse(const char *s, enum http_method *ret)
{
    static const char *const names[HTTP_METHODS] = {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"};
    for (int i = 0; i < HTTP_METHODS; i++) {
        if (strcmp(s, names[i]) == 0) {
            *ret = (enum http_method)i;
            return true;
        }
    }
    return false;
}

/* What may be in a header's name, and then some. */
static bool is_token(unsigned char c)
{
    return c > ' ' && c < 127 && c != ':' && c != ';';
}

bool http_header_ok(const struct kv *h)
{
    if (h->name[0] == '\0') {
        return false;
    }
    for (const unsigned char *p = (const unsigned char *)h->name; *p; p++) {
        if (!is_token(*p)) {
            return false;
        }
    }
    for (const unsigned char *p = (const unsigned char *)h->value; *p; p++) {
        if ((*p < ' ' && *p != '\t') || *p == 127) {
            return false;
        }
    }
    return true;
}

/* curl would add these by itself; a line without value tells it not to. */
static const char *const quiet[HTTP_LINES_EXTRA] = {"Accept:", "Expect:", "Content-Type:"};

size_t http_header_lines_size(const struct kvlist *h)
{
    size_t size = 1;
    for (size_t i = 0; i < h->n; i++) {
        size += strlen(h->items[i].name) + strlen(h->items[i].value) + 3;
    }
    for (size_t i = 0; i < ARRAY_LEN(quiet); i++) {
        size += strlen(quiet[i]) + 1;
    }
    return size;
}

size_t http_header_lines(const struct kvlist *h, char *ret)
{
    bool given[HTTP_LINES_EXTRA] = {false};
    size_t n_lines = 0;
    for (size_t i = 0; i < h->n; i++) {
        const char *name = h->items[i].name, *value = h->items[i].value;
        size_t n = strlen(name);
        if (strcasecmp(name, "content-length") == 0) {
            continue;
        }
        for (size_t k = 0; k < ARRAY_LEN(quiet); k++) {
            given[k] = given[k] || (strncasecmp(name, quiet[k], n) == 0 && quiet[k][n] == ':');
        }
        /* To curl "name:" alone means that the header is not sent; "name;" sends it empty. */
        bool blank = value[strspn(value, " \t")] == '\0';
        memcpy(ret, name, n);
        ret = stpcpy(ret + n, blank ? ";" : ": ");
        ret = stpcpy(ret, blank ? "" : value) + 1;
        n_lines++;
    }
    for (size_t k = 0; k < ARRAY_LEN(quiet); k++) {
        if (!given[k]) {
            ret = stpcpy(ret, quiet[k]) + 1;
            n_lines++;
        }
    }
    return n_lines;
}

static void add_header(struct kvlist *l, const char *name, const char *value)
{
    const char *old = kv_get(l, name);
    if (!old) {
        kv_set(l, name, value);
        return;
    }
    char *joined = mem_printf("%s, %s", old, value);
    kv_set(l, name, joined);
    free(joined);
}

void http_parse_headers(char *p, size_t len, struct kvlist *ret)
{
    for (char *end = p + len, *line = p; line < end;) {
        char *eol = memchr(line, '\n', (size_t)(end - line));
        char *next = eol ? eol + 1 : end;
        char *stop = eol ? eol : end; /* a buf ends in a NUL, so *stop may be written */
        while (stop > line && strchr(" \t\r", stop[-1])) {
            stop--;
        }
        *stop = '\0';
        char *colon = line;
        while (colon < stop && is_token((unsigned char)*colon)) {
            colon++;
        }
        if (*colon == ':' && colon > line) { /* at the latest, colon is at the NUL put there */
            char *value = colon + 1;
            for (char *c = value; c < stop; c++) {
                *c = *c == '\r' || *c == '\0' ? ' ' : *c;
            }
            value += strspn(value, " \t");
            *colon = '\0';
            add_header(ret, line, value);
        }
        line = next;
    }
}

void http_aimd_init(struct http_aimd *a, unsigned max)
{
    *a = (struct http_aimd){.max = max, .limit = max, .last_cut_ns = INT64_MIN / 2};
}

unsigned http_aimd_feedback(struct http_aimd *a, bool throttled, int64_t now_ns)
{
    if (!throttled) {
        a->successes++;
        if (a->successes >= a->limit && a->limit < a->max) {
            a->limit++;
            a->successes = 0;
        }
    } else if (now_ns - a->last_cut_ns >= CUT_NS) {
        a->limit = MAX(a->limit / 2, 1U);
        a->successes = 0;
        a->last_cut_ns = now_ns;
    }
    return a->limit;
}
