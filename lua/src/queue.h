/* SPDX-License-Identifier: MIT */
/** Between queue.c, queue_admin.c and job.c of the binding. */
#ifndef RM_LUA_QUEUE_H
#define RM_LUA_QUEUE_H

#include "codec.h"

#define RM_LUA_QUEUE_TYPE "redmoon.queue"

typedef struct rm_lua_queue {
  rm_lua_link link;
  redmoon_queue *queue; /* NULL: closed */
  rm_lua_codec codec;
} rm_lua_queue;
enum { RM_LUA_QUEUE_SERVER = 1, RM_LUA_QUEUE_CODEC = 2, RM_LUA_QUEUE_SLOTS = 2 };

/** The open queue at 1. [-0, +0] */
rm_lua_queue *rm_lua_queue_check(lua_State *L);

/** Adds the methods of queue_admin.c to the table on top. [-0, +0] */
void rm_lua_queue_admin_methods(lua_State *L);

/** The box of a job. */
typedef struct rm_lua_job {
  rm_lua_link link;
  redmoon_job *job; /* NULL: closed, or not given yet */
  rm_lua_codec codec;
  bool ended;
} rm_lua_job;
enum { RM_LUA_JOB_SERVER = 1, RM_LUA_JOB_CODEC = 2, RM_LUA_JOB_PAYLOAD = 3, RM_LUA_JOB_SLOTS = 3 };

/** A box of a job to come of the queue or job at `index`, whose first two user values it keeps. [-0, +1] */
rm_lua_job *rm_lua_job_new(lua_State *L, int index, const rm_lua_link *link, rm_lua_codec codec);
/** The box on top has got its job, or none: leaves it with its payload, or nil instead. [-1, +1] */
void rm_lua_job_got(lua_State *L, rm_lua_job *job);
/** The job at `index`, open or not; raises for anything else. [-0, +0] */
rm_lua_job *rm_lua_job_check(lua_State *L, int index);
/** Field `name` of the table on top: the value of these bytes, or nothing where they cannot be decoded.  `owner` has
 *  the codec's functions in its user value 2. [-0, +0] */
void rm_lua_job_set_value(lua_State *L, rm_lua_codec codec, int owner, const char *name, redmoon_bytes bytes);

#endif
