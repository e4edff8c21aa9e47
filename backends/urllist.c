/* See urllist.h. A line is read twice: when the list is loaded, to find its key and its faults, and
 * when the key is asked for. Between the two only its place is kept. */
#include "urllist.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "dialect.h"
#include "driver.h"
#include "log.h"
#include "mem.h"
#include "names.h"

#define FAULTS_LOGGED 100

enum column { COL_KEY, COL_URL, COL_SIZE, COL_ETAG, COL_MD5, COLUMNS };

struct list_file {
    char *name;
    char *text;
    size_t len;
    char divider; /* of a manifest's fields; 0: one URL a line */
    unsigned n_fields;
    int at[COLUMNS]; /* which field; -1 = none */
};

#define KEY_OF_OWN (UINT64_C(1) << 63) /* the key is in `keys`, not a piece of the file's text */

struct entry {
    uint64_t line; /* offset in the file's text */
    uint64_t key;
    uint32_t file;
    uint32_t key_len;
};

struct urllist {
    struct list_file *files;
    size_t n_files;
    struct entry *entries;
    size_t n, cap;
    struct buf keys;
};

/* What is wrong with lists: the first of it for the caller, all of it for the log. */
struct faults {
    const char *section;
    unsigned n;
    char first[280]; /* leaves room in errinfo.message for how many there are */
};

__attribute__((format(printf, 2, 3))) static void fault(struct faults *f, const char *fmt, ...)
{
    char text[sizeof(f->first)];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (f->n++ == 0) {
        memcpy(f->first, text, sizeof(text));
    }
    if (f->n <= FAULTS_LOGGED) {
        log_error("urllist", "remote=%s %s", f->section, text);
    }
}

static size_t line_number(const struct list_file *f, size_t offset)
{
    size_t n = 1;
    for (const char *p = f->text; (p = memchr(p, '\n', (size_t)(f->text + offset - p))) != NULL;
         p++) {
        n++;
    }
    return n;
}

/* --- lines and fields */

struct span {
    const char *p;
    size_t n;
};

static struct span trimmed(const char *p, size_t n)
{
    while (n > 0 && (p[0] == ' ' || p[0] == '\t' || p[0] == '\r')) {
        p++;
        n--;
    }
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t' || p[n - 1] == '\r')) {
        n--;
    }
    return (struct span){p, n};
}

/* The line at an offset without its end; *ret_next is where the next one begins. */
static struct span line_at(const struct list_file *f, size_t offset, size_t *ret_next)
{
    const char *p = f->text + offset;
    const char *end = memchr(p, '\n', f->len - offset);
    size_t n = end ? (size_t)(end - p) : f->len - offset;
    *ret_next = offset + n + (end ? 1 : 0);
    if (n > 0 && p[n - 1] == '\r') {
        n--;
    }
    return (struct span){p, n};
}

static bool says_nothing(struct span line)
{
    struct span t = trimmed(line.p, line.n);
    return t.n == 0 || t.p[0] == '#';
}

/* Takes the next field of a manifest's line: false at its end. A quoted field is copied to `plain`.
 * *ret_fault is set when the quotation does not end. */
static bool next_field(struct span *rest, bool *more, char divider, struct buf *plain,
                       struct span *ret, bool *ret_fault)
{
    if (!*more) {
        return false;
    }
    const char *p = rest->p, *end = rest->p + rest->n;
    if (divider == ',' && p < end && *p == '"') {
        buf_clear(plain);
        bool closed = false;
        for (p++; p < end && !closed; p++) {
            if (*p == '"' && p + 1 < end && p[1] == '"') {
                p++;
            } else if (*p == '"') {
                closed = true;
                continue;
            }
            *ret_fault = *ret_fault || buf_addc(plain, *p) < 0;
        }
        *ret = (struct span){buf_str(plain), plain->len};
        *ret_fault = *ret_fault || !closed || (p < end && *p != divider);
    } else {
        const char *at = memchr(p, divider, (size_t)(end - p));
        *ret = (struct span){p, (size_t)((at ? at : end) - p)};
        p = at ? at : end;
    }
    *more = p < end;
    p += *more ? 1 : 0;
    *rest = (struct span){p, (size_t)(end - p)};
    return true;
}

/* A line's fields by column. Pieces of the text where they are not quoted; else they live in
 * `plain`. */
struct fields {
    struct span at[COLUMNS];
    struct buf plain[COLUMNS];
};

static void fields_fini(struct fields *f)
{
    for (int c = 0; c < COLUMNS; c++) {
        buf_fini(&f->plain[c]);
    }
}

