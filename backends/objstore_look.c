/* Requests that look, before an operation's own or after them.
 *
 * Some servers copy parts without caring whether the source is still the version that is meant.
 * There a HEAD of the source comes before the copy, so that no wrong part is left in the upload,
 * and another after it: what the source is at both times it was while its bytes were read.
 *
 * Some stores copy some of what an object has and no more: there the dialect must know the source,
 * to tell which requests make the copy. One HEAD of it comes first.
 *
 * A commit that was answered with 5xx may have been one of an upload that is gone (Ceph says
 * InternalError then, Azure calls the list of parts invalid). Whether it is, its list of parts
 * tells.
 *
 * Other servers take whatever parts they have at a commit, or keep the first of two that were sent
 * under one number: there the list of parts says whether they are those that are meant. */
#include "objstore_run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "mem.h"

/* What a copy reads. */
struct copied {
    struct be *be;
    const char *key, *etag;
};

static struct copied copied_by(const struct be_op *op)
{
    if (op->kind == BE_COPY) {
        const struct be_copy *o = CONTAINER_OF(op, const struct be_copy, op);
        return (struct copied){o->src, o->src_key, o->src_etag};
    }
    const struct be_part *o = CONTAINER_OF(op, const struct be_part, op);
    return (struct copied){o->src, o->src_key, o->src_etag};
}

bool run_must_look(const struct run *r)
{
    const struct dialect_site *site = r->s->site;
    if (r->op->kind == BE_COPY && site->copy_needs_source) {
        return r->call.src;
    }
    if (!(r->op->kind == BE_MP_PART ? site->part_source_unchecked
                                    : r->op->kind == BE_COPY && site->copy_source_unchecked)) {
        return false;
    }
    const char *etag = copied_by(r->op).etag;
    return r->call.src && etag && etag[0] != '\0';
}

static void look_at(struct run *r, struct objstore *at, const char *key)
{
    r->site = at->site;
    r->target = &at->target;
    kv_fini(&r->source.meta);
    bool of_source = r->look != LOOK_MADE;
    r->source = (struct be_stat){
        .op = {.kind = BE_STAT, .key = key, .lane = r->op->lane, .deadline_ns = r->op->deadline_ns}};
    r->call = (struct dialect_call){
        .kind = BE_STAT, .op = &r->source.op, .src = r->call.src, .of_source = of_source};
    run_call_reset(r);
    run_again_now(r);
}

void run_look_at_source(struct run *r)
{
    struct copied c = copied_by(r->op);
    r->look = r->look == LOOK_NO ? LOOK_BEFORE : LOOK_AFTER;
    look_at(r, objstore_of(c.be), c.key);
}

/* The answer to some copies does not say what they made. */
bool run_must_look_at_made(const struct run *r)
{
    return r->op->kind == BE_COPY &&
           CONTAINER_OF(r->op, const struct be_copy, op)->object.etag[0] == '\0';
}

static bool onto_itself(const struct run *r)
{
    struct copied c = copied_by(r->op);
    return strcmp(c.key, r->op->key) == 0 &&
           strcmp(objstore_of(c.be)->site->identity, r->s->site->identity) == 0;
}

void run_look_at_made(struct run *r)
{
    r->look = LOOK_MADE;
    look_at(r, r->s, r->op->key);
}

/* What is there may be of somebody who wrote meanwhile. */
void run_looked_at_made(struct run *r)
{
    struct be_copy *o = CONTAINER_OF(r->op, struct be_copy, op);
    const struct be_object *made = &r->source.object;
    bool other = made->etag_is_md5 && r->copied.etag_is_md5 &&
                 strcasecmp(made->etag, r->copied.etag) != 0;
    if (made->size != o->size || other) {
        struct errinfo err = {.http_status = r->http.http_status};
        int rc = err_set(&err, ERR_PRECOND, -ESTALE, "the copy is another version already");
        err.outcome_unknown = true;
        run_fail(r, &err, rc);
        return;
    }
    o->object = *made;
    run_finish(r, 0);
}

