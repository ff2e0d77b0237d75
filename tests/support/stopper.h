/* SPDX-License-Identifier: MIT */
/** A proxy between clients and a server's unix socket that cuts connections, or turns into a black hole for them: they stay
 *  open, and nothing comes through any more.
 *
 *  Thread class: started and stopped by one thread; cut and swallow from one at a time, and done when they return. */
#ifndef TESTS_SUPPORT_STOPPER_H
#define TESTS_SUPPORT_STOPPER_H

typedef struct stopper stopper;

/** Never NULL. */
stopper *stopper_start(const char *server_path);
/** "unix://..." of its own socket. */
const char *stopper_url(const stopper *s);
/** Closes all connections that there are. */
void stopper_cut(stopper *s);
/** From here nothing comes through those that there are; new ones work. */
void stopper_swallow(stopper *s);
void stopper_stop(stopper *s);

#endif
