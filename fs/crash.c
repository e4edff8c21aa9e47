/* The daemon makes no core file, because secrets are in its memory: what is known of its end is what it writes itself. */
#include "crash.h"

#ifdef OBJMIG_SANITIZED

void crash_handlers(void) {}

#else

#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "mem.h"

#define FRAMES 48
#define GIVE_UP_S 10 /* the loader's lock may be held by who crashed */

static void log_stack(void)
{
    void *at[FRAMES];
    char line[FRAMES * 40];
    size_t used = 0;

    int n = backtrace(at, FRAMES);
    for (int k = 0; k < n && used < sizeof(line) - 1; k++) {
        Dl_info where;
        bool known = dladdr(at[k], &where) != 0 && where.dli_fname != NULL;
        const char *slash = known ? strrchr(where.dli_fname, '/') : NULL;
        const char *file = !known ? "?" : slash ? slash + 1 : where.dli_fname;
        const char *base = known ? where.dli_fbase : NULL;
        int len = snprintf(line + used, sizeof(line) - used, " %.20s+0x%zx", file, (size_t)((const char *)at[k] - base));
        used = MIN(used + (size_t)MAX(len, 0), sizeof(line) - 1);
    }
    line[used] = '\0';
    log_error("crash", "stack=\"%s\"", used > 0 ? line + 1 : "");
}

static void on_fatal(int sig, siginfo_t *info, void *context)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;

    (void)context;
    if (atomic_flag_test_and_set(&taken)) {
        for (;;) {
            (void)pause(); /* another thread crashed first, and it tells of it */
        }
    }
    (void)signal(sig, SIG_DFL);
    (void)signal(SIGALRM, SIG_DFL);
    (void)alarm(GIVE_UP_S);
    log_error("crash", "event=crash signal=SIG%s address=%p, a fault in objmig: please report it with the next line; "
              "mount again to go on, nothing accepted is lost", sigabbrev_np(sig), sig == SIGABRT ? NULL : info->si_addr);
    log_stack();
    (void)raise(sig);
}

void crash_handlers(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction act = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO};
    void *first[1];

    (void)backtrace(first, 1); /* the first call loads a library, which a handler cannot */
    for (size_t k = 0; k < ARRAY_LEN(fatal); k++) {
        (void)sigaction(fatal[k], &act, NULL);
    }
}

#endif
