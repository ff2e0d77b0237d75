/* SPDX-License-Identifier: MIT */
/** Slots of a cluster: CRC16 (XMODEM) of the key's hash tag, modulo 16,384 (Redis Cluster specification, "Key distribution
 *  model" and "Hash tags"). */
#ifndef RM_ROUTE_SLOTS_H
#define RM_ROUTE_SLOTS_H

#include <redmoon/export.h>
#include <stddef.h>
#include <stdint.h>

enum { RM_SLOTS = 16384, RM_SLOT_ANY = 0xffff };

/** The part of the key that is hashed: what stands between the first '{' and the next '}', if anything does; else all. */
REDMOON_API void rm_slot_tag(const void **ptr, size_t *len);
REDMOON_API uint16_t rm_slot_of(const void *key, size_t len);

#endif
