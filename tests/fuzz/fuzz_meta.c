/* Metadata as attributes of a file: modes, owners, times, extended attributes. One name=value a
 * line.
 *
 * What holds: attributes that were read are read the same after they were written; an attribute
 * that is listed can be read under the name it is listed with, and is the metadatum it came from.
 */
#include "fuzz.h"

#include "internal.h"

#include <sys/stat.h>

static void check_attributes(const struct kvlist *meta, mode_t type)
{
    const struct cattr plain = {.mode = type | 0644};
    struct cattr a = plain, b = plain;
    CLEANUP(kv_fini) struct kvlist written = {0};
    meta_decode(meta, &a);
    ENSURE(S_ISDIR(a.mode) == S_ISDIR(type));
    meta_encode(&a, CSET_MODE | CSET_UID | CSET_GID | CSET_MTIME, &written);
    meta_decode(&written, &b);
    ENSURE(a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.mtime_ns == b.mtime_ns);
    ENSURE(!(S_ISCHR(a.mode) || S_ISBLK(a.mode)) || a.rdev == b.rdev);
    (void)meta_has_posix(meta);
    (void)meta_user_bytes(meta);
}

static void check_listed(const char *name)
{
    CLEANUP(buf_fini) struct buf xattr = BUF_INIT;
    CLEANUP(buf_fini) struct buf back = BUF_INIT;
    if (meta_name_xattr(name, &xattr)) {
        ENSURE(xattr.len > 0 && strlen(xattr.data) == xattr.len);
        ENSURE(meta_xattr_name(xattr.data, &back));
        ENSURE(strcasecmp(buf_str(&back), name) == 0);
    }
}

/* An extended attribute somebody sets. */
static void check_set(const char *xattr, const char *value)
{
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    CLEANUP(buf_fini) struct buf coded = BUF_INIT;
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    if (meta_xattr_name(xattr, &name)) {
        ENSURE(name.len > 0 && fuzz_one_line(name.data) && !strpbrk(name.data, " :"));
    }
    ENSURE(meta_value_encode(value, strlen(value), &coded) == 0 && fuzz_one_line(buf_str(&coded)));
    ENSURE(meta_value_decode(buf_str(&coded), &plain) == 0 && strcmp(buf_str(&plain), value) == 0);
    (void)meta_value_decode(value, &plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    CLEANUP(kv_fini) struct kvlist meta = {0};
    CLEANUP(kv_fini) struct kvlist own = {0};
    while (fuzz_left(&in) > 0) {
        CLEANUP(mem_freep) char *line = fuzz_line(&in);
        char *eq = strchr(line, '=');
        if (eq && eq > line) {
            *eq = '\0';
            kv_set(&meta, line, eq + 1);
            check_listed(line);
            check_set(line, eq + 1);
            ENSURE(meta_content_type(line)[0] != '\0');
        }
    }
    check_attributes(&meta, S_IFREG);
    check_attributes(&meta, S_IFDIR);
    uint8_t md5[16];
    if (meta_get_md5(&meta, md5)) {
        meta_set_md5(&own, md5, false);
        ENSURE(strcasecmp(kv_get(&own, "meta-md5"), kv_get(&meta, "meta-md5")) == 0);
    }
    meta_merge_source(&own, &meta, true);
    return 0;
}
