/* Keys in byte order out of a tree of directories that is read one directory at a time, a page at a
 * time: what lists of stores with real directories are made of (posix_list.c, objstore_dirs.c).
 *
 * Within one directory the keys are its names with '/' after those of directories; sorted so, and
 * each directory's keys standing where its own is, a depth-first walk meets all keys in order. A
 * walk is a stack of frames, one a directory, each with its names sorted. Between two pages the
 * walk is kept (the last WALKS_MAX of them), so a directory is read once a list and not once a
 * page; a cursor whose walk is gone starts a new one after its key. A list without cursor always
 * reads anew, and so shows every write before it.
 *
 * Memory is bounded: of a huge directory a frame holds the walk_chunk smallest names it has not
 * given yet, and is filled again when they are used up.
 *
 * Who walks reads the directories: walk_fill_begin, then walk_add for each name in any order, then
 * walk_settle. A walk belongs to one thread at a time; struct walks has a lock of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "sync.h"

enum walk_kind { WALK_FILE, WALK_DIR, WALK_MARKER };

struct walk_entry {
    const void *data;   /* the walker's own, in the same memory, aligned for anything */
    uint8_t kind, rank; /* of two entries with one key the lower rank stays */
    char rest[];        /* key without the frame's prefix */
};

struct walk_frame {
    char *prefix; /* key prefix of the directory */
    char *path;   /* NULL, or the walker's own name of it; owned */
    char *filter; /* what each rest begins with; "" but for the first frame */
    struct walk_entry **entries;
    size_t n, at, cap;
    char *bound; /* NULL, or there are more names, above this one */
    /* while it is filled */
    char *after;    /* NULL, or only names above it … */
    bool inclusive; /* … or equal to it */
    bool more;
};

struct walk {
    struct walk *next; /* of those suspended */
    uint64_t id;
    char *prefix;
    char delimiter;
    char *last; /* the key given last; NULL when none was */
    char *seek; /* where the walk began: keys above it; NULL = from the start */
    struct walk_frame *frames;
    size_t n_frames, cap_frames;
    int fd; /* for a walker with descriptors: of the frame on top, or -1; closed with it */
};

/* Suspended walks, the last used first. */
struct walks {
    struct mutex lock;
    struct walk *list;
    uint64_t last_id;
};

extern size_t walk_chunk; /* names of a directory held at once; tests lower it before anything is
                             listed */

void walks_init(struct walks *w, enum lock_rank rank);
void walks_fini(struct walks *w);

/* The walk of one page: that which the cursor names, or a new one without frames. *ret_empty: no
 * key can be in this list. -EINVAL: not a cursor. */
int walk_open(struct walks *all, const struct be_list *o, struct walk **ret, bool *ret_empty);
void walk_free(struct walk *w); /* NULL is fine */
/* Keeps it for the page after the one whose last key is `last` (NULL: it had none) and gives the
 * cursor to find it by. */
char *walk_suspend(struct walks *all, struct walk *w, const char *last);

/* Strings become the frame's. */
struct walk_frame *walk_push(struct walk *w, char *prefix, char *path, char *filter);
void walk_pop(struct walk *w);
static inline struct walk_frame *walk_top(struct walk *w)
{
    return w->n_frames > 0 ? &w->frames[w->n_frames - 1] : NULL;
}

/* Empties the top frame for the names above its bound, or at first those the walk's start leaves.
 */
void walk_fill_begin(struct walk *w);
/* Adds one name, if it belongs here; `data` is copied. */
void walk_add(struct walk_frame *f, const char *rest, enum walk_kind kind, uint8_t rank,
              const void *data, size_t data_len);
/* Sorts, leaves one entry a key and a chunk in all. At the end of filling. */
void walk_settle(struct walk_frame *f);
