/* SPDX-License-Identifier: MIT */
/* A partition with the client on the side of the old primary:
 *
 *      here:   primary, one sentinel, this program       |cut for some seconds|      there:   two replicas, two sentinels
 *
 * Those over there make a primary of their own.  Jobs are pushed all the while, by one thread to a queue with min_replicas = 1,
 * and by another to one without.  When both sides are one again and the old primary has become a replica, every push that
 * was acknowledged is looked for on the new one.
 *
 *   safe      with min_replicas = 1: none is missing.
 *   plain     the control: some must be missing, else the run has shown nothing.
 *
 * Two network namespaces, one of them this program's own, joined by a pair of devices: without the right to make them it is
 * skipped, and says so. */
#define _GNU_SOURCE
#include <redmoon/redmoon.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PRIMARY_PORT = 7000, SENTINEL_PORT = 27000, SERVERS = 6, CUT_MS = 5000, WHOLE_MS = 1500, LIMIT_MS = 90000, IDS = 400000 };

static const char here[] = "10.77.0.1", there[] = "10.77.0.2";
static char dir[] = "/tmp/redmoon-partition-XXXXXX";
static pid_t far_side; /* holds the other namespace */
static pid_t servers[SERVERS];

static int64_t now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The environment. */

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...) {
  char command[600];
  va_list args;
  va_start(args, format);
  vsnprintf(command, sizeof command, format, args);
  va_end(args);
  return system(command);
}

static int skip(const char *why) {
  printf("sentinel_partition: skipped: %s\n0 passed, 0 failed, 1 skipped\n", why);
  return 0;
}

static void end_all(void) {
  for (int i = 0; i < SERVERS; i++)
    if (servers[i] > 0) {
      kill(servers[i], SIGKILL);
      waitpid(servers[i], NULL, 0);
      servers[i] = 0;
    }
  if (far_side > 0) {
    kill(far_side, SIGKILL);
    waitpid(far_side, NULL, 0);
  }
  far_side = 0;
  (void)run("rm -rf %s", dir);
}

static _Noreturn void die(const char *what) {
  printf("FAILED: %s\n", what);
  (void)run("tail -n 20 %s/log-*", dir);
  end_all();
  printf("0 passed, 1 failed, 0 skipped\n");
  exit(1);
}

/* A child that only holds a network of its own; false when it may not have one. */
static bool open_far_side(void) {
  int ready[2];
  char byte = 0;
  if (pipe(ready) != 0) return false;
  pid_t parent = getpid();
  far_side = fork();
  if (far_side == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || unshare(CLONE_NEWNET) != 0) _exit(1);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  close(ready[1]);
  bool opened = far_side > 0 && read(ready[0], &byte, 1) == 1;
  close(ready[0]);
  return opened;
}

static bool join_sides(void) {
  return run("ip link set lo up && ip link add near type veth peer name far netns %d", (int)far_side) == 0 &&
         run("ip addr add %s/24 dev near && ip link set near up", here) == 0 &&
         run("nsenter -t %d -n sh -c 'ip link set lo up; ip addr add %s/24 dev far && ip link set far up'", (int)far_side, there) == 0;
}

static void launch(int slot, const char *words[]) {
  const char *program = getenv("REDMOON_TEST_SERVER");
  char pid[16], log[100];
  const char *args[40];
  size_t n = 0;
  snprintf(pid, sizeof pid, "%d", (int)far_side);
  snprintf(log, sizeof log, "%s/log-%d", dir, slot);
  bool is_there = slot % 3 != 0;
  if (is_there) {
    const char *const enter[] = {"nsenter", "-t", pid, "-n"};
    for (size_t i = 0; i < 4; i++) args[n++] = enter[i];
  }
  args[n++] = program != NULL ? program : "redis-server";
  for (size_t i = 0; words[i] != NULL; i++) args[n++] = words[i];
  const char *const rest[] = {"--bind", is_there ? there : here, "--protected-mode", "no", "--dir", dir, "--logfile", log,
                              "--save", "", "--appendonly", "no", "--daemonize", "no"};
  for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) args[n++] = rest[i];
  args[n] = NULL;
  pid_t parent = getpid();
  servers[slot] = fork();
  if (servers[slot] < 0) die("fork");
  if (servers[slot] > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* nsenter becomes the server: the process is the same */
  if (getppid() != parent) _exit(126);
  int null = open("/dev/null", O_RDWR);
  dup2(null, 0);
  dup2(null, 1);
  dup2(null, 2);
  execvp(args[0], (char *const *)(uintptr_t)args);
  _exit(127);
}

