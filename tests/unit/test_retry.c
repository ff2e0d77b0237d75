/* SPDX-License-Identifier: MIT */
/* The decision to try again, without a server and in virtual time: every class of error with every outcome, every
 * phase, repeatable or not; the back-off; the deadline.  The client is never dialled. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "engine/call_internal.h"
#include "wire/reply.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS INT64_C(1000)
#define NOW (INT64_C(1000000) * MS)

static redmoon_client *client;
static rm_call call;

static int start(void **state) {
  (void)state;
  return redmoon_client_open("unix:///nowhere/never-dialled", NULL, &client, NULL);
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  return 0;
}

/* A call of `count` commands (at most 4) that is about to fail for the `attempt`th time. */
static void begin(size_t count, const unsigned *flags) {
  static rm_result results[4];
  memset(&call, 0, sizeof call);
  rm_call_init(&call, client, false);
  for (size_t i = 0; i < count; i++) {
    rm_request_begin(&call.request, 1);
    rm_request_text(&call.request, "INCR");
    assert_int_equal(rm_request_end(&call.request, flags[i], rm_command_find("INCR", 4, NULL, 0)->index), 0);
    results[i] = (rm_result){NULL, REDMOON_NOT_SENT};
  }
  call.results = results;
  call.results_cap = 4;
  call.attempt = 1;
  call.deadline_us = NOW + 60000 * MS;
  call.state = CALL_EXCHANGE;
}

static void end(void) {
  call.state = CALL_ENDED;
  call.results = &call.one;
  rm_call_fini(&call);
}

/* Every class of error. */

typedef enum passing { NEVER, FOR_ANOTHER_CALL, IF_IT_SAYS_SO, ALWAYS } passing;
static const struct {
  int status;
  passing passes;
} classes[] = {
    {REDMOON_ETIMEOUT, ALWAYS},        {REDMOON_ECONNECT, ALWAYS},     {REDMOON_EIO, ALWAYS},
    {REDMOON_EPROTOCOL, NEVER},        {REDMOON_ETLS, NEVER},          {REDMOON_ECLOSED, NEVER},
    {REDMOON_EPOOL_TIMEOUT, FOR_ANOTHER_CALL}, {REDMOON_EPOOL_DEADLOCK, NEVER}, {REDMOON_ECONFIG, NEVER},
    {REDMOON_ECODEC, NEVER},           {REDMOON_ENOMEM, NEVER},        {REDMOON_ECONFLICT, NEVER},
    {REDMOON_ELOCKED, NEVER},          {REDMOON_ELOST, NEVER},         {REDMOON_ETOO_LARGE, NEVER},
    {REDMOON_ECANCELLED, NEVER},       {REDMOON_EUNAVAILABLE, IF_IT_SAYS_SO}, {REDMOON_ESERVER, IF_IT_SAYS_SO},
};

typedef struct combo {
  size_t class;
  redmoon_phase phase;
  bool says_so, repeatable, unknown, last, held, late;
} combo;

static void check(const combo *c) {
  unsigned flags = c->repeatable ? RM_CALL_REPEATABLE : 0;
  int status = classes[c->class].status;
  begin(1, &flags);
  call.max_retries = 3;
  call.attempt = c->last ? 4 : 3;
  call.began_held = c->held;
  call.deadline_us = c->late ? NOW : NOW + 60000 * MS;
  call.results[0].outcome = c->unknown ? REDMOON_UNKNOWN : REDMOON_NOT_SENT;
  rm_fail_phase(&call.op.error, status, c->phase, "it failed");
  call.op.error.retryable = c->says_so;
  int got = rm_call_attempt_failed(&call, NOW);
  bool harmless = !c->unknown || c->repeatable;
  bool passes = classes[c->class].passes == ALWAYS || (classes[c->class].passes == IF_IT_SAYS_SO && c->says_so);
  bool says = (passes || classes[c->class].passes == FOR_ANOTHER_CALL) && harmless;
  bool again = passes && harmless && !c->last && !c->held && !c->late;
  const redmoon_error *err = &call.op.error;
  bool right = got == (again ? RM_WAIT : status) && err->status == status && err->phase == c->phase &&
               err->outcome == (c->unknown ? REDMOON_UNKNOWN : REDMOON_NOT_SENT) &&
               err->retryable == says && err->attempts == call.attempt &&
               (call.state == CALL_BACKOFF) == again;
  if (right && again) right = call.backoff_until_us >= NOW && call.backoff_until_us < call.deadline_us;
  end();
  if (!right)
    fail_msg("%s in phase '%s'%s%s%s%s%s%s: got %d", redmoon_status_code(status), redmoon_phase_name(c->phase),
             c->says_so ? ", says it passes" : "", c->repeatable ? ", repeatable" : "", c->unknown ? ", unknown" : "",
             c->last ? ", last attempt" : "", c->held ? ", on a held connection" : "", c->late ? ", too late" : "", got);
}

