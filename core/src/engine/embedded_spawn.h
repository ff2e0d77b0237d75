/* SPDX-License-Identifier: MIT */
/** The watcher of an embedded server: a shell that starts it and ends it. */
#ifndef RM_ENGINE_EMBEDDED_SPAWN_H
#define RM_ENGINE_EMBEDDED_SPAWN_H

#include <stddef.h>
#include <sys/types.h>

enum { RM_WATCHER_ARGS = 5 };

/** Fills in the first RM_WATCHER_ARGS arguments; the server's program and arguments and a NULL follow.  Returns how many. */
size_t rm_watcher_args(const char **argv, const char *folder);
/** Runs argv: `leash` becomes its stdin, `output` its stdout and stderr, `lock` (or -1) its descriptor 3; it has no
 *  other, a session of its own, and default signals.  Returns its pid, or -1 with errno. */
pid_t rm_watcher_spawn(const char *const *argv, int leash, int output, int lock);

#endif
