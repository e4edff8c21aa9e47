/* One file in two pieces, the spool that holds some of them, the journal row that names them, an upload that has taken some over,
 * and an object that others are copied from: every history of a few writes, copies, truncations, closes, an unlink, a stream,
 * refusals, kills, and an overwrite of the source by us or by a stranger (rules B2, B3, B5, B7, C3, C8).
 *
 * test_model_file.c has the states of the key, test_model_keys.c the order between keys; here a version is what it consists of.
 * A row is written behind the call that made it: until it is committed a kill forgets it. Contents are numbers; ZERO is a hole. */
#include "unit.h"

#include <string.h>

#include "explore.h"
#include "mem.h"

enum { PIECES = 2, SPOOLS = 4, NONE = -1, ZERO = 1, FOREIGN = 90, MAX_SEALED = 8 };
enum kind { HOLE, BASE, LOCAL, REMOTE, PART };
enum state { CLEAN, DIRTY, SENT, BLOCKED };

enum rule {
    R_PIN = 1 << 0,         /* REMOTE pieces are read as the version they name, or not at all (B7) */
    R_READERS = 1 << 1,     /* the source is not overwritten before the copies that read it (B2) */
    R_BLOCKED = 1 << 2,     /* … nor while such a copy is BLOCKED (B5) */
    R_KEPT_ROW = 1 << 3,    /* … nor while a sealed row reads it that stays until the next close (C3) */
    R_REBASE = 1 << 4,      /* after our own commit BASE means the new version */
    R_NEW_SPOOL = 1 << 5,   /* O_TRUNC on a pending file starts a new spool file (C3) */
    R_DROP_AFTER = 1 << 6,  /* a spool file goes once the row that no longer names it is committed */
    R_UNSEAL_FIRST = 1 << 7, /* a sealed row is taken back before its bytes change in place */
    R_PUNCH_AFTER = 1 << 8, /* bytes that became a part leave the spool once the row says so (C8) */
    R_KEEP_UPLOAD = 1 << 9, /* an upload that pieces are only in is not aborted (C8) */
    R_SAME_CONTENT = 1 << 10, /* a commit makes CLEAN only what it was the commit of */
    R_ABORT_AFTER = 1 << 11, /* it is aborted once the row that does without it is committed */
    R_SENT_ROW = 1 << 12,   /* a row that says what was sent precedes the request: BASE is found in the new version */
    R_ALL = (1 << 13) - 1
};

struct map {
    int8_t kind[PIECES], ver[PIECES]; /* BASE, REMOTE: which version */
};

struct row {
    int8_t is, sealed, absent, spool;
    int8_t sent, same; /* sent: version that the request which is out makes, 0 = none is; same: of just this content */
    struct map m;
};

struct st {
    int8_t obj[PIECES], obj_ver; /* the file's key at the provider; obj[0] 0 = absent */
    int8_t src[PIECES], src_ver, src_new; /* the source; src_new: an overwrite of it waits */
    int8_t part[PIECES];         /* what the upload holds */
    int8_t spool[SPOOLS][PIECES];
    struct row j, q;             /* the journal's row, and the one on its way there */
    int8_t q_is, q_drop, q_punch; /* spool file and piece of it that go when q is committed; NONE */
    int8_t q_abort;              /* so does the upload */
    int8_t down, state;
    struct map m;                /* the file now */
    int8_t cur, old;             /* its spool file; the one of a row that was truncated over */
    int8_t sealed, absent, changed; /* changed: since the request in flight was made */
    int8_t pend[PIECES];         /* content of that request */
    int8_t view[PIECES];         /* what programs see */
    int8_t kept[PIECES];         /* what was accepted last: must survive. kept[0]: 0 absent, NONE no promise */
    int8_t n_sealed, was[MAX_SEALED][PIECES]; /* all that was ever closed */
    int8_t next;                 /* content */
    int8_t opens, writes, copies, truncs, unlinks, parts, refusals, overwrites, strangers, kills; /* left */
    int8_t stranger;
};

struct model {
    unsigned rules;
    struct st left; /* the counters of the initial state */
};

static bool rule(const struct explore *x, enum rule r)
{
    return ((const struct model *)x->ctx)->rules & r;
}

