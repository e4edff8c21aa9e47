/* One object: write, read, stat, remove, copy, metadata, conditions. */
#include <errno.h>
#include <unistd.h>

#include "contract.h"
#include "digest.h"
#include "mem.h"

static void write_then_read(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "plain");
    struct be_object written, seen;
    put_meta(t, key, TEXT("hello world"), NULL, &written);
    get_stat(t, key, &seen, NULL);
    assert_int_equal(seen.size, 11);
    assert_string_not_equal(seen.etag, "");
    assert_string_equal(seen.etag, written.etag);
    assert_true(seen.mtime_ns > 0);
    expect_content(t, key, TEXT("hello world"));

    /* the etag of the second version is another, and names it */
    put_meta(t, key, TEXT("HELLO WORLD!"), NULL, &written);
    assert_string_not_equal(written.etag, seen.etag);
    get_stat(t, key, &seen, NULL);
    assert_string_equal(seen.etag, written.etag);
    expect_content(t, key, TEXT("HELLO WORLD!"));
    if (has_cap(t, BE_CAP_CRC64)) {
        assert_true(written.has_crc64);
        assert_true(written.crc64 == crc64_update(0, "HELLO WORLD!", 12));
    }
    if (written.etag_is_md5) {
        uint8_t md5[DIGEST_MD5_LEN];
        char hex[33];
        digest_md5("HELLO WORLD!", 12, md5);
        hex_encode(md5, sizeof(md5), hex);
        assert_int_equal(strcasecmp(written.etag, hex), 0); /* OSS writes it in upper case */
    }
    drop(t, key);
    expect_absent(t, key);
}

static void empty_object(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "empty");
    put(t, key, NULL, 0);
    struct be_object seen;
    get_stat(t, key, &seen, NULL);
    assert_int_equal(seen.size, 0);
    expect_content(t, key, "", 0);
    drop(t, key);
}

static void read_part(struct target *t, const char *key, const char *all, uint64_t offset,
                      size_t len)
{
    char buf[64];
    size_t size = strlen(all);
    size_t want = offset < size ? MIN(len, size - (size_t)offset) : 0;
    struct be_read r = {.op = {.key = key}, .offset = offset, .len = len, .buf = buf};
    assert_int_equal(BE_SYNC(t->be, be_read, &r), 0);
    assert_int_equal(r.got, want);
    assert_int_equal(r.object.size, size);
    if (want > 0) {
        assert_memory_equal(buf, all + offset, want);
    }
    be_read_fini(&r);
}

static void ranged_reads(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "ranges");
    const char *all = "0123456789abcdefghij";
    put(t, key, TEXT(all));
    read_part(t, key, all, 0, 20);
    read_part(t, key, all, 0, 1);
    read_part(t, key, all, 5, 10);
    read_part(t, key, all, 19, 1);
    read_part(t, key, all, 15, 50); /* ends with the object */
    read_part(t, key, all, 20, 10); /* begins where it ends */
    read_part(t, key, all, 1000000, 10);
    read_part(t, key, all, 3, 0);
    drop(t, key);
}

static void reads_of_one_version(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "versions");
    char buf[16];
    struct be_object first, second;
    put_meta(t, key, TEXT("first"), NULL, &first);
    struct be_read r = {.op = {.key = key}, .len = sizeof(buf), .buf = buf, .if_match = first.etag};
    assert_int_equal(BE_SYNC(t->be, be_read, &r), 0);
    assert_int_equal(r.got, 5);
    assert_string_equal(r.object.etag, first.etag);
    be_read_fini(&r);
    put_meta(t, key, TEXT("second"), NULL, &second);
    struct be_read old = {
        .op = {.key = key}, .len = sizeof(buf), .buf = buf, .if_match = first.etag};
    assert_int_equal(BE_SYNC(t->be, be_read, &old), -ESTALE);
    expect_failure(&old.op, ERR_PRECOND);
    drop(t, key);
}

