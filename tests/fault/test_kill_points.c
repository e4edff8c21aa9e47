/* SIGKILL at every kill point (kill.h). A child runs a script of file operations over two directories; once to count how often
 * each point is met, then once for each meeting, which ends it there. Half of the recoveries are killed as well. What is
 * recovered must be the state before or after the operation that was in flight, wholly, at the provider and in the mount.
 *
 * OBJMIG_KILL_POINTS: how many meetings (each point's first and last, and others picked by OBJMIG_SEED), or "all".
 * OBJMIG_KILL_AT: one, as a failure names it, 30 times. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kill.h"
#include "mem.h"
#include "sync.h"

#define POINTS_DEFAULT 100
#define POINTS_MIN 25
#define POINTS_MAX 64
#define BIG (3u * FX_THRESHOLD + 5)
#define STREAM (2u << 20) /* the spool is half of it */
#define PATCHED 100       /* content id + PATCHED: with a few bytes changed in its middle */

enum name { A, B, C, T, LARGE, LONG, LONG2, DX, DY, EX, EY, NAMES };
static const char *const names[NAMES] = {"a", "b", "c", "t", "large", "long", "long2", "d/x", "d/y", "e/x", "e/y"};

enum op { PUT, PUTMV, PATCH, CP, MV, SWAP, RM, CHMOD, MKDIR, MVDIR, RMDIR, IDLE };

/* r, name → to_r, to; id: content, or mode of CHMOD. PUTMV is written as `name` and renamed before it is closed. Of MVDIR the directory's first name stands for it. */
static const struct step {
    enum op op;
    unsigned r;
    enum name name;
    unsigned to_r;
    enum name to;
    unsigned id;
} script[] = {
    {.op = PUT, .to = A, .id = 1},
    {.op = PUT, .to = B, .id = 2},
    {.op = PUT, .to = LARGE, .id = 5},
    {.op = IDLE},
    {.op = PUT, .to = A, .id = 3}, /* over what is committed */
    {.op = PUT, .to = B, .id = 4},
    {.op = PUT, .to = B, .id = 6}, /* over what is pending */
    {.op = CP, .name = LARGE, .to_r = 1, .to = LARGE},
    {.op = CP, .name = A, .to_r = 1, .to = A},
    {.op = MV, .name = B, .to = C},
    {.op = IDLE},
    {.op = PATCH, .to = LARGE},
    {.op = CP, .name = A, .to = B},
    {.op = PUT, .to = A, .id = 7}, /* over the source of a pending copy */
    {.op = MV, .name = C, .to = A},
    {.op = IDLE},
    {.op = CP, .name = A, .to = T}, /* a swap: the last one hydrates */
    {.op = CP, .name = B, .to = A},
    {.op = MV, .name = T, .to = B},
    {.op = IDLE},
    {.op = SWAP, .name = A, .to = B},
    {.op = CHMOD, .to = A, .id = 0600},
    {.op = IDLE},
    {.op = CHMOD, .to = B, .id = 0640},
    {.op = MKDIR, .name = DX},
    {.op = PUT, .to = DX, .id = 8},
    {.op = PUT, .to = DY, .id = 10},
    {.op = IDLE},
    {.op = PUT, .to = DY, .id = 9},
    {.op = MVDIR, .name = DX, .to = EX},
    {.op = MVDIR, .name = EX, .to = DX}, /* and back before it is there */
    {.op = MVDIR, .name = DX, .to = EX},
    {.op = PUT, .to_r = 1, .to = LONG, .id = 99}, /* larger than the spool */
    {.op = RM, .to = LARGE},
    {.op = RM, .to_r = 1, .to = LARGE},
    {.op = MV, .r = 1, .name = LONG, .to_r = 1, .to = LONG2},
    {.op = IDLE},
    {.op = PUTMV, .r = 1, .name = T, .to_r = 1, .to = LONG, .id = 99},
    {.op = PUT, .to_r = 1, .to = T, .id = 12},
    {.op = RM, .to = EX},
    {.op = RM, .to = EY},
    {.op = RMDIR, .name = EX},
    {.op = PUT, .to = LARGE, .id = 15},
    {.op = RM, .to = LARGE}, /* its upload may have begun */
    {.op = PUT, .to = LARGE, .id = 20},
    {.op = PUT, .to = LARGE, .id = 11},
    {.op = IDLE},
};

