/* The checked front: what it refuses before a driver sees it, and what it makes of a driver that
 * breaks the contract. */
#include "be_test.h"

#include <errno.h>

#include "driver.h"

/* --- a driver that does as it is told --- */

struct fake {
    struct be be;
    uint32_t caps;
    struct be_limits limits;
    unsigned calls;
    void (*act)(struct be_op *op);
};

static struct fake *fake_of(struct be *be)
{
    return CONTAINER_OF(be, struct fake, be);
}

static int run_act(struct be_op *op)
{
    fake_of(op->be)->act(op);
    return op->status;
}

static void fake_call(struct be *be, struct be_op *op)
{
    fake_of(be)->calls++;
    be_job_submit(op, run_act);
}

#define DEFINE_CALL(name, type)                                                                    \
    static void fake_##name(struct be *be, struct type *op)                                        \
    {                                                                                              \
        fake_call(be, &op->op);                                                                    \
    }
DEFINE_CALL(stat, be_stat)
DEFINE_CALL(read, be_read)
DEFINE_CALL(write, be_write)
DEFINE_CALL(remove, be_remove)
DEFINE_CALL(list, be_list)
DEFINE_CALL(copy, be_copy)

static void fake_describe(const struct be *be, uint32_t *ret_caps, struct be_limits *ret_limits)
{
    const struct fake *f = CONTAINER_OF(be, const struct fake, be);
    *ret_caps = f->caps;
    *ret_limits = f->limits;
}

static void fake_close(struct be *be)
{
}

static const char *fake_identity(const struct be *be)
{
    return "fake";
}

static const char *fake_key_fault(const struct be *be, const char *key)
{
    return strchr(key, '!') ? "no exclamations" : NULL;
}

static const struct be_ops fake_ops = {
    .size = sizeof(struct be_ops),
    .scheme = "fake",
    .close = fake_close,
    .describe = fake_describe,
    .identity = fake_identity,
    .stat = fake_stat,
    .read = fake_read,
    .write = fake_write,
    .remove = fake_remove,
    .list = fake_list,
    .copy = fake_copy,
    .key_fault = fake_key_fault,
};

static struct fake fake;

static int start(void **state)
{
    be_test_start(2);
    fake =
        (struct fake){.limits = {.max_key = 100, .list_page = 10, .max_meta = 50, .max_put = 1000}};
    return be_init(&fake.be, &fake_ops, &be_test_env, "fake", NULL);
}

static int stop(void **state)
{
    be_close(&fake.be);
    be_test_stop();
    return 0;
}

static void act_well(struct be_op *op)
{
    if (op->kind == BE_WRITE) {
        struct be_write *w = CONTAINER_OF(op, struct be_write, op);
        w->object.size = w->len;
    }
}

/* --- what a driver does wrong --- */

static void act_silently(struct be_op *op)
{
    op->status = -ENOENT;
}

static void act_positively(struct be_op *op)
{
    op->status = ENOENT;
}

static void failure_needs_a_class(void **state)
{
    fake.act = act_silently;
    struct be_remove r = {.op = {.key = "k"}};
    assert_int_equal(BE_SYNC(&fake.be, be_remove, &r), -ENOENT);
    assert_int_equal(r.op.err.cls, ERR_BUG);
    fake.act = act_positively;
    assert_int_equal(BE_SYNC(&fake.be, be_remove, &r), -EIO);
    assert_int_equal(r.op.err.cls, ERR_BUG);
}

static void act_short(struct be_op *op)
{
    struct be_read *r = CONTAINER_OF(op, struct be_read, op);
    r->object.size = 100;
    r->got = 3;
    kv_set(&r->meta, "meta-a", "b");
}

static void short_read_is_no_success(void **state)
{
    char buf[10];
    fake.act = act_short;
    struct be_read r = {.op = {.key = "k"}, .buf = buf, .len = sizeof(buf)};
    assert_int_equal(BE_SYNC(&fake.be, be_read, &r), -EIO);
    assert_int_equal(r.op.err.cls, ERR_BUG);
    assert_int_equal(r.meta.n, 0); /* dropped with the rest of a failure's outputs */
    r.offset = 97;
    assert_int_equal(BE_SYNC(&fake.be, be_read, &r), 0);
    assert_int_equal(r.meta.n, 1);
    be_read_fini(&r);
}

