/* SPDX-License-Identifier: MIT */
/* The counter: its options checked once, then one script for each request.  Nothing is kept on the client's side. */
#include <redmoon/counter.h>

#include "base/alloc.h"
#include "base/digits.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/script_many.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
enum { MAX_NAME = 64 };
enum { BY, MIN, MAX, BOUNDS, MODE, LIFE, ARGS }; /* arguments of counter_increment */
static const int64_t max_window_ms = INT64_C(366) * 24 * 3600 * 1000;

struct redmoon_counter {
  redmoon_client *client;
  redmoon_bytes args[ARGS]; /* as the script takes them, but BY; static, or one of: */
  char min_text[RM_DIGITS_MAX], max_text[RM_DIGITS_MAX], life_text[RM_DIGITS_MAX];
  char part[MAX_NAME + sizeof ".minute"]; /* last word of its keys */
};

/* Options. */

static int check_name(const char *name, redmoon_error *err) {
  if (name == NULL) name = "";
  size_t len = strlen(name);
  if (len >= 1 && len <= MAX_NAME && strspn(name, NAME_BYTES) == len) return 0;
  char shown[100];
  rm_escape(shown, sizeof shown, name, len);
  return rm_fail(err, REDMOON_ECONFIG,
                 "counter name: '%s' is not accepted; give 1 to %d letters, digits, '.', '_' and '-'", shown, MAX_NAME);
}

/* The word of `words` that `given` is (NULL: the first), or NULL. */
static const char *find_word(const char *const *words, size_t count, const char *given) {
  for (size_t i = 0; i < count; i++)
    if (given == NULL || strcmp(words[i], given) == 0) return words[i];
  return NULL;
}

static int refuse_word(const char *option, const char *given, const char *accepts, redmoon_error *err) {
  char shown[100];
  rm_escape(shown, sizeof shown, given, strlen(given));
  return rm_fail(err, REDMOON_ECONFIG, "counter option %s: '%s' is not accepted; give %s", option, shown, accepts);
}

static int check_duration(const char *option, int64_t ms, redmoon_error *err) {
  if (ms == REDMOON_UNSET || (ms >= 1 && ms <= max_window_ms)) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "counter option %s: %" PRId64 " ms is not accepted; give 1 to %" PRId64 " ms (366 days)", option, ms,
                 max_window_ms);
}

/* When a count ends: as the script takes it. */
static int read_end(const redmoon_counter_options *options, const char **mode, int64_t *life_ms, redmoon_error *err) {
  static const char *const modes[] = {"window", "sliding"}, *const periods[] = {"minute", "hour", "day", "month"};
  bool window = options->window_ms != REDMOON_UNSET, ttl = options->ttl_ms != REDMOON_UNSET;
  if (window + ttl + (options->calendar != NULL) > 1)
    return rm_fail(err, REDMOON_ECONFIG, "counter options window, calendar and ttl: give one of them at most");
  if (options->mode != NULL && !window)
    return rm_fail(err, REDMOON_ECONFIG, "counter option mode is that of a window; give the option window, too");
  int status = check_duration("window", options->window_ms, err);
  if (status == 0) status = check_duration("ttl", options->ttl_ms, err);
  if (status < 0) return status;
  *life_ms = window ? options->window_ms : ttl ? options->ttl_ms : 0;
  *mode = ttl ? "sliding" : "keep";
  if (window && (*mode = find_word(modes, 2, options->mode)) == NULL)
    return refuse_word("mode", options->mode, "\"window\" or \"sliding\"", err);
  if (options->calendar != NULL && (*mode = find_word(periods, 4, options->calendar)) == NULL)
    return refuse_word("calendar", options->calendar, "\"minute\", \"hour\", \"day\" or \"month\"", err);
  return 0;
}

static int check_bounds(const redmoon_counter_options *options, redmoon_error *err) {
  if (options->min > options->max)
    return rm_fail(err, REDMOON_ECONFIG,
                   "counter options min and max: %" PRId64 " and %" PRId64 " are not accepted; min is at most max",
                   options->min, options->max);
  if (options->saturate == 0 || options->saturate == 1) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "counter option saturate: %" PRId64 " is not accepted; give 0 or 1",
                 options->saturate);
}

