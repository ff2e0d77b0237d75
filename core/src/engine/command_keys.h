/* SPDX-License-Identifier: MIT */
/** Where the keys of a command are, and where one without keys goes in a cluster. */
#ifndef RM_ENGINE_COMMAND_KEYS_H
#define RM_ENGINE_COMMAND_KEYS_H

#include "engine/commands.h"

#include <redmoon/script.h>
#include <stdbool.h>

/** Arguments that are keys: `count` of them from `first` on, every `step`-th; and one more in front, where there is `extra`.
 *  With a shard channel the channel counts as its key: it decides the slot. */
typedef struct rm_key_span {
  size_t first, count, step;
  size_t extra; /* index; 0: none */
} rm_key_span;

/** `argc` arguments, the name included.  A malformed command has the keys that can be seen; the server says what is wrong. */
REDMOON_API rm_key_span rm_command_keys(const rm_command *command, const redmoon_bytes *args, size_t argc);

/** How a command is spread in a cluster, after the request and response policies of the Redis documentation ("Command
 *  tips"). */
enum {
  RM_SPREAD_NONE,      /* to one node: that of its keys, or any */
  RM_SPREAD_KEYS,      /* split by the slots of its keys */
  RM_SPREAD_PRIMARIES, /* to every primary */
  RM_SPREAD_NODES,     /* to every node that is known to serve */
  RM_SPREAD_REFUSED    /* means something to one node only */
};
enum {
  RM_MERGE_SAME,   /* all must succeed: the first answer; the first error wins */
  RM_MERGE_SUM,    /* of integers */
  RM_MERGE_LEAST,  /* of integers */
  RM_MERGE_AND,    /* of arrays of integers, place by place */
  RM_MERGE_JOIN,   /* arrays, one after another */
  RM_MERGE_PLACES, /* arrays, each element in the place of its key */
  RM_MERGE_ANY     /* the first that is not nil; the first that succeeded */
};
typedef struct rm_spread {
  uint8_t to, merge;
} rm_spread;
REDMOON_API rm_spread rm_command_spread(const rm_command *command);

#endif
