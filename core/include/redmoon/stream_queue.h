/* SPDX-License-Identifier: MIT */
/** Stream queues: plain first-in, first-out work over a Redis stream and its consumer group, with the verbs of the lease queue
 *  at a fraction of its cost.
 *
 *     push --> ready --pop--> leased --ack--> gone
 *                                |  <--release, nack, lease over--> leased again by some later pop
 *                                +--attempts used up--> dead --redrive--> ready
 *
 *  A job runs at least once.  Its epoch rises with each time it is given out: (id, epoch) names one run.  Whoever lost the
 *  lease learns it by the next call of the job, which changes nothing; XACK itself would take what another has.  Leases
 *  that are over are taken over by whatever pop comes next; there is no process that has to run.  There are no
 *  priorities, no delays at the push and no unique keys: a lease queue has those. */
#ifndef REDMOON_STREAM_QUEUE_H
#define REDMOON_STREAM_QUEUE_H

#include <redmoon/script.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { REDMOON_STREAM_QUEUE_MANY_MAX = 500, REDMOON_STREAM_ID_SIZE = 48 };

/** Thread class: internally locked; share it freely. */
typedef struct redmoon_stream_queue redmoon_stream_queue;
/** A job under a lease.  Thread class: one thread at a time. */
typedef struct redmoon_stream_job redmoon_stream_job;

/** Give all handles of one queue the same ones. */
typedef struct redmoon_stream_queue_options {
  int64_t lease_ms;     /**< 30,000; how long a worker has a job, 100 ms to 24 h */
  int64_t max_attempts; /**< 10; a job whose runs failed or crashed so often is dead, 1 to 1,000,000 */
  int64_t max_payload;  /**< 262,144; a larger payload is refused before anything is sent, up to 512 MiB */
} redmoon_stream_queue_options;
#define REDMOON_STREAM_QUEUE_OPTIONS_INIT                                                                          \
  { REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET }

typedef struct redmoon_stream_nack_options {
  const char *error; /**< NULL; why it failed: its first 1,000 bytes are kept if the job is dead now */
  int64_t delay_ms;  /**< 0; it is not given out for so long, up to the lease */
  int64_t fatal;     /**< 0; 1: it is of no use to run it again; it is dead at once */
} redmoon_stream_nack_options;
#define REDMOON_STREAM_NACK_OPTIONS_INIT                                                                           \
  { NULL, REDMOON_UNSET, REDMOON_UNSET }

typedef struct redmoon_stream_queue_counts {
  int64_t ready;   /**< never given out */
  int64_t delayed; /**< given back (nack, release), and not taken again yet */
  int64_t leased;  /**< somebody has them, or their lease is over */
  int64_t dead;
} redmoon_stream_queue_counts;

typedef struct redmoon_stream_dead {
  const char *id, *error; /**< its id while it lived; why it is dead */
  int64_t died_ms;        /**< when, in ms of Unix time by the server's clock */
  int64_t attempts, epoch;
  redmoon_bytes payload;
} redmoon_stream_dead;
typedef struct redmoon_stream_dead_list {
  int64_t total; /**< there are, of which `count` were asked for */
  size_t count;
  redmoon_stream_dead *jobs;
} redmoon_stream_dead_list;

/** No I/O.  `name`: 1 to 512 bytes. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_new(redmoon_client *client, const void *name, size_t name_len,
                                                            const redmoon_stream_queue_options *options,
                                                            redmoon_stream_queue **out, redmoon_error *err);
/** Jobs and operations stay good.  NULL is allowed. */
REDMOON_API void redmoon_stream_queue_free(redmoon_stream_queue *queue);

/** Pushes 1 to REDMOON_STREAM_QUEUE_MANY_MAX jobs in one step, all or none.  `ids` (NULL: not wanted) has room for so many.
 *  `request_id`: NULL, or 1 to 128 of A-Z a-z 0-9 . _ -: a repetition in 10 minutes gets the same answer and pushes
 *  nothing; and so it may be sent again after a failure. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_push_many(redmoon_stream_queue *queue,
                                                                  const redmoon_bytes *payloads, size_t count,
                                                                  const char *request_id,
                                                                  char (*ids)[REDMOON_STREAM_ID_SIZE],
                                                                  redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_push_many_start(redmoon_stream_queue *queue,
                                                                        const redmoon_bytes *payloads, size_t count,
                                                                        const char *request_id,
                                                                        char (*ids)[REDMOON_STREAM_ID_SIZE],
                                                                        redmoon_op **op, redmoon_error *err);
/** One; `id` has room for REDMOON_STREAM_ID_SIZE bytes, NULL: not wanted. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_push(redmoon_stream_queue *queue, const void *payload, size_t len,
                                                             const char *request_id, char *id, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_push_start(redmoon_stream_queue *queue, const void *payload,
                                                                   size_t len, const char *request_id, char *id,
                                                                   redmoon_op **op, redmoon_error *err);

/** Takes up to `count` jobs (1 to REDMOON_STREAM_QUEUE_MANY_MAX): *got says how many; each is owned by the caller
 *  (redmoon_stream_job_free).  `timeout_ms`: how long to wait for the first one, 0 (not at all) to 24 h; the call's own
 *  timeout begins when that is over.  A new job wakes who waits at once; one whose lease is over, or that was given back,
 *  within a second.  When the answer was lost (outcome UNKNOWN) jobs may have been taken; they come back when their lease is over. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_pop_many(redmoon_stream_queue *queue, size_t count,
                                                                 int64_t timeout_ms, redmoon_stream_job **jobs,
                                                                 size_t *got, redmoon_error *err);
/** `jobs` and *got are written by redmoon_op_finish. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_pop_many_start(redmoon_stream_queue *queue, size_t count,
                                                                       int64_t timeout_ms, redmoon_stream_job **jobs,
                                                                       size_t *got, redmoon_op **op,
                                                                       redmoon_error *err);
/** One: *job is NULL when there was none in time. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_pop(redmoon_stream_queue *queue, int64_t timeout_ms,
                                                            redmoon_stream_job **job, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_pop_start(redmoon_stream_queue *queue, int64_t timeout_ms,
                                                                  redmoon_stream_job **job, redmoon_op **op,
                                                                  redmoon_error *err);

/* The job.  Each of its calls ends with REDMOON_ELOST when the lease passed to another worker; nothing was changed then.  A
 * lease that is over but that nobody took is still good.  Calls after the one that ended it are REDMOON_ELOST, too. */

