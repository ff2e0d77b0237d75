/* SPDX-License-Identifier: MIT */
/** The table of commands, generated from a server's COMMAND output (tools/generate-commands): what may be repeated, what
 *  blocks, where keys are. */
#ifndef RM_ENGINE_COMMANDS_H
#define RM_ENGINE_COMMANDS_H

#include <redmoon/export.h>
#include <stddef.h>
#include <stdint.h>

enum {
  RM_COMMAND_READ = 1,       /* the server's "readonly" flag, or harmless to repeat: PING, ECHO, TIME, ... */
  RM_COMMAND_WRITE = 2,
  RM_COMMAND_BLOCKING = 4,   /* may wait on the server: BLPOP, XREAD BLOCK, WAIT, ... */
  RM_COMMAND_CONNECTION = 8, /* changes the connection's state: refused on pooled connections (SELECT, SUBSCRIBE, MONITOR,
                                AUTH, HELLO, MULTI, WATCH, CLIENT REPLY, RESET, QUIT, ...) */
  RM_COMMAND_SECRET = 16,    /* arguments hold a secret: AUTH, ACL SETUSER, CONFIG SET requirepass, MIGRATE, HELLO */
  RM_COMMAND_MILLIS = 32     /* of BLOCKING: timeout_arg is in milliseconds: WAIT, WAITAOF */
};

typedef struct rm_command {
  const char *name;   /* upper case; with its subcommand where the server names one: "CONFIG GET" */
  uint16_t index;     /* in the table */
  uint16_t flags;
  int16_t arity;      /* as of COMMAND: negative = at least */
  int16_t first_key, last_key, key_step;
  int8_t timeout_arg; /* of BLOCKING: index of the argument in seconds, negative from the end; 0: look for BLOCK (ms) */
} rm_command;

/** Number of table entries, the unknown one (index 0, name "OTHER") included. */
REDMOON_API size_t rm_command_count(void);
REDMOON_API const rm_command *rm_command_at(size_t index);
/** By name and, where the command has subcommands, first argument (may be NULL); any case.  Entry 0 for a name that the
 *  table does not know, the command's own entry for a subcommand: nothing is assumed harmless. */
REDMOON_API const rm_command *rm_command_find(const char *name, size_t len, const char *sub, size_t sub_len);

#endif
