/* POSIX attributes, headers and xattrs as object metadata. Pure.
 *
 * Names are those of s3fs and rclone, so that those tools read what we wrote and we read what they wrote: meta-mode
 * (decimal st_mode, s3fs; rclone's octal with a leading 0 is read too), meta-uid, meta-gid, meta-mtime (seconds, with an
 * optional fraction; rclone and s3fs), meta-rdev (decimal). meta-md5 is the whole file's MD5, lower-case hex; meta-md5-from
 * = "source" says that it was carried by a server-side copy and not computed. Other xattrs are meta-xattr-NAME with NAME
 * and value percent-encoded. */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mem.h"

void meta_defaults(struct cache *c, struct cattr *a, bool dir)
{
    memset(a, 0, sizeof(*a));
    a->mode = dir ? (S_IFDIR | (0777 & ~c->opt.umask)) : (S_IFREG | (0666 & ~c->opt.umask));
    a->uid = c->opt.uid;
    a->gid = c->opt.gid;
}

static bool number(const char *s, int base, uint64_t max, uint64_t *ret)
{
    if (s == NULL || *s < '0' || *s > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, base);
    if (errno != 0 || *end != '\0' || v > max) {
        return false;
    }
    *ret = v;
    return true;
}

/* Seconds whose nanoseconds fit, with a fraction too. */
#define TIME_S_MAX (INT64_MAX / 1000000000 - 1)

static bool decode_mtime(const char *s, int64_t *ret_ns)
{
    if (s == NULL) {
        return false;
    }
    bool negative = *s == '-';
    if (negative) {
        s++;
    }
    int64_t sec = 0;
    int digits = 0;
    while (*s >= '0' && *s <= '9') {
        if (++digits > 11) {
            return false;
        }
        sec = sec * 10 + (*s++ - '0');
    }
    if (digits == 0 || sec > TIME_S_MAX) {
        return false;
    }
    int64_t ns = 0;
    if (*s == '.') {
        s++;
        int64_t unit = 100000000;
        while (*s >= '0' && *s <= '9') {
            ns += (*s++ - '0') * unit;
            unit /= 10;
        }
    }
    if (*s != '\0' && *s != 's') {
        return false; /* rclone's RFC 3339 times are handled by the caller's default */
    }
    int64_t v = sec * 1000000000 + ns;
    *ret_ns = negative ? -v : v;
    return true;
}

static bool decode_rfc3339(const char *s, int64_t *ret_ns)
{
    struct tm tm = {0};
    if (s == NULL) {
        return false;
    }
    const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
    if (p == NULL) {
        return false;
    }
    int64_t ns = 0;
    if (*p == '.') {
        p++;
        for (int64_t unit = 100000000; *p >= '0' && *p <= '9'; p++) {
            ns += (*p - '0') * unit;
            unit /= 10;
        }
    }
    int64_t shift = 0;
    if (*p == '+' || *p == '-') {
        int h, m;
        if (sscanf(p + 1, "%2d:%2d", &h, &m) != 2) {
            return false;
        }
        shift = (h * 3600 + m * 60) * (*p == '+' ? 1 : -1);
    } else if (*p != 'Z') {
        return false;
    }
    int64_t sec = timegm(&tm) - shift;
    if (sec > TIME_S_MAX || sec < -TIME_S_MAX) {
        return false; /* years that our clock does not have */
    }
    *ret_ns = sec * 1000000000 + ns;
    return true;
}

void meta_decode(const struct kvlist *meta, struct cattr *a)
{
    uint64_t v;
    const char *mode = kv_get(meta, "meta-mode");
    if (number(mode, mode != NULL && mode[0] == '0' ? 8 : 10, 0177777, &v)) {
        mode_t type = (mode_t)v & S_IFMT;
        bool dir = S_ISDIR(a->mode);
        if (type == 0 || S_ISDIR(type) != dir) {
            type = a->mode & S_IFMT; /* a directory is what has a slash, whatever its metadata claims */
        }
        a->mode = type | ((mode_t)v & 07777);
    }
    if (number(kv_get(meta, "meta-uid"), 10, UINT32_MAX - 1, &v)) {
        a->uid = (uint32_t)v;
    }
    if (number(kv_get(meta, "meta-gid"), 10, UINT32_MAX - 1, &v)) {
        a->gid = (uint32_t)v;
    }
    if (number(kv_get(meta, "meta-rdev"), 10, UINT64_MAX, &v)) {
        a->rdev = v;
    }
    const char *mtime = kv_get(meta, "meta-mtime");
    int64_t ns;
    if (decode_mtime(mtime, &ns) || decode_rfc3339(mtime, &ns)) {
        a->mtime_ns = ns;
        a->ctime_ns = MAX(a->ctime_ns, ns);
    }
}

