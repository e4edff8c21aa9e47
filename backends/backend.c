/* The checked front of every backend: registry, argument and completion checks, counting of what is
 * in flight, waiting.
 *
 * A driver is reached only through here. Before it sees an operation, its arguments fit the
 * contract and the driver's own limits; what does not is completed like any failure, on a worker.
 * When a driver completes, its result is checked too: a failure without class or a success without
 * outputs becomes ERR_BUG, outputs of a failure are dropped, and completing twice ends the process,
 * for then someone's memory is already lost.
 *
 * Locks: only the gate's (RANK_ENGINE), held for a few instructions and never across a call into a
 * driver or done(). */
#include "backend.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_check.h"
#include "driver.h"
#include "log.h"
#include "mem.h"
#include "sync.h"

static const struct be_ops *const registry[] = {
    &be_cos_ops,
    &be_ks3_ops,
    &be_http_ops,
    &be_azure_ops,
    &be_bos_ops,
    &be_gcs_ops,
    &be_upyun_ops,
    &be_local_ops,
    &be_memory_ops,
    &be_oss_ops,
    &be_qiniu_ops,
    &be_s3_ops,
};

static const struct {
    const char *name;
    uint32_t cap; /* that the call needs */
} kinds[BE_KINDS] = {
    [BE_STAT] = {"stat", 0},
    [BE_READ] = {"read", 0},
    [BE_WRITE] = {"write", 0},
    [BE_REMOVE] = {"remove", 0},
    [BE_LIST] = {"list", 0},
    [BE_COPY] = {"copy", BE_CAP_COPY},
    [BE_REMOVE_MANY] = {"remove_many", BE_CAP_REMOVE_MANY},
    [BE_MP_BEGIN] = {"mp_begin", BE_CAP_MULTIPART},
    [BE_MP_PART] = {"mp_part", BE_CAP_MULTIPART},
    [BE_MP_COMMIT] = {"mp_commit", BE_CAP_MULTIPART},
    [BE_MP_ABORT] = {"mp_abort", BE_CAP_MULTIPART},
    [BE_MP_PARTS] = {"mp_parts", BE_CAP_MULTIPART},
    [BE_MP_UPLOADS] = {"mp_uploads", BE_CAP_MULTIPART},
    [BE_RESTORE] = {"restore", BE_CAP_RESTORE},
};

#define BE_CAPS_OF_CHANGES                                                                         \
    (BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT | BE_CAP_MULTIPART | BE_CAP_COPY | BE_CAP_REMOVE_MANY)

bool be_kind_changes(enum be_kind kind)
{
    switch (kind) {
    case BE_STAT:
    case BE_READ:
    case BE_LIST:
    case BE_MP_PARTS:
    case BE_MP_UPLOADS:
        return false;
    default:
        return true;
    }
}

/* Lets be_close wait. An operation that reads another backend is counted at both. */
struct be_gate {
    struct mutex lock;
    struct cond empty;
    unsigned in_flight; /* lock */
    bool closing;       /* lock */
};

static struct be_gate *gate_new(void)
{
    struct be_gate *g = mem_zalloc(sizeof(*g));
    mutex_init(&g->lock, RANK_ENGINE);
    cond_init(&g->empty);
    return g;
}

static void gate_free(struct be_gate *g)
{
    if (g) {
        cond_fini(&g->empty);
        mutex_fini(&g->lock);
        free(g);
    }
}

/* False when the backend is being closed; counted all the same. */
static bool gate_enter(struct be_gate *g)
{
    mutex_lock(&g->lock);
    g->in_flight++;
    bool open = !g->closing;
    mutex_unlock(&g->lock);
    return open;
}

/* The gate may be gone after this. */
static void gate_leave(struct be_gate *g)
{
    mutex_lock(&g->lock);
    ENSURE(g->in_flight > 0);
    if (--g->in_flight == 0) {
        cond_broadcast(&g->empty);
    }
    mutex_unlock(&g->lock);
}

/* --- opening and closing --- */

/* Why the table is not a driver, or NULL. */
static const char *ops_fault(const struct be_ops *ops)
{
    if (ops->size != sizeof(*ops)) {
        return "was built against another contract";
    }
    if (!ops->scheme || !ops->close || !ops->describe || !ops->identity || !ops->stat ||
        !ops->read || !ops->write || !ops->remove || !ops->list) {
        return "lacks a required function";
    }
    return NULL;
}

