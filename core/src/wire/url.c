/* SPDX-License-Identifier: MIT */
/* URLs: taken apart on the caller's text, so that a password is only ever copied into locked memory. */
#include "wire/url.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/error.h"
#include "wire/options.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

enum { LONGEST_URL = 65536, LONGEST_HOST = 255, MOST_ADDRESSES = 1024 };

typedef struct scheme {
  const char *name;
  rm_topology topology;
  bool tls;
} scheme;
static const scheme schemes[] = {
    {"redis", RM_STANDALONE, false},        {"rediss", RM_STANDALONE, true},
    {"unix", RM_STANDALONE, false},         {"redis+sentinel", RM_SENTINEL, false},
    {"rediss+sentinel", RM_SENTINEL, true}, {"redis+cluster", RM_CLUSTER, false},
    {"rediss+cluster", RM_CLUSTER, true},   {"valkey", RM_STANDALONE, false},
    {"valkeys", RM_STANDALONE, true},
};
enum { SCHEMES = sizeof schemes / sizeof schemes[0] };

typedef struct slice {
  const char *ptr;
  size_t len;
} slice;

typedef struct parser {
  rm_url *url;
  const char *source;
  redmoon_error *err;
} parser;

static int refuse(const parser *p, const char *why) {
  return rm_fail(p->err, REDMOON_ECONFIG, "%s: %s", p->source, why);
}

/* The part of `text` before the first `separator`, which is dropped; *text becomes what follows. */
static slice cut(slice *text, char separator) {
  const char *at = text->len > 0 ? memchr(text->ptr, separator, text->len) : NULL;
  slice head = *text;
  if (at == NULL) {
    *text = (slice){text->ptr + text->len, 0};
    return head;
  }
  head.len = (size_t)(at - text->ptr);
  *text = (slice){at + 1, text->len - head.len - 1};
  return head;
}

static bool holds(slice text, char c) { return text.len > 0 && memchr(text.ptr, c, text.len) != NULL; }

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
         c == '_';
}

static bool is_words(const char *ptr, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (!is_word(ptr[i])) return false;
  return len > 0;
}

/* Percent-decoding. */

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* `out` has room for text.len + 1 bytes. */
static int decode(const parser *p, slice text, char *out, size_t *len) {
  size_t used = 0;
  for (size_t i = 0; i < text.len; i++) {
    char c = text.ptr[i];
    if (c == '%') {
      int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
      int low = i + 2 < text.len ? hex_digit(text.ptr[i + 2]) : -1;
      if (high < 0 || low < 0)
        return refuse(p, "a '%' is not followed by two hex digits; a '%' itself is written as %25");
      c = (char)(high * 16 + low);
      if (c == '\0') return refuse(p, "a NUL byte (%00) is not accepted");
      i += 2;
    }
    out[used++] = c;
  }
  out[used] = '\0';
  *len = used;
  return 0;
}

static int decode_text(const parser *p, slice text, char **out, size_t *len) {
  *out = rm_alloc(text.len + 1);
  if (*out == NULL) return rm_fail_nomem(p->err);
  int rc = decode(p, text, *out, len);
  if (rc == 0) return 0;
  rm_free(*out);
  *out = NULL;
  return rc;
}

static int decode_secret(const parser *p, slice text, rm_secret *out) {
  if (rm_secret_resize(out, text.len) != 0) return rm_fail_nomem(p->err);
  return decode(p, text, out->bytes, &out->len);
}

/* Options of path and query. */

static rm_secret *secret_of(rm_url *url, const rm_option *option) {
  if (option->offset == offsetof(redmoon_options, sentinel_username)) return &url->sentinel_username;
  if (option->offset == offsetof(redmoon_options, sentinel_password)) return &url->sentinel_password;
  return option->offset == offsetof(redmoon_options, username) ? &url->username : &url->password;
}

static bool is_given(rm_url *url, const rm_option *option) {
  if (option->kind == RM_OPTION_SECRET) return secret_of(url, option)->bytes != NULL;
  if (option->kind == RM_OPTION_TEXT) return rm_option_text(option, &url->values) != NULL;
  return rm_option_number(option, &url->values) != REDMOON_UNSET;
}

