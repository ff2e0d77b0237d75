/* SPDX-License-Identifier: MIT */
/* What is stored under a key of a cache.  Numbers are big-endian.
 *
 *      0 magic and version   4 flags   5 format   6 zeros   8 id (random)   16 soft TTL   22 hard TTL   28 load time
 *      32 checksum over all of it and the Redis key (zeros if it is sealed)   40 the body
 *      body:    the value, perhaps packed (cache_pack.c); if it has tags: 24 bytes for each, and their count in one
 *      sealed:  40 nonce   64 the body, encrypted   then its tag, which also covers the first 32 bytes and the Redis key
 *
 * The id makes each entry another than the one before, whatever is in it: "still the one I read" is seen by 40 bytes.
 * The checksum (XXH64) finds accidents, the seal finds intent. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/random.h"

#include <math.h>
#include <sodium.h>
#include <string.h>

enum { AT_FLAGS = 4, AT_FORMAT = 5, AT_ID = 8, AT_SOFT = 16, AT_HARD = 22, AT_DELTA = 28, AT_SUM = 32 };
enum { NEGATIVE = 1, SEALED = 2, TAGGED = 4, PACKED = 8, FLAGS = 15 };
enum { NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES };
static const unsigned char magic[4] = {0xC9, 'R', 'C', 1};

static void put_number(unsigned char *out, size_t bytes, int64_t number) {
  for (size_t i = bytes; i-- > 0; number >>= 8) out[i] = (unsigned char)(number & 0xFF);
}

static int64_t get_number(const unsigned char *at, size_t bytes) {
  int64_t number = 0;
  for (size_t i = 0; i < bytes; i++) number = number << 8 | at[i];
  return number;
}

/* Over the key, the body and the header, one after the other: a byte cannot move between them. */
static void checksum(const unsigned char *header, redmoon_bytes key, const void *body, size_t len, unsigned char out[8]) {
  uint64_t sum = rm_checksum(header, AT_SUM, rm_checksum(body, len, rm_checksum(key.ptr, key.len, 0)));
  for (size_t i = 8; i-- > 0; sum >>= 8) out[i] = (unsigned char)(sum & 0xFF);
}

/* What the tag covers beside the value: the header, and the key by its hash (BLAKE2b). */
enum { BOUND = AT_SUM + crypto_generichash_BYTES };
static void bind_to(const unsigned char *header, redmoon_bytes key, unsigned char out[BOUND]) {
  memcpy(out, header, AT_SUM);
  crypto_generichash(out + AT_SUM, crypto_generichash_BYTES, key.ptr, key.len, NULL, 0);
}

/* Bytes of the tags, behind the value. */
static size_t tags_size(const rm_entry *entry) {
  return entry->tag_count > 0 ? entry->tag_count * RM_TAG_SIZE + 1 : 0;
}

size_t rm_entry_size(const rm_entry *entry, const rm_secret *seal) {
  return RM_ENTRY_HEADER + entry->len + tags_size(entry) + (seal->bytes != NULL ? RM_ENTRY_SEAL : 0);
}

/* Value and tags, one behind the other. */
static void put_body(const rm_entry *entry, unsigned char *out) {
  if (entry->len > 0) memcpy(out, entry->body, entry->len);
  if (entry->tag_count == 0) return;
  memcpy(out + entry->len, entry->tags, entry->tag_count * RM_TAG_SIZE);
  out[entry->len + entry->tag_count * RM_TAG_SIZE] = (unsigned char)entry->tag_count;
}

void rm_entry_write(const rm_entry *entry, redmoon_bytes key, const rm_secret *seal, unsigned char *out) {
  bool sealed = seal->bytes != NULL;
  size_t len = entry->len + tags_size(entry);
  memset(out, 0, RM_ENTRY_HEADER);
  memcpy(out, magic, sizeof magic);
  out[AT_FLAGS] = (unsigned char)((entry->negative ? NEGATIVE : 0) | (sealed ? SEALED : 0) |
                                  (entry->tag_count > 0 ? TAGGED : 0) | (entry->packed ? PACKED : 0));
  out[AT_FORMAT] = entry->format;
  randombytes_buf(out + AT_ID, 8);
  put_number(out + AT_SOFT, 6, entry->soft_ms);
  put_number(out + AT_HARD, 6, entry->hard_ms);
  put_number(out + AT_DELTA, 4, entry->delta_ms < INT64_C(0xFFFFFFFF) ? entry->delta_ms : INT64_C(0xFFFFFFFF));
  unsigned char *body = out + RM_ENTRY_HEADER;
  put_body(entry, sealed ? body + NONCE : body);
  if (!sealed) {
    checksum(out, key, body, len, out + AT_SUM);
    return;
  }
  unsigned char bound[BOUND];
  bind_to(out, key, bound);
  randombytes_buf(body, NONCE);
  crypto_aead_xchacha20poly1305_ietf_encrypt(body + NONCE, NULL, body + NONCE, len, bound, sizeof bound, NULL, body,
                                             (const unsigned char *)seal->bytes);
}

