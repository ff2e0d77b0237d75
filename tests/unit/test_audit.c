/* SPDX-License-Identifier: MIT */
/* The arithmetic of the audit: prefixes, histograms, cliffs, the table, the pace. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "patterns/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}
static double next_share(uint64_t *state) { return (double)(next_random(state) >> 11) / 9007199254740992.0; }

/* Prefixes. */

static void assert_cut(const char *key, size_t depth, const char *prefix, const char *field) {
  rm_audit_cut cut;
  rm_audit_cut_key(key, strlen(key), ':', depth, &cut);
  if (cut.prefix_len != strlen(prefix) || memcmp(cut.prefix, prefix, cut.prefix_len) != 0)
    fail_msg("%s at %zu: %.*s, not %s", key, depth, (int)cut.prefix_len, cut.prefix, prefix);
  assert_int_equal(field != NULL, cut.field != NULL);
  if (field == NULL) return;
  assert_int_equal(cut.field_len, strlen(field));
  assert_memory_equal(cut.field, field, cut.field_len);
}

static void last_segment_names_the_key_and_is_no_prefix(void **state) {
  (void)state;
  assert_cut("user:42", 1, "user", NULL);
  assert_cut("user:42", 3, "user", NULL);
  assert_cut("user:42:name", 1, "user", "name");
  assert_cut("user:42:name", 2, "user:42", NULL);
  assert_cut("counter", 1, "", NULL);
  assert_cut("", 1, "", NULL);
  assert_cut(":", 1, "", NULL);
  assert_cut("a:", 1, "a", NULL);
  assert_cut("a::b", 2, "a:", NULL);
  assert_cut("a:b:c:d", 1, "a", "d");
}

static void tag_is_one_name_whatever_is_in_it(void **state) {
  (void)state;
  assert_cut("redmoon:{user:42}:lock", 1, "redmoon", NULL);
  assert_cut("redmoon:{user:42}:lock", 2, "redmoon:{*}:lock", NULL);
  assert_cut("redmoon:{user:42}:lock", 5, "redmoon:{*}:lock", NULL);
  assert_cut("{42}:profile", 1, "{*}:profile", NULL);
  assert_cut("{42}", 1, "{*}", NULL);
  assert_cut("user:{42}", 1, "user", NULL);
  assert_cut("user:{42}", 2, "user:{*}", NULL);
  assert_cut("user{4:2}x:name:last", 1, "user{*}x", NULL);
  assert_cut("redmoon:~user:{42}:lock", 2, "redmoon:~user", NULL);
  assert_cut("redmoon:~user:{42}:lock", 3, "redmoon:~user:{*}:lock", NULL);
  assert_cut("redmoon:{q}:api.gcra+req.8f1", 2, "redmoon:{*}:api.gcra+req.*", NULL);
  assert_cut("redmoon:{h}:web.session.0cvXwZ5j0CWx8dFRCSFBEA", 2, "redmoon:{*}:web.session.*", NULL);
  assert_cut("redmoon:{h}:web.sessions", 2, "redmoon:{*}:web.sessions", NULL);
  assert_cut("a{}b:c", 1, "a{}b", NULL); /* no tag */
  assert_cut("a{b:c", 1, "a{b", NULL);
  assert_cut("a:b+req.c:d", 2, "a:b+req.c", NULL); /* without a tag it is nobody's request */
}

static void long_and_binary_keys_are_cut(void **state) {
  (void)state;
  char key[2000];
  rm_audit_cut cut;
  memset(key, 'k', sizeof key);
  key[1998] = ':';
  rm_audit_cut_key(key, sizeof key, ':', 1, &cut);
  assert_int_equal(cut.prefix_len, RM_AUDIT_PREFIX_MAX);
  rm_audit_cut_key("\0\xff:x", 4, ':', 1, &cut);
  assert_int_equal(cut.prefix_len, 2);
  assert_memory_equal(cut.prefix, "\0\xff", 2);
  rm_audit_cut_key("a/b", 3, '/', 1, &cut);
  assert_int_equal(cut.prefix_len, 1);
}

/* Lifetimes. */

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

static const rm_audit_limits no_limits = {REDMOON_UNSET, REDMOON_UNSET};

