/* SPDX-License-Identifier: MIT */
/* Which commands answer RESP2 in another shape than RESP3, and what that shape is.  Checked against a server,
 * command by command, by tests/server/test_shape.c. */
#include "wire/shape.h"

#include "wire/shape_kind.h"

#include <stdbool.h>
#include <string.h>

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define FIELDS(list) .fields = (list), .field_count = COUNT(list)

static const rm_shape number = {.kind = RM_SHAPE_DOUBLE};
static const rm_shape verbatim = {.kind = RM_SHAPE_VERBATIM};
static const rm_shape set = {.kind = RM_SHAPE_SET};
static const rm_shape map = {.kind = RM_SHAPE_MAP};
static const rm_shape maps = {.kind = RM_SHAPE_LIST, .inner = &map};
static const rm_shape map_of_maps = {.kind = RM_SHAPE_MAP, .inner = &map};
static const rm_shape numbers = {.kind = RM_SHAPE_LIST, .inner = &number};
static const rm_shape pairs = {.kind = RM_SHAPE_PAIRS};
static const rm_shape scored = {.kind = RM_SHAPE_PAIRS, .inner = &number};
static const rm_shape last_number = {.kind = RM_SHAPE_LAST,
                                     .inner = &number}; /* [member, score], [key, member, score] */
static const rm_shape last_numbers = {.kind = RM_SHAPE_LAST, .inner = &numbers};

/* [key, [[member, score], ...]] */
static const rm_shape scored_list = {.kind = RM_SHAPE_LIST, .inner = &last_number};
static const rm_shape_field popped_fields[] = {{NULL, 1, &scored_list}};
static const rm_shape popped = {.kind = RM_SHAPE_TUPLE, FIELDS(popped_fields)};

/* [[longitude, latitude], ...]; [[member, ..., [longitude, latitude]], ...] */
static const rm_shape positions = {.kind = RM_SHAPE_LIST, .inner = &numbers};
static const rm_shape places = {.kind = RM_SHAPE_LIST, .inner = &last_numbers};

static const rm_shape entries = {.kind = RM_SHAPE_ENTRIES};
static const rm_shape_field group_fields[] = {{"consumers", 0, &maps}};
static const rm_shape group = {.kind = RM_SHAPE_MAP, FIELDS(group_fields)};
static const rm_shape groups = {.kind = RM_SHAPE_LIST, .inner = &group};
static const rm_shape_field stream_fields[] = {{"groups", 0, &groups}};
static const rm_shape stream = {.kind = RM_SHAPE_MAP, FIELDS(stream_fields)};

static const rm_shape_field flag_fields[] = {{"flags", 0, &set}, {"selectors", 0, &maps}};
static const rm_shape flagged = {.kind = RM_SHAPE_MAP, FIELDS(flag_fields)};
static const rm_shape flagged_list = {.kind = RM_SHAPE_LIST, .inner = &flagged};
static const rm_shape_field library_fields[] = {{"functions", 0, &flagged_list}};
static const rm_shape library = {.kind = RM_SHAPE_MAP, FIELDS(library_fields)};
static const rm_shape libraries = {.kind = RM_SHAPE_LIST, .inner = &library};
static const rm_shape_field function_stats_fields[] = {{"running_script", 0, &map}, {"engines", 0, &map_of_maps}};
static const rm_shape function_stats = {.kind = RM_SHAPE_MAP, FIELDS(function_stats_fields)};

static const rm_shape_field denial_fields[] = {{"age-seconds", 0, &number}};
static const rm_shape denial = {.kind = RM_SHAPE_MAP, FIELDS(denial_fields)};
static const rm_shape denials = {.kind = RM_SHAPE_LIST, .inner = &denial};

static const rm_shape statistic = {.kind = RM_SHAPE_STATISTIC};
static const rm_shape statistics = {.kind = RM_SHAPE_MAP, .inner = &statistic};
static const rm_shape_field latency_fields[] = {{"histogram_usec", 0, &map}};
static const rm_shape latency = {.kind = RM_SHAPE_MAP, FIELDS(latency_fields)};
static const rm_shape latencies = {.kind = RM_SHAPE_MAP, .inner = &latency};

