/* SPDX-License-Identifier: MIT */
/** The stream queue, between its files: stream_queue.c (handle, options, push), stream_queue_pop.c (pop, and its
 * wait), stream_queue_job.c (what a worker says of its job), stream_queue_admin.c (looking after it). */
#ifndef RM_PATTERNS_STREAM_QUEUE_H
#define RM_PATTERNS_STREAM_QUEUE_H

#include "engine/call.h"
#include "engine/script.h"

#include <redmoon/stream_queue.h>
#include <stdatomic.h>
#include <stdbool.h>

#define STREAM_GROUP "workers" /* as in scripts/include/stream.lua */
#define STREAM_PART "stream"
#define STREAM_MAX_LEASE_MS (INT64_C(24) * 3600 * 1000)
enum { STREAM_SHOWN = 120, STREAM_DIGITS = 24, STREAM_CONSUMER = 33 };
enum { STREAM_ENTRIES, STREAM_DEADS, STREAM_RELEASED, STREAM_KEYS };

struct redmoon_stream_queue {
  redmoon_client *client;               /* a reference */
  atomic_int refs;                      /* the caller's handle, each job, each operation under way */
  redmoon_stream_queue_options options; /* resolved */
  redmoon_bytes keys[STREAM_KEYS];
  char *name;
  size_t name_len;
  char shown[STREAM_SHOWN];
  char consumer[STREAM_CONSUMER]; /* of this handle alone */
  /* Where the next look at leases goes on, and when it is due (monotonic; 0: at once).  Two threads that look at
   * the same time, or a place torn between them, cost a look at some leases again and no more. */
  _Atomic uint64_t place_ms, place_seq;
  _Atomic int64_t look_us;
  atomic_bool tidied; /* consumers that are gone were looked for */
};

redmoon_stream_queue *rm_stream_ref(redmoon_stream_queue *queue);
void rm_stream_unref(redmoon_stream_queue *queue);
/** value, or `otherwise` if that is REDMOON_UNSET. */
static inline int64_t rm_stream_given(int64_t value, int64_t otherwise) {
  return value == REDMOON_UNSET ? otherwise : value;
}
int rm_stream_check_option(const char *option, int64_t value, int64_t min, int64_t max, redmoon_error *err);
/** A number as text, where an argument points. */
typedef struct rm_stream_text {
  char text[STREAM_DIGITS];
} rm_stream_text;
redmoon_bytes rm_stream_number(rm_stream_text *text, int64_t number);
redmoon_bytes rm_stream_string(const char *text);
/** Element `index` of an answer, or REDMOON_EPROTOCOL. */
int rm_stream_integer(const redmoon_stream_queue *queue, const redmoon_reply *reply, size_t index, int64_t *out,
                      redmoon_error *err);
int rm_stream_bytes(const redmoon_stream_queue *queue, const redmoon_reply *reply, size_t index, redmoon_bytes *out,
                    redmoon_error *err);
/** Notes in `err` that the server has answered; returns `status`. */
int rm_stream_answered(redmoon_error *err, int attempts, int status);

typedef enum rm_stream_verb {
  STREAM_NO_VERB,
  STREAM_ACK,
  STREAM_NACK,
  STREAM_RELEASE,
  STREAM_EXTEND
} rm_stream_verb;
typedef enum rm_stream_state { STREAM_HELD, STREAM_ENDED, STREAM_WAS_LOST } rm_stream_state;

struct redmoon_stream_job {
  redmoon_stream_queue *queue; /* a reference */
  size_t refs;                 /* the caller's handle, and each operation under way */
  rm_stream_state state;
  rm_stream_verb maybe; /* it was sent, and no answer came */
  int64_t epoch, attempt;
  int64_t until_us; /* boot clock: end of the lease by the careful judgement */
  size_t payload_len;
  char id[REDMOON_STREAM_ID_SIZE];
  char payload[]; /* and a NUL */
};

/** A job whose lease was asked for at `began_us` (boot clock). */
int rm_stream_job_new(redmoon_stream_queue *queue, redmoon_bytes id, redmoon_bytes payload, int64_t epoch,
                      int64_t attempt, int64_t began_us, redmoon_stream_job **out, redmoon_error *err);

#endif
