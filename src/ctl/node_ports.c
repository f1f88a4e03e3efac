/*
 * ctl/node_ports.c - nodePorts: one listening socket of the host each. A gateway that is ready gets
 * the socket itself and gives it back before it goes; the next one takes it over, and what waits in
 * it waits on. Workloads that cannot take a socket (everything but lateen-proxy as a gateway) get a
 * TCP relay. Several may have the same socket.
 * Start at: ctl_node_ports_plan() for a change of Services, share() for a change of Pods.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/host_port.h"
#include "ctl/node_priv.h"

enum { PATIENCE_S = 10 /* for a gateway that is on its way; connections wait in the socket */ };

struct host_port {
    struct ctl_node *node;
    uint16_t port; /* of the host */
    char *ns;      /* owned, of the service */
    char *service; /* owned */
    uint16_t service_port;
    int fd; /* owned */
    struct ctl_relay *relay;
    size_t turn;             /* for the relay's round robin */
    uint64_t alone_since_ns; /* nobody serves it, somebody will; 0: not so */
    struct lt_timer out_of_patience;
    bool is_wanted;
};

/* --- whom it leads to --- */

static const struct lt_service_port *find_service_port(const struct ctl_service_plan *service,
                                                       uint16_t number)
{
    for (size_t i = 0; service != NULL && i < service->spec->ports.count; i++) {
        if (service->spec->ports.items[i].port.value == number)
            return &service->spec->ports.items[i];
    }
    return NULL;
}

static const struct ctl_service_plan *service_of(const struct host_port *host_port)
{
    return ctl_node_find_service(host_port->node, lt_str_of(host_port->ns),
                                 lt_str_of(host_port->service));
}

/* The Pod's port that connections are for; 0: it gets none now. */
static uint16_t target_of(const struct host_port *host_port, const struct ctl_service_plan *service,
                          const struct ctl_pod *pod)
{
    const struct lt_service_port *port = find_service_port(service, host_port->service_port);
    if (port == NULL || !ctl_node_takes_traffic(service, pod))
        return 0;
    return ctl_plan_target_port(port, pod->plan);
}

/* The ready Pods of the service, in turn. */
static bool pick_target(void *ctx, struct lt_addr *ret_addr)
{
    struct host_port *host_port = ctx;
    const struct ctl_node *node = host_port->node;
    const struct ctl_service_plan *service = service_of(host_port);
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod *pod = ctl_node_pod(node, host_port->turn++ % node->pods.count);
        uint16_t number = target_of(host_port, service, pod);
        if (number == 0)
            continue;
        *ret_addr = (struct lt_addr){.len = sizeof(ret_addr->v4)};
        ret_addr->v4 = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons(number), .sin_addr.s_addr = htonl(pod->ip)};
        return true;
    }
    return false;
}

/* A gateway of the service is on its way. */
static bool is_awaited(const struct host_port *host_port, const struct ctl_service_plan *service)
{
    const struct ctl_node *node = host_port->node;
    for (size_t i = 0; i < node->waiting.count; i++) {
        const struct ctl_pod_plan *plan = node->waiting.items[i];
        if (plan->is_gateway && ctl_plan_selects(service, plan))
            return true;
    }
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod *pod = ctl_node_pod(node, i);
        if (pod->is_wanted && pod->plan->is_gateway && pod->state != CTL_POD_ENDED &&
            ctl_plan_selects(service, pod->plan))
            return true;
    }
    return false;
}

/* Nobody serves it: true while that may change soon, so that connections had better wait. */
static bool has_patience(struct host_port *host_port, const struct ctl_service_plan *service)
{
    struct lt_loop *loop = host_port->node->loop;
    uint64_t now_ns = lt_loop_now_ns(loop), until_ns;
    if (service == NULL || !is_awaited(host_port, service))
        return false;
    if (host_port->alone_since_ns == 0)
        host_port->alone_since_ns = now_ns;
    until_ns = host_port->alone_since_ns + PATIENCE_S * LT_NS_PER_S;
    if (now_ns >= until_ns)
        return false;
    lt_loop_timer_set(loop, &host_port->out_of_patience, until_ns - now_ns);
    return true;
}

/* Everybody who is ready has the socket, or the relay has it for them. */
static void share(struct host_port *host_port)
{
    const struct ctl_node *node = host_port->node;
    const struct ctl_service_plan *service = service_of(host_port);
    bool is_served = false, needs_relay = false;
    for (size_t i = 0; i < node->pods.count; i++) {
        struct ctl_pod *pod = ctl_node_pod(node, i);
        const struct lt_handover message = {
            .id = host_port->port, .port = target_of(host_port, service, pod), .ip = pod->ip};
        if (message.port != 0 && ctl_handing_give(&pod->handing, &message, host_port->fd)) {
            is_served = true;
            continue;
        }
        ctl_handing_take_back(&pod->handing, host_port->port);
        needs_relay |= message.port != 0;
    }
    lt_loop_timer_cancel(node->loop, &host_port->out_of_patience);
    if (is_served || needs_relay)
        host_port->alone_since_ns = 0;
    else
        needs_relay = !has_patience(host_port, service); /* which finds nobody, and refuses */
    ctl_relay_listen(host_port->relay, needs_relay ? host_port->fd : -1);
}

