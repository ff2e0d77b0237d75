/* SPDX-License-Identifier: MIT */
/** Blocklists of tokens (RFC 7519, `jti`): revoked until they expire, by the server's clock.  Claims come from the caller,
 *  who has verified them: nothing here parses or verifies a token.  Ids and subjects are in the key space as keyed hashes
 *  alone. */
#ifndef REDMOON_BLOCKLIST_H
#define REDMOON_BLOCKLIST_H

#include <redmoon/client.h>
#include <redmoon/script.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  REDMOON_NEW_JTI_SIZE = 23,       /**< 22 characters and a NUL */
  REDMOON_BLOCKLIST_REASON_MAX = 64,
  REDMOON_BLOCKLIST_MANY_MAX = 1000
};

/** A fresh `jti`: 128 random bits from libsodium as 22 characters of base64url.  REDMOON_EUNAVAILABLE when there is no
 *  source of random bytes.  Any thread. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_new_jti(char out[REDMOON_NEW_JTI_SIZE], redmoon_error *err);

/** Thread class: immutable after redmoon_blocklist_new; share it freely. */
typedef struct redmoon_blocklist redmoon_blocklist;

typedef struct redmoon_blocklist_options {
  const char *issuer;   /**< NULL; hashed into every key: ids are unique per issuer only */
  const void *hash_key; /**< NULL: derived from the name, which hides nothing from who knows it.  16 to 64 secret bytes,
                             the same in every process; kept in locked memory and wiped */
  size_t hash_key_len;
  int64_t leeway_ms;    /**< 60,000; 0 to 600,000.  How long after exp a verifier may still accept */
  int64_t max_life_ms;  /**< 30 days; 1 s to 36,525 days: the longest life of any token of a subject */
  const char *on_error; /**< "deny"; "allow" or "error": what a check says when Redis fails; it is counted always */
  int64_t min_replicas; /**< 0 to 1,000; so many replicas must have what a call has written, within 1 s on top of its time */
} redmoon_blocklist_options;
#define REDMOON_BLOCKLIST_OPTIONS_INIT {0, 0, 0, REDMOON_UNSET, REDMOON_UNSET, 0, REDMOON_UNSET}

/** `name`: 1 to 32 letters, digits, '.', '_' and '-'.  `options` may be NULL.  *out is owned by the caller
 *  (redmoon_blocklist_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_new(redmoon_client *client, const char *name,
                                                         const redmoon_blocklist_options *options,
                                                         redmoon_blocklist **out, redmoon_error *err);

/* Revoke.  All ids below are 1 to 1,024 bytes, any bytes.
 *
 * With min_replicas each call that writes waits until so many replicas have it; with fewer, or when nobody can tell, it
 * fails with REDMOON_EUNAVAILABLE and outcome REDMOON_ANSWERED.  **What it has written stays written, and *out says what
 * was done**: a revocation is never taken back.  The same call may be made again, and asks the replicas again. */

typedef enum redmoon_revocation_status {
  REDMOON_REVOCATION_EXPIRED = 0, /**< nothing accepts it any more: nothing was written */
  REDMOON_REVOCATION_DONE = 1,    /**< it is revoked */
  REDMOON_REVOCATION_KEPT = 2     /**< it was revoked for as long or longer already: nothing was changed */
} redmoon_revocation_status;

/** A token to revoke. */
typedef struct redmoon_revocation {
  redmoon_bytes jti;
  int64_t exp_s;      /**< its `exp`: seconds since 1970, at most 100 years from now */
  const char *reason; /**< NULL: "revoked".  A word of 1 to 64 letters, digits, '.', '_' and '-' that begins with a letter;
                           not "subject", "version", "family" or "unavailable" */
} redmoon_revocation;
#define REDMOON_REVOCATION_INIT {{0, 0}, REDMOON_UNSET, 0}

typedef struct redmoon_revocation_result {
  redmoon_revocation_status status;
  int64_t ttl_ms; /**< how long it stays revoked; 0 when it has expired */
} redmoon_revocation_result;

/** Revokes it until exp + leeway.  A second call never shortens that; repeating one is harmless. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_revoke(redmoon_blocklist *list, const redmoon_revocation *token,
                                                            redmoon_revocation_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_revoke_start(redmoon_blocklist *list,
                                                                  const redmoon_revocation *token,
                                                                  redmoon_revocation_result *out, redmoon_op **op,
                                                                  redmoon_error *err);

typedef struct redmoon_subject_result {
  redmoon_revocation_status status; /**< REDMOON_REVOCATION_EXPIRED: every token of then has expired by max_life */
  int64_t cutoff_ms; /**< in force now: the latest of all calls; ms since 1970 */
  int64_t version;   /**< of redmoon_blocklist_bump; else 0 */
  int64_t ttl_ms;
} redmoon_subject_result;

/** Revokes all tokens of `sub` with iat <= `before_ms` in whole seconds (ms since 1970; REDMOON_UNSET: now, by the
 *  server's clock).  The cutoff never falls. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_revoke_subject(redmoon_blocklist *list, const void *sub,
                                                                    size_t sub_len, int64_t before_ms,
                                                                    redmoon_subject_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_revoke_subject_start(redmoon_blocklist *list, const void *sub,
                                                                          size_t sub_len, int64_t before_ms,
                                                                          redmoon_subject_result *out,
                                                                          redmoon_op **op, redmoon_error *err);
/** A new version of `sub`, higher than all before: tokens whose `ver` claim is lower are revoked, also those issued within
 *  this very second.  `request_id` (NULL: none; 1 to 128 of A-Z a-z 0-9 . _ -) makes a repetition within 10 minutes
 *  answer the same version. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_bump(redmoon_blocklist *list, const void *sub, size_t sub_len,
                                                          const char *request_id, redmoon_subject_result *out,
                                                          redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_bump_start(redmoon_blocklist *list, const void *sub,
                                                                size_t sub_len, const char *request_id,
                                                                redmoon_subject_result *out, redmoon_op **op,
                                                                redmoon_error *err);

/* Rotate. */

