/* SPDX-License-Identifier: MIT */
/* Clusters that tell stories: two fake nodes whose words are the test's.  Whatever they say, a call ends, was executed at most
 * once, and what the nodes were asked is counted. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "route/slots.h"
#include "support/ask.h"
#include "support/fake_server.h"

#include <redmoon/redmoon.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 2, HOPS_MOST = 20 };

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct node {
  fake_server *server;
  int number;
  int asked; /* commands that are neither the handshake's nor CLUSTER's nor ASKING */
} node;

typedef void (*words_fn)(node *self, const fake_command *command, fake_bytes *reply);

static struct {
  pthread_mutex_t mutex; /* of all below */
  node nodes[NODES];
  words_fn words;
  int owner;         /* of all slots, as CLUSTER SLOTS has it */
  const char *slots; /* what it says instead; NULL: that */
  int left;          /* refusals to come, for the words' own use */
  int position;
  bool queuing[NODES];
  int executed[NODES];
  bool asking[NODES][64]; /* by connection: the command before was ASKING */
  int without_asking;
} world = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static redmoon_client *client;

static int port_of(int number) { return fake_server_port(world.nodes[number].server); }

static void append_format(fake_bytes *reply, const char *format, ...) {
  char text[600];
  va_list rest;
  va_start(rest, format);
  int len = vsnprintf(text, sizeof text, format, rest);
  va_end(rest);
  fake_append(reply, text, (size_t)len);
}

static void append_slots(fake_bytes *reply) {
  if (world.slots != NULL) {
    fake_append_text(reply, world.slots);
    return;
  }
  append_format(reply, "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", port_of(world.owner));
}

static int slot_of(const char *key) { return rm_slot_of(key, strlen(key)); }

static void append_redirect(fake_bytes *reply, const char *kind, const char *key, int to) {
  append_format(reply, "-%s %d 127.0.0.1:%d\r\n", kind, slot_of(key), port_of(to));
}

static bool answer(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  node *self = ctx;
  pthread_mutex_lock(&world.mutex);
  bool *asking = &world.asking[self->number][fake_index(peer) % 64];
  if (fake_is(command, "CLUSTER")) {
    append_slots(reply);
  } else if (fake_is(command, "ASKING")) {
    fake_append_text(reply, "+OK\r\n");
    *asking = true;
  } else {
    self->asked++;
    world.without_asking += self->number == 1 && !*asking;
    world.words(self, command, reply);
    *asking = false;
  }
  pthread_mutex_unlock(&world.mutex);
  return true;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, answer, ctx); }

static int start(void **state) {
  (void)state;
  pthread_mutex_lock(&world.mutex);
  world.owner = world.left = world.position = world.without_asking = 0;
  world.slots = NULL;
  for (int i = 0; i < NODES; i++) {
    world.queuing[i] = false;
    world.executed[i] = 0;
    memset(world.asking[i], 0, sizeof world.asking[i]);
    world.nodes[i].number = i;
    world.nodes[i].asked = 0;
    world.nodes[i].server = fake_server_start(&(fake_options){.tcp = true, .script = serve, .ctx = &world.nodes[i]});
  }
  pthread_mutex_unlock(&world.mutex);
  char url[200];
  snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d?min_backoff=0.001&max_backoff=0.01&max_retries=2&timeout=5", port_of(0));
  return redmoon_client_open(url, NULL, &client, NULL);
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  for (int i = 0; i < NODES; i++) {
    const char *failure = fake_server_failure(world.nodes[i].server);
    if (failure != NULL) fail_msg("%s", failure);
    fake_server_stop(world.nodes[i].server);
  }
  return 0;
}

static void speak(words_fn words) {
  pthread_mutex_lock(&world.mutex);
  world.words = words;
  pthread_mutex_unlock(&world.mutex);
}

static void set_slots(const char *slots) {
  pthread_mutex_lock(&world.mutex);
  world.slots = slots;
  pthread_mutex_unlock(&world.mutex);
}

static int asked(int number) {
  pthread_mutex_lock(&world.mutex);
  int count = world.nodes[number].asked;
  pthread_mutex_unlock(&world.mutex);
  return count;
}

static int get(const char *key, redmoon_error *err) {
  redmoon_reply *reply = NULL;
  int rc = redmoon_command(client, 2, ARGV("GET", key), NULL, &reply, err);
  redmoon_reply_free(reply);
  return rc;
}