/* Asking, by clients that know one server each. */

static bool server_says(const char *host, int port, const char *section, const char *wanted) {
  char url[60];
  snprintf(url, sizeof url, "redis://%s:%d", host, port);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = 500;
  options.max_retries = 0;
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(url, &options, &client, &err) != 0) die(err.message);
  redmoon_reply *reply = NULL;
  bool says = redmoon_command(client, 2, (const char *[]){"INFO", section}, NULL, &reply, &err) == 0 &&
              redmoon_reply_type(reply) != REDMOON_ERROR && strstr(redmoon_reply_string(reply, NULL), wanted) != NULL;
  redmoon_reply_free(reply);
  redmoon_client_close(client);
  return says;
}

static void await(const char *host, int port, const char *section, const char *wanted) {
  for (int64_t by = now_ms() + LIMIT_MS; !server_says(host, port, section, wanted); poll(NULL, 0, 20))
    if (now_ms() > by) die(wanted);
}

static void start_servers(void) {
  char port[SERVERS][16], config[3][100];
  for (int i = 0; i < 3; i++) {
    snprintf(port[i], sizeof port[i], "%d", PRIMARY_PORT + i);
    const char *primary[] = {"--port", port[i], NULL};
    const char *replica[] = {"--port", port[i], "--replicaof", here, port[0], "--repl-diskless-sync-delay", "0", "--repl-timeout", "5",
                             "--repl-ping-replica-period", "1", NULL};
    launch(i, i == 0 ? primary : replica);
    if (i == 0) await(here, PRIMARY_PORT, "server", "redis_version");
  }
  for (int i = 1; i < 3; i++) await(there, PRIMARY_PORT + i, "replication", "master_link_status:up");
  for (int i = 0; i < 3; i++) {
    snprintf(config[i], sizeof config[i], "%s/sentinel-%d", dir, i);
    FILE *file = fopen(config[i], "w");
    if (file == NULL) die("no configuration file");
    fprintf(file, "sentinel monitor main %s %d 2\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n", here,
            PRIMARY_PORT);
    fclose(file);
    snprintf(port[3 + i], sizeof port[0], "%d", SENTINEL_PORT + i);
    const char *sentinel[] = {config[i], "--sentinel", "--port", port[3 + i], NULL};
    launch(3 + i, sentinel);
  }
  for (int i = 0; i < 3; i++) await(i == 0 ? here : there, SENTINEL_PORT + i, "sentinel", "slaves=2,sentinels=3");
}

/* Pushing. */

typedef struct pusher {
  pthread_t thread;
  redmoon_client *client;
  redmoon_queue *queue;
  atomic_bool stop;
  int64_t refused;
  int count; /* of ids */
  char acked[IDS];
} pusher;

static void *push_on(void *arg) {
  pusher *p = arg;
  char id[24];
  for (p->count = 0; !atomic_load(&p->stop) && p->count < IDS; p->count++) {
    snprintf(id, sizeof id, "%d", p->count);
    redmoon_queue_item item = REDMOON_QUEUE_ITEM_INIT;
    item.payload = "x";
    item.len = 1;
    item.id = id;
    redmoon_queue_pushed pushed;
    redmoon_error err;
    int rc = redmoon_queue_push(p->queue, &item, NULL, &pushed, &err);
    p->acked[p->count] = rc == 0;
    p->refused += rc != 0;
    poll(NULL, 0, 1);
  }
  return NULL;
}

