/*
 * proxy/compile/build.h - private to conf_*.c: what every compiler of a resource has in hand.
 * Main thread only. Errors name the field path as Envoy's API spells it.
 */
#ifndef LT_PROXY_COMPILE_BUILD_H
#define LT_PROXY_COMPILE_BUILD_H

#include "base/vec.h"
#include "proxy/compile/compile.h"
#include "proxy/compile/row.h"
#include "proxy/conf/conf.h"
#include "proxy/conf/format.h"
#include "wire/any.h"
#include "wire/proto/accesslog.pb-c.h"
#include "wire/proto/core.pb-c.h"
#include "wire/proto/core_config.pb-c.h"
#include "wire/proto/google.pb-c.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/istio_stats.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/metrics.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/proto/tls.pb-c.h"
#include "wire/proto/type.pb-c.h"
#include "wire/proto/type_matcher.pb-c.h"

enum { PX_BUILD_PATH_MAX = 512, PX_UNHONOURED_MAX = 256 };

enum { PX_TCP_REPORT_MS = 5000, PX_BODY_LIMIT_MAX = 64 << 20 };

/* What a filter istio.stats says. */
struct px_stats_facts {
    const struct px_stats_conf *stats; /* NULL: no overrides */
    bool ignores_host;
    uint64_t tcp_report_ms;
};

struct px_meta;

/* What was unpacked inside of the message (opened.h); in scratch. */
struct px_opened_table {
    struct px_opened *slots;
    size_t cap, count;
};

/* Paths that are accepted and do nothing, those alike but for their indexes once (listed.c). */
struct px_listed {
    struct px_listed_path *paths; /* in scratch */
    size_t count;
    uint64_t unlisted; /* found no room */
};

struct px_build {
    struct lt_arena *arena;   /* of the resource being made */
    struct lt_arena *scratch; /* of the messages read; dies when the resource is done */
    struct lt_err *err;
    struct px_tls_slots *slots;
    const struct px_source *own; /* where the resource comes from; SelfConfigSource means it */
    struct lt_vec needs;         /* of struct px_row, counted each; on success the resource's */
    struct lt_vec soft_needs;    /* likewise: it does not wait for these */
    /* made so far; the resource owns them on success, px_build frees them on failure */
    struct lt_vec regexes;
    struct lt_vec maps; /* of struct lt_map */
    char path[PX_BUILD_PATH_MAX];
    size_t path_len;
    struct px_listed listed;
    struct px_opened_table opened;
    struct lt_vec owned;             /* of struct px_owned, in scratch */
    bool holds_key;                  /* a private key was read inline */
    bool is_inbound, is_outbound;    /* of the listener being made */
    uint32_t body_limit;             /* likewise: what may be kept of a body */
    bool takes_exchange;             /* the filter chain being made speaks istio-peer-exchange */
    struct px_stats_facts net_stats; /* of the chain being made */
};

/*
 * A step down the path; leave with px_path_leave(build, what enter returned). index -1: no index.
 */
size_t px_path_enter(struct px_build *build, const char *field, ptrdiff_t index);
void px_path_leave(struct px_build *build, size_t mark);

/* LT_E_BAD with "<path>.<field>: <text>". field NULL: the path itself. */
lt_rc px_bad(struct px_build *build, const char *field, const char *fmt, ...) LT_PRINTF(3, 4);
/* LT_E_UNSUPPORTED: a security field or an extension that must not be left out. */
lt_rc px_unsupported(struct px_build *build, const char *field, const char *fmt, ...)
    LT_PRINTF(3, 4);
/* Lists "<path>.<field>" as accepted and not acted on. field NULL: the path itself. */
void px_unhonoured(struct px_build *build, const char *field);
/* The list, in the resource's arena: "a[*].b (3 times)"; the last line may count what is not in it. */
const lt_str *px_listed_make(struct px_build *build, size_t *ret_count);

/* The resource frees what with free_it at its end, or px_build does when it fails. */
void px_own(struct px_build *build, void *what, void (*free_it)(void *what));

/* --- what it names (source.c) --- */

/* field: the path of the ConfigSource. *ret_timeout_ms: its initial_fetch_timeout; may be NULL. */
LT_MUST lt_rc px_make_source(struct px_build *build, const char *field, const Xds__ConfigSource *in,
                             const struct px_source **ret_source, uint32_t *ret_timeout_ms);
LT_MUST lt_rc px_make_api_source(struct px_build *build, const char *field,
                                 const Xds__ApiConfigSource *in, struct px_source *source);
/*
 * The resource needs what is called so there. It waits for it, unless is_soft. *ret_row is borrowed
 * for the resource's life: its key and slot are how the run time finds it.
 */
LT_MUST lt_rc px_refer(struct px_build *build, const char *field, px_resource_kind kind,
                       const Xds__ConfigSource *in, lt_str name, bool is_soft,
                       struct px_row **ret_row);

/* The full name of the type inside, "" when there is none; borrowed. any may be NULL. */
lt_str px_any_type(struct px_build *build, const Pb__Any *any);
/* Unpacks an Any that must be of `descriptor`'s type; into scratch. */
LT_MUST lt_rc px_unpack_any(struct px_build *build, const char *field, const Pb__Any *any,
                            const ProtobufCMessageDescriptor *descriptor, void *ret_msg);
/* Unpacks bytes that stand for a message (wire/recursive.def); whoever does counts the depth. */
LT_MUST lt_rc px_unpack_inside(struct px_build *build, ProtobufCBinaryData bytes,
                               const ProtobufCMessageDescriptor *type, void *ret_msg);

/* --- values (value.c) --- */