static void quantiles_lie_in_the_bucket_of_the_true_ones(void **state) {
  (void)state;
  enum { KEYS = 997 };
  static int64_t ttls[KEYS];
  uint64_t random = 5;
  for (int round = 0; round < 60; round++) {
    rm_audit_tally tally = {0};
    int count = round == 0 ? 1 : 1 + (int)(next_random(&random) % KEYS);
    for (int i = 0; i < count; i++) {
      ttls[i] = (int64_t)exp2(next_share(&random) * (round % 45)) - 1;
      rm_audit_tally_add(&tally, ttls[i], ttls[i], 0, &no_limits);
    }
    rm_audit_tally_add(&tally, -1, -1, 0, &no_limits); /* one without is no part of it */
    qsort(ttls, (size_t)count, sizeof ttls[0], compare);
    assert_int_equal(tally.ttl_min, ttls[0]);
    assert_int_equal(tally.ttl_max, ttls[count - 1]);
    static const double shares[] = {0.01, 0.5, 0.99, 1};
    for (size_t i = 0; i < 4; i++) {
      int64_t exact = ttls[(int)ceil(shares[i] * count) - 1];
      double got = rm_audit_quantile(&tally, shares[i]);
      if (rm_audit_bucket((int64_t)got) != rm_audit_bucket(exact))
        fail_msg("round %d, quantile %g: %g, exact is %lld", round, shares[i], got, (long long)exact);
      assert_true(got >= (double)ttls[0] && got <= (double)ttls[count - 1]);
    }
  }
  rm_audit_tally none = {0};
  assert_true(rm_audit_quantile(&none, 0.5) == -1);
}

static void buckets_are_powers_of_two(void **state) {
  (void)state;
  assert_int_equal(rm_audit_bucket(0), 0);
  assert_int_equal(rm_audit_bucket(1), 0);
  for (int i = 1; i < REDMOON_AUDIT_TTL_BUCKETS; i++) {
    assert_int_equal(rm_audit_bucket(INT64_C(1) << i), i);
    assert_int_equal(rm_audit_bucket((INT64_C(1) << i) - 1), i - 1);
  }
  assert_int_equal(rm_audit_bucket(INT64_MAX), REDMOON_AUDIT_TTL_BUCKETS - 1);
}

static void limits_count_what_lies_outside(void **state) {
  (void)state;
  rm_audit_tally tally = {0};
  const rm_audit_limits limits = {1000, 5000};
  static const int64_t ttls[] = {-1, 0, 999, 1000, 5000, 5001};
  for (size_t i = 0; i < 6; i++) rm_audit_tally_add(&tally, ttls[i], 0, RM_AUDIT_STRING, &limits);
  assert_int_equal(tally.keys, 6);
  assert_int_equal(tally.no_ttl, 1);
  assert_int_equal(tally.below_min, 2);
  assert_int_equal(tally.above_max, 1);
  assert_int_equal(tally.types[RM_AUDIT_STRING], 6);
  assert_string_equal(redmoon_audit_type_name(rm_audit_type("zset", 4)), "zset");
  assert_string_equal(redmoon_audit_type_name(rm_audit_type("vectorset", 9)), "other");
  assert_null(redmoon_audit_type_name(REDMOON_AUDIT_TYPES));
}

