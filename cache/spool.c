/* One entry a file on disk, in a hash by id: how many bytes it takes and its descriptor while one is open.
 *
 * Invariants, all under the lock:
 *   - used = sum of entry.bytes over all entries, removed ones too until their last user has gone;
 *   - an entry is in the LRU list if and only if it has a descriptor and no user;
 *   - a removed entry is in no list but the hash, has users, and is freed by the last of them.
 *
 * The lock is not held over open, read, write, unlink, close or fsync; only over fstat and fstatvfs, which answer from
 * memory. An entry with users > 0 keeps its descriptor, so it can be used without the lock.
 *
 * Accounting goes by what fstat says after each change, so punching, sharing and delayed allocation count as the file
 * system counts them, and what is added for a file is what is taken off when it goes: no drift.
 *
 * One flat directory: names are opened by id, never searched for, and file systems of the last twenty years index
 * directories; 100,000 files cost no more a file than 100. */
#include "spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "buf.h"
#include "kill.h"
#include "log.h"
#include "mem.h"
#include "sync.h"

#define MAX_OPEN_DEFAULT 512
#define NAME_DIGITS 16
#define ALIGN 4096 /* what sharing of blocks needs at least */
#define COPY_CHUNK ((size_t)1 << 20)
#define SYNCFS_INTERVAL_NS INT64_C(5000000000)
#define STATVFS_INTERVAL_NS INT64_C(50000000)
#define HIGH_MARGIN_MAX (UINT64_C(256) << 20)

struct sfile {
    struct sfile *hash_next;
    struct sfile *lru_prev, *lru_next;
    uint64_t id;
    uint64_t bytes;
    int fd; /* -1 = closed */
    unsigned users;
    bool removed;
    bool making;      /* spool_create is at work: wait for made */
    bool name_synced; /* its directory entry is on disk */
};

struct spool {
    unsigned magic;
    int dir_fd;
    uint64_t cache_size;
    unsigned max_open;

    struct cond made;

    struct mutex lock; /* all below */
    struct sfile **buckets;
    size_t n_buckets, n_entries, n_removed;
    struct sfile *lru_head, *lru_tail; /* least recently used first */
    unsigned n_open;
    uint64_t used;

    bool high;
    int64_t fs_free;       /* above the reserve, when last asked */
    uint64_t fs_used_then; /* used at that time */
    int64_t fs_asked_ns;   /* monotonic; 0 = never */

    bool no_clone;         /* the file system cannot share blocks */
    bool dirty;            /* something was written since the last syncfs began */
    unsigned syncing;      /* threads in syncfs */
    int64_t sync_began_ns; /* monotonic; 0 = never */
    int64_t synced_wall_ns, synced_ns; /* when the newest that has ended well began; 0 = none has */
    int sync_error; /* sticky */
};
#define SPOOL_MAGIC 0x0a5b001fu

static void name_of(uint64_t id, char ret[NAME_DIGITS + 1])
{
    (void)snprintf(ret, NAME_DIGITS + 1, "%016llx", (unsigned long long)id);
}

/* Only names this program makes; everything else in the directory is left alone. */
static bool id_of(const char *name, uint64_t *ret)
{
    uint8_t bytes[NAME_DIGITS / 2];
    if (strlen(name) != NAME_DIGITS || strspn(name, "0123456789abcdef") != NAME_DIGITS ||
        !hex_decode(name, sizeof(bytes), bytes)) {
        return false;
    }
    uint64_t id = 0;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        id = id << 8 | bytes[i];
    }
    *ret = id;
    return true;
}

static int space_errno(int err)
{
    return err == EDQUOT || err == EFBIG ? -ENOSPC : -err;
}

/* --- entries: all under the lock --- */

static struct sfile **slot_of(struct spool *s, uint64_t id)
{
    /* Ids are consecutive: the low bits spread them evenly. */
    return &s->buckets[id & (s->n_buckets - 1)];
}

