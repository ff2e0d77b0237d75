/* SPDX-License-Identifier: MIT */
/* Certificates for tests, made with libcrypto: EC keys, so all of it takes a few milliseconds. */
#include "support/certs.h"

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DAY = 24 * 3600 };
static const char names[] = "DNS:localhost,IP:127.0.0.1,IP:::1";

typedef struct identity {
  X509 *cert;
  EVP_PKEY *key;
} identity;

typedef struct recipe {
  const char *common_name, *alternatives, *usage;
  bool ca;
  long from, until; /* seconds from now */
} recipe;

static certs made;
static bool is_made;
static pid_t owner;

static void remove_dir(const char *dir) {
  DIR *list = opendir(dir);
  if (list == NULL) return;
  for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
    if (entry->d_name[0] != '.') unlink(path);
  }
  closedir(list);
  rmdir(dir);
}

/* A forked child that exits must not take them away. */
static void clean_up(void) {
  if (getpid() != owner) return;
  remove_dir(made.ca_path);
  remove_dir(made.dir);
}

static EVP_PKEY *new_key(void) {
  EVP_PKEY *key = NULL;
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
  bool ok = ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 &&
            EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_X9_62_prime256v1) == 1 &&
            EVP_PKEY_keygen(ctx, &key) == 1;
  EVP_PKEY_CTX_free(ctx);
  return ok ? key : NULL;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value) {
  X509V3_CTX ctx;
  if (value == NULL) return true;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  bool ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return ok;
}

/* `issuer` NULL: signed by itself. */
static bool issue(const recipe *r, const identity *issuer, long serial, identity *out) {
  out->key = new_key();
  out->cert = X509_new();
  if (out->key == NULL || out->cert == NULL) return false;
  if (issuer == NULL) issuer = out;
  X509 *cert = out->cert;
  X509_NAME *subject = X509_get_subject_name(cert);
  return X509_set_version(cert, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(cert), serial) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(cert), r->from) != NULL &&
         X509_gmtime_adj(X509_getm_notAfter(cert), r->until) != NULL &&
         X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)r->common_name, -1, -1,
                                    0) == 1 &&
         X509_set_issuer_name(cert, X509_get_subject_name(issuer->cert)) == 1 &&
         X509_set_pubkey(cert, out->key) == 1 &&
         add_extension(cert, issuer->cert, NID_basic_constraints,
                       r->ca ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
         add_extension(cert, issuer->cert, NID_subject_key_identifier, "hash") &&
         add_extension(cert, issuer->cert, NID_subject_alt_name, r->alternatives) &&
         add_extension(cert, issuer->cert, NID_ext_key_usage, r->usage) &&
         X509_sign(cert, issuer->key, EVP_sha256()) > 0;
}

static void release(identity *id) {
  X509_free(id->cert);
  EVP_PKEY_free(id->key);
  *id = (identity){NULL, NULL};
}

static bool write_cert(const char *path, X509 *cert) {
  FILE *file = fopen(path, "w");
  if (file == NULL) return false;
  bool ok = PEM_write_X509(file, cert) == 1;
  return fclose(file) == 0 && ok;
}

static bool write_key(const char *path, EVP_PKEY *key, const char *passphrase) {
  FILE *file = fopen(path, "w");
  if (file == NULL) return false;
  const EVP_CIPHER *cipher = passphrase != NULL ? EVP_aes_256_cbc() : NULL;
  bool ok = PEM_write_PKCS8PrivateKey(file, key, cipher, passphrase,
                                      passphrase != NULL ? (int)strlen(passphrase) : 0, NULL, NULL) == 1;
  return fclose(file) == 0 && ok;
}

static bool write_pair(const char *name, const recipe *r, const identity *issuer, long serial, certs_pair *out) {
  identity id = {NULL, NULL};
  snprintf(out->cert, sizeof out->cert, "%s/%s.crt", made.dir, name);
  snprintf(out->key, sizeof out->key, "%s/%s.key", made.dir, name);
  bool ok = issue(r, issuer, serial, &id) && write_cert(out->cert, id.cert) && write_key(out->key, id.key, NULL);
  if (ok && out == &made.client) ok = write_key(made.encrypted_key, id.key, "unknown to the library");
  release(&id);
  return ok;
}

static bool write_other_key(void) {
  EVP_PKEY *key = NULL;
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
  bool ok = ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_keygen(ctx, &key) == 1 &&
            write_key(made.other_key, key, NULL);
  EVP_PKEY_CTX_free(ctx);
  EVP_PKEY_free(key);
  return ok;
}

static bool write_ca(X509 *ca) {
  char hashed[160];
  snprintf(hashed, sizeof hashed, "%s/%08lx.0", made.ca_path, X509_NAME_hash(X509_get_subject_name(ca)));
  return mkdir(made.ca_path, 0700) == 0 && write_cert(made.ca_file, ca) && write_cert(hashed, ca);
}

static bool make_all(identity *ca, identity *other) {
  const char *server = "serverAuth";
  const recipe authority = {"Redmoon test CA", NULL, NULL, true, -DAY, 10 * DAY};
  const recipe stranger = {"Another CA", NULL, NULL, true, -DAY, 10 * DAY};
  const recipe good = {"localhost", names, server, false, -DAY, DAY};
  const recipe wrong_name = {"other.example", "DNS:other.example,IP:192.0.2.1", server, false, -DAY, DAY};
  const recipe wildcard = {"wild", "DNS:*.wild.example,DNS:part*.half.example", server, false, -DAY, DAY};
  const recipe expired = {"localhost", names, server, false, -2 * DAY, -DAY};
  const recipe not_yet = {"localhost", names, server, false, DAY, 2 * DAY};
  const recipe client = {"client", NULL, "clientAuth", false, -DAY, DAY};
  return issue(&authority, NULL, 1, ca) && issue(&stranger, NULL, 1, other) && write_ca(ca->cert) &&
         write_other_key() && write_pair("good", &good, ca, 2, &made.good) &&
         write_pair("wrong_name", &wrong_name, ca, 3, &made.wrong_name) &&
         write_pair("wildcard", &wildcard, ca, 4, &made.wildcard) &&
         write_pair("expired", &expired, ca, 5, &made.expired) &&
         write_pair("not_yet", &not_yet, ca, 6, &made.not_yet) &&
         write_pair("self_signed", &good, NULL, 7, &made.self_signed) &&
         write_pair("unknown_ca", &good, other, 8, &made.unknown_ca) &&
         write_pair("client", &client, ca, 9, &made.client);
}

const certs *certs_get(void) {
  if (is_made) return &made;
  identity ca = {NULL, NULL}, other = {NULL, NULL};
  snprintf(made.dir, sizeof made.dir, "/tmp/redmoon-certs-XXXXXX");
  if (mkdtemp(made.dir) == NULL) {
    perror("mkdtemp");
    return NULL;
  }
  snprintf(made.ca_file, sizeof made.ca_file, "%s/ca.crt", made.dir);
  snprintf(made.ca_path, sizeof made.ca_path, "%s/hashed", made.dir);
  snprintf(made.encrypted_key, sizeof made.encrypted_key, "%s/encrypted.key", made.dir);
  snprintf(made.other_key, sizeof made.other_key, "%s/other.key", made.dir);
  owner = getpid();
  atexit(clean_up);
  is_made = make_all(&ca, &other);
  if (!is_made) ERR_print_errors_fp(stderr);
  release(&ca);
  release(&other);
  return is_made ? &made : NULL;
}
