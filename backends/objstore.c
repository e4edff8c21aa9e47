/* Every operation is a run: one or more calls of the dialect, each tried until it succeeds or the
 * retry policy ends it.
 *
 *     start ─> attempt (worker: build once, sign, submit) ─> answer (worker: parse or classify)
 *                 ^                                             │ next page, next batch, next key
 *                 └── timer thread, after the policy's wait <───┤ may be tried again
 *                                                               └─> finish: be_complete
 *
 * What this file guarantees:
 * - A call is signed anew for each attempt, with the clock corrected by what the server's Date
 * taught.
 * - An operation whose request may have been carried out although no good answer came ends with
 * outcome_unknown, also when a later attempt was refused: the first may have been the one that
 * worked. What is not repeatable (a commit, and all conditional changes: their second attempt would
 * fail on the success of the first) is then not tried again.
 * - A read's bytes are those that were asked for, of the version that was asked for.
 * - Outputs are written by parse only, all or none, and the last step before completion.
 *
 * Lock: objstore.lock (RANK_REMOTE) guards the list of runs, the timers, clock offset, retry budget
 * and random state. It is held while a request is handed to the engine, so that a cancellation
 * either comes before (and is seen) or finds the request there; never across a dialect function, a
 * completion or a wait for anything but time.
 *
 * Timers are one thread, started with the first wait: it only moves runs back to the workers. */
#include "objstore_run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mem.h"

#define ANSWER_MAX_ROWS (16u << 20)
#define PAGES_PARTS_MAX 100000u
#define PAGES_UPLOADS_MAX 1000000u
/* Differences below this are no reason to correct a clock: the Date header has whole seconds and is
 * old on arrival. */
#define SKEW_MIN_S 5

/* --- the end of a run */

static void run_free(struct run *r)
{
    if (r->stream) {
        r->s->d->stream_free(r->stream);
    }
    dialect_request_fini(&r->req);
    buf_fini(&r->url);
    http_req_fini(&r->http);
    free(r->page[0]);
    free(r->page[1]);
    free(r->parts);
    for (size_t i = 0; i < r->n_uploads; i++) {
        free(r->uploads[i].key);
        free(r->uploads[i].upload_id);
    }
    free(r->uploads);
    for (size_t i = 0; i < r->n_entries; i++) {
        free(r->entries[i].key);
    }
    free(r->entries);
    free(r->errs);
    free(r->chosen);
    kv_fini(&r->source.meta);
    run_walk_free(r);
    free(r);
}

/* After this the run is gone, and the objstore may be. */
void run_finish(struct run *r, int status)
{
    struct objstore *s = r->s;
    struct be_op *op = r->op;
    mutex_lock(&s->lock);
    if (r->next) {
        r->next->prev = r->prev;
    }
    if (r->prev) {
        r->prev->next = r->next;
    } else {
        s->runs = r->next;
    }
    mutex_unlock(&s->lock);
    run_free(r);
    be_complete(op, status);
}

/* The class says what happened; only what a caller acts upon has a status of its own. */
void run_fail(struct run *r, const struct errinfo *err, int status)
{
    r->op->err = *err;
    run_finish(r, status == -EOPNOTSUPP || status == -ETIMEDOUT ? status : err_to_errno(err));
}

/* --- timers */

static void *timer_main(void *arg)
{
    struct objstore *s = arg;
    mutex_lock(&s->lock);
    while (!s->stop) {
        struct run *r = s->timers;
        if (!r) {
            cond_wait(&s->timer_wake, &s->lock);
        } else if (r->fire_ns > time_mono_ns()) {
            (void)cond_wait_until(&s->timer_wake, &s->lock, r->fire_ns);
        } else {
            s->timers = r->timer_next;
            r->state = RUN_WORKING;
            pool_submit(s->be.env.workers, &r->work);
        }
    }
    mutex_unlock(&s->lock);
    return NULL;
}

void run_again_now(struct run *r)
{
    r->work.run = run_attempt;
    pool_submit(r->s->be.env.workers, &r->work);
}

