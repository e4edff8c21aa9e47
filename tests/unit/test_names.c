#include "unit.h"

#include <errno.h>
#include <string.h>

#include "mem.h"
#include "names.h"

/* Bytes that meet in the scheme: an ordinary one, the introducer, digits of ^2F ^0A ^5E, and what
 * must not show. */
static const char alphabet[] = {'a', '^',  '2',    'F',    '0',    'A', '/',
                                '.', '\n', '\xff', '\xc3', '\xa9', '5', 'E'};
/* The digits and introducers alone, for longer strings. */
static const char digits_alphabet[] = {'^', '5', 'E', '0', 'A', '\n', '/'};

static uint32_t seed = 1;

static uint32_t random_below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)(seed >> 4) * n >> 28);
}

static bool same(const struct buf *b, const char *s, size_t n)
{
    return b->len == n && memcmp(buf_str(b), s, n) == 0;
}

/* All a path may be for the kernel, and all we promise: no control bytes, valid UTF-8. */
static void check_path(const struct buf *path)
{
    size_t name = 0;
    assert_true(path->len > 0);
    for (size_t i = 0; i <= path->len; i++) {
        unsigned char c = (unsigned char)buf_str(path)[i];
        if (c == '/' || i == path->len) {
            assert_true(name > 0 && name <= NAMES_MAX);
            const char *s = buf_str(path) + i - name;
            assert_false(name == 1 && memcmp(s, ".", 1) == 0);
            assert_false(name == 2 && memcmp(s, "..", 2) == 0);
            assert_false(name == 7 && memcmp(s, ".objmig", 7) == 0);
            name = 0;
        } else {
            assert_true(c >= 0x20 && c != 0x7f);
            name++;
        }
    }
}

static struct buf path, back; /* reused: the loops below are long */

/* decode(encode(k)) = k, and encode(k) = k iff decode(k) = k. */
static void check_key(const char *key, size_t n)
{
    assert_int_equal(names_path_of_key(key, n, &path), 0);
    check_path(&path);
    assert_int_equal(names_key_of_path(buf_str(&path), &back), 0);
    assert_true(same(&back, key, n));
    bool unchanged = same(&path, key, n);
    CLEANUP(mem_freep) char *as_path = mem_strndup(key, n);
    bool literal =
        !memchr(key, '\0', n) && names_key_of_path(as_path, &back) == 0 && same(&back, key, n);
    assert_int_equal(unchanged, literal);
}

/* The last name of a path, and the key prefix of the directory it is in. */
static const char *last_name(const char *p, struct buf *ret_prefix)
{
    buf_clear(ret_prefix);
    const char *slash;
    while ((slash = strchr(p, '/'))) {
        CLEANUP(mem_freep) char *name = mem_strndup(p, (size_t)(slash - p));
        CLEANUP(names_target_fini) struct names_target t = {0};
        assert_int_equal(names_resolve(buf_str(ret_prefix), ret_prefix->len, name, &t), 0);
        buf_clear(ret_prefix);
        assert_int_equal(buf_add(ret_prefix, buf_str(&t.prefix), t.prefix.len), 0);
        p = slash + 1;
    }
    return p;
}

/* A path has one key, whose path it is – but for the object form, an extra name of a file. */
static void check_as_path(const char *p, size_t n)
{
    if (memchr(p, '\0', n) || names_key_of_path(p, &back) < 0) {
        return;
    }
    assert_int_equal(names_path_of_key(buf_str(&back), back.len, &path), 0);
    if (same(&path, p, n)) {
        return;
    }
    CLEANUP(buf_fini) struct buf prefix = BUF_INIT;
    CLEANUP(names_target_fini) struct names_target t = {0};
    const char *name = last_name(p, &prefix);
    assert_int_equal(names_resolve(buf_str(&prefix), prefix.len, name, &t), 0);
    assert_true(t.file_ok && !t.dir_ok);
    CLEANUP(buf_fini) struct buf shown = BUF_INIT;
    bool is_dir;
    assert_int_equal(names_show(buf_str(&prefix), prefix.len, buf_str(&back) + prefix.len,
                                back.len - prefix.len, false, true, &shown, &is_dir),
                     0);
    assert_string_equal(buf_str(&shown), name);
}

