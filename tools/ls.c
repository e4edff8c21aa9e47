/* objmig ls: what a remote holds, by its own keys, without a mount. */
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"
#include "http.h"
#include "mem.h"
#include "sync.h"

struct ls {
    bool long_form, recursive, json, escape;
    const char *config, *spec;
    json_t *list; /* --json */
};

static void put_time(int64_t ns)
{
    time_t t = (time_t)(ns / 1000000000);
    char text[32] = "-";
    struct tm tm;

    if (ns != 0 && gmtime_r(&t, &tm) != NULL) {
        (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
    (void)printf("%20s ", text);
}

static void put_entry(struct ls *l, const struct be_entry *e)
{
    if (l->json) {
        json_t *j = e->is_prefix ? json_pack("{s:s}", "prefix", e->key)
                    : e->unseen  ? json_pack("{s:s}", "key", e->key)
                                 : json_pack("{s:s, s:I, s:s, s:f}", "key", e->key, "size",
                                             (json_int_t)e->object.size, "etag", e->object.etag,
                                             "mtime", (double)e->object.mtime_ns / 1e9);
        if (j == NULL) { /* a key that is not UTF-8 */
            struct buf b = BUF_INIT;
            (void)url_encode(&b, e->key, strlen(e->key), true);
            j = e->unseen ? json_pack("{s:s}", "key_percent_encoded", buf_str(&b))
                          : json_pack("{s:s, s:I}", "key_percent_encoded", buf_str(&b), "size",
                                      (json_int_t)e->object.size);
            buf_fini(&b);
        }
        json_array_append_new(l->list, j);
        return;
    }
    if (l->long_form) {
        if (e->is_prefix || e->unseen) {
            (void)printf("%15s %20s %-34s ", "-", "-", "-");
        } else {
            (void)printf("%15llu ", (unsigned long long)e->object.size);
            put_time(e->object.mtime_ns);
            (void)printf("%-34s ", e->object.etag[0] != '\0' ? e->object.etag : "-");
        }
    }
    put_text(stdout, e->key, l->escape);
    (void)putchar('\n');
}

static int list_all(struct ls *l, struct be *be, const char *prefix)
{
    CLEANUP(mem_freep) char *cursor = NULL;

    do {
        struct be_list op = {
            .prefix = prefix, .delimiter = l->recursive ? 0 : '/', .cursor = cursor};

        op.op.lane = BE_LANE_FOREGROUND;
        if (BE_SYNC(be, be_list, &op) < 0) {
            char line[640];
            return complain("ls", "%s: %s", l->spec, err_format(&op.op.err, line, sizeof(line)));
        }
        for (size_t k = 0; k < op.n_entries; k++) {
            put_entry(l, &op.entries[k]);
        }
        free(cursor);
        cursor = TAKE(op.next_cursor);
        be_list_fini(&op);
    } while (cursor != NULL);
    return EXIT_DONE;
}

static int list_remote(struct ls *l, const struct conf_remote *r, const char *below)
{
    CLEANUP(mem_freep) char *prefix = mem_printf("%s%s", r->prefix, below);
    struct be_env env = {0};
    struct be *be = NULL;
    struct errinfo err = {0};
    int code;

    if (pool_new(&env.workers, 2, "worker") < 0 ||
        http_engine_new(env.workers, NULL, &env.http) < 0) {
        code = complain("ls", "cannot start threads");
    } else if (be_open(r, &env, &be, &err) < 0) {
        code = complain("ls", "%s: %s", l->spec, err.message);
    } else {
        code = list_all(l, be, prefix);
    }
    be_close(be);
    http_engine_free(env.http);
    pool_free(env.workers);
    return code;
}

static int parse(int argc, char **argv, struct ls *l)
{
    for (int k = 1; k < argc; k++) {
        const char *a = argv[k];

        if (strcmp(a, "--json") == 0) {
            l->json = true;
        } else if (strcmp(a, "--config") == 0 && k + 1 < argc) {
            l->config = argv[++k];
        } else if (a[0] == '-' && a[1] != '\0' && a[1] != '-') {
            for (const char *f = a + 1; *f != '\0'; f++) {
                if (*f == 'l') {
                    l->long_form = true;
                } else if (*f == 'R') {
                    l->recursive = true;
                } else {
                    return complain("ls", "-%c: unknown option; see objmig --help", *f);
                }
            }
        } else if (a[0] == '-' || l->spec != NULL) {
            return complain("ls", "%s: %s", a,
                            a[0] == '-' ? "unknown option; see objmig --help" : "one SPEC only");
        } else {
            l->spec = a;
        }
    }
    return l->spec != NULL ? 0 : complain("ls", "give a section, SECTION:PREFIX, a URL, or rclone:NAME:BUCKET");
}

int cmd_ls(int argc, char **argv)
{
    struct ls l = {.escape = isatty(STDOUT_FILENO) == 1};
    struct errinfo err = {0};
    struct buf faults = BUF_INIT;
    struct conf *conf = NULL;
    const struct conf_remote *r = NULL;
    CLEANUP(mem_freep) char *prefix = NULL;
    struct kvlist none = {0};

    if (parse(argc, argv, &l) != 0) {
        return EXIT_USAGE;
    }
    int code = EXIT_USAGE;
    enum conf_spec kind = conf_spec_kind(l.spec);
    bool alone = kind == CONF_RCLONE || (kind == CONF_URL && l.config == NULL);
    int e = alone ? 0 : conf_load(l.config, &conf, &faults);
    if (alone) {
        conf = conf_new("");
    }
    if (e < 0) {
        if (faults.len > 0) {
            (void)fputs(buf_str(&faults), stderr);
        } else {
            (void)complain("ls", "%s",
                           e == -ENOENT ? "no configuration; give --config FILE" : strerror(-e));
        }
    } else if (conf_resolve(conf, l.spec, kind == CONF_URL ? &none : NULL, &r, &prefix, &err) < 0) {
        (void)complain("ls", "%s", err.message);
    } else if (r == NULL) { /* all */
        for (size_t k = 0; k < conf->n_remotes; k++) {
            (void)puts(conf->remotes[k]->name);
        }
        code = EXIT_DONE;
    } else {
        (void)fputs(conf->notes != NULL ? conf->notes : "", stderr);
        l.list = l.json ? json_array() : NULL;
        code = list_remote(&l, r, prefix);
        if (l.list != NULL) {
            (void)json_dumpf(l.list, stdout, JSON_COMPACT);
            (void)putchar('\n');
            json_decref(l.list);
        }
    }
    buf_fini(&faults);
    conf_free(conf);
    return code;
}
