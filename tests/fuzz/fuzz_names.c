/* Keys and path names. Digit: 0 = the rest is a key, 1 = a path.
 *
 * What holds: every key has a path, of names the kernel takes, that leads back to it; a path leads
 * to no key or to one whose path it is (but for the object form, the second name of a file beside a
 * directory); what a name resolves to in a directory is shown there under that name. */
#include "fuzz.h"

#include <errno.h>

#include "names.h"

static bool same(const struct buf *b, const char *s, size_t n)
{
    return b->len == n && memcmp(buf_str(b), s, n) == 0;
}

static void check_path_text(const struct buf *path)
{
    ENSURE(path->len > 0 && strlen(path->data) == path->len && fuzz_one_line(path->data));
    for (const char *p = path->data;; p++) {
        size_t n = strcspn(p, "/");
        ENSURE(n > 0 && n <= NAMES_MAX);
        ENSURE(!(n == 1 && p[0] == '.') && !(n == 2 && memcmp(p, "..", 2) == 0) &&
               !(n == 7 && memcmp(p, ".objmig", 7) == 0));
        p += n;
        if (*p == '\0') {
            return;
        }
    }
}

static void check_key(const char *key, size_t n)
{
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    CLEANUP(buf_fini) struct buf back = BUF_INIT;
    int err = names_path_of_key(key, n, &path);
    if (n == 0) {
        ENSURE(err == -EINVAL);
        return;
    }
    ENSURE(err == 0);
    check_path_text(&path);
    ENSURE(names_key_of_path(path.data, &back) == 0 && same(&back, key, n));
}

static void check_shown(const struct buf *prefix, const char *name, const struct names_target *t)
{
    CLEANUP(buf_fini) struct buf shown = BUF_INIT;
    bool is_dir;
    size_t at = prefix->len;
    if (t->file_ok) {
        ENSURE(t->key.len >= at && memcmp(buf_str(&t->key), buf_str(prefix), at) == 0);
        ENSURE(names_show(buf_str(prefix), at, t->key.data + at, t->key.len - at, false, !t->dir_ok,
                          &shown, &is_dir) == 0);
        ENSURE(!is_dir && same(&shown, name, strlen(name)));
    }
    if (t->dir_ok && t->prefix.data[t->prefix.len - 1] == '/') {
        ENSURE(t->prefix.len > at && memcmp(t->prefix.data, buf_str(prefix), at) == 0);
        ENSURE(names_show(buf_str(prefix), at, t->prefix.data + at, t->prefix.len - at, true, false,
                          &shown, &is_dir) == 0);
        ENSURE(is_dir && same(&shown, name, strlen(name)));
    }
}

/* Down the path as the kernel goes it. *ret_object: its last name is an object form. */
static bool walk(const char *path, struct buf *ret_key, bool *ret_object)
{
    CLEANUP(buf_fini) struct buf prefix = BUF_INIT;
    for (;;) {
        size_t n = strcspn(path, "/");
        CLEANUP(mem_freep) char *name = mem_strndup(path, n);
        CLEANUP(names_target_fini) struct names_target t = {0};
        int err = names_resolve(buf_str(&prefix), prefix.len, name, &t);
        if (err < 0) {
            ENSURE(err == -ENOENT || err == -ENAMETOOLONG);
            return false;
        }
        ENSURE(t.file_ok || t.dir_ok);
        check_shown(&prefix, name, &t);
        path += n;
        if (*path == '\0') {
            *ret_object = t.file_ok && !t.dir_ok;
            return t.file_ok && buf_add(ret_key, t.key.data, t.key.len) == 0;
        }
        if (!t.dir_ok) {
            return false;
        }
        struct buf swap = prefix;
        prefix = t.prefix;
        t.prefix = swap;
        path++;
    }
}

static void check_path(const char *path)
{
    CLEANUP(buf_fini) struct buf key = BUF_INIT;
    CLEANUP(buf_fini) struct buf walked = BUF_INIT;
    CLEANUP(buf_fini) struct buf back = BUF_INIT;
    bool object = false;
    int err = names_key_of_path(path, &key);
    bool found = walk(path, &walked, &object);
    ENSURE((err == 0) == found);
    if (found) {
        ENSURE(same(&walked, key.data, key.len));
        ENSURE(names_path_of_key(key.data, key.len, &back) == 0);
        ENSURE(object || same(&back, path, strlen(path)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    if (fuzz_digit(&in) % 2 == 0) {
        check_key(in.p, fuzz_left(&in));
    } else {
        CLEANUP(mem_freep) char *path = fuzz_rest(&in);
        check_path(path);
    }
    return 0;
}
