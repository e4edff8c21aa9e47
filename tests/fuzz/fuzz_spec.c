/* SPEC of the command line and the options of a URL: the first line, and one key=value a line after
 * it.
 *
 * What holds: a prefix is "" or a directory's; asked again, the same remote; a fault is one line
 * and shows no secret's option; all but URLs take no options. */
#include "fuzz.h"

#include "conf.h"

static struct conf *conf; /* of sections; never added to */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char text[] =
        "[nas]\nprovider=local\npath=/srv\n[cos-prod]\nprovider=cos\nbucket=b-1\nregion=r\n"
        "secretId=i\nsecretKey=s\n";
    int fd = fuzz_file("settings");
    CLEANUP(mem_freep) char *path = mem_printf("/proc/self/fd/%d", fd);
    CLEANUP(buf_fini) struct buf faults = BUF_INIT;
    fuzz_fill(fd, text, strlen(text));
    ENSURE(conf_load(path, &conf, &faults) == 0);
    close(fd);
    ENSURE(setenv("AWS_ACCESS_KEY_ID", "i", 1) == 0 &&
           setenv("AWS_SECRET_ACCESS_KEY", "s", 1) == 0);
    ENSURE(setenv("COS_SECRET_ID", "i", 1) == 0 && setenv("COS_SECRET_KEY", "s", 1) == 0);
    ENSURE(setenv("RCLONE_CONFIG", "/nonexistent", 1) == 0); /* has a target of its own */
    return 0;
}

static bool resolve(struct conf *c, const char *spec, const struct kvlist *options,
                    const struct conf_remote **ret_remote)
{
    CLEANUP(mem_freep) char *prefix = NULL;
    struct errinfo err = {0};
    int rc = conf_resolve(c, spec, options, ret_remote, &prefix, &err);
    if (rc < 0) {
        ENSURE(!prefix);
        fuzz_told(&err);
        ENSURE(err.cls == ERR_INVALID);
        return false;
    }
    size_t n = strlen(prefix);
    ENSURE(n == 0 || (prefix[0] != '/' && prefix[n - 1] == '/'));
    ENSURE(*ret_remote || strcmp(spec, "all") == 0);
    ENSURE(strstr(spec, "://") || options->n == 0);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    CLEANUP(mem_freep) char *spec = fuzz_line(&in);
    CLEANUP(kv_fini) struct kvlist options = {0};
    while (fuzz_left(&in) > 0) {
        CLEANUP(mem_freep) char *line = fuzz_line(&in);
        char *eq = strchr(line, '=');
        if (eq) {
            *eq = '\0';
            kv_set(&options, line, eq + 1);
        }
    }
    const struct conf_remote *first = NULL, *again = NULL;
    struct conf *c = strstr(spec, "://") ? conf_new("") : conf;
    if (resolve(c, spec, &options, &first)) {
        size_t n = c->n_remotes;
        ENSURE(resolve(c, spec, &options, &again) && again == first && c->n_remotes == n);
        ENSURE(!first || conf_find(c, first->name) == first);
    }
    if (c != conf) {
        conf_free(c);
    }
    return 0;
}
