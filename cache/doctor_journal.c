/* The doctor on journal and spool: does the journal open, is it whole, can every row be read, and does the spool hold what the
 * rows name?
 *
 * A daemon may be changing both. The journal is read first, the spool after it, and what then seems to be missing is looked for
 * in the journal once more: a row that still names a file which was not there before is no coincidence, since a row goes before
 * its file does. Files no row names are not spoken of beside a daemon: every new file begins as one. */
#include "doctor_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "extent.h"
#include "file_state.h"
#include "journal.h"
#include "mem.h"
#include "spool.h"

#define SHOWN_MAX 20 /* findings of one kind that get a line each */
#define MAX_EXTENTS 1000000u

/* What a row says of its spool file. */
struct named {
    uint64_t id, need; /* bytes the file must have */
    uint64_t size;     /* bytes it has */
    bool there;
};

struct look {
    struct cdoctor *d;
    struct journal *j;
    struct named *v; /* by id */
    size_t n, cap;
    uint64_t rows, bad;
    uint64_t missing;
    uint64_t files, bytes, strange, strange_bytes;
};

static int by_id(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static struct named *find(const struct look *l, uint64_t id)
{
    const struct named key = {.id = id};
    return l->n > 0 ? bsearch(&key, l->v, l->n, sizeof(key), by_id) : NULL;
}

static char *row_text(const struct look *l, const struct jintent *row)
{
    CLEANUP(mem_freep) char *identity = NULL;
    bool known = row->remote != 0 && journal_remote_identity(l->j, row->remote, &identity) == 0;
    return mem_printf("key \"%s\" of %s", row->key, known ? identity : "an unknown remote");
}

/* False: the row cannot be read (recover.c leaves such alone). *ret_need: how long its spool file must be. */
static bool row_need(const struct jintent *row, uint64_t *ret_need)
{
    *ret_need = 0;
    if (row->state < 0 || row->state >= FS_STATES || row->key[0] == '\0') {
        return false;
    }
    if (row->absent) {
        return true;
    }
    struct extent_map m;
    struct kvlist meta = {0};
    if (extent_parse(&m, row->extents, MAX_EXTENTS) < 0) {
        return false;
    }
    bool ok = m.size == row->size && kv_parse(&meta, row->meta) == 0;
    for (size_t i = 0; i < m.n; i++) {
        if (m.v[i].kind == EXT_LOCAL) {
            *ret_need = MAX(*ret_need, m.v[i].off + m.v[i].len);
        }
    }
    extent_fini(&m);
    kv_fini(&meta);
    return ok;
}

static void say_bad_row(struct look *l, const struct jintent *row)
{
    CLEANUP(mem_freep) char *which = row_text(l, row);
    CLEANUP(mem_freep) char *mend =
        row->spool_id == 0
            ? mem_printf("write that file again through the mount: the new row takes the place of this one")
            : mem_printf("its bytes are kept in %s/tmp/%016" PRIx64 ": copy them away, then write that file again through the "
                         "mount: the new row takes the place of this one",
                         l->d->dir, row->spool_id);
    cdoctor_say(l->d, CDOCTOR_FAIL, "journal", mend, "the row of %s cannot be read", which);
}

static int look_at_row(void *ctx, const struct jintent *row, const struct jpart *parts, size_t n_parts)
{
    struct look *l = ctx;
    uint64_t need;
    bool ok = row_need(row, &need);
    (void)parts;
    (void)n_parts;
    l->rows++;
    if (!ok && l->bad++ < SHOWN_MAX) {
        say_bad_row(l, row);
    }
    if (row->spool_id != 0) {
        if (l->n == l->cap) {
            l->cap = l->cap == 0 ? 256 : l->cap * 2;
            l->v = mem_realloc(l->v, l->cap * sizeof(*l->v));
        }
        l->v[l->n++] = (struct named){.id = row->spool_id, .need = ok ? need : 0};
    }
    return 0;
}

static int look_at_file(void *ctx, uint64_t id, uint64_t size, uint64_t bytes)
{
    struct look *l = ctx;
    struct named *f = find(l, id);
    l->files++;
    l->bytes += bytes;
    if (f != NULL) {
        f->there = true;
        f->size = size;
    } else {
        l->strange++;
        l->strange_bytes += bytes;
    }
    return 0;
}

/* A row of the second look: is it still one whose file is missing or short? */
static int look_again(void *ctx, const struct jintent *row, const struct jpart *parts, size_t n_parts)
{
    struct look *l = ctx;
    uint64_t need;
    const struct named *f = row->spool_id != 0 ? find(l, row->spool_id) : NULL;
    (void)parts;
    (void)n_parts;
    if (f == NULL || !row_need(row, &need) || need == 0) {
        return 0;
    }
    struct stat st = {0};
    CLEANUP(mem_freep) char *path = mem_printf("%s/tmp/%016" PRIx64, l->d->dir, row->spool_id);
    bool there = stat(path, &st) == 0;
    /* Gone only now: so is its row, by now. */
    bool right = there ? (uint64_t)st.st_size >= need : f->there;
    if (right || l->missing++ >= SHOWN_MAX) {
        return 0;
    }
    CLEANUP(mem_freep) char *which = row_text(l, row);
    if (there) {
        cdoctor_say(l->d, CDOCTOR_FAIL, "spool", "write it again from its source, or give it up with objmig discard",
                   "%s has %llu bytes, but %s needs %" PRIu64, path, (unsigned long long)st.st_size, which, need);
    } else {
        cdoctor_say(l->d, CDOCTOR_FAIL, "spool", "write it again from its source, or give it up with objmig discard",
                   "%s is missing, which holds %s", path, which);
    }
    return 0;
}

static bool any_missing(const struct look *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].need > 0 && (!l->v[i].there || l->v[i].size < l->v[i].need)) {
            return true;
        }
    }
    return false;
}

