/* SPDX-License-Identifier: MIT */
/** Short ways to use a blocklist named "api" in a test; they fail the test on any error. */
#ifndef TESTS_SERVER_BLOCKLIST_H
#define TESTS_SERVER_BLOCKLIST_H

#include "support/ask.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(text) ((redmoon_bytes){text, sizeof(text) - 1})
#define HOUR 3600
#define none ((redmoon_bytes){NULL, 0})

static inline redmoon_blocklist *list_with(redmoon_client *client, const redmoon_blocklist_options *options) {
  redmoon_blocklist *list = NULL;
  redmoon_error err;
  if (redmoon_blocklist_new(client, "api", options, &list, &err) != 0) fail_msg("%s", err.message);
  return list;
}

static inline redmoon_blocklist *list_of(redmoon_client *client) { return list_with(client, NULL); }

static inline int64_t server_s(redmoon_client *client) {
  redmoon_reply *time = ask(client, "TIME", NULL);
  int64_t s = strtoll(redmoon_reply_string(redmoon_reply_at(time, 0), NULL), NULL, 10);
  redmoon_reply_free(time);
  return s;
}

static inline redmoon_revocation_result revoke_token(redmoon_blocklist *list, redmoon_bytes jti, int64_t exp_s,
                                                    const char *reason) {
  redmoon_revocation token = {jti, exp_s, reason};
  redmoon_revocation_result result;
  redmoon_error err;
  if (redmoon_blocklist_revoke(list, &token, &result, &err) != 0) fail_msg("%s", err.message);
  return result;
}

static inline redmoon_check_result check(redmoon_blocklist *list, const redmoon_claims *claims) {
  redmoon_check_result result;
  redmoon_error err;
  if (redmoon_blocklist_check(list, claims, &result, &err) != 0) fail_msg("%s", err.message);
  assert_true(result.revoked == (result.reason[0] != '\0') || strcmp(result.reason, "unavailable") == 0);
  return result;
}

static inline redmoon_claims claims_of(redmoon_bytes jti, redmoon_bytes sub, int64_t iat_s, int64_t ver) {
  return (redmoon_claims){.jti = jti, .sub = sub, .iat_s = iat_s, .ver = ver};
}

static inline redmoon_check_result check_jti(redmoon_blocklist *list, redmoon_bytes jti) {
  redmoon_claims claims = REDMOON_CLAIMS_INIT;
  claims.jti = jti;
  return check(list, &claims);
}

static inline redmoon_check_result check_family(redmoon_blocklist *list, redmoon_bytes family) {
  redmoon_claims claims = REDMOON_CLAIMS_INIT;
  claims.family = family;
  return check(list, &claims);
}

static inline redmoon_rotation_status rotate(redmoon_blocklist *list, redmoon_bytes presented, redmoon_bytes next) {
  redmoon_rotation rotation = {BYTES("login 7"), presented, next, HOUR * 1000};
  redmoon_rotation_result result;
  redmoon_error err;
  if (redmoon_blocklist_rotate(list, &rotation, &result, &err) != 0) fail_msg("%s", err.message);
  return result.status;
}

/* A refused argument: the message names it, not its value. */
static inline void refused(int status, const redmoon_error *err, const char *message) {
  assert_int_equal(status, REDMOON_ECONFIG);
  if (strstr(err->message, message) == NULL) fail_msg("%s", err->message);
  assert_null(strstr(err->message, "secret"));
}

/* The only key there is; the caller's. */
static inline char *only_key(redmoon_client *client) {
  redmoon_reply *keys = ask(client, "KEYS", "*", NULL);
  assert_int_equal(redmoon_reply_count(keys), 1);
  char *key = strdup(redmoon_reply_string(redmoon_reply_at(keys, 0), NULL));
  redmoon_reply_free(keys);
  assert_non_null(key);
  return key;
}

static inline bool counts(redmoon_client *client, const char *line) {
  char *text = NULL;
  size_t len;
  assert_int_equal(redmoon_client_metrics(client, &text, &len, NULL), 0);
  bool found = strstr(text, line) != NULL;
  redmoon_free(text);
  return found;
}

#endif
