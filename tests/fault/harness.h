/* A cache without FUSE: opened in a fresh directory over two remotes that can be made to fail, driven by calls that wait.
 *
 * What the provider holds is looked at beside the cache, through backends of its own that count nowhere. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <semaphore.h>

#include "cache.h"

#define FX_REMOTES 2
#define FX_THRESHOLD 65536u /* small files; also the part size */

struct fx {
    struct cache *c;
    struct cache_options opt;
    char dir[64];
    struct conf_remote conf[FX_REMOTES];
    struct cache_remote *r[FX_REMOTES];
    struct be *fault[FX_REMOTES]; /* around the cache's own backends, of this opening */
    unsigned n_fault;
    uint32_t caps_without; /* what the providers of the next opening cannot do */
    int32_t pid;           /* who flushes and unlinks; 0 = nobody */
    struct pool *pool;             /* of the lookers */
    struct be *look[FX_REMOTES];
};

/* provider "memory", or "local" in directories a and b below fx->dir. */
void fx_init(struct fx *fx, const char *provider);
void fx_open(struct fx *fx); /* cache and both remotes */
void fx_open_cache(struct fx *fx); /* without remotes */
void fx_add_remotes(struct fx *fx);
void fx_close(struct fx *fx);
void fx_fini(struct fx *fx); /* closes, and removes the directory */
int fx_setup(void **state);    /* cmocka fixtures: memory, writeback delay one minute (fx_idle hurries) */
int fx_teardown(void **state);

bool fx_idle_within(struct fx *fx, unsigned ms); /* hurries; false when work is left */
/* How long anything that must come is waited for, on whatever machine. No test passes or fails by how long something took. */
#define FX_PATIENCE_MS 60000u
#define fx_idle(fx)                                                                                \
    do {                                                                                           \
        if (!fx_idle_within((fx), FX_PATIENCE_MS)) {                                               \
            fx_report(fx);                                                                         \
            fail_msg("work is left after %u s", FX_PATIENCE_MS / 1000);                            \
        }                                                                                          \
    } while (0)