struct image {
    struct {
        unsigned id, mode; /* id 0 = absent */
    } f[FX_REMOTES][NAMES];
};

static struct {
    struct image now;
    unsigned at; /* step in flight */
    bool finished;
    struct {
        const char *point;
        unsigned n;
    } met[POINTS_MAX];
    pthread_mutex_t lock;
    const char *target; /* NULL: any */
    unsigned target_n;  /* 0: none */
    unsigned any;
} * sh; /* shared with the children */

static unsigned rnd(uint64_t *s, unsigned n)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*s >> 33) % n;
}

static void die_at(const char *point)
{
    (void)pthread_mutex_lock(&sh->lock);
    unsigned i = 0;
    while (sh->met[i].point != NULL && strcmp(sh->met[i].point, point) != 0) {
        i++;
    }
    ENSURE(i + 1 < POINTS_MAX);
    sh->met[i].point = point;
    sh->met[i].n++;
    sh->any++;
    unsigned n = sh->target == NULL ? sh->any : strcmp(sh->target, point) == 0 ? sh->met[i].n : 0;
    if (sh->target_n != 0 && n == sh->target_n) {
        (void)kill(getpid(), SIGKILL);
        for (;;) {
            (void)pause(); /* under the lock: no other thread meets a point */
        }
    }
    (void)pthread_mutex_unlock(&sh->lock);
}

static size_t content_len(unsigned id)
{
    id %= PATCHED;
    return id == 99 ? STREAM : id % 5 == 0 ? BIG + id : 20 + id * 10;
}

static char *content(unsigned id)
{
    char *p = malloc(content_len(id));
    fx_pattern(p, content_len(id), 0, id % PATCHED);
    if (id >= PATCHED) {
        memcpy(p + content_len(id) / 2, "PATCH", 5);
    }
    return p;
}

/* What a step makes of the files. */
static void apply(struct image *m, const struct step *s)
{
    switch (s->op) {
    case PUT:
        if (m->f[s->to_r][s->to].id == 0) {
            m->f[s->to_r][s->to].mode = 0644;
        }
        m->f[s->to_r][s->to].id = s->id;
        break;
    case PUTMV:
        m->f[s->to_r][s->to].id = s->id;
        m->f[s->to_r][s->to].mode = 0644;
        m->f[s->r][s->name].id = 0;
        break;
    case PATCH:
        m->f[s->to_r][s->to].id += PATCHED;
        break;
    case CP:
        if (m->f[s->to_r][s->to].id == 0) {
            m->f[s->to_r][s->to].mode = 0644;
        }
        m->f[s->to_r][s->to].id = m->f[s->r][s->name].id;
        break;
    case MV:
    case SWAP: {
        unsigned id = m->f[s->r][s->to].id, mode = m->f[s->r][s->to].mode;
        m->f[s->r][s->to] = m->f[s->r][s->name];
        m->f[s->r][s->name].id = s->op == SWAP ? id : 0;
        m->f[s->r][s->name].mode = mode;
        break;
    }
    case RM:
        m->f[s->to_r][s->to].id = 0;
        break;
    case CHMOD:
        m->f[s->to_r][s->to].mode = s->id;
        break;
    case MVDIR:
        for (unsigned i = 0; i < 2; i++) {
            m->f[s->r][s->to + i] = m->f[s->r][s->name + i];
            m->f[s->r][s->name + i].id = 0;
        }
        break;
    case MKDIR:
    case RMDIR:
    case IDLE:
        break;
    }
}

