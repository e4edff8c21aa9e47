/* Lists of a local backend: a tree walked in byte order of full keys, a page at a time.
 *
 * Within one directory the keys are its names with '/' after those of directories; sorted so, and
 * each directory's keys standing where its own is, a depth-first walk meets all keys in order. A
 * walk is a stack of frames, one a directory, each with its names sorted. Between two pages the
 * walk is kept (the last WALKS_MAX of them), so a directory is read once a list and not once a
 * page; a cursor whose walk is gone starts a new one after its key. A list without cursor always
 * reads anew, and so shows every write before it.
 *
 * Memory is bounded: of a huge directory a frame holds the local_list_chunk smallest names it has
 * not given yet, and reads again when they are used up. Descriptors are bounded: only the directory
 * on top is open, and none between pages.
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

#define WALKS_MAX 32
#define WALK_ENTRIES_MAX 500000 /* of all suspended walks together */
#define CHECK_EVERY 1024

size_t local_list_chunk = 131072;

enum entry_kind { FILE_ENTRY, DIR_ENTRY, MARKER_ENTRY };

/* Of two names with one key the lower rank is found by lookups. */
enum rank { RANK_PLAIN, RANK_OBJECT_FORM, RANK_RAW, RANK_MARKER };

struct entry {
    const char *name; /* path below the frame's directory, in the same memory */
    uint8_t kind, rank;
    char rest[]; /* key without the frame's prefix */
};

struct frame {
    char *prefix; /* key prefix of the directory */
    char *path;   /* of the directory below the root */
    char *filter; /* what each rest begins with; "" but for the first frame */
    struct entry **entries;
    size_t n, at, cap;
    char *bound; /* NULL, or there are more names, above this one */
};

struct local_walk {
    struct local_walk *next; /* l->lock while suspended */
    uint64_t id;
    char *prefix;
    char delimiter;
    char *last; /* the key given last */
    char *seek; /* where the walk began: keys above it; NULL = from the start */
    struct frame *frames;
    size_t n_frames, cap_frames;
    int fd; /* of the frame on top, or -1 */
};

/* --- one directory's names --- */

/* The state of reading one frame. */
struct fill {
    struct local *l;
    struct be_op *op;
    struct frame *f;
    const char *after; /* NULL, or only names above it … */
    bool inclusive;    /* … or equal to it */
    bool more;
    unsigned looked_at;
};

static int compare_entries(const void *pa, const void *pb)
{
    const struct entry *a = *(struct entry *const *)pa, *b = *(struct entry *const *)pb;
    int diff = strcmp(a->rest, b->rest);
    return diff != 0 ? diff : a->rank - b->rank;
}

static void drop_from(struct frame *f, size_t n)
{
    for (size_t i = n; i < f->n; i++) {
        free(f->entries[i]);
    }
    f->n = MIN(f->n, n);
}

/* Sorts, leaves one entry a key and a chunk in all. */
static void settle(struct fill *c)
{
    struct frame *f = c->f;
    if (f->n > 1) {
        qsort(f->entries, f->n, sizeof(struct entry *), compare_entries);
    }
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (kept > 0 && strcmp(f->entries[kept - 1]->rest, f->entries[i]->rest) == 0) {
            free(f->entries[i]);
        } else {
            f->entries[kept++] = f->entries[i];
        }
    }
    f->n = kept;
    if (f->n > local_list_chunk) {
        drop_from(f, local_list_chunk);
        c->more = true;
    }
    if (c->more) {
        free(f->bound);
        f->bound = mem_strdup(f->entries[f->n - 1]->rest);
    }
}

