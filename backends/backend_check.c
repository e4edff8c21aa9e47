/* Whether an operation fits the contract and the driver's own limits: asked before a driver sees it. */
#include "backend_check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"
#include "mem.h"

int be_key_check(const struct be *be, const char *key, struct errinfo *reterr)
{
    size_t len = strlen(key);
    if (len == 0) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "an object needs a key");
    }
    int err = 0;
    if (len > be->limits.max_key) {
        err = err_set(reterr, ERR_INVALID, -ENAMETOOLONG, "key of %zu bytes, %s takes %u", len,
                      be->name, be->limits.max_key);
    } else if (be->ops->key_fault) {
        const char *fault = be->ops->key_fault(be, key);
        if (fault) {
            err = err_set(reterr, ERR_INVALID, -EILSEQ, "%s", fault);
        }
    }
    if (err < 0 && reterr) {
        snprintf(reterr->code, sizeof(reterr->code), "%s",
                 err == -ENAMETOOLONG ? "KeyTooLongError" : "InvalidKey");
    }
    return err;
}

int be_check_op_key(struct be_op *op, const char *key)
{
    unsigned max = op->be->limits.max_key;
    if (!key || key[0] == '\0') {
        return be_fail(op, ERR_INVALID, "", "an object needs a key");
    }
    size_t len = strnlen(key, (size_t)max + 1);
    if (len > max) {
        char text[BE_KEY_TEXT];
        return be_fail(op, ERR_INVALID, "KeyTooLongError", "%s takes keys of up to %u bytes: '%s'",
                       op->be->name, max, be_key_text(key, text, sizeof(text)));
    }
    return 0;
}

int be_check_need(struct be_op *op, uint32_t cap, const char *what)
{
    if (cap != 0 && !(op->be->caps & cap)) {
        return err_set(&op->err, ERR_INVALID, -EOPNOTSUPP, "%s cannot %s", op->be->name, what);
    }
    return 0;
}

static int check_meta(struct be_op *op, const struct kvlist *meta)
{
    size_t user_bytes = 0;
    for (size_t i = 0; meta && i < meta->n; i++) {
        const struct kv *kv = &meta->items[i];
        if (strncmp(kv->name, "meta-", 5) != 0) {
            continue;
        }
        if (kv->name[5] == '\0') {
            return be_fail(op, ERR_INVALID, "", "user metadata needs a name");
        }
        user_bytes += strlen(kv->name) - 5 + strlen(kv->value);
    }
    unsigned max = op->be->limits.max_meta;
    if (user_bytes > 0) {
        int err = be_check_need(op, BE_CAP_USER_META, "store user metadata");
        if (err < 0) {
            return err;
        }
    }
    if (max > 0 && user_bytes > max) {
        return be_fail(op, ERR_INVALID, "MetadataTooLarge",
                       "%zu bytes of user metadata, and %s takes %u", user_bytes, op->be->name,
                       max);
    }
    return 0;
}

static int check_conditions(struct be_op *op, const char *if_match, bool if_absent)
{
    if (if_match && if_absent) {
        return be_fail(op, ERR_INVALID, "", "an object cannot both exist and not");
    }
    if (if_match && if_match[0] == '\0') {
        return be_fail(op, ERR_INVALID, "", "an unknown etag is no condition");
    }
    int err = if_match ? be_check_need(op, BE_CAP_IF_MATCH, "make a change depend on an etag") : 0;
    if (err == 0 && if_absent) {
        err = be_check_need(op, BE_CAP_IF_ABSENT, "create only what does not exist");
    }
    if (err == 0 && (if_match || if_absent) && op->kind == BE_MP_COMMIT &&
        (op->be->caps & BE_CAP_MP_NO_CONDITION)) {
        err = err_set(&op->err, ERR_INVALID, -EOPNOTSUPP, "%s commits parts without conditions",
                      op->be->name);
    }
    return err;
}

static int check_size(struct be_op *op, uint64_t size, uint64_t max, const char *what)
{
    if (max > 0 && size > max) {
        return be_fail(op, ERR_INVALID, "EntityTooLarge", "%llu bytes, and %s takes %s of %llu",
                       (unsigned long long)size, op->be->name, what, (unsigned long long)max);
    }
    return 0;
}

static int check_write(struct be_op *op)
{
    struct be_write *o = CONTAINER_OF(op, struct be_write, op);
    const struct be_limits *l = &op->be->limits;
    if (o->len > 0 && !o->data) {
        return be_fail(op, ERR_INVALID, "", "no data");
    }
    int err = check_conditions(op, o->if_match, o->if_absent);
    if (err == 0) {
        err = check_size(op, o->len, l->max_put > 0 ? l->max_put : l->max_object, "single writes");
    }
    return err < 0 ? err : check_meta(op, o->meta);
}

static int check_list(struct be_op *op)
{
    struct be_list *o = CONTAINER_OF(op, struct be_list, op);
    if (!o->prefix) {
        o->prefix = "";
    }
    if (o->delimiter != 0 && o->delimiter != '/') {
        return be_fail(op, ERR_INVALID, "", "only '/' divides keys");
    }
    if (o->cursor && o->start_after) {
        return be_fail(op, ERR_INVALID, "", "a list goes on from one place");
    }
    return 0;
}

