/* SPDX-License-Identifier: MIT */
/* What the server says of itself: INFO, and CONFIG GET where that is allowed. */
#include "patterns/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const rm_audit_server rm_audit_server_unknown = {-1, -1, -1, -1, -1, -1, -1, -1, "", "", "", ""};

/* The value behind "<name>:" at the beginning of a line; NULL: there is none. */
static const char *value_of(const char *text, const char *name) {
  size_t len = strlen(name);
  for (const char *line = text; line != NULL; line = strchr(line, '\n'), line += line != NULL)
    if (strncmp(line, name, len) == 0 && line[len] == ':') return line + len + 1;
  return NULL;
}

static void read_integer(const char *text, const char *name, int64_t *out) {
  const char *value = value_of(text, name);
  if (value != NULL && *value >= '0' && *value <= '9') *out = strtoll(value, NULL, 10);
}

static void read_text(const char *text, const char *name, char *out, size_t cap) {
  const char *value = value_of(text, name);
  if (value != NULL) snprintf(out, cap, "%.*s", (int)strcspn(value, "\r\n"), value);
}

/* db0:keys=3,expires=1,avg_ttl=0.  A database without keys has no line. */
static void read_keyspace(const char *text, int64_t database, rm_audit_server *server) {
  if (strstr(text, "# Keyspace") == NULL) return;
  char name[32];
  snprintf(name, sizeof name, "db%lld", (long long)database);
  server->keys = server->expires = 0;
  const char *value = value_of(text, name);
  if (value == NULL) return;
  size_t len = strcspn(value, "\r\n");
  const char *keys = strstr(value, "keys="), *expires = strstr(value, "expires=");
  if (keys != NULL && keys < value + len) server->keys = strtoll(keys + 5, NULL, 10);
  if (expires != NULL && expires < value + len) server->expires = strtoll(expires + 8, NULL, 10);
}

void rm_audit_info_parse(const char *text, int64_t database, rm_audit_server *server) {
  read_keyspace(text, database, server);
  read_integer(text, "maxclients", &server->maxclients);
  read_integer(text, "connected_clients", &server->connected_clients);
  read_integer(text, "maxmemory", &server->maxmemory);
  read_integer(text, "used_memory", &server->used_memory);
  read_integer(text, "cluster_enabled", &server->clustered);
  read_text(text, "run_id", server->run_id, sizeof server->run_id);
  read_text(text, "redis_version", server->version, sizeof server->version);
  read_text(text, "role", server->role, sizeof server->role);
  read_text(text, "maxmemory_policy", server->policy, sizeof server->policy);
}

int64_t rm_audit_info_clock(const char *text) {
  int64_t us = -1;
  read_integer(text, "server_time_usec", &us);
  return us < 0 ? -1 : us / 1000;
}

int64_t rm_audit_info_epoch(const char *text) {
  int64_t epoch = 0;
  read_integer(text, "cluster_current_epoch", &epoch);
  return epoch;
}

static void read_setting(const redmoon_reply *key, const redmoon_reply *value, rm_audit_server *server) {
  const char *name = redmoon_reply_string(key, NULL), *text = redmoon_reply_string(value, NULL);
  if (name == NULL || text == NULL) return;
  if (strcmp(name, "maxclients") == 0) server->maxclients = strtoll(text, NULL, 10);
  else if (strcmp(name, "maxmemory") == 0) server->maxmemory = strtoll(text, NULL, 10);
  else if (strcmp(name, "maxmemory-policy") == 0) snprintf(server->policy, sizeof server->policy, "%s", text);
}

void rm_audit_config_parse(const redmoon_reply *reply, rm_audit_server *server) {
  if (redmoon_reply_type(reply) != REDMOON_MAP) return;
  for (size_t i = 0; i < redmoon_reply_count(reply); i++)
    read_setting(redmoon_reply_key(reply, i), redmoon_reply_value(reply, i), server);
}
