/* SPDX-License-Identifier: MIT */
/* A list under the keeper's mutex.  Whatever is called of one is called without it, while `busy` keeps it where it is. */
#include "engine/driven.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"

#include <poll.h>

#define FOR_EACH(node, keeper) for (rm_list *node = (keeper)->driven.next; node != &(keeper)->driven; node = node->next)

static rm_driven *of(rm_list *node) { return RM_CONTAINER_OF(node, rm_driven, link); }

int rm_driven_add(rm_core *core, rm_driven *driven, redmoon_error *err) {
  rm_core_check_fork(core);
  rm_keeper *keeper = &core->keeper;
  if (atomic_load(&core->closed)) return rm_fail_closed(err);
  pthread_mutex_lock(&keeper->lock);
  bool room = driven->inner || keeper->driven_count < RM_DRIVEN_MAX;
  if (room) {
    driven->generation = keeper->generation;
    driven->ready = true;
    keeper->driven_count += !driven->inner;
    rm_list_push_back(&keeper->driven, &driven->link);
  }
  pthread_mutex_unlock(&keeper->lock);
  if (!room)
    return rm_fail(err, REDMOON_EUNAVAILABLE, "a client has at most %d subscriptions at a time; one has any number of channels",
                   (int)RM_DRIVEN_MAX);
  if (rm_keeper_wake(core)) return 0;
  rm_driven_remove(core, driven);
  if (atomic_load(&core->closed)) return rm_fail_closed(err);
  return rm_fail(err, REDMOON_EUNAVAILABLE, "no thread could be had to receive with");
}

bool rm_driven_is_ours(rm_core *core, const rm_driven *driven) {
  rm_core_check_fork(core);
  return driven->generation == core->keeper.generation;
}

void rm_driven_kick(rm_core *core, rm_driven *driven) {
  rm_keeper *keeper = &core->keeper;
  pthread_mutex_lock(&keeper->lock);
  bool tell = !driven->ready && keeper->started;
  driven->ready = true;
  if (tell) rm_event_signal(&keeper->wake);
  pthread_mutex_unlock(&keeper->lock);
}

void rm_driven_kick_all(rm_core *core) {
  rm_keeper *keeper = &core->keeper;
  pthread_mutex_lock(&keeper->lock);
  FOR_EACH(node, keeper) of(node)->ready = true;
  if (keeper->started) rm_event_signal(&keeper->wake);
  pthread_mutex_unlock(&keeper->lock);
}

void rm_driven_remove(rm_core *core, rm_driven *driven) {
  rm_keeper *keeper = &core->keeper;
  if (!rm_driven_is_ours(core, driven)) return; /* its list is the parent's */
  pthread_mutex_lock(&keeper->lock);
  if (rm_list_is_linked(&driven->link)) {
    while (driven->busy) pthread_cond_wait(&keeper->idle, &keeper->lock);
    rm_list_remove(&driven->link);
    keeper->driven_count -= !driven->inner;
  }
  pthread_mutex_unlock(&keeper->lock);
}

size_t rm_driven_count(rm_core *core) {
  pthread_mutex_lock(&core->keeper.lock);
  size_t count = core->keeper.driven_count;
  pthread_mutex_unlock(&core->keeper.lock);
  return count;
}

int64_t rm_driven_step(rm_core *core) {
  rm_keeper *keeper = &core->keeper;
  int64_t next = RM_FOREVER;
  pthread_mutex_lock(&keeper->lock);
  FOR_EACH(node, keeper) {
    rm_driven *driven = of(node);
    int64_t now_us = rm_clock_now_us();
    if (driven->ready || driven->wants.until_us <= now_us) {
      driven->ready = false;
      driven->busy = true;
      pthread_mutex_unlock(&keeper->lock);
      driven->class->step(driven, now_us, &driven->wants);
      pthread_mutex_lock(&keeper->lock);
      driven->busy = false;
      pthread_cond_broadcast(&keeper->idle);
    }
    next = rm_min64(next, driven->ready ? 0 : driven->wants.until_us);
  }
  pthread_mutex_unlock(&keeper->lock);
  return next;
}

size_t rm_driven_wants(rm_core *core, struct pollfd *fds) {
  rm_keeper *keeper = &core->keeper;
  size_t count = 0;
  pthread_mutex_lock(&keeper->lock);
  FOR_EACH(node, keeper) {
    rm_driven *driven = of(node);
    driven->slot = 0;
    if (driven->ready || driven->wants.fd < 0) continue;
    fds[count] = (struct pollfd){.fd = driven->wants.fd};
    if ((driven->wants.events & REDMOON_WANT_READ) != 0) fds[count].events |= POLLIN;
    if ((driven->wants.events & REDMOON_WANT_WRITE) != 0) fds[count].events |= POLLOUT;
    driven->slot = ++count;
  }
  pthread_mutex_unlock(&keeper->lock);
  return count;
}

void rm_driven_polled(rm_core *core, const struct pollfd *fds) {
  rm_keeper *keeper = &core->keeper;
  pthread_mutex_lock(&keeper->lock);
  FOR_EACH(node, keeper) {
    rm_driven *driven = of(node);
    if (driven->slot > 0 && fds[driven->slot - 1].revents != 0) driven->ready = true;
  }
  pthread_mutex_unlock(&keeper->lock);
}

void rm_driven_end(rm_core *core) {
  rm_keeper *keeper = &core->keeper;
  pthread_mutex_lock(&keeper->lock);
  FOR_EACH(node, keeper) {
    rm_driven *driven = of(node);
    driven->busy = true;
    pthread_mutex_unlock(&keeper->lock);
    driven->class->end(driven);
    pthread_mutex_lock(&keeper->lock);
    driven->busy = false;
    pthread_cond_broadcast(&keeper->idle);
  }
  pthread_mutex_unlock(&keeper->lock);
}

/* Without the lock, which a thread that is gone may have held: the chain of `next` is whole at any moment. */
void rm_driven_forked(rm_keeper *keeper) {
  FOR_EACH(node, keeper) of(node)->class->forked(of(node), of(node)->busy);
}
