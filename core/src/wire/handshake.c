/* SPDX-License-Identifier: MIT */
/* The handshake.
 *
 *     protocol 3:  HELLO 3 [AUTH] [SETNAME], SETINFO, SETINFO, [SELECT] --all answered--> done
 *                    | unknown command, NOPROTO: the rest of the flight is read and ignored
 *                    v
 *                  [AUTH] [SETNAME] [SELECT] CLIENT ID -------------------all answered--> done
 *                    ^
 *     protocol 2:  the same, with SETINFO, SETINFO after SETNAME
 *
 * Where the server has to be a primary: HELLO says what it is, in RESP2 a HELLO 2 at the end of the flight, and where there
 * is no HELLO a ROLE.
 *
 * Each flight is one write.  It may hold a password, so it lives in secret memory and is wiped once it is sent. */
#include "wire/handshake.h"

#include "base/clock.h"
#include "base/error.h"
#include "wire/reply.h"

#include <redmoon/version.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ARGS = 7, USERNAME_SIZE = 256, PASSWORD_SIZE = 4096 };

enum { FOR_HELLO, FOR_AUTH, FOR_SETNAME, FOR_SETINFO, FOR_SELECT, FOR_CLIENT_ID, FOR_READONLY, FOR_ROLE };

/* Two passes over the same calls: the first counts the bytes, the second writes them. */
typedef struct writer {
  char *out; /* NULL while counting */
  size_t len;
} writer;

static void put(writer *w, const void *ptr, size_t len) {
  if (w->out != NULL) memcpy(w->out + w->len, ptr, len);
  w->len += len;
}

static void put_header(writer *w, char kind, size_t count) {
  char line[32];
  int n = snprintf(line, sizeof line, "%c%zu\r\n", kind, count);
  put(w, line, (size_t)n);
}

static void put_command(writer *w, const char *const *args, size_t count) {
  put_header(w, '*', count);
  for (size_t i = 0; i < count; i++) {
    size_t len = strlen(args[i]);
    put_header(w, '$', len);
    put(w, args[i], len);
    put(w, "\r\n", 2);
  }
}

static void expect(rm_handshake *h, writer *w, int purpose) {
  if (w->out != NULL) h->expected[h->expected_count++] = (unsigned char)purpose;
}

static void put_hello(rm_handshake *h, writer *w) {
  const char *args[MAX_ARGS] = {"HELLO", "3"};
  size_t n = 2;
  if (h->password != NULL || h->username != NULL) {
    args[n++] = "AUTH";
    args[n++] = h->username != NULL ? h->username : "default";
    args[n++] = h->password != NULL ? h->password : "";
  }
  if (h->config->client_name != NULL) {
    args[n++] = "SETNAME";
    args[n++] = h->config->client_name;
  }
  put_command(w, args, n);
  expect(h, w, FOR_HELLO);
}

static void put_auth(rm_handshake *h, writer *w) {
  if (h->password == NULL && h->username == NULL) return;
  const char *password = h->password != NULL ? h->password : "";
  if (h->username != NULL) put_command(w, (const char *[]){"AUTH", h->username, password}, 3);
  else put_command(w, (const char *[]){"AUTH", password}, 2); /* all that servers before 6 understand */
  expect(h, w, FOR_AUTH);
}

static void put_setinfo(rm_handshake *h, writer *w) {
  put_command(w, (const char *[]){"CLIENT", "SETINFO", "LIB-NAME", "redmoon"}, 4);
  expect(h, w, FOR_SETINFO);
  put_command(w, (const char *[]){"CLIENT", "SETINFO", "LIB-VER", REDMOON_VERSION}, 4);
  expect(h, w, FOR_SETINFO);
}

static void put_select(rm_handshake *h, writer *w) {
  if (h->config->database == 0) return;
  char number[24];
  snprintf(number, sizeof number, "%lld", (long long)h->config->database);
  put_command(w, (const char *[]){"SELECT", number}, 2);
  expect(h, w, FOR_SELECT);
}

/* A replica of a cluster serves reads only to those who ask for it; a primary does not mind. */
static void put_readonly(rm_handshake *h, writer *w) {
  const char *from = h->config->read_from;
  if (h->config->topology != RM_CLUSTER || from == NULL || strcmp(from, "primary") == 0) return;
  put_command(w, (const char *[]){"READONLY"}, 1);
  expect(h, w, FOR_READONLY);
}

