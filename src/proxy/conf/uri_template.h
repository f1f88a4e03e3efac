/*
 * proxy/conf/uri_template.h - path templates ("/users/{id}/orders"): as regular expressions, and as
 * what takes the place of a path that matched. Pure.
 * Grammar: Envoy's uri_template; Istio's AuthorizationPolicy writes {*} and {**} where this has
 * * and **.
 */
#ifndef LT_PROXY_CONF_URI_TEMPLATE_H
#define LT_PROXY_CONF_URI_TEMPLATE_H

#include "base/arena.h"
#include "base/err.h"

enum { PX_TEMPLATE_VARIABLES_MAX = 5, PX_TEMPLATE_NAME_MAX = 16 };

struct px_uri_template {
    lt_str regex; /* of the whole path without query; a group for each variable, in order */
    lt_str variables[PX_TEMPLATE_VARIABLES_MAX];
    size_t variable_count;
};

/* Everything lives in arena. LT_E_BAD with the reason. */
LT_MUST lt_rc px_uri_template_parse(struct lt_arena *arena, lt_str text,
                                    struct px_uri_template *ret_template, struct lt_err *err);
/* "/x/{id}" to "/x/\1", as lt_regex_replace takes it; variables must be those of the template. */
LT_MUST lt_rc px_uri_template_substitution(struct lt_arena *arena,
                                           const struct px_uri_template *template, lt_str text,
                                           lt_str *ret_substitution, struct lt_err *err);

#endif