/* Against exact counts: never too high, and too low by no more than is said. */
static void cliffs_are_exact_within_their_error(void **state) {
  (void)state;
  enum { BUCKETS = 2000, KEYS = 20000 };
  static int64_t exact[BUCKETS];
  uint64_t random = 7;
  for (int spread = 10; spread <= BUCKETS; spread *= 5) {
    rm_audit_cliffs cliffs = {.used = 0}, parts[3] = {{.used = 0}};
    memset(exact, 0, sizeof exact);
    for (int i = 0; i < KEYS; i++) {
      int64_t bucket = next_random(&random) % 4 == 0 ? 3 : (int64_t)(next_random(&random) % (uint64_t)spread);
      exact[bucket]++;
      rm_audit_cliffs_add(&cliffs, bucket, 1);
      rm_audit_cliffs_add(&parts[i % 3], bucket, 1);
    }
    for (int i = 1; i < 3; i++) rm_audit_cliffs_merge(&parts[0], &parts[i]);
    const rm_audit_cliffs *both[] = {&cliffs, &parts[0]};
    for (int i = 0; i < 2; i++) {
      const rm_audit_cliff *top = rm_audit_cliffs_top(both[i]);
      assert_non_null(top);
      assert_int_equal(top->bucket, 3);
      for (size_t k = 0; k < both[i]->used; k++) {
        const rm_audit_cliff *slot = &both[i]->slots[k];
        assert_true(slot->keys > 0 && slot->keys <= exact[slot->bucket]);
        assert_true(exact[slot->bucket] <= slot->keys + both[i]->missed);
      }
      if (spread <= RM_AUDIT_CLIFF_SLOTS) assert_int_equal(both[i]->missed, 0);
      else assert_true(both[i]->missed > 0 && both[i]->missed <= 2 * KEYS / RM_AUDIT_CLIFF_SLOTS);
    }
  }
  rm_audit_tally tally = {0};
  rm_audit_tally_add(&tally, 5, 19999, 0, &no_limits);
  rm_audit_tally_add(&tally, 5, 10000, 0, &no_limits);
  rm_audit_tally_add(&tally, 5, 9999, 0, &no_limits);
  assert_int_equal(rm_audit_cliffs_top(&tally.cliffs)->bucket, 1);
  assert_int_equal(rm_audit_cliffs_top(&tally.cliffs)->keys, 2);
}

static void merged_tallies_are_the_tally_of_all(void **state) {
  (void)state;
  uint64_t random = 11;
  rm_audit_tally all = {0}, parts[2] = {{.keys = 0}}, empty = {0};
  for (int i = 0; i < 500; i++) {
    int64_t ttl = next_random(&random) % 3 == 0 ? -1 : (int64_t)(next_random(&random) % 100000);
    size_t type = next_random(&random) % REDMOON_AUDIT_TYPES;
    rm_audit_tally_add(&all, ttl, ttl, type, &no_limits);
    rm_audit_tally_add(&parts[i < 2 ? 0 : 1], ttl, ttl, type, &no_limits);
  }
  rm_audit_tally_merge(&parts[0], &parts[1]);
  rm_audit_tally_merge(&parts[0], &empty);
  assert_int_equal(parts[0].keys, all.keys);
  assert_int_equal(parts[0].no_ttl, all.no_ttl);
  assert_int_equal(parts[0].ttl_min, all.ttl_min);
  assert_int_equal(parts[0].ttl_max, all.ttl_max);
  assert_memory_equal(parts[0].histogram, all.histogram, sizeof all.histogram);
  assert_memory_equal(parts[0].types, all.types, sizeof all.types);
}

/* The table. */

static redmoon_audit_group show(const rm_audit_estimate *estimate) {
  redmoon_audit_group group = {0};
  rm_audit_estimate_show(estimate, &group);
  return group;
}

static void add(rm_audit_table *table, const char *name, int64_t keys) {
  rm_audit_entry *entry = rm_audit_table_get(table, name, strlen(name));
  assert_non_null(entry);
  for (int64_t i = 0; i < keys; i++) {
    rm_audit_tally_add(&entry->tally, 1000 + i, 1000 + i, 0, &no_limits);
    rm_audit_tally_add(&table->total, 1000 + i, 1000 + i, 0, &no_limits);
    if (entry->sample.used < 2) rm_audit_sample_add(&entry->sample, (uint64_t)i, 100, 0);
  }
}

