/* SPDX-License-Identifier: MIT */
/* The reader: the same replies whatever the cuts, replies stay in step, every allocation may fail. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/reply_fixtures.h"
#include "wire/reader.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEXT "+NEXT\r\n"
enum { NEXT_LEN = 7 };

static rm_reader *new_reader(void) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  rm_reader *reader = rm_reader_new(&limits);
  assert_non_null(reader);
  return reader;
}

static void give(rm_reader *reader, const char *bytes, size_t len) {
  size_t room = 0;
  char *space = rm_reader_space(reader, len, &room);
  assert_non_null(space);
  assert_true(room >= len && room > 0);
  if (len > 0) memcpy(space, bytes, len);
  rm_reader_added(reader, len);
}

/* Reads all there is; the texts of the replies, each with a newline, go to `out`. */
static int drain(rm_reader *reader, rm_arena *arena, char *out, size_t cap) {
  redmoon_reply *reply = NULL;
  redmoon_error err;
  int rc;
  while ((rc = rm_reader_next(reader, arena, &reply, &err)) == 1) {
    size_t used = strlen(out);
    reply_text(reply, out + used, cap - used - 2);
    strcat(out, "\n");
  }
  return rc;
}

static void assert_texts(const char *got, const char *first, const char *second) {
  char wanted[4096];
  snprintf(wanted, sizeof wanted, "%s\n%s\n", first, second);
  assert_string_equal(got, wanted);
}

static void every_fixture_split_at_every_two_bytes_gives_the_same_reply_and_the_next_one(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  for (size_t i = 0; i < reply_fixture_count; i++) {
    char bytes[512], got[4096];
    size_t len = reply_fixtures[i].len + NEXT_LEN;
    memcpy(bytes, reply_fixtures[i].bytes, reply_fixtures[i].len);
    memcpy(bytes + reply_fixtures[i].len, NEXT, NEXT_LEN);
    for (size_t a = 0; a <= len; a++) {
      for (size_t b = a; b <= len; b++) {
        got[0] = '\0';
        give(reader, bytes, a);
        assert_int_equal(drain(reader, &arena, got, sizeof got), 0);
        give(reader, bytes + a, b - a);
        assert_int_equal(drain(reader, &arena, got, sizeof got), 0);
        give(reader, bytes + b, len - b);
        assert_int_equal(drain(reader, &arena, got, sizeof got), 0);
        assert_texts(got, reply_fixtures[i].text, "+NEXT");
        assert_false(rm_reader_has_bytes(reader));
        rm_arena_reset(&arena, 4096);
      }
    }
  }
  rm_arena_fini(&arena);
  rm_reader_free(reader);
}

static void every_pair_of_fixtures_split_at_every_byte_gives_both_replies(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  for (size_t i = 0; i < reply_fixture_count * reply_fixture_count; i++) {
    const reply_fixture *x = &reply_fixtures[i / reply_fixture_count],
                        *y = &reply_fixtures[i % reply_fixture_count];
    char bytes[512], got[4096];
    memcpy(bytes, x->bytes, x->len);
    memcpy(bytes + x->len, y->bytes, y->len);
    for (size_t cut = 0; cut <= x->len + y->len; cut++) {
      got[0] = '\0';
      give(reader, bytes, cut);
      assert_int_equal(drain(reader, &arena, got, sizeof got), 0);
      give(reader, bytes + cut, x->len + y->len - cut);
      assert_int_equal(drain(reader, &arena, got, sizeof got), 0);
      assert_texts(got, x->text, y->text);
      rm_arena_reset(&arena, 4096);
    }
  }
  rm_arena_fini(&arena);
  rm_reader_free(reader);
}

