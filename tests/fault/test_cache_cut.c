/* SPDX-License-Identifier: MIT */
/* A cache whose Redis is gone: every answer that it gives all the same is counted, and says what it is. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "patterns/cache.h"
#include "support/ask.h"
#include "support/redis_server.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define ENTRY "redmoon:{k}:c.cache"
static const redmoon_cache_key k = {"k", 1, NULL, 0};

typedef struct fixture {
  redis_server *server;
  redmoon_client *client;
} fixture;

static int setup(void **state) {
  static fixture f;
  *state = &f;
  f.server = redis_server_start(NULL);
  char url[200];
  snprintf(url, sizeof url, "%s?timeout=1.5&connect_timeout=1&max_retries=1&min_backoff=0.001&max_backoff=0.002", redis_server_url(f.server));
  return redmoon_client_open(url, NULL, &f.client, NULL);
}

static int teardown(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  redis_server_stop(f->server);
  return 0;
}

static redmoon_cache *cache_of(redmoon_client *client, const char *on_error, int64_t fallback_loads) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "c";
  options.ttl_ms = 600000;
  options.stale_ttl_ms = 600000;
  options.jitter_ppm = 0;
  options.on_error = on_error;
  options.fallback_loads = fallback_loads;
  redmoon_cache *cache;
  redmoon_error err;
  if (redmoon_cache_new(client, &options, &cache, &err) != 0) fail_msg("%s", err.message);
  return cache;
}

static redmoon_cache_stats stats_of(const redmoon_cache *cache) {
  redmoon_cache_stats stats;
  redmoon_cache_get_stats(cache, &stats);
  return stats;
}

static int load(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  (void)keys;
  int *loads = ctx;
  for (size_t i = 0; i < count; i++, ++*loads) out[i] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, "loaded", 6, NULL, NULL, 0};
  return 0;
}

static void every_degraded_answer_is_counted_and_tagged(void **state) {
  fixture *f = *state;
  redmoon_cache *loads = cache_of(f->client, "load", 8), *stale = cache_of(f->client, "stale", 8),
                *fails = cache_of(f->client, "error", 8);
  redmoon_error err;
  redmoon_cache_result out;
  int loaded = 0;
  enum { TURNS = 5 };
  redis_server_kill(f->server);
  for (int i = 0; i < TURNS; i++) {
    assert_int_equal(redmoon_cache_get(loads, &k, load, &loaded, &out, &err), 0);
    assert_memory_equal(out.value, "loaded", 6);
    assert_string_equal(out.source, "fallback");
    assert_int_equal(out.stored, 0);
    assert_true(strcmp(out.code, "CONNECT") == 0 || strcmp(out.code, "IO") == 0);
    redmoon_cache_result_fini(&out);
    assert_true(redmoon_cache_get(stale, &k, load, &loaded, &out, &err) < 0);
    assert_true(err.status == REDMOON_ECONNECT || err.status == REDMOON_EIO);
    assert_true(redmoon_cache_get(fails, &k, load, &loaded, &out, &err) < 0);
    assert_true(err.status == REDMOON_ECONNECT || err.status == REDMOON_EIO);
  }
  assert_int_equal(loaded, TURNS);
  assert_int_equal(stats_of(loads).unavailable, TURNS);
  assert_int_equal(stats_of(loads).fallbacks, TURNS);
  assert_int_equal(stats_of(loads).loads, 0);
  assert_int_equal(stats_of(stale).unavailable, TURNS);
  assert_int_equal(stats_of(fails).unavailable, TURNS);
  assert_int_equal(stats_of(fails).fallbacks, 0);
  assert_true(redmoon_cache_peek(loads, "k", 1, &out, &err) < 0);
  assert_true(redmoon_cache_delete(loads, "k", 1, &err) < 0); /* a deletion that may not have been is told */
  assert_true(redmoon_cache_set(loads, "k", 1, "v", 1, REDMOON_UNSET, &err) < 0);
  char *text;
  assert_int_equal(redmoon_client_metrics(f->client, &text, NULL, &err), 0);
  assert_non_null(strstr(text, "redmoon_cache_total{result=\"fallback\"} 5"));
  assert_non_null(strstr(text, "redmoon_cache_total{result=\"unavailable\"} 16"));
  redmoon_free(text);
  redis_server_restart(f->server);
  int64_t by_us = rm_clock_now_us() + 10000000; /* Redis is back, and, after the pause between dials, so is the lease */
  do {
    redmoon_cache_result_fini(&out);
    assert_int_equal(redmoon_cache_get(loads, &k, load, &loaded, &out, &err), 0);
  } while (strcmp(out.source, "fallback") == 0 && rm_clock_now_us() < by_us);
  assert_string_equal(out.source, "loader");
  redmoon_cache_result_fini(&out);
  redmoon_cache_free(loads);
  redmoon_cache_free(stale);
  redmoon_cache_free(fails);
}

/* As far as it goes without another's help. */
static int go(redmoon_op *op) {
  size_t none;
  while (!redmoon_op_step(op)) {
    if (redmoon_cache_op_loads(op, &none, 0) > 0 || rm_get_of(op)->stage == GET_PAUSE) return 0;
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {wants.fd, (short)(wants.events & REDMOON_WANT_WRITE ? POLLOUT : POLLIN), 0};
    (void)poll(&fd, wants.fd >= 0, (int)wants.timeout_ms);
  }
  return 1;
}

