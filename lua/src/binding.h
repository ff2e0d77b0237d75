/* SPDX-License-Identifier: MIT */
/** Contracts between the files of the Lua binding: check, convert, wait.  No Redis logic here.
 *
 *      client.c ----+                     +-- args.c     Lua values -> arguments
 *      pipeline.c   |                     +-- options.c  option tables -> structs
 *      transaction.c+--> op.c, wait.c ----+-- push.c     replies -> Lua values
 *      lock.c ...   |    (the engine)     +-- error.c    failures -> nil, message, code, detail
 *
 *  Every userdata gets its metatable before its resource, and nothing that can raise stands between taking a
 * resource and boxing it.  Functions that touch the stack say so: [-popped, +pushed]. */
#ifndef RM_LUA_BINDING_H
#define RM_LUA_BINDING_H

#include "engine/call.h"
#include "wire/config.h"
#include "wire/reply.h"

#include <lua.h>
#include <lauxlib.h>
#include <redmoon/redmoon.h>
#include <redmoon/lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Per lua_State, and references to clients. */

/** A type of objects that have commands as methods: checked without a look-up by name. */
typedef struct rm_lua_type {
  const void *meta;  /* identity of the metatable */
  const void *known; /* the object checked last; its __gc takes it out of here */
} rm_lua_type;

/** Data of one lua_State; a userdata that its registry keeps. */
typedef struct rm_lua_shared {
  atomic_int pending; /* hook events wait to be handed to their functions */
  bool dispatching;   /* that goes on now */
  int watched;        /* locks whose loss is to be told */
  rm_lua_type client, pipeline, transaction;
  struct rm_lua_task *task; /* for calls that block; the registry keeps it */
} rm_lua_shared;

typedef struct rm_lua_credentials rm_lua_credentials;
typedef struct rm_lua_loop rm_lua_loop;

/** What each object that talks to Redis holds of a client. */
typedef struct rm_lua_link {
  redmoon_client *client;          /* a reference; NULL: closed */
  rm_lua_credentials *credentials; /* a reference; NULL: no credentials function of this state */
  rm_lua_loop *loop;               /* a reference; NULL: calls block the thread */
  rm_lua_shared *shared;
} rm_lua_link;

/** *to becomes one more reference; it must hold none. [-0, +0], never raises */
void rm_lua_link_set(rm_lua_link *to, const rm_lua_link *from);
/** Drops the references; may be repeated. [-0, +0], never raises */
void rm_lua_link_drop(lua_State *L, rm_lua_link *link);
/** This state's data. [-0, +0] */
rm_lua_shared *rm_lua_shared_get(lua_State *L);

/* credentials.c: */

/** A function of the state that supplies user and password; `index` is the function.  [-0, +0], may raise */
rm_lua_credentials *rm_lua_credentials_new(lua_State *L, int index);
/** Asks the function now, so that other threads have something to go by.  0 or negative. [-0, +0], never raises */
int rm_lua_credentials_prime(lua_State *L, rm_lua_credentials *credentials);
void rm_lua_credentials_ref(rm_lua_credentials *credentials);
/** One more reference, the client's: ended by rm_lua_credentials_drop, on any thread. */
void rm_lua_credentials_share(rm_lua_credentials *credentials);
/** redmoon_options.credentials_drop. */
void rm_lua_credentials_drop(void *ctx);
void rm_lua_credentials_unref(lua_State *L, rm_lua_credentials *credentials);
/** redmoon_options.credentials. */
int rm_lua_credentials_ask(void *ctx, char username[256], char password[4096]);
/** The state whose thread is inside the engine now (NULL: none) is replaced; returns what it was. */
lua_State *rm_lua_credentials_enter(rm_lua_credentials *credentials, lua_State *L);

/* loop.c: */

/** An event loop from the table of its functions at `index`; raises for anything else. [-0, +0] */
rm_lua_loop *rm_lua_loop_new(lua_State *L, int index);
void rm_lua_loop_ref(rm_lua_loop *loop);
void rm_lua_loop_unref(lua_State *L, rm_lua_loop *loop);
/** Closes the descriptors that it keeps for later calls. [-0, +0], never raises */
void rm_lua_loop_rest(lua_State *L, rm_lua_loop *loop);

