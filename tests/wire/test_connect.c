/* SPDX-License-Identifier: MIT */
/* The dial from end to end: one deadline over all phases, every failure closed and named, nothing leaked. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "support/certs.h"
#include "support/dialing.h"
#include "support/fake_server.h"
#include "support/redis_server.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static dialing d;
static rm_conn *conn;
static redmoon_error err;

static int set_up(void **state) {
  (void)state;
  dialing_init(&d);
  conn = NULL;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  rm_resolver_set_getaddrinfo(NULL, NULL);
  rm_conn_close(conn);
  dialing_fini(&d);
  return 0;
}

static bool pong(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  fake_append_text(reply, fake_is(command, "PING") ? "+PONG\r\n" : "-ERR unknown command\r\n");
  return true;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, pong, ctx); }

static void stall(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_stall(peer);
}

/* Names. */

/* What the name service says, at the test's will: the addresses of `answer`, once it is not stalled. */
static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  bool stalled;
  int running;
  const char *answer[2];
} names = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int make_list(const char *port, struct addrinfo **out) {
  struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  for (int i = 0; i < 2 && names.answer[i] != NULL; i++) {
    int code = getaddrinfo(names.answer[i], port, &numeric, out);
    if (code != 0) return code;
    out = &(*out)->ai_next;
  }
  return 0;
}

static int answer_names(const char *host, const char *port, const struct addrinfo *hint, struct addrinfo **out) {
  (void)host;
  (void)hint;
  pthread_mutex_lock(&names.mutex);
  names.running++;
  while (names.stalled) pthread_cond_wait(&names.changed, &names.mutex);
  int code = make_list(port, out);
  names.running--;
  pthread_cond_broadcast(&names.changed);
  pthread_mutex_unlock(&names.mutex);
  return code;
}

/* The parts of the list were made one by one. */
static void release_names(struct addrinfo *list) {
  while (list != NULL) {
    struct addrinfo *next = list->ai_next;
    list->ai_next = NULL;
    freeaddrinfo(list);
    list = next;
  }
}

static void answer_with(const char *first, const char *second) {
  pthread_mutex_lock(&names.mutex);
  names.answer[0] = first;
  names.answer[1] = second;
  pthread_mutex_unlock(&names.mutex);
  rm_resolver_set_getaddrinfo(answer_names, release_names);
}

static void stall_names(bool stalled) {
  pthread_mutex_lock(&names.mutex);
  names.stalled = stalled;
  pthread_cond_broadcast(&names.changed);
  while (!stalled && names.running > 0) pthread_cond_wait(&names.changed, &names.mutex);
  pthread_mutex_unlock(&names.mutex);
}

static void a_stalled_name_service_ends_with_the_deadline_and_is_named(void **state) {
  (void)state;
  answer_with("127.0.0.1", NULL);
  stall_names(true);
  dialing_to_port(&d, "redis.example", 6379);
  d.timeout_ms = 50;
  int64_t begin = rm_clock_now_us();
  int status = dialing_run(&d, &conn, &err);
  int64_t took = rm_clock_now_us() - begin;
  stall_names(false);
  assert_int_equal(status, REDMOON_ETIMEOUT);
  assert_int_equal(err.phase, REDMOON_PHASE_RESOLVE);
  assert_string_equal(err.message,
                      "connecting to redis.example:6379: no answer within 50 ms while resolving the name");
  assert_string_equal(err.address, "redis.example:6379");
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(err.retryable, 1);
  assert_true(took < 5000000);
}

static void an_unknown_name_says_so_with_the_address(void **state) {
  (void)state;
  answer_with("not a literal", NULL);
  dialing_to_port(&d, "redis.example", 6379);
  assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ECONNECT);
  assert_int_equal(err.phase, REDMOON_PHASE_RESOLVE);
  assert_string_equal(err.address, "redis.example:6379");
  assert_int_equal(err.retryable, 1);
}

