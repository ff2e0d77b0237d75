/* SPDX-License-Identifier: MIT */
/* The client: handles with call settings over one shared core. */
#include "base/alloc.h"
#include "base/error.h"
#include "engine/core.h"
#include "engine/driven.h"
#include "engine/script.h"

#include <redmoon/version.h>

const char *redmoon_version(void) { return REDMOON_VERSION; }

void redmoon_free(void *ptr) { rm_free(ptr); }

static redmoon_client *new_handle(rm_core *core) {
  redmoon_client *client = rm_calloc(1, sizeof *client);
  if (client == NULL) return NULL;
  atomic_init(&client->refs, 1);
  client->core = core;
  return client;
}

int redmoon_client_open(const char *url, const redmoon_options *options, redmoon_client **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  rm_core *core;
  int rc = rm_core_new(url, options, &core, err);
  if (rc != 0) return rc;
  redmoon_client *client = new_handle(core);
  if (client == NULL) {
    rm_core_unref(core);
    return rm_fail_nomem(err);
  }
  if (options != NULL && options->credentials != NULL) core->credentials_drop = options->credentials_drop;
  const rm_config *config = core->config;
  client->settings = (rm_settings){
      .timeout_us = config->timeout_ms * 1000,
      .pool_timeout_us = config->pool_timeout_ms * 1000,
      .read_timeout_us = config->read_timeout_ms * 1000,
      .write_timeout_us = config->write_timeout_ms * 1000,
      .min_backoff_us = config->min_backoff_ms * 1000,
      .max_backoff_us = config->max_backoff_ms * 1000,
      .max_retries = (int)config->max_retries,
  };
  *out = client;
  return 0;
}

redmoon_client *redmoon_client_ref(redmoon_client *client) {
  atomic_fetch_add(&client->refs, 1);
  return client;
}

void redmoon_client_close(redmoon_client *client) {
  if (client == NULL || atomic_fetch_sub(&client->refs, 1) != 1) return;
  rm_core_unref(client->core);
  rm_free(client);
}

void redmoon_client_shutdown(redmoon_client *client) { rm_core_shutdown(client->core); }

/* A call option replaces `*us` when it was given; it must lie in the range of the client option of that name. */
static int set_duration(int64_t *us, int64_t ms, const char *name, redmoon_error *err) {
  if (ms == REDMOON_UNSET) return 0;
  const char *nearest;
  const rm_option *option = rm_option_find(name, strlen(name), &nearest);
  if (ms < option->min || ms > option->max)
    return rm_fail(err, REDMOON_ECONFIG, "call option '%s': %lld ms is not accepted; it takes %s", name, (long long)ms,
                   option->accepts);
  *us = ms * 1000;
  return 0;
}

static int apply(rm_settings *settings, const redmoon_call_options *options, redmoon_error *err) {
  int rc;
  if ((rc = set_duration(&settings->timeout_us, options->timeout_ms, "timeout", err)) != 0 ||
      (rc = set_duration(&settings->pool_timeout_us, options->pool_timeout_ms, "pool_timeout", err)) != 0 ||
      (rc = set_duration(&settings->read_timeout_us, options->read_timeout_ms, "read_timeout", err)) != 0 ||
      (rc = set_duration(&settings->write_timeout_us, options->write_timeout_ms, "write_timeout", err)) != 0 ||
      (rc = set_duration(&settings->min_backoff_us, options->min_backoff_ms, "min_backoff", err)) != 0 ||
      (rc = set_duration(&settings->max_backoff_us, options->max_backoff_ms, "max_backoff", err)) != 0)
    return rc;
  int64_t retries = options->max_retries;
  if (retries != REDMOON_UNSET) {
    const char *nearest;
    const rm_option *option = rm_option_find("max_retries", strlen("max_retries"), &nearest);
    if (retries < option->min || retries > option->max)
      return rm_fail(err, REDMOON_ECONFIG, "call option 'max_retries': %lld is not accepted; it takes %s",
                     (long long)retries, option->accepts);
    settings->max_retries = (int)retries;
  }
  if (options->idempotent != REDMOON_UNSET) settings->idempotent = options->idempotent != 0;
  if (settings->min_backoff_us > settings->max_backoff_us)
    return rm_fail(err, REDMOON_ECONFIG, "call option 'min_backoff' must not exceed 'max_backoff'");
  return 0;
}