/* Why what describe() said does not fit the table or itself, or NULL. */
static const char *description_fault(const struct be *be)
{
    const struct be_ops *ops = be->ops;
    const struct be_limits *l = &be->limits;
    if ((be->caps & BE_CAP_COPY) && !ops->copy) {
        return "claims copy without having it";
    }
    if ((be->caps & BE_CAP_REMOVE_MANY) && (!ops->remove_many || l->batch == 0)) {
        return "claims remove_many without having it, or without a batch size";
    }
    if ((be->caps & BE_CAP_MULTIPART) &&
        (!ops->mp_begin || !ops->mp_part || !ops->mp_commit || !ops->mp_abort || !ops->mp_parts ||
         !ops->mp_uploads || l->max_parts == 0)) {
        return "claims multipart without all of it, or without a number of parts";
    }
    if ((be->caps & (BE_CAP_PART_COPY | BE_CAP_MP_ETAG_MD5S)) && !(be->caps & BE_CAP_MULTIPART)) {
        return "claims kinds of parts without multipart";
    }
    if ((be->caps & BE_CAP_READ_ONLY) && (be->caps & BE_CAPS_OF_CHANGES)) {
        return "claims to be read only, and kinds of changes";
    }
    if ((be->caps & BE_CAP_BARE_DIRS) && !(be->caps & BE_CAP_REAL_DIRS)) {
        return "claims a kind of directories without having any";
    }
    if (l->max_key == 0 || l->list_page == 0) {
        return "does not say how long a key or a page may be";
    }
    if ((l->max_part > 0 && l->min_part > l->max_part) ||
        (l->max_object > 0 && l->max_put > l->max_object) ||
        (l->part_unit > 0 && (l->min_part == 0 || l->min_part % l->part_unit != 0))) {
        return "has limits that contradict each other";
    }
    return NULL;
}

int be_init(struct be *be, const struct be_ops *ops, const struct be_env *env, const char *name,
            struct errinfo *reterr)
{
    be->magic = BE_MAGIC;
    be->ops = ops;
    be->env = *env;
    be->gate = gate_new();
    be->name = mem_strdup(name);
    be->caps = 0;
    be->limits = (struct be_limits){0};
    ops->describe(be, &be->caps, &be->limits);
    const char *fault = description_fault(be);
    if (fault) {
        return err_set(reterr, ERR_BUG, -EINVAL, "[%s] the %s driver %s", name, ops->scheme, fault);
    }
    return 0;
}

int be_open(const struct conf_remote *conf, const struct be_env *env, struct be **ret_be,
            struct errinfo *reterr)
{
    const struct be_ops *ops = NULL;
    for (size_t i = 0; i < ARRAY_LEN(registry) && !ops; i++) {
        if (strcmp(registry[i]->scheme, conf->provider) == 0) {
            ops = registry[i];
        }
    }
    if (!ops) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] provider: no provider is named '%s'",
                       conf->name, conf->provider);
    }
    const char *fault = ops_fault(ops);
    if (fault || !ops->open) {
        return err_set(reterr, ERR_BUG, -EINVAL, "[%s] the %s driver %s", conf->name, ops->scheme,
                       fault ? fault : "cannot be opened");
    }
    struct be *be = NULL;
    int err = ops->open(&be, conf, env, reterr);
    if (err < 0) {
        return err;
    }
    err = be_init(be, ops, env, conf->name, reterr);
    be->probe_prefix = mem_strdup(conf->prefix ? conf->prefix : "");
    if (err < 0) {
        be_close(be);
        return err;
    }
    *ret_be = be;
    return 0;
}

void be_close(struct be *be)
{
    if (!be) {
        return;
    }
    CHECK_MAGIC(be, BE_MAGIC);
    struct be_gate *gate = be->gate;
    mutex_lock(&gate->lock);
    ENSURE(!gate->closing);
    gate->closing = true;
    while (gate->in_flight > 0) {
        cond_wait(&gate->empty, &gate->lock);
    }
    mutex_unlock(&gate->lock);

    char *name = be->name;
    free(be->probe_prefix);
    be->magic = 0;
    be->ops->close(be);
    free(name);
    gate_free(gate);
}