static void many_dials_of_one_name_all_succeed(void **state) {
  (void)state;
  enum { COUNT = 24 };
  fake_server *server = fake_server_start(&(fake_options){.tcp = true, .script = serve});
  answer_with("127.0.0.1", NULL);
  dialing_to_port(&d, "redis.example", fake_server_port(server));
  rm_connect *connects[COUNT];
  rm_conn *conns[COUNT] = {0};
  int64_t now = rm_clock_now_us();
  for (int i = 0; i < COUNT; i++)
    assert_int_equal(rm_connect_start(&d.dialer, &d.address, now, now + 30000000, &connects[i], &err), 0);
  for (int left = COUNT; left > 0;) {
    rm_wants wants = {.fd = -1};
    for (int i = 0; i < COUNT; i++) {
      if (conns[i] != NULL) continue;
      int status = rm_connect_step(connects[i], rm_clock_now_us(), &wants, &conns[i], &err);
      assert_true(status >= 0);
      left -= status == RM_DONE;
    }
    if (left > 0) dialing_wait(&wants, 5);
  }
  for (int i = 0; i < COUNT; i++) {
    rm_connect_free(connects[i]);
    rm_conn_close(conns[i]);
  }
  fake_server_stop(server);
}

/* Dialling. */

static void a_listener_that_does_not_answer_ends_with_the_deadline(void **state) {
  (void)state;
  for (int tcp = 0; tcp < 2; tcp++) {
    fake_server *full = fake_server_start_full(&(fake_options){.tcp = tcp});
    char name[160], text[300];
    if (tcp) {
      dialing_to_port(&d, "127.0.0.1", fake_server_port(full));
      snprintf(name, sizeof name, "127.0.0.1:%d", fake_server_port(full));
    } else {
      dialing_to_path(&d, fake_server_path(full));
      snprintf(name, sizeof name, "%s", fake_server_path(full));
    }
    d.timeout_ms = 50;
    int64_t begin = rm_clock_now_us();
    assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ETIMEOUT);
    assert_true(rm_clock_now_us() - begin < 5000000);
    assert_int_equal(err.phase, REDMOON_PHASE_DIAL);
    snprintf(text, sizeof text, "connecting to %s: no answer within 50 ms while dialling", name);
    assert_string_equal(err.message, text);
    assert_string_equal(err.address, name);
    fake_server_stop(full);
  }
}

static void a_unix_socket_whose_queue_empties_in_time_is_reached(void **state) {
  (void)state;
  fake_server *full = fake_server_start_full(&(fake_options){.script = serve});
  dialing_to_path(&d, fake_server_path(full));
  rm_connect *connect;
  rm_wants wants;
  int64_t now = rm_clock_now_us();
  assert_int_equal(rm_connect_start(&d.dialer, &d.address, now, now + 30000000, &connect, &err), 0);
  assert_int_equal(rm_connect_step(connect, rm_clock_now_us(), &wants, &conn, &err), RM_WAIT);
  assert_int_equal(wants.fd, -1);
  fake_server_make_room(full);
  int status = RM_WAIT;
  while (status == RM_WAIT) {
    dialing_wait(&wants, -1);
    status = rm_connect_step(connect, rm_clock_now_us(), &wants, &conn, &err);
  }
  assert_int_equal(status, RM_DONE);
  assert_string_equal(dialing_ask(conn, "*1\r\n$4\r\nPING\r\n"), "PONG");
  rm_connect_free(connect);
  fake_server_stop(full);
}

static void a_black_hole_before_the_right_address_costs_its_share_only(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.tcp = true, .script = serve});
  fake_server *hole =
      fake_server_start_full(&(fake_options){.tcp = true, .host = "127.0.0.2", .port = fake_server_port(server)});
  dialing_to_port(&d, "redis.example", fake_server_port(server));
  answer_with("127.0.0.2", "127.0.0.1");
  d.timeout_ms = 400;
  assert_int_equal(dialing_run(&d, &conn, &err), 0);
  assert_string_equal(dialing_ask(conn, "*1\r\n$4\r\nPING\r\n"), "PONG");
  fake_server_stop(hole);
  fake_server_stop(server);
}

static void a_refused_dial_is_retryable_and_has_its_address(void **state) {
  (void)state;
  dialing_to_path(&d, "/nonexistent/redis.sock");
  assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "connect to /nonexistent/redis.sock: No such file or directory");
  assert_string_equal(err.address, "/nonexistent/redis.sock");
  assert_int_equal(err.retryable, 1);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
}

