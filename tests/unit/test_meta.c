/* Metadata as attributes and extended attributes, as other programs wrote it. */
#include "unit.h"

#include <string.h>
#include <sys/stat.h>

#include "internal.h"
#include "mem.h"

static int64_t mtime_of(const char *text)
{
    struct kvlist meta = {0};
    struct cattr a = {.mode = S_IFREG | 0644, .mtime_ns = 7};
    kv_set(&meta, "meta-mtime", text);
    meta_decode(&meta, &a);
    kv_fini(&meta);
    return a.mtime_ns;
}

static void reads_times(void **state)
{
    (void)state;
    const int64_t s = INT64_C(1000000000);
    assert_true(mtime_of("1700000000") == 1700000000 * s);
    assert_true(mtime_of("-1.5") == -1500000000);
    assert_true(mtime_of("2023-11-14T22:13:20Z") == 1700000000 * s);
    assert_true(mtime_of("2023-11-14T23:13:20.25+01:00") == 1700000000 * s + s / 4);
    assert_true(mtime_of("2262-04-11T23:47:14Z") == INT64_C(9223372034) * s);
    /* Beyond what nanoseconds in 64 bits can say: as if not told. */
    static const char *const far[] = {"9999-12-31T23:59:59Z", "2262-04-11T23:47:16Z",
                                      "0001-01-01T00:00:00Z", "9223372036", ""};
    for (size_t i = 0; i < ARRAY_LEN(far); i++) {
        assert_true(mtime_of(far[i]) == 7);
    }
}

/* What is listed can be read: its name leads back to the metadatum. */
static void lists_what_can_be_read(void **state)
{
    (void)state;
    static const struct {
        const char *meta, *xattr; /* NULL: not listed */
    } cases[] = {
        {"content-type", "user.mime_type"},
        {"cache-control", "user.objmig.cache-control"},
        {"meta-own", "user.objmig.meta.own"},
        {"meta-xattr-user.colour", "user.colour"},
        {"meta-xattr-user._41_20b", "user.A b"},
        {"meta-xattr-trusted.x", "trusted.x"},
        {"meta-xattr-system.posix_acl_access", NULL},
        {"meta-xattr-security.capability", NULL},
        {"meta-xattr-user.objmig.state", NULL},
        {"meta-xattr-user._61", NULL}, /* not how 'a' is written */
        {"meta-xattr-user.a_00", NULL},
        {"meta-xattr-user.a_4", NULL},
        {"meta-xattr-", NULL},
        {"meta-odd!name", NULL},
        {"meta-", NULL},
        {"meta-mode", NULL},
        {"meta-md5", NULL},
        {"storage-class", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_fini) struct buf xattr = BUF_INIT;
        CLEANUP(buf_fini) struct buf back = BUF_INIT;
        assert_int_equal(meta_name_xattr(cases[i].meta, &xattr), cases[i].xattr != NULL);
        if (cases[i].xattr) {
            assert_string_equal(buf_str(&xattr), cases[i].xattr);
            assert_true(meta_xattr_name(cases[i].xattr, &back));
            assert_string_equal(buf_str(&back), cases[i].meta);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_times),
        cmocka_unit_test(lists_what_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
