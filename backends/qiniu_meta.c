/* Metadata as Qiniu takes it: few characters in names and values, so that others are written in notations of ours. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "mem.h"
#include "qiniu.h"

#define META_NAME_MAX 50
#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
/* Names with others, such as those of extended attributes ("xattr-user.note"): each as "_" and two digits, and so is '_'. */
#define NAME_MARK "esc-"
/* Values outside of what the service allows in metadata (no '%', so not as other providers have it). */
#define META_MARK "utf8-base64,"

/* The service gives these back as headers of the read when they are set so (its SDKs' changeHeaders). */
static const struct {
    const char *name, *field;
} headers[] = {{"cache-control", "x-qn-meta-!Cache-Control"},
               {"content-disposition", "x-qn-meta-!Content-Disposition"},
               {"content-encoding", "x-qn-meta-!Content-Encoding"},
               {"content-language", "x-qn-meta-!Content-Language"},
               {"expires", "x-qn-meta-!Expires"}};

void qiniu_meta_fini(struct qiniu_meta *m)
{
    free(m->mime);
    kv_fini(&m->fields);
}

static bool is_plain(const char *s)
{
    size_t n = strlen(s);
    return n > 0 && s[0] != ' ' && s[n - 1] != ' ' &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.+/-;=,_ ") ==
               n &&
           strncmp(s, META_MARK, strlen(META_MARK)) != 0;
}

static char *encode_value(const char *s)
{
    size_t n = strlen(s), mark = strlen(META_MARK);
    if (is_plain(s)) {
        return mem_strdup(s);
    }
    char *text = mem_zalloc(mark + BASE64_LEN(n) + 1);
    memcpy(text, META_MARK, mark);
    base64url_encode(s, n, text + mark);
    return text;
}

static char *encode_name(const char *s)
{
    struct buf out = BUF_INIT;
    if (strspn(s, NAME_CHARS) == strlen(s) && strncasecmp(s, NAME_MARK, strlen(NAME_MARK)) != 0) {
        return mem_strdup(s);
    }
    int err = buf_adds(&out, NAME_MARK);
    for (; *s && err == 0; s++) {
        err = strchr(NAME_CHARS, *s) && *s != '_' ? buf_addc(&out, *s)
                                                  : buf_addf(&out, "_%02x", (unsigned char)*s);
    }
    ENSURE(err == 0);
    return buf_take(&out);
}

/* Both undo exactly what encoding can have produced. */
static char *decode_name(const char *s)
{
    size_t mark = strlen(NAME_MARK), n = 0;
    if (strncasecmp(s, NAME_MARK, mark) != 0) {
        return mem_strdup(s);
    }
    CLEANUP(mem_freep) char *plain = mem_zalloc(strlen(s) + 1);
    for (const char *p = s + mark; *p; p++) {
        char two[3] = {p[0] == '_' ? p[1] : '\0', p[0] == '_' && p[1] != '\0' ? p[2] : '\0', '\0'};
        if (*p != '_') {
            plain[n++] = *p;
        } else if (hex_decode(two, 1, &plain[n]) && plain[n] != '\0') {
            n++;
            p += 2;
        } else {
            return mem_strdup(s);
        }
    }
    CLEANUP(mem_freep) char *again = encode_name(plain);
    return strcasecmp(again, s) == 0 ? TAKE(plain) : mem_strdup(s);
}

static char *decode_value(const char *s)
{
    size_t n = strlen(s), mark = strlen(META_MARK), got = 0;
    if (n < mark || strncmp(s, META_MARK, mark) != 0) {
        return mem_strdup(s);
    }
    CLEANUP(mem_freep) char *standard = mem_strdup(s + mark);
    CLEANUP(mem_freep) char *plain = mem_zalloc(n);
    for (char *p = standard; *p; p++) {
        *p = (char)(*p == '-' ? '+' : *p == '_' ? '/' : *p);
    }
    if (base64_decode(standard, n - mark, plain, &got) && strlen(plain) == got) {
        CLEANUP(mem_freep) char *again = encode_value(plain);
        if (strcmp(again, s) == 0) {
            return TAKE(plain);
        }
    }
    return mem_strdup(s);
}

