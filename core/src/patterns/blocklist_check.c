/* SPDX-License-Identifier: MIT */
/* The blocklist's checks: plain reads, sent together.  No script holds them together, and none has to: token, subject and
 * family may lie in different slots, and while a token lives no revocation of it is taken back, so that each read may see
 * a moment of its own.  Whatever was revoked before the check began is seen by it.
 *
 *     for each claim, as it has them:   GET, PTTL of the token;   HMGET cut ver, PTTL of the subject;
 *                                       HGET dead, PTTL of the family
 *
 * When Redis fails, the operation ends well all the same, unless on_error is "error": "unavailable" is its answer. */
#include "patterns/blocklist.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"

#include <inttypes.h>
#include <string.h>

enum { ASKS_TOKEN = 1, ASKS_SUBJECT = 2, ASKS_FAMILY = 4 };

/* What is kept of one token's claims. */
typedef struct claim {
  unsigned asks;
  int64_t iat_s, ver;
} claim;

typedef struct check_op {
  rm_call call; /* first: its op is this one's */
  rm_on_error on_error;
  bool failed; /* the whole call did: op.error says why */
  redmoon_check_result *out;
  size_t count;
  claim claims[];
} check_op;

/* Answers. */

static void say(redmoon_check_result *out, bool revoked, const char *reason, size_t len, int64_t ttl_ms) {
  *out = (redmoon_check_result){.revoked = revoked, .ttl_ms = ttl_ms > 0 ? ttl_ms : 0};
  memcpy(out->reason, reason, len < REDMOON_BLOCKLIST_REASON_MAX ? len : REDMOON_BLOCKLIST_REASON_MAX);
}

static void say_word(redmoon_check_result *out, const char *reason, int64_t ttl_ms) {
  say(out, true, reason, strlen(reason), ttl_ms);
}

/* The reply to mark `index`, if it is what was asked for; else NULL, with `err`. */
static const redmoon_reply *reply_at(check_op *self, size_t index, redmoon_type type, redmoon_error *err) {
  const redmoon_reply *reply = self->call.results[index].reply;
  redmoon_type got = redmoon_reply_type(reply);
  if (got == type || (got == REDMOON_NIL && type == REDMOON_STRING)) return reply;
  redmoon_reply *none = NULL;
  if (got == REDMOON_ERROR) {
    rm_call_take_reply(&self->call, index, &none, err);
  } else {
    rm_fail(err, REDMOON_EPROTOCOL, "blocklist: the server's answer to a check is of another type than asked for");
    if (err != NULL) err->outcome = REDMOON_ANSWERED;
  }
  return NULL;
}

/* A stored integer; 0 when there is none; false for anything else. */
static bool read_integer(const redmoon_reply *reply, int64_t *out) {
  size_t len = 0;
  *out = 0;
  if (reply == NULL) return false;
  if (redmoon_reply_type(reply) == REDMOON_NIL) return true;
  const char *text = redmoon_reply_string(reply, &len);
  if (text == NULL || len < 1 || len > 18 || strspn(text, "0123456789") != len) return false;
  for (size_t i = 0; i < len; i++) *out = *out * 10 + (text[i] - '0');
  return true;
}

/* What one object says of the claim, from the two marks at `index`.  1: revoked, with *out; 0: it says nothing; negative:
 * it could not be read. */
typedef int (*judge_fn)(check_op *self, const claim *c, size_t index, redmoon_check_result *out, redmoon_error *err);

static int judge_token(check_op *self, const claim *c, size_t index, redmoon_check_result *out, redmoon_error *err) {
  (void)c;
  const redmoon_reply *stored = reply_at(self, index, REDMOON_STRING, err);
  const redmoon_reply *left = reply_at(self, index + 1, REDMOON_INTEGER, err);
  if (stored == NULL || left == NULL) return REDMOON_ESERVER;
  if (redmoon_reply_type(stored) == REDMOON_NIL) return 0;
  size_t len;
  const char *reason = redmoon_reply_string(stored, &len);
  if (len == 1 && reason[0] == '1') say_word(out, "revoked", redmoon_reply_integer(left));
  else say(out, true, reason, len, redmoon_reply_integer(left));
  return 1;
}