const char *be_identity(const struct be *be)
{
    CHECK_MAGIC(be, BE_MAGIC);
    return be->ops->identity(be);
}

bool be_can_copy(const struct be *dst, const struct be *src)
{
    CHECK_MAGIC(dst, BE_MAGIC);
    CHECK_MAGIC(src, BE_MAGIC);
    if (!(dst->caps & BE_CAP_COPY)) {
        return false;
    }
    return dst == src || (dst->ops->can_copy && dst->ops->can_copy(dst, src));
}

int be_renew(struct be *be, const struct conf_remote *conf, struct errinfo *reterr)
{
    CHECK_MAGIC(be, BE_MAGIC);
    return be->ops->renew ? be->ops->renew(be, conf, reterr) : 0;
}

/* --- the operation's life --- */

/* The other backend an operation reads, or NULL. */
static struct be *source_of(const struct be_op *op)
{
    struct be *src = NULL;
    if (op->kind == BE_COPY) {
        src = CONTAINER_OF(op, const struct be_copy, op)->src;
    } else if (op->kind == BE_MP_PART) {
        src = CONTAINER_OF(op, const struct be_part, op)->src;
    }
    return src != op->be ? src : NULL;
}

static void list_drop(struct be_list *l)
{
    for (size_t i = 0; i < l->n_entries; i++) {
        free(l->entries[i].key);
        if (l->entries[i].posix) {
            kv_fini(l->entries[i].posix);
            free(l->entries[i].posix);
        }
    }
    free(l->entries);
    free(l->next_cursor);
    l->entries = NULL;
    l->n_entries = 0;
    l->next_cursor = NULL;
}

static void uploads_drop(struct be_uploads *u)
{
    for (size_t i = 0; i < u->n_uploads; i++) {
        free(u->uploads[i].key);
        free(u->uploads[i].upload_id);
    }
    free(u->uploads);
    u->uploads = NULL;
    u->n_uploads = 0;
}

/* Forgets all outputs of an operation; `drop` also frees them. */
static void reset_outputs(struct be_op *op, bool drop)
{
    switch (op->kind) {
    case BE_STAT: {
        struct be_stat *o = CONTAINER_OF(op, struct be_stat, op);
        if (drop) {
            kv_fini(&o->meta);
        }
        o->object = (struct be_object){0};
        o->meta = (struct kvlist){0};
        break;
    }
    case BE_READ: {
        struct be_read *o = CONTAINER_OF(op, struct be_read, op);
        if (drop) {
            kv_fini(&o->meta);
        }
        o->object = (struct be_object){0};
        o->meta = (struct kvlist){0};
        o->got = 0;
        break;
    }
    case BE_WRITE:
        CONTAINER_OF(op, struct be_write, op)->object = (struct be_object){0};
        break;
    case BE_LIST: {
        struct be_list *o = CONTAINER_OF(op, struct be_list, op);
        if (drop) {
            list_drop(o);
        }
        o->entries = NULL;
        o->n_entries = 0;
        o->next_cursor = NULL;
        o->server_date_ns = 0;
        break;
    }
    case BE_COPY:
        CONTAINER_OF(op, struct be_copy, op)->object = (struct be_object){0};
        break;
    case BE_REMOVE_MANY: {
        struct be_many *o = CONTAINER_OF(op, struct be_many, op);
        if (drop) {
            free(o->errs);
        }
        o->errs = NULL;
        break;
    }
    case BE_MP_BEGIN: {
        struct be_mp *o = CONTAINER_OF(op, struct be_mp, op);
        if (drop) {
            free(o->upload_id);
        }
        o->upload_id = NULL;
        break;
    }
    case BE_MP_PART:
        CONTAINER_OF(op, struct be_part, op)->object = (struct be_object){0};
        break;
    case BE_MP_COMMIT:
        CONTAINER_OF(op, struct be_commit, op)->object = (struct be_object){0};
        break;
    case BE_MP_PARTS: {
        struct be_parts *o = CONTAINER_OF(op, struct be_parts, op);
        if (drop) {
            free(o->parts);
        }
        o->parts = NULL;
        o->n_parts = 0;
        break;
    }
    case BE_MP_UPLOADS: {
        struct be_uploads *o = CONTAINER_OF(op, struct be_uploads, op);
        if (drop) {
            uploads_drop(o);
        }
        o->uploads = NULL;
        o->n_uploads = 0;
        break;
    }
    case BE_RESTORE:
        CONTAINER_OF(op, struct be_restore, op)->state = BE_RESTORE_BEGUN;
        break;
    case BE_REMOVE:
    case BE_MP_ABORT:
    case BE_KINDS:
        break;
    }
}

