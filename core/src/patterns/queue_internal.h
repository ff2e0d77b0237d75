/* SPDX-License-Identifier: MIT */
/** The queue, between its files: queue.c (handle, options, push), queue_pop.c (pop, and its wait), queue_job.c (what a
 *  worker says of its job, and the renewal of its lease), queue_many.c (of many jobs at once), queue_bundle.c (many that are pushed),
 *  queue_op.c (operations of several requests), queue_admin.c, queue_sweep.c and queue_events.c (looking after it). */
#ifndef RM_PATTERNS_QUEUE_INTERNAL_H
#define RM_PATTERNS_QUEUE_INTERNAL_H

#include "engine/call.h"
#include "engine/renewal.h"
#include "engine/script.h"

#include <redmoon/queue.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { QUEUE_SHOWN = 120, QUEUE_DIGITS = 24, QUEUE_JOB_FIELDS = 4 };
enum { QUEUE_JOBS, QUEUE_STATE, QUEUE_READY, QUEUE_DELAYED, QUEUE_LEASED, QUEUE_DEAD_SET, QUEUE_DONE, QUEUE_WAKE, QUEUE_GROUPS,
       QUEUE_EVENTS, QUEUE_KEYS };
/** Part of the keys of requests to push. */
#define QUEUE_PUSH_PART "queue"
/** Letters of the keys, as the scripts' lists of them are written below. */
#define QUEUE_LETTERS "jsrdlxowge"

struct redmoon_queue {
  redmoon_client *client;  /* a reference */
  redmoon_client *renewer; /* the client, with limits on time that fit the lease */
  atomic_int refs;         /* the caller's handle, each job, each operation under way */
  redmoon_queue_options options; /* resolved */
  redmoon_bytes keys[QUEUE_KEYS];
  char *name;
  size_t name_len;
  char shown[QUEUE_SHOWN];
};

/** A number as text, where an argument points. */
typedef struct rm_queue_text {
  char text[QUEUE_DIGITS];
} rm_queue_text;

redmoon_queue *rm_queue_ref(redmoon_queue *queue);
void rm_queue_unref(redmoon_queue *queue);
/** Key under which the answer to a request is kept, of `part`: "queue" of a push, "queue.pop" of a pop. */
int rm_queue_request_key(const redmoon_queue *queue, const char *part, const char *request_id, redmoon_bytes *key,
                         redmoon_error *err);
/** The keys that `letters` name, but for that of events where nobody wants to know. Returns how many. */
size_t rm_queue_keys(const redmoon_queue *queue, const char *letters, redmoon_bytes keys[QUEUE_KEYS + 1]);
redmoon_bytes rm_queue_number(rm_queue_text *text, int64_t number);
redmoon_bytes rm_queue_string(const char *text);
int rm_queue_check_option(const char *option, int64_t value, int64_t min, int64_t max, redmoon_error *err);
int rm_queue_check_lease(int64_t lease_ms, redmoon_error *err);
int rm_queue_check_id(const char *id, redmoon_error *err);
int rm_queue_check_group(const char *group, redmoon_error *err);
/** A limit, 0 to 1,000,000, and its window, both named `what` and limit or window. */
int rm_queue_check_window(const char *what, int64_t limit, int64_t window_ms, redmoon_error *err);
/** A key of a request, if `request` has one, behind the others, but before that of events. Returns how many keys. */
size_t rm_queue_add_request(redmoon_bytes request, size_t key_count, bool events, redmoon_bytes *keys);
/** How many events are kept, as the last argument of a script that has their key. Returns how many arguments: 1, or 0. */
size_t rm_queue_event_arg(const redmoon_queue *queue, rm_queue_text *text, redmoon_bytes *arg);
enum { QUEUE_GROUP_ARGS = 3 };
/** Limits of groups, where the options have any, as the last arguments of a script. Returns how many arguments: 3, or 0. */
size_t rm_queue_group_limits(const redmoon_queue *queue, rm_queue_text texts[QUEUE_GROUP_ARGS],
                             redmoon_bytes args[QUEUE_GROUP_ARGS]);
/** value, or `otherwise` if that is REDMOON_UNSET. */
static inline int64_t rm_queue_given(int64_t value, int64_t otherwise) {
  return value == REDMOON_UNSET ? otherwise : value;
}
/** Element `index` of a script's answer, or REDMOON_EPROTOCOL. */
int rm_queue_integer(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, int64_t *out,
                     redmoon_error *err);
int rm_queue_bytes(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, redmoon_bytes *out,
                   redmoon_error *err);
/** How job `index` of a push ended, by queue_push's answer. */
int rm_queue_pushed(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, redmoon_queue_pushed *out,
                    redmoon_error *err);
/** `status` of an answer that was read. */
int rm_queue_answered(redmoon_error *err, int attempts, int status);

