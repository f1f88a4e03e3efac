/*
 * proxy/compile/overload.c - monitors of the heap and of connections; actions with thresholds.
 * As Envoy: an action that it doesn't know is an error, and so is a trigger without its monitor.
 * Start at: px_make_overload().
 */
#include "proxy/compile/overload.h"

#include "wire/proto/monitor_downstream_connections.pb-c.h"
#include "wire/proto/monitor_fixed_heap.pb-c.h"

static const char HEAP[] = "envoy.resource_monitors.fixed_heap";

struct reading {
    struct px_build *build;
    struct px_pressure_conf *conf;
    uint64_t heap_bytes; /* 0: no such monitor */
};

static lt_rc read_monitor(struct reading *reading, const Xds__ResourceMonitor *in)
{
    const Pb__Any *any = in->config_type_case == XDS__RESOURCE_MONITOR__CONFIG_TYPE_TYPED_CONFIG
                             ? in->typed_config
                             : NULL;
    struct px_build *build = reading->build;
    lt_str type = px_any_type(build, any);
    if (lt_str_eqz(type, xds__fixed_heap_config__descriptor.name)) {
        Xds__FixedHeapConfig *heap = NULL;
        LT_TRY(px_unpack_any(build, "overload_manager.resource_monitors", any,
                             &xds__fixed_heap_config__descriptor, &heap));
        if (!heap->has_max_heap_size_bytes || heap->max_heap_size_bytes == 0)
            return lt_err_set(reading->build->err, LT_E_BAD,
                              "overload_manager: max_heap_size_bytes must be greater than 0");
        reading->heap_bytes = heap->max_heap_size_bytes;
        return LT_OK;
    }
    if (lt_str_eqz(type, xds__downstream_connections_config__descriptor.name)) {
        Xds__DownstreamConnectionsConfig *connections = NULL;
        LT_TRY(px_unpack_any(build, "overload_manager.resource_monitors", any,
                             &xds__downstream_connections_config__descriptor, &connections));
        if (connections->max_active_downstream_connections <= 0)
            return lt_err_set(reading->build->err, LT_E_BAD,
                              "overload_manager: max_active_downstream_connections must be "
                              "greater than 0");
        reading->conf->connections_max = (uint64_t)connections->max_active_downstream_connections;
        return LT_OK;
    }
    return LT_OK;
}

/* Scaled triggers count where they are saturated: what we do is done whole. */
static double threshold_of(const Xds__Trigger *trigger)
{
    if (trigger->trigger_oneof_case == XDS__TRIGGER__TRIGGER_ONEOF_THRESHOLD)
        return trigger->threshold->value;
    if (trigger->trigger_oneof_case == XDS__TRIGGER__TRIGGER_ONEOF_SCALED)
        return trigger->scaled->saturation_threshold;
    return -1;
}

static bool find_act(const char *name, px_act *ret_act)
{
    for (int act = 0; act < PX_ACTS; act++) {
        if (strcmp(px_act_name((px_act)act), name) == 0) {
            *ret_act = (px_act)act;
            return true;
        }
    }
    return false;
}

static lt_rc read_triggers(struct reading *reading, const Xds__OverloadAction *in, px_act act)
{
    for (size_t i = 0; i < in->n_triggers; i++) {
        const Xds__Trigger *trigger = in->triggers[i];
        double threshold = threshold_of(trigger);
        if (!(threshold >= 0 && threshold <= 1))
            return lt_err_set(reading->build->err, LT_E_BAD,
                              "overload_manager: action %s: a threshold between 0 and 1 is needed",
                              in->name);
        if (strcmp(trigger->name, HEAP) != 0 || reading->heap_bytes == 0) {
            lt_str text = lt_arena_printf(reading->build->scratch,
                                          "overload_manager.actions %s: trigger %s", in->name,
                                          trigger->name);
            px_unhonoured(reading->build, text.ptr);
            continue;
        }
        uint64_t at = (uint64_t)(threshold * (double)reading->heap_bytes);
        reading->conf->at_bytes[act] = LT_MIN(reading->conf->at_bytes[act], at);
    }
    return LT_OK;
}

static lt_rc read_action(struct reading *reading, const Xds__OverloadAction *in)
{
    px_act act = 0;
    if (find_act(in->name, &act))
        return read_triggers(reading, in, act);
    if (strcmp(in->name, "envoy.overload_actions.reduce_timeouts") != 0)
        return lt_err_set(reading->build->err, LT_E_BAD, "Unknown Overload Manager Action %s",
                          in->name);
    px_unhonoured(reading->build, "overload_manager.actions reduce_timeouts");
    return LT_OK;
}

lt_rc px_make_overload(struct px_build *build, const Xds__OverloadManager *in,
                       struct px_pressure_conf *conf)
{
    struct reading reading = {.build = build, .conf = conf};
    for (size_t i = 0; i < in->n_resource_monitors; i++)
        LT_TRY(read_monitor(&reading, in->resource_monitors[i]));
    for (size_t i = 0; i < in->n_actions; i++)
        LT_TRY(read_action(&reading, in->actions[i]));
    return LT_OK;
}