static int set_secret(parser *p, const rm_option *option, slice value) {
  rm_secret *secret = secret_of(p->url, option);
  int rc = decode_secret(p, value, secret);
  return rc != 0 ? rc : rm_option_check_text(option, secret->bytes, secret->len, p->err);
}

static int set_option(parser *p, const rm_option *option, slice value) {
  if (is_given(p->url, option))
    return rm_fail(p->err, REDMOON_ECONFIG, "%s: option '%s' is given twice", p->source, option->name);
  if (option->kind == RM_OPTION_SECRET) return set_secret(p, option, value);
  char *text;
  size_t len;
  int rc = decode_text(p, value, &text, &len);
  if (rc != 0) return rc;
  if (option->kind == RM_OPTION_TEXT) {
    rc = rm_option_check_text(option, text, len, p->err);
    if (rc == 0) {
      rm_option_set_text(option, &p->url->values, text);
      return 0;
    }
  } else {
    int64_t number;
    rc = rm_option_parse(option, text, len, &number, p->err);
    if (rc == 0) rm_option_set_number(option, &p->url->values, number);
  }
  rm_free(text);
  return rc;
}

static int refuse_unknown(const parser *p, slice name, const char *nearest) {
  char shown[65], known[1024] = "";
  rm_escape(shown, sizeof shown, name.ptr, name.len);
  if (nearest != NULL)
    return rm_fail(p->err, REDMOON_ECONFIG, "%s: unknown option '%s'; did you mean '%s'?", p->source, shown,
                   nearest);
  size_t count, used = 0;
  const rm_option *table = rm_options_table(&count);
  for (size_t i = 0; i < count && used < sizeof known; i++)
    used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? " " : "", table[i].name);
  return rm_fail(p->err, REDMOON_ECONFIG, "%s: unknown option '%s'; known are %s", p->source, shown, known);
}

static int parse_query(parser *p, slice query) {
  while (query.len > 0) {
    slice value = cut(&query, '&');
    if (value.len == 0) continue;
    bool has_value = holds(value, '=');
    slice name = cut(&value, '=');
    const char *nearest;
    const rm_option *option = rm_option_find(name.ptr, name.len, &nearest);
    if (option == NULL) return refuse_unknown(p, name, nearest);
    if (!has_value)
      return rm_fail(p->err, REDMOON_ECONFIG, "%s: option '%s' has no value; write %s=...", p->source, option->name,
                     option->name);
    int rc = set_option(p, option, value);
    if (rc != 0) return rc;
  }
  return 0;
}

static int set_named(parser *p, const char *name, slice value) {
  return set_option(p, rm_option_find(name, strlen(name), NULL), value);
}

/* User info: ":password" and "user" leave the other one not given. */

static int parse_user_info(parser *p, slice info) {
  bool has_password = holds(info, ':');
  slice user = cut(&info, ':');
  int rc = user.len > 0 ? set_named(p, "username", user) : 0;
  return rc == 0 && has_password ? set_named(p, "password", info) : rc;
}

/* Hosts. */

static bool is_ipv6(const char *host, size_t len) {
  char text[INET6_ADDRSTRLEN];
  unsigned char address[sizeof(struct in6_addr)];
  const char *zone = memchr(host, '%', len);
  if (zone != NULL) {
    size_t head = (size_t)(zone - host);
    if (!is_words(zone + 1, len - head - 1)) return false;
    len = head;
  }
  if (len >= sizeof text) return false;
  memcpy(text, host, len);
  text[len] = '\0';
  return inet_pton(AF_INET6, text, address) == 1;
}

bool rm_host_is_valid(const char *host, size_t len) {
  return len > 0 && len <= LONGEST_HOST && (is_words(host, len) || is_ipv6(host, len));
}

static int parse_port(const parser *p, slice text, int *port) {
  *port = 0;
  for (size_t i = 0; i < text.len && *port <= 65535; i++) {
    if (text.ptr[i] < '0' || text.ptr[i] > '9') *port = 65536;
    else *port = *port * 10 + (text.ptr[i] - '0');
  }
  if (*port >= 1 && *port <= 65535) return 0;
  return refuse(p,
                "a port is not accepted; it takes an integer from 1 to 65535 (and a password with ':', '/' or '?' "
                "in it has to be percent-encoded)");
}