/** What the loop waits for in the place of sockets. */
typedef struct rm_lua_pollset {
  int fd;               /* an epoll descriptor */
  int timer;            /* in it; -1: the loop has timers */
  int closing, lasting; /* in it from an earlier wait: the client's end, and a descriptor of RM_WANT_LASTING; -1: none */
  char token[17];       /* of the client that these two belong to */
} rm_lua_pollset;
/** What a call holds of the loop while it waits.  Zeroed: nothing. */
typedef struct rm_lua_waiter {
  rm_lua_loop *loop; /* a reference */
  bool has_set;      /* not before it has to wait for a descriptor */
  rm_lua_pollset set;
  int fd; /* in it for now; -1: none */
} rm_lua_waiter;
/** Lets the loop wait for what `op` wants, which yields, and goes on in `resumed`, or returns true.  False: the caller is
 *  outside of the loop, or there is no pollset.  May raise, as the loop's functions may. */
bool rm_lua_loop_await(lua_State *L, rm_lua_loop *loop, rm_lua_waiter *waiter, const redmoon_op *op,
                       lua_KFunction resumed, lua_KContext ctx);
/** The bell of the operations of this loop; NULL: it cannot wake a coroutine by itself. */
rm_bell *rm_lua_loop_bell(rm_lua_loop *loop);
/** Lets those go on that an operation's step has rung for.  May raise, as the loop's functions may. [-0, +0] */
void rm_lua_loop_wake(lua_State *L, rm_lua_loop *loop);
/** Pushes the loop's function spawn(fn, ...), which runs fn in a coroutine of its own.  False, with nothing pushed: it has none, or
 *  the caller is outside of the loop or cannot yield.  May raise, as the loop's functions may. [-0, +1|0] */
bool rm_lua_loop_push_spawn(lua_State *L, const rm_lua_loop *loop);
/** The wait is over; may be repeated. [-0, +0], never raises */
void rm_lua_waiter_end(lua_State *L, rm_lua_waiter *waiter);
/** Whoever waited is gone. [-0, +0], never raises */
void rm_lua_waiter_abandon(lua_State *L, rm_lua_waiter *waiter);

/* wait.c: */

/** Takes the operation to its end, or until it wants a load (RM_WAIT): the one place where the binding waits.  Returns its
 *  status; or, after a yield, goes on in `resumed` with `ctx`, which calls it again.  May raise. [-0, +0] */
int rm_lua_wait(lua_State *L, const rm_lua_link *link, rm_lua_waiter *waiter, redmoon_op *op, lua_KFunction resumed,
                lua_KContext ctx);

/** Whether a call may wait here: it blocks, or its coroutine can yield. [-0, +0] */
bool rm_lua_can_wait(lua_State *L, const rm_lua_link *link);

/** What a call that waits keeps over a yield. */
typedef struct rm_lua_task rm_lua_task;
/** Turns what the operation has written to rm_lua_out (status 0), or task->err, into the results of the call: pushes them and
 *  returns their count; or has begun another one in task->op, and returns RM_LUA_AGAIN.  Arguments lie where they lay. */
typedef int (*rm_lua_tail)(lua_State *L, rm_lua_task *task, int status);
enum { RM_LUA_AGAIN = -1 };
struct rm_lua_task {
  _Alignas(max_align_t) redmoon_op *op; /* what a `_start` began */
  redmoon_error err; /* of the `_start`, then of the operation */
  rm_lua_tail tail;
  void (*drop)(void *out); /* frees what `out` holds at the end; NULL: nothing */
  rm_lua_link link;
  rm_lua_waiter waiter;
  bool busy;  /* in use, or left by an error: the GC ends it then */
  bool holds; /* the link's references are its own */
};
/** Zeroed room for out-parameters, behind the task: of no declared type, so any may lie there. */
enum { RM_LUA_OUT = 256 };
static inline void *rm_lua_out(rm_lua_task *task) { return task + 1; }
/** A task of the object with this link.  Pushes it, or, for a call that blocks, the state's own and nothing. [-0, +0|1] */
rm_lua_task *rm_lua_task_take(lua_State *L, const rm_lua_link *link, rm_lua_tail tail);
/** The same, but never the state's own: for a tail that calls functions of the user, which may raise. [-0, +1] */
rm_lua_task *rm_lua_task_take_own(lua_State *L, const rm_lua_link *link, rm_lua_tail tail);
/** Waits for what a `_start` began in task->op and task->err, and returns what the tail returns; `started` is what the
 *  `_start` returned.  What the take pushed is on top.  The last thing that a function does. */
