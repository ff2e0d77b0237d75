/* SPDX-License-Identifier: MIT */
/* An audit as bytes.
 *
 *      magic, version   body   BLAKE2b of both
 *
 *  Integers of the body are in 7-bit groups, lowest first, signed ones zigzag; floating-point numbers are their 8 bytes,
 *  texts have their length before them.  The hash tells accidents; against somebody who computes it anew, every number that
 *  is an index or a length is checked all the same. */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "base/error.h"

#include <math.h>
#include <sodium.h>
#include <string.h>

enum { HASH_LEN = 32, MAGIC_LEN = 8, ENTRIES_MAX = 1 << 20, FILTER_MAX = 1 << 30 };

static const char magic[MAGIC_LEN + 1] = "RMAUDIT2";

/* One function for both ways, so that they cannot differ: what is written is what is read. */
typedef struct codec {
  rm_buffer *out;    /* writing; NULL: reading */
  const unsigned char *at, *end;
  int status;        /* 0, CODEC or NOMEM; what follows does nothing */
} codec;

static bool is_reading(const codec *c) { return c->out == NULL; }

static void spoil(codec *c) {
  if (c->status == 0) c->status = REDMOON_ECODEC;
}

static void raw(codec *c, void *bytes, size_t len) {
  if (c->status != 0) return;
  if (!is_reading(c)) {
    if (rm_buffer_append(c->out, bytes, len) != 0) c->status = REDMOON_ENOMEM;
  } else if ((size_t)(c->end - c->at) < len) {
    spoil(c);
  } else {
    if (len > 0) memcpy(bytes, c->at, len);
    c->at += len;
  }
}

static void put_whole(codec *c, uint64_t value) {
  unsigned char bytes[10];
  size_t len = 0;
  for (; value >= 128; value >>= 7) bytes[len++] = (unsigned char)(value | 128);
  bytes[len++] = (unsigned char)value;
  raw(c, bytes, len);
}

static uint64_t get_whole(codec *c) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    unsigned char byte = 0;
    raw(c, &byte, 1);
    if (c->status != 0) return 0;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return value;
  }
  spoil(c);
  return 0;
}

static void integer(codec *c, int64_t *value) {
  if (!is_reading(c)) {
    put_whole(c, (uint64_t)*value << 1 ^ (*value < 0 ? UINT64_MAX : 0));
    return;
  }
  uint64_t read = get_whole(c);
  *value = (int64_t)(read >> 1 ^ (0 - (read & 1)));
}

/* At most `max`. */
static void size(codec *c, size_t *value, size_t max) {
  if (!is_reading(c)) {
    put_whole(c, *value);
    return;
  }
  uint64_t read = get_whole(c);
  if (read > max) spoil(c);
  *value = c->status == 0 ? (size_t)read : 0;
}

static void flag(codec *c, bool *value) {
  size_t number = *value;
  size(c, &number, 1);
  *value = number != 0;
}

static void number(codec *c, double *value) {
  unsigned char bytes[8] = {0};
  uint64_t bits = 0;
  memcpy(&bits, value, sizeof bits);
  for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(bits >> (8 * i));
  raw(c, bytes, sizeof bytes);
  if (!is_reading(c)) return;
  bits = 0;
  for (int i = 0; i < 8; i++) bits |= (uint64_t)bytes[i] << (8 * i);
  memcpy(value, &bits, sizeof bits);
  if (!isfinite(*value)) spoil(c);
}

/* NUL-ended, in `cap` bytes. */
static void text(codec *c, char *value, size_t cap) {
  size_t len = is_reading(c) ? 0 : strlen(value);
  size(c, &len, cap - 1);
  raw(c, value, len);
  if (is_reading(c)) value[c->status == 0 ? len : 0] = '\0';
}

static void text_or_null(codec *c, char **value) {
  bool there = *value != NULL;
  flag(c, &there);
  if (!there) return;
  size_t len = is_reading(c) ? 0 : strlen(*value);
  size(c, &len, is_reading(c) ? (size_t)(c->end - c->at) : SIZE_MAX);
  if (c->status != 0) return;
  if (is_reading(c) && (*value = rm_calloc(len + 1, 1)) == NULL) {
    c->status = REDMOON_ENOMEM;
    return;
  }
  raw(c, *value, len);
}

/* The parts. */

static void plan_part(codec *c, rm_audit_plan *plan) {
  text_or_null(c, &plan->match);
  integer(c, &plan->depth);
  integer(c, &plan->separator);
  integer(c, &plan->sample_ppm);
  integer(c, &plan->top);
  integer(c, &plan->require_ttl);
  integer(c, &plan->filter_bytes);
  integer(c, &plan->seed);
  integer(c, &plan->limits.min_ttl_ms);
  integer(c, &plan->limits.max_ttl_ms);
  if (plan->depth < 1 || plan->depth > 8 || plan->separator < 0 || plan->separator > 255 || plan->top < 1 ||
      plan->top > 10000 || plan->sample_ppm < 0 || plan->sample_ppm > 1000000)
    spoil(c);
}

