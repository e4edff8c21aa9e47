/* See inode.h.
 *
 * Life: an inode lives while the kernel knows it (nlookup > 0), a child or an open handle refers to
 * it (refs > 0), or it is the root. Children are found by (parent, name) in one hash table; an
 * unlinked inode has left the table and keeps its parent only for the reference. */
#include "inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mem.h"
#include "sync.h"

#define INODE_MAGIC 0x10de0b1fu

struct inode {
    unsigned magic;
    uint8_t kind; /* enum inode_kind; constant */
    uint8_t type; /* file type bits of the mode, shifted; constant */
    bool unlinked;
    struct inode *parent;        /* referenced; NULL for the root; changes by rename only */
    struct inode *next;          /* hash chain */
    struct cache_remote *remote; /* constant */
    uint64_t nlookup;
    union {
        char *prefix;            /* directories: NULL or the key prefix … */
        struct fhandle *handles; /* files: the open ones */
    };
    uint64_t prefix_gen; /* … valid when equal to the table's generation */
    uint32_t refs;
    uint32_t hash;
    char *name; /* inline_name, or malloc'ed after a rename */
    char inline_name[];
};

struct itable {
    struct mutex lock;
    struct inode **buckets; /* power of two */
    size_t n_buckets, n_inodes;
    uint64_t gen; /* rises when a directory is renamed */
    uint64_t seed;
    struct inode *root;
    struct fhandle *all_handles;
};

/* 160 bytes and the name is what a million cached entries may cost (rules F8). */
_Static_assert(sizeof(struct inode) <= 160, "inode too big");

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h;
}

static uint64_t fnv(uint64_t h, const void *p, size_t n)
{
    const unsigned char *s = p;

    for (size_t i = 0; i < n; i++) {
        h = (h ^ s[i]) * 0x100000001b3u;
    }
    return h;
}

static uint32_t name_hash(const struct itable *t, const struct inode *dir, const char *name)
{
    uint64_t h = mix(t->seed ^ (uint64_t)(uintptr_t)dir);

    return (uint32_t)mix(fnv(h, name, strlen(name)));
}

static bool is_dir(const struct inode *i)
{
    return i->kind == INODE_DIR || i->kind == INODE_SUPER || i->kind == INODE_CTLDIR;
}

static void table_grow(struct itable *t)
{
    size_t n = t->n_buckets * 2;
    struct inode **b = mem_zalloc(n * sizeof(*b));

    for (size_t k = 0; k < t->n_buckets; k++) {
        struct inode *i = t->buckets[k];
        while (i != NULL) {
            struct inode *next = i->next;
            i->next = b[i->hash & (n - 1)];
            b[i->hash & (n - 1)] = i;
            i = next;
        }
    }
    free(t->buckets);
    t->buckets = b;
    t->n_buckets = n;
}

static void hash_insert(struct itable *t, struct inode *i)
{
    i->hash = name_hash(t, i->parent, i->name);
    i->next = t->buckets[i->hash & (t->n_buckets - 1)];
    t->buckets[i->hash & (t->n_buckets - 1)] = i;
}

static void hash_remove(struct itable *t, struct inode *i)
{
    struct inode **pp = &t->buckets[i->hash & (t->n_buckets - 1)];

    while (*pp != NULL && *pp != i) {
        pp = &(*pp)->next;
    }
    if (*pp == i) {
        *pp = i->next;
    }
    i->next = NULL;
}

static struct inode *find_locked(struct itable *t, const struct inode *dir, const char *name)
{
    uint32_t h = name_hash(t, dir, name);

    mutex_assert_held(&t->lock);
    for (struct inode *i = t->buckets[h & (t->n_buckets - 1)]; i != NULL; i = i->next) {
        if (i->hash == h && i->parent == dir && strcmp(i->name, name) == 0) {
            return i;
        }
    }
    return NULL;
}

static struct inode *inode_alloc(const char *name, enum inode_kind kind, mode_t type,
                                 struct cache_remote *remote)
{
    size_t len = strlen(name);
    struct inode *i = mem_zalloc(sizeof(*i) + len + 1);

    i->magic = INODE_MAGIC;
    i->kind = (uint8_t)kind;
    i->type = (uint8_t)((type & S_IFMT) >> 12);
    i->remote = remote;
    i->name = i->inline_name;
    memcpy(i->inline_name, name, len + 1);
    return i;
}

/* Frees what nobody needs any more, and so on up. */
static void reap_locked(struct itable *t, struct inode *i)
{
    while (i != NULL && i != t->root && i->nlookup == 0 && i->refs == 0) {
        struct inode *parent = i->parent;

        if (!i->unlinked) {
            hash_remove(t, i);
        }
        if (is_dir(i)) {
            free(i->prefix);
        }
        if (i->name != i->inline_name) {
            free(i->name);
        }
        i->magic = 0;
        free(i);
        t->n_inodes--;
        parent->refs--;
        i = parent;
    }
}

