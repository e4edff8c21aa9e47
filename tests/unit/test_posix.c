/* The local backend on hostile and foreign trees. What it shares with every backend is in
 * tests/contract. */
#include "be_test.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "posix.h"

/* Who looks into a directory is put off before its first name, every second one: others come in between. */
static unsigned looks; /* atomic; 0 = nobody is */

struct dirent *__real_readdir64(DIR *d);
struct dirent *__wrap_readdir64(DIR *d);

struct dirent *__wrap_readdir64(DIR *d)
{
    if (__atomic_load_n(&looks, __ATOMIC_RELAXED) > 0 && telldir(d) == 0 &&
        __atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED) % 2 == 0) {
        (void)usleep(20000);
    }
    return __real_readdir64(d);
}

static char outside[] = "/tmp/objmig-posix-XXXXXX"; /* holds root/, and what must not be reached */
static char root[sizeof(outside) + 8];
static struct be *be;

static int start(void **state)
{
    (void)snprintf(outside, sizeof(outside), "/tmp/objmig-posix-XXXXXX");
    assert_non_null(mkdtemp(outside));
    (void)snprintf(root, sizeof(root), "%s/root", outside);
    assert_int_equal(mkdir(root, 0755), 0);
    be_test_start(4);
    be = be_test_open("local", root);
    return 0;
}

