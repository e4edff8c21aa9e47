/* The cache as a whole: open, close, remotes, the lock and what is answered after it. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "block.h"
#include "log.h"
#include "mem.h"

#define WORKERS_MIN 4

void cache_lock(struct cache *c)
{
    mutex_lock(&c->lock);
}

void cache_unlock(struct cache *c)
{
    spool_drops_submit_locked(c);
    struct creq *r = c->ready, *next;
    c->ready = NULL;
    c->ready_tail = &c->ready;
    bool help = c->help;
    c->help = false;
    mutex_unlock(&c->lock);
    for (; r != NULL; r = next) {
        next = r->next;
        void *buf = r->buf; /* r may be gone after done */
        void (*buf_free)(void *) = r->buf_free != NULL ? r->buf_free : free;
        r->done(r);
        buf_free(buf);
    }
    if (help) {
        journal_help(c->journal);
    }
}

void cache_submit_answered(struct cache *c, struct jtx *tx, void (*done)(void *ctx, int status), void *ctx)
{
    c->help = true;
    journal_submit(c->journal, tx, JTX_HELPED, done, ctx);
}

void creq_end_locked(struct cache *c, struct creq *r, int status)
{
    mutex_assert_held(&c->lock);
    r->status = status;
    r->next = NULL;
    *c->ready_tail = r;
    c->ready_tail = &r->next;
}

void cache_async_begin_locked(struct cache *c)
{
    c->async++;
}

void cache_async_end_locked(struct cache *c)
{
    ENSURE(c->async > 0);
    if (--c->async == 0) {
        cond_broadcast(&c->idle_cond);
    }
}

void cache_kick_locked(struct cache *c)
{
    if (!c->kicked) {
        c->kicked = true;
        cond_signal(&c->sched_cond);
    }
}

struct cident *ident_find(struct cache *c, uint32_t id)
{
    struct cident *i = c->idents;
    while (i != NULL && i->id != id) {
        i = i->next;
    }
    return i;
}

void cache_options_default(struct cache_options *o)
{
    memset(o, 0, sizeof(*o));
    o->cache_size = 10ULL << 30;
    o->memory = 256ULL << 20;
    o->writeback_delay_ms = 1000;
    o->list_ttl_ms = 30000;
    o->wait_timeout_ms = 300000;
    o->umask = 022;
}

int cache_default_dir(char **ret_dir, struct errinfo *reterr)
{
    if (geteuid() == 0) {
        *ret_dir = mem_strdup("/var/lib/objmig");
        return 0;
    }
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    const struct passwd *pw = home == NULL ? getpwuid(geteuid()) : NULL;
    home = pw != NULL ? pw->pw_dir : home;
    if (state != NULL && state[0] == '/') {
        *ret_dir = mem_printf("%s/objmig", state);
    } else if (home != NULL) {
        *ret_dir = mem_printf("%s/.local/state/objmig", home);
    } else {
        return err_set(reterr, ERR_INVALID, -ENOENT, "no home directory; say where with cache=DIR");
    }
    return 0;
}

/* ---- open ---- */

/* The directory for journal and spool: made 0700, owned by us, not on memory (rules C6). */
static int prepare_dir(const char *dir, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *path = mem_strdup(dir);
    for (char *p = path + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            if (mkdir(path, 0755) < 0 && errno != EEXIST) {
                return err_set_errno(reterr, errno, "cache=%s: cannot create %s", dir, path);
            }
            *p = '/';
        }
    }
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return err_set_errno(reterr, errno, "cache=%s: cannot create it", dir);
    }
    struct stat st;
    if (stat(path, &st) < 0) {
        return err_set_errno(reterr, errno, "cache=%s", dir);
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(reterr, ERR_INVALID, -ENOTDIR, "cache=%s: not a directory", dir);
    }
    if (st.st_uid != geteuid()) {
        return err_set(reterr, ERR_INVALID, -EPERM, "cache=%s: belongs to another user; give a directory of your own", dir);
    }
    if (st.st_mode & 077 && chmod(path, 0700) < 0) {
        return err_set_errno(reterr, errno, "cache=%s: cannot make it private (chmod 700)", dir);
    }
    if (access(path, W_OK | X_OK) < 0) {
        return err_set_errno(reterr, errno, "cache=%s: not writable; give another with -o cache=", dir);
    }
    return 0;
}