static void on_out_of_patience(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    share(LT_CONTAINER_OF(timer, struct host_port, out_of_patience));
}

void ctl_node_ports_share(struct ctl_node *node)
{
    for (size_t i = 0; i < node->host_ports.count; i++)
        share(node->host_ports.items[i]);
}

/* --- which there are --- */

static void free_host_port(struct host_port *host_port)
{
    struct ctl_node *node = host_port->node;
    for (size_t i = 0; i < node->pods.count; i++)
        ctl_handing_take_back(&ctl_node_pod(node, i)->handing, host_port->port);
    lt_loop_timer_cancel(node->loop, &host_port->out_of_patience);
    ctl_relay_free(&host_port->relay);
    close(host_port->fd);
    free(host_port->ns);
    free(host_port->service);
    free(host_port);
}

static struct host_port *find_host_port(const struct ctl_node *node, uint16_t port)
{
    for (size_t i = 0; i < node->host_ports.count; i++) {
        struct host_port *host_port = node->host_ports.items[i];
        if (host_port->port == port)
            return host_port;
    }
    return NULL;
}

static lt_rc open_host_port(struct ctl_node *node, uint16_t number, struct host_port **ret,
                            struct lt_err *err)
{
    int fd;
    LT_TRY(ctl_host_port_ask(node->supervisor.fd, number, &fd, err));
    struct host_port *host_port = lt_new(struct host_port);
    *host_port = (struct host_port){.node = node, .port = number, .fd = fd};
    lt_timer_init(&host_port->out_of_patience, on_out_of_patience);
    host_port->relay = ctl_relay_new(node->loop, pick_target, host_port);
    lt_vec_push(&node->host_ports, host_port);
    *ret = host_port;
    return LT_OK;
}

static lt_rc want_host_port(struct ctl_node *node, const struct ctl_service_plan *service,
                            const struct lt_service_port *port, struct lt_err *err)
{
    uint16_t number = (uint16_t)port->node_port.value;
    struct host_port *host_port = find_host_port(node, number);
    if (lt_opt_or(port->protocol, LT_PROTOCOL_TCP) != LT_PROTOCOL_TCP)
        return lt_err_set(err, LT_E_UNSUPPORTED, "nodePort %u: only TCP is read yet", number);
    if (host_port != NULL && host_port->is_wanted)
        return lt_err_set(err, LT_E_EXISTS, "nodePort %u is Service %s/%s's already", number,
                          host_port->ns, host_port->service);
    if (host_port == NULL)
        LT_TRY(open_host_port(node, number, &host_port, err));
    free(host_port->ns);
    free(host_port->service);
    host_port->ns = lt_strdup(service->ns);
    host_port->service = lt_strdup(service->name);
    host_port->service_port = (uint16_t)port->port.value;
    host_port->is_wanted = true;
    return LT_OK;
}

/* Each that can't be is told. */
static size_t want_all(struct ctl_node *node)
{
    size_t failures = 0;
    for (size_t i = 0; i < node->plan->service_count; i++) {
        const struct ctl_service_plan *service = &node->plan->services[i];
        for (size_t k = 0; k < service->spec->ports.count; k++) {
            const struct lt_service_port *port = &service->spec->ports.items[k];
            struct lt_err err = {0};
            if (!port->node_port.is_set || want_host_port(node, service, port, &err) == LT_OK)
                continue;
            ctl_node_say(node, "lateen: Service %s/%s: %s", service->ns, service->name, err.text);
            failures++;
        }
    }
    return failures;
}

bool ctl_node_ports_plan(struct ctl_node *node)
{
    for (size_t i = 0; i < node->host_ports.count; i++)
        ((struct host_port *)node->host_ports.items[i])->is_wanted = false;
    bool is_good = want_all(node) == 0;
    for (size_t i = node->host_ports.count;
         i-- > 0;) { /* backwards: removal moves the last one into the gap */
        struct host_port *host_port = node->host_ports.items[i];
        if (host_port->is_wanted)
            continue;
        lt_vec_swap_remove(&node->host_ports, i);
        free_host_port(host_port);
    }
    return is_good;
}

uint16_t ctl_node_host_port(const struct ctl_node *node, const struct ctl_pod_plan *pod)
{
    for (size_t i = 0; i < node->host_ports.count; i++) {
        const struct host_port *host_port = node->host_ports.items[i];
        const struct ctl_service_plan *service = service_of(host_port);
        if (service != NULL && ctl_plan_selects(service, pod))
            return host_port->port;
    }
    return 0;
}
