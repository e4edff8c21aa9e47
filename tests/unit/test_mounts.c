/* The kernel's mount table as text. */
#include "unit.h"

#include <string.h>

#include "mem.h"
#include "mounts.h"

static int table(const char *text, struct mounts *ret)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fflush(f) == 0);
    int err = mounts_read(fileno(f), ret); /* from the beginning, wherever it was left */
    (void)fclose(f);
    return err;
}

static void test_lines(void **state)
{
    struct mounts m;
    assert_int_equal(table("22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
                           "36 35 98:7 /mnt1 /mnt2 rw master:1 propagate_from:2 - ext3 /dev/root rw\n"
                           "40 28 0:55 /cos\\134 /mnt/a\\040b\\011\\012 rw - fuse.objmig objmig rw\n",
                           &m),
                     0);
    assert_int_equal(m.n, 3);
    assert_string_equal(m.items[0].fstype, "sysfs");
    assert_true(m.items[1].major == 98 && m.items[1].minor == 7);
    assert_string_equal(m.items[1].root, "/mnt1");
    assert_string_equal(m.items[1].source, "/dev/root");
    assert_string_equal(m.items[2].root, "/cos\\");
    assert_string_equal(m.items[2].dir, "/mnt/a b\t\n");
    assert_string_equal(m.items[2].fstype, MOUNTS_FSTYPE);
    mounts_fini(&m);
}

static void test_not_lines(void **state)
{
    struct mounts m;
    assert_int_equal(table("", &m), 0);
    assert_int_equal(m.n, 0);
    assert_null(mounts_at(&m, "/"));
    mounts_fini(&m);
    assert_int_equal(table("\n22 28 0:21 / /sys rw\n22 28 x / /sys rw - a b c\n1 2 3:4 / / rw - ext4\n"
                           "1 2 3:4 / /good rw - ext4 dev",
                           &m),
                     0);
    assert_int_equal(m.n, 1);
    assert_string_equal(m.items[0].dir, "/good");
    mounts_fini(&m);
}

static void test_topmost(void **state)
{
    struct mounts m;
    assert_int_equal(table("1 0 0:1 / /a rw - ext4 x rw\n2 1 0:2 / /a rw - ext4 y rw\n"
                           "3 1 0:3 / /ab rw - ext4 z rw\n",
                           &m),
                     0);
    assert_string_equal(mounts_at(&m, "/a")->source, "y");
    assert_string_equal(mounts_at(&m, "/ab")->source, "z");
    assert_null(mounts_at(&m, "/a/"));
    mounts_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_not_lines),
        cmocka_unit_test(test_topmost),
    };
    return cmocka_run_group_tests_name("mounts", tests, NULL, NULL);
}
