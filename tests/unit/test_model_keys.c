/* Several keys: writes, removals, copies and moves between them, deferred as intents, against a
 * provider that answers late, loses replies and fails copies, and one stranger. Every sequence of a
 * few calls in every interleaving (rules B).
 *
 * An intent puts a content under a key (PUT), copies a version of another key (COPY), reads that
 * version into the spool first (HYDRATE, then it is a PUT), or deletes. Contents are numbers; 0 is
 * "no object", FOREIGN a stranger's. */
#include "unit.h"

#include <string.h>

#include "explore.h"
#include "mem.h"

enum { KEYS = 3, MAX_INTENTS = 10, MAX_LATE = 2, FOREIGN = 100, NO_KEY = -1 };
enum kind { PUT = 1, COPY, HYDRATE, DELETE };
enum status { QUEUED, SENT, FAILED };

enum rule {
    R_PER_KEY = 1 << 0, /* one mutating request a key at a time, in order (B1) */
    R_SETTLE =
        1 << 1, /* after a lost reply nothing different is sent until the old cannot land (B1) */
    R_READERS =
        1 << 2, /* an overwrite waits for every pending copy that reads the old version (B2) */
    R_FLATTEN = 1 << 3,       /* a copy of a pending copy reads the first source (B3) */
    R_HYDRATE = 1 << 4,       /* the copy that would close a cycle goes through the spool (B4) */
    R_MOVE_WAITS = 1 << 5,    /* a move's delete waits for its copy */
    R_MOVE_FOLLOWS = 1 << 6,  /* … also when what it moved is moved on before it arrived */
    R_FAILED_DROPS = 1 << 7,  /* a copy that failed for good takes its move's delete along (B5) */
    R_FAILED_BLOCKS = 1 << 8, /* and an overwrite of its source is blocked (B5) */
    R_MOVE_IF_OURS = 1 << 9, /* a move's delete is conditional on the version that was moved (B6) */
    R_NEWER_WINS =
        1 << 10, /* a request that fails is forgotten when its key wants something newer */
    R_ALL = (1 << 11) - 1
};

struct intent {
    int8_t seq; /* order of acceptance: position + 1, renumbered */
    int8_t kind, key, content, src, status;
    /* DELETE of a move: what was moved; seq of the copy it waits for, 0 = none (any more); whether
     * it need not wait, since the copy arrived or its content is no longer wanted there */
    int8_t moved, after, free;
};

struct st {
    int8_t remote[KEYS], view[KEYS];
    int8_t n, n_late;
    struct intent v[MAX_INTENTS]; /* by rising seq */
    struct {
        int8_t key, content;
    } late[MAX_LATE]; /* puts whose reply was lost and that may still land */
    int8_t next_content, next_seq;
    int8_t calls, faults, lost, foreign; /* left */
    int8_t stranger;                     /* was here */
};

struct model {
    unsigned rules;
    const char *calls; /* write, remove, copy, move: "wrcm" */
    int8_t n_calls, faults, lost, foreign;
};

static bool rule(const struct explore *x, enum rule r)
{
    return ((const struct model *)x->ctx)->rules & r;
}

static bool allowed(const struct explore *x, char call)
{
    return strchr(((const struct model *)x->ctx)->calls, call) != NULL;
}

static bool alive(const struct intent *i)
{
    return i->status != FAILED;
}

static bool is_reader(const struct intent *i)
{
    return i->kind == COPY || i->kind == HYDRATE;
}

/* i would destroy the version that j still reads. */
static bool destroys(const struct st *s, const struct intent *i, const struct intent *j)
{
    return is_reader(j) && j->src == i->key && j->content != i->content &&
           s->remote[i->key] == j->content;
}

/* j stands before i in one of the orders that hold for good. */
static bool waits_for(const struct explore *x, const struct st *s, const struct intent *i,
                      const struct intent *j)
{
    if (i == j || !alive(j) || i->kind == HYDRATE) {
        return false; /* reading into the spool changes no key: it waits for nobody */
    }
    if (rule(x, R_PER_KEY) && j->key == i->key && j->seq < i->seq) {
        return true;
    }
    if (rule(x, R_READERS) && destroys(s, i, j)) {
        return true;
    }
    return i->kind == DELETE && i->after == j->seq && rule(x, R_MOVE_WAITS);
}

