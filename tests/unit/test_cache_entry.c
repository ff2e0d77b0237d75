/* SPDX-License-Identifier: MIT */
/* What a cache stores, and what it decides by draws.  BLOBS=1000000 makes more mutations; SEED repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/clock.h"
#include "base/random.h"
#include "patterns/cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const redmoon_bytes key = {"redmoon:{k}:c.cache", 19}, other_key = {"redmoon:{l}:c.cache", 19};
static const rm_secret open_seal = {NULL, 0};
static rm_secret seal, other_seal;

static int setup(void **state) {
  (void)state;
  if (rm_random_init() != 0) return -1;
  return rm_secret_set(&seal, "0123456789abcdef0123456789abcdef", 32) | rm_secret_set(&other_seal, "0123456789abcdef0123456789abcdeF", 32);
}

static int teardown(void **state) {
  (void)state;
  rm_secret_fini(&seal);
  rm_secret_fini(&other_seal);
  return 0;
}

static unsigned char *written(const rm_entry *entry, const rm_secret *with, size_t *len) {
  *len = rm_entry_size(entry, with);
  unsigned char *bytes = malloc(*len);
  rm_entry_write(entry, key, with, bytes);
  return bytes;
}

static int read_as(const void *bytes, size_t len, redmoon_bytes of, unsigned char format, const rm_secret *with) {
  rm_entry entry;
  unsigned char *opened;
  int status = rm_entry_read((redmoon_bytes){bytes, len}, of, format, with, &entry, &opened);
  rm_free(opened);
  return status;
}

static void check_round_trip(const rm_entry *entry, const rm_secret *with) {
  size_t len;
  unsigned char *bytes = written(entry, with, &len), *opened;
  rm_entry got;
  assert_int_equal(rm_entry_read((redmoon_bytes){bytes, len}, key, entry->format, with, &got, &opened), 0);
  assert_int_equal(got.negative, entry->negative);
  assert_int_equal(got.soft_ms, entry->soft_ms);
  assert_int_equal(got.hard_ms, entry->hard_ms);
  assert_int_equal(got.delta_ms, entry->delta_ms);
  assert_int_equal(got.len, entry->len);
  if (got.len > 0) assert_memory_equal(got.body, entry->body, got.len);
  assert_int_equal(got.packed, entry->packed);
  assert_int_equal(got.tag_count, entry->tag_count);
  if (got.tag_count > 0) assert_memory_equal(got.tags, entry->tags, got.tag_count * RM_TAG_SIZE);
  if (with->bytes != NULL && got.len > 0) assert_ptr_equal(got.body, opened); /* it is handed on as it is */
  rm_free(opened);
  /* Of another key, format or seal it is none. */
  assert_int_equal(read_as(bytes, len, other_key, entry->format, with), REDMOON_ECODEC);
  assert_int_equal(read_as(bytes, len, key, (unsigned char)(entry->format + 1), with), REDMOON_ECODEC);
  assert_int_equal(read_as(bytes, len, key, entry->format, with->bytes != NULL ? &open_seal : &seal), REDMOON_ECODEC);
  assert_int_equal(read_as(bytes, len, key, entry->format, &other_seal), REDMOON_ECODEC);
  free(bytes);
}

static void an_entry_is_read_as_it_was_written_and_only_for_its_key_format_and_seal(void **state) {
  (void)state;
  char body[300];
  memset(body, 'x', sizeof body);
  static const int64_t times[] = {1, 1000, INT64_C(31622400000), INT64_C(94867200000), RM_ENTRY_TTL_MAX};
  for (size_t t = 0; t < 5; t++)
    for (size_t len = 0; len <= sizeof body; len += 100) {
      rm_entry entry = {len == 0 && t % 2 == 0, (unsigned char)t, times[t], times[t], 7, body, len, NULL, 0, false};
      check_round_trip(&entry, &open_seal);
      check_round_trip(&entry, &seal);
    }
}

