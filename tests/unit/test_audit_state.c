/* SPDX-License-Identifier: MIT */
/* The saved state of an audit: what is read is what was written, and nothing else is read. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "patterns/audit.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HASH_LEN = 32 };

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static void drop(redmoon_audit *audit) {
  rm_audit_table_fini(&audit->table);
  rm_audit_filter_fini(&audit->filter);
  rm_audit_nodes_fini(&audit->nodes);
  rm_free(audit->plan.match);
  audit->plan.match = NULL;
}

static void fill_entry(rm_audit_table *table, int n, uint64_t *random) {
  char name[32];
  size_t len = (size_t)snprintf(name, sizeof name, "prefix\n%d", n);
  rm_audit_entry *entry = rm_audit_table_get(table, name, len);
  assert_non_null(entry);
  const rm_audit_limits limits = {1000, 50000};
  for (int i = 0; i < 40; i++) {
    int64_t ttl = next_random(random) % 4 == 0 ? -1 : (int64_t)(next_random(random) % 100000);
    rm_audit_tally_add(&entry->tally, ttl, 1700000000000 + ttl, (size_t)(i % REDMOON_AUDIT_TYPES), &limits);
    rm_audit_tally_add(&table->total, ttl, 1700000000000 + ttl, (size_t)(i % REDMOON_AUDIT_TYPES), &limits);
    if (i % 3 == 0) rm_audit_sample_add(&entry->sample, next_random(random), (int64_t)(next_random(random) % 1000), 500000);
    rm_audit_fields_add(&entry->fields, n % 2 == 0 ? "name" : "7", n % 2 == 0 ? 4 : 1);
  }
}

/* An audit with something in every part. */
static void fill(redmoon_audit *audit, int entries) {
  uint64_t random = 17;
  *audit = (redmoon_audit){0};
  audit->plan = (rm_audit_plan){rm_strdup("a*"), 2, ':', 5000, 10, 1, 4096, 99, {1000, REDMOON_UNSET}};
  audit->server = (rm_audit_server){100, -1, 50, 10000, 3, 0, INT64_C(123456789012), 0, "run", "7.0.15", "master", "noeviction"};
  audit->database = 3;
  audit->began = true;
  snprintf(audit->cursor, sizeof audit->cursor, "18446744073709551615");
  audit->nodes.list = rm_calloc(3, sizeof *audit->nodes.list);
  assert_non_null(audit->nodes.list);
  audit->nodes.count = 3;
  audit->nodes.turn = 2;
  audit->nodes.epoch = 7;
  for (int i = 0; i < 3; i++) {
    rm_audit_node *node = &audit->nodes.list[i];
    snprintf(node->name, sizeof node->name, "10.0.0.%d:6379", i);
    node->server = audit->server;
    node->state = i == 0 ? RM_AUDIT_NODE_SEEN : i == 1 ? RM_AUDIT_NODE_WAITING : RM_AUDIT_NODE_LEFT;
    node->scanned_keys = 1000 * i;
  }
  audit->moved = 6;
  audit->pages = 12;
  audit->repeats = 5;
  audit->gone = 4;
  audit->errors = 1;
  audit->changed = audit->memory_refused = true;
  snprintf(audit->first_error, sizeof audit->first_error, "NOPERM no");
  rm_audit_table_init(&audit->table, 8);
  for (int i = 0; i < entries; i++) {
    fill_entry(&audit->table, i, &random);
    rm_audit_table_fold(&audit->table);
  }
  assert_int_equal(rm_audit_filter_init(&audit->filter, 4096), 0);
  for (int i = 0; i < 300; i++) rm_audit_filter_add(&audit->filter, rm_audit_hash_key(&i, sizeof i, 99));
}

static void save(const redmoon_audit *audit, rm_buffer *out) {
  *out = (rm_buffer){0};
  assert_int_equal(rm_audit_save(audit, out), 0);
}

static void what_is_read_is_what_was_written(void **state) {
  (void)state;
  for (int entries = 0; entries <= 40; entries += 8) {
    redmoon_audit audit, copy = {0};
    rm_buffer bytes, again;
    redmoon_error err;
    fill(&audit, entries);
    save(&audit, &bytes);
    if (rm_audit_restore(&copy, rm_buffer_begin(&bytes), rm_buffer_len(&bytes), &err) != 0) fail_msg("%s", err.message);
    save(&copy, &again);
    assert_int_equal(rm_buffer_len(&bytes), rm_buffer_len(&again));
    assert_memory_equal(rm_buffer_begin(&bytes), rm_buffer_begin(&again), rm_buffer_len(&bytes));
    assert_string_equal(copy.plan.match, "a*");
    assert_string_equal(copy.cursor, audit.cursor);
    assert_string_equal(copy.first_error, audit.first_error);
    assert_string_equal(copy.server.policy, "noeviction");
    assert_int_equal(copy.plan.limits.max_ttl_ms, REDMOON_UNSET);
    assert_int_equal(copy.plan.seed, 99);
    assert_int_equal(copy.database, 3);
    assert_int_equal(copy.pages, 12);
    assert_int_equal(copy.gone, 4);
    assert_int_equal(copy.errors, 1);
    assert_int_equal(copy.moved, 6);
    assert_true(copy.nodes.count == 3 && copy.nodes.turn == 2 && copy.nodes.epoch == 7 && copy.nodes.epoch_end == 0);
    assert_string_equal(copy.nodes.list[1].name, "10.0.0.1:6379");
    assert_true(copy.nodes.list[0].state == RM_AUDIT_NODE_SEEN && copy.nodes.list[2].state == RM_AUDIT_NODE_LEFT);
    assert_true(copy.nodes.list[1].scanned_keys == 1000 && copy.nodes.list[1].server.used_memory == audit.server.used_memory);
    assert_int_equal(copy.repeats, 5);
    assert_true(copy.began && copy.changed && copy.memory_refused && !copy.done && !copy.scanned && !copy.info_refused);
    assert_int_equal(copy.server.used_memory, INT64_C(123456789012));
    assert_int_equal(copy.table.floor, audit.table.floor);
    assert_int_equal(copy.table.count, audit.table.count);
    assert_int_equal(copy.table.total.keys, 40 * entries);
    assert_int_equal(copy.filter.set, audit.filter.set);
    assert_memory_equal(copy.filter.bytes, audit.filter.bytes, audit.filter.size);
    assert_memory_equal(&copy.table.total, &audit.table.total, sizeof audit.table.total);
    /* and both go on the same way */
    uint64_t one = 23, two = 23;
    fill_entry(&audit.table, 1000, &one);
    fill_entry(&copy.table, 1000, &two);
    rm_buffer_fini(&bytes);
    rm_buffer_fini(&again);
    save(&audit, &bytes);
    save(&copy, &again);
    assert_memory_equal(rm_buffer_begin(&bytes), rm_buffer_begin(&again), rm_buffer_len(&bytes));
    rm_buffer_fini(&bytes);
    rm_buffer_fini(&again);
    drop(&audit);
    drop(&copy);
  }
}

