/* The doctor on a remote: what the provider says to one cheap listing, the clocks, and uploads nobody will finish (rules C7).
 *
 * Uploads are listed first and the journal is read after that: one that is begun in between is not in the list, and one that
 * is a day old and still wanted has had its row all the time. A local directory is looked at without its driver, which tidies
 * up when it is closed. */
#include "doctor_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal.h"
#include "mem.h"
#include "mounts.h"
#include "sync.h"

#define PATIENCE_NS INT64_C(20000000000)
#define SKEW_MAX_NS INT64_C(300000000000)
#define STRAY_AGE_S INT64_C(86400)
#define SHOWN_MAX 50

static char *age_text(int64_t s)
{
    return mem_printf("%" PRId64 " d %02d:%02d:%02d", s / 86400, (int)(s / 3600 % 24), (int)(s / 60 % 60), (int)(s % 60));
}

/* ---- uploads ---- */

/* Which uploads of one identity the journal knows. */
struct owned {
    struct journal *j;
    const char *identity;
    const struct be_uploads *found;
    bool *named;   /* of found */
    bool unclear;  /* a row could name any of them */
    size_t n_named;
};

static bool of_identity(const struct owned *o, uint32_t remote)
{
    CLEANUP(mem_freep) char *identity = NULL;
    return journal_remote_identity(o->j, remote, &identity) == 0 && strcmp(identity, o->identity) == 0;
}

/* upload NULL: any upload of that key may be meant. */
static void own(struct owned *o, uint32_t remote, const char *key, const char *upload)
{
    if (!of_identity(o, remote)) {
        return;
    }
    for (size_t i = 0; i < o->found->n_uploads; i++) {
        const struct be_upload *u = &o->found->uploads[i];
        if (!o->named[i] && strcmp(u->key, key) == 0 && (upload == NULL || strcmp(u->upload_id, upload) == 0)) {
            o->named[i] = true;
            o->n_named++;
        }
    }
}

static int own_row(void *ctx, const struct jintent *row, const struct jpart *parts, size_t n_parts)
{
    struct owned *o = ctx;
    (void)parts;
    (void)n_parts;
    if (row->state < 0 && (row->key[0] == '\0' || row->remote == 0)) {
        o->unclear = true;
    } else if (row->state < 0 || row->upload_id[0] == '?') {
        own(o, row->remote, row->key, NULL);
    } else if (row->upload_id[0] != '\0') {
        own(o, row->remote, row->key, row->upload_id);
    }
    return 0;
}

static int own_abort(void *ctx, uint32_t remote, const char *key, const char *upload_id)
{
    own(ctx, remote, key, upload_id[0] == '?' ? NULL : upload_id);
    return 0;
}

static int read_owned(struct cdoctor *d, struct owned *o, bool *ret_no_journal, struct errinfo *reterr)
{
    struct errinfo why = {0};
    int err = journal_open_readonly(d->dir, &o->j, &why);
    *ret_no_journal = err == -ENOENT;
    if (err == -ENOENT) {
        return 0;
    }
    if (err == 0) {
        err = journal_each_intent(o->j, own_row, o);
        if (err == 0) {
            err = journal_each_abort(o->j, own_abort, o);
        }
        journal_close(o->j);
        if (err == 0 && !o->unclear) {
            return 0;
        }
    }
    return err_set(reterr, ERR_LOCAL, -EBADMSG, "the journal of %s does not tell which uploads are its own%s%s", d->dir,
                   why.message[0] != '\0' ? ": " : "", why.message);
}

static int strays_of(struct cdoctor *d, struct be *be, int64_t server_ns, struct cstrays *ret, struct errinfo *reterr)
{
    struct be_uploads found = {.op.lane = BE_LANE_FOREGROUND,
                               .op.deadline_ns = time_mono_ns() + 10 * PATIENCE_NS,
                               .prefix = be->probe_prefix != NULL ? be->probe_prefix : ""};
    *ret = (struct cstrays){0};
    int err = BE_SYNC(be, be_mp_uploads, &found);
    if (err < 0) {
        if (reterr != NULL) {
            *reterr = found.op.err;
        }
        be_uploads_fini(&found);
        return err;
    }
    struct owned o = {.identity = be_identity(be),
                      .found = &found,
                      .named = mem_zalloc(found.n_uploads + 1)};
    err = read_owned(d, &o, &ret->no_journal, reterr);
    if (err == 0) {
        ret->items = mem_zalloc((found.n_uploads + 1) * sizeof(*ret->items));
        ret->named = o.n_named;
    }
    for (size_t i = 0; err == 0 && i < found.n_uploads; i++) {
        struct be_upload *u = &found.uploads[i];
        int64_t age_s = (server_ns - u->initiated_ns) / 1000000000;
        if (!o.named[i] && u->initiated_ns != 0 && age_s > STRAY_AGE_S) {
            ret->items[ret->n++] =
                (struct cstray){.key = TAKE(u->key), .upload_id = TAKE(u->upload_id), .age_s = age_s};
        }
    }
    free(o.named);
    be_uploads_fini(&found);
    return err;
}

