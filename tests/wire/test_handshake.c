/* SPDX-License-Identifier: MIT */
/* The handshake: what is sent, what is accepted, and that nothing half-made is ever handed out. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/dialing.h"
#include "support/fake_server.h"

#include <redmoon/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELLO_REPLY "%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:42\r\n"
#define OK "+OK\r\n"

/* A server that reads `commands` commands before it answers with `replies`, in up to two rounds. */
typedef struct rounds {
  int commands[2];
  const char *replies[2];
} rounds;

static bool play_round(fake_peer *peer, const rounds *r, int i) {
  const fake_command *command;
  for (int n = 0; n < r->commands[i]; n++)
    if (!fake_next(peer, &command)) return false;
  return r->replies[i] == NULL || fake_text(peer, r->replies[i]);
}

static void play(fake_peer *peer, void *ctx) {
  if (play_round(peer, ctx, 0) && play_round(peer, ctx, 1)) fake_expect_end(peer);
}

/* As play(), but the connection ends right behind the last byte. */
static void play_and_close(fake_peer *peer, void *ctx) {
  if (play_round(peer, ctx, 0)) play_round(peer, ctx, 1);
}

/* Dials a server that does this; returns the status. */
typedef struct scene {
  dialing d;
  fake_server *server;
  rm_conn *conn;
  redmoon_error err;
} scene;

static void scene_init(scene *s, fake_script_fn script, void *ctx) {
  memset(s, 0, sizeof *s);
  s->server = fake_server_start(&(fake_options){.script = script, .ctx = ctx});
  dialing_init(&s->d);
  dialing_to_path(&s->d, fake_server_path(s->server));
}

static int scene_dial(scene *s) { return dialing_run(&s->d, &s->conn, &s->err); }

static void scene_fini(scene *s) {
  rm_conn_close(s->conn);
  dialing_fini(&s->d);
  fake_server_stop(s->server);
}

/* The commands that the server got, one line each. */
static const char *transcript(const scene *s) {
  static char text[2048];
  const fake_command *command;
  size_t used = 0;
  text[0] = '\0';
  for (size_t i = 0; (command = fake_server_command(s->server, i)) != NULL; i++)
    for (size_t j = 0; j < command->argc; j++)
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", command->argv[j],
                               j + 1 < command->argc ? " " : "\n");
  return text;
}

#define SETINFO "CLIENT SETINFO LIB-NAME redmoon\nCLIENT SETINFO LIB-VER " REDMOON_VERSION "\n"

/* What is sent. */

static void the_first_flight_is_complete_before_anything_is_answered(void **state) {
  (void)state;
  rounds r = {{4}, {HELLO_REPLY OK OK OK}};
  scene s;
  scene_init(&s, play, &r);
  dialing_login(&s.d, "ann", "sesame");
  s.d.config.client_name = strdup("worker-1");
  s.d.config.database = 7;
  assert_int_equal(scene_dial(&s), 0);
  assert_string_equal(transcript(&s), "HELLO 3 AUTH ann sesame SETNAME worker-1\n" SETINFO "SELECT 7\n");
  assert_int_equal(s.conn->protocol, 3);
  assert_int_equal(s.conn->client_id, 42);
  assert_string_equal(s.conn->address, fake_server_path(s.server));
  assert_int_equal(s.conn->receive_timeout_us, 2000000 / 2);
  scene_fini(&s);
}

static void without_credentials_and_database_only_what_is_needed_is_sent(void **state) {
  (void)state;
  rounds r = {{3}, {HELLO_REPLY OK OK}};
  scene s;
  scene_init(&s, play, &r);
  assert_int_equal(scene_dial(&s), 0);
  assert_string_equal(transcript(&s), "HELLO 3\n" SETINFO);
  scene_fini(&s);
}

static void a_password_alone_belongs_to_the_default_user(void **state) {
  (void)state;
  rounds r = {{3}, {HELLO_REPLY OK OK}};
  scene s;
  scene_init(&s, play, &r);
  dialing_login(&s.d, NULL, "sesame");
  assert_int_equal(scene_dial(&s), 0);
  assert_string_equal(transcript(&s), "HELLO 3 AUTH default sesame\n" SETINFO);
  scene_fini(&s);
}

/* What the server has to be. */

