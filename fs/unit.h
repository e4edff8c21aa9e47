/* The daemon's place under systemd. */
#pragma once

/* Moves this process into a scope of its own, when systemd runs the machine and this is root. Before any thread; a failure is
 * logged and nothing more. */
void unit_leave(const char *cache_dir, unsigned stop_timeout_s);
