/* SPDX-License-Identifier: MIT */
/** fork() of a process with threads, for tests: their child goes on using the library.
 *
 *  The address sanitizer's allocator, unlike the C library's, is not made ready for a fork: a thread that is in it leaves it
 *  locked in the child, which hangs.  So there, and only there, all other threads are asleep when we fork. */
#ifndef TESTS_QUIET_FORK_H
#define TESTS_QUIET_FORK_H

#include <sys/types.h>

#if defined __SANITIZE_ADDRESS__
enum { FORK_NEEDS_QUIET = 1 };
#else
enum { FORK_NEEDS_QUIET = 0 };
#endif

/** fork(), after the others have come to rest (20 s at most). */
pid_t quiet_fork(void);

#endif
