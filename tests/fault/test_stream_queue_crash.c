/* SPDX-License-Identifier: MIT */
/* Workers of a stream queue, killed with -9 and stopped for longer than a lease, at random moments, until all jobs
 * are through.  Each run is told through a pipe before its job is acknowledged, and each ack after it was accepted:
 * every job runs, none is acknowledged twice, and none in an epoch before the last that was seen to run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <redmoon/redmoon.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 8, JOBS = 20000, LEASE_MS = 100, LONGEST_LIFE_US = 8000 };

/* What a worker tells: one write, so it is there as a whole or not at all. */
typedef struct note {
  int64_t job, epoch;
  char what; /* 'r': it runs, 'a': its ack was accepted, 'l': it was told that it lost the lease */
} note;

static uint64_t random_state;
static uint64_t draw(uint64_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (random_state >> 33) % bound;
}

static redmoon_stream_queue *queue_of(redmoon_client *client) {
  redmoon_stream_queue_options options = REDMOON_STREAM_QUEUE_OPTIONS_INIT;
  options.lease_ms = LEASE_MS;
  options.max_attempts = 1000000;
  redmoon_stream_queue *queue;
  return redmoon_stream_queue_new(client, "q", 1, &options, &queue, NULL) == 0 ? queue : NULL;
}

static void tell(int fd, const redmoon_stream_job *job, char what) {
  note n;
  memset(&n, 0, sizeof n);
  n.job = strtoll(redmoon_stream_job_payload(job, NULL), NULL, 10);
  n.epoch = redmoon_stream_job_epoch(job);
  n.what = what;
  if (write(fd, &n, sizeof n) != (ssize_t)sizeof n) _exit(3);
}

/* Never returns. */
static void work(const char *url, int fd) {
  redmoon_client *client;
  if (redmoon_client_open(url, NULL, &client, NULL) != 0) _exit(1);
  redmoon_stream_queue *queue = queue_of(client);
  if (queue == NULL) _exit(2);
  for (;;) {
    redmoon_stream_job *jobs[4];
    size_t got = 0;
    if (redmoon_stream_queue_pop_many(queue, 4, 1000, jobs, &got, NULL) != 0) continue;
    for (size_t i = 0; i < got; i++) tell(fd, jobs[i], 'r');
    for (size_t i = 0; i < got; i++) {
      int status = redmoon_stream_job_ack(jobs[i], NULL);
      if (status == 0 || status == REDMOON_ELOST) tell(fd, jobs[i], status == 0 ? 'a' : 'l');
      redmoon_stream_job_free(jobs[i]);
    }
  }
}

typedef struct books {
  int runs[JOBS], acks[JOBS];
  int64_t newest[JOBS]; /* epoch that was seen to run */
  int done, doubled, lost;
} books;

static void enter(books *b, const note *n) {
  assert_in_range(n->job, 0, JOBS - 1);
  if (n->what == 'r') {
    b->doubled += b->runs[n->job]++ > 0;
    if (n->epoch > b->newest[n->job]) b->newest[n->job] = n->epoch;
  } else if (n->what == 'l') {
    b->lost++;
  } else {
    if (n->epoch < b->newest[n->job])
      fail_msg("job %d was acknowledged in epoch %d, after it ran in %d", (int)n->job, (int)n->epoch,
               (int)b->newest[n->job]);
    if (b->acks[n->job]++ > 0) fail_msg("job %d was acknowledged twice", (int)n->job);
    b->done++;
  }
}

/* All that was told so far. */
static void read_notes(books *b, int fd) {
  note n;
  for (;;) {
    ssize_t got = read(fd, &n, sizeof n);
    if (got < 0 && errno == EAGAIN) return;
    assert_int_equal(got, sizeof n);
    enter(b, &n);
  }
}

static pid_t spawn(const char *url, int fd) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) work(url, fd);
  return pid;
}

static void push_all(redmoon_stream_queue *queue) {
  redmoon_bytes payloads[500];
  char text[500][12];
  for (int at = 0; at < JOBS; at += 500) {
    for (int i = 0; i < 500; i++)
      payloads[i] = (redmoon_bytes){text[i], (size_t)snprintf(text[i], sizeof text[i], "%d", at + i)};
    assert_int_equal(redmoon_stream_queue_push_many(queue, payloads, 500, NULL, NULL, NULL), 0);
  }
}

static void end(pid_t pid) {
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void every_job_runs_whoever_is_killed(void **state) {
  (void)state;
  const char *seed = getenv("SEED");
  random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)rm_clock_now_us();
  print_message("SEED=%llu\n", (unsigned long long)random_state);
  static books b;
  int pipes[2], kills = 0;
  assert_int_equal(pipe(pipes), 0);
  assert_int_equal(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);
  redis_server *server = redis_server_start(NULL);
  const char *url = redis_server_url(server);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
  redmoon_stream_queue *queue = queue_of(client);
  push_all(queue);
  pid_t workers[WORKERS];
  for (int i = 0; i < WORKERS; i++) workers[i] = spawn(url, pipes[1]);
  redmoon_stream_queue_counts counts = {1, 0, 0, 0};
  int64_t stopped_us = 0; /* when half of the workers were; 0: they run */
  while (counts.ready + counts.delayed + counts.leased > 0) {
    if (stopped_us == 0 || rm_clock_now_us() - stopped_us > 2500 * LEASE_MS) {
      for (int i = 0; i < WORKERS / 2; i++) kill(workers[i], stopped_us == 0 ? SIGSTOP : SIGCONT);
      stopped_us = stopped_us == 0 ? rm_clock_now_us() : 0;
    }
    struct timespec life = {.tv_nsec = (long)draw(LONGEST_LIFE_US) * 1000};
    nanosleep(&life, NULL); /* the moment is drawn, nothing is waited for */
    int victim = WORKERS / 2 + (int)draw(WORKERS / 2);
    end(workers[victim]);
    kills++;
    workers[victim] = spawn(url, pipes[1]);
    assert_int_equal(redmoon_stream_queue_stats(queue, &counts, NULL), 0);
    read_notes(&b, pipes[0]);
  }
  for (int i = 0; i < WORKERS; i++) end(workers[i]);
  read_notes(&b, pipes[0]);
  print_message("%d kills, %d acks seen, %d runs beside the first, %d leases told lost\n", kills, b.done, b.doubled,
                b.lost);
  for (int i = 0; i < JOBS; i++)
    if (b.runs[i] == 0) fail_msg("job %d never ran", i);
  assert_int_equal(counts.dead, 0);
  assert_true(kills >= 50 && b.doubled > 0 && b.lost > 0);
  redmoon_stream_queue_free(queue);
  redmoon_client_close(client);
  redis_server_stop(server);
  close(pipes[0]);
  close(pipes[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_job_runs_whoever_is_killed)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