static redmoon_op *start(redmoon_cache *cache, redmoon_cache_result *out) {
  redmoon_op *op;
  redmoon_error err;
  if (redmoon_cache_get_start(cache, &k, out, &op, &err) != 0) fail_msg("%s", err.message);
  return op;
}

static void loads_without_redis_are_no_more_than_the_cap(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, "load", 1);
  redmoon_cache_result out[2];
  redis_server_kill(f->server);
  redmoon_op *first = start(cache, &out[0]), *second = start(cache, &out[1]);
  assert_int_equal(go(first), 0);
  assert_int_equal(redmoon_cache_op_loads(first, NULL, 0), 1);
  assert_int_equal(go(second), 0);
  assert_int_equal(redmoon_cache_op_loads(second, NULL, 0), 0); /* it waits for the slot */
  assert_int_equal(redmoon_cache_op_loaded(first, 0, REDMOON_CACHE_VALUE, "v", 1, NULL), 0);
  assert_int_equal(go(first), 1);
  assert_int_equal(redmoon_op_finish(first, NULL), 0);
  assert_int_equal(go(second), 0);
  assert_int_equal(redmoon_cache_op_loads(second, NULL, 0), 1);
  redmoon_op_cancel(second); /* the slot is free again */
  first = start(cache, &out[1]);
  assert_int_equal(go(first), 0);
  assert_int_equal(redmoon_cache_op_loads(first, NULL, 0), 1);
  second = start(cache, &out[1]);
  redmoon_error err;
  while (!redmoon_op_step(second)) { /* until its deadline is over */
    redmoon_wants wants;
    redmoon_op_wants(second, &wants);
    assert_int_equal(wants.events & REDMOON_WANT_LOAD, 0);
    struct pollfd fd = {wants.fd, (short)(wants.events & REDMOON_WANT_WRITE ? POLLOUT : POLLIN), 0};
    (void)poll(&fd, wants.fd >= 0, (int)wants.timeout_ms);
  }
  assert_true(redmoon_op_finish(second, &err) < 0);
  redmoon_op_cancel(first);
  redmoon_cache_result_fini(&out[0]);
  redmoon_cache_free(cache);
}

/* What was read before the failure is served, and what was loaded before it, too. */
static void what_is_at_hand_when_redis_goes_is_served(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, "stale", 8), *strict = cache_of(f->client, "error", 8);
  redmoon_error err;
  redmoon_cache_result out;
  assert_int_equal(redmoon_cache_set(cache, "k", 1, "old", 3, REDMOON_UNSET, &err), 0);
  assert_int_equal(ask_integer(f->client, "PEXPIRE", ENTRY, "500000", NULL), 1);
  /* The server takes no scripts of ours: the entry is read, the lease refused. */
  redmoon_reply_free(ask(f->client, "ACL", "SETUSER", "default", "-evalsha", "-eval", NULL));
  int loaded = 0;
  assert_int_equal(redmoon_cache_get(cache, &k, load, &loaded, &out, &err), 0);
  assert_memory_equal(out.value, "old", 3);
  assert_string_equal(out.state, "stale");
  assert_string_equal(out.code, "NOPERM");
  redmoon_cache_result_fini(&out);
  assert_int_equal(redmoon_cache_get(strict, &k, load, &loaded, &out, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOPERM");
  assert_int_equal(loaded, 0);
  redmoon_reply_free(ask(f->client, "ACL", "SETUSER", "default", "+@all", NULL));
  redmoon_op *op = start(strict, &out);
  assert_int_equal(go(op), 0);
  assert_int_equal(redmoon_cache_op_loads(op, NULL, 0), 1);
  redis_server_kill(f->server);
  assert_int_equal(redmoon_cache_op_loaded(op, 0, REDMOON_CACHE_VALUE, "new", 3, &err), 0);
  assert_int_equal(go(op), 1);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_memory_equal(out.value, "new", 3);
  assert_int_equal(out.stored, 0);
  assert_true(out.code[0] != '\0');
  assert_int_equal(stats_of(strict).unstored, 1);
  redmoon_cache_result_fini(&out);
  redmoon_cache_free(cache);
  redmoon_cache_free(strict);
}

/* Another process has the lease, and never ends: the wait does, with the call. */
static void a_wait_for_anothers_load_ends_with_the_deadline(void **state) {
  fixture *f = *state;
  static const char *const policies[] = {"load", "stale", "error"};
  redmoon_reply_free(ask(f->client, "SET", ENTRY "+lease", "another", "PX", "600000", NULL));
  for (int i = 0; i < 3; i++) {
    redmoon_cache *cache = cache_of(f->client, policies[i], 8);
    redmoon_error err;
    redmoon_cache_result out;
    int loaded = 0, status = redmoon_cache_get(cache, &k, load, &loaded, &out, &err);
    assert_int_equal(loaded, i == 0);
    assert_int_equal(status, i == 0 ? 0 : REDMOON_ETIMEOUT);
    if (i == 0) assert_string_equal(out.source, "fallback");
    if (i == 0) assert_string_equal(out.code, "TIMEOUT");
    if (i > 0) assert_non_null(strstr(err.message, "another load of the key was waited for"));
    assert_int_equal(stats_of(cache).waits, 1);
    redmoon_cache_result_fini(&out);
    redmoon_cache_free(cache);
  }
  assert_int_equal(ask_integer(f->client, "EXISTS", ENTRY, NULL), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(every_degraded_answer_is_counted_and_tagged),
      TEST(loads_without_redis_are_no_more_than_the_cap),
      TEST(what_is_at_hand_when_redis_goes_is_served),
      TEST(a_wait_for_anothers_load_ends_with_the_deadline),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
