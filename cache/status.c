/* What the operator sees and says: status, metrics, errors, progress, retry, discard.
 *
 * Status members (JSON): identity totals in "remotes" [{name, identity, mounted, paused, why, overwrite}], "pending" {files, bytes, failed, conflict,
 * unfinished, waiting, open}, "done" {files, bytes, skipped, server_copies} since the start, "total" {files, bytes} since the journal was made, "spool" {used, space, files}, "memory" {used,
 * budget}, "transfers" active now, "failures" [{remote, key, state, code, status, message, request_id}] up to 1000,
 * "unfinished" [{remote, key, size}] and "open" [{remote, key}] likewise, "daemon" true when a daemon answered. */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "names.h"

#define LIST_MAX 1000

static bool below(const struct cscope *s, const struct cident *id, const char *key)
{
    return s->remote->ident == id && strncmp(key, s->prefix, strlen(s->prefix)) == 0;
}

bool scope_has(const struct cscope *s, const struct ckey *k)
{
    if (s == NULL || s->remote == NULL || below(s, k->ident, k->key)) {
        return true;
    }
    for (const struct cref_edge *e = k->file != NULL ? k->file->reads : NULL; e != NULL; e = e->next_of_file) {
        if (below(s, e->slot->ident, e->slot->key)) {
            return true;
        }
    }
    return false;
}

uint64_t cache_seq(struct cache *c)
{
    cache_lock(c);
    uint64_t seq = c->next_seq - 1;
    cache_unlock(c);
    return seq;
}

/* Written to by somebody who has not closed it: named by wait, not awaited (rules E6). */
static bool is_open(const struct ckey *k)
{
    const struct cfile *f = key_sends(k);
    return f != NULL && !f->sealed && (k->state == FS_DIRTY || f->streaming);
}

static void progress_locked(struct cache *c, const struct cscope *s, uint64_t up_to, struct cprogress *p)
{
    memset(p, 0, sizeof(*p));
    p->files_done = c->files_done;
    p->bytes_done = c->bytes_done;
    for (const struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        if (k->seq > up_to || !scope_has(s, k)) {
            continue;
        }
        const struct cfile *f = key_sends(k);
        if (k->state == FS_BLOCKED || k->state == FS_CONFLICT) {
            p->failed++;
        } else if (is_open(k)) {
            p->open_files += f == k->file; /* else it counts where its name is now */
        } else {
            p->files_left++;
            p->bytes_left += f != NULL && f == k->file ? f->map.size : 0;
            if (k->ident->be == NULL || pause_waits(k)) {
                p->waiting++;
            }
        }
    }
    for (size_t b = 0; b < c->n_buckets; b++) {
        for (const struct ckey *k = c->keys[b]; k != NULL; k = k->hash_next) {
            p->unfinished += k->aside != NULL && scope_has(s, k);
        }
    }
}

void cache_progress(struct cache *c, const struct cscope *s, uint64_t up_to_seq, struct cprogress *ret)
{
    cache_lock(c);
    progress_locked(c, s, up_to_seq, ret);
    cache_unlock(c);
}

void cache_hurry(struct cache *c, const struct cscope *s)
{
    cache_lock(c);
    int64_t now = time_mono_ns();
    for (struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        if (scope_has(s, k) && k->state == FS_DIRTY && k->tries == 0 && k->x == NULL &&
            (k->want_absent || (k->file != NULL && k->file->sealed))) {
            k->due_ns = MIN(k->due_ns, now);
        }
    }
    cache_kick_locked(c);
    cache_unlock(c);
}

bool cache_idle(struct cache *c)
{
    cache_lock(c);
    struct cprogress p;
    progress_locked(c, NULL, UINT64_MAX, &p);
    bool idle = p.files_left - p.waiting == 0 && c->active_xfers == 0 && c->async == 0 && !orphans_busy(c);
    cache_unlock(c);
    return idle;
}

static const char *shown_state(const struct ckey *k)
{
    return k->state == FS_CONFLICT ? "conflict" : k->state == FS_BLOCKED ? "failed" : "queued";
}

