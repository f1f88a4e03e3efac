"""Pieces of configuration: HTTP and network filters, and what routes say about them."""
from lib.proxy import typed

HTTP = "envoy.extensions.filters.http"


def http_filter(name, message=None, filter_fields=None, **fields):
    """One of http_filters: http_filter("rbac.v3.RBAC", rules=...) is envoy.filters.http.rbac."""
    message = message or name
    short = message.split(".")[0]
    return {"name": f"envoy.filters.http.{short}", "typed_config": typed(f"{HTTP}.{message}", **fields), **(filter_fields or {})}


def per_route(message, **fields):
    """A typed_per_filter_config of one entry: per_route("rbac.v3.RBACPerRoute", rbac=...)."""
    return {f"envoy.filters.http.{message.split('.')[0]}": typed(f"{HTTP}.{message}", **fields)}


def switch(name, **fields):
    """FilterConfig: switch("rbac", disabled=True)."""
    return {f"envoy.filters.http.{name}": typed("envoy.config.route.v3.FilterConfig", **fields)}


def net_filter(message, **fields):
    return {"name": f"envoy.filters.network.{message.split('.')[0]}",
            "typed_config": typed(f"envoy.extensions.filters.network.{message}", **fields)}


def access_log(path, line):
    return [{"name": "file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(path),
                                                   log_format={"text_format_source": {"inline_string": line + "\n"}})}]


# --- authorization rules ---

def policy(permission=None, principal=None):
    return {"permissions": [permission or {"any": True}], "principals": [principal or {"any": True}]}


def path(**match):
    return {"url_path": {"path": match}}


def rbac(action, **policies):
    """Rules: rbac("DENY", name=policy(...)); an underscore in a name stands for itself."""
    return {"action": action, "policies": policies}
