/* See peer.h. One thread accepts, and each connection has its own: slow and simple. */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "buf.h"
#include "mem.h"

#define MAX_HEAD (1 << 20)

struct connection {
    struct peer *p;
    unsigned number;
    int fd; /* p->lock; -1 = closed */
    SSL *ssl;
    pthread_t thread;
    struct buf in;
    struct connection *next;
};

struct peer {
    int fd, port;
    SSL_CTX *ssl;
    char ca_file[64];
    pthread_t thread;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    bool stop, released;
    struct peer_step *steps, fallback;
    size_t n_steps, at_step;
    void (*handler)(void *arg, const struct peer_request *r, struct peer_step *ret);
    void *handler_arg;
    struct peer_request **requests;
    unsigned n_requests, n_connections;
    struct connection *connections;
};

/* False when the peer stops meanwhile. */
static bool pause_ms(struct peer *p, unsigned ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&p->lock);
    while (!p->stop && pthread_cond_timedwait(&p->changed, &p->lock, &until) != ETIMEDOUT) {
    }
    bool stop = p->stop;
    pthread_mutex_unlock(&p->lock);
    return !stop;
}

static ssize_t conn_recv(struct connection *c, void *p, size_t n)
{
    return c->ssl ? SSL_read(c->ssl, p, (int)n) : recv(c->fd, p, n, 0);
}

