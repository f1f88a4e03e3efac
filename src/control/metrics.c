/*
 * control/metrics.c - families, and the series that are known from the start.
 */
#include "control/metrics.h"

#include <stdio.h>

#include "base/version.h"

enum { SERIES_MAX = 20000 };

static const char type_labels[CP_TYPE_COUNT][4] = {[CP_TYPE_CDS] = "cds",
                                                   [CP_TYPE_EDS] = "eds",
                                                   [CP_TYPE_LDS] = "lds",
                                                   [CP_TYPE_RDS] = "rds",
                                                   [CP_TYPE_NDS] = "nds"};

static const double convergence_bounds[] = {.1, .5, 1, 3, 5, 10, 20, 30};
static const double build_bounds[] = {.01, .1, .5, 1, 3, 5};
static const double size_bounds[] = {1, 1e4, 1e6, 4e6, 1e7, 4e7};
static const struct lt_buckets convergence_buckets = {convergence_bounds,
                                                      LT_ARRAY_LEN(convergence_bounds)};
static const struct lt_buckets build_buckets = {build_bounds, LT_ARRAY_LEN(build_bounds)};
static const struct lt_buckets size_buckets = {size_bounds, LT_ARRAY_LEN(size_bounds)};

static struct lt_metric_family *family(struct cp_metrics *m, const char *name, lt_metric_kind kind,
                                       const lt_str *labels, uint32_t label_count,
                                       const struct lt_buckets *buckets)
{
    const struct lt_metric_desc desc = {.name = lt_str_of(name),
                                        .kind = kind,
                                        .labels = labels,
                                        .label_count = label_count,
                                        .buckets = buckets};
    return lt_metric_family(m->set, &desc);
}

static struct lt_gauge *gauge(struct cp_metrics *m, const char *name)
{
    return lt_metric_gauge(family(m, name, LT_METRIC_GAUGE, NULL, 0, NULL), NULL);
}

static struct lt_counter *type_counter(struct cp_metrics *m, const char *name, const char *type)
{
    static const lt_str label = {"type", 4};
    lt_str value = lt_str_of(type);
    return lt_metric_counter(family(m, name, LT_METRIC_COUNTER, &label, 1, NULL), &value);
}

static void say_version(struct cp_metrics *m)
{
    static const lt_str info_label = {"version", 7};
    static const lt_str build_labels[] = {{"component", 9}, {"tag", 3}};
    lt_str version = LT_STR(LT_VERSION), build[] = {LT_STR("pilot"), LT_STR(LT_VERSION)};
    lt_gauge_set(
        lt_metric_gauge(family(m, "pilot_info", LT_METRIC_GAUGE, &info_label, 1, NULL), &version),
        1);
    lt_gauge_set(
        lt_metric_gauge(family(m, "istio_build", LT_METRIC_GAUGE, build_labels, 2, NULL), build),
        1);
}

void cp_metrics_init(struct cp_metrics *metrics)
{
    static const lt_str type_label = {"type", 4};
    *metrics = (struct cp_metrics){.set = lt_metric_set_new(SERIES_MAX)};
    struct lt_metric_family *sizes = family(metrics, "pilot_xds_config_size_bytes",
                                            LT_METRIC_HISTOGRAM, &type_label, 1, &size_buckets);
    for (int type = 0; type < CP_TYPE_COUNT; type++) {
        lt_str label = lt_str_of(type_labels[type]);
        char senderr[16];
        snprintf(senderr, sizeof(senderr), "%s_senderr", type_labels[type]);
        metrics->pushes[type] = type_counter(metrics, "pilot_xds_pushes", type_labels[type]);
        metrics->send_errors[type] = type_counter(metrics, "pilot_xds_pushes", senderr);
        metrics->config_bytes[type] = lt_metric_histogram(sizes, &label);
    }
    metrics->convergence_s = lt_metric_histogram(family(metrics, "pilot_proxy_convergence_time",
                                                        LT_METRIC_HISTOGRAM, NULL, 0,
                                                        &convergence_buckets),
                                                 NULL);
    metrics->build_s = lt_metric_histogram(family(metrics, "pilot_pushcontext_init_seconds",
                                                  LT_METRIC_HISTOGRAM, NULL, 0, &build_buckets),
                                           NULL);
    metrics->services = gauge(metrics, "pilot_services");
    metrics->virtual_services = gauge(metrics, "pilot_virt_services");
    metrics->uptime_s = gauge(metrics, "istiod_uptime_seconds");
    metrics->config_errors = gauge(metrics, "lateen_config_errors");
    metrics->held = gauge(metrics, "lateen_held_routes");
    say_version(metrics);
}

void cp_metrics_fini(struct cp_metrics *metrics)
{
    lt_metric_set_free(&metrics->set);
}

void cp_metrics_add_proxy(struct cp_metrics *metrics, lt_str version, double by)
{
    static const lt_str label = {"version", 7};
    lt_str value = version.len > 0 ? version : LT_STR("unknown");
    lt_gauge_add(
        lt_metric_gauge(family(metrics, "pilot_xds", LT_METRIC_GAUGE, &label, 1, NULL), &value),
        by);
}

/* As Go's gRPC writes them, which is what istiod's label has. */
static const char *code_name(uint32_t code)
{
    static const char *const names[] = {
        "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
        "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
        "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
        "DataLoss", "Unauthenticated"};
    return code < LT_ARRAY_LEN(names) ? names[code] : "Unknown";
}

void cp_metrics_add_reject(struct cp_metrics *metrics, cp_type type, lt_str node, uint32_t code)
{
    static const lt_str labels[] = {{"node", 4}, {"err", 3}};
    lt_str values[] = {node, lt_str_of(code_name(code))};
    char name[32];
    snprintf(name, sizeof(name), "pilot_xds_%s_reject", type_labels[type]);
    lt_counter_add(type_counter(metrics, "pilot_total_xds_rejects", type_labels[type]), 1);
    lt_gauge_add(lt_metric_gauge(family(metrics, name, LT_METRIC_GAUGE, labels, 2, NULL), values),
                 1);
}

void cp_metrics_forget_node(struct cp_metrics *metrics, lt_str node)
{
    lt_metric_remove(metrics->set, LT_STR("node"), node);
}

void cp_metrics_add_expired_nonce(struct cp_metrics *metrics, cp_type type)
{
    lt_counter_add(type_counter(metrics, "pilot_xds_expired_nonce", type_labels[type]), 1);
}

void cp_metrics_add_rejected_config(struct cp_metrics *metrics, lt_str object)
{
    static const lt_str labels[] = {{"type", 4}, {"name", 4}};
    lt_str name = object, kind = LT_STR("");
    if (!lt_str_split(&name, ' ', &kind) || name.ptr == NULL)
        name = LT_STR("");
    lt_str values[] = {kind, name};
    lt_counter_add(lt_metric_counter(family(metrics, "pilot_total_rejected_configs",
                                            LT_METRIC_COUNTER, labels, 2, NULL),
                                     values),
                   1);
}
