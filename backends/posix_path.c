/* Names and files below the root of a local backend.
 *
 * Nothing is ever reached by a path from outside the root: each lookup is an openat2 that refuses
 * symbolic links, "..", and whatever else would leave it, and the last name is looked at through
 * O_PATH before it is opened, so that no FIFO blocks and no device notices. A link in the middle of
 * a path is simply not a folder.
 *
 * Where the object of a key is: under its plain name unless that is a directory's, else under the
 * object form (names.h). Writes make a temporary file that no key names, complete and on disk, and
 * rename it: readers see one version or the other. Temporaries are in .objmig/tmp, where a dead one
 * is found again; only when the target is on another file system is it made beside the target,
 * under a hidden name. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/fs.h>

#include "driver.h"
#include "log.h"
#include "mem.h"
#include "names.h"
#include "posix.h"

#define BESIDE ".objmig-tmp."
#define STALE_AFTER_S 86400
#define COPY_STEP (64u << 20) /* between two looks at cancel */

int local_open_at(int dir, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;
    int tries = 0;
    do { /* EAGAIN: somebody renamed a directory of the path meanwhile */
        fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 16)));
    return fd < 0 ? -errno : (int)fd;
}

static void proc_path(int fd, char ret[32])
{
    (void)snprintf(ret, 32, "/proc/self/fd/%d", fd);
}

