/*
 * proxy/compile/overload.h - overload_manager of a bootstrap, as numbers of bytes (pressure.h).
 */
#ifndef LT_PROXY_COMPILE_OVERLOAD_H
#define LT_PROXY_COMPILE_OVERLOAD_H

#include "base/arena.h"
#include "proxy/run/pressure.h"
#include "wire/proto/overload.pb-c.h"

enum { PX_OVERLOAD_UNHONOURED_MAX = 8 };

/*
 * What does nothing here is listed in unhonoured (texts of arena, or static), up to
 * PX_OVERLOAD_UNHONOURED_MAX of them.
 */
LT_MUST lt_rc px_make_overload(struct lt_arena *arena, const Xds__OverloadManager *in,
                               struct px_pressure_conf *conf, lt_str *unhonoured,
                               size_t *ret_unhonoured, struct lt_err *err);

#endif
