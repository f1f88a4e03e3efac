/*
 * proxy/conf/log_filter.c - filters of access logs. Rules: Envoy's access_log_impl.
 */
#include "proxy/conf/log_filter.h"
#include "proxy/conf/meta.h"

#include <string.h>

#include "base/env.h"
#include "http/grpc.h"
#include "proxy/conf/route_match.h"

static bool compares(px_log_op op, uint64_t left, uint64_t right)
{
    switch (op) {
    case PX_LOG_EQ: return left == right;
    case PX_LOG_GE: return left >= right;
    case PX_LOG_LE: return left <= right;
    case PX_LOG_NE: return left != right;
    }
    return false;
}

/* The id of a request decides alike in every proxy that it passes: its first eight digits. */
static bool read_id(const struct px_log_facts *facts, uint64_t *ret_number)
{
    lt_str id = facts->request == NULL ? LT_STR_NULL
                                       : lt_headers_value(facts->request, LT_H_X_REQUEST_ID);
    uint64_t number = 0;
    if (id.len < 8)
        return false;
    for (size_t i = 0; i < 8; i++) {
        char c = id.ptr[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit > 15)
            return false;
        number = number << 4 | digit;
    }
    *ret_number = number;
    return true;
}

static bool is_sampled(const struct px_log_filter *filter, const struct px_log_facts *facts)
{
    uint64_t number = facts->random;
    if (!filter->ignores_id)
        (void)read_id(facts, &number);
    return number % 1000000 < filter->value;
}

uint32_t px_log_grpc_status(const struct px_log_facts *facts, bool *ret_is_known)
{
    const struct lt_headers *const heads[] = {facts->trailers, facts->response};
    *ret_is_known = true;
    for (size_t i = 0; i < LT_ARRAY_LEN(heads); i++) {
        lt_str text = heads[i] == NULL ? LT_STR_NULL : lt_headers_value(heads[i], LT_H_GRPC_STATUS);
        uint64_t number = 0;
        if (text.len > 0)
            return lt_str_to_u64(text, &number) == LT_OK && number <= UINT32_MAX ? (uint32_t)number
                                                                                 : LT_GRPC_UNKNOWN;
    }
    *ret_is_known = facts->code != 0;
    return facts->code != 0 ? (uint32_t)lt_grpc_code_of_http(facts->code) : LT_GRPC_UNKNOWN;
}

static bool grpc_fits(const struct px_log_filter *filter, const struct px_log_facts *facts)
{
    bool is_known;
    uint32_t status = px_log_grpc_status(facts, &is_known);
    bool is_in = status < 64 && (filter->set >> status & 1) != 0;
    return is_in != filter->excludes;
}

static bool header_fits(const struct px_log_filter *filter, const struct px_log_facts *facts)
{
    struct px_request_facts request = {.method = facts->method,
                                       .scheme = facts->scheme,
                                       .authority = facts->authority,
                                       .path = facts->path,
                                       .headers = facts->request};
    return facts->request != NULL && px_header_matches(filter->header, &request);
}

/* Envoy: a matcher's `invert` counts for nothing here. */
static bool metadata_fits(const struct px_log_filter *filter, const struct px_log_facts *facts)
{
    const struct px_meta_match *match = filter->meta;
    const struct lt_doc *node = match != NULL ? px_meta_find(facts->meta, match->filter) : NULL;
    for (size_t i = 0; node != NULL && i < match->depth; i++)
        node = lt_doc_find(node, match->path[i]);
    return node == NULL ? filter->match_missing : px_value_matches(&match->value, node);
}

static bool part_fits(const struct px_log_filter *filter, const struct px_log_facts *facts)
{
    switch (filter->kind) {
    case PX_LOG_IF_STATUS: return compares(filter->op, facts->code, filter->value);
    case PX_LOG_IF_DURATION:
        return compares(filter->op, facts->duration_ns / LT_NS_PER_MS, filter->value);
    case PX_LOG_IF_NOT_HEALTH_CHECK: return true;
    case PX_LOG_IF_TRACED: return facts->is_traced;
    case PX_LOG_IF_RANDOM: return is_sampled(filter, facts);
    case PX_LOG_IF_HEADER: return header_fits(filter, facts);
    case PX_LOG_IF_FLAG:
        return filter->set == 0 ? facts->flags != 0 : (facts->flags & filter->set) != 0;
    case PX_LOG_IF_GRPC: return grpc_fits(filter, facts);
    case PX_LOG_IF_METADATA: return metadata_fits(filter, facts);
    case PX_LOG_IF_TYPE: return ((filter->set >> facts->type & 1) != 0) != filter->excludes;
    case PX_LOG_IF_ALL:
    case PX_LOG_IF_ANY: break;
    }
    return false;
}

/* As deep as PX_LOG_FILTER_DEPTH_MAX. */
bool px_log_filter_takes(const struct px_log_filter *filter, const struct px_log_facts *facts)
{
    bool is_all = filter->kind == PX_LOG_IF_ALL;
    if (!is_all && filter->kind != PX_LOG_IF_ANY)
        return part_fits(filter, facts);
    for (size_t i = 0; i < filter->part_count; i++) {
        if (px_log_filter_takes(&filter->parts[i], facts) != is_all)
            return !is_all;
    }
    return is_all;
}