static redmoon_bytes text_of(const char *text) { return (redmoon_bytes){text, strlen(text)}; }
static redmoon_bytes digits_of(char text[RM_DIGITS_MAX], int64_t value) {
  return (redmoon_bytes){text, rm_int64_put(text, value)};
}

int redmoon_counter_new(redmoon_client *client, const char *name, const redmoon_counter_options *options,
                        redmoon_counter **out, redmoon_error *err) {
  static const redmoon_counter_options none = REDMOON_COUNTER_OPTIONS_INIT;
  if (options == NULL) options = &none;
  *out = NULL;
  const char *mode = NULL;
  int64_t life_ms = 0;
  int status = check_name(name, err);
  if (status == 0) status = read_end(options, &mode, &life_ms, err);
  if (status == 0) status = check_bounds(options, err);
  if (status < 0) return status;
  redmoon_counter *counter = rm_calloc(1, sizeof *counter);
  if (counter == NULL) return rm_fail_nomem(err);
  counter->client = redmoon_client_ref(client);
  counter->args[MIN] = digits_of(counter->min_text, options->min);
  counter->args[MAX] = digits_of(counter->max_text, options->max);
  counter->args[BOUNDS] = text_of(options->saturate ? "clamp" : "refuse");
  counter->args[MODE] = text_of(mode);
  counter->args[LIFE] = digits_of(counter->life_text, life_ms);
  snprintf(counter->part, sizeof counter->part, "%s.%s", name, options->calendar != NULL ? mode : "count");
  *out = counter;
  return 0;
}

void redmoon_counter_free(redmoon_counter *counter) {
  if (counter == NULL) return;
  redmoon_client_close(counter->client);
  rm_free(counter);
}

/* Answers. */

static int no_sense(redmoon_error *err, size_t place) {
  rm_fail(err, REDMOON_EPROTOCOL, "counter: the script's answer has no 64-bit integer at place %zu", place);
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  return REDMOON_EPROTOCOL;
}

/* An integer reply, or a text of 64 bits. */
static bool integer_of(const redmoon_reply *item, int64_t *out) {
  if (item == NULL) return false;
  if (redmoon_reply_type(item) == REDMOON_INTEGER) {
    *out = redmoon_reply_integer(item);
    return true;
  }
  size_t len = 0;
  const char *text = redmoon_reply_string(item, &len);
  return text != NULL && rm_int64_read(text, len, out);
}

static int decode(redmoon_client *client, const redmoon_reply *reply, redmoon_counter_result *out, redmoon_error *err) {
  int64_t at[4];
  for (size_t i = 0; i < 4; i++)
    if (!integer_of(redmoon_reply_at(reply, i), &at[i])) return no_sense(err, i + 1);
  bool exists = at[3] != -2;
  *out = (redmoon_counter_result){0, exists, at[1], at[2], exists ? at[3] : 0};
  const char *result = at[0] == RM_STATUS_COUNT_REFUSED ? "refused" : at[0] == RM_STATUS_COUNT_CLAMPED ? "clamped" : NULL;
  if (result == NULL && at[2] != 0) result = "counted";
  if (result != NULL) rm_client_count(client, "counter", result);
  return 0;
}

/* One request under way. */
typedef struct counter_call {
  redmoon_client *client; /* a reference */
  redmoon_counter_result *out;
  redmoon_error *errors; /* of many; NULL: not wanted */
} counter_call;

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  counter_call *call = ctx;
  redmoon_client_close(call->client);
  rm_free(call);
}

static counter_call *call_new(redmoon_counter *counter, redmoon_counter_result *out, redmoon_error *errors,
                              redmoon_error *err) {
  counter_call *call = rm_alloc(sizeof *call);
  if (call == NULL) {
    rm_fail_nomem(err);
    return NULL;
  }
  *call = (counter_call){redmoon_client_ref(counter->client), out, errors};
  return call;
}

