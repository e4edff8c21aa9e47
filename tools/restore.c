/* objmig restore: asks the provider for archived objects, by way of the daemon that has the credentials. */
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"

struct restore {
    const char *days, *tier;
    long long n[5]; /* as counters names them */
    char *failed;   /* the first that failed, and why */
};

static const char *const counters[] = {"seen", "begun", "under_way", "readable", "failed"};
enum { SEEN, BEGUN, UNDER_WAY, READABLE, FAILED };

static int own_option(const char *arg, const char *next, void *ctx)
{
    struct restore *r = ctx;
    int used = option_value("--days", arg, next, &r->days);

    return used != 0 ? used : option_value("--tier", arg, next, &r->tier);
}

static int days_of(const struct restore *r, long *ret)
{
    char *end = NULL;

    *ret = r->days != NULL ? strtol(r->days, &end, 10) : 0;
    return r->days != NULL && end != r->days && *end == '\0' && *ret > 0 && *ret <= 3650
               ? 0
               : complain("restore", "--days N: say for how many days what is restored stays readable, 1 to 3650");
}

static void take(struct restore *r, const json_t *answer)
{
    for (size_t k = 0; k < ARRAY_LEN(counters); k++) {
        r->n[k] += (long long)json_integer_value(json_object_get(answer, counters[k]));
    }
    if (r->n[FAILED] > 0 && r->failed == NULL) {
        r->failed = mem_printf("%s: %s", json_string_value(json_object_get(answer, "key")),
                               json_string_value(json_object_get(answer, "error")));
    }
}

/* Page by page, so that it can be interrupted, and nobody waits for a million in silence. */
static int all_pages(struct client *c, struct restore *r, long days)
{
    CLEANUP(mem_freep) char *cursor = NULL;
    struct errinfo err = {0};
    bool shows = isatty(STDERR_FILENO) == 1;

    do {
        json_t *answer, *req = json_pack("{s:i}", "days", (int)days);
        if (r->tier != NULL) {
            json_object_set_new(req, "tier", json_string(r->tier));
        }
        if (cursor != NULL) {
            json_object_set_new(req, "cursor", json_string(cursor));
        }
        if (client_call(c, "restore", req, &answer, &err) < 0) {
            return complain("restore", "%s: %s", c->where, err.message);
        }
        take(r, answer);
        free(cursor);
        const char *next = json_string_value(json_object_get(answer, "cursor"));
        cursor = next != NULL ? mem_strdup(next) : NULL;
        json_decref(answer);
        if (shows && cursor != NULL) {
            (void)fprintf(stderr, "%lld objects looked at, %lld asked for\n", r->n[SEEN], r->n[BEGUN]);
        }
    } while (cursor != NULL);
    return EXIT_DONE;
}

static void say(const struct restore *r, bool json)
{
    if (json) {
        (void)printf("{\"seen\":%lld,\"begun\":%lld,\"under_way\":%lld,\"readable\":%lld,\"failed\":%lld}\n", r->n[SEEN],
                     r->n[BEGUN], r->n[UNDER_WAY], r->n[READABLE], r->n[FAILED]);
        return;
    }
    (void)printf("%lld objects looked at; of those archived: %lld asked for, %lld under way before, %lld readable, %lld failed\n",
                 r->n[SEEN], r->n[BEGUN], r->n[UNDER_WAY], r->n[READABLE], r->n[FAILED]);
}

int cmd_restore(int argc, char **argv)
{
    struct restore r = {0};
    struct errinfo err = {0};
    struct common o;
    struct client c;
    long days;
    int code = common_parse(argc, argv, &o, own_option, &r);

    if (code != 0) {
        return code - 1;
    }
    if (days_of(&r, &days) != 0) {
        return EXIT_USAGE;
    }
    if (client_open(&c, &o, &err) < 0) {
        return complain("restore", "%s", err.message);
    }
    code = c.fd < 0 ? complain("restore", "%s: no daemon runs; mount the remote first", c.where) : all_pages(&c, &r, days);
    if (code == EXIT_DONE) {
        say(&r, o.json);
    }
    if (code == EXIT_DONE && r.n[FAILED] > 0) {
        (void)complain("restore", "%s", r.failed);
        code = EXIT_FAILED;
    }
    free(r.failed);
    client_close(&c);
    return code;
}
