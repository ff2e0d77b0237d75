/* SPDX-License-Identifier: MIT */
/* Records: one script for each request.  A request formats its values, and its answer is decoded into what the caller
 * gave.  Nothing is kept on the client's side. */
#include "patterns/records.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"
#include "wire/plain_locale.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* One request under way; of the pointers, those of its kind are set. */
typedef struct record_call {
  redmoon_records *records; /* a reference */
  int64_t *version, *left_ms;
  int *deleted;
  redmoon_record_sum *sum;
  redmoon_record **record;
  rm_record_fill_fn fill;
  void *structure;
  size_t count;
  size_t fields[]; /* what is loaded; [0]: what is added to */
} record_call;

static record_call *call_new(redmoon_records *records, size_t fields, redmoon_error *err) {
  record_call *call = rm_calloc(1, sizeof *call + fields * sizeof(size_t));
  if (call == NULL) {
    rm_fail_nomem(err);
    return NULL;
  }
  call->records = rm_records_ref(records);
  call->count = fields;
  return call;
}

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  record_call *call = ctx;
  redmoon_records_free(call->records);
  rm_free(call);
}

/* What a script is given. */
typedef struct record_request {
  const rm_builtin *script;
  const void *id;
  size_t id_len;
  const char *request_id;       /* NULL: none */
  const rm_record_place *place; /* NULL: a record */
  const redmoon_bytes *args;
  size_t arg_count;
  bool repeatable;
} record_request;

static redmoon_bytes bytes_of(const char *text) { return (redmoon_bytes){text, strlen(text)}; }

static int check_target(const void *id, size_t id_len, const char *request_id, redmoon_error *err) {
  int status = rm_name_check("record id", id, id_len, err);
  return status < 0 ? status : rm_request_id_check(request_id, err);
}

/* The keys: record, index of a session, answer to a request with an id. */
enum { KEYS_MAX = 3 };

static int build_keys(const redmoon_records *records, const record_request *request, redmoon_bytes keys[KEYS_MAX],
                      size_t *count, redmoon_error *err) {
  const char *prefix = rm_client_key_prefix(records->client);
  const rm_record_place *place = request->place;
  const char *part = place == NULL ? records->part : place->part;
  int status = rm_key_build(prefix, request->id, request->id_len, part, &keys[(*count)++], err);
  if (status == 0 && place != NULL)
    status = rm_key_build(prefix, request->id, request->id_len, place->index_part, &keys[(*count)++], err);
  if (status == 0 && request->request_id != NULL)
    status = rm_request_key_build(prefix, request->id, request->id_len, part, request->request_id,
                                  &keys[(*count)++], err);
  return status;
}

/* Takes `call` over (NULL: an earlier want of memory, told already). */
static int call_start(record_call *call, const record_request *request, rm_decode_fn decode, redmoon_op **op,
                      redmoon_error *err) {
  if (call == NULL) return REDMOON_ENOMEM;
  redmoon_bytes keys[KEYS_MAX] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
  size_t count = 0;
  int status = build_keys(call->records, request, keys, &count, err);
  const redmoon_script_args all = {keys, count, request->args, request->arg_count};
  unsigned flags = request->repeatable || request->request_id != NULL ? RM_CALL_REPEATABLE : 0;
  if (status == 0)
    status =
        rm_builtin_start(call->records->client, request->script, &all, flags, decode, call_drop, call, op, err);
  else
    call_drop(call, REDMOON_NOT_SENT);
  for (size_t i = 0; i < KEYS_MAX; i++) rm_key_free(&keys[i]);
  return status;
}

/* Answers. */

static int fail_answered(redmoon_error *err, int status) {
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  return status;
}

