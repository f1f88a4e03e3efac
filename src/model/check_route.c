/*
 * model/check_route.c - rules inside a VirtualService.
 */
#include "base/regex.h"
#include "model/check.h"
#include "model/host.h"
#include "wire/base64.h"

enum { DIRECT_BODY_BYTES_MAX = 1 << 20 };

/* RFC 9110 token. */
static bool is_header_name(lt_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_alnum && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return name.len > 0;
}

void lt_check_destination(struct lt_field_reader *reader, const struct lt_doc *doc,
                          const void *message, const struct lt_doc_path *path)
{
    const struct lt_vs_destination *destination = message;
    if (!lt_is_wildcard_domain(destination->host) && !lt_is_ip(destination->host))
        lt_field_error_at(reader, doc, path, "host", "expected a host name, got \"%.*s\"",
                          LT_STR_ARG(destination->host));
    if (lt_str_eq(destination->host, LT_STR("*")))
        lt_field_error_at(reader, doc, path, "host", "expected one host, got \"*\"");
    if (destination->subset.len > 0 && !lt_is_dns_label(destination->subset))
        lt_field_error_at(reader, doc, path, "subset",
                          "expected letters, digits and '-', got \"%.*s\"",
                          LT_STR_ARG(destination->subset));
}

static void check_header_values(struct lt_field_reader *reader, const struct lt_doc *doc,
                                const struct lt_kvs *kvs, const char *member,
                                const struct lt_doc_path *path)
{
    for (size_t i = 0; i < kvs->count; i++) {
        lt_str name = kvs->items[i].key, value = kvs->items[i].value;
        bool is_authority = lt_str_eq(name, LT_STR(":authority"));
        if (!is_header_name(name) && !is_authority)
            lt_field_error_at(reader, doc, path, member, "expected a header name, got \"%.*s\"",
                              LT_STR_ARG(name));
        for (size_t j = 0; j < value.len; j++) {
            if ((unsigned char)value.ptr[j] < ' ' && value.ptr[j] != '\t') {
                lt_field_error_at(reader, doc, path, member,
                                  "expected a header value without control characters");
                break;
            }
        }
    }
}

void lt_check_header_ops(struct lt_field_reader *reader, const struct lt_doc *doc,
                         const void *message, const struct lt_doc_path *path)
{
    const struct lt_header_ops *ops = message;
    check_header_values(reader, doc, &ops->set, "set", path);
    check_header_values(reader, doc, &ops->add, "add", path);
    for (size_t i = 0; i < ops->remove.count; i++) {
        lt_str name = ops->remove.items[i];
        if (!is_header_name(name) || lt_str_case_eq(name, LT_STR("host")))
            lt_field_error_at(reader, doc, path, "remove",
                              "expected a header name other than host, got \"%.*s\"",
                              LT_STR_ARG(name));
    }
}

static void check_match_names(struct lt_field_reader *reader, const struct lt_doc *doc,
                              const lt_str *names, size_t count, const char *member,
                              const struct lt_doc_path *path)
{
    for (size_t i = 0; i < count; i++) {
        lt_str name = names[i];
        if (lt_str_starts(name, LT_STR("@request.auth.claims"))) {
            lt_field_note(reader, LT_NOTE_INFO, doc, path,
                          "%s: matching claims of a token is not translated yet", member);
            continue;
        }
        if (!is_header_name(name) &&
            !(name.len > 1 && name.ptr[0] == ':' && is_header_name(lt_str_from(name, 1))))
            lt_field_error_at(reader, doc, path, member, "expected a header name, got \"%.*s\"",
                              LT_STR_ARG(name));
    }
}

static void check_not_empty(struct lt_field_reader *reader, const struct lt_doc *doc,
                            const struct lt_string_match *match, const char *member,
                            const struct lt_doc_path *path)
{
    if (match != NULL && match->prefix.ptr != NULL && match->prefix.len == 0)
        lt_field_error_at(reader, doc, path, member, "expected a prefix, got nothing");
}

