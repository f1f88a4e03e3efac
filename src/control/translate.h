/*
 * control/translate.h - from the mesh to what one proxy is sent: the heart of the control plane.
 * A pure function of the model (in which what is held is already in force, hold.h), and of what the
 * node says about itself. No I/O, no clock; the same input gives the same bytes. The shapes are
 * those of a real istiod (xds.md 7 to 14), less what the node's extensions don't list. Rooms:
 * translate_cluster (CDS), _endpoint (EDS), _listener and _inbound (LDS of sidecars), _gateway (LDS
 * and RDS of routers), _route (RDS), _rule (a VirtualService's routes), _filter (connection
 * managers and filter chains), _names (NDS), _tls, _value (small messages). Who may share the
 * result: view.h.
 * Start at: cp_translate().
 */
#ifndef CP_CONTROL_TRANSLATE_H
#define CP_CONTROL_TRANSLATE_H

#include "control/node.h"
#include "control/resource.h"

/*
 * What a translation is made of: what all proxies of a kind in a namespace see, and what is about
 * the proxy's own workload.
 */
typedef enum { CP_PART_COMMON = 1, CP_PART_OWN = 2, CP_PART_ALL = 3 } cp_part;

/* One part alone, for who shares it (view.h). */
struct cp_resources *cp_translate_part(struct lt_ads_pool *pool, const struct lt_model *model,
                                       const struct cp_node *node, cp_type type, cp_part part);
/*
 * All resources of a type for this node, one count for the caller. Of EDS and RDS: all names that
 * could be asked for with sense; for others see cp_translate_absent.
 */
struct cp_resources *cp_translate(struct lt_ads_pool *pool, const struct lt_model *model,
                                  const struct cp_node *node, cp_type type);

/*
 * The answer to a name that does not exist (xds.md 3.1): EDS an assignment without endpoints, RDS a
 * configuration without virtual hosts. NULL for types of which everything is sent. One count for
 * the caller; it is in no pool, because strangers choose the names.
 */
struct lt_ads_resource *cp_translate_absent(cp_type type, lt_str name);

#endif
