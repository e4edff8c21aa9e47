/* What the cache promises while nothing fails: content, order, names, metadata. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "mem.h"

/* ---- content ---- */

static void written_sealed_read(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    char got[64];
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "hello", 5), 0);
    fx_idle(fx);
    assert_at(fx, 0, "f", NULL); /* not sealed: not published */
    assert_int_equal(fx_write(fx, h, 5, " world", 6), 0);
    assert_int_equal(fx_read(fx, h, 0, got, sizeof(got)), 11);
    assert_memory_equal(got, "hello world", 11);
    assert_int_equal(fx_end(fx, h), 0);
    assert_true(fx_is(fx, 0, "f", "hello world"));
    fx_idle(fx);
    assert_at(fx, 0, "f", "hello world");
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1);
    CLEANUP(mem_freep) char *md5 = fx_at_meta(fx, 0, "f", "meta-md5");
    assert_string_equal(md5, "5eb63bbbe01eeed093cb22bb8f5acdc3");
    fx_text(fx, 0, "empty", "");
    fx_idle(fx);
    assert_at(fx, 0, "empty", "");
}

static void truncated_while_pending(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "the first content");
    fx_text(fx, 0, "f", "second");
    assert_true(fx_is(fx, 0, "f", "second"));
    fx_idle(fx);
    assert_at(fx, 0, "f", "second");
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1);
    fx_text(fx, 0, "f", "third");
    fx_idle(fx);
    assert_at(fx, 0, "f", "third");
}

static void write_after_seal(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "aaaa", 4), 0);
    assert_int_equal(fx_flush(fx, h), 0);
    assert_int_equal(fx_write(fx, h, 2, "bb", 2), 0);
    fx_idle(fx);
    assert_at(fx, 0, "f", NULL); /* the write took the seal back */
    assert_int_equal(fx_end(fx, h), 0);
    fx_idle(fx);
    assert_at(fx, 0, "f", "aabb");
    assert_int_equal(fx_openf(fx, 0, "f", O_RDWR, &h), 0); /* over what is committed */
    assert_int_equal(fx_write(fx, h, 0, "c", 1), 0);
    assert_int_equal(fx_end(fx, h), 0);
    assert_true(fx_is(fx, 0, "f", "cabb"));
    fx_idle(fx);
    assert_at(fx, 0, "f", "cabb");
}

static void copied_whole(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "src", "source bytes");
    assert_int_equal(fx_cp(fx, 0, "src", 1, "dst"), 0);
    assert_true(fx_is(fx, 1, "dst", "source bytes"));
    fx_idle(fx);
    assert_at(fx, 1, "dst", "source bytes");
    assert_int_equal(fx_calls(fx, 1, BE_COPY), 1);
    assert_int_equal(fx_calls(fx, 1, BE_WRITE), 0);
    /* the same again moves nothing */
    assert_int_equal(fx_cp(fx, 0, "src", 1, "dst"), 0);
    fx_idle(fx);
    assert_int_equal(fx_calls(fx, 1, BE_COPY), 1);
    assert_int_equal(fx_calls(fx, 1, BE_WRITE), 0);
    assert_at(fx, 1, "dst", "source bytes");
}

static void copied_from_pending(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "p", "pending");
    assert_int_equal(fx_cp(fx, 0, "p", 1, "q"), 0);
    fx_text(fx, 0, "p", "later");
    assert_true(fx_is(fx, 1, "q", "pending"));
    fx_idle(fx);
    assert_at(fx, 0, "p", "later");
    assert_at(fx, 1, "q", "pending");
}

static void copied_in_part(void **state)
{
    struct fx *fx = *state;
    struct chandle *in, *out;
    fx_at_put(fx, 0, "src", "0123456789");
    assert_int_equal(fx_lookup(fx, 0, "src", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "src", O_RDONLY, &in), 0);
    assert_int_equal(fx_create(fx, 1, "dst", &out), 0);
    assert_int_equal(fx_write(fx, out, 0, "ab", 2), 0);
    assert_int_equal(fx_range(fx, in, 3, out, 2, 4), 4);
    assert_int_equal(fx_write(fx, out, 6, "yz", 2), 0);
    assert_int_equal(fx_end(fx, out), 0);
    assert_int_equal(fx_end(fx, in), 0);
    assert_true(fx_is(fx, 1, "dst", "ab3456yz"));
    fx_idle(fx);
    assert_at(fx, 1, "dst", "ab3456yz");
}