static const rm_shape_field hello_fields[] = {{"modules", 0, &maps}};
static const rm_shape hello = {.kind = RM_SHAPE_MAP, FIELDS(hello_fields)};

static const rm_shape_field shard_fields[] = {{"nodes", 0, &maps}};
static const rm_shape shard = {.kind = RM_SHAPE_MAP, FIELDS(shard_fields)};
static const rm_shape shards = {.kind = RM_SHAPE_LIST, .inner = &shard};
/* [[first, last, [ip, port, id, metadata], ...], ...] */
static const rm_shape_field slot_node_fields[] = {{NULL, 3, &map}};
static const rm_shape slot_node = {.kind = RM_SHAPE_TUPLE, FIELDS(slot_node_fields)};
static const rm_shape slot_range = {.kind = RM_SHAPE_LIST, .from = 2, .inner = &slot_node};
static const rm_shape slots = {.kind = RM_SHAPE_LIST, .inner = &slot_range};

/* COMMAND DOCS: arguments hold arguments, commands hold subcommands. */
static const rm_shape argument_list, document_map;
static const rm_shape_field argument_fields[] = {{"flags", 0, &set}, {"arguments", 0, &argument_list}};
static const rm_shape argument = {.kind = RM_SHAPE_MAP, FIELDS(argument_fields)};
static const rm_shape argument_list = {.kind = RM_SHAPE_LIST, .inner = &argument};
static const rm_shape_field document_fields[] = {{"history", 0, &set},
                                                 {"doc_flags", 0, &set},
                                                 {"arguments", 0, &argument_list},
                                                 {"subcommands", 0, &document_map}};
static const rm_shape document = {.kind = RM_SHAPE_MAP, FIELDS(document_fields)};
static const rm_shape document_map = {.kind = RM_SHAPE_MAP, .inner = &document};

/* COMMAND, COMMAND INFO: [name, arity, flags, first, last, step, categories, tips, key specs, subcommands] */
static const rm_shape subcommands;
static const rm_shape_field search_fields[] = {{"spec", 0, &map}};
static const rm_shape search = {.kind = RM_SHAPE_MAP, FIELDS(search_fields)};
static const rm_shape_field key_spec_fields[] = {
    {"flags", 0, &set}, {"begin_search", 0, &search}, {"find_keys", 0, &search}};
static const rm_shape key_spec = {.kind = RM_SHAPE_MAP, FIELDS(key_spec_fields)};
static const rm_shape key_specs = {.kind = RM_SHAPE_SET, .inner = &key_spec};
static const rm_shape_field command_fields[] = {
    {NULL, 2, &set}, {NULL, 6, &set}, {NULL, 7, &set}, {NULL, 8, &key_specs}, {NULL, 9, &subcommands}};
static const rm_shape command = {.kind = RM_SHAPE_TUPLE, FIELDS(command_fields)};
static const rm_shape subcommands = {.kind = RM_SHAPE_LIST_OR_SET, .inner = &command};
static const rm_shape command_list = {.kind = RM_SHAPE_LIST, .inner = &command};
static const rm_shape last_set = {.kind = RM_SHAPE_LAST, .inner = &set};
static const rm_shape keys_and_flags = {.kind = RM_SHAPE_LIST, .inner = &last_set};

/* When a rule holds: ALWAYS; AT, argument number `at` is `word`; FROM, it is found there or later; KEYS, found
 * behind the keys that argument `at` counts; FLAGS, found among ZADD's flags; MORE, there are more than `at`
 * arguments. */
typedef enum when { ALWAYS, AT, FROM, KEYS, FLAGS, MORE } when;
typedef struct rule {
  const char *name; /* sorted; of several rules of one name the first that holds is taken */
  when when;
  size_t at;
  const char *word;
  const rm_shape *shape;
} rule;