void run_again_after(struct run *r, uint32_t wait_ms)
{
    struct objstore *s = r->s;
    if (wait_ms == 0) {
        run_again_now(r);
        return;
    }
    r->work.run = run_attempt;
    mutex_lock(&s->lock);
    if (!s->timer_started) {
        int err = pthread_create(&s->timer, NULL, timer_main, s);
        if (err != 0) { /* no thread to be had: better too early than never */
            mutex_unlock(&s->lock);
            run_again_now(r);
            return;
        }
        s->timer_started = true;
    }
    if (r->canceled) {
        pool_submit(s->be.env.workers, &r->work);
    } else {
        r->state = RUN_WAITING;
        r->fire_ns = time_mono_ns() + (int64_t)wait_ms * 1000000;
        struct run **at = &s->timers;
        while (*at && (*at)->fire_ns <= r->fire_ns) {
            at = &(*at)->timer_next;
        }
        r->timer_next = *at;
        *at = r;
        cond_signal(&s->timer_wake);
    }
    mutex_unlock(&s->lock);
}

void objstore_cancel(struct be *be, struct be_op *op)
{
    struct objstore *s = objstore_of(be);
    mutex_lock(&s->lock);
    struct run *r = s->runs;
    while (r && r->op != op) {
        r = r->next;
    }
    if (r) {
        r->canceled = true;
        if (r->state == RUN_HTTP) {
            http_cancel(s->be.env.http, &r->http);
        } else if (r->state == RUN_WAITING) {
            struct run **at = &s->timers;
            while (*at != r) {
                at = &(*at)->timer_next;
            }
            *at = r->timer_next;
            r->state = RUN_WORKING;
            pool_submit(s->be.env.workers, &r->work);
        }
    }
    mutex_unlock(&s->lock);
}

/* --- one attempt */

/* Some requests of a change only look. */
static bool may_change(const struct run *r)
{
    const char *method = r->req.method;
    return be_kind_changes(r->call.kind) && method && strcmp(method, "GET") != 0 &&
           strcmp(method, "HEAD") != 0;
}

/* Whether doing the call twice is the same as once. */
static bool is_repeatable(const struct dialect_call *call)
{
    switch (call->kind) {
    case BE_WRITE: {
        const struct be_write *o = CONTAINER_OF(call->op, const struct be_write, op);
        return !o->if_match && !o->if_absent;
    }
    case BE_REMOVE:
        return !CONTAINER_OF(call->op, const struct be_remove, op)->if_match;
    case BE_MP_COMMIT:
        return false;
    default:
        return true; /* a begin may leave an upload without parts: no bytes, and doctor finds it */
    }
}

/* Silence while the server copies or assembles gigabytes is not a dead connection. */
static bool is_slow(const struct dialect_call *call)
{
    return call->kind == BE_COPY || call->kind == BE_MP_COMMIT ||
           (call->kind == BE_MP_PART && CONTAINER_OF(call->op, const struct be_part, op)->src);
}

static int on_list_data(struct http_req *h, const void *p, size_t n)
{
    struct run *r = h->owner;
    int err = r->s->d->stream_feed(r->stream, p, n);
    if (err == -EMSGSIZE) {
        return err_set(&h->err, ERR_INVALID, -EPROTO, "the answer has parts beyond all bounds");
    }
    return err < 0 ? err_set(&h->err, ERR_TRANSIENT, -EPROTO, "the answer is malformed") : 0;
}

/* After what was wanted so much more is taken in to keep the connection: a new one costs as much.
 */
#define KEPT_FOR 65536u

/* Where ranges may be ignored: 200 brings the whole object, of which the part that was asked for is
 * kept. */
static int on_read_data(struct http_req *h, const void *p, size_t n)
{
    struct run *r = h->owner;
    struct be_read *o = CONTAINER_OF(r->op, struct be_read, op);
    uint64_t from = h->http_status == 200 ? o->offset + r->req.kept : 0, at = r->passed;
    r->passed += n;
    if (at + n > from && r->taken < o->len) {
        size_t skip = at < from ? (size_t)(from - at) : 0;
        size_t take = MIN(n - skip, o->len - r->taken);
        memcpy((char *)o->buf + r->taken, (const char *)p + skip, take);
        r->taken += take;
    }
    if (h->http_status != 200) { /* longer than its range: parse sees it by the bytes that came */
        return r->passed > o->len - r->req.kept ? HTTP_ENOUGH : 0;
    }
    return r->taken == o->len && r->passed > from + (o->len - r->req.kept) + KEPT_FOR ? HTTP_ENOUGH
                                                                                      : 0;
}

