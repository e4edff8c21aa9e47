/* Keys and path names.
 *
 * A key is cut at every '/' into components: "a//b/" is "a", "", "b", "". One component is one
 * name, written as it is whenever it can be. The rare others are escaped: '^' and two upper-case
 * hex digits stand for one byte.
 *
 *     component or form                          name
 *     byte 00-1f, 7f, not part of valid UTF-8    ^XX         key "a\nb"            a^0Ab
 *     "."  ".."  ".objmig" (ours, at any level)  ^2E…        key "x/../y"          x/^2E./y
 *     the empty component                        ^2F         key "a//b", "dir/"    a/^2F/b, dir/^2F
 *     object form: an object beside a directory  NAME^2F     keys "dir", "dir/x"   dir^2F, dir/x
 *     continuation directory: NAME goes on in it NAME^2F^2F  a component over 255 bytes
 *     a literal that looks like the above        ^5E for its ^ key "a^0Ab"         a^5E0Ab
 *
 * "50^", "^_^", "^41", "%2F", "*", a trailing space, any letter of any script: untouched.
 *
 * Marks. A component holds no '/', so slashes can mark what it is: c is written as the text "c",
 * its object form as "c/", a continuation chunk as "c//", the empty component as "/" and its
 * object form as "//". Nothing else with a '/' is a text, and "c//" is one only if c is as long as
 * a chunk is.
 *
 * Escaping. Let a pattern be '^', any number of "5E", and the two digits of a byte that is ever
 * escaped. esc() replaces each byte that must not show by its ^XX and inserts "5E" after the '^'
 * of each pattern; unesc() turns ^XX into the byte and takes one "5E" out of every longer pattern.
 * What esc writes contains exactly the patterns it made (a '^' before an escaped byte is followed
 * by '^', which is no digit), so unesc(esc(t)) = t and esc is one-to-one.
 *
 * Which texts are escaped. B: the texts with something that must not show. They must move, to
 * esc(b). That place was the literal's esc(b), which therefore moves on to esc(esc(b)), and so on;
 * nothing else moves:
 *
 *     encode(t) = esc(t) if t = esc^j(b) for some b in B, j >= 0; otherwise t.
 *
 * Proof that this is a bijection from all texts to all names that are not in B. esc never yields a
 * text of B and is one-to-one, so the chains b, esc(b), esc(esc(b)), … of different b do not meet,
 * and within a chain each text moves one place up. The places left empty are the heads, B itself;
 * texts outside the chains stay. Hence
 *
 *     decode(n) = unesc(n) if n = esc^j(b), j >= 1; refused if n is in B; otherwise n;
 *
 * decode(encode(t)) = t for every t, and encode(t) = t iff t is on no chain iff decode(t) = t.
 *
 * No table is needed and no walk either. Each step down a chain takes one "5E" from every pattern,
 * until the shortest has none left; the next step makes a byte of that one, and what it yields is
 * in B, or no text, or something that esc does not lead back from. So n is on a chain exactly if
 * that many steps plus one, taken at once, end in B and esc leads back.
 *
 * Long components. When the name of a text would be longer than NAMES_MAX, the longest beginning q
 * of its component with esc("q//") <= NAMES_MAX, not ending inside a UTF-8 sequence, becomes a
 * directory of that name, and what is left is a component inside it. The directory is known by the
 * key prefix up to there, which does not end in '/'. Cutting is a function of the component and
 * form alone, so each has one path; names_resolve accepts a name inside such a directory only when
 * cutting the whole component again leads to that very place, so each path has one key. (A name of
 * 253 to 255 bytes shows whole, while its object form, three bytes longer, is cut.)
 */
#include "names.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "mem.h"

#define MARKS_BYTES 6 /* "^2F^2F" */
#define UNIT_MAX 4    /* the most screen bytes that adding one unit to a chunk can cost */

enum form { PLAIN, OBJECT, CONTINUED };

void names_target_fini(struct names_target *t)
{
    buf_fini(&t->key);
    buf_fini(&t->prefix);
    *t = (struct names_target){0};
}

