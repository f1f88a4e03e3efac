/*
 * proxy/told/trace.c - trace contexts.
 * Start at: px_trace_start().
 */
#include "proxy/told/trace.h"

#include <stdio.h>
#include <string.h>

#include "proxy/http/request.h"
#include "proxy/run/run.h"

enum { REASON_AT = 14, REQUEST_ID_LEN = 36, SAMPLING_STEPS = 10000, PPM_PER_STEP = 100 };

/* --- reading --- */

static bool is_hex(lt_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f') && !(c >= 'A' && c <= 'F'))
            return false;
    }
    return true;
}

static bool is_zero(lt_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '0')
            return false;
    }
    return true;
}

static void keep(char *to, lt_str id)
{
    memcpy(to, id.ptr, id.len);
    to[id.len] = '\0';
}

static bool is_trace_id(lt_str id)
{
    return (id.len == PX_TRACE_ID_MAX || id.len == PX_SPAN_ID_MAX) && is_hex(id);
}

static bool is_span_id(lt_str id)
{
    return id.len == PX_SPAN_ID_MAX && is_hex(id);
}

static void decide(struct px_trace *trace, bool is_sampled)
{
    trace->has_decision = true;
    trace->is_sampled = is_sampled;
}

/* "0", "1" or "d"; false: none of them. */
static bool read_flag(lt_str text, struct px_trace *trace)
{
    if (text.len != 1 || strchr("01d", text.ptr[0]) == NULL)
        return false;
    decide(trace, text.ptr[0] != '0');
    return true;
}

/* "<trace>-<span>[-<flag>[-<parent>]]", or a flag alone. */
static void read_single(lt_str text, struct px_trace *trace)
{
    lt_str trace_id, span_id, flag, parent;
    trace->is_single = true;
    if (text.len == 1) {
        trace->is_broken = !read_flag(text, trace);
        return;
    }
    bool is_good = lt_str_split(&text, '-', &trace_id) && lt_str_split(&text, '-', &span_id) &&
                   is_trace_id(trace_id) && is_span_id(span_id);
    if (is_good && lt_str_split(&text, '-', &flag))
        is_good = read_flag(flag, trace);
    if (is_good && lt_str_split(&text, '-', &parent)) {
        is_good = is_span_id(parent) && text.len == 0;
        if (is_good)
            keep(trace->parent_id, parent);
    }
    trace->is_broken = !is_good;
    trace->has_context = is_good;
    if (!is_good)
        return;
    keep(trace->trace_id, trace_id);
    keep(trace->span_id, span_id);
}

static void read_multi(const struct lt_headers *headers, struct px_trace *trace)
{
    lt_str trace_id = lt_headers_value(headers, LT_H_X_B3_TRACEID);
    lt_str span_id = lt_headers_value(headers, LT_H_X_B3_SPANID);
    lt_str parent = lt_headers_value(headers, LT_H_X_B3_PARENTSPANID);
    lt_str sampled = lt_headers_value(headers, LT_H_X_B3_SAMPLED);
    if (sampled.len > 0)
        decide(trace, lt_str_eqz(sampled, "1") || lt_str_case_eq(sampled, LT_STR("true")));
    if (trace_id.len == 0 || span_id.len == 0)
        return;
    trace->is_broken = !is_trace_id(trace_id) || !is_span_id(span_id) ||
                       (parent.len > 0 && !is_span_id(parent));
    if (trace->is_broken)
        return;
    trace->has_context = true;
    keep(trace->trace_id, trace_id);
    keep(trace->span_id, span_id);
    if (parent.len > 0)
        keep(trace->parent_id, parent);
}

void px_trace_read_b3(const struct lt_headers *headers, struct px_trace *trace)
{
    lt_str single = lt_headers_value(headers, LT_H_B3);
    *trace = (struct px_trace){0};
    if (single.len > 0)
        read_single(single, trace);
    else
        read_multi(headers, trace);
}