static int judge_subject(check_op *self, const claim *c, size_t index, redmoon_check_result *out,
                         redmoon_error *err) {
  const redmoon_reply *stored = reply_at(self, index, REDMOON_ARRAY, err);
  const redmoon_reply *left = reply_at(self, index + 1, REDMOON_INTEGER, err);
  if (stored == NULL || left == NULL) return REDMOON_ESERVER;
  int64_t cut_ms, ver;
  if (!read_integer(redmoon_reply_at(stored, 0), &cut_ms) || !read_integer(redmoon_reply_at(stored, 1), &ver)) {
    rm_fail(err, REDMOON_EPROTOCOL, "blocklist: the subject's key holds no cutoff and version");
    if (err != NULL) err->outcome = REDMOON_ANSWERED;
    return REDMOON_EPROTOCOL;
  }
  bool has_cut = redmoon_reply_type(redmoon_reply_at(stored, 0)) != REDMOON_NIL;
  bool cut = has_cut && c->iat_s <= cut_ms / 1000;
  if (!cut && c->ver >= ver) return 0;
  say_word(out, cut ? "subject" : "version", redmoon_reply_integer(left));
  return 1;
}

static int judge_family(check_op *self, const claim *c, size_t index, redmoon_check_result *out, redmoon_error *err) {
  (void)c;
  const redmoon_reply *dead = reply_at(self, index, REDMOON_STRING, err);
  const redmoon_reply *left = reply_at(self, index + 1, REDMOON_INTEGER, err);
  if (dead == NULL || left == NULL) return REDMOON_ESERVER;
  if (redmoon_reply_type(dead) == REDMOON_NIL) return 0;
  say_word(out, "family", redmoon_reply_integer(left));
  return 1;
}

/* In the order in which they were asked. */
static const struct {
  unsigned asks;
  judge_fn judge;
} judges[] = {{ASKS_TOKEN, judge_token}, {ASKS_SUBJECT, judge_subject}, {ASKS_FAMILY, judge_family}};
enum { JUDGES = sizeof judges / sizeof judges[0] };

/* One object that says "revoked" is enough; else all have to be heard.  Returns how many marks were the claim's. */
static size_t judge(check_op *self, const claim *c, size_t index, redmoon_check_result *out, int *status,
                    redmoon_error *err) {
  size_t marks = 0;
  bool revoked = false;
  *status = 0;
  say(out, false, "", 0, 0);
  for (size_t i = 0; i < JUDGES; i++) {
    if ((c->asks & judges[i].asks) == 0) continue;
    redmoon_check_result one;
    redmoon_error why;
    int said = judges[i].judge(self, c, index + marks, &one, &why);
    marks += 2;
    if (said == 1 && !revoked) *out = one;
    if (said == 1) revoked = true;
    if (said >= 0 || *status != 0) continue;
    *status = why.status;
    if (err != NULL) *err = why;
  }
  if (revoked) *status = 0;
  return marks;
}

static void say_unavailable(check_op *self, redmoon_check_result *out) {
  say(out, self->on_error != RM_ON_ERROR_ALLOW, "unavailable", strlen("unavailable"), 0);
}

static int finish(redmoon_op *op, redmoon_error *err) {
  check_op *self = (check_op *)op;
  redmoon_error first = {0};
  size_t index = 0;
  for (size_t i = 0; i < self->count; i++) {
    redmoon_check_result *out = &self->out[i];
    redmoon_error why;
    int status = 0;
    if (self->failed) {
      say_unavailable(self, out);
      continue;
    }
    index += judge(self, &self->claims[i], index, out, &status, &why);
    rm_client_count(op->client, "blocklist", status < 0 ? "unavailable" : out->revoked ? "blocked" : "passed");
    if (status >= 0) continue;
    if (first.status == 0) first = why;
    say_unavailable(self, out);
  }
  if (first.status == 0) return 0;
  if (err != NULL) *err = first;
  return self->on_error == RM_ON_ERROR_FAIL ? first.status : 0;
}

static int step(redmoon_op *op, int64_t now_us) {
  check_op *self = (check_op *)op;
  int rc = rm_call_step(op, now_us);
  if (rc >= 0) return rc;
  for (size_t i = 0; i < self->count; i++) rm_client_count(op->client, "blocklist", "unavailable");
  if (self->on_error == RM_ON_ERROR_FAIL) return rc;
  self->failed = true;
  return RM_DONE;
}

static void destroy(redmoon_op *op) {
  rm_call_fini(&((check_op *)op)->call);
  rm_free(op);
}

static const rm_op_class check_class = {step, finish, destroy, rm_call_outcome};

/* Requests. */

static int check_number(const char *what, int64_t value, redmoon_error *err) {
  if (value >= 0 && value <= INT64_C(9007199254740991)) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "blocklist %s: %" PRId64 " is not accepted; give 0 to 9007199254740991", what,
                 value);
}

static bool is_given(redmoon_bytes id) { return id.ptr != NULL || id.len > 0; }

