/* SPDX-License-Identifier: MIT */
/* Name look-ups on a few short-lived threads.
 *
 *     start --literal--------------------------------------------> done
 *       |                                                           ^
 *       +--> queue --(a thread takes it)--> getaddrinfo --> event --+
 *              |                               |
 *              +-- free: leaves the queue      +-- free: the thread drops the last reference
 *
 * A thread ends when the queue is empty.  One mutex per resolver guards the queue, the counts and the results; it
 * is held for a few instructions only. */
#include "wire/resolver.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/event.h"
#include "base/list.h"
#include "base/wants.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { STACK_SIZE = 256 * 1024 };

struct rm_resolver {
  pthread_mutex_t mutex;
  rm_list queue; /* look-ups that no thread has taken yet */
  int threads;   /* running, or about to be created */
  int refs;      /* the owner's, one per look-up, one per thread */
};

struct rm_lookup {
  rm_list link;
  rm_resolver *resolver;
  rm_event event;
  int refs; /* the owner's and the thread's */
  bool done;
  int code;         /* of getaddrinfo */
  int system_error; /* errno for EAI_SYSTEM */
  struct addrinfo *list;
  int (*find)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  void (*release)(struct addrinfo *);
  char port[8];
  char host[];
};

#ifdef REDMOON_TESTING
static rm_getaddrinfo_fn find_fn;
static void (*release_fn)(struct addrinfo *);

void rm_resolver_set_getaddrinfo(rm_getaddrinfo_fn fn, void (*release)(struct addrinfo *)) {
  find_fn = fn;
  release_fn = release;
}

static void choose_functions(rm_lookup *lookup) {
  lookup->find = find_fn != NULL ? find_fn : getaddrinfo;
  lookup->release = find_fn != NULL ? release_fn : freeaddrinfo;
}
#else
static void choose_functions(rm_lookup *lookup) {
  lookup->find = getaddrinfo;
  lookup->release = freeaddrinfo;
}
#endif

rm_resolver *rm_resolver_new(void) {
  rm_resolver *resolver = rm_calloc(1, sizeof *resolver);
  if (resolver == NULL) return NULL;
  if (pthread_mutex_init(&resolver->mutex, NULL) != 0) {
    rm_free(resolver);
    return NULL;
  }
  rm_list_init(&resolver->queue);
  resolver->refs = 1;
  return resolver;
}

void rm_resolver_unref(rm_resolver *resolver) {
  if (resolver == NULL) return;
  pthread_mutex_lock(&resolver->mutex);
  bool last = --resolver->refs == 0;
  pthread_mutex_unlock(&resolver->mutex);
  if (!last) return;
  pthread_mutex_destroy(&resolver->mutex);
  rm_free(resolver);
}

void rm_resolver_forked(rm_resolver *resolver) {
  if (resolver == NULL) return;
  /* A thread of the parent's may have held the mutex; nobody here can unlock it. */
  pthread_mutex_init(&resolver->mutex, NULL);
  rm_list_init(&resolver->queue);
  resolver->refs -= resolver->threads;
  resolver->threads = 0;
}

static void lookup_destroy(rm_lookup *lookup) {
  if (lookup->list != NULL) lookup->release(lookup->list);
  rm_event_close(&lookup->event);
  rm_resolver_unref(lookup->resolver);
  rm_free(lookup);
}

static struct addrinfo hints(int flags) {
  struct addrinfo hint = {0};
  hint.ai_family = AF_UNSPEC;
  hint.ai_socktype = SOCK_STREAM;
  hint.ai_protocol = IPPROTO_TCP;
  hint.ai_flags = AI_NUMERICSERV | flags;
  return hint;
}

/* Takes look-ups until none is left. */
static void *run(void *arg) {
  rm_resolver *resolver = arg;
  struct addrinfo hint = hints(0);
  pthread_mutex_lock(&resolver->mutex);
  while (!rm_list_is_empty(&resolver->queue)) {
    rm_lookup *lookup = RM_CONTAINER_OF(resolver->queue.next, rm_lookup, link);
    rm_list_remove(&lookup->link);
    lookup->refs++;
    pthread_mutex_unlock(&resolver->mutex);

    struct addrinfo *list = NULL;
    int code = lookup->find(lookup->host, lookup->port, &hint, &list);
    int system_error = errno;

    pthread_mutex_lock(&resolver->mutex);
    lookup->code = code;
    lookup->system_error = system_error;
    lookup->list = code == 0 ? list : NULL;
    lookup->done = true;
    pthread_mutex_unlock(&resolver->mutex);
    rm_event_signal(&lookup->event);

    pthread_mutex_lock(&resolver->mutex);
    bool last = --lookup->refs == 0;
    pthread_mutex_unlock(&resolver->mutex);
    if (last) lookup_destroy(lookup);
    pthread_mutex_lock(&resolver->mutex);
  }
  resolver->threads--;
  pthread_mutex_unlock(&resolver->mutex);
  rm_resolver_unref(resolver);
  return NULL;
}

