/* SPDX-License-Identifier: MIT */
/** Between topic.c and topic_cursor.c. */
#ifndef RM_LUA_TOPIC_H
#define RM_LUA_TOPIC_H

#include "binding.h"

#define RM_LUA_TOPIC_TYPE "redmoon.topic"
enum { RM_LUA_TOPIC_SERVER = 1 }; /* user value: what keeps an embedded server */

typedef struct rm_lua_topic {
  rm_lua_link link;
  redmoon_topic *inner; /* NULL: closed */
} rm_lua_topic;
/** The topic at 1; raises for anything else, and when it is closed. [-0, +0] */
rm_lua_topic *rm_lua_topic_check(lua_State *L);

/* Methods of the topic. */
int rm_lua_topic_reader(lua_State *L);
int rm_lua_topic_readers(lua_State *L);
int rm_lua_topic_remove_reader(lua_State *L);

#endif
