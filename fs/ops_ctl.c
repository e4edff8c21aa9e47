/* .objmig: in every directory, shown in no listing. It speaks of what lies below that directory.
 *
 *     status   JSON          metrics   Prometheus text (of everything)
 *     errors   a line a failed key
 *     control  write "retry", "discard" or "flush"; its owner (who mounted) and root may
 *
 * Reading shows what was true at open, whatever its size: hence direct I/O. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fop.h"
#include "log.h"

const char *const ctl_names[CTL_FILES] = {[CTL_STATUS] = "status",
                                          [CTL_METRICS] = "metrics",
                                          [CTL_ERRORS] = "errors",
                                          [CTL_CONTROL] = "control"};

int ctl_of(const struct inode *i)
{
    int k = 0;

    while (k < CTL_FILES - 1 && strcmp(inode_ctl_name(i), ctl_names[k]) != 0) {
        k++;
    }
    return k;
}

static void ctl_entry(struct fop *op, struct inode *i)
{
    struct fuse_entry_param e = {
        .ino = itable_nodeid(op->fs->inodes, i), .entry_timeout = 60, .attr_timeout = 1};

    (void)fs_synthetic(op->fs, i, &e.attr);
    if (fuse_reply_entry(op->req, &e) == -ENOENT) {
        itable_forget(op->fs->inodes, i, 1);
    }
    fop_finish(op);
}

bool ctl_lookup(struct fop *op, const char *name)
{
    struct itable *t = op->fs->inodes;

    if (inode_kind(op->inode) == INODE_CTLDIR) {
        for (int k = 0; k < CTL_FILES; k++) {
            if (strcmp(name, ctl_names[k]) == 0) {
                struct inode *i = itable_lookup(t, op->inode, name, INODE_CTLFILE, S_IFREG, NULL);
                ctl_entry(op, i);
                return true;
            }
        }
        fop_err(op, ENOENT);
        return true;
    }
    if (strcmp(name, CTL_DIR) == 0) {
        ctl_entry(op, itable_lookup(t, op->inode, name, INODE_CTLDIR, S_IFDIR, NULL));
        return true;
    }
    return false;
}

static int scope_of(struct fs *fs, struct inode *i, struct buf *prefix, struct cscope *ret)
{
    int r = itable_key(fs->inodes, i, prefix);

    *ret = (struct cscope){.remote = inode_remote(i), .prefix = buf_str(prefix)};
    return r;
}

void ctl_open(struct fop *op)
{
    struct fs *fs = op->fs;
    int ctl = ctl_of(op->inode), r;
    struct cscope scope;
    struct buf text = BUF_INIT;

    r = scope_of(fs, op->inode, &op->key, &scope);
    if (r == 0) {
        switch (ctl) {
        case CTL_STATUS:
            r = cache_status(fs->cache, &scope, &text);
            break;
        case CTL_METRICS:
            r = cache_metrics(fs->cache, &text);
            break;
        case CTL_ERRORS:
            r = cache_errors(fs->cache, &scope, &text);
            break;
        default:
            break;
        }
    }
    if (r < 0) {
        buf_fini(&text);
        fop_err(op, r);
        return;
    }
    struct fhandle *fh = fhandle_new(fs->inodes, op->inode, NULL);
    fh->ctl = ctl;
    fh->text = text;
    op->fi.fh = (uintptr_t)fh;
    op->fi.direct_io = 1;
    if (fuse_reply_open(op->req, &op->fi) == -ENOENT && fhandle_put(fs->inodes, fh)) {
        fhandle_free(fs->inodes, fh);
    }
    fop_finish(op);
}

void ctl_read(fuse_req_t req, struct fhandle *fh, size_t size, off_t off)
{
    size_t at = MIN((size_t)off, fh->text.len);

    (void)fuse_reply_buf(req, buf_str(&fh->text) + at, MIN(size, fh->text.len - at));
}

/* One command a write, as echo sends it. */
void ctl_write(fuse_req_t req, struct fs *fs, struct fhandle *fh, const char *data, size_t size)
{
    struct buf prefix = BUF_INIT;
    struct cscope scope;
    char word[16];
    unsigned n = 0;
    size_t len = size;

    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == ' ')) {
        len--;
    }
    int r = fh->ctl == CTL_CONTROL ? scope_of(fs, fh->inode, &prefix, &scope) : -EACCES;
    if (r == 0 && len < sizeof(word)) {
        memcpy(word, data, len);
        word[len] = '\0';
        if (strcmp(word, "retry") == 0) {
            r = cache_retry(fs->cache, &scope, &n);
        } else if (strcmp(word, "discard") == 0) {
            r = cache_discard(fs->cache, &scope, &n);
        } else if (strcmp(word, "flush") == 0) {
            cache_hurry(fs->cache, &scope);
        } else {
            r = -EINVAL;
        }
        log_notice("control", "command=%s prefix=%s keys=%u status=%d", word, buf_str(&prefix), n,
                   r);
    } else if (r == 0) {
        r = -EINVAL;
    }
    buf_fini(&prefix);
    if (r < 0) {
        (void)fuse_reply_err(req, -r);
    } else {
        (void)fuse_reply_write(req, size);
    }
}
