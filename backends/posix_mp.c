/* Multipart uploads of a local backend: .objmig/mp/ID/ holds one upload.
 *
 *     upload     the key and the metadata, as kv_format writes them
 *     data       parts of one size at their final places, part n at (n-1) * stride, so that a
 * commit need only rename it NUMBER.SIZE.PLACE.TIME.ETAG one finished part. PLACE is "d" and an
 * offset when its bytes are in data, else "f": they are in this file
 *
 * The first part sets the stride. What does not fit it, a part sent again, or two of one number at
 * a time get files of their own, and then the commit copies. A part's file appears after its bytes
 * are on disk, so after a crash the directory tells the truth; if data is gone while parts are said
 * to be in it, a commit had already taken it and the upload is over.
 *
 * Locks: the driver's, for the table of uploads and the parts in it; never across file I/O. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "digest.h"
#include "driver.h"
#include "mem.h"
#include "posix.h"

#define ID_LEN 32
#define ETAG_LEN 17 /* 'x' or 'r', and 16 digits */
#define UPLOAD_FILE "upload"
#define DATA_FILE "data"
#define STALE_AFTER_S 86400
#define UPLOAD_FILE_MAX (1u << 20)
#define KEY_NAME "key"
#define META_NAME "m." /* before each name of the metadata */

struct mp_part {
    unsigned number;
    uint64_t size, offset;
    bool own_file;
    char etag[ETAG_LEN + 1]; /* "x…" = its CRC-64, "r…" = copied, no CRC known */
    char file[128];          /* that says so */
};

struct local_upload {
    struct local_upload *next; /* all below: l->lock */
    char id[ID_LEN + 1];
    char *key;
    struct kvlist meta;
    unsigned busy; /* operations at work */
    bool ended;    /* committed or aborted: no longer in the table; the last one at work removes the
                      directory */
    bool committing;
    uint64_t stride;       /* 0 = no part yet */
    struct mp_part *parts; /* by number */
    size_t n_parts;
    unsigned *writing; /* numbers on their way into data */
    size_t n_writing;
};

static void upload_free(struct local_upload *u)
{
    if (u) {
        free(u->key);
        kv_fini(&u->meta);
        free(u->parts);
        free(u->writing);
        free(u);
    }
}

void local_uploads_free(struct local *l)
{
    while (l->uploads) {
        struct local_upload *u = l->uploads;
        l->uploads = u->next;
        upload_free(u);
    }
}

static int fail_no_upload(struct be_op *op)
{
    return be_fail(op, ERR_ABSENT, "NoSuchUpload", "no such upload");
}

/* An id becomes a name on disk: ours have one shape. */
static bool is_id(const char *id)
{
    return strlen(id) == ID_LEN && strspn(id, "0123456789abcdef") == ID_LEN;
}

static int open_dir(struct local *l, const char *id)
{
    CLEANUP(mem_closep) int mp = local_ours(l, "mp", false);
    return mp < 0 ? mp : local_open_at(mp, id, O_RDONLY | O_DIRECTORY, 0);
}

static void remove_tree(struct local *l, const char *id)
{
    CLEANUP(mem_closep) int mp = local_ours(l, "mp", false);
    int fd = mp < 0 ? mp : local_open_at(mp, id, O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        mem_closep(&fd);
        return;
    }
    /* First what makes it an upload: a crash in between leaves rubbish and no half upload. */
    (void)unlinkat(fd, UPLOAD_FILE, 0);
    const struct dirent *e;
    while ((e = readdir(d))) {
        (void)unlinkat(fd, e->d_name, 0);
    }
    (void)closedir(d);
    (void)unlinkat(mp, id, AT_REMOVEDIR);
}

/* --- the table --- */

static struct mp_part *find_part_locked(struct local_upload *u, unsigned number)
{
    for (size_t i = 0; i < u->n_parts; i++) {
        if (u->parts[i].number == number) {
            return &u->parts[i];
        }
    }
    return NULL;
}

