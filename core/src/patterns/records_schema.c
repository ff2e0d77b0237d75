/* SPDX-License-Identifier: MIT */
/* What records look like and how long they live: options, checked once. */
#include "patterns/records.h"

#include "base/alloc.h"
#include "base/error.h"
#include "wire/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
enum { FIELD_NAME_MAX = 64, SHOWN = 100 };

static bool is_name(const char *name, size_t max) {
  size_t len = strlen(name);
  return len >= 1 && len <= max && strspn(name, NAME_BYTES) == len;
}

static int check_name(const char *name, redmoon_error *err) {
  if (name != NULL && is_name(name, RM_RECORD_NAME_MAX)) return 0;
  char shown[SHOWN];
  rm_escape(shown, sizeof shown, name == NULL ? "" : name, name == NULL ? 0 : strlen(name));
  return rm_fail(err, REDMOON_ECONFIG,
                 "records name: '%s' is not accepted; give 1 to %d letters, digits, '.', '_' and '-'", shown,
                 RM_RECORD_NAME_MAX);
}

static bool is_type(int type) {
  return type == REDMOON_STRING || type == REDMOON_INTEGER || type == REDMOON_DOUBLE || type == REDMOON_BOOLEAN ||
         type == REDMOON_TIME;
}

static int check_field(const redmoon_field *field, redmoon_error *err) {
  const char *name = field->name == NULL ? "" : field->name;
  char shown[SHOWN];
  rm_escape(shown, sizeof shown, name, strlen(name));
  if (!is_name(name, FIELD_NAME_MAX) || name[0] == '_')
    return rm_fail(err, REDMOON_ECONFIG,
                   "records option fields: the name '%s' is not accepted; give 1 to %d letters, digits, '.', '_' and "
                   "'-', not '_' first",
                   shown, FIELD_NAME_MAX);
  if (is_type(field->type)) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "records option fields: type %d of '%s' is not accepted; give REDMOON_STRING, REDMOON_INTEGER, "
                 "REDMOON_DOUBLE, REDMOON_BOOLEAN or REDMOON_TIME",
                 field->type, shown);
}

static int check_fields(const redmoon_records_options *options, redmoon_error *err) {
  size_t count = options->fields == NULL ? 0 : options->field_count;
  if (count < 1 || count > RM_RECORD_FIELDS_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "records option fields: %zu are not accepted; give 1 to %d", count,
                   RM_RECORD_FIELDS_MAX);
  for (size_t i = 0; i < count; i++) {
    int status = check_field(&options->fields[i], err);
    if (status < 0) return status;
    for (size_t k = 0; k < i; k++)
      if (strcmp(options->fields[i].name, options->fields[k].name) == 0)
        return rm_fail(err, REDMOON_ECONFIG, "records option fields: '%s' is there twice", options->fields[i].name);
  }
  return 0;
}

static int check_range(const char *option, int64_t value, int64_t min, int64_t max, const char *unit,
                       redmoon_error *err) {
  if (value == REDMOON_UNSET || (value >= min && value <= max)) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "records option %s: %" PRId64 "%s is not accepted; give %" PRId64 " to %" PRId64 "%s", option, value,
                 unit, min, max, unit);
}

static int check_options(const redmoon_records_options *o, redmoon_error *err) {
  int status = check_fields(o, err);
  if (status == 0) status = check_range("ttl", o->ttl_ms, 1, RM_RECORD_TTL_MAX, " ms", err);
  if (status == 0) status = check_range("max_age", o->max_age_ms, 1, RM_RECORD_TTL_MAX, " ms", err);
  if (status == 0) status = check_range("sliding", o->sliding, 0, 1, "", err);
  if (status == 0) status = check_range("keep_ttl", o->keep_ttl, 0, 1, "", err);
  if (status == 0) status = check_range("max_value_size", o->max_value_size, 1, RM_RECORD_VALUE_MAX, " bytes", err);
  if (status < 0) return status;
  if ((o->sliding == 1 || o->keep_ttl == 1) && o->ttl_ms == REDMOON_UNSET)
    return rm_fail(err, REDMOON_ECONFIG, "records option %s: it needs the option ttl",
                   o->sliding == 1 ? "sliding" : "keep_ttl");
  if (o->sliding == 1 && o->keep_ttl == 1)
    return rm_fail(err, REDMOON_ECONFIG, "records options sliding and keep_ttl: one excludes the other");
  return 0;
}

