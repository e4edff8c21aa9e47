/* Keys that are more than a name: content under a directory's own key, an object beside a directory, components longer than a
 * name, keys the provider takes no object of. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>

#include "mem.h"
#include "names.h"

/* What NAME in directory PREFIX is, as fs/ asks. */
static enum clookup_kind look(struct fx *fx, const char *prefix, const char *name)
{
    CLEANUP(names_target_fini) struct names_target t = {0};
    if (names_resolve(prefix, strlen(prefix), name, &t) < 0) {
        return CLOOKUP_NONE;
    }
    struct clookup l = {.parent = prefix,
                        .key = t.file_ok ? buf_str(&t.key) : NULL,
                        .prefix = t.dir_ok ? buf_str(&t.prefix) : NULL,
                        .r.ref.remote = fx->r[0]};
    FX_WAIT(&l.r, cache_lookup(fx->c, &l));
    assert_int_equal(l.r.status, 0);
    return l.kind;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Words in byte order: names made here follow those a listing brought. */
static char *in_order(const char *text)
{
    char *words[32], *rest = NULL;
    size_t n = 0;
    CLEANUP(mem_freep) char *copy = mem_strdup(text);
    for (char *w = strtok_r(copy, " ", &rest); w != NULL && n < ARRAY_LEN(words); w = strtok_r(NULL, " ", &rest)) {
        words[n++] = w;
    }
    qsort(words, n, sizeof(words[0]), by_text);
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(buf_addf(&out, "%s%s", i > 0 ? " " : "", words[i]), 0);
    }
    return mem_strdup(buf_str(&out));
}

/* The names in a directory, joined by blanks, as fs/ shows them. */
static char *names_in(struct fx *fx, const char *prefix)
{
    struct creq q = {.ref = {.remote = fx->r[0], .key = prefix, .dir = true}};
    CLEANUP(buf_fini) struct buf out = BUF_INIT;
    FX_WAIT(&q, cache_opendir(fx->c, &q));
    assert_int_equal(q.status, 0);
    struct cdir *d = q.dir;
    for (uint64_t i = 0;;) {
        struct creq more = {0};
        FX_WAIT(&more, cache_readdir(fx->c, &more, d, i));
        assert_int_equal(more.status, 0);
        if (more.size == 0) {
            break;
        }
        for (uint64_t end = i + more.size; i < end; i++) {
            struct cdirent e;
            CLEANUP(buf_fini) struct buf name = BUF_INIT;
            bool dir;
            if (cache_dirent(d, i, &e) &&
                names_show(prefix, strlen(prefix), e.rest, e.rest_len, e.is_dir, e.collides, &name, &dir) == 0) {
                assert_int_equal(buf_addf(&out, "%s%s%s", out.len > 0 ? " " : "", buf_str(&name), dir ? "/" : ""), 0);
            }
        }
    }
    cache_closedir(d);
    return in_order(buf_str(&out));
}

static void assert_names(struct fx *fx, const char *prefix, const char *want)
{
    CLEANUP(mem_freep) char *got = names_in(fx, prefix);
    assert_string_equal(got, want);
}

/* ---- a directory's own key ---- */

/* As fs/ makes the file: fx_put would open the directory. */
static void put_content(struct fx *fx, const char *key, const char *text)
{
    struct chandle *h;
    assert_int_equal(fx_create(fx, 0, key, &h), 0);
    assert_int_equal(fx_write(fx, h, 0, text, strlen(text)), 0);
    assert_int_equal(fx_end(fx, h), 0);
}

