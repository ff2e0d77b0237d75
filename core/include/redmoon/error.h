/* SPDX-License-Identifier: MIT */
/** Errors: a negative status from the function, the detail in a struct that the caller owns. */
#ifndef REDMOON_ERROR_H
#define REDMOON_ERROR_H

#include <redmoon/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Status of a fallible function: 0, or one of these.  Each has a stable code word (redmoon_status_code). */
enum redmoon_status {
  REDMOON_OK = 0,
  REDMOON_ETIMEOUT = -1,       /**< TIMEOUT        the call's deadline passed */
  REDMOON_ECONNECT = -2,       /**< CONNECT        no connection could be made */
  REDMOON_EIO = -3,            /**< IO             the connection failed in use */
  REDMOON_EPROTOCOL = -4,      /**< PROTOCOL       the peer does not speak RESP */
  REDMOON_ETLS = -5,           /**< TLS            handshake or verification failed */
  REDMOON_ECLOSED = -6,        /**< CLOSED         the client was closed */
  REDMOON_EPOOL_TIMEOUT = -7,  /**< POOL_TIMEOUT   no connection became free in time */
  REDMOON_EPOOL_DEADLOCK = -8, /**< POOL_DEADLOCK  only leases of those who wait could serve it, the caller's among them */
  REDMOON_ECONFIG = -9,        /**< CONFIG         an option or argument is not acceptable */
  REDMOON_ECODEC = -10,        /**< CODEC          a value could not be encoded or decoded */
  REDMOON_ENOMEM = -11,        /**< NOMEM          memory could not be had */
  REDMOON_ECONFLICT = -12,     /**< CONFLICT       a watched key kept changing */
  REDMOON_ELOCKED = -13,       /**< LOCKED         somebody else holds the lock */
  REDMOON_ELOST = -14,         /**< LOST           what was held is held no more */
  REDMOON_ETOO_LARGE = -15,    /**< TOO_LARGE      a limit on size, elements or depth was passed */
  REDMOON_ECANCELLED = -16,    /**< CANCELLED      the caller cancelled the operation */
  REDMOON_EUNAVAILABLE = -17,  /**< UNAVAILABLE    the server or this build cannot do it (now) */
  REDMOON_ESERVER = -18        /**< the server answered with an error; the code is its first word */
};

/** What is known of the command's execution when a call ends. */
typedef enum redmoon_outcome {
  REDMOON_NOT_SENT = 0, /**< it was not executed: the server never got all of it, or refused to start it */
  REDMOON_ANSWERED = 1, /**< the server answered it */
  REDMOON_UNKNOWN = 2   /**< it was sent and no answer came: it may or may not have been executed */
} redmoon_outcome;

/** What the call was doing when it ended. */
typedef enum redmoon_phase {
  REDMOON_PHASE_NONE = 0,
  REDMOON_PHASE_POOL,      /**< waiting for a connection of the pool */
  REDMOON_PHASE_RESOLVE,   /**< host name to addresses */
  REDMOON_PHASE_DIAL,      /**< connecting the socket */
  REDMOON_PHASE_TLS,       /**< TLS handshake */
  REDMOON_PHASE_HANDSHAKE, /**< HELLO, AUTH, SELECT */
  REDMOON_PHASE_SEND,      /**< writing the request */
  REDMOON_PHASE_RECEIVE,   /**< waiting for the reply */
  REDMOON_PHASE_BACKOFF    /**< between two attempts */
} redmoon_phase;

/** Caller-owned; may be NULL wherever it is a parameter.  Holds no pointer, so it needs no clean-up, and never a
 *  secret or a payload. */
typedef struct redmoon_error {
  int status;              /**< enum redmoon_status */
  redmoon_outcome outcome; /**< of the command, or of the last one of a sequence */
  redmoon_phase phase;
  int retryable;           /**< 1 if the same call may succeed later and repeating it cannot act twice */
  int attempts;            /**< how often it was tried; 0 if it never started */
  char code[32];           /**< stable code word: "TIMEOUT", or a server's "WRONGTYPE" */
  char address[128];       /**< "host:port" or the socket's path, shortened to fit; may be empty */
  char message[512];       /**< fit to show; control bytes are escaped */
} redmoon_error;

/** The code word of a status, e.g. "POOL_TIMEOUT"; "OK" for 0, "SERVER" for REDMOON_ESERVER. Static storage. */
REDMOON_API const char *redmoon_status_code(int status);
/** "not_sent", "answered" or "unknown". Static storage. */
REDMOON_API const char *redmoon_outcome_name(redmoon_outcome outcome);
/** "pool", "resolve", "dial", "tls", "handshake", "send", "receive", "backoff"; "" for none. Static storage. */
REDMOON_API const char *redmoon_phase_name(redmoon_phase phase);

#ifdef __cplusplus
}
#endif
#endif
