/* SPDX-License-Identifier: MIT */
/* How those in a lane sleep, and are woken: threads on a futex, operations of a loop by its bell or on a descriptor.
 *
 * To wake a thread takes a system call, after which it often runs in the place of the one that woke it.  So those who are
 * to be woken are noted as bits of their chunk's futex, and one call wakes all of them, once the lock is free. */
#define _GNU_SOURCE
#include "engine/mux_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NO_EVENT_US = 1000 };

static rm_slot_chunk *chunk_of(rm_mux_slot *slot) { return RM_CONTAINER_OF(slot - slot->index, rm_slot_chunk, slots); }

static uint32_t bit_of(const rm_mux_slot *slot) { return UINT32_C(1) << slot->index; }

/* Until it is told, or the time has come.  The word changes for others of the chunk, too: then it waits on, without the
 * lock. */
static void futex_wait(rm_mux_slot *slot, unsigned seen, int64_t until_us) {
  atomic_uint *word = &chunk_of(slot)->word;
  struct timespec limit = {.tv_sec = (time_t)(until_us / 1000000), .tv_nsec = (long)(until_us % 1000000) * 1000};
  while (!atomic_load(&slot->told)) {
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, &limit, NULL, bit_of(slot));
    if (rc != 0 && errno != EAGAIN) return;
    seen = atomic_load(word); /* before the next look at `told` */
  }
}

static void futex_wake(atomic_uint *word, uint32_t bits) {
  (void)syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, bits);
}

void rm_lane_unlock(rm_lane *lane) {
  rm_slot_chunk *chunks[RM_WAKES_AT_ONCE];
  uint32_t bits[RM_WAKES_AT_ONCE];
  int count = lane->to_wake_count;
  lane->to_wake_count = 0;
  for (int i = 0; i < count; i++) {
    chunks[i] = lane->to_wake[i];
    bits[i] = chunks[i]->wakes;
    chunks[i]->wakes = 0;
  }
  pthread_mutex_unlock(&lane->lock);
  for (int i = 0; i < count; i++) futex_wake(&chunks[i]->word, bits[i]);
}

static void wake_thread(rm_mux_slot *slot) {
  rm_lane *lane = slot->call->lane;
  rm_slot_chunk *chunk = chunk_of(slot);
  atomic_store(&slot->told, true);
  atomic_fetch_add(&chunk->word, 1);
  if (chunk->wakes == 0 && lane->to_wake_count == RM_WAKES_AT_ONCE) {
    futex_wake(&chunk->word, bit_of(slot));
    return;
  }
  if (chunk->wakes == 0) lane->to_wake[lane->to_wake_count++] = chunk;
  chunk->wakes |= bit_of(slot);
}

void rm_slot_wake(rm_mux_slot *slot) {
  if (slot->wait == RM_WAITS_FOR_FUTEX) {
    slot->wait = RM_AWAKE;
    wake_thread(slot);
  } else if (slot->wait == RM_WAITS_FOR_BELL) {
    rm_bell_place *place = &slot->call->op.bell;
    if (!rm_bell_is_here(place->bell)) return; /* it looks by itself, within RM_CHECK_US */
    slot->wait = RM_AWAKE;
    rm_bell_ring(place);
  } else if (slot->wait == RM_WAITS_FOR_EVENT && !slot->signalled) {
    slot->signalled = true;
    rm_event_signal(&slot->event);
  }
}

void rm_slot_awake(rm_mux_slot *slot) {
  slot->wait = RM_AWAKE;
  rm_bell_forget(&slot->call->op.bell);
  if (!slot->signalled) return;
  slot->signalled = false;
  rm_event_clear(&slot->event);
}

bool rm_slot_sleep(rm_lane *lane, rm_call *call, int64_t until_us, int64_t *now_us) {
  rm_mux_slot *slot = call->slot;
  until_us = rm_min64(until_us, *now_us + RM_CHECK_US);
  if (call->op.may_block) {
    slot->wait = RM_WAITS_FOR_FUTEX;
    atomic_store(&slot->told, false);
    unsigned seen = atomic_load(&chunk_of(slot)->word);
    rm_lane_unlock(lane);
    futex_wait(slot, seen, until_us);
    *now_us = rm_clock_now_us();
    rm_lane_lock(lane);
    rm_slot_awake(slot);
    return true;
  }
  const rm_mux_slot *leader = lane->leader;
  if (call->op.bell.bell != NULL && leader != NULL && leader != slot && leader->call->op.bell.bell == call->op.bell.bell) {
    slot->wait = RM_WAITS_FOR_BELL;
    call->op.wants = (rm_wants){-1, RM_WANT_BELL, until_us};
    return false;
  }
  bool has_event = slot->event.fd >= 0 || rm_event_open(&slot->event) == 0;
  slot->wait = has_event ? RM_WAITS_FOR_EVENT : RM_AWAKE;
  if (!has_event) until_us = rm_min64(until_us, *now_us + NO_EVENT_US);
  call->op.wants = (rm_wants){slot->event.fd, REDMOON_WANT_READ | RM_WANT_LASTING, until_us};
  return false;
}
