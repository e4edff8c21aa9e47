/* A strict, bounded reader for the XML that object stores answer with. Every document is hostile: a
 * document type declaration ends it (so there are no entities to expand), depth, names, texts and
 * unfinished tokens are limited, and a document must be complete. Blanks before the document are
 * skipped: COS and S3 send some to keep a connection alive.
 *
 * Elements are told by their path from the root, "ListBucketResult/Contents/Key"; name space
 * prefixes are dropped. Pure: no I/O, no lock; one reader is used by one thread at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

#define XML_DEPTH_MAX 16
#define XML_TEXT_MAX 16384u  /* of one element; a key is 1024 bytes, 3072 percent-encoded */
#define XML_TOKEN_MAX 65536u /* an unfinished tag, comment or the like */

/* Both return 0, or -errno which ends the parse and is what xml_feed returns. text is
 * NUL-terminated and what stood directly inside the element; for elements with children it is only
 * the last piece, thus not to be used. */
struct xml_handler {
    int (*open)(void *ctx, const char *path); /* may be NULL */
    int (*close)(void *ctx, const char *path, const char *text, size_t n);
    /* each attribute of an element, after its open; may be NULL */
    int (*attribute)(void *ctx, const char *path, const char *name, const char *value);
};

struct xml_reader;
struct xml_reader *xml_new(const struct xml_handler *handler, void *ctx, size_t total_max);
void xml_free(struct xml_reader *x);
void xml_freep(struct xml_reader **x);
/* 0, -EBADMSG (not well-formed, doctype), -EMSGSIZE (a limit), or the handler's. Sticky. */
int xml_feed(struct xml_reader *x, const void *p, size_t n);
int xml_finish(struct xml_reader *x); /* -EBADMSG when the document is not complete */

/* The texts of a few elements of a small document. The first occurrence of each path counts; value
 * is NULL when there is none. A path that starts with "*" followed by a slash matches under any
 * root. */
struct xml_field {
    const char *path;
    char *value; /* owned: xml_fields_fini */
};
#define XML_ROOT_MAX 64
/* ret_root (XML_ROOT_MAX bytes, may be NULL) gets the root's name, also when the document turns out
 * broken later. */
int xml_read(const void *p, size_t n, struct xml_field *fields, size_t n_fields, char *ret_root);
/* The same for a document with rows: each() is called at the end of every element `row_path` with
 * the texts of its direct children (fields with names instead of paths; each may take a value by
 * setting it to NULL). `fields` as above. */
struct xml_rows {
    const char *row_path; /* may start with "*" and a slash */
    struct xml_field *row;
    size_t n_row;
    int (*each)(void *ctx, struct xml_field *row);
    void *ctx;
};
int xml_read_rows(const void *p, size_t n, const struct xml_rows *rows, struct xml_field *fields,
                  size_t n_fields, char *ret_root);
void xml_fields_fini(struct xml_field *fields, size_t n_fields);

/* Whether XML 1.0 can carry these bytes at all (section 2.2: valid UTF-8 without most control
 * characters). */
bool xml_can_carry(const char *s, size_t n);
/* Appends s as character data. Line ends and tabs become references, which no parser normalises. */
int xml_escape(struct buf *out, const char *s, size_t n);
