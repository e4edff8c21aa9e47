#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "mem.h"
#include "sync.h"

static struct be *wrap(void *ctx, struct be *be)
{
    struct fx *fx = ctx;
    struct be *f = NULL;
    assert_int_equal(be_fault_new(be, &f), 0);
    assert_true(fx->n_fault < FX_REMOTES);
    fx->fault[fx->n_fault++] = f;
    f->caps &= ~fx->caps_without;
    return f;
}

void fx_init(struct fx *fx, const char *provider)
{
    memset(fx, 0, sizeof(*fx));
    (void)snprintf(fx->dir, sizeof(fx->dir), "/tmp/objmig-fault.XXXXXX");
    assert_non_null(mkdtemp(fx->dir));
    const char *level = getenv("OBJMIG_TEST_LOG");
    enum log_level l = LOG_LEVEL_ERROR;
    if (level != NULL) {
        (void)log_parse_level(level, &l);
    }
    log_set_level(l);
    for (unsigned i = 0; i < FX_REMOTES; i++) {
        struct conf_remote *r = &fx->conf[i];
        r->name = mem_printf("%c", 'a' + (int)i);
        r->provider = mem_strdup(provider);
        r->bucket = mem_printf("%s-%c", fx->dir, 'a' + (int)i);
        r->path = mem_printf("%s/%c", fx->dir, 'a' + (int)i);
        r->region = mem_strdup("");
        r->prefix = mem_strdup("");
        r->endpoint = mem_strdup("");
        r->storage_class = mem_strdup("");
        r->encryption = mem_strdup("");
        r->small_file_threshold = r->part_size = FX_THRESHOLD;
        r->small_slots = 16;
        r->big_slots = 4;
        r->file_md5 = CONF_MD5_ON;
        r->request_timeout_ms = 400;
        r->request_try_count = 1;
        r->limits.min_part = 1024;
        assert_int_equal(mkdir(r->path, 0700), 0);
    }
    cache_options_default(&fx->opt);
    fx->opt.writeback_delay_ms = 60000;
    fx->opt.wait_timeout_ms = 10000;
    fx->opt.be_wrap = wrap;
    fx->opt.be_wrap_ctx = fx;
}

static void look_start(struct fx *fx)
{
    if (fx->pool != NULL) {
        return;
    }
    assert_int_equal(pool_new(&fx->pool, 2, "looker"), 0);
    const struct be_env env = {.workers = fx->pool};
    for (unsigned i = 0; i < FX_REMOTES; i++) {
        struct errinfo e = {0};
        if (be_open(&fx->conf[i], &env, &fx->look[i], &e) < 0) {
            fail_msg("%s", e.message);
        }
    }
}

static void look_stop(struct fx *fx)
{
    if (fx->pool != NULL) {
        for (unsigned i = 0; i < FX_REMOTES; i++) {
            be_close(fx->look[i]);
        }
        pool_free(fx->pool);
        fx->pool = NULL;
    }
}

void fx_open_cache(struct fx *fx)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/cache", fx->dir);
    struct errinfo e = {0};
    fx->opt.dir = dir;
    fx->n_fault = 0;
    if (cache_open(&fx->opt, &fx->c, &e) < 0) {
        fail_msg("%s", e.message);
    }
    fx->opt.dir = NULL;
}

void fx_add_remotes(struct fx *fx)
{
    for (unsigned i = 0; i < FX_REMOTES; i++) {
        struct errinfo e = {0};
        if (cache_remote_add(fx->c, &fx->conf[i], false, &fx->r[i], &e) < 0) {
            fail_msg("%s", e.message);
        }
    }
}

void fx_open(struct fx *fx)
{
    fx_open_cache(fx);
    fx_add_remotes(fx);
}