static bool content_is(struct fx *fx, const char *key, const char *text)
{
    char buf[64];
    struct chandle *h;
    if (fx_openf(fx, 0, key, O_RDONLY, &h) < 0) {
        return false;
    }
    ssize_t n = fx_read(fx, h, 0, buf, sizeof(buf));
    cache_release(fx->c, h);
    return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

/* A directory whose marker gave way to content is there, whatever old listings say: nothing of it is at the provider yet. */
static void content_in_place_of_the_marker(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 1;
    fx_open(fx);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    put_content(fx, "c", "content");
    struct creq q = {.ref = {.remote = fx->r[0], .key = "c"}};
    const struct cref to = {.remote = fx->r[0], .key = "d/"};
    FX_WAIT(&q, cache_rename(fx->c, &q, &to, RENAME_NOREPLACE));
    assert_int_equal(q.status, 0); /* a marker is no file; mv takes nothing but ENOENT for a free name that it finds free then */
    fx_sleep_ms(20); /* what a listing said is old */
    assert_names(fx, "", "d/");
    assert_names(fx, "d/", "^2F");
    fx_text(fx, 0, "d/f", "1");
    fx_sleep_ms(20);
    assert_names(fx, "", "d/");
}

/* Without markers a directory is there by what will be in it. */
static void made_without_markers(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 1;
    fx->opt.dirmarker = CACHE_DIRMARKER_NEVER;
    fx_open(fx);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    assert_int_equal(fx_mkdir(fx, 0, "d/e/"), 0);
    fx_text(fx, 0, "d/e/f", "1");
    assert_false(fx_idle_within(fx, 200)); /* the markers are seen to; the file waits for its next attempt */
    assert_names(fx, "", "d/");
    assert_names(fx, "d/", "e/");
}

static void content_of_a_directory(void **state)
{
    struct fx *fx = *state;
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    put_content(fx, "d/", "bytes");
    assert_int_equal(look(fx, "", "d"), CLOOKUP_DIR);
    assert_int_equal(look(fx, "d/", "^2F"), CLOOKUP_FILE);
    assert_names(fx, "d/", "^2F");
    assert_true(content_is(fx, "d/", "bytes"));
    fx_idle(fx);
    assert_at(fx, 0, "d/", "bytes");
    struct cattr a;
    assert_int_equal(fx_lookup(fx, 0, "d/", &a), 0);
    assert_true(S_ISDIR(a.mode));
    assert_int_equal(a.mode & 0700, 0700); /* the file's 0644 is not the directory's */
}

static void attributes_spare_content(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "d/", "bytes");
    fx_at_put(fx, 0, "d/f", "1");
    struct cattr a = {.mode = 0700, .mtime_ns = 5000000000};
    assert_int_equal(fx_setattr(fx, 0, "d/", CSET_MODE | CSET_MTIME, &a), 0);
    fx_idle(fx);
    assert_at(fx, 0, "d/", "bytes");
    assert_names(fx, "d/", "^2F f");
    assert_int_equal(fx_setattr(fx, 0, "d/", CSET_MODE, &a), 0); /* with all of it listed */
    fx_idle(fx);
    assert_at(fx, 0, "d/", "bytes");
    assert_true(content_is(fx, "d/", "bytes"));
}

/* To look for content first does not cost what the marker itself says; 60_posix.sh has the same with an empty cache. */
static void attributes_of_a_marker(void **state)
{
    struct fx *fx = *state;
    char value[256];
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    assert_int_equal(fx_setxattr(fx, 0, "d/", "user.colour", "blue"), 0);
    fx_idle(fx);
    for (int i = 0; i < 2; i++) {
        fx_close(fx);
        fx_open(fx);
        if (i > 0) {
            assert_true(fx_getxattr(fx, 0, "d/", "user.colour", value) >= 0);
            assert_string_equal(value, "blue");
        }
        struct cattr a = {.mode = 0700};
        assert_int_equal(fx_setattr(fx, 0, "d/", CSET_MODE, &a), 0);
        fx_idle(fx);
    }
}

static void content_goes_alone(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "d/", "bytes");
    fx_at_put(fx, 0, "d/f", "1");
    assert_names(fx, "d/", "^2F f");
    assert_int_equal(fx_unlink(fx, 0, "d/"), 0);
    assert_names(fx, "d/", "f");
    assert_int_equal(look(fx, "", "d"), CLOOKUP_DIR);
    assert_int_equal(look(fx, "d/", "^2F"), CLOOKUP_NONE);
    fx_idle(fx);
    assert_at(fx, 0, "d/", NULL);
    assert_at(fx, 0, "d/f", "1");
    assert_int_equal(look(fx, "", "d"), CLOOKUP_DIR);
}