static void each_class_of_error_is_retried_where_that_cannot_act_twice(void **state) {
  (void)state;
  size_t count = 0;
  for (size_t class = 0; class < sizeof classes / sizeof classes[0]; class++)
    for (int phase = REDMOON_PHASE_NONE; phase <= REDMOON_PHASE_BACKOFF; phase++)
      for (unsigned bits = 0; bits < 64; bits++, count++)
        check(&(combo){class, (redmoon_phase)phase, bits & 1, bits & 2, bits & 4, bits & 8, bits & 16, bits & 32});
  print_message("%zu combinations\n", count);
  assert_int_equal(count, 18 * 9 * 64);
}

/* The first `answered` commands were answered, those up to `sent` were sent, the rest was not. */
static void check_sequence(size_t answered, size_t sent, unsigned repeatable) {
  unsigned flags[3];
  bool harmless = true;
  for (size_t i = 0; i < 3; i++) flags[i] = (repeatable >> i & 1) != 0 ? RM_CALL_REPEATABLE : 0;
  begin(3, flags);
  call.max_retries = 1;
  call.answered = answered;
  for (size_t i = 0; i < 3; i++) {
    call.results[i].outcome = i < answered ? REDMOON_ANSWERED : i < sent ? REDMOON_UNKNOWN : REDMOON_NOT_SENT;
    if (i >= answered && i < sent && flags[i] == 0) harmless = false;
  }
  rm_fail_phase(&call.op.error, REDMOON_EIO, REDMOON_PHASE_RECEIVE, "it failed");
  int got = rm_call_attempt_failed(&call, NOW);
  assert_int_equal(got, harmless ? RM_WAIT : REDMOON_EIO);
  assert_int_equal(call.op.error.retryable, harmless);
  assert_int_equal(call.op.error.outcome, sent > answered ? REDMOON_UNKNOWN : REDMOON_NOT_SENT);
  end();
}

static void a_sequence_is_retried_only_if_all_that_may_have_been_executed_is_repeatable(void **state) {
  (void)state;
  for (size_t answered = 0; answered < 3; answered++)
    for (size_t sent = answered; sent <= 3; sent++)
      for (unsigned repeatable = 0; repeatable < 8; repeatable++) check_sequence(answered, sent, repeatable);
}

/* The back-off. */

static int64_t draw(int attempt) {
  call.attempt = attempt;
  call.state = CALL_EXCHANGE;
  rm_fail_phase(&call.op.error, REDMOON_ECONNECT, REDMOON_PHASE_DIAL, "it failed");
  assert_int_equal(rm_call_attempt_failed(&call, NOW), RM_WAIT);
  return call.backoff_until_us - NOW;
}

static void the_back_off_is_full_jitter_below_a_bound_that_doubles(void **state) {
  (void)state;
  enum { DRAWS = 10000 };
  static const int64_t bounds_ms[] = {8, 16, 32, 64, 128, 256, 512, 512, 512, 512};
  unsigned none = 0;
  begin(1, &none);
  call.max_retries = 1000;
  for (int attempt = 1; attempt <= 10; attempt++) {
    int64_t bound = bounds_ms[attempt - 1] * MS, least = INT64_MAX, most = 0, sum = 0;
    for (int i = 0; i < DRAWS; i++) {
      int64_t delay = draw(attempt);
      assert_true(delay >= 0 && delay <= bound);
      least = rm_min64(least, delay);
      most = rm_max64(most, delay);
      sum += delay;
    }
    /* Of 10,000 uniform draws; the mean is off by 5 % of the bound once in 10^60 runs. */
    assert_true(least < bound / 50 && most > bound - bound / 50);
    assert_true(sum / DRAWS > bound * 45 / 100 && sum / DRAWS < bound * 55 / 100);
  }
  assert_true(draw(1000) <= 512 * MS);
  end();
}

static void without_a_back_off_the_next_attempt_begins_at_once(void **state) {
  (void)state;
  unsigned none = 0;
  client->settings.min_backoff_us = client->settings.max_backoff_us = 0;
  begin(1, &none);
  call.max_retries = 1000;
  for (int attempt = 1; attempt < 100; attempt++) assert_int_equal(draw(attempt), 0);
  end();
}

static uint64_t random_state;

