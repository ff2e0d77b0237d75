/* SPDX-License-Identifier: MIT */
/* Prefixes and what was counted of each, in bounded memory.
 *
 * Beyond the limit the half with fewest keys goes to "other", as in Manku and Motwani, "Approximate frequency counts over
 * data streams" (2002): a prefix that comes again begins at 0, and its `missed` says how many of its keys may have gone. */
#include "patterns/audit.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 64 };

void rm_audit_table_init(rm_audit_table *table, size_t limit) {
  *table = (rm_audit_table){0};
  table->limit = limit;
}

void rm_audit_table_fini(rm_audit_table *table) {
  for (size_t i = 0; i < table->count; i++) rm_free(table->entries[i]);
  rm_free(table->entries);
  rm_free(table->slots);
  *table = (rm_audit_table){0};
}

static bool is_named(const rm_audit_entry *entry, uint64_t hash, const char *name, size_t len) {
  return entry->hash == hash && entry->len == len && memcmp(entry->name, name, len) == 0;
}

/* Where it is, or would be. */
static size_t slot_of(const rm_audit_table *table, uint64_t hash, const char *name, size_t len) {
  size_t mask = table->slot_count - 1, at = (size_t)hash & mask;
  while (table->slots[at] != 0 && !is_named(table->entries[table->slots[at] - 1], hash, name, len)) at = (at + 1) & mask;
  return at;
}

static void index_all(rm_audit_table *table) {
  memset(table->slots, 0, table->slot_count * sizeof *table->slots);
  for (size_t i = 0; i < table->count; i++) {
    const rm_audit_entry *entry = table->entries[i];
    table->slots[slot_of(table, entry->hash, entry->name, entry->len)] = (uint32_t)(i + 1);
  }
}

/* Room for one more. */
static int grow(rm_audit_table *table) {
  if (table->count == table->cap) {
    size_t cap = table->cap == 0 ? FIRST_SLOTS / 2 : table->cap * 2;
    rm_audit_entry **entries = rm_realloc(table->entries, cap * sizeof *entries);
    if (entries == NULL) return REDMOON_ENOMEM;
    table->entries = entries;
    table->cap = cap;
  }
  if (2 * (table->count + 1) <= table->slot_count) return 0;
  size_t slot_count = table->slot_count == 0 ? FIRST_SLOTS : table->slot_count * 2;
  uint32_t *slots = rm_calloc(slot_count, sizeof *slots);
  if (slots == NULL) return REDMOON_ENOMEM;
  rm_free(table->slots);
  table->slots = slots;
  table->slot_count = slot_count;
  index_all(table);
  return 0;
}

rm_audit_entry *rm_audit_table_get(rm_audit_table *table, const char *name, size_t len) {
  uint64_t hash = rm_audit_hash_key(name, len, 0).first;
  if (grow(table) != 0) return NULL;
  size_t at = slot_of(table, hash, name, len);
  if (table->slots[at] != 0) return table->entries[table->slots[at] - 1];
  rm_audit_entry *entry = rm_calloc(1, sizeof *entry);
  if (entry == NULL) return NULL;
  entry->hash = hash;
  entry->len = len;
  memcpy(entry->name, name, len);
  entry->missed = table->floor;
  table->entries[table->count++] = entry;
  table->slots[at] = (uint32_t)table->count;
  return entry;
}

int rm_audit_entry_compare(const void *a, const void *b) {
  const rm_audit_entry *x = *(rm_audit_entry *const *)a, *y = *(rm_audit_entry *const *)b;
  if (x->tally.keys != y->tally.keys) return x->tally.keys > y->tally.keys ? -1 : 1;
  size_t len = x->len < y->len ? x->len : y->len;
  int order = memcmp(x->name, y->name, len);
  if (order != 0) return order;
  return x->len < y->len ? -1 : x->len > y->len;
}

void rm_audit_table_fold(rm_audit_table *table) {
  if (table->count <= table->limit) return;
  qsort(table->entries, table->count, sizeof *table->entries, rm_audit_entry_compare);
  size_t keep = table->limit / 2;
  table->floor += table->entries[keep]->tally.keys;
  for (size_t i = keep; i < table->count; i++) {
    rm_audit_entry *entry = table->entries[i];
    rm_audit_tally_merge(&table->other, &entry->tally);
    rm_audit_sums sums = rm_audit_sample_sums(&entry->sample);
    rm_audit_estimate_add(&table->other_bytes, &sums, entry->tally.keys);
    table->folded += entry->tally.keys > 0;
    rm_free(entry);
  }
  table->count = keep;
  index_all(table);
}

static bool is_number(const char *name, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (name[i] < '0' || name[i] > '9') return false;
  return true;
}

void rm_audit_fields_add(rm_audit_fields *fields, const char *name, size_t len) {
  if (fields->many) return;
  if (len > RM_AUDIT_FIELD_MAX || is_number(name, len)) {
    fields->many = true;
    return;
  }
  for (size_t i = 0; i < fields->used; i++)
    if (fields->slots[i].len == len && memcmp(fields->slots[i].name, name, len) == 0) {
      fields->slots[i].keys++;
      return;
    }
  if (fields->used == RM_AUDIT_FIELDS) {
    fields->many = true;
    return;
  }
  memcpy(fields->slots[fields->used].name, name, len);
  fields->slots[fields->used].len = (uint8_t)len;
  fields->slots[fields->used++].keys = 1;
}
