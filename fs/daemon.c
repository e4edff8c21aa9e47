/* See daemon.h.
 *
 * Threads: the main one waits for signals, connections, changes of the host's mount table and ended
 * sessions, and decides when to leave; each control connection has one (an attach blocks while a
 * remote is probed); each session has libfuse's.
 *
 * Leaving: a private superblock whose last mount is gone loses our own mount of it; when the kernel
 * then ends the session, and the cache has nothing more to do, so does the daemon (rules G2).
 * SIGTERM takes the mounts away itself and waits no longer than stop_timeout (rules G3); what is
 * not done then is in the journal. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash.h"
#include "mem.h"
#include "mounts.h"
#include "session.h"

#define TICK_MS 250 /* while something is expected to end */
#define STUCK_NS                                                                                   \
    60000000000ll /* only work for unreachable remotes is left, nothing is mounted: not waited for \
                     longer */
#define LOCK_WAIT_NS 20000000000ll /* a daemon that is just leaving */

void daemon_wake(struct daemon_state *d)
{
    uint64_t one = 1;

    (void)!write(d->event_fd, &one, sizeof(one)); /* full means awake already */
}

/* ---- what ops.c asks ---- */

uid_t daemon_uid(const struct daemon_state *d)
{
    return d->uid;
}

gid_t daemon_gid(const struct daemon_state *d)
{
    return d->gid;
}

const char *daemon_socket_path(const struct daemon_state *d)
{
    return d->socket_path;
}

bool daemon_remote_at(struct daemon_state *d, size_t n, struct cache_remote **ret, char *name,
                      size_t size)
{
    mutex_lock(&d->lock);
    const struct fs_remote *r = d->remotes;
    while (r != NULL && n-- > 0) {
        r = r->next;
    }
    if (r != NULL) {
        *ret = r->remote;
        (void)snprintf(name, size, "%s", r->name);
    }
    mutex_unlock(&d->lock);
    return r != NULL;
}

struct cache_remote *daemon_remote_named(struct daemon_state *d, const char *name)
{
    mutex_lock(&d->lock);
    const struct fs_remote *r = d->remotes;
    while (r != NULL && strcmp(r->name, name) != 0) {
        r = r->next;
    }
    mutex_unlock(&d->lock);
    return r != NULL ? r->remote : NULL;
}

bool daemon_is_bound(struct daemon_state *d, const struct cache_remote *remote, const char *prefix)
{
    size_t len = strlen(prefix);
    bool bound = false;

    mutex_lock(&d->lock);
    for (const struct attachment *a = d->attachments; a != NULL && !bound; a = a->next) {
        bound = a->remote == remote && strncmp(a->prefix, prefix, len) == 0;
    }
    mutex_unlock(&d->lock);
    return bound;
}

bool daemon_is_private(struct daemon_state *d, const struct cache_remote *remote,
                       const char *prefix)
{
    bool private = false;

    if (__atomic_load_n(&d->n_private, __ATOMIC_RELAXED) == 0) {
        return false;
    }
    mutex_lock(&d->lock);
    for (const struct attachment *a = d->attachments; a != NULL && !private; a = a->next) {
        private = !a->allow_other && a->remote == remote && strcmp(a->prefix, prefix) == 0;
    }
    mutex_unlock(&d->lock);
    return private;
}

/* ---- attachments ---- */

void attachment_free(struct attachment *a)
{
    free(a->dir);
    free(a->spec);
    free(a->options);
    free(a->prefix);
    free(a);
}

void attachment_unlink_locked(struct daemon_state *d, struct attachment *a)
{
    struct attachment **pp = &d->attachments;

    while (*pp != NULL && *pp != a) {
        pp = &(*pp)->next;
    }
    if (*pp == a) {
        *pp = a->next;
        if (!a->allow_other) {
            __atomic_fetch_sub(&d->n_private, 1, __ATOMIC_RELAXED);
        }
    }
}

static bool seen_mounted(const struct mounts *m, const struct attachment *a,
                         const struct fs *sessions)
{
    for (size_t k = 0; k < m->n; k++) {
        if (strcmp(m->items[k].dir, a->dir) == 0) {
            for (const struct fs *fs = sessions; fs != NULL; fs = fs->next) {
                if (!fs->direct && fs->dev_major == m->items[k].major &&
                    fs->dev_minor == m->items[k].minor) {
                    return true;
                }
            }
        }
    }
    return false;
}

