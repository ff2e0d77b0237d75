/* SPDX-License-Identifier: MIT */
/* Reply fixtures and the text form of replies. */
#include "support/reply_fixtures.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIXTURE(bytes, text)                                                                                       \
  { bytes, sizeof(bytes) - 1, text }
#define ATTRIBUTE "|1\r\n+ttl\r\n:3600\r\n"

const reply_fixture reply_fixtures[] = {
    FIXTURE("+OK\r\n", "+OK"),
    FIXTURE("+\r\n", "+"),
    FIXTURE("-ERR no such thing\r\n", "-ERR no such thing"),
    FIXTURE(":0\r\n", "0"),
    FIXTURE(":-9223372036854775808\r\n", "-9223372036854775808"),
    FIXTURE(":9223372036854775807\r\n", "9223372036854775807"),
    FIXTURE("$5\r\nhello\r\n", "\"hello\""),
    FIXTURE("$0\r\n\r\n", "\"\""),
    FIXTURE("$12\r\na\r\nb\0c\r\n$3\r\n\r\n", "\"a\\x0d\\x0ab\\x00c\\x0d\\x0a$3\\x0d\\x0a\""),
    FIXTURE("$-1\r\n", "nil"),
    FIXTURE("*-1\r\n", "nil"),
    FIXTURE("%-1\r\n", "nil"),
    FIXTURE("_\r\n", "nil"),
    FIXTURE("*0\r\n", "[]"),
    FIXTURE("%0\r\n", "{}"),
    FIXTURE("~0\r\n", "~[]"),
    FIXTURE(">0\r\n", ">[]"),
    FIXTURE("*3\r\n$3\r\nfoo\r\n$-1\r\n$3\r\nbar\r\n", "[\"foo\" nil \"bar\"]"),
    FIXTURE("*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n+three\r\n", "[[1 2] [+three]]"),
    FIXTURE("*3\r\n:1\r\n-WRONGTYPE kept in the array\r\n:3\r\n", "[1 -WRONGTYPE kept in the array 3]"),
    FIXTURE("*2\r\n*0\r\n*1\r\n*0\r\n", "[[] [[]]]"),
    FIXTURE("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:7\r\n", "[[[[[[[[[[[7]]]]]]]]]]]"),
    FIXTURE("#t\r\n", "true"),
    FIXTURE("#f\r\n", "false"),
    FIXTURE(",3.25\r\n", ",3.25"),
    FIXTURE(",-0.1\r\n", ",-0.10000000000000001"),
    FIXTURE(",1e-7\r\n", ",9.9999999999999995e-08"),
    FIXTURE(",10\r\n", ",10"),
    FIXTURE(",inf\r\n", ",inf"),
    FIXTURE(",-inf\r\n", ",-inf"),
    FIXTURE(",nan\r\n", ",nan"),
    FIXTURE("(3492890328409238509324850943850943825024385\r\n", "(3492890328409238509324850943850943825024385"),
    FIXTURE("(-12\r\n", "(-12"),
    FIXTURE("=15\r\ntxt:Some string\r\n", "=\"Some string\""),
    FIXTURE("=4\r\nmkd:\r\n", "=\"\""),
    FIXTURE("!21\r\nSYNTAX invalid syntax\r\n", "-SYNTAX invalid syntax"),
    FIXTURE("!8\r\nERR a\r\nb\r\n", "-ERR a\\x0d\\x0ab"),
    FIXTURE("*3\r\n!5\r\nERR x\r\n$1\r\na\r\n!5\r\nERR y\r\n", "[-ERR x \"a\" -ERR y]"),
    FIXTURE("%2\r\n+first\r\n:1\r\n+second\r\n*1\r\n:2\r\n", "{+first:1 +second:[2]}"),
    FIXTURE("%1\r\n*1\r\n:1\r\n%1\r\n:2\r\n~1\r\n:3\r\n", "{[1]:{2:~[3]}}"),
    FIXTURE("~3\r\n+a\r\n:1\r\n#t\r\n", "~[+a 1 true]"),
    FIXTURE(">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n", ">[\"invalidate\" [\"key\"]]"),
    FIXTURE(">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n", ">[+message +channel \"hi\"]"),
    FIXTURE("*2\r\n,1.5\r\n,inf\r\n", "[,1.5 ,inf]"),
    FIXTURE(ATTRIBUTE "+OK\r\n", "+OK"),
    FIXTURE("|0\r\n:5\r\n", "5"),
    FIXTURE(ATTRIBUTE "|0\r\n" ATTRIBUTE "$2\r\nab\r\n", "\"ab\""),
    FIXTURE(ATTRIBUTE ">1\r\n+hello\r\n", ">[+hello]"),
    FIXTURE("*3\r\n" ATTRIBUTE ":1\r\n:2\r\n" ATTRIBUTE ":3\r\n", "[1 2 3]"),
    FIXTURE("*2\r\n|0\r\n|0\r\n*1\r\n|0\r\n-ERR e\r\n!2\r\nE!\r\n", "[[-ERR e] -E!]"),
    FIXTURE("%1\r\n" ATTRIBUTE "+k\r\n" ATTRIBUTE "~1\r\n" ATTRIBUTE ",0.5\r\n", "{+k:~[,0.5]}"),
    FIXTURE("|1\r\n+outer\r\n|1\r\n+inner\r\n!3\r\nERR\r\n*2\r\n,1\r\n|0\r\n:2\r\n!3\r\nBAD\r\n", "-BAD"),
    FIXTURE("*2\r\n|1\r\n!2\r\nE1\r\n!2\r\nE2\r\n!2\r\nE3\r\n$2\r\nok\r\n", "[-E3 \"ok\"]"),
};
const size_t reply_fixture_count = sizeof reply_fixtures / sizeof reply_fixtures[0];

