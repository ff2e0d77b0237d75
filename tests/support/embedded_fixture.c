/* SPDX-License-Identifier: MIT */
/* One for a whole program, hence static. */
#include "support/embedded_fixture.h"

#include "support/ask.h"
#include "support/embedded_server.h"

int embedded_fixture_start(void **state) {
  static fixture f;
  embedded_server_open(&f.server, &f.client);
  *state = &f;
  return 0;
}

int embedded_fixture_stop(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  return 0;
}

int embedded_fixture_empty(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  return 0;
}