/* One byte after ten parts must not move the ten. */
static void appended(void **state)
{
    struct fx *fx = *state;
    size_t n = 10 * (size_t)FX_THRESHOLD;
    char *big = malloc(n + 1), *got = malloc(n + 2);
    struct chandle *h;
    fx_pattern(big, n + 1, 0, 1);
    assert_int_equal(fx_put(fx, 0, "big", big, n), 0);
    fx_idle(fx);
    assert_int_equal(fx_at(fx, 0, "big", got, n + 2), n);
    assert_memory_equal(got, big, n);
    assert_int_equal(fx_at_uploads(fx, 0), 0);
    fx_close(fx); /* local bytes are given up: only the provider has them */
    fx_open(fx);
    assert_int_equal(fx_lookup(fx, 0, "big", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "big", O_WRONLY | O_APPEND, &h), 0);
    assert_int_equal(fx_write(fx, h, n, big + n, 1), 0);
    assert_int_equal(fx_end(fx, h), 0);
    fx_idle(fx);
    assert_int_equal(fx_at(fx, 0, "big", got, n + 2), n + 1);
    assert_memory_equal(got, big, n + 1);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 0);
    assert_in_range(fx_calls(fx, 0, BE_READ), 0, 2); /* the last part's neighbourhood at most */
    assert_int_equal(fx_calls(fx, 0, BE_MP_COMMIT), 1);
    assert_int_equal(fx_at_uploads(fx, 0), 0);
    free(big);
    free(got);
}

static void truncated(void **state)
{
    struct fx *fx = *state;
    struct cattr a = {.size = 4};
    fx_at_put(fx, 0, "f", "0123456789");
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), 0);
    assert_int_equal(fx_setattr(fx, 0, "f", CSET_SIZE, &a), 0);
    assert_true(fx_is(fx, 0, "f", "0123"));
    fx_idle(fx);
    assert_at(fx, 0, "f", "0123");
    a.size = 6;
    assert_int_equal(fx_setattr(fx, 0, "f", CSET_SIZE, &a), 0);
    fx_idle(fx);
    char got[8];
    assert_int_equal(fx_at(fx, 0, "f", got, 8), 6);
    assert_memory_equal(got, "0123\0\0", 6);
}

/* ---- names ---- */

static void renamed(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, ".tmp", "new"); /* rsync: one PUT under the final name */
    assert_int_equal(fx_rename(fx, 0, ".tmp", "f", 0), 0);
    assert_true(fx_is(fx, 0, ".tmp", NULL));
    fx_idle(fx);
    assert_at(fx, 0, "f", "new");
    assert_at(fx, 0, ".tmp", NULL);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1);
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0); /* committed */
    assert_true(fx_is(fx, 0, "g", "new"));
    fx_idle(fx);
    assert_at(fx, 0, "g", "new");
    assert_at(fx, 0, "f", NULL);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1);
    fx_text(fx, 0, "old", "to be replaced");
    fx_idle(fx);
    assert_int_equal(fx_rename(fx, 0, "g", "old", 1 /* RENAME_NOREPLACE */), -EEXIST);
    assert_int_equal(fx_rename(fx, 0, "g", "old", 0), 0);
    fx_idle(fx);
    assert_at(fx, 0, "old", "new");
    assert_at(fx, 0, "g", NULL);
    assert_true(fx_is(fx, 0, "old", "new"));
}

static void put_empty_with_meta(struct fx *fx, const char *key)
{
    struct kvlist meta = {0};
    kv_set(&meta, "meta-owner-of", key);
    kv_set(&meta, "cache-control", "no-store");
    struct be_write q = {.op = {.key = key}, .data = "", .meta = &meta};
    assert_int_equal(BE_SYNC(fx->look[0], be_write, &q), 0);
    kv_fini(&meta);
}

static void has_meta_of(struct fx *fx, const char *key, const char *old)
{
    CLEANUP(mem_freep) char *user = fx_at_meta(fx, 0, key, "meta-owner-of");
    CLEANUP(mem_freep) char *header = fx_at_meta(fx, 0, key, "cache-control");
    assert_at(fx, 0, key, "");
    assert_at(fx, 0, old, NULL);
    assert_non_null(user);
    assert_string_equal(user, old);
    assert_non_null(header);
    assert_string_equal(header, "no-store");
}

/* An object without bytes keeps what its metadata says, though there is nothing to copy; over a restart, too. */
static void renamed_empty(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "other", "x"); /* opens the looker */
    put_empty_with_meta(fx, "empty");
    put_empty_with_meta(fx, "d/empty");
    put_empty_with_meta(fx, "d/");
    assert_int_equal(fx_lookup(fx, 0, "empty", NULL), 0);
    assert_int_equal(fx_rename(fx, 0, "empty", "moved", 0), 0);
    assert_int_equal(fx_rename(fx, 0, "d/", "e/", 0), 0);
    fx_close(fx);
    fx_open(fx);
    fx_idle(fx);
    has_meta_of(fx, "moved", "empty");
    has_meta_of(fx, "e/empty", "d/empty");
    has_meta_of(fx, "e/", "d/");
}