/* A pipeline of INCR for each key; results of the run. */
static redmoon_pipeline *pipeline(const char *const *keys) {
  redmoon_pipeline *p = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_pipeline_new(client, &p, &err), 0);
  for (size_t i = 0; keys[i] != NULL; i++)
    assert_int_equal(redmoon_pipeline_command(p, 2, ARGV("INCR", keys[i]), NULL, &err), i);
  return p;
}

/* MOVED in circles. */

static void ping_pong(node *self, const fake_command *command, fake_bytes *reply) {
  append_redirect(reply, "MOVED", command->argv[1], 1 - self->number);
}

static void moved_to_itself(node *self, const fake_command *command, fake_bytes *reply) {
  append_redirect(reply, "MOVED", command->argv[1], self->number);
}

static void ask_in_circles(node *self, const fake_command *command, fake_bytes *reply) {
  append_redirect(reply, "ASK", command->argv[1], 1 - self->number);
}

static void circles_end_in_a_clear_error(void **state) {
  (void)state;
  static const words_fn circles[] = {ping_pong, moved_to_itself, ask_in_circles};
  static const char *const kinds[] = {"MOVED", "MOVED", "ASK"};
  redmoon_error err;
  for (int i = 0; i < 3; i++) {
    speak(circles[i]);
    int before = asked(0) + asked(1);
    assert_int_equal(get("k", &err), REDMOON_EUNAVAILABLE);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    assert_non_null(strstr(err.message, kinds[i]));
    assert_in_range(asked(0) + asked(1) - before, 5, HOPS_MOST);
  }
}

static void circles_end_in_a_pipeline_too(void **state) {
  (void)state;
  static const words_fn circles[] = {ping_pong, moved_to_itself, ask_in_circles};
  redmoon_error err;
  for (int i = 0; i < 3; i++) {
    speak(circles[i]);
    int before = asked(0) + asked(1);
    redmoon_pipeline *p = pipeline(ARGV("a", "b", "c"));
    if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
    for (size_t k = 0; k < 3; k++) { /* an error in its place, in the client's own words */
      const redmoon_reply *reply = redmoon_pipeline_result(p, k).reply;
      assert_int_equal(redmoon_reply_type(reply), REDMOON_ERROR);
      assert_int_equal(strncmp(redmoon_reply_string(reply, NULL), "UNAVAILABLE", 11), 0);
    }
    assert_in_range(asked(0) + asked(1) - before, 15, 3 * HOPS_MOST);
    redmoon_pipeline_free(p);
  }
}

static void lone_part_of_a_pipeline_is_followed(node *self, const fake_command *command, fake_bytes *reply) {
  if (self->number == 0 && strcmp(command->argv[1], "a") == 0) append_redirect(reply, "MOVED", "a", 1);
  else append_format(reply, ":%d\r\n", self->number);
}

static void part_that_is_alone_at_its_node_is_sent_on(void **state) {
  (void)state;
  redmoon_error err;
  speak(lone_part_of_a_pipeline_is_followed);
  redmoon_pipeline *p = pipeline(ARGV("b", "a"));
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 0).reply), 0);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 1).reply), 1);
  redmoon_pipeline_free(p);
}

/* Addresses that are none. */

static const char *announced; /* the text of an error, "%d" for the port of node 1 */

static void announce(node *self, const fake_command *command, fake_bytes *reply) {
  (void)command;
  if (self->number == 1) {
    fake_append_text(reply, "+here\r\n");
    return;
  }
  char text[400];
  const char *at = strstr(announced, "%d");
  if (at == NULL) snprintf(text, sizeof text, "-%s\r\n", announced);
  else snprintf(text, sizeof text, "-%.*s%d%s\r\n", (int)(at - announced), announced, port_of(1), at + 2);
  fake_append_text(reply, text);
}

