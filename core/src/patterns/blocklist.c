/* SPDX-License-Identifier: MIT */
/* The blocklist: options, and what writes: one script for each call.  Checks are in blocklist_check.c.
 *
 *     {H(token)}:<name>.jti       the reason                   revoke
 *     {H(subject)}:<name>.sub     cut, ver                     revoke_subject, bump
 *     {H(family)}:<name>.fam      cur, old; or dead            rotate, revoke_family
 *
 * A token's key does not depend on the subject: so a check finds it whether or not revoke was told whose it is. */
#include "patterns/blocklist.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/replicas.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define WORD_BYTES LETTERS "0123456789._-"
enum { MIN_KEY = 16, MAX_KEY = 64, DEFAULT_LEEWAY_MS = 60000, MAX_LEEWAY_MS = 600000, DIGITS = 24, SHOWN = 100 };
static const int64_t century_ms = INT64_C(3155760000000), default_life_ms = INT64_C(30) * 24 * 3600 * 1000;
static const int64_t max_integer = INT64_C(9007199254740991); /* 2^53 - 1: what a script counts exactly */

/* Options. */

static int check_name(const char *name, redmoon_error *err) {
  size_t len = name == NULL ? 0 : strlen(name);
  if (len >= 1 && len <= RM_BLOCKLIST_NAME_MAX && strspn(name, WORD_BYTES) == len) return 0;
  char shown[SHOWN];
  rm_escape(shown, sizeof shown, name == NULL ? "" : name, len);
  return rm_fail(err, REDMOON_ECONFIG,
                 "blocklist name: '%s' is not accepted; give 1 to %d letters, digits, '.', '_' and '-'", shown,
                 RM_BLOCKLIST_NAME_MAX);
}

static int check_range(const char *what, int64_t value, int64_t min, int64_t max, const char *unit,
                       redmoon_error *err) {
  if (value >= min && value <= max) return 0;
  if (value == REDMOON_UNSET)
    return rm_fail(err, REDMOON_ECONFIG, "blocklist %s is missing; give %" PRId64 " to %" PRId64 " %s", what, min, max,
                   unit);
  return rm_fail(err, REDMOON_ECONFIG,
                 "blocklist %s: %" PRId64 " %s is not accepted; give %" PRId64 " to %" PRId64 " %s", what, value, unit,
                 min, max, unit);
}

static int check_hash_key(const redmoon_blocklist_options *options, redmoon_error *err) {
  if (options->hash_key == NULL && options->hash_key_len == 0) return 0;
  if (options->hash_key != NULL && options->hash_key_len >= MIN_KEY && options->hash_key_len <= MAX_KEY) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "blocklist option hash_key: %zu bytes are not accepted; give %d to %d",
                 options->hash_key == NULL ? 0 : options->hash_key_len, MIN_KEY, MAX_KEY);
}

static int check_on_error(const char *word, rm_on_error *out, redmoon_error *err) {
  static const char *const words[] = {"deny", "allow", "error"};
  if (word == NULL) word = words[0];
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    *out = (rm_on_error)i;
    if (strcmp(word, words[i]) == 0) return 0;
  }
  char shown[SHOWN];
  rm_escape(shown, sizeof shown, word, strlen(word));
  return rm_fail(err, REDMOON_ECONFIG,
                 "blocklist option on_error: '%s' is not accepted; give \"deny\", \"allow\" or \"error\"", shown);
}

int redmoon_blocklist_new(redmoon_client *client, const char *name, const redmoon_blocklist_options *options,
                          redmoon_blocklist **out, redmoon_error *err) {
  static const redmoon_blocklist_options none = REDMOON_BLOCKLIST_OPTIONS_INIT;
  *out = NULL;
  rm_error_clear(err);
  if (options == NULL) options = &none;
  int64_t leeway_ms = options->leeway_ms == REDMOON_UNSET ? DEFAULT_LEEWAY_MS : options->leeway_ms;
  int64_t life_ms = options->max_life_ms == REDMOON_UNSET ? default_life_ms : options->max_life_ms;
  int64_t min_replicas = options->min_replicas == REDMOON_UNSET ? 0 : options->min_replicas;
  rm_on_error on_error = RM_ON_ERROR_DENY;
  int status = check_name(name, err);
  if (status == 0) status = check_range("option leeway", leeway_ms, 0, MAX_LEEWAY_MS, "ms", err);
  if (status == 0) status = check_range("option max_life", life_ms, 1000, century_ms, "ms", err);
  if (status == 0) status = check_range("option min_replicas", min_replicas, 0, RM_REPLICAS_MAX, "replicas", err);
  if (status == 0) status = check_hash_key(options, err);
  if (status == 0) status = check_on_error(options->on_error, &on_error, err);
  if (status < 0) return status;
  redmoon_blocklist *list = rm_calloc(1, sizeof *list);
  if (list == NULL) return rm_fail_nomem(err);
  list->client = redmoon_client_ref(client);
  list->on_error = on_error;
  list->leeway_ms = leeway_ms;
  list->life_ms = life_ms + leeway_ms;
  list->min_replicas = min_replicas;
  snprintf(list->token_part, sizeof list->token_part, "%s.jti", name);
  snprintf(list->subject_part, sizeof list->subject_part, "%s.sub", name);
  snprintf(list->family_part, sizeof list->family_part, "%s.fam", name);
  status = rm_blocklist_hash_init(list, name, options, err);
  if (status < 0) {
    redmoon_blocklist_free(list);
    return status;
  }
  *out = list;
  return 0;
}

