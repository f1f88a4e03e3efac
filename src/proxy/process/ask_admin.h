/*
 * proxy/process/ask_admin.h - `pilot-agent request [METHOD] PATH [BODY]`: one question to the admin
 * port of the proxy that runs beside, as Istio's users put it from inside a sidecar.
 */
#ifndef LT_PROXY_PROCESS_ASK_ADMIN_H
#define LT_PROXY_PROCESS_ASK_ADMIN_H

#include "base/env.h"

/* argv[0] is "request". Prints the answer's body; the exit code. */
int px_ask_admin(int argc, char **argv, const struct lt_env *env);

#endif
