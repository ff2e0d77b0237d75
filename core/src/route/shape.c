/* SPDX-License-Identifier: MIT */
/* CLUSTER SLOTS, read: [[first, last, [host, port, id, ...], [host, port, ...] replica ...], ...].
 *
 * CLUSTER SHARDS says the same with more words; SLOTS is there in every version, gives the port that fits the connection it
 * is asked on (plain or TLS), and the endpoint that the cluster's operator prefers. */
#include "route/shape.h"

#include "base/alloc.h"
#include "base/error.h"
#include "route/slots.h"

#include <stdio.h>
#include <string.h>

static bool is_host_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' || c == ':';
}

bool rm_announced_read(rm_announced *out, const char *host, size_t len, int64_t port, const rm_address *asked) {
  if (port < 1 || port > 65535) return false;
  if (len == 0) {
    if (asked == NULL || asked->host == NULL) return false;
    host = asked->host;
    len = strlen(host);
  }
  if (len > RM_HOST_MAX) return false;
  for (size_t i = 0; i < len; i++)
    if (!is_host_char(host[i])) return false;
  memcpy(out->host, host, len);
  out->host[len] = '\0';
  out->port = (int)port;
  return true;
}

bool rm_announced_parse(rm_announced *out, const char *text, size_t len, const rm_address *asked) {
  size_t colon = len;
  while (colon > 0 && text[colon - 1] != ':') colon--;
  if (colon == 0 || len - colon > 5 || len == colon) return false;
  int64_t port = 0;
  for (size_t i = colon; i < len; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    port = port * 10 + (text[i] - '0');
  }
  const char *host = text;
  size_t host_len = colon - 1;
  if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') { /* an IPv6 address in brackets */
    host++;
    host_len -= 2;
  }
  return rm_announced_read(out, host, host_len, port, asked);
}

static bool read_server(rm_announced *out, const redmoon_reply *reply, const rm_address *asked) {
  if (reply->type != REDMOON_ARRAY || reply->len < 2) return false;
  const redmoon_reply *host = &reply->as.items[0], *port = &reply->as.items[1];
  if (port->type != REDMOON_INTEGER) return false;
  if (host->type == REDMOON_NIL) return rm_announced_read(out, "", 0, port->as.integer, asked);
  if (host->type != REDMOON_STRING) return false;
  return rm_announced_read(out, host->as.text, host->len, port->as.integer, asked); /* "?": not known, and no host */
}

static bool is_same(const rm_announced *a, const rm_announced *b) { return a->port == b->port && strcmp(a->host, b->host) == 0; }

/* The shard of that primary, added if it is new; NULL without memory. */
static rm_shape_shard *shard_of(rm_shape *shape, const rm_announced *primary) {
  for (size_t i = 0; i < shape->shard_count; i++)
    if (is_same(&shape->shards[i].primary, primary)) return &shape->shards[i];
  rm_shape_shard *shard = &shape->shards[shape->shard_count++]; /* there is room for one a range */
  shard->primary = *primary;
  return shard;
}

static int read_replicas(rm_shape_shard *shard, const redmoon_reply *entry, const rm_address *asked) {
  if (shard->replicas != NULL || entry->len <= 3) return 0;
  size_t most = entry->len - 3 < RM_SHAPE_REPLICAS ? entry->len - 3 : RM_SHAPE_REPLICAS;
  shard->replicas = rm_calloc(most, sizeof *shard->replicas);
  if (shard->replicas == NULL) return REDMOON_ENOMEM;
  for (size_t i = 3; i < entry->len && shard->replica_count < most; i++)
    shard->replica_count += read_server(&shard->replicas[shard->replica_count], &entry->as.items[i], asked);
  return 0;
}

static bool is_slot(const redmoon_reply *reply) {
  return reply->type == REDMOON_INTEGER && reply->as.integer >= 0 && reply->as.integer < RM_SLOTS;
}

static int read_entry(rm_shape *shape, const redmoon_reply *entry, const rm_address *asked, redmoon_error *err) {
  bool sane = entry->type == REDMOON_ARRAY && entry->len >= 3 && is_slot(&entry->as.items[0]) && is_slot(&entry->as.items[1]) &&
              entry->as.items[0].as.integer <= entry->as.items[1].as.integer;
  if (!sane) return rm_fail(err, REDMOON_EPROTOCOL, "CLUSTER SLOTS was answered by something that is not a range of slots and its servers");
  rm_announced primary;
  if (!read_server(&primary, &entry->as.items[2], asked)) return 0;
  rm_shape_shard *shard = shard_of(shape, &primary);
  if (read_replicas(shard, entry, asked) != 0) return rm_fail_nomem(err);
  shape->ranges[shape->range_count++] = (rm_shape_range){(uint16_t)entry->as.items[0].as.integer,
                                                         (uint16_t)entry->as.items[1].as.integer,
                                                         (uint32_t)(shard - shape->shards)};
  return 0;
}

int rm_shape_read(rm_shape *shape, const redmoon_reply *reply, const rm_address *asked, redmoon_error *err) {
  *shape = (rm_shape){0};
  if (reply->type == REDMOON_ERROR) return rm_fail_server(err, reply->as.text, reply->len);
  if (reply->type != REDMOON_ARRAY || reply->len > RM_SLOTS)
    return rm_fail(err, REDMOON_EPROTOCOL, "CLUSTER SLOTS was not answered by an array of at most %d ranges", RM_SLOTS);
  shape->shards = rm_calloc(reply->len + 1, sizeof *shape->shards);
  shape->ranges = rm_calloc(reply->len + 1, sizeof *shape->ranges);
  int rc = shape->shards == NULL || shape->ranges == NULL ? rm_fail_nomem(err) : 0;
  for (size_t i = 0; i < reply->len && rc == 0; i++) rc = read_entry(shape, &reply->as.items[i], asked, err);
  if (rc == 0 && shape->range_count == 0)
    rc = rm_fail(err, REDMOON_EUNAVAILABLE, reply->len == 0 ? "no slot of the cluster is served yet"
                                                            : "no server of the cluster announced an address that can be dialled");
  if (rc != 0) rm_shape_fini(shape);
  return rc;
}

void rm_shape_fini(rm_shape *shape) {
  for (size_t i = 0; i < shape->shard_count; i++) rm_free(shape->shards[i].replicas);
  rm_free(shape->shards);
  rm_free(shape->ranges);
  *shape = (rm_shape){0};
}
