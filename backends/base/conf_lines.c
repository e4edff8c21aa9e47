/* Lines of an INI file.
 *
 * inih splits a line into name, value and comment. Three things it does not give, so the reader
 * that feeds it adds them: the line's number, values longer than its buffer (200 bytes in common
 * builds; session tokens have a thousand), and section heads without a key below. Continuation
 * lines are off: an indented key is a key, not more of the value above.
 */
#include "conf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

#define FILE_BYTES_MAX (1024 * 1024)

void conf_str_wipe(char *s)
{
    if (s) {
        explicit_bzero(s, strlen(s));
        free(s);
    }
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* What inih does to a value: a comment starts at a ';' after a blank; blanks around are dropped. */
static char *take_value(const char *s, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (s[i] == ';' && is_blank(s[i - 1])) {
            n = i;
            break;
        }
    }
    while (n > 0 && is_blank(*s)) {
        s++;
        n--;
    }
    while (n > 0 && is_blank(s[n - 1])) {
        n--;
    }
    return mem_strndup(s, n);
}

/* "[name]" and nothing after it but a comment. */
static bool take_section(struct lines *s, const char *text, size_t n)
{
    const char *close = memchr(text, ']', n);
    if (!close) {
        return false;
    }
    for (const char *p = close + 1; p < text + n && *p != ';' && *p != '#'; p++) {
        if (!is_blank(*p)) {
            return false;
        }
    }
    free(s->section);
    const char *name = text + 1;
    while (name < close && is_blank(*name)) {
        name++;
    }
    size_t len = (size_t)(close - name);
    while (len > 0 && is_blank(name[len - 1])) {
        len--;
    }
    s->section = mem_strndup(name, len);
    return true;
}

/* inih hands over no empty handler call for a line that is no pair: notice it when the next line is
 * asked for. */
static void check_last(struct lines *s)
{
    if (s->pair) {
        s->pair = false;
        s->on_fault(s, "not a \"key = value\" line; mend or remove it");
    }
}

static char *next_line(char *ret, int size, void *stream)
{
    struct lines *s = stream;
    check_last(s);
    conf_str_wipe(s->value);
    s->value = NULL;
    if (s->p >= s->end || size < 8) {
        return NULL;
    }
    const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
    const char *text = s->p;
    size_t n = (size_t)((nl ? nl : s->end) - text);
    s->p = nl ? nl + 1 : s->end;
    s->line++;
    while (n > 0 && is_blank(*text)) {
        text++;
        n--;
    }
    while (n > 0 && is_blank(text[n - 1])) {
        n--;
    }
    ret[0] = '\0';
    if (n == 0 || *text == ';' || *text == '#') {
        return ret;
    }
    if (*text == '[') {
        if (take_section(s, text, n)) {
            s->on_section(s);
        } else {
            s->on_fault(s, "not a section head; write [NAME]");
        }
        return ret;
    }
    s->pair = true;
    if (n >= (size_t)size) {
        /* Only the name goes through inih; the handler takes the value from here. */
        size_t eq = 0;
        while (eq < n && text[eq] != '=' && text[eq] != ':') {
            eq++;
        }
        if (eq + 1 >= n || eq + 1 >= (size_t)size) {
            return ret;
        }
        s->value = take_value(text + eq + 1, n - eq - 1);
        n = eq + 1;
    }
    memcpy(ret, text, n);
    ret[n] = '\0';
    return ret;
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    struct lines *s = user;
    s->pair = false;
    s->on_pair(s, name, s->value ? s->value : value);
    return 1;
}

/* -EINVAL when it is no text at all. */
int conf_lines_read(struct lines *s, const char *text, size_t n)
{
    static const char bom[] = "\xef\xbb\xbf";
    if (n > 0 && memchr(text, '\0', n)) {
        return -EINVAL;
    }
    s->p = text;
    s->end = text + n;
    if (n >= 3 && memcmp(text, bom, 3) == 0) {
        s->p += 3;
    }
    int err = ini_parse_stream(next_line, s, on_pair, s);
    check_last(s);
    conf_str_wipe(s->value);
    free(s->section);
    s->value = s->section = NULL;
    return err == -2 ? -ENOMEM : 0; /* line faults are reported already */
}

/* The whole of a regular file, at most FILE_BYTES_MAX. The descriptor's mode is what is checked,
 * not the path's. */
int conf_file_read(const char *path, struct buf *ret, struct stat *ret_st)
{
    /* O_NONBLOCK: opening a FIFO by mistake must not hang. */
    CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, ret_st) < 0) {
        return -errno;
    }
    if (!S_ISREG(ret_st->st_mode)) {
        return S_ISDIR(ret_st->st_mode) ? -EISDIR : -EINVAL;
    }
    ret->max = FILE_BYTES_MAX;
    for (;;) {
        char chunk[4096];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            int err = n < 0 ? -errno : 0;
            explicit_bzero(chunk, sizeof(chunk));
            return err;
        }
        int err = buf_add(ret, chunk, (size_t)n);
        if (err < 0) {
            return err;
        }
    }
}

void conf_buf_wipe(struct buf *b)
{
    if (b->data) {
        explicit_bzero(b->data, b->cap);
    }
    buf_fini(b);
}
