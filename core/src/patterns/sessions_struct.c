/* SPDX-License-Identifier: MIT */
/* Sessions as C structs, and the blocking twins. */
#include "patterns/sessions.h"

#include "base/alloc.h"
#include "engine/op.h"

static const redmoon_record_write usual = REDMOON_RECORD_WRITE_INIT;

int redmoon_sessions_create_start(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                                  const void *structure, const redmoon_record_write *how,
                                  char id[REDMOON_SESSION_ID_SIZE], redmoon_op **op, redmoon_error *err) {
  if (how == NULL) how = &usual;
  id[0] = '\0';
  rm_field_write *writes = NULL;
  size_t count;
  int status = rm_records_collect(sessions->records, structure, how, &writes, &count, err);
  if (status == 0)
    status = rm_sessions_create_start(sessions, subject, subject_len, writes, count, how->request_id, id, op, err);
  rm_free(writes);
  return status;
}

int redmoon_sessions_create(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                            const void *structure, const redmoon_record_write *how, char id[REDMOON_SESSION_ID_SIZE],
                            redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_create_start(sessions, subject, subject_len, structure, how, id, &op, err), &op,
                err);
}

int redmoon_sessions_update_start(redmoon_sessions *sessions, const char *id, const void *structure,
                                  const redmoon_record_write *how, int64_t *version, redmoon_op **op,
                                  redmoon_error *err) {
  if (how == NULL) how = &usual;
  rm_field_write *writes = NULL;
  size_t count;
  int status = rm_records_collect(sessions->records, structure, how, &writes, &count, err);
  const rm_record_how inner = {false, how->version, how->request_id, NULL};
  if (status == 0) status = rm_sessions_update_start(sessions, id, writes, count, &inner, version, op, err);
  rm_free(writes);
  return status;
}

int redmoon_sessions_update(redmoon_sessions *sessions, const char *id, const void *structure,
                            const redmoon_record_write *how, int64_t *version, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_update_start(sessions, id, structure, how, version, &op, err), &op, err);
}

static int load_start(redmoon_sessions *sessions, const char *name, rm_session_by by, const char *const *fields,
                      size_t field_count, void *structure, redmoon_record **out, redmoon_op **op,
                      redmoon_error *err) {
  *out = NULL;
  size_t *indexes;
  int status = rm_records_select(sessions->records, fields, field_count, &indexes, err);
  if (status < 0) return status;
  const rm_record_load what = {indexes, field_count, structure == NULL ? NULL : rm_records_fill, structure, NULL,
                               false};
  status = rm_sessions_load_start(sessions, name, by, &what, out, op, err);
  rm_free(indexes);
  return status;
}

int redmoon_sessions_load_start(redmoon_sessions *sessions, const char *id, const char *const *fields,
                                size_t field_count, void *structure, redmoon_record **out, redmoon_op **op,
                                redmoon_error *err) {
  return load_start(sessions, id, RM_SESSION_ID, fields, field_count, structure, out, op, err);
}

int redmoon_sessions_load(redmoon_sessions *sessions, const char *id, const char *const *fields, size_t field_count,
                          void *structure, redmoon_record **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_load_start(sessions, id, fields, field_count, structure, out, &op, err), &op, err);
}

int redmoon_sessions_inspect_start(redmoon_sessions *sessions, const char *handle, const char *const *fields,
                                   size_t field_count, void *structure, redmoon_record **out, redmoon_op **op,
                                   redmoon_error *err) {
  return load_start(sessions, handle, RM_SESSION_HANDLE, fields, field_count, structure, out, op, err);
}

int redmoon_sessions_inspect(redmoon_sessions *sessions, const char *handle, const char *const *fields,
                             size_t field_count, void *structure, redmoon_record **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_inspect_start(sessions, handle, fields, field_count, structure, out, &op, err), &op,
                err);
}

int redmoon_sessions_touch(redmoon_sessions *sessions, const char *id, int64_t *left_ms, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_touch_start(sessions, id, left_ms, &op, err), &op, err);
}

int redmoon_sessions_rotate(redmoon_sessions *sessions, const char *id, char new_id[REDMOON_SESSION_ID_SIZE],
                            redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_rotate_start(sessions, id, new_id, &op, err), &op, err);
}

int redmoon_sessions_revoke(redmoon_sessions *sessions, const char *id, int *revoked, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_revoke_start(sessions, id, revoked, &op, err), &op, err);
}

int redmoon_sessions_revoke_handle(redmoon_sessions *sessions, const char *handle, int *revoked, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_revoke_handle_start(sessions, handle, revoked, &op, err), &op, err);
}

int redmoon_sessions_revoke_all(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                                const char *except, int64_t *count, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_revoke_all_start(sessions, subject, subject_len, except, count, &op, err), &op,
                err);
}

int redmoon_sessions_list(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                          redmoon_session_list **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_sessions_list_start(sessions, subject, subject_len, out, &op, err), &op, err);
}
