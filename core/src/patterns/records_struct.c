/* SPDX-License-Identifier: MIT */
/* Records as C structs: members to values, and back. */
#include "patterns/records.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/op.h"

#include <string.h>

static rm_value read_member(const redmoon_field *field, const void *structure) {
  const char *member = (const char *)structure + field->offset;
  rm_value value = {{NULL, 0}};
  int truth = 0;
  switch (field->type) {
  case REDMOON_STRING:
    memcpy(&value.bytes, member, sizeof value.bytes);
    break;
  case REDMOON_DOUBLE:
    memcpy(&value.number, member, sizeof value.number);
    break;
  case REDMOON_BOOLEAN:
    memcpy(&truth, member, sizeof truth);
    value.integer = truth != 0;
    break;
  default:
    memcpy(&value.integer, member, sizeof value.integer);
  }
  return value;
}

static void write_member(const redmoon_field *field, const rm_record_value *from, void *structure) {
  char *member = (char *)structure + field->offset;
  rm_value none = {{NULL, 0}};
  int truth = from->has && from->value.integer != 0;
  const int64_t zero = 0;
  const double nothing = 0;
  switch (field->type) {
  case REDMOON_STRING:
    memcpy(member, from->has ? &from->value.bytes : &none.bytes, sizeof(redmoon_bytes));
    break;
  case REDMOON_DOUBLE:
    memcpy(member, from->has ? &from->value.number : &nothing, sizeof(double));
    break;
  case REDMOON_BOOLEAN:
    memcpy(member, &truth, sizeof truth);
    break;
  default:
    memcpy(member, from->has ? &from->value.integer : &zero, sizeof(int64_t));
  }
}

void rm_records_fill(const redmoon_record *record, const size_t *fields, size_t count, void *structure) {
  for (size_t i = 0; i < count; i++)
    write_member(&record->records->fields[fields[i]], &record->values[fields[i]], structure);
}

/* What becomes of each field of the schema. */
enum { LEAVE, SET, DROP };

static int mark(const redmoon_records *records, const char *const *names, size_t count, char as, char *marks,
                redmoon_error *err) {
  for (size_t i = 0; i < count; i++) {
    size_t field;
    int status = rm_records_find(records, names[i], &field, err);
    if (status < 0) return status;
    marks[field] = as;
  }
  return 0;
}

static int collect(const redmoon_records *records, const void *structure, const redmoon_record_write *how,
                   char *marks, rm_field_write *writes, size_t *count, redmoon_error *err) {
  memset(marks, how->fields == NULL ? SET : LEAVE, records->count);
  int status = 0;
  if (how->fields != NULL) status = mark(records, how->fields, how->field_count, SET, marks, err);
  if (status == 0 && how->drop != NULL) status = mark(records, how->drop, how->drop_count, DROP, marks, err);
  for (size_t i = 0; status == 0 && i < records->count; i++) {
    if (marks[i] == LEAVE) continue;
    rm_field_write *write = &writes[(*count)++];
    *write = (rm_field_write){i, marks[i] == DROP, {{NULL, 0}}};
    if (write->drop) continue;
    write->value = read_member(&records->fields[i], structure);
    if (records->fields[i].type == REDMOON_STRING && write->value.bytes.ptr == NULL && write->value.bytes.len > 0)
      return rm_fail(err, REDMOON_ECONFIG, "field '%s': NULL with a length of %zu is not accepted",
                     records->names[i], write->value.bytes.len);
  }
  return status;
}

int rm_records_collect(const redmoon_records *records, const void *structure, const redmoon_record_write *how,
                       rm_field_write **writes, size_t *count, redmoon_error *err) {
  *count = 0;
  *writes = rm_alloc(records->count * (sizeof **writes + 1));
  if (*writes == NULL) return rm_fail_nomem(err);
  int status = collect(records, structure, how, (char *)(*writes + records->count), *writes, count, err);
  if (status < 0) {
    rm_free(*writes);
    *writes = NULL;
  }
  return status;
}

static int write_start(redmoon_records *records, const void *id, size_t id_len, bool replace, const void *structure,
                       const redmoon_record_write *how, int64_t *version, redmoon_op **op, redmoon_error *err) {
  const redmoon_record_write usual = REDMOON_RECORD_WRITE_INIT;
  if (how == NULL) how = &usual;
  rm_field_write *writes = NULL;
  size_t count;
  int status = rm_records_collect(records, structure, how, &writes, &count, err);
  const rm_record_how inner = {replace, how->version, how->request_id, NULL};
  if (status == 0)
    status = rm_records_write_start(records, id, id_len, writes, count, &inner, version, op, err);
  rm_free(writes);
  return status;
}