bool meta_has_posix(const struct kvlist *meta)
{
    return kv_get(meta, "meta-mode") != NULL || kv_get(meta, "meta-mtime") != NULL || kv_get(meta, "meta-uid") != NULL;
}

static void set_number(struct kvlist *meta, const char *name, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, v);
    kv_set(meta, name, text);
}

void meta_encode(const struct cattr *a, unsigned mask, struct kvlist *meta)
{
    if (mask & CSET_MODE) {
        set_number(meta, "meta-mode", a->mode);
        if (S_ISBLK(a->mode) || S_ISCHR(a->mode)) {
            set_number(meta, "meta-rdev", a->rdev);
        }
    }
    if (mask & CSET_UID) {
        set_number(meta, "meta-uid", a->uid);
    }
    if (mask & CSET_GID) {
        set_number(meta, "meta-gid", a->gid);
    }
    if (mask & CSET_MTIME) {
        char text[48];
        int64_t sec = a->mtime_ns / 1000000000, ns = a->mtime_ns % 1000000000;
        if (a->mtime_ns < 0) {
            snprintf(text, sizeof(text), "-%" PRId64 ".%09" PRId64, -sec, -ns);
        } else {
            snprintf(text, sizeof(text), "%" PRId64 ".%09" PRId64, sec, ns);
        }
        kv_set(meta, "meta-mtime", text);
    }
}

void meta_set_md5(struct kvlist *meta, const uint8_t md5[16], bool inherited)
{
    char hex[33];
    hex_encode(md5, 16, hex);
    kv_set(meta, "meta-md5", hex);
    kv_set(meta, "meta-md5-from", inherited ? "source" : NULL);
}

bool meta_get_md5(const struct kvlist *meta, uint8_t ret_md5[16])
{
    const char *s = kv_get(meta, "meta-md5");
    return s != NULL && hex_decode(s, 16, ret_md5);
}

static const char *const posix_names[] = {"meta-mode", "meta-uid", "meta-gid", "meta-mtime", "meta-rdev"};

static bool is_posix_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(posix_names); i++) {
        if (strcasecmp(name, posix_names[i]) == 0) {
            return true;
        }
    }
    return false;
}

void meta_merge_source(struct kvlist *own, const struct kvlist *src, bool moved)
{
    for (size_t i = 0; i < src->n; i++) {
        const char *name = src->items[i].name;
        /* Class and encryption belong to the target's settings; the MD5 is set by the transfer, which knows whether it may be
         * trusted. */
        if (strcasecmp(name, "storage-class") == 0 || strcasecmp(name, "encryption") == 0 ||
            strncasecmp(name, "meta-md5", 8) == 0 || (!moved && is_posix_name(name))) {
            continue;
        }
        if (!moved || kv_get(own, name) == NULL) {
            kv_set(own, name, src->items[i].value);
        }
    }
}

size_t meta_user_bytes(const struct kvlist *meta)
{
    size_t n = 0;
    for (size_t i = 0; i < meta->n; i++) {
        if (strncasecmp(meta->items[i].name, "meta-", 5) == 0) {
            n += strlen(meta->items[i].name) - 5 + strlen(meta->items[i].value);
        }
    }
    return n;
}

