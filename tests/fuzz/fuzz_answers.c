/* Whole answers of a server: status, headers and body become results, or an error's class and
 * texts. First line: the site (digit: S3, another server of its kind, COS, OSS, KS3, Azure, GCS, BOS,
 * Upyun, Qiniu), the operation (letter from a), the status (digit, below), how many bytes came. Then
 * the head, an empty line, the body.
 *
 * What holds: a success has what the contract of backend.h promises; a failure leaves no outputs,
 * has a class and texts of one line; metadata that came from one provider goes to any other as
 * proper headers, or is refused with a reason. */
#include "fuzz.h"

#include <errno.h>

#include "backend.h"
#include "conf.h"
#include "dialect.h"
#include "http_parts.h"

static const char settings[] =
    "[aws]\nprovider=s3\nbucket=b\nregion=eu-west-1\naccessKeyId=i\naccessKeySecret=s\n"
    "[ceph]\nprovider=s3\nbucket=b\nendPoint=http://127.0.0.1:1\nhttps=off\n"
    "accessKeyId=i\naccessKeySecret=s\nlistVersion=1\n"
    "[cos]\nprovider=cos\nbucket=b-1\nregion=ap-x\naccessKeyId=i\naccessKeySecret=s\n"
    "[oss]\nprovider=oss\nbucket=b\nregion=cn-x\naccessKeyId=i\naccessKeySecret=s\n"
    "[ks3]\nprovider=ks3\nbucket=b\nregion=cn-x\naccessKeyId=i\naccessKeySecret=s\n"
    "[azure]\nprovider=azure\nbucket=box\naccessKeyId=i\naccessKeySecret=YWFh\n"
    "[gcs]\nprovider=gcs\nbucket=b\naccessKeyId=i\naccessKeySecret=s\n"
    "[bos]\nprovider=bos\nbucket=b\nregion=bj\naccessKeyId=i\naccessKeySecret=s\n"
    "[upyun]\nprovider=upyun\nbucket=b\naccessKeyId=i\naccessKeySecret=s\n"
    "[qiniu]\nprovider=qiniu\nbucket=b\nregion=z0\ndomain=d.x\naccessKeyId=i\naccessKeySecret=s\n";
static const struct be_dialect *const dialects[] = {&be_dialect_s3,  &be_dialect_s3,
                                                    &be_dialect_cos, &be_dialect_oss,
                                                    &be_dialect_ks3, &be_dialect_azure,
                                                    &be_dialect_gcs, &be_dialect_bos,
                                                    &be_dialect_upyun, &be_dialect_qiniu};
#define SITES ARRAY_LEN(dialects)
static struct dialect_site *sites[SITES];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct conf *c = NULL;
    struct errinfo err = {0};
    CLEANUP(buf_fini) struct buf faults = BUF_INIT;
    int fd = fuzz_file("settings");
    CLEANUP(mem_freep) char *path = mem_printf("/proc/self/fd/%d", fd);
    fuzz_fill(fd, settings, strlen(settings));
    ENSURE(conf_load(path, &c, &faults) == 0 && c->n_remotes == SITES);
    close(fd);
    for (size_t i = 0; i < SITES; i++) {
        ENSURE(dialects[i]->configure(c->remotes[i], &sites[i], &err) == 0);
    }
    conf_free(c);
    return 0;
}

/* One operation of each kind, of which the call's kind says which is meant. */
struct ops {
    struct be_stat stat;
    struct be_read read;
    struct be_write write;
    struct be_remove remove;
    struct be_list list;
    struct be_copy copy;
    struct be_many many;
    struct be_mp mp;
    struct be_part part;
    struct be_commit commit;
    struct be_parts parts;
    struct be_uploads uploads;
    struct be_restore restore;
};

static struct be_op *op_of(struct ops *o, enum be_kind kind)
{
    struct be_op *const all[BE_KINDS] = {
        [BE_STAT] = &o->stat.op,          [BE_READ] = &o->read.op,   [BE_WRITE] = &o->write.op,
        [BE_REMOVE] = &o->remove.op,      [BE_LIST] = &o->list.op,   [BE_COPY] = &o->copy.op,
        [BE_REMOVE_MANY] = &o->many.op,   [BE_MP_BEGIN] = &o->mp.op, [BE_MP_PART] = &o->part.op,
        [BE_MP_COMMIT] = &o->commit.op,   [BE_MP_ABORT] = &o->mp.op, [BE_MP_PARTS] = &o->parts.op,
        [BE_MP_UPLOADS] = &o->uploads.op, [BE_RESTORE] = &o->restore.op,
    };
    return all[kind];
}

