/* Stores that can only be read, on objects that are there already: $OBJMIG_CONTRACT_SEED is a
 * directory that holds what the store is to show, file for key. */
#include "contract.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

struct seed {
    char *key;
    char *data;
    size_t len;
};

static struct seed *seeds;
static size_t n_seeds, root_len;

static int add_seed(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type == FTW_F) {
        seeds = mem_realloc(seeds, (n_seeds + 1) * sizeof(*seeds));
        struct seed *s = &seeds[n_seeds++];
        *s = (struct seed){.key = mem_strdup(path + root_len), .len = (size_t)st->st_size};
        s->data = mem_zalloc(s->len + 1);
        CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(fd, s->data, s->len), (ssize_t)s->len);
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct seed *)a)->key, ((const struct seed *)b)->key);
}

static void seeds_free(void)
{
    for (size_t i = 0; i < n_seeds; i++) {
        free(seeds[i].key);
        free(seeds[i].data);
    }
    free(seeds);
}

static void need_seeds(void)
{
    const char *dir = getenv("OBJMIG_CONTRACT_SEED");
    if (n_seeds > 0) {
        return;
    }
    assert_non_null(dir);
    root_len = strlen(dir) + 1;
    assert_int_equal(nftw(dir, add_seed, 16, FTW_PHYS), 0);
    assert_true(n_seeds > 20);
    qsort(seeds, n_seeds, sizeof(*seeds), by_key);
    (void)atexit(seeds_free);
}

/* The keys and common prefixes below a prefix, as the seeds say: *ret_n strings, pieces of `ret`
 * are the caller's. */
static char **expected(const char *prefix, char delimiter, const char *start_after, size_t *ret_n)
{
    char **keys = mem_zalloc(n_seeds * sizeof(*keys));
    size_t n = 0, len = strlen(prefix);
    for (size_t i = 0; i < n_seeds; i++) {
        const char *key = seeds[i].key;
        if (strncmp(key, prefix, len) != 0 || (start_after && strcmp(key, start_after) <= 0)) {
            continue;
        }
        const char *end = delimiter ? strchr(key + len, delimiter) : NULL;
        char *shown = end ? mem_strndup(key, (size_t)(end - key) + 1) : mem_strdup(key);
        if (n > 0 && strcmp(keys[n - 1], shown) == 0) {
            free(shown);
        } else {
            keys[n++] = shown;
        }
    }
    *ret_n = n;
    return keys;
}

static void check_list(struct target *t, const char *prefix, char delimiter,
                       const char *start_after, unsigned max)
{
    size_t n;
    char **keys = expected(prefix, delimiter, start_after, &n);
    struct listing l;
    list_all(t, prefix, delimiter, start_after, max, &l);
    expect_keys(&l, (const char *const *)keys, n);
    assert_true(max == 0 || l.pages >= n / max);
    for (size_t i = 0; i < n; i++) {
        bool is_prefix = delimiter && strchr(keys[i] + strlen(prefix), delimiter) != NULL;
        assert_true(l.is_prefix[i] == is_prefix);
        free(keys[i]);
    }
    free(keys);
    listing_fini(&l);
}

static void test_lists(void **state)
{
    struct target *t = target_of(state);
    need_seeds();
    const char *middle = seeds[n_seeds / 2].key;
    const unsigned pages[] = {0, 1, 7};
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        check_list(t, "", 0, NULL, pages[i]);
        check_list(t, "", '/', NULL, pages[i]);
        check_list(t, "", 0, middle, pages[i]);
        check_list(t, "", '/', middle, pages[i]);
        check_list(t, "no such thing", '/', NULL, pages[i]);
        for (size_t k = 0; k < n_seeds; k++) {
            const char *slash = strchr(seeds[k].key, '/');
            if (slash && (k == 0 || strncmp(seeds[k].key, seeds[k - 1].key,
                                            (size_t)(slash - seeds[k].key) + 1) != 0)) {
                CLEANUP(mem_freep)
                char *dir = mem_strndup(seeds[k].key, (size_t)(slash - seeds[k].key) + 1);
                check_list(t, dir, '/', NULL, pages[i]);
                check_list(t, dir, 0, NULL, pages[i]);
            }
        }
    }
}

static void test_stat(void **state)
{
    struct target *t = target_of(state);
    need_seeds();
    for (size_t i = 0; i < n_seeds; i++) {
        struct be_object o, again;
        get_stat(t, seeds[i].key, &o, NULL);
        assert_int_equal(o.size, seeds[i].len);
        assert_true(o.etag[0] != '\0');
        assert_true(o.mtime_ns > 0);
        get_stat(t, seeds[i].key, &again, NULL);
        assert_string_equal(again.etag, o.etag);
    }
}

static void check_range(struct target *t, const struct seed *s, uint64_t offset, size_t len,
                        const char *etag)
{
    CLEANUP(mem_freep) char *buf = mem_zalloc(len + 1);
    struct be_read r = {
        .op = {.key = s->key}, .offset = offset, .len = len, .buf = buf, .if_match = etag};
    size_t want = offset < s->len ? MIN(len, s->len - (size_t)offset) : 0;
    (void)BE_SYNC(t->be, be_read, &r);
    if (r.op.status != 0) {
        fail_msg("'%s' from %llu: %s", s->key, (unsigned long long)offset, r.op.err.message);
    }
    assert_int_equal(r.got, want);
    assert_int_equal(r.object.size, s->len);
    assert_string_equal(r.object.etag, etag);
    if (want > 0) {
        assert_memory_equal(buf, s->data + offset, want);
    }
    be_read_fini(&r);
}

