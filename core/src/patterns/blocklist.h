/* SPDX-License-Identifier: MIT */
/** What the parts of the blocklist share: its options, checked, and the hashes that its keys are made of. */
#ifndef RM_PATTERNS_BLOCKLIST_H
#define RM_PATTERNS_BLOCKLIST_H

#include "base/secret.h"

#include <redmoon/blocklist.h>

#define RM_BLOCKLIST_NAME_MAX 32
#define RM_BLOCKLIST_ID_MAX 1024

typedef enum rm_on_error { RM_ON_ERROR_DENY, RM_ON_ERROR_ALLOW, RM_ON_ERROR_FAIL } rm_on_error;

/** What a hash is of: equal bytes in two roles have different hashes. */
typedef enum rm_hash_role { RM_HASH_TOKEN = 't', RM_HASH_SUBJECT = 's', RM_HASH_FAMILY = 'f', RM_HASH_REFRESH = 'r' } rm_hash_role;

/** 128 bits in base64url, with a NUL. */
typedef struct rm_hash {
  char text[23];
} rm_hash;

struct redmoon_blocklist {
  redmoon_client *client; /* a reference */
  rm_secret key;
  unsigned char issuer[32]; /* hash of the issuer: of fixed length, so that issuer and id cannot be confused */
  rm_on_error on_error;
  int64_t leeway_ms, life_ms; /* life: max_life + leeway */
  int64_t min_replicas;
  char token_part[RM_BLOCKLIST_NAME_MAX + sizeof ".jti"];
  char subject_part[RM_BLOCKLIST_NAME_MAX + sizeof ".sub"];
  char family_part[RM_BLOCKLIST_NAME_MAX + sizeof ".fam"];
};

/** Sets list->key and list->issuer.  0, NOMEM or UNAVAILABLE. */
int rm_blocklist_hash_init(redmoon_blocklist *list, const char *name, const redmoon_blocklist_options *options,
                           redmoon_error *err);
/** Keyed BLAKE2b-128 of (role, issuer, bytes). */
rm_hash rm_blocklist_hash(const redmoon_blocklist *list, rm_hash_role role, redmoon_bytes bytes);
/** The key of an object: its hash is the hash tag.  *key is the caller's (rm_key_free).  0 or NOMEM. */
int rm_blocklist_key(const redmoon_blocklist *list, rm_hash_role role, redmoon_bytes bytes, redmoon_bytes *key,
                     redmoon_error *err);
/** 1 to 1,024 bytes: 0, or CONFIG with the name, never with the bytes. */
int rm_blocklist_check_id(const char *what, redmoon_bytes id, redmoon_error *err);

#endif
