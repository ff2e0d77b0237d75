/* SPDX-License-Identifier: MIT */
/* Keys of commands, and how commands are spread. */
#include "engine/command_keys.h"

#include <stdlib.h>
#include <string.h>

/* Keys. */

/* Commands whose keys are counted by an argument: at `count_at`, the keys behind it. */
static const struct {
  const char *name;
  unsigned char count_at, extra, step;
} counted[] = {
    {"BLMPOP", 2, 0, 1},     {"BZMPOP", 2, 0, 1},     {"EVAL", 2, 0, 1},        {"EVALSHA", 2, 0, 1},
    {"EVALSHA_RO", 2, 0, 1}, {"EVAL_RO", 2, 0, 1},    {"FCALL", 2, 0, 1},       {"FCALL_RO", 2, 0, 1},
    {"LMPOP", 1, 0, 1},      {"MSETEX", 1, 0, 2},     {"SINTERCARD", 1, 0, 1},  {"ZDIFF", 1, 0, 1},
    {"ZDIFFSTORE", 2, 1, 1}, {"ZINTER", 1, 0, 1},     {"ZINTERCARD", 1, 0, 1},  {"ZINTERSTORE", 2, 1, 1},
    {"ZMPOP", 1, 0, 1},      {"ZUNION", 1, 0, 1},     {"ZUNIONSTORE", 2, 1, 1},
};

static size_t number(const redmoon_bytes *arg) {
  const char *text = arg->ptr;
  size_t value = 0;
  for (size_t i = 0; i < arg->len; i++) {
    if (text[i] < '0' || text[i] > '9' || value > 100000000) return 0;
    value = value * 10 + (size_t)(text[i] - '0');
  }
  return value;
}

static bool is_word(const redmoon_bytes *arg, const char *word) {
  size_t len = strlen(word);
  if (arg->len != len) return false;
  for (size_t i = 0; i < len; i++)
    if ((((const char *)arg->ptr)[i] & ~0x20) != word[i]) return false;
  return true;
}

static rm_key_span cut(rm_key_span span, size_t argc) {
  if (span.first >= argc) return (rm_key_span){.extra = span.extra < argc ? span.extra : 0};
  size_t room = (argc - span.first + span.step - 1) / span.step;
  if (span.count > room) span.count = room;
  return span;
}

/* XREAD and XREADGROUP: STREAMS key ... id ... */
static rm_key_span streams(const redmoon_bytes *args, size_t argc) {
  size_t at = argc > 1 && is_word(&args[1], "GROUP") ? 4 : 1;
  while (at < argc && !is_word(&args[at], "STREAMS")) at++;
  if (at + 1 >= argc) return (rm_key_span){0};
  return (rm_key_span){.first = at + 1, .count = (argc - at - 1 + 1) / 2, .step = 1};
}

/* MIGRATE host port key|"" db timeout ... [KEYS key ...] */
static rm_key_span migrate(const redmoon_bytes *args, size_t argc) {
  if (argc > 3 && args[3].len > 0) return (rm_key_span){.first = 3, .count = 1, .step = 1};
  size_t at = 6;
  while (at < argc && !is_word(&args[at], "KEYS")) at++;
  return at + 1 < argc ? (rm_key_span){.first = at + 1, .count = argc - at - 1, .step = 1} : (rm_key_span){0};
}

static rm_key_span fixed(const rm_command *command, size_t argc) {
  size_t first = (size_t)command->first_key, step = command->key_step > 0 ? (size_t)command->key_step : 1;
  if (first >= argc) return (rm_key_span){0};
  size_t last = command->last_key >= 0 ? (size_t)command->last_key : argc - (size_t)(-command->last_key);
  if (last < first || last >= argc + step) return (rm_key_span){.first = first, .count = 1, .step = step};
  return cut((rm_key_span){.first = first, .count = (last - first) / step + 1, .step = step}, argc);
}

static int by_name(const void *name, const void *entry) { return strcmp(name, *(const char *const *)entry); }

