/*
 * proxy/admin/clusters.c - /clusters, as text and as JSON, in Envoy's words: what the configuration
 * says, what the workers have counted, and what the main thread knows of hosts.
 * Start at: px_admin_clusters().
 */
#include <stdlib.h>

#include "http/url.h"
#include "proxy/admin/admin_priv.h"
#include "proxy/lb/stat_name.h"
#include "wire/json.h"

struct page {
    struct lt_exchange *exchange;
    struct px_admin *admin;
    const struct lt_map *counts; /* of workers: cluster -> struct px_cluster_counts */
    struct lt_buf out;
    struct lt_json_writer w;
    bool is_json;
    lt_str cluster; /* in hand */
};

/* One host, from all three sides. */
struct host {
    struct lt_addr addr;
    lt_str address;
    const struct px_endpoint_conf *endpoint; /* NULL: of ORIGINAL_DST */
    const struct px_locality *locality;
    const struct px_host_status *counts;
    struct px_member_status member;
    uint32_t weight, priority;
};

/* --- health --- */

static const char *const flag_names[PX_HOST_FLAG_COUNT] = {
#define PX_HOST_FLAG_NAME(id, name) [PX_HOST_BIT_##id] = name,
    PX_HOST_FLAGS(PX_HOST_FLAG_NAME)
#undef PX_HOST_FLAG_NAME
};

static const char *eds_flag(px_health health)
{
    switch (health) {
    case PX_HEALTH_UNHEALTHY:
    case PX_HEALTH_TIMEOUT: return "/failed_eds_health";
    case PX_HEALTH_DEGRADED: return "/degraded_eds_health";
    case PX_HEALTH_DRAINING: return "/eds_status_draining";
    default: return "";
    }
}

static px_health eds_health(const struct host *host)
{
    return host->endpoint != NULL ? (px_health)host->endpoint->health : PX_HEALTH_HEALTHY;
}

static void put_flags(struct page *page, const struct host *host)
{
    size_t before = lt_buf_len(&page->out);
    for (int bit = 0; bit < PX_HOST_FLAG_COUNT; bit++) {
        /* Envoy's order: what endpoints say comes behind the first two */
        if (bit == PX_HOST_BIT_DEGRADED_CHECK)
            lt_buf_addf(&page->out, "%s", eds_flag(eds_health(host)));
        if ((host->member.flags >> bit & 1) != 0)
            lt_buf_addf(&page->out, "%s", flag_names[bit]);
    }
    if (lt_buf_len(&page->out) == before)
        lt_buf_addf(&page->out, "healthy");
}

/* --- text --- */

static void text_number(struct page *page, const struct host *host, const char *key, uint64_t value)
{
    lt_buf_addf(&page->out, "%.*s::%.*s::%s::%llu\n", LT_STR_ARG(page->cluster),
                LT_STR_ARG(host->address), key, (unsigned long long)value);
}

static void text_str(struct page *page, const struct host *host, const char *key, lt_str value)
{
    lt_buf_addf(&page->out, "%.*s::%.*s::%s::%.*s\n", LT_STR_ARG(page->cluster),
                LT_STR_ARG(host->address), key, LT_STR_ARG(value));
}

static void text_rate(struct page *page, const struct host *host, const char *key, double value)
{
    char text[32];
    text_str(page, host, key, lt_metric_number(value, text));
}

static void text_host(struct page *page, const struct host *host)
{
    const struct px_host_status *counts = host->counts;
    const struct px_endpoint_facts *facts = host->endpoint != NULL ? host->endpoint->facts : NULL;
    text_number(page, host, "cx_active", counts->cx_active);
    text_number(page, host, "cx_connect_fail", counts->cx_connect_fail);
    text_number(page, host, "cx_total", counts->cx_total);
    text_number(page, host, "rq_active", counts->rq_active);
    text_number(page, host, "rq_error", counts->rq_error);
    text_number(page, host, "rq_pending_active", counts->rq_pending);
    text_number(page, host, "rq_success", counts->rq_success);
    text_number(page, host, "rq_timeout", counts->rq_timeout);
    text_number(page, host, "rq_total", counts->rq_total);
    text_str(page, host, "hostname", facts != NULL ? facts->hostname : LT_STR_NULL);
    lt_buf_addf(&page->out, "%.*s::%.*s::health_flags::", LT_STR_ARG(page->cluster),
                LT_STR_ARG(host->address));
    put_flags(page, host);
    lt_buf_addf(&page->out, "\n");
    text_number(page, host, "weight", host->weight);
    text_str(page, host, "region", host->locality->region);
    text_str(page, host, "zone", host->locality->zone);
    text_str(page, host, "sub_zone", host->locality->sub_zone);
    text_str(page, host, "canary",
             facts != NULL && facts->is_canary ? LT_STR("true") : LT_STR("false"));
    text_number(page, host, "priority", host->priority);
    text_rate(page, host, "success_rate", host->member.success_rate);
    text_rate(page, host, "local_origin_success_rate", host->member.local_success_rate);
}

