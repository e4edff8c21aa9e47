/* See walk.h. */
#include "walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define WALKS_MAX 32
#define WALK_ENTRIES_MAX 500000 /* of all suspended walks together */

size_t walk_chunk = 131072;

/* --- one directory's names --- */

static int compare_entries(const void *pa, const void *pb)
{
    const struct walk_entry *a = *(struct walk_entry *const *)pa,
                            *b = *(struct walk_entry *const *)pb;
    int diff = strcmp(a->rest, b->rest);
    return diff != 0 ? diff : a->rank - b->rank;
}

static void drop_from(struct walk_frame *f, size_t n)
{
    for (size_t i = n; i < f->n; i++) {
        free(f->entries[i]);
    }
    f->n = MIN(f->n, n);
}

void walk_settle(struct walk_frame *f)
{
    if (f->n > 1) {
        qsort(f->entries, f->n, sizeof(struct walk_entry *), compare_entries);
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
    if (f->n > walk_chunk) {
        drop_from(f, walk_chunk);
        f->more = true;
    }
    if (f->more) {
        free(f->bound);
        f->bound = mem_strdup(f->entries[f->n - 1]->rest);
    }
}

void walk_add(struct walk_frame *f, const char *rest, enum walk_kind kind, uint8_t rank,
              const void *data, size_t data_len)
{
    if (strncmp(rest, f->filter, strlen(f->filter)) != 0) {
        return;
    }
    int after = f->after ? strcmp(rest, f->after) : 1;
    if (after < 0 || (after == 0 && !f->inclusive)) {
        return;
    }
    if (f->more && strcmp(rest, f->bound) > 0) {
        return;
    }
    size_t align = sizeof(max_align_t), rest_size = strlen(rest) + 1;
    size_t at = (sizeof(struct walk_entry) + rest_size + align - 1) / align * align;
    struct walk_entry *e = mem_zalloc(at + data_len);
    memcpy(e->rest, rest, rest_size);
    if (data_len > 0) {
        memcpy((char *)e + at, data, data_len);
    }
    e->data = (char *)e + at;
    e->kind = (uint8_t)kind;
    e->rank = rank;
    if (f->n == f->cap) {
        f->cap = f->cap > 0 ? 2 * f->cap : 64;
        f->entries = mem_realloc(f->entries, f->cap * sizeof(struct walk_entry *));
    }
    f->entries[f->n++] = e;
    if (f->n >= 2 * walk_chunk) {
        walk_settle(f);
    }
}

/* --- the walk --- */

static void frame_fini(struct walk_frame *f)
{
    drop_from(f, 0);
    free(f->entries);
    free(f->prefix);
    free(f->path);
    free(f->filter);
    free(f->bound);
    free(f->after);
}

void walk_free(struct walk *w)
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

static size_t walk_size(const struct walk *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n_frames; i++) {
        n += w->frames[i].n;
    }
    return n;
}

void walk_fill_begin(struct walk *w)
{
    struct walk_frame *f = walk_top(w);
    free(f->after);
    f->after = TAKE(f->bound);
    f->inclusive = false;
    f->more = false;
    size_t prefix_len = strlen(f->prefix);
    if (!f->after && w->seek && strncmp(w->seek, f->prefix, prefix_len) == 0) {
        f->after = mem_strdup(w->seek + prefix_len);
        char *slash = strchr(f->after, '/');
        if (slash) { /* inside a directory, to be descended into; a cursor of a delimited list is
                        past it */
            f->inclusive = w->delimiter == 0 || slash[1] != '\0' || !w->last;
            slash[1] = '\0';
        }
    }
    drop_from(f, 0);
    f->at = 0;
}

struct walk_frame *walk_push(struct walk *w, char *prefix, char *path, char *filter)
{
    mem_closep(&w->fd);
    w->fd = -1;
    if (w->n_frames == w->cap_frames) {
        w->cap_frames = w->cap_frames > 0 ? 2 * w->cap_frames : 8;
        w->frames = mem_realloc(w->frames, w->cap_frames * sizeof(*w->frames));
    }
    w->frames[w->n_frames++] =
        (struct walk_frame){.prefix = prefix, .path = path, .filter = filter};
    return walk_top(w);
}

void walk_pop(struct walk *w)
{
    mem_closep(&w->fd);
    w->fd = -1;
    frame_fini(&w->frames[--w->n_frames]);
}

/* --- pages --- */

void walks_init(struct walks *w, enum lock_rank rank)
{
    *w = (struct walks){0};
    mutex_init(&w->lock, rank);
}

static void free_list(struct walk *w)
{
    while (w) {
        struct walk *next = w->next;
        walk_free(w);
        w = next;
    }
}

void walks_fini(struct walks *w)
{
    free_list(w->list);
    mutex_fini(&w->lock);
}

/* Takes the walk out that stopped where the cursor says, or NULL. */
static struct walk *resume(struct walks *all, const struct be_list *o, uint64_t id,
                           const char *last)
{
    mutex_lock(&all->lock);
    struct walk **link = &all->list;
    while (*link && ((*link)->id != id || (*link)->delimiter != o->delimiter ||
                     strcmp((*link)->prefix, o->prefix) != 0 ||
                     strcmp((*link)->last ? (*link)->last : "", last) != 0)) {
        link = &(*link)->next;
    }
    struct walk *w = *link;
    if (w) {
        *link = w->next;
    }
    mutex_unlock(&all->lock);
    return w;
}

int walk_open(struct walks *all, const struct be_list *o, struct walk **ret, bool *ret_empty)
{
    const char *after = o->start_after;
    *ret_empty = false;
    *ret = NULL;
    if (o->cursor) {
        char *end;
        errno = 0;
        uint64_t id = strtoull(o->cursor, &end, 16);
        if (end == o->cursor || *end != ':' || errno != 0) {
            return -EINVAL;
        }
        after = end + 1;
        *ret = resume(all, o, id, after);
        if (*ret) {
            return 0;
        }
    }
    struct walk *w = mem_zalloc(sizeof(*w));
    w->fd = -1;
    w->prefix = mem_strdup(o->prefix);
    w->delimiter = o->delimiter;
    *ret = w;
    if (after && after[0] != '\0' && strcmp(after, o->prefix) >= 0) {
        /* beyond all that begins so? */
        *ret_empty = strncmp(after, o->prefix, strlen(o->prefix)) != 0;
        w->seek = mem_strdup(after);
        w->last = o->cursor ? mem_strdup(after) : NULL;
    }
    return 0;
}

/* The longest unused ones go when there are too many. */
char *walk_suspend(struct walks *all, struct walk *w, const char *last)
{
    mem_closep(&w->fd);
    w->fd = -1;
    if (last) {
        free(w->last);
        w->last = mem_strdup(last);
    }
    mutex_lock(&all->lock);
    w->id = ++all->last_id;
    char *cursor = mem_printf("%llx:%s", (unsigned long long)w->id, w->last ? w->last : "");
    w->next = all->list;
    all->list = w;
    unsigned n = 0;
    size_t entries = 0;
    struct walk **link = &all->list;
    while (*link) {
        entries += walk_size(*link);
        if (++n > WALKS_MAX || (n > 1 && entries > WALK_ENTRIES_MAX)) {
            break;
        }
        link = &(*link)->next;
    }
    struct walk *old = *link;
    *link = NULL;
    mutex_unlock(&all->lock);
    free_list(old);
    return cursor;
}