static void an_ipv6_literal_is_shown_in_brackets(void **state) {
  (void)state;
  dialing_to_port(&d, "::1", 1);
  assert_true(dialing_run(&d, &conn, &err) < 0);
  assert_string_equal(err.address, "[::1]:1");
  assert_int_equal(strncmp(err.message, "connect to [::1]:1 (::1): ", 26), 0);
}

/* Deadline. */

static void drip(fake_peer *peer, void *ctx) {
  (void)ctx;
  const fake_command *command;
  static const char hello[] = "%2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n+OK\r\n+OK\r\n";
  if (fake_next(peer, &command)) fake_drip(peer, hello, sizeof hello - 1, 20);
  fake_stall(peer);
}

static void nothing(int number) { (void)number; }

static void dripped_replies_and_a_storm_of_signals_do_not_prolong_the_deadline(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.script = drip});
  dialing_to_path(&d, fake_server_path(server));
  struct sigaction action = {.sa_handler = nothing}, before; /* without SA_RESTART */
  struct itimerval storm = {{.tv_usec = 1000}, {.tv_usec = 1000}}, calm = {{0}, {0}};
  sigaction(SIGALRM, &action, &before);
  setitimer(ITIMER_REAL, &storm, NULL);
  d.timeout_ms = 200;
  int64_t begin = rm_clock_now_us();
  int late = dialing_run(&d, &conn, &err);
  int64_t took = rm_clock_now_us() - begin;
  d.timeout_ms = 20000;
  int in_time = dialing_run(&d, &conn, &err);
  setitimer(ITIMER_REAL, &calm, NULL);
  sigaction(SIGALRM, &before, NULL);
  assert_int_equal(late, REDMOON_ETIMEOUT);
  assert_true(took < 5000000);
  assert_int_equal(in_time, 0);
  fake_server_stop(server);
}

static void a_deadline_that_has_passed_ends_before_anything_is_done(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.script = serve});
  dialing_to_path(&d, fake_server_path(server));
  rm_connect *connect;
  rm_wants wants;
  assert_int_equal(rm_connect_start(&d.dialer, &d.address, 5000, 5000, &connect, &err), 0);
  assert_int_equal(rm_connect_step(connect, 5000, &wants, &conn, &err), REDMOON_ETIMEOUT);
  assert_int_equal(rm_connect_step(connect, 5000, &wants, &conn, &err), REDMOON_ECLOSED);
  rm_connect_free(connect);
  assert_int_equal(fake_server_connections(server), 0);
  fake_server_stop(server);
}

/* TLS. */

static rm_tls *use_tls(void) {
  const certs *c = certs_get();
  assert_non_null(c);
  d.config.tls = d.config.tls_verify = true;
  d.config.tls_min_version = 12;
  d.config.tls_ca_file = (char *)(uintptr_t)c->ca_file;
  assert_int_equal(rm_tls_new(&d.config, &d.dialer.tls, &err), 0);
  return d.dialer.tls;
}

static void a_verified_tls_server_is_used(void **state) {
  (void)state;
  rm_tls *tls = use_tls();
  const certs *c = certs_get();
  fake_server *server = fake_server_start(
      &(fake_options){.tcp = true, .script = serve, .cert_file = c->good.cert, .key_file = c->good.key});
  answer_with("127.0.0.1", NULL);
  dialing_to_port(&d, "localhost", fake_server_port(server));
  assert_int_equal(dialing_run(&d, &conn, &err), 0);
  assert_non_null(conn->ssl);
  assert_int_equal(conn->protocol, 3);
  assert_string_equal(dialing_ask(conn, "*1\r\n$4\r\nPING\r\n"), "PONG");
  rm_conn_close(conn);
  conn = NULL;
  fake_server_stop(server);
  rm_tls_free(tls);
}

static void a_tls_server_of_another_name_is_refused_before_anything_is_sent(void **state) {
  (void)state;
  rm_tls *tls = use_tls();
  const certs *c = certs_get();
  fake_server *server = fake_server_start(&(fake_options){
      .tcp = true, .script = serve, .cert_file = c->wrong_name.cert, .key_file = c->wrong_name.key});
  dialing_login(&d, "ann", "sesame");
  dialing_to_port(&d, "127.0.0.1", fake_server_port(server));
  assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ETLS);
  assert_int_equal(err.phase, REDMOON_PHASE_TLS);
  assert_int_equal(err.retryable, 0);
  assert_true(err.address[0] != '\0');
  assert_true(fake_server_wait_ended(server, 1));
  assert_int_equal(fake_server_commands(server), 0);
  fake_server_stop(server);
  rm_tls_free(tls);
}