void cache_strays_fini(struct cstrays *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->items[i].key);
        free(s->items[i].upload_id);
    }
    free(s->items);
    *s = (struct cstrays){0};
}

/* One line for people, as be_probe's. */
static int probe_failed(const struct conf_remote *conf, const struct be_probed *p, int err, struct errinfo *reterr)
{
    char line[512];
    return err_set(reterr, p->err.cls, err, "[%s] %s; %s", conf->name, err_format(&p->err, line, sizeof(line)), p->mend);
}

int cache_doctor_strays(struct cdoctor *d, const struct conf_remote *conf, struct cstrays *ret, struct errinfo *reterr)
{
    struct be *be;
    struct be_probed p;
    int err = be_open(conf, &d->env, &be, reterr);
    if (err < 0) {
        return err;
    }
    if ((be->caps & BE_CAP_MULTIPART) == 0 || (be->caps & BE_CAP_MP_NO_ABORT) != 0) {
        *ret = (struct cstrays){0};
        be_close(be);
        return 0;
    }
    err = be_probe_in_parts(be, time_mono_ns() + PATIENCE_NS, &p);
    if (err < 0) {
        (void)probe_failed(conf, &p, err, reterr);
    } else {
        err = strays_of(d, be, p.server_ns != 0 ? p.server_ns : time_wall_ns(), ret, reterr);
    }
    be_close(be);
    return err;
}

static void say_stray(struct cdoctor *d, const char *what, const char *mend, const struct cstray *s)
{
    CLEANUP(mem_freep) char *age = age_text(s->age_s);
    cdoctor_say(d, CDOCTOR_WARN, what, mend, "key \"%s\", upload %s, %s old, in no row of the journal", s->key, s->upload_id, age);
}

static void look_at_uploads(struct cdoctor *d, struct be *be, const char *name, int64_t server_ns)
{
    CLEANUP(mem_freep) char *what = mem_printf("uploads of [%s]", name);
    struct cstrays s;
    struct errinfo err = {0};
    if (be->caps & BE_CAP_MP_UNLISTED) {
        cdoctor_say(d, CDOCTOR_OK, what, "", "cannot be listed there; the provider drops those that nobody ends");
        return;
    }
    int r = strays_of(d, be, server_ns, &s, &err);
    if (r < 0) {
        char line[512];
        cdoctor_say(d, CDOCTOR_WARN, what,
                   r == -EBADMSG ? "mend the journal first" : "if they matter, let accessKeyId list multipart uploads",
                   "cannot be judged: %s", err_format(&err, line, sizeof(line)));
        return;
    }
    CLEANUP(mem_freep)
    char *mend = mem_printf("if no other machine and no other cache directory writes there: objmig doctor --abort-uploads %s",
                            name);
    for (size_t i = 0; i < s.n && i < SHOWN_MAX; i++) {
        say_stray(d, what, mend, &s.items[i]);
    }
    if (s.n > SHOWN_MAX) {
        cdoctor_say(d, CDOCTOR_WARN, what, mend, "and %zu more", s.n - SHOWN_MAX);
    } else if (s.n == 0) {
        cdoctor_say(d, CDOCTOR_OK, what, "", "none is older than a day but those of the journal (%zu)", s.named);
    }
    cache_strays_fini(&s);
}

