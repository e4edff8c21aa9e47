/* Lists of a local backend: a walk (walk.h) over its directories.
 *
 * Descriptors are bounded: only the directory on top is open, and none between pages.
 *
 * Names that are no key (names.h) stand for the key spelled the same; see local_path_of_key. Where
 * two names give one key the list shows what a lookup would find. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"
#include "log.h"
#include "mem.h"
#include "names.h"
#include "posix.h"
#include "walk.h"

#define CHECK_EVERY 1024

/* Of two names with one key the lower rank is found by lookups. */
enum rank { RANK_PLAIN, RANK_OBJECT_FORM, RANK_RAW, RANK_MARKER };

/* An entry's data: its path below the frame's directory. */
static const char *name_of(const struct walk_entry *e)
{
    return e->data;
}

/* --- one directory's names --- */

/* The state of reading one frame. */
struct fill {
    struct local *l;
    struct be_op *op;
    struct walk_frame *f;
    unsigned looked_at;
};

static void add_entry(struct fill *c, const char *rest, const char *rel, const char *name,
                      enum walk_kind kind, enum rank rank)
{
    CLEANUP(mem_freep) char *path = rel[0] != '\0' ? mem_printf("%s/%s", rel, name) : NULL;
    const char *data = path ? path : name;
    walk_add(c->f, rest, kind, (uint8_t)rank, data, strlen(data) + 1);
}

/* Whether a name is its own component without asking names.c. */
static bool is_ordinary(const char *name)
{
    for (const char *p = name; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f || *p == '^') { /* char is signed: also all above ASCII */
            return false;
        }
    }
    return strcmp(name, LOCAL_OURS) != 0;
}

static bool is_object_form(const char *name, const char *key)
{
    size_t n = strlen(name), suffix = sizeof(LOCAL_ESCAPED_SLASH) - 1;
    size_t key_len = strlen(key);
    return n > suffix && strcmp(name + n - suffix, LOCAL_ESCAPED_SLASH) == 0 &&
           (key_len == 0 || key[key_len - 1] != '/');
}

static int collect(struct fill *c, int dir, const char *prefix, const char *rel);

/* A directory that continues a long component: its names belong to the level above. */
static int collect_below(struct fill *c, int dir, const char *prefix, const char *rel,
                         const char *name)
{
    if (strlen(prefix) > c->op->be->limits.max_key) {
        return 0; /* no key is that long; and it ends the recursion in a hostile tree */
    }
    CLEANUP(mem_freep)
    char *path = rel[0] != '\0' ? mem_printf("%s/%s", rel, name) : mem_strdup(name);
    CLEANUP(mem_closep) int fd = local_open_at(dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return fd == -ENOENT ? 0 : be_fail_errno(c->op, -fd, "%s: folder", c->op->be->name);
    }
    return collect(c, fd, prefix, path);
}

static int collect_name(struct fill *c, int dir, const char *prefix, const char *rel,
                        const char *name, bool is_dir)
{
    size_t prefix_len = strlen(prefix), shown = strlen(c->f->prefix);
    bool fresh = prefix_len == 0 || prefix[prefix_len - 1] == '/'; /* a component begins here */
    CLEANUP(names_target_fini) struct names_target t = {0};
    int err = fresh && is_ordinary(name) ? -ENOENT : names_resolve(prefix, prefix_len, name, &t);
    if (err == -ENOENT && fresh) { /* as it is: ordinary, or no name of a key */
        enum rank rank = is_ordinary(name) ? RANK_PLAIN : RANK_RAW;
        CLEANUP(mem_freep) char *key = mem_printf("%s%s%s", prefix, name, is_dir ? "/" : "");
        add_entry(c, key + shown, rel, name, is_dir ? WALK_DIR : WALK_FILE, rank);
        return 0;
    }
    if (err == -ENOMEM) {
        return be_fail(c->op, ERR_LOCAL, "", "out of memory");
    }
    if (err < 0 || (is_dir ? !t.dir_ok : !t.file_ok)) {
        char text[BE_KEY_TEXT];
        log_debug("local", "no key has this name remote=%s name='%s'", c->op->be->name,
                  be_key_text(name, text, sizeof(text)));
        return 0;
    }
    if (!is_dir) {
        const char *key = buf_str(&t.key);
        add_entry(c, key + shown, rel, name, WALK_FILE,
                  is_object_form(name, key) ? RANK_OBJECT_FORM : RANK_PLAIN);
        return 0;
    }
    if (t.prefix.data[t.prefix.len - 1] == '/') {
        add_entry(c, buf_str(&t.prefix) + shown, rel, name, WALK_DIR, RANK_PLAIN);
        return 0;
    }
    return collect_below(c, dir, buf_str(&t.prefix), rel, name);
}