static int64_t upto(int64_t bound) {
  random_state ^= random_state << 13; /* xorshift64: Marsaglia, 2003 */
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (int64_t)(random_state % (uint64_t)(bound + 1));
}

/* One call from its begin to its end, each attempt lasting as long as it pleases. */
static void live_through_one(void) {
  rm_settings *settings = &client->settings;
  settings->min_backoff_us = upto(100) * MS;
  settings->max_backoff_us = settings->min_backoff_us + upto(1000) * MS;
  unsigned none = 0;
  begin(1, &none);
  call.max_retries = (int)upto(20);
  call.deadline_us = NOW + upto(3000) * MS;
  int64_t now_us = NOW;
  for (call.attempt = 1;; call.attempt++) {
    now_us += upto(200) * MS;
    call.state = CALL_EXCHANGE;
    rm_fail_phase(&call.op.error, REDMOON_ECONNECT, REDMOON_PHASE_DIAL, "it failed");
    if (rm_call_attempt_failed(&call, now_us) != RM_WAIT) break;
    assert_true(call.backoff_until_us >= now_us);
    assert_true(call.backoff_until_us < call.deadline_us);
    now_us = call.backoff_until_us;
  }
  assert_true(call.attempt <= call.max_retries + 1);
  assert_int_equal(call.op.error.attempts, call.attempt);
  end();
}

static void no_attempt_begins_beyond_the_deadline_or_the_last_retry(void **state) {
  (void)state;
  const char *seed = getenv("SEED");
  random_state = seed != NULL ? strtoull(seed, NULL, 10) : 20261122;
  print_message("SEED=%llu\n", (unsigned long long)random_state);
  if (random_state == 0) random_state = 1;
  for (int i = 0; i < 100000; i++) live_through_one();
}

/* Error replies. */

#define READONLY "READONLY You can't write against a read only replica."

static const struct {
  const char *text;
  bool again;
} replies[] = {
    {"LOADING Redis is loading the dataset in memory", true},
    {"LOADING Valkey is loading the dataset in memory", true},
    {"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", true},
    {"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", true},
    {"CLUSTERDOWN The cluster is down", true},
    {"CLUSTERDOWN Hash slot not served", true},
    {"TRYAGAIN Multiple keys request during rehashing of slot", true},
    {READONLY, true},
    {READONLY " script: 2fa, on @user_script:1.", true},
    {"ERR Error running script (call to f_2fa): @user_script:1: -" READONLY, true},
    /* What a script or a module may say after it has written. */
    {"LOADING trucks", false}, {"BUSY queue full", false}, {"MASTERDOWN no", false}, {"CLUSTERDOWN no", false},
    {"TRYAGAIN later", false}, {"READONLY account", false}, {"ERR wrapped -READONLY account", false},
    {"ERR unknown", false},  {"LOADINGX no", false}, {"BUSYKEY exists", false}, {"BUSYGROUP exists", false},
    {"WRONGTYPE no", false}, {"OOM no", false},      {"MISCONF no", false},     {"NOPERM no", false},
    {"NOAUTH no", false},    {"EXECABORT no", false}, {"MOVED 1 a:1", false},   {"ASK 1 a:1", false},
    {"NOSCRIPT no", false},  {"NOREPLICAS no", false}, {"", false},
};

static int reply_retries(const char *text, unsigned flags, size_t count, int attempt, int64_t deadline_us) {
  static redmoon_reply reply;
  static char copy[160];
  snprintf(copy, sizeof copy, "%s", text);
  reply = (redmoon_reply){.type = REDMOON_ERROR, .len = strlen(text)};
  reply.as.text = copy;
  const unsigned each[] = {flags, flags};
  begin(count, each);
  call.max_retries = 3;
  call.attempt = attempt;
  call.deadline_us = deadline_us;
  for (size_t i = 0; i < count; i++) call.results[i] = (rm_result){&reply, REDMOON_ANSWERED};
  call.answered = count;
  return rm_call_reply_retries(&call, NOW);
}

static void a_reply_that_says_not_executed_is_retried_within_the_same_limits(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
    const char *text = replies[i].text;
    assert_int_equal(reply_retries(text, 0, 1, 1, NOW + 60000 * MS), replies[i].again ? RM_WAIT : RM_DONE);
    if (replies[i].again) {
      assert_int_equal(call.state, CALL_BACKOFF);
      assert_int_equal(call.results[0].outcome, REDMOON_NOT_SENT);
      assert_null(call.results[0].reply);
      assert_int_equal(call.answered, 0);
    } else {
      assert_int_equal(call.results[0].outcome, REDMOON_ANSWERED);
    }
    end();
    assert_int_equal(reply_retries(text, 0, 1, 4, NOW + 60000 * MS), RM_DONE); /* the last attempt */
    assert_int_equal(call.results[0].outcome, REDMOON_ANSWERED);
    end();
    assert_int_equal(reply_retries(text, 0, 1, 1, NOW), RM_DONE); /* no time left */
    end();
    assert_int_equal(reply_retries(text, 0, 2, 1, NOW + 60000 * MS), RM_DONE); /* in a pipeline it is an answer */
    end();
  }
}