static int put(struct fx *fx, const struct step *s)
{
    CLEANUP(mem_freep) char *p = content(s->id);
    if (s->id != 99) {
        return fx_put(fx, s->to_r, names[s->to], p, content_len(s->id));
    }
    struct chandle *h;
    int err = fx_create(fx, s->to_r, names[s->op == PUTMV ? s->name : s->to], &h);
    for (size_t off = 0; err == 0 && off < STREAM; off += FX_THRESHOLD) {
        err = fx_write(fx, h, off, p + off, FX_THRESHOLD);
    }
    if (err == 0 && s->op == PUTMV) {
        err = fx_rename(fx, s->r, names[s->name], names[s->to], 0);
    }
    int end = fx_end(fx, h);
    return err < 0 ? err : end;
}

static int patch(struct fx *fx, const struct step *s)
{
    struct chandle *h;
    int err = fx_lookup(fx, s->to_r, names[s->to], NULL);
    err = err == 0 ? fx_openf(fx, s->to_r, names[s->to], O_RDWR, &h) : err;
    if (err < 0) {
        return err;
    }
    err = fx_write(fx, h, content_len(sh->now.f[s->to_r][s->to].id) / 2, "PATCH", 5);
    int end = fx_end(fx, h);
    return err < 0 ? err : end;
}

static int run_step(struct fx *fx, const struct step *s)
{
    char from[] = {names[s->name][0], '/', '\0'}, to[] = {names[s->to][0], '/', '\0'};
    struct cattr a = {.mode = s->id};
    switch (s->op) {
    case PUT:
    case PUTMV:
        return put(fx, s);
    case PATCH:
        return patch(fx, s);
    case CP:
        return fx_cp(fx, s->r, names[s->name], s->to_r, names[s->to]);
    case MV:
        return fx_rename(fx, s->r, names[s->name], names[s->to], 0);
    case SWAP:
        return fx_rename(fx, s->r, names[s->name], names[s->to], RENAME_EXCHANGE);
    case RM:
        return fx_unlink(fx, s->to_r, names[s->to]);
    case CHMOD:
        return fx_setattr(fx, s->to_r, names[s->to], CSET_MODE, &a);
    case MKDIR:
        return fx_mkdir(fx, s->r, from);
    case MVDIR:
        return fx_rename(fx, s->r, from, to, 0);
    case RMDIR:
        return fx_rmdir(fx, s->r, from);
    case IDLE:
        return fx_idle_within(fx, FX_PATIENCE_MS) ? 0 : -ETIMEDOUT;
    }
    return -EINVAL;
}

static void work(struct fx *fx)
{
    fx_open(fx);
    for (sh->at = 0; sh->at < ARRAY_LEN(script); sh->at++) {
        int err = run_step(fx, &script[sh->at]);
        if (err < 0) {
            (void)fprintf(stderr, "step %u: %s\n", sh->at, strerror(-err));
            _exit(3);
        }
        apply(&sh->now, &script[sh->at]);
    }
    sh->finished = true;
    fx_close(fx);
}

static void recover(struct fx *fx)
{
    fx_open(fx);
    (void)fx_idle_within(fx, FX_PATIENCE_MS);
    fx_close(fx);
}

/* Runs what in a child that dies at the n-th meeting of a point (NULL: of any; n 0: never). */
static bool child_killed(struct fx *fx, void (*what)(struct fx *fx), const char *point, unsigned n)
{
    pthread_mutexattr_t shared;
    (void)pthread_mutexattr_init(&shared);
    (void)pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutex_init(&sh->lock, &shared);
    memset(sh->met, 0, sizeof(sh->met));
    sh->any = 0;
    sh->target = point;
    sh->target_n = n;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        kill_hook = die_at;
        what(fx);
        _exit(0);
    }
    int status = 0;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 0) {
        fail_msg("step %u went wrong by itself", sh->at);
    }
    return WIFSIGNALED(status);
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

