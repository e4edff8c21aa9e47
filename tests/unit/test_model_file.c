/* One key, its file, the journal and the provider: every history of a few writes, crashes, lost
 * replies, late commits, refusals, local failures, an operator and one stranger. The states in
 * memory move by file_state_next() alone, so the real table is what is checked.
 *
 * Three worlds: KILL (kill -9: page cache and journal rows survive), STRICT (every journal row is
 * fsynced, but bytes that were not may be lost or torn, and the cache is kept over a crash), POWER
 * (rules C5: journal fsynced before a commit request and on fsync only; after the crash the cache
 * of CLEAN files is dropped).
 *
 * Contents have numbers that rise and are never used twice; 0 is "no object". Generations are what
 * the program knows instead, and may be wrong: that is what the rules are for. */
#include "unit.h"

#include <string.h>

#include "explore.h"
#include "file_state.h"
#include "mem.h"

enum { MAX_HIST = 6, DOWN = FS_STATES, FOREIGN = -1, MIXED = -7, NONE = -9 };
enum world { KILL, STRICT, POWER };

/* Every rule that protects something; each is also run without. */
enum rule {
    R_JOURNAL_FIRST = 1 << 0,  /* the row DIRTY precedes the first changed byte */
    R_COMPARE_GEN = 1 << 1,    /* an accepted commit is CLEAN only if nothing changed since */
    R_CONDITION = 1 << 2,      /* commits name the version they replace */
    R_SYNC_FIRST = 1 << 3,     /* bytes are fsynced before an upload begins (STRICT) */
    R_FRESH_GEN = 1 << 4,      /* generations are never used again after a crash */
    R_RECOGNISE = 1 << 5,      /* our own version is not a stranger's */
    R_KEEP_DIRTY = 1 << 6,     /* only CLEAN is evicted */
    R_CALL_OFF = 1 << 7,       /* an upload that content changed under never commits */
    R_JOURNAL_COMMIT = 1 << 8, /* the row COMMITTING precedes the commit request */
    R_SETTLE = 1 << 9, /* what is found counts only when the old request cannot land any more */
    R_LEARN_OUTCOME = 1 << 10, /* a local failure does not leave COMMITTING or UNKNOWN */
    R_SEALED_ONLY = 1 << 11,   /* only sealed or fsynced content is committed */
    R_UNSEAL_FIRST = 1 << 12,  /* a sealed row is taken back before the next write */
    R_VERIFY = 1 << 13,        /* after a power loss bytes must match the sealed row's MD5 */
    R_BARRIER = 1 << 14,       /* POWER: the journal is fsynced before a commit request */
    R_DISCARD = 1 << 15,       /* POWER: cached bytes of CLEAN files are dropped */
    R_ALL = (1 << 16) - 1
};

/* A journal row; base belongs to it. */
struct row {
    int8_t state, gen;
    int8_t commit_gen, commit_content; /* of the latest COMMITTING */
    int8_t base;                       /* index into hist, NONE = no object */
    int8_t sealed;                     /* content it vouches for, NONE = open */
};

struct st {
    int8_t mem;                          /* enum file_state, or DOWN */
    int8_t bad;                          /* sticky local error */
    int8_t out;                          /* a commit request whose outcome is not known is about */
    int8_t local, durable, next_content; /* content of the local bytes; of those fsynced */
    int8_t gen, sealed;
    struct row j, d; /* the journal: as the program sees it, and as a power cut would leave it */
    int8_t up_gen, up_content;
    int8_t remote, n_hist;
    struct {
        int8_t mine, gen, content;
    } hist[MAX_HIST];
    int8_t pending, pend_gen, pend_content, pend_base; /* at most one request a key is in flight */
    int8_t acked, best;   /* newest content fsync(2) answered for; newest we put */
    int8_t was_sealed[2]; /* bit set of contents that were ever sealed or fsynced */
    int8_t writes, crashes, foreign, tries, failures, decisions;
};

struct model {
    unsigned rules;
    enum world world;
    int8_t max_writes, max_crashes, max_foreign, max_tries, max_failures, max_decisions;
};

static bool rule(const struct explore *x, enum rule r)
{
    return ((const struct model *)x->ctx)->rules & r;
}

