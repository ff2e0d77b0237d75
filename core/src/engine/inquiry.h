/* SPDX-License-Identifier: MIT */
/** One question to one server, on a connection of its own: what topologies are found out by.  It takes nothing from the
 *  pools, which may be busy for as long as they like.
 *
 *      start --> dial, handshake --> send --> the reply     step() until RM_DONE; fini in whatever state
 *                                     ^-- also() --+        then step() again, until the next one is there */
#ifndef RM_ENGINE_INQUIRY_H
#define RM_ENGINE_INQUIRY_H

#include "wire/connect.h"
#include "wire/request.h"

/** Zeroed: none.  One thread at a time. */
typedef struct rm_inquiry {
  rm_connect *connect;
  rm_conn *conn;
  rm_request request;
  size_t sent;
  rm_arena arena;   /* of the reply */
  int64_t by_us;
  int64_t asked_us; /* when the question was sent */
} rm_inquiry;

/** `argv` is copied; argc 0: nothing is asked, and what counts is that it could be dialled (then *reply is NULL).
 *    The whole of it is bounded by `by_us`.  0 or negative; after either rm_inquiry_fini is allowed. */
int rm_inquiry_start(rm_inquiry *inquiry, const rm_dialer *dialer, const rm_address *address, int argc,
                     const char *const *argv, int64_t now_us, int64_t by_us, redmoon_error *err);
/** Another question behind those that were asked, whose answers come in this order; what was read may be dropped by
 *  rm_arena_reset.  0 or NOMEM. */
int rm_inquiry_also(rm_inquiry *inquiry, int argc, const char *const *argv, redmoon_error *err);
/** RM_DONE: *reply, an error reply included, lives until rm_inquiry_fini. */
int rm_inquiry_step(rm_inquiry *inquiry, int64_t now_us, rm_wants *wants, redmoon_reply **reply, redmoon_error *err);
void rm_inquiry_fini(rm_inquiry *inquiry);

#endif
