/* See options.h. One table: what an option does, and whether the daemon's other mounts share it. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/mount.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"

enum kind {
    GENERIC, /* accepted, means nothing here */
    MOUNT_FLAG,
    DAEMON, /* one value for all mounts of a cache directory */
    OWN,
};

struct opt {
    const char *name;
    enum kind kind;
    bool value;        /* takes one */
    uint64_t set, clr; /* MOUNT_FLAG */
};

static const struct opt table[] = {
    {"defaults", GENERIC, false, 0, 0},
    {"auto", GENERIC, false, 0, 0},
    {"noauto", GENERIC, false, 0, 0},
    {"user", GENERIC, false, 0, 0},
    {"nouser", GENERIC, false, 0, 0},
    {"users", GENERIC, false, 0, 0},
    {"owner", GENERIC, false, 0, 0},
    {"group", GENERIC, false, 0, 0},
    {"_netdev", GENERIC, false, 0, 0},
    {"nofail", GENERIC, false, 0, 0},
    {"async", GENERIC, false, 0, 0},
    {"silent", GENERIC, false, 0, 0},
    {"loud", GENERIC, false, 0, 0},
    {"mand", GENERIC, false, 0, 0},
    {"nomand", GENERIC, false, 0, 0},
    {"iversion", GENERIC, false, 0, 0},
    {"noiversion", GENERIC, false, 0, 0},
    {"diratime", GENERIC, false, 0, 0},
    {"lazytime", GENERIC, false, 0, 0},
    {"nolazytime", GENERIC, false, 0, 0},
    {"atime", GENERIC, false, 0, 0}, /* access times are not kept, whatever is asked */
    {"relatime", GENERIC, false, 0, 0},
    {"norelatime", GENERIC, false, 0, 0},
    {"strictatime", GENERIC, false, 0, 0},
    {"nostrictatime", GENERIC, false, 0, 0},
    {"default_permissions", GENERIC, false, 0, 0},
    {"rw", MOUNT_FLAG, false, 0, MOUNT_ATTR_RDONLY},
    {"ro", MOUNT_FLAG, false, MOUNT_ATTR_RDONLY, 0},
    {"noatime", GENERIC, false, 0, 0},
    {"nodiratime", GENERIC, false, 0, 0},
    {"exec", MOUNT_FLAG, false, 0, MOUNT_ATTR_NOEXEC},
    {"noexec", MOUNT_FLAG, false, MOUNT_ATTR_NOEXEC, 0},
    {"suid", MOUNT_FLAG, false, 0, MOUNT_ATTR_NOSUID},
    {"nosuid", MOUNT_FLAG, false, MOUNT_ATTR_NOSUID, 0},
    {"dev", MOUNT_FLAG, false, 0, MOUNT_ATTR_NODEV},
    {"nodev", MOUNT_FLAG, false, MOUNT_ATTR_NODEV, 0},
    {"symfollow", MOUNT_FLAG, false, 0, MOUNT_ATTR_NOSYMFOLLOW},
    {"nosymfollow", MOUNT_FLAG, false, MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"config", OWN, true, 0, 0},
    {"rclone_config", OWN, true, 0, 0},
    {"cache", OWN, true, 0, 0},
    {"remount", OWN, false, 0, 0},
    {"direct", OWN, false, 0, 0},
    {"allow_other", OWN, false, 0, 0},
    {"loglevel", OWN, true, 0, 0},
    {"log", DAEMON, true, 0, 0},
    {"cache_size", DAEMON, true, 0, 0},
    {"memory", DAEMON, true, 0, 0},
    {"writeback_delay", DAEMON, true, 0, 0},
    {"list_ttl", DAEMON, true, 0, 0},
    {"wait_timeout", DAEMON, true, 0, 0},
    {"stop_timeout", DAEMON, true, 0, 0},
    {"close", DAEMON, true, 0, 0},
    {"conflict", DAEMON, true, 0, 0},
    {"uid", DAEMON, true, 0, 0},
    {"gid", DAEMON, true, 0, 0},
    {"umask", DAEMON, true, 0, 0},
    {"bwlimit", DAEMON, true, 0, 0},
    {"attr", DAEMON, true, 0, 0},
    {"dirmarker", DAEMON, true, 0, 0},
};

