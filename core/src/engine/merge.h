/* SPDX-License-Identifier: MIT */
/** The answers of several nodes to parts of one command, made into one. */
#ifndef RM_ENGINE_MERGE_H
#define RM_ENGINE_MERGE_H

#include "engine/scatter.h"

/** All `count` parts of a command, each with its reply; *out lies in `arena` or is one of them.  An error of any part is the
 *  answer, but for RM_MERGE_ANY.  `argc`: how many arguments the command had.  0 or NOMEM. */
int rm_merge(const rm_part *parts, size_t count, size_t argc, rm_arena *arena, redmoon_reply **out);

#endif