/* What a list page promises: below the prefix, strictly rising, prefixes end in the delimiter. */
static const char *list_fault(const struct be_list *l)
{
    size_t prefix_len = strlen(l->prefix);
    for (size_t i = 0; i < l->n_entries; i++) {
        const struct be_entry *e = &l->entries[i];
        if (!e->key || strncmp(e->key, l->prefix, prefix_len) != 0) {
            return "listed a key that does not begin with the prefix";
        }
        size_t len = strlen(e->key);
        if (e->is_prefix &&
            (l->delimiter == 0 || len <= prefix_len || e->key[len - 1] != l->delimiter)) {
            return "listed a common prefix that does not end in the delimiter";
        }
        if (i > 0 && strcmp(l->entries[i - 1].key, e->key) >= 0) {
            return "listed keys out of order";
        }
    }
    if (l->n_entries > 0 && !l->entries) {
        return "lost the entries of a list";
    }
    return NULL;
}

/* What is missing from a success, or NULL. */
static const char *success_fault(const struct be_op *op)
{
    switch (op->kind) {
    case BE_READ: {
        const struct be_read *o = CONTAINER_OF(op, const struct be_read, op);
        uint64_t left = o->offset < o->object.size ? o->object.size - o->offset : 0;
        return o->got == MIN((uint64_t)o->len, left) ? NULL : "answered with another length";
    }
    case BE_WRITE: {
        const struct be_write *o = CONTAINER_OF(op, const struct be_write, op);
        return o->object.size == o->len ? NULL : "did not report the size it wrote";
    }
    case BE_LIST:
        return list_fault(CONTAINER_OF(op, const struct be_list, op));
    case BE_REMOVE_MANY: {
        const struct be_many *o = CONTAINER_OF(op, const struct be_many, op);
        return o->errs ? NULL : "did not report each key";
    }
    case BE_MP_BEGIN: {
        const struct be_mp *o = CONTAINER_OF(op, const struct be_mp, op);
        return o->upload_id && o->upload_id[0] != '\0' ? NULL : "gave no upload id";
    }
    case BE_MP_PART: {
        const struct be_part *o = CONTAINER_OF(op, const struct be_part, op);
        return o->object.etag[0] != '\0' ? NULL : "gave no etag of a part";
    }
    case BE_MP_PARTS: {
        const struct be_parts *o = CONTAINER_OF(op, const struct be_parts, op);
        for (size_t i = 1; i < o->n_parts; i++) {
            if (o->parts[i - 1].number >= o->parts[i].number) {
                return "listed parts out of order";
            }
        }
        return NULL;
    }
    default:
        return NULL;
    }
}

void be_complete(struct be_op *op, int status)
{
    ENSURE(op->live > 0); /* else: completed twice, or never begun */
    struct be *be = op->be;
    CHECK_MAGIC(be, BE_MAGIC);
    const char *fault = NULL;
    if (status == 0) {
        fault = success_fault(op);
        op->err.cls = ERR_NONE;
        op->err.outcome_unknown = false;
        if (fault) {
            /* The call was made; what it did is as uncertain as its answer. */
            op->err.outcome_unknown = op->kind == BE_WRITE || op->kind == BE_MP_PART;
            status = err_set(&op->err, ERR_BUG, -EIO, "%s: the %s driver %s", be->name,
                             be->ops->scheme, fault);
        }
    } else if (status > 0 || op->err.cls == ERR_NONE) {
        int err = status < 0 ? status : -EIO;
        status =
            err_set(&op->err, ERR_BUG, err, "%s: the %s driver failed %s with %d and no reason",
                    be->name, be->ops->scheme, kinds[op->kind].name, status);
    }
    if (status != 0) {
        reset_outputs(op, true);
    }
    op->status = status;
    if (--op->live == 0) {
        __atomic_store_n(&op->canceled, false, __ATOMIC_RELAXED); /* for its next call */
    }
    struct be_gate *gate = be->gate;
    struct be *src = source_of(op);
    struct be_gate *src_gate = src ? src->gate : NULL;
    op->done(op); /* op may be gone from here on */
    gate_leave(gate);
    if (src_gate) {
        gate_leave(src_gate);
    }
}

