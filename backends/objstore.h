/* The one driver for object stores behind HTTP. A provider is a dialect (dialect.h) and one line of
 * be_ops:
 *
 *     static int open_s3(…) { return objstore_open(&be_dialect_s3, …); }
 *     const struct be_ops be_s3_ops = OBJSTORE_OPS("s3", open_s3);
 */
#pragma once

#include "backend.h"

struct be_dialect;

int objstore_open(const struct be_dialect *dialect, struct be **ret_be,
                  const struct conf_remote *conf, const struct be_env *env, struct errinfo *reterr);
void objstore_close(struct be *be);
void objstore_describe(const struct be *be, uint32_t *ret_caps, struct be_limits *ret_limits);
const char *objstore_identity(const struct be *be);
int objstore_renew(struct be *be, const struct conf_remote *conf, struct errinfo *reterr);
bool objstore_can_copy(const struct be *dst, const struct be *src);
const char *objstore_key_fault(const struct be *be, const char *key);
bool objstore_archived(const struct be *be, const char *storage_class);
void objstore_cancel(struct be *be, struct be_op *op);
void objstore_stat(struct be *be, struct be_stat *op);
void objstore_read(struct be *be, struct be_read *op);
void objstore_write(struct be *be, struct be_write *op);
void objstore_remove(struct be *be, struct be_remove *op);
void objstore_list(struct be *be, struct be_list *op);
void objstore_copy(struct be *be, struct be_copy *op);
void objstore_remove_many(struct be *be, struct be_many *op);
void objstore_mp_begin(struct be *be, struct be_mp *op);
void objstore_mp_part(struct be *be, struct be_part *op);
void objstore_mp_commit(struct be *be, struct be_commit *op);
void objstore_mp_abort(struct be *be, struct be_mp *op);
void objstore_mp_parts(struct be *be, struct be_parts *op);
void objstore_mp_uploads(struct be *be, struct be_uploads *op);
void objstore_restore(struct be *be, struct be_restore *op);

/* Functions of operations that a dialect cannot do stay in the table: the site's caps leave them
 * out. */
#define OBJSTORE_OPS(name, open_fn)                                                                \
    {                                                                                              \
        .size = sizeof(struct be_ops), .scheme = (name), .open = (open_fn),                        \
        .close = objstore_close, .describe = objstore_describe, .identity = objstore_identity,     \
        .can_copy = objstore_can_copy, .renew = objstore_renew, .key_fault = objstore_key_fault,   \
        .archived = objstore_archived, .cancel = objstore_cancel, .stat = objstore_stat,           \
        .read = objstore_read, .write = objstore_write, .remove = objstore_remove,                 \
        .list = objstore_list, .copy = objstore_copy, .remove_many = objstore_remove_many,         \
        .mp_begin = objstore_mp_begin, .mp_part = objstore_mp_part,                                \
        .mp_commit = objstore_mp_commit, .mp_abort = objstore_mp_abort,                            \
        .mp_parts = objstore_mp_parts, .mp_uploads = objstore_mp_uploads,                          \
        .restore = objstore_restore,                                                               \
    }