/* Integers at the first `count` places. */
static int read_integers(const redmoon_reply *reply, size_t count, int64_t *out, redmoon_error *err) {
  for (size_t i = 0; i < count; i++) {
    const redmoon_reply *item = redmoon_reply_at(reply, i);
    if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER) {
      rm_fail(err, REDMOON_EPROTOCOL, "records: the script's answer has no integer at place %zu", i + 1);
      return fail_answered(err, REDMOON_EPROTOCOL);
    }
    out[i] = redmoon_reply_integer(item);
  }
  return 0;
}

/* {code, version} or {code} */
static int decode_write(void *ctx, const rm_answer *answer, redmoon_error *err) {
  const record_call *call = ctx;
  int64_t at[2] = {0, 0};
  int status = read_integers(answer->reply, 1, at, err);
  if (status == 0 && at[0] != RM_STATUS_RECORD_GONE) status = read_integers(answer->reply, 2, at, err);
  if (status < 0) return status;
  if (call->version != NULL) *call->version = at[1];
  if (at[0] != RM_STATUS_RECORD_CONFLICT) {
    rm_client_count(call->records->client, "records", at[0] == RM_STATUS_RECORD_OK ? "written" : "missing");
    return 0;
  }
  rm_client_count(call->records->client, "records", "conflict");
  if (at[1] == 0) rm_fail(err, REDMOON_ECONFLICT, "there is no such record, of any version; nothing was written");
  else
    rm_fail(err, REDMOON_ECONFLICT, "the record has another version: %" PRId64 "; nothing was written", at[1]);
  return fail_answered(err, REDMOON_ECONFLICT);
}

/* {code, version, sum} or {code} */
static int decode_sum(void *ctx, const rm_answer *answer, redmoon_error *err) {
  const record_call *call = ctx;
  const redmoon_records *records = call->records;
  const char *name = records->names[call->fields[0]];
  int64_t at[2] = {0, 0};
  int status = read_integers(answer->reply, 1, at, err);
  if (status < 0) return status;
  *call->sum = (redmoon_record_sum){0, 0, 0};
  if (at[0] == RM_STATUS_RECORD_GONE) return 0;
  if (at[0] == RM_STATUS_RECORD_RANGE)
    rm_fail(err, REDMOON_ECODEC, "field '%s': the sum is out of range; nothing was written", name);
  else if (at[0] == RM_STATUS_RECORD_UNREADABLE)
    rm_fail(err, REDMOON_ECODEC, "field '%s': what is stored is no number of its type; nothing was written", name);
  if (at[0] < 0) return fail_answered(err, REDMOON_ECODEC);
  status = read_integers(answer->reply, 2, at, err);
  if (status < 0) return status;
  redmoon_bytes text = {NULL, 0};
  const redmoon_reply *item = redmoon_reply_at(answer->reply, 2);
  if (item != NULL) text.ptr = redmoon_reply_string(item, &text.len);
  rm_plain_locale scope;
  if (!rm_plain_locale_enter(&scope)) return rm_fail_nomem_answered(err);
  rm_value value = {{NULL, 0}};
  status = text.ptr == NULL ? REDMOON_EPROTOCOL : rm_value_decode(records, call->fields[0], text, &value, err);
  rm_plain_locale_leave(&scope);
  if (text.ptr == NULL) rm_fail(err, REDMOON_EPROTOCOL, "records: the script's answer has no sum");
  if (status < 0) return fail_answered(err, status);
  call->sum->version = at[1];
  if (records->fields[call->fields[0]].type == REDMOON_DOUBLE) call->sum->number = value.number;
  else call->sum->integer = value.integer;
  return 0;
}

static int decode_touch(void *ctx, const rm_answer *answer, redmoon_error *err) {
  const record_call *call = ctx;
  int64_t at[2] = {0, 0};
  int status = read_integers(answer->reply, 1, at, err);
  if (status == 0 && at[0] == RM_STATUS_RECORD_OK) status = read_integers(answer->reply, 2, at, err);
  if (status == 0 && call->left_ms != NULL) *call->left_ms = at[1];
  return status;
}

