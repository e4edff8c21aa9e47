/* mount.objmig: the mount helper, and the daemon it starts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "mem.h"

static const char usage[] =
    "usage: mount.objmig SPEC DIR [-sfnvF] [-o OPTION[,OPTION…]]\n"
    "\n"
    "SPEC is a section of the configuration, SECTION:PREFIX, all (every section is a directory),\n"
    "a URL: s3://BUCKET[/PREFIX], cos://BUCKET-APPID[/PREFIX], file:///DIRECTORY,\n"
    "or a remote of rclone's: rclone:NAME:BUCKET[/PREFIX].\n"
    "\n"
    "  -o config=FILE        instead of ~/.config/objmig/objmig.conf, /etc/objmig/objmig.conf\n"
    "  -o cache=DIR          journal and spool; mounts that share it share one daemon\n"
    "  -o cache_size=SIZE    of the spool            -o memory=SIZE       for transfers\n"
    "  -o writeback_delay=S  before an upload        -o list_ttl=S        listings stay fresh\n"
    "  -o close=journal|remote                       -o conflict=last|check\n"
    "  -o allow_other        not for this user only  -o uid=,gid=,umask=  of foreign objects\n"
    "  -o ro, noexec, remount, log=FILE, loglevel=LEVEL, and more: mount.objmig(8)\n"
    "  -F  stay in the foreground    -f  check only, mount nothing    -s  ignore unknown options\n";

int main(int argc, char **argv)
{
    struct options o = {0};
    struct errinfo err = {0};
    int code = 0;

    int r = options_parse(argc, argv, &o, &err);
    if (r == 0 && o.help) {
        (void)fputs(usage, stdout);
    } else if (r == 0 && o.version) {
        (void)puts("mount.objmig " OBJMIG_VERSION);
    } else if (r == 0) {
        r = attach_run(&o, &code, &err);
    }
    if (r < 0) {
        (void)fprintf(stderr, "mount.objmig: %s\n",
                      err.message[0] != '\0' ? err.message : strerror(-r));
        code = 1;
    }
    options_fini(&o);
    return code;
}
