/* Lost replies, refusals, altered bytes, late requests: the provider ends with the last content, once, and nothing of ours
 * is taken for somebody else's. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>

#include "mem.h"
#include "sync.h"

static void ends_clean(struct fx *fx)
{
    fx_idle(fx);
    struct cprogress p = fx_progress(fx);
    if (p.failed != 0) {
        fx_report(fx);
    }
    assert_int_equal(p.failed, 0);
}

static void put_reply_lost(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_text(fx, 0, "f", "arrived");
    ends_clean(fx);
    assert_at(fx, 0, "f", "arrived");
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 1); /* it was found, not sent twice */
}

static void put_lost(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 2, -EIO, ERR_TRANSIENT, false);
    fx_text(fx, 0, "f", "again");
    ends_clean(fx);
    assert_at(fx, 0, "f", "again");
    assert_int_equal(fx_calls(fx, 0, BE_WRITE), 3);
}

/* Our own late version is no conflict, whatever was written since (style-anchors, dirty file). */
static void put_reply_lost_then_rewritten(void **state)
{
    struct fx *fx = *state;
    for (int i = 0; i < 4; i++) {
        be_fault_clear(fx->fault[0]);
        fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
        fx_text(fx, 0, "f", "one");
        cache_hurry(fx->c, NULL);
        FX_AWAIT(fx, fx_ended(fx, 0, BE_WRITE) >= 1 + 2 * (unsigned)i);
        if (i == 1) {
            assert_int_equal(fx_unlink(fx, 0, "f"), 0);
        } else if (i == 2) {
            assert_int_equal(fx_rename(fx, 0, "f", "moved", 0), 0);
        }
        fx_text(fx, 0, "f", i == 3 ? "of another length" : "two");
        ends_clean(fx);
        assert_at(fx, 0, "f", i == 3 ? "of another length" : "two");
        assert_at(fx, 0, "moved", i >= 2 ? "one" : NULL);
        if (i == 2) {
            return; /* the PUT of "moved" counts too */
        }
    }
}

/* Copied from a file while its commit was out, from bytes it had moved within itself: the version they were in is gone
 * afterwards, and they are found in the new one. */
static void copied_while_committed(void **state)
{
    struct fx *fx = *state;
    for (int i = 0; i < 8; i++) {
        bool lost = i & 1, rewritten = i & 2, restarted = i & 4;
        char key[] = {'a', (char)('0' + i), '\0'}, copy[] = {'b', (char)('0' + i), '\0'};
        struct chandle *a, *b;
        fx_at_put(fx, 0, key, "0123456789"); /* bytes that are only there */
        assert_int_equal(fx_openf(fx, 0, key, O_RDWR, &a), 0);
        assert_int_equal(fx_range(fx, a, 0, a, 10, 5), 5);
        assert_int_equal(fx_write(fx, a, 0, "ab", 2), 0);
        unsigned before = fx_calls(fx, 0, BE_WRITE);
        if (lost) {
            fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
            fx_fault(fx, 0, BE_STAT, 0, 1, -EIO, ERR_TRANSIENT, false);
        } else {
            fx_hold(fx, 0, BE_WRITE, 1);
        }
        assert_int_equal(fx_flush(fx, a), 0);
        cache_hurry(fx->c, NULL);
        FX_AWAIT(fx, (lost ? fx_ended(fx, 0, BE_WRITE) : fx_calls(fx, 0, BE_WRITE)) != before);
        assert_int_equal(fx_create(fx, 0, copy, &b), 0);
        assert_int_equal(fx_range(fx, a, 2, b, 0, 12), 12);
        assert_int_equal(fx_end(fx, b), 0);
        if (rewritten) {
            assert_int_equal(fx_write(fx, a, 5, "xyz", 3), 0);
        }
        assert_int_equal(fx_end(fx, a), 0);
        if (!lost) {
            fx_let_go(fx, 0);
        }
        if (restarted) {
            fx_close(fx);
            fx_open(fx);
        }
        ends_clean(fx);
        assert_at(fx, 0, key, rewritten ? "ab234xyz8901234" : "ab2345678901234");
        assert_at(fx, 0, copy, "234567890123");
        be_fault_clear(fx->fault[0]);
    }
}

/* The time in which the repeated one may still arrive lies between them. */
static void assert_settled(struct fx *fx, enum be_kind repeated, enum be_kind different)
{
    assert_true(fx_gap_ns(fx, 0, repeated, different) >= fx->conf[0].request_timeout_ms * INT64_C(1000000));
}

