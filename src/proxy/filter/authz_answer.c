/*
 * proxy/filter/authz_answer.c - what an external authorization server has answered, over gRPC or
 * HTTP, as one px_authz_answer. Names and values that no head may hold make it invalid as a whole:
 * a server must not be talked into splitting heads.
 * Start at: px_authz_read_grpc(), px_authz_read_http().
 */
#include "http/http.h"
#include "proxy/conf/route_match.h"
#include "proxy/filter/ext_authz.h"
#include "wire/pb.h"
#include "wire/proto/auth.pb-c.h"
#include "wire/struct.h"

enum { METADATA_BYTES_MAX = 64 * 1024, METADATA_NODES_MAX = 10000, METADATA_DEPTH_MAX = 32 };

/* --- matching --- */

static lt_str lower_name(struct lt_arena *arena, lt_str name)
{
    lt_str copy = lt_arena_str(arena, name);
    for (size_t i = 0; i < copy.len; i++) {
        char *c = (char *)&copy.ptr[i];
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    return copy;
}

static bool matches_lower(const struct px_texts *texts, lt_str name)
{
    for (size_t i = 0; i < texts->count; i++) {
        if (px_string_matches(&texts->items[i], name))
            return true;
    }
    return false;
}

bool px_texts_match(const struct px_texts *texts, lt_str name, struct lt_arena *arena)
{
    return matches_lower(texts, lower_name(arena, name));
}

static bool is_routing(lt_str name)
{
    return lt_str_case_eqz(name, "host") || lt_str_case_eqz(name, ":authority") ||
           lt_str_case_eqz(name, ":scheme") || lt_str_case_eqz(name, ":method");
}

bool px_mutation_allowed(const struct px_mutation_rules *rules, lt_str name)
{
    static const lt_str envoy = {"x-envoy-", 8};
    if (rules == NULL)
        return true;
    if (rules->disallows_all ||
        (rules->disallow != NULL && lt_regex_matches(rules->disallow, name)))
        return false;
    if (rules->allow != NULL && lt_regex_matches(rules->allow, name))
        return true;
    if (!rules->allows_envoy &&
        lt_str_case_eq(lt_str_slice(name, 0, LT_MIN(name.len, envoy.len)), envoy))
        return false;
    if (rules->disallows_system && lt_str_starts(name, LT_STR(":")))
        return false;
    return rules->allows_routing || !is_routing(name);
}

/* --- edits --- */

static bool is_pseudo(lt_str name)
{
    return lt_str_eqz(name, ":authority") || lt_str_eqz(name, ":path") ||
           lt_str_eqz(name, ":method") || lt_str_eqz(name, ":scheme");
}

/* What frames a message is not a server's to say. */
static bool is_framing(lt_str name)
{
    static const char *const names[] = {"content-length",   "transfer-encoding",
                                        "connection",       "keep-alive",
                                        "proxy-connection", "te",
                                        "trailer",          "upgrade"};
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++) {
        if (lt_str_case_eqz(name, names[i]))
            return true;
    }
    return false;
}

static void add_edit(struct px_authz_answer *answer, struct px_authz_edits *edits, lt_str name,
                     lt_str value, px_authz_how how)
{
    if (!(lt_http_is_token(name) || is_pseudo(name)) || !lt_http_is_field_value(value)) {
        answer->is_invalid = true;
        return;
    }
    if (!is_framing(name))
        edits->items[edits->count++] = (struct px_authz_edit){name, value, how};
}

/* A message's texts live as long as its arena: nothing is copied. */
static lt_str value_of(const Xds__HeaderValue *header)
{
    if (header->has_raw_value && header->raw_value.len > 0)
        return lt_pb_bytes(header->raw_value);
    return lt_str_of(header->value != NULL ? header->value : "");
}

/* Of the request's head and of a denial Envoy asks for `append` alone: what is there gets more. */
static px_authz_how how_of_host(const Xds__HeaderValueOption *in)
{
    bool appends = in->append != NULL && in->append->has_value && in->append->value;
    return appends ? PX_AUTHZ_APPEND : PX_AUTHZ_SET;
}

static px_authz_how how_of_response(const Xds__HeaderValueOption *in)
{
    if (in->append != NULL)
        return in->append->has_value && in->append->value ? PX_AUTHZ_ADD : PX_AUTHZ_SET;
    switch (in->has_append_action ? in->append_action : 0) {
    case XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__ADD_IF_ABSENT:
        return PX_AUTHZ_ADD_IF_ABSENT;
    case XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD:
        return PX_AUTHZ_SET;
    case XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS:
        return PX_AUTHZ_SET_IF_THERE;
    default: return PX_AUTHZ_ADD;
    }
}