static const char *take_fields(const struct list_file *f, struct span line, struct fields *ret)
{
    if (f->divider == 0) {
        ret->at[COL_URL] = trimmed(line.p, line.n);
        return NULL;
    }
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    bool more = true, bad = false;
    unsigned n = 0;
    struct span field;
    for (; next_field(&line, &more, f->divider, &plain, &field, &bad); n++) {
        for (int c = 0; c < COLUMNS && !bad; c++) {
            if (f->at[c] == (int)n) {
                ret->at[c] = field;
                if (field.n > 0 && field.p == plain.data) {
                    ret->plain[c] = plain;
                    plain = (struct buf)BUF_INIT;
                }
            }
        }
    }
    if (bad) {
        return "a quotation mark does not end, or stands within a field without being doubled";
    }
    return n == f->n_fields ? NULL : "it has another number of fields than the first line";
}

/* --- what a line says */

static bool number(struct span s, uint64_t *ret)
{
    char text[24];
    s = trimmed(s.p, s.n);
    if (s.n >= sizeof(text)) {
        return false;
    }
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return dialect_u64(text, ret);
}

static bool md5_of(struct span s, uint8_t ret[16])
{
    char text[33];
    s = trimmed(s.p, s.n);
    if (s.n != 32) {
        return false;
    }
    memcpy(text, s.p, 32);
    text[32] = '\0';
    return hex_decode(text, 16, ret);
}

/* NULL, or what is wrong and how to mend it. */
static const char *read_row(const struct fields *f, struct urllist_row *r)
{
    struct span url = trimmed(f->at[COL_URL].p, f->at[COL_URL].n);
    if (url.n == 0) {
        return "there is no URL";
    }
    const char *what = weburl_parse(url.p, url.n, &r->url);
    if (what) {
        return what;
    }
    if (f->at[COL_SIZE].n > 0 && !(r->has_size = number(f->at[COL_SIZE], &r->size))) {
        return "its Size is not a number of bytes";
    }
    if (f->at[COL_MD5].n > 0 && !(r->has_md5 = md5_of(f->at[COL_MD5], r->md5))) {
        return "its Md5 is not 32 hexadecimal digits";
    }
    if (f->at[COL_ETAG].n > 0) {
        char etag[BE_ETAG_MAX];
        CLEANUP(mem_freep) char *text = mem_strndup(f->at[COL_ETAG].p, f->at[COL_ETAG].n);
        if (!dialect_etag(text, etag)) {
            return "its ETag is none";
        }
        r->etag = mem_strdup(etag);
    }
    return NULL;
}

/* The key: its column's, or the URL's. NULL or what is wrong. */
static const char *row_key(const struct fields *f, const struct weburl *u, struct buf *ret)
{
    const char *what = NULL;
    if (f->at[COL_KEY].p) {
        buf_clear(ret);
        if (f->at[COL_KEY].n == 0 || memchr(f->at[COL_KEY].p, '\0', f->at[COL_KEY].n)) {
            what = "its Key is empty or has a NUL byte";
        } else if (buf_add(ret, f->at[COL_KEY].p, f->at[COL_KEY].n) < 0) {
            what = "its Key does not fit into memory";
        }
    } else {
        what = weburl_key(u, ret);
    }
    return !what && ret->len > URLLIST_KEY_MAX ? "its key is longer than 4096 bytes" : what;
}

/* --- loading */

static void add_entry(struct urllist *l, size_t file, size_t line, struct span text,
                      const struct buf *key)
{
    struct entry e = {.file = (uint32_t)file, .line = line, .key_len = (uint32_t)key->len};
    const char *at = memmem(text.p, text.n, key->data, key->len);
    if (at) {
        e.key = (uint64_t)(at - l->files[file].text);
    } else {
        e.key = KEY_OF_OWN | l->keys.len;
        ENSURE(buf_add(&l->keys, key->data, key->len) == 0);
    }
    if (l->n == l->cap) {
        l->cap = l->cap == 0 ? 1024 : l->cap * 2;
        l->entries = mem_realloc(l->entries, l->cap * sizeof(*l->entries));
    }
    l->entries[l->n++] = e;
}

