/* SPDX-License-Identifier: MIT */
/** Between the files of the audit's binding. */
#ifndef RM_LUA_AUDIT_H
#define RM_LUA_AUDIT_H

#include "binding.h"

/** The report as a table. [-0, +1] */
void rm_lua_push_audit_report(lua_State *L, const redmoon_audit_report *report);
/** Milliseconds as seconds. [-0, +0] */
static inline lua_Number rm_lua_seconds(double ms) { return (lua_Number)(ms / 1e3); }

#endif
