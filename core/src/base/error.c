/* SPDX-License-Identifier: MIT */
/* Errors: code words and the filling of a caller's redmoon_error. */
#include "base/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *const codes[] = {"OK",     "TIMEOUT",      "CONNECT",       "IO",       "PROTOCOL", "TLS",
                                    "CLOSED", "POOL_TIMEOUT", "POOL_DEADLOCK", "CONFIG",   "CODEC",    "NOMEM",
                                    "CONFLICT", "LOCKED",     "LOST",          "TOO_LARGE", "CANCELLED", "UNAVAILABLE",
                                    "SERVER"};
static const char *const phases[] = {"", "pool", "resolve", "dial", "tls", "handshake", "send", "receive", "backoff"};

const char *redmoon_status_code(int status) {
  if (status > 0 || -status >= (int)(sizeof codes / sizeof codes[0])) return "ERR";
  return codes[-status];
}

const char *redmoon_outcome_name(redmoon_outcome outcome) {
  return outcome == REDMOON_NOT_SENT ? "not_sent" : outcome == REDMOON_ANSWERED ? "answered" : "unknown";
}

const char *redmoon_phase_name(redmoon_phase phase) {
  return (unsigned)phase < sizeof phases / sizeof phases[0] ? phases[phase] : "";
}

void rm_error_clear(redmoon_error *err) {
  if (err == NULL) return;
  err->status = 0;
  err->outcome = REDMOON_NOT_SENT;
  err->phase = REDMOON_PHASE_NONE;
  err->retryable = 0;
  err->attempts = 0;
  err->code[0] = err->address[0] = err->message[0] = '\0';
}

void rm_error_copy(redmoon_error *to, const redmoon_error *from) {
  if (from->status != 0) {
    *to = *from;
    return;
  }
  to->status = 0;
  to->outcome = from->outcome;
  to->phase = from->phase;
  to->retryable = from->retryable;
  to->attempts = from->attempts;
  to->code[0] = to->address[0] = to->message[0] = '\0';
}

void rm_escape(char *out, size_t cap, const char *text, size_t len) {
  size_t used = 0;
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    bool plain = c >= 0x20 && c < 0x7f;
    size_t need = plain ? 1 : 4;
    if (used + need >= cap) break;
    if (plain)
      out[used] = (char)c;
    else
      snprintf(out + used, 5, "\\x%02x", c);
    used += need;
  }
  out[used] = '\0';
}

static void set(redmoon_error *err, int status, redmoon_phase phase, const char *format, va_list args) {
  if (err == NULL) return;
  /* The text may quote what `err` itself holds, so it is formatted before anything is reset. */
  char text[sizeof err->message];
  int n = vsnprintf(text, sizeof text, format, args);
  rm_error_clear(err);
  err->status = status;
  err->phase = phase;
  snprintf(err->code, sizeof err->code, "%s", redmoon_status_code(status));
  size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
  rm_escape(err->message, sizeof err->message, text, len);
}

int rm_fail(redmoon_error *err, int status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  set(err, status, REDMOON_PHASE_NONE, format, args);
  va_end(args);
  return status;
}

int rm_fail_phase(redmoon_error *err, int status, redmoon_phase phase, const char *format, ...) {
  va_list args;
  va_start(args, format);
  set(err, status, phase, format, args);
  va_end(args);
  return status;
}

int rm_fail_nomem(redmoon_error *err) { return rm_fail(err, REDMOON_ENOMEM, "not enough memory"); }

int rm_fail_nomem_answered(redmoon_error *err) {
  rm_fail_phase(err, REDMOON_ENOMEM, REDMOON_PHASE_RECEIVE, "not enough memory for the reply");
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  return REDMOON_ENOMEM;
}

int rm_fail_server(redmoon_error *err, const char *text, size_t len) {
  if (err == NULL) return REDMOON_ESERVER;
  rm_error_clear(err);
  err->status = REDMOON_ESERVER;
  err->outcome = REDMOON_ANSWERED;
  err->phase = REDMOON_PHASE_RECEIVE;
  rm_escape(err->message, sizeof err->message, text, len);
  size_t n = 0;
  while (n < len && ((text[n] >= 'A' && text[n] <= 'Z') || (text[n] >= '0' && text[n] <= '9') || text[n] == '_')) n++;
  bool word = n > 0 && n < sizeof err->code && (n == len || text[n] == ' ');
  snprintf(err->code, sizeof err->code, "%.*s", word ? (int)n : 3, word ? text : "ERR");
  return REDMOON_ESERVER;
}

size_t rm_error_shown_len(const char *text, size_t len) {
  static const char part[] = ", with args beginning";
  const size_t part_len = sizeof part - 1;
  for (size_t i = 0; part_len <= len && i <= len - part_len; i++)
    if (memcmp(text + i, part, part_len) == 0) return i;
  return len;
}

const char *rm_errno_text(int code, char *buf, size_t cap) {
  if (strerror_r(code, buf, cap) != 0) snprintf(buf, cap, "error %d", code);
  return buf;
}
