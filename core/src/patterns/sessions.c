/* SPDX-License-Identifier: MIT */
/* Sessions: records whose place is made of hashes.
 *
 *      id      <43: 32 random bytes>.<22: tag>     what the user's browser holds; nowhere on the server
 *      tag     keyed hash of the subject           between the braces of its keys: all in one slot
 *      member  keyed hash of the id                in the name of the session's key, and in the subject's index
 *      handle  <22: member>.<22: tag>              what a list shows
 *
 * Hashes are BLAKE2b of 16 bytes, keyed by the secret; text is base64url without padding (RFC 4648, 5). */
#include "patterns/sessions.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
enum { RANDOM_BYTES = 32, RANDOM_TEXT = 43, HASH_BYTES = 16, SECRET_MIN = 16, SECRET_MAX = 64 };

int redmoon_sessions_new(redmoon_client *client, const char *name, const redmoon_sessions_options *options,
                         redmoon_sessions **out, redmoon_error *err) {
  const redmoon_sessions_options none = REDMOON_SESSIONS_OPTIONS_INIT;
  if (options == NULL) options = &none;
  if (name != NULL && strlen(name) > RM_SESSION_NAME_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "sessions name: %zu bytes are not accepted; give 1 to %d", strlen(name),
                   RM_SESSION_NAME_MAX);
  size_t secret_len = options->secret == NULL ? 0 : options->secret_len;
  if (secret_len < SECRET_MIN || secret_len > SECRET_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "sessions option secret: %zu bytes are not accepted; give %d to %d random ones",
                   secret_len, SECRET_MIN, SECRET_MAX);
  if (options->records.ttl_ms == REDMOON_UNSET)
    return rm_fail(err, REDMOON_ECONFIG, "sessions option ttl is missing");
  if (rm_random_init() < 0) return rm_fail(err, REDMOON_EUNAVAILABLE, "libsodium is not ready");
  redmoon_sessions *sessions = rm_calloc(1, sizeof *sessions);
  if (sessions == NULL) return rm_fail_nomem(err);
  int status = redmoon_records_new(client, name, &options->records, &sessions->records, err);
  if (status == 0 && rm_secret_set(&sessions->secret, options->secret, secret_len) < 0) status = rm_fail_nomem(err);
  if (status < 0) {
    redmoon_sessions_free(sessions);
    return status;
  }
  snprintf(sessions->name, sizeof sessions->name, "%s", name);
  snprintf(sessions->index_part, sizeof sessions->index_part, "%s.sessions", name);
  *out = sessions;
  return 0;
}

void redmoon_sessions_free(redmoon_sessions *sessions) {
  if (sessions == NULL) return;
  redmoon_records_free(sessions->records);
  rm_secret_fini(&sessions->secret);
  rm_free(sessions);
}

/* Names. */

/* Where one session lies. */
typedef struct target {
  char tag[RM_SESSION_HASH + 1], member[RM_SESSION_HASH + 1];
  char part[RM_SESSION_NAME_MAX + sizeof ".session." + RM_SESSION_HASH];
} target;

