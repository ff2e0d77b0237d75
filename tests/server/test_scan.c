/* SPDX-License-Identifier: MIT */
/* Scans on a real server: complete, filtered, over every kind of collection. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 10000 };

/* The words of `format` are the arguments; a # at a word's end becomes the element's number. */
static void fill(redmoon_client *client, const char *format, int count) {
  redmoon_pipeline *pipeline;
  redmoon_error err;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, &err), 0);
  for (int i = 0; i < count; i++) {
    char words[8][32];
    const char *argv[8];
    int argc = 0;
    for (const char *at = format; *at != '\0'; at += strcspn(at, " "), at += *at == ' ') {
      size_t len = strcspn(at, " ");
      if (at[len - 1] == '#') snprintf(words[argc], sizeof words[argc], "%.*s%d", (int)len - 1, at, i);
      else snprintf(words[argc], sizeof words[argc], "%.*s", (int)len, at);
      argv[argc] = words[argc];
      argc++;
    }
    assert_true(redmoon_pipeline_command(pipeline, argc, argv, NULL, &err) == i);
  }
  if (redmoon_pipeline_run(pipeline, &err) != 0) fail_msg("%s", err.message);
  redmoon_pipeline_free(pipeline);
}

typedef struct walk {
  int pages, elements, strangers;
  int seen[ELEMENTS]; /* by the number at the end of the element's name */
  int wrong_values;
} walk;

static void note(walk *w, const redmoon_reply *page, size_t i, size_t step, const char *prefix) {
  const char *name = redmoon_reply_string(redmoon_reply_at(page, i), NULL);
  w->elements++;
  size_t len = strlen(prefix);
  if (name == NULL || strncmp(name, prefix, len) != 0) {
    w->strangers++;
    return;
  }
  int n = atoi(name + len);
  assert_true(n >= 0 && n < ELEMENTS);
  w->seen[n]++;
  if (step == 2) w->wrong_values += atoi(redmoon_reply_string(redmoon_reply_at(page, i + 1), NULL)) != n;
}

static walk *take(redmoon_client *client, redmoon_scan_kind kind, const char *key,
                  const redmoon_scan_options *options, const char *prefix) {
  static walk w;
  w = (walk){0};
  redmoon_scan *scan;
  redmoon_error err;
  if (redmoon_scan_new(client, kind, key, strlen(key), options, &scan, &err) != 0) fail_msg("%s", err.message);
  size_t step = kind == REDMOON_SCAN_HASH || kind == REDMOON_SCAN_ZSET ? 2 : 1;
  for (;;) {
    redmoon_reply *page;
    if (redmoon_scan_next(scan, &page, &err) != 0) fail_msg("%s", err.message);
    if (page == NULL) break;
    w.pages++;
    assert_int_equal(redmoon_reply_type(page), REDMOON_ARRAY);
    for (size_t i = 0; i < redmoon_reply_count(page); i += step) note(&w, page, i, step, prefix);
    redmoon_reply_free(page);
  }
  /* the end stays the end */
  redmoon_reply *page = (redmoon_reply *)&w;
  assert_int_equal(redmoon_scan_next(scan, &page, &err), 0);
  assert_null(page);
  redmoon_scan_free(scan);
  return &w;
}

static int distinct(const walk *w) {
  int count = 0;
  for (int i = 0; i < ELEMENTS; i++) count += w->seen[i] > 0;
  return count;
}

static void every_key_is_seen(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client, "SET key:# #", ELEMENTS);
  redmoon_scan_options options = REDMOON_SCAN_OPTIONS_INIT;
  options.count = 1000;
  const walk *w = take(client, REDMOON_SCAN_KEYS, "", &options, "key:");
  assert_int_equal(distinct(w), ELEMENTS);
  assert_int_equal(w->strangers, 0);
  assert_true(w->pages >= 9 && w->pages <= 40); /* so the hint is heeded */
  w = take(client, REDMOON_SCAN_KEYS, "", NULL, "key:");
  assert_int_equal(distinct(w), ELEMENTS);
  assert_true(w->pages > 100);
}

static void match_and_type_filter(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client, "SET a:# v", 500);
  fill(client, "SADD b:# v", 500);
  fill(client, "HSET a:set:# f v", 300);
  redmoon_scan_options options = {.match = "a:*", .count = 500};
  const walk *w = take(client, REDMOON_SCAN_KEYS, "", &options, "a:");
  assert_int_equal(w->strangers, 0);
  assert_true(w->elements >= 800);
  options = (redmoon_scan_options){.type = "set", .count = 500};
  w = take(client, REDMOON_SCAN_KEYS, "", &options, "b:");
  assert_int_equal(distinct(w), 500);
  assert_int_equal(w->strangers, 0);
  options = (redmoon_scan_options){.match = "a:*", .type = "hash", .count = 500};
  w = take(client, REDMOON_SCAN_KEYS, "", &options, "a:set:");
  assert_int_equal(distinct(w), 300);
  assert_int_equal(w->strangers, 0);
  options = (redmoon_scan_options){.match = "nothing*", .count = 10};
  w = take(client, REDMOON_SCAN_KEYS, "", &options, ""); /* many empty pages are not the end */
  assert_int_equal(w->elements, 0);
  assert_true(w->pages > 50);
}

