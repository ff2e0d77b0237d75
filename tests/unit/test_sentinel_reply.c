/* SPDX-License-Identifier: MIT */
/* What sentinels answer: what is taken from it, and what is not; and the list of those that may be asked. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/random.h"
#include "engine/sentinels.h"
#include "route/sentinel_reply.h"
#include "wire/reader.h"

#include <stdio.h>
#include <string.h>

static rm_arena arena;

static const redmoon_reply *read_one(const char *bytes) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  rm_reader *reader = rm_reader_new(&limits);
  redmoon_reply *reply = NULL;
  size_t room;
  memcpy(rm_reader_space(reader, strlen(bytes), &room), bytes, strlen(bytes));
  rm_reader_added(reader, strlen(bytes));
  assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
  rm_reader_free(reader);
  return reply;
}

static int forget(void **state) {
  (void)state;
  rm_arena_fini(&arena);
  arena = (rm_arena){0};
  return 0;
}

static int address_of(const char *bytes, rm_announced *out, redmoon_error *err) {
  return rm_sentinel_read_address(out, read_one(bytes), "h:1", "main", err);
}

static void an_address_is_a_host_and_a_port(void **state) {
  (void)state;
  rm_announced at;
  redmoon_error err;
  assert_int_equal(address_of("*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n", &at, &err), 0);
  assert_string_equal(at.host, "127.0.0.1");
  assert_int_equal(at.port, 6379);
  assert_int_equal(address_of("*2\r\n$8\r\nredis-01\r\n:65535\r\n", &at, &err), 0);
  assert_int_equal(at.port, 65535);
  static const char *const bad[] = {
      "*2\r\n$0\r\n\r\n$4\r\n6379\r\n", "*2\r\n$3\r\na/b\r\n$4\r\n6379\r\n", "*2\r\n$1\r\nh\r\n$1\r\n0\r\n", "*2\r\n$1\r\nh\r\n$5\r\n65536\r\n",
      "*2\r\n$1\r\nh\r\n$2\r\n-1\r\n",   "*2\r\n$1\r\nh\r\n$0\r\n\r\n",      "*2\r\n$1\r\nh\r\n$20\r\n18446744073709551617\r\n", "*1\r\n$1\r\nh\r\n",
      "*2\r\n*0\r\n$4\r\n6379\r\n",      "+OK\r\n",                          ":1\r\n"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_int_equal(address_of(bad[i], &at, &err), REDMOON_EPROTOCOL);
}

static void a_name_that_is_not_watched_is_no_address(void **state) {
  (void)state;
  rm_announced at;
  redmoon_error err;
  assert_int_equal(address_of("*-1\r\n", &at, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "h:1 watches no primary of the name 'main'"));
  assert_int_equal(address_of("_\r\n", &at, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(address_of("-NOAUTH Authentication required.\r\n", &at, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOAUTH");
}

static void the_epoch_is_read_where_it_is_told(void **state) {
  (void)state;
  assert_int_equal(rm_sentinel_read_epoch(read_one("*4\r\n$4\r\nname\r\n$4\r\nmain\r\n$12\r\nconfig-epoch\r\n$2\r\n17\r\n")), 17);
  assert_int_equal(rm_sentinel_read_epoch(read_one("%1\r\n$12\r\nconfig-epoch\r\n$1\r\n3\r\n")), 3);
  assert_int_equal(rm_sentinel_read_epoch(read_one("*2\r\n$12\r\nconfig-epoch\r\n$1\r\nx\r\n")), -1);
  assert_int_equal(rm_sentinel_read_epoch(read_one("*1\r\n$12\r\nconfig-epoch\r\n")), -1);
  assert_int_equal(rm_sentinel_read_epoch(read_one("-NOPERM no\r\n")), -1);
}

static char listed[300];

static void list(void *ctx, const rm_announced *server) {
  (void)ctx;
  size_t used = strlen(listed);
  snprintf(listed + used, sizeof listed - used, "%s:%d ", server->host, server->port);
}

static const char *servers_in(const char *bytes, bool healthy) {
  listed[0] = '\0';
  rm_sentinel_read_servers(read_one(bytes), healthy, list, NULL);
  return listed;
}

#define SERVER(ip, port, flags, link)                                                                              \
  "*8\r\n$2\r\nip\r\n$1\r\n" ip "\r\n$4\r\nport\r\n$1\r\n" port "\r\n$5\r\nflags\r\n" flags "\r\n$18\r\nmaster-link-status\r\n" link "\r\n"

static void replicas_that_are_down_or_cut_off_are_left_out(void **state) {
  (void)state;
  static const char all[] = "*6\r\n" SERVER("a", "1", "$5\r\nslave", "$2\r\nok") SERVER("b", "2", "$12\r\ns_down,slave", "$2\r\nok")
      SERVER("c", "3", "$18\r\nslave,disconnected", "$2\r\nok") SERVER("d", "4", "$5\r\nslave", "$3\r\nerr")
      SERVER("e", "5", "$12\r\nslave,o_down", "$2\r\nok") SERVER("f", "6", "$13\r\nslave,s_downX", "$2\r\nok");
  assert_string_equal(servers_in(all, true), "a:1 f:6 ");
  assert_string_equal(servers_in(all, false), "a:1 b:2 c:3 d:4 e:5 f:6 ");
  assert_string_equal(servers_in("*2\r\n" SERVER("?", "1", "$5\r\nslave", "$2\r\nok") SERVER("b", "0", "$5\r\nslave", "$2\r\nok"), true), "");
  assert_string_equal(servers_in("*3\r\n:1\r\n*0\r\n*2\r\n$2\r\nip\r\n$1\r\na\r\n", false), "");
  assert_string_equal(servers_in("-ERR no\r\n", false), "");
}

static void a_message_concerns_the_primary_whose_name_is_a_word_of_it(void **state) {
  (void)state;
  static const char *const yes[] = {"main 1.1.1.1 1 2.2.2.2 2", "slave 2.2.2.2:2 2.2.2.2 2 @ main 1.1.1.1 1", "main"};
  static const char *const no[] = {"mainly 1.1.1.1 1 2.2.2.2 2", "slave x @ domain 1.1.1.1 1", "", "mai", " "};
  for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) assert_true(rm_sentinel_concerns(yes[i], strlen(yes[i]), "main"));
  for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) assert_false(rm_sentinel_concerns(no[i], strlen(no[i]), "main"));
  assert_true(rm_sentinel_concerns("main 1.1.1.1", 4, "main")); /* no byte behind the end */
  assert_false(rm_sentinel_concerns("main 1.1.1.1", 3, "main"));
}