rm_key_span rm_command_keys(const rm_command *command, const redmoon_bytes *args, size_t argc) {
  size_t count = sizeof counted / sizeof counted[0];
  if (command->first_key == 0 || command->name[0] == 'Z' || command->name[0] == 'M') {
    const void *found = bsearch(command->name, counted, count, sizeof counted[0], by_name);
    if (found != NULL) {
      size_t i = (size_t)((const char *)found - (const char *)counted) / sizeof counted[0];
      size_t at = counted[i].count_at;
      rm_key_span span = {.first = at + 1, .count = at < argc ? number(&args[at]) : 0, .step = counted[i].step, .extra = counted[i].extra};
      return cut(span, argc);
    }
    if (strncmp(command->name, "XREAD", 5) == 0) return streams(args, argc);
    if (strcmp(command->name, "MIGRATE") == 0) return migrate(args, argc);
    if (command->first_key == 0) return (rm_key_span){0};
  }
  return fixed(command, argc);
}

/* Spreading. */

static const struct {
  const char *name;
  rm_spread spread;
} spreads[] = {
    {"ACL DELUSER", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"ACL LOAD", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"ACL SAVE", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"ACL SETUSER", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"CONFIG RESETSTAT", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"CONFIG REWRITE", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"CONFIG SET", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"DBSIZE", {RM_SPREAD_PRIMARIES, RM_MERGE_SUM}},
    {"DEL", {RM_SPREAD_KEYS, RM_MERGE_SUM}},
    {"EXISTS", {RM_SPREAD_KEYS, RM_MERGE_SUM}},
    {"FLUSHALL", {RM_SPREAD_PRIMARIES, RM_MERGE_SAME}},
    {"FLUSHDB", {RM_SPREAD_PRIMARIES, RM_MERGE_SAME}},
    {"FUNCTION DELETE", {RM_SPREAD_PRIMARIES, RM_MERGE_SAME}},
    {"FUNCTION FLUSH", {RM_SPREAD_PRIMARIES, RM_MERGE_SAME}},
    {"FUNCTION KILL", {RM_SPREAD_PRIMARIES, RM_MERGE_ANY}},
    {"FUNCTION LOAD", {RM_SPREAD_PRIMARIES, RM_MERGE_SAME}},
    {"FUNCTION RESTORE", {RM_SPREAD_PRIMARIES, RM_MERGE_SAME}},
    {"KEYS", {RM_SPREAD_PRIMARIES, RM_MERGE_JOIN}},
    {"LATENCY RESET", {RM_SPREAD_NODES, RM_MERGE_SUM}},
    {"MEMORY PURGE", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"MGET", {RM_SPREAD_KEYS, RM_MERGE_PLACES}},
    {"MSET", {RM_SPREAD_KEYS, RM_MERGE_SAME}},
    {"RANDOMKEY", {RM_SPREAD_PRIMARIES, RM_MERGE_ANY}},
    {"SCAN", {RM_SPREAD_REFUSED, RM_MERGE_SAME}},
    {"SCRIPT EXISTS", {RM_SPREAD_PRIMARIES, RM_MERGE_AND}},
    {"SCRIPT FLUSH", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"SCRIPT KILL", {RM_SPREAD_PRIMARIES, RM_MERGE_ANY}},
    {"SCRIPT LOAD", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"SLOWLOG LEN", {RM_SPREAD_NODES, RM_MERGE_SUM}},
    {"SLOWLOG RESET", {RM_SPREAD_NODES, RM_MERGE_SAME}},
    {"TOUCH", {RM_SPREAD_KEYS, RM_MERGE_SUM}},
    {"UNLINK", {RM_SPREAD_KEYS, RM_MERGE_SUM}},
    {"WAIT", {RM_SPREAD_PRIMARIES, RM_MERGE_LEAST}},
};

rm_spread rm_command_spread(const rm_command *command) {
  const void *found = bsearch(command->name, spreads, sizeof spreads / sizeof spreads[0], sizeof spreads[0], by_name);
  if (found == NULL) return (rm_spread){RM_SPREAD_NONE, RM_MERGE_SAME};
  return spreads[(size_t)((const char *)found - (const char *)spreads) / sizeof spreads[0]].spread;
}