/* NULL, or what differs between the providers and the image. */
static char *differs(struct fx *fx, const struct image *m)
{
    CLEANUP(mem_freep) char *got = malloc(STREAM + 1);
    for (unsigned r = 0; r < FX_REMOTES; r++) {
        CLEANUP(mem_freep) char *keys = fx_at_keys(fx, r);
        unsigned n = 0;
        for (unsigned i = 0; i < NAMES; i++) {
            unsigned id = m->f[r][i].id;
            ssize_t len = fx_at(fx, r, names[i], got, STREAM + 1);
            n += id != 0;
            if (id == 0 && len != -ENOENT) {
                return mem_printf("%u:%s is there (%zd bytes)", r, names[i], len);
            }
            if (id == 0) {
                continue;
            }
            CLEANUP(mem_freep) char *want = content(id);
            if (len != (ssize_t)content_len(id) || memcmp(got, want, (size_t)len) != 0) {
                return mem_printf("%u:%s is not content %u (%zu bytes): %zd bytes", r, names[i], id, content_len(id), len);
            }
            struct cattr a = {0};
            int err = fx_lookup(fx, r, names[i], &a);
            if (err < 0 || (a.mode & 07777) != m->f[r][i].mode) {
                return mem_printf("%u:%s has mode %o for %o (%d)", r, names[i], a.mode, m->f[r][i].mode, err);
            }
        }
        unsigned there = 0;
        for (const char *p = keys; *p != '\0'; p += strcspn(p, " "), p += *p == ' ') {
            there += p[strcspn(p, " ") - 1] != '/';
        }
        if (there != n) {
            return mem_printf("%u holds %u objects for %u: %s", r, there, n, keys);
        }
    }
    return NULL;
}

static void check(struct fx *fx, const char *what)
{
    struct image before = sh->now, after = sh->now;
    if (!sh->finished) {
        apply(&after, &script[sh->at]);
    }
    fx_open(fx);
    if (!fx_idle_within(fx, FX_PATIENCE_MS)) {
        fx_report(fx);
        fail_msg("%s, step %u: work is left", what, sh->at);
    }
    struct cprogress p = fx_progress(fx);
    if (p.failed > 0) {
        fx_report(fx);
        fail_msg("%s, step %u: failures", what, sh->at);
    }
    CLEANUP(mem_freep) char *without = differs(fx, &before);
    CLEANUP(mem_freep) char *with = differs(fx, &after);
    if (without != NULL && with != NULL) {
        fx_report(fx);
        fail_msg("%s, step %u: as if it had not happened: %s; as if it had: %s", what, sh->at, without, with);
    }
    const struct image *is = with == NULL ? &after : &before;
    for (unsigned r = 0; r < FX_REMOTES; r++) {
        for (unsigned i = 0; i < NAMES; i++) {
            assert_int_equal(fx_lookup(fx, r, names[i], NULL), is->f[r][i].id != 0 ? 0 : -ENOENT);
        }
    }
    unsigned uploads = 1;
    for (unsigned t = 0; t < FX_PATIENCE_MS / 5 && (uploads = fx_at_uploads(fx, 0) + fx_at_uploads(fx, 1)) > 0; t++) {
        fx_sleep_ms(5); /* aborts go behind */
    }
    if (uploads > 0) {
        fail_msg("%s, step %u: %u uploads are left behind", what, sh->at, uploads);
    }
    fx_close(fx);
    /* A second recovery finds nothing to do, and no bytes that nobody names. */
    fx_open_cache(fx);
    p = fx_progress(fx);
    if (p.files_left > 0 || spool_count(fx) > p.unfinished) {
        fail_msg("%s, step %u: %llu files and %u spool files are left, %llu unfinished", what, sh->at,
                 (unsigned long long)p.files_left, spool_count(fx), (unsigned long long)p.unfinished);
    }
    fx_add_remotes(fx);
    fx_close(fx);
}

