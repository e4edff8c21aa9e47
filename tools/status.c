/* objmig status, errors, retry, discard. */
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "mem.h"

/* The report's text, from the daemon or from the journal. -errno after the message. */
static int get_text(const char *command, struct client *c, struct buf *ret)
{
    struct errinfo err = {0};
    int r = 0;

    if (c->fd >= 0) {
        json_t *answer;
        r = client_call(c, command, NULL, &answer, &err);
        if (r == 0) {
            const char *text = json_string_value(json_object_get(answer, "text"));
            r = buf_adds(ret, text != NULL ? text : "");
            json_decref(answer);
        } else if (r == -EPIPE) {
            close(c->fd); /* it ended just now: its journal answers */
            c->fd = -1;
            err_clear(&err);
        }
    }
    if (c->fd < 0) {
        struct cache *cache;
        struct cscope everything = {0};
        r = cache_open_readonly(c->cache_dir, &cache, &err);
        if (r == 0) {
            r = strcmp(command, "status") == 0 ? cache_status(cache, &everything, ret)
                                               : cache_errors(cache, &everything, ret);
            cache_close(cache);
        }
    }
    if (r < 0) {
        (void)complain(command, "%s: %s", c->where,
                       err.message[0] != '\0' ? err.message : strerror(-r));
    }
    return r;
}

static void put_scalar(const char *name, const json_t *v)
{
    char text[64];

    switch (json_typeof(v)) {
    case JSON_INTEGER:
        if (strstr(name, "bytes") != NULL) {
            (void)fputs(show_bytes((double)json_integer_value(v), text, sizeof(text)), stdout);
        } else {
            (void)printf("%lld", (long long)json_integer_value(v));
        }
        break;
    case JSON_REAL:
        (void)printf("%.1f", json_real_value(v));
        break;
    case JSON_STRING:
        put_text(stdout, json_string_value(v), isatty(STDOUT_FILENO) == 1);
        break;
    case JSON_TRUE:
        (void)fputs("yes", stdout);
        break;
    case JSON_FALSE:
        (void)fputs("no", stdout);
        break;
    default:
        (void)fputs("-", stdout);
    }
}

/* "some_name" reads as "some name". */
static void put_name(const char *name, int width)
{
    int n = 0;

    for (; *name != '\0'; name++, n++) {
        (void)putchar(*name == '_' ? ' ' : *name);
    }
    for (; n < width; n++) {
        (void)putchar(' ');
    }
}

/* Numbers a line each; lists of objects as a line an element; the cache says what there is to say.
 */
static void put_object(const json_t *j, int indent)
{
    const char *name;
    json_t *v, *one;
    size_t k;

    json_object_foreach((json_t *)(uintptr_t)j, name, v)
    {
        if (json_is_object(v)) {
            (void)printf("%*s", indent, "");
            put_name(name, 0);
            (void)putchar('\n');
            put_object(v, indent + 2);
        } else if (json_is_array(v)) {
            if (json_array_size(v) == 0) {
                continue;
            }
            (void)printf("%*s", indent, "");
            put_name(name, 0);
            (void)putchar('\n');
            json_array_foreach(v, k, one)
            {
                (void)printf("%*s", indent + 2, "");
                if (json_is_object(one)) {
                    const char *field;
                    json_t *value;
                    bool first = true;
                    json_object_foreach(one, field, value)
                    {
                        if (json_is_array(value) || json_is_object(value) || json_is_null(value)) {
                            continue;
                        }
                        (void)printf("%s", first ? "" : "  ");
                        put_name(field, 0);
                        (void)putchar(' ');
                        put_scalar(field, value);
                        first = false;
                    }
                } else {
                    put_scalar(name, one);
                }
                (void)putchar('\n');
            }
        } else {
            (void)printf("%*s", indent, "");
            put_name(name, 20);
            (void)putchar(' ');
            put_scalar(name, v);
            (void)putchar('\n');
        }
    }
}