/* `kind` keeps the hashes of subjects and of ids apart. */
static void hash_text(const redmoon_sessions *sessions, unsigned char kind, const void *text, size_t len,
                      char out[RM_SESSION_HASH + 1]) {
  unsigned char hash[HASH_BYTES];
  crypto_generichash_state state;
  crypto_generichash_init(&state, (const unsigned char *)sessions->secret.bytes, sessions->secret.len, sizeof hash);
  crypto_generichash_update(&state, &kind, 1);
  crypto_generichash_update(&state, text, len);
  crypto_generichash_final(&state, hash, sizeof hash);
  sodium_bin2base64(out, RM_SESSION_HASH + 1, hash, sizeof hash, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  sodium_memzero(&state, sizeof state);
}

static void hash_id(const redmoon_sessions *sessions, const char *id, char out[RM_SESSION_HASH + 1]) {
  hash_text(sessions, 'i', id, strlen(id), out);
}

static int hash_subject(const redmoon_sessions *sessions, const void *subject, size_t len,
                        char out[RM_SESSION_HASH + 1], redmoon_error *err) {
  int status = rm_name_check("session subject", subject, len, err);
  if (status == 0) hash_text(sessions, 's', subject, len, out);
  return status;
}

static void make_part(const redmoon_sessions *sessions, target *t) {
  snprintf(t->part, sizeof t->part, "%s.session.%s", sessions->name, t->member);
}

/* Whether `name` is <head>.<tag>, of base64url. */
static bool is_formed(const char *name, size_t head) {
  return strlen(name) == head + 1 + RM_SESSION_HASH && name[head] == '.' && strspn(name, TEXT_BYTES) == head &&
         strspn(name + head + 1, TEXT_BYTES) == RM_SESSION_HASH;
}

/* What cannot be a name is looked up like one that nobody has: it is no error, and takes as long. */
static void find(const redmoon_sessions *sessions, const char *name, rm_session_by by, target *t) {
  static const char nobody[] = "AAAAAAAAAAAAAAAAAAAAAA";
  if (name == NULL) name = "";
  size_t head = by == RM_SESSION_ID ? RANDOM_TEXT : RM_SESSION_HASH;
  bool formed = is_formed(name, head);
  memcpy(t->tag, formed ? name + head + 1 : nobody, sizeof t->tag);
  if (by == RM_SESSION_ID) {
    hash_id(sessions, name, t->member);
  } else {
    memcpy(t->member, formed ? name : nobody, RM_SESSION_HASH);
    t->member[RM_SESSION_HASH] = '\0';
  }
  make_part(sessions, t);
}

/* A fresh id of the subject with that tag. */
static void make_id(const redmoon_sessions *sessions, const char *tag, char id[REDMOON_SESSION_ID_SIZE], target *t) {
  unsigned char random[RANDOM_BYTES];
  randombytes_buf(random, sizeof random);
  sodium_bin2base64(id, RANDOM_TEXT + 1, random, sizeof random, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  sodium_memzero(random, sizeof random);
  id[RANDOM_TEXT] = '.';
  memcpy(id + RANDOM_TEXT + 1, tag, RM_SESSION_HASH + 1);
  memcpy(t->tag, tag, sizeof t->tag);
  hash_id(sessions, id, t->member);
  make_part(sessions, t);
}

static rm_record_place place_of(const redmoon_sessions *sessions, const target *t) {
  return (rm_record_place){t->part, sessions->index_part, t->member};
}

/* What records do, elsewhere. */

int rm_sessions_create_start(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                             const rm_field_write *writes, size_t count, const char *request_id,
                             char id[REDMOON_SESSION_ID_SIZE], redmoon_op **op, redmoon_error *err) {
  char tag[RM_SESSION_HASH + 1];
  id[0] = '\0';
  if (request_id != NULL)
    return rm_fail(err, REDMOON_ECONFIG, "request_id: not accepted here: a repetition of create is harmless by itself");
  int status = hash_subject(sessions, subject, subject_len, tag, err);
  if (status < 0) return status;
  target t;
  make_id(sessions, tag, id, &t);
  const rm_record_place place = place_of(sessions, &t);
  const rm_record_how how = {true, REDMOON_UNSET, NULL, &place};
  status = rm_records_write_start(sessions->records, t.tag, RM_SESSION_HASH, writes, count, &how, NULL, op, err);
  if (status < 0) rm_wipe(id, REDMOON_SESSION_ID_SIZE);
  return status;
}

int rm_sessions_update_start(redmoon_sessions *sessions, const char *id, const rm_field_write *writes, size_t count,
                             const rm_record_how *how, int64_t *version, redmoon_op **op, redmoon_error *err) {
  target t;
  find(sessions, id, RM_SESSION_ID, &t);
  const rm_record_place place = place_of(sessions, &t);
  const rm_record_how here = {false, how->version, how->request_id, &place};
  return rm_records_write_start(sessions->records, t.tag, RM_SESSION_HASH, writes, count, &here, version, op, err);
}

int rm_sessions_load_start(redmoon_sessions *sessions, const char *name, rm_session_by by, const rm_record_load *what,
                           redmoon_record **out, redmoon_op **op, redmoon_error *err) {
  target t;
  find(sessions, name, by, &t);
  const rm_record_place place = place_of(sessions, &t);
  rm_record_load here = *what;
  here.place = &place;
  here.still = by == RM_SESSION_HANDLE;
  return rm_records_load_start(sessions->records, t.tag, RM_SESSION_HASH, &here, out, op, err);
}

int redmoon_sessions_touch_start(redmoon_sessions *sessions, const char *id, int64_t *left_ms, redmoon_op **op,
                                 redmoon_error *err) {
  target t;
  find(sessions, id, RM_SESSION_ID, &t);
  const rm_record_place place = place_of(sessions, &t);
  return rm_records_touch_start(sessions->records, t.tag, RM_SESSION_HASH, &place, left_ms, op, err);
}

/* What sessions alone do. */

typedef struct session_call {
  int *revoked;
  int64_t *count;
  char *id_out; /* where `id` goes when it has become the session's */
  char id[REDMOON_SESSION_ID_SIZE];
  char tag[RM_SESSION_HASH + 1];
  redmoon_session_list **list;
} session_call;

static session_call *call_new(const char *tag, redmoon_error *err) {
  session_call *call = rm_calloc(1, sizeof *call);
  if (call == NULL) rm_fail_nomem(err);
  else
    memcpy(call->tag, tag, sizeof call->tag);
  return call;
}

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  rm_wipe(ctx, sizeof(session_call));
  rm_free(ctx);
}

/* Takes `call` over (NULL: an earlier want of memory, told already).  `parts`: of the keys. */
static int call_start(redmoon_sessions *sessions, session_call *call, const rm_builtin *script,
                      const char *const *parts, size_t key_count, const redmoon_bytes *args, size_t arg_count,
                      rm_decode_fn decode, redmoon_op **op, redmoon_error *err) {
  if (call == NULL) return REDMOON_ENOMEM;
  redmoon_client *client = sessions->records->client;
  redmoon_bytes keys[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
  int status = 0;
  for (size_t i = 0; status == 0 && i < key_count; i++)
    status = rm_key_build(rm_client_key_prefix(client), call->tag, RM_SESSION_HASH, parts[i], &keys[i], err);
  const redmoon_script_args all = {keys, key_count, args, arg_count};
  /* All may be repeated: ids are used once, and what was revoked stays so. */
  if (status == 0)
    status = rm_builtin_start(client, script, &all, RM_CALL_REPEATABLE, decode, call_drop, call, op, err);
  else
    call_drop(call, REDMOON_NOT_SENT);
  for (size_t i = 0; i < 3; i++) rm_key_free(&keys[i]);
  return status;
}

static int integer_at(const redmoon_reply *reply, size_t index, int64_t *out, redmoon_error *err) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER) {
    rm_fail(err, REDMOON_EPROTOCOL, "sessions: the script's answer has no integer at place %zu", index + 1);
    if (err != NULL) err->outcome = REDMOON_ANSWERED;
    return REDMOON_EPROTOCOL;
  }
  *out = redmoon_reply_integer(item);
  return 0;
}

