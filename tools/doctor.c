/* objmig doctor: looks at everything mounts rest on and says what to do, a line a finding. Changes
 * nothing, but with
 * --abort-uploads. */
#include "doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "mem.h"

#define DAEMON_PATIENCE_S 5

static const char *const level_names[] = {"ok", "warn", "FAIL"};

/* ---- findings ---- */

/* One line of text, and JSON: what cannot be part of either is shown as \xNN. */
static char *line_text(const char *s)
{
    struct buf b = BUF_INIT;
    json_t *j = json_string(s);
    bool utf8 = j != NULL;

    json_decref(j);
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < ' ' || c == 0x7f || (c >= 0x80 && !utf8)) {
            (void)buf_addf(&b, "\\x%02x", c);
        } else {
            (void)buf_addc(&b, *s);
        }
    }
    char *text = mem_strdup(buf_str(&b));
    buf_fini(&b);
    return text;
}

void doctor_say(void *ctx, enum cdoctor_level level, const char *what, const char *found,
                const char *mend)
{
    struct doctor *d = ctx;
    CLEANUP(mem_freep) char *w = line_text(what);
    CLEANUP(mem_freep) char *f = line_text(found);
    CLEANUP(mem_freep) char *m = line_text(mend);

    d->n[level]++;
    if (d->json) {
        json_array_append_new(d->list,
                              json_pack("{s:s, s:s, s:s, s:s}", "level", level_names[level], "what",
                                        w, "found", f, "do", m));
        return;
    }
    (void)printf("%-4s  %s: %s%s%s\n", level_names[level], w, f, m[0] != '\0' ? "; to do: " : "",
                 m);
    (void)fflush(stdout); /* the next look may take its time */
}

void doctor_sayf(struct doctor *d, enum cdoctor_level level, const char *what, const char *mend,
                 const char *fmt, ...)
{
    CLEANUP(mem_freep) char *found = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&found, fmt, ap) < 0) {
        found = mem_strdup("(no memory)");
    }
    va_end(ap);
    doctor_say(d, level, what, found, mend);
}

