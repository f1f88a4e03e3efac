"""Faults that are put in on purpose: delays, answers, slow bodies."""
import time

import pytest

from lib import client
from lib.filters import access_log, http_filter, per_route
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

FAULT = "fault.v3.HTTPFault"
ALWAYS = {"numerator": 100}


@pytest.fixture
def serve(run_proxy, backends, workdir):
    def run(*filters, routes=None):
        server = backends("a")
        manager = hcm(routes or [route("/", "a")], http_filters=list(filters) or [http_filter(FAULT)],
                      access_log=access_log(workdir / "log", "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"))
        proxy = run_proxy(bootstrap(listener(manager), [cluster("a", server.port)]))
        proxy.server, proxy.logged = server, workdir / "log"
        return proxy
    return run


def timed(proxy, at="/", **options):
    begin = time.monotonic()
    response = client.get(proxy.port, at, **options)
    return response, time.monotonic() - begin


def last_line(proxy):
    return client.wait_until(lambda: proxy.logged.exists() and proxy.logged.read_text().splitlines(), what="the log")[-1]


def abort(status, share=None):
    return {"http_status": status, "percentage": share or ALWAYS}


def delay(seconds, share=None):
    return {"fixed_delay": f"{seconds}s", "percentage": share or ALWAYS}


def test_abort(serve):
    proxy = serve(http_filter(FAULT, abort=abort(418)))
    response = client.get(proxy.port)
    assert (response.status, response.body) == (418, b"fault filter abort")
    assert last_line(proxy) == "418 FI fault_filter_abort"
    response = client.get(proxy.port, method="POST", headers={"content-type": "application/grpc"})
    assert (response.status, response.header("grpc-status"), response.header("grpc-message")) == (200, "2", "fault filter abort")
    assert not proxy.server.requests
    assert proxy.stats()["http.scene.fault.aborts_injected"] == 2


def test_abort_by_grpc_status(serve):
    proxy = serve(http_filter(FAULT, abort={"grpc_status": 5, "percentage": ALWAYS}))
    response = client.get(proxy.port, method="POST", headers={"content-type": "application/grpc"})
    assert (response.status, response.header("grpc-status")) == (200, "5")


def test_delay(serve):
    proxy = serve(http_filter(FAULT, delay=delay(0.3)))
    response, took = timed(proxy)
    assert response.status == 200 and took >= 0.29
    assert last_line(proxy) == "200 DI via_upstream"
    assert proxy.stats()["http.scene.fault.delays_injected"] == 1


def test_both(serve):
    response, took = timed(serve(http_filter(FAULT, delay=delay(0.2), abort=abort(503))))
    assert response.status == 503 and took >= 0.19  # Envoy rounds its timers


def test_client_leaves_while_it_is_delayed(serve):
    proxy = serve(http_filter(FAULT, delay=delay(30), max_active_faults=1))
    with client.Connection(proxy.port) as connection:
        connection.request()
        client.wait_until(lambda: proxy.stats().get("http.scene.fault.delays_injected") == 1, what="the delay")
        # one is enough
        assert client.get(proxy.port).status == 200
    client.wait_until(lambda: "200 - via_upstream" in proxy.logged.read_text(), what="the line of the one that went through")
    client.wait_until(lambda: "0 DI,DC downstream_remote_disconnect" in proxy.logged.read_text(), what="its end")
    # and its place is free again
    with client.Connection(proxy.port) as connection:
        connection.request()
        client.wait_until(lambda: proxy.stats().get("http.scene.fault.delays_injected") == 2, what="the delay")


def test_shares(serve):
    proxy = serve(http_filter(FAULT, abort=abort(503, {"numerator": 3000, "denominator": "TEN_THOUSAND"})))
    with client.Connection(proxy.port) as connection:
        statuses = []
        for _ in range(1000):
            connection.request()
            statuses.append(connection.response().status)
    assert 230 <= statuses.count(503) <= 370
    assert set(statuses) == {200, 503}


@pytest.mark.parametrize("headers,answer", [
    ({"x-envoy-fault-abort-request": "429"}, (429, 0)),
    ({"x-envoy-fault-abort-request": "429", "x-envoy-fault-abort-request-percentage": "0"}, (200, 0)),
    ({"x-envoy-fault-abort-request": "999"}, (200, 0)),
    ({"x-envoy-fault-abort-request": "rubbish"}, (200, 0)),
    ({"x-envoy-fault-delay-request": "250"}, (200, 0.25)),
    ({"x-envoy-fault-delay-request": "5000", "x-envoy-fault-delay-request-percentage": "0"}, (200, 0)),
    ({"x-envoy-fault-delay-request": "99999999999999999999"}, (200, 0)),
    ({}, (200, 0))])
def test_by_headers(serve, headers, answer):
    proxy = serve(http_filter(FAULT, abort={"header_abort": {}, "percentage": ALWAYS}, delay={"header_delay": {}, "percentage": ALWAYS}))
    response, took = timed(proxy, headers=headers)
    assert response.status == answer[0]
    assert took >= answer[1] and (answer[1] or took < 4)


def test_headers_mean_nothing_unless_they_are_asked_for(serve):
    proxy = serve(http_filter(FAULT, delay=delay(0.01)))
    response, took = timed(proxy, headers={"x-envoy-fault-abort-request": "429", "x-envoy-fault-delay-request": "9000"})
    assert response.status == 200 and took < 5


@pytest.mark.parametrize("only,headers,answer", [
    ({"headers": [{"name": "x-who", "string_match": {"exact": "me"}}]}, {"x-who": "me"}, 418),
    ({"headers": [{"name": "x-who", "string_match": {"exact": "me"}}]}, {"x-who": "you"}, 200),
    ({"upstream_cluster": "a"}, {}, 418),
    ({"upstream_cluster": "b"}, {}, 200),
    ({"downstream_nodes": ["n1", "n2"]}, {"x-envoy-downstream-service-node": "n2"}, 418),
    ({"downstream_nodes": ["n1"]}, {}, 200)])
def test_only_for_some(serve, only, headers, answer):
    assert client.get(serve(http_filter(FAULT, abort=abort(418), **only)).port, headers=headers).status == answer


def test_routes_have_their_own(serve):
    """As istiod sends it: the filter is empty, VirtualService.http.fault is a route's."""
    proxy = serve(routes=[route("/broken", "a", typed_per_filter_config=per_route(FAULT, abort=abort(555))), route("/", "a")])
    assert [client.get(proxy.port, at).status for at in ("/broken", "/")] == [555, 200]


@pytest.mark.parametrize("at", ["/bytes/8192", "/chunked/1000"])
def test_slow_body(serve, at):
    plain = client.get(serve().port, at).body
    proxy = serve(http_filter(FAULT, response_rate_limit={"fixed_limit": {"limit_kbps": 16}, "percentage": ALWAYS}))
    response, took = timed(proxy, at)
    assert response.body == plain
    assert took >= 0.4 * len(plain) / 8192
    assert proxy.stats()["http.scene.fault.response_rl_injected"] == 1


def test_slow_body_of_a_client_that_leaves(serve):
    proxy = serve(http_filter(FAULT, response_rate_limit={"fixed_limit": {"limit_kbps": 1}, "percentage": ALWAYS}))
    with client.Connection(proxy.port) as connection:
        connection.request("GET", "/bytes/1000000")
        assert connection.stream.readline().startswith(b"HTTP/1.1 200")
    assert last_line(proxy) == "200 DC downstream_remote_disconnect"
    assert client.get(proxy.port, "/status/204").status == 204
