/* SPDX-License-Identifier: MIT */
/* client:records(name, {fields={...}, ...}): Lua tables to values of the schema, and back. */
#include "records.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define RECORDS_TYPE "redmoon.records"
#define TTL_ACCEPTS "seconds from 0.001 to 3155760000 (100 years)"

typedef struct records {
  rm_lua_link link;
  redmoon_records *records; /* NULL: closed */
} records;
enum { SLOT_SERVER = 1, SLOTS = 1 };

typedef struct sum_out {
  redmoon_record_sum sum;
  bool is_double;
} sum_out;

static const rm_option records_options[] = {
    {"fields", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a table of names and types"},
    {"ttl", RM_OPTION_DURATION, offsetof(redmoon_records_options, ttl_ms), 1, RM_RECORD_TTL_MAX, 0, TTL_ACCEPTS},
    {"sliding", RM_OPTION_BOOL, offsetof(redmoon_records_options, sliding), 0, 1, 0, "true or false"},
    {"keep_ttl", RM_OPTION_BOOL, offsetof(redmoon_records_options, keep_ttl), 0, 1, 0, "true or false"},
    {"max_age", RM_OPTION_DURATION, offsetof(redmoon_records_options, max_age_ms), 1, RM_RECORD_TTL_MAX, 0,
     TTL_ACCEPTS},
    {"max_value_size", RM_OPTION_INTEGER, offsetof(redmoon_records_options, max_value_size), 1, RM_RECORD_VALUE_MAX,
     0, "an integer from 1 to 67108864"},
    {"secret", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a string of 16 to 64 random bytes"}, /* of sessions alone */
};
enum { RECORDS_OPTIONS = sizeof records_options / sizeof records_options[0] - 1 };
static const rm_option write_options[] = {
    {"version", RM_OPTION_INTEGER, offsetof(rm_record_how, version), 0, RM_RECORD_VERSION_MAX, 0,
     "a version that load or a write returned, or 0 (there must be no record)"},
    {"request_id", RM_OPTION_TEXT, offsetof(rm_record_how, request_id), 0, 0, 0, "a text"},
};
enum { WRITE_OPTIONS = sizeof write_options / sizeof write_options[0] };

static const char *const type_names[] = {"string", "integer", "number", "boolean", "time"};
static const int types[] = {REDMOON_STRING, REDMOON_INTEGER, REDMOON_DOUBLE, REDMOON_BOOLEAN, REDMOON_TIME};
enum { TYPES = sizeof types / sizeof types[0] };

/* The schema. */

/* How many fields the table at `index` has; raises unless all are names with types. [-0, +0] */
static size_t check_fields(lua_State *L, int index) {
  size_t count = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      rm_lua_raise(L, "option 'fields': names expected, got a key of type %s", luaL_typename(L, -2));
    if (lua_type(L, -1) != LUA_TSTRING)
      rm_lua_raise(L, "option 'fields': '%s' needs the name of a type, got %s", lua_tostring(L, -2),
                   luaL_typename(L, -1));
    rm_lua_check_name(L, -1, type_names, TYPES, "type");
    if (strlen(lua_tostring(L, -2)) != lua_rawlen(L, -2))
      rm_lua_raise(L, "option 'fields': a NUL byte is not accepted in a name");
    lua_pop(L, 1);
    count++;
  }
  return count;
}

/* The table at `index`, checked, as an array in a userdata. [-0, +1] */
static redmoon_field *push_fields(lua_State *L, int index, size_t count) {
  redmoon_field *fields = lua_newuserdatauv(L, (count + 1) * sizeof *fields, 0);
  size_t n = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    fields[n].name = lua_tostring(L, -2); /* the table keeps it */
    fields[n].type = types[rm_lua_check_name(L, -1, type_names, TYPES, "type")];
    fields[n++].offset = 0;
    lua_pop(L, 1);
  }
  return fields;
}

void rm_lua_read_records_options(lua_State *L, int index, bool sessions, redmoon_records_options *out) {
  rm_lua_read_options(L, index, records_options, RECORDS_OPTIONS + (sessions ? 1 : 0), out);
  if (lua_getfield(L, index, "fields") != LUA_TTABLE)
    rm_lua_raise(L, "option 'fields': a %s is not accepted; it takes a table of names and types",
                 luaL_typename(L, -1));
  out->field_count = check_fields(L, lua_gettop(L));
  out->fields = push_fields(L, lua_gettop(L), out->field_count);
}

