/*
 * proxy/compile/rbac.c - RBAC rules to what rbac.h judges by. What cannot be evaluated becomes a
 * node that says so, and is listed; what is not well formed refuses the resource.
 * Start at: px_make_rbac().
 */
#include "proxy/compile/rbac.h"

#include "proxy/compile/meta.h"
#include "proxy/conf/rbac_index.h"
#include "proxy/conf/uri_template.h"
#include "wire/proto/http_rbac.pb-c.h"
#include "wire/proto/path_match_template.pb-c.h"

enum { DEPTH_MAX = 32, PORTS_END = 65536 };

/* --- nodes; permissions and principals alike --- */

/* What only newer proxies know is neither true nor false here. */
static lt_rc make_unknown(struct px_build *build, struct px_rbac_node *node, const char *field)
{
    px_unhonoured(build, field);
    node->kind = PX_RBAC_UNKNOWN;
    return LT_OK;
}

/* A value that we cannot evaluate makes the node unknown; rc: of its compiler. */
static lt_rc settle(struct px_build *build, lt_rc rc, struct px_rbac_node *node, const char *field)
{
    if (rc != LT_E_UNSUPPORTED)
        return rc;
    if (build->err != NULL)
        lt_err_clear(build->err);
    return make_unknown(build, node, field);
}

static lt_rc make_text(struct px_build *build, const char *field, const Xds__StringMatcher *in,
                       px_rbac_kind kind, struct px_rbac_node *node)
{
    if (in == NULL)
        return px_bad(build, field, "is empty");
    struct px_string_match *text = lt_arena_make(build->arena, struct px_string_match);
    node->kind = kind;
    node->text = text;
    return settle(build, px_make_string_match(build, field, in, text), node, field);
}

static lt_rc make_path(struct px_build *build, const Xds__PathMatcher *in,
                       struct px_rbac_node *node)
{
    return make_text(build, "url_path.path",
                     in->rule_case == XDS__PATH_MATCHER__RULE_PATH ? in->path : NULL, PX_RBAC_PATH,
                     node);
}

static lt_rc make_header(struct px_build *build, Xds__HeaderMatcher *in, struct px_rbac_node *node)
{
    Xds__HeaderMatcher *const list[] = {in};
    node->kind = PX_RBAC_HEADER;
    return settle(build, px_make_header_matches(build, list, 1, &node->header), node, "header");
}

static lt_rc make_metadata(struct px_build *build, const Xds__MetadataMatcher *in,
                           struct px_rbac_node *node)
{
    struct px_meta_match *meta = lt_arena_make(build->arena, struct px_meta_match);
    size_t mark = px_path_enter(build, "metadata", -1);
    node->kind = PX_RBAC_METADATA;
    node->meta = meta;
    lt_rc rc = px_make_meta_match(build, in, meta);
    rc = settle(build, rc, node, NULL);
    px_path_leave(build, mark);
    return rc;
}

static lt_rc make_sourced(struct px_build *build, const Xds__SourcedMetadata *in,
                          struct px_rbac_node *node)
{
    if (in->metadata_matcher == NULL)
        return px_bad(build, "sourced_metadata.metadata_matcher", "is missing");
    if (in->has_metadata_source && in->metadata_source != XDS__METADATA_SOURCE__DYNAMIC)
        return make_unknown(build, node, "sourced_metadata.metadata_source");
    return make_metadata(build, in->metadata_matcher, node);
}

static lt_rc make_range(struct px_build *build, const char *field, const Xds__CidrRange *in,
                        px_rbac_kind kind, struct px_rbac_node *node)
{
    struct px_cidr *range = lt_arena_make(build->arena, struct px_cidr);
    if (lt_addr_parse(lt_str_of(in->address_prefix), 0, &range->prefix) != LT_OK)
        return px_bad(build, field, "malformed IP address: %s",
                      in->address_prefix != NULL ? in->address_prefix : "");
    range->bits = px_u32(in->prefix_len, 0);
    node->kind = kind;
    node->range = range;
    return LT_OK;
}

static lt_rc make_ports(struct px_build *build, const char *field, int64_t from, int64_t to,
                        struct px_rbac_node *node)
{
    if (from < 0 || from >= to || to > PORTS_END)
        return px_bad(build, field, "no range of ports");
    node->kind = PX_RBAC_PORT;
    node->ports.from = (uint32_t)from;
    node->ports.to = (uint32_t)to;
    return LT_OK;
}