void redmoon_blocklist_free(redmoon_blocklist *list) {
  if (list == NULL) return;
  rm_secret_fini(&list->key);
  redmoon_client_close(list->client);
  rm_free(list);
}

/* Requests. */

/* One under way. */
typedef struct list_call {
  redmoon_client *client; /* a reference */
  void *out;
} list_call;

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  list_call *call = ctx;
  redmoon_client_close(call->client);
  rm_free(call);
}

/* The first `count` integers of a script's answer. */
static int read_answer(const redmoon_reply *reply, int64_t *at, size_t count, redmoon_error *err) {
  for (size_t i = 0; i < count; i++) {
    const redmoon_reply *item = redmoon_reply_at(reply, i);
    if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER) {
      rm_fail(err, REDMOON_EPROTOCOL, "blocklist: the script's answer has no integer at place %zu", i + 1);
      if (err != NULL) err->outcome = REDMOON_ANSWERED;
      return REDMOON_EPROTOCOL;
    }
    at[i] = redmoon_reply_integer(item);
  }
  return 0;
}

/* Runs `script` on the object of these bytes, and on a request's key if there is an id. */
static int call_start(redmoon_blocklist *list, const rm_builtin *script, rm_hash_role role, redmoon_bytes object,
                      const char *request_id, const redmoon_bytes *args, size_t arg_count, unsigned flags,
                      rm_decode_fn decode, void *out, redmoon_op **op, redmoon_error *err) {
  redmoon_bytes keys[2] = {{NULL, 0}, {NULL, 0}};
  list_call *call = NULL;
  int status = rm_blocklist_key(list, role, object, &keys[0], err);
  if (status == 0 && request_id != NULL) {
    rm_hash hash = rm_blocklist_hash(list, role, object);
    status = rm_request_key_build(rm_client_key_prefix(list->client), hash.text, strlen(hash.text),
                                  list->subject_part, request_id, &keys[1], err);
  }
  if (status == 0 && (call = rm_alloc(sizeof *call)) == NULL) status = rm_fail_nomem(err);
  if (status == 0) {
    *call = (list_call){redmoon_client_ref(list->client), out};
    const redmoon_script_args all = {keys, request_id != NULL ? 2 : 1, args, arg_count};
    const rm_replicas replicas = {"blocklist", list->min_replicas};
    status = rm_replicated_start(list->client, script, &all, flags, &replicas, decode, call_drop, call, op, err);
  }
  rm_key_free(&keys[0]);
  rm_key_free(&keys[1]);
  return status;
}

static redmoon_bytes text_of(char text[DIGITS], int64_t value) {
  int len = snprintf(text, DIGITS, "%" PRId64, value);
  return (redmoon_bytes){text, (size_t)len};
}

/* A moment that is an error of the caller's, though only the server's clock could tell. */
static int too_far(const char *what, redmoon_error *err) {
  rm_fail(err, REDMOON_ECONFIG,
          "blocklist %s is more than 100 years from the server's clock; give it in seconds since 1970", what);
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  return REDMOON_ECONFIG;
}

static void count(const list_call *call, int64_t status) {
  static const char *const words[] = {"expired", "revoked", "kept"};
  if (status >= 0 && status <= 2) rm_client_count(call->client, "blocklist", words[status]);
}

/* Revoke. */