/* Whether the first line that says something names columns; it does when one of them is Url. */
static bool take_header(struct list_file *f, struct span line, size_t number, struct faults *faults)
{
    static const char *const names[COLUMNS] = {"Key", "Url", "Size", "ETag", "Md5"};
    CLEANUP(buf_fini) struct buf plain = BUF_INIT;
    char divider = memchr(line.p, '\t', line.n) ? '\t' : ',';
    struct list_file h = *f;
    struct span rest = line, field, unknown = {0};
    bool more = true, bad = false, twice = false;
    for (int c = 0; c < COLUMNS; c++) {
        h.at[c] = -1;
    }
    h.n_fields = 0;
    for (; next_field(&rest, &more, divider, &plain, &field, &bad); h.n_fields++) {
        int c = 0;
        field = trimmed(field.p, field.n);
        while (c < COLUMNS &&
               (strlen(names[c]) != field.n || strncasecmp(names[c], field.p, field.n) != 0)) {
            c++;
        }
        if (c == COLUMNS) {
            unknown =
                field.p >= line.p && field.p < line.p + line.n ? field : (struct span){"?", 1};
        } else {
            twice = twice || h.at[c] >= 0;
            h.at[c] = (int)h.n_fields;
        }
    }
    if (h.at[COL_URL] < 0) {
        return false;
    }
    if (twice || bad || unknown.p) {
        fault(faults, "%s:%zu: column '%.*s' is %s; use Key, Url, Size, ETag and Md5, each once",
              f->name, number, (int)MIN(unknown.n, (size_t)40), unknown.p ? unknown.p : "",
              unknown.p ? "unknown" : "there twice");
    }
    h.divider = divider;
    *f = h;
    return true;
}

static void read_file(struct urllist *l, size_t file, struct faults *faults)
{
    struct list_file *f = &l->files[file];
    CLEANUP(buf_fini) struct buf key = BUF_INIT;
    bool begun = false;
    size_t next = 0, number = 0;
    size_t bom = f->len >= 3 && memcmp(f->text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (size_t offset = bom; offset < f->len; offset = next) {
        struct span line = line_at(f, offset, &next);
        number++;
        if (says_nothing(line)) {
            continue;
        }
        if (!begun) {
            begun = true;
            if (take_header(f, line, number, faults)) {
                continue;
            }
        }
        struct fields fields = {0};
        struct urllist_row row = {0};
        const char *what = take_fields(f, line, &fields);
        what = what ? what : read_row(&fields, &row);
        what = what ? what : row_key(&fields, &row.url, &key);
        if (what) {
            fault(faults, "%s:%zu: %s; correct the line or remove it", f->name, number, what);
        } else {
            add_entry(l, file, offset, line, &key);
        }
        urllist_row_fini(&row);
        fields_fini(&fields);
    }
}

static struct span key_of(const struct urllist *l, const struct entry *e)
{
    const char *from = e->key & KEY_OF_OWN ? l->keys.data : l->files[e->file].text;
    return (struct span){from + (e->key & ~KEY_OF_OWN), e->key_len};
}

static int compare(struct span a, struct span b)
{
    int d = memcmp(a.p, b.p, MIN(a.n, b.n));
    return d != 0 ? d : a.n < b.n ? -1 : a.n > b.n;
}

static int by_key(const void *a, const void *b, void *arg)
{
    const struct urllist *l = arg;
    const struct entry *x = a, *y = b;
    int d = compare(key_of(l, x), key_of(l, y));
    if (d == 0) {
        d = x->file != y->file  ? (x->file < y->file ? -1 : 1)
            : x->line < y->line ? -1
                                : x->line > y->line;
    }
    return d;
}

static void sort(struct urllist *l, struct faults *faults)
{
    if (l->n > 0) {
        qsort_r(l->entries, l->n, sizeof(*l->entries), by_key, l);
    }
    for (size_t i = 1; i < l->n; i++) {
        const struct entry *a = &l->entries[i - 1], *b = &l->entries[i];
        if (compare(key_of(l, a), key_of(l, b)) == 0 && faults->n < FAULTS_LOGGED) {
            const struct list_file *f = &l->files[a->file], *g = &l->files[b->file];
            CLEANUP(mem_freep) char *key = mem_strndup(key_of(l, a).p, a->key_len);
            char text[BE_KEY_TEXT];
            fault(faults,
                  "%s:%zu and %s:%zu give one key, '%.100s'; remove one, or write a manifest with "
                  "columns Key,Url",
                  f->name, line_number(f, a->line), g->name, line_number(g, b->line),
                  be_key_text(key, text, sizeof(text)));
        }
    }
}

static struct list_file *file_add(struct urllist *l, const char *name)
{
    l->files = mem_realloc(l->files, (l->n_files + 1) * sizeof(*l->files));
    struct list_file *f = &l->files[l->n_files++];
    *f = (struct list_file){.name = mem_strdup(name)};
    for (int c = 0; c < COLUMNS; c++) {
        f->at[c] = -1;
    }
    return f;
}

static int file_read(int dir, const char *path, const char *name, struct urllist *l)
{
    CLEANUP(mem_closep) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    }
    struct list_file *f = file_add(l, name);
    f->text = malloc((size_t)st.st_size + 1);
    if (!f->text) {
        return -ENOMEM;
    }
    while (f->len < (size_t)st.st_size) {
        ssize_t n = read(fd, f->text + f->len, (size_t)st.st_size - f->len);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            break; /* it became shorter: what is missing is no line of it any more */
        }
        f->len += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int is_list(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int files_read(const char *path, struct urllist *l, const char **ret_which)
{
    struct dirent **names = NULL;
    *ret_which = path;
    CLEANUP(mem_closep) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        const char *base = strrchr(path, '/');
        return errno == ENOTDIR ? file_read(AT_FDCWD, path, base ? base + 1 : path, l) : -errno;
    }
    int n = scandirat(dir, ".", &names, is_list, alphasort), err = n < 0 ? -errno : 0;
    for (int i = 0; i < n; i++) {
        struct stat st;
        if (err == 0 && fstatat(dir, names[i]->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
            err = file_read(dir, names[i]->d_name, names[i]->d_name, l);
        }
        free(names[i]);
    }
    free(names);
    return err;
}

static int finish(struct urllist *l, struct faults *faults, struct errinfo *reterr)
{
    for (size_t i = 0; i < l->n_files; i++) {
        read_file(l, i, faults);
    }
    sort(l, faults);
    if (faults->n == 0) {
        return 0;
    }
    if (faults->n == 1) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "%s", faults->first);
    }
    return err_set(reterr, ERR_INVALID, -EINVAL, "%s (and %u more, see the log)", faults->first,
                   faults->n - 1);
}

