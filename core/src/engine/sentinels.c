/* SPDX-License-Identifier: MIT */
/* A short list of sentinels, in the order in which they are asked. */
#include "engine/sentinels.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"

#include <string.h>

static bool append(rm_sentinels *self, const char *host, int port, bool seed) {
  char *copy = rm_strdup(host);
  if (copy == NULL) return false;
  self->all[self->count++] = (rm_sentinel){.address = {.host = copy, .port = port}, .seed = seed, .round = self->round};
  return true;
}

/* Moves the one at `from` to `to`; those between make room. */
static void move(rm_sentinels *self, size_t from, size_t to) {
  rm_sentinel moved = self->all[from];
  if (to < from) memmove(&self->all[to + 1], &self->all[to], (from - to) * sizeof moved);
  else memmove(&self->all[from], &self->all[from + 1], (to - from) * sizeof moved);
  self->all[to] = moved;
}

int rm_sentinels_init(rm_sentinels *self, const rm_config *config, redmoon_error *err) {
  for (size_t i = 0; i < config->address_count && self->count < RM_SENTINELS_MAX; i++)
    if (!append(self, config->addresses[i].host, config->addresses[i].port, true)) return rm_fail_nomem(err);
  for (size_t i = self->count; i > 1; i--) move(self, i - 1, (size_t)rm_random_upto((int64_t)i - 1)); /* not all clients the same one */
  return 0;
}

void rm_sentinels_fini(rm_sentinels *self) {
  for (size_t i = 0; i < self->count; i++) rm_free(self->all[i].address.host);
  *self = (rm_sentinels){0};
}

void rm_sentinels_add(rm_sentinels *self, const rm_announced *server) {
  for (size_t i = 0; i < self->count; i++) {
    rm_sentinel *known = &self->all[i];
    if (known->address.port != server->port || strcmp(known->address.host, server->host) != 0) continue;
    known->round = self->round;
    return;
  }
  if (self->count < RM_SENTINELS_MAX) (void)append(self, server->host, server->port, false);
}

void rm_sentinels_prefer(rm_sentinels *self, size_t at) {
  self->all[at].round = self->round;
  move(self, at, 0);
  size_t kept = 0;
  for (size_t i = 0; i < self->count; i++) {
    if (self->all[i].seed || self->all[i].round == self->round) self->all[kept++] = self->all[i];
    else rm_free(self->all[i].address.host);
  }
  self->count = kept;
  self->round++;
}

void rm_sentinels_postpone(rm_sentinels *self) {
  if (self->count > 1) move(self, 0, self->count - 1);
}