static void every_element_of_large_and_small_collections_is_seen(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const struct {
    redmoon_scan_kind kind;
    const char *format;
  } rows[] = {
      {REDMOON_SCAN_HASH, "HSET c m:# #"}, {REDMOON_SCAN_SET, "SADD c m:#"}, {REDMOON_SCAN_ZSET, "ZADD c # m:#"}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    for (int count = 10; count <= ELEMENTS; count *= 1000) { /* 10 elements are kept in another way than 10,000 */
      redmoon_reply_free(ask(client, "DEL", "c", NULL));
      fill(client, rows[i].format, count);
      redmoon_scan_options options = {.count = 500};
      const walk *w = take(client, rows[i].kind, "c", &options, "m:");
      assert_int_equal(distinct(w), count);
      assert_int_equal(w->strangers, 0);
      assert_int_equal(w->wrong_values, 0);
      options = (redmoon_scan_options){.match = "m:*7", .count = 500};
      w = take(client, rows[i].kind, "c", &options, "m:");
      assert_int_equal(distinct(w), count / 10);
      for (int n = 0; n < count; n++) assert_true((w->seen[n] > 0) == (n % 10 == 7));
    }
  }
}

static void what_stays_is_seen_while_the_rest_changes(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client, "SET stays:# v", 2000);
  fill(client, "SET goes:# v", 2000);
  redmoon_scan *scan;
  redmoon_error err;
  redmoon_scan_options options = {.match = "stays:*", .count = 100};
  assert_int_equal(redmoon_scan_new(client, REDMOON_SCAN_KEYS, NULL, 0, &options, &scan, &err), 0);
  static walk w;
  w = (walk){0};
  for (int round = 0;; round++) {
    redmoon_reply *page;
    if (redmoon_scan_next(scan, &page, &err) != 0) fail_msg("%s", err.message);
    if (page == NULL) break;
    for (size_t i = 0; i < redmoon_reply_count(page); i++) note(&w, page, i, 1, "stays:");
    redmoon_reply_free(page);
    if (round == 3) {
      fill(client, "DEL goes:#", 2000);
    }
    if (round == 6) fill(client, "SET new:# v", 10000); /* the server's table grows meanwhile */
  }
  redmoon_scan_free(scan);
  assert_int_equal(distinct(&w), 2000);
}

static void missing_collection_is_one_empty_page(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const redmoon_scan_kind kinds[] = {REDMOON_SCAN_HASH, REDMOON_SCAN_SET, REDMOON_SCAN_ZSET};
  for (size_t i = 0; i < 3; i++) {
    const walk *w = take(client, kinds[i], "missing", NULL, "");
    assert_int_equal(w->pages, 1);
    assert_int_equal(w->elements, 0);
  }
}

static void scan_of_another_kind_is_an_error_reply(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "RPUSH", "list", "a", NULL));
  redmoon_scan *scan;
  redmoon_error err;
  redmoon_reply *page = (redmoon_reply *)&err;
  assert_int_equal(redmoon_scan_new(client, REDMOON_SCAN_HASH, "list", 4, NULL, &scan, &err), 0);
  assert_int_equal(redmoon_scan_next(scan, &page, &err), REDMOON_ESERVER);
  assert_null(page);
  assert_string_equal(err.code, "WRONGTYPE");
  redmoon_reply_free(ask(client, "DEL", "list", NULL));
  assert_int_equal(redmoon_scan_next(scan, &page, &err), 0); /* it goes on where it stood */
  assert_non_null(page);
  redmoon_reply_free(page);
  redmoon_scan_free(scan);
}

static void options_out_of_range_are_refused(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_scan *scan = (redmoon_scan *)&client;
  redmoon_error err;
  redmoon_scan_options options = {.count = 0};
  assert_int_equal(redmoon_scan_new(client, REDMOON_SCAN_KEYS, NULL, 0, &options, &scan, &err), REDMOON_ECONFIG);
  assert_null(scan);
  assert_non_null(strstr(err.message, "'count'"));
  options = (redmoon_scan_options){.count = REDMOON_UNSET, .type = "set"};
  assert_int_equal(redmoon_scan_new(client, REDMOON_SCAN_SET, "k", 1, &options, &scan, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "'type'"));
  assert_int_equal(redmoon_scan_new(client, (redmoon_scan_kind)9, "k", 1, NULL, &scan, &err), REDMOON_ECONFIG);
  redmoon_scan_free(NULL);
}

static const matrix_test tests[] = {
    MATRIX_TEST(every_key_is_seen),
    MATRIX_TEST(match_and_type_filter),
    MATRIX_TEST(every_element_of_large_and_small_collections_is_seen),
    MATRIX_TEST(what_stays_is_seen_while_the_rest_changes),
    MATRIX_TEST(missing_collection_is_one_empty_page),
    MATRIX_TEST(scan_of_another_kind_is_an_error_reply),
    MATRIX_TEST(options_out_of_range_are_refused),
};

int main(void) { return matrix_run("scan", tests, sizeof tests / sizeof tests[0]); }