static int decode_one(void *ctx, const rm_answer *answer, redmoon_error *err) {
  counter_call *call = ctx;
  return decode(call->client, answer->reply, call->out, err);
}

static void tell(redmoon_counter_result *results, redmoon_error *errors, size_t index, const redmoon_error *why) {
  results[index] = (redmoon_counter_result){.status = why->status};
  if (errors != NULL) errors[index] = *why;
}

static void decode_each(void *ctx, size_t index, const redmoon_reply *reply, const redmoon_error *failure) {
  counter_call *call = ctx;
  redmoon_error why;
  if (reply == NULL) {
    tell(call->out, call->errors, index, failure);
    return;
  }
  rm_error_clear(&why);
  int status;
  if (redmoon_reply_type(reply) == REDMOON_ERROR) {
    size_t len;
    const char *text = redmoon_reply_string(reply, &len);
    status = rm_fail_server(&why, text, len);
  } else {
    status = decode(call->client, reply, &call->out[index], &why);
  }
  if (status < 0) tell(call->out, call->errors, index, &why);
  else if (call->errors != NULL) call->errors[index] = why;
}

/* Requests. */

/* Keys and arguments of one run of a script. */
typedef struct run_text {
  redmoon_bytes keys[2], args[ARGS];
  char by[RM_DIGITS_MAX];
} run_text;

static void run_free(run_text *run) {
  for (size_t i = 0; i < 2; i++) rm_key_free(&run->keys[i]);
}

/* Zeroed memory -> what counts this item.  After a failure there is nothing to free. */
static int run_build(const redmoon_counter *counter, const redmoon_counter_item *item, run_text *text,
                     rm_builtin_run *run, redmoon_error *err) {
  const char *prefix = rm_client_key_prefix(counter->client);
  int status = rm_name_check("counter key", item->key, item->key_len, err);
  if (status == 0) status = rm_request_id_check(item->request_id, err);
  if (status == 0) status = rm_key_build(prefix, item->key, item->key_len, counter->part, &text->keys[0], err);
  if (status == 0 && item->request_id != NULL)
    status = rm_request_key_build(prefix, item->key, item->key_len, counter->part, item->request_id, &text->keys[1], err);
  if (status < 0) {
    run_free(text);
    return status;
  }
  memcpy(text->args, counter->args, sizeof text->args);
  text->args[BY] = digits_of(text->by, item->by);
  run->args = (redmoon_script_args){text->keys, item->request_id != NULL ? 2 : 1, text->args, ARGS};
  run->flags = item->request_id != NULL || item->by == 0 ? RM_CALL_REPEATABLE : 0;
  return 0;
}

int redmoon_counter_increment_start(redmoon_counter *counter, const void *key, size_t key_len, int64_t by,
                                    const char *request_id, redmoon_counter_result *out, redmoon_op **op,
                                    redmoon_error *err) {
  *op = NULL;
  const redmoon_counter_item item = {key, key_len, by, request_id};
  run_text text = {0};
  rm_builtin_run run;
  int status = run_build(counter, &item, &text, &run, err);
  if (status < 0) return status;
  counter_call *call = call_new(counter, out, NULL, err);
  if (call == NULL) status = REDMOON_ENOMEM;
  else status = rm_builtin_start(counter->client, &rm_script_counter_increment, &run.args, run.flags, decode_one,
                                 call_drop, call, op, err);
  run_free(&text);
  return status;
}

int redmoon_counter_increment(redmoon_counter *counter, const void *key, size_t key_len, int64_t by,
                              const char *request_id, redmoon_counter_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_counter_increment_start(counter, key, key_len, by, request_id, out, &op, err), &op, err);
}

static int check_count(size_t count, redmoon_error *err) {
  if (count >= 1 && count <= REDMOON_COUNTER_MANY_MAX) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "counter: %zu items are not accepted; give 1 to %d", count,
                 REDMOON_COUNTER_MANY_MAX);
}

