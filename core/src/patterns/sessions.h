/* SPDX-License-Identifier: MIT */
/** Inside of sessions: for the struct face (sessions_struct.c) and the Lua binding alike. */
#ifndef RM_PATTERNS_SESSIONS_H
#define RM_PATTERNS_SESSIONS_H

#include "base/secret.h"
#include "patterns/records.h"

#include <redmoon/sessions.h>

enum { RM_SESSION_NAME_MAX = 30, RM_SESSION_HASH = 22 };

struct redmoon_sessions {
  redmoon_records *records;
  rm_secret secret;
  char name[RM_SESSION_NAME_MAX + 1];
  char index_part[RM_SESSION_NAME_MAX + sizeof ".sessions"];
};

/** By which of its names a session is meant. */
typedef enum rm_session_by { RM_SESSION_ID, RM_SESSION_HANDLE } rm_session_by;

/** As redmoon_sessions_create and _update, with values in place of a struct. */
REDMOON_API int rm_sessions_create_start(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                                         const rm_field_write *writes, size_t count, const char *request_id,
                                         char id[REDMOON_SESSION_ID_SIZE], redmoon_op **op, redmoon_error *err);
REDMOON_API int rm_sessions_update_start(redmoon_sessions *sessions, const char *id, const rm_field_write *writes,
                                         size_t count, const rm_record_how *how, int64_t *version, redmoon_op **op,
                                         redmoon_error *err);
/** what->place and what->still are filled in. */
REDMOON_API int rm_sessions_load_start(redmoon_sessions *sessions, const char *name, rm_session_by by,
                                       const rm_record_load *what, redmoon_record **out, redmoon_op **op,
                                       redmoon_error *err);

#endif