int rm_lua_task_run(lua_State *L, rm_lua_task *task, int started);
/** The same, but what the `_start` refused (REDMOON_ECONFIG) is raised. */
int rm_lua_task_run_or_raise(lua_State *L, rm_lua_task *task, int started);
/** Ends it without results: before a tail raises. [-0, +0], never raises */
void rm_lua_task_put(lua_State *L, rm_lua_task *task);
/** For the tail of an iterator: ends the task and raises its error, because `for` has no place for one. */
int rm_lua_task_raise(lua_State *L, rm_lua_task *task);
/** A tail: true, or nil, message, code, detail. */
int rm_lua_task_done(lua_State *L, rm_lua_task *task, int status);
/** A tail: the int64_t that was written to rm_lua_out, or nil, message, code, detail. */
int rm_lua_task_integer(lua_State *L, rm_lua_task *task, int status);
void rm_lua_wait_open(lua_State *L, rm_lua_shared *shared);

/** Tail of every call: hands queued events and lost locks to their functions and returns `count`, the results on top of the stack.
 */
int rm_lua_end(lua_State *L, const rm_lua_link *link, int count);

/* error.c: */

/** nil, message, code, detail: returns 4. [-0, +4] */
int rm_lua_fail(lua_State *L, const redmoon_error *err);
/** The same for a status without more to say than a text. */
int rm_lua_fail_text(lua_State *L, int status, const char *message);
/** An error object, for which redmoon.is_error holds. [-0, +1] */
void rm_lua_push_error(lua_State *L, const redmoon_error *err);
/** The same from the text of an error reply. [-0, +1] */
void rm_lua_push_error_reply(lua_State *L, const redmoon_reply *reply);
/** Raises for a misuse, at the line of the caller outside of this module; `format` as of lua_pushfstring. */
int rm_lua_raise(lua_State *L, const char *format, ...);
/** Metatable of error objects. [-0, +0] */
void rm_lua_error_open(lua_State *L);
int rm_lua_is_error(lua_State *L);

/* push.c: */

/** An answer as the result of a call: a nil is nil; ERROR must have been dealt with. [-0, +1] */
void rm_lua_push_reply(lua_State *L, const redmoon_reply *reply);
/** An answer inside a list: a nil is redmoon.null, an error is an error object. [-0, +1] */
void rm_lua_push_element(lua_State *L, const redmoon_reply *reply);
/** The result of a call of one command that was answered: the value, or nil, message, code, detail.  `conditional`:
 * a nil means false.  Returns the count. */
int rm_lua_push_answer(lua_State *L, const rm_call *call, bool conditional);
static inline void rm_lua_push_null(lua_State *L) { lua_pushlightuserdata(L, NULL); }

/* args.c: */

/** Raises unless the stack's values first..last are strings or numbers. [-0, +0] */
void rm_lua_check_args(lua_State *L, int first, int last);
/** Adds them to a request.  They were checked. [-0, +0], never raises */
void rm_lua_put_args(lua_State *L, int first, int last, rm_request *request);

/** A command's name; `formatted`: as a request holds it. */
typedef struct rm_lua_name {
  const char *text;
  size_t len;
  bool formatted;
} rm_lua_name;
/** A whole command but for its end: name, then the checked values first..last. [-0, +0], never raises */
void rm_lua_put_command(lua_State *L, rm_lua_name name, int first, int last, rm_request *request);
/** Arguments as arrays; strings stay where they are, numbers become text of the array's own userdata. */
typedef struct rm_lua_args {
  size_t count, cap;
  redmoon_bytes *bytes;
  const char **argv;
  size_t *lens;
  char (*text)[32];
} rm_lua_args;
/** Room for `cap` arguments. [-0, +1] */
rm_lua_args *rm_lua_args_new(lua_State *L, size_t cap);
void rm_lua_args_add_bytes(rm_lua_args *args, const char *ptr, size_t len);
/** Adds the checked values first..last of the stack, which must stay there. [-0, +0], never raises */
void rm_lua_args_add(lua_State *L, rm_lua_args *args, int first, int last);
/** Adds the elements of the list at `index`, which must stay unchanged; raises for elements that are neither string
 * nor number. `what` names the list. [-0, +0] */