/* Nothing different goes out while an attempt without an answer may still arrive, though its repetition succeeded. */
static void repeated_request_may_still_arrive(void **state)
{
    struct fx *fx = *state;
    const struct be_fault_rule put = {.kind = BE_WRITE, .times = 1, .stray = true};
    const struct be_fault_rule gone = {.kind = BE_REMOVE, .times = 1, .stray = true};
    be_fault_add(fx->fault[0], &put);
    be_fault_add(fx->fault[0], &gone);
    fx_text(fx, 0, "f", "one");
    ends_clean(fx);
    assert_int_equal(fx_unlink(fx, 0, "f"), 0);
    ends_clean(fx);
    assert_settled(fx, BE_WRITE, BE_REMOVE);
    assert_at(fx, 0, "f", NULL);
    fx_text(fx, 0, "f", "two");
    ends_clean(fx);
    assert_settled(fx, BE_REMOVE, BE_WRITE);
    assert_at(fx, 0, "f", "two");
    be_fault_add(fx->fault[0], &put);
    assert_int_equal(fx_mkdir(fx, 0, "d/"), 0); /* a directory would come back, too */
    ends_clean(fx);
    assert_at(fx, 0, "d/", "");
    assert_int_equal(fx_rmdir(fx, 0, "d/"), 0);
    ends_clean(fx);
    assert_settled(fx, BE_WRITE, BE_REMOVE);
    assert_at(fx, 0, "d/", NULL);
}

/* b is open and holds an unfinished copy of a, taken while b's earlier content was on its way: an fsync of a new a does not
 * wait for b to be closed, and what is written to b meanwhile is not overwritten by what is fetched. */
static void fsync_of_a_source_held_open(void **state)
{
    struct fx *fx = *state;
    struct chandle *a, *b;
    fx_at_put(fx, 0, "a", "old bytes of a");
    assert_int_equal(fx_create(fx, 0, "b", &b), 0);
    assert_int_equal(fx_write(fx, b, 0, "first", 5), 0);
    unsigned before = fx_calls(fx, 0, BE_WRITE);
    fx_hold(fx, 0, BE_WRITE, 1);
    assert_int_equal(fx_flush(fx, b), 0);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_WRITE) != before);
    assert_int_equal(fx_openf(fx, 0, "a", O_RDWR, &a), 0);
    assert_int_equal(fx_range(fx, a, 0, b, 0, 14), 14);
    fx_let_go(fx, 0);
    assert_int_equal(fx_write(fx, a, 0, "new", 3), 0);
    assert_int_equal(fx_fsync(fx, a), 0);
    assert_at(fx, 0, "a", "new bytes of a");
    fx_delay(fx, 0, BE_READ, 0, 1, 100);
    assert_int_equal(fx_write(fx, b, 4, "BYTES", 5), 0);
    assert_int_equal(fx_end(fx, b), 0);
    assert_int_equal(fx_end(fx, a), 0);
    ends_clean(fx);
    assert_at(fx, 0, "b", "old BYTES of a");
}

static void put_reply_lost_then_gone(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_text(fx, 0, "f", "one");
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_WRITE) >= 1);
    assert_int_equal(fx_unlink(fx, 0, "f"), 0);
    ends_clean(fx);
    assert_at(fx, 0, "f", NULL);
}

static void lost_then_moved(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_text(fx, 0, "f", "one");
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_WRITE) >= 1);
    assert_int_equal(fx_rename(fx, 0, "f", "g", 0), 0);
    ends_clean(fx);
    assert_at(fx, 0, "g", "one");
    assert_at(fx, 0, "f", NULL);
}

static void delete_reply_lost(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "f", "x");
    fx_fault(fx, 0, BE_REMOVE, 0, 1, -EIO, ERR_TRANSIENT, true);
    assert_int_equal(fx_unlink(fx, 0, "f"), 0);
    ends_clean(fx);
    assert_at(fx, 0, "f", NULL);
    fx_at_put(fx, 0, "g", "x");
    be_fault_clear(fx->fault[0]);
    fx_fault(fx, 0, BE_REMOVE, 0, 1, -EIO, ERR_TRANSIENT, true);
    assert_int_equal(fx_unlink(fx, 0, "g"), 0);
    unsigned before = fx_ended(fx, 0, BE_REMOVE);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_REMOVE) > before);
    fx_text(fx, 0, "g", "made again");
    ends_clean(fx);
    assert_at(fx, 0, "g", "made again");
}

static void copy_reply_lost(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "s", "source");
    fx_fault(fx, 1, BE_COPY, 0, 1, -EIO, ERR_TRANSIENT, true);
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    assert_int_equal(fx_unlink(fx, 0, "s"), 0);
    ends_clean(fx);
    assert_at(fx, 1, "t", "source");
    assert_at(fx, 0, "s", NULL);
    assert_int_equal(fx_calls(fx, 1, BE_COPY), 1);
}

