/* See json.h. */
#include "json.h"

#include "dialect.h"

json_t *json_answer(const char *body, size_t len)
{
    return json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
}

void json_freep(json_t **p)
{
    json_decref(*p);
}

const char *json_text(const json_t *o, const char *name)
{
    return json_string_value(json_object_get(o, name));
}

bool json_u64(const json_t *o, const char *name, uint64_t *ret)
{
    const json_t *v = json_object_get(o, name);
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        *ret = (uint64_t)json_integer_value(v);
        return true;
    }
    return json_is_string(v) && dialect_u64(json_string_value(v), ret);
}
