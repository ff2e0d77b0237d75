/* SPDX-License-Identifier: MIT */
/** What a cluster looks like, as one of its nodes told: which slots each shard serves, and by which servers. */
#ifndef RM_ROUTE_SHAPE_H
#define RM_ROUTE_SHAPE_H

#include "wire/config.h"
#include "wire/reply.h"

#include <stdint.h>

enum { RM_SHAPE_SHARDS = 4096, RM_SHAPE_REPLICAS = 16, RM_HOST_MAX = 255 };

/** A server, as it was announced. */
typedef struct rm_announced {
  char host[RM_HOST_MAX + 1];
  int port;
} rm_announced;

typedef struct rm_shape_shard {
  rm_announced primary;
  rm_announced *replicas;
  size_t replica_count;
} rm_shape_shard;

typedef struct rm_shape_range {
  uint16_t first, last;
  uint32_t shard;
} rm_shape_range;

typedef struct rm_shape {
  rm_shape_shard *shards;
  size_t shard_count;
  rm_shape_range *ranges;
  size_t range_count;
} rm_shape;

/** Reads a host and port that a server announced, in a reply or an error.  They are data of a stranger: 1 to 255 letters,
 *  digits, '.', '-', '_' and ':' are accepted, and a port from 1 to 65,535.  An empty host means the server that was asked,
 *  `asked`.  False: they cannot be used. */
bool rm_announced_read(rm_announced *out, const char *host, size_t len, int64_t port, const rm_address *asked);
/** "host:port" as in MOVED, with the last ':' in front of the port. */
bool rm_announced_parse(rm_announced *out, const char *text, size_t len, const rm_address *asked);
/** Reads the answer of CLUSTER SLOTS.  0; PROTOCOL naming what is wrong with it; UNAVAILABLE when it serves no slot at all;
 *  NOMEM.  Servers without a usable address are left out, and the slots of a primary without one. */
int rm_shape_read(rm_shape *shape, const redmoon_reply *reply, const rm_address *asked, redmoon_error *err);
void rm_shape_fini(rm_shape *shape);

#endif
