/*
 * ctl/node_net.c - names and cluster IPs of the node. nodePorts: node_ports.c.
 * Start at: on_lookup(), on_publish().
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/cluster_ip.h"
#include "ctl/dns_msg.h"
#include "ctl/nft.h"
#include "ctl/node_priv.h"
#include "ctl/publish.h"
#include "net/dns_server.h"

enum {
    RULES_BYTES_MAX = 8 << 20,
    EXTERNAL_NAMES_MAX = 4, /* one ExternalName that names another */
    DNS_CONNS_MAX = 64,
    DNS_CONN_TIMEOUT_S = 10,
};

/* --- names --- */

bool ctl_node_takes_traffic(const struct ctl_service_plan *service, const struct ctl_pod *pod)
{
    if (pod->state == CTL_POD_ENDED || !ctl_plan_selects(service, pod->plan))
        return false;
    return pod->is_ready ||
           (lt_opt_or(service->spec->publish_not_ready, 0) != 0 && !ctl_pod_is_stopping(pod));
}

const struct ctl_service_plan *ctl_node_find_service(const struct ctl_node *node, lt_str ns,
                                                     lt_str name)
{
    for (size_t i = 0; node->plan != NULL && i < node->plan->service_count; i++) {
        const struct ctl_service_plan *service = &node->plan->services[i];
        if (lt_str_eqz(name, service->name) && lt_str_eqz(ns, service->ns))
            return service;
    }
    return NULL;
}

/* Pods of a headless service; hostname empty: all of them. */
static void list_pods(const struct ctl_node *node, const struct ctl_service_plan *service,
                      lt_str hostname, uint32_t *addrs, size_t *ret_count)
{
    for (size_t i = 0; i < node->pods.count && *ret_count < CTL_DNS_ADDRS_MAX; i++) {
        const struct ctl_pod *pod = ctl_node_pod(node, i);
        if (ctl_node_takes_traffic(service, pod) &&
            (hostname.len == 0 || lt_str_eqz(hostname, pod->plan->hostname)))
            addrs[(*ret_count)++] = pod->ip;
    }
}

static bool look_up(const struct ctl_node *node, lt_str name, unsigned depth, uint32_t *addrs,
                    size_t *ret_count)
{
    static const lt_str suffix = {".svc." CTL_DOMAIN, sizeof(".svc." CTL_DOMAIN) - 1};
    if (!lt_str_ends(name, suffix))
        return false;
    lt_str rest = lt_str_slice(name, 0, name.len - suffix.len), hostname = LT_STR_NULL;
    ptrdiff_t dot = lt_str_rfind_char(rest, '.');
    if (dot < 0)
        return false;
    lt_str ns = lt_str_from(rest, (size_t)dot + 1), svc = lt_str_slice(rest, 0, (size_t)dot);
    ptrdiff_t inner = lt_str_rfind_char(svc, '.');
    if (inner >= 0) {
        hostname = lt_str_slice(svc, 0, (size_t)inner);
        svc = lt_str_from(svc, (size_t)inner + 1);
    }
    const struct ctl_service_plan *service = ctl_node_find_service(node, ns, svc);
    if (service == NULL)
        return false;
    if (service->spec->external_name.len > 0)
        return depth < EXTERNAL_NAMES_MAX &&
               look_up(node, service->spec->external_name, depth + 1, addrs, ret_count);
    if (hostname.len > 0 || service->ip == 0) {
        list_pods(node, service, hostname, addrs, ret_count);
        return hostname.len == 0 || *ret_count > 0;
    }
    addrs[(*ret_count)++] = service->ip;
    return true;
}

static bool on_lookup(void *ctx, lt_str name, uint32_t *addrs, size_t *ret_count)
{
    *ret_count = 0;
    return look_up(ctx, name, 0, addrs, ret_count);
}

static lt_rc on_question(void *ctx, struct lt_dns_request *request, lt_str query, void *out,
                         size_t max, size_t *ret_len)
{
    ctl_dns_answer(query, lt_dns_request_is_udp(request), on_lookup, ctx, out, max, ret_len);
    return LT_OK;
}

/* --- cluster IPs --- */

