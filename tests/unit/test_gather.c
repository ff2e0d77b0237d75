/* SPDX-License-Identifier: MIT */
/* Operations in flight together: who is stepped, and what is waited for. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/gather.h"

#include <fcntl.h>
#include <unistd.h>

/* Ends when `left` bytes have come through its pipe, or at `ends_us`. */
typedef struct reading {
  redmoon_op op;
  int ends[2], steps, left;
  int64_t ends_us;
} reading;

static int read_step(redmoon_op *op, int64_t now_us) {
  reading *self = (reading *)(void *)op;
  char byte;
  self->steps++;
  while (self->left > 0 && read(self->ends[0], &byte, 1) == 1) self->left--;
  if (self->left == 0 || now_us >= self->ends_us) return RM_DONE;
  op->wants = (rm_wants){self->ends[0], REDMOON_WANT_READ, self->ends_us};
  return RM_WAIT;
}

static const rm_op_class reading_class = {.step = read_step};

static void make(reading *self, int left) {
  *self = (reading){.op = {.class = &reading_class, .status = RM_WAIT}, .left = left, .ends_us = RM_FOREVER};
  assert_int_equal(pipe2(self->ends, O_NONBLOCK | O_CLOEXEC), 0);
}

static void end(reading *self) {
  close(self->ends[0]);
  close(self->ends[1]);
}

static int is_readable(int fd) {
  struct pollfd poller = {.fd = fd, .events = POLLIN};
  return poll(&poller, 1, 0);
}

static void only_what_is_ready_is_stepped(void **state) {
  (void)state;
  reading ops[3];
  rm_gather gather;
  rm_wants wants;
  assert_int_equal(rm_gather_open(&gather, 3, NULL), 0);
  for (int i = 0; i < 3; i++) {
    make(&ops[i], 2);
    rm_gather_set(&gather, (size_t)i, &ops[i].op);
  }
  assert_int_equal(rm_gather_step(&gather, 1, &wants), 3);
  assert_int_equal(wants.until_us, RM_FOREVER);
  assert_int_equal(is_readable(wants.fd), 0);
  assert_int_equal(write(ops[1].ends[1], "x", 1), 1);
  assert_int_equal(is_readable(wants.fd), 1);
  assert_int_equal(rm_gather_step(&gather, 2, &wants), 3);
  assert_int_equal(ops[0].steps, 1);
  assert_int_equal(ops[1].steps, 2);
  assert_int_equal(is_readable(wants.fd), 0);
  for (int i = 0; i < 3; i++) assert_int_equal(write(ops[i].ends[1], "xx", 2), 2);
  assert_int_equal(rm_gather_step(&gather, 3, &wants), 0);
  assert_int_equal(wants.fd, -1);
  for (int i = 0; i < 3; i++) end(&ops[i]);
  rm_gather_close(&gather);
}

static void the_earliest_deadline_counts(void **state) {
  (void)state;
  reading ops[2];
  rm_gather gather;
  rm_wants wants;
  assert_int_equal(rm_gather_open(&gather, 2, NULL), 0);
  for (int i = 0; i < 2; i++) {
    make(&ops[i], 1);
    ops[i].ends_us = 100 + 50 * i;
    rm_gather_set(&gather, (size_t)i, &ops[i].op);
  }
  assert_int_equal(rm_gather_step(&gather, 1, &wants), 2);
  assert_int_equal(wants.until_us, 100);
  assert_int_equal(rm_gather_step(&gather, 100, &wants), 1);
  assert_int_equal(ops[0].op.status, RM_DONE);
  assert_int_equal(ops[1].steps, 1);
  assert_int_equal(wants.until_us, 150);
  rm_gather_unset(&gather, 1);
  assert_int_equal(rm_gather_step(&gather, 200, &wants), 0);
  assert_int_equal(ops[1].steps, 1);
  for (int i = 0; i < 2; i++) end(&ops[i]);
  rm_gather_close(&gather);
}

/* A member may close its descriptor and another one get the same number. */
static void a_number_that_changes_hands_stays_with_the_new_owner(void **state) {
  (void)state;
  reading a, b;
  rm_gather gather;
  rm_wants wants;
  assert_int_equal(rm_gather_open(&gather, 2, NULL), 0);
  make(&a, 1);
  rm_gather_set(&gather, 0, &a.op);
  assert_int_equal(rm_gather_step(&gather, 1, &wants), 1);
  int number = a.ends[0];
  rm_gather_unset(&gather, 0);
  end(&a);
  make(&b, 1);
  if (b.ends[0] != number) {
    assert_int_equal(dup3(b.ends[0], number, O_CLOEXEC), number);
    close(b.ends[0]);
    b.ends[0] = number;
  }
  rm_gather_set(&gather, 1, &b.op);
  assert_int_equal(rm_gather_step(&gather, 2, &wants), 1);
  assert_int_equal(write(b.ends[1], "x", 1), 1);
  assert_int_equal(is_readable(wants.fd), 1);
  assert_int_equal(rm_gather_step(&gather, 3, &wants), 0);
  end(&b);
  rm_gather_close(&gather);
}

static void what_cannot_be_waited_for_is_looked_at_again_soon(void **state) {
  (void)state;
  reading a;
  rm_gather gather;
  rm_wants wants;
  assert_int_equal(rm_gather_open(&gather, 1, NULL), 0);
  close(gather.epfd);
  gather.epfd = -1;
  make(&a, 1);
  rm_gather_set(&gather, 0, &a.op);
  assert_int_equal(rm_gather_step(&gather, 1000, &wants), 1);
  assert_int_equal(wants.until_us, 2000);
  assert_int_equal(write(a.ends[1], "x", 1), 1);
  assert_int_equal(rm_gather_step(&gather, 2000, &wants), 0);
  end(&a);
  rm_gather_close(&gather);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_what_is_ready_is_stepped),
      cmocka_unit_test(the_earliest_deadline_counts),
      cmocka_unit_test(a_number_that_changes_hands_stays_with_the_new_owner),
      cmocka_unit_test(what_cannot_be_waited_for_is_looked_at_again_soon),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