static lt_rc make_template(struct px_build *build, const Xds__TypedExtensionConfig *in,
                           struct px_rbac_node *node)
{
    Xds__UriTemplateMatchConfig *config = NULL;
    struct px_uri_template parsed;
    struct lt_err inner = {0};
    struct lt_regex *regex = NULL;
    lt_str type = px_any_type(build, in->typed_config);
    if (!lt_str_eqz(type, xds__uri_template_match_config__descriptor.name))
        return make_unknown(build, node, "uri_template");
    LT_TRY(px_unpack_any(build, "uri_template", in->typed_config,
                         &xds__uri_template_match_config__descriptor, &config));
    if (px_uri_template_parse(build->scratch, lt_str_of(config->path_template), &parsed, &inner) !=
            LT_OK ||
        lt_regex_new(parsed.regex, &regex, &inner) != LT_OK)
        return px_bad(build, "uri_template", "%s", inner.text);
    lt_vec_push(&build->regexes, regex);
    node->kind = PX_RBAC_TEMPLATE;
    node->regex = regex;
    return LT_OK;
}

/* --- trees --- */

typedef lt_rc make_fn(struct px_build *build, ProtobufCBinaryData bytes, int depth,
                      struct px_rbac_node *node);

/* One of one is itself; what is always true adds nothing to an AND. */
static void simplify(struct px_rbac_node *node)
{
    struct px_rbac_node *nodes = (struct px_rbac_node *)node->nodes;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < node->count; i++) {
        bool is_idle = node->kind == PX_RBAC_AND && nodes[i].kind == PX_RBAC_ANY;
        if (!is_idle)
            nodes[kept++] = nodes[i];
    }
    node->count = kept;
    if (kept == 1)
        *node = nodes[0];
    else if (kept == 0 && node->kind == PX_RBAC_AND)
        node->kind = PX_RBAC_ANY;
}

static lt_rc make_set(struct px_build *build, const ProtobufCBinaryData *list, size_t count,
                      int depth, px_rbac_kind kind, make_fn *make, struct px_rbac_node *node)
{
    struct px_rbac_node *nodes = lt_arena_make_n(build->arena, struct px_rbac_node, count);
    if (count == 0)
        return px_bad(build, NULL, "an empty list of rules or ids");
    for (size_t i = 0; i < count; i++)
        LT_TRY(make(build, list[i], depth + 1, &nodes[i]));
    node->kind = kind;
    node->nodes = nodes;
    node->count = (uint32_t)count;
    simplify(node);
    return LT_OK;
}

static lt_rc make_not(struct px_build *build, ProtobufCBinaryData bytes, int depth, make_fn *make,
                      struct px_rbac_node *node)
{
    struct px_rbac_node *inner = lt_arena_make(build->arena, struct px_rbac_node);
    LT_TRY(make(build, bytes, depth + 1, inner));
    node->kind = PX_RBAC_NOT;
    node->count = 1;
    node->nodes = inner;
    return LT_OK;
}

static lt_rc open_level(struct px_build *build, const ProtobufCMessageDescriptor *type,
                        ProtobufCBinaryData bytes, int depth, void *ret_message)
{
    if (depth > DEPTH_MAX)
        return px_bad(build, NULL, "rules nested deeper than %d", DEPTH_MAX);
    if (px_unpack_inside(build, bytes, type, ret_message) != LT_OK)
        return px_bad(build, NULL, "is not readable");
    return LT_OK;
}

static lt_rc make_permission_bytes(struct px_build *build, ProtobufCBinaryData bytes, int depth,
                                   struct px_rbac_node *node);