static void absent_object(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "nothing/here");
    char buf[16];
    expect_absent(t, key);
    struct be_read r = {.op = {.key = key}, .len = sizeof(buf), .buf = buf};
    assert_int_equal(BE_SYNC(t->be, be_read, &r), -ENOENT);
    expect_failure(&r.op, ERR_ABSENT);
    drop(t, key); /* removing is idempotent */
    drop(t, key);
}

static void wrong_md5(void **state)
{
    struct target *t = target_of(state);
    const char *key = key_of(t, "md5");
    uint8_t md5[DIGEST_MD5_LEN];
    digest_md5("right", 5, md5);
    struct be_write good = {.op = {.key = key}, .data = "right", .len = 5, .md5 = md5};
    assert_int_equal(BE_SYNC(t->be, be_write, &good), 0);
    struct be_write bad = {.op = {.key = key}, .data = "wrong", .len = 5, .md5 = md5};
    assert_true(BE_SYNC(t->be, be_write, &bad) < 0);
    assert_true(bad.op.err.cls == ERR_INTEGRITY || bad.op.err.cls == ERR_INVALID);
    expect_content(t, key, "right", 5);
    drop(t, key);
}

static const char *const headers[][2] = {
    {"content-type", "text/x-test; charset=utf-8"},
    {"cache-control", "max-age=60, public"},
    {"content-disposition", "attachment; filename=\"a b.txt\""},
    {"content-encoding", "x-none"},
    {"content-language", "ko, en"},
    {"expires", "Wed, 21 Oct 2037 07:28:00 GMT"},
    {"meta-plain", "value"},
    {"meta-mode", "33188"},
    {"meta-mtime", "1700000000.123456789"},
    {"meta-md5", "0cc175b9c0f1b6a831c399e269772661"},
    {"meta-text", "한글 und Größe"},
    {"meta-spaces", "a  b = c; d, e"},
    {"meta-percent", "100%25 +plus"},
};

static void expect_meta(const struct kvlist *seen, const char *name, const char *value)
{
    const char *v = kv_get(seen, name);
    if (!v || strcmp(v, value) != 0) {
        fail_msg("%s is '%s' instead of '%s'", name, v ? v : "(nothing)", value);
    }
}

static void metadata(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_USER_META, "store user metadata");
    const char *key = key_of(t, "metadata");
    CLEANUP(kv_fini) struct kvlist meta = {0};
    CLEANUP(kv_fini) struct kvlist seen = {0};
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        kv_set(&meta, headers[i][0], headers[i][1]);
    }
    put_meta(t, key, TEXT("a"), &meta, NULL);
    get_stat(t, key, NULL, &seen);
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        expect_meta(&seen, headers[i][0], headers[i][1]);
    }
    char buf[4];
    struct be_read r = {.op = {.key = key}, .len = sizeof(buf), .buf = buf};
    assert_int_equal(BE_SYNC(t->be, be_read, &r), 0);
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        expect_meta(&r.meta, headers[i][0], headers[i][1]);
    }
    be_read_fini(&r);

    /* the next version has its own and nothing of this one */
    put(t, key, TEXT("b"));
    kv_fini(&seen);
    get_stat(t, key, NULL, &seen);
    assert_null(kv_get(&seen, "meta-plain"));
    assert_null(kv_get(&seen, "cache-control"));
    drop(t, key);
}

static void too_much_metadata(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_USER_META, "store user metadata");
    unsigned max = t->be->limits.max_meta;
    if (max == 0) {
        skip_because(t, "has no limit of metadata");
    }
    CLEANUP(mem_freep) char *value = mem_zalloc(max + 2);
    memset(value, 'x', max + 1);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "meta-big", value);
    struct be_write w = {
        .op = {.key = key_of(t, "big-meta")}, .data = "a", .len = 1, .meta = &meta};
    assert_true(BE_SYNC(t->be, be_write, &w) < 0);
    expect_failure(&w.op, ERR_INVALID);
    expect_absent(t, w.op.key);
}

