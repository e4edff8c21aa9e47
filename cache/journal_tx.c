/* Building a transaction: one block of memory in which everything is copied back to back; a second block is rare.
 * What is beyond the journal's bounds spoils the transaction as a whole, which then fails with -EINVAL and writes
 * nothing: rows that were written can always be loaded. No locks: a transaction is its builder's until submitted. */
#include "journal_internal.h"

#include <errno.h>
#include <string.h>

#include "file_state.h"
#include "mem.h"

struct jtx *jtx_new(void)
{
    struct jtx *tx = mem_realloc(NULL, sizeof(*tx)); /* not zeroed: `first` is most of it */
    tx->next = NULL;
    tx->ops = NULL;
    tx->tail = &tx->ops;
    tx->last = NULL;
    tx->bytes = 0;
    tx->invalid = 0;
    tx->flags = 0;
    tx->done = NULL;
    tx->ctx = NULL;
    tx->used = 0;
    return tx;
}

void jtx_free(struct jtx *tx)
{
    if (!tx) {
        return;
    }
    while (tx->last) {
        struct jblock *b = tx->last;
        tx->last = b->prev;
        free(b);
    }
    free(tx);
}

bool jtx_empty(const struct jtx *tx)
{
    return !tx->ops && tx->invalid == 0;
}

/* Sizes are bounded by the callers below, so sums do not overflow. */
static void *take(struct jtx *tx, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    size = (size + align - 1) / align * align;
    tx->bytes += size;
    if (!tx->last && size <= sizeof(tx->first) - tx->used) {
        void *p = tx->first + tx->used;
        tx->used += size;
        return p;
    }
    struct jblock *b = tx->last;
    if (!b || size > b->size - b->used) {
        /* Doubling: a transaction of many rows takes few blocks. */
        size_t room = MAX(size, b ? MIN(b->size * 2, (size_t)1 << 20) : (size_t)8192);
        b = mem_realloc(NULL, sizeof(*b) + room);
        b->prev = tx->last;
        b->used = 0;
        b->size = room;
        tx->last = b;
    }
    void *p = b->bytes + b->used;
    b->used += size;
    return p;
}

static const void *keep_bytes(struct jtx *tx, const void *p, size_t n)
{
    char *copy = take(tx, n + 1);
    if (n > 0) {
        memcpy(copy, p, n);
    }
    copy[n] = '\0';
    return copy;
}

/* "" for NULL. A string beyond max spoils the transaction. */
static const char *keep(struct jtx *tx, const char *s, size_t max)
{
    if (!s || s[0] == '\0') {
        return "";
    }
    size_t n = strnlen(s, max + 1);
    if (n > max) {
        tx->invalid = -EINVAL;
        return "";
    }
    return keep_bytes(tx, s, n);
}

static void need(struct jtx *tx, bool ok)
{
    if (!ok) {
        tx->invalid = -EINVAL;
    }
}

static struct jop *add(struct jtx *tx, enum jop_kind kind, uint32_t remote, const char *key,
                       size_t key_max, const void *row)
{
    struct jop *op = take(tx, sizeof(*op));
    *op = (struct jop){.kind = kind, .remote = remote, .key = keep(tx, key, key_max), .row = row};
    need(tx, op->key[0] != '\0');
    *tx->tail = op;
    tx->tail = &op->next;
    return op;
}

static struct jop *add_keyed(struct jtx *tx, enum jop_kind kind, uint32_t remote, const char *key,
                             const void *row)
{
    need(tx, remote != 0);
    return add(tx, kind, remote, key, J_KEY_MAX, row);
}

void jtx_intent_put(struct jtx *tx, const struct jintent *row)
{
    need(tx, row->state >= 0 && row->state < FS_STATES);
    need(tx, row->seq < (uint64_t)J_SEQ_MAX && row->gen < (uint64_t)J_SEQ_MAX &&
                 row->spool_id < (uint64_t)J_SEQ_MAX);
    need(tx, row->size <= INT64_MAX && row->base_size <= INT64_MAX && row->part_size <= INT64_MAX);
    struct jintent *copy = take(tx, sizeof(*copy));
    *copy = *row;
    copy->key = NULL;
    copy->extents = keep(tx, row->extents, J_EXTENTS_MAX);
    copy->meta = keep(tx, row->meta, J_TEXT_MAX);
    copy->base_etag = keep(tx, row->base_etag, BE_ETAG_MAX - 1);
    copy->expect_etag = keep(tx, row->expect_etag, BE_ETAG_MAX - 1);
    copy->after_key = keep(tx, row->after_remote != 0 ? row->after_key : NULL, J_KEY_MAX);
    need(tx, row->after_remote <= UINT32_MAX);
    need(tx, row->after_remote == 0 || copy->after_key[0] != '\0');
    copy->upload_id = keep(tx, row->upload_id, J_NAME_MAX);
    copy->upload_tag = keep(tx, row->upload_tag, J_NAME_MAX);
    copy->sent = keep(tx, row->sent, J_NAME_MAX);
    copy->sent_extents = keep(tx, row->sent_extents, J_EXTENTS_MAX);
    if (row->err) {
        struct errinfo *err = take(tx, sizeof(*err));
        *err = *row->err;
        copy->err = err;
    }
    add_keyed(tx, JOP_INTENT_PUT, row->remote, row->key, copy);
}