static int finish(struct doctor *d)
{
    if (d->json) {
        json_t *j =
            json_pack("{s:o, s:i, s:i, s:i}", "findings", d->list, "ok", (int)d->n[CDOCTOR_OK],
                      "warn", (int)d->n[CDOCTOR_WARN], "fail", (int)d->n[CDOCTOR_FAIL]);
        (void)json_dumpf(j, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(j);
        d->list = NULL; /* was j's */
    }
    return d->n[CDOCTOR_FAIL] > 0 ? EXIT_FAILED : EXIT_DONE;
}

/* ---- command line ---- */

struct args {
    char *cache_dir, *config;
    bool cache_given, json, abort_uploads, yes;
    struct kvlist url; /* -o: what a URL may carry */
    const char **what; /* SPECs and mount points */
    size_t n;
};

static void set_path(struct args *a, const char *name, const char *value)
{
    char **p = strcmp(name, "cache") == 0 ? &a->cache_dir : &a->config;

    free(*p);
    *p = p == &a->cache_dir ? realpath(value, NULL) : NULL; /* as daemons call theirs */
    *p = *p != NULL ? *p : mem_strdup(value);
}

/* As for mount.objmig: "a,b=c\,d". What only mounting needs is passed over. */
static void parse_o(struct args *a, const char *text)
{
    struct buf item = BUF_INIT;

    for (const char *p = text;; p++) {
        if (p[0] == '\\' && (p[1] == ',' || p[1] == '\\')) {
            (void)buf_addc(&item, *++p);
        } else if (*p != ',' && *p != '\0') {
            (void)buf_addc(&item, *p);
        } else {
            char *value = item.len > 0 ? strchr(item.data, '=') : NULL;
            if (value != NULL) {
                *value++ = '\0';
                if (strcmp(item.data, "cache") == 0 || strcmp(item.data, "config") == 0) {
                    set_path(a, item.data, value);
                } else {
                    kv_set(&a->url, item.data, value);
                }
            }
            buf_clear(&item);
            if (*p == '\0') {
                break;
            }
        }
    }
    buf_fini(&item);
}

/* The value of "--name VALUE" or "--name=VALUE", or NULL when arg is another option; *k moves on.
 */
static const char *value_of(int argc, char **argv, int *k, const char *name)
{
    const char *arg = argv[*k];
    size_t len = strlen(name);

    if (strcmp(arg, name) == 0 && *k + 1 < argc) {
        return argv[++*k];
    }
    return strncmp(arg, name, len) == 0 && arg[len] == '=' ? arg + len + 1 : NULL;
}

static int parse(int argc, char **argv, struct args *a)
{
    a->what = mem_zalloc((size_t)argc * sizeof(*a->what));
    for (int k = 1; k < argc; k++) {
        const char *arg = argv[k], *v;

        if (strcmp(arg, "--json") == 0) {
            a->json = true;
        } else if (strcmp(arg, "--abort-uploads") == 0) {
            a->abort_uploads = true;
        } else if (strcmp(arg, "--yes") == 0) {
            a->yes = true;
        } else if ((v = value_of(argc, argv, &k, "--cache")) != NULL) {
            set_path(a, "cache", v);
        } else if ((v = value_of(argc, argv, &k, "--config")) != NULL) {
            set_path(a, "config", v);
        } else if ((v = value_of(argc, argv, &k, "-o")) != NULL) {
            parse_o(a, v);
        } else if (arg[0] == '-') {
            return complain("doctor", "%s: unknown or incomplete; see objmig --help", arg);
        } else {
            a->what[a->n++] = arg;
        }
    }
    a->cache_given = a->cache_dir != NULL;
    if (a->abort_uploads && a->n != 1) {
        return complain("doctor", "--abort-uploads: give one SPEC");
    }
    return EXIT_DONE;
}

static void args_fini(struct args *a)
{
    free(a->cache_dir);
    free(a->config);
    kv_fini(&a->url);
    free(a->what);
}

static bool is_path(const char *arg)
{
    return (arg[0] == '/' || arg[0] == '.') && conf_spec_kind(arg) != CONF_URL;
}

/* ---- what is to be looked at ---- */

struct targets {
    struct conf *conf; /* NULL: it cannot be read, and that has been said */
    const struct conf_remote **remotes;
    size_t n;
    struct doctor_mounts mounts;
};

static void add_remote(struct targets *t, const struct conf_remote *r)
{
    for (size_t k = 0; k < t->n; k++) {
        if (t->remotes[k] == r) {
            return;
        }
    }
    t->remotes = mem_realloc(t->remotes, (t->n + 1) * sizeof(*t->remotes));
    t->remotes[t->n++] = r;
}

static void targets_fini(struct targets *t)
{
    doctor_mounts_fini(&t->mounts);
    free(t->remotes);
    conf_free(t->conf);
}

/* Each fault a line: it names file, section, key and mend itself. */
static void read_config(struct doctor *d, const struct args *a, struct targets *t)
{
    struct buf faults = BUF_INIT;
    char *save = NULL;
    int r = conf_load(a->config, &t->conf, &faults);

    if (r == 0) {
        doctor_sayf(d, CDOCTOR_OK, "configuration", "", "%s reads, %zu remotes", t->conf->file,
                    t->conf->n_remotes);
    } else if (r == -ENOENT && faults.len == 0) {
        bool urls = a->n > 0;
        for (size_t k = 0; k < a->n; k++) {
            urls = urls && conf_spec_kind(a->what[k]) != CONF_SECTION;
        }
        if (urls) {
            t->conf = conf_new("");
        } else {
            doctor_sayf(d, CDOCTOR_FAIL, "configuration",
                        "write ~/.config/objmig/objmig.conf or /etc/objmig/objmig.conf, or give "
                        "--config FILE",
                        "there is none");
        }
    } else if (faults.len == 0) {
        doctor_sayf(d, CDOCTOR_FAIL, "configuration", "", "%s", strerror(-r));
    }
    for (char *l = faults.len > 0 ? strtok_r(faults.data, "\n", &save) : NULL; l != NULL;
         l = strtok_r(NULL, "\n", &save)) {
        doctor_say(d, CDOCTOR_FAIL, "configuration", l, "");
    }
    buf_fini(&faults);
}

/* A mount point: its daemon's cache directory is the one to look at. */
static int take_mount(struct doctor *d, struct args *a, struct targets *t, const char *path)
{
    struct doctor_mount *m = doctor_mount_of(&t->mounts, path);

    if (m == NULL) {
        doctor_sayf(d, CDOCTOR_FAIL, "mount", "mount.objmig SPEC DIR", "%s is in no objmig mount",
                    path);
        return EXIT_DONE;
    }
    m->asked = true;
    if (m->state != MOUNT_ALIVE) {
        return EXIT_DONE;
    }
    if (a->cache_dir == NULL) {
        a->cache_dir = mem_strdup(m->cache_dir);
        a->cache_given = true;
    } else if (strcmp(a->cache_dir, m->cache_dir) != 0) {
        return complain("doctor",
                        "%s belongs to the cache directory %s, not %s: ask for one at a time", path,
                        m->cache_dir, a->cache_dir);
    }
    const struct conf_remote *r =
        t->conf != NULL && m->remote != NULL ? conf_find(t->conf, m->remote) : NULL;
    if (r != NULL) {
        add_remote(t, r);
    } else if (m->remote != NULL && t->conf != NULL) {
        doctor_sayf(d, CDOCTOR_WARN, "configuration",
                    "name what it was mounted with: --config FILE, or its rclone: SPEC",
                    "%s has no section [%s], which %s shows", t->conf->file, m->remote, path);
    }
    return EXIT_DONE;
}

/* Once each, though more SPECs may follow. */
static void say_notes(struct doctor *d, struct conf *c)
{
    char *save = NULL;

    for (char *l = c->notes != NULL ? strtok_r(c->notes, "\n", &save) : NULL; l != NULL;
         l = strtok_r(NULL, "\n", &save)) {
        doctor_say(d, CDOCTOR_WARN, "configuration", l, "");
    }
    free(c->notes);
    c->notes = NULL;
}

static int take_spec(struct doctor *d, const struct args *a, struct targets *t, const char *spec)
{
    const struct conf_remote *r = NULL;
    CLEANUP(mem_freep) char *prefix = NULL;
    struct errinfo err = {0};
    enum conf_spec kind = conf_spec_kind(spec);

    if (t->conf == NULL) {
        return EXIT_DONE; /* said */
    }
    struct kvlist rclone = {0};
    kv_set(&rclone, "rclone_config", kv_get(&a->url, "rclone_config"));
    int e = conf_resolve(t->conf, spec,
                         kind == CONF_URL      ? &a->url
                         : kind == CONF_RCLONE ? &rclone
                                               : NULL,
                         &r, &prefix, &err);
    kv_fini(&rclone);
    if (e < 0) {
        return complain("doctor", "%s", err.message);
    }
    say_notes(d, t->conf);
    for (size_t k = 0; r == NULL && k < t->conf->n_remotes; k++) {
        add_remote(t, t->conf->remotes[k]);
    }
    if (r != NULL) {
        add_remote(t, r);
    }
    return EXIT_DONE;
}

static int take_all(struct doctor *d, struct args *a, struct targets *t)
{
    int code = EXIT_DONE;

    for (size_t k = 0; k < a->n && code == EXIT_DONE; k++) {
        code = is_path(a->what[k]) ? take_mount(d, a, t, a->what[k]) : take_spec(d, a, t, a->what[k]);
    }
    for (size_t k = 0; a->n == 0 && t->conf != NULL && k < t->conf->n_remotes; k++) {
        add_remote(t, t->conf->remotes[k]);
    }
    struct errinfo err = {0};
    if (code == EXIT_DONE && a->cache_dir == NULL && cache_default_dir(&a->cache_dir, &err) < 0) {
        code = complain("doctor", "%s", err.message);
    }
    return code;
}

/* ---- the daemon and its work ---- */

static uint64_t number(const json_t *j, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(j, name));
}

