/*
 * ctl/publish.h - the cluster as it is now, written as Kubernetes objects for lateend to read: Pods
 * with address and readiness, Services with cluster IP, EndpointSlices.
 * One file, replaced at once, so that its readers never see half a change.
 */
#ifndef LT_CTL_PUBLISH_H
#define LT_CTL_PUBLISH_H

#include "ctl/pod.h"

LT_MUST lt_rc ctl_publish(const char *path, struct ctl_pod *const *pods, size_t pod_count,
                          const struct ctl_service_plan *services, size_t service_count,
                          struct lt_err *err);

#endif