static int remove_path(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int stop(void **state)
{
    be_close(be);
    be_test_stop();
    return nftw(outside, remove_path, 16, FTW_DEPTH | FTW_PHYS);
}

/* Paths below the root, in one of a few buffers. */
static const char *at(const char *path)
{
    static char bufs[8][4200];
    static unsigned next;
    char *buf = bufs[next++ % ARRAY_LEN(bufs)];
    (void)snprintf(buf, sizeof(bufs[0]), "%s/%s", root, path);
    return buf;
}

static void make_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static bool there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void nothing_leads_out(void **state)
{
    char text[256];
    CLEANUP(mem_freep) char *secret = mem_printf("%s/secret", outside);
    make_file(secret, "secret");
    assert_int_equal(symlink("..", at("up")), 0);
    assert_int_equal(symlink(outside, at("abs")), 0);
    assert_int_equal(symlink(secret, at("file")), 0);
    assert_int_equal(mkdir(at("d"), 0755), 0);
    make_file(at("d/in"), "in");
    assert_int_equal(symlink("d", at("inner")), 0);

    static const char *const keys[] = {"up/secret", "abs/secret", "../secret",   "d/../../secret",
                                       "inner/in",  "file/x",     "up/root/d/in"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_int_equal(be_test_stat(be, keys[i], NULL, NULL), -ENOENT);
        assert_int_equal(be_test_read(be, keys[i], text), -ENOENT);
        assert_int_equal(be_test_remove(be, keys[i]), 0);
    }
    assert_int_equal(be_test_write(be, "up/secret", "x", NULL), -EINVAL);
    assert_int_equal(be_test_write(be, "abs/new", "x", NULL), -EINVAL);
    assert_int_equal(be_test_write(be, "inner/new/deep", "x", NULL), -EINVAL);
    assert_int_equal(be_test_write(be, "up/", "", NULL), -EINVAL);
    assert_int_equal(be_test_write(be, "../secret", "x", NULL),
                     0); /* a name like any other, escaped */
    assert_true(there(at("^2E./secret")));
    FILE *f = fopen(secret, "re");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    assert_string_equal(text, "secret");
    assert_int_equal(fclose(f), 0);
    /* a link itself is an object whose body is its target; writing replaces the link, not what it
     * names */
    assert_int_equal(be_test_read(be, "file", text), 0);
    assert_string_equal(text, secret);
    assert_int_equal(be_test_write(be, "file", "mine", NULL), 0);
    assert_true(there(secret));
    assert_list(be, "", 0, 0, "../ ../secret abs d/ d/in file inner up");
    assert_list(be, "up/", 0, 0, "");
}

static void links(void **state)
{
    CLEANUP(kv_fini) struct kvlist meta = {0};
    struct be_object o;
    char text[256];
    kv_set(&meta, "meta-mode", "41471"); /* S_IFLNK 0777 */
    kv_set(&meta, "meta-mtime", "1000000000.5");
    kv_set(&meta, "content-type", "inode/symlink");
    assert_int_equal(be_test_write(be, "l", "no/such target", &meta), 0);
    ssize_t n = readlink(at("l"), text, sizeof(text));
    assert_int_equal(n, 14);
    assert_int_equal(be_test_read(be, "l", text), 0);
    assert_string_equal(text, "no/such target");
    assert_int_equal(be_test_stat(be, "l", &o, &meta), 0);
    assert_int_equal(o.size, 14);
    assert_true(o.mtime_ns == 1000000000500000000);
    assert_string_equal(kv_get(&meta, "meta-mode"), "41471");
    assert_string_equal(kv_get(&meta, "meta-mtime"), "1000000000.500000000");
    /* copied as a link */
    struct be_copy c = {
        .op = {.key = "l2"}, .src = be, .src_key = "l", .src_etag = o.etag, .meta = &meta};
    assert_int_equal(BE_SYNC(be, be_copy, &c), 0);
    assert_int_equal(c.object.size, 14);
    assert_int_equal(readlink(at("l2"), text, sizeof(text)), 14);
    /* what a link cannot keep is said */
    kv_set(&meta, "meta-colour", "red");
    assert_int_equal(be_test_write(be, "l3", "t", &meta), -EINVAL);
    assert_false(there(at("l3")));
    kv_set(&meta, "meta-colour", NULL);
    assert_int_equal(be_test_write(be, "l3", "", &meta), -EINVAL);
}

static void special_files(void **state)
{
    CLEANUP(kv_fini) struct kvlist meta = {0};
    struct be_object o;
    struct stat st;
    char text[256];
    assert_int_equal(mkfifo(at("fifo"), 0640), 0);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", at("socket"));
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(close(s), 0);
    assert_list(be, "", 0, 0, "fifo");
    assert_int_equal(be_test_stat(be, "socket", NULL, NULL), -ENOENT);
    assert_int_equal(be_test_write(be, "socket", "x", NULL), -EINVAL);
    assert_int_equal(be_test_stat(be, "fifo", &o, &meta), 0); /* and nobody waits for a writer */
    assert_int_equal(o.size, 0);
    assert_string_equal(kv_get(&meta, "meta-mode"), "4512"); /* S_IFIFO 0640 */
    assert_int_equal(be_test_read(be, "fifo", text), 0);
    assert_string_equal(text, "");
    assert_int_equal(be_test_write(be, "fifo2", "", &meta), 0);
    assert_int_equal(lstat(at("fifo2"), &st), 0);
    assert_true(S_ISFIFO(st.st_mode) && (st.st_mode & 07777) == 0640);
    assert_int_equal(be_test_write(be, "fifo3", "content", &meta), -EINVAL);
    kv_set(&meta, "meta-mode", "0020600");
    assert_int_equal(be_test_write(be, "dev", "", &meta), -EINVAL); /* no number */
    kv_set(&meta, "meta-rdev", "259");
    int err = be_test_write(be, "dev", "", &meta);
    if (geteuid() == 0 && err == 0) {
        assert_int_equal(lstat(at("dev"), &st), 0);
        assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
        assert_int_equal(be_test_stat(be, "dev", NULL, &meta), 0);
        assert_string_equal(kv_get(&meta, "meta-rdev"), "259");
    } else {
        assert_int_equal(err, -EACCES);
    }
}

static void attributes(void **state)
{
    CLEANUP(kv_fini) struct kvlist meta = {0};
    struct stat st;
    struct be_object o;
    kv_set(&meta, "meta-mode", "0100751"); /* as rclone writes it */
    kv_set(&meta, "meta-mtime", "-1.25");
    kv_set(&meta, "meta-md5", "0123");
    kv_set(&meta, "content-type", "text/x");
    if (geteuid() == 0) {
        kv_set(&meta, "meta-uid", "1234");
        kv_set(&meta, "meta-gid", "4321");
    }
    assert_int_equal(be_test_write(be, "f", "abc", &meta), 0);
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0751);
    assert_true(st.st_mtim.tv_sec == -2 && st.st_mtim.tv_nsec == 750000000);
    if (geteuid() == 0) {
        assert_int_equal(st.st_uid, 1234);
        assert_int_equal(st.st_gid, 4321);
    }
    assert_int_equal(be_test_stat(be, "f", &o, &meta), 0);
    assert_string_equal(kv_get(&meta, "meta-mode"), "33257");
    assert_string_equal(kv_get(&meta, "meta-mtime"), "-1.250000000");
    assert_string_equal(kv_get(&meta, "meta-md5"), "0123");
    assert_string_equal(kv_get(&meta, "content-type"), "text/x");
    assert_true(o.mtime_ns == -1250000000);

    /* another's change leaves the type and takes the MD5 */
    make_file(at("f"), "changed");
    assert_int_equal(be_test_stat(be, "f", NULL, &meta), 0);
    assert_null(kv_get(&meta, "meta-md5"));
    assert_string_equal(kv_get(&meta, "content-type"), "text/x");

    /* a spelling that means nothing comes back as it was; a mode that only people write is
     * understood */
    kv_fini(&meta);
    kv_set(&meta, "meta-mode", "rwxr-xr-x");
    kv_set(&meta, "meta-uid", "root");
    kv_set(&meta, "meta-mtime", "yesterday");
    assert_int_equal(be_test_write(be, "g", "abc", &meta), 0);
    assert_int_equal(be_test_stat(be, "g", NULL, &meta), 0);
    assert_string_equal(kv_get(&meta, "meta-mode"), "rwxr-xr-x");
    assert_string_equal(kv_get(&meta, "meta-uid"), "root");
    assert_string_equal(kv_get(&meta, "meta-mtime"), "yesterday");
    kv_fini(&meta);
    kv_set(&meta, "meta-mode", "100755");
    assert_int_equal(be_test_write(be, "h", "abc", &meta), 0);
    assert_int_equal(stat(at("h"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0755);

    /* garbage in our attribute is no reason to hide the file */
    make_file(at("i"), "x");
    assert_int_equal(setxattr(at("i"), "user.objmig.meta", "&=%zz", 5, 0), 0);
    assert_int_equal(be_test_stat(be, "i", NULL, &meta), 0);
}

static void directories(void **state)
{
    CLEANUP(kv_fini) struct kvlist meta = {0};
    struct stat st;
    char text[256];
    kv_set(&meta, "meta-mode", "16832"); /* S_IFDIR 0700 */
    kv_set(&meta, "meta-mtime", "1000000000");
    kv_set(&meta, "meta-colour", "red");
    assert_int_equal(be_test_write(be, "d/", "", &meta), 0);
    assert_int_equal(stat(at("d"), &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(st.st_mtim.tv_sec, 1000000000);
    assert_int_equal(be_test_stat(be, "d/", NULL, &meta), 0);
    assert_string_equal(kv_get(&meta, "meta-colour"), "red");
    assert_int_equal(be_test_stat(be, "d", NULL, NULL), -ENOENT);
    assert_int_equal(be_test_remove(be, "d"), 0); /* no object of that name: nothing to do */
    assert_true(there(at("d")));
    assert_int_equal(be_test_write(be, "d/f", "x", NULL), 0);
    assert_int_equal(be_test_remove(be, "d/"), 0);
    assert_true(there(at("d/f")));

    /* a file where a folder is needed, and the other way round */
    assert_int_equal(be_test_write(be, "d/f/g", "x", NULL), -EINVAL);
    assert_int_equal(be_test_write(be, "d/f/", "", NULL), -EINVAL);
    assert_int_equal(be_test_write(be, "d", "beside", NULL), 0);
    assert_true(there(at("d^2F")));
    assert_int_equal(be_test_read(be, "d", text), 0);
    assert_string_equal(text, "beside");
    assert_list(be, "", '/', 0, "d d/");
    assert_list(be, "", 0, 1, "d d/ d/f");
    assert_int_equal(be_test_remove(be, "d"), 0);
    assert_false(there(at("d^2F")));

    /* a marker with content is a file in its folder */
    assert_int_equal(be_test_write(be, "e/", "content", NULL), 0);
    assert_true(there(at("e/^2F")));
    assert_int_equal(be_test_read(be, "e/", text), 0);
    assert_string_equal(text, "content");
    assert_list(be, "e/", 0, 0, "e/");
    assert_int_equal(be_test_write(be, "e/", "", NULL), 0);
    assert_false(there(at("e/^2F")));
    assert_int_equal(be_test_write(be, "e/", "again", NULL), 0);
    assert_int_equal(be_test_remove(be, "e/"), 0);
    assert_false(there(at("e")));

    /* folders stay when their last file goes */
    assert_int_equal(be_test_write(be, "p/q/r", "x", NULL), 0);
    assert_int_equal(be_test_remove(be, "p/q/r"), 0);
    assert_true(there(at("p/q")));
}

/* Names no escaping makes: they stand for the key spelled the same, until the escaped name exists.
 */
static void foreign_names(void **state)
{
    char text[256];
    make_file(at("bad\xff"), "raw");
    assert_int_equal(mkdir(at("dir\n"), 0755), 0);
    make_file(at("dir\n/in\x01"), "deep");
    assert_list(be, "", 0, 1, "bad\xff dir\n/ dir\n/in\x01");
    assert_list(be, "dir\n/", '/', 0, "dir\n/ dir\n/in\x01");
    assert_int_equal(be_test_read(be, "bad\xff", text), 0);
    assert_string_equal(text, "raw");
    assert_int_equal(be_test_read(be, "dir\n/in\x01", text), 0);
    assert_string_equal(text, "deep");
    assert_int_equal(be_test_write(be, "bad\xff", "mine", NULL), 0); /* the same file */
    assert_false(there(at("bad^FF")));
    assert_int_equal(be_test_write(be, "dir\n/new", "x", NULL), 0);
    assert_true(there(at("dir\n/new")));
    make_file(at("bad^FF"), "escaped");
    assert_int_equal(be_test_read(be, "bad\xff", text), 0);
    assert_string_equal(text, "escaped");
    assert_list(be, "bad", 0, 0, "bad\xff");
    assert_int_equal(be_test_remove(be, "bad\xff"), 0);
    assert_int_equal(be_test_read(be, "bad\xff", text), 0);
    assert_string_equal(text, "mine");
    /* new ones are escaped */
    assert_int_equal(be_test_write(be, "tab\t", "x", NULL), 0);
    assert_true(there(at("tab^09")));
}

/* Our own directory is no key's, and goes when nothing is left in it. */
static void private_directory(void **state)
{
    assert_int_equal(be_test_write(be, "a", "x", NULL), 0);
    assert_true(there(at(".objmig/tmp")));
    assert_int_equal(be_test_stat(be, ".objmig/tmp/", NULL, NULL), -ENOENT);
    assert_int_equal(be_test_write(be, ".objmig/tmp", "x", NULL), 0);
    assert_true(there(at("^2Eobjmig/tmp")));
    assert_list(be, "", 0, 0, ".objmig/ .objmig/tmp a");
    /* another process tidied up */
    assert_int_equal(rmdir(at(".objmig/tmp")), 0);
    assert_int_equal(rmdir(at(".objmig")), 0);
    assert_int_equal(be_test_write(be, "b", "x", NULL), 0);
    be_close(be);
    assert_false(there(at(".objmig")));
    be = be_test_open("local", root);
    /* planted as a link: not followed */
    CLEANUP(mem_freep) char *elsewhere = mem_printf("%s/elsewhere", outside);
    assert_int_equal(mkdir(elsewhere, 0755), 0);
    assert_int_equal(symlink(elsewhere, at(".objmig")), 0);
    assert_true(be_test_write(be, "c", "x", NULL) < 0);
    assert_int_equal(rmdir(elsewhere), 0);
}

static void versions(void **state)
{
    char etags[6][BE_ETAG_MAX];
    struct be_object o;
    /* inode numbers and clock ticks repeat, versions do not */
    for (size_t i = 0; i < ARRAY_LEN(etags); i++) {
        struct be_write w = {.op = {.key = "v"}, .data = "same", .len = 4};
        assert_int_equal(BE_SYNC(be, be_write, &w), 0);
        memcpy(etags[i], w.object.etag, sizeof(etags[i]));
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(etags[k], etags[i]);
        }
        assert_int_equal(be_test_stat(be, "v", &o, NULL), 0);
        assert_string_equal(o.etag, etags[i]);
    }
    /* a foreign writer makes another version, also when it puts the time back */
    struct stat st;
    assert_int_equal(stat(at("v"), &st), 0);
    make_file(at("v"), "diff");
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, at("v"), times, 0), 0);
    struct be_write w = {.op = {.key = "v"}, .data = "x", .len = 1, .if_match = o.etag};
    assert_int_equal(BE_SYNC(be, be_write, &w), -ESTALE);
    /* a marker's version does not change with what is in the folder */
    struct be_object before;
    assert_int_equal(be_test_write(be, "d/", "", NULL), 0);
    assert_int_equal(be_test_stat(be, "d/", &before, NULL), 0);
    assert_int_equal(be_test_write(be, "d/x", "x", NULL), 0);
    assert_int_equal(be_test_stat(be, "d/", &o, NULL), 0);
    assert_string_equal(before.etag, o.etag);
    struct be_write again = {.op = {.key = "d/"}, .if_absent = true};
    assert_int_equal(BE_SYNC(be, be_write, &again), -ESTALE);
}

static void send_part(const char *id, unsigned number, const char *text, struct be_part_id *ret)
{
    struct be_part p = {
        .op = {.key = "mp"}, .upload_id = id, .number = number, .data = text, .len = strlen(text)};
    assert_int_equal(BE_SYNC(be, be_mp_part, &p), 0);
    *ret = (struct be_part_id){.number = number, .size = p.len};
    memcpy(ret->etag, p.object.etag, sizeof(ret->etag));
}

/* An upload goes on after a restart, from what is on disk. */
static void uploads_survive(void **state)
{
    char text[256];
    struct be_part_id ids[4];
    struct be_mp mp = {.op = {.key = "mp"}};
    assert_int_equal(BE_SYNC(be, be_mp_begin, &mp), 0);
    CLEANUP(mem_freep) char *id = mp.upload_id;
    send_part(id, 2, "bbbb", &ids[1]);
    send_part(id, 1, "longer than the stride", &ids[0]);
    send_part(id, 4, "d", &ids[3]);
    be_close(be);
    be = be_test_open("local", root);
    struct be_parts p = {.op = {.key = "mp"}, .upload_id = id};
    assert_int_equal(BE_SYNC(be, be_mp_parts, &p), 0);
    assert_int_equal(p.n_parts, 3);
    assert_string_equal(p.parts[0].etag, ids[0].etag);
    assert_int_equal(p.parts[2].number, 4);
    free(p.parts);
    send_part(id, 3, "cccc", &ids[2]);
    send_part(id, 1, "aaaa", &ids[0]);
    struct be_commit c = {.op = {.key = "mp"}, .upload_id = id, .parts = ids, .n_parts = 4};
    assert_int_equal(BE_SYNC(be, be_mp_commit, &c), 0);
    assert_int_equal(be_test_read(be, "mp", text), 0);
    assert_string_equal(text, "aaaabbbbccccd");
    assert_list(be, "", 0, 0, "mp");
    /* hostile ids are no paths */
    static const char *const bad[] = {"..", "../..", "x", "0123456789abcdef0123456789abcde/"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct be_parts none = {.op = {.key = "mp"}, .upload_id = bad[i]};
        assert_int_equal(BE_SYNC(be, be_mp_parts, &none), -ENOENT);
    }
}

/* Parts of one size are not copied: the file that took them becomes the object. */
static void uploads_in_place(void **state)
{
    char text[256];
    struct be_part_id ids[3];
    struct be_mp mp = {.op = {.key = "mp"}};
    struct stat data, made;
    assert_int_equal(BE_SYNC(be, be_mp_begin, &mp), 0);
    CLEANUP(mem_freep) char *id = mp.upload_id;
    CLEANUP(mem_freep) char *path = mem_printf(".objmig/mp/%s/data", id);
    send_part(id, 1, "aaaa", &ids[0]);
    send_part(id, 3, "c", &ids[2]);
    send_part(id, 2, "bbbb", &ids[1]);
    assert_int_equal(stat(at(path), &data), 0);
    struct be_commit c = {.op = {.key = "mp"}, .upload_id = id, .parts = ids, .n_parts = 3};
    assert_int_equal(BE_SYNC(be, be_mp_commit, &c), 0);
    assert_int_equal(stat(at("mp"), &made), 0);
    assert_int_equal(made.st_ino, data.st_ino);
    assert_int_equal(be_test_read(be, "mp", text), 0);
    assert_string_equal(text, "aaaabbbbc");
    path[strlen(path) - 5] = '\0'; /* without /data */
    assert_false(there(at(path)));
}

static void long_paths(void **state)
{
    CLEANUP(mem_freep) char *key = mem_zalloc(4096);
    memset(key, '\n', 2000); /* 6000 bytes of escapes */
    for (size_t i = 80; i < 2000; i += 80) {
        key[i] = '/';
    }
    struct be_write w = {.op = {.key = key}, .data = "x", .len = 1};
    assert_int_equal(BE_SYNC(be, be_write, &w), -EINVAL);
    assert_non_null(strstr(w.op.err.message, "too long"));
    assert_int_equal(be_test_stat(be, key, NULL, NULL), -ENOENT);
    assert_int_equal(be_test_remove(be, key), 0);
    assert_list(be, key, 0, 0, "");
}

static void many_names(void **state)
{
    enum { N = 3000 };
    for (int i = 0; i < N; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "n%05d", (i * 7919) % N);
        make_file(at(name), "");
    }
    struct be_list l = {.prefix = "n", .max = 1000};
    CLEANUP(mem_freep) char *cursor = NULL;
    size_t seen = 0;
    do {
        l = (struct be_list){.prefix = "n", .max = 1000, .cursor = cursor};
        assert_int_equal(BE_SYNC(be, be_list, &l), 0);
        for (size_t i = 0; i < l.n_entries; i++, seen++) {
            char name[32];
            (void)snprintf(name, sizeof(name), "n%05zu", seen);
            assert_string_equal(l.entries[i].key, name);
        }
        free(cursor);
        cursor = TAKE(l.next_cursor);
        be_list_fini(&l);
        if (cursor && seen == 1000) { /* a cursor from before a restart */
            be_close(be);
            be = be_test_open("local", root);
        }
    } while (cursor);
    assert_int_equal(seen, N);
    l = (struct be_list){.prefix = "n", .cursor = "garbage"};
    assert_int_equal(BE_SYNC(be, be_list, &l), -EINVAL);
}