void run_looked_at_source(struct run *r)
{
    const char *etag = copied_by(r->op).etag;
    r->copied = r->source.object;
    if (etag && etag[0] != '\0' && strcmp(r->source.object.etag, etag) != 0) {
        struct errinfo err = {.http_status = r->http.http_status};
        int rc = err_set(&err, ERR_PRECOND, -ESTALE,
                         "the source is another version than the one asked for");
        /* the target of a whole copy then is that other one */
        err.outcome_unknown = r->op->kind == BE_COPY && r->look == LOOK_AFTER;
        run_fail(r, &err, rc);
    } else if (r->look == LOOK_AFTER && run_must_look_at_made(r) && onto_itself(r)) {
        run_looked_at_made(r);
    } else if (r->look == LOOK_AFTER && run_must_look_at_made(r)) {
        run_look_at_made(r);
    } else if (r->look == LOOK_AFTER) {
        run_finish(r, 0);
    } else {
        /* where whole copies honour their condition the source is not looked at again */
        bool again = r->op->kind == BE_MP_PART || r->s->site->copy_source_unchecked;
        r->look = again ? LOOK_COPIED : LOOK_NO;
        r->site = r->s->site;
        r->target = &r->s->target;
        r->call = (struct dialect_call){
            .kind = r->op->kind, .op = r->op, .src = r->call.src, .source = &r->source};
        run_call_reset(r);
        run_again_now(r);
    }
}

bool run_must_look_at_upload(const struct run *r, const struct errinfo *err)
{
    if (r->call.kind != BE_MP_COMMIT || r->http.status != 0) {
        return false;
    }
    return (r->http.http_status >= 500 && err->cls == ERR_TRANSIENT) ||
           (r->s->site->gone_upload_is_invalid && err->cls == ERR_INVALID);
}

/* Of a commit's or a part's upload. */
static void ask_for_parts(struct run *r, enum run_look look)
{
    r->look = look;
    r->upload = (struct be_parts){
        .op = {.kind = BE_MP_PARTS, .key = r->op->key, .lane = r->op->lane},
        .upload_id = r->op->kind == BE_MP_COMMIT
                         ? CONTAINER_OF(r->op, const struct be_commit, op)->upload_id
                         : CONTAINER_OF(r->op, const struct be_part, op)->upload_id};
    r->call = (struct dialect_call){.kind = BE_MP_PARTS, .op = &r->upload.op};
    run_call_reset(r);
    run_again_now(r);
}

/* The commit's own failure waits in op->err. */
void run_look_at_upload(struct run *r)
{
    r->op->err = r->fold;
    ask_for_parts(r, LOOK_UPLOAD);
}

void run_looked_at_upload(struct run *r, enum err_class found)
{
    struct errinfo err = r->op->err;
    if (found == ERR_ABSENT) {
        err_set(&err, ERR_ABSENT, 0, "the upload is gone");
    }
    /* gone may mean committed; and what could not be looked at may be gone */
    err.outcome_unknown = err.outcome_unknown || found != ERR_NONE;
    run_fail(r, &err, err_to_errno(&err));
}

/* The operation's own failure, if it has one, waits in op->err. */
void run_look_at_parts(struct run *r)
{
    ask_for_parts(r, r->op->kind == BE_MP_COMMIT ? LOOK_PARTS : LOOK_PART);
}

void run_looked_at_parts(struct run *r)
{
    const struct be_commit *o = CONTAINER_OF(r->op, const struct be_commit, op);
    struct errinfo err = {0};
    bool same = r->n_parts == o->n_parts;
    for (size_t i = 0; i < o->n_parts && same; i++) {
        same = r->parts[i].number == o->parts[i].number && r->parts[i].size == o->parts[i].size &&
               strcmp(r->parts[i].etag, o->parts[i].etag) == 0;
    }
    if (!same) {
        int rc = err_set(&err, ERR_INVALID, -EINVAL,
                         "the upload's parts are others than those it is to be made of");
        run_fail(r, &err, rc);
        return;
    }
    r->look = LOOK_NO;
    r->call = (struct dialect_call){.kind = BE_MP_COMMIT, .op = r->op};
    run_call_reset(r);
    run_again_now(r);
}

/* A part was refused because there is one of its number. It is this one if an earlier attempt got
 * no answer; else only a new upload can take the other bytes. */
void run_looked_at_part(struct run *r)
{
    struct be_part *o = CONTAINER_OF(r->op, struct be_part, op);
    struct errinfo err = r->op->err;
    uint8_t md5[DIGEST_MD5_LEN];
    char hex[2 * DIGEST_MD5_LEN + 1];
    digest_md5(o->data, o->len, md5);
    hex_encode(md5, sizeof(md5), hex);
    for (size_t i = 0; i < r->n_parts; i++) {
        const struct be_part_id *p = &r->parts[i];
        if (p->number == o->number && p->size == o->len && strcasecmp(p->etag, hex) == 0) {
            err_clear(&r->op->err);
            o->object = (struct be_object){.size = p->size, .etag_is_md5 = true};
            memcpy(o->object.etag, p->etag, sizeof(p->etag));
            run_finish(r, 0);
            return;
        }
    }
    snprintf(err.code, sizeof(err.code), "NoSuchUpload");
    int rc = err_set(&err, ERR_ABSENT, 0, "the upload has other bytes as its part %u for good",
                     o->number);
    run_fail(r, &err, rc);
}
