/* What the tests of the journal share: a directory a test, rows, and walks that compare. */
#pragma once

#include "unit.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>

#include "errinfo.h"
#include "file_state.h"
#include "journal.h"
#include "mem.h"

static inline int setup(void **state)
{
    const char *base = getenv("TMPDIR");
    char *dir = mem_printf("%s/test-journal-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static inline void clear(const char *dir)
{
    static const char *const names[] = {"journal.db",    "journal.db-wal",    "journal.db-shm",
                                        "journal.db.v1", "journal.db.v1.tmp", "journal.db.v2"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *path = mem_printf("%s/%s", dir, names[i]);
        (void)unlink(path);
    }
}

static inline int teardown(void **state)
{
    char *dir = *state;
    clear(dir);
    assert_int_equal(rmdir(dir), 0);
    free(dir);
    return 0;
}

static inline struct journal *open_ok(const char *dir)
{
    struct journal *j = NULL;
    struct errinfo err = {0};
    int rc = journal_open(dir, &j, &err);
    if (rc < 0) {
        print_error("journal_open: %d %s\n", rc, err.message);
    }
    assert_int_equal(rc, 0);
    return j;
}

static inline void raw(const char *dir, const char *text)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/journal.db", dir);
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK) {
        print_error("%s: %s\n", text, why);
        fail();
    }
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Collects what done was told. */
struct told {
    atomic_int n, bad, last;
};

static inline void on_done(void *ctx, int status)
{
    struct told *t = ctx;
    atomic_store(&t->last, status);
    atomic_fetch_add(&t->bad, status < 0);
    atomic_fetch_add(&t->n, 1);
}

static inline struct jintent intent(const char *key, uint64_t seq)
{
    return (struct jintent){.remote = 1,
                            .key = key,
                            .seq = seq,
                            .gen = 1,
                            .state = FS_DIRTY,
                            .extents = "",
                            .meta = ""};
}

static inline void put_intent(struct journal *j, const struct jintent *row)
{
    struct jtx *tx = jtx_new();
    jtx_intent_put(tx, row);
    journal_submit(j, tx, 0, NULL, NULL);
}

/* --- what the walks found --- */

#define MAX_SEEN 4096
struct seen_rows {
    size_t n, bad;
    uint64_t seqs[MAX_SEEN];
    size_t parts;
    struct jintent want; /* compared when want.key is set */
    const struct jpart *want_parts;
    bool equal;
};

static inline bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static inline bool same_intent(const struct jintent *a, const struct jintent *b)
{
    return a->remote == b->remote && same_text(a->key, b->key) && a->seq == b->seq &&
           a->gen == b->gen && a->state == b->state && a->absent == b->absent &&
           a->sealed == b->sealed && a->hydrate == b->hydrate && a->move == b->move &&
           a->unfinished == b->unfinished && a->spool_id == b->spool_id && a->size == b->size &&
           same_text(a->extents, b->extents) && same_text(a->meta, b->meta) &&
           a->has_md5 == b->has_md5 && (!a->has_md5 || memcmp(a->md5, b->md5, 16) == 0) &&
           same_text(a->base_etag, b->base_etag) && a->base_size == b->base_size &&
           same_text(a->expect_etag, b->expect_etag) && a->after_remote == b->after_remote &&
           same_text(a->after_key, b->after_key) && same_text(a->upload_id, b->upload_id) &&
           a->part_size == b->part_size && a->changed_ns == b->changed_ns && !a->err == !b->err &&
           (!a->err || memcmp(a->err, b->err, sizeof(*a->err)) == 0);
}

static inline bool same_part(const struct jpart *a, const struct jpart *b)
{
    return a->number == b->number && a->size == b->size && same_text(a->etag, b->etag) &&
           a->has_crc64 == b->has_crc64 && (!a->has_crc64 || a->crc64 == b->crc64) &&
           memcmp(a->md5, b->md5, 16) == 0 && a->hash_state_len == b->hash_state_len &&
           (a->hash_state_len == 0 || memcmp(a->hash_state, b->hash_state, a->hash_state_len) == 0);
}

static inline int on_intent(void *ctx, const struct jintent *row, const struct jpart *parts,
                            size_t n_parts)
{
    struct seen_rows *s = ctx;
    if (s->n < MAX_SEEN) {
        s->seqs[s->n] = row->seq;
    }
    s->n++;
    s->bad += row->state < 0;
    s->parts += n_parts;
    if (s->want.key && row->key && strcmp(s->want.key, row->key) == 0) {
        s->equal = same_intent(&s->want, row);
        for (size_t i = 0; i < n_parts && s->want_parts; i++) {
            s->equal = s->equal && same_part(&s->want_parts[i], &parts[i]);
        }
    }
    return 0;
}

static inline void walk(struct journal *j, struct seen_rows *s)
{
    assert_int_equal(journal_each_intent(j, on_intent, s), 0);
}

#define WITH_DIR(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
