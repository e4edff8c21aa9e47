/* Credentials and regions from the environment, and from the files of the providers' own tools. */
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

/* The files of other people's tools. Of one provider the first that has what is asked for counts.
 */
static const struct key_file {
    unsigned provider;
    const char *path_env, *path; /* $path_env, or else path below the home directory */
    const char *section_env, *section_prefix;
    const char
        *sections[2]; /* $section_env behind the prefix, or else the first of these that has it */
    const char *names[4]; /* id, secret, token, region; NULL where there is none */
} key_files[] = {
    {P_S3,
     "AWS_SHARED_CREDENTIALS_FILE",
     ".aws/credentials",
     "AWS_PROFILE",
     "",
     {"default", NULL},
     {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", NULL}},
    {P_S3,
     "AWS_CONFIG_FILE",
     ".aws/config",
     "AWS_PROFILE",
     "profile ",
     {"default", NULL},
     {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region"}},
    {P_OSS,
     NULL,
     ".ossutilconfig",
     NULL,
     "",
     {"Credentials", "default"}, /* version 1, version 2 */
     {"accessKeyID", "accessKeySecret", "stsToken", "region"}},
    {P_COS, /* coscmd's */
     NULL,
     ".cos.conf",
     NULL,
     "",
     {"common", NULL},
     {"secret_id", "secret_key", "token", "region"}},
};

enum { FOUND_ID, FOUND_SECRET, FOUND_TOKEN, FOUND_REGION, N_FOUND };

struct found_keys {
    const struct key_file *file;
    const char *section;
    char *vals[N_FOUND];
};

static void take_key(struct lines *s, const char *name, const char *value)
{
    struct found_keys *found = s->owner;
    if (!s->section || strcmp(s->section, found->section) != 0) {
        return;
    }
    for (size_t i = 0; i < N_FOUND; i++) {
        const char *wanted = found->file->names[i];
        if (wanted && strcasecmp(name, wanted) == 0 && value[0] != '\0') {
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

/* Id, secret and token come from one section, never mixed. */
static bool use_credentials(const struct found_keys *found, struct conf_remote *r)
{
    char *const *v = found->vals;
    if (!v[FOUND_ID] || !v[FOUND_SECRET]) {
        return false;
    }
    free(r->access_key_id);
    r->access_key_id = mem_strdup(v[FOUND_ID]);
    r->access_key_secret = secret_new(v[FOUND_SECRET]);
    r->security_token = v[FOUND_TOKEN] ? secret_new(v[FOUND_TOKEN]) : NULL;
    return true;
}

static bool use_region(const struct found_keys *found, struct conf_remote *r)
{
    if (!found->vals[FOUND_REGION]) {
        return false;
    }
    free(r->region);
    r->region = mem_strdup(found->vals[FOUND_REGION]);
    return true;
}

typedef bool use_fn(const struct found_keys *found, struct conf_remote *r);

static bool section_read(const struct key_file *file, const char *section, const struct buf *text,
                         use_fn *use, struct conf_remote *r)
{
    struct found_keys found = {.file = file, .section = section};
    struct lines lines = {.on_section = ignore_section,
                          .on_pair = take_key,
                          .on_fault = ignore_fault,
                          .owner = &found};
    bool used = conf_lines_read(&lines, buf_str(text), text->len) == 0 && use(&found, r);
    for (size_t i = 0; i < N_FOUND; i++) {
        conf_str_wipe(found.vals[i]);
    }
    return used;
}

static bool file_read(size_t i, use_fn *use, struct conf_remote *r)
{
    const struct key_file *file = &key_files[i];
    CLEANUP(mem_freep) char *path = conf_credentials_file(i);
    CLEANUP(conf_buf_wipe) struct buf text = BUF_INIT;
    struct stat st;
    if (conf_file_read(path, &text, &st) < 0) {
        return false;
    }
    const char *chosen = env_or_null(file->section_env);
    if (chosen && strcmp(chosen, file->sections[0]) != 0) {
        CLEANUP(mem_freep) char *section = mem_printf("%s%s", file->section_prefix, chosen);
        return section_read(file, section, &text, use, r);
    }
    for (size_t k = 0; k < 2 && file->sections[k]; k++) {
        if (section_read(file, file->sections[k], &text, use, r)) {
            return true;
        }
    }
    return false;
}

static void files_read(const struct provider *p, use_fn *use, struct conf_remote *r)
{
    for (size_t i = 0; i < ARRAY_LEN(key_files); i++) {
        if (key_files[i].provider == p->bit && file_read(i, use, r)) {
            return;
        }
    }
}

void conf_key_file_read(const struct provider *p, struct conf_remote *r)
{
    files_read(p, use_credentials, r);
}

void conf_region_find(const struct provider *p, struct conf_remote *r)
{
    const char *region = conf_env_of(p->env_region);
    if (region) {
        free(r->region);
        r->region = mem_strdup(region);
    } else {
        files_read(p, use_region, r);
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
