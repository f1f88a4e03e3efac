/*
 * ctl/nft.h - rulesets of the namespace that the caller is in, by libnftables: one text, one
 * transaction. Who writes the texts: capture.h (traffic capture of a workload), cluster_ip.h (the
 * node).
 */
#ifndef LT_CTL_NFT_H
#define LT_CTL_NFT_H

#include "base/err.h"

/* All of it or nothing. The error carries what nft says. */
LT_MUST lt_rc ctl_nft_apply(const char *ruleset, struct lt_err *err);

#endif
