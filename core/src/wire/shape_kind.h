/* SPDX-License-Identifier: MIT */
/** What a RESP2 reply becomes: a small tree of instructions, all of it constant. */
#ifndef RM_WIRE_SHAPE_KIND_H
#define RM_WIRE_SHAPE_KIND_H

#include "wire/reply.h"

typedef enum rm_shape_kind {
  RM_SHAPE_DOUBLE,      /* string -> double */
  RM_SHAPE_VERBATIM,    /* string -> verbatim */
  RM_SHAPE_STATISTIC,   /* string -> double, flat array -> map */
  RM_SHAPE_SET,         /* array -> set */
  RM_SHAPE_LIST,        /* array stays; its elements from number `from` on become `inner` */
  RM_SHAPE_LIST_OR_SET, /* as LIST; but an empty array -> set, as the server has it for COMMAND INFO */
  RM_SHAPE_LAST,        /* array stays; its last element becomes `inner` */
  RM_SHAPE_TUPLE,       /* array stays; the elements named by `fields[].index` change */
  RM_SHAPE_MAP,         /* flat array -> map; values become `inner`, or what `fields` says for their key */
  RM_SHAPE_ENTRIES,     /* array of [key, value] -> map */
  RM_SHAPE_PAIRS        /* flat array -> array of [first, second]; the second becomes `inner` */
} rm_shape_kind;

typedef struct rm_shape rm_shape;
typedef struct rm_shape_field {
  const char *name; /* MAP */
  size_t index;     /* TUPLE */
  const rm_shape *shape;
} rm_shape_field;
struct rm_shape {
  rm_shape_kind kind;
  size_t from;
  const rm_shape *inner; /* NULL: stays as it is */
  const rm_shape_field *fields;
  size_t field_count;
};

/** 0 or REDMOON_ENOMEM; what does not have the form that `shape` expects is left as it is. */
int rm_shape_rewrite(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena);

#endif
