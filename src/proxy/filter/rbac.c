/*
 * proxy/filter/rbac.c - envoy.filters.http.rbac. The rules: rbac.h.
 */
#include "proxy/filter/rbac.h"

#include "http/url.h"
#include "proxy/http/request.h"
#include "proxy/told/count.h"

/* --- names of counters --- */

/* Envoy joins a prefix and the name of a counter by a dot. */
static const char *dot_of(lt_str prefix)
{
    return prefix.len > 0 && !lt_str_ends(prefix, LT_STR(".")) ? "." : "";
}

/* Counters have the labels that Istio's tags make of their names. */
void px_rbac_name_stats(struct lt_arena *arena, lt_str prefix, struct px_rbac_filter *filter)
{
    static const char *const results[] = {"allowed", "denied"};
    struct px_stat *const stats[] = {&filter->allowed, &filter->denied};
    struct px_stat *const shadows[] = {&filter->shadow_allowed, &filter->shadow_denied};
    lt_str dry_run = LT_STR("istio_dry_run_"), shadow = filter->shadow_prefix;
    bool is_dry_run = lt_str_starts(shadow, dry_run) && lt_str_ends(shadow, LT_STR("_"));
    for (size_t i = 0; i < LT_ARRAY_LEN(results); i++) {
        lt_str rest = lt_arena_printf(arena, "rbac.%.*s%s%s", LT_STR_ARG(filter->prefix),
                                      dot_of(filter->prefix), results[i]);
        *stats[i] = px_stat_http(arena, prefix, rest.ptr);
        if (filter->prefix.len == 0) {
            px_stat_tag(arena, stats[i], LT_STR("authz_enforce_result"), lt_str_of(results[i]));
            stats[i]->family = LT_STR("envoy_http_rbac");
        }
        rest = lt_arena_printf(arena, "rbac.%.*s%sshadow_%s", LT_STR_ARG(shadow), dot_of(shadow),
                               results[i]);
        *shadows[i] = px_stat_http(arena, prefix, rest.ptr);
        if (!is_dry_run)
            continue;
        px_stat_tag(arena, shadows[i], LT_STR("authz_dry_run_action"),
                    lt_str_slice(shadow, dry_run.len, shadow.len - 1));
        px_stat_tag(arena, shadows[i], LT_STR("authz_dry_run_result"), lt_str_of(results[i]));
        shadows[i]->family = LT_STR("envoy_http_rbac");
    }
}

void px_rbac_name_net_stats(struct lt_arena *arena, lt_str prefix, struct px_rbac_filter *filter)
{
    static const char *const results[] = {"allowed", "denied"};
    struct px_stat *const stats[] = {&filter->allowed, &filter->denied};
    struct px_stat *const shadows[] = {&filter->shadow_allowed, &filter->shadow_denied};
    for (size_t i = 0; i < LT_ARRAY_LEN(results); i++) {
        *stats[i] = px_stat_plain(
            arena, lt_arena_printf(arena, "%.*srbac.%s", LT_STR_ARG(prefix), results[i]));
        lt_str name = lt_arena_printf(arena, "%.*srbac.%.*s%sshadow_%s", LT_STR_ARG(prefix),
                                      LT_STR_ARG(filter->shadow_prefix),
                                      dot_of(filter->shadow_prefix), results[i]);
        *shadows[i] = px_stat_plain(arena, name);
    }
}

/* --- verdicts --- */

static void note(const struct px_rbac_case *on, lt_str prefix, const char *kind, bool allows,
                 const struct px_rbac_policy *policy)
{
    lt_str result = lt_arena_printf(on->arena, "%.*s%s_engine_result", LT_STR_ARG(prefix), kind);
    if (policy != NULL) {
        lt_str key = lt_arena_printf(on->arena, "%.*s%s_effective_policy_id", LT_STR_ARG(prefix),
                                     kind);
        px_meta_put(on->arena, on->meta, on->filter, key, lt_doc_of_str(policy->id));
    }
    px_meta_put(on->arena, on->meta, on->filter, result,
                lt_doc_of_str(allows ? LT_STR("allowed") : LT_STR("denied")));
}

/* Blanks would break a line of the log in two fields. */
static const char *denial(struct lt_arena *arena, const struct px_rbac_policy *policy)
{
    lt_str id = policy != NULL ? policy->id : LT_STR("none");
    lt_str text = lt_arena_printf(arena, "rbac_access_denied_matched_policy[%.*s]", LT_STR_ARG(id));
    for (char *c = (char *)text.ptr; *c != '\0'; c++)
        *c = *c == ' ' || (*c >= '\t' && *c <= '\r') ? '_' : *c;
    return text.ptr;
}

bool px_rbac_judge(const struct px_rbac_case *on, const struct px_rbac_filter *filter,
                   const struct px_rbac_filter *rules, const struct px_rbac_facts *facts,
                   const char **ret_details)
{
    const struct px_rbac_policy *policy = NULL;
    if (rules->shadow != NULL) {
        bool allows = px_rbac_allows(rules->shadow, facts, &policy);
        px_stat_add(on->worker, allows ? &filter->shadow_allowed : &filter->shadow_denied, 1);
        note(on, rules->shadow_prefix, "shadow", allows, policy);
    }
    if (rules->rules == NULL)
        return true;
    bool allows = px_rbac_allows(rules->rules, facts, &policy);
    if (rules->rules->action == PX_RBAC_LOG)
        px_meta_put(on->arena, on->meta, LT_STR("envoy.common"), LT_STR("access_log_hint"),
                    lt_doc_of_bool(policy != NULL));
    px_stat_add(on->worker, allows ? &filter->allowed : &filter->denied, 1);
    note(on, rules->prefix, "enforced", allows, policy);
    if (!allows)
        *ret_details = denial(on->arena, policy);
    return allows;
}

/* --- facts --- */

void px_rbac_conn_facts(struct px_conn *conn, struct px_rbac_facts *facts)
{
    *facts = (struct px_rbac_facts){
        .destination = &conn->local,
        .direct_remote = &conn->peer,
        .remote = &conn->peer,
        .server_name = px_conn_server_name(conn),
        .is_tls = conn->transport.tls != NULL,
    };
    if (facts->is_tls)
        facts->peer = px_conn_peer_cert(conn);
    if (conn->more != NULL) {
        facts->meta = conn->more->meta;
        facts->state = conn->more->state;
    }
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    const struct px_rbac_filter *conf = filter->conf;
    const struct px_rbac_filter *of_route = px_filter_route_conf(request, filter);
    const struct px_rbac_filter *rules = of_route != NULL ? of_route : conf;
    if (rules->rules == NULL && rules->shadow == NULL)
        return PX_GO;
    struct px_rbac_facts facts;
    struct px_request_facts http = px_request_match_facts(request);
    px_rbac_conn_facts(request->conn, &facts);
    facts.http = &http;
    facts.path = lt_url_split(request->path).path;
    facts.meta = request->meta;
    if (request->state_list != NULL)
        facts.state = request->state_list;
    facts.remote = px_request_remote(request);
    struct px_rbac_case on = {request->worker, request->arena, &request->meta,
                              LT_STR("envoy.filters.http.rbac")};
    const char *details = NULL;
    if (px_rbac_judge(&on, conf, rules, &facts, &details))
        return PX_GO;
    px_request_reply(request, 403, 0, details, LT_STR("RBAC: access denied"), "text/plain");
    return PX_STOP;
}

const struct px_filter_ops px_filter_rbac = {
    .name = "envoy.filters.http.rbac",
    .on_request = on_request,
};