static void set_aside_locked(struct itable *t, struct inode *i)
{
    hash_remove(t, i);
    i->unlinked = true;
    if (is_dir(i)) {
        t->gen++; /* what is cached below it has no path any more */
    }
}

struct itable *itable_new(struct cache_remote *remote, const char *prefix)
{
    struct itable *t = mem_zalloc(sizeof(*t));

    mutex_init(&t->lock, RANK_INODES);
    t->n_buckets = 1024;
    t->buckets = mem_zalloc(t->n_buckets * sizeof(*t->buckets));
    t->gen = 1;
    if (getrandom(&t->seed, sizeof(t->seed), GRND_NONBLOCK) != sizeof(t->seed)) {
        t->seed = (uint64_t)time_wall_ns();
    }
    t->root = inode_alloc("", remote != NULL ? INODE_DIR : INODE_SUPER, S_IFDIR, remote);
    t->root->prefix = mem_strdup(prefix != NULL ? prefix : "");
    t->n_inodes = 1;
    return t;
}

void itable_free(struct itable *t)
{
    if (t == NULL) {
        return;
    }
    ENSURE(t->all_handles == NULL);
    for (size_t k = 0; k < t->n_buckets; k++) {
        struct inode *i = t->buckets[k];
        while (i != NULL) {
            struct inode *next = i->next;
            if (is_dir(i)) {
                free(i->prefix);
            }
            if (i->name != i->inline_name) {
                free(i->name);
            }
            free(i);
            i = next;
        }
    }
    free(t->root->prefix);
    free(t->root);
    free(t->buckets);
    mutex_fini(&t->lock);
    free(t);
}

struct inode *itable_node(struct itable *t, uint64_t nodeid)
{
    struct inode *i = nodeid == 1 ? t->root : (struct inode *)(uintptr_t)nodeid;

    CHECK_MAGIC(i, INODE_MAGIC);
    return i;
}

uint64_t itable_nodeid(const struct itable *t, const struct inode *i)
{
    return i == t->root ? 1 : (uint64_t)(uintptr_t)i;
}

size_t itable_count(struct itable *t)
{
    mutex_lock(&t->lock);
    size_t n = t->n_inodes;
    mutex_unlock(&t->lock);
    return n;
}

enum inode_kind inode_kind(const struct inode *i)
{
    return (enum inode_kind)i->kind;
}

bool inode_is_type(const struct inode *i, mode_t mode)
{
    return i->type == (uint8_t)((mode & S_IFMT) >> 12);
}

const char *inode_ctl_name(const struct inode *i)
{
    ENSURE(i->kind == INODE_CTLFILE);
    return i->name;
}

struct cache_remote *inode_remote(const struct inode *i)
{
    return i->remote;
}

bool inode_is_top(struct itable *t, const struct inode *i)
{
    mutex_lock(&t->lock);
    bool top = i == t->root || (i->parent == t->root && t->root->kind == INODE_SUPER);
    mutex_unlock(&t->lock);
    return top;
}

bool itable_child(struct itable *t, struct inode *dir, const char *name, enum inode_kind *ret_kind)
{
    mutex_lock(&t->lock);
    const struct inode *i = find_locked(t, dir, name);
    if (i != NULL) {
        *ret_kind = (enum inode_kind)i->kind;
    }
    mutex_unlock(&t->lock);
    return i != NULL;
}

static struct inode *lookup_locked(struct itable *t, struct inode *dir, const char *name,
                                   enum inode_kind kind, mode_t type, struct cache_remote *remote,
                                   size_t budget)
{
    struct inode *i = find_locked(t, dir, name);

    if (i != NULL && (i->kind != kind || i->type != (uint8_t)((type & S_IFMT) >> 12) ||
                      (remote != NULL && i->remote != remote))) {
        set_aside_locked(t, i);
        reap_locked(t, i);
        i = NULL;
    }
    if (i == NULL) {
        if (t->n_inodes >= budget) {
            return NULL;
        }
        if (t->n_inodes >= t->n_buckets) {
            table_grow(t);
        }
        i = inode_alloc(name, kind, type, remote != NULL ? remote : dir->remote);
        i->parent = dir;
        dir->refs++;
        hash_insert(t, i);
        t->n_inodes++;
    }
    i->nlookup++;
    return i;
}

struct inode *itable_lookup(struct itable *t, struct inode *dir, const char *name,
                            enum inode_kind kind, mode_t type, struct cache_remote *remote)
{
    mutex_lock(&t->lock);
    struct inode *i = lookup_locked(t, dir, name, kind, type, remote, SIZE_MAX);
    mutex_unlock(&t->lock);
    return i;
}