/* More names than a walk holds at once. */
static void huge_directory(void **state)
{
    size_t chunk = walk_chunk;
    walk_chunk = 5;
    assert_int_equal(mkdir(at("h"), 0755), 0);
    CLEANUP(buf_fini) struct buf want = BUF_INIT;
    CLEANUP(buf_fini) struct buf flat = BUF_INIT;
    assert_int_equal(buf_adds(&want, "h/"), 0);
    assert_int_equal(buf_adds(&flat, "h/"), 0);
    for (int i = 0; i < 40; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "h/%c%02d", i % 2 == 0 ? 'f' : 'd', i);
        if (i % 2 == 0) {
            make_file(at(name), "x");
        } else {
            assert_int_equal(mkdir(at(name), 0755), 0);
        }
    }
    make_file(at("h/d21/x"), "x");
    make_file(at("h/f01\xff"), "x"); /* raw names sort among the others */
    for (int i = 1; i < 40; i += 2) {
        assert_int_equal(buf_addf(&want, " h/d%02d/%s", i, i == 21 ? " h/d21/x" : ""), 0);
        assert_int_equal(buf_addf(&flat, " h/d%02d/", i), 0);
    }
    for (int i = 0; i < 40; i += 2) {
        assert_int_equal(buf_addf(&want, " h/f%02d%s", i, i == 0 ? " h/f01\xff" : ""), 0);
        assert_int_equal(buf_addf(&flat, " h/f%02d%s", i, i == 0 ? " h/f01\xff" : ""), 0);
    }
    static const unsigned pages[] = {1, 3, 5, 7, 1000};
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        assert_list(be, "h/", 0, pages[i], buf_str(&want));
        assert_list(be, "h/", '/', pages[i], buf_str(&flat));
    }
    struct be_list l = {.prefix = "h/", .start_after = "h/f30"};
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    assert_int_equal(l.n_entries, 4);
    be_list_fini(&l);
    walk_chunk = chunk;
}

