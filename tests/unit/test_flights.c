/* SPDX-License-Identifier: MIT */
/* Flights: one leads, others follow, and each is told the end. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/flights.h"

#include <poll.h>
#include <redmoon/error.h>
#include <string.h>

enum { ANN = 1, BOB = 2 };

static int join(rm_flights *f, const char *key, uintptr_t owner, const void *work, rm_event *event, rm_ticket *ticket) {
  return rm_flights_join(f, key, strlen(key), owner, work, event, ticket);
}

static bool is_readable(const rm_event *event) {
  struct pollfd fd = {event->fd, POLLIN, 0};
  return poll(&fd, 1, 0) == 1;
}

static void one_leads_the_others_follow_and_are_woken(void **state) {
  (void)state;
  rm_flights f;
  rm_flights_init(&f);
  rm_event events[2] = {RM_EVENT_INIT, RM_EVENT_INIT};
  rm_ticket leader = {0}, followers[2] = {0}, another = {0};
  int a, b;
  for (int i = 0; i < 2; i++) assert_int_equal(rm_event_open(&events[i]), 0);
  assert_int_equal(join(&f, "k", ANN, &a, NULL, &leader), RM_FLIGHT_LEADS);
  assert_int_equal(join(&f, "k", BOB, &b, NULL, &followers[0]), RM_FLIGHT_BUSY);
  for (int i = 0; i < 2; i++) assert_int_equal(join(&f, "k", BOB, &b, &events[i], &followers[i]), RM_FLIGHT_FOLLOWS);
  assert_int_equal(join(&f, "l", BOB, &b, NULL, &another), RM_FLIGHT_LEADS); /* another key */
  assert_false(rm_ticket_has_ended(&f, &followers[0]));
  assert_false(is_readable(&events[0]));
  rm_flights_leave(&f, &followers[1], NULL); /* one gives up */
  rm_flights_leave(&f, &leader, "the database is down");
  assert_true(rm_ticket_has_ended(&f, &followers[0]));
  assert_true(is_readable(&events[0]));
  assert_false(is_readable(&events[1]));
  assert_true(followers[0].failed);
  assert_string_equal(followers[0].text, "the database is down");
  assert_int_equal(join(&f, "k", BOB, &b, NULL, &leader), RM_FLIGHT_LEADS); /* it is free again */
  rm_flights_leave(&f, &leader, NULL);
  rm_flights_leave(&f, &leader, NULL); /* harmless */
  rm_flights_leave(&f, &another, NULL);
  for (int i = 0; i < 2; i++) rm_event_close(&events[i]);
  rm_flights_fini(&f);
}

static void who_would_wait_for_himself_is_told(void **state) {
  (void)state;
  rm_flights f;
  rm_flights_init(&f);
  rm_event event = RM_EVENT_INIT;
  assert_int_equal(rm_event_open(&event), 0);
  rm_ticket leader = {0}, inner = {0}, twin = {0}, unknown = {0};
  int a, b;
  assert_int_equal(join(&f, "k", ANN, &a, NULL, &leader), RM_FLIGHT_LEADS);
  assert_int_equal(join(&f, "k", ANN, &b, &event, &inner), RM_FLIGHT_OWN);
  assert_int_equal(join(&f, "k", ANN, &a, &event, &twin), RM_FLIGHT_FOLLOWS); /* the same key twice in one operation */
  assert_int_equal(join(&f, "k", 0, &b, &event, &unknown), RM_FLIGHT_FOLLOWS); /* nobody knows who that is */
  rm_flights_leave(&f, &leader, NULL);
  assert_false(twin.failed);
  assert_true(rm_ticket_has_ended(&f, &twin));
  rm_event_close(&event);
  rm_flights_fini(&f);
}

static void after_a_fork_the_parents_flights_are_none(void **state) {
  (void)state;
  rm_flights f;
  rm_flights_init(&f);
  rm_ticket parents = {0}, childs = {0};
  int a, b;
  assert_int_equal(join(&f, "k", ANN, &a, NULL, &parents), RM_FLIGHT_LEADS);
  rm_flights_forked(&f);
  assert_int_equal(join(&f, "k", ANN, &b, NULL, &childs), RM_FLIGHT_LEADS);
  rm_flights_leave(&f, &parents, NULL); /* frees it, and touches nothing */
  rm_ticket other = {0};
  assert_int_equal(join(&f, "k", BOB, &a, NULL, &other), RM_FLIGHT_BUSY);
  rm_flights_leave(&f, &childs, NULL);
  rm_flights_fini(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_leads_the_others_follow_and_are_woken),
      cmocka_unit_test(who_would_wait_for_himself_is_told),
      cmocka_unit_test(after_a_fork_the_parents_flights_are_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