/* The table, but for the two rules that live in it. */
static int next_state(const struct explore *x, int s, enum file_event e)
{
    if (!rule(x, R_CALL_OFF) && s == FS_REDIRTIED && e == FE_SEND) {
        return FS_COMMITTING;
    }
    if (!rule(x, R_LEARN_OUTCOME) && (s == FS_COMMITTING || s == FS_UNKNOWN) &&
        e == FE_LOCAL_FAILED) {
        return FS_BLOCKED;
    }
    return file_state_next((enum file_state)s, e);
}

static void move_on(const struct explore *x, struct st *s, enum file_event e)
{
    int to = next_state(x, s->mem, e);
    if (to < 0) {
        fail_msg("%s cannot happen in %s", file_event_name(e),
                 file_state_name((enum file_state)s->mem));
    }
    s->mem = (int8_t)to;
}

static bool possible(const struct explore *x, const struct st *s, enum file_event e)
{
    return s->mem != DOWN && next_state(x, s->mem, e) >= 0;
}

static int8_t content_of(const struct st *s, int8_t version)
{
    return version == NONE ? 0 : s->hist[version].content;
}

static void emit(struct explore *x, const char *label, struct st *s)
{
    const struct model *m = x->ctx;
    if (m->world != POWER) {
        s->d = s->j;
    }
    explore_emit(x, label, s, true);
}

static void vouch(struct st *s)
{
    s->was_sealed[s->local / 7] |= (int8_t)(1 << s->local % 7);
}

static void row_state(struct st *s, int state)
{
    s->j.state = (int8_t)state;
    s->j.gen = MAX(s->j.gen, s->gen);
}

/* The provider takes our object. */
static void put(struct st *s, int8_t gen, int8_t content)
{
    ENSURE(s->n_hist < MAX_HIST);
    s->hist[s->n_hist].mine = 1;
    s->hist[s->n_hist].gen = gen;
    s->hist[s->n_hist].content = content;
    s->remote = s->n_hist++;
    s->best = MAX(s->best, content);
}

static void drop_request(struct st *s)
{
    s->pending = s->pend_gen = s->pend_content = s->pend_base = 0;
}

static void expand_provider(struct explore *x, const struct st *s)
{
    const struct model *m = x->ctx;
    if (s->pending) {
        struct st n = *s;
        drop_request(&n);
        if (s->pend_base == s->remote || !rule(x, R_CONDITION)) {
            struct st landed = n;
            put(&landed, s->pend_gen, s->pend_content);
            emit(x, "late commit lands", &landed);
        }
        emit(x, "request dies", &n);
    }
    if (s->foreign < m->max_foreign) {
        struct st n = *s;
        n.hist[n.n_hist].content = FOREIGN;
        n.remote = n.n_hist++;
        n.foreign++;
        n.d = m->world == POWER ? n.d : n.j;
        explore_emit(x, "stranger writes", &n, false);
    }
}

static void expand_recovery(struct explore *x, const struct st *s)
{
    const struct model *m = x->ctx;
    int8_t outcome[3] = {s->local};
    unsigned n_outcomes = 1;
    if (m->world != KILL && s->local != s->durable) {
        outcome[n_outcomes++] = s->durable;
        outcome[n_outcomes++] = s->next_content + 1; /* torn: bytes nobody wrote */
    }
    for (unsigned i = 0; i < n_outcomes; i++) {
        struct st n = *s;
        n.local = n.durable = outcome[i];
        n.next_content = MAX(n.next_content, n.local);
        n.up_gen = n.up_content = 0;
        n.gen = n.j.gen;
        n.bad = n.j.state == FS_BLOCKED;
        n.sealed = n.j.sealed != NONE;
        n.mem = (int8_t)file_state_recovered((enum file_state)n.j.state);
        if (n.mem == FS_CLEAN) {
            if (m->world == POWER && rule(x, R_DISCARD)) {
                n.local = n.durable = content_of(&n, n.j.base);
            }
            n.sealed = 1;
        } else if (n.mem == FS_DIRTY || n.mem == FS_UNKNOWN) {
            n.gen = MAX(n.j.gen, n.j.commit_gen) + (rule(x, R_FRESH_GEN) ? 1 : 0);
            row_state(&n, n.mem);
        }
        if (n.mem != FS_CLEAN && m->world != KILL && rule(x, R_VERIFY) && n.sealed &&
            n.local != n.j.sealed) {
            n.bad =
                1; /* LOST: reported, never sent, not even when an operator decides a conflict */
        }
        emit(x, "recover", &n);
    }
}

