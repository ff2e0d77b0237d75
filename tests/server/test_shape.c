/* SPDX-License-Identifier: MIT */
/* Every shape rule against a real server: each command is sent by RESP2 and by RESP3, and the RESP2 reply, with its
 * shape applied, must be the RESP3 reply. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/reply_fixtures.h"
#include "wire/reader.h"
#include "wire/request.h"
#include "wire/shape.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_MAX = 4 << 20 };

typedef struct server {
  char dir[64], socket[96];
  int port, bus;
  pid_t pid;
} server;

static void run_server(const server *s, const char *const *more) {
  const char *argv[32] = {"redis-server"};
  size_t n = 1;
  if (strcmp(more[0], "--sentinel") == 0) argv[n++] = "sentinel.conf";
  const char *const usual[] = {"--unixsocket", s->socket, "--save",    "",
                               "--loglevel",   "warning", "--logfile", "log"};
  for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) argv[n++] = usual[i];
  for (size_t i = 0; more[i] != NULL; i++) argv[n++] = more[i];
  argv[n] = NULL;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (chdir(s->dir) == 0) execvp(argv[0], (char *const *)argv);
  _exit(127);
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

static void pause_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

static void start(server *s, const char *const *more) {
  s->pid = fork();
  assert_true(s->pid >= 0);
  if (s->pid == 0) run_server(s, more);
  for (int i = 0; i < 1000; i++) { /* until it listens, 10 s at most */
    int fd = connect_to(s->socket);
    if (fd >= 0) {
      close(fd);
      return;
    }
    if (waitpid(s->pid, NULL, WNOHANG) == s->pid) fail_msg("redis-server ended; it must be installed");
    pause_ms(10);
  }
  fail_msg("redis-server does not listen on %s", s->socket);
}

/* What runs, for the teardown: a test that failed leaves nothing behind either. */
static server *running[4];
static size_t running_count;

static void prepare(server *s) {
  strcpy(s->dir, "/tmp/redmoon-shape-XXXXXX");
  assert_non_null(mkdtemp(s->dir));
  snprintf(s->socket, sizeof s->socket, "%s/s", s->dir);
  running[running_count++] = s;
}

static int stop_all(void **state) {
  (void)state;
  int failures = 0;
  while (running_count > 0) {
    const server *s = running[--running_count];
    char command[128];
    if (s->pid > 0) {
      kill(s->pid, SIGKILL);
      waitpid(s->pid, NULL, 0);
    }
    snprintf(command, sizeof command, "rm -r %s", s->dir);
    failures += system(command) != 0;
  }
  return failures;
}

typedef struct link {
  int fd;
  rm_reader *reader;
  rm_arena arena;
} link_t;

static redmoon_reply *receive(link_t *l) {
  redmoon_reply *reply = NULL;
  redmoon_error err;
  int rc;
  while ((rc = rm_reader_next(l->reader, &l->arena, &reply, &err)) == 0) {
    size_t room;
    char *space = rm_reader_space(l->reader, rm_reader_want(l->reader), &room);
    ssize_t n = recv(l->fd, space, room, 0);
    assert_true(n > 0);
    rm_reader_added(l->reader, (size_t)n);
  }
  if (rc < 0) fail_msg("%s", err.message);
  return reply;
}

/* Words are parted by blanks; returns the reply, and the rule for it when `shape` is not NULL. */
static redmoon_reply *command(link_t *l, const char *line, unsigned *shape) {
  rm_shape_arg args[64];
  size_t count = 0;
  for (const char *at = line; at != NULL;) {
    const char *blank = strchr(at, ' ');
    args[count++] = (rm_shape_arg){at, blank != NULL ? (size_t)(blank - at) : strlen(at)};
    at = blank != NULL ? blank + 1 : NULL;
  }
  rm_request request;
  rm_request_init(&request);
  rm_request_begin(&request, count);
  for (size_t i = 0; i < count; i++) rm_request_arg(&request, args[i].ptr, args[i].len);
  assert_int_equal(rm_request_end(&request, 0, 0), 0);
  size_t len = rm_buffer_len(&request.bytes);
  assert_int_equal(send(l->fd, rm_buffer_begin(&request.bytes), len, MSG_NOSIGNAL), len);
  rm_request_fini(&request);
  if (shape != NULL) *shape = rm_shape_of(args[0].ptr, args[0].len, args + 1, count - 1);
  return receive(l);
}

