/* Runs the contract suite.
 *
 *     contract                   memory, memory under the fault wrapper, local in a temporary
 * directory contract NAME…             those remotes of $OBJMIG_CONTRACT_CONF (no NAME: all of
 * them), on a bucket that exists
 *
 * A store that can only be read is tested by readonly.c on what $OBJMIG_CONTRACT_SEED says it holds.
 * On a shared bucket only keys of this run are touched, and they are removed at the end. */
#include "contract.h"

#include <errno.h>
#include <ftw.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conf.h"
#include "driver.h"
#include "http.h"
#include "mem.h"
#include "sync.h"

#define MAX_TESTS 1024
#define WHY "#why: " /* before the result of a skipped test, see filter_output */

static struct be_env env;
static struct target *targets;
static char **texts; /* freed at the end */
static size_t n_texts;
static const char **written;
static size_t n_written;
static char temp_dir[] = "/tmp/objmig-contract-XXXXXX";
static bool temp_made;

/* --- helpers --- */

struct be *open_again(const struct target *t)
{
    struct be *be = NULL;
    struct errinfo e = {0};
    if (be_open(t->conf, &env, &be, &e) < 0) {
        fail_msg("%s: %s", t->name, e.message);
    }
    if (t->wrapped) {
        assert_int_equal(be_fault_new(be, &be), 0);
    }
    return be;
}

bool has_cap(const struct target *t, uint32_t cap)
{
    return (t->be->caps & cap) != 0;
}

void skip_because(const struct target *t, const char *why)
{
    (void)printf(WHY "%s %s\n", t->name, why);
    skip();
}

void require_cap(const struct target *t, uint32_t cap, const char *what)
{
    if (!has_cap(t, cap)) {
        (void)printf(WHY "%s cannot %s\n", t->name, what);
        skip();
    }
}

void require_no_cap(const struct target *t, uint32_t cap, const char *why)
{
    if (has_cap(t, cap)) {
        skip_because(t, why);
    }
}

static const char *keep(char *key)
{
    texts = mem_realloc(texts, (n_texts + 1) * sizeof(*texts));
    texts[n_texts++] = key;
    return key;
}

void note_written(const char *key)
{
    written = mem_realloc(written, (n_written + 1) * sizeof(*written));
    written[n_written++] = keep(mem_strdup(key));
}

const char *key_of(struct target *t, const char *text)
{
    return keep(mem_printf("%s%s", t->run, text));
}

static void check(const struct be_op *op, const char *what)
{
    if (op->status != 0) {
        char text[512], key[BE_KEY_TEXT];
        fail_msg("%s '%s': %s (%d, class %s)", what, be_key_text(op->key, key, sizeof(key)),
                 err_format(&op->err, text, sizeof(text)), op->status, err_class_name(op->err.cls));
    }
}

void expect_failure(const struct be_op *op, enum err_class cls)
{
    if (op->status == 0 || op->err.cls != cls) {
        char text[512], key[BE_KEY_TEXT];
        fail_msg("'%s': wanted class %s, got %s: %s (%d)", be_key_text(op->key, key, sizeof(key)),
                 err_class_name(cls), err_class_name(op->err.cls),
                 err_format(&op->err, text, sizeof(text)), op->status);
    }
    assert_true(op->status < 0);
}

void put_meta(struct target *t, const char *key, const void *data, size_t len,
              const struct kvlist *meta, struct be_object *ret)
{
    struct be_write w = {
        .op = {.key = key, .lane = BE_LANE_SMALL}, .data = data, .len = len, .meta = meta};
    (void)BE_SYNC(t->be, be_write, &w);
    note_written(key);
    check(&w.op, "write");
    assert_int_equal(w.object.size, len);
    if (ret) {
        *ret = w.object;
    }
}

void put(struct target *t, const char *key, const void *data, size_t len)
{
    put_meta(t, key, data, len, NULL, NULL);
}

