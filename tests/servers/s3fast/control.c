/* What the bench asks of the server besides S3, unsigned, at /_ctl/… (no bucket's name has an
 * underscore):
 *
 * GET stats: counters as JSON. POST reset: sets them to 0.
 *
 * POST fill?bucket=&prefix=&dirs=&files=&size=: makes dirs × files objects PREFIXdNNNN/fNNNNNN
 * (dirs=0: PREFIXfNNNNNN) of size bytes each, every one different, the same in every run.
 *
 * POST clear?bucket=: removes everything.
 *
 * GET sum?bucket=&prefix=: how many objects, how many bytes, and a digest of names below prefix and
 * of contents. GET count?…: the same without contents, which costs nothing. */
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "mem.h"
#include "ops.h"
#include "stats.h"
#include "text.h"

#define FILL_PART (8u << 20)

struct stats stats;

void stats_request_begins(void)
{
    uint64_t now = atomic_fetch_add(&stats.in_flight, 1) + 1, peak = atomic_load(&stats.peak);
    while (now > peak && !atomic_compare_exchange_weak(&stats.peak, &peak, now)) {
    }
}

void stats_request_ends(void)
{
    (void)atomic_fetch_sub(&stats.in_flight, 1);
}

static void tell_stats(struct response *res)
{
    uint64_t n = 0, in = 0, out = 0;
    ENSURE(buf_adds(&res->body, "{\"kinds\":{") == 0);
    for (int k = OP_OTHER; k < OP_KINDS; k++) {
        uint64_t count = atomic_load(&stats.n[k]);
        if (count > 0) {
            ENSURE(buf_addf(&res->body, "%s\"%s\":{\"n\":%llu,\"in\":%llu,\"out\":%llu}",
                            n > 0 ? "," : "", op_names[k], (unsigned long long)count,
                            (unsigned long long)atomic_load(&stats.in[k]),
                            (unsigned long long)atomic_load(&stats.out[k])) == 0);
            n += count;
            in += atomic_load(&stats.in[k]);
            out += atomic_load(&stats.out[k]);
        }
    }
    ENSURE(buf_addf(
               &res->body,
               "},\"requests\":%llu,\"in\":%llu,\"out\":%llu,\"errors\":%llu,\"connections\":%llu,"
               "\"peak\":%llu,\"in_flight\":%llu,\"delay_us\":%llu}\n",
               (unsigned long long)n, (unsigned long long)in, (unsigned long long)out,
               (unsigned long long)atomic_load(&stats.errors),
               (unsigned long long)atomic_load(&stats.connections),
               (unsigned long long)atomic_load(&stats.peak),
               (unsigned long long)atomic_load(&stats.in_flight),
               (unsigned long long)atomic_load(&stats.delay_us)) == 0);
}

static void reset_stats(void)
{
    for (int k = 0; k < OP_KINDS; k++) {
        atomic_store(&stats.n[k], 0);
        atomic_store(&stats.in[k], 0);
        atomic_store(&stats.out[k], 0);
    }
    atomic_store(&stats.errors, 0);
    atomic_store(&stats.connections, 0);
    atomic_store(&stats.delay_us, 0);
    atomic_store(&stats.peak, atomic_load(&stats.in_flight));
}

/* Bytes that do not compress (splitmix64). */
static void pattern(char *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        memcpy(p + i, &z, MIN(n - i, (size_t)8));
    }
}

/* What is larger than a part looks as if it had been sent in parts. */
static void fill_object(struct bucket *b, const char *key, uint64_t size, uint64_t seed)
{
    struct object *o = object_new(key, strlen(key));
    size_t n_parts = size > 0 ? (size_t)((size + FILL_PART - 1) / FILL_PART) : 1;
    CLEANUP(mem_freep) uint8_t *md5s = mem_zalloc(16 * n_parts);
    for (size_t i = 0; i < n_parts; i++) {
        size_t len = (size_t)MIN(size - i * FILL_PART, (uint64_t)FILL_PART);
        struct blob *blob = blob_new(len);
        ENSURE(blob);
        pattern(blob->data, len, seed * 1000003 + i);
        ENSURE(EVP_Digest(blob->data, len, md5s + 16 * i, NULL, EVP_md5(), NULL) == 1);
        segs_add(&o->data, blob, 0, len);
        blob_unref(blob);
    }
    if (n_parts == 1) {
        etag_of_md5(md5s, o->etag);
    } else {
        etag_of_parts(md5s, n_parts, o->etag);
    }
    (void)pthread_rwlock_wrlock(&b->lock);
    bucket_set_locked(b, NULL, 0, o);
    (void)pthread_rwlock_unlock(&b->lock);
}