static void of_a_command_that_may_be_repeated_the_code_is_enough(void **state) {
  (void)state;
  static const char *const texts[] = {"LOADING x", "BUSY x", "MASTERDOWN x", "CLUSTERDOWN x", "TRYAGAIN x"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    assert_int_equal(reply_retries(texts[i], RM_CALL_REPEATABLE, 1, 1, NOW + 60000 * MS), RM_WAIT);
    end();
  }
}

static void readonly_is_retried_once_and_at_once(void **state) {
  (void)state;
  assert_int_equal(reply_retries(READONLY, 0, 1, 1, NOW + 60000 * MS), RM_WAIT);
  assert_int_equal(call.backoff_until_us, NOW);
  assert_true(call.redialled);
  end();
  unsigned none = 0;
  char text[] = READONLY;
  redmoon_reply reply = {.type = REDMOON_ERROR, .len = sizeof text - 1};
  reply.as.text = text;
  begin(1, &none);
  call.max_retries = 3;
  call.redialled = true;
  call.results[0] = (rm_result){&reply, REDMOON_ANSWERED};
  assert_int_equal(rm_call_reply_retries(&call, NOW), RM_DONE);
  end();
}

/* How long a command may wait on the server. */

static void the_time_that_a_command_may_wait_on_the_server_is_read_from_its_arguments(void **state) {
  (void)state;
  static const struct {
    const char *argv[8];
    int64_t us;
  } table[] = {
      {{"BLPOP", "k", "5"}, 5000 * MS},
      {{"BLPOP", "a", "b", "0.25"}, 250 * MS},
      {{"BLPOP", "k", "0"}, RM_FOREVER},
      {{"BLPOP", "k", "0.0"}, RM_FOREVER},
      {{"BLPOP", "k", "99999999999999999999"}, RM_FOREVER},
      {{"BLPOP", "k", "soon"}, 0}, /* the server will refuse it */
      {{"BLPOP", "k", "-1"}, 0},
      {{"BLMOVE", "a", "b", "LEFT", "RIGHT", "1.5"}, 1500 * MS},
      {{"WAIT", "1", "250"}, 250 * MS},
      {{"XREAD", "BLOCK", "100", "STREAMS", "s", "$"}, 100 * MS},
      {{"XREAD", "count", "1", "block", "0", "STREAMS", "s", "$"}, RM_FOREVER},
      {{"XREAD", "STREAMS", "s", "0"}, 0},
      {{"XREAD", "STREAMS", "block", "0"}, 0}, /* the name of a stream */
      {{"XREADGROUP", "GROUP", "block", "0", "STREAMS", "s", ">"}, 0},
      {{"XREADGROUP", "GROUP", "g", "c", "BLOCK", "70", "STREAMS", "s"}, 70 * MS},
      {{"GET", "k"}, 0},
  };
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    int argc = 0;
    while (argc < 8 && table[i].argv[argc] != NULL) argc++;
    rm_call own;
    memset(&own, 0, sizeof own);
    rm_call_init(&own, client, false);
    assert_int_equal(rm_call_argv(&own, argc, table[i].argv, NULL, 0, NULL), 0);
    if (rm_call_block_us(&own) != table[i].us)
      fail_msg("row %zu, %s: %lld us", i, table[i].argv[0], (long long)rm_call_block_us(&own));
    rm_call_fini(&own);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
  const struct CMUnitTest tests[] = {
      TEST(each_class_of_error_is_retried_where_that_cannot_act_twice),
      TEST(a_sequence_is_retried_only_if_all_that_may_have_been_executed_is_repeatable),
      TEST(the_back_off_is_full_jitter_below_a_bound_that_doubles),
      TEST(without_a_back_off_the_next_attempt_begins_at_once),
      TEST(no_attempt_begins_beyond_the_deadline_or_the_last_retry),
      TEST(a_reply_that_says_not_executed_is_retried_within_the_same_limits),
      TEST(of_a_command_that_may_be_repeated_the_code_is_enough),
      TEST(readonly_is_retried_once_and_at_once),
      TEST(the_time_that_a_command_may_wait_on_the_server_is_read_from_its_arguments),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
