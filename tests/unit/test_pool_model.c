/* SPDX-License-Identifier: MIT */
/* A million random steps in virtual time, each compared with a reference model that is too simple to be wrong:
 * arrays instead of lists, everything recomputed.  After every step: the same answer, the same statistics, the same
 * connections closed for the same reasons, in_use + idle + dialling = total <= size, nobody waits for what is
 * there, nobody sleeps through a grant or the end of the back-off, and upkeep was told when it became due sooner.
 *
 * SEED=n repeats a run, STEPS=n sets its length.  Three saboteurs show that the checks can fail. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "pool/pool_internal.h"
#include "unit/pool_fixture.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

enum { LEASES = 24, CONNS = 64, MAX_SIZE = 8, EPISODE = 4000 };

enum sabotage { NONE, LEAK_A_SLOT_PER_CANCEL, SWAP_THE_FIRST_WAITERS, SWALLOW_A_SIGNAL };

enum state { FREE, WAITING, GIVEN_CONN, GIVEN_PERMIT, REFUSED, SHUT, DIALLING, WARMING, HELD, FOREIGN };

typedef struct borrow {
  enum state state;
  int conn; /* index, -1: none */
  uintptr_t owner;
  bool keeps;
  uint64_t epoch, round;
  int64_t began;
} borrow;

typedef struct socket_ {
  rm_conn *conn; /* NULL: this entry is free */
  bool closing;  /* the model says that it must be closed now, for: */
  rm_close_reason why;
} socket_;

typedef struct model {
  rm_pool *pool;
  rm_pool_config config;
  rm_lease lease[LEASES];
  borrow borrow[LEASES];
  socket_ conn[CONNS];
  int idle[CONNS], idle_count; /* the last is lent first */
  int queue[LEASES], waiting;  /* the first is served first */
  int orphan[CONNS], orphans;
  int failures;
  int64_t now, gate, probe_at, known_due; /* known_due: when upkeep will be called; 0: at once */
  uint64_t round, epoch;
  rm_close_reason purge_why;
  bool closed, server_down;
  int active; /* leases that are played with: few leave the pool quiet, many crowd it */
  redmoon_stats counts;
  uint64_t random, seed, step;
  enum sabotage sabotage;
  char failure[200]; /* the first thing that was wrong */
} model;

#define EXPECT(m, x) expect((m), (x), #x, __LINE__)
static void expect(model *m, bool ok, const char *what, int line) {
  if (ok || m->failure[0] != '\0') return;
  snprintf(m->failure, sizeof m->failure, "step %" PRIu64 ", line %d: %s", m->step, line, what);
}

static uint64_t next_random(uint64_t *state) {
  uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}
static int below(model *m, int bound) { return (int)(next_random(&m->random) % (uint64_t)bound); }
static bool chance(model *m, int in_thousand) { return below(m, 1000) < in_thousand; }

/* The reference. */

static int count(const model *m, enum state state) {
  int n = 0;
  for (int i = 0; i < LEASES; i++) n += m->borrow[i].state == state;
  return n;
}
static int lent(const model *m) { return count(m, HELD) + count(m, GIVEN_CONN); }
static int dialling(const model *m) { return count(m, DIALLING) + count(m, WARMING) + count(m, GIVEN_PERMIT); }
static int total(const model *m) { return m->idle_count + lent(m) + dialling(m); }

static bool may_dial(const model *m) {
  if (m->closed || total(m) >= m->config.size) return false;
  return m->failures == 0 || (dialling(m) == 0 && m->now >= m->gate);
}
static bool is_hopeless(const model *m) { return m->failures > 0 && m->now < m->gate && total(m) == 0; }
static int64_t gate_of_dials(const model *m) {
  bool gated = !m->closed && m->failures > 0 && dialling(m) == 0 && total(m) < m->config.size;
  return gated ? m->gate : RM_FOREVER;
}

