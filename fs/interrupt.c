/* Interrupted requests (rules F1).
 *
 * The kernel tells us once that a signal arrived for a process that waits for a request; which one,
 * it does not say, and a second, deadlier signal is not told at all. So a thread keeps looking at
 * the signals pending for those processes and asks the cache to end the request when one of them
 * means "stop": SIGALRM must not break a write, SIGKILL must end a cp.
 *
 * Locks: fs.op_lock, never held while looking into /proc or calling the cache. A request that ends
 * meanwhile is left to this thread to free. */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fop.h"

#define LOOK_AGAIN_MS 100

static uint64_t status_mask(const char *text, const char *name)
{
    const char *p = strstr(text, name);

    return p != NULL ? strtoull(p + strlen(name), NULL, 16) : 0;
}

static bool must_stop(pid_t pid)
{
    const uint64_t stop = 1ull << (SIGKILL - 1) | 1ull << (SIGINT - 1) | 1ull << (SIGTERM - 1) |
                          1ull << (SIGQUIT - 1) | 1ull << (SIGHUP - 1);
    char path[64], text[4096];

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    CLEANUP(mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT; /* it is gone */
    }
    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n <= 0) {
        return true;
    }
    text[n] = '\0';
    uint64_t pending = status_mask(text, "\nSigPnd:") | status_mask(text, "\nShdPnd:");
    uint64_t masked = status_mask(text, "\nSigBlk:") | status_mask(text, "\nSigIgn:");
    return (pending & ~masked & stop) != 0;
}

/* Called by libfuse with the request's own lock held: only queues. */
void interrupt_func(fuse_req_t req, void *data)
{
    struct fop *op = data;
    struct fs *fs = op->fs;

    mutex_lock(&fs->op_lock);
    if (!op->queued) {
        op->queued = true;
        op->next_interrupted = fs->interrupted;
        fs->interrupted = op;
        cond_broadcast(&fs->interrupt_cond);
    }
    mutex_unlock(&fs->op_lock);
}

static void unqueue_locked(struct fs *fs, struct fop *op)
{
    struct fop **pp = &fs->interrupted;

    while (*pp != NULL && *pp != op) {
        pp = &(*pp)->next_interrupted;
    }
    if (*pp == op) {
        *pp = op->next_interrupted;
    }
    op->queued = false;
}

/* True: the caller frees. */
bool interrupt_done_locked(struct fs *fs, struct fop *op)
{
    mutex_assert_held(&fs->op_lock);
    if (!op->queued) {
        return true;
    }
    if (op->busy) {
        op->finished = true;
        return false;
    }
    unqueue_locked(fs, op);
    return true;
}

static void *interrupt_main(void *arg)
{
    struct fs *fs = arg;
    unsigned round = 0;

    mutex_lock(&fs->op_lock);
    while (!fs->interrupts_stop) {
        struct fop *op;

        if (fs->interrupted == NULL) {
            cond_wait(&fs->interrupt_cond, &fs->op_lock);
            continue;
        }
        round++;
        do {
            for (op = fs->interrupted; op != NULL && op->seen_round == round;
                 op = op->next_interrupted) {
            }
            if (op != NULL) {
                op->seen_round = round;
                op->busy = true;
                mutex_unlock(&fs->op_lock);
                if (must_stop(op->r.pid)) {
                    cache_interrupt(fs->cache, &op->r);
                }
                mutex_lock(&fs->op_lock);
                op->busy = false;
                if (op->finished) {
                    unqueue_locked(fs, op);
                    free(op);
                }
            }
        } while (op != NULL);
        (void)cond_wait_until(&fs->interrupt_cond, &fs->op_lock,
                              time_mono_ns() + LOOK_AGAIN_MS * 1000000ll);
    }
    mutex_unlock(&fs->op_lock);
    return NULL;
}

int interrupts_start(struct fs *fs)
{
    int r = pthread_create(&fs->interrupt_thread, NULL, interrupt_main, fs);

    if (r == 0) {
        (void)pthread_setname_np(fs->interrupt_thread, "fs-interrupt");
    }
    return -r;
}

/* After the last request has been answered. */
void interrupts_stop(struct fs *fs)
{
    mutex_lock(&fs->op_lock);
    fs->interrupts_stop = true;
    cond_broadcast(&fs->interrupt_cond);
    mutex_unlock(&fs->op_lock);
    (void)pthread_join(fs->interrupt_thread, NULL);
}
