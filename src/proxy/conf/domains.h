/*
 * proxy/conf/domains.h - the index of virtual hosts by domain: made once, read by workers.
 * Search order as Envoy's: exact, longest suffix, longest prefix, "*".
 */
#ifndef LT_PROXY_CONF_DOMAINS_H
#define LT_PROXY_CONF_DOMAINS_H

#include "proxy/conf/conf.h"

/*
 * The lists are in arena, the map is the caller's to free. LT_E_BAD: a domain is empty.
 * LT_E_EXISTS: *ret_twice is another virtual host's too; with first_wins it stays that one's.
 */
LT_MUST lt_rc px_domains_make(struct lt_arena *arena, const struct px_vhost *const *vhosts,
                              size_t count, bool first_wins, struct px_domains *domains,
                              lt_str *ret_twice);
/* host in lower case. more: a second index, beside the first; NULL. */
const struct px_vhost *px_domains_find(const struct px_domains *domains,
                                       const struct px_domains *more, lt_str host);
/* Who has exactly this domain, as a virtual host spells it. NULL: nobody. */
const struct px_vhost *px_domains_owner(const struct px_domains *domains, lt_str domain);

#endif