static void put_flight(rm_handshake *h, writer *w, bool hello) {
  if (hello) {
    put_hello(h, w);
    put_setinfo(h, w);
    put_select(h, w);
    put_readonly(h, w);
    return;
  }
  put_auth(h, w);
  if (h->config->client_name != NULL) {
    put_command(w, (const char *[]){"CLIENT", "SETNAME", h->config->client_name}, 3);
    expect(h, w, FOR_SETNAME);
  }
  if (!h->refused_hello) put_setinfo(h, w); /* a server without HELLO has none of it either */
  put_select(h, w);
  put_readonly(h, w);
  put_command(w, (const char *[]){"CLIENT", "ID"}, 2);
  expect(h, w, FOR_CLIENT_ID);
  if (h->role == RM_ROLE_ANY) return;
  if (h->refused_hello) put_command(w, (const char *[]){"ROLE"}, 1);
  else put_command(w, (const char *[]){"HELLO", "2"}, 2); /* for which nobody needs a right of its own */
  expect(h, w, FOR_ROLE);
}

static int prepare_flight(rm_handshake *h, bool hello, redmoon_error *err) {
  writer w = {0};
  put_flight(h, &w, hello);
  if (rm_secret_resize(&h->flight, w.len) != 0) return rm_fail_nomem(err);
  h->sent = h->expected_count = h->answered = 0;
  w = (writer){.out = h->flight.bytes};
  put_flight(h, &w, hello);
  return 0;
}

static const char *unless_empty(const char *text) { return text != NULL && text[0] != '\0' ? text : NULL; }

static int ask_credentials(rm_handshake *h, redmoon_error *err) {
  const rm_config *config = h->config;
  if (config->credentials == NULL) {
    h->username = unless_empty(config->username.bytes);
    h->password = unless_empty(config->password.bytes);
    return 0;
  }
  if (rm_secret_resize(&h->asked, USERNAME_SIZE + PASSWORD_SIZE) != 0) return rm_fail_nomem(err);
  char *username = h->asked.bytes, *password = username + USERNAME_SIZE;
  int refused = config->credentials(config->credentials_ctx, username, password);
  if (refused == REDMOON_ENOMEM) return rm_fail_nomem(err);
  if (refused < 0)
    return rm_fail(err, REDMOON_ECONNECT, "the credentials function refused the connection (it returned %d)",
                   refused);
  if (memchr(username, '\0', USERNAME_SIZE) == NULL || memchr(password, '\0', PASSWORD_SIZE) == NULL)
    return rm_fail(err, REDMOON_ECONFIG,
                   "the credentials function must end its texts with a NUL within %d and %d bytes", USERNAME_SIZE,
                   PASSWORD_SIZE);
  h->username = unless_empty(username);
  h->password = unless_empty(password);
  return 0;
}

static int in_handshake(int status, redmoon_error *err) {
  err->phase = REDMOON_PHASE_HANDSHAKE;
  err->outcome = REDMOON_NOT_SENT;
  return status;
}

int rm_handshake_start(rm_handshake *handshake, const rm_config *config, rm_role role, rm_conn *conn, redmoon_error *err) {
  redmoon_error own;
  if (err == NULL) err = &own;
  *handshake = (rm_handshake){.config = config, .conn = conn, .role = role};
  int status = ask_credentials(handshake, err);
  if (status == 0) status = prepare_flight(handshake, config->protocol != 2, err);
  return status == 0 ? 0 : in_handshake(status, err);
}

void rm_handshake_fini(rm_handshake *handshake) {
  rm_secret_fini(&handshake->asked);
  rm_secret_fini(&handshake->flight);
  rm_arena_fini(&handshake->arena);
  *handshake = (rm_handshake){0};
}

static bool begins_with(const redmoon_reply *reply, const char *text) {
  size_t len = strlen(text);
  return reply->len >= len && memcmp(reply->as.text, text, len) == 0;
}

static size_t find(const char *text, size_t len, const char *part) {
  size_t part_len = strlen(part);
  for (size_t i = 0; part_len <= len && i <= len - part_len; i++)
    if (memcmp(text + i, part, part_len) == 0) return i;
  return len;
}

static size_t presentable(const rm_handshake *h, const redmoon_reply *reply) {
  size_t len = rm_error_shown_len(reply->as.text, reply->len);
  if (h->password != NULL) len = find(reply->as.text, len, h->password);
  return len;
}

static int refused(const rm_handshake *h, const redmoon_reply *reply, redmoon_error *err) {
  size_t len = presentable(h, reply);
  int shown = len < 400 ? (int)len : 400;
  if (begins_with(reply, "ERR max number of clients")) {
    rm_fail(err, REDMOON_EUNAVAILABLE, "%s has too many clients: %.*s", h->conn->address, shown, reply->as.text);
    err->retryable = 1;
    return REDMOON_EUNAVAILABLE;
  }
  rm_fail_server(err, reply->as.text, len);
  bool no_credentials = h->password == NULL && h->username == NULL;
  if (rm_reply_is_error(reply, "NOAUTH") && no_credentials)
    snprintf(err->message, sizeof err->message, "NOAUTH the server at %s wants a password and none was given",
             h->conn->address);
  err->retryable = rm_reply_is_error(reply, "LOADING") || rm_reply_is_error(reply, "BUSY") ||
                   rm_reply_is_error(reply, "MASTERDOWN");
  return REDMOON_ESERVER;
}

