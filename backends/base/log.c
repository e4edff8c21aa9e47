/* A line is built on the stack and leaves in one write(2) on a descriptor opened with O_APPEND:
 * lines of several threads and processes never mix, and no lock is held while the disk is slow.
 * log_write allocates nothing and keeps errno. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "sync.h"

#define LINE_MAX_BYTES 2048
#define N_LIMITED 64

static const char *const level_names[] = {"error", "warn", "notice", "info", "debug"};

static _Atomic int log_level_now = LOG_LEVEL_NOTICE;
static _Atomic int log_fd = STDERR_FILENO;
static int file_fd = -1; /* the number once given to the log file; log_open only */

int log_open(const char *path, enum log_level level)
{
    if (!path || path[0] == '\0') {
        log_fd = STDERR_FILENO;
        log_set_level(level);
        return 0;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0) {
        return -errno;
    }
    if (file_fd < 0) {
        file_fd = fd;
    } else {
        /* In place: a thread in the middle of log_write must not meet a closed, or worse a reused,
         * number. */
        int err = dup3(fd, file_fd, O_CLOEXEC) < 0 ? -errno : 0;
        close(fd);
        if (err < 0) {
            return err;
        }
    }
    log_fd = file_fd;
    log_set_level(level);
    return 0;
}

void log_set_level(enum log_level level)
{
    log_level_now = (int)level;
}

int log_parse_level(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcasecmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

int log_enabled(enum log_level level)
{
    return (int)level <= log_level_now;
}

/* Appends with control characters escaped, so that a key or a server's text cannot forge a line.
 * Stops at `room`. */
static size_t add_escaped(char *line, size_t at, size_t room, const char *s)
{
    static const char digits[] = "0123456789abcdef";
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != 0x7f) {
            if (at + 1 > room) {
                break;
            }
            line[at++] = *s;
        } else if (c == '\n' || c == '\t') {
            if (at + 2 > room) {
                break;
            }
            line[at++] = '\\';
            line[at++] = c == '\n' ? 'n' : 't';
        } else {
            if (at + 4 > room) {
                break;
            }
            line[at++] = '\\';
            line[at++] = 'x';
            line[at++] = digits[c >> 4];
            line[at++] = digits[c & 15];
        }
    }
    return at;
}

static void write_line(enum log_level level, const char *component, const char *message, bool cut)
{
    char line[LINE_MAX_BYTES];
    struct timespec ts = {0};
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    struct tm tm = {0};
    (void)gmtime_r(&ts.tv_sec, &tm);
    size_t at = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    const char *name = (size_t)level < ARRAY_LEN(level_names) ? level_names[level] : "?";
    int n = snprintf(line + at, sizeof(line) - at, ".%06ldZ %-6s %.32s ", ts.tv_nsec / 1000, name,
                     component);
    if (n < 0) {
        return;
    }
    at += (size_t)n;
    size_t room = sizeof(line) - 5; /* " ..." and the newline */
    at = add_escaped(line, at, room, message);
    if (cut || at + 4 > room) {
        static const char more[] = " ...";
        memcpy(line + at, more, sizeof(more) - 1);
        at += sizeof(more) - 1;
    }
    line[at++] = '\n';
    ssize_t done;
    do {
        done = write(log_fd, line, at);
    } while (done < 0 && errno == EINTR);
    /* A full disk or closed terminal cannot be reported anywhere. */
}

static void write_va(enum log_level level, const char *component, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static void write_va(enum log_level level, const char *component, const char *fmt, va_list ap)
{
    int saved = errno;
    char message[LINE_MAX_BYTES];
    int n = vsnprintf(message, sizeof(message), fmt, ap);
    if (n >= 0) {
        write_line(level, component, message, (size_t)n >= sizeof(message));
    }
    errno = saved;
}

void log_write(enum log_level level, const char *component, const char *fmt, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    write_va(level, component, fmt, ap);
    va_end(ap);
}

/* Keys share the slots by hash: two keys in one slot take turns, which at worst prints a line more
 * than was asked. */
static struct mutex limited_lock = MUTEX_INIT(RANK_LOG);
static struct limited {
    uint64_t key_hash;
    int64_t last_ns; /* 0 = never used */
    unsigned left_out;
} limited[N_LIMITED]; /* limited_lock */

static uint64_t hash_key(const char *s)
{
    uint64_t h = 14695981039346656037U; /* FNV-1a */
    for (; *s != '\0'; s++) {
        h = (h ^ (unsigned char)*s) * 1099511628211U;
    }
    return h;
}

void log_limited(enum log_level level, const char *component, const char *key, unsigned interval_ms,
                 const char *fmt, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    uint64_t h = hash_key(key);
    int64_t now = time_mono_ns();
    struct limited *slot = &limited[h % N_LIMITED];
    mutex_lock(&limited_lock);
    bool same = slot->last_ns != 0 && slot->key_hash == h;
    bool show = !same || now - slot->last_ns >= (int64_t)interval_ms * 1000000;
    unsigned left_out = same ? slot->left_out : 0;
    if (show) {
        *slot = (struct limited){.key_hash = h, .last_ns = now};
    } else {
        slot->left_out++;
    }
    mutex_unlock(&limited_lock);
    if (!show) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    write_va(level, component, fmt, ap);
    va_end(ap);
    if (left_out > 0) {
        log_write(level, component, "left_out=%u like the line above", left_out);
    }
}

const char *log_redact_header(const char *name, const char *value)
{
    /* Parts of names: providers spell the same header with their own prefix (x-amz-, x-cos-,
     * x-oss-, x-ms- …). */
    static const char *const secret_names[] = {
        "authorization", "cookie",         "token",     "secret",     "password",
        "customer-key",  "encryption-key", "signature", "credential",
    };
    /* A presigned URL inside a value, as in x-ms-copy-source, is as good as a key. */
    static const char *const secret_values[] = {"signature=", "sig=", "security-token=", "sign="};

    for (size_t i = 0; i < ARRAY_LEN(secret_names); i++) {
        if (strcasestr(name, secret_names[i])) {
            return "<redacted>";
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(secret_values); i++) {
        if (strcasestr(value, secret_values[i])) {
            return "<redacted>";
        }
    }
    return value;
}