struct inode *itable_lookup_budget(struct itable *t, struct inode *dir, const char *name,
                                   enum inode_kind kind, mode_t type, size_t budget)
{
    mutex_lock(&t->lock);
    struct inode *i = lookup_locked(t, dir, name, kind, type, NULL, budget);
    mutex_unlock(&t->lock);
    return i;
}

void itable_forget(struct itable *t, struct inode *i, uint64_t n)
{
    mutex_lock(&t->lock);
    i->nlookup = n < i->nlookup ? i->nlookup - n : 0;
    reap_locked(t, i);
    mutex_unlock(&t->lock);
}

/* ---- keys ---- */

static int prefix_locked(struct itable *t, struct inode *dir, const char **ret_prefix);

static int child_target_locked(struct itable *t, struct inode *i, struct names_target *ret)
{
    const char *prefix;
    int r = prefix_locked(t, i->parent, &prefix);

    return r < 0 ? r : names_resolve(prefix, strlen(prefix), i->name, ret);
}

/* Depth is bounded by the length of a key: every component takes at least one byte of at most a few
 * thousand. */
static int prefix_locked(struct itable *t, struct inode *dir, const char **ret_prefix)
{
    mutex_assert_held(&t->lock);
    if (dir->unlinked) {
        return -ESTALE;
    }
    if (dir->kind == INODE_CTLDIR) {
        return prefix_locked(t, dir->parent, ret_prefix);
    }
    if (dir == t->root) {
        *ret_prefix = dir->prefix;
        return 0;
    }
    if (dir->prefix == NULL || dir->prefix_gen != t->gen) {
        char *prefix;

        if (dir->parent->kind == INODE_SUPER) {
            prefix = mem_strdup(cache_remote_prefix(dir->remote));
        } else {
            struct names_target target = {0};
            int r = child_target_locked(t, dir, &target);
            if (r == 0 && !target.dir_ok) {
                r = -ESTALE;
            }
            if (r < 0) {
                names_target_fini(&target);
                return r;
            }
            prefix = buf_take(&target.prefix);
            names_target_fini(&target);
        }
        free(dir->prefix);
        dir->prefix = prefix;
        dir->prefix_gen = t->gen;
    }
    *ret_prefix = dir->prefix;
    return 0;
}

int itable_key(struct itable *t, struct inode *i, struct buf *ret_key)
{
    int r;

    buf_clear(ret_key);
    mutex_lock(&t->lock);
    if (i->unlinked) {
        r = -ESTALE;
    } else if (is_dir(i) || i->kind == INODE_CTLFILE) {
        const char *prefix;
        r = prefix_locked(t, is_dir(i) ? i : i->parent, &prefix);
        if (r == 0) {
            r = buf_adds(ret_key, prefix);
        }
    } else {
        struct names_target target = {0};
        r = child_target_locked(t, i, &target);
        if (r == 0) {
            r = target.file_ok ? buf_adds(ret_key, buf_str(&target.key)) : -ESTALE;
        }
        names_target_fini(&target);
    }
    mutex_unlock(&t->lock);
    return r;
}

bool itable_object_form(struct itable *t, struct inode *i)
{
    struct names_target target = {0};

    mutex_lock(&t->lock);
    bool is = !i->unlinked && i->kind == INODE_FILE && child_target_locked(t, i, &target) == 0 &&
              !target.dir_ok;
    mutex_unlock(&t->lock);
    names_target_fini(&target);
    return is;
}

int itable_target(struct itable *t, struct inode *dir, const char *name, struct buf *ret_prefix,
                  struct names_target *ret)
{
    const char *prefix;

    buf_clear(ret_prefix);
    mutex_lock(&t->lock);
    int r = prefix_locked(t, dir, &prefix);
    if (r == 0) {
        r = buf_adds(ret_prefix, prefix);
    }
    mutex_unlock(&t->lock);
    if (r == 0) {
        r = names_resolve(buf_str(ret_prefix), ret_prefix->len, name, ret);
    }
    return r;
}

/* A fixed function, or numbers would not be stable. Whoever can choose keys freely can make two
 * numbers equal; that makes mv refuse to replace one of their own files by the other, no more. */
uint64_t inode_number(const struct cache_remote *remote, bool dir, const char *key,
                      const char *rest, size_t rest_len)
{
    return inode_number_of(remote != NULL ? cache_remote_identity(remote) : "", dir, key, rest,
                           rest_len);
}

uint64_t inode_number_of(const char *identity, bool dir, const char *key, const char *rest,
                         size_t rest_len)
{
    uint64_t h = fnv(0xcbf29ce484222325u, identity, strlen(identity) + 1);

    h = fnv(h, dir ? "d" : "f", 1);
    h = fnv(h, key, strlen(key));
    h = mix(fnv(h, rest, rest_len));
    return h > 16 ? h : h + 16; /* 0 means "none" and 1 the root to many programs */
}