static void content_moves_with_its_directory(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "d/", "bytes");
    fx_at_put(fx, 0, "d/f", "1");
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), 0);
    assert_int_equal(fx_rename(fx, 0, "d/", "e/", 0), 0);
    assert_names(fx, "e/", "^2F f");
    fx_idle(fx);
    assert_at(fx, 0, "e/", "bytes");
    assert_at(fx, 0, "e/f", "1");
    assert_int_equal(fx_at_count(fx, 0, "d/"), 0);
    assert_int_equal(look(fx, "", "d"), CLOOKUP_NONE);
}

/* Its copy fails: then the only place that holds it is not deleted. */
static void content_stays_when_its_move_fails(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "d/", "bytes");
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), 0);
    fx_fault(fx, 0, BE_COPY, 0, 0, -EACCES, ERR_AUTH, false);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_rename(fx, 0, "d/", "e/", 0), 0);
    fx_idle_within(fx, 2000);
    assert_at(fx, 0, "d/", "bytes");
}

static void content_after_a_restart(void **state)
{
    struct fx *fx = *state;
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    put_content(fx, "d/", "bytes");
    fx_text(fx, 0, "d/g", "2");
    fx_close(fx);
    fx_open(fx);
    assert_names(fx, "d/", "^2F g");
    assert_true(content_is(fx, "d/", "bytes"));
    fx_idle(fx);
    assert_at(fx, 0, "d/", "bytes");
}

/* ---- an object beside a directory ---- */

static int make_as(struct fx *fx, const char *key, bool object_form)
{
    struct creq q = {.ref = {.remote = fx->r[0], .key = key, .object_form = object_form}, .attr.mode = 0644};
    FX_WAIT(&q, cache_create(fx->c, &q, O_RDWR | O_CREAT));
    return q.status != 0 ? q.status : fx_end(fx, q.handle);
}

static void object_before_directory(void **state)
{
    struct fx *fx = *state;
    assert_int_equal(look(fx, "", "dir^2F"), CLOOKUP_NONE);
    assert_int_equal(make_as(fx, "dir", true), 0);
    assert_names(fx, "", "dir^2F");
    assert_int_equal(look(fx, "", "dir^2F"), CLOOKUP_FILE);
    assert_int_equal(look(fx, "", "dir"), CLOOKUP_NONE); /* or mkdir could not be */
    fx_idle(fx);
    assert_int_equal(look(fx, "", "dir"), CLOOKUP_NONE);
    assert_int_equal(fx_mkdir(fx, 0, "dir/"), 0);
    assert_int_equal(look(fx, "", "dir"), CLOOKUP_DIR);
    assert_int_equal(look(fx, "", "dir^2F"), CLOOKUP_FILE);
    assert_int_equal(fx_rmdir(fx, 0, "dir/"), 0);
    assert_int_equal(make_as(fx, "dir", false), 0); /* now somebody uses the plain name */
    assert_int_equal(look(fx, "", "dir"), CLOOKUP_FILE);
    assert_names(fx, "", "dir");
}

/* The copy that made it was interrupted, and is run again. */
static void object_written_again(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "dir", "bytes");
    assert_int_equal(look(fx, "", "dir"), CLOOKUP_FILE);
    for (int i = 0; i < 2; i++) { /* reading it by that name changes nothing */
        struct creq q = {.ref = {.remote = fx->r[0], .key = "dir", .object_form = true}};
        FX_WAIT(&q, cache_open_file(fx->c, &q, i == 0 ? O_RDONLY : O_WRONLY | O_TRUNC));
        assert_int_equal(q.status, 0);
        assert_int_equal(fx_end(fx, q.handle), 0);
        assert_int_equal(look(fx, "", "dir"), i == 0 ? CLOOKUP_FILE : CLOOKUP_NONE);
    }
}