static void look_at_spool(struct look *l)
{
    struct cdoctor *d = l->d;
    char text[32];
    if (l->n > 0) {
        qsort(l->v, l->n, sizeof(*l->v), by_id);
    }
    int err = spool_look(d->dir, look_at_file, l);
    if (err < 0 && err != -ENOENT) {
        cdoctor_say(d, CDOCTOR_FAIL, "spool", "", "%s/tmp: %s", d->dir, strerror(-err));
        return;
    }
    if (any_missing(l)) {
        (void)journal_each_intent(l->j, look_again, l);
    }
    if (l->missing > SHOWN_MAX) {
        cdoctor_say(d, CDOCTOR_FAIL, "spool", "", "and %" PRIu64 " more", l->missing - SHOWN_MAX);
    }
    if (l->strange > 0 && !d->live) {
        cdoctor_say(d, CDOCTOR_WARN, "spool",
                   l->bad > 0 ? "nothing yet: they stay as long as there are rows that cannot be read"
                              : "nothing: the next mount removes them",
                   "%" PRIu64 " files with %s which no row of the journal names", l->strange,
                   cdoctor_bytes(l->strange_bytes, text, sizeof(text)));
    }
    if (l->missing == 0) {
        cdoctor_say(d, CDOCTOR_OK, "spool", "", "%" PRIu64 " files with %s; what the journal names is there", l->files,
                   cdoctor_bytes(l->bytes, text, sizeof(text)));
    }
}

static void on_damage(void *ctx, const char *damage)
{
    struct look *l = ctx;
    if (l->bad++ == 0) {
        cdoctor_say(l->d, CDOCTOR_FAIL, "journal",
                   "unmount, and copy the whole cache directory away before anything else; then start with a new one and run the "
                   "copies again: what is at the providers is not moved again",
                   "damaged: %s", damage);
    }
}

/* Whether the journal is worth being read. */
static bool look_at_journal(struct look *l)
{
    struct cdoctor *d = l->d;
    struct errinfo err = {0};
    int r = journal_open_readonly(d->dir, &l->j, &err);
    if (r == -ENOENT) {
        r = spool_look(d->dir, look_at_file, l);
        if (l->files > 0 && !d->live) {
            cdoctor_say(d, CDOCTOR_FAIL, "journal",
                       "copy tmp away before the next mount, which would remove it; objmig doctor --abort-uploads SPEC finds "
                       "uploads that were begun",
                       "there is none, but %s/tmp holds %" PRIu64 " files: it was lost", d->dir, l->files);
        } else {
            cdoctor_say(d, CDOCTOR_OK, "journal", "", "none yet: nothing was accepted");
        }
        return false;
    }
    if (r < 0) {
        cdoctor_say(d, r == -ESTALE ? CDOCTOR_WARN : CDOCTOR_FAIL, "journal",
                   r == -EBADMSG ? "copy the whole cache directory away before anything else; then start with a new one" : "",
                   "%s", err.message);
        return false;
    }
    r = journal_check(l->j, on_damage, l);
    if (r < 0) {
        cdoctor_say(d, CDOCTOR_FAIL, "journal", "", "cannot be checked: %s", strerror(-r));
    }
    bool whole = r == 0 && l->bad == 0;
    l->bad = 0;
    return whole;
}

bool cache_doctor_journal(struct cdoctor *d)
{
    struct look l = {.d = d};
    bool ok = look_at_journal(&l);
    if (ok) {
        int err = journal_each_intent(l.j, look_at_row, &l);
        ok = err == 0;
        if (err < 0) {
            cdoctor_say(d, CDOCTOR_FAIL, "journal", "", "its rows cannot be read: %s", strerror(-err));
        } else if (l.bad > SHOWN_MAX) {
            cdoctor_say(d, CDOCTOR_FAIL, "journal", "", "and %" PRIu64 " more rows that cannot be read", l.bad - SHOWN_MAX);
        } else if (l.bad == 0) {
            cdoctor_say(d, CDOCTOR_OK, "journal", "", "opens, is whole, %" PRIu64 " rows", l.rows);
        }
    }
    if (ok) {
        l.files = l.bytes = 0;
        look_at_spool(&l);
    }
    journal_close(l.j);
    free(l.v);
    return ok;
}
