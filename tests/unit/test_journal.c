#include "journal_fixture.h"

#include <sched.h>
#include <sys/stat.h>

#include "journal_internal.h"
#include "sync.h"

static void test_intents(void **state)
{
    const char *dir = *state;
    struct journal *j = open_ok(dir);
    struct errinfo err = {.cls = ERR_AUTH,
                          .http_status = 403,
                          .retry_after_ms = 5,
                          .outcome_unknown = true,
                          .attempts = 3,
                          .code = "AccessDenied",
                          .request_id = "r=1&2",
                          .message = "no \xff\n you may not"};
    struct jintent full = {.remote = UINT32_MAX,
                           .key = "a\xff\x01%/ \x80",
                           .seq = 77,
                           .gen = 12,
                           .state = FS_BLOCKED,
                           .absent = true,
                           .sealed = true,
                           .hydrate = true,
                           .move = true,
                           .unfinished = true,
                           .spool_id = 9,
                           .size = INT64_MAX,
                           .extents = "L 0 10\nH 10 5\n",
                           .meta = "meta-a=b&content-type=x%2fy",
                           .has_md5 = true,
                           .md5 = {0, 1, 2, 255},
                           .base_etag = "etag\xfe",
                           .base_size = 4096,
                           .expect_etag = "\"e\"",
                           .after_remote = 5,
                           .after_key = "other\xfe",
                           .upload_id = "?",
                           .part_size = 8 << 20,
                           .changed_ns = -5,
                           .err = &err};
    char state_bytes[96];
    memset(state_bytes, 0, sizeof(state_bytes));
    state_bytes[95] = 7;
    struct jpart parts[] = {
        {.number = 1, .size = 0, .etag = "", .md5 = {0}},
        {.number = 2,
         .size = 1 << 20,
         .etag = "x",
         .has_crc64 = true,
         .crc64 = UINT64_MAX,
         .md5 = {9},
         .hash_state = state_bytes,
         .hash_state_len = sizeof(state_bytes)},
        {.number = 10000, .size = 3, .etag = "last", .has_crc64 = true, .crc64 = 0},
    };
    struct told told = {0};
    struct jtx *tx = jtx_new();
    assert_true(jtx_empty(tx));
    jtx_intent_put(tx, &full);
    assert_false(jtx_empty(tx));
    for (int i = 2; i >= 0; i--) {
        jtx_part_put(tx, full.remote, full.key, &parts[i]);
    }
    journal_submit(j, tx, JTX_DURABLE, on_done, &told);
    struct jintent bare = intent("b", 3);
    put_intent(j, &bare);
    assert_int_equal(journal_flush(j, false), 0);
    assert_int_equal(atomic_load(&told.n), 1);
    assert_int_equal(atomic_load(&told.bad), 0);
    for (int again = 0; again < 2; again++) {
        struct seen_rows s = {.want = full, .want_parts = parts};
        walk(j, &s);
        assert_int_equal(s.n, 2);
        assert_int_equal(s.bad, 0);
        assert_int_equal(s.parts, 3);
        assert_true(s.equal);
        assert_true(s.seqs[0] == 3 && s.seqs[1] == 77); /* seq order, not key order */
        s = (struct seen_rows){.want = bare};
        walk(j, &s);
        assert_true(s.equal);
        journal_close(j);
        j = open_ok(dir);
    }
    /* A row is replaced as a whole; parts stay until they are deleted. */
    struct jintent second = intent(full.key, 78);
    second.remote = full.remote;
    put_intent(j, &second);
    assert_int_equal(journal_flush(j, false), 0);
    struct seen_rows s = {.want = second, .want_parts = parts};
    walk(j, &s);
    assert_true(s.equal && s.parts == 3);
    tx = jtx_new();
    jtx_parts_delete(tx, full.remote, full.key);
    journal_submit(j, tx, 0, NULL, NULL);
    assert_int_equal(journal_flush(j, false), 0);
    s = (struct seen_rows){0};
    walk(j, &s);
    assert_true(s.n == 2 && s.parts == 0);
    tx = jtx_new();
    jtx_part_put(tx, 1, "b", &parts[0]);
    jtx_intent_delete(tx, 1, "b");
    jtx_intent_delete(tx, full.remote, full.key);
    jtx_intent_delete(tx, 1, "never there");
    journal_submit(j, tx, 0, NULL, NULL);
    assert_int_equal(journal_flush(j, true), 0);
    s = (struct seen_rows){0};
    walk(j, &s);
    assert_int_equal(s.n, 0);
    /* Numbers of rows that are gone are not given out again. */
    assert_true(journal_max_seq(j) >= 78 && journal_max_spool_id(j) >= 9);
    journal_close(j);
    j = open_ok(dir);
    assert_true(journal_max_seq(j) >= 78 && journal_max_seq(j) < 1000000);
    journal_close(j);
}