static int bad(struct errinfo *reterr, const char *name, const char *value, const char *mend)
{
    return err_set(reterr, ERR_INVALID, -EINVAL, "option %s=%.80s: %s", name, value, mend);
}

static char *absolute(const char *path)
{
    char cwd[PATH_MAX];

    if (path[0] == '/' || getcwd(cwd, sizeof(cwd)) == NULL) {
        return mem_strdup(path);
    }
    return mem_printf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
}

static void set_string(char **p, char *value)
{
    free(*p);
    *p = value;
}

/* Seconds, perhaps with a fraction, up to a year. */
static int parse_seconds(const char *s, unsigned *ret_ms)
{
    char *end;
    double v;

    if (*s < '0' || *s > '9') {
        return -EINVAL;
    }
    errno = 0;
    v = strtod(s, &end);
    if (errno != 0 || (*end != '\0' && strcmp(end, "s") != 0) || !(v >= 0 && v <= 4000000)) {
        return -EINVAL;
    }
    *ret_ms = (unsigned)(v * 1000 + 0.5);
    return 0;
}

static int parse_number(const char *s, int base, unsigned long max, unsigned long *ret)
{
    char *end;

    if (*s < '0' || *s > '9') {
        return -EINVAL;
    }
    errno = 0;
    *ret = strtoul(s, &end, base);
    return errno != 0 || *end != '\0' || *ret > max ? -EINVAL : 0;
}

static int choose(const char *value, const char *const *names, size_t n, unsigned *ret)
{
    for (size_t k = 0; k < n; k++) {
        if (strcmp(value, names[k]) == 0) {
            *ret = (unsigned)k;
            return 0;
        }
    }
    return -EINVAL;
}

static const char *const close_names[] = {"journal", "remote"};
static const char *const conflict_names[] = {"last", "check"};
static const char *const attr_names[] = {"auto", "list", "head"};
static const char *const marker_names[] = {"empty", "always", "never"};

static int set_size(const char *name, const char *value, uint64_t *ret, struct errinfo *reterr)
{
    return conf_parse_size(value, ret) < 0
               ? bad(reterr, name, value, "give bytes, as in 512M or 10G")
               : 0;
}

static int set_seconds(const char *name, const char *value, unsigned *ret_ms,
                       struct errinfo *reterr)
{
    return parse_seconds(value, ret_ms) < 0
               ? bad(reterr, name, value, "give seconds, as in 1 or 0.5")
               : 0;
}

static int set_daemon(struct options *o, const char *name, const char *value,
                      struct errinfo *reterr)
{
    struct cache_options *c = &o->cache;
    unsigned long n;
    unsigned pick, ms;