static void dial_primary(const char *replies, int commands, int64_t protocol, const char *sent, const char *refusal) {
  rounds r = {{commands}, {replies}};
  scene s;
  scene_init(&s, refusal == NULL ? play : play_and_close, &r);
  s.d.config.protocol = protocol;
  s.d.dialer.role = RM_ROLE_PRIMARY;
  int status = scene_dial(&s);
  assert_string_equal(transcript(&s), sent); /* in the same flight */
  assert_int_equal(status, refusal == NULL ? 0 : REDMOON_EUNAVAILABLE);
  if (refusal != NULL) {
    assert_non_null(strstr(s.err.message, refusal));
    assert_int_equal(s.err.retryable, 1);
    assert_int_equal(s.err.outcome, REDMOON_NOT_SENT);
    assert_int_equal(s.err.phase, REDMOON_PHASE_HANDSHAKE);
  }
  scene_fini(&s);
}

#define HELLO_ROLE(role) "%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:42\r\n$4\r\nrole\r\n" role "\r\n"

static void hello_says_whether_it_is_a_primary(void **state) {
  (void)state;
  dial_primary(HELLO_ROLE("$6\r\nmaster") OK OK, 3, 3, "HELLO 3\n" SETINFO, NULL);
  dial_primary(HELLO_ROLE("$7\r\nreplica") OK OK, 3, 3, "HELLO 3\n" SETINFO, "is no primary (it says that it is a replica)");
  dial_primary(HELLO_REPLY OK OK, 3, 3, "HELLO 3\n" SETINFO, NULL); /* it does not say */
}

static void in_resp2_it_is_said_at_the_end_of_the_same_flight(void **state) {
  (void)state;
  static const char sent[] = SETINFO "CLIENT ID\nHELLO 2\n";
  dial_primary(OK OK ":1\r\n*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$4\r\nrole\r\n$6\r\nmaster\r\n", 4, 2, sent, NULL);
  dial_primary(OK OK ":1\r\n*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$4\r\nrole\r\n$5\r\nslave\r\n", 4, 2, sent, "it says that it is a slave");
  dial_primary(OK OK ":1\r\n-NOPERM no\r\n", 4, 2, sent, NULL); /* it may not be asked */
}

static void dial_old_primary(const char *role, const char *refusal) {
  char second[200];
  snprintf(second, sizeof second, ":17\r\n%s", role);
  rounds r = {{3, 2}, {"-ERR unknown command 'HELLO'\r\n-ERR x\r\n-ERR x\r\n", second}};
  scene s;
  scene_init(&s, refusal == NULL ? play : play_and_close, &r);
  s.d.dialer.role = RM_ROLE_PRIMARY;
  assert_int_equal(scene_dial(&s), refusal == NULL ? 0 : REDMOON_EUNAVAILABLE);
  assert_string_equal(transcript(&s), "HELLO 3\n" SETINFO "CLIENT ID\nROLE\n");
  if (refusal != NULL) assert_non_null(strstr(s.err.message, refusal));
  scene_fini(&s);
}

static void without_hello_role_says_it(void **state) {
  (void)state;
  dial_old_primary("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", NULL);
  dial_old_primary("*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n", "it says that it is a slave");
  dial_old_primary("*2\r\n$8\r\nsentinel\r\n*0\r\n", "it says that it is a sentinel");
  dial_old_primary("-NOPERM no\r\n", NULL);
}

/* RESP2. */

static void fall_back_from(const char *refusal) {
  char first[512];
  snprintf(first, sizeof first, "%s-NOAUTH Authentication required.\r\n-NOAUTH x\r\n-NOAUTH x\r\n", refusal);
  rounds r = {{4, 4}, {first, OK OK OK ":17\r\n"}};
  scene s;
  scene_init(&s, play, &r);
  dialing_login(&s.d, NULL, "sesame");
  s.d.config.client_name = strdup("worker-1");
  s.d.config.database = 7;
  assert_int_equal(scene_dial(&s), 0);
  assert_string_equal(transcript(&s), "HELLO 3 AUTH default sesame SETNAME worker-1\n" SETINFO "SELECT 7\n"
                                      "AUTH sesame\nCLIENT SETNAME worker-1\nSELECT 7\nCLIENT ID\n");
  assert_int_equal(s.conn->protocol, 2);
  assert_int_equal(s.conn->client_id, 17);
  scene_fini(&s);
}

static void a_server_without_hello_or_resp3_is_spoken_to_in_resp2(void **state) {
  (void)state;
  fall_back_from("-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `sesame`, \r\n");
  fall_back_from("-ERR unknown command 'HELLO'\r\n");
  fall_back_from("-NOPROTO unsupported protocol version\r\n");
}

