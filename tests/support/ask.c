/* SPDX-License-Identifier: MIT */
/* Commands of a test's own, by varargs. */
#include "support/ask.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

static redmoon_reply *send_all(redmoon_client *client, const char *name, va_list rest) {
  const char *argv[16] = {name};
  int argc = 0;
  while (argv[argc] != NULL) {
    argc++;
    assert_true(argc < 16);
    argv[argc] = va_arg(rest, const char *);
  }
  redmoon_reply *reply = NULL;
  redmoon_error err;
  if (redmoon_command(client, argc, argv, NULL, &reply, &err) != 0) fail_msg("%s: %s", name, err.message);
  return reply;
}

redmoon_reply *ask(redmoon_client *client, const char *name, ...) {
  va_list rest;
  va_start(rest, name);
  redmoon_reply *reply = send_all(client, name, rest);
  va_end(rest);
  return reply;
}

int64_t ask_integer(redmoon_client *client, const char *name, ...) {
  va_list rest;
  va_start(rest, name);
  redmoon_reply *reply = send_all(client, name, rest);
  va_end(rest);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_INTEGER);
  int64_t value = redmoon_reply_integer(reply);
  redmoon_reply_free(reply);
  return value;
}

int64_t ask_text(redmoon_client *client, char *out, size_t cap, const char *name, ...) {
  va_list rest;
  va_start(rest, name);
  redmoon_reply *reply = send_all(client, name, rest);
  va_end(rest);
  size_t len = 0;
  const char *text = redmoon_reply_string(reply, &len);
  assert_true(len < cap);
  if (text != NULL) memcpy(out, text, len);
  out[text != NULL ? len : 0] = '\0';
  redmoon_reply_free(reply);
  return text != NULL ? (int64_t)len : -1;
}
