/* SPDX-License-Identifier: MIT */
/* The dial from end to end.
 *
 *     start --name or literal--> RESOLVE --> DIAL --> [TLS] --> HANDSHAKE --> done: the connection is the caller's
 *       +-----unix path--------------------->^
 *
 *     at any point: an error, or the deadline --> ENDED (everything is closed) */
#include "wire/connect.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "wire/dial.h"
#include "wire/handshake.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { RESOLVE = RM_CONNECT_RESOLVE, DIAL = RM_CONNECT_DIAL, TLS = RM_CONNECT_TLS, HANDSHAKE = RM_CONNECT_HANDSHAKE,
       ENDED = RM_CONNECT_PHASES };

struct rm_connect {
  rm_dialer dialer;
  int state;
  int64_t began_us, deadline_us;
  int64_t entered_us;                   /* when the state was entered, by the clock: one step may pass through several */
  int64_t phases_us[RM_CONNECT_PHASES]; /* how long it was in each: told, and nothing is decided by it */
  rm_lookup *lookup;
  rm_dial dial;
  rm_conn *conn;
  rm_handshake handshake;
  char *host, *path; /* one of them */
  char name[128];    /* "host:port" or the path, shortened */
};

void rm_address_name(char *out, size_t cap, const rm_address *address) {
  if (address->path != NULL) snprintf(out, cap, "%s", address->path);
  else if (strchr(address->host, ':') != NULL) snprintf(out, cap, "[%.100s]:%d", address->host, address->port);
  else snprintf(out, cap, "%.110s:%d", address->host, address->port);
}

static void enter(rm_connect *c, int state) {
  int64_t now_us = rm_clock_now_us();
  if (c->state < RM_CONNECT_PHASES) c->phases_us[c->state] += now_us - c->entered_us;
  c->entered_us = now_us;
  c->state = state;
}

/* Closes everything but what the struct itself is. */
static void release_all(rm_connect *c) {
  rm_lookup_free(c->lookup);
  c->lookup = NULL;
  rm_handshake_fini(&c->handshake);
  rm_dial_fini(&c->dial);
  rm_conn_close(c->conn);
  c->conn = NULL;
  enter(c, ENDED);
}

void rm_connect_free(rm_connect *connect) {
  if (connect == NULL) return;
  release_all(connect);
  rm_free(connect->host);
  rm_free(connect->path);
  rm_free(connect);
}

/* What every error of a dial has in common: nothing of the caller's was sent. */
static int fail_with_address(int status, const char *name, redmoon_error *err) {
  if (err == NULL) return status;
  snprintf(err->address, sizeof err->address, "%s", name);
  err->outcome = REDMOON_NOT_SENT;
  if (status == REDMOON_ETIMEOUT || status == REDMOON_EUNAVAILABLE || status == REDMOON_ECONNECT)
    err->retryable = 1;
  return status;
}

static void start_dial(rm_connect *c, const struct addrinfo *list) {
  const rm_config *config = c->dialer.config;
  rm_dial_options options = {config->read_timeout_ms, config->write_timeout_ms};
  rm_dial_start(&c->dial, list, c->path, c->name, &options, c->deadline_us);
  enter(c, DIAL);
}

int rm_connect_start(const rm_dialer *dialer, const rm_address *address, int64_t now_us, int64_t deadline_us,
                     rm_connect **out, redmoon_error *err) {
  *out = NULL;
  char name[sizeof((rm_connect *)0)->name];
  rm_address_name(name, sizeof name, address);
  rm_connect *c = rm_calloc(1, sizeof *c);
  int status = c == NULL ? rm_fail_nomem(err) : 0;
  if (status != 0) return fail_with_address(status, name, err);
  c->dialer = *dialer;
  c->dial = RM_DIAL_INIT;
  c->began_us = now_us;
  c->entered_us = rm_clock_now_us();
  c->state = address->path != NULL ? DIAL : RESOLVE;
  c->deadline_us = deadline_us;
  memcpy(c->name, name, sizeof name);
  c->host = address->host != NULL ? rm_strdup(address->host) : NULL;
  c->path = address->path != NULL ? rm_strdup(address->path) : NULL;
  if (c->host == NULL && c->path == NULL) status = rm_fail_nomem(err);
  else if (c->path != NULL) start_dial(c, NULL);
  else status = rm_lookup_start(dialer->resolver, c->host, address->port, &c->lookup, err);
  if (status != 0) {
    rm_connect_free(c);
    return fail_with_address(status, name, err);
  }
  *out = c;
  return 0;
}