/* Builds all runs, then starts them; nothing of them is needed after that. */
static int many_start(redmoon_counter *counter, const redmoon_counter_item *items, size_t count,
                      redmoon_counter_result *results, redmoon_error *errors, redmoon_op **op, redmoon_error *err) {
  int status = check_count(count, err);
  if (status < 0) return status;
  run_text *texts = rm_calloc(count, sizeof *texts);
  rm_builtin_run *runs = rm_calloc(count, sizeof *runs);
  size_t built = 0;
  if (texts == NULL || runs == NULL) status = rm_fail_nomem(err);
  while (status == 0 && built < count) {
    status = run_build(counter, &items[built], &texts[built], &runs[built], err);
    if (status == 0) built++;
  }
  counter_call *call = status == 0 ? call_new(counter, results, errors, err) : NULL;
  if (call != NULL)
    status = rm_builtin_many_start(counter->client, &rm_script_counter_increment, runs, count, decode_each, call_drop,
                                   call, op, err);
  else if (status == 0)
    status = REDMOON_ENOMEM;
  while (built > 0) run_free(&texts[--built]);
  rm_free(texts);
  rm_free(runs);
  return status;
}

int redmoon_counter_increment_many_start(redmoon_counter *counter, const redmoon_counter_item *items, size_t count,
                                         redmoon_counter_result *results, redmoon_error *errors, redmoon_op **op,
                                         redmoon_error *err) {
  *op = NULL;
  return many_start(counter, items, count, results, errors, op, err);
}

int redmoon_counter_increment_many(redmoon_counter *counter, const redmoon_counter_item *items, size_t count,
                                   redmoon_counter_result *results, redmoon_error *errors, redmoon_error *err) {
  redmoon_error why;
  redmoon_op *op = NULL;
  int status = many_start(counter, items, count, results, errors, &op, &why);
  if (status == 0) return rm_run(status, &op, err);
  for (size_t i = 0; i < count && check_count(count, NULL) == 0; i++) tell(results, errors, i, &why);
  if (err != NULL) *err = why;
  return status;
}

/* A request that reads or forgets; `mode`: it takes the counter's as its argument. */
static int simple_start(redmoon_counter *counter, const rm_builtin *script, const void *key, size_t key_len, bool mode,
                        rm_decode_fn decode_answer, redmoon_counter_result *out, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  redmoon_bytes full = {NULL, 0};
  int status = rm_name_check("counter key", key, key_len, err);
  if (status == 0) {
    const char *prefix = rm_client_key_prefix(counter->client);
    status = rm_key_build(prefix, key, key_len, counter->part, &full, err);
  }
  if (status < 0) return status;
  counter_call *call = call_new(counter, out, NULL, err);
  const redmoon_script_args all = {&full, 1, &counter->args[MODE], mode ? 1 : 0};
  if (call == NULL) status = REDMOON_ENOMEM;
  else status = rm_builtin_start(counter->client, script, &all, RM_CALL_REPEATABLE, decode_answer, call_drop, call, op, err);
  rm_key_free(&full);
  return status;
}

int redmoon_counter_get_start(redmoon_counter *counter, const void *key, size_t key_len, redmoon_counter_result *out,
                              redmoon_op **op, redmoon_error *err) {
  return simple_start(counter, &rm_script_counter_get, key, key_len, true, decode_one, out, op, err);
}

int redmoon_counter_get(redmoon_counter *counter, const void *key, size_t key_len, redmoon_counter_result *out,
                        redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_counter_get_start(counter, key, key_len, out, &op, err), &op, err);
}

int redmoon_counter_reset_start(redmoon_counter *counter, const void *key, size_t key_len, redmoon_op **op,
                                redmoon_error *err) {
  return simple_start(counter, &rm_script_counter_reset, key, key_len, false, NULL, NULL, op, err);
}

int redmoon_counter_reset(redmoon_counter *counter, const void *key, size_t key_len, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_counter_reset_start(counter, key, key_len, &op, err), &op, err);
}