static void open_link(link_t *l, const server *s, int protocol) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  *l = (link_t){connect_to(s->socket), rm_reader_new(&limits), {0}};
  assert_true(l->fd >= 0);
  struct timeval patience = {20, 0};
  setsockopt(l->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  redmoon_reply *reply = command(l, protocol == 3 ? "HELLO 3" : "HELLO 2", NULL);
  assert_int_not_equal(redmoon_reply_type(reply), REDMOON_ERROR);
}

static void close_link(link_t *l) {
  close(l->fd);
  rm_reader_free(l->reader);
  rm_arena_fini(&l->arena);
}

/* Types only; neighbours of the same form are written once, so that counts that change between two calls do not
 * count. */
static void skeleton(const redmoon_reply *r, char *out) {
  static const char *const names[] = {"nil", "status", "error", "int", "double", "bool", "string",
                                      "big", "verb",   "[",     "~[",  "{",      ">["};
  redmoon_type type = redmoon_reply_type(r);
  strcpy(out, names[type]);
  if (type < REDMOON_ARRAY) return;
  char *last = calloc(1, 65536), *item = calloc(1, 65536);
  for (size_t i = 0; i < redmoon_reply_count(r); i++) {
    if (type == REDMOON_MAP) {
      skeleton(redmoon_reply_key(r, i), item);
      strcat(item, ":");
      skeleton(redmoon_reply_value(r, i), item + strlen(item));
    } else {
      skeleton(redmoon_reply_at(r, i), item);
    }
    if (strcmp(item, last) != 0) {
      strcat(out, " ");
      strcat(out, item);
    }
    strcpy(last, item);
  }
  strcat(out, "]");
  free(last);
  free(item);
}

static const char *const setup[] = {
    "FLUSHALL",
    "HSET h a 1 b 2",
    "ZADD z 1 a 2.5 b 0.1 c inf d",
    "ZADD y 1 a",
    "SADD s a b c",
    "SADD t a x",
    "GEOADD g 13.36 38.11 P 15.08 37.5 Q",
    "XADD x 1-1 a 1",
    "XADD x 1-2 b 2",
    "XGROUP CREATE x grp 0",
    "XREADGROUP GROUP grp me COUNT 1 STREAMS x >",
    "SET k1 ohmytext",
    "SET k2 mynewtext",
    "RPUSH l 3 1 2",
    "ACL SETUSER bob reset on >pw ~a* &x +get (~b* +set)",
    "CONFIG SET latency-monitor-threshold 1",
    "CONFIG SET maxmemory 0",
    "DEBUG SLEEP 0.002",
    "ACL LOG RESET",
    "AUTH bob wrong",
    /* one word per line of source: arguments of a request here hold no blank */
    "FUNCTION LOAD REPLACE "
    "#!lua\tname=lib\nredis.register_function{function_name='f1',callback=function(keys)return(1)end,"
    "flags={'no-writes'},description='d'}",
};

typedef enum how { EXACT, FORM } how; /* FORM: what it holds changes from call to call */
typedef struct shape_case {
  how how;
  const char *line;
} shape_case;