/* Records a part; *p then is what it replaced, its file "" when nothing. */
static void put_part_locked(struct local_upload *u, struct mp_part *p)
{
    size_t at = u->n_parts;
    while (at > 0 && u->parts[at - 1].number >= p->number) {
        at--;
    }
    if (at < u->n_parts && u->parts[at].number == p->number) {
        struct mp_part before = u->parts[at];
        u->parts[at] = *p;
        *p = before;
        return;
    }
    u->parts = mem_realloc(u->parts, (u->n_parts + 1) * sizeof(*u->parts));
    memmove(&u->parts[at + 1], &u->parts[at], (u->n_parts - at) * sizeof(*u->parts));
    u->parts[at] = *p;
    u->n_parts++;
    p->file[0] = '\0';
}

/* A part's file name taken apart; false when it is something else. */
static bool parse_part(const char *name, struct mp_part *ret, unsigned long long *ret_time)
{
    unsigned number;
    unsigned long long size, offset = 0, time;
    char place, etag[ETAG_LEN + 1];
    int used = 0;
    if (strlen(name) >= sizeof(ret->file)) {
        return false;
    }
    int n = sscanf(name, "%5u.%20llu.%c%20llu.%16llx.%17[0-9a-fxr]%n", &number, &size, &place,
                   &offset, &time, etag, &used);
    if (n != 6 || name[used] != '\0' || (place != 'd' && place != 'f') || number == 0 ||
        size > INT64_MAX || offset > INT64_MAX - size) {
        return false;
    }
    *ret = (struct mp_part){
        .number = number, .size = size, .offset = offset, .own_file = place == 'f'};
    (void)snprintf(ret->etag, sizeof(ret->etag), "%s", etag);
    (void)snprintf(ret->file, sizeof(ret->file), "%s", name);
    *ret_time = time;
    return true;
}

static void name_part(struct mp_part *p)
{
    (void)snprintf(p->file, sizeof(p->file), "%05u.%llu.%c%llu.%016llx.%s", p->number,
                   (unsigned long long)p->size, p->own_file ? 'f' : 'd',
                   (unsigned long long)p->offset, (unsigned long long)time_wall_ns(), p->etag);
}

static int read_upload_file(int dir, struct local_upload *u)
{
    CLEANUP(mem_closep)
    int fd = openat(dir, UPLOAD_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > UPLOAD_FILE_MAX) {
        return -EINVAL;
    }
    CLEANUP(mem_freep) char *text = mem_zalloc((size_t)st.st_size + 1);
    ssize_t n = read(fd, text, (size_t)st.st_size);
    CLEANUP(kv_fini) struct kvlist all = {0};
    if (n != st.st_size || kv_parse(&all, text) < 0 || !kv_get(&all, KEY_NAME)) {
        return -EINVAL;
    }
    u->key = mem_strdup(kv_get(&all, KEY_NAME));
    for (size_t i = 0; i < all.n; i++) {
        if (strncmp(all.items[i].name, META_NAME, strlen(META_NAME)) == 0) {
            kv_set(&u->meta, all.items[i].name + strlen(META_NAME), all.items[i].value);
        }
    }
    return 0;
}

/* What an earlier process left of an upload. */
static int load_upload(struct local *l, const char *id, struct local_upload **ret)
{
    int fd = open_dir(l, id);
    if (fd < 0) {
        return fd;
    }
    DIR *d = fdopendir(fd);
    if (!d) {
        int err = -errno;
        close(fd);
        return err;
    }
    struct local_upload *u = mem_zalloc(sizeof(*u));
    (void)snprintf(u->id, sizeof(u->id), "%s", id);
    int err = read_upload_file(fd, u);
    bool says_data = false;
    const struct dirent *e;
    while (err == 0 && (e = readdir(d))) {
        struct mp_part p;
        unsigned long long time, other_time = 0;
        if (!parse_part(e->d_name, &p, &time)) {
            continue;
        }
        says_data = says_data || !p.own_file;
        const struct mp_part *other = find_part_locked(u, p.number);
        struct mp_part scratch;
        if (other && parse_part(other->file, &scratch, &other_time) && other_time > time) {
            continue; /* killed while one part replaced another */
        }
        if (!p.own_file) {
            u->stride = p.number > 1 ? p.offset / (p.number - 1) : MAX(u->stride, p.size);
        }
        put_part_locked(u, &p);
    }
    /* After the names: they may have come while we looked, and data before them. */
    struct stat st;
    if (err == 0 && says_data &&
        (fstatat(fd, DATA_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))) {
        err = -ENOENT; /* a commit took it */
    }
    (void)closedir(d);
    if (err < 0) {
        upload_free(u);
        return err;
    }
    *ret = u;
    return 0;
}

