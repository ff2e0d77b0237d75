/* SPDX-License-Identifier: MIT */
/* The non-blocking dial.
 *
 *     next address --> socket, connect --> in progress --> connected --> blocking mode, options --> done
 *          ^                 |   ^             |
 *          |                 |   +-- backlog full (unix): a moment later
 *          +---- refused, share of the time used up ----+
 *          |
 *          +--> none left: CONNECT with every reason */
#include "wire/dial.h"

#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG_PAUSE_US = 5000, MIN_USER_TIMEOUT_MS = 5000 };

static void set_option(int fd, int level, int name, int value) {
  /* Refused on some systems and sockets; the connection works without. */
  (void)setsockopt(fd, level, name, &value, sizeof value);
}

void rm_dial_start(rm_dial *dial, const struct addrinfo *list, const char *path, const char *name,
                   const rm_dial_options *options, int64_t deadline_us) {
  *dial = RM_DIAL_INIT;
  dial->next = list;
  dial->path = path;
  dial->name = name;
  dial->deadline_us = deadline_us;
  /* Half of what a reply may take: a receive that waits in the kernel must end before its call does. */
  dial->receive_timeout_us = options->read_timeout_ms * 500;
  dial->user_timeout_ms = rm_max64(options->read_timeout_ms + options->write_timeout_ms, MIN_USER_TIMEOUT_MS);
  for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) dial->left++;
  if (path != NULL) dial->left = 1;
}

void rm_dial_fini(rm_dial *dial) {
  if (dial->fd >= 0) close(dial->fd);
  dial->fd = -1;
}

static bool is_lack_of_resources(int code) {
  return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM || code == EADDRNOTAVAIL;
}

/* Notes why this address failed; the dial goes on with the next. */
static void note_failure(rm_dial *dial, const char *reason, bool lack_of_resources) {
  char where[80] = "";
  if (dial->current != NULL && getnameinfo(dial->current->ai_addr, dial->current->ai_addrlen, where, sizeof where,
                                           NULL, 0, NI_NUMERICHOST) != 0)
    snprintf(where, sizeof where, "?");
  size_t room = sizeof dial->reasons - dial->reasons_len;
  int n = dial->path != NULL ? snprintf(dial->reasons, sizeof dial->reasons, ": %s", reason)
                             : snprintf(dial->reasons + dial->reasons_len, room, "%s (%s): %s",
                                        dial->reasons_len > 0 ? "," : "", where, reason);
  if (n > 0) dial->reasons_len = (size_t)n < room ? dial->reasons_len + (size_t)n : sizeof dial->reasons - 1;
  if (!lack_of_resources) dial->refused = true;
  rm_dial_fini(dial);
}

static void note_errno(rm_dial *dial, int code) {
  char text[128];
  note_failure(dial, rm_errno_text(code, text, sizeof text), is_lack_of_resources(code));
}

static int fail_dial(const rm_dial *dial, redmoon_error *err) {
  return rm_fail_phase(err, dial->refused ? REDMOON_ECONNECT : REDMOON_EUNAVAILABLE, REDMOON_PHASE_DIAL,
                       "connect to %s%s", dial->name, dial->reasons);
}

/* A port of this host's own range can be connected to itself when nobody listens there. */
static bool is_connected_to_itself(int fd) {
  struct sockaddr_storage here, there;
  socklen_t here_len = sizeof here, there_len = sizeof there;
  memset(&here, 0, sizeof here);
  memset(&there, 0, sizeof there);
  return getsockname(fd, (struct sockaddr *)&here, &here_len) == 0 &&
         getpeername(fd, (struct sockaddr *)&there, &there_len) == 0 && here_len == there_len &&
         memcmp(&here, &there, here_len) == 0;
}

