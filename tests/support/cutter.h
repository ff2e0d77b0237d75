/* SPDX-License-Identifier: MIT */
/* A proxy that loses answers: it stands between a client and a server's unix socket, lets the server execute a
 * script, and closes the client's connection instead of handing its answer on. */
#ifndef TESTS_CUTTER_H
#define TESTS_CUTTER_H

typedef struct cutter cutter;

/** Fails the test on any error.  `server_url` is "unix://<path>". */
cutter *cutter_start(const char *server_url);
/** URL of its own socket. */
const char *cutter_url(const cutter *c);
/** The answers of the next `count` scripts are lost. */
void cutter_lose(cutter *c, int count);
/** How many are still to be lost. */
int cutter_left(cutter *c);
void cutter_stop(cutter *c);

#endif