/** Operations of several requests. */
typedef struct rm_queue_op rm_queue_op;
typedef struct rm_queue_op_class {
  /** The answer to the last request, no error: RM_WAIT when another one was begun, RM_DONE, or negative with op.error. */
  int (*answered)(rm_queue_op *self, const redmoon_reply *reply, int64_t now_us);
  int (*finish)(rm_queue_op *self, redmoon_error *err);
  int (*step)(rm_queue_op *self, int64_t now_us); /* instead of rm_call_step; NULL: that */
  void (*drop)(rm_queue_op *self); /* frees what it holds beyond rm_queue_op; NULL: nothing */
} rm_queue_op_class;
struct rm_queue_op {
  rm_call call; /* first: its op is this one's */
  const rm_queue_op_class *class;
  redmoon_queue *queue; /* a reference */
  redmoon_bytes request; /* key of the request's answer, behind the others; ptr NULL: none */
  bool changed;         /* an earlier request may have changed something */
};
/** Zeroed memory of `size` bytes, whose first member is an rm_queue_op; NULL: no memory. */
void *rm_queue_op_new(redmoon_queue *queue, const rm_queue_op_class *class, size_t size);
/** The next request. */
int rm_queue_op_script(rm_queue_op *self, const rm_builtin *script, const char *letters, const redmoon_bytes *args,
                       size_t arg_count, unsigned flags, redmoon_error *err);
/** The operation begins with the request that was made, `status`: how that went. */
int rm_queue_op_start(rm_queue_op *self, int status, redmoon_op **op);

/** One request under way, of a queue or of a job. */
typedef struct rm_queue_call {
  redmoon_queue *queue; /* a reference */
  redmoon_job *job;     /* a reference; NULL: of the queue */
  void *out, *more;
  int64_t value, began_us;
  bool ends;       /* the job's lease is given up by it */
  bool replicated; /* the option min_replicas holds for it */
  const char *verb;
} rm_queue_call;
/** Takes a reference; NULL: no memory. */
rm_queue_call *rm_queue_call_new(redmoon_queue *queue, redmoon_job *job, void *out, redmoon_error *err);
void rm_queue_call_drop(void *ctx, redmoon_outcome outcome);
/** Runs `script`; `call` is dropped whatever happens. */
int rm_queue_call_start(rm_queue_call *call, const rm_builtin *script, const char *letters, const redmoon_bytes *args,
                        size_t arg_count, unsigned flags, rm_decode_fn decode, redmoon_op **op, redmoon_error *err);

/* queue_bundle.c: */

/** Whether new jobs, each of them acceptable, may be pushed as bundles: they differ in their payloads alone. */
bool rm_queue_is_bundle(const redmoon_queue *queue, const redmoon_queue_item *items, size_t count);
int rm_queue_bundle_start(redmoon_queue *queue, const redmoon_queue_item *items, size_t count, const char *request_id,
                          redmoon_queue_pushed *out, redmoon_op **op, redmoon_error *err);

/* queue_job.c: */

typedef enum rm_job_state { RM_JOB_HELD, RM_JOB_ENDED, RM_JOB_LOST } rm_job_state;

/** The owner's thread and the keeper's meet in what is atomic. */
struct redmoon_job {
  redmoon_queue *queue; /* a reference */
  atomic_int refs;      /* the caller's handle, and each operation under way */
  atomic_int state;
  atomic_bool maybe_ended;  /* its end was sent, and no answer came */
  _Atomic int64_t until_us; /* boot clock: end of the lease by the careful judgement */
  int64_t epoch, attempt;
  bool renews;
  rm_renewal renewal;
  int failures; /* of the renewal, in a row; the keeper's */
  char *payload;
  size_t payload_len;
  char *group; /* NULL: none */
  char id[REDMOON_JOB_ID_SIZE];
};

redmoon_job *rm_job_ref(redmoon_job *job);
void rm_job_unref(redmoon_job *job);
/** The jobs of a pop's answer, whose elements from `first` on they are; the lease was asked for at `began_us`.  At most
 *  `max` are made; *count says how many, also after a failure. */
int rm_jobs_decode(redmoon_queue *queue, const redmoon_reply *reply, size_t first, int64_t began_us, redmoon_job **jobs,
                   size_t max, size_t *count, redmoon_error *err);
void rm_job_mark_lost(redmoon_job *job);
/** Of an end that the server refuses: whether that repeats one that was executed. */
bool rm_job_ended_before(const redmoon_job *job, const rm_answer *answer);
/** The server was asked at `began_us` for a lease of so many ms from then on, and gave it. */
void rm_job_prolong(redmoon_job *job, int64_t began_us, int64_t lease_ms);
/** The keeper begins to renew it. */
void rm_job_renew(redmoon_job *job);

#endif
