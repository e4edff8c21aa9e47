/* A remote of an rclone.conf: the first line is what follows "rclone:", the rest the file.
 *
 * What holds: either a complete remote whose name and prefix are as those of any other, or one
 * fault, one line; and what is told does not depend on the value of an option that may be a secret.
 */
#include "fuzz.h"

#include <ctype.h>

#include "conf.h"
#include "conf_internal.h"

static int fd;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID",
                                        "COS_SECRET_ID",
                                        "TENCENTCLOUD_SECRET_ID",
                                        "OSS_ACCESS_KEY_ID",
                                        "ALIBABA_CLOUD_ACCESS_KEY_ID",
                                        "GS_ACCESS_KEY_ID",
                                        "GOOGLE_APPLICATION_CREDENTIALS",
                                        "AWS_REGION",
                                        "COS_REGION",
                                        "OSS_REGION",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_CONFIG_FILE",
                                        "AZURE_STORAGE_ACCOUNT",
                                        "AZURE_STORAGE_CONNECTION_STRING"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)unsetenv(names[i]);
    }
    fd = fuzz_file("rclone.conf");
    CLEANUP(mem_freep) char *path = mem_printf("/proc/self/fd/%d", fd);
    ENSURE(setenv("RCLONE_CONFIG", path, 1) == 0 && setenv("HOME", "/nonexistent", 1) == 0);
    return 0;
}

/* Other letters and digits in values of secrets. */
static void change_secrets(char *text)
{
    static const char *const secrets[] = {
        "secret_access_key", "session_token", "sse_customer_key", "key", "token", "url"};
    for (char *line = text; *line != '\0';) {
        char *end = strchrnul(line, '\n'), *eq = line + strcspn(line, "=\n");
        size_t n = strcspn(line, " =\n");
        bool secret = false;
        for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
            secret = secret || (strlen(secrets[i]) == n && memcmp(line, secrets[i], n) == 0);
        }
        for (char *p = eq; secret && line + n + strspn(line + n, " ") == eq && p < end; p++) {
            if (isalnum((unsigned char)*p)) {
                *p = *p == 'z' ? 'a' : *p == 'Z' ? 'A' : *p == '9' ? '0' : (char)(*p + 1);
            }
        }
        line = *end != '\0' ? end + 1 : end;
    }
}

static int resolve(const char *text, const char *spec, struct errinfo *reterr)
{
    struct conf *c = conf_new("");
    const struct conf_remote *r = NULL, *again = NULL;
    CLEANUP(mem_freep) char *prefix = NULL;
    CLEANUP(mem_freep) char *other = NULL;
    fuzz_fill(fd, text, strlen(text));
    int err = conf_resolve(c, spec, NULL, &r, &prefix, reterr);
    if (err == 0) {
        size_t n = strlen(prefix);
        ENSURE(r && !conf_section_fault(r->name) && strchr(r->name, '@'));
        ENSURE(n == 0 || (prefix[0] != '/' && prefix[n - 1] == '/'));
        ENSURE(strcmp(r->provider, "local") == 0
                   ? r->path[0] == '/' && n == 0
                   : r->bucket[0] != '\0' && r->access_key_id[0] != '\0');
        for (const char *p = c->notes ? c->notes : ""; *p != '\0'; p++) {
            ENSURE(*p == '\n' || !iscntrl((unsigned char)*p));
        }
        ENSURE(conf_resolve(c, spec, NULL, &again, &other, reterr) == 0 && again == r);
    } else {
        ENSURE(!prefix && !r && reterr->cls == ERR_INVALID);
        fuzz_told(reterr);
    }
    conf_free(c);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, MIN(size, (size_t)2048));
    CLEANUP(mem_freep) char *place = fuzz_line(&in);
    CLEANUP(mem_freep) char *spec = mem_printf("rclone:%s", place);
    CLEANUP(mem_freep) char *text = fuzz_rest(&in);
    struct errinfo a = {0}, b = {0};
    int err = resolve(text, spec, &a);
    change_secrets(text);
    ENSURE(resolve(text, spec, &b) == err && strcmp(a.message, b.message) == 0);
    return 0;
}
