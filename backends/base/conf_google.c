/* Google's key files. A file of its own, so that nothing else down here knows JSON. */
#include "conf_internal.h"

#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include "mem.h"

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

const char *conf_service_account_text(const char *text, size_t n, char **ret_email)
{
    json_error_t err;
    json_t *key = json_loadb(text, n, JSON_REJECT_DUPLICATES, &err);
    const char *email = text_of(key, "client_email"), *secret = text_of(key, "private_key");
    bool good = strcmp(text_of(key, "type"), "service_account") == 0 && strchr(email, '@') &&
                secret[0] != '\0' && n > 0 && text[0] == '{';
    if (good) {
        *ret_email = mem_strdup(email);
    }
    if (secret[0] != '\0') {
        explicit_bzero((void *)(uintptr_t)secret, strlen(secret));
    }
    json_decref(key);
    return good ? NULL : "is no key file of a service account; make one, of type JSON";
}

const char *conf_service_account(const char *path, char **ret_email, struct secret **ret_text)
{
    CLEANUP(conf_buf_wipe) struct buf text = BUF_INIT;
    struct stat st;
    if (path[0] != '/') {
        return "is not absolute; write /FILE";
    }
    if (conf_file_read(path, &text, &st) < 0) {
        return "cannot be read; name the service account's key file";
    }
    const char *fault = conf_service_account_text(buf_str(&text), text.len, ret_email);
    if (!fault) {
        *ret_text = secret_new(buf_str(&text));
    }
    return fault;
}
