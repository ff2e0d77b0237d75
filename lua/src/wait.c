/* SPDX-License-Identifier: MIT */
/* The one waiting function.  It blocks the thread; event loops will resume into the same tail, rm_lua_end. */
#include "binding.h"

int rm_lua_wait(lua_State *L, const rm_lua_link *link, redmoon_op *op) {
  if (link->credentials == NULL) return rm_drive(op);
  lua_State *outer = rm_lua_credentials_enter(link->credentials, L);
  int status = rm_drive(op);
  rm_lua_credentials_enter(link->credentials, outer);
  return status;
}

int rm_lua_run(lua_State *L, const rm_lua_link *link, int started, redmoon_op *op, redmoon_error *err) {
  if (started < 0) return started;
  rm_lua_wait(L, link, op);
  return redmoon_op_finish(op, err);
}

int rm_lua_end(lua_State *L, const rm_lua_link *link, int count) {
  rm_lua_shared *shared = link->shared;
  if (atomic_load_explicit(&shared->pending, memory_order_relaxed) != 0) rm_lua_hooks_dispatch(L, shared);
  if (shared->watched > 0) rm_lua_locks_dispatch(L, shared);
  return count;
}
