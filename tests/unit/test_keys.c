/* SPDX-License-Identifier: MIT */
/* Keys of patterns: their shape, their slot, and that no two objects share one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "patterns/keys.h"

#include <redmoon/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_key(const char *prefix, const void *name, size_t len, const char *part, const char *expected,
                       size_t expected_len) {
  redmoon_bytes key = {NULL, 0};
  redmoon_error err;
  assert_int_equal(rm_key_build(prefix, name, len, part, &key, &err), 0);
  assert_int_equal(key.len, expected_len);
  assert_memory_equal(key.ptr, expected, expected_len);
  rm_key_free(&key);
  assert_null(key.ptr);
}
#define ASSERT_KEY(prefix, name, part, expected)                                                                   \
  assert_key(prefix, name, sizeof(name) - 1, part, expected, sizeof(expected) - 1)

static void plain_name_becomes_the_hash_tag(void **state) {
  (void)state;
  ASSERT_KEY("redmoon", "orders", "lock", "redmoon:{orders}:lock");
  ASSERT_KEY("app:prod", "user:42", "rl.log", "app:prod:{user:42}:rl.log");
}

static void name_with_a_valid_tag_is_kept(void **state) {
  (void)state;
  ASSERT_KEY("redmoon", "user:{42}:x", "lock", "redmoon:~user:{42}:x:lock");
  ASSERT_KEY("redmoon", "{42}", "lock", "redmoon:~{42}:lock");
  ASSERT_KEY("redmoon", "{{42}", "lock", "redmoon:~{{42}:lock");
}

static void braces_that_are_no_tag_are_escaped(void **state) {
  (void)state;
  ASSERT_KEY("redmoon", "{}", "lock", "redmoon:{%7B%7D}:lock");
  ASSERT_KEY("redmoon", "a}b{", "lock", "redmoon:{a%7Db%7B}:lock");
  ASSERT_KEY("redmoon", "{}{a}", "lock", "redmoon:{%7B%7D%7Ba%7D}:lock");
  ASSERT_KEY("redmoon", "50%", "lock", "redmoon:{50%25}:lock");
}

static void prefix_cannot_take_over_the_hash_tag(void **state) {
  (void)state;
  ASSERT_KEY("{a}~%", "n", "lock", "%7Ba%7D%7E%25:{n}:lock");
}

static void binary_name_is_kept_byte_for_byte(void **state) {
  (void)state;
  ASSERT_KEY("p", "a\0\xff", "lock", "p:{a\0\xff}:lock");
}

static void name_of_wrong_length_is_refused(void **state) {
  (void)state;
  static char name[RM_NAME_MAX + 1];
  redmoon_error err;
  assert_int_equal(rm_name_check("lock name", name, RM_NAME_MAX, &err), 0);
  assert_int_equal(rm_name_check("lock name", name, 1, &err), 0);
  assert_int_equal(rm_name_check("lock name", name, RM_NAME_MAX + 1, &err), REDMOON_ECONFIG);
  assert_string_equal(err.message, "lock name: 513 bytes are not accepted; give 1 to 512");
  assert_int_equal(rm_name_check("lock name", name, 0, &err), REDMOON_ECONFIG);
  assert_int_equal(rm_name_check("lock name", NULL, 3, &err), REDMOON_ECONFIG);
  assert_string_equal(err.message, "lock name: 0 bytes are not accepted; give 1 to 512");
}

static bool refuse_all(void *ctx, size_t size) { return (void)ctx, (void)size, true; }

static void lack_of_memory_is_reported(void **state) {
  (void)state;
  redmoon_bytes key = {NULL, 0};
  redmoon_error err;
  rm_alloc_set_refuse(refuse_all, NULL);
  int status = rm_key_build("p", "n", 1, "lock", &key, &err);
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(status, REDMOON_ENOMEM);
  assert_null(key.ptr);
}

/* Property: over random objects made of few, awkward letters, equal keys mean equal objects, and the key's slot is
 * that of the name's tag. */
enum { OBJECTS = 200000, LONGEST = 7 };
typedef struct object {
  char prefix[LONGEST + 1], name[LONGEST + 1];
  const char *part;
  redmoon_bytes key;
} object;

static uint64_t random_state;
static unsigned draw(unsigned bound) { /* xorshift64*, Vigna 2016 */
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (unsigned)((random_state * UINT64_C(2685821657736338717)) >> 33) % bound;
}

static void draw_word(char *out, unsigned shortest) {
  static const char letters[] = "a:{}~%7B2";
  unsigned len = shortest + draw(LONGEST + 1 - shortest);
  for (unsigned i = 0; i < len; i++) out[i] = letters[draw(sizeof letters - 1)];
  out[len] = '\0';
}

