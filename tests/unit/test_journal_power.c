/* The journal at a power cut: of what was written to its files since their last sync, all is kept, or nothing, or any mixture of
 * sectors. Whatever is left opens, holds whole transactions and nothing but a prefix of them, and all that was durable.
 *
 * fsync and fdatasync are ours here, SQLite's calls too: they note what a file holds once it is synced, and are themselves the
 * moments of the most interesting cuts. OBJMIG_SEED picks cuts and sectors. */
#include "journal_fixture.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 330
#define META 60000 /* so that the log is checkpointed on the way */
#define SECTOR 512
#define CUTS 25

enum file { DB, WAL, FILES };
enum fate { KEPT, LOST, TORN, FATES };
static const char *const file_names[FILES] = {"journal.db", "journal.db-wal"};

struct bytes {
    unsigned char *p;
    size_t n;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* all below */
static const char *watched;                               /* directory; NULL: nobody looks */
static struct bytes synced[FILES];
static atomic_uint durable_acked;
static uint64_t rng;
static unsigned n_cuts, in_sync, in_checkpoint;

static unsigned rnd(unsigned n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % n;
}

static struct bytes slurp(const char *dir, enum file f)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", dir, file_names[f]);
    CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st = {0};
    struct bytes b = {0};
    if (fd >= 0 && fstat(fd, &st) == 0) {
        b.n = (size_t)st.st_size;
        b.p = malloc(b.n + 1);
        assert_true(read(fd, b.p, b.n) == (ssize_t)b.n);
    }
    return b;
}

/* What the disk may hold of a file when the power goes. */
static struct bytes left_of(enum file f, struct bytes now, enum fate fate)
{
    const struct bytes *old = &synced[f];
    size_t n = fate == KEPT ? now.n : fate == LOST || rnd(4) == 0 ? old->n : now.n;
    struct bytes b = {.p = calloc(1, n + 1), .n = n};
    for (size_t at = 0; at < n; at += SECTOR) {
        bool fresh = fate == KEPT || (fate == TORN && rnd(2) == 0);
        const struct bytes *from = fresh ? &now : old;
        if (at < from->n) {
            memcpy(b.p + at, from->p + at, MIN(MIN(from->n, n) - at, (size_t)SECTOR));
        }
    }
    return b;
}

struct prefix {
    uint64_t n;
    bool whole;
};

static int on_prefix(void *ctx, const struct jintent *row, const struct jpart *parts, size_t n_parts)
{
    struct prefix *p = ctx;
    p->n++;
    p->whole = p->whole && row->seq == p->n && n_parts == 1 && parts[0].size == row->seq && strlen(row->meta) == META;
    return 0;
}

/* Opens what is left, as the next start would. */
static void check(const char *dir, unsigned durable, enum fate fate)
{
    for (int again = 0; again < 2; again++) {
        struct journal *j = open_ok(dir);
        struct prefix p = {.whole = true};
        assert_int_equal(journal_each_intent(j, on_prefix, &p), 0);
        if (!p.whole || p.n < durable + (unsigned)again) {
            fail_msg("cut %u, fate %d: %llu rows%s, %u were durable", n_cuts, (int)fate, (unsigned long long)p.n,
                     p.whole ? "" : ", not whole", durable);
        }
        if (again == 0) { /* it goes on from there */
            char key[32];
            CLEANUP(mem_freep) char *meta = mem_zalloc(META + 1);
            memset(meta, 'm', META);
            (void)snprintf(key, sizeof(key), "%08llu", (unsigned long long)p.n + 1);
            struct jintent row = intent(key, p.n + 1);
            struct jpart part = {.number = 1, .size = p.n + 1, .etag = "e"};
            row.meta = meta;
            struct jtx *tx = jtx_new();
            jtx_intent_put(tx, &row);
            jtx_part_put(tx, 1, key, &part);
            journal_submit(j, tx, JTX_DURABLE, NULL, NULL);
            assert_int_equal(journal_flush(j, true), 0);
        }
        journal_close(j);
    }
}