static struct local_upload *find_locked(struct local *l, const char *id)
{
    struct local_upload *u = l->uploads;
    while (u && strcmp(u->id, id) != 0) {
        u = u->next;
    }
    return u;
}

/* The upload of op's key, counted as busy; upload_leave ends that. */
static int upload_enter(struct local *l, struct be_op *op, const char *id,
                        struct local_upload **ret)
{
    if (!is_id(id)) {
        return fail_no_upload(op);
    }
    mutex_lock(&l->lock);
    struct local_upload *u = find_locked(l, id);
    if (!u) {
        mutex_unlock(&l->lock);
        struct local_upload *loaded = NULL;
        int err = load_upload(l, id, &loaded);
        if (err < 0) {
            return err == -ENOENT ? fail_no_upload(op)
                                  : be_fail_errno(op, -err, "%s: upload", op->be->name);
        }
        mutex_lock(&l->lock);
        u = find_locked(l, id);
        if (!u) {
            u = TAKE(loaded);
            u->next = l->uploads;
            l->uploads = u;
        }
        upload_free(loaded);
    }
    bool right = strcmp(u->key, op->key) == 0;
    u->busy += right ? 1 : 0;
    mutex_unlock(&l->lock);
    *ret = right ? u : NULL;
    return right ? 0 : fail_no_upload(op);
}

static void upload_leave(struct local *l, struct local_upload *u)
{
    mutex_lock(&l->lock);
    bool last = --u->busy == 0 && u->ended;
    mutex_unlock(&l->lock);
    if (last) {
        remove_tree(l, u->id);
        upload_free(u);
    }
}

static void end_locked(struct local *l, struct local_upload *u)
{
    struct local_upload **link = &l->uploads;
    while (*link != u) {
        link = &(*link)->next;
    }
    *link = u->next;
    u->ended = true;
}

/* --- begin, abort, lists --- */

static int write_upload_file(struct be_op *op, int dir, const struct kvlist *meta)
{
    CLEANUP(kv_fini) struct kvlist all = {0};
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    kv_set(&all, KEY_NAME, op->key);
    for (size_t i = 0; meta && i < meta->n; i++) {
        CLEANUP(mem_freep) char *name = mem_printf("%s%s", META_NAME, meta->items[i].name);
        kv_set(&all, name, meta->items[i].value);
    }
    if (kv_format(&all, &text) < 0) {
        return be_fail(op, ERR_LOCAL, "", "out of memory");
    }
    if (text.len > UPLOAD_FILE_MAX) {
        return be_fail(op, ERR_INVALID, "MetadataTooLarge", "too much metadata");
    }
    CLEANUP(mem_closep)
    int fd = openat(dir, UPLOAD_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return be_fail_errno(op, errno, "%s: upload", op->be->name);
    }
    int err = local_write_all(op, fd, text.data, text.len, 0);
    if (err == 0 && (fsync(fd) < 0 || local_sync_dir(dir) < 0)) {
        err = be_fail_errno(op, errno, "%s: fsync", op->be->name);
    }
    return err;
}

int local_mp_begin(struct be_op *op)
{
    struct be_mp *o = CONTAINER_OF(op, struct be_mp, op);
    struct local *l = local_of(op->be);
    mutex_lock(&l->lock);
    uint64_t n = ++l->next_id;
    mutex_unlock(&l->lock);
    char id[ID_LEN + 1];
    (void)snprintf(id, sizeof(id), "%016llx%016llx", (unsigned long long)l->id,
                   (unsigned long long)n);
    CLEANUP(mem_closep) int mp = local_ours(l, "mp", true);
    if (mp < 0 || mkdirat(mp, id, 0700) < 0) {
        return be_fail_errno(op, mp < 0 ? -mp : errno, "%s/%s/mp", l->path, LOCAL_OURS);
    }
    CLEANUP(mem_closep) int dir = local_open_at(mp, id, O_RDONLY | O_DIRECTORY, 0);
    int err = dir < 0 ? be_fail_errno(op, -dir, "%s: upload", l->path)
                      : write_upload_file(op, dir, o->meta);
    if (err == 0 && local_sync_dir(mp) < 0) {
        err = be_fail_errno(op, errno, "%s: fsync", op->be->name);
    }
    if (err < 0) {
        remove_tree(l, id);
        return err;
    }
    o->upload_id = mem_strdup(id);
    return 0;
}

