/*
 * proxy/agent/identity.c - the workload certificate. Start at: px_identity_start(), on_answer().
 */
#include "proxy/agent/identity.h"

#include "base/file.h"
#include "proxy/agent/kept.h"
#include "wire/pb.h"
#include "wire/proto/istio_ca.pb-c.h"

enum {
    CALL_TIMEOUT_S = 10,
    RETRY_BASE_MS = 200,
    RETRY_MAX_MS = 15000,
    ANSWER_MEMORY_MAX = 4 << 20,
    CERTS_MAX = 16,
    METADATA_MAX = PX_AGENT_HEADERS_MAX + 2,
};

/* What a call knows of us; it may end after the identity has. */
struct csr_call {
    struct px_identity *identity; /* NULL: gone */
};

struct px_identity {
    struct px_identity_opts opts;
    const struct lt_env *env;   /* borrowed */
    struct lt_grpc_channel *ca; /* borrowed; NULL before start */
    struct lt_grpc_call *call;  /* ours while it runs */
    struct csr_call *csr;       /* its user; owned by the call */
    struct lt_key *key;         /* owned; of the request that runs */
    uint64_t call_began_ns;
    bool was_answered;     /* the call's message came and was good */
    bool is_kept;          /* the certificate is of the last run, and is good for a while */
    struct lt_timer timer; /* rotation, or the next try */
    struct lt_backoff backoff;
    struct lt_prng prng;
    struct px_identity_stats stats;
};

static const char create_certificate[] = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/* --- judging --- */

static lt_rc join(struct lt_arena *arena, const Istio__IstioCertificateResponse *answer,
                  struct px_identity_cert *cert, struct lt_err *err)
{
    if (answer->n_cert_chain < 2)
        return lt_err_set(err, LT_E_BAD, "the CA sent %zu certificates, expected at least 2",
                          answer->n_cert_chain);
    if (answer->n_cert_chain > CERTS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "the CA sent more than %d certificates", CERTS_MAX);
    lt_str chain = LT_STR_NULL;
    for (size_t i = 0; i + 1 < answer->n_cert_chain; i++) {
        lt_str one = lt_str_of(answer->cert_chain[i]);
        bool needs_break = one.len > 0 && one.ptr[one.len - 1] != '\n';
        chain = lt_arena_printf(arena, "%.*s%.*s%s", LT_STR_ARG(chain), LT_STR_ARG(one),
                                needs_break ? "\n" : "");
    }
    cert->chain_pem = chain;
    cert->root_pem = lt_arena_str(arena, lt_str_of(answer->cert_chain[answer->n_cert_chain - 1]));
    return LT_OK;
}

lt_rc px_identity_judge(struct lt_arena *arena, lt_str response, const struct lt_key *key,
                        struct px_identity_cert *ret_cert, struct lt_err *err)
{
    struct lt_pb_opts limits = {.limits = {ANSWER_MEMORY_MAX, ANSWER_MEMORY_MAX, 1000}};
    Istio__IstioCertificateResponse *answer = NULL;
    struct px_identity_cert cert = {0};
    struct lt_cert *leaf = NULL, *root = NULL;
    size_t count = 0;
    LT_TRY(lt_pb_unpack(arena, &istio__istio_certificate_response__descriptor, response, &limits,
                        &answer, err));
    LT_TRY(join(arena, answer, &cert, err));
    LT_TRY(lt_cert_parse_chain(arena, cert.chain_pem, &leaf, &count, err));
    LT_TRY(lt_cert_parse_chain(arena, cert.root_pem, &root, &count, err));
    struct lt_key *certified = NULL;
    LT_TRY(lt_key_parse_public(leaf[0].pem, &certified, err));
    bool is_ours = lt_key_eq(certified, key);
    lt_key_free(&certified);
    if (!is_ours)
        return lt_err_set(err, LT_E_BAD, "the CA certified another key");
    cert.not_after_s = leaf[0].not_after_s;
    *ret_cert = cert;
    return LT_OK;
}

uint64_t px_identity_rotation_ms(int64_t now_s, int64_t not_after_s, double ratio, double jitter,
                                 double spread)
{
    enum { LEAST_MS = 1000 };
    double life_ms = (double)(not_after_s - now_s) * 1000;
    double left = ratio + jitter * spread;
    left = left < 0 ? 0 : left > 1 ? 1 : left;
    double wait_ms = life_ms * (1 - left);
    return wait_ms < LEAST_MS ? LEAST_MS : (uint64_t)wait_ms;
}

/* --- the calendar --- */

static void schedule(struct px_identity *identity, uint64_t delay_ms)
{
    lt_loop_timer_set(identity->opts.loop, &identity->timer, delay_ms * LT_NS_PER_MS);
}

