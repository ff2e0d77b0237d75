/* SPDX-License-Identifier: MIT */
/** Intrusive doubly linked list with a head node; an unlinked node has next == NULL. */
#ifndef RM_BASE_LIST_H
#define RM_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct rm_list {
  struct rm_list *prev, *next;
} rm_list;

#define RM_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void rm_list_init(rm_list *head) { head->prev = head->next = head; }
static inline bool rm_list_is_empty(const rm_list *head) { return head->next == head; }
static inline bool rm_list_is_linked(const rm_list *node) { return node->next != NULL; }
static inline void rm_list_insert(rm_list *before, rm_list *node) {
  node->prev = before->prev;
  node->next = before;
  before->prev->next = node;
  before->prev = node;
}
static inline void rm_list_push_back(rm_list *head, rm_list *node) { rm_list_insert(head, node); }
static inline void rm_list_push_front(rm_list *head, rm_list *node) { rm_list_insert(head->next, node); }
static inline void rm_list_remove(rm_list *node) {
  if (node->next == NULL) return;
  node->prev->next = node->next;
  node->next->prev = node->prev;
  node->prev = node->next = NULL;
}

#endif