int local_mp_abort(struct be_op *op)
{
    struct be_mp *o = CONTAINER_OF(op, struct be_mp, op);
    struct local *l = local_of(op->be);
    struct local_upload *u;
    int err = upload_enter(l, op, o->upload_id, &u);
    if (err < 0) {
        return err;
    }
    mutex_lock(&l->lock);
    bool over = u->ended || u->committing;
    if (!over) {
        end_locked(l, u);
    }
    mutex_unlock(&l->lock);
    upload_leave(l, u);
    return over ? fail_no_upload(op) : 0;
}

int local_mp_parts(struct be_op *op)
{
    struct be_parts *o = CONTAINER_OF(op, struct be_parts, op);
    struct local *l = local_of(op->be);
    struct local_upload *u;
    int err = upload_enter(l, op, o->upload_id, &u);
    if (err < 0) {
        return err;
    }
    mutex_lock(&l->lock);
    o->parts = mem_zalloc(u->n_parts * sizeof(*o->parts));
    o->n_parts = u->n_parts;
    for (size_t i = 0; i < u->n_parts; i++) {
        o->parts[i].number = u->parts[i].number;
        o->parts[i].size = u->parts[i].size;
        (void)snprintf(o->parts[i].etag, sizeof(o->parts[i].etag), "%s", u->parts[i].etag);
    }
    mutex_unlock(&l->lock);
    upload_leave(l, u);
    return 0;
}

/* A crash while an upload began, or after its commit, leaves a directory that is none any more. */
static void remove_rubbish(struct local *l, const char *id, const struct stat *st)
{
    if (st->st_ctim.tv_sec < time_wall_ns() / 1000000000 - STALE_AFTER_S) {
        remove_tree(l, id);
    }
}

static int compare_uploads(const void *pa, const void *pb)
{
    const struct be_upload *a = pa, *b = pb;
    int diff = strcmp(a->key, b->key);
    return diff != 0 ? diff : strcmp(a->upload_id, b->upload_id);
}

