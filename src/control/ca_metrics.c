/*
 * control/ca_metrics.c - the CA's numbers as metrics. Start at: cp_ca_metrics_fill().
 */
#include "control/ca_metrics.h"

static void set_counter(struct lt_metric_set *set, const char *name, const char *error,
                        uint64_t value)
{
    static const lt_str label = {"error", 5};
    lt_str values = lt_str_of(error);
    const struct lt_metric_desc desc = {.name = lt_str_of(name),
                                        .kind = LT_METRIC_COUNTER,
                                        .labels = &label,
                                        .label_count = error != NULL ? 1 : 0};
    lt_metric_counter(lt_metric_family(set, &desc), &values)->value = value;
}

static void set_gauge(struct lt_metric_set *set, const char *name, int64_t value)
{
    const struct lt_metric_desc desc = {.name = lt_str_of(name), .kind = LT_METRIC_GAUGE};
    lt_metric_gauge(lt_metric_family(set, &desc), NULL)->value = (double)value;
}

void cp_ca_metrics_fill(struct lt_metric_set *set, const struct cp_ca *ca,
                        const struct cp_keeper *keeper, int64_t now_s)
{
    const struct cp_ca_stats *stats = cp_ca_stats(ca);
    const struct cp_keeper_stats *kept = cp_keeper_stats(keeper);
    set_counter(set, "citadel_server_csr_count", NULL, stats->csrs);
    set_counter(set, "citadel_server_success_cert_issuance_count", NULL, stats->signed_certs);
    set_counter(set, "citadel_server_authentication_failure_count", NULL, stats->authn_errors);
    set_counter(set, "citadel_server_csr_parsing_err_count", NULL, stats->csr_errors);
    set_counter(set, "citadel_server_csr_sign_err_count", "ttl", stats->ttl_errors);
    set_counter(set, "citadel_server_csr_sign_err_count", "signing", stats->other_errors);
    set_gauge(set, "citadel_server_root_cert_expiry_timestamp", kept->root_not_after_s);
    set_gauge(set, "citadel_server_root_cert_expiry_seconds", kept->root_not_after_s - now_s);
    set_gauge(set, "citadel_server_cert_chain_expiry_timestamp", cp_ca_not_after_s(ca));
    set_gauge(set, "citadel_server_cert_chain_expiry_seconds", cp_ca_not_after_s(ca) - now_s);
}
