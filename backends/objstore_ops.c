/* The operations of the object-store driver: how each becomes a run; removals of many keys; opening
 * and closing. */
#include "objstore_run.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "mem.h"

#define FOREGROUND_SLOTS 32
#define RETRY_TOKENS 100
#define CONNECT_TIMEOUT_MS 10000u
#define STALL_TIMEOUT_MS 30000u

/* --- many removals */

/* Keys of the last batch that failed for a reason that passes go into one more. True when there is
 * one to send. */
static bool batch_again(struct run *r)
{
    size_t n = 0;
    struct errinfo err = {0};
    for (size_t i = 0; i < r->n_chosen; i++) {
        const struct errinfo *e = &r->errs[r->chosen[i]];
        if (e->cls == ERR_TRANSIENT || e->cls == ERR_THROTTLED) {
            err = *e;
            n++;
        }
    }
    uint32_t wait_ms = 0;
    err.outcome_unknown = false;
    if (n == 0 || !run_may_retry(r, &err, &wait_ms)) {
        return false;
    }
    size_t kept = 0;
    for (size_t i = 0; i < r->n_chosen; i++) {
        enum err_class cls = r->errs[r->chosen[i]].cls;
        if (cls == ERR_TRANSIENT || cls == ERR_THROTTLED) {
            /* the batch stays in front of those that go alone */
            r->chosen[kept++] = r->chosen[i];
        }
    }
    memmove(r->chosen + kept, r->chosen + r->n_chosen, r->n_alone * sizeof(*r->chosen));
    r->n_chosen = kept;
    r->call.n_chosen = kept;
    r->built = false;
    run_again_after(r, wait_ms);
    return true;
}

/* What comes after the batch, or after one that went alone. */
void run_next_many(struct run *r)
{
    struct be_many *o = CONTAINER_OF(r->op, struct be_many, op);
    if (r->call.kind == BE_REMOVE_MANY && r->n_chosen > 0 && batch_again(r)) {
        return;
    }
    if (r->at_alone < r->n_alone) {
        size_t i = r->chosen[r->n_chosen + r->at_alone];
        r->at_alone++;
        run_call_reset(r);
        r->one =
            (struct be_remove){.op = {.kind = BE_REMOVE, .key = o->keys[i], .lane = r->op->lane}};
        r->call = (struct dialect_call){.kind = BE_REMOVE, .op = &r->one.op};
        run_again_now(r);
        return;
    }
    o->errs = TAKE(r->errs);
    run_finish(r, 0);
}

/* --- starting */

static struct run *run_new(struct be *be, struct be_op *op)
{
    struct objstore *s = objstore_of(be);
    struct run *r = mem_zalloc(sizeof(*r));
    r->s = s;
    r->site = s->site;
    r->target = &s->target;
    r->op = op;
    r->call.kind = op->kind;
    r->call.op = op;
    r->work.run = run_attempt;
    mutex_lock(&s->lock);
    r->next = s->runs;
    if (r->next) {
        r->next->prev = r;
    }
    s->runs = r;
    mutex_unlock(&s->lock);
    return r;
}

static void run_start(struct be *be, struct be_op *op)
{
    pool_submit(be->env.workers, &run_new(be, op)->work);
}

static void run_start_from(struct be *be, struct be_op *op, const struct be *src)
{
    struct run *r = run_new(be, op);
    /* a source of another kind stays NULL, and build says so */
    r->call.src = src && src->ops->identity == objstore_identity ? objstore_of(src)->site : NULL;
    if (run_must_look(r)) {
        run_look_at_source(r);
    } else {
        pool_submit(be->env.workers, &r->work);
    }
}

void objstore_stat(struct be *be, struct be_stat *op)
{
    run_start(be, &op->op);
}

void objstore_read(struct be *be, struct be_read *op)
{
    run_start(be, &op->op);
}

void objstore_write(struct be *be, struct be_write *op)
{
    run_start(be, &op->op);
}

void objstore_remove(struct be *be, struct be_remove *op)
{
    run_start(be, &op->op);
}

void objstore_list(struct be *be, struct be_list *op)
{
    struct run *r = run_new(be, &op->op);
    if (r->site->lists_dirs) {
        r->work.run = run_walk_start;
    }
    pool_submit(be->env.workers, &r->work);
}

void objstore_copy(struct be *be, struct be_copy *op)
{
    run_start_from(be, &op->op, op->src);
}