static void must_close(model *m, int conn, rm_close_reason why) {
  EXPECT(m, !m->conn[conn].closing);
  m->conn[conn].closing = true;
  m->conn[conn].why = why;
  if (why == RM_CLOSE_IDLE) m->counts.closed_idle++;
  if (why == RM_CLOSE_LIFETIME) m->counts.closed_lifetime++;
  if (why == RM_CLOSE_PEER) m->counts.closed_peer++;
  if (why == RM_CLOSE_DIRTY) m->counts.closed_dirty++;
  if (why == RM_CLOSE_ERROR) m->counts.closed_error++;
  if (why == RM_CLOSE_FAILOVER) m->counts.closed_failover++;
}

static void remove_at(int *array, int *length, int index) {
  memmove(array + index, array + index + 1, (size_t)(*length - index - 1) * sizeof *array);
  --*length;
}

static void leave_queue(model *m, int who) {
  for (int i = 0; i < m->waiting; i++) {
    if (m->queue[i] != who) continue;
    remove_at(m->queue, &m->waiting, i);
    m->counts.wait_time_us += (uint64_t)(m->now - m->borrow[who].began);
    return;
  }
  EXPECT(m, !"in the queue");
}

static void permit(model *m, int who, enum state state) {
  m->borrow[who].state = state;
  m->borrow[who].epoch = m->epoch;
  m->borrow[who].round = m->round;
  m->counts.dials++;
  if (state != WARMING) m->counts.misses++;
}

static void lend(model *m, int who, int conn, enum state state) {
  m->borrow[who].state = state;
  m->borrow[who].conn = conn;
  m->borrow[who].epoch = m->epoch;
  m->counts.hits++;
}

static void serve(model *m) {
  while (m->waiting > 0) {
    int who = m->queue[0];
    if (may_dial(m)) {
      leave_queue(m, who);
      permit(m, who, GIVEN_PERMIT);
    } else if (is_hopeless(m)) {
      leave_queue(m, who);
      m->borrow[who].state = REFUSED;
    } else {
      return;
    }
  }
}

static int end(model *m, int who) {
  int conn = m->borrow[who].conn;
  m->borrow[who].state = FREE;
  m->borrow[who].conn = -1;
  return conn;
}

static void put_back(model *m, int who) {
  uint64_t epoch = m->borrow[who].epoch;
  int conn = end(m, who);
  if (m->closed) {
    must_close(m, conn, RM_CLOSE_SHUTDOWN);
  } else if (epoch != m->epoch) {
    must_close(m, conn, m->purge_why);
  } else if (m->conn[conn].conn->expires_us <= m->now) {
    must_close(m, conn, RM_CLOSE_LIFETIME);
  } else if (m->waiting > 0) {
    int first = m->queue[0];
    leave_queue(m, first);
    lend(m, first, conn, GIVEN_CONN);
  } else if (m->idle_count < m->config.max_idle) {
    m->idle[m->idle_count++] = conn;
  } else {
    must_close(m, conn, RM_CLOSE_IDLE);
  }
}

static bool is_waiting(const model *m, uintptr_t owner) {
  for (int i = 0; i < m->waiting; i++)
    if (owner != 0 && m->borrow[m->queue[i]].owner == owner) return true;
  return false;
}

/* All are the owner's, or stuck with others who wait; at least one is the owner's. */
static bool is_deadlock(const model *m, uintptr_t owner) {
  int own = 0, stuck = 0;
  for (int i = 0; i < LEASES; i++) {
    const borrow *b = &m->borrow[i];
    if (b->state != HELD && b->state != DIALLING && b->state != WARMING && b->state != GIVEN_CONN && b->state != GIVEN_PERMIT)
      continue;
    if (b->owner == owner) own++;
    else if (b->keeps && is_waiting(m, b->owner)) stuck++;
  }
  return owner != 0 && own > 0 && own + stuck == m->config.size;
}

static bool is_good(model *m, int conn) {
  int64_t id = m->conn[conn].conn->client_id;
  bool old = m->conn[conn].conn->expires_us <= m->now;
  if (!old && id >= 0) return true;
  must_close(m, conn, old ? RM_CLOSE_LIFETIME : id == ID_PEER ? RM_CLOSE_PEER : RM_CLOSE_DIRTY);
  return false;
}