/* A provider that copies in one request and sets the attributes in another may have done the first only. */
static void copy_arrived_without_its_attributes(void **state)
{
    struct fx *fx = *state;
    const struct cattr private = {.mode = 0600};
    fx_at_put(fx, 0, "s", "source");
    fx_fault(fx, 1, BE_COPY, 0, 1, -EIO, ERR_TRANSIENT, true);
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    assert_int_equal(fx_setattr(fx, 1, "t", CSET_MODE, &private), 0);
    fx_hold(fx, 1, BE_STAT, 0);
    unsigned before = fx_calls(fx, 1, BE_STAT);
    FX_AWAIT(fx, (cache_hurry(fx->c, NULL), fx_calls(fx, 1, BE_STAT) > before)); /* it looks what became of it */
    fx_at_put(fx, 1, "t", "source");
    fx_let_go(fx, 1);
    ends_clean(fx);
    CLEANUP(mem_freep) char *mode = fx_at_meta(fx, 1, "t", "meta-mode");
    assert_non_null(mode);
    assert_int_equal(strtoul(mode, NULL, 10) & 0777, 0600);
}

static void rename_reply_lost(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "moved");
    fx_fault(fx, 0, BE_COPY, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_fault(fx, 0, BE_REMOVE, 0, 1, -EIO, ERR_TRANSIENT, true);
    assert_int_equal(fx_rename(fx, 0, "a", "b", 0), 0);
    ends_clean(fx);
    assert_at(fx, 0, "b", "moved");
    assert_at(fx, 0, "a", NULL);
}

static void put_big(struct fx *fx, const char *key, unsigned seed)
{
    size_t n = 5 * (size_t)FX_THRESHOLD + 17;
    char *big = malloc(n);
    fx_pattern(big, n, 0, seed);
    assert_int_equal(fx_put(fx, 0, key, big, n), 0);
    free(big);
}

static void assert_big(struct fx *fx, const char *key, unsigned seed)
{
    size_t n = 5 * (size_t)FX_THRESHOLD + 17;
    char *big = malloc(n), *got = malloc(n + 1);
    fx_pattern(big, n, 0, seed);
    assert_int_equal(fx_at(fx, 0, key, got, n + 1), n);
    assert_memory_equal(got, big, n);
    free(big);
    free(got);
    assert_int_equal(fx_at_uploads(fx, 0), 0);
}

/* Attributes changed while parts go out: the upload was begun with the old ones, and goes on; the new ones arrive all the same, also
 * when the answer to its commit is lost, and over a restart. */
static void attributes_while_parts_go_out(void **state)
{
    struct fx *fx = *state;
    for (int i = 0; i < 4; i++) {
        bool lost = i & 1, restarted = i & 2;
        char key[] = {'f', (char)('0' + i), '\0'};
        be_fault_clear(fx->fault[0]);
        unsigned before = fx_calls(fx, 0, BE_MP_PART);
        be_fault_add(fx->fault[0], &(struct be_fault_rule){.kind = BE_MP_PART, .skip = 2, .hold = true});
        put_big(fx, key, 1);
        cache_hurry(fx->c, NULL);
        FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_PART) - before >= 3);
        const struct cattr a = {.mode = 0600, .mtime_ns = 1000000000};
        assert_int_equal(fx_setattr(fx, 0, key, CSET_MODE | CSET_MTIME, &a), 0);
        assert_int_equal(fx_setxattr(fx, 0, key, "user.colour", "blue"), 0);
        fx_let_go(fx, 0);
        if (restarted) {
            fx_close(fx);
            fx_open(fx);
        }
        if (lost) {
            fx_fault(fx, 0, BE_MP_COMMIT, 0, 1, -EIO, ERR_TRANSIENT, true);
        }
        ends_clean(fx);
        assert_big(fx, key, 1);
        CLEANUP(mem_freep) char *mode = fx_at_meta(fx, 0, key, "meta-mode");
        CLEANUP(mem_freep) char *mtime = fx_at_meta(fx, 0, key, "meta-mtime");
        CLEANUP(mem_freep) char *colour = fx_at_meta(fx, 0, key, "meta-xattr-user.colour");
        CLEANUP(mem_freep) char *md5 = fx_at_meta(fx, 0, key, "meta-md5");
        assert_non_null(mode);
        assert_string_equal(mode, "33152"); /* 0100600 */
        assert_non_null(mtime);
        assert_string_equal(mtime, "1.000000000");
        assert_non_null(colour);
        assert_string_equal(colour, "blue");
        assert_non_null(md5);
    }
}