static int open_sealed(const unsigned char *bytes, size_t len, redmoon_bytes key, const rm_secret *seal, rm_entry *out,
                       unsigned char **opened) {
  static const unsigned char zeros[8];
  if (len < RM_ENTRY_HEADER + RM_ENTRY_SEAL || memcmp(bytes + AT_SUM, zeros, 8) != 0) return REDMOON_ECODEC;
  size_t cipher_len = len - RM_ENTRY_HEADER - NONCE;
  unsigned char *plain = rm_alloc(cipher_len - TAG + 1);
  if (plain == NULL) return REDMOON_ENOMEM;
  unsigned char bound[BOUND];
  unsigned long long plain_len = 0;
  bind_to(bytes, key, bound);
  const unsigned char *nonce = bytes + RM_ENTRY_HEADER;
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, &plain_len, NULL, nonce + NONCE, cipher_len, bound, sizeof bound,
                                                 nonce, (const unsigned char *)seal->bytes) != 0) {
    rm_free(plain);
    return REDMOON_ECODEC;
  }
  *opened = plain;
  out->body = plain;
  out->len = (size_t)plain_len;
  return 0;
}

/* The tags are cut off from the value.  Whether they fit is asked though the checksum fits: whoever writes one can write that. */
static int cut_tags(rm_entry *entry, bool tagged) {
  const unsigned char *body = entry->body;
  if (tagged && entry->len == 0) return REDMOON_ECODEC;
  size_t count = tagged ? body[entry->len - 1] : 0, size = count * RM_TAG_SIZE + tagged;
  if ((tagged && count == 0) || count > REDMOON_CACHE_TAGS_MAX || size > entry->len) return REDMOON_ECODEC;
  entry->len -= size;
  entry->tag_count = count;
  entry->tags = count > 0 ? body + entry->len : NULL;
  return (entry->negative && (entry->len != 0 || entry->packed)) ? REDMOON_ECODEC : 0;
}

int64_t rm_tag_version(const unsigned char *tag) { return get_number(tag + RM_TAG_ID, 8); }
void rm_tag_set_version(unsigned char *tag, int64_t version) { put_number(tag + RM_TAG_ID, 8, version); }

int rm_entry_read(redmoon_bytes bytes, redmoon_bytes key, unsigned char format, const rm_secret *seal, rm_entry *out,
                  unsigned char **opened) {
  const unsigned char *at = bytes.ptr;
  *opened = NULL;
  if (bytes.len < RM_ENTRY_HEADER || memcmp(at, magic, sizeof magic) != 0) return REDMOON_ECODEC;
  unsigned flags = at[AT_FLAGS];
  bool sealed = (flags & SEALED) != 0;
  if ((flags & ~(unsigned)FLAGS) != 0 || at[6] != 0 || at[7] != 0 || sealed != (seal->bytes != NULL))
    return REDMOON_ECODEC;
  *out = (rm_entry){.negative = (flags & NEGATIVE) != 0, .format = at[AT_FORMAT], .packed = (flags & PACKED) != 0};
  out->soft_ms = get_number(at + AT_SOFT, 6);
  out->hard_ms = get_number(at + AT_HARD, 6);
  out->delta_ms = get_number(at + AT_DELTA, 4);
  if (out->format != format || out->soft_ms > out->hard_ms || out->hard_ms < 1) return REDMOON_ECODEC;
  if (sealed) {
    int status = open_sealed(at, bytes.len, key, seal, out, opened);
    if (status < 0) return status;
  } else {
    unsigned char sum[8];
    out->body = at + RM_ENTRY_HEADER;
    out->len = bytes.len - RM_ENTRY_HEADER;
    checksum(at, key, out->body, out->len, sum);
    if (memcmp(sum, at + AT_SUM, sizeof sum) != 0) return REDMOON_ECODEC;
  }
  if (cut_tags(out, (flags & TAGGED) != 0) == 0) return 0;
  rm_free(*opened);
  *opened = NULL;
  return REDMOON_ECODEC;
}

/* Decisions. */

int64_t rm_cache_jittered(int64_t ms, int64_t jitter_ppm, int64_t draw) {
  int64_t whole = ms / 1000000, rest = ms % 1000000, by = draw - jitter_ppm;
  int64_t moved = ms + whole * by + rest * by / 1000000;
  return moved < 1 ? 1 : moved;
}

bool rm_cache_is_early(int64_t left_ms, int64_t delta_ms, int64_t beta_ppm, uint32_t draw) {
  if (beta_ppm <= 0 || delta_ms <= 0) return false;
  double u = ((double)draw + 1.0) / 4294967296.0; /* above 0, and 1 at the most */
  return (double)delta_ms * ((double)beta_ppm / 1e6) * -log(u) >= (double)left_ms;
}
