/* SPDX-License-Identifier: MIT */
/** Inside of records: schema and values, for the struct face (records_struct.c) and the Lua binding alike.
 *
 *      records_schema.c   options -> redmoon_records      records_value.c   values <-> stored text
 *      records.c          one script for each request     records_struct.c  members of a C struct <-> values */
#ifndef RM_PATTERNS_RECORDS_H
#define RM_PATTERNS_RECORDS_H

#include <redmoon/records.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { RM_RECORD_NAME_MAX = 48, RM_RECORD_FIELDS_MAX = 1000, RM_RECORD_TEXT = 40 };
#define RM_RECORD_VERSION_MAX (INT64_C(9007199254740990))
#define RM_RECORD_TTL_MAX (INT64_C(3155760000000)) /* 100 years */
#define RM_RECORD_VALUE_MAX (INT64_C(67108864))

struct redmoon_records {
  atomic_int refs;
  redmoon_client *client;
  redmoon_field *fields; /* names lie behind */
  const char **names;    /* the same, by themselves */
  size_t count;
  int64_t ttl_ms, max_age_ms; /* 0: none */
  bool sliding, keep_ttl;
  size_t max_value_size;
  char ttl_text[24], max_age_text[24];
  char part[RM_RECORD_NAME_MAX + sizeof ".record"]; /* last word of its keys */
};

typedef union rm_value {
  redmoon_bytes bytes; /* STRING */
  int64_t integer;     /* INTEGER, BOOLEAN (0, 1), TIME (us) */
  double number;       /* DOUBLE */
} rm_value;

/** One field that is set or deleted. */
typedef struct rm_field_write {
  size_t field; /* index in the schema */
  bool drop;
  rm_value value;
} rm_field_write;

typedef struct rm_record_value {
  bool has;
  rm_value value;
} rm_record_value;

struct redmoon_record {
  redmoon_records *records; /* a reference */
  int64_t version, created_ms, left_ms;
  rm_record_value *values;  /* one for each field of the schema; their strings lie behind */
};

redmoon_records *rm_records_ref(redmoon_records *records);
/** Index of a field of that name; or REDMOON_ECONFIG, with the nearest. */
int rm_records_find(const redmoon_records *records, const char *name, size_t *index, redmoon_error *err);

/** The text that is stored: a STRING's own bytes, else made in `text`.  0, ECODEC or ETOO_LARGE. */
int rm_value_encode(const redmoon_records *records, size_t field, const rm_value *value, char text[RM_RECORD_TEXT],
                    redmoon_bytes *out, redmoon_error *err);
/** The reverse; a STRING's bytes are those given.  0 or ECODEC. */
int rm_value_decode(const redmoon_records *records, size_t field, redmoon_bytes text, rm_value *out,
                    redmoon_error *err);

/** Where a session lies; a record lies under its id, in its schema's part. */
typedef struct rm_record_place {
  const char *part;       /* of its hash */
  const char *index_part; /* of its subject's index */
  const char *member;     /* its name in there */
} rm_record_place;

/** What is the same in all writes. */
typedef struct rm_record_how {
  bool replace;
  int64_t version; /* REDMOON_UNSET: any */
  const char *request_id;
  const rm_record_place *place; /* NULL: a record */
} rm_record_how;

/** Writes the fields; *version as of redmoon_records_save.  Everything given may end when this returns. */
REDMOON_API int rm_records_write_start(redmoon_records *records, const void *id, size_t id_len,
                                       const rm_field_write *writes, size_t count, const rm_record_how *how,
                                       int64_t *version, redmoon_op **op, redmoon_error *err);
typedef void (*rm_record_fill_fn)(const redmoon_record *record, const size_t *fields, size_t count, void *structure);
/** What is the same in all loads. */
typedef struct rm_record_load {
  const size_t *fields; /* their indexes; NULL: all */
  size_t count;
  rm_record_fill_fn fill; /* called with a record that is there; NULL: nothing is */
  void *structure;        /* handed to it */
  const rm_record_place *place; /* NULL: a record */
  bool still;             /* of a session: it does not slide */
} rm_record_load;

REDMOON_API int rm_records_load_start(redmoon_records *records, const void *id, size_t id_len,
                                      const rm_record_load *what, redmoon_record **out, redmoon_op **op,
                                      redmoon_error *err);
int rm_records_touch_start(redmoon_records *records, const void *id, size_t id_len, const rm_record_place *place,
                           int64_t *left_ms, redmoon_op **op, redmoon_error *err);
/** The members of a struct as writes, in memory of the caller's (rm_free); how->fields and how->drop are heeded. */
int rm_records_collect(const redmoon_records *records, const void *structure, const redmoon_record_write *how,
                       rm_field_write **writes, size_t *count, redmoon_error *err);
/** Indexes of the names, in memory of the caller's (rm_free). */
int rm_records_select(const redmoon_records *records, const char *const *names, size_t count, size_t **indexes,
                      redmoon_error *err);
/** An rm_record_fill_fn: members of the struct become the record's fields. */
void rm_records_fill(const redmoon_record *record, const size_t *fields, size_t count, void *structure);

/** Adds to the field, of type INTEGER or DOUBLE. */
REDMOON_API int rm_records_add_start(redmoon_records *records, const void *id, size_t id_len, size_t field,
                                     const rm_value *by, const char *request_id, redmoon_record_sum *out,
                                     redmoon_op **op, redmoon_error *err);

#endif