/* A name that is taken away is not there any more, though all others are as they were. */
static void attribute_removed(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "text");
    assert_int_equal(fx_setxattr(fx, 0, "f", "user.colour", "blue"), 0);
    ends_clean(fx);
    CLEANUP(mem_freep) char *colour = fx_at_meta(fx, 0, "f", "meta-xattr-user.colour");
    assert_non_null(colour);
    assert_int_equal(fx_removexattr(fx, 0, "f", "user.colour"), 0);
    fx_close(fx);
    fx_open(fx);
    ends_clean(fx);
    assert_null(fx_at_meta(fx, 0, "f", "meta-xattr-user.colour"));
    assert_at(fx, 0, "f", "text");
}

/* The same bytes once more, long after the target was looked at: it is looked at again, and no byte moves. */
static void same_again_after_a_while(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.list_ttl_ms = 1;
    fx_open(fx);
    put_big(fx, "f", 1);
    ends_clean(fx);
    unsigned parts = fx_calls(fx, 0, BE_MP_PART);
    assert_true(parts > 1);
    put_big(fx, "f", 1);
    fx_sleep_ms(20);
    ends_clean(fx);
    assert_int_equal(fx_calls(fx, 0, BE_MP_PART), parts);
    assert_big(fx, "f", 1);
}

static void complete_reply_lost(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_MP_COMMIT, 0, 1, -EIO, ERR_TRANSIENT, true);
    put_big(fx, "big", 1);
    ends_clean(fx);
    assert_big(fx, "big", 1);
    assert_int_equal(fx_calls(fx, 0, BE_MP_COMMIT), 1);
}

static void complete_reply_lost_then_rewritten(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_MP_COMMIT, 0, 1, -EIO, ERR_TRANSIENT, true);
    put_big(fx, "big", 1);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_MP_COMMIT) >= 1);
    put_big(fx, "big", 2);
    ends_clean(fx);
    assert_big(fx, "big", 2);
}

static void parts_fail_and_begin_lost(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_MP_PART, 2, 1, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_MP_PART, 1, 1, -EIO, ERR_TRANSIENT, true);
    put_big(fx, "big", 3);
    ends_clean(fx);
    assert_big(fx, "big", 3);
    assert_in_range(fx_calls(fx, 0, BE_MP_PART), 6, 8); /* finished parts are not sent again */
    assert_int_equal(fx_calls(fx, 0, BE_MP_BEGIN), 1);
}

/* Begun, its id never learnt, and then not wanted any more: it is looked for until it is found, over restarts. */
static void begin_lost_and_superseded(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_MP_BEGIN, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_fault(fx, 0, BE_MP_UPLOADS, 0, 0, -EIO, ERR_TRANSIENT, false);
    put_big(fx, "f", 1);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_MP_BEGIN) == 1);
    fx_text(fx, 0, "f", "small");
    ends_clean(fx);
    assert_at(fx, 0, "f", "small");
    assert_int_equal(fx_at_uploads(fx, 0), 1);
    fx_close(fx);
    fx_open(fx);
    fx_no_uploads(fx, 0);
    assert_at(fx, 0, "f", "small");
}

/* A begin that was repeated within one call may have begun two: the other one is found, and the one in use is left alone. */
static void begin_repeated(void **state)
{
    struct fx *fx = *state;
    const struct be_fault_rule twice = {.kind = BE_MP_BEGIN, .times = 1, .stray = true};
    be_fault_add(fx->fault[0], &twice);
    unsigned searches = fx_calls(fx, 0, BE_MP_UPLOADS);
    put_big(fx, "f", 2);
    ends_clean(fx);
    assert_big(fx, "f", 2);
    assert_true(fx_calls(fx, 0, BE_MP_UPLOADS) > searches);
    assert_int_equal(fx_at_uploads(fx, 0), 0);
}

/* The object that is found is the small content's, not what the upload begun before would have made. */
static void put_reply_lost_beside_an_upload(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_MP_COMMIT, 0, 1, -EIO, ERR_TRANSIENT, false);
    fx_fault(fx, 0, BE_STAT, 0, 1, -EIO, ERR_TRANSIENT, false);
    put_big(fx, "f", 1);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_COMMIT) != 0);
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_text(fx, 0, "f", "small");
    ends_clean(fx);
    assert_at(fx, 0, "f", "small");
    CLEANUP(mem_freep) char *md5 = fx_at_meta(fx, 0, "f", "meta-md5");
    assert_string_equal(md5, "eb5c1399a871211c7e7ed732d15e3a8b");
    assert_int_equal(fx_at_uploads(fx, 0), 0);
}

