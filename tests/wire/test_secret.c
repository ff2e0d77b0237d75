/* SPDX-License-Identifier: MIT */
/* The password is nowhere in this process but in the config, once the handshake is done, however it ended. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/random.h"
#include "support/certs.h"
#include "support/dialing.h"
#include "support/redis_server.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECRET_LEN = 32, CHUNK = 1 << 16 };

/* The secret is kept in disguise, so that the search does not find what it looks for in its own variables. */
static char disguised[SECRET_LEN];

static bool is_secret_at(const char *ptr) {
  for (int i = 0; i < SECRET_LEN; i++)
    if ((ptr[i] ^ 0x55) != disguised[i]) return false;
  return true;
}

static int count_in_chunk(const char *chunk, size_t len) {
  int count = 0;
  const char *end = chunk + len, *at = chunk;
  while (end - at >= SECRET_LEN && (at = memchr(at, disguised[0] ^ 0x55, (size_t)(end - at))) != NULL) {
    count += end - at >= SECRET_LEN && is_secret_at(at);
    at++;
  }
  return count;
}

static int count_in_range(int memory, unsigned long begin, unsigned long end, char *chunk) {
  int count = 0;
  for (unsigned long at = begin; at < end; at += CHUNK) {
    /* Not beyond the end: what follows, guard pages too, can be read this way and is counted by itself. */
    size_t want = end - at < CHUNK + SECRET_LEN - 1 ? end - at : CHUNK + SECRET_LEN - 1;
    ssize_t n = pread(memory, chunk, want, (off_t)at);
    if (n > 0) count += count_in_chunk(chunk, (size_t)n);
    memset(chunk, 0, CHUNK + SECRET_LEN);
  }
  return count;
}

/* How often the secret stands in the writable memory of this process. */
static int count_copies(void) {
  static char chunk[CHUNK + SECRET_LEN];
  char line[512], access[8];
  unsigned long begin, end;
  int count = 0, memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  FILE *maps = fopen("/proc/self/maps", "r");
  assert_true(memory >= 0 && maps != NULL);
  while (fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx %7s", &begin, &end, access) != 3 || strncmp(access, "rw", 2) != 0) continue;
    /* Larger ones are a sanitizer's shadow: mostly never touched, and no copies of anything. */
    if (end - begin < (unsigned long)1 << 28) count += count_in_range(memory, begin, end, chunk);
  }
  fclose(maps);
  close(memory);
  return count;
}

static redis_server *start_server(bool tls) {
  const certs *c = certs_get();
  assert_non_null(c);
  redis_server_options options = {0};
  if (tls) options = (redis_server_options){.tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file};
  return redis_server_start(&options);
}

static void make_secret(rm_secret *secret) {
  assert_int_equal(rm_secret_resize(secret, SECRET_LEN), 0);
  char digits[SECRET_LEN + 1];
  rm_random_hex(digits, SECRET_LEN / 2);
  for (int i = 0; i < SECRET_LEN; i++) {
    secret->bytes[i] = digits[i];
    disguised[i] = (char)(digits[i] ^ 0x55);
  }
  rm_wipe(digits, sizeof digits);
}

/* Sets the server's password by a process of its own, which takes its copies of it to the grave. */
static void demand_password(const redis_server *server, const rm_secret *secret) {
  pid_t pid = fork();
  if (pid == 0) {
    char command[128];
    snprintf(command, sizeof command, "CONFIG SET requirepass %s", secret->bytes);
    _exit(strcmp(redis_server_ask(server, NULL, command), "+OK") == 0 ? 0 : 1);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check(bool tls, int protocol, bool right) {
  redis_server *server = start_server(tls);
  dialing d;
  dialing_init(&d);
  redmoon_error err;
  rm_conn *conn = NULL;
  make_secret(&d.config.password);
  if (right) demand_password(server, &d.config.password);
  d.config.protocol = protocol;
  dialing_to_path(&d, redis_server_path(server));
  if (tls) {
    d.config.tls = d.config.tls_verify = true;
    d.config.tls_min_version = 12;
    d.config.tls_ca_file = (char *)(uintptr_t)certs_get()->ca_file;
    assert_int_equal(rm_tls_new(&d.config, &d.dialer.tls, &err), 0);
    dialing_to_port(&d, "127.0.0.1", redis_server_tls_port(server));
  }
  assert_int_equal(count_copies(), 1); /* the config's own: the search works */
  int status = dialing_run(&d, &conn, &err);
  assert_int_equal(status, right ? 0 : REDMOON_ESERVER);
  assert_int_equal(count_copies(), 1);
  rm_conn_close(conn);
  assert_int_equal(count_copies(), 1);
  rm_secret_fini(&d.config.password);
  assert_int_equal(count_copies(), 0);
  rm_tls_free(d.dialer.tls);
  dialing_fini(&d);
  redis_server_stop(server);
}

static void a_login_leaves_no_copy_of_the_password(void **state) {
  (void)state;
  check(false, 3, true);
  check(false, 2, true);
}

static void a_login_under_tls_leaves_no_copy_of_the_password(void **state) {
  (void)state;
  check(true, 3, true);
}

static void a_refused_login_leaves_no_copy_of_the_password(void **state) {
  (void)state;
  check(false, 2, false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_login_leaves_no_copy_of_the_password),
      cmocka_unit_test(a_login_under_tls_leaves_no_copy_of_the_password),
      cmocka_unit_test(a_refused_login_leaves_no_copy_of_the_password),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