static const shape_case cases[] = {
    {EXACT, "HGETALL h"},
    {EXACT, "HGETALL none"},
    {FORM, "HRANDFIELD h"},
    {FORM, "HRANDFIELD h 2"},
    {EXACT, "HRANDFIELD h 5 WITHVALUES"},
    {EXACT, "HMGET h a none"},
    {EXACT, "HKEYS h"},
    {EXACT, "HVALS h"},
    {EXACT, "HSCAN h 0"},
    {EXACT, "HINCRBYFLOAT h a 1.5"},
    {EXACT, "CONFIG GET maxmem*"},
    {EXACT, "config get none"},
    {EXACT, "ZSCORE z a"},
    {EXACT, "ZSCORE z c"},
    {EXACT, "ZSCORE z d"},
    {EXACT, "ZSCORE z none"},
    {EXACT, "ZINCRBY z 1.25 a"},
    {EXACT, "ZADD z INCR 1 a"},
    {EXACT, "ZADD z NX INCR 1 a"},
    {EXACT, "ZADD z XX CH INCR 1 a"},
    {EXACT, "ZADD z 1 INCR"},
    {EXACT, "ZMSCORE z a none c"},
    {EXACT, "ZRANGE z 0 -1"},
    {EXACT, "ZRANGE z 0 -1 WITHSCORES"},
    {EXACT, "ZRANGE none 0 -1 WITHSCORES"},
    {EXACT, "ZRANGE z 0 9 BYSCORE LIMIT 0 2 WITHSCORES"},
    {EXACT, "ZREVRANGE z 0 -1 WITHSCORES"},
    {EXACT, "ZREVRANGE z 0 -1"},
    {EXACT, "ZRANGEBYSCORE z -inf +inf WITHSCORES LIMIT 0 2"},
    {EXACT, "ZRANGEBYSCORE z -inf +inf"},
    {EXACT, "ZREVRANGEBYSCORE z +inf -inf WITHSCORES"},
    {EXACT, "ZRANGEBYLEX z - +"},
    {EXACT, "ZRANDMEMBER y"},
    {EXACT, "ZRANDMEMBER y 5"},
    {EXACT, "ZRANDMEMBER y 5 WITHSCORES"},
    {EXACT, "ZDIFF 2 z y WITHSCORES"},
    {EXACT, "ZDIFF 2 z y"},
    {EXACT, "ZINTER 2 z y WITHSCORES"},
    {EXACT, "ZUNION 2 z y WEIGHTS 1 2 WITHSCORES"},
    {EXACT, "ZUNION 2 z y"},
    {EXACT, "ZUNION 2 z WITHSCORES"},
    {EXACT, "ZRANK z a"},
    {EXACT, "ZREVRANK z none"},
    {EXACT, "ZSCAN z 0"},
    {EXACT, "ZPOPMIN z"},
    {EXACT, "ZPOPMAX z 2"},
    {EXACT, "ZPOPMIN none"},
    {EXACT, "ZPOPMAX none 3"},
    {EXACT, "ZPOPMIN z 1"},
    {EXACT, "BZPOPMIN z 1"},
    {EXACT, "BZPOPMAX z 1"},
    {EXACT, "BZPOPMAX none 0.01"},
    {EXACT, "ZMPOP 1 z MIN COUNT 2"},
    {EXACT, "ZMPOP 1 none MIN"},
    {EXACT, "BZMPOP 1 1 z MAX COUNT 2"},
    {EXACT, "BZMPOP 0.01 1 none MAX"},
    {EXACT, "ZCOUNT z 0 9"},
    {EXACT, "GEOPOS g P none"},
    {EXACT, "GEODIST g P Q"},
    {EXACT, "GEOHASH g P"},
    {EXACT, "GEORADIUS g 15 37 200 km WITHDIST WITHCOORD WITHHASH"},
    {EXACT, "GEORADIUS g 15 37 200 km WITHCOORD"},
    {EXACT, "GEORADIUS g 15 37 200 km WITHDIST"},
    {EXACT, "GEORADIUSBYMEMBER g P 200 km WITHCOORD"},
    {EXACT, "GEORADIUSBYMEMBER_RO g P 200 km WITHCOORD"},
    {EXACT, "GEORADIUS_RO g 15 37 200 km WITHCOORD WITHHASH"},
    {EXACT, "GEOSEARCH g FROMMEMBER P BYRADIUS 200 km WITHCOORD WITHDIST"},
    {EXACT, "GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC"},
    {EXACT, "XREAD STREAMS x 0"},
    {EXACT, "XREAD STREAMS x 9"},
    {EXACT, "XREADGROUP GROUP grp me STREAMS x >"},
    {EXACT, "XREADGROUP GROUP grp me STREAMS x 0"},
    {EXACT, "XRANGE x - +"},
    {EXACT, "XINFO STREAM x"},
    {FORM, "XINFO STREAM x FULL"},
    {EXACT, "XINFO GROUPS x"},
    {FORM, "XINFO CONSUMERS x grp"},
    {EXACT, "XPENDING x grp"},
    {FORM, "XPENDING x grp - + 10"},
    {EXACT, "XAUTOCLAIM x grp me 0 0"},
    {EXACT, "SMEMBERS s"},
    {EXACT, "SMEMBERS none"},
    {EXACT, "SINTER s t"},
    {EXACT, "SUNION s t"},
    {EXACT, "SDIFF s t"},
    {FORM, "SPOP s"},
    {FORM, "SPOP s 2"},
    {EXACT, "SPOP none 2"},
    {EXACT, "SPOP none"},
    {FORM, "SRANDMEMBER s 2"},
    {EXACT, "SMISMEMBER s a z"},
    {EXACT, "SSCAN s 0"},
    {EXACT, "LCS k1 k2"},
    {EXACT, "LCS k1 k2 LEN"},
    {EXACT, "LCS k1 k2 IDX"},
    {EXACT, "LCS k1 k2 MINMATCHLEN 2 IDX WITHMATCHLEN"},
    {EXACT, "FUNCTION LIST"},
    {EXACT, "FUNCTION LIST WITHCODE"},
    {EXACT, "FUNCTION STATS"},
    {EXACT, "COMMAND INFO get xinfo config none"},
    {EXACT, "COMMAND"},
    {EXACT, "COMMAND DOCS"},
    {EXACT, "COMMAND DOCS none"},
    {EXACT, "COMMAND COUNT"},
    {EXACT, "COMMAND LIST"},
    {EXACT, "COMMAND GETKEYS get a"},
    {EXACT, "COMMAND GETKEYSANDFLAGS mset a 1 b 2"},
    {EXACT, "CLIENT TRACKINGINFO"},
    {FORM, "CLIENT LIST"},
    {FORM, "CLIENT INFO"},
    {EXACT, "CLIENT GETNAME"},
    {FORM, "INFO"},
    {FORM, "INFO server"},
    {EXACT, "ACL GETUSER default"},
    {EXACT, "ACL GETUSER bob"},
    {EXACT, "ACL GETUSER none"},
    {FORM, "ACL LOG"},
    {EXACT, "ACL LIST"},
    {EXACT, "ACL CAT"},
    {FORM, "MEMORY STATS"},
    {FORM, "MEMORY DOCTOR"},
    {FORM, "MEMORY MALLOC-STATS"},
    {FORM, "LATENCY HISTOGRAM"},
    {FORM, "LATENCY HISTOGRAM get set"},
    {FORM, "LATENCY LATEST"},
    {FORM, "LATENCY DOCTOR"},
    {FORM, "LATENCY GRAPH command"},
    {FORM, "LATENCY HISTORY command"},
    {EXACT, "LOLWUT"},
    {EXACT, "LOLWUT VERSION 5 1 1 1"},
    {EXACT, "MODULE LIST"},
    {EXACT, "PUBSUB NUMSUB a b"},
    {EXACT, "PUBSUB CHANNELS"},
    {EXACT, "SCRIPT EXISTS x"},
    {FORM, "TIME"},
    {EXACT, "ROLE"},
    {EXACT, "OBJECT HELP"},
    {EXACT, "INCRBYFLOAT none 1.5"},
    {EXACT, "SORT l"},
    {FORM, "SCAN 0"}, /* their order changes when the server enlarges its table */
    {EXACT, "MGET k1 none"},
    {EXACT, "LPOP l 2"},
    {EXACT, "LMPOP 1 l LEFT"},
    {EXACT, "LMPOP 1 none LEFT"},
    {EXACT, "BLPOP l 1"},
    {EXACT, "BLPOP none 0.01"},
    {EXACT, "LPOS l 1 COUNT 0"},
    {EXACT, "BITFIELD k1 GET u8 0"},
    {EXACT, "EVAL return{1,{2}} 0"},
    {FORM, "HELLO"},
    {FORM, "SLOWLOG GET"},
    {FORM, "KEYS *"},
    {EXACT, "EXISTS k1"},
    {EXACT, "GET none"},
    {EXACT, "TYPE k1"},
    {EXACT, "DBSIZE"},
};

