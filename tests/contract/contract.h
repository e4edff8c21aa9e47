/* The contract suite: one set of tests for every backend. contract.c opens the targets and has the
 * helpers; each of the other files tests a part of the contract. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "backend.h"

/* One backend under test. Every key of a run begins with `run`, or with '/' and then `run`. */
struct target {
    const char *name;
    struct conf_remote *conf;
    struct be *be;
    bool wrapped;             /* under fault.c */
    bool is_read_only; /* what it holds was put there by others: readonly.c, and nothing else */
    bool is_memory, is_local; /* what must hold without exception */
    char run[64];
    unsigned n_tests;
    struct target *next;
};

struct contract_test {
    const char *name;
    void (*run)(void **state);
};
extern const struct contract_test tests_objects[], tests_keys[], tests_lists[], tests_uploads[],
    tests_load[], tests_read_only[];

static inline struct target *target_of(void **state)
{
    return *state;
}

struct be *
open_again(const struct target *t); /* a second backend on the same bucket; the caller closes it */
bool has_cap(const struct target *t, uint32_t cap);
/* End the test as skipped: the others when the backend truly lacks the capability, or has it. */
void skip_because(const struct target *t, const char *why);
void require_cap(const struct target *t, uint32_t cap, const char *what);
void require_no_cap(const struct target *t, uint32_t cap, const char *why);

/* Whether the store says that it takes an object of that key and length beside those others: by
 * be_key_check, and by what BE_CAP_BARE_DIRS means. */
bool takes(const struct target *t, const char *key, size_t len, const char *const *others,
           size_t n);

/* run + text, freed when the program ends. */
const char *key_of(struct target *t, const char *text);

/* For tests that write by themselves a key that may end in '/'. */
void note_written(const char *key);

/* These fail the test unless the call succeeds, or fails with that class. */
void put(struct target *t, const char *key, const void *data, size_t len);
void put_meta(struct target *t, const char *key, const void *data, size_t len,
              const struct kvlist *meta, struct be_object *ret);
void expect_content(struct target *t, const char *key, const void *data, size_t len);
void expect_absent(struct target *t, const char *key);
void get_stat(struct target *t, const char *key, struct be_object *ret, struct kvlist *ret_meta);
void drop(struct target *t, const char *key);
void expect_failure(const struct be_op *op, enum err_class cls);

/* All keys below a prefix, page by page. Real directories that stand for nothing written are left
 * out. */
struct listing {
    char **keys;
    bool *is_prefix;
    uint64_t *sizes;
    size_t n, pages;
};
void list_all(struct target *t, const char *prefix, char delimiter, const char *start_after,
              unsigned max, struct listing *ret);
void listing_fini(struct listing *l);
void expect_keys(const struct listing *l, const char *const *keys, size_t n);

#define TEXT(s) (s), strlen(s)