static bool lacks_hello(const redmoon_reply *reply) {
  return begins_with(reply, "ERR unknown command") || begins_with(reply, "NOPROTO");
}

/* HELLO's map: {"proto": 3, "id": 42, ...}. */
static bool read_hello(rm_conn *conn, const redmoon_reply *reply) {
  if (reply->type != REDMOON_MAP) return false;
  int64_t protocol = 0, id = 0;
  for (size_t i = 0; i + 1 < reply->len; i += 2) {
    const redmoon_reply *key = &reply->as.items[i], *value = key + 1;
    if (key->type != REDMOON_STRING && key->type != REDMOON_STATUS) continue;
    if (value->type != REDMOON_INTEGER) continue;
    if (strcmp(key->as.text, "proto") == 0) protocol = value->as.integer;
    if (strcmp(key->as.text, "id") == 0) id = value->as.integer;
  }
  if (protocol != 3) return false;
  conn->protocol = 3;
  conn->client_id = id;
  return true;
}

/* An error that does no harm: the connection works without what was asked. */
static bool is_bearable(const rm_handshake *h, int purpose, const redmoon_reply *reply) {
  if (h->refused_hello && h->expected[0] == FOR_HELLO) return true; /* the rest of a flight that is given up */
  if (rm_reply_is_error(reply, "NOAUTH")) return false;
  return purpose == FOR_SETINFO || purpose == FOR_CLIENT_ID || purpose == FOR_ROLE; /* who may not ask finds out by READONLY */
}

/* What the server says it is: of HELLO's map, which is a flat array in RESP2, or the first word of ROLE.  NULL: it does not. */
static const redmoon_reply *role_told(const rm_handshake *h, int purpose, const redmoon_reply *reply) {
  bool list = reply->type == REDMOON_ARRAY || reply->type == REDMOON_MAP;
  if ((purpose != FOR_ROLE && purpose != FOR_HELLO) || !list || reply->len == 0) return NULL;
  if (purpose == FOR_ROLE && h->refused_hello) return &reply->as.items[0];
  for (size_t i = 0; i + 1 < reply->len; i += 2) {
    const redmoon_reply *key = &reply->as.items[i];
    bool text = key->type == REDMOON_STRING || key->type == REDMOON_STATUS;
    if (text && strcmp(key->as.text, "role") == 0) return key + 1;
  }
  return NULL;
}

static int check_role(const rm_handshake *h, int purpose, const redmoon_reply *reply, redmoon_error *err) {
  const redmoon_reply *role = h->role == RM_ROLE_ANY ? NULL : role_told(h, purpose, reply);
  if (role == NULL || (role->type != REDMOON_STRING && role->type != REDMOON_STATUS)) return 0;
  if (strcmp(role->as.text, "master") == 0 || strcmp(role->as.text, "primary") == 0) return 0;
  rm_fail(err, REDMOON_EUNAVAILABLE, "%s is no primary (it says that it is a %.*s)", h->conn->address,
          (int)rm_error_shown_len(role->as.text, role->len < 32 ? role->len : 32), role->as.text);
  err->retryable = 1;
  return REDMOON_EUNAVAILABLE;
}

static bool is_as_expected(rm_handshake *h, int purpose, const redmoon_reply *reply) {
  if (purpose == FOR_HELLO) return read_hello(h->conn, reply);
  if (purpose == FOR_CLIENT_ID) {
    if (reply->type == REDMOON_INTEGER) h->conn->client_id = reply->as.integer;
    return reply->type == REDMOON_INTEGER;
  }
  if (purpose == FOR_ROLE) return reply->type == REDMOON_ARRAY || reply->type == REDMOON_MAP;
  return reply->type == REDMOON_STATUS && reply->len == 2 && memcmp(reply->as.text, "OK", 2) == 0;
}

