/* SPDX-License-Identifier: MIT */
/* The memory of operations.  A client keeps that of the one that ended last, with the buffers of its request and its
 * replies, for the next one: most of what an operation asks malloc for.
 *
 *     rm_call_new <--- core->spare <--- rm_call_delete     one slot, taken and filled by an atomic exchange
 */
#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/core.h"

#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(ptr, len) ((void)(ptr), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(ptr, len) ((void)(ptr), (void)(len))
#endif

enum { SPARE_BYTES = 3072, KEEP_BYTES = 4096 }; /* of an operation; of each buffer */

/* All but the texts of the error, which are most of it and end with their first byte. */
static void zero(rm_call *call, size_t size) {
  memset(call, 0, offsetof(redmoon_op, error));
  rm_error_clear(&call->op.error);
  memset((char *)call + sizeof call->op, 0, size - sizeof call->op);
}

void *rm_call_new(redmoon_client *client, size_t size) { return rm_call_new_zeroed(client, size, size); }

void *rm_call_new_zeroed(redmoon_client *client, size_t size, size_t zeroed) {
  rm_buffer bytes = {0};
  rm_arena arena = {0};
  bool spares = size <= SPARE_BYTES;
  rm_call *call = spares ? atomic_exchange(&client->core->spare, NULL) : NULL;
  if (call != NULL) {
    ASAN_UNPOISON_MEMORY_REGION(call, SPARE_BYTES);
    bytes = call->request.bytes;
    arena = call->arena;
  } else if ((call = rm_alloc(spares ? SPARE_BYTES : size)) == NULL) {
    return NULL;
  }
  zero(call, zeroed);
  rm_call_init(call, client, true);
  call->request.bytes = bytes;
  call->arena = arena;
  call->spares = spares;
  return call;
}

static void drop(rm_call *call) {
  if (call == NULL) return;
  ASAN_UNPOISON_MEMORY_REGION(call, SPARE_BYTES);
  rm_buffer_fini(&call->request.bytes);
  rm_arena_fini(&call->arena);
  rm_free(call);
}

void rm_call_delete(rm_call *call) {
  redmoon_client *client = call->op.client;
  if (!call->spares) {
    rm_call_fini(call);
    rm_free(call);
    return;
  }
  rm_call_give_up(call); /* a lane might still send from its request */
  rm_buffer bytes = call->request.bytes;
  rm_arena arena = call->arena;
  call->request.bytes = (rm_buffer){0};
  call->arena = (rm_arena){0};
  call->own = false; /* closed below: the slot is the client's */
  rm_call_fini(call);
  rm_buffer_reset(&bytes, KEEP_BYTES);
  rm_arena_reset(&arena, KEEP_BYTES);
  call->request.bytes = bytes;
  call->arena = arena;
  ASAN_POISON_MEMORY_REGION(call, SPARE_BYTES);
  drop(atomic_exchange(&client->core->spare, call));
  redmoon_client_close(client);
}

void rm_call_drop_spare(rm_core *core) { drop(atomic_exchange(&core->spare, NULL)); }