static void write_if_match(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_IF_MATCH, "write depending on an etag");
    const char *key = key_of(t, "if-match");
    struct be_object first, second;
    put_meta(t, key, TEXT("one"), NULL, &first);
    put_meta(t, key, TEXT("two!"), NULL, &second);
    struct be_write stale = {.op = {.key = key}, .data = "three", .len = 5, .if_match = first.etag};
    assert_true(BE_SYNC(t->be, be_write, &stale) < 0);
    expect_failure(&stale.op, ERR_PRECOND);
    assert_false(stale.op.err.outcome_unknown);
    expect_content(t, key, TEXT("two!"));
    struct be_write right = {
        .op = {.key = key}, .data = "three", .len = 5, .if_match = second.etag};
    assert_int_equal(BE_SYNC(t->be, be_write, &right), 0);
    expect_content(t, key, TEXT("three"));

    struct be_remove old = {.op = {.key = key}, .if_match = second.etag};
    assert_true(BE_SYNC(t->be, be_remove, &old) < 0);
    expect_failure(&old.op, ERR_PRECOND);
    expect_content(t, key, TEXT("three"));
    struct be_remove now = {.op = {.key = key}, .if_match = right.object.etag};
    assert_int_equal(BE_SYNC(t->be, be_remove, &now), 0);
    expect_absent(t, key);

    /* nothing there is not that version either */
    struct be_write gone = {.op = {.key = key}, .data = "x", .len = 1, .if_match = second.etag};
    assert_true(BE_SYNC(t->be, be_write, &gone) < 0);
    assert_true(gone.op.err.cls == ERR_PRECOND || gone.op.err.cls == ERR_ABSENT);
    expect_absent(t, key);
}

static void write_if_absent(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_IF_ABSENT, "create only what is absent");
    const char *key = key_of(t, "if-absent");
    struct be_write a = {.op = {.key = key}, .data = "one", .len = 3, .if_absent = true};
    assert_int_equal(BE_SYNC(t->be, be_write, &a), 0);
    struct be_write b = {.op = {.key = key}, .data = "two!", .len = 4, .if_absent = true};
    assert_true(BE_SYNC(t->be, be_write, &b) < 0);
    expect_failure(&b.op, ERR_PRECOND);
    expect_content(t, key, TEXT("one"));
    drop(t, key);
}

static void bad_arguments(void **state)
{
    struct target *t = target_of(state);
    struct be_stat s = {.op = {.key = ""}};
    assert_true(BE_SYNC(t->be, be_stat, &s) < 0);
    expect_failure(&s.op, ERR_INVALID);
    size_t max = t->be->limits.max_key;
    CLEANUP(mem_freep) char *key = mem_zalloc(max + 2);
    memset(key, 'k', max + 1);
    struct be_write w = {.op = {.key = key}, .data = "x", .len = 1};
    assert_true(BE_SYNC(t->be, be_write, &w) < 0);
    expect_failure(&w.op, ERR_INVALID);
    if (!has_cap(t, BE_CAP_IF_MATCH)) {
        struct be_write m = {.op = {.key = key_of(t, "x")}, .data = "x", .len = 1, .if_match = "e"};
        assert_int_equal(BE_SYNC(t->be, be_write, &m), -EOPNOTSUPP);
        expect_failure(&m.op, ERR_INVALID);
    }
    if (!has_cap(t, BE_CAP_COPY)) {
        struct be_copy c = {.op = {.key = key_of(t, "x")}, .src = t->be, .src_key = key_of(t, "y")};
        assert_int_equal(BE_SYNC(t->be, be_copy, &c), -EOPNOTSUPP);
        expect_failure(&c.op, ERR_INVALID);
    }
}