int cmd_status(int argc, char **argv)
{
    struct errinfo err = {0};
    struct common o;
    struct client c;
    struct buf text = BUF_INIT;
    int code = common_parse(argc, argv, &o, NULL, NULL);

    if (code != 0) {
        return code - 1;
    }
    if (client_open(&c, &o, &err) < 0) {
        return complain(argv[0], "%s", err.message);
    }
    code = EXIT_USAGE;
    if (get_text("status", &c, &text) == 0) {
        json_t *j = json_loads(buf_str(&text), 0, NULL);
        if (o.json || j == NULL) {
            (void)printf("%s%s", buf_str(&text),
                         text.len > 0 && text.data[text.len - 1] == '\n' ? "" : "\n");
        } else {
            (void)printf("%-20s %s\n", "daemon",
                         c.fd >= 0 ? "running" : "not running; this is its journal");
            json_object_del(j, "daemon");
            put_object(j, 0);
        }
        const json_t *pending = json_object_get(j, "pending");
        const json_t *failed = json_object_get(pending, "failed"),
                     *conflict = json_object_get(pending, "conflict");
        if (!json_is_integer(failed) || !json_is_integer(conflict)) {
            code = complain(argv[0],
                            "%s: the status is not understood; are the programs of one version?",
                            c.where);
        } else {
            code = json_integer_value(failed) + json_integer_value(conflict) > 0 ? EXIT_FAILED
                                                                                 : EXIT_DONE;
        }
        json_decref(j);
    }
    buf_fini(&text);
    client_close(&c);
    return code;
}

/* A remote that is paused has not failed: its files wait. */
static int errors_code(int code, const char *line)
{
    return strncmp(line, "paused\t", 7) != 0 ? EXIT_FAILED : code == EXIT_DONE ? EXIT_LEFT : code;
}

int cmd_errors(int argc, char **argv)
{
    struct errinfo err = {0};
    struct common o;
    struct client c;
    struct buf text = BUF_INIT;
    int code = common_parse(argc, argv, &o, NULL, NULL);

    if (code != 0) {
        return code - 1;
    }
    if (client_open(&c, &o, &err) < 0) {
        return complain(argv[0], "%s", err.message);
    }
    code = EXIT_USAGE;
    if (get_text("errors", &c, &text) == 0) {
        json_t *lines = json_array();
        char *save = NULL;
        code = EXIT_DONE;
        for (char *l = text.len > 0 ? strtok_r(text.data, "\n", &save) : NULL; l != NULL;
             l = strtok_r(NULL, "\n", &save)) {
            json_array_append_new(lines, json_string(l));
            code = errors_code(code, l);
            if (!o.json) {
                (void)printf("%s\n", l);
            }
        }
        if (o.json) {
            (void)json_dumpf(lines, stdout, JSON_COMPACT);
            (void)putchar('\n');
        }
        json_decref(lines);
    }
    buf_fini(&text);
    client_close(&c);
    return code;
}

static int change(int argc, char **argv, const char *did)
{
    struct errinfo err = {0};
    struct common o;
    struct client c;
    json_t *answer;
    int code = common_parse(argc, argv, &o, NULL, NULL);

    if (code != 0) {
        return code - 1;
    }
    if (client_open(&c, &o, &err) < 0) {
        return complain(argv[0], "%s", err.message);
    }
    if (c.fd < 0) {
        code = complain(argv[0], "%s: no daemon runs; mount the remote first", c.where);
    } else if (client_call(&c, argv[0], NULL, &answer, &err) < 0) {
        code = complain(argv[0], "%s: %s", c.where, err.message);
    } else {
        long long n = (long long)json_integer_value(json_object_get(answer, "n"));
        if (o.json) {
            (void)printf("{\"n\":%lld}\n", n);
        } else {
            (void)printf("%lld keys %s\n", n, did);
        }
        json_decref(answer);
        code = EXIT_DONE;
    }
    client_close(&c);
    return code;
}

int cmd_retry(int argc, char **argv)
{
    return change(argc, argv, "are tried again");
}

int cmd_discard(int argc, char **argv)
{
    return change(argc, argv, "given up; the provider's versions show again");
}