static int decode_delete(void *ctx, const rm_answer *answer, redmoon_error *err) {
  const record_call *call = ctx;
  int64_t code;
  int status = read_integers(answer->reply, 1, &code, err);
  if (status == 0 && call->deleted != NULL) *call->deleted = code == RM_STATUS_RECORD_OK;
  return status;
}

/* A loaded record. */

enum { VALUES_AT = 4 }; /* code, version, created, left, values */

/* The value's text; a NULL pointer for one that is not there. */
static redmoon_bytes text_at(const redmoon_reply *reply, size_t index) {
  redmoon_bytes text = {NULL, 0};
  const redmoon_reply *item = redmoon_reply_at(reply, VALUES_AT + index);
  if (item != NULL) text.ptr = redmoon_reply_string(item, &text.len);
  return text;
}

static redmoon_record *record_new(const record_call *call, const redmoon_reply *reply) {
  size_t strings = 0; /* no more than the reply takes itself */
  for (size_t i = 0; i < call->count; i++) strings += text_at(reply, i).len;
  size_t values = call->records->count * sizeof(rm_record_value);
  redmoon_record *record = rm_calloc(1, sizeof *record + values + strings);
  if (record == NULL) return NULL;
  record->records = rm_records_ref(call->records);
  record->values = (rm_record_value *)(record + 1);
  return record;
}

static int decode_values(const record_call *call, const redmoon_reply *reply, redmoon_record *record,
                         redmoon_error *err) {
  const redmoon_records *records = call->records;
  char *copy = (char *)(record->values + records->count);
  for (size_t i = 0; i < call->count; i++) {
    size_t field = call->fields[i];
    redmoon_bytes text = text_at(reply, i);
    if (text.ptr == NULL) continue;
    if (text.len > 0) memcpy(copy, text.ptr, text.len);
    text.ptr = copy;
    copy += text.len;
    int status = rm_value_decode(records, field, text, &record->values[field].value, err);
    if (status < 0) return status;
    record->values[field].has = true;
  }
  return 0;
}

/* {code, version, created, left, value...} or {code} */
static int decode_load(void *ctx, const rm_answer *answer, redmoon_error *err) {
  const record_call *call = ctx;
  int64_t at[VALUES_AT];
  int status = read_integers(answer->reply, 1, at, err);
  if (status < 0 || at[0] == RM_STATUS_RECORD_GONE) return status;
  status = read_integers(answer->reply, VALUES_AT, at, err);
  if (status < 0) return status;
  redmoon_record *record = record_new(call, answer->reply);
  if (record == NULL) return rm_fail_nomem_answered(err);
  record->version = at[1];
  record->created_ms = at[2];
  record->left_ms = at[3];
  rm_plain_locale scope;
  if (rm_plain_locale_enter(&scope)) {
    status = decode_values(call, answer->reply, record, err);
    rm_plain_locale_leave(&scope);
  } else {
    status = rm_fail_nomem_answered(err);
  }
  if (status < 0) {
    redmoon_record_free(record);
    return status;
  }
  if (call->fill != NULL) call->fill(record, call->fields, call->count, call->structure);
  *call->record = record;
  return 0;
}

int64_t redmoon_record_version(const redmoon_record *record) { return record->version; }
int64_t redmoon_record_created_ms(const redmoon_record *record) { return record->created_ms; }
int64_t redmoon_record_left_ms(const redmoon_record *record) { return record->left_ms; }

int redmoon_record_has(const redmoon_record *record, const char *field) {
  size_t index;
  return rm_records_find(record->records, field, &index, NULL) == 0 && record->values[index].has;
}

void redmoon_record_free(redmoon_record *record) {
  if (record == NULL) return;
  redmoon_records_free(record->records);
  rm_free(record);
}

/* Requests. */

