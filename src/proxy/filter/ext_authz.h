/*
 * proxy/filter/ext_authz.h - external authorization: what a configuration says, what a server is
 * asked, and what it answers. Semantics: envoy.extensions.filters.{http,network}.ext_authz.
 *
 *   compile/ext_authz.c   configuration
 *   authz_request.c    facts of a request or connection to a CheckRequest
 *   authz_answer.c     a CheckResponse, or a response of HTTP, to px_authz_answer
 *   authz_call.c       the call through the proxy's clusters
 *   ext_authz.c, net_ext_authz.c   the steps
 */
#ifndef LT_PROXY_FILTER_EXT_AUTHZ_H
#define LT_PROXY_FILTER_EXT_AUTHZ_H

#include "proxy/conf/conf.h"
#include "proxy/conf/stat.h"
#include "proxy/http/inside.h"
#include "wire/doc.h"

struct px_conn;
struct px_worker;
struct px_request;

/* --- configuration --- */

/* envoy.type.matcher.v3.ListStringMatcher; is_set: the list is there, if empty. */
struct px_texts {
    const struct px_string_match *items;
    size_t count;
    bool is_set;
};

struct px_authz_service {
    bool is_grpc;
    lt_str cluster, scheme, authority; /* HTTP: the client's authority is used */
    lt_str path_prefix, path_override;
    uint64_t timeout_ms;
    const struct px_header_edit *headers; /* to the server; only name, value, format */
    size_t header_count;
    const struct px_retry *retry; /* NULL: none */
    /* HTTP: which headers of the answer go where */
    struct px_texts to_host, to_host_added, to_client, to_client_on_success, to_metadata;
};

struct px_authz_body {
    uint32_t bytes_max;
    bool allows_partial, as_bytes;
};

/* envoy.config.common.mutation_rules.v3.HeaderMutationRules */
struct px_mutation_rules {
    bool allows_routing, allows_envoy, disallows_system, disallows_all, is_error;
    const struct lt_regex *allow, *disallow;
};

typedef enum {
    PX_AUTHZ_STAT_OK,
    PX_AUTHZ_STAT_DENIED,
    PX_AUTHZ_STAT_ERROR,
    PX_AUTHZ_STAT_DISABLED,
    PX_AUTHZ_STAT_FAILURE_ALLOWED,
    PX_AUTHZ_STAT_INVALID,
    PX_AUTHZ_STAT_IGNORED_METADATA,
    PX_AUTHZ_STAT_SHADOW_DENIED,
    PX_AUTHZ_STATS,
} px_authz_stat;

struct px_authz_conf {
    struct px_authz_service service;
    const struct px_authz_body *body; /* NULL: none is sent */
    bool failure_allows, failure_adds_header, clears_route, denies_when_off, is_shadow;
    uint32_t error_code; /* status_on_error */
    uint32_t enabled_ppm;
    const struct px_meta_match *enabled_meta; /* NULL: always */
    const lt_str *namespaces;                 /* of metadata that is sent */
    size_t namespace_count;
    bool sends_cert, sends_tls, sends_raw_headers, takes_metadata;
    struct px_texts allowed, disallowed;   /* of the client's headers */
    const struct px_mutation_rules *rules; /* NULL: anything goes */
    uint32_t denied_body_max;              /* UINT32_MAX: as it comes */
    lt_str stat_prefix;                    /* "" or "name." */
    struct px_stat stats[PX_AUTHZ_STATS];
    struct px_stat total; /* of connections */
};

struct px_authz_context {
    lt_str key, value;
};

struct px_authz_route {
    bool is_off;
    const struct px_authz_context *contexts;
    size_t context_count;
    bool has_no_body;
    const struct px_authz_body *body;       /* NULL: the filter's */
    const struct px_authz_service *service; /* NULL: the filter's */
};

/* --- asking --- */

/* What the answer does to the request, or the reply. */
typedef enum {
    PX_AUTHZ_SET,
    PX_AUTHZ_ADD,
    PX_AUTHZ_APPEND, /* to what is there, behind a comma; else nothing */
    PX_AUTHZ_SET_IF_THERE,
    PX_AUTHZ_ADD_IF_ABSENT,
} px_authz_how;

struct px_authz_edit {
    lt_str name, value;
    px_authz_how how;
};

struct px_authz_edits {
    struct px_authz_edit *items;
    size_t count;
};

typedef enum { PX_AUTHZ_OK, PX_AUTHZ_DENIED, PX_AUTHZ_ERROR } px_authz_result;

/* Everything lives in the arena of whom it was made for. */
struct px_authz_answer {
    px_authz_result result;
    uint32_t code;                /* of the reply; 0: nothing was said */
    struct px_authz_edits client; /* fields of the reply */
    lt_str body;
    struct px_authz_edits host; /* OK: what the request's head gets ... */
    const lt_str *removed;
    size_t removed_count;
    struct px_authz_edits query;
    const lt_str *query_removed;
    size_t query_removed_count;
    struct px_authz_edits response; /* ... and the response's */
    const struct lt_doc *metadata;  /* NULL: none */
    bool is_invalid;                /* names or values that no head may hold */
};

struct px_authz_ask {
    const struct px_authz_conf *conf;
    const struct px_authz_service *service;
    const struct px_authz_body *body; /* NULL: none */
    lt_str body_bytes;                /* as much of it as is sent */
    bool is_partial;
    const struct px_authz_context *contexts;
    size_t context_count;
    struct px_request *request; /* NULL: about a connection */
    struct px_conn *conn;
    struct lt_arena *arena;
};

struct px_authz_call;
/* Once, unless it is cancelled. */
typedef void px_authz_fn(struct px_authz_call *call);

/* Part of whoever asks; stays in place while it is under way. */
struct px_authz_call {
    struct px_fetch *fetch; /* NULL: none is under way */
    struct lt_arena *arena;
    const struct px_authz_service *service;
    struct px_authz_answer answer;
    px_authz_fn *on_answer;
};

void px_authz_call_start(struct px_authz_call *call, struct px_worker *worker,
                         const struct px_authz_ask *ask, px_authz_fn *on_answer);
void px_authz_call_cancel(struct px_authz_call *call);

/* --- parts, for tests --- */

/* The CheckRequest, packed, in ask->arena. */
lt_str px_authz_request(const struct px_authz_ask *ask);
/* message: a CheckResponse. What cannot be read is an error. */
void px_authz_read_grpc(struct lt_arena *arena, lt_str message, struct px_authz_answer *answer);
void px_authz_read_http(struct lt_arena *arena, const struct px_authz_service *service,
                        const struct px_fetch_result *result, struct px_authz_answer *answer);
/* Names of headers are compared in lower case; arena: for those that are not. */
bool px_texts_match(const struct px_texts *texts, lt_str name, struct lt_arena *arena);
/* May an answer change this header? */
bool px_mutation_allowed(const struct px_mutation_rules *rules, lt_str name);

#endif
