/*
 * model/check_istio.c - rules inside DestinationRule, Gateway and PeerAuthentication, and those
 * they share with VirtualService. VirtualService: check_route.c.
 */
#include "base/regex.h"
#include "model/check.h"
#include "model/host.h"

enum { REGEX_BYTES_MAX = 1024 };

void lt_check_string_match(struct lt_field_reader *reader, const struct lt_doc *doc,
                           const void *message, const struct lt_doc_path *path)
{
    const struct lt_string_match *match = message;
    int given = (match->exact.ptr != NULL) + (match->prefix.ptr != NULL) +
                (match->regex.ptr != NULL);
    if (given > 1)
        lt_field_error(reader, doc, path, "expected only one of exact, prefix and regex");
    /* "*" is no regex but Istio's word for: anything, as long as it is there */
    if (match->regex.ptr == NULL || lt_str_eq(match->regex, LT_STR("*")))
        return;
    if (match->regex.len > REGEX_BYTES_MAX) {
        lt_field_error_at(reader, doc, path, "regex", "expected at most %d bytes, got %zu",
                          REGEX_BYTES_MAX, match->regex.len);
        return;
    }
    struct lt_regex *regex = NULL;
    struct lt_err err = {0};
    if (match->regex.len == 0)
        lt_field_error_at(reader, doc, path, "regex", "expected a regular expression, got nothing");
    else if (lt_regex_new(match->regex, &regex, &err) != LT_OK)
        lt_field_error_at(reader, doc, path, "regex", "expected an RE2 expression: %s", err.text);
    lt_regex_free(&regex);
}

static void check_export_to(struct lt_field_reader *reader, const struct lt_doc *doc,
                            const struct lt_strs *export_to, const struct lt_doc_path *path)
{
    for (size_t i = 0; i < export_to->count; i++) {
        lt_str ns = export_to->items[i];
        bool is_all = lt_str_eq(ns, LT_STR("*"));
        if (is_all && export_to->count > 1)
            lt_field_error_at(reader, doc, path, "exportTo", "expected \"*\" to stand alone");
        if (!is_all && !lt_str_eq(ns, LT_STR(".")) && !lt_is_dns_label(ns))
            lt_field_error_at(reader, doc, path, "exportTo",
                              "expected \".\", \"*\" or a namespace, got \"%.*s\"", LT_STR_ARG(ns));
    }
}

/* ---- DestinationRule ---- */

void lt_check_consistent_hash(struct lt_field_reader *reader, const struct lt_doc *doc,
                              const void *message, const struct lt_doc_path *path)
{
    const struct lt_consistent_hash *hash = message;
    int keys = (hash->http_header_name.len > 0) + (hash->http_cookie != NULL) +
               (hash->use_source_ip.value != 0) + (hash->http_query_parameter_name.len > 0);
    if (keys != 1)
        lt_field_error(
            reader, doc, path,
            "expected one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName, got %d",
            keys);
    if (hash->ring_hash != NULL && hash->maglev != NULL)
        lt_field_error(reader, doc, path, "expected only one of ringHash and maglev");
    if (hash->maglev == NULL || !hash->maglev->table_size.is_set)
        return;
    int64_t size = hash->maglev->table_size.value;
    bool is_prime = size > 1;
    for (int64_t d = 2; d * d <= size && is_prime; d++)
        is_prime = size % d != 0;
    if (!is_prime)
        lt_field_error_at(reader, doc, path, "maglev", "expected a prime tableSize, got %lld",
                          (long long)size);
}

void lt_check_pool_http(struct lt_field_reader *reader, const struct lt_doc *doc,
                        const void *message, const struct lt_doc_path *path)
{
    const struct lt_pool_http *http = message;
    if (http->h2_upgrade_policy.value == LT_H2_UPGRADE_YES && http->use_client_protocol.value)
        lt_field_error(reader, doc, path,
                       "expected only one of h2UpgradePolicy: UPGRADE and useClientProtocol");
}

void lt_check_outlier(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                      const struct lt_doc_path *path)
{
    const struct lt_outlier *outlier = message;
    if (outlier->consecutive_local_origin.value > 0 && !outlier->split_local_origin.value)
        lt_field_error_at(reader, doc, path, "consecutiveLocalOriginFailures",
                          "needs splitExternalLocalOriginErrors: true");
}