/* Replaces the contents of ret; on failure it stays as it was. */
static int put(struct buf *ret, const void *p, size_t n)
{
    size_t len = ret->len;
    ret->len = 0;
    int err = buf_reserve(ret, n);
    if (err < 0) {
        ret->len = len;
        if (ret->data) {
            ret->data[len] = '\0';
        }
        return err;
    }
    buf_clear(ret);
    return buf_add(ret, p, n);
}

/* Bytes of the valid UTF-8 sequence at s, 0 when there is none: overlong forms, surrogates and
 * values above U+10FFFF are not valid (RFC 3629). */
static size_t utf8_len(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t want;
    unsigned char low = 0x80, high = 0xbf; /* what the second byte may be */
    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        want = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        want = 3;
        low = p[0] == 0xe0 ? 0xa0 : low;
        high = p[0] == 0xed ? 0x9f : high;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        want = 4;
        low = p[0] == 0xf0 ? 0x90 : low;
        high = p[0] == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (n < want || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < want; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf) {
            return 0;
        }
    }
    return want;
}

bool names_is_utf8(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = utf8_len(s + i, n - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* Bytes of the unit at s: a UTF-8 sequence, or one byte that is none. *ret_hidden: it must not
 * show. */
static size_t unit_at(const char *s, size_t n, bool *ret_hidden)
{
    size_t len = utf8_len(s, n);
    *ret_hidden = len == 0 || is_control(s[0]) || s[0] == '/';
    return MAX(len, (size_t)1);
}

/* Names that mean something else to the kernel or to us; their first '.' is escaped. */
static bool is_reserved(const char *s, size_t n)
{
    static const char ours[] = ".objmig";
    return (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.') ||
           (n == sizeof(ours) - 1 && memcmp(s, ours, n) == 0);
}

/* Whether the text is in B. */
static bool must_move(const char *s, size_t n)
{
    if (is_reserved(s, n)) {
        return true;
    }
    bool hidden = false;
    for (size_t i = 0; i < n && !hidden;) {
        i += unit_at(s + i, n - i, &hidden);
    }
    return hidden;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Bytes of the pattern at s, 0 when there is none; *ret_byte is the byte its last two digits stand
 * for. */
static size_t pattern_at(const char *s, size_t n, unsigned char *ret_byte)
{
    if (s[0] != '^') {
        return 0;
    }
    size_t i = 1;
    while (n - i >= 2 && s[i] == '5' && s[i + 1] == 'E') {
        i += 2;
    }
    if (n - i < 2 || digit(s[i]) < 0 || digit(s[i + 1]) < 0) {
        return 0;
    }
    int byte = digit(s[i]) << 4 | digit(s[i + 1]);
    if (byte >= 0x20 && byte < 0x7f && byte != '.' && byte != '/') {
        return 0; /* such a byte is never escaped */
    }
    *ret_byte = (unsigned char)byte;
    return i + 2;
}

static int add_escape(struct buf *out, char c)
{
    static const char digits[] = "0123456789ABCDEF";
    unsigned char byte = (unsigned char)c;
    char text[3] = {'^', digits[byte >> 4], digits[byte & 15]};
    return buf_add(out, text, sizeof(text));
}

static int esc(struct buf *out, const char *s, size_t n)
{
    buf_clear(out);
    int err = buf_reserve(out, n + MARKS_BYTES);
    size_t i = 0;
    if (err == 0 && is_reserved(s, n)) {
        err = add_escape(out, s[0]);
        i = 1;
    }
    while (i < n && err == 0) {
        unsigned char byte;
        size_t len = pattern_at(s + i, n - i, &byte);
        if (len > 0) {
            err = add_escape(out, '^');
            if (err == 0) {
                err = buf_add(out, s + i + 1, len - 1);
            }
        } else {
            bool hidden;
            len = unit_at(s + i, n - i, &hidden);
            err = hidden ? add_escape(out, s[i]) : buf_add(out, s + i, len);
        }
        i += len;
    }
    return err;
}

/* So many steps down: no pattern may have fewer than steps - 1 "5E". */
static int unesc(struct buf *out, const char *s, size_t n, size_t steps)
{
    buf_clear(out);
    int err = buf_reserve(out, n);
    for (size_t i = 0; i < n && err == 0;) {
        unsigned char byte;
        size_t len = pattern_at(s + i, n - i, &byte);
        if (len == 0) {
            err = buf_addc(out, s[i]);
            len = 1;
        } else if (len - 3 < 2 * steps) {
            err = buf_addc(out, (char)byte);
        } else {
            size_t skip = 1 + 2 * steps;
            err = buf_addc(out, '^');
            if (err == 0) {
                err = buf_add(out, s + i + skip, len - skip);
            }
        }
        i += len;
    }
    return err;
}

/* How many "5E" the shortest pattern has; false when there is no pattern. */
static bool shortest_pattern(const char *s, size_t n, size_t *ret_fives)
{
    bool found = false;
    for (size_t i = 0; i < n;) {
        unsigned char byte;
        size_t len = pattern_at(s + i, n - i, &byte);
        if (len > 0 && (!found || (len - 3) / 2 < *ret_fives)) {
            *ret_fives = (len - 3) / 2;
            found = true;
        }
        i += MAX(len, (size_t)1);
    }
    return found;
}

/* The longest beginning of a component whose continuation name fits. All of it when it fits.
 * *ret_cost: the bytes of that name without the marks. */
static size_t chunk_len(const char *s, size_t n, size_t *ret_cost)
{
    const size_t room = NAMES_MAX - MARKS_BYTES;
    size_t i = 0, cost = 0;
    while (i < n) {
        unsigned char byte;
        size_t len = pattern_at(s + i, n - i, &byte);
        if (len > 0 && cost + len + 2 > room) {
            /* Cut inside, where it is no pattern any more and costs nothing extra. */
            size_t some = MIN(len - 1, room - cost);
            i += some;
            cost += some;
            break;
        }
        size_t more = len + 2;
        if (len == 0) {
            bool hidden;
            len = unit_at(s + i, n - i, &hidden);
            more = hidden ? 3 : len;
        }
        if (cost + more > room) {
            break;
        }
        i += len;
        cost += more;
    }
    *ret_cost = cost;
    return i;
}

/* Whether a chunk can be one: it fits, and some next unit would not have. */
static bool is_chunk(const char *s, size_t n)
{
    size_t cost;
    return chunk_len(s, n, &cost) == n && cost + MARKS_BYTES + UNIT_MAX > NAMES_MAX;
}

/* Takes a text apart; false when it is none. */
static bool text_parse(const char *s, size_t n, size_t *ret_len, enum form *ret_form)
{
    size_t len = n;
    while (len > 0 && s[len - 1] == '/') {
        len--;
    }
    size_t marks = n - len;
    if (len > 0 && memchr(s, '/', len)) {
        return false;
    }
    if (len == 0) {
        if (marks < 1 || marks > 2) {
            return false;
        }
        *ret_form = marks == 1 ? PLAIN : OBJECT;
    } else {
        if (marks > 2 || (marks == 2 && !is_chunk(s, len))) {
            return false;
        }
        *ret_form = marks == 0 ? PLAIN : marks == 1 ? OBJECT : CONTINUED;
    }
    *ret_len = len;
    return true;
}

static int text_make(struct buf *out, const char *s, size_t n, enum form form)
{
    buf_clear(out);
    size_t marks = (n == 0 ? 1 : 0) + (form == PLAIN ? 0 : form == OBJECT ? 1 : 2);
    int err = buf_add(out, s, n);
    if (err == 0) {
        err = buf_add(out, "//", marks);
    }
    return err;
}

/* Whether the text is on a chain: 1, 0 or -errno. */
static int on_chain(const char *s, size_t n)
{
    if (must_move(s, n)) {
        return 1;
    }
    size_t fives = 0;
    if (!shortest_pattern(s, n, &fives)) {
        return 0;
    }
    CLEANUP(buf_fini) struct buf bottom = BUF_INIT;
    CLEANUP(buf_fini) struct buf above = BUF_INIT;
    CLEANUP(buf_fini) struct buf back = BUF_INIT;
    int err = unesc(&bottom, s, n, fives + 1);
    size_t len;
    enum form form;
    if (err < 0 || !text_parse(buf_str(&bottom), bottom.len, &len, &form) ||
        !must_move(buf_str(&bottom), bottom.len)) {
        return err;
    }
    err = unesc(&above, s, n, fives);
    if (err == 0) {
        err = esc(&back, buf_str(&bottom), bottom.len);
    }
    if (err < 0) {
        return err;
    }
    return back.len == above.len && memcmp(buf_str(&back), buf_str(&above), above.len) == 0;
}

static int encode(struct buf *out, const char *s, size_t n)
{
    int moves = on_chain(s, n);
    if (moves < 0) {
        return moves;
    }
    return moves ? esc(out, s, n) : put(out, s, n);
}

static int decode(struct buf *out, const char *name, size_t n)
{
    if (must_move(name, n)) {
        return -ENOENT;
    }
    int moved = on_chain(name, n);
    if (moved < 0) {
        return moved;
    }
    return moved ? unesc(out, name, n, 1) : put(out, name, n);
}

/* One step of a component's path: the name of what starts at s, and how many bytes of the component
 * it covers (all n for the last). */
static int step(struct buf *out, const char *s, size_t n, enum form form, size_t *ret_len)
{
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    int err = text_make(&text, s, n, form);
    if (err == 0) {
        err = encode(out, buf_str(&text), text.len);
    }
    if (err < 0) {
        return err;
    }
    if (out->len <= NAMES_MAX) {
        *ret_len = n;
        return 0;
    }
    size_t cost;
    size_t len = chunk_len(s, n, &cost);
    err = text_make(&text, s, len, CONTINUED);
    if (err == 0) {
        err = encode(out, buf_str(&text), text.len);
    }
    ENSURE(err < 0 || (len > 0 && len < n && out->len <= NAMES_MAX));
    *ret_len = len;
    return err;
}

/* Where the component of a directory's prefix begins that the directory continues; prefix_len when
 * it continues none. */
static size_t component_start(const char *prefix, size_t prefix_len)
{
    size_t start = prefix_len;
    while (start > 0 && prefix[start - 1] != '/') {
        start--;
    }
    return start;
}

/* Walks the path of a component until `at` of its bytes are behind. 0 and the next name, or -ENOENT
 * when no cut is there, or nothing behind it: then a directory above shows the component. */
static int step_at(struct buf *out, const char *s, size_t n, enum form form, size_t at,
                   size_t *ret_len)
{
    size_t off = 0;
    for (;;) {
        int err = step(out, s + off, n - off, form, ret_len);
        if (err < 0) {
            return err;
        }
        if (off == at) {
            return 0;
        }
        off += *ret_len;
        if (off > at || off == n) {
            return -ENOENT;
        }
    }
}

/* Whether a chunk may start at `at`: all cuts before are where they must be. The component goes on
 * beyond s, so its end is no end. */
static bool cuts_right(const char *s, size_t n, size_t at)
{
    size_t off = 0;
    while (off < at) {
        size_t cost;
        off += chunk_len(s + off, n - off, &cost);
    }
    return off == at;
}

int names_resolve(const char *prefix, size_t prefix_len, const char *name, struct names_target *ret)
{
    size_t n = strlen(name);
    if (n > NAMES_MAX) {
        return -ENAMETOOLONG;
    }
    if (n == 0) {
        return -ENOENT;
    }
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    int err = decode(&text, name, n);
    if (err < 0) {
        return err;
    }
    size_t len;
    enum form form;
    /* decode yields texts only; a plain one that is not marked needs no look. */
    ENSURE(text_parse(buf_str(&text), text.len, &len, &form));
    size_t start = component_start(prefix, prefix_len);
    size_t at = prefix_len - start;

    CLEANUP(names_target_fini) struct names_target t = {0};
    err = buf_add(&t.key, prefix, prefix_len);
    if (err == 0) {
        err = buf_add(&t.key, buf_str(&text), len);
    }
    if (err < 0) {
        return err;
    }
    const char *whole = buf_str(&t.key) + start;
    if (form == CONTINUED) {
        if (!cuts_right(whole, at + len, at)) {
            return -ENOENT;
        }
        t.prefix = t.key;
        t.key = (struct buf){0};
        t.dir_ok = true;
    } else {
        if (at > 0) {
            CLEANUP(buf_fini) struct buf again = BUF_INIT;
            size_t covered;
            err = step_at(&again, whole, at + len, form, at, &covered);
            if (err < 0) {
                return err;
            }
        }
        t.file_ok = t.key.len > 0; /* no store has an object without a key */
        t.dir_ok = form == PLAIN;
        if (!t.file_ok && !t.dir_ok) {
            return -ENOENT;
        }
        if (t.dir_ok) {
            err = buf_add(&t.prefix, buf_str(&t.key), t.key.len);
            if (err == 0) {
                err = buf_addc(&t.prefix, '/');
            }
        }
        if (err < 0) {
            return err;
        }
    }
    *ret = t;
    t = (struct names_target){0};
    return 0;
}

int names_show(const char *prefix, size_t prefix_len, const char *rest, size_t rest_len,
               bool is_prefix, bool collides, struct buf *ret_name, bool *ret_is_dir)
{
    const char *slash = rest_len > 0 ? memchr(rest, '/', rest_len) : NULL;
    if ((is_prefix && !slash) || prefix_len + rest_len == 0) {
        return -EINVAL;
    }
    size_t len = slash ? (size_t)(slash - rest) : rest_len;
    size_t start = component_start(prefix, prefix_len);
    size_t at = prefix_len - start;
    enum form form = collides && !slash ? OBJECT : PLAIN;

    if (at == 0 && form == PLAIN && len > 0 && len <= NAMES_MAX && !memchr(rest, '^', len) &&
        !must_move(rest, len)) {
        *ret_is_dir = slash != NULL; /* nearly every name, without a copy */
        return put(ret_name, rest, len);
    }
    CLEANUP(buf_fini) struct buf whole = BUF_INIT;
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    int err = buf_add(&whole, at > 0 ? prefix + start : "", at);
    if (err == 0) {
        err = buf_add(&whole, rest, len);
    }
    size_t covered = 0;
    if (err == 0) {
        err = step_at(&name, buf_str(&whole), at + len, form, at, &covered);
    }
    if (err == 0) {
        err = put(ret_name, buf_str(&name), name.len);
    }
    if (err == 0) {
        *ret_is_dir = slash || covered < len;
    }
    return err;
}

int names_path_of_key(const char *key, size_t key_len, struct buf *ret_path)
{
    if (key_len == 0) {
        return -EINVAL;
    }
    CLEANUP(buf_fini) struct buf path = BUF_INIT;
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    size_t off = 0;
    for (;;) {
        const char *s = key + off;
        const char *slash = off < key_len ? memchr(s, '/', key_len - off) : NULL;
        size_t n = slash ? (size_t)(slash - s) : key_len - off;
        size_t at = 0;
        do {
            size_t covered;
            int err = step(&name, s + at, n - at, PLAIN, &covered);
            if (err == 0 && path.len > 0) {
                err = buf_addc(&path, '/');
            }
            if (err == 0) {
                err = buf_add(&path, buf_str(&name), name.len);
            }
            if (err < 0) {
                return err;
            }
            at += covered;
        } while (at < n);
        if (!slash) {
            break;
        }
        off += n + 1;
    }
    return put(ret_path, buf_str(&path), path.len);
}

int names_key_of_path(const char *path, struct buf *ret_key)
{
    CLEANUP(buf_fini) struct buf prefix = BUF_INIT;
    CLEANUP(buf_fini) struct buf name = BUF_INIT;
    for (;;) {
        const char *end = strchrnul(path, '/');
        CLEANUP(names_target_fini) struct names_target t = {0};
        int err = put(&name, path, (size_t)(end - path));
        if (err == 0) {
            err = names_resolve(buf_str(&prefix), prefix.len, buf_str(&name), &t);
        }
        if (err < 0) {
            return err;
        }
        if (*end == '\0') {
            return t.file_ok ? put(ret_key, buf_str(&t.key), t.key.len) : -ENOENT;
        }
        if (!t.dir_ok) {
            return -ENOENT;
        }
        err = put(&prefix, buf_str(&t.prefix), t.prefix.len);
        if (err < 0) {
            return err;
        }
        path = end + 1;
    }
}
