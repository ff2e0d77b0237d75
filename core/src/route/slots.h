/* SPDX-License-Identifier: MIT */
/** Slots of a cluster: CRC16 (XMODEM) of the key's hash tag, modulo 16,384 (Redis Cluster specification, "Key distribution
 *  model" and "Hash tags"). */
#ifndef RM_ROUTE_SLOTS_H
#define RM_ROUTE_SLOTS_H

#include <redmoon/export.h>
#include <stddef.h>
#include <stdint.h>

enum { RM_SLOTS = 16384, RM_SLOT_ANY = 0xffff, RM_SLOT_TAG_MAX = 64 };

/** The part of the key that is hashed: what stands between the first '{' and the next '}', if anything does; else all. */
REDMOON_API void rm_slot_tag(const void **ptr, size_t *len);
REDMOON_API uint16_t rm_slot_of(const void *key, size_t len);
/** A text that stands for the slot of this key when it is put between braces: the key's own tag where that can be done, else
 *  a short one of the same slot. */
REDMOON_API void rm_slot_tag_for(uint16_t slot, const void *key, size_t len, char out[RM_SLOT_TAG_MAX + 1]);

#endif