static void assert_refused(const char *bytes, size_t len) {
  redmoon_audit copy = {0};
  redmoon_error err;
  char *exact = malloc(len > 0 ? len : 1); /* so that a read beyond it is seen */
  assert_non_null(exact);
  memcpy(exact, bytes, len);
  int rc = rm_audit_restore(&copy, exact, len, &err);
  free(exact);
  drop(&copy);
  assert_int_equal(rc, REDMOON_ECODEC);
  assert_string_equal(err.code, "CODEC");
  assert_non_null(strstr(err.message, "'resume'"));
}

static void every_changed_byte_and_every_cut_is_refused(void **state) {
  (void)state;
  redmoon_audit audit;
  rm_buffer bytes;
  fill(&audit, 8);
  save(&audit, &bytes);
  char *text = rm_buffer_begin(&bytes);
  size_t len = rm_buffer_len(&bytes);
  for (size_t i = 0; i < len; i++) {
    text[i] ^= (char)(1 << (i % 8));
    assert_refused(text, len);
    text[i] ^= (char)(1 << (i % 8));
  }
  for (size_t i = 0; i < len; i += i < 200 ? 1 : 61) assert_refused(text, i);
  rm_buffer_fini(&bytes);
  drop(&audit);
}

static void sign(char *text, size_t len) {
  crypto_generichash((unsigned char *)text + len - HASH_LEN, HASH_LEN, (unsigned char *)text, len - HASH_LEN, NULL, 0);
}

/* Somebody who knows the hash: it may be read as another audit, but nothing breaks, and what is read can be written. */
static void signed_nonsense_breaks_nothing(void **state) {
  (void)state;
  redmoon_audit audit;
  rm_buffer bytes;
  fill(&audit, 8);
  rm_audit_filter_fini(&audit.filter); /* of its bits each is as good as another */
  save(&audit, &bytes);
  size_t len = rm_buffer_len(&bytes);
  char *text = malloc(len);
  assert_non_null(text);
  uint64_t random = 29;
  int read = 0, refused = 0;
  for (int round = 0; round < 40000; round++) {
    memcpy(text, rm_buffer_begin(&bytes), len);
    size_t size = next_random(&random) % 4 == 0 ? HASH_LEN + 8 + next_random(&random) % (len - HASH_LEN - 8) : len;
    for (uint64_t flips = 1 + next_random(&random) % 4; flips > 0; flips--)
      text[8 + next_random(&random) % (size - HASH_LEN - 8 > 0 ? size - HASH_LEN - 8 : 1)] = (char)next_random(&random);
    sign(text, size);
    redmoon_audit copy = {0};
    int rc = rm_audit_restore(&copy, text, size, NULL);
    assert_true(rc == 0 || rc == REDMOON_ECODEC);
    if (rc == 0) {
      rm_buffer out;
      save(&copy, &out);
      rm_buffer_fini(&out);
      read++;
    } else {
      refused++;
    }
    drop(&copy);
  }
  assert_true(read > 100 && refused > 1000);
  free(text);
  rm_buffer_fini(&bytes);
  drop(&audit);
}

static void same_prefix_twice_is_refused(void **state) {
  (void)state;
  redmoon_audit audit;
  rm_buffer bytes;
  fill(&audit, 8);
  memcpy(audit.table.entries[1]->name, audit.table.entries[0]->name, audit.table.entries[0]->len);
  audit.table.entries[1]->len = audit.table.entries[0]->len;
  save(&audit, &bytes);
  assert_refused(rm_buffer_begin(&bytes), rm_buffer_len(&bytes));
  rm_buffer_fini(&bytes);
  drop(&audit);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_read_is_what_was_written),
      cmocka_unit_test(every_changed_byte_and_every_cut_is_refused),
      cmocka_unit_test(signed_nonsense_breaks_nothing),
      cmocka_unit_test(same_prefix_twice_is_refused),
  };
  if (sodium_init() < 0) return 1;
  return cmocka_run_group_tests_name("audit state", tests, NULL, NULL);
}
