/* SPDX-License-Identifier: MIT */
/** The box of a stream queue's job, which its queue fills. */
#ifndef RM_LUA_STREAM_QUEUE_H
#define RM_LUA_STREAM_QUEUE_H

#include "binding.h"
#include "codec.h"

typedef struct rm_lua_stream_job {
  rm_lua_link link;
  redmoon_stream_job *job; /* NULL: closed, or there was none */
  rm_lua_codec codec;
  bool ended;
} rm_lua_stream_job;

/** User values of queue and job: the server that has to live, the codec's functions, the decoded payload. */
enum { RM_LUA_STREAM_SERVER = 1, RM_LUA_STREAM_CODEC = 2, RM_LUA_STREAM_PAYLOAD = 3 };

/** A box to be filled, of the queue or job at `index`, whose first two user values it keeps. [-0, +1] */
rm_lua_stream_job *rm_lua_stream_job_new(lua_State *L, int index, const rm_lua_link *link, rm_lua_codec codec);
/** The box on top has got its job, or none: leaves it with its payload, or nil instead. [-1, +1] */
void rm_lua_stream_job_got(lua_State *L, rm_lua_stream_job *box);
void rm_lua_stream_job_open(lua_State *L);

#endif