static void server_part(codec *c, rm_audit_server *server) {
  int64_t *const integers[] = {&server->keys,        &server->keys_end,    &server->expires,   &server->maxclients,
                               &server->connected_clients, &server->maxmemory, &server->used_memory, &server->clustered};
  for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) integer(c, integers[i]);
  text(c, server->run_id, sizeof server->run_id);
  text(c, server->version, sizeof server->version);
  text(c, server->role, sizeof server->role);
  text(c, server->policy, sizeof server->policy);
}

static void cliffs_part(codec *c, rm_audit_cliffs *cliffs) {
  size(c, &cliffs->used, RM_AUDIT_CLIFF_SLOTS);
  for (size_t i = 0; i < cliffs->used && c->status == 0; i++) {
    integer(c, &cliffs->slots[i].bucket);
    integer(c, &cliffs->slots[i].keys);
    if (cliffs->slots[i].keys < 1) spoil(c);
  }
  integer(c, &cliffs->missed);
}

static void tally_part(codec *c, rm_audit_tally *tally) {
  integer(c, &tally->keys);
  integer(c, &tally->no_ttl);
  integer(c, &tally->below_min);
  integer(c, &tally->above_max);
  integer(c, &tally->ttl_min);
  integer(c, &tally->ttl_max);
  int64_t timed = 0;
  for (size_t i = 0; i < REDMOON_AUDIT_TTL_BUCKETS; i++) {
    integer(c, &tally->histogram[i]);
    if (tally->histogram[i] < 0 || tally->histogram[i] > tally->keys) spoil(c);
    if (c->status == 0) timed += tally->histogram[i];
  }
  for (size_t i = 0; i < REDMOON_AUDIT_TYPES; i++) integer(c, &tally->types[i]);
  if (tally->keys < 0 || tally->keys > INT64_C(1) << 56 || tally->no_ttl < 0 || timed != tally->keys - tally->no_ttl)
    spoil(c);
  cliffs_part(c, &tally->cliffs);
}

static void fields_part(codec *c, rm_audit_fields *fields) {
  flag(c, &fields->many);
  size(c, &fields->used, RM_AUDIT_FIELDS);
  for (size_t i = 0; i < fields->used && c->status == 0; i++) {
    size_t len = fields->slots[i].len;
    size(c, &len, RM_AUDIT_FIELD_MAX);
    fields->slots[i].len = (uint8_t)len;
    raw(c, fields->slots[i].name, len);
    integer(c, &fields->slots[i].keys);
  }
}

static void whole(codec *c, uint64_t *value) {
  if (is_reading(c)) *value = get_whole(c);
  else put_whole(c, *value);
}

static void sample_part(codec *c, rm_audit_sample *sample) {
  integer(c, &sample->drawn.count);
  whole(c, &sample->drawn.sum);
  whole(c, &sample->drawn.squares[0]);
  whole(c, &sample->drawn.squares[1]);
  size(c, &sample->used, RM_AUDIT_LOWEST);
  for (size_t i = 0; i < sample->used && c->status == 0; i++) {
    whole(c, &sample->lowest[i].lot);
    integer(c, &sample->lowest[i].bytes);
    if (sample->lowest[i].bytes < 0) spoil(c);
  }
  if (sample->drawn.count < 0) spoil(c);
}

static void entry_part(codec *c, rm_audit_entry *entry) {
  tally_part(c, &entry->tally);
  sample_part(c, &entry->sample);
  fields_part(c, &entry->fields);
  integer(c, &entry->missed);
  if (entry->sample.drawn.count > entry->tally.keys || (int64_t)entry->sample.used > entry->tally.keys) spoil(c);
}

/* Its name first: the table makes the entry. */
static void named_entry(codec *c, rm_audit_table *table, size_t index) {
  char name[RM_AUDIT_PREFIX_MAX];
  rm_audit_entry *entry = is_reading(c) ? NULL : table->entries[index];
  size_t len = entry != NULL ? entry->len : 0;
  if (entry != NULL) memcpy(name, entry->name, len);
  size(c, &len, sizeof name);
  raw(c, name, len);
  if (c->status != 0) return;
  if (is_reading(c)) {
    entry = rm_audit_table_get(table, name, len);
    if (entry == NULL) c->status = REDMOON_ENOMEM;
    else if (table->count != index + 1) spoil(c); /* the same name twice */
  }
  if (c->status == 0) entry_part(c, entry);
}

static void table_part(codec *c, rm_audit_table *table) {
  size_t count = table->count;
  size(c, &table->limit, ENTRIES_MAX);
  size(c, &count, ENTRIES_MAX);
  if (is_reading(c) && table->limit < 2) spoil(c);
  for (size_t i = 0; i < count && c->status == 0; i++) named_entry(c, table, i);
  integer(c, &table->floor);
  integer(c, &table->folded);
  tally_part(c, &table->total);
  tally_part(c, &table->other);
  rm_audit_estimate *bytes = &table->other_bytes;
  number(c, &bytes->bytes);
  number(c, &bytes->measured);
  number(c, &bytes->variance);
  number(c, &bytes->worst);
  flag(c, &bytes->unknown);
  flag(c, &bytes->open);
  integer(c, &bytes->sampled);
}

