/* SPDX-License-Identifier: MIT */
/** The option `codec` of patterns whose payloads are Lua values, and what it stands for.
 *
 *  An object that has a codec holds an rm_lua_codec, and in one of its user values (`slot`) what rm_lua_codec_check
 *  pushed.  Encode before an operation starts, and decode when it has finished and given its connection back:
 * functions of the user are called, and they may use the client. */
#ifndef RM_LUA_CODEC_H
#define RM_LUA_CODEC_H

#include "binding.h"

typedef enum rm_lua_codec {
  RM_LUA_CODEC_STRING,   /* strings as they are */
  RM_LUA_CODEC_JSON,     /* json.h, with its usual limits */
  RM_LUA_CODEC_FUNCTIONS /* {encode = function(value) -> string, decode = function(string) -> value} */
} rm_lua_codec;

/** For the object's table of options, so that rm_lua_read_options knows the name. */
#define RM_LUA_CODEC_OPTION                                                                                        \
  { "codec", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "" }

/** The codec of the options table at `index` (nil or none: no options), or `fallback`; raises for anything else.
 *  Pushes what is to be kept as user value. [-0, +1] */
rm_lua_codec rm_lua_codec_check(lua_State *L, int index, rm_lua_codec fallback);
/** The value at `index` as a string.  `owner` is the object with the user value `slot`.  Returns 0, or
 * REDMOON_ECODEC or _ENOMEM (outcome: not sent) and nothing is pushed. [-0, +1|0], never raises */
int rm_lua_codec_encode(lua_State *L, rm_lua_codec codec, int owner, int slot, int index, redmoon_error *err);
/** The value of `len` bytes; never nil.  Likewise: bytes that cannot be decoded are a result like others (a cache
 * counts a miss, a queue with leases hands out the job without its payload). [-0, +1|0], never raises */
int rm_lua_codec_decode(lua_State *L, rm_lua_codec codec, int owner, int slot, const void *ptr, size_t len,
                        redmoon_error *err);

#endif