static void expand_writer(struct explore *x, const struct st *s)
{
    const struct model *m = x->ctx;
    if (s->writes < m->max_writes) {
        struct st n = *s;
        if (s->mem == FS_CLEAN && s->j.state == FS_CLEAN && rule(x, R_JOURNAL_FIRST)) {
            n.gen++;
            row_state(&n, FS_DIRTY);
            n.j.sealed = NONE;
            emit(x, "journal DIRTY", &n);
        } else if (s->mem != FS_CLEAN && s->j.sealed != NONE && rule(x, R_UNSEAL_FIRST)) {
            n.j.sealed = NONE;
            n.sealed = 0;
            emit(x, "journal open", &n);
        } else {
            n.writes++;
            n.gen += s->mem != FS_CLEAN || !rule(x, R_JOURNAL_FIRST);
            n.local = ++n.next_content;
            n.sealed = 0;
            move_on(x, &n, FE_CHANGE);
            if (s->mem == FS_UPLOADING || s->mem == FS_REDIRTIED) {
                n.up_content = MIXED; /* the upload reads the live file */
            }
            if (s->mem == FS_BLOCKED) { /* new content replaces what was refused */
                move_on(x, &n, FE_RETRY);
                n.bad = 0;
                row_state(&n, n.mem);
            }
            emit(x, "write", &n);
        }
    }
    if (!s->sealed && s->mem != FS_CLEAN && !s->bad && s->local > 0) {
        struct st n = *s;
        n.sealed = 1;
        vouch(&n);
        n.j.gen = MAX(n.j.gen, n.gen);
        n.j.sealed = n.local;
        emit(x, "close", &n);
    }
    if (s->mem != FS_CLEAN && !s->bad && s->acked < s->local) {
        struct st n = *s;
        n.sealed = 1;
        vouch(&n);
        n.durable = n.acked = n.local;
        if (n.j.state != FS_CLEAN) {
            n.j.gen = MAX(n.j.gen, n.gen);
            n.j.sealed = n.local;
        }
        n.d = n.j;
        emit(x, "fsync", &n);
    }
    if (s->failures < m->max_failures && s->mem != FS_CLEAN && s->j.state != FS_CLEAN) {
        struct st n = *s; /* a write went wrong half-way, and its writer was told */
        n.failures++;
        n.gen++;
        n.local = ++n.next_content;
        n.sealed = 0;
        n.j.sealed = NONE;
        n.bad = 1;
        if (s->mem == FS_UPLOADING || s->mem == FS_REDIRTIED) {
            n.up_content = MIXED;
        }
        move_on(x, &n, FE_LOCAL_FAILED);
        if (n.mem == FS_BLOCKED) {
            row_state(&n, FS_BLOCKED);
        }
        emit(x, "local write fails", &n);
    }
    if (s->bad && s->mem == FS_DIRTY) {
        struct st n = *s; /* the sticky error of a state that had to wait for its outcome */
        move_on(x, &n, FE_LOCAL_FAILED);
        row_state(&n, n.mem);
        emit(x, "local failure again", &n);
    }
    if (s->mem == FS_DIRTY && !rule(x, R_KEEP_DIRTY)) {
        struct st n = *s;
        n.local = n.durable = 0;
        emit(x, "evict", &n);
    }
    bool unfinished = s->mem == FS_DIRTY && !s->sealed && s->crashes > 0;
    bool undecided = s->mem == FS_CONFLICT || s->mem == FS_BLOCKED;
    if (unfinished || (undecided && s->decisions < m->max_decisions)) {
        struct st n = *s;
        n.decisions += undecided;
        move_on(x, &n, FE_DISCARD);
        row_state(&n, n.mem);
        n.j.base = n.remote;
        n.local = n.durable = content_of(&n, n.remote);
        n.sealed = 1;
        n.bad = n.acked = 0;
        n.out = 0;
        emit(x, "operator discards", &n);
        if (undecided && !s->bad) {
            n = *s;
            n.decisions++;
            move_on(x, &n, FE_RETRY);
            row_state(&n, n.mem);
            if (s->mem == FS_CONFLICT) {
                n.j.base = n.remote; /* seen, and to be replaced */
            }
            emit(x, "operator retries", &n);
        }
    }
}

