/* SIGKILL at random moments, over two directories. A child works and notes in shared memory what was acknowledged; the
 * parent opens what it left behind.
 *
 * The child does one thing at a time, so that what must be there is known but for the one operation in flight: that may
 * have happened or not, wholly. OBJMIG_SEED replays the order of operations and kills. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem.h"
#include "sync.h"

#define KEYS 8
#define KILLS 40
#define BIG (3u * FX_THRESHOLD + 5)

enum what { W_NONE, W_PUT, W_UNLINK, W_RENAME, W_COPY, W_OPEN };

struct model {
    unsigned id[FX_REMOTES][KEYS]; /* content; 0 = absent */
    enum what what;                /* in flight */
    unsigned r, k, to_r, to_k, new_id;
    unsigned next_id, done;
    uint64_t rng;
};

static struct model *m; /* shared with the child */

static unsigned rnd(uint64_t *s, unsigned n)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*s >> 33) % n;
}

static void key_name(unsigned k, char ret[16])
{
    (void)snprintf(ret, 16, k % 2 ? "d/k%u" : "k%u", k);
}

static size_t content_len(unsigned id)
{
    return id % 5 == 0 ? BIG + id % 1000 : 20 + id % 3000;
}

static char *content(unsigned id)
{
    char *p = malloc(content_len(id));
    fx_pattern(p, content_len(id), 0, id);
    return p;
}

/* What the operation in flight makes of the model. */
static void apply(struct model *x)
{
    switch (x->what) {
    case W_PUT:
    case W_COPY:
        x->id[x->to_r][x->to_k] = x->new_id;
        break;
    case W_UNLINK:
        x->id[x->to_r][x->to_k] = 0;
        break;
    case W_RENAME:
        x->id[x->to_r][x->to_k] = x->id[x->r][x->k];
        x->id[x->r][x->k] = 0;
        break;
    case W_OPEN:
    case W_NONE:
        break;
    }
    x->what = W_NONE;
}

static void work(struct fx *fx)
{
    fx_open(fx);
    for (;;) {
        char from[16], to[16];
        unsigned kind = rnd(&m->rng, 10);
        m->r = m->to_r = rnd(&m->rng, FX_REMOTES);
        m->k = rnd(&m->rng, KEYS);
        m->to_k = rnd(&m->rng, KEYS);
        int err = 0;
        if (kind < 4) {
            m->new_id = m->next_id++;
            key_name(m->to_k, to);
            CLEANUP(mem_freep) char *p = content(m->new_id);
            m->what = W_PUT;
            err = fx_put(fx, m->to_r, to, p, content_len(m->new_id));
        } else if (kind == 4) {
            /* open, half written, and left: never sealed, so never published */
            struct chandle *h;
            key_name(m->to_k, to);
            m->what = W_OPEN;
            if (m->id[m->to_r][m->to_k] == 0 && fx_lookup(fx, m->to_r, to, NULL) == -ENOENT &&
                fx_create(fx, m->to_r, to, &h) == 0) {
                (void)fx_write(fx, h, 0, "UNSEALED", 8);
                fx_sleep_ms(rnd(&m->rng, 5));
                m->new_id = m->next_id++;
                CLEANUP(mem_freep) char *p = content(m->new_id);
                err = fx_write(fx, h, 0, p, content_len(m->new_id));
                m->what = W_PUT;
                int end = fx_end(fx, h);
                err = err < 0 ? err : end;
            }
        } else {
            while (m->id[m->r][m->k] == 0 && m->done > 0 && rnd(&m->rng, 20) > 0) {
                m->k = rnd(&m->rng, KEYS);
            }
            if (m->id[m->r][m->k] == 0) {
                continue;
            }
            key_name(m->k, from);
            if (kind < 6) {
                m->to_k = m->k;
                m->what = W_UNLINK;
                err = fx_unlink(fx, m->r, from);
            } else if (kind < 8 && m->to_k != m->k) {
                key_name(m->to_k, to);
                m->what = W_RENAME;
                err = fx_rename(fx, m->r, from, to, 0);
            } else {
                m->to_r = !m->r;
                m->new_id = m->id[m->r][m->k];
                key_name(m->to_k, to);
                m->what = W_COPY;
                err = fx_cp(fx, m->r, from, m->to_r, to);
            }
        }
        if (err < 0) {
            (void)fprintf(stderr, "op %d r%u k%u to r%u k%u: %s\n", (int)m->what, m->r, m->k, m->to_r, m->to_k, strerror(-err));
            _exit(3);
        }
        apply(m);
        m->done++;
        if (rnd(&m->rng, 4) == 0) {
            fx_sleep_ms(rnd(&m->rng, 12));
        }
    }
}

static bool same(struct fx *fx, unsigned r, unsigned k, unsigned id)
{
    char key[16];
    key_name(k, key);
    size_t max = BIG + 2000;
    CLEANUP(mem_freep) char *got = malloc(max);
    ssize_t n = fx_at(fx, r, key, got, max);
    if (id == 0) {
        return n == -ENOENT;
    }
    CLEANUP(mem_freep) char *want = content(id);
    return n == (ssize_t)content_len(id) && memcmp(got, want, (size_t)n) == 0;
}