/* [-0, +0], never raises */
static void end_records(lua_State *L, records *r) {
  redmoon_records *inner = r->records;
  r->records = NULL;
  redmoon_records_free(inner);
  rm_lua_link_drop(L, &r->link);
}

int rm_lua_client_records(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  const char *name = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  rm_lua_read_records_options(L, 3, false, &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  records *r = lua_newuserdatauv(L, sizeof *r, SLOTS);
  memset(r, 0, sizeof *r);
  luaL_setmetatable(L, RECORDS_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  rm_lua_link_set(&r->link, &client->link);
  redmoon_error err;
  if (redmoon_records_new(client->link.client, name, &options, &r->records, &err) < 0) {
    end_records(L, r);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* Values. */

static int refuse(lua_State *L, const redmoon_field *field, int index, const char *takes) {
  return rm_lua_raise(L, "field '%s': a %s is not accepted; it takes %s", field->name, luaL_typename(L, index),
                      takes);
}

static int64_t check_time(lua_State *L, const redmoon_field *field, int index) {
  double us = lua_type(L, index) == LUA_TNUMBER ? round(lua_tonumber(L, index) * 1e6) : NAN;
  if (!(fabs(us) < 9007199254740992.0))
    refuse(L, field, index, "seconds since the epoch, below 2^53 microseconds either side");
  return (int64_t)us;
}

/* The value at `index`, as the field's type wants it; strings stay where they are. [-0, +0] */
static rm_value check_value(lua_State *L, const redmoon_field *field, int index) {
  rm_value value = {{NULL, 0}};
  bool is_number = lua_type(L, index) == LUA_TNUMBER;
  int exact = 0;
  switch (field->type) {
  case REDMOON_STRING:
    if (lua_type(L, index) != LUA_TSTRING) refuse(L, field, index, "a string");
    value.bytes.ptr = lua_tolstring(L, index, &value.bytes.len);
    break;
  case REDMOON_DOUBLE:
    if (is_number) value.number = lua_tonumber(L, index);
    if (!is_number || !isfinite(value.number)) refuse(L, field, index, "a finite number");
    break;
  case REDMOON_BOOLEAN:
    if (!lua_isboolean(L, index)) refuse(L, field, index, "true or false");
    value.integer = lua_toboolean(L, index);
    break;
  case REDMOON_TIME:
    value.integer = check_time(L, field, index);
    break;
  default:
    if (is_number) value.integer = (int64_t)lua_tointegerx(L, index, &exact);
    if (!exact) refuse(L, field, index, "a 64-bit integer");
  }
  return value;
}

/* [-0, +1] */
static void push_value(lua_State *L, const redmoon_field *field, const rm_value *value) {
  switch (field->type) {
  case REDMOON_STRING:
    lua_pushlstring(L, value->bytes.ptr, value->bytes.len);
    break;
  case REDMOON_DOUBLE:
    lua_pushnumber(L, value->number);
    break;
  case REDMOON_BOOLEAN:
    lua_pushboolean(L, value->integer != 0);
    break;
  case REDMOON_TIME:
    lua_pushnumber(L, (lua_Number)value->integer / 1e6);
    break;
  default:
    lua_pushinteger(L, (lua_Integer)value->integer);
  }
}

/* The field whose name is at `index`. [-0, +0] */
static size_t check_field(lua_State *L, int index, const redmoon_records *schema) {
  return rm_lua_check_name(L, index, schema->names, schema->count, "field");
}

/* Methods. */

static records *check(lua_State *L) {
  records *r = luaL_checkudata(L, 1, RECORDS_TYPE);
  luaL_argcheck(L, r->records != NULL, 1, "the records object is closed");
  return r;
}

/* The id at 2: text as it is, a number in its decimal form. [-0, +1] */
static const redmoon_bytes *check_id(lua_State *L) {
  rm_lua_check_args(L, 2, 2);
  rm_lua_args *args = rm_lua_args_new(L, 1);
  rm_lua_args_add(L, args, 2, 2);
  return &args->bytes[0];
}

rm_field_write *rm_lua_check_writes(lua_State *L, const redmoon_records *schema, bool replace, size_t *count) {
  luaL_checktype(L, 3, LUA_TTABLE);
  rm_field_write *writes = lua_newuserdatauv(L, schema->count * sizeof *writes, 0);
  *count = 0;
  lua_pushnil(L);
  while (lua_next(L, 3)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      rm_lua_raise(L, "fields are given by name; got a key of type %s", luaL_typename(L, -2));
    size_t field = check_field(L, -2, schema);
    rm_field_write write = {field, lua_touserdata(L, -1) == NULL && lua_islightuserdata(L, -1), {{NULL, 0}}};
    if (!write.drop) write.value = check_value(L, &schema->fields[field], -1);
    if (!write.drop || !replace) writes[(*count)++] = write;
    lua_pop(L, 1);
  }
  return writes;
}

void rm_lua_read_record_how(lua_State *L, int index, rm_record_how *how) {
  rm_lua_read_options(L, index, write_options, WRITE_OPTIONS, how);
}

int rm_lua_push_written(lua_State *L, rm_lua_task *task, int status) {
  const int64_t *version = (const int64_t *)rm_lua_out(task);
  if (status == 0) {
    if (*version == 0) lua_pushnil(L);
    else lua_pushinteger(L, (lua_Integer)*version);
    return 1;
  }
  int count = rm_lua_fail(L, &task->err);
  if (status == REDMOON_ECONFLICT) {
    lua_pushinteger(L, (lua_Integer)*version);
    lua_setfield(L, -2, "version");
  }
  return count;
}

static int write_record(lua_State *L, bool replace) {
  records *r = check(L);
  lua_settop(L, 4);
  rm_record_how how = {replace, REDMOON_UNSET, NULL, NULL};
  rm_lua_read_record_how(L, 4, &how);
  size_t count;
  const rm_field_write *writes = rm_lua_check_writes(L, r->records, replace, &count);
  const redmoon_bytes *id = check_id(L);
  rm_lua_task *task = rm_lua_task_take(L, &r->link, rm_lua_push_written);
  int started = rm_records_write_start(r->records, id->ptr, id->len, writes, count, &how, (int64_t *)rm_lua_out(task), &task->op,
                                       &task->err);
  return rm_lua_task_run(L, task, started);
}

/* records:save(id, t [, {version=, request_id=}]) -> version */
static int records_save(lua_State *L) { return write_record(L, true); }

/* records:update(id, t [, {version=, request_id=}]) -> version | nil */
static int records_update(lua_State *L) { return write_record(L, false); }

const size_t *rm_lua_check_selection(lua_State *L, const redmoon_records *schema, size_t *count) {
  *count = rm_lua_list_len(L, 3, "fields");
  if (lua_isnoneornil(L, 3)) {
    lua_pushnil(L);
    return NULL;
  }
  luaL_argcheck(L, *count <= RM_RECORD_FIELDS_MAX, 3, "more than 1000 fields");
  size_t *fields = lua_newuserdatauv(L, (*count + 1) * sizeof *fields, 0);
  for (size_t i = 0; i < *count; i++) {
    if (lua_rawgeti(L, 3, (lua_Integer)i + 1) != LUA_TSTRING)
      rm_lua_raise(L, "fields[%d]: a name expected, got %s", (int)i + 1, luaL_typename(L, -1));
    fields[i] = check_field(L, -1, schema);
    lua_pop(L, 1);
  }
  return fields;
}

static void drop_record(void *out) { redmoon_record_free(*(redmoon_record **)out); }

static int loaded(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_record *record = *(redmoon_record **)rm_lua_out(task);
  if (record == NULL) {
    lua_pushnil(L);
    return 1;
  }
  const redmoon_records *schema = record->records;
  lua_createtable(L, 0, 8);
  for (size_t i = 0; i < schema->count; i++) {
    if (!record->values[i].has) continue;
    push_value(L, &schema->fields[i], &record->values[i].value);
    lua_setfield(L, -2, schema->names[i]);
  }
  lua_pushinteger(L, (lua_Integer)record->version);
  return 2;
}

rm_lua_task *rm_lua_take_load(lua_State *L, const rm_lua_link *link) {
  rm_lua_task *task = rm_lua_task_take(L, link, loaded);
  task->drop = drop_record;
  return task;
}

/* records:load(id [, fields]) -> table, version | nil */
static int records_load(lua_State *L) {
  records *r = check(L);
  lua_settop(L, 3);
  size_t count;
  const size_t *fields = rm_lua_check_selection(L, r->records, &count);
  const redmoon_bytes *id = check_id(L);
  const rm_record_load what = {fields, count, NULL, NULL, NULL, false};
  rm_lua_task *task = rm_lua_take_load(L, &r->link);
  int started = rm_records_load_start(r->records, id->ptr, id->len, &what, (redmoon_record **)rm_lua_out(task), &task->op,
                                      &task->err);
  return rm_lua_task_run(L, task, started);
}

static int added(lua_State *L, rm_lua_task *task, int status) {
  const sum_out *out = (const sum_out *)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  if (out->sum.version == 0) {
    lua_pushnil(L);
    return 1;
  }
  if (out->is_double) lua_pushnumber(L, out->sum.number);
  else lua_pushinteger(L, (lua_Integer)out->sum.integer);
  lua_pushinteger(L, (lua_Integer)out->sum.version);
  return 2;
}

/* records:increment(id, field [, by=1 [, {request_id=}]]) -> sum, version | nil */
static int records_increment(lua_State *L) {
  records *r = check(L);
  lua_settop(L, 5);
  const redmoon_records *schema = r->records;
  size_t index = check_field(L, 3, schema);
  const redmoon_field *field = &schema->fields[index];
  if (field->type != REDMOON_INTEGER && field->type != REDMOON_DOUBLE)
    return rm_lua_raise(L, "field '%s': increment takes a field of type integer or number", field->name);
  if (lua_isnil(L, 4)) {
    lua_pushinteger(L, 1);
    lua_replace(L, 4);
  }
  rm_value by = check_value(L, field, 4);
  rm_record_how how = {false, REDMOON_UNSET, NULL, NULL};
  rm_lua_read_options(L, 5, &write_options[1], 1, &how);
  const redmoon_bytes *id = check_id(L);
  rm_lua_task *task = rm_lua_task_take(L, &r->link, added);
  sum_out *out = (sum_out *)rm_lua_out(task);
  out->is_double = field->type == REDMOON_DOUBLE;
  int started = rm_records_add_start(r->records, id->ptr, id->len, index, &by, how.request_id, &out->sum, &task->op,
                                     &task->err);
  return rm_lua_task_run(L, task, started);
}

static int touched(lua_State *L, rm_lua_task *task, int status) {
  int64_t left = *(const int64_t *)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  if (left == 0) lua_pushnil(L);
  else lua_pushnumber(L, left < 0 ? HUGE_VAL : (lua_Number)left / 1e3);
  return 1;
}

/* records:touch(id) -> seconds left | nil */
static int records_touch(lua_State *L) {
  records *r = check(L);
  const redmoon_bytes *id = check_id(L);
  rm_lua_task *task = rm_lua_task_take(L, &r->link, touched);
  return rm_lua_task_run(
      L, task, redmoon_records_touch_start(r->records, id->ptr, id->len, (int64_t *)rm_lua_out(task), &task->op, &task->err));
}

static int deleted(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, *(const int *)rm_lua_out(task));
  return 1;
}

/* records:delete(id) -> whether there was one */
static int records_delete(lua_State *L) {
  records *r = check(L);
  const redmoon_bytes *id = check_id(L);
  rm_lua_task *task = rm_lua_task_take(L, &r->link, deleted);
  return rm_lua_task_run(
      L, task, redmoon_records_delete_start(r->records, id->ptr, id->len, (int *)rm_lua_out(task), &task->op, &task->err));
}

static int records_gc(lua_State *L) {
  end_records(L, lua_touserdata(L, 1));
  return 0;
}

static int records_close(lua_State *L) {
  end_records(L, luaL_checkudata(L, 1, RECORDS_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_records_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", records_gc}, {"__close", records_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", records_close},
                                     {"delete", records_delete},
                                     {"increment", records_increment},
                                     {"load", records_load},
                                     {"save", records_save},
                                     {"touch", records_touch},
                                     {"update", records_update},
                                     {NULL, NULL}};
  rm_lua_new_type(L, RECORDS_TYPE, meta, methods);
  lua_pop(L, 2);
}