static void expand_uploader(struct explore *x, const struct st *s)
{
    const struct model *m = x->ctx;
    if (s->mem == FS_DIRTY && !s->bad && s->tries < m->max_tries && s->j.state != FS_CLEAN &&
        (s->sealed || !rule(x, R_SEALED_ONLY))) {
        struct st n = *s;
        n.tries++;
        move_on(x, &n, FE_START);
        row_state(&n, FS_UPLOADING);
        n.up_gen = n.gen;
        n.up_content = n.local;
        if (m->world == STRICT && rule(x, R_SYNC_FIRST)) {
            n.durable = n.local;
        }
        emit(x, "start", &n);
    }
    bool reading = s->mem == FS_UPLOADING || s->mem == FS_REDIRTIED;
    if (reading) {
        struct st n = *s;
        move_on(x, &n, FE_PART_FAILED);
        row_state(&n, FS_DIRTY);
        n.up_gen = n.up_content = 0;
        emit(x, "part fails", &n);
        if (possible(x, s, FE_CALLED_OFF)) {
            emit(x, "called off", &n);
        }
        n = *s;
        move_on(x, &n, FE_REFUSED);
        row_state(&n, FS_BLOCKED);
        n.up_gen = n.up_content = 0;
        emit(x, "part refused", &n);
    }
    if (s->mem == FS_UPLOADING && s->remote != NONE && s->remote == s->j.base &&
        s->hist[s->remote].content == s->up_content && s->hist[s->remote].mine) {
        struct st n = *s;
        move_on(x, &n, FE_FOUND_OURS);
        row_state(&n, n.mem);
        n.up_gen = n.up_content = 0;
        emit(x, "skip", &n);
    }
    if (s->mem == FS_UPLOADING && s->j.state == FS_UPLOADING && rule(x, R_JOURNAL_COMMIT)) {
        struct st n = *s;
        row_state(&n, FS_COMMITTING);
        n.j.commit_gen = n.up_gen;
        n.j.commit_content = n.up_content;
        if (rule(x, R_BARRIER)) {
            n.d = n.j;
        }
        emit(x, "journal COMMITTING", &n);
    }
    if (reading && possible(x, s, FE_SEND) &&
        (s->j.state == FS_COMMITTING || !rule(x, R_JOURNAL_COMMIT))) {
        if (s->out || s->pending) {
            explore_violation(x, "I8 a second mutating request beside one that can still land");
            return;
        }
        struct st n = *s;
        move_on(x, &n, FE_SEND);
        if (!rule(x, R_JOURNAL_COMMIT)) {
            n.j.commit_gen = n.up_gen;
            n.j.commit_content = n.up_content;
        }
        n.out = n.pending = 1;
        n.pend_gen = n.up_gen;
        n.pend_content = n.up_content;
        n.pend_base = n.j.base;
        emit(x, "send", &n);
    }
}

static void settle(const struct explore *x, struct st *n, bool same)
{
    move_on(x, n, same ? FE_FOUND_OURS : FE_FOUND_OURS_OLD);
    row_state(n, n->mem);
}

/* A commit that ended CLEAN with a sticky local error: what is at the provider is all there is to
 * keep. */
static void drop_bad_cache(struct st *n)
{
    if (n->mem == FS_CLEAN && n->bad) {
        n->bad = 0;
        n->local = n->durable = content_of(n, n->j.base);
    }
}