static void with_protocol_2_there_is_no_hello(void **state) {
  (void)state;
  rounds r = {{5}, {OK "-ERR unknown subcommand\r\n-ERR unknown subcommand\r\n" OK ":5\r\n"}};
  scene s;
  scene_init(&s, play, &r);
  s.d.config.protocol = 2;
  s.d.config.database = 1;
  dialing_login(&s.d, "ann", "sesame");
  assert_int_equal(scene_dial(&s), 0);
  assert_string_equal(transcript(&s), "AUTH ann sesame\n" SETINFO "SELECT 1\nCLIENT ID\n");
  assert_int_equal(s.conn->protocol, 2);
  assert_int_equal(s.conn->client_id, 5);
  scene_fini(&s);
}

static void a_server_without_client_id_leaves_it_unknown(void **state) {
  (void)state;
  rounds r = {{3}, {OK OK "-ERR unknown subcommand\r\n"}};
  scene s;
  scene_init(&s, play, &r);
  s.d.config.protocol = 2;
  assert_int_equal(scene_dial(&s), 0);
  assert_int_equal(s.conn->client_id, 0);
  scene_fini(&s);
}

/* Errors of the server. */

/* Dials with user ann, database 7; every refusal closes the connection. */
static void refused(const char *replies, int protocol, int status, const char *code, int retryable) {
  rounds r = {{protocol == 3 ? 4 : 5}, {replies}};
  scene s;
  scene_init(&s, play, &r);
  dialing_login(&s.d, "ann", "sesame");
  s.d.config.protocol = protocol;
  s.d.config.database = 7;
  assert_int_equal(scene_dial(&s), status);
  assert_null(s.conn);
  assert_string_equal(s.err.code, code);
  assert_int_equal(s.err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(s.err.phase, REDMOON_PHASE_HANDSHAKE);
  assert_int_equal(s.err.retryable, retryable);
  assert_string_equal(s.err.address, fake_server_path(s.server));
  assert_null(strstr(s.err.message, "sesa")); /* not even a part of the password */
  assert_true(fake_server_wait_ended(s.server, 1));
  scene_fini(&s);
}

static void a_refusal_by_the_server_keeps_its_code_and_closes(void **state) {
  (void)state;
  refused("-WRONGPASS invalid username-password pair or user is disabled.\r\n", 3, REDMOON_ESERVER, "WRONGPASS", 0);
  refused("-WRONGPASS invalid username-password pair\r\n", 2, REDMOON_ESERVER, "WRONGPASS", 0);
  refused("-NOPERM this user has no permissions to run the 'hello' command\r\n", 3, REDMOON_ESERVER, "NOPERM", 0);
  refused(HELLO_REPLY OK OK "-ERR DB index is out of range\r\n", 3, REDMOON_ESERVER, "ERR", 0);
  refused(OK OK OK "-ERR DB index is out of range\r\n", 2, REDMOON_ESERVER, "ERR", 0);
  refused("-DENIED Redis is running in protected mode\r\n", 3, REDMOON_ESERVER, "DENIED", 0);
  refused("-LOADING Redis is loading the dataset in memory\r\n", 3, REDMOON_ESERVER, "LOADING", 1);
}

static void too_many_clients_is_unavailable_for_now(void **state) {
  (void)state;
  refused("-ERR max number of clients reached\r\n", 3, REDMOON_EUNAVAILABLE, "UNAVAILABLE", 1);
  refused("-ERR max number of clients reached\r\n", 2, REDMOON_EUNAVAILABLE, "UNAVAILABLE", 1);
}

static void refuse_at_once(fake_peer *peer, void *ctx) { fake_text(peer, ctx); }

/* The server speaks and closes before it reads: sending fails, and the reason is in what came before. */
static void too_many_clients_is_understood_though_sending_fails(void **state) {
  (void)state;
  static char text[] = "-ERR max number of clients reached\r\n";
  scene s;
  scene_init(&s, refuse_at_once, text);
  rm_connect *connect;
  rm_conn *conn = NULL;
  rm_wants wants = {.fd = -1};
  int64_t now = rm_clock_now_us();
  assert_int_equal(rm_connect_start(&s.d.dialer, &s.d.address, now, now + 5000000, &connect, &s.err), 0);
  int status = rm_connect_step(connect, now, &wants, &conn, &s.err);
  while (status == RM_WAIT) {
    dialing_wait(&wants, -1);
    assert_true(fake_server_wait_ended(s.server, 1));
    status = rm_connect_step(connect, now, &wants, &conn, &s.err);
  }
  assert_int_equal(status, REDMOON_EUNAVAILABLE);
  rm_connect_free(connect);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(scene_dial(&s), REDMOON_EUNAVAILABLE);
    assert_int_equal(s.err.retryable, 1);
  }
  scene_fini(&s);
}