static struct sfile *find(struct spool *s, uint64_t id)
{
    struct sfile *f = *slot_of(s, id);
    while (f && f->id != id) {
        f = f->hash_next;
    }
    return f;
}

static void grow(struct spool *s)
{
    struct sfile **old = s->buckets;
    size_t n_old = s->n_buckets;
    s->n_buckets = n_old == 0 ? 1024 : n_old * 2;
    s->buckets = mem_zalloc(s->n_buckets * sizeof(struct sfile *));
    for (size_t i = 0; i < n_old; i++) {
        while (old[i]) {
            struct sfile *f = old[i];
            old[i] = f->hash_next;
            struct sfile **slot = slot_of(s, f->id);
            f->hash_next = *slot;
            *slot = f;
        }
    }
    free(old);
}

static struct sfile *insert(struct spool *s, uint64_t id)
{
    if (s->n_entries >= s->n_buckets) {
        grow(s);
    }
    struct sfile *f = mem_zalloc(sizeof(*f));
    f->id = id;
    f->fd = -1;
    struct sfile **slot = slot_of(s, id);
    f->hash_next = *slot;
    *slot = f;
    s->n_entries++;
    return f;
}

static void lru_remove(struct spool *s, struct sfile *f)
{
    *(f->lru_prev ? &f->lru_prev->lru_next : &s->lru_head) = f->lru_next;
    *(f->lru_next ? &f->lru_next->lru_prev : &s->lru_tail) = f->lru_prev;
    f->lru_prev = NULL;
    f->lru_next = NULL;
}

static void lru_append(struct spool *s, struct sfile *f)
{
    f->lru_prev = s->lru_tail;
    f->lru_next = NULL;
    *(s->lru_tail ? &s->lru_tail->lru_next : &s->lru_head) = f;
    s->lru_tail = f;
}

static void account(struct spool *s, struct sfile *f)
{
    struct stat st;
    if (f->fd >= 0 && fstat(f->fd, &st) == 0) {
        uint64_t bytes = (uint64_t)st.st_blocks * 512;
        s->used += bytes - f->bytes; /* wraps rightly downwards */
        f->bytes = bytes;
    }
}

static void unlink_entry(struct spool *s, struct sfile *f)
{
    struct sfile **at = slot_of(s, f->id);
    while (*at != f) {
        at = &(*at)->hash_next;
    }
    *at = f->hash_next;
    s->n_entries--;
}

/* The entry, once nobody is making it any more. */
static struct sfile *find_made(struct spool *s, uint64_t id)
{
    struct sfile *f = find(s, id);
    while (f && f->making) {
        cond_wait(&s->made, &s->lock);
        f = find(s, id);
    }
    return f;
}

/* Takes a removed entry without users out. Returns the descriptor to close, or -1. */
static int forget(struct spool *s, struct sfile *f)
{
    unlink_entry(s, f);
    s->n_removed--;
    s->used -= f->bytes;
    int fd = f->fd;
    if (fd >= 0) {
        s->n_open--;
    }
    free(f);
    return fd;
}

/* --- using a file --- */

static void put(struct spool *s, struct sfile *f, bool changed);

/* The caller may use f->fd until put. NULL: *ret_err says why. */
static struct sfile *get(struct spool *s, uint64_t id, int *ret_err)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    struct sfile *f = find_made(s, id);
    if (!f || f->removed) {
        mutex_unlock(&s->lock);
        *ret_err = -ENOENT;
        return NULL;
    }
    if (f->users++ == 0 && f->fd >= 0) {
        lru_remove(s, f);
    }
    bool is_open = f->fd >= 0;
    mutex_unlock(&s->lock);
    if (is_open) {
        return f;
    }
    char name[NAME_DIGITS + 1];
    name_of(id, name);
    int fd = openat(s->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    int err = fd < 0 ? -errno : 0;
    mutex_lock(&s->lock);
    if (f->fd >= 0) {
        err = 0; /* another thread was faster: one descriptor a file */
    } else if (fd >= 0) {
        f->fd = fd;
        fd = -1;
        s->n_open++;
    }
    mutex_unlock(&s->lock);
    if (fd >= 0) {
        close(fd);
    }
    if (err < 0) {
        put(s, f, false);
        *ret_err = err;
        return NULL;
    }
    return f;
}

