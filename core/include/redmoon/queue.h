/* SPDX-License-Identifier: MIT */
/** Lease queues: a job is handed out under a lease, and comes back when its worker does not say in time that it is done.
 *
 *     push --> delayed --due--> ready --pop--> leased --ack--> done (kept for its retention) or forgotten
 *                 ^               ^              |
 *                 |               +---release----+----lease over, crashes < max_crashes--> ready, else dead
 *                 +---backoff----nack, attempts < max_attempts, else dead --redrive--> ready
 *
 *  A job runs at least once.  Its epoch rises with each lease of the queue and never comes again: (id, epoch) names one run,
 *  and a resource that keeps the highest epoch it saw refuses a worker that was paused beyond its lease.  All moving on is
 *  done by whatever pop comes next; there is no process that has to run. */
#ifndef REDMOON_QUEUE_H
#define REDMOON_QUEUE_H

#include <redmoon/script.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { REDMOON_QUEUE_MANY_MAX = 500, REDMOON_JOB_ID_SIZE = 129, REDMOON_PRIORITY_MAX = 1023, REDMOON_GROUP_SIZE = 129 };

/** Thread class: immutable after redmoon_queue_new; share it freely. */
typedef struct redmoon_queue redmoon_queue;
/** A job under a lease.  Thread class: one thread at a time. */
typedef struct redmoon_job redmoon_job;

typedef struct redmoon_queue_options {
  int64_t lease_ms;       /**< 30,000; how long a worker has a job, 100 ms to 24 h */
  int64_t max_attempts;   /**< 10; of jobs pushed without their own: so many runs may fail, 1 to 1,000,000 */
  int64_t max_crashes;    /**< 3; and so many leases may run out, 1 to 1,000,000 */
  int64_t min_backoff_ms; /**< 1,000; the first failure delays a job by up to this, each further one by up to twice as much */
  int64_t max_backoff_ms; /**< 3,600,000; but never by more than this, min_backoff_ms to 10 years */
  int64_t max_payload;    /**< 262,144; a larger payload or result is refused before anything is sent, up to 512 MiB */
  int64_t retention_ms;   /**< 0; how long the result of a done job is kept, up to 366 days */
  int64_t min_replicas;   /**< 0; so many replicas must have what a push or an ack has written, up to 1,000: too few in a
                               second is REDMOON_EUNAVAILABLE, and it stays written all the same */
  /* Of each group that redmoon_queue_set_group gave none of its own.  They hold for the jobs that this handle takes: give
   * all workers of a queue the same. */
  int64_t group_concurrency; /**< 0: no limit; so many jobs of a group are leased at once, up to 1,000,000 */
  int64_t group_limit;       /**< 0: no limit; so many begin in a window, up to 1,000,000 */
  int64_t group_window_ms;   /**< with group_limit, and only with it; from the first of them, 1 ms to 366 days */
  int64_t events;            /**< 0: none; so many events are kept, about, of what this handle does: give all that work on
                                  a queue the same; up to 1,000,000 */
} redmoon_queue_options;
#define REDMOON_QUEUE_OPTIONS_INIT                                                                                 \
  {                                                                                                                \
    REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET,       \
        REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET                                  \
  }

/** A job to be. */
typedef struct redmoon_queue_item {
  const void *payload;
  size_t len;
  const char *id;       /**< 1 to 128 bytes; NULL: 20 hex digits from libsodium, and perhaps "-" and two digits.  Refused
                             while a job has it */
  const char *unique;   /**< NULL, or 1 to 256 bytes: refused while a job that is not done or dead has the same */
  int64_t delay_ms;     /**< 0; it is ready so much later, never before, up to 10 years; negative: now */
  int64_t priority;     /**< 0; 0 to 1023: higher ones go first, and in each the order in which they became ready */
  int64_t max_attempts; /**< as the queue's option, instead of it */
  int64_t max_crashes;  /**< as the queue's option, instead of it */
  const char *group;    /**< NULL, or 1 to 128 bytes: whose job it is.  Groups take turns in each priority, and the jobs
                             without one as if they were one more; in a group the order is that of the queue */
} redmoon_queue_item;
#define REDMOON_QUEUE_ITEM_INIT                                                                                    \
  { NULL, 0, NULL, NULL, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, NULL }