static const char *const *listed;

static void act_list(struct be_op *op)
{
    struct be_list *l = CONTAINER_OF(op, struct be_list, op);
    while (listed[l->n_entries]) {
        l->n_entries++;
    }
    l->entries = mem_zalloc(l->n_entries * sizeof(*l->entries));
    for (size_t i = 0; i < l->n_entries; i++) {
        l->entries[i].key = mem_strdup(listed[i] + (listed[i][0] == '>'));
        l->entries[i].is_prefix = listed[i][0] == '>';
    }
    l->next_cursor = mem_strdup("more");
}

static int list(const char *prefix, char delimiter, const char *const *keys)
{
    listed = keys;
    fake.act = act_list;
    struct be_list l = {.prefix = prefix, .delimiter = delimiter};
    int err = BE_SYNC(&fake.be, be_list, &l);
    if (err < 0) {
        assert_int_equal(l.op.err.cls, ERR_BUG);
        assert_null(l.entries);
        assert_null(l.next_cursor);
    }
    be_list_fini(&l);
    return err;
}

static void lists_keep_their_promise(void **state)
{
    assert_int_equal(list("p/", '/', (const char *const[]){"p/", "p/a", ">p/b/", "p/c", NULL}), 0);
    assert_int_equal(list("", 0, (const char *const[]){NULL}), 0);
    assert_int_equal(list("p/", '/', (const char *const[]){"p/b", "p/a", NULL}), -EIO);
    assert_int_equal(list("p/", '/', (const char *const[]){"p/a", "p/a", NULL}), -EIO);
    assert_int_equal(list("p/", '/', (const char *const[]){"q/a", NULL}), -EIO);
    assert_int_equal(list("p/", '/', (const char *const[]){">p/a", NULL}), -EIO);
    assert_int_equal(list("p/", 0, (const char *const[]){">p/a/", NULL}), -EIO);
}

static void complete_twice(void *arg)
{
    struct be_op *op = arg;
    be_complete(op, 0);
}

static void completes_once(void **state)
{
    fake.act = act_well;
    struct be_remove r = {.op = {.key = "k"}};
    assert_int_equal(BE_SYNC(&fake.be, be_remove, &r), 0);
    assert_true(aborts(complete_twice, &r.op));
}

static int init_with(uint32_t caps, struct be_limits limits)
{
    struct fake f = {.caps = caps, .limits = limits};
    struct errinfo e = {0};
    int err = be_init(&f.be, &fake_ops, &be_test_env, "other", &e);
    assert_true(err == 0 || e.cls == ERR_BUG);
    be_close(&f.be);
    return err;
}

static void description_is_checked(void **state)
{
    const struct be_limits good = {.max_key = 1, .list_page = 1, .max_parts = 1};
    struct be_limits bad = good;
    assert_int_equal(init_with(BE_CAP_COPY, good), 0);
    assert_int_equal(init_with(BE_CAP_REMOVE_MANY, good), -EINVAL);
    assert_int_equal(init_with(BE_CAP_MULTIPART, good), -EINVAL);
    assert_int_equal(init_with(BE_CAP_PART_COPY, good), -EINVAL);
    bad.max_key = 0;
    assert_int_equal(init_with(0, bad), -EINVAL);
    bad = good;
    bad.min_part = 10;
    bad.max_part = 5;
    assert_int_equal(init_with(0, bad), -EINVAL);
    bad = good;
    bad.part_unit = 4;
    bad.min_part = 10;
    assert_int_equal(init_with(0, bad), -EINVAL);
    bad.min_part = 8;
    assert_int_equal(init_with(0, bad), 0);
    assert_int_equal(init_with(BE_CAP_BARE_DIRS, good), -EINVAL);
    assert_int_equal(init_with(BE_CAP_BARE_DIRS | BE_CAP_REAL_DIRS, good), 0);
}

/* --- what a caller does wrong --- */

static pthread_t caller;
static bool done_inside;

static void note_thread(struct be_op *op)
{
    struct cond *ended = op->owner;
    done_inside = pthread_equal(pthread_self(), caller);
    cond_signal(ended);
}