static void renamed_directory(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "d/one", "1");
    fx_at_put(fx, 0, "d/sub/two", "2");
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), 0);
    fx_text(fx, 0, "d/three", "3"); /* pending */
    assert_int_equal(fx_rename(fx, 0, "d/", "e/", 0), 0);
    assert_true(fx_is(fx, 0, "e/one", "1"));
    assert_true(fx_is(fx, 0, "e/sub/two", "2"));
    assert_true(fx_is(fx, 0, "e/three", "3"));
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), -ENOENT);
    CLEANUP(mem_freep) char *ls = fx_ls(fx, 0, "e/");
    assert_string_equal(ls, "one sub/ three");
    fx_idle(fx);
    assert_at(fx, 0, "e/one", "1");
    assert_at(fx, 0, "e/sub/two", "2");
    assert_at(fx, 0, "e/three", "3");
    assert_int_equal(fx_at_count(fx, 0, "d/"), 0);
}

static void unlinked(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "never sent");
    assert_int_equal(fx_unlink(fx, 0, "f"), 0);
    assert_true(fx_is(fx, 0, "f", NULL));
    fx_idle(fx);
    assert_at(fx, 0, "f", NULL);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 0);
    assert_int_equal(fx_calls(fx, 0, BE_REMOVE), 0);
    fx_hold(fx, 0, BE_WRITE, 1);
    fx_text(fx, 0, "g", "on its way");
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_WRITE) == 1);
    assert_int_equal(fx_unlink(fx, 0, "g"), 0);
    assert_true(fx_is(fx, 0, "g", NULL));
    fx_let_go(fx, 0);
    fx_idle(fx);
    assert_at(fx, 0, "g", NULL);
    assert_int_equal(fx_unlink(fx, 0, "g"), -ENOENT);
}

/* A file moved while its first PUT is on its way: the provider never has neither name. */
static void renamed_while_sent(void **state)
{
    struct fx *fx = *state;
    fx_delay(fx, 0, BE_WRITE, 0, 1, 150);
    fx_delay(fx, 0, BE_WRITE, 0, 1, 600);
    fx_text(fx, 0, "f", "moving");
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_WRITE) == 1);
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    bool there = false;
    for (int i = 0; i < 100; i++) {
        bool now = fx_at_is(fx, 0, "f", "moving") || fx_at_is(fx, 0, "g", "moving");
        assert_true(now || !there);
        there = there || now;
        cache_hurry(fx->c, NULL);
        fx_sleep_ms(10);
    }
    fx_idle(fx);
    assert_at(fx, 0, "g", "moving");
    assert_at(fx, 0, "f", NULL);
}

/* What is not at the provider yet is in its directory all the same: when the listing is an old one, and after a restart. */
static void pending_names_are_listed(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 1;
    fx_open(fx);
    fx_at_put(fx, 0, "d/theirs", "1");
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), 0);
    fx_text(fx, 0, "d/ours", "2");
    assert_int_equal(fx_mkdir(fx, 0, "d/sub/"), 0);
    assert_int_equal(fx_unlink(fx, 0, "d/theirs"), 0);
    for (int i = 0; i < 2; i++) {
        fx_sleep_ms(2500); /* what nobody uses is trimmed once a second */
        CLEANUP(mem_freep) char *ls = fx_ls(fx, 0, "d/");
        assert_string_equal(ls, "ours sub/");
        fx_close(fx);
        fx_open(fx);
    }
    fx_idle(fx);
    CLEANUP(mem_freep) char *ls = fx_ls(fx, 0, "d/");
    assert_string_equal(ls, "ours sub/");
}

/* A listing that is not to stay fresh at all still answers who waited for it. */
static void listings_that_do_not_last(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 0;
    fx_open(fx);
    fx_at_put(fx, 0, "d/there", "1");
    fx_delay(fx, 0, BE_LIST, 0, 0, 20);
    assert_int_equal(fx_lookup(fx, 0, "d/there", NULL), 0);
    assert_int_equal(fx_lookup(fx, 0, "d/not", NULL), -ENOENT);
    unsigned lists = fx_calls(fx, 0, BE_LIST);
    assert_int_equal(fx_lookup(fx, 0, "d/not", NULL), -ENOENT);
    assert_int_equal(fx_calls(fx, 0, BE_LIST), lists + 1);
    CLEANUP(mem_freep) char *ls = fx_ls(fx, 0, "d/");
    assert_string_equal(ls, "there");
    fx_text(fx, 0, "d/made", "2");
    assert_int_equal(fx_rename(fx, 0, "d/made", "d/moved", 0), 0);
    assert_int_equal(fx_unlink(fx, 0, "d/moved"), 0);
    assert_int_equal(fx_rmdir(fx, 0, "d/"), -ENOTEMPTY);
    fx_idle(fx);
}

