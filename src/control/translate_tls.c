/*
 * control/translate_tls.c - TLS of the mesh in both directions, and towards services that bring
 * their own. Keys and roots are the agent's (SDS names `default` and `ROOTCA`); whom to trust is
 * said here, by SPIFFE name.
 */
#include "control/translate_priv.h"
#include "wire/proto/socket_raw_buffer.pb-c.h"
#include "wire/struct.h"

/* ---- which ---- */

/*
 * An original-destination cluster can't choose by endpoint: all of them must take mTLS
 * (networking.md 3.8).
 */
static bool all_take_mtls(const struct lt_service *service, const struct lt_port *port)
{
    (void)service;
    for (size_t i = 0; i < port->endpoint_count; i++) {
        if (port->endpoints[i].workload == NULL || !port->endpoints[i].workload->takes_mtls)
            return false;
    }
    return port->endpoint_count > 0;
}

cp_tls_kind cp_tls_kind_for(struct cp_translation *t, const struct lt_service *service,
                            const struct lt_port *port, const struct cp_policy *policy)
{
    bool is_passthrough = policy->load_balancer != NULL &&
                          policy->load_balancer->simple.value == LT_LB_PASSTHROUGH;
    bool is_original = is_passthrough || (service->is_headless && t->node->type == CP_NODE_SIDECAR);
    if (policy->tls != NULL) {
        switch (policy->tls->mode.value) {
        case LT_TLS_DISABLE: return CP_TLS_NONE;
        case LT_TLS_ISTIO_MUTUAL: return CP_TLS_MESH;
        default: return CP_TLS_SIMPLE;
        }
    }
    if (!t->model->mesh.has_auto_mtls ||
        lt_model_mtls_mode(t->model, service->ns, NULL, 0) == LT_MTLS_DISABLE)
        return CP_TLS_NONE;
    if (is_original)
        return all_take_mtls(service, port) ? CP_TLS_MESH : CP_TLS_NONE;
    return CP_TLS_AUTO;
}

/* ---- contexts ---- */

Xds__TransportSocket *cp_transport_socket(struct cp_translation *t, void *context)
{
    Xds__TransportSocket *socket = CP_NEW(t, Xds__TransportSocket, xds__transport_socket);
    socket->name = "envoy.transport_sockets.tls";
    socket->config_type_case = XDS__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG;
    socket->typed_config = lt_any_pack(t->arena, context);
    return socket;
}

static Xds__TlsParameters *tls_params(struct cp_translation *t)
{
    Xds__TlsParameters *params = CP_NEW(t, Xds__TlsParameters, xds__tls_parameters);
    params->tls_minimum_protocol_version = XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2;
    params->tls_maximum_protocol_version = XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3;
    params->has_tls_minimum_protocol_version = params->has_tls_maximum_protocol_version = true;
    return params;
}

static void set_validation(struct cp_translation *t, Xds__CommonTlsContext *common,
                           Xds__CertificateValidationContext *names, Xds__SdsSecretConfig *roots)
{
    common->validation_context_type_case =
        XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
    common->combined_validation_context = CP_NEW(
        t, Xds__CommonTlsContext__CombinedCertificateValidationContext,
        xds__common_tls_context__combined_certificate_validation_context);
    common->combined_validation_context->default_validation_context = names;
    common->combined_validation_context->validation_context_sds_secret_config = roots;
}

static Xds__CommonTlsContext *mesh_context(struct cp_translation *t,
                                           Xds__CertificateValidationContext *names)
{
    Xds__CommonTlsContext *common = CP_NEW(t, Xds__CommonTlsContext, xds__common_tls_context);
    common->tls_params = tls_params(t);
    CP_PUSH(t, common->tls_certificate_sds_secret_configs,
            common->n_tls_certificate_sds_secret_configs, cp_sds(t, "default", true));
    set_validation(t, common, names, cp_sds(t, "ROOTCA", true));
    return common;
}

static void add_alpn(struct cp_translation *t, Xds__CommonTlsContext *common, const char *name)
{
    CP_PUSH(t, common->alpn_protocols, common->n_alpn_protocols, name);
}

static Xds__CertificateValidationContext *exact_names(struct cp_translation *t,
                                                      const struct lt_strs *names)
{
    Xds__CertificateValidationContext *context = CP_NEW(t, Xds__CertificateValidationContext,
                                                        xds__certificate_validation_context);
    for (size_t i = 0; i < names->count; i++)
        CP_PUSH(t, context->match_subject_alt_names, context->n_match_subject_alt_names,
                cp_string_exact(t, cp_z(t, names->items[i])));
    return context;
}