static unsigned running; /* atomic */

static void count_down(struct be_op *op)
{
    if (op->status != 0) {
        print_error("%s: %s\n", op->key, op->err.message);
    }
    __atomic_sub_fetch(&running, 1, __ATOMIC_ACQ_REL);
}

/* A write makes the folder it needs, however often that is removed under its feet. */
static void folders_come_and_go(void **state)
{
    enum { N = 300 };
    static struct be_write w[N];
    static struct be_remove r[2 * N];
    memset(w, 0, sizeof(w));
    memset(r, 0, sizeof(r));
    running = 3 * N;
    for (int i = 0; i < N; i++) {
        w[i] = (struct be_write){
            .op = {.key = i % 3 == 0 ? "a/b/" : i % 3 == 1 ? "a/b/c" : "a/d", .done = count_down},
            .data = "x",
            .len = i % 3 == 0 ? 0 : 1,
        };
        r[2 * i].op = (struct be_op){.key = i % 2 == 0 ? "a/b/c" : "a/d", .done = count_down};
        r[2 * i + 1].op = (struct be_op){.key = i % 2 == 0 ? "a/b/" : "a/", .done = count_down};
        be_remove(be, &r[2 * i]);
        be_write(be, &w[i]);
        be_remove(be, &r[2 * i + 1]);
    }
    pool_drain(be_test_env.workers);
    assert_int_equal(running, 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(w[i].op.status, 0);
        assert_int_equal(r[2 * i].op.status, 0);
        assert_int_equal(r[2 * i + 1].op.status, 0);
    }
}