static bool has_mount(const struct mounts *m, const struct fs *fs)
{
    for (size_t k = 0; k < m->n; k++) {
        if (m->items[k].major == fs->dev_major && m->items[k].minor == fs->dev_minor) {
            return true;
        }
    }
    return false;
}

/* Compares what we believe with the host's mount table: forgets attachments that are gone, lets go
 * of superblocks without any. */
static void rescan(struct daemon_state *d)
{
    struct mounts m;
    struct attachment *gone = NULL;
    struct fs *drop[8];
    size_t n_drop = 0;

    if (d->host_mounts_fd < 0 || mounts_read(d->host_mounts_fd, &m) < 0) {
        return;
    }
    mutex_lock(&d->lock);
    for (struct attachment *a = d->attachments, *next; a != NULL; a = next) {
        next = a->next;
        if (a->mounted && !seen_mounted(&m, a, d->sessions)) {
            attachment_unlink_locked(d, a);
            a->next = gone;
            gone = a;
        }
    }
    for (struct fs *fs = d->sessions; fs != NULL && n_drop < ARRAY_LEN(drop); fs = fs->next) {
        if (!fs->direct && !fs->ended && fs->root_mounted && fs->attaching == 0 &&
            !has_mount(&m, fs)) {
            if (d->current == fs) {
                d->current = NULL;
            }
            drop[n_drop++] = fs;
        }
    }
    mutex_unlock(&d->lock);
    mounts_fini(&m);
    while (gone != NULL) {
        struct attachment *next = gone->next;
        log_notice("daemon", "event=detached dir=%s", gone->dir);
        (void)cache_attach_remove(d->cache, gone->dir);
        attachment_free(gone);
        gone = next;
    }
    for (size_t k = 0; k < n_drop; k++) {
        session_drop_root(drop[k]);
    }
}

void daemon_session_ended(struct fs *fs)
{
    struct daemon_state *d = fs->d;

    mutex_lock(&d->lock);
    fs->ended = true;
    if (d->current == fs) {
        d->current = NULL;
    }
    mutex_unlock(&d->lock);
    daemon_wake(d);
}

static void reap_sessions(struct daemon_state *d)
{
    struct fs *ended;

    do {
        struct attachment *gone = NULL;

        mutex_lock(&d->lock);
        struct fs **pp = &d->sessions;
        while (*pp != NULL && !((*pp)->ended && (*pp)->attaching == 0)) {
            pp = &(*pp)->next;
        }
        ended = *pp;
        if (ended != NULL) {
            *pp = ended->next;
            for (struct attachment *a = d->attachments, *next; a != NULL; a = next) {
                next = a->next;
                if (ended->direct && a->mounted && strcmp(a->dir, ended->mountpoint) == 0) {
                    attachment_unlink_locked(d, a);
                    a->next = gone;
                    gone = a;
                }
            }
        }
        mutex_unlock(&d->lock);
        while (gone != NULL) {
            struct attachment *next = gone->next;
            (void)cache_attach_remove(d->cache, gone->dir);
            attachment_free(gone);
            gone = next;
        }
        if (ended != NULL) {
            d->cut_off = d->cut_off || ended->cut_off;
            session_free(ended);
        }
    } while (ended != NULL);
}

/* ---- stopping ---- */

