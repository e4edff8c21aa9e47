/* Error answers to classes and messages, for the S3 family. Pure. */
#include <stdio.h>
#include <string.h>

#include "dialect_s3like.h"
#include "digest.h"
#include "mem.h"
#include "s3xml.h"

/* What all of the family allow. A refusal for another reason comes again with the clock learnt. */
#define SKEW_ALLOWED_S 900

static const struct s3like *of(const struct dialect_site *site)
{
    return (const struct s3like *)(const void *)site;
}

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

static const char *request_id_of(const struct s3like *s, const struct kvlist *headers)
{
    return s->request_id ? kv_get(headers, s->request_id)
                         : s3like_header(s, headers, "request-id");
}

static const struct s3like_code common_codes[] = {
    {"AccessDenied", ERR_AUTH},
    {"SignatureDoesNotMatch", ERR_AUTH},
    {"InvalidAccessKeyId", ERR_AUTH},
    {"ExpiredToken", ERR_AUTH},
    {"InvalidToken", ERR_AUTH},
    {"TokenRefreshRequired", ERR_AUTH},
    {"AuthorizationHeaderMalformed", ERR_INVALID},
    {"RequestTimeTooSkewed", ERR_SKEW},
    {"RequestExpired", ERR_SKEW},
    {"InternalError", ERR_TRANSIENT},
    {"RequestTimeout", ERR_TRANSIENT},
    {"IncompleteBody", ERR_TRANSIENT},
    {"OperationAborted", ERR_TRANSIENT},
    {"ConditionalRequestConflict", ERR_TRANSIENT},
    {"SlowDown", ERR_THROTTLED},
    {"ServiceUnavailable", ERR_THROTTLED},
    {"Throttling", ERR_THROTTLED},
    {"ThrottlingException", ERR_THROTTLED},
    {"RequestLimitExceeded", ERR_THROTTLED},
    {"TooManyRequests", ERR_THROTTLED},
    {"NoSuchKey", ERR_ABSENT},
    {"NoSuchBucket", ERR_ABSENT},
    {"NoSuchUpload", ERR_ABSENT},
    {"NoSuchVersion", ERR_ABSENT},
    {"PreconditionFailed", ERR_PRECOND},
    {"FileAlreadyExists", ERR_PRECOND},
    {"BadDigest", ERR_INTEGRITY},
    {"XAmzContentSHA256Mismatch", ERR_INTEGRITY},
    {"QuotaExceeded", ERR_QUOTA},
    {"InvalidObjectState", ERR_ARCHIVED},
    /* named because they also come below a 200, where the status does not classify them */
    {"InvalidPart", ERR_INVALID},
    {"InvalidPartOrder", ERR_INVALID},
    {"EntityTooSmall", ERR_INVALID},
    {"EntityTooLarge", ERR_INVALID},
    {"InvalidArgument", ERR_INVALID},
    {"InvalidRequest", ERR_INVALID},
    {"MalformedXML", ERR_INVALID},
    {"KeyTooLong", ERR_INVALID},
    {"KeyTooLongError", ERR_INVALID},
    {NULL, ERR_NONE},
};

static bool find_code(const struct s3like_code *table, const char *code, enum err_class *ret)
{
    for (; table && table->code; table++) {
        if (strcmp(table->code, code) == 0) {
            *ret = table->cls;
            return true;
        }
    }
    return false;
}

static bool clock_refused(const struct s3like *s, const char *code, const struct dialect_answer *a)
{
    return s->skew_unsaid && dialect_clock_off_by(a, SKEW_ALLOWED_S) &&
           (strcmp(code, "AccessDenied") == 0 || strcmp(code, "InvalidArgument") == 0);
}

enum err_class s3like_class_of_code(const struct s3like *s, const char *code, const char *message,
                                    int http_status)
{
    enum err_class cls = ERR_NONE;
    if (strcmp(code, "AccessDenied") == 0 && strstr(message, "Request has expired")) {
        return ERR_SKEW; /* COS's other way to say it */
    }
    if (find_code(s->codes, code, &cls) || find_code(common_codes, code, &cls)) {
        return cls;
    }
    /* an <Error> below a 200 whose code we do not know: the server failed at it, trying again is
     * harmless */
    return http_status < 300 ? ERR_TRANSIENT : dialect_class_of_status(http_status);
}