/* Looks again and again, until it is so. */
#define FX_AWAIT(fx, what)                                                                         \
    do {                                                                                           \
        for (unsigned ms_ = 0; !(what); ms_ += 2) {                                                \
            if (ms_ > FX_PATIENCE_MS) {                                                            \
                fx_report(fx);                                                                     \
                fail_msg("never so: " #what);                                                      \
            }                                                                                      \
            fx_sleep_ms(2);                                                                        \
        }                                                                                          \
    } while (0)
void fx_report(struct fx *fx); /* status to stderr */
struct cprogress fx_progress(struct fx *fx);
void fx_fault(struct fx *fx, unsigned r, enum be_kind kind, unsigned skip, unsigned times, int status,
              enum err_class cls, bool after);
void fx_delay(struct fx *fx, unsigned r, enum be_kind kind, unsigned skip, unsigned times, unsigned ms);
/* From now on calls of this kind wait until fx_let_go, which takes away all rules of the remote. */
void fx_hold(struct fx *fx, unsigned r, enum be_kind kind, unsigned times);
void fx_let_go(struct fx *fx, unsigned r);
unsigned fx_calls(struct fx *fx, unsigned r, enum be_kind kind); /* begun */
unsigned fx_ended(struct fx *fx, unsigned r, enum be_kind kind); /* answered, and the cache has taken the answer */
int64_t fx_gap_ns(struct fx *fx, unsigned r, enum be_kind ended, enum be_kind begun); /* between the newest of each */
void fx_sleep_ms(unsigned ms);

/* ---- the cache's calls, waited for; each returns the status ---- */
/* Any other: makes `call` of a request and waits for its done. */
void fx_posted(struct creq *r);
#define FX_WAIT(req, call)                                                                            \
    do {                                                                                           \
        sem_t sem_;                                                                                \
        sem_init(&sem_, 0, 0);                                                                     \
        (req)->done = fx_posted;                                                                   \
        (req)->owner = &sem_;                                                                      \
        call;                                                                                      \
        while (sem_wait(&sem_) < 0) {                                                              \
        }                                                                                          \
        sem_destroy(&sem_);                                                                        \
    } while (0)
int fx_lookup(struct fx *fx, unsigned r, const char *key, struct cattr *ret); /* 0, -ENOENT */
int fx_create(struct fx *fx, unsigned r, const char *key, struct chandle **ret);
int fx_openf(struct fx *fx, unsigned r, const char *key, int flags, struct chandle **ret);
int fx_write(struct fx *fx, struct chandle *h, uint64_t off, const void *p, size_t n);
int fx_flush(struct fx *fx, struct chandle *h);
int fx_fsync(struct fx *fx, struct chandle *h);
int fx_fsyncdir(struct fx *fx, unsigned r, const char *prefix);
int fx_end(struct fx *fx, struct chandle *h); /* flush and release */
ssize_t fx_read(struct fx *fx, struct chandle *h, uint64_t off, void *p, size_t n);
ssize_t fx_range(struct fx *fx, struct chandle *from, uint64_t off, struct chandle *to, uint64_t to_off, size_t n);
int fx_unlink(struct fx *fx, unsigned r, const char *key);
int fx_rename(struct fx *fx, unsigned r, const char *from, const char *to, unsigned flags); /* dirs end in '/' */
int fx_mkdir(struct fx *fx, unsigned r, const char *prefix); /* as a mount shows directories without a marker */
int fx_mkdir_as(struct fx *fx, unsigned r, const char *prefix, mode_t mode, uid_t uid);
int fx_rmdir(struct fx *fx, unsigned r, const char *prefix);
int fx_setattr(struct fx *fx, unsigned r, const char *key, unsigned mask, const struct cattr *a);
int fx_setxattr(struct fx *fx, unsigned r, const char *key, const char *name, const char *value);
int fx_removexattr(struct fx *fx, unsigned r, const char *key, const char *name);
int fx_getxattr(struct fx *fx, unsigned r, const char *key, const char *name, char ret[256]);
struct cdir *fx_ls_begin(struct fx *fx, unsigned r, const char *prefix); /* NULL on failure */
int fx_readdir_interrupted(struct fx *fx, unsigned r, const char *prefix, struct cdir *d); /* asked, then called off */
char *fx_ls_end(struct fx *fx, unsigned r, const char *prefix, struct cdir *d);
char *fx_ls(struct fx *fx, unsigned r, const char *prefix); /* "name name", sorted; the caller frees */

/* ---- as programs do it ---- */
int fx_put(struct fx *fx, unsigned r, const char *key, const void *p, size_t n); /* echo > key */
#define fx_text(fx, r, key, s) assert_int_equal(fx_put((fx), (r), (key), (s), strlen(s)), 0)
int fx_cp(struct fx *fx, unsigned r, const char *from, unsigned to_r, const char *to);
ssize_t fx_get(struct fx *fx, unsigned r, const char *key, void *p, size_t max);
bool fx_is(struct fx *fx, unsigned r, const char *key, const char *text);      /* through the cache */

/* ---- at the provider ---- */
ssize_t fx_at(struct fx *fx, unsigned r, const char *key, void *p, size_t max);
bool fx_at_is(struct fx *fx, unsigned r, const char *key, const char *text); /* NULL = absent */
void fx_at_put(struct fx *fx, unsigned r, const char *key, const char *text);
char *fx_at_meta(struct fx *fx, unsigned r, const char *key, const char *name); /* the caller frees */
unsigned fx_at_count(struct fx *fx, unsigned r, const char *prefix);
char *fx_at_keys(struct fx *fx, unsigned r); /* "key key"; the caller frees */
unsigned fx_at_uploads(struct fx *fx, unsigned r);
#define fx_no_uploads(fx, r) FX_AWAIT((fx), fx_at_uploads((fx), (r)) == 0) /* aborts go behind */

#define assert_at(fx, r, key, text)                                                                \
    do {                                                                                           \
        if (!fx_at_is((fx), (r), (key), (text))) {                                                 \
            char now_[128] = "";                                                                   \
            ssize_t n_ = fx_at((fx), (r), (key), now_, sizeof(now_) - 1);                          \
            fx_report(fx);                                                                         \
            fail_msg("at the provider '%s' is %zd bytes '%.100s'", (key), n_, now_);               \
        }                                                                                          \
    } while (0)

/* Bytes that tell their place and origin. */
void fx_pattern(void *p, size_t n, uint64_t off, unsigned seed);
