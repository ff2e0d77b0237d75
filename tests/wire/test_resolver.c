/* SPDX-License-Identifier: MIT */
/* Name look-ups: no thread for literals, a bounded number of them else, and nothing left behind. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/wants.h"
#include "wire/resolver.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A name service under the test's control: look-ups block until they are released. */
static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int begun, running, most, permits, released_lists, code;
  char hosts[16][32]; /* in the order they were begun */
  sigset_t mask;
} names = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int controlled(const char *host, const char *port, const struct addrinfo *hint, struct addrinfo **out) {
  (void)hint;
  pthread_mutex_lock(&names.mutex);
  pthread_sigmask(SIG_SETMASK, NULL, &names.mask);
  strncpy(names.hosts[names.begun % 16], host, 31);
  names.begun++;
  if (++names.running > names.most) names.most = names.running;
  pthread_cond_broadcast(&names.changed);
  while (names.permits == 0) pthread_cond_wait(&names.changed, &names.mutex);
  names.permits--;
  names.running--;
  int code = names.code;
  pthread_cond_broadcast(&names.changed);
  pthread_mutex_unlock(&names.mutex);
  if (code != 0) return code;
  struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
  return getaddrinfo("127.0.0.1", port, &numeric, out);
}

static void release_list(struct addrinfo *list) {
  freeaddrinfo(list);
  pthread_mutex_lock(&names.mutex);
  names.released_lists++;
  pthread_cond_broadcast(&names.changed);
  pthread_mutex_unlock(&names.mutex);
}

static void permit(int count) {
  pthread_mutex_lock(&names.mutex);
  names.permits += count;
  pthread_cond_broadcast(&names.changed);
  pthread_mutex_unlock(&names.mutex);
}

static void wait_for(const int *count, int wanted) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 20;
  pthread_mutex_lock(&names.mutex);
  int code = 0;
  while (*count < wanted && code == 0) code = pthread_cond_timedwait(&names.changed, &names.mutex, &until);
  int reached = *count;
  pthread_mutex_unlock(&names.mutex);
  assert_true(reached >= wanted);
}

static int set_up(void **state) {
  (void)state;
  names.begun = names.running = names.most = names.permits = names.released_lists = names.code = 0;
  rm_resolver_set_getaddrinfo(controlled, release_list);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  rm_resolver_set_getaddrinfo(NULL, NULL);
  return 0;
}

static rm_lookup *start(rm_resolver *resolver, const char *host) {
  rm_lookup *lookup = NULL;
  redmoon_error err;
  assert_int_equal(rm_lookup_start(resolver, host, 6379, &lookup, &err), 0);
  return lookup;
}

static int await(rm_lookup *lookup, const struct addrinfo **list, redmoon_error *err) {
  struct pollfd p = {.fd = rm_lookup_fd(lookup), .events = POLLIN};
  assert_int_equal(poll(&p, 1, 20000), 1);
  return rm_lookup_poll(lookup, list, err);
}

static void literal_addresses_are_done_at_once_without_a_look_up(void **state) {
  (void)state;
  static const char *const literals[] = {"127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"};
  rm_resolver *resolver = rm_resolver_new();
  for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++) {
    const struct addrinfo *list = NULL;
    rm_lookup *lookup = start(resolver, literals[i]);
    assert_int_equal(rm_lookup_fd(lookup), -1);
    assert_int_equal(rm_lookup_poll(lookup, &list, NULL), RM_DONE);
    assert_int_equal(list->ai_socktype, SOCK_STREAM);
    assert_int_equal(ntohs(((const struct sockaddr_in *)(const void *)list->ai_addr)->sin_port), 6379);
    rm_lookup_free(lookup);
  }
  assert_int_equal(names.begun, 0);
  rm_resolver_unref(resolver);
}