/* `senior`: was handed a bad connection, and is before those who wait. */
static int expected_acquire(model *m, int who, bool senior) {
  if (m->closed) return REDMOON_ECLOSED;
  while ((senior || m->waiting == 0) && m->idle_count > 0) {
    int conn = m->idle[--m->idle_count];
    if (is_good(m, conn)) {
      lend(m, who, conn, HELD);
      return RM_POOL_CONN;
    }
  }
  if ((senior || m->waiting == 0) && may_dial(m)) {
    permit(m, who, DIALLING);
    return RM_POOL_DIAL;
  }
  if (is_hopeless(m)) {
    serve(m); /* nor is there hope for those behind */
    return REDMOON_ECONNECT;
  }
  if (is_deadlock(m, m->borrow[who].owner)) return REDMOON_EPOOL_DEADLOCK;
  m->borrow[who].state = WAITING;
  m->borrow[who].began = m->now;
  memmove(m->queue + (senior ? 1 : m->waiting), m->queue + (senior ? 0 : m->waiting),
          (size_t)(senior ? m->waiting : 0) * sizeof m->queue[0]);
  m->queue[senior ? 0 : m->waiting] = who;
  m->waiting++;
  m->counts.wait_count++;
  serve(m);
  return RM_POOL_WAIT;
}

static int expected_poll(model *m, int who) {
  borrow *b = &m->borrow[who];
  serve(m);
  switch (b->state) {
  case WAITING:
    return RM_POOL_WAIT;
  case REFUSED:
    end(m, who);
    return REDMOON_ECONNECT;
  case SHUT:
    end(m, who);
    return REDMOON_ECLOSED;
  case GIVEN_CONN:
    if (!m->closed && is_good(m, b->conn)) {
      b->state = HELD;
      return RM_POOL_CONN;
    }
    m->counts.hits--;
    if (!m->closed) {
      end(m, who);
      return expected_acquire(m, who, true);
    }
    put_back(m, who);
    return REDMOON_ECLOSED;
  case GIVEN_PERMIT:
    if (!m->closed) {
      b->state = DIALLING;
      return RM_POOL_DIAL;
    }
    m->counts.misses--;
    m->counts.dials--;
    end(m, who);
    return REDMOON_ECLOSED;
  default:
    EXPECT(m, !"a state to poll in");
    return 0;
  }
}

static void expected_cancel(model *m, int who) {
  switch (m->borrow[who].state) {
  case WAITING:
    leave_queue(m, who);
    break;
  case GIVEN_CONN:
    m->counts.hits--;
    put_back(m, who);
    serve(m);
    return;
  case GIVEN_PERMIT:
    m->counts.misses--;
    m->counts.dials--;
    break;
  case HELD:
    must_close(m, m->borrow[who].conn, RM_CLOSE_DIRTY);
    break;
  default:
    break;
  }
  end(m, who);
  serve(m);
}

static int missing(const model *m) {
  int wanted = m->config.min_idle - m->idle_count - count(m, WARMING), room = m->config.size - total(m);
  if (m->closed || m->waiting > 0 || wanted <= 0) return 0;
  return wanted < room ? wanted : room;
}
static int dialable(const model *m) {
  return !may_dial(m) ? 0 : m->failures > 0 && missing(m) > 0 ? 1 : missing(m);
}

static int64_t idle_due(const model *m) {
  if (m->config.max_idle_time_us == 0 || m->idle_count <= m->config.min_idle) return RM_FOREVER;
  return m->conn[m->idle[0]].conn->idle_since_us + m->config.max_idle_time_us;
}

/* When upkeep has something to close, or to dial that it cannot dial now. */
static int64_t upkeep_due(const model *m) {
  int64_t due = idle_due(m);
  for (int i = 0; i < m->idle_count; i++) due = rm_min64(due, m->conn[m->idle[i]].conn->expires_us);
  return missing(m) > 0 && !may_dial(m) ? rm_min64(due, gate_of_dials(m)) : due;
}

