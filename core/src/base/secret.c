/* SPDX-License-Identifier: MIT */
/* Secrets in sodium_malloc'ed memory. */
#include "base/secret.h"

#include "base/alloc.h"
#include "base/random.h"

#include <redmoon/error.h>
#include <sodium.h>
#include <string.h>

/* sodium_malloc does not pass the test gate of rm_alloc, so a token request asks it in its stead. */
static char *locked_bytes(size_t len) {
  void *gate = rm_alloc(1);
  /* Before sodium_init, sodium_malloc aborts the process. */
  if (gate == NULL || len == SIZE_MAX || rm_random_init() != 0) {
    rm_free(gate);
    return NULL;
  }
  rm_free(gate);
  return sodium_malloc(len + 1);
}

int rm_secret_resize(rm_secret *secret, size_t len) {
  char *bytes = locked_bytes(len);
  if (bytes == NULL) return REDMOON_ENOMEM;
  memset(bytes, 0, len + 1);
  rm_secret_fini(secret);
  secret->bytes = bytes;
  secret->len = len;
  return 0;
}

int rm_secret_set(rm_secret *secret, const void *ptr, size_t len) {
  char *bytes = locked_bytes(len);
  if (bytes == NULL) return REDMOON_ENOMEM;
  if (len > 0) memcpy(bytes, ptr, len);
  bytes[len] = '\0';
  rm_secret_fini(secret);
  secret->bytes = bytes;
  secret->len = len;
  return 0;
}

void rm_secret_fini(rm_secret *secret) {
  if (secret->bytes != NULL) sodium_free(secret->bytes);
  *secret = (rm_secret){0};
}

void rm_wipe(void *ptr, size_t len) { sodium_memzero(ptr, len); }