static int fail_late(const rm_connect *c, redmoon_error *err) {
  static const struct {
    redmoon_phase phase;
    const char *doing;
  } phases[] = {[RESOLVE] = {REDMOON_PHASE_RESOLVE, "while resolving the name"},
                [DIAL] = {REDMOON_PHASE_DIAL, "while dialling"},
                [TLS] = {REDMOON_PHASE_TLS, "during the TLS handshake"},
                [HANDSHAKE] = {REDMOON_PHASE_HANDSHAKE, "during the handshake"}};
  /* The other addresses of the name may say more than the one that kept silent. */
  const char *reasons = c->state == DIAL ? c->dial.reasons : "";
  return rm_fail_phase(err, REDMOON_ETIMEOUT, phases[c->state].phase,
                       "connecting to %s: no answer within %lld ms %s%s%s", c->name,
                       (long long)((c->deadline_us - c->began_us) / 1000), phases[c->state].doing,
                       reasons[0] != '\0' ? ";" : "", reasons);
}

static int step_resolve(rm_connect *c, rm_wants *wants, redmoon_error *err) {
  const struct addrinfo *list = NULL;
  int status = rm_lookup_poll(c->lookup, &list, err);
  if (status == RM_DONE) start_dial(c, list);
  else if (status == RM_WAIT)
    *wants = (rm_wants){.fd = rm_lookup_fd(c->lookup), .events = REDMOON_WANT_READ, .until_us = RM_FOREVER};
  return status;
}

static int start_handshake(rm_connect *c, redmoon_error *err) {
  int status = rm_handshake_start(&c->handshake, c->dialer.config, c->dialer.role, c->conn, err);
  enter(c, HANDSHAKE);
  return status == 0 ? RM_DONE : status;
}

static int step_dial(rm_connect *c, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  int fd = -1;
  int status = rm_dial_step(&c->dial, now_us, wants, &fd, err);
  if (status != RM_DONE) return status;
  rm_lookup_free(c->lookup);
  c->lookup = NULL;
  rm_limits limits = rm_limits_for(c->dialer.config->max_reply_size);
  c->conn = rm_conn_new(fd, &limits);
  if (c->conn == NULL) {
    close(fd);
    return rm_fail_nomem(err);
  }
  memcpy(c->conn->address, c->name, sizeof c->name);
  c->conn->receive_timeout_us = c->dial.receive_timeout_us;
  if (c->dialer.tls == NULL) return start_handshake(c, err);
  enter(c, TLS);
  status = rm_tls_attach(c->dialer.tls, fd, c->host != NULL ? c->host : "localhost", &c->conn->ssl, err);
  return status == 0 ? RM_DONE : status;
}

static int step_tls(rm_connect *c, rm_wants *wants, redmoon_error *err) {
  int events = 0;
  int status = rm_tls_handshake(c->conn->ssl, c->host != NULL ? c->host : "localhost", &events, err);
  if (status == RM_DONE) return start_handshake(c, err);
  if (status == RM_WAIT) *wants = (rm_wants){.fd = c->conn->fd, .events = events, .until_us = RM_FOREVER};
  return status;
}

static rm_conn *take_conn(rm_connect *c, int64_t now_us) {
  rm_conn *conn = c->conn;
  c->conn = NULL;
  conn->created_us = conn->idle_since_us = now_us;
  release_all(c);
  memcpy(conn->connect_us, c->phases_us, sizeof c->phases_us);
  return conn;
}

/* Goes as far as it goes; RM_DONE only when the handshake is. */
static int advance(rm_connect *c, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  for (;;) {
    int status;
    switch (c->state) {
    case RESOLVE:
      status = step_resolve(c, wants, err);
      break;
    case DIAL:
      status = step_dial(c, now_us, wants, err);
      break;
    case TLS:
      status = step_tls(c, wants, err);
      break;
    case HANDSHAKE:
      return rm_handshake_step(&c->handshake, wants, err);
    default:
      return rm_fail(err, REDMOON_ECLOSED, "connecting to %s: this dial has ended", c->name);
    }
    if (status != RM_DONE) return status;
  }
}

int rm_connect_step(rm_connect *connect, int64_t now_us, rm_wants *wants, rm_conn **out, redmoon_error *err) {
  bool late = now_us >= connect->deadline_us && connect->state != ENDED;
  int status = late ? fail_late(connect, err) : advance(connect, now_us, wants, err);
  if (status == RM_WAIT) {
    wants->until_us = rm_min64(wants->until_us, connect->deadline_us);
  } else if (status == RM_DONE) {
    *out = take_conn(connect, now_us);
  } else {
    release_all(connect);
    fail_with_address(status, connect->name, err);
  }
  return status;
}
