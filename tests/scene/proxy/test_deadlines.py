"""How long requests, heads, streams and connections may take, and how they end."""
import time

import pytest

from lib import client, h2
from lib.proxy import FLUSH, access_log, bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


@pytest.fixture
def serve(run_proxy, backends, workdir):
    """serve(action, **manager) -> proxy; proxy.told() is the log: code, flags and details of each request."""
    server = backends("a")

    def start(action=None, **fields):
        log = workdir / "access.log"
        proxy = run_proxy(bootstrap(
            listener(hcm([route("/", {"cluster": "a", "timeout": "20s", **(action or {})})],
                         access_log=access_log(log, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"), **fields)),
            [cluster("a", server.port)]), extra=FLUSH)

        def told():
            return client.wait_until(lambda: log.exists() and log.read_text().split("\n")[:-1], what="a line in the log")

        proxy.told, proxy.server = told, server
        return proxy

    return start


def slow(proxy, first, rest=b"", pause=0.2):
    """Sends `first`, then `rest` byte by byte, until the proxy has had enough."""
    with client.Connection(proxy.port) as connection:
        connection.send(first)
        connection.socket.settimeout(pause)
        answer = b""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                part = connection.socket.recv(4096)
                answer += part
                if not part or answer.endswith(b"timeout"):
                    return answer.decode()
            except TimeoutError:
                connection.send(rest[:1])
                rest = rest[1:]
        raise AssertionError(f"still open after {answer}")


HEAD, BODY = b"POST / HTTP/1.1\r\nHos", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"


@pytest.mark.parametrize("fields, first, text, line", [
    ({"request_headers_timeout": "0.6s"}, HEAD, "request header timeout", "408 - request_header_timeout"),
    ({"request_timeout": "0.6s"}, HEAD, "request timeout", "408 - request_overall_timeout"),
    ({"request_timeout": "0.6s"}, BODY, "request timeout", "408 - request_overall_timeout"),
    ({"stream_idle_timeout": "0.6s"}, HEAD, "stream timeout", "408 SI stream_idle_timeout"),
], ids=["head", "request in its head", "request in its body", "idle in its head"])
def test_drips_of_a_request(serve, fields, first, text, line):
    """Slowloris: bytes that come one by one don't buy time."""
    proxy = serve(**fields)
    answer = slow(proxy, first, b"t" * 400)
    assert answer.startswith("HTTP/1.1 408 ") and answer.endswith(text) and "connection: close" in answer
    assert proxy.told() == [line]
    assert client.get(proxy.port).status == 200


def test_idle_body(serve):
    proxy = serve(stream_idle_timeout="0.6s")
    assert slow(proxy, BODY).endswith("stream timeout")
    assert proxy.told() == ["408 SI stream_idle_timeout"]


def test_idle_response(serve):
    proxy = serve(stream_idle_timeout="0.6s")
    with client.Connection(proxy.port) as connection:
        connection.request(path="/delay/8")
        response = connection.response()
        assert (response.status, response.body, response.header("connection")) == (504, b"stream timeout", None)
        connection.request()
        assert connection.response().status == 200
    stream = h2.ask(proxy.port, path="/delay/8")
    assert (stream.status, stream.body) == (504, b"stream timeout")
    assert client.wait_until(lambda: len(proxy.told()) == 3 and proxy.told()) == [
        "504 SI stream_idle_timeout", "200 - via_upstream", "504 SI stream_idle_timeout"]


def test_request_timeout_in_http2(serve):
    proxy = serve(request_timeout="0.6s")
    with h2.connect(proxy.port) as peer:
        stream = peer.open("POST", end=False).wait(lambda s: s.ended)
        assert (stream.status, stream.body) == (408, b"request timeout")
        assert peer.ask().status == 200
    assert proxy.told()[0] == "408 - request_overall_timeout"


@pytest.mark.parametrize("action, fields", [
    ({"max_stream_duration": {"max_stream_duration": "0.6s"}}, {}),
    ({}, {"common_http_protocol_options": {"max_stream_duration": "0.6s"}}),
], ids=["route", "manager"])
def test_longest_stream(serve, action, fields):
    proxy = serve(action, **fields)
    with client.Connection(proxy.port) as connection:
        connection.request(path="/delay/8")
        response = connection.response()
        assert (response.status, response.body) == (504, b"downstream duration timeout")
    stream = h2.ask(proxy.port, "POST", "/delay/8", headers=GRPC, body=b"")
    assert (stream.header("grpc-status"), stream.header("grpc-message")) == ("4", "downstream duration timeout")
    assert client.wait_until(lambda: len(proxy.told()) == 2 and proxy.told()) == [
        "504 - max_duration_timeout", "200 - max_duration_timeout"]


NEW, OLD = "max_stream_duration", "max_grpc_timeout"


@pytest.mark.parametrize("action, asked, told_host, expected, status, details", [
    # what Istio sends for inbound and for outbound routes
    ({NEW: {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"}}, "500m", "500m", None, "4", "max_duration_timeout"),
    ({OLD: "0s", "timeout": "0s"}, "500m", "500m", "500", "14", "response_timeout"),
    ({NEW: {"grpc_timeout_header_max": "0.5s"}}, "5S", "500m", None, "4", "max_duration_timeout"),
    ({NEW: {"grpc_timeout_header_max": "5s", "grpc_timeout_header_offset": "0.5s"}}, "1S", "500m", None, "4", "max_duration_timeout"),
    ({OLD: "0.5s"}, "5S", "500m", "500", "14", "response_timeout"),
    ({OLD: "0.5s"}, None, "500m", "500", "14", "response_timeout"),
    ({"timeout": "0.5s"}, "5S", "5S", "500", "14", "response_timeout"),
], ids=["inbound", "outbound", "capped", "offset", "old, capped", "old, unasked", "route's"])
def test_deadlines_of_grpc(serve, action, asked, told_host, expected, status, details):
    proxy = serve(action)
    headers = GRPC + ([("grpc-timeout", asked)] if asked else [])
    stream = h2.ask(proxy.port, "POST", "/delay/8", headers=headers, body=b"\0\0\0\0\0")
    assert (stream.status, stream.header("grpc-status")) == (200, status)
    assert proxy.told()[0].split()[2] == details
    seen = proxy.server.requests[0]
    assert (seen.header("grpc-timeout"), seen.header("x-envoy-expected-rq-timeout-ms")) == (told_host, expected)


def test_a_deadline_that_makes_no_sense_is_passed_on(serve):
    proxy = serve({NEW: {"grpc_timeout_header_max": "0s"}})
    assert h2.ask(proxy.port, "POST", headers=GRPC + [("grpc-timeout", "soon")], body=b"").status == 200
    assert proxy.server.requests[0].header("grpc-timeout") == "soon"


# --- connections ---

def test_longest_connection_in_http1(serve):
    proxy = serve(common_http_protocol_options={"max_connection_duration": "0.6s"}, drain_timeout="0.3s")
    with client.Connection(proxy.port) as connection:
        assert connection.is_closed(6)
    with client.Connection(proxy.port) as connection:
        connection.request(path="/delay/1.5")
        response = connection.response()
        assert (response.status, response.header("connection")) == (200, "close")
        assert connection.is_closed(6)


def test_longest_connection_in_http2(serve):
    """First a notice, so that what is on its way is still taken; then the last word; what goes on goes on."""
    proxy = serve(common_http_protocol_options={"max_connection_duration": "0.6s"}, drain_timeout="1s")
    with h2.connect(proxy.port) as peer:
        long = peer.open(path="/delay/3")
        peer.wait(lambda: peer.goaways, what="the notice")
        assert peer.goaways[0][:2] == (2**31 - 1, 0)
        assert peer.ask().status == 200
        peer.wait(lambda: len(peer.goaways) == 2, what="the last word")
        assert peer.goaways[1][:2] == (3, 0)
        assert long.wait().status == 200
        peer.wait(lambda: peer.is_closed, what="the connection's end")


def test_most_requests_of_a_connection(serve):
    proxy = serve(common_http_protocol_options={"max_requests_per_connection": 2})
    with client.Connection(proxy.port) as connection:
        said = []
        for _ in range(2):
            connection.request()
            said.append(connection.response().header("connection"))
        assert said == [None, "close"] and connection.is_closed(6)
    with h2.connect(proxy.port) as peer:
        assert peer.ask().status == 200 and not peer.goaways
        assert peer.ask().status == 200 and peer.goaways[0][:2] == (2**31 - 1, 0)


def test_idle_connections(serve):
    proxy = serve(common_http_protocol_options={"idle_timeout": "0.6s"}, drain_timeout="0.3s")
    with client.Connection(proxy.port) as connection:
        connection.request()
        assert connection.response().status == 200
        assert connection.is_closed(6)
    with h2.connect(proxy.port) as peer:
        assert peer.ask().status == 200
        peer.wait(lambda: len(peer.goaways) == 2, what="both words")
        assert [code for _, code, _ in peer.goaways] == [0, 0]
        peer.wait(lambda: peer.is_closed, what="the connection's end")
    with client.Connection(proxy.port) as silent:
        assert silent.is_closed(6)
    assert proxy.stats()["http.scene.downstream_cx_idle_timeout"] >= 3


def test_keepalive_of_clients(serve):
    proxy = serve(http2_protocol_options={"connection_keepalive": {"interval": "0.3s", "timeout": "0.3s"}})
    with h2.connect(proxy.port) as peer:
        peer.wait(lambda: peer.pings >= 3, what="pings")
        assert peer.ask().status == 200
    with client.Connection(proxy.port) as dead:  # it sends its preface and answers nothing
        dead.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        dead.socket.settimeout(6)
        while dead.socket.recv(4096):
            pass
    assert proxy.stats()["http2.keepalive_timeout"] == 1


def test_keepalive_of_hosts(run_proxy, workdir):
    """A host that went silent under an open stream is found out, and the stream ends."""
    log = workdir / "access.log"
    server = h2.Backend("a", behaviour=lambda stream: stream.header(":path") == "/hold")
    options = {"connection_keepalive": {"interval": "0.3s", "timeout": "0.3s"}}
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", {"cluster": "a", "timeout": "20s"})], access_log=access_log(log, "%RESPONSE_CODE% %RESPONSE_FLAGS%"))),
        [cluster("a", server.port, **h2.explicit(**options))]), extra=FLUSH)
    with h2.connect(proxy.port) as peer:
        assert peer.ask().status == 200
        client.wait_until(lambda: server.peers[0].pings >= 2, what="pings")
        held = peer.open("POST", path="/hold")  # it may not come twice, so that it ends
        client.wait_until(lambda: server.streams[-1].header(":path") == "/hold")
        server.peers[0].lock.acquire()  # its reader stands still: nothing is answered any more
        try:
            assert held.wait().status == 503
        finally:
            server.peers[0].lock.release()
    assert proxy.stats()["cluster.a.http2.keepalive_timeout"] == 1
    client.wait_until(lambda: "503 UC" in log.read_text(), what="the line in the log")
    server.close()
