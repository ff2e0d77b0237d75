/* SPDX-License-Identifier: MIT */
/* Taking jobs.  What is new comes by XREADGROUP, which can wait for it; leases that are over are found by a script,
 * now and then while there is new work, and at least once before there is said to be none.
 *
 *      LOOK (if it is due) --> READ --> nothing: LOOK (if there was none yet) --> time is up: done
 *        ^                                                                         |
 *        +------------------- READ, waiting for a second at most <-----------------+
 *
 * NOGROUP (the stream is new, or was deleted): LOOK makes stream and group. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"
#include "patterns/scripts_generated.h"
#include "patterns/stream_queue.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
  LONGEST_PAUSE_US = 1000000,
  SHORTEST_PAUSE_US = 25000,
  LOOKS_MOST = 10,
  GROUPS_MOST = 3,
  SILENCE_MS = 60000
};

typedef enum pop_state { POP_NEW, POP_LOOK, POP_READ } pop_state;

typedef struct pop_op {
  rm_call call; /* first: its op is this one's */
  redmoon_stream_queue *queue;
  pop_state state;
  size_t count, found_count;
  redmoon_stream_job **jobs, **found; /* found: `count` of them */
  size_t *got;                        /* NULL: `jobs` is of a single one */
  int64_t timeout_us, end_us;         /* of the wait */
  int64_t began_us;                   /* boot clock: when the request under way was made */
  int looks, groups;                  /* in a row; groups made */
  bool looked, read;                  /* at all */
  bool whole;                         /* the looks began in front of all leases */
} pop_op;

/* How long a wait goes on before leases are looked at, and how often that is done while there is new work. */
static int64_t pause_us(const redmoon_stream_queue *queue) {
  return rm_max64(rm_min64(queue->options.lease_ms * 1000 / 4, LONGEST_PAUSE_US), SHORTEST_PAUSE_US);
}

/* Requests: 0 or negative. */

static int format_look(pop_op *self, redmoon_error *err) {
  redmoon_stream_queue *queue = self->queue;
  uint64_t ms = atomic_load(&queue->place_ms), seq = atomic_load(&queue->place_seq);
  char place[REDMOON_STREAM_ID_SIZE];
  snprintf(place, sizeof place, "%" PRIu64 "-%" PRIu64, ms, seq);
  if (self->looks == 0) self->whole = ms == 0 && seq == 0;
  rm_stream_text numbers[4];
  const redmoon_bytes args[] = {
      rm_stream_string(queue->consumer),
      rm_stream_number(&numbers[0], queue->options.lease_ms),
      rm_stream_number(&numbers[1], (int64_t)self->count),
      rm_stream_number(&numbers[2], queue->options.max_attempts),
      rm_stream_string(place),
      rm_stream_number(&numbers[3], atomic_exchange(&queue->tidied, true) ? -1 : SILENCE_MS),
  };
  const redmoon_script_args all = {queue->keys, STREAM_KEYS, args, sizeof args / sizeof args[0]};
  return rm_builtin_format(&self->call, &rm_script_stream_claim, &all, 0, err);
}

static int format_read(pop_op *self, int64_t wait_us, redmoon_error *err) {
  const redmoon_stream_queue *queue = self->queue;
  rm_stream_text count, block;
  const redmoon_bytes *key = &queue->keys[STREAM_ENTRIES];
  redmoon_bytes args[11] = {rm_stream_string("XREADGROUP"), rm_stream_string("GROUP"),
                            rm_stream_string(STREAM_GROUP), rm_stream_string(queue->consumer),
                            rm_stream_string("COUNT"),      rm_stream_number(&count, (int64_t)self->count)};
  int argc = 6;
  if (wait_us > 0) {
    args[argc++] = rm_stream_string("BLOCK");
    args[argc++] = rm_stream_number(&block, (wait_us + 999) / 1000);
  }
  args[argc++] = rm_stream_string("STREAMS");
  args[argc++] = *key;
  args[argc++] = rm_stream_string(">");
  const char *argv[11];
  size_t lens[11];
  for (int i = 0; i < argc; i++) {
    argv[i] = args[i].ptr;
    lens[i] = args[i].len;
  }
  return rm_call_argv(&self->call, argc, argv, lens, 0, err);
}

/* Makes the next request. */
static int begin(pop_op *self, pop_state state, int64_t now_us) {
  redmoon_error *err = &self->call.op.error;
  rm_call_reset(&self->call);
  self->state = state;
  self->began_us = rm_clock_boot_us();
  if (state == POP_LOOK) return format_look(self, err);
  /* It waits when leases were just looked at. */
  int64_t left_us = self->looked ? self->end_us - now_us : 0;
  return format_read(self, rm_min64(left_us, pause_us(self->queue)), err);
}