static const char *const limit_names[] = {"max_connections", "max_pending_requests", "max_requests",
                                          "max_retries"};

static void text_circuit(struct page *page, const char *priority, const struct px_circuit *circuit)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(limit_names); i++)
        lt_buf_addf(&page->out, "%.*s::%s::%s::%u\n", LT_STR_ARG(page->cluster), priority,
                    limit_names[i], circuit->max[i]);
}

static void text_outlier(struct page *page, const struct px_outlier *outlier)
{
    const struct {
        const char *key;
        double value;
    } rows[] = {
        {"success_rate_average", outlier->average},
        {"success_rate_ejection_threshold", outlier->threshold},
        {"local_origin_success_rate_average", outlier->local_average},
        {"local_origin_success_rate_ejection_threshold", outlier->local_threshold},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        char text[32];
        lt_buf_addf(&page->out, "%.*s::outlier::%s::%.*s\n", LT_STR_ARG(page->cluster), rows[i].key,
                    LT_STR_ARG(lt_metric_number(rows[i].value, text)));
    }
}

static void text_cluster(struct page *page, const struct px_cluster_conf *conf, bool is_static)
{
    const struct px_outlier *outlier = px_members_outlier(page->admin->opts.members,
                                                          conf->res.name);
    lt_buf_addf(&page->out, "%.*s::observability_name::%.*s\n", LT_STR_ARG(page->cluster),
                LT_STR_ARG(px_cluster_shown_name(conf)));
    if (outlier != NULL)
        text_outlier(page, outlier);
    text_circuit(page, "default_priority", conf->circuits[PX_PRIORITY_DEFAULT]);
    text_circuit(page, "high_priority", conf->circuits[PX_PRIORITY_HIGH]);
    lt_buf_addf(&page->out, "%.*s::added_via_api::%s\n", LT_STR_ARG(page->cluster),
                is_static ? "false" : "true");
    if (conf->eds_service_name.len > 0)
        lt_buf_addf(&page->out, "%.*s::eds_service_name::%.*s\n", LT_STR_ARG(page->cluster),
                    LT_STR_ARG(conf->eds_service_name));
}

/* --- JSON, as ClusterStatus and HostStatus of envoy.admin.v3 --- */

static void json_member(struct page *page, const char *key, lt_str value)
{
    if (value.len == 0)
        return;
    lt_json_key(&page->w, lt_str_of(key));
    lt_json_str(&page->w, value);
}

static void json_number(struct page *page, const char *key, uint64_t value)
{
    if (value == 0)
        return;
    lt_json_key(&page->w, lt_str_of(key));
    lt_json_uint(&page->w, value);
}

static void json_flag(struct page *page, const char *key, bool value)
{
    if (!value)
        return;
    lt_json_key(&page->w, lt_str_of(key));
    lt_json_bool(&page->w, true);
}

static void json_stat(struct page *page, const char *name, uint64_t value, bool is_gauge)
{
    lt_json_object_open(&page->w);
    if (is_gauge)
        json_member(page, "type", LT_STR("GAUGE"));
    if (value > 0) {
        lt_json_key(&page->w, LT_STR("value"));
        lt_json_strf(&page->w, "%llu", (unsigned long long)value);
    }
    json_member(page, "name", lt_str_of(name));
    lt_json_object_close(&page->w);
}

static void json_stats(struct page *page, const struct px_host_status *counts)
{
    lt_json_key(&page->w, LT_STR("stats"));
    lt_json_array_open(&page->w);
    json_stat(page, "cx_connect_fail", counts->cx_connect_fail, false);
    json_stat(page, "cx_total", counts->cx_total, false);
    json_stat(page, "rq_error", counts->rq_error, false);
    json_stat(page, "rq_success", counts->rq_success, false);
    json_stat(page, "rq_timeout", counts->rq_timeout, false);
    json_stat(page, "rq_total", counts->rq_total, false);
    json_stat(page, "cx_active", counts->cx_active, true);
    json_stat(page, "rq_active", counts->rq_active, true);
    json_stat(page, "rq_pending_active", counts->rq_pending, true);
    lt_json_array_close(&page->w);
}

