/* SPDX-License-Identifier: MIT */
/* A password is nowhere but in its locked memory: not in what the library says, not in what a crash leaves behind.
 *
 *      parent --password, over a socket--> child: 100 calls, prints all that the library says, "ready", waits
 *             <------- output -----------
 *      parent reads the child's memory as a core dump would, then lets it abort() and reads the core file too
 *
 *  The child is this program again, so that nothing of the parent's is in it; the parent keeps the password in
 *  disguise. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/certs.h"
#include "support/redis_server.h"

#include <dirent.h>
#include <fcntl.h>
#include <redmoon/redmoon.h>
#include <signal.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECRET_LEN = 32, PIECE = 12, CHUNK = 1 << 20, CALLS = 100, MASK = 0x5a };

#if defined(__SANITIZE_ADDRESS__)
static const bool sanitized = true; /* its shadow would make a core of terabytes, so it forbids cores */
#else
static const bool sanitized = false;
#endif

static const char ready[] = "\n-- ready --\n";

/* The child. */

typedef struct child {
  const char *variant, *path, *ca_file;
  int tls_port;
  char *secret; /* sodium_malloc */
} child;

static void say(const char *what, const char *text) { printf("%s: %s\n", what, text); }

static void say_error(const char *what, const redmoon_error *err) {
  printf("%s: %d %s %s %s\n", what, err->status, err->code, err->address, err->message);
}

static void say_event(void *ctx, const redmoon_event *event) {
  (void)ctx;
  printf("event: %d %s %s %s\n", event->kind, event->command, event->address, event->reason);
  if (event->error != NULL) say_error("event's error", event->error);
}

static int give_credentials(void *ctx, char username[256], char password[4096]) {
  const child *c = ctx;
  snprintf(username, 256, "app");
  memcpy(password, c->secret, SECRET_LEN + 1);
  return 0;
}

/* `format` holds one %s for the password; the text is in memory that is wiped by sodium_free. */
static char *secret_text(const child *c, const char *before, const char *after) {
  size_t len = strlen(before) + SECRET_LEN + strlen(after) + 1;
  char *text = sodium_malloc(len);
  if (text == NULL) _exit(3);
  char *at = text;
  memcpy(at, before, strlen(before));
  at += strlen(before);
  memcpy(at, c->secret, SECRET_LEN);
  memcpy(at + SECRET_LEN, after, strlen(after) + 1);
  return text;
}

static bool is(const child *c, const char *variant) { return strcmp(c->variant, variant) == 0; }

static redmoon_client *open_client(child *c, const char *username) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_error err;
  redmoon_client *client = NULL;
  char base[512], after[512] = "";
  char *url = NULL;
  options.max_retries = 1;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  options.protocol = is(c, "resp2") ? 2 : 3;
  if (is(c, "tls")) {
    snprintf(base, sizeof base, "rediss://127.0.0.1:%d", c->tls_port);
    options.tls.ca_file = c->ca_file;
  } else {
    snprintf(base, sizeof base, "unix://%s", c->path);
  }
  if (is(c, "url")) {
    snprintf(base, sizeof base, "unix://%s:", username);
    snprintf(after, sizeof after, "@%s", c->path);
    url = secret_text(c, base, after);
  } else if (is(c, "credentials")) {
    options.credentials = give_credentials;
    options.credentials_ctx = c;
  } else {
    options.username = username;
    options.password = c->secret;
  }
  if (redmoon_client_open(url != NULL ? url : base, &options, &client, &err) != 0) {
    say_error("open", &err);
    _exit(4);
  }
  sodium_free(url);
  return client;
}

static int call(redmoon_client *client, const char *const *argv) {
  int argc = 0;
  while (argv[argc] != NULL) argc++;
  redmoon_reply *reply = NULL;
  redmoon_error err;
  int rc = redmoon_command(client, argc, argv, NULL, &reply, &err);
  if (rc != 0) say_error(argv[0], &err);
  redmoon_reply_free(reply);
  return rc;
}

static void make_calls(redmoon_client *client) {
  static const char *const commands[][5] = {{"PING", NULL},
                                            {"SET", "key", "value", NULL},
                                            {"LPUSH", "key", "element", NULL},
                                            {"EVAL", "return redis.call('NOSUCH')", "0", NULL},
                                            {"CLIENT", "KILL", "TYPE", "normal", NULL}};
  static const char *const kill[] = {"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no", NULL};
  int good = 0;
  for (int i = 0; i < CALLS; i++) {
    const char *const *argv = i % 10 == 9 ? kill : commands[i % 5];
    good += call(client, argv) == 0;
  }
  if (good < CALLS / 2) _exit(5);
}

