/* SPDX-License-Identifier: MIT */
/* Messages that share blocks of memory: each is whole until it is freed, whatever became of its neighbours. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "engine/subscription_buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 500 };

static int allocations;
static bool refusing;

static bool count_or_refuse(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  allocations++;
  return refusing;
}

static rm_message *message_with(rm_message_block **block, const char *payload, size_t len) {
  rm_message *message = rm_message_new(block, (redmoon_bytes){"channel", 7}, (redmoon_bytes){NULL, 0}, (redmoon_bytes){payload, len}, false);
  assert_non_null(message);
  assert_true((uintptr_t)message % _Alignof(rm_message) == 0);
  return message;
}

static rm_message *numbered(rm_message_block **block, int number) {
  char text[64];
  return message_with(block, text, (size_t)snprintf(text, sizeof text, "%0*d", number % 40 + 1, number));
}

static void assert_number(const rm_message *message, int number) {
  assert_string_equal(message->seen.channel, "channel");
  assert_null(message->seen.pattern);
  assert_int_equal(strtol(message->seen.payload, NULL, 10), number);
  assert_int_equal(message->seen.payload_len, strlen(message->seen.payload));
}

/* From the front, from the back, and every third one first; the filler leaves before, between or behind. */
static void messages_outlive_their_neighbours_and_their_filler(void **state) {
  (void)state;
  static rm_message *messages[MANY];
  for (int leaves_at = 0; leaves_at <= MANY; leaves_at += MANY / 2)
    for (int stride = 1; stride <= 499; stride += 166) { /* no divisor of MANY but 1 */
      rm_message_block *block = NULL;
      for (int i = 0; i < MANY; i++) messages[i] = numbered(&block, i);
      for (int i = 0; i < MANY; i++) {
        if (i == leaves_at) rm_message_block_leave(block);
        int at = i * stride % MANY;
        assert_number(messages[at], at);
        redmoon_message_free(&messages[at]->seen);
      }
      if (leaves_at == MANY) rm_message_block_leave(block);
    }
}

static void free_block_is_used_again(void **state) {
  (void)state;
  rm_message_block *block = NULL;
  rm_alloc_set_refuse(count_or_refuse, NULL);
  allocations = 0;
  for (int i = 0; i < MANY; i++) {
    rm_message *message = numbered(&block, i);
    assert_number(message, i);
    redmoon_message_free(&message->seen);
  }
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(allocations, 1);
  rm_message_block_leave(block);
}

static void large_message_lies_alone(void **state) {
  (void)state;
  static char large[100000];
  memset(large, 'x', sizeof large);
  rm_message_block *block = NULL;
  rm_message *message = message_with(&block, large, sizeof large);
  assert_null(block);
  assert_null(message->block);
  assert_memory_equal(message->seen.payload, large, sizeof large);
  redmoon_message_free(&message->seen);
}

static void without_memory_the_block_stays_as_it_was(void **state) {
  (void)state;
  rm_message_block *block = NULL;
  rm_message *first = numbered(&block, 7), *kept[MANY], *message;
  int count = 0;
  rm_alloc_set_refuse(count_or_refuse, NULL);
  refusing = true;
  do {
    message = rm_message_new(&block, (redmoon_bytes){"channel", 7}, (redmoon_bytes){NULL, 0}, (redmoon_bytes){"8", 1}, false);
    if (message != NULL) kept[count++] = message;
  } while (message != NULL && count < MANY);
  refusing = false;
  rm_alloc_set_refuse(NULL, NULL);
  assert_null(message);
  assert_number(first, 7);
  for (int i = 0; i < count; i++) {
    assert_number(kept[i], 8);
    redmoon_message_free(&kept[i]->seen);
  }
  redmoon_message_free(&first->seen);
  rm_message_block_leave(block);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(messages_outlive_their_neighbours_and_their_filler),
      cmocka_unit_test(free_block_is_used_again),
      cmocka_unit_test(large_message_lies_alone),
      cmocka_unit_test(without_memory_the_block_stays_as_it_was),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
