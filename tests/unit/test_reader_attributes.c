/* SPDX-License-Identifier: MIT */
/* A RESP3 attribute in front of any value of any fixture changes nothing, and the next reply is still the next. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/reply_fixtures.h"
#include "wire/reader.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 64, MAX_BYTES = 4096 };

static const char *const attributes[] = {
    "|0\r\n",
    "|1\r\n+ttl\r\n:3600\r\n",
    "|2\r\n$3\r\n\r\n+\r\n*2\r\n:1\r\n$-1\r\n!3\r\nERR\r\n%1\r\n_\r\n,1.5\r\n", /* with all that may confuse */
    "|1\r\n|1\r\n+k\r\n:1\r\n+key\r\n|0\r\n~0\r\n",                           /* with attributes of its own */
    "|0\r\n|1\r\n#t\r\n(12\r\n|0\r\n",                                         /* three of them */
};
enum { ATTRIBUTES = sizeof attributes / sizeof attributes[0] };

/* Where the values of a fixture begin: written apart from the scanner, for sane frames only. */
typedef struct nodes {
  size_t at[MAX_NODES], count;
} nodes;

static size_t find_nodes(const char *bytes, size_t at, nodes *out) {
  assert_true(out->count < MAX_NODES);
  out->at[out->count++] = at;
  char type = bytes[at];
  long number = strtol(bytes + at + 1, NULL, 10);
  size_t next = (size_t)(strstr(bytes + at, "\r\n") - bytes) + 2;
  if (strchr("$=!", type) != NULL) return number < 0 ? next : next + (size_t)number + 2;
  if (strchr("*~>%|", type) == NULL) return next;
  long children = type == '%' || type == '|' ? 2 * number : number;
  for (long i = 0; i < children; i++) next = find_nodes(bytes, next, out);
  return type == '|' ? find_nodes(bytes, next, out) : next; /* what the attribute is of */
}

static nodes nodes_of(const reply_fixture *f) {
  nodes n = {.count = 0};
  assert_int_equal(find_nodes(f->bytes, 0, &n), f->len);
  return n;
}

static void give(rm_reader *reader, const char *bytes, size_t len) {
  size_t room = 0;
  char *space = rm_reader_space(reader, len, &room);
  assert_non_null(space);
  memcpy(space, bytes, len);
  rm_reader_added(reader, len);
}

/* All whole replies, each with a newline, are added to `out`. */
static void drain(rm_reader *reader, rm_arena *arena, char *out, size_t cap) {
  redmoon_reply *reply = NULL;
  redmoon_error err;
  int rc;
  while ((rc = rm_reader_next(reader, arena, &reply, &err)) == 1) {
    size_t used = strlen(out);
    reply_text(reply, out + used, cap - used - 2);
    strcat(out, "\n");
  }
  if (rc != 0) fail_msg("%s", err.message);
}

/* In pieces of `piece` bytes; then both replies must have come, and nothing else. */
static void read_both(rm_reader *reader, const char *bytes, size_t len, size_t piece, const char *first) {
  rm_arena arena = {0};
  char got[4096] = "", wanted[4096];
  for (size_t at = 0; at < len; at += piece) {
    give(reader, bytes + at, len - at < piece ? len - at : piece);
    drain(reader, &arena, got, sizeof got);
  }
  snprintf(wanted, sizeof wanted, "%s\n+NEXT\n", first);
  assert_string_equal(got, wanted);
  assert_false(rm_reader_has_bytes(reader));
  rm_arena_fini(&arena);
}

/* The fixture with `attribute` in front of value `node` (or of all of them), and a reply behind it. */
static size_t compose(char *out, const reply_fixture *f, const nodes *n, size_t node, bool all, const char *attribute) {
  size_t len = 0, from = 0, attribute_len = strlen(attribute);
  for (size_t i = 0; i < n->count; i++) {
    if (!all && i != node) continue;
    memcpy(out + len, f->bytes + from, n->at[i] - from);
    len += n->at[i] - from;
    from = n->at[i];
    assert_true(len + attribute_len + f->len + 7 <= MAX_BYTES);
    memcpy(out + len, attribute, attribute_len);
    len += attribute_len;
  }
  memcpy(out + len, f->bytes + from, f->len - from);
  len += f->len - from;
  memcpy(out + len, "+NEXT\r\n", 7);
  return len + 7;
}

static rm_reader *new_reader(void) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  rm_reader *reader = rm_reader_new(&limits);
  assert_non_null(reader);
  return reader;
}

static void an_attribute_before_any_one_value_leaves_the_reply_and_the_next(void **state) {
  (void)state;
  rm_reader *reader = new_reader(); /* one for all: it must stay in step */
  size_t insertions = 0;
  for (size_t i = 0; i < reply_fixture_count; i++) {
    const reply_fixture *f = &reply_fixtures[i];
    nodes n = nodes_of(f);
    for (size_t node = 0; node < n.count; node++) {
      for (size_t a = 0; a < ATTRIBUTES; a++) {
        char bytes[MAX_BYTES];
        size_t len = compose(bytes, f, &n, node, false, attributes[a]);
        for (size_t piece = 1; piece <= len; piece = piece * 3 + 1) read_both(reader, bytes, len, piece, f->text);
        read_both(reader, bytes, len, len, f->text);
        insertions++;
      }
    }
  }
  assert_true(insertions > reply_fixture_count * ATTRIBUTES);
  rm_reader_free(reader);
}

static void attributes_before_all_values_leave_the_reply_and_the_next(void **state) {
  (void)state;
  rm_reader *reader = new_reader();
  for (size_t i = 0; i < reply_fixture_count; i++) {
    const reply_fixture *f = &reply_fixtures[i];
    nodes n = nodes_of(f);
    for (size_t a = 0; a < ATTRIBUTES; a++) {
      char bytes[MAX_BYTES];
      size_t len = compose(bytes, f, &n, 0, true, attributes[a]);
      read_both(reader, bytes, len, 1, f->text);
      read_both(reader, bytes, len, len, f->text);
    }
  }
  rm_reader_free(reader);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_attribute_before_any_one_value_leaves_the_reply_and_the_next),
      cmocka_unit_test(attributes_before_all_values_leave_the_reply_and_the_next),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
