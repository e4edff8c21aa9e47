/* A wrapper that makes a backend fail: the N-th call of a kind, once or for ever, before or after
 * it was really made, late. Counted, never random, so that a failure replays.
 *
 * An operation goes through under its own memory: the wrapper puts its own done in, hands it to the
 * inner backend, and gives it back as it was. What must wait does so in a list that one thread
 * serves. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend.h"
#include "driver.h"
#include "mem.h"
#include "sync.h"

#define FAULT_MAGIC 0xfa017u
#define HELD INT64_MAX /* due when it is let go */

struct rule {
    struct be_fault_rule r;
    unsigned skipped, failed;
};

/* One operation on its way through; op->owner while it is. */
struct passage {
    unsigned magic;
    struct fault_be *f;
    void (*done)(struct be_op *op);
    void *owner;
    struct be *src; /* as the caller gave it */
    struct be_op *op;
    struct work work;
    struct passage *next; /* lock: in the late list */
    int64_t due_ns;
    bool hit, after; /* fails: before or after the call */
    bool stray;
    int status;
    enum err_class cls;
    const char *code;
    int http_status;
};

struct fault_be {
    struct be be;
    struct be *inner;
    struct mutex lock; /* RANK_STORE; all below */
    struct cond wake;
    struct rule *rules;
    size_t n_rules;
    struct be_fault_seen seen[BE_KINDS];
    struct passage *late; /* by due_ns */
    bool stop;
    pthread_t timer;
};

static const struct be_ops fault_ops;

static struct fault_be *fault_of(const struct be *be)
{
    ENSURE(be->ops == &fault_ops);
    return CONTAINER_OF(be, struct fault_be, be);
}

static struct be *unwrap(struct be *be)
{
    return be && be->ops == &fault_ops ? fault_of(be)->inner : be;
}

/* --- an operation's way --- */

static struct be **src_of(struct be_op *op)
{
    if (op->kind == BE_COPY) {
        return &CONTAINER_OF(op, struct be_copy, op)->src;
    }
    return op->kind == BE_MP_PART ? &CONTAINER_OF(op, struct be_part, op)->src : NULL;
}

/* The gate which be_complete leaves after this keeps f. */
static void back_at_caller(struct be_op *op)
{
    struct passage *p = op->owner;
    struct fault_be *f = p->f;
    enum be_kind kind = op->kind;
    op->done = p->done;
    op->owner = p->owner;
    free(p);
    op->done(op); /* op may be gone from here on */
    mutex_lock(&f->lock);
    f->seen[kind].ended++;
    mutex_unlock(&f->lock);
}

/* Gives the operation back to its caller. */
static void leave(struct passage *p, int status)
{
    struct be_op *op = p->op;
    op->done = back_at_caller;
    op->owner = p;
    struct be **src = src_of(op);
    if (src) {
        *src = p->src;
    }
    __atomic_store_n(&op->be, &p->f->be, __ATOMIC_RELEASE);
    mutex_lock(&p->f->lock);
    p->f->seen[op->kind].ended_ns = time_mono_ns();
    mutex_unlock(&p->f->lock);
    be_complete(op, status);
}

static bool changes_something(enum be_kind kind)
{
    return kind == BE_WRITE || kind == BE_REMOVE || kind == BE_COPY || kind == BE_REMOVE_MANY ||
           kind == BE_MP_BEGIN || kind == BE_MP_PART || kind == BE_MP_COMMIT || kind == BE_MP_ABORT ||
           kind == BE_RESTORE;
}

static int inject(struct passage *p)
{
    struct be_op *op = p->op;
    bool unknown = op->err.outcome_unknown || (p->after && changes_something(op->kind));
    err_clear(&op->err);
    op->err.outcome_unknown = unknown;
    op->err.http_status = p->http_status;
    (void)snprintf(op->err.code, sizeof(op->err.code), "%s", p->code ? p->code : "InjectedFault");
    return err_set(&op->err, p->cls, p->status, "a fault was injected %s the call",
                   p->after ? "after" : "before");
}

static void inner_done(struct be_op *op)
{
    struct passage *p = op->owner;
    CHECK_MAGIC(p, FAULT_MAGIC);
    op->stray = op->stray || p->stray;
    leave(p, p->hit && p->after ? inject(p) : op->status);
}

#define CALL(kind, type, name)                                                                     \
    case kind:                                                                                     \
        be_##name(inner, CONTAINER_OF(op, struct type, op));                                       \
        break

static void forward(struct be *inner, struct be_op *op)
{
    switch (op->kind) {
        CALL(BE_STAT, be_stat, stat);
        CALL(BE_READ, be_read, read);
        CALL(BE_WRITE, be_write, write);
        CALL(BE_REMOVE, be_remove, remove);
        CALL(BE_LIST, be_list, list);
        CALL(BE_COPY, be_copy, copy);
        CALL(BE_REMOVE_MANY, be_many, remove_many);
        CALL(BE_MP_BEGIN, be_mp, mp_begin);
        CALL(BE_MP_PART, be_part, mp_part);
        CALL(BE_MP_COMMIT, be_commit, mp_commit);
        CALL(BE_MP_ABORT, be_mp, mp_abort);
        CALL(BE_MP_PARTS, be_parts, mp_parts);
        CALL(BE_MP_UPLOADS, be_uploads, mp_uploads);
        CALL(BE_RESTORE, be_restore, restore);
    case BE_KINDS:
        ENSURE(!"a kind");
    }
}