/* Answers: 0 or negative; self->found_count says what came. */

static int add_job(pop_op *self, redmoon_bytes id, redmoon_bytes payload, int64_t epoch, int64_t attempt,
                   redmoon_error *err) {
  if (self->found_count == self->count) return 0;
  int status = rm_stream_job_new(self->queue, id, payload, epoch, attempt, self->began_us,
                                 &self->found[self->found_count], err);
  if (status == 0) self->found_count++;
  return status;
}

static int take_claimed(pop_op *self, const redmoon_reply *reply, redmoon_error *err) {
  redmoon_stream_queue *queue = self->queue;
  redmoon_bytes place, id, payload;
  uint64_t ms, seq;
  int64_t epoch, attempt;
  int status = rm_stream_bytes(queue, reply, 1, &place, err);
  if (status < 0) return status;
  if (sscanf(place.ptr, "%" SCNu64 "-%" SCNu64, &ms, &seq) != 2)
    return rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': the script's answer has no place", queue->shown);
  atomic_store(&queue->place_ms, ms);
  atomic_store(&queue->place_seq, seq);
  for (size_t i = 2; status == 0 && i < redmoon_reply_count(reply); i += 4) {
    status = rm_stream_bytes(queue, reply, i, &id, err);
    if (status == 0) status = rm_stream_integer(queue, reply, i + 1, &epoch, err);
    if (status == 0) status = rm_stream_integer(queue, reply, i + 2, &attempt, err);
    if (status == 0) status = rm_stream_bytes(queue, reply, i + 3, &payload, err);
    if (status == 0) status = add_job(self, id, payload, epoch, attempt, err);
    if (status == 0) rm_client_count(queue->client, "stream_queue", "taken_over");
  }
  self->looked = true;
  self->looks++;
  if (ms == 0 && seq == 0 && self->whole) self->looks = LOOKS_MOST; /* that were all */
  self->whole = self->whole || (ms == 0 && seq == 0);
  if (self->looks >= LOOKS_MOST) atomic_store(&queue->look_us, rm_clock_now_us() + pause_us(queue));
  return status;
}

/* Field p, or the first one of a producer of another kind. */
static const redmoon_reply *payload_of(const redmoon_reply *fields) {
  for (size_t i = 0; i + 1 < redmoon_reply_count(fields); i += 2) {
    size_t len = 0;
    const char *name = redmoon_reply_string(redmoon_reply_at(fields, i), &len);
    if (name != NULL && len == 1 && name[0] == 'p') return redmoon_reply_at(fields, i + 1);
  }
  return redmoon_reply_at(fields, 1);
}

/* nil, or {stream = {{id, {field, value, ...}}, ...}} */
static int take_read(pop_op *self, const redmoon_reply *reply, redmoon_error *err) {
  self->read = true;
  self->looks = 0;
  if (redmoon_reply_type(reply) == REDMOON_NIL) return 0;
  const redmoon_reply *entries = redmoon_reply_value(reply, 0);
  if (entries == NULL)
    return rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': XREADGROUP was not answered by a stream",
                   self->queue->shown);
  int status = 0;
  for (size_t i = 0; status == 0 && i < redmoon_reply_count(entries); i++) {
    const redmoon_reply *entry = redmoon_reply_at(entries, i), *payload = payload_of(redmoon_reply_at(entry, 1));
    redmoon_bytes id = {NULL, 0}, bytes = {NULL, 0};
    id.ptr = redmoon_reply_string(redmoon_reply_at(entry, 0), &id.len);
    if (payload != NULL) bytes.ptr = redmoon_reply_string(payload, &bytes.len);
    if (id.ptr == NULL || bytes.ptr == NULL)
      return rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': an entry without id or payload",
                     self->queue->shown);
    status = add_job(self, id, bytes, 1, 1, err);
    if (status == 0) rm_client_count(self->queue->client, "stream_queue", "taken");
  }
  return status;
}

/* *regroup: there is no group. */
static int take(pop_op *self, bool *regroup) {
  rm_call *call = &self->call;
  redmoon_error *err = &call->op.error;
  const redmoon_reply *reply = call->results[0].reply;
  int attempts = call->attempt;
  *regroup = false;
  if (reply->type == REDMOON_ERROR) {
    *regroup = rm_reply_is_error(reply, "NOGROUP") && self->groups++ < GROUPS_MOST;
    return *regroup ? 0 : rm_call_take_reply(call, 0, NULL, err);
  }
  int status = self->state == POP_LOOK ? take_claimed(self, reply, err) : take_read(self, reply, err);
  if (status < 0 && self->found_count > 0) { /* the others come back when their lease is over */
    rm_error_clear(err);
    return 0;
  }
  return rm_stream_answered(err, attempts, status);
}