static void say_failed(struct doctor *d, const json_t *status, const char *dir)
{
    const json_t *pending = json_object_get(status, "pending"),
                 *failures = json_object_get(status, "failures"), *one;
    uint64_t lost = 0, failed = number(pending, "failed"), conflict = number(pending, "conflict");
    CLEANUP(mem_freep)
    char *retry = mem_printf("objmig errors --cache %s names them; mend the cause, then objmig "
                             "retry, or objmig discard to give "
                             "the local content up",
                             dir);
    size_t k;

    json_array_foreach(failures, k, one)
    {
        const char *message = json_string_value(json_object_get(one, "message"));
        lost += message != NULL && strncmp(message, "LOST", 4) == 0;
    }
    if (lost > 0) {
        CLEANUP(mem_freep)
        char *mend = mem_printf("objmig errors --cache %s names them; write them again from their "
                                "source, or objmig discard",
                                dir);
        doctor_sayf(d, CDOCTOR_FAIL, "work", mend, "%llu files LOST in a power cut",
                    (unsigned long long)lost);
    }
    if (failed > lost) {
        doctor_sayf(d, CDOCTOR_FAIL, "work", retry, "%llu files failed for good (BLOCKED)",
                    (unsigned long long)(failed - lost));
    }
    if (conflict > 0) {
        CLEANUP(mem_freep)
        char *mend = mem_printf("objmig errors --cache %s names them; objmig retry puts ours in "
                                "their place, objmig discard keeps "
                                "theirs",
                                dir);
        doctor_sayf(d, CDOCTOR_FAIL, "work", mend,
                    "%llu files in CONFLICT: somebody else has changed them at the provider",
                    (unsigned long long)conflict);
    }
}