static void address_that_cannot_be_used_is_a_clear_error(void **state) {
  (void)state;
  static const char *const bad[] = {
      "MOVED",
      "MOVED 5",
      "MOVED x 127.0.0.1:%d",
      "MOVED 16384 127.0.0.1:%d",
      "MOVED -1 127.0.0.1:%d",
      "MOVED 5 127.0.0.1:0",
      "MOVED 5 127.0.0.1:65536",
      "MOVED 5 127.0.0.1:99999999999999999999",
      "MOVED 5 127.0.0.1",
      "MOVED 5 127.0.0.1:",
      "MOVED 5 evil/../host:%d",
      "MOVED 5 a\tb:%d",
      "ASK 5 :0",
      "ASK 5 127.0.0.1:-7",
      "ASK 5 ?:%d",
  };
  redmoon_error err;
  speak(announce);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    announced = bad[i];
    int before = asked(0);
    assert_int_equal(get("k", &err), REDMOON_EPROTOCOL);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    assert_int_equal(asked(0), before + 1);
    for (const char *c = err.message; *c != '\0'; c++) assert_true((unsigned char)*c >= ' ');
  }
  assert_int_equal(asked(1), 0);
}

static void empty_host_is_that_of_who_was_asked(void **state) {
  (void)state;
  static const char *const good[] = {"ASK 7629 :%d", "ASK 7629 127.0.0.1:%d", "MOVED 7629 :%d"};
  redmoon_error err;
  assert_int_equal(slot_of("k"), 7629);
  speak(announce);
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
    announced = good[i];
    pthread_mutex_lock(&world.mutex);
    world.owner = good[i][0] == 'M'; /* what is found out then says the same */
    pthread_mutex_unlock(&world.mutex);
    if (get("k", &err) != 0) fail_msg("%s: %s", good[i], err.message);
    assert_int_equal(asked(1), i + 1);
  }
}

static void fine(node *self, const fake_command *command, fake_bytes *reply) {
  (void)command;
  append_format(reply, ":%d\r\n", self->number);
}

/* Who serves which slots, told without a host. */
static void slots_without_a_host_are_those_of_who_was_asked(void **state) {
  (void)state;
  static const char *const hosts[] = {"$0\r\n\r\n", "$-1\r\n", "_\r\n", "$9\r\n127.0.0.1\r\n"};
  redmoon_error err;
  speak(fine);
  for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
    char slots[200], url[100];
    snprintf(slots, sizeof slots, "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n%s:%d\r\n$2\r\nid\r\n", hosts[i], port_of(1));
    set_slots(slots);
    redmoon_client *own = NULL;
    redmoon_reply *reply = NULL;
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", port_of(0));
    assert_int_equal(redmoon_client_open(url, NULL, &own, &err), 0);
    if (redmoon_command(own, 2, ARGV("GET", "k"), NULL, &reply, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(redmoon_reply_integer(reply), 1);
    redmoon_reply_free(reply);
    redmoon_client_close(own);
    set_slots(NULL);
  }
}

static void slots_that_make_no_sense_are_a_clear_error(void **state) {
  (void)state;
  static const char *const bad[] = {
      "+OK\r\n",
      ":1\r\n",
      "*0\r\n",
      "*1\r\n:1\r\n",
      "*1\r\n*0\r\n",
      "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$9\r\n127.0.0.1\r\n:7\r\n",
      "*1\r\n*3\r\n:-1\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:7\r\n",
      "*1\r\n*3\r\n:9\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:7\r\n",
      "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:0\r\n",
      "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:70000\r\n",
      "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\n?\r\n:7\r\n",
      "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$3\r\na b\r\n:7\r\n",
      "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$3\r\na\001b\r\n:7\r\n",
      "*1\r\n*3\r\n:0\r\n:16383\r\n$1\r\nx\r\n",
      "-ERR This instance has cluster support disabled\r\n",
      "-ERR unknown command 'CLUSTER'\r\n",
  };
  redmoon_error err;
  speak(fine);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    char url[120];
    redmoon_client *own = NULL;
    redmoon_reply *reply = NULL;
    set_slots(bad[i]);
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d?max_retries=1&min_backoff=0.001&max_backoff=0.001&timeout=3", port_of(0));
    assert_int_equal(redmoon_client_open(url, NULL, &own, &err), 0);
    assert_true(redmoon_command(own, 2, ARGV("GET", "k"), NULL, &reply, &err) < 0);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    if (strstr(err.message, "cluster") == NULL && strstr(err.message, "CLUSTER") == NULL) fail_msg("%zu: %s", i, err.message);
    redmoon_client_close(own);
  }
  set_slots(NULL);
  assert_int_equal(asked(0) + asked(1), 0);
}

