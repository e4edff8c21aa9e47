/* One HTTP request as it came, and what is answered. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "store.h"

#define HEADERS_MAX 128
#define QUERY_MAX 32

struct pair {
    char *name, *value;
};

struct request {
    char *method;
    char *path;                       /* as sent */
    struct pair headers[HEADERS_MAX]; /* names in lower case, values trimmed */
    size_t n_headers;
    struct pair query[QUERY_MAX]; /* unescaped; a name without '=' has the value "" */
    size_t n_query;
    uint64_t body_len;
    bool expects_continue;
};

/* Takes the head, up to and with the empty line, apart in place. false: that is no HTTP request. */
bool request_parse(struct request *r, char *head, size_t len);
const char *request_header(const struct request *r, const char *name);
const char *request_query(const struct request *r, const char *name);

/* What an answer is made of. */
struct response {
    int status;
    struct buf headers; /* whole lines */
    struct buf body;
    struct segs data;   /* after body */
    uint64_t shown_len; /* HEAD: what Content-Length says instead of the bytes that follow */
    bool is_head, ends; /* ends: the connection is closed behind it */
};
void response_fini(struct response *r);
void response_header(struct response *r, const char *name, const char *value);
/* The error as S3 tells it; the status is known by the code. */
void response_error(struct response *r, const char *code, const char *message);
const char *status_text(int status);
