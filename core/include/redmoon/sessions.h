/* SPDX-License-Identifier: MIT */
/** Sessions: records under random ids, of which the server holds nothing but keyed hashes, so that nobody who sees its
 *  data can use a session; and an index for each subject (a user), so that all of its sessions can end at once. */
#ifndef REDMOON_SESSIONS_H
#define REDMOON_SESSIONS_H

#include <redmoon/records.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Room for an id, with its NUL: 32 random bytes and the hash of the subject, of A-Z a-z 0-9 _ - and a '.'. */
#define REDMOON_SESSION_ID_SIZE 67
/** Room for a handle: it names a session in a list, and is no id. */
#define REDMOON_SESSION_HANDLE_SIZE 46

typedef struct redmoon_sessions_options {
  redmoon_records_options records; /**< ttl_ms is needed */
  const void *secret;              /**< key of the hashes, 16 to 64 random bytes; copied into guarded memory */
  size_t secret_len;
} redmoon_sessions_options;
#define REDMOON_SESSIONS_OPTIONS_INIT {REDMOON_RECORDS_OPTIONS_INIT, 0, 0}

/** Thread class: immutable after redmoon_sessions_new; share it freely. */
typedef struct redmoon_sessions redmoon_sessions;

/** `name`: 1 to 30 of A-Z a-z 0-9 . _ -.  *out is the caller's (redmoon_sessions_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_new(redmoon_client *client, const char *name,
                                                        const redmoon_sessions_options *options,
                                                        redmoon_sessions **out, redmoon_error *err);
/** NULL is allowed; operations that were started stay valid. */
REDMOON_API void redmoon_sessions_free(redmoon_sessions *sessions);

/* Errors are those of records.  An id that was not given by `create` or `rotate`, was revoked or has ended is one that
 * has no session; it is never an error, and neither are bytes that cannot be an id. */

/** Begins a session of the subject (1 to 512 bytes, any bytes) with the members of the struct.  `id` gets its id at once;
 *  the session is there when the call has succeeded.  how->version is of no meaning here. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_create(redmoon_sessions *sessions, const void *subject,
                                                           size_t subject_len, const void *structure,
                                                           const redmoon_record_write *how,
                                                           char id[REDMOON_SESSION_ID_SIZE], redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int
redmoon_sessions_create_start(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                              const void *structure, const redmoon_record_write *how,
                              char id[REDMOON_SESSION_ID_SIZE], redmoon_op **op, redmoon_error *err);
/** As redmoon_records_load; *out is NULL when there is no session. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_load(redmoon_sessions *sessions, const char *id,
                                                         const char *const *fields, size_t field_count,
                                                         void *structure, redmoon_record **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_load_start(redmoon_sessions *sessions, const char *id,
                                                               const char *const *fields, size_t field_count,
                                                               void *structure, redmoon_record **out,
                                                               redmoon_op **op, redmoon_error *err);
/** As redmoon_records_update. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_update(redmoon_sessions *sessions, const char *id,
                                                           const void *structure, const redmoon_record_write *how,
                                                           int64_t *version, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_update_start(redmoon_sessions *sessions, const char *id,
                                                                 const void *structure,
                                                                 const redmoon_record_write *how, int64_t *version,
                                                                 redmoon_op **op, redmoon_error *err);
/** As redmoon_records_touch. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_touch(redmoon_sessions *sessions, const char *id,
                                                          int64_t *left_ms, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_touch_start(redmoon_sessions *sessions, const char *id,
                                                                int64_t *left_ms, redmoon_op **op,
                                                                redmoon_error *err);
/** Gives the session another id (do so when the rights of its user change); the old one has no session from then on.
 *  `new_id` becomes "" when there was no session. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_rotate(redmoon_sessions *sessions, const char *id,
                                                           char new_id[REDMOON_SESSION_ID_SIZE], redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_rotate_start(redmoon_sessions *sessions, const char *id,
                                                                 char new_id[REDMOON_SESSION_ID_SIZE],
                                                                 redmoon_op **op, redmoon_error *err);
/** Ends a session.  *revoked (may be NULL): 1 if there was one, else 0. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_revoke(redmoon_sessions *sessions, const char *id, int *revoked,
                                                           redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_revoke_start(redmoon_sessions *sessions, const char *id,
                                                                 int *revoked, redmoon_op **op, redmoon_error *err);
/** The same by handle. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_revoke_handle(redmoon_sessions *sessions, const char *handle,
                                                                  int *revoked, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_revoke_handle_start(redmoon_sessions *sessions,
                                                                        const char *handle, int *revoked,
                                                                        redmoon_op **op, redmoon_error *err);
/** Ends all sessions of the subject, in one step; that of `except` (an id; NULL: none) stays.  *count (may be NULL): how
 *  many ended. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_revoke_all(redmoon_sessions *sessions, const void *subject,
                                                               size_t subject_len, const char *except,
                                                               int64_t *count, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_revoke_all_start(redmoon_sessions *sessions, const void *subject,
                                                                     size_t subject_len, const char *except,
                                                                     int64_t *count, redmoon_op **op,
                                                                     redmoon_error *err);

typedef struct redmoon_session_entry {
  char handle[REDMOON_SESSION_HANDLE_SIZE];
  int64_t left_ms; /**< of its lifetime */
} redmoon_session_entry;
typedef struct redmoon_session_list {
  size_t count;
  redmoon_session_entry *entries; /**< those that end last first */
} redmoon_session_list;

/** The sessions of the subject, at most 1,000.  *out is the caller's (redmoon_session_list_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_list(redmoon_sessions *sessions, const void *subject,
                                                         size_t subject_len, redmoon_session_list **out,
                                                         redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_list_start(redmoon_sessions *sessions, const void *subject,
                                                               size_t subject_len, redmoon_session_list **out,
                                                               redmoon_op **op, redmoon_error *err);
/** NULL is allowed. */
REDMOON_API void redmoon_session_list_free(redmoon_session_list *list);
/** Loads a session by its handle, and lets its lifetime be as it is; else as redmoon_sessions_load. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_inspect(redmoon_sessions *sessions, const char *handle,
                                                            const char *const *fields, size_t field_count,
                                                            void *structure, redmoon_record **out,
                                                            redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_sessions_inspect_start(redmoon_sessions *sessions, const char *handle,
                                                                  const char *const *fields, size_t field_count,
                                                                  void *structure, redmoon_record **out,
                                                                  redmoon_op **op, redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