static void a_name_becomes_addresses_and_its_fd_readable(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  rm_lookup *lookup = start(resolver, "redis.example");
  const struct addrinfo *list = NULL;
  wait_for(&names.begun, 1);
  struct pollfd p = {.fd = rm_lookup_fd(lookup), .events = POLLIN};
  assert_int_equal(poll(&p, 1, 0), 0);
  assert_int_equal(rm_lookup_poll(lookup, &list, NULL), RM_WAIT);
  permit(1);
  assert_int_equal(await(lookup, &list, NULL), RM_DONE);
  assert_string_equal(names.hosts[0], "redis.example");
  assert_non_null(list->ai_addr);
  rm_lookup_free(lookup);
  wait_for(&names.released_lists, 1);
  rm_resolver_unref(resolver);
}

static void an_unknown_name_is_a_connect_error_that_names_it(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  names.code = EAI_NONAME;
  permit(1);
  rm_lookup *lookup = start(resolver, "no.such.name");
  const struct addrinfo *list = NULL;
  redmoon_error err;
  assert_int_equal(await(lookup, &list, &err), REDMOON_ECONNECT);
  assert_int_equal(err.phase, REDMOON_PHASE_RESOLVE);
  assert_non_null(strstr(err.message, "no.such.name"));
  rm_lookup_free(lookup);
  rm_resolver_unref(resolver);
}

static void at_most_four_run_and_the_others_wait_their_turn_in_order(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  rm_lookup *lookups[10];
  for (int i = 0; i < 10; i++) {
    char host[16] = {'h', (char)('a' + i), '\0'};
    lookups[i] = start(resolver, host);
  }
  wait_for(&names.begun, RM_RESOLVER_MAX);
  for (int i = 0; i < 6; i++) {
    permit(1);
    wait_for(&names.begun, RM_RESOLVER_MAX + i + 1);
    assert_int_equal(names.hosts[RM_RESOLVER_MAX + i][1], 'a' + RM_RESOLVER_MAX + i);
  }
  permit(4);
  for (int i = 0; i < 10; i++) {
    const struct addrinfo *list = NULL;
    assert_int_equal(await(lookups[i], &list, NULL), RM_DONE);
    rm_lookup_free(lookups[i]);
  }
  assert_int_equal(names.most, RM_RESOLVER_MAX);
  rm_resolver_unref(resolver);
}

static void a_look_up_given_up_ends_alone_and_frees_its_result(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  rm_lookup *lookup = start(resolver, "slow.example");
  wait_for(&names.begun, 1);
  rm_lookup_free(lookup);
  rm_resolver_unref(resolver);
  assert_int_equal(names.released_lists, 0);
  permit(1);
  wait_for(&names.released_lists, 1);
}

static void a_look_up_given_up_in_the_queue_is_never_begun(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  rm_lookup *lookups[6];
  for (int i = 0; i < 6; i++) lookups[i] = start(resolver, i == 4 ? "given.up" : "kept");
  wait_for(&names.begun, RM_RESOLVER_MAX);
  rm_lookup_free(lookups[4]);
  permit(5);
  for (int i = 0; i < 6; i++) {
    const struct addrinfo *list = NULL;
    if (i == 4) continue;
    assert_int_equal(await(lookups[i], &list, NULL), RM_DONE);
    rm_lookup_free(lookups[i]);
  }
  assert_int_equal(names.begun, 5);
  for (int i = 0; i < 5; i++) assert_string_equal(names.hosts[i], "kept");
  rm_resolver_unref(resolver);
}

static void all_signals_are_blocked_on_the_thread(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  sigset_t none, before, after;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, &before);
  permit(1);
  rm_lookup *lookup = start(resolver, "any");
  const struct addrinfo *list = NULL;
  assert_int_equal(await(lookup, &list, NULL), RM_DONE);
  assert_true(sigismember(&names.mask, SIGTERM) && sigismember(&names.mask, SIGALRM) &&
              sigismember(&names.mask, SIGCHLD) && sigismember(&names.mask, SIGUSR1));
  pthread_sigmask(SIG_SETMASK, &before, &after);
  for (int i = 1; i < 32; i++) assert_int_equal(sigismember(&after, i), 0);
  rm_lookup_free(lookup);
  rm_resolver_unref(resolver);
}