static int by_key(const void *left, const void *right) {
  const object *a = left, *b = right;
  size_t shorter = a->key.len < b->key.len ? a->key.len : b->key.len;
  int order = memcmp(a->key.ptr, b->key.ptr, shorter);
  return order != 0 ? order : (a->key.len > b->key.len) - (a->key.len < b->key.len);
}

/* The tag of `text` by the cluster specification; 0 when there is none. */
static size_t tag_of(const char *text, size_t len, const char **tag) {
  size_t open = 0;
  while (open < len && text[open] != '{') open++;
  size_t close = open;
  while (close < len && text[close] != '}') close++;
  *tag = text + open + 1;
  return close >= len || close == open + 1 ? 0 : close - open - 1;
}

static void different_objects_never_share_a_key(void **state) {
  (void)state;
  static const char *const parts[] = {"lock", "fence", "rl.log", "a.log"};
  const char *seed = getenv("SEED");
  random_state = seed == NULL ? UINT64_C(88172645463325252) : strtoull(seed, NULL, 10) | 1;
  print_message("SEED=%llu\n", (unsigned long long)random_state);
  object *objects = calloc(OBJECTS, sizeof *objects);
  assert_non_null(objects);
  for (size_t i = 0; i < OBJECTS; i++) {
    object *o = &objects[i];
    draw_word(o->prefix, 0);
    draw_word(o->name, 1);
    o->part = parts[draw(4)];
    assert_int_equal(rm_key_build(o->prefix, o->name, strlen(o->name), o->part, &o->key, NULL), 0);
    const char *own, *got;
    size_t own_len = tag_of(o->name, strlen(o->name), &own);
    size_t got_len = tag_of(o->key.ptr, o->key.len, &got);
    assert_true(got_len > 0);
    if (own_len > 0) assert_int_equal(got_len, own_len);
    if (own_len > 0) assert_memory_equal(got, own, own_len);
  }
  qsort(objects, OBJECTS, sizeof *objects, by_key);
  size_t equal = 0;
  for (size_t i = 1; i < OBJECTS; i++) {
    object *a = &objects[i - 1], *b = &objects[i];
    if (by_key(a, b) != 0) continue;
    equal++;
    assert_string_equal(a->prefix, b->prefix);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->part, b->part);
  }
  assert_true(equal > 0); /* the letters are few enough for some objects to be drawn twice */
  for (size_t i = 0; i < OBJECTS; i++) rm_key_free(&objects[i].key);
  free(objects);
}

/* Requests. */

static void id_of_a_request_is_checked(void **state) {
  (void)state;
  char longest[RM_REQUEST_ID_MAX + 2] = {0};
  memset(longest, 'a', RM_REQUEST_ID_MAX);
  assert_int_equal(rm_request_id_check(NULL, NULL), 0);
  assert_int_equal(rm_request_id_check("7f.A_z-9", NULL), 0);
  assert_int_equal(rm_request_id_check(longest, NULL), 0);
  longest[RM_REQUEST_ID_MAX] = 'a';
  const char *const bad[] = {"", "a:b", "a b", "{a}", "a\n", longest};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    redmoon_error err;
    assert_int_equal(rm_request_id_check(bad[i], &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "1 to 128"));
  }
}

static void key_of_a_request_is_in_the_slot_of_its_object(void **state) {
  (void)state;
  redmoon_bytes key = {NULL, 0};
  assert_int_equal(rm_request_key_build("redmoon", "orders", 6, "count", "7f-1", &key, NULL), 0);
  assert_int_equal(key.len, strlen("redmoon:{orders}:count+req.7f-1"));
  assert_memory_equal(key.ptr, "redmoon:{orders}:count+req.7f-1", key.len);
  rm_key_free(&key);
  char part[RM_PART_MAX + 1] = {0}, id[RM_REQUEST_ID_MAX + 1] = {0}; /* nothing of the longest is cut off */
  memset(part, 'p', RM_PART_MAX);
  memset(id, 'i', RM_REQUEST_ID_MAX);
  assert_int_equal(rm_request_key_build("redmoon", "orders", 6, part, id, &key, NULL), 0);
  assert_int_equal(key.len, strlen("redmoon:{orders}:+req.") + RM_PART_MAX + RM_REQUEST_ID_MAX);
  rm_key_free(&key);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(id_of_a_request_is_checked),         cmocka_unit_test(key_of_a_request_is_in_the_slot_of_its_object),
      cmocka_unit_test(plain_name_becomes_the_hash_tag),    cmocka_unit_test(name_with_a_valid_tag_is_kept),
      cmocka_unit_test(braces_that_are_no_tag_are_escaped), cmocka_unit_test(prefix_cannot_take_over_the_hash_tag),
      cmocka_unit_test(binary_name_is_kept_byte_for_byte),  cmocka_unit_test(name_of_wrong_length_is_refused),
      cmocka_unit_test(lack_of_memory_is_reported),         cmocka_unit_test(different_objects_never_share_a_key),
  };
  return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