/* The first parts of an upload come together, and each finds out by itself what is there already. */
static void first_parts_at_once(void **state)
{
    enum { ROUNDS = 5, PARTS = 4 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct be_mp mp = {.op = {.key = "mp"}};
        assert_int_equal(BE_SYNC(be, be_mp_begin, &mp), 0);
        struct be_part p[PARTS] = {0};
        running = PARTS;
        looks = 1;
        for (unsigned i = 0; i < PARTS; i++) {
            p[i] = (struct be_part){
                .op = {.key = "mp", .done = count_down},
                .upload_id = mp.upload_id,
                .number = i + 1,
                .data = "x",
                .len = 1,
            };
            be_mp_part(be, &p[i]);
        }
        pool_drain(be_test_env.workers);
        looks = 0;
        assert_int_equal(running, 0);
        for (unsigned i = 0; i < PARTS; i++) {
            assert_int_equal(p[i].op.status, 0);
        }
        assert_int_equal(BE_SYNC(be, be_mp_abort, &mp), 0);
        free(mp.upload_id);
    }
}

/* Entries carry what the directory tells, so that nobody has to ask for each. */
static void entries_with_attributes(void **state)
{
    struct be_list l = {.prefix = "", .delimiter = '/'};
    make_file(at("f"), "x");
    assert_int_equal(chmod(at("f"), 0640), 0);
    assert_int_equal(mkdir(at("d"), 0), 0);
    assert_int_equal(chmod(at("d"), 0751), 0);
    const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 1000000000, .tv_nsec = 7}};
    assert_int_equal(utimensat(AT_FDCWD, at("d"), times, 0), 0);
    assert_int_equal(symlink("f", at("l")), 0);
    assert_int_equal(BE_SYNC(be, be_list, &l), 0);
    assert_int_equal(l.n_entries, 3);
    assert_true(l.entries[0].is_prefix);
    assert_string_equal(kv_get(l.entries[0].posix, "meta-mode"), "16873");
    assert_string_equal(kv_get(l.entries[0].posix, "meta-mtime"), "1000000000.000000007");
    assert_string_equal(kv_get(l.entries[1].posix, "meta-mode"), "33184");
    assert_non_null(kv_get(l.entries[1].posix, "meta-uid"));
    assert_string_equal(kv_get(l.entries[2].posix, "meta-mode"), "41471");
    assert_int_equal(l.entries[2].object.size, 1);
    be_list_fini(&l);
}