void qiniu_meta_add(struct kvlist *meta, const char *field, const char *value)
{
    if (strncasecmp(field, "x-qn-meta-", 10) != 0 || field[10] == '\0') {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        if (strcasecmp(field, headers[i].field) == 0 && value[0] != '\0') {
            kv_set(meta, headers[i].name, value);
        }
    }
    if (field[10] != '!') {
        CLEANUP(mem_freep) char *plain = decode_value(value);
        CLEANUP(mem_freep) char *lower = mem_strdup(field + 10);
        for (char *p = lower; *p; p++) {
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
        }
        CLEANUP(mem_freep) char *own = decode_name(lower);
        CLEANUP(mem_freep) char *name = mem_printf("meta-%s", own);
        kv_set(meta, name, plain);
    }
}

static int add_user(const struct kv *m, struct qiniu_meta *ret, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *name = encode_name(m->name + strlen("meta-"));
    size_t n = strlen(name);
    if (n == 0 || n > META_NAME_MAX) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "metadata name '%.60s': Qiniu takes 1 to %d bytes, others than letters, digits and '-' count "
                       "threefold",
                       m->name + strlen("meta-"), META_NAME_MAX);
    }
    CLEANUP(mem_freep) char *field = mem_printf("x-qn-meta-%s", name);
    CLEANUP(mem_freep) char *value = encode_value(m->value);
    kv_set(&ret->fields, field, value);
    return 0;
}

static int add_standard(const struct kv *m, struct qiniu_meta *ret, struct errinfo *reterr)
{
    if (strcasecmp(m->name, "content-type") == 0) {
        free(ret->mime);
        ret->mime = m->value[0] != '\0' ? mem_strdup(m->value) : NULL;
        return 0;
    }
    if (strcasecmp(m->name, "storage-class") == 0) {
        ret->type = qiniu_type_of(m->value);
        return ret->type >= 0 ? 0
                              : err_set(reterr, ERR_INVALID, -EINVAL,
                                        "storage class '%.60s' is none of Qiniu's", m->value);
    }
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        if (strcasecmp(m->name, headers[i].name) == 0) {
            kv_set(&ret->fields, headers[i].field, m->value[0] != '\0' ? m->value : NULL);
            return 0;
        }
    }
    return err_set(reterr, ERR_INVALID, -EINVAL, "'%.60s' is no metadata this store keeps",
                   m->name);
}

int qiniu_meta_from(const struct qiniu *q, const struct kvlist *meta, struct qiniu_meta *ret,
                    struct errinfo *reterr)
{
    size_t bytes = 0;
    int err = 0;
    ret->type = q->file_type;
    for (size_t i = 0; meta && i < meta->n && err == 0; i++) {
        const struct kv *m = &meta->items[i];
        if (strncasecmp(m->name, "meta-", 5) == 0) {
            err = add_user(m, ret, reterr);
        } else if (!dialect_header_value_ok(m->value)) {
            err = err_set(reterr, ERR_INVALID, -EINVAL, "%.60s: has control characters", m->name);
        } else {
            err = add_standard(m, ret, reterr);
        }
    }
    for (size_t i = 0; i < ret->fields.n; i++) {
        bytes += strlen(ret->fields.items[i].name) - strlen("x-qn-meta-") +
                 strlen(ret->fields.items[i].value);
    }
    if (err == 0 && bytes > q->site.limits.max_meta) {
        err = err_set(reterr, ERR_INVALID, -EINVAL,
                      "%zu bytes of metadata as they are sent, and %s takes %u", bytes,
                      q->site.name, q->site.limits.max_meta);
    }
    return err;
}