static void fill_forward(const struct ctl_node *node, const struct ctl_service_plan *service,
                         const struct lt_service_port *port, struct lt_arena *arena,
                         struct ctl_forward *ret)
{
    struct ctl_target *targets = lt_arena_make_n(arena, struct ctl_target, node->pods.count + 1);
    size_t count = 0;
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod *pod = ctl_node_pod(node, i);
        uint16_t number = ctl_node_takes_traffic(service, pod)
                              ? ctl_plan_target_port(port, pod->plan)
                              : 0;
        if (number != 0)
            targets[count++] = (struct ctl_target){pod->ip, number};
    }
    *ret = (struct ctl_forward){
        .ip = service->ip,
        .port = (uint16_t)port->port.value,
        .is_udp = lt_opt_or(port->protocol, LT_PROTOCOL_TCP) == LT_PROTOCOL_UDP,
        .targets = targets,
        .target_count = count,
    };
}

static lt_rc write_rules(const struct ctl_node *node, struct lt_buf *out)
{
    struct lt_arena *arena = lt_arena_new(16384, 0);
    size_t room = 0, count = 0;
    for (size_t i = 0; i < node->plan->service_count; i++)
        room += node->plan->services[i].spec->ports.count;
    struct ctl_forward *forwards = lt_arena_make_n(arena, struct ctl_forward, room + 1);
    for (size_t i = 0; i < node->plan->service_count; i++) {
        const struct ctl_service_plan *service = &node->plan->services[i];
        for (size_t k = 0; service->ip != 0 && k < service->spec->ports.count; k++) {
            if (lt_opt_or(service->spec->ports.items[k].protocol, LT_PROTOCOL_TCP) !=
                LT_PROTOCOL_SCTP)
                fill_forward(node, service, &service->spec->ports.items[k], arena,
                             &forwards[count++]);
        }
    }
    uint32_t *ips = lt_arena_make_n(arena, uint32_t, node->pods.count + 1);
    for (size_t i = 0; i < node->pods.count; i++)
        ips[i] = ctl_node_pod(node, i)->ip;
    lt_rc rc = ctl_cluster_ip_write(forwards, count, ips, node->pods.count, CTL_NODE_IP, out);
    lt_arena_free(&arena);
    return rc;
}

static lt_rc apply_rules(struct ctl_node *node, struct lt_err *err)
{
    struct lt_buf rules;
    lt_buf_init(&rules, RULES_BYTES_MAX);
    lt_rc rc = write_rules(node, &rules);
    if (rc == LT_OK)
        rc = lt_buf_append(&rules, "", 1);
    if (rc != LT_OK)
        rc = lt_err_set(err, rc, "more cluster IPs than fit into one ruleset");
    uint64_t hash = lt_hash64(lt_buf_str(&rules).ptr, lt_buf_len(&rules), 0);
    if (rc == LT_OK && hash != node->rules_hash)
        rc = ctl_nft_apply(lt_buf_str(&rules).ptr, err);
    if (rc == LT_OK)
        node->rules_hash = hash;
    lt_buf_fini(&rules);
    return rc;
}

static void on_publish(struct lt_task *task)
{
    struct ctl_node *node = LT_CONTAINER_OF(task, struct ctl_node, publish);
    char path[PATH_MAX];
    struct lt_err err = {0};
    if (node->plan == NULL)
        return;
    ctl_node_ports_share(node);
    if (apply_rules(node, &err) != LT_OK)
        ctl_node_say(node, "lateen: cluster IPs: %s", err.text);
    if (ctl_publish(ctl_state_path(node->state, "live/cluster.yaml", path),
                    (struct ctl_pod *const *)node->pods.items, node->pods.count,
                    node->plan->services, node->plan->service_count, &err) != LT_OK)
        ctl_node_say(node, "lateen: %s", err.text);
}

void ctl_node_net_touch(struct ctl_node *node)
{
    lt_loop_defer(node->loop, &node->publish);
}

lt_rc ctl_node_net_init(struct ctl_node *node, struct lt_err *err)
{
    struct lt_addr addr = {.len = sizeof(addr.v4)};
    addr.v4 = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(CTL_DNS_IP)};
    lt_task_init(&node->publish, on_publish);
    lt_vec_init(&node->host_ports);
    const struct lt_dns_server_opts opts = {.loop = node->loop,
                                            .serve = on_question,
                                            .ctx = node,
                                            .conns_max = DNS_CONNS_MAX,
                                            .conn_timeout_s = DNS_CONN_TIMEOUT_S};
    const struct lt_dns_door door = {.addr = addr, .udp_fd = -1, .tcp_fd = -1};
    node->dns = lt_dns_server_new(&opts);
    LT_TRY(lt_dns_server_open(node->dns, &door, err));
    lt_dns_server_accept(node->dns);
    return LT_OK;
}