void lt_check_http_match(struct lt_field_reader *reader, const struct lt_doc *doc,
                         const void *message, const struct lt_doc_path *path)
{
    const struct lt_http_match *match = message;
    check_match_names(reader, doc, match->headers.keys, match->headers.count, "headers", path);
    check_match_names(reader, doc, match->without_headers.keys, match->without_headers.count,
                      "withoutHeaders", path);
    check_not_empty(reader, doc, match->scheme, "scheme", path);
    check_not_empty(reader, doc, match->method, "method", path);
    check_not_empty(reader, doc, match->authority, "authority", path);
    for (size_t i = 0; i < match->headers.count; i++)
        check_not_empty(reader, doc, &match->headers.items[i], "headers", path);
    for (size_t i = 0; i < match->query_params.count; i++)
        check_not_empty(reader, doc, &match->query_params.items[i], "queryParams", path);
}

void lt_check_redirect(struct lt_field_reader *reader, const struct lt_doc *doc,
                       const void *message, const struct lt_doc_path *path)
{
    const struct lt_http_redirect *redirect = message;
    bool says_where = redirect->uri.len > 0 || redirect->prefix_rewrite.len > 0 ||
                      redirect->authority.len > 0 || redirect->scheme.len > 0 ||
                      redirect->port.is_set || redirect->derive_port.is_set;
    if (!says_where)
        lt_field_error(reader, doc, path,
                       "expected at least one of uri, prefixRewrite, authority, scheme and port");
    if (redirect->uri.len > 0 && redirect->prefix_rewrite.len > 0)
        lt_field_error(reader, doc, path, "expected only one of uri and prefixRewrite");
    if (redirect->scheme.len > 0 && !lt_str_eq(redirect->scheme, LT_STR("http")) &&
        !lt_str_eq(redirect->scheme, LT_STR("https")))
        lt_field_error_at(reader, doc, path, "scheme", "expected http or https, got \"%.*s\"",
                          LT_STR_ARG(redirect->scheme));
}

void lt_check_rewrite(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                      const struct lt_doc_path *path)
{
    const struct lt_http_rewrite *rewrite = message;
    if (rewrite->uri.len == 0 && rewrite->authority.len == 0 && rewrite->uri_regex == NULL)
        lt_field_error(reader, doc, path,
                       "expected at least one of uri, uriRegexRewrite and authority");
    if (rewrite->uri.len > 0 && rewrite->uri_regex != NULL)
        lt_field_error(reader, doc, path, "expected only one of uri and uriRegexRewrite");
    if (rewrite->uri_regex == NULL)
        return;
    struct lt_regex *regex = NULL;
    struct lt_err err = {0};
    if (lt_regex_new(rewrite->uri_regex->match, &regex, &err) != LT_OK)
        lt_field_error_at(reader, doc, path, "uriRegexRewrite",
                          "expected an RE2 expression in match: %s", err.text);
    lt_regex_free(&regex);
}

/* networking.md 2.3 */
static bool is_retry_condition(lt_str word)
{
    static const char *const known[] = {"5xx",
                                        "gateway-error",
                                        "reset",
                                        "reset-before-request",
                                        "connect-failure",
                                        "retriable-4xx",
                                        "refused-stream",
                                        "retriable-status-codes",
                                        "retriable-headers",
                                        "envoy-ratelimited",
                                        "http3-post-connect-failure",
                                        "cancelled",
                                        "deadline-exceeded",
                                        "internal",
                                        "resource-exhausted",
                                        "unavailable"};
    for (size_t i = 0; i < LT_ARRAY_LEN(known); i++) {
        if (lt_str_eqz(word, known[i]))
            return true;
    }
    uint64_t status = 0;
    return lt_str_to_u64(word, &status) == LT_OK && status >= 100 && status <= 599;
}

