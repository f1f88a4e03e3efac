/*
 * proxy/start/node.h - this proxy as others see it: the Node of its xDS streams, and the metadata
 * that peers get with requests.
 */
#ifndef LT_PROXY_START_NODE_H
#define LT_PROXY_START_NODE_H

#include "base/err.h"
#include "proxy/told/telemetry.h"
#include "wire/doc.h"

/*
 * Completes the bytes of a Node with what Envoy's server adds by itself: user agent, and the
 * extensions that this proxy has, so that a control plane can leave out what we would refuse.
 * Result in arena; LT_E_BAD for broken bytes.
 */
LT_MUST lt_rc px_node_complete(struct lt_arena *arena, lt_str node, lt_str *ret_node,
                               struct lt_err *err);

/*
 * Facts of a workload out of its node metadata (Istio's keys: WORKLOAD_NAME, NAMESPACE, LABELS
 * ...). Slices in arena.
 */
void px_node_facts_read(struct lt_arena *arena, lt_str node_id, const struct lt_doc *metadata,
                        bool is_gateway, struct px_node_facts *ret_facts);
/* The same out of the bytes of a Node. */
void px_node_facts_of(struct lt_arena *arena, lt_str node, struct px_node_facts *ret_facts);

#endif