/* A body that nobody wants: what the head says is all. */
static int on_unwanted(struct http_req *h, const void *p, size_t n)
{
    struct run *r = h->owner;
    (void)p;
    r->passed += n;
    return r->passed > KEPT_FOR ? HTTP_ENOUGH : 0;
}

static void on_http_done(struct http_req *h);

static void prepare_http(struct run *r)
{
    struct objstore *s = r->s;
    struct http_req *h = &r->http;
    http_req_fini(h);
    *h = (struct http_req){0};
    h->method = r->req.method;
    h->url = buf_str(&r->url);
    h->target = r->target;
    h->lane = s->lanes[r->op->lane < BE_LANES ? r->op->lane : BE_LANE_SMALL];
    h->headers = &r->req.headers;
    h->body = r->req.body;
    h->body_len = r->req.body_len;
    h->deadline_ns = r->op->deadline_ns;
    h->once = !is_repeatable(&r->call);
    h->done = on_http_done;
    h->owner = r;
    h->answer_max = r->call.kind == BE_MP_PARTS || r->call.kind == BE_MP_UPLOADS ||
                            r->call.kind == BE_REMOVE_MANY || r->call.kind == BE_LIST
                        ? ANSWER_MAX_ROWS
                        : 0;
    if (is_slow(&r->call)) {
        h->stall_timeout_ms = s->request_timeout_ms;
    }
    if (r->stream) {
        s->d->stream_free(r->stream);
        r->stream = NULL;
    }
    r->passed = 0;
    r->taken = r->req.kept;
    if (r->site->may_ignore_range) {
        h->sink_len = r->call.kind == BE_READ && !r->call.head
                          ? CONTAINER_OF(r->op, struct be_read, op)->len
                          : 0;
        h->on_data = h->sink_len > 0 ? on_read_data : on_unwanted;
    } else if (r->call.kind == BE_READ && !r->call.head) {
        struct be_read *o = CONTAINER_OF(r->op, struct be_read, op);
        h->sink = o->len > 0 ? o->buf : NULL;
        h->sink_len = o->len;
    } else if (s->d->stream_new) {
        r->stream = s->d->stream_new(r->site, &r->call);
        h->on_data = r->stream ? on_list_data : NULL;
    }
}

static int prepare(struct run *r, struct errinfo *err)
{
    struct objstore *s = r->s;
    int rc = 0;
    if (!r->built) {
        rc = s->d->build(r->site, &r->call, &r->req, err);
        r->built = rc == 0;
    }
    if (rc == 0) {
        mutex_lock(&s->lock);
        r->offset_s = s->offset_s;
        mutex_unlock(&s->lock);
        r->signed_s = time_wall_ns() / 1000000000 + r->offset_s;
        rc = s->d->sign(r->site, &r->req, r->signed_s, err);
    }
    buf_clear(&r->url); /* a signature may be in it */
    if (rc == 0 && dialect_url(r->site, &r->req, &r->url) < 0) {
        rc = err_set(err, ERR_LOCAL, -ENOMEM, "request: no memory");
    }
    return rc;
}

void run_attempt(struct work *w)
{
    struct run *r = CONTAINER_OF(w, struct run, work);
    struct objstore *s = r->s;
    struct errinfo err = {0};
    int rc = 0;
    if (r->op->deadline_ns > 0 && time_mono_ns() >= r->op->deadline_ns) {
        rc = err_set(&err, ERR_TRANSIENT, -ETIMEDOUT, "the time for this operation is over");
    } else {
        int done = s->d->local && !r->built ? s->d->local(r->site, &r->call, &err) : 0;
        if (done > 0) {
            run_finish(r, 0);
            return;
        }
        rc = done < 0 ? done : prepare(r, &err);
    }
    if (rc == 0) {
        prepare_http(r);
        mutex_lock(&s->lock);
        if (!r->canceled) {
            r->tries++;
            r->state = RUN_HTTP;
            http_submit(s->be.env.http, &r->http);
            mutex_unlock(&s->lock);
            return; /* r may already be gone */
        }
        mutex_unlock(&s->lock);
        rc = err_set(&err, ERR_CANCELED, -EINTR, "canceled");
    }
    if (r->look == LOOK_UPLOAD) {
        run_looked_at_upload(r, err.cls);
        return;
    }
    if (r->tries > 0) {
        err_fold(&r->fold, &err);
        err = r->fold;
    }
    err.outcome_unknown = r->unknown || r->changed;
    run_fail(r, &err, rc);
}