static void copy_replaces_metadata(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_COPY, "copy");
    const char *from = key_of(t, "copy/a +%25 한글&<>\"'?#"),
               *to = key_of(t, "copy/b =%2F emoji 🎈");
    CLEANUP(kv_fini) struct kvlist old_meta = {0};
    CLEANUP(kv_fini) struct kvlist new_meta = {0};
    CLEANUP(kv_fini) struct kvlist seen = {0};
    kv_set(&old_meta, "content-type", "text/old");
    kv_set(&old_meta, "meta-old", "1");
    kv_set(&new_meta, "content-type", "text/new");
    kv_set(&new_meta, "meta-new", "neu: ä");
    struct be_object a;
    put_meta(t, from, TEXT("copied bytes"), &old_meta, &a);
    struct be_copy c = {.op = {.key = to},
                        .src = t->be,
                        .src_key = from,
                        .src_etag = a.etag,
                        .size = 12,
                        .meta = &new_meta};
    assert_int_equal(BE_SYNC(t->be, be_copy, &c), 0);
    expect_content(t, to, TEXT("copied bytes"));
    expect_content(t, from, TEXT("copied bytes"));
    struct be_object b;
    get_stat(t, to, &b, &seen);
    assert_string_equal(b.etag, c.object.etag);
    expect_meta(&seen, "content-type", "text/new");
    expect_meta(&seen, "meta-new", "neu: ä");
    assert_null(kv_get(&seen, "meta-old"));

    /* onto itself: the way metadata is changed */
    struct be_copy self = {.op = {.key = to},
                           .src = t->be,
                           .src_key = to,
                           .src_etag = b.etag,
                           .size = 12,
                           .meta = &old_meta};
    assert_int_equal(BE_SYNC(t->be, be_copy, &self), 0);
    kv_fini(&seen);
    get_stat(t, to, NULL, &seen);
    expect_meta(&seen, "content-type", "text/old");
    assert_null(kv_get(&seen, "meta-new"));
    expect_content(t, to, TEXT("copied bytes"));

    put(t, from, TEXT("changed"));
    struct be_copy stale = {
        .op = {.key = to}, .src = t->be, .src_key = from, .src_etag = a.etag, .size = 12};
    assert_true(BE_SYNC(t->be, be_copy, &stale) < 0);
    expect_failure(&stale.op, ERR_PRECOND);
    expect_content(t, to, TEXT("copied bytes"));
    drop(t, from);
    struct be_copy gone = {.op = {.key = to}, .src = t->be, .src_key = from, .size = 12};
    assert_true(BE_SYNC(t->be, be_copy, &gone) < 0);
    expect_failure(&gone.op, ERR_ABSENT);
    drop(t, to);
}

static void copy_between_backends(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_COPY, "copy");
    struct be *other = open_again(t);
    assert_string_equal(be_identity(t->be), be_identity(other));
    if (!be_can_copy(t->be, other)) {
        be_close(other);
        fail_msg("two remotes of one bucket cannot copy");
    }
    const char *from = key_of(t, "between/a"), *to = key_of(t, "between/b");
    put(t, from, TEXT("across"));
    struct be_copy c = {.op = {.key = to}, .src = other, .src_key = from, .size = 6};
    int err = BE_SYNC(t->be, be_copy, &c);
    be_close(other);
    assert_int_equal(err, 0);
    assert_ptr_equal(c.src, other);
    expect_content(t, to, TEXT("across"));
    drop(t, from);
    drop(t, to);
}

static void remove_many(void **state)
{
    struct target *t = target_of(state);
    require_cap(t, BE_CAP_REMOVE_MANY, "remove many at once");
    const char *keys[] = {key_of(t, "many/a&b"),   key_of(t, "many/<c>"),
                          key_of(t, "many/d\"'"),  key_of(t, "many/never"),
                          key_of(t, "many/e%20+"), key_of(t, "many/\xed\x95\x9c")};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (i != 3) {
            put(t, keys[i], TEXT("x"));
        }
    }
    struct be_many m = {.keys = keys, .n_keys = ARRAY_LEN(keys)};
    assert_int_equal(BE_SYNC(t->be, be_remove_many, &m), 0);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_int_equal(m.errs[i].cls, ERR_NONE);
        expect_absent(t, keys[i]);
    }
    free(m.errs);
    struct be_many none = {.keys = keys, .n_keys = 0};
    assert_true(BE_SYNC(t->be, be_remove_many, &none) < 0);
    expect_failure(&none.op, ERR_INVALID);
}