/* When upkeep asks to be called: as if what is lent out came back now, or an eighth of the idle time ago. */
static int64_t upkeep_promise(const model *m) {
  int64_t due = upkeep_due(m);
  for (int i = 0; i < LEASES; i++) {
    enum state s = m->borrow[i].state;
    if (s != HELD && s != GIVEN_CONN) continue;
    int64_t end_of_life = m->conn[m->borrow[i].conn].conn->expires_us;
    if (end_of_life > m->now) due = rm_min64(due, end_of_life);
  }
  if (m->config.probe_every_us > 0 && m->config.min_idle > 0 && !m->closed) due = rm_min64(due, m->probe_at);
  bool may_idle = lent(m) + dialling(m) > 0 && total(m) > m->config.min_idle;
  return may_idle && m->config.max_idle_time_us > 0 ? rm_min64(due, m->now + m->config.max_idle_time_us / 8 * 7) : due;
}

static void expected_probe(model *m) {
  if (m->config.probe_every_us == 0 || m->config.min_idle == 0 || m->closed || m->now < m->probe_at) return;
  m->probe_at = m->now + m->config.probe_every_us;
  for (int i = 0; i < m->idle_count;) {
    if (is_good(m, m->idle[i])) i++;
    else remove_at(m->idle, &m->idle_count, i);
  }
}

static void expected_upkeep(model *m) {
  while (m->orphans > 0) { /* the new process never counted them */
    redmoon_stats before = m->counts;
    must_close(m, m->orphan[--m->orphans], RM_CLOSE_SHUTDOWN);
    m->counts = before;
  }
  for (int i = 0; i < m->idle_count;) {
    if (m->conn[m->idle[i]].conn->expires_us <= m->now) {
      must_close(m, m->idle[i], RM_CLOSE_LIFETIME);
      remove_at(m->idle, &m->idle_count, i);
    } else {
      i++;
    }
  }
  while (idle_due(m) <= m->now) {
    must_close(m, m->idle[0], RM_CLOSE_IDLE);
    remove_at(m->idle, &m->idle_count, 0);
  }
  expected_probe(m);
  serve(m);
}

/* The hooks: every close must be one that the model asked for. */

static void model_close(void *ctx, rm_conn *conn, rm_close_reason why) {
  model *m = ctx;
  socket_ *s = &m->conn[conn->protocol];
  EXPECT(m, s->conn == conn);
  EXPECT(m, s->closing);
  EXPECT(m, s->why == why);
  *s = (socket_){0};
  free(conn);
}

static void model_upkeep_due(void *ctx) { ((model *)ctx)->known_due = 0; }

/* The steps. */

static void step_acquire(model *m, int who) {
  borrow *b = &m->borrow[who];
  b->owner = (uintptr_t)below(m, 4);
  b->keeps = m->lease[who].keeps = below(m, 3) > 0;
  int expected = expected_acquire(m, who, false);
  EXPECT(m, rm_pool_acquire(m->pool, &m->lease[who], b->owner, m->now, NULL) == expected);
  if (expected == RM_POOL_CONN) EXPECT(m, m->lease[who].conn == m->conn[b->conn].conn);
  if (expected == RM_POOL_WAIT && b->state == WAITING)
    EXPECT(m, m->lease[who].wake_us == (m->queue[0] == who ? gate_of_dials(m) : RM_FOREVER));
}

static void step_permit(model *m, int who) {
  bool granted = dialable(m) > 0;
  m->borrow[who].owner = 0;
  if (granted) permit(m, who, WARMING);
  EXPECT(m, rm_pool_acquire_permit(m->pool, &m->lease[who], m->now) == (granted ? RM_POOL_DIAL : RM_POOL_WAIT));
}

static void step_poll(model *m, int who) {
  borrow *b = &m->borrow[who];
  int expected = expected_poll(m, who);
  EXPECT(m, rm_pool_poll(&m->lease[who], m->now, NULL) == expected);
  if (expected == RM_POOL_CONN) EXPECT(m, m->lease[who].conn == m->conn[b->conn].conn);
  if (expected == RM_POOL_WAIT)
    EXPECT(m, m->lease[who].wake_us == (m->queue[0] == who ? gate_of_dials(m) : RM_FOREVER));
  if (expected < 0) EXPECT(m, m->lease[who].pool == NULL);
}

