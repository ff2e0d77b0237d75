/* SPDX-License-Identifier: MIT */
/* The command table: what it says of the commands that retry, routing and refusal depend on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/commands.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "CLIENT REPLY" -> its entry. */
static const rm_command *find(const char *text) {
  const char *space = strchr(text, ' ');
  if (space == NULL) return rm_command_find(text, strlen(text), NULL, 0);
  return rm_command_find(text, (size_t)(space - text), space + 1, strlen(space + 1));
}

static void expect(const char *text, int flags) {
  const rm_command *command = find(text);
  if (strcmp(command->name, text) != 0 || command->flags != flags)
    fail_msg("%s: found %s with flags %d, expected %d", text, command->name, command->flags, flags);
}

static void every_entry_is_found_by_its_name_in_any_case(void **state) {
  (void)state;
  assert_true(rm_command_count() > 400);
  for (size_t i = 1; i < rm_command_count(); i++) {
    const rm_command *command = rm_command_at(i);
    assert_int_equal(command->index, i);
    char lower[64], mixed[64];
    size_t len = strlen(command->name);
    assert_true(len < sizeof lower);
    for (size_t j = 0; j <= len; j++) {
      lower[j] = (char)tolower((unsigned char)command->name[j]);
      mixed[j] = j % 2 ? lower[j] : command->name[j];
    }
    assert_ptr_equal(find(command->name), command);
    assert_ptr_equal(find(lower), command);
    assert_ptr_equal(find(mixed), command);
  }
}

static void an_unknown_name_is_other_and_nothing_is_assumed(void **state) {
  (void)state;
  static const char *const unknown[] = {"",     "G",    "GE",          "GETT",        "NOSUCH",          "OTHER",
                                        "GET ", "FT.X", "XXXXXXXXXXX", "PING\r",      "RESTORE\rASKING", "EVAL\x1f" "RO",
                                        "\xc7" "ET", "'ET", "GETRANGE!", "GEORADIUSBYMEMBER\x7fRO"};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    const rm_command *command = rm_command_find(unknown[i], strlen(unknown[i]), NULL, 0);
    if (command->index != 0) fail_msg("\"%s\" was taken for %s", unknown[i], command->name);
  }
  assert_string_equal(rm_command_at(0)->name, "OTHER");
  assert_int_equal(rm_command_at(0)->flags, 0);
  assert_ptr_equal(rm_command_at(rm_command_count()), rm_command_at(0));
  assert_int_equal(rm_command_find("GET\0X", 5, NULL, 0)->index, 0);
}

/* Names one random byte away from a known one must not pass for it. */
static void random_names_are_found_only_if_they_are_equal(void **state) {
  (void)state;
  const char *given = getenv("SEED");
  uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 20261122;
  print_message("SEED=%llu\n", (unsigned long long)seed);
  for (int round = 0; round < 200000; round++) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    const rm_command *command = rm_command_at(1 + (size_t)(seed >> 33) % (rm_command_count() - 1));
    size_t len = strlen(command->name);
    if (strchr(command->name, ' ') != NULL) continue;
    char name[64];
    memcpy(name, command->name, len);
    name[(seed >> 20) % len] = (char)(seed >> 56);
    const rm_command *found = rm_command_find(name, len, NULL, 0);
    if (found->index == 0) continue;
    assert_int_equal(strlen(found->name), len);
    for (size_t i = 0; i < len; i++) {
      char c = name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 32) : name[i];
      assert_int_equal(c, found->name[i]);
    }
  }
}

static void only_reads_and_harmless_commands_may_be_repeated(void **state) {
  (void)state;
  static const char *const reads[] = {"GET",      "MGET",    "HGETALL",  "ZRANGE",     "EXISTS",     "TTL",
                                      "SORT_RO",  "EVAL_RO", "FCALL_RO", "EVALSHA_RO", "RANDOMKEY",  "SCAN",
                                      "PING",     "ECHO",    "TIME",     "INFO",       "CONFIG GET", "CLIENT ID",
                                      "OBJECT FREQ", "XINFO STREAM", "MEMORY USAGE", "HTTL", "VSIM",  "SCRIPT EXISTS"};
  for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) expect(reads[i], RM_COMMAND_READ);
  static const char *const writes[] = {"SET",   "INCR",   "SORT",   "GETEX",  "GETDEL",  "SPOP",  "LPOP",
                                       "ZPOPMIN", "GEORADIUS", "XACK", "HGETEX", "HSETEX", "HGETDEL", "DELEX",
                                       "XACKDEL", "XDELEX", "HEXPIRE", "VADD", "INCREX", "FUNCTION LOAD"};
  for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) expect(writes[i], RM_COMMAND_WRITE);
  static const char *const neither[] = {"EVAL", "EVALSHA", "FCALL", "PUBLISH", "SCRIPT LOAD", "DEBUG", "CLIENT KILL",
                                        "OBJECT", "FAILOVER", "SHUTDOWN"};
  for (size_t i = 0; i < sizeof neither / sizeof neither[0]; i++) expect(neither[i], 0);
}