/* A node that is announced, and not there: its slots cannot be had, the others can. */
static void node_that_is_not_there_takes_only_its_slots_away(void **state) {
  (void)state;
  redmoon_error err;
  char slots[300];
  int b = slot_of("b"), a = slot_of("a"); /* 3300 and 15495 */
  assert_true(b < 8192 && a >= 8192);
  speak(fine);
  snprintf(slots, sizeof slots,
           "*2\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n*3\r\n:8192\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
           port_of(0));
  set_slots(slots);
  assert_int_equal(get("b", &err), 0);
  assert_true(get("a", &err) < 0); /* at the deadline: another might have taken its place */
  assert_true(err.status == REDMOON_ECONNECT || err.status == REDMOON_ETIMEOUT);
  if (strstr(err.message, "127.0.0.1:1") == NULL) fail_msg("%s", err.message);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_true(err.retryable);
  assert_int_equal(get("b", &err), 0);
  redmoon_pipeline *p = pipeline(ARGV("b", "a", "b"));
  assert_true(redmoon_pipeline_run(p, &err) < 0);
  if (strstr(err.message, "127.0.0.1:1") == NULL) fail_msg("%s", err.message);
  assert_int_equal(redmoon_pipeline_result(p, 0).outcome, REDMOON_ANSWERED);
  assert_int_equal(redmoon_pipeline_result(p, 1).outcome, REDMOON_NOT_SENT);
  assert_int_equal(redmoon_pipeline_result(p, 2).outcome, REDMOON_ANSWERED);
  redmoon_pipeline_free(p);
  set_slots(NULL);
}

static void slots_that_nobody_serves_are_the_servers_to_refuse(void **state) {
  (void)state;
  redmoon_error err;
  char slots[200];
  speak(fine);
  snprintf(slots, sizeof slots, "*1\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", port_of(0));
  set_slots(slots);
  assert_int_equal(get("b", &err), 0);
  if (get("a", &err) != 0) fail_msg("%s", err.message); /* by whichever node there is: it knows better */
  set_slots(NULL);
}

/* Refusals for now. */

static const char *refusal;

static void refuse_for_now(node *self, const fake_command *command, fake_bytes *reply) {
  if (world.left > 0 && !(fake_is(command, "INCR") && strcmp(command->argv[1], "free") == 0)) {
    world.left--;
    append_format(reply, "-%s\r\n", refusal);
    return;
  }
  world.executed[self->number]++;
  append_format(reply, ":%d\r\n", world.executed[self->number]);
}

static void arrange_refusals(const char *text, int count) {
  pthread_mutex_lock(&world.mutex);
  refusal = text;
  world.left = count;
  world.executed[0] = world.executed[1] = 0;
  pthread_mutex_unlock(&world.mutex);
  speak(refuse_for_now);
}

static void twenty_refusals_are_waited_for_and_no_more_is_asked(void **state) {
  (void)state;
  static const char *const texts[] = {"TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down",
                                      "CLUSTERDOWN Hash slot not served"};
  redmoon_error err;
  for (int i = 0; i < 3; i++) {
    redmoon_reply *reply = NULL;
    int before = asked(0);
    arrange_refusals(texts[i], 20);
    if (redmoon_command(client, 3, ARGV("DEL", "{k}a", "{k}b"), NULL, &reply, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(redmoon_reply_integer(reply), 1);
    redmoon_reply_free(reply);
    assert_int_equal(asked(0) - before, 21);
  }
}

/* The command that is refused is sent again, its neighbours are not. */
static void refusals_in_a_pipeline_are_waited_for(void **state) {
  (void)state;
  redmoon_error err;
  int before = asked(0);
  arrange_refusals("TRYAGAIN Multiple keys request during rehashing of slot", 20);
  redmoon_pipeline *p = pipeline(ARGV("free", "late", "free", "free"));
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 0).reply), 1);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 1).reply), 4);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 2).reply), 2);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 3).reply), 3);
  assert_int_equal(asked(0) - before, 3 + 21);
  redmoon_pipeline_free(p);
}

/* Of one key the second is not sent before the first: refused, executed, executed is what the caller sees. */
static void first_of_a_key(node *self, const fake_command *command, fake_bytes *reply) {
  if (world.left > 0) {
    world.left--;
    append_format(reply, "-%s\r\n", "TRYAGAIN once");
    return;
  }
  (void)command;
  append_format(reply, ":%d\r\n", ++world.executed[self->number]);
}

