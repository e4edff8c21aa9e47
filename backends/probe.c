/* Are credentials, region and bucket right? Asked once, before anything is mounted, and answered in
 * one line that names the setting to look at. */
#include "backend.h"

#include <string.h>

#include "mem.h"
#include "sync.h"

#define UNSEEN_NS (10LL * 1000000000LL)

/* What is wrong and which setting to look at, by what the provider or the network says. */
static void probe_judge(const struct errinfo *e, struct be_probed *ret)
{
    static const struct {
        const char *code, *aspect, *mend;
    } codes[] = {
        {"SignatureDoesNotMatch", "credentials", "check accessKeySecret"},
        {"InvalidAccessKeyId", "credentials", "check accessKeyId"},
        {"ExpiredToken", "credentials", "check securityToken: it has expired"},
        {"SecurityTokenExpired", "credentials", "check securityToken: it has expired"},
        {"InvalidToken", "credentials", "check securityToken"},
        {"InvalidSecurityToken", "credentials", "check securityToken"},
        {"InvalidSessionToken", "credentials", "check securityToken"},
        {"InvalidSecurity", "credentials", "check accessKeyId"},
        {"AuthenticationRequired", "credentials", "check serviceAccountFile"},
        {"NoSuchBucket", "bucket", "check bucket, region and endPoint"},
        {"AccessDenied", "credentials", "check what accessKeyId may do with this bucket"},
        {"AuthorizationHeaderMalformed", "region", "check region"},
        {"PermanentRedirect", "region", "check region and endPoint"},
        {"IncorrectRegion", "region", "check region"},
        {"RequestTimeTooSkewed", "clock", "check this machine's clock"},
        {"RequestExpired", "clock", "check this machine's clock"},
    };
    if (e->cls == ERR_INVALID && strcmp(e->code, "AccessDenied") == 0) {
        ret->aspect = "region"; /* OSS, of a bucket in another one */
        ret->mend = "check region and endPoint";
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (strcmp(e->code, codes[i].code) == 0) {
            ret->aspect = codes[i].aspect;
            ret->mend = codes[i].mend;
            return;
        }
    }
    switch (e->cls) {
    case ERR_AUTH:
        ret->aspect = "credentials";
        ret->mend = "check accessKeyId and accessKeySecret";
        return;
    case ERR_ABSENT:
        ret->aspect = "bucket";
        ret->mend = "check bucket, region and endPoint";
        return;
    case ERR_SKEW:
        ret->aspect = "clock";
        ret->mend = "check this machine's clock";
        return;
    case ERR_LOCAL:
        ret->aspect = "path";
        ret->mend = "check path";
        return;
    default:
        ret->aspect = e->http_status == 0 ? "network" : "listing";
        ret->mend = e->http_status == 0 ? "check endPoint, region and connectTo, and the network"
                                        : "check endPoint, bucket and region";
    }
}

/* Where a list says nothing of objects it made no request either: the first of them is asked for.
 * That it is gone, or its server does not answer, says nothing of the others; that a password is
 * wanted does. */
static int probe_unseen(struct be *be, const char *key, int64_t deadline_ns, struct be_probed *ret)
{
    int64_t soon = time_mono_ns() + UNSEEN_NS;
    struct be_stat st = {
        .op.lane = BE_LANE_FOREGROUND,
        .op.key = key,
        .op.deadline_ns = deadline_ns > 0 ? MIN(deadline_ns, soon) : soon,
    };
    int err = BE_SYNC(be, be_stat, &st);
    be_stat_fini(&st);
    if (err == 0 || st.op.err.http_status != 401) {
        return 0;
    }
    ret->err = st.op.err;
    probe_judge(&ret->err, ret);
    return err;
}

int be_probe_in_parts(struct be *be, int64_t deadline_ns, struct be_probed *ret)
{
    struct be_list list = {
        .op.lane = BE_LANE_FOREGROUND,
        .op.deadline_ns = deadline_ns,
        .prefix = be->probe_prefix ? be->probe_prefix : "",
        .max = 1,
    };
    *ret = (struct be_probed){0};
    int64_t before = time_wall_ns();
    int err = BE_SYNC(be, be_list, &list);
    if (err < 0) {
        ret->err = list.op.err;
        probe_judge(&ret->err, ret);
    } else if (list.server_date_ns != 0) {
        /* Whole seconds, cut off: half of one is what is missing on average. */
        ret->server_ns = list.server_date_ns + 500000000;
        ret->ahead_ns = ret->server_ns - (before + (time_wall_ns() - before) / 2);
    }
    if (err == 0 && list.n_entries > 0 && list.entries[0].unseen) {
        err = probe_unseen(be, list.entries[0].key, deadline_ns, ret);
    }
    be_list_fini(&list);
    return err;
}

int be_probe(struct be *be, struct errinfo *reterr)
{
    struct be_probed p;
    int err = be_probe_in_parts(be, 0, &p);
    if (err < 0 && reterr) {
        char line[512];
        *reterr = p.err;
        /* The line says all; what it is made of is not to be shown again. */
        reterr->code[0] = reterr->request_id[0] = '\0';
        reterr->http_status = 0;
        reterr->attempts = 0;
        (void)err_set(reterr, p.err.cls, err, "[%s] %s; %s", be->name,
                      err_format(&p.err, line, sizeof(line)), p.mend);
    }
    return err;
}