static void a_stalled_tls_handshake_ends_with_the_deadline(void **state) {
  (void)state;
  rm_tls *tls = use_tls();
  fake_server *server = fake_server_start(&(fake_options){.tcp = true, .script = stall});
  dialing_to_port(&d, "127.0.0.1", fake_server_port(server));
  d.timeout_ms = 50;
  assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.phase, REDMOON_PHASE_TLS);
  assert_non_null(strstr(err.message, "no answer within 50 ms during the TLS handshake"));
  fake_server_stop(server);
  rm_tls_free(tls);
}

/* Nothing leaks. */

static void a_dial_given_up_at_any_step_closes_its_socket(void **state) {
  (void)state;
  int before = dialing_open_fds();
  fake_server *server = fake_server_start(&(fake_options){.script = drip});
  dialing_to_path(&d, fake_server_path(server));
  for (int steps = 0; steps < 8; steps++) {
    rm_connect *connect;
    rm_wants wants = {.fd = -1};
    assert_int_equal(rm_connect_start(&d.dialer, &d.address, 1, RM_FOREVER, &connect, &err), 0);
    for (int i = 0; i < steps; i++) {
      assert_int_equal(rm_connect_step(connect, 2, &wants, &conn, &err), RM_WAIT);
      dialing_wait(&wants, 100);
    }
    rm_connect_free(connect);
  }
  rm_connect_free(NULL);
  fake_server_stop(server);
  assert_int_equal(dialing_open_fds(), before);
}

static void a_dial_given_up_while_it_connects_closes_its_socket(void **state) {
  (void)state;
  int before = dialing_open_fds();
  fake_server *full = fake_server_start_full(&(fake_options){.tcp = true});
  dialing_to_port(&d, "127.0.0.1", fake_server_port(full));
  rm_connect *connect;
  rm_wants wants;
  assert_int_equal(rm_connect_start(&d.dialer, &d.address, 1, RM_FOREVER, &connect, &err), 0);
  assert_int_equal(rm_connect_step(connect, 2, &wants, &conn, &err), RM_WAIT);
  rm_connect_free(connect);
  fake_server_stop(full);
  assert_int_equal(dialing_open_fds(), before);
}

typedef struct refusal {
  int countdown;
  bool from_then_on;
} refusal;

static bool refuse(void *ctx, size_t size) {
  (void)size;
  refusal *r = ctx;
  if (r->countdown > 0) r->countdown--;
  else if (r->from_then_on || r->countdown-- == 0) return true;
  return false;
}

static void lack_of_memory_at_any_point_is_told_and_leaks_nothing(void **state) {
  (void)state;
  int before = dialing_open_fds();
  fake_server *server = fake_server_start(&(fake_options){.script = serve});
  dialing_to_path(&d, fake_server_path(server));
  dialing_login(&d, "ann", "sesame");
  for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
    int failures = 0, status = REDMOON_ENOMEM;
    while (status != 0) {
      refusal r = {failures, from_then_on};
      rm_alloc_set_refuse(refuse, &r);
      status = dialing_run(&d, &conn, &err);
      rm_alloc_set_refuse(NULL, NULL);
      if (status == 0) break;
      assert_int_equal(status, REDMOON_ENOMEM);
      assert_string_equal(err.address, fake_server_path(server));
      assert_null(conn);
      assert_true(++failures < 1000);
    }
    assert_true(failures > 5);
    rm_conn_close(conn);
    conn = NULL;
  }
  fake_server_stop(server);
  assert_int_equal(dialing_open_fds(), before);
}

/* A real server. */