static bool is_blocked(const struct explore *x, const struct st *s, const struct intent *i)
{
    for (int k = 0; k < s->n_late; k++) {
        if (rule(x, R_SETTLE) && i->kind != HYDRATE && s->late[k].key == i->key &&
            !(i->kind == PUT && s->late[k].content == i->content)) {
            return true;
        }
    }
    for (int k = 0; k < s->n; k++) {
        const struct intent *j = &s->v[k];
        if (waits_for(x, s, i, j)) {
            return true;
        }
        if (j->status == FAILED && i != j && i->kind != HYDRATE &&
            ((rule(x, R_FAILED_BLOCKS) && destroys(s, i, j)) ||
             (i->kind == DELETE && i->after == j->seq && rule(x, R_MOVE_WAITS)))) {
            return true;
        }
        /* the version to be read is itself on its way */
        if (i->kind == COPY && j != i && alive(j) && j->key == i->src && j->seq < i->seq &&
            j->content == i->content && s->remote[i->src] != i->content) {
            return true;
        }
    }
    return false;
}

static bool leads_back(const struct explore *x, const struct st *s, int at,
                       int8_t color[MAX_INTENTS])
{
    color[at] = 1;
    for (int k = 0; k < s->n; k++) {
        if (waits_for(x, s, &s->v[at], &s->v[k]) &&
            (color[k] == 1 || (color[k] == 0 && leads_back(x, s, k, color)))) {
            return true;
        }
    }
    color[at] = 2;
    return false;
}

static bool has_cycle(const struct explore *x, const struct st *s)
{
    int8_t color[MAX_INTENTS] = {0};
    for (int k = 0; k < s->n; k++) {
        if (alive(&s->v[k]) && color[k] == 0 && leads_back(x, s, k, color)) {
            return true;
        }
    }
    return false;
}

static void remove_at(struct st *s, int at)
{
    memmove(&s->v[at], &s->v[at + 1], (size_t)(s->n - at - 1) * sizeof(s->v[0]));
    s->n--;
    memset(&s->v[s->n], 0, sizeof(s->v[0]));
}

/* The deletes that wait for the copy `seq` wait for `next` instead; 0: for nothing. */
static void redirect(struct st *s, int8_t seq, int8_t next, bool free_them)
{
    for (int k = 0; k < s->n; k++) {
        if (s->v[k].after == seq && seq != 0) {
            s->v[k].after = next;
            s->v[k].free = free_them;
        }
    }
}

/* A key has one row: what is wanted now replaces what was wanted, failed or not, unless it is out
 * already. What a move brought there goes to the copy `next` when it is moved on, or is given up.
 */
static void supersede(struct st *s, int key, int8_t next, bool given_up)
{
    for (int k = s->n - 1; k >= 0; k--) {
        if (s->v[k].key == key) {
            redirect(s, s->v[k].seq, next, given_up);
        }
        if (s->v[k].key == key && s->v[k].status != SENT) {
            remove_at(s, k);
        }
    }
}

static int8_t add(struct st *s, enum kind kind, int key, int8_t content, int src)
{
    ENSURE(s->n < MAX_INTENTS);
    s->v[s->n++] = (struct intent){.seq = s->next_seq,
                                   .kind = (int8_t)kind,
                                   .key = (int8_t)key,
                                   .content = content,
                                   .src = (int8_t)src,
                                   .status = QUEUED};
    return s->next_seq++;
}