void lt_check_client_tls(struct lt_field_reader *reader, const struct lt_doc *doc,
                         const void *message, const struct lt_doc_path *path)
{
    const struct lt_client_tls *tls = message;
    bool has_files = tls->client_certificate.len > 0 || tls->private_key.len > 0 ||
                     tls->ca_certificates.len > 0;
    if (tls->mode.value == LT_TLS_ISTIO_MUTUAL && (has_files || tls->credential_name.len > 0))
        lt_field_error(reader, doc, path,
                       "expected no certificates with mode ISTIO_MUTUAL: the mesh gives them");
    if (tls->mode.value == LT_TLS_MUTUAL && tls->credential_name.len == 0 &&
        (tls->client_certificate.len == 0 || tls->private_key.len == 0))
        lt_field_error(reader, doc, path,
                       "mode MUTUAL needs clientCertificate and privateKey, or credentialName");
    if (tls->credential_name.len > 0 && has_files)
        lt_field_error(reader, doc, path, "expected only one of credentialName and files");
    if (tls->insecure_skip_verify.value &&
        (tls->ca_certificates.len > 0 || tls->subject_alt_names.count > 0))
        lt_field_error(
            reader, doc, path,
            "expected neither caCertificates nor subjectAltNames with insecureSkipVerify");
}

void lt_check_port_policy(struct lt_field_reader *reader, const struct lt_doc *doc,
                          const void *message, const struct lt_doc_path *path)
{
    const struct lt_port_policy *policy = message;
    if (!policy->port->number.is_set)
        lt_field_error_at(reader, doc, path, "port", "number is required");
    if (policy->load_balancer == NULL && policy->connection_pool == NULL &&
        policy->outlier_detection == NULL && policy->tls == NULL)
        lt_field_error(
            reader, doc, path,
            "expected at least one of loadBalancer, connectionPool, outlierDetection and tls");
}

void lt_check_traffic_policy(struct lt_field_reader *reader, const struct lt_doc *doc,
                             const void *message, const struct lt_doc_path *path)
{
    (void)message;
    if (doc->count == 0)
        lt_field_error(reader, doc, path, "expected at least one setting, got none");
}

void lt_check_subset(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                     const struct lt_doc_path *path)
{
    const struct lt_dr_subset *subset = message;
    if (!lt_is_dns_label(subset->name))
        lt_field_error_at(reader, doc, path, "name",
                          "expected letters, digits and '-', got \"%.*s\"",
                          LT_STR_ARG(subset->name));
}

void lt_check_destination_rule(struct lt_field_reader *reader, const struct lt_doc *doc,
                               const void *message, const struct lt_doc_path *path)
{
    const struct lt_destination_rule *rule = message;
    if (!lt_is_wildcard_domain(rule->host) && !lt_is_ip(rule->host))
        lt_field_error_at(reader, doc, path, "host",
                          "expected a host name or *.suffix, got \"%.*s\"", LT_STR_ARG(rule->host));
    for (size_t i = 0; i < rule->subsets.count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (lt_str_eq(rule->subsets.items[i].name, rule->subsets.items[j].name))
                lt_field_error_at(reader, doc, path, "subsets",
                                  "expected different names, got \"%.*s\" twice",
                                  LT_STR_ARG(rule->subsets.items[i].name));
        }
    }
    check_export_to(reader, doc, &rule->export_to, path);
}

/* ---- Gateway ---- */

void lt_check_gateway_port(struct lt_field_reader *reader, const struct lt_doc *doc,
                           const void *message, const struct lt_doc_path *path)
{
    const struct lt_gw_port *port = message;
    static const char *const known[] = {"HTTP",  "HTTPS", "GRPC", "GRPC-WEB", "HTTP2",
                                        "MONGO", "TCP",   "TLS",  "REDIS",    "MYSQL"};
    bool is_known = false;
    for (size_t i = 0; i < LT_ARRAY_LEN(known); i++)
        is_known |= lt_str_case_eq(port->protocol, lt_str_of(known[i]));
    if (!is_known)
        lt_field_error_at(reader, doc, path, "protocol",
                          "expected HTTP, HTTPS, GRPC, HTTP2, TCP or TLS, got \"%.*s\"",
                          LT_STR_ARG(port->protocol));
    if (!lt_is_dns_label(port->name))
        lt_field_error_at(reader, doc, path, "name",
                          "expected letters, digits and '-', got \"%.*s\"", LT_STR_ARG(port->name));
}