/* In a thread of its own, which joins the host's mount name space. */
static void *umount_all(void *arg)
{
    struct daemon_state *d = arg;
    struct mounts m;

    if (unshare(CLONE_FS) < 0 || mounts_enter(d->host_ns_fd, d->host_root_fd) < 0 ||
        mounts_read(d->host_mounts_fd, &m) < 0) {
        log_warn("daemon", "event=cannot-umount error=%s", strerror(errno));
        return NULL;
    }
    for (size_t k = m.n; k > 0; k--) {
        const struct mount *at = &m.items[k - 1];
        bool ours = false;

        mutex_lock(&d->lock);
        for (const struct fs *fs = d->sessions; fs != NULL && !ours; fs = fs->next) {
            ours = !fs->direct && fs->dev_major == at->major && fs->dev_minor == at->minor;
        }
        mutex_unlock(&d->lock);
        if (ours && umount2(at->dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
            log_warn("daemon", "event=umount dir=%s error=%s", at->dir, strerror(errno));
        }
    }
    mounts_fini(&m);
    return NULL;
}

/* Only the main thread frees sessions, so what it finds stays. */
static size_t sessions_now(struct daemon_state *d, struct fs **ret, size_t max)
{
    size_t n = 0;

    mutex_lock(&d->lock);
    for (struct fs *fs = d->sessions; fs != NULL && n < max; fs = fs->next) {
        ret[n++] = fs;
    }
    mutex_unlock(&d->lock);
    return n;
}

static void begin_stop(struct daemon_state *d)
{
    pthread_t t;
    struct fs *all[64];

    mutex_lock(&d->lock);
    d->stopping = true;
    d->current = NULL;
    mutex_unlock(&d->lock);
    cache_refuse_new(d->cache);
    if (d->private_ns && pthread_create(&t, NULL, umount_all, d) == 0) {
        (void)pthread_join(t, NULL);
    }
    rescan(d);
    for (size_t k = sessions_now(d, all, ARRAY_LEN(all)); k > 0; k--) {
        session_drop_root(all[k - 1]);
    }
}

/* ---- start and main loop ---- */

/* A mount below another goes with it; and the way to it leads through the other's daemon. */
static bool below_ours(const struct mounts *m, const char *dir)
{
    for (size_t k = 0; k < m->n; k++) {
        size_t len = strlen(m->items[k].dir);
        if (strcmp(m->items[k].fstype, MOUNTS_FSTYPE) == 0 &&
            strncmp(dir, m->items[k].dir, len) == 0 && dir[len] == '/') {
            return true;
        }
    }
    return false;
}

/* Our name space began as a copy of the host's, with the mounts of other daemons in it: each would
 * live as long as we do, and we as long as it. Called before our own superblock is mounted. */
static void drop_copies(void)
{
    struct mounts m;
    bool any = true;

    /* Once more as long as one went: of several on a directory only the topmost can be reached. */
    while (any && mounts_read_own(&m) == 0) {
        any = false;
        for (size_t k = 0; k < m.n; k++) {
            const struct mount *at = &m.items[k];
            if (strcmp(at->fstype, MOUNTS_FSTYPE) == 0 && !below_ours(&m, at->dir) &&
                umount2(at->dir, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
                any = true;
            }
        }
        mounts_fini(&m);
    }
}

/* A private name space: what is mounted in it shows nowhere else. It stays a slave of the host's,
 * not private: then what the host unmounts goes here too instead of being kept busy by us, other
 * daemons' mounts as well, and a local remote may lie on what is mounted later. Where the host's
 * mounts are not shared, as in containers, nothing comes in any more. */
static bool make_private(struct daemon_state *d)
{
    d->host_mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    d->host_ns_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    d->host_root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (d->host_mounts_fd >= 0 && d->host_ns_fd >= 0 && d->host_root_fd >= 0 && unshare(CLONE_NEWNS) == 0) {
        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0) {
            drop_copies(); /* not before: until then it would reach the host */
            return true;
        }
        log_warn("daemon", "event=no-private-mounts error=%s", strerror(errno));
        if (mounts_enter(d->host_ns_fd, d->host_root_fd) < 0) {
            log_error("daemon", "event=cannot-return error=%s", strerror(errno));
        }
    }
    if (d->host_mounts_fd >= 0) {
        close(d->host_mounts_fd);
        d->host_mounts_fd = -1;
    }
    return false;
}

static void limits(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
#ifndef OBJMIG_SANITIZED
    /* Secrets are in memory: neither a core file nor another process of this user shall have them.
     */
    r = (struct rlimit){0};
    (void)setrlimit(RLIMIT_CORE, &r);
    (void)prctl(PR_SET_DUMPABLE, 0);
#endif
    (void)prctl(PR_SET_NAME, "objmig");
}

static void warn_request_timeout(void)
{
    const char *file;
    unsigned long seconds = mounts_request_timeout(&file);

    if (seconds != 0) {
        log_warn("daemon",
                 "event=request-timeout file=%s seconds=%lu: the kernel ends the mount when a "
                 "request takes longer; set it to 0",
                 file, seconds);
    }
}

static int open_cache(struct daemon_state *d, struct errinfo *reterr)
{
    int64_t until = time_mono_ns() + LOCK_WAIT_NS;
    int r;

    for (;;) {
        err_clear(reterr);
        d->o->cache.number = inode_number_of;
        r = cache_open(&d->o->cache, &d->cache, reterr);
        if (r != -EBUSY || time_mono_ns() > until) {
            return r;
        }
        /* The holder has closed its socket, or the helper would have asked it: it is leaving. */
        (void)poll(NULL, 0, 100);
    }
}

static int start(struct daemon_state *d, struct errinfo *reterr)
{
    int r = open_cache(d, reterr);

    if (r < 0) {
        return r;
    }
    d->mountpoint = mem_printf("%s/mnt", d->o->cache_dir);
    d->socket_path = mem_printf("%s/" WIRE_SOCKET, d->o->cache_dir);
    if (mkdir(d->mountpoint, 0700) < 0 && errno != EEXIST) {
        return err_set_errno(reterr, errno, "cannot make %s", d->mountpoint);
    }
    d->private_ns = !d->o->direct && geteuid() == 0 && make_private(d);
    d->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r = d->event_fd < 0 ? -errno : wire_listen(d->o->cache_dir, &d->listen_fd);
    if (r < 0) {
        return err_set_errno(reterr, -r, "cannot make the control socket in %s", d->o->cache_dir);
    }
    return 0;
}

static int signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

struct leaving {
    int64_t stuck_since; /* 0 = not stuck */
    uint64_t stuck_left;
};

static bool only_stuck(struct daemon_state *d, struct leaving *l)
{
    struct cprogress p;
    struct cscope everything = {0};

    cache_progress(d->cache, &everything, UINT64_MAX, &p);
    if (p.files_left > p.waiting) {
        l->stuck_since = 0;
        return false;
    }
    if (d->cut_off && p.files_left == 0) {
        return true; /* all else is files that nobody can write to any more */
    }
    if (l->stuck_since == 0 || l->stuck_left != p.files_left) {
        l->stuck_since = time_mono_ns();
        l->stuck_left = p.files_left;
    }
    return time_mono_ns() - l->stuck_since > STUCK_NS;
}

/* True when there is nothing to stay for. Sets stopping, so that no attach slips in. */
static bool may_leave(struct daemon_state *d, struct leaving *l)
{
    mutex_lock(&d->lock);
    bool busy = d->sessions != NULL, conns = d->n_conns > 0, attached = d->was_attached,
         asked = d->stop_asked;
    mutex_unlock(&d->lock);
    if (busy || (!attached && conns && !asked)) {
        l->stuck_since = 0;
        return false;
    }
    if (attached && !cache_idle(d->cache) && !only_stuck(d, l)) {
        return false;
    }
    mutex_lock(&d->lock);
    bool leave = d->sessions == NULL;
    d->stopping = d->stopping || leave;
    mutex_unlock(&d->lock);
    return leave;
}

static void accept_one(struct daemon_state *d)
{
    int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (fd < 0) {
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
        (cred.uid != 0 && cred.uid != d->uid)) {
        close(fd);
        return;
    }
    if (control_serve(d, fd) < 0) {
        close(fd);
    }
}

/* Ends every connection, so that nobody uses the cache any more. False when one does not end. */
static bool end_connections(struct daemon_state *d)
{
    int64_t until = time_mono_ns() + 10000000000ll;
    bool in_time = true;

    if (d->listen_fd >= 0) {
        close(d->listen_fd);
        d->listen_fd = -1;
    }
    mutex_lock(&d->lock);
    for (size_t k = 0; k < ARRAY_LEN(d->conn_fds); k++) {
        if (d->conn_fds[k] >= 0) {
            (void)shutdown(d->conn_fds[k], SHUT_RDWR);
        }
    }
    while (d->n_conns > 0 && in_time) {
        in_time = cond_wait_until(&d->cond, &d->lock, until);
    }
    bool none = d->n_conns == 0;
    mutex_unlock(&d->lock);
    return none;
}

static void serve(struct daemon_state *d, int signal_fd)
{
    struct leaving leaving = {0};
    int64_t deadline = 0;
    bool aborted = false;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = signal_fd, .events = POLLIN},
            {.fd = d->listen_fd, .events = POLLIN},
            {.fd = d->event_fd, .events = POLLIN},
            {.fd = d->host_mounts_fd, .events = POLLPRI},
        };
        struct fs *all[64];
        uint64_t n;

        mutex_lock(&d->lock);
        bool expecting = d->stopping || d->sessions == NULL || !d->was_attached;
        mutex_unlock(&d->lock);

        (void)poll(fds, ARRAY_LEN(fds), expecting ? TICK_MS : 5000);
        (void)!read(d->event_fd, &n, sizeof(n));
        struct signalfd_siginfo si;
        bool stop = false;
        while (read(signal_fd, &si, sizeof(si)) == sizeof(si)) {
            stop = stop || si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT ||
                   si.ssi_signo == SIGQUIT;
        }
        mutex_lock(&d->lock);
        stop = stop || (d->stop_asked && deadline == 0);
        mutex_unlock(&d->lock);
        if (stop && deadline == 0) {
            log_notice("daemon", "event=stopping timeout_s=%u", d->o->stop_timeout_s);
            begin_stop(d);
            deadline = time_mono_ns() + (int64_t)d->o->stop_timeout_s * 1000000000;
        } else if (stop) {
            deadline = time_mono_ns(); /* asked twice */
        }
        if (fds[1].revents & POLLIN) {
            accept_one(d);
        }
        rescan(d);
        daemon_renew_tick(d);
        reap_sessions(d);
        if (may_leave(d, &leaving)) {
            return;
        }
        size_t n_sessions = sessions_now(d, all, ARRAY_LEN(all));
        if (deadline != 0 && time_mono_ns() >= deadline && n_sessions == 0) {
            return; /* the rest is in the journal */
        }
        if (deadline != 0 && time_mono_ns() >= deadline && !aborted) {
            log_warn("daemon", "event=stop-timeout: open files are cut off");
            aborted = true;
            while (n_sessions > 0) {
                (void)session_abort(all[--n_sessions]);
            }
            deadline = time_mono_ns() + 3000000000ll;
        } else if (aborted && time_mono_ns() >= deadline) {
            log_warn("daemon", "event=sessions-hang: leaving without them");
            return;
        }
    }
}

