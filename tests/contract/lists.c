/* Lists: order, prefixes, delimiter, pages, cursors. */
#include "contract.h"
#include "mem.h"

/* In byte order. */
static const char *const tree[] = {
    "l/-first",
    "l/a",
    "l/a!x",
    "l/a-b",
    "l/a/1",
    "l/a/2",
    "l/a/deep/er/1",
    "l/a/deep/er/2",
    "l/a0",
    "l/b/1",
    "l/b.txt/1",
    "l/c",
    "l/d/1",
    "l/d/2",
    "l/d/3",
    "l/e/e/e/e",
    "l/z",
    "l/\xc3\xa4",
    "l/\xed\x95\x9c/1",
};
#define N ARRAY_LEN(tree)

static const char *full[N];
static size_t n_full; /* some stores have no object beside a directory of its name */

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Deepest first: see odd_keys. */
static void plant(struct target *t)
{
    const char *all[N];
    for (size_t i = 0; i < N; i++) {
        all[i] = key_of(t, tree[i]);
    }
    n_full = 0;
    for (size_t i = 0; i < N; i++) {
        if (takes(t, all[i], 1, all, N)) {
            full[n_full++] = all[i];
        }
    }
    assert_true(n_full + 1 >= N);
    qsort(full, n_full, sizeof(full[0]), compare_keys);
    for (size_t i = n_full; i > 0; i--) {
        put(t, full[i - 1], full[i - 1], i); /* of size i */
    }
}

static void fell(struct target *t)
{
    for (size_t i = 0; i < n_full; i++) {
        drop(t, full[i]);
    }
}

/* What a list must show, from the sorted keys. Returns how many. */
static size_t expected(const char *prefix, char delimiter, const char *start_after, char **ret)
{
    size_t n = 0, prefix_len = strlen(prefix);
    for (size_t i = 0; i < n_full; i++) {
        if (strncmp(full[i], prefix, prefix_len) != 0 ||
            (start_after && strcmp(full[i], start_after) <= 0)) {
            continue;
        }
        const char *end = delimiter != 0 ? strchr(full[i] + prefix_len, delimiter) : NULL;
        size_t len = end ? (size_t)(end - full[i]) + 1 : strlen(full[i]);
        if (n > 0 && strlen(ret[n - 1]) == len && strncmp(ret[n - 1], full[i], len) == 0) {
            continue;
        }
        ret[n++] = mem_strndup(full[i], len);
    }
    return n;
}

static void check_list(struct target *t, const char *prefix, char delimiter,
                       const char *start_after, unsigned max)
{
    char *want[N];
    CLEANUP(mem_freep) char *after = start_after ? mem_printf("%s%s", t->run, start_after) : NULL;
    CLEANUP(mem_freep) char *whole = mem_printf("%s%s", t->run, prefix);
    size_t n = expected(whole, delimiter, after, want);
    struct listing l;
    list_all(t, whole, delimiter, after, max, &l);
    expect_keys(&l, (const char *const *)want, n);
    for (size_t i = 0; i < n; i++) {
        bool is_prefix = delimiter != 0 && strchr(want[i] + strlen(whole), delimiter);
        assert_int_equal(l.is_prefix[i], is_prefix);
        for (size_t k = 0; k < n_full && !is_prefix; k++) {
            if (strcmp(full[k], l.keys[i]) == 0) {
                assert_int_equal(l.sizes[i], k + 1);
            }
        }
        free(want[i]);
    }
    if (max > 0 && n > max) {
        assert_true(l.pages > 1);
    }
    listing_fini(&l);
}

static void whole_tree(void **state)
{
    struct target *t = target_of(state);
    plant(t);
    static const char *const prefixes[] = {"l/",        "l",    "l/a",    "l/a/",    "l/a/d",
                                           "l/a/deep/", "l/b",  "l/d/1",  "l/e/",    "l/e/e/e/e",
                                           "l/x",       "l/z/", "l/a/1/", "nothing/"};
    static const unsigned pages[] = {0, 1, 2, 3, 1000};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        for (size_t k = 0; k < ARRAY_LEN(pages); k++) {
            check_list(t, prefixes[i], 0, NULL, pages[k]);
            check_list(t, prefixes[i], '/', NULL, pages[k]);
        }
    }
    fell(t);
}

static void start_after(void **state)
{
    struct target *t = target_of(state);
    plant(t);
    static const char *const after[] = {
        "l/",  "l/-first", "l/a",  "l/a-b", "l/a/1", "l/a/deep/er/1", "l/a/deep/zzz", "l/b",
        "l/c", "l/d/3",    "l/zz", "k",     "m"};
    for (size_t i = 0; i < ARRAY_LEN(after); i++) {
        check_list(t, "l/", 0, after[i], 0);
        check_list(t, "l/", 0, after[i], 2);
    }
    /* With the delimiter servers differ on what is left of a folder begun in its middle: not asked
     * for. */
    static const char *const between[] = {"l/-first", "l/a", "l/a0", "l/c", "l/z", "l/zz"};
    for (size_t i = 0; i < ARRAY_LEN(between); i++) {
        check_list(t, "l/", '/', between[i], 0);
        check_list(t, "l/", '/', between[i], 2);
    }
    fell(t);
}

static void entries_are_whole(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "entry/one");
    struct be_object written;
    put_meta(t, key, TEXT("123"), NULL, &written);
    struct be_list l = {.prefix = key_of(t, "entry/o")};
    assert_int_equal(BE_SYNC(t->be, be_list, &l), 0);
    assert_int_equal(l.n_entries, 1);
    assert_string_equal(l.entries[0].key, key);
    assert_false(l.entries[0].is_prefix);
    assert_string_equal(l.entries[0].object.etag, written.etag);
    assert_int_equal(l.entries[0].object.size, 3);
    assert_true(l.entries[0].object.mtime_ns > 0);
    assert_null(l.next_cursor);
    be_list_fini(&l);
    drop(t, key);
}

/* More than one page of any provider, and keys that come and go between the pages. */
static void changes_between_pages(void **state)
{
    struct target *t = target_of(state);
    enum { KEYS = 40 };
    char text[32];
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(text, sizeof(text), "c/%03d", i);
        put(t, key_of(t, text), TEXT("x"));
    }
    CLEANUP(mem_freep) char *cursor = NULL;
    size_t seen = 0;
    unsigned pages = 0;
    do {
        struct be_list l = {.prefix = key_of(t, "c/"), .cursor = cursor, .max = 7};
        assert_int_equal(BE_SYNC(t->be, be_list, &l), 0);
        for (size_t i = 0; i < l.n_entries; i++) {
            if (!has_cap(t, BE_CAP_REAL_DIRS) || strcmp(l.entries[i].key, l.prefix) != 0) {
                drop(t,
                     l.entries[i].key); /* what was listed goes: the next page must not skip any */
                seen++;
            }
        }
        free(cursor);
        cursor = TAKE(l.next_cursor);
        be_list_fini(&l);
    } while (cursor && ++pages < 1000);
    assert_int_equal(seen, KEYS);
}

const struct contract_test tests_lists[] = {
    {"lists with and without delimiter, in pages", whole_tree},
    {"lists that start after a key", start_after},
    {"an entry says all", entries_are_whole},
    {"keys removed while they are listed", changes_between_pages},
    {0},
};
