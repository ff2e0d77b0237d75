/* SPDX-License-Identifier: MIT */
/** Host names to addresses on threads of their own, because getaddrinfo knows no deadline.  A look-up that is given
 *  up goes on alone and frees itself; at most RM_RESOLVER_MAX run at a time per resolver, more wait their turn. */
#ifndef RM_WIRE_RESOLVER_H
#define RM_WIRE_RESOLVER_H

#include <netdb.h>
#include <redmoon/error.h>
#include <sys/socket.h>

#define RM_RESOLVER_MAX 4

typedef struct rm_resolver rm_resolver; /* internally locked, reference-counted */
typedef struct rm_lookup rm_lookup;     /* one thread at a time */

rm_resolver *rm_resolver_new(void);
void rm_resolver_unref(rm_resolver *resolver); /* NULL is allowed; running look-ups keep their own reference */
/** In the child after fork(): forgets the look-ups of the parent, whose threads are not here.  Called by the only
 *  thread.  NULL is allowed. */
void rm_resolver_forked(rm_resolver *resolver);
/** Begins.  A literal address is done at once and takes no thread.  0, NOMEM, or UNAVAILABLE (no event). */
int rm_lookup_start(rm_resolver *resolver, const char *host, int port, rm_lookup **out, redmoon_error *err);
/** Readable when it is done; -1 when it was done at once. */
int rm_lookup_fd(const rm_lookup *lookup);
/** RM_DONE with *list (owned by the lookup), RM_WAIT, or negative: CONNECT (no such name, ...), NOMEM, UNAVAILABLE
 *  (no thread can be had). */
int rm_lookup_poll(rm_lookup *lookup, const struct addrinfo **list, redmoon_error *err);
/** Ends or abandons.  NULL is allowed. */
void rm_lookup_free(rm_lookup *lookup);

/** For tests: what stands in for getaddrinfo; NULL restores it. */
#ifdef REDMOON_TESTING
typedef int (*rm_getaddrinfo_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
void rm_resolver_set_getaddrinfo(rm_getaddrinfo_fn fn, void (*release)(struct addrinfo *));
#endif

#endif
