/* Many writers in a spool that is too small for all of them (rules F1, C8): they take turns, and none fails. */
#include "harness.h"

#include <errno.h>

#include "mem.h"
#include "moved_clock.h"
#include "sync.h"

#define SPOOL (4u << 20)
#define PART (512u << 10)
#define STEP (16u << 10)

/* A spool of SPOOL bytes before a provider that takes a while; no part is smaller than PART. */
static int setup(void **state)
{
    struct fx *fx = mem_zalloc(sizeof(*fx));
    *state = fx;
    atomic_store(&moved_s, 0);
    fx_init(fx, "memory");
    fx->opt.cache_size = SPOOL;
    fx->opt.wait_timeout_ms = 300000;
    for (unsigned i = 0; i < FX_REMOTES; i++) {
        fx->conf[i].part_size = fx->conf[i].limits.min_part = PART;
        fx->conf[i].request_timeout_ms = 60000;
    }
    fx_open(fx);
    for (unsigned i = 0; i < FX_REMOTES; i++) {
        fx_delay(fx, i, BE_WRITE, 0, 0, 10);
        fx_delay(fx, i, BE_MP_PART, 0, 0, 10);
    }
    return 0;
}

static int teardown(void **state)
{
    struct fx *fx = *state;
    for (unsigned i = 0; i < fx->n_fault; i++) {
        be_fault_clear(fx->fault[i]); /* a test that failed left calls behind */
    }
    return fx_teardown(state);
}

static void none_failed(struct fx *fx)
{
    fx_idle(fx);
    struct cprogress p = fx_progress(fx);
    if (p.failed != 0 || p.files_left != 0) {
        fx_report(fx);
    }
    assert_int_equal(p.failed, 0);
    assert_int_equal(p.files_left, 0);
}

struct writer {
    pthread_t thread;
    struct fx *fx;
    unsigned remote, n;
    size_t size;
    bool backwards;
    size_t first; /* bytes that each has written before one goes on */
    pthread_barrier_t *begun;
    int err;
};

static void *write_all(void *arg)
{
    struct writer *w = arg;
    CLEANUP(mem_freep) char *p = malloc(STEP);
    char key[16];
    struct chandle *h;
    (void)snprintf(key, sizeof(key), "f%u", w->n);
    w->err = fx_create(w->fx, w->remote, key, &h);
    for (size_t at = 0; at < w->size && w->err == 0; at += STEP) {
        if (at == w->first) {
            (void)pthread_barrier_wait(w->begun);
        }
        size_t off = w->backwards ? w->size - STEP - at : at;
        fx_pattern(p, STEP, off, w->n);
        w->err = fx_write(w->fx, h, off, p, STEP);
    }
    int end = fx_end(w->fx, h);
    w->err = w->err < 0 ? w->err : end;
    return NULL;
}

static void arrived(struct fx *fx, const struct writer *w)
{
    CLEANUP(mem_freep) char *want = malloc(w->size), *got = malloc(w->size + 1);
    char key[16];
    (void)snprintf(key, sizeof(key), "f%u", w->n);
    fx_pattern(want, w->size, 0, w->n);
    assert_int_equal(fx_at(fx, w->remote, key, got, w->size + 1), w->size);
    assert_memory_equal(got, want, w->size);
}

/* Together they have all but filled the spool, each with the beginning of its file, before one goes on; none hears of an error. */
static void at_once(struct fx *fx, unsigned n, size_t size, bool backwards)
{
    CLEANUP(mem_freep) struct writer *v = mem_zalloc(n * sizeof(*v));
    pthread_barrier_t begun;
    size_t first = SPOOL / 4 * 3 / n / STEP * STEP; /* then there is less than a part and a half for all */
    assert_true(first > 0 && first < size && first < PART);
    assert_int_equal(pthread_barrier_init(&begun, NULL, n), 0);
    for (unsigned i = 0; i < n; i++) {
        v[i] = (struct writer){.fx = fx, .n = i, .size = size, .backwards = backwards, .first = first, .begun = &begun};
        assert_int_equal(pthread_create(&v[i].thread, NULL, write_all, &v[i]), 0);
    }
    unsigned failed = 0;
    int why = 0;
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(pthread_join(v[i].thread, NULL), 0);
        failed += v[i].err < 0;
        why = v[i].err < 0 ? v[i].err : why;
    }
    (void)pthread_barrier_destroy(&begun);
    if (failed > 0) {
        fail_msg("%u of %u writers failed: %s", failed, n, strerror(-why));
    }
    none_failed(fx);
    for (unsigned i = 0; i < n; i++) {
        arrived(fx, &v[i]);
    }
    assert_int_equal(fx_at_uploads(fx, 0), 0);
}