static void read_edits(struct lt_arena *arena, struct px_authz_answer *answer,
                       Xds__HeaderValueOption *const *in, size_t count,
                       px_authz_how (*how)(const Xds__HeaderValueOption *in),
                       struct px_authz_edits *edits)
{
    edits->items = lt_arena_make_n(arena, struct px_authz_edit, count);
    for (size_t i = 0; i < count; i++) {
        if (in[i]->header != NULL && in[i]->header->key != NULL)
            add_edit(answer, edits, lower_name(arena, lt_str_of(in[i]->header->key)),
                     value_of(in[i]->header), how(in[i]));
    }
}

static size_t read_names(struct lt_arena *arena, const char *const *in, size_t count,
                         const lt_str **ret_names)
{
    lt_str *names = lt_arena_make_n(arena, lt_str, count);
    for (size_t i = 0; i < count; i++)
        names[i] = lt_str_of(in[i]);
    *ret_names = names;
    return count;
}

/* --- gRPC --- */

static bool is_query_text(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; text != NULL && *c != '\0'; c++) {
        if (*c <= ' ' || *c >= 0x7f || *c == '#')
            return false;
    }
    return text != NULL;
}

static void read_query(struct lt_arena *arena, const Xds__OkHttpResponse *in,
                       struct px_authz_answer *answer)
{
    struct px_authz_edits *query = &answer->query;
    query->items = lt_arena_make_n(arena, struct px_authz_edit, in->n_query_parameters_to_set);
    for (size_t i = 0; i < in->n_query_parameters_to_set; i++) {
        const Xds__QueryParameter *param = in->query_parameters_to_set[i];
        const char *value = param->value != NULL ? param->value : "";
        if (!is_query_text(param->key) || !is_query_text(value)) {
            answer->is_invalid = true;
            continue;
        }
        query->items[query->count++] = (struct px_authz_edit){lt_str_of(param->key),
                                                              lt_str_of(value), PX_AUTHZ_SET};
    }
    answer->query_removed_count = read_names(arena, in->query_parameters_to_remove,
                                             in->n_query_parameters_to_remove,
                                             &answer->query_removed);
}

static void read_ok(struct lt_arena *arena, const Xds__OkHttpResponse *in,
                    struct px_authz_answer *answer)
{
    read_edits(arena, answer, in->headers, in->n_headers, how_of_host, &answer->host);
    read_edits(arena, answer, in->response_headers_to_add, in->n_response_headers_to_add,
               how_of_response, &answer->response);
    answer->removed_count = read_names(arena, in->headers_to_remove, in->n_headers_to_remove,
                                       &answer->removed);
    read_query(arena, in, answer);
}

static void read_denied(struct lt_arena *arena, const Xds__DeniedHttpResponse *in,
                        struct px_authz_answer *answer)
{
    read_edits(arena, answer, in->headers, in->n_headers, how_of_host, &answer->client);
    answer->body = lt_str_of(in->body != NULL ? in->body : "");
    uint32_t code = in->status != NULL && in->status->has_code ? (uint32_t)in->status->code : 0;
    answer->code = code >= 200 && code <= 599 ? code : 0;
}

static void read_metadata(struct lt_arena *arena, const Pb__Struct *in,
                          struct px_authz_answer *answer)
{
    const struct lt_doc_limits limits = {METADATA_BYTES_MAX, METADATA_NODES_MAX,
                                         METADATA_DEPTH_MAX};
    struct lt_doc *doc = lt_arena_make(arena, struct lt_doc);
    if (in != NULL && lt_struct_to_doc(arena, in, &limits, doc, NULL) == LT_OK && doc->count > 0)
        answer->metadata = doc;
}