static void schedule_rotation(struct px_identity *identity, int64_t not_after_s)
{
    const struct px_agent_settings *settings = identity->opts.settings;
    double spread = (double)(lt_prng_next(&identity->prng) >> 11) / (double)(1ull << 52) - 1;
    int64_t now_s = lt_env_wall_ns(identity->env) / (int64_t)LT_NS_PER_S;
    uint64_t delay_ms = px_identity_rotation_ms(now_s, not_after_s, settings->rotation_ratio,
                                                settings->rotation_jitter, spread);
    lt_log_info(&identity->env->log, "agent: certificate for %.*s, %lld s of life, next in %llu s",
                LT_STR_ARG(settings->spiffe_id), (long long)(not_after_s - now_s),
                (unsigned long long)delay_ms / 1000);
    schedule(identity, delay_ms);
}

static void schedule_retry(struct px_identity *identity, const char *why)
{
    identity->stats.failures++;
    lt_log_warn(&identity->env->log, "agent: no certificate for %.*s: %s",
                LT_STR_ARG(identity->opts.settings->spiffe_id), why);
    lt_loop_timer_set(identity->opts.loop, &identity->timer,
                      lt_backoff_next_ns(&identity->backoff, &identity->prng));
}

/* --- the answer --- */

static void write_output(struct px_identity *identity, const struct px_identity_cert *cert)
{
    lt_str dir = identity->opts.settings->output_certs;
    const struct {
        const char *name;
        lt_str text;
    } files[] = {{"key.pem", cert->key_pem},
                 {"cert-chain.pem", cert->chain_pem},
                 {"root-cert.pem", cert->root_pem}};
    for (size_t i = 0; i < LT_ARRAY_LEN(files) && dir.len > 0; i++) {
        char path[1024];
        struct lt_err err = {0};
        (void)snprintf(path, sizeof(path), "%.*s/%s", LT_STR_ARG(dir), files[i].name);
        if (lt_file_write(path, files[i].text, 0600, &err) != LT_OK)
            lt_log_warn(&identity->env->log, "agent: OUTPUT_CERTS: %s", err.text);
    }
}

static void on_answer(struct lt_grpc_call *call, lt_str message)
{
    struct px_identity *identity = ((struct csr_call *)lt_grpc_call_user(call))->identity;
    if (identity == NULL || identity->key == NULL)
        return; /* gone, or a second answer */
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    struct px_identity_cert cert = {0};
    struct lt_err err = {0};
    if (px_identity_judge(arena, message, identity->key, &cert, &err) != LT_OK) {
        schedule_retry(identity, err.text);
    } else {
        char *key_pem = lt_key_private_pem(identity->key);
        cert.key_pem = lt_str_of(key_pem);
        identity->was_answered = true;
        identity->stats.not_after_s = cert.not_after_s;
        lt_backoff_reset(&identity->backoff);
        write_output(identity, &cert);
        px_kept_write(identity->opts.settings, &cert);
        identity->opts.on_cert(identity->opts.ctx, &cert);
        schedule_rotation(identity, cert.not_after_s);
        lt_key_pem_free(&key_pem);
    }
    lt_key_free(&identity->key);
    lt_arena_free(&arena);
}

static void on_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                      bool is_unprocessed LT_UNUSED)
{
    struct csr_call *csr = lt_grpc_call_user(call);
    struct px_identity *identity = csr->identity;
    free(csr);
    if (identity == NULL)
        return;
    uint64_t took_ns = lt_loop_now_ns(identity->opts.loop) - identity->call_began_ns;
    identity->call = NULL;
    identity->stats.latency_ms += took_ns / LT_NS_PER_MS;
    lt_key_free(&identity->key);
    if (identity->was_answered || lt_timer_is_set(&identity->timer))
        return;
    char why[512];
    (void)snprintf(why, sizeof(why), "%s: %.*s", lt_grpc_code_name(code), LT_STR_ARG(message));
    schedule_retry(identity, why);
}

/* --- the request --- */

static lt_str make_request(struct px_identity *identity, struct lt_arena *arena)
{
    Istio__IstioCertificateRequest request = ISTIO__ISTIO_CERTIFICATE_REQUEST__INIT;
    lt_str csr = lt_csr_make(arena, identity->key, identity->opts.settings->spiffe_id);
    request.csr = lt_arena_strz(arena, csr);
    request.has_validity_duration = 1;
    request.validity_duration = identity->opts.settings->secret_ttl_s;
    return lt_pb_pack(arena, &request);
}

static size_t make_metadata(const struct px_agent_settings *settings, struct lt_arena *arena,
                            struct lt_grpc_metadata out[METADATA_MAX])
{
    size_t count = 0;
    lt_str token;
    if (lt_file_read(arena, settings->token_path.ptr, &token, NULL) == LT_OK &&
        lt_str_trim(token).len > 0) {
        lt_str bearer = lt_arena_printf(arena, "Bearer %.*s", LT_STR_ARG(lt_str_trim(token)));
        out[count++] = (struct lt_grpc_metadata){LT_STR("authorization"), bearer, true};
    }
    out[count++] = (struct lt_grpc_metadata){LT_STR("clusterid"), settings->cluster_id, false};
    for (size_t i = 0; i < settings->ca_header_count; i++)
        out[count++] = (struct lt_grpc_metadata){settings->ca_headers[i].name,
                                                 settings->ca_headers[i].value, false};
    return count;
}

