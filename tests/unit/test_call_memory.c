/* SPDX-License-Identifier: MIT */
/* The memory of operations: one serves the next, a large one leaves little behind, and none is shared or lost. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "engine/call.h"

#include <stdlib.h>
#include <string.h>

typedef struct small_op {
  rm_call call;
  char rest[64];
} small_op;

static redmoon_client *client;
static size_t asked;

static bool count(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  asked++;
  return false;
}

static int open_client(void **state) {
  (void)state;
  return redmoon_client_open("redis://127.0.0.1:1", NULL, &client, NULL);
}

static int close_client(void **state) {
  (void)state;
  rm_alloc_set_refuse(NULL, NULL);
  redmoon_client_close(client);
  return 0;
}

static small_op *new_op(size_t payload) {
  char *bytes = calloc(1, payload + 1);
  memset(bytes, 'x', payload);
  small_op *op = rm_call_new(client, sizeof *op);
  assert_non_null(op);
  assert_int_equal(rm_call_argv(&op->call, 3, (const char *[]){"SET", "k", bytes}, NULL, 0, NULL), 0);
  free(bytes);
  return op;
}

static void an_operation_after_another_asks_for_no_memory(void **state) {
  (void)state;
  rm_call_delete(&new_op(10)->call);
  rm_alloc_set_refuse(count, NULL);
  asked = 0;
  small_op *op = new_op(10);
  assert_int_equal(asked, 0);
  rm_call_delete(&op->call);
}

static void it_finds_its_memory_zeroed(void **state) {
  (void)state;
  static const char zeros[sizeof(((small_op *)0)->rest)];
  small_op *op = new_op(10);
  memset(op->rest, 1, sizeof op->rest);
  op->call.attempt = 3;
  memset(&op->call.op.error, 1, sizeof op->call.op.error);
  rm_call_delete(&op->call);
  op = rm_call_new(client, sizeof *op);
  assert_int_equal(op->call.op.error.status, 0);
  assert_string_equal(op->call.op.error.message, "");
  assert_memory_equal(op->rest, zeros, sizeof zeros);
  assert_int_equal(op->call.attempt, 0);
  assert_int_equal(op->call.request.count, 0);
  assert_int_equal(rm_buffer_len(&op->call.request.bytes), 0);
  rm_call_delete(&op->call);
}

static void operations_at_the_same_time_have_memory_of_their_own(void **state) {
  (void)state;
  small_op *first = new_op(10), *second = new_op(20);
  assert_ptr_not_equal(first, second);
  assert_ptr_not_equal(first->call.request.bytes.bytes, second->call.request.bytes.bytes);
  rm_call_delete(&first->call);
  rm_call_delete(&second->call); /* one of the two is kept, the other freed: the sanitizer would tell */
}

static void the_memory_of_a_large_request_is_not_kept(void **state) {
  (void)state;
  rm_call_delete(&new_op((size_t)1 << 20)->call);
  small_op *op = rm_call_new(client, sizeof *op);
  assert_true(op->call.request.bytes.cap <= 4096);
  rm_call_delete(&op->call);
}

static void a_large_operation_works_as_well(void **state) {
  (void)state;
  small_op *op = rm_call_new(client, (size_t)64 << 10);
  assert_non_null(op);
  memset(op->rest, 1, ((size_t)64 << 10) - offsetof(small_op, rest));
  rm_call_delete(&op->call);
}

static void it_holds_its_client_until_its_end(void **state) {
  (void)state;
  small_op *op = new_op(10);
  redmoon_client_close(client); /* the last handle but the operation's */
  rm_call_delete(&op->call);
  assert_int_equal(open_client(state), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_client, close_client)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(an_operation_after_another_asks_for_no_memory),
      TEST(it_finds_its_memory_zeroed),
      TEST(operations_at_the_same_time_have_memory_of_their_own),
      TEST(the_memory_of_a_large_request_is_not_kept),
      TEST(a_large_operation_works_as_well),
      TEST(it_holds_its_client_until_its_end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