/* ---- client side ---- */

/*
 * What the client offers tells the server that this is mesh TLS, and which protocol comes. The ALPN
 * filter replaces the list for each request; a proxy without it must offer the right list at once,
 * which it can only where the protocol is declared (xds.md 9).
 */
static void add_client_alpn(struct cp_translation *t, Xds__CommonTlsContext *common,
                            lt_port_protocol protocol, bool is_http2)
{
    bool is_declared_http = lt_port_is_http(protocol);
    if (!cp_has(t, CP_EXT_ALPN) && (is_declared_http || is_http2)) {
        add_alpn(t, common, is_http2 ? "istio-h2" : "istio-http/1.1");
        add_alpn(t, common, "istio");
        add_alpn(t, common, is_http2 ? "h2" : "http/1.1");
        return;
    }
    if (cp_has(t, CP_EXT_MX_TCP))
        add_alpn(t, common, "istio-peer-exchange");
    add_alpn(t, common, "istio");
    if (is_http2)
        add_alpn(t, common, "h2");
}

static Xds__TransportSocket *mesh_client(struct cp_translation *t, const struct lt_service *service,
                                         const struct lt_port *port, lt_str subset,
                                         const struct lt_client_tls *tls, bool is_http2)
{
    bool has_names = tls != NULL && tls->subject_alt_names.count > 0;
    Xds__UpstreamTlsContext *context = CP_NEW(t, Xds__UpstreamTlsContext,
                                              xds__upstream_tls_context);
    context->common_tls_context = mesh_context(
        t, exact_names(t, has_names ? &tls->subject_alt_names : &service->identities));
    add_client_alpn(t, context->common_tls_context, port->protocol, is_http2);
    if (tls != NULL && tls->sni.len > 0)
        context->sni = cp_z(t, tls->sni);
    else
        context->sni = cp_zf(t, "outbound_.%u_.%.*s_.%.*s", port->number, LT_STR_ARG(subset),
                             LT_STR_ARG(service->host));
    return cp_transport_socket(t, context);
}

/* SIMPLE and MUTUAL: files, or the system's roots, through the agent. */
static Xds__TransportSocket *own_client(struct cp_translation *t, const struct lt_client_tls *tls,
                                        bool is_http2)
{
    Xds__UpstreamTlsContext *context = CP_NEW(t, Xds__UpstreamTlsContext,
                                              xds__upstream_tls_context);
    Xds__CommonTlsContext *common = CP_NEW(t, Xds__CommonTlsContext, xds__common_tls_context);
    context->common_tls_context = common;
    common->tls_params = tls_params(t);
    if (tls->mode.value == LT_TLS_MUTUAL) {
        const char *name = cp_zf(t, "file-cert:%.*s~%.*s", LT_STR_ARG(tls->client_certificate),
                                 LT_STR_ARG(tls->private_key));
        CP_PUSH(t, common->tls_certificate_sds_secret_configs,
                common->n_tls_certificate_sds_secret_configs, cp_sds(t, name, false));
    }
    if (tls->insecure_skip_verify.value) {
        common->validation_context_type_case =
            XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
        common->validation_context = CP_NEW(t, Xds__CertificateValidationContext,
                                            xds__certificate_validation_context);
    } else {
        lt_str ca = tls->ca_certificates.len > 0 ? tls->ca_certificates : LT_STR("system");
        set_validation(t, common, exact_names(t, &tls->subject_alt_names),
                       cp_sds(t, cp_zf(t, "file-root:%.*s", LT_STR_ARG(ca)), false));
    }
    if (is_http2)
        add_alpn(t, common, "h2");
    if (tls->sni.len > 0)
        context->sni = cp_z(t, tls->sni);
    return cp_transport_socket(t, context);
}

static void add_socket_match(struct cp_translation *t, Xds__Cluster *cluster, const char *name,
                             const char *mode, Xds__TransportSocket *socket)
{
    struct lt_doc match = lt_doc_of_object();
    if (mode != NULL)
        lt_doc_set(t->arena, &match, LT_STR("tlsMode"), lt_doc_of_str(lt_str_of(mode)));
    Xds__Cluster__TransportSocketMatch *m = CP_NEW(t, Xds__Cluster__TransportSocketMatch,
                                                   xds__cluster__transport_socket_match);
    m->name = name;
    m->match = lt_struct_from_doc(t->arena, &match);
    m->transport_socket = socket;
    CP_PUSH(t, cluster->transport_socket_matches, cluster->n_transport_socket_matches, m);
}