/* URLs that are refused; no part of one may be quoted. */
static void try_bad_urls(const child *c) {
  static const char *const bad[][2] = {{"redis://app:", "@localhost:notaport/0"},
                                       {"redis://app:", "@localhost/zero"},
                                       {"http://app:", "@localhost/"},
                                       {"redis://app:", "%zz@localhost"},
                                       {"redis://app:", ""},
                                       {"redis://app:", "@localhost/?x=y"},
                                       {"redis://localhost/?pasword=", ""},
                                       {"redis://localhost/", "/x"},
                                       {"redis://app:", "@:6379:7"}};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    char *url = secret_text(c, bad[i][0], bad[i][1]);
    redmoon_client *client = NULL;
    redmoon_error err;
    if (redmoon_client_open(url, NULL, &client, &err) != 0) say_error("bad url", &err);
    redmoon_client_close(client);
    sodium_free(url);
  }
}

static void say_all_of(redmoon_client *client) {
  char *text = NULL;
  redmoon_error err;
  say("url", redmoon_client_url(client));
  if (redmoon_client_metrics(client, &text, NULL, &err) == 0) say("metrics", text);
  redmoon_free(text);
}

static void run_child(child *c) {
  c->secret = sodium_malloc(SECRET_LEN + 1);
  if (c->secret == NULL || recv(0, c->secret, SECRET_LEN, MSG_WAITALL) != SECRET_LEN) _exit(6);
  c->secret[SECRET_LEN] = '\0';
  char *copy = is(c, "control") ? strdup(c->secret) : NULL;
  redmoon_client *client = open_client(c, "app"), *refused = open_client(c, "nobody"),
                 *gone = open_client(c, "app");
  redmoon_error err;
  uint64_t id;
  int all = REDMOON_EVENT_COMMAND | REDMOON_EVENT_RETRY | REDMOON_EVENT_CONNECT | REDMOON_EVENT_CLOSE;
  if (redmoon_client_on(client, all, say_event, NULL, &id, &err) != 0 ||
      redmoon_client_on(refused, all, say_event, NULL, &id, &err) != 0)
    _exit(7);
  make_calls(client);
  if (!is(c, "credentials")) /* there the user is always the right one */
    for (int i = 0; i < 5; i++)
      if (call(refused, (const char *[]){"PING", NULL}) == 0) _exit(8);
  try_bad_urls(c);
  say_all_of(client);
  say_all_of(refused);
  call(gone, (const char *[]){"PING", NULL});
  redmoon_client_close(gone); /* what is freed is wiped; the other two are alive in the crash */
  sodium_free(c->secret);
  fputs(ready, stdout);
  fflush(stdout);
  char go;
  (void)!recv(0, &go, 1, 0);
  if (copy != NULL && copy[0] == '\0') _exit(9); /* so that it lives until here */
  abort();
}

/* The parent. */

/* The secret is kept in disguise, so that nothing of the search can be what is found. */
static char disguised[SECRET_LEN];

static bool is_piece_at(const char *ptr, int offset) {
  for (int i = 0; i < PIECE; i++)
    if ((ptr[i] ^ MASK) != disguised[offset + i]) return false;
  return true;
}

/* Pieces, because a block that is freed loses some bytes to the allocator's lists. */
static int count_pieces(const char *ptr, size_t len) {
  static const int offsets[] = {0, (SECRET_LEN - PIECE) / 2, SECRET_LEN - PIECE};
  int count = 0;
  for (size_t o = 0; o < sizeof offsets / sizeof offsets[0]; o++) {
    const char first = (char)(disguised[offsets[o]] ^ MASK);
    const char *at = ptr, *end = ptr + len;
    while (end - at >= PIECE && (at = memchr(at, first, (size_t)(end - at))) != NULL && end - at >= PIECE) {
      count += is_piece_at(at, offsets[o]);
      at++;
    }
  }
  return count;
}

/* Pieces in bytes [begin, end) of a file; a part that cannot be read holds none. */
static int count_in_file(int fd, off_t begin, off_t end) {
  static char chunk[CHUNK + PIECE];
  int count = 0;
  for (off_t at = begin; at < end; at += CHUNK) {
    size_t want = end - at < CHUNK + PIECE - 1 ? (size_t)(end - at) : CHUNK + PIECE - 1;
    ssize_t n = pread(fd, chunk, want, at);
    if (n > 0) count += count_pieces(chunk, (size_t)n);
  }
  return count;
}

