#include "request.h"

#include <string.h>
#include <strings.h>

#include "mem.h"
#include "text.h"

static char *lower(char *s)
{
    for (char *p = s; *p; p++) {
        if (*p >= 'A' && *p <= 'Z') {
            *p |= 0x20;
        }
    }
    return s;
}

static char *trim(char *s)
{
    while (*s == ' ' || *s == '\t') {
        s++;
    }
    size_t n = strlen(s);
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t')) {
        s[--n] = '\0';
    }
    return s;
}

static bool parse_query(struct request *r, char *text)
{
    char *rest = text, *item;
    while ((item = strsep(&rest, "&")) != NULL) {
        if (*item == '\0') {
            continue;
        }
        char *value = strchr(item, '=');
        if (value) {
            *value++ = '\0';
        } else {
            value = item + strlen(item);
        }
        if (r->n_query == QUERY_MAX || text_unescape(item, strlen(item), true) < 0 ||
            text_unescape(value, strlen(value), true) < 0) {
            return false;
        }
        r->query[r->n_query++] = (struct pair){item, value};
    }
    return true;
}

static bool parse_line(struct request *r, char *line)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || strcmp(version, " HTTP/1.1") != 0) {
        return false;
    }
    *target++ = *version = '\0';
    r->method = line;
    r->path = target;
    char *query = strchr(target, '?');
    if (query) {
        *query++ = '\0';
    }
    return target[0] == '/' && (!query || parse_query(r, query));
}

static bool body_length(struct request *r)
{
    const char *length = request_header(r, "content-length");
    r->body_len = 0;
    return !length || text_number(length, &r->body_len);
}

bool request_parse(struct request *r, char *head, size_t len)
{
    memset(r, 0, sizeof(*r));
    if (memchr(head, '\0', len)) {
        return false;
    }
    head[len - 2] = '\0'; /* the empty line */
    char *end = strstr(head, "\r\n");
    if (!end) {
        return false;
    }
    *end = '\0';
    if (!parse_line(r, head)) {
        return false;
    }
    for (char *line = end + 2; *line; line = end + 2) {
        end = strstr(line, "\r\n");
        char *colon = strchr(line, ':');
        if (!end || !colon || colon > end || r->n_headers == HEADERS_MAX) {
            return false;
        }
        *end = *colon = '\0';
        r->headers[r->n_headers++] = (struct pair){lower(line), trim(colon + 1)};
    }
    const char *expect = request_header(r, "expect");
    r->expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
    return body_length(r);
}

static const char *find(const struct pair *pairs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(pairs[i].name, name) == 0) {
            return pairs[i].value;
        }
    }
    return NULL;
}

const char *request_header(const struct request *r, const char *name)
{
    return find(r->headers, r->n_headers, name);
}

const char *request_query(const struct request *r, const char *name)
{
    return find(r->query, r->n_query, name);
}

void response_fini(struct response *r)
{
    buf_fini(&r->headers);
    buf_fini(&r->body);
    segs_fini(&r->data);
    *r = (struct response){0};
}

void response_header(struct response *r, const char *name, const char *value)
{
    ENSURE(buf_adds(&r->headers, name) == 0 && buf_adds(&r->headers, ": ") == 0 &&
           buf_adds(&r->headers, value) == 0 && buf_adds(&r->headers, "\r\n") == 0);
}

static const struct {
    const char *code;
    int status;
} errors[] = {
    {"AccessDenied", 403},
    {"AuthorizationHeaderMalformed", 400},
    {"BadDigest", 400},
    {"BucketNotEmpty", 409},
    {"EntityTooLarge", 400},
    {"EntityTooSmall", 400},
    {"InternalError", 500},
    {"InvalidAccessKeyId", 403},
    {"InvalidArgument", 400},
    {"InvalidDigest", 400},
    {"InvalidPart", 400},
    {"InvalidPartOrder", 400},
    {"InvalidRange", 416},
    {"InvalidRequest", 400},
    {"InvalidURI", 400},
    {"KeyTooLongError", 400},
    {"MalformedXML", 400},
    {"MetadataTooLarge", 400},
    {"MethodNotAllowed", 405},
    {"MissingContentLength", 411},
    {"NoSuchBucket", 404},
    {"NoSuchKey", 404},
    {"NoSuchUpload", 404},
    {"NotImplemented", 501},
    {"PreconditionFailed", 412},
    {"RequestTimeTooSkewed", 403},
    {"SignatureDoesNotMatch", 403},
    {"XAmzContentSHA256Mismatch", 400},
};

void response_error(struct response *r, const char *code, const char *message)
{
    bool is_head = r->is_head, ends = r->ends;
    response_fini(r);
    r->is_head = is_head;
    r->ends = ends;
    r->status = 500;
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        if (strcmp(errors[i].code, code) == 0) {
            r->status = errors[i].status;
        }
    }
    if (!is_head) {
        response_header(r, "Content-Type", "application/xml");
        ENSURE(buf_addf(&r->body,
                        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code>"
                        "<Message>%s</Message><RequestId>s3fast</RequestId></Error>",
                        code, message) == 0);
    }
}

const char *status_text(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 206:
        return "Partial Content";
    case 304:
        return "Not Modified";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 412:
        return "Precondition Failed";
    case 416:
        return "Range Not Satisfiable";
    default:
        return status < 400 ? "OK" : "Error";
    }
}