/* Three disks, one a fate, of this very moment. Under the lock. */
static void cut(void)
{
    const char *dir = watched;
    unsigned durable = atomic_load(&durable_acked);
    watched = NULL;
    n_cuts++;
    for (enum fate fate = KEPT; fate < FATES; fate++) {
        CLEANUP(mem_freep) char *to = mem_printf("%s.cut", dir);
        assert_int_equal(mkdir(to, 0700), 0);
        for (enum file f = DB; f < FILES; f++) {
            struct bytes now = slurp(dir, f), left = left_of(f, now, fate);
            CLEANUP(mem_freep) char *path = mem_printf("%s/%s", to, file_names[f]);
            CLEANUP(mem_closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            assert_true(fd >= 0 && write(fd, left.p, left.n) == (ssize_t)left.n);
            free(now.p);
            free(left.p);
        }
        (void)pthread_mutex_unlock(&lock);
        check(to, durable, fate);
        (void)pthread_mutex_lock(&lock);
        clear(to);
        assert_int_equal(rmdir(to), 0);
    }
    watched = dir;
}

/* The disk is ours: nothing is really synced. */
static int sync_and_note(int fd)
{
    char link[64], path[PATH_MAX] = "";
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof(path) - 1);
    (void)pthread_mutex_lock(&lock);
    enum file f = DB;
    while (watched != NULL && len > 0 && f < FILES) {
        CLEANUP(mem_freep) char *name = mem_printf("%s/%s", watched, file_names[f]);
        if (strcmp(name, path) == 0) {
            break;
        }
        f++;
    }
    bool ours = watched != NULL && f < FILES;
    if (ours && n_cuts < CUTS && (f == DB || rnd(4) == 0)) {
        in_sync++;
        in_checkpoint += f == DB;
        cut(); /* the last moment before all of it is safe */
    }
    struct bytes now = ours ? slurp(watched, f) : (struct bytes){0};
    if (ours) {
        free(synced[f].p);
        synced[f] = now;
    }
    (void)pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd)
{
    return sync_and_note(fd);
}

int fdatasync(int fd)
{
    return sync_and_note(fd);
}

static void on_durable(void *ctx, int status)
{
    assert_int_equal(status, 0);
    atomic_store(&durable_acked, (unsigned)(uintptr_t)ctx);
}

static void test_power_cut(void **state)
{
    const char *dir = *state, *seed = getenv("OBJMIG_SEED");
    rng = seed != NULL ? strtoull(seed, NULL, 10) : 20261120;
    CLEANUP(mem_freep) char *meta = mem_zalloc(META + 1);
    memset(meta, 'm', META);
    struct journal *j = open_ok(dir);
    (void)pthread_mutex_lock(&lock);
    watched = dir;
    for (enum file f = DB; f < FILES; f++) {
        synced[f] = slurp(dir, f); /* a journal that has been open for a while */
    }
    (void)pthread_mutex_unlock(&lock);
    for (unsigned i = 1; i <= ROWS; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "%08u", i);
        struct jintent row = intent(key, i);
        struct jpart part = {.number = 1, .size = i, .etag = "e"};
        row.meta = meta;
        struct jtx *tx = jtx_new();
        jtx_intent_put(tx, &row);
        jtx_part_put(tx, 1, key, &part);
        bool durable = i % 16 == 0;
        journal_submit(j, tx, durable ? JTX_DURABLE : 0, durable ? on_durable : NULL, (void *)(uintptr_t)i);
        assert_int_equal(journal_flush(j, false), 0);
        if (i % 60 == 1) {
            (void)pthread_mutex_lock(&lock);
            cut();
            (void)pthread_mutex_unlock(&lock);
        }
    }
    (void)pthread_mutex_lock(&lock);
    watched = NULL;
    (void)pthread_mutex_unlock(&lock);
    journal_close(j);
    print_message("# %u cuts, %u of them at a sync, %u at a checkpoint's\n", n_cuts, in_sync, in_checkpoint);
    assert_true(n_cuts >= 9 && in_sync >= 3 && in_checkpoint >= 1);
    for (enum file f = DB; f < FILES; f++) {
        free(synced[f].p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {WITH_DIR(test_power_cut)};
    return cmocka_run_group_tests_name("journal_power", tests, NULL, NULL);
}
