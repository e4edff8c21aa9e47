/* Several threads on a few keys over a provider that fails at random: what is left is the last acknowledged operation of
 * each key. Every thread owns its keys, so that "last" is known; they share remotes, journal, spool and directories.
 * OBJMIG_SEED replays the operations; the interleaving is the machine's. */
#include "harness.h"

#include <errno.h>
#include <pthread.h>

#include "mem.h"

#define THREADS 6
#define KEYS 4
#define OPS 120

struct worker {
    pthread_t thread;
    struct fx *fx;
    unsigned n;
    uint64_t rng;
    unsigned id[KEYS]; /* content; 0 = absent */
    unsigned next_id;
    int failed;
    char what[80];
};

static unsigned rnd(uint64_t *s, unsigned n)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*s >> 33) % n;
}

static size_t content_len(unsigned id)
{
    return id % 7 == 0 ? 2 * FX_THRESHOLD + id % 100 : 10 + id % 500;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    char *p = malloc(3 * (size_t)FX_THRESHOLD);
    for (unsigned i = 0; i < OPS && w->failed == 0; i++) {
        unsigned a = rnd(&w->rng, KEYS), b = rnd(&w->rng, KEYS), kind = rnd(&w->rng, 10);
        char ka[32], kb[32];
        (void)snprintf(ka, sizeof(ka), "d/%u-%u", w->n, a);
        (void)snprintf(kb, sizeof(kb), "d/%u-%u", w->n, b);
        int err = 0;
        if (kind < 5) {
            unsigned id = ++w->next_id;
            fx_pattern(p, content_len(id), 0, w->n * 100000 + id);
            err = fx_put(w->fx, 0, ka, p, content_len(id));
            w->id[a] = id;
        } else if (w->id[a] != 0 && kind == 5) {
            err = fx_unlink(w->fx, 0, ka);
            w->id[a] = 0;
        } else if (w->id[a] != 0 && a != b && kind < 8) {
            err = fx_rename(w->fx, 0, ka, kb, 0);
            w->id[b] = w->id[a];
            w->id[a] = 0;
        } else if (w->id[a] != 0 && a != b) {
            err = fx_cp(w->fx, 0, ka, 0, kb);
            w->id[b] = w->id[a];
        }
        if (err < 0) {
            w->failed = err;
            (void)snprintf(w->what, sizeof(w->what), "op %u kind %u %s %s", i, kind, ka, kb);
        }
        if (rnd(&w->rng, 3) == 0) {
            fx_sleep_ms(rnd(&w->rng, 15));
        }
    }
    free(p);
    return NULL;
}

static void many_threads(void **state)
{
    struct fx fx;
    const char *seed = getenv("OBJMIG_SEED");
    uint64_t rng = seed != NULL ? strtoull(seed, NULL, 10) : 20261120;
    print_message("# seed %llu\n", (unsigned long long)rng);
    fx_init(&fx, "memory");
    fx.opt.writeback_delay_ms = 3;
    fx_open(&fx);
    const enum be_kind kinds[] = {BE_WRITE, BE_COPY, BE_REMOVE, BE_MP_PART, BE_MP_COMMIT, BE_STAT, BE_MP_BEGIN};
    for (unsigned i = 0; i < 21; i++) {
        enum be_kind kind = kinds[i % 7];
        fx_fault(&fx, 0, kind, rnd(&rng, 12), 1, -EIO, ERR_TRANSIENT, kind != BE_STAT && kind != BE_MP_BEGIN && rnd(&rng, 2));
        fx_delay(&fx, 0, kind, rnd(&rng, 4), 5, 5 + rnd(&rng, 30));
    }
    struct worker w[THREADS] = {0};
    for (unsigned i = 0; i < THREADS; i++) {
        w[i].fx = &fx;
        w[i].n = i;
        w[i].rng = rng + i * 977;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        if (w[i].failed != 0) {
            fail_msg("thread %u: %s: %s", i, w[i].what, strerror(-w[i].failed));
        }
    }
    be_fault_clear(fx.fault[0]);
    if (!fx_idle_within(&fx, 30000)) {
        fx_report(&fx);
        fail_msg("work is left");
    }
    if (fx_progress(&fx).failed != 0) {
        fx_report(&fx);
    }
    assert_int_equal(fx_progress(&fx).failed, 0);
    char *want = malloc(3 * (size_t)FX_THRESHOLD), *got = malloc(3 * (size_t)FX_THRESHOLD);
    for (unsigned i = 0; i < THREADS; i++) {
        for (unsigned k = 0; k < KEYS; k++) {
            char key[32];
            (void)snprintf(key, sizeof(key), "d/%u-%u", i, k);
            ssize_t n = fx_at(&fx, 0, key, got, 3 * (size_t)FX_THRESHOLD);
            if (w[i].id[k] == 0) {
                assert_int_equal(n, -ENOENT);
                continue;
            }
            assert_int_equal(n, content_len(w[i].id[k]));
            fx_pattern(want, (size_t)n, 0, i * 100000 + w[i].id[k]);
            assert_memory_equal(got, want, (size_t)n);
        }
    }
    free(want);
    free(got);
    fx_fini(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