static void emit(struct explore *x, const char *label, const struct st *s)
{
    explore_emit(x, label, s, true);
}

/* What a map means now; false: something it names is gone. */
static bool resolve(const struct st *s, const struct map *m, int spool, bool pinned, int8_t ret[PIECES])
{
    for (int p = 0; p < PIECES; p++) {
        ret[p] = 0;
        switch (m->kind[p]) {
        case HOLE:
            ret[p] = ZERO;
            break;
        case BASE:
            ret[p] = m->ver[p] == s->obj_ver || !pinned ? s->obj[p] : 0;
            break;
        case LOCAL:
            ret[p] = spool == NONE ? 0 : s->spool[spool][p];
            break;
        case REMOTE:
            ret[p] = m->ver[p] == s->src_ver || !pinned ? s->src[p] : 0;
            break;
        case PART:
            ret[p] = s->part[p];
            break;
        default:
            fail();
        }
    }
    return ret[0] != 0 && ret[1] != 0;
}

/* Our own commit has landed: what was BASE in it, or a part of it, is in the new version. */
static struct map rebased(const struct map *m, int8_t ver)
{
    struct map to = *m;
    for (int p = 0; p < PIECES; p++) {
        if ((m->kind[p] == BASE && m->ver[p] == ver - 1) || m->kind[p] == PART) {
            to.kind[p] = BASE;
            to.ver[p] = ver;
        }
    }
    return to;
}

/* What the journal's row means after a kill, and a look at what had been sent. */
static bool resolve_row(const struct st *s, int8_t ret[PIECES])
{
    bool landed = s->j.sent != 0 && s->j.sent == s->obj_ver;
    struct map m = landed ? rebased(&s->j.m, s->obj_ver) : s->j.m;
    if (landed && s->j.same) {
        memcpy(ret, s->obj, PIECES);
        return s->obj[0] != 0;
    }
    return resolve(s, &m, s->j.spool, true, ret);
}

static bool reads_source(const struct map *m, int8_t ver)
{
    bool reads = false;
    for (int p = 0; p < PIECES; p++) {
        reads = reads || (m->kind[p] == REMOTE && m->ver[p] == ver);
    }
    return reads;
}

static bool has_part(const struct map *m)
{
    return m->kind[0] == PART || m->kind[1] == PART;
}

static int free_spool(const struct st *s)
{
    for (int i = 0; i < SPOOLS; i++) {
        if (i != s->cur && i != s->old && !(s->j.is && s->j.spool == i) && !(s->q_is && s->q.spool == i) && s->q_drop != i) {
            return i;
        }
    }
    fail();
    return NONE;
}

static void drop_spool(struct st *s, int spool)
{
    if (spool != NONE) {
        memset(s->spool[spool], 0, PIECES);
    }
}

/* The file as a row, on its way; `drop` is named no longer. */
static void journal(const struct explore *x, struct st *s, bool is, int drop)
{
    s->q_is = 1;
    s->q_punch = NONE;
    s->q_drop = NONE;
    s->q_abort = 0;
    memset(&s->q, 0, sizeof(s->q));
    s->q.spool = NONE;
    if (is) {
        s->q = (struct row){.is = 1, .sealed = s->sealed, .absent = s->absent, .spool = s->absent ? NONE : s->cur, .m = s->m};
        s->q.sent = s->state == SENT && rule(x, R_SENT_ROW) ? s->obj_ver + 1 : 0;
        s->q.same = !s->changed;
    }
    if (rule(x, R_DROP_AFTER)) {
        s->q_drop = (int8_t)drop;
    } else {
        drop_spool(s, drop);
    }
}

static void remember(struct st *s, const int8_t c[PIECES])
{
    for (int i = 0; i < s->n_sealed; i++) {
        if (memcmp(s->was[i], c, PIECES) == 0) {
            return;
        }
    }
    ENSURE(s->n_sealed < MAX_SEALED);
    memcpy(s->was[s->n_sealed++], c, PIECES);
}