/* "[literal]:port" -> literal and ":port". */
static int split_literal(const parser *p, slice *text, char *host, size_t *len) {
  slice literal = *text;
  literal.ptr++;
  literal.len--;
  slice rest = literal;
  bool closed = holds(literal, ']');
  literal = cut(&rest, ']');
  *text = rest;
  /* RFC 6874 writes the zone's '%' as "%25"; the bare form is common, too. */
  if (!closed || literal.len > LONGEST_HOST) return refuse(p, "an IPv6 address has to stand in brackets: [::1]");
  memcpy(host, literal.ptr, literal.len);
  *len = literal.len;
  char *zone = memchr(host, '%', *len);
  if (zone != NULL && *len - (size_t)(zone - host) > 3 && memcmp(zone, "%25", 3) == 0) {
    memmove(zone + 1, zone + 3, *len - (size_t)(zone - host) - 3);
    *len -= 2;
  }
  if (!is_ipv6(host, *len)) return refuse(p, "what stands in brackets is not an IPv6 address");
  return 0;
}

static int parse_host(parser *p, slice text, int default_port, rm_address *out) {
  char host[LONGEST_HOST + 1];
  size_t len;
  if (text.len > 0 && text.ptr[0] == '[') {
    int rc = split_literal(p, &text, host, &len);
    if (rc != 0) return rc;
    if (text.len > 0 && text.ptr[0] != ':') return refuse(p, "after an IPv6 address only :port may follow");
  } else {
    slice name = {text.ptr, 0};
    while (name.len < text.len && text.ptr[name.len] != ':') name.len++;
    text = (slice){text.ptr + name.len, text.len - name.len};
    if (text.len > 0 && memchr(text.ptr + 1, ':', text.len - 1) != NULL)
      return refuse(p, "a host has more than one ':'; an IPv6 address has to stand in brackets: [::1]:6379");
    if (name.len == 0) return refuse(p, "a host is missing; write for example redis://localhost:6379/0");
    if (!rm_host_is_valid(name.ptr, name.len))
      return refuse(p, "a host name is not accepted; it takes 1 to 255 letters, digits, '.', '-' and '_'");
    memcpy(host, name.ptr, name.len);
    len = name.len;
  }
  int port = default_port;
  if (text.len > 0) {
    int rc = parse_port(p, (slice){text.ptr + 1, text.len - 1}, &port);
    if (rc != 0) return rc;
  }
  out->host = rm_strndup(host, len);
  out->port = port;
  return out->host != NULL ? 0 : rm_fail_nomem(p->err);
}

static int parse_hosts(parser *p, slice hosts) {
  rm_url *url = p->url;
  size_t count = 1;
  for (size_t i = 0; i < hosts.len; i++) count += hosts.ptr[i] == ',';
  if (count > 1 && url->topology == RM_STANDALONE)
    return refuse(p, "several hosts need redis+sentinel:// or redis+cluster://");
  if (count > MOST_ADDRESSES) return refuse(p, "more than 1024 hosts are not accepted");
  url->addresses = rm_calloc(count, sizeof *url->addresses);
  if (url->addresses == NULL) return rm_fail_nomem(p->err);
  while (url->address_count < count) {
    slice host = cut(&hosts, ',');
    int rc = parse_host(p, host, url->topology == RM_SENTINEL ? 26379 : 6379, &url->addresses[url->address_count]);
    if (rc != 0) return rc;
    url->address_count++;
  }
  return 0;
}

/* Path: database; service name and database; socket. */

static int parse_socket(parser *p, slice hosts, slice path) {
  rm_url *url = p->url;
  size_t len;
  if (hosts.len > 0 || path.len < 2)
    return refuse(p, "a unix socket takes an absolute path after two slashes: unix:///run/redis.sock");
  url->addresses = rm_calloc(1, sizeof *url->addresses);
  if (url->addresses == NULL) return rm_fail_nomem(p->err);
  url->address_count = 1;
  int rc = decode_text(p, path, &url->addresses[0].path, &len);
  if (rc != 0) return rc;
  if (len < sizeof((struct sockaddr_un *)0)->sun_path) return 0;
  return rm_fail(p->err, REDMOON_ECONFIG, "%s: the path of the unix socket has %zu bytes; at most %zu are possible",
                 p->source, len, sizeof((struct sockaddr_un *)0)->sun_path - 1);
}