    if (strcmp(name, "log") == 0) {
        set_string(&o->log, absolute(value));
        return 0;
    }
    if (strcmp(name, "cache_size") == 0) {
        return set_size(name, value, &c->cache_size, reterr);
    }
    if (strcmp(name, "memory") == 0) {
        return set_size(name, value, &c->memory, reterr);
    }
    if (strcmp(name, "bwlimit") == 0) {
        return set_size(name, value, &c->bwlimit, reterr);
    }
    if (strcmp(name, "writeback_delay") == 0) {
        return set_seconds(name, value, &c->writeback_delay_ms, reterr);
    }
    if (strcmp(name, "list_ttl") == 0) {
        return set_seconds(name, value, &c->list_ttl_ms, reterr);
    }
    if (strcmp(name, "wait_timeout") == 0) {
        return set_seconds(name, value, &c->wait_timeout_ms, reterr);
    }
    if (strcmp(name, "stop_timeout") == 0) {
        int r = set_seconds(name, value, &ms, reterr);
        o->stop_timeout_s = r == 0 ? ms / 1000 : o->stop_timeout_s;
        return r;
    }
    if (strcmp(name, "close") == 0) {
        if (choose(value, close_names, ARRAY_LEN(close_names), &pick) < 0) {
            return bad(reterr, name, value, "give journal or remote");
        }
        c->close_remote = pick == 1;
        return 0;
    }
    if (strcmp(name, "conflict") == 0) {
        if (choose(value, conflict_names, ARRAY_LEN(conflict_names), &pick) < 0) {
            return bad(reterr, name, value, "give last or check");
        }
        c->conflict_check = pick == 1;
        return 0;
    }
    if (strcmp(name, "attr") == 0) {
        if (choose(value, attr_names, ARRAY_LEN(attr_names), &pick) < 0) {
            return bad(reterr, name, value, "give auto, list or head");
        }
        c->attr = (enum cache_attr)pick;
        return 0;
    }
    if (strcmp(name, "dirmarker") == 0) {
        if (choose(value, marker_names, ARRAY_LEN(marker_names), &pick) < 0) {
            return bad(reterr, name, value, "give empty, always or never");
        }
        c->dirmarker = (enum cache_dirmarker)pick;
        return 0;
    }
    if (strcmp(name, "umask") == 0) {
        if (parse_number(value, 8, 0777, &n) < 0) {
            return bad(reterr, name, value, "give an octal number up to 777");
        }
        c->umask = (unsigned)n;
        return 0;
    }
    if (strcmp(name, "uid") == 0) {
        const struct passwd *pw =
            parse_number(value, 10, UINT32_MAX - 1, &n) < 0 ? getpwnam(value) : NULL;
        if (pw == NULL && parse_number(value, 10, UINT32_MAX - 1, &n) < 0) {
            return bad(reterr, name, value, "no such user");
        }
        c->uid = pw != NULL ? pw->pw_uid : (uint32_t)n;
        return 0;
    }
    const struct group *gr =
        parse_number(value, 10, UINT32_MAX - 1, &n) < 0 ? getgrnam(value) : NULL;
    if (gr == NULL && parse_number(value, 10, UINT32_MAX - 1, &n) < 0) {
        return bad(reterr, name, value, "no such group");
    }
    c->gid = gr != NULL ? gr->gr_gid : (uint32_t)n;
    return 0;
}

void options_effective(const struct options *o, struct kvlist *ret)
{
    const struct cache_options *c = &o->cache;
    const struct {
        const char *name;
        uint64_t n;
        const char *text;
    } all[] = {
        {"cache_size", c->cache_size, NULL},
        {"memory", c->memory, NULL},
        {"bwlimit", c->bwlimit, NULL},
        {"writeback_delay", c->writeback_delay_ms, "ms"},
        {"list_ttl", c->list_ttl_ms, "ms"},
        {"wait_timeout", c->wait_timeout_ms, "ms"},
        {"stop_timeout", o->stop_timeout_s, "s"},
        {"uid", c->uid, NULL},
        {"gid", c->gid, NULL},
    };

    for (size_t k = 0; k < ARRAY_LEN(all); k++) {
        CLEANUP(mem_freep)
        char *v = mem_printf("%" PRIu64 "%s", all[k].n, all[k].text != NULL ? all[k].text : "");
        kv_set(ret, all[k].name, v);
    }
    CLEANUP(mem_freep) char *umask_text = mem_printf("%03o", c->umask);
    kv_set(ret, "umask", umask_text);
    kv_set(ret, "close", close_names[c->close_remote]);
    kv_set(ret, "conflict", conflict_names[c->conflict_check]);
    kv_set(ret, "attr", attr_names[c->attr]);
    kv_set(ret, "dirmarker", marker_names[c->dirmarker]);
    kv_set(ret, "log", o->log != NULL ? o->log : "");
}

