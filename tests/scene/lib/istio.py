"""Istio's metrics of a proxy under test."""
import re

from lib.proxy import typed


def istio_stats(*metrics, **fields):
    return {"name": "istio.stats", "typed_config": typed("stats.PluginConfig", metrics=list(metrics), **fields)}


def series(proxy, name):
    """[(labels, value)] of a metric."""
    found = []
    for line in proxy.admin_get("/stats/prometheus").body.decode().splitlines():
        match = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
        if match:
            found.append((dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[1] or "")), float(match[2])))
    return found
