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

/* topic_message.c: */
/** What a reader of either kind calls messages that it cannot have any more, and their number. */
typedef struct rm_lua_topic_words {
  const char *kind, *count;
} rm_lua_topic_words;
/** [-0, +0] of the table on top. */
void rm_lua_topic_set(lua_State *L, const char *field, int64_t value);
/** What is held, as a table; nil: nothing.  It is held no more. [-0, +1] */
void rm_lua_topic_push_held(lua_State *L, redmoon_topic_message **held, const rm_lua_topic_words *words);
/** What came, behind what could not be handed over before; nil: nothing. [-0, +1] */
void rm_lua_topic_give(lua_State *L, redmoon_topic_message **held, redmoon_topic_message **came,
                       const rm_lua_topic_words *words);
/** The drop of a task whose out is a message. */
void rm_lua_topic_drop(void *out);

#endif