/* changed: its blocks may have changed. */
static void put(struct spool *s, struct sfile *f, bool changed)
{
    int victim = -1;
    mutex_lock(&s->lock);
    if (changed) {
        account(s, f);
        s->dirty = true;
    }
    ENSURE(f->users > 0);
    if (--f->users == 0) {
        if (f->removed) {
            victim = forget(s, f);
        } else if (f->fd >= 0) {
            lru_append(s, f);
        }
    }
    /* At most one too many: each put that finds too many takes one away. */
    if (victim < 0 && s->n_open > s->max_open && s->lru_head) {
        struct sfile *old = s->lru_head;
        lru_remove(s, old);
        victim = old->fd;
        old->fd = -1;
        s->n_open--;
    }
    mutex_unlock(&s->lock);
    if (victim >= 0) {
        close(victim);
    }
}

int spool_create(struct spool *s, uint64_t id)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    /* The entry first: whoever is told -EEXIST finds the file. */
    mutex_lock(&s->lock);
    if (find_made(s, id)) {
        mutex_unlock(&s->lock);
        return -EEXIST;
    }
    struct sfile *f = insert(s, id);
    f->making = true;
    mutex_unlock(&s->lock);
    char name[NAME_DIGITS + 1];
    name_of(id, name);
    /* A real name, not O_TMPFILE: it must be there after kill -9. */
    KILL_POINT("spool: before create");
    int fd = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    KILL_POINT("spool: created");
    int err = fd < 0 ? space_errno(errno) : 0;
    mutex_lock(&s->lock);
    f->making = false;
    if (err < 0) {
        unlink_entry(s, f);
        free(f);
    } else {
        f->fd = fd;
        f->users = 1;
        s->n_open++;
    }
    cond_broadcast(&s->made);
    mutex_unlock(&s->lock);
    if (err == 0) {
        put(s, f, true);
    }
    return err;
}

