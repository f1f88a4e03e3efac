/*
 * proxy/conf/chain_match.c - the filter chain match engine: nine rounds, each keeps the best.
 */
#include "proxy/conf/chain_match.h"

/* A round's verdict on one chain: 0 is out, 1 takes anything, more is more specific. */
typedef unsigned score_fn(const struct px_chain *chain, const struct px_conn_facts *facts);

static unsigned score_port(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->destination_port == 0)
        return 1;
    return chain->destination_port == lt_addr_port(&facts->destination) ? 2 : 0;
}

/* Exact names beat suffixes, longer suffixes beat shorter ones. */
static unsigned score_server_name(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->server_name_count == 0)
        return 1;
    unsigned best = 0;
    for (size_t i = 0; i < chain->server_name_count; i++) {
        lt_str name = chain->server_names[i];
        if (lt_str_eq(name, facts->server_name))
            return UINT32_MAX;
        if (name.ptr[0] == '.' && facts->server_name.len > name.len &&
            lt_str_ends(facts->server_name, name))
            best = LT_MAX(best, 2 + (unsigned)name.len);
    }
    return best;
}

static unsigned score_transport(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->transport_protocol.len == 0)
        return 1;
    return lt_str_eq(chain->transport_protocol, facts->transport_protocol) ? 2 : 0;
}

/* Envoy: the client's protocols in their order; the first that some chain names decides. */
static unsigned score_application(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->application_protocol_count == 0)
        return 1;
    for (size_t i = 0; i < facts->application_protocol_count; i++) {
        for (size_t j = 0; j < chain->application_protocol_count; j++) {
            if (lt_str_eq(facts->application_protocols[i], chain->application_protocols[j]))
                return UINT32_MAX - (unsigned)i;
        }
    }
    return 0;
}

static bool is_own(const struct lt_addr *peer, const struct lt_addr *local)
{
    unsigned whole = peer->sa.sa_family == AF_INET ? 32 : 128;
    return peer->sa.sa_family == AF_UNIX || lt_addr_is_loopback(peer) ||
           lt_addr_in_prefix(peer, local, whole);
}

static unsigned score_prefixes(const struct px_cidr *prefixes, size_t count,
                               const struct lt_addr *addr)
{
    if (count == 0)
        return 1;
    unsigned best = 0;
    for (size_t i = 0; i < count; i++) {
        if (lt_addr_in_prefix(addr, &prefixes[i].prefix, prefixes[i].bits))
            best = LT_MAX(best, 2 + prefixes[i].bits);
    }
    return best;
}

static unsigned score_prefix(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    return score_prefixes(chain->prefixes, chain->prefix_count, &facts->destination);
}

static unsigned score_direct_source(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    return chain->source == NULL
               ? 1
               : score_prefixes(chain->source->direct_prefixes, chain->source->direct_prefix_count,
                                &facts->source);
}

static unsigned score_source_type(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->source == NULL || chain->source->type == PX_SOURCE_ANY)
        return 1;
    bool is_local = is_own(&facts->source, &facts->destination);
    return is_local == (chain->source->type == PX_SOURCE_LOCAL) ? 2 : 0;
}

static unsigned score_source(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    return chain->source == NULL ? 1
                                 : score_prefixes(chain->source->prefixes,
                                                  chain->source->prefix_count, &facts->source);
}

static unsigned score_source_port(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->source == NULL || chain->source->port_count == 0)
        return 1;
    for (size_t i = 0; i < chain->source->port_count; i++) {
        if (chain->source->ports[i] == lt_addr_port(&facts->source))
            return 2;
    }
    return 0;
}

static score_fn *const rounds[] = {score_port,        score_prefix,      score_server_name,
                                   score_transport,   score_application, score_direct_source,
                                   score_source_type, score_source,      score_source_port};

/*
 * In each round those with the best score stay: the chain whose list of scores is the greatest,
 * read from the left. When that has a zero in it, those that would have had none were out before.
 */
const struct px_chain *px_chain_find(const struct px_listener_conf *listener,
                                     const struct px_conn_facts *facts)
{
    unsigned best[LT_ARRAY_LEN(rounds)] = {0};
    const struct px_chain *found = NULL;
    for (size_t i = 0; i < listener->chain_count; i++) {
        const struct px_chain *chain = &listener->chains[i];
        bool is_better = found == NULL;
        for (size_t round = 0; round < LT_ARRAY_LEN(rounds); round++) {
            unsigned score = rounds[round](chain, facts);
            if (!is_better && score < best[round])
                break;
            is_better = is_better || score > best[round];
            if (is_better)
                best[round] = score;
        }
        found = is_better ? chain : found;
    }
    for (size_t round = 0; round < LT_ARRAY_LEN(rounds); round++)
        found = best[round] == 0 ? NULL : found;
    return found != NULL ? found : listener->default_chain;
}
