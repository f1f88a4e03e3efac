"""What is told of clusters and their hosts: counters under Envoy's names, and the page /clusters."""
import json

import pytest

from lib import client
from lib import proxy as p
from lib.backend import free_port

FAST = {"num_retries": 2, "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"}}
POLICY = {"retry_on": "5xx,connect-failure", **FAST}


def run(run_proxy, port, **fields):
    return run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", {"cluster": "c", **fields})])), [p.cluster("c", port)]))


def counted(proxy):
    """Counters of requests that are not 0, without the cluster's name."""
    return {name[len("cluster.c."):]: value for name, value in proxy.stats().items()
            if name.startswith(("cluster.c.upstream_rq", "cluster.c.retry")) and value and "backoff" not in name}


def host_counts(proxy):
    page = json.loads(proxy.admin_get("/clusters?format=json").body)
    host = next(c for c in page["cluster_statuses"] if c["name"] == "c")["host_statuses"][0]
    return {s["name"]: int(s["value"]) for s in host["stats"] if s.get("value", "0") != "0"}


@pytest.mark.quick
def test_success(run_proxy, backends):
    proxy = run(run_proxy, backends().port)
    for path in ("/", "/status/404"):
        assert client.get(proxy.port, path).status in (200, 404)
    assert counted(proxy) == {"upstream_rq_total": 2, "upstream_rq_completed": 2, "upstream_rq_200": 1, "upstream_rq_2xx": 1, "upstream_rq_404": 1,
                              "upstream_rq_4xx": 1, "upstream_rq_pending_total": 1}
    assert host_counts(proxy) == {"rq_total": 2, "rq_success": 2, "cx_total": 1, "cx_active": 1}


def test_retries(run_proxy, backends):
    """Each answer is counted, those that were not passed on apart; the connection of an answer without a body serves the next try."""
    answers = [503, 503, 200]
    proxy = run(run_proxy, backends(behaviour=lambda *_: (answers.pop(0), [], b"")).port, retry_policy=POLICY)
    assert client.get(proxy.port).status == 200
    assert counted(proxy) == {
        "upstream_rq_total": 3, "upstream_rq_completed": 1, "upstream_rq_200": 1, "upstream_rq_2xx": 1, "upstream_rq_pending_total": 1,
        "upstream_rq_retry": 2, "upstream_rq_retry_success": 1, "retry.upstream_rq_503": 2, "retry.upstream_rq_5xx": 2, "retry.upstream_rq_completed": 2}
    assert host_counts(proxy) == {"rq_total": 3, "rq_success": 1, "rq_error": 2, "cx_total": 1, "cx_active": 1}


def test_refused(run_proxy):
    proxy = run(run_proxy, free_port(), retry_policy=POLICY)
    assert client.get(proxy.port).status == 503
    assert counted(proxy) == {
        "upstream_rq_completed": 1, "upstream_rq_503": 1, "upstream_rq_5xx": 1, "upstream_rq_pending_total": 3, "upstream_rq_pending_failure_eject": 3,
        "upstream_rq_retry": 2, "upstream_rq_retry_limit_exceeded": 1}
    assert host_counts(proxy) == {"rq_error": 3, "cx_total": 3, "cx_connect_fail": 3}


def test_timeouts(run_proxy, backends):
    proxy = run(run_proxy, backends().port, retry_policy={**POLICY, "per_try_timeout": "0.2s"})
    assert client.get(proxy.port, "/delay/3").status == 504
    seen = counted(proxy)
    assert (seen["upstream_rq_per_try_timeout"], seen["upstream_rq_total"], seen["upstream_rq_504"]) == (3, 3, 1)
    assert host_counts(proxy) == {"rq_total": 3, "rq_error": 3, "rq_timeout": 3, "cx_total": 3}


def test_clients_that_leave(run_proxy, backends):
    """No answer, and none is made up."""
    server = backends()
    proxy = run(run_proxy, server.port)
    with client.Connection(proxy.port) as connection:
        connection.request(path="/delay/3")
        client.wait_until(lambda: server.requests)
    client.wait_until(lambda: proxy.stats().get("cluster.c.upstream_cx_active") == 0)
    assert counted(proxy) == {"upstream_rq_total": 1, "upstream_rq_pending_total": 1}
    assert host_counts(proxy) == {"rq_total": 1, "cx_total": 1}


def test_series_exist_once_used(run_proxy, backends):
    """lateen: a cluster that nobody uses costs nothing on /stats either; Envoy has all of its names from the start."""
    made = [p.cluster("c", backends().port), p.cluster("unused", free_port())]
    proxy = run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", "c")])), made))
    assert client.get(proxy.port).status == 200
    names = {name for name in proxy.stats() if name.startswith("cluster.")}
    assert "cluster.c.upstream_rq_200" in names and "cluster.c.upstream_rq_503" not in names
    if proxy.kind == "lateen":
        assert not [name for name in names if name.startswith("cluster.unused.")]


def test_clusters_page(run_proxy, backends):
    """The text form has Envoy's lines for each host."""
    server = backends()
    made = {**p.cluster("c"), "load_assignment": {"cluster_name": "c", "endpoints": [{
        "locality": {"region": "r", "zone": "z", "sub_zone": "s"}, "priority": 1, "lb_endpoints": [{
            "endpoint": {"address": p.address(server.port), "hostname": "own.example"}, "load_balancing_weight": 7, "health_status": "DEGRADED",
            "metadata": {"filter_metadata": {"envoy.lb": {"canary": True}}}}]}]}}
    proxy = run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", "c")])), [made]))
    assert client.get(proxy.port).status == 200
    lines = proxy.admin_get("/clusters").body.decode().splitlines()
    start = f"c::127.0.0.1:{server.port}::"
    shown = dict(line[len(start):].split("::") for line in lines if line.startswith(start))
    assert shown == {
        "cx_active": "1", "cx_connect_fail": "0", "cx_total": "1", "rq_active": "0", "rq_error": "0", "rq_pending_active": "0", "rq_success": "1", "rq_timeout": "0",
        "rq_total": "1", "hostname": "own.example", "health_flags": "/degraded_eds_health", "weight": "7", "region": "r", "zone": "z", "sub_zone": "s",
        "canary": "true", "priority": "1", "success_rate": "-1", "local_origin_success_rate": "-1"}
    assert "c::default_priority::max_retries::3" in lines and "c::added_via_api::false" in lines
