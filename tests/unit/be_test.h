/* A pool, a backend, and short calls, for tests of what is below the contract. */
#pragma once

#include <string.h>

#include "backend.h"
#include "mem.h"
#include "sync.h"
#include "unit.h"

static struct be_env be_test_env;

static inline void be_test_start(unsigned threads)
{
    assert_int_equal(pool_new(&be_test_env.workers, threads, "worker"), 0);
}

static inline void be_test_stop(void)
{
    pool_free(be_test_env.workers);
    be_test_env.workers = NULL;
}

static inline struct be *be_test_open(const char *provider, const char *path)
{
    CLEANUP(mem_freep) char *name = mem_strdup(provider);
    CLEANUP(mem_freep) char *where = path ? mem_strdup(path) : NULL;
    struct conf_remote conf = {.name = name, .provider = name, .path = where, .limits.min_part = 1};
    struct errinfo e = {0};
    struct be *be = NULL;
    if (be_open(&conf, &be_test_env, &be, &e) < 0) {
        fail_msg("%s", e.message);
    }
    return be;
}

static inline int be_test_write(struct be *be, const char *key, const char *text,
                                const struct kvlist *meta)
{
    struct be_write w = {.op = {.key = key}, .data = text, .len = strlen(text), .meta = meta};
    return BE_SYNC(be, be_write, &w);
}

/* The content as text, "" on failure; and the status. */
static inline int be_test_read(struct be *be, const char *key, char ret[256])
{
    struct be_read r = {.op = {.key = key}, .buf = ret, .len = 255};
    int err = BE_SYNC(be, be_read, &r);
    ret[err == 0 ? r.got : 0] = '\0';
    be_read_fini(&r);
    return err;
}

static inline int be_test_stat(struct be *be, const char *key, struct be_object *ret,
                               struct kvlist *ret_meta)
{
    struct be_stat s = {.op = {.key = key}};
    int err = BE_SYNC(be, be_stat, &s);
    if (ret) {
        *ret = s.object;
    }
    if (ret_meta) {
        kv_fini(ret_meta);
        *ret_meta = s.meta;
    } else {
        be_stat_fini(&s);
    }
    return err;
}

static inline int be_test_remove(struct be *be, const char *key)
{
    struct be_remove r = {.op = {.key = key}};
    return BE_SYNC(be, be_remove, &r);
}

/* "key key key", a page of `max` at a time; the caller frees. */
static inline char *be_test_list(struct be *be, const char *prefix, char delimiter, unsigned max)
{
    struct buf all = BUF_INIT;
    CLEANUP(mem_freep) char *cursor = NULL;
    do {
        struct be_list l = {.prefix = prefix, .delimiter = delimiter, .max = max, .cursor = cursor};
        if (BE_SYNC(be, be_list, &l) != 0) {
            fail_msg("list: %s", l.op.err.message);
        }
        for (size_t i = 0; i < l.n_entries; i++) {
            assert_int_equal(buf_addf(&all, "%s%s", all.len > 0 ? " " : "", l.entries[i].key), 0);
        }
        free(cursor);
        cursor = TAKE(l.next_cursor);
        be_list_fini(&l);
    } while (cursor);
    return all.data ? buf_take(&all) : mem_strdup("");
}

#define assert_list(be, prefix, delimiter, max, want)                                              \
    do {                                                                                           \
        char *listed_ = be_test_list((be), (prefix), (delimiter), (max));                          \
        assert_string_equal(listed_, (want));                                                      \
        free(listed_);                                                                             \
    } while (0)
