/* SPDX-License-Identifier: MIT */
/* A Lua function that supplies user and password at each new connection.
 *
 *      dial on the thread that is inside a call of the owning state -> the function is called there
 *      dial on any other thread (keeper, other states)              -> what the function said last
 *
 *  The client owns one reference and so keeps what the function said last, also when the owning state is closed and
 *  the function with it.  The state's references belong to one thread at a time; what other threads look at is behind
 *  the mutex, which is not held while Lua runs.  The function is in the registry, under the object's address. */
#include "binding.h"

#include "base/alloc.h"
#include "base/secret.h"

#include <pthread.h>
#include <string.h>

enum { USERNAME_SIZE = 256, PASSWORD_SIZE = 4096 };

struct rm_lua_credentials {
  pthread_mutex_t mutex;
  atomic_int refs;
  int state_refs; /* of them, those of the owning state */
  lua_State *active; /* inside the engine now, on `thread`; NULL: none */
  pthread_t thread;
  bool known;
  rm_secret username, password; /* what the function said last */
};

typedef struct question {
  rm_lua_credentials *credentials;
  char *username, *password;
} question;

static void destroy(void *ptr) {
  rm_lua_credentials *credentials = ptr;
  pthread_mutex_destroy(&credentials->mutex);
  rm_secret_fini(&credentials->username);
  rm_secret_fini(&credentials->password);
  rm_free(credentials);
}

rm_lua_credentials *rm_lua_credentials_new(lua_State *L, int index) {
  index = lua_absindex(L, index);
  rm_lua_guard *guard = rm_lua_guard_new(L, destroy);
  rm_lua_credentials *credentials = rm_calloc(1, sizeof *credentials);
  if (credentials == NULL) luaL_error(L, "not enough memory");
  if (pthread_mutex_init(&credentials->mutex, NULL) != 0) {
    rm_free(credentials);
    luaL_error(L, "no mutex could be made for option 'credentials'");
  }
  guard->ptr = credentials;
  lua_pushvalue(L, index);
  lua_rawsetp(L, LUA_REGISTRYINDEX, credentials);
  guard->ptr = NULL;
  lua_pop(L, 1);
  atomic_init(&credentials->refs, 1);
  credentials->state_refs = 1;
  return credentials;
}

void rm_lua_credentials_ref(rm_lua_credentials *credentials) {
  atomic_fetch_add(&credentials->refs, 1);
  credentials->state_refs++;
}

void rm_lua_credentials_share(rm_lua_credentials *credentials) { atomic_fetch_add(&credentials->refs, 1); }

void rm_lua_credentials_drop(void *ctx) {
  rm_lua_credentials *credentials = ctx;
  if (atomic_fetch_sub(&credentials->refs, 1) == 1) destroy(credentials);
}

void rm_lua_credentials_unref(lua_State *L, rm_lua_credentials *credentials) {
  if (--credentials->state_refs == 0) {
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, credentials); /* the entry exists, so no memory is asked for */
  }
  rm_lua_credentials_drop(credentials);
}

lua_State *rm_lua_credentials_enter(rm_lua_credentials *credentials, lua_State *L) {
  pthread_mutex_lock(&credentials->mutex);
  lua_State *before = credentials->active;
  credentials->active = L;
  credentials->thread = pthread_self();
  pthread_mutex_unlock(&credentials->mutex);
  return before;
}

/* Copies the string (or nil: "") at `index`. [-0, +0] */
static void take_text(lua_State *L, int index, const char *what, char *out, size_t cap) {
  if (lua_isnil(L, index)) return;
  size_t len;
  if (lua_type(L, index) != LUA_TSTRING) luaL_error(L, "credentials: the %s must be a string", what);
  const char *text = lua_tolstring(L, index, &len);
  if (len >= cap || memchr(text, '\0', len) != NULL)
    luaL_error(L, "credentials: the %s must be shorter than %d bytes, without NUL", what, (int)cap);
  memcpy(out, text, len + 1);
}

/* Runs protected: a light userdata, the question. */
static int ask_function(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, q->credentials);
  lua_call(L, 0, 2);
  if (lua_isnil(L, -1)) return luaL_error(L, "credentials: no password was returned");
  take_text(L, -2, "user name", q->username, USERNAME_SIZE);
  take_text(L, -1, "password", q->password, PASSWORD_SIZE);
  return 0;
}

/* 0, or negative for the engine. [-0, +0], never raises */
static int ask_lua(lua_State *L, question *q) {
  if (!lua_checkstack(L, 4)) return REDMOON_ENOMEM;
  lua_pushcfunction(L, ask_function);
  lua_pushlightuserdata(L, q);
  int status = lua_pcall(L, 1, 0, 0);
  if (status == LUA_OK) return 0;
  lua_pop(L, 1);
  return status == LUA_ERRMEM ? REDMOON_ENOMEM : -1;
}

static bool remember(rm_lua_credentials *credentials, const question *q) {
  pthread_mutex_lock(&credentials->mutex);
  bool ok = rm_secret_set(&credentials->username, q->username, strlen(q->username)) == 0 &&
            rm_secret_set(&credentials->password, q->password, strlen(q->password)) == 0;
  credentials->known = ok;
  pthread_mutex_unlock(&credentials->mutex);
  return ok;
}

int rm_lua_credentials_ask(void *ctx, char username[256], char password[4096]) {
  rm_lua_credentials *credentials = ctx;
  username[0] = password[0] = '\0';
  pthread_mutex_lock(&credentials->mutex);
  lua_State *L = credentials->active;
  bool ours = L != NULL && pthread_equal(credentials->thread, pthread_self());
  if (!ours && credentials->known) {
    memcpy(username, credentials->username.bytes, credentials->username.len + 1);
    memcpy(password, credentials->password.bytes, credentials->password.len + 1);
  }
  bool known = credentials->known;
  pthread_mutex_unlock(&credentials->mutex);
  if (!ours) return known ? 0 : -1;
  question q = {credentials, username, password};
  int status = ask_lua(L, &q);
  if (status < 0) {
    rm_wipe(username, USERNAME_SIZE);
    rm_wipe(password, PASSWORD_SIZE);
    return status;
  }
  return remember(credentials, &q) ? 0 : REDMOON_ENOMEM;
}

int rm_lua_credentials_prime(lua_State *L, rm_lua_credentials *credentials) {
  char username[USERNAME_SIZE], password[PASSWORD_SIZE];
  lua_State *outer = rm_lua_credentials_enter(credentials, L);
  int status = rm_lua_credentials_ask(credentials, username, password);
  rm_lua_credentials_enter(credentials, outer);
  rm_wipe(username, sizeof username);
  rm_wipe(password, sizeof password);
  return status;
}
