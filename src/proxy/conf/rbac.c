/*
 * proxy/conf/rbac.c - the engine of authorization rules. Start at: px_rbac_allows().
 */
#include "proxy/conf/rbac_index.h"

const struct px_state *px_state_find(const struct px_state *state, lt_str key)
{
    while (state != NULL && !lt_str_eq(state->key, key))
        state = state->next;
    return state;
}

static px_answer answer(bool is_yes)
{
    return is_yes ? PX_YES : PX_NO;
}

static bool in_range(const struct px_cidr *range, const struct lt_addr *addr)
{
    return addr != NULL && lt_addr_in_prefix(addr, &range->prefix, range->bits);
}

static bool any_san(const struct lt_cert *cert, lt_san_type type,
                    const struct px_string_match *match)
{
    for (size_t i = 0; i < cert->san_count; i++) {
        if (cert->sans[i].type == type && px_string_matches(match, cert->sans[i].value))
            return true;
    }
    return false;
}

/* Envoy: URI names, then DNS names, then the subject; a connection without TLS is nobody. */
static bool principal_matches(const struct px_string_match *match,
                              const struct px_rbac_facts *facts)
{
    if (!facts->is_tls)
        return false;
    if (match == NULL)
        return facts->peer != NULL;
    if (facts->peer == NULL)
        return px_string_matches(match, LT_STR(""));
    return any_san(facts->peer, LT_SAN_URI, match) || any_san(facts->peer, LT_SAN_DNS, match) ||
           px_string_matches(match, facts->peer->subject);
}

static bool header_matches(const struct px_header_match *match, const struct px_rbac_facts *facts)
{
    static const struct lt_headers no_headers;
    static const struct px_request_facts no_request = {.headers = &no_headers};
    return px_header_matches(match, facts->http != NULL ? facts->http : &no_request);
}

static px_answer state_matches(const struct px_state_match *match,
                               const struct px_rbac_facts *facts)
{
    const struct px_state *state = px_state_find(facts->state, match->key);
    return state == NULL ? PX_NO : answer(px_string_matches(&match->text, state->value));
}

/* AND while is_and, else OR: the first answer that decides ends it. */
static px_answer all_or_any(const struct px_rbac_node *node, const struct px_rbac_facts *facts,
                            bool is_and)
{
    px_answer decides = is_and ? PX_NO : PX_YES, sum = is_and ? PX_YES : PX_NO;
    for (uint32_t i = 0; i < node->count; i++) {
        px_answer one = px_rbac_node_matches(&node->nodes[i], facts);
        if (one == decides)
            return one;
        if (one == PX_UNKNOWN)
            sum = PX_UNKNOWN;
    }
    return sum;
}

static px_answer negate(px_answer one)
{
    return one == PX_UNKNOWN ? PX_UNKNOWN : answer(one == PX_NO);
}

/* As deep as the rules, whose depth was limited when they were compiled. */
px_answer px_rbac_node_matches(const struct px_rbac_node *node, const struct px_rbac_facts *facts)
{
    switch (node->kind) {
    case PX_RBAC_ANY: return PX_YES;
    case PX_RBAC_NOT: return negate(px_rbac_node_matches(node->nodes, facts));
    case PX_RBAC_AND: return all_or_any(node, facts, true);
    case PX_RBAC_OR: return all_or_any(node, facts, false);
    case PX_RBAC_HEADER: return answer(header_matches(node->header, facts));
    case PX_RBAC_PATH:
        return answer(facts->http != NULL && px_string_matches(node->text, facts->path));
    case PX_RBAC_TEMPLATE:
        return answer(facts->http != NULL && lt_regex_matches(node->regex, facts->path));
    case PX_RBAC_SERVER_NAME: return answer(px_string_matches(node->text, facts->server_name));
    case PX_RBAC_PORT: {
        uint32_t port = lt_addr_port(facts->destination);
        return answer(port >= node->ports.from && port < node->ports.to);
    }
    case PX_RBAC_DESTINATION: return answer(in_range(node->range, facts->destination));
    case PX_RBAC_DIRECT_REMOTE: return answer(in_range(node->range, facts->direct_remote));
    case PX_RBAC_REMOTE: return answer(in_range(node->range, facts->remote));
    case PX_RBAC_PRINCIPAL: return answer(principal_matches(node->text, facts));
    case PX_RBAC_METADATA: return answer(px_meta_matches(node->meta, facts->meta));
    case PX_RBAC_STATE: return state_matches(node->state, facts);
    case PX_RBAC_UNKNOWN: return PX_UNKNOWN;
    }
    return PX_UNKNOWN;
}

static const struct px_rbac_policy *find(const struct px_rbac *rbac,
                                         const struct px_rbac_facts *facts)
{
    bool unknown_counts = rbac->action != PX_RBAC_ALLOW;
    size_t at = 0;
    if (rbac->index != NULL) {
        at = px_rbac_index_find(rbac, facts, unknown_counts);
        return at < rbac->count ? &rbac->policies[at] : NULL;
    }
    for (; at < rbac->count; at++) {
        px_answer one = px_rbac_node_matches(&rbac->policies[at].node, facts);
        if (one == PX_YES || (one == PX_UNKNOWN && unknown_counts))
            return &rbac->policies[at];
    }
    return NULL;
}

bool px_rbac_allows(const struct px_rbac *rbac, const struct px_rbac_facts *facts,
                    const struct px_rbac_policy **ret_policy)
{
    *ret_policy = find(rbac, facts);
    switch (rbac->action) {
    case PX_RBAC_ALLOW: return *ret_policy != NULL;
    case PX_RBAC_DENY: return *ret_policy == NULL;
    case PX_RBAC_LOG: break;
    }
    return true;
}