int redmoon_client_with(redmoon_client *client, const redmoon_call_options *options, redmoon_client **out,
                        redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  rm_settings settings = client->settings;
  int rc = apply(&settings, options, err);
  if (rc != 0) return rc;
  redmoon_client *view = new_handle(client->core);
  if (view == NULL) return rm_fail_nomem(err);
  rm_core_ref(client->core);
  view->settings = settings;
  *out = view;
  return 0;
}

const char *redmoon_client_url(const redmoon_client *client) { return client->core->config->url; }

void redmoon_client_stats(const redmoon_client *client, redmoon_stats *out) {
  *out = (redmoon_stats){0};
  rm_core_check_fork(client->core);
  for (const rm_node *node = rm_route_first(client->core->route); node != NULL; node = rm_node_next(node)) {
    redmoon_stats one;
    rm_pool_stats(node->pool, &one);
    /* All fields are counts of one type, so that sums need no list of names. */
    uint64_t *sum = (uint64_t *)(void *)out;
    const uint64_t *add = (const uint64_t *)(const void *)&one;
    for (size_t f = 0; f < sizeof one / sizeof *add; f++) sum[f] += add[f];
  }
  out->subscriptions = rm_driven_count(client->core);
}

/* Where there is one server its pool is all there is to tell. */
static int put_nodes(const redmoon_client *client, rm_buffer *out) {
  if (client->core->config->topology == RM_STANDALONE) return 0;
  size_t count = redmoon_client_nodes(client, NULL, 0), cap = count + 8;
  redmoon_node *nodes = rm_calloc(cap, sizeof *nodes);
  if (nodes == NULL) return REDMOON_ENOMEM;
  count = redmoon_client_nodes(client, nodes, cap);
  int status = rm_metrics_nodes(nodes, count < cap ? count : cap, out);
  rm_free(nodes);
  return status;
}

int redmoon_client_metrics(const redmoon_client *client, char **text, size_t *len, redmoon_error *err) {
  rm_error_clear(err);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  rm_buffer out = {0};
  bool whole = rm_metrics_text(&client->core->metrics, &stats, &out) == 0 && put_nodes(client, &out) == 0;
  *text = whole ? rm_strndup(rm_buffer_begin(&out), rm_buffer_len(&out)) : NULL;
  if (len != NULL) *len = rm_buffer_len(&out);
  rm_buffer_fini(&out);
  return *text != NULL ? 0 : rm_fail_nomem(err);
}

int redmoon_client_on(redmoon_client *client, int mask, redmoon_event_fn fn, void *ctx, uint64_t *id,
                      redmoon_error *err) {
  rm_error_clear(err);
  int all = REDMOON_EVENT_COMMAND | REDMOON_EVENT_RETRY | REDMOON_EVENT_CONNECT | REDMOON_EVENT_CLOSE | REDMOON_EVENT_REDIRECT;
  if (fn == NULL || (mask & all) == 0 || (mask & ~all) != 0)
    return rm_fail(err, REDMOON_ECONFIG, "a hook needs a function and a mask of REDMOON_EVENT_* kinds");
  rm_core_check_fork(client->core);
  return rm_hooks_add(&client->core->hooks, mask, fn, ctx, id) == 0 ? 0 : rm_fail_nomem(err);
}

void redmoon_client_off(redmoon_client *client, uint64_t id) {
  rm_core_check_fork(client->core);
  rm_hooks_remove(&client->core->hooks, id);
}

bool rm_client_is_closed(const redmoon_client *client) { return atomic_load(&client->core->closed); }

long rm_client_pid(redmoon_client *client) {
  rm_core_check_fork(client->core);
  return atomic_load(&client->core->pid);
}

void rm_client_random_hex(redmoon_client *client, char *out, size_t bytes) {
  rm_core_check_fork(client->core);
  rm_random_store_hex(&client->core->random, out, bytes);
}

const char *rm_client_key_prefix(const redmoon_client *client) {
  const char *prefix = client->core->config->key_prefix;
  return prefix != NULL ? prefix : "redmoon";
}

void rm_client_count(redmoon_client *client, const char *pattern, const char *result) {
  rm_metrics_count(&client->core->metrics, pattern, result);
}

_Atomic uint64_t *rm_client_counter(redmoon_client *client, const char *pattern, const char *result) {
  return rm_metrics_counter(&client->core->metrics, pattern, result);
}