void s3like_set_error(const struct s3like *s, const struct dialect_answer *a,
                      const struct s3xml_error *e, struct errinfo *ret)
{
    const char *code = or_empty(e->code), *message = or_empty(e->message);
    const char *region = e->region ? e->region : s3like_header(s, a->headers, "bucket-region");
    dialect_text(ret->code, sizeof(ret->code), code);
    enum err_class cls = clock_refused(s, code, a)
                             ? ERR_SKEW
                             : s3like_class_of_code(s, code, message, a->http_status);
    const char *class = s3like_header(s, a->headers, "storage-class");
    const char *id = e->request_id ? e->request_id : request_id_of(s, a->headers);
    dialect_text(ret->request_id, sizeof(ret->request_id), id);
    if (strcmp(code, "AuthorizationHeaderMalformed") == 0 && region) {
        err_set(ret, cls, 0, "the bucket is in region %.60s; set region = %.60s in [%s]", region,
                region, s->site.name);
    } else if (cls == ERR_ARCHIVED) {
        err_set(ret, cls, 0, "the object is archived%s%.30s%s: restore it first",
                class ? " (" : "", or_empty(class), class ? ")" : "");
    } else if ((a->http_status >= 300 && a->http_status < 400 && (e->endpoint || region)) ||
               (strcmp(code, "AccessDenied") == 0 && e->endpoint)) { /* as OSS says it */
        cls = a->http_status == 403 ? ERR_INVALID : cls;
        err_set(ret, cls, 0, "the bucket is elsewhere (%s%.100s); set %s in [%s]",
                e->endpoint ? "" : "region ", e->endpoint ? e->endpoint : region,
                e->endpoint ? "endPoint or region" : "region", s->site.name);
    } else {
        err_set(ret, cls, 0, "%s", message[0] != '\0' ? message : "the server gives no reason");
    }
}

void s3like_classify_bare(const struct s3like *s, const struct dialect_call *call,
                          const struct dialect_answer *a, struct errinfo *ret)
{
    bool head = call->kind == BE_STAT || call->head;
    const char *region = s3like_header(s, a->headers, "bucket-region");
    enum err_class cls = dialect_class_of_status(a->http_status);
    dialect_text(ret->request_id, sizeof(ret->request_id), request_id_of(s, a->headers));
    if (a->http_status >= 300 && a->http_status < 400 && a->http_status != 304) {
        err_set(ret, cls, 0, "the server redirects%s%.100s; set region or endPoint in [%s]",
                region ? " to region " : "", or_empty(region), s->site.name);
    } else if (a->http_status == 400 && region) {
        err_set(ret, cls, 0, "the bucket is in region %.60s; set region = %.60s in [%s]", region,
                region, s->site.name);
    } else if (a->http_status == 400 && head && a->body_len == 0) {
        /* our requests for attributes are well-formed; ExpiredToken and InvalidToken are 400 */
        err_set(ret, ERR_AUTH, 0, "refused without explanation; has securityToken in [%s] expired?",
                s->site.name);
    } else if (a->http_status == 403 && dialect_clock_off_by(a, DIALECT_SKEW_SUSPECT_S)) {
        err_set(ret, ERR_SKEW, 0, "refused, and the clocks differ by %lld s",
                (long long)dialect_clock_off_s(a));
    } else {
        err_set(ret, cls, 0, "status %d without explanation", a->http_status);
    }
}

void s3like_classify(const struct dialect_site *site, const struct dialect_call *call,
                     const struct dialect_answer *a, struct errinfo *ret)
{
    struct s3xml_error e = {0};
    ret->http_status = a->http_status;
    ret->retry_after_ms = dialect_retry_after(kv_get(a->headers, "retry-after"));
    /* the body that an answer to HEAD cannot have (OSS) */
    const char *coded = a->body_len == 0 ? s3like_header(of(site), a->headers, "err") : NULL;
    size_t coded_len = coded ? strlen(coded) : 0, len = 0;
    CLEANUP(mem_freep) char *text = mem_zalloc(coded_len + 1);
    if ((a->body_len > 0 && s3xml_error(a->body, a->body_len, &e)) ||
        (coded && base64_decode(coded, coded_len, text, &len) && s3xml_error(text, len, &e))) {
        s3like_set_error(of(site), a, &e, ret);
    } else {
        s3like_classify_bare(of(site), call, a, ret);
    }
    s3xml_error_fini(&e);
    s3like_restore_done(call, ret);
}

void s3like_restore_done(const struct dialect_call *call, struct errinfo *ret)
{
    if (call->kind == BE_RESTORE && (strcmp(ret->code, "RestoreAlreadyInProgress") == 0 ||
                                     strcmp(ret->code, "InvalidObjectState") == 0 ||
                                     strcmp(ret->code, "OperationNotSupported") == 0)) { /* the last as OSS says it */
        ret->cls = ERR_NONE;
    }
}