/* Random keys of many prefixes, some common: no key is lost, and what a prefix misses is within what it says. */
static void folded_prefixes_lose_no_keys_and_say_what_they_miss(void **state) {
  (void)state;
  enum { NAMES = 3000, KEYS = 30000, LIMIT = 200 };
  static int64_t exact[NAMES];
  rm_audit_table table;
  rm_audit_table_init(&table, LIMIT);
  uint64_t random = 13;
  for (int i = 0; i < KEYS; i++) {
    int n = next_random(&random) % 2 == 0 ? (int)(next_random(&random) % 20) : (int)(next_random(&random) % NAMES);
    char name[16];
    snprintf(name, sizeof name, "p%d", n);
    exact[n]++;
    add(&table, name, 1);
    rm_audit_table_fold(&table);
    assert_true(table.count <= LIMIT);
  }
  assert_true(table.folded > 0 && table.floor > 0);
  int64_t sum = table.other.keys;
  int common = 0;
  for (size_t i = 0; i < table.count; i++) {
    const rm_audit_entry *entry = table.entries[i];
    int n = atoi(entry->name + 1);
    sum += entry->tally.keys;
    common += n < 20;
    assert_true(entry->tally.keys <= exact[n]);
    if (exact[n] > entry->tally.keys + entry->missed)
      fail_msg("p%d: %lld of %lld, said to miss %lld", n, (long long)entry->tally.keys, (long long)exact[n], (long long)entry->missed);
  }
  assert_int_equal(sum, KEYS);
  assert_int_equal(table.total.keys, KEYS);
  assert_int_equal(common, 20);
  rm_audit_estimate bytes = table.other_bytes;
  for (size_t i = 0; i < table.count; i++) {
    rm_audit_sums sums = rm_audit_sample_sums(&table.entries[i]->sample);
    rm_audit_estimate_add(&bytes, &sums, table.entries[i]->tally.keys);
  }
  assert_true(show(&bytes).bytes == 100.0 * KEYS);
  rm_audit_table_fini(&table);
}

static void entries_are_found_by_their_whole_name(void **state) {
  (void)state;
  rm_audit_table table;
  rm_audit_table_init(&table, 1024);
  rm_audit_entry *a = rm_audit_table_get(&table, "a", 1), *ab = rm_audit_table_get(&table, "a\0b", 3);
  assert_true(a != ab);
  for (int i = 0; i < 1000; i++) add(&table, (char[]){(char)(1 + i % 50), (char)(1 + i / 50), '\0'}, 1);
  assert_true(rm_audit_table_get(&table, "a", 1) == a && rm_audit_table_get(&table, "a\0b", 3) == ab);
  assert_int_equal(table.count, 1002);
  rm_audit_table_fini(&table);
}

static void fields_are_told_apart_while_they_are_few(void **state) {
  (void)state;
  rm_audit_fields fields = {0};
  for (int i = 0; i < 30; i++) rm_audit_fields_add(&fields, i % 3 == 0 ? "name" : "mail", 4);
  assert_int_equal(fields.used, 2);
  assert_false(fields.many);
  assert_int_equal(fields.slots[0].keys + fields.slots[1].keys, 30);
  rm_audit_fields numbers = {0}, many = {0}, large = {0};
  rm_audit_fields_add(&numbers, "17", 2);
  assert_true(numbers.many);
  for (int i = 0; i <= RM_AUDIT_FIELDS; i++) {
    assert_false(many.many);
    rm_audit_fields_add(&many, (char[]){'a', (char)('a' + i)}, 2);
  }
  assert_true(many.many);
  char name[RM_AUDIT_FIELD_MAX + 1];
  memset(name, 'n', sizeof name);
  rm_audit_fields_add(&large, name, sizeof name);
  assert_true(large.many);
}

/* The pace. */

static void pause_doubles_while_pages_take_twice_as_long_and_halves_after(void **state) {
  (void)state;
  rm_audit_pace pace = {0};
  for (int i = 0; i < 20; i++) {
    rm_audit_pace_note(&pace, 10000, 950);
    assert_int_equal(pace.pause_us, 0);
  }
  int64_t before = 0;
  int risen = 0;
  for (int i = 0; i < 20; i++) {
    rm_audit_pace_note(&pace, 30000, 950);
    if (pace.pause_us > before && before > 0) assert_true(pace.pause_us == 2 * before || pace.pause_us == 1000000);
    risen += pace.pause_us > before;
    before = pace.pause_us;
  }
  assert_true(risen >= 10);
  assert_int_equal(before, 1000000); /* and no longer */
  for (int i = 0; i < 30; i++) rm_audit_pace_note(&pace, 10000, 950);
  assert_int_equal(pace.pause_us, 0);
  rm_audit_pace_note(&pace, 19000, 950); /* one slow page is none */
  assert_int_equal(pace.pause_us, 0);
  rm_audit_pace local = {0};
  for (int i = 0; i < 100; i++) { /* what is short is noise */
    rm_audit_pace_note(&local, 100 + i % 5 * 900, 950);
    assert_int_equal(local.pause_us, 0);
  }
}