int urllist_load(const char *path, const char *section, struct urllist **ret,
                 struct errinfo *reterr)
{
    struct urllist *l = mem_zalloc(sizeof(*l));
    struct faults faults = {.section = section};
    const char *which = path;
    int err = files_read(path, l, &which);
    if (err < 0) {
        err_set_errno(reterr, -err, "[%s] urllistPath: %s cannot be read", section, which);
    } else {
        err = finish(l, &faults, reterr);
    }
    if (err < 0) {
        urllist_free(l);
        return err;
    }
    *ret = l;
    return 0;
}

int urllist_parse(const char *text, size_t len, const char *name, struct urllist **ret,
                  struct errinfo *reterr)
{
    struct urllist *l = mem_zalloc(sizeof(*l));
    struct faults faults = {.section = name};
    struct list_file *f = file_add(l, name);
    f->text = mem_zalloc(len + 1);
    memcpy(f->text, text, len);
    f->len = len;
    int err = finish(l, &faults, reterr);
    if (err < 0) {
        urllist_free(l);
        return err;
    }
    *ret = l;
    return 0;
}

void urllist_free(struct urllist *l)
{
    if (l) {
        for (size_t i = 0; i < l->n_files; i++) {
            free(l->files[i].name);
            free(l->files[i].text);
        }
        free(l->files);
        free(l->entries);
        buf_fini(&l->keys);
        free(l);
    }
}

/* --- asking */

size_t urllist_count(const struct urllist *l)
{
    return l->n;
}

const char *urllist_key(const struct urllist *l, size_t i, size_t *ret_len)
{
    struct span s = key_of(l, &l->entries[i]);
    *ret_len = s.n;
    return s.p;
}

size_t urllist_lower(const struct urllist *l, const char *key, size_t len)
{
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compare(key_of(l, &l->entries[mid]), (struct span){key, len}) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

bool urllist_find(const struct urllist *l, const char *key, struct urllist_row *ret)
{
    size_t len = strlen(key), i = urllist_lower(l, key, len), next;
    if (i == l->n || compare(key_of(l, &l->entries[i]), (struct span){key, len}) != 0) {
        return false;
    }
    const struct entry *e = &l->entries[i];
    const struct list_file *f = &l->files[e->file];
    struct fields fields = {0};
    *ret = (struct urllist_row){0};
    const char *what = take_fields(f, line_at(f, e->line, &next), &fields);
    what = what ? what : read_row(&fields, ret);
    ENSURE(!what); /* it was right when the list was loaded, and the text is ours */
    fields_fini(&fields);
    return true;
}

void urllist_place(const struct urllist *l, const char *key, struct buf *ret)
{
    size_t len = strlen(key), i = urllist_lower(l, key, len);
    if (i < l->n && compare(key_of(l, &l->entries[i]), (struct span){key, len}) == 0) {
        const struct list_file *f = &l->files[l->entries[i].file];
        (void)buf_addf(ret, "%s:%zu", f->name, line_number(f, l->entries[i].line));
    }
}

void urllist_row_fini(struct urllist_row *r)
{
    weburl_fini(&r->url);
    free(r->etag);
    *r = (struct urllist_row){0};
}