void fx_close(struct fx *fx)
{
    cache_close(fx->c);
    fx->c = NULL;
    fx->n_fault = 0;
    look_stop(fx); /* no thread is left: the process may fork */
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fx_fini(struct fx *fx)
{
    if (fx->c != NULL) {
        cache_close(fx->c);
    }
    look_stop(fx);
    for (unsigned i = 0; i < FX_REMOTES; i++) {
        struct conf_remote *r = &fx->conf[i];
        be_memory_forget(r->bucket);
        char *all[] = {r->name, r->provider, r->bucket, r->path, r->region, r->prefix, r->endpoint, r->storage_class,
                       r->encryption};
        for (size_t j = 0; j < ARRAY_LEN(all); j++) {
            free(all[j]);
        }
    }
    (void)nftw(fx->dir, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

int fx_setup(void **state)
{
    struct fx *fx = mem_zalloc(sizeof(*fx));
    *state = fx;
    fx_init(fx, "memory");
    fx_open(fx);
    return 0;
}

int fx_teardown(void **state)
{
    fx_fini(*state);
    free(*state);
    return 0;
}

void fx_sleep_ms(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

bool fx_idle_within(struct fx *fx, unsigned ms)
{
    int64_t end = time_mono_ns() + (int64_t)ms * 1000000;
    do {
        cache_hurry(fx->c, NULL);
        if (cache_idle(fx->c)) {
            return true;
        }
        fx_sleep_ms(2);
    } while (time_mono_ns() < end);
    return false;
}

void fx_report(struct fx *fx)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    if (fx->c != NULL && cache_status(fx->c, NULL, &b) == 0) {
        (void)fprintf(stderr, "%s\n", buf_str(&b));
    }
}

struct cprogress fx_progress(struct fx *fx)
{
    struct cprogress p;
    cache_progress(fx->c, NULL, UINT64_MAX, &p);
    return p;
}

void fx_fault(struct fx *fx, unsigned r, enum be_kind kind, unsigned skip, unsigned times, int status,
              enum err_class cls, bool after)
{
    const struct be_fault_rule rule = {
        .kind = kind, .skip = skip, .times = times, .status = status, .cls = cls, .after = after};
    be_fault_add(fx->fault[r], &rule);
}

void fx_delay(struct fx *fx, unsigned r, enum be_kind kind, unsigned skip, unsigned times, unsigned ms)
{
    const struct be_fault_rule rule = {.kind = kind, .skip = skip, .times = times, .delay_ms = ms};
    be_fault_add(fx->fault[r], &rule);
}

void fx_hold(struct fx *fx, unsigned r, enum be_kind kind, unsigned times)
{
    const struct be_fault_rule rule = {.kind = kind, .times = times, .hold = true};
    be_fault_add(fx->fault[r], &rule);
}

void fx_let_go(struct fx *fx, unsigned r)
{
    be_fault_clear(fx->fault[r]);
}

unsigned fx_calls(struct fx *fx, unsigned r, enum be_kind kind)
{
    return be_fault_calls(fx->fault[r], kind);
}

unsigned fx_ended(struct fx *fx, unsigned r, enum be_kind kind)
{
    return be_fault_seen(fx->fault[r], kind).ended;
}

int64_t fx_gap_ns(struct fx *fx, unsigned r, enum be_kind ended, enum be_kind begun)
{
    return be_fault_seen(fx->fault[r], begun).began_ns - be_fault_seen(fx->fault[r], ended).ended_ns;
}

/* ---- waiting ---- */

void fx_posted(struct creq *r)
{
    sem_post(r->owner);
}

static size_t parent_len(const char *key)
{
    size_t n = strlen(key);
    n -= n > 0 && key[n - 1] == '/';
    while (n > 0 && key[n - 1] != '/') {
        n--;
    }
    return n;
}

static bool is_dir(const char *key)
{
    return key[0] == '\0' || key[strlen(key) - 1] == '/';
}

static struct cref ref(struct fx *fx, unsigned r, const char *key)
{
    return (struct cref){.remote = fx->r[r], .key = key, .dir = is_dir(key)};
}

int fx_lookup(struct fx *fx, unsigned r, const char *key, struct cattr *ret)
{
    CLEANUP(mem_freep) char *parent = mem_strndup(key, parent_len(key));
    CLEANUP(mem_freep) char *other = is_dir(key) ? mem_strndup(key, strlen(key) - 1) : mem_printf("%s/", key);
    struct clookup l = {.parent = parent, .key = is_dir(key) ? other : key, .prefix = is_dir(key) ? key : other};
    l.r.ref = ref(fx, r, key);
    FX_WAIT(&l.r, cache_lookup(fx->c, &l));
    if (l.r.status == 0 && l.kind != (is_dir(key) ? CLOOKUP_DIR : CLOOKUP_FILE)) {
        return -ENOENT;
    }
    if (ret != NULL) {
        *ret = l.r.attr;
    }
    return l.r.status;
}

int fx_create(struct fx *fx, unsigned r, const char *key, struct chandle **ret)
{
    struct creq q = {.ref = ref(fx, r, key), .attr.mode = 0644};
    FX_WAIT(&q, cache_create(fx->c, &q, O_RDWR | O_CREAT | O_TRUNC));
    *ret = q.handle;
    return q.status;
}

int fx_openf(struct fx *fx, unsigned r, const char *key, int flags, struct chandle **ret)
{
    struct creq q = {.ref = ref(fx, r, key)};
    FX_WAIT(&q, cache_open_file(fx->c, &q, flags));
    *ret = q.handle;
    return q.status;
}

int fx_write(struct fx *fx, struct chandle *h, uint64_t off, const void *p, size_t n)
{
    struct creq q = {.offset = off, .size = n, .data = p};
    FX_WAIT(&q, cache_write(fx->c, &q, h));
    return q.status != 0 ? q.status : q.done_bytes == n ? 0 : -EIO;
}

int fx_flush(struct fx *fx, struct chandle *h)
{
    struct creq q = {.pid = fx->pid};
    FX_WAIT(&q, cache_flush(fx->c, &q, h));
    return q.status;
}

int fx_fsync(struct fx *fx, struct chandle *h)
{
    struct creq q = {0};
    FX_WAIT(&q, cache_fsync(fx->c, &q, h));
    return q.status;
}

int fx_fsyncdir(struct fx *fx, unsigned r, const char *prefix)
{
    struct creq q = {.ref = ref(fx, r, prefix)};
    FX_WAIT(&q, cache_fsyncdir(fx->c, &q));
    return q.status;
}

int fx_end(struct fx *fx, struct chandle *h)
{
    int err = fx_flush(fx, h);
    cache_release(fx->c, h);
    return err;
}

struct read_copy {
    struct creq q;
    void *to;
    sem_t sem;
};

/* The bytes are the cache's again once done returns. */
static void read_done(struct creq *q)
{
    struct read_copy *c = CONTAINER_OF(q, struct read_copy, q);
    if (q->status == 0 && q->done_bytes > 0) {
        memcpy(c->to, q->data, q->done_bytes);
    }
    sem_post(&c->sem);
}

ssize_t fx_read(struct fx *fx, struct chandle *h, uint64_t off, void *p, size_t n)
{
    size_t got = 0;
    while (got < n) {
        struct read_copy c = {.q = {.offset = off + got, .size = n - got, .done = read_done}, .to = (char *)p + got};
        sem_init(&c.sem, 0, 0);
        cache_read(fx->c, &c.q, h);
        while (sem_wait(&c.sem) < 0) {
        }
        sem_destroy(&c.sem);
        if (c.q.status != 0) {
            return c.q.status;
        }
        if (c.q.done_bytes == 0) {
            break;
        }
        got += c.q.done_bytes;
    }
    return (ssize_t)got;
}

ssize_t fx_range(struct fx *fx, struct chandle *from, uint64_t off, struct chandle *to, uint64_t to_off, size_t n)
{
    struct creq q = {.offset = off, .size = n};
    FX_WAIT(&q, cache_copy_range(fx->c, &q, from, to, to_off));
    return q.status != 0 ? q.status : (ssize_t)q.done_bytes;
}

int fx_unlink(struct fx *fx, unsigned r, const char *key)
{
    struct creq q = {.ref = ref(fx, r, key), .pid = fx->pid};
    FX_WAIT(&q, cache_unlink(fx->c, &q));
    return q.status;
}

int fx_rename(struct fx *fx, unsigned r, const char *from, const char *to, unsigned flags)
{
    int err = fx_lookup(fx, r, from, NULL); /* as the kernel does */
    if (err < 0) {
        return err;
    }
    err = fx_lookup(fx, r, to, NULL);
    if (err < 0 && err != -ENOENT) {
        return err;
    }
    struct creq q = {.ref = ref(fx, r, from)};
    const struct cref dst = ref(fx, r, to);
    FX_WAIT(&q, cache_rename(fx->c, &q, &dst, flags));
    return q.status;
}

int fx_mkdir_as(struct fx *fx, unsigned r, const char *prefix, mode_t mode, uid_t uid)
{
    if (fx_lookup(fx, r, prefix, NULL) == 0) {
        return -EEXIST;
    }
    struct creq q = {.ref = ref(fx, r, prefix), .attr.mode = mode, .uid = uid, .gid = fx->opt.gid};
    FX_WAIT(&q, cache_mkdir(fx->c, &q));
    return q.status;
}

int fx_mkdir(struct fx *fx, unsigned r, const char *prefix)
{
    return fx_mkdir_as(fx, r, prefix, 0777 & ~fx->opt.umask, fx->opt.uid);
}

int fx_rmdir(struct fx *fx, unsigned r, const char *prefix)
{
    struct creq q = {.ref = ref(fx, r, prefix)};
    FX_WAIT(&q, cache_rmdir(fx->c, &q));
    return q.status;
}

int fx_setattr(struct fx *fx, unsigned r, const char *key, unsigned mask, const struct cattr *a)
{
    struct creq q = {.ref = ref(fx, r, key), .attr = *a};
    FX_WAIT(&q, cache_setattr(fx->c, &q, mask));
    return q.status;
}

int fx_setxattr(struct fx *fx, unsigned r, const char *key, const char *name, const char *value)
{
    struct creq q = {.ref = ref(fx, r, key), .data = value, .size = strlen(value)};
    FX_WAIT(&q, cache_setxattr(fx->c, &q, name, 0));
    return q.status;
}

int fx_removexattr(struct fx *fx, unsigned r, const char *key, const char *name)
{
    struct creq q = {.ref = ref(fx, r, key)};
    FX_WAIT(&q, cache_removexattr(fx->c, &q, name));
    return q.status;
}

static void xattr_done(struct creq *q)
{
    struct read_copy *c = CONTAINER_OF(q, struct read_copy, q);
    char *to = c->to;
    to[0] = '\0';
    if (q->status == 0 && q->size < 256) {
        memcpy(to, q->data, q->size);
        to[q->size] = '\0';
    }
    sem_post(&c->sem);
}

int fx_getxattr(struct fx *fx, unsigned r, const char *key, const char *name, char ret[256])
{
    struct read_copy c = {.q = {.ref = ref(fx, r, key), .done = xattr_done}, .to = ret};
    sem_init(&c.sem, 0, 0);
    cache_getxattr(fx->c, &c.q, name);
    while (sem_wait(&c.sem) < 0) {
    }
    sem_destroy(&c.sem);
    return c.q.status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct cdir *fx_ls_begin(struct fx *fx, unsigned r, const char *prefix)
{
    struct creq q = {.ref = ref(fx, r, prefix)};
    FX_WAIT(&q, cache_opendir(fx->c, &q));
    return q.status == 0 ? q.dir : NULL;
}

int fx_readdir_interrupted(struct fx *fx, unsigned r, const char *prefix, struct cdir *d)
{
    struct creq q = {.ref = ref(fx, r, prefix)};
    FX_WAIT(&q, (cache_readdir(fx->c, &q, d, 0), cache_interrupt(fx->c, &q)));
    return q.status;
}

char *fx_ls(struct fx *fx, unsigned r, const char *prefix)
{
    return fx_ls_end(fx, r, prefix, fx_ls_begin(fx, r, prefix));
}

char *fx_ls_end(struct fx *fx, unsigned r, const char *prefix, struct cdir *d)
{
    assert_non_null(d);
    char *names[512];
    size_t n = 0;
    for (uint64_t at = 0;;) {
        struct creq p = {.ref = ref(fx, r, prefix)};
        FX_WAIT(&p, cache_readdir(fx->c, &p, d, at));
        if (p.status != 0 || p.size == 0) {
            break;
        }
        for (uint64_t end = at + p.size; at < end; at++) {
            struct cdirent e;
            if (n < ARRAY_LEN(names) && cache_dirent(d, at, &e)) {
                names[n++] = mem_strndup(e.rest, e.rest_len);
            }
        }
    }
    cache_closedir(d);
    qsort(names, n, sizeof(names[0]), by_name);
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < n; i++) {
        (void)buf_addf(&b, "%s%s", i > 0 ? " " : "", names[i]);
        free(names[i]);
    }
    return b.data != NULL ? buf_take(&b) : mem_strdup("");
}

/* ---- as programs do it ---- */

int fx_put(struct fx *fx, unsigned r, const char *key, const void *p, size_t n)
{
    struct chandle *h;
    int err = fx_lookup(fx, r, key, NULL);
    err = err == 0 ? fx_openf(fx, r, key, O_WRONLY | O_TRUNC, &h) : err == -ENOENT ? fx_create(fx, r, key, &h) : err;
    if (err < 0) {
        return err;
    }
    err = n > 0 ? fx_write(fx, h, 0, p, n) : 0;
    int end = fx_end(fx, h);
    return err < 0 ? err : end;
}

int fx_cp(struct fx *fx, unsigned r, const char *from, unsigned to_r, const char *to)
{
    struct chandle *in, *out;
    int err = fx_lookup(fx, r, from, NULL);
    if (err == 0) {
        err = fx_openf(fx, r, from, O_RDONLY, &in);
    }
    if (err < 0) {
        return err;
    }
    err = fx_lookup(fx, to_r, to, NULL);
    err = err == 0 ? fx_openf(fx, to_r, to, O_WRONLY | O_TRUNC, &out) : err == -ENOENT ? fx_create(fx, to_r, to, &out) : err;
    if (err < 0) {
        (void)fx_end(fx, in);
        return err;
    }
    ssize_t n;
    uint64_t off = 0;
    while ((n = fx_range(fx, in, off, out, off, 1u << 30)) > 0) {
        off += (uint64_t)n;
    }
    int end = fx_end(fx, out);
    (void)fx_end(fx, in);
    return n < 0 ? (int)n : end;
}

ssize_t fx_get(struct fx *fx, unsigned r, const char *key, void *p, size_t max)
{
    struct chandle *h;
    int err = fx_lookup(fx, r, key, NULL);
    if (err == 0) {
        err = fx_openf(fx, r, key, O_RDONLY, &h);
    }
    if (err < 0) {
        return err;
    }
    ssize_t n = fx_read(fx, h, 0, p, max);
    (void)fx_end(fx, h);
    return n;
}

bool fx_is(struct fx *fx, unsigned r, const char *key, const char *text)
{
    char got[4096];
    ssize_t n = fx_get(fx, r, key, got, sizeof(got));
    return text == NULL ? n == -ENOENT : n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

/* ---- at the provider ---- */

ssize_t fx_at(struct fx *fx, unsigned r, const char *key, void *p, size_t max)
{
    look_start(fx);
    struct be_read q = {.op = {.key = key}, .buf = p, .len = max};
    int err = BE_SYNC(fx->look[r], be_read, &q);
    ssize_t n = err != 0 ? (q.op.err.cls == ERR_ABSENT ? -ENOENT : err) : (ssize_t)q.got;
    be_read_fini(&q);
    return n;
}

bool fx_at_is(struct fx *fx, unsigned r, const char *key, const char *text)
{
    char got[4096];
    ssize_t n = fx_at(fx, r, key, got, sizeof(got));
    return text == NULL ? n == -ENOENT : n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

void fx_at_put(struct fx *fx, unsigned r, const char *key, const char *text)
{
    look_start(fx);
    struct be_write q = {.op = {.key = key}, .data = text, .len = strlen(text)};
    assert_int_equal(BE_SYNC(fx->look[r], be_write, &q), 0);
}

char *fx_at_meta(struct fx *fx, unsigned r, const char *key, const char *name)
{
    look_start(fx);
    struct be_stat q = {.op = {.key = key}};
    (void)BE_SYNC(fx->look[r], be_stat, &q);
    const char *v = kv_get(&q.meta, name);
    char *copy = v != NULL ? mem_strdup(v) : NULL;
    be_stat_fini(&q);
    return copy;
}

unsigned fx_at_count(struct fx *fx, unsigned r, const char *prefix)
{
    look_start(fx);
    struct be_list q = {.prefix = prefix};
    assert_int_equal(BE_SYNC(fx->look[r], be_list, &q), 0);
    unsigned n = (unsigned)q.n_entries;
    be_list_fini(&q);
    return n;
}

char *fx_at_keys(struct fx *fx, unsigned r)
{
    look_start(fx);
    struct be_list q = {.prefix = ""};
    assert_int_equal(BE_SYNC(fx->look[r], be_list, &q), 0);
    assert_null(q.next_cursor);
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < q.n_entries; i++) {
        (void)buf_addf(&b, "%s%s", i > 0 ? " " : "", q.entries[i].key);
    }
    be_list_fini(&q);
    return b.data != NULL ? buf_take(&b) : mem_strdup("");
}

unsigned fx_at_uploads(struct fx *fx, unsigned r)
{
    look_start(fx);
    struct be_uploads q = {.prefix = ""};
    assert_int_equal(BE_SYNC(fx->look[r], be_mp_uploads, &q), 0);
    unsigned n = (unsigned)q.n_uploads;
    be_uploads_fini(&q);
    return n;
}

void fx_pattern(void *p, size_t n, uint64_t off, unsigned seed)
{
    unsigned char *b = p;
    for (size_t i = 0; i < n; i++) {
        uint64_t x = (off + i) * 0x9e3779b97f4a7c15u + seed * 0xd1342543de82ef95u;
        b[i] = (unsigned char)(x >> 56);
    }
}
