"""stats_config of the bootstrap: which counters are shown, and bounds of histograms."""
import re

import pytest

from lib import client
from lib import proxy as proxy_lib
from lib.backend import free_port
from lib.istio import istio_stats
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


def serve(run_proxy, backends, stats_config, **fields):
    dead = cluster("dead", free_port())
    retried = route("/dead", {"cluster": "dead", "retry_policy": {"retry_on": "connect-failure", "num_retries": 1}})
    proxy = run_proxy({**bootstrap(listener(hcm([retried, route("/", "a")], **fields)), [cluster("a", backends().port), dead]), "stats_config": stats_config})
    assert client.get(proxy.port).status == 200
    assert client.get(proxy.port, "/dead").status == 503
    return proxy


def names(proxy):
    return {line.split(":")[0] for line in proxy.admin_get("/stats").body.decode().splitlines()}


@pytest.mark.parametrize("matcher, shown, hidden", [
    ({"inclusion_list": {"patterns": [{"prefix": "cluster.a.upstream_rq_2"}]}}, ["cluster.a.upstream_rq_2xx", "cluster.a.upstream_rq_200"], ["cluster.a.upstream_rq_total"]),
    ({"inclusion_list": {"patterns": [{"safe_regex": {"regex": r".*upstream_rq_(total|5xx)"}}]}}, ["cluster.a.upstream_rq_total"], ["cluster.a.upstream_rq_2xx"]),
    ({"exclusion_list": {"patterns": [{"suffix": ".upstream_rq_total"}]}}, ["cluster.a.upstream_rq_2xx"], ["cluster.a.upstream_rq_total"]),
    ({"reject_all": True}, [], ["cluster.a.upstream_rq_total"])], ids=["prefix", "regex", "without", "none"])
def test_what_is_shown(run_proxy, backends, matcher, shown, hidden):
    proxy = serve(run_proxy, backends, {"stats_matcher": matcher})
    found = names(proxy)
    assert all(name in found for name in shown) and not any(name in found for name in hidden), found
    text = proxy.admin_get("/stats/prometheus").body.decode()
    assert all(re.search("^" + name.replace("cluster.a.", "envoy_cluster_").replace("_rq_2xx", "_rq").replace("_rq_200", "_rq"), text, re.M) for name in shown)


@pytest.mark.lateen_only  # Envoy hides these, too
def test_what_operators_watch_is_always_shown(run_proxy, backends):
    proxy = serve(run_proxy, backends, {"stats_matcher": {"reject_all": True}}, http_filters=[istio_stats()])
    text = proxy.admin_get("/stats/prometheus").body.decode()
    assert "\nistio_requests_total{" in text and re.search(r'\nenvoy_cluster_upstream_rq_retry\{cluster_name="dead"\} 1\n', text)
    assert "upstream_rq_total" not in text


@pytest.mark.lateen_only  # this Envoy has none of Istio's filters
def test_bounds(run_proxy, backends):
    proxy = serve(run_proxy, backends, {"histogram_bucket_settings": [{"match": {"prefix": "istiocustom"}, "buckets": [60000, 1, 120000]}]},
                  http_filters=[istio_stats()])
    text = proxy.admin_get("/stats/prometheus").body.decode()
    bounds = re.findall(r'istio_request_duration_milliseconds_bucket\{[^}]*response_code="200"[^}]*le="([^"]*)"', text)
    assert bounds == ["1", "60000", "120000", "+Inf"]


@pytest.mark.parametrize("stats_config", [{"histogram_bucket_settings": [{"match": {"prefix": "a"}, "buckets": [5, 0]}]}, {"stats_matcher": {}}], ids=str)
def test_what_makes_no_sense_is_refused(kind, backends, workdir, stats_config):
    config = {**bootstrap(listener(hcm([route("/", "a")])), [cluster("a", backends().port)]), "stats_config": stats_config}
    proxy = proxy_lib.start(kind, config, workdir, ready=False)
    assert proxy.process.wait(20) != 0
