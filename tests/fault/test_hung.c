/* Waiting for others, without end and without harm. A server that hangs: reads ahead of it are given up before they fill what the kernel lets be outstanding (rules F2). One that is
 * slow does not hang (F3). Time is moved, not waited for. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>

#include "mem.h"
#include "moved_clock.h"
#include "sync.h"

#define BLOCK 8192u
#define READS 1024u
#define MAY_WAIT 512u /* of 1,024 that the kernel lets be outstanding */

static atomic_uint answered, given_up, wrong;
static char content[READS * BLOCK];

struct asked {
    struct creq r;
    struct chandle *h;
};

static void asked_done(struct creq *r)
{
    if (r->status == -EAGAIN) {
        atomic_fetch_add(&given_up, 1);
    } else if (r->status != 0 || r->done_bytes != BLOCK || memcmp(r->data, content + r->offset, BLOCK) != 0) {
        atomic_fetch_add(&wrong, 1);
    }
    atomic_fetch_add(&answered, 1);
}

static void ask(struct fx *fx, struct asked *a, struct chandle *h, unsigned block, bool ahead)
{
    a->h = h;
    a->r = (struct creq){.done = asked_done, .offset = (uint64_t)block * BLOCK, .size = BLOCK, .read_ahead = ahead};
    cache_read(fx->c, &a->r, h);
}

/* With nothing here: clean bytes in the spool would be read instead. */
static void fx_open_anew(struct fx *fx)
{
    fx_close(fx);
    CLEANUP(mem_freep) char *journal = mem_printf("rm -rf '%s/cache'", fx->dir);
    assert_int_equal(system(journal), 0);
    fx_open(fx);
}

/* A file of remote 0 of which nothing is here, with the server about to hang. */
static struct chandle *hanging(struct fx *fx)
{
    struct chandle *h;
    fx_pattern(content, sizeof(content), 0, 1);
    assert_int_equal(fx_put(fx, 0, "f", content, sizeof(content)), 0);
    fx_text(fx, 1, "other", "text");
    fx_idle(fx);
    atomic_store(&answered, 0);
    atomic_store(&given_up, 0);
    atomic_store(&wrong, 0);
    fx_open_anew(fx);
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "f", O_RDONLY, &h), 0);
    fx_hold(fx, 0, BE_READ, 0);
    return h;
}

static void read_ahead_is_given_up(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) struct asked *a = mem_zalloc(READS * sizeof(*a)), *b = mem_zalloc(READS * sizeof(*b));
    struct chandle *h = hanging(fx);
    for (unsigned i = 0; i < READS; i++) {
        ask(fx, &a[i], h, i, true);
    }
    assert_int_equal(atomic_load(&answered), 0); /* a server may take its time */
    atomic_fetch_add(&moved_s, 3);
    FX_AWAIT(fx, atomic_load(&given_up) == READS - MAY_WAIT);
    assert_true(fx_is(fx, 1, "other", "text"));
    /* Whoever needs those bytes asks again, and that is not given up. */
    unsigned again = 0;
    for (unsigned i = 0; i < READS; i++) {
        if (a[i].r.status == -EAGAIN) {
            ask(fx, &b[again++], h, i, true);
        }
    }
    assert_int_equal(again, READS - MAY_WAIT);
    atomic_fetch_add(&moved_s, 3);
    for (int i = 0; i < 20; i++) {
        cache_hurry(fx->c, NULL);
        fx_sleep_ms(10);
    }
    assert_int_equal(atomic_load(&answered), READS - MAY_WAIT);
    fx_let_go(fx, 0);
    FX_AWAIT(fx, atomic_load(&answered) == READS + again);
    assert_int_equal(atomic_load(&given_up), again);
    assert_int_equal(atomic_load(&wrong), 0);
    cache_release(fx->c, h);
}

/* What is needed waits, however much of it there is. */
static void what_is_needed_waits(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) struct asked *a = mem_zalloc(READS * sizeof(*a));
    struct chandle *h = hanging(fx);
    for (unsigned i = 0; i < READS; i++) {
        ask(fx, &a[i], h, i, false);
    }
    atomic_fetch_add(&moved_s, 3);
    for (int i = 0; i < 20; i++) {
        cache_hurry(fx->c, NULL);
        fx_sleep_ms(10);
    }
    assert_int_equal(atomic_load(&answered), 0);
    fx_let_go(fx, 0);
    FX_AWAIT(fx, atomic_load(&answered) == READS);
    assert_int_equal(atomic_load(&given_up) + atomic_load(&wrong), 0);
    cache_release(fx->c, h);
}