static void step_cancel(model *m, int who) {
  bool waited = m->borrow[who].state <= GIVEN_PERMIT;
  expected_cancel(m, who);
  rm_pool_cancel(&m->lease[who], m->now);
  if (m->sabotage == LEAK_A_SLOT_PER_CANCEL && waited) m->pool->dialling++;
}

static void step_timeout(model *m, int who) {
  redmoon_error err;
  m->counts.timeouts++;
  expected_cancel(m, who);
  EXPECT(m, rm_pool_timed_out(&m->lease[who], m->now, &err) == REDMOON_EPOOL_TIMEOUT);
}

/* A fresh connection in a free entry: those of a forked process's parent are still in theirs. */
static int dialed_conn(model *m) {
  int i = 0;
  while (m->conn[i].conn != NULL) i++;
  m->conn[i].conn = fixture_conn(-1);
  m->conn[i].conn->protocol = i;
  return i;
}

static void step_dialed(model *m, int who) {
  borrow *b = &m->borrow[who];
  b->conn = dialed_conn(m);
  b->state = HELD;
  rm_conn *conn = m->conn[b->conn].conn;
  if (m->closed) {
    must_close(m, end(m, who), RM_CLOSE_SHUTDOWN);
    EXPECT(m, rm_pool_dialed(&m->lease[who], conn, m->now, NULL) == REDMOON_ECLOSED);
    return;
  }
  if (m->failures > 0) m->round++;
  m->failures = 0;
  serve(m);
  EXPECT(m, rm_pool_dialed(&m->lease[who], conn, m->now, NULL) == 0);
  int64_t life = m->config.max_lifetime_us, slack = life / 10;
  EXPECT(m, life == 0 ? conn->expires_us == RM_FOREVER
                      : conn->expires_us >= m->now + life - slack && conn->expires_us <= m->now + life + slack);
}

static void step_dial_failed(model *m, int who) {
  bool news = m->borrow[who].round == m->round;
  m->counts.dial_failures++;
  end(m, who);
  rm_pool_dial_failed(&m->lease[who], NULL, m->now);
  if (news) {
    int64_t cap = m->config.min_backoff_us;
    for (int i = 0; i < m->failures && cap < m->config.max_backoff_us; i++) cap *= 2;
    m->failures++;
    m->round++;
    m->gate = m->pool->backoff.gate_us; /* chance, but within limits */
    EXPECT(m, m->gate >= m->now + 1 * MS);
    EXPECT(m, m->gate <= m->now + rm_max64(rm_min64(cap, m->config.max_backoff_us), 1 * MS));
  }
  serve(m);
}

static void step_release(model *m, int who) {
  if (chance(m, 60)) m->conn[m->borrow[who].conn].conn->client_id = chance(m, 500) ? ID_PEER : ID_DIRTY;
  put_back(m, who);
  serve(m);
  rm_pool_release(&m->lease[who], m->now);
}

static void step_discard(model *m, int who) {
  static const rm_close_reason reasons[] = {RM_CLOSE_PEER, RM_CLOSE_DIRTY, RM_CLOSE_ERROR, RM_CLOSE_FAILOVER};
  rm_close_reason why = reasons[below(m, 4)];
  must_close(m, end(m, who), why);
  serve(m);
  rm_pool_discard(&m->lease[who], why, m->now);
}

static void step_foreign(model *m, int who) {
  redmoon_stats before = m->counts;
  rm_lease *lease = &m->lease[who];
  int conn = end(m, who);
  if (conn >= 0) must_close(m, conn, RM_CLOSE_SHUTDOWN);
  m->counts = before;
  switch (below(m, 5)) {
  case 0:
    EXPECT(m, rm_pool_poll(lease, m->now, NULL) == REDMOON_ECLOSED);
    break;
  case 1:
    EXPECT(m, rm_pool_timed_out(lease, m->now, NULL) == REDMOON_ECLOSED);
    break;
  case 2:
    rm_pool_release(lease, m->now);
    break;
  case 3:
    rm_pool_discard(lease, RM_CLOSE_ERROR, m->now);
    break;
  default:
    rm_pool_cancel(lease, m->now);
  }
  EXPECT(m, lease->pool == NULL);
  rm_lease_fini(lease); /* a real child would not share its event with anybody either */
}