/* "00-<trace>-<span>-<flags>" (W3C Trace Context, version 00). */
void px_trace_read_w3c(lt_str text, struct px_trace *trace)
{
    enum { W3C_LEN = 55 };
    lt_str version, trace_id, span_id, flags, rest = text;
    *trace = (struct px_trace){0};
    if (text.len == 0)
        return;
    bool is_good = text.len == W3C_LEN && lt_str_split(&rest, '-', &version) &&
                   lt_str_split(&rest, '-', &trace_id) && lt_str_split(&rest, '-', &span_id) &&
                   lt_str_split(&rest, '-', &flags) && version.len == 2 && is_hex(version) &&
                   trace_id.len == PX_TRACE_ID_MAX && is_hex(trace_id) && !is_zero(trace_id) &&
                   is_span_id(span_id) && !is_zero(span_id) && flags.len == 2 && is_hex(flags);
    trace->is_broken = !is_good;
    if (!is_good)
        return;
    trace->has_context = true;
    keep(trace->trace_id, trace_id);
    keep(trace->span_id, span_id);
    decide(trace,
           (flags.ptr[1] & 1) != 0); /* odd digits, of numbers and of letters of both cases */
    if (flags.ptr[1] > '9')
        decide(trace, (flags.ptr[1] & 1) == 0); /* 'b' is 11, and its code is even */
}

/* --- deciding --- */

/* A random choice of so many in a million; in steps of a hundredth of a percent, as Envoy's. */
static bool takes(uint32_t ppm, uint64_t number)
{
    return number % SAMPLING_STEPS < ppm / PPM_PER_STEP;
}