static unsigned char type_of(int dir, const struct dirent *e)
{
    if (e->d_type != DT_UNKNOWN) {
        return e->d_type;
    }
    struct stat st;
    return fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? IFTODT(st.st_mode) : DT_SOCK;
}

static void closedirp(DIR **d)
{
    if (*d) {
        (void)closedir(*d);
    }
}

static int collect(struct fill *c, int dir, const char *prefix, const char *rel)
{
    int fd = local_open_at(dir, ".", O_RDONLY | O_DIRECTORY, 0);
    CLEANUP(closedirp) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        int err = fd < 0 ? -fd : errno;
        mem_closep(&fd);
        return be_fail_errno(c->op, err, "%s: folder", c->op->be->name);
    }
    bool at_root = prefix[0] == '\0';
    for (;;) {
        int err = ++c->looked_at % CHECK_EVERY == 0 ? be_op_check(c->op) : 0;
        if (err < 0) {
            return err;
        }
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            return errno == 0 ? 0 : be_fail_errno(c->op, errno, "%s: folder", c->op->be->name);
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            local_is_hidden(e->d_name, at_root)) {
            continue;
        }
        unsigned char type = type_of(dir, e);
        if (type == DT_SOCK) {
            continue;
        }
        err = collect_name(c, dir, prefix, rel, e->d_name, type == DT_DIR);
        if (err < 0) {
            return err;
        }
    }
}

/* --- the walk --- */

/* Opens the directory on top. 0, -ENOENT when it is gone, or op failed. */
static int open_top(struct local *l, struct be_op *op, struct walk *w, bool *ret_gone)
{
    *ret_gone = false;
    if (w->fd >= 0) {
        return 0;
    }
    const struct walk_frame *f = &w->frames[w->n_frames - 1];
    int fd = local_open_at(l->root, f->path, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) {
        *ret_gone = true;
        return 0;
    }
    if (fd < 0) {
        char text[BE_KEY_TEXT];
        return be_fail_errno(op, -fd, "%s: folder '%s'", op->be->name,
                             be_key_text(f->path, text, sizeof(text)));
    }
    w->fd = fd;
    return 0;
}

/* Reads the top frame's names. */
static int fill_top(struct local *l, struct be_op *op, struct walk *w)
{
    struct walk_frame *f = walk_top(w);
    struct fill c = {.l = l, .op = op, .f = f};
    walk_fill_begin(w);
    bool gone;
    int err = open_top(l, op, w, &gone);
    if (err < 0 || gone) {
        return err;
    }
    if (f->prefix[0] != '\0') {
        add_entry(&c, "", "", ".", WALK_MARKER, RANK_MARKER);
    }
    err = collect(&c, w->fd, f->prefix, "");
    if (err == 0) {
        walk_settle(f);
    }
    return err;
}

static int descend(struct local *l, struct be_op *op, struct walk *w, const struct walk_entry *e)
{
    const struct walk_frame *f = &w->frames[w->n_frames - 1];
    char *prefix = mem_printf("%s%s", f->prefix, e->rest);
    char *path = strcmp(f->path, ".") == 0 ? mem_strdup(name_of(e))
                                           : mem_printf("%s/%s", f->path, name_of(e));
    walk_push(w, prefix, path, mem_strdup(""));
    return fill_top(l, op, w);
}

