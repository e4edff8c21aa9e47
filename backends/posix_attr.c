/* What a file system keeps of an object's metadata by itself, and the rest in one extended
 * attribute.
 *
 * meta-mode, meta-uid, meta-gid, meta-mtime and meta-rdev are real attributes, in the forms that
 * s3fs and rclone use: decimal numbers (the mode with its type), seconds with an optional fraction.
 * An octal mode is understood too. What is none of these spellings stays text. All else is in
 * user.objmig.meta as kv_format writes it, with a "stamp" of the size and mtime it was written for:
 * a file changed by others keeps its content type, but not its recorded MD5. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "driver.h"
#include "log.h"
#include "mem.h"
#include "posix.h"

#define STAMP "stamp"
#define XATTR_MAX_SIZE 65536
#define NS_PER_S 1000000000

/* --- texts --- */

static bool parse_digits(const char *s, unsigned base, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    if (*s == '\0') {
        return false;
    }
    for (; *s != '\0'; s++) {
        if (*s < '0' || (unsigned)(*s - '0') >= base || MUL_OVERFLOWS(v, (uint64_t)base, &v) ||
            ADD_OVERFLOWS(v, (uint64_t)(*s - '0'), &v) || v > max) {
            return false;
        }
    }
    *ret = v;
    return true;
}

static bool is_mode(uint64_t v)
{
    mode_t type = (mode_t)v & S_IFMT;
    return v <= 0177777 && (type == 0 || type == S_IFREG || type == S_IFDIR || type == S_IFLNK ||
                            type == S_IFIFO || type == S_IFCHR || type == S_IFBLK);
}

/* "33188" as s3fs writes it, "0100644" as rclone does, "100644" as people do: that is no decimal
 * mode. */
static bool parse_mode(const char *s, mode_t *ret)
{
    uint64_t v;
    bool ok = s[0] != '0' && parse_digits(s, 10, 0177777, &v) && is_mode(v);
    if (!ok) {
        ok = parse_digits(s, 8, 0177777, &v) && is_mode(v);
    }
    if (ok) {
        *ret = (mode_t)v;
    }
    return ok;
}

static bool parse_time(const char *s, struct timespec *ret)
{
    bool negative = *s == '-';
    s += negative ? 1 : 0;
    char whole[24];
    const char *dot = strchrnul(s, '.');
    size_t len = (size_t)(dot - s);
    uint64_t seconds;
    if (len >= sizeof(whole)) {
        return false;
    }
    memcpy(whole, s, len);
    whole[len] = '\0';
    if (!parse_digits(whole, 10, INT64_MAX / NS_PER_S, &seconds)) {
        return false;
    }
    int64_t ns = 0, unit = NS_PER_S / 10;
    for (const char *p = *dot == '.' ? dot + 1 : dot; *p != '\0'; p++, unit /= 10) {
        if (*p < '0' || *p > '9') {
            return false;
        }
        ns += (*p - '0') * unit; /* digits below a nanosecond count nothing */
    }
    int64_t all = (int64_t)seconds * NS_PER_S + ns;
    all = negative ? -all : all;
    ret->tv_sec = all / NS_PER_S;
    ret->tv_nsec = all % NS_PER_S;
    if (ret->tv_nsec < 0) {
        ret->tv_nsec += NS_PER_S;
        ret->tv_sec--;
    }
    return true;
}

static void format_time(struct timespec t, char ret[40])
{
    long long s = t.tv_sec;
    long ns = t.tv_nsec;
    bool negative = s < 0;
    if (negative && ns > 0) {
        s++;
        ns = NS_PER_S - ns;
    }
    if (ns == 0) {
        (void)snprintf(ret, 40, "%lld", s);
    } else {
        (void)snprintf(ret, 40, "%s%lld.%09ld", negative ? "-" : "", negative ? -s : s, ns);
    }
}

void local_attrs_fini(struct local_attrs *a)
{
    kv_fini(&a->rest);
}

