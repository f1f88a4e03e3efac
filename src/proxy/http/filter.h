/*
 * proxy/http/filter.h - the steps of a request: HTTP filters as Envoy names them, in the order of
 * the configuration. The last is the router, which ends the way in.
 *
 * A filter is one file with one table of functions. It may let the request go on, answer it
 * (px_request_reply), or wait and call px_filters_resume() later. On the way out responses of hosts
 * and replies of our own alike pass on_response, last filter first.
 */
#ifndef LT_PROXY_HTTP_FILTER_H
#define LT_PROXY_HTTP_FILTER_H

#include "base/str.h"
#include "proxy/conf/conf.h"

struct px_request;
struct px_dir;

typedef enum {
    PX_GO,   /* to the next step */
    PX_STAY, /* PX_RQ_FILTER: on_request is called again by px_filters_resume(), or when more of
                the body was read if hold_bytes_max is set */
    PX_STOP, /* answered, or gone */
} px_verdict;

struct px_filter_ops {
    const char *name; /* "envoy.filters.http.cors" */
    /* NULL: nothing to do on the way in. */
    px_verdict (*on_request)(struct px_request *request, const struct px_http_filter *filter);
    /* The head that goes down (request->rhead) may be changed. NULL: nothing to do. */
    void (*on_response)(struct px_request *request, const struct px_http_filter *filter);
    /*
     * Each piece of body as it passes; only looked at, and only if on_request has set
     * request->wants_pieces. NULL: no interest.
     */
    void (*on_piece)(struct px_request *request, const struct px_http_filter *filter,
                     const struct px_dir *dir, lt_str piece);
    /* The request ends, whatever way: what was started for it must stop. NULL: nothing to do. */
    void (*on_end)(struct px_request *request, const struct px_http_filter *filter);
};

extern const struct px_filter_ops px_filter_buffer, px_filter_cors, px_filter_ext_authz,
    px_filter_fault, px_filter_grpc_stats, px_filter_header_mutation, px_filter_jwt_authn,
    px_filter_local_limit, px_filter_missing, px_filter_on_demand;

/* Never NULL. */
const struct px_filter_ops *px_filter_ops_of(px_http_filter_kind kind);
/* Takes the steps from the first on. */
void px_filters_start(struct px_request *request);
/* As if none was taken: the next run takes them from the first on. */
void px_filters_again(struct px_request *request);
/* PX_RQ_FILTER only: the step that waits is asked again; then the request runs. */
void px_filters_resume(struct px_request *request);
/* In PX_RQ_FILTER, when more of the body has come. */
void px_filters_run(struct px_request *request);
void px_filters_on_response(struct px_request *request);
void px_filters_on_piece(struct px_request *request, const struct px_dir *dir, lt_str piece);
void px_filters_on_end(struct px_request *request);

/* Zeroed memory of the request for this filter, the same each time. */
void *px_filter_state(struct px_request *request, const struct px_http_filter *filter, size_t size);

enum { PX_FILTER_LEVELS = 4 };
/*
 * The most specific configuration that the route has for this filter (weighted cluster, route,
 * virtual host, route configuration), or NULL.
 */
const void *px_filter_route_conf(const struct px_request *request,
                                 const struct px_http_filter *filter);
/* All of them, the most specific first; returns how many. */
size_t px_filter_route_confs(const struct px_request *request, const struct px_http_filter *filter,
                             const void *ret_confs[PX_FILTER_LEVELS]);

#endif