static lt_rc make_permission(struct px_build *build, const Xds__Permission *in, int depth,
                             struct px_rbac_node *node)
{
    switch (in->rule_case) {
    case XDS__PERMISSION__RULE_AND_RULES:
        return make_set(build, in->and_rules->rules, in->and_rules->n_rules, depth, PX_RBAC_AND,
                        make_permission_bytes, node);
    case XDS__PERMISSION__RULE_OR_RULES:
        return make_set(build, in->or_rules->rules, in->or_rules->n_rules, depth, PX_RBAC_OR,
                        make_permission_bytes, node);
    case XDS__PERMISSION__RULE_NOT_RULE:
        return make_not(build, in->not_rule, depth, make_permission_bytes, node);
    case XDS__PERMISSION__RULE_ANY:
        node->kind = PX_RBAC_ANY;
        return in->any ? LT_OK : px_bad(build, "any", "must be true");
    case XDS__PERMISSION__RULE_HEADER: return make_header(build, in->header, node);
    case XDS__PERMISSION__RULE_DESTINATION_IP:
        return make_range(build, "destination_ip", in->destination_ip, PX_RBAC_DESTINATION, node);
    case XDS__PERMISSION__RULE_DESTINATION_PORT:
        return make_ports(build, "destination_port", in->destination_port,
                          (int64_t)in->destination_port + 1, node);
    case XDS__PERMISSION__RULE_DESTINATION_PORT_RANGE: {
        const Xds__Int32Range *range = in->destination_port_range;
        return make_ports(build, "destination_port_range", range->has_start ? range->start : 0,
                          range->has_end ? range->end : 0, node);
    }
    case XDS__PERMISSION__RULE_METADATA: return make_metadata(build, in->metadata, node);
    case XDS__PERMISSION__RULE_SOURCED_METADATA:
        return make_sourced(build, in->sourced_metadata, node);
    case XDS__PERMISSION__RULE_REQUESTED_SERVER_NAME:
        return make_text(build, "requested_server_name", in->requested_server_name,
                         PX_RBAC_SERVER_NAME, node);
    case XDS__PERMISSION__RULE_URL_PATH: return make_path(build, in->url_path, node);
    case XDS__PERMISSION__RULE_URI_TEMPLATE: return make_template(build, in->uri_template, node);
    default: return make_unknown(build, node, "matcher");
    }
}

static lt_rc make_permission_bytes(struct px_build *build, ProtobufCBinaryData bytes, int depth,
                                   struct px_rbac_node *node)
{
    Xds__Permission *in = NULL;
    LT_TRY(open_level(build, &xds__permission__descriptor, bytes, depth, &in));
    return make_permission(build, in, depth, node);
}

static lt_rc make_authenticated(struct px_build *build, const Xds__Principal__Authenticated *in,
                                struct px_rbac_node *node)
{
    if (in->principal_name != NULL)
        return make_text(build, "authenticated.principal_name", in->principal_name,
                         PX_RBAC_PRINCIPAL, node);
    node->kind = PX_RBAC_PRINCIPAL;
    node->text = NULL;
    return LT_OK;
}

/* Of objects that other filters make there is nothing here, so that nothing is known of them. */
static bool is_known_state(lt_str key)
{
    return lt_str_starts(key, LT_STR("io.istio.")) && (lt_str_eqz(key, "io.istio.peer_principal") ||
                                                       lt_str_eqz(key, "io.istio.local_principal"));
}

static lt_rc make_state(struct px_build *build, const Xds__FilterStateMatcher *in,
                        struct px_rbac_node *node)
{
    struct px_state_match *state = lt_arena_make(build->arena, struct px_state_match);
    state->key = px_copy(build, in->key);
    if (in->matcher_case != XDS__FILTER_STATE_MATCHER__MATCHER_STRING_MATCH ||
        !is_known_state(state->key))
        return make_unknown(build, node, "filter_state");
    node->kind = PX_RBAC_STATE;
    node->state = state;
    return settle(
        build,
        px_make_string_match(build, "filter_state.string_match", in->string_match, &state->text),
        node, "filter_state.string_match");
}

static lt_rc make_principal_bytes(struct px_build *build, ProtobufCBinaryData bytes, int depth,
                                  struct px_rbac_node *node);

