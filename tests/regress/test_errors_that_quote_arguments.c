/* SPDX-License-Identifier: MIT */
/* Servers quote the arguments of commands that they do not know, and the rules of an ACL that they do not understand.
 * Those texts went into error messages, hooks and replies as they were, secrets and payloads included. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <redmoon/redmoon.h>
#include <string.h>

#define SECRET "s3cr3t"
#define COUNT(array) (int)(sizeof array / sizeof array[0])

static const char *const unknown[] = {"NOSUCH", SECRET, SECRET};
static const char *const acl[] = {"ACL", "SETUSER", "ann", "!" SECRET};

typedef struct fixture {
  redmoon_embedded *server;
  redmoon_client *client;
  int events, leaks;
} fixture;

static void look(void *ctx, const redmoon_event *event) {
  fixture *f = ctx;
  f->events++;
  f->leaks += event->error != NULL && strstr(event->error->message, SECRET) != NULL;
}

static int setup(void **state) {
  static fixture f;
  uint64_t id;
  *state = &f;
  f = (fixture){0};
  assert_int_equal(redmoon_embedded_start(NULL, &f.server, NULL), 0);
  assert_int_equal(redmoon_client_open(redmoon_embedded_url(f.server), NULL, &f.client, NULL), 0);
  return redmoon_client_on(f.client, REDMOON_EVENT_COMMAND, look, &f, &id, NULL);
}

static int teardown(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  return 0;
}

static void an_errors_message_holds_no_argument(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_reply *reply;
  assert_int_equal(redmoon_command(f->client, COUNT(unknown), unknown, NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.message, "ERR unknown command 'NOSUCH'");
  assert_int_equal(redmoon_command(f->client, COUNT(acl), acl, NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "ERR");
  assert_string_equal(err.message, "ERR ACL SETUSER was refused; the server's text is not shown, because it may quote a secret");
  assert_int_equal(f->events, 2);
  assert_int_equal(f->leaks, 0);
}

static void assert_hushed(const redmoon_reply *reply) {
  assert_int_equal(redmoon_reply_type(reply), REDMOON_ERROR);
  assert_null(strstr(redmoon_reply_string(reply, NULL), SECRET));
}

static void an_error_in_a_pipeline_holds_no_argument(void **state) {
  fixture *f = *state;
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(f->client, &pipeline, NULL), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, COUNT(unknown), unknown, NULL, NULL), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, COUNT(acl), acl, NULL, NULL), 1);
  assert_int_equal(redmoon_pipeline_run(pipeline, NULL), 0);
  for (size_t i = 0; i < 2; i++) assert_hushed(redmoon_pipeline_result(pipeline, i).reply);
  redmoon_pipeline_free(pipeline);
}

static void an_error_of_a_transaction_holds_no_argument(void **state) {
  fixture *f = *state;
  redmoon_transaction *tx;
  redmoon_reply *replies;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_begin(f->client, NULL, 0, NULL, &tx, NULL), 0);
  assert_int_equal(redmoon_transaction_queue(tx, COUNT(unknown), unknown, NULL, NULL), 0);
  assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_ESERVER);
  assert_string_equal(err.message, "EXECABORT nothing was executed because a command was refused: ERR unknown command 'NOSUCH'");
  redmoon_transaction_free(tx);
  assert_int_equal(redmoon_transaction_begin(f->client, NULL, 0, NULL, &tx, NULL), 0);
  assert_int_equal(redmoon_transaction_queue(tx, COUNT(acl), acl, NULL, NULL), 0);
  assert_int_equal(redmoon_transaction_exec(tx, &replies, NULL), 0);
  assert_hushed(redmoon_reply_at(replies, 0));
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(an_errors_message_holds_no_argument, setup, teardown),
      cmocka_unit_test_setup_teardown(an_error_in_a_pipeline_holds_no_argument, setup, teardown),
      cmocka_unit_test_setup_teardown(an_error_of_a_transaction_holds_no_argument, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