static void test_bounds(void **state)
{
    struct journal *j = open_ok(*state);
    CLEANUP(mem_freep) char *longest = mem_zalloc(J_KEY_MAX + 2);
    memset(longest, 'k', J_KEY_MAX + 1);
    struct told bad = {0}, good = {0};
    struct jintent rows[7];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        rows[i] = intent("key", 1);
    }
    rows[0].key = "";
    rows[1].key = longest;
    rows[2].remote = 0;
    rows[3].state = FS_STATES;
    rows[4].size = UINT64_MAX;
    rows[5].after_remote = 1;
    rows[6].base_etag = longest;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct jtx *tx = jtx_new();
        struct jintent fine = intent("in the same transaction", 5);
        jtx_intent_put(tx, &fine);
        jtx_intent_put(tx, &rows[i]);
        journal_submit(j, tx, 0, on_done, &bad);
    }
    longest[J_KEY_MAX] = '\0';
    struct jintent edge = intent(longest, 2);
    CLEANUP(mem_freep) char *extents = mem_zalloc((4 << 20) + 1);
    memset(extents, 'x', 4 << 20);
    edge.extents = extents;
    struct jtx *tx = jtx_new();
    jtx_intent_put(tx, &edge);
    journal_submit(j, tx, 0, on_done, &good);
    assert_int_equal(journal_flush(j, false), 0);
    assert_int_equal(atomic_load(&bad.bad), ARRAY_LEN(rows));
    assert_int_equal(atomic_load(&bad.last), -EINVAL);
    assert_int_equal(atomic_load(&good.bad), 0);
    assert_false(journal_failed(j) || journal_full(j));
    struct seen_rows s = {.want = edge};
    walk(j, &s);
    assert_true(s.n == 1 && s.equal);
    journal_close(j);
}

/* --- order --- */

struct order {
    atomic_uint next[4];
    atomic_int wrong;
};
struct ordered {
    struct order *o;
    unsigned thread, number;
};

static void on_ordered(void *ctx, int status)
{
    struct ordered *me = ctx;
    unsigned expected = atomic_fetch_add(&me->o->next[me->thread], 1);
    if (status != 0 || expected != me->number) {
        atomic_fetch_add(&me->o->wrong, 1);
    }
    free(me);
}

struct submitter {
    struct journal *j;
    struct order *o;
    unsigned thread;
};

static void *submit_many(void *arg)
{
    struct submitter *me = arg;
    for (unsigned i = 0; i < 2000; i++) {
        struct ordered *item = mem_zalloc(sizeof(*item));
        *item = (struct ordered){me->o, me->thread, i};
        struct jtx *tx = jtx_new();
        char key[32];
        (void)snprintf(key, sizeof(key), "t%u/%u", me->thread, i % 50);
        struct jintent row = intent(key, 1 + me->thread * 100000 + i);
        jtx_intent_put(tx, &row);
        jtx_counter_add(tx, "n", 1);
        unsigned flags = i % 500 == 0 ? JTX_DURABLE : i % 3 == 0 ? JTX_HELPED : 0;
        journal_submit(me->j, tx, flags, on_ordered, item);
        if (flags == JTX_HELPED) {
            journal_help(me->j);
        }
    }
    return NULL;
}

static int sum_counter(void *ctx, const char *name, int64_t value)
{
    int64_t *sum = ctx;
    *sum += strcmp(name, "n") == 0 ? value : 0;
    return 0;
}

