/* SPDX-License-Identifier: MIT */
/** A scenario whose requests for memory are refused: the N-th alone, then the N-th and all later ones, N = 1, 2, ... until it
 *  asks for no more.  Each time it ends well or with NOMEM, the pool's counts are exact, no descriptor stays open, what was
 *  written agrees with the outcome, and the next call works.  Leaks are ASan's to find.
 *
 *      static const scenario list[] = {{"command", command_set, check_set, false}};
 *      squeeze_list(*state, list, 1);       // in a test between refused_memory_start and refused_memory_stop
 */
#ifndef TESTS_SUPPORT_REFUSED_MEMORY_H
#define TESTS_SUPPORT_REFUSED_MEMORY_H

#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum gate_mode { GATE_OPEN, GATE_ONCE, GATE_FROM_THEN_ON } gate_mode;

/** Asked by the keeper and the resolver too, hence atomic. */
typedef struct gate {
  atomic_int mode;
  atomic_long asked, at, refused;
} gate;

/** For rm_alloc_set_refuse; `ctx` is the gate. */
bool gate_refuses(void *ctx, size_t size);
void gate_set(gate *g, gate_mode mode, long at);

/** What the scenarios act on. */
typedef struct world {
  gate gate;
  redis_server *server;
  redmoon_client *client; /* fresh for each run */
  redmoon_script *script;
  char tag[32]; /* of this run; names what it writes */
  bool queued;  /* the transaction's body came to its end */
  int took;     /* how many of its calls the pattern has done; -1: there was no pattern */
  int counted;  /* and how many of its three the counter; -1: there was no counter */
} world;

typedef struct scenario {
  const char *name;
  int (*run)(world *w, redmoon_error *err);
  /* Whether what was written agrees with the status; NULL: nothing to look at. */
  void (*check)(world *w, int status, const redmoon_error *err);
  bool dials_itself; /* opens clients of its own */
} scenario;

/** Of a test's setup and teardown: *state is the world. */
int refused_memory_start(void **state);
int refused_memory_stop(void **state);
void squeeze_list(world *w, const scenario *list, size_t count);
/** An abandoned resolver's thread closes what it holds in its own time. */
void await_descriptors(size_t expected, const char *name, long at);
size_t count_descriptors(void);
size_t count_entries(const char *path);

#endif