/* As a core dump would: all mappings but those marked so (dd, what MADV_DONTDUMP does).  *left_out counts these. */
static int count_in_process(pid_t pid, int *left_out) {
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
  int memory = open(path, O_RDONLY | O_CLOEXEC);
  snprintf(path, sizeof path, "/proc/%d/smaps", (int)pid);
  FILE *maps = fopen(path, "r");
  assert_true(memory >= 0 && maps != NULL);
  int count = 0;
  unsigned long begin = 0, end = 0, b, e;
  char access[8];
  *left_out = 0;
  while (fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx %7s", &b, &e, access) == 3) {
      begin = b;
      end = e;
    } else if (strncmp(line, "VmFlags:", 8) == 0) {
      bool dumped = strstr(line, " dd") == NULL;
      *left_out += !dumped;
      /* Larger ones are a sanitizer's shadow: mostly never touched, and no copies of anything. */
      if (dumped && end - begin < (unsigned long)1 << 28) count += count_in_file(memory, (off_t)begin, (off_t)end);
    }
  }
  fclose(maps);
  close(memory);
  return count;
}

/* Whether this machine writes a core file into the folder of the process. */
static bool cores_are_written(void) {
  struct rlimit limit;
  char pattern[128] = "|";
  FILE *file = fopen("/proc/sys/kernel/core_pattern", "r");
  if (file == NULL) return false;
  if (fgets(pattern, sizeof pattern, file) == NULL) pattern[0] = '|';
  fclose(file);
  return !sanitized && getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == RLIM_INFINITY &&
         pattern[0] != '|' && strchr(pattern, '/') == NULL;
}

/* Pieces in the one file of the folder, which is removed; -1: there is none. */
static int count_in_core(const char *folder) {
  int count = -1;
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    int fd = entry->d_name[0] != '.' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) continue;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) count = count_in_file(fd, 0, st.st_size);
    close(fd);
    unlink(path);
  }
  closedir(dir);
  return count;
}

typedef struct output {
  char *bytes;
  size_t len;
} output;

/* Reads until `end` has come or the stream has ended; true for the former. */
static bool read_until(int fd, output *out, const char *end) {
  for (;;) {
    if (end != NULL && out->len >= strlen(end) &&
        memcmp(out->bytes + out->len - strlen(end), end, strlen(end)) == 0)
      return true;
    out->bytes = realloc(out->bytes, out->len + 4096 + 1);
    assert_non_null(out->bytes);
    ssize_t n = read(fd, out->bytes + out->len, 4096);
    if (n <= 0) return false;
    out->len += (size_t)n;
    out->bytes[out->len] = '\0';
  }
}

typedef struct family {
  pid_t pid;
  int secret, output; /* our ends */
  char folder[64];
} family;

static void start_child(family *f, const char *variant, const redis_server *server) {
  int in[2], out[2];
  char port[16];
  snprintf(f->folder, sizeof f->folder, "/tmp/redmoon-secrets-XXXXXX");
  assert_non_null(mkdtemp(f->folder));
  snprintf(port, sizeof port, "%d", redis_server_tls_port(server));
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), 0);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out), 0);
  char self[4096];
  ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
  assert_true(len > 0);
  self[len] = '\0';
  f->pid = fork();
  if (f->pid == 0) {
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &all);
    if (dup2(in[1], 0) < 0 || dup2(out[1], 1) < 0 || dup2(out[1], 2) < 0 || chdir(f->folder) != 0) _exit(2);
    execl(self, self, variant, redis_server_path(server), port, certs_get()->ca_file, (char *)NULL);
    _exit(2);
  }
  assert_true(f->pid > 0);
  close(in[1]);
  close(out[1]);
  f->secret = in[0];
  f->output = out[0];
}

static void send_secret(const family *f) {
  char plain[SECRET_LEN];
  for (int i = 0; i < SECRET_LEN; i++) plain[i] = (char)(disguised[i] ^ MASK);
  assert_int_equal(send(f->secret, plain, SECRET_LEN, MSG_NOSIGNAL), SECRET_LEN);
  sodium_memzero(plain, sizeof plain);
}

typedef struct finding {
  int in_output, in_memory, in_core; /* in_core -1: no core was written */
  int left_out;                      /* mappings that a dump leaves out */
} finding;