static atomic_int synced;

static void sync_done(struct creq *r)
{
    atomic_store(&synced, r->status == 0 ? 1 : r->status);
}

/* fsync, and with it the close of a file larger than the spool, waits as long as parts arrive, however long all of them take. */
static void slow_is_not_hung(void **state)
{
    struct fx *fx = *state;
    struct creq r = {.done = sync_done};
    struct chandle *h;
    unsigned waves = 0;
    atomic_store(&synced, 0);
    fx_hold(fx, 0, BE_MP_PART, 0);
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), -ENOENT);
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    for (unsigned off = 0; off < sizeof(content); off += 16 * BLOCK) {
        assert_int_equal(fx_write(fx, h, off, content + off, 16 * BLOCK), 0);
    }
    cache_fsync(fx->c, &r, h);
    while (atomic_load(&synced) == 0) {
        unsigned ended = fx_ended(fx, 0, BE_MP_PART);
        FX_AWAIT(fx, atomic_load(&synced) != 0 || fx_calls(fx, 0, BE_MP_PART) > ended);
        atomic_fetch_add(&moved_s, 8); /* of the ten that nothing may get on for */
        cache_hurry(fx->c, NULL);
        fx_sleep_ms(20);
        ended = fx_ended(fx, 0, BE_MP_PART);
        be_fault_let_go(fx->fault[0]);
        FX_AWAIT(fx, atomic_load(&synced) != 0 || fx_ended(fx, 0, BE_MP_PART) > ended || fx_calls(fx, 0, BE_MP_PART) == ended);
        waves++;
    }
    assert_int_equal(atomic_load(&synced), 1);
    assert_true(waves >= 3);
    assert_int_equal(fx_end(fx, h), 0);
}

/* What failed because its source is archived is looked at again by itself, is said once, and goes on when it can be read. */
static void archived_goes_on(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "cold", "text");
    fx_text(fx, 1, "other", "text");
    fx_idle(fx);
    fx->caps_without = BE_CAP_COPY | BE_CAP_PART_COPY;
    fx_open_anew(fx);
    assert_int_equal(fx_lookup(fx, 0, "cold", NULL), 0);
    fx_fault(fx, 0, BE_READ, 0, 3, -EIO, ERR_ARCHIVED, false);
    assert_int_equal(fx_cp(fx, 0, "cold", 1, "copy"), 0);
    (void)fx_idle_within(fx, 100);
    FX_AWAIT(fx, fx_progress(fx).failed == 1);
    for (unsigned looks = 2; looks <= 3; looks++) {
        atomic_fetch_add(&moved_s, 30);
        fx_sleep_ms(50);
        assert_int_equal(fx_calls(fx, 0, BE_READ), looks - 1); /* not before its time */
        atomic_fetch_add(&moved_s, 31);
        FX_AWAIT(fx, fx_calls(fx, 0, BE_READ) == looks);
        FX_AWAIT(fx, fx_progress(fx).failed == 1);
    }
    CLEANUP(buf_fini) struct buf metrics = BUF_INIT;
    assert_int_equal(cache_metrics(fx->c, &metrics), 0);
    assert_non_null(strstr(buf_str(&metrics), "failures_total 1\n"));
    atomic_fetch_add(&moved_s, 61);
    FX_AWAIT(fx, fx_progress(fx).failed == 0);
    fx_idle(fx);
    assert_true(fx_is(fx, 1, "copy", "text"));
}

static int setup(void **state)
{
    atomic_store(&moved_s, 0);
    return fx_setup(state);
}

static int teardown(void **state)
{
    struct fx *fx = *state;
    for (unsigned i = 0; i < fx->n_fault; i++) {
        be_fault_clear(fx->fault[i]); /* a test that failed left calls behind */
    }
    return fx_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(read_ahead_is_given_up), T(what_is_needed_waits), T(slow_is_not_hung), T(archived_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
