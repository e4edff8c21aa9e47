/* s3fast: an S3 server in memory, fast enough that it is not what a benchmark measures.
 *
 *   s3fast [--listen PORT[:RTT_MS]]… [--port PORT] [--bucket NAME]… [--cred ID:SECRET]…
 *          [--region R] [--keep-copied-etag] [--threads N] [--log FILE] [--ready FILE]
 *
 * Listens on 127.0.0.1 (PORT 0: any). Every listener shows the same buckets; one with RTT_MS as
 * over a link with that round trip. Signatures are checked (SigV4, headers and presigned); paths
 * and virtual hosts. --ready: shell assignments, written once it serves. Counters and more:
 * control.c. */
#include <arpa/inet.h>
#include <getopt.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "conn.h"
#include "mem.h"
#include "ops.h"
#include "store.h"

#define DEFAULT_ID "S3FASTKEY"
#define DEFAULT_SECRET "S3fastSecretForTestsOnly"

static _Noreturn void die(const char *what, const char *more)
{
    (void)fprintf(stderr, "s3fast: %s %s\n", what, more);
    exit(1);
}

static void add_listener(struct server *s, const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10), ms = 0;
    if (*end == ':') {
        ms = strtoul(end + 1, &end, 10);
    }
    if (*end != '\0' || port > 65535 || s->n_listeners == ARRAY_LEN(s->listeners)) {
        die("cannot listen on", text);
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof(a);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0) {
        die("cannot listen on", text);
    }
    s->listeners[s->n_listeners++] =
        (struct listener){.fd = fd, .port = ntohs(a.sin_port), .rtt_ns = (int64_t)ms * 1000000};
}

static void add_key(struct server *s, const char *text)
{
    char *id = mem_strdup(text), *secret = strchr(id, ':');
    if (!secret) {
        die("--cred needs ID:SECRET, not", text);
    }
    *secret++ = '\0';
    s->keys.items = mem_realloc(s->keys.items, (s->keys.n + 1) * sizeof(*s->keys.items));
    s->keys.items[s->keys.n++] = (struct pair){id, secret};
}

/* Under its name only when it is whole: who waits for it reads it at once. */
static void write_ready(const struct server *s, const char *file)
{
    char *part = mem_printf("%s.part", file);
    FILE *f = fopen(part, "w");
    if (!f) {
        die("cannot write", part);
    }
    (void)fprintf(f, "S3FAST_PORT=%u\nS3FAST_ENDPOINT=http://127.0.0.1:%u\nS3FAST_PORTS='",
                  s->listeners[0].port, s->listeners[0].port);
    for (size_t i = 0; i < s->n_listeners; i++) {
        (void)fprintf(f, "%s%u", i > 0 ? " " : "", s->listeners[i].port);
    }
    (void)fprintf(f, "'\nS3FAST_REGION=%s\nS3FAST_ACCESS_KEY=%s\nS3FAST_SECRET_KEY=%s\n",
                  s->keys.region, s->keys.items[0].name, s->keys.items[0].value);
    if (fclose(f) != 0 || rename(part, file) != 0) {
        die("cannot write", file);
    }
    free(part);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'}, {"port", required_argument, NULL, 'l'},
        {"bucket", required_argument, NULL, 'b'}, {"cred", required_argument, NULL, 'c'},
        {"region", required_argument, NULL, 'r'}, {"threads", required_argument, NULL, 't'},
        {"log", required_argument, NULL, 'o'},    {"keep-copied-etag", no_argument, NULL, 'k'},
        {"ready", required_argument, NULL, 'y'},  {0}};
    static struct server s = {.n_threads = 4, .keys.region = "us-east-1"};
    const char *ready = NULL, *log = NULL;
    int o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (o) {
        case 'l':
            add_listener(&s, optarg);
            break;
        case 'b':
            (void)bucket_make(optarg);
            break;
        case 'c':
            add_key(&s, optarg);
            break;
        case 'r':
            s.keys.region = optarg;
            break;
        case 't':
            s.n_threads = (unsigned)MAX(atol(optarg), 1L);
            break;
        case 'o':
            log = optarg;
            break;
        case 'k':
            ops_copies_keep_etag = true;
            break;
        case 'y':
            ready = optarg;
            break;
        default:
            return 1;
        }
    }
    if (s.n_listeners == 0) {
        add_listener(&s, "0");
    }
    if (s.keys.n == 0) {
        add_key(&s, DEFAULT_ID ":" DEFAULT_SECRET);
    }
    if (log && !(s.log = fopen(log, "w"))) {
        die("cannot write", log);
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    /* Memory of large bodies is kept: fresh pages cost more than what is done with them. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    if (ready) {
        write_ready(&s, ready);
    }
    server_run(&s);
}