static bool stat_entry(const struct walk *w, const struct walk_entry *e, struct stat *ret)
{
    if (e->kind == WALK_MARKER) {
        return fstat(w->fd, ret) == 0;
    }
    if (strchr(name_of(e), '/')) {
        CLEANUP(mem_closep) int fd = local_open_at(w->fd, name_of(e), O_PATH | O_NOFOLLOW, 0);
        return fd >= 0 && fstat(fd, ret) == 0;
    }
    return fstatat(w->fd, name_of(e), ret, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What is there now under an entry's name. False when it is not what it was any more. */
static bool look(const struct walk *w, const struct walk_entry *e, struct be_entry *ret)
{
    struct stat st;
    if (!stat_entry(w, e, &st) || S_ISSOCK(st.st_mode) ||
        S_ISDIR(st.st_mode) != (e->kind != WALK_FILE)) {
        return false;
    }
    if (e->kind == WALK_DIR) {
        ret->is_prefix = true;
    } else {
        local_object(&st, &ret->object);
    }
    if (S_ISLNK(st.st_mode) && st.st_size == 0) { /* some file systems do not tell */
        char target[PATH_MAX];
        ssize_t n = readlinkat(w->fd, name_of(e), target, sizeof(target));
        ret->object.size = n > 0 ? (uint64_t)n : 0;
    }
    ret->posix = mem_zalloc(sizeof(*ret->posix));
    local_attrs_of(&st, ret->posix);
    return true;
}

/* The next entry: 1, 0 at the end, or op failed. */
static int next_entry(struct local *l, struct be_op *op, struct walk *w, struct be_entry *ret)
{
    while (w->n_frames > 0) {
        struct walk_frame *f = &w->frames[w->n_frames - 1];
        int err = 0;
        if (f->at == f->n) {
            err = f->bound ? fill_top(l, op, w) : 0;
            if (err < 0) {
                return err;
            }
            if (f->n == f->at) {
                walk_pop(w);
            }
            continue;
        }
        const struct walk_entry *e = f->entries[f->at++];
        if (e->kind == WALK_DIR && w->delimiter == 0) {
            err = descend(l, op, w, e);
            if (err < 0) {
                return err;
            }
            continue;
        }
        bool gone;
        err = open_top(l, op, w, &gone);
        if (err < 0) {
            return err;
        }
        *ret = (struct be_entry){0};
        if (!gone && look(w, e, ret)) {
            ret->key = mem_printf("%s%s", f->prefix, e->rest);
            return 1;
        }
    }
    return 0;
}

/* The first frame: the directory all keys of the prefix are below. */
static int begin(struct local *l, struct be_op *op, struct walk *w)
{
    const struct be_list *o = CONTAINER_OF(op, const struct be_list, op);
    const char *slash = strrchr(o->prefix, '/');
    size_t dir_len = slash ? (size_t)(slash - o->prefix) + 1 : 0;
    CLEANUP(mem_freep) char *dir_prefix = mem_strndup(o->prefix, dir_len);
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    const char *dir = ".";
    if (dir_len > 0) {
        int err = local_path_of_key(l, op, dir_prefix, &path);
        if (err < 0) {
            return op->err.cls == ERR_INVALID ? 0 : err; /* too long to be there */
        }
        (void)local_split(&path, &dir);
    }
    walk_push(w, TAKE(dir_prefix), mem_strdup(dir), mem_strdup(o->prefix + dir_len));
    return fill_top(l, op, w);
}

int local_list(struct be_op *op)
{
    struct be_list *o = CONTAINER_OF(op, struct be_list, op);
    struct local *l = local_of(op->be);
    unsigned page = op->be->limits.list_page;
    size_t max = o->max > 0 ? MIN(o->max, page) : page;
    struct walk *w = NULL;
    bool empty;
    o->server_date_ns = time_wall_ns();
    int err = walk_open(&l->walks, o, &w, &empty);
    if (err < 0) {
        return be_fail(op, ERR_INVALID, "", "not a cursor of this list");
    }
    if (!empty && w->n_frames == 0) {
        err = begin(l, op, w);
    }
    o->entries = mem_zalloc(max * sizeof(*o->entries));
    bool more = err == 0;
    while (more && o->n_entries < max) {
        err = next_entry(l, op, w, &o->entries[o->n_entries]);
        more = err > 0;
        o->n_entries += more ? 1 : 0;
    }
    if (!more) {
        walk_free(w);
        return err;
    }
    o->next_cursor = walk_suspend(&l->walks, w, o->entries[max - 1].key);
    return 0;
}