static void many_start(struct work *w)
{
    struct run *r = CONTAINER_OF(w, struct run, work);
    struct objstore *s = r->s;
    struct be_many *o = CONTAINER_OF(r->op, struct be_many, op);
    r->errs = mem_zalloc(o->n_keys * sizeof(*r->errs));
    r->chosen = mem_zalloc(o->n_keys * sizeof(*r->chosen));
    for (size_t i = 0; i < o->n_keys; i++) {
        if (!s->d->can_batch || s->d->can_batch(s->site, o->keys[i])) {
            r->chosen[r->n_chosen++] = i;
        }
    }
    for (size_t i = 0; i < o->n_keys; i++) {
        if (s->d->can_batch && !s->d->can_batch(s->site, o->keys[i])) {
            r->chosen[r->n_chosen + r->n_alone++] = i;
        }
    }
    r->call.chosen = r->chosen;
    r->call.n_chosen = r->n_chosen;
    r->call.errs = r->errs;
    if (r->n_chosen == 0) {
        run_next_many(r);
    } else {
        run_attempt(w);
    }
}

void objstore_remove_many(struct be *be, struct be_many *op)
{
    struct run *r = run_new(be, &op->op);
    r->work.run = many_start;
    pool_submit(be->env.workers, &r->work);
}

void objstore_mp_begin(struct be *be, struct be_mp *op)
{
    struct run *r = run_new(be, &op->op);
    r->call.begun_s = time_wall_ns() / 1000000000;
    if (getrandom(&r->call.random, sizeof(r->call.random), 0) != sizeof(r->call.random)) {
        r->call.random = (uint64_t)time_mono_ns();
    }
    pool_submit(be->env.workers, &r->work);
}

void objstore_mp_part(struct be *be, struct be_part *op)
{
    run_start_from(be, &op->op, op->src);
}

void objstore_mp_commit(struct be *be, struct be_commit *op)
{
    struct run *r = run_new(be, &op->op);
    if (r->site->commit_unchecked) {
        run_look_at_parts(r);
    } else {
        pool_submit(be->env.workers, &r->work);
    }
}

void objstore_mp_abort(struct be *be, struct be_mp *op)
{
    run_start(be, &op->op);
}

void objstore_mp_parts(struct be *be, struct be_parts *op)
{
    run_start(be, &op->op);
}

void objstore_restore(struct be *be, struct be_restore *op)
{
    run_start(be, &op->op);
}

void objstore_mp_uploads(struct be *be, struct be_uploads *op)
{
    run_start(be, &op->op);
}

/* --- opening and closing */

void objstore_close(struct be *be)
{
    struct objstore *s = objstore_of(be);
    mutex_lock(&s->lock);
    ENSURE(!s->runs);
    s->stop = true;
    bool started = s->timer_started;
    cond_broadcast(&s->timer_wake);
    mutex_unlock(&s->lock);
    if (started) {
        pthread_join(s->timer, NULL);
    }
    for (size_t i = 0; i < BE_LANES; i++) {
        http_lane_free(s->lanes[i]);
    }
    free(s->target.connect_to);
    free(s->target.proxy);
    walks_fini(&s->walks);
    s->d->release(s->site);
    cond_fini(&s->timer_wake);
    mutex_fini(&s->lock);
    free(s);
}

int objstore_open(const struct be_dialect *dialect, struct be **ret_be,
                  const struct conf_remote *conf, const struct be_env *env, struct errinfo *reterr)
{
    struct dialect_site *site = NULL;
    int rc = dialect->configure(conf, &site, reterr);
    if (rc < 0) {
        return rc;
    }
    struct objstore *s = mem_zalloc(sizeof(*s));
    s->d = dialect;
    s->site = site;
    s->max_tries = MAX(conf->request_try_count, 1u);
    s->request_timeout_ms = conf->request_timeout_ms > 0 ? conf->request_timeout_ms : 300000;
    /* requestTimeoutMs bounds silence, not transfers that go on: a part takes what the line takes
     */
    s->target.connect_timeout_ms = MIN(CONNECT_TIMEOUT_MS, s->request_timeout_ms);
    s->target.stall_timeout_ms = MIN(STALL_TIMEOUT_MS, s->request_timeout_ms);
    s->budget = (struct retry_budget){RETRY_TOKENS, RETRY_TOKENS};
    if (getrandom(&s->random, sizeof(s->random), 0) != sizeof(s->random) || s->random == 0) {
        s->random = (uint64_t)time_mono_ns() | 1;
    }
    if (conf->connect_to && conf->connect_to[0] != '\0') {
        s->target.connect_to = mem_strdup(conf->connect_to);
    }
    if (conf->proxy_host && conf->proxy_host[0] != '\0') {
        s->target.proxy = mem_printf("http://%s:%d", conf->proxy_host,
                                     conf->proxy_port > 0 ? conf->proxy_port : 3128);
    }
    mutex_init(&s->lock, RANK_REMOTE);
    walks_init(&s->walks, RANK_REMOTE);
    cond_init(&s->timer_wake);
    const struct {
        const char *name;
        unsigned slots;
    } lanes[BE_LANES] = {
        [BE_LANE_FOREGROUND] = {"foreground", FOREGROUND_SLOTS},
        [BE_LANE_SMALL] = {"small", conf->small_slots > 0 ? conf->small_slots : 64},
        [BE_LANE_BIG] = {"big", conf->big_slots > 0 ? conf->big_slots : 8},
    };
    for (size_t i = 0; i < BE_LANES && rc == 0; i++) {
        CLEANUP(mem_freep) char *name = mem_printf("%s/%s", site->name, lanes[i].name);
        rc = http_lane_new(env->http, name, lanes[i].slots, &s->lanes[i]);
    }
    if (rc < 0) {
        objstore_close(&s->be);
        return err_set_errno(reterr, -rc, "[%s] no lanes", conf->name);
    }
    *ret_be = &s->be;
    return 0;
}

