/* objmig wait: the remote barrier. What was accepted before it began is uploaded and verified when
 * it exits with 0. */
#include "tool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cache.h"
#include "mem.h"
#include "sync.h"

#define LOOK_MS 200
#define LINE_NS 5000000000ll
#define NAMED_MAX 10 /* open files in the report; `objmig status` has more */
#define STUCK_NS                                                                                   \
    10000000000ll /* nothing but paused and unreachable work this long: it will not go on by       \
                     itself */

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    interrupted = 1;
}

struct wait {
    struct client *client;
    struct common common;
    bool quiet, want_timeout;
    double timeout_s;
    const char *timeout_text;

    bool tty, drawn;
    struct cprogress now, first;
    int64_t began_ns, line_ns, stuck_ns;
};

static int own_option(const char *arg, const char *next, void *ctx)
{
    struct wait *w = ctx;

    if (strcmp(arg, "-q") == 0 || strcmp(arg, "--quiet") == 0) {
        w->quiet = true;
        return 1;
    }
    return option_value("--timeout", arg, next, &w->timeout_text);
}

/* A number that is not there is an error: read as 0 it would say that all is done. */
static int number(const json_t *j, const char *name, uint64_t *ret)
{
    const json_t *v = json_object_get(j, name);

    if (!json_is_integer(v) || json_integer_value(v) < 0) {
        return -EPROTO;
    }
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

static int look(struct client *c, uint64_t seq, struct cprogress *ret, struct errinfo *reterr)
{
    json_t *answer;
    int r = client_call(c, "progress", json_pack("{s:I}", "seq", (json_int_t)seq), &answer, reterr);

    if (r < 0) {
        return r;
    }
    struct cprogress p = {0};
    r = number(answer, "files_left", &p.files_left);
    r = r < 0 ? r : number(answer, "bytes_left", &p.bytes_left);
    r = r < 0 ? r : number(answer, "failed", &p.failed);
    r = r < 0 ? r : number(answer, "open_files", &p.open_files);
    r = r < 0 ? r : number(answer, "unfinished", &p.unfinished);
    r = r < 0 ? r : number(answer, "waiting", &p.waiting);
    json_decref(answer);
    if (r < 0) {
        return err_set(reterr, ERR_BUG, r,
                       "the daemon's answer is not understood; are the programs of one version?");
    }
    *ret = p;
    return 0;
}

/* Another look may find more than the first: parts of a directory rename, a file sealed meanwhile.
 */
static uint64_t total(uint64_t first, uint64_t now)
{
    return MAX(first, now);
}

static void draw(struct wait *w)
{
    uint64_t files = total(w->first.files_left, w->now.files_left),
             done = files - w->now.files_left;
    uint64_t bytes = total(w->first.bytes_left, w->now.bytes_left),
             sent = bytes - w->now.bytes_left;
    double share = bytes > 0   ? (double)sent / (double)bytes
                   : files > 0 ? (double)done / (double)files
                               : 1;
    double seconds = (double)(time_mono_ns() - w->began_ns) / 1e9;
    double rate = seconds > 0 ? (double)sent / seconds : 0;
    double left = share > 0.001 ? seconds / share * (1 - share) : 0;
    char a[32], b[32], r[32], eta[40], line[256], bar[21];
    size_t full = (size_t)(share * 20);

    memset(bar, '.', 20);
    memset(bar, '#', MIN(full, (size_t)20));
    bar[20] = '\0';
    int n = snprintf(line, sizeof(line), "[%s] %3.0f%%  %llu/%llu files  %s/%s  %s/s  ETA %s", bar,
                     share * 100, (unsigned long long)done, (unsigned long long)files,
                     show_bytes((double)sent, a, sizeof(a)),
                     show_bytes((double)bytes, b, sizeof(b)), show_bytes(rate, r, sizeof(r)),
                     share > 0.001 ? show_seconds(left, eta, sizeof(eta)) : "?");
    if (n > 0 && (size_t)n < sizeof(line) && w->now.failed > 0) {
        (void)snprintf(line + n, sizeof(line) - (size_t)n, "  %llu failed",
                       (unsigned long long)w->now.failed);
    }
    if (w->tty) {
        struct winsize ws;
        int columns =
            ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 10 ? ws.ws_col - 1 : 79;
        (void)fprintf(stderr, "\r%.*s\033[K", columns, line);
        (void)fflush(stderr);
        w->drawn = true;
    } else {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static void show(struct wait *w)
{
    int64_t now = time_mono_ns();

    if (w->quiet || (!w->tty && now - w->line_ns < LINE_NS)) {
        return;
    }
    w->line_ns = now;
    draw(w);
}

/* Those that nobody waited for, to be closed by who reads this. What cannot be learnt is left out:
 * their number was told. */
static void name_open_files(struct wait *w)
{
    struct errinfo err = {0};
    json_t *answer, *one;
    size_t k;

    if (w->client->fd < 0 || client_call(w->client, "status", NULL, &answer, &err) < 0) {
        return;
    }
    const char *text = json_string_value(json_object_get(answer, "text"));
    json_t *status = text != NULL ? json_loads(text, 0, NULL) : NULL;
    json_array_foreach(json_object_get(status, "open"), k, one)
    {
        const char *remote = json_string_value(json_object_get(one, "remote"));
        const char *key = json_string_value(json_object_get(one, "key"));
        if (k < NAMED_MAX && remote != NULL && key != NULL) {
            (void)fputs("  ", stderr);
            put_text(stderr, remote, true);
            (void)fputs(": ", stderr);
            put_text(stderr, key, true);
            (void)fputc('\n', stderr);
        }
    }
    json_decref(status);
    json_decref(answer);
}

/* The end, in one line or one object. */
static int report(struct wait *w, const char *where, const char *result, int code)
{
    if (w->drawn) {
        draw(w);
        (void)fputc('\n', stderr);
    }
    uint64_t files = total(w->first.files_left, w->now.files_left);
    uint64_t done = files - w->now.files_left;
    if (w->common.json) {
        json_t *j = json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "result", result, "files_done",
            (json_int_t)done, "files_left", (json_int_t)w->now.files_left, "failed",
            (json_int_t)w->now.failed, "waiting", (json_int_t)w->now.waiting, "open_files",
            (json_int_t)w->now.open_files, "unfinished", (json_int_t)w->now.unfinished, "seconds",
            (double)(time_mono_ns() - w->began_ns) / 1e9);
        (void)json_dumpf(j, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(j);
        return code;
    }
    if (w->now.failed > 0) {
        (void)fprintf(stderr, "objmig wait: %llu failed; see objmig errors %s\n",
                      (unsigned long long)w->now.failed, where);
    }
    if (code == EXIT_LEFT) {
        (void)fprintf(stderr, "objmig wait: %s, %llu files left%s\n", result,
                      (unsigned long long)w->now.files_left,
                      w->now.waiting > 0
                          ? ", of which some wait for a remote that is not mounted or refuses us"
                          : "");
    }
    if (w->now.open_files > 0) {
        (void)fprintf(
            stderr, "objmig wait: %llu files are still open for writing, and were not waited for\n",
            (unsigned long long)w->now.open_files);
        name_open_files(w);
    }
    if (w->now.unfinished > 0) {
        (void)fprintf(
            stderr,
            "objmig wait: %llu files were cut off while being written; see objmig status %s\n",
            (unsigned long long)w->now.unfinished, where);
    }
    return code;
}

/* No daemon, or not any more: the journal knows what is left. */
static int ask_journal(struct wait *w, const struct client *c)
{
    struct errinfo err = {0};
    struct cache *cache;
    struct cscope everything = {0};
    struct buf text = BUF_INIT;
    int r = cache_open_readonly(c->cache_dir, &cache, &err);

    if (r < 0) {
        return complain("wait", "%s: no daemon runs, and the journal cannot be read: %s", c->where,
                        err.message);
    }
    r = cache_status(cache, &everything, &text);
    cache_close(cache);
    json_t *status = r == 0 ? json_loads(buf_str(&text), 0, NULL) : NULL;
    const json_t *pending = json_object_get(status, "pending");
    struct cprogress p = {0};
    uint64_t conflict = 0;
    buf_fini(&text);
    r = number(pending, "files", &p.files_left);
    r = r < 0 ? r : number(pending, "bytes", &p.bytes_left);
    r = r < 0 ? r : number(pending, "failed", &p.failed);
    r = r < 0 ? r : number(pending, "conflict", &conflict);
    r = r < 0 ? r : number(pending, "unfinished", &p.unfinished);
    json_decref(status);
    if (r < 0) {
        return complain("wait", "%s: no daemon runs, and the journal's status is not understood",
                        c->where);
    }
    p.failed += conflict;
    w->now = p;
    if (w->first.files_left == 0) {
        w->first = p;
    }
    if (p.files_left > 0) {
        return report(w, c->where, "no daemon runs", EXIT_LEFT);
    }
    return report(w, c->where, p.failed > 0 ? "failed" : "done",
                  p.failed > 0 ? EXIT_FAILED : EXIT_DONE);
}

static int wait_loop(struct wait *w, struct client *c)
{
    struct errinfo err = {0};
    json_t *answer;
    int r = client_call(c, "hurry", NULL, &answer, &err);

    if (r == 0) {
        uint64_t seq;
        bool begun = false;

        r = number(answer, "seq", &seq);
        json_decref(answer);
        if (r < 0) {
            return complain(
                "wait", "the daemon's answer is not understood; are the programs of one version?");
        }
        w->began_ns = w->line_ns = time_mono_ns();
        while ((r = look(c, seq, &w->now, &err)) == 0) {
            int64_t now = time_mono_ns();

            if (!begun) {
                w->first = w->now;
                begun = true;
            }
            if (w->now.files_left == 0) {
                break;
            }
            if (interrupted) {
                return report(w, c->where, "interrupted", EXIT_LEFT);
            }
            if (w->want_timeout && (double)(now - w->began_ns) / 1e9 >= w->timeout_s) {
                return report(w, c->where, "timed out", EXIT_LEFT);
            }
            if (w->now.waiting < w->now.files_left) {
                w->stuck_ns = now;
            } else if (now - w->stuck_ns > STUCK_NS) {
                return report(w, c->where, "nothing goes on",
                              w->now.failed > 0 ? EXIT_FAILED : EXIT_LEFT);
            }
            show(w);
            /* Short waits at first: most directories are done in a moment. */
            (void)poll(NULL, 0, now - w->began_ns < 1000000000 ? LOOK_MS / 8 : LOOK_MS);
        }
    }
    if (r == -EPIPE) {
        return ask_journal(w, c);
    }
    if (r < 0) {
        return complain("wait", "%s", err.message);
    }
    return report(w, c->where, w->now.failed > 0 ? "failed" : "done",
                  w->now.failed > 0 ? EXIT_FAILED : EXIT_DONE);
}

int cmd_wait(int argc, char **argv)
{
    struct wait w = {.began_ns = time_mono_ns(), .stuck_ns = time_mono_ns()};
    struct sigaction sa = {.sa_handler = on_signal};
    struct errinfo err = {0};
    struct client c;
    int code = common_parse(argc, argv, &w.common, own_option, &w);

    if (code != 0) {
        return code - 1;
    }
    if (w.timeout_text != NULL) {
        char *end;
        w.timeout_s = strtod(w.timeout_text, &end);
        w.want_timeout = true;
        if (end == w.timeout_text || *end != '\0' || !(w.timeout_s >= 0)) {
            return complain(argv[0], "--timeout=%s: give seconds", w.timeout_text);
        }
    }
    if (client_open(&c, &w.common, &err) < 0) {
        return complain(argv[0], "%s", err.message);
    }
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    (void)sigaction(SIGHUP, &sa, NULL);
    w.quiet = w.quiet || w.common.json;
    w.tty = isatty(STDERR_FILENO) == 1;
    w.client = &c;
    code = c.fd >= 0 ? wait_loop(&w, &c) : ask_journal(&w, &c);
    client_close(&c);
    return code;
}
