/* Keys: every byte but NUL, and names that a file system or an HTTP path would trip over. */
#include "contract.h"
#include "mem.h"

#define LONG_COMPONENT 300
#define LONG_KEY 800

/* Refused by some real servers, and then as ERR_INVALID; memory and local take them all. */
#define MAY_BE_REFUSED 1
/* Known beforehand to be impossible at some: be_key_check says so. Who does not must take them. */
#define MAY_BE_UNFIT 2

static const struct {
    const char *text;
    int flags;
} odd[] = {
    {"a//b", MAY_BE_UNFIT},
    {"a///c//", MAY_BE_REFUSED},
    {"./x", MAY_BE_REFUSED},
    {"../x", MAY_BE_REFUSED},
    {"x/../y", MAY_BE_REFUSED},
    {"x/./y", MAY_BE_REFUSED},
    {"dots/.", MAY_BE_REFUSED},
    {"dots/..", MAY_BE_REFUSED},
    {"dots/...", MAY_BE_UNFIT},
    {"dots/.hidden", 0},
    {".objmig", 0},
    {".objmig/tmp", 0},
    {".objmig/mp/x", 0},
    {"both", 0},
    {"both/file", 0},
    {"both/sub/file", 0},
    {"marked/", 0},
    {"marked/in it", 0},
    {"with content/", 0},
    {"with content//", MAY_BE_REFUSED},
    {"invalid-\xff\xfe-utf8", MAY_BE_REFUSED},
    {"cut-\xed\x95", MAY_BE_REFUSED},
    {"new\nline", MAY_BE_REFUSED},
    {"tab\there", MAY_BE_REFUSED},
    {"bell\a-del\x7f", MAY_BE_REFUSED},
    {"return\r", MAY_BE_REFUSED},
    {"%2F", 0},
    {"%", 0},
    {"50%", 0},
    {"100%25 off", 0},
    {"^2F", 0},
    {"^5E2F^0A", 0},
    {"up^", 0},
    {"*", 0},
    {"a?b#c", 0},
    {"a;b,c:d@e=f", 0},
    {"한글/파일", 0},
    {"emoji 🎈🎉", 0},
    {"combining e\xcc\x81 and \xc3\xa9", 0},
    {"trailing space ", 0},
    {" leading space", 0},
    {"plus+plus", 0},
    {"a&b", 0},
    {"<tag>\"'&amp;", 0},
    {"back\\slash", MAY_BE_UNFIT},
    {"$~!(){}[]|`", 0},
    {"CON", 0},
    {"\xef\xbb\xbf"
     "bom",
     0},
};

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Writes a key with itself as content (a marker: nothing). False when the server refuses such keys,
 * as it must those that it says it does not take beside `others`. */
static bool write_self(struct target *t, const char *key, int flags, const char *const *others,
                       size_t n)
{
    bool marker = key[strlen(key) - 1] == '/' && !strstr(key, "content");
    struct be_write w = {.op = {.key = key}, .data = key, .len = marker ? 0 : strlen(key)};
    bool taken = takes(t, key, w.len, others, n);
    (void)BE_SYNC(t->be, be_write, &w);
    note_written(key);
    if (!taken) {
        assert_true(w.op.status < 0);
    }
    bool fits = be_key_check(t->be, key, NULL) == 0; /* if not taken: because of the others */
    bool unfit = (flags & MAY_BE_UNFIT) && !fits;
    bool strict = t->is_memory || t->is_local ||
                  ((taken || !fits) && !unfit && !(flags & MAY_BE_REFUSED));
    if (w.op.status != 0 && !strict) {
        expect_failure(&w.op, ERR_INVALID);
        (void)fprintf(stderr, "# %s refuses the key '%s'\n", t->name, key);
        return false;
    }
    if (w.op.status != 0) {
        fail_msg("write '%s': %s", key, w.op.err.message);
    }
    return true;
}

static void check_self(struct target *t, const char *key)
{
    bool marker = key[strlen(key) - 1] == '/' && !strstr(key, "content");
    expect_content(t, key, key, marker ? 0 : strlen(key));
    struct be_object seen;
    get_stat(t, key, &seen, NULL);
    assert_int_equal(seen.size, marker ? 0 : strlen(key));
}