uint64_t inode_number_unlinked(const struct inode *i)
{
    return mix((uint64_t)(uintptr_t)i) | 32;
}

/* ---- changes of names ---- */

void itable_unlink(struct itable *t, struct inode *dir, const char *name)
{
    mutex_lock(&t->lock);
    struct inode *i = find_locked(t, dir, name);
    if (i != NULL) {
        set_aside_locked(t, i);
        reap_locked(t, i);
    }
    mutex_unlock(&t->lock);
}

static void move_locked(struct itable *t, struct inode *i, struct inode *newdir,
                        const char *newname)
{
    struct inode *old = i->parent;

    if (i->name != i->inline_name) {
        free(i->name);
    }
    i->name = mem_strdup(newname);
    i->parent = newdir;
    newdir->refs++;
    hash_insert(t, i);
    old->refs--;
    reap_locked(t, old);
    if (is_dir(i)) {
        t->gen++;
    }
}

void itable_rename(struct itable *t, struct inode *dir, const char *name, struct inode *newdir,
                   const char *newname, bool exchange)
{
    mutex_lock(&t->lock);
    struct inode *a = find_locked(t, dir, name);
    struct inode *b = find_locked(t, newdir, newname);
    if (a == NULL || a != b) {
        /* Pinned, so that moving one never frees what the other move needs. */
        dir->refs++;
        newdir->refs++;
        if (b != NULL) {
            if (exchange) {
                hash_remove(t, b);
            } else {
                set_aside_locked(t, b);
                reap_locked(t, b);
            }
        }
        if (a != NULL) {
            hash_remove(t, a);
            move_locked(t, a, newdir, newname);
        }
        if (b != NULL && exchange) {
            move_locked(t, b, dir, name);
        }
        dir->refs--;
        newdir->refs--;
        reap_locked(t, dir);
        if (newdir != dir) {
            reap_locked(t, newdir);
        }
    }
    mutex_unlock(&t->lock);
}

/* ---- handles ---- */

struct fhandle *fhandle_new(struct itable *t, struct inode *i, struct chandle *h)
{
    struct fhandle *fh = mem_zalloc(sizeof(*fh));

    fh->magic = FHANDLE_MAGIC;
    fh->refs = 1;
    fh->handle = h;
    fh->inode = i;
    mutex_lock(&t->lock);
    i->refs++;
    fh->all_next = t->all_handles;
    fh->all_prevp = &t->all_handles;
    if (fh->all_next != NULL) {
        fh->all_next->all_prevp = &fh->all_next;
    }
    t->all_handles = fh;
    if (!is_dir(i)) {
        fh->next = i->handles;
        fh->prevp = &i->handles;
        if (fh->next != NULL) {
            fh->next->prevp = &fh->next;
        }
        i->handles = fh;
    }
    mutex_unlock(&t->lock);
    return fh;
}

struct fhandle *fhandle_any(struct itable *t, struct inode *i)
{
    struct fhandle *fh = NULL;

    mutex_lock(&t->lock);
    if (!is_dir(i)) {
        for (fh = i->handles; fh != NULL && fh->handle == NULL; fh = fh->next) {
        }
        if (fh != NULL) {
            fh->refs++;
        }
    }
    mutex_unlock(&t->lock);
    return fh;
}

static void fhandle_unhook_locked(struct fhandle *fh)
{
    if (fh->prevp != NULL) {
        *fh->prevp = fh->next;
        if (fh->next != NULL) {
            fh->next->prevp = fh->prevp;
        }
        fh->prevp = NULL;
        fh->next = NULL;
    }
    if (fh->all_prevp != NULL) {
        *fh->all_prevp = fh->all_next;
        if (fh->all_next != NULL) {
            fh->all_next->all_prevp = fh->all_prevp;
        }
        fh->all_prevp = NULL;
        fh->all_next = NULL;
    }
}

bool fhandle_put(struct itable *t, struct fhandle *fh)
{
    CHECK_MAGIC(fh, FHANDLE_MAGIC);
    mutex_lock(&t->lock);
    bool last = --fh->refs == 0;
    if (last) {
        fhandle_unhook_locked(fh);
    }
    mutex_unlock(&t->lock);
    return last;
}

void fhandle_free(struct itable *t, struct fhandle *fh)
{
    mutex_lock(&t->lock);
    fh->inode->refs--;
    reap_locked(t, fh->inode);
    mutex_unlock(&t->lock);
    buf_fini(&fh->text);
    fh->magic = 0;
    free(fh);
}

struct fhandle *itable_orphan(struct itable *t)
{
    mutex_lock(&t->lock);
    struct fhandle *fh = t->all_handles;
    if (fh != NULL) {
        fhandle_unhook_locked(fh);
    }
    mutex_unlock(&t->lock);
    return fh;
}
