/* SPDX-License-Identifier: MIT */
/** What tools/generate-commands writes and commands.c looks things up in. */
#ifndef RM_ENGINE_COMMANDS_TABLE_H
#define RM_ENGINE_COMMANDS_TABLE_H

#include "engine/commands.h"

enum { RM_COMMAND_HASH_BITS = 10, RM_COMMAND_SLOTS = 1 << RM_COMMAND_HASH_BITS };

/** A name without subcommand.  head and tail are its folded bytes (commands.c), which say it all for a `plain` one:
 *  letters only, at most 16. */
typedef struct rm_command_name {
  uint64_t head, tail;
  uint16_t index; /* in rm_commands; its subcommands follow it there */
  uint16_t subs;
  uint8_t len;
  uint8_t plain;
} rm_command_name;

extern const rm_command rm_commands[];
extern const size_t rm_commands_count;
extern const rm_command_name rm_command_names[]; /* entry 0 is none */
extern const uint64_t rm_command_factor;
extern const uint16_t rm_command_slots[RM_COMMAND_SLOTS]; /* index of rm_command_names; 0: free */

#endif
