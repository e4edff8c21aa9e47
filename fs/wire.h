/* The control socket's language: one JSON object a line, each way. And remotes as JSON: the helper
 * reads the configuration with its user's eyes (files, environment, home) and hands the daemon what
 * it found, secrets included, over a socket that only their owner can open. */
#pragma once

#include <jansson.h>

#include "conf.h"
#include "errinfo.h"

#define WIRE_SOCKET "control.sock"
#define WIRE_LINE_MAX (16u * 1024 * 1024)

/* A connected socket with its read buffer. */
struct wire {
    int fd;
    struct buf in;
};

int wire_connect(const char *cache_dir,
                 struct wire *ret);                  /* -errno; -ECONNREFUSED, -ENOENT: no daemon */
int wire_listen(const char *cache_dir, int *ret_fd); /* replaces what an earlier daemon left */
void wire_close(struct wire *w);
/* Both wipe the text they handled. */
int wire_send(struct wire *w, const json_t *msg);
int wire_recv(struct wire *w,
              json_t **ret_msg); /* -EPIPE at the end, -EPROTO when it is no JSON object */
/* Sends and waits for the answer; an answer with "ok": false becomes its error. */
int wire_call(struct wire *w, const json_t *msg, json_t **ret_answer, struct errinfo *reterr);
json_t *wire_error(int status, const char *text);

json_t *wire_remote(const struct conf_remote *r);
/* A configuration of this one remote, owned by the caller: conf_free. NULL when malformed. */
struct conf *wire_remote_parse(const json_t *j);
/* The name of the first setting in which they differ, NULL when equal: of the credentials, or of all others. */
const char *wire_remote_differs(const json_t *a, const json_t *b, bool credentials);
json_t *wire_kv(const struct kvlist *l);
void wire_kv_parse(const json_t *j, struct kvlist *ret);
