/*
 * proxy/http/hash_policy.c - hashing what a route's hash policies name: headers, cookies, the
 * client's address, query parameters; exactly as Envoy, so that both send the same key to the same
 * host.
 * Start at: px_hash_request().
 */
#include "proxy/http/hash_policy.h"

#include <stdlib.h>

#include "http/url.h"
#include "proxy/http/request.h"

enum { VALUES_MAX = 32, COOKIES_MAX = 8, REWRITE_BYTES_MAX = 64 * 1024 };

/* What goes into Set-Cookie fields of the response. */
struct px_hash_cookies {
    lt_str values[COOKIES_MAX];
    size_t count;
};

static uint64_t hash_of(lt_str text, uint64_t seed)
{
    return lt_hash64(text.ptr, text.len, seed);
}

/* --- headers --- */

static lt_str rewrite(struct px_request *request, const struct px_hash_policy *policy, lt_str value)
{
    struct lt_buf out;
    if (policy->regex == NULL)
        return value;
    lt_buf_init(&out, REWRITE_BYTES_MAX);
    if (lt_regex_replace(policy->regex, value, policy->substitution, &out) == LT_OK)
        value = lt_arena_str(request->arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return value;
}

static int by_text(const void *a, const void *b)
{
    return lt_str_cmp(*(const lt_str *)a, *(const lt_str *)b);
}

static lt_str pseudo_header(const struct px_request *request, lt_str name)
{
    return lt_str_eqz(name, ":path")        ? request->path
           : lt_str_eqz(name, ":authority") ? request->authority
           : lt_str_eqz(name, ":method")    ? request->method
           : lt_str_eqz(name, ":scheme")    ? request->scheme
                                            : LT_STR_NULL;
}

/* Of several fields of the name all count, in whatever order they came. */
static bool hash_header(struct px_request *request, const struct px_hash_policy *policy,
                        uint64_t *ret_hash)
{
    const struct lt_headers *headers = &request->head.headers;
    lt_str values[VALUES_MAX];
    size_t count = 0;
    if (policy->name.ptr[0] == ':') {
        values[count] = pseudo_header(request, policy->name);
        count += values[0].len > 0;
    } else if (lt_str_eqz(policy->name, "host")) {
        values[count++] = request->authority;
    }
    for (uint32_t i = 0; i < headers->count && count < VALUES_MAX; i++) {
        if (lt_str_case_eq(headers->items[i].name, policy->name))
            values[count++] = headers->items[i].value;
    }
    if (count == 0)
        return false;
    for (size_t i = 0; i < count; i++)
        values[i] = rewrite(request, policy, values[i]);
    lt_sort(values, count, sizeof(*values), by_text);
    *ret_hash = 0;
    for (size_t i = 0; i < count; i++)
        *ret_hash = hash_of(values[i], *ret_hash);
    return true;
}

/* --- cookies --- */

lt_str px_hash_find_cookie(lt_str header, lt_str name)
{
    lt_str pair;
    while (lt_str_split(&header, ';', &pair)) {
        pair = lt_str_trim(pair);
        ptrdiff_t equals = lt_str_find_char(pair, '=');
        if (equals < 0 || !lt_str_eq(lt_str_slice(pair, 0, (size_t)equals), name))
            continue;
        lt_str value = lt_str_from(pair, (size_t)equals + 1);
        bool is_quoted = value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"';
        return is_quoted ? lt_str_slice(value, 1, value.len - 1) : value;
    }
    return LT_STR_NULL;
}

static lt_str find_cookie(const struct px_request *request, lt_str name)
{
    const struct lt_headers *headers = &request->head.headers;
    for (uint32_t i = 0; i < headers->count; i++) {
        lt_str value = lt_str_case_eq(headers->items[i].name, LT_STR("cookie"))
                           ? px_hash_find_cookie(headers->items[i].value, name)
                           : LT_STR_NULL;
        if (value.len > 0)
            return value;
    }
    return LT_STR_NULL;
}

/* The same for all requests of a connection: those that race get the same cookie. */
static lt_str make_cookie(struct px_request *request, const struct px_hash_policy *policy)
{
    char peer[LT_ADDR_TEXT_MAX], local[LT_ADDR_TEXT_MAX];
    lt_str both = lt_arena_printf(request->arena, "%.*s%.*s",
                                  LT_STR_ARG(lt_addr_format(&request->conn->peer, peer)),
                                  LT_STR_ARG(lt_addr_format(&request->conn->local, local)));
    lt_str value = lt_arena_printf(request->arena, "%016llx", (unsigned long long)hash_of(both, 0));
    if (request->hash_cookies == NULL)
        request->hash_cookies = lt_arena_make(request->arena, struct px_hash_cookies);
    struct px_hash_cookies *cookies = request->hash_cookies;
    if (cookies->count < COOKIES_MAX)
        cookies->values[cookies->count++] = lt_arena_printf(
            request->arena, "%.*s=\"%.*s\"%.*s", LT_STR_ARG(policy->name), LT_STR_ARG(value),
            LT_STR_ARG(policy->attributes));
    return value;
}

static bool hash_cookie(struct px_request *request, const struct px_hash_policy *policy,
                        uint64_t *ret_hash)
{
    lt_str value = find_cookie(request, policy->name);
    if (value.len == 0 && policy->has_ttl)
        value = make_cookie(request, policy);
    *ret_hash = hash_of(value, 0);
    return value.len > 0;
}

lt_rc px_hash_add_cookies(struct px_request *request)
{
    for (size_t i = 0; request->hash_cookies != NULL && i < request->hash_cookies->count; i++)
        LT_TRY(lt_headers_add(&request->rhead.headers, LT_STR("set-cookie"),
                              request->hash_cookies->values[i]));
    return LT_OK;
}

/* --- the rest --- */

/*
 * Envoy's remote address: of X-Forwarded-For the last entry that is not a trusted proxy's, which
 * the head has by now in any case; else the connection's.
 */
static lt_str client_ip(const struct px_request *request, char text[LT_ADDR_TEXT_MAX])
{
    lt_str all = lt_headers_value(&request->head.headers, LT_H_X_FORWARDED_FOR);
    uint32_t hops = request->hcm->xff_num_trusted_hops;
    struct lt_addr addr;
    for (uint32_t i = 0; i <= hops; i++) {
        ptrdiff_t comma = lt_str_rfind_char(all, ',');
        lt_str entry = lt_str_trim(comma < 0 ? all : lt_str_from(all, (size_t)comma + 1));
        if (i == hops && lt_addr_parse(entry, 0, &addr) == LT_OK)
            return lt_addr_format_ip(&addr, text);
        all = comma < 0 ? LT_STR_NULL : lt_str_slice(all, 0, (size_t)comma);
    }
    return lt_addr_format_ip(&request->conn->peer, text);
}

static bool hash_query(const struct px_request *request, const struct px_hash_policy *policy,
                       uint64_t *ret_hash)
{
    lt_str rest = lt_url_split(request->path).query, name, value;
    while (lt_url_query_next(&rest, &name, &value)) {
        if (!lt_str_eq(name, policy->name))
            continue;
        *ret_hash = hash_of(value, 0);
        return true;
    }
    return false;
}

static bool hash_one(struct px_request *request, const struct px_hash_policy *policy,
                     uint64_t *ret_hash)
{
    char text[LT_ADDR_TEXT_MAX];
    switch (policy->kind) {
    case PX_HASH_HEADER: return hash_header(request, policy, ret_hash);
    case PX_HASH_COOKIE: return hash_cookie(request, policy, ret_hash);
    case PX_HASH_QUERY: return hash_query(request, policy, ret_hash);
    case PX_HASH_SOURCE_IP: *ret_hash = hash_of(client_ip(request, text), 0); return true;
    }
    return false;
}

/* Turning what was there keeps two equal hashes from cancelling each other out. */
static uint64_t add_hash(uint64_t all, uint64_t one)
{
    return (all << 1 | all >> 63) ^ one;
}

bool px_hash_request(struct px_request *request, uint64_t *ret_hash)
{
    const struct px_hash_policies *policies = request->route->hash;
    for (size_t i = 0; !request->is_hashed && policies != NULL && i < policies->count; i++) {
        uint64_t one = 0;
        if (hash_one(request, &policies->items[i], &one)) {
            request->hash = add_hash(request->hash, one);
            request->has_hash = true;
        }
        if (policies->items[i].is_terminal && request->has_hash)
            break;
    }
    request->is_hashed = true;
    *ret_hash = request->hash;
    return request->has_hash;
}

bool px_hash_connection(const struct px_hash_policies *policies, const struct px_conn *conn,
                        uint64_t *ret_hash)
{
    char text[LT_ADDR_TEXT_MAX];
    *ret_hash = 0;
    for (size_t i = 0; policies != NULL && i < policies->count; i++)
        *ret_hash = add_hash(*ret_hash, hash_of(lt_addr_format_ip(&conn->peer, text), 0));
    return policies != NULL;
}