struct job {
    struct work work;
    struct be_op *op;
    int (*run)(struct be_op *op);
};

static void job_run(struct work *w)
{
    struct job *j = CONTAINER_OF(w, struct job, work);
    struct be_op *op = j->op;
    int (*run)(struct be_op *) = j->run;
    free(j);
    be_complete(op, run(op));
}

void be_job_submit(struct be_op *op, int (*run)(struct be_op *op))
{
    struct job *j = mem_zalloc(sizeof(*j));
    j->work.run = job_run;
    j->op = op;
    j->run = run;
    pool_submit(op->be->env.workers, &j->work);
}

int be_op_check(struct be_op *op)
{
    if (__atomic_load_n(&op->canceled, __ATOMIC_ACQUIRE)) {
        return be_fail(op, ERR_CANCELED, "", "canceled");
    }
    if (op->deadline_ns > 0 && time_mono_ns() >= op->deadline_ns) {
        return err_set(&op->err, ERR_TRANSIENT, -ETIMEDOUT, "the time for this operation is over");
    }
    return 0;
}

static void set_code(struct errinfo *e, const char *code)
{
    (void)snprintf(e->code, sizeof(e->code), "%s", code);
}

static int set_text(struct be_op *op, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static int set_text(struct be_op *op, const char *fmt, va_list ap)
{
    (void)vsnprintf(op->err.message, sizeof(op->err.message), fmt, ap);
    return err_to_errno(&op->err);
}

int be_fail(struct be_op *op, enum err_class cls, const char *code, const char *fmt, ...)
{
    set_code(&op->err, code);
    op->err.cls = cls;
    va_list ap;
    va_start(ap, fmt);
    int status = set_text(op, fmt, ap);
    va_end(ap);
    return status;
}

int be_fail_errno(struct be_op *op, int errno_value, const char *fmt, ...)
{
    static const struct {
        int err;
        enum err_class cls;
    } map[] = {
        {ENOENT, ERR_ABSENT},      {EACCES, ERR_AUTH},    {EPERM, ERR_AUTH},
        {EROFS, ERR_AUTH},         {ENOSPC, ERR_QUOTA},   {EDQUOT, ERR_QUOTA},
        {EFBIG, ERR_QUOTA},        {EINVAL, ERR_INVALID}, {ENAMETOOLONG, ERR_INVALID},
        {EOPNOTSUPP, ERR_INVALID}, {ELOOP, ERR_INVALID},
    };
    op->err.cls = ERR_LOCAL;
    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (map[i].err == errno_value) {
            op->err.cls = map[i].cls;
        }
    }
    va_list ap;
    va_start(ap, fmt);
    (void)set_text(op, fmt, ap);
    va_end(ap);
    char why[128];
    size_t len = strlen(op->err.message);
    (void)snprintf(op->err.message + len, sizeof(op->err.message) - len, ": %s",
                   strerror_r(errno_value, why, sizeof(why)));
    return err_to_errno(&op->err);
}

const char *be_key_text(const char *key, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = '\0';
    for (const char *p = key ? key : ""; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = c >= 0x20 && c != 0x7f && c != '\'' && c != '\\';
        if (at + 4 + 4 > size) { /* one escape, and "..." with its NUL */
            (void)snprintf(buf + at, size - at, "...");
            break;
        }
        at += (size_t)snprintf(buf + at, size - at, plain ? "%c" : "\\x%02x", c);
    }
    return buf;
}

/* --- taking an operation in --- */

static int run_rejected(struct be_op *op)
{
    return op->status;
}

/* For a call that must not reach the driver: it completes with err, which op->err explains. */
static void reject(struct be_op *op, int err)
{
    op->status = err;
    be_job_submit(op, run_rejected);
}