static void run_passage(struct work *w)
{
    struct passage *p = CONTAINER_OF(w, struct passage, work);
    struct be_op *op = p->op;
    if (p->hit && !p->after) {
        leave(p, inject(p));
        return;
    }
    int err = be_op_check(op);
    if (err < 0) {
        leave(p, err);
        return;
    }
    p->done = op->done;
    p->owner = op->owner;
    struct be **src = src_of(op);
    p->src = src ? *src : NULL;
    if (src) {
        *src = unwrap(*src);
    }
    op->done = inner_done;
    op->owner = p;
    forward(p->f->inner, op);
}

static void *timer_main(void *arg)
{
    struct fault_be *f = arg;
    mutex_lock(&f->lock);
    while (!f->stop) {
        struct passage *p = f->late;
        if (p && p->due_ns <= time_mono_ns()) {
            f->late = p->next;
            mutex_unlock(&f->lock);
            pool_submit(f->be.env.workers, &p->work);
            mutex_lock(&f->lock);
        } else if (p && p->due_ns != HELD) {
            (void)cond_wait_until(&f->wake, &f->lock, p->due_ns);
        } else {
            cond_wait(&f->wake, &f->lock);
        }
    }
    mutex_unlock(&f->lock);
    return NULL;
}

static void insert_late_locked(struct fault_be *f, struct passage *p)
{
    struct passage **link = &f->late;
    while (*link && (*link)->due_ns <= p->due_ns) {
        link = &(*link)->next;
    }
    p->next = *link;
    *link = p;
    cond_signal(&f->wake);
}

/* Counts the call and finds the first rule that it meets. *ret_due_ns: 0 is at once. */
static void meet_rules_locked(struct fault_be *f, struct passage *p, int64_t *ret_due_ns)
{
    enum be_kind kind = p->op->kind;
    int64_t now = time_mono_ns();
    f->seen[kind].calls++;
    f->seen[kind].began_ns = now;
    for (size_t i = 0; i < f->n_rules; i++) {
        struct rule *r = &f->rules[i];
        if (r->r.kind != kind && r->r.kind != BE_KINDS) {
            continue;
        }
        if (r->skipped < r->r.skip) {
            r->skipped++;
            continue;
        }
        if (r->r.times > 0 && r->failed == r->r.times) {
            continue;
        }
        r->failed++;
        p->hit = r->r.status != 0; /* else it is only late */
        p->after = r->r.after;
        p->stray = r->r.stray;
        p->status = r->r.status;
        p->code = r->r.code;
        p->http_status = r->r.http_status;
        p->cls = r->r.cls != ERR_NONE ? r->r.cls : ERR_TRANSIENT;
        *ret_due_ns = r->r.hold          ? HELD
                      : r->r.delay_ms > 0 ? now + (int64_t)r->r.delay_ms * 1000000
                                          : 0;
        return;
    }
}

static void pass(struct be *be, struct be_op *op)
{
    struct fault_be *f = fault_of(be);
    struct passage *p = mem_zalloc(sizeof(*p));
    p->magic = FAULT_MAGIC;
    p->f = f;
    p->op = op;
    p->done = op->done;
    p->owner = op->owner;
    struct be **src = src_of(op);
    p->src = src ? *src : NULL;
    p->work.run = run_passage;
    mutex_lock(&f->lock);
    meet_rules_locked(f, p, &p->due_ns);
    bool at_once = p->due_ns == 0;
    if (!at_once) {
        insert_late_locked(f, p);
    }
    mutex_unlock(&f->lock);
    if (at_once) {
        pool_submit(f->be.env.workers, &p->work);
    }
}

/* --- the backend --- */

static void fault_close(struct be *be)
{
    struct fault_be *f = fault_of(be);
    mutex_lock(&f->lock);
    f->stop = true;
    cond_signal(&f->wake);
    mutex_unlock(&f->lock);
    ENSURE(pthread_join(f->timer, NULL) == 0);
    ENSURE(!f->late);
    be_close(f->inner);
    cond_fini(&f->wake);
    mutex_fini(&f->lock);
    free(f->rules);
    free(f);
}

static void fault_describe(const struct be *be, uint32_t *ret_caps, struct be_limits *ret_limits)
{
    *ret_caps = fault_of(be)->inner->caps;
    *ret_limits = fault_of(be)->inner->limits;
}

static const char *fault_identity(const struct be *be)
{
    return be_identity(fault_of(be)->inner);
}

static int fault_renew(struct be *be, const struct conf_remote *conf, struct errinfo *reterr)
{
    return be_renew(fault_of(be)->inner, conf, reterr);
}

static bool fault_can_copy(const struct be *dst, const struct be *src)
{
    const struct be *inner_src = src->ops == &fault_ops ? fault_of(src)->inner : src;
    return be_can_copy(fault_of(dst)->inner, inner_src);
}

