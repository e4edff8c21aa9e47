/* Many operations at once: overwriting while reading, cancelling, closing. */
#include "contract.h"
#include "mem.h"
#include "sync.h"

#define IN_FLIGHT 64

/* Counts ends, and wakes who waits for all. */
struct tally {
    struct mutex lock;
    struct cond ended;
    unsigned left; /* lock */
};

static void tally_done(struct be_op *op)
{
    struct tally *y = op->owner;
    mutex_lock(&y->lock);
    assert_true(y->left > 0);
    if (--y->left == 0) {
        cond_signal(&y->ended);
    }
    mutex_unlock(&y->lock);
}

static void tally_init(struct tally *y, unsigned n)
{
    mutex_init(&y->lock, RANK_STORE);
    cond_init(&y->ended);
    y->left = n;
}

static void tally_wait(struct tally *y)
{
    mutex_lock(&y->lock);
    while (y->left > 0) {
        cond_wait(&y->ended, &y->lock);
    }
    mutex_unlock(&y->lock);
    cond_fini(&y->ended);
    mutex_fini(&y->lock);
}

static void many_at_once(void **state)
{
    struct target *t = target_of(state);
    static struct be_write writes[IN_FLIGHT];
    static struct be_read reads[IN_FLIGHT];
    static char bufs[IN_FLIGHT][64];
    struct tally y;
    memset(writes, 0, sizeof(writes));
    memset(reads, 0, sizeof(reads));
    tally_init(&y, IN_FLIGHT);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "load/%u/%u", i % 5, i);
        const char *key = key_of(t, text);
        writes[i] = (struct be_write){
            .op = {.key = key, .done = tally_done, .owner = &y, .lane = BE_LANE_SMALL},
            .data = key,
            .len = strlen(key)};
        be_write(t->be, &writes[i]);
    }
    tally_wait(&y);
    tally_init(&y, IN_FLIGHT);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        assert_int_equal(writes[i].op.status, 0);
        reads[i] =
            (struct be_read){.op = {.key = writes[i].op.key, .done = tally_done, .owner = &y},
                             .buf = bufs[i],
                             .len = sizeof(bufs[i])};
        be_read(t->be, &reads[i]);
    }
    tally_wait(&y);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        assert_int_equal(reads[i].op.status, 0);
        assert_int_equal(reads[i].got, strlen(reads[i].op.key));
        assert_memory_equal(bufs[i], reads[i].op.key, reads[i].got);
        assert_string_equal(reads[i].object.etag, writes[i].object.etag);
        be_read_fini(&reads[i]);
        drop(t, reads[i].op.key);
    }
}

/* A read while the object is overwritten again and again: every one sees a whole version. */
static void overwriting_is_atomic(void **state)
{
    struct target *t = target_of(state);
    enum { SIZE = 100000, ROUNDS = 12, READERS = 8 };
    const char *key = key_of(t, "atomic");
    CLEANUP(mem_freep) char *versions = mem_zalloc(2 * (SIZE + 1000));
    char *data[2] = {versions, versions + SIZE + 1000};
    const size_t len[2] = {SIZE, SIZE + 1000};
    memset(data[0], 'a', len[0]);
    memset(data[1], 'b', len[1]);
    CLEANUP(mem_freep) char *bufs = mem_zalloc((size_t)READERS * 2 * SIZE);
    char etags[2][BE_ETAG_MAX];
    put(t, key, data[0], len[0]);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct be_read reads[READERS];
        struct be_write w;
        struct tally y;
        memset(reads, 0, sizeof(reads));
        tally_init(&y, READERS + 1);
        unsigned v = (round + 1) % 2;
        w = (struct be_write){
            .op = {.key = key, .done = tally_done, .owner = &y}, .data = data[v], .len = len[v]};
        for (unsigned i = 0; i < READERS; i++) {
            if (i == READERS / 2) {
                be_write(t->be, &w);
            }
            reads[i] = (struct be_read){.op = {.key = key, .done = tally_done, .owner = &y},
                                        .buf = bufs + (size_t)i * 2 * SIZE,
                                        .len = 2 * SIZE};
            be_read(t->be, &reads[i]);
        }
        tally_wait(&y);
        assert_int_equal(w.op.status, 0);
        memcpy(etags[v], w.object.etag, sizeof(etags[v]));
        for (unsigned i = 0; i < READERS; i++) {
            if (reads[i].op.status != 0) {
                fail_msg("read: %s", reads[i].op.err.message);
            }
            const char *got = reads[i].buf;
            unsigned which = got[0] == 'a' ? 0 : 1;
            assert_int_equal(reads[i].got, len[which]);
            assert_int_equal(reads[i].object.size, len[which]);
            assert_memory_equal(got, data[which], len[which]);
            if (round > 0) {
                assert_string_equal(reads[i].object.etag, etags[which]);
            }
            be_read_fini(&reads[i]);
        }
    }
    drop(t, key);
}