/* One that takes longer than it is to stay fresh is not made anew for each name. */
static void long_listing(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 1000;
    fx_open(fx);
    fx_at_put(fx, 0, "d/there", "1");
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), 0);
    fx_delay(fx, 0, BE_LIST, 0, 0, 1500);
    unsigned lists = fx_calls(fx, 0, BE_LIST);
    assert_int_equal(fx_lookup(fx, 0, "d/not", NULL), -ENOENT);
    assert_int_equal(fx_lookup(fx, 0, "d/neither", NULL), -ENOENT); /* 6 s later it would be another one */
    assert_int_equal(fx_calls(fx, 0, BE_LIST), lists + 1);
}

/* A directory made here is one like any other once it is at the provider: it takes no memory, and what others put there shows. */
static void own_directories_are_forgotten(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 1;
    fx_open(fx);
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    fx_text(fx, 0, "d/ours", ""); /* bytes in the spool would hold on to the directory */
    assert_int_equal(fx_mkdir(fx, 0, "empty/"), 0);
    fx_idle(fx);
    fx_at_put(fx, 0, "d/theirs", "2");
    bool shown = false;
    for (int i = 0; i < 100 && !shown; i++) {
        fx_sleep_ms(200);
        CLEANUP(mem_freep) char *ls = fx_ls(fx, 0, "d/");
        shown = strcmp(ls, "ours theirs") == 0;
    }
    assert_true(shown);
    assert_int_equal(fx_lookup(fx, 0, "empty/", NULL), 0);
}

/* A directory that was removed does not come back while what was in it is still at the provider, however often that is listed. */
static void removed_stays_removed(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 1;
    fx_open(fx);
    fx_at_put(fx, 0, "top/d/f", "1");
    fx_at_put(fx, 0, "top/d/sub/g", "2");
    fx_fault(fx, 0, BE_REMOVE, 0, 0, -EIO, ERR_TRANSIENT, false);
    assert_int_equal(fx_lookup(fx, 0, "top/d/sub/g", NULL), 0);
    assert_int_equal(fx_unlink(fx, 0, "top/d/sub/g"), 0);
    assert_int_equal(fx_unlink(fx, 0, "top/d/f"), 0);
    assert_int_equal(fx_rmdir(fx, 0, "top/d/sub/"), 0);
    assert_int_equal(fx_rmdir(fx, 0, "top/d/"), 0);
    for (int i = 0; i < 4; i++) {
        cache_hurry(fx->c, NULL);
        fx_sleep_ms(600);
        CLEANUP(mem_freep) char *ls = fx_ls(fx, 0, "top/");
        assert_string_equal(ls, "");
    }
    assert_int_equal(fx_rmdir(fx, 0, "top/"), 0);
    be_fault_clear(fx->fault[0]);
    fx_idle(fx);
    assert_int_equal(fx_at_count(fx, 0, ""), 0);
    assert_int_equal(fx_lookup(fx, 0, "top/", NULL), -ENOENT);
}

static void directories(void **state)
{
    struct fx *fx = *state;
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0);
    assert_int_equal(fx_mkdir(fx, 0, "d/"), -EEXIST);
    fx_text(fx, 0, "d/f", "1");
    CLEANUP(mem_freep) char *ls = fx_ls(fx, 0, "d/");
    assert_string_equal(ls, "f");
    assert_int_equal(fx_rmdir(fx, 0, "d/"), -ENOTEMPTY);
    fx_idle(fx);
    assert_at(fx, 0, "d/f", "1");
    assert_int_equal(fx_at_count(fx, 0, "d/"), 1); /* no marker: it has a child */
    assert_int_equal(fx_rmdir(fx, 0, "d/"), -ENOTEMPTY);
    assert_int_equal(fx_unlink(fx, 0, "d/f"), 0);
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), 0); /* the directory stays */
    fx_idle(fx);
    assert_int_equal(fx_at_count(fx, 0, "d/"), 1); /* by its marker now */
    assert_at(fx, 0, "d/f", NULL);
    assert_int_equal(fx_rmdir(fx, 0, "d/"), 0);
    assert_int_equal(fx_lookup(fx, 0, "d/", NULL), -ENOENT);
    fx_idle(fx);
    assert_int_equal(fx_at_count(fx, 0, "d/"), 0);
    assert_int_equal(fx_mkdir(fx, 0, "empty/"), 0);
    fx_idle(fx);
    assert_int_equal(fx_at_count(fx, 0, "empty/"), 1);
    assert_int_equal(fx_mkdir(fx, 0, "gone/"), 0);
    assert_int_equal(fx_rmdir(fx, 0, "gone/"), 0);
    fx_idle(fx);
    assert_int_equal(fx_at_count(fx, 0, "gone/"), 0);
}

