/* What the commands of objmig share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "buf.h"
#include "errinfo.h"

/* Exit codes of all commands. */
enum { EXIT_DONE = 0, EXIT_USAGE = 1, EXIT_FAILED = 2, EXIT_LEFT = 3 };

/* Each gets its own argv[0] = its name. */
struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *synopsis, *help;
};
int cmd_status(int argc, char **argv);
int cmd_errors(int argc, char **argv);
int cmd_retry(int argc, char **argv);
int cmd_discard(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/* One line on stderr: "objmig COMMAND: …". Returns EXIT_USAGE. */
int complain(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What a command works on: a daemon, or a cache directory without one; and the part of it that PATH
 * means. */
struct client {
    int fd; /* -1: no daemon */
    struct buf in;
    char *cache_dir; /* for the journal when there is no daemon */
    char *where;     /* as the user wrote it, for messages */
    char *remote;    /* NULL = everything */
    char *prefix;    /* full key prefix */
};

/* Options every command takes; PATH or --cache DIR, and --json. Anything else is for `own` (may be
 * NULL), which gets what follows, too (NULL at the end): it returns how many of the two are its, 0 when it does not know the
 * option. */
struct common {
    const char *cache_dir, *path;
    bool json;
};
/* 0, or an exit code + 1 after the message has been printed. */
typedef int own_option_fn(const char *arg, const char *next, void *ctx);
int common_parse(int argc, char **argv, struct common *ret, own_option_fn *own, void *ctx);
/* For `own`: "--NAME=VALUE" or "--NAME VALUE". Returns as it does. */
int option_value(const char *name, const char *arg, const char *next, const char **ret);

int client_open(struct client *c, const struct common *o, struct errinfo *reterr);
void client_close(struct client *c);
/* How long an answer may take from here on, instead of for ever; then client_call is -ETIMEDOUT. */
void client_patience(struct client *c, unsigned seconds);
/* {"cmd": cmd} and the scope; `extra` may be NULL and is taken over. -EPIPE: the daemon has ended.
 */
int client_call(struct client *c, const char *cmd, json_t *extra, json_t **ret_answer,
                struct errinfo *reterr);

/* "1.5 GiB", "3 days 02:01:00": into buf, which is returned. */
const char *show_bytes(double n, char *buf, size_t size);
const char *show_seconds(double s, char *buf, size_t size);
/* Bytes for a terminal: control characters as \ooo. */
void put_text(FILE *f, const char *s, bool escape);