/* Histories that differ only in how many intents came and went are one. */
static void emit(struct explore *x, const char *label, struct st *s)
{
    for (int k = 0; k < s->n; k++) {
        int8_t after = 0;
        for (int j = 0; j < s->n && s->v[k].after != 0; j++) {
            if (s->v[j].seq == s->v[k].after) {
                after = (int8_t)(64 + j);
            }
        }
        s->v[k].after = after;
    }
    for (int k = 0; k < s->n; k++) {
        s->v[k].seq = (int8_t)(k + 1);
        s->v[k].after = s->v[k].after != 0 ? (int8_t)(s->v[k].after - 63) : 0;
    }
    s->next_seq = (int8_t)(s->n + 1);
    explore_emit(x, label, s, true);
}

/* The intent that will give key its content, or NULL when the provider has it. */
static const struct intent *origin(const struct st *s, int key)
{
    for (int k = s->n - 1; k >= 0; k--) {
        if (s->v[k].key == key && s->v[k].kind != DELETE && alive(&s->v[k])) {
            return &s->v[k];
        }
    }
    return NULL;
}

static bool has_status(const struct st *s, int key, enum status status)
{
    for (int k = 0; k < s->n; k++) {
        if (s->v[k].key == key && s->v[k].status == (int8_t)status) {
            return true;
        }
    }
    return false;
}

static bool has_late(const struct st *s, int key)
{
    for (int k = 0; k < s->n_late; k++) {
        if (s->late[k].key == key) {
            return true;
        }
    }
    return false;
}

static void call_copy(struct explore *x, const struct st *s, int from, int to, bool move)
{
    static const char *const labels[2][KEYS][KEYS] = {
        {{"", "cp a b", "cp a t"}, {"cp b a", "", "cp b t"}, {"cp t a", "cp t b", ""}},
        {{"", "mv a b", "mv a t"}, {"mv b a", "", "mv b t"}, {"mv t a", "mv t b", ""}},
    };
    struct st n = *s;
    int8_t content = s->view[from];
    const struct intent *o = origin(s, from);
    enum kind kind = o && o->kind == PUT ? PUT : COPY;
    int src = o && kind == COPY && rule(x, R_FLATTEN) ? o->src : from;
    n.calls--;
    int8_t copy = 0;
    if (kind == COPY && src == to) {
        supersede(&n, to, 0, true);
        bool pending = has_status(&n, to, SENT) || has_late(&n, to);
        /* back where it came from: nothing to do, or else the version must be saved before it goes
         */
        if (pending || n.remote[to] != content) {
            copy = add(&n, HYDRATE, to, content, src);
        }
    } else {
        supersede(&n, to, 0, true);
        copy = add(&n, kind, to, content, kind == PUT ? NO_KEY : src);
    }
    n.view[to] = content;
    if (move) {
        supersede(&n, from, rule(x, R_MOVE_FOLLOWS) ? copy : 0, copy == 0);
        n.view[from] = 0;
        add(&n, DELETE, from, 0, NO_KEY);
        n.v[n.n - 1].moved = content;
        n.v[n.n - 1].after = copy;
        n.v[n.n - 1].free = copy == 0;
    }
    if (rule(x, R_HYDRATE) && has_cycle(x, &n)) {
        for (int k = 0; k < n.n; k++) {
            if (n.v[k].seq == copy && n.v[k].kind == COPY) {
                n.v[k].kind = HYDRATE;
            }
        }
    }
    emit(x, labels[move][from][to], &n);
}

static void expand_calls(struct explore *x, const struct st *s)
{
    static const char *const writes[KEYS] = {"write a", "write b", "write t"};
    static const char *const removes[KEYS] = {"rm a", "rm b", "rm t"};
    for (int key = 0; key < KEYS && s->calls > 0; key++) {
        if (allowed(x, 'w')) {
            struct st n = *s;
            n.calls--;
            supersede(&n, key, 0, true);
            add(&n, PUT, key, n.next_content, NO_KEY);
            n.view[key] = n.next_content++;
            emit(x, writes[key], &n);
        }
        if (s->view[key] == 0 || has_status(s, key, FAILED)) {
            continue;
        }
        if (allowed(x, 'r')) {
            struct st n = *s;
            n.calls--;
            supersede(&n, key, 0, true);
            if (n.remote[key] != 0 || has_status(&n, key, SENT) || has_late(&n, key)) {
                add(&n, DELETE, key, 0, NO_KEY);
            }
            n.view[key] = 0;
            emit(x, removes[key], &n);
        }
        for (int to = 0; to < KEYS; to++) {
            if (to != key && allowed(x, 'c')) {
                call_copy(x, s, key, to, false);
            }
            if (to != key && allowed(x, 'm')) {
                call_copy(x, s, key, to, true);
            }
        }
    }
}

