/* SPDX-License-Identifier: MIT */
/** Certificates for tests: made once per process in a 0700 folder that goes when the process exits. */
#ifndef TESTS_SUPPORT_CERTS_H
#define TESTS_SUPPORT_CERTS_H

typedef struct certs_pair {
  char cert[128], key[128];
} certs_pair;

typedef struct certs {
  char dir[64];
  char ca_file[128];       /* trusts all below but where noted */
  char ca_path[128];       /* the same CA, as a directory of hashed files */
  certs_pair good;         /* localhost, 127.0.0.1, ::1 */
  certs_pair wrong_name;   /* other.example only */
  certs_pair wildcard;     /* *.wild.example and part*.half.example */
  certs_pair expired;      /* good names, ended yesterday */
  certs_pair not_yet;      /* good names, begins tomorrow */
  certs_pair self_signed;  /* good names, signed by itself */
  certs_pair unknown_ca;   /* good names, by a CA that ca_file does not hold */
  certs_pair client;       /* for a client */
  char encrypted_key[128]; /* the client's key under a passphrase */
  char other_key[128];     /* of another kind (Ed25519) than all certificates */
} certs;

/** NULL when they could not be made (the reason is on stderr). */
const certs *certs_get(void);

#endif