/* What mkdir was asked for would not be seen again without a marker, though a child shows that the directory is there. */
static void directory_modes(void **state)
{
    struct fx *fx = *state;
    mode_t usual = 0777 & ~fx->opt.umask;
    assert_int_equal(fx_mkdir_as(fx, 0, "private/", 0700, fx->opt.uid), 0);
    assert_int_equal(fx_mkdir_as(fx, 0, "theirs/", usual, fx->opt.uid + 1), 0);
    fx_text(fx, 0, "private/f", "1");
    fx_text(fx, 0, "theirs/f", "1");
    fx_idle(fx);
    CLEANUP(mem_freep) char *mode = fx_at_meta(fx, 0, "private/", "meta-mode");
    CLEANUP(mem_freep) char *uid = fx_at_meta(fx, 0, "theirs/", "meta-uid");
    assert_non_null(mode);
    assert_int_equal(strtoul(mode, NULL, 10), S_IFDIR | 0700);
    assert_non_null(uid);
    assert_int_equal(strtoul(uid, NULL, 10), fx->opt.uid + 1);
    struct cattr a;
    assert_int_equal(fx_lookup(fx, 0, "private/", &a), 0);
    assert_int_equal(a.mode, S_IFDIR | 0700);
}

/* A listing asked for before a change and answered after it. */
static void late_listing(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "d/old", "old");
    fx_at_put(fx, 0, "d/keep", "keep");
    fx_hold(fx, 0, BE_LIST, 1);
    struct cdir *dir = fx_ls_begin(fx, 0, "d/"); /* asked for now */
    FX_AWAIT(fx, fx_calls(fx, 0, BE_LIST) == 1);
    assert_int_equal(fx_unlink(fx, 0, "d/old"), 0);
    struct chandle *h;
    assert_int_equal(fx_create(fx, 0, "d/new", &h), 0);
    assert_int_equal(fx_end(fx, h), 0);
    fx_let_go(fx, 0);
    CLEANUP(mem_freep) char *first = fx_ls_end(fx, 0, "d/", dir);
    assert_string_equal(first, "keep new");
    fx_idle(fx);
    CLEANUP(mem_freep) char *second = fx_ls(fx, 0, "d/");
    assert_string_equal(second, "keep new");
    assert_int_equal(fx_lookup(fx, 0, "d/old", NULL), -ENOENT);
    assert_int_equal(fx_lookup(fx, 0, "d/new", NULL), 0);
}

/* Who waits for a listing that does not come may be told to stop; the listing goes on. */
static void listing_interrupted(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "d/f", "f");
    fx_hold(fx, 0, BE_LIST, 1);
    struct cdir *dir = fx_ls_begin(fx, 0, "d/");
    assert_int_equal(fx_readdir_interrupted(fx, 0, "d/", dir), -EINTR);
    fx_let_go(fx, 0);
    CLEANUP(mem_freep) char *ls = fx_ls_end(fx, 0, "d/", dir);
    assert_string_equal(ls, "f");
}

/* ---- metadata ---- */

static void attributes(void **state)
{
    struct fx *fx = *state;
    struct cattr a = {.mode = 0600, .mtime_ns = 1234567890123456789};
    char v[256];
    fx_text(fx, 0, "f", "content");
    fx_idle(fx);
    assert_int_equal(fx_setattr(fx, 0, "f", CSET_MODE | CSET_MTIME, &a), 0);
    assert_int_equal(fx_setxattr(fx, 0, "f", "user.colour", "green"), 0);
    assert_int_equal(fx_getxattr(fx, 0, "f", "user.colour", v), 0);
    assert_string_equal(v, "green");
    fx_idle(fx);
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1); /* metadata only: no bytes */
    assert_int_equal(fx_calls(fx, 0, BE_COPY), 1);
    assert_at(fx, 0, "f", "content");
    fx_close(fx);
    fx_open(fx);
    struct cattr got;
    assert_int_equal(fx_lookup(fx, 0, "f", &got), 0);
    assert_int_equal(got.mode & 07777, 0600);
    assert_true(got.mtime_ns == a.mtime_ns);
    assert_int_equal(fx_getxattr(fx, 0, "f", "user.colour", v), 0);
    assert_string_equal(v, "green");
    assert_int_equal(fx_getxattr(fx, 0, "f", "user.none", v), -ENODATA);
}