static int decode_rotate(void *ctx, const rm_answer *answer, redmoon_error *err) {
  session_call *call = ctx;
  int64_t code;
  int status = integer_at(answer->reply, 0, &code, err);
  if (status == 0 && code == RM_STATUS_RECORD_OK) memcpy(call->id_out, call->id, sizeof call->id);
  return status;
}

int redmoon_sessions_rotate_start(redmoon_sessions *sessions, const char *id, char new_id[REDMOON_SESSION_ID_SIZE],
                                  redmoon_op **op, redmoon_error *err) {
  target from, to;
  find(sessions, id, RM_SESSION_ID, &from);
  session_call *call = call_new(from.tag, err);
  if (call == NULL) return REDMOON_ENOMEM;
  make_id(sessions, from.tag, call->id, &to);
  call->id_out = new_id;
  new_id[0] = '\0';
  const char *const parts[] = {from.part, to.part, sessions->index_part};
  const char *age = sessions->records->max_age_text;
  const redmoon_bytes args[] = {{from.member, RM_SESSION_HASH}, {to.member, RM_SESSION_HASH}, {age, strlen(age)}};
  return call_start(sessions, call, &rm_script_session_rotate, parts, 3, args, 3, decode_rotate, op, err);
}

static int decode_revoke(void *ctx, const rm_answer *answer, redmoon_error *err) {
  session_call *call = ctx;
  int64_t code;
  int status = integer_at(answer->reply, 0, &code, err);
  if (status == 0 && call->revoked != NULL) *call->revoked = code == RM_STATUS_RECORD_OK;
  return status;
}