static bool has(const rm_sentinels *sentinels, int port) {
  for (size_t i = 0; i < sentinels->count; i++)
    if (sentinels->all[i].address.port == port) return true;
  return false;
}

static void name(rm_sentinels *sentinels, int port) {
  rm_announced server = {.host = "h", .port = port};
  rm_sentinels_add(sentinels, &server);
}

static void sentinels_of_the_url_stay_and_others_as_long_as_they_are_named(void **state) {
  (void)state;
  char host[] = "h";
  rm_address seeds[] = {{.host = host, .port = 1}, {.host = host, .port = 2}};
  rm_config config = {.addresses = seeds, .address_count = 2};
  rm_sentinels sentinels = {0};
  assert_int_equal(rm_random_init(), 0);
  assert_int_equal(rm_sentinels_init(&sentinels, &config, NULL), 0);
  name(&sentinels, 3);
  name(&sentinels, 3);
  name(&sentinels, 2);
  assert_int_equal(sentinels.count, 3);
  rm_sentinels_prefer(&sentinels, 2);
  assert_int_equal(sentinels.all[0].address.port, 3);
  assert_int_equal(sentinels.count, 3);
  rm_sentinels_prefer(&sentinels, 0); /* it is not named, but was of use */
  assert_true(has(&sentinels, 3));
  name(&sentinels, 4);
  rm_sentinels_prefer(&sentinels, sentinels.all[1].address.port == 4 ? 2 : 1);
  assert_true(sentinels.all[0].seed);
  assert_true(has(&sentinels, 1) && has(&sentinels, 2) && has(&sentinels, 4));
  assert_false(has(&sentinels, 3));
  int first = sentinels.all[0].address.port;
  rm_sentinels_postpone(&sentinels);
  assert_int_equal(sentinels.all[sentinels.count - 1].address.port, first);
  for (int port = 100; port < 300; port++) name(&sentinels, port);
  assert_int_equal(sentinels.count, RM_SENTINELS_MAX);
  rm_sentinels_fini(&sentinels);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(an_address_is_a_host_and_a_port, forget),
      cmocka_unit_test_teardown(a_name_that_is_not_watched_is_no_address, forget),
      cmocka_unit_test_teardown(the_epoch_is_read_where_it_is_told, forget),
      cmocka_unit_test_teardown(replicas_that_are_down_or_cut_off_are_left_out, forget),
      cmocka_unit_test_teardown(a_message_concerns_the_primary_whose_name_is_a_word_of_it, forget),
      cmocka_unit_test(sentinels_of_the_url_stay_and_others_as_long_as_they_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
