/*
 * proxy/told/attributes.h - what expressions (cel.h) may ask of a request or a connection: Envoy's
 * attributes, and Istio's peers.
 */
#ifndef LT_PROXY_TOLD_ATTRIBUTES_H
#define LT_PROXY_TOLD_ATTRIBUTES_H

#include "proxy/conf/cel.h"
#include "proxy/http/request.h"

struct px_attributes {
    const struct px_conn *conn;
    struct px_request *request; /* NULL: of a connection */
    const struct px_peer *peer; /* NULL: not known */
    bool has_facts;             /* gathered when something asks for them */
    struct px_log_facts facts;
    char text[PX_FACTS_TEXTS][LT_ADDR_TEXT_MAX];
};

/* px_cel_find_fn; ctx is a px_attributes. */
bool px_attributes_find(void *ctx, const lt_str *path, size_t count,
                        struct px_cel_value *ret_value);

#endif