void objstore_describe(const struct be *be, uint32_t *ret_caps, struct be_limits *ret_limits)
{
    *ret_caps = objstore_of(be)->site->caps;
    *ret_limits = objstore_of(be)->site->limits;
}

const char *objstore_identity(const struct be *be)
{
    return objstore_of(be)->site->identity;
}

int objstore_renew(struct be *be, const struct conf_remote *conf, struct errinfo *reterr)
{
    return dialect_renew(objstore_of(be)->site, conf, reterr);
}

bool objstore_can_copy(const struct be *dst, const struct be *src)
{
    if (src->ops != dst->ops) {
        return false;
    }
    return objstore_of(dst)->d->can_copy(objstore_of(dst)->site, objstore_of(src)->site);
}

const char *objstore_key_fault(const struct be *be, const char *key)
{
    const struct objstore *s = objstore_of(be);
    return s->d->key_fault ? s->d->key_fault(s->site, key) : NULL;
}

bool objstore_archived(const struct be *be, const char *storage_class)
{
    const char *const *class = objstore_of(be)->d->archives;
    while (*class && strcasecmp(*class, storage_class) != 0) {
        class++;
    }
    return *class;
}

static int open_s3(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                   struct errinfo *reterr)
{
    return objstore_open(&be_dialect_s3, ret_be, conf, env, reterr);
}

static int open_azure(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                      struct errinfo *reterr)
{
    return objstore_open(&be_dialect_azure, ret_be, conf, env, reterr);
}

static int open_cos(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                    struct errinfo *reterr)
{
    return objstore_open(&be_dialect_cos, ret_be, conf, env, reterr);
}

static int open_qiniu(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                      struct errinfo *reterr)
{
    return objstore_open(&be_dialect_qiniu, ret_be, conf, env, reterr);
}

static int open_oss(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                    struct errinfo *reterr)
{
    return objstore_open(&be_dialect_oss, ret_be, conf, env, reterr);
}

static int open_ks3(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                    struct errinfo *reterr)
{
    return objstore_open(&be_dialect_ks3, ret_be, conf, env, reterr);
}

static int open_upyun(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                      struct errinfo *reterr)
{
    return objstore_open(&be_dialect_upyun, ret_be, conf, env, reterr);
}

static int open_http(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                     struct errinfo *reterr)
{
    return objstore_open(&be_dialect_http, ret_be, conf, env, reterr);
}

static int open_gcs(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                    struct errinfo *reterr)
{
    return objstore_open(&be_dialect_gcs, ret_be, conf, env, reterr);
}

static int open_bos(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                    struct errinfo *reterr)
{
    return objstore_open(&be_dialect_bos, ret_be, conf, env, reterr);
}

const struct be_ops be_http_ops = OBJSTORE_OPS("http", open_http);
const struct be_ops be_s3_ops = OBJSTORE_OPS("s3", open_s3);
const struct be_ops be_cos_ops = OBJSTORE_OPS("cos", open_cos);
const struct be_ops be_oss_ops = OBJSTORE_OPS("oss", open_oss);
const struct be_ops be_ks3_ops = OBJSTORE_OPS("ks3", open_ks3);
const struct be_ops be_azure_ops = OBJSTORE_OPS("azure", open_azure);
const struct be_ops be_gcs_ops = OBJSTORE_OPS("gcs", open_gcs);
const struct be_ops be_bos_ops = OBJSTORE_OPS("bos", open_bos);
const struct be_ops be_upyun_ops = OBJSTORE_OPS("upyun", open_upyun);
const struct be_ops be_qiniu_ops = OBJSTORE_OPS("qiniu", open_qiniu);
