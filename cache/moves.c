/* Moves of files that have no bytes to copy.
 *
 * mv between two mounts copies by copy_file_range, and that orders the deletion of the source after the copy (rules B2). Of an
 * empty file, a symlink or a device nothing is copied: mv makes a new one and removes the old one, and the removal could be at
 * the provider first. So the pending ones know who made them, and what the same one removes waits for the file of its name and
 * size, of several that whose key is most alike. Who is a thread: the kernel names no other. A move to another name is not
 * recognized; what is removed is in the journal all the same. */
#include "internal.h"

#include <string.h>

#include "mem.h"

/* Of the last component: a name, and what follows it when the key ends in '/'. */
static struct ckey **bucket(struct cache *c, const struct ckey *k)
{
    size_t at = key_parent_len(k->key);
    return &c->made[key_hash(0, k->key + at, k->key_len - at) % ARRAY_LEN(c->made)];
}

static bool same_name(const struct ckey *a, const struct ckey *b)
{
    return strcmp(a->key + key_parent_len(a->key), b->key + key_parent_len(b->key)) == 0;
}

void move_made(struct cache *c, struct ckey *k, int32_t by)
{
    mutex_assert_held(&c->lock);
    move_is_over(c, k);
    if (by == 0 || k->state == FS_CLEAN || k->file->moved) {
        return;
    }
    struct ckey **head = bucket(c, k);
    k->made_by = by;
    k->made_next = *head;
    if (*head != NULL) {
        (*head)->made_prev = k;
    }
    *head = k;
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
        *bucket(c, k) = k->made_next;
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

void move_removed(struct cache *c, struct ckey *k, int32_t by)
{
    mutex_assert_held(&c->lock);
    if (!k->base.known || !k->base.exists) {
        return;
    }
    struct ckey *best = NULL;
    size_t best_len = 0;
    for (struct ckey *m = *bucket(c, k); m != NULL; m = m->made_next) {
        if (m->made_by != by || m == k || !key_has_file(m) || m->file->moved || m->file->map.size != k->base.o.size ||
            !same_name(m, k)) {
            continue;
        }
        size_t len = same_ending(m, k);
        if (len > best_len) {
            best = m;
            best_len = len;
        }
    }
    if (best != NULL) {
        if (!best->file->sealed && best->file->map.size == 0) {
            file_seal(c, best->file, NULL); /* its RELEASE may come later than this, and its row must not */
        }
        key_order_after(c, best->file, k);
        move_is_over(c, best); /* each stands for one source */
    }
}