/* One block: fields, names, the bytes of the names. */
static int copy_fields(redmoon_records *records, const redmoon_records_options *options, redmoon_error *err) {
  size_t bytes = 0;
  for (size_t i = 0; i < options->field_count; i++) bytes += strlen(options->fields[i].name) + 1;
  size_t each = sizeof *records->fields + sizeof *records->names;
  records->fields = rm_alloc(options->field_count * each + bytes);
  if (records->fields == NULL) return rm_fail_nomem(err);
  records->count = options->field_count;
  records->names = (const char **)(records->fields + records->count);
  char *text = (char *)(records->names + records->count);
  for (size_t i = 0; i < records->count; i++) {
    size_t len = strlen(options->fields[i].name) + 1;
    memcpy(text, options->fields[i].name, len);
    records->fields[i] = options->fields[i];
    records->fields[i].name = records->names[i] = text;
    text += len;
  }
  return 0;
}

int redmoon_records_new(redmoon_client *client, const char *name, const redmoon_records_options *options,
                        redmoon_records **out, redmoon_error *err) {
  const redmoon_records_options none = REDMOON_RECORDS_OPTIONS_INIT;
  if (options == NULL) options = &none;
  int status = check_name(name, err);
  if (status == 0) status = check_options(options, err);
  if (status < 0) return status;
  redmoon_records *records = rm_calloc(1, sizeof *records);
  if (records == NULL) return rm_fail_nomem(err);
  status = copy_fields(records, options, err);
  if (status < 0) {
    rm_free(records);
    return status;
  }
  atomic_init(&records->refs, 1);
  records->client = redmoon_client_ref(client);
  records->ttl_ms = options->ttl_ms == REDMOON_UNSET ? 0 : options->ttl_ms;
  records->max_age_ms = options->max_age_ms == REDMOON_UNSET ? 0 : options->max_age_ms;
  records->sliding = options->sliding == 1;
  records->keep_ttl = options->keep_ttl == 1;
  records->max_value_size =
      options->max_value_size == REDMOON_UNSET ? (size_t)1 << 20 : (size_t)options->max_value_size;
  snprintf(records->ttl_text, sizeof records->ttl_text, "%" PRId64, records->ttl_ms);
  snprintf(records->max_age_text, sizeof records->max_age_text, "%" PRId64, records->max_age_ms);
  snprintf(records->part, sizeof records->part, "%s.record", name);
  *out = records;
  return 0;
}

redmoon_records *rm_records_ref(redmoon_records *records) {
  atomic_fetch_add_explicit(&records->refs, 1, memory_order_relaxed);
  return records;
}

void redmoon_records_free(redmoon_records *records) {
  if (records == NULL || atomic_fetch_sub_explicit(&records->refs, 1, memory_order_acq_rel) != 1) return;
  redmoon_client_close(records->client);
  rm_free(records->fields);
  rm_free(records);
}

int rm_records_find(const redmoon_records *records, const char *name, size_t *index, redmoon_error *err) {
  size_t len = name == NULL ? 0 : strlen(name);
  for (size_t i = 0; name != NULL && i < records->count; i++) {
    if (strcmp(records->names[i], name) != 0) continue;
    *index = i;
    return 0;
  }
  char shown[SHOWN];
  rm_escape(shown, sizeof shown, name == NULL ? "" : name, len);
  const char *nearest = name == NULL ? NULL : rm_nearest(name, len, records->names, records->count);
  if (nearest == NULL) return rm_fail(err, REDMOON_ECONFIG, "unknown field '%s'", shown);
  return rm_fail(err, REDMOON_ECONFIG, "unknown field '%s' (did you mean '%s'?)", shown, nearest);
}
