/* SPDX-License-Identifier: MIT */
/* The checksum gives the sums that XXH64 is known by, wherever the bytes lie, and notices every change of one bit. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/checksum.h"

#include <string.h>

static void known_sums_are_found(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint64_t seed, sum;
  } known[] = {
      {"", 0, UINT64_C(0xEF46DB3751D8E999)},
      {"a", 0, UINT64_C(0xD24EC4F1A98C6E5B)},
      {"abc", 0, UINT64_C(0x44BC2CF5AD770999)},
      {"xxhash", 0, UINT64_C(0x32DD38952C4BC720)},
      {"xxhash", 20141025, UINT64_C(0xB559B98D844E0635)},
      {"Call me Ishmael. Some years ago--never mind how long precisely-", 0, UINT64_C(0x02A2E85470D6FD96)},
  };
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    size_t len = strlen(known[i].text);
    for (size_t shift = 0; shift < 8; shift++) {
      char bytes[100];
      memcpy(bytes + shift, known[i].text, len);
      assert_true(rm_checksum(bytes + shift, len, known[i].seed) == known[i].sum);
    }
  }
  assert_true(rm_checksum(NULL, 0, 0) == known[0].sum);
}

static void a_bit_or_the_length_makes_another_sum(void **state) {
  (void)state;
  unsigned char bytes[100];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 37);
  for (size_t len = 0; len < sizeof bytes; len++) {
    uint64_t sum = rm_checksum(bytes, len, 7);
    assert_true(sum != rm_checksum(bytes, len + 1, 7) && sum != rm_checksum(bytes, len, 8));
    for (size_t bit = 0; bit < 8 * len; bit++) {
      bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
      assert_true(rm_checksum(bytes, len, 7) != sum);
      bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_sums_are_found),
      cmocka_unit_test(a_bit_or_the_length_makes_another_sum),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