static void all_strings(const char *letters, size_t n_letters, size_t len)
{
    char s[9] = {0};
    unsigned at[8] = {0};
    for (;;) {
        for (size_t i = 0; i < len; i++) {
            s[i] = letters[at[i]];
        }
        check_key(s, len);
        check_as_path(s, len);
        size_t i = 0;
        while (i < len && ++at[i] == n_letters) {
            at[i++] = 0;
        }
        if (i == len) {
            return;
        }
    }
}

static void test_all_short(void **state)
{
    for (size_t len = 1; len <= 4; len++) {
        all_strings(alphabet, sizeof(alphabet), len);
    }
    all_strings(digits_alphabet, sizeof(digits_alphabet), 5);
    for (int i = 0; i < 8000; i++) {
        char s[10] = {0};
        size_t len = 6 + random_below(4);
        for (size_t j = 0; j < len; j++) {
            s[j] = digits_alphabet[random_below(sizeof(digits_alphabet))];
        }
        check_key(s, len);
        check_as_path(s, len);
    }
}

/* Every byte, alone, in front of others, and in pairs. */
static void test_all_bytes(void **state)
{
    for (int i = 0; i < 256; i++) {
        char s[3] = {(char)i, 'x', 'y'};
        check_key(s, 1);
        check_key(s, 3);
        for (int j = 0; j < 256; j += 7) {
            s[1] = (char)j;
            check_key(s, 2);
        }
    }
}

/* No name that could be shown is refused: the bijection is onto. */
static void test_total(void **state)
{
    static const char letters[] = {'a', '^', '2', 'F', '0', 'A', '5', 'E', '.'};
    for (int i = 0; i < 15000; i++) {
        char name[12];
        size_t n = 1 + random_below(10);
        for (size_t j = 0; j < n; j++) {
            name[j] = letters[random_below(sizeof(letters))];
        }
        name[n] = '\0';
        struct names_target t = {0};
        int err = names_resolve("", 0, name, &t);
        bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
        assert_int_equal(err, dots ? -ENOENT : 0);
        names_target_fini(&t);
    }
}

static void expect(const char *key, size_t n, const char *want)
{
    assert_int_equal(names_path_of_key(key, n, &path), 0);
    assert_string_equal(buf_str(&path), want);
    check_key(key, n);
}

static void test_examples(void **state)
{
    static const struct {
        const char *key, *path; /* NULL = untouched */
    } examples[] = {
        {"photos/2024/a b.jpg", NULL},
        {"100%2F.txt", NULL},
        {"*", NULL},
        {"한글/사진.jpg", NULL},
        {"\xf0\x9f\x98\x80", NULL},
        {"trailing ", NULL},
        {" ", NULL},
        {"^", NULL},
        {"^_^", NULL},
        {"^41", NULL},
        {"^5E", NULL},
        {"^0a", NULL},
        {"a^2Fb", NULL},
        {"^C3^A9", NULL},
        {"...", NULL},
        {".hidden", NULL},
        {".objmig2", NULL},
        {"C:\\x", NULL},
        {"a//b", "a/^2F/b"},
        {"/lead", "^2F/lead"},
        {"//", "^2F/^2F/^2F"},
        {"dir/", "dir/^2F"},
        {".", "^2E"},
        {"..", "^2E."},
        {"x/../y", "x/^2E./y"},
        {"./x", "^2E/x"},
        {"a/.objmig", "a/^2Eobjmig"},
        {".objmig/x", "^2Eobjmig/x"},
        {"a\nb", "a^0Ab"},
        {"\t", "^09"},
        {"\x7f", "^7F"},
        {"\xff", "^FF"},
        {"\xc3", "^C3"},
        {"\xc3\xa9", NULL},
        {"\xc0\xaf", "^C0^AF"}, /* overlong '/' */
        {"\xe0\x80\xaf", "^E0^80^AF"},
        {"\xf0\x80\x80\xaf", "^F0^80^80^AF"},
        {"\xed\xa0\x80", "^ED^A0^80"},        /* surrogate */
        {"\xf4\x90\x80\x80", "^F4^90^80^80"}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", "^F5^80^80^80"},
        {"\xe2\x82", "^E2^82"},
        {"^0A", "^5E0A"},
        {"^5E0A", "^5E5E0A"},
        {"^0A\n", "^5E0A^0A"},
        {"^\n", "^^0A"},
        {"dir^2F", "dir^5E2F"},
        {"^2E", "^5E2E"},
        {"^2Ex", NULL},
        {"^2F", "^5E2F"},
    };
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        const char *key = examples[i].key;
        expect(key, strlen(key), examples[i].path ? examples[i].path : key);
    }
    expect("a\0b", 3, "a^00b");
    assert_int_equal(names_path_of_key("", 0, &path), -EINVAL);
}

