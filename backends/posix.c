/* The local driver: a directory as a bucket.
 *
 * Files are objects, directories are common prefixes and, as "dir/", empty marker objects of their
 * own attributes. Symbolic links and special files are objects whose meta-mode has their type; a
 * link's body is its target. Directories are real: removing the last file in one leaves it, and
 * removing the marker of one that is not empty changes nothing.
 *
 * A write is complete and synced before it is renamed to its key, and the folder is synced before
 * it is reported, so what is reported survives power loss. Conditions are checked under a lock of
 * the key (a stripe), which orders all writers in this process; another process that writes between
 * check and rename is not seen, as on any file system.
 *
 * All work is done by the pool's workers. Locks: stripes and the driver's own, never together,
 * never across an fsync. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "digest.h"
#include "driver.h"
#include "mem.h"

#define MAX_PARTS 10000
#define READ_TRIES 4

/* --- opening --- */

static void local_close(struct be *be)
{
    struct local *l = local_of(be);
    walks_fini(&l->walks);
    local_uploads_free(l);
    mem_closep(&l->tmp);
    if (l->root >= 0) {
        /* Tidy up what is empty; what is not belongs to unfinished uploads or other processes. */
        CLEANUP(mem_closep) int ours = local_open_at(l->root, LOCAL_OURS, O_PATH | O_DIRECTORY, 0);
        if (ours >= 0) {
            (void)unlinkat(ours, "tmp", AT_REMOVEDIR);
            (void)unlinkat(ours, "mp", AT_REMOVEDIR);
            (void)unlinkat(l->root, LOCAL_OURS, AT_REMOVEDIR);
        }
        close(l->root);
    }
    for (size_t i = 0; i < LOCAL_STRIPES; i++) {
        mutex_fini(&l->stripes[i].lock);
    }
    mutex_fini(&l->lock);
    free(l->path);
    free(l->identity);
    free(l);
}

