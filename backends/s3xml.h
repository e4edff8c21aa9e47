/* The XML documents of S3 and of the providers that speak like it (COS, OSS, KS3, GCS XML). Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "backend.h"
#include "buf.h"

/* A ListBucketResult, parsed as its bytes come in. */
struct s3xml_list;
struct s3xml_list *s3xml_list_new(void);
void s3xml_list_free(struct s3xml_list *l);                         /* NULL is fine */
int s3xml_list_feed(struct s3xml_list *l, const void *p, size_t n); /* 0 or -errno, sticky */

/* What an <Error> document says. All owned, "" when not said: s3xml_error_fini. */
struct s3xml_error {
    char *code, *message, *request_id, *region, *endpoint, *server_time;
};
void s3xml_error_fini(struct s3xml_error *e);
/* True when the document is one, also if it is cut off after its code. */
bool s3xml_error(const char *p, size_t n, struct s3xml_error *ret);

/* Ends the document. Hands entries (sorted by key) and cursor to op. The cursor says where
 * to go on: 't' and a continuation token (version 2), or 'k' and the name after which to list.
 * plus_is_space: the provider's encoding-type=url is form encoding. -EBADMSG when the document is
 * no complete listing or contradicts itself; -EREMOTEIO when it is an <Error>, then in *ret_error.
 * *ret_unshowable counts keys with a NUL byte and empty ones, which no C string or no file name can
 * hold; they are left out. */
int s3xml_list_finish(struct s3xml_list *l, int version, bool plus_is_space, struct be_list *op,
                      struct s3xml_error *ret_error, size_t *ret_unshowable);

/* One page each. *ret_next… NULL: the last one. Arrays are the caller's. -EBADMSG as above. */
int s3xml_parts(const char *p, size_t n, struct be_part_id **ret_parts, size_t *ret_n,
                char **ret_next);
int s3xml_uploads(const char *p, size_t n, bool plus_is_space, struct be_upload **ret_uploads,
                  size_t *ret_n, char **ret_next_key, char **ret_next_id);

/* Each key of a DeleteResult that failed (code is not NULL), or, with removed, that was removed. */
int s3xml_deletes(const char *p, size_t n, bool removed,
                  int (*each)(void *ctx, const char *key, const char *code, const char *message),
                  void *ctx);

/* Request bodies. quiet: the answer is to name failures only. */
int s3xml_delete_body(const char *const *keys, const size_t *chosen, size_t n, bool quiet,
                      struct buf *ret);
int s3xml_complete_body(const struct be_part_id *parts, size_t n, struct buf *ret);