static void json_health(struct page *page, const struct host *host)
{
    static const char *const names[] = {
        [PX_HEALTH_UNKNOWN] = "HEALTHY",     [PX_HEALTH_HEALTHY] = "HEALTHY",
        [PX_HEALTH_UNHEALTHY] = "UNHEALTHY", [PX_HEALTH_DRAINING] = "DRAINING",
        [PX_HEALTH_TIMEOUT] = "UNHEALTHY",   [PX_HEALTH_DEGRADED] = "DEGRADED",
    };
    uint32_t flags = host->member.flags;
    lt_json_key(&page->w, LT_STR("health_status"));
    lt_json_object_open(&page->w);
    json_flag(page, "failed_active_health_check", (flags & PX_HOST_FLAG(FAILED_CHECK)) != 0);
    json_flag(page, "failed_outlier_check", (flags & PX_HOST_FLAG(EJECTED)) != 0);
    json_member(page, "eds_health_status", lt_str_of(names[eds_health(host)]));
    json_flag(page, "failed_active_degraded_check", (flags & PX_HOST_FLAG(DEGRADED_CHECK)) != 0);
    json_flag(page, "pending_dynamic_removal", (flags & PX_HOST_FLAG(PENDING_REMOVAL)) != 0);
    json_flag(page, "pending_active_hc", (flags & PX_HOST_FLAG(PENDING_CHECK)) != 0);
    json_flag(page, "excluded_via_immediate_hc_fail", (flags & PX_HOST_FLAG(EXCLUDED)) != 0);
    json_flag(page, "active_hc_timeout", (flags & PX_HOST_FLAG(CHECK_TIMEOUT)) != 0);
    lt_json_object_close(&page->w);
}

static void json_address(struct page *page, const struct lt_addr *addr)
{
    char ip[LT_ADDR_TEXT_MAX];
    lt_json_key(&page->w, LT_STR("address"));
    lt_json_object_open(&page->w);
    if (addr->sa.sa_family == AF_UNIX) {
        lt_json_key(&page->w, LT_STR("pipe"));
        lt_json_object_open(&page->w);
        json_member(page, "path", lt_str_of(addr->un.sun_path));
    } else {
        lt_json_key(&page->w, LT_STR("socket_address"));
        lt_json_object_open(&page->w);
        json_member(page, "address", lt_addr_format_ip(addr, ip));
        lt_json_key(&page->w, LT_STR("port_value"));
        lt_json_uint(&page->w, lt_addr_port(addr));
    }
    lt_json_object_close(&page->w);
    lt_json_object_close(&page->w);
}

/* A rate that is not known is left out; Percent is an object. */
static void json_rate(struct page *page, const char *key, double value)
{
    if (value < 0)
        return;
    lt_json_key(&page->w, lt_str_of(key));
    lt_json_object_open(&page->w);
    lt_json_key(&page->w, LT_STR("value"));
    lt_json_double(&page->w, value);
    lt_json_object_close(&page->w);
}

static void json_host(struct page *page, const struct host *host)
{
    lt_json_object_open(&page->w);
    json_address(page, &host->addr);
    json_stats(page, host->counts);
    json_health(page, host);
    json_rate(page, "success_rate", host->member.success_rate);
    json_number(page, "weight", host->weight);
    if (host->endpoint != NULL)
        json_member(page, "hostname", host->endpoint->facts->hostname);
    json_number(page, "priority", host->priority);
    json_rate(page, "local_origin_success_rate", host->member.local_success_rate);
    lt_json_key(&page->w, LT_STR("locality"));
    lt_json_object_open(&page->w);
    json_member(page, "region", host->locality->region);
    json_member(page, "zone", host->locality->zone);
    json_member(page, "sub_zone", host->locality->sub_zone);
    lt_json_object_close(&page->w);
    lt_json_object_close(&page->w);
}

static void json_circuit(struct page *page, const char *priority, const struct px_circuit *circuit)
{
    lt_json_object_open(&page->w);
    json_member(page, "priority", lt_str_of(priority));
    for (size_t i = 0; i < LT_ARRAY_LEN(limit_names); i++) {
        lt_json_key(&page->w, lt_str_of(limit_names[i]));
        lt_json_uint(&page->w, circuit->max[i]);
    }
    lt_json_object_close(&page->w);
}

