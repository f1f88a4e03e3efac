"""What configuration says about HTTP/1: spelling of names, versions, absolute targets, trailers."""
import pytest

from lib import client, h2
from lib.backend import TcpBackend
from lib.proxy import bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick

REQUEST = b"GET / HTTP/1.1\r\nhOst: x\r\nX-FooBar_baz-x: 1\r\ncookIE: a=b\r\n\r\n"


def keep(**fields):
    return {"stateful_formatter": {"name": "preserve_case", "typed_config": typed(
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig", **fields)}}


PROPER, KEEP = {"proper_case_words": {}}, keep()
KEEP_ALL = keep(forward_reason_phrase=True, formatter_type_on_envoy_headers="PROPER_CASE")
LOWER_REQUEST = ["host", "x-foobar_baz-x", "cookie", "x-forwarded-proto"]
LOWER_RESPONSE = ["content-length", "x-mixed-name", "server", "x-envoy-upstream-service-time"]
KEPT_REQUEST = ["hOst", "X-FooBar_baz-x", "cookIE", "x-forwarded-proto"]
KEPT_RESPONSE = ["ConTent-Length", "X-MiXed-name", "sErver", "x-envoy-upstream-service-time"]
PROPER_REQUEST = ["Host", "X-Foobar_Baz-X", "Cookie", "X-Forwarded-Proto"]
PROPER_RESPONSE = ["Content-Length", "X-Mixed-Name", "Server", "X-Envoy-Upstream-Service-Time"]


class Host:
    """Keeps heads as they came; answers with names in odd spelling."""

    def __init__(self):
        self.heads = []
        self.server = TcpBackend(self.serve)
        self.port = self.server.port

    def serve(self, connection):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                part = connection.recv(4096)
                if not part:
                    return
                data += part
            head, _, data = data.partition(b"\r\n\r\n")
            self.heads.append(head.decode().split("\r\n"))
            connection.sendall(b"HTTP/1.1 200 Fine Reason\r\nConTent-Length: 2\r\nX-MiXed-name: 1\r\nsErver: me\r\n\r\nok")

    def names(self):
        return [line.split(":")[0] for line in self.heads[-1][1:]]


@pytest.fixture(scope="module")
def host():
    made = Host()
    yield made
    made.server.close()


def serve(run_proxy, host, of_clients=None, of_hosts=None, **fields):
    options = {"header_key_format": of_clients} if of_clients else {}
    up = {"header_key_format": of_hosts} if of_hosts else {}
    return run_proxy(bootstrap(
        listener(hcm([route("/", "a")], http_protocol_options=options, **fields)),
        [cluster("a", host.port, **h2.options(explicit_http_config={"http_protocol_options": up}))]))


@pytest.mark.parametrize("of_clients, of_hosts, request_names, response_names", [
    (None, None, LOWER_REQUEST, LOWER_RESPONSE),
    (KEEP, None, KEPT_REQUEST, LOWER_RESPONSE),
    (None, KEEP, LOWER_REQUEST, KEPT_RESPONSE),
    (KEEP, KEEP, KEPT_REQUEST, KEPT_RESPONSE),
    (PROPER, None, LOWER_REQUEST, PROPER_RESPONSE),
    (None, PROPER, PROPER_REQUEST, LOWER_RESPONSE),
    (KEEP, PROPER, KEPT_REQUEST, LOWER_RESPONSE),
    (KEEP_ALL, KEEP_ALL, [*KEPT_REQUEST[:3], "X-Forwarded-Proto"], [*KEPT_RESPONSE[:3], "X-Envoy-Upstream-Service-Time"]),
], ids=["lower", "keep clients'", "keep hosts'", "keep both", "proper clients'", "proper hosts'", "keep before proper", "keep all"])
def test_spelling_of_names(run_proxy, host, of_clients, of_hosts, request_names, response_names):
    proxy = serve(run_proxy, host, of_clients, of_hosts)
    with client.Connection(proxy.port) as connection:
        connection.send(REQUEST)
        response = connection.response()
    assert (response.status, response.body) == (200, b"ok")
    assert response.reason == ("Fine Reason" if of_hosts is KEEP_ALL else "OK")
    seen, got = host.names(), [name for name, _ in response.headers]
    assert [name for name in seen if name.lower() in LOWER_REQUEST] == sorted(
        [name for name in seen if name in request_names], key=seen.index)
    assert set(request_names) <= set(seen) and set(response_names) <= set(got)


def test_http2_knows_no_spelling(run_proxy, host):
    proxy = serve(run_proxy, host, KEEP, KEEP)
    stream = h2.ask(proxy.port, headers=[("x-low", "1")])
    assert stream.status == 200 and all(name == name.lower() for name, _ in stream.headers)
    assert "x-low" in host.names()


def test_http_1_0(run_proxy, backends):
    server = backends("a")
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", "a")], http_protocol_options={"accept_http_10": True, "default_host_for_http_10": "default.host"})),
        [cluster("a", server.port)]))
    with client.Connection(proxy.port) as connection:
        connection.request(version="HTTP/1.0", host=None)
        response = connection.response()
        assert (response.version, response.status, response.header("connection")) == ("HTTP/1.0", 200, "close")
        assert response.json()["headers"]["host"] == "default.host"
        assert connection.is_closed()
    with client.Connection(proxy.port) as connection:
        connection.request(version="HTTP/1.0", headers={"Connection": "keep-alive"}, host="own.host")
        response = connection.response()
        assert (response.header("connection"), response.json()["headers"]["host"]) == ("keep-alive", "own.host")
        connection.request(path="/chunked/3", version="HTTP/1.0", headers={"Connection": "keep-alive"})
        response = connection.response()  # only the connection's end can tell this client how long it is
        assert response.header("transfer-encoding") is None and response.body == b"chunk0chunk1chunk2"
        assert response.header("connection") == "close"


def test_absolute_targets_can_be_forbidden(run_proxy, backends):
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")], http_protocol_options={"allow_absolute_url": False})),
                                [cluster("a", server.port)]))
    with client.Connection(proxy.port) as connection:
        connection.send(b"GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.response().status == 404
    assert not server.requests


def test_hosts_can_be_sent_absolute_targets(run_proxy, host):
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", host.port, **h2.options(
        explicit_http_config={"http_protocol_options": {"send_fully_qualified_url": True}}))]))
    assert client.get(proxy.port, "/a?b", host="some.where:81").status == 200
    assert host.heads[-1][0] == "GET http://some.where:81/a?b HTTP/1.1"


