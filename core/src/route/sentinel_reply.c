/* SPDX-License-Identifier: MIT */
/* A sentinel's answers: an address as two texts, and servers as maps of texts, which RESP2 gives as flat arrays. */
#include "route/sentinel_reply.h"

#include "base/error.h"

#include <string.h>

static bool is_text(const redmoon_reply *reply) { return reply->type == REDMOON_STRING || reply->type == REDMOON_STATUS; }

/* A decimal number, or -1. */
static int64_t number_of(const redmoon_reply *reply) {
  if (reply->type == REDMOON_INTEGER) return reply->as.integer;
  if (!is_text(reply) || reply->len == 0 || reply->len > 18) return -1;
  int64_t value = 0;
  for (size_t i = 0; i < reply->len; i++) {
    if (reply->as.text[i] < '0' || reply->as.text[i] > '9') return -1;
    value = value * 10 + (reply->as.text[i] - '0');
  }
  return value;
}

int rm_sentinel_read_address(rm_announced *out, const redmoon_reply *reply, const char *asked, const char *name, redmoon_error *err) {
  if (reply->type == REDMOON_ERROR) return rm_fail_server(err, reply->as.text, reply->len);
  if (reply->type == REDMOON_NIL)
    return rm_fail(err, REDMOON_EUNAVAILABLE, "the sentinel at %s watches no primary of the name '%s'", asked, name);
  bool pair = reply->type == REDMOON_ARRAY && reply->len == 2 && is_text(&reply->as.items[0]);
  if (pair && rm_announced_read(out, reply->as.items[0].as.text, reply->as.items[0].len, number_of(&reply->as.items[1]), NULL)) return 0;
  return rm_fail(err, REDMOON_EPROTOCOL, "the sentinel at %s answered with something that is not a host and a port", asked);
}

/* The value of a field, or NULL. */
static const redmoon_reply *field_of(const redmoon_reply *map, const char *name) {
  if (map->type != REDMOON_ARRAY && map->type != REDMOON_MAP) return NULL;
  for (size_t i = 0; i + 1 < map->len; i += 2)
    if (is_text(&map->as.items[i]) && strcmp(map->as.items[i].as.text, name) == 0) return &map->as.items[i + 1];
  return NULL;
}

int64_t rm_sentinel_read_epoch(const redmoon_reply *reply) {
  const redmoon_reply *epoch = field_of(reply, "config-epoch");
  return epoch != NULL ? number_of(epoch) : -1;
}

/* Whether one of the words, which commas part, is in the list. */
static bool has_flag(const redmoon_reply *flags, const char *flag) {
  size_t len = strlen(flag);
  for (const char *at = strstr(flags->as.text, flag); at != NULL; at = strstr(at + 1, flag))
    if ((at == flags->as.text || at[-1] == ',') && (at[len] == ',' || at[len] == '\0')) return true;
  return false;
}

static bool is_healthy(const redmoon_reply *server) {
  static const char *const bad[] = {"s_down", "o_down", "disconnected"};
  const redmoon_reply *flags = field_of(server, "flags"), *link = field_of(server, "master-link-status");
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    if (flags != NULL && is_text(flags) && has_flag(flags, bad[i])) return false;
  return link == NULL || !is_text(link) || strcmp(link->as.text, "ok") == 0;
}

void rm_sentinel_read_servers(const redmoon_reply *reply, bool healthy, void (*take)(void *ctx, const rm_announced *server), void *ctx) {
  if (reply->type != REDMOON_ARRAY) return;
  for (size_t i = 0; i < reply->len; i++) {
    const redmoon_reply *server = &reply->as.items[i];
    const redmoon_reply *host = field_of(server, "ip"), *port = field_of(server, "port");
    rm_announced announced;
    if (host == NULL || port == NULL || !is_text(host) || (healthy && !is_healthy(server))) continue;
    if (rm_announced_read(&announced, host->as.text, host->len, number_of(port), NULL)) take(ctx, &announced);
  }
}

bool rm_sentinel_concerns(const char *payload, size_t len, const char *name) {
  size_t name_len = strlen(name);
  for (size_t begin = 0; begin < len;) {
    const char *blank = memchr(payload + begin, ' ', len - begin);
    size_t end = blank != NULL ? (size_t)(blank - payload) : len;
    if (end - begin == name_len && memcmp(payload + begin, name, name_len) == 0) return true;
    begin = end + 1;
  }
  return false;
}