static bool fault_archived(const struct be *be, const char *storage_class)
{
    return be_archived(fault_of(be)->inner, storage_class);
}

static const char *fault_key_fault(const struct be *be, const char *key)
{
    const struct be *inner = fault_of(be)->inner;
    return inner->ops->key_fault ? inner->ops->key_fault(inner, key) : NULL;
}

/* A late one is brought forward; one that went through carries the inner backend, which is asked
 * itself. */
static void fault_cancel(struct be *be, struct be_op *op)
{
    struct fault_be *f = fault_of(be);
    mutex_lock(&f->lock);
    struct passage **link = &f->late;
    while (*link && (*link)->op != op) {
        link = &(*link)->next;
    }
    struct passage *p = *link;
    if (p) {
        *link = p->next;
        p->due_ns = 0;
        insert_late_locked(f, p);
    }
    mutex_unlock(&f->lock);
}

#define DEFINE_CALL(name, type)                                                                    \
    static void fault_##name(struct be *be, struct type *op)                                       \
    {                                                                                              \
        pass(be, &op->op);                                                                         \
    }

DEFINE_CALL(stat, be_stat)
DEFINE_CALL(read, be_read)
DEFINE_CALL(write, be_write)
DEFINE_CALL(remove, be_remove)
DEFINE_CALL(list, be_list)
DEFINE_CALL(copy, be_copy)
DEFINE_CALL(remove_many, be_many)
DEFINE_CALL(mp_begin, be_mp)
DEFINE_CALL(mp_part, be_part)
DEFINE_CALL(mp_commit, be_commit)
DEFINE_CALL(mp_abort, be_mp)
DEFINE_CALL(mp_parts, be_parts)
DEFINE_CALL(mp_uploads, be_uploads)
DEFINE_CALL(restore, be_restore)

static const struct be_ops fault_ops = {
    .size = sizeof(struct be_ops),
    .scheme = "fault",
    .close = fault_close,
    .describe = fault_describe,
    .identity = fault_identity,
    .can_copy = fault_can_copy,
    .renew = fault_renew,
    .key_fault = fault_key_fault,
    .archived = fault_archived,
    .cancel = fault_cancel,
    .stat = fault_stat,
    .read = fault_read,
    .write = fault_write,
    .remove = fault_remove,
    .list = fault_list,
    .copy = fault_copy,
    .remove_many = fault_remove_many,
    .mp_begin = fault_mp_begin,
    .mp_part = fault_mp_part,
    .mp_commit = fault_mp_commit,
    .mp_abort = fault_mp_abort,
    .mp_parts = fault_mp_parts,
    .mp_uploads = fault_mp_uploads,
    .restore = fault_restore,
};

int be_fault_new(struct be *inner, struct be **ret_be)
{
    CHECK_MAGIC(inner, BE_MAGIC);
    struct fault_be *f = mem_zalloc(sizeof(*f));
    f->inner = inner;
    f->be.ops = &fault_ops; /* describe needs it */
    mutex_init(&f->lock, RANK_STORE);
    cond_init(&f->wake);
    ENSURE(be_init(&f->be, &fault_ops, &inner->env, inner->name, NULL) == 0);
    f->be.probe_prefix = inner->probe_prefix ? mem_strdup(inner->probe_prefix) : NULL;
    ENSURE(pthread_create(&f->timer, NULL, timer_main, f) == 0);
    *ret_be = &f->be;
    return 0;
}

void be_fault_add(struct be *be, const struct be_fault_rule *rule)
{
    struct fault_be *f = fault_of(be);
    mutex_lock(&f->lock);
    f->rules = mem_realloc(f->rules, (f->n_rules + 1) * sizeof(*f->rules));
    f->rules[f->n_rules++] = (struct rule){.r = *rule};
    mutex_unlock(&f->lock);
}

static void let_go_locked(struct fault_be *f)
{
    struct passage **link = &f->late;
    while (*link && (*link)->due_ns != HELD) {
        link = &(*link)->next;
    }
    struct passage *held = *link;
    *link = NULL;
    while (held) {
        struct passage *p = held;
        held = p->next;
        p->due_ns = 0;
        insert_late_locked(f, p);
    }
}

void be_fault_let_go(struct be *be)
{
    struct fault_be *f = fault_of(be);
    mutex_lock(&f->lock);
    let_go_locked(f);
    mutex_unlock(&f->lock);
}

void be_fault_clear(struct be *be)
{
    struct fault_be *f = fault_of(be);
    mutex_lock(&f->lock);
    f->n_rules = 0;
    let_go_locked(f);
    mutex_unlock(&f->lock);
}

struct be_fault_seen be_fault_seen(const struct be *be, enum be_kind kind)
{
    struct fault_be *f = fault_of(be);
    mutex_lock(&f->lock);
    struct be_fault_seen seen = f->seen[kind];
    mutex_unlock(&f->lock);
    return seen;
}

unsigned be_fault_calls(const struct be *be, enum be_kind kind)
{
    return be_fault_seen(be, kind).calls;
}