/* 0 or an errno.  The host process's signal handlers must not run on our threads. */
static int create_thread(rm_resolver *resolver) {
  pthread_attr_t attr;
  int code = pthread_attr_init(&attr);
  if (code != 0) return code;
  sigset_t all, before;
  sigfillset(&all);
  pthread_t thread;
  code = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  if (code == 0) code = pthread_attr_setstacksize(&attr, STACK_SIZE);
  if (code == 0) code = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (code == 0) {
    code = pthread_create(&thread, &attr, run, resolver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  pthread_attr_destroy(&attr);
  return code;
}

/* No thread runs and none can be had: whoever queues is told. */
static void fail_queue(rm_resolver *resolver, int system_error) {
  while (!rm_list_is_empty(&resolver->queue)) {
    rm_lookup *lookup = RM_CONTAINER_OF(resolver->queue.next, rm_lookup, link);
    rm_list_remove(&lookup->link);
    lookup->code = EAI_SYSTEM;
    lookup->system_error = system_error;
    lookup->done = true;
    rm_event_signal(&lookup->event);
  }
}

static void enqueue(rm_resolver *resolver, rm_lookup *lookup) {
  pthread_mutex_lock(&resolver->mutex);
  rm_list_push_back(&resolver->queue, &lookup->link);
  bool create = resolver->threads < RM_RESOLVER_MAX;
  if (create) {
    resolver->threads++;
    resolver->refs++;
  }
  pthread_mutex_unlock(&resolver->mutex);
  if (!create) return;
  int code = create_thread(resolver);
  if (code == 0) return;
  pthread_mutex_lock(&resolver->mutex);
  resolver->threads--;
  resolver->refs--;
  if (resolver->threads == 0) fail_queue(resolver, code);
  pthread_mutex_unlock(&resolver->mutex);
}

static rm_lookup *lookup_new(rm_resolver *resolver, const char *host, int port) {
  size_t len = strlen(host);
  if (len > SIZE_MAX / 2) return NULL;
  rm_lookup *lookup = rm_calloc(1, sizeof *lookup + len + 1);
  if (lookup == NULL) return NULL;
  memcpy(lookup->host, host, len + 1);
  snprintf(lookup->port, sizeof lookup->port, "%u", (unsigned)port & 0xffffu);
  lookup->event.fd = -1;
  lookup->refs = 1;
  choose_functions(lookup);
  lookup->resolver = resolver;
  pthread_mutex_lock(&resolver->mutex);
  resolver->refs++;
  pthread_mutex_unlock(&resolver->mutex);
  return lookup;
}

int rm_lookup_start(rm_resolver *resolver, const char *host, int port, rm_lookup **out, redmoon_error *err) {
  *out = NULL;
  rm_lookup *lookup = lookup_new(resolver, host, port);
  if (lookup == NULL) return rm_fail_nomem(err);
  struct addrinfo hint = hints(AI_NUMERICHOST);
  if (getaddrinfo(host, lookup->port, &hint, &lookup->list) == 0) {
    lookup->release = freeaddrinfo;
    lookup->done = true;
  } else {
    lookup->list = NULL;
    if (rm_event_open(&lookup->event) != 0) {
      char text[128];
      rm_errno_text(errno, text, sizeof text);
      lookup_destroy(lookup);
      return rm_fail_phase(err, REDMOON_EUNAVAILABLE, REDMOON_PHASE_RESOLVE, "no event for a name look-up: %s",
                           text);
    }
    enqueue(resolver, lookup);
  }
  *out = lookup;
  return 0;
}

int rm_lookup_fd(const rm_lookup *lookup) { return lookup->event.fd; }

static int lookup_failure(const rm_lookup *lookup, redmoon_error *err) {
  if (lookup->code == EAI_MEMORY) return rm_fail_nomem(err);
  char text[128];
  bool resources = lookup->code == EAI_SYSTEM && (lookup->system_error == EAGAIN ||
                                                  lookup->system_error == EMFILE || lookup->system_error == ENFILE);
  const char *reason = lookup->code == EAI_SYSTEM ? rm_errno_text(lookup->system_error, text, sizeof text)
                                                  : gai_strerror(lookup->code);
  return rm_fail_phase(err, resources ? REDMOON_EUNAVAILABLE : REDMOON_ECONNECT, REDMOON_PHASE_RESOLVE,
                       "resolve the name %s: %s", lookup->host, reason);
}

int rm_lookup_poll(rm_lookup *lookup, const struct addrinfo **list, redmoon_error *err) {
  pthread_mutex_lock(&lookup->resolver->mutex);
  bool done = lookup->done;
  pthread_mutex_unlock(&lookup->resolver->mutex);
  if (!done) return RM_WAIT;
  if (lookup->code != 0) return lookup_failure(lookup, err);
  if (lookup->list == NULL)
    return rm_fail_phase(err, REDMOON_ECONNECT, REDMOON_PHASE_RESOLVE, "resolve the name %s: no address",
                         lookup->host);
  *list = lookup->list;
  return RM_DONE;
}

void rm_lookup_free(rm_lookup *lookup) {
  if (lookup == NULL) return;
  rm_resolver *resolver = lookup->resolver;
  pthread_mutex_lock(&resolver->mutex);
  rm_list_remove(&lookup->link);
  bool last = --lookup->refs == 0;
  pthread_mutex_unlock(&resolver->mutex);
  if (last) lookup_destroy(lookup);
}