static void one_identity_twice(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    free(fx->conf[1].bucket);
    fx->conf[1].bucket = mem_strdup(fx->conf[0].bucket);
    fx_open(fx);
    fx_text(fx, 0, "f", "by a");
    assert_true(fx_is(fx, 1, "f", "by a"));
    fx_text(fx, 1, "f", "by b");
    assert_true(fx_is(fx, 0, "f", "by b"));
    fx_idle(fx);
    assert_at(fx, 0, "f", "by b");
    assert_string_equal(cache_remote_identity(fx->r[0]), cache_remote_identity(fx->r[1]));
}

/* ---- fsync, failures for good ---- */

static void fsync_waits(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    fx_delay(fx, 0, BE_WRITE, 0, 1, 100);
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    assert_int_equal(fx_write(fx, h, 0, "synced", 6), 0);
    assert_int_equal(fx_fsync(fx, h), 0);
    assert_at(fx, 0, "f", "synced");
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_write(fx, h, 0, "S", 1), 0);
    assert_int_equal(fx_fsync(fx, h), -EACCES);
    assert_int_equal(fx_end(fx, h), 0);
    assert_int_equal(fx_progress(fx).failed, 1);
    assert_true(fx_is(fx, 0, "f", "Synced")); /* the bytes are kept */
    char v[256];
    assert_int_equal(fx_getxattr(fx, 0, "f", "user.objmig.state", v), 0);
    assert_string_equal(v, "failed");
    be_fault_clear(fx->fault[0]);
    unsigned n = 0;
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    assert_int_equal(n, 1);
    fx_idle(fx);
    assert_at(fx, 0, "f", "Synced");
    assert_int_equal(fx_progress(fx).failed, 0);
}

static void discarded(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "first");
    fx_idle(fx);
    fx_fault(fx, 0, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    fx_text(fx, 0, "f", "refused");
    fx_text(fx, 0, "g", "refused too");
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 2);
    unsigned n = 0;
    assert_int_equal(cache_discard(fx->c, NULL, &n), 0);
    assert_int_equal(n, 2);
    assert_true(fx_is(fx, 0, "f", "first"));
    assert_true(fx_is(fx, 0, "g", NULL));
    fx_idle(fx);
    assert_at(fx, 0, "f", "first");
}

static void copy_fails_for_good(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "src", "precious");
    fx_fault(fx, 1, BE_COPY, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_cp(fx, 0, "src", 1, "dst"), 0); /* mv across buckets */
    assert_int_equal(fx_unlink(fx, 0, "src"), 0);
    fx_idle(fx);
    assert_at(fx, 0, "src", "precious");
    assert_int_equal(fx_lookup(fx, 0, "src", NULL), 0); /* the name is back */
    be_fault_clear(fx->fault[1]);
    unsigned n;
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    fx_idle(fx);
    assert_at(fx, 1, "dst", "precious");
}

/* The same when the copy has its bytes from the spool: the source is the only one at a provider. */
static void copy_of_local_fails_for_good(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "src", "precious");
    fx_idle(fx);
    fx_fault(fx, 1, BE_WRITE, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_cp(fx, 0, "src", 1, "dst"), 0);
    assert_int_equal(fx_unlink(fx, 0, "src"), 0);
    fx_idle(fx);
    assert_at(fx, 0, "src", "precious");
    assert_int_equal(fx_lookup(fx, 0, "src", NULL), 0);
    be_fault_clear(fx->fault[1]);
    unsigned n;
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    fx_idle(fx);
    assert_at(fx, 1, "dst", "precious");
}

/* A copy that stays open is no move: the deletion does not wait for its writer. */
static void copy_of_local_stays_open(void **state)
{
    struct fx *fx = *state;
    struct chandle *in, *out;
    fx_text(fx, 0, "src", "0123456789");
    fx_idle(fx);
    assert_int_equal(fx_openf(fx, 0, "src", O_RDONLY, &in), 0);
    assert_int_equal(fx_create(fx, 1, "dst", &out), 0);
    assert_int_equal(fx_range(fx, in, 0, out, 0, 10), 10);
    assert_int_equal(fx_end(fx, in), 0);
    assert_int_equal(fx_unlink(fx, 0, "src"), 0);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_REMOVE) > 0);
    assert_at(fx, 0, "src", NULL);
    assert_int_equal(fx_end(fx, out), 0);
    fx_idle(fx);
    assert_at(fx, 1, "dst", "0123456789");
}

