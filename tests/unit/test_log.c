#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "log.h"
#include "mem.h"

static char path[64];

static int setup(void **state)
{
    (void)snprintf(path, sizeof(path), "/tmp/objmig-test-log-%d", (int)getpid());
    (void)unlink(path);
    return log_open(path, LOG_LEVEL_INFO);
}

static int teardown(void **state)
{
    (void)log_open(NULL, LOG_LEVEL_NOTICE);
    return unlink(path);
}

static char *read_log(void)
{
    CLEANUP(buf_fini) struct buf b = BUF_INIT;
    CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    char chunk[4096];
    ssize_t n;
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        assert_int_equal(buf_add(&b, chunk, (size_t)n), 0);
    }
    return buf_take(&b);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what)) {
        n++;
    }
    return n;
}

static void test_lines(void **state)
{
    errno = ENOTTY;
    log_notice("upload", "key=%s", "a\nforged\t\x1b[31m\x7f한");
    assert_int_equal(errno, ENOTTY);
    log_debug("upload", "not shown");
    assert_false(log_enabled(LOG_LEVEL_DEBUG));
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("upload", "shown");
    CLEANUP(mem_freep) char *text = read_log();
    assert_non_null(strstr(text, "Z notice upload key=a\\nforged\\t\\x1b[31m\\x7f한\n"));
    assert_null(strstr(text, "not shown"));
    assert_non_null(strstr(text, "Z debug  upload shown\n"));
    assert_int_equal(count(text, "\n"), 2);
}

static void test_long(void **state)
{
    char message[5000];
    for (size_t n = 1900; n < 2200; n += 7) {
        memset(message, n % 2 ? '\n' : 'x', n);
        message[n] = '\0';
        log_info("test", "%s", message);
    }
    CLEANUP(mem_freep) char *text = read_log();
    assert_int_equal(count(text, "\n"), 43);
    assert_true(count(text, " ...\n") > 20);
    for (char *p = text, *nl; (nl = strchr(p, '\n')); p = nl + 1) {
        assert_true(nl - p < 2048);
    }
}

static void test_reopen(void **state)
{
    log_info("test", "one");
    assert_int_equal(log_open("/nonexistent/dir/log", LOG_LEVEL_INFO), -ENOENT);
    log_info("test", "two");
    assert_int_equal(log_open(path, LOG_LEVEL_INFO), 0);
    log_info("test", "three");
    CLEANUP(mem_freep) char *text = read_log();
    assert_int_equal(count(text, "\n"), 3);
}

static void test_limited(void **state)
{
    for (int i = 0; i < 10; i++) {
        log_limited(LOG_LEVEL_WARN, "test", "key", 600000, "again %d", i);
        log_limited(LOG_LEVEL_WARN, "test", "other", 60000, "else %d", i);
        log_limited(LOG_LEVEL_DEBUG, "test", "debug", 1, "debug");
    }
    struct timespec wait = {.tv_nsec = 120000000};
    (void)nanosleep(&wait, NULL);
    log_limited(LOG_LEVEL_WARN, "test", "key", 100, "again later"); /* for who is asked now it is long enough ago */
    CLEANUP(mem_freep) char *text = read_log();
    assert_int_equal(count(text, "again"), 2);
    assert_int_equal(count(text, "else"), 1);
    assert_non_null(strstr(text, "left_out=9"));
    assert_null(strstr(text, "debug"));
}

static void *writer(void *arg)
{
    for (int i = 0; i < 200; i++) {
        log_info("thread", "line %s end", (const char *)arg);
        log_limited(LOG_LEVEL_INFO, "thread", arg, 60000, "once %s end", (const char *)arg);
    }
    return NULL;
}

static void test_threads(void **state)
{
    static char names[4][8] = {"aaaa", "bbbb", "cccc", "dddd"};
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, writer, names[i]), 0);
    }
    assert_int_equal(log_open(path, LOG_LEVEL_INFO), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    CLEANUP(mem_freep) char *text = read_log();
    assert_int_equal(count(text, " end\n"), 804);
    assert_int_equal(count(text, "\n"), 804);
}

static void test_levels(void **state)
{
    enum log_level level;
    assert_int_equal(log_parse_level("WARN", &level), 0);
    assert_int_equal(level, LOG_LEVEL_WARN);
    assert_int_equal(log_parse_level("debug", &level), 0);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_int_equal(log_parse_level("loud", &level), -EINVAL);
}

static void test_redaction(void **state)
{
    static const char *const hidden[] = {
        "Authorization",
        "authorization",
        "Proxy-Authorization",
        "x-amz-security-token",
        "x-cos-security-token",
        "x-oss-security-token",
        "x-bce-security-token",
        "Cookie",
        "Set-Cookie",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-copy-source-server-side-encryption-customer-key",
        "x-cos-server-side-encryption-customer-key",
        "x-ms-encryption-key",
        "x-goog-encryption-key",
        "X-Auth-Token",
        "x-ms-copy-source-authorization",
    };
    static const char *const shown[] = {
        "Host",           "ETag", "x-amz-request-id", "x-amz-copy-source", "Content-MD5",
        "x-cos-meta-md5", "Range"};
    for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
        assert_string_equal(log_redact_header(hidden[i], "v"), "<redacted>");
    }
    for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
        assert_string_equal(log_redact_header(shown[i], "/bucket/key"), "/bucket/key");
    }
    assert_string_equal(log_redact_header("x-ms-copy-source", "https://h/c/b?se=1&sig=abc"),
                        "<redacted>");
    assert_string_equal(log_redact_header("Location", "https://h/?X-Amz-Signature=abc"),
                        "<redacted>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reopen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_redaction),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