static bool all_same(struct fx *fx, const struct model *x, char *ret_why, size_t size)
{
    for (unsigned r = 0; r < FX_REMOTES; r++) {
        for (unsigned k = 0; k < KEYS; k++) {
            if (!same(fx, r, k, x->id[r][k])) {
                char key[16], got[64] = "";
                key_name(k, key);
                ssize_t n = fx_at(fx, r, key, got, 8);
                (void)snprintf(ret_why, size, "remote %u key %s should be content %u (%zu bytes): %zd bytes there", r, key,
                               x->id[r][k], x->id[r][k] ? content_len(x->id[r][k]) : 0, n);
                return false;
            }
        }
    }
    return true;
}

static unsigned spool_count(struct fx *fx)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/cache/tmp", fx->dir);
    unsigned n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        n += e->d_name[0] != '.';
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return n;
}

static void killed(void **state)
{
    struct fx fx;
    const char *seed = getenv("OBJMIG_SEED");
    fx_init(&fx, "local");
    fx.opt.writeback_delay_ms = 5;
    m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    memset(m, 0, sizeof(*m));
    m->next_id = 1;
    m->rng = seed != NULL ? strtoull(seed, NULL, 10) : 20261120;
    print_message("# seed %llu\n", (unsigned long long)m->rng);
    uint64_t kill_rng = m->rng ^ 0x5eed;
    for (unsigned i = 0; i < KILLS; i++) {
        m->what = W_NONE;
        pid_t pid = fork();
        if (pid == 0) {
            work(&fx);
            _exit(0);
        }
        /* after a few operations, and then at any moment of one */
        unsigned done = m->done + rnd(&kill_rng, 5);
        fx_sleep_ms(15);
        FX_AWAIT(&fx, *(volatile unsigned *)&m->done >= done);
        fx_sleep_ms(rnd(&kill_rng, 90));
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* it had no error of its own */
        struct model before = *m, after = *m;
        apply(&after);
        before.what = W_NONE;

        fx_open(&fx);
        fx_idle(&fx);
        struct cprogress p = fx_progress(&fx);
        if (p.failed > 0) {
            fx_report(&fx);
        }
        assert_int_equal(p.failed, 0);
        char why[200], why2[200];
        bool was = all_same(&fx, &before, why, sizeof(why));
        bool is = all_same(&fx, &after, why2, sizeof(why2));
        if (!was && !is) {
            fail_msg("kill %u (after %u operations, in flight %d r%u k%u to r%u k%u): without it: %s; with it: %s", i, m->done,
                     (int)m->what, m->r, m->k, m->to_r, m->to_k, why, why2);
        }
        *m = is ? after : before;
        FX_AWAIT(&fx, fx_at_uploads(&fx, 0) + fx_at_uploads(&fx, 1) == 0); /* aborts go behind */
        /* The mount shows the same. */
        for (unsigned r = 0; r < FX_REMOTES; r++) {
            for (unsigned k = 0; k < KEYS; k++) {
                char key[16];
                key_name(k, key);
                assert_int_equal(fx_lookup(&fx, r, key, NULL), m->id[r][k] != 0 ? 0 : -ENOENT);
            }
        }
        fx_close(&fx);
        /* A second recovery finds nothing to do, and no bytes that nobody names. */
        fx_open_cache(&fx);
        p = fx_progress(&fx);
        assert_int_equal(p.files_left, 0);
        assert_in_range(spool_count(&fx), 0, p.unfinished);
        fx_add_remotes(&fx);
        fx_close(&fx);
    }
    print_message("# %u operations survived %u kills\n", m->done, KILLS);
    assert_true(m->done > KILLS);
    (void)munmap(m, sizeof(*m));
    fx_fini(&fx);
}

/* A pending copy, truncated and held open, when its source is overwritten and somebody waits for that: a kill does not make the
 * copy one of what came later. */
static void truncate_a_copy(struct fx *fx)
{
    struct chandle *h, *s;
    fx_open(fx);
    bool ok = fx_cp(fx, 0, "s", 1, "t") == 0 && fx_lookup(fx, 1, "t", NULL) == 0 &&
              fx_openf(fx, 1, "t", O_WRONLY | O_TRUNC, &h) == 0 && fx_put(fx, 0, "s", "VERSION TWO", 11) == 0 &&
              fx_openf(fx, 0, "s", O_RDWR, &s) == 0 && fx_fsync(fx, s) == 0;
    (void)kill(getpid(), ok ? SIGKILL : SIGTERM);
}

static void truncated_copy(void **state)
{
    struct fx fx;
    int status = 0;
    fx_init(&fx, "local");
    fx_at_put(&fx, 0, "s", "version one");
    fx_close(&fx); /* nobody looks while the process forks */
    pid_t pid = fork();
    if (pid == 0) {
        truncate_a_copy(&fx);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    fx_open(&fx);
    fx_idle(&fx);
    assert_int_equal(fx_progress(&fx).failed, 0);
    assert_at(&fx, 0, "s", "VERSION TWO");
    assert_at(&fx, 1, "t", NULL); /* it was open: unfinished */
    assert_int_equal(fx_progress(&fx).unfinished, 1);
    fx_fini(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(truncated_copy), cmocka_unit_test(killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
