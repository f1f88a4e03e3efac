"""What a client sees when the other side fails, and what is tried again."""
import socket
import time

import pytest

from lib import client
from lib.backend import TcpBackend, free_port
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


def serve(run_proxy, clusters, action=None, **fields):
    to = {"cluster": clusters[0]["name"], **(action or {})}
    return run_proxy(bootstrap(listener(hcm([route("/", to)], **fields)), clusters))


def test_refused_connection_is_503(run_proxy):
    proxy = serve(run_proxy, [cluster("a", free_port())])
    response = client.get(proxy.port)
    assert response.status == 503
    assert response.body.startswith(b"upstream connect error or disconnect/reset before headers.")


def test_no_endpoint_is_503(run_proxy):
    proxy = serve(run_proxy, [cluster("a")])
    response = client.get(proxy.port)
    assert (response.status, response.body) == (503, b"no healthy upstream")


def test_reset_before_the_response_is_503(run_proxy, backends):
    proxy = serve(run_proxy, [cluster("a", backends("a").port)])
    assert client.get(proxy.port, "/reset").status == 503
    assert client.get(proxy.port).status == 200


def test_route_timeout_is_504(run_proxy, backends):
    proxy = serve(run_proxy, [cluster("a", backends("a").port)], {"timeout": "0.2s"})
    started = time.monotonic()
    response = client.get(proxy.port, "/delay/5")
    assert (response.status, response.body) == (504, b"upstream request timeout")
    assert time.monotonic() - started < 4


def test_connect_timeout_is_503(run_proxy):
    # a listener whose queue is full: connections to it stay in the kernel's hands
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        proxy = serve(run_proxy, [cluster("a", full.getsockname()[1], connect_timeout="0.25s")])
        response = client.get(proxy.port)
        assert response.status == 503
        for filler in fillers:
            filler.close()


def test_retry_on_5xx_until_it_works(run_proxy, backends):
    left = [2]

    def behaviour(request, handler):
        left[0] -= 1
        return (503, [], b"no") if left[0] >= 0 else None

    server = backends("a", behaviour=behaviour)
    proxy = serve(run_proxy, [cluster("a", server.port)],
                  {"retry_policy": {"retry_on": "5xx", "num_retries": 3}})
    assert client.get(proxy.port).status == 200
    assert len(server.requests) == 3
    assert server.requests[2].header("x-envoy-attempt-count") is None


def test_retries_run_out(run_proxy, backends):
    server = backends("a", behaviour=lambda request, handler: (503, [], b"no"))
    proxy = serve(run_proxy, [cluster("a", server.port)],
                  {"retry_policy": {"retry_on": "5xx", "num_retries": 2}})
    assert client.get(proxy.port).status == 503
    assert len(server.requests) == 3


def test_no_retry_without_a_policy(run_proxy, backends):
    server = backends("a", behaviour=lambda request, handler: (503, [], b"no"))
    proxy = serve(run_proxy, [cluster("a", server.port)])
    assert client.get(proxy.port).status == 503
    assert len(server.requests) == 1


def test_a_request_that_the_application_may_have_seen_is_not_repeated(run_proxy, backends):
    server = backends("a")
    proxy = serve(run_proxy, [cluster("a", server.port)],
                  {"retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 3}})
    assert client.get(proxy.port, "/reset").status == 503
    assert len(server.requests) == 1


def test_retry_on_connect_failure_takes_the_other_host(run_proxy, backends):
    server = backends("a")
    proxy = serve(run_proxy, [cluster("a", free_port(), server.port)],
                  {"retry_policy": {"retry_on": "connect-failure", "num_retries": 3,
                                    "retry_host_predicate": [{
                                        "name": "envoy.retry_host_predicates.previous_hosts",
                                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host."
                                                                  "previous_hosts.v3.PreviousHostsPredicate"}}],
                                    "host_selection_retry_max_attempts": "5"}})
    assert [client.get(proxy.port).status for _ in range(10)] == [200] * 10


def test_retriable_status_codes(run_proxy, backends):
    server = backends("a", behaviour=lambda request, handler: (409, [], b"") if len(server.requests) == 1 else None)
    proxy = serve(run_proxy, [cluster("a", server.port)],
                  {"retry_policy": {"retry_on": "retriable-status-codes", "retriable_status_codes": [409],
                                    "num_retries": 1}})
    assert client.get(proxy.port).status == 200


def test_per_try_timeout(run_proxy, backends):
    def behaviour(request, handler):
        if len(server.requests) == 1:
            time.sleep(3)

    server = backends("a", behaviour=behaviour)
    proxy = serve(run_proxy, [cluster("a", server.port)],
                  {"timeout": "10s", "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"}})
    started = time.monotonic()
    assert client.get(proxy.port).status == 200
    assert time.monotonic() - started < 3