/* Whatever a byte turns into, there is an error or a value, and then either nothing is left or more is wanted. */
static void any_byte_may_be_wrong(void **state) {
  (void)state;
  size_t errors = 0, values = 0;
  for (size_t i = 0; i < reply_fixture_count; i++) {
    for (size_t at = 0; at < reply_fixtures[i].len; at++) {
      for (int byte = 0; byte < 256; byte++) {
        char bytes[512], got[8192] = "";
        memcpy(bytes, reply_fixtures[i].bytes, reply_fixtures[i].len);
        memcpy(bytes + reply_fixtures[i].len, NEXT, NEXT_LEN);
        bytes[at] = (char)byte;
        rm_reader *reader = new_reader();
        rm_arena arena = {0};
        give(reader, bytes, reply_fixtures[i].len + NEXT_LEN);
        int rc = drain(reader, &arena, got, sizeof got);
        assert_true(rc == 0 || rc == REDMOON_EPROTOCOL || rc == REDMOON_ETOO_LARGE);
        if (rc == 0) values++;
        else errors++;
        rm_arena_fini(&arena);
        rm_reader_free(reader);
      }
    }
  }
  assert_true(errors > 1000 && values > 1000);
}

static void an_error_is_final(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  redmoon_reply *reply = NULL;
  redmoon_error err;
  give(reader, "+fine\r\n?bad\r\n+good\r\n", 20);
  assert_int_equal(rm_reader_next(reader, &arena, &reply, &err), 1);
  assert_int_equal(rm_reader_next(reader, &arena, &reply, &err), REDMOON_EPROTOCOL);
  for (int i = 0; i < 3; i++) {
    give(reader, "+good\r\n", 7);
    assert_int_equal(rm_reader_next(reader, &arena, &reply, &err), REDMOON_EPROTOCOL);
    assert_string_equal(err.code, "PROTOCOL");
    assert_true(strlen(err.message) > 0);
  }
  assert_true(rm_reader_has_bytes(reader));
  rm_arena_fini(&arena);
  rm_reader_free(reader);
}

static void a_double_that_overflows_is_a_protocol_error(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  redmoon_reply *reply;
  redmoon_error err;
  give(reader, ",1e999\r\n", 8);
  assert_int_equal(rm_reader_next(reader, &arena, &reply, &err), REDMOON_EPROTOCOL);
  assert_non_null(strstr(err.message, "double"));
  rm_arena_fini(&arena);
  rm_reader_free(reader);
}

static void unread_bytes_are_seen(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  redmoon_reply *reply;
  assert_false(rm_reader_has_bytes(reader));
  give(reader, "+OK\r\n|1\r\n+k\r\n:1\r\n", 17);
  assert_true(rm_reader_has_bytes(reader));
  assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
  assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 0);
  assert_true(rm_reader_has_bytes(reader)); /* an attribute without its value */
  rm_arena_fini(&arena);
  rm_reader_free(reader);
}

/* 1 + n bulk strings of 10 bytes. */
static char *long_array(size_t n, size_t *len) {
  char *bytes = malloc(32 + n * 16);
  size_t used = (size_t)sprintf(bytes, "*%zu\r\n", n);
  for (size_t i = 0; i < n; i++) used += (size_t)sprintf(bytes + used, "$9\r\n%09zu\r\n", i);
  *len = used;
  return bytes;
}

static void a_long_array_arrives_complete_in_pieces_of_any_size(void **state) {
  (void)state;
  size_t len, n = 20000;
  char *bytes = long_array(n, &len);
  rm_reader *reader = new_reader();
  for (size_t piece = 1; piece <= 65536; piece = piece * 7 + 1) {
    rm_arena arena = {0};
    redmoon_reply *reply = NULL;
    size_t at = 0;
    while (at < len) {
      assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 0);
      size_t part = len - at < piece ? len - at : piece;
      give(reader, bytes + at, part);
      at += part;
    }
    assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
    assert_int_equal(redmoon_reply_count(reply), n);
    for (size_t i = 0; i < n; i++) {
      size_t size;
      assert_int_equal(strtoul(redmoon_reply_string(redmoon_reply_at(reply, i), &size), NULL, 10), i);
      assert_int_equal(size, 9);
    }
    rm_arena_fini(&arena);
  }
  rm_reader_free(reader);
  free(bytes);
}

static size_t requests, requested;

static bool count_requests(void *ctx, size_t size) {
  (void)ctx;
  requests++;
  requested += size;
  return false;
}

