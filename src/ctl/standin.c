/*
 * ctl/standin.c - an HTTP/1.1 server over http/server.h, its calls over http/client.h.
 * Start at: on_request().
 */
#include "ctl/standin.h"

#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "http/client.h"
#include "http/server.h"
#include "http/url.h"
#include "wire/json.h"

enum {
    CALLS_MAX = 16,
    ANSWER_BYTES_MAX = 4 << 20,
    CALL_BODY_BYTES_MAX = 64 * 1024,
    CALL_TIMEOUT_MS = 15000,
    CONNECTIONS_MAX = 4096,
    DELAY_MS_MAX = 60000,
    NAMES_MAX = 32,
    NAME_LIFE_S = 5, /* the TTL of the mesh's DNS */
    DRAIN_MS = 1000,
};

/* What a well-behaved application passes on: tracing, and who the end user is. */
static const char *const passed_on[] = {
    "x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid",
    "x-b3-sampled", "x-b3-flags",   "b3",          "traceparent",
    "tracestate",   "end-user",     "cookie",      "authorization",
    "user-agent",
};

struct name {
    char host[256];
    struct lt_addr addr;
    uint64_t until_ns;
};

struct standin {
    const struct lt_env *env;
    const struct ctl_standin_opts *opts;
    struct lt_loop *loop;
    struct lt_server *server;
    struct lt_io signals;
    struct lt_timer drained;
    struct name names[NAMES_MAX];
    size_t next_name;
};

/* One request while it is being answered; in the exchange's arena. */
struct answer {
    struct standin *standin;
    struct lt_exchange *exchange;
    struct lt_timer delay;
    unsigned status;
    size_t call_count;
    size_t calls_left;
    struct made_call {
        struct answer *answer;
        lt_str url;
        unsigned status;
        lt_str body;
        const char *error;
    } calls[CALLS_MAX];
};

/* --- the answer --- */

static lt_str peer_of(const struct lt_exchange *exchange)
{
    /* Envoy's form: By=...;Hash=...;Subject="...";URI=spiffe://... */
    lt_str xfcc = lt_headers_value_of(&exchange->headers, LT_STR("x-forwarded-client-cert"));
    ptrdiff_t at = lt_str_find(xfcc, LT_STR("URI="));
    if (at < 0)
        return LT_STR_NULL;
    lt_str uri = lt_str_from(xfcc, (size_t)at + 4);
    for (size_t i = 0; i < uri.len; i++) {
        if (uri.ptr[i] == ';' || uri.ptr[i] == ',')
            return lt_str_slice(uri, 0, i);
    }
    return uri;
}

static void write_headers(struct lt_json_writer *w, const struct lt_headers *headers)
{
    lt_json_kv_object(w, "headers");
    for (uint32_t i = 0; i < headers->count; i++) {
        /* of a repeated field the values are joined where it first stands */
        if (lt_headers_find_name(headers, headers->items[i].name) == &headers->items[i]) {
            lt_json_key(w, headers->items[i].name);
            lt_json_str(w, lt_headers_joined(headers, headers->items[i].name));
        }
    }
    lt_json_object_close(w);
}

static void write_call(struct lt_json_writer *w, struct lt_arena *arena,
                       const struct made_call *call)
{
    const struct lt_doc *doc = NULL;
    lt_json_object_open(w);
    lt_json_kv_str(w, "url", call->url);
    if (call->error != NULL) {
        lt_json_kv_str(w, "error", lt_str_of(call->error));
    } else {
        lt_json_kv_uint(w, "status", call->status);
        lt_json_key(w, LT_STR("body"));
        if (lt_json_parse(arena, call->body, NULL, &doc, NULL) == LT_OK)
            lt_json_doc(w, doc);
        else
            lt_json_str(w, call->body);
    }
    lt_json_object_close(w);
}

static void write_answer(struct lt_json_writer *w, struct answer *answer)
{
    const struct ctl_standin_opts *opts = answer->standin->opts;
    const struct lt_exchange *x = answer->exchange;
    lt_json_object_open(w);
    lt_json_kv_str(w, "workload", lt_str_of(opts->workload));
    lt_json_kv_str(w, "version", lt_str_of(opts->version));
    lt_json_kv_str(w, "namespace", lt_str_of(opts->ns));
    lt_json_kv_str(w, "pod", lt_str_of(opts->pod));
    lt_json_kv_str(w, "method", x->method);
    lt_json_kv_str(w, "host", lt_headers_value_of(&x->headers, LT_STR("host")));
    lt_json_kv_str(w, "path", x->path);
    if (x->query.len > 0)
        lt_json_kv_str(w, "query", x->query);
    lt_json_kv_str(w, "peer", peer_of(x));
    lt_json_kv_uint(w, "bodyBytes", x->body.len);
    write_headers(w, &x->headers);
    if (answer->call_count > 0) {
        lt_json_kv_array(w, "calls");
        for (size_t i = 0; i < answer->call_count; i++)
            write_call(w, x->arena, &answer->calls[i]);
        lt_json_array_close(w);
    }
    lt_json_object_close(w);
}

