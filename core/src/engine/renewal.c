/* SPDX-License-Identifier: MIT */
/* Renewals: a list under the keeper's mutex.  Whatever is called of one is called without it, while `busy` keeps the one
 * where it is. */
#include "engine/renewal.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"

#include <poll.h>

int rm_renewal_client(redmoon_client *client, int64_t lease_ms, redmoon_client **out, redmoon_error *err) {
  const rm_settings *settings = &client->settings;
  int64_t third_ms = rm_max64(lease_ms / 3, 1), sixth_ms = rm_max64(lease_ms / 6, 1);
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.timeout_ms = rm_min64(settings->timeout_us / 1000, third_ms);
  options.pool_timeout_ms = rm_min64(settings->pool_timeout_us / 1000, third_ms);
  options.read_timeout_ms = rm_min64(settings->read_timeout_us / 1000, sixth_ms);
  options.write_timeout_ms = rm_min64(settings->write_timeout_us / 1000, sixth_ms);
  options.max_retries = 0;
  return redmoon_client_with(client, &options, out, err);
}

int rm_renewals_ready(redmoon_client *client, redmoon_error *err) {
  rm_core_check_fork(client->core);
  if (rm_keeper_wake(client->core)) return 0;
  return rm_fail(err, REDMOON_EUNAVAILABLE, "no thread could be had to renew with");
}

void rm_renewal_add(redmoon_client *client, rm_renewal *renewal, int64_t due_us) {
  rm_core *core = client->core;
  rm_core_check_fork(core);
  pthread_mutex_lock(&core->keeper.lock);
  renewal->due_us = due_us;
  renewal->generation = core->keeper.generation;
  rm_list_push_back(&core->keeper.renewals, &renewal->link);
  pthread_mutex_unlock(&core->keeper.lock);
  (void)rm_keeper_wake(core);
}

void rm_renewal_remove(redmoon_client *client, rm_renewal *renewal) {
  rm_core *core = client->core;
  rm_keeper *keeper = &core->keeper;
  rm_core_check_fork(core);
  pthread_mutex_lock(&keeper->lock);
  if (rm_list_is_linked(&renewal->link) && renewal->generation == keeper->generation) {
    while (renewal->busy) pthread_cond_wait(&keeper->idle, &keeper->lock);
    rm_list_remove(&renewal->link);
  }
  renewal->link.next = NULL;
  /* In a child whose parent's keeper was in the middle of it, nobody can tell what state it is in. */
  redmoon_op *op = renewal->busy ? NULL : renewal->op;
  renewal->op = NULL;
  pthread_mutex_unlock(&keeper->lock);
  redmoon_op_cancel(op);
}

/* One step of one that is busy. */
static void advance(rm_renewal *renewal) {
  redmoon_error err;
  int status = 0;
  if (renewal->op == NULL) status = renewal->class->start(renewal, &renewal->op, &err);
  if (status == RM_DONE) {
    renewal->due_us = RM_FOREVER;
    return;
  }
  if (status == 0) {
    if (!redmoon_op_step(renewal->op)) return;
    redmoon_op *op = renewal->op;
    renewal->op = NULL;
    status = redmoon_op_finish(op, &err);
  }
  renewal->due_us = renewal->class->ended(renewal, status, &err);
}

static size_t count_running(const rm_keeper *keeper) {
  size_t count = 0;
  for (const rm_list *node = keeper->renewals.next; node != &keeper->renewals; node = node->next)
    count += RM_CONTAINER_OF(node, rm_renewal, link)->op != NULL;
  return count;
}

int64_t rm_renewals_step(rm_core *core) {
  rm_keeper *keeper = &core->keeper;
  int64_t next = RM_FOREVER;
  pthread_mutex_lock(&keeper->lock);
  size_t running = count_running(keeper);
  for (rm_list *node = keeper->renewals.next; node != &keeper->renewals; node = node->next) {
    rm_renewal *renewal = RM_CONTAINER_OF(node, rm_renewal, link);
    bool idle = renewal->op == NULL;
    if (idle && renewal->due_us > rm_clock_now_us()) {
      next = rm_min64(next, renewal->due_us);
      continue;
    }
    if (idle && running == RM_RENEWALS_AT_ONCE) continue; /* an end of another's operation comes back here */
    renewal->busy = true;
    pthread_mutex_unlock(&keeper->lock);
    advance(renewal);
    pthread_mutex_lock(&keeper->lock);
    renewal->busy = false;
    pthread_cond_broadcast(&keeper->idle);
    if (renewal->op != NULL) {
      running += idle;
      next = rm_min64(next, renewal->op->wants.until_us);
    } else {
      /* Room for one that was passed over has to be used at once. */
      if (!idle && running-- == RM_RENEWALS_AT_ONCE) next = 0;
      next = rm_min64(next, renewal->due_us);
    }
  }
  pthread_mutex_unlock(&keeper->lock);
  return next;
}

size_t rm_renewals_wants(rm_core *core, struct pollfd *fds) {
  rm_keeper *keeper = &core->keeper;
  size_t count = 0;
  pthread_mutex_lock(&keeper->lock);
  for (rm_list *node = keeper->renewals.next; node != &keeper->renewals && count < RM_RENEWALS_AT_ONCE; node = node->next) {
    const redmoon_op *op = RM_CONTAINER_OF(node, rm_renewal, link)->op;
    if (op == NULL || op->wants.fd < 0) continue;
    fds[count++] = rm_poll_wants(&op->wants);
  }
  pthread_mutex_unlock(&keeper->lock);
  return count;
}

/* Their owners hold the client open, so no operation here holds the last reference to it. */
void rm_renewals_give_up(rm_core *core) {
  rm_keeper *keeper = &core->keeper;
  pthread_mutex_lock(&keeper->lock);
  for (rm_list *node = keeper->renewals.next; node != &keeper->renewals; node = node->next) {
    rm_renewal *renewal = RM_CONTAINER_OF(node, rm_renewal, link);
    redmoon_op *op = renewal->op;
    if (op == NULL) continue;
    renewal->op = NULL;
    renewal->busy = true;
    pthread_mutex_unlock(&keeper->lock);
    redmoon_op_cancel(op);
    pthread_mutex_lock(&keeper->lock);
    renewal->busy = false;
    pthread_cond_broadcast(&keeper->idle);
  }
  pthread_mutex_unlock(&keeper->lock);
}
