/* SPDX-License-Identifier: MIT */
/** What records.c does for sessions.c, too: Lua tables to schemas and values, and back. */
#ifndef RM_LUA_RECORDS_H
#define RM_LUA_RECORDS_H

#include "binding.h"

#include "patterns/records.h"

/** Reads the table at `index`; `sessions`: its option secret is known.  Leaves what *out points into. [-0, +2] */
void rm_lua_read_records_options(lua_State *L, int index, bool sessions, redmoon_records_options *out);
/** The table at 3 as writes, in a userdata.  redmoon.null: the field is deleted (of an update), or not there. [-0, +1] */
rm_field_write *rm_lua_check_writes(lua_State *L, const redmoon_records *schema, bool replace, size_t *count);
/** The options of a write at `index`. [-0, +0] */
void rm_lua_read_record_how(lua_State *L, int index, rm_record_how *how);
/** The list of names at 3 as indexes, in a userdata; nil: NULL. [-0, +1] */
const size_t *rm_lua_check_selection(lua_State *L, const redmoon_records *schema, size_t *count);
/** Tail of a write, which puts an int64_t into rm_lua_out: version, nil, or a failure, of which a conflict has the version in
 *  its detail. */
int rm_lua_push_written(lua_State *L, rm_lua_task *task, int status);
/** A task for a load, which puts a redmoon_record pointer into rm_lua_out; its tail pushes table and version, or nil. [-0, +1] */
rm_lua_task *rm_lua_take_load(lua_State *L, const rm_lua_link *link);

#endif