void jtx_intent_delete(struct jtx *tx, uint32_t remote, const char *key)
{
    add_keyed(tx, JOP_INTENT_DELETE, remote, key, NULL);
    add_keyed(tx, JOP_PARTS_DELETE, remote, key, NULL);
}

void jtx_part_put(struct jtx *tx, uint32_t remote, const char *key, const struct jpart *part)
{
    need(tx, part->number > 0 && part->size <= INT64_MAX);
    need(tx, part->hash_state_len <= J_HASH_MAX);
    struct jpart *copy = take(tx, sizeof(*copy));
    *copy = *part;
    copy->etag = keep(tx, part->etag, BE_ETAG_MAX - 1);
    copy->hash_state = part->hash_state && tx->invalid == 0
                           ? keep_bytes(tx, part->hash_state, part->hash_state_len)
                           : NULL;
    add_keyed(tx, JOP_PART_PUT, remote, key, copy);
}

void jtx_parts_delete(struct jtx *tx, uint32_t remote, const char *key)
{
    add_keyed(tx, JOP_PARTS_DELETE, remote, key, NULL);
}

/* A fixed array that should hold a string: its own memory is the bound. */
static void need_string(struct jtx *tx, const char *s, size_t size)
{
    need(tx, memchr(s, '\0', size) != NULL);
}

void jtx_ledger_put(struct jtx *tx, const struct jledger *row)
{
    need(tx, row->size <= INT64_MAX && row->src_size <= INT64_MAX);
    need_string(tx, row->etag, sizeof(row->etag));
    need_string(tx, row->src_etag, sizeof(row->src_etag));
    struct jledger_row *copy = take(tx, sizeof(*copy));
    copy->l = *row;
    copy->l.key = NULL;
    copy->l.meta = NULL;
    copy->l.src_key = NULL;
    copy->meta = keep(tx, row->meta, J_TEXT_MAX);
    copy->src_key = keep(tx, row->src_key, J_KEY_MAX);
    need(tx, row->src_remote == 0 || copy->src_key[0] != '\0');
    add_keyed(tx, JOP_LEDGER_PUT, row->remote, row->key, copy);
}

void jtx_ledger_delete(struct jtx *tx, uint32_t remote, const char *key)
{
    add_keyed(tx, JOP_LEDGER_DELETE, remote, key, NULL);
}

void jtx_ledger_seen(struct jtx *tx, uint32_t remote, const char *key, const char *etag,
                     uint64_t size, int64_t mtime_ns)
{
    need(tx, size <= INT64_MAX);
    struct jseen *seen = take(tx, sizeof(*seen));
    *seen = (struct jseen){keep(tx, etag, BE_ETAG_MAX - 1), size, mtime_ns};
    add_keyed(tx, JOP_LEDGER_SEEN, remote, key, seen);
}

void jtx_segments_put(struct jtx *tx, uint32_t remote, const char *key, const char *etag, const void *data, size_t len)
{
    struct jsegments *copy = take(tx, sizeof(*copy));
    need(tx, len <= J_SEGMENTS_MAX);
    *copy = (struct jsegments){.etag = keep(tx, etag, BE_ETAG_MAX - 1), .len = len};
    copy->data = tx->invalid == 0 ? keep_bytes(tx, data, len) : NULL;
    add_keyed(tx, JOP_SEGMENTS_PUT, remote, key, copy);
}

void jtx_abort_put(struct jtx *tx, uint32_t remote, const char *key, const char *upload_id)
{
    add_keyed(tx, JOP_ABORT_PUT, remote, key, keep(tx, upload_id, J_NAME_MAX));
}

void jtx_abort_delete(struct jtx *tx, uint32_t remote, const char *key, const char *upload_id)
{
    add_keyed(tx, JOP_ABORT_DELETE, remote, key, keep(tx, upload_id, J_NAME_MAX));
}

void jtx_attach_put(struct jtx *tx, const struct jattach *a)
{
    struct jattach *copy = take(tx, sizeof(*copy));
    *copy = (struct jattach){
        .spec = keep(tx, a->spec, J_TEXT_MAX),
        .remote = keep(tx, a->remote, J_TEXT_MAX),
        .prefix = keep(tx, a->prefix, J_KEY_MAX),
        .options = keep(tx, a->options, J_TEXT_MAX),
    };
    add(tx, JOP_ATTACH_PUT, 0, a->dir, J_KEY_MAX, copy);
}

void jtx_attach_delete(struct jtx *tx, const char *dir)
{
    add(tx, JOP_ATTACH_DELETE, 0, dir, J_KEY_MAX, NULL);
}

static void add_number(struct jtx *tx, enum jop_kind kind, const char *name, int64_t value)
{
    int64_t *copy = take(tx, sizeof(*copy));
    *copy = value;
    add(tx, kind, 0, name, J_NAME_MAX, copy);
}

void jtx_counter_add(struct jtx *tx, const char *name, int64_t delta)
{
    add_number(tx, JOP_COUNTER_ADD, name, delta);
}

void jtx_mark_put(struct jtx *tx, const char *name, int64_t value)
{
    add_number(tx, JOP_MARK_PUT, name, value);
}

void jtx_mark_text(struct jtx *tx, const char *name, const char *text)
{
    const char *copy = keep(tx, text, J_NAME_MAX);
    add(tx, JOP_MARK_TEXT, 0, name, J_NAME_MAX, copy);
}

void jtx_remote_add(struct jtx *tx, const char *identity)
{
    add(tx, JOP_REMOTE_ADD, 0, identity, J_TEXT_MAX, NULL);
}