def test_body_is_sent_again_on_a_retry(run_proxy, backends):
    server = backends("a", behaviour=lambda request, handler: (503, [], b"") if len(server.requests) == 1 else None)
    proxy = serve(run_proxy, [cluster("a", server.port)], {"retry_policy": {"retry_on": "5xx", "num_retries": 1}})
    response = client.get(proxy.port, method="POST", body=b"again" * 1000)
    assert response.json()["body"] == "again" * 1000
    assert [len(r.body) for r in server.requests] == [5000, 5000]


def test_response_cut_short_is_cut_short_for_the_client(run_proxy):
    def half(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")

    server = TcpBackend(half)
    proxy = serve(run_proxy, [cluster("a", server.port)])
    with client.Connection(proxy.port) as connection:
        connection.request()
        response = connection.response()
        assert response.status == 200 and response.body == b"only this"
        assert connection.is_closed()
    server.close()


def test_garbage_from_the_backend_is_502_or_503(run_proxy):
    server = TcpBackend(lambda connection: (connection.recv(4096), connection.sendall(b"\x00\x01 what\r\n\r\n")))
    proxy = serve(run_proxy, [cluster("a", server.port)])
    assert client.get(proxy.port).status in (502, 503)
    server.close()


def test_early_response_to_an_unfinished_request(run_proxy):
    def early(connection):
        connection.recv(200)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        connection.recv(4096)

    server = TcpBackend(early)
    proxy = serve(run_proxy, [cluster("a", server.port)])
    with client.Connection(proxy.port) as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nstart")
        response = connection.response()
        assert (response.status, response.body) == (413, b"no")
    server.close()


def test_max_pending_requests_overflow(run_proxy, backends):
    limits = {"thresholds": [{"max_connections": 1, "max_pending_requests": 1, "max_requests": 1}]}
    server = backends("a")
    proxy = serve(run_proxy, [cluster("a", server.port, circuit_breakers=limits)])
    with client.Connection(proxy.port) as first, client.Connection(proxy.port) as second, \
            client.Connection(proxy.port) as third:
        first.request(path="/delay/1")
        client.wait_until(lambda: len(server.requests) == 1)
        second.request()
        third.request()
        statuses = sorted(c.response().status for c in (first, second, third))
    assert statuses[0] == 200 and statuses[-1] == 503
    overflowed = client.get(proxy.port)
    assert overflowed.status == 200


def test_downstream_disconnect_ends_the_upstream_request(run_proxy):
    ended = []

    def watch(connection):
        connection.recv(4096)
        ended.append(connection.recv(1) == b"")

    server = TcpBackend(watch)
    proxy = serve(run_proxy, [cluster("a", server.port)])
    connection = client.Connection(proxy.port)
    connection.request()
    client.wait_until(lambda: server.connections == 1)
    connection.close()
    client.wait_until(lambda: ended, what="the upstream connection's end")
    server.close()


@pytest.mark.lateen_only  # Envoy 1.40 lets it through
def test_a_tunnel_that_nobody_asked_for_is_502(run_proxy):
    def switch(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        connection.recv(4096)

    server = TcpBackend(switch)
    proxy = serve(run_proxy, [cluster("a", server.port)])
    assert client.get(proxy.port).status == 502
    server.close()


def test_interim_responses_without_end(run_proxy):
    def hints(connection):
        connection.recv(4096)
        for _ in range(100000):
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    server = TcpBackend(hints)
    proxy = serve(run_proxy, [cluster("a", server.port)], {"timeout": "3s"})
    with client.Connection(proxy.port) as connection:
        connection.request()
        response = connection.response()
        while response is not None and response.status == 103:
            response = connection.response()
        assert response is None or response.status in (502, 503, 504)
    server.close()