static void test_order(void **state)
{
    struct journal *j = open_ok(*state);
    struct order o = {0};
    pthread_t threads[4];
    struct submitter what[4];
    for (unsigned i = 0; i < 4; i++) {
        what[i] = (struct submitter){j, &o, i};
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &what[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(journal_flush(j, true), 0);
    assert_int_equal(atomic_load(&o.wrong), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(atomic_load(&o.next[i]), 2000);
    }
    int64_t sum = 0;
    assert_int_equal(journal_counters(j, sum_counter, &sum), 0);
    assert_int_equal(sum, 8000);
    struct seen_rows s = {0};
    walk(j, &s);
    assert_int_equal(s.n, 200);
    for (size_t i = 1; i < s.n; i++) {
        assert_true(s.seqs[i - 1] < s.seqs[i]);
    }
    journal_close(j);
}

/* What queues while a batch is being ended goes into one commit: the log then has no frame a transaction. */
static void block_writer(void *ctx, int status)
{
    struct told *gate = ctx;
    atomic_store(&gate->n, 1);
    while (atomic_load(&gate->last) == 0) {
        (void)sched_yield();
    }
}

static void test_group_commit(void **state)
{
    struct journal *j = open_ok(*state);
    struct told gate = {0}, told = {0};
    journal_submit(j, jtx_new(), 0, block_writer, &gate);
    while (atomic_load(&gate.n) == 0) {
        (void)sched_yield();
    }
    for (unsigned i = 0; i < 1000; i++) {
        struct jtx *tx = jtx_new();
        jtx_counter_add(tx, "n", 1);
        journal_submit(j, tx, JTX_DURABLE, on_done, &told);
    }
    assert_int_equal(atomic_load(&told.n), 0);
    atomic_store(&gate.last, 1);
    assert_int_equal(journal_flush(j, false), 0);
    assert_int_equal(atomic_load(&told.n), 1000);
    CLEANUP(mem_freep) char *wal = mem_printf("%s/journal.db-wal", (char *)*state);
    struct stat st;
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 100 * 4096);
    journal_close(j);
}

static void test_close_commits(void **state)
{
    struct journal *j = open_ok(*state);
    struct told told = {0};
    for (unsigned i = 1; i <= 500; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "%u", i);
        struct jtx *tx = jtx_new();
        struct jintent row = intent(key, i);
        jtx_intent_put(tx, &row);
        journal_submit(j, tx, 0, on_done, &told);
    }
    journal_close(j);
    assert_int_equal(atomic_load(&told.n), 500);
    assert_int_equal(atomic_load(&told.bad), 0);
    j = open_ok(*state);
    struct seen_rows s = {0};
    walk(j, &s);
    assert_int_equal(s.n, 500);
    journal_close(j);
    journal_close(NULL);
}

/* --- ledger --- */

static void put_ledger(struct journal *j, uint32_t remote, const char *key, uint64_t size)
{
    struct jtx *tx = jtx_new();
    CLEANUP(mem_freep) char *copy = mem_strdup(key);
    struct jledger row = {.remote = remote, .key = copy, .etag = "e", .size = size};
    jtx_ledger_put(tx, &row);
    journal_submit(j, tx, 0, NULL, NULL);
}

static bool same_ledger(const struct jledger *a, const struct jledger *b)
{
    return a->remote == b->remote && same_text(a->key, b->key) && same_text(a->etag, b->etag) &&
           a->size == b->size && a->mtime_ns == b->mtime_ns && a->ours == b->ours &&
           a->has_md5 == b->has_md5 && memcmp(a->md5, b->md5, 16) == 0 &&
           a->md5_inherited == b->md5_inherited && a->has_crc64 == b->has_crc64 &&
           a->crc64 == b->crc64 && a->content_verified == b->content_verified &&
           same_text(a->meta, b->meta) && a->src_remote == b->src_remote &&
           same_text(a->src_key, b->src_key) && same_text(a->src_etag, b->src_etag) &&
           a->src_size == b->src_size && a->src_mtime_ns == b->src_mtime_ns &&
           a->done_wall_ns == b->done_wall_ns;
}

static void test_ledger(void **state)
{
    struct journal *j = open_ok(*state);
    char key[] = "dir/\xf0\x28k", meta[] = "meta-x=1", src[] = "from/here";
    struct jledger full = {.remote = 3,
                           .key = key,
                           .etag = "abc-5",
                           .size = 5,
                           .mtime_ns = 0,
                           .ours = true,
                           .has_md5 = true,
                           .md5_inherited = true,
                           .has_crc64 = true,
                           .md5 = {1, 0, 3},
                           .crc64 = UINT64_C(0xffffffffffffff01),
                           .content_verified = true,
                           .meta = meta,
                           .src_remote = 4,
                           .src_key = src,
                           .src_etag = "old",
                           .src_size = 5,
                           .src_mtime_ns = -1,
                           .done_wall_ns = INT64_MAX};
    struct jtx *tx = jtx_new();
    jtx_ledger_put(tx, &full);
    struct jledger bare = {.remote = 3, .key = src, .etag = ""};
    jtx_ledger_put(tx, &bare);
    journal_submit(j, tx, 0, NULL, NULL);
    assert_int_equal(journal_flush(j, false), 0);
    struct jledger got = {0};
    assert_int_equal(journal_ledger_get(j, 3, key, &got), 1);
    assert_true(same_ledger(&full, &got));
    jledger_fini(&got);
    assert_int_equal(journal_ledger_get(j, 3, src, &got), 1);
    assert_true(same_ledger(&bare, &got));
    jledger_fini(&got);
    assert_int_equal(journal_ledger_get(j, 4, key, &got), 0);
    assert_int_equal(journal_ledger_get(j, 3, "dir/", &got), 0);

    /* Seen: only the same version, only once. */
    static const struct {
        const char *etag;
        uint64_t size;
        int64_t mtime, expect;
    } steps[] = {
        {"other", 5, 10, 0}, {"abc-5", 6, 11, 0}, {"abc-5", 5, 12, 12}, {"abc-5", 5, 13, 12}};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        tx = jtx_new();
        jtx_ledger_seen(tx, 3, key, steps[i].etag, steps[i].size, steps[i].mtime);
        journal_submit(j, tx, 0, NULL, NULL);
        assert_int_equal(journal_flush(j, false), 0);
        assert_int_equal(journal_ledger_get(j, 3, key, &got), 1);
        assert_int_equal(got.mtime_ns, steps[i].expect);
        jledger_fini(&got);
    }
    tx = jtx_new();
    jtx_ledger_delete(tx, 3, key);
    journal_submit(j, tx, 0, NULL, NULL);
    assert_int_equal(journal_flush(j, false), 0);
    assert_int_equal(journal_ledger_get(j, 3, key, &got), 0);
    journal_close(j);
}