static void step_upkeep(model *m) {
  int dials;
  expected_upkeep(m);
  int64_t due = upkeep_promise(m);
  m->known_due = rm_pool_upkeep(m->pool, m->now, &dials);
  EXPECT(m, m->known_due == due);
  EXPECT(m, dials == dialable(m));
  if (dials > 0) m->known_due = 0; /* it knows that there is something to do */
}

static void step_purge(model *m) {
  m->epoch++;
  m->purge_why = chance(m, 500) ? RM_CLOSE_FAILOVER : RM_CLOSE_ERROR;
  while (m->idle_count > 0) must_close(m, m->idle[--m->idle_count], m->purge_why);
  serve(m);
  rm_pool_purge(m->pool, m->purge_why, m->now);
}

static void step_shutdown(model *m) {
  m->closed = true;
  while (m->waiting > 0) {
    int who = m->queue[0];
    leave_queue(m, who);
    m->borrow[who].state = SHUT;
  }
  while (m->idle_count > 0) must_close(m, m->idle[--m->idle_count], RM_CLOSE_SHUTDOWN);
  rm_pool_shutdown(m->pool, m->now);
}

static void step_fork(model *m) {
  rm_pool_forked(m->pool);
  while (m->idle_count > 0) m->orphan[m->orphans++] = m->idle[--m->idle_count];
  for (int i = 0; i < LEASES; i++)
    if (m->borrow[i].state != FREE) m->borrow[i].state = FOREIGN;
  m->waiting = m->failures = 0;
  m->round++;
  m->counts = (redmoon_stats){0};
  m->known_due = 0;
}

static void step_lease(model *m, int who) {
  int dice = below(m, 100);
  EXPECT(m, (m->borrow[who].state == FREE) == (m->lease[who].pool == NULL));
  if (m->failure[0] != '\0') return;
  switch (m->borrow[who].state) {
  case FREE:
    if (dice < 90) step_acquire(m, who);
    else step_permit(m, who);
    break;
  case WAITING:
  case GIVEN_CONN:
  case GIVEN_PERMIT:
  case REFUSED:
  case SHUT:
    if (dice < 70) step_poll(m, who);
    else if (dice < 85) step_cancel(m, who);
    else step_timeout(m, who);
    break;
  case DIALLING:
  case WARMING:
    if (dice < 10) step_cancel(m, who);
    else if (m->server_down || dice < 20) step_dial_failed(m, who);
    else step_dialed(m, who);
    break;
  case HELD:
    if (dice < 75) step_release(m, who);
    else if (dice < 92) step_discard(m, who);
    else step_cancel(m, who);
    break;
  case FOREIGN:
    step_foreign(m, who);
    break;
  }
}

static void step_world(model *m) {
  int dice = below(m, 2000);
  if (dice < 1400) m->now += below(m, 3 * MS);
  else if (dice < 1600) m->now += below(m, 600 * MS);
  else if (dice < 1640) m->now += below(m, 100 * SEC);
  else if (dice < 1900) step_upkeep(m);
  else if (dice < 1960) m->server_down = !m->server_down;
  else if (dice < 1990) step_purge(m);
  else if (dice < 1998) step_fork(m);
  else if (chance(m, 300)) step_shutdown(m);
}

/* What must hold after every step. */

static void check_statistics(model *m) {
  redmoon_stats real, expected = m->counts;
  rm_pool_stats(m->pool, &real);
  expected.total = (uint64_t)total(m);
  expected.idle = (uint64_t)m->idle_count;
  expected.in_use = (uint64_t)lent(m);
  expected.waiting = (uint64_t)m->waiting;
  EXPECT(m, memcmp(&real, &expected, sizeof real) == 0);
  EXPECT(m, real.total <= (uint64_t)m->config.size);
  EXPECT(m, real.total == real.idle + real.in_use + (uint64_t)dialling(m));
}