typedef struct redmoon_queue_pushed {
  int status;     /**< 0, or REDMOON_ECONFLICT: it was not pushed */
  int by_unique;  /**< of a conflict: 1 if another job has its unique key, 0 if one has its id */
  char id[REDMOON_JOB_ID_SIZE]; /**< its own; of a conflict that of the job that was there */
} redmoon_queue_pushed;

typedef struct redmoon_pop_options {
  int64_t timeout_ms; /**< 0; how long to wait for a job, up to 24 h.  A wait holds a connection of the pool */
  int64_t renew;      /**< 0; 1: the client's keeper thread prolongs the lease for as long as the job is not ended */
  const char *request_id; /**< NULL; 1 to 128 of A-Z a-z 0-9 . _ -: a repetition in 10 minutes gets the same jobs, with
                               leases that begin anew, and no others; and so it may be sent again after a failure */
} redmoon_pop_options;
#define REDMOON_POP_OPTIONS_INIT                                                                                   \
  { REDMOON_UNSET, REDMOON_UNSET, NULL }

typedef struct redmoon_ack_options {
  const void *result; /**< NULL; kept for the retention */
  size_t result_len;
  int64_t retention_ms; /**< as the queue's option, instead of it */
} redmoon_ack_options;
#define REDMOON_ACK_OPTIONS_INIT                                                                                   \
  { NULL, 0, REDMOON_UNSET }

typedef struct redmoon_nack_options {
  const char *error; /**< NULL; why it failed: its first 1,000 bytes are kept, and shown with dead jobs */
  int64_t delay_ms;  /**< until it runs again, up to 10 years; unset: by the queue's backoff */
  int64_t fatal;     /**< 0; 1: it is of no use to run it again; it is dead at once */
} redmoon_nack_options;
#define REDMOON_NACK_OPTIONS_INIT                                                                                  \
  { NULL, REDMOON_UNSET, REDMOON_UNSET }

typedef struct redmoon_queue_counts {
  int64_t ready, delayed, leased, dead;
  int64_t done;                       /**< whose results are kept */
  int64_t pushed, finished, removed;  /**< ever: pushed = finished + removed + ready + delayed + leased + dead */
  int paused;
  int64_t next_due_us;                /**< until a delayed job is due, or a lease or a group's window is over; 0: one is,
                                           -1: there is none */
  int64_t grouped;                    /**< of those that are ready: jobs of groups */
  int64_t groups;                     /**< have such jobs and are not at their limits */
} redmoon_queue_counts;

typedef enum redmoon_job_state {
  REDMOON_JOB_READY = 1,
  REDMOON_JOB_DELAYED,
  REDMOON_JOB_LEASED,
  REDMOON_JOB_DEAD,
  REDMOON_JOB_DONE
} redmoon_job_state;

/** What is known of a job.  Texts live as long as the list they are in. */
typedef struct redmoon_job_info {
  redmoon_job_state state;
  const char *id, *error, *unique; /**< "" where there is none; unique: of redmoon_queue_peek only */
  int64_t at_us;                   /**< until it is due, its lease is over, its result is gone; of a dead one 0 or, in
                                        redmoon_queue_peek, since it died (negative) */
  int64_t died_us;                 /**< in redmoon_queue_dead: when, in microseconds of Unix time by the server's clock */
  int64_t priority, failures, crashes, max_attempts, max_crashes, epoch;
  redmoon_bytes payload, result;   /**< result: or progress; ptr NULL: there is none */
  const char *group;               /**< "": none, and in redmoon_queue_dead */
} redmoon_job_info;

typedef struct redmoon_job_list {
  int64_t total; /**< there are, of which `count` were asked for and found */
  size_t count;
  redmoon_job_info *jobs;
} redmoon_job_list;

typedef struct redmoon_queue_report {
  int64_t jobs;     /**< that were looked at */
  size_t count;     /**< of what is wrong */
  struct {
    const char *what, *id; /**< "in no place", ... */
  } *wrong;
} redmoon_queue_report;

/** No I/O.  `name`: 1 to 512 bytes. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_new(redmoon_client *client, const void *name, size_t name_len,
                                                     const redmoon_queue_options *options, redmoon_queue **out,
                                                     redmoon_error *err);
/** Jobs and operations stay good.  NULL is allowed. */
REDMOON_API void redmoon_queue_free(redmoon_queue *queue);