/* The first eight digits of an id decide alike in each proxy on the way. */
static bool read_number(lt_str id, uint64_t *ret_number)
{
    if (id.len != REQUEST_ID_LEN || !is_hex(lt_str_slice(id, 0, 8)))
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < 8; i++) {
        char c = id.ptr[i];
        number = number << 4 | (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    *ret_number = number;
    return true;
}

/* Traced by whom: the digit of the id. */
static char reason_of(const struct px_tracing_conf *conf, lt_str id)
{
    char digit = id.len == REQUEST_ID_LEN ? id.ptr[REASON_AT] : '4';
    bool says = !conf->no_reason_in_id && (digit == '9' || digit == 'a' || digit == 'b');
    return says ? digit : '4';
}

/* What x-request-id says afterwards; '4': not traced. */
static char choose(struct px_request *request, lt_str id, uint64_t number)
{
    const struct px_tracing_conf *conf = request->hcm->tracing;
    const struct lt_headers *headers = &request->head.headers;
    uint64_t random = conf->ignores_id_for_sampling ? request->random : number;
    char reason = reason_of(conf, id);
    if (reason == '4') {
        if (lt_headers_value_of(headers, LT_STR("x-client-trace-id")).len > 0 &&
            takes(conf->client_ppm, request->random >> 8))
            reason = 'b';
        else if (takes(conf->random_ppm, random))
            reason = '9';
    }
    return reason != '4' && !takes(conf->overall_ppm, random) ? '4' : reason;
}

static lt_rc mark_id(struct px_request *request, char reason)
{
    lt_str id = lt_headers_value(&request->head.headers, LT_H_X_REQUEST_ID);
    if (request->hcm->tracing->no_reason_in_id || id.ptr[REASON_AT] == reason)
        return LT_OK;
    char *copy = lt_arena_bytes(request->arena, id.len);
    memcpy(copy, id.ptr, id.len);
    copy[REASON_AT] = reason;
    return lt_headers_set_id(&request->head.headers, LT_H_X_REQUEST_ID, lt_str_make(copy, id.len));
}

/* --- the span that goes on --- */

static void make_id(struct px_request *request, char out[PX_SPAN_ID_MAX + 1])
{
    uint64_t id = 0;
    while (id == 0)
        id = lt_prng_next(&request->worker->prng);
    snprintf(out, PX_SPAN_ID_MAX + 1, "%016llx", (unsigned long long)id);
}

static void make_child(struct px_request *request, struct px_trace *trace)
{
    memcpy(trace->parent_id, trace->span_id, sizeof(trace->parent_id));
    make_id(request, trace->span_id);
}

/* B3: the first span has the trace's id, or its lower half. W3C: one of its own. */
static void make_first(struct px_request *request, struct px_trace *trace)
{
    const struct px_tracing_conf *conf = request->hcm->tracing;
    bool is_b3 = conf->tracer == PX_TRACER_B3;
    char low[PX_SPAN_ID_MAX + 1];
    trace->trace_id[0] = trace->parent_id[0] = '\0';
    make_id(request, low);
    make_id(request, trace->span_id);
    if (!is_b3 || conf->has_long_ids)
        make_id(request, trace->trace_id);
    memcpy(trace->trace_id + strlen(trace->trace_id), low, sizeof(low));
    if (is_b3)
        memcpy(trace->span_id, low, sizeof(low));
}

static void read_context(struct px_request *request, struct px_trace *trace)
{
    const struct px_tracing_conf *conf = request->hcm->tracing;
    const struct lt_headers *headers = &request->head.headers;
    lt_str traceparent = lt_headers_value(headers, LT_H_TRACEPARENT);
    if (conf->tracer == PX_TRACER_W3C) {
        px_trace_read_w3c(traceparent, trace);
        return;
    }
    px_trace_read_b3(headers, trace);
    if (!conf->also_w3c || trace->has_context || trace->is_broken || trace->has_decision)
        return;
    px_trace_read_w3c(traceparent, trace);
    trace->is_broken = false; /* it is only looked at when there is nothing else */
}

static void make_span(struct px_request *request)
{
    const struct px_tracing_conf *conf = request->hcm->tracing;
    struct px_trace *trace = lt_arena_make(request->arena, struct px_trace);
    read_context(request, trace);
    request->trace = trace;
    if (trace->is_broken)
        return;
    bool is_shared = conf->shares_spans && conf->tracer == PX_TRACER_B3;
    if (!trace->has_context)
        make_first(request, trace);
    else if (!is_shared)
        make_child(request, trace);
    if (conf->spawns_span)
        make_child(request, trace);
    if (!trace->has_decision)
        trace->is_sampled = request->is_traced;
    else if (conf->tracer == PX_TRACER_W3C)
        trace->is_sampled &= request->is_traced;
}

lt_rc px_trace_start(struct px_request *request)
{
    const struct px_tracing_conf *conf = request->hcm->tracing;
    lt_str id = lt_headers_value(&request->head.headers, LT_H_X_REQUEST_ID);
    uint64_t number = 0;
    char reason = '4';
    if (read_number(id, &number)) {
        reason = choose(request, id, number);
        LT_TRY(mark_id(request, reason));
    } else if (id.len == 0 && conf->ignores_id_for_sampling) {
        reason = choose(request, id, 0);
    }
    request->is_traced = reason != '4';
    if (conf->tracer != PX_TRACER_NONE)
        make_span(request);
    return LT_OK;
}

/* --- writing --- */

static lt_rc put_w3c(struct px_request *request, struct lt_headers *headers)
{
    const struct px_trace *trace = request->trace;
    bool is_short = strlen(trace->trace_id) == PX_SPAN_ID_MAX;
    lt_str value = lt_arena_printf(request->arena, "00-%s%s-%s-%s",
                                   is_short ? "0000000000000000" : "", trace->trace_id,
                                   trace->span_id, trace->is_sampled ? "01" : "00");
    return lt_headers_set_id(headers, LT_H_TRACEPARENT, value);
}

static lt_rc put_single(struct px_request *request, struct lt_headers *headers)
{
    const struct px_trace *trace = request->trace;
    bool has_parent = trace->parent_id[0] != '\0';
    lt_str value = lt_arena_printf(request->arena, "%s-%s-%s%s%s", trace->trace_id, trace->span_id,
                                   trace->is_sampled ? "1" : "0", has_parent ? "-" : "",
                                   trace->parent_id);
    return lt_headers_set_id(headers, LT_H_B3, value);
}

static lt_rc put_multi(struct px_request *request, struct lt_headers *headers)
{
    const struct px_trace *trace = request->trace;
    LT_TRY(lt_headers_set_id(headers, LT_H_X_B3_TRACEID, lt_str_of(trace->trace_id)));
    LT_TRY(lt_headers_set_id(headers, LT_H_X_B3_SPANID, lt_str_of(trace->span_id)));
    if (trace->parent_id[0] != '\0')
        LT_TRY(lt_headers_set_id(headers, LT_H_X_B3_PARENTSPANID, lt_str_of(trace->parent_id)));
    return lt_headers_set_id(headers, LT_H_X_B3_SAMPLED,
                             trace->is_sampled ? LT_STR("1") : LT_STR("0"));
}

lt_rc px_trace_inject(struct px_request *request, struct lt_headers *headers)
{
    const struct px_tracing_conf *conf = request->hcm->tracing;
    if (request->trace == NULL || request->trace->is_broken || conf->no_propagation)
        return LT_OK;
    if (conf->tracer == PX_TRACER_W3C) {
        LT_TRY(put_w3c(request, headers));
        return lt_headers_find(headers, LT_H_TRACESTATE) != NULL
                   ? LT_OK
                   : lt_headers_add_id(headers, LT_H_TRACESTATE, LT_STR(""));
    }
    LT_TRY(request->trace->is_single ? put_single(request, headers) : put_multi(request, headers));
    return conf->also_w3c ? put_w3c(request, headers) : LT_OK;
}