static void expand_outcome(struct explore *x, const struct st *s)
{
    if (s->mem == FS_COMMITTING) {
        if (s->pending) {
            struct st n = *s;
            drop_request(&n);
            n.out = 0;
            if (s->pend_base == s->remote || !rule(x, R_CONDITION)) {
                bool same = s->gen == s->pend_gen || !rule(x, R_COMPARE_GEN);
                struct st ok = n;
                put(&ok, s->pend_gen, s->pend_content);
                move_on(x, &ok, same ? FE_ACCEPTED : FE_ACCEPTED_OLD);
                row_state(&ok, ok.mem);
                ok.j.base = ok.remote;
                ok.up_gen = ok.up_content = 0;
                drop_bad_cache(&ok);
                emit(x, "accepted", &ok);
                struct st no = n;
                move_on(x, &no, FE_REFUSED);
                row_state(&no, no.mem);
                emit(x, "commit refused", &no);
            } else {
                move_on(x, &n, FE_PRECOND);
                row_state(&n, n.mem);
                emit(x, "precondition failed", &n);
            }
        }
        struct st n = *s;
        move_on(x, &n, FE_REPLY_LOST);
        row_state(&n, n.mem);
        emit(x, "reply lost", &n);
    }
    if (s->mem == FS_UNKNOWN) {
        struct st n = *s;
        n.out = 0;
        n.up_gen = n.up_content = 0;
        bool settled = !s->pending || !rule(x, R_SETTLE);
        if (s->remote == s->j.base) {
            if (settled) {
                move_on(x, &n, FE_FOUND_BASE);
                row_state(&n, n.mem);
                emit(x, "found base", &n);
            }
        } else if (s->hist[s->remote].mine && s->hist[s->remote].gen == s->j.commit_gen &&
                   s->hist[s->remote].content == s->j.commit_content && rule(x, R_RECOGNISE)) {
            n.j.base = s->remote;
            settle(x, &n, s->gen == s->j.commit_gen);
            drop_bad_cache(&n);
            emit(x, "found ours", &n);
        } else if (settled) { /* here too: the operator's answer is a new request */
            move_on(x, &n, FE_FOUND_FOREIGN);
            row_state(&n, n.mem);
            emit(x, "found a stranger's", &n);
        }
    }
}

static void expand(struct explore *x, const void *state)
{
    const struct model *m = x->ctx;
    const struct st *s = state;
    expand_provider(x, s);
    if (s->mem == DOWN) {
        expand_recovery(x, s);
        return;
    }
    if (s->crashes < m->max_crashes) {
        struct st n = *s;
        n.mem = DOWN;
        n.crashes++;
        if (m->world == POWER) {
            n.j = n.d;
        }
        explore_emit(x,
                     m->world == KILL    ? "KILL"
                     : m->world == POWER ? "POWER CUT"
                                         : "CRASH",
                     &n, false);
    }
    expand_writer(x, s);
    expand_uploader(x, s);
    expand_outcome(x, s);
}

static const char *check(void *ctx, const void *state)
{
    const struct model *m = ctx;
    const struct st *s = state;
    if (s->j.state == FS_CLEAN && s->mem != DOWN) {
        if (s->local != content_of(s, s->j.base)) {
            return "I1 CLEAN, but the local bytes are not the base version";
        }
        if (m->world == STRICT && s->durable != s->local) {
            return "I2 CLEAN over bytes that were not synced";
        }
    }
    if (s->acked > 0 && !(s->durable >= s->acked && s->j.state != FS_CLEAN) && s->best < s->acked) {
        return "I3 fsynced content exists nowhere durable";
    }
    int stranger = NONE;
    for (int i = 0; i < s->n_hist; i++) {
        if (!s->hist[i].mine) {
            stranger = i;
            continue;
        }
        int8_t c = s->hist[i].content;
        if (c == MIXED) {
            return "I6 the provider holds a mixture the file never was";
        }
        if (!(s->was_sealed[c / 7] & 1 << c % 7)) {
            return "I7 the provider holds content nobody finished";
        }
    }
    if (stranger != NONE && s->j.base < stranger && s->hist[s->remote].mine) {
        return "I4 a stranger's version overwritten unseen";
    }
    if (stranger == NONE && s->mem == FS_CONFLICT) {
        return "I5 conflict with our own late commit";
    }
    return NULL;
}

static bool is_goal(void *ctx, const void *state)
{
    const struct st *s = state;
    return (s->mem == FS_CLEAN && s->j.state == FS_CLEAN) || s->mem == FS_CONFLICT ||
           s->mem == FS_BLOCKED;
}

/* The bound on attempts must not be the reason; and what its writer left open waits for a decision.
 */