static int revoke_start(redmoon_sessions *sessions, const char *name, rm_session_by by, int *revoked,
                        redmoon_op **op, redmoon_error *err) {
  target t;
  find(sessions, name, by, &t);
  session_call *call = call_new(t.tag, err);
  if (call != NULL) call->revoked = revoked;
  const char *const parts[] = {t.part, sessions->index_part};
  const redmoon_bytes arg = {t.member, RM_SESSION_HASH};
  return call_start(sessions, call, &rm_script_session_revoke, parts, 2, &arg, 1, decode_revoke, op, err);
}

int redmoon_sessions_revoke_start(redmoon_sessions *sessions, const char *id, int *revoked, redmoon_op **op,
                                  redmoon_error *err) {
  return revoke_start(sessions, id, RM_SESSION_ID, revoked, op, err);
}

int redmoon_sessions_revoke_handle_start(redmoon_sessions *sessions, const char *handle, int *revoked,
                                         redmoon_op **op, redmoon_error *err) {
  return revoke_start(sessions, handle, RM_SESSION_HANDLE, revoked, op, err);
}

static int decode_revoke_all(void *ctx, const rm_answer *answer, redmoon_error *err) {
  session_call *call = ctx;
  int64_t count;
  int status = integer_at(answer->reply, 1, &count, err);
  if (status == 0 && call->count != NULL) *call->count = count;
  return status;
}

int redmoon_sessions_revoke_all_start(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                                      const char *except, int64_t *count, redmoon_op **op, redmoon_error *err) {
  char tag[RM_SESSION_HASH + 1], member[RM_SESSION_HASH + 1] = "";
  int status = hash_subject(sessions, subject, subject_len, tag, err);
  if (status < 0) return status;
  if (except != NULL) hash_id(sessions, except, member);
  session_call *call = call_new(tag, err);
  if (call != NULL) call->count = count;
  const char *const parts[] = {sessions->index_part};
  const redmoon_bytes arg = {member, strlen(member)};
  return call_start(sessions, call, &rm_script_session_revoke_all, parts, 1, &arg, 1, decode_revoke_all, op, err);
}

/* {code, member, left, ...} */
static int decode_list(void *ctx, const rm_answer *answer, redmoon_error *err) {
  session_call *call = ctx;
  size_t count = redmoon_reply_count(answer->reply) / 2;
  redmoon_session_list *list = rm_calloc(1, sizeof *list + count * sizeof(redmoon_session_entry));
  if (list == NULL) return rm_fail_nomem_answered(err);
  list->entries = (redmoon_session_entry *)(list + 1);
  int status = 0;
  for (size_t i = 0; status == 0 && i < count; i++) {
    redmoon_session_entry *entry = &list->entries[list->count++];
    const char *member = redmoon_reply_string(redmoon_reply_at(answer->reply, 2 * i + 1), NULL);
    snprintf(entry->handle, sizeof entry->handle, "%.*s.%s", RM_SESSION_HASH, member == NULL ? "" : member, call->tag);
    status = integer_at(answer->reply, 2 * i + 2, &entry->left_ms, err);
  }
  if (status < 0) redmoon_session_list_free(list);
  else
    *call->list = list;
  return status;
}

int redmoon_sessions_list_start(redmoon_sessions *sessions, const void *subject, size_t subject_len,
                                redmoon_session_list **out, redmoon_op **op, redmoon_error *err) {
  char tag[RM_SESSION_HASH + 1];
  *out = NULL;
  int status = hash_subject(sessions, subject, subject_len, tag, err);
  if (status < 0) return status;
  session_call *call = call_new(tag, err);
  if (call != NULL) call->list = out;
  const char *const parts[] = {sessions->index_part};
  return call_start(sessions, call, &rm_script_session_list, parts, 1, NULL, 0, decode_list, op, err);
}

void redmoon_session_list_free(redmoon_session_list *list) { rm_free(list); }