static void tags_come_back_with_their_versions(void **state) {
  (void)state;
  unsigned char tags[REDMOON_CACHE_TAGS_MAX * RM_TAG_SIZE], body[100];
  memset(body, 'x', sizeof body);
  for (size_t i = 0; i < sizeof tags; i++) tags[i] = (unsigned char)i;
  rm_tag_set_version(tags, INT64_C(9007199254740991));
  assert_int_equal(rm_tag_version(tags), INT64_C(9007199254740991));
  for (size_t count = 0; count <= REDMOON_CACHE_TAGS_MAX; count++)
    for (int i = 0; i < 3; i++) {
      rm_entry entry = {i == 0, 0, 10, 20, 7, body, i == 0 ? 0 : sizeof body, count > 0 ? tags : NULL, count, i == 2};
      check_round_trip(&entry, &open_seal);
      check_round_trip(&entry, &seal);
    }
}

/* Whoever may write to the server can make the checksum fit. */
static void sum_up(unsigned char *bytes, size_t len) {
  uint64_t sum = rm_checksum(bytes, 32, rm_checksum(bytes + RM_ENTRY_HEADER, len - RM_ENTRY_HEADER, rm_checksum(key.ptr, key.len, 0)));
  for (size_t i = 40; i-- > 32; sum >>= 8) bytes[i] = (unsigned char)(sum & 0xFF);
}

static void tags_that_do_not_fit_are_none_though_the_checksum_fits(void **state) {
  (void)state;
  enum { TAGGED = 4, PACKED = 8 };
  unsigned char body[100], *bytes;
  memset(body, 'x', sizeof body);
  for (size_t len = 0; len <= sizeof body; len++)
    for (int count = 0; count <= 255; count++) {
      if (len > 0) body[len - 1] = (unsigned char)count;
      rm_entry entry = {false, 0, 10, 20, 7, body, len, NULL, 0, false}, got;
      size_t size;
      bytes = written(&entry, &open_seal, &size);
      bytes[4] = TAGGED;
      sum_up(bytes, size);
      unsigned char *opened;
      bool fits = len > 0 && count >= 1 && count <= REDMOON_CACHE_TAGS_MAX && (size_t)count * RM_TAG_SIZE + 1 <= len;
      assert_int_equal(rm_entry_read((redmoon_bytes){bytes, size}, key, 0, &open_seal, &got, &opened), fits ? 0 : REDMOON_ECODEC);
      if (fits) assert_int_equal(got.len + got.tag_count * RM_TAG_SIZE + 1, len);
      free(bytes);
    }
  /* An absence has no value, so none that is compressed. */
  rm_entry absent = {true, 0, 10, 20, 7, NULL, 0, NULL, 0, false};
  size_t size;
  bytes = written(&absent, &open_seal, &size);
  bytes[4] |= PACKED;
  sum_up(bytes, size);
  assert_int_equal(read_as(bytes, size, key, 0, &open_seal), REDMOON_ECODEC);
  free(bytes);
}

static void each_entry_has_another_name(void **state) {
  (void)state;
  rm_entry entry = {false, 0, 10, 10, 1, "v", 1, NULL, 0, false};
  size_t len;
  for (int i = 0; i < 2; i++) {
    const rm_secret *with = i == 0 ? &open_seal : &seal;
    unsigned char *a = written(&entry, with, &len), *b = written(&entry, with, &len);
    assert_memory_not_equal(a, b, RM_ENTRY_HEADER);
    free(a);
    free(b);
  }
}

static void a_sealed_value_is_not_to_be_seen(void **state) {
  (void)state;
  static const char secret[] = "a value that nobody but us may read";
  rm_entry entry = {false, 0, 10, 10, 1, secret, sizeof secret - 1, NULL, 0, false};
  size_t len;
  unsigned char *bytes = written(&entry, &seal, &len);
  for (size_t i = 0; i + 8 <= len; i++) assert_memory_not_equal(bytes + i, secret, 8);
  free(bytes);
}

static uint64_t random_state;
static uint64_t draw(uint64_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (random_state >> 33) % bound;
}