static void test_reads(void **state)
{
    struct target *t = target_of(state);
    need_seeds();
    for (size_t i = 0; i < n_seeds; i++) {
        const struct seed *s = &seeds[i];
        struct be_object o;
        get_stat(t, s->key, &o, NULL);
        expect_content(t, s->key, s->data, s->len);
        check_range(t, s, 0, 1, o.etag);
        check_range(t, s, 0, 0, o.etag);
        check_range(t, s, s->len / 2, s->len, o.etag);
        check_range(t, s, s->len / 3, s->len / 3, o.etag);
        check_range(t, s, s->len, 5, o.etag);
        check_range(t, s, s->len + 100, 5, o.etag);
        check_range(t, s, s->len > 0 ? s->len - 1 : 0, 1, o.etag);
    }
}

static void test_versions(void **state)
{
    struct target *t = target_of(state);
    need_seeds();
    char buf[16];
    struct be_read r = {
        .op = {.key = seeds[0].key}, .len = sizeof(buf), .buf = buf, .if_match = "another"};
    (void)BE_SYNC(t->be, be_read, &r);
    expect_failure(&r.op, ERR_PRECOND);
    assert_int_equal(r.op.status, -ESTALE);
    assert_int_equal(r.got, 0);
    be_read_fini(&r);
}

static void test_absent(void **state)
{
    struct target *t = target_of(state);
    char buf[1];
    expect_absent(t, "no such key");
    struct be_read r = {.op = {.key = "no such key"}, .len = 1, .buf = buf};
    (void)BE_SYNC(t->be, be_read, &r);
    expect_failure(&r.op, ERR_ABSENT);
    be_read_fini(&r);
}

static void refused(const struct be_op *op)
{
    expect_failure(op, ERR_INVALID);
    assert_int_equal(op->status, -EROFS);
}

static void test_changes(void **state)
{
    struct target *t = target_of(state);
    need_seeds();
    const char *key = seeds[0].key;
    const char *const keys[] = {key};
    const struct be_part_id part = {.number = 1};
    struct be_write w = {.op = {.key = key}, .data = "x", .len = 1};
    struct be_remove r = {.op = {.key = key}};
    struct be_copy c = {.op = {.key = "copy"}, .src = t->be, .src_key = key};
    struct be_many m = {.keys = keys, .n_keys = 1};
    struct be_mp mp = {.op = {.key = key}};
    struct be_commit commit = {.op = {.key = key}, .upload_id = "u", .parts = &part, .n_parts = 1};
    assert_true(has_cap(t, BE_CAP_READ_ONLY));
    (void)BE_SYNC(t->be, be_write, &w);
    refused(&w.op);
    (void)BE_SYNC(t->be, be_remove, &r);
    refused(&r.op);
    (void)BE_SYNC(t->be, be_copy, &c);
    refused(&c.op);
    (void)BE_SYNC(t->be, be_remove_many, &m);
    refused(&m.op);
    (void)BE_SYNC(t->be, be_mp_begin, &mp);
    refused(&mp.op);
    (void)BE_SYNC(t->be, be_mp_commit, &commit);
    refused(&commit.op);
    assert_false(be_can_copy(t->be, t->be));
    expect_content(t, key, seeds[0].data, seeds[0].len);
}

#define AT_ONCE 64
static void test_load(void **state)
{
    struct target *t = target_of(state);
    need_seeds();
    struct be_read *reads = mem_zalloc(AT_ONCE * sizeof(*reads));
    struct be_waiter *waiters[AT_ONCE];
    for (size_t i = 0; i < AT_ONCE; i++) {
        const struct seed *s = &seeds[i % n_seeds];
        reads[i] =
            (struct be_read){.op = {.key = s->key, .lane = BE_LANE_SMALL}, .len = s->len + 1};
        reads[i].buf = mem_zalloc(s->len + 1);
        waiters[i] = be_sync_begin(&reads[i].op);
        be_read(t->be, &reads[i]);
        if (i % 8 == 7) {
            be_cancel(&reads[i].op); /* it may have been faster */
        }
    }
    for (size_t i = 0; i < AT_ONCE; i++) {
        const struct seed *s = &seeds[i % n_seeds];
        if (be_sync_end(waiters[i]) == 0) {
            assert_int_equal(reads[i].got, s->len);
            assert_memory_equal(reads[i].buf, s->data, s->len);
        } else {
            assert_int_equal(i % 8, 7);
            expect_failure(&reads[i].op, ERR_CANCELED);
        }
        be_read_fini(&reads[i]);
        free(reads[i].buf);
    }
    free(reads);
}

const struct contract_test tests_read_only[] = {
    {"read only: lists", test_lists},        {"read only: sizes and versions", test_stat},
    {"read only: ranges", test_reads},       {"read only: another version", test_versions},
    {"read only: no such key", test_absent}, {"read only: changes", test_changes},
    {"read only: many at once", test_load},  {NULL, NULL},
};