static void refused_command_does_not_overtake_itself(void **state) {
  (void)state;
  redmoon_error err;
  pthread_mutex_lock(&world.mutex);
  world.left = 1;
  pthread_mutex_unlock(&world.mutex);
  speak(first_of_a_key);
  redmoon_pipeline *p = pipeline(ARGV("k", "k", "k"));
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
  const redmoon_reply *first = redmoon_pipeline_result(p, 0).reply;
  assert_int_equal(redmoon_reply_type(first), REDMOON_ERROR);
  assert_int_equal(strncmp(redmoon_reply_string(first, NULL), "TRYAGAIN", 8), 0);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 1).reply), 1);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, 2).reply), 2);
  assert_int_equal(asked(0), 3);
  redmoon_pipeline_free(p);
}

/* Transactions: MULTI, three commands, EXEC; what is said at `position` of them (0: MULTI, 4: EXEC) on node 0. */

enum { AT_MULTI, AT_EXEC = 4, NOWHERE = 9 };
static const char *said; /* "MOVED", "ASK", or the text of a refusal */
static bool executes_behind_multi; /* a server that refuses MULTI alone, and executes what follows */
static bool only_once;

static void say_it(fake_bytes *reply, const fake_command *command) {
  const char *key = command->argc > 1 ? command->argv[1] : "{k}a";
  if (strcmp(said, "MOVED") == 0 || strcmp(said, "ASK") == 0) append_redirect(reply, said, key, 1);
  else append_format(reply, "-%s\r\n", said);
}

static int place;          /* of the next command in the transaction, on node 0 */
static bool aborted, none; /* a command was refused; MULTI was */

static void transact(node *self, const fake_command *command, fake_bytes *reply) {
  bool first = self->number == 0, is_multi = fake_is(command, "MULTI"), is_exec = fake_is(command, "EXEC");
  if (first && is_multi) {
    place = 0;
    aborted = none = false;
  }
  bool refuses = first && (world.position == place || (world.position == AT_MULTI && !executes_behind_multi));
  place += first;
  if (first && is_exec && (aborted || none)) {
    fake_append_text(reply, none ? "-ERR EXEC without MULTI\r\n"
                                 : "-EXECABORT Transaction discarded because of previous errors.\r\n");
  } else if (refuses) {
    say_it(reply, command);
    aborted = true;
    none = none || is_multi;
    if (only_once && !is_multi) world.position = NOWHERE; /* from the next attempt on */
  } else if (is_multi) {
    fake_append_text(reply, "+OK\r\n");
  } else if (is_exec) {
    world.executed[self->number]++;
    fake_append_text(reply, "*3\r\n:1\r\n:2\r\n:3\r\n");
  } else if (first && none) {
    world.executed[0]++; /* one by one */
    fake_append_text(reply, ":7\r\n");
  } else {
    fake_append_text(reply, "+QUEUED\r\n");
  }
}

static int run_transaction(redmoon_reply **replies, redmoon_error *err) {
  redmoon_transaction *tx = NULL;
  redmoon_reply_free(*replies);
  *replies = NULL;
  assert_int_equal(redmoon_transaction_begin(client, NULL, 0, NULL, &tx, err), 0);
  for (int i = 0; i < 3; i++) assert_int_equal(redmoon_transaction_queue(tx, 2, ARGV("GET", "{k}a"), NULL, err), i);
  int rc = redmoon_transaction_exec(tx, replies, err);
  redmoon_transaction_free(tx);
  return rc;
}

static void arrange_transaction(const char *text, int position, bool once) {
  pthread_mutex_lock(&world.mutex);
  said = text;
  world.position = position;
  only_once = once;
  executes_behind_multi = false;
  world.executed[0] = world.executed[1] = 0;
  pthread_mutex_unlock(&world.mutex);
  speak(transact);
}

