/* SPDX-License-Identifier: MIT */
/** What the tests of the cache share: caches, loaders, and operations that go as far as they can.  Time passes by PEXPIRE: an
 *  entry's age is what has passed of its TTL.  To be included after cmocka.h. */
#ifndef REDMOON_TESTS_SERVER_CACHE_H
#define REDMOON_TESTS_SERVER_CACHE_H

#include "patterns/cache.h"
#include "support/ask.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY "redmoon:{k}:c.cache"
#define LEASE "redmoon:{k}:c.cache+lease"
enum { TTL_MS = 600000, STALE_MS = 600000 };

static inline redmoon_cache_options options_of(void) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "c";
  options.ttl_ms = TTL_MS;
  options.jitter_ppm = 0;
  return options;
}

static inline redmoon_cache *cache_with(redmoon_client *client, const redmoon_cache_options *options) {
  redmoon_cache *cache = NULL;
  redmoon_error err;
  if (redmoon_cache_new(client, options, &cache, &err) != 0) fail_msg("%s", err.message);
  return cache;
}

static inline redmoon_cache *cache_of(redmoon_client *client, int64_t stale_ttl_ms) {
  redmoon_cache_options options = options_of();
  options.stale_ttl_ms = stale_ttl_ms;
  return cache_with(client, &options);
}

static inline redmoon_client *another_client(const fixture *f) {
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(embedded_server_url(f->server), NULL, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static inline redmoon_cache_stats stats_of(const redmoon_cache *cache) {
  redmoon_cache_stats stats;
  redmoon_cache_get_stats(cache, &stats);
  return stats;
}

/* Loaders. */

typedef struct source {
  const char *value; /* NULL: there is none */
  const char *error; /* NULL: it does not fail */
  int loads;
  redmoon_cache *inner; /* asked for the same key by the loader; NULL: not */
} source;

static inline int load(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  source *s = ctx;
  for (size_t i = 0; i < count; i++) {
    s->loads++;
    if (s->error != NULL) out[i] = (redmoon_cache_loaded){REDMOON_CACHE_FAILED, s->error, strlen(s->error), NULL, NULL, 0};
    else if (s->value == NULL) out[i].found = REDMOON_CACHE_ABSENT;
    else out[i] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, s->value, strlen(s->value), NULL, NULL, 0};
    if (s->inner != NULL) {
      redmoon_cache_result result;
      redmoon_error err;
      redmoon_cache_key key = {keys[i].ptr, keys[i].len, NULL, 0};
      assert_int_equal(redmoon_cache_get(s->inner, &key, load, &(source){"inner", NULL, 0, NULL}, &result, &err), REDMOON_EUNAVAILABLE);
      assert_non_null(strstr(err.message, "waiting for itself"));
    }
  }
  return 0;
}

static const redmoon_cache_key k = {"k", 1, NULL, 0};

/* Gets "k"; `want` NULL: it is absent. */
static inline redmoon_cache_result get(redmoon_cache *cache, source *from, const char *want) {
  redmoon_cache_result result;
  redmoon_error err;
  if (redmoon_cache_get(cache, &k, load, from, &result, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(result.status, 0);
  assert_int_equal(result.found, want != NULL);
  if (want != NULL) {
    assert_int_equal(result.len, strlen(want));
    assert_memory_equal(result.value, want, result.len);
  }
  redmoon_cache_result told = result;
  redmoon_cache_result_fini(&result);
  return told;
}

static inline void get_as(redmoon_cache *cache, source *from, const char *want, const char *source_name, const char *state) {
  redmoon_cache_result result = get(cache, from, want);
  assert_string_equal(result.source, source_name);
  assert_string_equal(result.state, state);
}

static inline void age(const fixture *f, const char *left_ms) {
  assert_int_equal(ask_integer(f->client, "PEXPIRE", ENTRY, left_ms, NULL), 1);
}

/* Operations. */

enum { ENDED = 1, LOADS, SLEEPS };

static inline bool poll_once(const redmoon_op *op) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd fd = {wants.fd, 0, 0};
  if (wants.events & REDMOON_WANT_READ) fd.events |= POLLIN;
  if (wants.events & REDMOON_WANT_WRITE) fd.events |= POLLOUT;
  return poll(&fd, wants.fd < 0 ? 0 : 1, (int)wants.timeout_ms) > 0;
}

/* As far as it goes without another's help. */
static inline int go(redmoon_op *op) {
  for (;;) {
    if (redmoon_op_step(op)) return ENDED;
    size_t none;
    if (redmoon_cache_op_loads(op, &none, 0) > 0) {
      redmoon_wants wants;
      redmoon_op_wants(op, &wants);
      assert_int_equal(wants.events, REDMOON_WANT_LOAD);
      assert_int_equal(wants.fd, -1);
      return LOADS;
    }
    if (rm_get_of(op)->stage == GET_PAUSE) return SLEEPS;
    poll_once(op);
  }
}

static inline redmoon_op *start(redmoon_cache *cache, redmoon_cache_result *out) {
  redmoon_op *op;
  redmoon_error err;
  if (redmoon_cache_get_start(cache, &k, out, &op, &err) != 0) fail_msg("%s", err.message);
  return op;
}

static inline void loaded(redmoon_op *op, const char *value) {
  redmoon_error err;
  int found = value != NULL ? REDMOON_CACHE_VALUE : REDMOON_CACHE_ABSENT;
  if (redmoon_cache_op_loaded(op, 0, found, value, value != NULL ? strlen(value) : 0, &err) != 0) fail_msg("%s", err.message);
}

static inline void has_ended(redmoon_op *op, redmoon_cache_result *out, const char *want, const char *state) {
  redmoon_error err;
  while (go(op) != ENDED) poll_once(op); /* one that sleeps is woken */
  if (redmoon_op_finish(op, &err) != 0) fail_msg("%s", err.message);
  assert_string_equal(out->state, state);
  assert_int_equal(out->len, strlen(want));
  assert_memory_equal(out->value, want, out->len);
}

/* Draws that can be repeated: SEED. */

static uint64_t random_state;
static inline uint64_t draw(uint64_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (random_state >> 33) % bound;
}

static inline long number_of(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

#endif
