#include "json.h"

#include <string.h>

#include <jansson.h>

#include "buf.h"
#include "dialect.h"

static json_t *node(const struct js *v)
{
    return (json_t *)(uintptr_t)v;
}

static const struct js *wrap(const json_t *v)
{
    return (const struct js *)(const void *)v;
}

/* jansson recurses up to 2048 levels; an answer needs a handful. */
static bool too_deep(const char *p, size_t n)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string) {
            if (p[i] == '\\') {
                i++;
            } else if (p[i] == '"') {
                in_string = false;
            }
        } else if (p[i] == '"') {
            in_string = true;
        } else if (p[i] == '{' || p[i] == '[') {
            if (++depth > JS_DEPTH_MAX) {
                return true;
            }
        } else if ((p[i] == '}' || p[i] == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

struct js *js_read(const char *p, size_t n)
{
    json_error_t e;
    return too_deep(p, n) ? NULL : (struct js *)(void *)json_loadb(p, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
}

void js_free(struct js *root)
{
    json_decref(node(root));
}

void js_freep(struct js **root)
{
    js_free(*root);
}

const struct js *js_get(const struct js *o, const char *name)
{
    return wrap(json_object_get(node(o), name));
}

const char *js_string(const struct js *value)
{
    const char *s = json_string_value(node(value));
    return s && strlen(s) == json_string_length(node(value)) ? s : NULL;
}

const char *js_text(const struct js *o, const char *name)
{
    return js_string(js_get(o, name));
}

bool js_u64(const struct js *o, const char *name, uint64_t *ret)
{
    const json_t *v = node(js_get(o, name));
    if (!json_is_integer(v) || json_integer_value(v) < 0) {
        return false;
    }
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

bool js_digits(const struct js *o, const char *name, uint64_t *ret)
{
    return js_u64(o, name, ret) || dialect_u64(js_text(o, name), ret);
}

bool js_true(const struct js *o, const char *name)
{
    return json_is_true(node(js_get(o, name)));
}

bool js_is_object(const struct js *value)
{
    return json_is_object(node(value));
}

bool js_is_array(const struct js *value)
{
    return json_is_array(node(value));
}

bool js_is_null(const struct js *value)
{
    return json_is_null(node(value));
}

size_t js_count(const struct js *array)
{
    return json_array_size(node(array));
}

const struct js *js_at(const struct js *array, size_t i)
{
    return wrap(json_array_get(node(array), i));
}

bool js_next_text(const struct js *o, void **iter, const char **ret_name, const char **ret_value)
{
    for (;;) {
        *iter = *iter ? json_object_iter_next(node(o), *iter) : json_object_iter(node(o));
        if (!*iter) {
            return false;
        }
        const char *value = js_string(wrap(json_object_iter_value(*iter)));
        if (value) {
            *ret_name = json_object_iter_key(*iter);
            *ret_value = value;
            return true;
        }
    }
}

int js_add_string(struct buf *out, const char *s)
{
    int err = buf_addc(out, '"');
    for (; *s && err == 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            err = buf_addf(out, "\\%c", c);
        } else if (c < ' ') {
            err = buf_addf(out, "\\u%04x", c);
        } else {
            err = buf_addc(out, *s);
        }
    }
    return err < 0 ? err : buf_addc(out, '"');
}