static void transaction_is_sent_on_whole_from_any_place(void **state) {
  (void)state;
  static const char *const kinds[] = {"MOVED", "ASK"};
  redmoon_reply *replies = NULL;
  redmoon_error err;
  for (int k = 0; k < 2; k++)
    for (int position = AT_MULTI; position <= AT_EXEC; position++) {
      arrange_transaction(kinds[k], position, false);
      int rc = run_transaction(&replies, &err);
      assert_int_equal(world.executed[0], 0);
      assert_int_equal(world.executed[1], rc == 0);
      /* No server refuses MULTI for its slot: it has none.  Of one that does, all that matters is the truth. */
      if (rc != 0 && position != AT_MULTI) fail_msg("%s at %d: %s", kinds[k], position, err.message);
      if (rc == 0) {
        assert_int_equal(redmoon_reply_count(replies), 3);
        assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 2)), 3);
      }
      /* The next test begins at node 0 again. */
      redmoon_client_close(client);
      char url[200];
      snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d?min_backoff=0.001&max_backoff=0.01&max_retries=2&timeout=5", port_of(0));
      assert_int_equal(redmoon_client_open(url, NULL, &client, &err), 0);
    }
  redmoon_reply_free(replies);
}

static void transaction_that_is_refused_for_now_is_sent_again_whole(void **state) {
  (void)state;
  static const char *const texts[] = {"TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down"};
  redmoon_reply *replies = NULL;
  redmoon_error err;
  for (int k = 0; k < 2; k++)
    for (int position = 1; position <= AT_EXEC; position++) {
      arrange_transaction(texts[k], position, true);
      if (run_transaction(&replies, &err) != 0) fail_msg("%s at %d: %s", texts[k], position, err.message);
      assert_int_equal(redmoon_reply_count(replies), 3);
      assert_int_equal(world.executed[0], 1);
      assert_int_equal(world.executed[1], 0);
    }
  redmoon_reply_free(replies);
}

/* Commands that a server executed one by one, because it refused MULTI alone, are not executed again elsewhere. */
static void transaction_without_its_multi_is_not_repeated(void **state) {
  (void)state;
  redmoon_reply *replies = NULL;
  redmoon_error err;
  arrange_transaction("MOVED", AT_MULTI, false);
  executes_behind_multi = true;
  assert_true(run_transaction(&replies, &err) < 0);
  assert_int_equal(world.executed[0], 3);
  assert_int_equal(world.executed[1], 0);
  redmoon_reply_free(replies);
}

/* ASK. */

static void asks(node *self, const fake_command *command, fake_bytes *reply) {
  bool moving = strncmp(command->argv[1], "{a}", 3) == 0;
  if (self->number == 0 && moving) append_redirect(reply, "ASK", command->argv[1], 1);
  else append_format(reply, ":%d\r\n", ++world.executed[self->number]);
}

static void every_asked_command_has_its_asking(void **state) {
  (void)state;
  redmoon_error err;
  speak(asks);
  redmoon_pipeline *p = pipeline(ARGV("{a}1", "b", "{a}2", "c", "{a}1", "d", "{a}3", "{a}1"));
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
  static const int expected[] = {1, 1, 2, 2, 3, 3, 4, 5};
  for (size_t i = 0; i < 8; i++)
    assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, i).reply), expected[i]);
  redmoon_pipeline_free(p);
  assert_int_equal(world.without_asking, 0);
  assert_int_equal(asked(1), 5);
  assert_int_equal(asked(0), 8);
  if (get("{a}1", &err) != 0) fail_msg("%s", err.message); /* the slot is not the other's: asked anew */
  assert_int_equal(world.without_asking, 0);
  assert_int_equal(asked(0), 9);
  assert_int_equal(asked(1), 6);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
  const struct CMUnitTest tests[] = {
      TEST(circles_end_in_a_clear_error),
      TEST(circles_end_in_a_pipeline_too),
      TEST(part_that_is_alone_at_its_node_is_sent_on),
      TEST(address_that_cannot_be_used_is_a_clear_error),
      TEST(empty_host_is_that_of_who_was_asked),
      TEST(slots_without_a_host_are_those_of_who_was_asked),
      TEST(slots_that_make_no_sense_are_a_clear_error),
      TEST(node_that_is_not_there_takes_only_its_slots_away),
      TEST(slots_that_nobody_serves_are_the_servers_to_refuse),
      TEST(twenty_refusals_are_waited_for_and_no_more_is_asked),
      TEST(refusals_in_a_pipeline_are_waited_for),
      TEST(refused_command_does_not_overtake_itself),
      TEST(transaction_is_sent_on_whole_from_any_place),
      TEST(transaction_that_is_refused_for_now_is_sent_again_whole),
      TEST(transaction_without_its_multi_is_not_repeated),
      TEST(every_asked_command_has_its_asking),
  };
  return cmocka_run_group_tests_name("cluster_fakes", tests, NULL, NULL);
}