static long number_of(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

/* One change: bits, bytes, length.  False: it is as it was. */
static bool mutate(unsigned char *bytes, size_t *len, const unsigned char *before, size_t before_len) {
  size_t changes = 1 + draw(3);
  for (size_t i = 0; i < changes && *len > 0; i++) switch (draw(4)) {
    case 0: bytes[draw(*len)] ^= (unsigned char)(1u << draw(8)); break;
    case 1: bytes[draw(*len)] = (unsigned char)draw(256); break;
    case 2: *len = draw(*len + 1); break;
    default: memset(bytes + draw(*len), (int)draw(2) * 255, 1); break;
    }
  return *len != before_len || memcmp(bytes, before, before_len) != 0;
}

static void a_changed_entry_is_none(void **state) {
  (void)state;
  random_state = (uint64_t)number_of("SEED", 20261125);
  long blobs = number_of("BLOBS", 100000), changed = 0;
  print_message("SEED=%lld BLOBS=%ld\n", (long long)random_state, blobs);
  for (long i = 0; i < blobs; i++) {
    unsigned char body[64], tags[3 * RM_TAG_SIZE], copy[RM_ENTRY_HEADER + RM_ENTRY_SEAL + sizeof body + sizeof tags + 1];
    const rm_secret *with = draw(2) ? &seal : &open_seal;
    rm_entry entry = {draw(8) == 0, 0, (int64_t)draw(1000), 1000 + (int64_t)draw(1000), (int64_t)draw(99), body, draw(65), tags, draw(4), draw(2) == 0};
    if (entry.negative) entry.len = 0, entry.packed = false;
    memset(body, (int)draw(256), sizeof body);
    memset(tags, (int)draw(256), sizeof tags);
    size_t len, before_len;
    unsigned char *before = written(&entry, with, &before_len);
    len = before_len;
    memcpy(copy, before, len);
    bool is_another = mutate(copy, &len, before, before_len);
    changed += is_another;
    int status = read_as(copy, len, key, 0, with);
    if (status != (is_another ? REDMOON_ECODEC : 0)) fail_msg("blob %ld, %zu bytes: %d", i, len, status);
    free(before);
  }
  assert_true(changed > blobs / 2);
}

static void whatever_is_read_is_an_entry_or_none(void **state) {
  (void)state;
  long blobs = number_of("BLOBS", 100000);
  for (long i = 0; i < blobs; i++) {
    unsigned char bytes[120];
    size_t len = draw(sizeof bytes + 1);
    for (size_t j = 0; j < len; j++) bytes[j] = (unsigned char)draw(256);
    if (len >= 8 && draw(2)) memcpy(bytes, "\xC9RC\1\0\0\0\0", 8);
    assert_int_equal(read_as(bytes, len, key, 0, draw(2) ? &seal : &open_seal), REDMOON_ECODEC);
  }
}

/* Packing. */

static size_t largest;
static bool note_size(void *ctx, size_t size) {
  (void)ctx;
  if (size > largest) largest = size;
  return false;
}

static void fill(unsigned char *value, size_t len, bool noise) {
  for (size_t i = 0; i < len; i++) value[i] = noise ? (unsigned char)draw(256) : (unsigned char)("words and "[i % 10] + (i % 700 == 0));
}

static void a_value_is_compressed_where_that_saves_something(void **state) {
  (void)state;
  static unsigned char value[200000];
  rm_packer packer = {NULL, NULL};
  unsigned char *packed, *out;
  size_t packed_len, len;
  for (size_t size = 0; size <= sizeof value; size = size * 3 + 1)
    for (int noise = 0; noise < 2; noise++) {
      fill(value, size, noise);
      int made = rm_pack(&packer, value, size, &packed, &packed_len);
      assert_int_equal(made, !noise && size >= 40);
      assert_int_equal(packed != NULL, made);
      if (!made) continue;
      assert_true(packed_len <= size - size / 16);
      assert_int_equal(rm_unpack(&packer, packed, packed_len, (int64_t)size, &out, &len), 0);
      assert_int_equal(len, size);
      assert_memory_equal(out, value, size);
      rm_free(out);
      rm_free(packed);
    }
  rm_packer_fini(&packer);
}

/* The limit is held against what a frame declares, not against what it then turns out to have. */
static void a_value_beyond_the_limit_gets_no_memory(void **state) {
  (void)state;
  static unsigned char value[1 << 20];
  rm_packer packer = {NULL, NULL};
  unsigned char *packed, *out;
  size_t packed_len, len;
  assert_int_equal(rm_pack(&packer, value, sizeof value, &packed, &packed_len), 1);
  assert_true(packed_len < 200); /* a bomb */
  largest = 0;
  rm_alloc_set_refuse(note_size, NULL);
  assert_int_equal(rm_unpack(&packer, packed, packed_len, sizeof value - 1, &out, &len), REDMOON_ECODEC);
  assert_null(out);
  assert_int_equal(largest, 0);
  assert_int_equal(rm_unpack(&packer, packed, packed_len, sizeof value, &out, &len), 0);
  assert_true(largest <= sizeof value + 1);
  rm_free(out);
  rm_alloc_set_refuse(NULL, NULL);
  for (size_t cut = 0; cut < packed_len; cut++) {
    assert_int_equal(rm_unpack(&packer, packed, cut, sizeof value, &out, &len), REDMOON_ECODEC);
    assert_null(out);
  }
  /* A frame that does not say how long it is, one to be skipped, one of an old format, and two where one was written. */
  static const unsigned char silent[] = {0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 0x09, 0x00, 0x00, 'x'};
  assert_int_equal(rm_unpack(&packer, silent, sizeof silent, sizeof value, &out, &len), REDMOON_ECODEC);
  static const unsigned char skipped[] = {0x50, 0x2A, 0x4D, 0x18, 0x01, 0x00, 0x00, 0x00, 'x'};
  assert_int_equal(rm_unpack(&packer, skipped, sizeof skipped, sizeof value, &out, &len), REDMOON_ECODEC);
  static const unsigned char old[] = {0x27, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 0x09, 0x00, 0x00, 'x'};
  assert_int_equal(rm_unpack(&packer, old, sizeof old, sizeof value, &out, &len), REDMOON_ECODEC);
  unsigned char *twice = malloc(2 * packed_len);
  memcpy(twice, packed, packed_len);
  memcpy(twice + packed_len, packed, packed_len);
  assert_int_equal(rm_unpack(&packer, twice, 2 * packed_len, sizeof value, &out, &len), REDMOON_ECODEC);
  free(twice);
  rm_free(packed);
  rm_packer_fini(&packer);
}

/* Behind a checksum that was made to fit: whatever it is, it is a value within the limit, or none. */
static void a_changed_frame_is_a_value_within_the_limit_or_none(void **state) {
  (void)state;
  enum { MOST = 5000 };
  random_state = (uint64_t)number_of("SEED", 20261125);
  long blobs = number_of("BLOBS", 100000), none = 0;
  unsigned char value[3000], *packed[8];
  size_t packed_lens[8];
  rm_packer packer = {NULL, NULL};
  for (size_t i = 0; i < 8; i++) {
    size_t len = 100 + draw(sizeof value - 100);
    fill(value, len, false);
    for (size_t n = len / (8 + 8 * i); n > 0; n--) value[draw(len)] = (unsigned char)draw(256);
    assert_int_equal(rm_pack(&packer, value, len, &packed[i], &packed_lens[i]), 1);
  }
  rm_alloc_set_refuse(note_size, NULL);
  largest = 0;
  for (long i = 0; i < blobs; i++) {
    size_t which = draw(8), len = packed_lens[which], got;
    unsigned char *copy = malloc(len), *out; /* of just this size, so that a read beyond it is seen */
    memcpy(copy, packed[which], len);
    (void)mutate(copy, &len, packed[which], packed_lens[which]);
    if (draw(4) == 0 && len > 6) copy[4 + draw(2)] ^= (unsigned char)draw(256); /* where lengths and flags are */
    int status = rm_unpack(&packer, copy, len, MOST, &out, &got);
    if (status == 0) assert_true(got <= MOST);
    else assert_int_equal(status, REDMOON_ECODEC);
    none += status != 0;
    rm_free(out);
    free(copy);
  }
  rm_alloc_set_refuse(NULL, NULL);
  assert_true(largest <= MOST + 1);
  assert_true(none > blobs / 4);
  for (size_t i = 0; i < 8; i++) rm_free(packed[i]);
  rm_packer_fini(&packer);
}

/* Every draw gives another jitter: the sum over all of them says that they are even, and the ends that they are bounded. */
static void jitter_is_even_and_bounded(void **state) {
  (void)state;
  static const int64_t jitters[] = {0, 1, 1000, 100000}, times[] = {1, 10, 60000, INT64_C(31622400000), INT64_C(63244800000)};
  for (size_t j = 0; j < 4; j++)
    for (size_t t = 0; t < 5; t++) {
      int64_t jitter = jitters[j], ms = times[t], last = 0;
      double sum = 0;
      for (int64_t d = 0; d <= 2 * jitter; d++) {
        int64_t got = rm_cache_jittered(ms, jitter, d);
        assert_true(got >= last);
        last = got;
        sum += (double)(got - ms);
      }
      assert_int_equal(rm_cache_jittered(ms, jitter, jitter), ms);
      assert_in_range(rm_cache_jittered(ms, jitter, 0), 1, ms);
      double least = floor((double)ms * (1.0 - (double)jitter / 1e6)), most = ceil((double)ms * (1.0 + (double)jitter / 1e6));
      assert_true((double)rm_cache_jittered(ms, jitter, 0) >= fmax(least, 1.0));
      assert_true((double)rm_cache_jittered(ms, jitter, 2 * jitter) <= most);
      assert_true(fabs(sum / (double)(2 * jitter + 1)) <= 1.0); /* rounding is all that is left */
    }
}

/* How many of the 2^32 draws say "early": those below a threshold, which is looked for by halving. */
static uint64_t early_draws(int64_t left_ms, int64_t delta_ms, int64_t beta_ppm) {
  if (!rm_cache_is_early(left_ms, delta_ms, beta_ppm, 0)) return 0;
  uint64_t low = 0, high = UINT64_C(1) << 32; /* low says yes, high is behind the last */
  while (high - low > 1) {
    uint64_t middle = (low + high) / 2;
    if (rm_cache_is_early(left_ms, delta_ms, beta_ppm, (uint32_t)middle)) low = middle;
    else high = middle;
  }
  return low + 1;
}

static void early_loads_have_the_probability_of_xfetch(void **state) {
  (void)state;
  static const int64_t betas[] = {500000, 1000000, 2000000, 10000000};
  for (size_t b = 0; b < 4; b++)
    for (int64_t delta_ms = 1; delta_ms <= 100000; delta_ms *= 10)
      for (int64_t left_ms = 0; left_ms <= 300000; left_ms = left_ms * 3 + 1) {
        double p = exp(-(double)left_ms / ((double)betas[b] / 1e6 * (double)delta_ms));
        double draws = (double)early_draws(left_ms, delta_ms, betas[b]);
        if (fabs(draws - floor(p * 4294967296.0)) > 1.0)
          fail_msg("left %lld, delta %lld, beta %lld ppm: %.0f draws of 2^32, %.3f expected", (long long)left_ms,
                   (long long)delta_ms, (long long)betas[b], draws, p * 4294967296.0);
      }
  assert_int_equal(early_draws(0, 5, 1000000), INT64_C(1) << 32); /* at the end of the ttl it is certain */
  assert_int_equal(early_draws(0, 5, 0), 0);
  assert_int_equal(early_draws(0, 0, 1000000), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_entry_is_read_as_it_was_written_and_only_for_its_key_format_and_seal),
      cmocka_unit_test(tags_come_back_with_their_versions),
      cmocka_unit_test(tags_that_do_not_fit_are_none_though_the_checksum_fits),
      cmocka_unit_test(each_entry_has_another_name),
      cmocka_unit_test(a_sealed_value_is_not_to_be_seen),
      cmocka_unit_test(a_changed_entry_is_none),
      cmocka_unit_test(whatever_is_read_is_an_entry_or_none),
      cmocka_unit_test(a_value_is_compressed_where_that_saves_something),
      cmocka_unit_test(a_value_beyond_the_limit_gets_no_memory),
      cmocka_unit_test(a_changed_frame_is_a_value_within_the_limit_or_none),
      cmocka_unit_test(jitter_is_even_and_bounded),
      cmocka_unit_test(early_loads_have_the_probability_of_xfetch),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
