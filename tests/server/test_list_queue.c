/* SPDX-License-Identifier: MIT */
/* The plain list through the public interface, on a server of the test's own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"

#include <poll.h>
#include <stdbool.h>
#include <string.h>

static redmoon_list_queue *queue_of(redmoon_client *client) {
  redmoon_list_queue *queue = NULL;
  redmoon_error err;
  if (redmoon_list_queue_new(client, "q", 1, &queue, &err) != 0) fail_msg("%s", err.message);
  return queue;
}

static void assert_item(redmoon_reply *item, const char *expected, size_t len) {
  assert_non_null(item);
  size_t got;
  const char *text = redmoon_reply_string(item, &got);
  assert_int_equal(got, len);
  assert_memory_equal(text, expected, len);
  redmoon_reply_free(item);
}

static void items_come_in_order_and_once(void **state) {
  fixture *f = *state;
  redmoon_list_queue *queue = queue_of(f->client);
  int64_t length = -1;
  redmoon_reply *item = NULL;
  assert_int_equal(redmoon_list_queue_push(queue, "a\0b", 3, &length, NULL), 0);
  assert_int_equal(length, 1);
  assert_int_equal(redmoon_list_queue_push(queue, "", 0, NULL, NULL), 0);
  assert_int_equal(redmoon_list_queue_length(queue, &length, NULL), 0);
  assert_int_equal(length, 2);
  assert_int_equal(redmoon_list_queue_pop(queue, 0, &item, NULL), 0);
  assert_item(item, "a\0b", 3);
  assert_int_equal(redmoon_list_queue_pop(queue, 1000, &item, NULL), 0);
  assert_item(item, "", 0);
  assert_int_equal(redmoon_list_queue_pop(queue, 0, &item, NULL), 0);
  assert_null(item);
  assert_int_equal(redmoon_list_queue_pop(queue, 1, &item, NULL), 0);
  assert_null(item);
  redmoon_list_queue_free(queue);
}

/* Steps until the server says that a client waits on a list. */
static void step_until_blocked(redmoon_op *op, redmoon_client *other) {
  for (bool blocked = false; !blocked;) {
    assert_int_equal(redmoon_op_step(op), 0);
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {wants.fd, (wants.events & REDMOON_WANT_WRITE) != 0 ? POLLOUT : POLLIN, 0};
    poll(&fd, 1, 1);
    char info[8192];
    ask_text(other, info, sizeof info, "INFO", "clients", NULL);
    blocked = strstr(info, "blocked_clients:1") != NULL;
  }
}

static void who_waits_gets_what_is_pushed(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, NULL), 0);
  redmoon_list_queue *queue = queue_of(own);
  redmoon_reply *item = NULL;
  redmoon_op *op;
  assert_int_equal(redmoon_list_queue_pop_start(queue, 3600000, &item, &op, NULL), 0);
  redmoon_list_queue_free(queue); /* the operation goes on */
  step_until_blocked(op, f->client);
  assert_int_equal(ask_integer(f->client, "LPUSH", "q", "late", NULL), 1);
  for (;;) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {wants.fd, POLLIN, 0};
    poll(&fd, 1, (int)wants.timeout_ms);
    if (redmoon_op_step(op) == 1) break;
  }
  assert_int_equal(redmoon_op_finish(op, NULL), 0);
  assert_item(item, "late", 4);
  assert_int_equal(ask_integer(f->client, "EXISTS", "q", NULL), 0);
  redmoon_client_close(own);
}

static void a_cancelled_pop_takes_nothing_that_comes_later(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, NULL), 0);
  redmoon_list_queue *queue = queue_of(own);
  redmoon_reply *item = NULL;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_list_queue_pop_start(queue, 3600000, &item, &op, NULL), 0);
  step_until_blocked(op, f->client);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECANCELLED);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_null(item);
  for (char info[8192] = "blocked_clients:1"; strstr(info, "blocked_clients:0") == NULL;)
    ask_text(f->client, info, sizeof info, "INFO", "clients", NULL);
  assert_int_equal(ask_integer(f->client, "LPUSH", "q", "kept", NULL), 1);
  assert_int_equal(redmoon_list_queue_pop(queue, 0, &item, NULL), 0);
  assert_item(item, "kept", 4);
  redmoon_list_queue_free(queue);
  redmoon_client_close(own);
}

static void what_is_not_acceptable_is_refused_and_not_sent(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_list_queue *none = NULL;
  static const char long_name[513];
  assert_int_equal(redmoon_list_queue_new(f->client, "", 0, &none, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_list_queue_new(f->client, long_name, 513, &none, &err), REDMOON_ECONFIG);
  assert_null(none);
  redmoon_list_queue *queue = queue_of(f->client);
  redmoon_reply *item = NULL;
  static const int64_t bad[] = {-1, INT64_MIN, INT64_C(31622400001), INT64_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_list_queue_pop(queue, bad[i], &item, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "give 0 to 31622400000 ms"));
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  }
  assert_int_equal(redmoon_list_queue_push(queue, NULL, 1, NULL, &err), REDMOON_ECONFIG);
  redmoon_reply_free(ask(f->client, "SET", "q", "text", NULL));
  assert_int_equal(redmoon_list_queue_pop(queue, 0, &item, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_null(item);
  redmoon_list_queue_free(queue);
  redmoon_list_queue_free(NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
  const struct CMUnitTest tests[] = {
      TEST(items_come_in_order_and_once),
      TEST(who_waits_gets_what_is_pushed),
      TEST(a_cancelled_pop_takes_nothing_that_comes_later),
      TEST(what_is_not_acceptable_is_refused_and_not_sent),
  };
  return embedded_server_run("list_queue", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