static void filter_part(codec *c, rm_audit_filter *filter) {
  size(c, &filter->size, FILTER_MAX);
  if (is_reading(c) && c->status == 0) {
    size_t wanted = filter->size;
    if ((size_t)(c->end - c->at) < wanted) {
      filter->size = 0;
      spoil(c);
    } else if (rm_audit_filter_init(filter, wanted) != 0) {
      c->status = REDMOON_ENOMEM;
    }
  }
  if (filter->size > 0) raw(c, filter->bytes, filter->size);
  int64_t set = (int64_t)filter->set;
  integer(c, &set);
  if (set < 0 || (uint64_t)set > (uint64_t)filter->size * 8) spoil(c);
  filter->set = (uint64_t)set;
  number(c, &filter->expected);
  integer(c, &filter->unfiltered);
  if (filter->expected < 0) spoil(c);
}

static void node_part(codec *c, rm_audit_node *node) {
  size_t state = node->state;
  text(c, node->name, sizeof node->name);
  size(c, &state, RM_AUDIT_NODE_LEFT);
  node->state = (rm_audit_node_state)state;
  integer(c, &node->scanned_keys);
  server_part(c, &node->server);
}

static void nodes_part(codec *c, rm_audit_nodes *nodes) {
  size_t count = nodes->count;
  size(c, &count, RM_AUDIT_NODES_MAX);
  if (is_reading(c) && count > 0 && c->status == 0) {
    nodes->list = rm_calloc(count, sizeof *nodes->list);
    if (nodes->list == NULL) c->status = REDMOON_ENOMEM;
    else nodes->count = count;
  }
  for (size_t i = 0; i < count && c->status == 0; i++) node_part(c, &nodes->list[i]);
  size(c, &nodes->turn, nodes->count);
  integer(c, &nodes->epoch);
  integer(c, &nodes->epoch_end);
}

static void audit_part(codec *c, redmoon_audit *audit) {
  plan_part(c, &audit->plan);
  integer(c, &audit->database);
  flag(c, &audit->began);
  flag(c, &audit->scanned);
  flag(c, &audit->done);
  flag(c, &audit->info_refused);
  flag(c, &audit->memory_refused);
  flag(c, &audit->changed);
  text(c, audit->cursor, sizeof audit->cursor);
  integer(c, &audit->pages);
  integer(c, &audit->gone);
  integer(c, &audit->moved);
  integer(c, &audit->errors);
  integer(c, &audit->repeats);
  text(c, audit->first_error, sizeof audit->first_error);
  server_part(c, &audit->server);
  nodes_part(c, &audit->nodes);
  table_part(c, &audit->table);
  filter_part(c, &audit->filter);
  if (is_reading(c) && (audit->cursor[0] == '\0' || strspn(audit->cursor, "0123456789") != strlen(audit->cursor))) spoil(c);
}

int rm_audit_save(const redmoon_audit *audit, rm_buffer *out) {
  codec c = {out, NULL, NULL, 0};
  raw(&c, (void *)(uintptr_t)magic, MAGIC_LEN);
  audit_part(&c, (redmoon_audit *)(uintptr_t)audit); /* writing changes nothing of it */
  unsigned char hash[HASH_LEN];
  if (c.status == 0)
    crypto_generichash(hash, sizeof hash, (const unsigned char *)rm_buffer_begin(out), rm_buffer_len(out), NULL, 0);
  raw(&c, hash, sizeof hash);
  return c.status;
}

int rm_audit_restore(redmoon_audit *audit, const void *state, size_t len, redmoon_error *err) {
  const unsigned char *bytes = state;
  if (len < MAGIC_LEN + HASH_LEN || memcmp(bytes, magic, MAGIC_LEN) != 0)
    return rm_fail(err, REDMOON_ECODEC, "audit option 'resume': these %zu bytes are no state of an audit of this version", len);
  unsigned char hash[HASH_LEN];
  crypto_generichash(hash, sizeof hash, bytes, len - HASH_LEN, NULL, 0);
  if (sodium_memcmp(hash, bytes + len - HASH_LEN, HASH_LEN) != 0)
    return rm_fail(err, REDMOON_ECODEC, "audit option 'resume': the state was changed or is not whole");
  codec c = {NULL, bytes + MAGIC_LEN, bytes + len - HASH_LEN, 0};
  audit_part(&c, audit);
  if (c.status == 0 && c.at != c.end) spoil(&c);
  if (c.status == REDMOON_ENOMEM) return rm_fail_nomem(err);
  return c.status == 0 ? 0 : rm_fail(err, REDMOON_ECODEC, "audit option 'resume': the state makes no sense");
}
