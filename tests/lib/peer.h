/* A scripted HTTP/1.1 server on 127.0.0.1 that misbehaves as told. Each request takes the next step of the script, over all
 * connections in the order in which they arrive whole; when the script is over, or there is none, the fallback. Everything
 * received is kept for the test to look at. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct peer;

enum peer_what {
    PEER_ANSWER, /* as the fields say */
    PEER_RAW,    /* body is all that is sent */
    PEER_CLOSE,  /* close without an answer */
    PEER_RESET,  /* the same with RST */
    PEER_HOLE,   /* never answer, never close */
};

/* Zeroed: 200 without body, the connection stays. Pointers are borrowed until peer_free. */
struct peer_step {
    enum peer_what what;
    int status;          /* 0 = 200 */
    const char *headers; /* NULL or whole lines, each ending in \r\n */
    const void *body;
    size_t body_len;     /* 0 with a body: a string */
    size_t cut;          /* with is_cut: this many bytes of the body, then close */
    bool is_cut;
    bool chunked;        /* one chunk, unless pieces are set */
    const char *trailer; /* chunked: whole lines */
    bool until_close;    /* no length: the body ends with the connection */
    bool no_body;        /* announce it and do not send it, as for HEAD */
    bool interim;        /* 100 Continue goes before */
    bool close;          /* close after the answer */
    bool early;          /* do not read the request's body */
    bool hold;           /* wait for peer_release() first */
    unsigned delay_ms;
    size_t piece;        /* send the body in pieces of this size … */
    unsigned piece_ms;   /* … and wait so long before each */
};

struct peer_request {
    char *head; /* request line and headers, with their \r\n */
    char *body;
    size_t body_len;
    unsigned connection; /* from 0 */
};

/* tls_name NULL = plain; else speaks TLS with a fresh self-signed certificate for that name. */
struct peer *peer_new(const char *tls_name);
void peer_free(struct peer *p); /* closes everything, joins all its threads */
int peer_port(const struct peer *p);
const char *peer_ca_file(const struct peer *p); /* PEM file with the certificate; gone with the peer */

void peer_push(struct peer *p, const struct peer_step *step);
void peer_fallback(struct peer *p, const struct peer_step *step);
/* Asked for every whole request instead of the script, so that `early` means nothing; on a thread of the peer and under its
 * lock, so one at a time and without calls to peer_*. */
void peer_handler(struct peer *p,
                  void (*fn)(void *arg, const struct peer_request *r, struct peer_step *ret),
                  void *arg);
void peer_release(struct peer *p); /* lets all that hold go on, now and later */

unsigned peer_n_requests(struct peer *p);
unsigned peer_n_connections(struct peer *p);
/* Borrowed until peer_free. */
const struct peer_request *peer_request(struct peer *p, unsigned i);
/* Waits until n requests came, at most 10 s. */
bool peer_wait_requests(struct peer *p, unsigned n);
/* Closes all connections as an idle time-out does; new ones are accepted. */
void peer_drop_connections(struct peer *p);