/* Whatever a provider sent as metadata: other providers get it as headers that are headers, or
 * nothing. */
static void check_meta(const struct kvlist *meta)
{
    for (size_t i = 0; i < SITES; i++) {
        struct errinfo err = {0};
        struct dialect_request r = {0};
        struct be_write w = {.op = {.kind = BE_WRITE, .key = "k"}, .data = "", .meta = meta};
        struct dialect_call call = {.kind = BE_WRITE, .op = &w.op};
        int rc = sites[i]->dialect->build(sites[i], &call, &r, &err);
        if (rc < 0) {
            fuzz_told(&err);
        }
        for (size_t h = 0; rc == 0 && h < r.headers.n; h++) {
            ENSURE(http_header_ok(&r.headers.items[h]));
        }
        dialect_request_fini(&r);
    }
}

static void check_object(const struct be_object *o, bool etag_needed)
{
    ENSURE(strnlen(o->etag, sizeof(o->etag)) < sizeof(o->etag) && fuzz_one_line(o->etag));
    ENSURE(!etag_needed || o->etag[0] != '\0');
    ENSURE(!o->etag_is_md5 || dialect_etag_is_hex(o->etag));
    ENSURE(strnlen(o->version_id, sizeof(o->version_id)) < sizeof(o->version_id));
    ENSURE(strnlen(o->storage_class, sizeof(o->storage_class)) < sizeof(o->storage_class));
    ENSURE(o->mtime_ns >= 0);
}

static bool untouched(const struct be_object *o)
{
    static const struct be_object none;
    return memcmp(o, &none, sizeof(none)) == 0;
}

static void check_success(const struct ops *o, enum be_kind kind, const struct dialect_page *page)
{
    switch (kind) {
    case BE_STAT:
        check_object(&o->stat.object, true);
        check_meta(&o->stat.meta);
        break;
    case BE_READ:
        check_object(&o->read.object, false);
        ENSURE(o->read.got <= o->read.len);
        ENSURE(o->read.got == 0 || o->read.object.size >= o->read.offset + o->read.got);
        check_meta(&o->read.meta);
        break;
    case BE_WRITE:
        check_object(&o->write.object, false);
        ENSURE(o->write.object.size == o->write.len);
        break;
    case BE_COPY:
        check_object(&o->copy.object, false); /* without one the driver looks */
        break;
    case BE_MP_BEGIN:
        ENSURE(o->mp.upload_id && o->mp.upload_id[0] != '\0');
        break;
    case BE_MP_PART:
        check_object(&o->part.object, true);
        break;
    case BE_MP_COMMIT:
        check_object(&o->commit.object, false);
        break;
    case BE_RESTORE:
        ENSURE(o->restore.state <= BE_RESTORE_READABLE);
        break;
    case BE_MP_UPLOADS:
        for (size_t i = 0; i < page->n_uploads; i++) {
            ENSURE(strcmp(page->uploads[i].key, o->uploads.op.key) == 0);
        }
        break;
    default:
        break;
    }
}

static void check_failure(const struct ops *o, const struct dialect_page *page)
{
    ENSURE(untouched(&o->stat.object) && o->stat.meta.n == 0);
    ENSURE(untouched(&o->read.object) && o->read.meta.n == 0 && o->read.got == 0);
    ENSURE(untouched(&o->write.object) && untouched(&o->copy.object));
    ENSURE(untouched(&o->part.object) && untouched(&o->commit.object));
    ENSURE(!o->list.entries && !o->list.next_cursor && !o->mp.upload_id);
    ENSURE(!page->parts && !page->uploads && !page->next[0] && !page->next[1]);
}

