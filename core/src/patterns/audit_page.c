/* SPDX-License-Identifier: MIT */
/* One page: SCAN gives its keys; PTTL, TYPE and for some MEMORY USAGE tell of them.
 *
 * These commands do not count as a use of the key.  CLIENT NO-TOUCH, which says so of a whole connection, stands around them
 * all the same where the server has it; it is taken back in the same flight, because the connection goes back to a pool.
 * But not on a node of a cluster: there Redis 8.0 and Valkey 8 crash when such a connection asks for a key of a
 * slot that is being moved (lookupKey looks at the command that is executed while there is none yet). */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/call_internal.h"
#include "engine/core.h"
#include "engine/redirect.h"

#include <stdio.h>
#include <string.h>

void rm_audit_ask_primary(rm_call *call) {
  const rm_route *route = call->op.client->core->route;
  if (!rm_route_is_cluster(route) && rm_route_minds_requests(route)) call->whole = true;
}

int rm_audit_format_scan(rm_call *call, const char *match, const char *cursor, int64_t count, redmoon_error *err) {
  rm_request *request = &call->request;
  rm_request_begin(request, match != NULL ? 6 : 4);
  rm_request_text(request, "SCAN");
  rm_request_text(request, cursor);
  if (match != NULL) {
    rm_request_text(request, "MATCH");
    rm_request_text(request, match);
  }
  rm_request_text(request, "COUNT");
  rm_request_integer(request, count);
  return rm_call_end(call, rm_command_find("SCAN", 4, NULL, 0), RM_CALL_REPEATABLE, err);
}

int rm_audit_take_scan(rm_call *call, rm_audit_page *page, redmoon_error *err) {
  const redmoon_reply *reply = call->results[0].reply;
  if (reply->type == REDMOON_ERROR) return rm_call_take_reply(call, 0, &page->keys, err);
  const redmoon_reply *cursor = redmoon_reply_at(reply, 0), *keys = redmoon_reply_at(reply, 1);
  bool sane = cursor != NULL && keys != NULL && cursor->type == REDMOON_STRING && keys->type == REDMOON_ARRAY &&
              cursor->len > 0 && cursor->len < sizeof page->next;
  for (size_t i = 0; sane && i < keys->len; i++) sane = keys->as.items[i].type == REDMOON_STRING;
  if (!sane) return rm_fail(err, REDMOON_EPROTOCOL, "SCAN was not answered by a cursor and an array of keys");
  memcpy(page->next, cursor->as.text, cursor->len + 1);
  return rm_reply_detach(keys, &call->arena, &page->keys) == 0 ? 0 : rm_fail_nomem_answered(err);
}

void rm_audit_page_fini(rm_audit_page *page) {
  redmoon_reply_free(page->keys);
  rm_free(page->looks);
  *page = (rm_audit_page){0};
}

/* Asking. */

static int put_no_touch(rm_call *call, const char *how) {
  rm_request *request = &call->request;
  rm_request_begin(request, 3);
  rm_request_text(request, "CLIENT");
  rm_request_text(request, "NO-TOUCH");
  rm_request_text(request, how);
  return rm_request_end(request, RM_CALL_HIDDEN | RM_CALL_REPEATABLE, rm_command_find("CLIENT", 6, "NO-TOUCH", 8)->index);
}

static int put_lookup(rm_call *call, const char *name, const redmoon_reply *key, redmoon_error *err) {
  rm_request_begin(&call->request, 2);
  rm_request_text(&call->request, name);
  rm_request_arg(&call->request, key->as.text, key->len);
  return rm_call_end(call, rm_command_find(name, strlen(name), NULL, 0), RM_CALL_REPEATABLE, err);
}