static void a_frame_of_any_size_costs_one_piece_of_the_arena(void **state) {
  (void)state;
  size_t len;
  char *bytes = long_array(1000, &len);
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  redmoon_reply *reply;
  for (int round = 0; round < 2; round++) {
    give(reader, bytes, len);
    requests = 0;
    rm_alloc_set_refuse(count_requests, NULL);
    assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
    rm_alloc_set_refuse(NULL, NULL);
    if (round == 1) assert_int_equal(requests, 1); /* hiredis' buffer has grown in the first */
    rm_arena_reset(&arena, 0);
  }
  rm_reader_free(reader);
  free(bytes);
}

static void a_large_string_makes_the_reader_want_just_its_rest(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  redmoon_reply *reply;
  assert_int_equal(rm_reader_want(reader), 64 * 1024);
  give(reader, "$1000000\r\nabc", 13);
  assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 0);
  assert_int_equal(rm_reader_want(reader), 1000000 - 3 + 2);
  size_t room;
  requests = 0;
  rm_alloc_set_refuse(count_requests, NULL);
  char *space = rm_reader_space(reader, rm_reader_want(reader), &room);
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(requests, 1);
  assert_true(room >= 999999);
  memset(space, 'y', 999997);
  memcpy(space + 999997, "\r\n", 2);
  rm_reader_added(reader, 999999);
  assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
  size_t size;
  const char *text = redmoon_reply_string(reply, &size);
  assert_int_equal(size, 1000000);
  assert_memory_equal(text, "abcyyy", 6);
  assert_int_equal(rm_reader_want(reader), 64 * 1024);
  rm_arena_fini(&arena);
  rm_reader_free(reader);
}

static void a_trim_gives_large_memory_back_and_the_reader_goes_on(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  redmoon_reply *reply;
  char *bytes = malloc(1000020);
  int head = sprintf(bytes, "$1000000\r\n");
  memset(bytes + head, 'z', 1000000);
  memcpy(bytes + head + 1000000, "\r\n", 2);
  for (int round = 0; round < 3; round++) {
    requests = 0;
    rm_alloc_set_refuse(count_requests, NULL);
    give(reader, bytes, (size_t)head + 1000002);
    rm_alloc_set_refuse(NULL, NULL);
    assert_int_equal(requests, round == 1 ? 0 : 1); /* kept over round 0, given back behind round 1 */
    assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
    rm_arena_reset(&arena, 0);
    if (round == 1) rm_reader_trim(reader);
  }
  give(reader, NEXT, NEXT_LEN);
  rm_reader_trim(reader); /* must not lose what was received */
  assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_STATUS);
  rm_arena_fini(&arena);
  rm_reader_free(reader);
  free(bytes);
}

typedef struct refusal {
  size_t left; /* this many go through */
  bool once;   /* only the next one fails; else all from there */
  size_t refused;
} refusal;

static bool refuse_later(void *ctx, size_t size) {
  refusal *r = ctx;
  (void)size;
  if (r->left > 0) {
    r->left--;
    return false;
  }
  if (r->once && r->refused > 0) return false;
  r->refused++;
  return true;
}

/* Makes a reader and reads a fixture and a long frame; returns 0, or NOMEM. */
static int scenario(const reply_fixture *f, const char *big, size_t big_len) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  rm_reader *reader = rm_reader_new(&limits);
  if (reader == NULL) return REDMOON_ENOMEM;
  rm_arena arena = {0};
  redmoon_reply *reply = NULL, *owned = NULL;
  size_t room;
  int rc = REDMOON_ENOMEM;
  char *space = rm_reader_space(reader, f->len + big_len, &room);
  if (space == NULL) goto out;
  memcpy(space, f->bytes, f->len);
  memcpy(space + f->len, big, big_len);
  rm_reader_added(reader, f->len + big_len);
  rc = rm_reader_next(reader, &arena, &reply, NULL);
  if (rc < 0) {
    assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), rc);
    goto out;
  }
  char text[512];
  assert_string_equal(reply_text(reply, text, sizeof text), f->text);
  rc = rm_reply_detach(reply, &arena, &owned);
  if (rc != 0) {
    assert_string_equal(reply_text(reply, text, sizeof text), f->text); /* nothing changed */
    goto out;
  }
  rc = rm_reader_next(reader, &arena, &reply, NULL);
  if (rc == 1) {
    assert_int_equal(redmoon_reply_count(reply), 9000);
    rc = 0;
    rm_reader_trim(reader);
  }
