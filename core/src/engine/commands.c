/* SPDX-License-Identifier: MIT */
/* Looking a command up: its bytes, folded to upper case, are two words; their hash leads to an open-addressed table. */
#include "engine/commands.h"

#include "engine/commands_table.h"

#include <stdbool.h>
#include <string.h>

/* Written byte by byte so that the words are the same on every machine; compilers make one load of it. */
static inline uint64_t load4(const char *p) {
  const unsigned char *b = (const unsigned char *)p;
  return (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24;
}

static inline uint64_t load8(const char *p) { return load4(p) | load4(p + 4) << 32; }

/* Clears the bit that tells lower from upper case, of other characters too: see `plain`. */
#define FOLD UINT64_C(0xdfdfdfdfdfdfdfdf)

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

static bool same_name(const char *known, const char *given, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (upper(given[i]) != known[i]) return false;
  return true;
}

static const rm_command_name *find_name(const char *name, size_t len) {
  uint64_t head, tail = 0;
  if (len < 4) {
    if (len == 0) return &rm_command_names[0];
    const unsigned char *b = (const unsigned char *)name;
    head = (uint64_t)b[0] | (uint64_t)b[len / 2] << 8 | (uint64_t)b[len - 1] << 16;
  } else if (len <= 8) {
    head = load4(name) | load4(name + len - 4) << 32;
  } else {
    head = load8(name);
    tail = load8(name + len - 8) & FOLD;
  }
  head &= FOLD;
  uint64_t mixed = (head ^ (tail * UINT64_C(0x9e3779b97f4a7c15) + len)) * rm_command_factor;
  for (size_t i = mixed >> (64 - RM_COMMAND_HASH_BITS);; i = (i + 1) & (RM_COMMAND_SLOTS - 1)) {
    const rm_command_name *entry = &rm_command_names[rm_command_slots[i]];
    if (entry->len == 0) return entry;
    if (entry->head != head || entry->tail != tail || entry->len != len) continue;
    if (entry->plain || same_name(rm_commands[entry->index].name, name, len)) return entry;
  }
}

size_t rm_command_count(void) { return rm_commands_count; }

const rm_command *rm_command_at(size_t index) { return &rm_commands[index < rm_commands_count ? index : 0]; }

const rm_command *rm_command_find(const char *name, size_t len, const char *sub, size_t sub_len) {
  const rm_command_name *entry = find_name(name, len);
  const rm_command *command = &rm_commands[entry->index];
  if (sub == NULL) return command;
  for (size_t i = 1; i <= entry->subs; i++) {
    const char *known = command[i].name + len + 1;
    if (strlen(known) == sub_len && same_name(known, sub, sub_len)) return &command[i];
  }
  return command;
}