static void without_a_thread_it_is_unavailable(void **state) {
  (void)state;
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_NPROC, &none) != 0) _exit(10);
    if (geteuid() == 0 && setuid(65534) != 0) _exit(11); /* root is exempt from the limit */
    rm_resolver *resolver = rm_resolver_new();
    rm_lookup *lookup = NULL;
    const struct addrinfo *list = NULL;
    redmoon_error err;
    if (rm_lookup_start(resolver, "any", 1, &lookup, &err) != 0) _exit(12);
    struct pollfd p = {.fd = rm_lookup_fd(lookup), .events = POLLIN};
    if (poll(&p, 1, 0) != 1) _exit(13);
    if (rm_lookup_poll(lookup, &list, &err) != REDMOON_EUNAVAILABLE) _exit(14);
    rm_lookup_free(lookup);
    rm_resolver_unref(resolver);
    _exit(strstr(err.message, "any") != NULL ? 0 : 15);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static void without_memory_it_says_so(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  rm_lookup *lookup = NULL;
  redmoon_error err;
  rm_alloc_set_refuse(refuse_all, NULL);
  int status = rm_lookup_start(resolver, "any", 1, &lookup, &err);
  rm_resolver *second = rm_resolver_new();
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(status, REDMOON_ENOMEM);
  assert_null(lookup);
  assert_null(second);
  rm_resolver_unref(resolver);
}

static void localhost_is_found_by_the_system(void **state) {
  (void)state;
  rm_resolver_set_getaddrinfo(NULL, NULL);
  rm_resolver *resolver = rm_resolver_new();
  rm_lookup *lookup = start(resolver, "localhost");
  const struct addrinfo *list = NULL;
  assert_int_equal(await(lookup, &list, NULL), RM_DONE);
  assert_true(list->ai_family == AF_INET || list->ai_family == AF_INET6);
  rm_lookup_free(lookup);
  rm_resolver_unref(resolver);
}

/* ThreadSanitizer ends a process that creates a thread after a fork of a multi-threaded one. */
#ifndef __SANITIZE_THREAD__
static void after_a_fork_the_child_is_not_held_up_by_the_parents_look_ups(void **state) {
  (void)state;
  rm_resolver *resolver = rm_resolver_new();
  rm_lookup *lookups[RM_RESOLVER_MAX];
  for (int i = 0; i < RM_RESOLVER_MAX; i++) lookups[i] = start(resolver, "stuck");
  wait_for(&names.begun, RM_RESOLVER_MAX);
  pid_t pid = fork();
  if (pid == 0) {
    alarm(20);
    rm_resolver_set_getaddrinfo(NULL, NULL);
    rm_resolver_forked(resolver);
    rm_lookup *lookup = NULL;
    if (rm_lookup_start(resolver, "localhost", 1, &lookup, NULL) != 0) _exit(1);
    struct pollfd p = {.fd = rm_lookup_fd(lookup), .events = POLLIN};
    _exit(poll(&p, 1, 15000) == 1 ? 0 : 2);
  }
  permit(RM_RESOLVER_MAX);
  for (int i = 0; i < RM_RESOLVER_MAX; i++) {
    const struct addrinfo *list = NULL;
    assert_int_equal(await(lookups[i], &list, NULL), RM_DONE);
    rm_lookup_free(lookups[i]);
  }
  rm_resolver_unref(resolver);
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(literal_addresses_are_done_at_once_without_a_look_up),
      TEST(a_name_becomes_addresses_and_its_fd_readable),
      TEST(an_unknown_name_is_a_connect_error_that_names_it),
      TEST(at_most_four_run_and_the_others_wait_their_turn_in_order),
      TEST(a_look_up_given_up_ends_alone_and_frees_its_result),
      TEST(a_look_up_given_up_in_the_queue_is_never_begun),
      TEST(all_signals_are_blocked_on_the_thread),
      TEST(without_a_thread_it_is_unavailable),
      TEST(without_memory_it_says_so),
      TEST(localhost_is_found_by_the_system),
#ifndef __SANITIZE_THREAD__
      TEST(after_a_fork_the_child_is_not_held_up_by_the_parents_look_ups),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
