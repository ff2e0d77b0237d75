/* SPDX-License-Identifier: MIT */
/* Scripts: users' own and the built-in ones; EVALSHA first, the call falls back to EVAL. */
#include "engine/script.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"

#include <openssl/evp.h>
#include <stdatomic.h>

struct redmoon_script {
  atomic_int refs;
  char *source;
  size_t len;
  bool read_only;
  char sha1[41];
};

/* The server names scripts by SHA-1; it is an identity here, not a protection. */
static int hash(const void *source, size_t len, char sha1[41]) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(source, len, digest, &size, EVP_sha1(), NULL) != 1 || size != 20) return REDMOON_EUNAVAILABLE;
  static const char digits[] = "0123456789abcdef";
  for (unsigned i = 0; i < size; i++) {
    sha1[2 * i] = digits[digest[i] >> 4];
    sha1[2 * i + 1] = digits[digest[i] & 15];
  }
  sha1[40] = '\0';
  return 0;
}

/* "#!lua flags=a,no-writes" as the first line. */
static bool says_no_writes(const char *source, size_t len) {
  static const char word[] = "no-writes";
  if (len < 5 || memcmp(source, "#!lua", 5) != 0) return false;
  const char *end = memchr(source, '\n', len);
  size_t line = end != NULL ? (size_t)(end - source) : len;
  for (size_t i = 5; i + sizeof word - 1 <= line; i++)
    if (memcmp(source + i, word, sizeof word - 1) == 0) return true;
  return false;
}

int redmoon_script_new(const void *source, size_t len, redmoon_script **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  if (source == NULL || len == 0) return rm_fail(err, REDMOON_ECONFIG, "a script needs a source; an empty one was given");
  redmoon_script *script = rm_calloc(1, sizeof *script);
  if (script == NULL) return rm_fail_nomem(err);
  atomic_init(&script->refs, 1);
  script->source = rm_strndup(source, len);
  script->len = len;
  if (script->source == NULL) {
    redmoon_script_unref(script);
    return rm_fail_nomem(err);
  }
  script->read_only = says_no_writes(script->source, len);
  if (hash(source, len, script->sha1) != 0) {
    redmoon_script_unref(script);
    return rm_fail(err, REDMOON_EUNAVAILABLE, "OpenSSL offers no SHA-1, by which servers name scripts");
  }
  *out = script;
  return 0;
}

redmoon_script *redmoon_script_ref(redmoon_script *script) {
  atomic_fetch_add(&script->refs, 1);
  return script;
}

void redmoon_script_unref(redmoon_script *script) {
  if (script == NULL || atomic_fetch_sub(&script->refs, 1) != 1) return;
  rm_free(script->source);
  rm_free(script);
}

const char *redmoon_script_sha1(const redmoon_script *script) { return script->sha1; }
redmoon_bytes rm_script_source(const redmoon_script *script) { return (redmoon_bytes){script->source, script->len}; }
unsigned rm_script_flags(const redmoon_script *script) { return script->read_only ? RM_CALL_REPEATABLE | RM_CALL_READS : 0; }

/* Running one. */

typedef struct script_op {
  rm_call call;           /* first: its op is this one's */
  redmoon_script *script; /* a reference; NULL: built in */
  redmoon_reply **out;    /* of a user's script */
  rm_decode_fn decode;    /* of a built-in one */
  rm_drop_fn drop;
  void *ctx;
} script_op;

static int finish(redmoon_op *op, redmoon_error *err) {
  script_op *self = (script_op *)op;
  const redmoon_reply *reply = self->call.results[0].reply;
  if (self->out != NULL || reply->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, self->out, err);
  const rm_answer answer = {reply, self->call.attempt, self->call.was_unknown};
  return self->decode != NULL ? self->decode(self->ctx, &answer, err) : 0;
}

static void destroy(redmoon_op *op) {
  script_op *self = (script_op *)op;
  if (self->drop != NULL) self->drop(self->ctx, rm_call_outcome(op));
  redmoon_script_unref(self->script);
  rm_call_delete(&self->call);
}

static const rm_op_class script_class = {rm_call_step, finish, destroy, rm_call_outcome};

static script_op *new_op(redmoon_client *client) {
  script_op *self = rm_call_new(client, sizeof *self);
  if (self != NULL) self->call.op.class = &script_class;
  return self;
}

static int check_args(const redmoon_script_args *args, redmoon_error *err) {
  for (size_t i = 0; i < args->key_count + args->arg_count; i++) {
    const redmoon_bytes *bytes = i < args->key_count ? &args->keys[i] : &args->args[i - args->key_count];
    if (bytes->ptr == NULL && bytes->len != 0)
      return rm_fail(err, REDMOON_ECONFIG, "script %s %zu is NULL", i < args->key_count ? "key" : "argument",
                     (i < args->key_count ? i : i - args->key_count) + 1);
  }
  return 0;
}

int rm_builtin_format(rm_call *call, const rm_builtin *script, const redmoon_script_args *args, unsigned flags,
                      redmoon_error *err) {
  int rc = rm_call_evalsha(call, script->sha1, args, flags, err);
  if (rc == 0) call->script = (redmoon_bytes){script->source, script->len};
  return rc;
}

static int start(script_op *self, const char *sha1, redmoon_bytes source, const redmoon_script_args *args,
                 unsigned flags, redmoon_op **out, redmoon_error *err) {
  static const redmoon_script_args none = {0};
  if (args == NULL) args = &none;
  int rc = check_args(args, err);
  if (rc == 0) rc = rm_call_evalsha(&self->call, sha1, args, flags, err);
  if (rc != 0) {
    destroy(&self->call.op);
    return rc;
  }
  self->call.script = source;
  *out = &self->call.op;
  return 0;
}

int redmoon_script_run_start(redmoon_client *client, redmoon_script *script, const redmoon_script_args *args,
                             redmoon_reply **reply, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  *reply = NULL;
  rm_error_clear(err);
  script_op *self = new_op(client);
  if (self == NULL) return rm_fail_nomem(err);
  self->script = redmoon_script_ref(script);
  self->out = reply;
  return start(self, script->sha1, rm_script_source(script), args, rm_script_flags(script), op, err);
}

int redmoon_script_run(redmoon_client *client, redmoon_script *script, const redmoon_script_args *args,
                       redmoon_reply **reply, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_script_run_start(client, script, args, reply, &op, err), &op, err);
}

int rm_builtin_start(redmoon_client *client, const rm_builtin *script, const redmoon_script_args *args, unsigned flags,
                     rm_decode_fn decode, rm_drop_fn drop, void *ctx, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  script_op *self = new_op(client);
  if (self == NULL) {
    if (drop != NULL) drop(ctx, REDMOON_NOT_SENT);
    return rm_fail_nomem(err);
  }
  self->decode = decode;
  self->drop = drop;
  self->ctx = ctx;
  return start(self, script->sha1, (redmoon_bytes){script->source, script->len}, args, flags, op, err);
}