static void reply(struct answer *answer)
{
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, ANSWER_BYTES_MAX);
    lt_json_writer_init(&w, &out, 0);
    write_answer(&w, answer);
    if (lt_json_writer_finish(&w) == LT_OK && lt_buf_append(&out, "\n", 1) == LT_OK)
        lt_exchange_reply(answer->exchange, answer->status, "application/json", lt_buf_str(&out));
    else
        lt_exchange_replyf(answer->exchange, 500, "the answers together are too long\n");
    lt_buf_fini(&out); /* answer is gone: it lived in the exchange */
}

/* --- calling on --- */

static void on_called(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                      void *ctx)
{
    struct made_call *made = ctx;
    struct answer *answer = made->answer;
    struct lt_arena *arena = answer->exchange->arena;
    if (result->rc != LT_OK)
        made->error = lt_arena_strz(arena, lt_str_of(result->error));
    made->status = result->status;
    made->body = lt_arena_str(arena, result->body);
    if (--answer->calls_left == 0)
        reply(answer);
}

/*
 * Blocking, but the resolver is the node itself, a memory access away; answers are kept as long as
 * they are good for.
 */
static bool resolve(struct standin *s, const char *host, uint16_t port, struct lt_addr *ret_addr)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    uint64_t now = lt_loop_now_ns(s->loop);
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (s->names[i].until_ns > now && strcmp(s->names[i].host, host) == 0) {
            *ret_addr = s->names[i].addr;
            lt_addr_set_port(ret_addr, port);
            return true;
        }
    }
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    struct name *name = &s->names[s->next_name++ % NAMES_MAX];
    snprintf(name->host, sizeof(name->host), "%s", host);
    name->until_ns = now + NAME_LIFE_S * LT_NS_PER_S;
    name->addr = (struct lt_addr){.len = found->ai_addrlen};
    memcpy(&name->addr.sa, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    *ret_addr = name->addr;
    lt_addr_set_port(ret_addr, port);
    return true;
}

/* "http://host[:port][/path?query]" into the call's options; an error text, or NULL. */
static const char *read_url(struct standin *s, struct lt_arena *arena, lt_str url,
                            struct lt_call_opts *opts)
{
    uint64_t port = 80;
    if (!lt_str_starts(url, LT_STR("http://")))
        return "expected http://HOST[:PORT][/PATH]";
    lt_str rest = lt_str_from(url, 7);
    ptrdiff_t slash = lt_str_find_char(rest, '/');
    lt_str authority = slash < 0 ? rest : lt_str_slice(rest, 0, (size_t)slash);
    ptrdiff_t colon = lt_str_rfind_char(authority, ':');
    lt_str host = colon < 0 ? authority : lt_str_slice(authority, 0, (size_t)colon);
    if (colon >= 0 && (lt_str_to_u64(lt_str_from(authority, (size_t)colon + 1), &port) != LT_OK ||
                       port > UINT16_MAX))
        return "the port is no number";
    if (host.len == 0 || host.len > 253)
        return "no host";
    opts->host = authority;
    opts->target = slash < 0 ? LT_STR("/") : lt_str_from(rest, (size_t)slash);
    return resolve(s, lt_arena_strz(arena, host), (uint16_t)port, &opts->addr)
               ? NULL
               : "the name is not known";
}

static void start_call(struct answer *answer, struct made_call *made)
{
    struct lt_exchange *x = answer->exchange;
    struct lt_call_header headers[LT_ARRAY_LEN(passed_on)];
    struct lt_call_opts opts = {
        .timeout_ms = CALL_TIMEOUT_MS, .body_bytes_max = CALL_BODY_BYTES_MAX, .headers = headers};
    for (size_t i = 0; i < LT_ARRAY_LEN(passed_on); i++) {
        lt_str value = lt_headers_value_of(&x->headers, lt_str_of(passed_on[i]));
        if (value.ptr != NULL)
            headers[opts.header_count++] = (struct lt_call_header){lt_str_of(passed_on[i]), value};
    }
    made->answer = answer;
    made->error = read_url(answer->standin, x->arena, made->url, &opts);
    if (made->error == NULL)
        lt_call_start(answer->standin->loop, &opts, on_called, made);
    else
        answer->calls_left--;
}