static void add_entry(struct fill *c, const char *rest, const char *rel, const char *name,
                      enum entry_kind kind, enum rank rank)
{
    struct frame *f = c->f;
    if (strncmp(rest, f->filter, strlen(f->filter)) != 0) {
        return;
    }
    int after = c->after ? strcmp(rest, c->after) : 1;
    if (after < 0 || (after == 0 && !c->inclusive)) {
        return;
    }
    if (c->more && strcmp(rest, f->bound) > 0) {
        return;
    }
    size_t rest_size = strlen(rest) + 1, rel_len = strlen(rel), name_size = strlen(name) + 1;
    struct entry *e = mem_zalloc(sizeof(*e) + rest_size + rel_len + 1 + name_size);
    memcpy(e->rest, rest, rest_size);
    char *path = e->rest + rest_size;
    e->name = path;
    if (rel_len > 0) {
        memcpy(path, rel, rel_len);
        path[rel_len] = '/';
        path += rel_len + 1;
    }
    memcpy(path, name, name_size);
    e->kind = (uint8_t)kind;
    e->rank = (uint8_t)rank;
    if (f->n == f->cap) {
        f->cap = f->cap > 0 ? 2 * f->cap : 64;
        f->entries = mem_realloc(f->entries, f->cap * sizeof(struct entry *));
    }
    f->entries[f->n++] = e;
    if (f->n >= 2 * local_list_chunk) {
        settle(c);
    }
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
        add_entry(c, key + shown, rel, name, is_dir ? DIR_ENTRY : FILE_ENTRY, rank);
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
        add_entry(c, key + shown, rel, name, FILE_ENTRY,
                  is_object_form(name, key) ? RANK_OBJECT_FORM : RANK_PLAIN);
        return 0;
    }
    if (t.prefix.data[t.prefix.len - 1] == '/') {
        add_entry(c, buf_str(&t.prefix) + shown, rel, name, DIR_ENTRY, RANK_PLAIN);
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

static void frame_fini(struct frame *f)
{
    drop_from(f, 0);
    free(f->entries);
    free(f->prefix);
    free(f->path);
    free(f->filter);
    free(f->bound);
}

static void walk_free(struct local_walk *w)
{
    if (!w) {
        return;
    }
    for (size_t i = 0; i < w->n_frames; i++) {
        frame_fini(&w->frames[i]);
    }
    free(w->frames);
    free(w->prefix);
    free(w->last);
    free(w->seek);
    mem_closep(&w->fd);
    free(w);
}

static size_t walk_size(const struct local_walk *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n_frames; i++) {
        n += w->frames[i].n;
    }
    return n;
}

