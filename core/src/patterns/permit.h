/* SPDX-License-Identifier: MIT */
/** The handle behind redmoon_permit: what the client may believe about a lease that scripts gave. */
#ifndef RM_PATTERNS_PERMIT_H
#define RM_PATTERNS_PERMIT_H

#include "engine/script.h"

#include <redmoon/permit.h>
#include <stdbool.h>

enum { RM_PERMIT_TOKEN_LEN = 32, RM_PERMIT_SHOWN = 120 };

/** What it is a permit of.  Static. */
typedef struct rm_permit_kind {
  const char *noun;    /* as messages begin: "semaphore" */
  const char *counter; /* of metrics() */
  const rm_builtin *extend, *release;
  bool counted;      /* the scripts take the count behind the token */
  const char *waits; /* part of the mark of those who wait, and of their channel */
  const char *last_only; /* of a counted one: "1" when only the release of the last permit is of use to them, else "0" */
} rm_permit_kind;

typedef enum rm_permit_state {
  RM_PERMIT_NEW,
  RM_PERMIT_HOLDS,
  RM_PERMIT_LEAVES,
  RM_PERMIT_RELEASED,
  RM_PERMIT_LOST
} rm_permit_state;

struct redmoon_permit {
  redmoon_client *client; /* a reference */
  const rm_permit_kind *kind;
  size_t refs;   /* handles, operations under way, the lock that hands it out again */
  int64_t holds; /* handed out so often, and not yet released */
  rm_permit_state state;
  redmoon_bytes key;       /* of extend and release */
  redmoon_bytes waits_key; /* of release and acquisitions */
  int64_t ttl_ms, count, fence;
  int64_t until_us;    /* boot clock: end of the lease by the careful judgement */
  bool maybe_released; /* a release went out and no answer came */
  char token[RM_PERMIT_TOKEN_LEN + 1];
  char shown[RM_PERMIT_SHOWN]; /* the name, as messages show it */
};

/** One that is not held yet, with a token of its own and the key of `part`. */
int rm_permit_new(redmoon_client *client, const rm_permit_kind *kind, const void *name, size_t name_len,
                  const char *part, int64_t ttl_ms, redmoon_permit **out, redmoon_error *err);
redmoon_permit *rm_permit_ref(redmoon_permit *permit);
/** A lease was given with `left_us` of it left at some time after `began_us` (boot clock).  REDMOON_ELOST when it
 * seems to be over already. */
int rm_permit_given(redmoon_permit *permit, int64_t began_us, int64_t left_us, redmoon_error *err);
/** An extension of a permit that is held, after which it is handed out once more: *out is written then. */
int rm_permit_again_start(redmoon_permit *permit, redmoon_permit **out, redmoon_op **op, redmoon_error *err);

/** Element `index` of a script's answer, or REDMOON_EPROTOCOL. */
int rm_permit_answer_at(const redmoon_permit *permit, const redmoon_reply *reply, size_t index, int64_t *out,
                        redmoon_error *err);
/** Notes in `err` that the server has answered; returns `status`. */
int rm_permit_answered(redmoon_error *err, const rm_answer *answer, int status);
/** Option checks; `noun` begins the message.  0 or REDMOON_ECONFIG. */
int rm_permit_check_ttl(const char *noun, int64_t ttl_ms, redmoon_error *err);
int rm_permit_check_wait(const char *noun, int64_t wait_ms, redmoon_error *err);
/** The default for REDMOON_UNSET. */
static inline int64_t rm_permit_option(int64_t value, int64_t otherwise) {
  return value == REDMOON_UNSET ? otherwise : value;
}
enum { RM_PERMIT_TTL_MS = 10000 };

#endif
