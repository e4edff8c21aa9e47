/* Lists of stores with real directories (dialect_site.lists_dirs): a walk (walk.h) whose
 * directories are asked for one after another.
 *
 *     start ─> step ─> call: list of the directory on top, page after page ─> taken ─> filled ─┐
 *               ^  └─> the page is full, or the walk over: finish                              │
 *               └──────────────────────────────────────────────────────────────────────────────┘
 *
 * A directory's key "dir/" stands before those below it. That the directory a list begins in is
 * there at all is known by what is in it, else by asking for its attributes. One that went away
 * while the walk came to it has nothing. */
#include "objstore_run.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "mem.h"

/* So many requests, and a list gives what it has: nobody waits for a page without end. */
#define REQUESTS_MAX 200u
/* So many pages of a directory may be empty, or an earlier one once more. */
#define PAGES_IDLE_MAX 200u

static struct be_list *list_of(const struct run *r)
{
    return CONTAINER_OF(r->op, struct be_list, op);
}

void run_walk_free(struct run *r)
{
    walk_free(r->walk);
    be_list_fini(&r->dir);
    free(r->dir_mark);
}

/* Asks for the top frame's names. */
static void fill(struct run *r)
{
    walk_fill_begin(r->walk);
    free(r->page[0]);
    r->page[0] = NULL;
    free(r->dir_mark);
    r->dir_mark = NULL;
    r->dir_pages = r->dir_idle = 0;
    r->dir = (struct be_list){
        .op = {.kind = BE_LIST, .lane = r->op->lane, .deadline_ns = r->op->deadline_ns},
        .prefix = walk_top(r->walk)->prefix,
        .delimiter = '/'};
    r->call = (struct dialect_call){.kind = BE_LIST, .op = &r->dir.op};
    run_call_reset(r);
    run_again_now(r);
}

static void end(struct run *r, bool more)
{
    struct be_list *o = list_of(r);
    o->entries = TAKE(r->entries);
    o->n_entries = r->n_entries;
    o->server_date_ns = r->server_date_ns;
    if (more) {
        const char *last = r->n_entries > 0 ? o->entries[r->n_entries - 1].key : NULL;
        o->next_cursor = walk_suspend(&r->s->walks, TAKE(r->walk), last);
    }
    r->n_entries = 0;
    run_finish(r, 0);
}

static void give(struct run *r, const struct walk_frame *f, const struct walk_entry *e)
{
    struct be_entry *out = &r->entries[r->n_entries++];
    *out = (struct be_entry){.key = mem_printf("%s%s", f->prefix, e->rest),
                             .is_prefix = e->kind == WALK_DIR};
    memcpy(&out->object, e->data, sizeof(out->object));
}

/* Gives entries until a directory must be read or the page ends. */
static void step(struct run *r)
{
    while (r->n_entries < r->max_entries) {
        struct walk_frame *f = walk_top(r->walk);
        if (!f) {
            end(r, false);
            return;
        }
        if (f->at < f->n) {
            const struct walk_entry *e = f->entries[f->at++];
            if (e->kind != WALK_DIR || r->walk->delimiter != 0) {
                give(r, f, e);
                continue;
            }
            walk_push(r->walk, mem_printf("%s%s", f->prefix, e->rest), NULL, mem_strdup(""));
        } else if (!f->bound) {
            walk_pop(r->walk);
            continue;
        }
        if (r->requests >= REQUESTS_MAX) {
            /* The directory comes first on the next page: what it is asked for now is forgotten. */
            if (!walk_top(r->walk)->bound) {
                walk_pop(r->walk);
                walk_top(r->walk)->at--;
            }
            end(r, true);
            return;
        }
        fill(r);
        return;
    }
    end(r, true);
}

static void add_marker(struct run *r)
{
    struct be_object o = {0};
    (void)dialect_etag(DIALECT_DIR_ETAG, o.etag);
    walk_add(walk_top(r->walk), "", WALK_MARKER, 0, &o, sizeof(o));
}

/* FNV-1a */
static uint64_t hash_names(const struct be_list *l)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < l->n_entries; i++) {
        const char *p = l->entries[i].key;
        do {
            h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
        } while (*p++ != '\0');
    }
    return h;
}

/* Whether the pages of a directory go in a circle. Each is compared with one before it, which is
 * another one after 1, 2, 4, 8 … pages: so of any circle a page is met again (Brent). */