void rm_lua_args_add_list(lua_State *L, rm_lua_args *args, int index, const char *what);
/** Length of the list at `index`; 0 for nil; raises for anything else. [-0, +0] */
size_t rm_lua_list_len(lua_State *L, int index, const char *what);

/* options.c: */

/** More kinds of rm_option: handled by the caller; known, but refused with the text in `accepts`. */
#define RM_LUA_OPTION_OTHER ((rm_option_kind)100)
#define RM_LUA_OPTION_REFUSED ((rm_option_kind)101)
/** Reads the table at `index` into the struct `out` by `table`; raises at the caller's line for what is unknown, of
 * the wrong type or out of range. nil: nothing is read.  Texts stay the table's. [-0, +0] */
void rm_lua_read_options(lua_State *L, int index, const rm_option *table, size_t count, void *out);
/** The options of redmoon.connect.  *default_ttl_ms: -1 for an explicit `false`, REDMOON_UNSET when not given.
 *  Leaves the credentials function (or nil) on top. [-0, +1] */
void rm_lua_read_client_options(lua_State *L, int index, redmoon_options *out, int64_t *default_ttl_ms);
/** The options of client:with. [-0, +0] */
void rm_lua_read_call_options(lua_State *L, int index, redmoon_call_options *out);
/** Seconds at `index` as milliseconds, rounded up; raises with the option's name outside [min, max] ms. [-0, +0] */
int64_t rm_lua_duration_ms(lua_State *L, int index, const rm_option *option);
/** The timeout of a receive at `index`, seconds as milliseconds; -1, for ever, for none and math.huge. [-0, +0] */
int64_t rm_lua_receive_timeout_ms(lua_State *L, int index);
/** Position of the name at `index` among `names`; raises, with the nearest. [-0, +0] */
size_t rm_lua_check_name(lua_State *L, int index, const char *const *names, size_t count, const char *what);

/* op.c: */

/** A reusable call in a userdata; each client keeps one that is not in use. */
typedef struct rm_lua_op {
  rm_call call;
  rm_lua_link link;
  rm_lua_waiter waiter;
  int place;        /* on the stack of its call */
  bool conditional; /* a nil answer means false */
  bool busy; /* stays set when an error unwinds past rm_lua_op_put: the next call takes a new one, the GC ends this
                one */
  bool open;
} rm_lua_op;
/** Pushes an op of the client at 1 that is free. [-0, +1] */
rm_lua_op *rm_lua_op_take(lua_State *L, const rm_lua_link *link);
/** The client at 1 keeps the op on top for the next call, which it does anyway without a loop. [-1, +0] */
void rm_lua_op_keep(lua_State *L, rm_lua_op *op);
/** Ready for the next call; its reply is gone. [-0, +0] */
void rm_lua_op_put(rm_lua_op *op);
void rm_lua_op_close(lua_State *L, rm_lua_op *op);
/** Sends the one command that was formatted (`status`: how rm_call_end ended), pushes the result, puts the op back.
 */
int rm_lua_op_run(lua_State *L, rm_lua_op *op, int status, bool conditional);
void rm_lua_op_open(lua_State *L);

/** Owns a C object while Lua values are made of it. */
typedef struct rm_lua_guard {
  void *ptr;
  void (*drop)(void *ptr);
} rm_lua_guard;
/** [-0, +1] */
rm_lua_guard *rm_lua_guard_new(lua_State *L, void (*drop)(void *ptr));
void rm_lua_guard_end(rm_lua_guard *guard);
/** One that ends with redmoon_reply_free. [-0, +1] */
rm_lua_guard *rm_lua_reply_guard(lua_State *L);

/* methods.c, set.c: */

enum { RM_LUA_AS_WRITTEN, RM_LUA_SET, RM_LUA_GETEX };
enum { RM_LUA_NAME_MAX = 64 };