static int set_own(struct options *o, const char *name, const char *value, struct errinfo *reterr)
{
    if (strcmp(name, "config") == 0) {
        set_string(&o->config, absolute(value));
    } else if (strcmp(name, "rclone_config") == 0) {
        set_string(&o->rclone_config, absolute(value));
    } else if (strcmp(name, "cache") == 0) {
        set_string(&o->cache_dir, absolute(value));
    } else if (strcmp(name, "remount") == 0) {
        o->remount = true;
    } else if (strcmp(name, "direct") == 0) {
        o->direct = true;
    } else if (strcmp(name, "allow_other") == 0) {
        o->allow_other = true;
    } else if (log_parse_level(value, &o->level) < 0) {
        return bad(reterr, name, value, "give error, warn, notice, info or debug");
    }
    return 0;
}

static int set_option(struct options *o, const char *name, const char *value,
                      struct errinfo *reterr)
{
    if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0 ||
        strcmp(name, "comment") == 0) {
        return 0;
    }
    for (size_t k = 0; k < ARRAY_LEN(table); k++) {
        const struct opt *t = &table[k];

        if (strcmp(name, t->name) != 0) {
            continue;
        }
        if (t->value && (value == NULL || *value == '\0')) {
            return err_set(reterr, ERR_INVALID, -EINVAL, "option %s: give it a value, as in %s=…",
                           name, name);
        }
        if (!t->value && value != NULL && t->kind != GENERIC) {
            return err_set(reterr, ERR_INVALID, -EINVAL, "option %s: takes no value", name);
        }
        switch (t->kind) {
        case GENERIC:
            return 0;
        case MOUNT_FLAG:
            o->attr_set = (o->attr_set | t->set) & ~t->clr;
            o->attr_clr = (o->attr_clr | t->clr) & ~t->set;
            return 0;
        case DAEMON: {
            int r = set_daemon(o, name, value, reterr);
            if (r == 0) {
                kv_set(&o->given, name, "");
            }
            return r;
        }
        case OWN:
            return set_own(o, name, value, reterr);
        }
    }
    if (value != NULL) {
        kv_set(&o->url, name, value); /* the remote's own, if SPEC is a URL: checked there */
        return 0;
    }
    return o->sloppy
               ? 0
               : err_set(reterr, ERR_INVALID, -EINVAL,
                         "option %.80s: unknown; see mount.objmig(8), or -s to ignore it", name);
}

/* "a,b=c\,d": a comma in a value is written with a backslash. */
static int parse_text(struct options *o, const char *text, struct errinfo *reterr)
{
    struct buf item = BUF_INIT;
    int r = 0;

    for (const char *p = text; r == 0; p++) {
        if (p[0] == '\\' && (p[1] == ',' || p[1] == '\\')) {
            r = buf_addc(&item, *++p);
        } else if (*p != ',' && *p != '\0') {
            r = buf_addc(&item, *p);
        } else {
            if (item.len > 0) {
                char *value = strchr(item.data, '=');
                if (value != NULL) {
                    *value++ = '\0';
                }
                r = set_option(o, item.data, value, reterr);
            }
            buf_clear(&item);
            if (*p == '\0') {
                break;
            }
        }
    }
    buf_fini(&item);
    return r;
}

static void set_defaults(struct options *o)
{
    *o = (struct options){.level = LOG_LEVEL_NOTICE, .stop_timeout_s = 60};
    cache_options_default(&o->cache);
    o->cache.uid = getuid();
    o->cache.gid = getgid();
}

