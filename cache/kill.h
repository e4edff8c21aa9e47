/* Kill points: places at which a crash is most interesting, by name. Tests set kill_hook before a cache is opened, count which
 * points a workload meets, and die at each in turn (tests/fault/test_kill_points.c). Otherwise they cost one comparison. */
#pragma once

#include <stddef.h>

extern void (*kill_hook)(const char *point);

#define KILL_POINT(point)                                                                          \
    do {                                                                                           \
        if (__builtin_expect(kill_hook != NULL, 0)) {                                              \
            kill_hook(point);                                                                      \
        }                                                                                          \
    } while (0)