static void a_server_that_wants_a_password_is_told_apart(void **state) {
  (void)state;
  for (int protocol = 2; protocol <= 3; protocol++) {
    rounds r = {
        {3}, {"-NOAUTH HELLO must be called with the client already authenticated\r\n-NOAUTH x\r\n-NOAUTH x\r\n"}};
    scene s;
    scene_init(&s, play, &r);
    s.d.config.protocol = protocol;
    assert_int_equal(scene_dial(&s), REDMOON_ESERVER);
    assert_string_equal(s.err.code, "NOAUTH");
    assert_non_null(strstr(s.err.message, "wants a password and none was given"));
    assert_int_equal(s.err.retryable, 0);
    scene_fini(&s);
  }
}

static void errors_of_setinfo_do_no_harm(void **state) {
  (void)state;
  rounds r = {{3},
              {HELLO_REPLY "-ERR Unknown subcommand or wrong number of arguments for 'SETINFO'\r\n"
                           "-NOPERM this user has no permissions\r\n"}};
  scene s;
  scene_init(&s, play, &r);
  assert_int_equal(scene_dial(&s), 0);
  scene_fini(&s);
}

static void a_secret_that_the_server_repeats_is_not_shown(void **state) {
  (void)state;
  refused("-ERR unknown command `AUTH`, with args beginning with: `ann`, `sesa\r\n", 2, REDMOON_ESERVER, "ERR", 0);
  refused("-ERR do not know 'HELLO 3 AUTH ann sesame'\r\n", 3, REDMOON_ESERVER, "ERR", 0);
}

/* What is no handshake. */

static void a_reply_of_an_unexpected_form_closes(void **state) {
  (void)state;
  static const char *const replies[] = {
      OK OK OK OK,
      "%1\r\n$5\r\nproto\r\n:2\r\n" OK OK OK,
      "%1\r\n$2\r\nid\r\n:2\r\n" OK OK OK,
      "%1\r\n$5\r\nproto\r\n$1\r\n3\r\n" OK OK OK,
      "*6\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:4\r\n$1\r\na\r\n:1\r\n" OK OK OK,
      "$-1\r\n" OK OK OK,
      HELLO_REPLY ":1\r\n" OK OK,
      HELLO_REPLY OK "$2\r\nOK\r\n" OK,
      HELLO_REPLY OK OK "+QUEUED\r\n",
      HELLO_REPLY OK OK "*0\r\n",
      ">1\r\n+hello\r\n" HELLO_REPLY OK OK OK,
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      "\x15\x03\x01\x00\x02\x02\x46",
  };
  for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++)
    refused(replies[i], 3, REDMOON_EPROTOCOL, "PROTOCOL", 0);
  refused(OK OK OK OK "+17\r\n", 2, REDMOON_EPROTOCOL, "PROTOCOL", 0);
  refused(":1\r\n" OK OK OK ":17\r\n", 2, REDMOON_EPROTOCOL, "PROTOCOL", 0);
}

static void bytes_behind_the_last_reply_close(void **state) {
  (void)state;
  refused(HELLO_REPLY OK OK OK "+SURPLUS\r\n", 3, REDMOON_EPROTOCOL, "PROTOCOL", 0);
  refused(HELLO_REPLY OK OK OK "+", 3, REDMOON_EPROTOCOL, "PROTOCOL", 0);
  refused(OK OK OK OK ":17\r\n:18\r\n", 2, REDMOON_EPROTOCOL, "PROTOCOL", 0);
}

static void a_push_between_replies_counts_as_none(void **state) {
  (void)state;
  rounds r = {{3}, {HELLO_REPLY ">1\r\n+note\r\n" OK ">1\r\n+note\r\n" OK}};
  scene s;
  scene_init(&s, play, &r);
  assert_int_equal(scene_dial(&s), 0);
  scene_fini(&s);
}