/* The words that a check says by itself cannot be given. */
static int check_reason(const char *reason, redmoon_error *err) {
  static const char *const own[] = {"subject", "version", "family", "unavailable"};
  if (reason == NULL) return 0;
  size_t len = strlen(reason);
  bool word = len >= 1 && len <= REDMOON_BLOCKLIST_REASON_MAX && strchr(LETTERS, reason[0]) != NULL &&
              strspn(reason, WORD_BYTES) == len;
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) word = word && strcmp(reason, own[i]) != 0;
  if (word) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "blocklist reason: not accepted (%zu bytes); give a word of 1 to %d letters, digits, '.', '_' and '-' "
                 "that begins with a letter, other than subject, version, family and unavailable",
                 len, REDMOON_BLOCKLIST_REASON_MAX);
}

static int decode_revoke(void *ctx, const rm_answer *answer, redmoon_error *err) {
  list_call *call = ctx;
  int64_t at[2];
  int status = read_answer(answer->reply, at, 2, err);
  if (status < 0) return status;
  if (at[0] == RM_STATUS_BLOCK_FAR) return too_far("exp", err);
  count(call, at[0]);
  *(redmoon_revocation_result *)call->out =
      (redmoon_revocation_result){(redmoon_revocation_status)at[0], at[1]};
  return 0;
}

int redmoon_blocklist_revoke_start(redmoon_blocklist *list, const redmoon_revocation *token,
                                   redmoon_revocation_result *out, redmoon_op **op, redmoon_error *err) {
  int status = rm_blocklist_check_id("jti", token->jti, err);
  if (status == 0) status = check_range("exp", token->exp_s, 0, max_integer, "s", err);
  if (status == 0) status = check_reason(token->reason, err);
  if (status < 0) return status;
  char exp[DIGITS], leeway[DIGITS];
  const char *reason = token->reason != NULL && strcmp(token->reason, "revoked") != 0 ? token->reason : "1";
  const redmoon_bytes args[] = {text_of(exp, token->exp_s), text_of(leeway, list->leeway_ms), {reason, strlen(reason)}};
  return call_start(list, &rm_script_blocklist_revoke, RM_HASH_TOKEN, token->jti, NULL, args, 3, RM_CALL_REPEATABLE,
                    decode_revoke, out, op, err);
}

int redmoon_blocklist_revoke(redmoon_blocklist *list, const redmoon_revocation *token, redmoon_revocation_result *out,
                             redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_blocklist_revoke_start(list, token, out, &op, err), &op, err);
}

/* Subjects. */

static int decode_cutoff(void *ctx, const rm_answer *answer, redmoon_error *err) {
  list_call *call = ctx;
  int64_t at[3];
  int status = read_answer(answer->reply, at, 3, err);
  if (status < 0) return status;
  if (at[0] == RM_STATUS_BLOCK_FAR) return too_far("before", err);
  rm_client_count(call->client, "blocklist", at[0] == RM_STATUS_BLOCK_EXPIRED ? "expired" : "subject_revoked");
  *(redmoon_subject_result *)call->out =
      (redmoon_subject_result){(redmoon_revocation_status)at[0], at[1], 0, at[2]};
  return 0;
}

int redmoon_blocklist_revoke_subject_start(redmoon_blocklist *list, const void *sub, size_t sub_len,
                                           int64_t before_ms, redmoon_subject_result *out, redmoon_op **op,
                                           redmoon_error *err) {
  const redmoon_bytes subject = {sub, sub_len};
  int status = rm_blocklist_check_id("sub", subject, err);
  if (status == 0 && before_ms != REDMOON_UNSET)
    status = check_range("before", before_ms, 0, max_integer, "ms", err);
  if (status < 0) return status;
  char before[DIGITS], life[DIGITS];
  const redmoon_bytes args[] = {before_ms == REDMOON_UNSET ? (redmoon_bytes){"", 0} : text_of(before, before_ms),
                                text_of(life, list->life_ms)};
  /* Repeatable: the moment of "now" lies between call and answer whichever request it is that counts. */
  return call_start(list, &rm_script_blocklist_cutoff, RM_HASH_SUBJECT, subject, NULL, args, 2, RM_CALL_REPEATABLE,
                    decode_cutoff, out, op, err);
}

int redmoon_blocklist_revoke_subject(redmoon_blocklist *list, const void *sub, size_t sub_len, int64_t before_ms,
                                     redmoon_subject_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_blocklist_revoke_subject_start(list, sub, sub_len, before_ms, out, &op, err), &op, err);
}

static int decode_bump(void *ctx, const rm_answer *answer, redmoon_error *err) {
  list_call *call = ctx;
  int64_t at[3];
  int status = read_answer(answer->reply, at, 3, err);
  if (status < 0) return status;
  rm_client_count(call->client, "blocklist", "bumped");
  *(redmoon_subject_result *)call->out = (redmoon_subject_result){REDMOON_REVOCATION_DONE, 0, at[1], at[2]};
  return 0;
}