void cp_cluster_add_tls(struct cp_translation *t, Xds__Cluster *cluster, cp_tls_kind kind,
                        const struct lt_service *service, const struct lt_port *port, lt_str subset,
                        const struct cp_policy *policy, bool is_http2)
{
    switch (kind) {
    case CP_TLS_NONE: return;
    case CP_TLS_SIMPLE: cluster->transport_socket = own_client(t, policy->tls, is_http2); return;
    case CP_TLS_MESH:
        cluster->transport_socket = mesh_client(t, service, port, subset, policy->tls, is_http2);
        return;
    case CP_TLS_AUTO: break;
    }
    add_socket_match(t, cluster, "tlsMode-istio", "istio",
                     mesh_client(t, service, port, subset, NULL, is_http2));
    Xds__TransportSocket *raw = cp_transport_socket(t, CP_NEW(t, Xds__RawBuffer, xds__raw_buffer));
    raw->name = "envoy.transport_sockets.raw_buffer";
    add_socket_match(t, cluster, "tlsMode-disabled", NULL, raw);
}

/* ---- server side ---- */

static void add_trust_domain(struct cp_translation *t, Xds__CertificateValidationContext *names,
                             lt_str domain)
{
    Xds__StringMatcher *m = CP_NEW(t, Xds__StringMatcher, xds__string_matcher);
    m->match_pattern_case = XDS__STRING_MATCHER__MATCH_PATTERN_PREFIX;
    m->prefix = cp_zf(t, "spiffe://%.*s/", LT_STR_ARG(domain));
    CP_PUSH(t, names->match_subject_alt_names, names->n_match_subject_alt_names, m);
}

static Xds__TransportSocket *mesh_server(struct cp_translation *t, Xds__CommonTlsContext *common,
                                         bool is_tcp)
{
    Xds__DownstreamTlsContext *context = CP_NEW(t, Xds__DownstreamTlsContext,
                                                xds__downstream_tls_context);
    context->require_client_certificate = cp_bool(t, true);
    context->common_tls_context = common;
    /*
     * whoever negotiates it writes a prefix into the bytes of the application, which only the
     * filter takes off again
     */
    if (is_tcp && cp_has(t, CP_EXT_MX_TCP))
        add_alpn(t, common, "istio-peer-exchange");
    add_alpn(t, common, "h2");
    add_alpn(t, common, "http/1.1");
    return cp_transport_socket(t, context);
}

Xds__TransportSocket *cp_mesh_server_tls(struct cp_translation *t, bool is_tcp)
{
    static const char *const ciphers[] = {"ECDHE-ECDSA-AES256-GCM-SHA384",
                                          "ECDHE-RSA-AES256-GCM-SHA384",
                                          "ECDHE-ECDSA-AES128-GCM-SHA256",
                                          "ECDHE-RSA-AES128-GCM-SHA256",
                                          "AES256-GCM-SHA384",
                                          "AES128-GCM-SHA256"};
    const struct lt_mesh *mesh = &t->model->mesh;
    Xds__CertificateValidationContext *names = CP_NEW(t, Xds__CertificateValidationContext,
                                                      xds__certificate_validation_context);
    add_trust_domain(t, names, mesh->trust_domain);
    for (size_t i = 0; i < mesh->trust_domain_aliases.count; i++)
        add_trust_domain(t, names, mesh->trust_domain_aliases.items[i]);
    Xds__CommonTlsContext *common = mesh_context(t, names);
    for (size_t i = 0; i < LT_ARRAY_LEN(ciphers); i++)
        CP_PUSH(t, common->tls_params->cipher_suites, common->tls_params->n_cipher_suites,
                ciphers[i]);
    return mesh_server(t, common, is_tcp);
}

Xds__TransportSocket *cp_mesh_gateway_tls(struct cp_translation *t, bool is_tcp)
{
    Xds__CommonTlsContext *common = mesh_context(
        t, CP_NEW(t, Xds__CertificateValidationContext, xds__certificate_validation_context));
    common->tls_params = NULL;
    return mesh_server(t, common, is_tcp);
}