static int take_lock(struct cache *c, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/lock", c->dir);
    c->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (c->lock_fd < 0) {
        return err_set_errno(reterr, errno, "%s", path);
    }
    if (flock(c->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        char pid[32] = "";
        ssize_t n = pread(c->lock_fd, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
        return err_set(reterr, ERR_INVALID, -EBUSY, "cache=%s is in use by the daemon with pid %s; give another with -o cache=",
                       c->dir, pid[0] != '\0' ? pid : "unknown");
    }
    char pid[32];
    int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(c->lock_fd, 0) < 0 || pwrite(c->lock_fd, pid, (size_t)n, 0) != n) {
        return err_set_errno(reterr, errno, "%s: cannot write it", path);
    }
    return 0;
}

static struct cache *cache_new(const char *dir)
{
    struct cache *c = mem_zalloc(sizeof(*c));
    mutex_init(&c->lock, RANK_CACHE);
    cond_init(&c->sched_cond);
    cond_init(&c->idle_cond);
    c->dir = mem_strdup(dir);
    c->lock_fd = -1;
    c->ready_tail = &c->ready;
    c->mem_waiters_tail = &c->mem_waiters;
    c->next_seq = 1;
    c->next_spool_id = 1;
    c->last_progress_ns = time_mono_ns();
    c->hedge_ns = INT64_MAX;
    return c;
}

static void cache_free(struct cache *c)
{
    for (size_t i = 0; i < c->n_buckets; i++) {
        struct ckey *next;
        for (struct ckey *k = c->keys[i]; k != NULL; k = next) {
            next = k->hash_next;
            upload_fini(&k->up);
            while (k->readers != NULL) {
                struct cref_edge *e = k->readers;
                k->readers = e->next_of_slot;
                extent_source_unref(e->src);
                free(e);
            }
            struct cfile *fs[2] = {k->file, k->aside};
            for (size_t j = 0; j < 2; j++) {
                if (fs[j] != NULL) {
                    fs[j]->reads = NULL;
                    extent_source_unref(fs[j]->base);
                    extent_fini(&fs[j]->map);
                    extent_fini(&fs[j]->kept_map);
                    extent_fini(&fs[j]->turned_away);
                    kv_fini(&fs[j]->meta);
                    free(fs[j]);
                }
            }
            key_keep_sent(k, NULL);
            free(k);
        }
    }
    free(c->keys);
    orphans_free(c);
    prefetch_end(c);
    dirs_free_all(c);
    while (c->remotes != NULL) {
        struct cache_remote *r = c->remotes;
        c->remotes = r->next;
        free(r->prefix);
        free(r);
    }
    while (c->idents != NULL) {
        struct cident *i = c->idents;
        c->idents = i->next;
        if (i->be != NULL) {
            be_close(i->be);
        }
        free(i->name);
        free(i);
    }
    if (c->http != NULL) {
        http_engine_free(c->http);
    }
    if (c->journal != NULL) {
        journal_close(c->journal);
    }
    spool_close(c->spool);
    pool_free(c->workers);
    if (c->lock_fd >= 0) {
        close(c->lock_fd);
    }
    free(c->dir);
    cond_fini(&c->sched_cond);
    cond_fini(&c->idle_cond);
    mutex_fini(&c->lock);
    free(c);
}

static int load_counter(void *ctx, const char *name, int64_t value)
{
    struct cache *c = ctx;
    if (strcmp(name, "files") == 0) {
        c->files_total = (uint64_t)value;
    } else if (strcmp(name, "bytes") == 0) {
        c->bytes_total = (uint64_t)value;
    }
    return 0;
}

static int open_stores(struct cache *c, struct errinfo *reterr)
{
    int err = journal_open(c->dir, &c->journal, reterr);
    if (err == 0) {
        err = spool_open(c->dir, c->opt.cache_size, 0, &c->spool, reterr);
    }
    if (err < 0) {
        return err;
    }
    c->power_lost = journal_previous_boot_differs(c->journal);
    c->next_seq = journal_max_seq(c->journal) + 1;
    c->next_spool_id = journal_max_spool_id(c->journal) + 1;
    (void)journal_counters(c->journal, load_counter, c);
    err = recover_load(c, reterr);
    if (err == 0) {
        err = journal_boot_settled(c->journal);
        if (err < 0) {
            return err_set(reterr, ERR_LOCAL, err, "%s: the journal cannot be written", c->dir);
        }
    }
    return err;
}

int cache_open(const struct cache_options *o, struct cache **ret_cache, struct errinfo *reterr)
{
    int err = prepare_dir(o->dir, reterr);
    if (err < 0) {
        return err;
    }
    /* Part buffers come and go by the megabyte: they are to go back to the system, and not to lie in every thread's arena,
     * or the daemon would hold a multiple of its budget. */
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
    mallopt(M_ARENA_MAX, 4);
    struct cache *c = cache_new(o->dir);
    c->opt = *o;
    block_limit((size_t)(o->memory / 8)); /* that much beside the budget */
    c->opt.dir = c->dir;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    err = take_lock(c, reterr);
    if (err == 0) {
        err = pool_new(&c->workers, (unsigned)MAX(cpus * 2, (long)WORKERS_MIN), "worker");
        if (err == 0) {
            err = http_engine_new(c->workers, NULL, &c->http);
        }
        if (err < 0) {
            err_set(reterr, ERR_LOCAL, err, "cannot start threads: %s", strerror(-err));
        }
    }
    if (err == 0) {
        err = open_stores(c, reterr);
    }
    if (err == 0) {
        err = -pthread_create(&c->scheduler, NULL, sched_main, c);
        c->scheduler_runs = err == 0;
        if (err < 0) {
            err_set(reterr, ERR_LOCAL, err, "cannot start threads: %s", strerror(-err));
        }
    }
    if (err < 0) {
        cache_free(c);
        return err;
    }
    *ret_cache = c;
    return 0;
}

int cache_open_readonly(const char *dir, struct cache **ret_cache, struct errinfo *reterr)
{
    struct cache *c = cache_new(dir);
    cache_options_default(&c->opt);
    c->opt.dir = c->dir;
    c->read_only = true;
    int err = journal_open_readonly(dir, &c->journal, reterr);
    if (err == 0) {
        (void)journal_counters(c->journal, load_counter, c);
        err = recover_load(c, reterr);
    }
    if (err < 0) {
        cache_free(c);
        return err;
    }
    *ret_cache = c;
    return 0;
}

void cache_close(struct cache *c)
{
    if (c == NULL) {
        return;
    }
    cache_lock(c);
    c->closing = true;
    c->refuse_new = true;
    cond_broadcast(&c->sched_cond);
    cache_unlock(c);
    if (c->scheduler_runs) {
        pthread_join(c->scheduler, NULL);
    }
    if (c->http != NULL) {
        http_engine_stop(c->http); /* everything in flight ends, canceled; the journal keeps what it was for */
    }
    cache_lock(c);
    for (struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        if (k->x != NULL) {
            xfer_call_off(c, k);
        }
    }
    while (c->async > 0) {
        cache_unlock(c); /* answers go out, and what they free may end more */
        cache_lock(c);
        if (c->async > 0) {
            cond_wait_until(&c->idle_cond, &c->lock, time_mono_ns() + 100000000LL);
        }
    }
    cache_unlock(c);
    if (c->journal != NULL && !c->read_only) {
        journal_flush(c->journal, true);
    }
    if (c->workers != NULL) {
        pool_drain(c->workers);
    }
    cache_free(c);
}

void cache_refuse_new(struct cache *c)
{
    cache_lock(c);
    c->refuse_new = true;
    cache_unlock(c);
}

/* ---- remotes ---- */

static char *normal_prefix(const char *p)
{
    while (*p == '/') {
        p++;
    }
    size_t n = strlen(p);
    return n == 0 || p[n - 1] == '/' ? mem_strdup(p) : mem_printf("%s/", p);
}

struct cache_remote *cache_remote_find(struct cache *c, const char *name)
{
    cache_lock(c);
    struct cache_remote *r = c->remotes;
    while (r != NULL && strcmp(r->conf->name, name) != 0) {
        r = r->next;
    }
    cache_unlock(c);
    return r;
}

int cache_remote_add(struct cache *c, const struct conf_remote *conf, bool probe, struct cache_remote **ret_remote,
                     struct errinfo *reterr)
{
    struct cache_remote *old = cache_remote_find(c, conf->name);
    const struct be_env env = {.workers = c->workers, .http = c->http};
    struct be *be;
    int err = be_open(conf, &env, &be, reterr);
    if (err < 0) {
        return err;
    }
    if (old != NULL) {
        bool same = strcmp(be_identity(be), old->ident->name) == 0;
        be_close(be);
        if (!same) {
            return err_set(reterr, ERR_INVALID, -EEXIST, "[%s] now names another bucket than the running daemon's [%s] (%s)",
                           conf->name, conf->name, old->ident->name);
        }
        *ret_remote = old;
        return 0;
    }
    if (probe) {
        err = be_probe(be, reterr);
        if (err < 0) {
            be_close(be);
            return err;
        }
    }
    if (c->opt.be_wrap != NULL) {
        be = c->opt.be_wrap(c->opt.be_wrap_ctx, be);
    }
    uint32_t id;
    err = journal_remote_id(c->journal, be_identity(be), &id, reterr);
    if (err < 0) {
        be_close(be);
        return err;
    }
    CLEANUP(mem_freep) char *mark = mem_printf("foreign-attr-%u", id);
    int64_t foreign = 0;
    (void)journal_mark_get(c->journal, mark, &foreign); /* not there: not yet known */
    struct cache_remote *r = mem_zalloc(sizeof(*r));
    r->cache = c;
    r->conf = conf;
    r->prefix = normal_prefix(conf->prefix);
    struct be *unused = NULL;
    cache_lock(c);
    struct cident *i = ident_find(c, id);
    if (i == NULL) {
        i = mem_zalloc(sizeof(*i));
        i->id = id;
        i->name = mem_strdup(be_identity(be));
        i->next = c->idents;
        c->idents = i;
    }
    if (i->be == NULL) {
        i->foreign_posix = foreign < 0;
        i->samples = foreign > 0 ? (unsigned)MIN(foreign, 1000) : 0;
        i->be = be;
        i->conf = conf;
        i->caps = be->caps;
        i->limits = be->limits;
        recover_ident_locked(c, i);
    } else {
        unused = be; /* the same bucket under another section: one object store serves both */
    }
    r->ident = i;
    r->next = c->remotes;
    c->remotes = r;
    cache_kick_locked(c);
    cache_unlock(c);
    if (unused != NULL) {
        be_close(unused);
    }
    *ret_remote = r;
    return 0;
}

int cache_remote_renew(struct cache *c, struct cache_remote *r, const struct conf_remote *conf, bool probe,
                       struct errinfo *reterr)
{
    const struct be_env env = {.workers = c->workers, .http = c->http};
    struct be *be;
    int err = be_open(conf, &env, &be, reterr);
    if (err < 0) {
        return err;
    }
    if (strcmp(be_identity(be), r->ident->name) != 0) {
        err = err_set(reterr, ERR_INVALID, -EEXIST, "[%s] now names another bucket than the running daemon's (%s)", conf->name,
                      r->ident->name);
    } else if (probe) {
        err = be_probe(be, reterr);
    }
    be_close(be);
    if (err < 0 || r->ident->conf != r->conf) {
        return err; /* another section of the same bucket is the one whose credentials are used */
    }
    err = be_renew(r->ident->be, conf, reterr);
    if (err == 0) {
        cache_lock(c);
        (void)pause_lift(c, r->ident);
        cache_unlock(c);
    }
    return err;
}

const char *cache_remote_name(const struct cache_remote *r)
{
    return r->conf->name;
}

const char *cache_remote_prefix(const struct cache_remote *r)
{
    return r->prefix;
}

const char *cache_remote_identity(const struct cache_remote *r)
{
    return r->ident->name;
}

void cache_statfs(struct cache *c, struct cache_remote *r, struct cstatfs *ret)
{
    (void)c;
    ret->total_bytes = ret->free_bytes = 1ULL << 60;
    struct statvfs st;
    if (strcmp(r->conf->provider, "local") == 0 && statvfs(r->conf->path, &st) == 0) {
        ret->total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
        ret->free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    }
}

/* The link to r in a list of waiting requests, else the list's end. */
static struct creq **waiter_link(struct creq **list, const struct creq *r)
{
    while (*list != NULL && *list != r) {
        list = &(*list)->next;
    }
    return list;
}

void cache_interrupt(struct cache *c, struct creq *r)
{
    cache_lock(c);
    /* Where a request may be parked for long: for room in the spool, at a slot's fsync, at a listing. The rest end by time-outs. */
    if (room_interrupt(c, r)) {
        cache_unlock(c);
        return;
    }
    struct creq *none = NULL, **pp = &none;
    for (struct ckey *k = c->dirty_head; *pp == NULL && k != NULL; k = k->dirty_next) {
        pp = waiter_link(&k->fsync_waiters, r);
    }
    for (size_t i = 0; *pp == NULL && i < c->n_dir_buckets; i++) {
        for (struct cdirnode *d = c->dirs[i]; *pp == NULL && d != NULL; d = d->hash_next) {
            pp = waiter_link(&d->waiters, r);
        }
    }
    if (*pp == r) {
        *pp = r->next;
        creq_end_locked(c, r, -EINTR);
    }
    cache_unlock(c);
}

/* ---- attachments ---- */

int cache_attach_add(struct cache *c, const char *dir, const char *spec, const char *remote, const char *prefix,
                     const char *options)
{
    struct jattach a = {.dir = dir, .spec = spec, .remote = remote, .prefix = prefix, .options = options};
    struct jtx *tx = jtx_new();
    jtx_attach_put(tx, &a);
    journal_submit(c->journal, tx, 0, NULL, NULL);
    return journal_flush(c->journal, true);
}

int cache_attach_remove(struct cache *c, const char *dir)
{
    struct jtx *tx = jtx_new();
    jtx_attach_delete(tx, dir);
    journal_submit(c->journal, tx, 0, NULL, NULL);
    return journal_flush(c->journal, false);
}

struct attach_each {
    int (*fn)(void *ctx, const char *dir, const char *spec, const char *options);
    void *ctx;
};

static int attach_one(void *ctx, const struct jattach *a)
{
    struct attach_each *e = ctx;
    return e->fn(e->ctx, a->dir, a->spec, a->options);
}

int cache_attach_each(struct cache *c, int (*fn)(void *ctx, const char *dir, const char *spec, const char *options), void *ctx)
{
    struct attach_each e = {.fn = fn, .ctx = ctx};
    return journal_each_attach(c->journal, attach_one, &e);
}