/* The copy at index failed for good. */
static void fail_copy(struct explore *x, const struct st *s, int at, const char *label)
{
    struct st n = *s;
    const struct intent failed = s->v[at];
    bool newer = false;
    for (int k = at + 1; k < s->n; k++) {
        newer = newer || s->v[k].key == failed.key;
    }
    n.v[at].status = FAILED;
    n.v[at].kind = COPY;
    for (int k = n.n - 1; k >= 0; k--) {
        struct intent *d = &n.v[k];
        if (d->kind != DELETE || d->after != failed.seq) {
            continue;
        }
        int8_t will_be = n.remote[d->key];
        for (int j = 0; j < n.n; j++) { /* a request that is out decides what the key holds */
            will_be = n.v[j].key == d->key && n.v[j].status == SENT ? n.v[j].content : will_be;
        }
        bool there = will_be == failed.content;
        if (!rule(x, R_FAILED_DROPS) || !there) {
            d->after =
                0; /* what lies there is not what was moved, but what that had replaced: it goes */
        } else {
            n.view[d->key] = failed.content; /* the name comes back */
            remove_at(&n, k);
        }
    }
    for (int k = n.n - 1; k >= 0; k--) {
        if (n.v[k].seq == failed.seq && newer && rule(x, R_NEWER_WINS)) {
            remove_at(&n, k);
        }
    }
    emit(x, label, &n);
}

static bool is_held(const struct st *s, int8_t content)
{
    return memchr(s->remote, content, KEYS) != NULL;
}

static void complete(struct explore *x, const struct st *s, int at)
{
    const struct intent *i = &s->v[at];
    struct st n = *s;
    remove_at(&n, at);
    redirect(&n, i->seq, 0, true);
    switch (i->kind) {
    case PUT:
        n.remote[i->key] = i->content;
        emit(x, "put done", &n);
        if (s->lost > 0 && s->n_late < MAX_LATE) {
            struct st l = *s;
            l.v[at].status = QUEUED; /* looked, and it was not there */
            l.lost--;
            l.late[l.n_late].key = i->key;
            l.late[l.n_late++].content = i->content;
            emit(x, "put reply lost", &l);
        }
        break;
    case COPY:
        if (s->remote[i->src] != i->content) {
            if (!s->stranger) {
                explore_violation(x, "LOST a pending copy finds its version gone");
                return;
            }
            fail_copy(x, s, at, "source changed");
            return;
        }
        n.remote[i->key] = i->content;
        emit(x, "copy done", &n);
        if (s->faults > 0) {
            struct st f = *s;
            f.faults--;
            fail_copy(x, &f, at, "copy fails");
        }
        break;
    case DELETE:
        if (s->remote[i->key] == FOREIGN && i->moved != 0) {
            if (!rule(x, R_MOVE_IF_OURS)) {
                explore_violation(x, "FOREIGN version deleted by a move that never copied it");
                return;
            }
            emit(x, "delete dropped", &n); /* and reported */
            return;
        }
        if (i->moved != 0 && !i->free && s->remote[i->key] == i->moved) {
            explore_violation(x, "MOVED version deleted before its copy arrived");
            return;
        }
        n.remote[i->key] = 0;
        emit(x, "delete done", &n);
        break;
    default:
        fail();
    }
}

static void hydrate(struct explore *x, const struct st *s, int at)
{
    const struct intent *i = &s->v[at];
    if (s->remote[i->src] != i->content) {
        if (!s->stranger) {
            explore_violation(x, "LOST bytes to be saved are gone");
            return;
        }
        fail_copy(x, s, at, "source changed");
        return;
    }
    struct st n = *s;
    n.v[at].kind = PUT;
    n.v[at].src = NO_KEY;
    emit(x, "hydrated", &n);
}

