/* SPDX-License-Identifier: MIT */
/** Records: hashes with a schema, written together with their lifetime, and versioned.
 *
 *      struct session { redmoon_bytes user_id; int64_t visits; };
 *      static const redmoon_field fields[] = {REDMOON_FIELD(struct session, user_id, REDMOON_STRING),
 *                                             REDMOON_FIELD(struct session, visits, REDMOON_INTEGER)};
 */
#ifndef REDMOON_RECORDS_H
#define REDMOON_RECORDS_H

#include <redmoon/client.h>
#include <redmoon/script.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Type of a field, beside those of redmoon_type: microseconds since the epoch. */
#define REDMOON_TIME 64

/** A field of the schema, and the member of a struct that it is read into and written from:
 *
 *      REDMOON_STRING   redmoon_bytes  any bytes
 *      REDMOON_INTEGER  int64_t
 *      REDMOON_DOUBLE   double         finite
 *      REDMOON_BOOLEAN  int            0, or anything else for 1
 *      REDMOON_TIME     int64_t        microseconds since the epoch, below 2^53 either side */
typedef struct redmoon_field {
  const char *name; /**< 1 to 64 of A-Z a-z 0-9 . _ -, but not with '_' first */
  int type;
  size_t offset; /**< of the member */
} redmoon_field;
#define REDMOON_FIELD(structure, member, type) {#member, type, offsetof(structure, member)}

typedef struct redmoon_records_options {
  const redmoon_field *fields; /**< 1 to 1,000; copied */
  size_t field_count;
  int64_t ttl_ms;         /**< lifetime, 1 ms to 100 years; unset: records live until they are deleted */
  int64_t sliding;        /**< 1: a load renews the lifetime, too, when less than 90 % of it is left */
  int64_t keep_ttl;       /**< 1: the first write sets the lifetime, later ones keep it */
  int64_t max_age_ms;     /**< a record ends this long after it was created, whatever renews it; unset: never */
  int64_t max_value_size; /**< most bytes of a string, 1 to 64 MiB; 1 MiB */
} redmoon_records_options;
#define REDMOON_RECORDS_OPTIONS_INIT                                                                                 \
  {0, 0, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET}

/** A kind of records.  Thread class: immutable after redmoon_records_new; share it freely. */
typedef struct redmoon_records redmoon_records;
/** A record that was loaded.  Thread class: immutable. */
typedef struct redmoon_record redmoon_record;

/** `name`: 1 to 48 of A-Z a-z 0-9 . _ -; records of different names do not share keys.  *out is the caller's
 *  (redmoon_records_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_new(redmoon_client *client, const char *name,
                                                       const redmoon_records_options *options,
                                                       redmoon_records **out, redmoon_error *err);
/** NULL is allowed; records that were loaded and operations that were started stay valid. */
REDMOON_API void redmoon_records_free(redmoon_records *records);

/** How to write; NULL: as the initialiser says. */
typedef struct redmoon_record_write {
  int64_t version;           /**< that the record must have, else REDMOON_ECONFLICT; 0: there must be none */
  const char *request_id;    /**< makes a repetition harmless: 1 to 128 of A-Z a-z 0-9 . _ - */
  const char *const *fields; /**< names of the members that are written; NULL: all */
  size_t field_count;
  const char *const *drop;   /**< names of the fields that are deleted (they win over `fields`) */
  size_t drop_count;
} redmoon_record_write;
#define REDMOON_RECORD_WRITE_INIT {REDMOON_UNSET, 0, 0, 0, 0, 0}

/* An id is 1 to 512 bytes, any bytes.  Errors of all calls: REDMOON_ECONFIG for arguments (the message names the
 * nearest known field), REDMOON_ECODEC for a member or a stored value that its type does not allow (the message names
 * the field, never the value), REDMOON_ETOO_LARGE for a string above max_value_size; and those of a command.
 *
 * A version is an integer that rises with every write, also over a deletion. */

