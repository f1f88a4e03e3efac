/*
 * model/check.h - rules beyond the type of one field. Inside an object: the functions that the
 * tables in fields_*.def name, called while it is read. Between objects: lt_check_references.
 * Sources: Istio's pkg/config/validation (what its webhook refuses and warns about), Kubernetes'
 * validation where it matters here. lt_check_selectors is for `lateen up`, which knows all Pods.
 */
#ifndef LT_MODEL_CHECK_H
#define LT_MODEL_CHECK_H

#include "model/object.h"

/*
 * What the objects say about each other and shouldn't: a route to a host, subset or gateway that
 * does not exist, two VirtualServices for one host on the sidecars, a subset that selects no Pod.
 * All are warnings: order of applying must not matter. `domain`: "cluster.local". Objects as from
 * lt_manifests_objects.
 */
void lt_check_references(const struct lt_object *const *objects, size_t count, lt_str domain,
                         struct lt_notes *notes);

/*
 * A Service, Gateway or PeerAuthentication that selects no Pod of these objects, a target port that
 * none has: warnings too. Only where the objects say all that runs.
 */
void lt_check_selectors(const struct lt_object *const *objects, size_t count, lt_str root_ns,
                        struct lt_notes *notes);

lt_schema_check_fn lt_check_string_match, lt_check_destination, lt_check_header_ops,
    lt_check_http_match, lt_check_body, lt_check_redirect, lt_check_rewrite, lt_check_retry,
    lt_check_fault, lt_check_http_route, lt_check_virtual_service, lt_check_consistent_hash,
    lt_check_pool_http, lt_check_outlier, lt_check_client_tls, lt_check_port_policy,
    lt_check_traffic_policy, lt_check_subset, lt_check_destination_rule, lt_check_gateway_port,
    lt_check_gateway_server, lt_check_gateway, lt_check_peer_authentication, lt_check_meta,
    lt_check_volume, lt_check_pod_spec, lt_check_deployment_spec, lt_check_service_spec;

#endif
