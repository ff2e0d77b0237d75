/* SPDX-License-Identifier: MIT */
/** The pipeline behind redmoon_pipeline: a call, and which of its marks the user sees. */
#ifndef RM_ENGINE_PIPELINE_H
#define RM_ENGINE_PIPELINE_H

#include "engine/call.h"

#include <redmoon/command.h>

struct redmoon_pipeline {
  rm_call call;
  size_t *visible;        /* mark of each user-visible command; NULL while marks and commands are the same */
  size_t count, cap;      /* commands; room in `visible` */
  char (*loaded)[41];     /* SHA-1 of the scripts that were loaded in front of a run */
  size_t loaded_count;
  bool ran;
};

/** The call to format a command into; end it with rm_pipeline_end. CONFIG after a run. */
REDMOON_API rm_call *rm_pipeline_call(redmoon_pipeline *pipeline, redmoon_error *err);
/** Ends the command formatted last.  Its index or a negative status. */
REDMOON_API int64_t rm_pipeline_end(redmoon_pipeline *pipeline, const rm_command *command, unsigned flags,
                                    redmoon_error *err);

#endif