void lt_check_retry(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                    const struct lt_doc_path *path)
{
    const struct lt_http_retry *retry = message;
    if (retry->attempts.value == 0 && (retry->per_try_timeout.is_set || retry->retry_on.len > 0 ||
                                       retry->retry_remote_localities.value))
        lt_field_error_at(reader, doc, path, "attempts",
                          "expected at least 1, as other settings of the retry are given");
    lt_str rest = retry->retry_on, word;
    while (retry->retry_on.len > 0 && lt_str_split(&rest, ',', &word)) {
        if (!is_retry_condition(word))
            lt_field_error_at(reader, doc, path, "retryOn", "unknown condition \"%.*s\"",
                              LT_STR_ARG(word));
    }
}

void lt_check_fault(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                    const struct lt_doc_path *path)
{
    const struct lt_http_fault *fault = message;
    if (fault->delay == NULL && fault->abort == NULL)
        lt_field_error(reader, doc, path, "expected at least one of delay and abort");
    if (fault->abort != NULL && fault->abort->http_status.is_set &&
        fault->abort->grpc_status.len > 0)
        lt_field_error_at(reader, doc, path, "abort",
                          "expected only one of httpStatus and grpcStatus");
}

static void check_weights(struct lt_field_reader *reader, const struct lt_doc *doc,
                          const struct lt_http_route *route, const struct lt_doc_path *path)
{
    int64_t sum = 0;
    for (size_t i = 0; i < route->route.count; i++)
        sum += route->route.items[i].weight.value;
    if (route->route.count > 1 && sum == 0)
        lt_field_error_at(reader, doc, path, "route", "expected weights whose sum is more than 0");
    if (sum > UINT32_MAX)
        lt_field_error_at(reader, doc, path, "route",
                          "expected weights whose sum is below 2^32, got %lld", (long long)sum);
}

static bool has_only_prefixes(const struct lt_http_route *route)
{
    for (size_t i = 0; i < route->match.count; i++) {
        if (route->match.items[i].uri == NULL || route->match.items[i].uri->prefix.ptr == NULL)
            return false;
    }
    return route->match.count > 0;
}

void lt_check_body(struct lt_field_reader *reader, const struct lt_doc *doc, const void *message,
                   const struct lt_doc_path *path)
{
    const struct lt_http_body *body = message;
    struct lt_arena *arena = lt_arena_new(0, 0);
    lt_str bytes = body->string;
    if (body->string.ptr != NULL && body->bytes.ptr != NULL)
        lt_field_error(reader, doc, path, "expected only one of string and bytes");
    if (body->bytes.ptr != NULL && lt_base64_decode(arena, body->bytes, &bytes) != LT_OK)
        lt_field_error_at(reader, doc, path, "bytes", "expected base64");
    if (bytes.len > DIRECT_BODY_BYTES_MAX)
        lt_field_error(reader, doc, path, "expected a body of at most 1 MiB");
    lt_arena_free(&arena);
}

void lt_check_http_route(struct lt_field_reader *reader, const struct lt_doc *doc,
                         const void *message, const struct lt_doc_path *path)
{
    const struct lt_http_route *route = message;
    bool has_route = route->route.count > 0, has_redirect = route->redirect != NULL,
         has_direct = route->direct_response != NULL;
    if (route->delegate != NULL && (has_route || has_redirect))
        lt_field_error_at(reader, doc, path, "delegate",
                          "expected neither route nor redirect beside it");
    else if (route->delegate == NULL && has_route + has_redirect + has_direct != 1)
        lt_field_error(reader, doc, path,
                       "expected exactly one of route, redirect and directResponse, got %d",
                       has_route + has_redirect + has_direct);
    if ((has_redirect || has_direct) && (route->fault != NULL || route->rewrite != NULL))
        lt_field_error(reader, doc, path,
                       "expected neither fault nor rewrite beside redirect or directResponse");
    if (has_redirect && route->redirect->prefix_rewrite.len > 0 && !has_only_prefixes(route))
        lt_field_error_at(reader, doc, path, "redirect",
                          "prefixRewrite needs a uri prefix in every match");
    if (route->mirror != NULL && route->mirrors.count > 0)
        lt_field_error_at(reader, doc, path, "mirrors", "expected only one of mirror and mirrors");
    check_weights(reader, doc, route, path);
}