struct range {
    struct journal *j;
    size_t n;
    char first[32], last[32];
    size_t stop_after; /* 0 = never */
    bool sorted;
};

static int on_range(void *ctx, const struct jledger *row)
{
    struct range *r = ctx;
    if (r->n == 0) {
        (void)snprintf(r->first, sizeof(r->first), "%s", row->key);
        r->sorted = true;
    } else {
        r->sorted = r->sorted && strcmp(r->last, row->key) < 0;
    }
    (void)snprintf(r->last, sizeof(r->last), "%s", row->key);
    r->n++;
    /* A callback may read as well. */
    struct jledger again;
    assert_int_equal(journal_ledger_get(r->j, row->remote, row->key, &again), 1);
    jledger_fini(&again);
    return r->stop_after == r->n ? 42 : 0;
}

static struct range range(struct journal *j, const char *from, const char *to)
{
    struct range r = {.j = j};
    assert_int_equal(journal_ledger_range(j, 2, from, to, on_range, &r), 0);
    assert_true(r.sorted || r.n == 0);
    return r;
}

static void test_range(void **state)
{
    struct journal *j = open_ok(*state);
    for (unsigned i = 0; i < 384; i++) { /* three pages exactly */
        char key[32];
        (void)snprintf(key, sizeof(key), "d/%03u", i);
        put_ledger(j, 2, key, i);
    }
    put_ledger(j, 1, "d/000x", 0);
    put_ledger(j, 3, "d/000x", 0);
    put_ledger(j, 2, "d", 0);
    put_ledger(j, 2, "d0", 0);
    put_ledger(j, 2, "e\xff", 0);
    assert_int_equal(journal_flush(j, false), 0);
    struct range r = range(j, "", "");
    assert_int_equal(r.n, 387);
    assert_string_equal(r.first, "d");
    assert_string_equal(r.last, "e\xff");
    r = range(j, "d/", "d0");
    assert_int_equal(r.n, 384);
    assert_string_equal(r.first, "d/000");
    assert_string_equal(r.last, "d/383");
    r = range(j, "d/100", "d/101");
    assert_int_equal(r.n, 1);
    assert_int_equal(range(j, "d/100", "d/100").n, 0);
    assert_int_equal(range(j, "d/127", "d/128").n, 1);
    assert_int_equal(range(j, "f", "").n, 0);
    assert_int_equal(range(j, "e\xff", "").n, 1);
    assert_int_equal(range(j, "z", "a").n, 0);
    r = (struct range){.j = j, .stop_after = 200};
    assert_int_equal(journal_ledger_range(j, 2, "", "", on_range, &r), 42);
    assert_int_equal(r.n, 200);
    journal_close(j);
}

static void *read_many(void *arg)
{
    struct journal *j = arg;
    for (unsigned i = 0; i < 300; i++) {
        struct jledger got = {0};
        if (journal_ledger_get(j, 1, "k", &got) == 1) {
            jledger_fini(&got);
        }
    }
    return NULL;
}

static void test_parallel_readers(void **state)
{
    struct journal *j = open_ok(*state);
    pthread_t threads[8];
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, j), 0);
    }
    for (unsigned i = 0; i < 200; i++) {
        put_ledger(j, 1, "k", i);
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    journal_close(j);
}

/* --- small tables --- */