static enum be_restored restore(struct target *t, const char *key, const char *class)
{
    struct be_restore r = {.op = {.key = key}, .days = 1, .storage_class = class};
    (void)BE_SYNC(t->be, be_restore, &r);
    if (r.op.status != 0) {
        char text[512];
        fail_msg("restore: %s", err_format(&r.op.err, text, sizeof(text)));
    }
    return r.state;
}

/* Cannot be read, is asked for, asked for again, and can be read. */
static void archived_object(void **state)
{
    static const char *const classes[] = {"GLACIER", "ARCHIVE", "Archive"};
    struct target *t = target_of(state);
    const char *key = key_of(t, "frozen");
    char buf[16];
    size_t i = 0;
    require_cap(t, BE_CAP_RESTORE, "archive");
    while (!be_archived(t->be, classes[i])) {
        i++;
    }
    assert_true(i < ARRAY_LEN(classes));
    assert_false(be_archived(t->be, "STANDARD"));
    assert_false(be_archived(t->be, ""));
    CLEANUP(kv_fini) struct kvlist meta = {0};
    kv_set(&meta, "storage-class", classes[i]);
    struct be_write w = {.op = {.key = key}, .data = "ice", .len = 3, .meta = &meta};
    struct be_read r = {.op = {.key = key}, .buf = buf, .len = 3};
    note_written(key);
    if (BE_SYNC(t->be, be_write, &w) != 0) {
        skip_because(t, "knows no archive");
    }
    if (BE_SYNC(t->be, be_read, &r) == 0) {
        be_read_fini(&r);
        skip_because(t, "has archives that can be read");
    }
    expect_failure(&r.op, ERR_ARCHIVED);
    struct be_list l = {.prefix = key};
    assert_int_equal(BE_SYNC(t->be, be_list, &l), 0);
    assert_int_equal(l.n_entries, 1);
    assert_true(be_archived(t->be, l.entries[0].object.storage_class));
    struct be_restore none = {.op = {.key = key}, .storage_class = ""};
    (void)BE_SYNC(t->be, be_restore, &none);
    expect_failure(&none.op, ERR_INVALID);
    (void)restore(t, key, l.entries[0].object.storage_class);
    assert_int_not_equal(restore(t, key, ""), strcmp(t->be->ops->scheme, "qiniu") == 0 ? -1 : BE_RESTORE_BEGUN);
    be_list_fini(&l);
    int err = -1;
    for (unsigned k = 0; k < 200 && err != 0; k++) {
        (void)usleep(50000);
        err = BE_SYNC(t->be, be_read, &r);
        be_read_fini(&r);
    }
    assert_int_equal(err, 0);
    assert_memory_equal(buf, "ice", 3);
    struct be_restore absent = {.op = {.key = key_of(t, "never")}, .days = 1, .storage_class = ""};
    (void)BE_SYNC(t->be, be_restore, &absent);
    expect_failure(&absent.op, ERR_ABSENT);
}

const struct contract_test tests_objects[] = {
    {"write, then read", write_then_read},
    {"an empty object", empty_object},
    {"ranges, also past the end", ranged_reads},
    {"reads come from one version", reads_of_one_version},
    {"what is not there", absent_object},
    {"a wrong MD5 is refused", wrong_md5},
    {"metadata", metadata},
    {"too much metadata", too_much_metadata},
    {"write and remove if the etag matches", write_if_match},
    {"write if absent", write_if_absent},
    {"bad arguments", bad_arguments},
    {"copy replaces metadata", copy_replaces_metadata},
    {"copy between two backends", copy_between_backends},
    {"remove many", remove_many},
    {"an archived object is restored", archived_object},
    {0},
};
