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

void conf_azure_parts(const char *s, struct azure_parts *ret)
{
    CLEANUP(mem_freep) char *suffix = value_of(s, "EndpointSuffix");
    *ret = (struct azure_parts){.account = value_of(s, "AccountName"),
                                .endpoint = value_of(s, "BlobEndpoint"),
                                .key = value_of(s, "AccountKey"),
                                .sas = value_of(s, "SharedAccessSignature")};
    if (!ret->account && ret->endpoint) {
        ret->account = account_of(ret->endpoint);
    }
    if (!ret->endpoint && ret->account && suffix) {
        ret->endpoint = mem_printf("https://%s.blob.%s", ret->account, suffix);
    }
}

void conf_azure_parts_fini(struct azure_parts *p)
{
    conf_str_wipe(p->key);
    conf_str_wipe(p->sas);
    free(p->account);
    free(p->endpoint);
}

bool conf_azure_connection(struct conf_remote *r, const char **ret_fault)
{
    const char *s = getenv("AZURE_STORAGE_CONNECTION_STRING");
    if (!s || s[0] == '\0') {
        return false;
    }
    CLEANUP(conf_azure_parts_fini) struct azure_parts p;
    conf_azure_parts(s, &p);
    if (!p.account || (!p.key && !p.sas)) {
        *ret_fault = "AZURE_STORAGE_CONNECTION_STRING lacks the account, or both AccountKey and "
                     "SharedAccessSignature; copy it again";
    }
    if (p.account) {
        set(&r->access_key_id, TAKE(p.account));
    }
    r->access_key_secret = p.key ? secret_new(p.key) : NULL;
    r->security_token = p.sas && !p.key ? secret_new(p.sas) : NULL;
    if (p.endpoint && r->endpoint[0] == '\0') {
        r->https = strncasecmp(p.endpoint, "http://", 7) != 0;
        set(&r->endpoint, TAKE(p.endpoint));
    }
    return true;
}
