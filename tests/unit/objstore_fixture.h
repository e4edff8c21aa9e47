/* A store behind a peer that answers as told, for tests of the object-store driver. */
#pragma once

#include "unit.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "backend.h"
#include "http.h"
#include "mem.h"
#include "peer.h"
#include "sync.h"

static struct pool *pool;
static struct http_engine *engine;
static struct peer *peer;
static struct be *be;

static inline struct be *open_store_as(const char *provider, unsigned tries, const char *key,
                                       struct be *renew)
{
    CLEANUP(mem_freep) char *endpoint = mem_printf("http://127.0.0.1:%d", peer_port(peer));
    CLEANUP(mem_freep) char *bucket = mem_strdup("bkt-1250000000");
    CLEANUP(mem_freep) char *id = mem_strdup(key);
    CLEANUP(mem_freep) char *name = mem_strdup("r");
    CLEANUP(mem_freep) char *kind = mem_strdup(provider);
    char nothing[1] = "";
    struct conf_remote c = {.name = name,
                            .provider = kind,
                            .bucket = bucket,
                            .region = nothing,
                            .endpoint = endpoint,
                            .prefix = nothing,
                            .path = nothing,
                            .connect_to = nothing,
                            .proxy_host = nothing,
                            .storage_class = nothing,
                            .encryption = nothing,
                            .signature = nothing,
                            .access_key_id = id,
                            .access_key_secret = secret_new("SECRETAB") /* Azure wants base64 */,
                            .request_try_count = tries,
                            .request_timeout_ms = 5000};
    kv_set(&c.defaults, "conditionalWrites", "on");
    struct be_env env = {pool, engine};
    struct be *ret = NULL;
    struct errinfo err = {0};
    if (renew ? be_renew(renew, &c, &err) != 0 : be_open(&c, &env, &ret, &err) != 0) {
        fail_msg("%s", err.message);
    }
    kv_fini(&c.defaults);
    secret_free(c.access_key_secret);
    return ret;
}

static inline struct be *open_store(const char *provider, unsigned tries)
{
    return open_store_as(provider, tries, "AKID", NULL);
}

static inline int objstore_setup(const char *provider)
{
    peer = peer_new(NULL);
    assert_int_equal(pool_new(&pool, 2, "workers"), 0);
    assert_int_equal(http_engine_new(pool, NULL, &engine), 0);
    be = open_store(provider, 3);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    be_close(be);
    http_engine_free(engine);
    pool_free(pool);
    peer_free(peer);
    return 0;
}

static inline void push(struct peer_step step)
{
    peer_push(peer, &step);
}

#define ANSWER(...) push((struct peer_step){__VA_ARGS__})
#define DATE "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"

static inline bool head_has(unsigned i, const char *text)
{
    return strstr(peer_request(peer, i)->head, text) != NULL;
}

static inline void assert_head(unsigned i, const char *text)
{
    if (!head_has(i, text)) {
        fail_msg("request %u lacks '%s':\n%s", i, text, peer_request(peer, i)->head);
    }
}

static inline void assert_fails(struct be_op *op, int status, enum err_class cls, bool unknown,
                                unsigned requests)
{
    if (op->status == 0 || op->err.cls != cls || op->err.outcome_unknown != unknown) {
        fail_msg("status %d class %s unknown %d: %s", op->status, err_class_name(op->err.cls),
                 op->err.outcome_unknown, op->err.message);
    }
    assert_int_equal(op->status, status);
    assert_int_equal(peer_n_requests(peer), requests);
}