/* 0 or an errno. */
static int set_up(const rm_dial *dial, int fd) {
  if (dial->path == NULL) {
    if (is_connected_to_itself(fd)) return ECONNREFUSED;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
#endif
#ifdef TCP_USER_TIMEOUT
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)rm_min64(dial->user_timeout_ms, INT32_MAX));
#endif
  }
  struct timeval limit = {.tv_sec = (time_t)(dial->receive_timeout_us / 1000000),
                          .tv_usec = (suseconds_t)(dial->receive_timeout_us % 1000000)};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) return errno;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) return errno;
  return 0;
}

static int connect_unix(int fd, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t len = strlen(path);
  if (len >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address.sun_path, path, len + 1);
  return connect(fd, (const struct sockaddr *)&address, sizeof address);
}

/* Begins, or goes on, on dial->fd.  True: connected.  False: wait, or dial->fd is -1 and this address failed. */
static bool try_connect(rm_dial *dial, int64_t now_us) {
  dial->waits_backlog = false;
  int code = dial->path != NULL ? connect_unix(dial->fd, dial->path)
                                : connect(dial->fd, dial->current->ai_addr, dial->current->ai_addrlen);
  if (code == 0 || errno == EISCONN) return true;
  if (errno == EINPROGRESS || errno == EINTR || errno == EALREADY) return false;
  if (dial->path != NULL && errno == EAGAIN) {
    dial->waits_backlog = true;
    dial->retry_us = now_us + BACKLOG_PAUSE_US;
  } else {
    note_errno(dial, errno);
  }
  return false;
}

/* Opens a socket for the next address and begins to connect it. */
static bool begin_next(rm_dial *dial, int64_t now_us) {
  dial->current = dial->next;
  if (dial->next != NULL) dial->next = dial->next->ai_next;
  dial->share_us = rm_max64(dial->deadline_us - now_us, 0) / dial->left;
  dial->try_by_us = dial->deadline_us == RM_FOREVER ? RM_FOREVER : now_us + dial->share_us;
  dial->left--;
  int family = dial->path != NULL ? AF_UNIX : dial->current->ai_family;
  dial->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (dial->fd < 0) {
    note_errno(dial, errno);
    return false;
  }
  return try_connect(dial, now_us);
}

/* How a connect in progress stands; as try_connect. */
static bool is_connected(rm_dial *dial) {
  struct pollfd p = {.fd = dial->fd, .events = POLLOUT};
  int ready;
  do ready = poll(&p, 1, 0);
  while (ready < 0 && errno == EINTR);
  if (ready <= 0) return false;
  int code = 0;
  socklen_t len = sizeof code;
  if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &code, &len) != 0) code = errno;
  if (code == 0) return true;
  note_errno(dial, code);
  return false;
}

static bool go_on(rm_dial *dial, int64_t now_us) {
  if (dial->fd < 0) return begin_next(dial, now_us);
  if (!dial->waits_backlog) return is_connected(dial);
  return now_us >= dial->retry_us ? try_connect(dial, now_us) : false;
}

static int wait_for(const rm_dial *dial, rm_wants *wants) {
  if (dial->waits_backlog)
    *wants = (rm_wants){.fd = -1, .events = 0, .until_us = rm_min64(dial->retry_us, dial->try_by_us)};
  else *wants = (rm_wants){.fd = dial->fd, .events = REDMOON_WANT_WRITE, .until_us = dial->try_by_us};
  return RM_WAIT;
}

int rm_dial_step(rm_dial *dial, int64_t now_us, rm_wants *wants, int *fd, redmoon_error *err) {
  while (dial->fd >= 0 || dial->left > 0) {
    if (go_on(dial, now_us)) {
      int code = set_up(dial, dial->fd);
      if (code == 0) {
        *fd = dial->fd;
        dial->fd = -1;
        return RM_DONE;
      }
      note_errno(dial, code);
    }
    if (dial->fd < 0) continue;
    /* The last address may use all that is left, so for it the deadline itself is the limit. */
    if (now_us < dial->try_by_us || dial->left == 0) return wait_for(dial, wants);
    char reason[64];
    snprintf(reason, sizeof reason, "no answer within %lld ms", (long long)((dial->share_us + 999) / 1000));
    note_failure(dial, reason, false);
  }
  return fail_dial(dial, err);
}
