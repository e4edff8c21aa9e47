#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "mem.h"

#define NO_PARENT UINT32_MAX

static uint64_t hash(const unsigned char *p, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    for (; n > 0; p++, n--) {
        h = (h ^ *p) * 0xff51afd7ed558ccdu;
    }
    return h ^ h >> 29;
}

const void *explore_state(const struct explore *x, size_t i)
{
    return x->states + i * x->state_size;
}

/* The slot of the table that holds the state, or the empty one where it belongs. Entries are index
 * + 1. */
static size_t slot_of(const struct explore *x, const void *state)
{
    size_t i = hash(state, x->state_size) & (x->table_size - 1);
    while (x->table[i] != 0 &&
           memcmp(explore_state(x, x->table[i] - 1), state, x->state_size) != 0) {
        i = (i + 1) & (x->table_size - 1);
    }
    return i;
}

static void grow_table(struct explore *x)
{
    size_t size = MAX(x->table_size * 2, (size_t)4096);
    free(x->table);
    x->table = mem_zalloc(size * sizeof(*x->table));
    x->table_size = size;
    for (size_t i = 0; i < x->n; i++) {
        x->table[slot_of(x, explore_state(x, i))] = (uint32_t)i + 1;
    }
}

static size_t add(struct explore *x, const char *label, const void *state)
{
    if (2 * (x->n + 1) > x->table_size) {
        grow_table(x);
    }
    size_t slot = slot_of(x, state);
    if (x->table[slot] != 0) {
        return x->table[slot] - 1;
    }
    ENSURE(x->n < x->max_states);
    if (x->n == x->cap) {
        x->cap = MAX(x->cap * 2, (size_t)4096);
        x->states = mem_realloc(x->states, x->cap * x->state_size);
        x->nodes = mem_realloc(x->nodes, x->cap * sizeof(*x->nodes));
    }
    memcpy(x->states + x->n * x->state_size, state, x->state_size);
    x->nodes[x->n] = (struct explore_node){.parent = x->n == 0 ? NO_PARENT : (uint32_t)x->current,
                                           .label = label};
    x->table[slot] = (uint32_t)x->n + 1;
    x->n++;
    return x->n - 1;
}

void explore_emit(struct explore *x, const char *label, const void *state, bool live)
{
    if (x->violation) {
        return;
    }
    size_t to = add(x, label, state);
    if (!x->keep_edges || !live) {
        return;
    }
    if (x->n_edges == x->edges_cap) {
        x->edges_cap = MAX(x->edges_cap * 2, (size_t)65536);
        x->edges = mem_realloc(x->edges, x->edges_cap * sizeof(*x->edges));
    }
    x->edges[x->n_edges++] =
        (struct explore_edge){.from = (uint32_t)x->current, .to = (uint32_t)to};
}

void explore_violation(struct explore *x, const char *what)
{
    if (!x->violation) {
        x->violation = what;
        x->bad = x->current;
    }
}

const char *explore_run(struct explore *x, const void *initial)
{
    (void)add(x, "", initial);
    for (x->current = 0; x->current < x->n && !x->violation; x->current++) {
        /* expand() adds states, which may move them: it gets its own copy. */
        unsigned char state[256];
        ENSURE(x->state_size <= sizeof(state));
        memcpy(state, explore_state(x, x->current), x->state_size);
        const char *what = x->check(x->ctx, state);
        if (what) {
            x->violation = what;
            x->bad = x->current;
            break;
        }
        x->expand(x, state);
    }
    return x->violation;
}

char *explore_trace(const struct explore *x)
{
    struct buf b = BUF_INIT;
    size_t depth = 0;
    for (size_t i = x->bad; x->nodes[i].parent != NO_PARENT; i = x->nodes[i].parent) {
        depth++;
    }
    const char **labels = mem_zalloc((depth + 1) * sizeof(*labels));
    size_t at = depth;
    for (size_t i = x->bad; x->nodes[i].parent != NO_PARENT; i = x->nodes[i].parent) {
        labels[--at] = x->nodes[i].label;
    }
    for (size_t i = 0; i < depth; i++) {
        ENSURE(buf_addf(&b, "%s%s", i > 0 ? " > " : "", labels[i]) == 0);
    }
    free(labels);
    return buf_take(&b);
}

size_t explore_stuck(const struct explore *x, bool (*goal)(void *ctx, const void *state),
                     bool (*ignore)(void *ctx, const void *state), size_t *ret_example)
{
    /* Edges by target, then backwards from the goals. */
    size_t *start = mem_zalloc((x->n + 2) * sizeof(*start));
    uint32_t *from = mem_zalloc((x->n_edges + 1) * sizeof(*from));
    bool *ok = mem_zalloc(x->n);
    uint32_t *queue = mem_zalloc(x->n * sizeof(*queue));
    size_t head = 0;
    size_t tail = 0;
    size_t stuck = 0;
    for (size_t e = 0; e < x->n_edges; e++) {
        start[x->edges[e].to + 2]++;
    }
    for (size_t i = 2; i < x->n + 2; i++) {
        start[i] += start[i - 1];
    }
    for (size_t e = 0; e < x->n_edges; e++) {
        from[start[x->edges[e].to + 1]++] = x->edges[e].from;
    }
    for (size_t i = 0; i < x->n; i++) {
        if (goal(x->ctx, explore_state(x, i))) {
            ok[i] = true;
            queue[tail++] = (uint32_t)i;
        }
    }
    while (head < tail) {
        uint32_t i = queue[head++];
        for (size_t e = start[i]; e < start[i + 1]; e++) {
            if (!ok[from[e]]) {
                ok[from[e]] = true;
                queue[tail++] = from[e];
            }
        }
    }
    for (size_t i = 0; i < x->n; i++) {
        if (!ok[i] && !ignore(x->ctx, explore_state(x, i))) {
            if (stuck++ == 0) {
                *ret_example = i;
            }
        }
    }
    free(start);
    free(from);
    free(ok);
    free(queue);
    return stuck;
}

void explore_fini(struct explore *x)
{
    free(x->states);
    free(x->nodes);
    free(x->table);
    free(x->edges);
    *x = (struct explore){0};
}