static uint64_t number_of(const struct request *r, const char *name, uint64_t otherwise)
{
    uint64_t v = otherwise;
    (void)text_number(request_query(r, name), &v);
    return v;
}

static void fill(struct bucket *b, const char *prefix, const struct request *r)
{
    uint64_t dirs = number_of(r, "dirs", 0), files = number_of(r, "files", 1);
    uint64_t size = number_of(r, "size", 0), seed = 0;
    for (uint64_t d = 0; d < MAX(dirs, (uint64_t)1); d++) {
        for (uint64_t f = 0; f < files; f++) {
            char key[1200];
            if (dirs > 0) {
                (void)snprintf(key, sizeof(key), "%.1000sd%04llu/f%06llu", prefix,
                               (unsigned long long)d, (unsigned long long)f);
            } else {
                (void)snprintf(key, sizeof(key), "%.1000sf%06llu", prefix, (unsigned long long)f);
            }
            fill_object(b, key, size, ++seed);
        }
    }
}

/* Fast, and good enough to tell a wrong copy. */
static uint64_t content_sum(const struct object *o)
{
    uint64_t h = o->data.size, word = 0;
    size_t have = 0;
    for (size_t i = 0; i < o->data.n; i++) {
        const struct seg *g = &o->data.items[i];
        const char *p = g->blob->data + g->offset;
        for (size_t k = 0; k < g->len;) {
            size_t n = MIN(8 - have, g->len - k);
            memcpy((char *)&word + have, p + k, n);
            have += n;
            k += n;
            if (have == 8) {
                h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
                h ^= h >> 32;
                have = 0;
                word = 0;
            }
        }
    }
    return (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
}

static void tell_sum(struct bucket *b, const char *prefix, bool contents, struct response *res)
{
    size_t n = strlen(prefix);
    uint64_t count = 0, bytes = 0, sum = 0;
    (void)pthread_rwlock_rdlock(&b->lock);
    struct cursor c = index_seek(&b->objects, prefix, n);
    for (; cursor_item(&c); cursor_next(&c)) {
        const struct object *o = CONTAINER_OF(cursor_item(&c), struct object, name);
        if (o->name.len < n || memcmp(o->name.key, prefix, n) != 0) {
            break;
        }
        if (o->name.key[o->name.len - 1] == '/') {
            continue; /* some clients mark folders, some do not */
        }
        uint64_t h = contents ? content_sum(o) : 0;
        for (size_t i = n; i < o->name.len; i++) {
            h = (h ^ (unsigned char)o->name.key[i]) * UINT64_C(0x100000001b3);
        }
        sum += h;
        count++;
        bytes += o->data.size;
    }
    (void)pthread_rwlock_unlock(&b->lock);
    ENSURE(buf_addf(&res->body, "%llu %llu %016llx\n", (unsigned long long)count,
                    (unsigned long long)bytes, (unsigned long long)sum) == 0);
}

void ops_control(struct call *c, struct response *res)
{
    const char *what = c->r->path + strlen("/_ctl/");
    const char *name = request_query(c->r, "bucket"), *prefix = request_query(c->r, "prefix");
    struct bucket *b = name && strcmp(what, "fill") == 0 ? bucket_make(name)
                       : name                            ? bucket_find(name, strlen(name))
                                                         : NULL;
    prefix = prefix ? prefix : "";
    res->status = 200;
    if (strcmp(what, "stats") == 0) {
        tell_stats(res);
    } else if (strcmp(what, "reset") == 0) {
        reset_stats();
    } else if (b && strcmp(what, "fill") == 0) {
        fill(b, prefix, c->r);
    } else if (b && strcmp(what, "clear") == 0) {
        bucket_clear(b);
    } else if (b && strcmp(what, "sum") == 0) {
        tell_sum(b, prefix, true, res);
    } else if (b && strcmp(what, "count") == 0) {
        tell_sum(b, prefix, false, res);
    } else {
        response_error(res, "InvalidArgument", "no such control, or no such bucket");
    }
}