/* What follows an answer without jobs: RM_DONE for nothing, RM_WAIT once the next request is made. */
static int go_on(pop_op *self, bool regroup, int64_t now_us) {
  bool up = now_us >= self->end_us;
  pop_state next = POP_LOOK;
  if (!regroup && self->state == POP_LOOK) {
    if (self->looks < LOOKS_MOST) next = POP_LOOK;
    else if (self->read && up) return RM_DONE;
    else next = POP_READ;
  } else if (!regroup) { /* after a READ */
    if (self->looked && up) return RM_DONE;
  } else {
    self->looks = 0;
  }
  int status = begin(self, next, now_us);
  return status < 0 ? status : RM_WAIT;
}

static int first(pop_op *self, int64_t now_us) {
  const rm_settings *settings = &self->call.op.client->settings;
  self->end_us = now_us + self->timeout_us;
  self->call.fixed_deadline_us = self->end_us + settings->timeout_us;
  return begin(self, now_us >= atomic_load(&self->queue->look_us) ? POP_LOOK : POP_READ, now_us);
}

static int pop_step(redmoon_op *op, int64_t now_us) {
  pop_op *self = (pop_op *)op;
  int status = self->state == POP_NEW ? first(self, now_us) : 0;
  while (status >= 0) {
    status = rm_call_step(op, now_us);
    if (status != RM_DONE) return status;
    bool regroup;
    status = take(self, &regroup);
    if (status < 0) return status;
    if (self->found_count > 0) return RM_DONE;
    now_us = rm_clock_now_us();
    status = go_on(self, regroup, now_us);
    if (status != RM_WAIT) return status;
  }
  return status;
}

static int pop_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  pop_op *self = (pop_op *)op;
  for (size_t i = 0; i < self->found_count; i++) self->jobs[i] = self->found[i];
  if (self->got != NULL) *self->got = self->found_count;
  self->found_count = 0;
  return 0;
}

static void pop_destroy(redmoon_op *op) {
  pop_op *self = (pop_op *)op;
  for (size_t i = 0; i < self->found_count; i++) redmoon_stream_job_free(self->found[i]);
  rm_call_fini(&self->call);
  rm_stream_unref(self->queue);
  rm_free(self->found);
  rm_free(self);
}

static const rm_op_class pop_class = {pop_step, pop_finish, pop_destroy, rm_call_outcome};

/* Public. */

static int start(redmoon_stream_queue *queue, size_t count, int64_t timeout_ms, redmoon_stream_job **jobs,
                 size_t *got, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (count < 1 || count > REDMOON_STREAM_QUEUE_MANY_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "stream queue '%s': %zu jobs are not accepted; give 1 to %d", queue->shown,
                   count, REDMOON_STREAM_QUEUE_MANY_MAX);
  int status = rm_stream_check_option("timeout", timeout_ms, 0, STREAM_MAX_LEASE_MS, err);
  if (status < 0) return status;
  pop_op *self = rm_calloc(1, sizeof *self);
  redmoon_stream_job **found = rm_calloc(count, sizeof(redmoon_stream_job *));
  if (self == NULL || found == NULL) {
    rm_free(self);
    rm_free(found);
    return rm_fail_nomem(err);
  }
  self->queue = rm_stream_ref(queue);
  self->count = count;
  self->jobs = jobs;
  self->got = got;
  self->found = found;
  self->timeout_us = timeout_ms * 1000;
  rm_call_init(&self->call, queue->client, true);
  self->call.op.class = &pop_class;
  *op = &self->call.op;
  return 0;
}

int redmoon_stream_queue_pop_many_start(redmoon_stream_queue *queue, size_t count, int64_t timeout_ms,
                                        redmoon_stream_job **jobs, size_t *got, redmoon_op **op,
                                        redmoon_error *err) {
  *got = 0;
  return start(queue, count, timeout_ms, jobs, got, op, err);
}

int redmoon_stream_queue_pop_many(redmoon_stream_queue *queue, size_t count, int64_t timeout_ms,
                                  redmoon_stream_job **jobs, size_t *got, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_queue_pop_many_start(queue, count, timeout_ms, jobs, got, &op, err), &op, err);
}

int redmoon_stream_queue_pop_start(redmoon_stream_queue *queue, int64_t timeout_ms, redmoon_stream_job **job,
                                   redmoon_op **op, redmoon_error *err) {
  *job = NULL;
  return start(queue, 1, timeout_ms, job, NULL, op, err);
}

int redmoon_stream_queue_pop(redmoon_stream_queue *queue, int64_t timeout_ms, redmoon_stream_job **job,
                             redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_queue_pop_start(queue, timeout_ms, job, &op, err), &op, err);
}
