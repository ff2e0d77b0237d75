/* SPDX-License-Identifier: MIT */
/** An embedded server of the kind that is tested ($REDMOON_TEST_SERVER, else that of $PATH) and a client of it; both are the
 *  caller's.  Fails the test on any error. */
#ifndef TESTS_SUPPORT_EMBEDDED_SERVER_H
#define TESTS_SUPPORT_EMBEDDED_SERVER_H

#include <redmoon/redmoon.h>

void embedded_server_open(redmoon_embedded **server, redmoon_client **client);

#endif