static int write_all(int fd, const char *p, size_t len, uint64_t off)
{
    if (off > INT64_MAX || len > INT64_MAX - off) {
        return -EFBIG;
    }
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)off);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return space_errno(errno);
        }
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static ssize_t read_all(int fd, char *p, size_t len, uint64_t off)
{
    if (off > INT64_MAX || len > INT64_MAX - off) {
        return -EFBIG;
    }
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread(fd, p + got, len - got, (off_t)(off + got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    return (ssize_t)got;
}

int spool_write(struct spool *s, uint64_t id, const void *p, size_t len, uint64_t off)
{
    int err = 0;
    struct sfile *f = get(s, id, &err);
    if (!f) {
        return err;
    }
    KILL_POINT("spool: before write");
    err = write_all(f->fd, p, len, off);
    KILL_POINT("spool: written");
    put(s, f, true);
    return err;
}

ssize_t spool_read(struct spool *s, uint64_t id, void *p, size_t len, uint64_t off)
{
    int err = 0;
    struct sfile *f = get(s, id, &err);
    if (!f) {
        return err;
    }
    ssize_t n = read_all(f->fd, p, len, off);
    put(s, f, false);
    return n;
}

int spool_truncate(struct spool *s, uint64_t id, uint64_t size)
{
    if (size > INT64_MAX) {
        return -EFBIG;
    }
    int err = 0;
    struct sfile *f = get(s, id, &err);
    if (!f) {
        return err;
    }
    do {
        err = ftruncate(f->fd, (off_t)size) < 0 ? space_errno(errno) : 0;
    } while (err == -EINTR);
    put(s, f, true);
    return err;
}

/* Zeros by hand, within the file: where the file system cannot punch. */
static int zero_range(int fd, uint64_t off, uint64_t len)
{
    static const char zeros[65536];
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    uint64_t end = MIN(off + len, (uint64_t)st.st_size);
    int err = 0;
    while (off < end && err == 0) {
        size_t n = (size_t)MIN(end - off, (uint64_t)sizeof(zeros));
        err = write_all(fd, zeros, n, off);
        off += n;
    }
    return err;
}

int spool_punch(struct spool *s, uint64_t id, uint64_t off, uint64_t len)
{
    if (off > INT64_MAX || len > INT64_MAX - off) {
        return -EFBIG;
    }
    if (len == 0) {
        return 0;
    }
    int err = 0;
    struct sfile *f = get(s, id, &err);
    if (!f) {
        return err;
    }
    do {
        err =
            fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) < 0
                ? space_errno(errno)
                : 0;
    } while (err == -EINTR);
    if (err == -EOPNOTSUPP) {
        err = zero_range(f->fd, off, len);
    }
    put(s, f, true);
    return err;
}

static int copy_memory(int src, uint64_t soff, int dst, uint64_t doff, uint64_t len)
{
    CLEANUP(mem_freep) char *chunk = mem_realloc(NULL, COPY_CHUNK);
    while (len > 0) {
        size_t want = (size_t)MIN(len, (uint64_t)COPY_CHUNK);
        ssize_t n = read_all(src, chunk, want, soff);
        if (n < 0) {
            return (int)n;
        }
        if ((size_t)n < want) {
            return -EIO;
        }
        int err = write_all(dst, chunk, want, doff);
        if (err < 0) {
            return err;
        }
        soff += want;
        doff += want;
        len -= want;
    }
    return 0;
}

static int copy_kernel(int src, uint64_t soff, int dst, uint64_t doff, uint64_t len)
{
    while (len > 0) {
        off_t from = (off_t)soff, to = (off_t)doff;
        ssize_t n = copy_file_range(src, &from, dst, &to, (size_t)MIN(len, UINT64_C(1) << 30), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO)) {
            return space_errno(errno);
        }
        if (n <= 0) {
            /* Not supported here; or the end of the source, which reading then finds as well. */
            return copy_memory(src, soff, dst, doff, len);
        }
        soff += (uint64_t)n;
        doff += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int copy_range(struct spool *s, int src, uint64_t soff, int dst, uint64_t doff, uint64_t len)
{
    /* Blocks can be shared where both sides are aligned alike: the middle then, the ends by copying. */
    uint64_t head = (ALIGN - soff % ALIGN) % ALIGN;
    uint64_t middle = len > head ? (len - head) / ALIGN * ALIGN : 0;
    mutex_lock(&s->lock);
    bool try_clone = !s->no_clone && soff % ALIGN == doff % ALIGN && middle > 0;
    mutex_unlock(&s->lock);
    if (try_clone) {
        struct file_clone_range range = {
            .src_fd = src,
            .src_offset = soff + head,
            .src_length = middle,
            .dest_offset = doff + head,
        };
        if (ioctl(dst, FICLONERANGE, &range) == 0) {
            int err = copy_kernel(src, soff, dst, doff, head);
            uint64_t done = head + middle;
            return err < 0 ? err : copy_kernel(src, soff + done, dst, doff + done, len - done);
        }
        if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EXDEV) {
            mutex_lock(&s->lock);
            s->no_clone = true;
            mutex_unlock(&s->lock);
        }
    }
    return copy_kernel(src, soff, dst, doff, len);
}

int spool_copy(struct spool *s, uint64_t src, uint64_t soff, uint64_t dst, uint64_t doff,
               uint64_t len)
{
    uint64_t send, dend;
    if (ADD_OVERFLOWS(soff, len, &send) || ADD_OVERFLOWS(doff, len, &dend) || send > INT64_MAX ||
        dend > INT64_MAX) {
        return -EFBIG;
    }
    if (src == dst && soff < dend && doff < send && len > 0) {
        return -EINVAL;
    }
    int err = 0;
    struct sfile *from = get(s, src, &err);
    if (!from) {
        return err;
    }
    struct sfile *to = get(s, dst, &err);
    if (to) {
        KILL_POINT("spool: before copy");
        err = copy_range(s, from->fd, soff, to->fd, doff, len);
        KILL_POINT("spool: copied");
        put(s, to, true);
    }
    put(s, from, false);
    return err;
}

int spool_size(struct spool *s, uint64_t id, uint64_t *ret_size)
{
    int err = 0;
    struct sfile *f = get(s, id, &err);
    if (!f) {
        return err;
    }
    struct stat st;
    err = fstat(f->fd, &st) < 0 ? -errno : 0;
    put(s, f, false);
    if (err == 0) {
        *ret_size = (uint64_t)st.st_size;
    }
    return err;
}

/* Sticky: the kernel drops what it could not write and says so once. */
static void sync_failed_locked(struct spool *s, int err)
{
    if (err < 0 && s->sync_error == 0) {
        s->sync_error = err;
        log_debug("spool", "sync failed errno=%d", -err);
    }
}

int spool_sync(struct spool *s, uint64_t id)
{
    int err = 0;
    struct sfile *f = get(s, id, &err);
    if (!f) {
        return err;
    }
    mutex_lock(&s->lock);
    bool name_synced = f->name_synced;
    mutex_unlock(&s->lock);
    if (fdatasync(f->fd) < 0) {
        err = space_errno(errno);
    }
    if (err == 0 && !name_synced) {
        if (fsync(s->dir_fd) < 0) {
            err = space_errno(errno);
        } else {
            mutex_lock(&s->lock);
            f->name_synced = true;
            mutex_unlock(&s->lock);
        }
    }
    mutex_lock(&s->lock);
    sync_failed_locked(s, err);
    mutex_unlock(&s->lock);
    put(s, f, false);
    return err;
}

int spool_remove(struct spool *s, uint64_t id)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    struct sfile *f = find_made(s, id);
    if (!f || f->removed) {
        mutex_unlock(&s->lock);
        return -ENOENT;
    }
    /* Counted as a user, so that the entry outlives the unlink; from here on nobody new finds it. */
    f->removed = true;
    s->n_removed++;
    if (f->users++ == 0 && f->fd >= 0) {
        lru_remove(s, f);
    }
    mutex_unlock(&s->lock);
    char name[NAME_DIGITS + 1];
    name_of(id, name);
    KILL_POINT("spool: before remove");
    int err = unlinkat(s->dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
    KILL_POINT("spool: removed");
    if (err < 0) {
        mutex_lock(&s->lock);
        f->removed = false;
        s->n_removed--;
        mutex_unlock(&s->lock);
    }
    put(s, f, false);
    return err;
}

/* --- the whole --- */

int spool_each(struct spool *s, int (*fn)(void *ctx, uint64_t id), void *ctx)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    size_t n = 0;
    uint64_t *ids = mem_zalloc(s->n_entries * sizeof(*ids));
    for (size_t i = 0; i < s->n_buckets; i++) {
        for (const struct sfile *f = s->buckets[i]; f; f = f->hash_next) {
            if (!f->removed && !f->making) {
                ids[n++] = f->id;
            }
        }
    }
    mutex_unlock(&s->lock);
    int err = 0;
    for (size_t i = 0; i < n && err == 0; i++) {
        err = fn(ctx, ids[i]);
    }
    free(ids);
    return err;
}