static void superseded_upload_is_aborted(void **state)
{
    struct fx *fx = *state;
    const struct be_fault_rule fourth = {.kind = BE_MP_PART, .skip = 3, .times = 1, .hold = true};
    be_fault_add(fx->fault[0], &fourth);
    put_big(fx, "big", 4);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_PART) >= 4);
    fx_text(fx, 0, "big", "small now");
    fx_let_go(fx, 0);
    ends_clean(fx);
    assert_at(fx, 0, "big", "small now");
    fx_no_uploads(fx, 0);
    unsigned before = fx_calls(fx, 0, BE_MP_PART);
    put_big(fx, "gone", 5);
    be_fault_add(fx->fault[0], &fourth);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_PART) >= before + 4);
    assert_int_equal(fx_unlink(fx, 0, "gone"), 0);
    fx_let_go(fx, 0);
    ends_clean(fx);
    assert_at(fx, 0, "gone", NULL);
    fx_no_uploads(fx, 0);
}

static void refused_key_others_go_on(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EACCES, ERR_AUTH, false);
    fx_text(fx, 0, "no", "1");
    fx_idle(fx);
    fx_text(fx, 0, "yes", "2");
    fx_idle(fx);
    assert_at(fx, 0, "yes", "2");
    assert_at(fx, 0, "no", NULL);
    assert_int_equal(fx_progress(fx).failed, 1);
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    assert_int_equal(cache_errors(fx->c, NULL, &b), 0);
    assert_non_null(strstr(buf_str(&b), "InjectedFault"));
    assert_non_null(strstr(buf_str(&b), "no"));
    /* BLOCKED files accept write, rename, unlink (rules B9) */
    fx_text(fx, 0, "no", "3");
    ends_clean(fx);
    assert_at(fx, 0, "no", "3");
}

/* The report is one line of UTF-8 a key, whatever is in the key: else nobody could read about any of them. */
static void report_of_odd_keys(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EACCES, ERR_AUTH, false);
    fx_text(fx, 0, "a\xff\n\xed\xa0\x80\xc3\xa4", "1");
    fx_idle(fx);
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    assert_int_equal(cache_errors(fx->c, NULL, &b), 0);
    assert_non_null(strstr(buf_str(&b), "\ta\\xff\\x0a\\xed\\xa0\\x80\xc3\xa4\t"));
}

static void blocked_file_moves_and_goes(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 2, -EACCES, ERR_AUTH, false);
    fx_text(fx, 0, "m", "moved");
    fx_text(fx, 0, "u", "unlinked");
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 2);
    assert_int_equal(fx_rename(fx, 0, "m", "n", 0), 0);
    assert_int_equal(fx_unlink(fx, 0, "u"), 0);
    ends_clean(fx);
    assert_at(fx, 0, "n", "moved");
    assert_at(fx, 0, "u", NULL);
    assert_at(fx, 0, "m", NULL);
}

static void altered_on_the_way(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_INTEGRITY, false);
    fx_text(fx, 0, "f", "bytes");
    ends_clean(fx);
    assert_at(fx, 0, "f", "bytes");
}

static void source_changes_whole(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "s", "version one");
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    fx_at_put(fx, 0, "s", "and version two");
    ends_clean(fx);
    assert_at(fx, 1, "t", "and version two");
}

static void source_changes_part(void **state)
{
    struct fx *fx = *state;
    struct chandle *in, *out;
    fx_at_put(fx, 0, "s", "version one");
    assert_int_equal(fx_lookup(fx, 0, "s", NULL), 0);
    assert_int_equal(fx_openf(fx, 0, "s", O_RDONLY, &in), 0);
    assert_int_equal(fx_create(fx, 1, "t", &out), 0);
    assert_int_equal(fx_range(fx, in, 0, out, 0, 7), 7);
    assert_int_equal(fx_write(fx, out, 7, "!", 1), 0);
    assert_int_equal(fx_end(fx, out), 0);
    assert_int_equal(fx_end(fx, in), 0);
    fx_at_put(fx, 0, "s", "VERSION TWO");
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 1);
    assert_at(fx, 1, "t", NULL); /* never a mixture */
}

static void source_gone(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "s", "one");
    assert_int_equal(fx_cp(fx, 0, "s", 1, "t"), 0);
    struct be_remove q = {.op = {.key = "s"}};
    assert_int_equal(BE_SYNC(fx->look[0], be_remove, &q), 0);
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 1);
    assert_at(fx, 1, "t", NULL);
}

