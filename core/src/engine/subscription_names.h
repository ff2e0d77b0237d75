/* SPDX-License-Identifier: MIT */
/** A sorted set of names: what a subscription wants to receive of one kind. */
#ifndef RM_ENGINE_SUBSCRIPTION_NAMES_H
#define RM_ENGINE_SUBSCRIPTION_NAMES_H

#include <redmoon/script.h>
#include <stdbool.h>

typedef struct rm_names {
  redmoon_bytes *items; /* each allocated */
  size_t count, cap;
} rm_names;

/** Room for `extra` more.  0 or REDMOON_ENOMEM. */
int rm_names_reserve(rm_names *names, size_t extra);
bool rm_names_has(const rm_names *names, redmoon_bytes name);
/** Adds a copy.  1: added; 0: it was there; REDMOON_ENOMEM. */
int rm_names_add(rm_names *names, redmoon_bytes name);
/** Whether it was there. */
bool rm_names_remove(rm_names *names, redmoon_bytes name);
void rm_names_fini(rm_names *names);

#endif
