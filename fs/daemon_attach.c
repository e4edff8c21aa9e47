/* How the daemon takes a mount in: checks it against the others, opens its remotes, gives it a
 * superblock. */
#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"
#include "session.h"

static int check_given(struct daemon_state *d, const json_t *given, struct errinfo *reterr)
{
    struct kvlist mine = {0}, theirs = {0};
    int r = 0;

    options_effective(d->o, &mine);
    wire_kv_parse(given, &theirs);
    for (size_t k = 0; k < theirs.n && r == 0; k++) {
        const char *have = kv_get(&mine, theirs.items[k].name);
        if (have == NULL || strcmp(have, theirs.items[k].value) != 0) {
            r = err_set(reterr, ERR_INVALID, -EEXIST,
                        "option %s=%s: the daemon of %s (pid %d) runs with %s=%s; drop it, umount "
                        "the other "
                        "mounts first, or use another cache=",
                        theirs.items[k].name, theirs.items[k].value, d->o->cache_dir, (int)getpid(),
                        theirs.items[k].name, have != NULL ? have : "");
        }
    }
    kv_fini(&mine);
    kv_fini(&theirs);
    return r;
}

/* The name of its directory in the root of all remotes: the section's, with what no name can hold
 * escaped. */
static char *root_name(const char *name)
{
    struct buf out = BUF_INIT;

    if (strchr(name, '/') == NULL && name[0] != '.' && strlen(name) <= NAMES_MAX) {
        return mem_strdup(name);
    }
    if (url_encode(&out, name, strlen(name), false) < 0 || out.len > NAMES_MAX ||
        out.data[0] == '.') {
        buf_clear(&out);
        (void)buf_addf(&out, "remote-%016llx",
                       (unsigned long long)inode_number(NULL, true, name, "", 0));
    }
    return buf_take(&out);
}

struct fs_remote *daemon_remote_find(struct daemon_state *d, const char *name)
{
    mutex_lock(&d->lock);
    struct fs_remote *r = d->remotes;
    while (r != NULL && strcmp(cache_remote_name(r->remote), name) != 0) {
        r = r->next;
    }
    mutex_unlock(&d->lock);
    return r; /* remotes are never removed */
}

static int add_remote(struct daemon_state *d, const json_t *j, const struct kvlist *paths,
                      struct cache_remote **ret, struct errinfo *reterr)
{
    struct conf *conf = wire_remote_parse(j);

    if (conf == NULL) {
        return err_set(reterr, ERR_BUG, -EPROTO,
                       "malformed remote; are mount.objmig and the daemon of one version?");
    }
    const char *name = conf->remotes[0]->name;
    struct fs_remote *known = daemon_remote_find(d, name);
    if (known != NULL) {
        json_t *old = json_loads(known->json, 0, NULL);
        const char *differs = wire_remote_differs(j, old, false);
        int r = 0;

        if (differs != NULL) {
            json_t *was = json_object_get(old, differs), *is = json_object_get(j, differs);
            CLEANUP(mem_freep)
            char *a = was == NULL ? NULL : json_dumps(was, JSON_ENCODE_ANY);
            CLEANUP(mem_freep)
            char *b = is == NULL ? NULL : json_dumps(is, JSON_ENCODE_ANY);
            r = err_set(reterr, ERR_INVALID, -EEXIST,
                        "remote %s: its %s is %s now, but %s where it is mounted; umount that "
                        "first, or name the "
                        "section differently",
                        name, differs, b != NULL ? b : "another", a != NULL ? a : "another");
        } else if (wire_remote_differs(j, old, true) != NULL) {
            r = daemon_renew(d, known, conf->remotes[0], true, reterr);
        }
        json_decref(old);
        conf_free(conf);
        *ret = known->remote;
        return r;
    }
    int r = cache_remote_add(d->cache, conf->remotes[0], true, ret, reterr);
    if (r < 0) {
        conf_free(conf);
        return r;
    }
    struct fs_remote *fr = mem_zalloc(sizeof(*fr));
    fr->remote = *ret;
    fr->name = root_name(name);
    fr->json = json_dumps(j, JSON_COMPACT);
    const char *config = kv_get(paths, "config"), *spec = kv_get(paths, "spec");
    fr->config = mem_strdup(config != NULL ? config : "");
    fr->spec = mem_strdup(spec != NULL && conf_spec_kind(spec) == CONF_RCLONE ? spec : "");
    daemon_renew_watch(fr);
    mutex_lock(&d->lock);
    d->confs = mem_realloc(d->confs, (d->n_confs + 1) * sizeof(*d->confs));
    d->confs[d->n_confs++] = conf;
    struct fs_remote **pp = &d->remotes;
    while (*pp != NULL) {
        pp = &(*pp)->next;
    }
    *pp = fr;
    mutex_unlock(&d->lock);
    log_notice("daemon", "event=remote name=%s identity=%s", cache_remote_name(*ret),
               cache_remote_identity(*ret));
    return 0;
}