static void foreign_writer(void **state)
{
    struct fx *fx = *state;
    fx_text(fx, 0, "f", "ours");
    ends_clean(fx);
    fx_at_put(fx, 0, "f", "theirs");
    fx_text(fx, 0, "f", "ours again");
    fx_idle(fx);
    assert_int_equal(fx_progress(fx).failed, 1); /* not overwritten unseen */
    assert_at(fx, 0, "f", "theirs");
    unsigned n;
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0);
    ends_clean(fx);
    assert_at(fx, 0, "f", "ours again");
}

/* A move's deletion is for the version that was moved (rules B6). */
/* A provider without conditions: the last writer wins, or with conflict=check whoever wrote between our look and our request is
 * seen. */
static void foreign_writer_without_conditions(void **state)
{
    struct fx *fx = *state;
    for (int check = 0; check < 2; check++) {
        fx_close(fx);
        fx->caps_without = BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT;
        fx->opt.conflict_check = check;
        fx_open(fx);
        fx_at_put(fx, 0, "old", "base");
        fx_at_put(fx, 1, "src", "source");
        fx_at_put(fx, 0, "target", "base");
        assert_int_equal(fx_lookup(fx, 0, "old", NULL), 0);
        assert_int_equal(fx_lookup(fx, 0, "target", NULL), 0);
        assert_int_equal(fx_lookup(fx, 1, "src", NULL), 0);
        fx_text(fx, 0, "old", "ours");
        fx_text(fx, 0, check ? "new 1" : "new 0", "ours");
        assert_int_equal(fx_cp(fx, 1, "src", 0, "target"), 0);
        const char *fresh = check ? "new 1" : "new 0";
        fx_at_put(fx, 0, "old", "theirs");
        fx_at_put(fx, 0, fresh, "theirs");
        fx_at_put(fx, 0, "target", "theirs");
        fx_idle(fx);
        assert_at(fx, 0, "old", check ? "theirs" : "ours");
        assert_at(fx, 0, fresh, check ? "theirs" : "ours");
        assert_at(fx, 0, "target", check ? "theirs" : "source");
        assert_int_equal(fx_progress(fx).failed, check ? 3 : 0);
    }
    unsigned n;
    assert_int_equal(cache_retry(fx->c, NULL, &n), 0); /* ours, now that somebody has said so */
    assert_int_equal(n, 3);
    fx_idle(fx);
    assert_at(fx, 0, "old", "ours");
    assert_at(fx, 0, "new 1", "ours");
    assert_at(fx, 0, "target", "source");
}

static void foreign_version_of_moved(void **state)
{
    struct fx *fx = *state;
    fx_at_put(fx, 0, "a", "moved");
    fx_hold(fx, 0, BE_REMOVE, 1);
    assert_int_equal(fx_rename(fx, 0, "a", "b", 0), 0);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_at_is(fx, 0, "b", "moved"));
    fx_at_put(fx, 0, "a", "theirs");
    fx_let_go(fx, 0);
    fx_idle(fx);
    assert_at(fx, 0, "a", "theirs");
    assert_at(fx, 0, "b", "moved");
}

static void late_requests(void **state)
{
    struct fx *fx = *state;
    char text[32];
    for (int round = 0; round < 12; round++) {
        be_fault_clear(fx->fault[0]);
        fx_delay(fx, 0, round % 2 ? BE_WRITE : BE_KINDS, 0, 0, 20 + 10 * (unsigned)round % 50);
        for (int i = 0; i < 8; i++) {
            (void)snprintf(text, sizeof(text), "round %d, %d", round, i);
            fx_text(fx, 0, "f", text);
            cache_hurry(fx->c, NULL);
            fx_sleep_ms((unsigned)(i * 13 + round * 7) % 40);
            if (i == 4 && round % 3 == 0) {
                assert_int_equal(fx_unlink(fx, 0, "f"), 0);
                cache_hurry(fx->c, NULL);
            }
        }
        ends_clean(fx);
        assert_at(fx, 0, "f", text);
    }
}

/* New content over a file that was being streamed, while one of its parts is still on its way: that part does not take the
 * place of the new bytes. */
