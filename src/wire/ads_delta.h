/*
 * wire/ads_delta.h - private to wire/ads*.c: field numbers of the delta protocol, of both sides.
 * envoy.service.discovery.v3.DeltaDiscoveryRequest, DeltaDiscoveryResponse; google.rpc.Status.
 */
#ifndef LT_WIRE_ADS_DELTA_H
#define LT_WIRE_ADS_DELTA_H

enum {
    REQUEST_NODE = 1,
    REQUEST_TYPE_URL = 2,
    REQUEST_SUBSCRIBE = 3,
    REQUEST_UNSUBSCRIBE = 4,
    REQUEST_INITIAL_VERSIONS = 5,
    REQUEST_NONCE = 6,
    REQUEST_ERROR = 7,
    STATUS_CODE = 1,
    STATUS_MESSAGE = 2,
    RESPONSE_SYSTEM_VERSION = 1,
    RESPONSE_RESOURCE = 2,
    RESPONSE_TYPE_URL = 4,
    RESPONSE_NONCE = 5,
    RESPONSE_REMOVED = 6,
    RESPONSE_CONTROL_PLANE = 7,
};

#endif