static lt_rc make_principal(struct px_build *build, const Xds__Principal *in, int depth,
                            struct px_rbac_node *node)
{
    switch (in->identifier_case) {
    case XDS__PRINCIPAL__IDENTIFIER_AND_IDS:
        return make_set(build, in->and_ids->ids, in->and_ids->n_ids, depth, PX_RBAC_AND,
                        make_principal_bytes, node);
    case XDS__PRINCIPAL__IDENTIFIER_OR_IDS:
        return make_set(build, in->or_ids->ids, in->or_ids->n_ids, depth, PX_RBAC_OR,
                        make_principal_bytes, node);
    case XDS__PRINCIPAL__IDENTIFIER_NOT_ID:
        return make_not(build, in->not_id, depth, make_principal_bytes, node);
    case XDS__PRINCIPAL__IDENTIFIER_ANY:
        node->kind = PX_RBAC_ANY;
        return in->any ? LT_OK : px_bad(build, "any", "must be true");
    case XDS__PRINCIPAL__IDENTIFIER_AUTHENTICATED:
        return make_authenticated(build, in->authenticated, node);
    case XDS__PRINCIPAL__IDENTIFIER_SOURCE_IP:
        return make_range(build, "source_ip", in->source_ip, PX_RBAC_DIRECT_REMOTE, node);
    case XDS__PRINCIPAL__IDENTIFIER_DIRECT_REMOTE_IP:
        return make_range(build, "direct_remote_ip", in->direct_remote_ip, PX_RBAC_DIRECT_REMOTE,
                          node);
    case XDS__PRINCIPAL__IDENTIFIER_REMOTE_IP:
        return make_range(build, "remote_ip", in->remote_ip, PX_RBAC_REMOTE, node);
    case XDS__PRINCIPAL__IDENTIFIER_HEADER: return make_header(build, in->header, node);
    case XDS__PRINCIPAL__IDENTIFIER_URL_PATH: return make_path(build, in->url_path, node);
    case XDS__PRINCIPAL__IDENTIFIER_METADATA: return make_metadata(build, in->metadata, node);
    case XDS__PRINCIPAL__IDENTIFIER_SOURCED_METADATA:
        return make_sourced(build, in->sourced_metadata, node);
    case XDS__PRINCIPAL__IDENTIFIER_FILTER_STATE: return make_state(build, in->filter_state, node);
    default: return make_unknown(build, node, "identifier");
    }
}

static lt_rc make_principal_bytes(struct px_build *build, ProtobufCBinaryData bytes, int depth,
                                  struct px_rbac_node *node)
{
    Xds__Principal *in = NULL;
    LT_TRY(open_level(build, &xds__principal__descriptor, bytes, depth, &in));
    return make_principal(build, in, depth, node);
}

/* --- policies --- */

static lt_rc make_permissions(struct px_build *build, const Xds__Policy *in,
                              struct px_rbac_node *node)
{
    struct px_rbac_node *nodes = lt_arena_make_n(build->arena, struct px_rbac_node,
                                                 in->n_permissions);
    if (in->n_permissions == 0)
        return px_bad(build, "permissions", "a policy needs at least one");
    for (size_t i = 0; i < in->n_permissions; i++) {
        size_t mark = px_path_enter(build, "permissions", (ptrdiff_t)i);
        LT_TRY(make_permission(build, in->permissions[i], 0, &nodes[i]));
        px_path_leave(build, mark);
    }
    *node = (struct px_rbac_node){
        .kind = PX_RBAC_OR, .count = (uint32_t)in->n_permissions, .nodes = nodes};
    simplify(node);
    return LT_OK;
}

static lt_rc make_principals(struct px_build *build, const Xds__Policy *in,
                             struct px_rbac_node *node)
{
    struct px_rbac_node *nodes = lt_arena_make_n(build->arena, struct px_rbac_node,
                                                 in->n_principals);
    if (in->n_principals == 0)
        return px_bad(build, "principals", "a policy needs at least one");
    for (size_t i = 0; i < in->n_principals; i++) {
        size_t mark = px_path_enter(build, "principals", (ptrdiff_t)i);
        LT_TRY(make_principal(build, in->principals[i], 0, &nodes[i]));
        px_path_leave(build, mark);
    }
    *node = (struct px_rbac_node){
        .kind = PX_RBAC_OR, .count = (uint32_t)in->n_principals, .nodes = nodes};
    simplify(node);
    return LT_OK;
}

/* Permissions, principals, and a condition, which is an expression: unknown (step 2b). */
static lt_rc make_policy(struct px_build *build, const Xds__Policy *in,
                         struct px_rbac_policy *policy)
{
    struct px_rbac_node *nodes = lt_arena_make_n(build->arena, struct px_rbac_node, 3);
    bool has_condition = in->has_condition || in->has_checked_condition || in->cel_config != NULL;
    LT_TRY(make_permissions(build, in, &nodes[0]));
    LT_TRY(make_principals(build, in, &nodes[1]));
    if (has_condition)
        LT_TRY(make_unknown(build, &nodes[2], "condition"));
    policy->node = (struct px_rbac_node){
        .kind = PX_RBAC_AND, .count = has_condition ? 3 : 2, .nodes = nodes};
    simplify(&policy->node);
    return LT_OK;
}