out:
  redmoon_reply_free(owned);
  rm_arena_fini(&arena);
  rm_reader_free(reader);
  return rc;
}

static void every_allocation_may_fail_once_or_for_ever(void **state) {
  (void)state;
  size_t len, failures = 0;
  char *big = long_array(9000, &len);
  for (size_t i = 0; i < reply_fixture_count; i++) {
    for (int once = 0; once < 2; once++) {
      for (size_t n = 0;; n++) {
        refusal r = {n, once != 0, 0};
        rm_alloc_set_refuse(refuse_later, &r);
        int rc = scenario(&reply_fixtures[i], big, len);
        rm_alloc_set_refuse(NULL, NULL);
        if (r.refused == 0) {
          assert_int_equal(rc, 0);
          break;
        }
        /* A trim that gets no memory is put off, without an error. */
        assert_true(rc == REDMOON_ENOMEM || rc == 0);
        failures += rc != 0;
      }
    }
  }
  assert_true(failures > reply_fixture_count * 2 * 15); /* hiredis' own allocations are among them */
  free(big);
}

/* A locale whose decimal point is a comma, built here because few systems have one. */
static void doubles_are_exact_under_a_locale_with_a_comma(void **state) {
  (void)state;
  char dir[] = "/tmp/redmoon-locale-XXXXXX", command[256];
  assert_non_null(mkdtemp(dir));
  snprintf(command, sizeof command, "localedef --no-archive -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", dir);
  int built = system(command);
  setenv("LOCPATH", dir, 1);
  const char *set = setlocale(LC_ALL, "de_DE.UTF-8");
  char probe[16];
  snprintf(probe, sizeof probe, "%.1f", 0.5);
  rm_reader *reader = new_reader();
  rm_arena arena = {0};
  redmoon_reply *reply = NULL;
  give(reader, "*3\r\n,0.1\r\n,1.7976931348623157e308\r\n,5e-324\r\n", 44);
  int rc = rm_reader_next(reader, &arena, &reply, NULL);
  char after[16];
  snprintf(after, sizeof after, "%.1f", 0.5);
  setlocale(LC_ALL, "C");
  unsetenv("LOCPATH");
  snprintf(command, sizeof command, "rm -r %s", dir);
  assert_int_equal(system(command), 0);
  if (built != 0 || set == NULL) fail_msg("needs localedef and the locale de_DE (Debian: package locales)");
  assert_string_equal(probe, "0,5");
  assert_int_equal(rc, 1);
  assert_true(redmoon_reply_double(redmoon_reply_at(reply, 0)) == 0.1);
  assert_true(redmoon_reply_double(redmoon_reply_at(reply, 1)) == 1.7976931348623157e308);
  assert_true(redmoon_reply_double(redmoon_reply_at(reply, 2)) == 5e-324);
  assert_string_equal(after, "0,5"); /* the caller's locale is back */
  rm_arena_fini(&arena);
  rm_reader_free(reader);
}

static void limits_belong_to_a_reply_size(void **state) {
  (void)state;
  rm_limits usual = rm_limits_for((int64_t)512 << 20), wanted = RM_LIMITS_DEFAULT;
  assert_int_equal(usual.max_reply, wanted.max_reply);
  assert_int_equal(usual.max_elements, wanted.max_elements);
  assert_int_equal(usual.max_line, wanted.max_line);
  assert_int_equal(usual.max_depth, wanted.max_depth);
  rm_limits small = rm_limits_for(3000);
  assert_int_equal(small.max_reply, 3000);
  assert_int_equal(small.max_elements, 1000);
  assert_int_equal(small.max_line, 3000);
  assert_int_equal(rm_limits_for((int64_t)4 << 30).max_elements, (size_t)1 << 27);
  assert_int_equal(rm_limits_for(-1).max_reply, 1);
  assert_true(rm_limits_for(INT64_MAX).max_elements < INT32_MAX); /* hiredis counts in an int */
}