static void page_is_small_when_the_rate_is(void **state) {
  (void)state;
  assert_int_equal(rm_audit_page_size(1000, 0), 1000);
  assert_int_equal(rm_audit_page_size(1000, 1), 1);
  assert_int_equal(rm_audit_page_size(1000, 500), 50);
  assert_int_equal(rm_audit_page_size(1000, 1000000), 1000);
}

/* As the server does it: bits above the table's are set, and the whole is counted up in reverse. */
static void cursor_tells_how_much_is_done(void **state) {
  (void)state;
  enum { BITS = 8 };
  uint64_t cursor = 0;
  double before = 0;
  for (int i = 1; i < 1 << BITS; i++) {
    uint64_t reversed = 0;
    cursor |= ~(uint64_t)((1 << BITS) - 1);
    for (int bit = 0; bit < 64; bit++) reversed |= (cursor >> bit & 1) << (63 - bit);
    reversed++;
    cursor = 0;
    for (int bit = 0; bit < 64; bit++) cursor |= (reversed >> bit & 1) << (63 - bit);
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)cursor);
    double share = rm_audit_cursor_share(text);
    assert_true(share > before);
    assert_true(fabs(share - (double)i / (1 << BITS)) < 1e-9);
    before = share;
  }
  assert_true(rm_audit_cursor_share("0") == 0);
}

/* INFO. */

static void info_gives_what_it_has_and_no_more(void **state) {
  (void)state;
  rm_audit_server server = {-1, -1, -1, -1, -1, -1, -1, -1, "", "", "", ""};
  rm_audit_info_parse("# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nserver_time_usec:1700000000123456\r\n"
                      "# Memory\r\nmaxmemory:1048576\r\nmaxmemory_human:1M\r\nmaxmemory_policy:volatile-lru\r\nused_memory:7\r\n"
                      "# Replication\r\nrole:master\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb10:keys=9,expires=9\r\n",
                      0, &server);
  assert_int_equal(server.keys, 3);
  assert_int_equal(server.expires, 1);
  assert_int_equal(server.maxmemory, 1048576);
  assert_int_equal(server.used_memory, 7);
  assert_int_equal(server.maxclients, -1);
  assert_string_equal(server.policy, "volatile-lru");
  assert_string_equal(server.version, "7.0.15");
  assert_string_equal(server.run_id, "abc");
  assert_string_equal(server.role, "master");
  rm_audit_info_parse("# Keyspace\r\ndb0:keys=3,expires=1\r\ndb10:keys=9,expires=8\r\n", 1, &server);
  assert_int_equal(server.keys, 0);
  rm_audit_info_parse("# Keyspace\ndb10:keys=9,expires=8\n", 10, &server);
  assert_int_equal(server.keys, 9);
  assert_int_equal(server.expires, 8);
  rm_audit_info_parse("", 0, &server);
  rm_audit_info_parse("maxclients:\r\nrun_id", 0, &server);
  assert_int_equal(server.keys, 9);
  assert_int_equal(server.maxclients, -1);
  assert_int_equal(rm_audit_info_clock("a:1\r\nserver_time_usec:1700000000123456\r\n"), INT64_C(1700000000123));
  assert_int_equal(rm_audit_info_clock("a:1\r\n"), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(last_segment_names_the_key_and_is_no_prefix),
      cmocka_unit_test(tag_is_one_name_whatever_is_in_it),
      cmocka_unit_test(long_and_binary_keys_are_cut),
      cmocka_unit_test(quantiles_lie_in_the_bucket_of_the_true_ones),
      cmocka_unit_test(buckets_are_powers_of_two),
      cmocka_unit_test(limits_count_what_lies_outside),
      cmocka_unit_test(cliffs_are_exact_within_their_error),
      cmocka_unit_test(merged_tallies_are_the_tally_of_all),
      cmocka_unit_test(folded_prefixes_lose_no_keys_and_say_what_they_miss),
      cmocka_unit_test(entries_are_found_by_their_whole_name),
      cmocka_unit_test(fields_are_told_apart_while_they_are_few),
      cmocka_unit_test(pause_doubles_while_pages_take_twice_as_long_and_halves_after),
      cmocka_unit_test(page_is_small_when_the_rate_is),
      cmocka_unit_test(cursor_tells_how_much_is_done),
      cmocka_unit_test(info_gives_what_it_has_and_no_more),
  };
  return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
