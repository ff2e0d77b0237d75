/* SPDX-License-Identifier: MIT */
/** Everything but the Lua face (<redmoon/lua.h>).
 *
 *  Conventions: functions that can fail return 0 or a negative enum redmoon_status, with the detail in a caller-owned
 *  redmoon_error (NULL allowed).  Times are milliseconds unless the name says `_us`.  Data is binary-safe. */
#ifndef REDMOON_REDMOON_H
#define REDMOON_REDMOON_H

#include <redmoon/audit.h>
#include <redmoon/blocklist.h>
#include <redmoon/cache.h>
#include <redmoon/client.h>
#include <redmoon/command.h>
#include <redmoon/counter.h>
#include <redmoon/embedded.h>
#include <redmoon/error.h>
#include <redmoon/fence_guard.h>
#include <redmoon/list_queue.h>
#include <redmoon/lock.h>
#include <redmoon/op.h>
#include <redmoon/options.h>
#include <redmoon/permit.h>
#include <redmoon/queue.h>
#include <redmoon/rate_limiter.h>
#include <redmoon/records.h>
#include <redmoon/redlock.h>
#include <redmoon/reply.h>
#include <redmoon/rwlock.h>
#include <redmoon/scan.h>
#include <redmoon/script.h>
#include <redmoon/sessions.h>
#include <redmoon/semaphore.h>
#include <redmoon/stream_queue.h>
#include <redmoon/subscription.h>
#include <redmoon/topic.h>
#include <redmoon/topic_cursor.h>
#include <redmoon/transaction.h>
#include <redmoon/version.h>

#endif
