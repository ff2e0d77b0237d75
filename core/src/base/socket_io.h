/* SPDX-License-Identifier: MIT */
/** recv and send as bare system calls.  The C library's are cancellation points: a thread cancelled in one would leave
 *  with a connection half-used; and in a process with threads each call pays for that twice.  Where there is no bare call
 *  the C library's stand in. */
#ifndef RM_BASE_SOCKET_IO_H
#define RM_BASE_SOCKET_IO_H

#include <sys/socket.h>
#include <sys/types.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__linux__) && defined(SYS_recvfrom) && !defined(REDMOON_TESTING) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
static inline ssize_t rm_recv(int fd, void *ptr, size_t len, int flags) {
  return (ssize_t)syscall(SYS_recvfrom, fd, ptr, len, flags, NULL, NULL);
}
static inline ssize_t rm_send(int fd, const void *ptr, size_t len, int flags) {
  return (ssize_t)syscall(SYS_sendto, fd, ptr, len, flags, NULL, 0);
}
#else /* tests and sanitizers see what is sent and received only through the C library */
static inline ssize_t rm_recv(int fd, void *ptr, size_t len, int flags) { return recv(fd, ptr, len, flags); }
static inline ssize_t rm_send(int fd, const void *ptr, size_t len, int flags) { return send(fd, ptr, len, flags); }
#endif

#endif
