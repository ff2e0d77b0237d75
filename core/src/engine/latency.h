/* SPDX-License-Identifier: MIT */
/** How far away each node is, where reads go to the nearest one: a PING to each now and then, on a connection of its own. */
#ifndef RM_ENGINE_LATENCY_H
#define RM_ENGINE_LATENCY_H

#include "engine/core.h"
#include "engine/inquiry.h"

enum { RM_LATENCY_EVERY_US = 10000000 };

/** Zeroed: nothing goes on.  The keeper's alone. */
typedef struct rm_latencies {
  rm_inquiry inquiry;
  bool asking;
  rm_node *at; /* whose latency is being measured; NULL: of none */
  int64_t due_us;
} rm_latencies;

/** Whether reads go to the nearest node, so that there is something to measure. */
bool rm_latencies_matter(const rm_core *core);
/** Goes on, or begins when it is time to: RM_WAIT, or RM_DONE when nothing is to be done now. */
int rm_latencies_step(rm_latencies *latencies, rm_core *core, int64_t now_us, rm_wants *wants);
/** Gives up whatever goes on. */
void rm_latencies_drop(rm_latencies *latencies);

#endif
