/* Under systemd the daemon leaves the unit it was started from (rules G6).
 *
 * Started by a mount unit or a login, it would be stopped with that: before its uploads are done, and without the network. So
 * it asks for a scope of its own: stopped after the remote file systems, before the network, with the time it needs. */
#include "unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "mem.h"

#define ANSWER_S "5"
#define SPARE_S 10 /* beside what draining may take */

extern char **environ;

void unit_leave(const char *cache_dir, unsigned stop_timeout_s)
{
    /* sd_booted(3): the directory is there only when systemd is the init. A user's own manager is not asked: a login's
     * processes stay after it, unless its administrator wants otherwise. */
    if (geteuid() != 0 || access("/run/systemd/system", F_OK) != 0) {
        return;
    }
    CLEANUP(mem_freep) char *pid = mem_printf("%d", (int)getpid());
    CLEANUP(mem_freep) char *name = mem_printf("objmig-%s.scope", pid);
    CLEANUP(mem_freep) char *what = mem_printf("objmig %s", cache_dir);
    CLEANUP(mem_freep) char *stop_us = mem_printf("%" PRIu64, ((uint64_t)stop_timeout_s + SPARE_S) * 1000000);
    const char *argv[] = {
        "busctl", "--system", "--quiet", "--timeout=" ANSWER_S, "call", "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
        name, "fail", "6",
        "PIDs", "au", "1", pid,
        "Description", "s", what,
        "KillMode", "s", "mixed",
        "TimeoutStopUSec", "t", stop_us,
        "After", "as", "1", "network-online.target",
        "Before", "as", "1", "remote-fs.target",
        "0", NULL,
    };
    posix_spawn_file_actions_t quiet;
    pid_t child;
    int status = -1;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int err = posix_spawnp(&child, "busctl", &quiet, NULL, (char *const *)(uintptr_t)argv, environ); /* changes none */
    posix_spawn_file_actions_destroy(&quiet);
    if (err == 0 && waitpid(child, &status, 0) == child && status == 0) {
        log_info("daemon", "event=unit name=%s", name);
        return;
    }
    log_warn("daemon", "event=unit name=%s: systemd did not make it (%s); the daemon is stopped with what started it", name,
             err != 0 ? strerror(err) : "busctl failed");
}
