"""Istio's metrics as Telemetry changes them: metrics turned off, labels removed and made."""
import pytest

from lib import client
from lib.client import wait_until
from lib.istio import istio_stats, series
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy

pytestmark = [pytest.mark.quick, pytest.mark.lateen_only]  # this Envoy has none of Istio's filters


def serve(run_proxy, backends, *metrics, **fields):
    server = backends()
    made = hcm([route("/", "a", name="to-a")])
    made["typed_config"]["http_filters"].insert(0, istio_stats(*metrics, **fields))
    return run_proxy(bootstrap(listener(made, traffic_direction="OUTBOUND"), [cluster("a", server.port)]))


def test_a_metric_is_turned_off(run_proxy, backends):
    proxy = serve(run_proxy, backends, {"name": "request_bytes", "drop": True})
    assert client.get(proxy.port).status == 200
    assert series(proxy, "istio_requests_total") and not series(proxy, "istio_request_bytes_count")
    proxy = serve(run_proxy, backends, {"drop": True})
    assert client.get(proxy.port).status == 200
    assert not series(proxy, "istio_requests_total")


def test_labels_are_removed_and_made(run_proxy, backends):
    proxy = serve(run_proxy, backends,
                  {"name": "requests_total", "tags_to_remove": ["source_app", "response_flags"],
                   "dimensions": {"request_host": "request.host", "destination_port": "string(destination.port)", "source_version": "'v7'"}},
                  {"dimensions": {"operation": "request.method + ':' + request.url_path"}})
    assert client.get(proxy.port, "/some/path?q=1", host="shop.local").status == 200
    (labels, value), = series(proxy, "istio_requests_total")
    assert value == 1 and "source_app" not in labels and "response_flags" not in labels
    assert labels["request_host"] == "shop.local" and labels["destination_port"] == str(proxy.port) and labels["source_version"] == "v7"
    assert labels["operation"] == "GET:/some/path" and labels["response_code"] == "200"
    (labels, _), = series(proxy, "istio_request_bytes_count")
    assert labels["operation"] == "GET:/some/path" and "source_app" in labels and "request_host" not in labels


@pytest.mark.parametrize("expression, value", [
    ("request.headers['x-user']", "eve"), ("request.headers['x-none']", "unknown"), ("has(request.headers['x-user']) ? 'yes' : 'no'", "yes"),
    ("'x-user' in request.headers ? 1 : 2", "1"), ("response.code >= 400 ? 'bad' : 'good'", "good"), ("response.code", "200"),
    ("request.url_path.startsWith('/api/') && !request.url_path.endsWith('/x')", "true"), ("request.url_path.matches('^/api/v[0-9]+/')", "true"),
    ("request.method in ['GET', 'HEAD'] ? 'read' : 'write'", "read"), ("xds.route_name", "to-a"), ("xds.cluster_name", "a"),
    ("connection.mtls", "false"), ("request.nonsense || true", "true"), ("request.nonsense || false", "unknown"),
    ("size(request.method) * 2 + 1", "7"), ("filter_state.upstream_peer.app", "unknown"), ("nonsense(1)", "unknown"), ("1 +", "unknown")])
def test_expressions(run_proxy, backends, expression, value):
    proxy = serve(run_proxy, backends, {"dimensions": {"made": expression}})
    assert client.get(proxy.port, "/api/v2/things", headers={"x-user": "eve"}).status == 200
    (labels, _), = series(proxy, "istio_requests_total")
    assert labels["made"] == value


def test_what_is_no_expression_is_listed(run_proxy, backends):
    proxy = serve(run_proxy, backends, {"dimensions": {"made": "nonsense(1)"}})
    listed = proxy.admin_get("/config_dump?resource=static_listeners").json()["configs"][0]["unhonoured_fields"]
    assert any("metrics.dimensions[made]: 'nonsense(1)' calls a function that we don't have" in entry for entry in listed)


def test_strangers_do_not_fill_the_memory(run_proxy, backends):
    """Values that clients make up get so many series, then they count as unknown."""
    proxy = serve(run_proxy, backends, {"dimensions": {"made": "request.headers['x-id']"}})
    with client.Connection(proxy.port) as connection:
        for number in range(1500):
            connection.request(headers={"x-id": str(number)})
            assert connection.response().status == 200
    found = series(proxy, "istio_requests_total")
    assert len(found) <= 1002 and sum(value for _, value in found) == 1500
    assert any(labels["made"] == "unknown" and value > 400 for labels, value in found)


def test_tcp(run_proxy, backends):
    server = backends()
    filters = [istio_stats({"dimensions": {"port": "destination.port"}, "tags_to_remove": ["source_app"]}, {"name": "tcp_received_bytes_total", "drop": True},
                           tcp_reporting_duration="0.2s"), tcp_proxy("a")]
    proxy = run_proxy(bootstrap(listener(chains=[{"filters": filters}], traffic_direction="OUTBOUND"), [cluster("a", server.port)]))
    with client.Connection(proxy.port) as connection:
        connection.request()
        assert connection.response().status == 200
        (labels, value), = wait_until(lambda: series(proxy, "istio_tcp_sent_bytes_total"), what="the report")  # while it is open
        assert labels["port"] == str(proxy.port) and "source_app" not in labels and value > 0
        assert not series(proxy, "istio_tcp_received_bytes_total") and series(proxy, "istio_tcp_connections_opened_total")
    wait_until(lambda: series(proxy, "istio_tcp_connections_closed_total"), what="the end")