static int on_attach(void *ctx, const struct jattach *a)
{
    int *n = ctx;
    if (strcmp(a->dir, "/mnt/\xff") == 0) {
        assert_string_equal(a->spec, "cos:p");
        assert_string_equal(a->remote, "cos");
        assert_string_equal(a->prefix, "p\xfe/");
        assert_string_equal(a->options, "ro");
    }
    ++*n;
    return 0;
}

static void test_small_tables(void **state)
{
    const char *dir = *state;
    struct journal *j = open_ok(dir);
    uint32_t a, b, again;
    assert_int_equal(journal_remote_id(j, "cos/x", &a, NULL), 0);
    assert_int_equal(journal_remote_id(j, "cos/y", &b, NULL), 0);
    assert_int_equal(journal_remote_id(j, "cos/x", &again, NULL), 0);
    assert_true(a != 0 && b != 0 && a != b && again == a);
    CLEANUP(mem_freep) char *identity = NULL;
    assert_int_equal(journal_remote_identity(j, b, &identity), 0);
    assert_string_equal(identity, "cos/y");
    char *none = NULL;
    assert_int_equal(journal_remote_identity(j, 99, &none), -ENOENT);

    struct jtx *tx = jtx_new();
    jtx_attach_put(tx, &(struct jattach){"/mnt/\xff", "old", "", NULL, NULL});
    jtx_attach_put(tx, &(struct jattach){"/mnt/\xff", "cos:p", "cos", "p\xfe/", "ro"});
    jtx_attach_put(tx, &(struct jattach){"/b", "all", "", "", ""});
    jtx_attach_put(tx, &(struct jattach){"/c", "all", "", "", ""});
    jtx_attach_delete(tx, "/c");
    jtx_counter_add(tx, "n", 5);
    jtx_counter_add(tx, "n", -2);
    jtx_mark_put(tx, "synced", 1);
    jtx_mark_put(tx, "synced", INT64_MIN);
    journal_submit(j, tx, 0, NULL, NULL);
    assert_int_equal(journal_flush(j, false), 0);
    journal_close(j);

    j = open_ok(dir);
    int n = 0;
    assert_int_equal(journal_each_attach(j, on_attach, &n), 0);
    assert_int_equal(n, 2);
    int64_t value = 0;
    assert_int_equal(journal_counters(j, sum_counter, &value), 0);
    assert_int_equal(value, 3);
    assert_int_equal(journal_mark_get(j, "synced", &value), 0);
    assert_true(value == INT64_MIN);
    assert_int_equal(journal_mark_get(j, "unheard of", &value), -ENOENT);
    assert_int_equal(journal_remote_id(j, "cos/y", &again, NULL), 0);
    assert_int_equal(again, b);
    journal_close(j);
}

static void test_boot(void **state)
{
    const char *dir = *state;
    struct journal *j = open_ok(dir);
    assert_false(journal_previous_boot_differs(j)); /* nothing to lose yet */
    journal_close(j);
    j = open_ok(dir);
    assert_false(journal_previous_boot_differs(j));
    journal_close(j);
    raw(dir, "UPDATE mark SET value='another' WHERE name='boot_id'");
    for (int i = 0; i < 2; i++) { /* a crash of the recovery does not hide it */
        j = open_ok(dir);
        assert_true(journal_previous_boot_differs(j));
        journal_close(j);
    }
    j = open_ok(dir);
    assert_int_equal(journal_boot_settled(j), 0);
    journal_close(j);
    j = open_ok(dir);
    assert_false(journal_previous_boot_differs(j));
    journal_close(j);
    raw(dir, "UPDATE mark SET value=NULL WHERE name='boot_id'");
    j = open_ok(dir);
    assert_true(journal_previous_boot_differs(j));
    journal_close(j);
}

/* --- files that are not what they should be --- */

static void refuse(const char *dir, int status)
{
    struct journal *j = NULL;
    struct errinfo err = {0};
    assert_int_equal(journal_open(dir, &j, &err), status);
    assert_null(j);
    assert_true(err.message[0] != '\0' && err.cls == ERR_LOCAL);
}