static void row_committed(struct explore *x, const struct st *s)
{
    struct st n = *s;
    n.j = s->q;
    memset(&n.q, 0, sizeof(n.q));
    n.q.spool = NONE;
    n.q_is = 0;
    drop_spool(&n, s->q_drop);
    if (s->q_punch != NONE) {
        n.spool[s->j.is && s->q.spool != NONE ? s->q.spool : s->cur][s->q_punch] = 0;
    }
    n.q_drop = n.q_punch = NONE;
    if (s->q_abort) {
        memset(n.part, 0, PIECES);
    }
    n.q_abort = 0;
    if (n.j.is && (!n.j.sealed || has_part(&n.j.m))) {
        n.kept[0] = n.kept[1] = NONE; /* its writer took it back; or close returns after the commit (C8) */
    } else if (n.j.is && n.j.absent) {
        n.kept[0] = n.kept[1] = 0;
    } else if (n.j.is) {
        int8_t c[PIECES];
        if (resolve_row(&n, c)) {
            memcpy(n.kept, c, PIECES);
        }
    }
    emit(x, "row committed", &n);
}

static void touch(struct st *n)
{
    n->sealed = 0;
    n->absent = 0;
    n->changed = 1;
    if (n->state == CLEAN || n->state == BLOCKED) { /* BLOCKED: new content replaces what was refused */
        n->state = DIRTY;
    }
}

/* The journal has a sealed row of these very bytes: it is taken back before they change. */
static bool must_unseal(const struct explore *x, const struct st *s)
{
    return rule(x, R_UNSEAL_FIRST) && s->j.is && s->j.sealed && !s->j.absent && s->old == NONE && !s->absent;
}

static void expand_writer(struct explore *x, const struct st *s)
{
    static const char *const writes[] = {"write 0", "write 1"}, *const copies[] = {"copy 0", "copy 1"};
    for (int p = 0; p < PIECES && !s->q_is; p++) {
        bool writes_left = s->writes > 0, copies_left = s->copies > 0 && s->src_new == 0;
        if ((!writes_left && !copies_left) || s->m.kind[p] == PART /* EFBIG */) {
            continue;
        }
        struct st n = *s;
        if (must_unseal(x, s)) {
            if (s->opens == 0) {
                continue;
            }
            n.opens--;
            n.sealed = 0;
            n.changed = 1;
            journal(x, &n, true, NONE);
            emit(x, "journal open", &n);
            continue;
        }
        if (s->absent) {
            n.m = (struct map){0};
            n.cur = NONE;
            n.view[1 - p] = ZERO;
        }
        if (writes_left) {
            struct st w = n;
            w.writes--;
            w.cur = w.cur == NONE ? (int8_t)free_spool(s) : w.cur;
            w.view[p] = w.spool[w.cur][p] = w.next++;
            w.m.kind[p] = LOCAL;
            w.m.ver[p] = 0;
            touch(&w);
            emit(x, writes[p], &w);
        }
        if (copies_left) {
            n.copies--;
            n.view[p] = n.src[p];
            n.m.kind[p] = REMOTE;
            n.m.ver[p] = n.src_ver;
            touch(&n);
            emit(x, copies[p], &n);
        }
    }
    if (s->truncs > 0 && !s->q_is && !s->absent) {
        struct st n = *s;
        n.truncs--;
        bool named = s->j.is && s->j.sealed && s->old == NONE;
        if (rule(x, R_NEW_SPOOL)) {
            n.old = named ? s->cur : s->old;
            n.cur = NONE;
        } else if (s->cur != NONE) {
            drop_spool(&n, s->cur);
        }
        n.m = (struct map){0};
        n.view[0] = n.view[1] = ZERO;
        touch(&n);
        emit(x, "truncate", &n);
    }
    if (!s->sealed && !s->q_is && !s->absent && s->state != CLEAN) {
        struct st n = *s;
        n.sealed = 1;
        n.old = NONE;
        if (n.state == BLOCKED) {
            n.state = DIRTY;
        }
        journal(x, &n, true, s->old);
        remember(&n, n.view);
        emit(x, "close", &n);
    }
    if (s->unlinks > 0 && !s->q_is && !s->absent && s->sealed && s->view[0] != 0) {
        struct st n = *s;
        n.unlinks--;
        touch(&n);
        n.absent = n.sealed = 1;
        n.m = (struct map){0};
        n.view[0] = n.view[1] = 0;
        journal(x, &n, true, s->cur); /* the one thing that ends a stream's upload */
        if (rule(x, R_ABORT_AFTER)) {
            n.q_abort = 1;
        } else {
            memset(n.part, 0, PIECES);
        }
        n.cur = NONE;
        emit(x, "unlink", &n);
    }
}

