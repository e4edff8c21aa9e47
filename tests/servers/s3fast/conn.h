/* Connections: HTTP/1.1 over epoll, several threads, and the delay of a long link. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "sigv4.h"

struct listener {
    int fd;
    uint16_t port;
    /* The round trip of this link. Nothing is slowed down by it but answers: they leave a round
     * trip after the last byte of the request came, and the first request of a connection waits for
     * one more, as for the handshake. That is what a client sees of a link with half of it in each
     * direction and no limit of throughput. */
    int64_t rtt_ns;
};

struct server {
    struct listener listeners[8];
    size_t n_listeners;
    struct sig_keys keys;
    unsigned n_threads;
    FILE *log; /* or NULL */
};

/* Serves for ever. */
_Noreturn void server_run(struct server *s);