/* None of them comes to have a part: nothing can be sent before one is closed. */
static void many_with_less_than_a_part(void **state)
{
    at_once(*state, 100, 16 * STEP, false);
}

/* Bytes that are not written in order. */
static void many_that_write_backwards(void **state)
{
    at_once(*state, 50, 16 * STEP, true);
}

/* Together ten times what there is room for, each by itself more than half of it: parts must go out while they are open. */
static void several_with_many_parts(void **state)
{
    at_once(*state, 20, 5 * PART, false);
}

/* ---- one request at a time, looked at while it waits ---- */

/* A file of a test's own, written from its beginning on. */
struct pen {
    struct fx *fx;
    struct chandle *h;
    uint64_t at;
    struct creq r;
    atomic_bool waits;
};

static void pen_done(struct creq *r)
{
    struct pen *p = r->owner;
    atomic_store(&p->waits, false);
}

/* One more step; the answer may come later. */
static void pen_write(struct pen *p)
{
    static const char zeros[STEP];
    assert_false(atomic_load(&p->waits));
    p->r = (struct creq){.done = pen_done, .owner = p, .offset = p->at, .size = STEP, .data = zeros};
    p->at += STEP;
    atomic_store(&p->waits, true);
    cache_write(p->fx->c, &p->r, p->h);
}

static void pen_is_answered(struct pen *p, int status)
{
    FX_AWAIT(p->fx, !atomic_load(&p->waits));
    assert_int_equal(p->r.status, status);
}

static void pen_begin(struct pen *p, struct fx *fx, const char *key)
{
    memset(p, 0, sizeof(*p));
    p->fx = fx;
    assert_int_equal(fx_create(fx, 0, key, &p->h), 0);
}

/* Until a request is not answered. */
static void pen_fill(struct pen *p)
{
    bool waits = false;
    while (!waits) {
        assert_true(p->at < 4 * (uint64_t)SPOOL);
        pen_write(p);
        for (unsigned ms = 0; ms < 200 && atomic_load(&p->waits); ms++) {
            fx_sleep_ms(1);
        }
        waits = atomic_load(&p->waits);
    }
}

static void sealed_of(struct fx *fx, const char *key, size_t n)
{
    CLEANUP(mem_freep) char *p = mem_zalloc(n);
    assert_int_equal(fx_put(fx, 0, key, p, n), 0);
}

/* Closed files that hold so much of the spool and can go; none is large enough to be sent while it is written. */
static void sealed_files(struct fx *fx, size_t n)
{
    for (unsigned i = 0; n > 0; i++) {
        char key[16];
        size_t size = MIN(n, (size_t)PART);
        (void)snprintf(key, sizeof(key), "before%u", i);
        sealed_of(fx, key, size);
        n -= size;
    }
}

/* Wakes the scheduler, which sleeps by a clock that has moved; nothing of remote a is hurried. */
static void wake(struct fx *fx)
{
    cache_hurry(fx->c, &(struct cscope){.remote = fx->r[1], .prefix = ""});
}

/* A provider that is down for a while is no full disk: who waits goes on when it is back. */
static void provider_down_for_a_while(void **state)
{
    struct fx *fx = *state;
    struct pen p;
    be_fault_clear(fx->fault[0]);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_MP_BEGIN, 0, 0, -EIO, ERR_TRANSIENT, false);
    sealed_files(fx, SPOOL / 2);
    pen_begin(&p, fx, "f");
    pen_fill(&p);
    for (int i = 0; i < 8; i++) {
        atomic_fetch_add(&moved_s, 20);
        wake(fx);
        fx_sleep_ms(20);
        assert_true(atomic_load(&p.waits));
    }
    be_fault_clear(fx->fault[0]);
    atomic_fetch_add(&moved_s, 60);
    wake(fx);
    pen_is_answered(&p, 0);
    assert_int_equal(fx_end(fx, p.h), 0);
    none_failed(fx);
}

/* And when it does not come back, waiting ends after wait_timeout. */
static void provider_down_for_good(void **state)
{
    struct fx *fx = *state;
    struct pen p;
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_MP_BEGIN, 0, 0, -EIO, ERR_TRANSIENT, false);
    sealed_files(fx, SPOOL / 2);
    pen_begin(&p, fx, "f");
    pen_fill(&p);
    atomic_fetch_add(&moved_s, 301);
    wake(fx);
    pen_is_answered(&p, -ENOSPC);
    be_fault_clear(fx->fault[0]);
    atomic_fetch_add(&moved_s, 60);
    assert_int_equal(fx_end(fx, p.h), 0);
    none_failed(fx);
}