static void check_waiters(model *m) {
  EXPECT(m, m->waiting == 0 || m->idle_count == 0);
  for (int i = 0; i < LEASES; i++) {
    enum state s = m->borrow[i].state;
    const rm_lease *lease = &m->lease[i];
    bool has_news = s == GIVEN_CONN || s == GIVEN_PERMIT || s == REFUSED || s == SHUT;
    bool is_first = s == WAITING && m->queue[0] == i;
    if (!has_news && s != WAITING) continue;
    bool readable = m->step % 16 == 0 ? is_readable(lease) : lease->signalled;
    EXPECT(m, readable || !has_news);
    EXPECT(m, readable || !is_first || lease->wake_us <= gate_of_dials(m));
    EXPECT(m, !is_first || m->now >= m->gate || !may_dial(m));
  }
}

static void check(model *m, bool was_upkeep_told) {
  for (int i = 0; i < CONNS; i++) EXPECT(m, !m->conn[i].closing);
  check_statistics(m);
  check_waiters(m);
  int64_t due = dialable(m) > 0 ? m->now : upkeep_due(m);
  EXPECT(m, was_upkeep_told || due >= m->known_due);
}

static void sabotage(model *m) {
  rm_list *waiters = &m->pool->waiters;
  if (m->sabotage == SWAP_THE_FIRST_WAITERS && m->waiting >= 2) {
    rm_list *first = waiters->next;
    rm_list_remove(first);
    rm_list_insert(waiters->next->next, first);
  }
  if (m->sabotage == SWALLOW_A_SIGNAL)
    for (int i = 0; i < LEASES; i++)
      if (m->lease[i].pool == m->pool && m->borrow[i].state != FOREIGN) rm_lease_clear(&m->lease[i]);
}

/* An episode: a pool of random limits, random steps, and at its end everything comes back. */

static void begin(model *m) {
  int size = 1 + below(m, MAX_SIZE), max_idle = below(m, size + 1), min_idle = below(m, max_idle + 1);
  m->config = (rm_pool_config){.size = size,
                               .max_idle = chance(m, 700) ? size : max_idle,
                               .min_idle = chance(m, 500) ? 0 : min_idle,
                               .max_idle_time_us = chance(m, 300) ? 0 : below(m, 60 * SEC),
                               .max_lifetime_us = chance(m, 300) ? 0 : below(m, 200 * SEC),
                               .min_backoff_us = below(m, 16 * MS),
                               .max_backoff_us = below(m, 512 * MS),
                               .probe_every_us = chance(m, 500) ? 0 : below(m, 20 * SEC),
                               .name = "model"};
  const rm_pool_hooks hooks = {hook_is_reusable, model_close, model_upkeep_due, m};
  EXPECT(m, rm_pool_new(&m->config, &hooks, &m->pool, NULL) == 0);
  m->counts = (redmoon_stats){0};
  m->idle_count = m->waiting = m->orphans = m->failures = 0;
  m->round = m->epoch = 0;
  m->gate = m->probe_at = 0;
  m->known_due = 0; /* whoever makes a pool looks after it at once */
  m->closed = m->server_down = false;
  m->active = 1 + below(m, LEASES);
  for (int i = 0; i < LEASES; i++) m->borrow[i] = (borrow){.conn = -1};
}

static void give_everything_back(model *m) {
  for (int i = 0; i < LEASES; i++) {
    if (m->borrow[i].state == FOREIGN) step_foreign(m, i);
    else if (m->borrow[i].state == HELD) step_release(m, i);
    else if (m->borrow[i].state != FREE) step_cancel(m, i);
    check(m, true);
  }
}

static void borrow_all(model *m) {
  rm_lease all[MAX_SIZE] = {{.pool = NULL}};
  m->now += 1 * SEC; /* past any back-off */
  for (int i = 0; i < m->idle_count; i++) m->conn[m->idle[i]].conn->client_id = ID_GOOD;
  while (m->idle_count > 0) must_close(m, m->idle[--m->idle_count], RM_CLOSE_ERROR);
  rm_pool_purge(m->pool, RM_CLOSE_ERROR, m->now);
  for (int i = 0; i < m->config.size; i++) {
    EXPECT(m, rm_pool_acquire(m->pool, &all[i], 0, m->now, NULL) == RM_POOL_DIAL);
    if (m->failures > 0) { /* the first is the probe */
      m->failures = 0;
      int probe = dialed_conn(m);
      must_close(m, probe, RM_CLOSE_DIRTY);
      EXPECT(m, rm_pool_dialed(&all[i], m->conn[probe].conn, m->now, NULL) == 0);
    }
  }
  for (int i = 0; i < m->config.size; i++) rm_pool_cancel(&all[i], m->now);
}

