/* Azure's connection string: "AccountName=…;AccountKey=…;EndpointSuffix=…" or "BlobEndpoint=…;SharedAccessSignature=…". */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf_internal.h"
#include "mem.h"

/* The value of a name, or NULL; the caller wipes it. Values may have '=' in them, and no ';'. */
static char *value_of(const char *s, const char *name)
{
    size_t n = strlen(name);
    for (; *s; s += strcspn(s, ";"), s += *s == ';') {
        if (strncasecmp(s, name, n) == 0 && s[n] == '=') {
            size_t len = strcspn(s + n + 1, ";");
            return len > 0 ? mem_strndup(s + n + 1, len) : NULL;
        }
    }
    return NULL;
}

/* "https://ACCOUNT.blob…" or "http://HOST/ACCOUNT" */
static char *account_of(const char *endpoint)
{
    const char *host = strstr(endpoint, "://");
    host = host ? host + 3 : endpoint;
    const char *path = host + strcspn(host, "/");
    if (path[0] == '/' && path[1] != '\0') {
        return mem_strndup(path + 1, strcspn(path + 1, "/"));
    }
    return mem_strndup(host, strcspn(host, ".:/"));
}

static void set(char **to, char *value)
{
    free(*to);
    *to = value;
}

bool conf_azure_connection(struct conf_remote *r, const char **ret_fault)
{
    const char *s = getenv("AZURE_STORAGE_CONNECTION_STRING");
    if (!s || s[0] == '\0') {
        return false;
    }
    char *account = value_of(s, "AccountName"), *key = value_of(s, "AccountKey");
    char *sas = value_of(s, "SharedAccessSignature"), *endpoint = value_of(s, "BlobEndpoint");
    CLEANUP(mem_freep) char *suffix = value_of(s, "EndpointSuffix");
    if (!account && endpoint) {
        account = account_of(endpoint);
    }
    if (!endpoint && account && suffix) {
        endpoint = mem_printf("https://%s.blob.%s", account, suffix);
    }
    if (!account || (!key && !sas)) {
        *ret_fault = "AZURE_STORAGE_CONNECTION_STRING lacks the account, or both AccountKey and "
                     "SharedAccessSignature; copy it again";
    }
    if (account) {
        set(&r->access_key_id, TAKE(account));
    }
    r->access_key_secret = key ? secret_new(key) : NULL;
    r->security_token = sas && !key ? secret_new(sas) : NULL;
    if (endpoint && r->endpoint[0] == '\0') {
        r->https = strncasecmp(endpoint, "http://", 7) != 0;
        set(&r->endpoint, TAKE(endpoint));
    }
    conf_str_wipe(key);
    conf_str_wipe(sas);
    free(endpoint);
    return true;
}