/* Keys are any bytes; JSON wants UTF-8: what is not is shown percent-encoded. */
static json_t *json_key(const char *key)
{
    json_t *j = json_string(key);
    if (j == NULL) {
        CLEANUP(buf_fini) struct buf b = BUF_INIT;
        url_encode(&b, key, strlen(key), true);
        j = json_string(buf_str(&b));
    }
    return j;
}

/* How many bytes the UTF-8 character at p has; 0: it is none. */
static size_t utf8_len(const char *p)
{
    for (size_t n = 1; n <= 4 && p[n - 1] != '\0'; n++) {
        if (names_is_utf8(p, n)) {
            return n;
        }
    }
    return 0;
}

/* Any bytes as UTF-8 of one line: keys are not always it, and a message may have been cut within a character. */
static void add_shown(struct buf *b, const char *text)
{
    for (const char *p = text; *p != '\0';) {
        size_t n = utf8_len(p);
        if (n == 0 || (unsigned char)*p < 0x20 || *p == 0x7f || *p == '\\') {
            buf_addf(b, "\\x%02x", (unsigned char)*p);
            p++;
        } else {
            buf_add(b, p, n);
            p += n;
        }
    }
}

static const char *ident_label(struct cache *c, const struct cident *id)
{
    for (const struct cache_remote *r = c->remotes; r != NULL; r = r->next) {
        if (r->ident == id) {
            return r->conf->name;
        }
    }
    return id->name;
}

/* What keeps us from overwriting what somebody else wrote meanwhile (rules B8). */
static const char *overwrite_promise(const struct cache *c, const struct cident *id)
{
    return id->be == NULL                     ? "unknown"
           : (id->caps & BE_CAP_READ_ONLY)     ? "read only"
           : (id->caps & BE_CAP_IF_MATCH) != 0 ? "conditional"
           : c->opt.conflict_check            ? "checked before"
                                              : "last writer wins";
}

int cache_status(struct cache *c, const struct cscope *s, struct buf *ret_json)
{
    json_t *root = json_object(), *remotes = json_array(), *failures = json_array(), *unfinished = json_array(), *open = json_array();
    struct cprogress p;
    cache_lock(c);
    progress_locked(c, s, UINT64_MAX, &p);
    uint64_t conflict = 0;
    for (const struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        if (is_open(k) && key_sends(k) == k->file && json_array_size(open) < LIST_MAX && scope_has(s, k)) {
            json_array_append_new(open, json_pack("{s:s, s:o}", "remote", ident_label(c, k->ident), "key", json_key(k->key)));
        }
        if ((k->state != FS_BLOCKED && k->state != FS_CONFLICT) || !scope_has(s, k)) {
            continue;
        }
        conflict += k->state == FS_CONFLICT;
        if (json_array_size(failures) < LIST_MAX) {
            json_array_append_new(failures, json_pack("{s:s, s:o, s:s, s:s, s:i, s:s, s:s}", "remote", ident_label(c, k->ident),
                                                      "key", json_key(k->key), "state", shown_state(k), "code", k->err.code,
                                                      "status", k->err.http_status, "message", k->err.message, "request_id",
                                                      k->err.request_id));
        }
    }
    for (size_t b = 0; b < c->n_buckets; b++) {
        for (const struct ckey *k = c->keys[b]; k != NULL; k = k->hash_next) {
            if (k->aside != NULL && scope_has(s, k) && json_array_size(unfinished) < LIST_MAX) {
                json_array_append_new(unfinished, json_pack("{s:s, s:o, s:I}", "remote", ident_label(c, k->ident), "key",
                                                            json_key(k->key), "size", (json_int_t)k->aside->map.size));
            }
        }
    }
    for (const struct cident *i = c->idents; i != NULL; i = i->next) {
        bool paused = i->pause_err.cls != ERR_NONE;
        json_t *one = json_pack("{s:s, s:s, s:b, s:b, s:s}", "name", ident_label(c, i), "identity", i->name, "mounted",
                                i->be != NULL, "paused", paused, "overwrite", overwrite_promise(c, i));
        if (paused) {
            char line[640];
            json_object_set_new(one, "why", json_string(err_format(&i->pause_err, line, sizeof(line))));
        }
        json_array_append_new(remotes, one);
    }
    json_object_set_new(root, "version", json_string(OBJMIG_VERSION));
    json_object_set_new(root, "daemon", json_boolean(!c->read_only));
    json_object_set_new(root, "cache", json_string(c->dir));
    json_object_set_new(root, "remotes", remotes);
    json_object_set_new(root, "pending",
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "files", (json_int_t)p.files_left, "bytes",
                                  (json_int_t)p.bytes_left, "failed", (json_int_t)(p.failed - conflict), "conflict",
                                  (json_int_t)conflict, "unfinished", (json_int_t)p.unfinished, "open",
                                  (json_int_t)p.open_files, "waiting", (json_int_t)p.waiting));
    json_object_set_new(root, "done",
                        json_pack("{s:I, s:I, s:I, s:I}", "files", (json_int_t)c->files_done, "bytes",
                                  (json_int_t)c->bytes_done, "skipped", (json_int_t)c->files_skipped, "server_copies",
                                  (json_int_t)c->server_copies));
    json_object_set_new(root, "total", json_pack("{s:I, s:I}", "files", (json_int_t)c->files_total, "bytes",
                                                 (json_int_t)c->bytes_total));
    json_object_set_new(root, "transfers", json_integer(c->active_xfers));
    json_object_set_new(root, "memory", json_pack("{s:I, s:I, s:I}", "uploads", (json_int_t)c->mem_used, "reads",
                                                  (json_int_t)c->chunk_bytes, "budget", (json_int_t)c->opt.memory));
    json_object_set_new(root, "failures", failures);
    json_object_set_new(root, "unfinished", unfinished);
    json_object_set_new(root, "open", open);
    bool failed = c->journal != NULL && !c->read_only && journal_failed(c->journal);
    bool full = c->journal != NULL && !c->read_only && journal_full(c->journal);
    cache_unlock(c);
    json_object_set_new(root, "journal", json_string(failed ? "failed" : full ? "full" : "ok"));
    if (c->spool != NULL) {
        json_object_set_new(root, "spool", json_pack("{s:I, s:I, s:I}", "used", (json_int_t)spool_used(c->spool), "space",
                                                     (json_int_t)spool_space(c->spool, 0), "files",
                                                     (json_int_t)spool_files(c->spool)));
    }
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(root);
    int err = text != NULL ? buf_adds(ret_json, text) : -ENOMEM;
    if (err == 0) {
        err = buf_addc(ret_json, '\n');
    }
    free(text);
    return err;
}

