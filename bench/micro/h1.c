/*
 * bench/micro/h1.c - what a head costs: parsing it, and writing it anew, in ns and TSC cycles.
 * Usage: bench_h1 [rounds]. For instruction counts run it under callgrind with two numbers of
 * rounds and take the difference: tools differ in what the start costs, not in the slope.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "http/h1.h"

static const struct {
    const char *name;
    const char *text;
    bool is_response;
} heads[] = {
    {"load generator",
     "GET /path?q=1 HTTP/1.1\r\nHost: echo.default.svc.cluster.local:8080\r\n"
     "User-Agent: wrk/4.2\r\nAccept: */*\r\n\r\n",
     false},
    {"sidecar to sidecar",
     "GET /productpage?u=normal HTTP/1.1\r\nHost: productpage.default.svc.cluster.local:9080\r\n"
     "User-Agent: curl/7.88.1\r\nAccept: */*\r\nX-Forwarded-Proto: http\r\n"
     "X-Request-Id: 6d4bd1a8-26fd-9a3c-b43c-2f6a4c2f8a3b\r\n"
     "X-Envoy-Attempt-Count: 1\r\nX-Forwarded-Client-Cert: By=spiffe://cluster.local/ns/default/sa/"
     "bookinfo-productpage;Hash=aa7d0b8c0f2fb5ab4f5b7d5bb0b1a1e5;Subject=\"\";URI=spiffe://"
     "cluster.local/ns/default/sa/sleep\r\nX-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7\r\n"
     "X-B3-SpanId: e457b5a2e4d86bd1\r\nX-B3-Sampled: 1\r\n\r\n",
     false},
    {"browser",
     "GET /static/app.js?v=20260801 HTTP/1.1\r\nHost: www.example.org\r\nConnection: keep-alive\r\n"
     "sec-ch-ua: \"Chromium\";v=\"126\", \"Not.A/Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n"
     "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/126.0.0.0 Safari/537.36\r\nsec-ch-ua-platform: \"Linux\"\r\nAccept: */*\r\n"
     "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n"
     "Referer: https://www.example.org/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
     "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nCookie: session=0123456789abcdef0123456789abcdef"
     "0123456789abcdef; theme=dark; consent=yes\r\nIf-None-Match: \"66a3f2b1-1d2c\"\r\n\r\n",
     false},
    {"response",
     "HTTP/1.1 200 OK\r\nServer: istio-envoy\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
     "Content-Type: text/html; charset=utf-8\r\nContent-Length: 4183\r\n"
     "X-Envoy-Upstream-Service-Time: 12\r\n\r\n",
     true},
};

struct span {
    uint64_t ns;
    uint64_t cycles;
};

static struct span now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    struct span span = {(uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec, 0};
#if defined(__x86_64__)
    span.cycles = __rdtsc();
#endif
    return span;
}

static void parse(lt_str text, bool is_response, struct lt_arena *arena, struct lt_http_head *head)
{
    struct lt_h1_parser parser;
    size_t used = 0;
    lt_arena_reset(arena);
    lt_h1_parser_init(&parser, is_response, NULL);
    lt_h1_head_init(head, arena, NULL);
    LT_ASSERT(lt_h1_parse_head(&parser, text, head, &used) == LT_OK && used == text.len);
}

static void write_head(const struct lt_http_head *head, bool is_response, struct lt_buf *out)
{
    struct lt_h1_framing framing = {.body = head->body, .content_length = head->content_length};
    lt_buf_clear(out, SIZE_MAX);
    lt_rc rc =
        is_response
            ? lt_h1_write_response(out, head->status, head->reason, 1, &head->headers, &framing)
            : lt_h1_write_request(out, head->method, head->target, 1, &head->headers, &framing);
    LT_ASSERT(rc == LT_OK);
}

static void report(const char *what, struct span from, struct span to, long rounds)
{
    printf("  %-6s %7.1f ns %7.0f cycles", what, (double)(to.ns - from.ns) / (double)rounds,
           (double)(to.cycles - from.cycles) / (double)rounds);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
    struct lt_arena *arena = lt_arena_new(4096, 0);
    struct lt_http_head head;
    struct lt_buf out;
    lt_buf_init(&out, 1 << 16);
    for (size_t i = 0; i < LT_ARRAY_LEN(heads); i++) {
        lt_str text = lt_str_of(heads[i].text);
        struct span begin = now();
        for (long r = 0; r < rounds; r++)
            parse(text, heads[i].is_response, arena, &head);
        struct span middle = now();
        for (long r = 0; r < rounds; r++)
            write_head(&head, heads[i].is_response, &out);
        struct span end = now();
        printf("%-20s %4zu bytes %2u fields", heads[i].name, text.len, head.headers.count);
        report("parse", begin, middle, rounds);
        report("write", middle, end, rounds);
        printf("\n");
    }
    lt_buf_fini(&out);
    lt_arena_free(&arena);
    return 0;
}
