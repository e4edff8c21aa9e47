/* Credentials from the environment, and from the files of the providers' own tools. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_internal.h"
#include "mem.h"

const char *conf_home_dir(void)
{
    const char *home = getenv("HOME");
    if (home && home[0] != '\0') {
        return home;
    }
    const struct passwd *pw = getpwuid(getuid()); /* at start, before there are threads */
    return pw ? pw->pw_dir : NULL;
}

const char *conf_env_of(const char *const names[2])
{
    for (size_t i = 0; i < 2 && names[i]; i++) {
        const char *value = getenv(names[i]);
        if (value && value[0] != '\0') {
            return value;
        }
    }
    return NULL;
}

/* The files of other people's tools. */
static const struct key_file {
    unsigned provider;
    const char *path_env, *path; /* $path_env, or else path below the home directory */
    const char *section_env;
    const char *sections[2]; /* $section_env, or else the first of these that has keys */
    const char *names[3];    /* id, secret, token */
} key_files[] = {
    {P_S3,
     "AWS_SHARED_CREDENTIALS_FILE",
     ".aws/credentials",
     "AWS_PROFILE",
     {"default", NULL},
     {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}},
    {P_OSS,
     NULL,
     ".ossutilconfig",
     NULL,
     {"Credentials", "default"}, /* version 1, version 2 */
     {"accessKeyID", "accessKeySecret", "stsToken"}},
};

struct found_keys {
    const struct key_file *file;
    const char *section;
    char *vals[3]; /* id, secret, token */
};

static void take_key(struct lines *s, const char *name, const char *value)
{
    struct found_keys *found = s->owner;
    if (!s->section || strcmp(s->section, found->section) != 0) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(found->vals); i++) {
        if (strcasecmp(name, found->file->names[i]) == 0 && value[0] != '\0') {
            conf_str_wipe(found->vals[i]);
            found->vals[i] = mem_strdup(value);
        }
    }
}

static void ignore_section(struct lines *s)
{
}

static void ignore_fault(struct lines *s, const char *what)
{
}

static const char *env_or_null(const char *name)
{
    return name ? conf_env_of((const char *const[2]){name, NULL}) : NULL;
}

char *conf_credentials_file(size_t i)
{
    if (i >= ARRAY_LEN(key_files)) {
        return NULL;
    }
    const char *path = env_or_null(key_files[i].path_env);
    const char *home = conf_home_dir();
    if (path) {
        return mem_strdup(path);
    }
    return mem_printf("%s/%s", home ? home : "", key_files[i].path);
}

/* Whether the section of that file has id and secret; they are r's then. */
static bool section_credentials(const struct key_file *file, const char *section,
                                const struct buf *text, struct conf_remote *r)
{
    struct found_keys found = {.file = file, .section = section};
    struct lines lines = {.on_section = ignore_section,
                          .on_pair = take_key,
                          .on_fault = ignore_fault,
                          .owner = &found};
    bool has = conf_lines_read(&lines, buf_str(text), text->len) == 0 && found.vals[0] &&
               found.vals[1];
    if (has) {
        free(r->access_key_id);
        r->access_key_id = mem_strdup(found.vals[0]);
        r->access_key_secret = secret_new(found.vals[1]);
        r->security_token = found.vals[2] ? secret_new(found.vals[2]) : NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(found.vals); i++) {
        conf_str_wipe(found.vals[i]);
    }
    return has;
}

void conf_key_file_read(const struct provider *p, struct conf_remote *r)
{
    for (size_t i = 0; i < ARRAY_LEN(key_files); i++) {
        const struct key_file *file = &key_files[i];
        CLEANUP(mem_freep) char *path = conf_credentials_file(i);
        CLEANUP(conf_buf_wipe) struct buf text = BUF_INIT;
        struct stat st;
        if (file->provider != p->bit || conf_file_read(path, &text, &st) < 0) {
            continue;
        }
        const char *chosen = env_or_null(file->section_env);
        if (chosen) {
            (void)section_credentials(file, chosen, &text, r);
            continue;
        }
        for (size_t k = 0; k < 2 && file->sections[k]; k++) {
            if (section_credentials(file, file->sections[k], &text, r)) {
                return;
            }
        }
    }
}

const char *conf_key_file(const struct provider *p)
{
    for (size_t i = 0; i < ARRAY_LEN(key_files); i++) {
        if (key_files[i].provider == p->bit) {
            return key_files[i].path;
        }
    }
    return NULL;
}