static void streamed_then_truncated(void **state)
{
    struct fx *fx = *state;
    const size_t n = 8 * (size_t)FX_THRESHOLD;
    CLEANUP(mem_freep) char *old = malloc(n), *fresh = malloc(n), *got = malloc(n + 1);
    struct chandle *h, *again;
    fx_pattern(old, n, 0, 1);
    fx_pattern(fresh, n, 0, 2);
    fx_close(fx);
    fx->opt.cache_size = 2 * n;
    fx_open(fx);
    be_fault_add(fx->fault[0], &(struct be_fault_rule){.kind = BE_MP_PART, .skip = 3, .times = 1, .hold = true});
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    for (size_t off = 0; fx_calls(fx, 0, BE_MP_PART) < 4; off += FX_THRESHOLD) {
        assert_int_equal(fx_write(fx, h, off, old + off % n, FX_THRESHOLD), 0);
    }
    assert_int_equal(fx_openf(fx, 0, "f", O_WRONLY | O_TRUNC, &again), 0);
    assert_int_equal(fx_write(fx, again, 0, fresh, n), 0);
    fx_let_go(fx, 0);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_MP_PART) == fx_calls(fx, 0, BE_MP_PART)); /* it has arrived */
    assert_int_equal(fx_end(fx, again), 0);
    assert_int_equal(fx_end(fx, h), 0);
    ends_clean(fx);
    assert_int_equal(fx_at(fx, 0, "f", got, n + 1), n);
    assert_memory_equal(got, fresh, n);
    fx_no_uploads(fx, 0);
}

/* A crash in memory: the cache is closed in the middle, and opened again. */
static void closed_in_the_middle(void **state)
{
    struct fx *fx = *state;
    fx_fault(fx, 0, BE_WRITE, 0, 1, -EIO, ERR_TRANSIENT, true);
    fx_text(fx, 0, "f", "one");
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_ended(fx, 0, BE_WRITE) >= 1);
    fx_text(fx, 0, "f", "two"); /* UNKNOWN with newer content in the journal */
    fx_close(fx);
    fx_open(fx);
    ends_clean(fx);
    assert_at(fx, 0, "f", "two");
}

static void *flusher(void *arg)
{
    void **a = arg;
    assert_int_equal(fx_flush(a[0], a[1]), 0);
    return NULL;
}

/* One writer of a file larger than the spool has closed it and its commit is out; what another adds comes after it. */
static void stream_two_writers(void **state)
{
    struct fx *fx = *state;
    const size_t max = 256 * (size_t)FX_THRESHOLD;
    char *bytes = mem_zalloc(max), *got = mem_zalloc(max);
    size_t len = 0;
    struct chandle *h, *h2;
    fx_pattern(bytes, max, 0, 1);
    fx_close(fx);
    fx->opt.cache_size = 16 * (uint64_t)FX_THRESHOLD;
    fx_open(fx);
    fx_delay(fx, 0, BE_MP_COMMIT, 0, 1, 800); /* the write may wait for it, and is right after it as well */
    assert_int_equal(fx_create(fx, 0, "f", &h), 0);
    while (fx_calls(fx, 0, BE_MP_PART) < 8) {
        assert_int_equal(fx_write(fx, h, len, bytes + len, FX_THRESHOLD), 0);
        len += FX_THRESHOLD;
    }
    assert_int_equal(fx_openf(fx, 0, "f", O_WRONLY, &h2), 0);
    pthread_t t;
    void *a[2] = {fx, h};
    assert_int_equal(pthread_create(&t, NULL, flusher, a), 0);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_COMMIT) >= 1);
    assert_int_equal(fx_write(fx, h2, len, bytes + len, 1000), 0);
    len += 1000;
    assert_int_equal(fx_flush(fx, h2), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(fx_end(fx, h), 0);
    assert_int_equal(fx_end(fx, h2), 0);
    ends_clean(fx);
    assert_int_equal(fx_at(fx, 0, "f", got, max), len);
    assert_memory_equal(got, bytes, len);
    assert_int_equal(fx_at_uploads(fx, 0), 0);
    free(bytes);
    free(got);
}

/* Its mode is changed meanwhile: it is no reason to send a byte again, or to lose one. */
static void stream_chmod_while_sent(void **state)
{
    struct fx *fx = *state;
    for (int lost = 0; lost < 2; lost++) {
        const size_t max = 256 * (size_t)FX_THRESHOLD;
        char *bytes = mem_zalloc(max), *got = mem_zalloc(max);
        size_t len = 0;
        struct chandle *h;
        const char *key = lost ? "g" : "f";
        fx_pattern(bytes, max, 0, 1);
        fx_close(fx);
        fx->opt.cache_size = 16 * (uint64_t)FX_THRESHOLD;
        fx_open(fx);
        if (lost) {
            fx_fault(fx, 0, BE_MP_COMMIT, 0, 1, -EIO, ERR_TRANSIENT, true);
            fx_hold(fx, 0, BE_STAT, 0);
        } else {
            fx_hold(fx, 0, BE_MP_COMMIT, 0);
        }
        assert_int_equal(fx_create(fx, 0, key, &h), 0);
        while (fx_calls(fx, 0, BE_MP_PART) < 8) {
            assert_int_equal(fx_write(fx, h, len, bytes + len, FX_THRESHOLD), 0);
            len += FX_THRESHOLD;
        }
        pthread_t t;
        void *a[2] = {fx, h};
        assert_int_equal(pthread_create(&t, NULL, flusher, a), 0);
        FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_COMMIT) >= 1);
        unsigned parts = fx_calls(fx, 0, BE_MP_PART);
        assert_int_equal(fx_setattr(fx, 0, key, CSET_MODE, &(struct cattr){.mode = S_IFREG | 0640}), 0);
        fx_let_go(fx, 0);
        assert_int_equal(pthread_join(t, NULL), 0);
        assert_int_equal(fx_end(fx, h), 0);
        ends_clean(fx);
        assert_int_equal(fx_at(fx, 0, key, got, max), len);
        assert_memory_equal(got, bytes, len);
        assert_int_equal(fx_calls(fx, 0, BE_MP_PART), parts);
        CLEANUP(mem_freep) char *mode = fx_at_meta(fx, 0, key, "meta-mode");
        assert_string_equal(mode, "33184"); /* 0100640 */
        free(bytes);
        free(got);
    }
}