static void request_cert(struct px_identity *identity)
{
    static const struct lt_grpc_call_handler handler = {.on_message = on_answer,
                                                        .on_closed = on_closed};
    if (identity->call != NULL)
        return;
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    struct lt_grpc_metadata metadata[METADATA_MAX];
    struct lt_grpc_call_opts opts = {.path = create_certificate,
                                     .metadata = metadata,
                                     .timeout_ns = CALL_TIMEOUT_S * LT_NS_PER_S,
                                     .wait_for_ready = true};
    opts.metadata_count = make_metadata(identity->opts.settings, arena, metadata);
    identity->key = lt_key_new(identity->opts.settings->key_kind);
    identity->was_answered = false;
    identity->call_began_ns = lt_loop_now_ns(identity->opts.loop);
    identity->stats.retries += identity->stats.requests > 0 && identity->stats.not_after_s == 0 ? 1
                                                                                                : 0;
    identity->stats.requests++;
    identity->csr = lt_new(struct csr_call);
    identity->csr->identity = identity;
    identity->call = lt_grpc_call_start(identity->ca, &opts, &handler, identity->csr);
    if (lt_grpc_call_send(identity->call, make_request(identity, arena)) == LT_OK)
        lt_grpc_call_half_close(identity->call);
    else
        lt_grpc_call_cancel(identity->call); /* on_closed tries again */
    lt_arena_wipe_free(&arena);
}

/* --- mounted files --- */

static lt_rc read_mounted(struct px_identity *identity, struct lt_arena *arena,
                          struct px_identity_cert *ret_cert)
{
    lt_str dir = identity->opts.settings->credentials_dir;
    struct px_identity_cert cert = {0};
    struct {
        const char *name;
        lt_str *text;
    } files[] = {{"cert-chain.pem", &cert.chain_pem},
                 {"key.pem", &cert.key_pem},
                 {"root-cert.pem", &cert.root_pem}};
    for (size_t i = 0; i < LT_ARRAY_LEN(files); i++) {
        char path[1024];
        (void)snprintf(path, sizeof(path), "%.*s/%s", LT_STR_ARG(dir), files[i].name);
        LT_TRY(lt_file_read(arena, path, files[i].text, NULL));
    }
    struct lt_cert *leaf = NULL;
    size_t count = 0;
    LT_TRY(lt_cert_parse_chain(arena, cert.chain_pem, &leaf, &count, NULL));
    cert.not_after_s = leaf[0].not_after_s;
    *ret_cert = cert;
    return LT_OK;
}

/*
 * True when the platform mounted a certificate: nobody is asked for another. Looked at again every
 * few seconds.
 */
static bool use_mounted(struct px_identity *identity)
{
    enum { LOOK_AGAIN_MS = 5000 };
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    struct px_identity_cert cert;
    bool is_there = read_mounted(identity, arena, &cert) == LT_OK;
    if (is_there) {
        identity->stats.not_after_s = cert.not_after_s;
        identity->opts.on_cert(identity->opts.ctx, &cert);
        schedule(identity, LOOK_AGAIN_MS);
    }
    lt_arena_wipe_free(&arena);
    return is_there;
}

/* --- begin and end --- */

static void on_due(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_identity *identity = LT_CONTAINER_OF(timer, struct px_identity, timer);
    if (!use_mounted(identity))
        request_cert(identity);
}

struct px_identity *px_identity_new(const struct px_identity_opts *opts)
{
    struct px_identity *identity = lt_new(struct px_identity);
    identity->opts = *opts;
    identity->env = lt_loop_env(opts->loop);
    lt_timer_init(&identity->timer, on_due);
    lt_backoff_init(&identity->backoff, RETRY_BASE_MS * LT_NS_PER_MS, RETRY_MAX_MS * LT_NS_PER_MS);
    lt_prng_seed(&identity->prng, identity->env);
    return identity;
}

void px_identity_restore(struct px_identity *identity)
{
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    struct px_identity_cert cert;
    int64_t now_s = lt_env_wall_ns(identity->env) / (int64_t)LT_NS_PER_S;
    if (px_kept_read(arena, identity->opts.settings, now_s, &cert) == LT_OK) {
        identity->is_kept = true;
        identity->stats.not_after_s = cert.not_after_s;
        identity->opts.on_cert(identity->opts.ctx, &cert);
    }
    lt_arena_wipe_free(&arena);
}

void px_identity_start(struct px_identity *identity, struct lt_grpc_channel *ca)
{
    identity->ca = ca;
    if (identity->is_kept)
        schedule_rotation(identity, identity->stats.not_after_s);
    else
        schedule(identity, 0);
    identity->is_kept = false;
}

void px_identity_free(struct px_identity **identity)
{
    struct px_identity *dying = *identity;
    *identity = NULL;
    if (dying == NULL)
        return;
    lt_loop_timer_cancel(dying->opts.loop, &dying->timer);
    if (dying->call != NULL) {
        dying->csr->identity = NULL;
        lt_grpc_call_cancel(dying->call);
    }
    lt_key_free(&dying->key);
    free(dying);
}

const struct px_identity_stats *px_identity_stats(const struct px_identity *identity)
{
    return &identity->stats;
}
