"""WebSocket and CONNECT: asked for in either version of HTTP, passed on in either, ended here; half-closes; refusals."""
import socket

import pytest

from lib import client, h2
from lib.backend import TcpBackend
from lib.proxy import FLUSH, access_log, bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

WEBSOCKET = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
EXTENDED = [(":method", "CONNECT"), (":scheme", "http"), (":authority", "x"), (":protocol", "websocket")]
CONNECT = [(":method", "CONNECT"), (":authority", "x:80")]


def shout(connection):
    """What comes goes back in capitals; its end is answered with "|end" and ours."""
    while data := connection.recv(4096):
        connection.sendall(data.upper())
    connection.sendall(b"|end")


class Host:
    """An HTTP/1.1 host that agrees to everything but /deny and /fine."""

    def __init__(self):
        self.heads = []
        self.server = TcpBackend(self.serve)
        self.port = self.server.port

    def serve(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            part = connection.recv(4096)
            if not part:
                return
            head += part
        head, _, rest = head.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        if b"/deny" in head or b"/fine" in head:
            status = b"403 No" if b"/deny" in head else b"200 OK"
            connection.sendall(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\nno")
            self.serve(connection)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if head.startswith(b"CONNECT")
                           else b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nx-own: 1\r\n\r\n")
        if rest:
            connection.sendall(rest.upper())
        shout(connection)


def h2_host(stream):
    if stream.header(":path", "").startswith("/deny"):
        stream.send_headers([(":status", "403")], end=True)
        return True
    stream.send_headers([(":status", "200"), ("x-own", "1")])
    seen = 0
    while True:
        stream.wait(lambda s: s.is_over or len(s.body) > seen, within=30)
        part, seen = stream.body[seen:], len(stream.body)
        if part:
            stream.send(part.upper())
        elif stream.ended:
            stream.send(b"|end", end=True)
            return True
        else:
            return True


@pytest.fixture(scope="module")
def tunnels(run_shared):
    class World:
        h1, echo = Host(), TcpBackend(shout)
        h2 = h2.Backend("h2", behaviour=h2_host, settings={8: 1})

    def to(value):
        return [{"name": "to", "string_match": {"exact": value}}]

    ends = {"cluster": "echo", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}
    routes = [route({"connect_matcher": {}, "headers": to("end")}, ends),
              route({"connect_matcher": {}, "headers": to("h1")}, "h1"),
              route({"connect_matcher": {}, "headers": to("h2")}, "h2"),
              route("/off", {"cluster": "h1", "upgrade_configs": [{"upgrade_type": "websocket", "enabled": False}]}),
              route("/on", {"cluster": "h1", "upgrade_configs": [{"upgrade_type": "other"}]}),
              route({"prefix": "/", "headers": to("h2")}, "h2"),
              route("/", "h1")]
    World.proxy = run_shared(bootstrap(
        listener(hcm(routes, upgrade_configs=[{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
                     http2_protocol_options={"allow_connect": True})),
        [cluster("h1", World.h1.port), cluster("h2", World.h2.port, **h2.explicit(allow_connect=True)),
         cluster("echo", World.echo.port)]))
    World.port = World.proxy.port
    yield World
    World.h1.server.close()
    World.h2.close()
    World.echo.close()


def exchange(connection, kind):
    """Over an HTTP/1 tunnel, with both half-closes where the proxy knows them."""
    connection.send(b"hello")
    assert connection.stream.read(5) == b"HELLO"
    connection.send(b"x" * 300000)
    assert connection.stream.read(300000) == b"X" * 300000
    if kind == "lateen":  # Envoy ends both directions when a client of HTTP/1 ends one
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.stream.read() == b"|end"


def exchange_h2(stream, kind, half_close=True):
    stream.send(b"hello")
    stream.wait(lambda s: s.body == b"HELLO")
    stream.send(b"x" * 300000)
    stream.wait(lambda s: len(s.body) == 300005)
    if half_close:
        stream.send(b"", end=True)
        stream.wait(lambda s: s.ended)
        assert stream.body.endswith(b"X|end")


@pytest.mark.parametrize("up", ["h1", "h2"])
def test_websocket_asked_for_in_http1(tunnels, kind, up):
    with client.Connection(tunnels.port) as connection:
        connection.request(path="/chat", headers=[*WEBSOCKET, ("Sec-WebSocket-Key", "k"), ("to", up)])
        response = connection.response()
        assert (response.status, response.header("upgrade"), response.header("x-own")) == (101, "websocket", "1")
        assert response.header("connection").lower() == "upgrade"
        exchange(connection, kind)
    if up == "h1":
        assert "upgrade: websocket" in tunnels.h1.heads[-1] and "sec-websocket-key: k" in tunnels.h1.heads[-1]
    else:
        seen = dict(tunnels.h2.streams[-1].headers)
        assert (seen[":method"], seen[":protocol"], seen[":path"], seen["sec-websocket-key"]) == ("CONNECT", "websocket", "/chat", "k")
        assert "upgrade" not in seen and "connection" not in seen


@pytest.mark.parametrize("up", ["h1", "h2"])
def test_websocket_asked_for_in_http2(tunnels, kind, up):
    with h2.connect(tunnels.port) as peer:
        stream = peer.open(pseudo=[*EXTENDED, (":path", "/chat")], headers=[("to", up)], end=False)
        stream.wait(lambda s: s.headers)
        assert (stream.status, stream.header("x-own"), stream.header("upgrade")) == (200, "1", None)
        exchange_h2(stream, kind, half_close=kind == "lateen" or up == "h2")  # Envoy: as below
    if up == "h1":
        head = tunnels.h1.heads[-1]
        assert head.startswith("GET /chat HTTP/1.1") and "upgrade: websocket" in head and "connection: upgrade" in head


@pytest.mark.parametrize("up", ["h1", "h2"])
def test_refused_by_the_host(tunnels, up):
    with client.Connection(tunnels.port) as connection:
        connection.request(path="/deny", headers=[*WEBSOCKET, ("to", up)])
        response = connection.response()
        assert (response.status, response.header("connection")) == (403, "close")
        assert connection.is_closed()  # what was sent ahead is nobody's request
    with h2.connect(tunnels.port) as peer:
        stream = peer.open(pseudo=[*EXTENDED, (":path", "/deny")], headers=[("to", up)], end=False).wait(lambda s: s.ended)
        assert stream.status == 403


def test_a_host_that_answers_200_has_not_upgraded(tunnels):
    with client.Connection(tunnels.port) as connection:
        connection.request(path="/fine", headers=WEBSOCKET)
        response = connection.response()
        assert (response.status, response.body, response.header("connection")) == (200, b"", "close")
    with h2.connect(tunnels.port) as peer:
        stream = peer.open(pseudo=[*EXTENDED, (":path", "/fine")], end=False).wait(lambda s: s.ended)
        assert (stream.status, stream.body) == (200, b"")


@pytest.mark.parametrize("path, upgrade, wanted", [("/off", "websocket", 403), ("/x", "other", 403), ("/on", "other", 101)])
def test_the_route_decides_then_the_connection_manager(tunnels, path, upgrade, wanted):
    before = len(tunnels.h1.heads)
    with client.Connection(tunnels.port) as connection:
        connection.request(path=path, headers=[("Connection", "Upgrade"), ("Upgrade", upgrade)])
        assert connection.response().status == wanted
    assert len(tunnels.h1.heads) == before + (wanted == 101)


def test_an_offer_of_h2c_is_passed_over(tunnels):
    """Java's client makes it by default; the request goes on in HTTP/1.1."""
    with client.Connection(tunnels.port) as connection:
        connection.request(path="/fine", headers=[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
                                                  ("HTTP2-Settings", "AAMAAABkAAQAAP__")])
        response = connection.response()
        assert (response.status, response.body) == (200, b"no")
    head = tunnels.h1.heads[-1].lower()
    assert "upgrade" not in head and "http2-settings" not in head


@pytest.mark.parametrize("to", ["end", "h1", "h2"])
def test_connect_in_http1(tunnels, kind, to):
    with client.Connection(tunnels.port) as connection:
        connection.request("CONNECT", "x:80", headers=[("to", to)], host="x:80")
        line = connection.stream.readline()
        assert line.startswith(b"HTTP/1.1 200 ")
        while (line := connection.stream.readline()) != b"\r\n":
            assert not line.lower().startswith((b"content-length", b"transfer-encoding"))
        exchange(connection, kind)
    if to == "h1":
        assert tunnels.h1.heads[-1].startswith("CONNECT x:80 HTTP/1.1")


@pytest.mark.parametrize("to", ["end", "h1", "h2"])
def test_connect_in_http2(tunnels, kind, to):
    with h2.connect(tunnels.port) as peer:
        stream = peer.open(pseudo=CONNECT, headers=[("to", to)], end=False).wait(lambda s: s.headers)
        assert stream.status == 200
        # Envoy resets a stream whose host is of HTTP/1 when its client ends one direction
        exchange_h2(stream, kind, half_close=kind == "lateen" or to != "h1")


def test_connect_with_bytes_sent_ahead(tunnels):
    with client.Connection(tunnels.port) as connection:
        connection.send(b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nto: end\r\n\r\nearly")
        assert connection.stream.readline().startswith(b"HTTP/1.1 200 ")
        while connection.stream.readline() != b"\r\n":
            pass
        assert connection.stream.read(5) == b"EARLY"


def test_connect_that_no_route_names(tunnels):
    with client.Connection(tunnels.port) as connection:
        connection.request("CONNECT", "x:80", host="x:80")
        assert connection.response().status == 404
        assert connection.is_closed()
    with h2.connect(tunnels.port) as peer:
        assert peer.open(pseudo=CONNECT, end=False).wait(lambda s: s.ended).status == 404


@pytest.mark.parametrize("request_bytes, status", [
    (b"CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400),
    (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
], ids=["no port", "length", "chunked"])
def test_connect_that_is_malformed(tunnels, request_bytes, status):
    with client.Connection(tunnels.port) as connection:
        connection.send(request_bytes)
        assert connection.response().status == status


def test_a_host_that_does_not_stand_is_503(run_proxy):
    from lib.backend import free_port
    ends = {"cluster": "a", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}
    proxy = run_proxy(bootstrap(listener(hcm([route({"connect_matcher": {}}, ends)], upgrade_configs=[{"upgrade_type": "CONNECT"}])),
                                [cluster("a", free_port())]))
    with client.Connection(proxy.port) as connection:
        connection.request("CONNECT", "x:80", host="x:80")
        assert connection.response().status == 503


def test_what_is_told_about_tunnels(run_proxy, workdir):
    """An extended CONNECT is logged, routed and judged as the upgrade that it stands for."""
    host = h2.Backend("h2", behaviour=h2_host, settings={8: 1})
    log = workdir / "access.log"
    routes = [route({"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}},
                                                {"name": "upgrade", "string_match": {"exact": "websocket"}}]}, "a")]
    proxy = run_proxy(bootstrap(
        listener(hcm(routes, upgrade_configs=[{"upgrade_type": "websocket"}], http2_protocol_options={"allow_connect": True},
                     access_log=access_log(log, "%PROTOCOL% %REQ(:METHOD)% %RESPONSE_CODE% %BYTES_RECEIVED% %BYTES_SENT%"))),
        [cluster("a", host.port, **h2.explicit(allow_connect=True))]), extra=FLUSH)
    with h2.connect(proxy.port) as peer:
        stream = peer.open(pseudo=[*EXTENDED, (":path", "/")], end=False).wait(lambda s: s.headers)
        assert stream.status == 200
        stream.send(b"hello", end=True)
        stream.wait(lambda s: s.ended)
    client.wait_until(lambda: log.exists() and log.read_text() == "HTTP/2 GET 101 5 9\n", what="the line in the log")
    host.close()


def test_extended_connect_must_be_allowed(run_proxy, backends):
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")], upgrade_configs=[{"upgrade_type": "websocket"}])),
                                [cluster("a", backends("a").port)]))
    with h2.connect(proxy.port) as peer:
        stream = peer.open(pseudo=[*EXTENDED, (":path", "/")], end=False)
        stream.wait(lambda s: s.is_over)
        assert stream.headers is None
