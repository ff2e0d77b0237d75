/* SPDX-License-Identifier: MIT */
/* What of tokens, subjects and families gets into the key space: keyed BLAKE2b hashes (RFC 7693) by libsodium. */
#include "patterns/blocklist.h"

#include "base/error.h"
#include "base/random.h"
#include "engine/script.h"
#include "patterns/keys.h"

#include <sodium.h>
#include <string.h>

enum { HASH_BYTES = 16, DERIVED_BYTES = 32 };

int redmoon_new_jti(char out[REDMOON_NEW_JTI_SIZE], redmoon_error *err) {
  rm_error_clear(err);
  if (rm_random_init() != 0)
    return rm_fail(err, REDMOON_EUNAVAILABLE, "new_jti: libsodium has no source of random bytes");
  unsigned char raw[16];
  randombytes_buf(raw, sizeof raw);
  sodium_bin2base64(out, REDMOON_NEW_JTI_SIZE, raw, sizeof raw, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  rm_wipe(raw, sizeof raw);
  return 0;
}

int rm_blocklist_hash_init(redmoon_blocklist *list, const char *name, const redmoon_blocklist_options *options,
                           redmoon_error *err) {
  if (rm_random_init() != 0) return rm_fail(err, REDMOON_EUNAVAILABLE, "blocklist: libsodium could not be started");
  int status;
  if (options->hash_key != NULL) {
    status = rm_secret_set(&list->key, options->hash_key, options->hash_key_len);
  } else {
    static const unsigned char purpose[] = "redmoon.blocklist.1";
    unsigned char derived[DERIVED_BYTES];
    crypto_generichash(derived, sizeof derived, (const unsigned char *)name, strlen(name), purpose, sizeof purpose - 1);
    status = rm_secret_set(&list->key, derived, sizeof derived);
    rm_wipe(derived, sizeof derived);
  }
  if (status < 0) return rm_fail_nomem(err);
  const char *issuer = options->issuer != NULL ? options->issuer : "";
  crypto_generichash(list->issuer, sizeof list->issuer, (const unsigned char *)issuer, strlen(issuer),
                     (const unsigned char *)list->key.bytes, list->key.len);
  return 0;
}

rm_hash rm_blocklist_hash(const redmoon_blocklist *list, rm_hash_role role, redmoon_bytes bytes) {
  unsigned char raw[HASH_BYTES], first = (unsigned char)role;
  crypto_generichash_state state;
  crypto_generichash_init(&state, (const unsigned char *)list->key.bytes, list->key.len, sizeof raw);
  crypto_generichash_update(&state, &first, 1);
  crypto_generichash_update(&state, list->issuer, sizeof list->issuer);
  crypto_generichash_update(&state, bytes.ptr, bytes.len);
  crypto_generichash_final(&state, raw, sizeof raw);
  rm_wipe(&state, sizeof state);
  rm_hash hash;
  sodium_bin2base64(hash.text, sizeof hash.text, raw, sizeof raw, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  return hash;
}

int rm_blocklist_key(const redmoon_blocklist *list, rm_hash_role role, redmoon_bytes bytes, redmoon_bytes *key,
                     redmoon_error *err) {
  rm_hash hash = rm_blocklist_hash(list, role, bytes);
  const char *part = role == RM_HASH_TOKEN     ? list->token_part
                     : role == RM_HASH_SUBJECT ? list->subject_part
                                               : list->family_part;
  return rm_key_build(rm_client_key_prefix(list->client), hash.text, strlen(hash.text), part, key, err);
}

int rm_blocklist_check_id(const char *what, redmoon_bytes id, redmoon_error *err) {
  if (id.ptr != NULL && id.len >= 1 && id.len <= RM_BLOCKLIST_ID_MAX) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "blocklist %s: %zu bytes are not accepted; give 1 to %d", what,
                 id.ptr == NULL ? 0 : id.len, RM_BLOCKLIST_ID_MAX);
}