static void check_server_tls(struct lt_field_reader *reader, const struct lt_doc *doc,
                             const struct lt_gw_server *server, const struct lt_doc_path *path)
{
    const struct lt_gw_tls *tls = server->tls;
    bool needs_tls = lt_port_is_tls(lt_port_protocol_parse(server->port->protocol));
    if (needs_tls && tls == NULL) {
        lt_field_error_at(reader, doc, path, "tls", "is required for protocol %.*s",
                          LT_STR_ARG(server->port->protocol));
        return;
    }
    if (tls == NULL)
        return;
    if (!needs_tls && tls->mode.value != LT_SERVER_TLS_PASSTHROUGH)
        lt_field_error_at(reader, doc, path, "tls", "expected only httpsRedirect for protocol %.*s",
                          LT_STR_ARG(server->port->protocol));
    bool needs_certificate = tls->mode.value == LT_SERVER_TLS_SIMPLE ||
                             tls->mode.value == LT_SERVER_TLS_MUTUAL ||
                             tls->mode.value == LT_SERVER_TLS_OPTIONAL_MUTUAL;
    const struct lt_doc *tls_doc = lt_doc_findz(doc, "tls");
    bool has_secret = tls->credential_name.len > 0 ||
                      lt_doc_findz(tls_doc, "credentialNames") != NULL ||
                      lt_doc_findz(tls_doc, "tlsCertificates") != NULL;
    if (needs_certificate && !has_secret &&
        (tls->server_certificate.len == 0 || tls->private_key.len == 0))
        lt_field_error_at(reader, doc, path, "tls",
                          "needs credentialName, or serverCertificate and privateKey");
}

void lt_check_gateway_server(struct lt_field_reader *reader, const struct lt_doc *doc,
                             const void *message, const struct lt_doc_path *path)
{
    const struct lt_gw_server *server = message;
    if (server->hosts.count == 0)
        lt_field_error_at(reader, doc, path, "hosts", "expected at least one host");
    for (size_t i = 0; i < server->hosts.count; i++) {
        lt_str host = server->hosts.items[i], whole = host, ns = LT_STR("*");
        ptrdiff_t slash = lt_str_find_char(host, '/');
        if (slash >= 0) {
            ns = lt_str_slice(whole, 0, (size_t)slash);
            host = lt_str_from(whole, (size_t)slash + 1);
        }
        bool is_ns = lt_str_eq(ns, LT_STR("*")) || lt_str_eq(ns, LT_STR(".")) ||
                     lt_is_dns_label(ns);
        if (!is_ns || (!lt_is_wildcard_domain(host) && !lt_is_ip(host)))
            lt_field_error_at(reader, doc, path, "hosts", "expected [namespace/]host, got \"%.*s\"",
                              LT_STR_ARG(whole));
    }
    check_server_tls(reader, doc, server, path);
}

void lt_check_gateway(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                      const struct lt_doc_path *path)
{
    const struct lt_gateway *gateway = message;
    if (gateway->servers.count == 0)
        lt_field_error_at(reader, doc, path, "servers", "expected at least one server");
    for (size_t i = 0; i < gateway->servers.count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (lt_str_eq(gateway->servers.items[i].port->name,
                          gateway->servers.items[j].port->name))
                lt_field_error_at(reader, doc, path, "servers",
                                  "expected different port names, got \"%.*s\" twice",
                                  LT_STR_ARG(gateway->servers.items[i].port->name));
        }
    }
}

/* ---- PeerAuthentication ---- */

void lt_check_peer_authentication(struct lt_field_reader *reader, const struct lt_doc *doc,
                                  const void *message, const struct lt_doc_path *path)
{
    const struct lt_peer_authentication *policy = message;
    if (lt_doc_findz(doc, "portLevelMtls") == NULL)
        return;
    if (policy->selector == NULL || policy->selector->match_labels.count == 0)
        lt_field_error_at(reader, doc, path, "portLevelMtls", "needs a selector");
    if (policy->port_level.count == 0)
        lt_field_error_at(reader, doc, path, "portLevelMtls", "expected at least one port");
    for (size_t i = 0; i < policy->port_level.count; i++) {
        uint64_t port = 0;
        if (lt_str_to_u64(policy->port_level.keys[i], &port) != LT_OK || port < 1 ||
            port > UINT16_MAX)
            lt_field_error_at(reader, doc, path, "portLevelMtls",
                              "expected ports from 1 to 65535, got \"%.*s\"",
                              LT_STR_ARG(policy->port_level.keys[i]));
    }
}