size_t spool_files(struct spool *s)
{
    mutex_lock(&s->lock);
    size_t n = s->n_entries - s->n_removed;
    mutex_unlock(&s->lock);
    return n;
}

uint64_t spool_used(struct spool *s)
{
    mutex_lock(&s->lock);
    uint64_t used = s->used;
    mutex_unlock(&s->lock);
    return used;
}

/* Below zero: others, or we by what waits, have taken some of the tenth that is to stay free. */
static int64_t room_on(const struct statvfs *v)
{
    int64_t reserve = (int64_t)(((uint64_t)v->f_blocks + 9) / 10 * v->f_frsize);
    return (int64_t)((uint64_t)v->f_bavail * v->f_frsize) - reserve;
}

uint64_t spool_room(const struct statvfs *v)
{
    return (uint64_t)MAX(room_on(v), 0);
}

int spool_look(const char *dir, int (*fn)(void *ctx, uint64_t id, uint64_t size, uint64_t bytes), void *ctx)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/tmp", dir);
    DIR *d = opendir(path);
    if (!d) {
        return -errno;
    }
    int err = 0;
    const struct dirent *e;
    while (err == 0 && (e = readdir(d))) {
        uint64_t id;
        struct stat st;
        if (id_of(e->d_name, &id) && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode)) {
            err = fn(ctx, id, (uint64_t)st.st_size, (uint64_t)st.st_blocks * 512);
        }
    }
    (void)closedir(d);
    return err;
}

