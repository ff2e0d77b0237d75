/* SPDX-License-Identifier: MIT */
/** A program of ours as a child process, to be looked at from outside.  Its environment is this process's without
 *  REDIS_URL; it dies with the thread that started it.  Thread class: the test's main thread. */
#ifndef TESTS_SUPPORT_PROGRAM_H
#define TESTS_SUPPORT_PROGRAM_H

#include <sys/types.h>

typedef struct program program;

/** argv[0] is its path; NULL-ended.  Never NULL: the process is aborted when it cannot be started. */
program *program_start(const char *const *argv);
/** The next line that it prints, without its end; NULL when there will be none.  Valid until the next call.  Gives up
 *  after 60 s. */
const char *program_line(program *self);
pid_t program_pid(const program *self);
/** Waits for its end: the exit status, or 128 and the signal that ended it. */
int program_end(program *self);

#endif