/* Suspended walks are bounded; a list whose walk was dropped goes on all the same. */
static void many_lists(void **state)
{
    enum { LISTS = 80 };
    char *cursors[LISTS] = {0};
    for (int i = 0; i < 10; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "f%d", i);
        make_file(at(name), "x");
    }
    for (int page = 0; page < 5; page++) {
        for (int i = 0; i < LISTS; i++) {
            struct be_list l = {.prefix = "", .max = 2, .cursor = cursors[i]};
            assert_int_equal(BE_SYNC(be, be_list, &l), 0);
            assert_int_equal(l.n_entries, 2);
            assert_int_equal(l.entries[0].key[1], '0' + 2 * page);
            free(cursors[i]);
            cursors[i] = TAKE(l.next_cursor);
            be_list_fini(&l);
        }
    }
    for (int i = 0; i < LISTS; i++) {
        free(cursors[i]);
    }
}

static void bad_roots(void **state)
{
    char name[] = "nas", provider[] = "local", none[] = "/no/such/dir";
    struct conf_remote conf = {.name = name, .provider = provider, .path = none};
    struct errinfo e = {0};
    struct be *other;
    assert_int_equal(be_open(&conf, &be_test_env, &other, &e), -ENOENT);
    assert_non_null(strstr(e.message, "[nas] path"));
    conf.path = NULL;
    assert_int_equal(be_open(&conf, &be_test_env, &other, &e), -EINVAL);
    conf.path = mem_printf("%s/f", outside);
    make_file(conf.path, "x");
    assert_int_equal(be_open(&conf, &be_test_env, &other, &e), -ENOTDIR);
    free(conf.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_leads_out, start, stop),
        cmocka_unit_test_setup_teardown(links, start, stop),
        cmocka_unit_test_setup_teardown(special_files, start, stop),
        cmocka_unit_test_setup_teardown(attributes, start, stop),
        cmocka_unit_test_setup_teardown(directories, start, stop),
        cmocka_unit_test_setup_teardown(foreign_names, start, stop),
        cmocka_unit_test_setup_teardown(private_directory, start, stop),
        cmocka_unit_test_setup_teardown(versions, start, stop),
        cmocka_unit_test_setup_teardown(uploads_survive, start, stop),
        cmocka_unit_test_setup_teardown(uploads_in_place, start, stop),
        cmocka_unit_test_setup_teardown(long_paths, start, stop),
        cmocka_unit_test_setup_teardown(many_names, start, stop),
        cmocka_unit_test_setup_teardown(huge_directory, start, stop),
        cmocka_unit_test_setup_teardown(entries_with_attributes, start, stop),
        cmocka_unit_test_setup_teardown(folders_come_and_go, start, stop),
        cmocka_unit_test_setup_teardown(first_parts_at_once, start, stop),
        cmocka_unit_test_setup_teardown(many_lists, start, stop),
        cmocka_unit_test_setup_teardown(bad_roots, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