static void object_renamed_beside_directory(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "bytes");
    assert_int_equal(look(fx, "", "f"), CLOOKUP_FILE);
    struct creq q = {.ref = {.remote = fx->r[0], .key = "f"}};
    const struct cref to = {.remote = fx->r[0], .key = "dir", .object_form = true};
    FX_WAIT(&q, cache_rename(fx->c, &q, &to, 0));
    assert_int_equal(q.status, 0);
    assert_int_equal(look(fx, "", "dir"), CLOOKUP_NONE);
    assert_int_equal(look(fx, "", "dir^2F"), CLOOKUP_FILE);
}

/* ---- components longer than a name ---- */

/* n times c and then the rest. */
static char *long_key(char c, size_t n, const char *rest)
{
    char *s = mem_zalloc(n + strlen(rest) + 1);
    memset(s, c, n);
    memcpy(s + n, rest, strlen(rest));
    return s;
}

static int dir_call(struct fx *fx, void (*call)(struct cache *c, struct creq *r), const char *prefix)
{
    struct creq q = {.ref = {.remote = fx->r[0], .key = prefix, .dir = true}, .attr.mode = 0755};
    FX_WAIT(&q, call(fx->c, &q));
    return q.status;
}

static void continuation_directory(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *chunk = long_key('c', 249, "");
    CLEANUP(mem_freep) char *name = long_key('c', 249, "^2F^2F");
    CLEANUP(mem_freep) char *one = long_key('c', 249, "ccccccc1");
    CLEANUP(mem_freep) char *two = long_key('c', 249, "ccccccc2");
    CLEANUP(mem_freep) char *whole = long_key('c', 249, "!"); /* begins like it, and shows whole */
    fx_text(fx, 0, whole, "whole");
    assert_int_equal(look(fx, "", name), CLOOKUP_NONE);
    assert_int_equal(dir_call(fx, cache_mkdir, chunk), 0);
    assert_int_equal(look(fx, "", name), CLOOKUP_DIR);
    assert_names(fx, chunk, "");
    fx_text(fx, 0, one, "1");
    assert_names(fx, chunk, "ccccccc1"); /* at once */
    assert_int_equal(look(fx, chunk, "ccccccc1"), CLOOKUP_FILE);
    fx_text(fx, 0, two, "2");
    assert_names(fx, chunk, "ccccccc1 ccccccc2");
    assert_int_equal(dir_call(fx, cache_rmdir, chunk), -ENOTEMPTY);
    fx_idle(fx);
    CLEANUP(mem_freep) char *keys = fx_at_keys(fx, 0);
    CLEANUP(mem_freep) char *want = mem_printf("%s %s %s", whole, one, two); /* no marker */
    assert_string_equal(keys, want);
    assert_int_equal(fx_unlink(fx, 0, one), 0);
    assert_int_equal(fx_unlink(fx, 0, two), 0);
    assert_names(fx, chunk, "");
    assert_int_equal(look(fx, "", name), CLOOKUP_DIR); /* rm -r removes it yet */
    assert_int_equal(dir_call(fx, cache_rmdir, chunk), 0);
    assert_int_equal(look(fx, "", name), CLOOKUP_NONE);
    fx_idle(fx);
    assert_at(fx, 0, whole, "whole");
}