static void refused_on_a_worker(void **state)
{
    struct mutex lock;
    struct cond ended;
    mutex_init(&lock, RANK_STORE);
    cond_init(&ended);
    caller = pthread_self();
    done_inside = true;
    struct be_stat s = {.op = {.key = "", .done = note_thread, .owner = &ended}};
    be_stat(&fake.be, &s);
    pool_drain(be_test_env.workers);
    assert_false(done_inside);
    assert_int_equal(s.op.status, -EINVAL);
    assert_int_equal(fake.calls, 0);
    cond_fini(&ended);
    mutex_fini(&lock);
}

static int write_with(const char *key, size_t len, const char *if_match, bool if_absent,
                      const char *meta)
{
    static const char data[2000];
    CLEANUP(kv_fini) struct kvlist kv = {0};
    if (meta) {
        kv_set(&kv, "meta-name", meta);
    }
    struct be_write w = {.op = {.key = key},
                         .data = data,
                         .len = len,
                         .if_match = if_match,
                         .if_absent = if_absent,
                         .meta = &kv};
    int err = BE_SYNC(&fake.be, be_write, &w);
    assert_true(err == 0 || w.op.err.cls == ERR_INVALID);
    return err;
}

static void arguments_are_checked(void **state)
{
    fake.act = act_well;
    char key[102];
    memset(key, 'k', sizeof(key));
    key[101] = '\0';
    assert_int_equal(write_with(key, 1, NULL, false, NULL), -ENAMETOOLONG);
    key[100] = '\0';
    assert_int_equal(write_with(key, 1, NULL, false, NULL), 0);
    assert_int_equal(write_with("", 1, NULL, false, NULL), -EINVAL);
    assert_int_equal(write_with(NULL, 1, NULL, false, NULL), -EINVAL);
    assert_int_equal(write_with("k", 1000, NULL, false, NULL), 0);
    assert_int_equal(write_with("k", 1001, NULL, false, NULL), -EINVAL);
    assert_int_equal(write_with("k", 1, "etag", false, NULL), -EOPNOTSUPP);
    assert_int_equal(write_with("k", 1, NULL, true, NULL), -EOPNOTSUPP);
    assert_int_equal(write_with("k", 1, NULL, false, "x"), -EOPNOTSUPP);
    assert_int_equal(fake.calls, 2);
    fake.be.caps = BE_CAP_USER_META | BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT;
    assert_int_equal(write_with("k", 1, NULL, false, "x"), 0);
    assert_int_equal(write_with("k", 1, "etag", false, NULL), 0);
    assert_int_equal(write_with("k", 1, "", false, NULL), -EINVAL);
    assert_int_equal(write_with("k", 1, "etag", true, NULL), -EINVAL);
    assert_int_equal(
        write_with("k", 1, NULL, false, "01234567890123456789012345678901234567890123456789"),
        -EINVAL);

    struct be_mp mp = {.op = {.key = "k"}};
    assert_int_equal(BE_SYNC(&fake.be, be_mp_begin, &mp), -EOPNOTSUPP);
    assert_int_equal(mp.op.err.cls, ERR_INVALID);
    struct be_copy c = {.op = {.key = "k"}, .src = &fake.be, .src_key = "l"};
    assert_int_equal(BE_SYNC(&fake.be, be_copy, &c), -EOPNOTSUPP);
    fake.be.caps |= BE_CAP_COPY;
    assert_int_equal(BE_SYNC(&fake.be, be_copy, &c), 0);
    c.src_key = NULL;
    assert_int_equal(BE_SYNC(&fake.be, be_copy, &c), -EINVAL);
    struct be_list l = {.prefix = "", .delimiter = '|'};
    assert_int_equal(BE_SYNC(&fake.be, be_list, &l), -EINVAL);
    l = (struct be_list){.cursor = "a", .start_after = "b"};
    assert_int_equal(BE_SYNC(&fake.be, be_list, &l), -EINVAL);
}

