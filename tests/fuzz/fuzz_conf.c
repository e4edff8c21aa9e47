/* The configuration file, which is the whole input; its beginning is also the file of the AWS
 * tools, for sections without keys.
 *
 * What holds: either remotes, each complete, or faults of one line each; and what is told does not
 * depend on a secret: with another one in its place it is the same to the letter. */
#include "fuzz.h"

#include <ctype.h>
#include <errno.h>

#include "conf_internal.h"

/* Every section costs forty allocations: what is longer is not more, only slower. */
#define CONF_MAX 1024u
#define AWS_MAX 256u /* read once a section */

static int fd, aws_fd;
static char *path;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const names[] = {
        "AWS_ACCESS_KEY_ID",      "AWS_SECRET_ACCESS_KEY",   "AWS_SESSION_TOKEN", "AWS_PROFILE",
        "COS_SECRET_ID",          "COS_SECRET_KEY",          "COS_TOKEN",         "OBJMIG_CONFIG",
        "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_TOKEN", "AWS_REGION",
        "AWS_DEFAULT_REGION",     "COS_REGION",              "TENCENTCLOUD_REGION"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)unsetenv(names[i]);
    }
    fd = fuzz_file("conf");
    path = mem_printf("/proc/self/fd/%d", fd);
    aws_fd = fuzz_file("credentials");
    CLEANUP(mem_freep) char *aws_path = mem_printf("/proc/self/fd/%d", aws_fd);
    ENSURE(setenv("AWS_SHARED_CREDENTIALS_FILE", aws_path, 1) == 0 &&
           setenv("AWS_CONFIG_FILE", aws_path, 1) == 0);
    return 0;
}

static bool is_blank(char c)
{
    return c != '\0' && strchr(" \t\r\f\v", c) != NULL;
}

/* Other letters and digits in the values of all keys that are secrets. */
static void change_secrets(char *text)
{
    for (char *line = text; *line != '\0';) {
        char *end = strchrnul(line, '\n'), *eq = line + strcspn(line, "=:\n");
        if (eq < end) {
            char *from = line, *to = eq;
            while (from < to && is_blank(*from)) {
                from++;
            }
            while (to > from && is_blank(to[-1])) {
                to--;
            }
            CLEANUP(mem_freep) char *key = mem_strndup(from, (size_t)(to - from));
            for (char *p = eq; conf_key_is_secret(key) && p < end; p++) {
                if (isalnum((unsigned char)*p)) {
                    *p = *p == 'z' ? 'a' : *p == 'Z' ? 'A' : *p == '9' ? '0' : (char)(*p + 1);
                }
            }
        }
        line = *end != '\0' ? end + 1 : end;
    }
}

static int load(const char *text, size_t n, struct conf **ret, struct buf *faults)
{
    fuzz_fill(fd, text, n);
    fuzz_fill(aws_fd, text, MIN(n, AWS_MAX));
    return conf_load(path, ret, faults);
}

static void check_faults(struct buf *faults)
{
    ENSURE(faults->len > 0 && faults->data[faults->len - 1] == '\n' &&
           strlen(faults->data) == faults->len);
    for (char *line = faults->data, *end; *line != '\0'; line = end + 1) {
        end = strchr(line, '\n');
        *end = '\0';
        ENSURE(strncmp(line, path, strlen(path)) == 0 && strstr(line, ": ") && fuzz_one_line(line));
        *end = '\n';
    }
}

static void check_remotes(const struct conf *c)
{
    ENSURE(c->n_remotes > 0);
    for (size_t i = 0; i < c->n_remotes; i++) {
        const struct conf_remote *r = c->remotes[i];
        size_t n = strlen(r->prefix);
        ENSURE(!conf_section_fault(r->name) && conf_find(c, r->name) == r &&
               conf_remote_same(r, r));
        ENSURE(n == 0 || (r->prefix[0] != '/' && r->prefix[n - 1] == '/'));
        bool cloud = strcmp(r->provider, "local") != 0 && strcmp(r->provider, "memory") != 0;
        ENSURE(!cloud ||
               (r->bucket[0] != '\0' && r->access_key_id[0] != '\0' && r->access_key_secret));
        ENSURE(!cloud ||
               (fuzz_one_line(r->access_key_id) && fuzz_one_line(r->access_key_secret->bytes)));
        ENSURE(fuzz_one_line(r->endpoint) && fuzz_one_line(r->region) &&
               fuzz_one_line(r->connect_to));
        ENSURE(r->small_slots > 0 && r->big_slots > 0 && r->request_try_count > 0 &&
               r->part_size > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf *a = NULL, *b = NULL;
    size = MIN(size, CONF_MAX);
    CLEANUP(buf_fini) struct buf faults = BUF_INIT;
    CLEANUP(buf_fini) struct buf others = BUF_INIT;
    int err = load((const char *)data, size, &a, &faults);
    if (err == 0) {
        ENSURE(faults.len == 0);
        check_remotes(a);
    } else {
        ENSURE(!a && err == -EINVAL);
        check_faults(&faults);
    }
    CLEANUP(buf_fini) struct buf text = BUF_INIT;
    ENSURE(buf_add(&text, data, size) == 0);
    if (text.len > 0) {
        change_secrets(text.data);
    }
    ENSURE(load(buf_str(&text), text.len, &b, &others) == err);
    ENSURE(strcmp(buf_str(&faults), buf_str(&others)) == 0);
    conf_free(a);
    conf_free(b);
    return 0;
}