/* Arguments of a write, and the text of its values, in one block. */
typedef struct write_args {
  redmoon_bytes *args;
  char (*text)[RM_RECORD_TEXT];
  size_t count;
  char version[RM_RECORD_TEXT], sets[RM_RECORD_TEXT];
} write_args;

static void put(write_args *w, redmoon_bytes value) { w->args[w->count++] = value; }

static int format_write(const redmoon_records *records, const rm_field_write *writes, size_t count,
                        const rm_record_how *how, write_args *w, redmoon_error *err) {
  size_t sets = 0;
  for (size_t i = 0; i < count; i++) sets += !writes[i].drop;
  snprintf(w->version, sizeof w->version, "%" PRId64, how->version == REDMOON_UNSET ? -1 : how->version);
  snprintf(w->sets, sizeof w->sets, "%zu", sets);
  if (how->place != NULL) put(w, bytes_of(how->place->member));
  put(w, bytes_of(how->replace ? "1" : "0"));
  put(w, bytes_of(w->version));
  put(w, bytes_of(records->ttl_text));
  put(w, bytes_of(records->keep_ttl ? "1" : "0"));
  put(w, bytes_of(records->max_age_text));
  put(w, bytes_of(w->sets));
  for (size_t i = 0; i < count; i++) {
    if (writes[i].drop) continue;
    redmoon_bytes value;
    int status = rm_value_encode(records, writes[i].field, &writes[i].value, w->text[i], &value, err);
    if (status < 0) return status;
    put(w, bytes_of(records->names[writes[i].field]));
    put(w, value);
  }
  for (size_t i = 0; i < count; i++)
    if (writes[i].drop) put(w, bytes_of(records->names[writes[i].field]));
  return 0;
}

static int check_version(int64_t version, redmoon_error *err) {
  if (version == REDMOON_UNSET || (version >= 0 && version <= RM_RECORD_VERSION_MAX)) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "version: %" PRId64 " is not accepted; give what a load or a write returned, or 0",
                 version);
}

int rm_records_write_start(redmoon_records *records, const void *id, size_t id_len, const rm_field_write *writes,
                           size_t count, const rm_record_how *how, int64_t *version, redmoon_op **op,
                           redmoon_error *err) {
  int status = check_target(id, id_len, how->request_id, err);
  if (status == 0) status = check_version(how->version, err);
  if (status < 0) return status;
  write_args w = {0};
  size_t most = 7 + 2 * count;
  w.args = rm_alloc(most * sizeof *w.args + count * sizeof *w.text);
  if (w.args == NULL) return rm_fail_nomem(err);
  w.text = (char(*)[RM_RECORD_TEXT])(w.args + most);
  status = format_write(records, writes, count, how, &w, err);
  if (status == 0) {
    record_call *call = call_new(records, 0, err);
    if (call != NULL) call->version = version;
    const rm_builtin *script = how->place == NULL ? &rm_script_record_write : &rm_script_session_write;
    /* A session that begins has an id that is used this once: that it is there says that this was done. */
    bool begins = how->place != NULL && how->replace;
    const record_request request = {script, id, id_len, how->request_id, how->place, w.args, w.count, begins};
    status = call_start(call, &request, decode_write, op, err);
  }
  rm_free(w.args);
  return status;
}

int rm_records_load_start(redmoon_records *records, const void *id, size_t id_len, const rm_record_load *what,
                          redmoon_record **out, redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  size_t count = what->fields == NULL ? records->count : what->count;
  int status = check_target(id, id_len, NULL, err);
  if (status < 0) return status;
  redmoon_bytes *args = rm_alloc((3 + count) * sizeof *args);
  if (args == NULL) return rm_fail_nomem(err);
  size_t n = 0;
  if (what->place != NULL) args[n++] = bytes_of(what->place->member);
  args[n++] = bytes_of(records->max_age_text);
  bool slides = records->sliding && !what->still;
  if (slides || what->place != NULL) args[n++] = bytes_of(slides ? records->ttl_text : "0");
  record_call *call = call_new(records, count, err);
  if (call != NULL) {
    call->fill = what->fill;
    call->structure = what->structure;
    call->record = out;
    for (size_t i = 0; i < count; i++) {
      call->fields[i] = what->fields == NULL ? i : what->fields[i];
      args[n++] = bytes_of(records->names[call->fields[i]]);
    }
  }
  const rm_builtin *script = what->place != NULL ? &rm_script_session_load
                             : slides            ? &rm_script_record_slide
                                                 : &rm_script_record_load;
  const record_request request = {script, id, id_len, NULL, what->place, args, n, true};
  status = call_start(call, &request, decode_load, op, err);
  rm_free(args);
  return status;
}

