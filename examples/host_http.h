/* SPDX-License-Identifier: MIT */
/* As much of HTTP/1.1 as examples/host.c needs: one request for each connection, all of it in memory. */
#ifndef HOST_HTTP_H
#define HOST_HTTP_H

#include <stddef.h>

enum { HTTP_HEAD_MAX = 8 * 1024, HTTP_BODY_MAX = 64 * 1024, HTTP_HEADERS_MAX = 64, HTTP_TIMEOUT_MS = 5000 };

typedef struct http_header {
  const char *name; /* in lower case */
  const char *value;
} http_header;

/* All texts lie in `bytes` and are NUL-ended. */
typedef struct http_request {
  const char *method, *path;
  http_header headers[HTTP_HEADERS_MAX];
  int header_count;
  const char *body;
  size_t body_len;
  char peer[64];
  char bytes[HTTP_HEAD_MAX + HTTP_BODY_MAX + 1];
} http_request;

/* A socket that listens on 127.0.0.1; *port 0 becomes the one that was free.  Negative: errno says why. */
int http_listen(int *port);
/* Waits for a connection.  Negative once the socket was stopped. */
int http_accept(int listener);
/* Takes no more connections: whoever waits for one comes back.  From any thread. */
void http_stop(int listener);
/* Reads a request, HTTP_TIMEOUT_MS for all of it.  0; or the status to be answered; or negative: nobody is there any more. */
int http_read(int fd, http_request *request);
/* Answers, and closes the connection.  `headers` are whole lines with their "\r\n". */
void http_answer(int fd, int status, const char *headers, const char *body, size_t len);

#endif