static void test_refused(void **state)
{
    const char *dir = *state;
    CLEANUP(mem_freep) char *path = mem_printf("%s/journal.db", dir);
    struct journal *j = open_ok(dir);
    journal_close(j);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    raw(dir, "PRAGMA user_version=99");
    refuse(dir, -EPROTO);
    assert_int_equal(journal_open_readonly(dir, &j, NULL), -EPROTO);
    raw(dir, "PRAGMA user_version=-1");
    refuse(dir, -EPROTO);
    raw(dir, "PRAGMA user_version=1; PRAGMA application_id=1");
    refuse(dir, -EBADMSG);
    clear(dir);
    raw(dir, "PRAGMA journal_mode=DELETE; CREATE TABLE theirs(x)");
    refuse(dir, -EBADMSG);
    clear(dir);
    raw(dir,
        "PRAGMA encoding='UTF-16le'; PRAGMA application_id=1868720749; CREATE TABLE intent(x)");
    refuse(dir, -EBADMSG);
    clear(dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "this is not a database at all, not in the least", 40), 40);
    close(fd);
    refuse(dir, -EBADMSG);
    clear(dir);
    CLEANUP(mem_freep) char *nowhere = mem_printf("%s/absent", dir);
    refuse(nowhere, -ENOENT);
    /* A link in its place is not followed. */
    assert_int_equal(symlink("/dev/null", path), 0);
    struct errinfo err;
    assert_true(journal_open(dir, &j, &err) < 0);
}