static void start(struct fx *fx)
{
    fx_init(fx, "local");
    fx->opt.writeback_delay_ms = 3;
    fx->opt.cache_size = STREAM / 2;
    for (unsigned r = 0; r < FX_REMOTES; r++) {
        fx->conf[r].request_timeout_ms = 100;
    }
    memset(&sh->now, 0, sizeof(sh->now));
    sh->at = 0;
    sh->finished = false;
}

struct meeting {
    const char *point;
    unsigned n;
};

/* "point n", 30 times. */
static struct meeting *replay(const char *at, unsigned *ret_n)
{
    const char *number = strrchr(at, ' ');
    assert_non_null(number);
    struct meeting *v = mem_zalloc(30 * sizeof(*v));
    char *point = mem_strndup(at, (size_t)(number - at));
    for (*ret_n = 0; *ret_n < 30; (*ret_n)++) {
        v[*ret_n] = (struct meeting){point, (unsigned)strtoul(number + 1, NULL, 10)};
    }
    return v;
}

/* Of total meetings which are made: each point's first and last, and others by seed until there are `budget`. */
static struct meeting *choose(unsigned budget, uint64_t seed, unsigned *ret_n, unsigned *ret_total)
{
    struct meeting *v = NULL;
    unsigned n = 0, total = 0;
    for (unsigned i = 0; sh->met[i].point != NULL; i++) {
        total += sh->met[i].n;
    }
    unsigned others = budget > 2 * POINTS_MIN ? budget - 2 * POINTS_MIN : 0;
    v = mem_zalloc(total * sizeof(*v));
    for (unsigned i = 0; sh->met[i].point != NULL; i++) {
        for (unsigned k = 1; k <= sh->met[i].n; k++) {
            if (k == 1 || k == sh->met[i].n || total <= budget || rnd(&seed, total) < others) {
                v[n++] = (struct meeting){sh->met[i].point, k};
            }
        }
    }
    *ret_n = n;
    *ret_total = total;
    return v;
}

static void killed_at_each(void **state)
{
    (void)state;
    const char *want = getenv("OBJMIG_KILL_POINTS"), *seed_text = getenv("OBJMIG_SEED");
    unsigned budget = want == NULL ? POINTS_DEFAULT : strcmp(want, "all") == 0 ? UINT32_MAX : (unsigned)strtoul(want, NULL, 10);
    uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : 20261120;
    sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(sh != MAP_FAILED);
    struct fx fx;
    start(&fx);
    assert_false(child_killed(&fx, work, NULL, 0));
    assert_true(sh->finished);
    unsigned points = 0, n, total, killed = 0, twice = 0;
    while (sh->met[points].point != NULL) {
        points++;
    }
    const char *at = getenv("OBJMIG_KILL_AT");
    CLEANUP(mem_freep) struct meeting *v = choose(budget, seed, &n, &total);
    if (at != NULL) {
        free(v);
        v = replay(at, &n);
    }
    check(&fx, "not killed");
    fx_fini(&fx);
    print_message("# %u points, met %u times; %u of them are tried, seed %llu\n", points, total, n, (unsigned long long)seed);
    for (unsigned i = 0; i < n; i++) {
        start(&fx);
        char what[100];
        /* Threads take turns differently each time: a late meeting may not come. */
        killed += child_killed(&fx, work, v[i].point, v[i].n);
        (void)snprintf(what, sizeof(what), "%s %u", v[i].point, v[i].n);
        if (i % 2 == 1) {
            twice += child_killed(&fx, recover, NULL, 1 + rnd(&seed, 30));
        }
        check(&fx, what);
        fx_fini(&fx);
    }
    print_message("# killed %u times, %u of the recoveries as well\n", killed, twice);
    assert_in_range(killed, at != NULL ? 0 : n * 8 / 10, n);
    assert_true(points >= POINTS_MIN); /* the workload meets them */
    (void)munmap(sh, sizeof(*sh));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_at_each)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