static int parse_database(parser *p, slice text) {
  for (size_t i = 0; i < text.len; i++)
    if (text.ptr[i] < '0' || text.ptr[i] > '9')
      return refuse(p, "the database in the path is not accepted; it takes an integer from 0 to 2147483647");
  return text.len > 0 ? set_named(p, "database", text) : 0;
}

static int parse_service(parser *p, slice path) {
  slice name = cut(&path, '/');
  size_t len;
  if (name.len == 0)
    return refuse(p, "the service's name is missing; write redis+sentinel://host:26379/name or .../name/database");
  int rc = decode_text(p, name, &p->url->sentinel_name, &len);
  if (rc != 0) return rc;
  if (len > 255 || !is_words(p->url->sentinel_name, len))
    return refuse(p, "the service's name is not accepted; it takes 1 to 255 letters, digits, '.', '-' and '_'");
  return parse_database(p, path);
}

static int parse_path(parser *p, slice path) {
  if (path.len > 0) path = (slice){path.ptr + 1, path.len - 1};
  return p->url->topology == RM_SENTINEL ? parse_service(p, path) : parse_database(p, path);
}

/* The whole. */

static bool same_word(slice a, const char *b) {
  for (size_t i = 0; i < a.len; i++) {
    char c = a.ptr[i];
    if (c >= 'A' && c <= 'Z') c = (char)(c + ('a' - 'A'));
    if (c != b[i]) return false; /* the end of b included */
  }
  return b[a.len] == '\0';
}

static int parse_scheme(parser *p, slice *text) {
  slice name = {text->ptr, 0};
  const char *names[SCHEMES];
  while (name.len < text->len && (is_word(name.ptr[name.len]) || name.ptr[name.len] == '+')) name.len++;
  if (text->len - name.len < 3 || memcmp(name.ptr + name.len, "://", 3) != 0)
    return refuse(p, "it does not begin with a scheme; write for example redis://localhost:6379/0");
  *text = (slice){text->ptr + name.len + 3, text->len - name.len - 3};
  for (size_t i = 0; i < SCHEMES; i++) {
    names[i] = schemes[i].name;
    if (!same_word(name, names[i])) continue;
    p->url->scheme = schemes[i].name;
    p->url->topology = schemes[i].topology;
    p->url->tls = schemes[i].tls;
    return 0;
  }
  const char *nearest = rm_nearest(name.ptr, name.len, names, SCHEMES);
  return rm_fail(p->err, REDMOON_ECONFIG,
                 "%s: its scheme is not known%s%s%s; known are redis, rediss, unix, "
                 "redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster, valkey and valkeys",
                 p->source, nearest != NULL ? " (did you mean '" : "", nearest != NULL ? nearest : "",
                 nearest != NULL ? "'?)" : "");
}

static int check_bytes(const parser *p, const char *text, size_t len) {
  if (len == 0) return refuse(p, "it is empty; write for example redis://localhost:6379/0");
  if (len > LONGEST_URL) return refuse(p, "it is longer than 65536 bytes");
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
      return refuse(p, "it holds a blank, a line end or another control character; write it percent-encoded");
  return 0;
}

