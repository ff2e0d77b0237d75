/* SPDX-License-Identifier: MIT */
/* Many operations, one wait. */
#include "engine/gather.h"

#include "base/alloc.h"
#include "base/error.h"

#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 64, LOOK_AGAIN_US = 1000 };

int rm_gather_open(rm_gather *gather, size_t count, redmoon_error *err) {
  *gather = (rm_gather){.epfd = -1, .pid = getpid()};
  gather->members = rm_calloc(count != 0 ? count : 1, sizeof *gather->members);
  if (gather->members == NULL) return rm_fail_nomem(err);
  gather->count = count;
  for (size_t i = 0; i < count; i++) gather->members[i].fd = -1;
  gather->epfd = epoll_create1(EPOLL_CLOEXEC);
  return 0;
}

/* In a forked child the instance is the parent's, too. */
static bool is_ours(const rm_gather *gather) { return gather->epfd >= 0 && gather->pid == getpid(); }

/* Before a member is stepped or ended, while the descriptor is still what was registered. */
static void unregister(rm_gather *gather, rm_member *member) {
  if (member->fd >= 0 && is_ours(gather)) (void)epoll_ctl(gather->epfd, EPOLL_CTL_DEL, member->fd, NULL);
  member->fd = -1;
}

/* False: it cannot be waited for that way. */
static bool enroll(rm_gather *gather, rm_member *member) {
  const rm_wants *wants = &member->op->wants;
  if (wants->fd < 0) return true;
  if (!is_ours(gather)) return false;
  struct epoll_event event = {.data.u64 = (uint64_t)(member - gather->members)};
  if ((wants->events & REDMOON_WANT_READ) != 0) event.events |= EPOLLIN;
  if ((wants->events & REDMOON_WANT_WRITE) != 0) event.events |= EPOLLOUT;
  if (epoll_ctl(gather->epfd, EPOLL_CTL_ADD, wants->fd, &event) != 0) return false;
  member->fd = wants->fd;
  return true;
}

void rm_gather_set(rm_gather *gather, size_t index, redmoon_op *op) {
  rm_gather_unset(gather, index);
  gather->members[index].op = op;
  gather->members[index].due = true;
}

void rm_gather_unset(rm_gather *gather, size_t index) {
  unregister(gather, &gather->members[index]);
  gather->members[index].op = NULL;
}

static void note_ready(rm_gather *gather) {
  struct epoll_event events[EVENTS_AT_ONCE];
  int count = is_ours(gather) ? epoll_wait(gather->epfd, events, EVENTS_AT_ONCE, 0) : 0;
  for (int i = 0; i < count; i++) gather->members[events[i].data.u64].due = true;
}

size_t rm_gather_step(rm_gather *gather, int64_t now_us, rm_wants *wants) {
  size_t waiting = 0;
  int64_t until_us = RM_FOREVER;
  note_ready(gather);
  for (size_t i = 0; i < gather->count; i++) {
    rm_member *member = &gather->members[i];
    if (member->op == NULL || member->op->status != RM_WAIT) continue;
    if (member->due || member->op->wants.until_us <= now_us) {
      unregister(gather, member);
      member->due = false;
      if (rm_op_step(member->op, now_us) != RM_WAIT) continue;
      if (!enroll(gather, member)) {
        member->due = true;
        until_us = rm_min64(until_us, now_us + LOOK_AGAIN_US);
      }
    }
    waiting++;
    until_us = rm_min64(until_us, member->op->wants.until_us);
  }
  *wants = (rm_wants){waiting > 0 ? gather->epfd : -1, REDMOON_WANT_READ, until_us};
  return waiting;
}

void rm_gather_close(rm_gather *gather) {
  if (gather->members == NULL) return;
  if (gather->epfd >= 0) close(gather->epfd);
  rm_free(gather->members);
  *gather = (rm_gather){.epfd = -1};
}