static void rename_fails_for_good(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "precious");
    fx_fault(fx, 0, BE_COPY, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_rename(fx, 0, "a", "b", 0), 0);
    fx_idle(fx);
    assert_at(fx, 0, "a", "precious");
    assert_int_equal(fx_lookup(fx, 0, "a", NULL), 0);
}

/* The overwrite comes when the copy has failed already: it too must not destroy the only source (rules B5). */
static void overwrite_after_failed_copy(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "src", "precious");
    fx_fault(fx, 1, BE_COPY, 0, 0, -EACCES, ERR_AUTH, false);
    assert_int_equal(fx_cp(fx, 0, "src", 1, "dst"), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 1);
    fx_text(fx, 0, "src", "overwritten");
    fx_idle(fx); /* BLOCKED, named; not work that never ends */
    assert_at(fx, 0, "src", "precious");
    be_fault_clear(fx->fault[1]);
    unsigned n;
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    fx_idle(fx);
    assert_at(fx, 1, "dst", "precious");
    assert_at(fx, 0, "src", "overwritten");
}

/* ---- order ---- */

static void overwrite_waits_for_copy(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "src", "old");
    fx_hold(fx, 1, BE_COPY, 1);
    assert_int_equal(fx_cp(fx, 0, "src", 1, "dst"), 0);
    fx_text(fx, 0, "src", "new");
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 1, BE_COPY) == 1);
    fx_sleep_ms(100);
    assert_at(fx, 0, "src", "old");
    fx_let_go(fx, 1);
    fx_idle(fx);
    assert_at(fx, 1, "dst", "old");
    assert_at(fx, 0, "src", "new");
}

/* Whatever order the keys are moved in, every directory on the way shows all it holds. */
static void moved_tree_is_whole(void **state)
{
    struct fx *fx = *state;
    char key[64];
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof(key), "d/%d/sub/%s", i, i % 2 ? "f" : "deeper/f");
        fx_at_put(fx, 0, key, "x");
        snprintf(key, sizeof(key), "d/%d/g", i);
        fx_at_put(fx, 0, key, "x");
    }
    fx_at_put(fx, 0, "d/marked/", "");
    fx_at_put(fx, 0, "d/marked/below/", "");
    assert_int_equal(fx_rename(fx, 0, "d/", "e/", 0), 0);
    for (int i = 0; i < 2; i++) {
        struct cattr a;
        assert_int_equal(fx_lookup(fx, 0, i == 0 ? "e/marked/" : "e/marked/below/", &a), 0);
        assert_true(S_ISDIR(a.mode));
    }
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof(key), "e/%d/", i);
        char *names = fx_ls(fx, 0, key);
        assert_string_equal(names, "g sub/");
        free(names);
        snprintf(key, sizeof(key), "e/%d/sub/", i);
        names = fx_ls(fx, 0, key);
        assert_string_equal(names, i % 2 ? "f" : "deeper/");
        free(names);
    }
}

static void chain_of_moves(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "moved");
    fx_delay(fx, 0, BE_COPY, 0, 1, 200);
    assert_int_equal(fx_rename(fx, 0, "a", "b", 0), 0);
    assert_int_equal(fx_rename(fx, 0, "b", "c", 0), 0);
    for (bool there = false; !there;) {
        cache_hurry(fx->c, NULL);
        bool here = fx_at_is(fx, 0, "a", "moved"); /* looked at first: what has left it has arrived */
        there = fx_at_is(fx, 0, "c", "moved");
        assert_true(here || there);
        fx_sleep_ms(5);
    }
    fx_idle(fx);
    assert_at(fx, 0, "c", "moved");
    assert_at(fx, 0, "a", NULL);
    assert_at(fx, 0, "b", NULL);
}

/* cp a t; cp b a; mv t b */
static void swap_by_copies(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "A");
    fx_at_put(fx, 0, "b", "B");
    assert_int_equal(fx_cp(fx, 0, "a", 0, "t"), 0);
    assert_int_equal(fx_cp(fx, 0, "b", 0, "a"), 0);
    assert_int_equal(fx_rename(fx, 0, "t", "b", 0), 0);
    assert_true(fx_is(fx, 0, "a", "B"));
    assert_true(fx_is(fx, 0, "b", "A"));
    fx_idle(fx);
    assert_at(fx, 0, "a", "B");
    assert_at(fx, 0, "b", "A");
    assert_at(fx, 0, "t", NULL);
}

