#include "kill.h"

void (*kill_hook)(const char *point);