void local_attrs_parse(const struct kvlist *meta, struct local_attrs *ret)
{
    *ret = (struct local_attrs){0};
    for (size_t i = 0; meta && i < meta->n; i++) {
        const char *name = meta->items[i].name, *value = meta->items[i].value;
        uint64_t v;
        if (strcasecmp(name, "meta-mode") == 0 && parse_mode(value, &ret->mode)) {
            ret->has_mode = true;
        } else if (strcasecmp(name, "meta-uid") == 0 &&
                   parse_digits(value, 10, UINT32_MAX - 1, &v)) {
            ret->has_uid = true;
            ret->uid = (uid_t)v;
        } else if (strcasecmp(name, "meta-gid") == 0 &&
                   parse_digits(value, 10, UINT32_MAX - 1, &v)) {
            ret->has_gid = true;
            ret->gid = (gid_t)v;
        } else if (strcasecmp(name, "meta-mtime") == 0 && parse_time(value, &ret->mtime)) {
            ret->has_mtime = true;
        } else if (strcasecmp(name, "meta-rdev") == 0 && parse_digits(value, 10, UINT64_MAX, &v)) {
            ret->has_rdev = true;
            ret->rdev = (dev_t)v;
        } else if (strcasecmp(name, "storage-class") != 0 && strcasecmp(name, "encryption") != 0) {
            kv_set(&ret->rest, name, value); /* those two ask for what a directory does not have */
        }
    }
}

/* --- onto a file --- */

static void proc_path(int fd, char ret[32])
{
    (void)snprintf(ret, 32, "/proc/self/fd/%d", fd);
}

/* What may be lost without loss: it can be found again from the name or the bytes. */
static bool is_dispensable(const struct kvlist *rest)
{
    for (size_t i = 0; i < rest->n; i++) {
        if (strcasecmp(rest->items[i].name, "content-type") != 0 &&
            strcasecmp(rest->items[i].name, "meta-md5") != 0) {
            return false;
        }
    }
    return true;
}

static int store_rest(struct be_op *op, int fd, const struct stat *st, const struct kvlist *rest)
{
    char path[32];
    proc_path(fd, path);
    bool possible =
        S_ISREG(st->st_mode) || S_ISDIR(st->st_mode); /* others cannot have user attributes */
    if (rest->n == 0) {
        if (possible && S_ISDIR(st->st_mode)) { /* a new file has none */
            (void)removexattr(path, LOCAL_META_XATTR);
        }
        return 0;
    }
    CLEANUP(kv_fini) struct kvlist all = {0};
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    kv_copy(&all, rest);
    if (!S_ISDIR(st->st_mode)) {
        char stamp[64], time[40];
        format_time(st->st_mtim, time);
        (void)snprintf(stamp, sizeof(stamp), "%lld %s", (long long)st->st_size, time);
        kv_set(&all, STAMP, stamp);
    }
    int err = kv_format(&all, &text);
    if (err < 0) {
        return be_fail(op, ERR_LOCAL, "", "out of memory");
    }
    if (possible && setxattr(path, LOCAL_META_XATTR, buf_str(&text), text.len, 0) == 0) {
        return 0;
    }
    int cause = possible ? errno : EOPNOTSUPP;
    if (cause == EOPNOTSUPP && is_dispensable(rest)) {
        log_debug("local", "no extended attributes here: content type and MD5 are not kept");
        return 0;
    }
    if (cause == EOPNOTSUPP) {
        return be_fail(op, ERR_INVALID, "", "%s cannot keep this metadata: no extended attributes",
                       op->be->name);
    }
    struct statvfs fs;
    bool full = cause == ENOSPC && fstatvfs(fd, &fs) == 0 && fs.f_bavail == 0;
    if ((cause == ENOSPC && !full) || cause == E2BIG || cause == ERANGE) {
        return be_fail(op, ERR_INVALID, "MetadataTooLarge",
                       "%zu bytes of metadata are too much for the file system of %s", text.len,
                       op->be->name);
    }
    return be_fail_errno(op, cause, "%s: extended attribute", op->be->name);
}

