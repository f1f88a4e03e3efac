/*
 * ctl/inject.c - the decision.
 */
#include "ctl/inject.h"

static const char *const never_namespaces[] = {"kube-system", "kube-public", "kube-node-lease",
                                               "local-path-storage"};

typedef enum { SAYS_NOTHING, SAYS_YES, SAYS_NO } said;

static said read_word(lt_str value)
{
    return lt_str_eqz(value, "true")    ? SAYS_YES
           : lt_str_eqz(value, "false") ? SAYS_NO
                                        : SAYS_NOTHING;
}

static lt_str find(const struct lt_kvs *kvs, const char *key)
{
    return kvs == NULL ? LT_STR_NULL : lt_kvs_find(kvs, lt_str_of(key));
}

static bool is_gateway(const struct ctl_inject_input *input)
{
    if (lt_str_eqz(find(input->labels, "istio"), "ingressgateway"))
        return true;
    lt_str rest = find(input->annotations, "inject.istio.io/templates"), name;
    while (lt_str_split(&rest, ',', &name)) {
        if (lt_str_eqz(lt_str_trim(name), "gateway"))
            return true;
    }
    return false;
}

/* Whether any entry of the webhook takes the Pod (namespaceSelector and objectSelector). */
static bool is_selected(const struct ctl_inject_input *input, said label, const char **ret_why)
{
    lt_str injection = find(input->ns_labels, "istio-injection");
    if (injection.ptr != NULL) {
        *ret_why = lt_str_eqz(injection, "enabled")
                       ? "namespace label istio-injection"
                       : "namespace label istio-injection is not \"enabled\"";
        return lt_str_eqz(injection, "enabled");
    }
    if (find(input->ns_labels, "istio.io/rev").ptr != NULL) {
        *ret_why = "namespace label istio.io/rev";
        return true;
    }
    if (find(input->labels, "istio.io/rev").ptr != NULL) {
        *ret_why = "label istio.io/rev";
        return true;
    }
    *ret_why = label == SAYS_YES ? "label sidecar.istio.io/inject"
                                 : "its namespace has no label istio-injection: enabled";
    return label == SAYS_YES;
}

ctl_inject ctl_inject_decide(const struct ctl_inject_input *input, const char **ret_why)
{
    said label = read_word(find(input->labels, "sidecar.istio.io/inject"));
    said annotation = read_word(find(input->annotations, "sidecar.istio.io/inject"));
    if (is_gateway(input)) {
        *ret_why = "gateway";
        return CTL_INJECT_GATEWAY;
    }
    if (label == SAYS_NO) {
        *ret_why = "label sidecar.istio.io/inject: \"false\"";
        return CTL_INJECT_NONE;
    }
    if (!is_selected(input, label, ret_why))
        return CTL_INJECT_NONE;
    for (size_t i = 0; i < LT_ARRAY_LEN(never_namespaces); i++) {
        if (lt_str_eqz(input->ns, never_namespaces[i])) {
            *ret_why = "its namespace is never injected";
            return CTL_INJECT_NONE;
        }
    }
    if (input->is_host_network) {
        *ret_why = "hostNetwork";
        return CTL_INJECT_NONE;
    }
    if (label == SAYS_NOTHING && annotation == SAYS_NO) {
        *ret_why = "annotation sidecar.istio.io/inject: \"false\"";
        return CTL_INJECT_NONE;
    }
    return CTL_INJECT_SIDECAR;
}