/** Replaces the record, or creates it: fields that are not written are gone.  *version (may be NULL): its new version;
 *  after REDMOON_ECONFLICT the one that is there, 0 for none. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_save(redmoon_records *records, const void *id, size_t id_len,
                                                        const void *structure, const redmoon_record_write *how,
                                                        int64_t *version, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_save_start(redmoon_records *records, const void *id,
                                                              size_t id_len, const void *structure,
                                                              const redmoon_record_write *how, int64_t *version,
                                                              redmoon_op **op, redmoon_error *err);
/** Changes the fields that are written, of a record that there is: else *version is 0, and nothing is written. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_update(redmoon_records *records, const void *id, size_t id_len,
                                                          const void *structure, const redmoon_record_write *how,
                                                          int64_t *version, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_update_start(redmoon_records *records, const void *id,
                                                                size_t id_len, const void *structure,
                                                                const redmoon_record_write *how, int64_t *version,
                                                                redmoon_op **op, redmoon_error *err);

/** Loads `field_count` fields (`fields` NULL: all) into the struct (may be NULL).  *out: NULL when there is no record,
 *  and then the struct is as it was; else the caller's (redmoon_record_free), and strings in the struct point into it.
 *  Members whose field is missing become 0 or empty: see redmoon_record_has; those not asked for stay. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_load(redmoon_records *records, const void *id, size_t id_len,
                                                        const char *const *fields, size_t field_count,
                                                        void *structure, redmoon_record **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_load_start(redmoon_records *records, const void *id,
                                                              size_t id_len, const char *const *fields,
                                                              size_t field_count, void *structure,
                                                              redmoon_record **out, redmoon_op **op,
                                                              redmoon_error *err);
/** 1 if the field was loaded and is there, else 0. */
REDMOON_API int redmoon_record_has(const redmoon_record *record, const char *field);
REDMOON_API int64_t redmoon_record_version(const redmoon_record *record);
/** Milliseconds since the epoch, by the server's clock. */
REDMOON_API int64_t redmoon_record_created_ms(const redmoon_record *record);
/** What was left of its lifetime; -1: it has none. */
REDMOON_API int64_t redmoon_record_left_ms(const redmoon_record *record);
/** NULL is allowed. */
REDMOON_API void redmoon_record_free(redmoon_record *record);

typedef struct redmoon_record_sum {
  int64_t version; /**< 0: there is no record, and nothing was written */
  int64_t integer; /**< the new value of an INTEGER */
  double number;   /**< the new value of a DOUBLE */
} redmoon_record_sum;

/** Adds to a field of type INTEGER; one that is missing counts as 0.  REDMOON_ECODEC, and nothing is written, if the sum
 *  is out of range.  `request_id` may be NULL. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_increment(redmoon_records *records, const void *id, size_t id_len,
                                                             const char *field, int64_t by, const char *request_id,
                                                             redmoon_record_sum *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_increment_start(redmoon_records *records, const void *id,
                                                                   size_t id_len, const char *field, int64_t by,
                                                                   const char *request_id, redmoon_record_sum *out,
                                                                   redmoon_op **op, redmoon_error *err);
/** The same for type DOUBLE. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_increment_double(redmoon_records *records, const void *id,
                                                                    size_t id_len, const char *field, double by,
                                                                    const char *request_id, redmoon_record_sum *out,
                                                                    redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int
redmoon_records_increment_double_start(redmoon_records *records, const void *id, size_t id_len, const char *field,
                                       double by, const char *request_id, redmoon_record_sum *out, redmoon_op **op,
                                       redmoon_error *err);

/** Lets the lifetime begin anew.  *left_ms (may be NULL): what is left now; -1: it has no end; 0: there is no record. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_touch(redmoon_records *records, const void *id, size_t id_len,
                                                         int64_t *left_ms, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_touch_start(redmoon_records *records, const void *id,
                                                               size_t id_len, int64_t *left_ms, redmoon_op **op,
                                                               redmoon_error *err);
/** *deleted (may be NULL): 1 if there was a record, else 0. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_delete(redmoon_records *records, const void *id, size_t id_len,
                                                          int *deleted, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_records_delete_start(redmoon_records *records, const void *id,
                                                                size_t id_len, int *deleted, redmoon_op **op,
                                                                redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