/* mv a t; mv b a; mv t b */
static void swap_by_moves(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "A");
    fx_at_put(fx, 0, "b", "B");
    assert_int_equal(fx_rename(fx, 0, "a", "t", 0), 0);
    assert_int_equal(fx_rename(fx, 0, "b", "a", 0), 0);
    assert_int_equal(fx_rename(fx, 0, "t", "b", 0), 0);
    assert_true(fx_is(fx, 0, "a", "B"));
    assert_true(fx_is(fx, 0, "b", "A"));
    fx_idle(fx);
    assert_at(fx, 0, "a", "B");
    assert_at(fx, 0, "b", "A");
    assert_at(fx, 0, "t", NULL);
}

static void exchange(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "A");
    fx_at_put(fx, 0, "b", "B");
    assert_int_equal(fx_rename(fx, 0, "a", "b", 2 /* RENAME_EXCHANGE */), 0);
    assert_true(fx_is(fx, 0, "a", "B"));
    assert_true(fx_is(fx, 0, "b", "A"));
    fx_idle(fx);
    assert_at(fx, 0, "a", "B");
    assert_at(fx, 0, "b", "A");
}

static void exchange_while_open(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    fx_at_put(fx, 0, "a", "A");
    fx_at_put(fx, 0, "b", "B");
    assert_int_equal(fx_lookup(fx, 0, "b", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "b", O_RDONLY, &h), 0);
    assert_int_equal(fx_rename(fx, 0, "a", "b", 2 /* RENAME_EXCHANGE */), 0);
    assert_int_equal(fx_end(fx, h), 0);
    fx_idle(fx);
    assert_at(fx, 0, "a", "B");
    assert_at(fx, 0, "b", "A");
}

/* An open file reads on what it opened, replaced or not. */
static void reader_of_replaced(void **state)
{
    struct fx *fx = *state;
    struct chandle *h;
    char got[16];
    fx_at_put(fx, 0, "f", "opened");
    assert_int_equal(fx_lookup(fx, 0, "f", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "f", O_RDONLY, &h), 0);
    fx_text(fx, 0, "new", "newer!");
    assert_int_equal(fx_rename(fx, 0, "new", "f", 0), 0);
    cache_hurry(fx->c, NULL);
    fx_sleep_ms(100);
    assert_int_equal(fx_read(fx, h, 0, got, sizeof(got)), 6);
    assert_memory_equal(got, "opened", 6);
    assert_int_equal(fx_end(fx, h), 0);
    fx_idle(fx);
    assert_at(fx, 0, "f", "newer!");
}

static unsigned spool_files(struct fx *fx)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/cache/tmp", fx->dir);
    unsigned n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        n += e->d_type == DT_REG;
    }
    closedir(d);
    return n;
}

/* However many files go through, memory does not grow with them: of the finished ones only the newest keep their bytes here. */
static void few_finished_stay(void **state)
{
    struct fx *fx = *state;
    const unsigned n = 1500;
    char key[32];
    fx_close(fx);
    fx->opt.writeback_delay_ms = 3600000; /* none is finished before all are written, however long that takes */
    fx_open(fx);
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "d/%u", i);
        fx_text(fx, 0, key, key);
    }
    assert_int_equal(spool_files(fx), n);
    fx_idle(fx);
    FX_AWAIT(fx, spool_files(fx) <= 1024);
    assert_true(spool_files(fx) > 900);
    for (unsigned i = 0; i < n; i += 99) {
        snprintf(key, sizeof(key), "d/%u", i);
        assert_true(fx_is(fx, 0, key, key));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
        T(written_sealed_read), T(truncated_while_pending), T(write_after_seal), T(copied_whole),
        T(copied_from_pending), T(copied_in_part), T(appended), T(truncated), T(renamed), T(renamed_empty), T(renamed_directory),
        T(unlinked), T(renamed_while_sent), T(directories), T(pending_names_are_listed),
        T(own_directories_are_forgotten), T(listings_that_do_not_last), T(long_listing), T(removed_stays_removed),
        T(directory_modes), T(late_listing), T(listing_interrupted), T(attributes), T(one_identity_twice),
        T(fsync_waits), T(discarded), T(copy_fails_for_good), T(copy_of_local_fails_for_good), T(copy_of_local_stays_open), T(rename_fails_for_good),
        T(overwrite_after_failed_copy), T(overwrite_waits_for_copy), T(chain_of_moves), T(moved_tree_is_whole), T(swap_by_copies),
        T(swap_by_moves), T(exchange), T(exchange_while_open), T(reader_of_replaced), T(few_finished_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