static bool is_bounded(void *ctx, const void *state)
{
    const struct model *m = ctx;
    const struct st *s = state;
    return s->tries > m->max_tries - 2;
}

static const char *run(struct model *m, bool liveness, size_t *ret_states)
{
    struct explore x = {.state_size = sizeof(struct st),
                        .max_states = 30000000,
                        .ctx = m,
                        .expand = expand,
                        .check = check,
                        .keep_edges = liveness};
    struct st s;
    memset(&s, 0, sizeof(s));
    s.mem = s.j.state = FS_CLEAN;
    s.remote = s.j.base = s.j.sealed = NONE;
    s.sealed = 1;
    s.d = s.j;
    const char *violation = explore_run(&x, &s);
    if (violation && m->rules == R_ALL) {
        CLEANUP(mem_freep) char *trace = explore_trace(&x);
        print_message("# %s: %s\n", violation, trace);
    }
    if (!violation && liveness) {
        size_t example = 0;
        if (explore_stuck(&x, is_goal, is_bounded, &example) > 0) {
            x.bad = example;
            CLEANUP(mem_freep) char *trace = explore_trace(&x);
            print_message("# stuck: %s\n", trace);
            violation = "L1 no way to CLEAN, CONFLICT or BLOCKED";
        }
    }
    *ret_states = x.n;
    explore_fini(&x);
    return violation;
}

/* With OBJMIG_DEEP_MODELS in the environment everything at once: 37 million states, a minute, 5 GB.
 */
static struct model full(enum world world)
{
    bool deep = getenv("OBJMIG_DEEP_MODELS") != NULL;
    return (struct model){.rules = R_ALL,
                          .world = world,
                          .max_writes = 3,
                          .max_crashes = deep ? 2 : 1,
                          .max_foreign = 1,
                          .max_tries = deep ? 3 : 2,
                          .max_failures = 1,
                          .max_decisions = 1};
}

static void holds(struct model m, bool liveness)
{
    size_t n;
    const char *violation = run(&m, liveness, &n);
    print_message("# %zu states\n", n);
    assert_null(violation);
    assert_true(n > 5000);
}

static void test_kill(void **state)
{
    holds(full(KILL), true);
}

static void test_strict(void **state)
{
    holds(full(STRICT), true);
}

static void test_power(void **state)
{
    holds(full(POWER), true);
}

static void test_two_power_cuts(void **state)
{
    struct model m = full(POWER);
    m.max_crashes = 2;
    m.max_writes = 2;
    holds(m, true);
}

/* Without this rule some history breaks exactly this promise. */
static void breaks(enum world world, enum rule without, const char *promise)
{
    struct model m = full(world);
    size_t n;
    m.rules &= ~(unsigned)without;
    const char *violation = run(&m, false, &n);
    if (!violation || strncmp(violation, promise, strlen(promise)) != 0) {
        fail_msg("rule %#x in world %d: %s, expected %s", without, world,
                 violation ? violation : "holds", promise);
    }
}

static void test_every_rule_is_needed(void **state)
{
    breaks(KILL, R_JOURNAL_FIRST, "I1");
    breaks(KILL, R_COMPARE_GEN, "I1");
    breaks(KILL, R_CONDITION, "I4");
    breaks(STRICT, R_SYNC_FIRST, "I2");
    breaks(STRICT, R_FRESH_GEN, "I1");
    breaks(KILL, R_RECOGNISE, "I5");
    breaks(KILL, R_KEEP_DIRTY, "I3");
    breaks(KILL, R_CALL_OFF, "I6");
    breaks(KILL, R_JOURNAL_COMMIT, "I8");
    breaks(KILL, R_SETTLE, "I8");
    breaks(KILL, R_LEARN_OUTCOME, "I8");
    breaks(KILL, R_SEALED_ONLY, "I7");
    breaks(KILL, R_UNSEAL_FIRST, "I7");
    breaks(STRICT, R_VERIFY, "I7");
    breaks(POWER, R_VERIFY, "I7");
    breaks(POWER, R_BARRIER, "I");
    breaks(POWER, R_DISCARD, "I1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_power),
        cmocka_unit_test(test_two_power_cuts),
        cmocka_unit_test(test_every_rule_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
