/*
 * proxy/told/trace.h - trace contexts on their way through: whether a request is traced, and the
 * headers that say so to the next (W3C, B3). Spans are not reported yet (step 2b).
 * Rules: Envoy's HttpConnectionManager.tracing, its UUID request id extension and its tracers.
 */
#ifndef LT_PROXY_TOLD_TRACE_H
#define LT_PROXY_TOLD_TRACE_H

#include "http/headers.h"
#include "proxy/conf/conf.h"

struct px_request;

typedef enum { PX_TRACER_NONE, PX_TRACER_B3, PX_TRACER_W3C } px_tracer;

/* HttpConnectionManager.tracing */
struct px_tracing_conf {
    px_tracer tracer;
    bool also_w3c;     /* B3: traceparent, too */
    bool has_long_ids; /* B3: of 128 bits */
    bool shares_spans; /* B3, inbound: the client's span is ours */
    bool spawns_span;  /* one more for the host */
    bool no_propagation;
    bool ignores_id_for_sampling;                 /* use_request_id_for_trace_sampling: false */
    bool no_reason_in_id;                         /* pack_trace_reason: false */
    uint32_t client_ppm, random_ppm, overall_ppm; /* of a million */
};

enum { PX_TRACE_ID_MAX = 32, PX_SPAN_ID_MAX = 16 };

/* What came, or what goes on. */
struct px_trace {
    char trace_id[PX_TRACE_ID_MAX + 1], span_id[PX_SPAN_ID_MAX + 1], parent_id[PX_SPAN_ID_MAX + 1];
    bool has_context; /* there was a trace, and a span in it */
    bool has_decision, is_sampled;
    bool is_single; /* of the one header "b3" */
    bool is_broken; /* what came is no context: it goes on as it is */
};

/* Decides, marks x-request-id, and keeps what is to be told in request->trace. */
LT_MUST lt_rc px_trace_start(struct px_request *request);
/* Headers for the host. */
LT_MUST lt_rc px_trace_inject(struct px_request *request, struct lt_headers *headers);

/* --- for tests --- */
void px_trace_read_b3(const struct lt_headers *headers, struct px_trace *trace);
void px_trace_read_w3c(lt_str traceparent, struct px_trace *trace);

#endif
