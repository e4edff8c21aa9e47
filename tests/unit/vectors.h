/* The protocol vectors (tests/vectors) for unit tests: made with the providers' own SDKs, see their
 * notes. */
#pragma once

#include "unit.h"

#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "buf.h"

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