void px_authz_read_grpc(struct lt_arena *arena, lt_str message, struct px_authz_answer *answer)
{
    Xds__CheckResponse *in = NULL;
    *answer = (struct px_authz_answer){.result = PX_AUTHZ_ERROR};
    if (lt_pb_unpack(arena, &xds__check_response__descriptor, message, NULL, &in, NULL) != LT_OK)
        return;
    bool is_ok = in->status == NULL || !in->status->has_code || in->status->code == 0;
    answer->result = is_ok ? PX_AUTHZ_OK : PX_AUTHZ_DENIED;
    read_metadata(arena, in->dynamic_metadata, answer);
    switch (in->http_response_case) {
    case XDS__CHECK_RESPONSE__HTTP_RESPONSE_OK_RESPONSE:
        if (is_ok)
            read_ok(arena, in->ok_response, answer);
        break;
    case XDS__CHECK_RESPONSE__HTTP_RESPONSE_DENIED_RESPONSE:
        if (!is_ok)
            read_denied(arena, in->denied_response, answer);
        break;
    case XDS__CHECK_RESPONSE__HTTP_RESPONSE_ERROR_RESPONSE:
        if (is_ok)
            break;
        answer->result = PX_AUTHZ_ERROR;
        read_denied(arena, in->error_response, answer);
        break;
    default: break;
    }
}

/* --- HTTP --- */

/* Headers of the answer that a list names; NULL stands for those that always go to a client. */
static void pick(struct lt_arena *arena, const struct lt_headers *headers,
                 bool (*is_wanted)(const struct px_texts *texts, lt_str name),
                 const struct px_texts *texts, px_authz_how how, struct px_authz_answer *answer,
                 struct px_authz_edits *edits)
{
    if (edits->items == NULL)
        edits->items = lt_arena_make_n(arena, struct px_authz_edit, 2 * (size_t)headers->count);
    for (uint32_t i = 0; i < headers->count; i++) {
        lt_str name = lower_name(arena, headers->items[i].name);
        if (is_wanted(texts, name))
            add_edit(answer, edits, name, lt_arena_str(arena, headers->items[i].value), how);
    }
}

/* Without a list everything goes to the client; with one, besides, what it cannot do without. */
static bool is_for_client(const struct px_texts *texts, lt_str name)
{
    return !texts->is_set || lt_str_case_eqz(name, "www-authenticate") ||
           lt_str_case_eqz(name, "location") || lt_str_case_eqz(name, "proxy-authenticate") ||
           matches_lower(texts, name);
}

static void pick_metadata(struct lt_arena *arena, const struct px_texts *texts,
                          const struct lt_headers *headers, struct px_authz_answer *answer)
{
    struct lt_doc *doc = NULL;
    for (uint32_t i = 0; texts->is_set && i < headers->count; i++) {
        const struct lt_header *header = &headers->items[i];
        lt_str name = lower_name(arena, header->name);
        if (!matches_lower(texts, name) || !lt_str_is_utf8(header->value))
            continue;
        if (doc == NULL) {
            doc = lt_arena_make(arena, struct lt_doc);
            *doc = lt_doc_of_object();
        }
        lt_doc_set(arena, doc, name, lt_doc_of_str(lt_arena_str(arena, header->value)));
    }
    answer->metadata = doc;
}

static void pick_removed(struct lt_arena *arena, const struct lt_headers *headers,
                         struct px_authz_answer *answer)
{
    lt_str list = lt_headers_value_of(headers, LT_STR("x-envoy-auth-headers-to-remove"));
    lt_str rest = lt_arena_str(arena, list), name;
    size_t count = 1;
    for (size_t i = 0; i < rest.len; i++)
        count += rest.ptr[i] == ',';
    lt_str *names = lt_arena_make_n(arena, lt_str, count);
    while (lt_http_list_next(&rest, &name))
        names[answer->removed_count++] = name;
    answer->removed = names;
}

void px_authz_read_http(struct lt_arena *arena, const struct px_authz_service *service,
                        const struct px_fetch_result *result, struct px_authz_answer *answer)
{
    const struct lt_headers *headers = result->headers;
    *answer = (struct px_authz_answer){.result = PX_AUTHZ_ERROR};
    if (result->status == 0 || result->status >= 500)
        return;
    if (result->status == 200) {
        answer->result = PX_AUTHZ_OK;
        pick(arena, headers, matches_lower, &service->to_host, PX_AUTHZ_SET, answer, &answer->host);
        pick(arena, headers, matches_lower, &service->to_host_added, PX_AUTHZ_ADD, answer,
             &answer->host);
        pick(arena, headers, matches_lower, &service->to_client_on_success, PX_AUTHZ_ADD, answer,
             &answer->response);
        pick_removed(arena, headers, answer);
        pick_metadata(arena, &service->to_metadata, headers, answer);
        return;
    }
    answer->result = PX_AUTHZ_DENIED;
    answer->code = result->status;
    answer->body = lt_arena_str(arena, result->body);
    pick(arena, headers, is_for_client, &service->to_client, PX_AUTHZ_ADD, answer, &answer->client);
}