static void a_peer_that_does_not_speak_plain_resp_is_suspected_of_tls(void **state) {
  (void)state;
  static const char *const replies[] = {"", "\x15\x03\x01\x00\x02\x02\x46"};
  for (int i = 0; i < 2; i++) {
    rounds r = {{3}, {replies[i]}};
    scene s;
    scene_init(&s, play_and_close, &r);
    assert_true(scene_dial(&s) < 0);
    assert_non_null(strstr(s.err.message, "is it a TLS port?"));
    scene_fini(&s);
  }
}

/* Every byte. */

typedef struct cutter {
  rounds r;
  size_t keep;
  fake_end end;
} cutter;

static void cut(fake_peer *peer, void *ctx) {
  const cutter *c = ctx;
  fake_cut(peer, c->keep, c->end);
  if (play_round(peer, &c->r, 0)) play_round(peer, &c->r, 1);
}

static const rounds resp3_rounds = {{4}, {HELLO_REPLY OK OK OK}};
static const rounds fall_back_rounds = {
    {4, 3}, {"-NOPROTO no\r\n-NOAUTH x\r\n-NOAUTH x\r\n-NOAUTH x\r\n", OK OK ":17\r\n"}};

static size_t total_bytes(const rounds *r) {
  return strlen(r->replies[0]) + (r->replies[1] != NULL ? strlen(r->replies[1]) : 0);
}

static void cut_everywhere(const rounds *r, fake_end end) {
  for (size_t keep = 0; keep < total_bytes(r); keep++) {
    cutter c = {*r, keep, end};
    scene s;
    scene_init(&s, cut, &c);
    dialing_login(&s.d, NULL, "sesame");
    s.d.config.database = 7;
    assert_int_equal(scene_dial(&s), REDMOON_ECONNECT);
    assert_null(s.conn);
    assert_int_equal(s.err.phase, REDMOON_PHASE_HANDSHAKE);
    assert_int_equal(s.err.retryable, 1);
    assert_true(fake_server_wait_ended(s.server, 1));
    assert_null(fake_server_failure(s.server));
    scene_fini(&s);
  }
}

static void a_handshake_cut_at_any_byte_is_never_handed_out(void **state) {
  (void)state;
  cut_everywhere(&resp3_rounds, FAKE_CLOSE);
  cut_everywhere(&resp3_rounds, FAKE_HALF_CLOSE);
  cut_everywhere(&fall_back_rounds, FAKE_CLOSE);
}

/* Steps until nothing moves any more, then the deadline comes: time is a parameter, so no time passes. */
static void stall_at(const rounds *r, size_t keep) {
  cutter c = {*r, keep, FAKE_STALL};
  scene s;
  scene_init(&s, cut, &c);
  dialing_login(&s.d, NULL, "sesame");
  s.d.config.database = 7;
  rm_connect *connect;
  rm_wants wants = {.fd = -1};
  assert_int_equal(rm_connect_start(&s.d.dialer, &s.d.address, 1, 3000001, &connect, &s.err), 0);
  for (int i = 0; i < 3 || fake_server_commands(s.server) < (size_t)r->commands[0]; i++) {
    assert_int_equal(rm_connect_step(connect, 2, &wants, &s.conn, &s.err), RM_WAIT);
    assert_int_equal(wants.until_us, 3000001);
    wants.until_us = RM_FOREVER;
    dialing_wait(&wants, 1);
  }
  assert_int_equal(rm_connect_step(connect, 3000001, &wants, &s.conn, &s.err), REDMOON_ETIMEOUT);
  assert_null(s.conn);
  assert_int_equal(s.err.phase, REDMOON_PHASE_HANDSHAKE);
  assert_non_null(strstr(s.err.message, "no answer within 3000 ms during the handshake"));
  assert_int_equal(s.err.retryable, 1);
  rm_connect_free(connect);
  scene_fini(&s);
}

static void a_handshake_that_stalls_at_any_byte_ends_with_the_deadline(void **state) {
  (void)state;
  for (size_t keep = 0; keep < total_bytes(&resp3_rounds); keep++) stall_at(&resp3_rounds, keep);
  for (size_t keep = 0; keep < total_bytes(&fall_back_rounds); keep++) stall_at(&fall_back_rounds, keep);
}

static void drip(fake_peer *peer, void *ctx) {
  const rounds *r = ctx;
  const fake_command *command;
  for (int round = 0; round < 2; round++) {
    for (int n = 0; n < r->commands[round]; n++)
      if (!fake_next(peer, &command)) return;
    if (r->replies[round] != NULL && !fake_drip(peer, r->replies[round], strlen(r->replies[round]), 0)) return;
  }
  fake_expect_end(peer);
}