static void test_refused(void **state)
{
    static const char *const names[] = {".", "..", ".objmig", "a\nb", "\xff", "a/b", "", "\x7f",
                                        "^2F^2F"}; /* the last would be the object of the empty key */
    struct names_target t;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(names_resolve("", 0, names[i], &t), -ENOENT);
    }
    char long_name[257];
    memset(long_name, 'a', 256);
    long_name[256] = '\0';
    assert_int_equal(names_resolve("", 0, long_name, &t), -ENAMETOOLONG);
    assert_int_equal(names_key_of_path("", &back), -ENOENT);
    assert_int_equal(names_key_of_path("/a", &back), -ENOENT);
    assert_int_equal(names_key_of_path("a/", &back), -ENOENT);
    assert_int_equal(names_key_of_path("a//b", &back), -ENOENT);
    /* The object form is a file, so nothing lies below it. */
    assert_int_equal(names_key_of_path("a^2F/b", &back), -ENOENT);
    /* The empty key at the root is no object; the prefix "/" is a directory. */
    assert_int_equal(names_key_of_path("^2F", &back), -ENOENT);
    assert_int_equal(names_resolve("", 0, "^2F", &t), 0);
    assert_true(!t.file_ok && t.dir_ok);
    assert_string_equal(buf_str(&t.prefix), "/");
    names_target_fini(&t);
    bool is_dir;
    assert_int_equal(names_show("", 0, "", 0, true, false, &path, &is_dir), -EINVAL);
    assert_int_equal(names_show("", 0, "", 0, false, false, &path, &is_dir), -EINVAL);
    assert_int_equal(names_show("a/", 2, "b", 1, true, false, &path, &is_dir), -EINVAL);
}

static void test_object_form(void **state)
{
    bool is_dir;
    CLEANUP(names_target_fini) struct names_target t = {0};
    assert_int_equal(names_show("a/", 2, "dir", 3, false, true, &path, &is_dir), 0);
    assert_string_equal(buf_str(&path), "dir^2F");
    assert_false(is_dir);
    assert_int_equal(names_show("a/", 2, "dir/", 4, true, true, &path, &is_dir), 0);
    assert_string_equal(buf_str(&path), "dir");
    assert_true(is_dir);
    assert_int_equal(names_resolve("a/", 2, "dir^2F", &t), 0);
    assert_true(t.file_ok && !t.dir_ok);
    assert_string_equal(buf_str(&t.key), "a/dir");
    names_target_fini(&t);
    /* "a/" with content beside "a//": both are the empty component. */
    assert_int_equal(names_show("a/", 2, "", 0, false, true, &path, &is_dir), 0);
    assert_string_equal(buf_str(&path), "^2F^2F");
    assert_int_equal(names_resolve("a/", 2, "^2F^2F", &t), 0);
    assert_true(t.file_ok && !t.dir_ok);
    assert_string_equal(buf_str(&t.key), "a/");
    names_target_fini(&t);
    assert_int_equal(names_resolve("a/", 2, "^2F", &t), 0);
    assert_true(t.file_ok && t.dir_ok);
    assert_string_equal(buf_str(&t.key), "a/");
    assert_string_equal(buf_str(&t.prefix), "a//");
    names_target_fini(&t);
    assert_int_equal(names_show("", 0, ".", 1, false, true, &path, &is_dir), 0);
    assert_string_equal(buf_str(&path), ".^2F");
    assert_int_equal(names_resolve("", 0, ".^2F", &t), 0);
    assert_string_equal(buf_str(&t.key), ".");
    /* A key without its delimiter in the listing shows as the directory it is in. */
    assert_int_equal(names_show("", 0, "x/y/z", 5, false, false, &path, &is_dir), 0);
    assert_string_equal(buf_str(&path), "x");
    assert_true(is_dir);
}

/* ---- long components ---- */

static void fill(char *s, size_t n, const char *unit)
{
    size_t len = strlen(unit);
    for (size_t i = 0; i < n; i++) {
        s[i] = unit[i % len];
    }
}

