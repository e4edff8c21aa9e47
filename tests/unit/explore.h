/* Explicit-state exploration: every state a small model can reach, breadth first, so that the first
 * violation found has the shortest history. States are plain bytes of one size; unused bytes must
 * be zero. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct explore {
    size_t state_size;
    size_t max_states; /* more end the program: a model must be bounded */
    void *ctx;
    void (*expand)(struct explore *x,
                   const void *state); /* calls explore_emit for every successor */
    const char *(*check)(void *ctx,
                         const void *state); /* NULL, or which promise this state breaks */
    bool keep_edges;                         /* for explore_stuck */

    /* filled by the run */
    size_t n, n_edges; /* states, live edges if kept */
    size_t current;
    const char *violation;
    size_t bad; /* index of the state that breaks it */
    unsigned char *states;
    struct explore_node {
        uint32_t parent;
        const char *label;
    } * nodes;
    uint32_t *table;
    size_t table_size, cap, edges_cap;
    struct explore_edge {
        uint32_t from, to;
    } * edges;
};

/* expand() says: label leads to this state. An edge that is not live (crashes, strangers) does not
 * count as a way out. */
void explore_emit(struct explore *x, const char *label, const void *state, bool live);
/* expand() says: a step out of this state breaks a promise. */
void explore_violation(struct explore *x, const char *what);
/* NULL when every reachable state keeps every promise. */
const char *explore_run(struct explore *x, const void *initial);
/* The labels that lead to the violation, separated by " > ". Caller frees. */
char *explore_trace(const struct explore *x);
/* How many reachable states have no live path to a goal; those that ignore() are not counted. */
size_t explore_stuck(const struct explore *x, bool (*goal)(void *ctx, const void *state),
                     bool (*ignore)(void *ctx, const void *state), size_t *ret_example);
const void *explore_state(const struct explore *x, size_t i);
void explore_fini(struct explore *x);