static int read_claims(const redmoon_claims *given, claim *c, redmoon_error *err) {
  int status = 0;
  *c = (claim){0, given->iat_s, given->ver == REDMOON_UNSET ? 0 : given->ver};
  if (is_given(given->jti)) c->asks |= ASKS_TOKEN;
  if (is_given(given->sub)) c->asks |= ASKS_SUBJECT;
  if (is_given(given->family)) c->asks |= ASKS_FAMILY;
  if (c->asks == 0)
    return rm_fail(err, REDMOON_ECONFIG, "blocklist check: give one of jti, sub and family at least");
  if (c->asks & ASKS_TOKEN) status = rm_blocklist_check_id("jti", given->jti, err);
  if (status == 0 && (c->asks & ASKS_FAMILY)) status = rm_blocklist_check_id("family", given->family, err);
  if (status < 0 || (c->asks & ASKS_SUBJECT) == 0) return status;
  status = rm_blocklist_check_id("sub", given->sub, err);
  if (status == 0 && given->iat_s == REDMOON_UNSET)
    status = rm_fail(err, REDMOON_ECONFIG, "blocklist check: sub needs iat, the token's time of issue in seconds");
  if (status == 0) status = check_number("iat", c->iat_s, err);
  if (status == 0) status = check_number("ver", c->ver, err);
  return status;
}

/* A read of the object's key, and its PTTL. */
static int ask(check_op *self, const redmoon_blocklist *list, rm_hash_role role, redmoon_bytes id,
               const char *const words[], int words_len, redmoon_error *err) {
  redmoon_bytes key;
  int status = rm_blocklist_key(list, role, id, &key, err);
  if (status < 0) return status;
  const char *argv[4] = {words[0], key.ptr}, *const pttl[] = {"PTTL", key.ptr};
  size_t lens[4] = {strlen(words[0]), key.len};
  const size_t pttl_lens[] = {4, key.len};
  for (int i = 1; i < words_len; i++) {
    argv[i + 1] = words[i];
    lens[i + 1] = strlen(words[i]);
  }
  status = rm_call_argv(&self->call, words_len + 1, argv, lens, RM_CALL_REPEATABLE, err);
  if (status == 0) status = rm_call_argv(&self->call, 2, pttl, pttl_lens, RM_CALL_REPEATABLE, err);
  rm_key_free(&key);
  return status;
}

static int add_claims(check_op *self, const redmoon_blocklist *list, const redmoon_claims *given, claim *c,
                      redmoon_error *err) {
  int status = read_claims(given, c, err);
  if (status == 0 && (c->asks & ASKS_TOKEN))
    status = ask(self, list, RM_HASH_TOKEN, given->jti, (const char *const[]){"GET"}, 1, err);
  if (status == 0 && (c->asks & ASKS_SUBJECT))
    status = ask(self, list, RM_HASH_SUBJECT, given->sub, (const char *const[]){"HMGET", "cut", "ver"}, 3, err);
  if (status == 0 && (c->asks & ASKS_FAMILY))
    status = ask(self, list, RM_HASH_FAMILY, given->family, (const char *const[]){"HGET", "dead"}, 2, err);
  return status;
}

int redmoon_blocklist_check_many_start(redmoon_blocklist *list, const redmoon_claims *claims, size_t count,
                                       redmoon_check_result *out, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (count < 1 || count > REDMOON_BLOCKLIST_MANY_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "blocklist check: %zu tokens are not accepted; give 1 to %d", count,
                   REDMOON_BLOCKLIST_MANY_MAX);
  check_op *self = rm_calloc(1, sizeof *self + count * sizeof self->claims[0]);
  if (self == NULL) return rm_fail_nomem(err);
  rm_call_init(&self->call, list->client, true);
  self->call.op.class = &check_class;
  self->on_error = list->on_error;
  self->out = out;
  self->count = count;
  int status = 0;
  for (size_t i = 0; status == 0 && i < count; i++) status = add_claims(self, list, &claims[i], &self->claims[i], err);
  if (status < 0) {
    destroy(&self->call.op);
    return status;
  }
  *op = &self->call.op;
  return 0;
}

int redmoon_blocklist_check_many(redmoon_blocklist *list, const redmoon_claims *claims, size_t count,
                                 redmoon_check_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_blocklist_check_many_start(list, claims, count, out, &op, err), &op, err);
}

int redmoon_blocklist_check_start(redmoon_blocklist *list, const redmoon_claims *claims, redmoon_check_result *out,
                                  redmoon_op **op, redmoon_error *err) {
  return redmoon_blocklist_check_many_start(list, claims, 1, out, op, err);
}

int redmoon_blocklist_check(redmoon_blocklist *list, const redmoon_claims *claims, redmoon_check_result *out,
                            redmoon_error *err) {
  return redmoon_blocklist_check_many(list, claims, 1, out, err);
}