static void test_migration(void **state)
{
    const char *dir = *state;
    static const char *const steps[] = {
        "CREATE TABLE a(x)", "ALTER TABLE a ADD COLUMN y", "CREATE TABLE b(x); UPDATE a SET y=x*2",
        "CREATE TABLE a(x)", /* fails */
    };
    CLEANUP(mem_freep) char *path = mem_printf("%s/journal.db", dir);
    CLEANUP(mem_freep) char *copy = mem_printf("%s/journal.db.v1", dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(jdb_migrate(db, dir, steps, 1, NULL), 0);
    assert_int_equal(access(copy, F_OK), -1); /* nothing to back up */
    assert_int_equal(sqlite3_exec(db, "INSERT INTO a VALUES(21)", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(jdb_migrate(db, dir, steps, 3, NULL), 0);
    struct stat st;
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(jdb_migrate(db, dir, steps, 3, NULL), 0);
    assert_int_equal(sqlite3_exec(db, "SELECT x, y FROM a; SELECT x FROM b", NULL, NULL, NULL),
                     SQLITE_OK);
    struct errinfo err = {0};
    assert_true(jdb_migrate(db, dir, steps, 4, &err) < 0);
    assert_non_null(strstr(err.message, "version 3 to 4"));
    assert_int_equal(sqlite3_exec(db, "SELECT x, y FROM a", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(jdb_migrate(db, dir, steps, 2, &err), -EPROTO);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    /* The copy is what was there before. */
    assert_int_equal(rename(copy, path), 0);
    raw(dir, "SELECT x FROM a");
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_not_equal(sqlite3_exec(db, "SELECT y FROM a", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    CLEANUP(mem_freep) char *v3 = mem_printf("%s/journal.db.v3", dir);
    (void)unlink(v3);
}

static void test_hostile_rows(void **state)
{
    const char *dir = *state;
    static const char *const damage[] = {
        "seq='x'",
        "seq=-1",
        "seq=9223372036854775807",
        "gen=NULL",
        "state=99",
        "state=-1",
        "state='three'",
        "flags=32",
        "flags=-1",
        "spool_id=1.5",
        "size=-1",
        "size=x'00'",
        "changed_ns=NULL",
        "md5=x'00'",
        "md5='0123456789abcdef'",
        "base_etag=NULL",
        "base_etag=printf('%.*c', 200, 'e')",
        "base_etag=CAST(x'610062' AS TEXT)",
        "base_size=NULL",
        "expect_etag=x'61'",
        "after_remote=-1",
        "after_remote=4294967296",
        "after_remote=1",
        "after_key='text'",
        "after_key=x'6100'",
        "upload_id=NULL",
        "part_size=-5",
        "err='not a list'",
        "err=x'00'",
        "err='class=99'",
        "meta=x'35'",
        "meta=CAST(x'00' AS TEXT)",
        "meta=printf('%.*c', 2000000, 'm')",
        "extents=NULL",
        "key='text'",
        "key=x''",
        "key=x'6b0079'",
        "key=zeroblob(100000)",
        "remote=0",
        "remote=-7",
        "remote=4294967296",
    };
    struct journal *j = open_ok(dir);
    for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%zu", i);
        struct jintent row = intent(key, i + 1);
        put_intent(j, &row);
    }
    struct jintent good = intent("good", 1000);
    struct jpart part = {.number = 1, .etag = "e"};
    struct jtx *tx = jtx_new();
    jtx_intent_put(tx, &good);
    jtx_part_put(tx, 1, "good", &part);
    struct jintent bad_part = intent("bad part", 1001);
    jtx_intent_put(tx, &bad_part);
    part.number = 2;
    jtx_part_put(tx, 1, "bad part", &part);
    part.number = 3;
    jtx_part_put(tx, 1, "bad part", &part);
    journal_submit(j, tx, 0, NULL, NULL);
    put_ledger(j, 1, "l1", 1);
    put_ledger(j, 1, "l2", 2);
    put_ledger(j, 1, "l3", 3);
    journal_close(j);
    for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
        CLEANUP(mem_freep)
        char *text =
            mem_printf("UPDATE intent SET %s WHERE key=CAST('k%zu' AS BLOB)", damage[i], i);
        raw(dir, text);
    }
    raw(dir,
        "UPDATE part SET size='many' WHERE number=2; UPDATE ledger SET meta=NULL WHERE key=x'6c32';"
        "INSERT INTO attach VALUES('text', 1, 2, 3, 4); INSERT INTO counter VALUES('c', 'x');"
        "INSERT INTO mark VALUES('m', 'x'); UPDATE mark SET value='x' WHERE name='seq_reserved';"
        "INSERT INTO remote(id, identity) VALUES(-5, 'neg'), (9, CAST(x'6100' AS TEXT))");
    j = open_ok(dir);
    struct seen_rows s = {.want = good};
    walk(j, &s);
    assert_int_equal(s.n, ARRAY_LEN(damage) + 2);
    assert_int_equal(s.bad, ARRAY_LEN(damage) + 1);
    assert_true(s.equal);
    struct jledger got;
    assert_int_equal(journal_ledger_get(j, 1, "l2", &got), 0);
    struct range r = {.j = j};
    assert_int_equal(journal_ledger_range(j, 1, "", "", on_range, &r), 0);
    assert_int_equal(r.n, 2);
    int n = 0;
    assert_int_equal(journal_each_attach(j, on_attach, &n), 0);
    assert_int_equal(n, 0);
    int64_t value = 0;
    assert_int_equal(journal_counters(j, sum_counter, &value), 0);
    assert_int_equal(journal_mark_get(j, "m", &value), -ENOENT);
    assert_int_equal(journal_max_seq(j), 1001);
    uint32_t id;
    assert_int_equal(journal_remote_id(j, "neg", &id, NULL), -ENOENT);
    char *identity = NULL;
    assert_int_equal(journal_remote_identity(j, 9, &identity), -ENOENT);
    journal_close(j);
}

/* --- beside and without a writer --- */

static void test_readonly(void **state)
{
    const char *dir = *state;
    struct journal *ro = NULL;
    assert_int_equal(journal_open_readonly(dir, &ro, NULL), -ENOENT);
    struct journal *j = open_ok(dir);
    assert_int_equal(journal_open_readonly(dir, &ro, NULL), 0);
    struct jintent row = intent("k", 1);
    put_intent(j, &row);
    put_ledger(j, 1, "k", 1);
    uint32_t id;
    assert_int_equal(journal_remote_id(j, "one", &id, NULL), 0);
    assert_int_equal(journal_flush(j, false), 0);
    struct seen_rows s = {.want = row};
    walk(ro, &s);
    assert_true(s.equal);
    struct jledger got;
    assert_int_equal(journal_ledger_get(ro, 1, "k", &got), 1);
    jledger_fini(&got);
    uint32_t ro_id = 0;
    assert_int_equal(journal_remote_id(ro, "one", &ro_id, NULL), 0);
    assert_int_equal(ro_id, id);
    assert_int_equal(journal_remote_id(ro, "two", &ro_id, NULL), -ENOENT);
    journal_close(j);
    /* The daemon is gone: the same journal still reads, and a new one opens. */
    s = (struct seen_rows){.want = row};
    walk(ro, &s);
    assert_true(s.equal);
    journal_close(ro);
    assert_int_equal(journal_open_readonly(dir, &ro, NULL), 0);
    s = (struct seen_rows){.want = row};
    walk(ro, &s);
    assert_true(s.equal);
    j = open_ok(dir);
    journal_close(ro);
    put_intent(j, &row);
    assert_int_equal(journal_flush(j, true), 0);
    journal_close(j);
}

static void count_damage(void *ctx, const char *damage)
{
    int *n = ctx;
    assert_true(damage[0] != '\0');
    ++*n;
}

static void test_check(void **state)
{
    const char *dir = *state;
    struct journal *j = open_ok(dir);
    struct jintent row = intent("k", 1);
    int n = 0;
    put_intent(j, &row);
    assert_int_equal(journal_flush(j, false), 0);
    assert_int_equal(journal_check(j, count_damage, &n), 0); /* beside the writer */
    assert_int_equal(n, 0);
    journal_close(j);
    assert_int_equal(journal_open_readonly(dir, &j, NULL), 0);
    assert_int_equal(journal_check(j, count_damage, &n), 0);
    assert_int_equal(n, 0);
    journal_close(j);
    /* An entry of a table in the wrong order: one damage. */
    raw(dir, "INSERT INTO counter VALUES('a', 1), ('b', 2); PRAGMA wal_checkpoint(TRUNCATE);"
             "PRAGMA writable_schema=1; UPDATE sqlite_schema SET rootpage=(SELECT rootpage FROM"
             " sqlite_schema WHERE name='mark') WHERE name='counter'");
    assert_int_equal(journal_open_readonly(dir, &j, NULL), 0);
    assert_int_equal(journal_check(j, count_damage, &n), 0);
    assert_true(n > 0);
    journal_close(j);
    raw(dir, "PRAGMA user_version=1");
    assert_int_equal(journal_open_readonly(dir, &j, NULL), -ESTALE);
}

static void flush_from_done(void *ctx, int status)
{
    (void)journal_flush(ctx, false);
}

static void misuse(void *arg)
{
    struct journal *j = NULL;
    if (journal_open(arg, &j, NULL) == 0) {
        journal_submit(j, jtx_new(), 0, flush_from_done, j);
        journal_close(j);
    }
}

static void misuse_readonly(void *arg)
{
    struct journal *j = NULL;
    if (journal_open_readonly(arg, &j, NULL) == 0) {
        journal_submit(j, jtx_new(), 0, NULL, NULL);
    }
}

static void test_misuse(void **state)
{
    assert_true(aborts(misuse, *state));
    assert_true(aborts(misuse_readonly, *state));
    jtx_free(NULL);
    struct jtx *tx = jtx_new();
    jtx_counter_add(tx, "never", 1);
    jtx_free(tx);
}

/* A thread that has submitted a line finds it, however busy the writer is. */
static void hold(void *ctx, int status)
{
    const atomic_bool *go = ctx;
    while (!atomic_load(go)) {
        (void)usleep(1000);
    }
}

static void *let_go(void *go)
{
    (void)usleep(50000);
    atomic_store((atomic_bool *)go, true);
    return NULL;
}

static int count_row(void *ctx, const struct jledger *row)
{
    ++*(unsigned *)ctx;
    return 0;
}

static void test_own_lines(void **state)
{
    struct journal *j = open_ok(*state);
    for (unsigned i = 0; i < 6; i++) {
        atomic_bool go = false;
        pthread_t t;
        journal_submit(j, jtx_new(), 0, hold, &go);
        (void)usleep(5000); /* the writer is in it: what follows is of another batch */
        char key[] = "k", meta[] = "";
        struct jledger row = {.remote = 1, .key = key, .meta = meta, .size = i}, got;
        struct jtx *tx = jtx_new();
        unsigned n = 0;
        if (i == 5) {
            jtx_ledger_delete(tx, 1, "k");
        } else {
            jtx_ledger_put(tx, &row);
        }
        if (i == 3) {
            jtx_segments_put(tx, 1, "k", "e", "abc", 3);
        }
        journal_submit(j, tx, 0, NULL, NULL);
        assert_int_equal(pthread_create(&t, NULL, let_go, &go), 0);
        CLEANUP(buf_fini) struct buf b = BUF_INIT;
        switch (i) {
        case 2:
        case 4:
            assert_int_equal(journal_ledger_range(j, 1, "", "", count_row, &n), 0);
            assert_int_equal(n, 1);
            break;
        case 3:
            assert_int_equal(journal_segments_get(j, 1, "k", "e", &b), 1);
            break;
        case 5:
            assert_int_equal(journal_ledger_get(j, 1, "k", &got), 0);
            break;
        default:
            assert_int_equal(journal_ledger_get(j, 1, "k", &got), 1);
            assert_int_equal(got.size, i);
            jledger_fini(&got);
        }
        assert_int_equal(pthread_join(t, NULL), 0);
    }
    journal_close(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_intents),      WITH_DIR(test_bounds),           WITH_DIR(test_order),
        WITH_DIR(test_group_commit), WITH_DIR(test_close_commits),    WITH_DIR(test_ledger),
        WITH_DIR(test_range),        WITH_DIR(test_parallel_readers), WITH_DIR(test_small_tables),
        WITH_DIR(test_boot),         WITH_DIR(test_refused),          WITH_DIR(test_migration),
        WITH_DIR(test_hostile_rows), WITH_DIR(test_readonly),         WITH_DIR(test_misuse),
        WITH_DIR(test_check),        WITH_DIR(test_own_lines),
    };
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
