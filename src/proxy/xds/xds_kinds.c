/*
 * proxy/xds/xds_kinds.c - the table of kinds.
 */
#include "proxy/xds/xds_kinds.h"

#include "wire/ads.h"

#define SERVICE(package, service, what) \
    "/envoy.service." package ".v3." service "/Delta" what, \
        "/envoy.service." package ".v3." service "/Stream" what

const struct px_xds_kind px_xds_kinds[PX_RESOURCE_KINDS] = {
    [PX_CLUSTER] = {LT_ADS_CLUSTER, true, false, "cluster_manager.cds",
                    "Error adding/updating cluster(s)",
                    SERVICE("cluster", "ClusterDiscoveryService", "Clusters")},
    [PX_ENDPOINTS] = {LT_ADS_ENDPOINT, false, false, "cluster_manager.eds",
                      "Error updating endpoints of",
                      SERVICE("endpoint", "EndpointDiscoveryService", "Endpoints")},
    [PX_LISTENER] = {LT_ADS_LISTENER, true, false, "listener_manager.lds",
                     "Error adding/updating listener(s)",
                     SERVICE("listener", "ListenerDiscoveryService", "Listeners")},
    [PX_ROUTES] = {LT_ADS_ROUTE, false, true, "http.rds", "Error updating route configuration",
                   SERVICE("route", "RouteDiscoveryService", "Routes")},
    [PX_SECRET] = {LT_ADS_SECRET, false, false, "sds", "Error updating secret",
                   SERVICE("secret", "SecretDiscoveryService", "Secrets")},
    [PX_EXTENSION] = {LT_ADS_EXTENSION, false, true, "extension_config_discovery",
                      "Error updating extension",
                      SERVICE("extension", "ExtensionConfigDiscoveryService", "ExtensionConfigs")},
    [PX_VHOST] = {LT_ADS_VIRTUAL_HOST, false, true, "http.rds.vhds", "Error updating virtual host",
                  SERVICE("route", "VirtualHostDiscoveryService", "VirtualHosts")},
};
