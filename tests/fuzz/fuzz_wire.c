/* The control socket: lines of JSON, remotes and pairs in them. The whole input is what was sent.
 *
 * What holds: a message is an object; what a remote or a list of pairs says is the same after it
 * was sent on. */
#include "fuzz.h"

#include <errno.h>

#include <sys/socket.h>

#include "conf_internal.h"
#include "wire.h"

#define SEND_MAX 65536u /* what a socket holds without a reader */

static void check_pairs(const json_t *msg)
{
    CLEANUP(kv_fini) struct kvlist l = {0};
    CLEANUP(kv_fini) struct kvlist again = {0};
    wire_kv_parse(msg, &l);
    json_t *j = wire_kv(&l);
    wire_kv_parse(j, &again);
    ENSURE(kv_equal(&l, &again));
    json_decref(j);
}

static void check_remote(const json_t *msg)
{
    struct conf *c = wire_remote_parse(msg);
    if (!c) {
        return;
    }
    ENSURE(c->n_remotes == 1 && c->remotes[0]->name[0] != '\0' &&
           c->remotes[0]->provider[0] != '\0');
    json_t *j = wire_remote(c->remotes[0]);
    struct conf *again = wire_remote_parse(j);
    ENSURE(again && conf_remote_same(c->remotes[0], again->remotes[0]));
    ENSURE(strcmp(c->remotes[0]->name, again->remotes[0]->name) == 0);
    json_t *j2 = wire_remote(again->remotes[0]);
    ENSURE(!wire_remote_differs(j, j2, false) && !wire_remote_differs(j, j2, true));
    json_decref(j);
    json_decref(j2);
    conf_free(c);
    conf_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    size = MIN(size, SEND_MAX);
    ENSURE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    ENSURE(size == 0 || send(fds[0], data, size, MSG_NOSIGNAL) == (ssize_t)size);
    close(fds[0]);
    struct wire w = {.fd = fds[1], .in = BUF_INIT_MAX(WIRE_LINE_MAX)};
    for (;;) {
        json_t *msg = NULL;
        int err = wire_recv(&w, &msg);
        if (err == -EPIPE) {
            break;
        }
        ENSURE((err == 0 && json_is_object(msg)) || (err == -EPROTO && !msg));
        if (msg) {
            check_pairs(msg);
            check_remote(msg);
            json_decref(msg);
        }
    }
    wire_close(&w);
    return 0;
}
