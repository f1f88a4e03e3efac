/*
 * ctl/publish.c - writing objects. Each document is JSON on one line, which is YAML too.
 */
#include "ctl/publish.h"

#include <stdio.h>

#include "ctl/proc.h"
#include "wire/json.h"

enum { BYTES_MAX = 16 << 20 };

static void write_text(struct lt_json_writer *w, const char *key, const char *value)
{
    lt_json_kv_str(w, key, lt_str_of(value));
}

static void write_kvs(struct lt_json_writer *w, const char *key, const struct lt_kvs *kvs)
{
    lt_json_kv_object(w, key);
    for (size_t i = 0; i < kvs->count; i++) {
        lt_json_key(w, kvs->items[i].key);
        lt_json_str(w, kvs->items[i].value);
    }
    lt_json_object_close(w);
}

static void write_kind(struct lt_json_writer *w, const char *api_version, const char *kind)
{
    lt_json_object_open(w);
    write_text(w, "apiVersion", api_version);
    write_text(w, "kind", kind);
}

static void write_ip(struct lt_json_writer *w, uint32_t ip)
{
    lt_json_strf(w, "%u.%u.%u.%u", ip >> 24, (ip >> 16) & 255, (ip >> 8) & 255, ip & 255);
}

/* --- Pods --- */

static void write_owner(struct lt_json_writer *w, const struct ctl_pod_plan *plan)
{
    bool is_deployment = strcmp(plan->kind, "Deployment") == 0;
    if (strcmp(plan->kind, "Pod") == 0 || plan->is_control)
        return;
    lt_str hash = lt_kvs_find(&plan->labels, LT_STR("pod-template-hash"));
    lt_json_kv_array(w, "ownerReferences");
    lt_json_object_open(w);
    write_text(w, "apiVersion", is_deployment ? "apps/v1" : "batch/v1");
    write_text(w, "kind", is_deployment ? "ReplicaSet" : "Job");
    lt_json_key(w, LT_STR("name"));
    if (is_deployment)
        lt_json_strf(w, "%s-%.*s", plan->workload, LT_STR_ARG(hash));
    else
        lt_json_str(w, lt_str_of(plan->workload));
    lt_json_kv_bool(w, "controller", true);
    lt_json_object_close(w);
    lt_json_array_close(w);
}

static void write_container(struct lt_json_writer *w, const struct lt_container *c)
{
    lt_json_object_open(w);
    lt_json_kv_str(w, "name", c->name);
    lt_json_kv_array(w, "ports");
    for (size_t i = 0; i < c->ports.count; i++) {
        const struct lt_container_port *port = &c->ports.items[i];
        lt_json_object_open(w);
        if (port->name.len > 0)
            lt_json_kv_str(w, "name", port->name);
        lt_json_kv_int(w, "containerPort", port->container_port.value);
        write_text(w, "protocol",
                   lt_enum_name(lt_ip_protocol_enum, lt_opt_or(port->protocol, LT_PROTOCOL_TCP)));
        lt_json_object_close(w);
    }
    lt_json_array_close(w);
    lt_json_object_close(w);
}

static void write_pod_spec(struct lt_json_writer *w, const struct ctl_pod_plan *plan)
{
    lt_json_kv_object(w, "spec");
    write_text(w, "serviceAccountName", plan->service_account);
    write_text(w, "nodeName", "lateen");
    if (plan->spec->hostname.len > 0)
        lt_json_kv_str(w, "hostname", plan->spec->hostname);
    if (plan->spec->subdomain.len > 0)
        lt_json_kv_str(w, "subdomain", plan->spec->subdomain);
    lt_json_kv_array(w, "containers");
    for (size_t i = 0; i < plan->spec->containers.count; i++)
        write_container(w, &plan->spec->containers.items[i]);
    lt_json_array_close(w);
    lt_json_object_close(w);
}

static const char *phase_of(const struct ctl_pod *pod)
{
    if (pod->state == CTL_POD_ENDED)
        return pod->exit_code == 0 ? "Succeeded" : "Failed";
    return pod->state < CTL_POD_RUNNING ? "Pending" : "Running";
}