static char *text_of(const redmoon_reply *reply, how as) {
  char *text = calloc(1, TEXT_MAX);
  if (as == EXACT) reply_text(reply, text, TEXT_MAX);
  else skeleton(reply, text);
  return text;
}

static void prepare_data(link_t *l) {
  for (size_t i = 0; i < sizeof setup / sizeof setup[0]; i++) {
    redmoon_reply *reply = command(l, setup[i], NULL);
    bool refused = redmoon_reply_type(reply) == REDMOON_ERROR;
    if (refused != (strncmp(setup[i], "AUTH", 4) == 0))
      fail_msg("%s: %s", setup[i], redmoon_reply_string(reply, NULL));
  }
}

/* Returns whether the shape changed the reply. */
static bool compare(link_t *two, link_t *three, const shape_case *c, bool with_data) {
  unsigned shape;
  if (with_data) prepare_data(two);
  redmoon_reply *reply2 = command(two, c->line, &shape);
  char *before = text_of(reply2, c->how);
  assert_int_equal(rm_shape_apply(shape, reply2, &two->arena), 0);
  if (with_data) prepare_data(three);
  redmoon_reply *reply3 = command(three, c->line, NULL);
  if (redmoon_reply_type(reply3) == REDMOON_ERROR) fail_msg("%s: %s", c->line, redmoon_reply_string(reply3, NULL));
  char *text2 = text_of(reply2, c->how), *text3 = text_of(reply3, c->how);
  size_t same = 0;
  while (text2[same] != '\0' && text2[same] == text3[same]) same++;
  if (text2[same] != text3[same])
    fail_msg("%s: %.100s...\n  RESP2, shaped: ...%.300s\n  RESP3:         ...%.300s", c->line, text2, text2 + same,
             text3 + same);
  bool changed = strcmp(before, text2) != 0;
  free(before);
  free(text2);
  free(text3);
  rm_arena_reset(&two->arena, 65536);
  rm_arena_reset(&three->arena, 65536);
  return changed;
}