static int check_source(struct be_op *op, struct be *src, const char *src_key)
{
    if (!src || !src_key || src_key[0] == '\0') {
        return be_fail(op, ERR_INVALID, "", "a copy needs a source");
    }
    CHECK_MAGIC(src, BE_MAGIC);
    if (!be_can_copy(op->be, src)) {
        return err_set(&op->err, ERR_INVALID, -EOPNOTSUPP, "%s cannot copy from %s", op->be->name,
                       src->name);
    }
    return 0;
}

static int check_copy(struct be_op *op)
{
    struct be_copy *o = CONTAINER_OF(op, struct be_copy, op);
    int err = check_source(op, o->src, o->src_key);
    if (err == 0) {
        err = check_size(op, o->size, op->be->limits.max_copy, "copies");
    }
    return err < 0 ? err : check_meta(op, o->meta);
}

static int check_many(struct be_op *op)
{
    struct be_many *o = CONTAINER_OF(op, struct be_many, op);
    if (o->n_keys == 0 || o->n_keys > op->be->limits.batch) {
        return be_fail(op, ERR_INVALID, "", "%zu keys, and %s removes 1 to %u at once", o->n_keys,
                       op->be->name, op->be->limits.batch);
    }
    int err = 0;
    for (size_t i = 0; i < o->n_keys && err == 0; i++) {
        err = be_check_op_key(op, o->keys[i]);
    }
    return err;
}

static int check_upload_id(struct be_op *op, const char *id)
{
    if (!id || id[0] == '\0') {
        return be_fail(op, ERR_INVALID, "", "an upload needs its id");
    }
    return 0;
}

static int check_part(struct be_op *op)
{
    struct be_part *o = CONTAINER_OF(op, struct be_part, op);
    const struct be_limits *l = &op->be->limits;
    int err = check_upload_id(op, o->upload_id);
    if (err < 0) {
        return err;
    }
    if (o->number == 0 || o->number > l->max_parts) {
        return be_fail(op, ERR_INVALID, "", "part %u, and %s numbers them 1 to %u", o->number,
                       op->be->name, l->max_parts);
    }
    if (!o->src) {
        if (o->len > 0 && !o->data) {
            return be_fail(op, ERR_INVALID, "", "no data");
        }
        return check_size(op, o->len, l->max_part, "parts");
    }
    err = be_check_need(op, BE_CAP_PART_COPY, "copy into parts");
    if (err == 0) {
        err = check_source(op, o->src, o->src_key);
    }
    if (err == 0 && (o->src_len == 0 || o->src_offset > o->src_size ||
                     o->src_len > o->src_size - o->src_offset)) {
        err = be_fail(op, ERR_INVALID, "InvalidRange", "the range is not within the source");
    }
    return err < 0 ? err : check_size(op, o->src_len, l->max_part, "parts");
}

static int check_commit(struct be_op *op)
{
    struct be_commit *o = CONTAINER_OF(op, struct be_commit, op);
    int err = check_upload_id(op, o->upload_id);
    if (err == 0) {
        err = check_conditions(op, o->if_match, o->if_absent);
    }
    if (err == 0 && (o->n_parts == 0 || o->n_parts > op->be->limits.max_parts)) {
        err = be_fail(op, ERR_INVALID, "", "%zu parts, and %s takes 1 to %u", o->n_parts,
                      op->be->name, op->be->limits.max_parts);
    }
    for (size_t i = 1; i < o->n_parts && err == 0; i++) {
        if (o->parts[i - 1].number >= o->parts[i].number) {
            err = be_fail(op, ERR_INVALID, "InvalidPartOrder", "parts are not in rising order");
        }
    }
    return err;
}

int be_check_arguments(struct be_op *op)
{
    switch (op->kind) {
    case BE_READ: {
        struct be_read *o = CONTAINER_OF(op, struct be_read, op);
        return o->len > 0 && !o->buf ? be_fail(op, ERR_INVALID, "", "no memory to read into") : 0;
    }
    case BE_WRITE:
        return check_write(op);
    case BE_REMOVE:
        return check_conditions(op, CONTAINER_OF(op, struct be_remove, op)->if_match, false);
    case BE_LIST:
        return check_list(op);
    case BE_COPY:
        return check_copy(op);
    case BE_REMOVE_MANY:
        return check_many(op);
    case BE_MP_BEGIN:
        return check_meta(op, CONTAINER_OF(op, struct be_mp, op)->meta);
    case BE_MP_PART:
        return check_part(op);
    case BE_MP_COMMIT:
        return check_commit(op);
    case BE_MP_ABORT:
        return check_upload_id(op, CONTAINER_OF(op, struct be_mp, op)->upload_id);
    case BE_MP_PARTS:
        return check_upload_id(op, CONTAINER_OF(op, struct be_parts, op)->upload_id);
    case BE_MP_UPLOADS: {
        struct be_uploads *o = CONTAINER_OF(op, struct be_uploads, op);
        if (!o->prefix) {
            o->prefix = "";
        }
        return 0;
    }
    case BE_RESTORE:
        return CONTAINER_OF(op, const struct be_restore, op)->days > 0
                   ? 0
                   : be_fail(op, ERR_INVALID, "", "an object is restored for a day at least");
    case BE_STAT:
    case BE_KINDS:
        break;
    }
    return 0;
}