static void json_before_hosts(struct page *page, const struct px_cluster_conf *conf, bool is_static)
{
    const struct px_outlier *outlier = px_members_outlier(page->admin->opts.members,
                                                          conf->res.name);
    lt_json_object_open(&page->w);
    json_member(page, "name", conf->res.name);
    json_flag(page, "added_via_api", !is_static);
    if (outlier != NULL)
        json_rate(page, "success_rate_ejection_threshold", outlier->threshold);
    lt_json_key(&page->w, LT_STR("host_statuses"));
    lt_json_array_open(&page->w);
}

static void json_behind_hosts(struct page *page, const struct px_cluster_conf *conf)
{
    const struct px_outlier *outlier = px_members_outlier(page->admin->opts.members,
                                                          conf->res.name);
    lt_json_array_close(&page->w);
    if (outlier != NULL)
        json_rate(page, "local_origin_success_rate_ejection_threshold", outlier->local_threshold);
    lt_json_key(&page->w, LT_STR("circuit_breakers"));
    lt_json_object_open(&page->w);
    lt_json_key(&page->w, LT_STR("thresholds"));
    lt_json_array_open(&page->w);
    json_circuit(page, "", conf->circuits[PX_PRIORITY_DEFAULT]);
    json_circuit(page, "HIGH", conf->circuits[PX_PRIORITY_HIGH]);
    lt_json_array_close(&page->w);
    lt_json_object_close(&page->w);
    json_member(page, "observability_name", px_cluster_shown_name(conf));
    json_member(page, "eds_service_name", conf->eds_service_name);
    lt_json_object_close(&page->w);
}

/* --- both --- */

static void put_host(struct page *page, const struct host *host)
{
    if (page->is_json)
        json_host(page, host);
    else
        text_host(page, host);
}

static const struct px_host_status *find_counts(const struct page *page, lt_str address)
{
    static const struct px_host_status idle;
    const struct px_cluster_counts *cluster = lt_map_find(page->counts, page->cluster);
    const struct px_host_status *counts = cluster != NULL ? lt_map_find(&cluster->hosts, address)
                                                          : NULL;
    return counts != NULL ? counts : &idle;
}

static void put_endpoint(struct page *page, const struct px_endpoints_conf *endpoints,
                         const struct px_endpoint_conf *endpoint)
{
    char text[LT_ADDR_TEXT_MAX];
    struct host host = {.endpoint = endpoint,
                        .addr = px_endpoint_addr(endpoint),
                        .locality = &endpoints->localities[endpoint->locality],
                        .weight = endpoint->weight};
    if (host.addr.len == 0)
        return; /* a name without an address */
    host.address = lt_addr_format(&host.addr, text);
    host.priority = host.locality->priority;
    host.counts = find_counts(page, host.address);
    host.member = px_members_host_status(page->admin->opts.members, page->cluster, host.address);
    put_host(page, &host);
}

/* ORIGINAL_DST: the hosts are those that workers have met. */
static void put_met_hosts(struct page *page)
{
    static const struct px_locality nowhere;
    const struct px_cluster_counts *cluster = lt_map_find(page->counts, page->cluster);
    for (size_t i = 0; cluster != NULL && i < cluster->hosts.count; i++) {
        const struct px_host_status *counts = cluster->hosts.entries[i].value;
        struct host host = {.addr = counts->addr,
                            .address = cluster->hosts.entries[i].key,
                            .locality = &nowhere,
                            .counts = counts,
                            .member = {.success_rate = -1, .local_success_rate = -1},
                            .weight = 1};
        put_host(page, &host);
    }
}

static const struct px_endpoints_conf *endpoints_of(const struct px_admin *admin,
                                                    const struct px_cluster_conf *conf)
{
    const struct px_endpoints_conf *made = px_members_endpoints(admin->opts.members,
                                                                conf->res.name);
    return made != NULL ? made : px_table_endpoints(admin->opts.table, conf);
}

static void put_cluster(void *ctx, const struct px_resource *serving,
                        const struct px_resource *warming LT_UNUSED, bool is_static)
{
    struct page *page = ctx;
    if (serving == NULL || lt_buf_len(&page->out) > PX_PAGE_BYTES_MAX / 2)
        return;
    const struct px_cluster_conf *conf = (const struct px_cluster_conf *)serving;
    const struct px_endpoints_conf *endpoints = endpoints_of(page->admin, conf);
    page->cluster = conf->res.name;
    if (page->is_json)
        json_before_hosts(page, conf, is_static);
    else
        text_cluster(page, conf, is_static);
    for (uint32_t i = 0; endpoints != NULL && i < endpoints->endpoint_count &&
                         lt_buf_len(&page->out) < PX_PAGE_BYTES_MAX / 2;
         i++)
        put_endpoint(page, endpoints, &endpoints->endpoints[i]);
    if (conf->discovery == PX_DISCOVERY_ORIGINAL_DST)
        put_met_hosts(page);
    if (page->is_json)
        json_behind_hosts(page, conf);
}