static void metric(struct buf *b, const char *name, const char *type, const char *help, uint64_t v)
{
    buf_addf(b, "# HELP objmig_%s %s\n# TYPE objmig_%s %s\nobjmig_%s %" PRIu64 "\n", name, help, name, type, name, v);
}

int cache_metrics(struct cache *c, struct buf *b)
{
    struct cprogress p;
    struct http_stats h = {0};
    cache_lock(c);
    progress_locked(c, NULL, UINT64_MAX, &p);
    uint64_t skipped = c->files_skipped, copies = c->server_copies, failed = c->failed_total, active = c->active_xfers;
    uint64_t mem = c->mem_used + c->chunk_bytes;
    cache_unlock(c);
    if (c->http != NULL) {
        http_engine_stats(c->http, &h);
    }
    metric(b, "files_done_total", "counter", "Files committed and verified since start.", p.files_done);
    metric(b, "bytes_done_total", "counter", "Bytes of those files.", p.bytes_done);
    metric(b, "files_skipped_total", "counter", "Files the target already held.", skipped);
    metric(b, "server_copies_total", "counter", "Copies the provider made itself.", copies);
    metric(b, "failures_total", "counter", "Keys that failed for good.", failed);
    metric(b, "pending_files", "gauge", "Sealed changes not yet at the provider.", p.files_left);
    metric(b, "pending_bytes", "gauge", "Bytes of those.", p.bytes_left);
    metric(b, "failed_files", "gauge", "Keys that wait for the operator.", p.failed);
    metric(b, "unfinished_files", "gauge", "Files whose writer did not finish.", p.unfinished);
    metric(b, "transfers", "gauge", "Transfers under way.", active);
    metric(b, "memory_bytes", "gauge", "Data held in memory.", mem);
    metric(b, "spool_bytes", "gauge", "Bytes in the spool.", c->spool != NULL ? spool_used(c->spool) : 0);
    metric(b, "http_requests_total", "counter", "HTTP requests sent.", h.requests);
    metric(b, "http_sent_bytes_total", "counter", "Bytes sent.", h.bytes_sent);
    metric(b, "http_received_bytes_total", "counter", "Bytes received.", h.bytes_received);
    return 0;
}