static const rule rules[] = {
    {"ACL", AT, 0, "GETUSER", &flagged},
    {"ACL", AT, 0, "LOG", &denials},
    {"BZMPOP", ALWAYS, 0, NULL, &popped},
    {"BZPOPMAX", ALWAYS, 0, NULL, &last_number},
    {"BZPOPMIN", ALWAYS, 0, NULL, &last_number},
    {"CLIENT", AT, 0, "INFO", &verbatim},
    {"CLIENT", AT, 0, "LIST", &verbatim},
    {"CLIENT", AT, 0, "TRACKINGINFO", &flagged},
    {"CLUSTER", AT, 0, "INFO", &verbatim},
    {"CLUSTER", AT, 0, "LINKS", &maps},
    {"CLUSTER", AT, 0, "NODES", &verbatim},
    {"CLUSTER", AT, 0, "SHARDS", &shards},
    {"CLUSTER", AT, 0, "SLOTS", &slots},
    {"COMMAND", AT, 0, "DOCS", &document_map},
    {"COMMAND", AT, 0, "GETKEYSANDFLAGS", &keys_and_flags},
    {"COMMAND", AT, 0, "INFO", &command_list},
    {"COMMAND", MORE, 0, NULL, NULL},
    {"COMMAND", ALWAYS, 0, NULL, &command_list},
    {"CONFIG", AT, 0, "GET", &map},
    {"FUNCTION", AT, 0, "LIST", &libraries},
    {"FUNCTION", AT, 0, "STATS", &function_stats},
    {"GEOPOS", ALWAYS, 0, NULL, &positions},
    {"GEORADIUS", FROM, 5, "WITHCOORD", &places},
    {"GEORADIUSBYMEMBER", FROM, 4, "WITHCOORD", &places},
    {"GEORADIUSBYMEMBER_RO", FROM, 4, "WITHCOORD", &places},
    {"GEORADIUS_RO", FROM, 5, "WITHCOORD", &places},
    {"GEOSEARCH", FROM, 1, "WITHCOORD", &places},
    {"HELLO", ALWAYS, 0, NULL, &hello},
    {"HGETALL", ALWAYS, 0, NULL, &map},
    {"HRANDFIELD", AT, 2, "WITHVALUES", &pairs},
    {"INFO", ALWAYS, 0, NULL, &verbatim},
    {"LATENCY", AT, 0, "DOCTOR", &verbatim},
    {"LATENCY", AT, 0, "GRAPH", &verbatim},
    {"LATENCY", AT, 0, "HISTOGRAM", &latencies},
    {"LCS", FROM, 2, "IDX", &map},
    {"LOLWUT", ALWAYS, 0, NULL, &verbatim},
    {"MEMORY", AT, 0, "DOCTOR", &verbatim},
    {"MEMORY", AT, 0, "MALLOC-STATS", &verbatim},
    {"MEMORY", AT, 0, "STATS", &statistics},
    {"MODULE", AT, 0, "LIST", &maps},
    {"SDIFF", ALWAYS, 0, NULL, &set},
    {"SENTINEL", AT, 0, "MASTER", &map},
    {"SENTINEL", AT, 0, "MASTERS", &maps},
    {"SENTINEL", AT, 0, "REPLICAS", &maps},
    {"SENTINEL", AT, 0, "SENTINELS", &maps},
    {"SENTINEL", AT, 0, "SLAVES", &maps},
    {"SINTER", ALWAYS, 0, NULL, &set},
    {"SMEMBERS", ALWAYS, 0, NULL, &set},
    {"SPOP", ALWAYS, 0, NULL, &set},
    {"SUNION", ALWAYS, 0, NULL, &set},
    {"XINFO", AT, 0, "CONSUMERS", &maps},
    {"XINFO", AT, 0, "GROUPS", &maps},
    {"XINFO", AT, 0, "STREAM", &stream},
    {"XREAD", ALWAYS, 0, NULL, &entries},
    {"XREADGROUP", ALWAYS, 0, NULL, &entries},
    {"ZADD", FLAGS, 1, "INCR", &number},
    {"ZDIFF", KEYS, 0, "WITHSCORES", &scored},
    {"ZINCRBY", ALWAYS, 0, NULL, &number},
    {"ZINTER", KEYS, 0, "WITHSCORES", &scored},
    {"ZMPOP", ALWAYS, 0, NULL, &popped},
    {"ZMSCORE", ALWAYS, 0, NULL, &numbers},
    {"ZPOPMAX", MORE, 1, NULL, &scored},
    {"ZPOPMAX", ALWAYS, 0, NULL, &last_number},
    {"ZPOPMIN", MORE, 1, NULL, &scored},
    {"ZPOPMIN", ALWAYS, 0, NULL, &last_number},
    {"ZRANDMEMBER", AT, 2, "WITHSCORES", &scored},
    {"ZRANGE", FROM, 3, "WITHSCORES", &scored},
    {"ZRANGEBYSCORE", FROM, 3, "WITHSCORES", &scored},
    {"ZRANK", AT, 2, "WITHSCORE", &last_number}, /* Redis 7.2 */
    {"ZREVRANGE", FROM, 3, "WITHSCORES", &scored},
    {"ZREVRANGEBYSCORE", FROM, 3, "WITHSCORES", &scored},
    {"ZREVRANK", AT, 2, "WITHSCORE", &last_number},
    {"ZSCORE", ALWAYS, 0, NULL, &number},
    {"ZUNION", KEYS, 0, "WITHSCORES", &scored},
};