int local_reopen(int path_fd, int flags)
{
    char path[32];
    proc_path(path_fd, path);
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

/* --- keys and names --- */

bool local_is_marker(const char *key)
{
    size_t len = strlen(key);
    return len > 0 && key[len - 1] == '/';
}

bool local_is_hidden(const char *name, bool at_root)
{
    static const size_t suffix = sizeof(LOCAL_ESCAPED_SLASH) - 1;
    if (at_root && strcmp(name, LOCAL_OURS) == 0) {
        return true;
    }
    size_t len = strlen(name);
    return strncmp(name, BESIDE, sizeof(BESIDE) - 1) == 0 && len > suffix &&
           strcmp(name + len - suffix, LOCAL_ESCAPED_SLASH) == 0;
}

static int fail_buf(struct be_op *op, int err)
{
    return be_fail(op, ERR_LOCAL, "", err == -ENOMEM ? "out of memory" : "a name cannot be built");
}

/* Whether a component could be on disk as it is although its name is escaped. */
static bool may_be_raw(const char *comp, bool first, const char *name)
{
    size_t len = strlen(comp);
    if (len == 0 || len > NAMES_MAX || strcmp(comp, name) == 0 || strcmp(comp, ".") == 0 ||
        strcmp(comp, "..") == 0 || (first && strcmp(comp, LOCAL_OURS) == 0)) {
        return false;
    }
    CLEANUP(names_target_fini) struct names_target t = {0};
    return names_resolve("", 0, comp, &t) == -ENOENT;
}

static bool exists(struct local *l, const char *path)
{
    CLEANUP(mem_closep) int fd = local_open_at(l->root, path, O_PATH | O_NOFOLLOW, 0);
    return fd >= 0;
}

/* Component by component: the escaped name, unless only the raw one exists. */
static int choose_names(struct local *l, const char *key, struct buf *ret)
{
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    bool raw_seen = false;
    buf_clear(ret);
    for (const char *p = key;;) {
        const char *end = strchrnul(p, '/');
        CLEANUP(mem_freep) char *comp = mem_strndup(p, (size_t)(end - p));
        buf_clear(&name);
        int err = comp[0] != '\0' ? names_path_of_key(comp, strlen(comp), &name)
                                  : buf_adds(&name, LOCAL_ESCAPED_SLASH);
        size_t at = ret->len;
        if (err == 0 && at > 0) {
            err = buf_addc(ret, '/');
        }
        size_t start = ret->len;
        if (err == 0) {
            err = buf_add(ret, buf_str(&name), name.len);
        }
        if (err == 0 && may_be_raw(comp, at == 0, buf_str(&name)) && !exists(l, buf_str(ret))) {
            ret->len = start;
            err = buf_adds(ret, comp);
            if (err == 0 && !exists(l, buf_str(ret))) {
                ret->len = start;
                err = buf_add(ret, buf_str(&name), name.len);
            } else {
                raw_seen = true;
            }
        }
        if (err < 0) {
            return err;
        }
        if (*end == '\0') {
            break;
        }
        p = end + 1;
    }
    return raw_seen ? 1 : 0;
}

int local_path_of_key(struct local *l, struct be_op *op, const char *key, struct buf *ret_path)
{
    int err = names_path_of_key(key, strlen(key), ret_path);
    if (err == 0 && strcmp(buf_str(ret_path), key) != 0) {
        CLEANUP(buf_fini) struct buf chosen = BUF_INIT;
        err = choose_names(l, key, &chosen);
        if (err == 1) {
            buf_fini(ret_path);
            *ret_path = chosen;
            chosen = (struct buf){0};
            err = 0;
        }
    }
    if (err < 0) {
        return fail_buf(op, err);
    }
    if (ret_path->len + sizeof(BESIDE) + 64 > PATH_MAX) {
        char text[BE_KEY_TEXT];
        return be_fail(op, ERR_INVALID, "KeyTooLongError",
                       "a path of %zu bytes is too long for '%s'", ret_path->len,
                       be_key_text(key, text, sizeof(text)));
    }
    return 0;
}

const char *local_split(struct buf *path, const char **ret_dir)
{
    char *slash = strrchr(path->data, '/');
    if (!slash) {
        *ret_dir = ".";
        return path->data;
    }
    *slash = '\0';
    *ret_dir = path->data;
    return slash + 1;
}

/* The last component of a key, "" for a marker. */
static const char *last_component(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash ? slash + 1 : key;
}

static int object_form(const char *component, struct buf *ret)
{
    bool is_dir;
    int err = names_show("x/", 2, component, strlen(component), false, true, ret, &is_dir);
    return err < 0 ? err : is_dir ? -ENAMETOOLONG : 0;
}

static int locate(int parent, const char *name, const char *component, struct buf *ret_name,
                  struct stat *ret_st)
{
    int err = buf_adds(ret_name, name);
    if (err < 0) {
        return err;
    }
    int plain = fstatat(parent, name, ret_st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    if (plain == 0 && !S_ISDIR(ret_st->st_mode)) {
        return 1;
    }
    if (plain < 0 && plain != -ENOENT) {
        return plain;
    }
    CLEANUP(buf_fini) struct buf form = BUF_INIT;
    err = object_form(component, &form);
    if (err == -ENAMETOOLONG) {
        return plain == 0 ? -EISDIR : 0;
    }
    if (err < 0) {
        return err;
    }
    int other = fstatat(parent, buf_str(&form), ret_st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    if (other == 0 && S_ISDIR(ret_st->st_mode)) {
        return plain == 0 ? -EISDIR : 0;
    }
    if (other == 0 || plain == 0) {
        buf_clear(ret_name);
        err = buf_adds(ret_name, buf_str(&form));
    }
    return err < 0 ? err : other == 0 ? 1 : 0;
}

int local_locate(int parent, const char *name, const char *key, struct buf *ret_name,
                 struct stat *ret_st)
{
    CLEANUP(buf_fini) struct buf actual = BUF_INIT; /* name may be in ret_name */
    int found = locate(parent, name, last_component(key), &actual, ret_st);
    if (found >= 0) {
        buf_fini(ret_name);
        *ret_name = actual;
        actual = (struct buf){0};
    }
    return found;
}

/* --- finding --- */

void local_file_fini(struct local_file *f)
{
    mem_closep(&f->fd);
    f->fd = -1;
}

static int fail_absent(struct be_op *op, const char *key)
{
    char text[BE_KEY_TEXT];
    return be_fail(op, ERR_ABSENT, "NoSuchKey", "no object '%s'",
                   be_key_text(key, text, sizeof(text)));
}

/* A failed lookup: what says that nothing is there, or trouble. */
static int fail_lookup(struct be_op *op, const char *key, int err)
{
    switch (-err) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP: /* a link in the path: listings do not go through it either */
    case EXDEV:
    case ENAMETOOLONG:
    case EISDIR:
        return fail_absent(op, key);
    default: {
        char text[BE_KEY_TEXT];
        return be_fail_errno(op, -err, "%s: '%s'", op->be->name,
                             be_key_text(key, text, sizeof(text)));
    }
    }
}

int local_find(struct local *l, struct be_op *op, const char *key, struct local_file *ret)
{
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    CLEANUP(buf_fini) struct buf actual = BUF_INIT;
    int err = local_path_of_key(l, op, key, &path);
    if (err < 0) {
        return op->err.cls == ERR_INVALID ? fail_absent(op, key) : err;
    }
    const char *dir;
    const char *name = local_split(&path, &dir);
    CLEANUP(local_file_fini)
    struct local_file f = {.fd = local_open_at(l->root, dir, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)};
    if (f.fd < 0) {
        return fail_lookup(op, key, f.fd);
    }
    int found = local_locate(f.fd, name, key, &actual, &f.st);
    if (found == 1) {
        int fd = openat(f.fd, buf_str(&actual), O_PATH | O_NOFOLLOW | O_CLOEXEC);
        found = fd < 0 ? -errno : 1;
        if (fd >= 0) {
            local_file_fini(&f);
            f.fd = fd;
        }
    } else if (found == 0 && local_is_marker(key)) {
        found = 1; /* the directory itself, which is open */
    }
    if (found <= 0) {
        return found < 0 ? fail_lookup(op, key, found) : fail_absent(op, key);
    }
    if (fstat(f.fd, &f.st) < 0) {
        return fail_lookup(op, key, -errno);
    }
    if (S_ISSOCK(f.st.st_mode) || (S_ISDIR(f.st.st_mode) && !local_is_marker(key))) {
        return fail_absent(op, key);
    }
    *ret = f;
    f.fd = -1;
    return 0;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
    h *= 0xff51afd7ed558ccdu;
    return h ^ (h >> 33);
}

/* A file's version is its inode, times and size: not a checksum, and any change the kernel sees
 * makes another. A directory's version as a marker does not change with what is in it. */
void local_etag(const struct stat *st, char ret[BE_ETAG_MAX])
{
    uint64_t a = mix(0, st->st_dev), b;
    a = mix(a, st->st_ino);
    b = mix(a, 0x6f626a6d6967u);
    if (S_ISDIR(st->st_mode)) {
        a = mix(mix(mix(a, st->st_mode), st->st_uid), st->st_gid);
        b = mix(b, a);
    } else {
        a = mix(mix(a, (uint64_t)st->st_mtim.tv_sec), (uint64_t)st->st_mtim.tv_nsec);
        a = mix(a, (uint64_t)st->st_size);
        b = mix(mix(b, (uint64_t)st->st_ctim.tv_sec), (uint64_t)st->st_ctim.tv_nsec);
        b = mix(b, a);
    }
    (void)snprintf(ret, BE_ETAG_MAX, "p-%016llx%016llx", (unsigned long long)a,
                   (unsigned long long)b);
}

void local_object(const struct stat *st, struct be_object *ret)
{
    *ret = (struct be_object){0};
    local_etag(st, ret->etag);
    ret->size = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode) ? (uint64_t)st->st_size : 0;
    ret->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* Whether what was read between the two looks is one version. Being unlinked or replaced by rename
 * changes the ctime of the open file, but not its bytes. */
bool local_same_version(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           (b->st_nlink < a->st_nlink ||
            (a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec));
}

int local_fail_changed(struct be_op *op, const char *key)
{
    char text[BE_KEY_TEXT];
    return be_fail(op, ERR_PRECOND, "PreconditionFailed", "'%s' is another version",
                   be_key_text(key, text, sizeof(text)));
}

int local_open_source(struct be_op *op, struct be *src, const char *key, const char *etag,
                      const char *version_id, struct local_file *ret, int *ret_fd)
{
    CLEANUP(local_file_fini) struct local_file f = {.fd = -1};
    if (version_id && version_id[0] != '\0') {
        return fail_absent(op, key); /* no version has an id here */
    }
    int err = local_find(local_of(src), op, key, &f);
    if (err < 0) {
        return err;
    }
    char now[BE_ETAG_MAX];
    local_etag(&f.st, now);
    if (etag && strcmp(etag, now) != 0) {
        return local_fail_changed(op, key);
    }
    int fd = -1;
    if (S_ISREG(f.st.st_mode)) {
        fd = local_reopen(f.fd, O_RDONLY);
        if (fd < 0) {
            return fail_lookup(op, key, fd);
        }
    }
    *ret = f;
    *ret_fd = fd;
    f.fd = -1;
    return 0;
}

/* --- our own directory and temporary files --- */

int local_sync_dir(int fd)
{
    if (fsync(fd) == 0 || errno == EINVAL || errno == EOPNOTSUPP) { /* no such thing there */
        return 0;
    }
    return -errno;
}

static int make_dir(int parent, const char *name, mode_t mode, bool *ret_made)
{
    if (mkdirat(parent, name, mode) == 0) {
        *ret_made = true;
        return 0;
    }
    return errno == EEXIST ? 0 : -errno;
}

int local_ours(struct local *l, const char *name, bool make)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/%s", LOCAL_OURS, name);
    int fd = local_open_at(l->root, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd != -ENOENT || !make) {
        return fd;
    }
    bool made;
    int err = make_dir(l->root, LOCAL_OURS, 0700, &made);
    CLEANUP(mem_closep)
    int dir = err < 0 ? err : local_open_at(l->root, LOCAL_OURS, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) {
        return dir;
    }
    err = make_dir(dir, name, 0700, &made);
    return err < 0 ? err : local_open_at(dir, name, O_RDONLY | O_DIRECTORY, 0);
}

/* What a killed process left. Younger files may be another process's, in the making. */
static void remove_stale(int tmp)
{
    int fd = local_open_at(tmp, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        mem_closep(&fd);
        return;
    }
    time_t now = (time_t)(time_wall_ns() / 1000000000);
    const struct dirent *e;
    while ((e = readdir(d))) {
        struct stat st;
        /* ctime: the mtime is already the one the object shall have */
        if (fstatat(tmp, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
            st.st_ctim.tv_sec < now - STALE_AFTER_S) {
            log_debug("local", "removing an old temporary file name=%s", e->d_name);
            (void)unlinkat(tmp, e->d_name, 0);
        }
    }
    (void)closedir(d);
}

int local_temp_name(struct local *l, struct be_op *op, int parent, struct local_temp *ret)
{
    struct stat st;
    if (fstat(parent, &st) < 0) {
        return be_fail_errno(op, errno, "%s: folder", l->path);
    }
    mutex_lock(&l->lock);
    uint64_t n = ++l->next_id;
    struct stat tmp_st;
    if (l->tmp >= 0 && (fstat(l->tmp, &tmp_st) < 0 || tmp_st.st_nlink == 0)) {
        close(l->tmp); /* another process that was done with the directory has tidied up */
        l->tmp = -1;
    }
    bool first = l->tmp < 0;
    if (first) {
        l->tmp = local_ours(l, "tmp", true);
    }
    int err = l->tmp < 0 ? l->tmp : fstat(l->tmp, &tmp_st) < 0 ? -errno : 0;
    bool same = err == 0 && tmp_st.st_dev == st.st_dev;
    ret->l = l;
    ret->dir = err < 0 ? -1 : fcntl(same ? l->tmp : parent, F_DUPFD_CLOEXEC, 3);
    if (err == 0 && ret->dir < 0) {
        err = -errno;
    }
    mutex_unlock(&l->lock);
    if (err < 0) {
        return be_fail_errno(op, -err, "%s/%s/tmp", l->path, LOCAL_OURS);
    }
    if (first) {
        remove_stale(ret->dir);
    }
    (void)snprintf(ret->name, sizeof(ret->name), "%s%016llx.%llu%s", same ? "" : BESIDE,
                   (unsigned long long)l->id, (unsigned long long)n,
                   same ? "" : LOCAL_ESCAPED_SLASH);
    return 0;
}

int local_temp_create(struct local_temp *t, struct be_op *op)
{
    /* Not readable by others before its own mode is set. */
    t->fd = openat(t->dir, t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (t->fd < 0) {
        return be_fail_errno(op, errno, "%s: temporary file", t->l->path);
    }
    return 0;
}

void local_temp_fini(struct local_temp *t)
{
    if (t->name[0] != '\0' && t->dir >= 0) {
        (void)unlinkat(t->dir, t->name, 0);
    }
    mem_closep(&t->fd);
    mem_closep(&t->dir);
    *t = (struct local_temp)LOCAL_TEMP_INIT;
}

int local_write_all(struct be_op *op, int fd, const void *data, size_t len, uint64_t offset)
{
    const char *p = data;
    while (len > 0) {
        int err = be_op_check(op);
        if (err < 0) {
            return err;
        }
        ssize_t n = pwrite(fd, p, MIN(len, (size_t)COPY_STEP), (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return be_fail_errno(op, n < 0 ? errno : EIO, "%s: write", local_of(op->be)->path);
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int copy_by_hand(struct be_op *op, int from, uint64_t from_offset, int to,
                        uint64_t to_offset, uint64_t len)
{
    const size_t size = 1u << 20;
    CLEANUP(mem_freep) char *buf = mem_zalloc(size);
    while (len > 0) {
        ssize_t n = pread(from, buf, (size_t)MIN(len, (uint64_t)size), (off_t)from_offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return be_fail_errno(op, errno, "reading the source");
        }
        if (n == 0) {
            return be_fail(op, ERR_PRECOND, "", "the source became shorter");
        }
        int err = local_write_all(op, to, buf, (size_t)n, to_offset);
        if (err < 0) {
            return err;
        }
        from_offset += (uint64_t)n;
        to_offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int local_copy_range(struct be_op *op, int from, uint64_t from_offset, int to, uint64_t to_offset,
                     uint64_t len)
{
    struct file_clone_range clone = {
        .src_fd = from, .src_offset = from_offset, .src_length = len, .dest_offset = to_offset};
    if (len > 0 && ioctl(to, FICLONERANGE, &clone) == 0) {
        return 0; /* shared blocks: nothing was moved */
    }
    while (len > 0) {
        int err = be_op_check(op);
        if (err < 0) {
            return err;
        }
        off_t in = (off_t)from_offset, out = (off_t)to_offset;
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)MIN(len, (uint64_t)COPY_STEP), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != ENOSPC && errno != EDQUOT && errno != EIO) {
            return copy_by_hand(op, from, from_offset, to, to_offset, len);
        }
        if (n < 0) {
            return be_fail_errno(op, errno, "copying");
        }
        if (n == 0) {
            return copy_by_hand(op, from, from_offset, to, to_offset,
                                len); /* or it ended: told there */
        }
        from_offset += (uint64_t)n;
        to_offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

/* --- targets --- */

static int fail_folder(struct be_op *op, const char *path, int err)
{
    char text[BE_KEY_TEXT];
    (void)be_key_text(path, text, sizeof(text));
    if (err == -ENOTDIR) {
        return be_fail(op, ERR_INVALID, "", "a file stands where a folder is needed: %s", text);
    }
    if (err == -ELOOP || err == -EXDEV) {
        return be_fail(op, ERR_INVALID, "", "a symbolic link stands where a folder is needed: %s",
                       text);
    }
    return be_fail_errno(op, -err, "%s: folder '%s'", op->be->name, text);
}

/* One walk down. On failure *path ends where the trouble is. */
static int make_dirs_once(struct local *l, char *path)
{
    int fd = local_open_at(l->root, ".", O_RDONLY | O_DIRECTORY, 0);
    for (char *p = path; fd >= 0 && p;) {
        char *slash = strchr(p, '/');
        if (slash) {
            *slash = '\0';
        }
        bool made = false;
        int err = make_dir(fd, p, 0777, &made);
        if (err == 0 && made) {
            err = local_sync_dir(fd);
        }
        int next = err < 0 ? err : local_open_at(fd, p, O_RDONLY | O_DIRECTORY, 0);
        close(fd);
        fd = next;
        if (slash && fd >= 0) {
            *slash = '/';
        }
        p = slash && fd >= 0 ? slash + 1 : NULL;
    }
    return fd;
}

int local_make_dirs(struct local *l, struct be_op *op, const char *path)
{
    int fd = local_open_at(l->root, path, O_RDONLY | O_DIRECTORY, 0);
    CLEANUP(mem_freep) char *where = mem_strdup(path);
    for (int tries = 0; fd == -ENOENT && tries < LOCAL_FOLDER_TRIES; tries++) {
        memcpy(where, path, strlen(path) + 1);
        fd = make_dirs_once(l, where);
    }
    return fd < 0 ? fail_folder(op, where, fd) : fd;
}

void local_target_fini(struct local_target *t)
{
    buf_fini(&t->path);
    mem_closep(&t->parent);
    t->parent = -1;
}

int local_target_open(struct local *l, struct be_op *op, struct local_target *ret)
{
    int err = local_path_of_key(l, op, op->key, &ret->path);
    if (err < 0) {
        return err;
    }
    const char *dir;
    ret->name = local_split(&ret->path, &dir);
    int fd = local_make_dirs(l, op, dir);
    if (fd < 0) {
        return fd;
    }
    ret->parent = fd;
    return 0;
}

struct local_stripe *local_lock_key(struct local *l, const char *key)
{
    uint64_t h = 0;
    for (const char *p = key; *p != '\0'; p++) {
        h = mix(h, (unsigned char)*p);
    }
    struct local_stripe *s = &l->stripes[h % LOCAL_STRIPES];
    mutex_lock(&s->lock);
    if (s->last_key != h) {
        s->last_key = h;
        s->last_ctime = (struct timespec){0};
    }
    return s;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Inode numbers are used again at once, and the kernel's clock for files may tick as slowly as
 * every 10 ms: two versions of a key could look the same. So a version that came within the tick of
 * the one before is touched until it did not. */
static int make_distinct(int parent, const char *name, const struct local_temp *t, struct stat *st,
                         struct timespec before)
{
    for (int tries = 0; same_time(st->st_ctim, before) && tries < 1000000; tries++) {
        int err = t->fd >= 0 ? fchmod(t->fd, st->st_mode & 07777)
                             : fchownat(parent, name, (uid_t)-1, (gid_t)-1, AT_SYMLINK_NOFOLLOW);
        if (err < 0) {
            return 0; /* not ours any more: then it is not the same version either */
        }
        sched_yield();
        if ((t->fd >= 0 ? fstat(t->fd, st) : fstatat(parent, name, st, AT_SYMLINK_NOFOLLOW)) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int publish_locked(struct local_temp *t, struct be_op *op, struct local_target *to,
                          const char *if_match, bool if_absent, struct timespec last,
                          struct stat *ret_st)
{
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    struct stat now;
    int found = local_locate(to->parent, to->name, op->key, &name, &now);
    if (found == -EISDIR) {
        return be_fail(op, ERR_INVALID, "", "a folder stands where the file is to be");
    }
    if (found < 0) {
        return be_fail_errno(op, -found, "%s: target", op->be->name);
    }
    if (found == 1 && S_ISSOCK(now.st_mode)) {
        return be_fail(op, ERR_INVALID, "", "a socket stands where the file is to be");
    }
    if (local_is_hidden(buf_str(&name),
                        false)) { /* only as an object form can a key have such a name */
        return be_fail(op, ERR_INVALID, "", "this name is kept for temporary files");
    }
    char etag[BE_ETAG_MAX] = "";
    if (found == 1) {
        local_etag(&now, etag);
    }
    if ((if_match && strcmp(if_match, etag) != 0) || (if_absent && found == 1)) {
        return local_fail_changed(op, op->key);
    }
    unsigned flags = if_absent ? RENAME_NOREPLACE : 0;
    int err = renameat2(t->dir, t->name, to->parent, buf_str(&name), flags) < 0 ? errno : 0;
    if (err == EINVAL && if_absent) { /* a file system without the flag: link refuses as well */
        err = linkat(t->dir, t->name, to->parent, buf_str(&name), 0) < 0 ? errno : 0;
        if (err == 0) {
            (void)unlinkat(t->dir, t->name, 0);
        }
    }
    if (err == EEXIST && if_absent) {
        return local_fail_changed(op, op->key);
    }
    if (err != 0) {
        return be_fail_errno(op, err, "%s: rename", op->be->name);
    }
    t->name[0] = '\0';
    err = (t->fd >= 0 ? fstat(t->fd, ret_st)
                      : fstatat(to->parent, buf_str(&name), ret_st, AT_SYMLINK_NOFOLLOW)) < 0
              ? -errno
              : 0;
    if (err == 0) {
        err = make_distinct(to->parent, buf_str(&name), t, ret_st, last);
    }
    if (err == 0 && found == 1) {
        err = make_distinct(to->parent, buf_str(&name), t, ret_st, now.st_ctim);
    }
    if (err < 0) {
        op->err.outcome_unknown = true;
        return be_fail_errno(op, -err, "%s: after the rename", op->be->name);
    }
    return 0;
}

int local_publish(struct local_temp *t, struct be_op *op, struct local_target *to,
                  const char *if_match, bool if_absent, struct be_object *ret)
{
    struct stat st;
    for (int tries = 0;; tries++) {
        struct local_stripe *s = local_lock_key(t->l, op->key);
        int err = publish_locked(t, op, to, if_match, if_absent, s->last_ctime, &st);
        if (err == 0) {
            s->last_ctime = st.st_ctim;
        }
        mutex_unlock(&s->lock);
        if (err == 0) {
            break;
        }
        bool folder_gone =
            op->err.cls == ERR_ABSENT && !op->err.outcome_unknown && t->name[0] != '\0';
        if (!folder_gone || tries == LOCAL_FOLDER_TRIES) {
            return err;
        }
        local_target_fini(to); /* it was empty, and somebody removed it */
        err = local_target_open(t->l, op, to);
        if (err < 0) {
            return err;
        }
    }
    int err = local_sync_dir(to->parent);
    if (err < 0) {
        op->err.outcome_unknown = true;
        return be_fail_errno(op, -err, "%s: fsync of the folder", op->be->name);
    }
    local_object(&st, ret);
    return 0;
}