static int finish(struct options *o, struct errinfo *reterr)
{
    if (o->remount) {
        kv_fini(&o->url); /* mount(8) adds what the mount table shows: user_id=, max_read= */
    } else {
        /* A bucket's setuid files and devices are somebody else's: suid and dev must be asked for.
         */
        o->attr_set |= (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV) & ~o->attr_clr;
    }
    if (o->spec != NULL && conf_spec_kind(o->spec) != CONF_URL && o->url.n > 0) {
        if (!o->sloppy) {
            return err_set(
                reterr, ERR_INVALID, -EINVAL,
                "option %.80s: unknown, and %s is no URL; see mount.objmig(8), or -s to ignore it",
                o->url.items[0].name, o->spec);
        }
        kv_fini(&o->url);
    }
    if (o->spec != NULL && conf_spec_kind(o->spec) != CONF_RCLONE && o->rclone_config != NULL && !o->sloppy) {
        return err_set(reterr, ERR_INVALID, -EINVAL,
                       "option rclone_config: %.80s is none of rclone's; write rclone:NAME:BUCKET, or remove it", o->spec);
    }
    o->cache_unsaid = o->cache_dir == NULL;
    int r = o->cache_unsaid ? cache_default_dir(&o->cache_dir, reterr) : 0;
    if (r < 0) {
        return r;
    }
    o->cache.dir = o->cache_dir;
    struct kvlist all = {0};
    options_effective(o, &all);
    for (size_t k = 0; k < o->given.n; k++) {
        kv_set(&o->given, o->given.items[k].name, kv_get(&all, o->given.items[k].name));
    }
    kv_fini(&all);
    return 0;
}

int options_parse(int argc, char **argv, struct options *ret, struct errinfo *reterr)
{
    static const struct option longs[] = {{"foreground", no_argument, NULL, 'F'},
                                          {"fake", no_argument, NULL, 'f'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"options", required_argument, NULL, 'o'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {"version", no_argument, NULL, 'V'},
                                          {NULL, 0, NULL, 0}};
    struct options o;
    struct buf text = BUF_INIT;
    int c, r = 0;

    set_defaults(&o);
    opterr = 0;
    while (r == 0 && (c = getopt_long(argc, argv, "sfnvFN:o:t:hV", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            o.sloppy = true;
            break;
        case 'f':
            o.fake = true;
            break;
        case 'v':
            o.verbose = true;
            break;
        case 'F':
            o.foreground = true;
            break;
        case 'h':
            o.help = true;
            break;
        case 'V':
            o.version = true;
            break;
        case 'o':
            r = buf_addf(&text, "%s%s", text.len > 0 ? "," : "", optarg);
            break;
        case 'n': /* mount(8) passes these on */
        case 'N':
        case 't':
            break;
        default:
            r = err_set(reterr, ERR_INVALID, -EINVAL,
                        "%s: unknown or incomplete; see mount.objmig -h", argv[optind - 1]);
        }
    }
    if (r == 0 && !o.help && !o.version) {
        if (argc - optind != 2) {
            r = err_set(reterr, ERR_INVALID, -EINVAL,
                        "give a remote and a directory: mount.objmig SPEC DIR");
        } else {
            o.spec = mem_strdup(argv[optind]);
            o.dir = mem_strdup(argv[optind + 1]);
        }
    }
    o.text = mem_strdup(buf_str(&text));
    buf_fini(&text);
    if (r == 0) {
        r = parse_text(&o, o.text, reterr);
    }
    if (r == 0) {
        r = finish(&o, reterr);
    }
    if (r < 0) {
        options_fini(&o);
        return r;
    }
    *ret = o;
    return 0;
}

int options_parse_text(const char *text, struct options *ret, struct errinfo *reterr)
{
    struct options o;

    set_defaults(&o);
    o.text = mem_strdup(text);
    int r = parse_text(&o, text, reterr);
    if (r == 0) {
        r = finish(&o, reterr);
    }
    if (r < 0) {
        options_fini(&o);
        return r;
    }
    *ret = o;
    return 0;
}

void options_fini(struct options *o)
{
    free(o->spec);
    free(o->dir);
    free(o->config);
    free(o->rclone_config);
    free(o->cache_dir);
    free(o->log);
    free(o->text);
    kv_fini(&o->given);
    kv_fini(&o->url);
    *o = (struct options){0};
}
