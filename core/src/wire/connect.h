/* SPDX-License-Identifier: MIT */
/** From an address to a connection that is ready for commands, within one deadline:
 *
 *      resolve -> dial (each address in turn, the budget split) -> TLS -> HELLO / AUTH / SETNAME / SETINFO / SELECT
 *
 *  Any failure on the way closes what there was; nothing half-made is ever handed out. */
#ifndef RM_WIRE_CONNECT_H
#define RM_WIRE_CONNECT_H

#include "base/wants.h"
#include "wire/config.h"
#include "wire/conn.h"
#include "wire/handshake.h"
#include "wire/resolver.h"
#include "wire/tls.h"

typedef struct rm_connect rm_connect; /* one thread at a time */

/** What all dials of a client share; borrowed, must outlive the dial. */
typedef struct rm_dialer {
  const rm_config *config;
  rm_tls *tls; /* NULL: plain */
  rm_resolver *resolver;
  rm_role role; /* what the server has to be; one that is something else is UNAVAILABLE, retryable */
} rm_dialer;

/** "host:port", "[v6]:port" or the path, shortened to fit. */
void rm_address_name(char *out, size_t cap, const rm_address *address);
/** Begins at `now_us`; `deadline_us` bounds all phases together. */
int rm_connect_start(const rm_dialer *dialer, const rm_address *address, int64_t now_us, int64_t deadline_us,
                     rm_connect **out, redmoon_error *err);
/** RM_DONE: *out is the connection.  Errors: TIMEOUT (err->phase says which ate the time), CONNECT, TLS, PROTOCOL,
 *  a server's own code (WRONGPASS, NOAUTH, NOPERM, ...), NOMEM; err->address is set. */
int rm_connect_step(rm_connect *connect, int64_t now_us, rm_wants *wants, rm_conn **out, redmoon_error *err);
/** Ends or abandons.  NULL is allowed. */
void rm_connect_free(rm_connect *connect);

#endif
