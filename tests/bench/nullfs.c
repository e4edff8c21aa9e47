/* A file system that does nothing, as fast as FUSE allows: what `cp -r` between two directories costs here before anybody has done
 * any work. tree/ has DIRS directories of FILES files of 16 KiB, without bytes; what is made exists by name and size only.
 *
 *   nullfs DIR DIRS FILES          serves, by one thread, until it is unmounted */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

#define SIZE 16384
#define TIMEOUT 3600.0
#define BUCKETS (1u << 16)

struct node {
    char *name;
    mode_t mode;
    uint64_t size;
    fuse_ino_t parent, next_of_dir, next_of_hash;
    fuse_ino_t first; /* of a directory */
};

static struct node *nodes; /* by number; 1 is the root */
static size_t n_nodes, room;
static fuse_ino_t hash[BUCKETS];

static fuse_ino_t *bucket(fuse_ino_t parent, const char *name)
{
    uint64_t h = 1469598103934665603ULL ^ parent;
    for (; *name != '\0'; name++) {
        h = (h ^ (uint8_t)*name) * 1099511628211ULL;
    }
    return &hash[(h ^ (h >> 29)) % BUCKETS];
}

static fuse_ino_t add(fuse_ino_t parent, const char *name, mode_t mode, uint64_t size)
{
    if (n_nodes == room) {
        room = room == 0 ? 1024 : room * 2;
        nodes = mem_realloc(nodes, room * sizeof(*nodes));
    }
    fuse_ino_t ino = n_nodes++, *b = bucket(parent, name);
    nodes[ino] = (struct node){.name = mem_strdup(name), .mode = mode, .size = size, .parent = parent, .next_of_hash = *b};
    *b = ino;
    if (ino > FUSE_ROOT_ID) {
        nodes[ino].next_of_dir = nodes[parent].first;
        nodes[parent].first = ino;
    }
    return ino;
}

static struct stat attr_of(fuse_ino_t ino)
{
    const struct node *n = &nodes[ino];
    return (struct stat){.st_ino = ino, .st_nlink = 1, .st_mode = n->mode, .st_size = (off_t)n->size, .st_blocks = (blkcnt_t)n->size / 512};
}

static struct fuse_entry_param entry_of(fuse_ino_t ino)
{
    return (struct fuse_entry_param){.ino = ino, .attr = attr_of(ino), .attr_timeout = TIMEOUT, .entry_timeout = TIMEOUT};
}

static void op_init(void *arg, struct fuse_conn_info *conn)
{
    (void)arg;
    conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS);
    conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    fuse_ino_t ino = *bucket(parent, name);
    while (ino != 0 && (nodes[ino].parent != parent || strcmp(nodes[ino].name, name) != 0)) {
        ino = nodes[ino].next_of_hash;
    }
    if (ino == 0) {
        (void)fuse_reply_err(req, ENOENT);
        return;
    }
    struct fuse_entry_param e = entry_of(ino);
    (void)fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct stat st = attr_of(ino);
    (void)fuse_reply_attr(req, &st, TIMEOUT);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set, struct fuse_file_info *fi)
{
    if (set & FUSE_SET_ATTR_MODE) {
        nodes[ino].mode = st->st_mode;
    }
    op_getattr(req, ino, fi);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fuse_entry_param e = entry_of(add(parent, name, S_IFDIR | (mode & 07777), 0));
    (void)fuse_reply_entry(req, &e);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct fuse_entry_param e = entry_of(add(parent, name, S_IFREG | (mode & 07777), 0));
    (void)fuse_reply_create(req, &e, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    fi->keep_cache = 1;
    (void)fuse_reply_open(req, fi);
}

static void op_done(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    (void)fi;
    (void)fuse_reply_err(req, 0);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    (void)ino;
    (void)name;
    (void)size;
    (void)fuse_reply_err(req, ENODATA);
}

static void op_copy(fuse_req_t req, fuse_ino_t in, off_t off, struct fuse_file_info *fi, fuse_ino_t out, off_t out_off,
                    struct fuse_file_info *out_fi, size_t len, int flags)
{
    (void)fi;
    (void)out_fi;
    (void)flags;
    uint64_t left = (uint64_t)off >= nodes[in].size ? 0 : nodes[in].size - (uint64_t)off;
    size_t n = MIN(len, left);
    nodes[out].size = MAX(nodes[out].size, (uint64_t)out_off + n);
    (void)fuse_reply_write(req, n);
}

/* The offset of an entry is the node after it; 0 is the beginning, so the end is one more than there are. */
static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    CLEANUP(mem_freep) char *page = mem_zalloc(size);
    size_t at = 0;
    fuse_ino_t n = off == 0 ? nodes[ino].first : (fuse_ino_t)off >= n_nodes ? 0 : (fuse_ino_t)off;
    while (n != 0) {
        struct fuse_entry_param e = entry_of(n);
        fuse_ino_t next = nodes[n].next_of_dir;
        size_t len = fuse_add_direntry_plus(req, page + at, size - at, nodes[n].name, &e, next != 0 ? (off_t)next : (off_t)INT64_MAX);
        if (len > size - at) {
            break;
        }
        at += len;
        n = next;
    }
    (void)fuse_reply_buf(req, page, at);
}

int main(int argc, char **argv)
{
    static const struct fuse_lowlevel_ops table = {
        .init = op_init, .lookup = op_lookup, .getattr = op_getattr, .setattr = op_setattr, .mkdir = op_mkdir, .create = op_create,
        .open = op_open, .release = op_done, .flush = op_done, .opendir = op_open, .releasedir = op_done, .getxattr = op_getxattr,
        .copy_file_range = op_copy, .readdirplus = op_readdirplus,
    };
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    if (argc != 4 || fuse_opt_add_arg(&args, argv[0]) != 0 || fuse_opt_add_arg(&args, "-odefault_permissions,allow_other") != 0) {
        return 2;
    }
    n_nodes = 1; /* 0 is nobody */
    nodes = mem_zalloc((room = 1024) * sizeof(*nodes));
    fuse_ino_t root = add(0, "", S_IFDIR | 0755, 0), tree = add(root, "tree", S_IFDIR | 0755, 0);
    for (unsigned long i = strtoul(argv[2], NULL, 10); i-- > 0;) {
        char name[24];
        (void)snprintf(name, sizeof(name), "d%06lu", i);
        fuse_ino_t dir = add(tree, name, S_IFDIR | 0755, 0);
        for (unsigned long j = strtoul(argv[3], NULL, 10); j-- > 0;) {
            (void)snprintf(name, sizeof(name), "f%06lu", j);
            (void)add(dir, name, S_IFREG | 0644, SIZE);
        }
    }
    struct fuse_session *se = fuse_session_new(&args, &table, sizeof(table), NULL);
    fuse_opt_free_args(&args);
    if (se == NULL || fuse_session_mount(se, argv[1]) != 0) {
        return 1;
    }
    int r = fuse_session_loop(se);
    fuse_session_unmount(se);
    fuse_session_destroy(se);
    return r < 0;
}
