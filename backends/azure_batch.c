/* Blob Batch: many removals in one request. Each is a request of its own, with its own signature, written into a part of a
 * multipart/mixed body; the answer has a part for each, which says by Content-ID what it is about.
 *
 * Signatures carry the time, so build only notes what is to go, and sign writes the body. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dialect_azure.h"
#include "http_parts.h"
#include "mem.h"

#define BOUNDARY "batch_0f6e1a52-6c0b-4d6e-9f63-0b1a4c1d7e90" /* paths are encoded, and have no line of their own */

int azure_batch_build(const struct dialect_site *site, const struct dialect_call *call, struct dialect_request *r)
{
    const struct be_many *op = CONTAINER_OF(call->op, const struct be_many, op);
    int err = 0;
    r->method = "POST";
    kv_set(&r->query, "restype", "container");
    kv_set(&r->query, "comp", "batch");
    kv_set(&r->headers, "content-type", "multipart/mixed; boundary=" BOUNDARY);
    for (size_t i = 0; i < call->n_chosen && err == 0; i++) {
        err = dialect_path(site, op->keys[call->chosen[i]], &r->note);
        err = err < 0 ? err : buf_addc(&r->note, '\n');
    }
    return err;
}

int azure_batch_body(struct dialect_request *r, azure_batch_sign *sign, void *ctx)
{
    int err = 0;
    unsigned n = 0;
    buf_clear(&r->own);
    for (const char *p = buf_str(&r->note); *p && err == 0; n++) {
        size_t len = strcspn(p, "\n");
        CLEANUP(mem_freep) char *path = mem_strndup(p, len);
        CLEANUP(buf_fini) struct buf target = BUF_INIT;
        CLEANUP(kv_fini) struct kvlist headers = {0};
        p += len + 1;
        err = sign(ctx, path, &target, &headers);
        err = err < 0 ? err
                      : buf_addf(&r->own,
                                 "--" BOUNDARY "\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
                                 "Content-ID: %u\r\n\r\nDELETE %s HTTP/1.1\r\n",
                                 n, buf_str(&target));
        for (size_t i = 0; i < headers.n && err == 0; i++) {
            err = buf_addf(&r->own, "%s: %s\r\n", headers.items[i].name, headers.items[i].value);
        }
        err = err < 0 ? err : buf_adds(&r->own, "Content-Length: 0\r\n\r\n");
    }
    err = err < 0 ? err : buf_adds(&r->own, "--" BOUNDARY "--\r\n");
    r->body = r->own.data;
    r->body_len = r->own.len;
    return err;
}

/* Up to the end of a line, which is taken off, and of its "\r". NULL at the end of the text. */
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    if (line[0] == '\0') {
        return NULL;
    }
    *at = end ? end + 1 : line + strlen(line);
    if (end) {
        end[end > line && end[-1] == '\r' ? -1 : 0] = '\0';
    }
    return line;
}

/* One part, between two boundaries: its own head, an empty line, an answer. -EBADMSG when it is something else. */
static int one_answer(const struct dialect_site *site, const struct dialect_call *call, char *part)
{
    char *line;
    unsigned long id = ULONG_MAX;
    struct dialect_answer a = {0};
    CLEANUP(kv_fini) struct kvlist headers = {0};
    while ((line = next_line(&part)) && line[0] != '\0') {
        id = strncasecmp(line, "Content-ID:", 11) == 0 ? strtoul(line + 11, NULL, 10) : id;
    }
    line = line ? next_line(&part) : NULL;
    if (!line || id >= call->n_chosen || sscanf(line, "HTTP/%*u.%*u %3d", &a.http_status) != 1) {
        return -EBADMSG;
    }
    char *end = strstr(part, "\r\n\r\n");
    size_t head = end ? (size_t)(end - part) + 2 : strlen(part);
    a.body = end ? end + 4 : "";
    a.body_len = strlen(a.body);
    if (end) {
        part[head] = '\0';
    }
    http_parse_headers(part, head, &headers);
    a.headers = &headers;
    struct errinfo *e = &call->errs[call->chosen[id]];
    *e = (struct errinfo){0};
    if (a.http_status >= 300) {
        azure_classify(site, call, &a, e);
        bool gone = e->cls == ERR_ABSENT && strcmp(e->code, "NoSuchBucket") != 0;
        *e = gone ? (struct errinfo){0} : *e; /* what is not there is removed */
    }
    return 0;
}

int azure_batch_parse(const struct dialect_site *site, const struct dialect_call *call, const struct dialect_answer *a,
                      struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *body = mem_strndup(a->body, a->body_len);
    size_t line = strcspn(body, "\r\n");
    CLEANUP(mem_freep) char *boundary = mem_strndup(body, line);
    int err = line > 2 && strncmp(boundary, "--", 2) == 0 ? 0 : -EBADMSG;
    for (size_t i = 0; i < call->n_chosen; i++) {
        struct errinfo *e = &call->errs[call->chosen[i]];
        e->http_status = a->http_status;
        err_set(e, ERR_TRANSIENT, 0, "the server does not say what became of it");
    }
    char *part = body + line;
    while (err == 0 && part[0] != '\0') {
        char *end = strstr(part, boundary);
        part += strspn(part, "\r\n");
        if (!end) { /* after the last boundary, which ends in "--" */
            break;
        }
        char *next = end + line;
        *end = '\0';
        err = end > part ? one_answer(site, call, part) : 0;
        part = next;
    }
    return err < 0 ? dialect_garbled(a, reterr, "batch") : 0;
}
