/* Levelled key=value log to stderr or a file. Thread-safe; never blocks on anything but the write itself. */
#pragma once

#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* path NULL or "" = stderr. Returns 0 or -errno. */
int log_open(const char *path, enum log_level level);
void log_set_level(enum log_level level);
int log_parse_level(const char *name, enum log_level *ret_level); /* 0 or -EINVAL */
int log_enabled(enum log_level level);

/* One line: time level component message. Control characters in the message are escaped. */
void log_write(enum log_level level, const char *component, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(comp, ...) log_write(LOG_LEVEL_ERROR, comp, __VA_ARGS__)
#define log_warn(comp, ...) log_write(LOG_LEVEL_WARN, comp, __VA_ARGS__)
#define log_notice(comp, ...) log_write(LOG_LEVEL_NOTICE, comp, __VA_ARGS__)
#define log_info(comp, ...) log_write(LOG_LEVEL_INFO, comp, __VA_ARGS__)
#define log_debug(comp, ...)                                                                       \
    do {                                                                                           \
        if (log_enabled(LOG_LEVEL_DEBUG)) {                                                        \
            log_write(LOG_LEVEL_DEBUG, comp, __VA_ARGS__);                                         \
        }                                                                                          \
    } while (0)

/* At most one line per `key` each `interval_ms`; says how many were left out. */
void log_limited(enum log_level level, const char *component, const char *key, unsigned interval_ms,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* What a header's value may show in a log: the value itself, or "<redacted>" for Authorization, security tokens,
 * SSE-C keys, cookies and their like. */
const char *log_redact_header(const char *name, const char *value);