static void expand_uploader(struct explore *x, const struct st *s)
{
    int8_t c[PIECES];
    for (int p = 0; p < PIECES && s->parts > 0 && s->state == DIRTY && !s->q_is && !s->absent; p++) {
        if (s->m.kind[p] != LOCAL || s->old != NONE || (s->sealed && !has_part(&s->m))) {
            continue;
        }
        struct st n = *s;
        n.parts--;
        n.part[p] = s->spool[s->cur][p];
        n.m.kind[p] = PART;
        journal(x, &n, true, NONE);
        if (rule(x, R_PUNCH_AFTER)) {
            n.q_punch = (int8_t)p;
        } else {
            n.spool[n.cur][p] = 0;
        }
        emit(x, "part sent", &n);
    }
    if (s->state == DIRTY && !rule(x, R_KEEP_UPLOAD) && has_part(&s->m)) {
        struct st n = *s;
        memset(n.part, 0, PIECES);
        emit(x, "upload aborted", &n);
    }
    if (s->state == DIRTY && s->sealed && !s->q_is && s->j.is && s->j.sealed) {
        struct st n = *s;
        n.state = SENT;
        n.changed = 0;
        if (s->absent) {
            memset(n.pend, 0, PIECES);
            journal(x, &n, true, NONE);
            emit(x, "send delete", &n);
        } else if (resolve(s, &s->m, s->cur, rule(x, R_PIN), c)) {
            memcpy(n.pend, c, PIECES);
            journal(x, &n, true, NONE);
            emit(x, "send", &n);
        } else if (s->stranger) {
            n.state = BLOCKED;
            emit(x, "source changed", &n);
        } else {
            explore_violation(x, "LOST what a pending file consists of is gone");
        }
        if (s->refusals > 0) {
            n = *s;
            n.refusals--;
            n.state = BLOCKED;
            emit(x, "refused", &n);
        }
    }
    if (s->state == BLOCKED && s->sealed) {
        struct st n = *s;
        n.state = DIRTY;
        emit(x, "operator retries", &n);
    }
    if (s->state == SENT && !s->q_is) {
        struct st n = *s;
        memcpy(n.obj, s->pend, PIECES);
        n.obj_ver++;
        if (!s->changed || !rule(x, R_SAME_CONTENT)) {
            n.state = CLEAN;
            n.sealed = 1;
            n.m = (struct map){.kind = {BASE, BASE}, .ver = {n.obj_ver, n.obj_ver}};
            memset(n.part, 0, PIECES);
            journal(x, &n, false, s->cur);
            n.cur = NONE;
        } else {
            n.state = DIRTY;
            if (rule(x, R_REBASE)) {
                n.m = rebased(&n.m, n.obj_ver);
            }
            memset(n.part, 0, PIECES); /* the upload has become the object */
            if (n.sealed) {
                journal(x, &n, true, NONE);
            }
        }
        emit(x, "accepted", &n);
    }
}

static void expand_source(struct explore *x, const struct st *s)
{
    if (s->overwrites > 0 && s->src_new == 0) {
        struct st n = *s;
        n.overwrites--;
        n.src_new = 1;
        emit(x, "source is to be overwritten", &n);
    }
    bool read = !s->absent && reads_source(&s->m, s->src_ver) && rule(x, R_READERS) && (s->state != BLOCKED || rule(x, R_BLOCKED));
    /* Its own row stands behind all that were queued before, so that none of them is still on its way. */
    bool row = s->j.is && s->j.sealed && reads_source(&s->j.m, s->src_ver) && rule(x, R_KEPT_ROW) && !s->sealed;
    if (s->src_new && !s->down && !read && !row && !s->q_is) {
        struct st n = *s;
        n.src_new = 0;
        n.src_ver++;
        for (int p = 0; p < PIECES; p++) {
            n.src[p] = (int8_t)(n.src[p] + 10);
        }
        emit(x, "source overwritten", &n);
    }
    if (s->strangers > 0) {
        struct st n = *s;
        n.strangers--;
        n.stranger = 1;
        n.src_ver = FOREIGN;
        n.src[0] = FOREIGN;
        n.src[1] = FOREIGN + 1;
        explore_emit(x, "stranger writes the source", &n, false);
    }
}