static void write_pod(struct lt_json_writer *w, const struct ctl_pod *pod)
{
    const struct ctl_pod_plan *plan = pod->plan;
    write_kind(w, "v1", "Pod");
    lt_json_kv_object(w, "metadata");
    write_text(w, "name", plan->name);
    write_text(w, "namespace", plan->ns);
    write_kvs(w, "labels", &plan->labels);
    write_kvs(w, "annotations", &plan->annotations);
    write_owner(w, plan);
    lt_json_object_close(w);
    write_pod_spec(w, plan);
    lt_json_kv_object(w, "status");
    write_text(w, "phase", phase_of(pod));
    lt_json_key(w, LT_STR("podIP"));
    write_ip(w, pod->ip);
    lt_json_kv_array(w, "conditions");
    lt_json_object_open(w);
    write_text(w, "type", "Ready");
    write_text(w, "status", pod->is_ready ? "True" : "False");
    lt_json_object_close(w);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

/* --- Services --- */

static void write_service_port(struct lt_json_writer *w, const struct lt_service_port *port)
{
    lt_json_object_open(w);
    if (port->name.len > 0)
        lt_json_kv_str(w, "name", port->name);
    if (port->app_protocol.len > 0)
        lt_json_kv_str(w, "appProtocol", port->app_protocol);
    write_text(w, "protocol",
               lt_enum_name(lt_ip_protocol_enum, lt_opt_or(port->protocol, LT_PROTOCOL_TCP)));
    lt_json_kv_int(w, "port", port->port.value);
    if (port->target_port.number != 0)
        lt_json_kv_int(w, "targetPort", port->target_port.number);
    else if (port->target_port.name.len > 0)
        lt_json_kv_str(w, "targetPort", port->target_port.name);
    if (port->node_port.is_set)
        lt_json_kv_int(w, "nodePort", port->node_port.value);
    lt_json_object_close(w);
}

static void write_service(struct lt_json_writer *w, const struct ctl_service_plan *service)
{
    const struct lt_service_spec *spec = service->spec;
    write_kind(w, "v1", "Service");
    lt_json_kv_object(w, "metadata");
    write_text(w, "name", service->name);
    write_text(w, "namespace", service->ns);
    write_kvs(w, "labels", &service->object->meta->labels);
    write_kvs(w, "annotations", &service->object->meta->annotations);
    if (service->object->meta->creation_timestamp.len > 0)
        lt_json_kv_str(w, "creationTimestamp", service->object->meta->creation_timestamp);
    lt_json_object_close(w);
    lt_json_kv_object(w, "spec");
    write_text(w, "type",
               lt_enum_name(lt_service_type_enum, lt_opt_or(spec->type, LT_SERVICE_CLUSTER_IP)));
    if (service->ip != 0) {
        lt_json_key(w, LT_STR("clusterIP"));
        write_ip(w, service->ip);
    } else if (spec->cluster_ip.len > 0) {
        lt_json_kv_str(w, "clusterIP", spec->cluster_ip);
    }
    if (spec->external_name.len > 0)
        lt_json_kv_str(w, "externalName", spec->external_name);
    if (spec->publish_not_ready.is_set)
        lt_json_kv_bool(w, "publishNotReadyAddresses", spec->publish_not_ready.value != 0);
    write_kvs(w, "selector", &spec->selector);
    lt_json_kv_array(w, "ports");
    for (size_t i = 0; i < spec->ports.count; i++)
        write_service_port(w, &spec->ports.items[i]);
    lt_json_array_close(w);
    lt_json_object_close(w);
    lt_json_object_close(w);
}

/*
 * --- EndpointSlices: one for each Pod of a Service, as named target ports may differ from Pod to
 * Pod ---
 */

static void write_slice_ports(struct lt_json_writer *w, const struct ctl_service_plan *service,
                              const struct ctl_pod *pod)
{
    lt_json_kv_array(w, "ports");
    for (size_t i = 0; i < service->spec->ports.count; i++) {
        const struct lt_service_port *port = &service->spec->ports.items[i];
        uint16_t target = ctl_plan_target_port(port, pod->plan);
        if (target == 0)
            continue;
        lt_json_object_open(w);
        lt_json_kv_str(w, "name", port->name);
        write_text(w, "protocol",
                   lt_enum_name(lt_ip_protocol_enum, lt_opt_or(port->protocol, LT_PROTOCOL_TCP)));
        lt_json_kv_int(w, "port", target);
        lt_json_object_close(w);
    }
    lt_json_array_close(w);
}

static void write_slice_endpoint(struct lt_json_writer *w, const struct ctl_service_plan *service,
                                 const struct ctl_pod *pod)
{
    bool is_ready = pod->is_ready || lt_opt_or(service->spec->publish_not_ready, 0) != 0;
    lt_json_kv_array(w, "endpoints");
    lt_json_object_open(w);
    lt_json_kv_array(w, "addresses");
    write_ip(w, pod->ip);
    lt_json_array_close(w);
    lt_json_kv_object(w, "conditions");
    lt_json_kv_bool(w, "ready", is_ready);
    lt_json_kv_bool(w, "serving", is_ready);
    lt_json_kv_bool(w, "terminating", ctl_pod_is_stopping(pod));
    lt_json_object_close(w);
    lt_json_kv_object(w, "targetRef");
    write_text(w, "kind", "Pod");
    write_text(w, "name", pod->plan->name);
    write_text(w, "namespace", pod->plan->ns);
    lt_json_object_close(w);
    write_text(w, "nodeName", "lateen");
    lt_json_object_close(w);
    lt_json_array_close(w);
}

static void write_slice(struct lt_json_writer *w, const struct ctl_service_plan *service,
                        const struct ctl_pod *pod)
{
    write_kind(w, "discovery.k8s.io/v1", "EndpointSlice");
    lt_json_kv_object(w, "metadata");
    lt_json_key(w, LT_STR("name"));
    lt_json_strf(w, "%s-%s", service->name, pod->plan->name);
    write_text(w, "namespace", service->ns);
    lt_json_kv_object(w, "labels");
    write_text(w, "kubernetes.io/service-name", service->name);
    lt_json_object_close(w);
    lt_json_object_close(w);
    write_text(w, "addressType", "IPv4");
    write_slice_endpoint(w, service, pod);
    write_slice_ports(w, service, pod);
    lt_json_object_close(w);
}

/* --- the file --- */

typedef void write_fn(struct lt_json_writer *w, const void *first, const void *second);

static void write_pod_doc(struct lt_json_writer *w, const void *pod, const void *none LT_UNUSED)
{
    write_pod(w, pod);
}

static void write_service_doc(struct lt_json_writer *w, const void *service,
                              const void *none LT_UNUSED)
{
    write_service(w, service);
}

static void write_slice_doc(struct lt_json_writer *w, const void *service, const void *pod)
{
    write_slice(w, service, pod);
}

static lt_rc add_document(struct lt_buf *out, write_fn *write, const void *first,
                          const void *second)
{
    struct lt_json_writer w;
    LT_TRY(lt_buf_printf(out, "---\n"));
    lt_json_writer_init(&w, out, 0);
    write(&w, first, second);
    LT_TRY(lt_json_writer_finish(&w));
    return lt_buf_printf(out, "\n");
}

static lt_rc write_all(struct lt_buf *out, struct ctl_pod *const *pods, size_t pod_count,
                       const struct ctl_service_plan *services, size_t service_count)
{
    for (size_t i = 0; i < pod_count; i++) {
        if (!pods[i]->plan->is_control)
            LT_TRY(add_document(out, write_pod_doc, pods[i], NULL));
    }
    for (size_t i = 0; i < service_count; i++) {
        if (services[i].object == NULL)
            continue; /* lateend's own: no workload calls it but sidecars, and these know it */
        LT_TRY(add_document(out, write_service_doc, &services[i], NULL));
        for (size_t k = 0; k < pod_count; k++) {
            if (pods[k]->state != CTL_POD_ENDED && ctl_plan_selects(&services[i], pods[k]->plan))
                LT_TRY(add_document(out, write_slice_doc, &services[i], pods[k]));
        }
    }
    return LT_OK;
}

lt_rc ctl_publish(const char *path, struct ctl_pod *const *pods, size_t pod_count,
                  const struct ctl_service_plan *services, size_t service_count, struct lt_err *err)
{
    struct lt_buf out;
    lt_buf_init(&out, BYTES_MAX);
    lt_rc rc = write_all(&out, pods, pod_count, services, service_count);
    if (rc != LT_OK)
        rc = lt_err_set(err, rc, "%s: more than %d bytes", path, BYTES_MAX);
    else
        rc = ctl_file_replace(path, lt_buf_str(&out), 0600, err);
    lt_buf_fini(&out);
    return rc;
}
