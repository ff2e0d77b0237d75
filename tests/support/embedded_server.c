/* SPDX-License-Identifier: MIT */
/* Which program it is, an environment variable says. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/embedded_server.h"

#include <stdlib.h>

void embedded_server_open(redmoon_embedded **server, redmoon_client **client) {
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  redmoon_error err;
  options.server = getenv("REDMOON_TEST_SERVER");
  if (redmoon_embedded_start(&options, server, &err) != 0) fail_msg("%s", err.message);
  if (redmoon_client_open(redmoon_embedded_url(*server), NULL, client, &err) != 0) fail_msg("%s", err.message);
}