/* Another mount of the same directory of the superblock shares its inode, and so its mode. */
static int check_private(struct daemon_state *d, const struct attachment *a, struct errinfo *reterr)
{
    int r = 0;

    mutex_lock(&d->lock);
    for (const struct attachment *b = d->attachments; b != NULL && r == 0; b = b->next) {
        if (b->remote == a->remote && strcmp(b->prefix, a->prefix) == 0 &&
            b->allow_other != a->allow_other) {
            r = err_set(
                reterr, ERR_INVALID, -EEXIST,
                "option allow_other: %s has %s on %s; give both the same, or use another cache=",
                a->spec, b->allow_other ? "it" : "it not", b->dir);
        }
    }
    mutex_unlock(&d->lock);
    return r;
}

static int take_session(struct daemon_state *d, const struct attachment *a, bool direct, bool ro,
                        struct fs **ret_fs, struct errinfo *reterr)
{
    struct session_options so = {
        .direct = direct,
        .allow_other = !direct || a->allow_other,
        .read_only = direct && ro,
        .ttl_ms = d->o->cache.list_ttl_ms,
        .mountpoint = direct ? a->dir : d->mountpoint,
        .remote = direct ? a->remote : NULL,
        .prefix = direct ? a->prefix : "",
    };
    struct fs *fs;

    mutex_lock(&d->lock);
    fs = direct ? NULL : d->current;
    if (fs != NULL) {
        fs->attaching++;
    }
    mutex_unlock(&d->lock);
    if (fs == NULL) {
        int r = session_start(d, d->cache, &so, daemon_session_ended, &fs, reterr);
        if (r < 0) {
            return r;
        }
        mutex_lock(&d->lock);
        fs->attaching = 1;
        fs->next = d->sessions;
        d->sessions = fs;
        if (!direct) {
            d->current = fs;
        }
        mutex_unlock(&d->lock);
        daemon_wake(d); /* it may have ended before it was in the list */
    } else {
        session_forget_attr(fs);
    }
    *ret_fs = fs;
    return 0;
}

/* Path of a directory inside the private superblock, from its root. */
static int path_inside(const struct attachment *a, struct daemon_state *d, struct buf *ret)
{
    if (a->remote == NULL) {
        return 0;
    }
    const struct fs_remote *r = daemon_remote_find(d, cache_remote_name(a->remote));
    const char *rest = a->prefix + strlen(cache_remote_prefix(a->remote));
    int err = buf_adds(ret, r->name);
    if (err == 0 && *rest != '\0') {
        struct buf path = BUF_INIT;
        size_t len = strlen(rest);
        /* Without its final '/', or it would be the object of that name inside the directory. */
        err = names_path_of_key(rest, rest[len - 1] == '/' ? len - 1 : len, &path);
        if (err == 0) {
            err = buf_addf(ret, "/%s", buf_str(&path));
        }
        buf_fini(&path);
    }
    return err;
}

static int attach_locked(struct daemon_state *d, const json_t *req, struct attach_ticket *t,
                         json_t **ret_answer, struct errinfo *reterr)
{
    const json_t *remotes = json_object_get(req, "remotes");
    const char *name = json_string_value(json_object_get(req, "remote"));
    bool direct = !d->private_ns;
    struct cache_remote *remote = NULL;
    struct kvlist kv = {0};
    int r = check_given(d, json_object_get(req, "given"), reterr);

    wire_kv_parse(json_object_get(req, "paths"), &kv);
    if (r == 0 && d->private_ns && json_is_true(json_object_get(req, "direct"))) {
        r = err_set(
            reterr, ERR_INVALID, -EEXIST,
            "option direct: the daemon of %s (pid %d) runs without; umount its mounts first or use "
            "another cache=",
            d->o->cache_dir, (int)getpid());
    }
    for (size_t k = 0; r == 0 && k < json_array_size(remotes); k++) {
        struct cache_remote *one;
        r = add_remote(d, json_array_get(remotes, k), &kv, &one, reterr);
        if (r == 0 && name != NULL && strcmp(cache_remote_name(one), name) == 0) {
            remote = one;
        }
    }
    if (r == 0 && name != NULL && remote == NULL) {
        r = err_set(reterr, ERR_BUG, -EPROTO, "remote %s was not sent along", name);
    }
    if (r < 0) {
        kv_fini(&kv);
        return r;
    }
    const char *dir = kv_get(&kv, "dir"), *prefix = kv_get(&kv, "prefix");
    struct attachment *a = mem_zalloc(sizeof(*a));
    a->dir = mem_strdup(dir != NULL ? dir : "");
    a->spec = mem_strdup(kv_get(&kv, "spec") != NULL ? kv_get(&kv, "spec") : "");
    a->options = mem_strdup(kv_get(&kv, "options") != NULL ? kv_get(&kv, "options") : "");
    a->remote = remote;
    a->prefix = mem_printf("%s%s", remote != NULL ? cache_remote_prefix(remote) : "",
                           prefix != NULL ? prefix : "");
    a->allow_other = json_is_true(json_object_get(req, "allow_other"));
    kv_fini(&kv);
    r = a->dir[0] != '/' ? err_set(reterr, ERR_BUG, -EPROTO, "no directory was sent")
                         : check_private(d, a, reterr);
    if (r < 0) {
        attachment_free(a);
        return r;
    }
    mutex_lock(&d->lock);
    a->next = d->attachments; /* before the helper looks: the way to an empty prefix must exist,
                                 closed to others */
    d->attachments = a;
    if (!a->allow_other) {
        __atomic_fetch_add(&d->n_private, 1, __ATOMIC_RELAXED);
    }
    mutex_unlock(&d->lock);
    struct buf path = BUF_INIT;
    struct fs *fs = NULL;
    r = path_inside(a, d, &path);
    if (r < 0) {
        r = err_set_errno(reterr, -r, "cannot name the directory of prefix %s", a->prefix);
    } else {
        r = take_session(d, a, direct, json_is_true(json_object_get(req, "ro")), &fs, reterr);
    }
    if (r == 0) {
        *ret_answer = json_pack("{s:b, s:b, s:i, s:s, s:o}", "ok", 1, "direct", direct, "pid",
                                (int)getpid(), "root", d->mountpoint, "paths", json_object());
        struct kvlist out = {0};
        kv_set(&out, "path", buf_str(&path));
        json_object_set_new(*ret_answer, "paths", wire_kv(&out));
        kv_fini(&out);
        *t = (struct attach_ticket){.a = a, .fs = fs};
    } else {
        mutex_lock(&d->lock);
        attachment_unlink_locked(d, a);
        mutex_unlock(&d->lock);
        attachment_free(a);
    }
    buf_fini(&path);
    return r;
}