static void recover(struct explore *x, const struct st *s)
{
    struct st n = *s;
    n.down = 0;
    n.cur = n.old = NONE;
    n.sealed = 1;
    n.absent = s->obj[0] == 0;
    n.changed = 0;
    n.state = CLEAN;
    n.m = (struct map){.kind = {BASE, BASE}, .ver = {s->obj_ver, s->obj_ver}};
    memcpy(n.view, s->obj, PIECES);
    if (s->j.is && s->j.sealed) {
        n.state = DIRTY;
        n.m = s->j.m;
        n.cur = s->j.spool;
        n.absent = s->j.absent;
        if (s->j.sent != 0 && s->j.sent == s->obj_ver) {
            n.m = rebased(&n.m, s->obj_ver);
        }
        if (s->j.sent != 0 && s->j.sent == s->obj_ver && s->j.same) { /* looked up: it had arrived */
            n.state = CLEAN;
            n.m = (struct map){.kind = {BASE, BASE}, .ver = {s->obj_ver, s->obj_ver}};
            n.absent = s->obj[0] == 0;
            journal(x, &n, false, n.cur);
            n.cur = NONE;
        } else if (n.absent) {
            n.view[0] = n.view[1] = 0;
        } else {
            (void)resolve_row(s, n.view);
        }
    } else if (s->j.is) {
        journal(x, &n, false, s->j.spool); /* unfinished: set aside, and discarded */
    }
    for (int i = 0; i < SPOOLS; i++) {
        if (i != n.cur && !(s->j.is && i == s->j.spool)) {
            drop_spool(&n, i);
        }
    }
    emit(x, "recover", &n);
}

static void expand(struct explore *x, const void *state)
{
    const struct st *s = state;
    expand_source(x, s);
    if (s->down) {
        recover(x, s);
        return;
    }
    if (s->q_is) {
        row_committed(x, s);
    }
    if (s->kills > 0) {
        struct st n = *s;
        n.kills--;
        n.down = 1;
        n.q_is = 0;
        memset(&n.q, 0, sizeof(n.q));
        n.q.spool = NONE;
        n.q_drop = n.q_punch = NONE;
        n.q_abort = 0;
        explore_emit(x, "KILL", &n, false);
    }
    expand_writer(x, s);
    expand_uploader(x, s);
}

static const char *check(void *ctx, const void *state)
{
    const struct st *s = state;
    int8_t c[PIECES];
    bool known = s->obj[0] == 0;
    for (int i = 0; i < s->n_sealed; i++) {
        known = known || memcmp(s->obj, s->was[i], PIECES) == 0;
    }
    if (!known) {
        return "MIXED the provider holds what nobody closed";
    }
    bool promised = s->kept[0] != NONE && !s->stranger;
    if (promised && memcmp(s->kept, s->obj, PIECES) != 0) {
        if (!s->j.is || !s->j.sealed) {
            return "FORGOTTEN what was accepted is in no row";
        }
        if (!s->j.absent && (!resolve_row(s, c) || memcmp(c, s->kept, PIECES) != 0)) {
            return "LOST what was accepted is neither here nor there";
        }
    }
    if (s->state == CLEAN && !s->down && !s->q_is && memcmp(s->obj, s->view, PIECES) != 0) {
        return "WRONG at rest the provider does not hold what programs see";
    }
    return NULL;
}

static bool at_rest(void *ctx, const void *state)
{
    const struct st *s = state;
    return s->state == CLEAN && !s->down && !s->q_is && s->src_new == 0;
}

static bool ignore(void *ctx, const void *state)
{
    const struct st *s = state;
    return s->stranger || !s->sealed || s->down; /* its writer may hold it open for ever */
}

