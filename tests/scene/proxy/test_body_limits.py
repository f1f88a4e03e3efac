"""How much of a body is kept for retries: the listener's limit, or that of a virtual host or a route. What is larger passes, once."""
import pytest

from lib import client
from lib.proxy import bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick

RETRY = {"retry_policy": {"retry_on": "5xx", "num_retries": 1, "retry_back_off": {"base_interval": "0.001s"}}}


def serve(run_proxy, backends, listener_fields, of_route=None, of_host=None, filters=()):
    server = backends(behaviour=lambda request, _: (503, [], b"no") if request.path == "/fail" else None)
    vhost = {"name": "all", "domains": ["*"], "routes": [route("/", {"cluster": "a", **RETRY}, **(of_route or {}))], **(of_host or {})}
    return server, run_proxy(bootstrap(listener(hcm(vhosts=[vhost], http_filters=list(filters)), **listener_fields), [cluster("a", server.port)]))


def tries(server, proxy, size):
    before = len(server.requests)
    assert client.get(proxy.port, "/fail", "POST", body=b"y" * size).status == 503
    assert all(len(request.body) == size for request in server.requests[before:])
    return len(server.requests) - before


@pytest.mark.parametrize("of_listener, of_host, of_route, kept, not_kept", [
    ({}, {}, {}, 900_000, 2_000_000),
    ({"per_connection_buffer_limit_bytes": 4096}, {}, {}, 1000, 5000),
    ({"per_connection_buffer_limit_bytes": 0}, {}, {}, 2_000_000, None),
    ({}, {}, {"request_body_buffer_limit": 4096}, 1000, 5000),
    ({}, {"request_body_buffer_limit": 4096}, {}, 1000, 5000),
    ({"per_connection_buffer_limit_bytes": 4096}, {"request_body_buffer_limit": 2048}, {"request_body_buffer_limit": 100_000}, 50_000, 200_000),
    ({}, {}, {"per_request_buffer_limit_bytes": 4096}, 1000, 5000)], ids=str)
def test_what_is_kept_for_retries(run_proxy, backends, of_listener, of_host, of_route, kept, not_kept):
    server, proxy = serve(run_proxy, backends, of_listener, of_route, of_host)
    assert tries(server, proxy, kept) == 2
    if not_kept:
        assert tries(server, proxy, not_kept) == 1
        assert proxy.stats()["cluster.a.retry_or_shadow_abandoned"] == 1


def test_filters_hold_what_they_say(run_proxy, backends):
    """A buffer's limit is its own: above the listener's, and below."""
    holds = {"name": "envoy.filters.http.buffer", "typed_config": typed("envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=20000)}
    server, proxy = serve(run_proxy, backends, {"per_connection_buffer_limit_bytes": 4096}, filters=[holds])
    for size, status in ((1000, 200), (15000, 200), (30000, 413)):
        assert client.get(proxy.port, "/", "POST", body=b"y" * size).status == status, size
    assert [len(request.body) for request in server.requests] == [1000, 15000]
