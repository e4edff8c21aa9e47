#include "text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "mem.h"

static bool is_plain(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* The buffers here have no maximum: adding fails only without memory. */
static void add(struct buf *out, const char *s, size_t n)
{
    ENSURE(buf_add(out, s, n) == 0);
}

static void add_hex(struct buf *out, char c)
{
    static const char digits[] = "0123456789ABCDEF";
    char text[3] = {'%', digits[(unsigned char)c >> 4], digits[(unsigned char)c & 15]};
    add(out, text, 3);
}

void text_escape(struct buf *out, const char *s, size_t n, bool keep_slash)
{
    for (size_t i = 0; i < n;) {
        size_t run = i;
        while (run < n && (is_plain(s[run]) || (keep_slash && s[run] == '/'))) {
            run++;
        }
        add(out, s + i, run - i);
        if (run < n) {
            add_hex(out, s[run++]);
        }
        i = run;
    }
}

void text_list_escape(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t run = i;
        while (run < n && (is_plain(s[run]) || s[run] == '/')) {
            run++;
        }
        add(out, s + i, run - i);
        if (run < n && s[run] == ' ') {
            add(out, "+", 1);
        } else if (run < n) {
            add_hex(out, s[run]);
        }
        i = run;
    }
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long text_unescape(char *s, size_t n, bool plus)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '%') {
            int high = i + 2 < n ? digit(s[i + 1]) : -1;
            int low = high >= 0 ? digit(s[i + 2]) : -1;
            if (low < 0) {
                return -1;
            }
            s[out++] = (char)(high * 16 + low);
            i += 2;
        } else {
            s[out++] = plus && s[i] == '+' ? ' ' : s[i];
        }
    }
    s[out] = '\0';
    return (long)out;
}

void text_xml_escape(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char number[8];
        switch (s[i]) {
        case '&':
            add(out, "&amp;", 5);
            break;
        case '<':
            add(out, "&lt;", 4);
            break;
        case '>':
            add(out, "&gt;", 4);
            break;
        case '"':
            add(out, "&quot;", 6);
            break;
        default:
            if ((unsigned char)s[i] < ' ') {
                int len = snprintf(number, sizeof(number), "&#%d;", s[i]);
                add(out, number, (size_t)len);
            } else {
                add(out, s + i, 1);
            }
        }
    }
}

static void add_utf8(struct buf *out, unsigned long c)
{
    char t[4];
    if (c < 0x80) {
        t[0] = (char)c;
        add(out, t, 1);
    } else if (c < 0x800) {
        t[0] = (char)(0xc0 | c >> 6);
        t[1] = (char)(0x80 | (c & 0x3f));
        add(out, t, 2);
    } else if (c < 0x10000) {
        t[0] = (char)(0xe0 | c >> 12);
        t[1] = (char)(0x80 | (c >> 6 & 0x3f));
        t[2] = (char)(0x80 | (c & 0x3f));
        add(out, t, 3);
    } else {
        t[0] = (char)(0xf0 | (c >> 18 & 7));
        t[1] = (char)(0x80 | (c >> 12 & 0x3f));
        t[2] = (char)(0x80 | (c >> 6 & 0x3f));
        t[3] = (char)(0x80 | (c & 0x3f));
        add(out, t, 4);
    }
}

/* One reference, "&…;". Returns where it ends; what is none stays as it is. */
static const char *add_reference(struct buf *out, const char *s)
{
    static const struct {
        const char *name, *text;
    } named[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
    for (size_t i = 0; i < ARRAY_LEN(named); i++) {
        if (strncmp(s, named[i].name, strlen(named[i].name)) == 0) {
            add(out, named[i].text, 1);
            return s + strlen(named[i].name);
        }
    }
    if (s[1] == '#') {
        char *end;
        unsigned long c = s[2] == 'x' ? strtoul(s + 3, &end, 16) : strtoul(s + 2, &end, 10);
        if (*end == ';') {
            add_utf8(out, c);
            return end + 1;
        }
    }
    add(out, s, 1);
    return s + 1;
}

bool text_xml_next(const char **at, const char *tag, char **ret, size_t *ret_len)
{
    CLEANUP(mem_freep) char *open = mem_printf("<%s>", tag);
    CLEANUP(mem_freep) char *close_tag = mem_printf("</%s>", tag);
    const char *s = strstr(*at, open);
    const char *end = s ? strstr(s, close_tag) : NULL;
    if (!end) {
        return false;
    }
    *at = end + strlen(close_tag);
    struct buf out = BUF_INIT;
    for (s += strlen(open); s < end;) {
        if (*s == '&') {
            s = add_reference(&out, s);
        } else {
            add(&out, s++, 1);
        }
    }
    *ret_len = out.len;
    *ret = out.data ? buf_take(&out) : mem_strdup("");
    return true;
}

void text_iso_date(int64_t wall_ms, char ret[32])
{
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    (void)gmtime_r(&s, &tm);
    size_t n = strftime(ret, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(ret + n, 32 - n, ".%03dZ", (int)(wall_ms % 1000));
}

void text_http_date(int64_t wall_ms, char ret[40])
{
    static const char days[] = "SunMonTueWedThuFriSat",
                      months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    (void)gmtime_r(&s, &tm);
    (void)snprintf(ret, 40, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday,
                   tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                   tm.tm_sec);
}

bool text_number(const char *s, uint64_t *ret)
{
    uint64_t v = 0;
    if (!s || *s == '\0') {
        return false;
    }
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || MUL_OVERFLOWS(v, 10, &v) ||
            ADD_OVERFLOWS(v, (uint64_t)(*s - '0'), &v)) {
            return false;
        }
    }
    *ret = v;
    return true;
}