static int parse(parser *p, slice text) {
  int rc = check_bytes(p, text.ptr, text.len);
  if (rc == 0) rc = parse_scheme(p, &text);
  if (rc != 0) return rc;
  slice authority = {text.ptr, 0}, info = {text.ptr, 0};
  while (authority.len < text.len && strchr("/?#", text.ptr[authority.len]) == NULL) authority.len++;
  slice rest = {text.ptr + authority.len, text.len - authority.len};
  /* An '@' behind the host means that the user info was cut short by a delimiter in it: nothing may be shown. */
  if (holds(rest, '@') || holds(rest, '#'))
    return refuse(p, "a '/', '?' or '#' in the user name or password, and an '@' or '#' in the path or query, have "
                     "to be percent-encoded (%2F %3F %23 %40)");
  for (size_t i = 0; i < authority.len; i++)
    if (authority.ptr[i] == '@') info.len = i + 1;
  slice hosts = {authority.ptr + info.len, authority.len - info.len};
  if (info.len > 0) rc = parse_user_info(p, (slice){info.ptr, info.len - 1});
  if (rc != 0) return rc;
  slice path = cut(&rest, '?');
  if (strcmp(p->url->scheme, "unix") == 0) {
    rc = parse_socket(p, hosts, path);
  } else {
    rc = parse_hosts(p, hosts);
    if (rc == 0) rc = parse_path(p, path);
  }
  return rc == 0 ? parse_query(p, rest) : rc;
}

int rm_url_parse(const char *text, const char *source, rm_url *out, redmoon_error *err) {
  *out = (rm_url){.values = REDMOON_OPTIONS_INIT};
  parser p = {out, source, err};
  int rc = parse(&p, (slice){text, strlen(text)});
  if (rc != 0) rm_url_fini(out);
  return rc;
}

void rm_url_fini(rm_url *url) {
  size_t count;
  const rm_option *table = rm_options_table(&count);
  for (size_t i = 0; i < count; i++) {
    if (table[i].kind != RM_OPTION_TEXT) continue;
    char *text;
    memcpy(&text, (char *)&url->values + table[i].offset, sizeof text);
    rm_free(text);
  }
  /* A failed host leaves its element empty, and it is not counted. */
  for (size_t i = 0; i < url->address_count; i++) {
    rm_free(url->addresses[i].host);
    rm_free(url->addresses[i].path);
  }
  rm_free(url->addresses);
  rm_free(url->sentinel_name);
  rm_secret_fini(&url->username);
  rm_secret_fini(&url->password);
  rm_secret_fini(&url->sentinel_username);
  rm_secret_fini(&url->sentinel_password);
  *url = (rm_url){.values = REDMOON_OPTIONS_INIT};
}

/* The printable form. */

static int put_text(rm_buffer *out, const char *text) { return rm_buffer_append(out, text, strlen(text)); }

static int put_encoded(rm_buffer *out, const char *text) {
  int rc = 0;
  for (; *text != '\0' && rc == 0; text++) {
    char escape[4];
    snprintf(escape, sizeof escape, "%%%02X", (unsigned)(unsigned char)*text);
    bool plain = is_word(*text) || strchr("/~:[]", *text) != NULL;
    rc = plain ? rm_buffer_append(out, text, 1) : put_text(out, escape);
  }
  return rc;
}

static int put_address(rm_buffer *out, const rm_address *address) {
  if (address->path != NULL) return put_encoded(out, address->path);
  char port[16];
  snprintf(port, sizeof port, ":%d", address->port);
  bool literal = strchr(address->host, ':') != NULL;
  if (literal && put_text(out, "[") != 0) return -1;
  if (put_encoded(out, address->host) != 0) return -1;
  if (literal && put_text(out, "]") != 0) return -1;
  return put_text(out, port);
}

static int put_path(rm_buffer *out, const rm_url *url, int64_t database) {
  char text[24];
  if (url->topology == RM_CLUSTER || url->addresses[0].path != NULL) return 0;
  if (url->sentinel_name != NULL && (put_text(out, "/") != 0 || put_text(out, url->sentinel_name) != 0)) return -1;
  snprintf(text, sizeof text, "/%lld", (long long)database);
  return put_text(out, text);
}

char *rm_url_print(const rm_url *url, int64_t database) {
  rm_buffer out = {0};
  int rc = put_text(&out, url->scheme) != 0 || put_text(&out, "://") != 0;
  for (size_t i = 0; i < url->address_count && rc == 0; i++)
    rc = (i > 0 && put_text(&out, ",") != 0) || put_address(&out, &url->addresses[i]) != 0;
  char *text = NULL;
  if (rc == 0 && put_path(&out, url, database) == 0) text = rm_strndup(rm_buffer_begin(&out), rm_buffer_len(&out));
  rm_buffer_fini(&out);
  return text;
}
