/* The daemon: one cache, its FUSE sessions, the mounts made of them, and who may ask for what. */
#pragma once

#include <jansson.h>

#include "errinfo.h"
#include "fs.h"
#include "options.h"
#include "wire.h"

/* Serves until nothing is mounted and nothing is left to do. `first` is the helper's end of a
 * socket pair: it is told whether the start succeeded, and is the first control connection. Returns
 * the exit code. */
int daemon_run(struct options *o, int first_fd);

/* ---- between daemon.c, daemon_attach.c and control.c ---- */

struct daemon_state {
    struct options *o;
    struct cache *cache;
    char *socket_path, *mountpoint;
    bool private_ns;
    int host_root_fd, /* "/" in it: a chroot stays one */
        host_ns_fd,
        host_mounts_fd; /* of the mount name space we were started in; -1 when not private */
    int event_fd;       /* something happened: the main thread looks */
    int listen_fd;
    uid_t uid;
    gid_t gid;
    pthread_mutex_t
        attach_lock; /* one attach at a time; held while a remote is probed, so no struct mutex */

    struct mutex
        lock; /* guards the rest; nothing is called with it held but what only takes memory */
    struct cond cond;
    struct fs_remote *remotes;
    struct attachment *attachments;
    unsigned n_private; /* attachments without allow_other */
    struct fs *sessions;
    struct fs *current; /* takes new mounts; NULL: the next attach makes one */
    unsigned n_conns;
    int conn_fds[64];
    bool was_attached; /* ever: before that, a failed attach ends us */
    bool stopping;     /* no new mounts: SIGTERM, or the last one is gone and nothing is left */
    bool stop_asked;
    bool cut_off;        /* files are left open in the cache: it cannot be closed */
    struct conf **confs; /* of the remotes, for as long as the cache */
    size_t n_confs;
    int64_t renew_ns; /* main thread: when the files with the credentials were last looked at */
};

void daemon_wake(struct daemon_state *d);
void daemon_session_ended(struct fs *fs); /* on_end of every session */
void attachment_free(struct attachment *a);
void attachment_unlink_locked(struct daemon_state *d, struct attachment *a);

struct fs_remote *daemon_remote_find(struct daemon_state *d, const char *name); /* NULL: no such */

/* daemon_renew.c. With attach_lock held, but for the tick. */
int daemon_renew(struct daemon_state *d, struct fs_remote *r, const struct conf_remote *conf,
                 bool probe, struct errinfo *reterr);
void daemon_renew_watch(struct fs_remote *r); /* what its file says now is what it runs with */
void daemon_renew_tick(struct daemon_state *d); /* main thread, as often as it likes */

/* What an attach in progress holds; ended by daemon_attached(). */
struct attach_ticket {
    struct attachment *a;
    struct fs *fs;
};
/* Blocks (probes). The answer is what the helper needs to mount. */
int daemon_attach(struct daemon_state *d, const json_t *req, struct attach_ticket *ret_ticket,
                  json_t **ret_answer, struct errinfo *reterr);
void daemon_attached(struct daemon_state *d, struct attach_ticket *t, bool ok);
/* Those of an earlier run, once: {"dir", "spec", "options"} each. */
json_t *daemon_recorded(struct daemon_state *d);

/* control.c: serves a connection in its own thread; the descriptor is taken over. */
int control_serve(struct daemon_state *d, int fd);
