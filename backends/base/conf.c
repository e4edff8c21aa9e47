/* The file is read as a whole and taken apart in three steps: lines (conf_lines.c), sections of
 * known keys (struct raw), checked remotes (conf_remote.c). A fault never stops a step: the user
 * gets all of them at once, in the order of lines.
 *
 * A fault names the key but shows a value only of keys that cannot hold a secret, and never a line
 * that is no pair: that is what a secret pasted in the wrong place looks like. */
#include "conf_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_rclone.h"
#include "mem.h"

struct secret *secret_new(const char *s)
{
    size_t len = strlen(s);
    struct secret *secret = mem_zalloc(sizeof(*secret) + len + 1);
    secret->len = len;
    memcpy(secret->bytes, s, len);
    return secret;
}

void secret_free(struct secret *s)
{
    if (s) {
        explicit_bzero(s->bytes, s->len);
        free(s);
    }
}

static void loader_fini(struct loader *l)
{
    for (size_t i = 0; i < l->n_raws; i++) {
        conf_raw_free(l->raws[i]);
    }
    for (size_t i = 0; i < l->n_faults; i++) {
        free(l->faults[i].text);
    }
    free(l->raws);
    free(l->faults);
    *l = (struct loader){0};
}

void conf_fault(struct loader *l, int line, const char *section, const char *key, const char *fmt,
                ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);

    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    int err = buf_adds(&text, l->file);
    if (err == 0 && line > 0) {
        err = buf_addf(&text, ":%d", line);
    }
    if (err == 0 && text.len > 0) {
        err = buf_adds(&text, ": ");
    }
    if (err == 0 && section) {
        err = buf_addf(&text, "[%s] ", section);
    }
    if (err == 0 && key) {
        err = buf_addf(&text, "%s: ", key);
    }
    if (err == 0) {
        err = buf_adds(&text, what);
    }
    ENSURE(err == 0);
    for (size_t i = 0; i < text.len; i++) {
        if (iscntrl((unsigned char)text.data[i])) {
            text.data[i] = '?'; /* one fault, one line */
        }
    }
    l->faults = mem_realloc(l->faults, (l->n_faults + 1) * sizeof(*l->faults));
    l->faults[l->n_faults] =
        (struct fault){.line = line, .order = l->n_faults, .text = buf_take(&text)};
    l->n_faults++;
}

static void conf_section(struct lines *s)
{
    struct loader *l = s->loader;
    const char *bad = conf_section_fault(s->section);
    if (bad) {
        conf_fault(l, s->line, s->section, NULL, "%s", bad);
    }
    for (size_t i = 0; i < l->n_raws; i++) {
        if (!bad && strcmp(l->raws[i]->name, s->section) == 0) {
            conf_fault(l, s->line, s->section, NULL, "already at line %d; join or rename them",
                       l->raws[i]->line);
            break;
        }
    }
    struct raw *raw = mem_zalloc(sizeof(*raw));
    raw->name = mem_strdup(s->section);
    raw->line = s->line;
    l->raws = mem_realloc(l->raws, (l->n_raws + 1) * sizeof(struct raw *));
    l->raws[l->n_raws++] = raw;
}

static void conf_pair(struct lines *s, const char *name, const char *value)
{
    struct loader *l = s->loader;
    if (!s->section) {
        conf_fault(l, s->line, NULL, conf_shown_key(name),
                   "a key before any section; put [NAME] above it");
        return;
    }
    conf_raw_set(l, l->raws[l->n_raws - 1], s->line, name, value);
}

static void conf_bad_line(struct lines *s, const char *what)
{
    conf_fault(s->loader, s->line, s->section, NULL, "%s", what);
}

static void add_remote(struct conf *c, struct conf_remote *r)
{
    c->remotes = mem_realloc(c->remotes, (c->n_remotes + 1) * sizeof(struct conf_remote *));
    c->remotes[c->n_remotes++] = r;
}

struct conf *conf_new(const char *file)
{
    struct conf *c = mem_zalloc(sizeof(*c));
    c->file = mem_strdup(file);
    return c;
}

void conf_free(struct conf *c)
{
    if (!c) {
        return;
    }
    for (size_t i = 0; i < c->n_remotes; i++) {
        conf_remote_free(c->remotes[i]);
    }
    free(c->remotes);
    free(c->file);
    free(c->notes);
    free(c);
}

static void conf_freep(struct conf **c)
{
    conf_free(*c);
}

const struct conf_remote *conf_find(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < c->n_remotes; i++) {
        if (strcmp(c->remotes[i]->name, name) == 0) {
            return c->remotes[i];
        }
    }
    return NULL;
}

