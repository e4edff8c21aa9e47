/* Error answers of Azure Blob Storage to classes and messages. Pure. */
#include "dialect_azure.h"

#include <string.h>

#include "mem.h"
#include "xml.h"

/* Where the status alone says something else, or not enough. */
static const struct {
    const char *code;
    enum err_class cls;
    const char *instead; /* NULL: the service's own message */
} codes[] = {
    {"AuthenticationFailed", ERR_AUTH, NULL},
    {"InvalidAuthenticationInfo", ERR_AUTH, NULL}, /* 400 */
    {"AccountBeingCreated", ERR_TRANSIENT, NULL},
    {"ContainerBeingDeleted", ERR_TRANSIENT, NULL},
    {"PendingCopyOperation", ERR_TRANSIENT, NULL},
    {"BlobArchived", ERR_ARCHIVED, "the object is archived (Archive): restore it first"},
    {"BlobBeingRehydrated", ERR_ARCHIVED,
     "the object is being restored from Archive: wait until that is done"},
    {"ContainerNotFound", ERR_ABSENT, NULL},
    {"Md5Mismatch", ERR_INTEGRITY, NULL},
    {"InvalidMd5", ERR_INTEGRITY, NULL}, /* ours are well-formed, so it was damaged on the way */
    {"ContainerDisabled", ERR_AUTH, NULL},
    {"BlobImmutableDueToPolicy", ERR_INVALID, NULL}, /* 409, as the rest: no condition of ours */
    {"SnapshotsPresent", ERR_INVALID, "the object has snapshots: delete those first"},
    {"InvalidBlobType", ERR_INVALID, "the object is an append or page blob: delete it first"},
    {"InvalidBlobOrBlock", ERR_INVALID,
     "blocks of another program are waiting under this name: they vanish after a week, or when it is "
     "written"},
    {"LeaseIdMissing", ERR_INVALID, "the object is leased: break the lease first"}, /* 412 */
    {"LeaseAlreadyPresent", ERR_INVALID, "the object is leased: break the lease first"},
};

static enum err_class class_of(const struct dialect_answer *a, const char *code, const char *detail,
                               bool with_key, const char **ret_instead)
{
    bool says_date = strstr(detail, "date header") != NULL;
    if (with_key && a->http_status == 403 && strcmp(code, "AuthenticationFailed") == 0 &&
        (says_date || dialect_clock_off_by(a, DIALECT_SKEW_SUSPECT_S))) {
        return ERR_SKEW;
    }
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (strcmp(codes[i].code, code) == 0) {
            *ret_instead = codes[i].instead;
            return codes[i].cls;
        }
    }
    return dialect_class_of_status(a->http_status);
}

void azure_classify(const struct dialect_site *site, const struct dialect_call *call,
                           const struct dialect_answer *a, struct errinfo *ret)
{
    struct xml_field f[] = {
        {"Error/Code", NULL}, {"Error/Message", NULL}, {"Error/AuthenticationErrorDetail", NULL}};
    if (a->body_len > 0) {
        (void)xml_read(a->body, a->body_len, f, ARRAY_LEN(f), NULL);
    }
    const char *header = kv_get(a->headers, "x-ms-error-code"), *instead = NULL;
    const char *code = f[0].value ? f[0].value : header ? header : "";
    const char *detail = f[2].value ? f[2].value : "";
    struct dialect_keys *keys = dialect_keys_get(site);
    ret->http_status = a->http_status;
    ret->retry_after_ms = dialect_retry_after(kv_get(a->headers, "retry-after"));
    enum err_class cls = class_of(a, code, detail, keys && keys->secret, &instead);
    dialect_keys_put(keys);
    /* the name the floors above know a missing container by */
    bool no_container = strcmp(code, "ContainerNotFound") == 0;
    dialect_text(ret->code, sizeof(ret->code), no_container ? "NoSuchBucket" : code);
    dialect_text(ret->request_id, sizeof(ret->request_id), kv_get(a->headers, "x-ms-request-id"));
    if (instead) {
        err_set(ret, cls, 0, "%s", instead);
    } else if (detail[0] != '\0') {
        err_set(ret, cls, 0, "%s", detail);
    } else if (f[1].value && f[1].value[0] != '\0') {
        /* more lines say the request's id and time */
        err_set(ret, cls, 0, "%.*s", (int)strcspn(f[1].value, "\r\n"), f[1].value);
    } else if (code[0] != '\0') {
        err_set(ret, cls, 0, "the server gives no reason");
    } else {
        err_set(ret, cls, 0, "status %d without explanation", a->http_status);
    }
    xml_fields_fini(f, ARRAY_LEN(f));
    if (call->kind == BE_RESTORE && strcmp(ret->code, "BlobBeingRehydrated") == 0) {
        ret->cls = ERR_NONE; /* asked for before */
    }
}
