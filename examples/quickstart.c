/* SPDX-License-Identifier: MIT */
/* The C quick start: a command, an error, a pipeline, a lock.
 *
 *     cc quickstart.c $(pkg-config --cflags --libs redmoon) -o quickstart && ./quickstart [URL]
 *
 * Without a URL and without $REDIS_URL a private server is started. */
#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const redmoon_error *err) {
  fprintf(stderr, "%s: %s (code %s, %s)\n", what, err->message, err->code, redmoon_outcome_name(err->outcome));
  return 1;
}

static int values(redmoon_client *client) {
  redmoon_error err;
  redmoon_reply *reply;
  if (redmoon_command(client, 5, (const char *[]){"SET", "greeting", "hello", "EX", "60"}, NULL, &reply, &err) < 0)
    return fail("SET", &err);
  redmoon_reply_free(reply);
  if (redmoon_command(client, 2, (const char *[]){"GET", "greeting"}, NULL, &reply, &err) < 0) return fail("GET", &err);
  printf("greeting is %s\n", redmoon_reply_string(reply, NULL));
  redmoon_reply_free(reply);
  if (redmoon_command(client, 2, (const char *[]){"GET", "nothing"}, NULL, &reply, &err) < 0) return fail("GET", &err);
  printf("a missing key is %s\n", redmoon_reply_type(reply) == REDMOON_NIL ? "NIL, and no error" : "a surprise");
  redmoon_reply_free(reply);
  if (redmoon_command(client, 3, (const char *[]){"LPUSH", "greeting", "x"}, NULL, &reply, &err) == REDMOON_ESERVER)
    printf("a refusal: %s (%s)\n", err.code, redmoon_outcome_name(err.outcome));
  return 0;
}

static int pipeline(redmoon_client *client) {
  redmoon_error err;
  redmoon_pipeline *commands;
  if (redmoon_pipeline_new(client, &commands, &err) < 0) return fail("pipeline", &err);
  int64_t last = 0;
  for (int i = 0; i < 1000 && last >= 0; i++)
    last = redmoon_pipeline_command(commands, 2, (const char *[]){"INCR", "visits"}, NULL, &err);
  int status = last < 0 ? (int)last : redmoon_pipeline_run(commands, &err);
  if (status == 0)
    printf("1000 commands in one round trip; the last answered %lld\n",
           (long long)redmoon_reply_integer(redmoon_pipeline_result(commands, 999).reply));
  redmoon_pipeline_free(commands);
  return status < 0 ? fail("pipeline", &err) : 0;
}

static int lock(redmoon_client *client) {
  redmoon_error err;
  redmoon_lock *held, *other;
  if (redmoon_lock_acquire(client, "report", 6, NULL, &held, &err) < 0) return fail("lock", &err);
  printf("locked until %lld ms from now, fence %lld\n", (long long)redmoon_lock_remaining_ms(held),
         (long long)redmoon_lock_fence(held));
  if (redmoon_lock_acquire(client, "report", 6, NULL, &other, &err) == REDMOON_ELOCKED) printf("%s\n", err.message);
  int status = redmoon_lock_release(held, &err);
  redmoon_lock_free(held);
  return status < 0 ? fail("release", &err) : 0;
}

int main(int argc, char **argv) {
  redmoon_error err;
  redmoon_embedded *server = NULL;
  const char *url = argc > 1 ? argv[1] : getenv("REDIS_URL");
  if (url == NULL) {
    if (redmoon_embedded_start(NULL, &server, &err) < 0) return fail("embedded server", &err);
    url = redmoon_embedded_url(server);
  }
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 8;
  redmoon_client *client;
  int failed = redmoon_client_open(url, &options, &client, &err) < 0 ? fail("open", &err) : 0;
  if (!failed) {
    failed = values(client) || pipeline(client) || lock(client);
    redmoon_client_close(client);
  }
  redmoon_embedded_close(server);
  return failed;
}