/* Between two looks at the file system our own growth is taken off what was free then. */
static uint64_t space_locked(struct spool *s, uint64_t waiting)
{
    int64_t now = time_mono_ns();
    if (s->fs_asked_ns == 0 || now - s->fs_asked_ns >= STATVFS_INTERVAL_NS) {
        struct statvfs v;
        if (fstatvfs(s->dir_fd, &v) == 0) {
            s->fs_free = room_on(&v);
            s->fs_used_then = s->used;
            s->fs_asked_ns = now;
        }
    }
    int64_t grown = (int64_t)s->used - (int64_t)s->fs_used_then;
    int64_t by_disk = s->fs_free + (int64_t)waiting - MAX(grown, 0);
    uint64_t by_size = s->cache_size + waiting > s->used ? s->cache_size + waiting - s->used : 0;
    return MIN(by_size, (uint64_t)MAX(by_disk, 0));
}

uint64_t spool_space(struct spool *s, uint64_t waiting)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    uint64_t space = space_locked(s, waiting);
    mutex_unlock(&s->lock);
    return space;
}

bool spool_high(struct spool *s, uint64_t waiting, uint64_t reserve)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    uint64_t space = space_locked(s, waiting);
    uint64_t whole = s->used - MIN(waiting, s->used) + space;
    uint64_t margin = MIN(whole / 16, HIGH_MARGIN_MAX);
    uint64_t low = MAX(margin, MIN(reserve, whole / 2));
    /* "Not above" also covers no room at all, where all of these are 0. */
    if (s->high) {
        s->high = space <= low + margin;
    } else {
        s->high = space == 0 || space < low;
    }
    bool high = s->high;
    mutex_unlock(&s->lock);
    return high;
}

/* Under the lock, which it gives up meanwhile. What was written by calls that returned before `began` is covered: they
 * have marked the spool dirty, or a syncfs that has ended has them. One that still runs proves nothing yet. */
static void sync_locked(struct spool *s)
{
    int64_t began = time_wall_ns();
    int64_t began_ns = s->sync_began_ns = time_mono_ns();
    int err = 0;
    if (s->dirty || s->syncing > 0) {
        s->dirty = false;
        s->syncing++;
        mutex_unlock(&s->lock);
        err = syncfs(s->dir_fd) < 0 ? space_errno(errno) : 0;
        mutex_lock(&s->lock);
        s->syncing--;
    }
    sync_failed_locked(s, err);
    if (s->sync_error == 0) {
        s->synced_wall_ns = MAX(s->synced_wall_ns, began);
        s->synced_ns = MAX(s->synced_ns, began_ns);
    }
}

int64_t spool_syncfs_tick(struct spool *s, bool waited_for)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    bool due = waited_for || s->sync_began_ns == 0 || time_mono_ns() - s->sync_began_ns >= SYNCFS_INTERVAL_NS;
    if (due && s->syncing == 0) {
        sync_locked(s);
    }
    int64_t at = s->synced_wall_ns;
    mutex_unlock(&s->lock);
    return at;
}