int cache_errors(struct cache *c, const struct cscope *s, struct buf *b)
{
    char line[640];
    cache_lock(c);
    for (const struct cident *i = c->idents; i != NULL; i = i->next) {
        if (i->pause_err.cls != ERR_NONE && (s == NULL || s->remote == NULL || s->remote->ident == i)) {
            buf_addf(b, "paused\t%s\t\t%s\n", ident_label(c, i), err_format(&i->pause_err, line, sizeof(line)));
        }
    }
    for (const struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        if ((k->state != FS_BLOCKED && k->state != FS_CONFLICT) || !scope_has(s, k)) {
            continue;
        }
        buf_addf(b, "%s\t%s\t", shown_state(k), ident_label(c, k->ident));
        add_shown(b, k->key);
        buf_addc(b, '\t');
        add_shown(b, err_format(&k->err, line, sizeof(line)));
        buf_addc(b, '\n');
    }
    cache_unlock(c);
    return 0;
}

int cache_retry(struct cache *c, const struct cscope *s, unsigned *ret_n)
{
    *ret_n = 0;
    cache_lock(c);
    for (struct ckey *k = c->dirty_head; k != NULL; k = k->dirty_next) {
        *ret_n += scope_has(s, k) ? pause_lift_of(c, k) : 0;
    }
    struct jtx *tx = jtx_new();
    struct ckey *next;
    for (struct ckey *k = c->dirty_head; k != NULL; k = next) {
        next = k->dirty_next;
        if ((k->state == FS_BLOCKED || k->state == FS_CONFLICT) && k->x == NULL && scope_has(s, k) &&
            !(k->file != NULL && k->file->lost)) {
            key_event(c, k, FE_RETRY, "operator");
            k->tries = 0;
            err_clear(&k->err);
            k->due_ns = time_mono_ns();
            key_journal(c, k, tx);
            ++*ret_n;
        }
    }
    if (jtx_empty(tx)) {
        jtx_free(tx);
    } else {
        journal_submit(c->journal, tx, 0, NULL, NULL);
    }
    cache_kick_locked(c);
    cache_unlock(c);
    return 0;
}

int cache_discard(struct cache *c, const struct cscope *s, unsigned *ret_n)
{
    *ret_n = 0;
    cache_lock(c);
    struct jtx *tx = jtx_new();
    for (size_t b = 0; b < c->n_buckets; b++) {
        for (struct ckey *k = c->keys[b]; k != NULL; k = k->hash_next) {
            if (!scope_has(s, k)) {
                continue;
            }
            bool failed = (k->state == FS_BLOCKED || k->state == FS_CONFLICT) && k->x == NULL;
            if (failed && k->carries != NULL && !k->want_absent) {
                k->carries->lost = true; /* only that has failed, and not what is under the name now */
                stream_abandon(c, k->carries);
                ++*ret_n;
                continue;
            }
            if (failed) {
                key_event(c, k, FE_DISCARD, "operator");
                k->want_absent = false;
                k->move = false;
                struct cfile *gone = k->carries != NULL ? k->carries : k->file;
                if (gone != NULL && gone->carrier != NULL) {
                    gone->lost = gone->lost || gone->carrier == k; /* under its new name: without its upload */
                    if (gone->carrier->want_absent) {
                        stream_let_go(c, gone); /* whose failure is discarded in its turn */
                    } else {
                        stream_abandon(c, gone);
                    }
                }
                key_forget_file(c, k);
                if (k->up.id != NULL) {
                    upload_drop(c, k);
                }
                dir_note(c, k->ident, k->key, NULL, &k->base, !(k->base.known && k->base.exists));
            }
            if (failed || k->aside != NULL) {
                key_drop_aside(c, k);
                key_journal(c, k, tx);
                ++*ret_n;
            }
        }
    }
    if (jtx_empty(tx)) {
        jtx_free(tx);
    } else {
        journal_submit(c->journal, tx, 0, NULL, NULL);
    }
    cache_unlock(c);
    return 0;
}