/** Pushes a job.  REDMOON_ECONFLICT when one has its id or its unique key already; *out says which, and is written then,
 *  too, as it is with REDMOON_EUNAVAILABLE for want of replicas.  `request_id`: NULL, or 1 to 128 of A-Z a-z 0-9 . _ -: a repetition in 10 minutes gets the same answer and pushes
 *  nothing; and so it may be sent again after a failure. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_push(redmoon_queue *queue, const redmoon_queue_item *item,
                                                      const char *request_id, redmoon_queue_pushed *out,
                                                      redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_push_start(redmoon_queue *queue, const redmoon_queue_item *item,
                                                            const char *request_id, redmoon_queue_pushed *out,
                                                            redmoon_op **op, redmoon_error *err);
/** Pushes 1 to REDMOON_QUEUE_MANY_MAX jobs in one step; out[i] says how items[i] ended.  Conflicts leave the others alone. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_push_many(redmoon_queue *queue, const redmoon_queue_item *items,
                                                           size_t count, const char *request_id,
                                                           redmoon_queue_pushed *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_push_many_start(redmoon_queue *queue, const redmoon_queue_item *items,
                                                                 size_t count, const char *request_id,
                                                                 redmoon_queue_pushed *out, redmoon_op **op,
                                                                 redmoon_error *err);

/** Takes a job: *job is owned by the caller (redmoon_job_free), NULL when there was none in time.  When the answer was lost
 *  (outcome UNKNOWN) a job may have been taken; it comes back when its lease is over, or to the same request_id.
 *  REDMOON_ELOST when what that request was given is leased to it no more. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_pop(redmoon_queue *queue, const redmoon_pop_options *options,
                                                     redmoon_job **job, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_pop_start(redmoon_queue *queue, const redmoon_pop_options *options,
                                                           redmoon_job **job, redmoon_op **op, redmoon_error *err);
/** Takes up to `count` jobs (1 to REDMOON_QUEUE_MANY_MAX), waiting for the first one only; *got says how many. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_pop_many(redmoon_queue *queue, const redmoon_pop_options *options,
                                                          size_t count, redmoon_job **jobs, size_t *got,
                                                          redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_pop_many_start(redmoon_queue *queue,
                                                                const redmoon_pop_options *options, size_t count,
                                                                redmoon_job **jobs, size_t *got, redmoon_op **op,
                                                                redmoon_error *err);

/* The job.  Each of its calls ends with REDMOON_ELOST when the lease passed to another worker, or the job was removed;
 * nothing was changed then.  A lease that is over but that nobody took is still good. */