static const char *run(struct model *m, bool liveness, size_t *ret_states)
{
    struct explore x = {.state_size = sizeof(struct st), .max_states = 20000000, .ctx = m, .expand = expand, .check = check,
                        .keep_edges = liveness};
    struct st s = m->left;
    s.opens = (int8_t)(s.writes + s.copies);
    s.obj[0] = s.view[0] = s.kept[0] = s.was[0][0] = 2;
    s.obj[1] = s.view[1] = s.kept[1] = s.was[0][1] = 3;
    s.n_sealed = 1;
    s.obj_ver = 1;
    s.src[0] = 60;
    s.src[1] = 61;
    s.src_ver = 1;
    s.sealed = 1;
    s.m = (struct map){.kind = {BASE, BASE}, .ver = {1, 1}};
    s.cur = s.old = s.q_drop = s.q_punch = s.j.spool = s.q.spool = NONE;
    s.next = 20;
    const char *violation = explore_run(&x, &s);
    if (violation && (m->rules == R_ALL || getenv("OBJMIG_DEEP_MODELS"))) {
        CLEANUP(mem_freep) char *trace = explore_trace(&x);
        print_message("# %s: %s\n", violation, trace);
    }
    if (!violation && liveness) {
        size_t example = 0;
        if (explore_stuck(&x, at_rest, ignore, &example) > 0) {
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

static void holds(struct st left)
{
    struct model m = {.rules = R_ALL, .left = left};
    size_t n;
    const char *violation = run(&m, true, &n);
    print_message("# %zu states\n", n);
    assert_null(violation);
    assert_true(n > 1000);
}

/* One kill more with OBJMIG_DEEP_MODELS in the environment. */
static int8_t kills(int8_t n)
{
    return (int8_t)(n + (getenv("OBJMIG_DEEP_MODELS") ? 1 : 0));
}

static void test_writer(void **state)
{
    holds((struct st){.writes = 2, .truncs = 1, .unlinks = 1, .kills = kills(1), .refusals = 1});
}

static void test_copies(void **state)
{
    holds((struct st){.writes = 1, .copies = 1, .truncs = 1, .overwrites = 1, .refusals = 1, .kills = kills(1)});
    holds((struct st){.copies = 2, .overwrites = 1, .truncs = 1, .kills = kills(1)});
    holds((struct st){.writes = 1, .copies = 1, .overwrites = 1, .strangers = 1, .kills = kills(1)});
}

static void test_streams(void **state)
{
    holds((struct st){.writes = 2, .parts = 2, .unlinks = 1, .kills = kills(1)});
    holds((struct st){.writes = 2, .copies = 1, .parts = 1, .overwrites = 1, .kills = kills(0)});
}

/* Without this rule some history breaks exactly this promise. */
static void breaks(struct st left, enum rule without, const char *promise)
{
    struct model m = {.rules = R_ALL & ~(unsigned)without, .left = left};
    size_t n;
    const char *violation = run(&m, false, &n);
    if (!violation || strncmp(violation, promise, strlen(promise)) != 0) {
        fail_msg("rule %#x: %s, expected %s", without, violation ? violation : "holds", promise);
    }
}

static void test_every_rule_is_needed(void **state)
{
    breaks((struct st){.copies = 1, .writes = 1, .strangers = 1}, R_PIN, "MIXED");
    breaks((struct st){.copies = 1, .overwrites = 1}, R_READERS, "LOST");
    breaks((struct st){.copies = 1, .overwrites = 1, .refusals = 1}, R_BLOCKED, "LOST");
    breaks((struct st){.copies = 1, .overwrites = 1, .truncs = 1}, R_KEPT_ROW, "LOST");
    breaks((struct st){.writes = 2, .kills = 1}, R_SENT_ROW, "LOST");
    breaks((struct st){.writes = 2}, R_REBASE, "LOST");
    breaks((struct st){.writes = 1, .truncs = 1}, R_NEW_SPOOL, "LOST");
    breaks((struct st){.writes = 1, .unlinks = 1}, R_DROP_AFTER, "LOST");
    breaks((struct st){.writes = 2, .kills = 1}, R_UNSEAL_FIRST, "LOST");
    breaks((struct st){.writes = 2, .parts = 2, .kills = 1}, R_PUNCH_AFTER, "LOST");
    breaks((struct st){.writes = 1, .parts = 1}, R_KEEP_UPLOAD, "LOST");
    breaks((struct st){.writes = 1, .parts = 1, .unlinks = 1, .kills = 1}, R_ABORT_AFTER, "LOST");
    breaks((struct st){.writes = 2}, R_SAME_CONTENT, "WRONG");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_every_rule_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
