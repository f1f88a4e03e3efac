"""Load reports (LRS): what went where is told to who wants to know, as often as that says."""
import pytest
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf import duration_pb2

from lib import client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import address, hcm, listener, route
from lib.xds import EDS, LDS, LRS_PATH, api_source, cluster_of_static, dynamic_bootstrap, eds_cluster, with_type


def wants(*clusters, every_ms=150, **fields):
    return lrs_pb2.LoadStatsResponse(clusters=clusters, load_reporting_interval=duration_pb2.Duration(nanos=every_ms * 1_000_000), **fields)


def group(port, region, **fields):
    return {"locality": {"region": region}, "lb_endpoints": [{"endpoint": {"address": address(port)}}], **fields}


def run(run_proxy, control, backends, answer):
    """Two localities of `web` (by EDS, as service `svc`), a cluster `idle`, one that drops half."""
    port = free_port()
    one, two = backends("one"), backends("two")
    control.load_answer = answer
    drops = {"drop_overloads": [{"category": "too_much", "drop_percentage": {"numerator": 50}}]}
    control.set(eds_cluster("web", service_name="svc"), {"@type": EDS, "cluster_name": "svc", "endpoints": [group(one.port, "a"), group(two.port, "b")]},
                eds_cluster("half"), {"@type": EDS, "cluster_name": "half", "endpoints": [group(one.port, "a")], "policy": drops},
                cluster_of_static("idle", 1),
                with_type(LDS, listener(hcm([route("/half", "half"), route("/", "web")]), port=port)))
    bootstrap = dynamic_bootstrap(control)
    bootstrap["cluster_manager"] = {"load_stats_config": api_source(api_type="GRPC")}
    return run_proxy(bootstrap), port


def reports(control, cluster):
    return [stats for request in list(control.loads) for stats in request.cluster_stats if stats.cluster_name == cluster]


def total(control, cluster, field, region=None):
    return sum(getattr(locality, field) for stats in reports(control, cluster) for locality in stats.upstream_locality_stats
               if region in (None, locality.locality.region))


@pytest.mark.quick
def test_what_went_where(run_proxy, control, backends):
    proxy, port = run(run_proxy, control, backends, wants(send_all_clusters=True, report_endpoint_granularity=True))
    wait_until(lambda: reports(control, "web") and reports(control, "half"), 10, "the first reports")
    first = control.loads[0]
    assert first.node.id == "scene" and not first.cluster_stats
    assert "envoy.lrs.supports_send_all_clusters" in first.node.client_features
    for _ in range(10):
        assert client.get(port, "/").status == 200
    for _ in range(4):
        assert client.get(port, "/status/503").status == 503
    wait_until(lambda: total(control, "web", "total_issued_requests") == 14, 10, "all is told, once")
    assert total(control, "web", "total_successful_requests") == 10 and total(control, "web", "total_error_requests") == 4
    assert total(control, "web", "total_issued_requests", "a") > 0 and total(control, "web", "total_issued_requests", "b") > 0
    by_endpoint = sum(endpoint.total_issued_requests for stats in reports(control, "web") for locality in stats.upstream_locality_stats
                      for endpoint in locality.upstream_endpoint_stats)
    assert by_endpoint == 14
    assert {stats.cluster_service_name for stats in reports(control, "web")} == {"svc"}
    idle = wait_until(lambda: reports(control, "idle"), 10, "a cluster without traffic")
    assert not any(stats.upstream_locality_stats for stats in idle)
    assert all(stats.load_report_interval.nanos or stats.load_report_interval.seconds for stats in reports(control, "web"))
    assert proxy.stats()["load_reporter.requests"] == 1


def test_what_was_dropped(run_proxy, control, backends):
    _, port = run(run_proxy, control, backends, wants(send_all_clusters=True))
    wait_until(lambda: reports(control, "half"), 10, "the first report")
    dropped = sum(client.get(port, "/half").status == 503 for _ in range(60))
    assert 0 < dropped < 60
    wait_until(lambda: sum(stats.total_dropped_requests for stats in reports(control, "half")) == dropped, 10, "they are told")
    by_category = [drop for stats in reports(control, "half") for drop in stats.dropped_requests if drop.dropped_count]
    assert {drop.category for drop in by_category} == {"too_much"}
    assert sum(drop.dropped_count for drop in by_category) == dropped


def test_only_those_that_are_named(run_proxy, control, backends):
    _, port = run(run_proxy, control, backends, wants("half", "nowhere"))
    wait_until(lambda: len(reports(control, "half")) > 1, 10, "reports of the one")
    assert not reports(control, "web") and not reports(control, "nowhere")
    stream = next(stream for stream in control.streams if stream.path == LRS_PATH)
    stream.out.put(wants("web"))  # another wish
    wait_until(lambda: reports(control, "web"), 10, "reports of the other")
    before = len(reports(control, "half"))
    seen = len(reports(control, "web"))
    wait_until(lambda: len(reports(control, "web")) > seen + 1, 10, "more of them")
    assert len(reports(control, "half")) <= before + 1


def test_again_after_the_stream_has_ended(run_proxy, control, backends):
    proxy, port = run(run_proxy, control, backends, wants(send_all_clusters=True))
    wait_until(lambda: reports(control, "web"), 10, "the first report")
    control.cut()
    control.loads.clear()
    wait_until(lambda: reports(control, "web"), 30, "reports on another stream")
    client.get(port, "/")
    wait_until(lambda: total(control, "web", "total_issued_requests") == 1, 10, "what is new")
    assert proxy.stats()["load_reporter.retries"] >= 1