/* Takes the operation in. True when the driver may have it; else it is on its way to a failure. */
static bool begin(struct be *be, struct be_op *op, enum be_kind kind)
{
    CHECK_MAGIC(be, BE_MAGIC);
    ENSURE(op->done);
    if (op->live == 0) {
        op->stray = false;
    } else {
        ENSURE(op->kind == kind &&
               op->be != be); /* handed on by a wrapper, which completes it again */
    }
    op->live++;
    op->kind = kind;
    op->status = 0;
    op->driver_priv = NULL;
    err_clear(&op->err);
    __atomic_store_n(&op->be, be,
                     __ATOMIC_RELEASE); /* be_cancel may look at a wrapped one any time */
    reset_outputs(op, false);

    bool open = gate_enter(be->gate);
    struct be *src = source_of(op);
    if (src) {
        CHECK_MAGIC(src, BE_MAGIC);
        open = gate_enter(src->gate) && open;
    }
    int err = 0;
    if (!open) {
        err = be_fail(op, ERR_CANCELED, "", "%s is being closed", be->name);
    }
    if (err == 0 && (be->caps & BE_CAP_READ_ONLY) && be_kind_changes(kind)) {
        err = err_set(&op->err, ERR_INVALID, -EROFS, "%s can only be read", be->name);
    }
    if (err == 0) {
        err = be_check_need(op, kinds[kind].cap, kinds[kind].name);
    }
    bool keyed = kind != BE_LIST && kind != BE_REMOVE_MANY && (kind != BE_MP_UPLOADS || op->key);
    if (err == 0 && keyed) {
        bool stores = kind == BE_WRITE || kind == BE_COPY || kind == BE_MP_BEGIN;
        err = stores && op->key ? be_key_check(be, op->key, &op->err) : be_check_op_key(op, op->key);
    }
    if (err == 0) {
        err = be_check_arguments(op);
    }
    if (err == 0 && __atomic_load_n(&op->canceled, __ATOMIC_ACQUIRE)) {
        err = be_fail(op, ERR_CANCELED, "", "canceled");
    }
    if (err < 0) {
        reject(op, err);
        return false;
    }
    return true;
}

/* --- the calls --- */

#define DEFINE_CALL(name, type, kind)                                                              \
    void be_##name(struct be *be, struct type *op)                                                 \
    {                                                                                              \
        if (begin(be, &op->op, kind)) {                                                            \
            be->ops->name(be, op);                                                                 \
        }                                                                                          \
    }

DEFINE_CALL(stat, be_stat, BE_STAT)
DEFINE_CALL(read, be_read, BE_READ)
DEFINE_CALL(write, be_write, BE_WRITE)
DEFINE_CALL(remove, be_remove, BE_REMOVE)
DEFINE_CALL(list, be_list, BE_LIST)
DEFINE_CALL(copy, be_copy, BE_COPY)
DEFINE_CALL(remove_many, be_many, BE_REMOVE_MANY)
DEFINE_CALL(mp_begin, be_mp, BE_MP_BEGIN)
DEFINE_CALL(mp_part, be_part, BE_MP_PART)
DEFINE_CALL(mp_commit, be_commit, BE_MP_COMMIT)
DEFINE_CALL(mp_abort, be_mp, BE_MP_ABORT)
DEFINE_CALL(mp_parts, be_parts, BE_MP_PARTS)
DEFINE_CALL(mp_uploads, be_uploads, BE_MP_UPLOADS)
DEFINE_CALL(restore, be_restore, BE_RESTORE)

bool be_archived(const struct be *be, const char *storage_class)
{
    return (be->caps & BE_CAP_RESTORE) && be->ops->archived(be, storage_class);
}

void be_cancel(struct be_op *op)
{
    __atomic_store_n(&op->canceled, true, __ATOMIC_RELEASE);
    struct be *be = __atomic_load_n(&op->be, __ATOMIC_ACQUIRE);
    if (be && be->ops->cancel) {
        be->ops->cancel(be, op);
    }
}

void be_stat_fini(struct be_stat *op)
{
    kv_fini(&op->meta);
}

void be_read_fini(struct be_read *op)
{
    kv_fini(&op->meta);
}

void be_list_fini(struct be_list *op)
{
    list_drop(op);
}

void be_uploads_fini(struct be_uploads *op)
{
    uploads_drop(op);
}