static void a_real_server_is_reached_in_both_protocols_and_every_way(void **state) {
  (void)state;
  const char *const args[] = {"--requirepass", "sesame", NULL};
  redis_server *server = redis_server_start(&(redis_server_options){.tcp = true, .args = args});
  dialing_login(&d, NULL, "sesame");
  d.config.client_name = strdup("worker-1");
  d.config.database = 3;
  for (int protocol = 2; protocol <= 3; protocol++) {
    for (int tcp = 0; tcp < 2; tcp++) {
      d.config.protocol = protocol;
      if (tcp) dialing_to_port(&d, "localhost", redis_server_port(server));
      else dialing_to_path(&d, redis_server_path(server));
      assert_int_equal(dialing_run(&d, &conn, &err), 0);
      assert_int_equal(conn->protocol, protocol);
      char wanted[64];
      snprintf(wanted, sizeof wanted, "id=%lld ", (long long)conn->client_id);
      const char *info = dialing_ask(conn, "*2\r\n$6\r\nCLIENT\r\n$4\r\nINFO\r\n");
      assert_non_null(info);
      assert_int_equal(strncmp(info, wanted, strlen(wanted)), 0);
      assert_non_null(strstr(info, " name=worker-1 "));
      assert_non_null(strstr(info, " db=3 "));
      rm_close_reason why;
      assert_true(rm_conn_is_reusable(conn, &why));
      rm_conn_close(conn);
      conn = NULL;
    }
  }
  redis_server_stop(server);
}

static void refusals_of_a_real_server_keep_their_codes(void **state) {
  (void)state;
  const char *const args[] = {"--requirepass", "sesame", NULL};
  redis_server *server = redis_server_start(&(redis_server_options){.args = args});
  dialing_to_path(&d, redis_server_path(server));
  assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOAUTH");
  dialing_login(&d, "ann", "wrong-one");
  assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGPASS");
  assert_null(strstr(err.message, "wrong-one"));
  dialing_login(&d, NULL, "sesame");
  d.config.database = 99;
  assert_int_equal(dialing_run(&d, &conn, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "ERR");
  redis_server_stop(server);
}

static void a_real_server_with_too_many_clients_is_unavailable(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  dialing_to_path(&d, redis_server_path(server));
  assert_int_equal(dialing_run(&d, &conn, &err), 0);
  assert_string_equal(dialing_ask(conn, "*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$10\r\nmaxclients\r\n$1\r\n1\r\n"),
                      "OK");
  rm_conn *second = NULL;
  assert_int_equal(dialing_run(&d, &second, &err), REDMOON_EUNAVAILABLE);
  assert_null(second);
  assert_int_equal(err.retryable, 1);
  assert_non_null(strstr(err.message, "max number of clients"));
  redis_server_stop(server);
}

static void a_plain_dial_to_a_real_tls_port_ends_with_a_hint(void **state) {
  (void)state;
  const certs *c = certs_get();
  assert_non_null(c);
  redis_server *server = redis_server_start(
      &(redis_server_options){.tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file});
  dialing_to_port(&d, "127.0.0.1", redis_server_tls_port(server));
  assert_true(dialing_run(&d, &conn, &err) < 0);
  assert_non_null(strstr(err.message, "is it a TLS port?"));
  redis_server_stop(server);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_stalled_name_service_ends_with_the_deadline_and_is_named),
      TEST(an_unknown_name_says_so_with_the_address),
      TEST(many_dials_of_one_name_all_succeed),
      TEST(a_listener_that_does_not_answer_ends_with_the_deadline),
      TEST(a_unix_socket_whose_queue_empties_in_time_is_reached),
      TEST(a_black_hole_before_the_right_address_costs_its_share_only),
      TEST(a_refused_dial_is_retryable_and_has_its_address),
      TEST(an_ipv6_literal_is_shown_in_brackets),
      TEST(dripped_replies_and_a_storm_of_signals_do_not_prolong_the_deadline),
      TEST(a_deadline_that_has_passed_ends_before_anything_is_done),
      TEST(a_verified_tls_server_is_used),
      TEST(a_tls_server_of_another_name_is_refused_before_anything_is_sent),
      TEST(a_stalled_tls_handshake_ends_with_the_deadline),
      TEST(a_dial_given_up_at_any_step_closes_its_socket),
      TEST(a_dial_given_up_while_it_connects_closes_its_socket),
      TEST(lack_of_memory_at_any_point_is_told_and_leaks_nothing),
      TEST(a_real_server_is_reached_in_both_protocols_and_every_way),
      TEST(refusals_of_a_real_server_keep_their_codes),
      TEST(a_real_server_with_too_many_clients_is_unavailable),
      TEST(a_plain_dial_to_a_real_tls_port_ends_with_a_hint),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