static void parse(const struct dialect_site *site, struct dialect_call *call,
                  struct dialect_answer *a, struct ops *o)
{
    const struct be_dialect *d = site->dialect;
    struct errinfo err = {0};
    struct dialect_page page = {0};
    a->stream = d->stream_new ? d->stream_new(site, call) : NULL;
    if (a->stream) {
        (void)d->stream_feed(a->stream, a->body, a->body_len);
        a->body = "";
        a->body_len = 0;
    }
    int rc = d->parse(site, call, a, &page, &err);
    if (rc == 0) {
        check_success(o, call->kind, &page);
        for (size_t i = 0; i < call->n_chosen; i++) {
            const struct errinfo *e = &call->errs[call->chosen[i]];
            ENSURE(e->cls < ERR_CLASSES && fuzz_one_line(e->message) && fuzz_one_line(e->code));
        }
    } else {
        ENSURE(rc < 0);
        fuzz_told(&err);
        check_failure(o, &page);
    }
    if (a->stream) {
        d->stream_free(a->stream);
    }
    dialect_page_fini(&page);
}

/* The head ends in an empty line. */
static void take_head(struct fuzz_in *in, struct kvlist *ret)
{
    CLEANUP(buf_fini) struct buf head = BUF_INIT;
    while (fuzz_left(in) > 0) {
        CLEANUP(mem_freep) char *line = fuzz_line(in);
        if (line[0] == '\0') {
            break;
        }
        ENSURE(buf_addf(&head, "%s\r\n", line) == 0);
    }
    if (head.len > 0) {
        http_parse_headers(head.data, head.len, ret);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 206, 204, 301, 400, 403, 404, 412, 500, 503};
    static const char *const keys[] = {"k", "k&", "other"};
    static const size_t chosen[] = {2, 0, 1};
    static const struct be_part_id parts[] = {{1, 8, "a"}, {2, 3, "b"}};
    struct fuzz_in in = fuzz_begin(data, size);
    const struct dialect_site *site = sites[fuzz_digit(&in) % SITES];
    enum be_kind kind = (enum be_kind)((fuzz_byte(&in) - 'a') % 256 % BE_KINDS);
    int status = statuses[fuzz_digit(&in) % ARRAY_LEN(statuses)];
    unsigned got = fuzz_digit(&in);
    free(fuzz_line(&in));

    CLEANUP(kv_fini) struct kvlist headers = {0};
    take_head(&in, &headers);
    CLEANUP(buf_fini) struct buf body = BUF_INIT;
    ENSURE(buf_add(&body, in.p, fuzz_left(&in)) == 0);

    struct errinfo errs[ARRAY_LEN(keys)] = {{0}};
    char bytes[8] = {0};
    struct ops o = {.read = {.offset = got % 4, .len = sizeof(bytes), .buf = bytes},
                    .write = {.data = "bytes", .len = 5},
                    .list = {.prefix = ""},
                    .copy = {.src_key = "s", .size = 5},
                    .many = {.keys = keys, .n_keys = ARRAY_LEN(keys)},
                    .part = {.number = 1, .upload_id = "u", .data = "bytes", .len = 5},
                    .commit = {.upload_id = "u", .parts = parts, .n_parts = ARRAY_LEN(parts)},
                    .parts = {.upload_id = "u"},
                    .uploads = {.prefix = ""},
                    .restore = {.days = 1, .storage_class = ""}};
    struct dialect_call call = {.kind = kind, .op = op_of(&o, kind), .head = got == 9};
    call.op->kind = kind;
    call.op->key = "k";
    if (kind == BE_REMOVE_MANY) {
        call.chosen = chosen;
        call.n_chosen = ARRAY_LEN(chosen);
        call.errs = errs;
    }
    struct be_stat source = {.op = {.kind = BE_STAT, .key = "s"}};
    if (kind == BE_COPY) {
        call.src = site;
        call.source = &source;
    }
    struct errinfo refusal = {0};
    bool at_once = site->dialect->local && site->dialect->local(site, &call, &refusal) != 0;
    struct dialect_answer a = {.http_status = status,
                               .headers = &headers,
                               .body = buf_str(&body),
                               .body_len = body.len,
                               .body_got = MIN(got, 8u),
                               .signed_s = 1700000000};
    if (status < 300 && !at_once) { /* else there is no request that it could answer */
        parse(site, &call, &a, &o);
    } else if (status >= 300) {
        struct errinfo err = {0};
        site->dialect->classify(site, &call, &a, &err);
        if (err.cls != ERR_NONE) { /* it is so already */
            fuzz_told(&err);
        }
        ENSURE(err.http_status == status && err.retry_after_ms <= 3600u * 1000);
    }
    be_stat_fini(&o.stat);
    be_read_fini(&o.read);
    be_list_fini(&o.list);
    free(o.mp.upload_id);
    return 0;
}