/* --- answers */

/* The next call of the same operation: its attempts count anew. */
void run_call_reset(struct run *r)
{
    r->built = false;
    r->tries = 0;
    r->unknown = false;
    err_clear(&r->fold);
}

/* A read that got 416 (or an error that its dialect calls by the same name) is behind the end, or
 * the server says 416 to what others answer with an error of their own. HEAD tells which, and
 * brings the outputs a success must have. */
static bool begins_behind_end(const struct run *r, const struct errinfo *err)
{
    return r->call.kind == BE_READ && !r->call.head &&
           (r->http.http_status == 416 || strcmp(err->code, "InvalidRange") == 0);
}

static int check_read(struct run *r, struct errinfo *err)
{
    struct be_read *o = CONTAINER_OF(r->op, struct be_read, op);
    if (o->if_match && o->object.etag[0] != '\0' && strcmp(o->if_match, o->object.etag) != 0) {
        return err_set(err, ERR_PRECOND, -ESTALE,
                       "the object is another version than the one asked for");
    }
    if (r->call.head && o->len > 0) {
        if (o->offset < o->object.size) {
            kv_fini(&o->meta); /* to be read again */
            return err_set(err, ERR_TRANSIENT, -EIO, "the object grew while it was read");
        }
        o->got = 0;
    }
    return 0;
}

static int take_parts(struct run *r, struct dialect_page *page, struct errinfo *err)
{
    for (size_t i = 0; i < page->n_parts; i++) {
        unsigned before = i > 0            ? page->parts[i - 1].number
                          : r->n_parts > 0 ? r->parts[r->n_parts - 1].number
                                           : 0;
        if (page->parts[i].number <= before) {
            return err_set(err, ERR_INTEGRITY, -EIO, "the server lists parts in circles");
        }
    }
    if (r->n_parts + page->n_parts > PAGES_PARTS_MAX) {
        return err_set(err, ERR_INVALID, -EIO, "the server lists more parts than there can be");
    }
    if (page->n_parts > 0) {
        r->parts = mem_realloc(r->parts, (r->n_parts + page->n_parts) * sizeof(*r->parts));
        memcpy(r->parts + r->n_parts, page->parts, page->n_parts * sizeof(*r->parts));
        r->n_parts += page->n_parts;
    }
    return 0;
}

static int take_uploads(struct run *r, struct dialect_page *page, struct errinfo *err)
{
    if (r->n_uploads + page->n_uploads > PAGES_UPLOADS_MAX) {
        return err_set(err, ERR_INVALID, -EIO,
                       "the server lists more uploads than anybody can look at");
    }
    if (page->n_uploads > 0) {
        r->uploads =
            mem_realloc(r->uploads, (r->n_uploads + page->n_uploads) * sizeof(*r->uploads));
        memcpy(r->uploads + r->n_uploads, page->uploads, page->n_uploads * sizeof(*r->uploads));
        r->n_uploads += page->n_uploads;
        page->n_uploads = 0; /* their strings moved */
    }
    return 0;
}

