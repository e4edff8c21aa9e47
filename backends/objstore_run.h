/* What objstore.c (the life of a run), objstore_ops.c (operations, opening, closing), objstore_look.c
 * and objstore_dirs.c share, and nobody else needs. */
#pragma once

#include <pthread.h>

#include "dialect.h"
#include "driver.h"
#include "http.h"
#include "objstore.h"
#include "retry.h"
#include "sync.h"
#include "walk.h"

enum run_state { RUN_WORKING, RUN_HTTP, RUN_WAITING };

struct run {
    struct work work;
    struct objstore *s;
    const struct dialect_site *site; /* of this call: the operation's, or its source's */
    const struct http_target *target;
    struct be_op *op;
    struct dialect_call call;
    bool built;
    struct dialect_request req;
    struct buf url;
    struct http_req http;
    uint64_t passed; /* a body of which a part is wanted: bytes that went by … */
    size_t taken;    /* … and were that part */
    void *stream;
    unsigned tries;   /* of this call */
    unsigned skews;   /* of this operation */
    bool unknown;     /* an earlier attempt of this call may have worked */
    bool changed;     /* an earlier call of this operation did */
    int64_t offset_s; /* this attempt is signed with */
    int64_t signed_s;
    struct errinfo fold; /* this call's attempts so far */
    /* objstore.lock */
    enum run_state state;
    bool canceled;
    int64_t fire_ns;
    struct run *next, *prev, *timer_next;
    /* operations of several calls */
    char *page[2];
    struct be_part_id *parts;
    size_t n_parts;
    struct be_upload *uploads;
    size_t n_uploads;
    struct errinfo *errs; /* remove_many: becomes the operation's */
    size_t *chosen;       /* remove_many: those in the batch, then those that go alone */
    size_t n_chosen, n_alone, at_alone;
    struct be_remove one;
    /* calls about the operation instead of doing it: objstore_look.c */
    enum run_look {
        LOOK_NO,
        LOOK_BEFORE, /* at a copy's source */
        LOOK_COPIED, /* that is the copy itself */
        LOOK_AFTER,
        LOOK_MADE,   /* at what a copy made */
        LOOK_UPLOAD, /* whether an upload is gone */
        LOOK_PARTS,  /* at the parts a commit is about */
        LOOK_PART,   /* at the part the server has instead of the one sent */
        LOOK_DIR,    /* whether a directory without names is there */
    } look;
    struct be_stat source;
    struct be_object copied; /* the source as it was last looked at, if it was */
    struct be_parts upload;
    /* a list made of directories: objstore_dirs.c */
    struct walk *walk;
    struct be_list dir;
    bool dir_seen;
    unsigned dir_pages; /* of the directory, and those of them that brought nothing new */
    unsigned dir_idle;
    char *dir_mark;     /* an earlier page: what it continued with … */
    uint64_t dir_names; /* … and its names */
    unsigned requests;
    struct be_entry *entries;
    size_t n_entries, max_entries;
    int64_t server_date_ns;
};

struct objstore {
    struct be be; /* first */
    const struct be_dialect *d;
    struct dialect_site *site;
    struct http_target target;
    struct http_lane *lanes[BE_LANES];
    unsigned max_tries, request_timeout_ms;
    struct mutex lock;
    struct cond timer_wake;
    struct run *runs;         /* lock */
    struct run *timers;       /* lock: by rising fire_ns */
    bool timer_started, stop; /* lock */
    pthread_t timer;
    struct retry_budget budget; /* lock */
    uint64_t random;            /* lock */
    int64_t offset_s;           /* lock: server's clock minus ours */
    bool skew_logged;           /* lock */
    struct walks walks;         /* suspended lists, where lists are made of directories */
};

/* Drivers are reached through a const be in places; their own state is not const. */
static inline struct objstore *objstore_of(const struct be *be)
{
    return (struct objstore *)(uintptr_t)be;
}

void run_attempt(struct work *w);
void run_finish(struct run *r,
                int status); /* after this the run is gone, and the objstore may be */
void run_fail(struct run *r, const struct errinfo *err, int status); /* likewise */
void run_again_now(struct run *r);
void run_again_after(struct run *r, uint32_t wait_ms);
void run_call_reset(
    struct run *r); /* the next call of the same operation: its attempts count anew */
bool run_may_retry(struct run *r, const struct errinfo *err, uint32_t *ret_wait_ms);

/* objstore_look.c: whether to, doing it, and what follows from what was seen */
bool run_must_look(const struct run *r); /* at a source */
void run_look_at_source(struct run *r);
void run_looked_at_source(struct run *r);
bool run_must_look_at_made(const struct run *r);
void run_look_at_made(struct run *r);
void run_looked_at_made(struct run *r);
bool run_must_look_at_upload(const struct run *r, const struct errinfo *err);
void run_look_at_upload(struct run *r);
void run_looked_at_upload(struct run *r, enum err_class found);
void run_look_at_parts(struct run *r); /* before a commit, or after a part was refused */
void run_looked_at_parts(struct run *r);
void run_looked_at_part(struct run *r);

/* objstore_dirs.c */
void run_walk_start(struct work *w);
int run_walk_take(struct run *r, struct dialect_page *page, struct errinfo *err);
void run_walk_filled(struct run *r);
void run_walk_looked(struct run *r, bool there);
void run_walk_absent(struct run *r);
void run_walk_free(struct run *r);

/* What comes after the batch, or after a key that went alone. */
void run_next_many(struct run *r);