static lt_rc make_action(struct px_build *build, const Xds__RBAC *in, struct px_rbac *rbac)
{
    switch (in->has_action ? in->action : XDS__RBAC__ACTION__ALLOW) {
    case XDS__RBAC__ACTION__ALLOW: rbac->action = PX_RBAC_ALLOW; return LT_OK;
    case XDS__RBAC__ACTION__DENY: rbac->action = PX_RBAC_DENY; return LT_OK;
    case XDS__RBAC__ACTION__LOG: rbac->action = PX_RBAC_LOG; return LT_OK;
    default: return px_bad(build, "action", "unknown value %d", (int)in->action);
    }
}

static void add_index(struct px_build *build, struct px_rbac *rbac)
{
    if (rbac->count < PX_RBAC_INDEX_MIN)
        return;
    struct px_rbac_index *index = (struct px_rbac_index *)px_rbac_index_make(build->arena, rbac);
    struct lt_map *const maps[] = {&index->paths, &index->prefixes, &index->principals,
                                   &index->namespaces};
    for (size_t i = 0; i < LT_ARRAY_LEN(maps); i++)
        lt_vec_push(&build->maps, maps[i]);
    rbac->index = index;
}

lt_rc px_make_rbac(struct px_build *build, const char *field, const Xds__RBAC *in,
                   const struct px_rbac **ret_rbac)
{
    *ret_rbac = NULL;
    if (in == NULL)
        return LT_OK;
    size_t outer = px_path_enter(build, field, -1);
    struct px_rbac *rbac = lt_arena_make(build->arena, struct px_rbac);
    struct px_rbac_policy *policies = lt_arena_make_n(build->arena, struct px_rbac_policy,
                                                      in->n_policies);
    LT_TRY(make_action(build, in, rbac));
    for (size_t i = 0; i < in->n_policies; i++) {
        const Xds__RBAC__PoliciesEntry *entry = in->policies[i];
        size_t mark = px_path_enter(build, "policies", -1);
        px_path_enter(build, entry->key != NULL ? entry->key : "", -1);
        if (entry->value == NULL)
            return px_bad(build, NULL, "a policy needs permissions and principals");
        policies[i].id = px_copy(build, entry->key);
        LT_TRY(make_policy(build, entry->value, &policies[i]));
        px_path_leave(build, mark);
    }
    px_path_leave(build, outer);
    rbac->policies = policies;
    rbac->count = in->n_policies;
    add_index(build, rbac);
    *ret_rbac = rbac;
    return LT_OK;
}

/* --- the HTTP filter --- */

static lt_rc make_filter(struct px_build *build, const Xds__HttpRbac__RBAC *in,
                         struct px_rbac_filter *filter)
{
    /* a tree of another kind guards here, and there is no reading of it that is safe */
    if (in->has_matcher)
        return px_unsupported(build, "matcher", "matching trees are not supported");
    filter->shadow_prefix = px_copy(build, in->shadow_rules_stat_prefix);
    filter->prefix = px_copy(build, in->rules_stat_prefix);
    LT_TRY(px_make_rbac(build, "rules", in->rules, &filter->rules));
    return px_make_rbac(build, "shadow_rules", in->shadow_rules, &filter->shadow);
}

lt_rc px_make_rbac_filter(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                          const void **ret_conf)
{
    struct px_rbac_filter *filter = lt_arena_make(build->arena, struct px_rbac_filter);
    LT_TRY(make_filter(build, message, filter));
    px_rbac_name_stats(build->arena, hcm->stat_prefix, filter);
    *ret_conf = filter;
    return LT_OK;
}

/* Without rules the filter does nothing on this route. */
lt_rc px_make_rbac_route(struct px_build *build, const void *message, struct px_filter_conf *conf)
{
    const Xds__HttpRbac__RBACPerRoute *in = message;
    struct px_rbac_filter *filter = lt_arena_make(build->arena, struct px_rbac_filter);
    conf->conf = filter;
    return in->rbac == NULL ? LT_OK : make_filter(build, in->rbac, filter);
}