/** It is done, and gone.  Sent again when its answer was lost, as nack and release are; inside the lease a repetition of the
 *  same call that finds it done ends well. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_ack(redmoon_stream_job *job, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_ack_start(redmoon_stream_job *job, redmoon_op **op,
                                                                redmoon_error *err);
/** It is done, and the next new one is taken in the same round trip: *next is NULL when there was none, and now and then,
 *  when leases are to be looked at: then redmoon_stream_queue_pop does both. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_ack_next(redmoon_stream_job *job, redmoon_stream_job **next,
                                                               redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_ack_next_start(redmoon_stream_job *job,
                                                                     redmoon_stream_job **next, redmoon_op **op,
                                                                     redmoon_error *err);
/** It failed.  *dead (NULL: not wanted): 1 if it will not run again. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_nack(redmoon_stream_job *job,
                                                           const redmoon_stream_nack_options *options, int *dead,
                                                           redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_nack_start(redmoon_stream_job *job,
                                                                 const redmoon_stream_nack_options *options, int *dead,
                                                                 redmoon_op **op, redmoon_error *err);
/** Prolongs the lease to `lease_ms` from now (REDMOON_UNSET: the queue's; 1 ms to the queue's); never shortens it. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_extend(redmoon_stream_job *job, int64_t lease_ms,
                                                             redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_extend_start(redmoon_stream_job *job, int64_t lease_ms,
                                                                   redmoon_op **op, redmoon_error *err);
/** Gives it back unrun: the attempt does not count, and it keeps its place. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_release(redmoon_stream_job *job, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_job_release_start(redmoon_stream_job *job, redmoon_op **op,
                                                                    redmoon_error *err);
REDMOON_API const char *redmoon_stream_job_id(const redmoon_stream_job *job);
/** Never NULL; lives as long as the job. */
REDMOON_API const void *redmoon_stream_job_payload(const redmoon_stream_job *job, size_t *len);
/** 1 for the first run; runs that were released do not count. */
REDMOON_API int64_t redmoon_stream_job_attempt(const redmoon_stream_job *job);
REDMOON_API int64_t redmoon_stream_job_epoch(const redmoon_stream_job *job);
/** Whether the lease still runs, judged locally on CLOCK_BOOTTIME with 1 % + 2 ms taken off.  No I/O. */
REDMOON_API int redmoon_stream_job_held(const redmoon_stream_job *job);
/** Milliseconds left of the lease, by the same judgement; 0 when it ended. */
REDMOON_API int64_t redmoon_stream_job_remaining_ms(const redmoon_stream_job *job);
/** Frees the handle; a lease still held is left to run out (release first), and operations that were started go on.  NULL
 *  is allowed. */
REDMOON_API void redmoon_stream_job_free(redmoon_stream_job *job);

/* Looking after a queue. */

REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_stats(redmoon_stream_queue *queue,
                                                              redmoon_stream_queue_counts *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_stats_start(redmoon_stream_queue *queue,
                                                                    redmoon_stream_queue_counts *out, redmoon_op **op,
                                                                    redmoon_error *err);
/** The first `count` (1 to REDMOON_STREAM_QUEUE_MANY_MAX) dead jobs, those that died first in front.  *out is owned by the
 *  caller (redmoon_stream_dead_list_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_dead(redmoon_stream_queue *queue, int64_t count,
                                                             redmoon_stream_dead_list **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_dead_start(redmoon_stream_queue *queue, int64_t count,
                                                                   redmoon_stream_dead_list **out, redmoon_op **op,
                                                                   redmoon_error *err);
/** NULL is allowed. */
REDMOON_API void redmoon_stream_dead_list_free(redmoon_stream_dead_list *list);
/** Makes the first `count` (1 to REDMOON_STREAM_QUEUE_MANY_MAX) dead jobs new ones, with new ids.  *moved: how many. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_redrive(redmoon_stream_queue *queue, int64_t count,
                                                                int64_t *moved, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_stream_queue_redrive_start(redmoon_stream_queue *queue, int64_t count,
                                                                      int64_t *moved, redmoon_op **op,
                                                                      redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
