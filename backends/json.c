#include "json.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "dialect.h"

/* jansson recurses for each level, and its own bound is for large stacks. */
static bool is_shallow(const char *p, size_t n)
{
    unsigned depth = 0;
    bool text = false;
    for (size_t i = 0; i < n; i++) {
        if (text && p[i] == '\\') {
            i++; /* the next one is escaped */
        } else if (text) {
            text = p[i] != '"';
        } else if (p[i] == '"') {
            text = true;
        } else if (p[i] == '{' || p[i] == '[') {
            depth++;
        } else if ((p[i] == '}' || p[i] == ']') && depth > 0) {
            depth--;
        }
        if (depth > JSON_DEPTH_MAX) {
            return false;
        }
    }
    return true;
}

json_t *json_read(const char *p, size_t n)
{
    json_error_t err;
    return is_shallow(p, n) ? json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err)
                            : NULL;
}

void json_done(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

const char *json_text(const json_t *v)
{
    const char *s = json_string_value(v);
    return s && strlen(s) == json_string_length(v) ? s : NULL;
}

const char *json_get_text(const json_t *o, const char *name)
{
    return json_text(json_object_get(o, name));
}

bool json_get_u64(const json_t *o, const char *name, uint64_t *ret)
{
    const json_t *v = json_object_get(o, name);
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        *ret = (uint64_t)json_integer_value(v);
        return true;
    }
    return dialect_u64(json_get_text(o, name), ret);
}

bool json_get_flag(const json_t *o, const char *name)
{
    const char *s = json_get_text(o, name);
    return json_is_true(json_object_get(o, name)) || (s && strcasecmp(s, "true") == 0);
}

json_t *json_get_rows(const json_t *o, const char *name)
{
    json_t *v = json_object_get(o, name);
    return json_is_array(v) ? v : NULL;
}

int json_put_text(struct buf *out, const char *s)
{
    int err = buf_addc(out, '"');
    for (; *s && err == 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20) {
            err = buf_addf(out, "\\u%04x", c);
        } else if (c == '"' || c == '\\') {
            err = buf_addf(out, "\\%c", c);
        } else {
            err = buf_addc(out, (char)c);
        }
    }
    return err < 0 ? err : buf_addc(out, '"');
}