/* Faults of one line stay in the order they were found. */
static int by_line(const void *a, const void *b)
{
    const struct fault *x = a, *y = b;
    if (x->line != y->line) {
        return x->line < y->line ? -1 : 1;
    }
    return (x->order > y->order) - (x->order < y->order);
}

/* Faults into the caller's buffer; 0 when there was none. */
static int report(struct loader *l, struct buf *ret_faults)
{
    if (l->n_faults == 0) {
        return 0;
    }
    qsort(l->faults, l->n_faults, sizeof(*l->faults), by_line);
    for (size_t i = 0; i < l->n_faults; i++) {
        (void)buf_addf(ret_faults, "%s\n", l->faults[i].text);
    }
    return l->mode_fault ? -EPERM : -EINVAL;
}

/* The path to read, owned by the caller; NULL when there is none. *ret_given: somebody named it, so
 * it must exist. */
static char *choose_path(const char *path, bool *ret_given)
{
    *ret_given = true;
    if (path && path[0] != '\0') {
        return mem_strdup(path);
    }
    const char *env = getenv("OBJMIG_CONFIG");
    if (env && env[0] != '\0') {
        return mem_strdup(env);
    }
    *ret_given = false;
    const char *home = conf_home_dir();
    if (home) {
        CLEANUP(mem_freep) char *own = mem_printf("%s/.config/objmig/objmig.conf", home);
        if (access(own, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR)) {
            return TAKE(own);
        }
    }
    static const char system_wide[] = "/etc/objmig/objmig.conf";
    return access(system_wide, F_OK) == 0 ? mem_strdup(system_wide) : NULL;
}

static void check_mode(struct loader *l, const struct stat *st)
{
    if (l->has_secret && (st->st_mode & 07777 & ~0640U) != 0) {
        conf_fault(l, 0, NULL, NULL,
                   "holds secrets, so its mode must be 0600 or 0640, not %04o; chmod 600 %s",
                   (unsigned)st->st_mode & 07777, l->file);
        l->mode_fault = true;
    }
}

static const char *why_unread(int err)
{
    return err == -EFBIG    ? "larger than 1 MiB"
           : err == -EINVAL ? "not a regular file"
                            : strerror(-err);
}

int conf_load(const char *path, struct conf **ret_conf, struct buf *ret_faults)
{
    bool given;
    CLEANUP(mem_freep) char *file = choose_path(path, &given);
    if (!file) {
        return -ENOENT;
    }
    CLEANUP(loader_fini) struct loader l = {.file = file};
    CLEANUP(conf_buf_wipe) struct buf text = BUF_INIT;
    struct stat st;
    int err = conf_file_read(file, &text, &st);
    struct lines lines = {
        .on_section = conf_section, .on_pair = conf_pair, .on_fault = conf_bad_line, .loader = &l};
    if (err == 0) {
        err = conf_lines_read(&lines, buf_str(&text), text.len);
        if (err == -EINVAL) {
            conf_fault(&l, 0, NULL, NULL, "not a text file; name another");
            return report(&l, ret_faults);
        }
    }
    if (err < 0) {
        conf_fault(&l, 0, NULL, NULL, "cannot be read: %s; mend or name another", why_unread(err));
        (void)report(&l, ret_faults);
        return err;
    }
    CLEANUP(conf_freep) struct conf *c = conf_new(file);
    for (size_t i = 0; i < l.n_raws; i++) {
        add_remote(c, conf_remote_make(&l, l.raws[i]));
    }
    check_mode(&l, &st);
    if (l.n_raws == 0 && l.n_faults == 0) {
        conf_fault(&l, 0, NULL, NULL, "names no remote; add a section [NAME]");
    }
    err = report(&l, ret_faults);
    if (err < 0) {
        return err;
    }
    *ret_conf = TAKE(c);
    return 0;
}

/* ---- SOURCE ---- */

/* What follows the remote in a SPEC, made "" or ending in '/'. */
static int take_prefix(const char *s, char **ret_prefix, struct errinfo *reterr)
{
    if (s[0] == '/') {
        return err_set(reterr, ERR_INVALID, -EINVAL, "prefix \"%s\": keys do not start with '/'",
                       s);
    }
    size_t n = strlen(s);
    *ret_prefix = n > 0 && s[n - 1] != '/' ? mem_printf("%s/", s) : mem_strdup(s);
    return 0;
}