int daemon_attach(struct daemon_state *d, const json_t *req, struct attach_ticket *ret_ticket,
                  json_t **ret_answer, struct errinfo *reterr)
{
    mutex_lock(&d->lock);
    bool stopping = d->stopping;
    mutex_unlock(&d->lock);
    if (stopping) {
        return err_set(reterr, ERR_LOCAL, -ESHUTDOWN,
                       "the daemon of %s (pid %d) is stopping; try again when it is gone",
                       d->o->cache_dir, (int)getpid());
    }
    pthread_mutex_lock(&d->attach_lock);
    int r = attach_locked(d, req, ret_ticket, ret_answer, reterr);
    pthread_mutex_unlock(&d->attach_lock);
    return r;
}

void daemon_attached(struct daemon_state *d, struct attach_ticket *t, bool ok)
{
    if (ok) {
        int r = cache_attach_add(d->cache, t->a->dir, t->a->spec,
                                 t->a->remote != NULL ? cache_remote_name(t->a->remote) : "",
                                 t->a->prefix, t->a->options);
        if (r < 0) {
            log_warn("daemon", "event=attach-not-recorded dir=%s status=%d", t->a->dir, r);
        }
        log_notice("daemon", "event=attached dir=%s spec=%s prefix=%s", t->a->dir, t->a->spec,
                   t->a->prefix);
    }
    struct attachment *gone = NULL;
    mutex_lock(&d->lock);
    if (ok) {
        d->was_attached = true;
        t->a->mounted = true;
    } else {
        attachment_unlink_locked(d, t->a);
        gone = t->a;
    }
    mutex_unlock(&d->lock);
    if (gone != NULL) {
        if (t->fs->direct) {
            session_drop_root(t->fs);
        }
        attachment_free(gone);
    }
    mutex_lock(&d->lock);
    t->fs->attaching--; /* from here on it may be gone */
    mutex_unlock(&d->lock);
    *t = (struct attach_ticket){0};
    daemon_wake(d);
}

static int add_recorded(void *ctx, const char *dir, const char *spec, const char *options)
{
    struct kvlist kv = {0};

    kv_set(&kv, "dir", dir);
    kv_set(&kv, "spec", spec);
    kv_set(&kv, "options", options);
    json_array_append_new(ctx, wire_kv(&kv));
    kv_fini(&kv);
    return 0;
}

json_t *daemon_recorded(struct daemon_state *d)
{
    json_t *list = json_array(), *mine = json_array(), *one;
    size_t k;

    (void)cache_attach_each(d->cache, add_recorded, list);
    json_array_foreach(list, k, one)
    {
        struct kvlist kv = {0};
        bool known = false;

        wire_kv_parse(one, &kv);
        mutex_lock(&d->lock);
        for (const struct attachment *a = d->attachments; a != NULL && !known; a = a->next) {
            known = strcmp(a->dir, kv_get(&kv, "dir")) == 0;
        }
        mutex_unlock(&d->lock);
        kv_fini(&kv);
        if (!known) {
            json_array_append(mine, one);
        }
    }
    json_decref(list);
    return mine;
}