/* Opens the directory on top. 0, -ENOENT when it is gone, or op failed. */
static int open_top(struct local *l, struct be_op *op, struct local_walk *w, bool *ret_gone)
{
    *ret_gone = false;
    if (w->fd >= 0) {
        return 0;
    }
    const struct frame *f = &w->frames[w->n_frames - 1];
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

/* Reads the top frame's names: those above its bound, or at first those the walk's start leaves. */
static int fill_top(struct local *l, struct be_op *op, struct local_walk *w)
{
    struct frame *f = &w->frames[w->n_frames - 1];
    struct fill c = {.l = l, .op = op, .f = f};
    CLEANUP(mem_freep) char *after = f->bound;
    f->bound = NULL;
    size_t prefix_len = strlen(f->prefix);
    if (!after && w->seek && strncmp(w->seek, f->prefix, prefix_len) == 0) {
        after = mem_strdup(w->seek + prefix_len);
        char *slash = strchr(after, '/');
        if (slash) { /* inside a directory, to be descended into; a cursor of a delimited list is
                        past it */
            c.inclusive = w->delimiter == 0 || slash[1] != '\0' || !w->last;
            slash[1] = '\0';
        }
    }
    c.after = after;
    drop_from(f, 0);
    f->at = 0;
    bool gone;
    int err = open_top(l, op, w, &gone);
    if (err < 0 || gone) {
        return err;
    }
    if (prefix_len > 0) {
        add_entry(&c, "", "", ".", MARKER_ENTRY, RANK_MARKER);
    }
    err = collect(&c, w->fd, f->prefix, "");
    if (err == 0) {
        settle(&c);
    }
    return err;
}

/* Takes the strings over. */
static int push(struct local *l, struct be_op *op, struct local_walk *w, char *prefix, char *path,
                char *filter)
{
    mem_closep(&w->fd);
    w->fd = -1;
    if (w->n_frames == w->cap_frames) {
        w->cap_frames = w->cap_frames > 0 ? 2 * w->cap_frames : 8;
        w->frames = mem_realloc(w->frames, w->cap_frames * sizeof(*w->frames));
    }
    w->frames[w->n_frames++] = (struct frame){.prefix = prefix, .path = path, .filter = filter};
    return fill_top(l, op, w);
}

static void pop(struct local_walk *w)
{
    mem_closep(&w->fd);
    w->fd = -1;
    frame_fini(&w->frames[--w->n_frames]);
}

static int descend(struct local *l, struct be_op *op, struct local_walk *w, const struct entry *e)
{
    const struct frame *f = &w->frames[w->n_frames - 1];
    char *prefix = mem_printf("%s%s", f->prefix, e->rest);
    char *path =
        strcmp(f->path, ".") == 0 ? mem_strdup(e->name) : mem_printf("%s/%s", f->path, e->name);
    return push(l, op, w, prefix, path, mem_strdup(""));
}

static bool stat_entry(const struct local_walk *w, const struct entry *e, struct stat *ret)
{
    if (e->kind == MARKER_ENTRY) {
        return fstat(w->fd, ret) == 0;
    }
    if (strchr(e->name, '/')) {
        CLEANUP(mem_closep) int fd = local_open_at(w->fd, e->name, O_PATH | O_NOFOLLOW, 0);
        return fd >= 0 && fstat(fd, ret) == 0;
    }
    return fstatat(w->fd, e->name, ret, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What is there now under an entry's name. False when it is not what it was any more. */
static bool look(const struct local_walk *w, const struct entry *e, struct be_entry *ret)
{
    struct stat st;
    if (!stat_entry(w, e, &st) || S_ISSOCK(st.st_mode) ||
        S_ISDIR(st.st_mode) != (e->kind != FILE_ENTRY)) {
        return false;
    }
    if (e->kind == DIR_ENTRY) {
        ret->is_prefix = true;
    } else {
        local_object(&st, &ret->object);
    }
    if (S_ISLNK(st.st_mode) && st.st_size == 0) { /* some file systems do not tell */
        char target[PATH_MAX];
        ssize_t n = readlinkat(w->fd, e->name, target, sizeof(target));
        ret->object.size = n > 0 ? (uint64_t)n : 0;
    }
    ret->posix = mem_zalloc(sizeof(*ret->posix));
    local_attrs_of(&st, ret->posix);
    return true;
}

/* The next entry: 1, 0 at the end, or op failed. */
static int next_entry(struct local *l, struct be_op *op, struct local_walk *w, struct be_entry *ret)
{
    while (w->n_frames > 0) {
        struct frame *f = &w->frames[w->n_frames - 1];
        int err = 0;
        if (f->at == f->n) {
            err = f->bound ? fill_top(l, op, w) : 0;
            if (err < 0) {
                return err;
            }
            if (f->n == f->at) {
                pop(w);
            }
            continue;
        }
        const struct entry *e = f->entries[f->at++];
        if (e->kind == DIR_ENTRY && w->delimiter == 0) {
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

static int walk_new(struct local *l, struct be_op *op, const struct be_list *o, const char *after,
                    bool from_cursor, struct local_walk **ret)
{
    struct local_walk *w = mem_zalloc(sizeof(*w));
    w->fd = -1;
    w->prefix = mem_strdup(o->prefix);
    w->delimiter = o->delimiter;
    *ret = w;
    if (after && strcmp(after, o->prefix) >= 0) {
        if (strncmp(after, o->prefix, strlen(o->prefix)) != 0) {
            return 0; /* beyond all that begins so */
        }
        w->seek = mem_strdup(after);
        w->last = from_cursor ? mem_strdup(after) : NULL;
    }
    const char *slash = strrchr(o->prefix, '/');
    size_t dir_len = slash ? (size_t)(slash - o->prefix) + 1 : 0;
    char *dir_prefix = mem_strndup(o->prefix, dir_len);
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    const char *dir = ".";
    if (dir_len > 0) {
        int err = local_path_of_key(l, op, dir_prefix, &path);
        if (err < 0) {
            free(dir_prefix);
            return op->err.cls == ERR_INVALID ? 0 : err; /* too long to be there */
        }
        (void)local_split(&path, &dir);
    }
    return push(l, op, w, dir_prefix, mem_strdup(dir), mem_strdup(o->prefix + dir_len));
}

/* --- pages --- */

void local_walks_free(struct local *l)
{
    while (l->walks) {
        struct local_walk *w = l->walks;
        l->walks = w->next;
        walk_free(w);
    }
}

/* Takes the walk out that stopped where the cursor says, or NULL. */
static struct local_walk *resume(struct local *l, const struct be_list *o, uint64_t id,
                                 const char *last)
{
    mutex_lock(&l->lock);
    struct local_walk **link = &l->walks;
    while (*link && ((*link)->id != id || (*link)->delimiter != o->delimiter ||
                     strcmp((*link)->prefix, o->prefix) != 0 || strcmp((*link)->last, last) != 0)) {
        link = &(*link)->next;
    }
    struct local_walk *w = *link;
    if (w) {
        *link = w->next;
    }
    mutex_unlock(&l->lock);
    return w;
}

/* Keeps the walk for the next page; the longest unused ones go when there are too many. */
static void suspend(struct local *l, struct local_walk *w)
{
    mem_closep(&w->fd);
    w->fd = -1;
    mutex_lock(&l->lock);
    w->next = l->walks;
    l->walks = w;
    unsigned n = 0;
    size_t entries = 0;
    struct local_walk **link = &l->walks;
    while (*link) {
        entries += walk_size(*link);
        if (++n > WALKS_MAX || (n > 1 && entries > WALK_ENTRIES_MAX)) {
            break;
        }
        link = &(*link)->next;
    }
    struct local_walk *old = *link;
    *link = NULL;
    for (const struct local_walk *p = old; p; p = p->next) {
    }
    mutex_unlock(&l->lock);
    while (old) {
        struct local_walk *next = old->next;
        walk_free(old);
        old = next;
    }
}

static int parse_cursor(struct be_op *op, const char *cursor, uint64_t *ret_id,
                        const char **ret_last)
{
    char *end;
    errno = 0;
    *ret_id = strtoull(cursor, &end, 16);
    if (end == cursor || *end != ':' || errno != 0) {
        return be_fail(op, ERR_INVALID, "", "not a cursor of this list");
    }
    *ret_last = end + 1;
    return 0;
}

int local_list(struct be_op *op)
{
    struct be_list *o = CONTAINER_OF(op, struct be_list, op);
    struct local *l = local_of(op->be);
    unsigned page = op->be->limits.list_page;
    size_t max = o->max > 0 ? MIN(o->max, page) : page;
    const char *after = o->start_after;
    struct local_walk *w = NULL;
    o->server_date_ns = time_wall_ns();
    int err = 0;
    if (o->cursor) {
        uint64_t id;
        err = parse_cursor(op, o->cursor, &id, &after);
        w = err == 0 ? resume(l, o, id, after) : NULL;
    }
    if (err == 0 && !w) {
        err = walk_new(l, op, o, after, o->cursor != NULL, &w);
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
    mutex_lock(&l->lock);
    w->id = ++l->next_id;
    mutex_unlock(&l->lock);
    free(w->last);
    w->last = mem_strdup(o->entries[max - 1].key);
    o->next_cursor = mem_printf("%llx:%s", (unsigned long long)w->id, w->last);
    suspend(l, w);
    return 0;
}