/** What a command's method knows; upvalue 1 of its closure. */
typedef struct rm_lua_method {
  const rm_command *command;
  rm_lua_type *type; /* of the objects it is a method of */
  int rewrite;       /* RM_LUA_SET ...: takes a last table of options */
  bool has_subcommands;
  size_t len;
  char name[RM_LUA_NAME_MAX + 1];  /* upper case */
  size_t wire_len;
  char wire[RM_LUA_NAME_MAX + 12]; /* the name as a request holds it: "$3\r\nGET\r\n" */
} rm_lua_method;
/** Makes the table on top yield a method for each lower-case command name: a closure of `fn`. [-0, +0] */
void rm_lua_command_methods(lua_State *L, lua_CFunction fn, rm_lua_type *type);
/** The object at 1, if it is of the method's type; else raises. [-0, +0] */
void *rm_lua_receiver(lua_State *L, const rm_lua_method *method);
static inline void rm_lua_forget(rm_lua_type *type, const void *object) {
  if (type->known == object) type->known = NULL;
}
/** The command behind a method called with arguments from 2 on. [-0, +0] */
const rm_command *rm_lua_method_command(lua_State *L, const rm_lua_method *method);
/** The command of `object:call(name, ...)`, arguments checked from 2 on. [-0, +0] */
const rm_command *rm_lua_call_command(lua_State *L, const char **name, size_t *len);
/** Replaces the options table behind the arguments (from 2 on) of SET and GETEX by the arguments it stands for, and
 *  applies default_ttl.  *conditional: a nil answer means that a condition was not met. [-0, +?] */
void rm_lua_rewrite(lua_State *L, const rm_lua_method *method, int64_t default_ttl_ms, bool *conditional);

/* The userdata. */

typedef struct rm_lua_client {
  rm_lua_link link;
  int64_t default_ttl_ms; /* -1: none */
} rm_lua_client;
enum { RM_LUA_SLOT_OP = 1, RM_LUA_SLOT_HOOKS = 2, RM_LUA_SLOT_SERVER = 3, RM_LUA_CLIENT_SLOTS = 3 };

/** The client at `index`; raises for anything else; it may be closed. [-0, +0] */
rm_lua_client *rm_lua_client_check(lua_State *L, int index);
/** A closed client box. [-0, +1] */
rm_lua_client *rm_lua_client_new(lua_State *L);
/** redmoon.connect; the options table at `options`, the URL at `url` (0: none). */
int rm_lua_connect(lua_State *L, int url, int options);
/** nil, "the client is closed", "CLOSED", detail */
int rm_lua_fail_closed(lua_State *L);

/** The script at `index`; raises for anything else.  Its source is user value 1. [-0, +0] */
redmoon_script *rm_lua_script_check(lua_State *L, int index);

/** The box of a permit. */
typedef struct rm_lua_permit {
  rm_lua_link link;
  redmoon_permit *permit; /* NULL: closed, or not given yet */
  bool released;
} rm_lua_permit;
/** A box to be filled by a `_start` of C; it keeps what user value `slot` of the object at `index` keeps. [-0, +1] */
rm_lua_permit *rm_lua_permit_new(lua_State *L, int index, int slot, const rm_lua_link *link);
/** A task for the operation that fills the box on top; its tail gives the box, or nil, message, code, detail. [-0, +1] */
rm_lua_task *rm_lua_permit_take(lua_State *L, const rm_lua_link *link);

/** Ends the hooks of the client at `index`. [-0, +0] */
void rm_lua_hooks_close(lua_State *L, int index);
/** Hands queued events to their functions. [-0, +0] */
void rm_lua_hooks_dispatch(lua_State *L, rm_lua_shared *shared);

/** Calls on_lost of the locks that were lost since the last look. [-0, +0] */
void rm_lua_locks_dispatch(lua_State *L, rm_lua_shared *shared);

/* Taking a lock by a method: an object at 1, the name at 2, options at 3. */

/** The name, checked; the stack is cut to 3. [-?, +0] */
const char *rm_lua_lock_name(lua_State *L, size_t *len);
/** Pushes on_lost of the options, and a lock for a `_start` to fill: at 4 and 5. [-0, +2] */
redmoon_lock **rm_lua_lock_new(lua_State *L, const rm_lua_link *link);
/** A task for the operation that fills it; the lock keeps the value on top alive. [-1, +0|1] */
rm_lua_task *rm_lua_lock_take(lua_State *L);