static void test_long(void **state)
{
    static const char *const units[] = {"a",   "\xff",    "\n", "\xed\x95\x9c", "\xf0\x9f\x98\x80",
                                        "^0A", "^5E5E0A", "^",  "^5E",          "\xc3\xa9",
                                        "a\n", "^5",      ".",  "\xe2\x82"};
    char key[1100];
    for (size_t u = 0; u < ARRAY_LEN(units); u++) {
        for (size_t n = 60; n<1050; n += n> 240 && n < 270 ? 1 : 13) {
            fill(key, n, units[u]);
            check_key(key, n);
            memcpy(key + n, "/x", 2);
            check_key(key, n + 2);
            /* Another alignment, so that the cut leaves other remainders. */
            memcpy(key, "aaa", 1 + n % 3);
            fill(key + 1 + n % 3, n, units[u]);
            check_key(key, n);
        }
    }
    fill(key, 900, "a");
    assert_int_equal(names_path_of_key(key, 900, &path), 0);
    assert_int_equal(path.len, 900 + 3 * 7);
    fill(key, 255, "a");
    key[255] = '\0';
    expect(key, 255, key);
    fill(key, 300, "a");
    key[300] = '\0';
    assert_int_equal(names_path_of_key(key, 300, &path), 0);
    assert_int_equal(path.len, 300 + 7);
    assert_memory_equal(buf_str(&path) + 249, "^2F^2F/aaa", 10);
}

static void test_long_random(void **state)
{
    for (int i = 0; i < 1000; i++) {
        char key[1024];
        size_t n = 1 + random_below(i % 10 == 0 ? 1024 : 300);
        uint32_t slashes = random_below(3);
        for (size_t j = 0; j < n; j++) {
            do {
                key[j] = random_below(4) > 0 ? alphabet[random_below(sizeof(alphabet))]
                                             : (char)random_below(256);
            } while (key[j] == '/' && random_below(200) > slashes);
        }
        check_key(key, n);
    }
}

/* Inside a continuation directory only what is cut there resolves. */
static void test_continuation(void **state)
{
    char key[400];
    fill(key, sizeof(key), "b");
    CLEANUP(names_target_fini) struct names_target t = {0}, u = {0};
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    bool is_dir;
    assert_int_equal(names_show("", 0, key, 300, false, false, &name, &is_dir), 0);
    assert_true(is_dir);
    assert_int_equal(names_resolve("", 0, buf_str(&name), &t), 0);
    assert_true(t.dir_ok && !t.file_ok);
    assert_int_equal(t.prefix.len, 249);
    const char *prefix = buf_str(&t.prefix);
    assert_int_equal(names_resolve(prefix, 249, "bbb", &u), -ENOENT); /* 252 bytes show above */
    assert_int_equal(names_resolve(prefix, 249, "bbbbbb", &u), -ENOENT);
    assert_int_equal(names_resolve(prefix, 249, "^2F", &u), -ENOENT);
    assert_int_equal(names_resolve(prefix, 249, "^2F^2F", &u), -ENOENT);
    assert_int_equal(names_resolve(prefix, 249, "bbbbbbb", &u), 0);
    assert_int_equal(u.key.len, 256);
    assert_int_equal(u.prefix.len, 257);
    names_target_fini(&u);
    /* 253 bytes show whole, but their object form does not. */
    assert_int_equal(names_resolve(prefix, 249, "bbbb^2F", &u), 0);
    assert_true(u.file_ok && !u.dir_ok);
    assert_int_equal(u.key.len, 253);
    names_target_fini(&u);
    assert_int_equal(names_resolve(prefix, 249, "bbb^2F", &u), -ENOENT);
    /* What a listing of the prefix finds but the directory above shows. */
    assert_int_equal(names_show(prefix, 249, "", 0, false, false, &name, &is_dir), -ENOENT);
    assert_int_equal(names_show(prefix, 249, "bbb", 3, false, false, &name, &is_dir), -ENOENT);
    assert_int_equal(names_show(prefix, 249, "bbb/", 4, true, false, &name, &is_dir), -ENOENT);
    assert_int_equal(names_show(prefix, 249, "bbbbbbb/", 8, true, false, &name, &is_dir), 0);
    assert_true(is_dir);
    /* A directory whose cuts are in the wrong place holds nothing. */
    assert_int_equal(names_resolve(prefix, 248, "bbbbbbbb", &u), -ENOENT);
    char chunk[NAMES_MAX + 1];
    fill(chunk, NAMES_MAX, "b");
    (void)snprintf(chunk + 249, sizeof(chunk) - 249, "^2F^2F");
    assert_int_equal(names_resolve(prefix, 249, chunk, &u), 0);
    assert_true(u.dir_ok && !u.file_ok);
    assert_int_equal(u.prefix.len, 498);
    names_target_fini(&u);
    assert_int_equal(names_resolve(prefix, 248, chunk, &u), -ENOENT);
    assert_int_equal(names_resolve(prefix, 3, chunk, &u), -ENOENT);
    /* A name with two marks, too short for a chunk, is a literal. */
    (void)snprintf(chunk + 245, sizeof(chunk) - 245, "^2F^2F");
    assert_int_equal(names_resolve("", 0, chunk, &u), 0);
    assert_true(u.file_ok);
    assert_string_equal(buf_str(&u.key), chunk);
    names_target_fini(&u);
    assert_int_equal(names_resolve("", 0, "b^2F^2F", &u), 0);
    assert_string_equal(buf_str(&u.key), "b^2F^2F");
}