typedef struct writer {
  char *out;
  size_t cap, used;
} writer;

static void put(writer *w, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(w->out + w->used, w->cap - w->used, format, args);
  va_end(args);
  if (n > 0) w->used += (size_t)n < w->cap - w->used ? (size_t)n : w->cap - w->used - 1;
}

static void put_string(writer *w, const redmoon_reply *reply, const char *before, const char *after) {
  size_t len;
  const char *text = redmoon_reply_string(reply, &len);
  put(w, "%s", before);
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    put(w, c >= 0x20 && c < 0x7f ? "%c" : "\\x%02x", c);
  }
  /* The NUL behind the text is part of what is promised. */
  put(w, "%s%s", after, text[len] == '\0' ? "" : "<no NUL>");
}

static void put_reply(writer *w, const redmoon_reply *reply);

static void put_list(writer *w, const redmoon_reply *reply, const char *before) {
  put(w, "%s", before);
  for (size_t i = 0; i < redmoon_reply_count(reply); i++) {
    if (i > 0) put(w, " ");
    put_reply(w, redmoon_reply_at(reply, i));
  }
  put(w, "]");
}

static void put_map(writer *w, const redmoon_reply *reply) {
  put(w, "{");
  for (size_t i = 0; i < redmoon_reply_count(reply); i++) {
    if (i > 0) put(w, " ");
    put_reply(w, redmoon_reply_key(reply, i));
    put(w, ":");
    put_reply(w, redmoon_reply_value(reply, i));
  }
  put(w, "}");
}

static void put_reply(writer *w, const redmoon_reply *reply) {
  switch (redmoon_reply_type(reply)) {
  case REDMOON_NIL:
    put(w, "nil");
    break;
  case REDMOON_STATUS:
    put_string(w, reply, "+", "");
    break;
  case REDMOON_ERROR:
    put_string(w, reply, "-", "");
    break;
  case REDMOON_INTEGER:
    put(w, "%lld", (long long)redmoon_reply_integer(reply));
    break;
  case REDMOON_DOUBLE:
    put(w, ",%.17g", redmoon_reply_double(reply));
    break;
  case REDMOON_BOOLEAN:
    put(w, redmoon_reply_integer(reply) ? "true" : "false");
    break;
  case REDMOON_STRING:
    put_string(w, reply, "\"", "\"");
    break;
  case REDMOON_BIGNUM:
    put_string(w, reply, "(", "");
    break;
  case REDMOON_VERBATIM:
    put_string(w, reply, "=\"", "\"");
    break;
  case REDMOON_ARRAY:
    put_list(w, reply, "[");
    break;
  case REDMOON_SET:
    put_list(w, reply, "~[");
    break;
  case REDMOON_PUSH:
    put_list(w, reply, ">[");
    break;
  case REDMOON_MAP:
    put_map(w, reply);
    break;
  }
}

const char *reply_text(const redmoon_reply *reply, char *out, size_t cap) {
  writer w = {out, cap, 0};
  out[0] = '\0';
  put_reply(&w, reply);
  return out;
}