int local_mp_uploads(struct be_op *op)
{
    struct be_uploads *o = CONTAINER_OF(op, struct be_uploads, op);
    struct local *l = local_of(op->be);
    int mp = local_ours(l, "mp", false);
    if (mp < 0) {
        return mp == -ENOENT ? 0 : be_fail_errno(op, -mp, "%s/%s/mp", l->path, LOCAL_OURS);
    }
    DIR *d = fdopendir(mp);
    if (!d) {
        int err = errno;
        close(mp);
        return be_fail_errno(op, err, "%s/%s/mp", l->path, LOCAL_OURS);
    }
    size_t prefix_len = strlen(o->prefix);
    const struct dirent *e;
    while ((e = readdir(d))) {
        struct stat st;
        struct local_upload *u = NULL;
        if (!is_id(e->d_name) || fstatat(mp, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        if (load_upload(l, e->d_name, &u) < 0) {
            remove_rubbish(l, e->d_name, &st);
            continue;
        }
        bool wanted =
            op->key ? strcmp(u->key, op->key) == 0 : strncmp(u->key, o->prefix, prefix_len) == 0;
        if (wanted) {
            o->uploads = mem_realloc(o->uploads, (o->n_uploads + 1) * sizeof(*o->uploads));
            o->uploads[o->n_uploads++] = (struct be_upload){
                .key = TAKE(u->key),
                .upload_id = mem_strdup(u->id),
                .initiated_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
            };
        }
        upload_free(u);
    }
    (void)closedir(d);
    if (o->n_uploads > 1) {
        qsort(o->uploads, o->n_uploads, sizeof(*o->uploads), compare_uploads);
    }
    return 0;
}

/* --- parts --- */

/* Where the bytes of a part go: into data at its place, if nobody has that place. */
static void choose_place_locked(struct local_upload *u, struct mp_part *p)
{
    if (u->stride == 0) {
        u->stride = p->size;
    }
    uint64_t end;
    bool free_place = p->size > 0 && p->size <= u->stride && !find_part_locked(u, p->number) &&
                      !MUL_OVERFLOWS((uint64_t)(p->number - 1), u->stride, &p->offset) &&
                      !ADD_OVERFLOWS(p->offset, p->size, &end) && end <= INT64_MAX;
    for (size_t i = 0; i < u->n_writing; i++) {
        free_place = free_place && u->writing[i] != p->number;
    }
    p->own_file = !free_place;
    if (free_place) {
        u->writing = mem_realloc(u->writing, (u->n_writing + 1) * sizeof(*u->writing));
        u->writing[u->n_writing++] = p->number;
    } else {
        p->offset = 0;
    }
}

static void leave_place_locked(struct local_upload *u, const struct mp_part *p)
{
    for (size_t i = 0; i < u->n_writing && !p->own_file; i++) {
        if (u->writing[i] == p->number) {
            u->writing[i] = u->writing[--u->n_writing];
            break;
        }
    }
}

static int copy_part(struct be_op *op, struct be_part *o, int to, uint64_t offset)
{
    CLEANUP(local_file_fini) struct local_file from = {.fd = -1};
    CLEANUP(mem_closep) int fd = -1;
    int err = local_open_source(op, o->src, o->src_key, o->src_etag, o->src_version_id, &from, &fd);
    if (err < 0) {
        return err;
    }
    uint64_t size = fd >= 0 ? (uint64_t)from.st.st_size : 0;
    if (o->src_offset > size || o->src_len > size - o->src_offset) {
        return be_fail(op, ERR_INVALID, "InvalidRange", "the source ends before the range does");
    }
    err = local_copy_range(op, fd, o->src_offset, to, offset, o->src_len);
    struct stat after;
    if (err == 0 && fstat(fd, &after) < 0) {
        err = be_fail_errno(op, errno, "%s: stat", op->be->name);
    }
    if (err == 0 && !local_same_version(&from.st, &after)) {
        err = local_fail_changed(op, o->src_key);
    }
    return err;
}

/* Writes and syncs the bytes of a part, then makes the file that says so. */
static int store_part(struct be_op *op, struct be_part *o, int dir, const struct mp_part *p)
{
    char name[32] = DATA_FILE;
    if (p->own_file) {
        (void)snprintf(name, sizeof(name), "new.%p", (void *)o); /* one operation, one address */
    }
    CLEANUP(mem_closep)
    int fd = openat(dir, name,
                    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (p->own_file ? O_TRUNC : 0), 0600);
    if (fd < 0) {
        return be_fail_errno(op, errno, "%s: part", op->be->name);
    }
    int err = o->src ? copy_part(op, o, fd, p->offset)
                     : local_write_all(op, fd, o->data, o->len, p->offset);
    if (err == 0 && fdatasync(fd) < 0) {
        err = be_fail_errno(op, errno, "%s: fsync", op->be->name);
    }
    if (err == 0 && p->own_file && renameat(dir, name, dir, p->file) < 0) {
        err = be_fail_errno(op, errno, "%s: part", op->be->name);
    }
    if (err < 0 && p->own_file) {
        (void)unlinkat(dir, name, 0);
    }
    if (err == 0 && !p->own_file) {
        CLEANUP(mem_closep)
        int said = openat(dir, p->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        err = said < 0 ? be_fail_errno(op, errno, "%s: part", op->be->name) : 0;
    }
    return err;
}

static int run_part(struct local *l, struct be_op *op, struct local_upload *u)
{
    struct be_part *o = CONTAINER_OF(op, struct be_part, op);
    struct mp_part p = {.number = o->number, .size = o->src ? o->src_len : o->len};
    uint64_t crc64 = o->src ? 0 : crc64_update(0, o->data, o->len);
    mutex_lock(&l->lock);
    uint64_t n = ++l->next_id;
    choose_place_locked(u, &p);
    mutex_unlock(&l->lock);
    (void)snprintf(p.etag, sizeof(p.etag), "%c%016llx", o->src ? 'r' : 'x',
                   (unsigned long long)(o->src ? l->id + n : crc64));
    name_part(&p);

    CLEANUP(mem_closep) int dir = open_dir(l, u->id);
    int err = dir == -ENOENT ? fail_no_upload(op)
              : dir < 0      ? be_fail_errno(op, -dir, "%s: upload", op->be->name)
                             : store_part(op, o, dir, &p);
    struct mp_part before = p;
    mutex_lock(&l->lock);
    leave_place_locked(u, &p);
    bool kept = err == 0 && !u->ended;
    if (kept) {
        put_part_locked(u, &before);
    }
    mutex_unlock(&l->lock);
    if (err == 0 && before.file[0] != '\0') {
        (void)unlinkat(dir, before.file,
                       0); /* the replaced one's, or ours when the upload has ended */
    }
    if (err == 0 && !kept) {
        err = fail_no_upload(op);
    }
    if (err == 0 && local_sync_dir(dir) < 0) {
        err = be_fail_errno(op, errno, "%s: fsync", op->be->name);
    }
    if (err == 0) {
        o->object = (struct be_object){.size = p.size, .has_crc64 = !o->src, .crc64 = crc64};
        (void)snprintf(o->object.etag, sizeof(o->object.etag), "%s", p.etag);
    }
    return err;
}

int local_mp_part(struct be_op *op)
{
    struct be_part *o = CONTAINER_OF(op, struct be_part, op);
    struct local *l = local_of(op->be);
    if (!o->src && o->md5) {
        uint8_t md5[DIGEST_MD5_LEN];
        digest_md5(o->data, o->len, md5);
        if (memcmp(md5, o->md5, sizeof(md5)) != 0) {
            return be_fail(op, ERR_INTEGRITY, "BadDigest", "the bytes do not have the MD5 given");
        }
    }
    struct local_upload *u;
    int err = upload_enter(l, op, o->upload_id, &u);
    if (err < 0) {
        return err;
    }
    err = run_part(l, op, u);
    upload_leave(l, u);
    return err;
}

/* --- commit --- */

/* The parts of a commit as they are stored. */
struct assembly {
    struct mp_part *parts;
    size_t n;
    uint64_t size;
    bool in_place; /* all in data, one after the other */
    bool has_crc64;
    uint64_t crc64;
};

static int assemble_locked(struct be_op *op, struct local_upload *u, struct assembly *a)
{
    const struct be_commit *o = CONTAINER_OF(op, const struct be_commit, op);
    a->parts = mem_zalloc(o->n_parts * sizeof(*a->parts));
    a->n = o->n_parts;
    a->in_place = true;
    a->has_crc64 = true;
    for (size_t i = 0; i < o->n_parts; i++) {
        const struct be_part_id *want = &o->parts[i];
        const struct mp_part *p = find_part_locked(u, want->number);
        if (!p || strcmp(p->etag, want->etag) != 0) {
            return be_fail(op, ERR_INVALID, "InvalidPart", "part %u %s", want->number,
                           p ? "has another etag" : "was not uploaded");
        }
        if (i + 1 < o->n_parts && p->size < op->be->limits.min_part) {
            return be_fail(op, ERR_INVALID, "EntityTooSmall",
                           "part %u is too small not to be the last", want->number);
        }
        unsigned long long crc64;
        a->has_crc64 = a->has_crc64 && sscanf(p->etag, "x%16llx", &crc64) == 1;
        a->crc64 = a->has_crc64 ? crc64_combine(a->crc64, crc64, p->size) : 0;
        a->in_place = a->in_place && !p->own_file && p->offset == a->size;
        a->parts[i] = *p;
        if (ADD_OVERFLOWS(a->size, p->size, &a->size) || a->size > INT64_MAX) {
            return be_fail(op, ERR_INVALID, "EntityTooLarge",
                           "the parts are too much for one object");
        }
    }
    return 0;
}

/* data itself becomes the object. *ret_done false: it cannot, copy instead. */
static int take_data(struct be_op *op, int dir, int parent, const struct assembly *a,
                     struct local_temp *ret, bool *ret_done)
{
    struct stat data_st, parent_st;
    *ret_done = false;
    CLEANUP(mem_closep) int fd = openat(dir, DATA_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &data_st) < 0 || fstat(parent, &parent_st) < 0) {
        return be_fail_errno(op, errno, "%s: upload", op->be->name);
    }
    /* Longer: it has parts that this commit leaves out, and another may want. */
    if (data_st.st_dev != parent_st.st_dev || (uint64_t)data_st.st_size != a->size) {
        return 0;
    }
    ret->l = local_of(op->be);
    ret->dir = fcntl(dir, F_DUPFD_CLOEXEC, 3);
    if (ret->dir < 0) {
        return be_fail_errno(op, errno, "%s: upload", op->be->name);
    }
    ret->fd = fd;
    fd = -1;
    (void)snprintf(ret->name, sizeof(ret->name), "%s", DATA_FILE);
    *ret_done = true;
    return 0;
}

static int copy_data(struct local *l, struct be_op *op, int dir, int parent,
                     const struct assembly *a, struct local_temp *t)
{
    int err = local_temp_name(l, op, parent, t);
    if (err == 0) {
        err = local_temp_create(t, op);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < a->n && err == 0; i++) {
        const struct mp_part *p = &a->parts[i];
        const char *name = p->own_file ? p->file : DATA_FILE;
        CLEANUP(mem_closep) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        err = fd < 0 ? be_fail_errno(op, errno, "%s: part %u", op->be->name, p->number)
                     : local_copy_range(op, fd, p->offset, t->fd, at, p->size);
        at += p->size;
    }
    return err;
}

static int commit(struct local *l, struct be_op *op, struct local_upload *u,
                  const struct assembly *a)
{
    struct be_commit *o = CONTAINER_OF(op, struct be_commit, op);
    CLEANUP(local_attrs_fini) struct local_attrs attrs;
    local_attrs_parse(&u->meta, &attrs); /* constant since it was loaded */
    CLEANUP(local_target_fini) struct local_target to = {.parent = -1};
    CLEANUP(local_temp_fini) struct local_temp t = LOCAL_TEMP_INIT;
    CLEANUP(mem_closep) int dir = open_dir(l, u->id);
    if (dir < 0) {
        return fail_no_upload(op);
    }
    int err = local_target_open(l, op, &to);
    bool taken = false;
    if (err == 0 && a->in_place && a->size > 0) {
        err = take_data(op, dir, to.parent, a, &t, &taken);
    }
    if (err == 0 && !taken) {
        err = copy_data(l, op, dir, to.parent, a, &t);
    }
    if (err == 0) {
        err = local_attrs_apply(op, t.fd, &attrs);
    }
    if (err == 0 && fsync(t.fd) < 0) {
        err = be_fail_errno(op, errno, "%s: fsync", op->be->name);
    }
    if (err == 0) {
        err = local_publish(&t, op, &to, o->if_match, o->if_absent, &o->object);
    }
    if (err < 0 && taken) {
        t.name[0] = '\0'; /* the parts stay for another try */
    }
    o->object.has_crc64 = a->has_crc64;
    o->object.crc64 = a->crc64;
    return err;
}

int local_mp_commit(struct be_op *op)
{
    struct be_commit *o = CONTAINER_OF(op, struct be_commit, op);
    struct local *l = local_of(op->be);
    struct local_upload *u;
    int err = upload_enter(l, op, o->upload_id, &u);
    if (err < 0) {
        return err;
    }
    struct assembly a = {0};
    mutex_lock(&l->lock);
    bool alone = !u->committing && !u->ended;
    if (!alone) {
        err = fail_no_upload(op); /* taken by a commit or abort at this moment */
    } else {
        err = assemble_locked(op, u, &a);
        u->committing = err == 0;
    }
    mutex_unlock(&l->lock);
    if (err == 0) {
        err = commit(l, op, u, &a);
        mutex_lock(&l->lock);
        u->committing = false;
        /* Renamed but not surely on disk: data is gone, and so is the upload. */
        if (err == 0 || op->err.outcome_unknown) {
            end_locked(l, u);
        }
        mutex_unlock(&l->lock);
    }
    upload_leave(l, u);
    free(a.parts);
    return err;
}