static int put_usage(rm_call *call, const redmoon_reply *key, redmoon_error *err) {
  rm_request *request = &call->request;
  rm_request_begin(request, 5);
  rm_request_text(request, "MEMORY");
  rm_request_text(request, "USAGE");
  rm_request_arg(request, key->as.text, key->len);
  rm_request_text(request, "SAMPLES");
  rm_request_text(request, "0");
  return rm_call_end(call, rm_command_find("MEMORY", 6, "USAGE", 5), RM_CALL_REPEATABLE, err);
}

/* By the key's own lot, so that it does not matter when it is seen. */
static bool is_sampled(const redmoon_audit *audit, const rm_audit_look *look) {
  if (audit->plan.sample_ppm == 0 || audit->memory_refused) return false;
  return rm_audit_sample_wants(&look->entry->sample, look->hash.lot, audit->plan.sample_ppm);
}

/* Entries for all prefixes of the page, before anything is counted: later there is nothing that could fail. */
static int prepare_looks(redmoon_audit *audit, rm_audit_page *page) {
  page->looks = rm_calloc(page->keys->len > 0 ? page->keys->len : 1, sizeof *page->looks);
  if (page->looks == NULL) return REDMOON_ENOMEM;
  page->look_count = 0;
  page->repeats = 0;
  for (size_t i = 0; i < page->keys->len; i++) {
    const redmoon_reply *key = &page->keys->as.items[i];
    rm_audit_look *look = &page->looks[page->look_count];
    look->hash = rm_audit_hash_key(key->as.text, key->len, audit->plan.seed);
    look->key = i;
    if (rm_audit_filter_has(&audit->filter, look->hash)) {
      page->repeats++;
      continue;
    }
    rm_audit_cut cut;
    rm_audit_cut_key(key->as.text, key->len, (char)audit->plan.separator, (size_t)audit->plan.depth, &cut);
    look->entry = rm_audit_table_get(&audit->table, cut.prefix, cut.prefix_len);
    if (look->entry == NULL) return REDMOON_ENOMEM;
    look->sampled = is_sampled(audit, look);
    page->look_count++;
  }
  return 0;
}

int rm_audit_format_looks(redmoon_audit *audit, rm_audit_page *page, rm_call *call, redmoon_error *err) {
  if (prepare_looks(audit, page) != 0) return rm_fail_nomem(err);
  if (page->look_count == 0) return 0;
  page->no_touch = !audit->no_touch_refused && audit->server.clustered == 0;
  call->whole = true; /* after a failure all of it goes out again: what NO-TOUCH says is of one connection */
  if (page->no_touch && put_no_touch(call, "ON") != 0) return rm_fail_nomem(err);
  for (size_t i = 0; i < page->look_count; i++) {
    rm_audit_look *look = &page->looks[i];
    const redmoon_reply *key = &page->keys->as.items[look->key];
    look->at = call->request.count;
    int rc = put_lookup(call, "PTTL", key, err);
    if (rc == 0) rc = put_lookup(call, "TYPE", key, err);
    if (rc == 0 && look->sampled) rc = put_usage(call, key, err);
    if (rc != 0) return rc;
  }
  if (page->no_touch && put_no_touch(call, "OFF") != 0) return rm_fail_nomem(err);
  return 0;
}

/* Counting. */

bool rm_audit_is_command_refused(const redmoon_reply *reply) {
  if (reply->type != REDMOON_ERROR) return false;
  return (rm_reply_is_error(reply, "NOPERM") && strstr(reply->as.text, "permissions to run") != NULL) ||
         strstr(reply->as.text, "unknown command") != NULL;
}

/* Of a server that is in no state to answer, or a user who may not ask, nothing is counted. */
static int check_page(const rm_audit_page *page, const rm_call *call, redmoon_error *err) {
  for (size_t i = 0; i < page->look_count; i++) {
    const rm_audit_look *look = &page->looks[i];
    for (size_t at = look->at; at < look->at + 2; at++) {
      const redmoon_reply *reply = call->results[at].reply;
      if (rm_audit_is_command_refused(reply) || rm_reply_is_refusal(reply))
        return rm_fail_server(err, reply->as.text, reply->len);
      if (reply->type != REDMOON_ERROR && reply->type != (at == look->at ? REDMOON_INTEGER : REDMOON_STATUS))
        return rm_fail(err, REDMOON_EPROTOCOL, "PTTL and TYPE were not answered by an integer and a name");
    }
  }
  return 0;
}