/* A name for the remote of a URL that no other has: it becomes a directory. */
static char *free_name(const struct conf *c, const char *scheme, const char *what)
{
    CLEANUP(mem_freep) char *name = mem_strdup(what);
    if (conf_section_fault(name)) {
        free(name);
        name = mem_strdup(scheme);
    }
    if (conf_find(c, name)) {
        char *longer = mem_printf("%s-%s", scheme, name);
        free(name);
        name = longer;
    }
    CLEANUP(mem_freep) char *stem = mem_strdup(name);
    for (unsigned i = 2; conf_find(c, name); i++) {
        free(name);
        name = mem_printf("%s-%u", stem, i);
    }
    return TAKE(name);
}

static void raw_freep(struct raw **raw)
{
    conf_raw_free(*raw);
}

static void remote_freep(struct conf_remote **r)
{
    conf_remote_free(*r);
}

/* Gives a remote to the configuration, or has one there already that differs in nothing but its name. */
static const struct conf_remote *adopt(struct conf *c, struct conf_remote *r)
{
    for (size_t i = 0; i < c->n_remotes; i++) {
        if (conf_remote_same(c->remotes[i], r)) {
            conf_remote_free(r);
            return c->remotes[i];
        }
    }
    add_remote(c, r);
    return r;
}

static int resolve_url(struct conf *c, const struct provider *p, const char *rest,
                       const struct kvlist *options, const struct conf_remote **ret_remote,
                       char **ret_prefix, struct errinfo *reterr)
{
    CLEANUP(loader_fini) struct loader l = {.file = ""};
    CLEANUP(raw_freep) struct raw *raw = mem_zalloc(sizeof(*raw));
    CLEANUP(mem_freep) char *prefix = NULL;
    CLEANUP(mem_freep) char *what = NULL;
    int err;
    if (p->bit == P_LOCAL) {
        size_t n = strlen(rest);
        while (n > 1 && rest[n - 1] == '/') {
            n--;
        }
        char *dir = mem_strndup(rest, n);
        const char *last = strrchr(dir, '/');
        raw->vals[KEY_PATH].value = dir;
        what = mem_strdup(last ? last + 1 : dir);
        err = take_prefix("", &prefix, reterr);
    } else {
        size_t n = strcspn(rest, "/");
        what = mem_strndup(rest, n);
        raw->vals[KEY_BUCKET].value = mem_strdup(what);
        err = take_prefix(rest[n] == '/' ? rest + n + 1 : "", &prefix, reterr);
    }
    if (err < 0) {
        return err;
    }
    raw->name = free_name(c, p->scheme, what);
    raw->vals[KEY_PROVIDER].value = mem_strdup(p->name);
    for (size_t i = 0; options && i < options->n; i++) {
        const struct kv *option = &options->items[i];
        if (conf_key_is_secret(option->name)) {
            return err_set(
                reterr, ERR_INVALID, -EINVAL,
                "%s: an option shows in ps; set the environment or use a configuration file",
                option->name);
        }
        conf_raw_set(&l, raw, 0, option->name, option->value);
    }
    CLEANUP(remote_freep) struct conf_remote *r = conf_remote_make(&l, raw);
    if (l.n_faults > 0) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "%s", l.faults[0].text);
    }
    *ret_remote = adopt(c, TAKE(r));
    *ret_prefix = TAKE(prefix);
    return 0;
}

/* ---- rclone's ---- */

#define RCLONE "rclone:"

/* Where rclone looks, but for the directory its program is in; the last one when there is none. Absolute: it is read again. */
static char *rclone_file(const char *given)
{
    const char *env = getenv("RCLONE_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"), *home = conf_home_dir();
    given = given ? given : env && env[0] != '\0' ? env : NULL;
    if (given) {
        char *whole = realpath(given, NULL);
        return whole ? whole : mem_strdup(given);
    }
    char *path = xdg && xdg[0] != '\0' ? mem_printf("%s/rclone/rclone.conf", xdg)
                                       : mem_printf("%s/.config/rclone/rclone.conf", home ? home : "");
    if (access(path, F_OK) < 0) {
        CLEANUP(mem_freep) char *old = mem_printf("%s/.rclone.conf", home ? home : "");
        if (access(old, F_OK) == 0) {
            free(path);
            path = TAKE(old);
        }
    }
    return path;
}

/* Lines of faults that are none. */
static void add_notes(struct conf *c, struct loader *notes)
{
    CLEANUP(buf_fini) struct buf all = BUF_INIT;
    (void)buf_adds(&all, c->notes ? c->notes : "");
    (void)report(notes, &all);
    free(c->notes);
    c->notes = all.len > 0 ? buf_take(&all) : NULL;
}

