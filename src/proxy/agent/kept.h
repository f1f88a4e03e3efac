/*
 * proxy/agent/kept.h - key and certificate over a restart, in a file that is in memory: a proxy
 * that was killed while the CA is away goes on with them. Where the directory is on a disk nothing
 * is kept.
 */
#ifndef LT_PROXY_AGENT_KEPT_H
#define LT_PROXY_AGENT_KEPT_H

#include "proxy/agent/identity.h"
#include "proxy/agent/settings.h"

void px_kept_write(const struct px_agent_settings *settings, const struct px_identity_cert *cert);
/*
 * LT_E_NOT_FOUND: there is none, or not in memory; LT_E_BAD: it is nobody's, somebody else's, not
 * of this key, or over. Texts live in arena, which is to be wiped.
 */
LT_MUST lt_rc px_kept_read(struct lt_arena *arena, const struct px_agent_settings *settings,
                           int64_t now_s, struct px_identity_cert *ret_cert);
/* The end was clean: nobody needs it. */
void px_kept_remove(const struct px_agent_settings *settings);

#endif