static bool is_bound_to_mesh(const struct lt_virtual_service *vs)
{
    return vs->gateways.count == 0 || lt_strs_contain(&vs->gateways, LT_STR("mesh"));
}

static void check_hosts(struct lt_field_reader *reader, const struct lt_doc *doc,
                        const struct lt_virtual_service *vs, const struct lt_doc_path *path)
{
    for (size_t i = 0; i < vs->hosts.count; i++) {
        lt_str host = vs->hosts.items[i];
        if (!lt_is_wildcard_domain(host) && !lt_is_ip(host))
            lt_field_error_at(reader, doc, path, "hosts",
                              "expected a host name, *.suffix or an IP address, got \"%.*s\"",
                              LT_STR_ARG(host));
        if (lt_str_eq(host, LT_STR("*")) && is_bound_to_mesh(vs))
            lt_field_error_at(reader, doc, path, "hosts",
                              "expected \"*\" only with gateways other than mesh");
        for (size_t j = 0; j < i; j++) {
            if (lt_host_matches(host, vs->hosts.items[j]))
                lt_field_error_at(reader, doc, path, "hosts",
                                  "expected different hosts, got \"%.*s\" and \"%.*s\"",
                                  LT_STR_ARG(vs->hosts.items[j]), LT_STR_ARG(host));
        }
    }
}

static bool names_a_match_all(const struct lt_http_route *route)
{
    return route->match.count == 0;
}

static void check_reachable(struct lt_field_reader *reader, const struct lt_doc *doc,
                            const struct lt_virtual_service *vs, const struct lt_doc_path *path)
{
    const struct lt_doc *list = lt_doc_findz(doc, "http");
    for (size_t i = 0; i + 1 < vs->http.count; i++) {
        if (!names_a_match_all(&vs->http.items[i]))
            continue;
        struct lt_doc_path http = {path, LT_STR("http"), 0}, at = {&http, LT_STR_NULL, i + 1};
        const struct lt_doc *node = list != NULL && list->kind == LT_DOC_ARRAY &&
                                            i + 1 < list->count
                                        ? &list->items[i + 1]
                                        : doc;
        lt_field_note(reader, LT_NOTE_WARNING, node, &at,
                      "is never used: the rule before it has no match and takes everything");
        return;
    }
}

void lt_check_virtual_service(struct lt_field_reader *reader, const struct lt_doc *doc,
                              const void *message, const struct lt_doc_path *path)
{
    const struct lt_virtual_service *vs = message;
    bool is_delegate = vs->hosts.count == 0;
    if (is_delegate && (vs->gateways.count > 0 || vs->tls.count > 0 || vs->tcp.count > 0))
        lt_field_error_at(reader, doc, path, "hosts",
                          "is required (a VirtualService without hosts is a delegate: only http)");
    if (vs->http.count + vs->tls.count + vs->tcp.count == 0)
        lt_field_error(reader, doc, path, "expected at least one of http, tls and tcp");
    for (size_t i = 0; i < vs->gateways.count; i++) {
        lt_str rest = vs->gateways.items[i], part;
        while (lt_str_split(&rest, '/', &part)) {
            if (!lt_is_fqdn(part) && !lt_str_eq(part, LT_STR(".")))
                lt_field_error_at(reader, doc, path, "gateways",
                                  "expected name or namespace/name, got \"%.*s\"",
                                  LT_STR_ARG(vs->gateways.items[i]));
        }
    }
    check_hosts(reader, doc, vs, path);
    check_reachable(reader, doc, vs, path);
}
