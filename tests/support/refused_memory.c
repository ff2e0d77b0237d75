/* SPDX-License-Identifier: MIT */
/* The gate in front of the allocator, and the runs behind it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/refused_memory.h"

#include "base/alloc.h"
#include "support/ask.h"
#include "support/certs.h"
#include "wire/reader.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 3000, PATIENCE = 2000 /* times 10 ms */ };

bool gate_refuses(void *ctx, size_t size) {
  (void)size;
  gate *g = ctx;
  int mode = atomic_load(&g->mode);
  if (mode == GATE_OPEN) return false;
  long number = atomic_fetch_add(&g->asked, 1) + 1, at = atomic_load(&g->at);
  if (mode == GATE_ONCE ? number != at : number < at) return false;
  atomic_fetch_add(&g->refused, 1);
  return true;
}

void gate_set(gate *g, gate_mode mode, long at) {
  atomic_store(&g->asked, 0);
  atomic_store(&g->refused, 0);
  atomic_store(&g->at, at);
  atomic_store(&g->mode, (int)mode);
}

int refused_memory_start(void **state) {
  rm_alloc_set_refuse(NULL, NULL); /* a test that failed may have left its own */
  const certs *c = certs_get();
  world *w = calloc(1, sizeof *w);
  if (c == NULL || w == NULL) return -1;
  *state = w;
  rm_testing_route_hiredis_memory();
  redis_server_options options = {
      .tcp = true, .tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file};
  w->server = redis_server_start(&options);
  static const char source[] = "redis.call('SET', KEYS[1], ARGV[1]) return {KEYS[1], {ARGV[1], 7}}";
  redmoon_error err;
  if (redmoon_script_new(source, sizeof source - 1, &w->script, &err) != 0 ||
      redmoon_client_open(redis_server_url(w->server), NULL, &w->client, &err) != 0)
    return -1;
  redmoon_reply_free(ask(w->client, "EVAL",
                         "for i = 1, 100 do redis.call('HSET', 'hash', 'field' .. i, ('v'):rep(i)) "
                         "redis.call('RPUSH', 'list', i) redis.call('SADD', 'set', i) end",
                         "0", NULL));
  redmoon_client_close(w->client);
  w->client = NULL;
  rm_alloc_set_refuse(gate_refuses, &w->gate);
  return 0;
}

int refused_memory_stop(void **state) {
  world *w = *state;
  rm_alloc_set_refuse(NULL, NULL);
  redmoon_client_close(w->client);
  redmoon_script_unref(w->script);
  redis_server_stop(w->server);
  free(w);
  return 0;
}

size_t count_entries(const char *path) {
  DIR *dir = opendir(path);
  assert_non_null(dir);
  size_t count = 0;
  while (readdir(dir) != NULL) count++;
  closedir(dir);
  return count;
}

size_t count_descriptors(void) { return count_entries("/proc/self/fd"); }

void await_descriptors(size_t expected, const char *name, long at) {
  for (int i = 0; count_descriptors() != expected; i++) {
    if (i == PATIENCE)
      fail_msg("%s, request %ld: %zu descriptors, expected %zu", name, at, count_descriptors(), expected);
    poll(NULL, 0, 10);
  }
}

static void check_pool(world *w, const char *name, long at) {
  redmoon_stats stats;
  redmoon_client_stats(w->client, &stats);
  if (stats.in_use != 0 || stats.waiting != 0 || stats.total != stats.idle)
    fail_msg("%s, request %ld: in_use %d, waiting %d, total %d, idle %d", name, at, (int)stats.in_use,
             (int)stats.waiting, (int)stats.total, (int)stats.idle);
}

static void open_client(world *w) {
  redmoon_error err;
  if (redmoon_client_open(redis_server_url(w->server), NULL, &w->client, &err) != 0) fail_msg("%s", err.message);
}

static void check_next_call(world *w) {
  char answer[64];
  ask_text(w->client, answer, sizeof answer, "ECHO", w->tag, NULL);
  assert_string_equal(answer, w->tag);
}

/* One run with request `at` refused.  Returns its status; *refused says whether anything was. */
static int run_once(world *w, const scenario *s, bool warm, gate_mode mode, long at, bool *refused) {
  redmoon_error err = {0};
  size_t before = count_descriptors();
  open_client(w);
  if (warm) {
    snprintf(w->tag, sizeof w->tag, "warm:%d:%ld", (int)mode, at);
    if (s->run(w, &err) != 0) fail_msg("%s: %s", s->name, err.message);
  }
  snprintf(w->tag, sizeof w->tag, "%s:%d:%ld", warm ? "then" : "cold", (int)mode, at);
  gate_set(&w->gate, mode, at);
  int status = s->run(w, &err);
  *refused = atomic_load(&w->gate.refused) > 0;
  gate_set(&w->gate, GATE_OPEN, 0);
  if (status != 0 && status != REDMOON_ENOMEM)
    fail_msg("%s, request %ld, mode %d: status %d: %s", s->name, at, (int)mode, status, err.message);
  if (status != 0 && (err.status != REDMOON_ENOMEM || strcmp(err.code, "NOMEM") != 0 || err.message[0] == '\0'))
    fail_msg("%s, request %ld: the error says %s: %s", s->name, at, err.code, err.message);
  check_pool(w, s->name, at);
  if (s->check != NULL) s->check(w, status, &err);
  check_next_call(w);
  check_pool(w, s->name, at);
  redmoon_client_close(w->client);
  w->client = NULL;
  await_descriptors(before, s->name, at);
  return status;
}

static void squeeze(world *w, const scenario *s, bool warm, gate_mode mode) {
  long refusals = 0;
  for (long at = 1; at <= MOST; at++) {
    bool refused;
    int status = run_once(w, s, warm, mode, at, &refused);
    if (!refused) {
      assert_int_equal(status, 0);
      print_message("%s, %s, %s: %ld failure points, %ld gave NOMEM\n", s->name, warm ? "warm" : "cold",
                    mode == GATE_ONCE ? "once" : "from then on", at - 1, refusals);
      assert_true(refusals > 0);
      return;
    }
    refusals += status == REDMOON_ENOMEM;
  }
  fail_msg("%s: still refused after %d requests", s->name, MOST);
}

static void squeeze_all(world *w, const scenario *s) {
  for (int warm = 0; warm <= (s->dials_itself ? 0 : 1); warm++) {
    squeeze(w, s, warm == 1, GATE_ONCE);
    squeeze(w, s, warm == 1, GATE_FROM_THEN_ON);
  }
}

void squeeze_list(world *w, const scenario *list, size_t count) {
  for (size_t i = 0; i < count; i++) squeeze_all(w, &list[i]);
}
