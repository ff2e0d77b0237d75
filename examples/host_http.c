/* SPDX-License-Identifier: MIT */
/* As much of HTTP/1.1 as examples/host.c needs.  A slow client costs a thread for HTTP_TIMEOUT_MS at most; a real server
 * would keep connections, and stand behind a proxy that reads requests before it hands them on. */
#include "host_http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int http_listen(int *port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) return -1;
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t len = sizeof here;
  if (bind(fd, (struct sockaddr *)&here, len) != 0 || listen(fd, SOMAXCONN) != 0 ||
      getsockname(fd, (struct sockaddr *)&here, &len) != 0) {
    int why = errno;
    close(fd);
    errno = why;
    return -1;
  }
  *port = ntohs(here.sin_port);
  return fd;
}

int http_accept(int listener) {
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0) return fd;
    if (errno == EINVAL || errno == EBADF) return -1; /* it was stopped */
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) poll(NULL, 0, 10); /* others will end */
  }
}

void http_stop(int listener) { shutdown(listener, SHUT_RDWR); }

/* Reads what is there, or comes, before `by_ms`.  How much, 0 at the end, negative when the time is over. */
static ssize_t read_some(int fd, char *to, size_t room, int64_t by_ms) {
  for (;;) {
    int64_t left = by_ms - now_ms();
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    int ready = left > 0 ? poll(&wanted, 1, (int)left) : 0;
    if (ready == 0) return -1;
    ssize_t n = ready > 0 ? recv(fd, to, room, MSG_DONTWAIT) : -1;
    if (n >= 0) return n;
    if (errno != EINTR && errno != EAGAIN) return 0;
  }
}

/* Cuts the line at *at off, and its end; *at goes on to the next one. */
static char *next_line(char **at) {
  char *line = *at, *end = strstr(line, "\r\n");
  if (end == NULL) return NULL;
  *end = '\0';
  *at = end + 2;
  return line;
}

static int parse_headers(http_request *request, char *at) {
  char *line;
  while ((line = next_line(&at)) != NULL && line[0] != '\0') {
    char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || request->header_count == HTTP_HEADERS_MAX) return 400;
    *colon = '\0';
    for (char *c = line; *c != '\0'; c++) *c = (char)tolower((unsigned char)*c);
    char *value = colon + 1 + strspn(colon + 1, " \t");
    request->headers[request->header_count++] = (http_header){line, value};
  }
  return 0;
}

/* "GET /path HTTP/1.1" and the headers; the head ends in an empty line. */
static int parse_head(http_request *request, char *head) {
  char *line = next_line(&head), *path = line != NULL ? strchr(line, ' ') : NULL;
  char *version = path != NULL ? strchr(path + 1, ' ') : NULL;
  if (version == NULL || strncmp(version + 1, "HTTP/1.", 7) != 0 || path[1] != '/') return 400;
  *path = *version = '\0';
  request->method = line;
  request->path = path + 1;
  return parse_headers(request, head);
}

static int parse_length(const http_request *request, size_t *len) {
  *len = 0;
  for (int i = 0; i < request->header_count; i++) {
    const char *name = request->headers[i].name, *value = request->headers[i].value;
    if (strcmp(name, "transfer-encoding") == 0) return 411;
    if (strcmp(name, "content-length") != 0) continue;
    if (value[0] == '\0' || value[strspn(value, "0123456789")] != '\0') return 400;
    unsigned long long wanted = strtoull(value, NULL, 10);
    if (wanted > HTTP_BODY_MAX) return 413;
    *len = (size_t)wanted;
  }
  return 0;
}

static void note_peer(int fd, http_request *request) {
  struct sockaddr_in peer = {0};
  socklen_t len = sizeof peer;
  snprintf(request->peer, sizeof request->peer, "unknown");
  if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
    (void)inet_ntop(AF_INET, &peer.sin_addr, request->peer, sizeof request->peer);
}

int http_read(int fd, http_request *request) {
  int64_t by_ms = now_ms() + HTTP_TIMEOUT_MS;
  size_t have = 0, body_at, len;
  char *end = NULL;
  request->header_count = 0;
  note_peer(fd, request);
  while (end == NULL) {
    if (have == HTTP_HEAD_MAX) return 431;
    ssize_t n = read_some(fd, request->bytes + have, HTTP_HEAD_MAX - have, by_ms);
    if (n <= 0) return n < 0 && have > 0 ? 408 : -1;
    have += (size_t)n;
    request->bytes[have] = '\0';
    if (strlen(request->bytes) != have) return 400;
    end = strstr(request->bytes, "\r\n\r\n");
  }
  body_at = (size_t)(end - request->bytes) + 4;
  char first = request->bytes[body_at]; /* the head is parsed as a text of its own */
  request->bytes[body_at] = '\0';
  int status = parse_head(request, request->bytes);
  if (status == 0) status = parse_length(request, &len);
  request->bytes[body_at] = first;
  if (status != 0) return status;
  while (have < body_at + len) {
    ssize_t n = read_some(fd, request->bytes + have, body_at + len - have, by_ms);
    if (n <= 0) return n < 0 ? 408 : -1;
    have += (size_t)n;
  }
  request->body = request->bytes + body_at;
  request->body_len = len;
  return 0;
}

static const char *reason_of(int status) {
  static const struct {
    int status;
    const char *text;
  } reasons[] = {{200, "OK"},          {201, "Created"},           {202, "Accepted"},          {204, "No Content"},
                 {400, "Bad Request"}, {404, "Not Found"},         {405, "Method Not Allowed"}, {408, "Request Timeout"},
                 {411, "Length Required"}, {413, "Content Too Large"}, {429, "Too Many Requests"}, {431, "Headers Too Large"},
                 {500, "Internal Server Error"}, {503, "Service Unavailable"}};
  for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
    if (reasons[i].status == status) return reasons[i].text;
  return "Other";
}

static int send_all(int fd, const char *bytes, size_t len, int64_t by_ms) {
  while (len > 0) {
    struct pollfd wanted = {.fd = fd, .events = POLLOUT};
    int64_t left = by_ms - now_ms();
    if (left <= 0 || poll(&wanted, 1, (int)left) == 0) return -1;
    ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EINTR && errno != EAGAIN) return -1;
    if (n > 0) bytes += n, len -= (size_t)n;
  }
  return 0;
}

void http_answer(int fd, int status, const char *headers, const char *body, size_t len) {
  char head[2048], rest[4096];
  int64_t by_ms = now_ms() + HTTP_TIMEOUT_MS;
  int head_len = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", status,
                          reason_of(status), len, headers);
  if (head_len > 0 && (size_t)head_len < sizeof head && send_all(fd, head, (size_t)head_len, by_ms) == 0 &&
      send_all(fd, body, len, by_ms) == 0) {
    /* Closing while the client still sends would take the answer from it: it is to close first. */
    shutdown(fd, SHUT_WR);
    while (read_some(fd, rest, sizeof rest, by_ms) > 0) {
    }
  }
  close(fd);
}
