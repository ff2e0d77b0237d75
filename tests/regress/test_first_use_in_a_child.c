/* SPDX-License-Identifier: MIT */
/* In a forked child the first thread to use the client starts it afresh.  A second thread that came at the same moment did not
 * wait for that: it could borrow a connection that the parent still used, or lose what it had just borrowed.  And a hook
 * that another thread of the parent's was in could not be removed in the child: that waited for ever. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/redis_server.h"

#include <pthread.h>
#include <redmoon/redmoon.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, FORKS = 300, GIVE_UP_S = 60 };

typedef struct worker {
  redmoon_client *client;
  pthread_barrier_t *barrier;
  int64_t newest; /* connection of the parent's */
  bool fine;
} worker;

static void *use(void *arg) {
  worker *w = arg;
  pthread_barrier_wait(w->barrier);
  redmoon_reply *reply;
  w->fine = redmoon_command(w->client, 2, (const char *[]){"CLIENT", "ID"}, NULL, &reply, NULL) == 0;
  if (w->fine) w->fine = redmoon_reply_integer(reply) > w->newest;
  redmoon_reply_free(reply);
  return NULL;
}

/* The child; its exit status. */
static int use_on_all_threads(redmoon_client *client, int64_t newest) {
  pthread_t thread[THREADS];
  worker workers[THREADS];
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, THREADS);
  bool fine = true;
  alarm(GIVE_UP_S);
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){client, &barrier, newest, false};
    if (pthread_create(&thread[i], NULL, use, &workers[i]) != 0) return 2;
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(thread[i], NULL);
    fine = fine && workers[i].fine;
  }
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  return fine && stats.in_use == 0 && stats.total == stats.idle && stats.misses == stats.dials ? 0 : 1;
}

static int status_of(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return status;
}

static void threads_that_come_first_together_start_it_afresh_once(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  redmoon_pipeline *held[THREADS];
  redmoon_op *op[THREADS];
  for (int i = 0; i < THREADS; i++) { /* so that there are as many idle ones */
    assert_int_equal(redmoon_pipeline_new(client, &held[i], NULL), 0);
    assert_int_equal(redmoon_pipeline_command(held[i], 1, (const char *[]){"PING"}, NULL, NULL), 0);
    assert_int_equal(redmoon_pipeline_run_start(held[i], &op[i], NULL), 0);
    (void)redmoon_op_step(op[i]);
  }
  for (int i = 0; i < THREADS; i++) {
    while (!redmoon_op_step(op[i])) {
    }
    assert_int_equal(redmoon_op_finish(op[i], NULL), 0);
    redmoon_pipeline_free(held[i]);
  }
  for (int i = 0; i < FORKS; i++) {
    redmoon_client *probe;
    assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &probe, NULL), 0);
    int64_t newest = ask_integer(probe, "CLIENT", "ID", NULL);
    redmoon_client_close(probe);
    pid_t pid = fork();
    if (pid == 0) _exit(use_on_all_threads(client, newest));
    assert_true(pid > 0);
    assert_int_equal(status_of(pid), 0);
  }
  redmoon_client_close(client);
  redis_server_stop(server);
}

/* Hooks. */

static sem_t inside, leave;

static void stay(void *ctx, const redmoon_event *event) {
  (void)ctx;
  (void)event;
  sem_post(&inside);
  sem_wait(&leave);
}

static void *call_once(void *arg) {
  redmoon_reply *reply;
  if (redmoon_command(arg, 1, (const char *[]){"PING"}, NULL, &reply, NULL) == 0) redmoon_reply_free(reply);
  return NULL;
}

static void a_hook_that_was_being_called_at_the_fork_can_be_removed(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  uint64_t id;
  pthread_t thread;
  sem_init(&inside, 0, 0);
  sem_init(&leave, 0, 0);
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  assert_int_equal(redmoon_client_on(client, REDMOON_EVENT_COMMAND, stay, NULL, &id, NULL), 0);
  assert_int_equal(pthread_create(&thread, NULL, call_once, client), 0);
  sem_wait(&inside);
  pid_t pid = fork();
  if (pid == 0) {
    alarm(5); /* ends a child that waits for ever */
    redmoon_client_off(client, id);
    _exit(0);
  }
  assert_int_equal(status_of(pid), 0);
  sem_post(&leave);
  pthread_join(thread, NULL);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(threads_that_come_first_together_start_it_afresh_once),
      cmocka_unit_test(a_hook_that_was_being_called_at_the_fork_can_be_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
