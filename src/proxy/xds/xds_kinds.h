/*
 * proxy/xds/xds_kinds.h - how each kind of resource is called on the wire and in messages.
 */
#ifndef LT_PROXY_XDS_XDS_KINDS_H
#define LT_PROXY_XDS_XDS_KINDS_H

#include "proxy/conf/resource.h"

struct px_xds_kind {
    const char *type_url;
    bool is_set;                            /* all that there are, asked for without names */
    bool waits_for_phase;                   /* is not asked for before listeners are */
    const char *stat_prefix;                /* Envoy's: "cluster_manager.cds" */
    const char *nack_prefix;                /* in front of the refused names, as Envoy writes it */
    const char *delta_method, *sotw_method; /* of the service of this kind alone */
};

extern const struct px_xds_kind px_xds_kinds[PX_RESOURCE_KINDS];

#endif