static void free_state(struct daemon_state *d)
{
    while (d->attachments != NULL) {
        struct attachment *next = d->attachments->next;
        attachment_free(d->attachments);
        d->attachments = next;
    }
    while (d->remotes != NULL) {
        struct fs_remote *next = d->remotes->next;
        free(d->remotes->name);
        explicit_bzero(d->remotes->json, strlen(d->remotes->json));
        free(d->remotes->json);
        if (d->remotes->seen != NULL) {
            explicit_bzero(d->remotes->seen, strlen(d->remotes->seen));
        }
        free(d->remotes->seen);
        free(d->remotes->config);
        free(d->remotes->spec);
        free(d->remotes);
        d->remotes = next;
    }
    for (size_t k = 0; k < d->n_confs; k++) {
        conf_free(d->confs[k]);
    }
    free(d->confs);
    free(d->mountpoint);
    free(d->socket_path);
    cond_fini(&d->cond);
    mutex_fini(&d->lock);
}

int daemon_run(struct options *o, int first_fd)
{
    struct daemon_state d = {.o = o,
                             .uid = getuid(),
                             .gid = getgid(),
                             .host_root_fd = -1,
                             .host_ns_fd = -1,
                             .host_mounts_fd = -1,
                             .event_fd = -1,
                             .listen_fd = -1,
                             .attach_lock = PTHREAD_MUTEX_INITIALIZER};
    CLEANUP(mem_closep) int signal_fd = signals();
    struct wire first = {.fd = first_fd};
    struct fs *left[1];
    struct errinfo err = {0};

    mutex_init(&d.lock, RANK_INODES); /* never together with another of this rank */
    cond_init(&d.cond);
    for (size_t k = 0; k < ARRAY_LEN(d.conn_fds); k++) {
        d.conn_fds[k] = -1;
    }
    limits();
    crash_handlers();
    int r = start(&d, &err);
    json_t *msg =
        r < 0 ? wire_error(r, err.message) : json_pack("{s:b, s:i}", "ok", 1, "pid", (int)getpid());
    (void)wire_send(&first, msg);
    json_decref(msg);
    buf_fini(&first.in);
    if (r == 0) {
        log_notice("daemon", "event=started version=" OBJMIG_VERSION " cache=%s private=%d",
                   o->cache_dir, d.private_ns);
        warn_request_timeout();
        r = control_serve(&d, first_fd);
    }
    if (r < 0) {
        close(first_fd);
    } else {
        serve(&d, signal_fd);
    }
    bool hangs = !end_connections(&d) || sessions_now(&d, left, ARRAY_LEN(left)) > 0;
    log_notice("daemon", "event=ended clean=%d", !hangs && !d.cut_off);
    if (hangs || d.cut_off) {
        /* A thread may still use the cache, or a file is left open in it. The journal is as safe as
         * after kill -9. */
        _exit(hangs || r < 0);
    }
    if (d.cache != NULL) {
        cache_close(d.cache);
    }
    free_state(&d);
    return r < 0 ? 1 : 0;
}
