/*
 * ctl/volumes.h - a Pod's directories that outlive its containers (Kubernetes' emptyDir, and what
 * the injector mounts so for the sidecar): in memory, gone with the Pod. A container that is
 * started again finds in them what it left.
 */
#ifndef LT_CTL_VOLUMES_H
#define LT_CTL_VOLUMES_H

#include "ctl/plan.h"

/*
 * Makes below `dir` what the Pod's containers mount (CTL_MOUNT_VOLUME): a tmpfs for the first part
 * of each source, a directory in it for the rest.
 */
LT_MUST lt_rc ctl_volumes_make(const char *dir, const struct ctl_pod_plan *plan,
                               struct lt_err *err);
/* Containers that still run keep what they have mounted. */
void ctl_volumes_remove(const char *dir, const struct ctl_pod_plan *plan);

#endif
