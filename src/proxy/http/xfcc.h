/*
 * proxy/http/xfcc.h - x-forwarded-client-cert.
 */
#ifndef LT_PROXY_HTTP_XFCC_H
#define LT_PROXY_HTTP_XFCC_H

#include "proxy/http/request.h"

/* As the connection manager is configured: taken out, left, set, or another element appended. */
LT_MUST lt_rc px_xfcc_forward(struct px_request *request, struct lt_headers *headers);

#endif