static int local_open(struct be **ret_be, const struct conf_remote *conf, const struct be_env *env,
                      struct errinfo *reterr)
{
    if (!conf->path || conf->path[0] == '\0') {
        return err_set(reterr, ERR_INVALID, -EINVAL, "[%s] path: a local remote needs one",
                       conf->name);
    }
    struct local *l = mem_zalloc(sizeof(*l));
    l->path = mem_strdup(conf->path);
    l->tmp = -1;
    mutex_init(&l->lock, RANK_STORE);
    walks_init(&l->walks, RANK_STORE);
    for (size_t i = 0; i < LOCAL_STRIPES; i++) {
        mutex_init(&l->stripes[i].lock, RANK_STORE);
    }
    int err = 0;
    l->root = open(conf->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(mem_freep) char *real = l->root >= 0 ? realpath(conf->path, NULL) : NULL;
    if (l->root < 0 || !real || getrandom(&l->id, sizeof(l->id), 0) != sizeof(l->id)) {
        err = err_set_errno(reterr, errno, "[%s] path: '%s'", conf->name, conf->path);
    } else {
        l->identity = mem_printf("local:%s", real);
        CLEANUP(mem_closep) int fd = local_open_at(l->root, ".", O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0) { /* ENOSYS: Linux before 5.6 */
            err = err_set_errno(reterr, -fd, "[%s] path: '%s' cannot be opened safely", conf->name,
                                conf->path);
        }
    }
    if (err < 0) {
        local_close(&l->be);
        return err;
    }
    *ret_be = &l->be;
    return 0;
}

static void local_describe(const struct be *be, uint32_t *ret_caps, struct be_limits *ret_limits)
{
    *ret_caps = BE_CAP_IF_MATCH | BE_CAP_IF_ABSENT | BE_CAP_USER_META | BE_CAP_MULTIPART |
                BE_CAP_COPY | BE_CAP_PART_COPY | BE_CAP_REMOVE_MANY | BE_CAP_LIST_STRONG |
                BE_CAP_CRC64 | BE_CAP_REAL_DIRS;
    *ret_limits = (struct be_limits){
        .min_part = 1,
        .max_part = 5ull << 30,
        .max_parts = MAX_PARTS,
        .max_key = PATH_MAX,
        .max_meta = 65536,
        .list_page = 1000,
        .batch = 1000,
    };
}

static const char *local_identity(const struct be *be)
{
    return CONTAINER_OF(be, const struct local, be)->identity;
}

static bool local_can_copy(const struct be *dst, const struct be *src)
{
    /* Bytes that go from one directory to another pass through this machine in any case: the layers above move them, and
     * so hash and verify them on the way. Within one directory copies serve renames and metadata. */
    return src->ops == &be_local_ops && strcmp(be_identity(dst), be_identity(src)) == 0;
}

/* --- reading --- */

/* The body of a link. 0 and *ret_len, or op failed. */
static int read_link(struct be_op *op, int path_fd, char ret[PATH_MAX], size_t *ret_len)
{
    ssize_t n = readlinkat(path_fd, "", ret, PATH_MAX);
    if (n < 0) {
        return be_fail_errno(op, errno, "%s: symbolic link", op->be->name);
    }
    *ret_len = (size_t)n;
    return 0;
}

/* The object as stat and read report it. */
static int describe_file(struct be_op *op, const struct local_file *f, struct be_object *ret_object,
                         struct kvlist *ret_meta)
{
    local_object(&f->st, ret_object);
    if (S_ISLNK(f->st.st_mode)) { /* some file systems give no size */
        char target[PATH_MAX];
        size_t len = 0;
        int err = read_link(op, f->fd, target, &len);
        if (err < 0) {
            return err;
        }
        ret_object->size = len;
    }
    return local_attrs_load(op, f, ret_meta);
}

static int run_stat(struct be_op *op)
{
    struct be_stat *o = CONTAINER_OF(op, struct be_stat, op);
    CLEANUP(local_file_fini) struct local_file f = {.fd = -1};
    int err = local_find(local_of(op->be), op, op->key, &f);
    return err < 0 ? err : describe_file(op, &f, &o->object, &o->meta);
}

static int read_bytes(struct be_op *op, int fd, struct be_read *o)
{
    while (o->got < o->len && o->offset <= INT64_MAX - o->got) {
        ssize_t n =
            pread(fd, (char *)o->buf + o->got, o->len - o->got, (off_t)(o->offset + o->got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return be_fail_errno(op, errno, "%s: read", op->be->name);
        }
        if (n == 0) {
            break;
        }
        o->got += (size_t)n;
    }
    return 0;
}

/* One try. *ret_changed: somebody wrote to the file meanwhile. */
static int read_once(struct be_op *op, struct be_read *o, bool *ret_changed)
{
    CLEANUP(local_file_fini) struct local_file f = {.fd = -1};
    CLEANUP(mem_closep) int fd = -1;
    int err = local_open_source(op, op->be, op->key, o->if_match, o->version_id, &f, &fd);
    if (err < 0) {
        return err;
    }
    o->got = 0;
    if (S_ISLNK(f.st.st_mode)) {
        char target[PATH_MAX];
        size_t len = 0;
        err = read_link(op, f.fd, target, &len);
        if (err == 0 && o->offset < len) {
            o->got = MIN(o->len, len - (size_t)o->offset);
            if (o->got > 0) {
                memcpy(o->buf, target + o->offset, o->got);
            }
        }
    } else if (fd >= 0) {
        err = read_bytes(op, fd, o);
    }
    if (err == 0) {
        err = describe_file(op, &f, &o->object, &o->meta);
    }
    struct stat after;
    if (err == 0 && fstat(f.fd, &after) < 0) {
        err = be_fail_errno(op, errno, "%s: stat", op->be->name);
    }
    *ret_changed = err == 0 && !S_ISDIR(f.st.st_mode) && !local_same_version(&f.st, &after);
    return err;
}

static int run_read(struct be_op *op)
{
    struct be_read *o = CONTAINER_OF(op, struct be_read, op);
    for (int tries = 0; tries < READ_TRIES; tries++) {
        bool changed;
        int err = read_once(op, o, &changed);
        if (err < 0 || !changed) {
            return err;
        }
        kv_fini(&o->meta);
    }
    return local_fail_changed(op, op->key);
}

/* --- writing --- */

/* Opens the directory of a marker below its parent, made if need be; under the key's lock. */
static int marker_dir_locked(struct be_op *op, int parent, const char *name, const char *if_match,
                             bool if_absent, bool *ret_made, int *ret_dir)
{
    *ret_made = false;
    int dir = local_open_at(parent, name, O_RDONLY | O_DIRECTORY, 0);
    struct stat st;
    bool there = dir >= 0;
    if (there) {
        if (fstatat(dir, LOCAL_ESCAPED_SLASH, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            S_ISDIR(st.st_mode)) {
            if (fstat(dir, &st) < 0) {
                close(dir);
                return be_fail_errno(op, errno, "%s: stat", op->be->name);
            }
        }
    } else if (dir == -ENOTDIR || dir == -ELOOP) {
        return be_fail(op, ERR_INVALID, "", "a %s stands where a folder is needed: %s",
                       dir == -ENOTDIR ? "file" : "symbolic link", name);
    } else if (dir != -ENOENT) {
        return be_fail_errno(op, -dir, "%s: folder", op->be->name);
    }
    char etag[BE_ETAG_MAX] = "";
    if (there) {
        local_etag(&st, etag);
    }
    if ((if_match && strcmp(if_match, etag) != 0) || (if_absent && there)) {
        mem_closep(&dir);
        return local_fail_changed(op, op->key);
    }
    if (!there) {
        *ret_made = mkdirat(parent, name, 0777) == 0;
        if (!*ret_made && errno == EEXIST && if_absent) { /* a key below it was faster */
            return local_fail_changed(op, op->key);
        }
        dir = *ret_made || errno == EEXIST ? local_open_at(parent, name, O_RDONLY | O_DIRECTORY, 0)
                                           : -errno;
        if (dir < 0) {
            return be_fail_errno(op, -dir, "%s: folder", op->be->name);
        }
    }
    *ret_dir = dir;
    return 0;
}

static int put_marker_locked(struct be_op *op, int parent, const char *name,
                             const struct local_attrs *a, const char *if_match, bool if_absent,
                             int *ret_dir, struct stat *ret_st)
{
    bool made;
    int dir = -1;
    int err = marker_dir_locked(op, parent, name, if_match, if_absent, &made, &dir);
    if (err < 0) {
        return err;
    }
    err = local_attrs_apply(op, dir, a);
    if (err == 0 && unlinkat(dir, LOCAL_ESCAPED_SLASH, 0) < 0 && errno != ENOENT &&
        errno != EISDIR) {
        err = be_fail_errno(op, errno, "%s: content of the marker", op->be->name);
    }
    if (err == 0 && a->has_mtime) { /* which the unlink has changed */
        const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, a->mtime};
        (void)futimens(dir, times);
    }
    if (err == 0 && fstat(dir, ret_st) < 0) {
        err = be_fail_errno(op, errno, "%s: stat", op->be->name);
    }
    if (err < 0) {
        if (made) {
            (void)unlinkat(parent, name, AT_REMOVEDIR);
        }
        close(dir);
        return err;
    }
    *ret_dir = dir;
    return 0;
}

/* "dir/" without content: the directory and its attributes. */
static int put_marker(struct local *l, struct be_op *op, const struct local_attrs *a,
                      const char *if_match, bool if_absent, struct be_object *ret)
{
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    int err = local_path_of_key(l, op, op->key, &path);
    if (err < 0) {
        return err;
    }
    const char *parent_path, *dir_path;
    (void)local_split(&path, &dir_path); /* the name of the content */
    path.len = strlen(dir_path);
    const char *name = local_split(&path, &parent_path);
    CLEANUP(mem_closep) int parent = local_make_dirs(l, op, parent_path);
    if (parent < 0) {
        return parent;
    }
    CLEANUP(mem_closep) int dir = -1;
    struct stat st;
    struct local_stripe *s = local_lock_key(l, op->key);
    err = put_marker_locked(op, parent, name, a, if_match, if_absent, &dir, &st);
    mutex_unlock(&s->lock);
    if (err < 0) {
        return err;
    }
    err = local_sync_dir(dir);
    if (err == 0) {
        err = local_sync_dir(parent);
    }
    if (err < 0) {
        op->err.outcome_unknown = true;
        return be_fail_errno(op, -err, "%s: fsync of the folder", op->be->name);
    }
    local_object(&st, ret);
    return 0;
}

static int make_link(struct local_temp *t, struct be_op *op, const void *data, size_t len)
{
    if (len == 0 || len >= PATH_MAX || memchr(data, '\0', len)) {
        return be_fail(op, ERR_INVALID, "", "%zu bytes are no target of a symbolic link", len);
    }
    CLEANUP(mem_freep) char *target = mem_strndup(data, len);
    if (symlinkat(target, t->dir, t->name) < 0) {
        return be_fail_errno(op, errno, "%s: symbolic link", op->be->name);
    }
    return 0;
}

/* A link or special file under its temporary name. */
static int make_special(struct local_temp *t, struct be_op *op, const struct local_attrs *a,
                        const void *data, size_t len)
{
    mode_t type = a->mode & S_IFMT;
    int err = 0;
    if (type == S_IFLNK) {
        err = make_link(t, op, data, len);
    } else if (len > 0) {
        err = be_fail(op, ERR_INVALID, "", "a special file has no content");
    } else if (type != S_IFIFO && !a->has_rdev) {
        err = be_fail(op, ERR_INVALID, "", "a device needs its number (rdev)");
    } else if (mknodat(t->dir, t->name, type | 0600, type == S_IFIFO ? 0 : a->rdev) < 0) {
        err = be_fail_errno(op, errno, "%s: special file", op->be->name);
    }
    if (err < 0) {
        t->name[0] = '\0';
        return err;
    }
    CLEANUP(mem_closep) int fd = openat(t->dir, t->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return be_fail_errno(op, errno, "%s: special file", op->be->name);
    }
    return local_attrs_apply(op, fd, a);
}

static bool is_special(const struct local_attrs *a)
{
    mode_t type = a->has_mode ? a->mode & S_IFMT : 0;
    return type == S_IFLNK || type == S_IFIFO || type == S_IFCHR || type == S_IFBLK;
}

/* Puts a whole object that is in memory. */
static int put_bytes(struct be_op *op, const void *data, size_t len, const struct local_attrs *a,
                     const char *if_match, bool if_absent, struct be_object *ret)
{
    struct local *l = local_of(op->be);
    bool marker = local_is_marker(op->key);
    if (marker && len == 0) {
        return put_marker(l, op, a, if_match, if_absent, ret);
    }
    CLEANUP(local_target_fini) struct local_target to = {.parent = -1};
    CLEANUP(local_temp_fini) struct local_temp t = LOCAL_TEMP_INIT;
    int err = local_target_open(l, op, &to);
    if (err == 0) {
        err = local_temp_name(l, op, to.parent, &t);
    }
    if (err < 0) {
        return err;
    }
    if (is_special(a) && !marker) {
        err = make_special(&t, op, a, data, len);
    } else {
        err = local_temp_create(&t, op);
        if (err == 0) {
            err = local_write_all(op, t.fd, data, len, 0);
        }
        if (err == 0) {
            err = local_attrs_apply(op, t.fd, a);
        }
        if (err == 0 && fsync(t.fd) < 0) {
            err = be_fail_errno(op, errno, "%s: fsync", op->be->name);
        }
    }
    return err < 0 ? err : local_publish(&t, op, &to, if_match, if_absent, ret);
}

static int run_write(struct be_op *op)
{
    struct be_write *o = CONTAINER_OF(op, struct be_write, op);
    uint8_t md5[DIGEST_MD5_LEN];
    if (o->md5) {
        digest_md5(o->data, o->len, md5);
        if (memcmp(md5, o->md5, sizeof(md5)) != 0) {
            return be_fail(op, ERR_INTEGRITY, "BadDigest", "the bytes do not have the MD5 given");
        }
    }
    CLEANUP(local_attrs_fini) struct local_attrs a;
    local_attrs_parse(o->meta, &a);
    uint64_t crc64 = crc64_update(0, o->data, o->len);
    int err = put_bytes(op, o->data, o->len, &a, o->if_match, o->if_absent, &o->object);
    o->object.size = o->len;
    o->object.has_crc64 = true;
    o->object.crc64 = crc64;
    return err;
}

/* --- copying --- */

/* Sources without bytes of their own, and targets that are no regular file: through memory, for
 * they are small. */
static int copy_small(struct be_op *op, const struct local_file *from, int fd,
                      const struct local_attrs *a, struct be_object *ret)
{
    char body[PATH_MAX];
    size_t len = 0;
    int err = 0;
    if (S_ISLNK(from->st.st_mode)) {
        err = read_link(op, from->fd, body, &len);
    } else if (fd >= 0) {
        struct be_read r = {.buf = body, .len = sizeof(body)};
        err = read_bytes(op, fd, &r);
        len = r.got;
    }
    if (err == 0) {
        err = put_bytes(op, body, len, a, NULL, false, ret);
    }
    ret->size = len;
    return err;
}

static int copy_file(struct be_op *op, const struct local_file *from, int fd,
                     const struct local_attrs *a, struct be_object *ret)
{
    struct local *l = local_of(op->be);
    CLEANUP(local_target_fini) struct local_target to = {.parent = -1};
    CLEANUP(local_temp_fini) struct local_temp t = LOCAL_TEMP_INIT;
    int err = local_target_open(l, op, &to);
    if (err == 0) {
        err = local_temp_name(l, op, to.parent, &t);
    }
    if (err == 0) {
        err = local_temp_create(&t, op);
    }
    if (err == 0) {
        err = local_copy_range(op, fd, 0, t.fd, 0, (uint64_t)from->st.st_size);
    }
    if (err < 0) {
        return err;
    }
    struct stat after;
    if (fstat(fd, &after) < 0) {
        return be_fail_errno(op, errno, "%s: stat", op->be->name);
    }
    if (!local_same_version(&from->st, &after)) {
        return local_fail_changed(op, CONTAINER_OF(op, struct be_copy, op)->src_key);
    }
    err = local_attrs_apply(op, t.fd, a);
    if (err == 0 && fsync(t.fd) < 0) {
        err = be_fail_errno(op, errno, "%s: fsync", op->be->name);
    }
    return err < 0 ? err : local_publish(&t, op, &to, NULL, false, ret);
}

static int run_copy(struct be_op *op)
{
    struct be_copy *o = CONTAINER_OF(op, struct be_copy, op);
    CLEANUP(local_file_fini) struct local_file from = {.fd = -1};
    CLEANUP(mem_closep) int fd = -1;
    int err = local_open_source(op, o->src, o->src_key, o->src_etag, o->src_version_id, &from, &fd);
    if (err < 0) {
        return err;
    }
    CLEANUP(local_attrs_fini) struct local_attrs a;
    local_attrs_parse(o->meta, &a);
    bool marker = local_is_marker(op->key);
    bool small =
        fd < 0 || from.st.st_size == 0 || (is_special(&a) && !marker && from.st.st_size < PATH_MAX);
    return small ? copy_small(op, &from, fd, &a, &o->object)
                 : copy_file(op, &from, fd, &a, &o->object);
}

/* --- removing --- */

/* Goes on from an object that is not there or was just removed: a directory goes when nothing is
 * left in it. */
static int remove_dir(struct local *l, struct be_op *op, const char *path)
{
    CLEANUP(buf_fini) struct buf copy = BUF_INIT;
    const char *parent_path;
    if (buf_adds(&copy, path) < 0) {
        return be_fail(op, ERR_LOCAL, "", "out of memory");
    }
    const char *name = local_split(&copy, &parent_path);
    CLEANUP(mem_closep) int parent = local_open_at(l->root, parent_path, O_RDONLY | O_DIRECTORY, 0);
    int err = parent < 0 ? -parent : unlinkat(parent, name, AT_REMOVEDIR) < 0 ? errno : 0;
    switch (err) {
    case 0:
        err = local_sync_dir(parent);
        return err < 0 ? be_fail_errno(op, -err, "%s: fsync of the folder", op->be->name) : 0;
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENOTEMPTY: /* its name stays as long as there are names in it */
    case EEXIST:
        return 0;
    default:
        return be_fail_errno(op, err, "%s: removing the folder", op->be->name);
    }
}

static int remove_key(struct local *l, struct be_op *op, const char *key, const char *if_match)
{
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    int err = local_path_of_key(l, op, key, &path);
    if (err < 0) {
        return op->err.cls == ERR_INVALID ? 0 : err; /* cannot be there */
    }
    const char *dir;
    const char *name = local_split(&path, &dir);
    CLEANUP(mem_closep) int parent = local_open_at(l->root, dir, O_RDONLY | O_DIRECTORY, 0);
    if (parent < 0) {
        bool absent = parent == -ENOENT || parent == -ENOTDIR || parent == -ELOOP ||
                      parent == -ENAMETOOLONG || parent == -EXDEV;
        return absent ? 0 : be_fail_errno(op, -parent, "%s: folder", op->be->name);
    }
    struct stat st;
    char etag[BE_ETAG_MAX] = "";
    struct local_stripe *s = local_lock_key(l, key);
    int found = local_locate(parent, name, key, &path, &st);
    bool gone = false;
    if (found == 1 && !S_ISSOCK(st.st_mode)) {
        local_etag(&st, etag);
        if (!if_match || strcmp(if_match, etag) == 0) {
            gone = unlinkat(parent, buf_str(&path), 0) == 0;
            err = gone || errno == ENOENT ? 0 : errno;
            s->last_ctime = st.st_ctim;
        }
    } else if (found == 0 && local_is_marker(key) && fstat(parent, &st) == 0) {
        local_etag(&st, etag);
    }
    mutex_unlock(&s->lock);
    if (etag[0] != '\0' && if_match && strcmp(if_match, etag) != 0) {
        return local_fail_changed(op, key);
    }
    if (err != 0) {
        return be_fail_errno(op, err, "%s: remove", op->be->name);
    }
    err = gone ? local_sync_dir(parent) : 0;
    if (err < 0) {
        op->err.outcome_unknown = true;
        return be_fail_errno(op, -err, "%s: fsync of the folder", op->be->name);
    }
    return 0;
}

static int remove_object(struct be_op *op, const char *key, const char *if_match)
{
    struct local *l = local_of(op->be);
    int err = remove_key(l, op, key, if_match);
    if (err < 0 || !local_is_marker(key)) {
        return err;
    }
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    err = local_path_of_key(l, op, key, &path);
    if (err < 0) {
        return op->err.cls == ERR_INVALID ? 0 : err;
    }
    const char *dir;
    (void)local_split(&path, &dir);
    return remove_dir(l, op, dir);
}

static int run_remove(struct be_op *op)
{
    return remove_object(op, op->key, CONTAINER_OF(op, struct be_remove, op)->if_match);
}

static int run_remove_many(struct be_op *op)
{
    struct be_many *o = CONTAINER_OF(op, struct be_many, op);
    o->errs = mem_zalloc(o->n_keys * sizeof(*o->errs));
    for (size_t i = 0; i < o->n_keys; i++) {
        int err = be_op_check(op);
        if (err < 0) {
            return err;
        }
        if (remove_object(op, o->keys[i], NULL) < 0) {
            o->errs[i] = op->err;
            err_clear(&op->err);
        }
    }
    return 0;
}

/* --- the table --- */

static int run_any(struct be_op *op)
{
    static int (*const runs[BE_KINDS])(struct be_op *) = {
        [BE_STAT] = run_stat,
        [BE_READ] = run_read,
        [BE_WRITE] = run_write,
        [BE_REMOVE] = run_remove,
        [BE_LIST] = local_list,
        [BE_COPY] = run_copy,
        [BE_REMOVE_MANY] = run_remove_many,
        [BE_MP_BEGIN] = local_mp_begin,
        [BE_MP_PART] = local_mp_part,
        [BE_MP_COMMIT] = local_mp_commit,
        [BE_MP_ABORT] = local_mp_abort,
        [BE_MP_PARTS] = local_mp_parts,
        [BE_MP_UPLOADS] = local_mp_uploads,
    };
    bool makes = op->kind == BE_WRITE || op->kind == BE_COPY || op->kind == BE_MP_COMMIT;
    int err = 0;
    for (int tries = 0; tries < LOCAL_FOLDER_TRIES; tries++) {
        err = be_op_check(op);
        if (err == 0) {
            err = runs[op->kind](op);
        }
        /* ENOENT where something is made: a folder was removed meanwhile, as it was empty. */
        if (err == 0 || !makes || op->err.cls != ERR_ABSENT || op->err.code[0] != '\0' ||
            op->err.outcome_unknown) {
            return err;
        }
        op->err.cls = ERR_TRANSIENT;
    }
    return -EIO;
}

#define DEFINE_CALL(name, type)                                                                    \
    static void submit_##name(struct be *be, struct type *op)                                      \
    {                                                                                              \
        be_job_submit(&op->op, run_any);                                                           \
    }

DEFINE_CALL(stat, be_stat)
DEFINE_CALL(read, be_read)
DEFINE_CALL(write, be_write)
DEFINE_CALL(remove, be_remove)
DEFINE_CALL(list, be_list)
DEFINE_CALL(copy, be_copy)
DEFINE_CALL(remove_many, be_many)
DEFINE_CALL(mp_begin, be_mp)
DEFINE_CALL(mp_part, be_part)
DEFINE_CALL(mp_commit, be_commit)
DEFINE_CALL(mp_abort, be_mp)
DEFINE_CALL(mp_parts, be_parts)
DEFINE_CALL(mp_uploads, be_uploads)

const struct be_ops be_local_ops = {
    .size = sizeof(struct be_ops),
    .scheme = "local",
    .open = local_open,
    .close = local_close,
    .describe = local_describe,
    .identity = local_identity,
    .can_copy = local_can_copy,
    .stat = submit_stat,
    .read = submit_read,
    .write = submit_write,
    .remove = submit_remove,
    .list = submit_list,
    .copy = submit_copy,
    .remove_many = submit_remove_many,
    .mp_begin = submit_mp_begin,
    .mp_part = submit_mp_part,
    .mp_commit = submit_mp_commit,
    .mp_abort = submit_mp_abort,
    .mp_parts = submit_mp_parts,
    .mp_uploads = submit_mp_uploads,
};