/* Its prefix is one of keys that are not in it: no rename of a prefix, no marker, no attributes. */
static void continuation_is_no_prefix(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *chunk = long_key('c', 249, "");
    CLEANUP(mem_freep) char *in = long_key('c', 249, "ccccccc1");
    CLEANUP(mem_freep) char *below = long_key('c', 249, "/f");
    fx_at_put(fx, 0, chunk, "an object of that very key");
    fx_at_put(fx, 0, in, "1");
    fx_at_put(fx, 0, below, "2");
    assert_names(fx, chunk, "ccccccc1");
    const struct cref from = {.remote = fx->r[0], .key = chunk, .dir = true};
    const struct cref to = {.remote = fx->r[0], .key = "e/", .dir = true};
    struct creq q = {.ref = from};
    FX_WAIT(&q, cache_rename(fx->c, &q, &to, 0));
    assert_int_equal(q.status, -EXDEV);
    q = (struct creq){.ref = to};
    FX_WAIT(&q, cache_rename(fx->c, &q, &from, 0));
    assert_int_equal(q.status, -EXDEV);
    q = (struct creq){.ref = from, .attr = {.mode = 0700}};
    FX_WAIT(&q, cache_setattr(fx->c, &q, CSET_MODE));
    assert_int_equal(q.status, 0);
    assert_true(S_ISDIR(q.attr.mode));
    q = (struct creq){.ref = from};
    FX_WAIT(&q, cache_listxattr(fx->c, &q));
    assert_int_equal(q.status, 0);
    assert_int_equal(q.size, 0);
    fx_idle(fx);
    assert_at(fx, 0, chunk, "an object of that very key");
    assert_at(fx, 0, in, "1");
    assert_at(fx, 0, below, "2");
    assert_int_equal(fx_unlink(fx, 0, in), 0);
    assert_int_equal(dir_call(fx, cache_rmdir, chunk), 0);
    fx_idle(fx);
    assert_at(fx, 0, chunk, "an object of that very key");
    assert_at(fx, 0, below, "2");
}

/* ---- what the provider takes no object of ---- */

static void refused_before_bytes_move(void **state)
{
    struct fx *fx = *state;
    CLEANUP(mem_freep) char *key = long_key('k', 1100, ""); /* memory takes 1024 */
    CLEANUP(mem_freep) char *dir = long_key('k', 1100, "/");
    struct chandle *h;
    fx_text(fx, 0, "f", "bytes");
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    fx_text(fx, 0, "d/f", "bytes");
    fx_idle(fx);
    unsigned writes = fx_calls(fx, 0, BE_WRITE), copies = fx_calls(fx, 0, BE_COPY);
    assert_int_equal(fx_create(fx, 0, key, &h), -ENAMETOOLONG);
    assert_int_equal(fx_mkdir(fx, 0, dir), -ENAMETOOLONG);
    assert_int_equal(fx_rename(fx, 0, "f", key, 0), -ENAMETOOLONG);
    assert_int_equal(fx_rename(fx, 0, "d/", dir, 0), -ENAMETOOLONG);
    struct creq q = {.ref = {.remote = fx->r[0], .key = key}, .data = "x", .size = 1};
    FX_WAIT(&q, cache_symlink(fx->c, &q));
    assert_int_equal(q.status, -ENAMETOOLONG);
    q = (struct creq){.ref = {.remote = fx->r[0], .key = key}, .attr.mode = S_IFIFO | 0644};
    FX_WAIT(&q, cache_mknod(fx->c, &q));
    assert_int_equal(q.status, -ENAMETOOLONG);
    fx_idle(fx);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), writes);
    assert_int_equal(fx_calls(fx, 0, BE_COPY), copies);
    assert_at(fx, 0, "f", "bytes");
    assert_at(fx, 0, "d/f", "bytes");
    assert_int_equal(fx_progress(fx).failed, 0);
}

/* The bucket itself has no key that attributes could go under. */
static void attributes_of_the_root(void **state)
{
    struct fx *fx = *state;
    struct cattr a = {.mtime_ns = 5000000000};
    assert_int_equal(fx_setattr(fx, 0, "", CSET_MTIME, &a), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 0);
    assert_int_equal(fx_at_count(fx, 0, ""), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
    const struct CMUnitTest tests[] = {
        T(content_in_place_of_the_marker), T(made_without_markers), T(content_of_a_directory), T(attributes_spare_content), T(attributes_of_a_marker), T(content_goes_alone), T(content_moves_with_its_directory),
        T(content_stays_when_its_move_fails), T(content_after_a_restart), T(object_before_directory), T(object_written_again),
        T(object_renamed_beside_directory), T(continuation_directory), T(continuation_is_no_prefix),
        T(refused_before_bytes_move), T(attributes_of_the_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
