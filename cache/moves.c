/* Moves of files that have no bytes to copy.
 *
 * mv between two mounts copies by copy_file_range, and that orders the deletion of the source after the copy (rules B2). Of an
 * empty file, a symlink or a device nothing is copied: mv makes a new one and removes the old one, and the removal could be at
 * the provider first. So the pending ones know the process that made them, and what the same process removes waits for the
 * one of the same size whose name is most alike. */
#include "internal.h"

void move_made(struct cache *c, struct ckey *k, int32_t pid)
{
    mutex_assert_held(&c->lock);
    move_is_over(c, k);
    if (pid == 0 || k->state == FS_CLEAN) {
        return;
    }
    k->made_by = pid;
    k->made_next = c->made;
    if (c->made != NULL) {
        c->made->made_prev = k;
    }
    c->made = k;
}

void move_is_over(struct cache *c, struct ckey *k)
{
    if (k->made_by == 0) {
        return;
    }
    k->made_by = 0;
    if (k->made_prev != NULL) {
        k->made_prev->made_next = k->made_next;
    } else {
        c->made = k->made_next;
    }
    if (k->made_next != NULL) {
        k->made_next->made_prev = k->made_prev;
    }
    k->made_prev = k->made_next = NULL;
}

static size_t same_ending(const struct ckey *a, const struct ckey *b)
{
    size_t n = 0;
    while (n < a->key_len && n < b->key_len && a->key[a->key_len - 1 - n] == b->key[b->key_len - 1 - n]) {
        n++;
    }
    return n;
}

void move_removed(struct cache *c, struct ckey *k, int32_t pid)
{
    mutex_assert_held(&c->lock);
    if (!k->base.known || !k->base.exists) {
        return;
    }
    struct ckey *best = NULL;
    size_t best_len = 0;
    for (struct ckey *m = c->made; m != NULL; m = m->made_next) {
        if (m->made_by != pid || m == k || !key_has_file(m) || m->file->map.size != k->base.o.size) {
            continue;
        }
        size_t len = same_ending(m, k);
        if (best == NULL || len > best_len) {
            best = m;
            best_len = len;
        }
    }
    if (best != NULL) {
        key_order_after(c, best->file, k);
        move_is_over(c, best); /* each stands for one source */
    }
}