static void add_call(struct answer *answer, lt_str url)
{
    url = lt_str_trim(url);
    if (url.len > 0 && answer->call_count < CALLS_MAX)
        answer->calls[answer->call_count++].url = url;
}

static void find_calls(struct answer *answer)
{
    struct lt_exchange *x = answer->exchange;
    lt_str rest, name, value;
    if (!lt_str_eqz(x->path, "/call")) {
        rest = lt_str_of(answer->standin->opts->calls);
        while (lt_str_split(&rest, ',', &value))
            add_call(answer, value);
        return;
    }
    rest = x->query;
    while (lt_url_query_next(&rest, &name, &value)) {
        if (lt_str_eqz(name, "url") && lt_url_decode(value, true, x->arena, &value) == LT_OK)
            add_call(answer, value);
    }
}

/* --- requests --- */

static bool read_tail(lt_str path, const char *prefix, uint64_t *ret_value)
{
    lt_str head = lt_str_of(prefix);
    return lt_str_starts(path, head) &&
           lt_str_to_u64(lt_str_from(path, head.len), ret_value) == LT_OK;
}

static void on_delayed(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    reply(LT_CONTAINER_OF(timer, struct answer, delay));
}

static void on_request(struct lt_exchange *exchange, void *ctx)
{
    struct standin *standin = ctx;
    struct answer *answer = lt_arena_make(exchange->arena, struct answer);
    uint64_t value;
    answer->standin = standin;
    answer->exchange = exchange;
    answer->status = 200;
    if (read_tail(exchange->path, "/status/", &value) && value >= 200 && value <= 599)
        answer->status = (unsigned)value;
    if (read_tail(exchange->path, "/delay/", &value)) {
        lt_timer_init(&answer->delay, on_delayed);
        lt_loop_timer_set(standin->loop, &answer->delay,
                          LT_MIN(value, (uint64_t)DELAY_MS_MAX) * LT_NS_PER_MS);
        return;
    }
    find_calls(answer);
    answer->calls_left = answer->call_count;
    for (size_t i = 0; i < answer->call_count; i++)
        start_call(answer, &answer->calls[i]);
    if (answer->calls_left == 0)
        reply(answer);
}

/* --- the server --- */

static void on_drained(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    lt_loop_stop(LT_CONTAINER_OF(timer, struct standin, drained)->loop);
}

static void on_signal(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct standin *s = LT_CONTAINER_OF(io, struct standin, signals);
    struct signalfd_siginfo info;
    if (read(io->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    lt_server_drain(s->server);
    lt_loop_timer_set(s->loop, &s->drained,
                      lt_server_connections(s->server) == 0 ? 0 : DRAIN_MS * LT_NS_PER_MS);
}

static void watch_signals(struct standin *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    lt_io_init(&s->signals, on_signal);
    s->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    LT_ASSERT(s->signals.fd >= 0);
    lt_loop_io_set(s->loop, &s->signals, EPOLLIN);
    lt_timer_init(&s->drained, on_drained);
}

static lt_rc listen_all(struct standin *s, struct lt_err *err)
{
    for (size_t i = 0; i < s->opts->port_count; i++) {
        struct lt_addr addr;
        LT_TRY(lt_addr_parse(LT_STR("0.0.0.0"), s->opts->ports[i], &addr));
        LT_TRY(lt_server_listen(s->server, &addr, NULL, NULL, err));
    }
    return LT_OK;
}

lt_rc ctl_standin_run(const struct lt_env *env, const struct ctl_standin_opts *opts,
                      struct lt_err *err)
{
    struct standin *s = lt_new(struct standin);
    const struct lt_server_opts server_opts = {.server_name = "lateen-standin",
                                               .body_bytes_max = 8 << 20,
                                               .connections_max = CONNECTIONS_MAX};
    *s = (struct standin){.env = env, .opts = opts, .loop = lt_loop_new(env)};
    watch_signals(s);
    s->server = lt_server_new(s->loop, &server_opts, on_request, s);
    lt_rc rc = listen_all(s, err);
    if (rc == LT_OK)
        lt_loop_run(s->loop);
    return rc; /* the process ends: what is left belongs to it */
}