def test_ignored_upgrades(run_proxy, host):
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", "a")], http_protocol_options={"ignore_http_11_upgrade": [{"prefix": "TLS/"}]})),
        [cluster("a", host.port)]))
    assert client.get(proxy.port, headers={"Connection": "Upgrade", "Upgrade": "TLS/1.2"}).status == 200
    assert "upgrade" not in host.names()
    assert client.get(proxy.port, headers={"Connection": "Upgrade", "Upgrade": "other"}).status == 403


@pytest.mark.parametrize("down", ["h1", "h2"])
@pytest.mark.parametrize("action", ["REJECT_REQUEST", "DROP_HEADER"])
def test_names_with_underscores(run_proxy, backends, down, action):
    server = backends("a")
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", "a")], common_http_protocol_options={"headers_with_underscores_action": action})),
        [cluster("a", server.port)]))
    codec = {"h1": "http1", "h2": "http2"}[down]
    if down == "h1":
        status = client.get(proxy.port, headers={"a_b": "1", "a-b": "2"}).status
    else:
        status = h2.ask(proxy.port, headers={"a_b": "1", "a-b": "2"}).status or 400  # Envoy resets the stream
    stats = proxy.stats()
    if action == "REJECT_REQUEST":
        assert status == 400 and not server.requests
        assert stats[f"{codec}.requests_rejected_with_underscores_in_headers"] == 1
    else:
        assert status == 200 and "a_b" not in [name.lower() for name, _ in server.requests[0].headers]
        assert server.requests[0].header("a-b") == "2"
        assert stats[f"{codec}.dropped_headers_with_underscores"] == 1


def test_trailers_are_dropped_unless_both_sides_know_them(run_proxy, backends):
    server = backends("a")
    for clients, hosts in ((False, True), (True, False), (False, False)):
        proxy = run_proxy(bootstrap(
            listener(hcm([route("/", "a")], http_protocol_options={"enable_trailers": clients})),
            [cluster("a", server.port, http_protocol_options={"enable_trailers": hosts})]))
        with client.Connection(proxy.port) as connection:
            connection.request("POST", "/", headers=[("Transfer-Encoding", "chunked")], body=b"2\r\nab\r\n0\r\nX-Late: 1\r\n\r\n")
            seen = connection.response().json()
            assert (seen["body"], seen["trailers"]) == ("ab", {})
            connection.request(path="/trailers")
            response = connection.response()
            assert (response.body, response.trailers) == (b"body", [])


@pytest.mark.parametrize("method, length", [("POST", "0"), ("PUT", "0"), ("PATCH", "0"), ("OPTIONS", "0"), ("GET", None), ("DELETE", None)])
def test_no_body_is_said_where_one_is_usual(run_proxy, backends, method, length):
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port)]))
    assert h2.ask(proxy.port, method).status == 200
    assert server.requests[0].header("content-length") == length