static void a_hostile_announcement_does_not_grow_the_reader(void **state) {
  (void)state;
  static const char *const frames[] = {"$2147483648\r\n", "*4294967295\r\n", "%9223372036854775807\r\n"};
  for (size_t i = 0; i < 3; i++) {
    rm_reader *reader = new_reader();
    rm_arena arena = {0};
    redmoon_reply *reply;
    give(reader, frames[i], strlen(frames[i]));
    requests = 0;
    rm_alloc_set_refuse(count_requests, NULL);
    assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), REDMOON_ETOO_LARGE);
    rm_alloc_set_refuse(NULL, NULL);
    assert_int_equal(requests, 0);
    assert_int_equal(rm_reader_want(reader), 64 * 1024);
    rm_arena_fini(&arena);
    rm_reader_free(reader);
  }
}

/* As a connection gives them: piece by piece, each into the room that the reader makes. */
static void a_million_levels_in_pieces_cost_a_reader_no_more_than_a_short_reply(void **state) {
  (void)state;
  enum { LEVELS = 1000000, LEVEL_LEN = 4, LEN = LEVELS * LEVEL_LEN };
  static const char *const levels[] = {"*1\r\n", "~1\r\n", "%1\r\n", "|1\r\n"};
  char *bytes = malloc(LEN);
  for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
    for (size_t at = 0; at < LEN; at += LEVEL_LEN) memcpy(bytes + at, levels[i], LEVEL_LEN);
    for (size_t piece = 1; piece <= LEN; piece = piece < 16 ? 16 : piece < 4096 ? 4096 : piece * 64) {
      requests = requested = 0;
      rm_alloc_set_refuse(count_requests, NULL);
      rm_reader *reader = new_reader();
      rm_arena arena = {0};
      redmoon_reply *reply;
      redmoon_error err;
      int rc = 0;
      for (size_t at = 0; at < LEN && rc == 0; at += piece) {
        size_t part = LEN - at < piece ? LEN - at : piece;
        give(reader, bytes + at, part);
        rc = rm_reader_next(reader, &arena, &reply, &err);
      }
      rm_alloc_set_refuse(NULL, NULL);
      assert_int_equal(rc, REDMOON_ETOO_LARGE);
      assert_non_null(strstr(err.message, "levels"));
      assert_true(requests > 0);
      assert_true(requested < 2 * piece + 256 * 1024); /* the piece itself has to lie somewhere */
      rm_arena_fini(&arena);
      rm_reader_free(reader);
    }
  }
  free(bytes);
}

static int unhook(void **state) {
  (void)state;
  rm_alloc_set_refuse(NULL, NULL);
  return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, unhook)

int main(void) {
  rm_testing_route_hiredis_memory();
  const struct CMUnitTest tests[] = {
      TEST(every_fixture_split_at_every_two_bytes_gives_the_same_reply_and_the_next_one),
      TEST(every_pair_of_fixtures_split_at_every_byte_gives_both_replies),
      TEST(any_byte_may_be_wrong),
      TEST(an_error_is_final),
      TEST(a_double_that_overflows_is_a_protocol_error),
      TEST(unread_bytes_are_seen),
      TEST(a_long_array_arrives_complete_in_pieces_of_any_size),
      TEST(a_frame_of_any_size_costs_one_piece_of_the_arena),
      TEST(a_large_string_makes_the_reader_want_just_its_rest),
      TEST(a_trim_gives_large_memory_back_and_the_reader_goes_on),
      TEST(every_allocation_may_fail_once_or_for_ever),
      TEST(doubles_are_exact_under_a_locale_with_a_comma),
      TEST(limits_belong_to_a_reply_size),
      TEST(a_hostile_announcement_does_not_grow_the_reader),
      TEST(a_million_levels_in_pieces_cost_a_reader_no_more_than_a_short_reply),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