static finding crash(const char *variant, const redis_server *server) {
  family f;
  finding found;
  output out = {0};
  start_child(&f, variant, server);
  send_secret(&f);
  if (!read_until(f.output, &out, ready)) {
    int status = 0;
    waitpid(f.pid, &status, 0);
    fail_msg("%s: the child ended early, status %x: %s", variant, status, out.bytes != NULL ? out.bytes : "");
  }
  found.in_memory = count_in_process(f.pid, &found.left_out);
  close(f.secret); /* go on */
  (void)read_until(f.output, &out, NULL);
  int status = 0;
  assert_int_equal(waitpid(f.pid, &status, 0), f.pid);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  close(f.output);
  found.in_output = count_pieces(out.bytes, out.len);
  found.in_core = count_in_core(f.folder);
  assert_int_equal(found.in_core >= 0, cores_are_written());
  /* It said what it was to say, or nothing was tested. */
  static const char *const said[] = {"url: ",     "metrics: ", "WRONGTYPE",
                                     "bad url: ", "event: ",   "redmoon_commands_total"};
  for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
    if (strstr(out.bytes, said[i]) == NULL) fail_msg("%s: \"%s\" is not in: %s", variant, said[i], out.bytes);
  if (strcmp(variant, "credentials") != 0) assert_non_null(strstr(out.bytes, "WRONGPASS"));
  free(out.bytes);
  rmdir(f.folder);
  print_message("%s: %d in the output, %d in memory (%d mappings left out), %d in the core%s\n", variant,
                found.in_output, found.in_memory, found.left_out, found.in_core,
                found.in_core < 0 ? " (none is written here)" : "");
  return found;
}

static int start(void **state) {
  const certs *c = certs_get();
  if (c == NULL || sodium_init() < 0) return -1;
  redis_server_options options = {.tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file};
  redis_server *server = redis_server_start(&options);
  *state = server;
  char digits[SECRET_LEN + 1], command[128];
  unsigned char random[SECRET_LEN / 2];
  randombytes_buf(random, sizeof random);
  sodium_bin2hex(digits, sizeof digits, random, sizeof random);
  for (int i = 0; i < SECRET_LEN; i++) disguised[i] = (char)(digits[i] ^ MASK);
  snprintf(command, sizeof command, "ACL SETUSER app on >%s ~* &* +@all", digits);
  char *answer = redis_server_ask(server, NULL, command);
  int rc = strcmp(answer, "+OK") == 0 ? 0 : -1;
  free(answer);
  return rc;
}

static int stop(void **state) {
  redis_server_stop(*state);
  return 0;
}

static void check(void **state, const char *variant) {
  finding found = crash(variant, *state);
  assert_int_equal(found.in_output, 0);
  assert_int_equal(found.in_memory, 0);
  assert_true(found.in_core <= 0);
  assert_true(found.left_out > 0);
}

static void a_password_of_the_options_is_in_no_output_and_no_core(void **state) { check(state, "options"); }
static void a_password_of_the_url_is_in_no_output_and_no_core(void **state) { check(state, "url"); }
static void a_password_sent_by_auth_is_in_no_output_and_no_core(void **state) { check(state, "resp2"); }
static void a_password_sent_under_tls_is_in_no_output_and_no_core(void **state) { check(state, "tls"); }
static void a_password_of_a_function_is_in_no_output_and_no_core(void **state) { check(state, "credentials"); }

/* The search finds what is there. */
static void a_copy_on_the_heap_is_found(void **state) {
  finding found = crash("control", *state);
  assert_int_equal(found.in_output, 0);
  assert_true(found.in_memory >= 3);
  assert_true(found.in_core < 0 || found.in_core >= 3);
}

int main(int argc, char **argv) {
  if (argc == 5) {
    child c = {.variant = argv[1], .path = argv[2], .ca_file = argv[4], .tls_port = atoi(argv[3])};
    if (sodium_init() < 0) return 10;
    run_child(&c);
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_copy_on_the_heap_is_found),
      cmocka_unit_test(a_password_of_the_options_is_in_no_output_and_no_core),
      cmocka_unit_test(a_password_of_the_url_is_in_no_output_and_no_core),
      cmocka_unit_test(a_password_sent_by_auth_is_in_no_output_and_no_core),
      cmocka_unit_test(a_password_sent_under_tls_is_in_no_output_and_no_core),
      cmocka_unit_test(a_password_of_a_function_is_in_no_output_and_no_core),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
