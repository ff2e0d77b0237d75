/* SPDX-License-Identifier: MIT */
/** The box of a stream queue's job, which its queue fills. */
#ifndef RM_LUA_STREAM_QUEUE_H
#define RM_LUA_STREAM_QUEUE_H

#include "binding.h"
#include "codec.h"

typedef struct rm_lua_stream_job {
  rm_lua_link link;
  redmoon_stream_job *job; /* NULL: closed, or there was none */
  bool ended;
} rm_lua_stream_job;

/** A box to be filled, of the queue at `index`; it keeps the server that has to live (user value 1). [-0, +1] */
rm_lua_stream_job *rm_lua_stream_job_new(lua_State *L, int index, const rm_lua_link *link);
/** The box on top has got its job, or none: leaves it with its payload, or nil instead.  `owner` has the codec's
 * functions in its user value `slot`. [-1, +1] */
void rm_lua_stream_job_got(lua_State *L, rm_lua_stream_job *box, rm_lua_codec codec, int owner, int slot);
void rm_lua_stream_job_open(lua_State *L);

#endif
