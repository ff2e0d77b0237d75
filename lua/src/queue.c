/* SPDX-License-Identifier: MIT */
/* client:queue(name, {...}) and the queue object; queue:work is written in Lua (lua/redmoon/queue.lua). */
#include "queue.h"

#include "base/alloc.h"
#include "base/error.h"
#include "json.h"

#include <stddef.h>
#include <string.h>

#define BATCH_TYPE "redmoon.batch"
#define JOBS_TYPE "redmoon.jobs"
#define TEN_YEARS_MS INT64_C(315360000000)
#define YEAR_MS INT64_C(31622400000)
#define TRIES "an integer from 1 to 1000000"
enum { EVENTS_KEPT = 10000, ENOUGH_TEXT = 1 << 20 };
#define REQUEST_ID "1 to 128 letters, digits, '.', '_' and '-'"

/* Options. */

#define FIELD(name) offsetof(redmoon_queue_options, name)
static const rm_option queue_options[] = {
    {"lease", RM_OPTION_DURATION, FIELD(lease_ms), 100, 86400000, 30000, "seconds from 0.1 to 86400"},
    {"max_attempts", RM_OPTION_INTEGER, FIELD(max_attempts), 1, 1000000, 10, TRIES},
    {"max_crashes", RM_OPTION_INTEGER, FIELD(max_crashes), 1, 1000000, 3, TRIES},
    {"max_payload", RM_OPTION_INTEGER, FIELD(max_payload), 1, 512 << 20, 262144, "an integer from 1 to 536870912 (bytes)"},
    {"retention", RM_OPTION_DURATION, FIELD(retention_ms), 0, YEAR_MS, 0, "seconds from 0 to 31622400 (366 days)"},
    {"min_replicas", RM_OPTION_INTEGER, FIELD(min_replicas), 0, 1000, 0, "an integer from 0 to 1000"},
    {"group_concurrency", RM_OPTION_INTEGER, FIELD(group_concurrency), 0, 1000000, 0, "an integer from 0 to 1000000"},
    {"group_limit", RM_OPTION_INTEGER, FIELD(group_limit), 0, 1000000, 0, "an integer from 0 to 1000000"},
    {"group_window", RM_OPTION_DURATION, FIELD(group_window_ms), 1, YEAR_MS, 0, "seconds from 0.001 to 31622400 (366 days)"},
    {"backoff", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    {"events", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    RM_LUA_CODEC_OPTION,
};
static const rm_option backoff_options[] = {
    {"min", RM_OPTION_DURATION, FIELD(min_backoff_ms), 0, TEN_YEARS_MS, 1000, "seconds from 0 to 315360000 (10 years)"},
    {"max", RM_OPTION_DURATION, FIELD(max_backoff_ms), 0, TEN_YEARS_MS, 3600000, "seconds from min to 315360000 (10 years)"},
};
#undef FIELD

typedef struct push_options {
  redmoon_queue_item item;
  const char *request_id;
} push_options;
static const rm_option push_table[] = {
    {"request_id", RM_OPTION_TEXT, offsetof(push_options, request_id), 0, 0, 0, REQUEST_ID},
    {"payload", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    {"id", RM_OPTION_TEXT, offsetof(push_options, item.id), 0, 0, 0, "a string of 1 to 128 bytes"},
    {"unique", RM_OPTION_TEXT, offsetof(push_options, item.unique), 0, 0, 0, "a string of 1 to 256 bytes"},
    {"delay", RM_OPTION_DURATION, offsetof(push_options, item.delay_ms), -TEN_YEARS_MS, TEN_YEARS_MS, 0,
     "seconds up to 315360000 (10 years)"},
    {"priority", RM_OPTION_INTEGER, offsetof(push_options, item.priority), 0, REDMOON_PRIORITY_MAX, 0,
     "an integer from 0 to 1023"},
    {"max_attempts", RM_OPTION_INTEGER, offsetof(push_options, item.max_attempts), 1, 1000000, 10, TRIES},
    {"max_crashes", RM_OPTION_INTEGER, offsetof(push_options, item.max_crashes), 1, 1000000, 3, TRIES},
    {"group", RM_OPTION_TEXT, offsetof(push_options, item.group), 0, 0, 0, "a string of 1 to 128 bytes"},
};
enum { PUSH_TABLE = sizeof push_table / sizeof push_table[0] };
static const rm_option pop_table[] = {
    {"renew", RM_OPTION_BOOL, offsetof(redmoon_pop_options, renew), 0, 1, 0, "true or false"},
    {"request_id", RM_OPTION_TEXT, offsetof(redmoon_pop_options, request_id), 0, 0, 0, REQUEST_ID},
};
enum { POP_TABLE = sizeof pop_table / sizeof pop_table[0] };
static const rm_option timeout_argument = {"timeout", RM_OPTION_DURATION, 0, 0, 86400000, 0, "seconds from 0 to 86400"};
static const rm_option lease_argument = {"lease", RM_OPTION_DURATION,           0, 100, 86400000,
                                         30000,   "seconds from 0.1 to 86400"};

/* The object. */

/* [-0, +0], never raises */
static void end_queue(lua_State *L, rm_lua_queue *q) {
  redmoon_queue *inner = q->queue;
  q->queue = NULL;
  redmoon_queue_free(inner);
  rm_lua_link_drop(L, &q->link);
}

rm_lua_queue *rm_lua_queue_check(lua_State *L) {
  rm_lua_queue *q = luaL_checkudata(L, 1, RM_LUA_QUEUE_TYPE);
  luaL_argcheck(L, q->queue != NULL, 1, "the queue is closed");
  return q;
}

/* Field `events` of the options at 3: true, or how many are kept. */
static void read_event_option(lua_State *L, redmoon_queue_options *options) {
  int is_integer = 0, kind = lua_getfield(L, 3, "events");
  lua_Integer kept = lua_tointegerx(L, -1, &is_integer);
  if (kind == LUA_TBOOLEAN) kept = lua_toboolean(L, -1) ? EVENTS_KEPT : 0;
  else if (kind != LUA_TNIL && (kind != LUA_TNUMBER || !is_integer || kept < 0 || kept > 1000000))
    rm_lua_raise(L, "option 'events': it takes true, false, or an integer from 0 to 1000000");
  if (kind != LUA_TNIL) options->events = kept;
  lua_pop(L, 1);
}

/* The options at 3. [-0, +1]: what the codec keeps */
static rm_lua_codec read_options(lua_State *L, redmoon_queue_options *options) {
  rm_lua_read_options(L, 3, queue_options, sizeof queue_options / sizeof queue_options[0], options);
  if (!lua_isnil(L, 3)) {
    if (lua_getfield(L, 3, "backoff") != LUA_TNIL) {
      if (!lua_istable(L, -1))
        rm_lua_raise(L, "option 'backoff': a %s is not accepted; it takes {min=, max=}", luaL_typename(L, -1));
      rm_lua_read_options(L, -1, backoff_options, sizeof backoff_options / sizeof backoff_options[0], options);
    }
    lua_pop(L, 1);
    read_event_option(L, options);
  }
  return rm_lua_codec_check(L, 3, RM_LUA_CODEC_JSON);
}

int rm_lua_client_queue(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  luaL_argcheck(L, name_len >= 1 && name_len <= 512, 2, "a queue's name has 1 to 512 bytes");
  lua_settop(L, 3);
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  rm_lua_codec codec = read_options(L, &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  rm_lua_queue *q = lua_newuserdatauv(L, sizeof *q, RM_LUA_QUEUE_SLOTS);
  memset(q, 0, sizeof *q);
  q->codec = codec;
  luaL_setmetatable(L, RM_LUA_QUEUE_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 5, RM_LUA_QUEUE_SERVER);
  lua_pushvalue(L, 4);
  lua_setiuservalue(L, 5, RM_LUA_QUEUE_CODEC);
  rm_lua_link_set(&q->link, &client->link);
  redmoon_error err;
  if (redmoon_queue_new(client->link.client, name, name_len, &options, &q->queue, &err) < 0) {
    end_queue(L, q);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* Push. */

static int pushed_one(lua_State *L, rm_lua_task *task, int status) {
  const redmoon_queue_pushed *pushed = (const redmoon_queue_pushed *)rm_lua_out(task);
  if (status == 0) {
    lua_pushstring(L, pushed->id);
    return 1;
  }
  int count = rm_lua_fail(L, &task->err);
  if (pushed->id[0] != '\0') { /* of a conflict; or it is pushed, and replicas lack it */
    lua_pushstring(L, pushed->id);
    lua_setfield(L, -2, "id");
  }
  return count;
}

/* queue:push(payload [, {delay=, priority=, id=, unique=, max_attempts=, max_crashes=, group=, request_id=}])
   -> id */
static int queue_push(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  luaL_checkany(L, 2);
  lua_settop(L, 3);
  push_options options = {REDMOON_QUEUE_ITEM_INIT, NULL};
  rm_lua_read_options(L, 3, push_table, PUSH_TABLE, &options);
  if (!lua_isnil(L, 3) && lua_getfield(L, 3, "payload") != LUA_TNIL)
    return rm_lua_raise(L, "option 'payload' is of queue:push_many; here it is the first argument");
  redmoon_error err;
  if (rm_lua_codec_encode(L, q->codec, 1, RM_LUA_QUEUE_CODEC, 2, &err) < 0) return rm_lua_fail(L, &err);
  luaL_argcheck(L, q->queue != NULL, 1, "the queue is closed"); /* by the codec's function */
  options.item.payload = lua_tolstring(L, -1, &options.item.len);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, pushed_one);
  redmoon_queue_pushed *out = (redmoon_queue_pushed *)rm_lua_out(task);
  return rm_lua_task_run_or_raise(
      L, task, redmoon_queue_push_start(q->queue, &options.item, options.request_id, out, &task->op, &task->err));
}

/* Jobs to be: in memory of our own, which is given back as soon as they are pushed and not when Lua comes round to it. */
typedef struct batch {
  redmoon_queue_item *items;
  redmoon_queue_pushed *pushed;
  size_t count;
  rm_buffer text;    /* their payloads, one behind the other, where the codec is JSON */
  const void *marks; /* of arrays there */
  int kept;          /* index of the table that else keeps the payloads */
} batch;

static void batch_fini(batch *b) {
  rm_free(b->items);
  rm_free(b->pushed);
  rm_buffer_fini(&b->text);
  b->items = NULL;
  b->pushed = NULL;
}

static int batch_gc(lua_State *L) {
  batch_fini(luaL_checkudata(L, 1, BATCH_TYPE));
  return 0;
}

/* [-0, +2]: the batch, and what it keeps */
static batch *batch_new(lua_State *L, size_t count, bool is_json) {
  batch *b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = (batch){.count = count};
  luaL_setmetatable(L, BATCH_TYPE);
  lua_createtable(L, is_json ? 0 : (int)count, 0);
  b->kept = lua_gettop(L);
  if (is_json) b->marks = rm_lua_json_marks(L);
  b->items = rm_alloc(count * sizeof *b->items);
  b->pushed = rm_alloc(count * sizeof *b->pushed);
  if (b->items == NULL || b->pushed == NULL) luaL_error(L, "not enough memory");
  return b;
}

/* The payload on top. [-1, +0] */
static void take_payload(lua_State *L, rm_lua_queue *q, batch *b, int place, redmoon_queue_item *item) {
  static const rm_lua_json_limits limits = RM_LUA_JSON_LIMITS_INIT;
  redmoon_error err;
  size_t before = rm_buffer_len(&b->text);
  int status;
  if (b->marks != NULL) status = rm_lua_json_append(L, -1, &limits, b->marks, &b->text, &err);
  else status = rm_lua_codec_encode(L, q->codec, 1, RM_LUA_QUEUE_CODEC, -1, &err);
  if (status < 0) rm_lua_raise(L, "item %d: %s", place, err.message);
  if (b->marks != NULL) {
    item->len = rm_buffer_len(&b->text) - before;
    if (place == 1 && item->len <= ENOUGH_TEXT / b->count) /* the others are mostly alike; that they fit is seen to later */
      (void)rm_buffer_reserve(&b->text, item->len * b->count);
  } else {
    item->payload = lua_tolstring(L, -1, &item->len);
    lua_rawseti(L, b->kept, place);
  }
  lua_pop(L, 1);
}

/* Item `i` of the list at 2: what it points to stays in the list, and in what the batch keeps. */
static void read_item(lua_State *L, rm_lua_queue *q, batch *b, size_t i) {
  push_options options = {REDMOON_QUEUE_ITEM_INIT, NULL};
  int place = (int)i + 1;
  if (lua_rawgeti(L, 2, place) != LUA_TTABLE)
    rm_lua_raise(L, "item %d: a table {payload=, ...} expected, got %s", place, luaL_typename(L, -1));
  rm_lua_read_options(L, -1, push_table + 1, PUSH_TABLE - 1, &options);
  if (lua_getfield(L, -1, "payload") == LUA_TNIL) rm_lua_raise(L, "item %d has no payload", place);
  take_payload(L, q, b, place, &options.item);
  lua_pop(L, 1);
  b->items[i] = options.item;
}

/* Where the payloads are, now that they move no more. */
static void place_payloads(batch *b) {
  const char *at = b->marks != NULL ? rm_buffer_begin(&b->text) : NULL;
  for (size_t i = 0; i < b->count && at != NULL; at += b->items[i++].len) b->items[i].payload = at;
}

/* [-0, +1] */
static void push_pushed(lua_State *L, const redmoon_queue_pushed *pushed, size_t count) {
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    if (pushed[i].status == 0) {
      lua_pushstring(L, pushed[i].id);
    } else {
      redmoon_error err;
      rm_fail(&err, pushed[i].status, pushed[i].by_unique ? "a job has this unique key" : "there is a job of this id already");
      err.outcome = REDMOON_ANSWERED;
      rm_lua_push_error(L, &err);
      lua_pushstring(L, pushed[i].id);
      lua_setfield(L, -2, "id");
    }
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* rm_lua_out(task): the batch, which is on the stack */
static int pushed_many(lua_State *L, rm_lua_task *task, int status) {
  batch *b = *(batch *const *)rm_lua_out(task);
  int results = 1;
  if (status < 0) results = rm_lua_fail(L, &task->err);
  else push_pushed(L, b->pushed, b->count);
  batch_fini(b);
  return results;
}

/* queue:push_many({{payload=, delay=, ...}, ...} [, {request_id=}]) -> list of ids; an error where there was a conflict */
static int queue_push_many(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  push_options options = {REDMOON_QUEUE_ITEM_INIT, NULL};
  rm_lua_read_options(L, 3, push_table, 1, &options);
  size_t count = (size_t)lua_rawlen(L, 2);
  if (count > REDMOON_QUEUE_MANY_MAX)
    return rm_lua_raise(L, "%d jobs are not accepted; give up to %d", (int)count, REDMOON_QUEUE_MANY_MAX);
  if (count == 0) {
    lua_newtable(L);
    return 1;
  }
  batch *b = batch_new(L, count, q->codec == RM_LUA_CODEC_JSON);
  for (size_t i = 0; i < count; i++) read_item(L, q, b, i);
  place_payloads(b);
  luaL_argcheck(L, q->queue != NULL, 1, "the queue is closed"); /* by the codec's function */
  rm_lua_task *task = rm_lua_task_take(L, &q->link, pushed_many);
  *(batch **)rm_lua_out(task) = b;
  return rm_lua_task_run_or_raise(L, task, redmoon_queue_push_many_start(q->queue, b->items, count, options.request_id,
                                                                         b->pushed, &task->op, &task->err));
}

/* Pop. */

/* The timeout at `index` and the options behind it. */
static redmoon_pop_options read_pop(lua_State *L, int index) {
  redmoon_pop_options options = REDMOON_POP_OPTIONS_INIT;
  lua_settop(L, index + 1);
  if (!lua_isnil(L, index)) options.timeout_ms = rm_lua_duration_ms(L, index, &timeout_argument);
  rm_lua_read_options(L, index + 1, pop_table, POP_TABLE, &options);
  return options;
}

/* rm_lua_out(task): the box's place on the stack */
static int popped(lua_State *L, rm_lua_task *task, int status) {
  int place = *(const int *)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushvalue(L, place);
  rm_lua_job_got(L, lua_touserdata(L, place));
  return 1;
}

/* queue:pop([timeout=0 [, {renew=, request_id=}]]) -> job | nil */
static int queue_pop(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  redmoon_pop_options options = read_pop(L, 2);
  rm_lua_job *job = rm_lua_job_new(L, 1, &q->link, q->codec);
  int place = lua_gettop(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, popped);
  *(int *)rm_lua_out(task) = place;
  return rm_lua_task_run_or_raise(L, task,
                                  redmoon_queue_pop_start(q->queue, &options, &job->job, &task->op, &task->err));
}

/* Jobs on their way into boxes. */
typedef struct jobs {
  size_t got, boxed;
  redmoon_job *list[];
} jobs;

static int jobs_gc(lua_State *L) {
  jobs *j = lua_touserdata(L, 1);
  while (j->boxed < j->got) redmoon_job_free(j->list[j->boxed++]);
  return 0;
}

/* Room for `count` jobs to come. [-0, +1] */
static jobs *jobs_new(lua_State *L, size_t count) {
  jobs *all = lua_newuserdatauv(L, sizeof *all + count * sizeof(redmoon_job *), 0);
  all->got = all->boxed = 0;
  luaL_setmetatable(L, JOBS_TYPE);
  return all;
}

/* A list of them in boxes; the queue at 1 may be closed by now, not so the link. [-0, +1] */
static void push_jobs(lua_State *L, const rm_lua_link *link, jobs *all) {
  const rm_lua_queue *q = lua_touserdata(L, 1);
  lua_createtable(L, (int)all->got, 0);
  while (all->boxed < all->got) {
    rm_lua_job *box = rm_lua_job_new(L, 1, link, q->codec);
    box->job = all->list[all->boxed++];
    rm_lua_job_got(L, box);
    lua_rawseti(L, -2, (lua_Integer)all->boxed);
  }
}

static int popped_many(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  push_jobs(L, &task->link, *(jobs *const *)rm_lua_out(task));
  return 1;
}

/* queue:pop_many(n [, timeout=0 [, {renew=, request_id=}]]) -> list of jobs */
static int queue_pop_many(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  lua_Integer count = luaL_checkinteger(L, 2);
  luaL_argcheck(L, count >= 1 && count <= REDMOON_QUEUE_MANY_MAX, 2, "a number of jobs is an integer from 1 to 500");
  redmoon_pop_options options = read_pop(L, 3);
  jobs *all = jobs_new(L, (size_t)count);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, popped_many);
  *(jobs **)rm_lua_out(task) = all;
  return rm_lua_task_run_or_raise(L, task, redmoon_queue_pop_many_start(q->queue, &options, (size_t)count, all->list,
                                                                        &all->got, &task->op, &task->err));
}

/* Many jobs, and which of them were lost. */
typedef struct many {
  size_t count;
  redmoon_job **list;
  int *lost;
  jobs *next; /* taken along */
} many;

/* The list at 2, which keeps them. [-0, +1] */
static many read_jobs(lua_State *L) {
  luaL_checktype(L, 2, LUA_TTABLE);
  many m = {(size_t)lua_rawlen(L, 2), NULL, NULL, NULL};
  if (m.count > REDMOON_QUEUE_MANY_MAX)
    rm_lua_raise(L, "%d jobs are not accepted; give up to %d", (int)m.count, REDMOON_QUEUE_MANY_MAX);
  m.list = lua_newuserdatauv(L, (m.count + 1) * (sizeof *m.list + sizeof *m.lost), 0);
  m.lost = (int *)(m.list + m.count + 1);
  for (size_t i = 0; i < m.count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    m.list[i] = rm_lua_job_check(L, -1)->job;
    if (m.list[i] == NULL) rm_lua_raise(L, "job %d is closed", (int)i + 1);
    lua_pop(L, 1);
  }
  return m;
}

/* Those that were lost; all are ended if `ends`. [-0, +1] */
static void push_lost(lua_State *L, const many *m, bool ends) {
  lua_Integer found = 0;
  lua_newtable(L);
  for (size_t i = 0; i < m->count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    if (ends) rm_lua_job_check(L, -1)->ended = true;
    if (m->lost[i]) lua_rawseti(L, -2, ++found);
    else lua_pop(L, 1);
  }
}

static int extended_many(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  push_lost(L, (const many *)rm_lua_out(task), false);
  return 1;
}

/* queue:extend_many(jobs [, lease]) -> list of those that were lost */
static int queue_extend_many(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  int64_t lease_ms = lua_isnoneornil(L, 3) ? REDMOON_UNSET : rm_lua_duration_ms(L, 3, &lease_argument);
  lua_settop(L, 2);
  many m = read_jobs(L);
  if (m.count == 0) {
    lua_newtable(L);
    return 1;
  }
  rm_lua_task *task = rm_lua_task_take(L, &q->link, extended_many);
  *(many *)rm_lua_out(task) = m;
  return rm_lua_task_run(
      L, task, redmoon_queue_extend_many_start(q->queue, m.list, m.count, lease_ms, m.lost, &task->op, &task->err));
}

static int acked_many(lua_State *L, rm_lua_task *task, int status) {
  const many *m = (const many *)rm_lua_out(task);
  if (status == 0) {
    push_lost(L, m, true);
    push_jobs(L, &task->link, m->next);
    return 2;
  }
  int results = rm_lua_fail(L, &task->err);
  if (m->next->got > 0) { /* replicas lack what was written: the next are taken all the same */
    push_jobs(L, &task->link, m->next);
    lua_setfield(L, -2, "jobs");
  }
  return results;
}

/* queue:ack_many(jobs [, n=0]) -> list of those that were lost, list of up to n next jobs */
static int queue_ack_many(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  lua_Integer most = luaL_optinteger(L, 3, 0);
  luaL_argcheck(L, most >= 0 && most <= REDMOON_QUEUE_MANY_MAX, 3, "a number of jobs is an integer from 0 to 500");
  lua_settop(L, 2);
  many m = read_jobs(L);
  if (m.count == 0) return rm_lua_raise(L, "ack_many: no jobs");
  m.next = jobs_new(L, (size_t)most);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, acked_many);
  *(many *)rm_lua_out(task) = m;
  return rm_lua_task_run(L, task, redmoon_queue_ack_many_start(q->queue, m.list, m.count, m.lost, (size_t)most,
                                                               m.next->list, &m.next->got, &task->op, &task->err));
}

static int queue_gc(lua_State *L) {
  end_queue(L, lua_touserdata(L, 1));
  return 0;
}

static int queue_close(lua_State *L) {
  end_queue(L, luaL_checkudata(L, 1, RM_LUA_QUEUE_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

/* Leaves the methods, for those written in Lua. [-0, +1] */
void rm_lua_queue_open(lua_State *L) {
  static const luaL_Reg batch_meta[] = {{"__gc", batch_gc}, {NULL, NULL}};
  static const luaL_Reg jobs_meta[] = {{"__gc", jobs_gc}, {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__gc", queue_gc}, {"__close", queue_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"ack_many", queue_ack_many},
                                     {"close", queue_close},
                                     {"extend_many", queue_extend_many},
                                     {"pop", queue_pop},
                                     {"pop_many", queue_pop_many},
                                     {"push", queue_push},
                                     {"push_many", queue_push_many},
                                     {NULL, NULL}};
  rm_lua_new_type(L, BATCH_TYPE, batch_meta, NULL);
  lua_pop(L, 2);
  rm_lua_new_type(L, JOBS_TYPE, jobs_meta, NULL);
  lua_pop(L, 2);
  rm_lua_new_type(L, RM_LUA_QUEUE_TYPE, meta, methods);
  rm_lua_queue_admin_methods(L);
  lua_remove(L, -2);
}