int rm_records_add_start(redmoon_records *records, const void *id, size_t id_len, size_t field, const rm_value *by,
                         const char *request_id, redmoon_record_sum *out, redmoon_op **op, redmoon_error *err) {
  char text[RM_RECORD_TEXT];
  redmoon_bytes amount;
  int status = check_target(id, id_len, request_id, err);
  if (status == 0) status = rm_value_encode(records, field, by, text, &amount, err);
  if (status < 0) return status;
  bool exact = records->fields[field].type == REDMOON_INTEGER;
  const redmoon_bytes args[] = {bytes_of(records->names[field]), amount, bytes_of(exact ? "1" : "0"),
                                bytes_of(records->ttl_text), bytes_of(records->keep_ttl ? "1" : "0"),
                                bytes_of(records->max_age_text)};
  record_call *call = call_new(records, 1, err);
  if (call != NULL) {
    call->sum = out;
    call->fields[0] = field;
  }
  const record_request request = {&rm_script_record_increment, id, id_len, request_id, NULL, args, 6, false};
  return call_start(call, &request, decode_sum, op, err);
}

int rm_records_touch_start(redmoon_records *records, const void *id, size_t id_len, const rm_record_place *place,
                           int64_t *left_ms, redmoon_op **op, redmoon_error *err) {
  int status = check_target(id, id_len, NULL, err);
  if (status < 0) return status;
  redmoon_bytes args[3];
  size_t n = 0;
  if (place != NULL) args[n++] = bytes_of(place->member);
  args[n++] = bytes_of(records->max_age_text);
  args[n++] = bytes_of(records->ttl_text);
  record_call *call = call_new(records, 0, err);
  if (call != NULL) call->left_ms = left_ms;
  const rm_builtin *script = place == NULL ? &rm_script_record_touch : &rm_script_session_touch;
  const record_request request = {script, id, id_len, NULL, place, args, n, true};
  return call_start(call, &request, decode_touch, op, err);
}

int redmoon_records_touch_start(redmoon_records *records, const void *id, size_t id_len, int64_t *left_ms,
                                redmoon_op **op, redmoon_error *err) {
  return rm_records_touch_start(records, id, id_len, NULL, left_ms, op, err);
}

int redmoon_records_touch(redmoon_records *records, const void *id, size_t id_len, int64_t *left_ms,
                          redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_records_touch_start(records, id, id_len, left_ms, &op, err), &op, err);
}

int redmoon_records_delete_start(redmoon_records *records, const void *id, size_t id_len, int *deleted,
                                 redmoon_op **op, redmoon_error *err) {
  int status = check_target(id, id_len, NULL, err);
  if (status < 0) return status;
  record_call *call = call_new(records, 0, err);
  if (call != NULL) call->deleted = deleted;
  /* Not repeatable: a repetition could delete what another has saved in between. */
  const record_request request = {&rm_script_record_delete, id, id_len, NULL, NULL, NULL, 0, false};
  return call_start(call, &request, decode_delete, op, err);
}

int redmoon_records_delete(redmoon_records *records, const void *id, size_t id_len, int *deleted,
                           redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_records_delete_start(records, id, id_len, deleted, &op, err), &op, err);
}