int local_attrs_apply(struct be_op *op, int fd, const struct local_attrs *a)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return be_fail_errno(op, errno, "%s: stat", op->be->name);
    }
    uid_t uid = a->has_uid && a->uid != st.st_uid ? a->uid : (uid_t)-1;
    gid_t gid = a->has_gid && a->gid != st.st_gid ? a->gid : (gid_t)-1;
    if ((uid != (uid_t)-1 || gid != (gid_t)-1) && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 &&
        errno != EPERM) {
        return be_fail_errno(op, errno, "%s: owner", op->be->name);
    }
    if (a->has_mtime) {
        const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, a->mtime};
        if (utimensat(fd, "", times, AT_EMPTY_PATH) < 0) {
            return be_fail_errno(op, errno, "%s: time", op->be->name);
        }
        if (fstat(fd, &st) < 0) { /* the file system may round the time */
            return be_fail_errno(op, errno, "%s: stat", op->be->name);
        }
    }
    /* Before the mode, which may forbid it. */
    int err = store_rest(op, fd, &st, &a->rest);
    if (err < 0) {
        return err;
    }
    mode_t mode = a->has_mode ? a->mode & 07777 : 0644;
    if (S_ISLNK(st.st_mode) || (S_ISDIR(st.st_mode) && !a->has_mode) ||
        (st.st_mode & 07777) == mode) {
        return 0;
    }
    char path[32];
    proc_path(fd, path);
    if (chmod(path, mode) < 0) {
        return be_fail_errno(op, errno, "%s: mode", op->be->name);
    }
    return 0;
}

/* --- back from a file --- */

/* The attribute's text, or empty: none, or not ours. */
static int read_xattr(const char *path, struct buf *ret)
{
    for (;;) {
        ssize_t size = getxattr(path, LOCAL_META_XATTR, NULL, 0);
        if (size <= 0 || size > XATTR_MAX_SIZE) {
            bool none = size >= 0 || errno == ENODATA || errno == EOPNOTSUPP || errno == EPERM;
            return none ? 0 : -errno;
        }
        int err = buf_reserve(ret, (size_t)size);
        if (err < 0) {
            return err;
        }
        ssize_t n = getxattr(path, LOCAL_META_XATTR, ret->data, (size_t)size);
        if (n >= 0) {
            ret->len = (size_t)n;
            ret->data[n] = '\0';
            return 0;
        }
        if (errno != ERANGE) { /* it grew meanwhile: look again */
            return errno == ENODATA ? 0 : -errno;
        }
    }
}

static int load_rest(struct be_op *op, const struct local_file *f, struct kvlist *ret)
{
    if (!S_ISREG(f->st.st_mode) && !S_ISDIR(f->st.st_mode)) {
        return 0;
    }
    char path[32];
    proc_path(f->fd, path);
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    int err = read_xattr(path, &text);
    if (err < 0) {
        return be_fail_errno(op, -err, "%s: extended attribute", op->be->name);
    }
    if (text.len == 0 || memchr(text.data, '\0', text.len) || kv_parse(ret, text.data) < 0) {
        return 0;
    }
    char stamp[64], time[40];
    format_time(f->st.st_mtim, time);
    (void)snprintf(stamp, sizeof(stamp), "%lld %s", (long long)f->st.st_size, time);
    const char *was = kv_get(ret, STAMP);
    if (!was || strcmp(was, stamp) != 0) {
        kv_set(ret, "meta-md5", NULL);
    }
    kv_set(ret, STAMP, NULL);
    return 0;
}

/* What is there already was a spelling nobody understood, kept as it came. */
static void set_new(struct kvlist *l, const char *name, const char *value)
{
    if (!kv_get(l, name)) {
        kv_set(l, name, value);
    }
}

static void set_number(struct kvlist *l, const char *name, uint64_t v)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    set_new(l, name, text);
}

void local_attrs_of(const struct stat *st, struct kvlist *ret)
{
    char time[40];
    format_time(st->st_mtim, time);
    set_number(ret, "meta-mode", st->st_mode);
    set_number(ret, "meta-uid", st->st_uid);
    set_number(ret, "meta-gid", st->st_gid);
    set_new(ret, "meta-mtime", time);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        set_number(ret, "meta-rdev", st->st_rdev);
    }
}

int local_attrs_load(struct be_op *op, const struct local_file *f, struct kvlist *ret)
{
    int err = load_rest(op, f, ret);
    if (err < 0) {
        return err;
    }
    local_attrs_of(&f->st, ret);
    return 0;
}