/* Two large files share the memory; a part of one fails while it waits for memory for the next: it waits no more. */
static void failed_while_it_waits_for_memory(void **state)
{
    struct fx *fx = *state;
    const size_t n = 40 * (size_t)FX_THRESHOLD;
    char *p = mem_zalloc(n);
    fx_pattern(p, n, 0, 1);
    fx_close(fx);
    fx->opt.memory = 32 * (uint64_t)FX_THRESHOLD; /* as by default: 16 parts */
    fx_open(fx);
    fx_delay(fx, 0, BE_MP_PART, 0, 15, 300);
    be_fault_add(fx->fault[0], &(struct be_fault_rule){
                                   .kind = BE_MP_PART, .times = 1, .status = -EIO, .cls = ERR_TRANSIENT, .delay_ms = 700});
    fx_delay(fx, 0, BE_MP_PART, 0, 15, 800);
    assert_int_equal(fx_put(fx, 0, "a", p, n), 0);
    cache_hurry(fx->c, NULL);
    FX_AWAIT(fx, fx_calls(fx, 0, BE_MP_PART) >= 16);
    assert_int_equal(fx_put(fx, 0, "b", p, n), 0);
    cache_hurry(fx->c, NULL);
    ends_clean(fx);
    for (int b = 0; b < 2; b++) {
        CLEANUP(mem_freep) char *got = mem_zalloc(n);
        assert_int_equal(fx_at(fx, 0, b ? "b" : "a", got, n), n);
        assert_memory_equal(got, p, n);
    }
    free(p);
}

/* Every look at a directory of somebody else's objects fails: they show as their listing has them. */
static void no_look_succeeds(void **state)
{
    struct fx *fx = *state;
    fx_close(fx);
    fx->opt.attr = CACHE_ATTR_HEAD;
    fx_open(fx);
    fx_at_put(fx, 0, "d/one", "1");
    fx_at_put(fx, 0, "d/two", "22");
    fx_fault(fx, 0, BE_STAT, 0, 2, -ENOENT, ERR_ABSENT, false);
    CLEANUP(mem_freep) char *names = fx_ls(fx, 0, "d/");
    assert_string_equal(names, "one two");
    assert_int_equal(fx_calls(fx, 0, BE_STAT), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
        T(put_reply_lost), T(put_lost), T(put_reply_lost_then_rewritten), T(put_reply_lost_then_gone),
        T(lost_then_moved), T(copied_while_committed), T(fsync_of_a_source_held_open), T(repeated_request_may_still_arrive),
        T(delete_reply_lost), T(copy_reply_lost), T(copy_arrived_without_its_attributes), T(rename_reply_lost), T(complete_reply_lost), T(same_again_after_a_while), T(attributes_while_parts_go_out), T(attribute_removed),
        T(complete_reply_lost_then_rewritten), T(parts_fail_and_begin_lost), T(begin_lost_and_superseded), T(put_reply_lost_beside_an_upload), T(begin_repeated),
        T(superseded_upload_is_aborted),
        T(refused_key_others_go_on), T(report_of_odd_keys), T(blocked_file_moves_and_goes), T(altered_on_the_way), T(source_changes_whole),
        T(source_changes_part), T(source_gone), T(foreign_writer), T(foreign_writer_without_conditions), T(foreign_version_of_moved), T(late_requests),
        T(streamed_then_truncated), T(closed_in_the_middle), T(stream_two_writers), T(stream_chmod_while_sent),
        T(failed_while_it_waits_for_memory), T(no_look_succeeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
