/* The protocol vectors (tests/vectors) for unit tests: made with the providers' own SDKs, see their
 * notes. */
#pragma once

#include "unit.h"

#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "buf.h"
#include "mem.h"

static inline json_t *vectors_load(const char *name)
{
    const char *dir = getenv("OBJMIG_VECTORS");
    char path[4096];
    json_error_t e;
    (void)snprintf(path, sizeof(path), "%s/%s.json", dir ? dir : "tests/vectors", name);
    json_t *all = json_load_file(path, 0, &e);
    if (!all) {
        fail_msg("%s: %s (is OBJMIG_VECTORS set?)", path, e.text);
    }
    return all;
}

/* "" when absent */
static inline const char *vector_text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

static inline void vector_kvs(const json_t *o, struct kvlist *ret)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)o, name, value)
    {
        if (json_is_string(value)) {
            kv_set(ret, name, json_string_value(value));
        } else if (json_is_integer(value)) {
            char text[32];
            (void)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
            kv_set(ret, name, text);
        } else {
            kv_set(ret, name, "");
        }
    }
}

/* The vectors' SDKs choose which headers to sign; give the signer those. `list` is "a;b;c". */
static inline void only_listed(struct kvlist *headers, const char *list)
{
    CLEANUP(kv_fini) struct kvlist kept = {0};
    for (size_t i = 0; i < headers->n; i++) {
        const char *name = headers->items[i].name;
        size_t n = strlen(name);
        for (const char *p = list; *p; p += strcspn(p, ";"), p += *p == ';') {
            if (strcspn(p, ";") == n && strncasecmp(p, name, n) == 0) {
                kv_set(&kept, name, headers->items[i].value);
            }
        }
    }
    kv_copy(headers, &kept);
}

/* What stands in `s` after `name`, up to one of `ends`. */
static inline char *value_after(const char *s, const char *name, const char *ends)
{
    const char *p = strstr(s, name);
    assert_non_null(p);
    p += strlen(name);
    return mem_strndup(p, strcspn(p, ends));
}

/* Query parameters of a URL, decoded, but for `without`. */
static inline void query_of_url(const char *url, const char *without, struct kvlist *ret)
{
    const char *p = strchr(url, '?');
    for (p = p ? p + 1 : ""; *p; p += strcspn(p, "&"), p += *p == '&') {
        size_t n = strcspn(p, "&"), eq = strcspn(p, "=&");
        CLEANUP(buf_fini) struct buf name = BUF_INIT;
        CLEANUP(buf_fini) struct buf value = BUF_INIT;
        assert_int_equal(url_decode(&name, p, eq, false), 0);
        assert_int_equal(url_decode(&value, p + MIN(eq + 1, n), n - MIN(eq + 1, n), false), 0);
        if (strcmp(buf_str(&name), without) != 0) {
            kv_set(ret, buf_str(&name), buf_str(&value));
        }
    }
}