void expect_content(struct target *t, const char *key, const void *data, size_t len)
{
    CLEANUP(mem_freep) char *buf = mem_zalloc(len + 16);
    struct be_read r = {.op = {.key = key}, .buf = buf, .len = len + 16};
    (void)BE_SYNC(t->be, be_read, &r);
    check(&r.op, "read");
    assert_int_equal(r.got, len);
    assert_int_equal(r.object.size, len);
    assert_memory_equal(buf, data, len);
    be_read_fini(&r);
}

void get_stat(struct target *t, const char *key, struct be_object *ret, struct kvlist *ret_meta)
{
    struct be_stat s = {.op = {.key = key}};
    (void)BE_SYNC(t->be, be_stat, &s);
    check(&s.op, "stat");
    if (ret) {
        *ret = s.object;
    }
    if (ret_meta) {
        *ret_meta = s.meta;
        s.meta = (struct kvlist){0};
    }
    be_stat_fini(&s);
}

void expect_absent(struct target *t, const char *key)
{
    struct be_stat s = {.op = {.key = key}};
    (void)BE_SYNC(t->be, be_stat, &s);
    expect_failure(&s.op, ERR_ABSENT);
    assert_int_equal(s.meta.n, 0);
}

bool takes(const struct target *t, const char *key, size_t len, const char *const *others, size_t n)
{
    if (be_key_check(t->be, key, NULL) < 0) {
        return false;
    }
    size_t key_len = strlen(key);
    bool is_dir = key[key_len - 1] == '/';
    for (size_t i = 0; i < n && has_cap(t, BE_CAP_BARE_DIRS); i++) {
        if (!is_dir && strncmp(others[i], key, key_len) == 0 && others[i][key_len] == '/') {
            return false;
        }
    }
    return !has_cap(t, BE_CAP_BARE_DIRS) || !is_dir || len == 0;
}

void drop(struct target *t, const char *key)
{
    struct be_remove r = {.op = {.key = key}};
    (void)BE_SYNC(t->be, be_remove, &r);
    check(&r.op, "remove");
}