static void an_answer_in_single_bytes_does_as_well(void **state) {
  (void)state;
  const rounds *const both[] = {&resp3_rounds, &fall_back_rounds};
  for (int i = 0; i < 2; i++) {
    rounds r = *both[i];
    scene s;
    scene_init(&s, drip, &r);
    dialing_login(&s.d, NULL, "sesame");
    s.d.config.database = 7;
    assert_int_equal(scene_dial(&s), 0);
    assert_int_equal(s.conn->client_id, i == 0 ? 42 : 17);
    scene_fini(&s);
  }
}

/* Credentials. */

typedef struct asked {
  int count, answer;
  bool unterminated;
} asked;

static int give(void *ctx, char username[256], char password[4096]) {
  asked *a = ctx;
  snprintf(username, 256, "user%d", ++a->count);
  snprintf(password, 4096, "secret%d", a->count);
  if (a->unterminated) memset(password, 'x', 4096);
  return a->answer;
}

static void credentials_are_asked_for_at_each_connection(void **state) {
  (void)state;
  rounds r = {{3}, {HELLO_REPLY OK OK}};
  asked a = {0};
  scene s;
  scene_init(&s, play, &r);
  s.d.config.credentials = give;
  s.d.config.credentials_ctx = &a;
  for (int i = 0; i < 2; i++) {
    rm_conn_close(s.conn);
    assert_int_equal(scene_dial(&s), 0);
  }
  assert_string_equal(transcript(&s),
                      "HELLO 3 AUTH user1 secret1\n" SETINFO "HELLO 3 AUTH user2 secret2\n" SETINFO);
  scene_fini(&s);
}

static void credentials_that_are_refused_or_without_end_send_nothing(void **state) {
  (void)state;
  rounds r = {{3}, {HELLO_REPLY OK OK}};
  asked a = {.answer = -5};
  scene s;
  scene_init(&s, play, &r);
  s.d.config.credentials = give;
  s.d.config.credentials_ctx = &a;
  assert_int_equal(scene_dial(&s), REDMOON_ECONNECT);
  assert_non_null(strstr(s.err.message, "credentials function refused"));
  assert_null(strstr(s.err.message, "secret"));
  a = (asked){.unterminated = true};
  assert_int_equal(scene_dial(&s), REDMOON_ECONFIG);
  assert_int_equal(fake_server_commands(s.server), 0);
  scene_fini(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_flight_is_complete_before_anything_is_answered),
      cmocka_unit_test(without_credentials_and_database_only_what_is_needed_is_sent),
      cmocka_unit_test(a_password_alone_belongs_to_the_default_user),
      cmocka_unit_test(an_answer_in_single_bytes_does_as_well),
      cmocka_unit_test(hello_says_whether_it_is_a_primary),
      cmocka_unit_test(in_resp2_it_is_said_at_the_end_of_the_same_flight),
      cmocka_unit_test(without_hello_role_says_it),
      cmocka_unit_test(a_server_without_hello_or_resp3_is_spoken_to_in_resp2),
      cmocka_unit_test(with_protocol_2_there_is_no_hello),
      cmocka_unit_test(a_server_without_client_id_leaves_it_unknown),
      cmocka_unit_test(a_refusal_by_the_server_keeps_its_code_and_closes),
      cmocka_unit_test(too_many_clients_is_unavailable_for_now),
      cmocka_unit_test(too_many_clients_is_understood_though_sending_fails),
      cmocka_unit_test(a_server_that_wants_a_password_is_told_apart),
      cmocka_unit_test(errors_of_setinfo_do_no_harm),
      cmocka_unit_test(a_secret_that_the_server_repeats_is_not_shown),
      cmocka_unit_test(a_reply_of_an_unexpected_form_closes),
      cmocka_unit_test(bytes_behind_the_last_reply_close),
      cmocka_unit_test(a_push_between_replies_counts_as_none),
      cmocka_unit_test(a_peer_that_does_not_speak_plain_resp_is_suspected_of_tls),
      cmocka_unit_test(a_handshake_cut_at_any_byte_is_never_handed_out),
      cmocka_unit_test(a_handshake_that_stalls_at_any_byte_ends_with_the_deadline),
      cmocka_unit_test(credentials_are_asked_for_at_each_connection),
      cmocka_unit_test(credentials_that_are_refused_or_without_end_send_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
