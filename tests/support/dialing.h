/* SPDX-License-Identifier: MIT */
/** Driving dials and connections in tests: the smallest blocking driver, and a config to start from. */
#ifndef TESTS_SUPPORT_DIALING_H
#define TESTS_SUPPORT_DIALING_H

#include "wire/connect.h"

/** What a dial needs, with defaults: no credentials, database 0, protocol 3, 5 s. */
typedef struct dialing {
  rm_config config;
  rm_dialer dialer;
  rm_address address;
  int64_t timeout_ms;
} dialing;

void dialing_init(dialing *d);
void dialing_fini(dialing *d);
void dialing_to_path(dialing *d, const char *path);
void dialing_to_port(dialing *d, const char *host, int port);
void dialing_login(dialing *d, const char *username, const char *password); /* NULL: none */

/** Dials, waiting with poll().  0 and a connection, or a negative status. */
int dialing_run(dialing *d, rm_conn **out, redmoon_error *err);
/** Waits for what `wants` says, at most `limit_ms` (-1: as long as it says). */
void dialing_wait(const rm_wants *wants, int limit_ms);
/** Waits until rm_conn_receive brings something; as that. */
ssize_t dialing_receive(rm_conn *conn);
/** Sends raw RESP and gives the next reply's text (STATUS, STRING or ERROR) in a static buffer, or NULL. */
const char *dialing_ask(rm_conn *conn, const char *request);
/** Descriptors that this process has open. */
int dialing_open_fds(void);

#endif
