/* Lists of URLs. First a digit: a list (0), or a URL and, on the next line, where its server
 * redirects to (1).
 *
 * What holds: a list has keys in order, each with a URL, or a fault of one line that names a line;
 * what is requested is one line that could be sent, and is requested again as it is; what a
 * redirect names has no password. */
#include "fuzz.h"

#include "log.h"
#include "urllist.h"

static void check_url(const struct weburl *u)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    CLEANUP(buf_fini) struct buf key = BUF_INIT;
    CLEANUP(weburl_fini) struct weburl again = {0};
    ENSURE(u->host.len > 0 && strlen(u->host.data) == u->host.len);
    ENSURE(u->target.len > 0 && strlen(u->target.data) == u->target.len &&
           u->target.data[0] == '/');
    for (const char *p = u->host.data; *p; p++) {
        ENSURE((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || strchr("-_.:[]", *p) ||
               (u->host.data[0] == '[' && *p <= 'F'));
    }
    for (const char *p = u->target.data; *p; p++) {
        ENSURE(*p > ' ' && *p < 127 && *p != '#');
    }
    ENSURE(weburl_text(u, &text) == 0 && !weburl_parse(text.data, text.len, &again));
    ENSURE(weburl_same_origin(u, &again) && strcmp(u->target.data, again.target.data) == 0);
    ENSURE(fuzz_one_line(buf_str(&u->login)));
    if (!weburl_key(u, &key)) {
        ENSURE(key.len > 0 && strlen(key.data) == key.len);
    }
}

static void check_list(const char *text, size_t len)
{
    struct urllist *l = NULL;
    struct errinfo err = {0};
    if (urllist_parse(text, len, "list", &l, &err) < 0) {
        fuzz_told(&err);
        ENSURE(strncmp(err.message, "list:", 5) == 0);
        return;
    }
    size_t n = urllist_count(l);
    CLEANUP(buf_fini) struct buf before = BUF_INIT;
    for (size_t i = 0; i < n; i++) {
        size_t key_len;
        const char *p = urllist_key(l, i, &key_len);
        CLEANUP(mem_freep) char *key = mem_strndup(p, key_len);
        ENSURE(key_len > 0 && key_len <= URLLIST_KEY_MAX && strlen(key) == key_len);
        ENSURE(i == 0 || strcmp(buf_str(&before), key) < 0);
        struct urllist_row row;
        ENSURE(urllist_find(l, key, &row));
        check_url(&row.url);
        urllist_row_fini(&row);
        buf_clear(&before);
        ENSURE(buf_adds(&before, key) == 0 && urllist_lower(l, key, key_len) == i);
    }
    urllist_free(l);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    ENSURE(log_open("/dev/null", LOG_LEVEL_ERROR) ==
           0); /* what is wrong with a list is logged, too */
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    if (fuzz_digit(&in) % 2 == 0) {
        check_list(in.p, fuzz_left(&in));
        return 0;
    }
    CLEANUP(mem_freep) char *url = fuzz_line(&in);
    CLEANUP(mem_freep) char *location = fuzz_rest(&in);
    CLEANUP(weburl_fini) struct weburl u = {0};
    CLEANUP(weburl_fini) struct weburl to = {0};
    const char *fault = weburl_parse(url, strlen(url), &u);
    if (fault) {
        ENSURE(fault[0] != '\0' && fuzz_one_line(fault));
        return 0;
    }
    check_url(&u);
    if (!weburl_join(&u, location, &to)) {
        check_url(&to);
        ENSURE(to.login.len == 0);
    }
    return 0;
}