/* A copy in the resource's arena; NULL gives an empty slice. */
lt_str px_copy(struct px_build *build, const char *text);
lt_str px_copy_lower(struct px_build *build, const char *text);
uint64_t px_duration_ms(const Pb__Duration *duration, uint64_t absent_ms);
static inline uint32_t px_u32(const Pb__UInt32Value *value, uint32_t absent)
{
    return value == NULL ? absent : value->has_value ? value->value : 0;
}
static inline bool px_bool(const Pb__BoolValue *value, bool absent)
{
    return value == NULL ? absent : value->has_value && value->value;
}
/* Of a million. */
uint32_t px_fraction_ppm(const Xds__FractionalPercent *percent, uint32_t absent);
LT_MUST lt_rc px_make_regex(struct px_build *build, const char *field,
                            const Xds__RegexMatcher *matcher, const struct lt_regex **ret_regex);
LT_MUST lt_rc px_make_string_match(struct px_build *build, const char *field,
                                   const Xds__StringMatcher *matcher,
                                   struct px_string_match *ret_match);
LT_MUST lt_rc px_make_header_matches(struct px_build *build, Xds__HeaderMatcher *const *matchers,
                                     size_t count, const struct px_header_match **ret_matches);
LT_MUST lt_rc px_make_header_edits(struct px_build *build, Xds__HeaderValueOption *const *add,
                                   size_t add_count, const char *const *remove, size_t remove_count,
                                   const char *field, struct px_header_edits *ret_edits);
/* A text with operators; one that we don't have is listed. */
LT_MUST lt_rc px_make_format(struct px_build *build, const char *field, lt_str text,
                             const struct px_format **ret_format);
LT_MUST lt_rc px_make_data(struct px_build *build, const char *field, const Xds__DataSource *source,
                           lt_str *ret_text);
/* The message itself has the data. */
static inline bool px_is_inline(const Xds__DataSource *source)
{
    return source != NULL && (source->specifier_case == XDS__DATA_SOURCE__SPECIFIER_INLINE_BYTES ||
                              source->specifier_case == XDS__DATA_SOURCE__SPECIFIER_INLINE_STRING);
}
/* The file of a source, or "<inline>", as Envoy's /certs has it. */
lt_str px_data_path(struct px_build *build, const Xds__DataSource *source);
/* "https://host:1/path" by way of a cluster; a path that is not there is "/". */
LT_MUST lt_rc px_make_http_uri(struct px_build *build, const char *field, const Xds__HttpUri *uri,
                               lt_str *ret_cluster, lt_str *ret_scheme, lt_str *ret_authority,
                               lt_str *ret_path, uint64_t *ret_timeout_ms);
LT_MUST lt_rc px_make_address(struct px_build *build, const char *field,
                              const Xds__Address *address, struct lt_addr *ret_addr);
/* One filter's metadata: only string values; others are left out. */
LT_MUST lt_rc px_make_metas(struct px_build *build, const Pb__Struct *st,
                            struct px_metas *ret_metas);
/*
 * All metadata that has no place of its own in what is made of a resource: istio, envoy.lb and the
 * like are read apart. *ret_meta NULL: nothing is left, as nearly always.
 */
LT_MUST lt_rc px_make_other_meta(struct px_build *build, const Xds__Metadata *in,
                                 const struct px_meta **ret_meta);
/* All values, as JSON, sorted by key. */
LT_MUST lt_rc px_make_json_metas(struct px_build *build, const char *field, const Pb__Struct *st,
                                 struct px_metas *ret_metas);
const Pb__Struct *px_find_metadata(const Xds__Metadata *metadata, const char *filter);
LT_MUST lt_rc px_make_strings(struct px_build *build, const char *const *texts, size_t count,
                              const lt_str **ret_strs);

LT_MUST lt_rc px_make_prefixes(struct px_build *build, const char *field,
                               Xds__CidrRange *const *ranges, size_t count,
                               const struct px_cidr **ret_prefixes);

/* --- shared parts --- */

LT_MUST lt_rc px_make_transport_socket(struct px_build *build, const Xds__TransportSocket *socket,
                                       bool is_server, const struct px_tls_conf **ret_tls);
LT_MUST lt_rc px_make_access_logs(struct px_build *build, Xds__AccessLog *const *logs, size_t count,
                                  const struct px_access_log **ret_logs, size_t *ret_count);
/* access_log_options.access_log_flush_interval; NULL: none. */
LT_MUST lt_rc px_make_log_interval(struct px_build *build, const Pb__Duration *in,
                                   uint32_t *ret_ms);
/* in NULL: no filter. */
LT_MUST lt_rc px_make_log_filter(struct px_build *build, const Xds__AccessLogFilter *in,
                                 const struct px_log_filter **ret_filter);
LT_MUST lt_rc px_make_endpoints(struct px_build *build, const void *load_assignment,
                                bool allows_names, struct px_endpoints_conf *ret_endpoints);
LT_MUST lt_rc px_make_routes(struct px_build *build, const Xds__RouteConfiguration *config,
                             struct px_routes_conf *ret_routes);
struct px_stats_config;
LT_MUST lt_rc px_make_stats_config(struct px_build *build, const Xds__StatsConfig *in,
                                   struct px_stats_config *config);
LT_MUST lt_rc px_make_tracing(struct px_build *build, const Xds__HttpConnectionManager *in,
                              struct px_hcm_conf *hcm);
LT_MUST lt_rc px_make_stats(struct px_build *build, const Istio__Stats__PluginConfig *in,
                            struct px_stats_facts *ret_facts);
LT_MUST lt_rc px_make_hcm(struct px_build *build, const Pb__Any *any,
                          const struct px_hcm_conf **ret_hcm);

#endif
