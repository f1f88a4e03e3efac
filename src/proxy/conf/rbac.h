/*
 * proxy/conf/rbac.h - who may do what: the rules of envoy.config.rbac.v3, as an engine. Facts in, a
 * verdict out; no memory, no I/O.
 *
 * Where a rule asks what this proxy cannot know (an expression, a matcher of an extension), the
 * answer is neither yes nor no, and is carried through NOT, AND and OR as such. What remains
 * unknown at the end counts against the request: a rule that allows does not match, one that denies
 * does. Not here: how rules are compiled (compile/rbac.c), what a verdict leads to (filter/rbac.c).
 */
#ifndef LT_PROXY_CONF_RBAC_H
#define LT_PROXY_CONF_RBAC_H

#include "net/x509.h"
#include "proxy/conf/meta.h"
#include "proxy/conf/route_match.h"

typedef enum {
    PX_RBAC_ANY,
    PX_RBAC_NOT,
    PX_RBAC_AND,
    PX_RBAC_OR,
    PX_RBAC_HEADER,
    PX_RBAC_PATH,     /* without query */
    PX_RBAC_TEMPLATE, /* of a path */
    PX_RBAC_SERVER_NAME,
    PX_RBAC_PORT, /* destination, [from, to) */
    PX_RBAC_DESTINATION,
    PX_RBAC_DIRECT_REMOTE, /* who opened the connection */
    PX_RBAC_REMOTE,        /* the original client */
    PX_RBAC_PRINCIPAL,     /* of the peer's certificate */
    PX_RBAC_METADATA,
    PX_RBAC_STATE,   /* filter state */
    PX_RBAC_UNKNOWN, /* cannot be evaluated */
} px_rbac_kind;

struct px_state_match {
    lt_str key;
    struct px_string_match text;
};

struct px_rbac_node {
    px_rbac_kind kind;
    uint32_t count; /* of nodes */
    union {
        const struct px_rbac_node *nodes; /* NOT: one; AND, OR */
        const struct px_header_match *header;
        const struct px_string_match *text; /* PRINCIPAL: NULL for anybody with a certificate */
        const struct lt_regex *regex;       /* TEMPLATE */
        const struct px_cidr *range;
        const struct px_meta_match *meta;
        const struct px_state_match *state;
        struct {
            uint32_t from, to;
        } ports;
    };
};

struct px_rbac_policy {
    lt_str id;
    struct px_rbac_node node; /* permissions and principals and condition */
};

typedef enum { PX_RBAC_ALLOW, PX_RBAC_DENY, PX_RBAC_LOG } px_rbac_action;

struct px_rbac {
    px_rbac_action action;
    const struct px_rbac_policy *policies; /* in the order of their names */
    size_t count;
    const struct px_rbac_index *index; /* NULL: there are few */
};

/* A named text that a filter left behind (filter state). */
struct px_state {
    const struct px_state *next;
    lt_str key, value;
    uint32_t shared; /* with the upstream connection: 0 no, 1 once, 2 from then on */
};

const struct px_state *px_state_find(const struct px_state *state, lt_str key);

struct px_rbac_facts {
    const struct px_request_facts *http; /* NULL: the connection speaks no HTTP */
    lt_str path;                         /* of it, without query */
    const struct lt_addr *destination, *direct_remote, *remote;
    lt_str server_name;
    bool is_tls;
    const struct lt_cert *peer; /* verified; NULL: none */
    const struct px_meta *meta;
    const struct px_state *state;
};

typedef enum { PX_NO, PX_YES, PX_UNKNOWN } px_answer;

px_answer px_rbac_node_matches(const struct px_rbac_node *node, const struct px_rbac_facts *facts);
/*
 * True: it may go on. *ret_policy: the policy that decided, NULL when none matched. LOG allows
 * everything.
 */
bool px_rbac_allows(const struct px_rbac *rbac, const struct px_rbac_facts *facts,
                    const struct px_rbac_policy **ret_policy);

#endif