static void expand_provider(struct explore *x, const struct st *s)
{
    for (int k = 0; k < s->n_late; k++) {
        struct st n = *s;
        memmove(&n.late[k], &n.late[k + 1], (size_t)(s->n_late - k - 1) * sizeof(n.late[0]));
        n.n_late--;
        memset(&n.late[n.n_late], 0, sizeof(n.late[0]));
        emit(x, "late put dies", &n);
        n.remote[s->late[k].key] = s->late[k].content;
        emit(x, "late put lands", &n);
    }
    for (int key = 0; key < KEYS && s->foreign > 0; key++) {
        if (s->remote[key] != 0) {
            struct st n = *s;
            n.foreign--;
            n.stranger = 1;
            n.remote[key] = FOREIGN;
            emit(x, "stranger writes", &n);
        }
    }
}

static void expand(struct explore *x, const void *state)
{
    const struct st *s = state;
    bool live = false;
    bool moved = false;
    bool failed = false;
    expand_calls(x, s);
    for (int k = 0; k < s->n; k++) {
        const struct intent *i = &s->v[k];
        live = live || alive(i);
        failed = failed || !alive(i);
        if (i->status == SENT) {
            moved = true;
            complete(x, s, k);
        } else if (i->status == QUEUED && !is_blocked(x, s, i)) {
            moved = true;
            if (i->kind == HYDRATE) {
                hydrate(x, s, k);
            } else {
                struct st n = *s;
                n.v[k].status = SENT;
                emit(x, "send", &n);
            }
        } else if (i->status == FAILED) {
            struct st n = *s; /* the operator's ways out */
            n.v[k].status = QUEUED;
            if (rule(x, R_HYDRATE) && has_cycle(x, &n)) {
                n.v[k].kind = HYDRATE;
            }
            if (s->remote[i->src] == i->content) {
                emit(x, "retry", &n);
            }
            n = *s;
            remove_at(&n, k);
            n.view[i->key] = n.remote[i->key];
            if (!has_late(s, i->key)) {
                emit(x, "discard", &n);
            }
        }
    }
    expand_provider(x, s);
    if (live && !moved && !failed && s->n_late == 0) {
        explore_violation(x, "DEADLOCK every intent waits for another");
    }
}

static const char *check(void *ctx, const void *state)
{
    const struct st *s = state;
    if (s->stranger) {
        return NULL; /* what a stranger breaks is not ours to promise; his version is (complete) */
    }
    for (int k = 0; k < s->n; k++) {
        const struct intent *i = &s->v[k];
        bool somewhere = is_held(s, i->content);
        for (int j = 0; j < s->n; j++) {
            somewhere = somewhere || (s->v[j].kind == PUT && s->v[j].content == i->content);
        }
        if (i->status == FAILED && !somewhere) {
            return "LOST the content of a failed copy is nowhere";
        }
    }
    if (s->n == 0 && s->n_late == 0 && memcmp(s->remote, s->view, KEYS) != 0) {
        return "WRONG at rest the provider does not hold what the mount shows";
    }
    return NULL;
}

static bool is_goal(void *ctx, const void *state)
{
    const struct st *s = state;
    return s->n == 0 && s->n_late == 0;
}

static bool ignore(void *ctx, const void *state)
{
    return ((const struct st *)state)
        ->stranger; /* his version may leave a failed copy without a source */
}