/* Two writers that expect the same version: one of them wins. */
static void one_of_two_wins(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_IF_MATCH, "write depending on an etag");
    const char *key = key_of(t, "race");
    struct be_object base;
    put_meta(t, key, TEXT("base"), NULL, &base);
    struct be_write w[8];
    struct tally y;
    memset(w, 0, sizeof(w));
    tally_init(&y, ARRAY_LEN(w));
    static const char letters[] = "abcdefgh";
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        w[i] = (struct be_write){.op = {.key = key, .done = tally_done, .owner = &y},
                                 .data = letters + i,
                                 .len = 1,
                                 .if_match = base.etag};
        be_write(t->be, &w[i]);
    }
    tally_wait(&y);
    size_t winners = 0;
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        if (w[i].op.status == 0) {
            expect_content(t, key, letters + i, 1);
            winners++;
        } else {
            assert_true(w[i].op.err.cls == ERR_PRECOND || w[i].op.err.outcome_unknown);
        }
    }
    assert_int_equal(winners, 1);
    drop(t, key);
}

/* Everything ends once, canceled or not, before close returns. */
static void cancel_and_close(void **state)
{
    struct target *t = target_of(state);
    struct be *be = open_again(t);
    static struct be_write writes[IN_FLIGHT];
    memset(writes, 0, sizeof(writes));
    struct tally y;
    tally_init(&y, IN_FLIGHT);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "cancel/%u", i);
        writes[i] =
            (struct be_write){.op = {.key = key_of(t, text), .done = tally_done, .owner = &y},
                              .data = "abc",
                              .len = 3};
        be_write(be, &writes[i]);
    }
    for (unsigned i = 0; i < IN_FLIGHT; i += 2) {
        be_cancel(&writes[i].op);
    }
    be_close(be);
    assert_int_equal(y.left, 0);
    tally_wait(&y);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        if (i % 2 == 1) {
            assert_int_equal(writes[i].op.status, 0);
        } else if (writes[i].op.status != 0) {
            assert_int_equal(writes[i].op.err.cls, ERR_CANCELED);
        }
        drop(t, writes[i].op.key);
    }
}

static void deadline_in_the_past(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "deadline");
    struct be_write w = {.op = {.key = key, .deadline_ns = 1}, .data = "x", .len = 1};
    assert_true(BE_SYNC(t->be, be_write, &w) < 0);
    assert_true(w.op.err.cls == ERR_TRANSIENT || w.op.err.cls == ERR_CANCELED);
    drop(t, key);
}

const struct contract_test tests_load[] = {
    {"64 operations at once", many_at_once},
    {"overwriting is atomic", overwriting_is_atomic},
    {"one of many conditional writers wins", one_of_two_wins},
    {"cancel and close with operations in flight", cancel_and_close},
    {"a deadline that has passed", deadline_in_the_past},
    {0},
};