static pusher *begin(const char *url, const char *name, int64_t min_replicas) {
  pusher *p = calloc(1, sizeof *p);
  redmoon_error err;
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.min_replicas = min_replicas;
  if (p == NULL) die("memory");
  if (redmoon_client_open(url, NULL, &p->client, &err) != 0) die(err.message);
  if (redmoon_queue_new(p->client, name, strlen(name), &options, &p->queue, &err) != 0) die(err.message);
  if (pthread_create(&p->thread, NULL, push_on, p) != 0) die("no thread");
  return p;
}

/* How many that were acknowledged are not there. */
static int64_t end(pusher *p, const char *name) {
  int64_t acked = 0, missing = 0;
  char id[24];
  redmoon_error err;
  for (int i = 0; i < p->count; i++) {
    if (!p->acked[i]) continue;
    acked++;
    snprintf(id, sizeof id, "%d", i);
    redmoon_job_list *list = NULL;
    if (redmoon_queue_peek(p->queue, id, &list, &err) != 0) die(err.message);
    missing += list == NULL || list->count == 0;
    redmoon_job_list_free(list);
  }
  printf("%s: %lld acknowledged, %lld not; %lld of the acknowledged are lost\n", name, (long long)acked, (long long)p->refused,
         (long long)missing);
  redmoon_queue_free(p->queue);
  redmoon_client_close(p->client);
  free(p);
  return acked > 0 ? missing : -1;
}

/* One partition.  Both counts are of acknowledged pushes that are lost. */
static void partition(int64_t *safe, int64_t *plain) {
  char url[200];
  snprintf(url, sizeof url, "redis+sentinel://%s:%d,%s:%d,%s:%d/main", here, SENTINEL_PORT, there, SENTINEL_PORT + 1, there, SENTINEL_PORT + 2);
  pusher *with = begin(url, "safe", 1), *without = begin(url, "plain", 0);
  poll(NULL, 0, WHOLE_MS);
  if (run("ip link set near down") != 0) die("the link does not go down");
  poll(NULL, 0, CUT_MS); /* how long it lasts is what is tested */
  if (run("ip link set near up") != 0) die("the link does not come up");
  await(here, PRIMARY_PORT, "replication", "role:slave");
  await(here, PRIMARY_PORT, "replication", "master_link_status:up");
  poll(NULL, 0, WHOLE_MS);
  atomic_store(&with->stop, true);
  atomic_store(&without->stop, true);
  pthread_join(with->thread, NULL);
  pthread_join(without->thread, NULL);
  *safe = end(with, "min_replicas = 1");
  *plain = end(without, "without");
}

static int soak(void) {
  if (!open_far_side() || !join_sides()) {
    end_all();
    return skip("a pair of network devices between two namespaces is not to be had");
  }
  start_servers();
  int64_t safe, plain;
  partition(&safe, &plain);
  end_all();
  bool kept = safe == 0, shown = plain > 0;
  if (!kept) printf("FAILED: a push that a replica had was lost, or none was acknowledged\n");
  if (!shown) printf("FAILED: the control lost nothing, so the run shows nothing\n");
  printf("%d passed, %d failed, 0 skipped\n", kept + shown, !kept + !shown);
  return kept && shown ? 0 : 1;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--inside") == 0) {
    if (mkdtemp(dir) == NULL) die("no folder");
    return soak();
  }
  if (system("unshare -n true 2>/dev/null && command -v ip nsenter >/dev/null") == 0) execlp("unshare", "unshare", "-n", argv[0], "--inside", (char *)NULL);
  if (system("unshare -Urn true 2>/dev/null && command -v ip nsenter >/dev/null") == 0)
    execlp("unshare", "unshare", "-Urn", argv[0], "--inside", (char *)NULL);
  return skip("no network namespace is to be had (unshare, ip and nsenter are needed)");
}