static void write_json(struct page *page)
{
    lt_json_writer_init(&page->w, &page->out, 1);
    lt_json_object_open(&page->w);
    lt_json_key(&page->w, LT_STR("cluster_statuses"));
    lt_json_array_open(&page->w);
    px_table_each(page->admin->opts.table, PX_CLUSTER, put_cluster, page);
    lt_json_array_close(&page->w);
    lt_json_object_close(&page->w);
}

static void on_counts(void *ctx, const struct lt_map *counts)
{
    struct page *page = ctx;
    page->counts = counts;
    lt_buf_init(&page->out, PX_PAGE_BYTES_MAX);
    if (page->is_json)
        write_json(page);
    else
        px_table_each(page->admin->opts.table, PX_CLUSTER, put_cluster, page);
    bool is_whole = !page->is_json || lt_json_writer_finish(&page->w) == LT_OK;
    lt_exchange_reply(page->exchange, is_whole ? 200 : 500,
                      page->is_json && is_whole ? "application/json" : "text/plain; charset=UTF-8",
                      is_whole ? lt_buf_str(&page->out) : LT_STR("the page is too large\n"));
    lt_buf_fini(&page->out);
    free(page);
}

void px_admin_clusters(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct page *page = lt_new(struct page);
    page->admin = admin;
    page->exchange = exchange;
    page->is_json = lt_str_eqz(lt_url_query_get(exchange->query, "format", exchange->arena),
                               "json");
    px_workers_collect_hosts(admin->opts.workers, on_counts, page);
}

/* --- /stats: membership --- */

struct membership {
    uint32_t total, healthy, degraded, excluded;
};

static void count_endpoint(struct membership *counts, px_health health, uint32_t flags)
{
    bool is_failed = (flags & (PX_HOST_FLAG(FAILED_CHECK) | PX_HOST_FLAG(EJECTED))) != 0 ||
                     health == PX_HEALTH_UNHEALTHY || health == PX_HEALTH_DRAINING ||
                     health == PX_HEALTH_TIMEOUT;
    bool is_degraded = !is_failed && (health == PX_HEALTH_DEGRADED ||
                                      (flags & PX_HOST_FLAG(DEGRADED_CHECK)) != 0);
    counts->total++;
    counts->healthy += !is_failed && !is_degraded;
    counts->degraded += is_degraded;
    counts->excluded += (flags & (PX_HOST_FLAG(PENDING_CHECK) | PX_HOST_FLAG(EXCLUDED))) != 0;
}

static struct membership count_members(const struct px_admin *admin,
                                       const struct px_cluster_conf *conf)
{
    struct membership counts = {0};
    char text[LT_ADDR_TEXT_MAX];
    const struct px_endpoints_conf *endpoints = endpoints_of(admin, conf);
    for (uint32_t i = 0; endpoints != NULL && i < endpoints->endpoint_count; i++) {
        struct lt_addr addr = px_endpoint_addr(&endpoints->endpoints[i]);
        if (addr.len == 0)
            continue;
        struct px_member_status member = px_members_host_status(admin->opts.members, conf->res.name,
                                                                lt_addr_format(&addr, text));
        count_endpoint(&counts, (px_health)endpoints->endpoints[i].health, member.flags);
    }
    return counts;
}

void px_admin_add_membership(const struct px_admin *admin, const struct lt_map *used,
                             struct lt_metric_set *sum)
{
    for (size_t i = 0; i < used->count; i++) {
        const struct px_cluster_conf *conf = (const struct px_cluster_conf *)px_table_find(
            admin->opts.table, PX_CLUSTER, used->entries[i].key);
        if (conf == NULL || conf->discovery == PX_DISCOVERY_ORIGINAL_DST)
            continue;
        struct membership counts = count_members(admin, conf);
        lt_str name = px_cluster_shown_name(conf);
        lt_gauge_set(px_cluster_gauge(sum, name, "", "membership_total"), counts.total);
        lt_gauge_set(px_cluster_gauge(sum, name, "", "membership_healthy"), counts.healthy);
        lt_gauge_set(px_cluster_gauge(sum, name, "", "membership_degraded"), counts.degraded);
        lt_gauge_set(px_cluster_gauge(sum, name, "", "membership_excluded"), counts.excluded);
        lt_counter_add(px_cluster_counter(sum, name, "", "membership_change"),
                       px_table_changes(admin->opts.table, conf));
    }
}
