/*
 * proxy/chain_match.c - the filter chain match engine: five rounds, each keeps the best.
 */
#include "proxy/chain_match.h"

/* A round's verdict on one chain: 0 is out, 1 takes anything, more is more specific. */
typedef unsigned score_fn(const struct px_chain *chain, const struct px_conn_facts *facts);

static unsigned score_port(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->destination_port == 0)
        return 1;
    return chain->destination_port == lt_addr_port(&facts->destination) ? 2 : 0;
}

static unsigned score_prefix(const struct px_chain *chain, const struct px_conn_facts *facts)
{
    if (chain->prefix_count == 0)
        return 1;
    unsigned best = 0;
    for (size_t i = 0; i < chain->prefix_count; i++) {
        if (lt_addr_in_prefix(&facts->destination, &chain->prefixes[i].prefix,
                              chain->prefixes[i].bits))
            best = LT_MAX(best, 2 + chain->prefixes[i].bits);
    }
    return best;
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

static score_fn *const rounds[] = {score_port, score_prefix, score_server_name, score_transport,
                                   score_application};

/* The best score of a round among the chains that reached it: their best in all rounds before. */
static bool is_in(const struct px_chain *chain, const struct px_conn_facts *facts,
                  const unsigned *best, size_t round)
{
    for (size_t i = 0; i < round; i++) {
        if (rounds[i](chain, facts) != best[i])
            return false;
    }
    return true;
}

const struct px_chain *px_chain_find(const struct px_listener_conf *listener,
                                     const struct px_conn_facts *facts)
{
    unsigned best[LT_ARRAY_LEN(rounds)] = {0};
    const struct px_chain *found = NULL;
    for (size_t round = 0; round < LT_ARRAY_LEN(rounds); round++) {
        found = NULL;
        for (size_t i = 0; i < listener->chain_count; i++) {
            const struct px_chain *chain = &listener->chains[i];
            if (!is_in(chain, facts, best, round))
                continue;
            unsigned score = rounds[round](chain, facts);
            if (score > best[round]) {
                best[round] = score;
                found = chain;
            }
        }
        if (found == NULL)
            return listener->default_chain;
    }
    return found;
}