/* A writer that waits can be interrupted; the rest go on as before. */
static void waiting_is_interrupted(void **state)
{
    struct fx *fx = *state;
    struct pen p, q;
    fx_hold(fx, 0, BE_WRITE, 0);
    fx_hold(fx, 0, BE_MP_BEGIN, 0);
    sealed_files(fx, SPOOL / 2);
    pen_begin(&p, fx, "f");
    pen_begin(&q, fx, "g");
    pen_fill(&p);
    pen_fill(&q);
    cache_interrupt(fx->c, &p.r);
    pen_is_answered(&p, -EINTR);
    assert_true(atomic_load(&q.waits));
    fx_let_go(fx, 0);
    pen_is_answered(&q, 0);
    assert_int_equal(fx_end(fx, p.h), 0);
    assert_int_equal(fx_end(fx, q.h), 0);
    none_failed(fx);
}

/* The turn goes to who has waited longest; who has it and pauses loses it to others. */
static void turn_goes_round(void **state)
{
    struct fx *fx = *state;
    struct pen p, q;
    fx_hold(fx, 0, BE_WRITE, 0);
    fx_hold(fx, 0, BE_MP_BEGIN, 0);
    sealed_files(fx, SPOOL - PART - PART / 8);
    pen_begin(&p, fx, "f");
    pen_begin(&q, fx, "g");
    pen_write(&p);
    pen_is_answered(&p, 0);
    pen_write(&q);
    pen_is_answered(&q, 0);
    while (p.at < PART / 4) { /* the older one writes on, in the room of one */
        pen_write(&p);
        pen_is_answered(&p, 0);
    }
    pen_write(&q);
    pen_is_answered(&q, 0); /* now that one pauses */
    fx_let_go(fx, 0);
    assert_int_equal(fx_end(fx, p.h), 0);
    assert_int_equal(fx_end(fx, q.h), 0);
    none_failed(fx);
}

/* What frees room goes before what does not, though that came first. */
static void what_frees_room_goes_first(void **state)
{
    struct fx *fx = *state;
    struct pen p;
    char key[16];
    for (int i = 0; i < 64; i++) {
        (void)snprintf(key, sizeof(key), "old%d", i);
        fx_text(fx, 0, key, "x");
    }
    none_failed(fx);
    fx_hold(fx, 0, BE_REMOVE, 0); /* whatever begins of these holds the lane */
    fx_hold(fx, 0, BE_REMOVE_MANY, 0);
    fx_hold(fx, 0, BE_COPY, 0);
    for (int i = 0; i < 64; i++) {
        struct cattr a = {.mode = 0600};
        (void)snprintf(key, sizeof(key), "old%d", i);
        assert_int_equal(fx_setattr(fx, 0, key, CSET_MODE, &a), 0); /* due in a minute */
    }
    sealed_of(fx, "small", 1000);
    pen_begin(&p, fx, "f");
    while (p.at < SPOOL - PART) {
        pen_write(&p);
        pen_is_answered(&p, 0);
    }
    FX_AWAIT(fx, fx_at(fx, 0, "small", key, 1) >= 0);
    fx_let_go(fx, 0);
    assert_int_equal(fx_end(fx, p.h), 0);
    none_failed(fx);
}

/* Streams that wait for their writers take no place of other large files. */
static void idle_streams_hold_nobody_up(void **state)
{
    struct fx *fx = *state;
    struct chandle *h[6];
    static const char zeros[STEP];
    for (unsigned i = 0; i < 6; i++) { /* more than there are lanes for large files */
        char key[16];
        (void)snprintf(key, sizeof(key), "s%u", i);
        assert_int_equal(fx_create(fx, 0, key, &h[i]), 0);
        unsigned begun = fx_calls(fx, 0, BE_MP_BEGIN);
        for (uint64_t at = 0; fx_calls(fx, 0, BE_MP_BEGIN) == begun; at += STEP) {
            assert_true(at < 2 * (uint64_t)SPOOL);
            assert_int_equal(fx_write(fx, h[i], at, zeros, STEP), 0);
        }
    }
    sealed_of(fx, "large", PART / 2); /* for the same lane, but no stream itself */
    FX_AWAIT(fx, (cache_hurry(fx->c, NULL), fx_at(fx, 0, "large", (char[1]){0}, 1) >= 0));
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(fx_end(fx, h[i]), 0);
    }
    none_failed(fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(many_with_less_than_a_part), T(many_that_write_backwards), T(several_with_many_parts), T(provider_down_for_a_while),
        T(provider_down_for_good), T(waiting_is_interrupted), T(turn_goes_round), T(what_frees_room_goes_first),
        T(idle_streams_hold_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