int cache_doctor_abort(struct cdoctor *d, const struct conf_remote *conf, const struct cstrays *s, struct errinfo *reterr)
{
    CLEANUP(mem_freep) char *what = mem_printf("uploads of [%s]", conf->name);
    struct be *be;
    int err = be_open(conf, &d->env, &be, reterr);
    if (err < 0) {
        return err;
    }
    for (size_t i = 0; i < s->n; i++) {
        struct be_mp mp = {.op.key = s->items[i].key,
                           .op.lane = BE_LANE_FOREGROUND,
                           .op.deadline_ns = time_mono_ns() + PATIENCE_NS,
                           .upload_id = s->items[i].upload_id};
        int r = BE_SYNC(be, be_mp_abort, &mp);
        char line[512];
        if (r == 0 || mp.op.err.cls == ERR_ABSENT) {
            cdoctor_say(d, CDOCTOR_OK, what, "", "key \"%s\", upload %s: aborted", s->items[i].key, s->items[i].upload_id);
        } else {
            cdoctor_say(d, CDOCTOR_FAIL, what, "try again later", "key \"%s\", upload %s: not aborted: %s", s->items[i].key,
                       s->items[i].upload_id, err_format(&mp.op.err, line, sizeof(line)));
        }
    }
    be_close(be);
    return 0;
}

/* ---- the remote itself ---- */

static void look_at_clock(struct cdoctor *d, const char *name, int64_t ahead_ns)
{
    CLEANUP(mem_freep) char *what = mem_printf("clock of [%s]", name);
    int64_t off_s = (ahead_ns < 0 ? -ahead_ns : ahead_ns) / 1000000000;
    CLEANUP(mem_freep) char *off = age_text(off_s);
    if (off_s > SKEW_MAX_NS / 1000000000) {
        cdoctor_say(d, CDOCTOR_WARN, what,
                   "set this machine's clock (timedatectl set-ntp true); signatures are corrected meanwhile, but times of files "
                   "are wrong",
                   "this machine is %s %s the server", off, ahead_ns < 0 ? "ahead of" : "behind");
    } else {
        cdoctor_say(d, CDOCTOR_OK, what, "", "%" PRId64 " s from this machine's", off_s);
    }
}

static void look_at_local(struct cdoctor *d, const char *what, const struct conf_remote *conf)
{
    struct stat st;
    if (mounts_inside_ours(conf->path)) {
        cdoctor_say(d, CDOCTOR_FAIL, what, "name another path", "path %s is inside an objmig mount", conf->path);
        return;
    }
    DIR *dir = opendir(conf->path);
    if (dir == NULL) {
        cdoctor_say(d, CDOCTOR_FAIL, what, "check path", "path %s: %s", conf->path, strerror(errno));
        return;
    }
    if (fstat(dirfd(dir), &st) == 0 && access(conf->path, W_OK | X_OK) < 0) {
        cdoctor_say(d, CDOCTOR_WARN, what, "mount it with -o ro, or make it writable", "path %s is there, but not writable: %s",
                   conf->path, strerror(errno));
    } else {
        cdoctor_say(d, CDOCTOR_OK, what, "", "path %s is there and writable", conf->path);
    }
    (void)closedir(dir);
}

void cache_doctor_remote(struct cdoctor *d, const struct conf_remote *conf)
{
    CLEANUP(mem_freep) char *what = mem_printf("remote [%s]", conf->name);
    struct errinfo err = {0};
    struct be *be;
    struct be_probed p;
    if (strcmp(conf->provider, "local") == 0) {
        look_at_local(d, what, conf);
        return;
    }
    if (be_open(conf, &d->env, &be, &err) < 0) {
        cdoctor_say(d, CDOCTOR_FAIL, what, "mend this section of the configuration", "%s", err.message);
        return;
    }
    if (be_probe_in_parts(be, time_mono_ns() + PATIENCE_NS, &p) < 0) {
        CLEANUP(mem_freep) char *where = mem_printf("%s: %s", what, p.aspect);
        char line[512];
        cdoctor_say(d, CDOCTOR_FAIL, where, p.mend, "%s", err_format(&p.err, line, sizeof(line)));
    } else {
        cdoctor_say(d, CDOCTOR_OK, what, "", "%s answers: credentials, bucket and region are right, listing works",
                   be_identity(be));
        if (p.server_ns != 0) {
            look_at_clock(d, conf->name, p.ahead_ns);
        }
        if ((be->caps & BE_CAP_MP_NO_ABORT) != 0) {
            CLEANUP(mem_freep) char *uploads = mem_printf("uploads of [%s]", conf->name);
            cdoctor_say(d, CDOCTOR_OK, uploads, "", "what is left unfinished vanishes by itself");
        } else if ((be->caps & BE_CAP_MULTIPART) != 0) {
            look_at_uploads(d, be, conf->name, p.server_ns != 0 ? p.server_ns : time_wall_ns());
        }
    }
    be_close(be);
}