/** It is done. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_ack(redmoon_job *job, const redmoon_ack_options *options,
                                                   redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_ack_start(redmoon_job *job, const redmoon_ack_options *options,
                                                         redmoon_op **op, redmoon_error *err);
/** It is done, and the next one is taken in the same round trip: *next is NULL when none was ready.  It is renewed if this
 *  one was.  With REDMOON_EUNAVAILABLE for want of replicas *next is written, too. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_ack_next(redmoon_job *job, const redmoon_ack_options *options,
                                                        redmoon_job **next, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_ack_next_start(redmoon_job *job, const redmoon_ack_options *options,
                                                              redmoon_job **next, redmoon_op **op, redmoon_error *err);
/** It failed.  *dead: 1 if it will not run again. NULL is allowed. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_nack(redmoon_job *job, const redmoon_nack_options *options, int *dead,
                                                    redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_nack_start(redmoon_job *job, const redmoon_nack_options *options,
                                                          int *dead, redmoon_op **op, redmoon_error *err);
/** Prolongs the lease to `lease_ms` from now (REDMOON_UNSET: the queue's; 100 ms to 24 h); never shortens it. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_extend(redmoon_job *job, int64_t lease_ms, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_extend_start(redmoon_job *job, int64_t lease_ms, redmoon_op **op,
                                                            redmoon_error *err);
/** Gives it back, as if it had not been taken: the attempt does not count, and it keeps its place. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_release(redmoon_job *job, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_release_start(redmoon_job *job, redmoon_op **op, redmoon_error *err);
/** Tells how far it is; redmoon_queue_peek shows it, until the result takes its place. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_progress(redmoon_job *job, const void *progress, size_t len,
                                                        redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_job_progress_start(redmoon_job *job, const void *progress, size_t len,
                                                              redmoon_op **op, redmoon_error *err);
/** Prolongs the leases of 1 to REDMOON_QUEUE_MANY_MAX jobs of this queue in one step: lost[i] is 1 if that of jobs[i] is
 *  another's now. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_extend_many(redmoon_queue *queue, redmoon_job *const *jobs,
                                                             size_t count, int64_t lease_ms, int *lost,
                                                             redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_extend_many_start(redmoon_queue *queue, redmoon_job *const *jobs,
                                                                   size_t count, int64_t lease_ms, int *lost,
                                                                   redmoon_op **op, redmoon_error *err);
/** 1 to REDMOON_QUEUE_MANY_MAX jobs of this queue are done, in one step: lost[i] is 1 if jobs[i] was another's, and is not.
 *  Then up to `most` (0 to REDMOON_QUEUE_MANY_MAX) that are ready are taken: next[0] to next[*got - 1] are the caller's; with
 *  REDMOON_EUNAVAILABLE for want of replicas, too.  `next` and `got` may be NULL when `most` is 0.  They are renewed if one
 *  of the former was.  With the queue's retention, results are empty. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_ack_many(redmoon_queue *queue, redmoon_job *const *jobs, size_t count,
                                                          int *lost, size_t most, redmoon_job **next, size_t *got,
                                                          redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_ack_many_start(redmoon_queue *queue, redmoon_job *const *jobs,
                                                                size_t count, int *lost, size_t most,
                                                                redmoon_job **next, size_t *got, redmoon_op **op,
                                                                redmoon_error *err);
REDMOON_API const char *redmoon_job_id(const redmoon_job *job);
/** NULL: it has none. */
REDMOON_API const char *redmoon_job_group(const redmoon_job *job);
/** Never NULL; lives as long as the job. */
REDMOON_API const void *redmoon_job_payload(const redmoon_job *job, size_t *len);
/** 1 for the first run; runs that were released do not count. */
REDMOON_API int64_t redmoon_job_attempt(const redmoon_job *job);
REDMOON_API int64_t redmoon_job_epoch(const redmoon_job *job);
/** Whether the lease still runs, judged locally on CLOCK_BOOTTIME with 1 % + 2 ms taken off.  No I/O. */
REDMOON_API int redmoon_job_held(const redmoon_job *job);
/** Milliseconds left of the lease, by the same judgement; 0 when it ended. */
REDMOON_API int64_t redmoon_job_remaining_ms(const redmoon_job *job);
/** Frees the handle and ends its renewal; a lease still held is left to run out (release first).  NULL is allowed. */
REDMOON_API void redmoon_job_free(redmoon_job *job);

/* Looking after a queue. */

REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_stats(redmoon_queue *queue, redmoon_queue_counts *out,
                                                       redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_stats_start(redmoon_queue *queue, redmoon_queue_counts *out,
                                                             redmoon_op **op, redmoon_error *err);
/** No job is handed out until redmoon_queue_resume; what runs may end. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_pause(redmoon_queue *queue, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_pause_start(redmoon_queue *queue, redmoon_op **op,
                                                             redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_resume(redmoon_queue *queue, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_resume_start(redmoon_queue *queue, redmoon_op **op,
                                                              redmoon_error *err);
/** Limits of one group, instead of the options of the same names.  They stay until they are set anew, whatever becomes of
 *  its jobs. */
typedef struct redmoon_group_limits {
  int64_t concurrency; /**< unset: as the queue's options have it; 0: no limit; up to 1,000,000 */
  int64_t limit;       /**< likewise, both with the window */
  int64_t window_ms;   /**< with a limit above 0, and only with it; 1 ms to 366 days */
} redmoon_group_limits;
#define REDMOON_GROUP_LIMITS_INIT                                                                                  \
  { REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET }
/** `limits` NULL: none of its own.  Jobs that run go on, and a window that is open stays so. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_set_group(redmoon_queue *queue, const char *group,
                                                           const redmoon_group_limits *limits, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_set_group_start(redmoon_queue *queue, const char *group,
                                                                 const redmoon_group_limits *limits, redmoon_op **op,
                                                                 redmoon_error *err);
/** Dead jobs, those that died first in front: leaves out `first` of them, and gives `count` (1 to
 *  REDMOON_QUEUE_MANY_MAX) at most.  *out is owned by the caller (redmoon_job_list_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_dead(redmoon_queue *queue, int64_t first, int64_t count,
                                                      redmoon_job_list **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_dead_start(redmoon_queue *queue, int64_t first, int64_t count,
                                                            redmoon_job_list **out, redmoon_op **op,
                                                            redmoon_error *err);
/** Makes up to `count` (REDMOON_UNSET: all) dead jobs ready, with no failures or crashes.  *moved says how many; one whose
 *  unique key another job has stays dead. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_redrive(redmoon_queue *queue, int64_t count, int64_t *moved,
                                                         redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_redrive_start(redmoon_queue *queue, int64_t count, int64_t *moved,
                                                               redmoon_op **op, redmoon_error *err);
/** What is known of job `id`: a list of one, or of none (redmoon_job_list_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_peek(redmoon_queue *queue, const char *id, redmoon_job_list **out,
                                                      redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_peek_start(redmoon_queue *queue, const char *id,
                                                            redmoon_job_list **out, redmoon_op **op,
                                                            redmoon_error *err);
/** Removes a job, whatever its state.  *removed: whether there was one. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_remove(redmoon_queue *queue, const char *id, int *removed,
                                                        redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_remove_start(redmoon_queue *queue, const char *id, int *removed,
                                                              redmoon_op **op, redmoon_error *err);
/** Removes all jobs that are in `state` (not LEASED), 500 in a step.  *removed says how many. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_purge(redmoon_queue *queue, redmoon_job_state state, int64_t *removed,
                                                       redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_purge_start(redmoon_queue *queue, redmoon_job_state state,
                                                             int64_t *removed, redmoon_op **op, redmoon_error *err);
/** Whether each job is in exactly one place and has all that belongs to it, some hundred in a step.  What is judged at one
 *  moment belongs together, so a queue in use gives no false alarm.  *out is owned by the caller
 *  (redmoon_queue_report_free); the first 1,000 faults are named. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_check(redmoon_queue *queue, redmoon_queue_report **out,
                                                       redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_check_start(redmoon_queue *queue, redmoon_queue_report **out,
                                                             redmoon_op **op, redmoon_error *err);
/** What became of a job.  Texts live as long as the list they are in. */
typedef struct redmoon_queue_event {
  const char *place; /**< in the stream of events: what comes behind it is asked for by it */
  const char *name;  /**< "added", "delayed", "active", "completed", "failed", "dead", "stalled", "released", "progress",
                          "removed", "redriven"; "paused" and "resumed" are of the queue */
  const char *id;    /**< of the job; "": of the queue */
  int64_t epoch;     /**< of the job's lease; 0: it had none yet */
  int64_t at_ms;     /**< Unix time by the server's clock */
} redmoon_queue_event;
typedef struct redmoon_queue_event_list {
  size_t count;
  redmoon_queue_event *events;
} redmoon_queue_event_list;
/** Events behind place `since` (NULL: all that are kept), up to `count` (1 to 1,000), in their order.  Where there is none
 *  it waits for up to `timeout_ms` (0 to 24 h), on a connection of the pool.  *out is owned by the caller
 *  (redmoon_queue_event_list_free), and may be empty. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_events(redmoon_queue *queue, const char *since, int64_t count,
                                                        int64_t timeout_ms, redmoon_queue_event_list **out,
                                                        redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_queue_events_start(redmoon_queue *queue, const char *since, int64_t count,
                                                              int64_t timeout_ms, redmoon_queue_event_list **out,
                                                              redmoon_op **op, redmoon_error *err);
/** NULL is allowed. */
REDMOON_API void redmoon_queue_event_list_free(redmoon_queue_event_list *list);
/** NULL is allowed. */
REDMOON_API void redmoon_job_list_free(redmoon_job_list *list);
REDMOON_API void redmoon_queue_report_free(redmoon_queue_report *report);

#ifdef __cplusplus
}
#endif
#endif