int redmoon_records_save_start(redmoon_records *records, const void *id, size_t id_len, const void *structure,
                               const redmoon_record_write *how, int64_t *version, redmoon_op **op,
                               redmoon_error *err) {
  return write_start(records, id, id_len, true, structure, how, version, op, err);
}

int redmoon_records_save(redmoon_records *records, const void *id, size_t id_len, const void *structure,
                         const redmoon_record_write *how, int64_t *version, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_records_save_start(records, id, id_len, structure, how, version, &op, err), &op, err);
}

int redmoon_records_update_start(redmoon_records *records, const void *id, size_t id_len, const void *structure,
                                 const redmoon_record_write *how, int64_t *version, redmoon_op **op,
                                 redmoon_error *err) {
  return write_start(records, id, id_len, false, structure, how, version, op, err);
}

int redmoon_records_update(redmoon_records *records, const void *id, size_t id_len, const void *structure,
                           const redmoon_record_write *how, int64_t *version, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_records_update_start(records, id, id_len, structure, how, version, &op, err), &op, err);
}

int rm_records_select(const redmoon_records *records, const char *const *names, size_t count, size_t **indexes,
                      redmoon_error *err) {
  *indexes = NULL;
  if (names == NULL) return 0;
  if (count > RM_RECORD_FIELDS_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "records load: %zu fields are not accepted; give at most %d", count,
                   RM_RECORD_FIELDS_MAX);
  *indexes = rm_alloc((count + 1) * sizeof **indexes);
  if (*indexes == NULL) return rm_fail_nomem(err);
  int status = 0;
  for (size_t i = 0; status == 0 && i < count; i++) status = rm_records_find(records, names[i], &(*indexes)[i], err);
  if (status < 0) {
    rm_free(*indexes);
    *indexes = NULL;
  }
  return status;
}

int redmoon_records_load_start(redmoon_records *records, const void *id, size_t id_len, const char *const *fields,
                               size_t field_count, void *structure, redmoon_record **out, redmoon_op **op,
                               redmoon_error *err) {
  *out = NULL;
  size_t *indexes;
  int status = rm_records_select(records, fields, field_count, &indexes, err);
  if (status < 0) return status;
  const rm_record_load what = {indexes, field_count, structure == NULL ? NULL : rm_records_fill, structure, NULL,
                               false};
  status = rm_records_load_start(records, id, id_len, &what, out, op, err);
  rm_free(indexes);
  return status;
}

int redmoon_records_load(redmoon_records *records, const void *id, size_t id_len, const char *const *fields,
                         size_t field_count, void *structure, redmoon_record **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_records_load_start(records, id, id_len, fields, field_count, structure, out, &op, err), &op,
                err);
}

static int add_start(redmoon_records *records, const void *id, size_t id_len, const char *name, int type,
                     const rm_value *by, const char *request_id, redmoon_record_sum *out, redmoon_op **op,
                     redmoon_error *err) {
  size_t field;
  int status = rm_records_find(records, name, &field, err);
  if (status < 0) return status;
  if (records->fields[field].type != type)
    return rm_fail(err, REDMOON_ECONFIG, "field '%s' cannot be added to so: it is not of type %s", name,
                   type == REDMOON_DOUBLE ? "REDMOON_DOUBLE" : "REDMOON_INTEGER");
  return rm_records_add_start(records, id, id_len, field, by, request_id, out, op, err);
}

int redmoon_records_increment_start(redmoon_records *records, const void *id, size_t id_len, const char *field,
                                    int64_t by, const char *request_id, redmoon_record_sum *out, redmoon_op **op,
                                    redmoon_error *err) {
  const rm_value value = {.integer = by};
  return add_start(records, id, id_len, field, REDMOON_INTEGER, &value, request_id, out, op, err);
}

int redmoon_records_increment(redmoon_records *records, const void *id, size_t id_len, const char *field, int64_t by,
                              const char *request_id, redmoon_record_sum *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_records_increment_start(records, id, id_len, field, by, request_id, out, &op, err), &op,
                err);
}

int redmoon_records_increment_double_start(redmoon_records *records, const void *id, size_t id_len,
                                           const char *field, double by, const char *request_id,
                                           redmoon_record_sum *out, redmoon_op **op, redmoon_error *err) {
  const rm_value value = {.number = by};
  return add_start(records, id, id_len, field, REDMOON_DOUBLE, &value, request_id, out, op, err);
}

int redmoon_records_increment_double(redmoon_records *records, const void *id, size_t id_len, const char *field,
                                     double by, const char *request_id, redmoon_record_sum *out,
                                     redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_records_increment_double_start(records, id, id_len, field, by, request_id, out, &op, err),
                &op, err);
}
