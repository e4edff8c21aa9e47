/* objmig: looks after what the mounts of mount.objmig have accepted. */
#include "tool.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

static const struct command commands[] = {
    {"status", cmd_status, "PATH | --cache DIR [--json]", "what is queued, running, failed"},
    {"wait", cmd_wait, "PATH | --cache DIR [--json] [-q] [--timeout=SECONDS]",
     "until everything accepted so far is uploaded and verified"},
    {"errors", cmd_errors, "PATH | --cache DIR", "a line for each key that failed"},
    {"retry", cmd_retry, "PATH | --cache DIR", "try what failed again"},
    {"discard", cmd_discard, "PATH | --cache DIR", "give the local content of what failed up"},
    {"restore", cmd_restore, "PATH --days N [--tier TIER] [--json]",
     "make archived objects readable; copies that need them go on by themselves"},
    {"ls", cmd_ls, "[-lR] [--json] [--config FILE] SPEC", "list a remote without mounting it"},
    {"doctor", cmd_doctor,
     "[SPEC|MOUNTPOINT …] [--cache DIR] [--config FILE] [-o …] [--json] | --abort-uploads SPEC [--yes]",
     "check what mounts rest on, and say what to do"},
};

int complain(const char *command, const char *fmt, ...)
{
    va_list ap;

    (void)fprintf(stderr, "objmig %s: ", command);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return EXIT_USAGE;
}

const char *show_bytes(double n, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t u = 0;

    while (n >= 1000 && u + 1 < ARRAY_LEN(units)) {
        n /= 1024;
        u++;
    }
    (void)snprintf(buf, size, u == 0 || n >= 100 ? "%.0f %s" : "%.1f %s", n, units[u]);
    return buf;
}

const char *show_seconds(double s, char *buf, size_t size)
{
    unsigned long n = s < 0 ? 0 : s > 1e9 ? 1000000000 : (unsigned long)(s + 0.5);
    unsigned long days = n / 86400, hours = n / 3600 % 24, minutes = n / 60 % 60;

    if (days > 0) {
        (void)snprintf(buf, size, "%lu d %02lu:%02lu:%02lu", days, hours, minutes, n % 60);
    } else {
        (void)snprintf(buf, size, "%lu:%02lu:%02lu", hours, minutes, n % 60);
    }
    return buf;
}

void put_text(FILE *f, const char *s, bool escape)
{
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (escape && (c < ' ' || c == 0x7f)) {
            (void)fprintf(f, "\\%03o", c);
        } else {
            (void)fputc(c, f);
        }
    }
}

static void usage(FILE *f)
{
    (void)fputs("usage:\n", f);
    for (size_t k = 0; k < ARRAY_LEN(commands); k++) {
        (void)fprintf(f, "  objmig %s %s\n      %s\n", commands[k].name, commands[k].synopsis,
                      commands[k].help);
    }
    (void)fputs(
        "\nPATH is a mount point or anything below one. SPEC as for mount.objmig.\n"
        "Exit: 0 all done, 1 usage or configuration, 2 some failed, 3 interrupted or work left.\n",
        f);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) {
        (void)puts("objmig " OBJMIG_VERSION);
        return EXIT_DONE;
    }
    for (size_t k = 0; k < ARRAY_LEN(commands); k++) {
        if (strcmp(argv[1], commands[k].name) == 0) {
            int code = commands[k].run(argc - 1, argv + 1);
            if (fflush(stdout) != 0 || ferror(stdout)) {
                return complain(argv[1], "cannot write the output");
            }
            return code;
        }
    }
    (void)fprintf(stderr, "objmig: %s: unknown command; see objmig --help\n", argv[1]);
    return EXIT_USAGE;
}