static int resolve_rclone(struct conf *c, const char *place, const struct kvlist *options,
                          const struct conf_remote **ret_remote, char **ret_prefix,
                          struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *path = rclone_file(options ? kv_get(options, "rclone_config") : NULL);
    CLEANUP(loader_fini) struct loader l = {.file = path};
    CLEANUP(loader_fini) struct loader notes = {.file = path};
    CLEANUP(conf_buf_wipe) struct buf text = BUF_INIT;
    CLEANUP(mem_freep) char *prefix = NULL;
    struct stat st;
    for (size_t i = 0; options && i < options->n; i++) {
        if (strcmp(options->items[i].name, "rclone_config") != 0) {
            return err_set(reterr, ERR_INVALID, -EINVAL,
                           "%s: an option of URLs; rclone's remotes have theirs in %s",
                           options->items[i].name, path);
        }
    }
    if (!strchr(place, ':')) {
        return err_set(reterr, ERR_INVALID, -EINVAL, "which bucket? write rclone:%.80s:BUCKET",
                       place[0] != '\0' ? place : "NAME");
    }
    int err = conf_file_read(path, &text, &st);
    if (err < 0) {
        return err_set(reterr, ERR_INVALID, err,
                       "%s: cannot be read: %s; name rclone's configuration in RCLONE_CONFIG or -o "
                       "rclone_config=FILE",
                       path, why_unread(err));
    }
    const struct rclone_file file = {buf_str(&text), text.len, conf_home_dir()};
    CLEANUP(raw_freep) struct raw *raw = conf_rclone_import(&l, &notes, &file, place, &prefix);
    CLEANUP(remote_freep) struct conf_remote *r = raw ? conf_remote_make(&l, raw) : NULL;
    check_mode(&l, &st);
    if (l.n_faults > 0) {
        const struct fault *first = l.faults;
        for (size_t i = 1; i < l.n_faults; i++) {
            first = by_line(&l.faults[i], first) < 0 ? &l.faults[i] : first;
        }
        return err_set(reterr, ERR_INVALID, l.mode_fault ? -EPERM : -EINVAL, "%s", first->text);
    }
    add_notes(c, &notes);
    if (c->file[0] == '\0') {
        free(c->file);
        c->file = TAKE(path);
    }
    *ret_remote = adopt(c, TAKE(r));
    *ret_prefix = TAKE(prefix);
    return 0;
}

enum conf_spec conf_spec_kind(const char *spec)
{
    if (strncmp(spec, RCLONE, strlen(RCLONE)) == 0) { /* no section has that name */
        return CONF_RCLONE;
    }
    return strstr(spec, "://") ? CONF_URL : CONF_SECTION;
}

int conf_resolve(struct conf *c, const char *spec, const struct kvlist *options,
                 const struct conf_remote **ret_remote, char **ret_prefix, struct errinfo *reterr)
{
    enum conf_spec kind = conf_spec_kind(spec);
    if (kind == CONF_RCLONE) {
        return resolve_rclone(c, spec + strlen(RCLONE), options, ret_remote, ret_prefix, reterr);
    }
    if (kind == CONF_URL) {
        const char *url = strstr(spec, "://");
        for (size_t i = 0; i < conf_n_providers; i++) {
            const struct provider *p = &conf_providers[i];
            if (p->scheme && strlen(p->scheme) == (size_t)(url - spec) &&
                strncasecmp(spec, p->scheme, (size_t)(url - spec)) == 0) {
                return resolve_url(c, p, url + 3, options, ret_remote, ret_prefix, reterr);
            }
        }
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "%.80s: unknown scheme; use file:// or that of a provider, as s3:// or cos://", spec);
    }
    if (options && options->n > 0) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "%s: an option of URLs; set it in the configuration",
                       options->items[0].name);
    }
    if (strcmp(spec, "all") == 0) {
        *ret_remote = NULL;
        *ret_prefix = mem_strdup("");
        return 0;
    }
    const char *colon = strchr(spec, ':');
    CLEANUP(mem_freep)
    char *name = mem_strndup(spec, colon ? (size_t)(colon - spec) : strlen(spec));
    const struct conf_remote *r = conf_find(c, name);
    if (r) {
        int err = take_prefix(colon ? colon + 1 : "", ret_prefix, reterr);
        if (err == 0) {
            *ret_remote = r;
        }
        return err;
    }
    const char *near = NULL;
    unsigned d = UINT32_MAX;
    for (size_t i = 0; i < c->n_remotes; i++) {
        conf_nearer(name, c->remotes[i]->name, &near, &d);
    }
    const char *where = c->file[0] != '\0' ? c->file : "the configuration";
    if (near) {
        return err_set(reterr, ERR_INVALID, -ENOENT, "no section [%s] in %s; did you mean %s?",
                       name, where, near);
    }
    return err_set(reterr, ERR_INVALID, -ENOENT, "no section [%s] in %s; add it, or use a URL",
                   name, where);
}