/* ---- listings ---- */

struct listed {
    struct buf key;
    unsigned found;
};

static struct listed *find_listed(struct listed *keys, size_t n, const struct buf *key)
{
    for (size_t i = 0; i < n; i++) {
        if (same(&keys[i].key, buf_str(key), key->len)) {
            return &keys[i];
        }
    }
    return NULL;
}

static bool below(const struct buf *key, const struct buf *prefix)
{
    return key->len >= prefix->len && memcmp(buf_str(key), buf_str(prefix), prefix->len) == 0;
}

/* Whether some key starts with the first n bytes of key. */
static bool has_prefix(const struct listed *keys, size_t n_keys, const char *s, size_t n)
{
    struct buf prefix = {.data = (char *)(uintptr_t)s, .len = n};
    for (size_t i = 0; i < n_keys; i++) {
        if (below(&keys[i].key, &prefix)) {
            return true;
        }
    }
    return false;
}

/* Walks the tree as readdir would, resolving each name that is shown; each file found must be one
 * of the keys. */
static void walk(struct listed *keys, size_t n_keys, const struct buf *prefix, unsigned depth)
{
    struct buf names[32] = {{0}};
    size_t n_names = 0;
    assert_true(depth < 40);
    for (size_t i = 0; i < n_keys; i++) {
        const struct buf *key = &keys[i].key;
        if (!below(key, prefix)) {
            continue;
        }
        const char *rest = buf_str(key) + prefix->len;
        size_t n = key->len - prefix->len;
        const char *slash = n > 0 ? memchr(rest, '/', n) : NULL;
        size_t len = slash ? (size_t)(slash - rest) + 1 : n;
        CLEANUP(mem_freep) char *as_dir = mem_zalloc(key->len + 2);
        memcpy(as_dir, buf_str(key), key->len);
        as_dir[key->len] = '/';
        bool collides = !slash && has_prefix(keys, n_keys, as_dir, key->len + 1);
        CLEANUP(buf_fini) struct buf name = BUF_INIT;
        bool is_dir;
        int err = names_show(buf_str(prefix), prefix->len, rest, len, slash != NULL, collides,
                             &name, &is_dir);
        if (err == -ENOENT) {
            assert_true(prefix->len > 0 && buf_str(prefix)[prefix->len - 1] != '/');
            continue;
        }
        assert_int_equal(err, 0);
        check_path(&name);
        CLEANUP(names_target_fini) struct names_target t = {0};
        assert_int_equal(names_resolve(buf_str(prefix), prefix->len, buf_str(&name), &t), 0);
        bool seen = false;
        for (size_t j = 0; j < n_names; j++) {
            seen = seen || same(&names[j], buf_str(&name), name.len);
        }
        if (!is_dir) {
            assert_false(seen);
            assert_true(t.file_ok);
            struct listed *found = find_listed(keys, n_keys, &t.key);
            assert_ptr_equal(found, &keys[i]);
            found->found++;
        } else if (!seen) {
            assert_true(t.dir_ok && below(key, &t.prefix) && t.prefix.len > prefix->len);
            walk(keys, n_keys, &t.prefix, depth + 1);
        }
        if (!seen) {
            assert_true(n_names < ARRAY_LEN(names));
            assert_int_equal(buf_add(&names[n_names++], buf_str(&name), name.len), 0);
        }
    }
    for (size_t i = 0; i < n_names; i++) {
        buf_fini(&names[i]);
    }
}