static void say_work(struct doctor *d, const json_t *status, const char *dir, bool daemon)
{
    const json_t *pending = json_object_get(status, "pending");
    uint64_t files = number(pending, "files"), unfinished = number(pending, "unfinished");
    const char *journal = json_string_value(json_object_get(status, "journal"));
    unsigned fails = d->n[CDOCTOR_FAIL];

    say_failed(d, status, dir);
    if (unfinished > 0) {
        CLEANUP(mem_freep)
        char *mend = mem_printf(
            "objmig status --cache %s names them; write them again, or objmig discard", dir);
        doctor_sayf(d, CDOCTOR_WARN, "work", mend,
                    "%llu files were cut off while being written, and are not published",
                    (unsigned long long)unfinished);
    }
    if (files > 0 && !daemon) {
        doctor_sayf(d, CDOCTOR_WARN, "work", "mount again: they go on by themselves",
                    "%llu files are not uploaded yet, and no daemon runs",
                    (unsigned long long)files);
    }
    if (journal != NULL && strcmp(journal, "failed") == 0) {
        doctor_sayf(d, CDOCTOR_FAIL, "journal",
                    "look at its log and at the disk; unmount and mount again",
                    "the daemon cannot write it any more");
    } else if (journal != NULL && strcmp(journal, "full") == 0) {
        doctor_sayf(d, CDOCTOR_FAIL, "journal", "make room on its disk",
                    "the daemon finds no room to write it");
    }
    if (fails == d->n[CDOCTOR_FAIL]) {
        doctor_sayf(d, CDOCTOR_OK, "work", "", "nothing failed, %llu files queued",
                    (unsigned long long)files);
    }
}

static void say_paused(struct doctor *d, const json_t *status)
{
    const json_t *one;
    size_t k;

    json_array_foreach(json_object_get(status, "remotes"), k, one)
    {
        if (json_is_true(json_object_get(one, "paused"))) {
            CLEANUP(mem_freep)
            char *what = mem_printf("remote [%s]", json_string_value(json_object_get(one, "name")));
            doctor_sayf(d, CDOCTOR_WARN, what,
                        "see what is said of it below; objmig retry tries at once",
                        "the daemon has paused it: it refuses us");
        }
    }
}

static json_t *ask_daemon(struct doctor *d, const char *dir, int32_t pid)
{
    struct common o = {.cache_dir = dir};
    struct client c;
    struct errinfo err = {0};
    json_t *answer = NULL, *status = NULL;
    int r = client_open(&c, &o, &err);

    if (r == 0 && c.fd < 0) {
        r = err_set(&err, ERR_LOCAL, -ECONNREFUSED, "its control socket is closed");
    }
    if (r == 0) {
        client_patience(&c, DAEMON_PATIENCE_S);
        r = client_call(&c, "status", NULL, &answer, &err);
    }
    client_close(&c);
    if (r < 0) {
        CLEANUP(mem_freep)
        char *mend = mem_printf("it may be starting or ending: ask again; if it stays so, kill -9 "
                                "%d and mount again: what was "
                                "accepted goes on",
                                (int)pid);
        doctor_sayf(d, CDOCTOR_FAIL, "daemon", mend, "pid %d holds %s, but does not answer: %s",
                    (int)pid, dir, err.message);
        return NULL;
    }
    const char *text = json_string_value(json_object_get(answer, "text"));
    status = text != NULL ? json_loads(text, 0, NULL) : NULL;
    json_decref(answer);
    const char *version = json_string_value(json_object_get(status, "version"));
    if (version == NULL || strcmp(version, OBJMIG_VERSION) != 0) {
        doctor_sayf(d, CDOCTOR_WARN, "daemon", "unmount all and mount again",
                    "pid %d is of version %s, this program of " OBJMIG_VERSION, (int)pid,
                    version != NULL ? version : "?");
    } else {
        doctor_sayf(d, CDOCTOR_OK, "daemon", "", "pid %d answers", (int)pid);
    }
    return status;
}

static int note_attached(void *ctx, const char *dir, const char *spec, const char *options)
{
    struct doctor_mounts *m = ctx;

    (void)spec;
    (void)options;
    for (size_t k = 0; k < m->n; k++) {
        m->items[k].asked = m->items[k].asked || strcmp(m->items[k].at->dir, dir) == 0;
    }
    return 0;
}