/* What cannot be stored under a key says so before the driver hears of it; reading and removing go on. */
static void keys_are_checked(void **state)
{
    fake.act = act_well;
    struct errinfo e = {0};
    char key[102];
    memset(key, 'k', sizeof(key));
    key[101] = '\0';
    assert_int_equal(be_key_check(&fake.be, key, &e), -ENAMETOOLONG);
    assert_string_equal(e.message, "key of 101 bytes, fake takes 100");
    assert_int_equal(e.cls, ERR_INVALID);
    key[100] = '\0';
    assert_int_equal(be_key_check(&fake.be, key, NULL), 0);
    assert_int_equal(be_key_check(&fake.be, "", NULL), -EINVAL);
    assert_int_equal(be_key_check(&fake.be, "oh!", &e), -EILSEQ);
    assert_string_equal(e.message, "no exclamations");

    fake.be.caps = BE_CAP_COPY;
    assert_int_equal(write_with("oh!", 1, NULL, false, NULL), -EILSEQ);
    struct be_copy c = {.op = {.key = "oh!"}, .src = &fake.be, .src_key = "l"};
    assert_int_equal(BE_SYNC(&fake.be, be_copy, &c), -EILSEQ);
    assert_string_equal(c.op.err.message, "no exclamations");
    assert_int_equal(fake.calls, 0);
    struct be_remove r = {.op = {.key = "oh!"}};
    assert_int_equal(BE_SYNC(&fake.be, be_remove, &r), 0);
    assert_int_equal(fake.calls, 1);
}

static void unknown_provider(void **state)
{
    char name[] = "remote", provider[] = "floppy";
    struct conf_remote conf = {.name = name, .provider = provider};
    struct errinfo e = {0};
    struct be *be;
    assert_int_equal(be_open(&conf, &be_test_env, &be, &e), -EINVAL);
    assert_int_equal(e.cls, ERR_INVALID);
    assert_non_null(strstr(e.message, "floppy"));
}

static void keys_in_messages(void **state)
{
    char text[32];
    assert_string_equal(be_key_text("a\nb'\\", text, sizeof(text)), "a\\x0ab\\x27\\x5c");
    assert_string_equal(be_key_text(NULL, text, sizeof(text)), "");
    assert_int_equal(
        strlen(be_key_text("0123456789012345678901234567890123456789", text, sizeof(text))), 28);
    assert_string_equal(text + 25, "...");
    assert_string_equal(be_key_text("\xed\x95\x9c", text, sizeof(text)), "\xed\x95\x9c");
}

/* A named memory store lives on; an unnamed one is gone. */
static void memory_stores(void **state)
{
    char name[] = "m", provider[] = "memory", bucket[] = "shared", text[256];
    struct conf_remote conf = {.name = name, .provider = provider, .bucket = bucket};
    struct be *a, *b;
    assert_int_equal(be_open(&conf, &be_test_env, &a, NULL), 0);
    assert_int_equal(be_open(&conf, &be_test_env, &b, NULL), 0);
    assert_string_equal(be_identity(a), be_identity(b));
    assert_int_equal(be_test_write(a, "k", "v", NULL), 0);
    assert_int_equal(be_test_read(b, "k", text), 0);
    be_close(a);
    be_memory_forget("shared"); /* still open: stays */
    be_close(b);
    assert_int_equal(be_open(&conf, &be_test_env, &a, NULL), 0);
    assert_int_equal(be_test_read(a, "k", text), 0);
    be_close(a);
    be_memory_forget("shared");
    assert_int_equal(be_open(&conf, &be_test_env, &a, NULL), 0);
    assert_int_equal(be_test_read(a, "k", text), -ENOENT);
    be_close(a);
    be_memory_forget("shared");
    a = be_test_open("memory", NULL);
    b = be_test_open("memory", NULL);
    assert_string_not_equal(be_identity(a), be_identity(b));
    assert_int_equal(be_probe(a, NULL), 0);
    be_close(a);
    be_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(failure_needs_a_class, start, stop),
        cmocka_unit_test_setup_teardown(short_read_is_no_success, start, stop),
        cmocka_unit_test_setup_teardown(lists_keep_their_promise, start, stop),
        cmocka_unit_test_setup_teardown(completes_once, start, stop),
        cmocka_unit_test_setup_teardown(description_is_checked, start, stop),
        cmocka_unit_test_setup_teardown(refused_on_a_worker, start, stop),
        cmocka_unit_test_setup_teardown(arguments_are_checked, start, stop),
        cmocka_unit_test_setup_teardown(keys_are_checked, start, stop),
        cmocka_unit_test_setup_teardown(unknown_provider, start, stop),
        cmocka_unit_test_setup_teardown(keys_in_messages, start, stop),
        cmocka_unit_test_setup_teardown(memory_stores, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
