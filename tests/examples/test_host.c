/* SPDX-License-Identifier: MIT */
/* examples/host.c as its users see it: requests over real sockets, from many threads, and its end. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/program.h"
#include "support/redis_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <redmoon/redmoon.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CALLERS = 8, EACH = 12 };

typedef struct fixture {
  redis_server *server;
  redmoon_client *client;
  program *host;
  int port;
} fixture;

static fixture f;

static void start_host(const char *script, const char *grace) {
  const char *argv[] = {EXAMPLE_HOST, script, "0", redis_server_url(f.server), grace, NULL};
  f.host = program_start(argv);
  const char *line = program_line(f.host);
  assert_non_null(line);
  assert_int_equal(sscanf(line, "listening on http://127.0.0.1:%d", &f.port), 1);
}

/* Ends it in good order: what sanitizers have to say shows in its exit status. */
static void stop_host(void) {
  kill(program_pid(f.host), SIGTERM);
  const char *line = program_line(f.host);
  assert_non_null(line);
  assert_string_equal(line, "stopped");
  assert_int_equal(program_end(f.host), 0);
}

/* ---- requests ---- */

typedef struct answer {
  int status;
  char text[8192]; /* all of it */
  const char *body;
} answer;

static int dial(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f.port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

/* Reads to the end of the connection.  From any thread; status 0: no answer. */
static void read_answer(int fd, answer *out) {
  size_t len = 0;
  ssize_t n;
  while (len < sizeof out->text - 1 && (n = recv(fd, out->text + len, sizeof out->text - 1 - len, 0)) > 0) len += (size_t)n;
  close(fd);
  out->text[len] = '\0';
  if (sscanf(out->text, "HTTP/1.1 %d", &out->status) != 1) out->status = 0;
  const char *end = strstr(out->text, "\r\n\r\n");
  out->body = end != NULL ? end + 4 : "";
}

static void send_raw(const char *bytes, answer *out) {
  *out = (answer){.body = ""};
  int fd = dial();
  if (fd < 0) return;
  if (send(fd, bytes, strlen(bytes), MSG_NOSIGNAL) < 0) out->status = -1;
  read_answer(fd, out);
}

static void request(const char *method, const char *path, const char *header, const char *body, answer *out) {
  char bytes[1024];
  snprintf(bytes, sizeof bytes, "%s %s HTTP/1.1\r\nHost: here\r\n%s\r\nContent-Length: %zu\r\n\r\n%s", method, path, header,
           strlen(body), body);
  send_raw(bytes, out);
}

typedef struct caller {
  pthread_t thread;
  int number, right, limited;
  char failure[512];
} caller;

static void in_threads(void *(*body)(void *), caller *callers) {
  for (int i = 0; i < CALLERS; i++) {
    callers[i] = (caller){.number = i};
    assert_int_equal(pthread_create(&callers[i].thread, NULL, body, &callers[i]), 0);
  }
  for (int i = 0; i < CALLERS; i++) pthread_join(callers[i].thread, NULL);
  for (int i = 0; i < CALLERS; i++)
    if (callers[i].failure[0] != '\0') fail_msg("caller %d: %s", i, callers[i].failure);
}

static int64_t number_at(const char *key) {
  redmoon_reply *reply = ask(f.client, "GET", key, NULL);
  const char *text = redmoon_reply_string(reply, NULL);
  int64_t number = text != NULL ? atoll(text) : 0;
  redmoon_reply_free(reply);
  return number;
}

static void await_number(const char *key, int64_t wanted) {
  for (int i = 0; number_at(key) < wanted; i++) {
    if (i > 20000) fail_msg("%s never was %lld", key, (long long)wanted);
    poll(NULL, 0, 1);
  }
}

/* ---- examples/host.lua ---- */

static void *put_and_get(void *arg) {
  caller *self = arg;
  answer got;
  char path[64], header[64], name[64], wanted[160];
  snprintf(header, sizeof header, "X-Client: caller%d", self->number);
  for (int i = 0; i < EACH; i++) {
    snprintf(path, sizeof path, "/users/u%dx%d", self->number, i);
    snprintf(name, sizeof name, "name %d of %d", i, self->number);
    request("PUT", path, header, name, &got);
    if (got.status == 204) request("GET", path, header, "", &got);
    snprintf(wanted, sizeof wanted, "\"name\":\"%s\"", name);
    if (got.status == 200 && strstr(got.body, wanted) != NULL) self->right++;
    else snprintf(self->failure, sizeof self->failure, "%s: %.200s", path, got.text);
  }
  return NULL;
}

static void many_clients_are_answered_each_its_own(void **state) {
  (void)state;
  caller callers[CALLERS];
  in_threads(put_and_get, callers);
  for (int i = 0; i < CALLERS; i++) assert_int_equal(callers[i].right, EACH);
}

static void *get_shared(void *arg) {
  caller *self = arg;
  answer got;
  char header[64];
  snprintf(header, sizeof header, "X-Client: reader%d", self->number);
  request("GET", "/users/shared", header, "", &got);
  if (got.status != 200 || strstr(got.body, "\"shared by all\"") == NULL)
    snprintf(self->failure, sizeof self->failure, "%.200s", got.text);
  return NULL;
}

static void what_many_ask_for_is_loaded_once(void **state) {
  (void)state;
  caller callers[CALLERS];
  redmoon_reply_free(ask(f.client, "HSET", "host:users", "shared", "shared by all", NULL));
  int64_t before = number_at("host:loads");
  in_threads(get_shared, callers);
  assert_int_equal(number_at("host:loads"), before + 1);
}

static void *ask_too_often(void *arg) {
  caller *self = arg;
  answer got;
  for (int i = 0; i < 20; i++) {
    request("GET", "/nowhere", "X-Client: greedy", "", &got);
    bool refused = got.status == 429 && strstr(got.text, "Retry-After: ") != NULL && strstr(got.text, "RateLimit: ") != NULL;
    if (got.status == 404) self->right++;
    else if (refused) self->limited++;
    else snprintf(self->failure, sizeof self->failure, "%.200s", got.text);
  }
  return NULL;
}

static void a_limit_holds_over_all_threads(void **state) {
  (void)state;
  caller callers[CALLERS];
  in_threads(ask_too_often, callers);
  int right = 0, limited = 0;
  for (int i = 0; i < CALLERS; i++) {
    right += callers[i].right;
    limited += callers[i].limited;
  }
  assert_int_equal(right, 100);
  assert_int_equal(limited, CALLERS * 20 - 100);
}

static int64_t mails_to(const char *whom) {
  redmoon_reply *reply = ask(f.client, "HGET", "host:sent", whom, NULL);
  const char *text = redmoon_reply_string(reply, NULL);
  int64_t count = text != NULL ? atoll(text) : 0;
  redmoon_reply_free(reply);
  return count;
}

static void jobs_are_done_once_though_requests_are_repeated(void **state) {
  (void)state;
  answer first, again;
  char whom[32], header[64];
  for (int i = 0; i < 10; i++) {
    snprintf(whom, sizeof whom, "user%d", i);
    snprintf(header, sizeof header, "Idempotency-Key: mail-%d", i);
    request("POST", "/mails", header, whom, &first);
    request("POST", "/mails", header, whom, &again);
    assert_int_equal(first.status, 202);
    assert_string_equal(first.body, again.body);
  }
  for (int i = 0; i < 10; i++) {
    snprintf(whom, sizeof whom, "user%d", i);
    for (int turn = 0; mails_to(whom) < 1; turn++) {
      assert_true(turn < 20000);
      poll(NULL, 0, 1);
    }
  }
  stop_host(); /* whatever else was in the queue is done, or still there */
  for (int i = 0; i < 10; i++) {
    snprintf(whom, sizeof whom, "user%d", i);
    assert_int_equal(mails_to(whom), 1);
  }
  start_host(EXAMPLES "/host.lua", "10");
}

static void requests_that_are_none_are_refused(void **state) {
  (void)state;
  static char large[20000];
  answer got;
  snprintf(large, sizeof large, "GET / HTTP/1.1\r\nX: ");
  memset(large + strlen(large), 'x', sizeof large - strlen(large) - 1);
  const struct {
    const char *bytes;
    int status;
  } wrong[] = {{"hello\r\n\r\n", 400},
               {"GET /\r\n\r\n", 400},
               {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
               {"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
               {"GET / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n", 413},
               {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411},
               {large, 431}};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    send_raw(wrong[i].bytes, &got);
    assert_int_equal(got.status, wrong[i].status);
  }
  close(dial()); /* one that says nothing */
  request("GET", "/stats", "X-Client: polite", "", &got);
  assert_int_equal(got.status, 200);
}

/* ---- a script that goes wrong, and the host's end ---- */

static void a_handler_that_fails_costs_its_request_alone(void **state) {
  (void)state;
  answer got;
  for (int i = 0; i < 12; i++) { /* three times as many as there are threads */
    request("GET", i % 3 == 0 ? "/fails" : i % 3 == 1 ? "/wrong" : "/splits", "A: b", "", &got);
    assert_int_equal(got.status, 500);
    assert_null(strstr(got.text, "on purpose"));
    request("POST", "/echo", "A: b", "text", &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "text");
    assert_non_null(strstr(got.text, "X-Method: POST\r\n"));
  }
}

static void *wait_in_redis(void *arg) {
  caller *self = arg;
  answer got;
  request("GET", "/waits", "A: b", "", &got);
  snprintf(self->failure, sizeof self->failure, "%d %s", got.status, got.body); /* for the main thread to judge */
  return NULL;
}

static void what_has_begun_is_finished_at_the_end(void **state) {
  (void)state;
  caller self = {0};
  assert_int_equal(pthread_create(&self.thread, NULL, wait_in_redis, &self), 0);
  await_number("waiting", 1);
  redmoon_reply_free(ask(f.client, "RPUSH", "jobs", "one", NULL));
  await_number("working", 1);
  kill(program_pid(f.host), SIGTERM);
  for (int fd, i = 0; (fd = dial()) >= 0; i++) { /* nobody new is let in */
    close(fd);
    assert_true(i < 20000);
    poll(NULL, 0, 1);
  }
  redmoon_reply_free(ask(f.client, "RPUSH", "gate", "go on", "go on", NULL));
  pthread_join(self.thread, NULL);
  assert_string_equal(self.failure, "200 go on");
  const char *line = program_line(f.host);
  assert_non_null(line);
  assert_int_equal(program_end(f.host), 0);
  assert_int_equal(number_at("done"), 1);
}

static void who_takes_too_long_is_told_that_the_client_is_closed(void **state) {
  (void)state;
  caller self = {0};
  start_host(OWN_SCRIPT, "0");
  int64_t before = number_at("waiting");
  assert_int_equal(pthread_create(&self.thread, NULL, wait_in_redis, &self), 0);
  await_number("waiting", before + 1);
  stop_host();
  pthread_join(self.thread, NULL);
  assert_string_equal(self.failure, "503 CLOSED");
}

static void a_script_that_cannot_be_loaded_ends_it(void **state) {
  (void)state;
  program *host = program_start((const char *[]){EXAMPLE_HOST, EXAMPLES "/none.lua", "0", redis_server_url(f.server), NULL});
  assert_null(program_line(host));
  assert_int_equal(program_end(host), 1);
}

static int start(void **state) {
  (void)state;
  f.server = redis_server_start(NULL);
  return redmoon_client_open(redis_server_url(f.server), NULL, &f.client, NULL);
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(f.client);
  redis_server_stop(f.server);
  return 0;
}

static int start_example(void **state) {
  int rc = start(state);
  if (rc == 0) start_host(EXAMPLES "/host.lua", "10");
  return rc;
}

static int stop_example(void **state) {
  stop_host();
  return stop(state);
}

static int start_own(void **state) {
  int rc = start(state);
  if (rc == 0) start_host(OWN_SCRIPT, "30");
  return rc;
}

int main(void) {
  const struct CMUnitTest of_the_example[] = {
      cmocka_unit_test(many_clients_are_answered_each_its_own),
      cmocka_unit_test(what_many_ask_for_is_loaded_once),
      cmocka_unit_test(a_limit_holds_over_all_threads),
      cmocka_unit_test(jobs_are_done_once_though_requests_are_repeated),
      cmocka_unit_test(requests_that_are_none_are_refused),
  };
  const struct CMUnitTest of_its_end[] = {
      cmocka_unit_test(a_handler_that_fails_costs_its_request_alone),
      cmocka_unit_test(what_has_begun_is_finished_at_the_end),
      cmocka_unit_test(who_takes_too_long_is_told_that_the_client_is_closed),
      cmocka_unit_test(a_script_that_cannot_be_loaded_ends_it),
  };
  int failed = cmocka_run_group_tests(of_the_example, start_example, stop_example);
  return failed + cmocka_run_group_tests(of_its_end, start_own, stop);
}