/* What the journal says, and whose the mounts are. */
static json_t *ask_journal(const char *dir, struct doctor_mounts *m)
{
    struct cache *cache;
    struct cscope everything = {0};
    struct errinfo err = {0};
    struct buf text = BUF_INIT;
    json_t *status = NULL;

    if (cache_open_readonly(dir, &cache, &err) == 0) {
        (void)cache_attach_each(cache, note_attached, m);
        if (cache_status(cache, &everything, &text) == 0) {
            status = json_loads(buf_str(&text), 0, NULL);
        }
        cache_close(cache);
    }
    buf_fini(&text);
    return status;
}

/* ---- all of it ---- */

static void look_at_cache(struct doctor *d, struct cdoctor *c, const char *dir,
                          struct doctor_mounts *m)
{
    int32_t pid = 0;
    json_t *status = NULL, *of_journal = NULL;

    if (cache_doctor_dir(c, &pid)) {
        if (pid != 0) {
            status = ask_daemon(d, dir, pid);
        }
        of_journal = cache_doctor_journal(c) ? ask_journal(dir, m) : NULL;
        if (status != NULL || of_journal != NULL) {
            say_work(d, status != NULL ? status : of_journal, dir, pid != 0);
            say_paused(d, status);
        }
    }
    json_decref(status);
    json_decref(of_journal);
    doctor_mounts_say(d, m);
}

static bool confirmed(size_t n)
{
    char answer[16];

    if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) {
        return false;
    }
    (void)printf("abort %zu uploads and lose what was sent of them? [y/N] ", n);
    (void)fflush(stdout);
    return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int abort_uploads(struct doctor *d, struct cdoctor *c, const struct args *a,
                         const struct conf_remote *r)
{
    struct cstrays s = {0};
    struct errinfo err = {0};
    int code = EXIT_DONE;

    if (cache_doctor_strays(c, r, &s, &err) < 0) {
        code = complain("doctor", "%s", err.message);
    } else if (s.no_journal && !a->cache_given) {
        code = complain("doctor",
                        "%s has no journal that would tell which uploads are in use: name the "
                        "cache directory with --cache",
                        a->cache_dir);
    } else if (s.n == 0) {
        CLEANUP(mem_freep) char *what = mem_printf("uploads of [%s]", r->name);
        doctor_sayf(d, CDOCTOR_OK, what, "", "none to abort");
    } else {
        for (size_t k = 0; k < s.n && !a->yes && !d->json; k++) {
            CLEANUP(mem_freep) char *key = line_text(s.items[k].key);
            (void)printf("key \"%s\", upload %s, %lld hours old\n", key, s.items[k].upload_id,
                         (long long)s.items[k].age_s / 3600);
        }
        if (!a->yes && (d->json || !confirmed(s.n))) {
            code = complain("doctor", "nothing was aborted; --yes aborts these %zu uploads", s.n);
        } else if (cache_doctor_abort(c, r, &s, &err) < 0) {
            code = complain("doctor", "%s", err.message);
        }
    }
    cache_strays_fini(&s);
    return code == EXIT_DONE ? finish(d) : code;
}

static int examine(struct doctor *d, struct args *a, struct targets *t)
{
    struct cdoctor *c;
    struct errinfo err = {0};
    int code = EXIT_DONE;

    if (a->abort_uploads && t->n != 1) {
        return t->conf == NULL ? finish(d) : complain("doctor", "--abort-uploads: give one remote");
    }
    if (cache_doctor_new(a->cache_dir, doctor_say, d, &c, &err) < 0) {
        return complain("doctor", "%s", err.message);
    }
    if (a->abort_uploads) {
        code = abort_uploads(d, c, a, t->remotes[0]);
    } else {
        look_at_cache(d, c, a->cache_dir, &t->mounts);
        for (size_t k = 0; k < t->n; k++) {
            cache_doctor_remote(c, t->remotes[k]);
        }
        code = finish(d);
    }
    cache_doctor_free(c);
    return code;
}

int cmd_doctor(int argc, char **argv)
{
    struct args a = {0};
    struct targets t = {0};
    struct doctor d = {0};
    int code = parse(argc, argv, &a);

    if (code == EXIT_DONE) {
        (void)log_open("/dev/null", LOG_LEVEL_ERROR); /* what is wrong is said as a finding */
        d.json = a.json;
        d.list = a.json ? json_array() : NULL;
        doctor_mounts_read(&t.mounts); /* forks: before there are threads */
        if (!a.abort_uploads) {
            doctor_fuse(&d);
        }
        read_config(&d, &a, &t);
        code = take_all(&d, &a, &t);
        if (code == EXIT_DONE) {
            code = examine(&d, &a, &t);
        }
        targets_fini(&t);
        json_decref(d.list);
    }
    args_fini(&a);
    return code;
}