static bool conn_send(struct connection *c, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t k = c->ssl ? SSL_write(c->ssl, p, (int)MIN(n, (size_t)1 << 20))
                           : send(c->fd, p, n, MSG_NOSIGNAL);
        if (k <= 0) {
            return false;
        }
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* Reads until the buffer holds n bytes. */
static bool conn_fill(struct connection *c, size_t n)
{
    while (c->in.len < n) {
        ENSURE(buf_reserve(&c->in, 65536) == 0);
        ssize_t k = conn_recv(c, c->in.data + c->in.len, 65536);
        if (k <= 0) {
            return false;
        }
        c->in.len += (size_t)k;
        c->in.data[c->in.len] = '\0';
    }
    return true;
}

static void conn_eat(struct connection *c, size_t n)
{
    c->in.len -= n;
    memmove(c->in.data, c->in.data + n, c->in.len + 1);
}

/* The step for the next request; the request itself is kept. */
static struct peer_step next_step(struct peer *p, struct peer_request *r, bool whole)
{
    pthread_mutex_lock(&p->lock);
    struct peer_step step = p->fallback;
    if (p->handler) {
        step = (struct peer_step){0};
        if (whole) {
            p->handler(p->handler_arg, r, &step);
        }
    } else if (p->at_step < p->n_steps) {
        step = p->steps[p->at_step];
        if (whole || step.early) {
            p->at_step++;
        }
    }
    if (whole || step.early) {
        p->requests = mem_realloc(p->requests, (p->n_requests + 1) * sizeof(*p->requests));
        p->requests[p->n_requests++] = r;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return step;
}

static bool send_body(struct connection *c, const struct peer_step *s, size_t len)
{
    const char *p = s->body;
    size_t piece = s->piece ? s->piece : MAX(len, (size_t)1);
    for (size_t at = 0; at < len; at += piece) {
        size_t n = MIN(piece, len - at);
        char size[32];
        if (s->piece_ms && !pause_ms(c->p, s->piece_ms)) {
            return false;
        }
        (void)snprintf(size, sizeof(size), "%zx\r\n", n);
        if ((s->chunked && !conn_send(c, size, strlen(size))) || !conn_send(c, p + at, n) ||
            (s->chunked && !conn_send(c, "\r\n", 2))) {
            return false;
        }
    }
    return true;
}

/* Whether the connection stays. */
static bool answer(struct connection *c, const struct peer_step *s)
{
    size_t body_len = s->body && s->body_len == 0 ? strlen(s->body) : s->body_len;
    if (s->hold) {
        pthread_mutex_lock(&c->p->lock);
        while (!c->p->released && !c->p->stop) {
            pthread_cond_wait(&c->p->changed, &c->p->lock);
        }
        pthread_mutex_unlock(&c->p->lock);
    }
    if (s->delay_ms && !pause_ms(c->p, s->delay_ms)) {
        return false;
    }
    switch (s->what) {
    case PEER_RAW:
        return conn_send(c, s->body, body_len) && !s->close;
    case PEER_RESET: {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        return false;
    }
    case PEER_CLOSE:
        return false;
    case PEER_HOLE:
        while (pause_ms(c->p, 1000)) {
        }
        return false;
    case PEER_ANSWER:
        break;
    }
    struct buf head = BUF_INIT;
    if (s->interim) {
        (void)buf_adds(&head, "HTTP/1.1 100 Continue\r\nX-Interim: yes\r\n\r\n");
    }
    (void)buf_addf(&head, "HTTP/1.1 %d Scripted\r\n%s", s->status ? s->status : 200,
                   s->headers ? s->headers : "");
    if (s->chunked) {
        (void)buf_adds(&head, "Transfer-Encoding: chunked\r\n");
    } else if (!s->until_close && s->status != 204 && s->status != 304) {
        (void)buf_addf(&head, "Content-Length: %zu\r\n", body_len);
    }
    (void)buf_adds(&head, s->close || s->until_close ? "Connection: close\r\n\r\n" : "\r\n");
    bool ok = conn_send(c, head.data, head.len);
    buf_fini(&head);
    if (ok && !s->no_body) {
        ok = send_body(c, s, s->is_cut ? MIN(s->cut, body_len) : body_len);
        if (ok && s->chunked && !s->is_cut) {
            ok = conn_send(c, "0\r\n", 3) &&
                 conn_send(c, s->trailer ? s->trailer : "", s->trailer ? strlen(s->trailer) : 0) &&
                 conn_send(c, "\r\n", 2);
        }
    }
    return ok && !s->close && !s->until_close && !s->is_cut && !s->early;
}

static bool serve_one(struct connection *c)
{
    char *end;
    while (!(end = c->in.len ? strstr(c->in.data, "\r\n\r\n") : NULL)) {
        if (c->in.len > MAX_HEAD || !conn_fill(c, c->in.len + 1)) {
            return false;
        }
    }
    size_t head_len = (size_t)(end + 4 - c->in.data), body_len = 0;
    struct peer_request *r = mem_zalloc(sizeof(*r));
    r->head = mem_strndup(c->in.data, head_len);
    r->connection = c->number;
    const char *length = strcasestr(r->head, "\r\ncontent-length:");
    if (length) {
        body_len = strtoul(length + 17, NULL, 10);
    }
    conn_eat(c, head_len);

    struct peer_step step = {0};
    if (body_len > 0) {
        step = next_step(c->p, r, false);
    }
    if (!step.early) {
        if (!conn_fill(c, body_len)) {
            free(r->head);
            free(r);
            return false;
        }
        r->body = mem_strndup("", 0);
        r->body = mem_realloc(r->body, body_len + 1);
        if (body_len > 0) {
            memcpy(r->body, c->in.data, body_len);
            conn_eat(c, body_len);
        }
        r->body[body_len] = '\0';
        r->body_len = body_len;
        step = next_step(c->p, r, true);
    }
    return answer(c, &step);
}

static void *connection_main(void *arg)
{
    struct connection *c = arg;
    bool ok = true;
    if (c->p->ssl) {
        c->ssl = SSL_new(c->p->ssl);
        (void)SSL_set_fd(c->ssl, c->fd);
        ok = SSL_accept(c->ssl) == 1;
    }
    while (ok) {
        ok = serve_one(c);
    }
    if (c->ssl) {
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    /* Without this, bytes that were never read turn the close into a reset that can overtake the
     * answer. */
    struct linger linger = {0};
    socklen_t size = sizeof(linger);
    if (getsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && !linger.l_onoff) {
        (void)shutdown(c->fd, SHUT_WR);
        char rest[4096];
        struct pollfd pfd = {.fd = c->fd, .events = POLLIN};
        while (poll(&pfd, 1, 50) == 1 && recv(c->fd, rest, sizeof(rest), 0) > 0) {
        }
    }
    pthread_mutex_lock(&c->p->lock);
    close(c->fd);
    c->fd = -1;
    pthread_mutex_unlock(&c->p->lock);
    buf_fini(&c->in);
    return NULL;
}

static void *accept_main(void *arg)
{
    struct peer *p = arg;
    int fd, one = 1;
    while ((fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct connection *c = mem_zalloc(sizeof(*c));
        c->p = p;
        c->fd = fd;
        pthread_mutex_lock(&p->lock);
        c->number = p->n_connections++;
        c->next = p->connections;
        p->connections = c;
        ENSURE(pthread_create(&c->thread, NULL, connection_main, c) == 0);
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

/* A key and a certificate signed with it, valid for a day, for one name. */
static SSL_CTX *make_tls(const char *name, char *ca_file, size_t ca_file_size)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    ENSURE(key && x && ctx);
    char alt[200];
    (void)snprintf(alt, sizeof(alt), "DNS:%s", name);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    (void)X509_set_version(x, 2);
    (void)X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    (void)X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    (void)X509_set_pubkey(x, key);
    X509_NAME *subject = X509_get_subject_name(x);
    (void)X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)"peer", -1,
                                     -1, 0);
    (void)X509_set_issuer_name(x, subject);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt);
    ENSURE(ext && X509_add_ext(x, ext, -1) == 1);
    X509_EXTENSION_free(ext);
    ENSURE(X509_sign(x, key, EVP_sha256()) > 0);
    ENSURE(SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);

    (void)snprintf(ca_file, ca_file_size, "/tmp/objmig-peer-XXXXXX");
    int fd = mkstemp(ca_file);
    ENSURE(fd >= 0);
    FILE *f = fdopen(fd, "w");
    ENSURE(f && PEM_write_X509(f, x) == 1);
    (void)fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
    return ctx;
}

struct peer *peer_new(const char *tls_name)
{
    struct peer *p = mem_zalloc(sizeof(*p));
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ENSURE(p->fd >= 0 && bind(p->fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    ENSURE(listen(p->fd, 512) == 0 && getsockname(p->fd, (struct sockaddr *)&a, &len) == 0);
    p->port = ntohs(a.sin_port);
    if (tls_name) {
        p->ssl = make_tls(tls_name, p->ca_file, sizeof(p->ca_file));
    }
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&p->lock, NULL);
    sigset_t all, before; /* TLS writes raise SIGPIPE */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    ENSURE(pthread_create(&p->thread, NULL, accept_main, p) == 0);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return p;
}

void peer_drop_connections(struct peer *p)
{
    pthread_mutex_lock(&p->lock);
    for (struct connection *c = p->connections; c; c = c->next) {
        if (c->fd >= 0) {
            (void)shutdown(c->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&p->lock);
}

void peer_free(struct peer *p)
{
    if (!p) {
        return;
    }
    (void)shutdown(p->fd, SHUT_RDWR);
    (void)pthread_join(p->thread, NULL);
    close(p->fd);
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    peer_drop_connections(p);
    for (struct connection *c = p->connections, *next; c; c = next) {
        next = c->next;
        (void)pthread_join(c->thread, NULL);
        free(c);
    }
    for (unsigned i = 0; i < p->n_requests; i++) {
        free(p->requests[i]->head);
        free(p->requests[i]->body);
        free(p->requests[i]);
    }
    free(p->requests);
    free(p->steps);
    if (p->ssl) {
        SSL_CTX_free(p->ssl);
        (void)unlink(p->ca_file);
    }
    (void)pthread_cond_destroy(&p->changed);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

int peer_port(const struct peer *p)
{
    return p->port;
}

const char *peer_ca_file(const struct peer *p)
{
    return p->ca_file;
}

void peer_push(struct peer *p, const struct peer_step *step)
{
    pthread_mutex_lock(&p->lock);
    p->steps = mem_realloc(p->steps, (p->n_steps + 1) * sizeof(*p->steps));
    p->steps[p->n_steps++] = *step;
    pthread_mutex_unlock(&p->lock);
}

void peer_fallback(struct peer *p, const struct peer_step *step)
{
    pthread_mutex_lock(&p->lock);
    p->fallback = *step;
    pthread_mutex_unlock(&p->lock);
}

void peer_handler(struct peer *p,
                  void (*fn)(void *arg, const struct peer_request *r, struct peer_step *ret),
                  void *arg)
{
    pthread_mutex_lock(&p->lock);
    p->handler = fn;
    p->handler_arg = arg;
    pthread_mutex_unlock(&p->lock);
}

void peer_release(struct peer *p)
{
    pthread_mutex_lock(&p->lock);
    p->released = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

unsigned peer_n_requests(struct peer *p)
{
    pthread_mutex_lock(&p->lock);
    unsigned n = p->n_requests;
    pthread_mutex_unlock(&p->lock);
    return n;
}

unsigned peer_n_connections(struct peer *p)
{
    pthread_mutex_lock(&p->lock);
    unsigned n = p->n_connections;
    pthread_mutex_unlock(&p->lock);
    return n;
}

const struct peer_request *peer_request(struct peer *p, unsigned i)
{
    pthread_mutex_lock(&p->lock);
    ENSURE(i < p->n_requests);
    const struct peer_request *r = p->requests[i];
    pthread_mutex_unlock(&p->lock);
    return r;
}

bool peer_wait_requests(struct peer *p, unsigned n)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&p->lock);
    while (p->n_requests < n &&
           pthread_cond_timedwait(&p->changed, &p->lock, &until) != ETIMEDOUT) {
    }
    bool ok = p->n_requests >= n;
    pthread_mutex_unlock(&p->lock);
    return ok;
}