static bool was_written(const char *key)
{
    for (size_t i = 0; i < n_written; i++) {
        if (strcmp(written[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static void add_entry(struct listing *l, const struct be_entry *e)
{
    l->keys = mem_realloc(l->keys, (l->n + 1) * sizeof(*l->keys));
    l->is_prefix = mem_realloc(l->is_prefix, (l->n + 1) * sizeof(*l->is_prefix));
    l->sizes = mem_realloc(l->sizes, (l->n + 1) * sizeof(*l->sizes));
    l->keys[l->n] = mem_strdup(e->key);
    l->is_prefix[l->n] = e->is_prefix;
    l->sizes[l->n++] = e->object.size;
}

void list_all(struct target *t, const char *prefix, char delimiter, const char *start_after,
              unsigned max, struct listing *ret)
{
    *ret = (struct listing){0};
    CLEANUP(mem_freep) char *cursor = NULL;
    do {
        struct be_list l = {
            .op = {.lane = BE_LANE_FOREGROUND},
            .prefix = prefix,
            .delimiter = delimiter,
            .start_after = cursor ? NULL : start_after,
            .cursor = cursor,
            .max = max,
        };
        (void)BE_SYNC(t->be, be_list, &l);
        l.op.key = prefix;
        check(&l.op, "list");
        assert_true(max == 0 || l.n_entries <= max);
        for (size_t i = 0; i < l.n_entries; i++) {
            const struct be_entry *e = &l.entries[i];
            bool folder = has_cap(t, BE_CAP_REAL_DIRS) && !e->is_prefix &&
                          e->key[strlen(e->key) - 1] == '/' && !was_written(e->key);
            if (!folder) {
                if (ret->n > 0) { /* rising across pages too */
                    assert_true(strcmp(ret->keys[ret->n - 1], e->key) < 0);
                }
                add_entry(ret, e);
            }
        }
        ret->pages++;
        free(cursor);
        cursor = l.next_cursor;
        l.next_cursor = NULL;
        be_list_fini(&l);
        assert_true(ret->pages < 100000);
    } while (cursor);
}

void listing_fini(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->keys[i]);
    }
    free(l->keys);
    free(l->is_prefix);
    free(l->sizes);
    *l = (struct listing){0};
}

void expect_keys(const struct listing *l, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n && i < l->n; i++) {
        assert_string_equal(l->keys[i], keys[i]);
    }
    if (l->n != n) {
        fail_msg("listed %zu keys instead of %zu; the first one more or less is '%s'", l->n, n,
                 l->n > n ? l->keys[n] : keys[l->n]);
    }
}

/* --- targets --- */

static void remove_all(struct target *t, const char *prefix)
{
    struct listing l;
    list_all(t, prefix, 0, NULL, 0, &l);
    for (size_t i = l.n; i > 0; i--) { /* folders after what is in them */
        drop(t, l.keys[i - 1]);
    }
    listing_fini(&l);
    if (has_cap(t, BE_CAP_REAL_DIRS)) {
        struct be_list all = {.prefix = prefix};
        (void)BE_SYNC(t->be, be_list, &all);
        for (size_t i = all.n_entries; i > 0; i--) {
            drop(t, all.entries[i - 1].key);
        }
        be_list_fini(&all);
    }
    if (has_cap(t, BE_CAP_MULTIPART)) {
        struct be_uploads u = {.prefix = prefix};
        (void)BE_SYNC(t->be, be_mp_uploads, &u);
        for (size_t i = 0; i < u.n_uploads; i++) {
            struct be_mp mp = {.op = {.key = u.uploads[i].key},
                               .upload_id = u.uploads[i].upload_id};
            (void)BE_SYNC(t->be, be_mp_abort, &mp);
        }
        be_uploads_fini(&u);
    }
}

static int start_target(void **state)
{
    struct target *t = *state;
    if (!t->be) {
        t->be = open_again(t);
        struct errinfo e = {0};
        if (be_probe(t->be, &e) < 0) {
            char text[512];
            (void)fprintf(stderr, "# %s: %s\n", t->name, err_format(&e, text, sizeof(text)));
            return -1;
        }
    }
    return 0;
}

static int end_target(void **state)
{
    struct target *t = *state;
    if (--t->n_tests == 0 && t->be) {
        if (!t->is_read_only) {
            CLEANUP(mem_freep) char *lead = mem_printf("/%s", t->run);
            remove_all(t, t->run);
            remove_all(t, lead);
        }
        be_close(t->be);
        t->be = NULL;
    }
    return 0;
}

static void add_target(const char *name, struct conf_remote *conf, bool wrapped)
{
    struct target *t = mem_zalloc(sizeof(*t));
    t->name = name;
    t->conf = conf;
    t->wrapped = wrapped;
    t->is_memory = strcmp(conf->provider, "memory") == 0;
    t->is_read_only = strcmp(conf->provider, "http") == 0;
    t->is_local = strcmp(conf->provider, "local") == 0;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(t->run, sizeof(t->run), "%scontract-%lx-%x/", conf->prefix ? conf->prefix : "",
                   (unsigned long)now.tv_sec, (unsigned)getpid());
    struct target **link = &targets;
    while (*link) {
        link = &(*link)->next;
    }
    *link = t;
}

static void add_own_targets(void)
{
    static struct conf_remote memory = {.name = (char *)(uintptr_t) "memory",
                                        .provider = (char *)(uintptr_t) "memory",
                                        .bucket = (char *)(uintptr_t) "contract",
                                        .limits.min_part = 65536};
    static struct conf_remote local = {.name = (char *)(uintptr_t) "local",
                                       .provider = (char *)(uintptr_t) "local",
                                       .path = temp_dir};
    add_target("memory", &memory, false);
    add_target("fault", &memory, true);
    if (mkdtemp(temp_dir)) {
        temp_made = true;
        add_target("local", &local, false);
    }
}

/* The remotes of a configuration, or those of them that are named. */
static bool add_configured(struct conf *c, int n_names, char **names)
{
    for (size_t i = 0; i < c->n_remotes && n_names == 0; i++) {
        add_target(c->remotes[i]->name, c->remotes[i], false);
    }
    for (int n = 0; n < n_names; n++) {
        bool found = false;
        for (size_t i = 0; i < c->n_remotes; i++) {
            if (strcmp(c->remotes[i]->name, names[n]) == 0) {
                add_target(c->remotes[i]->name, c->remotes[i], false);
                found = true;
            }
        }
        if (!found) {
            (void)fprintf(stderr, "contract: no remote is named %s\n", names[n]);
            return false;
        }
    }
    return true;
}

static int remove_path(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static size_t add_tests(struct CMUnitTest *all, size_t n, struct target *t,
                        const struct contract_test *tests)
{
    for (; tests->name && n < MAX_TESTS; tests++) {
        all[n++] = (struct CMUnitTest){
            .name = keep(mem_printf("%s: %s", t->name, tests->name)),
            .test_func = tests->run,
            .setup_func = start_target,
            .teardown_func = end_target,
            .initial_state = t,
        };
        t->n_tests++;
    }
    return n;
}

/* cmocka says "not ok N # SKIP name", which readers of TAP count as a failure. So the tests run in
 * a child whose output passes through here. Returns in the child only; in the parent it ends the
 * program. */
static void filter_output(void)
{
    int fds[2];
    ENSURE(pipe(fds) == 0);
    (void)fflush(NULL);
    pid_t pid = fork();
    ENSURE(pid >= 0);
    if (pid == 0) {
        ENSURE(dup2(fds[1], STDOUT_FILENO) >= 0);
        close(fds[0]);
        close(fds[1]);
        return;
    }
    close(fds[1]);
    FILE *in = fdopen(fds[0], "r");
    ENSURE(in);
    char line[4096], why[256] = "";
    while (fgets(line, sizeof(line), in)) {
        unsigned n;
        int used = 0;
        if (strncmp(line, WHY, strlen(WHY)) == 0) {
            (void)snprintf(why, sizeof(why), "%.*s", (int)strcspn(line + strlen(WHY), "\n"),
                           line + strlen(WHY));
        } else if (sscanf(line, "not ok %u # SKIP %n", &n, &used) == 1 && used > 0) {
            (void)printf("ok %u - %.*s # SKIP %s\n", n, (int)strcspn(line + used, "\n"),
                         line + used, why);
        } else {
            (void)fputs(line, stdout);
        }
        (void)fflush(stdout);
    }
    (void)fclose(in);
    int status = 0;
    ENSURE(waitpid(pid, &status, 0) == pid);
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int argc, char **argv)
{
    filter_output();
    const char *file = getenv("OBJMIG_CONTRACT_CONF");
    struct conf *conf = NULL;
    struct buf faults = BUF_INIT;
    if (file && conf_load(file, &conf, &faults) < 0) {
        (void)fprintf(stderr, "%s", buf_str(&faults));
        return 1;
    }
    if (!conf) {
        add_own_targets();
    } else if (!add_configured(conf, argc - 1, argv + 1)) {
        return 1;
    }
    ENSURE(pool_new(&env.workers, 4, "worker") == 0);
    ENSURE(http_engine_new(env.workers, NULL, &env.http) == 0);

    static struct CMUnitTest all[MAX_TESTS];
    size_t n = 0;
    for (struct target *t = targets; t; t = t->next) {
        if (t->is_read_only) {
            n = add_tests(all, n, t, tests_read_only);
            continue;
        }
        n = add_tests(all, n, t, tests_objects);
        n = add_tests(all, n, t, tests_keys);
        n = add_tests(all, n, t, tests_lists);
        n = add_tests(all, n, t, tests_uploads);
        n = add_tests(all, n, t, tests_load);
    }
    int failed = _cmocka_run_group_tests("contract", all, n, NULL, NULL);

    http_engine_free(env.http);
    pool_free(env.workers);
    be_memory_forget("contract");
    while (targets) {
        struct target *t = targets;
        targets = t->next;
        free(t);
    }
    for (size_t i = 0; i < n_texts; i++) {
        free(texts[i]);
    }
    free(texts);
    free(written);
    conf_free(conf);
    buf_fini(&faults);
    if (temp_made) {
        (void)nftw(temp_dir, remove_path, 16, FTW_DEPTH | FTW_PHYS);
    }
    return failed == 0 ? 0 : 1;
}
