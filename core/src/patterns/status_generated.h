/* SPDX-License-Identifier: MIT */
/** What scripts answer.  Generated from scripts/include/status.lua by cmake/scripts.cmake (tools/generate). */
#ifndef RM_PATTERNS_STATUS_GENERATED_H
#define RM_PATTERNS_STATUS_GENERATED_H

enum {
  RM_STATUS_LOCK_OK = 1, /* acquired, extended or released */
  RM_STATUS_LOCK_HELD = 0, /* another token holds it */
  RM_STATUS_LOCK_GONE = -1, /* nobody holds it */
  RM_STATUS_LOCK_MORE = 2, /* the owner holds it more than once: acquired again, or released and still held */
  RM_STATUS_LOCK_SPENT = -2, /* it has been held for as long as it may */
  RM_STATUS_LOCK_QUEUED = 3, /* nobody holds it, but others wait for their turn */
  RM_STATUS_RATE_ALLOWED = 1, /* the units were taken (peek: would be) */
  RM_STATUS_RATE_DENIED = 0, /* they were not, and nothing was written */
  RM_STATUS_COUNT_OK = 1, /* all of it was counted (get: read) */
  RM_STATUS_COUNT_CLAMPED = 2, /* as much of it as the bounds let through */
  RM_STATUS_COUNT_REFUSED = 0, /* it is out of bounds, and nothing was written */
  RM_STATUS_BLOCK_EXPIRED = 0, /* there is nothing to revoke any more */
  RM_STATUS_BLOCK_REVOKED = 1, /* revoked */
  RM_STATUS_BLOCK_KEPT = 2, /* revoked for as long or longer already */
  RM_STATUS_BLOCK_FAR = -1, /* more than 100 years away */
  RM_STATUS_BLOCK_ROTATED = 1, /* the new id is the current one */
  RM_STATUS_BLOCK_REUSED = 3, /* an id that is not current was presented: the family is revoked now */
  RM_STATUS_BLOCK_DEAD = 4, /* the family was revoked before */
  RM_STATUS_BLOCK_TAKEN = 5, /* a family to begin that is there already */
  RM_STATUS_BLOCK_GONE = 6, /* no such family */
  RM_STATUS_RECORD_OK = 1, /* there is a record, and what was asked was done */
  RM_STATUS_RECORD_GONE = 0, /* there is none, nothing was written */
  RM_STATUS_RECORD_CONFLICT = -1, /* it has another version, nothing was written */
  RM_STATUS_RECORD_RANGE = -2, /* the sum is out of the field's range, nothing was written */
  RM_STATUS_RECORD_UNREADABLE = -3, /* the field holds no number, nothing was written */
  RM_STATUS_GUARD_ACCEPTED = 1, /* no higher fence was seen */
  RM_STATUS_GUARD_REFUSED = 0, /* a higher one was */
  RM_STATUS_PERMIT_OK = 1, /* taken, extended or given back (peek: would be taken) */
  RM_STATUS_PERMIT_BUSY = 0, /* others have them */
  RM_STATUS_PERMIT_GONE = -1, /* the lease is over */
  RM_STATUS_AUDIT_DONE = 1, /* the key got its lifetime, or was rid of it */
  RM_STATUS_AUDIT_KEPT = 0, /* it is in another state than that needs, and stays in it */
  RM_STATUS_AUDIT_GONE = -1, /* there is no such key */
  RM_STATUS_QUEUE_OK = 1, /* done */
  RM_STATUS_QUEUE_DEAD = 2, /* done, and the job is a dead one now */
  RM_STATUS_QUEUE_GONE = 0, /* there is no such job, nothing was written */
  RM_STATUS_QUEUE_LOST = -1, /* the lease is not this one any more, nothing was written */
  RM_STATUS_QUEUE_TAKEN = 0, /* of a push: there is a job of that id, it was not written */
  RM_STATUS_QUEUE_HELD = -1, /* of a push: a job has that unique key, it was not written */
  RM_STATUS_STREAM_OK = 1, /* done */
  RM_STATUS_STREAM_DEAD = 2, /* done, and the entry is a dead one now */
  RM_STATUS_STREAM_GONE = 0, /* nobody has the entry: it is done, or was never given out, nothing was written */
  RM_STATUS_STREAM_LOST = -1, /* the lease is not this one any more, nothing was written */
  RM_STATUS_CACHE_FRESH = 1, /* a fresh entry is there */
  RM_STATUS_CACHE_REFRESH = 2, /* an entry is there, and the lease to load it again was given */
  RM_STATUS_CACHE_BUSY = 3, /* an entry is there, and another has the lease */
  RM_STATUS_CACHE_LOAD = 4, /* none is there, and the lease to load it was given */
  RM_STATUS_CACHE_WAIT = 0, /* none is there, and another has the lease */
  RM_STATUS_CACHE_STORED = 1, /* stored, given back or discarded */
  RM_STATUS_CACHE_LOST = -1, /* the lease is over, void or another's, or another entry is there, nothing was written */
  RM_STATUS_TOPIC_OK = 1, /* published, or marked */
  RM_STATUS_TOPIC_GONE = 0, /* there is no such reader */
  RM_STATUS_TOPIC_LOST = -1, /* another has opened the reader since */
  RM_STATUS_TOPIC_FULL = -2, /* there are as many readers as there may be */
  RM_STATUS_REDLOCK_OK = 1, /* this server votes for it (release: not any more) */
  RM_STATUS_REDLOCK_HELD = 0, /* another token has its vote */
  RM_STATUS_REDLOCK_VOID = -1, /* it was given back before (release: nobody has the vote) */
  RM_STATUS_REDLOCK_TWICE = -2, /* it has voted already, by another name */
};

#endif