int redmoon_blocklist_bump_start(redmoon_blocklist *list, const void *sub, size_t sub_len, const char *request_id,
                                 redmoon_subject_result *out, redmoon_op **op, redmoon_error *err) {
  const redmoon_bytes subject = {sub, sub_len};
  int status = rm_blocklist_check_id("sub", subject, err);
  if (status == 0) status = rm_request_id_check(request_id, err);
  if (status < 0) return status;
  char life[DIGITS];
  const redmoon_bytes args[] = {text_of(life, list->life_ms)};
  return call_start(list, &rm_script_blocklist_bump, RM_HASH_SUBJECT, subject, request_id, args, 1,
                    request_id != NULL ? RM_CALL_REPEATABLE : 0, decode_bump, out, op, err);
}

int redmoon_blocklist_bump(redmoon_blocklist *list, const void *sub, size_t sub_len, const char *request_id,
                           redmoon_subject_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_blocklist_bump_start(list, sub, sub_len, request_id, out, &op, err), &op, err);
}

/* Families. */

static int decode_rotate(void *ctx, const rm_answer *answer, redmoon_error *err) {
  list_call *call = ctx;
  int64_t at[2];
  int status = read_answer(answer->reply, at, 2, err);
  if (status < 0) return status;
  if (at[0] == RM_STATUS_BLOCK_ROTATED) rm_client_count(call->client, "blocklist", "rotated");
  if (at[0] == RM_STATUS_BLOCK_REUSED) rm_client_count(call->client, "blocklist", "reused");
  *(redmoon_rotation_result *)call->out = (redmoon_rotation_result){(redmoon_rotation_status)at[0], at[1]};
  return 0;
}

int redmoon_blocklist_rotate_start(redmoon_blocklist *list, const redmoon_rotation *rotation,
                                   redmoon_rotation_result *out, redmoon_op **op, redmoon_error *err) {
  const redmoon_bytes *presented = &rotation->presented, *next = &rotation->next;
  bool begins = presented->ptr == NULL && presented->len == 0;
  int status = rm_blocklist_check_id("family", rotation->family, err);
  if (status == 0 && !begins) status = rm_blocklist_check_id("presented", *presented, err);
  if (status == 0) status = rm_blocklist_check_id("new", *next, err);
  if (status == 0 && !begins && presented->len == next->len && memcmp(presented->ptr, next->ptr, next->len) == 0)
    status = rm_fail(err, REDMOON_ECONFIG, "blocklist new: it is the id presented; give a fresh one");
  if (status == 0) status = check_range("ttl", rotation->ttl_ms, 1000, century_ms, "ms", err);
  if (status < 0) return status;
  rm_hash from = {""}, to = rm_blocklist_hash(list, RM_HASH_REFRESH, *next);
  if (!begins) from = rm_blocklist_hash(list, RM_HASH_REFRESH, *presented);
  char life[DIGITS];
  const redmoon_bytes args[] = {{from.text, strlen(from.text)},
                                {to.text, strlen(to.text)},
                                text_of(life, rotation->ttl_ms + list->leeway_ms)};
  return call_start(list, &rm_script_blocklist_rotate, RM_HASH_FAMILY, rotation->family, NULL, args, 3,
                    RM_CALL_REPEATABLE, decode_rotate, out, op, err);
}

int redmoon_blocklist_rotate(redmoon_blocklist *list, const redmoon_rotation *rotation, redmoon_rotation_result *out,
                             redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_blocklist_rotate_start(list, rotation, out, &op, err), &op, err);
}

int redmoon_blocklist_revoke_family_start(redmoon_blocklist *list, const void *family, size_t family_len,
                                          redmoon_revocation_result *out, redmoon_op **op, redmoon_error *err) {
  const redmoon_bytes name = {family, family_len};
  int status = rm_blocklist_check_id("family", name, err);
  if (status < 0) return status;
  char life[DIGITS];
  const redmoon_bytes args[] = {text_of(life, list->life_ms)};
  return call_start(list, &rm_script_blocklist_end_family, RM_HASH_FAMILY, name, NULL, args, 1, RM_CALL_REPEATABLE,
                    decode_revoke, out, op, err);
}

int redmoon_blocklist_revoke_family(redmoon_blocklist *list, const void *family, size_t family_len,
                                    redmoon_revocation_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_blocklist_revoke_family_start(list, family, family_len, out, &op, err), &op, err);
}