static void resp2_replies_get_the_shape_of_resp3_for_every_command_tried(void **state) {
  (void)state;
  static server s; /* outlives the test: its teardown stops it */
  link_t two, three;
  prepare(&s);
  start(&s, (const char *const[]){"--port", "0", "--enable-debug-command", "yes", NULL});
  open_link(&two, &s, 2);
  open_link(&three, &s, 3);
  size_t changed = 0, count = sizeof cases / sizeof cases[0];
  for (size_t i = 0; i < count; i++) changed += compare(&two, &three, &cases[i], true);
  print_message("%zu commands, %zu of them with another shape\n", count, changed);
  assert_true(changed >= 70);
  close_link(&two);
  close_link(&three);
}

/* A port that is free now; the server binds it a moment later. */
static int free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
  close(fd);
  return ntohs(address.sin_port);
}

static void start_node(server *s) {
  char port[16], bus[16];
  prepare(s);
  s->port = free_port();
  s->bus = free_port();
  snprintf(port, sizeof port, "%d", s->port);
  snprintf(bus, sizeof bus, "%d", s->bus);
  start(s, (const char *const[]){"--bind", "127.0.0.1", "--port", port, "--cluster-port", bus, "--cluster-enabled",
                                 "yes", "--cluster-announce-hostname", "node.example", NULL});
}

static void cluster_replies_get_the_shape_of_resp3(void **state) {
  (void)state;
  static const shape_case of_cluster[] = {
      {FORM, "CLUSTER INFO"},  {FORM, "CLUSTER NODES"}, {FORM, "CLUSTER SHARDS"}, {FORM, "CLUSTER LINKS"},
      {FORM, "CLUSTER SLOTS"}, {FORM, "CLUSTER MYID"},  {FORM, "HELLO"},          {FORM, "CLUSTER KEYSLOT a"}};
  static server a, b;
  link_t two, three;
  char meet[64];
  start_node(&a);
  start_node(&b);
  open_link(&two, &a, 2);
  open_link(&three, &a, 3);
  assert_int_equal(redmoon_reply_type(command(&two, "CLUSTER ADDSLOTSRANGE 0 16383", NULL)), REDMOON_STATUS);
  snprintf(meet, sizeof meet, "CLUSTER MEET 127.0.0.1 %d %d", b.port, b.bus);
  assert_int_equal(redmoon_reply_type(command(&two, meet, NULL)), REDMOON_STATUS);
  size_t links = 0;
  for (int i = 0; i < 1000 && links < 2; i++) { /* until both directions are up, 10 s at most */
    links = redmoon_reply_count(command(&two, "CLUSTER LINKS", NULL));
    if (links < 2) pause_ms(10);
  }
  assert_int_equal(links, 2);
  for (size_t i = 0; i < sizeof of_cluster / sizeof of_cluster[0]; i++)
    assert_int_equal(compare(&two, &three, &of_cluster[i], false), i < 5 || i == 6);
  close_link(&two);
  close_link(&three);
}

static void sentinel_replies_get_the_shape_of_resp3(void **state) {
  (void)state;
  static const shape_case of_sentinel[] = {
      {FORM, "SENTINEL MASTER m"}, {FORM, "SENTINEL MASTERS"},     {FORM, "SENTINEL REPLICAS m"},
      {FORM, "SENTINEL SLAVES m"}, {FORM, "SENTINEL SENTINELS m"}, {FORM, "SENTINEL GET-MASTER-ADDR-BY-NAME m"}};
  static server s; /* outlives the test: its teardown stops it */
  link_t two, three;
  char path[128];
  prepare(&s);
  snprintf(path, sizeof path, "%s/sentinel.conf", s.dir);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fprintf(file, "port %d\nbind 127.0.0.1\nsentinel monitor m 127.0.0.1 %d 1\n", free_port(), free_port());
  fclose(file);
  start(&s, (const char *const[]){"--sentinel", NULL});
  open_link(&two, &s, 2);
  open_link(&three, &s, 3);
  for (size_t i = 0; i < sizeof of_sentinel / sizeof of_sentinel[0]; i++)
    assert_int_equal(compare(&two, &three, &of_sentinel[i], false), i < 2);
  close_link(&two);
  close_link(&three);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(resp2_replies_get_the_shape_of_resp3_for_every_command_tried, stop_all),
      cmocka_unit_test_teardown(cluster_replies_get_the_shape_of_resp3, stop_all),
      cmocka_unit_test_teardown(sentinel_replies_get_the_shape_of_resp3, stop_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