static void odd_keys(void **state)
{
    struct target *t = target_of(state);
    const char *keys[ARRAY_LEN(odd) + 2];
    int flags[ARRAY_LEN(odd) + 2] = {0};
    size_t n = 0;
    for (; n < ARRAY_LEN(odd); n++) {
        CLEANUP(mem_freep) char *text = mem_printf("odd/%s", odd[n].text);
        keys[n] = key_of(t, text);
        flags[n] = odd[n].flags;
    }
    char text[LONG_KEY + 1];
    size_t long_key = MIN(t->be->limits.max_key, (unsigned)LONG_KEY);
    memset(text, 'c', LONG_COMPONENT);
    memcpy(text, "odd/long-", 9);
    text[LONG_COMPONENT] = '\0';
    keys[n++] = key_of(t, text);
    for (size_t i = 0; i < long_key; i++) {
        text[i] = i % 100 == 99 ? '/' : (char)('a' + i % 26);
    }
    memcpy(text, "odd/", 4);
    text[long_key - strlen(t->run)] = '\0';
    keys[n++] = key_of(t, text);

    /* What is below a name before the name itself: a folder may not be made where a file stands. */
    const char *sorted[ARRAY_LEN(keys)];
    size_t kept = 0;
    for (size_t i = n; i > 0; i--) {
        if (strcmp(keys[i - 1] + strlen(t->run), "odd/both") != 0 &&
            write_self(t, keys[i - 1], flags[i - 1], sorted, kept)) {
            sorted[kept++] = keys[i - 1];
        }
    }
    const char *both = key_of(t, "odd/both");
    if (write_self(t, both, 0, sorted, kept)) {
        sorted[kept++] = both;
    }
    qsort(sorted, kept, sizeof(sorted[0]), compare_keys);
    for (size_t i = 0; i < kept; i++) {
        check_self(t, sorted[i]);
    }
    struct listing l;
    list_all(t, key_of(t, "odd/"), 0, NULL, 0, &l);
    expect_keys(&l, sorted, kept);
    listing_fini(&l);
    list_all(t, key_of(t, "odd/"), 0, NULL, 7, &l);
    expect_keys(&l, sorted, kept);
    listing_fini(&l);

    /* each goes without the others */
    for (size_t i = kept; i > 0; i--) {
        drop(t, sorted[i - 1]);
        if (sorted[i - 1][strlen(sorted[i - 1]) - 1] != '/' || !has_cap(t, BE_CAP_REAL_DIRS)) {
            expect_absent(t, sorted[i - 1]);
        }
        if (i > 1) {
            check_self(t, sorted[i - 2]);
        }
    }
    list_all(t, key_of(t, "odd/"), 0, NULL, 0, &l);
    assert_int_equal(l.n, 0);
    listing_fini(&l);
}

/* The bucket's own root: a key that begins with '/'. */
static void leading_slash(void **state)
{
    struct target *t = target_of(state);
    CLEANUP(mem_freep) char *key = mem_printf("/%slead", t->run);
    CLEANUP(mem_freep) char *prefix = mem_printf("/%s", t->run);
    if (!write_self(t, key, MAY_BE_REFUSED, NULL, 0)) {
        return;
    }
    check_self(t, key);
    expect_absent(t, key + 1);
    struct listing l;
    list_all(t, prefix, 0, NULL, 0, &l);
    const char *only[] = {key};
    expect_keys(&l, only, 1);
    listing_fini(&l);
    drop(t, key);
    expect_absent(t, key);
}

static void longest_key(void **state)
{
    struct target *t = target_of(state);
    size_t max = MIN(t->be->limits.max_key, 1024u);
    CLEANUP(mem_freep) char *text = mem_zalloc(max + 1);
    memset(text, 'k', max - strlen(t->run));
    for (size_t i = 200; i + 1 < max - strlen(t->run);
         i += 200) { /* not as the last: a directory */
        text[i] = '/';
    }
    const char *key = key_of(t, text);
    assert_int_equal(strlen(key), max);
    put(t, key, TEXT("x"));
    expect_content(t, key, TEXT("x"));
    drop(t, key);
}

/* A folder's marker and what is in the folder come and go apart. */
static void markers(void **state)
{
    struct target *t = target_of(state);
    const char *dir = key_of(t, "folder/"), *file = key_of(t, "folder/file"),
               *bare = key_of(t, "folder");
    put(t, dir, NULL, 0);
    expect_content(t, dir, "", 0);
    expect_absent(t, bare);
    put(t, file, TEXT("x"));
    struct listing l;
    list_all(t, dir, '/', NULL, 0, &l);
    const char *both[] = {dir, file};
    expect_keys(&l, both, 2);
    assert_false(l.is_prefix[0] || l.is_prefix[1]);
    listing_fini(&l);
    drop(t, dir);
    expect_content(t, file, TEXT("x"));
    drop(t, file);
    drop(t, dir);
    expect_absent(t, dir);
}

const struct contract_test tests_keys[] = {
    {"odd keys", odd_keys},
    {"a key that begins with a slash", leading_slash},
    {"the longest key", longest_key},
    {"markers of folders", markers},
    {0},
};
