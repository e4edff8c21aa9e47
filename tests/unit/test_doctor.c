/* The doctor on a cache directory, with rows and files as a test makes them. With mounts and servers: tests/mount/80_doctor.sh. */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "cache.h"
#include "file_state.h"
#include "journal.h"
#include "mem.h"
#include "spool.h"

struct told {
    unsigned n[3];
    char *text; /* of all but the good */
};

static void on_finding(void *ctx, enum cdoctor_level level, const char *what, const char *found,
                       const char *mend)
{
    struct told *t = ctx;
    assert_true(what[0] != '\0' && found[0] != '\0' && mend != NULL);
    t->n[level]++;
    if (level != CDOCTOR_OK) {
        char *more = mem_printf("%s%s: %s\n", t->text != NULL ? t->text : "", what, found);
        free(t->text);
        t->text = more;
    }
}

static void told_clear(struct told *t)
{
    free(t->text);
    *t = (struct told){0};
}

static int setup(void **state)
{
    const char *base = getenv("TMPDIR");
    char *dir = mem_printf("%s/test-doctor-XXXXXX", base != NULL ? base : "/var/tmp");
    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    char *dir = *state;
    CLEANUP(mem_freep) char *command = mem_printf("rm -r '%s'", dir);
    assert_int_equal(system(command), 0);
    free(dir);
    return 0;
}

static struct cdoctor *doctor(const char *dir, struct told *t)
{
    struct cdoctor *d;
    struct errinfo err;
    assert_int_equal(cache_doctor_new(dir, on_finding, t, &d, &err), 0);
    return d;
}

static bool says(const struct told *t, const char *text)
{
    return t->text != NULL && strstr(t->text, text) != NULL;
}

/* A row that wants `size` local bytes. */
static void put(struct journal *j, const char *key, uint64_t spool_id, uint64_t size)
{
    CLEANUP(mem_freep)
    char *extents = size > 0 ? mem_printf("L %llu\n", (unsigned long long)size) : mem_strdup("");
    struct jintent row = {.remote = 1,
                          .key = key,
                          .seq = spool_id,
                          .gen = 1,
                          .state = FS_DIRTY,
                          .sealed = true,
                          .spool_id = spool_id,
                          .size = size,
                          .extents = extents,
                          .meta = "",
                          .base_etag = "",
                          .expect_etag = "",
                          .after_key = "",
                          .upload_id = "",
                          .upload_tag = "",
                          .sent = "",
                          .sent_extents = ""};
    struct jtx *tx = jtx_new();
    jtx_intent_put(tx, &row);
    journal_submit(j, tx, 0, NULL, NULL);
    assert_int_equal(journal_flush(j, false), 0);
}

static void make(struct spool *s, uint64_t id, size_t size)
{
    char bytes[16] = "";
    assert_int_equal(spool_create(s, id), 0);
    assert_int_equal(spool_write(s, id, bytes, size, 0), 0);
}

static void test_spool(void **state)
{
    const char *dir = *state;
    struct told t = {0};
    struct cdoctor *d = doctor(dir, &t);
    struct journal *j;
    struct spool *s;
    assert_false(cache_doctor_journal(d)); /* none yet */
    assert_true(t.n[CDOCTOR_OK] == 1 && t.text == NULL);
    assert_int_equal(journal_open(dir, &j, NULL), 0);
    assert_int_equal(spool_open(dir, 1 << 30, 0, &s, NULL), 0);
    put(j, "whole", 1, 10);
    put(j, "nothing", 2, 0);
    make(s, 1, 10);
    told_clear(&t);
    assert_true(cache_doctor_journal(d));
    assert_null(t.text); /* a row without bytes needs no file */
    make(s, 3, 4);
    assert_true(cache_doctor_journal(d));
    assert_int_equal(t.n[CDOCTOR_WARN], 1);
    assert_true(says(&t, "1 files with"));
    put(j, "short", 3, 5);
    put(j, "gone", 4, 1);
    told_clear(&t);
    assert_true(cache_doctor_journal(d));
    assert_int_equal(t.n[CDOCTOR_FAIL], 2);
    assert_true(says(&t, "has 4 bytes") && says(&t, "\"short\""));
    assert_true(says(&t, "is missing") && says(&t, "\"gone\""));
    put(j, "short", 3, 4);
    make(s, 4, 1);
    told_clear(&t);
    assert_true(cache_doctor_journal(d));
    assert_null(t.text);
    for (uint64_t id = 100; id < 150; id++) { /* what is much is not said line by line */
        CLEANUP(mem_freep) char *key = mem_printf("%d", (int)id);
        put(j, key, id, 1);
    }
    told_clear(&t);
    assert_true(cache_doctor_journal(d));
    assert_int_equal(t.n[CDOCTOR_FAIL], 21);
    assert_true(says(&t, "and 30 more"));
    told_clear(&t);
    spool_close(s);
    journal_close(j);
    cache_doctor_free(d);
}

static void test_dir(void **state)
{
    const char *dir = *state;
    struct told t = {0};
    struct cdoctor *d = doctor(dir, &t);
    int32_t pid = 1;
    assert_true(cache_doctor_dir(d, &pid));
    assert_true(pid == 0 && t.n[CDOCTOR_FAIL] == 0);
    /* Held, and by whom. */
    CLEANUP(mem_freep) char *lock = mem_printf("%s/lock", dir);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, "4711\n", 5) == 5);
    assert_true(cache_doctor_dir(d, &pid));
    assert_int_equal(pid, 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_true(cache_doctor_dir(d, &pid));
    assert_int_equal(pid, 4711);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_true(cache_doctor_dir(d, &pid));
    assert_int_equal(pid, -1); /* by somebody */
    close(fd);
    assert_int_equal(chmod(dir, 0750), 0);
    told_clear(&t);
    assert_true(cache_doctor_dir(d, &pid));
    assert_true(t.n[CDOCTOR_FAIL] == 1 && says(&t, "mode 0750"));
    assert_int_equal(chmod(dir, 0700), 0);
    told_clear(&t);
    cache_doctor_free(d);
    CLEANUP(mem_freep) char *absent = mem_printf("%s/absent", dir);
    d = doctor(absent, &t);
    assert_false(cache_doctor_dir(d, &pid));
    assert_true(t.n[CDOCTOR_WARN] == 1 && t.n[CDOCTOR_FAIL] == 0);
    told_clear(&t);
    cache_doctor_free(d);
    d = doctor(lock, &t);
    assert_false(cache_doctor_dir(d, &pid));
    assert_true(t.n[CDOCTOR_FAIL] == 1 && says(&t, "no directory"));
    told_clear(&t);
    cache_doctor_free(d);
}

/* A tenth of the whole stays free. */
static void test_room(void **state)
{
    struct statvfs v = {.f_frsize = 4096, .f_blocks = 1000, .f_bavail = 100};
    assert_int_equal(spool_room(&v), 0);
    v.f_bavail = 101;
    assert_int_equal(spool_room(&v), 4096);
    v.f_bavail = 99;
    assert_int_equal(spool_room(&v), 0);
    v.f_blocks = 991; /* the tenth is rounded up */
    v.f_bavail = 100;
    assert_int_equal(spool_room(&v), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_spool, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dir, setup, teardown),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}
