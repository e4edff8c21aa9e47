/* Credentials that end: temporary ones do, keys are replaced. Whoever renews them writes the configuration file (or AWS's
 * credentials file) anew; the daemon sees that within seconds and signs with them from then on, without a mount going away.
 * A second mount of the section with other credentials does the same.
 *
 * A remote's own settings came from its helper, who may have had an environment and a home that the daemon has not. So what
 * counts is that the file changed: the daemon compares what it reads with what it read there before. */
#include "daemon.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "mem.h"

#define LOOK_NS 2000000000ll

static void add_stamp(uint64_t *h, const char *path)
{
    struct stat st;

    if (path != NULL && path[0] != '\0' && stat(path, &st) == 0) {
        const uint64_t facts[] = {(uint64_t)st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
                                  (uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec,
                                  (uint64_t)st.st_ctim.tv_nsec};
        for (size_t k = 0; k < ARRAY_LEN(facts); k++) {
            *h = (*h ^ facts[k]) * 0x100000001b3u;
        }
    }
}

/* Changes whenever one of the files is written or replaced. */
static uint64_t stamp_of(const char *config)
{
    uint64_t h = 0xcbf29ce484222325u;
    char *other;

    add_stamp(&h, config);
    for (size_t i = 0; (other = conf_credentials_file(i)) != NULL; i++) {
        add_stamp(&h, other);
        free(other);
    }
    return h;
}

static void replace(char **at, char *text)
{
    if (*at != NULL) {
        explicit_bzero(*at, strlen(*at));
    }
    free(*at);
    *at = text;
}

/* As read_section() does, from rclone's file. */
static struct conf *read_rclone(const struct fs_remote *r, const struct conf_remote **ret)
{
    struct conf *conf = conf_new("");
    CLEANUP(mem_freep) char *prefix = NULL;
    CLEANUP(kv_fini) struct kvlist options = {0};
    struct errinfo err = {0};

    kv_set(&options, "rclone_config", r->config);
    if (conf_resolve(conf, r->spec, &options, ret, &prefix, &err) == 0) {
        return conf;
    }
    log_warn("daemon", "event=configuration-unread file=%s remote=%s: %s; it runs on with the credentials it has",
             r->config, cache_remote_name(r->remote), err.message);
    conf_free(conf);
    return NULL;
}

/* The section as the file has it now. NULL when it cannot be had; says why. */
static struct conf *read_section(const struct fs_remote *r, const struct conf_remote **ret)
{
    const char *name = cache_remote_name(r->remote);
    struct buf faults = BUF_INIT;
    struct conf *conf = NULL;
    if (r->spec[0] != '\0') {
        return read_rclone(r, ret);
    }
    int err = conf_load(r->config, &conf, &faults);

    *ret = err == 0 ? conf_find(conf, name) : NULL;
    if (*ret == NULL) {
        log_warn("daemon", "event=configuration-unread file=%s remote=%s: %.*s; it runs on with the credentials it has",
                 r->config, name, (int)strcspn(buf_str(&faults), "\n"),
                 faults.len > 0 ? buf_str(&faults) : err == 0 ? "no such section" : strerror(-err));
        conf_free(conf);
        conf = NULL;
    }
    buf_fini(&faults);
    return conf;
}

static char *text_of(const struct conf_remote *c)
{
    json_t *j = wire_remote(c);
    char *text = json_dumps(j, JSON_COMPACT);

    json_decref(j);
    return text;
}

void daemon_renew_watch(struct fs_remote *r)
{
    const struct conf_remote *now;

    if (r->config[0] == '\0') {
        return;
    }
    r->stamp = stamp_of(r->config);
    struct conf *conf = read_section(r, &now);
    if (conf != NULL) {
        replace(&r->seen, text_of(now));
        conf_free(conf);
    }
}

int daemon_renew(struct daemon_state *d, struct fs_remote *r, const struct conf_remote *conf, bool probe,
                 struct errinfo *reterr)
{
    int err = cache_remote_renew(d->cache, r->remote, conf, probe, reterr);

    if (err == 0) {
        replace(&r->json, text_of(conf));
        log_notice("daemon", "event=credentials-renewed remote=%s", conf->name);
    }
    return err;
}

/* Its file changed. What differs beside the credentials waits for the next mount, as it always did. */
static void reread(struct daemon_state *d, struct fs_remote *r)
{
    const struct conf_remote *now;
    struct errinfo err = {0};
    struct conf *conf = read_section(r, &now);

    if (conf == NULL) {
        return;
    }
    CLEANUP(mem_freep) char *text = text_of(now);
    json_t *is = json_loads(text, 0, NULL), *was = r->seen != NULL ? json_loads(r->seen, 0, NULL) : NULL;
    const char *other = was != NULL ? wire_remote_differs(is, was, false) : NULL;
    if (other != NULL) {
        log_warn("daemon", "event=configuration-changed remote=%s setting=%s: umount and mount to use it", now->name, other);
    } else if ((was == NULL || wire_remote_differs(is, was, true) != NULL) && daemon_renew(d, r, now, false, &err) < 0) {
        log_warn("daemon", "event=credentials-unusable remote=%s: %s", now->name, err.message);
    }
    if (other == NULL) {
        replace(&r->seen, TAKE(text));
    }
    json_decref(is);
    json_decref(was);
    conf_free(conf);
}

void daemon_renew_tick(struct daemon_state *d)
{
    int64_t now = time_mono_ns();

    if (now - d->renew_ns < LOOK_NS || pthread_mutex_trylock(&d->attach_lock) != 0) {
        return;
    }
    d->renew_ns = now;
    mutex_lock(&d->lock);
    struct fs_remote *r = d->remotes;
    mutex_unlock(&d->lock);
    for (; r != NULL; r = r->next) { /* added at the end and with attach_lock held, and never removed */
        uint64_t stamp = r->config[0] != '\0' ? stamp_of(r->config) : 0;
        if (stamp != r->stamp) {
            r->stamp = stamp;
            reread(d, r);
        }
    }
    pthread_mutex_unlock(&d->attach_lock);
}