static bool same(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static int take_page(struct run *r, struct dialect_page *page, struct errinfo *err)
{
    int rc = 0;
    if (r->walk && r->call.kind == BE_LIST) {
        rc = run_walk_take(r, page, err);
    } else if (r->call.kind == BE_LIST) {
        struct be_list *o = CONTAINER_OF(r->op, struct be_list, op);
        if (page->unshowable > 0) {
            log_limited(
                LOG_LEVEL_WARN, "objstore", r->s->site->identity, 60000,
                "remote=%s prefix='%s' keys_left_out=%zu why='a key is empty or has a NUL byte'",
                r->s->site->name, o->prefix, page->unshowable);
        }
        if (o->next_cursor && o->cursor && strcmp(o->next_cursor, o->cursor) == 0) {
            be_list_fini(o); /* the page is asked for once more */
            return err_set(err, ERR_INTEGRITY, -EIO, "the server lists the same page for ever");
        }
        return 0;
    }
    if (r->look == LOOK_UPLOAD) {
        return 0; /* that there is an answer was the question */
    }
    if (r->call.kind == BE_MP_PARTS) {
        rc = take_parts(r, page, err);
    } else if (r->call.kind == BE_MP_UPLOADS) {
        rc = take_uploads(r, page, err);
    }
    if (rc == 0 && page->next[0] && same(page->next[0], r->page[0]) &&
        same(page->next[1], r->page[1])) {
        rc = err_set(err, ERR_INTEGRITY, -EIO, "the server lists the same page for ever");
    }
    if (rc == 0) {
        free(r->page[0]);
        free(r->page[1]);
        r->page[0] = TAKE(page->next[0]);
        r->page[1] = TAKE(page->next[1]);
    }
    return rc;
}

/* The call succeeded; the operation may have more. */
static void run_advance(struct run *r)
{
    struct objstore *s = r->s;
    mutex_lock(&s->lock);
    retry_success(&s->budget);
    mutex_unlock(&s->lock);
    if (r->op->kind == BE_REMOVE_MANY) {
        run_next_many(r);
        return;
    }
    r->op->stray = r->op->stray || (may_change(r) && (r->unknown || r->http.resent));
    switch (r->look) {
    case LOOK_NO:
        break;
    case LOOK_PARTS:
    case LOOK_PART:
        if (r->page[0]) {
            break;
        }
        (r->look == LOOK_PART ? run_looked_at_part : run_looked_at_parts)(r);
        return;
    case LOOK_DIR:
        run_walk_looked(r, true);
        return;
    case LOOK_MADE:
        run_looked_at_made(r);
        return;
    case LOOK_BEFORE:
    case LOOK_AFTER:
        run_looked_at_source(r);
        return;
    case LOOK_COPIED:
        run_look_at_source(r);
        return;
    case LOOK_UPLOAD:
        run_looked_at_upload(r, ERR_NONE);
        return;
    }
    if (r->page[0]) {
        r->changed = r->changed || may_change(r);
        r->call.step++;
        run_call_reset(r);
        r->call.page[0] = r->page[0];
        r->call.page[1] = r->page[1];
        run_again_now(r);
        return;
    }
    if (r->walk) {
        run_walk_filled(r);
        return;
    }
    if (run_must_look_at_made(r)) {
        run_look_at_made(r);
        return;
    }
    if (r->op->kind == BE_MP_PARTS) {
        struct be_parts *o = CONTAINER_OF(r->op, struct be_parts, op);
        o->parts = TAKE(r->parts);
        o->n_parts = r->n_parts;
    } else if (r->op->kind == BE_MP_UPLOADS) {
        struct be_uploads *o = CONTAINER_OF(r->op, struct be_uploads, op);
        o->uploads = TAKE(r->uploads);
        o->n_uploads = r->n_uploads;
        r->n_uploads = 0;
    }
    run_finish(r, 0);
}

/* Learns the server's clock. False when that cannot be what is wrong. */
static bool learn_skew(struct run *r)
{
    struct objstore *s = r->s;
    int64_t date_s = dialect_http_date(kv_get(&r->http.answer_headers, "date")) / 1000000000;
    int64_t offset = date_s - time_wall_ns() / 1000000000;
    int64_t change = offset - r->offset_s;
    if (date_s == 0 || (change < SKEW_MIN_S && change > -SKEW_MIN_S)) {
        return false;
    }
    mutex_lock(&s->lock);
    bool first = !s->skew_logged;
    s->skew_logged = true;
    s->offset_s = offset;
    mutex_unlock(&s->lock);
    if (first) {
        log_warn("objstore",
                 "remote=%s clock_offset_s=%lld why='the server refuses our clock; its own is used "
                 "from now on'",
                 s->site->name, (long long)offset);
    }
    return true;
}

static double next_random_locked(struct objstore *s)
{
    uint64_t x = s->random; /* xorshift64: jitter needs no more */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    s->random = x;
    return (double)(x >> 11) / 9007199254740992.0;
}

bool run_may_retry(struct run *r, const struct errinfo *err, uint32_t *ret_wait_ms)
{
    struct objstore *s = r->s;
    struct retry_policy policy = {.max_tries = s->max_tries,
                                  .base_ms = 100,
                                  .cap_ms = 20000,
                                  .deadline_ns = r->op->deadline_ns};
    int64_t now = time_mono_ns();
    mutex_lock(&s->lock);
    bool yes =
        !r->canceled && retry_next(&policy, &s->budget, err, r->tries, is_repeatable(&r->call), now,
                                   next_random_locked(s), ret_wait_ms);
    mutex_unlock(&s->lock);
    return yes;
}

static bool is_absent(const struct errinfo *err)
{
    return err->cls == ERR_ABSENT && strcmp(err->code, "NoSuchBucket") != 0;
}

/* One attempt failed, for the reason in *err. */
static void run_failed(struct run *r, struct errinfo *err, int rc)
{
    uint32_t wait_ms = 0;
    if (err->cls == ERR_SKEW && r->skews++ == 0 && learn_skew(r)) {
        r->tries--; /* not the remote's failure, so it costs neither a try nor a token */
        run_again_now(r);
        return;
    }
    if (err->cls == ERR_SKEW) {
        err_set(err, ERR_AUTH, 0,
                "the server refuses the request's time, and correcting the clock did not help");
        rc = -EACCES;
    }
    if (be_kind_changes(r->call.kind)) {
        r->unknown = r->unknown || err->outcome_unknown;
        err->outcome_unknown = r->unknown;
    }
    err_fold(&r->fold, err);
    if (run_may_retry(r, err, &wait_ms)) {
        r->built = r->built && r->req.follows == 0; /* where it was led to may be over by now */
        run_again_after(r, wait_ms);
        return;
    }
    /* What came before it is done, but to say that the store cannot do more the dialect has seen what. */
    bool seen = err->cls == ERR_INVALID && rc == -EOPNOTSUPP;
    r->fold.outcome_unknown = r->unknown || (r->changed && !seen);
    if (r->look == LOOK_UPLOAD) {
        run_looked_at_upload(r, err->cls);
        return;
    }
    if (run_must_look_at_upload(r, err)) {
        run_look_at_upload(r);
        return;
    }
    if (r->look == LOOK_DIR && is_absent(err)) {
        run_walk_looked(r, false);
        return;
    }
    if (r->walk && r->look == LOOK_NO && is_absent(err)) {
        run_walk_absent(r);
        return;
    }
    if (r->call.kind == BE_MP_PART && strcmp(err->code, "PartExists") == 0) {
        r->op->err = r->fold;
        run_look_at_parts(r);
        return;
    }
    if (r->op->kind == BE_COPY && (r->look == LOOK_AFTER || r->look == LOOK_MADE)) {
        r->fold.outcome_unknown = true; /* it was copied */
    }
    if (r->op->kind == BE_REMOVE_MANY && r->call.kind == BE_REMOVE) {
        r->errs[r->chosen[r->n_chosen + r->at_alone - 1]] = r->fold;
        run_next_many(r);
        return;
    }
    run_fail(r, &r->fold, rc);
}

static void answer_of(struct run *r, struct dialect_answer *a)
{
    *a = (struct dialect_answer){
        .http_status = r->http.http_status,
        .headers = &r->http.answer_headers,
        .body = buf_str(&r->http.answer),
        .body_len = r->http.answer.len,
        .body_got = r->site->may_ignore_range
                        ? (r->http.http_status == 200 ? r->taken : r->req.kept + r->passed)
                    : r->http.sink ? r->http.sink_got
                                   : r->http.answer.len,
        .signed_s = r->signed_s,
        .stream = r->stream,
    };
}

/* A whole answer with a 2xx. */
static int on_success(struct run *r, struct errinfo *err)
{
    struct objstore *s = r->s;
    struct dialect_answer a;
    struct dialect_page page = {0};
    answer_of(r, &a);
    int rc = s->d->parse(r->site, &r->call, &a, &page, err);
    if (rc == 0 && r->call.kind == BE_READ) {
        rc = check_read(r, err);
    }
    if (rc == 0) {
        rc = take_page(r, &page, err);
    } else if (err->cls == ERR_TRANSIENT || err->cls == ERR_INTEGRITY) {
        err->outcome_unknown = may_change(r);
    }
    dialect_page_fini(&page);
    return rc;
}

/* Any other status. 0 when it is a success after all. */
static int on_refusal(struct run *r, struct errinfo *err)
{
    struct objstore *s = r->s;
    struct dialect_answer a;
    answer_of(r, &a);
    s->d->classify(r->site, &r->call, &a, err);
    if (err->cls == ERR_NONE) {
        err_clear(err);
        return on_success(r, err); /* it is so already */
    }
    if (r->call.kind == BE_REMOVE && is_absent(err)) {
        err_clear(err);
        return 0; /* what is not there is removed */
    }
    if (a.http_status >= 500 && err->cls == ERR_TRANSIENT) {
        err->outcome_unknown = may_change(r); /* it may have failed after doing it */
    }
    return err_to_errno(err);
}

/* Whether another request of the call comes before its end. */
static enum dialect_follow follow(struct run *r, struct errinfo *err)
{
    struct objstore *s = r->s;
    struct dialect_answer a;
    if (!s->d->follow) {
        return FOLLOW_NOT;
    }
    answer_of(r, &a);
    enum dialect_follow what = s->d->follow(r->site, &r->call, &a, &r->req, err);
    if (what == FOLLOW_AGAIN) {
        r->req.follows++;
        r->tries--; /* it did not fail */
        buf_clear(&r->url);
        if (dialect_url(r->site, &r->req, &r->url) < 0) {
            err_set(err, ERR_LOCAL, -ENOMEM, "request: no memory");
            return FOLLOW_FAILED;
        }
    }
    return what;
}

static void log_attempt(const struct run *r, const struct errinfo *err)
{
    if (log_enabled(LOG_LEVEL_DEBUG)) {
        char key[BE_KEY_TEXT];
        log_debug("objstore",
                  "remote=%s method=%s key='%s' try=%u status=%d class=%s code=%s request_id=%s",
                  r->s->site->name, r->req.method, be_key_text(r->call.op->key, key, sizeof(key)),
                  r->tries, r->http.http_status, err_class_name(err->cls), err->code,
                  err->request_id);
    }
}

static void on_http_done(struct http_req *h)
{
    struct run *r = h->owner;
    struct objstore *s = r->s;
    struct errinfo err = {0};
    int rc = 0;
    mutex_lock(&s->lock);
    r->state = RUN_WORKING;
    mutex_unlock(&s->lock);
    enum dialect_follow what = h->status < 0 ? FOLLOW_NOT : follow(r, &err);
    if (what == FOLLOW_AGAIN) {
        log_attempt(r, &err);
        run_again_now(r);
        return;
    }
    if (h->status < 0) {
        err = h->err;
        err.http_status = h->http_status;
        rc = h->status;
        if (r->call.kind == BE_READ && h->http_status == 200 && err.cls == ERR_INTEGRITY) {
            err_set(&err, ERR_INVALID, rc, "the server ignores Range and sends the whole object");
        }
    } else if (what == FOLLOW_FAILED) {
        rc = err_to_errno(&err);
    } else if (what == FOLLOW_SUCCESS || (h->http_status >= 200 && h->http_status < 300)) {
        rc = on_success(r, &err);
    } else {
        rc = on_refusal(r, &err);
        if (rc < 0 && begins_behind_end(r, &err)) {
            run_call_reset(r);
            r->call.head = true;
            run_again_now(r);
            return;
        }
    }
    log_attempt(r, &err);
    if (h->http_status > 0) {
        http_lane_feedback(h->lane, err.cls == ERR_THROTTLED);
    }
    if (rc == 0) {
        run_advance(r);
        return;
    }
    err.outcome_unknown = (err.outcome_unknown || h->resent) && may_change(r);
    run_failed(r, &err, rc);
}
