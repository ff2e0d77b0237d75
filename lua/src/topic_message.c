/* SPDX-License-Identifier: MIT */
/* A message of a topic as a table, and the one that a reader holds until it could be handed over. */
#include "topic.h"

void rm_lua_topic_set(lua_State *L, const char *field, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, field);
}

void rm_lua_topic_push_held(lua_State *L, redmoon_topic_message **held, const rm_lua_topic_words *words) {
  redmoon_topic_message *m = *held;
  if (m == NULL) {
    lua_pushnil(L);
    return;
  }
  lua_createtable(L, 0, 4);
  lua_pushstring(L, m->kind == REDMOON_MESSAGE ? "message" : words->kind);
  lua_setfield(L, -2, "kind");
  if (m->kind == REDMOON_MESSAGE) {
    rm_lua_topic_set(L, "seq", m->seq);
    lua_pushlstring(L, m->payload, m->payload_len);
    lua_setfield(L, -2, "payload");
  } else if (m->from == 0) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "unknown");
  } else {
    rm_lua_topic_set(L, "from", m->from);
    rm_lua_topic_set(L, "to", m->to);
    rm_lua_topic_set(L, words->count, m->to - m->from + 1);
  }
  *held = NULL;
  redmoon_topic_message_free(m);
}

void rm_lua_topic_give(lua_State *L, redmoon_topic_message **held, redmoon_topic_message **came,
                       const rm_lua_topic_words *words) {
  bool before = *held != NULL;
  if (!before) {
    *held = *came;
    *came = NULL;
  }
  rm_lua_topic_push_held(L, held, words);
  if (!before) return;
  *held = *came;
  *came = NULL;
}

void rm_lua_topic_drop(void *out) { redmoon_topic_message_free(*(redmoon_topic_message **)out); }