/* Methods of the client, each in its own file. */
int rm_lua_client_audit(lua_State *L);
int rm_lua_client_audit_fix(lua_State *L);
int rm_lua_client_audit_undo(lua_State *L);
int rm_lua_client_blocklist(lua_State *L);
int rm_lua_client_cache(lua_State *L);
int rm_lua_client_pipeline(lua_State *L);
int rm_lua_client_run(lua_State *L);
int rm_lua_client_scan(lua_State *L);
int rm_lua_client_hscan(lua_State *L);
int rm_lua_client_sscan(lua_State *L);
int rm_lua_client_zscan(lua_State *L);
int rm_lua_client_counter(lua_State *L);
int rm_lua_client_list_queue(lua_State *L);
int rm_lua_client_lock(lua_State *L);
int rm_lua_client_queue(lua_State *L);
int rm_lua_client_rate_limiter(lua_State *L);
int rm_lua_client_records(lua_State *L);
int rm_lua_client_sessions(lua_State *L);
int rm_lua_client_fence_guard(lua_State *L);
int rm_lua_client_rwlock(lua_State *L);
int rm_lua_client_semaphore(lua_State *L);
int rm_lua_client_nodes(lua_State *L);
int rm_lua_client_stats(lua_State *L);
int rm_lua_client_stream_queue(lua_State *L);
int rm_lua_client_subscribe(lua_State *L);
int rm_lua_client_topic(lua_State *L);
int rm_lua_client_metrics(lua_State *L);
int rm_lua_client_on(lua_State *L);
int rm_lua_new_jti(lua_State *L);
int rm_lua_script_new(lua_State *L);
int rm_lua_embedded_start(lua_State *L);
/** queue_sleep(queue, seconds): lets time pass, until the client is shut down at the latest. */
int rm_lua_queue_spawns(lua_State *L);
int rm_lua_queue_sleep(lua_State *L);
int rm_lua_rate_limits(lua_State *L);
/** subscription_next(subscription): the next event; nil, message, code, detail when it has ended, or is closed. */
int rm_lua_subscription_next(lua_State *L);
/** subscription_spawn(subscription): the loop's function that begins a coroutine; nothing: it is in no loop. */
int rm_lua_subscription_spawn(lua_State *L);
int rm_lua_redlock(lua_State *L);

/** Each makes its metatables. [-0, +0] */
void rm_lua_client_open(lua_State *L, rm_lua_shared *shared);
void rm_lua_audit_open(lua_State *L);
void rm_lua_audit_fix_open(lua_State *L);
void rm_lua_blocklist_open(lua_State *L);
void rm_lua_cache_open(lua_State *L);
void rm_lua_pipeline_open(lua_State *L, rm_lua_shared *shared);
void rm_lua_script_open(lua_State *L);
void rm_lua_scan_open(lua_State *L);
void rm_lua_counter_open(lua_State *L);
void rm_lua_list_queue_open(lua_State *L);
void rm_lua_job_open(lua_State *L);
void rm_lua_lock_open(lua_State *L);
void rm_lua_permit_open(lua_State *L);
/** Leaves the table of methods, for those written in Lua. [-0, +1] */
void rm_lua_queue_open(lua_State *L);
void rm_lua_rate_limiter_open(lua_State *L);
void rm_lua_records_open(lua_State *L);
/** Leaves the table of methods, for those written in Lua. [-0, +1] */
void rm_lua_redlock_open(lua_State *L);
void rm_lua_sessions_open(lua_State *L);
void rm_lua_rwlock_open(lua_State *L);
void rm_lua_semaphore_open(lua_State *L);
void rm_lua_stream_queue_open(lua_State *L);
/** Leaves the table of methods, for those written in Lua. [-0, +1] */
void rm_lua_subscription_open(lua_State *L);
void rm_lua_topic_open(lua_State *L);
void rm_lua_topic_cursor_open(lua_State *L);
void rm_lua_hooks_open(lua_State *L);
void rm_lua_embedded_open(lua_State *L);
/** Pushes the table of functions that the command-line tool needs. [-0, +1] */
void rm_lua_system_open(lua_State *L);
/** Pushes the table of functions that lua/redmoon/transaction.lua is made of. [-0, +1] */
void rm_lua_transaction_open(lua_State *L, rm_lua_shared *shared);

void rm_lua_gate_open(lua_State *L);
/** gate.c: where a coroutine waits until another opens it. [-0, +1] */
void rm_lua_gate_new(lua_State *L, const rm_lua_link *link);

/** Makes metatable `name` with `meta` and, as __index, a table of `methods` (NULL: none); leaves both. [-0, +2]:
 *  metatable, method table */
void rm_lua_new_type(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods);

/** As luaL_requiref expects it: the C half of the module. */
REDMOON_API int luaopen_redmoon_core(lua_State *L);

#endif