int spool_synced_since(struct spool *s, int64_t mono_ns, int64_t *ret_wall_ns)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    if (s->sync_error == 0 && !s->dirty && s->syncing == 0) { /* as good as a sync */
        s->synced_wall_ns = MAX(s->synced_wall_ns, time_wall_ns());
        s->synced_ns = time_mono_ns();
    }
    int ret = s->sync_error < 0 ? s->sync_error : s->synced_ns > mono_ns;
    *ret_wall_ns = s->synced_wall_ns;
    mutex_unlock(&s->lock);
    return ret;
}

int spool_syncfs(struct spool *s)
{
    CHECK_MAGIC(s, SPOOL_MAGIC);
    mutex_lock(&s->lock);
    sync_locked(s);
    int err = s->sync_error;
    mutex_unlock(&s->lock);
    return err;
}

int spool_sync_error(struct spool *s)
{
    mutex_lock(&s->lock);
    int err = s->sync_error;
    mutex_unlock(&s->lock);
    return err;
}

/* --- opening and closing --- */

static int open_dir(struct spool *s, const char *dir, struct errinfo *reterr)
{
    CLEANUP(mem_closep) int parent = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) {
        return err_set_errno(reterr, errno, "cannot open %s", dir);
    }
    if (mkdirat(parent, "tmp", 0700) < 0) {
        if (errno != EEXIST) {
            return err_set_errno(reterr, errno, "cannot create %s/tmp", dir);
        }
    } else if (fsync(parent) < 0) {
        return err_set_errno(reterr, errno, "cannot sync %s", dir);
    }
    s->dir_fd = openat(parent, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (s->dir_fd < 0) {
        return err_set_errno(reterr, errno, "cannot open %s/tmp", dir);
    }
    return 0;
}

static int scan(struct spool *s, struct errinfo *reterr)
{
    int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        int err = err_set_errno(reterr, errno, "cannot read the spool");
        mem_closep(&fd);
        return err;
    }
    int err = 0;
    while (err == 0) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            err = errno != 0 ? err_set_errno(reterr, errno, "cannot read the spool") : 0;
            break;
        }
        uint64_t id;
        struct stat st;
        if (!id_of(e->d_name, &id)) {
            continue;
        }
        if (fstatat(s->dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            err = err_set_errno(reterr, errno, "cannot look at spool file %s", e->d_name);
        } else if (S_ISREG(st.st_mode)) {
            struct sfile *f = insert(s, id);
            f->bytes = (uint64_t)st.st_blocks * 512;
            s->used += f->bytes;
        }
    }
    (void)closedir(d);
    return err;
}

int spool_open(const char *dir, uint64_t cache_size, unsigned max_open, struct spool **ret_spool,
               struct errinfo *reterr)
{
    struct spool *s = mem_zalloc(sizeof(*s));
    s->magic = SPOOL_MAGIC;
    s->dir_fd = -1;
    s->cache_size = cache_size;
    s->max_open = max_open > 0 ? max_open : MAX_OPEN_DEFAULT;
    s->dirty = true; /* what an earlier process wrote may not be on disk yet */
    mutex_init(&s->lock, RANK_STORE);
    cond_init(&s->made);
    grow(s);
    int err = open_dir(s, dir, reterr);
    if (err == 0) {
        err = scan(s, reterr);
    }
    if (err < 0) {
        spool_close(s);
        return err;
    }
    *ret_spool = s;
    return 0;
}

void spool_close(struct spool *s)
{
    if (!s) {
        return;
    }
    CHECK_MAGIC(s, SPOOL_MAGIC);
    for (size_t i = 0; i < s->n_buckets; i++) {
        while (s->buckets[i]) {
            struct sfile *f = s->buckets[i];
            s->buckets[i] = f->hash_next;
            ENSURE(f->users == 0);
            mem_closep(&f->fd);
            free(f);
        }
    }
    free(s->buckets);
    mem_closep(&s->dir_fd);
    cond_fini(&s->made);
    mutex_fini(&s->lock);
    s->magic = 0;
    free(s);
}