/* Its slot is another node's now, or on the way there. */
static bool has_moved(const redmoon_reply *reply) {
  return reply->type == REDMOON_ERROR && rm_redirect_kind(reply) != RM_NOT_REDIRECTED;
}

static void note_error(redmoon_audit *audit, const redmoon_reply *reply) {
  if (audit->errors++ == 0) rm_escape(audit->first_error, sizeof audit->first_error, reply->as.text, reply->len);
}

static void count_usage(redmoon_audit *audit, rm_audit_look *look, const redmoon_reply *usage) {
  if (usage->type == REDMOON_INTEGER && usage->as.integer >= 0)
    rm_audit_sample_add(&look->entry->sample, look->hash.lot, usage->as.integer, audit->plan.sample_ppm);
  else if (rm_audit_is_command_refused(usage)) audit->memory_refused = true;
}

static void count_key(redmoon_audit *audit, rm_audit_page *page, rm_audit_look *look, const rm_call *call,
                      int64_t server_ms) {
  const redmoon_reply *key = &page->keys->as.items[look->key];
  const redmoon_reply *pttl = call->results[look->at].reply, *type = call->results[look->at + 1].reply;
  if (has_moved(pttl) || has_moved(type)) {
    audit->moved++;
    return;
  }
  if (pttl->type == REDMOON_ERROR || type->type == REDMOON_ERROR) {
    note_error(audit, pttl->type == REDMOON_ERROR ? pttl : type);
    return;
  }
  if (pttl->as.integer == -2 || (type->len == 4 && memcmp(type->as.text, "none", 4) == 0)) {
    audit->gone++;
    return;
  }
  if (rm_audit_filter_has(&audit->filter, look->hash)) { /* twice in one page */
    audit->repeats++;
    return;
  }
  rm_audit_filter_add(&audit->filter, look->hash);
  int64_t ttl_ms = pttl->as.integer;
  size_t kind = rm_audit_type(type->as.text, type->len);
  rm_audit_tally_add(&look->entry->tally, ttl_ms, server_ms + ttl_ms, kind, &audit->plan.limits);
  rm_audit_tally_add(&audit->table.total, ttl_ms, server_ms + ttl_ms, kind, &audit->plan.limits);
  if (look->sampled) count_usage(audit, look, call->results[look->at + 2].reply);
  rm_audit_cut cut;
  rm_audit_cut_key(key->as.text, key->len, (char)audit->plan.separator, (size_t)audit->plan.depth, &cut);
  if (kind == RM_AUDIT_STRING && cut.field != NULL) rm_audit_fields_add(&look->entry->fields, cut.field, cut.field_len);
}

int rm_audit_count_page(redmoon_audit *audit, rm_audit_page *page, const rm_call *call, int64_t now_us,
                        redmoon_error *err) {
  int rc = check_page(page, call, err);
  if (rc != 0) return rc;
  if (page->look_count > 0 && page->no_touch && call->results[0].reply->type == REDMOON_ERROR)
    audit->no_touch_refused = true;
  int64_t server_ms = audit->server_ms + (now_us - audit->local_us) / 1000;
  for (size_t i = 0; i < page->look_count; i++) count_key(audit, page, &page->looks[i], call, server_ms);
  audit->repeats += page->repeats;
  audit->pages++;
  memcpy(audit->cursor, page->next, sizeof audit->cursor);
  audit->scanned = strcmp(audit->cursor, "0") == 0;
  rm_audit_table_fold(&audit->table);
  return 0;
}