static int check_progress(struct run *r, const struct dialect_page *page, struct errinfo *err)
{
    const char *next = page->next[0];
    uint64_t names = hash_names(&r->dir);
    if (r->dir.n_entries == 0 || (r->dir_pages > 0 && names == r->dir_names)) {
        r->dir_idle++;
    }
    if (next && ((r->dir_mark && strcmp(next, r->dir_mark) == 0) || r->dir_idle > PAGES_IDLE_MAX)) {
        return err_set(err, ERR_INTEGRITY, -EIO, "the server lists a directory in circles");
    }
    r->dir_pages++;
    if (next && (r->dir_pages & (r->dir_pages - 1)) == 0) {
        free(r->dir_mark);
        r->dir_mark = mem_strdup(next);
        r->dir_names = names;
    }
    return 0;
}

int run_walk_take(struct run *r, struct dialect_page *page, struct errinfo *err)
{
    struct walk_frame *f = walk_top(r->walk);
    int rc = check_progress(r, page, err);
    size_t skip = strlen(f->prefix);
    for (size_t i = 0; i < r->dir.n_entries; i++) {
        const struct be_entry *e = &r->dir.entries[i];
        walk_add(f, e->key + skip, e->is_prefix ? WALK_DIR : WALK_FILE, 0, &e->object,
                 sizeof(e->object));
    }
    if (page->unshowable > 0) {
        log_limited(LOG_LEVEL_WARN, "objstore", r->s->site->identity, 60000,
                    "remote=%s prefix='%s' keys_left_out=%zu why='a name is empty, a dot name or "
                    "has a NUL byte'",
                    r->s->site->name, f->prefix, page->unshowable);
    }
    r->dir_seen = r->dir_seen || r->dir.n_entries > 0 || page->unshowable > 0;
    r->server_date_ns = r->dir.server_date_ns;
    r->requests++;
    be_list_fini(&r->dir);
    r->dir.prefix = f->prefix;
    r->dir.delimiter = '/';
    return rc;
}

static void settle(struct run *r)
{
    r->dir_seen = false;
    walk_settle(walk_top(r->walk));
    step(r);
}

void run_walk_filled(struct run *r)
{
    const struct walk_frame *f = walk_top(r->walk);
    if (f->prefix[0] != '\0' && (r->dir_seen || r->walk->n_frames > 1)) {
        add_marker(r);
    } else if (f->prefix[0] != '\0' && f->filter[0] == '\0') {
        r->look = LOOK_DIR;
        kv_fini(&r->source.meta);
        r->source =
            (struct be_stat){.op = {.kind = BE_STAT, .key = f->prefix, .lane = r->op->lane}};
        r->call = (struct dialect_call){.kind = BE_STAT, .op = &r->source.op};
        run_call_reset(r);
        run_again_now(r);
        return;
    }
    settle(r);
}

void run_walk_looked(struct run *r, bool there)
{
    r->look = LOOK_NO;
    if (there) {
        add_marker(r);
    }
    settle(r);
}

void run_walk_absent(struct run *r)
{
    settle(r);
}

/* Every directory of a key has a name; a list below any other is empty, and none is asked for. */
static bool is_dir_key(const char *prefix, size_t len)
{
    return len == 0 || (prefix[0] != '/' && !memmem(prefix, len, "//", 2));
}

void run_walk_start(struct work *w)
{
    struct run *r = CONTAINER_OF(w, struct run, work);
    struct be_list *o = list_of(r);
    unsigned page = r->s->site->limits.list_page;
    bool empty;
    r->max_entries = o->max > 0 ? MIN(o->max, page) : page;
    if (walk_open(&r->s->walks, o, &r->walk, &empty) < 0) {
        int rc = err_set(&r->op->err, ERR_INVALID, -EINVAL, "not a cursor of this list");
        run_finish(r, rc);
        return;
    }
    r->entries = mem_zalloc(r->max_entries * sizeof(*r->entries));
    const char *slash = strrchr(o->prefix, '/');
    size_t dir_len = slash ? (size_t)(slash - o->prefix) + 1 : 0;
    if (walk_top(r->walk) || empty || !is_dir_key(o->prefix, dir_len)) {
        step(r);
        return;
    }
    walk_push(r->walk, mem_strndup(o->prefix, dir_len), NULL, mem_strdup(o->prefix + dir_len));
    fill(r);
}