static void commands_that_change_their_connection_are_marked(void **state) {
  (void)state;
  static const char *const names[] = {
      "SELECT", "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
      "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "RESET", "QUIT", "SYNC", "PSYNC", "READONLY",
      "READWRITE", "ASKING", "CLIENT REPLY", "CLIENT TRACKING", "CLIENT CACHING", "CLIENT NO-EVICT",
      "CLIENT NO-TOUCH", "CLIENT SETNAME", "CLIENT SETINFO", "SCRIPT DEBUG"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) expect(names[i], RM_COMMAND_CONNECTION);
  expect("AUTH", RM_COMMAND_CONNECTION | RM_COMMAND_SECRET);
  expect("HELLO", RM_COMMAND_CONNECTION | RM_COMMAND_SECRET);
}

static void commands_whose_arguments_hold_secrets_are_marked(void **state) {
  (void)state;
  expect("ACL SETUSER", RM_COMMAND_SECRET);
  expect("CONFIG SET", RM_COMMAND_SECRET);
  expect("MIGRATE", RM_COMMAND_SECRET | RM_COMMAND_WRITE);
}

static void an_unknown_subcommand_is_taken_for_the_worst_one(void **state) {
  (void)state;
  assert_string_equal(find("CLIENT BRANDNEW")->name, "CLIENT");
  assert_int_equal(find("CLIENT BRANDNEW")->flags, RM_COMMAND_CONNECTION);
  assert_int_equal(find("CONFIG BRANDNEW")->flags, RM_COMMAND_SECRET);
  assert_int_equal(find("ACL BRANDNEW")->flags, RM_COMMAND_SECRET);
  assert_int_equal(rm_command_find("GET", 3, "key", 3)->flags, RM_COMMAND_READ);
}

static void blocking_commands_say_where_their_timeout_is(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int flags, timeout_arg;
  } rows[] = {
      {"BLPOP", RM_COMMAND_WRITE, -1},     {"BRPOP", RM_COMMAND_WRITE, -1},    {"BRPOPLPUSH", RM_COMMAND_WRITE, -1},
      {"BLMOVE", RM_COMMAND_WRITE, -1},    {"BZPOPMIN", RM_COMMAND_WRITE, -1}, {"BZPOPMAX", RM_COMMAND_WRITE, -1},
      {"BLMPOP", RM_COMMAND_WRITE, 1},     {"BZMPOP", RM_COMMAND_WRITE, 1},    {"XREAD", RM_COMMAND_READ, 0},
      {"XREADGROUP", RM_COMMAND_WRITE, 0}, {"WAIT", RM_COMMAND_MILLIS, 2},     {"WAITAOF", RM_COMMAND_MILLIS, 3}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    expect(rows[i].name, rows[i].flags | RM_COMMAND_BLOCKING);
    assert_int_equal(find(rows[i].name)->timeout_arg, rows[i].timeout_arg);
  }
  size_t blocking = 0;
  for (size_t i = 0; i < rm_command_count(); i++) blocking += (rm_command_at(i)->flags & RM_COMMAND_BLOCKING) != 0;
  assert_int_equal(blocking, sizeof rows / sizeof rows[0]);
}

static void arity_and_keys_are_those_of_the_server(void **state) {
  (void)state;
  const rm_command *mset = find("MSET"), *blpop = find("BLPOP"), *usage = find("MEMORY USAGE"), *eval = find("EVAL");
  assert_int_equal(mset->arity, -3);
  assert_int_equal(mset->first_key, 1);
  assert_int_equal(mset->last_key, -1);
  assert_int_equal(mset->key_step, 2);
  assert_int_equal(blpop->last_key, -2);
  assert_int_equal(usage->first_key, 2);
  assert_int_equal(eval->first_key, 0);
  assert_int_equal(find("GET")->arity, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_entry_is_found_by_its_name_in_any_case),
      cmocka_unit_test(an_unknown_name_is_other_and_nothing_is_assumed),
      cmocka_unit_test(random_names_are_found_only_if_they_are_equal),
      cmocka_unit_test(only_reads_and_harmless_commands_may_be_repeated),
      cmocka_unit_test(commands_that_change_their_connection_are_marked),
      cmocka_unit_test(commands_whose_arguments_hold_secrets_are_marked),
      cmocka_unit_test(an_unknown_subcommand_is_taken_for_the_worst_one),
      cmocka_unit_test(blocking_commands_say_where_their_timeout_is),
      cmocka_unit_test(arity_and_keys_are_those_of_the_server),
  };
  return cmocka_run_group_tests_name("commands", tests, NULL, NULL);
}
