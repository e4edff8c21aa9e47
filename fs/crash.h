/* Last words of a daemon that a fault of its own ends. */
#pragma once

/* From here on, SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT leave two lines in the log before they end the process: which
 * signal, and the calling functions as FILE+0xOFFSET, for addr2line of the same build. Once, before there are threads.
 * Without effect in a build with sanitizers, which have last words of their own. */
void crash_handlers(void);