static void finish(model *m) {
  bool intact = m->failure[0] == '\0';
  if (intact) give_everything_back(m);
  for (int i = 0; i < LEASES; i++) rm_pool_cancel(&m->lease[i], m->now); /* if the model knows no more */
  if (intact) EXPECT(m, m->pool->in_use == 0 && m->pool->dialling == 0);
  if (intact && !m->closed) borrow_all(m);
  for (int i = 0; i < CONNS; i++)
    if (m->conn[i].conn != NULL) m->conn[i].closing = true, m->conn[i].why = RM_CLOSE_SHUTDOWN;
  rm_pool_free(m->pool);
  if (intact)
    for (int i = 0; i < CONNS; i++) EXPECT(m, m->conn[i].conn == NULL);
}

static void one_step(model *m) {
  bool world = chance(m, 200);
  if (world) step_world(m);
  else step_lease(m, below(m, m->active));
  sabotage(m);
  check(m, world);
}

static void play(model *m, uint64_t seed, uint64_t steps, enum sabotage saboteur) {
  *m = (model){.seed = seed, .random = seed, .sabotage = saboteur, .now = 1 * SEC};
  while (m->step < steps && m->failure[0] == '\0') {
    begin(m);
    for (int i = 0; i < EPISODE && m->failure[0] == '\0'; i++, m->step++) one_step(m);
    finish(m);
  }
  for (int i = 0; i < LEASES; i++) rm_lease_fini(&m->lease[i]);
}

static uint64_t number_of(const char *name, uint64_t fallback) {
  const char *text = getenv(name);
  return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

/* libsodium's numbers come from the seed too, so that a run can be repeated. */
static uint64_t sodium_state;
static const char *sodium_name(void) { return "seeded"; }
static uint32_t sodium_random(void) { return (uint32_t)(next_random(&sodium_state) >> 32); }
static void sodium_buf(void *const buf, const size_t size) {
  for (size_t i = 0; i < size; i++) ((unsigned char *)buf)[i] = (unsigned char)(next_random(&sodium_state) >> 56);
}
static randombytes_implementation seeded = {sodium_name, sodium_random, NULL, NULL, sodium_buf, NULL};

static uint64_t seed;

static void the_pool_does_what_the_model_does_for_a_million_random_steps(void **state) {
  (void)state;
  static model m;
  play(&m, seed, number_of("STEPS", 1000000), NONE);
  if (m.failure[0] != '\0') fail_msg("SEED=%" PRIu64 ": %s", seed, m.failure);
}

static void assert_caught(enum sabotage saboteur) {
  static model m;
  play(&m, seed, 20000, saboteur);
  if (m.failure[0] == '\0') fail_msg("SEED=%" PRIu64 ": saboteur %d was not caught", seed, saboteur);
}

static void a_pool_that_leaks_a_slot_per_cancel_is_caught(void **state) {
  (void)state;
  assert_caught(LEAK_A_SLOT_PER_CANCEL);
}

static void a_pool_that_serves_the_second_waiter_first_is_caught(void **state) {
  (void)state;
  assert_caught(SWAP_THE_FIRST_WAITERS);
}

static void a_pool_that_loses_a_wake_up_is_caught(void **state) {
  (void)state;
  assert_caught(SWALLOW_A_SIGNAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_pool_does_what_the_model_does_for_a_million_random_steps),
      cmocka_unit_test(a_pool_that_leaks_a_slot_per_cancel_is_caught),
      cmocka_unit_test(a_pool_that_serves_the_second_waiter_first_is_caught),
      cmocka_unit_test(a_pool_that_loses_a_wake_up_is_caught),
  };
  seed = number_of("SEED", (uint64_t)rm_clock_now_us());
  sodium_state = ~seed;
  if (randombytes_set_implementation(&seeded) != 0 || rm_random_init() != 0) return 1;
  printf("SEED=%" PRIu64 "\n", seed);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