/** A refresh token taken for a new one. */
typedef struct redmoon_rotation {
  redmoon_bytes family;    /**< what all tokens of one login share */
  redmoon_bytes presented; /**< id of the refresh token presented; {NULL, 0} begins the family */
  redmoon_bytes next;      /**< id of the new one; fresh, so that a repeated call is known by it */
  int64_t ttl_ms;          /**< life of the new one, 1 s to 36,525 days; not shorter than that of its access tokens */
} redmoon_rotation;
#define REDMOON_ROTATION_INIT {{0, 0}, {0, 0}, {0, 0}, REDMOON_UNSET}

typedef enum redmoon_rotation_status {
  REDMOON_ROTATION_DONE = 1,
  REDMOON_ROTATION_REUSED = 3,  /**< the id is not the current one: the family is revoked from this call on */
  REDMOON_ROTATION_REVOKED = 4, /**< the family was revoked before */
  REDMOON_ROTATION_EXISTS = 5,  /**< a family to begin is there already */
  REDMOON_ROTATION_GONE = 6     /**< no such family, or its last token has expired */
} redmoon_rotation_status;

typedef struct redmoon_rotation_result {
  redmoon_rotation_status status; /**< only DONE entitles to new tokens */
  int64_t ttl_ms;                 /**< of the family's entry */
} redmoon_rotation_result;

/** One step of refresh-token rotation with reuse detection (RFC 9700, 4.14.2). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_rotate(redmoon_blocklist *list, const redmoon_rotation *rotation,
                                                            redmoon_rotation_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_rotate_start(redmoon_blocklist *list,
                                                                  const redmoon_rotation *rotation,
                                                                  redmoon_rotation_result *out, redmoon_op **op,
                                                                  redmoon_error *err);

/** Revokes a family by its name, as at a log-out: its refresh tokens, and the access tokens that are checked with it, for
 *  max_life + leeway.  Repeating it is harmless. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_revoke_family(redmoon_blocklist *list, const void *family,
                                                                   size_t family_len, redmoon_revocation_result *out,
                                                                   redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_revoke_family_start(redmoon_blocklist *list, const void *family,
                                                                         size_t family_len,
                                                                         redmoon_revocation_result *out,
                                                                         redmoon_op **op, redmoon_error *err);

/* Check. */

/** What a verified token says; at least one of jti, sub and family. */
typedef struct redmoon_claims {
  redmoon_bytes jti, sub, family; /**< {NULL, 0}: not asked about */
  int64_t iat_s; /**< its `iat`: seconds since 1970, rounded down; needed with `sub` */
  int64_t ver;   /**< its `ver`, what redmoon_blocklist_bump gave when it was issued; REDMOON_UNSET is 0: older than any */
} redmoon_claims;
#define REDMOON_CLAIMS_INIT {{0, 0}, {0, 0}, {0, 0}, REDMOON_UNSET, REDMOON_UNSET}

typedef struct redmoon_check_result {
  int revoked;
  int64_t ttl_ms; /**< how long the entry that says so lives; 0 when there is none */
  char reason[REDMOON_BLOCKLIST_REASON_MAX + 1]; /**< "" not revoked; what revoke was given, else "revoked"; "subject",
                                                      "version", "family"; "unavailable": Redis failed */
} redmoon_check_result;

/** Whether the token is revoked.  When Redis fails, on_error decides: "deny" and "allow" return 0 with the reason
 *  "unavailable", `revoked` set or not, and the failure in `err`; "error" returns it.  A bad argument is an error always.
 *  Writes nothing; one round trip. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_check(redmoon_blocklist *list, const redmoon_claims *claims,
                                                           redmoon_check_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_check_start(redmoon_blocklist *list, const redmoon_claims *claims,
                                                                 redmoon_check_result *out, redmoon_op **op,
                                                                 redmoon_error *err);
/** The same for 1 to 1,000 tokens in one round trip; `out` has room for `count`. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_check_many(redmoon_blocklist *list, const redmoon_claims *claims,
                                                                size_t count, redmoon_check_result *out,
                                                                redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_check_many_start(redmoon_blocklist *list,
                                                                      const redmoon_claims *claims, size_t count,
                                                                      redmoon_check_result *out, redmoon_op **op,
                                                                      redmoon_error *err);

/** For the start of a program: REDMOON_EUNAVAILABLE when the server has a memory limit and a policy by which it may evict
 *  a revocation, which would un-revoke (counted as "evicting").  Needs INFO. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_verify(redmoon_blocklist *list, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_blocklist_verify_start(redmoon_blocklist *list, redmoon_op **op,
                                                                  redmoon_error *err);
/** Wipes the hash key.  Operations under way go on.  NULL is allowed. */
REDMOON_API void redmoon_blocklist_free(redmoon_blocklist *list);

#ifdef __cplusplus
}
#endif
#endif