static const char *run(struct model *m, bool liveness, size_t *ret_states)
{
    struct explore x = {.state_size = sizeof(struct st),
                        .max_states = 20000000,
                        .ctx = m,
                        .expand = expand,
                        .check = check,
                        .keep_edges = liveness};
    struct st s;
    memset(&s, 0, sizeof(s));
    s.remote[0] = s.view[0] = 1;
    s.remote[1] = s.view[1] = 2;
    s.next_content = 10;
    s.next_seq = 1;
    s.calls = m->n_calls;
    s.faults = m->faults;
    s.lost = m->lost;
    s.foreign = m->foreign;
    const char *violation = explore_run(&x, &s);
    if (violation && (m->rules == R_ALL || getenv("OBJMIG_DEEP_MODELS"))) {
        CLEANUP(mem_freep) char *trace = explore_trace(&x);
        print_message("# %s: %s\n", violation, trace);
    }
    if (!violation && liveness) {
        size_t example = 0;
        if (explore_stuck(&x, is_goal, ignore, &example) > 0) {
            x.bad = example;
            CLEANUP(mem_freep) char *trace = explore_trace(&x);
            print_message("# stuck: %s\n", trace);
            violation = "STUCK some history never comes to rest";
        }
    }
    *ret_states = x.n;
    explore_fini(&x);
    return violation;
}

static void holds(struct model m)
{
    size_t n;
    m.rules = R_ALL;
    const char *violation = run(&m, true, &n);
    print_message("# %zu states\n", n);
    assert_null(violation);
    assert_true(n > 1000);
}

/* One more with OBJMIG_DEEP_MODELS in the environment. */
static int8_t calls(int8_t n)
{
    return (int8_t)(n + (getenv("OBJMIG_DEEP_MODELS") ? 1 : 0));
}

static void test_all_calls(void **state)
{
    holds((struct model){.calls = "wrcm", .n_calls = calls(4)});
}

static void test_copies_and_moves(void **state)
{
    holds((struct model){.calls = "cm", .n_calls = calls(5)});
}

static void test_failing_copies(void **state)
{
    holds((struct model){.calls = "wrcm", .n_calls = calls(4), .faults = 1});
}

static void test_lost_replies(void **state)
{
    holds((struct model){.calls = "wrcm", .n_calls = calls(3), .lost = 1});
    holds((struct model){.calls = "wrcm", .n_calls = calls(2), .lost = 2, .faults = 1});
}

static void test_stranger(void **state)
{
    holds((struct model){.calls = "wrcm", .n_calls = calls(3), .foreign = 1, .faults = 1});
}

/* Without this rule some history breaks exactly this promise. */
static void breaks(struct model m, enum rule without, const char *promise)
{
    size_t n;
    m.rules = R_ALL & ~(unsigned)without;
    const char *violation = run(&m, true, &n);
    if (!violation || strncmp(violation, promise, strlen(promise)) != 0) {
        fail_msg("rule %#x: %s, expected %s", without, violation ? violation : "holds", promise);
    }
}

static void test_every_rule_is_needed(void **state)
{
    breaks((struct model){.calls = "wrcm", .n_calls = 3}, R_PER_KEY, "WRONG");
    breaks((struct model){.calls = "wr", .n_calls = 2, .lost = 1}, R_SETTLE, "WRONG");
    breaks((struct model){.calls = "wc", .n_calls = 2}, R_READERS, "LOST");
    breaks((struct model){.calls = "cm", .n_calls = 3}, R_FLATTEN, "");
    breaks((struct model){.calls = "cm", .n_calls = 3}, R_HYDRATE, "DEADLOCK");
    breaks((struct model){.calls = "wm", .n_calls = 2}, R_MOVE_WAITS, "MOVED");
    breaks((struct model){.calls = "wm", .n_calls = 3}, R_MOVE_FOLLOWS, "MOVED");
    breaks((struct model){.calls = "m", .n_calls = 1, .faults = 1}, R_FAILED_DROPS, "MOVED");
    breaks((struct model){.calls = "wc", .n_calls = 2, .faults = 1}, R_FAILED_BLOCKS, "LOST");
    breaks((struct model){.calls = "m", .n_calls = 1, .foreign = 1}, R_MOVE_IF_OURS, "FOREIGN");
    breaks((struct model){.calls = "wc", .n_calls = 2, .faults = 1}, R_NEWER_WINS, "WRONG");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_calls),      cmocka_unit_test(test_copies_and_moves),
        cmocka_unit_test(test_failing_copies), cmocka_unit_test(test_lost_replies),
        cmocka_unit_test(test_stranger),       cmocka_unit_test(test_every_rule_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