static size_t add_listed(struct listed *keys, size_t n, const char *s, size_t len)
{
    struct buf key = {.data = (char *)(uintptr_t)s, .len = len};
    if (find_listed(keys, n, &key)) {
        return n;
    }
    keys[n] = (struct listed){0};
    assert_int_equal(buf_add(&keys[n].key, s, len), 0);
    return n + 1;
}

static void check_listing(struct listed *keys, size_t n)
{
    struct buf root = BUF_INIT;
    walk(keys, n, &root, 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(keys[i].found, 1);
        buf_fini(&keys[i].key);
    }
}

static void test_listing(void **state)
{
    struct listed keys[32];
    static const char *const odd[] = {
        "a//b",   "/lead",   ".",     "..",    "x/../y", "dir", "dir/file", "dir/",
        "dir//x", "dir^2F",  "nl\nx", "tab\t", "%2F",    "*",   "한글",     "\xf0\x9f\x98\x80",
        "trail ", "\xff\xfe"};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        n = add_listed(keys, n, odd[i], strlen(odd[i]));
    }
    char text[910];
    fill(text, sizeof(text), "k");
    n = add_listed(keys, n, text, 900);
    n = add_listed(keys, n, text, 300);
    n = add_listed(keys, n, text, 249);
    for (size_t len = 252; len <= 254; len++) {
        n = add_listed(keys, n, text, len);
        text[len] = '/';
        n = add_listed(keys, n, text, len + 2);
        text[len] = 'k';
    }
    check_listing(keys, n);

    for (int round = 0; round < 400; round++) {
        n = 0;
        bool long_ones = round % 4 == 0;
        for (size_t i = 0; i < 12; i++) {
            char s[600];
            size_t len = 1 + random_below(5), at = 0;
            if (long_ones) {
                at = 240 + random_below(20);
                fill(s, at, round % 8 == 0 ? "a" : "\xed\x95\x9c");
            }
            for (size_t j = 0; j < len; j++) {
                s[at + j] = random_below(3) == 0 ? '/' : alphabet[random_below(sizeof(alphabet))];
            }
            n = add_listed(keys, n, s, at + len);
        }
        check_listing(keys, n);
    }
}

static int teardown(void **state)
{
    buf_fini(&path);
    buf_fini(&back);
    return 0;
}

/* All that begins with up to two bytes, by what RFC 3629 says of first and second bytes; the rest is 0x80 to 0xbf. */
static void test_utf8(void **state)
{
    (void)state;
    assert_true(names_is_utf8("", 0));
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            char s[4] = {(char)a, (char)b, (char)0x80, (char)0xbf};
            bool next = b >= 0x80 && b <= 0xbf;
            bool two = a >= 0xc2 && a <= 0xdf && next;
            bool three = (a >= 0xe0 && a <= 0xef && next) && !(a == 0xe0 && b < 0xa0) && !(a == 0xed && b > 0x9f);
            bool four = (a >= 0xf0 && a <= 0xf4 && next) && !(a == 0xf0 && b < 0x90) && !(a == 0xf4 && b > 0x8f);
            assert_int_equal(names_is_utf8(s, 1), a < 0x80);
            assert_int_equal(names_is_utf8(s, 2), (a < 0x80 && b < 0x80) || two);
            assert_int_equal(names_is_utf8(s, 3), three || (a < 0x80 && (b & 0xe0) == 0xc0 && b >= 0xc2));
            assert_int_equal(names_is_utf8(s, 4), four || (a < 0x80 && b >= 0xe1 && b <= 0xef));
            s[3] = 'x';
            assert_false(names_is_utf8(s, 4) && (two || four)); /* cut short */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_object_form),  cmocka_unit_test(test_all_short),
        cmocka_unit_test(test_all_bytes),    cmocka_unit_test(test_total),
        cmocka_unit_test(test_long),         cmocka_unit_test(test_long_random),
        cmocka_unit_test(test_continuation), cmocka_unit_test(test_listing),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests_name("names", tests, NULL, teardown);
}