/* Judges one reply.  0 or negative. */
static int accept_reply(rm_handshake *h, const redmoon_reply *reply, redmoon_error *err) {
  static const char *const names[] = {"HELLO", "AUTH", "CLIENT SETNAME", "CLIENT SETINFO", "SELECT", "CLIENT ID", "READONLY", "ROLE"};
  if (reply->type == REDMOON_PUSH && h->conn->protocol == 3) return 0; /* belongs to no command */
  int purpose = h->expected[h->answered++];
  if (reply->type == REDMOON_ERROR) {
    if (purpose == FOR_HELLO && lacks_hello(reply)) h->refused_hello = true;
    else if (!is_bearable(h, purpose, reply)) return refused(h, reply, err);
  } else if (!is_as_expected(h, purpose, reply)) {
    return rm_fail(err, REDMOON_EPROTOCOL, "handshake with %s: the reply to %s has an unexpected form",
                   h->conn->address, names[purpose]);
  }
  return check_role(h, purpose, reply, err);
}

/* All replies of a flight are here.  RM_DONE, or RM_WAIT when another flight begins. */
static int finish_flight(rm_handshake *h, redmoon_error *err) {
  if (rm_reader_has_bytes(h->conn->reader))
    return rm_fail(err, REDMOON_EPROTOCOL, "handshake with %s: more bytes came than replies are due",
                   h->conn->address);
  if (h->refused_hello && h->expected[0] == FOR_HELLO) {
    int status = prepare_flight(h, false, err);
    return status == 0 ? RM_WAIT : status;
  }
  return RM_DONE;
}

static int ended(const rm_handshake *h, const char *reason, redmoon_error *err) {
  bool nothing_yet = h->answered == 0 && h->expected[0] == FOR_HELLO && h->conn->ssl == NULL;
  return rm_fail(err, REDMOON_ECONNECT, "handshake with %s: %s%s", h->conn->address, reason,
                 nothing_yet ? " before it answered anything (is it a TLS port?)" : "");
}

/* RM_DONE when all is sent.  A failure is kept: the reason may stand in what the server said first. */
static int send_flight(rm_handshake *h, rm_wants *wants) {
  while (h->sent < h->flight.len) {
    ssize_t n = rm_conn_send(h->conn, h->flight.bytes + h->sent, h->flight.len - h->sent, NULL, NULL);
    if (n > 0) {
      h->sent += (size_t)n;
    } else if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *wants = (rm_wants){.fd = h->conn->fd,
                          .events = n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE,
                          .until_us = RM_FOREVER};
      return RM_WAIT;
    } else {
      h->send_status = REDMOON_ECONNECT;
      break;
    }
  }
  rm_secret_fini(&h->flight);
  h->sent = 0;
  return RM_DONE;
}

/* RM_DONE when bytes came. */
static int receive_more(rm_handshake *h, rm_wants *wants, redmoon_error *err) {
  ssize_t n = rm_conn_receive(h->conn, false, err);
  if (n > 0) return RM_DONE;
  if (n == RM_IO_EOF) return ended(h, "the server closed the connection", err);
  if (n == RM_IO_ERROR) {
    /* Under TLS 1.3 a server refuses the client's certificate only now. */
    if (err->status == REDMOON_ENOMEM || err->status == REDMOON_ETLS) return err->status;
    return ended(h, "the connection broke", err);
  }
  if (h->send_status != 0) return ended(h, "the connection broke", err);
  *wants = (rm_wants){.fd = h->conn->fd,
                      .events = n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE,
                      .until_us = RM_FOREVER};
  return RM_WAIT;
}

static int next_reply(rm_handshake *h, redmoon_error *err) {
  redmoon_reply *reply = NULL;
  int found = rm_conn_next(h->conn, &h->arena, &reply, err);
  if (found < 0 && found != REDMOON_ENOMEM)
    rm_fail(err, found, "handshake with %s: %.300s%s", h->conn->address, err->message,
            h->conn->ssl == NULL && h->answered == 0 ? " (is it a TLS port?)" : "");
  if (found <= 0) return found;
  int status = accept_reply(h, reply, err);
  rm_arena_reset(&h->arena, 4096);
  return status == 0 ? 1 : status;
}

static int step(rm_handshake *h, rm_wants *wants, redmoon_error *err) {
  for (;;) {
    if (h->flight.bytes != NULL && send_flight(h, wants) == RM_WAIT) return RM_WAIT;
    while (h->answered < h->expected_count) {
      int found = next_reply(h, err);
      if (found < 0) return found;
      if (found > 0) continue;
      int status = receive_more(h, wants, err);
      if (status != RM_DONE) return status;
    }
    int status = finish_flight(h, err);
    if (status != RM_WAIT) return status;
  }
}

int rm_handshake_step(rm_handshake *handshake, rm_wants *wants, redmoon_error *err) {
  redmoon_error own;
  if (err == NULL) err = &own;
  rm_error_clear(err);
  int status = step(handshake, wants, err);
  return status < 0 ? in_handshake(status, err) : status;
}