/* The suffixes people migrate most. The rest is application/octet-stream, as with every copier without a mime database. */
static const struct {
    const char *suffix, *type;
} types[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"avi", "video/x-msvideo"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", "text/x-c"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"deb", "application/vnd.debian.binary-package"},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"eot", "application/vnd.ms-fontobject"},
    {"epub", "application/epub+zip"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"h", "text/x-c"},
    {"heic", "image/heic"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar"},
    {"iso", "application/x-iso9660-image"},
    {"jar", "application/java-archive"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"log", "text/plain"},
    {"m3u8", "application/vnd.apple.mpegurl"},
    {"m4a", "audio/mp4"},
    {"m4v", "video/mp4"},
    {"md", "text/markdown"},
    {"mjs", "text/javascript"},
    {"mkv", "video/x-matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"odp", "application/vnd.oasis.opendocument.presentation"},
    {"ods", "application/vnd.oasis.opendocument.spreadsheet"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"ogg", "audio/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"py", "text/x-python"},
    {"rar", "application/vnd.rar"},
    {"rtf", "application/rtf"},
    {"sh", "application/x-sh"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tgz", "application/gzip"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ts", "video/mp2t"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain"},
    {"wasm", "application/wasm"},
    {"wav", "audio/x-wav"},
    {"webm", "video/webm"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "application/xml"},
    {"xz", "application/x-xz"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};

const char *meta_content_type(const char *key)
{
    size_t len = strlen(key);
    if (len > 0 && key[len - 1] == '/') {
        return "application/x-directory";
    }
    const char *base = strrchr(key, '/');
    const char *dot = strrchr(base != NULL ? base : key, '.');
    if (dot != NULL) {
        size_t lo = 0, hi = ARRAY_LEN(types);
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            int d = strcasecmp(dot + 1, types[mid].suffix);
            if (d == 0) {
                return types[mid].type;
            }
            if (d < 0) {
                hi = mid;
            } else {
                lo = mid + 1;
            }
        }
    }
    return "application/octet-stream";
}

/* ---- xattrs ---- */

static const struct {
    const char *xattr, *meta;
} plain_xattrs[] = {
    {"user.mime_type", "content-type"},
    {"user.objmig.content-type", "content-type"},
    {"user.objmig.cache-control", "cache-control"},
    {"user.objmig.content-disposition", "content-disposition"},
    {"user.objmig.content-encoding", "content-encoding"},
    {"user.objmig.content-language", "content-language"},
    {"user.objmig.expires", "expires"},
};
#define META_XATTR_PREFIX "user.objmig.meta."

bool meta_xattr_name(const char *xattr, struct buf *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(plain_xattrs); i++) {
        if (strcmp(xattr, plain_xattrs[i].xattr) == 0) {
            return buf_adds(ret, plain_xattrs[i].meta) == 0;
        }
    }
    if (strncmp(xattr, META_XATTR_PREFIX, strlen(META_XATTR_PREFIX)) == 0) {
        const char *name = xattr + strlen(META_XATTR_PREFIX);
        if (*name == '\0') {
            return false;
        }
        for (const char *p = name; *p != '\0'; p++) {
            /* what an HTTP header name can carry, lower case as the services return it */
            if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '_' || *p == '.')) {
                return false;
            }
        }
        return buf_adds(ret, "meta-") == 0 && buf_adds(ret, name) == 0;
    }
    if (strncmp(xattr, "user.objmig.", 12) == 0) {
        return false;
    }
    if (strncmp(xattr, "user.", 5) == 0 || strncmp(xattr, "trusted.", 8) == 0) {
        /* Header names know no case: upper-case letters are escaped beside what url_encode escapes, with '_' for '%'. */
        if (buf_adds(ret, "meta-xattr-") != 0) {
            return false;
        }
        for (const unsigned char *p = (const unsigned char *)xattr; *p != '\0'; p++) {
            if ((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '.') {
                buf_addc(ret, (char)*p);
            } else {
                buf_addf(ret, "_%02x", *p);
            }
        }
        return true;
    }
    return false;
}

static bool xattr_of(const char *name, struct buf *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(plain_xattrs); i++) {
        if (strcasecmp(name, plain_xattrs[i].meta) == 0) {
            return buf_adds(ret, plain_xattrs[i].xattr) == 0;
        }
    }
    if (strncasecmp(name, "meta-xattr-", 11) == 0) {
        for (const char *p = name + 11; *p != '\0'; p++) {
            uint8_t b;
            char two[3] = {0};
            if (*p != '_') {
                buf_addc(ret, *p);
                continue;
            }
            two[0] = p[1];
            two[1] = p[1] != '\0' ? p[2] : '\0';
            if (!hex_decode(two, 1, &b) || b == 0) {
                return false;
            }
            buf_addc(ret, (char)b);
            p += 2;
        }
        return true;
    }
    if (strncasecmp(name, "meta-", 5) == 0 && !is_posix_name(name) && strncasecmp(name, "meta-md5", 8) != 0) {
        return buf_adds(ret, META_XATTR_PREFIX) == 0 && buf_adds(ret, name + 5) == 0;
    }
    return false;
}

/* Foreign metadata may be called anything. A name that does not lead back, which nobody could read under, is left out. */
bool meta_name_xattr(const char *name, struct buf *ret)
{
    CLEANUP(buf_fini) struct buf back = BUF_INIT;
    return xattr_of(name, ret) && meta_xattr_name(buf_str(ret), &back) && strcasecmp(buf_str(&back), name) == 0;
}

int meta_value_encode(const void *p, size_t n, struct buf *out)
{
    return url_encode(out, p, n, true);
}

int meta_value_decode(const char *s, struct buf *out)
{
    return url_decode(out, s, strlen(s), false);
}