static unsigned char upper(char c) { return (unsigned char)(c >= 'a' && c <= 'z' ? c - 32 : c); }

/* Compares as strcmp does; `word` is in upper case. */
static int compare(const char *ptr, size_t len, const char *word) {
  size_t i = 0;
  while (i < len && word[i] != '\0' && upper(ptr[i]) == (unsigned char)word[i]) i++;
  if (i == len) return word[i] == '\0' ? 0 : -1;
  return upper(ptr[i]) < (unsigned char)word[i] ? -1 : 1;
}

static bool has_word(const rm_shape_arg *args, size_t count, size_t from, const char *word) {
  for (size_t i = from; i < count; i++)
    if (compare(args[i].ptr, args[i].len, word) == 0) return true;
  return false;
}

/* Behind the keys that args[at] counts; `count` when that is no number. */
static size_t behind_keys(const rm_shape_arg *args, size_t count, size_t at) {
  if (at >= count) return count;
  size_t keys = 0;
  for (size_t i = 0; i < args[at].len; i++) {
    char c = args[at].ptr[i];
    if (c < '0' || c > '9' || keys > count) return count;
    keys = keys * 10 + (size_t)(c - '0');
  }
  return keys < count - at - 1 ? at + 1 + keys : count;
}

static bool is_among_flags(const rm_shape_arg *args, size_t count, size_t from, const char *word) {
  static const char *const flags[] = {"NX", "XX", "GT", "LT", "CH", "INCR"};
  for (size_t i = from; i < count; i++) {
    bool flag = false;
    for (size_t f = 0; f < COUNT(flags) && !flag; f++) flag = compare(args[i].ptr, args[i].len, flags[f]) == 0;
    if (!flag) return false;
    if (compare(args[i].ptr, args[i].len, word) == 0) return true;
  }
  return false;
}

static bool holds(const rule *r, const rm_shape_arg *args, size_t count) {
  switch (r->when) {
  case ALWAYS:
    return true;
  case AT:
    return r->at < count && compare(args[r->at].ptr, args[r->at].len, r->word) == 0;
  case FROM:
    return has_word(args, count, r->at, r->word);
  case KEYS:
    return has_word(args, count, behind_keys(args, count, r->at), r->word);
  case FLAGS:
    return is_among_flags(args, count, r->at, r->word);
  case MORE:
    return count > r->at;
  }
  return false;
}

unsigned rm_shape_of(const char *name, size_t name_len, const rm_shape_arg *args, size_t count) {
  size_t low = 0, high = COUNT(rules);
  while (low < high) { /* the first rule not below `name` */
    size_t middle = low + (high - low) / 2;
    if (compare(name, name_len, rules[middle].name) > 0) low = middle + 1;
    else high = middle;
  }
  for (; low < COUNT(rules) && compare(name, name_len, rules[low].name) == 0; low++)
    if (holds(&rules[low], args, count)) return rules[low].shape != NULL ? (unsigned)low + 1 : 0;
  return 0;
}

int rm_shape_apply(unsigned shape, redmoon_reply *reply, rm_arena *arena) {
  if (shape == 0 || shape > COUNT(rules) || rules[shape - 1].shape == NULL) return 0;
  return rm_shape_rewrite(rules[shape - 1].shape, reply, arena);
}
